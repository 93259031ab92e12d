"""Functions that cut, insert, choose and write: compositions of primitives, as in graph/functions.py.

Which elements are meant must be known while tracing: indices are plain numbers, or looked at and guarded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from koubai.graph.numpy.functions import array, concatenate, implements, normalized_axis, refuse, take, take_along_axis
from koubai.graph.ops import ANY, Op, Shape, add_row, apply
from koubai.graph.traced import FUNCTIONS, Traced
from koubai.graph.user_code import untraceable

__all__: list[str] = []


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


# --- partial order
add_row(
    Op(
        "argpartition",
        lambda x, *, kth, axis: np.argpartition(x, kth, axis=axis),
        shape=lambda x, *, kth, axis: x,
        dtype=lambda x: np.intp,
        code=lambda y, args, params: f"{y} = np.argpartition({args[0]}, {params['kth']}, axis={params['axis']})",
    )
)
for _name, _ufunc in (("running_argmax", np.maximum), ("running_argmin", np.minimum)):

    def _running(x: Any, *, axis: int, ufunc: Any = _ufunc) -> Any:
        """Where the running extreme stands: the first place of each new one."""
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
            code=lambda y, args, params, name=_ufunc.__name__: (
                f"{y} = np.argmax({args[0]}[..., None, :] == np.{name}.accumulate({args[0]}, -1)[..., None], -1)"
                if params["axis"] == -1
                else f"{y} = np.moveaxis(np.argmax(np.moveaxis({args[0]}, {params['axis']}, -1)[..., None, :] == "
                f"np.moveaxis(np.{name}.accumulate({args[0]}, {params['axis']}), {params['axis']}, -1)[..., None], "
                f"-1), -1, {params['axis']})"
            ),
        )
    )


@implements(np.argpartition)
def argpartition(a: Any, kth: Any, axis: int | None = -1, kind: str = "introselect", order: Any = None) -> Any:
    x = array(a)
    if axis is None:
        x, axis = x.ravel(), 0
    places = tuple(int(k) for k in kth) if isinstance(kth, tuple | list | np.ndarray) else int(kth)
    return apply("argpartition", x, kth=places, axis=normalized_axis(axis, x.ndim))


@implements(np.partition)
def partition(a: Any, kth: Any, axis: int | None = -1, kind: str = "introselect", order: Any = None) -> Any:
    x = array(a)
    if axis is None:
        x, axis = x.ravel(), 0
    return take_along_axis(x, argpartition(x, kth, axis), axis)


# --- choosing, inserting, deleting
@implements(np.choose)
def choose(a: Any, choices: Any, out: Any = None, mode: str = "raise") -> Any:
    if mode != "raise":
        refuse("choose", "mode", mode)
    options = [c if type(c) in (int, float) else array(c) for c in choices]  # Python numbers give way to float32
    y = options[0]
    for i, option in enumerate(options[1:], 1):
        y = np.where(array(a) == i, option, y)
    y = y if np.shape(y) else np.broadcast_to(array(y), np.shape(a)).copy()
    return y if out is None else out._write(y)


@implements(np.delete)
def delete(arr: Any, obj: Any, axis: int | None = None) -> Any:
    x = array(arr)
    if axis is None:
        x, axis = x.ravel(), 0
    return take(x, np.delete(np.arange(x.shape[axis]), obj), axis)


@implements(np.insert)
def insert(arr: Any, obj: Any, values: Any, axis: int | None = None) -> Any:
    x, v = array(arr), array(values)
    if axis is None:
        x, axis = x.ravel(), 0
    axis = normalized_axis(axis, x.ndim)
    n = x.shape[axis]
    if x.ndim == 1:
        v = np.broadcast_to(v.ravel(), (max(v.size, np.size(obj)),)) if v.size == 1 else v.ravel()
    elif np.ndim(obj):
        refuse("insert", "obj", "several places in an array of more than one axis")
    else:
        slab = (*x.shape[:axis], *x.shape[axis + 1 :])
        v = np.expand_dims(np.broadcast_to(v, slab), axis)
    order = np.insert(np.arange(n), obj, n + np.arange(v.shape[axis]))
    return take(concatenate([x, v.astype(x.dtype)], axis), order, axis)


@implements(np.resize)
def resize(a: Any, new_shape: Any) -> Any:
    x = array(a).ravel()
    wanted = tuple(new_shape) if isinstance(new_shape, tuple | list) else (int(new_shape),)
    return x[np.arange(math.prod(wanted)) % x.size].reshape(wanted)


@implements(np.trim_zeros)
def trim_zeros(filt: Any, trim: str = "fb", axis: Any = None) -> Any:
    x = array(filt)
    if x.ndim != 1:
        refuse("trim_zeros", "filt", "an array of more than one axis")
    start, stop = 0, x.shape[0]
    if "f" in trim.lower():
        while start < stop and not x[start]:
            start += 1
    if "b" in trim.lower():
        while stop > start and not x[stop - 1]:
            stop -= 1
    return x[start:stop]


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
    x._write(np.where(mask, v if v.shape in ((), x.shape) else resize(v, x.shape), x).astype(x.dtype))


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
