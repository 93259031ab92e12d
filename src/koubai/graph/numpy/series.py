"""Polynomials, sampled signals and spacings: compositions of primitives, as in graph/functions.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from koubai.graph.numpy.functions import array, concatenate, convolve, implements, linspace, refuse, vander
from koubai.graph.numpy.linalg import eigvals, lstsq
from koubai.graph.ops import ANY, Op, add_row, apply
from koubai.graph.user_code import untraceable

__all__: list[str] = []


# --- polynomials, highest power first
def _coefficients(p: Any) -> Any:
    c = array(p)
    return c.reshape((1,)) if c.ndim == 0 else c


def _aligned(a1: Any, a2: Any) -> tuple[Any, Any]:
    a, b = _coefficients(a1), _coefficients(a2)
    n = max(a.shape[0], b.shape[0])
    return tuple(concatenate([np.zeros(n - c.shape[0], c.dtype), c]) if c.shape[0] < n else c for c in (a, b))


@implements(np.polyadd)
def polyadd(a1: Any, a2: Any) -> Any:
    a, b = _aligned(a1, a2)
    return a + b


@implements(np.polysub)
def polysub(a1: Any, a2: Any) -> Any:
    a, b = _aligned(a1, a2)
    return a - b


@implements(np.polymul)
def polymul(a1: Any, a2: Any) -> Any:
    a, b = (np.trim_zeros(_coefficients(c), "f") for c in (a1, a2))
    return convolve(a, b)


@implements(np.polyder)
def polyder(p: Any, m: int = 1) -> Any:
    c = _coefficients(p)
    for _ in range(int(m)):
        c = c[:-1] * np.arange(c.shape[0] - 1, 0, -1)
    return c


@implements(np.polyint)
def polyint(p: Any, m: int = 1, k: Any = None) -> Any:
    c = _coefficients(p)
    constants = np.zeros(int(m)) if k is None else np.broadcast_to(np.atleast_1d(k), (int(m),))
    for i in range(int(m)):
        c = concatenate([c / np.arange(c.shape[0], 0, -1), constants[i : i + 1]])
    return c


@implements(np.poly)
def poly(seq_of_zeros: Any) -> Any:
    zeros = array(seq_of_zeros)
    if zeros.ndim != 1:
        refuse("poly", "seq_of_zeros", "a matrix")
    c: Any = np.ones(1, zeros.dtype)
    for i in range(zeros.shape[0]):
        c = concatenate([c, np.zeros(1, c.dtype)]) - concatenate([np.zeros(1, c.dtype), c * zeros[i]])
    return c


@implements(np.roots)
def roots(p: Any) -> Any:
    p = _coefficients(p)
    if p.ndim != 1:
        raise ValueError("Input must be a rank-1 array.")
    trimmed = np.trim_zeros(p)
    at_zero = p.shape[0] - np.trim_zeros(p, "f").shape[0]
    behind = p.shape[0] - at_zero - trimmed.shape[0]
    n = trimmed.shape[0]
    if n == 0:
        return np.zeros(0)
    if n < 2:
        return np.zeros(behind, p.dtype)
    first = (-trimmed[1:] / trimmed[0])[None, :]
    found = eigvals(concatenate([first, np.eye(n - 2, n - 1, dtype=first.dtype)], 0))
    return concatenate([found, np.zeros(behind, found.dtype)]) if behind else found


@implements(np.polyfit)
def polyfit(x: Any, y: Any, deg: Any, rcond: Any = None, full: bool = False, w: Any = None, cov: Any = False) -> Any:
    if full or cov:
        refuse("polyfit", "full or cov", "given")
    x, y = array(x) + 0.0, array(y) + 0.0
    if np.ndim(deg):
        refuse("polyfit", "deg", deg)
    rows, wanted = vander(x, int(deg) + 1), y
    if w is not None:
        w = array(w)
        rows, wanted = rows * w[:, None], wanted * (w if wanted.ndim == 1 else w[:, None])
    scale = np.sqrt(np.sum(rows * rows, axis=0))
    c = lstsq(rows / scale, wanted, x.shape[0] * np.finfo(x.dtype).eps if rcond is None else rcond)[0]
    return c / (scale if c.ndim == 1 else scale[:, None])


# --- Bessel function
def _bessel_i(x: Any, *, order: int) -> Any:
    """I_n(x) = (1/π) ∫ exp(x cos θ) cos nθ dθ by the trapezoidal rule, which converges geometrically here."""
    if order == 0:
        return np.i0(x).astype(x.dtype)[()]
    count = 32 + 2 * math.ceil(float(np.max(np.abs(x), initial=0.0)))
    theta = (np.arange(count) + 0.5) * (math.pi / count)
    even_or_odd = np.sinh if order % 2 else np.cosh
    values = even_or_odd(np.multiply.outer(x, np.cos(theta))) * np.cos(order * theta)
    return np.mean(values, axis=-1, dtype=np.float64).astype(x.dtype)


def _bessel_i_vjp(g: Any, y: Any, x: Any, *, order: int) -> Any:
    above = apply("bessel_i", x, order=order + 1)
    if order == 0:
        return g * above
    return g * (0.5 * (apply("bessel_i", x, order=order - 1) + above))


def _bessel_i_code(y: str, args: Sequence[str], params: dict[str, Any]) -> str:
    n = params["order"]
    if n == 0:
        return f"{y} = np.i0({args[0]})"
    theta = "(np.arange(256) + 0.5) * (np.pi / 256)"
    return f"{y} = np.mean(np.exp(np.multiply.outer({args[0]}, np.cos({theta}))) * np.cos({n} * {theta}), axis=-1)"


add_row(
    Op(
        "bessel_i",
        _bessel_i,
        (_bessel_i_vjp,),
        elementwise=True,
        code=_bessel_i_code,
        domain=(ANY,),
        examples=((((3,),), {"order": 0}), (((2, 3),), {"order": 1}), (((),), {"order": 2})),
    )
)


@implements(np.i0)
def i0(x: Any) -> Any:
    return apply("bessel_i", array(x), order=0)


# --- signals
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
