"""The layout handed to machine code: the memory that the loop of a descent, in Python or not, reads and writes."""

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
    "SegmentState",
    "T",
    "address",
    "offset_arrays",
    "operations",
    "watched",
]

PAGE = 4096  # bytes
SHIFT = 320  # bytes, from the offset of one array within a page to that of the next: five cache lines


def operations(graph: Graph) -> int:
    """Return how many elements the graph computes."""
    if graph.operations is None:
        computed = [node[3] for node in graph.nodes if node[1] or node[0] not in LEAVES]
        arrays = [shape for shape in computed if shape]
        graph.operations = len(computed) - len(arrays) + sum([math.prod(shape) or 1 for shape in arrays])
    return graph.operations


def _of_interface(array: Any) -> int:
    return array.__array_interface__["data"][0]  # type: ignore[no-any-return]


def _read(array: Any) -> int:
    return _pointer(id(array) + _HEAD).value or 0


_pointer, _HEAD = ctypes.c_void_p.from_address, object.__basicsize__  # the pointer comes first in NumPy's C interface
_known = np.zeros(2)
# the address of an array's first element. To read it from the object takes a tenth of the time of array.ctypes.data
address: Callable[[Any], int] = (
    _read if sys.implementation.name == "cpython" and _read(_known) == _of_interface(_known) else _of_interface
)


class _Address:
    """The address of an array, as a pointer of ctypes has it."""

    def __init__(self, array: Any) -> None:
        self.array = array

    @property
    def value(self) -> int:
        return _of_interface(self.array)


def watched(array: Any) -> Any:
    """Return an object whose ``value`` is where the first element of ``array``, which the caller keeps, is now."""
    return _Address(array) if address is _of_interface else _pointer(id(array) + _HEAD)


def offset_arrays(parts: Sequence[tuple[tuple[int, ...], Any]]) -> list[Any]:
    """Return uninitialised arrays of these shapes and dtypes in one block of memory, each at another offset in a page.

    They are meant to be read and written in one loop. If NumPy allocates large arrays one by one, all of them begin at
    the same offset within a page. A processor compares the lower twelve bits of addresses first, so that a load from
    one seems to depend on a store to another that is not done yet; and all contend for the same few lines of its first
    cache.
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
COLUMNS = ("fun", "grad_norm", "x", "clipped", "projected")  # of a row that a loop writes


@dataclass(frozen=True)
class DescentGraphs:
    """What one step of a descent computes, over flat vectors of ``size`` numbers of one dtype.

    value: (the arrays stored in x, in order) -> f and the gradient for each. update: (x, g, low, high, t, lr, fun,
    *state) -> x, whether it was projected onto the bounds, *state. measure: (x, g, low, high) -> the gradient's norm,
    whether the next update clips it. bounded: the norm may leave out components of the gradient.
    """

    value: Graph
    update: Graph
    measure: Graph
    states: tuple[tuple[int, ...], ...]
    bounded: bool

    def lowered(self, has_code: HasCode) -> DescentGraphs:
        """Return the graphs with the rows that have no code written out in others."""
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
        """Whether it is recorded of each step that the next update is clipped, or x was projected: if either can be."""
        flags = (self.measure.nodes[self.measure.outputs[1]], self.update.nodes[self.update.outputs[1]])
        return any(node.op is not CONSTANT for node in flags)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.update.nodes[self.update.inputs[0]].dtype  # type: ignore[return-value]


# The places in SegmentState.numbers and SegmentState.counts. The loop reads all of the first and third line, and writes
# the second and fourth, FUN and T, as of the last step made.
FUN, GTOL, TARGET, FTOL, XTOL, F_LIMIT, X2_LIMIT = range(7)
BEST, NORM, BEST_NORM = range(7, 10)
T, T_END, LR_STRIDE, FORCED, MASK = range(5)
ROWS, BEST_T, CLIPPED, PROJECTED = range(5, 9)
NUMBERS, COUNTS = 10, 9
_FIELDS, _PLACES = struct.Struct(f"{NUMBERS}d{COUNTS}q"), struct.Struct(f"{1 + len(COLUMNS)}q")
REACHED, REMARKABLE, REFUSED = range(3)
_RATE = 8  # the place of the rates' address in the block, before those of the columns
BIGGEST = float(np.finfo(np.float64).max)
NO_LIMITS = (-1.0, -math.inf, -1.0, -1.0, BIGGEST, BIGGEST)  # GTOL to X2_LIMIT, if no rule for stopping may hold


@dataclass
class SegmentState:
    """The memory of a descent during a segment: the steps that a loop makes without Python.

    x, g, state: of the present point; the loop leaves those of the last one. rows: a column each of fun, grad_norm, x
    and, if there are `flags`, clipped and projected; ROWS of them, one per step that has no bit in common with MASK.
    One row more may be written to. numbers: FUN and BEST are f at the present point and the least so far; best: x, then
    g, of the point where f fell below that, at step BEST_T, if there is one.
    Of a step that is FORCED only the new point is computed, without rows or best.
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
        """Set the rows (None: they are not needed) and rates; the other arrays stay.

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

    def release(self) -> None:
        """Drop all references to arrays of the descent's."""
        self.rows, self.lr = self._nowhere, self._one_rate

    def read(self, captured: Any) -> None:
        self._captured = captured
        self._addresses[-1] = address(captured)
