"""Every NumPy function that is written in primitives: its value is NumPy's, its derivatives agree with differences.

How to add one: a row in CASES, ``np.name: [calls]``, each call a function of the 2×3 array x, without zeros and ties.
`test_every_function_has_a_case` fails for an entry of FUNCTIONS without a row here or in `supported`.
"""

import itertools

import numpy as np
import pytest
from supported import ROWS, resolved

from koubai.derivatives.gradient import hvp, value_and_grad
from koubai.errors import TraceError
from koubai.graph.traced import FUNCTIONS

X = np.array([[0.31, -1.27, 2.13], [1.44, 0.72, -0.58]])
U = np.array([[0.3, -0.2, 0.5], [0.1, 0.4, -0.6]])

CASES = {
    # names beyond elementwise ufuncs, which are rows of OPS
    np.float_power: [lambda x: np.float_power(x * x, 1.5)],
    np.divmod: [lambda x: np.divmod(x, 1.07)[1]],
    np.modf: [lambda x: np.modf(x)[0]],
    np.frexp: [lambda x: np.frexp(x)[0], lambda x: x * np.frexp(x)[1]],
    np.ldexp: [lambda x: np.ldexp(x, 3)],
    np.conjugate: [lambda x: np.conjugate(x) * x, lambda x: x.conj()],
    np.real: [lambda x: np.real(x) * x, lambda x: x.real * 2],
    np.real_if_close: [lambda x: np.real_if_close(x) * 3],
    np.imag: [lambda x: np.imag(x) + x],
    np.positive: [lambda x: +x * 2],
    np.vecdot: [lambda x: np.vecdot(x, x * x)],
    np.sinc: [lambda x: np.sinc(x), lambda x: np.sinc(x - x[0, 0])],
    np.nan_to_num: [lambda x: np.nan_to_num(np.where(x > 1, np.nan, x))],
    np.round: [lambda x: np.round(x, 1) + x, lambda x: x.round() * x],
    np.around: [lambda x: np.around(x) * x],
    np.clip: [lambda x: np.clip(x, -1, 1), lambda x: x.clip(min=0.5), lambda x: np.clip(x, None, x[0, 0])],
    np.where: [lambda x: np.where(x > 0, x * x, -x)],
    np.select: [lambda x: np.select([x < 0, x > 1], [x * x, np.exp(x)], 3.0)],
    np.piecewise: [lambda x: np.piecewise(x, [x < 0, x > 1], [lambda t: t**2, lambda t: np.log(t), 0.5])],
    np.sum: [lambda x: np.sum(x), lambda x: x.sum(axis=1, keepdims=True) * x, lambda x: np.sum(x, where=x > 0)],
    np.prod: [lambda x: np.prod(x), lambda x: x.prod(axis=0), lambda x: np.prod(x, axis=(0, 1), initial=2.0)],
    np.max: [
        lambda x: np.max(x),
        lambda x: x.max(axis=1),
        lambda x: np.max(x, axis=0, initial=1.0),
        lambda x: np.sum(np.max(x[0, 0], axis=-1), axis=0) * x,  # of a number
    ],
    np.amax: [lambda x: np.amax(x, axis=0)],
    np.min: [lambda x: np.min(x), lambda x: x.min(axis=(0, 1), keepdims=True)],
    np.amin: [lambda x: np.amin(x, axis=1)],
    np.any: [lambda x: x * np.any(x > 2)],
    np.all: [lambda x: x * np.all(x > -2, axis=0)],
    np.count_nonzero: [lambda x: x * np.count_nonzero(x > 0)],
    np.mean: [lambda x: np.mean(x) ** 2, lambda x: x.mean(axis=1), lambda x: np.mean(x, where=x > 0)],
    np.average: [
        lambda x: np.average(x),
        lambda x: np.average(x, axis=1, weights=[1.0, 2.0, 3.0]),
        lambda x: np.average(x, weights=x * x),
    ],
    np.var: [lambda x: np.var(x), lambda x: x.var(axis=1, ddof=1), lambda x: np.var(x, axis=0, keepdims=True)],
    np.std: [lambda x: np.std(x), lambda x: x.std(axis=1, ddof=1)],
    np.ptp: [lambda x: np.ptp(x), lambda x: np.ptp(x, axis=1)],
    np.cumsum: [lambda x: np.cumsum(x), lambda x: x.cumsum(axis=1)],
    np.cumprod: [lambda x: np.cumprod(x), lambda x: x.cumprod(axis=0)],
    np.shape: [lambda x: x * np.shape(x)[1]],
    np.ndim: [lambda x: x * np.ndim(x)],
    np.size: [lambda x: x * np.size(x) + np.size(x, 1)],
    np.reshape: [
        lambda x: np.reshape(x, (3, 2)) @ x,
        lambda x: x.reshape(-1, 2) * 2,
        lambda x: x.reshape(3, 2, order="F"),
    ],
    np.ravel: [lambda x: np.ravel(x) * np.arange(6), lambda x: x.flatten(), lambda x: np.ravel(x, "F")],
    np.transpose: [lambda x: np.transpose(x) @ x, lambda x: x.T, lambda x: x.transpose(1, 0)],
    np.permute_dims: [lambda x: np.permute_dims(x, (1, 0)) * 2],
    np.matrix_transpose: [lambda x: np.matrix_transpose(x) @ x],
    np.swapaxes: [lambda x: np.swapaxes(x, 0, 1) @ x, lambda x: x.swapaxes(0, -1)],
    np.moveaxis: [lambda x: np.moveaxis(x[None], 0, -1), lambda x: np.moveaxis(x[None], [0, 1], [1, 2])],
    np.rollaxis: [lambda x: np.rollaxis(x[None], 2, 1), lambda x: np.rollaxis(x[None], 0, 3)],
    np.squeeze: [lambda x: np.squeeze(x[None]) * 2, lambda x: x[:, None].squeeze(axis=1)],
    np.expand_dims: [lambda x: np.expand_dims(x, 1), lambda x: np.expand_dims(x, (0, -1))],
    np.atleast_1d: [lambda x: np.atleast_1d(x[0, 0]), lambda x: np.atleast_1d(x)],
    np.atleast_2d: [lambda x: np.atleast_2d(x[0])],
    np.atleast_3d: [lambda x: np.atleast_3d(x), lambda x: np.atleast_3d(x[0])],
    np.broadcast_to: [lambda x: np.broadcast_to(x[0], (2, 3)) * x],
    np.broadcast_arrays: [lambda x: np.broadcast_arrays(x, x[:, :1])[1] * x],
    np.flip: [lambda x: np.flip(x) * x, lambda x: np.flip(x, 1)],
    np.fliplr: [lambda x: np.fliplr(x) * x],
    np.flipud: [lambda x: np.flipud(x) * x],
    np.rot90: [lambda x: np.rot90(x), lambda x: np.rot90(x, 2), lambda x: np.rot90(x, 3)],
    np.concatenate: [lambda x: np.concatenate([x, x * 2]), lambda x: np.concatenate([x, np.ones((2, 1))], axis=1)],
    np.concat: [lambda x: np.concat([x, x], axis=None)],
    np.stack: [lambda x: np.stack([x, x * x]), lambda x: np.stack([x, x * x], axis=-1)],
    np.hstack: [lambda x: np.hstack([x, x * x]), lambda x: np.hstack([x[0], 1.0])],
    np.vstack: [lambda x: np.vstack([x[0], x])],
    np.dstack: [lambda x: np.dstack([x, x * x])],
    np.column_stack: [lambda x: np.column_stack([x[0], x[1], np.ones(3)])],
    np.block: [lambda x: np.block([[x, x], [np.zeros((1, 3)), x[:1] ** 2]])],
    np.append: [lambda x: np.append(x, x[0]), lambda x: np.append(x, x, axis=0)],
    np.array_split: [lambda x: np.array_split(x, 2, axis=1)[0] ** 2],
    np.split: [lambda x: np.split(x, 3, axis=1)[1] * x, lambda x: np.split(x, [1], axis=1)[1]],
    np.hsplit: [lambda x: np.hsplit(x, 3)[2] * 2],
    np.vsplit: [lambda x: np.vsplit(x, 2)[1] * 2],
    np.dsplit: [lambda x: np.dsplit(x[None], 3)[1] * 2],
    np.tile: [lambda x: np.tile(x, 2) ** 2, lambda x: np.tile(x, (2, 1, 2)) ** 2],
    np.repeat: [lambda x: np.repeat(x, 2), lambda x: x.repeat([1, 2, 0], axis=1)],
    np.roll: [lambda x: np.roll(x, 1), lambda x: np.roll(x, -1, axis=1), lambda x: np.roll(x, (1, 2), axis=(0, 1))],
    np.pad: [
        lambda x: np.pad(x, 1) ** 2,
        lambda x: np.pad(x, ((0, 1), (2, 0)), constant_values=3.0),
        lambda x: np.pad(x, 1, mode="edge"),
        lambda x: np.pad(x, 1, mode="reflect"),
        lambda x: np.pad(x, 2, mode="wrap"),
        lambda x: np.pad(x, 2, mode="symmetric"),
    ],
    np.nonzero: [lambda x: x[np.nonzero(x > 0)] ** 2, lambda x: x[(x > 0).nonzero()]],
    np.take: [lambda x: np.take(x, [0, 2, 2], axis=1), lambda x: x.take(4), lambda x: np.take(x, [7, -9], mode="wrap")],
    np.compress: [lambda x: np.compress([True, False, True], x, axis=1)],
    np.extract: [lambda x: np.extract(x > 0, x) ** 2],
    np.take_along_axis: [lambda x: np.take_along_axis(x, np.argsort(x, axis=1), axis=1)],
    np.argsort: [lambda x: x.ravel()[np.argsort(x, axis=None)[:3]] ** 2, lambda x: x[0][x[0].argsort()]],
    np.sort: [lambda x: np.sort(x) * np.arange(3), lambda x: np.sort(x, axis=None) * np.arange(6)],
    np.argmax: [lambda x: x[0, np.argmax(x[0])] ** 2, lambda x: x.ravel()[x.argmax()]],
    np.argmin: [lambda x: x.ravel()[np.argmin(x)] ** 2],
    np.searchsorted: [lambda x: x * np.searchsorted(np.array([-1.0, 0.0, 1.0]), x)],
    np.median: [lambda x: np.median(x), lambda x: np.median(x, axis=1), lambda x: np.median(x, axis=0, keepdims=True)],
    np.quantile: [lambda x: np.quantile(x, 0.3), lambda x: np.quantile(x, [0.1, 0.7], axis=1)],
    np.percentile: [lambda x: np.percentile(x, 35.0), lambda x: np.percentile(x, 35.0, axis=0)],
    np.interp: [
        lambda x: np.interp(x, [-1.0, 0.0, 2.0], [1.0, 3.0, -1.0]),
        lambda x: np.interp(0.7, [-1.0, 0.0, 2.0], x[0]),
        lambda x: np.interp(x, [-1.0, 2.0], [0.0, 3.0], left=5.0, right=7.0),
    ],
    np.dot: [
        lambda x: np.dot(x, x.T),
        lambda x: x.dot(x[0]),
        lambda x: np.dot(x, 2.0),
        lambda x: np.dot(x[None], np.ones((2, 3, 2)) * x[0][:, None]),
    ],
    np.vdot: [lambda x: np.vdot(x, x * x)],
    np.inner: [lambda x: np.inner(x, x), lambda x: np.inner(x[0], 2.0)],
    np.outer: [lambda x: np.outer(x, x[0])],
    np.tensordot: [
        lambda x: np.tensordot(x, x),
        lambda x: np.tensordot(x, x, ((0,), (0,))),
        lambda x: np.tensordot(x, x, 0),
    ],
    np.einsum: [
        lambda x: np.einsum("ij,kj->ik", x, x),
        lambda x: np.einsum("ij,ij", x, x),
        lambda x: np.einsum("...j->...", x),
        lambda x: np.einsum("ii->i", x[:, :2]) ** 2,
        lambda x: np.einsum("i,j,ij->", x[:, 0], x[0], x),
    ],
    np.kron: [lambda x: np.kron(x, x), lambda x: np.kron(x[0], np.ones((2, 2)))],
    np.cross: [lambda x: np.cross(x[0], x[1]), lambda x: np.cross(x, x * x)],
    np.diagonal: [lambda x: np.diagonal(x) ** 2, lambda x: x.diagonal(1), lambda x: np.diagonal(x, -1)],
    np.trace: [lambda x: np.trace(x) ** 2, lambda x: (x @ x.T).trace(offset=1)],
    np.diag: [lambda x: np.diag(x), lambda x: np.diag(x[0]) @ x.T, lambda x: np.diag(x[0], -1)],
    np.diagflat: [lambda x: np.diagflat(x) ** 2],
    np.tril: [lambda x: np.tril(x) * x, lambda x: np.tril(x, 1)],
    np.triu: [lambda x: np.triu(x) * x, lambda x: np.triu(x, -1)],
    np.vander: [lambda x: np.vander(x[0]), lambda x: np.vander(x[0], 4, increasing=True)],
    np.diff: [lambda x: np.diff(x) ** 2, lambda x: np.diff(x, 2), lambda x: np.diff(x, axis=0, prepend=1.0)],
    np.ediff1d: [lambda x: np.ediff1d(x) ** 2, lambda x: np.ediff1d(x, to_end=x[0])],
    np.gradient: [
        lambda x: np.gradient(x, axis=1) ** 2,
        lambda x: np.gradient(x, 0.5)[0],
        lambda x: np.gradient(x, axis=1, edge_order=2),
    ],
    np.trapezoid: [
        lambda x: np.trapezoid(x),
        lambda x: np.trapezoid(x, dx=0.5, axis=0),
        lambda x: np.trapezoid(x, [0.0, 1.0, 3.0]),
        lambda x: np.trapezoid(np.ones(3), x[0]),
    ],
    np.convolve: [
        lambda x: np.convolve(x[0], x[1]),
        lambda x: np.convolve(x.ravel(), x[0], "same"),
        lambda x: np.convolve(x[0], x.ravel(), "valid"),
    ],
    np.correlate: [lambda x: np.correlate(x.ravel(), x[0]), lambda x: np.correlate(x[0], x[1], "full")],
    np.meshgrid: [
        lambda x: np.meshgrid(x[0], x[1])[0] * np.meshgrid(x[0], x[1])[1],
        lambda x: np.meshgrid(x[0], x[:, 0], indexing="ij")[1],
        lambda x: np.meshgrid(x[0], x[1], sparse=True)[1],
    ],
    np.polyval: [lambda x: np.polyval([1.0, -2.0, 3.0], x), lambda x: np.polyval(x[0], x[1])],
    np.zeros_like: [lambda x: np.zeros_like(x) + x],
    np.empty_like: [lambda x: np.multiply(x, x, out=np.empty_like(x))],
    np.ones_like: [lambda x: np.ones_like(x) * x],
    np.full_like: [lambda x: np.full_like(x, x[0, 0]) * x, lambda x: np.full_like(x, 2.0) * x],
    np.copy: [lambda x: np.copy(x) * x],
    np.copyto: [lambda x: _copied(x)],
    np.fill_diagonal: [lambda x: _diagonal_filled(x)],
    np.linspace: [lambda x: np.linspace(x[0, 0], x[0, 1], 5), lambda x: np.linspace(0.0, x[0], 4, endpoint=False)],
    np.apply_over_axes: [
        lambda x: np.apply_over_axes(np.sum, x * x, [0, 1]),
        lambda x: np.apply_over_axes(np.max, x, 1),
    ],
    np.apply_along_axis: [
        lambda x: np.apply_along_axis(lambda row: np.sum(row**2), 1, x),
        lambda x: np.apply_along_axis(lambda column: column * column[0], 0, x),
    ],
    np.result_type: [lambda x: x.astype(np.result_type(x, np.float32))],
    np.can_cast: [lambda x: x if np.can_cast(x.dtype, np.float64) else x * 2],
    np.iscomplexobj: [lambda x: x if np.iscomplexobj(x) else x * 2],
    np.isrealobj: [lambda x: x if np.isrealobj(x) else x * 2],
    np.angle: [lambda x: x * np.angle(x)],
    np.isreal: [lambda x: x * np.isreal(x)],
    np.iscomplex: [lambda x: x + np.iscomplex(x)],
    np.sign: [lambda x: x * np.sign(x)],
    np.isscalar: [lambda x: x * (2 if np.isscalar(x[0, 0]) else 3)],
    np.allclose: [lambda x: x if np.allclose(x, 1.0) else x * 2],
    np.astype: [lambda x: np.astype(x, x.dtype) * x],
    np.array_equiv: [lambda x: x if np.array_equiv(x, np.ones((2, 3))) else x * 2],
    np.array_equal: [lambda x: x if np.array_equal(x, np.ones((2, 3))) else x * 2],
    np.isclose: [lambda x: np.where(np.isclose(x, 1.0, atol=0.6), x * x, x)],
    np.isposinf: [lambda x: np.where(np.isposinf(x), 1.0, x)],
    np.isneginf: [lambda x: np.where(np.isneginf(x), 1.0, x)],
    (np.add, "reduce"): [lambda x: np.add.reduce(x), lambda x: np.add.reduce(x, axis=None)],
    (np.multiply, "reduce"): [lambda x: np.multiply.reduce(x, axis=1)],
    (np.maximum, "reduce"): [lambda x: np.maximum.reduce(x)],
    (np.minimum, "reduce"): [lambda x: np.minimum.reduce(x, axis=1, keepdims=True)],
    (np.logical_or, "reduce"): [lambda x: x * np.logical_or.reduce(x > 1)],
    (np.logical_and, "reduce"): [lambda x: x * np.logical_and.reduce(x > -1)],
    (np.logaddexp, "reduce"): [lambda x: np.logaddexp.reduce(x), lambda x: np.logaddexp.reduce(x, axis=1)],
    (np.add, "accumulate"): [lambda x: np.add.accumulate(x, axis=1)],
    (np.multiply, "accumulate"): [lambda x: np.multiply.accumulate(x)],
    (np.maximum, "accumulate"): [lambda x: np.maximum.accumulate(x, axis=1)],
    (np.minimum, "accumulate"): [lambda x: np.minimum.accumulate(x) * x],
    (np.add, "at"): [lambda x: _added_at(x, np.add)],
    (np.subtract, "at"): [lambda x: _added_at(x, np.subtract)],
}
if hasattr(np, "fix"):  # deprecated since NumPy 2.5
    CASES[np.fix] = [lambda x: np.fix(x) * x]
if hasattr(np, "unstack"):  # NumPy 2.1
    CASES[np.unstack] = [lambda x: np.unstack(x, axis=1)[1] * 2]
for name in ("add", "subtract", "multiply", "divide", "maximum", "minimum", "hypot", "arctan2", "logaddexp"):
    CASES[getattr(np, name), "outer"] = [lambda x, name=name: getattr(np, name).outer(x[0], x[1])]


def _copied(x):
    y = np.zeros(x.shape, x.dtype)
    np.copyto(y, x * x, where=x > 0)
    return y


def _diagonal_filled(x):
    y = x @ x.T
    np.fill_diagonal(y, x[0, 0])
    return y


def _added_at(x, ufunc):
    y = np.zeros(3, x.dtype)
    ufunc.at(y, np.array([0, 0, 2]), x[0])
    return y * x


def cases():
    for function, calls in CASES.items():
        name = f"{function[0].__name__}.{function[1]}" if isinstance(function, tuple) else function.__name__
        for k, call in enumerate(calls):
            yield pytest.param(call, id=f"{name}-{k}")


def scalar(call):
    """A weighted sum of what the call returns."""

    def f(x):
        y = call(x)
        return np.sum(np.sin(y) * np.cos(np.arange(np.size(y)).reshape(np.shape(y)) + 1.0))

    return f


def test_every_function_has_a_case():
    in_the_table = {id(resolved(row.name)) for row in ROWS if row.name.startswith(("np.", "scipy."))}
    here = {key for key in FUNCTIONS if id(key) not in in_the_table}
    ufunc_outer = {key for key in here if isinstance(key, tuple) and key[1] == "outer"}
    text = {np.array2string, np.array_repr, np.array_str}
    assert here - {"array", "ufunc", "unknown"} - ufunc_outer - text - set(CASES) == set()


@pytest.mark.sampled(7)
@pytest.mark.parametrize("call", list(cases()))
def test_value_and_derivatives(call):
    f = scalar(call)
    both = value_and_grad(f, method="backprop")
    value, gradient = both(X)
    np.testing.assert_allclose(value, f(X.copy()), rtol=1e-13)

    def along(g, h):
        return (g(X + h * U) - g(X - h * U)) / (2 * h)

    def difference(g):
        table = [along(g, h) for h in (1e-3, 5e-4, 2.5e-4)]
        table = [(4 * b - a) / 3 for a, b in itertools.pairwise(table)]
        return (16 * table[1] - table[0]) / 15

    np.testing.assert_allclose(np.sum(gradient * U), difference(f), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(hvp(f)(X, U), difference(lambda x: both(x)[1]), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("call", list(cases()))
def test_float32(call):
    x = X.astype(np.float32)

    def f(x):
        return np.sum(call(x))

    value, gradient = value_and_grad(f, method="backprop")(x)
    assert gradient.dtype == np.float32
    assert value.dtype == f(x.copy()).dtype
    np.testing.assert_allclose(gradient, value_and_grad(f, method="backprop")(X)[1], rtol=1e-4, atol=1e-4)


NAN, INF = np.nan, np.inf


def _emptied(x):
    y = np.where(x > 1.0, np.nan, x)
    np.nan_to_num(y, copy=False, nan=2.0)
    return y


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x * np.isclose([NAN, 1.0, INF], [NAN, 1.0 + 1e-9, INF], equal_nan=True) + 0 * np.isclose(x, x),
        lambda x: x * np.isclose(np.where(x > 1, INF, x), np.where(x > 1, INF, x)),
        lambda x: x * np.allclose(np.where(x > 1, NAN, x), np.where(x > 1, NAN, x), equal_nan=True),
        lambda x: x * (1.0 + np.allclose(np.where(x > 1, NAN, x), np.where(x > 1, NAN, x))),
        lambda x: x * np.array_equal(np.where(x > 1, NAN, x), np.where(x > 1, NAN, x), equal_nan=True),
        _emptied,
        lambda x: np.max(x, axis=1, where=x < 1.0, initial=0.5),
        lambda x: np.min(x, where=x > 0, initial=3.0),
        lambda x: np.var(x, where=x > 0),
        lambda x: np.std(x, axis=1, where=x > -1.0, ddof=1),
        lambda x: x * np.any(x, where=x > 0, axis=0),
        lambda x: x * np.all(x > 0, where=x > 0),
        lambda x: np.logaddexp.reduce(x, axis=1, initial=0.5, where=x > -1.0),
        lambda x: np.add.reduce(x, axis=None, where=x > 0, initial=2.0),
        lambda x: np.add.outer(x[0], x[1], dtype=np.float64),
        lambda x: x * np.greater(x, 0.0, dtype=bool),
        lambda x: x * np.searchsorted(np.array([1.0, 0.0, -1.0]), x, sorter=np.array([2, 1, 0])),
        lambda x: np.quantile(np.where(x > 1.0, x, x), 0.4, method="weibull"),
        lambda x: np.arange(x[0, 0], 3.0, dtype=np.float64),
        lambda x: np.array(x, order="F") * np.asarray(x, order="F", copy=True),
        lambda x: np.ascontiguousarray(x[0, 0]) * np.identity(2),
    ],
)
def test_keywords_are_honoured(call):
    test_value_and_derivatives(call)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x: np.zeros(3, like=x[0]), "like"),
        (lambda x: np.quantile(x, 0.3, weights=x, method="inverted_cdf"), "weights"),
        (lambda x: np.einsum("ij->i", x, order="F"), "order"),
        (lambda x: np.unique(x, axis=0), "axis"),
        (lambda x: np.pad(x, 1, mode="linear_ramp"), "mode"),
        (lambda x: np.linalg.matrix_rank(x, hermitian=True) * x, "hermitian"),
    ],
)
def test_what_can_not_be_honoured_is_refused_by_name(call, name):
    with pytest.raises(TraceError, match=name):
        value_and_grad(scalar(call), method="backprop")(X)


def test_nan_spoils_a_quantile_at_every_call():
    both = value_and_grad(lambda x: np.median(x) + np.quantile(x, 0.3), method="backprop")
    assert np.isfinite(both(X)[0])
    assert np.isnan(both(np.where(X > 1.0, np.nan, X))[0])
