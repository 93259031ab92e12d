"""Generated pure-Python arithmetic for graphs of a few numbers: an array element is a Python float in a local variable.

For two or three variables one NumPy call costs more than the whole function in Python. Arithmetic and sqrt give the
bits that NumPy gives; other functions come from `math`, within 2 ulp. Where Python raises and NumPy gives inf or nan
(a zero division, exp overflow, log of 0), the NumPy program answers instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from koubai.execute.elements import INDEXED, STRUCTURE, Unsuitable, added_up, filled, known_arrays, lined, rearranged
from koubai.graph.trace import CAPTURED, CONSTANT, INPUT, Graph, Node

__all__ = ["compile_floats"]

ELEMENTS = 8  # up to here NumPy adds one after the other, so that the order of a sum is the same; and Python is faster
OPERATIONS = 200  # beyond these, straight-line NumPy is at least as fast and its code is shorter


def compile_floats(graph: Graph, otherwise: Callable[..., Any]) -> Callable[..., Any] | None:
    """Return ``run(*inputs)``, or None where the graph is not of this kind.

    run returns the outputs as a tuple, None where a guard fails; ``otherwise(*inputs)`` answers where Python raised.
    """
    for node in graph.nodes:
        if math.prod(node.shape) > ELEMENTS or node.op is CAPTURED or not _real_or_bool(node):
            return None
    writer = _Writer(graph)
    try:
        source = writer.source()
    except Unsuitable:
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


class _Writer:
    """Writes one statement an element. An element is the name of a local variable or a literal."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.lines: list[str] = []
        self.functions: set[str] = set()
        self.count = 0
        self.elements: list[Any] = []  # one object array of names (or literals) a node

    def source(self) -> str:
        graph = self.graph
        arguments = [f"x{k}" for k in range(len(graph.inputs))]
        checks: dict[int, list[Any]] = {}
        for guard in graph.guards:
            checks.setdefault(guard.node, []).append(guard)
        for i, node in enumerate(graph.nodes):
            self.elements.append(self._node(i, node, arguments))
            if len(self.lines) > OPERATIONS:
                raise Unsuitable
            for guard in checks.get(i, ()):
                if type(guard.expected) is not bool or node.shape:
                    raise Unsuitable
                self.lines.append(f"if {'not ' if guard.expected else ''}{self.elements[i][()]}: return None")
        outputs = [self._output(i) for i in graph.outputs]
        body = [
            f"def run({', '.join(arguments)}):",
            "    try:",
            *(f"        {line}" for line in self.lines),
            f"        return ({', '.join(outputs)},)",
            "    except (ArithmeticError, ValueError):",
            f"        return otherwise({', '.join(arguments)})",
            "",
        ]
        return "\n".join(body)

    def _output(self, i: int) -> str:
        node, elements = self.graph.nodes[i], self.elements[i]
        if node.dtype is None or node.dtype != np.float64:
            raise Unsuitable
        if not node.shape:
            return f"float64({elements[()]})"
        return f"array({elements.tolist()})".replace("'", "")

    def _new(self, expression: str) -> str:
        self.count += 1
        name = f"t{self.count}"
        self.lines.append(f"{name} = {expression}")
        return name

    def _node(self, i: int, node: Node, arguments: Sequence[str]) -> Any:
        op = node.op
        if op is INPUT:
            argument = arguments[self.graph.inputs.index(i)]
            if not node.shape:
                self.lines.append(f"{argument} = float({argument})")
                return filled((), [argument])
            names = [f"{argument}_{k}" for k in range(math.prod(node.shape))]
            flat = argument if len(node.shape) == 1 else f"{argument}.ravel()"
            self.lines.append(f"{', '.join(names)}, = {flat}.tolist()")
            return filled(node.shape, names)
        if op is CONSTANT:
            value = np.asarray(node.params["value"])
            return filled(node.shape, [_literal(v) for v in value.ravel().tolist()])
        operands = [self.elements[j] for j in node.inputs]
        if op.name in STRUCTURE:
            return self._structure(node, operands)
        if op.name == "sum":
            return self._sum(node, operands[0])
        if op.name == "matmul":
            raise Unsuitable  # BLAS may fuse multiplications and additions
        if op.elementwise:
            return self._elementwise(node, operands)
        raise Unsuitable

    def _elementwise(self, node: Node, operands: Sequence[Any]) -> Any:
        op = node.op
        dtypes = [self.graph.nodes[j].dtype for j in node.inputs]
        boolean = [dtype is not None and dtype == np.bool_ for dtype in dtypes]
        logical = op.name.startswith("logical_")
        if op.scalar is None or (
            any(boolean) and not logical and not (op.name == "where" and boolean == [True, False, False])
        ):
            raise Unsuitable
        if logical and not all(boolean):
            raise Unsuitable
        if any(dtype is not None and dtype.kind == "i" for dtype in dtypes):
            raise Unsuitable
        template = op.scalar
        if op.name == "power":
            template = self._power(node)
        for name in ("sqrt", "exp", "log", "sin", "cos", "tanh"):
            if f"math.{name}(" in template:
                self.functions.add(name)
                template = template.replace(f"math.{name}(", f"{name}(")
        spread = np.broadcast_arrays(*operands) if node.shape else operands
        result = np.empty(node.shape, object)
        for at in np.ndindex(*node.shape):
            result[at] = self._new(template.format(*(part[at] for part in spread)))
        return result

    def _power(self, node: Node) -> str:
        """The operator's shortcuts, as NumPy takes them for arrays; scalars go to libm's pow in both worlds."""
        exponent = self.graph.nodes[node.inputs[1]]
        known = exponent.params["value"] if exponent.op is CONSTANT and exponent.dtype is None else None
        if node.shape and known in (2, 0.5, -1, 1):
            return {2: "{0} * {0}", 0.5: "math.sqrt({0})", -1: "1.0 / {0}", 1: "{0}"}[known]
        if node.shape:
            raise Unsuitable  # NumPy's vector pow differs from libm's
        return "{0} ** {1}" if known is not None and float(known).is_integer() else "power({0}, {1})"

    def _sum(self, node: Node, x: Any) -> Any:
        axis = node.params["axis"]
        if x.ndim > 1 and axis is not None and len(axis) not in (1, x.ndim):
            raise Unsuitable("a sum over some of the axes")
        lines = lined(x, axis)
        if not lines.shape[-1]:
            raise Unsuitable("a sum of nothing")
        result = np.empty(lines.shape[:-1], object)
        for at in np.ndindex(*result.shape):
            total = added_up(lines[at].tolist(), lambda a, b: f"({a} + {b})")
            result[at] = self._new(total) if lines.shape[-1] > 1 else total
        return result.reshape(node.shape)

    def _structure(self, node: Node, operands: Sequence[Any]) -> Any:
        if node.op.name == "zeros" and node.dtype != np.float64:
            raise Unsuitable("zeros that are not float64")
        operands = list(operands)
        if node.op.name in ("setitem", "add_at"):
            value = self.graph.nodes[node.inputs[1]]
            if value.dtype is None:
                operands[1] = filled((), [_literal(float(value.params["value"]))])
            elif value.dtype != node.dtype:
                raise Unsuitable("a write that changes the dtype")
        return rearranged(
            node, operands, known_arrays(self.graph.nodes, node) if node.op.name in INDEXED else (), "0.0", self._sum_of
        )

    def _sum_of(self, a: str, b: str) -> str:
        return self._new(f"{a} + {b}")


def _literal(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    return f"({value!r})"
