"""The primitives of activations and of losses over classes, for which NumPy has no function of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from koubai.graph.ops import OPS, Interval, Op, Scratch, Shape, add_row, apply

__all__: list[str] = []

_ANY: Interval = (-3.0, 3.0)
_CHUNK = 8192  # elements at once, so that what is computed on the way stays in the cache
_memory = Scratch()


def _softplus(x: Any) -> Any:
    """log(1 + exp(x)), with the larger of 0 and x taken out so that nothing overflows."""
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.absolute(x)))


def _softplus_into(result: Any, x: Any) -> None:
    np.copyto(result, x)
    for x, (y,) in _chunks(result, 1):
        np.log1p(np.exp(np.negative(np.absolute(x, y), y), y), y)
        np.add(np.maximum(x, 0.0, out=x), y, x)


def _chunks(numbers: Any, count: int) -> Iterator[tuple[Any, Any]]:
    """Yield the numbers in chunks, to be written over, each with so many arrays of its size to work in."""
    numbers = numbers.reshape(-1)
    work = _memory.take(count, min(_CHUNK, numbers.size), dtype=numbers.dtype)
    for start in range(0, numbers.size, _CHUNK):
        chunk = numbers[start : start + _CHUNK]
        yield chunk, work[:, : chunk.size]


add_row(
    Op(
        "softplus",
        _softplus,
        (lambda g, y, x: g * apply("sigmoid", x),),
        elementwise=True,
        into=_softplus_into,
        lower=_softplus,
        code="np.maximum({0}, 0.0) + np.log1p(np.exp(-np.absolute({0})))",
        domain=(_ANY,),
    )
)


def _relu(x: Any, out: Any = None) -> Any:
    return np.maximum(x, 0.0, out=out)


add_row(
    Op(  # its derivative is 0 at 0, as JAX and PyTorch choose for relu; that of np.maximum(x, 0) is 1/2
        "relu",
        _relu,
        (lambda g, y, x: g * (y > 0.0),),
        elementwise=True,
        out=True,
        lower=lambda x: np.maximum(x, 0.0),
        code="np.maximum({0}, 0.0)",
        domain=((0.2, 3.0),),
        kink=lambda y, x: np.any(x == 0),
        exact=True,
    )
)


def _largest(x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    return OPS["max"].call(x, axis=axis, keepdims=keepdims)


def _largest_shape(x: Shape, *, axis: tuple[int, ...], keepdims: bool) -> Shape:
    rule: Any = OPS["max"].shape
    return rule(x, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]


add_row(
    Op(  # for shifts that the result does not depend on: no derivative runs through it
        "largest",
        _largest,
        shape=_largest_shape,
        reduces=OPS["max"].reduces,
        bound=OPS["max"].bound,
        exact=True,
        code=OPS["max"].code,
    )
)


# --- the normal distribution function, for GELU: erf and erfc as quotients of polynomials
# W. J. Cody, "Rational Chebyshev Approximations for the Error Function", Mathematics of Computation 1969
_ERF = (
    (0.185777706184603153, 3.16112374387056560, 113.864154151050156, 377.485237685302021, 3209.37758913846947),
    (1.0, 23.6012909523441209, 244.024637934444173, 1282.61652607737228, 2844.23683343917062),
)
_ERFC = (
    (
        *(2.15311535474403846e-8, 0.564188496988670089, 8.88314979438837594, 66.1191906371416295, 298.635138197400131),
        *(881.952221241769090, 1712.04761263407058, 2051.07837782607147, 1230.33935479799725),
    ),
    (
        *(1.0, 15.7449261107098347, 117.693950891312499, 537.181101862009858, 1621.38957456669019),
        *(3290.79923573345963, 4362.61909014324716, 3439.36767414372164, 1230.33935480374942),
    ),
)


def _quotient(polynomials: tuple[tuple[float, ...], tuple[float, ...]], x: Any, top: Any, bottom: Any) -> Any:
    """Write the quotient of the polynomials at x into ``top``, and return it."""
    for y, coefficients in zip((top, bottom), polynomials, strict=True):
        y.fill(coefficients[0])
        for coefficient in coefficients[1:]:
            y *= x
            y += coefficient
    return np.divide(top, bottom, top)


def _normal_cdf_into(result: Any, x: Any) -> None:
    """P(N(0, 1) ≤ x), right to 2e-16, and down to x = −9 to twelve digits of itself."""
    np.copyto(result, x)
    for x, (z, squared, tail, near, top, bottom) in _chunks(result, 6):
        np.multiply(np.absolute(x, z), math.sqrt(0.5), z)
        np.minimum(z, 30.0, out=z)  # beyond, the tail is 0
        np.multiply(z, z, squared)
        np.multiply(np.exp(np.negative(squared, tail), tail), 0.5, tail)
        tail *= _quotient(_ERFC, z, top, bottom)
        np.multiply(np.multiply(z, 0.5, near), _quotient(_ERF, squared, top, bottom), near)
        np.copyto(tail, np.subtract(0.5, near, near), where=z < 0.46875)
        np.copyto(tail, np.subtract(1.0, tail, near), where=x > 0.0)
        np.copyto(x, tail)


def _normal_cdf(x: Any) -> Any:
    result = np.empty(np.shape(x), x.dtype)
    _normal_cdf_into(result, x)
    return result[()]


add_row(
    Op(
        "normal_cdf",
        _normal_cdf,
        (lambda g, y, x: g * (math.sqrt(0.5 / math.pi) * np.exp(-0.5 * x * x)),),
        elementwise=True,
        into=_normal_cdf_into,
        code="0.5 * np.vectorize(__import__('math').erfc)(-0.7071067811865476 * {0}).astype({0}.dtype)",
        domain=(_ANY,),
    )
)
