"""The table of supported NumPy names: one row a name, with expressions that are differentiated at order 1 and 2.

``tests/test_supported.py`` runs every expression over its domain and shapes, in float64 and float32. This file, run by
itself, writes ``docs/supported.md`` from the same table: ``python tests/supported.py``.

How to add a name: one `row` in its family. An expression is plain NumPy in ``x``, an array with elements drawn from
``domain``; with two domains it is written in ``a`` and ``b``. What it returns, of any shape, real or complex, is summed
with fixed weights. ``shapes`` are those of x (or of a and b).
"""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy
import scipy.integrate
import scipy.interpolate
import scipy.linalg
import scipy.ndimage
import scipy.signal
import scipy.spatial
import scipy.stats
from scipy import special

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "supported.md"

ANY, POSITIVE, UNIT, CLOSE = (-2.5, 2.5), (0.3, 3.0), (-0.85, 0.85), (0.15, 0.85)
ELEMENTWISE = ((), (3,), (2, 3))
VECTORS = ((4,), (5,))
MATRICES = ((2, 3), (3, 3))
SQUARES = ((2, 2), (3, 3))
STACKS = ((3, 3), (2, 2, 2))
ARRAYS = ((4,), (2, 3), (2, 1, 3))


@dataclass(frozen=True)
class Row:
    """One name. loose: how many times more rounding than usual a float32 gradient of it has."""

    family: str
    name: str
    code: tuple[str, ...]
    domains: tuple[tuple[float, float], ...]
    shapes: tuple[tuple[int, ...], ...]
    loose: float


ROWS: list[Row] = []
FAMILY = ""


def family(name):
    global FAMILY
    FAMILY = name


def row(name, *code, domain=ANY, shapes=ELEMENTWISE, loose=1.0):
    domains = domain if isinstance(domain[0], tuple) else (domain,)
    ROWS.append(Row(FAMILY, name, code, domains, shapes, loose))


def rows(names, domain=ANY, text="{}(x)", shapes=ELEMENTWISE, **more):
    for name in names.split():
        row(name, text.format(name), domain=domain, shapes=shapes, **more)


# --- what expressions may use beside NumPy
def symmetric(x):
    return x + np.swapaxes(x, -1, -2)


def definite(x):
    return x @ np.swapaxes(x, -1, -2) + np.eye(x.shape[-1], dtype=x.dtype) * 2


def regular(x):
    """A matrix far from singular, with well separated singular values and eigenvalues."""
    n = min(x.shape[-2:])
    spread = np.eye(x.shape[-2], x.shape[-1], dtype=x.dtype) * np.arange(2, x.shape[-1] + 2, dtype=x.dtype) * 2
    return x * (1.0 / n) + spread


def with_nan(x):
    return np.where(x > 1.0, np.nan, x)


def written(x, write):
    """x * x, changed by ``write``."""
    y = x * x
    write(y)
    return y


def cut(x, n):
    return x.ravel()[:n]


# --- the table
family("Arithmetic")
PAIR = {"domain": (ANY, ANY)}
for _name, _code in (("add", "a + b"), ("subtract", "a - b"), ("multiply", "a * b")):
    row(f"np.{_name}", f"np.{_name}(a, b)", **PAIR)
row("np.divide", "np.divide(a, b)", domain=(ANY, POSITIVE))
row("np.power", "np.power(a, b)", "np.power(a, 2.0)", "np.power(a, 3) * b", domain=(POSITIVE, ANY), loose=4)
row("np.float_power", "np.float_power(a, b).astype(a.dtype)", domain=(POSITIVE, UNIT))
row("np.remainder", "np.remainder(a, b)", domain=((0.36, 0.48), (0.25, 0.33)))
row("np.fmod", "np.fmod(a, b)", domain=((0.36, 0.48), (0.25, 0.33)))
row("np.floor_divide", "a * np.floor_divide(a, b)", domain=(ANY, POSITIVE))
row("np.divmod", "np.divmod(a, b)[1] + a * np.divmod(a, b)[0]", domain=((0.36, 0.48), (0.25, 0.33)))
rows("np.negative np.positive np.square np.absolute np.fabs")
rows("np.reciprocal np.sqrt np.cbrt", POSITIVE)
row("np.modf", "np.modf(x)[0] + x * np.modf(x)[1]")
row("np.frexp", "np.frexp(x)[0] * x", domain=POSITIVE)
row("np.ldexp", "np.ldexp(x, 3)")
row("np.clip", "np.clip(x, -1.0, 1.5)", "np.clip(x, None, 0.7)", "x.clip(min=0.3)")
row("np.nan_to_num", "np.nan_to_num(with_nan(x), nan=3.0)")

family("Exponentials, logarithms and trigonometry")
rows("np.exp np.exp2 np.expm1 np.sin np.cos np.arctan np.sinh np.cosh np.tanh np.arcsinh np.deg2rad np.rad2deg")
rows("np.radians np.degrees np.sinc np.i0")
rows("np.log np.log2 np.log10 np.log1p", POSITIVE)
rows("np.arcsin np.arccos np.arctanh", UNIT)
row("np.tan", "np.tan(x)", domain=(-1.2, 1.2))
row("np.arccosh", "np.arccosh(x)", domain=(1.3, 4.0))
row("np.arctan2", "np.arctan2(a, b)", domain=(POSITIVE, ANY))
row("np.hypot", "np.hypot(a, b)", domain=(POSITIVE, ANY))
row("np.logaddexp", "np.logaddexp(a, b)", **PAIR)
row("np.logaddexp2", "np.logaddexp2(a, b)", **PAIR)

family("Choices")
row("np.maximum", "np.maximum(a, b)", "np.maximum(a, 0) ** 2", **PAIR)
row("np.minimum", "np.minimum(a, b)", **PAIR)
row("np.fmax", "np.fmax(a, b)", **PAIR)
row("np.fmin", "np.fmin(a, b)", **PAIR)
row("np.copysign", "np.copysign(a, b) * a", **PAIR)
row("np.where", "np.where(a > b, a * a, np.sin(b))", "np.where(a > 0, a, 0.0) * b", **PAIR)
row("np.select", "np.select([x < -1, x > 1], [x * x, np.exp(x)], 0.5 * x)", shapes=((3,), (2, 3)))
row("np.piecewise", "np.piecewise(x, [x < 0, x >= 0], [lambda t: t**2, lambda t: np.sin(t)])", shapes=((3,), (2, 3)))
row("np.choose", "np.choose((x > 0).astype(int), [x * x, np.exp(x)])", shapes=((3,), (2, 3)))

family("Steps and tests: derivative zero")
rows("np.sign np.floor np.ceil np.trunc np.rint np.fix np.round np.around np.signbit", ANY, "x * {}(x)")
row("np.spacing", "np.where(np.spacing(x) > 0, x * x, x)")
row("np.heaviside", "a * np.heaviside(b, 0.5)", **PAIR)
rows("np.isnan np.isfinite np.isinf np.isposinf np.isneginf np.logical_not", ANY, "np.where({}(x), x * x, np.sin(x))")
rows(
    "np.less np.less_equal np.greater np.greater_equal np.equal np.not_equal np.isclose",
    (ANY, ANY),
    "np.where({}(a, b), a * a, b * a)",
)
rows(
    "np.logical_and np.logical_or np.logical_xor np.bitwise_and np.bitwise_or np.bitwise_xor",
    (ANY, ANY),
    "np.where({}(a > 0, b > 0), a * a, b * a)",
)
row("np.invert", "np.where(np.invert(x > 0), x * x, x)")
row("np.any", "x * np.any(x > 1)", "x * (x > 2).any(axis=-1, keepdims=True)", shapes=ARRAYS)
row("np.all", "x * np.all(x > -1)", "x * (x > -2).all(axis=0)", shapes=ARRAYS)
row("np.allclose", "x * (2.0 if np.allclose(x, 1.0) else 3.0)")
row("np.array_equal", "x * (2.0 if np.array_equal(x, x * x) else 3.0)")
row("np.array_equiv", "x * (2.0 if np.array_equiv(x, x * x) else 3.0)")
row(
    "np.count_nonzero",
    "np.where(np.count_nonzero(x > 0) > 1, x * x, x)",
    "x * np.count_nonzero(x > 0, axis=-1, keepdims=True)",
    shapes=ARRAYS,
)
rows("np.argmax np.argmin np.nanargmax np.nanargmin", ANY, "x.ravel()[{}(x)] ** 2", ARRAYS)
row("np.digitize", "x * np.digitize(x, [-1.0, 0.0, 1.0])", shapes=ARRAYS)
row("np.searchsorted", "x * np.searchsorted(np.array([-1.0, 0.0, 1.0]), x)", shapes=ARRAYS)

family("Reductions")
for _name in ("sum", "mean", "max", "min", "prod"):
    row(
        f"np.{_name}",
        f"np.{_name}(x) ** 2",
        f"np.{_name}(x, axis=-1)",
        f"np.{_name}(x, axis=0, keepdims=True) * x",
        shapes=ARRAYS,
        loose=4,
    )
row("np.var", "np.var(x)", "np.var(x, axis=-1, ddof=1)", shapes=ARRAYS)
row("np.std", "np.std(x)", "np.std(x, axis=-1, ddof=1)", shapes=ARRAYS)
row("np.ptp", "np.ptp(x)", "np.ptp(x, axis=-1)", shapes=ARRAYS)
row("np.average", "np.average(x)", "np.average(x, weights=x * x + 1)", shapes=ARRAYS)
row("np.median", "np.median(x)", "np.median(x, axis=-1, keepdims=True)", shapes=ARRAYS)
row(
    "np.quantile",
    "np.quantile(x, 0.3)",
    "np.quantile(x, [0.2, 0.7], axis=-1)",
    "np.quantile(x, [[0.2, 0.7]], axis=0, method='hazen')",
    *(f"np.quantile(x, 0.3, method='{method}')" for method in ("lower", "higher", "midpoint", "nearest", "weibull")),
    *(f"np.quantile(x, 0.75, method='{method}')" for method in ("inverted_cdf", "averaged_inverted_cdf")),
    shapes=ARRAYS,
)
row("np.percentile", "np.percentile(x, 35.0)", "np.percentile(x, 60.0, axis=0)", shapes=ARRAYS)
rows("np.cumsum np.cumprod", ANY, "{}(x)", ARRAYS, loose=4)
rows("np.cumulative_sum np.cumulative_prod", ANY, "{}(x, axis=-1)", ARRAYS, loose=4)
row("np.trapezoid", "np.trapezoid(x)", "np.trapezoid(x, dx=0.5, axis=0)", shapes=ARRAYS)

family("Statistics with NaN left out, covariance")
rows("np.nansum np.nanprod np.nanmean np.nanmax np.nanmin", ANY, "{}(with_nan(x)) * x", ((6,), (2, 3)), loose=4)
rows("np.nanvar np.nanstd", ANY, "{0}(with_nan(x)) + {0}(with_nan(x), axis=0)", ((6,), (4, 2)), loose=4)
rows("np.nancumsum np.nancumprod", ANY, "{}(with_nan(x), axis=-1)", ARRAYS, loose=4)
rows("np.nanmedian", ANY, "{0}(with_nan(x)) + {0}(with_nan(x), axis=-1)", ((6,), (2, 5)))
row("np.nanquantile", "np.nanquantile(with_nan(x), 0.3)", shapes=((6,), (2, 3)))
row("np.nanpercentile", "np.nanpercentile(with_nan(x), [20.0, 45.0])", shapes=((6,), (2, 3)))
row("np.cov", "np.cov(x)", "np.cov(x * (1 + 2j))", "np.cov(x, rowvar=False, bias=True)", shapes=((5,), (2, 4), (3, 4)))
row(
    "np.cov",
    "np.cov(x, fweights=np.arange(1, x.shape[-1] + 1))",
    "np.cov(x, aweights=x[0] ** 2 + 1, ddof=0)",
    shapes=((2, 4), (3, 4)),
    loose=4,
)
row("np.corrcoef", "np.corrcoef(x)", "np.corrcoef(x[0], x[1] ** 2)", shapes=((2, 5), (3, 4)), loose=4)
row("np.bincount", "np.bincount(np.array([0, 2, 1, 2]), weights=cut(x, 4)) ** 2", shapes=((4,), (2, 3)))

family("Order and selection")
row("np.sort", "np.sort(x)", "np.sort(x, axis=0)", "np.sort(x, axis=None)", shapes=ARRAYS)
row("np.argsort", "np.take_along_axis(x, np.argsort(x, axis=-1), -1) ** 2", shapes=ARRAYS)
row("np.partition", "np.sort(np.partition(x, 1)[..., :2])", shapes=ARRAYS)
row("np.argpartition", "np.sort(np.take_along_axis(x, np.argpartition(x, 1), -1)[..., :2] ** 2)", shapes=ARRAYS)
row("np.take", "np.take(x, [1, 0, 1], axis=-1)", "np.take(x, 2, mode='wrap')", shapes=ARRAYS)
row("np.take_along_axis", "np.take_along_axis(x, np.argsort(x, axis=-1)[..., :2], axis=-1)", shapes=ARRAYS)
row("np.compress", "np.compress([True, False, True], x, axis=-1)", shapes=((4,), (2, 3)))
row("np.extract", "np.extract(x > 0, x) ** 2", shapes=ARRAYS)
row("np.nonzero", "x[np.nonzero(x > 0)] ** 2", shapes=ARRAYS)
row(
    "np.unique",
    "np.unique(np.append(x, x * x))",
    "x.ravel()[np.unique(np.round(x), return_index=True)[1]] ** 2",
    "np.unique(np.round(x), return_counts=True)[1] * x.ravel()[0]",
    "np.unique(x, return_inverse=True)[1] * x",
    shapes=ARRAYS,
)
row(
    "np.histogram",
    "np.histogram(x, [-2.0, 0.0, 2.0])[0] * x.ravel()[0]",
    "np.histogram(x, 3, (-3.0, 3.0), weights=x * x)[0]",
    "np.histogram(x, 2, density=True)[0]",
    shapes=ARRAYS,
)
row("np.histogram_bin_edges", "np.histogram_bin_edges(x, 4)", shapes=ARRAYS)
row("np.histogram2d", "np.histogram2d(x, x * x, 2, weights=x)[0]", "np.histogram2d(x, -x, 2)[1]", shapes=VECTORS)
row("np.flatnonzero", "x.ravel()[np.flatnonzero(x > 0)] ** 2", shapes=ARRAYS)
row("np.argwhere", "x[tuple(np.argwhere(x > 0)[0])] ** 2", domain=(-0.5, 2.5), shapes=ARRAYS)
row("np.delete", "np.delete(x, [0, 2]) ** 2", "np.delete(x, 1, axis=-1)", shapes=((4,), (2, 3)))
row("np.insert", "np.insert(x, 1, x.ravel()[0] ** 2)", "np.insert(x, 1, 5.0, axis=-1) ** 2", shapes=((4,), (2, 3)))
row("np.append", "np.append(x, x * x)", "np.append(x, x, axis=0)", shapes=ARRAYS)
row("np.resize", "np.resize(x, (3, 3)) ** 2", shapes=ARRAYS)
row("np.trim_zeros", "np.trim_zeros(np.where(x > 0, x, 0.0)) ** 2", shapes=VECTORS)
row(
    "np.interp",
    "np.interp(x, [-1.0, 0.2, 2.0], [1.0, 3.0, -1.0])",
    "np.interp(0.3, [-1.0, 0.2, 2.0], cut(x, 3) ** 2)",
    "np.interp(x, [0.9, 0.2, 0.5], cut(x, 3), period=1.3)",
    shapes=((3,), (2, 3)),
)

family("Shapes")
row("np.reshape", "np.reshape(x, (-1,)) ** 2", "np.reshape(x, (3, 2), order='F')", shapes=((6,), (2, 3)))
row("np.ravel", "np.ravel(x) ** 2", "np.ravel(x, order='F')", shapes=ARRAYS)
rows("np.transpose np.squeeze np.atleast_1d np.atleast_2d np.atleast_3d np.flip np.copy", ANY, "{}(x) ** 2", ARRAYS)
row("np.matrix_transpose", "np.matrix_transpose(x) ** 2", shapes=MATRICES)
row("np.swapaxes", "np.swapaxes(x, 0, -1) ** 2", shapes=ARRAYS)
row("np.moveaxis", "np.moveaxis(x, 0, -1) ** 2", shapes=ARRAYS)
row("np.rollaxis", "np.rollaxis(x, -1, 0) ** 2", shapes=ARRAYS)
row("np.expand_dims", "np.expand_dims(x, (0, -1)) ** 2", shapes=ARRAYS)
row("np.broadcast_to", "np.broadcast_to(x, (2, 2, 3)) ** 2", shapes=((3,), (2, 3)))
row("np.broadcast_arrays", "np.broadcast_arrays(x, x[..., :1])[1] * x", shapes=ARRAYS)
rows("np.fliplr np.flipud np.rot90", ANY, "{}(x) ** 2", MATRICES)
row("np.tile", "np.tile(x, 2) ** 2", "np.tile(x, (2, 1))", shapes=ARRAYS)
row("np.repeat", "np.repeat(x, 2) ** 2", "np.repeat(x, 2, axis=-1)", shapes=ARRAYS)
row("np.roll", "np.roll(x, 1) ** 2", "np.roll(x, -1, axis=-1)", shapes=ARRAYS)
row("np.pad", "np.pad(x, 1) ** 2", "np.pad(x, 1, mode='edge')", "np.pad(x, 1, mode='reflect')", shapes=((4,), (2, 3)))
row("np.astype", "np.astype(x, x.dtype) ** 2", shapes=ARRAYS)
for _name in ("shape", "ndim", "size"):
    row(f"np.{_name}", f"x * np.sum(np.{_name}(x))", shapes=ARRAYS)

family("Joining and splitting")
row("np.concatenate", "np.concatenate([x, x * x])", "np.concatenate([x, x], axis=None)", shapes=ARRAYS)
row("np.stack", "np.stack([x, x * x])", "np.stack([x, np.sin(x)], axis=-1)", shapes=ARRAYS)
rows("np.hstack np.vstack np.dstack np.column_stack", ANY, "{}([x, x * x])", ((3,), (2, 3)))
row("np.block", "np.block([[x, x * x], [np.ones_like(x), np.sin(x)]])", shapes=MATRICES)
row("np.split", "np.split(x, [1], axis=-1)[1] ** 2", shapes=ARRAYS)
row("np.array_split", "np.array_split(x, 2, axis=-1)[0] ** 2", shapes=ARRAYS)
row("np.hsplit", "np.hsplit(x, 3)[1] ** 2", shapes=((3,), (2, 3)))
row("np.vsplit", "np.vsplit(x, [1])[1] ** 2", shapes=MATRICES)
row("np.dsplit", "np.dsplit(x, 3)[1] ** 2", shapes=((1, 2, 3),))
row("np.unstack", "np.unstack(x)[1] ** 2", shapes=((3,), (2, 3)))
row("np.meshgrid", "np.meshgrid(cut(x, 3), cut(x, 2) ** 2)[0] * np.meshgrid(cut(x, 3), cut(x, 2))[1]", shapes=ARRAYS)
row("np.ix_", "x[np.ix_([0, 1], [0, 2])] ** 2", shapes=MATRICES)

family("Along an axis")
row("np.diff", "np.diff(x) ** 2", "np.diff(x, 2, prepend=1.0)", shapes=ARRAYS)
row("np.ediff1d", "np.ediff1d(x) ** 2", shapes=ARRAYS)
row(
    "np.gradient",
    "np.gradient(x, axis=-1) ** 2",
    "np.gradient(x, 0.5, axis=-1, edge_order=2)",
    "np.gradient(x, [0.0, 1.0, 3.0, 3.5][: x.shape[-1]], axis=-1)",
    "np.gradient(x, np.cumsum(np.exp(x.ravel()))[: x.shape[-1]], axis=-1, edge_order=2)",
    shapes=((4,), (2, 3)),
)
row("np.convolve", "np.convolve(x, x[:2] ** 2)", "np.convolve(x, [1.0, 2.0, -1.0], 'same')", shapes=VECTORS)
row(
    "np.correlate",
    "np.correlate(x, x[:3], 'full')",
    "np.correlate(x, [1.0, 2.0])",
    "np.correlate(x, x[:2] * 1j)",
    shapes=VECTORS,
)
row("np.unwrap", "np.unwrap(3.0 * x) ** 2", shapes=ARRAYS)
row("np.apply_along_axis", "np.apply_along_axis(lambda r: np.sum(r**2) * r, -1, x)", shapes=ARRAYS)
row("np.apply_over_axes", "np.apply_over_axes(np.sum, x * x, [0])", shapes=ARRAYS)
row(
    "np.vectorize",
    "np.vectorize(lambda t: t * t if t > 0 else math.sin(t))(x)",
    "np.vectorize(lambda t, u: t * u, otypes=[float])(x, 2.0)",
    shapes=((3,), (2, 2)),
)
row(
    "np.lib.stride_tricks.sliding_window_view",
    "np.lib.stride_tricks.sliding_window_view(x, 2, axis=-1) ** 2",
    "np.lib.stride_tricks.sliding_window_view(x, (2, 3)) if x.ndim == 2 else x",
    "np.max(np.lib.stride_tricks.sliding_window_view(x, 2, axis=-1)[..., ::2, :], axis=-1)",
    shapes=((4,), (3, 4)),
)

family("Polynomials")
row("np.polyval", "np.polyval([1.0, -2.0, 3.0], x)", "np.polyval(x, 0.7)", shapes=VECTORS)
rows("np.polyadd np.polysub np.polymul", ANY, "{}(x, x[:2] ** 2)", VECTORS)
row("np.polyder", "np.polyder(x) ** 2", "np.polyder(x, 2)", shapes=VECTORS)
row("np.polyint", "np.polyint(x) ** 2", "np.polyint(x, 2, [1.0, 2.0])", shapes=VECTORS)
row("np.poly", "np.poly(x)", shapes=VECTORS, loose=4)
row(
    "np.polyfit",
    "np.polyfit([0.0, 1.0, 2.0, 4.0, 5.0][: x.size], x, 2) ** 2",
    "np.polyfit(x, x**3 + 1, 1)",
    shapes=VECTORS,
    loose=40,
)
row("np.vander", "np.vander(x)", "np.vander(x, 3, increasing=True)", shapes=((3,), (4,)), loose=4)
row("np.poly1d", "np.poly1d([1.0, -2.0, 0.5])(x)", "np.poly1d(x)(0.3)", shapes=VECTORS)
row("np.roots", "np.abs(np.roots(x))", "np.roots(np.append(x, 0.0)).real", shapes=VECTORS, loose=40)
for _module, _short, _name in (
    ("polynomial", "poly", "Polynomial"),
    ("chebyshev", "cheb", "Chebyshev"),
    ("legendre", "leg", "Legendre"),
    ("laguerre", "lag", "Laguerre"),
    ("hermite", "herm", "Hermite"),
    ("hermite_e", "herme", "HermiteE"),
):
    _place = f"np.polynomial.{_module}.{_short}"
    row(f"{_place}val", f"{_place}val(x, x)", f"{_place}val(x, [1.0, 2.0, 3.0])", domain=UNIT, shapes=VECTORS, loose=10)
    row(
        f"{_place}fit",
        f"{_place}fit([0.0, 0.3, 0.7, 0.9, 1.0][: x.size], x, 2).astype(x.dtype)",
        domain=UNIT,
        shapes=VECTORS,
        loose=400,
    )
    row(
        f"np.polynomial.{_name}",
        f"np.polynomial.{_name}([1.0, 2.0, 3.0])(x)",
        f"np.polynomial.{_name}(x, domain=[0.0, 2.0])(0.3)",
        f"np.polynomial.{_name}.fit([0.0, 0.3, 0.7, 0.9, 1.0][: x.size], x, 2)(0.4).astype(x.dtype)",
        f"(2.0 * np.polynomial.{_name}([1.0, 2.0]) + 1.0).integ()(x)",
        domain=UNIT,
        shapes=VECTORS,
        loose=400,
    )

family("Products")
row("np.dot", "np.dot(x, x.T)", "np.dot(x, x[0])", shapes=MATRICES)
row("np.vdot", "np.vdot(x, x * x)", shapes=ARRAYS)
row("np.inner", "np.inner(x, x * x)", shapes=((3,), (2, 3)))
row("np.outer", "np.outer(x, x)", shapes=((3,), (2, 2)))
row("np.matmul", "np.matmul(x, np.swapaxes(x, -1, -2))", "x @ x[0, 0]", shapes=((2, 2, 3), (2, 1, 3)))
row("np.matvec", "np.matvec(x, x[..., 0, :])", shapes=((2, 3), (2, 2, 3)))
row("np.vecmat", "np.vecmat(x[..., 0, :2], x[..., :2, :])", shapes=((2, 3), (2, 2, 3)))
row("np.vecdot", "np.vecdot(x, x * x)", shapes=((3,), (2, 3)))
row("np.tensordot", "np.tensordot(x, x.T, 1)", "np.tensordot(x, x, ((0, 1), (0, 1)))", shapes=MATRICES)
row(
    "np.einsum",
    "np.einsum('ij,kj->ik', x, x)",
    "np.einsum('ij,ij', x, x)",
    "np.einsum('...j->...', x)",
    "np.einsum(x, [0, 1], x, [2, 1], [0, 2])",
    "np.einsum(x, [Ellipsis, 0], [Ellipsis])",
    shapes=MATRICES,
)
row("np.kron", "np.kron(x, x[:1])", shapes=MATRICES)
row("np.cross", "np.cross(x[0], x[1])", shapes=MATRICES)
row("np.trace", "np.trace(x) ** 2", "np.trace(x, offset=1)", shapes=MATRICES)
row("np.diagonal", "np.diagonal(x) ** 2", shapes=MATRICES)
row("np.diag", "np.diag(x) ** 2", "np.diag(x[0]) @ x.T", shapes=MATRICES)
row("np.diagflat", "np.diagflat(x) ** 2", shapes=((3,),))
row("np.tril", "np.tril(x) ** 2", "np.tril(x, 1)", shapes=MATRICES)
row("np.triu", "np.triu(x) ** 2", "np.triu(x, -1)", shapes=MATRICES)

family("Linear algebra")
LA = "np.linalg."
row(LA + "inv", "np.linalg.inv(regular(x))", domain=UNIT, shapes=STACKS)
row(LA + "solve", "np.linalg.solve(regular(x), x)", "np.linalg.solve(regular(x), x[..., 0, :])", shapes=SQUARES)
row(
    LA + "solve",
    "np.linalg.solve(regular(x), x[:1])",
    "np.linalg.solve(regular(x), x[0, 0])",
    shapes=((2, 2, 2), (3, 2, 2)),
)
row(LA + "det", "np.linalg.det(x)", shapes=STACKS, loose=4)
row(LA + "slogdet", "np.linalg.slogdet(regular(x))[1]", "np.linalg.slogdet(regular(x)).logabsdet", shapes=STACKS)
row(
    LA + "cholesky",
    "np.linalg.cholesky(definite(x))",
    "np.linalg.cholesky(definite(x), upper=True)",
    shapes=STACKS,
    loose=4,
)
row(
    LA + "eigvalsh",
    "np.linalg.eigvalsh(symmetric(regular(x)))",
    "np.linalg.eigvalsh(regular(x), UPLO='U')",
    shapes=STACKS,
)
row(
    LA + "eigh",
    "np.linalg.eigh(regular(x))[0]",
    "np.linalg.eigh(symmetric(regular(x))).eigenvectors ** 2",
    "np.linalg.eigh(regular(x), 'U')[1]",
    shapes=(*STACKS, (5, 5)),
    loose=4,
)
row(
    LA + "eigvals",
    "np.linalg.eigvals(regular(x))",
    "np.linalg.eigvals(x - x.mT + 0.1 * x).imag",
    shapes=SQUARES,
    loose=40,
)
row(
    LA + "eig",
    "np.linalg.eig(regular(x))[1]",
    "np.linalg.eig(regular(x)).eigenvalues",
    "np.abs(np.linalg.eig(x - x.mT + 0.1 * x)[1]) ** 2",
    shapes=SQUARES,
    loose=40,
)
row(LA + "svdvals", "np.linalg.svdvals(regular(x))", shapes=((3, 3), (2, 3), (2, 3, 2)))
row(
    LA + "svd",
    "np.linalg.svd(regular(x), compute_uv=False)",
    "np.linalg.svd(regular(x), full_matrices=False)[0] ** 2",
    "np.linalg.svd(regular(x), full_matrices=False).Vh ** 2",
    shapes=((3, 3), (2, 3), (2, 3, 2)),
    loose=4,
)
row(LA + "qr", "np.linalg.qr(regular(x))[0]", "np.linalg.qr(regular(x)).R", shapes=((3, 3), (3, 2), (2, 3), (2, 2, 2)))
row(LA + "pinv", "np.linalg.pinv(regular(x))", shapes=((3, 3), (3, 2), (2, 3)), loose=4)
row(
    LA + "lstsq",
    "np.linalg.lstsq(regular(x)[:, :2], x[:, 0])[0]",
    "np.linalg.lstsq(regular(x)[:, :2], x)[1]",
    shapes=((3, 3), (4, 3)),
)
row(LA + "cond", "np.linalg.cond(regular(x))", "np.linalg.cond(regular(x), 1)", shapes=SQUARES, loose=4)
row(
    LA + "norm",
    "np.linalg.norm(x)",
    "np.linalg.norm(x, axis=-1)",
    "np.linalg.norm(x, 1, axis=0)",
    "np.linalg.norm(x, np.inf, axis=-1, keepdims=True)",
    "np.linalg.norm(x, 3, axis=-1)",
    "np.linalg.norm(x, -2.5, axis=-1)",
    shapes=ARRAYS,
)
for _order in ("'fro'", "'nuc'", "2", "-2", "1", "-1", "np.inf", "-np.inf"):
    row(LA + "norm", f"np.linalg.norm(regular(x), {_order})", shapes=MATRICES)
row(LA + "vector_norm", "np.linalg.vector_norm(x)", "np.linalg.vector_norm(x, axis=-1, ord=4)", shapes=ARRAYS)
row(
    LA + "matrix_norm",
    "np.linalg.matrix_norm(regular(x))",
    "np.linalg.matrix_norm(regular(x), ord='nuc')",
    shapes=((2, 3), (2, 2, 2)),
)
row(
    LA + "matrix_power",
    "np.linalg.matrix_power(x, 3)",
    "np.linalg.matrix_power(regular(x), -2)",
    shapes=STACKS,
    loose=4,
)
row(LA + "matrix_rank", "x * np.linalg.matrix_rank(x)", shapes=MATRICES)
row(
    LA + "multi_dot",
    "np.linalg.multi_dot([x, x.T, x, x[0]])",
    "np.linalg.multi_dot([x, x.T, x], out=np.empty_like(x))",
    shapes=MATRICES,
)
row(LA + "tensorsolve", "np.linalg.tensorsolve(regular(x).reshape(2, 2, 4), x[:2, :2])", shapes=((4, 4),))
row(LA + "tensorinv", "np.linalg.tensorinv(regular(x).reshape(2, 2, 4))", shapes=((4, 4),))
row(LA + "trace", "np.linalg.trace(x) ** 2", shapes=STACKS)
row(LA + "diagonal", "np.linalg.diagonal(x) ** 2", shapes=STACKS)
row(LA + "outer", "np.linalg.outer(x, x * x)", shapes=((3,),))
row(LA + "cross", "np.linalg.cross(x[0], x[1])", shapes=MATRICES)
row(LA + "matmul", "np.linalg.matmul(x, x)", shapes=STACKS)
row(LA + "tensordot", "np.linalg.tensordot(x, x.T, axes=1)", shapes=MATRICES)
row(LA + "vecdot", "np.linalg.vecdot(x, x * x, axis=0)", shapes=MATRICES)
row(LA + "matrix_transpose", "np.linalg.matrix_transpose(x) ** 2", shapes=STACKS)

family("Fourier transforms, of a real input up to a real result")
FT = "np.fft."
row(FT + "fft", "np.abs(np.fft.fft(x)) ** 2", "np.fft.fft(x, 5, axis=0, norm='ortho').imag", shapes=ARRAYS)
row(FT + "ifft", "np.fft.ifft(x * np.exp(1j * x)).real", "np.angle(np.fft.ifft(x, 3))[..., 1]", shapes=ARRAYS)
row(FT + "rfft", "np.abs(np.fft.rfft(x)) ** 2", "np.fft.rfft(x, 5, norm='forward')", shapes=ARRAYS)
row(
    FT + "irfft", "np.fft.irfft(np.fft.rfft(x) * np.exp(2j), 5)", "np.fft.irfft(x * (1 + 2j), 4, axis=0)", shapes=ARRAYS
)
row(FT + "hfft", "np.fft.hfft(x * (1 + 2j), 5)", shapes=ARRAYS)
row(FT + "ihfft", "np.fft.ihfft(x) ** 2", shapes=ARRAYS)
rows("np.fft.fft2 np.fft.ifft2 np.fft.fftn np.fft.ifftn", ANY, "np.abs({0}(x)) ** 2 + {0}(x).real", ((2, 3), (2, 2, 2)))
rows("np.fft.rfft2 np.fft.rfftn", ANY, "np.abs({}(x)) ** 2", ((2, 3), (2, 2, 2)))
rows("np.fft.irfft2 np.fft.irfftn", ANY, "{}(x * (1 + 2j)) ** 2", ((2, 3), (2, 2, 2)))
rows("np.fft.fftshift np.fft.ifftshift", ANY, "{}(x) ** 2", ARRAYS)
row(FT + "fftfreq", "np.fft.fft(x) * np.fft.fftfreq(x.shape[-1])", shapes=ARRAYS)
row(FT + "rfftfreq", "np.fft.rfft(x) * np.fft.rfftfreq(x.shape[-1])", shapes=ARRAYS)

family("Complex values inside a real program")
Z = "(a + 1j * b)"
for _name in ("real", "imag", "conjugate", "angle"):
    row(f"np.{_name}", f"np.{_name}({Z} ** 2)", f"np.{_name}(a) + b", domain=(POSITIVE, ANY))
row("np.real_if_close", f"np.real_if_close({Z} * {Z}.conj()) ** 2", **PAIR)
row("np.isreal", f"np.where(np.isreal({Z}), a, a * b)", **PAIR)
row("np.iscomplex", f"np.where(np.iscomplex({Z}), a, a * b)", **PAIR)
row("np.iscomplexobj", f"a * b if np.iscomplexobj({Z}) else a", **PAIR)
row("np.isrealobj", "a * b if np.isrealobj(a) else a", **PAIR)

family("Making and writing arrays")
row("np.zeros", "written(x, lambda y: np.zeros(3)) * np.zeros(1) + x", shapes=ARRAYS)
rows("np.zeros_like np.ones_like", ANY, "{}(x) + x * x", ARRAYS)
row("np.empty_like", "np.multiply(x, x, out=np.empty_like(x))", shapes=ARRAYS)
row("np.full_like", "np.full_like(x, x.ravel()[0]) * x", shapes=ARRAYS)
row("np.empty", "np.sin(x, out=np.empty(x.shape, x.dtype))", shapes=ARRAYS)
row("np.ones", "np.ones(x.shape, x.dtype) * x**2", shapes=ARRAYS)
row("np.full", "np.full(3, x.ravel()[0]) ** 2", shapes=ARRAYS)
row("np.eye", "np.eye(3, dtype=x.dtype) * x.ravel()[0] ** 2", shapes=ARRAYS)
row("np.array", "np.array([x.ravel()[0], x.ravel()[1] ** 2])", shapes=ARRAYS)
row("np.fromiter", "np.fromiter((v * v for v in x.ravel()), x.dtype)", shapes=ARRAYS)
row("np.asarray", "np.asarray([x.ravel()[0], x.ravel()[1] ** 2])", shapes=ARRAYS)
row("np.arange", "np.arange(x.size) * x.ravel()", shapes=ARRAYS)
row(
    "np.linspace",
    "np.linspace(x.ravel()[0], x.ravel()[1], 5)",
    "np.linspace(x, 2.0 * x, 3, endpoint=False)",
    shapes=ARRAYS,
)
row("np.logspace", "np.logspace(x.ravel()[0], x.ravel()[1], 4)", domain=UNIT, shapes=ARRAYS, loose=4)
row("np.geomspace", "np.geomspace(x.ravel()[0], x.ravel()[1], 4)", domain=POSITIVE, shapes=ARRAYS, loose=4)
row("np.copyto", "written(x, lambda y: np.copyto(y, np.sin(x), where=x > 0))", shapes=ARRAYS)
row("np.fill_diagonal", "written(x, lambda y: np.fill_diagonal(y, np.sin(x[0, 0])))", shapes=MATRICES)
row("np.put", "written(x, lambda y: np.put(y, [0, 2], np.sin(x.ravel()[:2])))", shapes=ARRAYS)
row("np.place", "written(x, lambda y: np.place(y, x > 0, np.sin(x.ravel()[:2])))", shapes=ARRAYS)
row("np.putmask", "written(x, lambda y: np.putmask(y, x > 0, np.sin(x)))", shapes=ARRAYS)
row(
    "np.put_along_axis",
    "written(x, lambda y: np.put_along_axis(y, np.argsort(x, -1)[..., :1], 3.0, -1))",
    shapes=ARRAYS,
)
row("np.tri", "np.tri(3, dtype=x.dtype) * x.ravel()[:3] ** 2", shapes=ARRAYS)
row("np.result_type", "x.astype(np.result_type(x, np.float32)) ** 2", shapes=ARRAYS)
row("np.can_cast", "x * x if np.can_cast(x.dtype, np.float64) else x", shapes=ARRAYS)
row("np.isscalar", "x * (2.0 if np.isscalar(x) else 3.0)", shapes=ARRAYS)

family("Methods of ufuncs")
for _name in ("add", "multiply", "maximum", "minimum"):
    row(f"np.{_name}.reduce", f"np.{_name}.reduce(x) ** 2", f"np.{_name}.reduce(x, axis=-1)", shapes=ARRAYS, loose=4)
    row(f"np.{_name}.accumulate", f"np.{_name}.accumulate(x, axis=-1) ** 2", shapes=ARRAYS, loose=4)
row("np.logaddexp.reduce", "np.logaddexp.reduce(x)", "np.logaddexp.reduce(x, axis=-1)", shapes=ARRAYS)
for _name in ("add", "subtract", "multiply", "maximum", "minimum", "logaddexp", "hypot"):
    row(f"np.{_name}.outer", f"np.{_name}.outer(x, x[:2] ** 2)", shapes=VECTORS)
row("np.logical_or.reduce", "x * np.logical_or.reduce(x > 1)", shapes=ARRAYS)
row("np.logical_and.reduce", "x * np.logical_and.reduce(x > -1)", shapes=ARRAYS)
row("np.add.at", "written(x, lambda y: np.add.at(y, [0, 0, 1], 2.0))", shapes=ARRAYS)
row("np.subtract.at", "written(x, lambda y: np.subtract.at(y, [0, 0], y[1]))", shapes=VECTORS)

family("Methods of arrays")
for _name in ("sum", "mean", "max", "min", "prod", "var", "std"):
    row(f"ndarray.{_name}", f"x.{_name}()", f"x.{_name}(axis=-1)", shapes=ARRAYS, loose=4)
for _name in ("cumsum", "cumprod", "ravel", "flatten", "copy", "transpose", "squeeze", "conj", "conjugate"):
    row(f"ndarray.{_name}", f"x.{_name}() ** 2", shapes=ARRAYS, loose=4)
for _name in ("argmax", "argmin"):
    row(f"ndarray.{_name}", f"x.ravel()[x.{_name}()] ** 2", shapes=ARRAYS)
for _name, _args in {
    "reshape": "(-1,)",
    "swapaxes": "(0, -1)",
    "clip": "(-1.0, 1.0)",
    "take": "([0, 1, 0])",
    "repeat": "(2)",
    "astype": "(x.dtype)",
    "round": "()",
}.items():
    row(f"ndarray.{_name}", f"x.{_name}{_args} * {'x' if _name == 'round' else '2.0'}", shapes=ARRAYS)
row("ndarray.argsort", "x.ravel()[x.ravel().argsort()] ** 2", shapes=ARRAYS)
row("ndarray.nonzero", "x[(x > 0).nonzero()] ** 2", shapes=ARRAYS)
row("ndarray.dot", "x.dot(x.T)", shapes=MATRICES)
row("ndarray.trace", "x.trace() ** 2", shapes=MATRICES)
row("ndarray.diagonal", "x.diagonal() ** 2", shapes=MATRICES)
row("ndarray.any", "x * (x > 1).any()", shapes=ARRAYS)
row("ndarray.all", "x * (x > 1).all()", shapes=ARRAYS)
row("ndarray.searchsorted", "x * np.array([-1.0, 0.0, 1.0]).searchsorted(x)", shapes=ARRAYS)
row("ndarray.item", "x.ravel()[0].item() ** 2", shapes=ARRAYS)
row("ndarray.tolist", "sum(v**2 for v in x.ravel().tolist())", shapes=ARRAYS)
row("ndarray.fill", "written(x, lambda y: y.fill(x.ravel()[0]))", shapes=ARRAYS)
row("ndarray.sort", "written(x, lambda y: y.sort())", shapes=ARRAYS)
row("ndarray.T", "x.T ** 2", shapes=ARRAYS)
row("ndarray.mT", "x.mT ** 2", shapes=MATRICES)
row("ndarray.real", "(x * (1 + 2j)).real ** 2", shapes=ARRAYS)
row("ndarray.imag", "(x * (1 + 2j)).imag ** 2", shapes=ARRAYS)
row("ndarray.flat", "sum(v**2 for v in x.flat)", shapes=ARRAYS)
row(
    "ndarray.__getitem__",
    "x[0] ** 2",
    "x[..., ::-1] * x",
    "x[x > 0]",
    "x[[0, 1, 1]] ** 2",
    "x[:, None]",
    shapes=((4,), (2, 3), (3, 2)),
)
row(
    "ndarray.__setitem__",
    "written(x, lambda y: y.__setitem__(0, np.sin(x[1])))",
    "written(x, lambda y: y.__setitem__(x > 0, 0.5))",
    "written(x, lambda y: y.__setitem__((Ellipsis, 0), x[..., 1]))",
    shapes=ARRAYS[:2],
)

family("Python's operators and math")
for _sign in ("+", "-", "*", "/", "**", "%", "//"):
    _times = "a * " if _sign == "//" else ""
    row(
        f"a {_sign} b",
        f"{_times}(a {_sign} b)",
        f"{_times}(a {_sign} 1.7) + {_times}(1.7 {_sign} b)",
        domain=((0.4, 1.5), (2.0, 2.9)),
    )
row("-a", "-x * x")
row("abs(a)", "abs(x) * x")
row("a @ b", "x @ x.T", shapes=MATRICES)
for _name, _domain in {
    "exp expm1 sin cos atan sinh cosh tanh asinh degrees radians": ANY,
    "exp2 cbrt log log2 log10 log1p sqrt": POSITIVE,
    "asin acos atanh": UNIT,
    "tan": (-1.2, 1.2),
    "acosh": (1.3, 4.0),
    "fabs": ANY,
}.items():
    for _one in _name.split():
        if hasattr(math, _one):  # exp2 and cbrt came with Python 3.11
            row(f"math.{_one}", f"math.{_one}(x)", domain=_domain, shapes=((),))
for _name in ("atan2", "hypot", "pow", "fmod", "copysign"):
    row(f"math.{_name}", f"math.{_name}(a, b)", domain=((1.1, 1.9), (0.6, 1.0)), shapes=((),))
row("math.fsum", "math.fsum([v**2 for v in x])", shapes=VECTORS)
row("math.prod", "math.prod([v for v in x])", shapes=VECTORS, loose=4)
row("math.dist", "math.dist([a, a], [b, 0.0])", domain=(POSITIVE, POSITIVE), shapes=((),))
row("float()", "float(x) ** 2", shapes=((),))

family("scipy.special, where SciPy is installed")
SP = "special."
for _names, _domain in {
    "expit log_expit erf erfc ndtr log_ndtr dawsn j0 j1 i0 i1 expm1 exp2 cosm1": ANY,
    "erfcx": (-0.8, 2.5),
    "erfi erfinv exp10": UNIT,
    "logit ndtri": CLOSE,
    "erfcinv": (0.3, 1.7),
    "gammaln loggamma gamma rgamma digamma entr expi exp1 log1p cbrt i0e i1e": (0.4, 3.5),
    "y0 y1 k0 k1 k0e k1e": (0.6, 3.5),
}.items():
    for _name in _names.split():
        row(f"scipy.special.{_name}", f"special.{_name}(x)", domain=_domain, shapes=((), (3,)), loose=4)
for _name in ("xlogy", "xlog1py", "rel_entr", "kl_div", "beta", "betaln"):
    row(f"scipy.special.{_name}", f"special.{_name}(a, b)", domain=(POSITIVE, POSITIVE), shapes=((3,), (2, 2)), loose=4)
row("scipy.special.binom", "special.binom(a, b)", domain=((3.0, 5.0), (0.5, 2.5)), shapes=((3,),), loose=8)
row("scipy.special.huber", "special.huber(a, b)", domain=((0.8, 1.2), ANY), shapes=((4,),))
row("scipy.special.pseudo_huber", "special.pseudo_huber(a, b)", domain=((0.8, 1.2), ANY), shapes=((4,),))
for _name in ("jv", "yv", "iv", "kv", "ive", "kve"):
    row(
        f"scipy.special.{_name}",
        f"special.{_name}(2, x)",
        f"special.{_name}(1.5, x)",
        domain=(0.8, 3.5),
        shapes=((3,),),
        loose=8,
    )
for _name in ("yn", "kn", "expn"):
    row(f"scipy.special.{_name}", f"special.{_name}(3, x).astype(x.dtype)", domain=(0.8, 3.0), shapes=((3,),), loose=16)
row(
    "scipy.special.expn", "(special.expn(1, x) * special.expn(0, x)).astype(x.dtype)", domain=(0.8, 3.0), shapes=((3,),)
)
row("scipy.special.zeta", "special.zeta(2.5, x)", domain=POSITIVE, shapes=((3,),), loose=8)
row(
    "scipy.special.polygamma",
    "special.polygamma(1, x)",
    "special.polygamma(0, x)",
    domain=POSITIVE,
    shapes=((3,),),
    loose=8,
)
for _name in ("gammainc", "gammaincc"):
    row(f"scipy.special.{_name}", f"special.{_name}(1.5, x).astype(x.dtype)", domain=POSITIVE, shapes=((3,),))
row("scipy.special.betainc", "special.betainc(1.5, 2.5, x)", domain=CLOSE, shapes=((3,),), loose=4)
row("scipy.special.multigammaln", "special.multigammaln(x + 2, 2)", domain=POSITIVE, shapes=((),))
row("scipy.special.logsumexp", "special.logsumexp(x)", "special.logsumexp(x, axis=-1, b=np.abs(x))", shapes=ARRAYS)
row("scipy.special.softmax", "special.softmax(x)", "special.softmax(x, axis=-1)", shapes=ARRAYS)
row("scipy.special.log_softmax", "special.log_softmax(x)", "special.log_softmax(x, axis=-1)", shapes=ARRAYS)
row("scipy.special.softplus", "special.softplus(x)")

row("scipy.special.stdtr", "special.stdtr(4.0, x).astype(x.dtype)", shapes=((3,),))

family("scipy.stats: densities, distribution functions, quantiles")
_DENSITY = ("{0}.logpdf(x{1})", "{0}.pdf(x{1}, loc=0.1, scale=1.5)")
_CHANCES = ("{0}.cdf(x{1})", "{0}.logcdf(x{1}, scale=1.5)", "{0}.sf(x{1})", "{0}.logsf(x{1}, loc=-0.1)")
for _names, _shapes, _domain in (
    ("norm cauchy logistic gumbel_r gumbel_l", "", ANY),
    ("laplace", "", POSITIVE),
    ("expon halfnorm halfcauchy rayleigh", "", POSITIVE),
    ("uniform", "", CLOSE),
    ("gamma", ", 2.3", POSITIVE),
    ("beta", ", 2.1, 3.2", CLOSE),
    ("t", ", 4.2", ANY),
    ("lognorm", ", 0.7", POSITIVE),
    ("chi2", ", 3.3", POSITIVE),
    ("weibull_min", ", 1.7", POSITIVE),
    ("pareto", ", 2.2", (1.7, 4.0)),
    ("invgamma", ", 2.5", POSITIVE),
    ("truncnorm", ", -2.7, 2.8", UNIT),
):
    for _name in _names.split():
        _codes = _DENSITY + (_CHANCES if _name != "truncnorm" else ())
        if _name in ("norm", "expon", "uniform", "lognorm", "logistic", "weibull_min", "gumbel_r"):
            _codes += ("{0}.ppf({0}.cdf(x{1}) * 0.9{1})", "{0}.isf({0}.sf(x{1}) * 0.9{1})")
        _codes = tuple(code.format(f"scipy.stats.{_name}", _shapes) for code in _codes)
        row(f"scipy.stats.{_name}", *_codes, domain=_domain, shapes=((), (3,)), loose=40)
for _name, _code in {
    "gamma": "scipy.stats.gamma.logpdf(0.8, a, scale=b)",
    "beta": "scipy.stats.beta.logpdf(0.3, a, b)",
    "t": "scipy.stats.t.logpdf(0.8, a, b, b)",
    "lognorm": "scipy.stats.lognorm.cdf(0.8, a, scale=b)",
    "norm": "scipy.stats.norm(a, b).logpdf(np.array([0.3, -0.7])[:, None])",
    "chi2": "scipy.stats.chi2.pdf(0.8, a, 0.0, b)",
    "weibull_min": "scipy.stats.weibull_min.sf(0.8, a, scale=b)",
    "pareto": "scipy.stats.pareto.logsf(7.5, a, scale=b)",
    "invgamma": "scipy.stats.invgamma.logpdf(0.8, a, scale=b)",
    "truncnorm": "scipy.stats.truncnorm.logpdf(0.2, -a, b)",
}.items():
    row(f"scipy.stats.{_name}", _code, domain=(POSITIVE, POSITIVE), shapes=((3,),), loose=40)
for _name, _shapes in {
    "poisson": "{0} + 1",
    "binom": "7, {0}",
    "bernoulli": "{0}",
    "geom": "{0}",
    "nbinom": "3.5, {0}",
}.items():
    _shapes = _shapes.format("x")
    row(
        f"scipy.stats.{_name}",
        f"scipy.stats.{_name}.logpmf(1, {_shapes})",
        f"scipy.stats.{_name}.pmf([[0], [1]], {_shapes}, loc=0)",
        f"scipy.stats.{_name}.cdf(1.3, {_shapes})"
        if _name != "bernoulli"
        else f"scipy.stats.{_name}.cdf(0, {_shapes})",
        domain=CLOSE,
        shapes=((3,),),
        loose=40,
    )
row(
    "scipy.stats.multivariate_normal",
    "scipy.stats.multivariate_normal.logpdf(x, [0.1, 0.2, 0.3], 2.0)",
    "scipy.stats.multivariate_normal(x[0], x.T @ x + 2 * np.eye(3)).logpdf(np.ones((2, 3)))",
    "scipy.stats.multivariate_normal.pdf(x[:, 0], 0.3, 2.0)",
    "scipy.stats.multivariate_normal.logpdf(x, np.zeros(3), np.exp(x[1]))",
    shapes=((2, 3), (4, 3)),
    loose=40,
)

family("scipy.linalg")
SL = "scipy.linalg."
row(
    SL + "solve",
    "scipy.linalg.solve(regular(x), x)",
    "scipy.linalg.solve(regular(x), x[0], transposed=True)",
    "scipy.linalg.solve(definite(x), x[0], assume_a='pos')",
    "scipy.linalg.solve(regular(x), x[0], lower=True, assume_a='sym')",
    shapes=SQUARES,
    loose=4,
)
row(SL + "inv", "scipy.linalg.inv(regular(x))", domain=UNIT, shapes=SQUARES)
row(SL + "det", "scipy.linalg.det(x)", shapes=SQUARES, loose=4)
row(SL + "pinv", "scipy.linalg.pinv(regular(x))", shapes=((3, 3), (3, 2), (2, 3)), loose=4)
row(
    SL + "lstsq",
    "scipy.linalg.lstsq(regular(x)[:, :2], x[:, 0])[0]",
    "scipy.linalg.lstsq(regular(x)[:, :2], x)[1]",
    shapes=((3, 3), (4, 3)),
)
row(
    SL + "cholesky",
    "scipy.linalg.cholesky(definite(x))",
    "scipy.linalg.cholesky(definite(x), lower=True)",
    shapes=SQUARES,
    loose=4,
)
row(SL + "cho_factor", "np.triu(scipy.linalg.cho_factor(definite(x))[0])", shapes=SQUARES, loose=4)
row(
    SL + "cho_solve",
    "scipy.linalg.cho_solve(scipy.linalg.cho_factor(definite(x)), x)",
    "scipy.linalg.cho_solve(scipy.linalg.cho_factor(definite(x), lower=True), x[0])",
    shapes=SQUARES,
    loose=4,
)
row(
    SL + "solve_triangular",
    "scipy.linalg.solve_triangular(regular(x), x)",
    "scipy.linalg.solve_triangular(regular(x), x[0], trans='T', lower=True)",
    "scipy.linalg.solve_triangular(regular(x), x[0], unit_diagonal=True)",
    domain=UNIT,
    shapes=SQUARES,
)
row(SL + "lu_factor", "scipy.linalg.lu_factor(regular(x))[0]", shapes=SQUARES)
row(
    SL + "lu_solve",
    "scipy.linalg.lu_solve(scipy.linalg.lu_factor(np.flip(regular(x), 0)), x)",
    "scipy.linalg.lu_solve(scipy.linalg.lu_factor(np.flip(regular(x), 0)), x[0], trans=1)",
    shapes=SQUARES,
)
row(
    SL + "lu",
    "scipy.linalg.lu(np.flip(regular(x), 0), permute_l=True)",
    "scipy.linalg.lu(np.flip(regular(x), 0))[0] @ x",
    shapes=SQUARES,
)
row(
    SL + "qr",
    "scipy.linalg.qr(regular(x), mode='economic')[0]",
    "scipy.linalg.qr(regular(x), mode='r')[0]",
    shapes=((3, 3), (3, 2)),
)
row(
    SL + "svd",
    "scipy.linalg.svd(regular(x), full_matrices=False)[0] ** 2",
    "scipy.linalg.svd(regular(x), compute_uv=False)",
    shapes=((3, 3), (2, 3)),
    loose=4,
)
row(SL + "svdvals", "scipy.linalg.svdvals(regular(x))", shapes=((3, 3), (2, 3)))
row(
    SL + "eigh",
    "scipy.linalg.eigh(regular(x))[0]",
    "scipy.linalg.eigh(regular(x), lower=False)[1] ** 2",
    "scipy.linalg.eigh(regular(x), definite(x), eigvals_only=True)",
    shapes=((2, 2), (3, 3), (5, 5)),
    loose=10,
)
row(
    SL + "eigvalsh",
    "scipy.linalg.eigvalsh(regular(x), lower=False)",
    "scipy.linalg.eigvalsh(regular(x), subset_by_index=[0, 1])",
    shapes=((3, 3), (5, 5)),
)
row(SL + "eig", "scipy.linalg.eig(regular(x))[1] ** 2", shapes=SQUARES, loose=10)
row(SL + "eigvals", "scipy.linalg.eigvals(regular(x)).real", shapes=SQUARES, loose=10)
for _name in ("expm", "sinm", "cosm", "sinhm", "coshm", "tanm", "tanhm"):
    row(SL + _name, f"{SL}{_name}(0.3 * x)", domain=UNIT, shapes=SQUARES[: 2 if _name == "expm" else 1], loose=10)
row(
    SL + "logm",
    "scipy.linalg.logm(definite(x).astype(float)).astype(x.dtype)",
    domain=UNIT,
    shapes=SQUARES[:1],
    loose=40,
)
row(SL + "sqrtm", "scipy.linalg.sqrtm(definite(x))", domain=UNIT, shapes=SQUARES, loose=40)
row(SL + "block_diag", "scipy.linalg.block_diag(x, x[0] ** 2, 3.0)", shapes=MATRICES)
row(SL + "toeplitz", "scipy.linalg.toeplitz(x) ** 2", "scipy.linalg.toeplitz(x, x[:2] ** 2)", shapes=VECTORS)
row(SL + "circulant", "scipy.linalg.circulant(x) ** 2", shapes=VECTORS)
row(SL + "hankel", "scipy.linalg.hankel(x) ** 2", "scipy.linalg.hankel(x, x[:2] ** 2)", shapes=VECTORS)
row(SL + "companion", "scipy.linalg.companion(x)", domain=POSITIVE, shapes=VECTORS)
row(
    SL + "solve_banded",
    "scipy.linalg.solve_banded((1, 1), x[:3] + np.array([[0], [6], [0]], x.dtype), x[3])",
    "scipy.linalg.solve_banded((2, 1), x + np.array([[0], [9], [0], [0]], x.dtype), x[:2].T)",
    shapes=((4, 5),),
)
row(
    SL + "solveh_banded",
    "scipy.linalg.solveh_banded(x[:2] + np.array([[0], [6]], x.dtype), x[3])",
    "scipy.linalg.solveh_banded(x[:3] + np.array([[9], [0], [0]], x.dtype), x[:2].T, lower=True)",
    shapes=((4, 5),),
)
row(
    SL + "solve_toeplitz",
    "scipy.linalg.solve_toeplitz((x[0] + np.array([6, 0, 0], x.dtype), x[0]), x[1])",
    shapes=MATRICES,
)
row(SL + "solve_circulant", "scipy.linalg.solve_circulant(x[0] + np.array([6, 0, 0], x.dtype), x[1])", shapes=MATRICES)
row(
    SL + "norm",
    "scipy.linalg.norm(x)",
    "scipy.linalg.norm(x, 1, axis=(0, 1))",
    "scipy.linalg.norm(regular(x), 'nuc')",
    "scipy.linalg.norm(x, axis=0, keepdims=True)",
    shapes=MATRICES,
)

family("scipy.integrate")
for _name in ("trapezoid", "simpson", "cumulative_trapezoid", "cumulative_simpson"):
    row(
        f"scipy.integrate.{_name}",
        f"scipy.integrate.{_name}(x)",
        f"scipy.integrate.{_name}(x, dx=0.5, axis=0)",
        f"scipy.integrate.{_name}(x, x=np.array([0.0, 1.0, 3.0, 3.5, 5.0, 5.5][: x.shape[-1]], x.dtype))",
        f"scipy.integrate.{_name}(x * x, x=np.cumsum(np.exp(x), axis=-1))",
        shapes=((4,), (5,), (2, 3), (4, 6)),
        loose=4,
    )
row("scipy.integrate.romb", "scipy.integrate.romb(x)", "scipy.integrate.romb(x, 0.5, axis=0)", shapes=((5, 3), (3, 9)))

family("scipy.spatial")
SD = "scipy.spatial.distance."
for _name in (
    "euclidean",
    "sqeuclidean",
    "cityblock",
    "chebyshev",
    "minkowski",
    "cosine",
    "correlation",
    "canberra",
    "braycurtis",
):
    _more = ", p=3" if _name == "minkowski" else ""
    row(SD + _name, f"{SD}{_name}(x[0], x[1]{_more})", shapes=MATRICES, loose=4)
    row(SD + "cdist", f"{SD}cdist(x, 0.5 * x[:1] + 0.3, '{_name}'{_more})", shapes=((4, 3),), loose=10)
    row(SD + "pdist", f"{SD}pdist(x, '{_name}'{_more})", shapes=((4, 3),), loose=10)
row(SD + "seuclidean", f"{SD}seuclidean(x[0], x[1], [1.0, 2.0, 0.5])", shapes=MATRICES)
row(SD + "mahalanobis", f"{SD}mahalanobis(x[0], x[1], np.diag([1.0, 2.0, 0.5]))", shapes=MATRICES)
row(SD + "squareform", f"{SD}squareform(x) ** 2", f"{SD}squareform({SD}squareform(x))", shapes=((3,), (6,)))
row("scipy.spatial.distance_matrix", "scipy.spatial.distance_matrix(x, x[:1] + 4)", shapes=MATRICES)
row("scipy.spatial.minkowski_distance", "scipy.spatial.minkowski_distance(x, x[:1] + 4, 1)", shapes=MATRICES)

family("scipy.signal and scipy.ndimage")
SG, IM = "scipy.signal.", "scipy.ndimage."
for _name in ("convolve", "correlate", "fftconvolve", "oaconvolve", "convolve2d", "correlate2d"):
    row(
        SG + _name,
        f"{SG}{_name}(x, x[:2, :3] ** 2)",
        f"{SG}{_name}(x, np.ones((1, 3), x.dtype), 'same')",
        f"{SG}{_name}(x, x[:2, :3] ** 2, 'valid')",
        shapes=((3, 4),),
        loose=10,
    )
row(
    SG + "lfilter",
    "scipy.signal.lfilter(x[0, :2], 2.0, x)",
    "scipy.signal.lfilter([1.0, 0.5], np.concatenate([[4.0], x[0, :2]]), x, axis=0).astype(x.dtype)",
    shapes=((3, 4),),
)
row(SG + "detrend", f"{SG}detrend(x).astype(x.dtype)", f"{SG}detrend(x, axis=0, type='constant')", shapes=((3, 4),))
row(
    IM + "gaussian_filter1d", f"{IM}gaussian_filter1d(x, 0.8)", f"{IM}gaussian_filter1d(x, 0.8, 0, 1)", shapes=((3, 4),)
)
row(IM + "gaussian_filter", f"{IM}gaussian_filter(x, [0.7, 0.3], mode='nearest')", shapes=((3, 4),))
row(IM + "uniform_filter1d", f"{IM}uniform_filter1d(x, 3)", shapes=((3, 4),))
row(IM + "correlate1d", f"{IM}correlate1d(x, [1.0, 2.0, 4.0], mode='wrap')", shapes=((3, 4),))
row(IM + "convolve1d", f"{IM}convolve1d(x, [1.0, 2.0, 4.0], 0, mode='mirror')", shapes=((3, 4),))

family("scipy.interpolate: plain breakpoints")
SI = "scipy.interpolate."
NODES = np.array([-2.6, -1.2, -0.3, 0.9, 1.6, 2.7])
HEIGHTS = np.sin(NODES)
for _name in (
    "CubicSpline",
    "PchipInterpolator",
    "Akima1DInterpolator",
    "InterpolatedUnivariateSpline",
    "make_interp_spline",
):
    row(SI + _name, f"{SI}{_name}(NODES, HEIGHTS)(x)", f"{SI}{_name}(NODES, HEIGHTS)(x, 1)", loose=40)
row(
    SI + "CubicSpline",
    f"{SI}CubicSpline(NODES, cut(x, 6), bc_type='natural')([-1.0, 0.2])",
    f"{SI}CubicSpline(NODES, cut(x, 6))(x, 2)",
    shapes=((6,), (2, 3)),
    loose=400,
)
row(SI + "make_interp_spline", f"{SI}make_interp_spline(NODES, cut(x, 6), 2)(0.5 * x)", shapes=((6,),), loose=400)
row(
    SI + "interp1d",
    f"{SI}interp1d(NODES, HEIGHTS)(x)",
    f"{SI}interp1d(NODES, HEIGHTS, fill_value='extrapolate')(2 * x)",
)
row(SI + "interp1d", f"{SI}interp1d(NODES, cut(x, 6))(0.5 * x)", shapes=((6,),))
row(
    SI + "splev",
    f"{SI}splev(x, ({SI}splrep(NODES, HEIGHTS)))",
    f"{SI}splev(x, {SI}splrep(NODES, HEIGHTS), der=1)",
    loose=40,
)
row(SI + "UnivariateSpline", f"{SI}UnivariateSpline(NODES, HEIGHTS, s=0.01)(x)", loose=40)

# one object under two names: these are counted once
ALIASES = {
    "np.abs": "np.absolute",
    "np.acos": "np.arccos",
    "np.acosh": "np.arccosh",
    "np.asin": "np.arcsin",
    "np.asinh": "np.arcsinh",
    "np.atan": "np.arctan",
    "np.atan2": "np.arctan2",
    "np.atanh": "np.arctanh",
    "np.bitwise_invert": "np.invert",
    "np.bitwise_not": "np.invert",
    "np.concat": "np.concatenate",
    "np.conj": "np.conjugate",
    "np.mod": "np.remainder",
    "np.pow": "np.power",
    "np.true_divide": "np.divide",
    "np.permute_dims": "np.transpose",
    "np.amax": "np.max",
    "np.amin": "np.min",
    "np.identity": "np.eye",
    "scipy.special.jn": "scipy.special.jv",
    "scipy.special.psi": "scipy.special.digamma",
}

# what is refused, and must stay so: an expression in x, a vector of three, and a part of the message
REFUSED = {
    "rows that differ": ("np.unique(np.outer(x, x), axis=0)", "axis"),
    "rectangular svd with full_matrices=True": ("np.linalg.svd(np.outer(x, x)[:2])[0]", "full_matrices=False"),
    "complex matrices in decompositions": ("np.linalg.svdvals(np.outer(x, 1j * x))", "complex"),
    "bins that a rule chooses": ("np.histogram(x, 'auto')[1]", "bins"),
    "order of a Bessel function": ("special.jv(x, 2.0)", "order"),
    "weighted quantiles": ("np.quantile(x, 0.3, method='inverted_cdf', weights=x)", "weights"),
    "pad with statistics": ("np.pad(x, 1, mode='mean')", "mode"),
    "the neighbouring number": ("x * np.nextafter(x, 2.0)", "not known to koubai"),
}


# --- from a row to functions
def weighted(y):
    """Σ w y with fixed weights, real; several results are added."""
    if isinstance(y, list | tuple) and any(np.ndim(part) or isinstance(part, np.ndarray) for part in y):
        return sum(weighted(part) for part in y)
    weights = np.cos(np.arange(np.size(y)) + 1.0).reshape(np.shape(y))
    if np.iscomplexobj(y):
        return weighted(np.real(y)) + 0.7 * weighted(np.imag(y))
    return np.sum(y * weights.astype(np.result_type(y)))


def function(code, inputs):
    """Return the function of x (of (a, b) stacked, for two inputs) that an expression stands for."""
    namespace = {**globals(), "special": special}
    head = "lambda x" if inputs == 1 else "lambda a, b"
    call = eval(f"{head}: {code}", namespace)
    if inputs == 1:
        return lambda x: weighted(call(x))
    return lambda x: weighted(call(x[0], x[1]))


def resolved(name):
    """Return the object that a name stands for, or None where the installed NumPy or SciPy has none."""
    here = {"np": np, "scipy": scipy}[name.split(".")[0]]
    for part in name.split(".")[1:]:
        here = getattr(here, part, None)
    return here


def available(row):
    return not row.name.startswith(("np.", "scipy.")) or resolved(row.name) is not None


def sample(row, shape, dtype=np.float64):
    seed = np.random.default_rng(sum(map(ord, row.name)) + 7 * len(shape))
    parts = [seed.uniform(low, high, shape).astype(dtype) for low, high in row.domains]
    return parts[0][()] if len(parts) == 1 else np.stack(parts)


# --- the page
def counts():
    """Return (NumPy functions, methods of ufuncs and arrays, operators and math, SciPy): distinct names."""
    names = {row.name for row in ROWS}
    methods = {
        n for n in names if n.startswith("ndarray.") or re.fullmatch(r"np\.\w+\.(reduce|accumulate|outer|at)", n)
    }
    numpy = {n for n in names if n.startswith("np.")} - methods
    scipy_names = {n for n in names if n.startswith("scipy.")}
    return numpy, methods, names - numpy - methods - scipy_names, scipy_names


def refusal(code):
    """Return the message with which the gradient of an expression is refused."""
    import koubai as kb
    from koubai.errors import TraceError

    try:
        kb.grad(function(code, 1), method="backprop")(np.array([0.3, 1.2, 0.7]))
    except TraceError as error:
        return f"{error.reason}; {error.fix}"
    raise AssertionError(f"{code} is not refused")


def conventions():
    """Return the paragraphs on conventions out of the modules' own docstrings."""
    from koubai.graph import ops
    from koubai.graph.numpy import linalg

    kinks = [part.strip() for part in ops.__doc__.split("\n\n") if part.startswith(("Complex values", "Conventions"))]
    matrices = linalg.__doc__.partition("What is read:")
    return "\n\n".join([*kinks, "What is read: " + matrices[2].strip()]).split("\n")


def page():
    numpy, methods, python, from_scipy = counts()
    families = list(dict.fromkeys(row.family for row in ROWS))
    steps = len(numpy & {row.name for row in ROWS if row.family.startswith("Steps")})
    lines = [
        "# What koubai differentiates",
        "",
        "<!-- Written by `python tests/supported.py` from the table that the tests run; don't edit by hand. -->",
        "",
        f"{len(numpy)} NumPy functions ({steps} of them steps and tests, whose derivative is zero), {len(methods)}",
        f"methods of arrays and ufuncs, {len(python)} of Python's operators and functions of `math`,",
        f"and {len(from_scipy)} functions and distributions of SciPy; second names of a function are not counted.",
        "Each is run by `tests/test_supported.py` on several shapes: the traced value equals the plain one;",
        "the gradient agrees with",
        "the adaptive numerical gradient and the Hessian-vector product with differences of the gradient, within their",
        "errors; a float32 input gives a float32 gradient that agrees to float32 rounding; and the printed gradient",
        "can be pasted and run.",
        "",
        "| family | names |",
        "|---|---|",
    ]
    for name in families:
        lines.append(f"| {name} | {len({row.name for row in ROWS if row.family == name})} |")
    for name in families:
        known = dict.fromkeys(row.name for row in ROWS if row.family == name)
        short = [n if n.startswith("ndarray") else n.removeprefix("scipy.special.") for n in known]
        lines += ["", f"## {name} ({len(known)})", "", ", ".join(f"`{n}`" for n in short)]
    lines += ["", "## Second names of the same functions", ""]
    lines.append(", ".join(f"`{a}` = `{b}`" for a, b in sorted(ALIASES.items())))
    lines += ["", "## Conventions", "", *conventions()]
    lines += [
        "",
        "## What is refused",
        "",
        'With `method="auto"` the adaptive numerical gradient takes over, with a warning; with `method="backprop"`',
        "this is a `TraceError` that names file and line.",
        "",
        "| what | example | message |",
        "|---|---|---|",
    ]
    for what, (code, _) in REFUSED.items():
        lines.append(f"| {what} | `{code}` | {refusal(code)} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "src"))
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
