"""check_gradient: every wrong component is named, and no right one is blamed."""

from __future__ import annotations

import numpy as np
import pytest

import koubai as kb
from koubai.derivatives.check import LISTED, check_gradient
from koubai.errors import FunctionError, InputError


def logsumexp(x):
    top = x.max()
    return top + np.log(np.exp(x - top).sum())


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


class Network:
    """Mean cross-entropy of a 64-64-10 tanh network over 32 samples, as one vector of 4,810 parameters."""

    size = 4810

    def __init__(self, dtype=np.float64):
        rng = np.random.default_rng(0)
        self.inputs = rng.random((32, 64)).astype(dtype)
        self.targets = np.eye(10)[rng.integers(10, size=32)].astype(dtype)
        self.start = (rng.standard_normal(self.size) / 10).astype(dtype)

    def forward(self, p):
        weights, bias = p[:4096].reshape(64, 64), p[4096:4160]
        out, out_bias = p[4160:4800].reshape(64, 10), p[4800:]
        hidden = np.tanh(self.inputs @ weights + bias)
        z = hidden @ out + out_bias
        return hidden, out, z - z.max(axis=1, keepdims=True)

    def loss(self, p):
        _, _, z = self.forward(p)
        return np.mean(np.log(np.exp(z).sum(axis=1)) - (z * self.targets).sum(axis=1))

    def gradient(self, p):
        hidden, out, z = self.forward(p)
        y = np.exp(z)
        delta = (y / y.sum(axis=1, keepdims=True) - self.targets) / len(z)
        below = delta @ out.T * (1 - hidden**2)
        parts = (self.inputs.T @ below, below.sum(axis=0), hidden.T @ delta, delta.sum(axis=0))
        return np.concatenate([part.ravel() for part in parts])


@pytest.fixture(scope="module")
def network():
    return Network()


# ---- few components ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_one_component_in_twenty_off_by_a_millionth(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(20)
    wrong = softmax(x)
    k = int(rng.integers(20))
    right = wrong[k]
    wrong[k] *= 1 + 1e-6
    check = check_gradient(logsumexp, wrong, x, seed=seed)
    assert not check.ok
    assert not check
    assert [one.index for one in check.wrong] == [k]
    one = check.wrong[0]
    assert one.given == wrong[k]
    assert abs(one.expected - right) <= one.tolerance < abs(one.given - one.expected)
    assert f"x[{k}]: given" in repr(check)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_no_false_alarm(seed, offset):
    x = np.random.default_rng(seed).standard_normal(20)
    check = check_gradient(lambda z: logsumexp(z) + offset, softmax, x, seed=seed)
    assert check.ok
    assert check
    assert check.wrong == ()
    assert f"tolerance {check.tolerance:.1e}" in repr(check)


def test_the_reachable_tolerance_grows_with_the_noise_and_is_stated():
    x = np.random.default_rng(0).standard_normal(20)
    wrong = softmax(x)
    wrong[3] *= 1 + 1e-3
    plain, *offset = (check_gradient(lambda z, c=c: logsumexp(z) + c, wrong, x) for c in (0.0, 1e6, 1e12))
    tolerances = [plain.tolerance, *(check.tolerance for check in offset)]
    assert tolerances[0] < tolerances[1] < tolerances[2]
    assert [one.index for one in offset[0].wrong] == [3]  # still seen
    assert offset[1].ok  # no longer: 1e12 + f has four digits left
    assert f"{offset[1].tolerance:.1e}" in repr(offset[1])


@pytest.mark.parametrize(
    "f",
    [
        lambda z: logsumexp(z.astype(np.float32)),
        lambda z: float(logsumexp(z.astype(np.float32))),
        lambda z: np.float32(logsumexp(z)),
        lambda z: logsumexp(z.astype(np.float32)) + np.float32(1e3),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float32_raises_no_false_alarm(f, dtype):
    for seed in range(5):
        x = np.random.default_rng(seed).standard_normal(20).astype(dtype)
        check = check_gradient(f, lambda z: softmax(z.astype(np.float32)).astype(dtype), x, seed=seed)
        assert check.ok, check
        wrong = softmax(x)
        largest = int(wrong.argmax())
        wrong[largest] *= -1
        assert [one.index for one in check_gradient(f, wrong, x, seed=seed).wrong] == [largest]


def test_several_wrong_components_are_all_named():
    x = np.random.default_rng(1).standard_normal((4, 5))
    wrong = 2 * x
    places = [(0, 0), (1, 3), (3, 4)]
    for place in places:
        wrong[place] += 0.1
    check = check_gradient(lambda z: (z**2).sum(), wrong, x)
    assert [one.index for one in check.wrong] == places
    assert [one.label for one in check.wrong] == ["x[0, 0]", "x[1, 3]", "x[3, 4]"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [3, 100])
def test_what_is_not_finite_is_wrong(bad, size):
    x = np.ones(size)
    given = 2 * x
    given[1] = bad
    check = check_gradient(lambda z: (z**2).sum(), given, x)
    assert [one.index for one in check.wrong] == [1]
    assert check.wrong[0].expected == pytest.approx(2.0)
    assert np.isnan(check_gradient(abs, np.nan, 0.0).wrong[0].given)  # also where f has no slope to compare it with


def test_the_forms_of_x():
    assert check_gradient(np.sin, np.cos, 1).ok
    assert check_gradient(np.sin, lambda x: -np.cos(x), 1.0).wrong[0].index == ()
    x = {"W": np.array([[1, 2], [3, 4]]), "b": 2.0}
    f = lambda p: (p["W"] ** 2).sum() * p["b"]  # noqa: E731
    right = {"b": 30, "W": [[4, 8], [12, 16]]}
    assert check_gradient(f, right, x).ok
    check = check_gradient(f, lambda p: {"W": 2 * p["W"] * p["b"], "b": 31.0}, x)
    assert [one.index for one in check.wrong] == [("b",)]
    check = check_gradient(f, {"b": 30, "W": [[4, 8], [11, 16]]}, x)
    assert [one.index for one in check.wrong] == [("W", 1, 0)]
    assert check.wrong[0].label == "W[1, 0]"


def test_nothing_of_the_caller_is_changed():
    x, given = np.ones(100), np.full(100, 2.0)
    given[7] = np.nan

    def spoil(z):
        value = (z**2).sum()
        z[:] = 0
        return value

    def spoiled(z):
        g = 2 * z
        z[:] = 0
        return g

    assert not check_gradient(spoil, given, x).ok
    assert check_gradient(spoil, spoiled, x).ok
    assert np.isnan(given[7])
    np.testing.assert_array_equal(x, np.ones(100))


def test_a_subgradient_at_a_kink_is_not_blamed():
    x = np.array([0.0, 1.0, -2.0])
    check = check_gradient(lambda z: np.abs(z).sum(), np.sign, x)
    assert check.ok
    assert any("kink" in text for text in check.warnings)
    assert "kink" in repr(check)


@pytest.mark.parametrize("size", [3, 100])
def test_no_verdict_where_nothing_can_be_measured(size):
    check = check_gradient(lambda z: np.cbrt(z).sum(), np.zeros(size), np.zeros(size))
    assert not check.ok
    assert check.wrong == ()
    assert "no verdict" in repr(check)
    assert check.warnings


def test_what_can_not_be_used():
    with pytest.raises(InputError, match="gradient has shape"):
        check_gradient(logsumexp, np.zeros(3), np.zeros(4))
    with pytest.raises(InputError, match="keys"):
        check_gradient(lambda p: p["a"], {"b": 1.0}, {"a": 1.0})
    with pytest.raises(FunctionError, match="finite"):
        check_gradient(lambda z: np.nan, np.zeros(4), np.zeros(4))
    with pytest.raises(FunctionError, match="finite"):
        check_gradient(lambda z: np.inf, np.zeros(100), np.zeros(100))
    with pytest.raises(FunctionError, match="returned None"):
        check_gradient(lambda z: None, np.zeros(4), np.zeros(4))
    with pytest.raises(ZeroDivisionError, match="mine"):
        check_gradient(logsumexp, lambda z: (_ for _ in ()).throw(ZeroDivisionError("mine")), np.zeros(4))


# ---- many components -----------------------------------------------------------------------------------------------


def test_one_component_in_4810_off_by_a_thousandth(network):
    right = network.gradient(network.start)
    named = 0
    for seed in range(20):
        k = int(np.random.default_rng(seed).integers(network.size))
        wrong = right.copy()
        wrong[k] *= 1 + 1e-3
        check = check_gradient(network.loss, wrong, network.start, seed=seed)
        named += [one.index for one in check.wrong] == [k]
        assert check.nfev <= 1000
    assert named >= 19


def test_no_false_alarm_among_4810(network):
    for seed in range(20):
        check = check_gradient(network.loss, network.gradient, network.start, seed=seed)
        assert check.ok, check
        assert check.nfev <= 200


def test_several_wrong_components_among_4810_are_all_named(network):
    wrong = network.gradient(network.start)
    places = [3, 77, 1000, 1001, 2405, 4200, 4809]
    wrong[places] += 1e-3 * np.array([1, -1, 1, -1, 1, 1, 1])  # equal ones cancel along half of the directions
    for seed in range(5):
        check = check_gradient(network.loss, wrong, network.start, seed=seed)
        assert [one.index for one in check.wrong] == places
        assert f"{len(places)} of 4810" in repr(check)


def test_a_gradient_that_is_wrong_everywhere(network):
    check = check_gradient(network.loss, lambda p: -network.gradient(p), network.start)
    assert len(check.wrong) == LISTED
    assert f"ended at {LISTED}" in check.warnings[-1]
    assert "… and 90 more" in repr(check)


@pytest.mark.parametrize("hidden", [False, True])
def test_a_float32_network_raises_no_false_alarm(hidden):
    network = Network(np.float32)
    cast = (lambda p: float(network.loss(p.astype(np.float32)))) if hidden else network.loss
    for seed in range(5):
        check = check_gradient(cast, network.gradient, network.start, seed=seed)
        assert check.ok, check
    wrong = network.gradient(network.start)
    wrong[4805] += 1
    assert [one.index for one in check_gradient(cast, wrong, network.start).wrong] == [4805]


def test_the_evaluations_are_counted(network):
    for x, gradient in ((np.ones(5), 2.0), (np.ones(80), 2.0), (np.ones(80), 2.1)):
        calls = []

        def f(z, calls=calls):
            calls.append(1)
            return (z**2).sum()

        check = check_gradient(f, gradient * x, x)
        assert check.nfev == len(calls)


def test_the_same_seed_gives_the_same_verdict(network):
    wrong = network.gradient(network.start)
    wrong[100] += 1e-4
    assert check_gradient(network.loss, wrong, network.start, seed=5) == check_gradient(
        network.loss, wrong, network.start, seed=5
    )


def test_an_f_that_returns_its_gradient_too_is_checked_against_itself():
    assert kb.check_gradient(lambda x: (np.sum(x**2), 2 * x), True, [1.0, 2.0]).ok
    wrong = kb.check_gradient(lambda x: (np.sum(x**2), x * [2.0, 3.0]), True, [1.0, 2.0]).wrong
    assert [one.index for one in wrong] == [1]
    with pytest.raises(FunctionError, match="value, gradient"):
        kb.check_gradient(np.sum, True, [1.0, 2.0])
