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
        floats = compile_floats(graph)
        if floats is None:
            self.run = compile_arrays(graph)
            self.executor = "numpy"
        else:
            self.run = _with_fallback(floats, graph)
            self.executor = "floats"
        self.source: str = self.run.source  # type: ignore[attr-defined]


def _with_fallback(floats: Callable[..., Any], graph: Graph) -> Callable[..., Any]:
    arrays: list[Callable[..., Any]] = []

    def run(*inputs: Any) -> Any:
        results = floats(*inputs)
        if results is NotImplemented:  # Python raised where NumPy gives inf or nan
            if not arrays:
                arrays.append(compile_arrays(graph))
            return arrays[0](*inputs)
        return results

    run.source = floats.source  # type: ignore[attr-defined]
    return run
