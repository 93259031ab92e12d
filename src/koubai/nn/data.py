"""Data for training: mini-batches in a seeded order, a part held back, features on one scale, labels as rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from koubai.descent.batches import Batches, Stream, batches, sample_arrays
from koubai.errors import InputError
from koubai.parameters import FloatArray, check_whole

__all__ = ["Batches", "Standardizer", "Stream", "batches", "one_hot", "split", "standardize"]

ROWS = 65_536  # of an array larger than memory, processed at a time


def split(
    X: Any, y: Any = None, fraction: float = 0.2, seed: int | None = 0, *, stratified: bool = False
) -> tuple[Any, Any]:
    """Split: hold a part of the data back, to validate on.

        train, validation = kb.nn.split(X, y);  network.fit(*train, validation=validation)

    Both parts keep the order of the data.

    Parameters
    ----------
    X : array
        The samples.
    y : array, optional
        What belongs to them.
    fraction : float, default 0.2
        Of the samples, for validation; in (0, 1).
    seed : int or None, default 0
        Of the choice; None holds back the last ones.
    stratified : bool, default False
        Split every class of y by the same fraction, as nearly as its samples allow.

    Returns
    -------
    training, validation : tuples (X, y), or arrays if there is no y
        The two parts.

    Raises
    ------
    InputError
        If lengths differ or a part would be empty.

    Examples
    --------
    >>> train, held = nn.split(np.arange(5), fraction=0.4, seed=None)
    >>> train, held
    (array([0, 1, 2]), array([3, 4]))
    """
    arrays = sample_arrays((X,) if y is None else (X, y))
    n = len(arrays[0])
    if isinstance(fraction, bool) or not isinstance(fraction, int | float | np.number) or not 0 < fraction < 1:
        raise InputError(f"fraction must lie between 0 and 1, got {fraction!r}")
    if seed is not None:
        check_whole(seed, 0, "seed", " or None")
    held = round(fraction * n)
    if held in (0, n):
        raise InputError(f"fraction {fraction} of {n} samples leaves one part empty; give more samples or another one")
    order = np.arange(n) if seed is None else np.random.default_rng(seed).permutation(n)
    if stratified:
        if y is None:
            raise InputError("stratified=True splits class by class: give y, the labels")
        order = order[_stratified(_labels(arrays[1])[order], held)]
    validation = np.zeros(n, dtype=bool)
    validation[order[n - held :]] = True
    parts = [tuple(array[mask] for array in arrays) for mask in (~validation, validation)]
    return (parts[0][0], parts[1][0]) if y is None else (parts[0], parts[1])


def _stratified(labels: npt.NDArray[Any], held: int) -> npt.NDArray[np.intp]:
    """Return an order whose last ``held`` rows have the classes' shares, by the largest remainders."""
    _, of, counts = np.unique(labels, return_inverse=True, return_counts=True)
    shares = counts * (held / len(labels))
    quota = np.floor(shares).astype(np.intp)
    quota[np.argsort(quota - shares, kind="stable")[: held - quota.sum()]] += 1
    # The rank of a row in its class, from the end: held back are those below the quota of the class.
    rank = np.empty(len(labels), dtype=np.intp)
    for k, count in enumerate(counts):
        rank[of == k] = np.arange(count)[::-1]
    return np.argsort(rank < quota[of], kind="stable")


def _labels(y: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return one label per sample: y itself, or the column of the largest entry if it has one-hot rows."""
    if y.ndim == 1:
        return y
    if y.ndim == 2 and y.shape[1] > 1:
        return np.asarray(y.argmax(axis=1))
    raise InputError(f"y must hold one label a sample to be split by class, or one-hot rows; its shape is {y.shape}")


@dataclass(frozen=True, eq=False)
class Standardizer:
    """Standardizer: brings features to the mean 0 and the standard deviation 1 of the data it was made from.

        z = (x - mean) / std

    Attributes
    ----------
    mean, std : arrays of float64, of the shape of one sample
        Averaged axes are kept with length 1. std is 1 if a feature is constant.

    Examples
    --------
    >>> scale = nn.standardize(np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> scale(np.array([[1.0, 5.0]]))
    array([[-1.,  0.]])
    """

    mean: FloatArray
    std: FloatArray

    def __call__(self, X: Any) -> FloatArray:
        """Return X on the common scale; float32 stays float32. Raises InputError for samples of another shape."""
        X = self._matching(X)
        return np.asarray((X - self.mean) / self.std, dtype=_float_of(X))

    def inverse(self, Z: Any) -> FloatArray:
        """Return X of its Z."""
        Z = self._matching(Z)
        return np.asarray(Z * self.std + self.mean, dtype=_float_of(Z))

    def _matching(self, given: Any) -> npt.NDArray[Any]:
        (X,) = sample_arrays((given,))
        sample, shape = X.shape[1:], self.mean.shape
        if len(sample) != len(shape) or any(m not in (1, s) for s, m in zip(sample, shape, strict=True)):
            raise InputError(f"X has samples of shape {sample}, the standardizer was made from {shape}")
        return X


def standardize(X: Any, axis: int | tuple[int, ...] = 0) -> Standardizer:
    """Standardize: learn mean and standard deviation of each feature from X, the *training* data.

        scale = kb.nn.standardize(X);  scale(X);  scale(X_validation)

    An array larger than memory is read in blocks.

    Parameters
    ----------
    X : array
        The samples, along the first axis.
    axis : int or tuple of int, default 0
        The axes to average over, 0 among them: 0 takes each feature by itself, (0, 2, 3) each channel of images.

    Returns
    -------
    Standardizer
        A function of samples. Its std is that of the data at hand (divided by n), as scikit-learn's.

    Raises
    ------
    InputError
        If X is empty or not finite, naming the first bad element.

    Examples
    --------
    >>> nn.standardize(np.array([[1.0], [3.0]])).mean
    array([2.])
    """
    (X,) = sample_arrays((X,))
    if X.dtype.kind not in "fiub":
        raise InputError(f"X must hold real numbers, got {X.dtype}")
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    if 0 not in axes or not all(isinstance(a, int) and 0 <= a < X.ndim for a in axes) or len(set(axes)) != len(axes):
        raise InputError(f"axis must be axes of X, the samples' axis 0 among them; got {axis!r} for shape {X.shape}")
    count = math.prod(X.shape[a] for a in axes)
    mean = _sum_of(X, axes, lambda block: block) / count
    std = np.sqrt(_sum_of(X, axes, lambda block: (block - mean) ** 2) / count)
    # A constant feature has only rounding for a spread.
    std[std <= 10 * np.finfo(np.float64).eps * np.abs(mean)] = 1.0
    return Standardizer(mean[0], std[0])


def _sum_of(X: npt.NDArray[Any], axes: tuple[int, ...], of: Callable[[FloatArray], FloatArray]) -> Any:
    """Return the sum of ``of(X)`` over the axes, in float64, a block of rows at a time."""
    total: Any = 0.0
    for start in range(0, len(X), ROWS):
        block = np.asarray(X[start : start + ROWS], dtype=np.float64)
        if not np.isfinite(block).all():
            index = np.unravel_index(int(np.flatnonzero(~np.isfinite(block))[0]), block.shape)
            where = ", ".join(map(str, (start + index[0], *index[1:])))
            raise InputError(f"X must be finite, but X[{where}] = {block[index]}")
        total = total + of(block).sum(axis=axes, keepdims=True)
    return total


def one_hot(labels: Any, classes: int | None = None, dtype: npt.DTypeLike = np.float64) -> npt.NDArray[Any]:
    """One-hot: a row for each label, 1 in the label's column, else 0.

        out[i, j] = 1 if labels[i] == j else 0

    Parameters
    ----------
    labels : array of int
        0 … classes − 1, of any shape.
    classes : int, optional
        How many; the largest label + 1 if left out.
    dtype : dtype, default float64
        Of the result.

    Returns
    -------
    array, shape (*labels.shape, classes)
        The rows.

    Raises
    ------
    InputError
        For labels outside the range, naming the first.

    Examples
    --------
    >>> nn.one_hot([0, 2])
    array([[1., 0., 0.],
           [0., 0., 1.]])
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise InputError(f"labels must be whole numbers 0, 1, …, got {labels.dtype}; np.unique gives numbers for names")
    if classes is not None:
        check_whole(classes, 1, "classes")
    elif not labels.size:
        raise InputError("labels is empty: give classes")
    width = int(labels.max()) + 1 if classes is None else int(classes)
    wrong = np.flatnonzero((labels < 0) | (labels >= width))
    if wrong.size:
        where = ", ".join(map(str, np.unravel_index(wrong[0], labels.shape)))
        raise InputError(f"labels must lie in 0 … {width - 1}, but labels[{where}] = {labels.flat[wrong[0]]}")
    return np.asarray(labels[..., np.newaxis] == np.arange(width), dtype=dtype)


def _float_of(X: npt.NDArray[Any]) -> npt.DTypeLike:
    return np.float32 if X.dtype == np.float32 else np.float64
