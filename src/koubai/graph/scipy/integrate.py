"""Integrals of samples after ``scipy.integrate``: by trapezoids and by Simpson's rule, whole and cumulative.

Cartwright, "Simpson's rule cumulative integration with MS Excel and irregularly-spaced data", Journal of Mathematical
Sciences and Mathematics Education 12(2), 2017.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from koubai.graph.numpy import sampled
from koubai.graph.numpy.arguments import array, normalized_axis
from koubai.graph.numpy.joining import concatenate
from koubai.graph.numpy.sampled import diff
from koubai.graph.numpy.shapes import flip, moveaxis
from koubai.graph.twins import Twins

__all__ = ["standin"]

_TWINS = Twins("scipy.integrate")
standin = _TWINS.standin


@_TWINS.of("trapezoid", "trapz")
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    return sampled.trapezoid(y, x, dx, axis)


def _last(y: Any, x: Any, axis: int) -> tuple[Any, Any, int]:
    """Return the samples, and the distances of their points if there are points, with the axis at the end."""
    y = array(y)
    y = y.astype(np.float64) if y.dtype.kind in "biu" else y
    axis = normalized_axis(axis, y.ndim)
    moved = moveaxis(y, axis, -1)
    if x is None:
        return moved, None, axis
    x = array(x)
    if x.ndim != 1 and x.ndim != y.ndim:
        raise ValueError("If given, shape of x must be 1-D or the same as y.")
    x = x if x.ndim == 1 else moveaxis(x, axis, -1)
    if x.shape[-1] != moved.shape[-1]:
        raise ValueError("If given, length of x along axis must be the same as y.")
    return moved, diff(x), axis


@_TWINS.of("simpson", "simps")
def simpson(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    y, h, _ = _last(y, x, axis)
    h = h if h is None else h.astype(np.float64, copy=False)  # as SciPy takes it
    n = y.shape[-1]
    if n == 2:
        return 0.5 * (dx if h is None else h[..., 0]) * (y[..., 0] + y[..., 1])
    if n < 2:
        return np.sum(y * 0.0, axis=-1)
    odd = n if n % 2 else n - 1  # pairs of intervals; one interval may be left
    left, middle, right = y[..., 0 : odd - 2 : 2], y[..., 1 : odd - 1 : 2], y[..., 2:odd:2]
    if h is None:
        total = np.sum(left + 4.0 * middle + right, axis=-1) * (dx / 3.0)
        h0 = h1 = dx
    else:
        first, second = h[..., 0 : odd - 1 : 2], h[..., 1 : odd - 1 : 2]
        both, ratio = first + second, _ratio(first, second)
        parts = left * (2.0 - _ratio(1.0, ratio)) + middle * (both * _ratio(both, first * second))
        total = np.sum(both / 6.0 * (parts + right * (2.0 - ratio)), axis=-1)
        h0, h1 = h[..., -2], h[..., -1]
    if n % 2:
        return total
    last = _ratio(2.0 * h1**2 + 3.0 * h0 * h1, 6.0 * (h1 + h0)) * y[..., -1]
    last = last + _ratio(h1**2 + 3.0 * h0 * h1, 6.0 * h0) * y[..., -2]
    whole = total + last - _ratio(h1**3, 6.0 * h0 * (h0 + h1)) * y[..., -3]
    return whole.astype(total.dtype, copy=False) if np.ndim(total) else whole  # SciPy adds it in place


def _ratio(a: Any, b: Any) -> Any:
    """a / b, and 0 if b is 0, as SciPy has it for points that coincide."""
    return np.where(np.equal(b, 0), 0.0, a / np.where(np.equal(b, 0), 1.0, b))


@_TWINS.of("cumulative_trapezoid", "cumtrapz")
def cumulative_trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1, initial: Any = None) -> Any:
    y, h, axis = _last(y, x, axis)
    sums = np.cumsum((dx if h is None else h) * (y[..., 1:] + y[..., :-1]) / 2.0, axis=-1)
    if initial is not None:
        if np.ndim(initial) or initial != 0:
            raise ValueError("`initial` must be `None` or `0`.")
        sums = concatenate([np.zeros((*sums.shape[:-1], 1), sums.dtype), sums], -1)
    return moveaxis(sums, -1, axis)


@_TWINS.of("cumulative_simpson")
def cumulative_simpson(y: Any, *, x: Any = None, dx: Any = 1.0, axis: int = -1, initial: Any = None) -> Any:
    if array(y).shape[axis] < 3:
        sums = moveaxis(cumulative_trapezoid(y, x, dx, axis), axis, -1)
        axis = normalized_axis(axis, sums.ndim)
    else:
        y, h, axis = _last(y, x, axis)
        if h is None:
            step = array(dx)
            step = step if step.ndim == 0 else moveaxis(step, axis, -1)
            h = np.broadcast_to(step * 1.0, (*y.shape[:-1], y.shape[-1] - 1))
            piece = _even_pieces
        else:
            if np.any(h <= 0):
                raise ValueError("Input x must be strictly increasing.")
            h, piece = np.broadcast_to(h, (*y.shape[:-1], y.shape[-1] - 1)), _uneven_pieces
        ahead = piece(y, h)
        back = flip(piece(flip(y, -1), flip(h, -1)), -1)
        n = y.shape[-1] - 1  # by turns the integral over the first and over the second of two intervals
        order = [i // 2 * 2 if i % 2 == 0 and i < n - 1 else n - 1 + (i - 1) for i in range(n)]
        pieces = concatenate([ahead, back], -1)[..., np.array(order)]
        sums = np.cumsum(pieces, axis=-1)
    if initial is not None:
        first = array(initial)
        first = first * np.ones((*sums.shape[:-1], 1)) if first.ndim == 0 else moveaxis(first, axis, -1)
        sums = concatenate([first, sums + first], -1)
    return moveaxis(sums, -1, axis)


def _even_pieces(y: Any, h: Any) -> Any:
    return h[..., :-1] / 3.0 * (1.25 * y[..., :-2] + 2.0 * y[..., 1:-1] - 0.25 * y[..., 2:])


def _uneven_pieces(y: Any, h: Any) -> Any:
    first, second = h[..., :-1], h[..., 1:]
    part = first / (first + second)
    last = part * (first / second)
    return first / 6.0 * ((3.0 - part) * y[..., :-2] + (3.0 + last + part) * y[..., 1:-1] - last * y[..., 2:])


@_TWINS.of("romb")
def romb(y: Any, dx: Any = 1.0, axis: int = -1, show: bool = False) -> Any:
    if show:
        _TWINS.refuse("romb", "show", show)
    y = _last(y, None, axis)[0].astype(np.float64, copy=False)
    intervals = y.shape[-1] - 1
    levels = intervals.bit_length() - 1
    if intervals < 1 or 2**levels != intervals:
        raise ValueError("Number of samples must be one plus a non-negative power of 2.")
    row = [0.5 * intervals * dx * (y[..., 0] + y[..., -1])]
    for i in range(1, levels + 1):
        step = intervals >> i
        points = y[..., step :: 2 * step] if 2 * step <= intervals else y[..., step : step + 1]
        new = [0.5 * (row[0] + 2 * step * dx * np.sum(points, axis=-1))]
        for j in range(1, i + 1):
            new.append(new[-1] + (new[-1] - row[j - 1]) / (4.0**j - 1.0))
        row = new
    return row[-1]
