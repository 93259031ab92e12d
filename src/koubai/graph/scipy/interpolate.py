"""Interpolation after ``scipy.interpolate``: piecewise polynomials at traced points, and of traced data.

A spline made of plain data is its table of coefficients, looked up at the traced points: derivatives of any order are
those of the polynomials. A cubic spline, a B-spline through points and a linear interpolation are linear in the data,
so one of traced data is the splines of the unit vectors, added up with the data as weights. Breakpoints and knots stay
plain. At a breakpoint the piece to its right counts, as in SciPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from koubai.graph.numpy.arguments import array
from koubai.graph.twins import Twins, differentiated, meets_traced, plain
from koubai.graph.user_code import untraceable

__all__ = ["standin"]

_TWINS = Twins("scipy.interpolate")
interpolate = _TWINS.module


def standin(value: Any) -> Any:
    found = _TWINS.standin(value)
    if found is not None or not isinstance(value, type) or value not in _MADE:
        return found
    return _MADE[value]


class _Piecewise:
    """A piecewise polynomial: c[k, i] is the coefficient of (x − x[i])**(K − k) on the i-th interval.

    original: the object of SciPy's, where the coefficients are plain.
    """

    def __init__(self, c: Any, x: Any, extrapolate: Any, original: Any = None) -> None:
        self.coefficients, self.breakpoints, self.extrapolated, self.original = c, x, extrapolate, original

    def __getattr__(self, name: str) -> Any:
        if self.original is None:
            raise untraceable(f"{name} of a spline of traced data has no rule here", "evaluate the spline itself")
        value = getattr(self.original, name)
        if name not in ("derivative", "antiderivative"):
            return value
        return lambda *args, **kwargs: standin(value(*args, **kwargs))

    def __call__(self, x: Any, nu: int = 0, extrapolate: Any = None) -> Any:
        if self.original is not None and not meets_traced(x):
            return self.original(x, nu, extrapolate)
        extrapolate = self.extrapolated if extrapolate is None else extrapolate
        c, at = self.coefficients, self.breakpoints
        x = array(x).astype(np.float64, copy=False)
        if extrapolate == "periodic":
            x = at[0] + (x - at[0]) % (at[-1] - at[0])
        place = np.clip(np.searchsorted(at, x, side="right") - 1, 0, at.shape[0] - 2)
        step = x - np.asarray(at)[place]
        step = step.reshape(step.shape + (1,) * (c.ndim - 2))
        degree = c.shape[0] - 1
        y: Any = 0.0 * c[0][place] if degree < nu else 0.0
        for k in range(degree - nu + 1):
            power = degree - k
            factor = float(np.prod(np.arange(power, power - nu, -1))) if nu else 1.0
            y = y * step + c[k][place] * factor
        if not extrapolate:
            outside = (x < at[0]) | (x > at[-1])
            y = np.where(outside.reshape(outside.shape + (1,) * (c.ndim - 2)), np.nan, y)
        return y


def _of_polynomials(original: Any) -> Any:
    if getattr(original, "axis", 0):
        return _Refusing(original)
    return _Piecewise(original.c, original.x, original.extrapolate, original)


def _pieces(original: Any) -> tuple[Any, Any]:
    """Return coefficients and breakpoints of a B-spline, without its empty intervals."""
    knots, c, degree = original.tck if isinstance(original, interpolate.BSpline) else original
    c = np.asarray(c)
    columns = [interpolate.PPoly.from_spline((knots, column, degree)) for column in c.reshape((c.shape[0], -1)).T]
    x = columns[0].x
    kept = np.flatnonzero(np.diff(x) > 0)
    pieces = np.stack([part.c[:, kept] for part in columns], -1).reshape((degree + 1, kept.size, *c.shape[1:]))
    return pieces, np.append(x[kept], x[kept[-1] + 1])


def _of_basis(original: Any) -> Any:
    if original.axis:
        return _Refusing(original)
    c, x = _pieces(original)
    return _Piecewise(c, x, original.extrapolate, original)


class _Univariate(_Piecewise):
    """A spline out of FITPACK, which names its options in another way."""

    def __call__(self, x: Any, nu: int = 0, ext: Any = None) -> Any:
        if not meets_traced(x):
            return self.original(x, nu, ext)
        if (self.extrapolated if ext is None else ext) not in (0, "extrapolate"):
            raise untraceable("a spline with ext other than 0 has no rule here", "leave ext out")
        return super().__call__(x, nu, True)


def _of_fitpack(original: Any) -> Any:
    c, x = _pieces(original._eval_args)
    return _Univariate(c, x, original.ext, original)


_TWINS.kinds[interpolate.PPoly] = _of_polynomials
_TWINS.kinds[interpolate.BSpline] = _of_basis
_TWINS.kinds[interpolate.UnivariateSpline] = _of_fitpack


# --- linear in the data
def _of_data(make: Any, y: Any, length: int, extrapolate: Any) -> Any:
    """The spline of the traced data ``y``; make: from the data of several splines side by side, the pieces."""
    y = array(y).astype(np.float64, copy=False)
    if y.shape[0] != length:
        raise ValueError(f"x and y must have the same length along the axis: x has {length}, y has {y.shape[0]}")
    c, x = make(np.eye(length))
    return _Piecewise(np.tensordot(c, y, ((2,), (0,))), x, extrapolate)


def _made(kind: Any) -> Any:
    """SciPy's class as a traced function meets it: what it makes of plain data is looked up at traced points, too."""

    def make(*args: Any, **kwargs: Any) -> Any:
        if differentiated(args, kwargs):
            raise untraceable(
                f"scipy.interpolate.{kind.__name__} of traced data has no rule here",
                "interpolate plain data, or pass method='central'",
            )
        original = kind(*plain(args), **plain(kwargs))
        found = _TWINS.standin(original)
        return original if found is None else found

    return make


def _cubic_spline(x: Any, y: Any, axis: int = 0, bc_type: Any = "not-a-knot", extrapolate: Any = None) -> Any:
    if not differentiated(x, y, bc_type):
        return _made(interpolate.CubicSpline)(x, y, axis, bc_type, extrapolate)
    if differentiated(x, bc_type):
        _TWINS.refuse("CubicSpline", "x or bc_type", "a traced value")
    x, bc_type = np.asarray(plain(x)), plain(bc_type)
    if axis != 0 or not (isinstance(bc_type, str) or all(end[1] == 0 for end in bc_type if not isinstance(end, str))):
        _TWINS.refuse("CubicSpline", "axis or bc_type", (axis, bc_type))
    if bc_type == "periodic":
        _TWINS.refuse("CubicSpline", "bc_type", bc_type)

    def make(data: Any) -> tuple[Any, Any]:
        whole = interpolate.CubicSpline(x, data, 0, bc_type)
        return whole.c, whole.x

    return _of_data(make, y, x.shape[0], True if extrapolate is None else extrapolate)


def _interp1d(
    x: Any,
    y: Any,
    kind: Any = "linear",
    axis: int = -1,
    copy: bool = True,
    bounds_error: Any = None,
    fill_value: Any = np.nan,
    assume_sorted: bool = False,
) -> Any:
    if not differentiated(x, y, fill_value):
        return _made(interpolate.interp1d)(x, y, kind, axis, copy, bounds_error, fill_value, assume_sorted)
    if kind not in ("linear", 1):
        _TWINS.refuse("interp1d", "kind", kind)
    if differentiated(x, fill_value) or np.ndim(x) != 1 or array(y).ndim != 1:
        _TWINS.refuse("interp1d", "x, y or fill_value", "a traced grid, or data of several dimensions")
    x = np.asarray(plain(x))
    order = np.arange(x.size) if assume_sorted else np.argsort(x, kind="mergesort")
    return _Linear(x[order], array(y)[order], bounds_error, fill_value, None)


class _Linear:
    """``interp1d(x, y)``, linear between points in one dimension."""

    def __init__(self, x: Any, y: Any, bounds_error: Any, fill_value: Any, original: Any) -> None:
        self.x, self.y, self.original = x, y, original
        self.extrapolate = isinstance(fill_value, str) and fill_value == "extrapolate"
        ends = fill_value if isinstance(fill_value, tuple) else (fill_value, fill_value)
        self.below, self.above = ends
        self.strict = not self.extrapolate and (
            bounds_error if bounds_error is not None else isinstance(fill_value, float) and np.isnan(fill_value)
        )

    def __call__(self, x: Any) -> Any:
        if self.original is not None and not meets_traced(x):
            return self.original(x)
        points = array(x).astype(np.float64, copy=False)
        at, y = self.x, self.y
        if self.strict and np.any((points < at[0]) | (points > at[-1])):
            raise ValueError("A value in x_new is outside the interpolation range.")
        place = np.clip(np.searchsorted(at, points) - 1, 0, at.shape[0] - 2)
        low, high = at[place], at[place + 1]
        inside = (y[place + 1] - y[place]) / (high - low) * (points - low) + y[place]
        if self.extrapolate:
            return inside
        return np.where(points < at[0], self.below, np.where(points > at[-1], self.above, inside))


def _of_interp1d(original: Any) -> Any:
    if original.y.ndim != 1 or original._kind != "linear":
        return _Refusing(original)
    fill = "extrapolate" if original._extrapolate else original.fill_value
    return _Linear(original.x, original.y, original.bounds_error, fill, original)


class _Refusing:
    """An interpolation that has no rule here."""

    def __init__(self, original: Any) -> None:
        self.original = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if differentiated(args, kwargs):
            raise untraceable(
                f"scipy.interpolate.{type(self.original).__name__} of this kind has no rule here",
                "use CubicSpline or make_interp_spline, or pass method='central'",
            )
        return self.original(*plain(args), **plain(kwargs))


_TWINS.kinds[interpolate.interp1d] = _of_interp1d


@_TWINS.of("make_interp_spline")
def make_interp_spline(
    x: Any, y: Any, k: int = 3, t: Any = None, bc_type: Any = None, axis: int = 0, check_finite: bool = True
) -> Any:
    if differentiated(x, t, bc_type) or bc_type is not None or axis != 0:
        _TWINS.refuse("make_interp_spline", "x, t, bc_type or axis", "traced or given")
    x, t = np.asarray(plain(x)), plain(t)
    if not differentiated(y):
        return standin(interpolate.make_interp_spline(x, plain(y), k, t))
    return _of_data(lambda data: _pieces(interpolate.make_interp_spline(x, data, k, t)), y, x.shape[0], True)


_MADE = {
    interpolate.CubicSpline: _cubic_spline,
    interpolate.interp1d: _interp1d,
    **{
        kind: _made(kind)
        for kind in (
            interpolate.PPoly,
            interpolate.BSpline,
            interpolate.PchipInterpolator,
            interpolate.Akima1DInterpolator,
            interpolate.CubicHermiteSpline,
            interpolate.UnivariateSpline,
            interpolate.InterpolatedUnivariateSpline,
            interpolate.LSQUnivariateSpline,
        )
    },
}


@_TWINS.of("splev")
def splev(x: Any, tck: Any, der: int = 0, ext: int = 0) -> Any:
    if isinstance(tck, interpolate.BSpline):
        tck = tck.tck
    if differentiated(tck) or ext != 0 or isinstance(tck[1], list):
        _TWINS.refuse("splev", "tck or ext", "traced, parametric or other than 0")
    c, at = _pieces(plain(tck))
    return _Piecewise(c, at, True)(x, der)
