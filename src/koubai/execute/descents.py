"""What the loop of a descent is given and what it leaves, whatever it is written in."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from koubai.graph.trace import CONSTANT, LEAVES, Graph

__all__ = [
    "BIGGEST",
    "FORCED",
    "FTOL",
    "FUN",
    "F_LIMIT",
    "GTOL",
    "LR_STRIDE",
    "REACHED",
    "REFUSED",
    "REMARKABLE",
    "TARGET",
    "T_END",
    "X2_LIMIT",
    "XTOL",
    "DescentGraphs",
    "Leg",
    "T",
    "address",
    "operations",
]


def operations(graph: Graph) -> int:
    """Return how many elements the graph computes."""
    return sum(max(1, math.prod(node.shape)) for node in graph.nodes if node.op not in LEAVES)


def address(array: Any) -> int:
    """Return where an array's first element lies; a quarter of the time that array.ctypes.data takes."""
    return array.__array_interface__["data"][0]  # type: ignore[no-any-return]


_NOTHING = np.zeros(1)


@dataclass(frozen=True)
class DescentGraphs:
    """What one step of a descent computes, over flat vectors of ``size`` numbers of one dtype.

    value: (the arrays that lie in x, in order) -> f and the gradient for each. update: (x, g, low, high, t, lr, fun,
    *state) -> x, was it projected onto the bounds, *state. measure: (x, g, low, high) -> the gradient's norm, is it
    clipped by the next update.
    """

    value: Graph
    update: Graph
    measure: Graph
    states: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        return self.update.nodes[self.update.inputs[0]].shape[0]

    @property
    def operations(self) -> int:
        """The elements computed in one step."""
        return sum(operations(graph) for graph in (self.value, self.update, self.measure))

    @property
    def flags(self) -> bool:
        """Do rows end with whether the next update is clipped, and x was projected? Not where neither can be."""
        told = (self.measure.nodes[self.measure.outputs[1]], self.update.nodes[self.update.outputs[1]])
        return any(node.op is not CONSTANT for node in told)

    @property
    def width(self) -> int:
        """The numbers in a row."""
        return 2 + 2 * self.size + 2 * self.flags

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.update.nodes[self.update.inputs[0]].dtype  # type: ignore[return-value]


# What the loop reads in Leg.numbers and Leg.counts, by place. T is left at the last step made.
FUN, GTOL, TARGET, FTOL, XTOL, F_LIMIT, X2_LIMIT = range(7)
T, T_END, LR_STRIDE, FORCED = range(4)
REACHED, REMARKABLE, REFUSED = range(3)
BIGGEST = float(np.finfo(np.float64).max)


@dataclass
class Leg:
    """The memory of a descent while it runs in machine code.

    rows: one a step that is made: f, the gradient's norm, x, g, and where there are `flags`, clipped and projected.
    """

    x: Any
    g: Any
    state: Any  # all arrays in one vector
    low: Any
    high: Any
    numbers: Any = field(default_factory=lambda: np.zeros(7))
    counts: Any = field(default_factory=lambda: np.zeros(4, np.int64))
    rows: Any = None
    lr: Any = None

    def __post_init__(self) -> None:
        kept = (self.x, self.g, self.state, self.low, self.high, self.numbers, self.counts)
        self._addresses = np.array([*map(address, kept), 0, 0, address(_NOTHING)], np.int64)
        self.block = address(self._addresses)  # one pointer is passed instead of ten
        if self.rows is not None:
            self.bind(self.rows, self.lr)

    def bind(self, rows: Any, lr: Any) -> None:
        """Take these arrays; the others stay where they are."""
        self.rows, self.lr = rows, lr
        self._addresses[7:9] = address(rows), address(lr)

    def read(self, captured: Any) -> None:
        self._captured = captured
        self._addresses[9] = address(captured)
