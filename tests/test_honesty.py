"""Success is never claimed where it is not: every optimizer, every problem, rates from 1e-8 to 1e4 (mission row G4)."""

import itertools

import numpy as np
import pytest

import koubai as kb

RATES = 10.0 ** np.arange(-8, 5)
GTOL = 1e-6
EACH = 4  # rates for each pair of an optimizer and a problem; all thirteen take turns
PAIRS = list(itertools.product(kb.optimizers.names(), kb.problems.names()))
RUNS = [(o, p, RATES[(EACH * i + 3 * j) % len(RATES)]) for i, (o, p) in enumerate(PAIRS) for j in range(EACH)]


def test_there_are_enough_runs_at_every_rate():
    assert len(RUNS) >= 4_000
    assert {rate for *_, rate in RUNS} == set(RATES)


@pytest.mark.sampled(19)
@pytest.mark.parametrize("name", kb.optimizers.names())
def test_no_run_is_a_success_unless_the_exact_gradient_says_so(name):
    """Everything finite, fun and best_fun those of their points, no warning, and success only where it is one."""
    ended = set()
    for optimizer, problem_name, rate in RUNS:
        if optimizer != name:
            continue
        problem = kb.problems[problem_name]
        try:
            run = kb.minimize(
                problem.f, problem.x0, kb.optimizers.resolve(name, lr=rate), grad=problem.grad, gtol=GTOL, max_steps=120
            )  # fmt: skip
        except kb.errors.InputError as refusal:
            if name == "levenbergmarquardt" and "f is no sum of squares" in str(refusal):
                continue
            raise
        where = f"{name} on {problem_name} at lr {rate:g}: {run.status}, {run.message}"
        exact = np.abs(problem.grad(run.x)).max()
        assert run.success <= (exact <= GTOL), f"{where}; the exact gradient is {exact}"
        assert run.success <= (run.fun <= problem.f(problem.x0)), where
        assert run.fun == problem.f(run.x), where
        assert run.best_fun == problem.f(run.best_x) <= problem.f(problem.x0), where
        assert run.best_fun <= run.history.fun.min(), where
        assert np.isfinite(run.history.x).all(), where
        assert np.isfinite(run.best_fun), where
        ended.add(run.status)
    assert kb.Status.max_steps in ended


@pytest.mark.slow
def test_the_gradient_by_differences_is_no_more_credulous():
    for problem_name, rate in itertools.product(kb.problems.names(), RATES):
        problem = kb.problems[problem_name]
        for grad in ("auto", "central"):
            run = kb.minimize(problem.f, problem.x0, kb.SGD(lr=rate), grad=grad, gtol=GTOL, max_steps=60)
            if run.success:
                exact = np.abs(problem.grad(run.x)).max()
                assert exact <= GTOL + run_error(run), f"{problem_name} at lr {rate:g} by {grad}: {exact}"


def run_error(run):
    """Central differences may be off by their truncation and rounding; backpropagation only by rounding."""
    return 1e-8 if run.gradient_source == "central differences" else 1e-12
