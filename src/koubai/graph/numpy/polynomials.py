"""Polynomials as arrays of coefficients, highest power first: ``np.polyval``, ``np.polyfit`` and their kin."""

from __future__ import annotations

from typing import Any

import numpy as np

from koubai.graph.numpy.arguments import array, implements, refuse
from koubai.graph.numpy.joining import concatenate, stack
from koubai.graph.numpy.linalg import eigvals, lstsq
from koubai.graph.numpy.sampled import convolve

__all__: list[str] = []


@implements(np.vander)
def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    n = x.shape[0] if N is None else N
    powers = np.arange(n) if increasing else np.arange(n)[::-1]
    columns = [np.ones(x.shape, x.dtype) if p == 0 else x ** int(p) for p in powers]
    return stack(columns, 1, dtype=np.result_type(x.dtype, np.int_))


@implements(np.polyval)
def polyval(p: Any, x: Any) -> Any:
    p, x = array(p), array(x)
    y: Any = np.zeros(x.shape, np.result_type(p.dtype, x.dtype))
    for coefficient in p:
        y = y * x + coefficient
    return y


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
