"""Least squares: sums of squares are recognised in the graph, nothing else is; Levenberg–Marquardt; the covariance."""

import pickle
import warnings

import numpy as np
import pytest
from scipy import optimize

import koubai as kb
from koubai.derivatives.gradient import Differentiated
from koubai.derivatives.residuals import Residuals
from koubai.descent.record import Status
from koubai.graph.forward import pushforward
from koubai.graph.graph import run_nodes
from koubai.graph.squares import Squares
from koubai.parameters import flatten

T = np.linspace(0, 1, 6)
Y = np.array([0.9, 1.4, 1.6, 2.3, 2.2, 3.1])
W = np.array([1.0, 2.0, 0.5, 3.0, 1.0, 0.25])
X0 = np.array([1.5, 0.7])


def r(p):
    return p[0] * np.exp(p[1] * T) - Y


# name: (f, how many residuals)
SUMS = {
    "sum": (lambda p: np.sum(r(p) ** 2), 6),
    "mean": (lambda p: np.mean(r(p) ** 2), 6),
    "method": (lambda p: (r(p) ** 2).mean(), 6),
    "half": (lambda p: 0.5 * np.sum(r(p) ** 2), 6),
    "halved": (lambda p: np.square(r(p)).sum() / 2, 6),
    "by its length": (lambda p: np.sum(r(p) ** 2) / len(T), 6),
    "times itself": (lambda p: np.sum(r(p) * r(p)), 6),
    "power": (lambda p: np.power(r(p), 2.0).sum(), 6),
    "dot": (lambda p: np.dot(r(p), r(p)), 6),
    "method dot": (lambda p: r(p).dot(r(p)), 6),
    "at": (lambda p: r(p) @ r(p), 6),
    "transposed": (lambda p: r(p).T @ r(p), 6),
    "column": (lambda p: (r(p)[:, None].T @ r(p)[:, None]).item(), 6),
    "inner": (lambda p: np.inner(r(p), r(p)), 6),
    "vdot": (lambda p: np.vdot(r(p), r(p)), 6),
    "einsum": (lambda p: np.einsum("i,i->", r(p), r(p)), 6),
    "norm": (lambda p: np.linalg.norm(r(p)) ** 2, 6),
    "norm 2": (lambda p: np.linalg.norm(r(p), ord=2) ** 2 / 3, 6),
    "absolute": (lambda p: np.sum(np.abs(r(p)) ** 2), 6),
    "variance": (lambda p: np.var(r(p)), 6),
    "weighted": (lambda p: np.sum(W * r(p) ** 2), 6),
    "weighted twice": (lambda p: np.sum(W * r(p) * r(p)), 6),
    "weights in a dot": (lambda p: np.dot(W, r(p) ** 2), 6),
    "weights in a dot with itself": (lambda p: np.dot(W * r(p), r(p)), 6),
    "by variances": (lambda p: np.sum(r(p) ** 2 / W**2), 6),
    "by deviations": (lambda p: np.sum((r(p) / W) ** 2), 6),
    "average": (lambda p: np.average(r(p) ** 2, weights=W), 6),
    "a ridge": (lambda p: np.sum(r(p) ** 2) + 0.1 * np.sum(p**2), 8),
    "a prior": (lambda p: np.sum(r(p) ** 2) + ((p[0] - 1) / 0.3) ** 2, 7),
    "two data sets": (lambda p: np.mean(r(p) ** 2) + 2 * np.mean((p[1] * T - 1) ** 2), 12),
    "in a plane": (lambda p: np.sum((p[0] * np.outer(T, T) - p[1]) ** 2), 36),
    "by rows, then all": (lambda p: np.sum(np.sum((p[0] * np.outer(T, T) - p[1]) ** 2, axis=1)), 36),
    "of a stack": (lambda p: np.sum(np.array([(p[0] - 1) ** 2, 3 * (p[1] + 2) ** 2])), 2),
    "of one part": (lambda p: np.sum((r(p) ** 2)[2:]), 4),
    "Python's sum": (lambda p: sum(r(p) ** 2), 6),
    "a loop": (lambda p: sum((p[0] * np.exp(p[1] * t) - y) ** 2 for t, y in zip(T, Y, strict=True)), 6),
    "Rosenbrock": (lambda p: (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2, 2),
    "of one square": (lambda p: np.sum(W * (p[0] * p[1] - 1) ** 2), 6),
    "broadcast": (lambda p: np.sum(r(p) ** 2 + p[0] ** 2), 12),
    "less a constant": (lambda p: np.sum(r(p) ** 2) - 3.0, 6),
    "of two negatives": (lambda p: -np.sum(-(r(p) ** 2)), 6),
}

OTHERS = {
    "a root": lambda p: np.sqrt(np.mean(r(p) ** 2)),
    "a cube": lambda p: np.sum(r(p) ** 3),
    "absolute values": lambda p: np.sum(np.abs(r(p))),
    "a difference": lambda p: np.sum(r(p) ** 2) - np.sum(p**2),
    "a negative": lambda p: -np.sum(r(p) ** 2),
    "a negative weight": lambda p: np.sum((W - 1.5) * r(p) ** 2),
    "a weight of parameters": lambda p: np.sum(np.exp(p[0]) * r(p) ** 2),
    "another factor": lambda p: np.sum(r(p) * (r(p) - 1)),
    "a likelihood": lambda p: np.sum(0.5 * np.log(p[1] ** 2) + (p[0] - Y) ** 2 / (2 * p[1] ** 2)),
    "a sum of squares squared": lambda p: np.sum(r(p) ** 2) ** 3,
}


@pytest.mark.parametrize("what", SUMS)
def test_a_sum_of_squares_is_recognised(what):
    """r·r is f, but for a constant, and 2 J'r its gradient; J along each parameter is what differences of r give."""
    f, count = SUMS[what]
    graph = kb.trace(f, X0)
    found, along = Squares(graph, [0]).residuals(), pushforward(Squares(graph, [0]).residuals(), [0])

    def vector(x):
        return run_nodes(found, [x])[found.outputs[0]]

    here = vector(X0)
    assert here.shape == (count,)
    constant = f(X0) - here @ here
    assert f(2 * X0) - vector(2 * X0) @ vector(2 * X0) == pytest.approx(constant, abs=1e-9 * abs(f(2 * X0)))
    jacobian = np.stack([run_nodes(along, [X0, e])[along.outputs[0]] for e in np.eye(2)], axis=1)
    np.testing.assert_allclose(2 * here @ jacobian, kb.grad(f)(X0), rtol=1e-10, atol=1e-12)
    for k, e in enumerate(np.eye(2)):
        np.testing.assert_allclose(jacobian[:, k], (vector(X0 + 1e-6 * e) - vector(X0 - 1e-6 * e)) / 2e-6, atol=1e-7)


@pytest.mark.parametrize("what", OTHERS)
def test_what_is_no_sum_of_squares_is_refused(what):
    with pytest.raises(kb.errors.InputError, match=r"least squares need .*use optimizer='lbfgs'"):
        kb.minimize(OTHERS[what], X0, "levenbergmarquardt")


@pytest.mark.parametrize("what", SUMS)
def test_every_form_has_the_same_minimum_as_l_bfgs_finds(what):
    f, _ = SUMS[what]
    run = kb.minimize(f, X0, "levenbergmarquardt")
    assert run.fun <= kb.minimize(f, X0, "lbfgs").fun + 1e-10


def test_another_path_of_f_is_only_another_trial():
    """A penalty beyond a limit is no sum of squares, and no point there is ever the one that residuals are asked of."""

    def f(p):
        if p[0] < 0.5:
            return 1e6 * (1 - p[0])
        return np.sum((np.log(p[0]) * T - Y) ** 2)

    run = kb.minimize(f, 40.0 * np.ones(1), "levenbergmarquardt")
    assert run.x[0] == pytest.approx(np.exp(T @ Y / (T @ T)))


def test_dicts_matrices_numbers_and_float32():
    def f(p):
        return np.sum((p["a"] @ p["b"] - T[:3]) ** 2) + np.sum((p["b"] - 1) ** 2) + (p["c"] - 2) ** 2

    start = {"a": np.arange(6.0).reshape(3, 2), "b": np.ones(2), "c": 3.0}
    layout, x = flatten(start)
    here, jacobian = Residuals(Differentiated(f, 0, "backprop"), layout).at(x)
    np.testing.assert_allclose(2 * here @ jacobian, layout.match(kb.grad(f)(start), "g"))
    run = kb.minimize(f, start, "levenbergmarquardt")
    assert run.fun < 1e-12
    assert run.stderr["a"].shape == (3, 2)
    assert kb.minimize(lambda x: (x**2 - 2) ** 2, 1.0, "levenbergmarquardt").x == pytest.approx(np.sqrt(2))
    single = kb.minimize(lambda p: np.sum((p - T[:2]) ** 2), np.ones(2, np.float32), "levenbergmarquardt")
    assert single.x.dtype == np.float32
    np.testing.assert_allclose(single.x, T[:2], atol=1e-6)


def test_data_that_change_are_read_anew():
    y = Y.copy()

    def f(p):
        return np.sum((p[0] + p[1] * T - y) ** 2)

    first = kb.minimize(f, X0, "levenbergmarquardt")
    y[:] = 3 * Y
    np.testing.assert_allclose(kb.minimize(f, X0, "levenbergmarquardt").x, 3 * first.x)


@pytest.mark.parametrize("grad", ["auto", "central", lambda p: 2 * (p - 1)])
def test_the_residuals_come_from_the_graph_whatever_gives_the_gradient(grad):
    run = kb.minimize(lambda p: np.sum((p - 1) ** 2), X0, "levenbergmarquardt", grad=grad)
    np.testing.assert_allclose(run.x, 1)
    assert run.nit == 1


def test_what_can_not_be_traced_is_refused():
    def f(p):
        return np.sum((np.frombuffer(np.asarray(p, np.float64).tobytes()) - 1) ** 2)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", kb.errors.FallbackWarning)
        with pytest.raises(kb.errors.InputError, match="least squares need the residuals, and"):
            kb.minimize(f, X0, "levenbergmarquardt")


def test_mini_batches_and_updates_are_refused():
    with pytest.raises(kb.errors.InputError, match="all the data at once"):
        kb.minimize(lambda p, x, y: np.mean((p * x - y) ** 2), 1.0, "levenbergmarquardt", batches=[(T, Y)])


def test_a_start_that_is_all_but_flat_is_no_division_by_zero():
    def f(p):
        sides = np.array([[0.887, 13.0], [-3.75, -0.893]]) @ p
        return np.mean((np.exp(np.minimum(sides, 50.0)) - np.array([22.0, -19.0])) ** 2)

    for bounds in (None, (-1e9, 1e9)):
        run = kb.minimize(f, [-26.5, -19.35], "levenbergmarquardt", bounds=bounds)
        assert run.fun == f(run.x) == f([-26.5, -19.35])


# -- bounds -----------------------------------------------------------------------------------------------------------

BOXES = {
    "none reached": ([(0, 5), (-3, 3)], X0),
    "one reached": ([(1.2, 5), (-3, 3)], X0),
    "from a bound": ([(1.2, 5), (-3, 3)], [1.2, -3.0]),
    "both reached": ([(1.2, 5), (1.1, 3)], [3.0, 2.0]),
    "one held": ([(None, None), (0.7, 0.7)], X0),
}


@pytest.mark.parametrize("what", BOXES)
def test_bounds(what):
    bounds, x0 = BOXES[what]
    f, seen = SUMS["sum"][0], []

    def recorded(p):
        seen.append(np.array(p, np.float64))
        return f(p)

    run = kb.minimize(f, x0, "levenbergmarquardt", bounds=bounds)
    peer = optimize.minimize(
        f, x0, method="L-BFGS-B", jac=kb.grad(f), bounds=bounds, options={"gtol": 1e-10, "ftol": 0}
    )
    np.testing.assert_allclose(run.x, peer.x, rtol=1e-6)
    assert run.success
    assert run.nit <= 12


def test_bounded_least_squares_of_many_parameters_reach_the_minimum():
    random = np.random.default_rng(5)
    for n in (2, 5, 12, 20):
        matrix, centre = random.normal(size=(3 * n, n)), random.normal(size=n) * 2
        low = random.uniform(-2, 0, n)
        bounds = np.stack([low, low + random.uniform(0.1, 3, n)], axis=1)
        aim = matrix @ centre + random.normal(size=3 * n)
        run = kb.minimize(
            lambda x, m=matrix, a=aim: np.sum((m @ x - a) ** 2), bounds.mean(axis=1), "levenbergmarquardt",
            bounds=bounds,
        )  # fmt: skip
        exact = optimize.lsq_linear(matrix, aim, bounds.T, method="bvls", tol=1e-14)
        np.testing.assert_allclose(run.x, exact.x, atol=1e-7)
        assert run.njev <= 20


# -- the covariance ---------------------------------------------------------------------------------------------------


def model(t, a, b):
    return a * np.exp(b * t)


@pytest.mark.parametrize("what", ["sum", "mean", "half", "dot", "norm", "variance of the data"])
def test_the_covariance_is_that_of_curve_fit(what):
    f = SUMS[what][0] if what in SUMS else lambda p: np.sum(r(p) ** 2) / np.var(Y)
    run = kb.minimize(f, X0, "levenbergmarquardt", gtol=0)
    best, covariance = optimize.curve_fit(model, T, Y, X0, ftol=1e-14, xtol=1e-14)
    np.testing.assert_allclose(run.x, best, rtol=1e-6)
    np.testing.assert_allclose(run.covariance, covariance, rtol=1e-5)
    np.testing.assert_allclose(run.stderr, np.sqrt(np.diag(covariance)), rtol=1e-5)


@pytest.mark.parametrize("what", ["weighted", "weighted twice", "average", "weights in a dot"])
def test_the_covariance_with_weights_is_that_of_curve_fit(what):
    run = kb.minimize(SUMS[what][0], X0, "levenbergmarquardt", gtol=0)
    _, covariance = optimize.curve_fit(model, T, Y, X0, sigma=1 / np.sqrt(W), ftol=1e-14, xtol=1e-14)
    np.testing.assert_allclose(run.covariance, covariance, rtol=1e-5)


def test_a_residual_of_weight_zero_does_not_count():
    mask = np.array([1.0, 1, 0, 1, 1, 1])
    run = kb.minimize(lambda p: np.sum(mask * r(p) ** 2), X0, "levenbergmarquardt", gtol=0)
    _, covariance = optimize.curve_fit(model, T[mask > 0], Y[mask > 0], X0)
    np.testing.assert_allclose(run.covariance, covariance, rtol=1e-4)


def test_the_covariance_of_parameters_on_bounds_and_of_too_many():
    held = kb.minimize(SUMS["sum"][0], X0, "levenbergmarquardt", bounds=[(None, None), (0.7, 0.7)])
    _, alone = optimize.curve_fit(lambda t, a: model(t, a, 0.7), T, Y, [1.0])
    assert held.covariance[0, 0] == pytest.approx(alone[0, 0], rel=1e-6)
    assert held.stderr[1] == 0
    on_bound = kb.minimize(SUMS["sum"][0], [1.2, 0.7], "levenbergmarquardt", bounds=[(1.2, 5), (None, None)])
    assert on_bound.x[0] == 1.2
    assert np.isnan(on_bound.stderr[0])
    assert np.isfinite(on_bound.stderr[1])
    exact = kb.minimize(lambda p: (p[0] - 1) ** 2 + (p[1] + p[0]) ** 2, X0, "levenbergmarquardt")
    assert np.isinf(exact.covariance).all()
    same = kb.minimize(lambda p: np.sum((p[0] + p[1] - Y) ** 2), X0, "levenbergmarquardt")
    assert np.isinf(same.stderr).all()


def test_the_covariance_is_that_of_the_end_whatever_becomes_of_the_data():
    """It is computed when somebody asks for it, from what was known at the end."""
    for repeats in (1, 3000):  # of which a run keeps the Jacobian, and not
        y = np.repeat(Y, repeats)

        def f(p, y=y, repeats=repeats):
            return np.sum((p[0] * np.exp(p[1] * np.repeat(T, repeats)) - y) ** 2)

        run, again = (kb.minimize(f, X0, "levenbergmarquardt") for _ in range(2))
        there = pickle.loads(pickle.dumps(run.picklable()))
        wanted = again.covariance
        y[:] = 0.0
        np.testing.assert_array_equal(run.covariance, wanted)
        np.testing.assert_array_equal(there.covariance, wanted)
        assert run.covariance is run.covariance


def test_the_covariance_is_saved_and_others_have_none(tmp_path):
    run = kb.minimize(SUMS["sum"][0], X0, "levenbergmarquardt")
    run.save(tmp_path / "run.npz")
    assert np.array_equal(kb.load(tmp_path / "run.npz").covariance, run.covariance)
    other = kb.minimize(SUMS["sum"][0], X0, "lbfgs")
    assert other.covariance is None
    assert other.stderr is None
    other.save(tmp_path / "other.npz")
    assert kb.load(tmp_path / "other.npz").covariance is None


@pytest.mark.parametrize("size", [1e153, 1e160, 1e200])
@pytest.mark.parametrize("both", [False, True])
def test_columns_whose_squares_overflow_are_no_end(size, both):
    t = np.linspace(0, 1, 20)
    y = 2 * np.exp(-3 * t) + 0.5
    line = np.polynomial.Polynomial.fit(t, y, 1)
    best = np.sum((line(t) - y) ** 2)
    run = kb.minimize(lambda x: np.sum((x[0] * size * t + x[1] * (size if both else 1.0) - y) ** 2), [0.0, 0.0])
    assert run.success, run.message
    np.testing.assert_allclose(run.fun, best, rtol=1e-10)
    assert run.covariance.shape == (2, 2)  # and nothing is told of its overflows


def squares_at_first(x):
    if x[0] > 2:
        return np.sum((x - np.array([1.0, 2.0])) ** 2) + np.sum((x * x - 3) ** 2)
    return np.sum(np.logaddexp(x - 1, 1 - x)) + 0.1 * np.sum(np.cosh(x))


@pytest.mark.parametrize("on_step", [None, lambda step: None], ids=["segments", "steps"])
def test_a_path_without_residuals_ends_no_descent_of_the_default(on_step):
    run = kb.minimize(squares_at_first, [6.0, 5.0], on_step=on_step)
    assert run.success
    assert type(run.optimizer) is kb.LBFGS
    assert "4 squares" in run.optimizer_reason
    assert "L-BFGS from step 3 on" in run.optimizer_reason
    assert run.covariance is None
    assert run.nit == len(run.history) - 1 > 5
    assert run.fun == pytest.approx(kb.minimize(squares_at_first, [6.0, 5.0], "lbfgs").fun, rel=1e-9)
    given = kb.minimize(squares_at_first, [6.0, 5.0], kb.LevenbergMarquardt(), on_step=on_step)
    assert given.status is Status.stalled
    assert "logaddexp is not squared in it; use optimizer='lbfgs'" in given.message
    assert (given.nit, given.fun) == (3, given.history.fun[3])
    assert given.best_fun == given.fun < given.history.fun[0]


def test_an_end_without_residuals_has_no_covariance():
    run = kb.minimize(lambda x: np.sum(x**2) if x[0] > 0 else np.sum(np.abs(x)), [1.0, 2.0])
    assert (run.success, run.fun, run.covariance, run.stderr) == (True, 0.0, None, None)


def test_a_descent_that_left_its_residuals_goes_on_from_its_checkpoint(tmp_path):
    path, whole = tmp_path / "run.ckpt", kb.minimize(squares_at_first, [6.0, 5.0])
    kb.minimize(squares_at_first, [6.0, 5.0], max_steps=6, checkpoint=path)
    run = kb.resume(path, squares_at_first, max_steps=10_000)
    assert (run.fun, run.nit, run.message, run.optimizer_reason) == (
        whole.fun, whole.nit, whole.message, whole.optimizer_reason,
    )  # fmt: skip
