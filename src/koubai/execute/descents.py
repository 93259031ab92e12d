"""What the loop of a descent is given and what it leaves, whatever it is written in."""

from __future__ import annotations

import ctypes
import math
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from koubai.execute.lower import HasCode, lowered
from koubai.graph.graph import CONSTANT, LEAVES, Graph

__all__ = [
    "BEST",
    "BEST_NORM",
    "BEST_T",
    "BIGGEST",
    "CLIPPED",
    "COLUMNS",
    "COUNTS",
    "FORCED",
    "FTOL",
    "FUN",
    "F_LIMIT",
    "GTOL",
    "LR_STRIDE",
    "MASK",
    "NORM",
    "NO_LIMITS",
    "NUMBERS",
    "PROJECTED",
    "REACHED",
    "REFUSED",
    "REMARKABLE",
    "ROWS",
    "TARGET",
    "T_END",
    "X2_LIMIT",
    "XTOL",
    "DescentGraphs",
    "Leg",
    "T",
    "address",
    "operations",
    "staggered",
    "watched",
]

PAGE = 4096  # bytes
SHIFT = 320  # from one array to the next, within a page; five lines of a cache


def operations(graph: Graph) -> int:
    """Return how many elements the graph computes."""
    return sum(max(1, math.prod(node.shape)) for node in graph.nodes if node.op not in LEAVES)


def _told(array: Any) -> int:
    return array.__array_interface__["data"][0]  # type: ignore[no-any-return]


def _read(array: Any) -> int:
    return _pointer(id(array) + _HEAD).value or 0


_pointer, _HEAD = ctypes.c_void_p.from_address, object.__basicsize__  # the pointer comes first in NumPy's C interface
_known = np.zeros(2)
# where an array's first element lies: read there, a tenth of the time that array.ctypes.data takes, if it is there
address: Callable[[Any], int] = (
    _read if sys.implementation.name == "cpython" and _read(_known) == _told(_known) else _told
)


class _Told:
    """An array of which the address is asked for again and again."""

    def __init__(self, array: Any) -> None:
        self.array = array

    @property
    def value(self) -> int:
        return _told(self.array)


def watched(array: Any) -> Any:
    """Return an object whose ``value`` is where the first element of ``array``, which the caller keeps, lies now."""
    return _Told(array) if address is _told else _pointer(id(array) + _HEAD)


def staggered(parts: Sequence[tuple[tuple[int, ...], Any]]) -> list[Any]:
    """Return arrays of these shapes and dtypes, in one block of memory and not set to anything, to be gone through at
    the same time.

    Large arrays begin at the same place of a page each, if NumPy makes them one by one. A load from one then seems to a
    processor, which compares the lower twelve bits of addresses first, to depend on a store to another one that is
    under way, and all of them contend for the same few lines of its first cache. Here each begins somewhere else.
    """
    starts, end = [], 0
    for k, (shape, dtype) in enumerate(parts):
        size = math.prod(shape) * np.dtype(dtype).itemsize
        end = -(-end // 64) * 64
        if size >= PAGE:
            end += (k * SHIFT - end) % PAGE
        starts.append((end, size))
        end += size
    block = np.empty(end + PAGE, np.uint8)
    base = -address(block) % PAGE
    return [
        block[base + start : base + start + size].view(dtype).reshape(shape)
        for (start, size), (shape, dtype) in zip(starts, parts, strict=True)
    ]


_NOTHING = np.zeros(1)
COLUMNS = ("fun", "grad_norm", "x", "clipped", "projected")  # what a loop writes of a row


@dataclass(frozen=True)
class DescentGraphs:
    """What one step of a descent computes, over flat vectors of ``size`` numbers of one dtype.

    value: (the arrays that lie in x, in order) -> f and the gradient for each. update: (x, g, low, high, t, lr, fun,
    *state) -> x, was it projected onto the bounds, *state. measure: (x, g, low, high) -> the gradient's norm, is it
    clipped by the next update. bounded: is there a component of the gradient that the norm may leave out?
    """

    value: Graph
    update: Graph
    measure: Graph
    states: tuple[tuple[int, ...], ...]
    bounded: bool

    def lowered(self, has_code: HasCode) -> DescentGraphs:
        """Return the same with the rows that there is no code for written out in others."""
        value, update, measure = (lowered(graph, has_code) for graph in (self.value, self.update, self.measure))
        return replace(self, value=value, update=update, measure=measure)

    @property
    def size(self) -> int:
        return self.update.nodes[self.update.inputs[0]].shape[0]

    @property
    def operations(self) -> int:
        """The elements computed in one step."""
        return sum(operations(graph) for graph in (self.value, self.update, self.measure))

    @property
    def flags(self) -> bool:
        """Is it told of each step whether the next update is clipped, and x was projected? Not where neither can be."""
        told = (self.measure.nodes[self.measure.outputs[1]], self.update.nodes[self.update.outputs[1]])
        return any(node.op is not CONSTANT for node in told)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.update.nodes[self.update.inputs[0]].dtype  # type: ignore[return-value]


# The places in Leg.numbers and Leg.counts. The loop reads all of the first and third line, and leaves the second and
# fourth, FUN and T as they are after the last step made.
FUN, GTOL, TARGET, FTOL, XTOL, F_LIMIT, X2_LIMIT = range(7)
BEST, NORM, BEST_NORM = range(7, 10)
T, T_END, LR_STRIDE, FORCED, MASK = range(5)
ROWS, BEST_T, CLIPPED, PROJECTED = range(5, 9)
NUMBERS, COUNTS = 10, 9
_FIELDS, _PLACES = struct.Struct(f"{NUMBERS}d{COUNTS}q"), struct.Struct(f"{1 + len(COLUMNS)}q")
REACHED, REMARKABLE, REFUSED = range(3)
_RATE = 8  # the place of the rates' address in the block, before those of the columns
BIGGEST = float(np.finfo(np.float64).max)
NO_LIMITS = (-1.0, -math.inf, -1.0, -1.0, BIGGEST, BIGGEST)  # GTOL to X2_LIMIT, where no rule for stopping is to hold


@dataclass
class Leg:
    """The memory of a descent while a loop makes its steps.

    x, g, state: where it stands, and afterwards where it has come to. rows: of the steps that have no bit in common
    with MASK, ROWS of them, in a column each: fun, grad_norm, x, and where there are `flags`, clipped and projected;
    one more row than are due may be written to. numbers: FUN and BEST are f where it stands and the least so far;
    best: x, then g, of the point where f fell below that, at step BEST_T, if there is one.
    Of a step that is FORCED, where it leads to is all that is asked.
    """

    x: Any
    g: Any
    state: Any  # all arrays in one vector
    low: Any
    high: Any
    rows: Mapping[str, Any] = field(init=False)
    lr: Any = field(init=False)
    best: Any = field(init=False)
    numbers: Any = field(init=False)
    counts: Any = field(init=False)

    def __post_init__(self) -> None:
        fields = np.zeros(NUMBERS + COUNTS)
        self.numbers, self.counts = fields[:NUMBERS], fields[NUMBERS:].view(np.int64)
        self._fields = fields.data.cast("B")  # as bytes: Python reads and writes them ten times as fast
        self.best = np.empty(2 * len(self.x), self.x.dtype)
        flag = np.zeros(1, np.bool_)
        self._nowhere = {"fun": np.zeros(1), "grad_norm": np.zeros(1), "x": np.empty((1, len(self.x)), self.x.dtype)}
        self._nowhere |= {"clipped": flag, "projected": flag}
        self._one_rate = np.zeros(1)
        self._places_nowhere = [address(self._nowhere[name]) for name in COLUMNS]
        kept = (self.x, self.g, self.state, self.low, self.high, self.best, self.numbers, self.counts, self._one_rate)
        self._addresses = np.array([*map(address, kept), *self._places_nowhere, address(_NOTHING)], np.int64)
        self._moving = self._addresses.data.cast("B")
        self._place_of_rate = int(self._addresses[_RATE])
        self.block = address(self._addresses)  # one pointer is passed instead of many

    def bind(self, rows: Any, lr: Any) -> None:
        """Take these rows (None: what is written into them, nobody reads) and rates; the other arrays stay.

        rows: a column each, and the ``places`` of all columns. lr: a number, or an array of them.
        """
        self.rows, places = (self._nowhere, self._places_nowhere) if rows is None else (rows, rows.places)
        if isinstance(lr, float):
            self._one_rate[0] = lr
            self.lr, place = self._one_rate, self._place_of_rate
        else:
            self.lr, place = lr, address(lr)
        _PLACES.pack_into(self._moving, 8 * _RATE, place, *places)

    def fill(self, *fields: float) -> None:
        """Set all of ``numbers``, then all of ``counts``."""
        _FIELDS.pack_into(self._fields, 0, *fields)

    def fields(self) -> tuple[Any, ...]:
        """Return all of ``numbers``, then all of ``counts``."""
        return _FIELDS.unpack_from(self._fields)

    def let_go(self) -> None:
        """Keep no array of the descent's."""
        self.rows, self.lr = self._nowhere, self._one_rate

    def read(self, captured: Any) -> None:
        self._captured = captured
        self._addresses[-1] = address(captured)
