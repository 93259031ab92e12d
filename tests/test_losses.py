"""Every loss: its derivatives agree with differences, it is what its formula says, and it refuses what doesn't fit."""

import numpy as np
import pytest

from koubai import nn
from koubai.derivatives.differences import numerical_gradient
from koubai.derivatives.gradient import grad, hvp
from koubai.errors import InputError
from koubai.graph.call import trace

NUMBERS, LABELS, ROWS, YES = "numbers", "labels", "rows", "yes"
WEIGHTS = [0.5, 1.0, 2.0]
LOSSES = {
    "Loss": (nn.Loss(), NUMBERS),
    "MSE": (nn.MSE(), NUMBERS),
    "MAE": (nn.MAE(), NUMBERS),
    "Huber": (nn.Huber(), NUMBERS),
    "Huber 0.3": (nn.Huber(0.3), NUMBERS),
    "CrossEntropy": (nn.CrossEntropy(), LABELS),
    "CrossEntropy smoothed": (nn.CrossEntropy(label_smoothing=0.1), LABELS),
    "CrossEntropy weighted": (nn.CrossEntropy(class_weight=WEIGHTS), LABELS),
    "CrossEntropy both": (nn.CrossEntropy(class_weight={0: 0.5, 1: 1.0, 2: 2.0}, label_smoothing=0.3), LABELS),
    "CrossEntropy rows": (nn.CrossEntropy(), ROWS),
    "CrossEntropy rows both": (nn.CrossEntropy(class_weight=WEIGHTS, label_smoothing=0.3), ROWS),
    "BinaryCrossEntropy": (nn.BinaryCrossEntropy(), YES),
    "BinaryCrossEntropy both": (nn.BinaryCrossEntropy(class_weight=(1, 3), label_smoothing=0.2), YES),
}
SHAPES = {
    NUMBERS: ((1, 1), (4, 3), (3, 2, 2)),
    LABELS: ((1, 3), (5, 3)),
    ROWS: ((1, 3), (5, 3)),
    YES: ((1, 1), (5, 1), (4, 3)),
}
CASES = [
    pytest.param(loss, kind, shape, id=f"{name}-{shape}")
    for name, (loss, kind) in LOSSES.items()
    for shape in SHAPES[kind]
]


def batch(kind, shape, dtype=np.float64):
    random = np.random.default_rng(sum(shape))
    outputs = 2 * random.normal(size=shape).astype(dtype)
    if kind == NUMBERS:
        return outputs, random.normal(size=shape).astype(dtype)
    if kind == LABELS:
        return outputs, random.integers(0, shape[1], shape[0])
    if kind == ROWS:
        return outputs, random.dirichlet(np.ones(shape[1]), shape[0]).astype(dtype)
    y = random.integers(0, 2, shape).astype(dtype)
    return outputs, y[:, 0] if shape[1] == 1 else y


def test_every_loss_is_tested():
    known = {kind for kind in vars(nn).values() if isinstance(kind, type) and issubclass(kind, nn.Loss)}
    assert known == {type(loss) for loss, _ in LOSSES.values()}


@pytest.mark.filterwarnings("ignore:.* does not depend on its argument:koubai.errors.GradientWarning")  # Loss() is 0
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("loss", "kind", "shape"), CASES)
def test_backward_agrees_with_differences(loss, kind, shape, weighted):
    outputs, y = batch(kind, shape)
    weight = np.random.default_rng(1).uniform(0.1, 2.0, shape[0]) if weighted else None
    value = loss.forward(outputs, y, weight)
    assert value == loss(outputs, y, weight)
    assert value.shape == ()
    got = loss.backward()
    expected = numerical_gradient(lambda z: loss(z, y, weight), outputs).value
    assert np.abs(got - expected).max() <= 1e-7 * np.abs(expected).max() + 1e-15
    v = np.random.default_rng(2).normal(size=shape)
    h = 1e-5
    slope = (grad(loss)(outputs + h * v, y, weight) - grad(loss)(outputs - h * v, y, weight)) / (2 * h)
    np.testing.assert_allclose(hvp(loss)(outputs, v, y, weight), slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("loss", "kind", "shape"), CASES)
def test_float32_stays_float32_and_agrees(loss, kind, shape):
    outputs, y = batch(kind, shape, np.float32)
    for target in (y, y.astype(np.float64) if y.dtype.kind == "f" else y):  # targets of another precision
        for weight in (None, np.arange(1.0, shape[0] + 1)):
            value = loss.forward(outputs, target, weight)
            assert value.dtype == loss.backward().dtype == np.float32
            exact = loss(outputs.astype(np.float64), target, weight)
            assert float(value) == pytest.approx(float(exact), rel=2e-6, abs=1e-6)
            graph = trace(loss, outputs, target, weight).gradient([0])
            wide = [n for n in graph.nodes if n.dtype == np.float64 and n.shape and n.inputs and n.op.name != "astype"]
            assert not wide


# --- what they compute
def softmax(z):
    p = np.exp(z)
    return p / p.sum(axis=1, keepdims=True)


def test_the_formulas():
    z, y = batch(NUMBERS, (4, 3))
    r = z - y
    assert nn.MSE()(z, y) == pytest.approx(np.mean(r**2))
    assert nn.MAE()(z, y) == pytest.approx(np.mean(np.abs(r)))
    huber = np.where(np.abs(r) <= 0.7, r**2 / 2, 0.7 * (np.abs(r) - 0.35))
    assert nn.Huber(0.7)(z, y) == pytest.approx(np.mean(huber))
    z, y = batch(LABELS, (5, 3))
    logs = np.log(softmax(z))
    w = np.array(WEIGHTS)
    assert nn.CrossEntropy()(z, y) == pytest.approx(-logs[np.arange(5), y].mean())
    weighted = -(w[y] * logs[np.arange(5), y]).sum() / w[y].sum()
    assert nn.CrossEntropy(class_weight=WEIGHTS)(z, y) == pytest.approx(weighted)
    one_hot = np.eye(3)[y]
    assert nn.CrossEntropy()(z, one_hot) == pytest.approx(nn.CrossEntropy()(z, y))
    smooth = 0.8 * one_hot + 0.2 / 3
    assert nn.CrossEntropy(label_smoothing=0.2)(z, y) == pytest.approx(-(smooth * logs).sum(axis=1).mean())
    z, y = batch(YES, (4, 3))
    p = 1 / (1 + np.exp(-z))
    each = -y * np.log(p) - (1 - y) * np.log(1 - p)
    assert nn.BinaryCrossEntropy()(z, y) == pytest.approx(each.mean())
    w = np.where(y == 1, 3.0, 0.5)
    assert nn.BinaryCrossEntropy(class_weight=(0.5, 3.0))(z, y) == pytest.approx((w * each).sum() / w.sum())


@pytest.mark.parametrize(("loss", "kind", "shape"), CASES)
def test_a_weight_counts_as_often_as_it_says(loss, kind, shape):
    outputs, y = batch(kind, shape)
    times = np.arange(shape[0]) % 3 + 1
    weighted = loss(outputs, y, times.astype(float))
    assert weighted == pytest.approx(loss(np.repeat(outputs, times, axis=0), np.repeat(y, times, axis=0)), rel=1e-12)


def test_the_simple_net_of_the_slides():
    """Row N2: a 2×3 W, softmax, cross-entropy; dW = outer(x, p − t), whose rows sum to 0."""
    W = np.random.default_rng(0).normal(size=(2, 3))
    x, t = np.array([[0.6, 0.9]]), np.array([[0.0, 0.0, 1.0]])
    loss = nn.CrossEntropy()
    f = lambda W: loss(x @ W, t)  # noqa: E731
    dW = grad(f)(W)
    np.testing.assert_allclose(dW, np.outer(x, softmax(x @ W) - t), rtol=1e-12)
    np.testing.assert_allclose(dW.sum(axis=1), 0.0, atol=1e-15)
    np.testing.assert_allclose(dW, numerical_gradient(f, W).value, atol=1e-8)


def test_logits_beyond_all_measure():
    for dtype in (np.float32, np.float64):
        z = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]], dtype)
        loss = nn.CrossEntropy()
        assert loss.forward(z, [0, 1]) == 0
        np.testing.assert_array_equal(loss.backward(), np.zeros((2, 3)))
        assert loss.forward(z, [1, 0]) == 2e4
        np.testing.assert_allclose(loss.backward(), [[0.5, -0.5, 0], [-0.5, 0.5, 0]])
        binary = nn.BinaryCrossEntropy()
        assert binary.forward(z, [[1, 0, 0.5], [0, 1, 0.5]]) == pytest.approx(np.log(2) / 3)
        assert np.isfinite(binary.backward()).all()
        assert binary.forward(z[:, :1], [0, 1]) == 1e4
        tiny = nn.BinaryCrossEntropy().forward(dtype([[50.0]]), [1])
        assert tiny == pytest.approx(np.exp(-50.0), rel=1e-5)  # 1 − p alone would be 0


def test_predictions_and_probabilities():
    z = np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 900.0]])
    np.testing.assert_array_equal(nn.CrossEntropy().predict(z), [0, 2])
    np.testing.assert_allclose(nn.CrossEntropy().proba(z)[0], softmax(z[:1])[0])
    np.testing.assert_array_equal(nn.CrossEntropy().proba(z)[1], [0, 0, 1])
    z = np.array([[-900.0], [0.5]])
    np.testing.assert_array_equal(nn.BinaryCrossEntropy().predict(z), [0, 1])
    np.testing.assert_array_equal(nn.BinaryCrossEntropy().predict(np.hstack([z, -z])), [[0, 1], [1, 0]])
    np.testing.assert_allclose(nn.BinaryCrossEntropy().proba(z), [[0.0], [1 / (1 + np.exp(-0.5))]])
    np.testing.assert_array_equal(nn.MSE().predict(z), z)
    assert [loss.classifies for loss in (nn.MSE(), nn.CrossEntropy(), nn.BinaryCrossEntropy())] == [False, True, True]


def test_a_column_against_a_row_is_not_spread():
    z, y = np.array([[1.0], [2.0]]), np.array([1.0, 2.0])
    assert nn.MSE()(z, y) == 0.0
    with pytest.raises(InputError, match=r"y has shape \(2,\), but the outputs have \(2, 2\)"):
        nn.MSE()(np.ones((2, 2)), y)


def test_check_returns_what_the_loss_takes():
    assert nn.CrossEntropy().check((3,), np.array([0, 2], np.uint8)).dtype == np.intp
    assert nn.CrossEntropy().check((2,), [True, False]).tolist() == [1, 0]
    assert nn.CrossEntropy().check((3,), np.eye(3, dtype=int)).dtype == np.float64
    assert nn.BinaryCrossEntropy().check((1,), [True, False]).tolist() == [1.0, 0.0]
    assert nn.MSE().check((1,), [1, 2]).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Huber(0), "delta must be a number > 0"),
        (lambda: nn.CrossEntropy(label_smoothing=1.0), r"label_smoothing must lie in \[0, 1\)"),
        (lambda: nn.CrossEntropy(class_weight=[0, 0]), "class_weight must be one number ≥ 0 a class"),
        (lambda: nn.MSE().forward([[1.0], [2.0]], [1.0, 2.0], [1.0]), r"one number a sample, shape \(2,\)"),
        (lambda: nn.MSE().forward([[1.0], [2.0]], [1.0, 2.0], [1.0, -1.0]), "sample_weight must be finite, ≥ 0"),
        (lambda: nn.CrossEntropy(class_weight={1: 2.0}), "class_weight must name every class 0, 1"),
        (lambda: nn.BinaryCrossEntropy(class_weight=[1, 2, 3]), r"class_weight must be \(weight of no"),
        (lambda: nn.CrossEntropy(class_weight=[1, 2]).check((3,), [0]), "class_weight has 2 entries for 3 classes"),
        (lambda: nn.CrossEntropy().check((3,), [0, 3]), r"y\[1\] = 3, but with 3 outputs labels are 0 … 2"),
        (lambda: nn.CrossEntropy().check((3,), [-1, 0]), r"y\[0\] = -1"),
        (lambda: nn.CrossEntropy().check((3,), [0.0, 1.0]), "y must hold whole numbers 0 … 2"),
        (lambda: nn.CrossEntropy().check((3,), ["a", "b"]), "y must hold whole numbers"),
        (
            lambda: nn.CrossEntropy().check((3,), [[1, 0], [0, 1]]),
            "rows of 2 probabilities, but the network puts out 3",
        ),
        (lambda: nn.CrossEntropy().check((2,), [[0.5, 0.6]]), r"y\[0\] = \[0.5 0.6\] is no row of probabilities"),
        (lambda: nn.CrossEntropy().check((2,), [[np.nan, 1.0]]), r"y\[0, 0\] = nan"),
        (lambda: nn.CrossEntropy().check((1,), [0]), "use BinaryCrossEntropy"),
        (lambda: nn.CrossEntropy().check((2, 4, 4), [0]), r"the network puts out \(2, 4, 4\) a sample"),
        (lambda: nn.BinaryCrossEntropy().check((1,), [0, 2]), r"y\[1\] = 2.0, but y says no with 0 and yes with 1"),
        (lambda: nn.MSE().check((2,), [[1.0, np.inf]]), r"y must be finite, but y\[0, 1\] = inf"),
        (lambda: nn.MSE().check((2,), [[1.0]]), r"y has shape \(1, 1\), but the network puts out \(2,\) a sample"),
        (lambda: nn.MSE().check((1,), [None]), "y is of object dtype"),
        (lambda: nn.MSE().forward(np.ones((3, 1)), [1.0, 2.0]), "3 outputs, but y has 2 rows"),
        (lambda: nn.MSE().backward(), "backward was called before forward"),
        (lambda: nn.MSE().proba(np.ones(2)), "knows no classes"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(InputError, match=message):
        make()
