"""Which executor runs a graph: a fixed rule of the graph alone, never of a clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from koubai.execute.arrays import compile_arrays
from koubai.graph.trace import Graph

__all__ = ["Program", "compile_graph"]


class Program:
    """A compiled graph. ``run(*inputs)`` returns the outputs as a tuple, or None where a guard fails."""

    def __init__(self, run: Callable[..., Any], executor: str) -> None:
        self.run = run
        self.executor = executor


def compile_graph(graph: Graph) -> Program:
    """Compile ``graph`` for the executor that suits it."""
    return Program(compile_arrays(graph), "numpy")
