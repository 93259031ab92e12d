"""Derivatives where a local rule gives inf or NaN: the right value where there is one, else the operation and line."""

import inspect
import math
import warnings

import numpy as np
import pytest

import koubai as kb
from koubai.derivatives.gradient import value_and_grad
from koubai.descent.many import minimize_many
from koubai.descent.record import Status
from koubai.errors import FunctionError, GradientWarning

INF, NAN = math.inf, math.nan
POINTS = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
PULL = np.array([[-1.0, -1.0], [1 + 5**-0.5, -2 * 5**-0.5], [-(5**-0.5), 1 + 2 * 5**-0.5]])  # of all three distances
PAIRS = np.triu_indices(3, 1)
TWICE = np.diag([4.0, 1.0, 1.0])
GAP = np.array([1.0, NAN, 2.0])
KEEP = np.array([True, False, True])
A_GAP = np.array([[1.0, NAN], [2.0, 3.0]])


def distances(X):
    return np.sqrt(np.sum((X[:, None] - X[None]) ** 2, axis=-1))


def overwritten(x):
    y = np.sqrt(x)
    y[0] = 0.0
    return np.sum(y)


# f, x, the gradient, the Hessian (None: there is none, or it is not asked for)
RIGHT = {
    # a zero that a mask, an index or a constant makes
    "x log x": (lambda x: np.sum(np.where(x > 0, x * np.log(x), 0)), [1.0, -2.0], [1, 0], [[1, 0], [0, 0]]),
    "masked entropy": (lambda p: np.sum((p * np.log(p))[p > 0]), [1.0, 0.0], [1, 0], [[1, 0], [0, 0]]),
    "two wheres": (lambda x: np.sum(np.where(x > 0, np.log(np.where(x > 0, x, 1)), 0)), [2.0, -1.0], [0.5, 0], None),
    "root in where": (lambda x: np.sum(np.where(x > 1, np.sqrt(x - 1), 0)), [5.0, 0.0], [0.25, 0], None),
    "quotient": (lambda x: np.sum(np.where(x > 1, 1 / (x - x * (x < 1)), 0)), [2.0, 0.5], [-0.25, 0], None),
    "power": (lambda x: np.sum((x**0.5)[1:]), [0.0, 4.0], [0, 0.25], [[0, 0], [0, -1 / 32]]),
    "powers": (lambda x: np.sum(x ** np.array([0, 1, 2, 0.5])), [0.0, 0.0, 0.0, 4.0], [0, 1, 0, 0.25], None),
    "base 0": (lambda x: x[0] ** x[1], [0.0, 2.0], [0, 0], None),
    "cbrt": (lambda x: np.sum(np.where(x > 0, np.cbrt(x), x)), [-8.0, 8.0], [1, 1 / 12], None),
    "arccos": (lambda x: np.sum(np.where(abs(x) < 1, np.arccos(x), 0)), [1.0, 0.0], [0, -1], None),
    "arcsin": (lambda x: np.sum(np.arcsin(x)[1:]), [1.0, 0.0], [0, 1], [[0, 0], [0, 0]]),
    "arccosh": (lambda x: np.sum(np.arccosh(x)[1:]), [1.0, 2.0], [0, 3**-0.5], None),
    "arctan2 in where": (lambda a: np.sum(np.where(a > 0, np.arctan2(a, 2 * a), a)), [0.0, 1.0], [1, 0], None),
    "arctan2 at an index": (lambda a: np.arctan2(a, a + 0)[1] + a[0], [0.0, 1.0], [1, 0], [[0, 0], [0, 0]]),
    "pairs": (lambda X: np.sum(distances(X)[PAIRS]), POINTS, PULL, None),
    "norms of pairs": (
        lambda X: np.sum(np.linalg.norm(X[:, None] - X[None], axis=-1)[PAIRS]),
        POINTS,
        PULL,
        None,
    ),
    "pairs one by one": (
        lambda X: sum(np.where(i < j, np.sqrt(np.sum((X[i] - X[j]) ** 2)), 0.0) for i in range(3) for j in range(3)),
        POINTS,
        PULL,
        None,
    ),
    "rows": (
        lambda X: np.sum(np.sqrt(np.sum(X**2, axis=1))[1:]),
        [[0.0, 0.0], [3.0, 4.0]],
        [[0, 0], [0.6, 0.8]],
        None,
    ),
    "std of rows": (lambda X: np.std(X, axis=1)[0], [[1.0, 3.0], [2.0, 2.0]], [[-0.5, 0.5], [0, 0]], None),
    "constant 0": (lambda x: np.sum(np.array([0.0, 1.0]) * np.sqrt(x)), [0.0, 4.0], [0, 0.25], None),
    "triangle": (lambda x: np.sum(np.tri(2) * np.sqrt(x)), [[1.0, 0.0], [4.0, 1.0]], [[0.5, 0], [0.25, 0.5]], None),
    "overwritten": (overwritten, [0.0, 4.0], [0, 0.25], [[0, 0], [0, -1 / 32]]),
    "joined": (lambda x: np.sum(np.concatenate([np.sqrt(x), x])[1:]), [0.0, 4.0], [1, 1.25], None),
    "sorted": (lambda x: np.sum(np.sort(np.sqrt(x))[1:]), [0.0, 4.0, 1.0], [0, 0.25, 0.5], None),
    "largest": (lambda x: np.max(np.sqrt(x)), [0.0, 4.0], [0, 0.25], None),
    "median": (lambda x: np.median(np.sqrt(x)), [0.0, 4.0, 1.0], [0, 0, 0.5], None),
    "running": (lambda x: np.cumsum(np.sqrt(x)[::-1])[0], [0.0, 4.0], [0, 0.25], None),
    "taken": (lambda x: np.sum(np.take(np.log(x), [1, 2, 2])), [0.0, 4.0, 1.0], [0, 0.25, 2], None),
    "select": (
        lambda x: np.sum(np.select([x > 0, x < 0], [np.sqrt(x), np.sqrt(-x)], 0)),
        [4.0, -4.0],
        [0.25, -0.25],
        None,
    ),
    "clipped": (lambda x: np.sum(np.sqrt(np.maximum(x, 0))), [-1.0, 4.0], [0, 0.25], [[0, 0], [0, -1 / 32]]),
    "where=": (lambda x: np.sum(np.log(x, out=np.zeros_like(x), where=x > 0)), [-1.0, 2.0], [0, 0.5], None),
    "overflow": (lambda x: np.sum(np.where(x < 100, np.exp(x) * x, x)), [0.0, 1000.0], [1, 1], [[2, 0], [0, 0]]),
    "softplus": (lambda x: np.sum(np.where(x > 30, x, np.log1p(np.exp(x)))), [0.0, 1000.0], [0.5, 1], None),
    "product": (lambda x: np.prod(np.where(KEEP, x, 1)), [2.0, 5.0, 0.0], [0, 0, 2], None),
    "running product": (lambda x: np.cumprod(x)[0], [2.0, 1e200, 1e200], [1, 0, 0], None),
    "logsumexp": (lambda x: np.logaddexp.reduce(np.where(KEEP, x, -INF)), [1.0, 2.0, 1.0], [0.5, 0, 0.5], None),
    "logaddexp": (lambda x: np.sum(np.logaddexp(x, np.array([-INF, 0]))), [1.0, 0.0], [1, 0.5], None),
    "cross entropy": (lambda p: -np.sum(np.where(np.eye(2) > 0, np.log(p), 0)), np.eye(2) / 2, -2 * np.eye(2), None),
    "vector of one value": (lambda M: np.linalg.eigh(M)[1][0, 2] ** 2, TWICE, np.zeros((3, 3)), None),
    "singular vector": (lambda M: np.linalg.svd(M)[0][0, 0] ** 2, TWICE, np.zeros((3, 3)), None),
    # data with NaN or inf
    "nansum": (lambda x: np.nansum((x - GAP) ** 2), [2.0, 0.0, 5.0], [2, 0, 6], np.diag([2.0, 0, 2])),
    "nanmean": (lambda x: np.nanmean((x - GAP) ** 2), [2.0, 0.0, 5.0], [1, 0, 3], np.diag([1.0, 0, 1])),
    "nanmax": (lambda x: np.nanmax(x * GAP), [2.0, 0.0, 5.0], [0, 0, 2], None),
    "nanprod": (lambda x: np.nanprod(x * GAP), [2.0, 0.0, 5.0], [10, 0, 4], None),
    "nanmedian": (lambda x: np.nanmedian(x * GAP), [2.0, 0.0, 5.0], [0.5, 0, 1], None),
    "nanvar": (lambda x: np.nanvar(x * GAP), [2.0, 0.0, 5.0], [-4, 0, 8], None),
    "nan_to_num": (lambda x: np.sum(np.nan_to_num(x * GAP)), [2.0, 0.0, 5.0], [1, 0, 2], None),
    "isnan": (lambda x: np.sum(np.where(np.isnan(GAP), 0, (x - GAP) ** 2)), [2.0, 0.0, 5.0], [2, 0, 6], None),
    "sum where=": (lambda x: np.sum((x * GAP) ** 2, where=KEEP), [2.0, 0.0, 5.0], [4, 0, 40], None),
    "rows with gaps": (lambda x: np.nansum((A_GAP @ x - 1) ** 2), [1.0, 1.0], [16, 24], [[8, 12], [12, 18]]),
    "columns with gaps": (lambda x: np.nansum(x @ A_GAP), [1.0, 1.0], [1, 2], None),
    "einsum": (lambda x: np.nansum(np.einsum("ij,j->i", A_GAP, x) ** 2), [1.0, 1.0], [20, 30], None),
    "fmax": (lambda x: np.sum(np.fmax(x, np.array([NAN, 1, 3]))), [1.0, 2.0, 2.0], [1, 1, 0], None),
    "fmin": (lambda x: np.sum(np.fmin(x, np.array([NAN, 1, 3]))), [1.0, 2.0, 2.0], [1, 0, 1], None),
    "clip": (lambda x: np.sum(np.clip(x, -INF, 1.5)), [1.0, 2.0], [1, 0], None),
    # smooth composites of parts that are not
    "root squared": (lambda x: np.sqrt(x @ x) ** 2, [0.0, 0.0], [0, 0], 2 * np.eye(2)),
    "hypot squared": (lambda x: np.hypot(x[0], x[1]) ** 2, [0.0, 0.0], [0, 0], 2 * np.eye(2)),
    "norm squared": (lambda x: np.linalg.norm(x) ** 2, [0.0, 0.0], [0, 0], 2 * np.eye(2)),
    "std squared": (lambda x: np.std(x) ** 2, [1.0, 1.0], [0, 0], [[0.5, -0.5], [-0.5, 0.5]]),
    "half powers": (lambda x: np.sum((x**0.5) ** 2), [0.0, 4.0], [1, 1], [[0, 0], [0, 0]]),
    "root of a root": (lambda x: np.sqrt(x[0]) * np.sqrt(x[0]), [0.0], [1], [[0]]),
    "root of x**4": (lambda x: np.sqrt(x[0] ** 4), [0.0], [0], [[2]]),
    "cube root": (lambda x: np.cbrt(x[0]) ** 3, [0.0], [1], [[0]]),
    "root of a cube": (lambda x: np.cbrt(x[0] ** 3), [0.0], [1], None),
    "cosine of r": (lambda x: np.cos(np.sqrt(x @ x)), [0.0, 0.0], [0, 0], -np.eye(2)),
    "cosh of a root": (lambda x: np.cosh(np.sqrt(x[0])), [0.0], [0.5], [[1 / 12]]),
    "arccos squared": (lambda x: np.arccos(x[0]) ** 2, [1.0], [-2], [[2 / 3]]),
    "|x|**1.5": (lambda x: abs(x[0]) ** 0.5 * x[0], [0.0], [0], None),
    "cube of r": (lambda x: np.sqrt(x @ x) ** 3, [0.0, 0.0], [0, 0], np.zeros((2, 2))),
    "expm1(x)/x": (lambda x: np.where(x != 0, (np.exp(x) - 1) / x, 1)[0], [0.0], [0.5], [[1 / 3]]),
    "sin(x)/x": (lambda x: np.where(x == 0, 1, np.sin(x) / x)[0], [0.0], [0], [[-1 / 3]]),
    "exp(-1/x**2)": (lambda x: np.where(x != 0, np.exp(-1 / x**2), 0)[0], [0.0], [0], [[0]]),
    "det": (np.linalg.det, [[1.0, 2.0], [2.0, 4.0]], [[4, -2], [-2, 1]], None),
}

# f, x, the operation to be named
UNDEFINED = {
    "root": (lambda x: np.sqrt(x[0]) + x[1], [0.0, 1.0], "sqrt"),
    "length": (lambda x: np.sqrt(x @ x), [0.0, 0.0], "sqrt"),
    "std": (lambda x: np.std(x), [1.0, 1.0], "sqrt"),
    "half power": (lambda x: np.sum(x**0.5), [0.0, 4.0], "a power"),
    "root of a square": (lambda x: np.sum((x**2) ** 0.5), [0.0, 1.0], "a power"),
    "cbrt": (lambda x: np.cbrt(x[0]), [0.0], "cbrt"),
    "arccos": (lambda x: np.arccos(x[0]), [1.0], "arccos"),
    "arctan2": (lambda x: np.arctan2(x[0], x[1]), [0.0, 0.0], "arctan2"),
    "hypot": (lambda x: np.hypot(x[0], x[1]), [0.0, 0.0], "hypot"),
    "least": (lambda x: np.min(np.sqrt(x)), [0.0, 4.0], "sqrt"),
    "vectors of one value": (lambda M: np.sum(np.linalg.eigh(M)[1] ** 3), 2 * np.eye(2), "eigh"),
}


def table(rows):
    return pytest.mark.parametrize("row", rows.values(), ids=rows)


@pytest.fixture(autouse=True)
def quiet():
    with np.errstate(all="ignore"):
        yield


@table(RIGHT)
@pytest.mark.parametrize("later", [False, True], ids=["first", "later"])
def test_the_right_gradient(row, later):
    f, x, expected, _ = row
    x = np.array(x)
    both = value_and_grad(f, method="backprop")
    if later:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            both(x * 1.01 + 0.013)  # where nothing is the matter
    value, gradient = both(x)
    assert value == pytest.approx(f(x), rel=1e-14)
    np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-9)


@table({name: row for name, row in RIGHT.items() if row[3] is not None})
def test_the_right_hessian(row):
    f, x, _, expected = row
    np.testing.assert_allclose(kb.hessian(f)(np.array(x)), expected, rtol=1e-6, atol=1e-6)


@table(UNDEFINED)
def test_what_is_undefined_names_operation_and_line(row):
    f, x, operation = row
    x = np.array(x)
    line = inspect.getsourcelines(f)[1]
    gradient = kb.grad(f, method="backprop")
    for at in (x, x * 1.1 + 0.1 * np.arange(1.0, 1 + x.size).reshape(x.shape), x):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            finite = np.isfinite(gradient(at)).all() if np.isfinite(f(at)) else True
        told = [str(w.message) for w in seen if w.category is GradientWarning]
        assert finite == (not told)
        for text in told:
            assert text.startswith(f"test_nonfinite.py:{line}: the derivative of {operation} is not finite")
    with pytest.warns(GradientWarning, match=operation):
        gradient(x)


def test_a_second_derivative_at_a_kink_is_told():
    with pytest.warns(GradientWarning, match=r"test_nonfinite\.py:\d+: the derivative of"):
        assert np.isinf(kb.hessian(lambda x: np.sum(x**1.5))(np.array([0.0, 4.0]))[0, 0])
    with pytest.warns(GradientWarning, match="sqrt"):
        assert not np.isfinite(kb.hvp(lambda x: np.sqrt(x @ x))(np.zeros(2), np.ones(2))).any()


def test_jacobians_meet_the_same_care():
    expected = np.zeros((3, 3, 2))
    for k, (i, j) in enumerate(zip(*PAIRS, strict=True)):
        apart = POINTS[i] - POINTS[j]
        expected[k, i], expected[k, j] = apart / np.sqrt(apart @ apart), -apart / np.sqrt(apart @ apart)
    np.testing.assert_allclose(kb.jacobian(lambda X: distances(X)[PAIRS])(POINTS), expected, atol=1e-15)
    np.testing.assert_allclose(kb.jacobian(lambda x: np.sqrt(x) ** 2)(np.array([0.0, 4.0])), np.eye(2), atol=1e-9)
    with pytest.warns(GradientWarning, match="sqrt"):
        jacobian = kb.jacobian(np.sqrt)(np.array([0.0, 4.0]))
    np.testing.assert_array_equal(jacobian, [[INF, 0], [0, 0.25]])


def test_float32_stays_float32():
    x = np.zeros(2, np.float32)
    gradient = kb.grad(lambda x: np.sqrt(x @ x) ** 2, method="backprop")(x)
    assert gradient.dtype == np.float32
    np.testing.assert_array_equal(gradient, [0, 0])


def test_a_later_call_has_the_bits_of_a_first_one():
    def f(x):
        return np.sum(np.where(x > 0, x * np.log(x), 0))

    gradient = kb.grad(f)
    np.testing.assert_array_equal(gradient([1.0, 2.0]), [1.0, 1.0 + math.log(2.0)])
    np.testing.assert_array_equal(gradient([1.0, -2.0]), [1.0, 0.0])
    np.testing.assert_array_equal(kb.grad(f)([1.0, -2.0]), [1.0, 0.0])


def test_large_arrays_are_looked_at():
    x = np.linspace(-1.0, 1.0, 4000)
    gradient = kb.grad(lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0)), method="backprop")
    gradient(np.ones(4000))
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(gradient(x), np.where(x > 0, 0.5 / np.sqrt(x), 0), rtol=1e-14)
    data = np.where(np.arange(4000) % 7 == 0, NAN, x)
    np.testing.assert_allclose(
        kb.grad(lambda x, y: np.nansum((x - y) ** 2))(np.zeros(4000), data), np.nan_to_num(-2 * data), rtol=1e-14
    )


# --- descents
@pytest.mark.parametrize("optimizer", [kb.SGD(0.1), kb.Adam(0.1), kb.LBFGS()], ids=["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("max_steps", [300, 5000])
def test_a_descent_over_data_with_gaps(optimizer, max_steps):
    run = kb.minimize(lambda x: np.nansum((x - GAP) ** 2), [3.0, 0.0, 2.5], optimizer, max_steps=max_steps)
    assert run.success, run.message
    np.testing.assert_allclose(run.x, [1, 0, 2], atol=1e-5)


def test_a_descent_meets_the_care_on_its_way():
    def f(x):  # the second component goes below 0, where the logarithm is left out
        return np.sum(np.where(x > 0, x * np.log(x), x**2) + 0.5 * x)

    run = kb.minimize(f, [1.0, -2.0], kb.SGD(0.05))
    assert run.success, run.message
    np.testing.assert_allclose(run.x, [math.exp(-1.5), -0.25], atol=1e-5)
    many = minimize_many(f, np.array([[1.0, -2.0], [0.5, 0.7]]), kb.SGD(0.05), max_steps=2000, gtol=1e-6)
    np.testing.assert_allclose(many.x, [[math.exp(-1.5), -0.25], [math.exp(-1.5)] * 2], atol=1e-5)


def test_a_descent_says_which_operation_is_to_blame():
    with pytest.raises(FunctionError, match=r"gradient at x0 .*test_nonfinite\.py:\d+: the derivative of sqrt"):
        kb.minimize(lambda x: np.sqrt(x @ x), [0.0, 0.0])
    # the second step lands on the kink
    run = kb.minimize(lambda x: np.sqrt(x[0] ** 2), [1.0], kb.SGD(1.0))
    assert run.status is Status.nonfinite
    assert "the derivative of sqrt is not finite" in run.message


def test_training_over_data_with_gaps():
    random = np.random.default_rng(0)
    X = random.normal(size=(64, 3))
    y = X @ [1.0, 2.0, 3.0]
    y[[5, 40]] = NAN
    run = kb.fit(
        lambda p, X, y: np.nanmean((X @ p["w"] - y) ** 2),
        {"w": np.zeros(3)},
        kb.nn.batches(X, y, 16),
        kb.Adam(0.1),
        epochs=60,
    )
    np.testing.assert_allclose(run.x["w"], [1, 2, 3], atol=1e-2)


def test_training_says_which_operation_is_to_blame():
    data = kb.nn.batches(np.ones((8, 1)), np.ones(8), 4)
    with pytest.raises(FunctionError, match=r"test_nonfinite\.py:\d+: the derivative of sqrt"):
        kb.fit(lambda p, X, y: np.mean((X[:, 0] - y) ** 2) + np.sqrt(p["w"] @ p["w"]), {"w": np.zeros(2)}, data)


# --- what differences say of themselves
def test_differences_pass_their_warnings_on():
    with pytest.warns(GradientWarning, match=r"the gradient of .* by differences: f has a kink"):
        kb.grad(np.abs, method="adaptive")(0.0)
    with pytest.warns(GradientWarning, match="kink"):
        kb.minimize(lambda x: abs(x), 0.0, grad="adaptive")
    for f, x, matter in (
        (lambda p: np.where(p["a"] > 0, 1.0, 0.0), {"a": 0.0}, "jumps at x: it has no derivative there; its error is"),
        (lambda x: np.cos(x * np.exp(30.0)), 0.5, "the value is a guess; its error is up to"),
    ):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            kb.grad(f, method="adaptive")(x)
        assert any(w.category is GradientWarning and matter in str(w.message) for w in seen)


def single(x):
    return float(np.float32(np.sum((x - 1) ** 2) + 1000))


def scaled(x):
    return 0.1 * single(x) + 1.0


def rounded(x):
    return round(float(np.sum((x - 1) ** 2) + 10), 5)


@pytest.mark.parametrize("f", [single, scaled, rounded])
@pytest.mark.parametrize("grad", ["forward", "backward", "central"])
def test_low_precision_inside_f_is_no_success(f, grad):
    for stopping in ({}, {"ftol": 1e-8, "gtol": 0}, {"xtol": 1e-8, "gtol": 0}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GradientWarning)  # to the shortest steps f may look flat
            run = kb.minimize(f, [3.0, 2.0], kb.SGD(0.1), grad=grad, max_steps=50, **stopping)
        assert not run.success, run.message


def test_low_precision_shows_in_an_estimate_of_the_users_too():
    run = kb.minimize(
        single, [3.0, 2.0], kb.SGD(0.1), grad=lambda x: kb.numerical_gradient(single, x, method="central")
    )
    assert run.status is Status.noise_floor


@pytest.mark.parametrize("grad", ["forward", "central", "adaptive"])
def test_a_precise_f_still_converges(grad):
    run = kb.minimize(lambda x: np.sum((x - 1) ** 2), [3.0, 2.0], kb.SGD(0.1), grad=grad, gtol=1e-6)
    assert run.success, run.message
