"""Sorting, searching and the places of extremes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from koubai.graph.numpy.arguments import array, finish, implements, normalized_axis
from koubai.graph.numpy.indexing import take, take_along_axis
from koubai.graph.ops import Op, add_row, apply

__all__ = ["argmax", "argmin", "argsort", "searchsorted", "sort"]


@implements(np.argsort)
def argsort(a: Any, axis: int | None = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    if axis is None:
        a, axis = a.ravel(), 0
    return apply("argsort", a, axis=normalized_axis(axis, a.ndim))


@implements(np.sort)
def sort(a: Any, axis: int | None = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    x = array(a)
    if axis is None:
        x, axis = x.ravel(), 0
    return take_along_axis(x, argsort(x, axis), axis)


def _arg_extreme(name: str) -> Callable[..., Any]:
    def arg_extreme(a: Any, axis: int | None = None, out: Any = None, *, keepdims: Any = False) -> Any:
        place = apply(name, a, axis=None if axis is None else normalized_axis(axis, a.ndim))
        if keepdims is True:
            place = place.reshape((1,) * a.ndim) if axis is None else np.expand_dims(place, axis)
        return finish(place, None, out)

    return arg_extreme


argmax = implements(np.argmax)(_arg_extreme("argmax"))
argmin = implements(np.argmin)(_arg_extreme("argmin"))


@implements(np.searchsorted)
def searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> Any:
    a = array(a) if sorter is None else take(a, sorter, 0)
    return apply("searchsorted", a, array(v), side=side)


# --- partial order
add_row(
    Op(
        "argpartition",
        lambda x, *, kth, axis: np.argpartition(x, kth, axis=axis),
        shape=lambda x, *, kth, axis: x,
        dtype=lambda x: np.intp,
        exact=True,
        code=lambda y, args, params: f"{y} = np.argpartition({args[0]}, {params['kth']}, axis={params['axis']})",
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
