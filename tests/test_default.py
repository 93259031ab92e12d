"""The optimizer that is taken where none is named: which one, why, and that it says so."""

import numpy as np
import pytest
from typer.testing import CliRunner

import koubai as kb
from koubai.cli import app

T, Y = np.linspace(0, 1, 6), np.array([0.9, 1.4, 1.6, 2.3, 2.2, 3.1])


def squares(p):
    return np.mean((p[0] * np.exp(p[1] * T) - Y) ** 2)


def likelihood(p):
    return np.sum(np.log(p[1] ** 2) / 2 + (Y - p[0]) ** 2 / (2 * p[1] ** 2))


def wide(p):
    return np.sum((p - 1) ** 2)


ONES = np.ones(2)
CHOICES = {
    "a sum of squares": (squares, ONES, {}, "LevenbergMarquardt", "a sum of 6 squares in 2 parameters"),
    "in bounds": (squares, ONES, {"bounds": (0, 2)}, "LevenbergMarquardt", "6 squares"),
    "of a number": (lambda x: (x**2 - 2) ** 2, 1.0, {}, "LevenbergMarquardt", "a sum of 1 squares in 1 parameter"),
    "of 100": (wide, np.zeros(100), {}, "LevenbergMarquardt", "100 squares in 100"),
    "of 101": (wide, np.zeros(101), {}, "LBFGS", "101 parameters, more than 100"),
    "fewer squares": (lambda p: (p[0] * p[1] - 1) ** 2, ONES, {}, "LBFGS", "a sum of 1 squares, fewer than its 2"),
    "anything else": (likelihood, ONES, {}, "LBFGS", "f is no sum of squares: log is not squared in it"),
    "a negative weight": (lambda p: np.sum((T - 0.1) * (p - 1)[0] ** 2), ONES, {}, "LBFGS", "a negative one"),
    "a gradient of one's own": (wide, ONES, {"grad": lambda p: 2 * (p - 1)}, "LBFGS", "comes from user"),
    "differences": (wide, ONES, {"grad": "central"}, "LBFGS", "comes from central differences"),
    "backprop": (wide, ONES, {"grad": "backprop"}, "LevenbergMarquardt", "2 squares"),
    "lr": (squares, ONES, {"lr": 0.1}, "SGD", "lr alone means plain gradient descent"),
    "a schedule": (squares, ONES, {"lr": kb.schedules.constant(0.1)}, "SGD", "lr alone"),
    "lr and a name": (squares, ONES, {"lr": 0.01, "optimizer": "adam"}, "Adam", "given"),
    "a name": (squares, ONES, {"optimizer": "lbfgs"}, "LBFGS", "given"),
    "auto": (squares, ONES, {"optimizer": "auto"}, "LevenbergMarquardt", "6 squares"),
}


@pytest.mark.parametrize("what", CHOICES)
def test_which_optimizer_is_taken_and_why(what):
    f, x0, options, name, why = CHOICES[what]
    run = kb.minimize(f, x0, **{"max_steps": 3} | options)
    assert type(run.optimizer).__name__ == name
    assert why in run.optimizer_reason
    assert run.optimizer_reason in repr(run)
    steps = kb.iterate(f, x0, **{"max_steps": 3} | options)
    last = list(steps)[-1]
    assert np.array_equal(last.x, run.x)


def test_the_rate_of_a_name_is_that_of_its_class():
    for name in kb.optimizers.names():
        if name != "levenbergmarquardt":
            optimizer = kb.minimize(likelihood, ONES, name, max_steps=0).optimizer
            assert optimizer == type(optimizer)()


def test_with_mini_batches_it_is_adam():
    def f(p, t, y):
        return np.mean((p[0] + p[1] * t - y) ** 2)

    run = kb.minimize(f, ONES, batches=[(T, Y)], max_steps=2)
    assert run.optimizer == kb.Adam()
    assert run.optimizer_reason == "there are mini-batches"
    trained = kb.fit(f, ONES, (T, Y), epochs=1)
    assert (trained.optimizer, trained.optimizer_reason) == (kb.Adam(), "there are mini-batches")
    network = kb.nn.Network([kb.nn.Dense(1)], kb.nn.MSE(), seed=0)
    assert network.fit(T[:, None], Y[:, None], epochs=1).optimizer == kb.Adam()


def test_a_rate_for_an_optimizer_that_has_one_is_refused():
    with pytest.raises(kb.errors.InputError, match=r"write Adam\(lr=0.1\), and leave lr out"):
        kb.minimize(squares, ONES, kb.Adam(), lr=0.1)


def test_the_choice_is_saved_and_resumed(tmp_path):
    path = tmp_path / "run.npz"
    whole = kb.minimize(squares, ONES)
    kb.minimize(squares, ONES, checkpoint=(path, 1), on_step=lambda step: step.t == 2)
    resumed = kb.resume(path, squares)
    assert resumed.optimizer_reason == whole.optimizer_reason
    assert np.array_equal(resumed.x, whole.x)
    assert np.array_equal(resumed.covariance, whole.covariance)
    whole.save(path)
    assert kb.load(path).optimizer_reason == whole.optimizer_reason


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["(x-1)**2 + (y-2)**2"], "LevenbergMarquardt(lr=1.0): f is a sum of 2 squares in 2 parameters"),
        (["exp(x) - x + y**2"], "LBFGS(lr=1.0): f is no sum of squares"),
        (["(x-1)**2 + y**2", "--lr", "0.1"], "SGD(lr=0.1): given"),
        (["(x-1)**2 + y**2", "--optimizer", "adam"], "Adam(lr=0.001): given"),
    ],
)
def test_the_command_line_takes_the_same(arguments, shown):
    said = CliRunner().invoke(app, ["minimize", *arguments, "--start=-3,4", "--max-steps", "500"])
    assert shown in said.stdout


class Logged:
    """A fit that counts its calls and keeps a log of them, as an object may."""

    def __init__(self):
        self.calls, self.log = 0, []

    def __call__(self, p):
        self.calls += 1
        error = np.sum((p[0] * np.exp(-p[1] * HOURS) + p[2] - COOLING) ** 2)
        self.log.append(error)
        return error


HOURS = np.linspace(0, 3, 20)
COOLING = 2.0 * np.exp(-0.7 * HOURS) + 0.1


@pytest.mark.parametrize("optimizer", ["auto", "levenbergmarquardt"])
def test_least_squares_of_an_object_that_keeps_a_log(optimizer):
    """Its graph holds at one point and one moment: it serves no residuals at another."""
    f = Logged()
    run = kb.minimize(f, np.ones(3), optimizer)
    assert run.success, run.message
    np.testing.assert_allclose(run.x, [2.0, 0.7, 0.1], atol=1e-5)
    assert f.calls == len(f.log)
    assert {type(value) for value in f.log} == {np.float64}
    if optimizer == "auto":
        assert isinstance(run.optimizer, kb.LBFGS)
        assert run.optimizer_reason.startswith("f is traced again at each point: ")


@pytest.mark.parametrize("optimizer", ["auto", "levenbergmarquardt", "lbfgs", "conjugategradient"])
def test_searches_follow_what_f_reads(optimizer):
    """A weight that a callback raises: f and the residuals where a step begins are those of the moment."""
    penalty = {"weight": 1.0}

    def f(x):
        return np.sum((x - np.array([1.0, 2.0])) ** 2) + penalty["weight"] * (x[0] + x[1]) ** 2

    def raised(step):
        penalty["weight"] = min(100.0, 10 * penalty["weight"])

    run = kb.minimize(f, np.zeros(2), optimizer, on_step=raised, gtol=1e-9)
    assert run.success, run.message
    assert penalty["weight"] == 100.0
    np.testing.assert_allclose(run.x, [1 - 300 / 201, 2 - 300 / 201], atol=1e-8)


def test_what_was_chosen_for_some_numbers_is_asked_anew_for_others():
    weights = np.ones(6)

    def f(p):
        return np.sum(weights * (p[0] + p[1] * T - Y) ** 2)

    def chosen():
        run = kb.minimize(f, ONES, max_steps=3)
        return type(run.optimizer).__name__, run.nfev, run.fun

    first = chosen()
    assert first[0] == "LevenbergMarquardt"
    assert chosen() == chosen() == first
    weights[2] = -0.5  # no residual has such a square
    assert chosen()[0] == chosen()[0] == "LBFGS"
    weights[2] = 1.0
    assert chosen() == chosen() == first
    assert type(kb.minimize(f, 2 * ONES).optimizer).__name__ == "LevenbergMarquardt"
