"""Machine code through LLVM: a graph of a few numbers in registers, and whole descents in one loop without Python.

A descent is three graphs, all traced from the text that Python runs too: the value and gradient, the update, and the
gradient's norm. One step is *remarkable* when a stopping rule might hold after it, a guard fails, or something is not
finite; the loop then returns *before* that step, and Python makes it in the ordinary way. So the rules for stopping are
written once, in `koubai.descent.stopping`; what is here only has to notice early enough.

Sums follow NumPy's own order (eight running sums, then pairwise), so that arithmetic has NumPy's bits.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from koubai.execute import abi, library
from koubai.execute.abi import BIGGEST, COLUMNS, REACHED, REFUSED, REMARKABLE, DescentGraphs, SegmentState
from koubai.execute.elements import (
    NotLowerable,
    added_up,
    axis_last,
    filled,
    is_product,
    known_arrays,
    moved_inputs,
    rearranged,
    split,
)
from koubai.execute.ir import BOOL, TAGS, Code, Function, Value, literal
from koubai.execute.llvm import KINDS, combiner, elementwise, has_code, module
from koubai.graph.graph import CAPTURED, CONSTANT, INPUT, LEAVES, Graph
from koubai.graph.ops import Monoid
from koubai.log import debug

__all__ = [
    "OPERATIONS",
    "Captured",
    "Descent",
    "added",
    "depends",
    "fingerprint",
    "loop_invariant",
    "unroll",
]

OPERATIONS = 3000  # elements computed; beyond these, code that is unrolled compiles slowly


# -- graphs in registers ----------------------------------------------------------------------------------------------


def fingerprint(*graphs: Graph) -> bytes:
    """Return a digest of all that the code of these graphs depends on."""
    digest = hashlib.blake2b(digest_size=16)
    for graph in graphs:
        for node in graph.nodes:
            value = node.params.get("value")
            if isinstance(value, np.ndarray | np.generic):
                params: Any = (value.shape, value.dtype.str, value.tobytes() if node.op is CONSTANT else b"")
            else:
                params = sorted(node.params.items()) if node.op is not INPUT else ()
            digest.update(repr((node.op.name, node.inputs, params, node.shape, node.dtype)).encode())
        guards = [(guard.node, repr(guard.expected)) for guard in graph.guards]
        digest.update(repr((graph.inputs, graph.outputs, guards)).encode())
    return digest.digest()


def unroll(
    code: Code,
    graph: Graph,
    inputs: Sequence[Any],
    captured: Callable[[int], Any],
    varying: Sequence[bool] | None = None,
    known: Mapping[int, Any] | None = None,
) -> tuple[list[Any], list[Value]]:
    """Write a graph's computation out, element by element; return its outputs and what its guards ask, as i1.

    inputs: an object array of Values for each input. captured: the elements of a captured array, by its node.
    varying: which inputs change with x; what depends on the others alone is a power of the step, say.
    known: the elements of nodes that are computed elsewhere.
    """
    elements: list[Any] = []
    varies: list[bool] = []
    asked: list[Value] = []
    place = {i: k for k, i in enumerate(graph.inputs)}
    operations = 0
    needed = _needed(graph, known or {})
    for i, node in enumerate(graph.nodes):
        op = node.op
        if known is not None and i in known:
            elements.append(known[i])
            varies.append(False)
            continue
        if not needed[i]:
            elements.append(None)
            varies.append(False)
            continue
        if op is INPUT:
            elements.append(inputs[place[i]])
            varies.append(varying is None or varying[place[i]])
            continue
        if op is CONSTANT:
            value = np.asarray(node.params["value"])
            if value.dtype.kind not in "fiub" or value.size > OPERATIONS:
                raise NotLowerable(f"a constant of {value.dtype}, shape {value.shape}")
            kind = KINDS.get(node.dtype, "") if node.dtype is not None else ""
            given = [literal(v) for v in value.ravel().tolist()]
            elements.append(filled(value.shape, [code.cast(v, kind) for v in given] if kind else given))
            varies.append(False)
            continue
        if op is CAPTURED:
            elements.append(captured(i))
            varies.append(False)
            continue
        varies.append(any(varies[j] for j in node.inputs))
        operations += max(1, math.prod(node.shape))
        if operations > OPERATIONS:
            raise NotLowerable("too many elements for registers")
        elements.append(_node(code, graph, i, [elements[j] for j in node.inputs], not varies[i]))
    for guard in graph.guards:  # of an argument, too
        if type(guard.expected) is not bool or graph.nodes[guard.node].shape:
            raise NotLowerable("a guard on a number")
        answer = code.cast(elements[guard.node][()], BOOL)
        asked.append(answer if guard.expected else ~answer)
    return [elements[i] for i in graph.outputs], asked


def loop_invariant(graph: Graph, varying: Sequence[bool]) -> list[int]:
    """Return the nodes that are the same for every start and are read by one that is not: powers of the step, say."""
    varies: list[bool] = []
    place = {i: k for k, i in enumerate(graph.inputs)}
    found: dict[int, None] = {}
    for i, node in enumerate(graph.nodes):
        varies.append(varying[place[i]] if i in place else any(varies[j] for j in node.inputs))
        if varies[i]:
            for j in node.inputs:
                if not varies[j] and graph.nodes[j].op not in LEAVES and graph.nodes[j].shape == ():
                    found[j] = None
    return sorted(found)


def depends(graph: Graph, i: int, known: Sequence[int]) -> bool:
    """Return whether outputs or guards of the graph depend on node ``i`` otherwise than through the nodes ``known``."""
    return bool(_needed(graph, dict.fromkeys(known))[i])


def _needed(graph: Graph, known: Mapping[int, Any]) -> bytearray:
    """Mark the nodes that the outputs and guards need, beyond those that are known."""
    needed = bytearray(len(graph.nodes))
    for i in (*graph.outputs, *(guard.node for guard in graph.guards)):
        needed[i] = 1
    for i in range(len(graph.nodes) - 1, -1, -1):
        if needed[i] and i not in known:
            for j in graph.nodes[i].inputs:
                needed[j] = 1
    return needed


def _node(code: Code, graph: Graph, i: int, operands: list[Any], invariant: bool) -> Any:
    node = graph.nodes[i]
    op, given = node.op, [graph.nodes[j] for j in node.inputs]
    kind = KINDS.get(node.dtype, "") if node.dtype is not None else "double"
    if op.elementwise:
        result = np.empty(node.shape, object)
        spread: Sequence[Any] = np.broadcast_arrays(*operands) if node.shape else operands
        for at in np.ndindex(*node.shape):
            result[at] = elementwise(code, node, [part[at] for part in spread], given, invariant)
        return result
    # whole numbers are shown in another shape, where they are known
    if not kind and not (op.view and op.moves and all(v.kind == "literal" for v in operands[0].ravel())):
        raise NotLowerable(f"{op.name} of {node.dtype}")
    cast = np.frompyfunc(lambda v: code.cast(v, kind) if kind else v, 1, 1)
    if op.moves:
        operands = [np.asarray(cast(part), object) for part in operands[: moved_inputs(node)]]
        arrays = known_arrays(graph.nodes, node)
        return rearranged(node, operands, arrays, lambda v: code.cast(literal(v), kind), operator.add)
    if op.reduces is not None:
        lines = axis_last(operands[0], node.params["axis"])
        if not lines.shape[-1]:
            raise NotLowerable(f"{op.name} of nothing")
        result = np.empty(lines.shape[:-1], object)
        side_by_side = _side_by_side(operands[0].shape, node.params["axis"])
        for at in np.ndindex(*result.shape):
            parts = [code.cast(v, kind) for v in lines[at]]
            result[at] = _folded(code, op.reduces, parts, side_by_side)
        return result.reshape(node.shape)
    if op.runs is not None:
        result, join = np.asarray(cast(operands[0]), object), combiner(op.runs)
        along = np.moveaxis(result, node.params["axis"], 0)
        for k in range(1, len(along)):
            for at in np.ndindex(*along.shape[1:]):
                along[(k, *at)] = join(code, along[(k - 1, *at)], along[(k, *at)])
        return result
    if is_product(node):
        return _matmul(code, operands[0], operands[1], kind).reshape(node.shape)
    raise NotLowerable(op.name)


def _side_by_side(shape: tuple[int, ...], axis: tuple[int, ...] | None) -> bool:
    """Return whether NumPy adds along the last axis of memory, in its pairwise order; else it adds row upon row."""
    return axis is None or len(shape) - 1 in axis


def added(parts: Sequence[Value], side_by_side: bool) -> Value:
    total: Value = added_up(parts, operator.add) if side_by_side else functools.reduce(operator.add, parts)
    return total


def _folded(code: Code, monoid: Monoid, parts: Sequence[Value], side_by_side: bool) -> Value:
    if monoid.adds:
        return added(parts, side_by_side) + 0.0  # a sum of -0.0 is 0.0
    return functools.reduce(functools.partial(combiner(monoid), code), parts)


def _matmul(code: Code, a: Any, b: Any, kind: str) -> Any:
    """Products of small matrices, added in order. BLAS may fuse and reorder: they agree within the summed bound."""
    if a.ndim > 2 or b.ndim > 2:
        raise NotLowerable("a stack of matrices")
    left, right = np.atleast_2d(a), b if b.ndim == 2 else b[:, None]
    result = np.empty((left.shape[0], right.shape[1]), object)
    for r, c in np.ndindex(*result.shape):
        products = [code.cast(p, kind) * code.cast(q, kind) for p, q in zip(left[r], right[:, c], strict=True)]
        if not products:
            raise NotLowerable("a product of nothing")
        result[r, c] = added(products, False) + 0.0
    return result


def _captured_kind(value: Any) -> str:
    kind = KINDS.get(value.dtype, "")
    if kind not in TAGS:
        raise NotLowerable(f"an array from outside of {value.dtype}")
    return kind


class Captured:
    """The arrays of the caller's that a graph reads: they are gathered again for each run."""

    def __init__(self, graph: Graph) -> None:
        self.nodes = [i for i, node in enumerate(graph.nodes) if node.op is CAPTURED]
        self.arrays = [graph.nodes[i].params["value"] for i in self.nodes]
        self.forms = [(graph.nodes[i].shape, graph.nodes[i].dtype) for i in self.nodes]
        for array in self.arrays:
            if _captured_kind(array) != "double" or array.size > OPERATIONS:
                raise NotLowerable("an array from outside that is large or not float64")

    def reader(self, code: Code, pointer: Value) -> Callable[[int], Any]:
        starts = np.cumsum([0, *(array.size for array in self.arrays)])

        def read(i: int) -> Any:
            k = self.nodes.index(i)
            return code.elements(pointer, int(starts[k]), self.arrays[k].shape, "double")

        return read

    def gathered(self) -> Any:
        """Return their numbers in one vector, or None if one is no longer of the form that was traced."""
        if not self.arrays:
            return np.zeros(1)
        for array, form in zip(self.arrays, self.forms, strict=True):
            if (array.shape, array.dtype) != form:
                return None
        return np.concatenate([np.ravel(array) for array in self.arrays])


# -- whole descents ---------------------------------------------------------------------------------------------------


class Descent:
    """The loop of one descent: ``run(segment)`` makes steps until T_END, or until one that Python has to make."""

    def __init__(self, graphs: DescentGraphs, tolerances: bool) -> None:
        """tolerances: whether FTOL and XTOL are tested."""
        kind = KINDS.get(graphs.dtype, "")
        if kind not in TAGS:
            raise NotLowerable(f"parameters of {graphs.dtype}")
        self.graphs = graphs = graphs.lowered(has_code)
        self.captured = Captured(graphs.value)
        if any(node.op is CAPTURED for graph in (graphs.update, graphs.measure) for node in graph.nodes):
            raise NotLowerable("an optimizer that reads an array from outside")
        key = (
            b"descend"
            + fingerprint(graphs.value, graphs.update, graphs.measure)
            + repr((tolerances, graphs.states)).encode()
        )
        try:
            self.library = library.load(key, lambda: module(_descend(graphs, kind, self, tolerances)))
        except NotLowerable as error:
            debug("a descent without machine code: %s", error)
            raise
        self._call = self.library.function("descend", ctypes.c_int, ctypes.c_void_p)

    def run(self, segment: SegmentState) -> int:
        """Make steps, and return why no more: REACHED the end, the next is REMARKABLE, or the code is REFUSED for it.

        It is refused if a guard fails, something is not finite, or an array that f reads has changed its form.
        """
        if self.captured.arrays:
            read = self.captured.gathered()
            if read is None:
                return REFUSED
            segment.read(read)
        return self._call(segment.block)  # type: ignore[no-any-return]


def _descend(graphs: DescentGraphs, kind: str, descent: Descent, tolerances: bool) -> Function:
    """Write the loop. What it reads and writes, and where, says `koubai.execute.abi`."""
    code = Function("descend", "i32", ["block"])
    names = ["x", "g", "state", "low", "high", "best", "numbers", "counts", "lr"]
    names += [*(f"row_{name}" for name in COLUMNS), "captured"]
    at = {name: code.load(code.arguments[0], k, "ptr") for k, name in enumerate(names)}
    n = graphs.size

    def double(v: Value) -> Value:
        return code.cast(v, "double")

    def squares(values: Sequence[Value]) -> Value:
        return added([double(v) * double(v) for v in values], True)

    def differences(new: Sequence[Value], old: Sequence[Value]) -> list[Value]:
        return [double(a) - double(b) for a, b in zip(new, old, strict=True)]

    numbers = [code.load(at["numbers"], k, "double") for k in range(abi.BEST + 1)]
    counts = [code.load(at["counts"], k, "i64") for k in range(abi.MASK + 1)]
    forced = counts[abi.FORCED].differs(0)
    read = descent.captured.reader(code, at["captured"])
    held = {i: read(i) for i in descent.captured.nodes}
    low, high = (code.elements(pointer, 0, (n,), kind) for pointer in (at["low"], at["high"]))
    nothing, no = code.constant(0, "i64"), code.constant(False, BOOL)
    zero, one, biggest = (code.constant(v, "double") for v in (0.0, 1.0, BIGGEST))
    sizes = {"x": n, "g": n, "state": sum(math.prod(shape) for shape in graphs.states)}
    first = [code.load(at[name], k, kind) for name, size in sizes.items() for k in range(size)]
    first += [numbers[abi.FUN], zero, no, no, counts[abi.T], nothing, nothing]
    first.append(numbers[abi.BEST])
    with code.loop(carried=first) as loop:
        values = loop.carried
        x, g, state = values[:n], values[n : 2 * n], values[2 * n : -8]
        fun, norm, clipped, projected, t, rate, row, best = values[-8:]
        loop.leave(code.constant(REACHED, "i32"), unless=t < counts[abi.T_END])

        # -- one step, as yet without consequences
        after = t + 1
        lr = code.load(at["lr"], rate, "double")
        scalars = [filled((), [v]) for v in (after.to("sitofp", "double"), lr, fun)]
        changed, _ = unroll(
            code, graphs.update, [filled((n,), x), filled((n,), g), low, high, *scalars, *split(state, graphs.states)],
            held.__getitem__, [True, True, False, False, False, False, True, *[True] * len(graphs.states)],
        )  # fmt: skip
        new_x = [code.cast(v, kind) for v in changed[0]]
        new_state = [code.cast(v, kind) for part in changed[2:] for v in part.ravel()]
        shapes = [graphs.value.nodes[i].shape for i in graphs.value.inputs]
        results, asked = unroll(code, graphs.value, split(new_x, shapes), held.__getitem__)
        new_f = double(code.cast(results[0][()], kind))
        new_g = [code.cast(v, kind) for part in results[1:] for v in part.ravel()]
        there = [filled((n,), new_x), filled((n,), new_g), low, high]
        measured, _ = unroll(code, graphs.measure, there, held.__getitem__)
        new_norm = double(measured[0][()])
        new_clipped, new_projected = (code.cast(v[()], BOOL) for v in (measured[1], changed[1]))

        # -- whether it is to be made
        x2, dx2 = squares(new_x), squares(differences(new_x, x))
        # A norm or a sum is finite only if every part is; if it is not though they are, Python makes the step.
        size = abs(added([double(v) for v in new_g], False)) if graphs.bounded else new_norm
        same_path = code.all(asked)
        ordinary = code.all([
            new_f <= numbers[abi.F_LIMIT],  # false for NaN too, as the others
            x2 <= numbers[abi.X2_LIMIT],
            size <= biggest,
            *asked,
        ])  # fmt: skip
        remarkable = (new_norm <= numbers[abi.GTOL]) | (new_f <= numbers[abi.TARGET])
        remarkable |= ~forced & (dx2 <= zero)
        if tolerances:
            ftol, xtol = numbers[abi.FTOL], numbers[abi.XTOL]
            x_close = xtol * xtol * (code.select(x2 > one, x2, one) * 1.03)
            f_close = ftol * code.select(abs(new_f) > one, abs(new_f), one) * 1.01
            change, g2, dg2 = abs(new_f - fun), squares(new_g), squares(differences(new_g, g))
            remarkable |= (change <= f_close) & (g2 * g2 * dx2 <= f_close * 4.1 * f_close * dg2)
            near = (dx2 <= x_close * float(n)) & (new_norm * new_norm * dx2 <= x_close * dg2)
            remarkable |= (xtol >= zero) & near
        why = code.select(same_path, code.constant(REMARKABLE, "i32"), code.constant(REFUSED, "i32"))
        loop.leave(why, unless=ordinary & ~remarkable)

        # -- the step is made: its row is written, to be overwritten unless it is due
        code.store(new_f, at["row_fun"], row)
        code.store(new_norm, at["row_grad_norm"], row)
        start = code.at(at["row_x"], row * n, kind)
        for k, v in enumerate(new_x):
            code.store(v, start, k)
        if graphs.flags:
            code.store(new_clipped, at["row_clipped"], row)
            code.store(new_projected, at["row_projected"], row)
        due = (after & counts[abi.MASK]).equals(0)
        with code.when(new_f < best, best) as better:
            for k, v in enumerate([*new_x, *new_g]):
                code.store(v, at["best"], k)
            code.store(new_norm, at["numbers"], abi.BEST_NORM)
            code.store(after, at["counts"], abi.BEST_T)
            better.give(new_f)
        done = [*new_x, *new_g, *new_state, new_f, new_norm, new_clipped, new_projected, after]
        done += [rate + counts[abi.LR_STRIDE], row + due.to("zext", "i64")]
        loop.again(*done, *better.values)

    for name, kept in (("x", x), ("g", g), ("state", state)):
        for k, v in enumerate(kept):
            code.store(v, at[name], k)
    for k, v in ((abi.FUN, fun), (abi.NORM, norm), (abi.BEST, best)):
        code.store(v, at["numbers"], k)
    for k, v in ((abi.CLIPPED, clipped), (abi.PROJECTED, projected)):
        code.store(v.to("zext", "i64"), at["counts"], k)
    for k, v in ((abi.T, t), (abi.ROWS, row)):
        code.store(v, at["counts"], k)
    code.ret(*loop.results)
    return code
