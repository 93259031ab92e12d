"""Windows of images: what convolution and pooling are made of, against sums and maxima written out."""

import itertools

import numpy as np
import pytest

from koubai.derivatives.gradient import grad, hvp
from koubai.execute.arrays import compile_arrays
from koubai.graph import windows as rows
from koubai.graph.call import trace
from koubai.graph.ops import OPS, apply

CASES = [
    ((1, 3, 3, 1), (2, 2), (1, 1), (0, 0)),
    ((2, 8, 8, 3), (3, 3), (1, 1), (1, 1)),
    ((2, 7, 5, 2), (3, 2), (2, 3), (1, 0)),
    ((1, 4, 6, 2), (4, 1), (1, 2), (3, 0)),
    ((3, 5, 5, 1), (5, 5), (1, 1), (0, 0)),
    ((1, 6, 6, 2), (2, 2), (3, 4), (0, 0)),  # some pixels are in no window
]
MARK = pytest.mark.parametrize(("shape", "kernel", "stride", "padding"), CASES)


def by_hand(x, kernel, stride, padding):
    padded = np.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)))
    view = np.lib.stride_tricks.sliding_window_view(padded, kernel, (1, 2))[:, :: stride[0], :: stride[1]]
    return view.transpose(0, 4, 5, 1, 2, 3)


def image(shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@MARK
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_windows_are_those_of_a_padded_image(shape, kernel, stride, padding, dtype):
    x = image(shape, dtype)
    got = apply("windows", x, kernel=kernel, stride=stride, padding=padding)
    np.testing.assert_array_equal(got, by_hand(x, kernel, stride, padding))
    assert got.dtype == dtype
    strided = np.moveaxis(np.moveaxis(x, 3, 0).copy(), 0, 3)  # samples first in memory
    assert not strided.flags.c_contiguous or x.shape[3] == 1
    again = apply("windows", strided, kernel=kernel, stride=stride, padding=padding)
    np.testing.assert_array_equal(again, got)


@MARK
def test_windows_add_is_the_transpose(shape, kernel, stride, padding):
    x = image(shape)
    w = apply("windows", x, kernel=kernel, stride=stride, padding=padding)
    v = image(w.shape, seed=1)
    back = apply("windows_add", v, shape=shape, kernel=kernel, stride=stride, padding=padding)
    np.testing.assert_allclose(np.sum(w * v), np.sum(x * back), rtol=1e-12)


def test_an_image_larger_than_the_scratch_is_gathered_in_parts(monkeypatch):
    x = np.moveaxis(image((5, 2, 9, 7)), 0, 3)
    params = {"kernel": (3, 3), "stride": (2, 1), "padding": (1, 1)}
    whole = apply("windows", x, **params)
    pool = {"kernel": (3, 2), "stride": (2, 1)}
    g = image(OPS["window_max"].call(x, **pool).shape, seed=3)
    spread, gathered = apply("window_spread", g, x, **pool), apply("window_gather", x * x, x, **pool)
    for scratch in (1, 700, 2000):
        monkeypatch.setattr(rows, "_SCRATCH", scratch)
        np.testing.assert_array_equal(apply("windows", x, **params), whole)
        np.testing.assert_allclose(apply("window_spread", g, x, **pool), spread, rtol=1e-14)
        np.testing.assert_array_equal(apply("window_gather", x * x, x, **pool), gathered)


POOLS = [case[:3] for case in CASES]


@pytest.mark.parametrize(("shape", "kernel", "stride"), POOLS)
def test_the_largest_of_each_window(shape, kernel, stride):
    x = image(shape)
    got = apply("window_max", x, kernel=kernel, stride=stride)
    np.testing.assert_array_equal(got, by_hand(x, kernel, stride, (0, 0)).max((1, 2)))


def routed(x, g, kernel, stride):
    """Add g to the largest elements of the windows of x one after the other, ties sharing evenly."""
    result = np.zeros_like(x)
    for c, i, j, n in itertools.product(*map(range, g.shape)):
        place = (c, slice(i * stride[0], i * stride[0] + kernel[0]), slice(j * stride[1], j * stride[1] + kernel[1]), n)
        hit = x[place] == x[place].max()
        result[place] += g[c, i, j, n] * hit / hit.sum()
    return result


@pytest.mark.parametrize(("shape", "kernel", "stride"), POOLS)
@pytest.mark.parametrize("tied", [False, True])
def test_its_derivative_goes_to_the_largest_and_is_shared_by_ties(shape, kernel, stride, tied):
    x = np.round(image(shape)) if tied else image(shape)
    g = image(OPS["window_max"].call(x, kernel=kernel, stride=stride).shape, seed=1)
    spread = apply("window_spread", g, x, kernel=kernel, stride=stride)
    np.testing.assert_allclose(spread, routed(x, g, kernel, stride), rtol=1e-12, atol=1e-15)
    h = image(shape, seed=2)
    gathered = apply("window_gather", h, x, kernel=kernel, stride=stride)
    np.testing.assert_allclose(np.sum(h * spread), np.sum(gathered * g), rtol=1e-12)


def test_nan_in_a_window_shows_in_value_and_derivative():
    x = np.ones((1, 2, 4, 1))
    x[0, 0, 0, 0] = np.nan
    y = apply("window_max", x, kernel=(2, 2), stride=(2, 2))
    np.testing.assert_array_equal(y.ravel(), [np.nan, 1.0])
    with np.errstate(divide="ignore", invalid="ignore"):
        back = apply("window_spread", np.ones((1, 1, 2, 1)), x, kernel=(2, 2), stride=(2, 2))
    assert np.isnan(back[0, :, :2]).all()
    np.testing.assert_array_equal(back[0, :, 2:].ravel(), [0.25] * 4)


@MARK
def test_compiled_and_printed_they_mean_the_same(shape, kernel, stride, padding):
    params = {"kernel": kernel, "stride": stride}

    def f(x):
        w = apply("windows", x, padding=padding, **params)
        y = apply("window_max", x * x, **params)
        return np.sum(np.sin(w)) + np.sum(y * y)

    x = image(shape)
    gradient = trace(f, x).gradient()
    run = compile_arrays(gradient)
    space = {}
    exec(gradient.source(), space)
    for _ in range(2):  # buffers are used again
        value, g = run(x)
        expected, dx = gradient(x)
        np.testing.assert_allclose([value, *g.ravel()], [expected, *dx.ravel()], rtol=1e-13)
        printed, dx = space[gradient.name](x)
        np.testing.assert_allclose([value, *g.ravel()], [printed, *dx.ravel()], rtol=1e-12)


def test_second_derivatives():
    params = {"kernel": (3, 2), "stride": (1, 2)}

    def f(x):
        w = apply("windows", x, padding=(1, 1), **params)
        return np.sum(w**3) + np.sum(apply("window_max", x, **params) ** 3)

    x, v = image((2, 4, 5, 3)), image((2, 4, 5, 3), seed=4)
    h = 1e-5
    slope = (grad(f)(x + h * v) - grad(f)(x - h * v)) / (2 * h)
    np.testing.assert_allclose(hvp(f)(x, v), slope, rtol=1e-7, atol=1e-7)


def test_a_kink_is_told():
    f = lambda x: np.sum(apply("window_max", x, kernel=(2, 2), stride=(2, 2)))  # noqa: E731
    assert trace(f, image((1, 4, 4, 1))).kinks == ()
    (kink,) = trace(f, np.ones((1, 4, 4, 1))).kinks
    assert kink.op == "window_max"
