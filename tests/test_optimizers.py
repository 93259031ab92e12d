import copy
import fnmatch
import inspect
import math
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

import koubai as kb
from koubai.descent import schedules
from koubai.descent.optimizers import PRESETS, SEMANTICS
from koubai.descent.rules import CHOICES, INTERVALS, RULES
from koubai.descent.stability import fixed_bound
from koubai.errors import FunctionError, InputError, UnknownNameError
from koubai.parameters import flatten


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


@pytest.mark.parametrize(
    "settings",
    [{}, {"momentum": 0.9}, {"momentum": 0.5, "nesterov": True}, {"momentum": 0.9, "weight_decay": 2.0},
     {"weight_decay": 1.0}, {"momentum": 0.5, "nesterov": True, "semantics": "keras"}],
)  # fmt: skip
def test_the_stability_limit_is_where_it_is_said_to_be(settings):
    """On x²/2·k the rule shrinks just below the limit and grows just above it."""
    curvature = 3.0
    limit = fixed_bound(kb.SGD(lr=1.0, **settings), curvature)
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


# -- every optimizer by its name --------------------------------------------------------------------------------------

NAMES = kb.optimizers.names()
SEARCHES = ("barzilaiborwein", "conjugategradient", "gradientdescent", "lbfgs", "levenbergmarquardt")
NEED_F = ("momo", "polyaksgd")
CLASSES = {name: type(kb.optimizers.resolve(name)) for name in NAMES}
PASTE = {cls.__name__: cls for cls in CLASSES.values()}
EVERY_SEMANTICS = [
    (name, semantics) for name in NAMES for semantics in SEMANTICS[CLASSES[name].rule.name]
]  # fmt: skip


def test_every_optimizer_of_the_plan_is_there():
    planned = """SGD Momentum Nesterov Adagrad RMSprop Adadelta Adam AMSGrad AdamW Adamax NAdam RAdam Rprop ASGD Ftrl
    Lion Lamb Lars Adafactor Muon AdaBelief Adan Yogi NovoGrad ScheduleFreeSGD ScheduleFreeAdamW DoG DoWG
    DAdaptAdamW Prodigy MoMo PolyakSGD COCOB GradientDescent BarzilaiBorwein ConjugateGradient LBFGS
    LevenbergMarquardt"""
    assert set(planned.split()) <= set(PASTE)
    assert {CLASSES[name].rule.name for name in NAMES} == set(RULES) == set(SEMANTICS)
    assert set(PASTE) < set(kb.optimizers.__all__)


@pytest.mark.parametrize(("name", "semantics"), EVERY_SEMANTICS)
def test_an_optimizer_is_a_value(name, semantics):
    optimizer = kb.optimizers.resolve(name, semantics=semantics, lr=0.03)
    assert eval(repr(optimizer), PASTE) == optimizer
    assert hash(eval(repr(optimizer), PASTE)) == hash(optimizer)
    assert pickle.loads(pickle.dumps(optimizer)) == optimizer
    assert optimizer == kb.optimizers.resolve(type(optimizer).__name__, semantics=semantics, lr=0.03)
    assert optimizer != kb.optimizers.resolve(name, semantics=semantics, lr=0.04)
    changed = kb.optimizers.resolve(name, semantics=semantics, weight_decay=0.125)
    assert "weight_decay=0.125" in repr(changed)
    assert eval(repr(changed), PASTE) == changed != optimizer
    assert inspect.getdoc(type(optimizer))
    assert all(type(v) in (float, int, bool, str, type(None)) for v in optimizer.hyperparameters.values())


@pytest.mark.parametrize("name", [n for n in NAMES if n not in PRESETS])
def test_defaults_are_the_rules_own_but_for_what_the_table_says(name):
    optimizer = kb.optimizers.resolve(name)
    table = SEMANTICS[optimizer.rule.name][optimizer.semantics]
    actual = {"lr": optimizer.lr} | optimizer.hyperparameters
    assert {n: actual[n] for n in optimizer.rule.defaults} == optimizer.rule.defaults | {
        n: v for n, v in table.items() if n in optimizer.rule.defaults
    }


def test_names_of_their_own_are_settings_of_another():
    assert kb.optimizers.AMSGrad(lr=0.1) == kb.optimizers.Adam(lr=0.1, amsgrad=True)
    assert kb.optimizers.Momentum(lr=0.1) == kb.SGD(lr=0.1, momentum=0.9)
    assert kb.optimizers.Nesterov(lr=0.1) == kb.SGD(lr=0.1, momentum=0.9, nesterov=True)
    assert kb.optimizers.AdamW() == kb.optimizers.Adam(weight_decay=1e-2, decoupled_weight_decay=True)
    assert kb.optimizers.AdamW(semantics="keras").hyperparameters["weight_decay"] == 4e-3
    assert repr(kb.optimizers.AMSGrad()) == "AMSGrad(lr=0.001)"
    assert repr(kb.optimizers.Momentum(lr=0.1, momentum=0.5)) == "Momentum(lr=0.1, momentum=0.5)"


def test_semantics_set_the_defaults_and_are_refused_where_there_are_none():
    assert kb.optimizers.Adam().semantics == "torch"
    assert kb.optimizers.Ftrl().semantics == "keras"
    assert kb.optimizers.Yogi().semantics == "optax"
    assert kb.optimizers.LBFGS().semantics == "paper"
    keras = kb.optimizers.Adam(semantics="keras")
    assert (keras.hyperparameters["eps"], keras.hyperparameters["eps_in"]) == (1e-7, "raw")
    assert kb.optimizers.Adam(semantics="keras", eps=1e-3).hyperparameters["eps"] == 1e-3
    assert repr(keras) == "Adam(lr=0.001, semantics='keras')"
    with pytest.raises(InputError, match=r"torch has no Ftrl; use semantics='keras'"):
        kb.optimizers.Ftrl(semantics="torch")
    with pytest.raises(UnknownNameError, match="did you mean 'keras'"):
        kb.optimizers.Adam(semantics="kerras")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("adam", {"beta1": 1.0}, r"Adam: beta1 must lie in \[0, 1\), got 1"),
        ("adam", {"beta_1": 0.9}, "did you mean 'beta1'"),
        ("adam", {"eps_in": "root"}, "eps_in must be 'corrected' or 'raw', got 'root'"),
        ("adam", {"clipnorm": 0}, r"clipnorm must lie in \(0, inf\]"),
        ("adam", {"clipnorm": 1.0, "clipvalue": 1.0}, "give clipvalue or clipnorm, not both"),
        ("adam", {"lr": None, "weight_decay": None}, "weight_decay must be a real number, got None"),
        ("rprop", {"eta_plus": 1.0}, r"eta_plus must lie in \(1, inf\)"),
        ("rprop", {"step_min": 60.0}, "step_min 60.0 must be below step_max 50.0"),
        ("lbfgs", {"history_size": 2.5}, "history_size must be a whole number, got 2.5"),
        ("lbfgs", {"history_size": 0}, "history_size must lie in"),
        ("lbfgs", {"history_size": float("inf")}, "history_size must be a whole number"),
        ("muon", {"decoupled_weight_decay": True}, "unknown Muon hyperparameter"),
        ("ftrl", {"lr_power": 0.5}, r"lr_power must lie in \(-inf, 0\]"),
        ("cocob", {"alpha": 0}, r"alpha must lie in \(0, inf\)"),
        ("rmsprop", {"alpha": 1.5}, r"alpha must lie in \[0, 1\]"),
    ],
)
def test_settings_that_can_not_be_used(name, settings, message):
    with pytest.raises(InputError, match=message):
        kb.optimizers.resolve(name, **settings)


def test_whole_numbers_may_come_as_floats_and_numbers_as_numpys():
    assert kb.optimizers.LBFGS(history_size=5.0).hyperparameters["history_size"] == 5
    optimizer = kb.optimizers.Adam(lr=np.float32(0.5), beta1=np.float64(0.5), amsgrad=np.bool_(True))
    assert type(optimizer.lr) is float
    assert type(optimizer.hyperparameters["beta1"]) is float
    assert optimizer.hyperparameters["amsgrad"] is True


# -- options that every optimizer takes -------------------------------------------------------------------------------


def one_step(optimizer, x=(3.0, 4.0), g=(1.0, -2.0), layout=None):
    x = np.array(x)
    return optimizer.step(x, np.array(g), optimizer.init(x, layout), 1, optimizer.lr_at(0), layout=layout)[0]


def test_weight_decay_is_coupled_in_torch_and_apart_in_keras():
    np.testing.assert_allclose(one_step(kb.SGD(lr=0.1, weight_decay=0.5)), [3 - 0.1 * 2.5, 4 - 0.1 * 0.0])
    # Adam's first step is lr * sign: coupled decay changes the sign only, decoupled decay takes 5% off first
    torch, keras = (kb.optimizers.Adam(lr=0.1, weight_decay=0.6, semantics=s) for s in ("torch", "keras"))
    np.testing.assert_allclose(one_step(torch), [2.9, 3.9], rtol=1e-6)
    np.testing.assert_allclose(one_step(keras), [3 * 0.94 - 0.1, 4 * 0.94 + 0.1], rtol=1e-6)
    apart = kb.optimizers.Adam(lr=0.1, weight_decay=0.6, decoupled_weight_decay=True)
    np.testing.assert_allclose(one_step(apart), one_step(keras), rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_weight_decay_does_something_everywhere(name):
    if name in SEARCHES:
        return
    ends = []
    for decay in (0.0, 0.3):
        optimizer = kb.optimizers.resolve(name, weight_decay=decay, lr=0.1)
        layout, x = flatten({"w": np.array([[3.0, 4.0], [1.0, -2.0]])})
        state = optimizer.init(x, layout)
        for t in range(30):
            x, state = optimizer.step(x, x - 1, state, t + 1, 0.1, fun=1.0, layout=layout)
        ends.append(x)
    assert not np.allclose(*ends, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_line_search_decays_by_adding_to_f(name):
    """The least of (x - 1)²/2 + x²/2·3 is at 1/4."""
    f, grad = (lambda x: float(((x - 1) ** 2).sum()) / 2), (lambda x: x - 1)
    run = kb.minimize(f, [3.0, -2.0], kb.optimizers.resolve(name, weight_decay=3.0), grad=grad, max_steps=60, gtol=0)
    np.testing.assert_allclose(run.x, 0.25, rtol=1e-6)
    with pytest.raises(InputError, match=r"unknown \w+ hyperparameter 'decoupled_weight_decay'"):
        kb.optimizers.resolve(name, decoupled_weight_decay=True)


def test_clipping_by_value_and_by_norm():
    np.testing.assert_allclose(one_step(kb.SGD(lr=1.0, clipvalue=1.5)), [2.0, 5.5])
    g = np.array([1.0, -2.0])
    norm = np.sqrt(5)
    expected = {"torch": g / (norm + 1e-6), "keras": g / norm, "optax": g / norm}
    for semantics, clipped in expected.items():
        end = one_step(kb.SGD(lr=1.0, clipnorm=1.0, semantics=semantics))
        np.testing.assert_allclose(end, [3.0, 4.0] - clipped, rtol=1e-14)
        assert np.array_equal(one_step(kb.SGD(lr=1.0, clipnorm=3.0, semantics=semantics)), [2.0, 6.0])


def test_keras_clips_the_norm_of_each_array():
    layout, _ = flatten({"a": np.ones(1), "b": np.ones(1)})
    np.testing.assert_allclose(one_step(kb.SGD(lr=1.0, clipnorm=0.5, semantics="keras"), layout=layout), [2.5, 4.5])
    together = one_step(kb.SGD(lr=1.0, clipnorm=0.5, semantics="optax"), layout=layout)
    np.testing.assert_allclose(together, np.array([3.0, 4.0]) - 0.5 * np.array([1.0, -2.0]) / np.sqrt(5))


def test_a_gradient_whose_square_overflows_is_clipped_too():
    """The longer a gradient, the more it needs clipping: never to 0 because its norm was taken for infinite."""
    for large, dtype in ((1e200, np.float64), (1e30, np.float32)):
        x, g = np.zeros(3, dtype), np.array([3 * large, -4 * large, 0], dtype)
        for semantics in ("torch", "keras", "optax"):
            optimizer = kb.SGD(lr=1.0, clipnorm=5.0, semantics=semantics)
            end, _ = optimizer.step(x, g, optimizer.init(x), 1, 1.0)
            np.testing.assert_allclose(end, [-3.0, 4.0, 0.0], rtol=1e-6)
            assert end.dtype == dtype
            assert optimizer.clips(x, g)
    untouched = one_step(kb.SGD(lr=1.0, clipnorm=np.inf), g=(0.0, -2.0))
    assert np.array_equal(untouched, [3.0, 6.0])


# The rules that evaluate f themselves, in each of their forms.
SEARCH_FORMS = [
    ("gradientdescent", {}),
    ("gradientdescent", {"line_search": "wolfe"}),
    ("barzilaiborwein", {"lr": 0.05}),
    ("barzilaiborwein", {"lr": 0.05, "variant": "short"}),
    ("conjugategradient", {}),
    ("conjugategradient", {"variant": "fr"}),
    ("lbfgs", {}),
    ("lbfgs", {"semantics": "torch", "line_search": "wolfe"}),
    ("lbfgs", {"semantics": "torch", "lr": 0.5}),  # no line search
]
CLIPPING = ["clipvalue", "clipnorm"]


def size_of(g, option):
    """The number that an option compares with its limit."""
    return np.abs(g).max() if option == "clipvalue" else np.sqrt((g * g).sum())


def valley(n=4):
    """A convex function that is no quadratic, of condition 30: value, gradient, start."""
    weight, shift = np.geomspace(1, 30, n), np.linspace(-1, 2, n)

    def f(x):
        return float(
            np.sum(weight * (x - shift) ** 2) / 2 + np.sum((x - shift) ** 4) / 8 + (x.sum() - shift.sum()) ** 2
        )

    def grad(x):
        return weight * (x - shift) + (x - shift) ** 3 / 2 + 2 * (x.sum() - shift.sum())

    return f, grad, shift, np.linspace(3, -4, n)


@pytest.mark.parametrize("option", CLIPPING)
@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_takes_both_kinds_of_clipping(name, option):
    for semantics in SEMANTICS[CLASSES[name].rule.name]:
        optimizer = kb.optimizers.resolve(name, semantics=semantics, **{option: 0.5})
        assert optimizer.hyperparameters[option] == 0.5
        assert f"{option}=0.5" in repr(optimizer)
        assert eval(repr(optimizer), PASTE) == optimizer != kb.optimizers.resolve(name, semantics=semantics)
        assert option in inspect.signature(type(optimizer)).parameters
        assert fixed_bound(optimizer, 1.0) is None
        x = np.array([1.0, -2.0, 0.5])
        assert optimizer.clips(x, np.array([0.6, -0.3, 0.0]))
        assert not optimizer.clips(x, np.array([0.3, -0.3, 0.0]))
        assert not kb.optimizers.resolve(name, semantics=semantics).clips(x, np.array([1e9, 0.0, 0.0]))
        for wrong in (0, -1.0, float("nan"), "1", True):
            with pytest.raises(InputError, match=rf"{type(optimizer).__name__}: {option} must"):
                kb.optimizers.resolve(name, semantics=semantics, **{option: wrong})
        with pytest.raises(InputError, match="give clipvalue or clipnorm, not both"):
            kb.optimizers.resolve(name, clipvalue=1.0, clipnorm=1.0)


@pytest.mark.parametrize("option", CLIPPING)
@pytest.mark.parametrize(("name", "settings"), SEARCH_FORMS, ids=str)
def test_a_search_steps_otherwise_exactly_where_the_gradient_exceeds_the_limit(name, settings, option):
    """At every point of an unclipped path, one update with and one without clipping, from one state.

    A clipped norm makes the direction shorter and leaves it where it is. Conjugate gradients and L-BFGS scale some
    first trials by the direction's length, and then nothing changes. Everything else does.
    """
    f, grad, _, x = valley()
    plain = kb.optimizers.resolve(name, **settings)
    limit = size_of(grad(x), option) / 1000
    scaled = option == "clipnorm" and name in ("conjugategradient", "lbfgs")
    clipping = kb.optimizers.resolve(name, **settings, **{option: limit})
    state, seen, differing = plain.init(x), [], 0
    for t in range(1, 40):
        g, lr = grad(x), plain.lr_at(t - 1)
        given = {"fun": f(x), "evaluate": lambda x: (f(x), grad(x))}
        end, after = plain.step(x, g, state, t, lr, **given)
        clipped, _ = clipping.step(x, g, state, t, lr, **given)
        exceeds = bool(size_of(g, option) > limit)
        assert clipping.clips(x, g) == exceeds
        differs = not np.array_equal(clipped, end)
        assert differs == exceeds or (scaled and exceeds), (t, clipped, end)
        if clipping.hyperparameters.get("line_search") != "none":
            assert f(clipped) < f(x) or name == "barzilaiborwein"
        differing += differs
        seen.append(exceeds)
        x, state = end, after
        if np.abs(g).max() < 1e-4:
            break
    assert seen[0]
    assert not seen[-1]
    assert differing


@pytest.mark.sampled(7)
@pytest.mark.parametrize("option", CLIPPING)
@pytest.mark.parametrize(("name", "settings"), SEARCH_FORMS, ids=str)
def test_a_limit_that_no_gradient_reaches_changes_no_bit(name, settings, option):
    """On the whole catalogue, and with a limit just above the largest gradient of the path."""
    for problem in map(kb.problems.__getitem__, kb.problems.names()):
        plain = kb.minimize(
            problem.f, problem.x0, kb.optimizers.resolve(name, **settings), grad=problem.grad, max_steps=60
        )
        largest = max(size_of(problem.grad(x), option) for x in plain.history.x)
        optimizer = kb.optimizers.resolve(name, **settings, **{option: 1.0001 * largest + 1e-5})
        run = kb.minimize(problem.f, problem.x0, optimizer, grad=problem.grad, max_steps=60)
        assert np.array_equal(run.history.x, plain.history.x), problem.name
        assert (run.message, run.nfev, run.fun) == (plain.message, plain.nfev, plain.fun), problem.name
        assert not run.history.clipped.any(), problem.name


@pytest.mark.parametrize("form", ["array", "dict", "float32"])
@pytest.mark.parametrize("option", CLIPPING)
@pytest.mark.parametrize(("name", "settings"), SEARCH_FORMS, ids=str)
def test_hard_clipping_still_converges(name, settings, option, form):
    """A quadratic of condition 20 whose first gradient is a hundred times the limit or more."""
    weight, least = np.geomspace(1, 20, 6), np.linspace(-1, 1, 6)
    dtype = np.float32 if form == "float32" else np.float64
    start = np.array([5, -8, 2, 7, -3, 9], dtype)
    w, b = weight.astype(dtype), least.astype(dtype)
    limit = size_of(weight * (start - least), option) / 100

    def f(p):
        x = np.concatenate([p["a"].ravel(), p["b"]]) if form == "dict" else p
        return ((w * (x - b) ** 2).sum() / 2).astype(dtype)

    def grad(p):
        g = w * ((np.concatenate([p["a"].ravel(), p["b"]]) if form == "dict" else p) - b)
        return {"a": g[:4].reshape(2, 2), "b": g[4:]} if form == "dict" else g

    x0 = {"a": start[:4].reshape(2, 2), "b": start[4:]} if form == "dict" else start
    gtol = 1e-3 if form == "float32" else 1e-8
    optimizer = kb.optimizers.resolve(name, **settings, **{option: limit})
    run = kb.minimize(f, x0, optimizer, grad=grad, max_steps=2000, gtol=gtol)
    assert run.success, run.message
    x = np.concatenate([run.x["a"].ravel(), run.x["b"]]) if form == "dict" else run.x
    assert x.dtype == dtype
    np.testing.assert_allclose(x, least, atol=1e-3 if form == "float32" else 1e-8)
    assert run.history.clipped[0]
    assert not run.history.clipped[-1]
    if form == "dict":  # the limit is on all arrays together, as in torch
        flat = kb.minimize(
            lambda x: ((w * (x - b) ** 2).sum() / 2).astype(dtype), start, optimizer, grad=lambda x: w * (x - b),
            max_steps=2000, gtol=gtol,
        )  # fmt: skip
        assert np.array_equal(flat.x, x)


@pytest.mark.parametrize("option", CLIPPING)
@pytest.mark.parametrize(("name", "settings"), [s for s in SEARCH_FORMS if "semantics" not in s[1]], ids=str)
def test_a_search_clips_the_gradient_of_f_with_its_decay(name, settings, option):
    """50 (x - 10)² + x²/2 from -5, limit 1: where a decay is added to a clipped gradient, all stands still at 1.

    There the clipped gradient -1 and the decay 1 cancel, though the sum falls until 1000 / 101.
    """
    optimizer = kb.optimizers.resolve(name, **settings, weight_decay=1.0, **{option: 1.0})
    run = kb.minimize(
        lambda x: 50 * (x - 10) ** 2, -5.0, optimizer, grad=lambda x: 100 * (x - 10), max_steps=3000, gtol=0
    )
    assert run.x == pytest.approx(1000 / 101, rel=1e-9)
    g = 100 * (run.history.x - 10)
    total = np.abs(g + run.history.x)
    clear = np.abs(total - 1) > 1e-5  # rounding may decide the rest
    assert np.array_equal(run.history.clipped[clear], total[clear] > 1.0)
    assert run.history.clipped[0]
    assert not run.history.clipped[-1]


def test_a_search_learns_curvature_from_unclipped_gradients():
    """L-BFGS's pairs, conjugate gradient's and Barzilai-Borwein's last gradients are those of f, however clipped."""
    f, grad, _, start = valley()
    for name, settings in SEARCH_FORMS:
        optimizer = kb.optimizers.resolve(name, **settings, clipvalue=0.01)
        x, state = start, optimizer.init(start)
        for t in range(1, 6):
            previous, x_before = state, x
            x, state = optimizer.step(
                x, grad(x), state, t, optimizer.lr_at(0), fun=f(x), evaluate=lambda x: (f(x), grad(x))
            )
            arrays, before = (dict(zip(optimizer.rule.state, s, strict=True)) for s in (state, previous))
            if "g_last" in arrays:
                assert np.array_equal(arrays["g_last"], grad(x_before))
            if "y" in arrays and t > 1 and arrays["ends"][0] > before["ends"][0]:
                newest = arrays["y"][int(arrays["ends"][1])]
                assert np.array_equal(newest, grad(x_before) - before["g_last"])


@pytest.mark.sampled(7)
@pytest.mark.parametrize("option", CLIPPING)
@pytest.mark.parametrize(("name", "settings"), SEARCH_FORMS[:-1], ids=str)  # without a search a step is twenty updates
def test_a_search_with_clipping_and_bounds(name, settings, option):
    f, grad, least, x0 = valley()
    optimizer = kb.optimizers.resolve(name, **settings, **{option: 0.5})
    run = kb.minimize(f, x0, optimizer, grad=grad, bounds=(-5, 5), max_steps=1500)
    assert (np.abs(run.history.x) <= 5).all()
    assert run.success, run.message
    np.testing.assert_allclose(run.x, least, atol=1e-5)


def test_rules_over_whole_arrays_see_each_array_of_the_dict():
    params = {"a": np.array([[3.0, 4.0]]), "b": np.array([0.6, 0.8, 0.0])}
    layout, x = flatten(params)
    optimizer = kb.optimizers.Lars(lr=1.0, trust_coefficient=0.1)
    g = np.array([1.0, 0.0, 0.0, 2.0, 0.0])
    end, state = optimizer.step(x, g, optimizer.init(x, layout), 1, 1.0, layout=layout)
    np.testing.assert_allclose(end, x - np.array([0.5, 0, 0, 0.1, 0]))  # |a| = 5, |b| = 1
    assert [s.shape for s in state] == [(1, 2), (3,)]
    assert optimizer.state_names(layout) == ("a.b", "b.b")


PATHS_BY_HASH = """
import hashlib, sys
import numpy as np
import koubai as kb

w, start = np.geomspace(1, 20, 40_000), {"W": np.full((200, 100), 3.0), "b": np.linspace(-1, 2, 20_000)}
whole = lambda p: np.concatenate([p["W"].ravel(), p["b"]])
f = lambda p: np.sum(w * (whole(p) - 1) ** 2) / 2
split = lambda g: {"W": g[:20_000].reshape(200, 100), "b": g[20_000:]}
for name in sys.argv[1:]:
    for options in ({}, {"weight_decay": 0.1, "clipnorm": 1.0}):
        optimizer = kb.optimizers.resolve(name, **options)
        run = kb.minimize(f, start, optimizer, grad=lambda p: split(w * (whole(p) - 1)), max_steps=6)
        bits = run.x["W"].tobytes() + run.x["b"].tobytes() + run.history.fun.tobytes()
        print(name, *options, hashlib.sha256(bits).hexdigest())
"""


@pytest.mark.slow
def test_no_bit_depends_on_the_number_of_threads():
    """BLAS adds up long dot products otherwise with two threads than with one.

    Muon's matrix products stay its own, and the Jacobians of Levenberg and Marquardt are few and long.
    """
    names = [n for n in NAMES if n not in ("muon", "levenbergmarquardt")]
    by_threads = [
        subprocess.run(
            [sys.executable, "-c", PATHS_BY_HASH, *names],
            env=os.environ | {f"{library}_NUM_THREADS": threads for library in ("OPENBLAS", "OMP", "MKL")},
            capture_output=True, text=True, check=True,
        ).stdout.splitlines()
        for threads in ("1", "2")
    ]  # fmt: skip
    assert len(by_threads[0]) == 2 * len(names)
    assert by_threads[0] == by_threads[1]


# -- update: in place -------------------------------------------------------------------------------------------------

PARAMS = {"W": np.array([[1.0, -2.0], [0.5, 3.0], [2.0, -1.0]]), "b": np.array([0.3, -0.7])}


def loss(p):
    return float(sum((v**2).sum() for v in p.values())) + 3.0


def loss_gradient(p):
    return {name: 2 * v for name, v in p.items()}


@pytest.mark.parametrize(("name", "semantics"), EVERY_SEMANTICS)
def test_update_takes_the_same_steps_as_a_descent(name, semantics):
    optimizer = kb.optimizers.resolve(name, semantics=semantics)
    params = {k: v.copy() for k, v in PARAMS.items()}
    if name in SEARCHES:
        with pytest.raises(InputError, match="evaluates f itself: use minimize"):
            optimizer.update(params, loss_gradient(params))
        return
    kept = dict(params)
    for _ in range(7):
        optimizer.update(params, loss_gradient(params), fun=loss(params))
    assert all(params[k] is kept[k] for k in params)  # in place
    run = kb.minimize(loss, PARAMS, kb.optimizers.resolve(name, semantics=semantics), grad=loss_gradient, max_steps=7)
    assert run.nit == 7
    for key, value in params.items():
        assert np.array_equal(value, run.x[key])
        assert not np.array_equal(value, PARAMS[key])


@pytest.mark.parametrize("name", [n for n in NAMES if n not in SEARCHES])
@pytest.mark.parametrize("at", [0, 1, 5])
def test_a_saved_state_goes_on_bit_for_bit(name, at):
    schedule = schedules.warmup(schedules.plateau(0.05, gamma=0.5, patience=1), steps=2)
    ends = []
    for restored in (False, True):
        optimizer = kb.optimizers.resolve(name, lr=schedule, clipvalue=3.0)
        params = {k: v.copy() for k, v in PARAMS.items()}
        for t in range(10):
            if restored and t == at:
                saved = pickle.loads(pickle.dumps(optimizer.state_dict()))
                optimizer.update(
                    {k: v.copy() for k, v in params.items()}, loss_gradient(params), fun=9.0
                )  # leaves no trace
                optimizer = kb.optimizers.resolve(name)
                optimizer.load_state_dict(saved)
                assert optimizer.lr == schedule
                assert optimizer.hyperparameters["clipvalue"] == 3.0
            optimizer.update(params, loss_gradient(params), fun=loss(params))
        ends.append(params)
    assert all(np.array_equal(ends[0][k], ends[1][k]) for k in PARAMS)


def test_update_of_a_plain_array_and_of_numbers_in_a_dict():
    x = np.array([3.0, 4.0])
    optimizer = kb.SGD(lr=0.1, momentum=0.9)
    for _ in range(300):
        optimizer.update(x, 2 * x)
    assert np.abs(x).max() < 1e-5
    params = {"w": 1.0, "b": np.array(2.0)}
    optimizer = kb.SGD(lr=0.1)
    optimizer.update(params, {"w": 2.0, "b": np.array(4.0)})
    assert params["w"] == 0.8
    assert params["b"] == np.array(1.6)


def test_update_keeps_the_dtype_of_each_array():
    params = {"a": np.ones(2, np.float32), "b": np.ones(2)}
    kb.optimizers.Adam(lr=0.1).update(params, {"a": np.ones(2, np.float32), "b": np.ones(2)})
    assert (params["a"].dtype, params["b"].dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(params["a"], 0.9, rtol=1e-6)


@pytest.mark.parametrize(
    ("params", "grads", "message"),
    [
        ({"w": np.ones(2)}, {"w": np.array([1.0, np.nan])}, r"gradient's component w\[1\] is nan; nothing was updated"),
        ({"w": np.ones(2)}, {"w": np.array([np.inf, 1.0])}, r"w\[0\] is inf"),
        ({"w": np.ones(2)}, {"v": np.ones(2)}, r"grads must be a dict with the keys \['w'\]"),
        ({"w": np.ones(2)}, {"w": np.ones(3)}, r"grads\['w'\] has shape \(3,\)"),
        ({"w": np.ones(2, int)}, {"w": np.ones(2)}, "w is of dtype int64, which would cut off every update"),
        (np.ones(2, int), np.ones(2), "params is of dtype int64"),
        ([1.0, 2.0], [1.0, 2.0], "params must be an array or a dict of arrays"),
        ({}, {}, "params is an empty dict"),
    ],
)
def test_updates_that_can_not_be_made_change_nothing(params, grads, message):
    kept = {k: v.copy() for k, v in params.items()} if isinstance(params, dict) else np.copy(params)
    optimizer = kb.SGD(lr=0.1, momentum=0.9)
    with pytest.raises((InputError, FunctionError), match=message):
        optimizer.update(params, grads)
    assert all(np.array_equal(kept[k], params[k]) for k in kept) if isinstance(params, dict) else True
    assert optimizer.state_dict()["t"] == 0


def test_read_only_arrays_are_refused():
    x = np.ones(2)
    x.flags.writeable = False
    with pytest.raises(InputError, match="read-only"):
        kb.SGD(lr=0.1).update(x, x)


def test_an_update_of_another_form_is_refused():
    optimizer = kb.Momentum(lr=0.1)
    optimizer.update({"w": np.ones(2)}, {"w": np.ones(2)})
    with pytest.raises(InputError, match="params"):
        optimizer.update({"w": np.ones(3)}, {"w": np.ones(3)})


@pytest.mark.parametrize("name", NEED_F)
def test_rules_and_schedules_that_look_at_f_ask_for_it(name):
    with pytest.raises(InputError, match=r"looks at f: call update\(params, grads, fun=f\(params\)\)"):
        kb.optimizers.resolve(name).update(np.ones(2), np.ones(2))
    with pytest.raises(InputError, match="looks at f"):
        kb.SGD(lr=schedules.plateau(0.1)).update(np.ones(2), np.ones(2))


def test_states_of_something_else_are_refused():
    optimizer = kb.optimizers.Adam()
    before = optimizer.state_dict()
    with pytest.raises(InputError, match="state of a sgd, not of a adam"):
        optimizer.load_state_dict(kb.SGD().state_dict())
    with pytest.raises(InputError, match="needs what state_dict returns"):
        optimizer.load_state_dict({"state": {}})
    other = kb.optimizers.Adam()
    other.update(np.ones(2), np.ones(2))
    broken = other.state_dict() | {"state": (np.ones(3), np.ones(2), np.zeros(()))}
    with pytest.raises(InputError, match=r"arrays of the shapes \[\(3,\)"):
        optimizer.load_state_dict(broken)
    assert optimizer.state_dict() == before


def test_one_object_serves_a_descent_and_an_update_loop_at_once():
    optimizer = kb.optimizers.Adam(lr=0.1)
    x, alone = np.array([1.0]), np.array([1.0])
    other = kb.optimizers.Adam(lr=0.1)
    for _ in range(5):
        optimizer.update(x, 2 * x)
        kb.minimize(lambda x: x**2, 3.0, optimizer, max_steps=3)
        other.update(alone, 2 * alone)
    assert np.array_equal(x, alone)


# -- compare ----------------------------------------------------------------------------------------------------------


def test_compare_says_where_the_frameworks_part_and_by_how_much():
    comparison = kb.optimizers.compare("adam", lr=0.5, eps=1e-2)
    assert comparison.differences["eps"] == {"torch": 1e-8, "keras": 1e-7, "optax": 1e-8}
    assert comparison.differences["eps_in"]["keras"] == "raw"
    assert comparison.paths["torch"].shape == (51, 2)
    assert comparison.largest["torch", "optax"] < 1e-14
    assert comparison.largest["torch", "keras"] > 0.1
    text = str(comparison)
    assert "eps_in" in text
    assert "torch-keras: paths differ by up to" in text
    close = kb.optimizers.compare("sgd", lr=0.1, momentum=0.9)
    assert max(close.largest.values()) < 1e-14
    assert kb.optimizers.compare("nadam", lr=0.5, momentum_decay=1.0, eps=1e-8).largest["torch", "keras"] < 1e-14


def test_compare_on_a_problem_of_ones_own():
    comparison = kb.optimizers.compare("rmsprop", lambda p: {"w": 2 * p["w"]}, {"w": np.ones((2, 2))}, steps=10)
    assert comparison.paths["keras"].shape == (11, 4)
    with pytest.raises(UnknownNameError, match="did you mean 'rmsprop'"):
        kb.optimizers.compare("rmsprob")
    assert "same formula and defaults" in str(kb.optimizers.compare("asgd"))


# -- what one object holds: attributes, groups, some gradients, tied arrays -------------------------------------------


def test_hyperparameters_are_read_and_set_by_name():
    optimizer = kb.SGD(lr=0.1)
    assert (optimizer.momentum, optimizer.nesterov, optimizer.clipnorm) == (0.0, False, None)
    optimizer.momentum = np.float32(0.5)
    optimizer.lr = 0.2
    assert optimizer == kb.SGD(lr=0.2, momentum=0.5)
    assert hash(optimizer) == hash(kb.SGD(lr=0.2, momentum=0.5))
    assert repr(optimizer) == "SGD(lr=0.2, momentum=0.5)"
    assert copy.deepcopy(optimizer).momentum == 0.5
    optimizer.lr = schedules.constant(0.1)
    assert optimizer.lr_at(3) == 0.1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lr", -0.1, "lr must lie in"),
        ("lr", math.nan, "lr must be a real number"),
        ("lr", math.inf, "lr must lie in"),
        ("lr", 0, "lr must lie in"),
        ("lr", "0.1", "lr must be a real number"),
        ("momentum", 1.5, r"SGD: momentum must lie in \[0, 1\)"),
        ("nesterov", 1, "nesterov must be True or False"),
        ("weight_decay", -1, "weight_decay must lie in"),
        ("clipnorm", 0.0, "clipnorm must lie in"),
        ("clipvalue", 1.0, "give clipvalue or clipnorm, not both"),
        ("learning_rate", 0.1, "unknown SGD hyperparameter 'learning_rate'"),
        ("beta1", 0.9, "unknown SGD hyperparameter 'beta1'"),
        ("semantics", "keras", "semantics can't be changed"),
        ("groups", {"x": {"mu": 1}}, "unknown setting of SGD: groups"),
    ],
)
def test_attributes_are_checked(name, value, message):
    optimizer = kb.SGD(lr=0.1, clipnorm=5.0)
    with pytest.raises(InputError, match=message):
        setattr(optimizer, name, value)
    assert optimizer == kb.SGD(lr=0.1, clipnorm=5.0)
    with pytest.raises(TypeError):
        optimizer.hyperparameters["momentum"] = 0.9
    with pytest.raises(AttributeError, match="no attribute 'beta1'"):
        optimizer.beta1  # noqa: B018


@pytest.mark.parametrize("size", [5, 40_000])  # the larger ones are updated in machine code
@pytest.mark.parametrize(
    ("make", "changes"),
    [
        (lambda: kb.SGD(lr=0.1), {"momentum": 0.9, "nesterov": True}),
        (lambda: kb.SGD(lr=0.1, momentum=0.9), {"momentum": 0.5}),
        (lambda: kb.Adam(lr=0.1), {"amsgrad": True, "beta1": 0.5, "lr": 0.02}),
        (lambda: kb.RMSprop(lr=0.1), {"centered": True, "momentum": 0.3}),
        (lambda: kb.Lamb(lr=0.1), {"weight_decay": 0.1}),
    ],
)
def test_a_change_acts_from_the_next_update_on(make, changes, size):
    """As in a loop by the pure rule, whose new arrays begin at zero."""
    rng = np.random.default_rng(0)
    x = {"a": rng.normal(size=size), "b": rng.normal(size=3)}
    layout, flat = flatten(x)
    optimizer, plain = make(), make()
    state = plain.init(flat, layout)
    for t in range(1, 7):
        if t == 4:
            for name, value in changes.items():
                setattr(optimizer, name, value)
                setattr(plain, name, value)
            begun = plain.init(np.zeros_like(flat), layout)
            state = tuple(a if np.shape(a) == np.shape(b) else b for a, b in zip(state, begun, strict=True))
        g = {name: np.cos(t * part) + part for name, part in x.items()}
        flat, state = plain.step(flat, layout.match(g, "g"), state, t, plain.lr_at(t), layout=layout)
        optimizer.update(x, g)
        np.testing.assert_allclose(layout.match(x, "x"), flat, rtol=1e-12, atol=1e-14)


def wide(dtype=np.float64):
    rng = np.random.default_rng(3)
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in (("0.W", (3, 4)), ("0.b", 4), ("1.W", (4, 2)),
                                                                          ("1.b", 2))}  # fmt: skip


def slopes(x, t):
    return {
        name: np.sin(t + np.arange(part.size, dtype=part.dtype)).reshape(part.shape) + part for name, part in x.items()
    }


GROUPS = {
    "decay": ({"*.b": {"weight_decay": 0}}, {"weight_decay": 0.1}),
    "frozen": ({"0.*": {"lr": 0}}, {}),
    "both": ({"*.b": {"weight_decay": 0}, "0.*": {"lr": 0}}, {"weight_decay": 0.1}),
    "rates": ({"0.*": {"lr": 0.01}, "?.b": {"lr": 0.3}}, {}),
    "one array": ({"1.W": {"lr": 0.5}}, {}),
    "all": ({"*": {"lr": 0.01}}, {}),
}
ALONE = [n for n in kb.optimizers.names() if "evaluate" not in kb.optimizers.resolve(n).rule.uses]


@pytest.mark.parametrize("case", GROUPS)
@pytest.mark.parametrize("name", ALONE)
def test_groups_are_optimizers_of_their_own(name, case):
    """Each group goes the way that it would go alone, by the pure step as by update."""
    groups, others = GROUPS[case]
    rule = kb.optimizers.resolve(name).rule
    known = kb.optimizers.resolve(name).hyperparameters
    if "weight_decay" in others and "weight_decay" not in known:
        return
    grouped = kb.optimizers.resolve(name, lr=0.1, groups=groups, **others)
    x, updated = wide(), wide()
    settings = {}
    for part in x:
        found = {}
        for pattern, own in groups.items():
            if fnmatch.fnmatchcase(part, pattern):
                found |= own
        settings.setdefault(repr(sorted(found.items())), (found, []))[1].append(part)
    layout, flat = flatten(x)
    state = grouped.init(flat, layout)
    for own, members in settings.values():
        alone = {member: x[member].copy() for member in members}
        if own.get("lr") != 0:
            optimizer = kb.optimizers.resolve(name, **({"lr": 0.1} | others | own))
            for t in range(1, 6):
                optimizer.update(alone, {m: g for m, g in slopes(wide() | alone, t).items() if m in alone}, fun=1.0 / t)
        settings[repr(sorted(own.items()))] = alone
    for t in range(1, 6):
        g = slopes(layout.view(flat), t)
        flat, state = grouped.step(flat, layout.match(g, "g"), state, t, 0.1, fun=1.0 / t, layout=layout)
        grouped.update(updated, slopes(updated, t), fun=1.0 / t)
    assert len(state) == len(grouped.state_names(layout))
    for alone in settings.values():
        for member, expected in alone.items():
            np.testing.assert_allclose(layout.view(flat)[member], expected, rtol=1e-12)
            np.testing.assert_allclose(updated[member], expected, rtol=1e-12)
    if case in ("frozen", "both"):
        np.testing.assert_array_equal(updated["0.W"], x["0.W"])
    assert "groups" in repr(grouped)
    assert rule.scope == "vector" or grouped == kb.optimizers.resolve(name, lr=0.1, groups=groups, **others)


def test_a_groups_rate_follows_the_schedule_in_proportion():
    for lr in (
        schedules.step(0.2, 2, gamma=0.5),
        schedules.warmup(schedules.constant(0.2), 4),
        lambda t: 0.2 / (t + 1),
    ):
        optimizer = kb.SGD(lr=lr, groups={"b": {"lr": 0.02}, "c": {"lr": 0}})
        x = {name: np.ones(2) for name in "abc"}
        for t in range(6):
            before = {name: part.copy() for name, part in x.items()}
            optimizer.update(x, {name: np.ones(2) for name in x})
            rate = optimizer.lr_at(t)
            np.testing.assert_allclose(before["a"] - x["a"], rate)
            np.testing.assert_allclose(before["b"] - x["b"], rate / 10)
            np.testing.assert_array_equal(x["c"], 1.0)


def test_frozen_parameters_have_no_part_in_the_clipped_norm():
    x = {"a": np.zeros(2), "b": np.zeros(2)}
    kb.SGD(lr=1.0, clipnorm=1.0, groups={"a": {"lr": 0}}).update(x, {"a": np.full(2, 1e6), "b": np.array([3.0, 4.0])})
    np.testing.assert_allclose(x["b"], [-0.6, -0.8], rtol=1e-5)
    layout, flat = flatten({"a": np.zeros(2), "b": np.zeros(2)})
    optimizer = kb.SGD(lr=1.0, clipnorm=1.0, groups={"a": {"lr": 0}})
    flat, _ = optimizer.step(flat, np.array([1e6, 1e6, 3.0, 4.0]), (np.zeros(()),), 1, 1.0, layout=layout)
    np.testing.assert_allclose(flat, [0, 0, -0.6, -0.8], rtol=1e-5)


def test_groups_can_be_changed_and_frozen_ones_go_on():
    """Thawed gradually, as in fine-tuning: the moments of what was trained stay."""
    x, alone = wide(), wide()
    optimizer, reference = kb.Adam(lr=0.1), {name: kb.Adam(lr=0.1) for name in alone}
    for t, frozen in enumerate([(), ("0.W",), ("0.W", "1.b"), (), ("1.W",)] * 2):
        optimizer.groups = {name: {"lr": 0} for name in frozen} or None
        optimizer.update(x, slopes(x, t))
        for name, part in alone.items():
            if name not in frozen:
                reference[name].update(part, slopes({name: part}, t)[name])
        for name, part in alone.items():
            np.testing.assert_allclose(x[name], part, rtol=1e-12)
    with pytest.raises(InputError, match=r"matches none of the parameters 0\.W, 0\.b, 1\.W, 1\.b"):
        optimizer.groups = {"2.*": {"lr": 0}}
    assert optimizer.groups == {"1.W": {"lr": 0.0}}


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"2.*": {"lr": 0}}, r"groups\['2.\*'\] matches none of the parameters 0.W, 0.b, 1.W, 1.b"),
        ({"*": {"lr": 0}}, "freeze every parameter"),
    ],
)
def test_groups_that_do_not_fit_the_parameters_are_refused(groups, message):
    with pytest.raises(InputError, match=message):
        kb.SGD(lr=0.1, groups=groups).update(wide(), wide())
    with pytest.raises(InputError, match=message):
        kb.minimize(lambda p: sum(np.sum(a**2) for a in p.values()), wide(), kb.SGD(lr=0.1, groups=groups))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kb.SGD(groups=[("a", {})]), "groups must be a dict of name pattern → settings"),
        (lambda: kb.SGD(groups={"a": 0.1}), "groups must be a dict of name pattern → settings"),
        (lambda: kb.SGD(groups={"a": {"lr": -1}}), r"groups\['a'\]: lr must be a finite number ≥ 0"),
        (
            lambda: kb.SGD(groups={"a": {"lr": schedules.constant(0.1)}}),
            "lr must be a finite number ≥ 0.*in proportion",
        ),
        (lambda: kb.SGD(groups={"a": {"momentum": 2}}), r"groups\['a'\]: momentum must lie in"),
        (lambda: kb.SGD(groups={"a": {"clipnorm": 1}}), "unknown setting of SGD: groups"),
        (lambda: kb.LBFGS(groups={"a": {"lr": 0}}), "unknown LBFGS hyperparameter 'groups'"),
    ],
)
def test_groups_that_mean_nothing_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_groups_descend_are_saved_and_resumed(tmp_path):
    def f(p):
        return np.sum((p["a"] - 1) ** 2) + np.sum((p["b"] + 2) ** 2)

    start = {"a": np.zeros(3), "b": np.zeros(2)}
    groups = {"b": {"lr": 0}, "a": {"momentum": 0.5}}
    run = kb.minimize(f, start, kb.SGD(lr=0.1, groups=groups), max_steps=30, checkpoint=tmp_path / "c.npz")
    np.testing.assert_array_equal(run.x["b"], 0.0)
    np.testing.assert_allclose(run.x["a"], 1.0, rtol=0.05)
    run.save(tmp_path / "r.npz")
    assert kb.load(tmp_path / "r.npz", f).optimizer == run.optimizer
    longer = kb.resume(tmp_path / "c.npz", f, max_steps=40)
    whole = kb.minimize(f, start, kb.SGD(lr=0.1, groups=groups), max_steps=40)
    np.testing.assert_array_equal(longer.x["a"], whole.x["a"])


@pytest.mark.parametrize("name", ALONE)
def test_what_has_no_gradient_is_left_alone(name):
    """Each array goes the way that it would go alone, by the gradients that it gets."""
    optimizer = kb.optimizers.resolve(name)
    x, alone = wide(), wide()
    reference = {part: kb.optimizers.resolve(name) for part in alone}
    plan = [("0.W", "0.b"), ("0.W",), ("1.b", "0.b"), ("0.W", "0.b", "1.W", "1.b"), ("1.W",)]
    if optimizer.rule.scope == "vector":
        with pytest.raises(InputError, match="looks at all parameters at once: give the gradient of each"):
            optimizer.update(x, {"0.W": x["0.W"]}, fun=1.0)
        return
    for t, there in enumerate(plan * 2):
        g = slopes(x, t)
        given = {part: g[part] for part in there} | ({"1.W": None} if t == 1 else {})
        optimizer.update(x, given, fun=1.0)
        for part in there:
            reference[part].update(alone[part], slopes({part: alone[part]}, t)[part], fun=1.0)
        if t == 5:
            optimizer = pickle.loads(pickle.dumps(optimizer))
        if t == 7:
            saved = optimizer.state_dict()
            optimizer = kb.optimizers.resolve(name)
            optimizer.load_state_dict(saved)
    for part, expected in alone.items():
        np.testing.assert_allclose(x[part], expected, rtol=1e-12)


def test_some_gradients_after_all_of_them():
    """Also after updates in machine code, whose state is taken apart."""
    rng = np.random.default_rng(0)
    x = {"a": rng.normal(size=40_000), "b": rng.normal(size=3)}
    alone = {name: part.copy() for name, part in x.items()}
    optimizer, reference = kb.Adam(lr=0.1), {name: kb.Adam(lr=0.1) for name in x}
    for t in range(8):
        names = ("a", "b") if t < 4 else ("b",) if t < 6 else ("a",)
        optimizer.update(x, {name: np.cos(t + x[name]) for name in names})
        for name in names:
            reference[name].update(alone[name], np.cos(t + alone[name]))
    for name, expected in alone.items():
        np.testing.assert_allclose(x[name], expected, rtol=1e-11)


@pytest.mark.parametrize(
    ("grads", "message"),
    [
        ({}, "grads has no gradient: give that of one array at least"),
        ({"a": None, "b": None}, "grads has no gradient"),
        ({"w": np.ones(2)}, "grads has 'w', which params has not: its keys are"),
        ({"a": np.ones(3)}, "shape"),
        ([np.ones(2)], "grads must be a dict"),
    ],
)
def test_gradients_of_something_else_are_refused(grads, message):
    x = {"a": np.ones(2), "b": np.ones(2)}
    with pytest.raises(InputError, match=message):
        kb.SGD(lr=0.1).update(x, grads)
    np.testing.assert_array_equal(x["a"], 1.0)


def test_a_gradient_of_some_that_is_not_finite_changes_nothing():
    x = {"a": np.ones(2), "b": np.ones(2)}
    optimizer = kb.Adam(lr=0.1)
    with pytest.raises(FunctionError, match=r"component b\[1\] is nan; nothing was updated"):
        optimizer.update(x, {"b": np.array([1.0, np.nan])})
    np.testing.assert_array_equal(x["b"], 1.0)
    assert optimizer.state_dict()["t"] == 0


def test_one_object_for_two_networks():
    one, two = {"W": np.ones(2)}, {"W": np.ones((3, 3)), "b": np.ones(3)}
    plain = kb.SGD(lr=0.1)
    for _ in range(3):
        plain.update(one, {"W": np.ones(2)})
        plain.update(two, {"W": np.ones((3, 3)), "b": np.ones(3)})
    np.testing.assert_allclose(one["W"], 0.7)
    np.testing.assert_allclose(two["b"], 0.7)
    adam = kb.Adam(lr=0.1)
    adam.update(one, {"W": np.ones(2)})
    with pytest.raises(InputError, match="keeps the state of the parameters that it updated before: make one for each"):
        adam.update(two, {"W": np.ones((3, 3)), "b": np.ones(3)})
    both, adam = {"one": one, "two": two}, kb.Adam(lr=0.1)
    adam.update(both, {"one": {"W": np.ones(2)}})
    adam.update(both, {"two": {"W": np.ones((3, 3)), "b": None}, "one": None})
    np.testing.assert_allclose(two["W"], 0.6)
    np.testing.assert_allclose(two["b"], 0.7)


def alike(size, form, start):
    """Return parameters of one form, whose numbers are ``start``, and a function of the gradients of all."""
    shapes = [(size,), (3,)]
    arrays = [np.full(shape, start) for shape in shapes]
    if form == "array":
        return arrays[0], np.ones_like
    if form == "network":
        net = kb.nn.Network([kb.nn.Dense(size)], kb.nn.MSE(), dtype=np.float64).build((3,))
        net.vector = np.full(net.vector.size, start)
        return net.params, lambda params: {name: np.ones_like(a) for name, a in params.items()}
    if form == "dict":
        return dict(zip("Wb", arrays, strict=True)), lambda params: {
            name: np.ones_like(a) for name, a in params.items()
        }
    return arrays, lambda params: [np.ones_like(a) for a in params]


HAVE_MOMENTS = {
    "adam": kb.Adam,
    "momentum": lambda: kb.SGD(lr=0.1, momentum=0.9),
    "groups": lambda: kb.SGD(lr=0.1, groups={"*": {"momentum": 0.9}}),
    "lamb": kb.Lamb,
    "dog": kb.DoG,
}


@pytest.mark.sampled(11)
@pytest.mark.parametrize("before", [1, 4], ids=["once", "in machine code"])
@pytest.mark.parametrize("size", [4, 40_000])
@pytest.mark.parametrize("form", ["array", "dict", "list", "network"])
@pytest.mark.parametrize("case", HAVE_MOMENTS)
def test_two_networks_of_one_shape_never_mix_their_moments(case, form, size, before):
    optimizer, alone = HAVE_MOMENTS[case](), HAVE_MOMENTS[case]()
    one, ones = alike(size, form, 1.0)
    two, _ = alike(size, form, 3.0)
    reference, _ = alike(size, form, 1.0)
    for _ in range(before):
        optimizer.update(one, ones(one))
        alone.update(reference, ones(reference))
    kept = copy.deepcopy(two)
    for _ in range(2):
        with pytest.raises(InputError, match="these are other arrays than this"):
            optimizer.update(two, ones(two))
    for _ in range(2):  # and the first goes on as if nothing had been
        optimizer.update(one, ones(one))
        alone.update(reference, ones(reference))
    parts = list(one.values()) if isinstance(one, dict) else [one] if form == "array" else one
    wanted = list(reference.values()) if isinstance(one, dict) else [reference] if form == "array" else reference
    for a, b in zip(parts, wanted, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(*(list(p.values()) if isinstance(p, dict) else p for p in (two, kept)), strict=True):
        np.testing.assert_array_equal(a, b)


# What a loop of one's own may put in the place of the arrays that were updated last.
SUCCESSORS = {
    "copies": lambda params, kept: {name: a.copy() for name, a in params.items()},
    "new numbers": lambda params, kept: (kept.clear(), {name: np.clip(a, -1, 1) for name, a in params.items()})[1],
    "another dict": lambda params, kept: dict(params),
    "one of them": lambda params, kept: params | {"b": np.zeros(3)},
    "views": lambda params, kept: {name: a[:] for name, a in params.items()},
}


@pytest.mark.parametrize("size", [4, 40_000])
@pytest.mark.parametrize("case", SUCCESSORS)
def test_what_takes_the_place_of_the_parameters_goes_on(case, size):
    optimizer, alone = kb.Adam(lr=0.1), kb.Adam(lr=0.1)
    params, ones = alike(size, "dict", 0.5)
    reference = copy.deepcopy(params)
    kept = []
    for _ in range(6):
        optimizer.update(params, ones(params))
        alone.update(reference, ones(reference))
        if case == "one of them":
            reference["b"][...] = 0
        kept.append(params)
        params = SUCCESSORS[case](params, kept)
    for name, a in reference.items():
        np.testing.assert_array_equal(params[name], a)


@pytest.mark.parametrize("size", [4, 40_000])
@pytest.mark.parametrize("form", ["dict", "list", "nested"])
@pytest.mark.parametrize("name", ["sgd", "adam", "lamb", "dog", "muon"])
def test_a_tied_array_gets_the_sum_of_its_gradients(name, form, size):
    w, v, one, other = np.linspace(1.0, 2.0, size), np.ones(3), np.linspace(1.0, 2.0, size), np.ones(3)
    make = {
        "dict": lambda a, b, c: {"encoder": a, "b": b, "decoder": c},
        "list": lambda a, b, c: [a, b, c],
        "nested": lambda a, b, c: {"layers": [(a, b), (c,)]},
    }[form]
    optimizer, plain = kb.optimizers.resolve(name), kb.optimizers.resolve(name)
    for t in range(1, 7):
        optimizer.update(make(w, v, w), make(np.cos(w), v, t * np.ones(size)))
        plain.update({"w": one, "v": other}, {"w": np.cos(one) + t, "v": other})
        np.testing.assert_allclose(w, one, rtol=1e-12)
        np.testing.assert_allclose(v, other, rtol=1e-12)


def test_a_tied_array_may_have_one_gradient_only():
    w = np.ones(2)
    kb.SGD(lr=0.1).update({"a": w, "b": w}, {"b": np.ones(2)})
    np.testing.assert_allclose(w, 0.9)
    with pytest.raises(InputError, match=r"the gradient of b has shape \(1,\), not \(2,\)"):
        kb.SGD(lr=0.1).update({"a": w, "b": w}, {"a": np.ones(2), "b": np.ones(1)})


def overlapping():
    w = np.ones((4, 4))
    return {
        "transposed": {"a": w, "b": w.T},
        "part": {"a": w, "b": w[0]},
        "rows": {"a": w[:3], "b": w[2:]},
        "reversed": [w[0], w[0, ::-1]],
        "nested": {"a": {"b": w}, "c": (w[1],)},
        "spread": {"a": np.lib.stride_tricks.as_strided(w, (4, 4), (0, 8))},
        "spread alone": np.lib.stride_tricks.as_strided(w, (4, 4), (0, 8)),
        "other precision": {"a": w, "b": w.view(np.float32)},
    }


@pytest.mark.parametrize("case", overlapping())
def test_arrays_that_overlap_are_refused(case):
    x = overlapping()[case]
    layout, flat = flatten(x)
    with pytest.raises(InputError, match=r"overlap in memory but|share memory"):
        kb.SGD(lr=0.1).update(x, layout.view(flat))


def test_parts_that_lie_between_each_other_are_updated():
    w = np.ones((4, 6))
    x = {"even": w[:, ::2], "odd": w[:, 1::2], "none": np.ones((0, 2)), "number": 1.0}
    kb.SGD(lr=0.1).update(
        x, {"even": np.ones((4, 3)), "odd": 2 * np.ones((4, 3)), "none": np.ones((0, 2)), "number": 1}
    )
    np.testing.assert_allclose(w, np.tile([0.9, 0.8], (4, 3)))
    assert x["number"] == 0.9
