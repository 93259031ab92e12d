"""Shapes: reshaping, moving axes, spreading, flipping."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from koubai.graph.numpy.arguments import array, axes_of, implements, normalized_axis, refuse
from koubai.graph.ops import Shape, apply

__all__ = ["atleast_1d", "atleast_2d", "atleast_3d", "flip", "moveaxis", "resize", "transpose"]


@implements(np.shape)
def shape(a: Any) -> Shape:
    return array(a).shape  # type: ignore[no-any-return]


@implements(np.ndim)
def ndim(a: Any) -> int:
    return len(array(a).shape)


@implements(np.size)
def size(a: Any, axis: int | None = None) -> int:
    return math.prod(array(a).shape) if axis is None else array(a).shape[axis]


@implements(np.reshape)
def reshape(a: Any, /, shape: Any, order: str = "C", *, copy: bool | None = None) -> Any:
    a = array(a)
    wanted = tuple(int(n) for n in shape) if isinstance(shape, tuple | list) else (int(shape),)
    if order == "F":
        flat = reshape(np.transpose(a), -1)
        return np.transpose(reshape(flat, wanted[::-1]))
    if order not in ("C", "A"):
        refuse("reshape", "order", order)
    if -1 in wanted:
        rest = -math.prod(wanted)
        if wanted.count(-1) > 1 or rest <= 0 or a.size % rest:
            raise ValueError(f"cannot reshape array of size {a.size} into shape {wanted}")
        wanted = tuple(a.size // rest if n == -1 else n for n in wanted)
    if math.prod(wanted) != a.size:
        raise ValueError(f"cannot reshape array of size {a.size} into shape {wanted}")
    return apply("reshape", a, shape=wanted)


@implements(np.ravel)
def ravel(a: Any, order: str = "C") -> Any:
    return reshape(a, (-1,) if array(a).size else (0,), order)


@implements(np.transpose)
def transpose(a: Any, axes: Any = None) -> Any:
    a = array(a)
    order = tuple(range(a.ndim))[::-1] if axes is None else tuple(normalized_axis(i, a.ndim) for i in axes)
    if sorted(order) != list(range(a.ndim)):
        raise ValueError("axes don't match array")
    return apply("transpose", a, axes=order) if a.ndim > 1 else a


implements(np.permute_dims)(transpose)


@implements(np.matrix_transpose)
def matrix_transpose(x: Any) -> Any:
    return swapaxes(x, -1, -2)


@implements(np.swapaxes)
def swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    order = list(range(a.ndim))
    i, j = normalized_axis(axis1, a.ndim), normalized_axis(axis2, a.ndim)
    order[i], order[j] = order[j], order[i]
    return transpose(a, order)


@implements(np.moveaxis)
def moveaxis(a: Any, source: Any, destination: Any) -> Any:
    sources = [normalized_axis(i, a.ndim) for i in (source if isinstance(source, tuple | list) else [source])]
    places = [
        normalized_axis(i, a.ndim) for i in (destination if isinstance(destination, tuple | list) else [destination])
    ]
    order = [i for i in range(a.ndim) if i not in sources]
    for place, origin in sorted(zip(places, sources, strict=True)):
        order.insert(place, origin)
    return transpose(a, order)


@implements(np.rollaxis)
def rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    axis = normalized_axis(axis, a.ndim)
    start = start + a.ndim if start < 0 else start
    return moveaxis(a, axis, start - 1 if start > axis else start)


@implements(np.squeeze)
def squeeze(a: Any, axis: Any = None) -> Any:
    axes = axes_of(axis, a.ndim)
    if axes is None:
        axes = tuple(i for i, n in enumerate(a.shape) if n == 1)
    if any(a.shape[i] != 1 for i in axes):
        raise ValueError("cannot select an axis to squeeze out which has size not equal to one")
    return apply("reshape", a, shape=tuple(n for i, n in enumerate(a.shape) if i not in axes))


@implements(np.expand_dims)
def expand_dims(a: Any, axis: Any) -> Any:
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    total = a.ndim + len(axes)
    places = {normalized_axis(i, total) for i in axes}
    rest = iter(a.shape)
    return apply("reshape", a, shape=tuple(1 if i in places else next(rest) for i in range(total)))


@implements(np.atleast_1d)
def atleast_1d(*arrays: Any) -> Any:
    return _each(arrays, lambda a: a if a.ndim else a.reshape((1,)))


@implements(np.atleast_2d)
def atleast_2d(*arrays: Any) -> Any:
    return _each(arrays, lambda a: a if a.ndim > 1 else a.reshape((1, a.size)))


@implements(np.atleast_3d)
def atleast_3d(*arrays: Any) -> Any:
    def one(a: Any) -> Any:
        if a.ndim > 2:
            return a
        return a.reshape((*a.shape, 1)) if a.ndim == 2 else a.reshape((1, a.size, 1))

    return _each(arrays, one)


def _each(arrays: Sequence[Any], change: Callable[[Any], Any]) -> Any:
    changed = tuple(change(array(a)) for a in arrays)
    return changed[0] if len(changed) == 1 else changed


@implements(np.broadcast_to)
def broadcast_to(array: Any, shape: Any, subok: bool = False) -> Any:
    wanted = tuple(shape) if isinstance(shape, tuple | list) else (int(shape),)
    return array if array.shape == wanted else apply("broadcast_to", array, shape=wanted)


@implements(np.broadcast_arrays)
def broadcast_arrays(*args: Any, subok: bool = False) -> Any:
    arrays = [array(a) for a in args]
    wanted = np.broadcast_shapes(*(a.shape for a in arrays))
    return tuple(np.broadcast_to(a, wanted) for a in arrays)


@implements(np.flip)
def flip(m: Any, axis: Any = None) -> Any:
    axes = axes_of(axis, m.ndim)
    chosen = range(m.ndim) if axes is None else axes
    return m[tuple(slice(None, None, -1) if i in chosen else slice(None) for i in range(m.ndim))]


implements(np.fliplr)(lambda m: flip(m, 1))
implements(np.flipud)(lambda m: flip(m, 0))


@implements(np.rot90)
def rot90(m: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Any:
    i, j = (normalized_axis(a, m.ndim) for a in axes)
    k %= 4
    if k == 0:
        return m[...]
    if k == 2:
        return flip(flip(m, i), j)
    return swapaxes(flip(m, j), i, j) if k == 1 else flip(swapaxes(m, i, j), j)


@implements(np.resize)
def resize(a: Any, new_shape: Any) -> Any:
    x = array(a).ravel()
    wanted = tuple(new_shape) if isinstance(new_shape, tuple | list) else (int(new_shape),)
    return x[np.arange(math.prod(wanted)) % x.size].reshape(wanted)
