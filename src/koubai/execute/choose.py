"""Which executor runs a graph: a fixed rule of the graph alone, never of a clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from koubai.execute.arrays import compile_arrays
from koubai.execute.floats import compile_floats
from koubai.graph.trace import Graph

__all__ = ["Program"]


class Program:
    """A compiled graph: ``run(*inputs)`` returns the outputs as a tuple, or None where a guard fails.

    executor: "floats" for a few numbers, else "numpy"; source: the generated code.
    """

    __slots__ = ("executor", "run", "source")

    def __init__(self, graph: Graph) -> None:
        floats = compile_floats(graph, _Late(graph))
        self.executor = "numpy" if floats is None else "floats"
        self.run = compile_arrays(graph) if floats is None else floats
        self.source: str = self.run.source  # type: ignore[attr-defined]

    def release(self) -> None:
        """Free the buffers that are kept for the next call, which makes new ones."""
        if self.executor == "numpy":
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
