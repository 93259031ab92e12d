"""Reductions along axes, and running ones: sums, products, extremes, means, variances."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from koubai.graph.numpy.arguments import array, axes_of, finish, implements, normalized_axis, refuse
from koubai.graph.numpy.indexing import take_along_axis
from koubai.graph.numpy.joining import concatenate
from koubai.graph.ops import OPS, Op, Shape, add_row, apply
from koubai.graph.traced import FUNCTIONS, Traced, record, weaken

__all__ = ["cumprod", "cumsum", "max_", "min_", "prod", "sum_"]


def _reduce(name: str) -> Callable[..., Any]:
    op = OPS[name]
    monoid: Any = op.reduces
    join: Any = OPS[monoid.join].call

    def reduction(
        a: Any,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        keepdims: Any = False,
        initial: Any = np._NoValue,
        where: Any = True,
    ) -> Any:
        x = array(a)
        if dtype is not None:
            x = x.astype(np.dtype(dtype))
        if where is not True and where is not np._NoValue:
            neutral = initial if join.identity is None else monoid.neutral
            if neutral is np._NoValue or neutral is None:
                raise ValueError(
                    f"reduction operation {name} does not have an identity, so to use a where mask one has to specify "
                    "'initial'"
                )
            x = np.where(where, x, neutral)
        if not x.shape and type(axis) is int and axis in (0, -1):  # which NumPy's reductions take of a number, too
            axis = None
        params = {"axis": axes_of(axis, len(x.shape)), "keepdims": bool(keepdims) and keepdims is not np._NoValue}
        y = record(op, (x,), params) if type(x) is Traced else op.call(x, **params)
        if initial is not np._NoValue and initial is not None:
            y = join(y, initial)
        return finish(y, None, out)

    return reduction


sum_ = implements(np.sum)(_reduce("sum"))
prod = implements(np.prod)(_reduce("prod"))


def _extreme(name: str) -> Callable[..., Any]:
    reduction = _reduce(name)

    def extreme(
        a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = np._NoValue, where: Any = True
    ) -> Any:
        return reduction(a, axis, None, out, keepdims, initial, where)

    return extreme


max_ = implements(np.max, np.amax)(_extreme("max"))
min_ = implements(np.min, np.amin)(_extreme("min"))


def _reduce_method(name: str) -> Callable[..., Any]:
    reduction = _reduce(name)

    def method(
        a: Any,
        axis: Any = 0,
        dtype: Any = None,
        out: Any = None,
        keepdims: Any = False,
        initial: Any = np._NoValue,
        where: Any = True,
    ) -> Any:
        return reduction(a, axis, dtype, out, keepdims, initial, where)

    return method


for _reducible, _name in ((np.add, "sum"), (np.multiply, "prod"), (np.maximum, "max"), (np.minimum, "min")):
    FUNCTIONS[_reducible, "reduce"] = _reduce_method(_name)


def _any_all(name: str) -> Callable[..., Any]:
    def reduction(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True) -> Any:
        a = array(a)
        if where is not True and where is not np._NoValue:
            a = np.where(where, a != 0, name == "all")
        return finish(apply(name, a, axis=axes_of(axis, a.ndim), keepdims=bool(keepdims)), None, out)

    return reduction


implements(np.any)(_any_all("any"))
implements(np.all)(_any_all("all"))
FUNCTIONS[np.logical_or, "reduce"] = lambda a, axis=0, **kw: np.any(a, axis, **kw)
FUNCTIONS[np.logical_and, "reduce"] = lambda a, axis=0, **kw: np.all(a, axis, **kw)


@implements(np.count_nonzero)
def count_nonzero(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    y = np.sum(a != 0, axis=axis, keepdims=keepdims)
    if type(y) is Traced and y.shape == () and not isinstance(np.count_nonzero(0), np.generic):
        weaken(y)  # before NumPy 2.3 the answer is a Python number
    return y


def _length(shape: Shape, axis: tuple[int, ...] | None) -> int:
    return math.prod(shape) if axis is None else math.prod(shape[i] for i in axis)


@implements(np.mean)
def mean(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True
) -> Any:
    x = array(a)
    if dtype is None and x.dtype.kind in "bi":
        dtype = np.float64
    if where is not True and where is not np._NoValue:
        chosen = np.broadcast_to(where, x.shape)
        count = np.sum(chosen, axis=axis, keepdims=keepdims).astype(x.dtype)
        return finish(sum_(x, axis, dtype, None, keepdims, where=chosen) / count, None, out)
    return finish(sum_(x, axis, dtype, None, keepdims) / _length(x.shape, axes_of(axis, x.ndim)), None, out)


@implements(np.average)
def average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False) -> Any:
    x = array(a)
    keep = bool(keepdims) and keepdims is not np._NoValue
    if weights is None:
        y = mean(x, axis, keepdims=keep)
        return (y, np.zeros(y.shape) + _length(x.shape, axes_of(axis, x.ndim))) if returned else y
    w = array(weights)
    if w.shape != x.shape:
        if w.ndim != 1 or not isinstance(axis, int):
            refuse("average", "weights", "of another shape than a")
        w = np.moveaxis(np.broadcast_to(w, (*np.moveaxis(x, axis, -1).shape[:-1], w.shape[0])), -1, axis)
    kind = np.result_type(x.dtype, w.dtype, np.float64 if x.dtype.kind in "bi" else x.dtype)
    total = np.sum(w, axis=axis, dtype=kind, keepdims=keep)
    y = np.sum(x.astype(kind, copy=False) * w.astype(kind, copy=False), axis=axis, keepdims=keep) / total
    return (y, total) if returned else y


@implements(np.var)
def var(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = False,
    *,
    where: Any = True,
    mean: Any = np._NoValue,
    correction: Any = np._NoValue,
) -> Any:
    x = array(a) if dtype is None else array(a).astype(np.dtype(dtype))
    axes = axes_of(axis, x.ndim)
    if where is not True and where is not np._NoValue:
        chosen = np.broadcast_to(where, x.shape)
        center = FUNCTIONS[np.mean](x, axes, keepdims=True, where=chosen) if mean is np._NoValue else mean
        sizes = np.absolute(x - center)
        count = np.sum(chosen, axis=axes, keepdims=keepdims is True) - (
            ddof if correction is np._NoValue else correction
        )
        total = sum_(sizes * sizes, axes, None, None, keepdims is True, where=chosen)
        return finish(total / np.maximum(count, 0).astype(total.dtype), None, out)
    ddof = ddof if correction is np._NoValue else correction
    center = FUNCTIONS[np.mean](x, axes, keepdims=True) if mean is np._NoValue else mean
    deviation = x - center
    squares = deviation * deviation if x.dtype.kind != "c" else np.absolute(deviation) ** 2
    y = np.sum(squares, axis=axes, keepdims=keepdims is True) / max(_length(x.shape, axes) - ddof, 0)
    return finish(y, None, out)


@implements(np.std)
def std(*args: Any, out: Any = None, **kwargs: Any) -> Any:
    return finish(np.sqrt(var(*args, **kwargs)), None, out)


@implements(np.ptp)
def ptp(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    return finish(max_(a, axis, keepdims=keepdims) - min_(a, axis, keepdims=keepdims), None, out)


def _cumulative(name: str) -> Callable[..., Any]:
    def cumulative(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
        x = array(a) if dtype is None else array(a).astype(np.dtype(dtype))
        if axis is None:
            x, axis = x.ravel() if x.ndim else x.reshape(1), 0
        return finish(apply(name, x, axis=normalized_axis(axis, x.ndim)), None, out)

    return cumulative


cumsum = implements(np.cumsum)(_cumulative("cumsum"))
cumprod = implements(np.cumprod)(_cumulative("cumprod"))
FUNCTIONS[np.add, "accumulate"] = lambda a, axis=0, **kw: np.cumsum(a, axis, **kw)
FUNCTIONS[np.multiply, "accumulate"] = lambda a, axis=0, **kw: np.cumprod(a, axis, **kw)


@implements((np.logaddexp, "reduce"))
def logsumexp(
    a: Any,
    axis: Any = 0,
    dtype: Any = None,
    out: Any = None,
    keepdims: bool = False,
    initial: Any = np._NoValue,
    where: Any = True,
) -> Any:
    x = array(a) if dtype is None else array(a).astype(np.dtype(dtype))
    if where is not True:
        x = np.where(where, x, -math.inf)
    y = apply("logsumexp", x, axis=axes_of(axis, x.ndim), keepdims=bool(keepdims))
    return finish(y if initial is np._NoValue or initial is None else np.logaddexp(y, initial), None, out)


for _name, _ufunc in (("running_argmax", np.maximum), ("running_argmin", np.minimum)):

    def _running(x: Any, *, axis: int, ufunc: Any = _ufunc) -> Any:
        """Return where the running extreme is: the first place of each new one."""
        extreme = np.moveaxis(ufunc.accumulate(x, axis=axis), axis, 0)
        count = np.arange(x.shape[axis]).reshape((-1,) + (1,) * (x.ndim - 1))
        new = np.concatenate([np.ones((1, *extreme.shape[1:]), np.bool_), extreme[1:] != extreme[:-1]])
        return np.moveaxis(np.maximum.accumulate(np.where(new, count, 0), axis=0), 0, axis)

    add_row(
        Op(
            _name,
            _running,
            shape=lambda x, *, axis: x,
            dtype=lambda x: np.intp,
            exact=True,
            code=lambda y, args, params, name=_ufunc.__name__: (
                f"{y} = np.argmax({args[0]}[..., None, :] == np.{name}.accumulate({args[0]}, -1)[..., None], -1)"
                if params["axis"] == -1
                else f"{y} = np.moveaxis(np.argmax(np.moveaxis({args[0]}, {params['axis']}, -1)[..., None, :] == "
                f"np.moveaxis(np.{name}.accumulate({args[0]}, {params['axis']}), {params['axis']}, -1)[..., None], "
                f"-1), -1, {params['axis']})"
            ),
        )
    )


def _cumulative_with_start(name: str, cumulative: Any, first: float) -> None:
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
        return finish(y, None, out)

    if hasattr(np, name):  # NumPy 2.1
        implements(getattr(np, name))(function)


_cumulative_with_start("cumulative_sum", cumsum, 0.0)
_cumulative_with_start("cumulative_prod", cumprod, 1.0)


def _running_extreme(ufunc: np.ufunc) -> Callable[..., Any]:
    name = f"running_{'argmax' if ufunc is np.maximum else 'argmin'}"

    def accumulate(a: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
        x = array(a)
        axis = normalized_axis(axis, x.ndim)
        y = take_along_axis(x, apply(name, x, axis=axis), axis)
        return finish(y, None, out)

    return accumulate


FUNCTIONS[np.maximum, "accumulate"] = _running_extreme(np.maximum)
FUNCTIONS[np.minimum, "accumulate"] = _running_extreme(np.minimum)
