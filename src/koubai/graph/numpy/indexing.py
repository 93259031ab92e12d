"""Choosing elements, writing into them, and windows of them.

Which elements are meant must be known while tracing: indices are plain numbers, or looked at and guarded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from koubai.graph.numpy.arguments import array, finish, implements, normalized_axis, refuse
from koubai.graph.numpy.shapes import resize
from koubai.graph.ops import ANY, Op, Shape, add_row, apply
from koubai.graph.traced import FUNCTIONS, Traced, concretize, overwrite
from koubai.graph.user_code import untraceable

__all__ = ["take", "take_along_axis"]


@implements(np.where)
def where(condition: Any, *branches: Any) -> Any:
    if not branches:
        return nonzero(condition)
    a, b = (array(v) if isinstance(v, list | tuple) else v for v in branches)
    if not isinstance(condition, bool | np.bool_) and condition.dtype != np.bool_:
        condition = condition != 0
    return apply("where", condition, a, b)


@implements(np.select)
def select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Any:
    if len(condlist) != len(choicelist):
        raise ValueError("list of cases must be same length as list of conditions")
    y = default
    for condition, choice in zip(condlist[::-1], choicelist[::-1], strict=True):
        y = np.where(condition, choice, y)
    return y


@implements(np.nonzero)
def nonzero(a: Any) -> Any:
    mask = a if a.dtype == np.bool_ else a != 0
    count = apply("sum", mask, axis=None, keepdims=False)
    if type(count) is Traced:
        n = concretize(count, "nonzero", "use np.where")
        return tuple(apply("nonzero", mask, axis=i, count=int(n)) for i in range(mask.ndim))
    return np.nonzero(mask)


@implements(np.take)
def take(a: Any, indices: Any, axis: int | None = None, out: Any = None, mode: str = "raise") -> Any:
    x = array(a)
    if axis is None:
        x, axis = x.ravel(), 0
    axis = normalized_axis(axis, x.ndim)
    if type(indices) is not Traced:
        indices = np.asarray(indices)
    if mode == "wrap":
        indices = indices % x.shape[axis]
    elif mode == "clip":
        indices = np.clip(indices, 0, x.shape[axis] - 1)
    return finish(x[(*(slice(None),) * axis, indices)], None, out)


@implements(np.compress)
def compress(condition: Any, a: Any, axis: int | None = None, out: Any = None) -> Any:
    return take(a, nonzero(array(condition))[0], axis, out)


@implements(np.extract)
def extract(condition: Any, arr: Any) -> Any:
    return arr.ravel()[nonzero(array(condition).ravel())[0]]


@implements(np.take_along_axis)
def take_along_axis(arr: Any, indices: Any, axis: int | None = -1) -> Any:
    if axis is None:
        return arr.ravel()[indices]
    axis = normalized_axis(axis, arr.ndim)
    index = [np.arange(n).reshape((-1,) + (1,) * (arr.ndim - 1 - i)) for i, n in enumerate(indices.shape)]
    index[axis] = indices
    return arr[tuple(index)]


# --- windows
def _windows(x: Any, *, window: tuple[int, ...], axis: tuple[int, ...]) -> Any:
    return np.lib.stride_tricks.sliding_window_view(x, window, axis)


def _windows_shape(x: Shape, *, window: tuple[int, ...], axis: tuple[int, ...]) -> Shape:
    size = list(x)
    for n, i in zip(window, axis, strict=True):
        size[i] -= n - 1
    return (*size, *window)


def _overlap_add(w: Any, *, shape: Shape, window: tuple[int, ...], axis: tuple[int, ...]) -> Any:
    """Add every window back to where it was taken from: the transpose of sliding_window_view."""
    x = np.zeros(shape, w.dtype)
    for offset in np.ndindex(*window):
        place = [slice(None)] * len(shape)
        for o, i in zip(offset, axis, strict=True):  # an axis may be named twice
            start = (place[i].start or 0) + o
            place[i] = slice(start, start + w.shape[i])
        x[tuple(place)] += w[(..., *offset)]
    return x


_WINDOWS: tuple[tuple[tuple[Shape, ...], dict[str, Any]], ...] = (
    (((5,),), {"window": (2,), "axis": (0,)}),
    (((3, 4),), {"window": (2, 3), "axis": (0, 1)}),
    (((2, 4),), {"window": (2,), "axis": (1,)}),
)


def _code(name: str) -> Any:
    def code(y: str, args: Sequence[str], params: dict[str, Any]) -> str:
        window, axis = params["window"], params["axis"]
        if name == "sliding_window_view":
            return f"{y} = np.lib.stride_tricks.sliding_window_view({args[0]}, {window}, {axis})"
        place = ", ".join(
            "slice(None)" if i not in axis else f"slice(o[{axis.index(i)}], o[{axis.index(i)}] + {args[0]}.shape[{i}])"
            for i in range(len(params["shape"]))
        )
        return (
            f"{y} = np.zeros({params['shape']}, {args[0]}.dtype); "
            f"[np.add({y}[{place}], {args[0]}[(..., *o)], out={y}[{place}]) for o in np.ndindex(*{window})]"
        )

    return code


add_row(
    Op(
        "sliding_window_view",
        _windows,
        (lambda g, y, x, *, window, axis: apply("overlap_add", g, shape=x.shape, window=window, axis=axis),),
        shape=_windows_shape,
        code=_code("sliding_window_view"),
        view=True,
        exact=True,
        domain=(ANY,),
        examples=_WINDOWS,
    )
)
add_row(
    Op(
        "overlap_add",
        _overlap_add,
        (lambda g, y, w, *, shape, window, axis: apply("sliding_window_view", g, window=window, axis=axis),),
        shape=lambda w, *, shape, window, axis: shape,
        code=_code("overlap_add"),
        domain=(ANY,),
        examples=tuple(
            ((_windows_shape(*shapes, **params),), {"shape": shapes[0], **params}) for shapes, params in _WINDOWS
        ),
    )
)


@implements(np.lib.stride_tricks.sliding_window_view)
def sliding_window_view(
    x: Any, window_shape: Any, axis: Any = None, *, subok: bool = False, writeable: bool = False
) -> Any:
    if writeable:
        refuse("lib.stride_tricks.sliding_window_view", "writeable", writeable)
    x = array(x)
    window = tuple(window_shape) if isinstance(window_shape, tuple | list) else (int(window_shape),)
    if axis is None:
        axes = tuple(range(x.ndim))
    else:
        axes = tuple(normalized_axis(i, x.ndim) for i in (axis if isinstance(axis, tuple | list) else (axis,)))
    if len(axes) != len(window):
        raise ValueError("Must provide matching length window_shape and axis")
    if len(set(axes)) != len(axes):
        refuse("lib.stride_tricks.sliding_window_view", "axis", axis)
    return apply("sliding_window_view", x, window=tuple(int(n) for n in window), axis=axes)


@implements(np.choose)
def choose(a: Any, choices: Any, out: Any = None, mode: str = "raise") -> Any:
    if mode != "raise":
        refuse("choose", "mode", mode)
    options = [c if type(c) in (int, float) else array(c) for c in choices]  # Python numbers give way to float32
    y = options[0]
    for i, option in enumerate(options[1:], 1):
        y = np.where(array(a) == i, option, y)
    y = y if np.shape(y) else np.broadcast_to(array(y), np.shape(a)).copy()
    return finish(y, None, out)


@implements(np.flatnonzero)
def flatnonzero(a: Any) -> Any:
    return FUNCTIONS[np.nonzero](array(a).ravel())[0]


@implements(np.argwhere)
def argwhere(a: Any) -> Any:
    return np.stack(FUNCTIONS[np.nonzero](a), axis=1)


# --- writing
def _target(function: str, a: Any) -> Traced:
    if type(a) is not Traced:
        raise untraceable(f"np.{function} writes into an array made elsewhere", "make it inside the function")
    return a


@implements(np.put)
def put(a: Any, ind: Any, v: Any, mode: str = "raise") -> None:
    if mode != "raise":
        refuse("put", "mode", mode)
    x = _target("put", a)
    places = np.unravel_index(np.asarray(ind).ravel() % x.size, x.shape)
    x[places] = v if np.ndim(v) == 0 else resize(v, places[0].size)


@implements(np.place)
def place(arr: Any, mask: Any, vals: Any) -> None:
    x = _target("place", arr)
    found = FUNCTIONS[np.nonzero](mask) if type(mask) is Traced else np.nonzero(mask)
    if found[0].size:
        x[tuple(found)] = resize(vals, found[0].size)


@implements(np.putmask)
def putmask(a: Any, mask: Any, values: Any) -> None:
    x = _target("putmask", a)
    v = array(values)
    overwrite(x, np.where(mask, v if v.shape in ((), x.shape) else resize(v, x.shape), x).astype(x.dtype))


@implements(np.put_along_axis)
def put_along_axis(arr: Any, indices: Any, values: Any, axis: int | None) -> None:
    x = _target("put_along_axis", arr)
    if axis is None:
        refuse("put_along_axis", "axis", axis)
    else:
        axis = normalized_axis(axis, x.ndim)
        index: list[Any] = [
            np.arange(n).reshape((-1,) + (1,) * (x.ndim - 1 - i)) for i, n in enumerate(np.shape(indices))
        ]
        index[axis] = indices
        x[tuple(index)] = values
