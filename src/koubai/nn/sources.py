"""The data of a training of a network: batches from elsewhere, a part held back, and the weights of samples."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from koubai.descent.batch_iterator import Source, as_source
from koubai.descent.batches import Batches, MappedRows, chunks
from koubai.errors import InputError
from koubai.nn.data import split
from koubai.nn.losses import BinaryCrossEntropy, Loss, sample_weights

__all__ = ["CheckedBatches", "arrays_or_batches", "class_weighted", "held_back", "mean_weight", "scaled"]

Array: TypeAlias = npt.NDArray[Any]
Checked: TypeAlias = tuple[Array, Array, Array | None]  # X, y and the samples' weights, if they have any


def arrays_or_batches(X: Any, y: Any) -> tuple[Source | None, Batches | None, Any, Any]:
    """Tell arrays from batches: return (source of batches or None, the batches that arrays came in, X, y)."""
    source = as_source(X)
    if source is None:
        return None, None, X, y
    if y is not None:
        raise InputError("if X gives batches, they hold y too: leave y out")
    if not isinstance(X, Batches):
        return source, None, None, None
    if len(X.arrays) != 2:
        raise InputError("the batches have no y: make them with kb.nn.batches(X, y)")
    return None, X, *X.arrays  # arrays are checked as any others


class CheckedBatches:
    """Batches that come from elsewhere: each is checked and cast as it comes, by ``check(batch, what)``."""

    def __init__(self, source: Source, check: Callable[[Any, str], Checked], loss: Loss, dtype: np.dtype[Any]) -> None:
        self.source, self.check, self.loss, self.dtype = source, check, loss, dtype
        self.size = getattr(source, "size", None)
        self.mean_weight: float | None = None  # of the samples of epoch 0, once a batch with weights came

    def epoch(self, k: int) -> Iterator[tuple[Array, ...]]:
        for X, y, w in self._checked(k):
            if w is None and self.loss.class_weight is None:
                yield X, y
                continue
            if self.mean_weight is None:
                self.mean_weight = mean_weight(self.loss, ((y, w) for _, y, w in self._checked(0)))
                assert self.mean_weight is not None
            yield X, y, scaled(w, len(X), self.mean_weight, self.dtype)

    def _checked(self, k: int) -> Iterator[Checked]:
        size = None
        for i, batch in enumerate(self.source.epoch(k)):
            if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
                raise InputError(f"batch {i} of epoch {k} must be (X, y) or (X, y, weights)")
            size = size or len(batch)
            if len(batch) != size:
                raise InputError(
                    f"batch {i} of epoch {k} has {len(batch)} parts, the first one {size}: give weights "
                    "with every batch, or with none"
                )
            yield self.check(batch, f"batch {i} of epoch {k}")


def held_back(
    X: Array, y: Array, weights: Array | None, fraction: float, seed: int, loss: Loss
) -> tuple[tuple[Any, Array, Array | None], tuple[Any, Array]]:
    """Return ((X, y, weights) to train on, (X, y) to validate on); a file's rows are read when they are needed."""
    rows = np.arange(len(X))
    of_one_class = loss.classifies and y.ndim == 1 and y.dtype.kind in "iu"
    if of_one_class:
        (kept, _), (held, _) = split(rows, y, fraction, seed, stratified=True)
    else:
        kept, held = split(rows, None, fraction, seed)
    part = functools.partial(MappedRows, X) if isinstance(X, np.memmap) else X.__getitem__
    return (part(kept), y[kept], None if weights is None else weights[kept]), (part(held), y[held])


def mean_weight(loss: Loss, parts: Iterable[tuple[Array, Array | None]]) -> float | None:
    """Return the mean weight of the samples, of which ``parts`` are (y, weights); None if nothing weighs them.

    A batch's loss is the sum of its w l, divided by its samples times this: for any size of the batches, an
    epoch then goes down the one weighted mean of all the data, Σ w l / Σ w. Were each batch divided by its own
    weights, those of a batch of one would have no effect.
    """
    total, samples = 0.0, 0
    for y, weights in parts:
        if weights is None and loss.class_weight is None:
            return None
        for part in chunks(len(y)):
            total += float(loss.total_weight(y[part], None if weights is None else weights[part]))
        samples += len(y)
    if not total > 0:
        raise InputError("no sample has a weight above 0: there is nothing to learn from")
    return total / samples


def scaled(weights: Array | None, samples: int, mean: float, dtype: np.dtype[Any]) -> Array:
    """Return weights whose mean over all the data is 1."""
    return np.asarray(np.full(samples, 1.0 / mean) if weights is None else weights / mean, dtype)


def class_weighted(
    class_weight: Any,
    y: Array,
    weights: Array | None,
    loss: Loss,
    output_shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> Array | None:
    """Return the samples' weights times those of their classes. Raises InputError if these are none for this y."""
    if class_weight is None:
        return weights
    labels = _classes(y, loss)
    found, of, counts = np.unique(labels.astype(np.int64), return_inverse=True, return_counts=True)
    if isinstance(class_weight, str) and class_weight == "balanced":
        sums = counts if weights is None else np.bincount(of, weights)
        with np.errstate(divide="ignore"):
            each = np.where(sums > 0, sums.sum() / (len(found) * sums), 0.0)
    elif isinstance(class_weight, Mapping):
        unknown = set(class_weight) - set(range(max(int(found.max()) + 1, *output_shape, 2)))
        numbers = (int, float, np.integer, np.floating)
        if unknown or not all(isinstance(w, numbers) and 0 <= w < math.inf for w in class_weight.values()):
            raise InputError(f"class_weight must give labels 0, 1, … numbers ≥ 0, got {class_weight!r}")
        each = np.array([float(class_weight.get(int(label), 1.0)) for label in found])
    else:
        raise InputError(f'class_weight must be "balanced" or a dict of label → weight, got {class_weight!r}')
    together = each[of] * (1.0 if weights is None else weights)
    if not together.any():
        raise InputError(f"class_weight leaves no sample with a weight above 0: {class_weight!r}")
    return np.asarray(sample_weights(together, len(y), dtype))


def _classes(y: Array, loss: Loss) -> Array:
    """Return the class of each sample. Raises InputError if it has none, or more than one."""
    if not loss.classifies:
        raise InputError(f"class_weight needs classes, but the loss is {loss.name}")
    if y.size == len(y):
        return y.reshape(len(y)) > 0.5 if y.dtype.kind == "f" else y.reshape(len(y))
    if isinstance(loss, BinaryCrossEntropy):
        raise InputError(
            f"class_weight needs one class a sample; {loss.name} asks {math.prod(y.shape[1:])} questions: "
            "weigh yes and no by BinaryCrossEntropy(class_weight=(no, yes))"
        )
    return np.asarray(np.argmax(y, axis=1))
