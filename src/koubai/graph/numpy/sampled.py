"""Functions of sampled values: differences, integrals, convolutions, interpolation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from koubai.graph.numpy.arguments import array, axes_of, implements, normalized_axis
from koubai.graph.numpy.joining import concatenate, pad
from koubai.graph.numpy.shapes import moveaxis
from koubai.graph.numpy.sorting import argsort, searchsorted
from koubai.graph.numpy.ufuncs import conjugated
from koubai.graph.traced import Traced

__all__ = ["convolve", "diff", "trapezoid"]


@implements(np.interp)
def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    x, xp, fp = array(x), array(xp), array(fp)
    if period is not None:
        if period == 0:
            raise ValueError("period must be a non-zero value")
        period = np.absolute(period)
        x, xp = x % period, xp % period
        order = argsort(xp) if type(xp) is Traced else np.argsort(xp, kind="stable")
        xp, fp = xp[order], fp[order]
        xp = concatenate([xp[-1:] - period, xp, xp[:1] + period])
        fp = concatenate([fp[-1:], fp, fp[:1]])
        left = right = None
    n = xp.shape[0]
    if n == 1:
        inside = x * 0.0 + fp[0]
    else:
        j = np.clip(searchsorted(xp, x, "right") - 1, 0, n - 2)
        slope = (fp[j + 1] - fp[j]) / (xp[j + 1] - xp[j])
        inside = slope * (x - xp[j]) + fp[j]
    y = np.where(x < xp[0], fp[0] if left is None else left, inside)
    return np.where(x >= xp[n - 1], np.where(x > xp[n - 1], fp[n - 1] if right is None else right, fp[n - 1]), y)


@implements(np.diff)
def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = np._NoValue, append: Any = np._NoValue) -> Any:
    x = array(a)
    axis = normalized_axis(axis, x.ndim)
    parts = [x]
    for value, place in ((prepend, 0), (append, len(parts) + 1)):
        if value is not np._NoValue:
            v = array(value)
            if v.ndim == 0:
                v = np.broadcast_to(v, tuple(1 if i == axis else m for i, m in enumerate(x.shape)))
            parts.insert(place, v)
    if len(parts) > 1:
        x = concatenate(parts, axis)
    lead = (slice(None),) * axis
    for _ in range(n):
        x = x[(*lead, slice(1, None))] - x[(*lead, slice(None, -1))]
    return x


@implements(np.ediff1d)
def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    y = diff(array(ary).ravel())
    return concatenate([np.ravel(v) for v in (to_begin, y, to_end) if v is not None])


@implements(np.gradient)
def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    x = array(f)
    axes = tuple(range(x.ndim)) if axis is None else axes_of(axis, x.ndim) or ()
    spacings = list(varargs) if len(varargs) > 1 else (list(varargs) or [1.0]) * len(axes)
    if edge_order not in (1, 2):
        raise ValueError("'edge_order' greater than 2 not supported")
    results = []
    for i, h in zip(axes, spacings, strict=True):
        y = moveaxis(x, i, 0)
        first, inner, last = (
            _gradient_on_grid(y, array(h), edge_order) if np.ndim(h) else _gradient_with_step(y, h, edge_order)
        )
        result = moveaxis(concatenate([first, inner, last], 0), 0, i)
        results.append(result.astype(x.dtype, copy=False) if x.dtype.kind in "fc" else result)
    return results[0] if len(results) == 1 else tuple(results)


def _gradient_with_step(y: Any, h: Any, edge_order: int) -> tuple[Any, Any, Any]:
    """Differences along axis 0 for one step h: the first, the inner ones, the last."""
    inner = (y[2:] - y[:-2]) / (2.0 * h)
    if edge_order == 1:
        return (y[1:2] - y[:1]) / h, inner, (y[-1:] - y[-2:-1]) / h
    first = (-1.5 * y[:1] + 2.0 * y[1:2] - 0.5 * y[2:3]) / h
    return first, inner, (1.5 * y[-1:] - 2.0 * y[-2:-1] + 0.5 * y[-3:-2]) / h


def _gradient_on_grid(y: Any, points: Any, edge_order: int) -> tuple[Any, Any, Any]:
    """The same for points at uneven distances."""
    d = diff(points).reshape((-1,) + (1,) * (y.ndim - 1))
    left, right = d[:-1], d[1:]
    inner = (
        -right / (left * (left + right)) * y[:-2]
        + (right - left) / (left * right) * y[1:-1]
        + left / (right * (left + right)) * y[2:]
    )
    if edge_order == 1:
        return (y[1:2] - y[:1]) / d[:1], inner, (y[-1:] - y[-2:-1]) / d[-1:]

    def edge(near: Any, far: Any, y0: Any, y1: Any, y2: Any) -> Any:
        both = near + far
        return -(near + both) / (near * both) * y0 + both / (near * far) * y1 - near / (far * both) * y2

    return edge(d[:1], d[1:2], y[:1], y[1:2], y[2:3]), inner, -edge(d[-1:], d[-2:-1], y[-1:], y[-2:-1], y[-3:-2])


@implements(np.trapezoid)
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    y = array(y)
    axis = normalized_axis(axis, y.ndim)
    if x is None:
        step = dx
    else:
        step = diff(array(x)) if array(x).ndim == 1 else diff(array(x), axis=axis)
        if array(x).ndim == 1:
            step = step.reshape((-1,) + (1,) * (y.ndim - 1 - axis))
    lead = (slice(None),) * axis
    return np.sum(step * (y[(*lead, slice(1, None))] + y[(*lead, slice(None, -1))]) / 2.0, axis=axis)


@implements(np.convolve)
def convolve(a: Any, v: Any, mode: str = "full") -> Any:
    a, v = array(a), array(v)
    if v.shape[0] > a.shape[0]:
        a, v = v, a
    n, m = a.shape[0], v.shape[0]
    padded = pad(a, m - 1) if type(a) is Traced else np.pad(a, m - 1)
    windows = np.arange(n + m - 1)[:, None] + np.arange(m)[::-1][None, :]
    y = np.matmul(padded[windows], v)
    if mode == "full":
        return y
    if mode == "same":
        start = (m - 1) // 2
        return y[start : start + n]
    if mode == "valid":
        return y[m - 1 : n]
    raise ValueError(f"mode must be one of 'valid', 'same', or 'full', got {mode!r}")


@implements(np.correlate)
def correlate(a: Any, v: Any, mode: str = "valid") -> Any:
    a, v = array(a), array(v)
    if v.shape[0] > a.shape[0]:
        return np.flip(convolve(conjugated(v), np.flip(a), mode))
    return convolve(a, np.flip(conjugated(v)), mode)


@implements(np.unwrap)
def unwrap(p: Any, discont: Any = None, axis: int = -1, *, period: float = 2.0 * math.pi) -> Any:
    p = array(p)
    steps = np.diff(p, axis=axis)
    half = period / 2
    # how many periods each step is off: whole numbers, so the derivative is that of p
    turns = np.floor((steps + half) / period)
    turns = np.where((steps - turns * period == -half) & (steps > 0), turns - 1.0, turns)
    turns = np.where(np.absolute(steps) < (half if discont is None else discont), 0.0, turns)
    lead = (slice(None),) * (axis % p.ndim)
    shift = np.cumsum(turns * -period, axis=axis)
    return concatenate([p[(*lead, slice(0, 1))], p[(*lead, slice(1, None))] + shift], axis % p.ndim)
