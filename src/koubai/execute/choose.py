"""Which executor runs a graph: a fixed rule of the graph alone, never of a clock."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from koubai.errors import CompileError, CompileWarning
from koubai.execute.arrays import compile_arrays
from koubai.execute.descents import operations
from koubai.execute.elements import Unsuitable
from koubai.execute.floats import compile_floats
from koubai.graph.trace import Graph

__all__ = ["Program", "choose_fused", "choose_native"]

# A step of a descent through NumPy takes about 40 µs, in a loop of Python numbers 1 µs, in machine code 10 ns. A loop
# of Python numbers is made in 1 ms; machine code in 15 ms, and 10 µs more for each element that a step computes.
LEAST = 50  # steps from which on a loop is made
NATIVE_FROM = 2000  # steps that a loop of Python numbers makes before machine code takes over
STEPS, STEPS_AN_ELEMENT = 500, 2  # from which on machine code takes the place of NumPy


def choose_native(operations: int, max_steps: int, after: int | None) -> tuple[bool, str]:
    """Tell whether a descent runs in machine code, and why.

    operations: elements computed in a step. after: steps made by a loop of Python numbers, None where there is none.
    """
    from koubai.execute import library, native

    if operations > native.OPERATIONS:
        return False, f"{operations} elements a step are more than registers hold"
    least = STEPS + STEPS_AN_ELEMENT * operations if after is None else NATIVE_FROM
    if (max_steps if after is None else after) < least:
        return False, f"{max_steps} steps are too few to compile for: from {least} on it pays"
    if not library.available():
        return False, "llvmlite can't be loaded"
    return True, f"up to {max_steps} steps of {operations} elements: compiling pays"


# An update in NumPy takes about as long as 10,000 elements more would; machine code pays once this much has been done.
ELEMENTS_OF_A_CALL, UPDATED = 10_000, 2_000_000


def choose_fused(size: int, updates: int) -> bool:
    """Tell whether updates of this many numbers run in machine code from now on, after ``updates`` of them."""
    if updates * (size + ELEMENTS_OF_A_CALL) < UPDATED:
        return False
    from koubai.execute import library

    return library.available()


# Loops over large arrays take 20 to 50 ms to be made, and then a fraction of the time that NumPy takes for its nodes.
LOOPED = 50_000  # elements computed from which on they pay


def _loops(graph: Graph) -> Callable[..., Any] | None:
    """Return the graph as fused loops, where its arrays are large and there is code for them."""
    if operations(graph) < LOOPED:
        return None
    from koubai.execute import library, loops

    if not library.available():
        return None
    try:
        return loops.compile_loops(graph)
    except Unsuitable:
        return None
    except CompileError as error:
        warnings.warn(CompileWarning(str(error)), stacklevel=2)
        return None


class Program:
    """A compiled graph: ``run(*inputs)`` returns the outputs as a tuple, or None where a guard fails.

    executor: "floats" for a few numbers, "native" for large arrays that loops suit, else "numpy"; source: the generated
    code.
    """

    __slots__ = ("executor", "run", "source")

    def __init__(self, graph: Graph) -> None:
        floats = compile_floats(graph, _Late(graph))
        native = _loops(graph) if floats is None else None
        if floats is not None:
            self.executor, self.run = "floats", floats
        elif native is not None:
            self.executor, self.run = "native", native
        else:
            self.executor, self.run = "numpy", compile_arrays(graph)
        self.source: str = self.run.source  # type: ignore[attr-defined]

    def release(self) -> None:
        """Free the buffers that are kept for the next call, which makes new ones."""
        if self.executor != "floats":
            self.run.release()  # type: ignore[attr-defined]


class _Late:
    """The NumPy program of a graph, compiled when it is first needed."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.run: Callable[..., Any] | None = None

    def __call__(self, *inputs: Any) -> Any:
        if self.run is None:
            self.run = compile_arrays(self.graph)
        return self.run(*inputs)
