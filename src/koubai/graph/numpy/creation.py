"""Arrays made after the model of another, copies, ranges and grids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from koubai.graph.numpy.arguments import array, finish, implements
from koubai.graph.numpy.joining import concatenate
from koubai.graph.numpy.shapes import moveaxis
from koubai.graph.traced import Traced, overwrite, trace_of, value_of, zero_array
from koubai.graph.user_code import untraceable

if TYPE_CHECKING:
    from koubai.graph.tracer import Trace

__all__ = ["linspace", "new_array"]


@implements(np.meshgrid)
def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> Any:
    arrays = [array(x).ravel() for x in xi]
    width = len(arrays)
    order = list(range(width))
    if indexing == "xy" and width > 1:
        order[0], order[1] = 1, 0
    grids = [a.reshape(tuple(-1 if j == order[i] else 1 for j in range(width))) for i, a in enumerate(arrays)]
    if sparse:
        return tuple(grids)
    wanted = np.broadcast_shapes(*(g.shape for g in grids))
    return tuple(np.broadcast_to(g, wanted) for g in grids)


@implements(np.zeros_like, np.empty_like)
def zeros_like(
    a: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, device: Any = None
) -> Any:
    return _filled(a, 0.0, dtype, shape, order)


@implements(np.ones_like)
def ones_like(
    a: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, device: Any = None
) -> Any:
    return _filled(a, 1.0, dtype, shape, order)


@implements(np.full_like)
def full_like(
    a: Any,
    fill_value: Any,
    dtype: Any = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
    device: Any = None,
) -> Any:
    return _filled(a, fill_value, dtype, shape, order)


def _filled(a: Any, value: Any, dtype: Any, shape: Any, order: str) -> Any:
    kind = a.dtype if dtype is None else dtype
    held: Any
    if shape is not None:
        held = np.zeros(shape, np.dtype(kind), order="F") if order == "F" else None
        return new_array(trace_of(a), shape, kind, value, held)
    held = value_of(a)
    if isinstance(held, np.ndarray):  # in a's own layout, on which it depends whether a later ravel is a view
        held = np.zeros_like(held, dtype=np.dtype(kind), order=order)  # type: ignore[call-overload]
        return new_array(trace_of(a), a.shape, kind, value, held)
    return new_array(trace_of(a), a.shape, kind, value)


def new_array(trace: Trace, shape: Any, dtype: Any, value: Any = 0.0, held: Any = None) -> Any:
    """Return an assignable traced array full of ``value``; held: its zeros, if made."""
    wanted = tuple(n.__index__() for n in shape) if isinstance(shape, tuple | list) else (shape.__index__(),)
    y = zero_array(trace, wanted, dtype, held)
    if type(value) is Traced or value != 0:
        y[...] = value
    return y


@implements(np.copy)
def copy(a: Any, order: str = "K", subok: bool = False) -> Any:
    return array(a).copy(order)


@implements(np.copyto)
def copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    if type(dst) is not Traced:
        raise untraceable("np.copyto writes into an array made elsewhere", "make it inside the function with np.empty")
    overwrite(dst, src if where is True else np.where(where, src, dst))


@implements(np.linspace)
def linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
    *,
    device: Any = None,
) -> Any:
    div = num - 1 if endpoint else num
    kinds = [np.ones((), v.dtype) if hasattr(v, "dtype") else v for v in (start, stop)]
    start, stop = (v if type(v) in (int, float) else array(v) for v in (start, stop))
    k = np.arange(num, dtype=np.linspace(kinds[0], kinds[1], 2).dtype).reshape(
        (-1,) + (1,) * max(np.ndim(start), np.ndim(stop))
    )
    step = (stop - start) / max(div, 1)
    y = k * step + start
    if endpoint and num > 1:
        y = concatenate(
            [
                y[:-1],
                np.broadcast_to(np.asarray(stop, y.dtype) if type(stop) is not Traced else stop, y.shape[1:]).reshape(
                    (1, *y.shape[1:])
                ),
            ],
            0,
        )
    y = finish(moveaxis(y, 0, axis) if axis else y, dtype, None)
    return (y, step) if retstep else y


# --- spacings
@implements(np.logspace)
def logspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, base: Any = 10.0, dtype: Any = None, axis: int = 0
) -> Any:
    y = np.power(base, linspace(start, stop, num, endpoint, axis=axis))
    return y if dtype is None else y.astype(np.dtype(dtype))


@implements(np.geomspace)
def geomspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0) -> Any:
    start, stop = (array(v).astype(np.float64, copy=False) for v in (start, stop))  # as NumPy does
    if np.any(start == 0) or np.any(stop == 0):
        raise ValueError("Geometric sequence cannot include zero")
    if not np.all(np.sign(start) == np.sign(stop)):
        raise untraceable("np.geomspace from one sign to the other is complex", "use np.linspace")
    sign = np.sign(start)
    y = sign * np.exp(linspace(np.log(start * sign), np.log(stop * sign), num, endpoint, axis=axis))
    return y if dtype is None else y.astype(np.dtype(dtype))
