"""Statistics: reductions that leave NaN out, covariance, counting; written in primitives, as in graph/functions.py.

A NaN that is left out has derivative zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from koubai.graph.numpy.functions import (
    array,
    axes_of,
    concatenate,
    conjugated,
    implements,
    linspace,
    normalized_axis,
    refuse,
    take_along_axis,
)
from koubai.graph.ops import Index, apply
from koubai.graph.traced import FUNCTIONS, Traced
from koubai.graph.user_code import untraceable

__all__: list[str] = []


def _kept(keepdims: Any) -> bool:
    return keepdims is not np._NoValue and bool(keepdims)


def _without_where(function: str, where: Any) -> None:
    if where is not np._NoValue and where is not True:
        refuse(function, "where", "a mask")


# --- NaN left out
def _filled(a: Any, value: float) -> Any:
    x = array(a)
    return np.where(np.isnan(x), value, x)


def _present(a: Any, axis: Any, keepdims: bool) -> Any:
    """How many elements are not NaN."""
    return np.sum(~np.isnan(array(a)), axis=axis, keepdims=keepdims)


def _nan_sum(name: str, reduction: Any, neutral: float) -> None:
    def function(
        a: Any,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        keepdims: Any = np._NoValue,
        initial: Any = np._NoValue,
        where: Any = np._NoValue,
    ) -> Any:
        _without_where(name, where)
        return reduction(_filled(a, neutral), axis, dtype, out, _kept(keepdims), initial)

    implements(getattr(np, name))(function)


_nan_sum("nansum", FUNCTIONS[np.sum], 0.0)
_nan_sum("nanprod", FUNCTIONS[np.prod], 1.0)


def _nan_extreme(name: str, reduction: Any, neutral: float) -> None:
    def function(
        a: Any,
        axis: Any = None,
        out: Any = None,
        keepdims: Any = np._NoValue,
        initial: Any = np._NoValue,
        where: Any = np._NoValue,
    ) -> Any:
        _without_where(name, where)
        y = reduction(_filled(a, neutral), axis, None, _kept(keepdims), initial)
        y = np.where(_present(a, axis, _kept(keepdims)) == 0, math.nan, y)
        return y if out is None else out._write(y)

    implements(getattr(np, name))(function)


_nan_extreme("nanmax", FUNCTIONS[np.max], -math.inf)
_nan_extreme("nanmin", FUNCTIONS[np.min], math.inf)


def _nan_cumulative(name: str, cumulative: Any, neutral: float) -> None:
    implements(getattr(np, name))(
        lambda a, axis=None, dtype=None, out=None: cumulative(_filled(a, neutral), axis, dtype, out)
    )


_nan_cumulative("nancumsum", FUNCTIONS[np.cumsum], 0.0)
_nan_cumulative("nancumprod", FUNCTIONS[np.cumprod], 1.0)


@implements(np.nanmean)
def nanmean(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = np._NoValue
) -> Any:
    _without_where("nanmean", where)
    keep = _kept(keepdims)
    total = FUNCTIONS[np.sum](_filled(a, 0.0), axis, dtype, None, keep)
    y = total / _present(a, axis, keep).astype(total.dtype)
    return y if out is None else out._write(y)


@implements(np.nanvar)
def nanvar(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = False,
    *,
    where: Any = np._NoValue,
    mean: Any = np._NoValue,
    correction: Any = np._NoValue,
) -> Any:
    _without_where("nanvar", where)
    x = array(a) if dtype is None else array(a).astype(np.dtype(dtype))
    if x.dtype.kind == "c":
        raise untraceable("np.nanvar of complex numbers has no rule here", "write it with np.abs")
    axes, keep = axes_of(axis, x.ndim), _kept(keepdims)
    center = nanmean(x, axes, keepdims=True) if mean is np._NoValue else mean
    deviation = np.where(np.isnan(x), 0.0, x - center)
    count = _present(x, axes, keep).astype(x.dtype) - (ddof if correction is np._NoValue else correction)
    y = np.sum(deviation * deviation, axis=axes, keepdims=keep) / np.where(count > 0, count, math.nan)
    return y if out is None else out._write(y)


@implements(np.nanstd)
def nanstd(*args: Any, out: Any = None, **kwargs: Any) -> Any:
    y = np.sqrt(nanvar(*args, **kwargs))
    return y if out is None else out._write(y)


def _nan_arg(name: str, function: Any, neutral: float) -> None:
    implements(getattr(np, name))(
        lambda a, axis=None, out=None, *, keepdims=np._NoValue: function(
            _filled(a, neutral), axis, out, keepdims=_kept(keepdims)
        )
    )


_nan_arg("nanargmax", FUNCTIONS[np.argmax], -math.inf)
_nan_arg("nanargmin", FUNCTIONS[np.argmin], math.inf)


@implements(np.nanquantile)
def nanquantile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: Any = np._NoValue,
    **kwargs: Any,
) -> Any:
    if method != "linear" or out is not None or any(v is not None for v in kwargs.values()):
        refuse("nanquantile", "method, out or weights", "given")
    x = array(a)
    if np.ndim(q):
        parts = np.stack([nanquantile(x, part, axis, keepdims=keepdims) for part in np.asarray(q)])
        return parts.astype(np.nanquantile(np.ones(1, x.dtype), q).dtype, copy=False)
    axes = tuple(range(x.ndim)) if axis is None else axes_of(axis, x.ndim) or ()
    rest = tuple(i for i in range(x.ndim) if i not in axes)
    lined = np.transpose(x, (*rest, *axes)).reshape((*(x.shape[i] for i in rest), -1))
    count = _present(lined, -1, True)
    ordered = np.sort(_filled(lined, math.inf), axis=-1)
    place = float(q) * np.maximum(count - 1, 0)
    low = np.floor(place).astype(np.intp)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    first, second = take_along_axis(ordered, low, -1), take_along_axis(ordered, high, -1)
    y = first + (second - first) * (place - low).astype(x.dtype)
    y = np.where(count == 0, math.nan, y)
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    return y.reshape(kept if _kept(keepdims) else tuple(x.shape[i] for i in rest))


@implements(np.nanpercentile)
def nanpercentile(a: Any, q: Any, *args: Any, **kwargs: Any) -> Any:
    return nanquantile(a, np.asarray(q) / 100.0, *args, **kwargs)


@implements(np.nanmedian)
def nanmedian(
    a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: Any = np._NoValue
) -> Any:
    return nanquantile(a, 0.5, axis, out, keepdims=keepdims)


# --- covariance
@implements(np.cov)
def cov(
    m: Any,
    y: Any = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: int | None = None,
    fweights: Any = None,
    aweights: Any = None,
    *,
    dtype: Any = None,
) -> Any:
    x = _rows(m, rowvar)
    if y is not None:
        x = concatenate([x, _rows(y, rowvar)], 0)
    x = x.astype(np.result_type(x.dtype, np.float64) if dtype is None else np.dtype(dtype), copy=False)
    less = (0 if bias else 1) if ddof is None else ddof
    weights = [array(w) for w in (fweights, aweights) if w is not None]
    if not weights:
        x = x - np.mean(x, axis=1, keepdims=True)
        return np.squeeze((x @ conjugated(x).T) / max(x.shape[1] - less, 0))
    w = weights[0] * weights[1] if len(weights) == 2 else weights[0]
    total = np.sum(w)
    count = total - less * (np.sum(w * weights[-1]) / total if aweights is not None else 1.0)
    x = x - (np.sum(x * w, axis=1) / total)[:, None]
    return np.squeeze((x @ conjugated(x * w).T) / np.maximum(count, 0.0))


def _rows(m: Any, rowvar: bool) -> Any:
    x = array(m)
    if x.ndim > 2:
        raise ValueError("m has more than 2 dimensions")
    x = x.reshape((1, -1)) if x.ndim < 2 else x
    return x if rowvar or x.shape[0] == 1 else x.T


@implements(np.corrcoef)
def corrcoef(x: Any, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Any:
    c = cov(x, y, rowvar, dtype=dtype)
    if c.ndim == 0:
        return c / c
    deviation = np.sqrt(np.diagonal(c))
    c = c / deviation[:, None] / deviation[None, :]
    return np.where(c > 1.0, 1.0, np.where(c < -1.0, -1.0, c))  # beyond ±1 only by rounding: not a kink


# --- counting
@implements(np.bincount)
def bincount(x: Any, /, weights: Any = None, minlength: int = 0) -> Any:
    places = np.asarray(x)
    if weights is None:
        return np.bincount(places, minlength=minlength)
    w = array(weights)
    n = max(int(places.max(initial=-1)) + 1, minlength)
    return apply("add_at", np.zeros(n), w.astype(np.float64), places, index=Index((Index.HOLE,)))


@implements(np.digitize)
def digitize(x: Any, bins: Any, right: bool = False) -> Any:
    edges = array(bins)
    x = array(x)
    if edges.size > 1 and edges[0] > edges[-1]:
        return edges.size - np.searchsorted(edges[::-1], x, side="right" if right else "left")
    return np.searchsorted(edges, x, side="left" if right else "right")


def _cumulative(name: str, cumulative: Any, first: float) -> None:
    def function(
        x: Any, /, *, axis: Any = None, dtype: Any = None, out: Any = None, include_initial: bool = False
    ) -> Any:
        x = array(x)
        if axis is None:
            if x.ndim > 1:
                raise ValueError("For arrays which have more than one dimension ``axis`` argument is required.")
            axis = 0
        y = cumulative(x, axis, dtype, None)
        if include_initial:
            place = normalized_axis(axis, y.ndim)
            start = np.full((*y.shape[:place], 1, *y.shape[place + 1 :]), first, y.dtype)
            y = concatenate([start, y], place)
        return y if out is None else out._write(y)

    if hasattr(np, name):  # NumPy 2.1
        implements(getattr(np, name))(function)


_cumulative("cumulative_sum", FUNCTIONS[np.cumsum], 0.0)
_cumulative("cumulative_prod", FUNCTIONS[np.cumprod], 1.0)


def _running_extreme(ufunc: np.ufunc) -> Callable[..., Any]:
    name = f"running_{'argmax' if ufunc is np.maximum else 'argmin'}"

    def accumulate(a: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
        x = array(a)
        axis = normalized_axis(axis, x.ndim)
        y = take_along_axis(x, apply(name, x, axis=axis), axis)
        return y if out is None else out._write(y)

    return accumulate


FUNCTIONS[np.maximum, "accumulate"] = _running_extreme(np.maximum)
FUNCTIONS[np.minimum, "accumulate"] = _running_extreme(np.minimum)


# --- sorted sets and histograms: which elements fall together is constant around the point
@implements(np.unique)
def unique(
    ar: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: Any = None,
    *,
    equal_nan: bool = True,
    sorted: bool = True,
) -> Any:
    x = array(ar)
    if axis is not None:
        refuse("unique", "axis", axis)
    flat = x.ravel() if x.ndim else x.reshape((1,))
    order = np.argsort(flat, kind="stable")
    ordered = flat[order]
    new = ordered[1:] != ordered[:-1]
    if equal_nan:
        new = new & ~(np.isnan(ordered[1:]) & np.isnan(ordered[:-1]))
    first = concatenate([np.ones(1, np.bool_), new]) if flat.shape[0] else np.zeros(0, np.bool_)
    starts = FUNCTIONS[np.nonzero](first)[0]
    results = [ordered[starts]]
    if return_index:
        results.append(order[starts])
    if return_inverse:
        rank = np.cumsum(first.astype(np.intp)) - 1
        inverse = np.empty_like(rank)
        inverse[order] = rank
        results.append(inverse.reshape(x.shape))
    if return_counts:
        results.append(np.diff(concatenate([starts, np.array([flat.shape[0]])])))
    return results[0] if len(results) == 1 else tuple(results)


def _edges(function: str, x: Any, bins: Any, range: Any) -> Any:
    """The edges of the bins, as NumPy lays them."""
    if isinstance(bins, str):
        refuse(function, "bins", bins)
    if np.ndim(bins):
        edges = array(bins)
        if np.any(edges[1:] < edges[:-1]):
            raise ValueError("`bins` must increase monotonically, when an array")
        return edges
    if range is None:
        low, high = (np.min(x), np.max(x)) if x.size else (0.0, 1.0)
    else:
        low, high = range
    if low == high:
        low, high = low - 0.5, high + 0.5
    return linspace(low, high, int(bins) + 1)


def _bin(x: Any, edges: Any) -> tuple[Any, Any]:
    """Return the bin that each element lies in, the last one closed, and whether it lies in any."""
    n = edges.shape[0] - 1
    place = np.searchsorted(edges, x, side="right") - 1
    inside = (x >= edges[0]) & (x <= edges[n])
    return np.clip(place, 0, n - 1), inside


def _counted(place: Any, inside: Any, weights: Any, size: int) -> Any:
    w = inside.astype(np.intp) if weights is None else np.where(inside, array(weights).ravel(), 0)
    return apply("add_at", np.zeros(size, w.dtype), w, place, index=Index((Index.HOLE,)))


@implements(np.histogram)
def histogram(a: Any, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None) -> Any:
    x = array(a).ravel()
    edges = _edges("histogram", x, bins, range)
    counts = _counted(*_bin(x, edges), weights, edges.shape[0] - 1)
    if density:
        counts = counts / np.diff(edges) / np.sum(counts)
    return counts, edges


@implements(np.histogram_bin_edges)
def histogram_bin_edges(a: Any, bins: Any = 10, range: Any = None, weights: Any = None) -> Any:
    return _edges("histogram_bin_edges", array(a).ravel(), bins, range)


@implements(np.histogram2d)
def histogram2d(x: Any, y: Any, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None) -> Any:
    points = [array(x).ravel(), array(y).ravel()]
    if type(bins) is Traced or isinstance(bins, np.ndarray) or (isinstance(bins, list | tuple) and len(bins) != 2):
        bins = [bins, bins]
    each = list(bins) if isinstance(bins, list | tuple) else [bins, bins]
    ranges = [None, None] if range is None else list(range)
    edges = [_edges("histogram2d", p, b, r) for p, b, r in zip(points, each, ranges, strict=True)]
    (i, in_x), (j, in_y) = (_bin(p, e) for p, e in zip(points, edges, strict=True))
    shape = tuple(e.shape[0] - 1 for e in edges)
    counts = _counted(i * shape[1] + j, in_x & in_y, weights, shape[0] * shape[1]).reshape(shape).astype(np.float64)
    if density:
        counts = counts / (np.diff(edges[0])[:, None] * np.diff(edges[1])[None, :]) / np.sum(counts)
    return counts, edges[0], edges[1]
