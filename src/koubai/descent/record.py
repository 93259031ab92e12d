"""The result of a descent: Run, its History, and the Status that says why it stopped; saving and loading them."""

from __future__ import annotations

import base64
import contextlib
import copy
import dataclasses
import enum
import functools
import io
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeAlias, TypeVar, overload

import numpy as np

from koubai.descent.files import (
    ArraySpec,
    a_function,
    a_layout,
    a_list,
    a_number,
    a_record,
    a_row,
    a_setting,
    a_text,
    a_whole,
    an_optimizer,
    describe_function,
    describe_layout,
    describe_optimizer,
    one_of,
    optional,
    read_archive,
    restore_function,
    restore_optimizer,
    write_archive,
)
from koubai.descent.optimizers import Optimizer
from koubai.descent.spec import written
from koubai.errors import FunctionError, InputError, MissingPackageError, quiet
from koubai.execute.abi import address
from koubai.messages import reason
from koubai.parameters import FloatArray, Layout, Parameters, flatten, is_structure, leaves, rebuilt

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from koubai.diagnosis import Diagnosis
    from koubai.diagnosis.theory import Theory

__all__ = [
    "COLUMNS",
    "FEW_STEPS",
    "OPTIONS",
    "Call",
    "Epochs",
    "History",
    "Recorder",
    "Rows",
    "Run",
    "Status",
    "Step",
    "Visit",
    "filled",
    "load",
    "rows_of",
]


_Kind = TypeVar("_Kind")


class Status(enum.Enum):
    """The reason why a descent stopped. Each member's ``meaning`` says it in words; only three of them are success.

    Attributes
    ----------
    meaning : str
        The reason in words.
    success : bool
        True for ``converged`` and ``target_reached``, and ``finished``, which only a training can be.

    Examples
    --------
    >>> kb.Status.diverged.meaning, kb.Status.diverged.success
    ('f grew without bound', False)
    """

    converged = "the stopping tolerance was met"
    max_steps = "the step limit came first"
    diverged = "f grew without bound"
    nonfinite = "f or its gradient is no longer finite"
    stalled = "x no longer changes though the gradient is not small"
    noise_floor = "the gradient can't be told from its own error"
    target_reached = "f reached the target"
    finished = "the training is over: all epochs were made, or it was stopped early as asked"
    stopped = "stopped by the caller"

    @property
    def meaning(self) -> str:
        return self.value

    @property
    def success(self) -> bool:
        """True for ``converged`` and ``target_reached``, and ``finished``, which only a training can be."""
        return self in _SUCCESSES

    def __str__(self) -> str:
        return self.name


_SUCCESSES = (Status.converged, Status.target_reached, Status.finished)


@dataclass(frozen=True)
class Step:
    """One point of the path, as `iterate` yields it and ``on_step`` gets it.

    ``x`` and ``g`` are copies; later steps do not overwrite them.

    Attributes
    ----------
    t : int
        Updates made so far.
    x : in the form of x0
        The point.
    f : float
        f(x).
    g : in the form of x0
        The gradient at x.
    lr : float
        The rate of the update that follows.
    """

    t: int
    x: Any
    f: float
    g: Any
    lr: float


@dataclass(frozen=True)
class Epochs:
    """A stochastic descent, epoch by epoch; arrays of the shape (epochs,).

    t: updates made by its end. fun: mean loss along the epoch, every sample with the same weight. grad_norm: largest
    |component| of the mean gradient. noise: the distance of a batch's gradient from the mean one, root mean square; x
    moves on during an epoch, so fun lags behind and noise is a little too large.

    The training of a network adds: lr, of the epoch's last update; accuracy, the share of samples that were classified
    rightly along the epoch; validation_fun, validation_accuracy: after the epoch, on the data held back; and for each
    of its ``layers`` with parameters, shape (epochs, layers): layer_grad_norm, the Euclidean norm of the gradient, and
    layer_update_ratio, the norm of the update over the norm of the weights, means over steps spread along the epoch.
    What was not asked for is None; a training with record="off" keeps nothing of its gradients.
    """

    t: np.ndarray[Any, np.dtype[np.int64]]
    fun: FloatArray
    grad_norm: FloatArray | None = None
    noise: FloatArray | None = None
    lr: FloatArray | None = None
    accuracy: FloatArray | None = None
    validation_fun: FloatArray | None = None
    validation_accuracy: FloatArray | None = None
    layer_grad_norm: FloatArray | None = None
    layer_update_ratio: FloatArray | None = None
    layers: tuple[str, ...] = ()

    @classmethod
    def of(cls, rows: Sequence[tuple[int, float, float, float]], wants_metrics: bool = True, **more: Any) -> Epochs:
        """Make it of a `BatchIterator`'s rows. wants_metrics: with what they say of the gradients."""
        t, *columns = zip(*rows, strict=True) if rows else ((), (), (), ())
        fun, *gradients = (np.array(column, dtype=np.float64) for column in columns)
        return cls(np.array(t, dtype=np.int64), fun, *(gradients if wants_metrics else ()), **more)

    def __len__(self) -> int:
        return len(self.t)

    def arrays(self) -> dict[str, Any]:
        """Return the columns that there are, by name."""
        columns = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "layers"}
        return {name: column for name, column in columns.items() if column is not None}


def filled(kind: type[_Kind], **fields: Any) -> _Kind:
    """Return a frozen dataclass with these fields; its own __init__ sets one after the other, which takes longer."""
    made = object.__new__(kind)
    object.__setattr__(made, "__dict__", fields)
    return made


class Call(NamedTuple):
    """How a descent was called, so that it can be made again from its start.

    make: what was called; f: its function, or the network; start, layout: its parameters, flat; options: its other
    arguments by name. source: of a training, what gives the batches of an epoch.
    """

    make: Callable[..., Run]
    f: Callable[..., Any]
    start: FloatArray
    layout: Layout
    options: Mapping[str, Any]
    source: Any = None

    def again(self, **changes: Any) -> Run:
        """Make it again, with these arguments changed. lr: also of an optimizer that brings its own."""
        options = {**self.options, **changes}
        if "optimizer" in changes and "lr" not in changes:
            options |= {"lr": None} if "lr" in options else {}
        elif "lr" in changes and isinstance(options["optimizer"], Optimizer):
            options["optimizer"] = copy.copy(options["optimizer"])
            options["optimizer"].lr = options.pop("lr")
        f, x0 = options.pop("f", self.f), options.pop("x0", None)
        return self.make(f, self.layout.copy(self.start) if x0 is None else x0, **options)


class Visit(NamedTuple):
    """A row of a `History`: the point x after t updates, f and the largest |gradient component| there, the rate next.

    fun is also called f, as in a `Step`; clipped, projected: as in the history.
    """

    t: int
    x: Any
    fun: float
    grad_norm: float
    lr: float
    clipped: bool
    projected: bool

    @property
    def f(self) -> float:
        return self.fun


@dataclass(frozen=True, repr=False)
class History:
    """The path. Row i of every array belongs to the same point: ``fun[i] == f(x[i])`` after ``t[i]`` updates.

    A long run over many parameters is thinned to every 2nd, 4th, 8th … step, as ``stride`` says; the first and the
    last row always stay. With record="auto" there are at most 100,001 rows and 200 MB, from 64 rows on 64 MB.
    Iteration and an index give the rows, as `Visit`; printing shows a table of them, `to_dataframe` all of it.

    Attributes
    ----------
    t : array of int, shape (rows,)
        Updates made so far.
    x : array, shape (rows, *shape of x), or a structure of such arrays
        The points.
    fun, grad_norm, lr : arrays, shape (rows,)
        f; the largest absolute component of the (projected) gradient, the number that gtol is compared with; the rate
        of the update that follows. In a stochastic descent the first two are those of the step's mini-batch.
    clipped, projected : arrays of bool, shape (rows,)
        Whether the update that follows row i clips its gradient; whether the update that led to row i left the bounds
        and was put back onto them (a line search never leaves them).
    epochs : Epochs or None
        A stochastic descent, epoch by epoch.
    stride : int
        Steps between two rows, but for the last one: 1 if every step has its row.

    Examples
    --------
    >>> path = kb.minimize(lambda x: x**2, 1.0, lr=0.1, max_steps=2).history
    >>> path.t, path.x.round(3)
    (array([0, 1, 2]), array([1.  , 0.8 , 0.64]))
    >>> path[1].grad_norm
    1.6
    """

    t: np.ndarray[Any, np.dtype[np.int64]]
    x: Any
    fun: FloatArray
    grad_norm: FloatArray
    lr: FloatArray
    clipped: np.ndarray[Any, np.dtype[np.bool_]]
    projected: np.ndarray[Any, np.dtype[np.bool_]]
    epochs: Epochs | None = None

    def __getattr__(self, name: str) -> Any:
        """Make the columns when the first of them is read: an unused history takes no time."""
        later = self.__dict__.get("later")
        if later is None or name.startswith("__"):
            raise AttributeError(f"a History has no {name!r}", name=name, obj=self)
        self.__dict__.update(later())
        self.__dict__.pop("later", None)
        return getattr(self, name)

    def __getstate__(self) -> dict[str, Any]:
        self.t  # noqa: B018 - all columns are made
        return self.__dict__

    def __len__(self) -> int:
        return len(self.t)

    @property
    def stride(self) -> int:
        """How many steps are between two rows, except before the last one: 1 if every step has its row."""
        return int(self.t[1] - self.t[0]) if len(self.t) > 1 else 1

    @property
    def _size(self) -> str:
        thinned = f", thinned to every {self.stride} steps" if len(self) > 2 and self.stride > 1 else ""
        return f"{len(self)} row{'s' * (len(self) != 1)}{thinned}"

    @overload
    def __getitem__(self, row: int) -> Visit: ...

    @overload
    def __getitem__(self, row: slice) -> list[Visit]: ...

    def __getitem__(self, row: int | slice) -> Visit | list[Visit]:
        if isinstance(row, str):
            raise InputError(f"a history's columns are attributes, {', '.join(('t', 'x', *COLUMNS))}; got {row!r}")
        if isinstance(row, slice):
            return [self[k] for k in range(len(self))[row]]
        parts = [part[row].copy() if part.ndim > 1 else part[row] for part in leaves(self.x)]
        numbers = [getattr(self, name)[row].item() for name in ("t", *COLUMNS)]
        return Visit(numbers[0], rebuilt(self.x, iter(parts)), *numbers[1:])

    def __iter__(self) -> Iterator[Visit]:
        return map(self.__getitem__, range(len(self)))

    def to_dataframe(self) -> pandas.DataFrame:
        """Return the path as a pandas DataFrame: one row per point, its columns, and one for each element of x.

        Raises MissingPackageError if pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise MissingPackageError("a DataFrame needs", "pandas") from None
        layout, _ = flatten(self[0].x)
        x = rows_of(self.x, layout)
        columns = {name: getattr(self, name) for name in ("t", *COLUMNS)}
        return pandas.DataFrame(columns | {layout.label(i): x[:, i] for i in range(layout.size)})

    def _cells(self) -> list[list[str]]:
        """Return the text of a table: the head, and as many rows and columns as one can read."""
        size, rows = len(self), [*range(len(self))]
        if size > 12:
            rows = [*range(6), *range(size - 5, size)]
        layout, _ = flatten(self[0].x)
        elements = [*range(layout.size)] if layout.size <= 6 else [0, 1, 2, layout.size - 2, layout.size - 1]
        cells = [["t", *map(layout.label, elements), "fun", "grad_norm", "lr"]]
        for row in map(self.__getitem__, rows):
            x = flatten(row.x)[1][elements]
            cells.append([f"{number:.7g}" for number in (row.t, *x.tolist(), row.fun, row.grad_norm, row.lr)])
        if size > 12:
            cells.insert(7, ["…"] * len(cells[0]))
        if layout.size > 6:
            for line in cells:
                line.insert(4, "…")
        return cells

    def __repr__(self) -> str:
        if not len(self):
            return "History: no rows"
        cells = self._cells()
        width = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        lines = ["  ".join(cell.rjust(w) for cell, w in zip(row, width, strict=True)) for row in cells]
        return "\n".join([f"History: {self._size}", *lines])

    def _repr_html_(self) -> str:
        """The table for notebooks."""
        import html

        if not len(self):
            return "<p>History: no rows</p>"
        rows = ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self._cells()]
        rows[0] = rows[0].replace("td>", "th>")
        return f"<table>{''.join(rows)}</table><p>{self._size}</p>"


COLUMNS = {"fun": np.float64, "grad_norm": np.float64, "lr": np.float64, "clipped": np.bool_, "projected": np.bool_}


Row: TypeAlias = tuple[int, FloatArray, float, float, float, bool, bool]  # t, x, and the columns


class _Block:
    """A block of memory for NumPy; when the last array in it is gone, it is kept for a while, for the next record.

    New memory takes the system longer to provide than a compiled loop takes to fill it.
    """

    SPARE, LEAST, LARGEST = 2, 2**16, 2**23  # how many are kept, and of how many bytes
    FEW = 2**12  # bytes, which are all set to 0 in less time than a part of them
    spare: ClassVar[list[Any]] = []

    def __init__(self, size: int) -> None:
        self.memory = np.empty(0, np.uint8)
        with contextlib.suppress(IndexError):
            self.memory = self.spare.pop()
        if not size <= self.memory.nbytes <= 4 * size:
            self.memory = np.empty(size, np.uint8)
        self.__array_interface__ = self.memory[:size].__array_interface__

    def __del__(self) -> None:
        if len(self.spare) < self.SPARE and self.memory.nbytes <= self.LARGEST:
            self.spare.append(self.memory)


# Of a row besides x, which is between the two: so all are aligned.
_NUMBERS, _FLAGS = 4, 2  # columns of eight bytes per row, and of one
_WIDTH = 8 * _NUMBERS + _FLAGS
_WHOLE, _NUMBER, _FLAG = np.dtype(np.int64), np.dtype(np.float64), np.dtype(np.bool_)


class Rows:
    """The memory of a record's rows, one block with a column after the other.

    A loop in machine code knows the columns by their addresses. NumPy's arrays of them are made when they are
    needed, and what Python knows of single rows and rates is written then too: most of a short descent's time
    would go there. An index gives a column from the ``first`` row on, which a loop writes.
    """

    __slots__ = ("_arrays", "_rates", "_rows", "block", "first", "layout", "room", "starts")

    def __init__(self, layout: Layout, room: int) -> None:
        self.layout, self.room = layout, room
        row = layout.size * layout.dtype.itemsize
        size = room * (_WIDTH + row)
        flags = size - _FLAGS * room
        if size <= _Block.FEW:
            self.block = np.zeros(size, np.uint8)
        else:
            self.block = np.empty(size, np.uint8) if size < _Block.LEAST else np.asarray(_Block(size))
            self.block[flags:] = 0
        self.starts = 8 * room, 16 * room, 8 * _NUMBERS * room, flags, flags + room  # as descents.COLUMNS
        self.first = 0
        self._arrays: dict[str, Any] | None = None
        self._rows: list[tuple[int, Row]] = []
        self._rates: list[tuple[int, int, Any]] = []

    def put(self, k: int, row: Row) -> None:
        """Write a step into row ``k``. Its x must stay as it is until the arrays are made."""
        if self._arrays is None:
            self._rows.append((k, row))
        else:
            self._write(self._arrays, k, row)

    def put_rates(self, begin: int, end: int, rates: float | FloatArray) -> None:
        """Write the rates of these rows."""
        if self._arrays is None:
            self._rates.append((begin, end, rates))
        else:
            self._arrays["lr"][begin:end] = rates

    @property
    def waiting(self) -> int:
        """How many single rows are not written yet."""
        return len(self._rows)

    @property
    def arrays(self) -> dict[str, Any]:
        """The columns, with room for all rows."""
        if self._arrays is None:
            arrays = self._viewed()
            for begin, end, rates in self._rates:
                arrays["lr"][begin:end] = rates
            for k, row in self._rows:
                self._write(arrays, k, row)
            self._rows.clear()
            self._arrays = arrays
        return self._arrays

    def _viewed(self) -> dict[str, Any]:
        rows, block, array = self.room, self.block, np.ndarray
        fun, norm, x, clipped, projected = self.starts
        return {
            "t": array(rows, _WHOLE, block), "fun": array(rows, _NUMBER, block, fun),
            "grad_norm": array(rows, _NUMBER, block, norm), "lr": array(rows, _NUMBER, block, norm + fun),
            "x": array((rows, self.layout.size), self.layout.dtype, block, x),
            "clipped": array(rows, _FLAG, block, clipped), "projected": array(rows, _FLAG, block, projected),
        }  # fmt: skip

    @staticmethod
    def _write(arrays: dict[str, Any], k: int, row: Row) -> None:
        _, x, fun, grad_norm, lr, clipped, projected = row
        arrays["x"][k], arrays["clipped"][k], arrays["projected"][k] = x, clipped, projected
        arrays["fun"][k], arrays["grad_norm"][k], arrays["lr"][k] = fun, grad_norm, lr

    def __getitem__(self, name: str) -> Any:
        return self.arrays[name][self.first :]

    @property
    def places(self) -> tuple[int, ...]:
        """Where the ``first`` row of each column that a loop writes is in memory, as descents.COLUMNS."""
        begin, k = address(self.block), self.first
        fun, norm, x, clipped, projected = self.starts
        x += k * self.layout.size * self.layout.dtype.itemsize
        return begin + fun + 8 * k, begin + norm + 8 * k, begin + x, begin + clipped + k, begin + projected + k

    def history(self, rows: int, stride: int, last: int | None, epochs: Epochs | None, is_copied: bool) -> History:
        """Return the first rows as a history: made now if they are copied, else when it is read.

        last: the step of the last row, if it is not that of its place. is_copied: so that the block may go.
        """

        def columns() -> dict[str, Any]:
            t = self.arrays["t"]
            t[:rows] = np.arange(0, rows * stride, stride)
            if last is not None:
                t[rows - 1] = last
            found = {name: column[:rows] for name, column in self.arrays.items()}
            if is_copied:
                found = {name: column.copy() for name, column in found.items()}
            return found | {"x": self.layout.view(found["x"])}

        return (
            filled(History, **columns(), epochs=epochs) if is_copied else filled(History, later=columns, epochs=epochs)
        )


FEW_STEPS = 62  # of a search; few need more. With the first and the last one 64 rows


class Recorder:
    """Collects the rows of a History in bounded memory.

    record="auto" keeps every row until ``ROWS`` rows, ``numbers`` numbers in more than ``FEW`` rows, or ``BYTES`` bytes
    are held, then every second one of them, and so on; "all" keeps every row; "off" keeps the first and the last.
    steps: how many may come, if that is known: room for all of them is taken at once, if it is little.

    Row k is that of step ``k * stride``. There is one array per column, which a loop in machine code may write
    itself, between `reserve` and `take`.
    """

    ROWS = 100_001  # of 100,000 steps, each has its own
    NUMBERS = 8_000_000  # 64 MB of float64
    FEW = 64
    BYTES = 200_000_000
    SMALL = 2**13  # bytes: not worth a copy
    WAITING = 16  # small rows that are not written until the arrays are made: a short descent's never are

    stride: int = 1
    count: int = 0
    last: Row | None = None
    _columns: Rows | None = None
    _room: int = 0  # it grows by doubling; ``count`` rows of it are in use

    def __init__(
        self, layout: Layout, record: Literal["auto", "all", "off"], numbers: int = NUMBERS, steps: int = 0
    ) -> None:
        if record not in ("auto", "all", "off"):
            raise InputError(f"record must be 'auto', 'all' or 'off', got {record!r}")
        self.layout = layout
        self.record = record
        self.at_once = numbers != self.NUMBERS  # all the room is taken with the first row, as steps shall not take any
        width, self.limit, self._first = self._rooms(
            layout.size, layout.dtype.itemsize, record, numbers, int(steps), self.ROWS
        )
        self._width = width
        self._waiting = 0 if self.at_once or width > self.SMALL else self.WAITING

    @classmethod
    @functools.lru_cache(8)
    def _rooms(
        cls, size: int, itemsize: int, record: Literal["auto", "all", "off"], numbers: int, steps: int, most: int
    ) -> tuple[int, int, int]:
        """Return the bytes of a row, how many rows are kept of at ``most``, and for how many there is room at first."""
        width = _WIDTH + size * itemsize
        fits = min(cls.FEW, cls.BYTES // width - 2)  # with the last row and one to spare
        limit = max(2, 0 if numbers != cls.NUMBERS else fits, min(most, numbers // size))
        rows = 2 if record == "off" else min(steps, limit) + 2  # the first one, and one to spare
        return width, limit, rows if rows * width <= _Block.LARGEST else min(64, limit + 2)

    def _take_room(self, rows: int) -> None:
        """Take memory for this many rows."""
        before = self.arrays() if self.count else None
        self._room, self._columns = rows, Rows(self.layout, rows)
        if before is not None:
            for name, column in before.items():
                self._columns.arrays[name][: self.count] = column

    def is_due(self, t: int) -> bool:
        """Return whether step ``t``, the next one that is added, gets a row."""
        return not t % self.stride and (self.record != "off" or not self.count)

    def add(
        self,
        t: int,
        x: FloatArray,
        fun: float,
        grad_norm: float,
        lr: float,
        clipped: bool = False,
        projected: bool = False,
    ) -> None:
        """Add the row of step ``t``. The caller must not change ``x``; a training may, once the next row is added, but
        never the start's.
        """
        self.last = row = (t, x, fun, grad_norm, lr, clipped, projected)
        count = self.count
        if t % self.stride or (count and self.record == "off"):  # as in `is_due`
            return
        if count >= self._room:
            self._make_room(1)
        columns = self._columns
        if count and columns.waiting >= self._waiting:  # type: ignore[union-attr]
            columns.arrays  # type: ignore[union-attr]  # noqa: B018 - they are made, so that x is copied
        columns.put(count, row)  # type: ignore[union-attr]
        self.count = count + 1
        if count >= self.limit:
            self._thin()

    def add_rows(self, rows: Mapping[str, Any], last: Row) -> None:
        """Add many rows at once, a column each, all of them due; ``last``: the row of the latest step, due or not."""
        self.last = last
        if more := len(rows["x"]):  # a training of no epochs has none
            self._make_room(more)
            for name in ("x", *COLUMNS):
                self._held[name][self.count : self.count + more] = rows[name]
            self.count += more
            self._thin()

    def reserve(self, t: int, end: int) -> tuple[int, int, Rows]:
        """Make room for the rows of a loop that goes on from step ``t``.

        Return the step up to which it may go, ``end`` at most; a mask with which every step that is due has no bit in
        common; and the rows from the next one on: one more than will be due. Flags that are not written are
        False.
        """
        if self.record == "off":
            due, mask = 0, -1
        else:
            if self.record == "auto":  # up to the step at which the rows are thinned
                end = min(end, (t // self.stride + self.limit + 2 - self.count) * self.stride - 1)
            due, mask = end // self.stride - t // self.stride, self.stride - 1
        k = self.count
        if k + due >= self._room:
            self._make_room(due + 1)
        columns = self._columns
        assert columns is not None
        columns.first = k
        return end, mask, columns

    def take(self, begin: int, rates: float | FloatArray, last: Row) -> None:
        """Add the rows that a loop wrote after step ``begin``: all columns but lr.

        rates: those of the updates after ``begin`` and the steps that follow it, or one for all of them.
        """
        self.last = last
        if self.record != "off":
            stride, end = self.stride, last[0]
            due = end // stride - begin // stride
            after = rates if isinstance(rates, float) else rates[stride - begin % stride :: stride][:due]
            self._columns.put_rates(self.count, self.count + due, after)  # type: ignore[union-attr]
            self.count += due
            if self.count > self.limit:
                self._thin()

    def _make_room(self, more: int) -> None:
        if self.count + more > self._room:
            room = max(self._first, 2 * self._room, self.count + more)
            if self.record == "auto":
                room = max(self.limit + 2 if self.at_once else min(room, self.limit + 2), self.count + more)
            self._take_room(room)

    def _thin(self) -> None:
        while self.record == "auto" and self.count > self.limit:
            kept = (self.count + 1) // 2
            for held in self.arrays().values():
                begin = 1
                while begin < kept:  # in parts that do not overlap, which NumPy would copy first
                    end = min(2 * begin, kept)
                    held[begin:end] = held[2 * begin : 2 * end : 2]
                    begin = end
            for flags in ("clipped", "projected"):
                self._held[flags][kept:] = False
            self.count = kept
            self.stride *= 2

    @property
    def _held(self) -> dict[str, Any]:
        """The columns."""
        return {} if self._columns is None else self._columns.arrays

    def arrays(self) -> dict[str, Any]:
        """Return the rows so far, x and the columns, as views."""
        return {name: self._held[name][: self.count] for name in ("x", *COLUMNS)} if self.count else {}

    def history(self, epochs: Epochs | None = None) -> History:
        """Return the rows so far, the last one included. They stay as they are: for any row that follows, other memory
        is taken.
        """
        rows, row, last = self.count, self.last, None
        if row is not None and row[0] != (rows - 1) * self.stride:  # its step is not due
            self._make_room(1)
            last = row[0]
            self._columns.put(rows, (last, row[1].copy(), *row[2:]))  # type: ignore[union-attr]
            rows += 1
        columns = self._columns or Rows(self.layout, 0)
        is_copied = 2 * rows < self._room and self._room * self._width > self.SMALL
        history = columns.history(rows, self.stride, last, epochs, is_copied)
        self._room = self.count
        return history


@dataclass(frozen=True, repr=False)
class Run:
    """The result of a descent. ``x``, ``fun`` and ``jac`` belong together: fun == f(x), jac is the gradient there.

        covariance = r·r / (m - n) * (J'J)⁻¹        at x, for m residuals r and n parameters

    The scale of the residuals is taken from their own size, as SciPy's curve_fit does with absolute_sigma=False; a
    factor before the sum and weights known only up to one do not matter. Residuals of weight 0 do not count, terms such
    as a penalty do. A parameter held by equal bounds has none of it (0) and does not count in n; of one that ended on a
    bound it is not known (NaN). If m ≤ n, or the residuals do not tell the parameters apart, it is inf.

    Attributes
    ----------
    x, jac : in the form of x0
        The last point and the gradient there.
    fun : float
        f(x).
    best_x, best_fun : in the form of x0, float
        The point with the least f ever visited.
    nit, nfev, njev : int
        Updates made; evaluations of f, and of the gradient callable (differences count in nfev).
    status : Status
        Why it stopped.
    success : bool
        True only for ``converged``, ``target_reached`` and a training that ``finished``.
    message : str
        Why it stopped, in a sentence.
    history : History
        The path.
    executor, executor_reason : str
        What ran the descent: "native" (machine code), "numpy", "floats" or "python"; why machine code did, or why not.
    gradient_source : str
        Where the gradient came from.
    optimizer, optimizer_reason : Optimizer, str
        The optimizer (its description if a file could not hold it), and why this one.
    seed : int or None
        The seed.
    options : dict
        The arguments of `minimize`.
    function : callable
        f.
    covariance : array, shape (n, n), or None
        The covariance of the parameters after least squares (`LevenbergMarquardt`), in the order of the flat vector.
    stderr : in the form of x, or None
        The roots of its diagonal, the standard errors.
    covariance_of : callable or None
        What computes the covariance when it is asked for.
    progress : object
        What a `koubai.fit` with resume=run goes on from; None after anything else, and in a run from a file.
    failed_x : in the form of x0, or None
        The point after the last one, where f or the gradient was not finite; not in a file.
    call : Call or None
        What `again` needs; None in a run from a file, or one that a checkpoint was gone on from.

    Examples
    --------
    >>> run = kb.minimize(lambda x: (x[0] - 1) ** 2 + (x[1] - 2) ** 2, [-3.0, 4.0], lr=0.1)
    >>> run.success, run.nit, run.x.round(4)
    (True, 72, array([1., 2.]))
    """

    x: Any
    fun: float
    jac: Any
    nit: int
    nfev: int
    njev: int
    status: Status
    message: str
    best_x: Any
    best_fun: float
    history: History
    executor: str
    executor_reason: str
    gradient_source: str
    optimizer: Optimizer | str
    optimizer_reason: str
    seed: int | None
    options: dict[str, Any]
    function: Callable[[Parameters], Any] = field(compare=False)
    covariance_of: Callable[[], FloatArray] | None = field(default=None, compare=False)  # what was known at the end
    progress: Any = field(default=None, compare=False)
    call: Call | None = field(default=None, compare=False)
    failed_x: Any = field(default=None, compare=False)

    @functools.cached_property
    def covariance(self) -> FloatArray | None:
        """The covariance of the parameters, computed when it is asked for; None after anything but least squares."""
        with quiet():  # the descent's own silence is over
            return None if self.covariance_of is None else self.covariance_of()

    @property
    def stderr(self) -> Any:
        """The standard errors of the parameters, in the form of x; None if there is no covariance."""
        if self.covariance is None:
            return None
        layout, _ = flatten(self.x)
        return layout.view(np.sqrt(np.diag(self.covariance)))

    @property
    def success(self) -> bool:
        return self.status.success

    @property
    def spec(self) -> dict[str, Any]:
        """The specification of the run, in JSON's types: the function, the start, the optimizer, the options, the seed.

        `koubai.minimize` takes it and makes the same descent again; so does `koubai minimize --spec FILE`. A function
        that koubai can't write down (anything but an expression or a problem) is only named.
        """
        layout, _ = flatten(self.x)
        first = rows_of(self.history.x, layout)[0]
        start = layout.view(first)
        x0 = layout.assembled([part.tolist() for part in layout.parts(start)])
        return written(self.function, x0, self.optimizer, self.options, self.seed)

    def again(self, **changes: Any) -> Run:
        """Make the descent again from its start, with these arguments of the call changed.

        What is remembered is the function and the data themselves: what has changed in them since, has changed here.
        f: another function, or another network, which begins with weights of its own.
        Raises InputError for a run from a file, which does not hold the function.
        """
        if self.call is None:
            raise InputError("this run comes from a file, which does not hold the call: call minimize or fit once more")
        return self.call.again(**changes)

    def diagnose(self, *, lang: str | None = None) -> Diagnosis:
        """Say why the descent ended as it did, with what was measured, and what would help; see `koubai.diagnose`."""
        from koubai.diagnosis import diagnose

        return diagnose(self, lang=lang)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        minima: Iterable[Any] = (),
        title: str | None = None,
        legend: bool = True,
        surface: bool = False,
    ) -> Axes:
        """Draw the path: arrows on the curve (1-D), over contours (2-D), else f and gradient norm against the step.

        A second run on the same axes joins the first one. surface: a path of two parameters on the surface of f, in
        three dimensions. minima, title, legend: as in `koubai.plot.run` and `koubai.plot.surface`.
        """
        from koubai import plot

        if surface:
            return plot.surface(self, minima=minima, title=title, legend=legend, ax=ax)
        return plot.run(self, minima=minima, title=title, legend=legend, ax=ax)

    def animate(self, path: str | os.PathLike[str]) -> Path:
        """Write the descent as a moving picture (.gif, .html): its path grows on the curve (1-D) or the contours (2-D).

        Returns the path of the file. Raises InputError for a run of more parameters, or with mini-batches.
        """
        from koubai.plot import animate

        return animate(self, path)

    def theory(self, **options: Any) -> Theory:
        """Check the theory of convergence on the run: curvatures, stability bound, descent lemma, rates.

        options: as `koubai.diagnosis.theory.theory` takes them.
        """
        from koubai.diagnosis.theory import theory

        return theory(self, **options)

    def to_dataframe(self) -> pandas.DataFrame:
        """Return the history as a pandas DataFrame; see `History.to_dataframe`."""
        return self.history.to_dataframe()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the run: an .npz file of its arrays with a JSON header, whole or not at all; `load` reads it.

        The function itself is not saved, unless it is an expression or a problem of the catalogue.
        """
        layout, x = flatten(self.x)
        names = (
            *("fun", "nit", "nfev", "njev", "message", "best_fun", "executor", "executor_reason", "gradient_source"),
            *("optimizer_reason", "seed", "options"),
        )
        header = {name: getattr(self, name) for name in names} | {
            "status": self.status.name,
            "layout": describe_layout(layout),
            "optimizer": describe_optimizer(self.optimizer),
            "function": describe_function(self.function),
        }
        history = {f"history.{name}": getattr(self.history, name) for name in ("t", *COLUMNS)}
        if self.history.epochs is not None:
            history |= {f"epochs.{name}": column for name, column in self.history.epochs.arrays().items()}
            header |= {"layers": self.history.epochs.layers}
        points = {"x": x, "jac": layout.match(self.jac, "jac"), "best_x": layout.match(self.best_x, "best_x")}
        if self.covariance is not None:
            points |= {"covariance": self.covariance}
        write_archive(path, "run", header, points | history | {"history.x": rows_of(self.history.x, layout)})

    def picklable(self) -> Run:
        """Return the run as it can be pickled: as from a file if its function, or its lr, can't be pickled."""
        optimizer: Any = self.optimizer if _is_picklable(self.optimizer) else describe_optimizer(self.optimizer)
        function = self.function
        if not _is_picklable(function):
            function = restore_function(describe_function(function))
        progress = self.progress if _is_picklable(self.progress) else None
        call = self.call if _is_picklable(self.call) else None
        return dataclasses.replace(self, function=function, optimizer=optimizer, progress=progress, call=call)

    def __repr__(self) -> str:
        lines = [f"Run: {self.status} — {self.message}"]
        for name in ("x", "fun", "best_x", "best_fun", "nit", "nfev", "njev", "gradient_source", "optimizer"):
            value = getattr(self, name)
            if name == "optimizer":
                lines.append(f"  {name:>15}: {value!r} ({self.optimizer_reason})")
                continue
            shown = _short(value) if isinstance(value, np.ndarray) or is_structure(value) else repr(value)
            lines.append(f"  {name:>15}: {shown}")
        if self.options.get("record") == "auto" and self.history.stride > 1:
            lines.append(f"  {'history':>15}: thinned to every {self.history.stride} steps, {len(self.history)} rows")
        return "\n".join(lines)

    def _verdict(self) -> str:
        """Return what `diagnose` finds wrong, as HTML; empty if nothing is, or f is not at hand."""
        import html

        try:
            found = self.diagnose()
        except InputError:
            return ""
        return f"<p>{html.escape(found.summary)}</p>" if found.is_fault else ""

    def _repr_html_(self) -> str:
        """A card for notebooks: why it stopped, where, at what cost, and a small picture of the path."""
        import html

        facts = {
            "x": self.x, "f(x)": self.fun, "best f": self.best_fun, "steps": self.nit, "evaluations of f": self.nfev,
            "gradient": self.gradient_source, "optimizer": f"{self.optimizer} ({self.optimizer_reason})",
        }  # fmt: skip
        table = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(_short(value))}</td></tr>"
            for name, value in facts.items()
        )
        mark = "✓" if self.success else "✗"
        why = html.escape(reason(self.status.name, self.message))
        return (
            "<div style='display:flex;gap:1.5em;align-items:flex-start'><div>"
            f"<b>{mark} {self.status}</b><br>{why}<table>{table}</table>{self._verdict()}</div>"
            f"<img alt='the path' style='max-width:20em' src='data:image/png;base64,{_thumbnail(self)}'></div>"
        )


def load(path: str | os.PathLike[str], f: Callable[[Parameters], Any] | None = None) -> Run:
    """Load a run that `Run.save` wrote. Everything in it has the bits that were saved.

    Parameters
    ----------
    path : str or path
        The file.
    f : callable, optional
        The function of the run, which is not in the file unless it was an expression or a problem of the catalogue;
        without it the run can be read but not drawn over contours.

    Returns
    -------
    Run
        The run.

    Raises
    ------
    InputError
        If the file is not such a run.

    Examples
    --------
    >>> import os, tempfile
    >>> run = kb.minimize(kb.parse("x**2"), 3.0, lr=0.1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run.save(os.path.join(folder, "run.npz"))
    ...     print(kb.load(os.path.join(folder, "run.npz")).x == run.x)
    True
    """
    archive = read_archive(path, "run", _RUN)
    header, arrays = archive.header, archive.arrays
    with archive.building():
        layout, layers = header.pop("layout"), header.pop("layers", None)
        archive.expect(_arrays_of_a_run(layout, layers))
        t = arrays["history.t"]
        if not len(t) or not (t[1:] > t[:-1]).all():
            raise InputError("its history has no steps that follow one another")
        epochs = {name.removeprefix("epochs."): array for name, array in arrays.items() if name.startswith("epochs.")}
        history = History(
            t=t,
            x=layout.view(arrays["history.x"]),
            **{name: arrays[f"history.{name}"] for name in COLUMNS},
            epochs=None if layers is None else Epochs(**epochs, layers=tuple(layers)),
        )
        return Run(
            **{name: layout.copy(arrays[name]) for name in ("x", "jac", "best_x")},
            **header
            | {
                "history": history,
                "status": Status[header["status"]],
                "optimizer": restore_optimizer(header["optimizer"]),
                "function": f or restore_function(header["function"]),
                "covariance_of": partial(np.copy, found) if (found := arrays.get("covariance")) is not None else None,
            },
        )


OPTIONS = {  # the options of a descent or a training, as they are in a file
    "grad": a_text,
    "bounds": optional(a_list(a_row(optional(a_number()), optional(a_number())))),
    "record": one_of("auto", "all", "off"),
    "max_steps": a_whole(),
    **dict.fromkeys(("gtol", "ftol", "xtol"), optional(a_number(0))),
    "target": optional(a_number(finite=False)),
    "epochs": a_whole(),
    "batch_size": a_setting,
    "patience": optional(a_whole(1)),
    "min_delta": a_number(0),
}

_RUN = a_record(
    {
        "fun": a_number(),
        "best_fun": a_number(finite=False),
        **dict.fromkeys(("nit", "nfev", "njev"), a_whole()),
        **dict.fromkeys(("message", "executor", "executor_reason", "gradient_source", "optimizer_reason"), a_text),
        "seed": optional(a_whole(-(2**255), 2**255)),
        "options": a_record({}, may=OPTIONS),
        "status": one_of(*Status.__members__),
        "layout": a_layout,
        "optimizer": an_optimizer,
        "function": a_function,
    },
    may={"layers": a_list(a_text)},
)


def _arrays_of_a_run(layout: Layout, layers: list[str] | None) -> dict[str, ArraySpec]:
    """Return the specification of a run's arrays. layers: of the epochs, None if there are none."""
    n, kind = layout.size, layout.dtype.name
    arrays = {
        **{name: ArraySpec(kind, (n,), finite=name != "jac") for name in ("x", "best_x", "jac")},
        "covariance": ArraySpec(("float32", "float64"), (n, n), optional=True),
        "history.t": ArraySpec("int64", ("rows",), least=0),
        "history.x": ArraySpec(kind, ("rows", n), finite=True),
        **{f"history.{name}": ArraySpec(np.dtype(dtype).name, ("rows",)) for name, dtype in COLUMNS.items()},
    }
    if layers is not None:
        arrays |= {
            f"epochs.{f.name}": ArraySpec(
                "int64" if f.name == "t" else "float64",
                ("epochs", len(layers)) if f.name.startswith("layer_") else ("epochs",),
                optional=f.name not in ("t", "fun"),
            )
            for f in dataclasses.fields(Epochs)
            if f.name != "layers"
        }
    return arrays


def _is_picklable(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # an object of the user's may raise anything
        return False
    return True


def rows_of(x: Any, layout: Layout) -> FloatArray:
    """Return the history's points as (rows, size)."""
    return np.concatenate([np.reshape(part, (len(part), -1)) for part in layout.parts(x)], axis=1)


def _short(value: Any) -> str:
    if is_structure(value):
        layout, vector = flatten(value)
        if vector.size > 32:
            return str(layout.assembled([_Shape(f"{vector.dtype}{shape}") for shape in layout.shapes]))
    return np.array2string(value, threshold=8) if isinstance(value, np.ndarray) else str(value)


class _Shape(str):
    """An array's dtype and shape, shown in its place."""

    __repr__ = str.__str__


def _thumbnail(run: Run) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.75), dpi=80, layout="constrained")
    try:
        run.plot(figure.add_subplot())
    except FunctionError:  # loaded without its function
        from koubai.plot import convergence

        figure.clear()
        convergence(run, ax=figure.add_subplot())
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode()
