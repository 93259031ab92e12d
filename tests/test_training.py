"""A training step as one program: what it tells of the epoch on the way, with machine code and without."""

import numpy as np
import pytest

import koubai as kb
from koubai import nn
from koubai.descent import training as lane
from koubai.errors import GradientError, Interrupted
from koubai.execute import library
from koubai.graph.trace import evaluate
from koubai.nn.network import _NetworkModel

SIZES = [4, 120]  # units: with NumPy alone, and with machine code around the products
SAMPLES, SIZE = 40, 16


def network(units, dtype=np.float64):
    layers = [nn.Dense(units), nn.Tanh(), nn.Dense(units), nn.ReLU(), nn.Dense(3)]
    return nn.Network(layers, nn.CrossEntropy(), seed=1, dtype=dtype)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(SAMPLES, 5)), rng.integers(0, 3, SAMPLES)


@pytest.mark.parametrize("units", SIZES)
def test_an_epoch_is_summed_up_as_by_hand(units, data):
    X, y = data
    net = network(units)
    run = net.fit(X, y, kb.SGD(lr=1e-14), epochs=2, batch_size=SIZE)  # the weights stay where they are
    assert run.executor == ("native" if units > 100 and library.available() else "numpy")

    def gradient(rows):
        return np.concatenate([part.ravel() for part in net.gradient(X[rows], y[rows]).values()])

    mean = gradient(np.arange(SAMPLES))
    epochs = run.history.epochs
    order = nn.batches(X, y, size=SIZE, seed=1)
    for k in range(2):
        parts = [(len(rows), gradient(rows)) for rows in order.rows(k)]
        assert [n for n, _ in parts] == [16, 16, 8]
        square = sum(n * float(g @ g) for n, g in parts) / SAMPLES
        assert epochs.noise[k] == pytest.approx(np.sqrt(square - float(mean @ mean)), rel=1e-9)
        assert epochs.grad_norm[k] == pytest.approx(np.abs(mean).max(), rel=1e-9)
        assert epochs.fun[k] == pytest.approx(net.loss(X, y), rel=1e-9)
        assert epochs.accuracy[k] == net.score(X, y)
        first = net.layout.view(parts[0][1])
        norms = [np.sqrt(sum(float(np.sum(first[f"{i}.{name}"] ** 2)) for name in "Wb")) for i in (0, 2, 4)]
        np.testing.assert_allclose(epochs.layer_grad_norm[k], norms, rtol=1e-9)


@pytest.mark.parametrize("units", SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_epoch_that_was_interrupted_is_summed_up_to_the_same_bits(units, dtype, data, tmp_path, monkeypatch):
    X, y = data
    file = tmp_path / "training.npz"
    options = {"epochs": 3, "batch_size": SIZE}
    straight = network(units, dtype).fit(X, y, "adam", **options)
    for stop in range(2, 8):
        give = _NetworkModel.data

        def press(self, batch, t, stop=stop, give=give):
            if t == stop:
                raise KeyboardInterrupt
            return give(self, batch, t)

        with monkeypatch.context() as patch:
            patch.setattr(_NetworkModel, "data", press)
            with pytest.raises(Interrupted):
                network(units, dtype).fit(X, y, "adam", checkpoint=(file, 1), **options)
        run = network(units, dtype).fit(X, y, "adam", resume=file, **options)
        for name in ("fun", "grad_norm", "noise", "accuracy"):
            np.testing.assert_array_equal(
                getattr(run.history.epochs, name), getattr(straight.history.epochs, name), err_msg=f"{name}, {stop}"
            )
        for name, value in straight.x.items():
            np.testing.assert_array_equal(run.x[name], value)


@pytest.mark.parametrize("units", SIZES)
@pytest.mark.parametrize(("bad", "what"), [(np.inf, "the loss is nan"), (0.0, "the gradient's component w")])
def test_a_step_that_is_not_finite_is_not_taken(units, bad, what, data):
    X, _ = data
    X = np.abs(X)

    def source(k):
        for i in range(3):
            yield (X[16 * i :][:16] * (bad if (k, i) == (1, 1) else 1.0),)

    def loss(params, X):
        return np.mean(np.sqrt(np.abs(X @ params["w"]))) + np.mean(np.square(params["v"] - 1.0))

    start = {"w": np.full(5, 0.1), "v": np.zeros(units * 40)}
    run = kb.fit(loss, start, source, kb.SGD(lr=0.1), epochs=3)
    assert run.status.name == "nonfinite"
    assert run.nit == 3
    assert what in run.message
    assert "at step 4 (epoch 2, batch 2)" in run.message
    before = kb.fit(loss, start, source, kb.SGD(lr=0.1), epochs=1)
    for name, value in before.x.items():  # the weights after the first epoch are those of step 3
        np.testing.assert_array_equal(run.x[name], value)


@pytest.mark.parametrize("units", SIZES)
def test_a_batch_counts_once_whatever_path_it_takes(units, data):
    """The path of the batch before is tried first, and given up where its guard fails."""
    X, _ = data

    def loss(params, X):
        w = params["w"] + np.mean(params["v"])
        return np.mean((X @ w) ** 2) if X[0, 0] > 0 else 3 * np.mean(np.abs(X @ w))

    X[[0, 16, 32], 0] = 1.0, -1.0, 1.0
    parts = [(X[16 * i :][:16],) for i in range(3)]
    start = {"w": np.full(5, 0.1), "v": np.zeros(units * 40)}
    run = kb.fit(loss, start, lambda k: iter(parts), kb.SGD(lr=1e-14), epochs=3)
    slopes = [(len(part), kb.grad(loss)(start, part)) for (part,) in parts]
    flat = [(n, np.concatenate([g["w"], g["v"]])) for n, g in slopes]
    mean = sum(n * g for n, g in flat) / SAMPLES
    square = sum(n * float(g @ g) for n, g in flat) / SAMPLES
    np.testing.assert_allclose(run.history.epochs.grad_norm, np.abs(mean).max(), rtol=1e-9)
    np.testing.assert_allclose(run.history.epochs.noise, np.sqrt(square - float(mean @ mean)), rtol=1e-9)


@pytest.mark.parametrize("units", SIZES)
def test_the_check_of_the_gradient_has_the_graph_of_the_loss(units, data, monkeypatch):
    """Near the kinks of many units differences tell nothing; the graph's own nodes do."""
    X, y = data
    seen = []

    def check(f, leaves, active, value, gradients, where, single, graph):
        (of_graph,) = evaluate(graph, *leaves)
        assert float(of_graph) == pytest.approx(f(*leaves), rel=1e-12)
        assert float(of_graph) == pytest.approx(value, rel=1e-12)
        seen.append((leaves[active[0]].size, gradients[0].size))

    monkeypatch.setattr(lane, "cross_check", check)
    net = network(units)
    net.fit(X, y, epochs=1, batch_size=SIZE)
    assert seen == [(net.layout.size, net.layout.size)]


def test_a_wrong_gradient_stops_the_training(data, monkeypatch):
    X, y = data
    right = lane.reverse

    def wrong(graph, active, auxiliary):
        # the gradients of two weights of equal shape change places
        gradient = right(graph, active, auxiliary=auxiliary)
        outputs = list(gradient.outputs)
        shapes = [gradient.nodes[i].shape for i in outputs]
        k = shapes.index((4,))
        m = shapes.index((4,), k + 1)
        outputs[k], outputs[m] = outputs[m], outputs[k]
        return type(gradient)(gradient.nodes, gradient.inputs, outputs, gradient.guards, gradient.kinks, gradient.name)

    monkeypatch.setattr(lane, "reverse", wrong)
    with pytest.raises(GradientError, match="backpropagation"):
        network(4).fit(X, y, epochs=1, batch_size=SIZE)
