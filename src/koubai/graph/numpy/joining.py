"""Joining, splitting, repeating, padding, inserting."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from koubai.graph.numpy.arguments import array, finish, implements, normalized_axis, refuse, same_dtype
from koubai.graph.numpy.indexing import take
from koubai.graph.numpy.shapes import atleast_1d, atleast_2d, atleast_3d, moveaxis
from koubai.graph.ops import Index, apply
from koubai.graph.traced import Traced

__all__ = ["concatenate", "pad", "roll", "stack"]


@implements(np.concatenate, np.concat)
def concatenate(arrays: Any, axis: Any = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    parts = same_dtype(list(arrays), dtype)
    if axis is None:
        parts, axis = [part.ravel() for part in parts], 0
    return finish(apply("concatenate", *parts, axis=normalized_axis(axis, parts[0].ndim)), None, out)


@implements(np.stack)
def stack(arrays: Any, axis: int = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    parts = same_dtype(list(arrays), dtype)
    if len({part.shape for part in parts}) != 1:
        raise ValueError("all input arrays must have the same shape")
    return finish(apply("stack", *parts, axis=normalized_axis(axis, parts[0].ndim + 1)), None, out)


@implements(np.hstack)
def hstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    parts = [atleast_1d(a) for a in tup]
    return concatenate(parts, 0 if parts[0].ndim == 1 else 1, dtype=dtype)


@implements(np.vstack)
def vstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    return concatenate([atleast_2d(a) for a in tup], 0, dtype=dtype)


@implements(np.dstack)
def dstack(tup: Any) -> Any:
    return concatenate([atleast_3d(a) for a in tup], 2)


@implements(np.column_stack)
def column_stack(tup: Any) -> Any:
    return concatenate([a if a.ndim > 1 else a.reshape((a.size, 1)) for a in map(array, tup)], 1)


@implements(np.block)
def block(arrays: Any) -> Any:
    depth = _depth(arrays)

    def join(part: Any, level: int) -> Any:
        if level == depth:
            a = array(part)
            return a if a.ndim >= depth else a.reshape((1,) * (depth - a.ndim) + a.shape)
        return concatenate([join(p, level + 1) for p in part], level - depth)

    return join(arrays, 0)


def _depth(x: Any) -> int:
    return 1 + _depth(x[0]) if isinstance(x, list) else 0


@implements(np.append)
def append(arr: Any, values: Any, axis: int | None = None) -> Any:
    return concatenate([array(arr), array(values)], axis)


@implements(np.array_split)
def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    axis = normalized_axis(axis, ary.ndim)
    n = ary.shape[axis]
    if isinstance(indices_or_sections, int | np.integer):
        each, extra = divmod(n, int(indices_or_sections))
        sizes = [each + 1] * extra + [each] * (int(indices_or_sections) - extra)
        cuts = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    else:
        cuts = [0, *(int(i) for i in indices_or_sections), n]
    lead = (slice(None),) * axis
    return [ary[(*lead, slice(start, stop))] for start, stop in itertools.pairwise(cuts)]


@implements(np.split)
def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    if isinstance(indices_or_sections, int | np.integer) and ary.shape[axis] % int(indices_or_sections):
        raise ValueError("array split does not result in an equal division")
    return array_split(ary, indices_or_sections, axis)


implements(np.hsplit)(lambda ary, n: split(ary, n, 1 if ary.ndim > 1 else 0))
implements(np.vsplit)(lambda ary, n: split(ary, n, 0))
implements(np.dsplit)(lambda ary, n: split(ary, n, 2))


if hasattr(np, "unstack"):  # NumPy 2.1

    @implements(np.unstack)
    def unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
        return tuple(moveaxis(x, axis, 0))


@implements(np.tile)
def tile(A: Any, reps: Any) -> Any:
    a = array(A)
    counts = tuple(reps) if isinstance(reps, tuple | list) else (int(reps),)
    width = max(a.ndim, len(counts))
    counts = (1,) * (width - len(counts)) + counts
    base = (1,) * (width - a.ndim) + a.shape
    spread = tuple(n for r, s in zip(counts, base, strict=True) for n in (r, s))
    blocks = a.reshape(tuple(n for s in base for n in (1, s)))
    return np.broadcast_to(blocks, spread).reshape(tuple(r * s for r, s in zip(counts, base, strict=True)))


@implements(np.repeat)
def repeat(a: Any, repeats: Any, axis: int | None = None) -> Any:
    x = array(a)
    if axis is None:
        x, axis = x.ravel(), 0
    axis = normalized_axis(axis, x.ndim)
    chosen = np.repeat(np.arange(x.shape[axis]), np.asarray(repeats))
    return take(x, chosen, axis)


@implements(np.roll)
def roll(a: Any, shift: Any, axis: Any = None) -> Any:
    x = array(a)
    if axis is None:
        return roll(x.ravel(), shift, 0).reshape(x.shape)
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    shifts = shift if isinstance(shift, tuple | list) else (shift,) * len(axes)
    for s, i in zip(shifts, axes, strict=True):
        i = normalized_axis(i, x.ndim)
        cut = int(s) % x.shape[i] if x.shape[i] else 0
        if cut:
            lead = (slice(None),) * i
            x = concatenate([x[(*lead, slice(-cut, None))], x[(*lead, slice(None, -cut))]], i)
    return +x if x is a else x


@implements(np.pad)
def pad(array: Any, pad_width: Any, mode: Any = "constant", **kwargs: Any) -> Any:
    x = array
    widths = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2)).tolist()
    if mode == "constant":
        fill = kwargs.get("constant_values", 0)
        if np.ndim(fill):
            refuse("pad", "constant_values", fill)
        outer = tuple(n + before + after for n, (before, after) in zip(x.shape, widths, strict=True))
        y = np.zeros(outer, x.dtype)
        inner = tuple(slice(before, before + n) for n, (before, _) in zip(x.shape, widths, strict=True))
        if type(fill) is Traced or fill != 0:
            y = y + fill
        return apply("setitem", y, x, index=Index(inner))
    if mode not in ("edge", "wrap", "reflect", "symmetric") or kwargs.get("reflect_type", "even") != "even":
        refuse("pad", "mode", mode)
    for axis, (before, after) in enumerate(widths):
        if before or after:
            x = take(x, np.pad(np.arange(x.shape[axis]), (before, after), mode), axis)
    return x


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
