"""A part of the corpus of programs as people write them; ``python tests/corpus.py`` examines random compositions of its
idioms, and with --corpus every variant."""

from types import SimpleNamespace

import numpy as np
import pytest
from support.composition import compose
from support.examination import STEPS, Outcome, ask, examine, listening
from support.idioms import IDIOMS, corpus
from support.programs import Program
from support.truth import argument, slope

PARTS, STRIDE = 12, 38  # a third of all; the kinds of layout come back every eight variants: each part has some of all
PROGRAMS = corpus()
COMPOSITIONS, FIRST, EACH = 100, 900_000_000, 10  # seeds of their own
REFUSED = 0.03  # the largest share


def report(found: list[Outcome]) -> str:
    return "\n".join(f"{o.what} {o.program.name}: {o.reason}\n{o.program.text}" for o in found)


def assert_right(found: list[Outcome]) -> None:
    bad = [o for o in found if o.what in ("wrong", "broken")]
    assert not bad, report(bad)
    assert sum(o.skipped for o in found) <= 0.05 * sum(o.compared for o in found)


def test_there_are_enough_programs():
    assert len(IDIOMS) >= 40
    assert len(PROGRAMS) >= 600
    assert len({(program.text, program.layout) for program in PROGRAMS}) == len(PROGRAMS)


@pytest.mark.sampled(12)
@pytest.mark.parametrize("part", range(PARTS))
def test_no_program_is_silently_wrong(part):
    found = [examine(program) for program in PROGRAMS[part::STRIDE]]
    assert_right(found)
    refused = [o for o in found if o.what == "refused" and o.program.expect == "right"]
    assert len(refused) <= max(3, REFUSED * len(found)), report(refused)


@pytest.mark.sampled(10)
@pytest.mark.parametrize("first", range(FIRST, FIRST + COMPOSITIONS, EACH))
def test_no_composition_is_silently_wrong(first):
    assert_right([examine(compose(seed)) for seed in range(first, first + EACH)])


@pytest.mark.sampled(12)
@pytest.mark.parametrize("part", range(PARTS))
def test_the_programs_are_what_they_say(part):
    """Their derivatives exist, by differences at two steps, and ``change`` changes what f returns."""
    looked = unsure = 0
    for program in PROGRAMS[part::STRIDE]:
        with listening(), program.instance() as one:
            for point in program.points:
                answer = ask(lambda one=one, point=point: slope(one, point))
                if program.expect not in ("right", "differences") or answer.error is not None:
                    continue
                (truth, error), tolerance = answer.value, program.tolerance
                looked += 1
                if error <= tolerance * (1 + np.abs(truth).max()):
                    again, _ = ask(lambda one=one, point=point: slope(one, point, 0.013)).value
                    np.testing.assert_allclose(again, truth, atol=9 * tolerance, rtol=9 * tolerance)
                elif ask(lambda one=one, point=point: one(argument(point))).error is None:
                    unsure += 1
            if one.change is not None:
                before = float(one(argument(program.points[0])))
                one.change()
                after = float(one(argument(program.points[0])))
                assert abs(after - before) > 1e-3 * abs(before), f"{program.name}: change() changes nothing"
    assert unsure <= 0.02 * looked


# --- the examination itself: libraries that are wrong in a known way
class Differences:
    """A library whose gradients are differences of f, spoilt by what a test puts in place of `slope`."""

    def __init__(self, spoil):
        self.spoil = spoil

    def gradient(self, f):
        return self.spoil(lambda x: slope(f, np.array(x))[0])

    def grad(self, f):
        return self.gradient(f)

    def value_and_grad(self, f):
        gradient = self.gradient(f)
        return lambda x: (float(f(np.copy(x) if np.ndim(x) else np.float64(x))), gradient(x))

    class SGD:
        def __init__(self, lr):
            self.lr = lr

        def update(self, params, grads):
            params["x"] -= self.lr * grads["x"]

    def iterate(self, f, x0, optimizer, *, gtol=0, max_steps):
        both = self.value_and_grad(f)
        x = np.copy(x0)
        for t in range(max_steps + 1):
            value, g = both(x)
            yield SimpleNamespace(t=t, x=x, f=value, g=g)
            if t < max_steps:
                x = x - optimizer.lr * g

    def minimize(self, f, x0, optimizer, *, gtol=0, max_steps, on_step=lambda step: None):
        for step in self.iterate(f, x0, optimizer, max_steps=max_steps):
            on_step(step)
        return SimpleNamespace(
            x=step.x, fun=step.f, nit=max_steps, nfev=9, success=bool(np.all(step.g == 0)), message=""
        )


def kept(gradient):
    """Keep the first answer at each point, as a graph does whose surroundings have changed."""
    known = {}
    return lambda x: known.setdefault(np.asarray(x).tobytes(), gradient(x))


SPOILT = {
    "exact": lambda gradient: gradient,
    "zero": lambda gradient: lambda x: np.zeros(np.shape(x))[()],
    "nan": lambda gradient: lambda x: np.full(np.shape(x), np.nan)[()],
    "scaled": lambda gradient: lambda x: 1.0001 * gradient(x),
    "stale": kept,
    "of another shape": lambda gradient: lambda x: np.ravel(gradient(x))[None],
}
WATCHED = Program(
    "watched",
    "mu = [2.0]\n\ndef f(x):\n    return mu[0] * np.sum(x**2)\n\ndef change():\n    mu[0] = 3.0\n",
    ((0.3, 0.7), (-0.5, 0.2), (0.9, -0.4)),
)
STILL = Program("still", "def f(x):\n    return 3.0\n", WATCHED.points, "constant")
NUMBER = Program("number", "def f(x):\n    return math.log(x)\n", (0.6, -0.5, 1.2))


@pytest.mark.parametrize("spoil", SPOILT)
def test_a_wrong_library_is_found_out(spoil):
    outcome = examine(WATCHED, Differences(SPOILT[spoil]))
    assert outcome.what == ("right" if spoil == "exact" else "wrong"), outcome.findings
    where = {finding.check.split()[0] for finding in outcome.findings if finding.what == "wrong"}
    if spoil == "stale":
        assert where == {"changed"}
    elif spoil != "exact":
        assert where >= {"fresh", "reused", "changed"}
    assert outcome.compared > 5 * STEPS or spoil in ("nan", "of another shape")


def test_silence_about_an_ignored_argument_is_found_out():
    found = examine(STILL, Differences(SPOILT["exact"])).findings
    assert {finding.check for finding in found} == {"fresh", "on_step"}


def test_a_number_where_f_raises_is_found_out():
    library = Differences(lambda gradient: lambda x: 1 / x)
    library.value_and_grad = lambda f: lambda x: (math_log(x), 1 / x)
    outcome = examine(NUMBER, library)
    assert outcome.what == "wrong"
    assert "where f raises ValueError" in outcome.reason


def math_log(x):
    return float(np.log(np.abs(x)))


def test_what_is_left_behind_is_found_out():
    log = Program("log", "log = []\n\ndef f(x):\n    log.append(np.sum(x))\n    return log[-1]\n", WATCHED.points)
    assert examine(log, Differences(SPOILT["exact"])).what == "right"

    def leaving(gradient):
        def call(x):
            from koubai.nn import Dense

            gradient.__closure__[0].cell_contents.__globals__["log"].append(Dense(1))
            return gradient(x)

        return call

    outcome = examine(log, Differences(leaving))
    assert outcome.what == "broken"
    assert "left behind" in outcome.reason
