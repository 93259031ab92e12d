"""The distributions of ``scipy.stats``: densities, distribution functions and quantiles, written in primitives.

A row of the table holds the formulas of the standard distribution: of its density f and distribution function F in
standard form, for location 0 and scale 1. As in SciPy, with y = (x − loc) / scale,

    logpdf(x) = log f(y) − log scale,    cdf(x) = F(y),    ppf(q) = loc + scale · F⁻¹(q)

and a density is zero (its logarithm −inf) outside the support, and nan for parameters that are not allowed. Counts have
no derivative: what a logpmf differentiates are its parameters. Shapes inside an incomplete gamma or beta function stay
constant, since it has no known derivative there. What is not in the table is refused by name.

The formulas are those of `scipy.stats <https://docs.scipy.org/doc/scipy/reference/stats.html>`_.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from koubai.graph.numpy.arguments import array
from koubai.graph.numpy.linalg import cholesky
from koubai.graph.ops import apply
from koubai.graph.scipy.special import special
from koubai.graph.twins import Twins, differentiated, meets_traced, plain
from koubai.graph.user_code import untraceable

__all__ = ["standin"]

_TWINS = Twins("scipy.stats")
stats = _TWINS.module
standin = _TWINS.standin

Formula: TypeAlias = Callable[..., Any] | None
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


@dataclass(frozen=True)
class _Family:
    """One distribution in standard form.

    Every formula takes (y, *shapes). Of those that are None: pdf is exp(log), sf is 1 − cdf, isf(q) is ppf(1 − q), and
    logcdf and logsf are logarithms. support: its ends, given the shapes; inside: a point in it, where formulas are
    harmless; allowed: which shapes are. mean, variance: given the shapes.
    """

    log: Callable[..., Any]  # of the density, or of the probability of a count
    cdf: Formula = None
    sf: Formula = None
    logcdf: Formula = None
    logsf: Formula = None
    ppf: Formula = None
    isf: Formula = None
    support: Callable[..., tuple[Any, Any]] = lambda *shapes: (-math.inf, math.inf)
    inside: Callable[..., Any] = lambda *shapes: 0.5
    allowed: Formula = None
    mean: Formula = None
    variance: Formula = None


def _from_zero(*shapes: Any) -> tuple[Any, Any]:
    return 0.0, math.inf


def _all_positive(*shapes: Any) -> Any:
    return functools.reduce(lambda a, b: a & b, [shape > 0 for shape in shapes])


def _log_stirling(n: Any, k: Any) -> Any:
    """log of n over k."""
    return special.gammaln(n + 1.0) - special.gammaln(k + 1.0) - special.gammaln(n - k + 1.0)


def _t_log(y: Any, df: Any) -> Any:
    scale = -special.betaln(0.5, 0.5 * df) - 0.5 * np.log(df)
    finite = scale - 0.5 * (df + 1.0) * np.log1p(y * y / df)
    return np.where(df == math.inf, -0.5 * y * y - _HALF_LOG_2PI, finite)


def _truncated_mass(a: Any, b: Any) -> Any:
    """log(Φ(b) − Φ(a)), from the tail that the interval is in."""
    right = a > 0
    low, high = np.where(right, -b, a), np.where(right, -a, b)
    upper, lower = special.log_ndtr(high), special.log_ndtr(low)
    return upper + np.log1p(-np.exp(lower - upper))


def _binomial_cdf(k: Any, n: Any, p: Any) -> Any:
    inner = special.betainc(np.maximum(n - k, 1.0), k + 1.0, 1.0 - p)
    return np.where(k >= n, 1.0, inner)


def _whole(n: Any) -> Any:
    return np.floor(n) == n


_CONTINUOUS: dict[str, _Family] = {
    "norm": _Family(
        log=lambda y: -0.5 * y * y - _HALF_LOG_2PI,
        cdf=lambda y: special.ndtr(y),
        sf=lambda y: special.ndtr(-y),
        logcdf=lambda y: special.log_ndtr(y),
        logsf=lambda y: special.log_ndtr(-y),
        ppf=lambda q: special.ndtri(q),
        isf=lambda q: -special.ndtri(q),
        mean=lambda: 0.0,
        variance=lambda: 1.0,
    ),
    "expon": _Family(
        log=lambda y: -y,
        cdf=lambda y: -np.expm1(-y),
        sf=lambda y: np.exp(-y),
        logsf=lambda y: -y,
        ppf=lambda q: -np.log1p(-q),
        isf=lambda q: -np.log(q),
        support=_from_zero,
        mean=lambda: 1.0,
        variance=lambda: 1.0,
    ),
    "uniform": _Family(
        log=lambda y: 0.0 * y,
        cdf=lambda y: y,
        ppf=lambda q: q,
        support=lambda: (0.0, 1.0),
        mean=lambda: 0.5,
        variance=lambda: 1.0 / 12.0,
    ),
    "gamma": _Family(
        log=lambda y, a: special.xlogy(a - 1.0, y) - y - special.gammaln(a),
        cdf=lambda y, a: special.gammainc(a, y),
        sf=lambda y, a: special.gammaincc(a, y),
        support=_from_zero,
        allowed=_all_positive,
        mean=lambda a: a,
        variance=lambda a: a,
    ),
    "beta": _Family(
        log=lambda y, a, b: special.xlog1py(b - 1.0, -y) + special.xlogy(a - 1.0, y) - special.betaln(a, b),
        cdf=lambda y, a, b: special.betainc(a, b, y),
        sf=lambda y, a, b: special.betainc(b, a, 1.0 - y),
        support=lambda a, b: (0.0, 1.0),
        allowed=_all_positive,
        mean=lambda a, b: a / (a + b),
        variance=lambda a, b: a * b / ((a + b) ** 2 * (a + b + 1.0)),
    ),
    "t": _Family(
        log=_t_log,
        cdf=lambda y, df: special.stdtr(df, y),
        sf=lambda y, df: special.stdtr(df, -y),
        allowed=_all_positive,
    ),
    "lognorm": _Family(
        log=lambda y, s: np.where(
            y == 0, -math.inf, -(_log_or_zero(y) ** 2) / (2.0 * s * s) - np.log(s) - _log_or_zero(y) - _HALF_LOG_2PI
        ),
        cdf=lambda y, s: special.ndtr(np.log(y) / s),
        sf=lambda y, s: special.ndtr(-np.log(y) / s),
        logcdf=lambda y, s: special.log_ndtr(np.log(y) / s),
        logsf=lambda y, s: special.log_ndtr(-np.log(y) / s),
        ppf=lambda q, s: np.exp(s * special.ndtri(q)),
        isf=lambda q, s: np.exp(-s * special.ndtri(q)),
        support=_from_zero,
        allowed=_all_positive,
        mean=lambda s: np.exp(0.5 * s * s),
        variance=lambda s: np.expm1(s * s) * np.exp(s * s),
    ),
    "cauchy": _Family(
        log=lambda y: -math.log(math.pi) - np.log1p(y * y),
        cdf=lambda y: np.arctan2(1.0, -y) / math.pi,
        sf=lambda y: np.arctan2(1.0, y) / math.pi,
        ppf=lambda q: np.tan(math.pi * q - 0.5 * math.pi),
    ),
    "laplace": _Family(
        log=lambda y: -math.log(2.0) - np.absolute(y),
        cdf=lambda y: np.where(y > 0, 1.0 - 0.5 * np.exp(-np.absolute(y)), 0.5 * np.exp(-np.absolute(y))),
        sf=lambda y: np.where(y > 0, 0.5 * np.exp(-np.absolute(y)), 1.0 - 0.5 * np.exp(-np.absolute(y))),
        mean=lambda: 0.0,
        variance=lambda: 2.0,
    ),
    "logistic": _Family(
        log=lambda y: -np.logaddexp(0.0, y) - np.logaddexp(0.0, -y),
        cdf=lambda y: special.expit(y),
        sf=lambda y: special.expit(-y),
        logcdf=lambda y: special.log_expit(y),
        logsf=lambda y: special.log_expit(-y),
        ppf=lambda q: special.logit(q),
        isf=lambda q: -special.logit(q),
        mean=lambda: 0.0,
        variance=lambda: math.pi**2 / 3.0,
    ),
    "chi2": _Family(
        log=lambda y, df: (
            special.xlogy(0.5 * df - 1.0, y) - 0.5 * y - special.gammaln(0.5 * df) - 0.5 * math.log(2.0) * df
        ),
        cdf=lambda y, df: special.gammainc(0.5 * df, 0.5 * y),
        sf=lambda y, df: special.gammaincc(0.5 * df, 0.5 * y),
        support=_from_zero,
        allowed=_all_positive,
        mean=lambda df: df,
        variance=lambda df: 2.0 * df,
    ),
    "weibull_min": _Family(
        log=lambda y, c: np.log(c) + special.xlogy(c - 1.0, y) - y**c,
        cdf=lambda y, c: -np.expm1(-(y**c)),
        sf=lambda y, c: np.exp(-(y**c)),
        logsf=lambda y, c: -(y**c),
        ppf=lambda q, c: (-np.log1p(-q)) ** (1.0 / c),
        isf=lambda q, c: (-np.log(q)) ** (1.0 / c),
        support=_from_zero,
        allowed=_all_positive,
    ),
    "halfnorm": _Family(
        log=lambda y: 0.5 * math.log(2.0 / math.pi) - 0.5 * y * y,
        cdf=lambda y: special.erf(y / math.sqrt(2.0)),
        sf=lambda y: special.erfc(y / math.sqrt(2.0)),
        support=_from_zero,
    ),
    "halfcauchy": _Family(
        log=lambda y: math.log(2.0 / math.pi) - special.log1p(y * y),
        cdf=lambda y: 2.0 / math.pi * np.arctan(y),
        support=_from_zero,
    ),
    "gumbel_r": _Family(
        log=lambda y: -y - np.exp(-y),
        cdf=lambda y: np.exp(-np.exp(-y)),
        sf=lambda y: -np.expm1(-np.exp(-y)),
        logcdf=lambda y: -np.exp(-y),
        ppf=lambda q: -np.log(-np.log(q)),
    ),
    "gumbel_l": _Family(
        log=lambda y: y - np.exp(y),
        cdf=lambda y: -np.expm1(-np.exp(y)),
        sf=lambda y: np.exp(-np.exp(y)),
        logsf=lambda y: -np.exp(y),
        ppf=lambda q: np.log(-np.log1p(-q)),
    ),
    "pareto": _Family(
        log=lambda y, b: np.log(b) - (b + 1.0) * np.log(y),
        cdf=lambda y, b: 1.0 - y ** (-b),
        sf=lambda y, b: y ** (-b),
        support=lambda b: (1.0, math.inf),
        inside=lambda b: 2.0,
        allowed=_all_positive,
    ),
    "rayleigh": _Family(
        log=lambda y: np.log(y) - 0.5 * y * y,
        cdf=lambda y: -np.expm1(-0.5 * y * y),
        sf=lambda y: np.exp(-0.5 * y * y),
        logsf=lambda y: -0.5 * y * y,
        support=lambda: (0.0, sys.float_info.max),  # at infinity the formula is inf − inf
    ),
    "invgamma": _Family(
        log=lambda y, a: np.where(
            y == 0, -math.inf, -(a + 1.0) * _log_or_zero(y) - special.gammaln(a) - 1.0 / np.where(y == 0, 1.0, y)
        ),
        cdf=lambda y, a: special.gammaincc(a, 1.0 / y),
        sf=lambda y, a: special.gammainc(a, 1.0 / y),
        support=_from_zero,
        allowed=_all_positive,
    ),
    "truncnorm": _Family(
        log=lambda y, a, b: -0.5 * y * y - _HALF_LOG_2PI - _truncated_mass(a, b),
        support=lambda a, b: (a, b),
        inside=lambda a, b: np.where(np.isfinite(a), a, np.where(np.isfinite(b), b, 0.0)),
        allowed=lambda a, b: a < b,
    ),
}


def _log_or_zero(y: Any) -> Any:
    """log y, and 0 if y is 0 and the value does not count."""
    return np.log(np.where(y == 0, 1.0, y))


_COUNTS: dict[str, _Family] = {
    "poisson": _Family(
        log=lambda k, mu: special.xlogy(k, mu) - special.gammaln(k + 1.0) - mu,
        cdf=lambda k, mu: special.gammaincc(k + 1.0, mu),
        sf=lambda k, mu: special.gammainc(k + 1.0, mu),
        support=_from_zero,
        inside=lambda mu: 0.0,
        allowed=lambda mu: mu >= 0,
        mean=lambda mu: mu,
        variance=lambda mu: mu,
    ),
    "binom": _Family(
        log=lambda k, n, p: _log_stirling(n, k) + special.xlogy(k, p) + special.xlog1py(n - k, -p),
        cdf=_binomial_cdf,
        support=lambda n, p: (0.0, n),
        inside=lambda n, p: 0.0,
        allowed=lambda n, p: (n >= 0) & _whole(n) & (p >= 0) & (p <= 1),
        mean=lambda n, p: n * p,
        variance=lambda n, p: n * p * (1.0 - p),
    ),
    "bernoulli": _Family(
        log=lambda k, p: special.xlogy(k, p) + special.xlog1py(1.0 - k, -p),
        cdf=lambda k, p: np.where(k >= 1, 1.0, 1.0 - p) + 0.0 * k,
        support=lambda p: (0.0, 1.0),
        inside=lambda p: 0.0,
        allowed=lambda p: (p >= 0) & (p <= 1),
        mean=lambda p: p,
        variance=lambda p: p * (1.0 - p),
    ),
    "geom": _Family(
        log=lambda k, p: special.xlog1py(k - 1.0, -p) + np.log(p),
        cdf=lambda k, p: -np.expm1(np.log1p(-p) * k),
        sf=lambda k, p: np.exp(np.log1p(-p) * k),
        logsf=lambda k, p: np.log1p(-p) * k,
        support=lambda p: (1.0, math.inf),
        inside=lambda p: 1.0,
        allowed=lambda p: (p > 0) & (p <= 1),
    ),
    "nbinom": _Family(
        log=lambda k, n, p: (
            special.gammaln(n + k)
            - special.gammaln(k + 1.0)
            - special.gammaln(n)
            + n * np.log(p)
            + special.xlog1py(k, -p)
        ),
        cdf=lambda k, n, p: special.betainc(n, k + 1.0, p),
        support=lambda n, p: (0.0, math.inf),
        inside=lambda n, p: 0.0,
        allowed=lambda n, p: (n > 0) & (p > 0) & (p <= 1),
    ),
}


class _Distribution:
    """A distribution of scipy.stats as a traced function meets it: with plain arguments it is SciPy's own."""

    def __init__(self, original: Any) -> None:
        self.original = original
        self.continuous = isinstance(original, stats.rv_continuous)
        known = _CONTINUOUS if self.continuous else _COUNTS
        # by the type too, not by the name alone: a user may have derived another distribution
        self.family = known.get(original.name)
        if type(original) is not type(getattr(stats, original.name, None)):
            self.family = None
        shapes = original.shapes.split(", ") if original.shapes else []
        self.shapes = len(shapes)
        self.names = [*shapes, "loc", *(["scale"] if self.continuous else [])]

    def __call__(self, *args: Any, **kwds: Any) -> Any:
        return _Frozen(self, args, kwds)

    def freeze(self, *args: Any, **kwds: Any) -> Any:
        return _Frozen(self, args, kwds)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.original, name)
        return functools.partial(self.ask, name) if callable(value) else value

    def ask(self, name: str, *args: Any, **kwds: Any) -> Any:
        """Answer one method."""
        if not meets_traced(args, kwds):
            return getattr(self.original, name)(*args, **kwds)
        if self.family is not None:
            y = None
            if name in ("mean", "var", "std"):
                shapes, loc, scale = self.parsed(args, kwds)
                y = self._moment(name, shapes, loc, scale)
            elif name in _METHODS and name not in (("pmf", "logpmf") if self.continuous else ("pdf", "logpdf")):
                x, rest, named = _first(args, kwds, ("x", "k", "q"))
                y = self._at(name, x, *self.parsed(rest, named))
            if y is not None:
                return y
        if not differentiated(args, kwds):
            return getattr(self.original, name)(*plain(args), **plain(kwds))
        raise untraceable(
            f"scipy.stats.{self.original.name}.{name} is not known to koubai",
            "write its formula with NumPy functions, or pass method='central'",
        )

    def parsed(self, args: Sequence[Any], kwds: Mapping[str, Any]) -> tuple[list[Any], Any, Any]:
        """Return the shapes, the location and the scale, as float64."""
        given = dict(zip(self.names, args, strict=False))
        if len(args) > len(self.names):
            raise TypeError(f"{self.original.name} takes at most {len(self.names)} parameters, got {len(args)}")
        for name, value in kwds.items():
            if name in given or name not in self.names:
                raise TypeError(f"{self.original.name} got an unexpected parameter {name!r}")
            given[name] = value
        values = {"loc": 0.0, "scale": 1.0} | given
        missing = [name for name in self.names if name not in values]
        if missing:
            raise TypeError(f"{self.original.name} needs the parameter {missing[0]!r}")
        shapes = [_double(values[name]) for name in self.names[: self.shapes]]
        return shapes, _double(values["loc"]), _double(values["scale"])

    def _allowed(self, shapes: list[Any], scale: Any) -> tuple[list[Any], Any]:
        """Return shapes and scale with nan in the place of what is not allowed."""
        if self.continuous:
            scale = np.where(scale > 0, scale, math.nan)
        family = self.family
        if family is not None and family.allowed is not None:
            allowed = family.allowed(*shapes)
            shapes = [np.where(allowed, shape, math.nan) for shape in shapes]
        return shapes, scale

    def _moment(self, name: str, shapes: list[Any], loc: Any, scale: Any) -> Any:
        family: Any = self.family
        formula = family.mean if name == "mean" else family.variance
        if formula is None:
            return None
        shapes, scale = self._allowed(shapes, scale)
        value = formula(*shapes)
        if name == "mean":
            return loc + scale * value
        return scale * scale * value if name == "var" else scale * np.sqrt(value)

    def _at(self, name: str, x: Any, shapes: list[Any], loc: Any, scale: Any) -> Any:
        family: Any = self.family
        if name in ("ppf", "isf"):
            return self._quantile(name, _double(x), shapes, loc, scale)
        shapes, scale = self._allowed(shapes, scale)
        y = _double(x) - loc
        if self.continuous:
            y = y / scale
        else:
            _refuse_counts(f"scipy.stats.{self.original.name}.{name}", y)
        if name in ("pdf", "pmf", "logpdf", "logpmf"):
            return self._density(name, y, shapes, scale)
        low, high = family.support(*shapes)
        if not self.continuous:
            y = np.floor(y)
            below, above = y < low, y >= high
        else:
            below, above = y <= low, y >= high
        ends = {"cdf": (0.0, 1.0), "sf": (1.0, 0.0), "logcdf": (-math.inf, 0.0), "logsf": (0.0, -math.inf)}[name]
        value = self._distribution(name, np.where(below | above, family.inside(*shapes), y), shapes)
        if value is None:
            return None
        value = np.where(below, ends[0], np.where(above, ends[1], value))
        for parameter in (*shapes, scale):  # nan where it is not allowed, beyond the ends too
            value = np.where(np.isnan(parameter), math.nan, value)
        return value

    def _density(self, name: str, y: Any, shapes: list[Any], scale: Any) -> Any:
        family: Any = self.family
        low, high = family.support(*shapes)
        outside: Any = False
        if type(low) is not float or low > -math.inf:
            outside = y < low
        if type(high) is not float or high < math.inf:
            outside = outside | (y > high)
        if not self.continuous:
            outside = outside | (~_whole(y) & (y == y))
        if outside is not False:
            y = np.where(outside, family.inside(*shapes), y)
        value = family.log(y, *shapes)
        logarithm = name.startswith("log")
        if not logarithm:
            value = np.exp(value)
        if self.continuous:
            value = value - np.log(scale) if logarithm else value / scale
        if outside is False:
            return value
        beyond: Any = -math.inf if logarithm else 0.0
        for parameter in (*shapes, scale):  # nan where it is not allowed, there too
            beyond = np.where(np.isnan(parameter), math.nan, beyond)
        return np.where(outside, beyond, value)

    def _distribution(self, name: str, y: Any, shapes: list[Any]) -> Any:
        """cdf, sf and their logarithms inside the support; None: there is no formula."""
        family: Any = self.family
        formula = getattr(family, name)
        if formula is not None:
            return formula(y, *shapes)
        if name.startswith("log"):
            cdf, sf = (self._distribution(one, y, shapes) for one in ("cdf", "sf"))
            if cdf is None:
                return None
            value, other = (cdf, sf) if name == "logcdf" else (sf, cdf)
            low = value < 0.5  # else the logarithm of 1 less the small one, which keeps its digits
            return np.where(low, np.log(np.where(low, value, 1.0)), np.log1p(-np.where(low, 0.0, other)))
        return 1.0 - family.cdf(y, *shapes) if name == "sf" and family.cdf is not None else None

    def _quantile(self, name: str, q: Any, shapes: list[Any], loc: Any, scale: Any) -> Any:
        family: Any = self.family
        formula = getattr(family, name)
        if formula is None:
            formula, q = family.ppf, 1.0 - q if name == "isf" else q
            name = "ppf"
        if formula is None or not self.continuous:
            return None
        shapes, scale = self._allowed(shapes, scale)
        low, high = family.support(*shapes)
        first, last = (low, high) if name == "ppf" else (high, low)
        inside = (q > 0) & (q < 1)
        value = formula(np.where(inside, q, 0.5), *shapes)
        value = np.where(q == 0, first, np.where(q == 1, last, value))
        return np.where(inside | (q == 0) | (q == 1), value, math.nan) * scale + loc


_METHODS = ("pdf", "logpdf", "pmf", "logpmf", "cdf", "logcdf", "sf", "logsf", "ppf", "isf")


def _double(value: Any) -> Any:
    """A parameter in float64, in which SciPy computes; a number of Python's stays one."""
    return value if type(value) is float else array(value).astype(np.float64, copy=False)


def _first(args: tuple[Any, ...], kwds: Mapping[str, Any], names: Sequence[str]) -> tuple[Any, Any, Any]:
    """Separate the first argument, which may be given by name, from the others."""
    if args:
        return args[0], args[1:], kwds
    for name in names:
        if name in kwds:
            return kwds[name], args, {k: v for k, v in kwds.items() if k != name}
    raise TypeError(f"missing the argument {names[0]!r}")


def _refuse_counts(function: str, k: Any) -> None:
    if differentiated(k):
        raise untraceable(
            f"{function} counts whole numbers, so it has no derivative with respect to its first argument or loc",
            "differentiate its parameters, or pass method='central'",
        )


class _Frozen:
    """A distribution with its parameters, as ``scipy.stats.norm(mu, sigma)``."""

    def __init__(self, distribution: Any, args: tuple[Any, ...], kwds: dict[str, Any]) -> None:
        self.dist, self.args, self.kwds = distribution, args, kwds

    def __getattr__(self, name: str) -> Any:
        if name not in _METHODS and callable(getattr(self.dist, name)) and name not in ("mean", "var", "std"):
            return getattr(self.dist.original(*self.args, **self.kwds), name)  # refuses traced parameters by itself
        ask = getattr(self.dist, name)
        if name in ("mean", "var", "std"):
            return lambda: ask(*self.args, **self.kwds)
        return lambda x: ask(x, *self.args, **self.kwds)


# --- the normal distribution of vectors
class _MultivariateNormal:
    """``scipy.stats.multivariate_normal``: log density −½ (d log 2π + log |Σ| + (x − μ)ᵀ Σ⁻¹ (x − μ)), of L Lᵀ = Σ."""

    def __init__(self, original: Any) -> None:
        self.original = original

    def __call__(
        self, mean: Any = None, cov: Any = 1, allow_singular: bool = False, seed: Any = None, **kw: Any
    ) -> Any:
        if not meets_traced(mean, cov):
            return _MultivariateFrozen(
                self, self.original(mean, cov, allow_singular, seed, **kw), mean, cov, allow_singular
            )
        return _MultivariateFrozen(self, None, mean, cov, allow_singular)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.original, name)

        def refusing(*args: Any, **kwds: Any) -> Any:
            if differentiated(args, kwds):
                raise untraceable(
                    f"scipy.stats.multivariate_normal.{name} is not known to koubai",
                    "write its formula with NumPy functions, or pass method='central'",
                )
            return value(*plain(args), **plain(kwds))

        return refusing if callable(value) else value

    def pdf(self, x: Any, mean: Any = None, cov: Any = 1, allow_singular: bool = False) -> Any:
        if not meets_traced(x, mean, cov):
            return self.original.pdf(x, mean, cov, allow_singular)
        return np.exp(self.logpdf(x, mean, cov, allow_singular))

    def logpdf(self, x: Any, mean: Any = None, cov: Any = 1, allow_singular: bool = False) -> Any:
        if not meets_traced(x, mean, cov):
            return self.original.logpdf(x, mean, cov, allow_singular)
        if allow_singular:
            _TWINS.refuse("multivariate_normal.logpdf", "allow_singular", allow_singular)
        if not hasattr(cov, "dtype") and not isinstance(cov, int | float | list | tuple | type(None)):
            _TWINS.refuse("multivariate_normal.logpdf", "cov", cov)  # an object of SciPy's
        mean, cov = _mean_and_covariance(mean, cov)
        dim = mean.shape[0]
        x = _double(x)
        x = x[None] if x.ndim == 0 else x[:, None] if x.ndim == 1 and dim == 1 else x[None, :] if x.ndim == 1 else x
        deviation = (x - mean).reshape((-1, dim))
        root = cholesky(cov)
        turned = apply("solve", root, deviation.mT)
        log_root = np.sum(np.log(np.diagonal(root)))
        y = -0.5 * (dim * 2.0 * _HALF_LOG_2PI + 2.0 * log_root + np.sum(turned * turned, axis=0))
        return np.squeeze(y.reshape(x.shape[:-1]))


def _mean_and_covariance(mean: Any, cov: Any) -> tuple[Any, Any]:
    """Return the vector and the matrix that SciPy makes of these arguments."""
    cov = _double(np.asarray(1.0) if cov is None else cov)
    cov = np.asarray(cov) if type(cov) is float else cov
    if mean is None:
        dim = cov.shape[0] if cov.ndim >= 2 else 1
        mean = np.zeros(dim)
    mean = _double(mean)
    mean = np.asarray(mean) if type(mean) is float else mean
    dim = mean.size
    if dim == 1:
        mean, cov = mean.reshape((1,)), cov.reshape((1, 1))
    if mean.ndim != 1:
        raise ValueError(f"Array 'mean' must be a vector of length {dim}.")
    if cov.ndim == 0:
        cov = cov * np.eye(dim)
    elif cov.ndim == 1:
        cov = np.diag(cov)
    if cov.shape != (dim, dim):
        raise ValueError(f"Array 'cov' must be of shape {(dim, dim)}, but cov.shape = {cov.shape}.")
    return mean, cov


class _MultivariateFrozen:
    """``scipy.stats.multivariate_normal(mean, cov)``."""

    def __init__(self, distribution: Any, original: Any, mean: Any, cov: Any, allow_singular: bool) -> None:
        self.dist, self.original = distribution, original
        self.given = mean, cov, allow_singular

    def __getattr__(self, name: str) -> Any:
        if name in ("pdf", "logpdf"):
            ask = getattr(self.dist, name)
            return lambda x: ask(x, *self.given)
        if self.original is None:
            if not differentiated(self.given):
                return getattr(self.dist.original(*plain(self.given)), name)
            raise untraceable(
                f"scipy.stats.multivariate_normal.{name} is not known to koubai",
                "write its formula with NumPy functions, or pass method='central'",
            )
        return getattr(self.original, name)


def _frozen(original: Any) -> Any:
    found = standin(original.dist)
    return None if found is None else _Frozen(found, original.args, original.kwds)


def _frozen_multivariate(original: Any) -> Any:
    distribution = _MultivariateNormal(stats.multivariate_normal)
    return _MultivariateFrozen(distribution, original, original.mean, original.cov, original.allow_singular)


_TWINS.kinds[stats.rv_continuous] = _TWINS.kinds[stats.rv_discrete] = _Distribution
_TWINS.kinds[type(stats.norm()).__mro__[1]] = _frozen
_TWINS.kinds[type(stats.multivariate_normal)] = _MultivariateNormal
_TWINS.kinds[type(stats.multivariate_normal([0.0]))] = _frozen_multivariate
