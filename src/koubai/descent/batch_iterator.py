"""The mini-batches of a stochastic descent, in order, and what each epoch says of the loss and the gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from koubai.errors import InputError
from koubai.parameters import FloatArray

if TYPE_CHECKING:
    from koubai.graph.graph import Graph

__all__ = ["BatchIterator", "CountedGraphs", "EpochFunction", "EpochSums", "Source", "as_source", "weight"]

Batch = tuple[Any, ...]


class Source(Protocol):
    """Gives the batches of each epoch: a batch is a tuple of arrays of equal length."""

    def epoch(self, k: int, /) -> Iterable[Any]:
        """Return the batches of epoch ``k`` = 0, 1, …"""


@dataclass(frozen=True)
class EpochFunction:
    """A function of the epoch that gives its batches, as a `Source`."""

    epoch: Callable[[int], Iterable[Any]]


def as_source(data: Any) -> Source | None:
    """Return ``data``, or a function of the epoch, as a `Source`; None if it is something else."""
    if hasattr(data, "epoch"):
        return data  # type: ignore[no-any-return]
    return EpochFunction(data) if callable(data) else None


@dataclass
class EpochSums:
    """Sums over the batches of one epoch, each weighted with its number of samples."""

    weight: float = 0.0
    fun: float = 0.0
    g: Any = 0.0
    squares: float = 0.0  # of the gradient's norm
    _scaled: Any = None  # memory for weight * g

    def add(self, weight: float, fun: float, g: FloatArray) -> None:
        self.add_numbers(weight, fun, float(np.dot(g, g)))
        if isinstance(self.g, float):
            self.g, self._scaled = np.zeros_like(g), np.empty_like(g)
        self.g += np.multiply(g, weight, self._scaled)

    def add_numbers(self, weight: float, fun: float, square: float) -> None:
        """Add a batch but for its gradient, whose g · g is ``square``."""
        self.weight += weight
        self.fun += weight * fun
        self.squares += weight * square

    @property
    def mean(self) -> float:
        """The mean loss along the epoch."""
        return self.fun / self.weight

    @cached_property
    def gradient(self) -> FloatArray:
        """The mean gradient along the epoch, which must be over."""
        return np.asarray(self.g / self.weight)

    @property
    def noise(self) -> float:
        """The distance of a batch's gradient from the mean one, root mean square; NaN if they were not added up."""
        if isinstance(self.g, float):
            return float("nan")
        with np.errstate(over="ignore"):
            mean_square = float(np.dot(self.g, self.g)) / self.weight / self.weight
        if not np.isfinite(mean_square):  # the sum is as many times larger as there are samples
            mean_square = float(np.dot(self.gradient, self.gradient))
        return float(np.sqrt(max(0.0, self.squares / self.weight - mean_square)))


@dataclass
class BatchIterator:
    """The batches of a stochastic descent, one after another, each with everything that f takes after x.

    source: gives the batches of epoch k. epoch, index: the next batch to be drawn. rows: (t, loss, gradient norm,
    noise) of each finished epoch, t being the updates made by its end.
    """

    source: Callable[[int], Iterable[Any]]
    epoch: int = 0
    index: int = 0
    args: Batch = ()  # f's arguments after the batch
    sums: EpochSums = field(default_factory=EpochSums)
    rows: list[tuple[int, float, float, float]] = field(default_factory=list)
    _iterator: Iterator[Any] | None = None

    @classmethod
    def read(cls, batches: Any, args: Batch = ()) -> BatchIterator | None:
        """Return the iterator that the argument of minimize means. Raises InputError if it can be read only once."""
        if batches is None:
            return None
        source = as_source(batches)
        if source is None and isinstance(batches, Iterable) and iter(batches) is not batches:
            source = EpochFunction(lambda epoch: batches)
        if source is not None:
            return cls(source.epoch, args=args)
        raise InputError(
            "batches must be readable once an epoch: koubai.nn.batches(X, y, size), a list of batches, or a function "
            f"of the epoch that gives them; got {type(batches).__name__}"
        )

    def draw(self) -> Batch | None:
        """Return the next batch, or None if the epoch has none left; then the next draw begins a new epoch."""
        if self._iterator is None:
            self._iterator = islice(iter(self.source(self.epoch)), self.index, None)
        batch = next(self._iterator, None)
        if batch is None:
            if self.index == 0:
                raise InputError(f"batches gave nothing in epoch {self.epoch}; a generator can be read only once")
            self.epoch, self.index, self._iterator = self.epoch + 1, 0, None
            return None
        self.index += 1
        return _as_tuple(batch) + self.args

    def all(self) -> Iterator[Batch]:
        """Yield the batches of one whole epoch, apart from the descent's own reading."""
        return (_as_tuple(batch) + self.args for batch in self.source(0))

    def end_epoch(self, t: int, norm: float) -> EpochSums:
        """Record the epoch that ended after ``t`` updates; ``norm``: its largest |mean gradient component|, NaN if the
        gradients were not added up.
        """
        ended, self.sums = self.sums, EpochSums()
        self.rows.append((t, ended.mean, norm, ended.noise))
        return ended

    def position(self) -> dict[str, Any]:
        """Return where the descent is in its data, in JSON's types; the sum of gradients is stored by itself."""
        sums = self.sums
        return {
            "epoch": self.epoch,
            "index": self.index,
            "sums": [sums.weight, sums.fun, sums.squares],
            "rows": self.rows,
        }

    def restore(self, position: dict[str, Any], g: Any) -> None:
        """Go on reading at ``position``, which `position` returned; g: the sum of gradients."""
        self.epoch, self.index = position["epoch"], position["index"]
        weight, fun, squares = position["sums"]
        self.sums = EpochSums(weight, fun, np.array(g) if np.ndim(g) else 0.0, squares)
        self.rows = [(int(t), *map(float, rest)) for t, *rest in position["rows"]]  # type: ignore[misc]

    def redraw(self) -> Batch:
        """Return again the batch that was drawn last."""
        return _as_tuple(next(islice(iter(self.source(self.epoch)), self.index - 1, None))) + self.args


class CountedGraphs:
    """The graphs whose tracing and checking are among the evaluations that a descent has counted.

    known: their digests. before: those among them that were counted before a checkpoint from which the descent goes on,
    and that this process has not met yet: to trace and check them again is not an evaluation of the descent's.
    """

    known: frozenset[str] = frozenset()
    before: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.met: list[Graph] = []  # not among the known yet: a digest takes time, and few need it

    def charge(self, graph: Graph, complete: bool, cost: int) -> int:
        """Return how many evaluations count, of the ``cost`` that a new path had.

        complete: all that it depends on is watched; otherwise it is traced again at every step.
        """
        if complete and not self.before:
            self.met.append(graph)
            return cost
        digest = graph.digest()
        self.known |= {digest}
        if digest not in self.before:
            return cost
        self.before -= {digest}
        return 0 if complete else 1

    def digests(self) -> list[str]:
        """Return what a checkpoint stores: the known digests."""
        self.known |= {graph.digest() for graph in self.met}
        self.met.clear()
        return sorted(self.known)

    def restore(self, known: Iterable[str]) -> None:
        """Take over the digests that a checkpoint stores."""
        self.known = self.before = frozenset(known)


def weight(batch: Batch) -> float:
    """Return the number of samples in a batch."""
    return float(len(batch[0])) if batch and np.ndim(batch[0]) else 1.0


def _as_tuple(batch: Any) -> Batch:
    return tuple(batch) if isinstance(batch, tuple | list) else (batch,)
