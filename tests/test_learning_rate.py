import copy
import random

import numpy as np
import pytest

import koubai as kb
from koubai import nn
from koubai.errors import FunctionError, InputError
from koubai.search.learning_rate import NoRateError

STEPS = 1000
SAMPLE = [
    ("elongated_bowl", "SGD"), ("elongated_bowl", "Adam"), ("ill_conditioned", "Momentum"), ("booth", "SGD"),
    ("himmelblau", "Momentum"), ("matyas", "RMSprop"),
]  # fmt: skip
NAMES = ("parabola", "sphere", "elongated_bowl", "ill_conditioned", "matyas", "booth", "zakharov", "himmelblau")


def path(f, x0, optimizer, lr):
    """Return f along a descent, and whether it diverged."""
    rate = kb.schedules.constant(lr)  # koubai looks for no better one
    run = kb.minimize(f, x0, getattr(kb, optimizer)(rate), max_steps=STEPS, gtol=1e-11, record="all")
    return run.history.fun, run.status in (kb.Status.diverged, kb.Status.nonfinite)


def check_against_the_grid(name, optimizer):
    """The rate found takes at most twice the steps of the best of 60 rates to what that grid reaches."""
    problem = kb.problems[name]
    found = kb.find_lr(problem.f, problem.x0, optimizer)
    paths = [path(problem.f, problem.x0, optimizer, lr) for lr in np.logspace(-8, 2, 60)]
    start, lowest = paths[0][0][0], min(fun.min() for fun, diverged in paths if not diverged)
    level = lowest + 1e-3 * (start - lowest)

    def steps_of(fun, diverged):
        hits = np.flatnonzero(fun <= level)
        return hits[0] if hits.size and not diverged else np.inf

    fewest = min(steps_of(*one) for one in paths)
    assert steps_of(*path(problem.f, problem.x0, optimizer, found.lr)) <= max(2 * fewest, fewest + 1)
    assert found.low <= found.lr <= found.high


@pytest.mark.parametrize(("name", "optimizer"), SAMPLE)
def test_the_rate_is_as_good_as_the_best_of_a_grid(name, optimizer):
    check_against_the_grid(name, optimizer)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["SGD", "Momentum", "RMSprop", "Adam"])
@pytest.mark.parametrize("name", NAMES)
def test_rates_of_more_functions_are_as_good(name, optimizer):
    check_against_the_grid(name, optimizer)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["SGD", "Momentum", "RMSprop", "Adam"])
def test_no_rate_found_diverges_on_the_catalogue(optimizer):
    for name in kb.problems.names():
        problem = kb.problems[name]
        found = kb.find_lr(problem.f, problem.x0, optimizer)
        assert not path(problem.f, problem.x0, optimizer, found.lr)[1], name


@pytest.mark.parametrize(
    ("optimizer", "bound"), [(kb.SGD(), 2 / 200), (kb.Momentum(momentum=0.5), 3 / 200), ("nesterov", None)]
)
def test_the_bound_is_that_of_the_curvature_and_descents_agree(optimizer, bound):
    found = kb.find_lr(lambda x: x[0] ** 2 + 100 * x[1] ** 2, [3.0, 1.0], optimizer)
    assert "just below and just above it agree" in found.bound_reason
    if bound is not None:
        assert found.bound == pytest.approx(bound, rel=1e-6)
    assert found.lr < found.bound * 1.0001
    assert found.curve.diverged[found.curve.lr > 1.2 * found.bound].all()
    assert not found.curve.diverged[found.curve.lr < 0.9 * found.bound].any()


def test_the_same_seed_gives_the_same_rate_and_units_scale_it():
    f, x0 = kb.problems["rosenbrock"].f, kb.problems["rosenbrock"].x0
    found, again = kb.find_lr(f, x0, "sgd", seed=3), kb.find_lr(f, x0, "sgd", seed=3)
    assert found.lr == again.lr
    assert found.nfev == again.nfev
    scaled = kb.find_lr(lambda x: 1e6 * f(x), x0, "sgd", seed=3)
    assert scaled.lr == pytest.approx(1e-6 * found.lr, rel=0.5)


# -- nothing that is given changes ---


def noisy():
    """A network whose training draws random numbers and keeps running statistics, and its data."""
    layers = [nn.Dense(8), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.3), nn.Dense(1)]
    rng = np.random.default_rng(0)
    X = rng.normal(size=(96, 3))
    return nn.Network(layers, nn.MSE(), seed=0), X, X[:, :1] * X[:, 1:2]


def test_a_network_is_afterwards_what_it_was_to_the_bit():
    (network, X, y), (other, _, _) = noisy(), noisy()
    optimizer = kb.Adam(clipnorm=1.0)
    before = copy.deepcopy(optimizer.__dict__)
    np.random.seed(5)  # noqa: NPY002 - the user's own
    random.seed(5)
    legacy, pythons = np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    network.fit(X, y, "adam", epochs=1)
    other.fit(X, y, "adam", epochs=1)
    kept = X.copy()
    found = kb.find_lr(network, (X, y), optimizer, steps=24)
    assert repr(optimizer.__dict__) == repr(before)
    assert found.optimizer is not optimizer
    assert np.array_equal(X, kept)
    assert np.array_equal(np.random.get_state()[1], legacy)  # noqa: NPY002
    assert random.getstate() == pythons
    ours, theirs = network.fit(X, y, kb.Adam(0.01), epochs=2), other.fit(X, y, kb.Adam(0.01), epochs=2)
    assert np.array_equal(network.vector, other.vector)
    assert np.array_equal(network.predict(X), other.predict(X))  # the running statistics too
    assert np.array_equal(ours.history.epochs.fun, theirs.history.epochs.fun)


def test_generators_that_the_function_or_the_data_draw_from_are_put_back():
    rng, order = np.random.default_rng(1), np.random.default_rng(2)
    X = np.random.default_rng(0).normal(size=(60, 2))
    y = X @ [1.0, -2.0]

    def epochs(k):
        rows = order.permutation(60)
        return [(X[part], y[part]) for part in np.split(rows, 6)]

    def loss(w, X, y):
        return np.mean((X @ w - y) ** 2)

    def random_loss(w, X, y):
        return loss(w, X, y) + rng.normal()

    states = rng.bit_generator.state, order.bit_generator.state
    found = kb.find_lr(loss, np.zeros(2), "sgd", data=epochs, steps=24)
    assert 0.001 < found.lr < 10
    with pytest.raises(FunctionError, match="two calls of random_loss"):
        kb.find_lr(random_loss, np.zeros(2), "sgd", data=epochs, steps=24)
    assert (rng.bit_generator.state, order.bit_generator.state) == states


def test_data_that_can_be_read_once_are_refused():
    once = iter([(np.zeros((2, 2)), np.zeros(2))])
    for data in (once, lambda k: once):
        with pytest.raises(InputError, match="read"):
            kb.find_lr(lambda w, X, y: np.sum(X @ w - y), np.zeros(2), "sgd", data=data)


# -- lr="auto" ---


def test_auto_is_a_number_in_the_run():
    X = np.random.default_rng(0).normal(size=(96, 3))
    y = X @ [1.0, 2.0, 3.0]
    network = nn.Network([nn.Dense(1)], nn.MSE(), seed=0)
    runs = [
        kb.minimize(lambda x: np.sum((x - 1) ** 2), [3.0, 4.0], "momentum", lr="auto"),
        kb.fit(lambda w, X, y: np.mean((X @ w - y) ** 2), np.zeros(3), (X, y), kb.SGD("auto"), epochs=20),
        network.fit(X, y[:, None], kb.Adam("auto"), epochs=20),
    ]
    for run in runs:
        assert isinstance(run.optimizer.lr, float)
        assert f"lr={run.optimizer.lr!r}" in repr(run.optimizer)
    assert runs[0].success
    assert runs[1].fun < 1e-3 * np.mean(y**2)


# -- wrong inputs ---


@pytest.mark.parametrize(
    ("arguments", "options", "error", "says"),
    [
        ((np.sum, [1.0], "lbfgs"), {}, InputError, "it has no rate to find"),
        ((lambda x: x**2, 0.0, "sgd"), {}, NoRateError, "stationary point"),
        ((lambda x: x**2, 1.0, "sgd"), {"steps": 1}, InputError, "steps must be"),
        ((lambda x: x**2, 1.0, "sgd"), {"step": 10}, InputError, "steps"),
        ((3, 1.0, "sgd"), {}, InputError, "f must be a function of x, or a network"),
        ((lambda x: np.log(x), -1.0, "sgd"), {}, FunctionError, None),
        ((lambda x: x**2, 1.0, "agd"), {}, InputError, "did you mean"),
    ],
)
def test_wrong_inputs_are_told(arguments, options, error, says):
    with pytest.raises(error, match=says):
        kb.find_lr(*arguments, **options)
