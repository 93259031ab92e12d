"""Distances after ``scipy.spatial``: between two rows, between all rows of two matrices, and within one.

At distance zero, where the Euclidean distance has a kink, the derivative is the subgradient 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from koubai.graph.numpy.arguments import array
from koubai.graph.ops import Index, apply
from koubai.graph.twins import Twins
from koubai.graph.user_code import untraceable

__all__ = ["standin"]

_TWINS = Twins("scipy.spatial.distance")
_OUTER = Twins("scipy.spatial")


def standin(value: Any) -> Any:
    found = _TWINS.standin(value)
    return _OUTER.standin(value) if found is None else found


def _rows(a: Any) -> Any:
    return array(a).astype(np.float64, copy=False)


# --- distances along the last axis, of u and v that broadcast; w: weights of the components
def _sum(terms: Any, w: Any) -> Any:
    return np.sum(terms if w is None else terms * w, axis=-1)


def _norm(deviation: Any) -> Any:
    return apply("norm", deviation, p=2, axis=(deviation.ndim - 1,), keepdims=False)


def _euclidean(u: Any, v: Any, w: Any = None) -> Any:
    return _norm(u - v if w is None else (u - v) * np.sqrt(w))


def _sqeuclidean(u: Any, v: Any, w: Any = None) -> Any:
    return _sum((u - v) ** 2, w)


def _cityblock(u: Any, v: Any, w: Any = None) -> Any:
    return _sum(np.absolute(u - v), w)


def _chebyshev(u: Any, v: Any, w: Any = None) -> Any:
    size = np.absolute(u - v)
    return np.max(size if w is None else np.where(np.greater(w, 0), size, 0.0), axis=-1)


def _minkowski(u: Any, v: Any, p: Any = 2, w: Any = None) -> Any:
    if p == np.inf:
        return _chebyshev(u, v, w)
    if p == 1:
        return _cityblock(u, v, w)
    if p == 2:
        return _euclidean(u, v, w)
    deviation = u - v if w is None else (u - v) * np.asarray(w) ** (1.0 / p)
    return apply("norm", deviation, p=float(p), axis=(deviation.ndim - 1,), keepdims=False)


def _cosine(u: Any, v: Any, w: Any = None) -> Any:
    cross, left, right = _sum(u * v, w), _sum(u * u, w), _sum(v * v, w)
    return 1.0 - cross / np.sqrt(left * right)


def _centered(u: Any, w: Any) -> Any:
    total = u.shape[-1] if w is None else np.sum(w)
    return u - (_sum(u, w) / total)[..., None]


def _correlation(u: Any, v: Any, w: Any = None) -> Any:
    return _cosine(_centered(u, w), _centered(v, w), w)


def _canberra(u: Any, v: Any, w: Any = None) -> Any:
    size = np.absolute(u) + np.absolute(v)
    empty = size == 0
    return _sum(np.where(empty, 0.0, np.absolute(u - v) / np.where(empty, 1.0, size)), w)


def _braycurtis(u: Any, v: Any, w: Any = None) -> Any:
    return _sum(np.absolute(u - v), w) / _sum(np.absolute(u + v), w)


def _seuclidean(u: Any, v: Any, V: Any) -> Any:
    return _norm((u - v) / np.sqrt(V))


def _mahalanobis(u: Any, v: Any, VI: Any) -> Any:
    deviation = u - v
    return np.sqrt(np.sum((deviation @ VI) * deviation, axis=-1))


_METRICS: dict[str, Callable[..., Any]] = {
    "euclidean": _euclidean,
    "sqeuclidean": _sqeuclidean,
    "cityblock": _cityblock,
    "chebyshev": _chebyshev,
    "minkowski": _minkowski,
    "cosine": _cosine,
    "correlation": _correlation,
    "canberra": _canberra,
    "braycurtis": _braycurtis,
    "seuclidean": _seuclidean,
    "mahalanobis": _mahalanobis,
}
_ALIASES = {"manhattan": "cityblock", "l1": "cityblock", "l2": "euclidean", "sqeuclid": "sqeuclidean"}
_NEEDED = {"seuclidean": "V", "mahalanobis": "VI"}


def _between(function: str, u: Any, v: Any, metric: Any, out: Any, options: dict[str, Any]) -> Any:
    if out is not None:
        _TWINS.refuse(function, "out", "an array")
    if callable(metric):  # by its name in SciPy, or a function of the user's, which is asked about pair after pair
        known = [name for name in _METRICS if getattr(_TWINS.module, name) is getattr(metric, "__wrapped__", metric)]
        if not known:
            u, v = np.broadcast_arrays(u, v)
            pairs = [metric(u[i], v[i], **options) for i in np.ndindex(*u.shape[:-1])]
            return array(pairs).astype(np.float64, copy=False).reshape(u.shape[:-1])
        metric = known[0]
    name = _ALIASES.get(metric, metric) if isinstance(metric, str) else metric
    if name not in _METRICS:
        _TWINS.refuse(function, "metric", metric)
    needed = _NEEDED.get(name)
    if needed and options.get(needed) is None:
        raise untraceable(
            f"scipy.spatial.distance.{function} takes {needed} from the data where it is not given",
            f"pass {needed}=",
        )
    return _METRICS[name](u, v, **{k: value for k, value in options.items() if value is not None})


@_TWINS.of("cdist")
def cdist(XA: Any, XB: Any, metric: Any = "euclidean", *, out: Any = None, **kwargs: Any) -> Any:
    a, b = _rows(XA), _rows(XB)
    if a.ndim != 2 or b.ndim != 2:
        raise ValueError("XA and XB must be 2-dimensional arrays.")
    if a.shape[1] != b.shape[1]:
        raise ValueError("XA and XB must have the same number of columns (i.e. feature dimension.)")
    return _between("cdist", a[:, None, :], b[None, :, :], metric, out, kwargs)


@_TWINS.of("pdist")
def pdist(X: Any, metric: Any = "euclidean", *, out: Any = None, **kwargs: Any) -> Any:
    x = _rows(X)
    if x.ndim != 2:
        raise ValueError("A 2-dimensional array must be passed.")
    first, second = np.triu_indices(x.shape[0], 1)
    return _between("pdist", x[first], x[second], metric, out, kwargs)


@_TWINS.of("squareform")
def squareform(X: Any, force: str = "no", checks: bool = True) -> Any:
    x = array(X)
    if (force == "tomatrix" and x.ndim != 1) or (force == "tovector" and x.ndim != 2):
        raise ValueError(f"Forcing {force!r} but input X is of {x.ndim} dimensions.")
    if x.ndim == 1:
        n = int(np.ceil(np.sqrt(x.shape[0] * 2)))
        if n * (n - 1) != x.shape[0] * 2:
            raise ValueError("Incompatible vector size. It must be a binomial coefficient n choose 2.")
        n = max(n, 1)
        first, second = np.triu_indices(n, 1)
        half = apply("setitem", np.zeros((n, n), x.dtype), x, first, second, index=Index((Index.HOLE, Index.HOLE)))
        return half + half.T
    if x.ndim != 2 or x.shape[0] != x.shape[1]:
        raise ValueError("The matrix argument must be square.")
    if checks and (np.any(np.absolute(x - x.T) > 1e-8 + 1e-5 * np.absolute(x.T)) or np.any(np.diagonal(x) != 0)):
        raise ValueError("Distance matrix must be symmetric, with zeros on its diagonal.")
    return x[np.triu_indices(x.shape[0], 1)]


def _pair(name: str) -> None:
    metric = _METRICS[name]

    def distance(u: Any, v: Any, *args: Any, **kwargs: Any) -> Any:
        double = name in ("euclidean", "canberra", "braycurtis")  # in which SciPy computes these
        u, v = (a.astype(np.float64) if double or a.dtype.kind in "biu" else a for a in (array(u), array(v)))
        if u.ndim != 1 or v.ndim != 1:
            raise ValueError("Input vector should be 1-D.")
        if name == "correlation" and (len(args) > 1 or "centered" in kwargs):
            _TWINS.refuse(name, "centered", "given")
        return metric(u, v, *args, **kwargs)

    _TWINS.of(name)(distance)


for _name in _METRICS:
    _pair(_name)


@_OUTER.of("distance_matrix")
def distance_matrix(x: Any, y: Any, p: float = 2, threshold: int = 1000000) -> Any:
    return _minkowski(_rows(x)[:, None, :], _rows(y)[None, :, :], p)


@_OUTER.of("minkowski_distance")
def minkowski_distance(x: Any, y: Any, p: float = 2) -> Any:
    return _minkowski(_rows(x), _rows(y), p)
