"""Statistics: quantiles, covariance, counting and histograms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from koubai.graph.numpy.arguments import array, axes_of, finish, implements, refuse
from koubai.graph.numpy.creation import linspace
from koubai.graph.numpy.joining import concatenate
from koubai.graph.numpy.shapes import moveaxis, transpose
from koubai.graph.numpy.sorting import sort
from koubai.graph.numpy.ufuncs import conjugated
from koubai.graph.ops import Index, apply
from koubai.graph.traced import FUNCTIONS, Traced

__all__: list[str] = []


def _middle(x: Any, axis: Any, q: Any, keepdims: Any, method: str = "linear") -> Any:
    """The quantile; q in [0, 1], a plain number or array."""
    x = x.astype(np.float64) if x.dtype.kind in "biu" else x
    axes = axes_of(axis, x.ndim)
    if axes is None:
        axis_last = x.ravel()
    else:
        rest = tuple(i for i in range(x.ndim) if i not in axes)
        axis_last = transpose(x, (*rest, *axes)).reshape((*(x.shape[i] for i in rest), -1))
    ordered = sort(axis_last, -1)
    n = ordered.shape[-1]
    # every method takes neighbours, or a point between two: of 0, 1, 2 … its answer is their place
    rule: Any = np.quantile
    place = np.asarray(q, np.float64) * (n - 1) if method == "linear" else rule(np.arange(float(n)), q, method=method)
    place = np.asarray(place)
    low = np.floor(place).astype(np.intp)
    part = (place - low).astype(x.dtype if isinstance(q, int | float) else np.result_type(x.dtype, np.asarray(q).dtype))
    high = np.minimum(low + 1, n - 1)
    y = ordered[..., low] + (ordered[..., high] - ordered[..., low]) * part
    last = np.isnan(ordered[..., n - 1])  # nan is last, and spoils every quantile
    y = np.where(last.reshape(last.shape + (1,) * place.ndim), math.nan, y)
    if place.ndim:
        y = moveaxis(y, tuple(range(-place.ndim, 0)), tuple(range(place.ndim)))
    if keepdims is True:
        kept = tuple(1 if axes is None or i in axes else m for i, m in enumerate(x.shape))
        y = y.reshape((*place.shape, *kept))
    return y


@implements(np.median)
def median(a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: Any = False) -> Any:
    return finish(_middle(array(a), axis, 0.5, keepdims), None, out)


@implements(np.quantile)
def quantile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: Any = False,
    method: str = "linear",
    keepdims: Any = False,
    *,
    weights: Any = None,
    interpolation: Any = None,
) -> Any:
    for name, value in (("weights", weights), ("interpolation", interpolation)):
        if value is not None:
            refuse("quantile", name, value)
    return finish(_middle(array(a), axis, _plain_quantile(q), keepdims, method), None, out)


def _plain_quantile(q: Any) -> Any:
    """Return q, which is not differentiated, as a number or an array."""
    return q if type(q) in (int, float) else np.asarray(q)


@implements(np.percentile)
def percentile(a: Any, q: Any, *args: Any, **kwargs: Any) -> Any:
    return quantile(a, _plain_quantile(q) / 100.0, *args, **kwargs)


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
    """Return the bin that each element is in, the last one closed, and whether it is in any."""
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
