"""Functions that call a function: piecewise, along an axis, over axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from koubai.graph.numpy.arguments import array, implements, normalized_axis
from koubai.graph.numpy.joining import stack
from koubai.graph.numpy.shapes import moveaxis
from koubai.graph.traced import Traced

__all__: list[str] = []


@implements(np.piecewise)
def piecewise(x: Any, condlist: Any, funclist: Any, *args: Any, **kw: Any) -> Any:
    if type(condlist) is Traced or not isinstance(condlist, list | tuple):
        condlist = list(condlist) if np.ndim(condlist) > np.ndim(x) else [condlist]
    functions = list(funclist)
    if len(functions) == len(condlist) + 1:
        y = _branch(functions.pop(), x, args, kw)
    else:
        y = np.zeros_like(x)
    for condition, function in zip(condlist, functions, strict=True):
        # each branch sees only points where it holds, as in NumPy; elsewhere a point that is safe if any is
        y = _chosen(condition, function, x, args, kw, y)
    return y


def _branch(function: Any, x: Any, args: Any, kw: Any) -> Any:
    return function(x, *args, **kw) if callable(function) else function


def _chosen(condition: Any, function: Any, x: Any, args: Any, kw: Any, otherwise: Any) -> Any:
    if not callable(function) or x.ndim == 0:
        return np.where(condition, _branch(function, x, args, kw), otherwise)
    y = np.zeros_like(x) + otherwise
    y[condition] = function(x[condition], *args, **kw)
    return y


@implements(np.apply_over_axes)
def apply_over_axes(func: Any, a: Any, axes: Any) -> Any:
    y = array(a)
    for axis in axes if isinstance(axes, tuple | list) else (axes,):
        axis = normalized_axis(axis, y.ndim)
        result = array(func(y, axis))
        y = result if result.ndim == y.ndim else np.expand_dims(result, axis)
    return y


@implements(np.apply_along_axis)
def apply_along_axis(func1d: Any, axis: int, arr: Any, *args: Any, **kwargs: Any) -> Any:
    x = moveaxis(arr, axis, -1)
    rows = x.reshape((-1, x.shape[-1]))
    results = [array(func1d(rows[i], *args, **kwargs)) for i in range(rows.shape[0])]
    y = stack(results, 0).reshape((*x.shape[:-1], *results[0].shape))
    return (
        moveaxis(y, tuple(range(x.ndim - 1, y.ndim)), tuple(range(axis % x.ndim, axis % x.ndim + results[0].ndim)))
        if results[0].ndim
        else y
    )
