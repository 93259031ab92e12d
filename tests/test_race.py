import math

import numpy as np
import pytest

import koubai as kb
from koubai.descent.optimizers import names
from koubai.errors import InputError
from koubai.search.race import SCIPY, BudgetSpent

ROSENBROCK = kb.problems["rosenbrock"].f


class Counted:
    """A function that counts its calls from outside, as koubai can't."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return (float(x[0]) - 1) ** 2 + 5 * float(x[1]) ** 2


RACED = [*names(), *(f"scipy:{m}" for m in SCIPY)]


@pytest.mark.parametrize("budget", [1, 40])
def test_an_outside_count_finds_no_call_beyond_the_budget(budget):
    """Every optimizer, alone: f's own calls, those of differences among them, are no more than the budget."""
    for entrant in RACED:
        f = Counted()
        found = kb.race(f, [3.0, -2.0], [entrant], budget=budget, lr="same", grad="central")
        assert 0 < f.calls <= budget, entrant
        assert found.trials[0].nfev <= budget, entrant


def test_every_evaluation_is_charged_when_f_is_traced():
    found = kb.race(ROSENBROCK, [-1.2, 1.0], RACED, budget=100, lr="given", starts=2)
    assert all(trial.nfev <= 100 for trial in found.trials)
    assert all(trial.evaluations[-1] <= 100 for trial in found.trials if len(trial.evaluations))
    assert len(found.table["name"]) == len(RACED)


def test_ties_share_the_first_place():
    found = kb.race(ROSENBROCK, [-1.2, 1.0], {"a": kb.SGD(), "b": kb.SGD(), "c": kb.Adam()}, budget=100, lr=1e-3)
    assert set(found.tied) >= {"a", "b"} or found.winner == "c"
    twins = kb.race(ROSENBROCK, [-1.2, 1.0], {"a": kb.LBFGS(), "b": kb.LBFGS()}, budget=100)
    assert twins.tied == ("a", "b")
    assert "2 share the first place" in repr(twins)


def test_divergences_and_failures_are_rows():
    def holed(x):
        if not np.all(np.abs(x) < 2):
            raise ValueError("outside")
        return np.sum((x - 1) ** 2)

    found = kb.race(lambda x: np.sum(x**4), [3.0, 1.0], ["sgd", "lbfgs"], budget=100, lr=10.0)
    assert dict(zip(found.table["name"], found.table["diverged"], strict=True)) == {"LBFGS": 0, "SGD": 1}
    assert "1 diverged" in repr(found)
    assert found.table["evaluations"][1] == math.inf
    found = kb.race(holed, [1.9, 0.0], ["sgd", "adam"], budget=60, lr=0.1, starts=6, seed=2)
    outside = sum(bool(trial.failure) for trial in found.trials if trial.name == "SGD")
    assert 0 < outside < 6
    row = found.table["name"].index("SGD")
    assert found.table["failed"][row] == outside
    assert found.table["success"][row] <= 1 - outside / 6
    assert len(found.trials) == 12


def test_rates_are_tuned_at_the_same_terms_and_said():
    found = kb.race(ROSENBROCK, [-1.2, 1.0], ["sgd", "adam", "lbfgs"], budget=200)
    rows = dict(zip(found.table["name"], zip(found.table["lr"], found.table["tuning"], strict=True), strict=True))
    assert rows["LBFGS"] == (None, 0)
    assert rows["SGD"][0] == kb.find_lr(ROSENBROCK, [-1.2, 1.0], "sgd", steps=200).lr
    assert rows["SGD"][1] > 0
    assert found.winner == "Adam"  # with the rate that it was given for as many evaluations


def test_a_profile_counts_the_starts():
    found = kb.race(kb.problems["himmelblau"].f, [0.0, 0.0], ["sgd", "lbfgs"], budget=200, starts=4)
    at, shares = found.profile([1.0, 1e9])
    for name in found.table["name"]:
        assert shares[name][1] == found.table["success"][found.table["name"].index(name)]
    assert at.tolist() == [1.0, 1e9]
    assert sum(share[0] for share in shares.values()) >= 1


def test_an_adapter_of_another_library_is_raced():
    class Halving:
        name = "halving"

        def descend(self, evaluate, x0, *, bounds, seed):
            fun, g = evaluate(x0)
            lr = 1.0
            while np.max(np.abs(g)) > 1e-8:
                fun_new, g_new = evaluate(x0 - lr * g)
                x0, fun, g, lr = (x0 - lr * g, fun_new, g_new, lr) if fun_new < fun else (x0, fun, g, lr / 2)
            return "the gradient is small"

    found = kb.race(lambda x: np.sum((x - 1) ** 2), [3.0, 4.0], [Halving(), "lbfgs"], budget=100)
    assert found.runs["halving"].message == "the gradient is small"
    assert found.runs["halving"].fun < 1e-12
    assert issubclass(BudgetSpent, BaseException)
    assert not issubclass(BudgetSpent, Exception)


def test_it_moves(tmp_path):
    found = kb.race(lambda x: (x - 1) ** 2, 3.0, ["sgd", "adam"], budget=40, lr=0.1)
    with pytest.raises(InputError, match="must end in"):
        found.animate(tmp_path / "race.txt")
    file = found.animate(tmp_path / "race.gif")
    assert 0 < file.stat().st_size < 5e6


@pytest.mark.parametrize(
    ("entrants", "options", "says"),
    [
        (["sgd"], {"budget": 0}, "budget"),
        (["sgd"], {"starts": 0}, "starts"),
        (["sdg"], {}, "did you mean 'sgd'"),
        (["scipy:LBFGS"], {}, "scipy:L-BFGS-B"),
        ([], {}, "empty"),
        ("sgd", {}, "list"),
        (["lbfgs", "scipy:BFGS", "scipy:BFGS"], {}, "two entrants"),
        (["sgd"], {"lr": "best"}, "tuned"),
        (["sgd"], {"lr": -1.0}, "lr"),
        (["sgd"], {"within": 2.0}, "within"),
        (["scipy:BFGS"], {"bounds": (0, 5)}, "takes no bounds"),
        (["sgd"], {"budgets": 5}, "budget"),
    ],
)
def test_wrong_inputs_are_told(entrants, options, says):
    with pytest.raises(InputError, match=says):
        kb.race(ROSENBROCK, [1.0, 2.0], entrants, **options)
