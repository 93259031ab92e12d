"""Reductions that leave NaN out. A NaN that is left out has derivative zero."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from koubai.graph.numpy.arguments import array, axes_of, finish, implements, refuse
from koubai.graph.numpy.indexing import take_along_axis
from koubai.graph.numpy.reductions import cumprod, cumsum, max_, min_, prod, sum_
from koubai.graph.numpy.sorting import argmax, argmin
from koubai.graph.user_code import untraceable

__all__: list[str] = []


def _kept(keepdims: Any) -> bool:
    return keepdims is not np._NoValue and bool(keepdims)


def _without_where(function: str, where: Any) -> None:
    if where is not np._NoValue and where is not True:
        refuse(function, "where", "a mask")


def _filled(a: Any, value: float) -> Any:
    x = array(a)
    return np.where(np.isnan(x), value, x)


def _present(a: Any, axis: Any, keepdims: bool) -> Any:
    """Return how many elements are not NaN."""
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


_nan_sum("nansum", sum_, 0.0)
_nan_sum("nanprod", prod, 1.0)


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
        return finish(y, None, out)

    implements(getattr(np, name))(function)


_nan_extreme("nanmax", max_, -math.inf)
_nan_extreme("nanmin", min_, math.inf)


def _nan_cumulative(name: str, cumulative: Any, neutral: float) -> None:
    implements(getattr(np, name))(
        lambda a, axis=None, dtype=None, out=None: cumulative(_filled(a, neutral), axis, dtype, out)
    )


_nan_cumulative("nancumsum", cumsum, 0.0)
_nan_cumulative("nancumprod", cumprod, 1.0)


@implements(np.nanmean)
def nanmean(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = np._NoValue
) -> Any:
    _without_where("nanmean", where)
    keep = _kept(keepdims)
    total = sum_(_filled(a, 0.0), axis, dtype, None, keep)
    y = total / _present(a, axis, keep).astype(total.dtype)
    return finish(y, None, out)


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
    return finish(y, None, out)


@implements(np.nanstd)
def nanstd(*args: Any, out: Any = None, **kwargs: Any) -> Any:
    return finish(np.sqrt(nanvar(*args, **kwargs)), None, out)


def _nan_arg(name: str, function: Any, neutral: float) -> None:
    implements(getattr(np, name))(
        lambda a, axis=None, out=None, *, keepdims=np._NoValue: function(
            _filled(a, neutral), axis, out, keepdims=_kept(keepdims)
        )
    )


_nan_arg("nanargmax", argmax, -math.inf)
_nan_arg("nanargmin", argmin, math.inf)


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
    axis_last = np.transpose(x, (*rest, *axes)).reshape((*(x.shape[i] for i in rest), -1))
    count = _present(axis_last, -1, True)
    ordered = np.sort(_filled(axis_last, math.inf), axis=-1)
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
