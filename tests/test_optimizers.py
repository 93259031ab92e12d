import inspect
import pickle

import numpy as np
import pytest

import koubai as kb
from koubai.descent.rules import CHOICES, INTERVALS, RULES
from koubai.errors import InputError, UnknownNameError


@pytest.mark.parametrize("name", RULES)
def test_every_hyperparameter_has_its_range(name):
    for hyper, default in RULES[name].defaults.items():
        if isinstance(default, str):
            assert default in CHOICES[f"{name}.{hyper}"]
        else:
            assert isinstance(default, bool) or hyper in INTERVALS or f"{name}.{hyper}" in INTERVALS


@pytest.mark.parametrize("lr", [0, -0.1, float("nan"), float("inf"), "0.1", None, 1j, True, [0.1]])
def test_a_learning_rate_that_is_none_is_refused(lr):
    if lr is None:
        assert kb.SGD(lr).lr == 1e-3
        return
    with pytest.raises(InputError, match="SGD: lr must"):
        kb.SGD(lr=lr)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1"),
        ({"momentum": -0.1}, "momentum must lie in"),
        ({"momentum": float("nan")}, "momentum must be a real number"),
        ({"nesterov": 1}, "nesterov must be True or False"),
        ({"weight_decay": -1}, "weight_decay must lie in"),
        ({"dampening": 2}, r"dampening must lie in \[0, 1\]"),
    ],
)
def test_hyperparameters_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        kb.SGD(lr=0.1, **settings)


def test_an_unknown_hyperparameter_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'momentum'"):
        kb.SGD(lr=0.1, momentun=0.9)


def test_names_resolve_and_unknown_ones_suggest():
    assert kb.optimizers.resolve("SGD", lr=0.5) == kb.SGD(lr=0.5)
    assert "sgd" in kb.optimizers.names()
    with pytest.raises(UnknownNameError, match="did you mean 'sgd'"):
        kb.optimizers.resolve("sgdd")
    with pytest.raises(InputError, match="must be an object: write SGD"):
        kb.optimizers.resolve(kb.SGD)
    with pytest.raises(InputError, match="optimizer must be"):
        kb.optimizers.resolve(3)


def test_repr_can_be_pasted_and_equality_is_by_value():
    optimizer = kb.SGD(lr=0.1, momentum=0.9, nesterov=True)
    assert repr(optimizer) == "SGD(lr=0.1, momentum=0.9, nesterov=True)"
    assert eval(repr(optimizer), {"SGD": kb.SGD}) == optimizer
    assert optimizer != kb.SGD(lr=0.1)
    assert hash(optimizer) == hash(kb.SGD(lr=0.1, momentum=0.9, nesterov=True))
    assert pickle.loads(pickle.dumps(optimizer)) == optimizer


def test_the_signature_and_the_docstring_are_the_rules_own():
    defaults = {name: p.default for name, p in inspect.signature(kb.SGD).parameters.items()}
    assert RULES["sgd"].defaults.items() <= defaults.items()
    assert defaults["semantics"] == "torch"
    assert "Polyak" in inspect.getdoc(kb.SGD)


def test_a_schedule_gives_each_step_its_rate():
    run = kb.minimize(lambda x: x**2, 1.0, kb.SGD(lr=lambda t: 0.1 / (1 + t)), max_steps=3)
    assert run.history.lr.tolist() == [0.1, 0.05, 0.1 / 3, 0.025]
    x = 1.0
    for t in range(3):
        x -= 0.1 / (1 + t) * 2 * x
    assert run.x == pytest.approx(x, rel=1e-9)


@pytest.mark.parametrize("lr", [-1.0, float("nan"), None, "x"])
def test_a_schedule_that_gives_no_rate_is_refused(lr):
    with pytest.raises(InputError, match=r"schedule gave .* at step 0"):
        kb.minimize(lambda x: x**2, 1.0, kb.SGD(lr=lambda t: lr))


class TestSGDByHand:
    """The first steps on f = x², from 1, worked out on paper: g = 2x."""

    def path(self, steps=3, **settings):
        run = kb.minimize(
            lambda x: x**2, 1.0, kb.SGD(lr=0.1, **settings), grad=lambda x: 2 * x, max_steps=steps, gtol=0
        )
        return run.history.x

    def test_plain(self):
        np.testing.assert_allclose(self.path(), [1, 0.8, 0.64, 0.512], rtol=1e-15)

    def test_momentum_starts_with_the_gradient_itself(self):
        # b: 2, 0.9·2 + 1.6 = 3.4, 0.9·3.4 + 0.92 = 3.98
        np.testing.assert_allclose(self.path(momentum=0.9), [1, 0.8, 0.46, 0.062], rtol=1e-14)

    def test_the_first_step_ignores_dampening(self):
        # b: 2, then 0.9·2 + 0.5·1.6 = 2.6
        np.testing.assert_allclose(self.path(2, momentum=0.9, dampening=0.5), [1, 0.8, 0.54], rtol=1e-14)

    def test_nesterov(self):
        # b = 2: step 0.1·(2 + 0.9·2) = 0.38; g = 1.24, b = 3.04: step 0.1·(1.24 + 2.736) = 0.3976
        np.testing.assert_allclose(self.path(2, momentum=0.9, nesterov=True), [1, 0.62, 0.2224], rtol=1e-14)

    def test_weight_decay_is_added_to_the_gradient(self):
        np.testing.assert_allclose(self.path(1, weight_decay=0.5), [1, 0.75], rtol=1e-15)


@pytest.mark.parametrize("settings", [{}, {"momentum": 0.9}, {"momentum": 0.5, "nesterov": True}])
def test_the_stability_limit_is_where_it_is_said_to_be(settings):
    """On x²/2·k the rule shrinks just below the limit and grows just above it."""
    curvature = 3.0
    limit = kb.SGD(lr=1.0, **settings).largest_stable_lr(curvature)
    ends = []
    for factor in (0.99, 1.01):
        optimizer = kb.SGD(lr=factor * limit, **settings)
        x = np.array([1.0])
        state = optimizer.init(x)
        for t in range(1, 3000):
            x, state = optimizer.step(x, curvature * x, state, t, optimizer.lr_at(t - 1))
        ends.append(abs(x[0]))
    assert ends[0] < 1e-3
    assert ends[1] > 1e3


def test_a_step_changes_nothing_that_it_is_given():
    x, g = np.array([1.0, 2.0]), np.array([0.5, -0.5])
    optimizer = kb.SGD(lr=0.1, momentum=0.9, weight_decay=0.1)
    state = optimizer.init(x)
    kept = [a.copy() for a in (x, g, *state)]
    _, after = optimizer.step(x, g, state, 1, 0.1)
    optimizer.step(x, g, after, 2, 0.1)
    assert all(np.array_equal(a, b) for a, b in zip((x, g, *state), kept, strict=True))
