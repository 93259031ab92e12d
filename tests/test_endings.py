"""Every end in its own words: what is a success, and why x stays where it is when it is none."""

import math

import numpy as np
import pytest

import koubai as kb
from koubai.descent.stopping import largest
from koubai.errors import FunctionError, GradientWarning

Status = kb.Status
MARKS = np.random.default_rng(0).normal(size=(50, 2))
RIGHT = MARKS @ [1, -2] > 0
SAMPLE = np.random.default_rng(1).normal(5, 2, 150)
VOLTS = np.linspace(0, 1, 20)
AMPERES = 1e-9 * np.expm1(VOLTS / 0.3)
NAN = float("nan")


def bowl(x):
    return np.sum((x - 1) ** 2)


def likelihood(p):
    return -np.prod(np.exp(-((SAMPLE - p[0]) ** 2) / (2 * p[1] ** 2)) / np.sqrt(2 * np.pi * p[1] ** 2))


def diode(p):
    return np.sum((p[0] * 1e-9 * np.expm1(VOLTS / p[1]) - AMPERES) ** 2)


# f, x0, optimizer, the status, and a part of the message
ENDS = {
    "a leap onto a flat region": (lambda x: -np.exp(-(x**2)), 0.9, kb.SGD(lr=10), "stalled", "leapt away"),
    "rounded to six places": (lambda x: np.round(np.sum(x**2), 6), [1.0, 2.0], "lbfgs", "noise_floor", "rounding err"),
    "stairs": (lambda x: np.sum(np.heaviside(x, 1)), [1.0, 2.0], "auto", "stalled", "in steps only"),
    "accuracy": (lambda w: -np.mean((MARKS @ w > 0) == RIGHT), [1.0, 2.0], "auto", "stalled", "does not change at all"),
    "no slope to be seen": (lambda x: 1 - np.exp(-np.sum(x**2)), [20.0, 9.0], "lbfgs", "stalled", "does not change"),
    "a kink": (lambda x: np.sum(np.abs(x - 1)) + 0.1 * np.sum(x**2), [3.0, -2.0], "lbfgs", "stalled", "has a kink"),
    "a kink in one dimension": (lambda x: 2 * abs(x - 1) + x, 3.3, "conjugategradient", "stalled", "has a kink"),
    "the edge of the domain": (lambda x: x + np.where(x < 1, NAN, 0.0), 2.0, "lbfgs", "stalled", "domain ends here"),
    "an edge with a slope without end": (lambda x: np.sum(np.sqrt(x)), [1.0, 2.0], "lbfgs", "stalled", "domain ends"),
    "a rate below rounding": (bowl, [1e3, 0.5], kb.SGD(lr=1e-20), "stalled", "below the rounding of x, and f still"),
    "a rate below the rounding of f": (bowl, [1e9, 0.5], kb.SGD(lr=1e-18), "stalled", "use a larger lr"),
    "no step was made": (bowl, [1.0, 1.0], "auto", "converged", "no step was made"),
    "no step to be made": (lambda x: bowl(x) + 3, [1.0, 1 + 1e-9], "lbfgs", "converged", "to the rounding of f"),
    "the rounding of a large f": (lambda x: 1e12 * bowl(x) ** 2 + 1e12, [0.0, 3.0], "lbfgs", "converged", "rounding"),
    "gtol below the rounding of f": (
        lambda x: 1e12 * np.sum(np.cosh(x - 1)), [0.0, 3.0], ("lbfgs", {"gtol": 1e-9}), "stalled", "use a larger gtol",
    ),
    "f falls for ever": (lambda x: -np.sum(x), [0.0, 3.0], "lbfgs", "diverged", "unbounded below"),
    "it rose slowly": (lambda x: 50 * x[0] ** 2 + x[1] ** 2, [0.4, 2.0], (kb.SGD(lr=0.0201), {"max_steps": 1000}),
                       "diverged", "f rose from 12 to 3.51e+09 in 1000 steps"),
    "to and fro": (lambda x: x**4 - 3 * x**2 + x, 2.0, kb.SGD(lr=0.15), "max_steps", "the step limit 10000 came first"),
    "a product of likelihoods": (likelihood, [4.0, 3.0], "lbfgs", "converged", ""),
    "nanoamperes": (diode, [2.0, 0.35], "lbfgs", "converged", ""),
    "nanoamperes by conjugate gradients": (diode, [2.0, 0.35], "conjugategradient", "converged", ""),
    "nanoamperes by plain descent": (diode, [2.0, 0.35], kb.SGD(lr=0.1), "max_steps", "f still falls"),
    "a small unit": (lambda x: 1e-50 * (x - 1) ** 2, 5.0, "lbfgs", "converged", ""),
    "a large unit": (lambda x: 1e50 * bowl(x) + 1e50, [5.0, 3.0], "lbfgs", "converged", ""),
}  # fmt: skip
AT = {"a product of likelihoods": [np.mean(SAMPLE), np.std(SAMPLE)], "a small unit": 1.0, "a large unit": [1.0, 1.0]}
AT |= {name: [1.0, 0.3] for name in ("nanoamperes", "nanoamperes by conjugate gradients")}


@pytest.mark.filterwarnings("ignore::koubai.errors.FallbackWarning", "ignore::koubai.errors.GradientWarning")
@pytest.mark.parametrize("name", ENDS)
def test_each_end_has_its_own_words(name):
    f, x0, optimizer, status, words = ENDS[name]
    optimizer, options = optimizer if isinstance(optimizer, tuple) else (optimizer, {})
    run = kb.minimize(f, x0, optimizer, **options)
    assert (run.status, words) == (Status[status], words), run.message
    assert words in run.message
    assert run.success == (status == "converged")
    assert run.best_fun <= min(run.fun, run.history.fun[0])
    if name in AT:
        np.testing.assert_allclose(run.x, AT[name], rtol=1e-5)


@pytest.mark.parametrize(
    ("grad", "component"),
    [
        (lambda x: 2 * (x - 1) + 1, "x[1] is 3, by differences 2"),
        (lambda x: 2 * (x - 1) * np.array([1.0, 0.0]), "x[1] is 0, by differences 2"),
        (lambda x: -2 * (x - 1), "x[0] is"),
    ],
)
def test_a_gradient_of_the_users_is_looked_at_once(grad, component):
    with pytest.warns(
        GradientWarning, match=r"grad is not the gradient of bowl at x0: component .*check_gradient"
    ) as told:
        run = kb.minimize(bowl, [-3.0, 2.0], kb.SGD(lr=0.1), grad=grad)
    assert component in str(told[0].message)
    assert len(told) == 1
    assert not run.success
    if run.status is Status.stalled:
        assert "check_gradient" in run.message


@pytest.mark.parametrize(
    "f", [bowl, lambda x: np.sum(np.abs(x)), lambda x: np.sum(np.cosh(3 * x)), lambda x: np.sum(x**9)]
)
@pytest.mark.parametrize("form", [lambda g: g, lambda g: g.astype(np.float32), lambda g: g * (1 + 1e-6)])
@pytest.mark.parametrize("x0", [[1.5, -2.0], [0.0, 1e-3], [2e1, 3.0]])
def test_a_right_gradient_is_not_suspected(f, form, x0):
    """Nor a rounded one, nor one by differences, nor where f has a kink or overflows."""
    with np.errstate(all="ignore"):
        gradient = kb.grad(f, method="backprop")
        kb.minimize(f, x0, kb.SGD(lr=1e-9), grad=lambda x: form(gradient(x)), max_steps=3)


def test_a_start_where_f_is_infinite_is_told_as_such():
    with pytest.raises(FunctionError, match=r"f\(x0\) = inf at x0"):
        kb.minimize(lambda x: np.sum(1 / x), [0.0, 3.0])


WILD = {
    "goldstein_price": (kb.problems["goldstein_price"].f, kb.problems["goldstein_price"].x0, kb.SGD(lr=0.1)),
    "rosenbrock": (kb.problems["rosenbrock"].f, [-1.2, 1.0], kb.SGD(lr=0.1)),
    "momentum": (kb.problems["rosenbrock"].f, [-1.2, 1.0], kb.Momentum(lr=0.1)),
    "a pole": (lambda x: x + 1 / x, 0.01, kb.SGD(lr=1e-8)),
    "too slow": (bowl, [3.0, 5.0], kb.SGD(lr=1e-6)),
    "Adam": (kb.problems["rosenbrock"].f, [-1.2, 1.0], kb.Adam(lr=1e-4)),
    "at the edge": (lambda x: 50 * x[0] ** 2 + x[1] ** 2, [0.4, 2.0], kb.SGD(lr=0.02)),
    "to and fro": (lambda x: x**4 - 3 * x**2 + x, 2.0, kb.SGD(lr=0.15)),
}


@pytest.mark.parametrize("name", WILD)
def test_no_rate_is_named_that_does_not_go_down(name):
    f, x0, optimizer = WILD[name]
    run = kb.minimize(f, x0, optimizer, max_steps=2000)
    assert not run.success
    found = run.diagnose()
    after = run.again(**found.remedy.change, max_steps=50)
    assert after.fun < f(np.asarray(x0))
    assert after.status in (Status.max_steps, Status.converged)


def test_what_lies_above_the_best_point_is_no_success():
    """A heavy ball rolls through the deeper hollow and comes to rest in the other one."""
    f = lambda x: np.sum(x**4 / 4 - x**2 / 2 - 0.02 * x)  # noqa: E731
    ends = [kb.minimize(f, start, kb.Momentum(lr=0.02, momentum=0.97)) for start in np.linspace(-3, 3, 41)]
    for run in ends:
        assert run.success <= (run.fun <= run.best_fun + 1e-9), run.message
    assert any("left a better point" in run.message for run in ends)


def test_a_rate_that_is_tried_for_advice_may_lead_out_of_f():
    run = kb.minimize(lambda x: 5 * x - math.log(x), 0.9, kb.SGD(lr=1e-9), max_steps=3, gtol=0)
    assert run.status is Status.max_steps
    assert run.diagnose().code == "lr_too_small"


@pytest.mark.parametrize("size", [1, 3, 16, 17])
def test_the_largest_component_is_numpys(size):
    rng = np.random.default_rng(size)
    for special in (0.0, -0.0, 1e-320, 1e200, -np.inf, np.nan):
        for dtype in (np.float64, np.float32):
            x = rng.normal(size=size)
            x[-1] = special if abs(special) < 1e30 or dtype is np.float64 or not np.isfinite(special) else 1e30
            x = x.astype(dtype)
            expected = float(np.maximum.reduce(np.abs(x)))
            assert np.array_equal(largest(x), expected, equal_nan=True)
