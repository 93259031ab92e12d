"""Generated pure-Python arithmetic for graphs of a few numbers: an array element is a Python float in a local variable.

For two or three variables one NumPy call costs more than the whole function in Python. Arithmetic and sqrt give the
bits that NumPy gives; other functions come from `math`, within 2 ulp. Where Python raises and NumPy gives inf or nan
(a zero division, exp overflow, log of 0), the NumPy program answers instead.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any

import numpy as np

from koubai.execute import abi
from koubai.execute.abi import BIGGEST, REACHED, REFUSED, REMARKABLE, DescentGraphs, SegmentState
from koubai.execute.elements import (
    NotLowerable,
    added_up,
    axis_last,
    filled,
    known_arrays,
    moved_inputs,
    rearranged,
    split,
)
from koubai.execute.lower import lowered, pair
from koubai.execute.memory import is_write
from koubai.graph.graph import CAPTURED, CONSTANT, Graph, Node
from koubai.graph.ops import OPS, Monoid, Op

__all__ = ["FloatsDescent", "compile_floats"]

ELEMENTS = 8  # up to here NumPy adds one after the other, so that the order of a sum is the same; and Python is faster
OPERATIONS = 200  # beyond these, straight-line NumPy is at least as fast and its code is shorter


def compile_floats(graph: Graph, otherwise: Callable[..., Any]) -> Callable[..., Any] | None:
    """Return ``run(*inputs)``, or None if the graph is not of this kind.

    run returns the outputs as a tuple, None if a guard fails; ``otherwise(*inputs)`` answers if Python raised.
    ``run(*inputs, True)`` returns None there too, and where an output (or their sum) is not finite.
    """
    for node in graph.nodes:
        if math.prod(node.shape) > ELEMENTS or node.op is CAPTURED or not _real_or_bool(node):
            return None
    writer = _Writer(lowered(graph, _has_code))
    try:
        source = writer.source()
    except NotLowerable:
        return None
    namespace: dict[str, Any] = {"math": math, "np": np, "array": np.array, "float64": np.float64, "power": math.pow}
    namespace["otherwise"] = otherwise
    namespace |= {name: getattr(math, name) for name in writer.functions}
    exec(compile(source, "<koubai: floats>", "exec"), namespace)
    run: Callable[..., Any] = namespace["run"]
    run.source = source  # type: ignore[attr-defined]
    return run


def _real_or_bool(node: Node) -> bool:
    if node.op is CONSTANT:
        return node.dtype is None or node.dtype in (np.float64, np.bool_) or node.dtype.kind == "i"
    return node.dtype in (np.float64, np.bool_)


def _has_code(op: Op) -> bool:
    return op.scalar is not None


_POWER = OPS["power"]
_POWERS = {2: "{0} * {0}", 0.5: "math.sqrt({0})", -1: "1.0 / {0}", 1: "{0}"}
_ROUNDED = r"math\.(?!sqrt|copysign|isfinite|isinf)|\*\*"  # what machine code may round otherwise


class _Writer:
    """Writes one statement an element. An element is the name of a local variable or a literal."""

    def __init__(self, graph: Graph, prefix: str = "t") -> None:
        self.graph = graph
        self.prefix = prefix
        self.lines: list[str] = []
        self.functions: set[str] = set()
        self.count = 0
        self.elements: list[Any] = []  # one object array of names (or literals) a node
        self.varies: list[bool] = []  # whether a node depends on an input that varies from step to step
        self.exact = True  # whether machine code gives the same bits

    def source(self) -> str:
        """Return the function ``run`` of the graph's arguments."""
        arguments = [f"x{k}" for k in range(len(self.graph.inputs))]
        self.unroll([self._unpacked(i, name) for i, name in zip(self.graph.inputs, arguments, strict=True)])
        outputs = [self._output(i) for i in self.graph.outputs]
        total = " + ".join(str(name) for i in self.graph.outputs for name in self.elements[i].ravel())
        body = [
            f"def run({', '.join([*arguments, 'finite=False'])}):",
            "    try:",
            *(f"        {line}" for line in self.lines),
            "        if finite:",
            f"            total = {total}",
            "            if total - total != 0.0: return None",
            f"        return ({', '.join(outputs)},)",
            "    except (ArithmeticError, ValueError):",
            f"        return None if finite else otherwise({', '.join(arguments)})",
            "",
        ]
        return "\n".join(body)

    def unroll(
        self, inputs: Sequence[Any], refused: str = "return None", varying: Sequence[bool] | None = None
    ) -> list[Any]:
        """Write the computation out; return the elements of the outputs.

        inputs: the elements of each. refused: the statement if a guard fails. varying: which inputs change with x.
        """
        graph = self.graph
        place = {i: k for k, i in enumerate(graph.inputs)}
        checks: dict[int, list[Any]] = {}
        for guard in graph.guards:
            checks.setdefault(guard.node, []).append(guard)
        for i, node in enumerate(graph.nodes):
            if i in place:
                self.varies.append(varying is None or varying[place[i]])
            else:
                self.varies.append(any(self.varies[j] for j in node.inputs))
            self.elements.append(inputs[place[i]] if i in place else self._node(i, node))
            if len(self.lines) > OPERATIONS:
                raise NotLowerable("too many operations")
            for guard in checks.get(i, ()):
                if type(guard.expected) is not bool or node.shape:
                    raise NotLowerable("a guard on a number")
                self.lines.append(f"if {'not ' if guard.expected else ''}{self.elements[i][()]}: {refused}")
        return [self.elements[i] for i in graph.outputs]

    def _unpacked(self, i: int, argument: str) -> Any:
        """Take an argument's elements into local variables."""
        shape = self.graph.nodes[i].shape
        if not shape:
            self.lines.append(f"{argument}_0 = float({argument})")
            return filled((), [f"{argument}_0"])
        names = [f"{argument}_{k}" for k in range(math.prod(shape))]
        flat = argument if len(shape) == 1 else f"{argument}.ravel()"
        self.lines.append(f"{', '.join(names)}, = {flat}.tolist()")
        return filled(shape, names)

    def _output(self, i: int) -> str:
        node, elements = self.graph.nodes[i], self.elements[i]
        if node.dtype is None or node.dtype != np.float64:
            raise NotLowerable
        if not node.shape:
            return f"float64({elements[()]})"
        return f"array({elements.tolist()})".replace("'", "")

    def _new(self, expression: str) -> str:
        self.count += 1
        name = f"{self.prefix}{self.count}"
        self.lines.append(f"{name} = {expression}")
        return name

    def _node(self, i: int, node: Node) -> Any:
        op = node.op
        if op is CONSTANT:
            value = np.asarray(node.params["value"])
            return filled(node.shape, [_literal(v) for v in value.ravel().tolist()])
        operands = [self.elements[j] for j in node.inputs]
        if op.moves:
            return self._moved(node, operands)
        if op.reduces is not None:
            return self._reduced(node, op.reduces, operands[0])
        if op.elementwise:
            return self._elementwise(i, node, operands)
        raise NotLowerable(op.name)  # a product of matrices too: BLAS may fuse multiplications and additions

    def _elementwise(self, i: int, node: Node, operands: Sequence[Any]) -> Any:
        op = node.op
        dtypes = [self.graph.nodes[j].dtype for j in node.inputs]
        boolean = [dtype is not None and dtype == np.bool_ for dtype in dtypes]
        if op.scalar is None or any(boolean[op.conditions :]):
            raise NotLowerable
        if any(dtype is not None and dtype.kind == "i" for dtype in dtypes):
            raise NotLowerable
        template = op.scalar
        if op is _POWER:
            template = self._power(node)
            self.exact &= not self.varies[i] or "power" not in template
        template = self._known(template)
        spread = np.broadcast_arrays(*operands) if node.shape else operands
        result = np.empty(node.shape, object)
        for at in np.ndindex(*node.shape):
            result[at] = self._new(template.format(*(part[at] for part in spread)))
        return result

    def _known(self, template: str) -> str:
        """Return the template with the commonest functions under names of their own."""
        self.exact &= not re.search(_ROUNDED, template)
        for name in ("sqrt", "exp", "log", "sin", "cos", "tanh"):
            if f"math.{name}(" in template:
                self.functions.add(name)
                template = template.replace(f"math.{name}(", f"{name}(")
        return template

    def _joined(self, monoid: Monoid, a: str, b: str) -> str:
        """Combine two results of a reduction."""
        op = OPS[monoid.join]
        if op.scalar is not None:
            return self._new(self._known(op.scalar).format(a, b))
        part = pair(op, np.dtype(np.float64), _has_code) if op.lower is not None else None
        if part is None or any(node.inputs and node.op.scalar is None for node in part.nodes):
            raise NotLowerable(op.name)
        names = dict(zip(part.inputs, (a, b), strict=True))
        for i, node in enumerate(part.nodes):
            if i not in names and node.op is CONSTANT:
                names[i] = _literal(node.params["value"])
            elif i not in names:
                names[i] = self._new(self._known(str(node.op.scalar)).format(*[names[j] for j in node.inputs]))
        return names[part.outputs[0]]

    def _power(self, node: Node) -> str:
        """The operator's shortcuts, as NumPy takes them for arrays; small powers of scalars as machine code forms them,
        within 2 ulp of libm's."""
        exponent = self.graph.nodes[node.inputs[1]]
        known = exponent.params["value"] if exponent.op is CONSTANT and exponent.dtype is None else None
        if node.shape:
            if known not in _POWERS:
                raise NotLowerable  # NumPy's vector pow differs from libm's
            return _POWERS[known]
        if known in (1, 2, 3, 4):
            return {1: "{0}", 2: "{0} * {0}", 3: "({0} * {0}) * {0}", 4: "({0} * {0}) * ({0} * {0})"}[known]
        return "{0} ** {1}" if known is not None and float(known).is_integer() else "power({0}, {1})"

    def _reduced(self, node: Node, monoid: Monoid, x: Any) -> Any:
        axis = node.params["axis"]
        if x.ndim > 1 and axis is not None and len(axis) not in (1, x.ndim):
            raise NotLowerable("a sum over some of the axes")
        lines = axis_last(x, axis)
        if not lines.shape[-1]:
            raise NotLowerable(f"{node.op.name} of nothing")
        result = np.empty(lines.shape[:-1], object)
        for at in np.ndindex(*result.shape):
            parts = lines[at].tolist()
            if monoid.adds:
                total = added_up(parts, lambda a, b: f"({a} + {b})")
                result[at] = self._new(f"{total} + 0.0")  # a sum of -0.0 is 0.0
                continue
            total = parts[0]
            for part in parts[1:]:
                total = self._joined(monoid, total, part)
            result[at] = total
        return result.reshape(node.shape)

    def _moved(self, node: Node, operands: Sequence[Any]) -> Any:
        if node.op.fills is not None and node.dtype != np.float64:
            raise NotLowerable("an array that is not float64")
        operands = list(operands[: moved_inputs(node)])
        if is_write(node):
            value = self.graph.nodes[node.inputs[1]]
            if value.dtype is None:
                operands[1] = filled((), [_literal(float(value.params["value"]))])
            elif value.dtype != node.dtype:
                raise NotLowerable("a write that changes the dtype")
        return rearranged(node, operands, known_arrays(self.graph.nodes, node), repr, self._sum_of)

    def _sum_of(self, a: str, b: str) -> str:
        return self._new(f"{a} + {b}")


def _literal(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'  # not with the quotes that `_output` takes out
    return f"({value!r})"


class FloatsDescent:
    """The loop of one descent in Python, with every number in a local variable: nothing to compile.

    The contract of `koubai.execute.native.Descent`. Raises NotLowerable if the graphs are not of this kind.
    """

    def __init__(self, graphs: DescentGraphs, tolerances: bool) -> None:
        """tolerances: are FTOL and XTOL looked at?"""
        if graphs.dtype != np.float64:
            raise NotLowerable(f"parameters of {graphs.dtype}")
        for graph in (graphs.value, graphs.update, graphs.measure):
            for node in graph.nodes:
                if math.prod(node.shape) > ELEMENTS or node.op is CAPTURED or not _real_or_bool(node):
                    raise NotLowerable(f"{node.op.name} of {node.dtype}, shape {node.shape}")
        self.graphs = graphs = graphs.lowered(_has_code)
        self.exact = False  # whether machine code gives the same bits
        self._width = 2 + 2 * graphs.size + 2 * graphs.flags  # of a step in a table
        self.source, functions = self._text(tolerances)
        namespace: dict[str, Any] = {"power": math.pow, "math": math}
        namespace |= {name: getattr(math, name) for name in functions}
        exec(compile(self.source, "<koubai: descent>", "exec"), namespace)
        self._descend = namespace["descend"]

    def run(self, segment: SegmentState) -> int:
        """Make steps, and return why no more, as `koubai.execute.native.Descent.run`."""
        counts, numbers = segment.counts.tolist(), segment.numbers.tolist()
        t, end = counts[abi.T], counts[abi.T_END]
        rates: Iterable[float] = repeat(float(segment.lr[0]), end - t)
        if counts[abi.LR_STRIDE]:
            rates = segment.lr[: end - t].tolist()
        steps: list[float] = []
        why, state = self._descend(
            segment.x.tolist(), segment.g.tolist(), segment.state.tolist(), segment.low.tolist(), segment.high.tolist(),
            numbers, map(float, range(t + 1, end + 1)), rates, counts[abi.FORCED], steps.extend,
        )  # fmt: skip
        segment.state[: len(state)] = state
        segment.counts[abi.ROWS] = 0
        if steps:
            # struct takes a quarter of the time that np.array does
            table = np.frombuffer(struct.pack(f"{len(steps)}d", *steps)).reshape(-1, self._width)
            if not counts[abi.FORCED]:  # such a step is judged in Python
                self._follow(segment, t, table)
                self._record(segment, t, table)
            n, (fun, norm, *last) = self.graphs.size, table[-1]
            segment.x[:], segment.g[:] = last[:n], last[n : 2 * n]
            segment.numbers[abi.FUN], segment.numbers[abi.NORM] = fun, norm
            segment.counts[abi.T] = t + len(table)
            if self.graphs.flags:
                segment.counts[abi.CLIPPED], segment.counts[abi.PROJECTED] = last[2 * n :]
        return int(why)

    def _follow(self, segment: SegmentState, t: int, table: Any) -> None:
        """Leave the best point of the path."""
        n, numbers, fun = self.graphs.size, segment.numbers, table[:, 0]
        best = fun.argmin()
        if fun[best] < numbers[abi.BEST]:
            numbers[abi.BEST], numbers[abi.BEST_NORM] = table[best, :2]
            segment.best[:], segment.counts[abi.BEST_T] = table[best, 2 : 2 + 2 * n], t + 1 + best

    def _record(self, segment: SegmentState, t: int, table: Any) -> None:
        """Leave the rows that are due."""
        n, mask = self.graphs.size, int(segment.counts[abi.MASK])
        due = table[-(t + 1) & mask :: mask + 1] if mask >= 0 else table[:0]
        rows = segment.counts[abi.ROWS] = len(due)
        for name, column in (("fun", due[:, 0]), ("grad_norm", due[:, 1]), ("x", due[:, 2 : 2 + n])):
            segment.rows[name][:rows] = column
        if self.graphs.flags:
            segment.rows["clipped"][:rows], segment.rows["projected"][:rows] = due[:, -2], due[:, -1]

    def _text(self, tolerances: bool) -> tuple[str, set[str]]:
        graphs, n = self.graphs, self.graphs.size
        x, g, low, high = ([f"{name}{k}" for k in range(n)] for name in ("x", "g", "low", "high"))
        state = [f"s{k}" for k in range(sum(math.prod(shape) for shape in graphs.states))]
        parts = split(state, graphs.states)
        refused = f"why = {REFUSED}; break"
        update, value, measure = (
            _Writer(graph, prefix)
            for graph, prefix in ((graphs.update, "u"), (graphs.value, "v"), (graphs.measure, "m"))
        )
        scalars = [filled((), [name]) for name in ("step", "rate", "fun")]
        varying = [True, True, False, False, False, False, True, *[True] * len(parts)]
        changed = update.unroll([*(filled((n,), v) for v in (x, g, low, high)), *scalars, *parts], refused, varying)
        new_x, projected = changed[0].tolist(), changed[1][()]
        new_state = [v for part in changed[2:] for v in part.ravel().tolist()]
        leaves = split(new_x, [graphs.value.nodes[i].shape for i in graphs.value.inputs])
        results = value.unroll(leaves, refused)
        new_f, new_g = results[0][()], [v for part in results[1:] for v in part.ravel().tolist()]
        norm, clipped = (part[()] for part in measure.unroll([filled((n,), v) for v in (new_x, new_g, low, high)]))

        def squares(values: Sequence[str]) -> str:
            return str(added_up([f"{v} * {v}" for v in values], lambda a, b: f"({a} + {b})"))

        same = " and ".join(f"{a} == {b}" for a, b in zip(new_x, x, strict=True))
        finite = f"gtol < {norm} <= {BIGGEST!r}"
        if graphs.bounded:
            total = added_up(new_g, lambda a, b: f"({a} + {b})")
            finite = f"gtol < {norm} and -{BIGGEST!r} <= {total} <= {BIGGEST!r}"
        tests = [
            f"size = {squares(new_x)}",
            f"if not (target < {new_f} <= f_limit and {finite} and size <= size_limit) or ({same} and not forced):",
            f"    why = {REMARKABLE}; break",
        ]
        if tolerances:
            dx, dg = ([f"({a} - {b})" for a, b in zip(new, old, strict=True)] for new, old in ((new_x, x), (new_g, g)))
            tests += [
                f"moved = {squares(dx)}; turned = {squares(dg)}; slope = {squares(new_g)}",
                f"f_close = 1.01 * ftol * max(abs({new_f}), 1.0); x_close = 1.03 * xtol * xtol * max(size, 1.0)",
                f"if abs({new_f} - fun) <= f_close and slope * slope * moved <= 4.1 * f_close * f_close * turned:",
                f"    why = {REMARKABLE}; break",
                f"if xtol >= 0.0 and moved <= {float(n)} * x_close and {norm} * {norm} * moved <= x_close * turned:",
                f"    why = {REMARKABLE}; break",
            ]
        flags = [f"float({clipped})", f"float({projected})"] if graphs.flags else []
        row = ", ".join((new_f, norm, *new_x, *new_g, *flags))
        stays = zip((*new_x, *new_g, *new_state, new_f), (*x, *g, *state, "fun"), strict=True)
        changes = [(a, b) for a, b in stays if a != b]
        made = [f"put(({row}))", f"{', '.join(b for _, b in changes)} = {', '.join(a for a, _ in changes)}"]
        overwritten = {a for a, _ in changes} & {b for _, b in changes}
        if not overwritten:  # one by one is faster, if the order is all the same
            made[1:] = [f"{b} = {a}" for a, b in changes]
        self.exact = update.exact and value.exact and measure.exact
        loop = [*update.lines, *value.lines, *measure.lines, *tests, *made]
        counted = any("step" in line for line in update.lines)
        text = [
            "def descend(x, g, s, low, high, numbers, steps, rates, forced, put):",
            *(
                f"    {', '.join(names)}, = {name}"
                for names, name in ((x, "x"), (g, "g"), (low, "low"), (high, "high"))
            ),
            *([f"    {', '.join(state)}, *_ = s"] if state else []),
            "    fun, gtol, target, ftol, xtol, f_limit, size_limit, *_ = numbers",
            f"    why = {REACHED}",
            "    try:",
            f"        for {'step, rate in zip(steps, rates)' if counted else 'rate in rates'}:",
            *(f"            {line}" for line in loop),
            "    except (ArithmeticError, ValueError):",  # where NumPy would give inf or nan
            f"        why = {REFUSED}",
            f"    return why, [{', '.join(state)}]",
            "",
        ]
        return "\n".join(text), update.functions | value.functions | measure.functions
