"""Sources of mini-batches for each epoch: cut from arrays in a seeded order, streamed, or made by a function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from koubai.errors import InputError
from koubai.parameters import check_whole

__all__ = [
    "CHUNK",
    "Batches",
    "GatheredBatches",
    "GatheredEpoch",
    "MappedRows",
    "Stream",
    "array_of_samples",
    "batches",
    "check_finite",
    "chunks",
    "sample_arrays",
]

Array: TypeAlias = npt.NDArray[Any]
CHUNK = 1024  # samples that are processed at a time


def chunks(samples: int) -> Iterator[slice]:
    """Yield slices that cut so many samples into parts of at most CHUNK."""
    for start in range(0, samples, CHUNK):
        yield slice(start, start + CHUNK)


@dataclass(frozen=True, eq=False)
class Batches:
    """Mini-batches of equally long arrays, as `batches` makes them. ``epoch(k)`` yields those of epoch k.

    The order of an epoch follows from the seed and its number alone.

    Attributes
    ----------
    arrays : tuple of arrays
        The data, with as many rows each.
    size : int
        Samples in a batch; the last one may have fewer.
    seed : int or None
        Of the order; None keeps the rows as they are.
    """

    arrays: tuple[Any, ...]
    size: int
    seed: int | None

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return -(-len(self.arrays[0]) // self.size)

    def order(self, k: int, out: npt.NDArray[np.intp] | None = None) -> npt.NDArray[np.intp]:
        """Return the rows of epoch ``k`` in their order; ``out``: memory for them."""
        rows = np.empty(len(self.arrays[0]), np.intp) if out is None else out
        rows.fill(1)
        rows[0] = 0
        np.cumsum(rows, out=rows)  # 0, 1, 2, …
        if self.seed is not None:
            np.random.default_rng([self.seed, k]).shuffle(rows)
        return rows

    def rows(self, k: int) -> Iterator[npt.NDArray[np.intp]]:
        """Yield the rows of each batch of epoch ``k``."""
        rows = self.order(k)
        for start in range(0, len(rows), self.size):
            yield rows[start : start + self.size]

    def epoch(self, k: int) -> Iterator[tuple[Any, ...]]:
        """Yield the batches of epoch ``k`` = 0, 1, …: every sample once, the last batch with what is left."""
        for chosen in self.rows(k):
            yield tuple(array[chosen] for array in self.arrays)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self.epoch(0)


@dataclass(frozen=True, eq=False)
class Stream:
    """Mini-batches of data that come in chunks, one after another, and need never be in memory together.

    ``epoch(k)`` yields those of epoch k.

    Attributes
    ----------
    source : callable
        Gives the chunks of an epoch: arrays, or tuples of arrays.
    size : int
        Samples in a batch; the last one may have fewer.
    seed : int or None
        Of the order within each chunk; None keeps the rows as they are.
    """

    source: Callable[[int], Iterable[Any]]
    size: int
    seed: int | None

    def epoch(self, k: int) -> Iterator[tuple[Any, ...]]:
        """Yield the batches of epoch ``k``: the chunks' rows, cut into batches; the last one has the rest."""
        rest: tuple[Any, ...] | None = None
        for i, chunk in enumerate(self.source(k)):
            arrays = sample_arrays(chunk if isinstance(chunk, tuple | list) else (chunk,), f"chunk {i} of epoch {k}")
            if self.seed is not None:
                order = np.random.default_rng([self.seed, k, i]).permutation(len(arrays[0]))
                arrays = tuple(array[order] for array in arrays)
            if rest is not None:
                if [a.shape[1:] for a in rest] != [a.shape[1:] for a in arrays]:
                    shapes = [tuple(a.shape[1:] for a in group) for group in (rest, arrays)]
                    raise InputError(f"chunk {i} of epoch {k} has samples of shapes {shapes[1]}, before {shapes[0]}")
                arrays = tuple(np.concatenate(pair) for pair in zip(rest, arrays, strict=True))
            whole = len(arrays[0]) - len(arrays[0]) % self.size
            for start in range(0, whole, self.size):
                yield tuple(array[start : start + self.size] for array in arrays)
            rest = tuple(array[whole:] for array in arrays)
        if rest is None:
            raise InputError(f"the data gave nothing in epoch {k}; the function must begin again for every epoch")
        if len(rest[0]):
            yield rest

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self.epoch(0)


def batches(X: Any, y: Any = None, size: int = 32, seed: int | None = 0) -> Batches | Stream:
    """Mini-batches: the rows of X (and y) in groups of ``size``, shuffled again for every epoch.

    Parameters
    ----------
    X : array or callable
        As many rows as there are samples; a NumPy memmap is read a batch at a time. Or a function of the epoch 0, 1, …
        that gives the data in chunks, arrays or (X, y) pairs of any length, as a generator does: the chunks keep their
        order, the rows of each are shuffled, and the batches are cut across them.
    y : array, optional
        As many rows.
    size : int, default 32
        Samples in a batch; the last one is shorter if they do not divide.
    seed : int or None, default 0
        Of the order; None keeps the rows as they are.

    Returns
    -------
    Batches or Stream
        For `koubai.minimize`, `koubai.fit` and `Network.fit`.

    Raises
    ------
    InputError
        If lengths differ, there is no sample, or size is not a whole number ≥ 1.

    Examples
    --------
    >>> data = nn.batches(np.arange(5), size=2, seed=None)
    >>> [rows.tolist() for (rows,) in data.epoch(0)]
    [[0, 1], [2, 3], [4]]
    """
    size = check_whole(size, 1, "size")
    seed = None if seed is None else check_whole(seed, 0, "seed", " or None")
    if callable(X):
        if y is not None:
            raise InputError("if X is a function of the epoch, it gives the labels too, in (X, y) chunks; leave y out")
        return Stream(X, size, seed)
    if isinstance(X, Iterator):
        raise InputError(
            f"X is a {type(X).__name__}, which can be read only once: give a function of the epoch that makes one"
        )
    return Batches(sample_arrays((X,) if y is None else (X, y)), size, seed)


@dataclass(frozen=True)
class MappedRows:
    """Some rows of an array that is larger than memory, read when they are needed."""

    array: Array
    rows: npt.NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.array.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def __getitem__(self, which: Any) -> Array:
        return np.asarray(self.array[self.rows[which]])


class GatheredBatches:
    """Batches of arrays in the order of `kb.nn.batches`, gathered into memory that is used again for the next batch."""

    def __init__(self, arrays: tuple[Any, ...], size: int, seed: int | None, cast: Callable[[Array], Array]) -> None:
        check_whole(size, 1, "batch_size")
        order = batches(np.arange(len(arrays[0])), size=size, seed=seed)
        assert isinstance(order, Batches)
        self.order, self.size = order.order, order.size
        self._order = np.empty(len(arrays[0]), np.intp)
        X, *rest = arrays
        if type(X) is np.ndarray:  # a memmap is read, and cast, a batch at a time
            X = cast(X)
        large = np.memmap | MappedRows
        self.arrays: tuple[Any, ...] = tuple(
            [a if isinstance(a, large) else np.ascontiguousarray(a) for a in (X, *rest)]
        )
        rows = min(self.size, len(X))
        self._gathered = [np.empty((rows, *a.shape[1:]), a.dtype) for a in self.arrays]
        self._cast = np.empty((rows, *X.shape[1:]), cast(X[:0]).dtype)
        self._full = self._cut(rows)
        self._even = [isinstance(a, np.ndarray) and a.flags.c_contiguous for a in self.arrays]

    def epoch(self, k: int) -> GatheredEpoch:
        return GatheredEpoch(self, self.order(k, self._order))

    def gather(self, chosen: npt.NDArray[np.intp]) -> tuple[Any, ...]:
        """Return the batch of these rows."""
        n = len(chosen)
        gathered, batch = self._full if n == self.size else self._cut(n)
        for a, out, even in zip(self.arrays, gathered, self._even, strict=True):
            if even:
                a.take(chosen, 0, out, "clip")  # "clip" only spares NumPy a copy: every row exists
            else:
                out[...] = a[chosen]
        if batch[0] is not gathered[0]:
            np.copyto(batch[0], gathered[0])
        return batch

    def pairs(self, batch: tuple[Any, ...]) -> list[tuple[Any, Any]] | None:
        """Return the arrays, each with the memory that its rows are copied into for ``batch``, if that is all that
        there is to a batch, and this is a full one.
        """
        full = self._full[1]
        if not all(self._even) or full is not self._full[0] or list(map(id, batch)) != list(map(id, full)):
            return None
        return list(zip(self.arrays, full, strict=True))

    def _cut(self, n: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Return the memory that a batch of ``n`` samples is gathered into, and the batch, which is cast."""
        gathered = tuple([out[:n] for out in self._gathered])
        if gathered[0].dtype == self._cast.dtype:
            return gathered, gathered
        return gathered, (self._cast[:n], *gathered[1:])


class GatheredEpoch:
    """The batches of an epoch of `GatheredBatches`, each gathered when it is asked for."""

    def __init__(self, batches: GatheredBatches, order: npt.NDArray[np.intp]) -> None:
        self.batches, self._rest = batches, order

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self

    def __next__(self) -> tuple[Any, ...]:
        if not len(self._rest):
            raise StopIteration
        chosen = self.ahead(1)
        self.skip(1)
        return self.batches.gather(chosen)

    @property
    def full(self) -> int:
        """How many whole batches are left."""
        return len(self._rest) // self.batches.size

    def ahead(self, count: int) -> npt.NDArray[np.intp]:
        """Return the rows of the next batches."""
        return self._rest[: count * self.batches.size]

    def skip(self, count: int) -> None:
        """Go on behind so many batches."""
        self._rest = self._rest[count * self.batches.size :]


def sample_arrays(given: Iterable[Any], what: str = "") -> tuple[Array, ...]:
    """Return arrays of equally many samples. Raises InputError if they are not; ``what`` says whose they are."""
    try:
        arrays = tuple(array if isinstance(array, np.ndarray) else np.asarray(array) for array in given)
    except ValueError as error:
        raise InputError(f"{what or 'the data'}: {error}; every sample must have the same shape") from None
    of = f" of {what}" if what else ""
    for name, array in zip(("X", "y", *(f"array {i}" for i in range(2, len(arrays)))), arrays, strict=False):
        if array.ndim == 0 or array.dtype == object:
            raise InputError(f"{name}{of} must be an array of samples, got {array.dtype} with shape {array.shape}")
        if len(array) != len(arrays[0]):
            raise InputError(f"X{of} has {len(arrays[0])} samples, {name} has {len(array)}; they must be equally many")
    if not len(arrays[0]):
        raise InputError(f"X{of} has no samples")
    return arrays


def array_of_samples(value: Any, name: str) -> Array:
    """Return ``value`` as an array with one sample per row. Raises InputError, calling it ``name``, if it isn't one."""
    if value is None:
        raise InputError(f"{name} is missing: give an array of samples")
    if isinstance(value, Iterator):
        raise InputError(
            f"{name} is a {type(value).__name__}, which can be read only once: give a function of the epoch that makes "
            "one, of (X, y) batches"
        )
    try:
        array = value if isinstance(value, np.ndarray) else np.asarray(value)
    except ValueError as error:
        raise InputError(f"{name} is not an array of samples: {error}; every sample must have the same shape") from None
    if array.dtype == object:
        raise InputError(f"{name} has object dtype; every sample must have the same shape and hold numbers")
    if isinstance(array, np.ma.MaskedArray):
        raise InputError(f"{name} is a masked array; leave out the samples with masked entries and give its .data")
    if array.ndim == 0:
        raise InputError(f"{name} must be an array of samples, got {value!r}")
    return array


def check_finite(X: Array, name: str, dtype: npt.DTypeLike = np.float64) -> None:
    """Raise InputError if a number is not finite, or too large for the precision that it will have."""
    if X.dtype.kind != "f":
        return
    for rows in chunks(len(X)):  # an array larger than memory is checked in parts
        part = X[rows]
        with np.errstate(over="ignore"):
            finite = np.isfinite(part.astype(dtype, copy=False))
        if not finite.all():
            at = np.argwhere(~finite)[0]
            shown = ", ".join(map(str, (rows.start + at[0], *at[1:])))
            number = part[tuple(at)]
            if np.isfinite(number):
                raise InputError(f"{name}[{shown}] = {number} is too large for {np.dtype(dtype)}: scale the data")
            raise InputError(f"{name} must be finite, but {name}[{shown}] = {number}; leave such samples out")
