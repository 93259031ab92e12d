"""Every layer: its derivatives agree with differences, it is what its formula says, and it refuses what doesn't fit."""

import copy
import itertools
import math
import pickle
import re

import numpy as np
import pytest

from koubai import nn
from koubai.derivatives.differences import numerical_gradient
from koubai.derivatives.gradient import grad, hvp
from koubai.errors import InputError, UnknownNameError
from koubai.graph.call import trace
from koubai.graph.ops import OPS

# (layer, shapes of x)
FLAT = ((1, 1), (3, 4), (5, 2))
IMAGES = ((1, 1, 4, 4), (3, 2, 5, 4))
EVERY = (*FLAT, (2, 3, 4), *IMAGES)
LAYERS = {
    "Layer": (nn.Layer(), EVERY),
    "Dense": (nn.Dense(3), (*FLAT, (2, 3, 4))),
    "Dense without b": (nn.Dense(2, init="normal", bias=False), FLAT),
    "Conv2D": (nn.Conv2D(2, 3), IMAGES),
    "Conv2D same": (nn.Conv2D(3, (3, 1), padding="same"), IMAGES),
    "Conv2D stride": (nn.Conv2D(2, 2, stride=(2, 3), padding=(1, 0)), IMAGES),
    "Conv2D wide padding": (nn.Conv2D(1, 2, padding=3, bias=False), IMAGES),
    "MaxPool2D": (nn.MaxPool2D(), IMAGES),
    "MaxPool2D overlapping": (nn.MaxPool2D((3, 2), stride=1), IMAGES),
    "AvgPool2D": (nn.AvgPool2D(), IMAGES),
    "AvgPool2D overlapping": (nn.AvgPool2D(3, stride=(1, 2)), IMAGES),
    "Flatten": (nn.Flatten(), EVERY),
    "Sigmoid": (nn.Sigmoid(), EVERY),
    "Tanh": (nn.Tanh(), EVERY),
    "ReLU": (nn.ReLU(), EVERY),
    "LeakyReLU": (nn.LeakyReLU(0.2), EVERY),
    "GELU": (nn.GELU(), EVERY),
    "GELU approximate": (nn.GELU(approximate=True), EVERY),
    "Softmax": (nn.Softmax(), EVERY),
    "Dropout": (nn.Dropout(0.3), EVERY),
    "BatchNorm": (nn.BatchNorm(), ((3, 4), (5, 2), *IMAGES)),
    "LayerNorm": (nn.LayerNorm(), ((3, 4), (5, 2), (2, 3, 4), *IMAGES)),
    "LayerNorm of one axis": (nn.LayerNorm(1), ((3, 4), (2, 3, 4), *IMAGES)),
    "LayerNorm of two axes": (nn.LayerNorm(2), ((2, 3, 4), *IMAGES)),
    "Embedding": (nn.Embedding(6, 3), ((4,), (3, 5), (2, 2, 2))),
}
CASES = [
    pytest.param(layer, shape, id=f"{name}-{shape}") for name, (layer, shapes) in LAYERS.items() for shape in shapes
]
KINDS = {type(layer) for layer, _ in LAYERS.values()}


def test_every_layer_is_tested():
    known = {kind for kind in vars(nn).values() if isinstance(kind, type) and issubclass(kind, nn.Layer)}
    assert known == KINDS


def prepared(layer, shape, dtype=np.float64):
    """A copy of the layer, built, with random params and statistics; and a batch."""
    layer, random = copy.deepcopy(layer), np.random.default_rng(sum(shape))
    layer.build(shape[1:], random, dtype)
    for values in (layer.params, layer.state):
        for name, value in values.items():
            values[name] = random.uniform(0.3, 1.5, value.shape).astype(dtype)
    if layer.takes_integers:
        return layer, random.integers(0, layer.count, shape)
    return layer, random.normal(size=shape).astype(dtype)


def agree(got, expected):
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1e-7 * np.abs(expected).max() + 1e-14


# a softmax of one number is 1, whatever the number
@pytest.mark.sampled(7)
@pytest.mark.filterwarnings("ignore:.* does not depend on its argument:koubai.errors.GradientWarning")
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(("layer", "shape"), CASES)
def test_backward_agrees_with_differences(layer, shape, train):
    layer, x = prepared(layer, shape)
    state = dict(layer.state)
    noise = layer.noise(shape, np.random.default_rng(7), x.dtype) if train else None
    y = layer.forward(x, train=train, seed=7)
    assert y.shape == (shape[0], *layer.output_shape(shape[1:]))
    dout = np.random.default_rng(1).normal(size=y.shape)

    def total(params, x):
        return np.sum(dout * layer.apply(params, x, state, train=train, noise=noise)[0])

    np.testing.assert_array_equal(y, layer.apply(layer.params, x, state, train=train, noise=noise)[0])
    dx = layer.backward(dout)
    assert set(layer.gradients) == set(layer.params)
    for name, value in layer.params.items():
        along = lambda v, name=name: total({**layer.params, name: v}, x)  # noqa: E731
        agree(layer.gradients[name], numerical_gradient(along, value).value)
    if layer.takes_integers:
        assert dx is None
    else:
        agree(dx, numerical_gradient(lambda x: total(layer.params, x), x).value)


@pytest.mark.parametrize(("layer", "shape"), CASES)
def test_float32_stays_float32_and_agrees(layer, shape):
    single, x = prepared(layer, shape, np.float32)
    double, wide = prepared(layer, shape)
    double.params = {name: value.astype(np.float64) for name, value in single.params.items()}
    double.state = {name: value.astype(np.float64) for name, value in single.state.items()}
    if not layer.takes_integers:
        wide = x.astype(np.float64)
    y, expected = single.forward(x, train=True), double.forward(wide, train=True)
    if isinstance(layer, nn.Dropout):  # numbers in float32 are drawn otherwise
        np.testing.assert_allclose(y[y != 0], (x / np.float32(1 - layer.p))[y != 0], rtol=1e-6)
        expected = y
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    dx = single.backward(np.ones_like(y))
    assert dx is None or dx.dtype == np.float32
    arrays = [*single.params.values(), *single.gradients.values(), *single.state.values()]
    assert {a.dtype for a in arrays} <= {np.dtype(np.float32)}


@pytest.mark.parametrize(("layer", "shape"), [case for case in CASES if "Embedding" not in case.id])
def test_second_derivatives(layer, shape):
    layer, x = prepared(layer, shape)
    v = np.random.default_rng(2).normal(size=shape)
    noise = layer.noise(shape, np.random.default_rng(7), x.dtype)

    def f(x):
        y, _ = layer.apply(layer.params, x, layer.state, train=True, noise=noise)
        return np.sum(np.sin(y))

    steps = [1e-3 / 2**k for k in range(4)]
    table = [(grad(f)(x + h * v) - grad(f)(x - h * v)) / (2 * h) for h in steps]
    for order in range(1, 4):  # extrapolated
        table = [(4**order * b - a) / (4**order - 1) for a, b in itertools.pairwise(table)]
    scale = np.abs(table[0]).max()
    np.testing.assert_allclose(hvp(f)(x, v), table[0], rtol=1e-7, atol=1e-7 * max(scale, 1e-3))


@pytest.mark.parametrize(("layer", "shape"), [case for case in CASES if "Embedding" not in case.id])
def test_what_is_printed_means_the_same(layer, shape):
    layer, x = prepared(layer, shape)
    noise = layer.noise(shape, np.random.default_rng(7), x.dtype)

    def f(params, x):
        return np.sum(np.sin(layer.apply(params, x, layer.state, train=True, noise=noise)[0]))

    gradient = trace(f, layer.params, x).gradient()
    space = {}
    exec(gradient.source(), space)
    values = [*layer.params.values(), x]
    for got, expected in zip(space[gradient.name](*values), gradient(*values), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


# --- what they compute
def test_dense_is_the_formula():
    layer, x = prepared(nn.Dense(3), (5, 4))
    np.testing.assert_array_equal(layer.forward(x), x @ layer.params["W"] + layer.params["b"])
    assert layer.params["W"].shape == (4, 3)


def test_convolution_is_the_sum_written_out():
    layer, x = prepared(nn.Conv2D(3, (2, 3), stride=(2, 1), padding=(1, 2)), (2, 3, 5, 4))
    y = layer.forward(x)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (2, 2)))
    for n, f, i, j in np.ndindex(y.shape):
        window = padded[n, :, i * 2 : i * 2 + 2, j : j + 3]
        expected = np.sum(window * layer.params["W"][f]) + layer.params["b"][f]
        assert y[n, f, i, j] == pytest.approx(expected, rel=1e-13)


def test_a_number_beyond_all_measure_saturates_without_a_warning():
    for dtype in (np.float32, np.float64):
        x = np.array([[-1e4, -100.0, 0.0, 100.0, 1e4]], dtype)
        np.testing.assert_allclose(nn.Sigmoid().forward(x), [[0, 0, 0.5, 1, 1]], atol=1e-40)
        assert nn.Softmax().forward(x)[0, -1] == 1
        np.testing.assert_allclose(nn.GELU().forward(x), [[0, 0, 0, 100, 1e4]])


def test_relu_has_derivative_zero_at_zero():
    layer = nn.ReLU()
    np.testing.assert_array_equal(layer.forward(np.array([[-1.0, 0.0, 2.0, np.nan]])), [[0, 0, 2, np.nan]])
    np.testing.assert_array_equal(layer.backward(np.ones((1, 4))), [[0, 0, 1, 0]])


@pytest.mark.parametrize("shape", [(200, 50), (20, 10, 5, 10)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dropout_leaves_out_the_share_and_keeps_the_mean(shape, dtype):
    layer = nn.Dropout(0.25)
    x = np.ones(shape, dtype)
    np.testing.assert_array_equal(layer.forward(x), x)
    y = layer.forward(x, train=True, seed=3)
    assert y.dtype == dtype
    assert set(np.unique(y)) == {dtype(0), dtype(1 / 0.75)}
    assert abs(np.mean(y == 0) - 0.25) < 0.02
    np.testing.assert_array_equal(layer.backward(x), y)
    np.testing.assert_array_equal(layer.forward(x, train=True, seed=3), y)
    assert (layer.forward(x, train=True, seed=4) != y).any()


def test_dropout_draws_new_masks_at_every_call_from_its_seed():
    x, layer, other = np.ones((20, 30)), nn.Dropout(), nn.Dropout()
    masks = [layer.forward(x, train=True) for _ in range(3)]
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(masks, 2))
    layer.forward(x)  # evaluation draws nothing
    resumed = copy.deepcopy(layer)
    masks.append(layer.forward(x, train=True))
    np.testing.assert_array_equal(resumed.forward(x, train=True), masks[3])
    for seed in (0, 0, 5, np.int64(5)):
        again = [other.forward(x, train=True, seed=seed), *(other.forward(x, train=True) for _ in range(3))]
        assert np.array_equal(again, masks) == (seed == 0)
    layer.forward(x, train=True)
    dx = layer.backward(np.ones_like(x))
    assert not np.array_equal(dx, masks[3])
    layer.forward(x, train=True, seed=0)
    masks[3], dx = masks[0], layer.backward(np.ones_like(x))
    np.testing.assert_array_equal(dx, masks[3])  # backward has the mask of its forward
    with pytest.raises(InputError, match="seed must be a whole number"):
        layer.forward(x, train=True, seed=-1)


def test_dropout_draws_again_into_the_same_memory():
    layer = nn.Dropout(0.5)
    for shape in ((6, 4), (6, 2, 3, 4)):
        mask = layer.noise(shape, np.random.default_rng(0), np.float32)
        before = mask.copy()
        again = layer.noise(shape, np.random.default_rng(1), np.float32, out=mask)
        assert again is mask
        assert (mask != before).any()
        np.testing.assert_array_equal(mask, layer.noise(shape, np.random.default_rng(1), np.float32))


@pytest.mark.parametrize("shape", [(16, 3), (4, 3, 5, 2)])
def test_batch_norm_normalizes_the_batch_and_remembers(shape):
    layer = nn.BatchNorm(momentum=0.5)
    x = np.random.default_rng(0).normal(3.0, 2.0, shape)
    axes = (0,) if len(shape) == 2 else (0, 2, 3)
    y = layer.forward(x, train=True)
    np.testing.assert_allclose(y.mean(axis=axes), 0.0, atol=1e-12)
    np.testing.assert_allclose(y.var(axis=axes), 1.0, rtol=1e-4)
    np.testing.assert_allclose(layer.state["mean"], 0.5 * x.mean(axis=axes))
    np.testing.assert_allclose(layer.state["var"], 0.5 + 0.5 * x.var(axis=axes, ddof=1))
    before = dict(layer.state)
    still = layer.forward(x)
    assert layer.state == before  # the same arrays
    features = (1, 3, 1, 1)[: len(shape)]
    mean, var = (layer.state[name].reshape(features) for name in ("mean", "var"))
    np.testing.assert_allclose(still, (x - mean) / np.sqrt(var + 1e-5))


def test_layer_norm_normalizes_each_sample():
    x = np.random.default_rng(0).normal(3.0, 2.0, (4, 3, 5, 6))
    for axes, over in ((None, (1, 2, 3)), (1, (3,)), (2, (2, 3))):
        y = nn.LayerNorm(axes).forward(x)
        np.testing.assert_allclose(y.mean(axis=over), 0.0, atol=1e-12)
        np.testing.assert_allclose(y.var(axis=over), 1.0, rtol=1e-3)


def test_embedding_looks_up_and_adds_up():
    layer = nn.Embedding(4, 2)
    x = np.array([[0, 3], [3, 3]])
    y = layer.forward(x)
    np.testing.assert_array_equal(y, layer.params["W"][x])
    assert layer.backward(np.ones_like(y)) is None
    np.testing.assert_array_equal(layer.gradients["W"], [[1, 1], [0, 0], [0, 0], [3, 3]])
    np.testing.assert_array_equal(layer.forward(x.astype(np.float64)), y)  # as a network hands them on


def test_a_network_by_hand_learns():
    """As the articles write it: forward, error, backward, update."""
    random = np.random.default_rng(0)
    x = random.normal(size=(64, 2))
    y = (x[:, 0] * x[:, 1] > 0).astype(int)
    layers, loss = [nn.Dense(16, init="xavier"), nn.Tanh(), nn.Dense(2)], nn.CrossEntropy()
    values = []
    for _ in range(200):
        out = x
        for k, layer in enumerate(layers):
            out = layer.forward(out, train=True, seed=k)
        values.append(loss.forward(out, y))
        dout = loss.backward()
        for layer in layers[::-1]:
            dout = layer.backward(dout)
            for name, g in layer.gradients.items():
                layer.params[name] -= 0.5 * g
    assert values[-1] < 0.15 < 0.5 < values[0]


class Swish(nn.Layer):
    """A layer as a user writes it: y = x sigmoid(k x), with one k a feature."""

    def initial(self, input_shape, rng):
        return {"k": np.ones(input_shape)}, {}

    def apply(self, params, x, state, *, train, noise=None):
        return x / (1.0 + np.exp(-params["k"] * x)), state


def test_a_layer_of_ones_own():
    layer, x = Swish(), np.random.default_rng(0).normal(size=(5, 3))
    y, k = layer.forward(x), np.ones(3)
    s = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(y, x * s)
    np.testing.assert_allclose(layer.backward(np.ones((5, 3))), s + x * s * (1 - s))
    np.testing.assert_allclose(layer.gradients["k"], (x * x * s * (1 - s)).sum(axis=0))
    assert repr(layer) == "Swish()"
    np.testing.assert_array_equal(layer.params["k"], k)


def test_the_hessian_of_a_whole_network_times_a_vector():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(6, 4)), random.integers(0, 3, 6)
    layers = {"0": nn.Dense(5), "1": nn.GELU(), "2": nn.LayerNorm(), "3": nn.Dense(3)}
    shape = (4,)
    for layer in layers.values():
        layer.build(shape, random)
        shape = layer.output_shape(shape)

    def loss(params):
        out = x
        for k, layer in layers.items():
            out, _ = layer.apply({name: params[f"{k}.{name}"] for name in layer.params}, out, {}, train=True)
        return nn.CrossEntropy()(out, y)

    params = {f"{k}.{name}": value for k, layer in layers.items() for name, value in layer.params.items()}
    v = {name: random.normal(size=value.shape) for name, value in params.items()}
    moved = [{name: params[name] + h * v[name] for name in params} for h in (1e-5, -1e-5)]
    above, below = (grad(loss)(p) for p in moved)
    product = hvp(loss)(params, v)
    for name in params:
        np.testing.assert_allclose(product[name], (above[name] - below[name]) / 2e-5, rtol=1e-5, atol=1e-8)


def test_forward_builds_from_the_seed_and_the_precision_of_x():
    x = np.ones((2, 3), np.float32)
    a, b, c = nn.Dense(4), nn.Dense(4), nn.Dense(4)
    assert a.forward(x).dtype == np.float32
    np.testing.assert_array_equal(a.forward(x), b.forward(x, seed=0))
    assert (c.forward(x, seed=1) != a.forward(x)).any()
    assert nn.Dense(4).forward([[1, 2, 3]]).dtype == np.float64
    assert a.forward(x.astype(np.float64)).dtype == np.float32  # built for it


@pytest.mark.parametrize("shape", [(60, 20), (20, 60), (8, 3, 3, 3), (5, 5)])
def test_initializers(shape):
    random = np.random.default_rng(0)
    fan_in, fan_out = 60, 20
    draw = {name: nn.initializers.initializer(name)(random, shape, fan_in, fan_out) for name in nn.initializers._NAMED}
    assert all(value.shape == shape for value in draw.values())
    assert not draw["zeros"].any()
    loose = 4 / np.sqrt(2 * np.prod(shape))  # four standard errors of a standard deviation
    expected = {"normal": 0.01, "xavier": np.sqrt(2 / 80), "xavier_normal": np.sqrt(2 / 80)}
    expected |= {"he": np.sqrt(2 / 60), "he_uniform": np.sqrt(2 / 60)}
    for name, std in expected.items():
        assert draw[name].std() == pytest.approx(std, rel=loose), name
    assert np.abs(draw["xavier"]).max() <= np.sqrt(6 / 80)
    assert nn.initializers.initializer("glorot") is nn.initializers.xavier
    q = draw["orthogonal"].reshape(shape[0], -1)
    q = q if q.shape[0] <= q.shape[1] else q.T
    np.testing.assert_allclose(q @ q.T, np.eye(len(q)), atol=1e-12)


def test_layers_hand_their_fans_to_the_initializer():
    seen = []

    def init(random, shape, fan_in, fan_out):
        seen.append((shape, fan_in, fan_out))
        return np.zeros(shape)

    nn.Dense(7, init=init).forward(np.ones((1, 5)))
    nn.Conv2D(4, (3, 2), init=init).forward(np.ones((1, 2, 5, 5)))
    assert seen == [((5, 7), 5, 7), ((4, 2, 3, 2), 12, 24)]


# --- what they refuse
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Dense(0), "units must be a whole number ≥ 1, got 0"),
        (lambda: nn.Dense(2.5), "units"),
        (lambda: nn.Dense(2, init=3), "init must be a name"),
        (
            lambda: nn.Dense(2, init=lambda *_: np.ones(3)).forward(np.ones((1, 4))),
            r"init must return finite numbers of shape \(4, 2\)",
        ),
        (
            lambda: nn.Conv2D(2, 3, init=lambda *_: "he").forward(np.ones((1, 1, 4, 4))),
            "init must return finite numbers",
        ),
        (lambda: nn.Conv2D(2, (1, 2, 3)), "kernel must be a whole number or a pair"),
        (lambda: nn.Conv2D(2, 3, stride=0), "stride must be a whole number ≥ 1"),
        (lambda: nn.Conv2D(2, 3, padding=-1), "padding must be a whole number ≥ 0"),
        (lambda: nn.Conv2D(2, 2, padding="same"), 'padding must be a number, a pair, or "same" with stride 1'),
        (lambda: nn.Conv2D(2, 3, stride=2, padding="same"), "stride 2×2"),
        (lambda: nn.MaxPool2D(0), "size must be"),
        (lambda: nn.Dropout(1.0), r"p must lie in \[0, 1\), got 1.0"),
        (lambda: nn.LeakyReLU(1.5), r"slope must lie in \[0, 1\)"),
        (lambda: nn.BatchNorm(momentum=2), r"momentum must lie in \[0, 1\]"),
        (lambda: nn.BatchNorm(eps=0), "eps must be a number > 0"),
        (lambda: nn.LayerNorm(0), "axes must be a whole number ≥ 1"),
        (lambda: nn.Embedding(3, 0), "size must be"),
        (lambda: nn.Dense(2).forward(np.ones(3)), "axis 0 must be the samples"),
        (lambda: nn.Dense(2).forward(np.ones((0, 3))), "x is empty"),
        (lambda: nn.Dense(2).forward([["a", "b"]]), "x is"),
        (lambda: nn.Dense(2).forward(np.ones((2, 3, 4, 5))), r"Dense\(2\) can't take images of shape \(3, 4, 5\)"),
        (lambda: nn.Conv2D(2, 3).forward(np.ones((2, 3))), r"Conv2D\(2, 3×3\) takes images of shape"),
        (lambda: nn.Conv2D(2, 5).forward(np.ones((2, 1, 3, 3))), r"a window of 5×5 does not fit into an image of 3×3"),
        (lambda: nn.MaxPool2D(4).forward(np.ones((2, 1, 3, 5))), r"MaxPool2D\(4×4\): a window of 4×4 does not fit"),
        (lambda: nn.BatchNorm().forward(np.ones((2, 3, 4))), r"BatchNorm\(\) takes samples of shape \(features,\)"),
        (lambda: nn.BatchNorm().forward(np.ones((1, 3)), train=True), "more than one value a feature"),
        (lambda: nn.LayerNorm(3).forward(np.ones((2, 3))), "at least 3 axes"),
        (lambda: nn.Embedding(3, 2).forward([[0, 3]]), r"x\[0, 1\] = 3, but indices are whole numbers 0 … 2"),
        (lambda: nn.Embedding(3, 2).forward([[-1]]), r"x\[0, 0\] = -1"),
        (lambda: nn.Embedding(3, 2).forward([[0.5]]), r"x\[0, 0\] = 0.5"),
        (lambda: nn.Dense(2).backward(np.ones((1, 2))), r"Dense\(2\): backward was called before forward"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(InputError, match=message):
        make()


W, B = np.arange(6.0).reshape(3, 2), np.array([1.0, -1.0])
K = np.arange(8.0).reshape(2, 1, 2, 2)
ROWS, IMAGE = np.arange(12.0).reshape(4, 3) / 7, np.arange(18.0).reshape(2, 1, 3, 3)


# What makes a layer with given weights, x, and what comes out.
GIVEN = {
    "Dense(W, b)": (lambda: nn.Dense(W, B), ROWS, ROWS @ W + B),
    "Dense(W)": (lambda: nn.Dense(W), ROWS, ROWS @ W),
    "Dense(lists)": (lambda: nn.Dense(W.tolist(), B.tolist()), ROWS, ROWS @ W + B),
    "Dense(W, bias=False)": (lambda: nn.Dense(W, bias=False), ROWS, ROWS @ W),
    "whole numbers": (lambda: nn.Dense(W.astype(int), B.astype(int)), ROWS, ROWS @ W + B),
    "float32": (lambda: nn.Dense(W.astype(np.float32), B.astype(np.float32)), ROWS, ROWS @ W + B),
    "set by name": (lambda: set_before(nn.Dense(2), W=W, b=B), ROWS, ROWS @ W + B),
    "one set": (lambda: set_before(nn.Dense(2), W=W), ROWS, ROWS @ W),
    "set at once": (lambda: set_at_once(nn.Dense(2), {"W": W, "b": B}), ROWS, ROWS @ W + B),
    "Conv2D(W, b)": (
        lambda: nn.Conv2D(K, B),
        IMAGE,
        np.stack(
            [(IMAGE[:, 0, i : i + 2, j : j + 2].reshape(2, 4) @ K.reshape(2, 4).T + B) for i in (0, 1) for j in (0, 1)],
            axis=-1,
        ).reshape(2, 2, 2, 2),
    ),
    "Embedding(W)": (lambda: nn.Embedding(W), np.array([[2, 0]]), W[[[2, 0]]]),
    "BatchNorm": (
        lambda: set_before(nn.BatchNorm(eps=1e-12), gamma=np.full(3, 2.0), beta=np.ones(3)),
        ROWS,
        2.0 * ROWS + 1.0,
    ),
}


def set_before(layer, **arrays):
    for name, array in arrays.items():
        layer.params[name] = array
    return layer


def set_at_once(layer, arrays):
    layer.params = arrays
    return layer


@pytest.mark.parametrize("case", GIVEN)
def test_weights_that_are_given_are_used(case):
    make, x, y = GIVEN[case]
    np.testing.assert_allclose(make().forward(x), y, rtol=1e-6)
    net = nn.Network([make()], nn.MSE(), dtype=np.float64)
    np.testing.assert_allclose(net.build(x.shape[1:]).outputs(x), y, rtol=1e-6)
    copied = copy.deepcopy(make())
    np.testing.assert_allclose(copied.forward(x), y, rtol=1e-6)


def test_weights_are_set_at_any_time():
    layer = nn.Dense(2)
    layer.forward(ROWS)
    for set_now in (
        lambda: layer.params.update(W=W, b=B),
        lambda: set_at_once(layer, {"W": W, "b": B}),
        lambda: set_before(layer, W=W, b=B),
        lambda: layer.params.__ior__({"W": W, "b": B}),
    ):
        layer.params["W"] *= 0.0
        set_now()
        np.testing.assert_array_equal(layer.forward(ROWS), ROWS @ W + B)
    again = pickle.loads(pickle.dumps(layer))
    again.params["W"] = 2 * W
    np.testing.assert_array_equal(again.forward(ROWS), ROWS @ (2 * W) + B)
    np.testing.assert_array_equal(layer.params["W"], W)


def test_a_layer_alone_has_the_very_arrays_and_a_network_copies():
    weights = W.copy()
    layer = nn.Dense(weights, B)
    layer.forward(ROWS)
    weights *= 2.0  # as the articles' own loop does
    np.testing.assert_array_equal(layer.forward(ROWS), ROWS @ (2 * W) + B)
    net = nn.Network([nn.Dense(weights, B)], nn.MSE(), dtype=np.float64)
    net.fit(ROWS, ROWS[:, :2], "sgd", epochs=1)
    np.testing.assert_array_equal(weights, 2 * W)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Dense(2, B), r"b goes with weights, Dense\(W, b\)"),
        (lambda: nn.Dense(W, B, bias=False), "bias=False leaves b out, but b was given"),
        (lambda: nn.Dense(B), r"W must have the form \(inputs, units\), got shape \(2,\)"),
        (lambda: nn.Conv2D(W), r"W must have the form \(filters, channels, height, width\), got shape \(3, 2\)"),
        (
            lambda: nn.Dense(W.T, np.ones(3)).forward(ROWS),
            r"W was given with shape \(2, 3\), but it must have \(3, 3\)",
        ),
        (lambda: nn.Dense(W, np.ones(3)).forward(ROWS), r"b was given with shape \(3,\), but it must have \(2,\)"),
        (lambda: set_before(nn.Dense(2), W=W.T).forward(ROWS), r"it must have \(3, 2\); give its transpose, .T"),
        (
            lambda: set_before(nn.Dense(2), w=W).forward(ROWS),
            r"Dense\(2\): there is no 'w' among its arrays \('W', 'b'\)",
        ),
        (lambda: set_before(nn.Dense(2), W=W * np.nan).forward(ROWS), r"W must be finite in float64, but .*W\[0, 0\]"),
        (lambda: set_before(nn.ReLU(), W=W).forward(ROWS), r"ReLU\(\): there is no 'W' among its arrays \(none\)"),
        (lambda: set_before(prepared(nn.Dense(2), (4, 3))[0], w=W), "there is no 'w' among the weights 'W', 'b'"),
        (lambda: set_before(prepared(nn.Dense(2), (4, 3))[0], W=B), r"W was given with shape \(2,\)"),
        (lambda: set_at_once(prepared(nn.Dense(2), (4, 3))[0], {"W": W}), "'b' is missing"),
        (lambda: prepared(nn.Dense(2), (4, 3))[0].params.pop("W"), "can't be taken away"),
    ],
)
def test_weights_that_do_not_fit_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_refusals_after_the_first_call():
    layer = nn.Dense(2)
    layer.forward(np.ones((4, 3)))
    with pytest.raises(InputError, match=r"Dense\(2\) was built for samples of shape \(3,\), got \(5,\)"):
        layer.forward(np.ones((4, 5)))
    with pytest.raises(InputError, match=r"dout has shape \(4, 3\), but the output has \(4, 2\)"):
        layer.backward(np.ones((4, 3)))
    with pytest.raises(UnknownNameError, match="did you mean 'xavier'"):
        nn.Dense(2, init="xavir")


MADE = [
    *(layer for layer, _ in LAYERS.values()),
    *(nn.MSE(), nn.MAE(), nn.Huber(), nn.BinaryCrossEntropy(), nn.CrossEntropy(class_weight=[1.0, 2.0])),
]
NONSENSE = [-1, 2.5, math.nan, "x", None]


@pytest.mark.parametrize("thing", MADE, ids=repr)
def test_settings_are_checked_wherever_they_are_set(thing):
    """Nothing is kept that its making would refuse, and nothing is set without effect."""
    thing = copy.deepcopy(thing)
    kind = type(thing)
    before = dict(vars(thing))
    given = {name: value for name, value in before.items() if name in kind.settings}
    assert given.keys() == kind.settings
    for name in kind.settings:
        for value in NONSENSE:
            try:
                kind(**given | {name: value})
            except InputError as error:
                with pytest.raises(InputError, match=re.escape(str(error))):
                    setattr(thing, name, value)
                assert vars(thing)[name] is given[name]
        with pytest.raises(InputError):
            setattr(thing, name, object())
    for name in ("rate", "unit", "momentums"):
        with pytest.raises(UnknownNameError, match=name):
            setattr(thing, name, 0.5)
    assert vars(thing).keys() == before.keys()
    assert all(vars(thing)[name] is value for name, value in before.items())


# (layer, shape of x, a setting that is changed, its value, whether the arrays and what follows allow it once built)
CHANGES = {
    "p": (nn.Dropout(0.3), (3, 4), "p", 0.5, True),
    "slope": (nn.LeakyReLU(0.1), (3, 4), "slope", np.float32(0.25), True),
    "approximate": (nn.GELU(), (3, 4), "approximate", True, True),
    "momentum": (nn.BatchNorm(), (3, 4), "momentum", 1, True),
    "eps": (nn.LayerNorm(), (3, 4), "eps", 0.5, True),
    "init": (nn.Dense(3), (3, 4), "init", "zeros", True),
    "same units": (nn.Dense(3), (3, 4), "units", 3, True),
    "units": (nn.Dense(3), (3, 4), "units", 5, False),
    "bias": (nn.Dense(3), (3, 4), "bias", False, False),
    "filters": (nn.Conv2D(2, 3), (1, 1, 4, 4), "filters", 4, False),
    "padding": (nn.Conv2D(2, 3), (1, 1, 4, 4), "padding", 1, False),
    "size": (nn.MaxPool2D(2), (1, 1, 4, 4), "size", 4, False),
    "axes": (nn.LayerNorm(2), (2, 3, 4), "axes", 1, False),
    "count": (nn.Embedding(6, 3), (4,), "count", 7, False),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_setting_that_is_changed_is_that_of_another_layer_made_with_it(case):
    layer, shape, name, value, allowed = CHANGES[case]
    x = np.arange(np.prod(shape)).reshape(shape) % 5 if layer.takes_integers else np.random.default_rng(1).random(shape)
    early, late = copy.deepcopy(layer), copy.deepcopy(layer)
    setattr(early, name, value)
    given = {each: vars(layer)[each] for each in type(layer).settings} | {name: value}
    made = type(layer)(**given)
    assert (repr(early), vars(early)[name]) == (repr(made), vars(made)[name])
    for train in (False, True):
        y = early.forward(x, train=train, seed=2)
        np.testing.assert_array_equal(y, made.forward(x, train=train, seed=2))
    late.forward(x)
    if not allowed:
        with pytest.raises(InputError, match=f"{name} can't be changed any more; make another one"):
            setattr(late, name, value)
        assert vars(late)[name] == vars(layer)[name]
        return
    setattr(late, name, value)
    if name != "init":
        np.testing.assert_array_equal(late.forward(x, train=True, seed=2).shape, y.shape)
    assert vars(late)[name] == vars(made)[name]


def test_what_may_be_set_of_a_layer():
    class Scaled(nn.Dropout):
        def __init__(self):
            super().__init__(0.3)
            self.factor = 2.0

    layer = Scaled()
    layer.factor, layer.name, layer.p = 3.0, "Mine", 0.4
    assert (layer.factor, layer.name, layer.p) == (3.0, "Mine", 0.4)
    with pytest.raises(InputError, match="p must lie in"):
        layer.p = 1.4
    dense = nn.Dense(2)
    for name in ("W", "b"):
        with pytest.raises(InputError, match=rf"layer.params\['{name}'\] = array"):
            setattr(dense, name, np.ones(2))
    dense.params = {"W": np.ones((3, 2)), "b": np.zeros(2)}
    np.testing.assert_array_equal(copy.deepcopy(dense).forward(np.ones((1, 3))), [[3.0, 3.0]])


def test_layers_leave_what_they_were_given():
    x = np.random.default_rng(0).normal(size=(3, 2, 5, 4))
    kept = x.copy()
    for layer in (nn.ReLU(), nn.Dropout(), nn.BatchNorm(), nn.Conv2D(2, 3), nn.MaxPool2D(), nn.Layer()):
        y = layer.forward(x, train=True)
        layer.backward(np.ones(y.shape))
        np.testing.assert_array_equal(x, kept)


def test_the_rows_of_layers_are_in_the_table():
    assert {"sigmoid", "softplus", "relu", "largest", "normal_cdf", "windows", "window_max"} <= set(OPS)
