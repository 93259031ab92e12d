"""Data for training: mini-batches in a seeded order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from koubai.errors import InputError

__all__ = ["Batches", "batches"]


@dataclass(frozen=True, eq=False)
class Batches:
    """Mini-batches of equally long arrays. The order of an epoch follows from the seed and its number alone."""

    arrays: tuple[Any, ...]
    size: int
    seed: int | None

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return -(-len(self.arrays[0]) // self.size)

    def epoch(self, k: int) -> Iterator[tuple[Any, ...]]:
        """Yield the batches of epoch ``k`` = 0, 1, …: every sample once, the last batch with what is left."""
        rows = np.arange(len(self.arrays[0]))
        if self.seed is not None:
            np.random.default_rng([self.seed, k]).shuffle(rows)
        for start in range(0, len(rows), self.size):
            chosen = rows[start : start + self.size]
            yield tuple(array[chosen] for array in self.arrays)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self.epoch(0)


def batches(X: Any, y: Any = None, size: int = 32, seed: int | None = 0) -> Batches:
    """Mini-batches: the rows of X (and y) in groups of ``size``, shuffled anew for every epoch.

    X, y: arrays with as many rows as there are samples; a NumPy memmap is read a batch at a time. size: samples a
    batch; the last one is shorter where they do not divide. seed: of the order; None keeps the rows as they are.
    Raises InputError where lengths differ, there is no sample, or size is not a whole number ≥ 1.
    """
    arrays = tuple(
        array if isinstance(array, np.ndarray) else np.asarray(array) for array in (X, y) if array is not None
    )
    for name, array in zip(("X", "y"), arrays, strict=False):
        if array.ndim == 0 or array.dtype == object:
            raise InputError(f"{name} must be an array of samples, got {array.dtype} with shape {array.shape}")
        if len(array) != len(arrays[0]):
            raise InputError(f"X has {len(arrays[0])} samples, y has {len(array)}; they must be equally many")
    if not len(arrays[0]):
        raise InputError("X has no samples")
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
        raise InputError(f"size must be a whole number ≥ 1, got {size!r}")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0):
        raise InputError(f"seed must be a whole number ≥ 0 or None, got {seed!r}")
    return Batches(arrays, int(size), None if seed is None else int(seed))
