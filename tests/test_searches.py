"""Descents along lines as text of numbers: the same as the rules, the same to the bit in Python and machine code."""

from __future__ import annotations

import gc
import itertools
import math
import threading

import numpy as np
import pytest
from test_kept import anew
from test_native import same_run

import koubai as kb
from koubai.derivatives.residuals import Residuals
from koubai.descent import loop, search_stepper, searches
from koubai.descent.arguments import prepared
from koubai.descent.steppers import PythonStepper
from koubai.errors import CompileError, Interrupted
from koubai.execute import library, replay, scalar_code
from koubai.execute.elements import NotLowerable
from koubai.execute.replay import Replay
from koubai.execute.scalar_code import Integers, Matrix, Vector
from koubai.parameters import flatten

pytestmark = pytest.mark.skipif(not library.available(), reason="no llvmlite")

SETTINGS = {
    "L-BFGS": kb.LBFGS(),
    "L-BFGS, two pairs": kb.LBFGS(history_size=2, lr=0.5),
    "L-BFGS as torch's": kb.LBFGS(semantics="torch", line_search="wolfe"),
    "L-BFGS, a schedule": kb.LBFGS(lr=kb.schedules.exponential(1.0, 0.99)),
    "Armijo": kb.GradientDescent(),
    "Wolfe": kb.GradientDescent(line_search="wolfe", c2=0.3),
    "Barzilai-Borwein": kb.BarzilaiBorwein(),
    "Barzilai-Borwein, short": kb.BarzilaiBorwein(variant="short", memory=3),
    "conjugate gradients": kb.ConjugateGradient(),
    "Fletcher-Reeves": kb.ConjugateGradient(variant="fr"),
}
PROBLEMS = [
    "rosenbrock",
    "beale",
    "himmelblau",
    "powell_singular",
    "ill_conditioned",
    "easom",
    "rastrigin",
    "two_sines",
]


@pytest.fixture
def by_machine(monkeypatch):
    """Let machine code make the steps from the first one on."""
    monkeypatch.setattr(search_stepper, "MACHINE_FROM", 0)
    monkeypatch.setattr(replay, "ASKED_FOR", 0)


def by_the_rule(monkeypatch):
    monkeypatch.setattr(search_stepper, "TEXTS", {})


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def many(x):
    return np.sum((x[1:] - x[:-1] ** 2) ** 2) + np.sum((1 - x) ** 2) + 0.1 * np.sum(np.exp(np.sin(x)))


def piecewise(x):
    if x[0] > 0.3:
        return (x[0] - 2) ** 2 + 3 * (x[1] + x[0]) ** 4
    return (x[0] - 2) ** 2 + 2 * (x[1] - 0.3) ** 2 + x[0] * x[1]


def noisy_bottom(x):
    return 1e8 + np.sum((x - 1) ** 2)


def gaussian_process(theta):
    x, (length, signal, noise) = np.linspace(0, 3, 9)[:, None], np.exp(theta)
    K = signal**2 * np.exp(-0.5 * (x - x.T) ** 2 / length**2) + (noise**2 + 1e-8) * np.eye(9)
    L = np.linalg.cholesky(K)
    a = np.linalg.solve(L.T, np.linalg.solve(L, np.sin(2 * x[:, 0])))
    return 0.5 * np.sin(2 * x[:, 0]) @ a + np.sum(np.log(np.diag(L)))


FUNCTIONS = {
    "a Gaussian process": (gaussian_process, np.array([0.0, 0.0, -1.0])),
    "rosenbrock": (rosenbrock, np.array([-1.2, 1.0])),
    "of 30": (many, np.linspace(-1, 1, 30)),
    "in pieces": (piecewise, np.array([-2.0, 1.0])),
    "a number": (lambda x: np.cosh(x - 2), 5.0),
    "a dict": (lambda p: np.sum((p["w"] - 1) ** 4) + (p["b"] - p["w"][0, 1]) ** 2, {"w": np.zeros((2, 2)), "b": 3.0}),
    "a rounded bottom": (noisy_bottom, np.array([3.0, -2.0])),
}


# -- the same bits, whoever makes the steps ---------------------------------------------------------------------------


@pytest.mark.sampled(6)
@pytest.mark.parametrize("setting", SETTINGS)
def test_python_and_machine_code_make_the_same_steps_to_the_bit(setting, monkeypatch):
    for f, x0 in [*FUNCTIONS.values(), *((kb.problems[name].f, kb.problems[name].x0) for name in PROBLEMS[:4])]:
        with monkeypatch.context() as patch:
            patch.setattr(search_stepper, "_code", search_stepper._Code())
            patch.setattr(search_stepper, "MACHINE_FROM", math.inf)
            patch.setattr(replay, "ASKED_FOR", 10**9)
            python = kb.minimize(anew(f), x0, SETTINGS[setting], max_steps=150)
            assert python.executor != "native"
        monkeypatch.setattr(search_stepper, "MACHINE_FROM", 0)
        monkeypatch.setattr(replay, "ASKED_FOR", 10**9)
        same_run(kb.minimize(anew(f), x0, SETTINGS[setting], max_steps=150), python)
        monkeypatch.setattr(replay, "ASKED_FOR", 0)
        fresh = anew(f)
        first, again = (kb.minimize(fresh, x0, SETTINGS[setting], max_steps=150) for _ in range(2))
        same_run(first, python)
        same_run(again, python)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_one_step_at_a_time_is_the_same(name, by_machine):
    f, x0 = FUNCTIONS[name]
    whole = kb.minimize(f, x0, "lbfgs", max_steps=60)
    steps = []
    same_run(whole, kb.minimize(f, x0, "lbfgs", max_steps=60, on_step=steps.append))
    assert [step.f for step in steps] == whole.history.fun.tolist()
    assert [step.f for step in kb.iterate(f, x0, "lbfgs", max_steps=60)] == whole.history.fun.tolist()


@pytest.mark.parametrize(
    ("f", "x0", "kind"),
    [
        (many, np.linspace(-1, 1, 30), kb.LBFGS),
        (
            lambda x: np.sum(np.sinh(x - np.linspace(0, 1, 8)) ** 2) + np.sum(np.square(x @ x)),
            np.ones(8),
            kb.LevenbergMarquardt,
        ),
    ],
)
def test_threads_share_no_memory(f, x0, kind, by_machine):
    alone = {lr: kb.minimize(f, x0, kind(lr=lr)) for lr in (1.0, 0.9, 0.8, 0.7)}
    found = {}

    def descend(lr):
        found[lr] = [kb.minimize(f, x0, kind(lr=lr)) for _ in range(5)]

    threads = [threading.Thread(target=descend, args=(lr,)) for lr in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for lr, run in alone.items():
        for other in found[lr]:
            same_run(run, other)


# -- the same steps as the rules --------------------------------------------------------------------------------------


def steps_apart(f, x0, optimizer, monkeypatch, most=60):
    """Yield, for each step that the rule makes, the next point and state by the rule and by the text from there."""
    options = loop.DEFAULTS | {"max_steps": most, "gtol": 0.0}
    with monkeypatch.context() as patch:
        by_the_rule(patch)
        stepper = prepared(f, x0, optimizer, **options)
        descent = stepper.descent
        path = [
            (point, descent.lr, tuple(np.array(part) for part in descent.state), descent.verdict)
            for point in loop.points(stepper)
        ]
    for (before, lr, state, _), (after, _, state_after, verdict) in itertools.pairwise(path):
        if verdict is not None:
            return
        own = prepared(f, x0, optimizer, **options)
        own.begin()
        other = own.descent
        other.point, other.lr, other.state, other.best, other.stopping.last = before, lr, state, before, before
        search_stepper.SearchStepper.of(own).advance(False)
        yield before, (after, state_after), (other.point, other.state)


@pytest.mark.parametrize("setting", SETTINGS)
def test_each_step_is_the_rules_own_but_for_rounding(setting, by_machine, monkeypatch):
    steps = 0
    for name in PROBLEMS:
        problem = kb.problems[name]
        for before, rule, text in steps_apart(problem.f, problem.x0, SETTINGS[setting], monkeypatch):
            steps += 1
            scale = np.max(np.abs(rule[0].x - before.x))
            if scale < 1e-6:  # what f's rounding leaves to chance
                continue
            np.testing.assert_allclose(text[0].x, rule[0].x, rtol=0, atol=1e-7 * scale)
            for found, wanted in zip(text[1], rule[1], strict=True):
                assert np.shape(found) == np.shape(wanted)
    assert steps > 40


def test_whole_descents_end_as_the_rules_do(by_machine, monkeypatch):
    for name in kb.problems:
        if name == "monkey_saddle":
            continue
        problem = kb.problems[name]
        run = kb.minimize(problem.f, problem.x0, "lbfgs")
        with monkeypatch.context() as patch:
            by_the_rule(patch)
            rule = kb.minimize(problem.f, problem.x0, "lbfgs")
        assert run.status == rule.status, name
        np.testing.assert_allclose(run.fun, rule.fun, rtol=1e-6, atol=1e-9, err_msg=name)


# -- where the loop hands over ----------------------------------------------------------------------------------------

ENDS = {
    "a target": ("rosenbrock", {"target": 1e-3}),
    "a target met at once": ("rosenbrock", {"target": 1e9}),
    "a gradient": ("rosenbrock", {"gtol": 1e-3}),
    "no step": ("rosenbrock", {"max_steps": 0}),
    "one step": ("rosenbrock", {"max_steps": 1}),
    "the step limit": ("of 30", {"max_steps": 7}),
    "ftol": ("of 30", {"ftol": 1e-4, "gtol": 0}),
    "xtol": ("of 30", {"xtol": 1e-3, "gtol": 0}),
    "nothing but rounding": ("a rounded bottom", {}),
    "no record": ("of 30", {"record": "off"}),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("optimizer", ["lbfgs", "conjugategradient", "barzilaiborwein"])
def test_every_end_is_the_rules(end, optimizer, by_machine, monkeypatch):
    (f, x0), options = FUNCTIONS[ENDS[end][0]], ENDS[end][1]
    run = kb.minimize(f, x0, optimizer, **options)
    with monkeypatch.context() as patch:
        by_the_rule(patch)
        rule = kb.minimize(f, x0, optimizer, **options)
    assert run.status == rule.status
    assert run.message.split("(")[0].split("|")[0][:20] == rule.message.split("(")[0].split("|")[0][:20]
    assert abs(run.nit - rule.nit) <= 3
    assert abs(run.njev - rule.njev) <= 12
    assert run.best_fun == min(run.history.fun.min(), run.best_fun)


ENDLESS = {
    "f falls for ever": (lambda x: -np.sum(x), [0.0, 3.0], "diverged"),
    "a kink": (lambda x: np.sum(np.abs(x - 1)) + 0.1 * np.sum(x**2), [3.0, -2.0], "stalled"),
    "the edge of a domain": (lambda x: np.sum(np.sqrt(x)), [1.0, 2.0], "stalled"),
    "huge": (lambda x: np.sum((x - 1) ** 2) * 1e200, [3.0, 4.0], "converged"),
    "tiny": (lambda x: np.sum((x - 1) ** 2) * 1e-200, [3.0, 4.0], "stalled"),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_is_not_ordinary(name, by_machine, monkeypatch):
    f, x0, status = ENDLESS[name]
    assert kb.minimize(f, x0, "lbfgs").status.name == status
    by_the_rule(monkeypatch)
    assert kb.minimize(f, x0, "lbfgs").status.name == status


def test_the_best_point_is_kept_though_the_search_goes_on(by_machine, monkeypatch):
    def f(x):
        return (x - 3) ** 2 * (1 + 0.9 * np.sin(8 * x))

    run = kb.minimize(f, -4.0, kb.BarzilaiBorwein(lr=0.5), max_steps=40)
    with monkeypatch.context() as patch:
        by_the_rule(patch)
        rule = kb.minimize(f, -4.0, kb.BarzilaiBorwein(lr=0.5), max_steps=40)
    assert run.best_fun == pytest.approx(rule.best_fun, rel=1e-9)
    assert run.best_fun == f(run.best_x)


@pytest.mark.parametrize("optimizer", ["lbfgs", "gradientdescent", "conjugategradient", "barzilaiborwein"])
@pytest.mark.parametrize("every", [1, 3, 7])
def test_a_checkpoint_in_the_middle_goes_on_to_the_same_end(optimizer, every, tmp_path, by_machine):
    f, x0 = FUNCTIONS["of 30"]
    whole = kb.minimize(f, x0, optimizer, max_steps=40)
    file = tmp_path / "checkpoint"
    kb.minimize(f, x0, optimizer, max_steps=min(10, whole.nit - 1), checkpoint=(file, every))
    same_run(kb.resume(file, f, max_steps=40), whole)
    same_run(kb.minimize(f, x0, optimizer, max_steps=40, checkpoint=(file, every)), whole)


def test_what_f_raises_comes_through_and_the_descent_stands_where_it_was(tmp_path, by_machine):
    def f(x):
        if x[0] > 0.5:
            raise RuntimeError("no further")
        return rosenbrock(x)

    file = tmp_path / "checkpoint"
    with pytest.raises(RuntimeError, match="no further") as raised:
        kb.minimize(f, [-1.2, 1.0], "lbfgs", checkpoint=file)
    whole = kb.minimize(rosenbrock, [-1.2, 1.0], "lbfgs")
    assert "at step" in raised.value.__notes__[0]
    step = int(raised.value.__notes__[0].split("step ")[1].split(",")[0])
    rest = kb.resume(file, rosenbrock)
    np.testing.assert_array_equal(rest.history.x, whole.history.x)
    assert 1 < step < whole.nit


def test_an_interrupt_in_f_gives_the_run_so_far(by_machine):
    def f(x):
        if x[0] > 0:  # traced anew there
            raise KeyboardInterrupt
        return rosenbrock(x)

    with pytest.raises(Interrupted) as interrupted:
        kb.minimize(f, [-1.2, 1.0], "lbfgs")
    run = interrupted.value.run
    assert run.nit > 3
    assert len(run.history) == run.nit + 1
    assert run.fun == f(run.x)


def test_a_penalty_that_grows_is_seen(by_machine):
    weight = np.array([1.0])

    def f(x):
        return np.sum((x - 2) ** 2) + weight[0] * np.sum(x**2)

    first = kb.minimize(f, [5.0, 1.0], "lbfgs")
    weight[0] = 3.0
    second = kb.minimize(f, [5.0, 1.0], "lbfgs")
    np.testing.assert_allclose(first.x, 1.0)
    np.testing.assert_allclose(second.x, 0.5)


def test_what_the_loop_does_not_cover_stays_with_the_rule(monkeypatch):
    seen = []
    monkeypatch.setattr(search_stepper.SearchStepper, "advance", lambda self, many: seen.append(self))
    for options in ({"bounds": (-2, 2)}, {"grad": "central"}, {"grad": kb.grad(rosenbrock)}):
        kb.minimize(rosenbrock, [-1.2, 1.0], "lbfgs", max_steps=5, **options)
    for optimizer in (kb.LBFGS(line_search="none"), kb.LBFGS(weight_decay=0.1), kb.LBFGS(clipnorm=1.0), kb.Adam()):
        kb.minimize(rosenbrock, [-1.2, 1.0], optimizer, max_steps=5)
    kb.minimize(rosenbrock, np.array([-1.2, 1.0], np.float32), "lbfgs", max_steps=5)
    monkeypatch.setattr(search_stepper, "LARGEST", 64)
    kb.minimize(many, np.zeros(65), "lbfgs", max_steps=5)
    assert not seen


@pytest.mark.parametrize("optimizer", ["lbfgs", "conjugategradient", "barzilaiborwein", "gradientdescent"])
def test_vectorised_loops_keep_every_bit(optimizer, monkeypatch):
    x0 = np.cos(np.arange(1030.0))
    runs = []
    for most in (search_stepper.MANY, math.inf):
        monkeypatch.setattr(search_stepper, "_code", search_stepper._Code())
        monkeypatch.setattr(search_stepper, "MANY", most)
        runs.append(kb.minimize(anew(many), x0, optimizer, max_steps=40))
        assert [*search_stepper._code.machines] == [
            kb.optimizers.resolve(optimizer).rule.name + " of many" * (most == 1024)
        ]
    same_run(*runs)


@pytest.mark.parametrize("n", [65, 130])
def test_of_more_parameters_machine_code_makes_every_step_to_the_same_bits(n, monkeypatch):
    x0 = np.cos(np.arange(n))
    monkeypatch.setattr(search_stepper, "_code", search_stepper._Code())
    first = kb.minimize(anew(many), x0, "lbfgs", max_steps=60)
    assert search_stepper._code.machines["lbfgs"] is not None
    assert search_stepper._code.python_steps == 0
    monkeypatch.setattr(search_stepper, "_code", search_stepper._Code())
    monkeypatch.setattr(search_stepper, "SMALL", n)
    monkeypatch.setattr(search_stepper, "MACHINE_FROM", math.inf)
    same_run(first, kb.minimize(anew(many), x0, "lbfgs", max_steps=60))
    monkeypatch.setattr(search_stepper, "SMALL", 64)
    monkeypatch.setattr(library, "available", lambda: False)
    by_arrays = kb.minimize(anew(many), x0, "lbfgs", max_steps=60)
    assert search_stepper._code.machines["lbfgs"] is None
    np.testing.assert_allclose(by_arrays.fun, first.fun, rtol=1e-3)


def test_what_refuses_to_be_squares_keeps_no_descent_alive(by_machine):
    """The exception that said so held it by its traceback, and with it the table that the next descent was to use."""

    def f(x):
        return np.sum(np.exp(x) - x)

    kb.minimize(f, [1.0, 2.0])
    gc.collect()
    gc.disable()
    try:
        assert [kb.minimize(f, [1.0, 2.0]).executor for _ in range(3)] == ["native"] * 3
    finally:
        gc.enable()


# -- least squares ----------------------------------------------------------------------------------------------------

t = np.linspace(0.0, 4.0, 40)
seen = 2.5 * np.exp(-1.3 * t) + 0.5 + 0.05 * np.sin(40 * t)


def decay(p):
    return np.sum((p[0] * np.exp(-p[1] * t) + p[2] - seen) ** 2)


def of_two_lengths(p):
    """Two ways through f, and not as many residuals on each."""
    misses = np.sum((p[0] + p[1] * t - seen) ** 2)
    if p[1] > 0.3:
        return misses + (p[1] - 0.2) ** 2 + (p[0] * p[1]) ** 2
    return misses


def to_an_edge(p):
    return np.sum((np.log(p[0] * t + p[1]) - 1) ** 2) + 0.1 * (p[0] + 1) ** 2


def of_a_long_loop(p):
    """Hundreds of numbers one after another, whose rows are made at once, and some that are not: of -a and exp."""
    s, i, out = 0.99, 0.01, []
    for k in range(60):
        new = p[0] * s * i
        s, i = s - 0.3 * new, i + 0.3 * (new - p[1] * i) / (1.0 + 0.1 * i)
        if k % 10 == 0:
            out.append(np.exp(-i) - 0.8)
    return np.sum(np.array(out) ** 2)


FITS = {
    "a long loop": (of_a_long_loop, np.array([0.4, 0.2])),
    "a decay": (decay, np.ones(3)),
    "Rosenbrock": (rosenbrock, np.array([-1.2, 1.0])),
    "Beale": (lambda x: (1.5 - x[0] + x[0] * x[1]) ** 2 + (2.25 - x[0] + x[0] * x[1] ** 2) ** 2, np.array([1.0, 1.0])),
    "a number": (lambda x: np.sum((np.sin(x * t) - np.sin(1.1 * t)) ** 2), 0.8),
    "a dict": (lambda p: np.sum((p["a"] * t[:3] ** 2 - 1) ** 2) + (p["b"] - 2) ** 2, {"a": np.zeros(3), "b": 1.0}),
    "of 20": (lambda x: np.sum((x[1:] - x[:-1] ** 2) ** 2) + np.sum((1 - x) ** 2), np.linspace(-1, 1, 20)),
    "not told apart": (lambda p: np.sum((np.exp(p[0] + p[1]) * t - seen) ** 2), np.array([0.3, -0.8])),
    "one of no effect": (lambda p: np.sum((p[0] ** 2 * t - seen + 0 * p[1]) ** 2), np.array([0.3, -0.8])),
    "to nothing": (lambda p: np.sum((np.sinh(p) - 1) ** 2), np.array([3.0, -1.0])),
    "of two lengths": (of_two_lengths, np.array([0.0, 2.0])),
    "to an edge": (to_an_edge, np.array([2.0, 0.5])),
}


@pytest.mark.parametrize("name", FITS)
def test_python_and_machine_code_fit_alike_to_the_bit(name, monkeypatch):
    f, x0 = FITS[name]
    rates = kb.schedules.exponential(0.5, 0.9)
    for options in ({}, {"gtol": 1e-4}, {"max_steps": 5}, {"record": "off"}, {"lr": 0.1}, {"lr": rates}):
        with monkeypatch.context() as patch:
            patch.setattr(search_stepper, "_code", search_stepper._Code())
            patch.setattr(search_stepper, "MACHINE_FROM", math.inf)
            patch.setattr(replay, "ASKED_FOR", 10**9)
            python = kb.minimize(anew(f), x0, "levenbergmarquardt", **options)
            assert python.executor != "native"
        monkeypatch.setattr(search_stepper, "MACHINE_FROM", 0)
        monkeypatch.setattr(replay, "ASKED_FOR", 10**9)
        same_run(kb.minimize(anew(f), x0, "levenbergmarquardt", **options), python)
        monkeypatch.setattr(replay, "ASKED_FOR", 0)
        fresh = anew(f)
        first, again = (kb.minimize(fresh, x0, "levenbergmarquardt", **options) for _ in range(2))
        same_run(first, python)
        same_run(again, python)
        np.testing.assert_array_equal(again.covariance, python.covariance)
        steps = []
        same_run(kb.minimize(fresh, x0, "levenbergmarquardt", on_step=steps.append, **options), python)
        assert [step.t for step in steps] == list(range(python.nit + 1))


@pytest.mark.parametrize("name", FITS)
def test_each_step_of_a_fit_is_the_rules_own_but_for_rounding(name, by_machine, monkeypatch):
    f, x0 = FITS[name]
    steps = 0
    for before, rule, text in steps_apart(f, x0, kb.LevenbergMarquardt(), monkeypatch, most=30):
        scale = np.max(np.abs(rule[0].x - before.x))
        if scale < 1e-6 * np.max(np.abs(before.x)):
            continue
        steps += 1
        np.testing.assert_allclose(text[0].x, rule[0].x, rtol=0, atol=1e-7 * scale)
        for found, wanted in zip(text[1], rule[1], strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-12 * before.fun)
    assert steps > 1


@pytest.mark.parametrize("name", FITS)
def test_a_fit_ends_as_by_the_rule(name, by_machine, monkeypatch):
    f, x0 = FITS[name]
    run = kb.minimize(f, x0, "levenbergmarquardt")
    by_the_rule(monkeypatch)
    rule = kb.minimize(f, x0, "levenbergmarquardt")
    assert (run.status, run.message[:20]) == (rule.status, rule.message[:20])
    assert abs(run.nit - rule.nit) <= 2
    assert run.fun == pytest.approx(rule.fun, rel=1e-9, abs=1e-20)


@pytest.mark.parametrize("every", [1, 3, 7])
@pytest.mark.parametrize("name", ["a decay", "of 20", "of two lengths", "to an edge"])
def test_a_checkpoint_in_the_middle_of_a_fit_goes_on_to_the_same_end(name, every, tmp_path, by_machine):
    f, x0 = FITS[name]
    whole = kb.minimize(f, x0, "levenbergmarquardt")
    file = tmp_path / "checkpoint"
    kb.minimize(f, x0, "levenbergmarquardt", max_steps=min(4, whole.nit - 1), checkpoint=(file, every))
    same_run(kb.resume(file, f, max_steps=10_000), whole)
    same_run(kb.minimize(f, x0, "levenbergmarquardt", checkpoint=(file, every)), whole)


def test_a_jacobian_that_is_not_the_gradients_is_left_to_the_rule(by_machine, monkeypatch):
    """Which refuses it; here it is wrong but once, and the rule finds nothing to refuse."""
    monkeypatch.setattr(replay, "ASKED_FOR", 10**9)
    ask, wrong, made = search_stepper.SearchStepper._residuals, [3], []

    def asked(self):
        answer = ask(self)
        if self.memory.counts[searches.T] in wrong:
            self.memory.columns[1] *= 2
        return answer

    step = PythonStepper.step_from
    monkeypatch.setattr(PythonStepper, "step_from", lambda self, point: (made.append(point.t), step(self, point)))
    monkeypatch.setattr(search_stepper.SearchStepper, "_residuals", asked)
    run = kb.minimize(anew(decay), np.ones(3))
    assert run.success
    assert made == [3]


@pytest.mark.slow
def test_what_the_loop_of_fits_does_not_cover_stays_with_the_rule(monkeypatch):
    runs = []
    monkeypatch.setattr(search_stepper.SearchStepper, "_run", lambda self: runs.append(self) or 0 / 0)
    for options in ({"bounds": (-9, 9)}, {"grad": "central"}, {"optimizer": kb.LevenbergMarquardt(clipnorm=1.0)}):
        kb.minimize(decay, np.ones(3), **{"optimizer": "levenbergmarquardt", "max_steps": 3} | options)
    kb.minimize(decay, np.ones(3), kb.LevenbergMarquardt(weight_decay=0.1), max_steps=3)
    kb.minimize(decay, np.ones(3, np.float32), "levenbergmarquardt", max_steps=3)
    kb.minimize(lambda p: (p[0] * p[1] - 1) ** 2, np.ones(2), "levenbergmarquardt", max_steps=3)
    kb.minimize(lambda p: np.sum((p - 1) ** 2), np.zeros(33), max_steps=3)
    kb.minimize(lambda p: np.sum((p[0] * np.ones(2**20) - p[1]) ** 2), np.ones(2), max_steps=1)
    assert not runs


# -- f without Python -------------------------------------------------------------------------------------------------

data = np.linspace(0.0, 1.0, 37)
matrix = np.random.default_rng(0).normal(size=(20, 3))
REPLAYED = {
    "numbers": (rosenbrock, 2),
    "functions of numbers": (lambda x: np.exp(x[0]) * np.sin(x[1]) / (1 + x[0] ** 2) + np.tanh(x[1]) ** 3, 2),
    "powers": (lambda x: x[0] ** 3 + x[1] ** 4 - x[0] ** 2 + (2 + x[1] ** 2) ** 1.5, 2),
    "a curve": (lambda p: np.sum((p[0] * np.exp(-p[1] * data) + p[2] - np.cos(data)) ** 2), 3),
    "matrices": (lambda b: np.mean(np.logaddexp(0, matrix @ b) - matrix[:, 0] * (matrix @ b)), 3),
    "axes": (lambda b: np.sum(np.sqrt(1 + np.sum((matrix * b) ** 2, axis=1))) + np.sum(np.max(matrix * b, axis=0)), 3),
    "choices": (lambda x: np.sum(np.where(x > 0, x**2, np.exp(x))) + np.sum(np.maximum(x, 0.1) * (x < 0.5)), 12),
    "slices": (many, 30),
    "joined": (lambda x: np.sum(np.concatenate([x[:2] ** 2, np.sin(x[2:])]) * np.stack([x[0], x[1], x[2], x[3]])), 4),
    "running": (lambda x: np.sum(np.cumsum(x) ** 2) + np.sum(np.cumsum(np.exp(x))), 9),
}


@pytest.mark.parametrize("name", REPLAYED)
def test_the_table_has_the_bits_of_the_program(name):
    f, n = REPLAYED[name]
    random, program = np.random.default_rng(1), kb.value_and_grad(f)
    program(random.normal(size=n))
    path = program.last
    table = Replay(path.graph, path.program.executor == "floats")
    answered = 0
    for _ in range(50):
        x = random.normal(size=n)
        if (found := table(x)) is not None:
            fun, g = program(x)
            answered += 1
            assert found[0] == fun
            np.testing.assert_array_equal(found[1], g)
    assert answered == 50


def test_the_table_refuses_a_failed_guard_and_what_is_not_finite():
    program = kb.value_and_grad(piecewise)
    program(np.array([1.0, 2.0]))
    table = Replay(program.last.graph, floats=True)
    assert table(np.array([0.5, 1.0])) is not None
    assert table(np.array([0.1, 1.0])) is None
    program = kb.value_and_grad(lambda x: x[0] / x[1])
    program(np.array([1.0, 2.0]))
    assert Replay(program.last.graph, floats=True)(np.array([1.0, 0.0])) is None


def test_the_table_knows_when_an_array_that_it_reads_was_moved():
    own = np.linspace(0.0, 1.0, 20)
    program = kb.value_and_grad(lambda x: np.sum((x[0] * own - x[1]) ** 2))
    program(np.array([1.0, 2.0]))
    table = Replay(program.last.graph, floats=False)
    assert table.is_valid()
    own[:] = 2.0
    assert table(np.array([1.0, 2.0]))[0] == program(np.array([1.0, 2.0]))[0] == 0.0


@pytest.mark.parametrize("name", ["a decay", "Rosenbrock", "a number", "of 20", "a long loop"])
def test_the_table_of_residuals_has_the_bits_of_their_programs(name, monkeypatch):
    f, x0 = FITS[name]
    layout, x0 = flatten(x0)
    program = kb.value_and_grad(f)
    here = Residuals(program, layout)
    random = np.random.default_rng(0)
    program(layout.view(x0))
    for _ in range(40):
        x = x0 * random.uniform(0.5, 1.5, x0.size)
        r, jacobian = here.at(x)
        table = here.table(program.last)
        again = Residuals(kb.value_and_grad(anew(f)), layout)
        with monkeypatch.context() as patch:
            patch.setattr(replay, "ASKED_FOR", 10**9)
            fresh = [again.at(x) for _ in range(2)][1]
        for mine, other in zip((r, jacobian), fresh, strict=True):
            np.testing.assert_array_equal(mine, other)
            assert mine.flags.c_contiguous
        if table is not None:
            np.testing.assert_array_equal(table(x)[1], jacobian)
            here.give_back(program.last, table)
    assert table is not None


def test_the_table_refuses_what_lapack_can_not_do():
    """NumPy raises there; the table has NaN, which f may mask."""
    program = kb.value_and_grad(lambda x: np.fmax(np.linalg.inv(np.diag(x))[0, 0], -1e9) + np.sum(x**2))
    program(np.array([1.0, 2.0]))
    table = Replay(program.last.graph, floats=False)
    assert table(np.array([3.0, 4.0]))[0] == program(np.array([3.0, 4.0]))[0]
    assert table(np.array([3.0, 0.0])) is None


@pytest.mark.parametrize("name", ["a long loop", "a decay"])
def test_the_rows_of_many_numbers_at_once_are_those_one_by_one(name, monkeypatch):
    f, x0 = FITS[name]
    program = kb.value_and_grad(f)
    program(x0)
    graph = program.last.graph
    at_once = Replay(graph, floats=False)
    monkeypatch.setattr(replay, "MANY", 10**9)
    one_by_one = Replay(graph, floats=False)
    words = [0, 1, *range(6, replay.WIDTH)]  # all but the addresses
    np.testing.assert_array_equal(at_once.table[:, words], one_by_one.table[:, words])
    assert at_once.work == one_by_one.work
    assert any(type(row) is not tuple for row in at_once.rows) == (name == "a long loop")
    assert at_once(x0)[0] == one_by_one(x0)[0] == program(x0)[0]


def test_what_has_no_loop_is_left_to_the_program(by_machine):
    a = np.array([[2.0, 0.3], [0.3, 1.0]])

    def f(x):
        return np.linalg.slogdet(a + np.diag(x**2))[1] + np.sum((x - 1) ** 2)

    program = kb.value_and_grad(f)
    program(np.array([1.0, 2.0]))
    with pytest.raises(NotLowerable):
        Replay(program.last.graph, floats=False)
    assert kb.minimize(f, [3.0, -2.0], "lbfgs").executor == "numpy"
    assert kb.minimize(rosenbrock, [-1.2, 1.0], "lbfgs").executor == "native"


# -- the part of Python that is machine code --------------------------------------------------------------------------


def summed(a: Vector, b: Matrix, k: Integers, n: int) -> float:
    result = 0.0
    for i in range(n):
        if a[i] < 0.0 or not a[i] <= 4.0:
            continue
        result += a[i] * b[i % 2][i] - float(k[0])
        if result > 1e3:
            break
    for i in range(n - 1, -1, -1):
        result = min(max(result, -abs(a[i])), 1e6) / 2.0
    k[1] = k[1] + 1
    if math.isfinite(result) and -1.0 <= result < 1.0:
        return math.sqrt(abs(result)) - 0.5
    return -result


def searched(first: float, a: Vector, g: Vector) -> searches.Generator[searches.Asked, float, int]:
    count = 0
    while True:
        a[0] = first
        fun = yield a, g
        count += 1
        if fun < 1.0 or count == 20:
            return count
        first = first / 2.0


def whole(a: Vector, g: Vector, b: Matrix, k: Integers, out: Vector) -> searches.Generator[searches.Asked, float, int]:
    n = k[2]
    given = yield a, g, b
    if given < 0.0:
        return -int(given)
    out[0] = summed(a, b, k, n)
    found = yield from searched(8.0, a, g)
    again = yield from searched(a[0] * 16.0, a, g)
    out[1] = float(found) + g[0]
    return found + again


def driven(steps):
    """Run a generator to its end, and return what it returns."""
    told = None
    try:
        while True:
            x, g, *columns = steps.send(told)
            if columns:
                columns[0][1][3], told = x[0], (-5.0 if x[0] > 4 else 1.0)
            else:
                g[0], told = 2 * x[0], x[0] ** 2
    except StopIteration as stopped:
        return stopped.value


def test_a_generator_means_in_machine_code_what_python_means():
    machine = scalar_code.compiled(whole)
    for seed in range(20):
        random = np.random.default_rng(seed)
        n = int(random.integers(1, 9))
        given = [
            random.normal(size=8) * 3,
            np.zeros(1),
            random.normal(size=(2, 8)),
            np.array([seed % 3, 0, n]),
            np.zeros(2),
        ]
        copies = [part.copy() for part in given]
        block = scalar_code.Block(given)
        while (answer := machine.call(block.address)) < 0:
            if answer == scalar_code.ASKED_COLUMNS:
                given[2][1, 3] = given[0][0]
                block.numbers[scalar_code.ANSWER] = -5.0 if given[0][0] > 4 else 1.0
            else:
                assert answer == scalar_code.ASKED
                block.numbers[scalar_code.ANSWER] = given[0][0] ** 2
                given[1][0] = 2 * given[0][0]
        assert driven(whole(*map(search_stepper._view, copies))) == answer
        for mine, other in zip(given, copies, strict=True):
            np.testing.assert_array_equal(mine, other)


def test_what_there_is_no_machine_code_for_is_an_error():
    def strange(a: Vector) -> searches.Generator[searches.Asked, float, int]:
        fun = yield a, a
        return len(str(fun))

    with pytest.raises(CompileError, match="str"):
        scalar_code.compiled(strange)
