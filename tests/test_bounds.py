"""Bounds: every optimizer keeps to them, f is never called outside, and a search loses nothing by them."""

import warnings

import numpy as np
import pytest
from scipy import optimize

import koubai as kb
from koubai.derivatives.agreement import cross_check
from koubai.descent.optimizers import resolve
from koubai.parameters import flatten

SEARCHES = ("lbfgs", "conjugategradient", "barzilaiborwein", "gradientdescent")


def quadratics(count):
    """Yield positive definite quadratics with a box, and a start in it: (f, gradient, bounds, x0)."""
    random = np.random.default_rng(4)
    for _ in range(count):
        n = int(random.integers(2, 21))
        turned, _ = np.linalg.qr(random.normal(size=(n, n)))
        matrix = turned * 10 ** random.uniform(-1, random.uniform(0.5, 3), n) @ turned.T
        centre, low = random.normal(size=n) * 2, random.uniform(-2, 0, n)
        high = low + random.uniform(0.1, 3, n)

        def f(x, matrix=matrix, centre=centre):
            return 0.5 * (x - centre) @ matrix @ (x - centre)

        def gradient(x, matrix=matrix, centre=centre):
            return matrix @ (x - centre)

        yield f, gradient, np.stack([low, high], axis=1), random.uniform(low, high)


def peer(f, gradient, bounds, x0):
    """Return the minimum that SciPy's L-BFGS-B finds, and how many gradients it takes."""
    found = optimize.minimize(
        f, x0, jac=gradient, method="L-BFGS-B", bounds=bounds, options={"gtol": 1e-6, "ftol": 0.0, "maxiter": 10_000}
    )
    return found.x, found.njev


@pytest.mark.parametrize(("name", "typical", "worst"), [("lbfgs", 2, 5), ("conjugategradient", 4, 10)])
def test_a_bounded_quadratic_takes_about_as_many_gradients_as_l_bfgs_b(name, typical, worst):
    ratios = []
    for f, gradient, bounds, x0 in quadratics(60):
        minimum, njev = peer(f, gradient, bounds, x0)
        run = kb.minimize(f, x0, name, grad=gradient, bounds=bounds, gtol=1e-6, max_steps=500)
        assert np.abs(run.x - minimum).max() < 1e-5
        ratios.append(run.njev / njev)
    assert np.median(ratios) <= typical
    assert max(ratios) <= worst


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_reaches_the_minimum_of_bounded_quadratics(name):
    for f, gradient, bounds, x0 in quadratics(20):
        minimum, _ = peer(f, gradient, bounds, x0)
        run = kb.minimize(f, x0, name, grad=gradient, bounds=bounds, gtol=1e-6, max_steps=3000)
        assert f(run.x) <= f(minimum) + 1e-9 * abs(f(minimum))
        at_low, at_high = minimum == bounds[:, 0], minimum == bounds[:, 1]
        assert np.array_equal(run.x == bounds[:, 0], at_low), "what lies on a bound lies there exactly"
        assert np.array_equal(run.x == bounds[:, 1], at_high)


@pytest.mark.parametrize("settings", [{"line_search": "wolfe"}, {"line_search": "armijo"}])
def test_gradient_descent_searches_within_bounds_either_way(settings):
    optimizer = kb.GradientDescent(**settings)
    run = kb.minimize(lambda x: np.sum((x - [2, -3]) ** 2), [0.5, 0.5], optimizer, bounds=(0, 1))
    assert run.x.tolist() == [1.0, 0.0]
    assert run.success


def test_the_minimum_of_rosenbrock_in_a_box():
    problem = kb.problems["rosenbrock"]
    for bounds, x0 in (
        ([(-2, 0.5), (None, None)], [-1.2, 1.0]),
        ([(-2, 2), (1.2, 3)], [-1.2, 1.2]),
        ([(None, None), (None, -0.5)], [-1.2, -1.0]),
    ):
        minimum, _ = peer(problem.f, problem.grad, bounds, x0)
        run = kb.minimize(problem.f, x0, "lbfgs", bounds=bounds)
        assert run.success
        np.testing.assert_allclose(run.x, minimum, atol=1e-5)


# -- f outside --------------------------------------------------------------------------------------------------------

LOW, HIGH = np.array([0.0, -1.0, 0.5]), np.array([2.0, 3.0, 0.5])


def fenced(x):
    """Raises outside its box, for differences, checks of the gradient and searches alike; the last x is held."""
    if np.any(x < LOW) or np.any(x > HIGH):
        raise AssertionError(f"called at {x}")
    return np.sum((x - np.array([-1.0, 1.0, 0.7])) ** 2) + x[2] * x[1] + np.exp(x[0] * x[1] / 9)


def opaque(x):
    """The same, but not to be traced."""
    return fenced(np.frombuffer(np.asarray(x, np.float64).tobytes()))


@pytest.mark.sampled(7)
@pytest.mark.parametrize("grad", ["auto", "forward", "backward", "central", "adaptive"])
@pytest.mark.parametrize("name", [*SEARCHES, "sgd", "adam"])
@pytest.mark.parametrize("x0", [(1.0, 1.0, 0.5), (0.0, 3.0, 0.5), (2.0, -1.0, 0.5)])
def test_f_is_never_called_outside_the_bounds(name, grad, x0):
    run = kb.minimize(fenced, x0, resolve(name, lr=0.1), grad=grad, bounds=np.stack([LOW, HIGH], axis=1))
    assert run.x[0] == 0
    assert run.x[2] == 0.5
    assert abs(run.x[1] - (2 * 1.0 - 0.5) / 2) < 1e-4


def test_f_that_can_not_be_traced_is_never_called_outside_the_bounds():
    bounds = np.stack([LOW, HIGH], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", kb.errors.FallbackWarning)
        run = kb.minimize(opaque, [0.0, 3.0, 0.5], "lbfgs", bounds=bounds)
    assert run.gradient_source == "adaptive differences"
    np.testing.assert_allclose(run.x, [0, 0.75, 0.5], atol=1e-6)


@pytest.mark.parametrize("method", ["forward", "backward", "central"])
@pytest.mark.parametrize("at", [0.0, 1.0, 1e-9, 1 - 1e-9])
def test_differences_at_a_bound_are_those_of_the_inside(method, at):
    seen = []

    def f(x):
        seen.append(float(x))
        return np.exp(2 * float(x))

    run = kb.minimize(f, at, kb.SGD(lr=1e-3), grad=method, bounds=(0, 1), max_steps=0)
    assert run.jac == pytest.approx(2 * np.exp(2 * at), rel=1e-6 if method != "central" else 1e-8)
    assert min(seen) >= 0
    assert max(seen) <= 1
    assert run.nfev == len(seen)


def test_complex_steps_stay_inside():
    def f(x):
        assert (x.real >= 0).all()
        assert (x.real <= 1).all()
        return np.sum((x - np.array([2.0, 0.5])) ** 2)

    run = kb.minimize(f, [0.0, 0.3], "lbfgs", grad="complex", bounds=(0, 1))
    np.testing.assert_allclose(run.x, [1, 0.5], atol=1e-6)


@pytest.mark.parametrize("at", [(0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (1e-9, 0.3)])
def test_the_check_of_a_gradient_looks_into_the_box(at):
    """It used to look to both sides; a wrong gradient is still found, and a right one still passes."""
    x = np.array(at)

    def f(x):
        assert (x >= 0).all()
        assert (x <= 1).all()
        return float(np.exp(x[0] - 2 * x[1]))

    right = f(x) * np.array([1.0, -2.0])
    box = np.zeros(2), np.ones(2)
    cross_check(f, [x], [0], f(x), [right], "f", box=box)
    with pytest.raises(kb.errors.GradientError, match="a difference gives"):
        cross_check(f, [x], [0], f(x), [right * [1.0, 1.01]], "f", box=box)


@pytest.mark.parametrize("bounds", [(0.5, 2), (0.1, 0.5), (0.49, 0.51), (0.4999, 0.501)])
def test_stairs_are_seen_from_a_bound_and_in_a_narrow_box(bounds):
    low, high = bounds

    def f(x):
        return 2 * np.floor(1e6 * min(max(x, low), high)) / 1e6

    with pytest.raises(kb.errors.TraceError, match="follows x in the steps of floor"):
        kb.minimize(f, 0.5, bounds=bounds, grad="backprop")


@pytest.mark.parametrize("f", [lambda x: np.sum(x**4), lambda x: np.sum(np.round(x) + 9 * x**2), np.max])
@pytest.mark.parametrize("bounds", [(0.5, 2), (0.1, 0.5), (0.499, 0.501)])
def test_a_right_gradient_passes_on_a_bound(f, bounds):
    x = np.array([0.5, 0.5, 0.5])
    run = kb.minimize(f, x, bounds=bounds, grad="backprop", max_steps=0)
    np.testing.assert_array_equal(run.jac, kb.grad(f)(x))


@pytest.mark.parametrize("grad", ["auto", "forward", "central", "adaptive"])
def test_a_constant_on_its_bounds_is_no_success(grad):
    with pytest.warns(kb.errors.GradientWarning, match="does not depend on its argument"):
        run = kb.minimize(lambda x: 3.0, [0.0, 1.0, 0.5], grad=grad, bounds=(0, 1))
    assert not run.success


@pytest.mark.parametrize("grad", ["auto", "forward", "central", "adaptive"])
def test_parameters_in_lists_are_bounded_too(grad):
    def f(p):
        for part in p:
            assert (part >= 0).all()
            assert (part <= 1).all()
        return np.sum(p[0] ** 2) + np.sum((p[1] - 2) ** 2)

    run = kb.minimize(f, [np.array([0.0, 1.0]), np.array([0.5])], grad=grad, bounds=(0, 1))
    assert run.success
    np.testing.assert_allclose(np.concatenate(run.x), [0, 0, 1], atol=1e-6)


# -- what bounds may be -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SEARCHES, "sgd", "adam", "rprop"])
def test_equal_bounds_hold_a_parameter(name):
    run = kb.minimize(
        lambda x: (x[0] - 3) ** 2 + (x[0] * x[1] - 2) ** 2, [1.0, 0.5], resolve(name, lr=0.05),
        bounds=[(None, None), (0.5, 0.5)], max_steps=5000,
    )  # fmt: skip
    assert run.x[1] == 0.5
    assert (run.history.x[:, 1] == 0.5).all()
    assert abs(run.x[0] - 3.2) < 1e-4
    assert run.success


def test_all_parameters_held():
    run = kb.minimize(lambda x: np.sum(x**2), [1.0, 2.0], "lbfgs", bounds=[(1, 1), (2, 2)])
    assert run.x.tolist() == [1.0, 2.0]
    assert run.nit == 0


BOUNDS = {
    "SciPy's": (optimize.Bounds([0.5, -np.inf], [np.inf, 1.0]), [2.0, 0.5]),
    "SciPy's, of numbers": (optimize.Bounds(0.5, 3), [2.0, 0.7]),
    "SciPy's, for a number": (optimize.Bounds(0.5, 3), 2.0),
    "SciPy's, in a dict": ({"a": optimize.Bounds([0.5, 0.6], [3, 3])}, {"a": np.ones(2)}),
}


@pytest.mark.parametrize("what", BOUNDS)
def test_bounds_of_scipy(what):
    bounds, x0 = BOUNDS[what]
    run = kb.minimize(lambda x: np.sum((x["a"] if isinstance(x, dict) else x) ** 2), x0, "lbfgs", bounds=bounds)
    expected = {"SciPy's": [0.5, 0], "SciPy's, of numbers": [0.5, 0.5], "SciPy's, for a number": 0.5}.get(what)
    np.testing.assert_allclose(run.x["a"] if expected is None else run.x, expected or [0.5, 0.6], atol=1e-7)
    assert run.success


def test_bounds_of_scipy_that_do_not_fit_are_refused():
    with pytest.raises(kb.errors.InputError, match="bounds"):
        kb.minimize(lambda x: np.sum(x**2), [1.0, 2.0], bounds=optimize.Bounds([0.5, 0.5, 0.5], 1))


def test_l_bfgs_steps_on_at_rest_on_its_bounds():
    """The other component falls until its square is 0 in floating point: nothing is divided by that."""

    def f(x):
        return np.sqrt(x[0]) + x[1] ** 2

    def gradient(x):
        return np.array([0.5 / np.sqrt(x[0]), 2 * x[1]])

    layout, x = flatten(np.array([2.0, 2.0]))
    optimizer, box = kb.LBFGS(), (np.array([0.2, -np.inf]), np.array([np.inf, np.inf]))
    state = optimizer.init(x, layout)
    for t in range(1, 101):
        x, state = optimizer.step(
            x, gradient(x), state, t, 1.0, fun=float(f(x)), evaluate=lambda x: (float(f(x)), gradient(x)), box=box,
            layout=layout,
        )  # fmt: skip
        assert np.isfinite(x).all()
        x = np.maximum(x, box[0])
    assert x[0] == 0.2
    assert abs(x[1]) < 1e-100
