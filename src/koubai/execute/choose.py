"""Which executor runs a graph: a fixed rule of the graph alone, not of a clock. And the check of its machine code."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from koubai.errors import CompileError, CompileWarning, warn
from koubai.execute.abi import operations
from koubai.execute.arrays import compile_arrays, compile_bound
from koubai.execute.elements import NotLowerable
from koubai.execute.floats import compile_floats
from koubai.execute.interpreter import interpret
from koubai.execute.memory import is_view, is_write
from koubai.graph.graph import INPUT, LEAVES, Graph, Node
from koubai.log import debug

__all__ = ["BOUND", "RUNS", "TOO_MANY", "Program", "check_result", "choose_fused", "choose_native"]

# A step of a descent through NumPy takes about 40 µs, in a loop of Python numbers 1 µs, in machine code 10 ns. A loop
# of Python numbers is made in 1 ms; machine code in 15 ms, and 10 µs more for each element that a step computes.
LEAST = 50  # steps from which on a loop is made
NATIVE_FROM = 2000  # steps that a loop of Python numbers makes before machine code takes over
STEPS, STEPS_AN_ELEMENT = 500, 2  # from which on machine code takes the place of NumPy


def choose_native(operations: int, max_steps: int, after: int | None) -> tuple[bool, str]:
    """Return whether a descent runs in machine code, and why.

    operations: elements computed in a step. after: steps made by a loop of Python numbers, None if there is none.
    """
    from koubai.execute import library, native

    if operations > native.OPERATIONS:
        reason = f"{operations} elements a step are more than registers hold"
        debug("a descent without machine code: %s", reason)
        return False, reason
    least = STEPS + STEPS_AN_ELEMENT * operations if after is None else NATIVE_FROM
    if (max_steps if after is None else after) < least:
        return False, f"{max_steps} steps are too few to compile for: from {least} on it pays"
    if not library.available():
        debug("a descent without machine code: %s", NO_LLVM)
        return False, NO_LLVM
    reason = f"up to {max_steps} steps of {operations} elements: compiling pays"
    debug("a descent in machine code: %s", reason)
    return True, reason


NO_LLVM = "llvmlite can't be loaded"


# An update in NumPy takes about as long as 10,000 elements more would; machine code pays once this much has been done.
ELEMENTS_OF_A_CALL, UPDATED = 10_000, 2_000_000


def choose_fused(size: int, updates: int) -> bool:
    """Return whether updates of this many numbers run in machine code from now on, after ``updates`` of them."""
    if updates * (size + ELEMENTS_OF_A_CALL) < UPDATED:
        return False
    from koubai.execute import library

    return library.available()


# Loops over large arrays take 20 to 50 ms to be made, and then a fraction of the time that NumPy takes for its nodes.
LOOPED = 50_000  # elements computed from which on they pay


# To write a program and have Python compile it takes 15 µs a node, and a run of it is faster than going from node to
# node, as is done at first, by 5 µs and 0.04 µs a node. Of so many nodes that it would need hundreds of megabytes, none
# is written.
SMALL = 10_000  # elements that a node computes on average, up to which reused buffers gain nothing
RUNS, RUNS_OF_MANY = 100, 400  # after which a program is written; of MANY nodes
TOO_MANY = 100_000  # nodes of which none is
MANY = 1000  # nodes of which no Python arithmetic is made, nor loops


def _computed(graph: Graph) -> int:
    """Return how many elements are computed or moved, if writes are done in place."""
    nodes, total = graph.nodes, len(graph.nodes)
    for node in nodes:
        if node[3] and node.op not in LEAVES and not is_view(node):
            total += math.prod(nodes[node.inputs[1]].shape if is_write(node) else node.shape)
    return total


def _fused(graph: Graph) -> tuple[Callable[..., Any] | None, str]:
    """Return the graph as fused loops if its arrays are large and there is code for them, else None; and why.

    Loops go over one index, with shifts and writes into slices, or row by row, with what is spread over rows and
    columns and reduced along them: whichever leaves less to NumPy.
    """
    computed = operations(graph)
    if computed < LOOPED:
        return None, f"{computed} elements are too few for machine code: from {LOOPED} on it pays"
    from koubai.execute import library, loops

    if not library.available():
        return None, NO_LLVM
    why = ""
    ways: list[tuple[int, Callable[[Graph], Callable[..., Any]]]] = []
    for left_to_numpy, make in ((loops.left_to_numpy, loops.compile_loops), (_left_by_rows, _compile_rows)):
        try:
            ways.append((left_to_numpy(graph), make))
        except NotLowerable as error:
            why = str(error)
    for _, compile_way in sorted(ways, key=lambda way: way[0]):
        try:
            return compile_way(graph), f"{computed} elements: compiling pays from {LOOPED} on"
        except NotLowerable as error:
            why = str(error)
        except CompileError as error:
            why = str(error)
            warn(CompileWarning(why))
    return None, f"no machine code: {why}"


def _by_rows(graph: Graph) -> dict[bool, list[Node]]:
    """Return what regions compute (True) and what NumPy computes beside them (False)."""
    from koubai.execute import regions

    again, found = regions.partition(graph)
    fused = {i for region in found for i in region.members}
    nodes: dict[bool, list[Node]] = {True: [], False: []}
    for i, node in enumerate(again.nodes):
        if node.op not in LEAVES and not is_view(node):
            nodes[i in fused].append(node)
    return nodes


def _left_by_rows(graph: Graph) -> int:
    """Return how many elements NumPy computes beside regions. Raises NotLowerable if it would be left with much."""
    from koubai.execute import loops

    sizes = {fused: sum(math.prod(node.shape) for node in nodes) for fused, nodes in _by_rows(graph).items()}
    if loops.SHARE * sizes[False] > sizes[True]:
        raise NotLowerable("little to be fused")
    return sizes[False]


def _compile_rows(graph: Graph) -> Callable[..., Any]:
    """Return the program of `koubai.execute.regions`, as `koubai.execute.loops.compile_loops` does."""
    from koubai.execute import loops, regions

    nodes = graph.nodes
    given, forms = ([(nodes[i].shape, nodes[i].dtype) for i in ends] for ends in (graph.inputs, graph.outputs))
    into = [k for k, (shape, _) in enumerate(forms) if shape]

    def compiled() -> Any:
        return compile_bound(graph, [], into, regions)

    first = compiled()
    if not first.libraries:
        raise NotLowerable("no code for what is to be fused")
    pool = [first]  # each with buffers of its own, for one call at a time

    def run(*inputs: Any) -> Any:
        try:
            bind = pool.pop()
        except IndexError:
            bind = compiled()
        results = [np.empty(*forms[k]) for k in into]
        fitted = [
            loops.fitted(v, dtype, shape) if shape else v for v, (shape, dtype) in zip(inputs, given, strict=True)
        ]
        rest = bind([], results)(*fitted)
        pool.append(bind)
        if rest is None:
            return None
        arrays, numbers = iter(results), iter(rest)
        return tuple([next(arrays if shape else numbers) for shape, _ in forms])

    run.source = first.source  # type: ignore[attr-defined]
    run.release = pool.clear  # type: ignore[attr-defined]
    run.left = lambda: _by_rows(graph)[False]  # type: ignore[attr-defined]
    run.fresh = any(library.origin != "memory" for library in first.libraries)  # type: ignore[attr-defined]
    return run


class Program:
    """A compiled graph: ``run(*inputs)`` returns the outputs as a tuple, or None if a guard fails.

    executor: "floats" for a few numbers, "native" for large arrays that loops suit, else "numpy"; reason: why this one;
    source: the generated code, none where NumPy goes from node to node. The first answer of new loops is compared with
    what the graph means; if they differ by more than rounding, a CompileWarning says so and NumPy runs the graph
    from then on.
    """

    __slots__ = ("_code", "_graph", "_runs", "executor", "reason", "run", "source")

    def __init__(self, graph: Graph) -> None:
        by_node = _computed(graph) <= SMALL * len(graph.nodes)
        is_long = by_node and len(graph.nodes) > MANY
        floats = None if is_long else compile_floats(graph, _Late(graph))
        native, self.reason = None, f"{len(graph.nodes)} nodes are too many for code of their own"
        if floats is not None:
            self.reason = "a few numbers: Python's arithmetic is faster than NumPy's"
        elif not is_long:
            native, self.reason = _fused(graph)
        if floats is not None:
            self._take("floats", floats)
        elif native is not None:
            self._take("native", native)
            if native.fresh:  # type: ignore[attr-defined]
                self._graph, self.run = graph, self._compared
        elif by_node:
            self._graph, self._runs = graph, 0
            self._take("numpy", None)
            self.run = self._counted
        else:
            self._take("numpy", compile_arrays(graph))
        debug("a graph of %d nodes runs as %s: %s", len(graph.nodes), self.executor, self.reason)

    def _take(self, executor: str, code: Any) -> None:
        self.executor, self._code, self.run = executor, code, code
        self.source: str = getattr(code, "source", "")

    def _counted(self, *inputs: Any) -> Any:
        self._runs += 1
        count = len(self._graph.nodes)
        if self._code is None:  # a table may have made it needless until now
            self._code = interpret(self._graph)
        elif self._runs > (RUNS if count <= MANY else RUNS_OF_MANY) and count <= TOO_MANY and self.run == self._counted:
            self._take("numpy", compile_arrays(self._graph))
        return self._code(*inputs)

    def _compared(self, *inputs: Any) -> Any:
        results = self._code(*inputs)
        if results is not None and self.run == self._compared:
            try:
                _check(self._graph, inputs, results)
            except CompileError as error:
                warn(CompileWarning(str(error)))
                self._take("numpy", compile_arrays(self._graph))
                return self.run(*inputs)
            self.run = self._code
        return results

    def left_to_numpy(self) -> list[Node] | None:
        """Return what NumPy computes beside machine code; None: there is no machine code."""
        left = getattr(self._code, "left", None)
        return None if left is None else left()

    def release(self) -> None:
        """Free the buffers that are kept for the next call, which makes new ones."""
        release = getattr(self._code, "release", None)
        if release is not None:
            release()


BOUND = 1e4  # units in the last place of the largest number on the way, by which machine code may differ from NumPy


def check_result(what: str, found: Any, expected: Any, bound: float) -> None:
    """Raise CompileError if a result of machine code is not NumPy's within the bound, unless NumPy's is not finite."""
    found, expected = np.ravel(found), np.ravel(expected)
    if np.array_equal(found, expected, equal_nan=True):
        return
    with np.errstate(all="ignore"):
        difference = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    wrong = np.isfinite(expected) & ~(difference <= bound)
    if wrong.any():
        i = int(np.argmax(np.where(wrong, np.nan_to_num(difference, nan=np.inf), -1.0)))
        raise CompileError(
            f"machine code gives {what} = {found[i]!r}, NumPy {expected[i]!r}, and they may differ by {bound:.2g}; "
            "this is a fault of koubai's, please report it"
        )


def _check(graph: Graph, inputs: Sequence[Any], results: Sequence[Any]) -> None:
    """Compare the results with `evaluate`'s, of which it keeps no more than is needed. Raises CompileError."""
    nodes = graph.nodes
    last = {j: i for i, node in enumerate(nodes) for j in node.inputs}
    last |= dict.fromkeys(graph.outputs, len(nodes))
    given = dict(zip(graph.inputs, inputs, strict=True))
    values: dict[int, Any] = {}
    largest = 0.0
    with np.errstate(all="ignore"):
        for i, node in enumerate(nodes):
            operands = [values[j] for j in node.inputs]
            values[i] = given[i] if node.op is INPUT else node.op.call(*operands, **node.params)
            # of a sum, what is added: the order in which that is done is not NumPy's
            adds = node.op.reduces is not None and node.op.reduces.adds
            size = np.sum(np.abs(operands[0])) if adds else _largest(values[i])
            largest = max(largest, size)
            for j in {i, *node.inputs}:
                if last.get(j, i) <= i:
                    del values[j]
    for k, (found, i) in enumerate(zip(results, graph.outputs, strict=True)):
        dtype = np.asarray(found).dtype
        bound = BOUND * float(np.finfo(dtype).eps) * largest if dtype.kind == "f" else 0.0
        check_result(f"output {k}", found, values[i], bound)


def _largest(value: Any) -> float:
    """Return the largest finite |element| of an array of real numbers."""
    array = np.asarray(value)
    if array.dtype.kind != "f" or not array.size:
        return 0.0
    size = max(abs(float(np.min(array))), abs(float(np.max(array))))
    return size if math.isfinite(size) else float(np.max(np.abs(array), initial=0.0, where=np.isfinite(array)))


class _Late:
    """The NumPy program of a graph, compiled when it is first needed."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.run: Callable[..., Any] | None = None

    def __call__(self, *inputs: Any) -> Any:
        if self.run is None:
            self.run = compile_arrays(self.graph)
        return self.run(*inputs)
