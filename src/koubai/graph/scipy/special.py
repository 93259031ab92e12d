"""The functions of ``scipy.special`` that people put into losses: rows for its ufuncs, stand-ins for its functions.

This file is loaded when a traced function first meets ``scipy.special``, and only then: koubai does not need SciPy.
SciPy does the numbers. An order or shape parameter (of jv, kv, gammainc, betainc …) stays constant: SciPy has no
derivative with respect to it, so one that depends on what is differentiated is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from koubai.graph.numpy.arguments import array, axes_of
from koubai.graph.ops import ANY, POSITIVE, UFUNCS, UNIT, Interval, Op, add_row, apply
from koubai.graph.traced import FUNCTIONS, Traced, trace_of
from koubai.graph.twins import Twins, differentiated
from koubai.graph.user_code import untraceable

__all__ = ["standin"]

_TWINS = Twins("scipy.special")
special = _TWINS.module
standin = _TWINS.standin
_ROOT_PI = math.sqrt(math.pi)
_ROOT_2PI = math.sqrt(2.0 * math.pi)
_CLOSE = (0.1, 0.9)


def _row(
    name: str,
    *vjp: Callable[..., Any],
    domain: tuple[Interval, ...] = (ANY,),
    kink: Callable[..., Any] | None = None,
    lower: Callable[..., Any] | None = None,
) -> None:
    call = getattr(special, name, None)
    if call is None:  # newer than the SciPy that is installed
        return
    arguments = ", ".join(f"{{{i}}}" for i in range(len(domain)))
    code = f"special.{name}({arguments})"
    name = f"special.{name}"
    add_row(Op(name, call, vjp, elementwise=True, code=code, out=True, domain=domain, kink=kink, lower=lower))


def _both_zero(x: Any, y: Any) -> Any:
    return (x == 0) & (y == 0)


# --- logistic
_row("expit", lambda g, y, x: g * (y * (1.0 - y)), lower=lambda x: apply("sigmoid", x))
_row("log_expit", lambda g, y, x: g * special.expit(-x))
_row("logit", lambda g, y, x: g / (x * (1.0 - x)), domain=(_CLOSE,))

# --- errors and the normal distribution
_row("erf", lambda g, y, x: g * ((2.0 / _ROOT_PI) * np.exp(-x * x)))
_row("erfc", lambda g, y, x: g * ((-2.0 / _ROOT_PI) * np.exp(-x * x)))
_row("erfcx", lambda g, y, x: g * (2.0 * x * y - 2.0 / _ROOT_PI), domain=((-1.0, 3.0),))
_row("erfi", lambda g, y, x: g * ((2.0 / _ROOT_PI) * np.exp(x * x)), domain=(UNIT,))
_row("erfinv", lambda g, y, x: g * ((_ROOT_PI / 2.0) * np.exp(y * y)), domain=(UNIT,))
_row("erfcinv", lambda g, y, x: g * ((-_ROOT_PI / 2.0) * np.exp(y * y)), domain=((0.2, 1.8),))
_row("dawsn", lambda g, y, x: g * (1.0 - 2.0 * x * y))
_row("ndtr", lambda g, y, x: g * (np.exp(-0.5 * x * x) / _ROOT_2PI))
_row("log_ndtr", lambda g, y, x: g * (np.exp(-0.5 * x * x - y) / _ROOT_2PI))
_row("ndtri", lambda g, y, x: g * (_ROOT_2PI * np.exp(0.5 * y * y)), domain=(_CLOSE,))

# --- gamma and its kin
_row("gammaln", lambda g, y, x: g * special.digamma(x), domain=((0.3, 4.0),))
_row("loggamma", lambda g, y, x: g * special.digamma(x), domain=((0.3, 4.0),))
_row("gamma", lambda g, y, x: g * (y * special.digamma(x)), domain=((0.3, 4.0),))
_row("rgamma", lambda g, y, x: g * (-y * special.digamma(x)), domain=((0.3, 4.0),))
_row("digamma", lambda g, y, x: g * _hurwitz(2, x), domain=((0.3, 4.0),))
_row(
    "beta",
    lambda g, y, a, b: g * (y * (special.digamma(a) - special.digamma(a + b))),
    lambda g, y, a, b: g * (y * (special.digamma(b) - special.digamma(a + b))),
    domain=((0.5, 3.0), (0.5, 3.0)),
)
_row(
    "betaln",
    lambda g, y, a, b: g * (special.digamma(a) - special.digamma(a + b)),
    lambda g, y, a, b: g * (special.digamma(b) - special.digamma(a + b)),
    domain=((0.5, 3.0), (0.5, 3.0)),
)
_row(
    "binom",
    lambda g, y, n, k: g * (y * (special.digamma(n + 1.0) - special.digamma(n - k + 1.0))),
    lambda g, y, n, k: g * (y * (special.digamma(n - k + 1.0) - special.digamma(k + 1.0))),
    domain=((3.0, 5.0), (0.5, 2.5)),
)


# --- entropies: 0 log 0 is 0, and so is its derivative in the argument of the logarithm
def _log_where(x: Any, y: Any) -> Any:
    return np.log(np.where(_both_zero(x, y), 1.0, y))


_row(
    "xlogy",
    lambda g, z, x, y: g * _log_where(x, y),
    lambda g, z, x, y: g * (x / np.where(_both_zero(x, y), 1.0, y)),
    domain=(ANY, POSITIVE),
)
_row(
    "xlog1py",
    lambda g, z, x, y: g * np.log1p(np.where(_both_zero(x, y + 1.0), 0.0, y)),
    lambda g, z, x, y: g * (x / np.where(_both_zero(x, y + 1.0), 1.0, y + 1.0)),
    domain=(ANY, POSITIVE),
)
_row("entr", lambda g, y, x: g * (-np.log(x) - 1.0), domain=(POSITIVE,))
_row(
    "rel_entr",
    lambda g, z, x, y: g * (np.log(x / y) + 1.0),
    lambda g, z, x, y: g * -(x / y),
    domain=(POSITIVE, POSITIVE),
)
_row(
    "kl_div",
    lambda g, z, x, y: g * np.log(x / y),
    lambda g, z, x, y: g * (1.0 - x / y),
    domain=(POSITIVE, POSITIVE),
)


# --- robust losses
def _huber_shape(g: Any, y: Any, delta: Any, r: Any) -> Any:
    size = np.absolute(r)
    return g * np.where(size <= delta, 0.0, size - delta)


_row(
    "huber",
    _huber_shape,
    lambda g, y, delta, r: g * np.clip(r, -delta, delta),
    domain=((0.8, 1.2), (1.5, 3.0)),
    kink=lambda y, delta, r: np.any(np.equal(np.abs(r), delta)),
)
_row(
    "pseudo_huber",
    lambda g, y, delta, r: g * (2.0 * y / delta - r * r / (delta * np.sqrt(1.0 + (r / delta) ** 2))),
    lambda g, y, delta, r: g * (r / np.sqrt(1.0 + (r / delta) ** 2)),
    domain=((0.8, 1.2), ANY),
)

# --- Bessel functions
_row("j0", lambda g, y, x: -g * special.j1(x))
_row("j1", lambda g, y, x: g * (0.5 * (special.j0(x) - special.jv(2, x))))
_row("y0", lambda g, y, x: -g * special.y1(x), domain=((0.5, 4.0),))
_row("y1", lambda g, y, x: g * (0.5 * (special.y0(x) - special.yv(2, x))), domain=((0.5, 4.0),))
_row("i0", lambda g, y, x: g * special.i1(x))
_row("i1", lambda g, y, x: g * (0.5 * (special.i0(x) + special.iv(2, x))))
_row(
    "i0e", lambda g, y, x: g * (special.i1e(x) - np.sign(x) * y), domain=((0.2, 3.0),), kink=lambda y, x: np.any(x == 0)
)
_row(
    "i1e",
    lambda g, y, x: g * (0.5 * (special.i0e(x) + special.ive(2, x)) - np.sign(x) * y),
    domain=((0.2, 3.0),),
)
_row("k0", lambda g, y, x: -g * special.k1(x), domain=((0.5, 4.0),))
_row("k1", lambda g, y, x: g * (-0.5 * (special.k0(x) + special.kv(2, x))), domain=((0.5, 4.0),))
_row("k0e", lambda g, y, x: g * (y - special.k1e(x)), domain=((0.5, 4.0),))
_row("k1e", lambda g, y, x: g * (y - 0.5 * (special.k0e(x) + special.kve(2, x))), domain=((0.5, 4.0),))

# --- elementary functions and integrals
_row("expi", lambda g, y, x: g * (np.exp(x) / x), domain=(POSITIVE,))
_row("exp1", lambda g, y, x: -g * (np.exp(-x) / x), domain=(POSITIVE,))
_row("exp2", lambda g, y, x: g * (math.log(2.0) * y))
_row("exp10", lambda g, y, x: g * (math.log(10.0) * y), domain=(UNIT,))
_row("expm1", lambda g, y, x: g * (y + 1.0))
_row("log1p", lambda g, y, x: g / (x + 1.0), domain=(POSITIVE,))
_row("cosm1", lambda g, y, x: -g * np.sin(x))
_row("cbrt", lambda g, y, x: g / (3 * y * y), domain=(POSITIVE,), kink=lambda y, x: np.any(x == 0))


# --- functions with orders or shapes, which stay constant
def _with_constants(name: str, vjp: Callable[..., Any], *domain: Interval) -> None:
    """Enter a function whose last argument is differentiated, after orders or shapes that are not."""
    function = getattr(special, name)
    count = len(domain) - 1
    arguments = ", ".join(f"{{{i}}}" for i in range(len(domain)))
    code = f"special.{name}({arguments})"
    rules = (*[None] * count, vjp)
    is_ufunc = isinstance(function, np.ufunc)
    add_row(Op(f"special.{name}", function, rules, elementwise=True, code=code, out=is_ufunc, domain=domain))

    def twin(*args: Any) -> Any:
        if len(args) != count + 1:
            _TWINS.refuse(name, "arguments", f"{len(args)} of them")
        constants = [_constant(f"scipy.special.{name}", v) for v in args[:count]]
        return apply(f"special.{name}", *constants, array(args[count]))

    if is_ufunc:
        del UFUNCS[function]  # a call of it tests its constants first
        FUNCTIONS[function] = twin
    else:
        _TWINS.of(name)(twin)


def _constant(function: str, value: Any) -> Any:
    """Return an order or a shape, which must not depend on what is differentiated."""
    value = array(value) if isinstance(value, list | tuple) else value
    if type(value) is Traced and trace_of(value).concrete and differentiated(value):
        raise untraceable(
            f"{function} has no known derivative with respect to its order or shape",
            "keep that argument constant, or pass method='adaptive'",
        )
    return value


def _like(x: Any, value: Any) -> Any:
    """A constant in the precision of x: SciPy answers a float32 and a Python float with float64."""
    return value.astype(x.dtype) if hasattr(value, "dtype") else x.dtype.type(value)


def _hurwitz(s: Any, x: Any) -> Any:
    return apply("special.zeta", s, x)


def _hurwitz_vjp(g: Any, y: Any, s: Any, x: Any) -> Any:
    return g * (-s * _hurwitz(s + 1, x))


def _neighbours(name: str, left: float, right: float) -> Callable[..., Any]:
    """f'(v, x) = left · f(v − 1, x) + right · f(v + 1, x)."""

    def vjp(g: Any, y: Any, v: Any, x: Any) -> Any:
        below, above = (apply(f"special.{name}", order, x) for order in (v - 1, v + 1))
        return g * (left * below + right * above)

    return vjp


def _gammainc_vjp(sign: float) -> Callable[..., Any]:
    def vjp(g: Any, y: Any, a: Any, x: Any) -> Any:
        a = _like(x, a)
        return g * (sign * np.exp(special.xlogy(a - 1.0, x) - x - special.gammaln(a)))

    return vjp


def _betainc_vjp(g: Any, y: Any, a: Any, b: Any, x: Any) -> Any:
    a, b = _like(x, a), _like(x, b)
    powers = special.xlogy(a - 1.0, x) + special.xlog1py(b - 1.0, -x)  # 0 ** 0 is 1 at the ends
    return g * np.exp(powers - special.betaln(a, b))


def _expn_vjp(g: Any, y: Any, n: Any, x: Any) -> Any:
    below = apply("special.expn", np.maximum(n - 1, 0), x)
    return -g * np.where(n == 0, y * (1.0 + 1.0 / x), below)  # E₀(x) = exp(−x) / x


def _stdtr_vjp(g: Any, y: Any, df: Any, x: Any) -> Any:
    df = _like(x, df)
    scale = special.gammaln(0.5 * (df + 1.0)) - special.gammaln(0.5 * df) - 0.5 * np.log(df * math.pi)
    return g * np.exp(scale - 0.5 * (df + 1.0) * np.log1p(x * x / df))


def _scaled(name: str, left: float, right: float, sign: Callable[[Any], Any]) -> Callable[..., Any]:
    """The exponentially scaled kin: ive = iv · exp(−|x|), kve = kv · exp(x)."""
    plain = _neighbours(name, left, right)
    return lambda g, y, v, x: plain(g, y, v, x) + g * sign(x) * y


_ORDERS = (0.5, 3.0)
_TWO = (2.0, 2.0)  # for SciPy's functions that take whole orders only
_with_constants("zeta", _hurwitz_vjp, (1.5, 4.0), (0.3, 4.0))
_with_constants("jv", _neighbours("jv", 0.5, -0.5), _ORDERS, (0.5, 4.0))
_with_constants("yv", _neighbours("yv", 0.5, -0.5), _ORDERS, (1.0, 4.0))
_with_constants("iv", _neighbours("iv", 0.5, 0.5), _ORDERS, (0.5, 4.0))
_with_constants("kv", _neighbours("kv", -0.5, -0.5), _ORDERS, (0.5, 4.0))
_with_constants("ive", _scaled("ive", 0.5, 0.5, lambda x: -np.sign(x)), _ORDERS, (0.5, 4.0))
_with_constants("kve", _scaled("kve", -0.5, -0.5, lambda x: 1.0), _ORDERS, (0.5, 4.0))
_with_constants("yn", _neighbours("yn", 0.5, -0.5), _TWO, (1.0, 4.0))
_with_constants("kn", _neighbours("kn", -0.5, -0.5), _TWO, (0.5, 4.0))
_with_constants("gammainc", _gammainc_vjp(1.0), _ORDERS, (0.3, 4.0))
_with_constants("gammaincc", _gammainc_vjp(-1.0), _ORDERS, (0.3, 4.0))
_with_constants("betainc", _betainc_vjp, (1.0, 3.0), (1.0, 3.0), _CLOSE)
_with_constants("expn", _expn_vjp, _TWO, (0.3, 4.0))
_with_constants("stdtr", _stdtr_vjp, (1.0, 5.0), ANY)


# --- functions that are not ufuncs
@_TWINS.of("logsumexp")
def logsumexp(a: Any, axis: Any = None, b: Any = None, keepdims: bool = False, return_sign: bool = False) -> Any:
    if return_sign:
        _TWINS.refuse("logsumexp", "return_sign", return_sign)
    x = array(a)
    if b is not None:  # weights: in the logarithm, so that large a stay harmless
        weights = np.broadcast_to(array(b), np.broadcast_shapes(x.shape, np.shape(b)))
        if not np.all(weights >= 0):
            _TWINS.refuse("logsumexp", "b", "negative weights")
        x = np.where(weights == 0, -math.inf, x + np.log(np.where(weights == 0, 1.0, weights)))
    return apply("logsumexp", x, axis=axes_of(axis, x.ndim), keepdims=bool(keepdims))


@_TWINS.of("softmax")
def softmax(x: Any, axis: Any = None) -> Any:
    return np.exp(log_softmax(x, axis))


@_TWINS.of("log_softmax")
def log_softmax(x: Any, axis: Any = None) -> Any:
    x = array(x)
    return x - apply("logsumexp", x, axis=axes_of(axis, x.ndim), keepdims=True)


@_TWINS.of("softplus")
def softplus(x: Any, **kwargs: Any) -> Any:
    if kwargs:
        _TWINS.refuse("softplus", *next(iter(kwargs.items())))
    return np.logaddexp(0.0, array(x))


@_TWINS.of("polygamma")
def polygamma(n: Any, x: Any) -> Any:
    n = _constant("scipy.special.polygamma", n)
    if type(n) is Traced or np.ndim(n):
        _TWINS.refuse("polygamma", "n", "an array")
    n, x = int(n), array(x).astype(np.float64, copy=False)  # as SciPy does
    return special.digamma(x) if n == 0 else (-1.0) ** (n + 1) * math.gamma(n + 1) * _hurwitz(n + 1, x)


@_TWINS.of("multigammaln")
def multigammaln(a: Any, d: Any) -> Any:
    y = d * (d - 1) * 0.25 * math.log(math.pi)
    for j in range(int(d)):
        y = y + special.gammaln(array(a).astype(np.float64, copy=False) - 0.5 * j)
    return y
