"""The primitives of activations and of losses over classes, for which NumPy has no function of its own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from koubai.graph.ops import OPS, Interval, Op, Shape, add_row, apply

__all__: list[str] = []

_ANY: Interval = (-3.0, 3.0)


def _sigmoid(x: Any, out: Any = None) -> Any:
    """1 / (1 + exp(−x)). Where exp overflows, the quotient is 0, as it should be: nothing else to guard against."""
    y = np.exp(np.negative(x, out), out)
    return np.divide(1.0, np.add(y, 1.0, out), out)


def _softplus(x: Any) -> Any:
    """log(1 + exp(x)), with the larger of 0 and x taken out so that nothing overflows."""
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.absolute(x)))


add_row(
    Op(
        "sigmoid",
        _sigmoid,
        (lambda g, y, x: g * (y * (1.0 - y)),),
        elementwise=True,
        out=True,
        code="1.0 / (1.0 + np.exp(-{0}))",
        scalar="1.0 / (1.0 + math.exp(-{0}))",
        domain=(_ANY,),
    )
)
add_row(
    Op(
        "softplus",
        _softplus,
        (lambda g, y, x: g * apply("sigmoid", x),),
        elementwise=True,
        code="np.maximum({0}, 0.0) + np.log1p(np.exp(-np.absolute({0})))",
        scalar="(max({0}, 0.0) + math.log1p(math.exp(-abs({0}))))",
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
        code="np.maximum({0}, 0.0)",
        scalar="(max({0}, 0.0) if {0} == {0} else {0})",
        domain=((0.2, 3.0),),
        kink=lambda y, x: np.any(x == 0),
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
_CHUNK = 4096  # elements at once, so that what lies in between stays in the cache


def _quotient(polynomials: tuple[tuple[float, ...], tuple[float, ...]], x: Any) -> Any:
    top, bottom = (np.full_like(x, coefficients[0]) for coefficients in polynomials)
    for y, coefficients in zip((top, bottom), polynomials, strict=True):
        for coefficient in coefficients[1:]:
            y *= x
            y += coefficient
    return top / bottom


def _normal_cdf_into(result: Any, x: Any) -> None:
    """P(N(0, 1) ≤ x), right to 2e-16, and down to x = −9 to twelve digits of itself."""
    np.copyto(result, x)
    numbers = result.reshape(-1)
    for start in range(0, numbers.size, _CHUNK):
        x = numbers[start : start + _CHUNK]
        z = np.minimum(np.absolute(x) * math.sqrt(0.5), 30.0)  # beyond, the tail is 0
        near = 0.5 - 0.5 * z * _quotient(_ERF, z * z)
        tail = 0.5 * np.exp(-(z * z)) * _quotient(_ERFC, z)
        below = np.where(z < 0.46875, near, tail)
        np.copyto(x, np.where(x > 0.0, 1.0 - below, below))


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
