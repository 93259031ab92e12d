"""Networks: building, what they compute, training, early stopping, resuming, bad data, files; `fit` for functions."""

import copy
import functools
import gc
import io
import itertools
import json
import linecache
import math
import pickle
import re
import sys
import tracemalloc
import types
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

import koubai as kb
from koubai import nn
from koubai.derivatives import paths
from koubai.descent import progress_bar, training_step
from koubai.descent import training as lane
from koubai.descent.batches import MappedRows
from koubai.errors import FallbackWarning, FunctionError, InputError, Interrupted
from koubai.execute import arrays
from koubai.nn.model import NetworkModel, program_cache


@pytest.fixture(autouse=True)
def _nothing_is_kept():
    """Every test traces and compiles for itself."""
    program_cache.clear()


@pytest.fixture(scope="module")
def toys():
    return nn.moons(200, noise=0.1, seed=3)


def small(seed=0, **options):
    return nn.Network([nn.Dense(8), nn.Tanh(), nn.Dense(2)], nn.CrossEntropy(), seed=seed, **options)


def regression(n=60, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    return X, X @ [1.0, -2.0, 0.5] + 2.0


# -- building ---------------------------------------------------------------------------------------------------------


def test_params_are_views_of_one_vector():
    net = small().build((3,))
    assert list(net.params) == ["0.W", "0.b", "2.W", "2.b"]
    assert net.vector.dtype == np.float32
    assert net.vector.shape == (3 * 8 + 8 + 8 * 2 + 2,)
    assert all(np.shares_memory(a, net.vector) for a in net.params.values())
    net.params["2.b"][:] = 7
    np.testing.assert_array_equal(net.vector[-2:], 7)
    assert net.layers[2].params["b"][0] == 7
    assert net.output_shapes == [(8,), (8,), (2,)]


WEIGHTS = {"0.W": np.arange(16.0).reshape(2, 8) / 10, "0.b": np.ones(8), "2.W": np.ones((8, 2)), "2.b": np.ones(2)}


def replaced(net, **arrays):
    for name, value in arrays.items():
        setattr(net, name, value)


def one_by_one(net, weights):
    for name, value in weights.items():
        net.params[name] = value


def by_layers(net, weights):
    for name, value in weights.items():
        net.layers[int(name[0])].params[name[2:]] = value


# What sets all the weights of a network.
SETTERS = {
    "one by one": one_by_one,
    "by layers": by_layers,
    "update": lambda net, weights: net.params.update(weights),
    "set_params": lambda net, weights: net.set_params(weights),
    "params": lambda net, weights: replaced(net, params=weights),
    "lists": lambda net, weights: net.set_params({name: value.tolist() for name, value in weights.items()}),
    "vector": lambda net, weights: replaced(net, vector=np.concatenate([w.ravel() for w in weights.values()])),
}


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("how", SETTERS)
def test_weights_that_are_set_are_trained(how, built, toys):
    X, y = toys
    net = small(dtype=np.float64)
    if built:
        net.fit(X, y, epochs=1)
    elif how == "vector":
        with pytest.raises(InputError, match="vector needs the weights"):
            SETTERS[how](net, WEIGHTS)
        return
    SETTERS[how](net, WEIGHTS)
    run = net.fit(X, y, kb.SGD(lr=1e-3), epochs=2)
    for name, value in WEIGHTS.items():
        np.testing.assert_array_equal(run.history.x[name][0], value)
        assert 0 < np.abs(net.params[name] - value).max() < 0.1
        assert np.shares_memory(net.params[name], net.vector)
        np.testing.assert_array_equal(net.layers[int(name[0])].params[name[2:]], net.params[name])
    hidden = np.tanh(X @ net.params["0.W"] + net.params["0.b"])
    np.testing.assert_allclose(net.outputs(X), hidden @ net.params["2.W"] + net.params["2.b"])
    np.testing.assert_allclose(net.layers[0].forward(X), X @ net.params["0.W"] + net.params["0.b"])


def test_the_loop_of_the_articles_trains_a_networks_own_arrays(toys):
    X, y = toys
    net = small(dtype=np.float64).build((2,))
    before, optimizer = net.loss(X, y), kb.SGD(lr=0.1)
    for _ in range(10):
        g = net.gradient(X, y)
        for name in net.params:
            net.params[name] -= 0.1 * g[name]
    first = net.loss(X, y)
    for _ in range(10):
        optimizer.update(net.params, net.gradient(X, y))
    assert before > first > net.loss(X, y)
    grads = kb.grad(lambda p: sum(np.sum(a**2) for a in p.values()))(net.params)
    np.testing.assert_allclose(grads["0.W"], 2 * net.params["0.W"])


@pytest.mark.parametrize("name", ["layers", "loss", "seed", "dtype", "l1", "l2"])
def test_settings_of_a_network_are_checked(name, toys):
    net = small()
    net.fit(*toys, epochs=1)
    for value in (-1, math.nan, "x", object()):
        with pytest.raises(InputError):
            setattr(net, name, value)
    value = {"layers": [nn.Dense(2)], "loss": nn.MSE(), "dtype": np.float64}.get(name)
    if value is not None:
        with pytest.raises(InputError, match=f"{name} can't be changed any more; make another one"):
            setattr(net, name, value)
    net.note = "an attribute of the user's own"
    again = small()
    again.fit(*toys, epochs=1)
    np.testing.assert_array_equal(again.vector, net.vector)
    assert copy.deepcopy(net).note == pickle.loads(pickle.dumps(net)).note == net.note


def test_what_on_epoch_changes_acts_or_is_refused(toys):
    def lower(epoch):
        net.layers[1].p = 0.0

    net, other = (nn.Network([nn.Dense(8), nn.Dropout(0.9), nn.Dense(2)], nn.CrossEntropy()) for _ in range(2))
    assert net.fit(*toys, epochs=3, on_epoch=lower).fun < other.fit(*toys, epochs=3).fun
    assert net.names[1] == "1 Dropout(0.0)"
    net = nn.Network([nn.Dense(8), nn.BatchNorm(), nn.Dense(2)], nn.CrossEntropy())
    for change in (
        lambda epoch: setattr(net.layers[1], "momentum", 0.5),
        lambda epoch: setattr(net, "l2", 0.1 / epoch.t),
    ):
        with pytest.raises(InputError, match="a training goes by those that it began with"):
            net.fit(*toys, epochs=3, on_epoch=change)


def test_weights_that_do_not_fit_a_network_are_refused(toys):
    X, y = toys
    net = small()
    kept = net.build((2,)).vector.copy()
    for weights, message in (
        ({"0.W": np.ones((8, 2))}, r"0.W was given with shape \(8, 2\), but it must have \(2, 8\); give its transpose"),
        ({"0.b": np.ones(8), "0.w": 1}, "there is no '0.w' among the weights '0.W', '0.b', '2.W', '2.b'"),
        ({"0.b": np.full(8, 1e300)}, r"0.b must be finite in float32, but 0.b\[0\] is not"),
        ([np.ones(8)], "params must be a dict of arrays by name"),
    ):
        with pytest.raises(InputError, match=message):
            net.set_params(weights)
        np.testing.assert_array_equal(net.vector, kept)
    for name, message in (("W", "there is no 'W' among the weights: give"), ("7.W", "no '7.W'"), ("1.W", "no 'W'")):
        with pytest.raises(InputError, match=message):
            small().set_params({name: np.ones((2, 8))}).fit(X, y)


def test_weights_that_are_set_between_epochs_are_trained_on(toys):
    X, y = toys
    net, mask = small(), np.arange(16).reshape(2, 8) % 3 > 0

    def prune(epoch):
        net.params["0.W"] = net.params["0.W"] * mask

    net.fit(X, y, kb.SGD(lr=1e-14), epochs=3, on_epoch=prune)
    np.testing.assert_array_equal(net.params["0.W"] == 0, ~mask)


def test_the_seed_makes_the_weights():
    a, b, c = small(0).build((3,)), small(0).build((3,)), small(1).build((3,))
    np.testing.assert_array_equal(a.vector, b.vector)
    assert not np.array_equal(a.vector, c.vector)


def test_summary_is_a_table_of_shapes_and_counts():
    net = nn.Network([nn.Conv2D(4, 3), nn.ReLU(), nn.Flatten(), nn.Dense(10)], nn.CrossEntropy()).build((1, 8, 8))
    text = net.summary()
    assert "0 Conv2D(4, 3×3)" in text
    assert "4×6×6" in text
    assert f"{4 * 9 + 4 + 144 * 10 + 10:,}" in text.splitlines()[-1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Network([], nn.MSE()), "empty"),
        (lambda: nn.Network([nn.Dense], nn.MSE()), r"layers\[0\].*write Dense\(\)"),
        (lambda: nn.Network([nn.Dense(2)], nn.MSE), r"loss.*write MSE\(\)"),
        (lambda: nn.Network([nn.Dense(2)], "mse"), "loss must be a Loss"),
        (lambda: nn.Network([nn.Dense(2)], nn.MSE(), seed=-1), "seed"),
        (lambda: nn.Network([nn.Dense(2)], nn.MSE(), dtype=np.int32), "float32 or float64"),
        (lambda: nn.Network([nn.Dense(2)], nn.MSE(), dtype="double precision"), "float32 or float64"),
        (lambda: nn.Network(nn.Dense(2), nn.MSE()), r"list of Layer objects; got Dense\(2\)"),
        (lambda: nn.Network("64,relu,10", nn.MSE()), "parse_layers"),
        (lambda: small().build(2), "input_shape must be the shape of one sample"),
        (lambda: small().build((0,)), "whole numbers ≥ 1"),
        (lambda: small().build((-2,)), "whole numbers ≥ 1"),
        (lambda: small().build((2.5,)), "whole numbers ≥ 1"),
        (lambda: nn.Network([nn.Dense(2)], nn.MSE(), l2=-0.1), "l2"),
        (lambda: nn.Network([d := nn.Dense(2), d], nn.MSE()), "twice"),
        (lambda: nn.Network([nn.ReLU()], nn.MSE()).build((3,)), "no parameters"),
        (lambda: nn.Network([nn.Dense(3), nn.Softmax()], nn.CrossEntropy()), "leave the last layer out"),
        (lambda: nn.Network([nn.Dense(1), nn.Sigmoid()], nn.BinaryCrossEntropy()), "leave the last layer out"),
        (lambda: nn.Network([nn.Dense(4), nn.Conv2D(2, 3)], nn.MSE()).build((3,)), r"layer 1.*Conv2D"),
        (
            lambda: nn.Network([nn.Conv2D(2, 3), nn.Dense(4)], nn.MSE()).build((1, 8, 8)),
            r"layer 1.*Dense\(4\).*Flatten",
        ),
        (lambda: nn.Network([nn.Conv2D(2, 9)], nn.MSE()).build((1, 8, 8)), "layer 0.*Conv2D"),
        (lambda: small().summary(), "needs the weights"),
        (lambda: small().predict(np.ones((2, 3))), "needs the weights"),
    ],
)
def test_what_cant_be_built_is_said(make, message):
    with pytest.raises(InputError, match=message):
        make()


# -- what it computes -------------------------------------------------------------------------------------------------


def test_outputs_are_the_formula():
    net = small(dtype=np.float64).build((3,))
    X = np.random.default_rng(0).normal(size=(5, 3))
    p = net.params
    hidden = np.tanh(X @ p["0.W"] + p["0.b"])
    outputs = hidden @ p["2.W"] + p["2.b"]
    np.testing.assert_allclose(net.outputs(X), outputs, rtol=1e-13)
    np.testing.assert_allclose(net(X), outputs, rtol=1e-13)
    np.testing.assert_array_equal(net.predict(X), outputs.argmax(axis=1))
    raised = np.exp(outputs)
    np.testing.assert_allclose(net.predict_proba(X), raised / raised.sum(axis=1, keepdims=True), rtol=1e-12)
    found = net.activations(X)
    assert list(found) == ["0 Dense(8)", "1 Tanh()", "2 Dense(2)"]
    np.testing.assert_allclose(found["1 Tanh()"], hidden, rtol=1e-13)
    y = np.array([0, 1, 1, 0, 1])
    losses = -np.log((raised / raised.sum(axis=1, keepdims=True))[np.arange(5), y])
    assert net.loss(X, y) == pytest.approx(losses.mean(), rel=1e-12)
    w = np.array([1.0, 2, 0, 1, 4])
    assert net.loss(X, y, w) == pytest.approx((w * losses).sum() / w.sum(), rel=1e-6)
    evaluation = net.evaluate(X, y)
    assert evaluation.accuracy == net.score(X, y) == np.mean(outputs.argmax(axis=1) == y)
    assert evaluation.samples == 5


def test_score_of_numbers_is_r2():
    X, y = regression()
    net = nn.Network([nn.Dense(1)], nn.MSE(), dtype=np.float64).build((3,))
    out = net.outputs(X)[:, 0]
    assert net.score(X, y) == pytest.approx(1 - np.sum((y - out) ** 2) / np.sum((y - y.mean()) ** 2))
    assert net.evaluate(X, y).accuracy is None
    with pytest.raises(InputError, match="no classes"):
        net.predict_proba(X)


def test_a_large_input_is_put_through_in_chunks():
    net = small().build((3,))
    X = np.random.default_rng(0).normal(size=(2500, 3))
    whole = net.outputs(X)
    assert whole.shape == (2500, 2)
    np.testing.assert_array_equal(whole[2048:], net.outputs(X[2048:]))
    y = np.arange(2500) % 2
    assert net.evaluate(X, y).accuracy == np.mean(whole.argmax(axis=1) == y)


def test_gradient_and_penalties():
    net = small(dtype=np.float64, l1=0.01, l2=0.1).build((3,))
    X, y = np.random.default_rng(0).normal(size=(6, 3)), np.arange(6) % 2
    g = net.gradient(X, y)
    h = 1e-6
    for name in net.params:
        i = tuple(n // 2 for n in net.params[name].shape)
        before = net.params[name][i]
        values = []
        for sign in (1, -1):
            net.params[name][i] = before + sign * h
            values.append(net.loss(X, y))
        net.params[name][i] = before
        assert g[name][i] == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-5, abs=1e-9)
    plain = small(dtype=np.float64).build((3,))
    squares = sum(np.sum(net.params[k] ** 2) for k in ("0.W", "2.W"))
    sizes = sum(np.sum(np.abs(net.params[k])) for k in ("0.W", "2.W"))
    assert net.loss(X, y) == pytest.approx(plain.loss(X, y) + 0.01 * sizes + 0.1 * squares)


NETWORKS = {
    "dense": lambda: (nn.Network([nn.Dense(5), nn.Sigmoid(), nn.Dense(3)], nn.CrossEntropy()), (4,), 3),
    "regression": lambda: (nn.Network([nn.Dense(5), nn.GELU(), nn.Dense(1)], nn.MSE(), l2=0.01), (4,), 0),
    "cnn": lambda: (
        nn.Network(
            [nn.Conv2D(3, 3, padding=1), nn.BatchNorm(), nn.ReLU(), nn.MaxPool2D(2), nn.Flatten(), nn.Dense(3)],
            nn.CrossEntropy(label_smoothing=0.1),
        ),
        (1, 6, 6),
        3,
    ),
    "yes or no": lambda: (nn.Network([nn.LayerNorm(), nn.Dense(1)], nn.BinaryCrossEntropy()), (4,), 2),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_backprop_agrees_with_differences(name):
    net, shape, classes = NETWORKS[name]()
    net.build(shape)
    rng = np.random.default_rng(1)
    X = rng.normal(size=(3, *shape))
    y = rng.integers(0, classes, 3) if classes else rng.normal(size=3)
    check = net.check_gradient(X, y)
    assert check.ok
    assert check.size == net.layout.size


def test_check_gradient_names_layer_and_index(monkeypatch):
    net = small().build((3,))
    X, y = np.ones((2, 3)), np.array([0, 1])
    real = kb.nn.network.Differentiated

    class Wrong(real):
        def __call__(self, *args):
            value, g = super().__call__(*args)
            g["2.W"][3, 1] += 0.01
            return value, g

    monkeypatch.setattr(kb.nn.network, "Differentiated", Wrong)
    check = net.check_gradient(X, y)
    assert [one.label for one in check.wrong] == ["2.W[3, 1]"]


# -- training ---------------------------------------------------------------------------------------------------------


def test_training_is_the_plain_loop_of_the_articles(toys):
    """Forward, loss, backward, update by hand in NumPy, in the same order of samples: the same numbers."""
    X, y = toys
    net = small(dtype=np.float64)
    net.build((2,))
    W1, b1, W2, b2 = (net.params[k].copy() for k in ("0.W", "0.b", "2.W", "2.b"))
    velocity = [np.zeros_like(a) for a in (W1, b1, W2, b2)]
    losses = []
    for epoch in range(3):
        for xs, ys in nn.batches(X, y, size=32, seed=0).epoch(epoch):
            h = np.tanh(xs @ W1 + b1)
            out = h @ W2 + b2
            p = np.exp(out - out.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            losses.append(-np.log(p[np.arange(len(ys)), ys]).mean())
            p[np.arange(len(ys)), ys] -= 1
            dout = p / len(ys)
            dh = (dout @ W2.T) * (1 - h**2)
            grads = [xs.T @ dh, dh.sum(axis=0), h.T @ dout, dout.sum(axis=0)]
            for w, v, g in zip((W1, b1, W2, b2), velocity, grads, strict=True):
                v[...] = 0.9 * v + g
                w -= 0.1 * v
    run = net.fit(X, y, kb.SGD(lr=0.1, momentum=0.9), epochs=3, batch_size=32)
    np.testing.assert_allclose(run.history.fun[:-1], losses, rtol=1e-10)
    np.testing.assert_allclose(net.params["0.W"], W1, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(net.params["2.b"], b2, rtol=1e-9, atol=1e-12)


def test_the_run_tells_the_epochs(toys):
    X, y = toys
    net = small()
    told = []
    run = net.fit(X, y, kb.Adam(lr=0.02), epochs=6, batch_size=32, validation=(X[:50], y[:50]), on_epoch=told.append)
    epochs = run.history.epochs
    assert run.nit == 6 * 7
    assert run.status is kb.Status.finished
    assert run.success
    assert run.message == "all 6 epochs are over: 42 steps"
    assert run.gradient_source == "backprop"
    np.testing.assert_array_equal(epochs.t, np.arange(1, 7) * 7)
    assert epochs.layers == ("0 Dense(8)", "2 Dense(2)")
    assert epochs.layer_grad_norm.shape == epochs.layer_update_ratio.shape == (6, 2)
    assert (epochs.layer_grad_norm > 0).all()
    assert ((epochs.layer_update_ratio > 1e-4) & (epochs.layer_update_ratio < 1)).all()
    for name in ("fun", "accuracy", "validation_fun", "validation_accuracy", "lr", "noise", "grad_norm"):
        assert getattr(epochs, name).shape == (6,)
    assert epochs.fun[-1] < 0.7 * epochs.fun[0]
    assert [e.number for e in told] == [1, 2, 3, 4, 5, 6]
    assert told[-1].fun == epochs.fun[-1]
    assert told[2].validation_accuracy == epochs.validation_accuracy[2]
    last = net.evaluate(X[:50], y[:50])
    assert (last.loss, last.accuracy) == (epochs.validation_fun[-1], epochs.validation_accuracy[-1])
    for name, value in net.params.items():
        np.testing.assert_array_equal(run.x[name], value)
    assert run.fun == pytest.approx(net.loss(X, y), rel=1e-5)
    assert run.function is net
    # an epoch's loss is the mean of its steps', every sample with the same weight
    sizes = np.array([32] * 6 + [8])
    assert epochs.fun[0] == pytest.approx((run.history.fun[:7] * sizes).sum() / 200, rel=1e-6)


def test_layer_gradients_are_those_of_the_batch(toys):
    X, y = toys
    net = small(dtype=np.float64).build((2,))
    g = net.gradient(X, y)
    expected = [math.sqrt(sum(np.sum(g[f"{i}.{n}"] ** 2) for n in "Wb")) for i in (0, 2)]
    before = net.vector.copy()
    epochs = net.fit(X, y, kb.SGD(lr=0.1), epochs=1, batch_size=len(X)).history.epochs
    np.testing.assert_allclose(epochs.layer_grad_norm[0], expected, rtol=1e-10)
    sizes = [np.linalg.norm(before[:24]), np.linalg.norm(before[24:])]
    np.testing.assert_allclose(epochs.layer_update_ratio[0], 0.1 * np.array(expected) / sizes, rtol=1e-10)


def everything_on(seed=0):
    return nn.Network(
        [nn.Dense(16), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.2), nn.Dense(2)], nn.CrossEntropy(), seed=seed, l2=1e-4
    )


def test_same_seed_same_bits(toys):
    X, y = toys
    runs, nets = [], []
    for _ in range(2):
        nets.append(everything_on())
        runs.append(nets[-1].fit(X, y, "adam", epochs=4, batch_size=32, validation=0.2))
    np.testing.assert_array_equal(runs[0].history.fun, runs[1].history.fun)
    np.testing.assert_array_equal(nets[0].vector, nets[1].vector)
    np.testing.assert_array_equal(nets[0].carried, nets[1].carried)
    other = everything_on(seed=1).fit(X, y, "adam", epochs=4, batch_size=32)
    assert not np.array_equal(other.history.fun[:5], runs[0].history.fun[:5])


def test_fit_goes_on_from_where_the_network_stands(toys):
    X, y = toys
    net = small()
    first = net.fit(X, y, "adam", epochs=3)
    second = net.fit(X, y, "adam", epochs=3)
    assert second.history.epochs.fun[0] < first.history.epochs.fun[0]
    np.testing.assert_array_equal(second.history.x["0.W"][0], first.x["0.W"])


@pytest.mark.sampled(7)
@pytest.mark.parametrize("in_machine_code", [False, True], ids=["numpy", "machine code"])
@pytest.mark.parametrize(
    "name", [n for n in kb.optimizers.names() if "evaluate" not in kb.descent.optimizers.resolve(n).rule.uses]
)
def test_every_rule_trains_as_it_updates_alone(name, in_machine_code, toys, monkeypatch):
    """The rule inside the step's graph makes the bits of the optimizer object's own update; machine code all but."""
    X, y = toys
    monkeypatch.setattr(training_step, "FUSED", 0 if in_machine_code else 10**9)
    optimizer = kb.descent.optimizers.resolve(name)
    dtype = np.float64 if in_machine_code else np.float32
    net = small(dtype=dtype)
    net.build((2,))
    x, layout = net.vector.copy(), net.layout
    state = optimizer.init(x, layout)
    batches = [batch for epoch in range(2) for batch in nn.batches(X, y, size=64, seed=0).epoch(epoch)]
    run = net.fit(X, y, optimizer, epochs=2, batch_size=64)
    model = NetworkModel(small(dtype=dtype).build((2,)), None, None)
    gradient = kb.value_and_grad(lambda params, X, y: model.loss(params, X, y)[0])
    for t, (xs, ys) in enumerate(batches):
        fun, g = gradient(layout.view(x), xs.astype(dtype), ys)
        assert run.history.fun[t] == pytest.approx(float(fun), rel=1e-9 if in_machine_code else 0)
        with np.errstate(all="ignore"):
            x, state = optimizer.step(
                x, layout.match(g, "g"), state, t + 1, optimizer.lr_at(t), fun=float(fun), layout=layout
            )
    if in_machine_code:
        np.testing.assert_allclose(net.vector, x, rtol=1e-7, atol=1e-10)
    elif name == "muon":  # products of matrices: BLAS's order of summing depends on how they lie in memory
        np.testing.assert_allclose(net.vector, x, rtol=1e-5, atol=1e-7)
    else:
        np.testing.assert_array_equal(net.vector, x)


@pytest.mark.parametrize("in_machine_code", [False, True], ids=["numpy", "machine code"])
@pytest.mark.parametrize("name", ["sgd", "adamw", "nadam", "lamb", "dog", "asgd"])
def test_groups_train_as_they_update_alone(name, in_machine_code, toys, monkeypatch):
    """The first layer is frozen, biases do not decay, the last layer has a rate of its own."""
    X, y = toys
    monkeypatch.setattr(training_step, "FUSED", 0 if in_machine_code else 10**9)
    known = kb.descent.optimizers.resolve(name).hyperparameters
    decay = {"weight_decay": 0.1} if "weight_decay" in known else {}
    bias = dict.fromkeys(decay, 0)
    lr = kb.schedules.step(0.05, 3, gamma=0.5)
    groups = {"*.b": bias or {"lr": 0.02}, "0.*": {"lr": 0}, "4.W": {"lr": 0.01}}
    optimizer = kb.descent.optimizers.resolve(name, lr=lr, groups=groups, **decay)
    layers = lambda: [nn.Dense(5), nn.Tanh(), nn.Dense(4), nn.Tanh(), nn.Dense(2)]  # noqa: E731
    net, plain = (nn.Network(layers(), nn.CrossEntropy(), dtype=np.float64).build((2,)) for _ in range(2))
    first = net.params["0.W"].copy()
    run = net.fit(X, y, optimizer, epochs=2, batch_size=64)
    alone = copy.deepcopy(optimizer)
    for epoch in range(2):
        for x, labels in nn.batches(X, y, size=64, seed=0).epoch(epoch):
            alone.update(plain.params, plain.gradient(x, labels))
    np.testing.assert_array_equal(net.params["0.W"], first)
    np.testing.assert_allclose(net.vector, plain.vector, rtol=1e-9)
    assert run.success
    clipped = kb.descent.optimizers.resolve(name, lr=0.01, groups=groups, clipnorm=1e-3)
    assert net.fit(X, y, clipped, epochs=1).history.clipped.all()


def test_clipping_and_schedules_train_too(toys):
    X, y = toys
    lr = kb.schedules.cosine(0.1, 40)
    run = small().fit(X, y, kb.SGD(lr=lr, momentum=0.9, clipnorm=0.05), epochs=3, batch_size=16)
    assert run.history.clipped.any()
    np.testing.assert_allclose(run.history.lr, [lr(t) for t in run.history.t])
    valued = small().fit(X, y, kb.Adam(lr=0.01, clipvalue=0.01), epochs=2)
    assert valued.history.clipped.any()
    free = small().fit(X, y, kb.SGD(lr=0.1, clipnorm=1e9), epochs=1)
    assert not free.history.clipped.any()


def test_a_plateau_looks_at_epochs(toys):
    X, y = toys
    lr = kb.schedules.plateau(0.1, gamma=0.5, patience=1, threshold=0.9)
    run = small().fit(X, y, kb.SGD(lr=lr), epochs=8, batch_size=100, validation=0.25)
    rates = run.history.epochs.lr
    assert rates[0] == 0.1
    assert rates[-1] < 0.1
    assert all(rates[i] in (rates[i - 1], rates[i - 1] / 2) for i in range(1, 8))


def test_line_searches_are_refused(toys):
    with pytest.raises(InputError, match="mini-batches do not give"):
        small().fit(*toys, kb.LBFGS())


def test_early_stopping_brings_back_the_best_weights(toys):
    X, _ = toys
    net = small()
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 2, 40)
    run = net.fit(X[:20], noise[:20], kb.Adam(lr=0.1), epochs=200, validation=(X[20:40], noise[20:40]), patience=5)
    epochs = run.history.epochs
    best = int(np.argmin(epochs.validation_fun))
    assert len(epochs) == best + 1 + 5
    assert run.status is kb.Status.finished
    assert "has not fallen" in run.message
    assert run.best_fun == epochs.validation_fun[best] == net.evaluate(X[20:40], noise[20:40]).loss
    for name in net.params:
        np.testing.assert_array_equal(net.params[name], run.best_x[name])
    kept = small()
    again = kept.fit(
        X[:20], noise[:20], kb.Adam(lr=0.1), epochs=200, validation=(X[20:40], noise[20:40]), patience=5,
        restore_best=False,
    )  # fmt: skip
    np.testing.assert_array_equal(kept.params["0.W"], again.x["0.W"])
    assert not np.array_equal(again.x["0.W"], again.best_x["0.W"])


@pytest.mark.parametrize(
    ("case", "lr", "options"),
    [
        ("falls", 0.1, {}),
        ("rises", 30.0, {"patience": 3}),
        ("rises and falls", 3.0, {}),
        ("batch size 1", 0.5, {"batch_size": 1, "epochs": 2}),
        ("penalty", 0.1, {}),
        ("statistics and noise", 0.3, {}),
        ("diverges", 1e5, {}),
        ("no epoch", 0.1, {"epochs": 0}),
    ],
)
def test_the_best_loss_is_that_of_the_best_point(case, lr, options, toys):
    """Along an epoch the loss is that of other weights than those at its end; and the start counts."""
    X, y = toys
    net = everything_on() if case == "statistics and noise" else small(dtype=np.float64, l2=0.1 * (case == "penalty"))
    net.build((2,))
    begun = net.loss(X, y)
    run = net.fit(X, y, kb.SGD(lr=lr), restore_best=True, **{"epochs": 8} | options)
    assert run.best_fun == pytest.approx(net.loss(X, y), rel=1e-6)
    for name, value in net.params.items():
        np.testing.assert_array_equal(value, run.best_x[name])
    assert run.best_fun <= run.fun * (1 + 1e-6)
    assert run.best_fun <= begun * (1 + 1e-6)
    if case == "rises":
        np.testing.assert_array_equal(run.best_x["0.W"], run.history.x["0.W"][0])


@pytest.mark.parametrize("lr", [0.05, 0.9, 3.0])
def test_the_best_loss_of_a_function_is_that_of_the_best_point(lr):
    X, y = regression(50)
    start = {"w": np.array([1.0, -2.0, 0.5]), "b": 1.9}

    def loss(p, X, y):
        return np.mean((X @ p["w"] + p["b"] - y) ** 2)

    run = kb.fit(loss, start, (X, y), kb.SGD(lr=lr), epochs=3, batch_size=7)
    same = kb.minimize(loss, start, kb.SGD(lr=lr), batches=nn.batches(X, y, size=7), max_steps=run.nit, gtol=0)
    for found in (run, same):
        assert found.best_fun == pytest.approx(loss(found.best_x, X, y), rel=1e-9)
        assert found.best_fun <= min(loss(start, X, y), found.fun) * (1 + 1e-9)


# (min_delta, patience, validation losses by the epoch after the start's, epochs made, the best one; 0 is the start)
STOPS = [
    (0.0, 2, [5.0, 4.0, 3.0, 3.0, 3.5, 1.0], 5, 3),
    (0.1, 2, [5.0, 4.0, 3.95, 3.92, 1.0], 4, 2),  # falls that don't count move nothing
    (0.1, 2, [5.0, 4.0, 3.95, 3.85, 3.84, 3.83, 1.0], 6, 4),  # but add up
    (0.1, 2, [12.0, 11.0, 11.0, 11.0, 1.0], 4, 0),  # the start was better than all of them
    (0.0, 1, [12.0, 11.0, 9.0, 9.5, 1.0], 4, 3),
    (0.0, 3, [np.nan, np.nan, np.nan, 1.0], 3, 0),
]


@pytest.mark.parametrize(("min_delta", "patience", "losses", "made", "best"), STOPS)
def test_only_a_fall_by_min_delta_counts(min_delta, patience, losses, made, best, toys, monkeypatch):
    X, y = toys
    told = iter([10.0, *losses])
    monkeypatch.setattr(NetworkModel, "validate", lambda self, params, carried: (next(told), None))
    seen = []
    net = small()
    run = net.fit(
        X, y, "sgd", epochs=20, patience=patience, min_delta=min_delta, validation=(X, y),
        on_epoch=lambda epoch: seen.append(net.vector.copy()),
    )  # fmt: skip
    assert len(run.history.epochs) == made
    assert run.best_fun == [10.0, *losses][best]
    np.testing.assert_array_equal(net.vector, [small().build((2,)).vector, *seen][best])
    assert run.status is kb.Status.finished
    assert run.success


def test_target_and_gtol_are_asked_of_all_the_data(toys):
    X, y = toys
    run = small().fit(X, y, kb.Adam(lr=0.05), epochs=500, target=0.2)
    assert run.status is kb.Status.target_reached
    assert run.fun <= 0.2
    assert run.success
    X, y = regression()
    run = nn.Network([nn.Dense(1)], nn.MSE(), dtype=np.float64).fit(
        X, y, kb.SGD(lr=0.1), epochs=500, batch_size=60, gtol=1e-6
    )
    assert run.status is kb.Status.converged
    assert max(np.abs(a).max() for a in run.jac.values()) <= 1e-6


def test_on_epoch_can_stop(toys):
    run = small().fit(*toys, epochs=50, on_epoch=lambda epoch: epoch.number == 3)
    assert run.status is kb.Status.stopped
    assert "after epoch 3" in run.message
    assert len(run.history.epochs) == 3


def test_ctrl_c_leaves_the_last_good_weights(toys):
    X, y = toys
    net = small()

    def press(epoch):
        if epoch.number == 2:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        net.fit(X, y, epochs=5, on_epoch=press)
    run = caught.value.run
    assert run.status is kb.Status.stopped
    np.testing.assert_array_equal(net.params["0.W"], run.x["0.W"])


def test_sample_weights_weigh(toys):
    """A weight of 2 is the sample twice; a weight of 0 is the sample left out."""
    X, y = toys[0][:60], toys[1][:60]
    w = np.tile([1.0, 2.0, 0.0], 20)
    net = small(dtype=np.float64)
    weighted = net.fit(X, y, kb.SGD(lr=0.5), epochs=3, batch_size=60, sample_weight=w)
    rows = np.repeat(np.arange(60), w.astype(int))
    twice = small(dtype=np.float64)
    repeated = twice.fit(X[rows], y[rows], kb.SGD(lr=0.5), epochs=3, batch_size=len(rows))
    np.testing.assert_allclose(net.vector, twice.vector, rtol=1e-9)
    np.testing.assert_allclose(weighted.history.epochs.fun, repeated.history.epochs.fun, rtol=1e-9)
    assert weighted.fun == pytest.approx(repeated.fun, rel=1e-9)
    unweighted = small(dtype=np.float64).fit(X, y, kb.SGD(lr=1e-14), epochs=1, batch_size=60)
    still = small(dtype=np.float64).fit(X, y, kb.SGD(lr=1e-14), epochs=1, batch_size=7, sample_weight=w)
    np.testing.assert_array_equal(still.history.epochs.accuracy, unweighted.history.epochs.accuracy)
    assert still.history.epochs.fun[0] == pytest.approx(small(dtype=np.float64).build((2,)).loss(X, y, w))


FEW = np.arange(200) % 20 == 0  # 5 % of the samples
OWN = np.where(np.arange(200) % 3 == 0, 3.0, 0.5)


def weighted_mean(y, w):
    return np.sum(w * y) / np.sum(w)


# What weighs the samples, and the weight that each has then.
WEIGHED = {
    "balanced": ({"class_weight": "balanced"}, np.where(FEW, 10.0, 10 / 19)),
    "classes": ({"class_weight": {0: 1.0, 1: 7.0}}, np.where(FEW, 7.0, 1.0)),
    "samples": ({"sample_weight": OWN}, OWN),
    "large samples": ({"sample_weight": 1000 * OWN}, OWN),
    "both": ({"class_weight": {1: 7.0}, "sample_weight": OWN}, np.where(FEW, 7.0, 1.0) * OWN),
    "loss": ({}, np.where(FEW, 7.0, 1.0)),  # the loss has class weights of its own
    "loss and samples": ({"sample_weight": OWN}, np.where(FEW, 7.0, 1.0) * OWN),
    "batches": ({}, OWN),  # that come with their weights
}


@pytest.mark.sampled(25)
@pytest.mark.parametrize("size", [1, 32, 200])
@pytest.mark.parametrize("kind", ["two classes", "yes or no", "numbers"])
@pytest.mark.parametrize("case", WEIGHED)
def test_the_size_of_the_batches_does_not_move_the_weighted_optimum(case, kind, size):
    """With nothing to learn from, the best intercept is that of the weighted mean."""
    options, w = WEIGHED[case]
    own = {"class_weight": (1.0, 7.0)} if case.startswith("loss") else {}
    X, y = np.zeros((200, 1)), FEW.astype(np.int64)
    if kind == "numbers":
        if own or "class_weight" in options:
            return
        y = np.where(FEW, 4.0, 1.0) + np.arange(200) / 100
    loss = {"two classes": nn.CrossEntropy, "yes or no": nn.BinaryCrossEntropy, "numbers": nn.MSE}[kind](**own)
    net = nn.Network([nn.Dense(2 if kind == "two classes" else 1)], loss, dtype=np.float64)
    given = X, y
    if case == "batches":
        order = nn.batches(X, y, size)
        given = (lambda epoch: [(X[rows], y[rows], OWN[rows]) for rows in order.rows(epoch)], None)
        options = {}
    steps = -(-200 // size)
    epochs = 15 if size == 1 else max(40, 1500 // steps)
    lr = kb.schedules.cosine(0.4 if size > 4 else 0.05, steps=steps * epochs)
    net.fit(*given, kb.SGD(lr=lr), epochs=epochs, batch_size=size, record="off", **options)
    b = net.params["0.b"]
    mean = weighted_mean(y, w)
    best = mean if kind == "numbers" else np.log(mean / (1 - mean))
    assert (b[1] - b[0] if kind == "two classes" else b[0]) == pytest.approx(best, rel=0.03, abs=0.03)


# What is learned, what weighs the samples, and scikit-learn's words for both.
FITTED = {
    "classes, balanced": ("classes", {"class_weight": "balanced"}, {"class_weight": "balanced"}, {}),
    "classes, own": ("classes", {"class_weight": {0: 1.0, 1: 4.0}}, {"class_weight": {0: 1.0, 1: 4.0}}, {}),
    "samples": ("classes", {"sample_weight": 5 * OWN[:120]}, {}, {"sample_weight": OWN[:120]}),
    "numbers": ("numbers", {"sample_weight": 5 * OWN[:120]}, {}, {"sample_weight": OWN[:120]}),
}


@pytest.mark.sampled(15)
@pytest.mark.parametrize("optimizer", [kb.SGD, kb.Adam], ids=lambda optimizer: optimizer.__name__)
@pytest.mark.parametrize("size", [1, 4, 32, 120])
@pytest.mark.parametrize("case", FITTED)
def test_every_size_of_batches_ends_at_scikit_learns_weighted_optimum(case, size, optimizer):
    """With a rate that comes to rest: a constant one leaves each end somewhere in the noise of its last batches."""
    kind, options, settings, given = FITTED[case]
    rng = np.random.default_rng(1)
    X = rng.normal(size=(120, 2))
    if kind == "classes":
        y = (X @ [1.0, -1.0] - 1 + 1.5 * rng.logistic(size=120) > 0).astype(np.int64)
        peer, loss = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000, **settings), nn.BinaryCrossEntropy()
    else:
        y = X @ [1.0, -2.0] + 3 + OWN[:120]
        peer, loss = LinearRegression(**settings), nn.MSE()
    peer.fit(X, y, **given)
    best = np.append(np.ravel(peer.coef_), peer.intercept_)
    steps = -(-120 // size)
    epochs = max(20, 1500 // steps)
    start = {kb.SGD: {1: 0.05, 4: 0.1}.get(size, 0.3), kb.Adam: 0.05}[optimizer]
    net = nn.Network([nn.Dense(1)], loss, dtype=np.float64)
    schedule = kb.schedules.cosine(start, steps=steps * epochs)
    net.fit(X, y, optimizer(lr=schedule), epochs=epochs, batch_size=size, record="off", **options)
    scale = np.abs(best).max()
    unweighted = type(peer)(**{"C": np.inf} if kind == "classes" else {}).fit(X, y)
    assert np.abs(np.append(np.ravel(unweighted.coef_), unweighted.intercept_) - best).max() > 0.06 * scale
    np.testing.assert_allclose(np.append(net.params["0.W"], net.params["0.b"]), best, rtol=0, atol=0.03 * scale)


def test_the_mean_loss_of_many_samples_is_weighed_as_one_batch(toys):
    X, y = np.tile(toys[0], (15, 1)), np.sort(np.tile(toys[1], 15))
    for loss in (nn.CrossEntropy(class_weight=[1.0, 30.0]), nn.BinaryCrossEntropy(class_weight=[1.0, 30.0])):
        net = nn.Network([nn.Dense(2 if isinstance(loss, nn.CrossEntropy) else 1)], loss, dtype=np.float64).build((2,))
        w = np.linspace(0.0, 2.0, len(y))
        for weights in (None, w):
            assert net.loss(X, y, weights) == pytest.approx(float(loss(net.outputs(X), y, weights)))


def test_weights_come_with_every_batch_or_with_none(toys):
    X, y = toys
    with pytest.raises(InputError, match="batch 1 of epoch 0 has 3 parts, the first one 2"):
        small().fit(lambda epoch: [(X, y), (X, y, np.ones(200))])
    with pytest.raises(InputError, match="no sample has a weight above 0"):
        small().fit(lambda epoch: [(X, y, np.zeros(200))])


def test_a_batch_of_weightless_samples_teaches_nothing(toys):
    X, y = toys
    net = small()
    w = (np.arange(200) < 30).astype(float)
    run = net.fit(X, y, kb.SGD(lr=0.5), epochs=3, batch_size=5, sample_weight=w)
    assert run.success
    assert np.sum(run.history.fun == 0) > 30
    assert run.fun == pytest.approx(net.loss(X[:30], y[:30]), rel=1e-5)
    left_out = nn.Network([nn.Dense(2)], nn.CrossEntropy(class_weight=[1.0, 0.0]))
    assert left_out.fit(X, y, kb.SGD(lr=0.5), epochs=3, batch_size=2).success


def test_a_loss_with_class_weights_is_traced_once(toys):
    X, y = toys
    for loss in (nn.CrossEntropy(class_weight=[1.0, 3.0], label_smoothing=0.1), nn.CrossEntropy(class_weight=[1, 3])):
        run = nn.Network([nn.Dense(8), nn.Tanh(), nn.Dense(2)], loss).fit(X, y, epochs=10, batch_size=10)
        assert run.nfev - run.nit < 100  # what is not a step: tracing, and the check of the gradient


def test_balanced_classes_weigh_the_same():
    rng = np.random.default_rng(0)
    y = (np.arange(200) < 10).astype(np.int64)
    X = rng.normal(size=(200, 2)) + 1.5 * y[:, None]
    recall = {}
    for class_weight in (None, "balanced", {0: 1.0, 1: 19.0}):
        net = nn.Network([nn.Dense(2)], nn.CrossEntropy(), dtype=np.float64)
        net.fit(X, y, kb.SGD(lr=0.5), epochs=100, batch_size=200, class_weight=class_weight)
        recall[str(class_weight)] = np.mean(net.predict(X[:10]) == 1)
        if class_weight is not None:
            vector = net.vector.copy()
    assert recall["balanced"] >= 0.6 > recall["None"]
    balanced = nn.Network([nn.Dense(2)], nn.CrossEntropy(), dtype=np.float64)
    balanced.fit(X, y, kb.SGD(lr=0.5), epochs=100, batch_size=200, class_weight="balanced")
    np.testing.assert_allclose(balanced.vector, vector, rtol=1e-6)  # the same ratio is the same mean


def test_dropout_and_batchnorm_differ_between_training_and_prediction(toys):
    X, y = toys
    net = everything_on()
    net.fit(X, y, epochs=5)
    assert not np.allclose(net.state["1.mean"], 0)
    assert net.layers[1].state["mean"].base is not None
    np.testing.assert_array_equal(net.outputs(X), net.outputs(X))
    one = np.concatenate([net.outputs(X[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(one, net.outputs(X[:5]), rtol=1e-4, atol=1e-5)  # no batch statistics


def test_embedding_takes_whole_numbers():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 6, (120, 2))
    y = (X[:, 0] == X[:, 1]).astype(int)
    net = nn.Network([nn.Embedding(6, 4), nn.Flatten(), nn.Dense(16), nn.ReLU(), nn.Dense(2)], nn.CrossEntropy())
    net.fit(X, y, kb.Adam(lr=0.02), epochs=60)
    assert net.score(X, y) > 0.97
    with pytest.raises(InputError, match="Embedding"):
        net.predict(np.array([[0, 6]]))


def test_batches_streams_and_memmaps_train(toys, tmp_path):
    X, y = toys
    plain = small()
    plain.fit(X, y, "adam", epochs=2, batch_size=50)
    given = small()
    given.fit(nn.batches(X, y, size=50, seed=0), optimizer="adam", epochs=2)
    np.testing.assert_array_equal(plain.vector, given.vector)
    np.save(tmp_path / "X.npy", X)
    mapped = small()
    mapped.fit(np.load(tmp_path / "X.npy", mmap_mode="r"), y, "adam", epochs=2, batch_size=50)
    np.testing.assert_array_equal(plain.vector, mapped.vector)

    def chunks(epoch):
        for i in range(0, 200, 40):
            yield X[i : i + 40], y[i : i + 40]

    streamed = small()
    run = streamed.fit(nn.batches(chunks, size=64), optimizer="adam", epochs=2, validation=(X, y))
    assert run.nit == 8
    assert run.fun == pytest.approx(streamed.loss(X, y), rel=1e-4)
    as_function = small().fit(chunks, optimizer="adam", epochs=2)
    assert as_function.nit == 10


def test_progress_shows_loss_accuracy_speed_and_time_left(toys, capsys, monkeypatch):
    import rich.console

    shown = io.StringIO()
    monkeypatch.setattr(
        rich.console, "Console", functools.partial(rich.console.Console, file=shown, width=120, force_terminal=True)
    )
    seconds = itertools.count()
    monkeypatch.setattr(progress_bar, "time", types.SimpleNamespace(monotonic=lambda: next(seconds)))
    run = small().fit(*toys, epochs=3, batch_size=50, progress=True)
    assert run.nit == 12
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.getvalue())
    last = text.rstrip().splitlines()[-1]
    assert re.search(r"epoch 3/3  loss 0\.\d+  accuracy \d\d\.\d+%  \d+ samples/s +(\d:\d\d:\d\d|-:--:--)", last), text
    # a second for each of the points that were looked at, of 50 samples
    assert re.search(r" (\d+) samples/s", last)[1] in {str(n) for n in range(30, 51)}
    assert capsys.readouterr().out == ""


def test_kinks_near_the_start_raise_no_alarm():
    """Weak weights in a deep network of ReLUs: no difference can see past the kinks, the gradient is right all the
    same."""
    X, y = nn.digits()
    weak = "normal"
    layers = [part for _ in range(6) for part in (nn.Dense(32, init=weak), nn.ReLU())]
    net = nn.Network([*layers, nn.Dense(10, init=weak)], nn.CrossEntropy())
    run = net.fit(X, y, kb.SGD(lr=0.1), epochs=1)
    assert run.history.epochs.layer_grad_norm[0, 0] < 1e-6  # it vanishes


def test_a_wrong_derivative_is_noticed(monkeypatch):
    from koubai.graph.ops import OPS

    monkeypatch.setitem(OPS, "tanh", OPS["tanh"])
    object.__setattr__(OPS["tanh"], "vjp", ((right := OPS["tanh"].vjp)[0],))
    object.__setattr__(OPS["tanh"], "vjp", (lambda g, y, x: 1.01 * g * (1 - y * y),))
    try:
        with pytest.raises(kb.errors.GradientError):
            small(dtype=np.float64).fit(*nn.moons(50, seed=0))
    finally:
        object.__setattr__(OPS["tanh"], "vjp", right)


@pytest.mark.parametrize("make", [everything_on, lambda: NETWORKS["cnn"]()[0]], ids=["dense", "cnn"])
def test_machine_code_trains_as_numpy_does(make, monkeypatch):
    rng = np.random.default_rng(0)
    shape = (1, 6, 6) if make is not everything_on else (4,)
    X, y = rng.normal(size=(90, *shape)), rng.integers(0, 2, 90)
    runs = []
    for fused in (0, 10**9):
        monkeypatch.setattr(training_step, "FUSED", fused)
        runs.append(make().fit(X, y, kb.Adam(lr=0.01), epochs=4, batch_size=20))
    assert [run.executor for run in runs] == ["native", "numpy"]
    np.testing.assert_allclose(runs[0].history.fun, runs[1].history.fun, rtol=2e-4)


def test_a_thinned_history_has_rows_of_the_whole_one(toys, monkeypatch):
    X, y = toys
    whole = small().fit(X, y, "adam", epochs=30, batch_size=20, record="all")
    monkeypatch.setattr(lane, "NUMBERS", 42 * 20)
    thin = small().fit(X, y, "adam", epochs=30, batch_size=20)
    assert len(thin.history) < 40 < len(whole.history)
    for name in ("fun", "grad_norm", "lr"):
        rows = getattr(whole.history, name)[thin.history.t[:-1]]
        np.testing.assert_array_equal(getattr(thin.history, name)[:-1], rows)
    np.testing.assert_array_equal(thin.history.x["0.W"][:-1], whole.history.x["0.W"][thin.history.t[:-1]])
    for name, column in whole.history.epochs.arrays().items():
        np.testing.assert_array_equal(getattr(thin.history.epochs, name), column)
    np.testing.assert_array_equal(thin.x["0.W"], whole.x["0.W"])


@pytest.mark.parametrize("when", [101, 130, 131, 132, 145])
def test_the_last_good_point_is_kept_between_two_rows(when, toys, monkeypatch):
    """What a step that is not recorded leaves behind when the next one fails, or Ctrl-C comes."""
    X, y = toys
    monkeypatch.setattr(lane, "NUMBERS", 42 * 4)
    whole = small().fit(X, y, "adam", epochs=20, batch_size=20, record="all")
    original = NetworkModel.data

    def spoilt(self, batch, t):
        if t == when:
            return (np.full_like(batch[0], np.nan), *batch[1:])
        return original(self, batch, t)

    def pressed(self, batch, t):
        if t == when:
            raise KeyboardInterrupt
        return original(self, batch, t)

    with monkeypatch.context() as patch:
        patch.setattr(NetworkModel, "data", spoilt)
        run = small().fit(X, y, "adam", epochs=20, batch_size=20)
    assert run.status is kb.Status.nonfinite
    with monkeypatch.context() as patch:
        patch.setattr(NetworkModel, "data", pressed)
        with pytest.raises(Interrupted) as caught:
            small().fit(X, y, "adam", epochs=20, batch_size=20)
    for found in (run, caught.value.run):
        assert found.nit == when - 1
        np.testing.assert_array_equal(found.x["2.W"], whole.history.x["2.W"][when - 1])
        np.testing.assert_array_equal(found.history.x["2.W"][-1], whole.history.x["2.W"][when - 1])


# -- memory -----------------------------------------------------------------------------------------------------------


class Steps:
    """Watches the memory of single steps: by how much it grows in each at most; ``lines``: and in which line."""

    def __init__(self, monkeypatch, first, lines=False):
        self.first, self.found, self.level, self.lines = first, [], None, lines
        self.sources = {}
        compiled, data = arrays._Plan.compiled, NetworkModel.data

        def keeping(plan):
            self.sources[id(plan.namespace)] = plan.source
            return compiled(plan)

        def watched(model, batch, t):
            self.step(t)
            return data(model, batch, t)

        monkeypatch.setattr(arrays._Plan, "compiled", keeping)
        monkeypatch.setattr(NetworkModel, "data", watched)

    def __enter__(self):
        self.before = sys.gettrace()
        return self

    def __exit__(self, *_):
        if self.lines:
            sys.settrace(self.before)
        tracemalloc.stop()

    def step(self, t):
        if t < self.first:
            return
        if self.level is None:
            tracemalloc.start(1)
            if self.lines:
                sys.settrace(self.line)
        else:
            if self.lines:
                self.look()
            most = max(self.most, tracemalloc.get_traced_memory()[1])
            self.found.append((t - 1, most - self.level, self.where[1]))
        tracemalloc.reset_peak()
        self.level = self.before_line = tracemalloc.get_traced_memory()[0]
        self.most, self.where, self.now = 0, (0, ()), ()

    def line(self, frame, event, _):
        """What sys.settrace calls before a line is run."""
        file = frame.f_code.co_filename
        if "koubai" not in file:
            return None
        self.look()
        self.now = file, frame.f_lineno, id(frame.f_globals)
        return self.line

    def look(self):
        """Note what the line before took."""
        held, most = tracemalloc.get_traced_memory()
        self.most = max(self.most, most)
        self.where = max(self.where, (most - self.before_line, self.now))
        self.before_line = held
        tracemalloc.reset_peak()

    def text(self, file, number, program):
        return self.sources[program].splitlines()[number - 1] if file[0] == "<" else linecache.getline(file, number)


def check_steps(fit, first, steps, monkeypatch):
    """Let ``fit`` train; fail where a step takes 64 KiB or more in mid-epoch, naming the line. Returns all growths."""
    monkeypatch.setattr(lane, "ALONE", 0)  # each step is made by Python, which can watch it
    with monkeypatch.context() as patch, Steps(patch, first) as watch:
        fit()
    growths = [most for t, most, _ in watch.found if t % steps not in (0, steps - 1)]
    assert len(growths) > 20
    if max(growths) >= 65_536:
        with monkeypatch.context() as patch, Steps(patch, first, lines=True) as named:
            fit()
        t, most, where = max(
            (one for one in named.found if one[0] % steps not in (0, steps - 1)), key=lambda one: one[1]
        )
        pytest.fail(f"step {t} takes {most} bytes in the line: {named.text(*where).strip()}")
    return [most for _, most, _ in watch.found]


def images(n, channels, size):
    rng = np.random.default_rng(0)
    return rng.random((n, channels, size, size)), rng.integers(0, 10, n)


def rows(n, width):
    rng = np.random.default_rng(0)
    return rng.random((n, width)), rng.integers(0, 10, n)


STEADY = {  # layers and loss; data; batch size
    "small cnn": lambda: (
        [
            *(nn.Conv2D(16, 3, padding=1), nn.ReLU(), nn.MaxPool2D(2)),
            *(nn.Conv2D(32, 3, padding=1), nn.ReLU(), nn.MaxPool2D(2)),
            *(nn.Flatten(), nn.Dropout(0.3), nn.Dense(10)),
        ],
        nn.CrossEntropy(), images(1437, 1, 8), 64,
    ),
    "784-256-128-10": lambda: (
        [nn.Dense(256), nn.ReLU(), nn.Dense(128), nn.ReLU(), nn.Dense(10)], nn.CrossEntropy(), rows(2048, 784), 128,
    ),
    "dense": lambda: (
        [nn.Dense(256), nn.GELU(), nn.Dense(128), nn.BatchNorm(), nn.Sigmoid(), nn.Dropout(0.1), nn.Dense(300)],
        nn.CrossEntropy(class_weight=np.arange(300), label_smoothing=0.1), rows(2048, 100), 128,
    ),
    "convolutional": lambda: (
        [
            *(nn.Conv2D(16, 3, padding=1, stride=2), nn.BatchNorm(), nn.GELU(), nn.AvgPool2D(2), nn.Dropout(0.2)),
            *(nn.Conv2D(32, (3, 2)), nn.LayerNorm(), nn.LeakyReLU(), nn.Softmax(), nn.Flatten(), nn.Dense(10)),
        ],
        nn.CrossEntropy(), images(1024, 3, 16), 64,
    ),
    "embedding": lambda: (
        [nn.Embedding(1000, 64), nn.Flatten(), nn.Dense(200), nn.Tanh(), nn.Dense(10)],
        nn.CrossEntropy(), (np.arange(20480).reshape(1024, 20) % 1000, np.arange(1024) % 10), 64,
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dtype", "fused"),
    [(name, "float32", fused) for name in STEADY for fused in (True, False)] + [("dense", "float64", True)],
)
def test_a_steady_step_takes_less_than_64_kib(name, dtype, fused, monkeypatch):
    layers, loss, (X, y), size = STEADY[name]()
    net = nn.Network(layers, loss, dtype=dtype, l2=1e-5)
    steps = -(-len(X) // size)
    monkeypatch.setattr(training_step, "FUSED", 0 if fused else 10**9)
    epochs = 24 // (steps - 2) + 2
    # the last batch of an epoch has its own program, which the first epoch makes
    growths = check_steps(lambda: net.fit(X, y, kb.Adam(), epochs=epochs, batch_size=size), steps, steps, monkeypatch)
    assert max(growths) < 65_536 + net.vector.nbytes, "an epoch's end too"


@pytest.mark.sampled(3)
@pytest.mark.parametrize("optimizer", [kb.SGD(lr=0.01, momentum=0.9), kb.AdamW(clipnorm=1.0), kb.Lamb()])
def test_rules_take_less_than_64_kib_too(optimizer, monkeypatch):
    layers, loss, (X, y), size = STEADY["784-256-128-10"]()
    net = nn.Network(layers, loss)
    check_steps(lambda: net.fit(X, y, optimizer, epochs=3, batch_size=size), 16, 16, monkeypatch)


def test_batches_of_a_file_take_no_memory(tmp_path, monkeypatch):
    """A memmap of another precision, and columns cut out of a table, are gathered into memory that is kept."""
    X, y = rows(4096, 301)
    np.save(tmp_path / "X.npy", X)
    for data in (np.load(tmp_path / "X.npy", mmap_mode="r"), X[:, :-1]):
        net = nn.Network([nn.Dense(32), nn.ReLU(), nn.Dense(10)], nn.CrossEntropy())
        check_steps(lambda net=net, data=data: net.fit(data, y, epochs=2, batch_size=128), 32, 32, monkeypatch)


def test_an_epochs_start_takes_nothing_that_grows_with_the_data(monkeypatch):
    X, y = rows(40_000, 4)
    net = nn.Network([nn.Dense(8), nn.ReLU(), nn.Dense(10)], nn.CrossEntropy())
    fit = functools.partial(net.fit, X, y, epochs=3, batch_size=1000)
    assert max(check_steps(fit, 40, 40, monkeypatch)) < 65_536


def test_a_part_of_a_file_is_held_back_unread(toys, tmp_path, monkeypatch):
    X, y = toys
    plain, mapped = small(), small()
    expected = plain.fit(X, y, epochs=3, validation=0.2)
    np.save(tmp_path / "X.npy", X)
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    asked = []
    original = MappedRows.__getitem__

    def noted(self, which):
        part = original(self, which)
        asked.append(len(part))
        return part

    monkeypatch.setattr(MappedRows, "__getitem__", noted)
    monkeypatch.setattr("koubai.descent.batches.CHUNK", 50)
    run = mapped.fit(X, y, epochs=3, validation=0.2)
    assert max(asked) == 50
    np.testing.assert_array_equal(mapped.vector, plain.vector)
    np.testing.assert_allclose(run.history.epochs.validation_fun, expected.history.epochs.validation_fun, rtol=1e-6)


def test_the_line_that_takes_memory_is_named(monkeypatch):
    class Wasteful(nn.Dropout):
        def noise(self, x_shape, rng, dtype, out=None):
            return super().noise(x_shape, rng, dtype)

    X, y = rows(2048, 784)
    net = nn.Network([Wasteful(0.5), nn.Dense(10)], nn.CrossEntropy())
    with pytest.raises(pytest.fail.Exception, match=r"bytes in the line: .*np\.empty"):
        check_steps(lambda: net.fit(X, y, epochs=3, batch_size=128), 16, 16, monkeypatch)


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_before_the_weights_are_touched(toys):
    X, y = toys
    net = nn.Network([nn.Dense(8), nn.ReLU(), nn.Dense(8), nn.ReLU(), nn.Dense(1)], nn.MSE())
    run = net.fit(X, 1e3 * y.astype(float), kb.SGD(lr=10.0), epochs=20)
    assert run.status in (kb.Status.nonfinite, kb.Status.diverged)
    assert np.isfinite(net.vector).all()
    for name in net.params:
        np.testing.assert_array_equal(net.params[name], run.x[name])
    if run.status is kb.Status.nonfinite:
        assert f"at step {run.nit + 1}" in run.message


def test_the_layer_where_it_begins_is_named(toys):
    class Log(nn.Layer):
        def apply(self, params, x, state, *, train, noise=None):
            return np.log(x + 3.0), state

    X, y = toys
    net = nn.Network([nn.Dense(4), Log(), nn.Dense(1)], nn.MSE(), dtype=np.float64)
    run = net.fit(X, 50 * y.astype(float), kb.SGD(lr=0.5), epochs=30, batch_size=50)
    assert run.status in (kb.Status.nonfinite, kb.Status.diverged)
    assert "layer '1 Log()' is the first whose output is not finite" in run.message
    assert "epoch" in run.message
    assert np.isfinite(net.vector).all()
    start = nn.Network([nn.Dense(4), Log(), nn.Dense(1)], nn.MSE(), dtype=np.float64).build((2,))
    start.params["0.b"][:] = -100
    with pytest.raises(FunctionError, match="layer '1 Log"):
        start.fit(X, y)


BAD = {
    "nan": (lambda X, y: (np.where(np.arange(400).reshape(200, 2) == 7, np.nan, X), y), r"X\[3, 1\] = nan"),
    "inf": (lambda X, y: (X * np.inf, y), "must be finite"),
    "object": (lambda X, y: (X.astype(object), y), "object dtype"),
    "ragged": (lambda X, y: ([[1, 2], [3]], [0, 1]), "same shape"),
    "text": (lambda X, y: (X.astype(str), y), "real numbers"),
    "complex": (lambda X, y: (X + 1j, y), "real numbers"),
    "flat": (lambda X, y: (X[:, 0], y), "axis 0 must be the samples"),
    "empty": (lambda X, y: (X[:0], y[:0]), "is empty"),
    "no column": (lambda X, y: (X[:, :0], y), "is empty"),
    "no X": (lambda X, y: (None, y), "X is missing"),
    "masked": (lambda X, y: (np.ma.masked_greater(X, 1.0), y), "masked array"),
    "generator": (lambda X, y: (iter([(X, y)]), None), "read only once"),
    "too large": (lambda X, y: (1e200 * X, y), "too large for float32"),
    "column of labels": (lambda X, y: (X, y[:, None]), r"y\[:, 0\] is one label a sample"),
    "labels as whole floats": (lambda X, y: (X, y.astype(float)), r"y.astype\(int\)"),
    "lengths": (lambda X, y: (X, y[:-1]), "200 samples, y has 199"),
    "no y": (lambda X, y: (X, None), "y is missing"),
    "label too large": (lambda X, y: (X, y + 1), "labels are 0 … 1"),
    "label negative": (lambda X, y: (X, y - 1), r"y\[\d+\] = -1"),
    "labels as numbers": (lambda X, y: (X, y + 0.5), "whole numbers"),
    "text labels": (lambda X, y: (X, np.array(["a", "b"])[y]), "whole numbers"),
    "one-hot width": (lambda X, y: (X, np.eye(3)[y]), "rows of 3"),
    "one-hot sum": (lambda X, y: (X, np.eye(2)[y] * 2), "sum to 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_data_that_cant_be_used_are_refused_by_name(case, toys):
    spoil, message = BAD[case]
    with pytest.raises(InputError, match=message):
        small().fit(*spoil(*toys))


def test_a_wrong_width_names_the_layer(toys):
    X, y = toys
    net = small()
    net.fit(X, y, epochs=1)
    for call in (
        lambda: net.fit(X[:, :1], y),
        lambda: net.predict(X[:, :1]),
        lambda: net.score(np.ones((4, 3)), y[:4]),
    ):
        with pytest.raises(InputError, match=r"layer 0 Dense\(8\) was built for \(2,\)"):
            call()
    with pytest.raises(InputError, match="validation"):
        net.fit(X, y, validation=(X[:, :1], y))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": -1}, "epochs"),
        ({"epochs": 2.5}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"patience": 0}, "patience"),
        ({"min_delta": -1.0}, "min_delta"),
        ({"validation": 1.5}, "validation must be .* between 0 and 1"),
        ({"validation": np.ones((3, 2))}, "validation must be"),
        ({"sample_weight": np.ones(3)}, "one number a sample"),
        ({"sample_weight": np.zeros(200)}, "not 0 everywhere"),
        ({"sample_weight": -np.ones(200)}, "≥ 0"),
        ({"class_weight": "even"}, "balanced"),
        ({"class_weight": {7: 1.0}}, "labels 0, 1"),
        ({"class_weight": {0: 0, 1: 0}}, "class_weight leaves no sample"),
        ({"optimizer": "adm"}, "adam"),
        ({"on_epoch": 3}, "on_epoch"),
        ({"record": "some"}, "record"),
        ({"checkpoint": 7}, "checkpoint"),
    ],
)
def test_arguments_that_cant_be_used_are_refused(options, message, toys):
    with pytest.raises(InputError, match=message):
        small().fit(*toys, **options)


def test_class_weight_needs_classes(toys):
    with pytest.raises(InputError, match="needs classes"):
        nn.Network([nn.Dense(1)], nn.MSE()).fit(*regression(), class_weight="balanced")
    X, y = toys
    with pytest.raises(InputError, match="asks 2 questions"):
        nn.Network([nn.Dense(2)], nn.BinaryCrossEntropy()).fit(X, np.eye(2)[y], class_weight="balanced")


def test_what_is_more_likely_yes_than_no_counts_as_yes(toys):
    X, y = toys[0], (np.arange(200) < 20).astype(int)
    vectors = []
    for targets in (y, y[:, None], 0.7 * y + 0.1):
        net = nn.Network([nn.Dense(1)], nn.BinaryCrossEntropy()).build((2,))
        model = net.training(X, targets, "sgd", class_weight="balanced").model
        vectors.append(model.source.arrays[2])
    np.testing.assert_allclose(vectors[0], np.where(y == 1, 5.0, 200 / 360), rtol=1e-6)
    np.testing.assert_array_equal(vectors[1], vectors[0])
    np.testing.assert_array_equal(vectors[2], vectors[0])


def test_fewer_samples_than_a_batch(toys):
    X, y = toys
    a, b = small(), small()
    ra = a.fit(X[:5], y[:5], epochs=3, batch_size=32)
    b.fit(X[:5], y[:5], epochs=3, batch_size=5)
    assert ra.nit == 3
    np.testing.assert_array_equal(a.vector, b.vector)


def test_a_single_sample_over_spoils_batchnorm_and_is_said(toys):
    X, y = toys
    with pytest.raises(InputError, match="single sample over"):
        everything_on().fit(X[:33], y[:33], batch_size=32, epochs=2)


def test_one_class_only_is_learned(toys):
    X, _ = toys
    net = small()
    net.fit(X, np.ones(len(X), int), kb.Adam(lr=0.05), epochs=10, class_weight="balanced")
    assert net.score(X, np.ones(len(X), int)) == 1.0


def test_no_epoch_changes_nothing(toys):
    X, y = toys
    net = small().build((2,))
    before = net.vector.copy()
    run = net.fit(X, y, epochs=0)
    np.testing.assert_array_equal(net.vector, before)
    assert run.nit == 0
    assert run.fun == pytest.approx(net.loss(X, y), rel=1e-5)


def test_bad_batches_are_refused(toys):
    X, y = toys
    for source, message in [
        (lambda epoch: iter(()), "gave nothing|StopIteration"),
        (lambda epoch: [X], "must be"),
        (lambda epoch: [(X, y), (X[:, :1], y)], "batch 1 of epoch 0"),
        (lambda epoch: [(X * np.nan, y)], "must be finite"),
    ]:
        with pytest.raises(InputError, match=message):
            small().build((2,)).fit(source, epochs=1)
    with pytest.raises(InputError, match="leave y out"):
        small().fit(nn.batches(X, y), y)
    with pytest.raises(InputError, match="have no y"):
        small().fit(nn.batches(X))
    with pytest.raises(InputError, match="as arrays"):
        small().fit(lambda epoch: [(X, y)], class_weight="balanced")


# -- checkpoints and files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_at", [2, 3, 7, 9, 19])
def test_a_training_goes_on_bit_for_bit(stop_at, toys, tmp_path, monkeypatch):
    X, y = toys
    options = {"epochs": 4, "batch_size": 32, "validation": 0.2, "patience": 50}
    whole = everything_on()
    expected = whole.fit(X, y, "adam", **options)
    file = tmp_path / "training.npz"
    original = NetworkModel.data

    def data(self, batch, t):
        if t == stop_at:
            raise KeyboardInterrupt
        return original(self, batch, t)

    with monkeypatch.context() as patch:
        patch.setattr(NetworkModel, "data", data)
        with pytest.raises(Interrupted):
            everything_on().fit(X, y, "adam", **options, checkpoint=(file, 1))
    net = everything_on()
    run = net.fit(X, y, "adam", **options, resume=file)
    np.testing.assert_array_equal(net.vector, whole.vector)
    np.testing.assert_array_equal(net.carried, whole.carried)
    for name in ("t", "fun", "grad_norm", "lr"):
        np.testing.assert_array_equal(getattr(run.history, name), getattr(expected.history, name))
    for name, column in expected.history.epochs.arrays().items():
        np.testing.assert_array_equal(getattr(run.history.epochs, name), column)
    assert (run.message, run.nit, run.best_fun) == (expected.message, expected.nit, expected.best_fun)
    np.testing.assert_array_equal(run.best_x["0.W"], expected.best_x["0.W"])


GOING_ON = {
    "adam": lambda: kb.Adam(lr=0.02),
    "schedule": lambda: kb.SGD(lr=kb.schedules.cosine(0.3, 40), momentum=0.9),
    "function": lambda: kb.SGD(lr=lambda t: 0.3 / (t + 1)),
    "plateau": lambda: kb.SGD(lr=kb.schedules.plateau(0.5, gamma=0.5, patience=0)),
    "groups": lambda: kb.Adam(lr=0.02, groups={"0.*": {"lr": 0}}),
    "whole vector": lambda: kb.Prodigy(),
}


@pytest.mark.parametrize("record", ["auto", "off"])
@pytest.mark.parametrize("case", GOING_ON)
def test_a_fit_goes_on_from_the_last_one(case, record, toys):
    """In order, noise, schedule and moments: one epoch and then two are three at once."""
    X, y = toys
    options = {"batch_size": 32, "validation": 0.2, "record": record}
    whole, net, anew = everything_on(), everything_on(), everything_on()
    optimizer = GOING_ON[case]()
    expected = whole.fit(X, y, optimizer, epochs=3, **options)
    first = net.fit(X, y, optimizer, epochs=1, **options)
    second = net.fit(X, y, epochs=1, resume=True, **options)
    third = net.fit(X, y, optimizer, epochs=1, resume=True, **options)
    np.testing.assert_array_equal(net.vector, whole.vector)
    np.testing.assert_array_equal(net.carried, whole.carried)
    runs = (first, second, third)
    assert [run.nit for run in runs] == [5, 5, 5]
    for name in ("fun", "accuracy", "validation_fun", "lr"):
        together = np.concatenate([getattr(run.history.epochs, name) for run in runs])
        np.testing.assert_array_equal(together, getattr(expected.history.epochs, name))
    assert second.optimizer == optimizer
    anew.fit(X, y, optimizer, epochs=1, **options)
    anew.fit(X, y, optimizer, epochs=2, **options)  # the same order, noise and first rate again
    assert not np.array_equal(anew.vector, net.vector)


def loss_of_layers(p, X, y):
    return np.mean((np.tanh(X @ p["0.W"] + p["0.b"]) @ p["1.W"] - y) ** 2)


LAYERS = {"0.W": np.array([[0.2, -0.1], [0.3, 0.4]]), "0.b": np.zeros(2), "1.W": np.array([0.5, -0.5])}


@pytest.mark.parametrize("where", ["arrays", "batches", "stream", "held back"])
@pytest.mark.parametrize("case", GOING_ON)
def test_a_fit_of_a_function_goes_on_from_a_run(case, where, toys):
    data, options = toys, {"batch_size": 32}
    if where == "batches":
        data, options = nn.batches(*toys, 32, seed=4), {}
    elif where == "stream":
        data, options = nn.batches(lambda epoch: [toys], size=32), {}
    elif where == "held back":
        options["validation"] = toys[0][:50], toys[1][:50]
    fit = functools.partial(kb.fit, loss_of_layers, data=data, **options)
    optimizer = GOING_ON[case]()
    whole = fit(LAYERS, optimizer=optimizer, epochs=4)
    first = fit(LAYERS, optimizer=optimizer, epochs=1)
    second = fit(first.x, epochs=2, resume=first)
    sent = second if case == "function" else pickle.loads(pickle.dumps(second.picklable()))
    third = fit(second.x, optimizer=optimizer, epochs=1, resume=sent)
    for name, value in whole.x.items():
        np.testing.assert_array_equal(third.x[name], value)
    runs = (first, second, third)
    for name in ("fun", "lr", "grad_norm"):
        together = np.concatenate([getattr(run.history.epochs, name) for run in runs])
        np.testing.assert_array_equal(together, getattr(whole.history.epochs, name))
    assert third.fun == whole.fun
    again = fit(second.x, optimizer=optimizer, epochs=1, resume=second)  # a run serves more than once
    np.testing.assert_array_equal(again.x["1.W"], whole.x["1.W"])
    anew = fit(second.x, optimizer=optimizer, epochs=1)
    assert not np.array_equal(anew.x["1.W"], whole.x["1.W"])


def test_a_fit_of_a_function_that_goes_on_is_killed_and_resumed(toys, tmp_path):
    fit = functools.partial(kb.fit, loss_of_layers, data=toys)
    whole = fit(LAYERS, epochs=5)
    first = fit(LAYERS, epochs=2)

    def stop(epoch):
        if epoch.number == 2:
            raise Kill

    file = tmp_path / "training.npz"
    with pytest.raises(Kill):
        fit(first.x, epochs=3, resume=first, checkpoint=(file, 1), on_epoch=stop)
    run = fit(first.x, optimizer=first.optimizer, epochs=3, resume=file)
    np.testing.assert_array_equal(run.x["0.W"], whole.x["0.W"])
    assert run.progress.epochs == 5


def test_what_a_fit_of_a_function_cant_go_on_from_is_refused(toys, tmp_path):
    fit = functools.partial(kb.fit, loss_of_layers, data=toys)
    run = fit(LAYERS, optimizer=kb.Adam(lr=0.02), epochs=1)
    run.save(tmp_path / "run.npz")
    moved = fit(LAYERS, optimizer=kb.Adam(lr=0.01), epochs=1, resume=run)  # other parameters and another rate may
    assert moved.history.lr[0] == 0.01
    stopped = fit(LAYERS, optimizer=kb.SGD(lr=1e9), epochs=3)
    assert not stopped.success
    descent = kb.minimize(lambda p: loss_of_layers(p, *toys), LAYERS, max_steps=3)
    for resume, options, message in [
        (True, {}, r"the run of an earlier kb.fit, as in kb.fit\(loss, run.x, data, resume=run\)"),
        (3, {}, "resume must be the path of a checkpoint, or the run"),
        (kb.load(tmp_path / "run.npz"), {}, "from a file, which keeps no moments"),
        (descent, {}, "goes on from a run that kb.fit returned"),
        (stopped, {}, "goes on from a run that kb.fit returned"),
        (run, {"seed": 3}, "made with seed=0"),
        (run, {"optimizer": kb.Adam(beta1=0.5)}, "give the same but for lr"),
        (run, {"params": LAYERS | {"0.b": np.zeros((1, 2))}}, r"the form of run.x, 0.W \(2, 2\), 0.b \(2,\)"),
    ]:
        with pytest.raises(InputError, match=message):
            fit(**{"params": LAYERS} | options, epochs=1, resume=resume)
    for resume in (run, 3):
        with pytest.raises(
            InputError, match="resume must be the path of a checkpoint, or True, to go on from the last fit"
        ):
            small().fit(*toys, resume=resume)


def test_a_fit_that_goes_on_is_killed_and_resumed(toys, tmp_path):
    X, y = toys
    whole, net, other = everything_on(), everything_on(), everything_on()
    whole.fit(X, y, "adam", epochs=5, batch_size=32)
    for one in (net, other):
        one.fit(X, y, "adam", epochs=2, batch_size=32)
    file = tmp_path / "training.npz"

    def stop(epoch):
        if epoch.number == 2:
            raise Kill

    with pytest.raises(Kill):
        net.fit(X, y, "adam", epochs=3, batch_size=32, resume=True, checkpoint=(file, 1), on_epoch=stop)
    with pytest.raises(InputError, match="there is none that ended with an epoch"):
        net.fit(X, y, "adam", resume=True)
    other.fit(X, y, "adam", epochs=3, batch_size=32, resume=file)
    np.testing.assert_array_equal(other.vector, whole.vector)


def test_what_goes_on_may_have_another_rate_and_other_data(toys):
    X, y = toys
    net = small()
    with pytest.raises(InputError, match="there is none that ended with an epoch"):
        net.fit(X, y, resume=True)
    net.fit(X, y, kb.Adam(lr=0.02), epochs=2)
    with pytest.raises(InputError, match="give the same but for lr"):
        net.fit(X, y, kb.SGD(lr=0.1), resume=True)
    with pytest.raises(InputError, match="give the same but for lr"):
        net.fit(X, y, kb.Adam(lr=0.02, beta1=0.5), resume=True)
    moments = net._progress.state[0].copy()
    net.fit(X[:50], y[:50], kb.Adam(lr=1e-14), epochs=0, resume=True)
    np.testing.assert_array_equal(net._progress.state[0], moments)
    before = net.vector.copy()
    run = net.fit(X[:50], y[:50], kb.Adam(lr=1e-14), epochs=1, resume=True)
    np.testing.assert_allclose(net.vector, before, atol=1e-10)
    assert net._progress.t == 2 * 7 + 2
    assert run.history.lr[0] == 1e-14
    net.fit(X, y, epochs=1)  # without resume=True all begins anew
    assert net._progress.t == 7
    with pytest.raises(InputError, match="there is none"):
        pickle.loads(pickle.dumps(net)).fit(X, y, resume=True)


class Kill(Exception):
    """Ends a training as nothing that it knows does."""


class Killing:
    """Batches that kill whoever draws the k-th one, k drawn anew for every life."""

    def __init__(self, X, y):
        self.data, self.left = nn.batches(X, y, size=30, seed=5), math.inf

    def epoch(self, k):
        for batch in self.data.epoch(k):
            self.left -= 1
            if self.left < 0:
                raise Kill
            yield batch


SHIFT = np.array([0.1])


def loss_plain(p, X, y):
    return np.mean((np.tanh(X @ p["w"]) + p["b"] - y) ** 2)


def loss_branching(p, X, y):
    """Two forms of batch, two paths each, and a guard on the parameters."""
    r = X @ p["w"] + p["b"] - y
    return np.mean(np.abs(r)) if np.sum(y) > len(y) / 2 or p["b"] > 0.3 else np.mean(r**2)


def loss_reading(p, X, y):
    """Reads what changes at every step, and is traced at every step."""
    SHIFT[0] = 0.1 + len(y) / 100
    return np.mean((X @ p["w"] + p["b"] - y - SHIFT[0]) ** 2)


def loss_untraceable(p, X, y):
    return float(np.mean((X @ p["w"] + p["b"] - y) ** 2).item() + float(f"{p['b']:.17g}") ** 2)


LIVES = {
    "network": None,
    "statistics and noise": None,
    "plain": loss_plain,
    "branching": loss_branching,
    "reading": loss_reading,
    "differences": loss_untraceable,
    "minimize": loss_plain,
    "minimize branching": loss_branching,
}


@pytest.mark.sampled(4)
@pytest.mark.filterwarnings("ignore::koubai.errors.FallbackWarning")
@pytest.mark.parametrize("case", LIVES)
def test_a_training_that_is_killed_again_and_again_ends_bit_for_bit(case, toys, tmp_path):
    """The evaluations are counted as if it had never been killed, too."""
    X, y = toys
    loss = LIVES[case]
    random, file = np.random.default_rng(3), tmp_path / "training.npz"
    start = {"w": np.array([0.2, -0.1]), "b": 0.0}

    def live(data, checkpoint, resume):
        if case.startswith("minimize"):
            if resume is not None:
                return kb.resume(resume, loss, batches=data)
            return kb.minimize(loss, start, kb.Adam(lr=0.05), batches=data, max_steps=40, gtol=0, checkpoint=checkpoint)
        if loss is None:
            net = small() if case == "network" else everything_on()
            return net.build((2,)).fit(data, None, "adam", epochs=6, checkpoint=checkpoint, resume=resume)
        return kb.fit(loss, start, data, kb.Adam(lr=0.05), epochs=6, checkpoint=checkpoint, resume=resume)

    whole = live(Killing(X, y), None, None)
    data, kills, run = Killing(X, y), 0, None
    for _ in range(100):
        data.left = int(random.integers(1, 14))
        resume = file if file.exists() else None
        try:
            run = live(data, (file, 1), resume)
            break
        except Kill:
            kills += 1
    assert kills > 3
    if run is None:
        data.left = math.inf
        run = live(data, (file, 1), file)
    assert (run.nfev, run.njev, run.nit) == (whole.nfev, whole.njev, whole.nit)
    assert (run.fun, run.best_fun, run.message) == (whole.fun, whole.best_fun, whole.message)
    for name in whole.x:
        np.testing.assert_array_equal(run.x[name], whole.x[name])
        np.testing.assert_array_equal(run.best_x[name], whole.best_x[name])
    np.testing.assert_array_equal(run.history.fun, whole.history.fun)


NUMBERS = {
    "epochs": {"epochs": np.int64(4)},
    "batch_size": {"batch_size": np.int32(32)},
    "patience": {"patience": np.int64(3), "min_delta": np.float32(0.0)},
    "min_delta": {"min_delta": np.int64(0)},
    "gtol": {"gtol": np.float32(1e-12)},
    "target": {"target": np.float32(1e-12)},
    "validation": {"validation": np.float32(0.25)},
    "milestones": {"optimizer": kb.SGD(lr=kb.schedules.step(0.1, (np.int64(3), 9), gamma=np.float32(0.5)))},
    "list of milestones": {"optimizer": kb.SGD(lr=kb.schedules.step(0.1, [3, 9]))},
    "array of milestones": {"optimizer": kb.SGD(lr=kb.schedules.step(0.1, np.array([3, 9])))},
    "schedule": {"optimizer": kb.SGD(lr=kb.schedules.warmup(kb.schedules.cosine(np.float32(0.1), np.int64(50)), 3))},
    "plateau": {"optimizer": kb.SGD(lr=kb.schedules.plateau(np.float64(0.1), patience=np.int64(0)))},
    "rate": {"optimizer": kb.Adam(lr=np.float32(0.1), beta1=np.float64(0.5))},
    "groups": {"optimizer": kb.Adam(lr=0.1, groups={"0.*": {"lr": np.float32(0.01)}})},
}


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers_of_numpy_are_saved_and_resumed(case, toys, tmp_path):
    X, y = toys
    options = {"optimizer": "adam", "epochs": 4} | NUMBERS[case]
    file = tmp_path / "training.npz"
    net, again = small(seed=np.int64(3)), small(seed=3)
    whole = net.fit(X, y, **options)
    small(seed=3).fit(X, y, **options | {"epochs": np.int64(2), "checkpoint": (file, np.int64(4))})
    run = again.fit(X, y, **options, resume=file, checkpoint=file)
    np.testing.assert_array_equal(net.vector, again.vector)
    assert run.message == whole.message
    run.save(tmp_path / "run.npz")
    back = kb.load(tmp_path / "run.npz")
    assert back.optimizer == run.optimizer
    assert json.loads(json.dumps(run.options)) == back.options


def test_numbers_of_numpy_in_functions_and_descents(toys, tmp_path):
    def f(x):
        return np.sum((x - 1) ** 2)

    options = {"max_steps": np.int64(30), "gtol": np.float32(1e-9), "target": np.float32(-1), "seed": np.int64(1)}
    schedule = kb.schedules.step(0.1, (np.int64(5), np.int64(9)), gamma=0.5)
    run = kb.minimize(f, np.zeros(2), kb.SGD(lr=schedule), checkpoint=(tmp_path / "c.npz", np.int64(7)), **options)
    assert type(run.options["max_steps"]) is int
    longer = kb.resume(tmp_path / "c.npz", f, max_steps=np.int64(40))
    whole = kb.minimize(f, np.zeros(2), kb.SGD(lr=schedule), **options | {"max_steps": 40})
    np.testing.assert_array_equal(longer.x, whole.x)
    longer.save(tmp_path / "run.npz")
    assert kb.load(tmp_path / "run.npz", f).optimizer == run.optimizer
    assert repr(schedule) == "step(lr=0.1, every=(5, 9), gamma=0.5)"
    fitted = kb.fit(
        lambda p, X: np.mean((X - p) ** 2), np.zeros(2), toys[0], epochs=np.int64(3), seed=np.int64(2),
        checkpoint=tmp_path / "f.npz",
    )  # fmt: skip
    assert fitted.success


def test_a_checkpoint_of_another_training_is_refused(toys, tmp_path):
    X, y = toys
    file = tmp_path / "training.npz"
    small().fit(X, y, "adam", epochs=2, checkpoint=file)
    for change, message in [
        ({"optimizer": "sgd"}, "another optimizer"),
        ({"optimizer": "adam", "batch_size": 16}, "another batch_size"),
        ({"optimizer": "adam", "epochs": 1}, "has 2 epochs behind it"),
    ]:
        with pytest.raises(InputError, match=message):
            small().fit(X, y, **({"epochs": 2} | change), resume=file)
    finished = small().fit(X, y, "adam", epochs=2, resume=file)
    assert finished.message == "all 2 epochs are over: 14 steps"
    with pytest.raises(InputError, match="another seed"):
        small(seed=1).fit(X, y, "adam", epochs=2, resume=file)
    small().fit(X, y, "adam", epochs=2, on_epoch=lambda e: True, checkpoint=(tmp_path / "m.npz", 1))
    with pytest.raises(InputError, match="it is a training"):
        kb.resume(file, lambda x: x)


@pytest.mark.parametrize("numbers", [lane.NUMBERS, 100], ids=["all rows", "thinned"])
@pytest.mark.parametrize("first", [0, 1, 3])
def test_a_training_that_was_over_goes_on(first, numbers, toys, tmp_path, monkeypatch):
    """With more epochs it has the bits that it would have had if it had been asked for them at once."""
    X, y = toys
    monkeypatch.setattr(lane, "NUMBERS", numbers * 10)
    optimizer = kb.SGD(lr=kb.schedules.cosine(0.2, 30), momentum=0.9)
    options = {"batch_size": 32, "validation": 0.2, "patience": 50}
    whole = everything_on()
    expected = whole.fit(X, y, optimizer, epochs=6, **options)
    file = tmp_path / "training.npz"
    everything_on().fit(X, y, optimizer, epochs=first, checkpoint=file, **options)
    for epochs in (first + 1, 6):  # twice, from one file
        net = everything_on()
        run = net.fit(X, y, optimizer, epochs=epochs, resume=file, checkpoint=file, **options)
    assert run.message == expected.message
    np.testing.assert_array_equal(net.vector, whole.vector)
    np.testing.assert_array_equal(net.carried, whole.carried)
    for name in ("t", "fun", "grad_norm", "lr", "clipped"):
        np.testing.assert_array_equal(getattr(run.history, name), getattr(expected.history, name))
    np.testing.assert_array_equal(run.history.x["0.W"], expected.history.x["0.W"])
    for name, column in expected.history.epochs.arrays().items():
        np.testing.assert_array_equal(getattr(run.history.epochs, name), column)
    assert (run.nit, run.fun, run.best_fun) == (expected.nit, expected.fun, expected.best_fun)
    np.testing.assert_array_equal(run.best_x["0.W"], expected.best_x["0.W"])


def test_what_stopped_for_good_stays_over(toys, tmp_path):
    X, y = toys
    file = tmp_path / "training.npz"
    options = {"batch_size": 50, "target": 0.5}
    reached = small().fit(X, y, kb.Adam(lr=0.05), epochs=100, checkpoint=file, **options)
    again = small().fit(X, y, kb.Adam(lr=0.05), epochs=200, resume=file, **options)
    assert again.status is kb.Status.target_reached
    assert again.nit == reached.nit
    options = {"batch_size": 10, "patience": 1, "min_delta": 0.5}
    waited = small().fit(X, y, "adam", epochs=100, checkpoint=file, **options)
    again = small().fit(X, y, "adam", epochs=200, resume=file, **options)
    assert (again.message, again.nit) == (waited.message, waited.nit)
    left = small().fit(X, y, "adam", epochs=5, checkpoint=file, on_epoch=lambda epoch: epoch.number == 2)
    assert left.nit == 14
    again = small()
    assert again.fit(X, y, "adam", epochs=5, resume=file).nit == 35
    whole = small()
    whole.fit(X, y, "adam", epochs=5)
    np.testing.assert_array_equal(again.vector, whole.vector)
    with pytest.raises(InputError, match="over all the data the loss was"):
        small().fit(X + 1, y, "adam", epochs=6, resume=file)


def test_other_data_are_noticed_on_resuming(toys, tmp_path, monkeypatch):
    X, y = toys
    file = tmp_path / "training.npz"

    def press(self, batch, t):
        if t == 3:
            raise KeyboardInterrupt
        return batch

    with monkeypatch.context() as patch:
        patch.setattr(NetworkModel, "data", press)
        with pytest.raises(Interrupted):
            small().fit(X, y, "adam", epochs=2, checkpoint=(file, 1))
    with pytest.raises(InputError, match="are not those of"):
        small().fit(X + 1, y, "adam", epochs=2, resume=file)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_saved_and_loaded(name, tmp_path):
    net, shape, _ = NETWORKS[name]()
    net.build(shape)
    if net.carried is not None:
        net.carried += 0.5
    net.save(tmp_path / "net.npz")
    again = nn.Network.load(tmp_path / "net.npz")
    X = np.random.default_rng(0).normal(size=(4, *shape))
    np.testing.assert_array_equal(net.outputs(X), again.outputs(X))
    assert repr(again) == repr(net)
    assert (again.l2, again.seed, again.dtype) == (net.l2, net.seed, net.dtype)
    with np.load(tmp_path / "net.npz", allow_pickle=False) as file:
        assert json.loads(str(file["header"]))["kind"] == "network"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_learns_by_itself(copied, toys):
    X, y = toys
    net = everything_on()
    net.fit(X, y, epochs=1)
    net.layers[0].forward(X)
    net.layers[0].backward(np.ones((200, 16)))
    again = copied(net)
    np.testing.assert_array_equal(again.outputs(X), net.outputs(X))
    before = net.vector.copy()
    again.fit(X, y, epochs=2)
    np.testing.assert_array_equal(net.vector, before)
    assert all(np.shares_memory(a, again.vector) for a in again.params.values())
    assert again.layers[0].params["W"] is again.params["0.W"]
    net.fit(X, y, epochs=2)
    np.testing.assert_array_equal(again.vector, net.vector)
    assert copied(small()).input_shape is None


def test_layers_of_ones_own_are_given_again(tmp_path):
    class Double(nn.Layer):
        def apply(self, params, x, state, *, train, noise=None):
            return 2 * x, state

    net = nn.Network([Double(), nn.Dense(2)], nn.MSE()).build((3,))
    net.save(tmp_path / "net.npz")
    with pytest.raises(InputError, match="Double is a class of your own"):
        nn.Network.load(tmp_path / "net.npz")
    again = nn.Network.load(tmp_path / "net.npz", layers=[Double(), nn.Dense(2)])
    np.testing.assert_array_equal(again.outputs(np.ones((1, 3))), net.outputs(np.ones((1, 3))))
    with pytest.raises(InputError, match="do not fit"):
        nn.Network.load(tmp_path / "net.npz", layers=[Double(), nn.Dense(3)])


def test_a_run_of_a_network_is_saved_with_its_epochs(toys, tmp_path):
    run = small().fit(*toys, epochs=3, validation=0.2)
    run.save(tmp_path / "run.npz")
    again = kb.load(tmp_path / "run.npz")
    assert again.history.epochs.layers == run.history.epochs.layers
    for name, column in run.history.epochs.arrays().items():
        np.testing.assert_array_equal(getattr(again.history.epochs, name), column)
    assert len(repr(run)) < 2000


# -- any function -----------------------------------------------------------------------------------------------------


def line(params, X, y):
    return np.mean((X @ params["w"] + params["b"] - y) ** 2)


def test_fit_trains_any_function_of_parameters():
    X, y = regression()
    start = {"w": np.zeros(3), "b": 0.0}
    run = kb.fit(line, start, (X, y), kb.Adam(lr=0.1), epochs=60, batch_size=16, validation=(X, y))
    np.testing.assert_allclose(run.x["w"], [1.0, -2.0, 0.5], atol=1e-3)
    assert run.x["b"] == pytest.approx(2.0, abs=1e-3)
    assert start["b"] == 0.0
    epochs = run.history.epochs
    assert epochs.layers == ("w", "b")
    assert epochs.accuracy is None
    assert epochs.validation_fun[-1] < 1e-5
    assert run.fun == pytest.approx(line(run.x, X, y))


def test_fit_takes_arrays_branches_and_batches():
    X, y = regression()

    def loss(w, X, y):
        error = X @ w[:3] + w[3] - y
        return np.mean(error**2) if np.max(np.abs(error)) > 1 else np.mean(np.abs(error))  # two paths

    run = kb.fit(loss, np.zeros(4), nn.batches(X, y, size=20), kb.SGD(lr=0.1), epochs=40)
    np.testing.assert_allclose(run.x, [1.0, -2.0, 0.5, 2.0], atol=0.2)
    assert run.x.shape == (4,)
    number = kb.fit(lambda m, x: np.mean((x - m) ** 2), 0.0, X[:, 0], kb.SGD(lr=0.1), epochs=30, batch_size=60)
    assert number.x == pytest.approx(X[:, 0].mean(), abs=0.01)


def test_fit_sees_what_its_function_reads_change():
    X, y = regression()
    scale = {"by": 1.0}

    def loss(w, X, y):
        return scale["by"] * np.mean((X @ w - y) ** 2)

    def later(epoch):
        scale["by"] = 0.0

    run = kb.fit(loss, np.zeros(3), (X, y), kb.SGD(lr=0.1), epochs=3, batch_size=60, on_epoch=later)
    assert run.history.fun[0] > 0
    np.testing.assert_array_equal(run.history.fun[1:], 0)


def test_fit_refuses_what_it_cant_do():
    X, y = regression()
    with pytest.raises(InputError, match="loss must be a function"):
        kb.fit("line", {}, (X, y))
    with pytest.raises(InputError, match="60 samples"):
        kb.fit(line, {"w": np.zeros(3), "b": 0.0}, (X, y[:-1]))
    with pytest.raises(InputError, match=r"data\[0\] must be finite"):
        kb.fit(line, {"w": np.zeros(3), "b": 0.0}, (X * np.nan, y))
    with pytest.raises(FunctionError, match="one number"):
        kb.fit(lambda w, X, y: (X @ w - y) ** 2, np.zeros(3), (X, y))


def untraceable(params, X, y):
    scale = float(str(params["w"][0])) / params["w"][0]  # 1, by way of a text
    return np.mean((scale * X @ params["w"] + params["b"] - y) ** 2)


def test_a_loss_that_cant_be_traced_is_trained_by_differences():
    X, y = regression()
    options = {"epochs": 20, "batch_size": 16, "validation": (X, y)}
    start = {"w": np.ones(3), "b": 0.0}
    with pytest.warns(FallbackWarning, match=r"test_network.py:\d+: the text of a traced value") as warned:
        run = kb.fit(untraceable, start, (X, y), kb.Adam(lr=0.1), **options)
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert run.gradient_source == "adaptive differences"
    assert (run.executor, run.executor_reason) == ("python", "the gradient does not come from backpropagation")
    assert run.njev == 0
    assert run.nfev > 8 * run.nit  # four parameters, two sides
    exact = kb.fit(line, start, (X, y), kb.Adam(lr=0.1), **options)
    np.testing.assert_allclose(run.history.fun, exact.history.fun, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(run.history.epochs.fun, exact.history.epochs.fun, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(run.history.epochs.grad_norm, exact.history.epochs.grad_norm, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(run.x["w"], exact.x["w"], rtol=1e-6)
    np.testing.assert_allclose(run.jac["w"], exact.jac["w"], atol=1e-6)


def test_differences_take_over_where_a_later_path_cant_be_traced():
    X, y = regression()

    def loss(w, X, y):
        if w[0] > 0.5:
            return untraceable({"w": w, "b": 2.0}, X, y)
        return line({"w": w, "b": 2.0}, X, y)

    with pytest.warns(FallbackWarning):
        run = kb.fit(loss, np.zeros(3), (X, y), kb.SGD(lr=0.1), epochs=30, batch_size=30)
    np.testing.assert_allclose(run.x, [1.0, -2.0, 0.5], atol=1e-3)
    assert 0 < run.njev < run.nit
    assert run.gradient_source == "adaptive differences"
    with pytest.warns(FallbackWarning):
        none = kb.fit(untraceable, {"w": np.ones(3), "b": 0.0}, (X, y), epochs=0)
    assert none.fun == pytest.approx(line({"w": np.ones(3), "b": 0.0}, X, y))


def test_a_training_by_differences_goes_on_bit_for_bit(tmp_path):
    X, y = regression()
    start, options = {"w": np.ones(3), "b": 0.0}, {"batch_size": 20}
    file = tmp_path / "fit.npz"
    runs = []
    for more in ({"epochs": 4}, {"epochs": 2, "checkpoint": file}, {"epochs": 4, "resume": file}):
        with pytest.warns(FallbackWarning):
            runs.append(kb.fit(untraceable, start, (X, y), "adam", **options, **more))
    whole, _, run = runs
    np.testing.assert_array_equal(run.history.fun, whole.history.fun)
    np.testing.assert_array_equal(run.x["w"], whole.x["w"])


def test_a_function_that_reads_every_batch_keeps_few_programs(monkeypatch):
    """Every batch takes its own path, and only the newest are kept."""
    X, y = nn.moons(400, seed=0)
    kept = []
    original = training_step.StepPrograms.run

    def run(self, *args):
        result = original(self, *args)
        kept.append(sum(map(len, self._forms.values())))
        return result

    monkeypatch.setattr(training_step.StepPrograms, "run", run)

    def loss(w, X, y):
        return np.mean((X @ w - y) ** 2) * int(y @ 2 ** np.arange(10))

    kb.fit(loss, np.zeros(2), (X, y), kb.SGD(lr=1e-6), epochs=2, batch_size=10)
    assert len(kept) == 80
    assert max(kept) == training_step.PATHS


LIKE = {
    "dense": lambda **k: nn.Network([nn.Dense(20), nn.Tanh(), nn.Dense(2)], nn.CrossEntropy(), **k),
    "everything": lambda **k: everything_on(**k),
    "class weights": lambda **k: nn.Network([nn.Dense(2)], nn.CrossEntropy(class_weight=[1.0, 2.0]), **k),
}


@pytest.mark.parametrize("in_machine_code", [False, True], ids=["numpy", "machine code"])
@pytest.mark.parametrize("case", LIKE)
def test_the_second_network_of_a_shape_traces_and_compiles_nothing(case, in_machine_code, toys, monkeypatch):
    X, y = toys
    monkeypatch.setattr(training_step, "FUSED", 0 if in_machine_code else 10**9)
    options = {"epochs": 3, "batch_size": 32, "validation": 0.2, "patience": 9}
    optimizers = (kb.Adam(lr=0.01), kb.Adam(lr=kb.schedules.cosine(0.1, 30)), kb.Adam(lr=0.1))
    expected = []
    for optimizer in optimizers:
        program_cache.clear()
        net = LIKE[case](seed=1)
        expected.append((net.fit(X, y, optimizer, **options), net.vector.copy()))
    program_cache.clear()
    LIKE[case](seed=5).fit(X, y, kb.Adam(lr=0.3), **options)

    def refuse(*_, **__):
        raise AssertionError("something is traced or compiled")

    for module, name in (
        (training_step, "record_call"),
        (training_step, "compile_bound"),
        (paths, "record_call"),
        (arrays, "_Plan"),
    ):
        monkeypatch.setattr(module, name, refuse)
    for optimizer, (run, vector) in zip(optimizers, expected, strict=True):
        net = LIKE[case](seed=1)
        again = net.fit(X, y, optimizer, **options)
        np.testing.assert_array_equal(net.vector, vector)
        np.testing.assert_array_equal(again.history.fun, run.history.fun)
        assert (again.nfev, again.njev, again.fun, again.best_fun) == (run.nfev, run.njev, run.fun, run.best_fun)
        assert (again.executor, again.message) == (run.executor, run.message)
    with pytest.raises(AssertionError, match="traced or compiled"):
        LIKE[case](seed=1).fit(X, y, kb.SGD(lr=0.1), **options)


# What makes another network, or the same one compute something else.
UNLIKE = {
    "units": lambda net: nn.Network([nn.Dense(21), nn.LeakyReLU(0.1), nn.Dense(2)], nn.CrossEntropy()),
    "slope": lambda net: nn.Network([nn.Dense(20), nn.LeakyReLU(0.5), nn.Dense(2)], nn.CrossEntropy()),
    "bias": lambda net: nn.Network([nn.Dense(20, bias=False), nn.LeakyReLU(0.1), nn.Dense(2)], nn.CrossEntropy()),
    "penalty": lambda net: nn.Network([nn.Dense(20), nn.LeakyReLU(0.1), nn.Dense(2)], nn.CrossEntropy(), l2=0.5),
    "smoothing": lambda net: nn.Network(
        [nn.Dense(20), nn.LeakyReLU(0.1), nn.Dense(2)], nn.CrossEntropy(label_smoothing=0.5)
    ),
    "weights": lambda net: nn.Network(
        [nn.Dense(20), nn.LeakyReLU(0.1), nn.Dense(2)], nn.CrossEntropy(class_weight=[1, 9])
    ),
    "precision": lambda net: nn.Network(
        [nn.Dense(20), nn.LeakyReLU(0.1), nn.Dense(2)], nn.CrossEntropy(), dtype=np.float64
    ),
    "a setting that was changed": lambda net: setattr(net.layers[1], "slope", 0.9) or net,
    "a penalty that was changed": lambda net: setattr(net, "l2", 0.5) or net,
    "own layer": lambda net: nn.Network([nn.Dense(20), Steep(), nn.Dense(2)], nn.CrossEntropy()),
}


class Steep(nn.LeakyReLU):
    def value(self, x):
        return 3.0 * x


@pytest.mark.parametrize("case", UNLIKE)
def test_networks_that_compute_something_else_share_nothing(case, toys):
    X, y = toys
    first = nn.Network([nn.Dense(20), nn.LeakyReLU(0.1), nn.Dense(2)], nn.CrossEntropy())
    first.fit(X, y, kb.SGD(lr=0.1), epochs=1)
    other = UNLIKE[case](first)
    before = None if other.input_shape is None else other.vector.copy()
    found = other.fit(X, y, kb.SGD(lr=0.1), epochs=2)
    program_cache.clear()
    alone = copy.deepcopy(other)
    if before is None:
        alone = UNLIKE[case](small()) if "changed" not in case else alone
    else:
        alone.vector = before
    expected = alone.fit(X, y, kb.SGD(lr=0.1), epochs=2)
    np.testing.assert_array_equal(found.history.fun, expected.history.fun)
    assert found.fun == expected.fun
    np.testing.assert_array_equal(alone.vector, other.vector)


def test_a_layer_of_ones_own_is_traced_at_every_training(toys):
    X, y = toys

    class Scale(nn.Layer):
        factor = 1.0

        def apply(self, params, x, state, *, train, noise=None):
            return self.factor * x, state

    runs = []
    net = nn.Network([nn.Dense(4), Scale(), nn.Dense(2)], nn.CrossEntropy())
    for factor in (1.0, 0.0):
        net.layers[1].factor = factor
        runs.append(net.fit(X, y, kb.SGD(lr=0.1), epochs=1))
        assert runs[-1].fun == pytest.approx(net.loss(X, y), rel=1e-6)
    assert not program_cache


def test_few_programs_are_kept_and_no_data(toys):
    X, y = toys
    for units in range(1, 20):
        nn.Network([nn.Dense(units), nn.Dense(2)], nn.CrossEntropy()).fit(X, y, epochs=1)
    assert len(program_cache) == 16
    net = LIKE["dense"]()
    gone = weakref.ref(net)
    data = np.array(X, np.float32)
    rows = weakref.ref(data)
    net.fit(data, y, epochs=1)
    del net, data
    gc.collect()
    assert gone() is None
    assert rows() is None


def test_equal_networks_train_at_the_same_time(toys):
    X, y = toys
    nets = [LIKE["dense"](seed=k) for k in range(4)]
    expected = []
    for k in range(4):
        alone = LIKE["dense"](seed=k)
        alone.fit(X, y, kb.SGD(lr=0.1, momentum=0.9), epochs=20)
        expected.append(alone.vector)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda net: net.fit(X, y, kb.SGD(lr=0.1, momentum=0.9), epochs=20), nets))
    for net, vector in zip(nets, expected, strict=True):
        np.testing.assert_array_equal(net.vector, vector)


def test_the_step_of_a_training_is_one_program(toys):
    """Forward, loss, backward and update are one graph, whose source can be read."""
    X, y = toys
    training = lane.Training.of(
        NetworkModel(net := small().build((2,)), None, None), nn.batches(X, y, size=50),
        kb.SGD(lr=0.1, momentum=0.9), epochs=1,
    )  # fmt: skip
    training.begin()
    source = training.programs.source
    assert source.count("matmul") == 5  # two forward, three backward: the inputs need no gradient
    assert "return" in source
    assert net.layout.size == 42
