"""Differences: the exact digits of the plain ones, and an error estimate that holds for the adaptive one."""

from __future__ import annotations

import copy
import importlib.util
import math
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

import koubai as kb
from koubai.derivatives.differences import (
    METHODS,
    TOGETHER,
    Estimate,
    derivative,
    difference_gradient,
    difference_hessian,
    difference_hvp,
    difference_jacobian,
    numerical_gradient,
)
from koubai.errors import FunctionError, GradientWarning, InputError, UnknownNameError
from koubai.parameters import flatten

FIXED = ("forward", "backward", "central")


def square(x):
    return x**2


def softmax_loss(weights):
    x, t = np.array([0.6, 0.9]), np.array([0.0, 0.0, 1.0])
    z = x @ weights
    return np.log(np.exp(z).sum()) - z @ t


WEIGHTS = np.array([[0.47355232, 0.9977393, 0.84668094], [0.85557411, 0.03563661, 0.69422093]])


# ---- one step ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "expected"),
    [("forward", 4.0001000000078335), ("backward", 3.999900000000167), ("central", 4.000000000004)],
)
def test_the_digits_of_the_plain_formulas(method, expected):
    estimate = derivative(square, 2, method=method, h=1e-4)
    assert estimate.value == expected
    assert float(estimate) == expected
    assert (estimate.h, estimate.method, estimate.warnings) == (1e-4, method, ())
    assert abs(estimate.value - 4) <= estimate.error <= 3e-4


def test_central_difference_of_a_cube():
    assert derivative(lambda x: x**3, 10, method="central", h=1e-4).value == 300.00000000939053


@pytest.mark.parametrize("h", [0.1, 1e-3, 3.7e-6, 1e-9])
@pytest.mark.parametrize("x", [0.3, -2.0, 1234.5])
def test_h_is_honoured_exactly(x, h):
    f = lambda t: float(np.sin(t)) + t * t  # noqa: E731
    forms = {
        "forward": (f(x + h) - f(x)) / h,
        "backward": (f(x) - f(x - h)) / h,
        "central": (f(x + h) - f(x - h)) / (2 * h),
    }
    for method, expected in forms.items():
        assert derivative(f, x, method=method, h=h).value == expected
        assert numerical_gradient(f, x, method=method, h=h).value == expected
        assert numerical_gradient(lambda p: f(p[0]), [x], method=method, h=h).value[0] == expected


@pytest.mark.parametrize("method", FIXED)
def test_a_step_that_rounds_away_is_named(method):
    estimate = derivative(square, 2, method=method, h=1e-50)
    assert estimate.value == 0.0
    assert estimate.error == math.inf
    side = {"forward": "x+h == x", "backward": "x−h == x", "central": "x+h == x and x−h == x"}[method]
    assert estimate.warnings[0].startswith(side)


def test_a_step_that_rounds_away_on_one_side_is_named():
    estimate = derivative(square, 1.0, method="central", h=1e-16)  # 1 − h is a float, 1 + h is not
    assert "rounds to x" in estimate.warnings[0]
    assert abs(estimate.value - 2) <= estimate.error


@pytest.mark.parametrize("method", FIXED)
@pytest.mark.parametrize("x", [0.5, -3.0, 40.0])
@pytest.mark.parametrize("f", [np.sin, np.exp, lambda x: x**3 - 2 * x, lambda x: 1 / (1 + x * x)])
def test_the_error_of_the_default_step_covers(f, x, method):
    estimate = derivative(f, x, method=method)
    true = derivative(f, x)
    assert abs(estimate.value - true.value) <= estimate.error + true.error
    assert estimate.nfev == (5 if method == "central" else 3)
    assert x + estimate.h - x == estimate.h


def test_the_default_step_knows_float32():
    wide = derivative(lambda x: np.sin(np.float32(x)), 1.0, method="central")
    narrow = derivative(np.sin, 1.0, method="central")
    assert wide.h > 100 * narrow.h
    assert abs(wide.value - math.cos(1)) <= wide.error < 1e-3
    assert wide.noise == pytest.approx(1.2e-7, rel=0.5)


# ---- forms ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_elementwise_derivatives_keep_the_shape(method):
    x = np.array([[0.1, 1.0, 2.0], [-1.0, 4.0, -0.5]])
    before = x.copy()
    estimate = derivative(np.sin, x, method=method)
    assert estimate.value.shape == estimate.error.shape == estimate.h.shape == estimate.noise.shape == (2, 3)
    assert np.all(np.abs(estimate.value - np.cos(x)) <= estimate.error)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("method", METHODS)
def test_the_gradient_of_a_matrix(method):
    estimate = numerical_gradient(softmax_loss, WEIGHTS, method=method)
    z = np.array([0.6, 0.9]) @ WEIGHTS
    y = np.exp(z) / np.exp(z).sum()
    expected = np.outer([0.6, 0.9], y - [0, 0, 1])
    assert estimate.value.shape == (2, 3)
    assert np.all(np.abs(estimate.value - expected) <= estimate.error + 1e-15)
    np.testing.assert_allclose(estimate.value.sum(axis=1), 0, atol=1e-7)


def test_partial_derivatives():
    estimate = numerical_gradient(lambda x: x[0] ** 2 + x[1] ** 2, np.array([3.0, 4.0]), method="central", h=1e-4)
    np.testing.assert_allclose(estimate.value, [6.0, 8.0], atol=1e-9)
    assert estimate.nfev == 1 + 2 * 4


@pytest.mark.parametrize("method", METHODS)
def test_the_gradient_of_a_dict(method):
    x = {"W": np.array([[1.0, 2.0], [3.0, 4.0]]), "b": 2.0}
    estimate = numerical_gradient(lambda p: (p["W"] ** 2).sum() * p["b"], x, method=method)
    np.testing.assert_allclose(estimate.value["W"], 4 * x["W"], rtol=1e-5)
    np.testing.assert_allclose(estimate.value["b"], 30.0, rtol=1e-5)
    assert estimate.error["W"].shape == (2, 2)
    assert isinstance(estimate.noise, float)


@pytest.mark.parametrize("method", METHODS)
def test_f_may_write_into_what_it_gets(method):
    x = np.array([1.0, 2.0, 3.0])

    def spoil(p):
        value = (p**2).sum()
        p[:] = -1
        return value

    estimate = numerical_gradient(spoil, x, method=method)
    np.testing.assert_allclose(estimate.value, 2 * x, rtol=1e-6)
    np.testing.assert_array_equal(x, [1.0, 2.0, 3.0])


@pytest.mark.parametrize("method", METHODS)
def test_integers_and_float32_are_taken_as_float64(method):
    for x in (3, np.int32(3), np.float32(3)):
        assert derivative(square, x, method=method).value == derivative(square, 3.0, method=method).value
    for dtype in (np.int64, np.float32):
        x = np.array([1, 2, 3], dtype=dtype)
        seen = []
        estimate = numerical_gradient(lambda p, seen=seen: (seen.append(p.dtype), (p**3).sum())[1], x, method=method)
        assert set(seen) <= {np.dtype(np.float64), np.dtype(np.complex128)}
        assert estimate.value.dtype == np.float64
        np.testing.assert_allclose(estimate.value, [3, 12, 27], rtol=1e-6)


def test_a_number_arrives_as_a_float():
    kinds = []
    derivative(lambda x: kinds.append(type(x)) or math.sin(x), 1, method="central")
    numerical_gradient(lambda x: kinds.append(type(x)) or math.sin(x), 1)
    assert all(issubclass(kind, float) for kind in kinds)


def test_estimate_as_text_and_float():
    text = repr(derivative(np.sin, 1.0))
    assert text.startswith("Estimate: 0.5403023")
    assert "adaptive" in text
    assert "warning: x+h == x" in repr(derivative(square, 2, method="forward", h=1e-50))
    estimate = derivative(np.sin, np.array([1.0, 2.0]))
    assert "value: array" in repr(estimate)
    with pytest.raises(TypeError, match="single number"):
        float(estimate)


# ---- what can't be used --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("h", [0, -1e-4, math.nan, math.inf, "small", [1e-4]])
@pytest.mark.parametrize("call", [derivative, numerical_gradient])
def test_unusable_h(call, h):
    with pytest.raises(InputError, match="h must be a finite number > 0"):
        call(square, 1.0, method="central", h=h)


def test_adaptive_takes_no_h():
    with pytest.raises(InputError, match="finds its own steps"):
        derivative(square, 1.0, h=1e-4)


def test_unknown_method():
    with pytest.raises(UnknownNameError, match="did you mean 'central'"):
        derivative(square, 1.0, method="centrl")
    with pytest.raises(UnknownNameError):
        difference_gradient(square, *flatten(1.0), "newton")


@pytest.mark.parametrize("x", [1j, [], {}, math.nan, [1.0, math.inf], np.array([None]), "one"])
@pytest.mark.parametrize("call", [derivative, numerical_gradient])
def test_unusable_x(call, x):
    with pytest.raises(InputError, match=r"^x"):
        call(square, x)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [None, "text", 1j, np.zeros(2), {}])
def test_unusable_values_of_f(bad, method):
    for call in (derivative, numerical_gradient):
        with pytest.raises(FunctionError, match="returned"):
            call(lambda x: bad, 1.0, method=method)


@pytest.mark.parametrize("method", METHODS)
def test_f_must_be_finite_at_x(method):
    with pytest.raises(FunctionError, match=r"f\(x\) = nan at x = 0.0"):
        derivative(lambda x: np.sin(x) / x, 0.0, method=method)
    with pytest.raises(FunctionError, match=r"x\[1\] = 0.0"):
        derivative(lambda x: np.log(x), np.array([1.0, 0.0]), method=method)
    with pytest.raises(FunctionError, match="inf"):
        numerical_gradient(lambda x: math.inf, [1.0, 2.0], method=method)


@pytest.mark.parametrize("method", FIXED)
def test_a_step_out_of_the_domain_gives_an_infinite_error(method):
    estimate = derivative(lambda x: np.sqrt(1e-8 - x * x), 0.0, method=method, h=1e-3)
    assert estimate.error == math.inf
    assert "not finite" in estimate.warnings[0]


@pytest.mark.parametrize("method", METHODS)
def test_what_f_raises_at_x_passes_through(method):
    def broken(x):
        raise ZeroDivisionError("mine")

    for call in (derivative, numerical_gradient):
        with pytest.raises(ZeroDivisionError, match="mine"):
            call(broken, 1.0, method=method)


@pytest.mark.parametrize("method", METHODS)
def test_numpy_warnings_do_not_leak(method):
    f = lambda x: np.log(x) + np.exp(500 * x) / np.float64(1e300)  # noqa: E731
    derivative(f, 1e-3, method=method)  # warnings are errors here
    numerical_gradient(lambda x: f(x).sum(), np.array([1e-3, 0.5]), method=method)


# ---- for the descent -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", FIXED)
def test_difference_gradient_is_the_numerical_gradient(method):
    layout, vector = flatten(WEIGHTS)
    before = vector.copy()
    gradient, rounding, stuck, nfev = difference_gradient(softmax_loss, layout, vector, method, h=1e-4)
    estimate = numerical_gradient(softmax_loss, WEIGHTS, method=method, h=1e-4)
    np.testing.assert_array_equal(gradient, estimate.value.ravel())
    assert np.all(rounding > 0)
    assert np.all(rounding < 1e-10)
    assert not stuck.any()
    assert nfev == (12 if method == "central" else 7)
    fun = np.float64(softmax_loss(WEIGHTS))
    again, *_, fewer = difference_gradient(softmax_loss, layout, vector, method, h=1e-4, fun=fun)
    np.testing.assert_array_equal(again, gradient)
    assert fewer == (12 if method == "central" else 6)
    np.testing.assert_array_equal(vector, before)


def test_difference_gradient_knows_float32_by_itself():
    layout, vector = flatten([1.0, 2.0])
    f = lambda x: np.float32((x**2).sum())  # noqa: E731
    gradient, rounding, *_ = difference_gradient(f, layout, vector, "central", h=1e-2)
    assert np.all(np.abs(gradient - [2, 4]) <= rounding + 1e-12)
    assert np.all(rounding > 1e-5)


def test_difference_gradient_marks_what_is_stuck():
    layout, vector = flatten([1e13, 1.0])
    gradient, _, stuck, _ = difference_gradient(lambda x: (x**2).sum(), layout, vector, "central", h=1e-4)
    assert gradient[0] == 0
    np.testing.assert_array_equal(stuck, [True, False])


@pytest.mark.parametrize("method", ["complex", "adaptive"])
def test_difference_gradient_passes_the_other_methods_on(method):
    layout, vector = flatten(WEIGHTS)
    gradient, error, stuck, nfev = difference_gradient(softmax_loss, layout, vector, method)
    estimate = numerical_gradient(softmax_loss, WEIGHTS, method=method)
    np.testing.assert_array_equal(gradient, estimate.value.ravel())
    np.testing.assert_array_equal(error, estimate.error.ravel())
    assert nfev == estimate.nfev
    assert not stuck.any()


def test_difference_gradient_does_not_raise_where_f_ends():
    layout, vector = flatten([1e-6, 1.0])
    gradient, *_ = difference_gradient(lambda x: np.log(x).sum(), layout, vector, "central", h=1e-3)
    assert not np.isfinite(gradient[0])
    assert gradient[1] == pytest.approx(1.0)


# ---- complex step --------------------------------------------------------------------------------------------------


def test_the_complex_step_is_exact_where_f_is_analytic():
    x = np.array([1e-12, 1e-3, 0.7, 30.0])
    estimate = derivative(np.sqrt, x, method="complex")
    np.testing.assert_allclose(estimate.value, 0.5 / np.sqrt(x), rtol=4e-16)
    assert np.all(np.abs(estimate.value - 0.5 / np.sqrt(x)) <= estimate.error)
    assert derivative(square, 2.0, method="complex", h=1e-3).value == pytest.approx(4.0, rel=1e-15)


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda x: abs(x) ** 3, 2.0),
        (lambda x: np.real(x) ** 2, 2.0),
        (lambda x: (x * np.conj(x)).real, 2.0),
        (lambda x: float(np.real(x)) ** 2, -1.0),
        (lambda x: np.abs(np.sin(x)), 4.0),
    ],
)
def test_the_complex_step_says_where_f_is_not_analytic(f, x):
    estimate = derivative(f, x, method="complex")
    true = derivative(f, x)
    assert "not analytic" in estimate.warnings[0]
    assert abs(estimate.value - true.value) <= estimate.error + true.error


def test_the_complex_step_needs_functions_that_take_it():
    with pytest.raises(FunctionError, match="NumPy's functions instead of math's"):
        derivative(math.sin, 1.0, method="complex")


# ---- adaptive ------------------------------------------------------------------------------------------------------


CONSTANT = pytest.mark.filterwarnings("ignore:.*does not depend on its argument")  # some of them are


def load_benchmark():
    path = Path(__file__).parents[1] / "benchmarks" / "derivative.py"
    spec = importlib.util.spec_from_file_location("benchmark_derivative", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def benchmark():
    return load_benchmark()


@CONSTANT
@pytest.mark.parametrize(("table", "functions", "cover"), [("TUNED", 40, 0.995), ("UNSEEN", 15, 0.98)])
def test_the_error_estimate_holds(benchmark, table, functions, cover):
    cases = getattr(benchmark, table)
    assert len(cases) >= functions
    assert all(case.points.size == 20 for case in cases)
    rows = benchmark.measure(cases, benchmark.koubai)
    misses = [(row.case, row.x, row.value, row.error, row.true) for row in rows if not row.covers]
    assert len(misses) <= (1 - cover) * len(rows), misses
    assert not [row for row in rows if row.lies]
    figures = benchmark.summary(rows)
    assert figures["median rel. error"] <= 1e-12
    assert figures["median nfev"] <= 40


@CONSTANT
def test_the_error_estimate_holds_for_random_programs(benchmark):
    rows = benchmark.measure(benchmark.programs(500, seed=0), benchmark.koubai)
    misses = [(row.case, row.x, row.value, row.error, row.true) for row in rows if not row.covers]
    assert len(misses) <= 5, misses
    assert sum(row.lies for row in rows) <= 1
    assert benchmark.summary(rows)["median rel. error"] <= 1e-12


@pytest.mark.parametrize(
    ("f", "x", "true", "close"),
    [
        (lambda x: np.sin(1e3 * x), 0.7, 1e3 * math.cos(700), 1e-9),
        (np.cos, 1e6, -math.sin(1e6), 1e-11),
        (np.cos, 1e10, -math.sin(1e10), 1e-7),
        (lambda x: np.sin(2.0**20 * x), 0.5, 2.0**20 * math.cos(2.0**19), 1e-8),
        (np.tanh, 10.0, 1 / math.cosh(10) ** 2, 1e-5),
        (lambda x: 1e8 + np.sin(x), 1.0, math.cos(1), 1e-5),
        (np.sqrt, 1e-12, 5e5, 1e-10),
        (np.sqrt, 1e-200, 5e99, 1e-9),
        (np.log, 1e-8, 1e8, 1e-9),
        (math.log, 1e-100, 1e100, 1e-9),
        (lambda x: float(x) ** 0.5, 1e-3, 0.5 / math.sqrt(1e-3), 1e-10),  # complex below 0
        (lambda x: math.exp(x), 700.0, math.exp(700), 1e-10),  # overflows above
        (lambda x: np.log(1 - x), 1 - 2.0**-10, -(2.0**10), 1e-9),
        (lambda x: x * x, 1e-12, 2e-12, 1e-8),
        (lambda x: x**3, 1e-6, 3e-12, 1e-6),
        (lambda x: 1e-200 * np.sin(x), 1.0, 1e-200 * math.cos(1), 1e-11),
        (lambda x: 1e200 * x * x, 1.5, 3e200, 1e-11),
        (lambda x: np.exp(1e9 * x), 0.0, 1e9, 1e-9),
        (lambda x: np.tanh(1e10 * x), 0.0, 1e10, 1e-9),
        (lambda x: x**2 + 1e-3 * np.sin(1e3 * x), 0.7, 1.4 + math.cos(700), 1e-9),
        (lambda x: x + np.exp(-(((x - 1) / 1e-4) ** 2)), 1.00005, 1 - 1e4 * math.exp(-0.25), 1e-6),
        (lambda x: 3.0, 1.0, 0.0, 0),
        (lambda x: 0.0 * x, 1.0, 0.0, 0),
        (lambda x: 3 * x, 1e20, 3.0, 1e-13),
        (abs, 1e-4, 1.0, 1e-12),
        (lambda x: max(x, 0.0), -0.5, 0.0, 0),
        (np.floor, 2.3, 0.0, 0),
        (lambda x: x % 1, 0.999, 1.0, 1e-10),
    ],
)
@CONSTANT
def test_adaptive_where_others_fail(f, x, true, close):
    estimate = derivative(f, x)
    assert abs(estimate.value - true) <= estimate.error
    assert abs(estimate.value - true) <= close * abs(true)
    assert estimate.error <= 1e-3 * abs(true) or abs(true) < 1e-6


@pytest.mark.parametrize(
    ("f", "x", "warning"),
    [
        (abs, 0.0, "kink"),
        (lambda x: np.maximum(x, 0.0) + x**2, 0.0, "kink"),
        (lambda x: np.abs(x - 0.1) + 1e-9 * x, 0.1, "kink"),
        (lambda x: np.sqrt(abs(x)), 0.0, "kink"),
        (lambda x: np.where(x > 0, 1.0, 0.0), 0.0, "jumps at x"),
        (np.floor, 2.0, "jumps at x"),
        (np.cbrt, 0.0, "slope grows"),
        (np.sqrt, 0.0, "slope grows"),
        (np.sqrt, 0.0, "not finite below x"),
        (lambda x: np.sqrt(-x), 0.0, "not finite above x"),
        (lambda x: 1.0 if x == 0 else math.nan, 0.0, "on either side"),
        (lambda x: np.round(np.sin(x), 3), 1.0, "noisy"),
        (lambda x: float(np.float32(np.sin(x))), 1.0, "noisy"),
    ],
)
def test_adaptive_says_what_is_the_matter(f, x, warning):
    estimate = derivative(f, x)
    assert any(warning in text for text in estimate.warnings), estimate
    if "noisy" not in warning:
        assert estimate.error > 0.4


@pytest.mark.parametrize("f", [np.sin, np.exp, square, lambda x: x**3, np.cos, lambda x: 1 / (1 + x * x)])
@pytest.mark.parametrize("x", [0.0, 1e-8, 0.3, -7.0])
def test_adaptive_is_silent_when_nothing_is_the_matter(f, x):
    assert derivative(f, x).warnings == ()


def test_a_kink_lies_within_the_error():
    estimate = derivative(abs, 0.0)
    assert estimate.value - estimate.error <= -1
    assert estimate.value + estimate.error >= 1


def test_one_sided_slopes_at_the_edge_of_the_domain():
    estimate = derivative(lambda x: x * np.sqrt(x) + 2 * x, 0.0)
    assert abs(estimate.value - 2) <= estimate.error < 1e-4
    estimate = derivative(lambda x: math.log(x) if x >= 1 else math.log(-1), 1.0)  # raises below
    assert abs(estimate.value - 1) <= estimate.error < 1e-9
    assert "right side" in estimate.warnings[0]


def test_what_f_raises_away_from_x_is_where_it_ends():
    class Infeasible(Exception):
        pass

    def f(x):
        if np.sum(x) < 0:
            raise Infeasible
        return np.sum(x**2) + table[int(np.sum(x))]

    table = [0.5] * 3
    for x in (0.05, np.array([0.05, 0.04])):
        found = numerical_gradient(f, x)
        np.testing.assert_array_less(np.abs(found.value - 2 * x), np.maximum(found.error, 1e-9))
    with pytest.raises(Infeasible):
        numerical_gradient(f, -1.0)
    found = difference_jacobian(lambda x: f(x) * np.ones(2), *flatten(0.05, "x"), "adaptive")
    np.testing.assert_allclose(found.value, 0.1, atol=1e-9)


@pytest.mark.parametrize("sigma", [1e-9, 1e-5, 1e-2])
def test_random_noise_is_measured(sigma):
    rng = np.random.default_rng(3)
    estimates = [derivative(lambda x: np.sin(x) + sigma * rng.standard_normal(), 1.0) for _ in range(100)]
    covered = [abs(e.value - math.cos(1)) <= e.error for e in estimates]
    assert sum(covered) >= 98
    assert all(sigma / 5 < e.noise < 10 * sigma for e in estimates)


@pytest.mark.parametrize("x", [1e-3, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10])
@pytest.mark.parametrize(
    ("f", "slope"),
    [
        (lambda x: (1 - np.cos(x)) / x**2, lambda x: -x / 12),
        (lambda x: (np.exp(x) - 1 - x) / x**2, lambda x: 1 / 6 + x / 12),
        (lambda x: (np.exp(x) - 1) / x, lambda x: 0.5 + x / 3),
    ],
)
def test_cancellation_does_not_fool_it(f, slope, x):
    """Below some step the cancelling part of f is frozen: what is left is smooth, and its slope is wrong by 1e20."""
    estimate = derivative(f, x)
    assert abs(estimate.value - slope(x)) <= estimate.error + x**2
    assert abs(estimate.value - slope(x)) < 1e-2


@pytest.mark.parametrize("w", [1e3, 1e4, 1e5, 1e6])
def test_what_is_fast_is_never_taken_for_noise_in_silence(w):
    """Kinks and jumps that come fast look like noise that ends at a small step: the error must cover both readings."""
    cases = [
        (lambda x: np.sin(w * x), lambda x: w * math.cos(w * x)),
        (lambda x: np.abs(np.sin(w * x)), lambda x: w * math.cos(w * x) * np.sign(math.sin(w * x))),
        (lambda x: np.sign(np.sin(w * x)) * x, lambda x: np.sign(math.sin(w * x))),
        (lambda x: x + 1e-4 * np.sin(w * x), lambda x: 1 + 1e-4 * w * math.cos(w * x)),
    ]
    points = np.linspace(0.1, 3, 50)
    for f, slope in cases:
        estimates = [derivative(f, x) for x in points]
        ratios = [abs(e.value - slope(x)) / e.error for e, x in zip(estimates, points, strict=True)]
        assert sum(ratio > 1 for ratio in ratios) <= 1
        assert max(ratios) < 10
    exact = [derivative(cases[0][0], x) for x in points]  # the smooth one is found exactly
    assert all(e.error <= 1e-6 * w for e in exact)


def test_one_call_for_many_points_only_where_f_allows_it():
    sizes = []

    def free(x):
        sizes.append(np.size(x))
        return np.sin(x)

    estimate = derivative(free, 1.0)
    assert len(sizes) <= 6
    assert sum(sizes) == estimate.nfev <= 40

    calls = []

    def scalar(x):
        calls.append(x)
        return math.sin(x)

    estimate = derivative(scalar, 1.0)
    assert len(calls) == estimate.nfev
    assert estimate.value == pytest.approx(math.cos(1), rel=1e-12)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x * np.mean(x),
        lambda x: np.sin(x) if np.all(x > 0.9) else np.cos(x),
        lambda x: np.sin(x) + (np.size(x) > 1),
        lambda x: np.sort(np.atleast_1d(x))[: np.size(x)].reshape(np.shape(x)) ** 2,
        lambda x: np.sum(x) ** 2,
        lambda x: np.cumsum(x)[-1] if np.size(x) == 1 else np.cumsum(x),
    ],
)
def test_a_function_that_mixes_its_elements_is_not_called_with_arrays(f):
    x = np.array([1.0, 2.0, 3.0])
    together = derivative(f, x)
    alone = [derivative(lambda t: f(float(t)), t).value for t in x]
    np.testing.assert_allclose(together.value, alone, rtol=1e-9)


def test_the_warnings_name_the_components():
    estimate = numerical_gradient(lambda x: np.abs(x).sum(), np.array([1.0, 0.0, 2.0, 0.0]))
    assert estimate.warnings[0].startswith("x[1], x[3]: f has a kink")
    estimate = numerical_gradient(lambda p: np.abs(p["W"]).sum(), {"W": np.zeros((2, 3))})
    assert estimate.warnings[0].startswith("W[0, 0], W[0, 1], W[0, 2] and 3 more: ")


def test_components_of_different_scale_and_more_than_one_block():
    n = TOGETHER + 50
    scale = np.logspace(-6, 6, n)
    x = np.random.default_rng(0).standard_normal(n)
    estimate = derivative(lambda t: np.sin(t), x)
    np.testing.assert_allclose(estimate.value, np.cos(x), atol=1e-11)
    small = np.arange(0, n, 40)
    estimate = numerical_gradient(lambda p: np.sin(scale[small] * p).sum(), x[small])
    expected = scale[small] * np.cos(scale[small] * x[small])
    assert np.all(np.abs(estimate.value - expected) <= estimate.error)
    assert estimate.nfev <= 60 * small.size


def test_the_gradient_shares_f_at_x():
    calls = []
    estimate = numerical_gradient(lambda x: calls.append(1) or float(np.sin(x).sum()), np.arange(5) + 0.5)
    assert len(calls) == estimate.nfev == 1 + 5 * 28


def test_the_same_call_gives_the_same_bits():
    first, second = (numerical_gradient(softmax_loss, WEIGHTS) for _ in range(2))
    np.testing.assert_array_equal(first.value, second.value)
    assert isinstance(first, Estimate)


# ---- second derivatives --------------------------------------------------------------------------------------------


@CONSTANT
@pytest.mark.parametrize(("table", "every"), [("TUNED", 4), ("UNSEEN", 4), ("random", 1)])
def test_the_error_of_a_second_derivative_holds(benchmark, table, every):
    cases = benchmark.programs(100, seed=77) if table == "random" else getattr(benchmark, table)
    covers, lies = [], []
    for case in cases:
        f = case.program()
        for x in case.points.tolist()[::every]:
            true = float(benchmark.mp.diff(lambda t, case=case: case.f(benchmark.mp, t), benchmark.mp.mpf(x), 2))
            with np.errstate(all="ignore"):
                estimate = derivative(f, x, n=2)
            off = abs(estimate.value - true) if math.isfinite(estimate.value) else math.inf
            covers.append(off <= estimate.error)
            lies.append(off > 100 * estimate.error and off > 1e-6 * abs(true))
    assert len(covers) >= 100
    assert np.mean(covers) >= 0.99
    assert not any(lies)


@pytest.mark.parametrize(
    ("method", "expected"),
    [("forward", 24.24), ("backward", 23.76), ("central", 24.0)],  # of x³ at 4: 6 x ± 6 h
)
def test_the_plain_formulas_of_second_order(method, expected):
    estimate = derivative(lambda x: x**3, 4, n=2, method=method, h=0.04)
    assert estimate.value == pytest.approx(expected, rel=1e-10)
    assert abs(estimate.value - 24) <= estimate.error
    assert (estimate.h, estimate.method, estimate.nfev) == (0.04, method, 5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("f", "second"), [(np.sin, lambda x: -np.sin(x)), (np.exp, np.exp), (square, lambda x: 2.0 + 0 * x)]
)
def test_second_derivatives_by_every_method(f, second, method):
    x = np.array([[0.1, 1.0, 2.0], [-1.0, 4.0, -0.5]])
    estimate = derivative(f, x, n=2, method=method)
    assert np.all(np.abs(estimate.value - second(x)) <= estimate.error)
    close = {"forward": 1e-3, "backward": 1e-3, "central": 1e-6, "complex": 1e-11, "adaptive": 1e-8}[method]
    np.testing.assert_allclose(estimate.value, second(x), rtol=close, atol=close)


@pytest.mark.parametrize(
    ("f", "x", "true", "warning"),
    [
        (lambda x: x * abs(x), 0.0, 0.0, "slope of f has a kink"),
        (abs, 0.0, math.inf, "kink at x"),
        (np.sqrt, 0.0, math.inf, "grows"),
        (lambda x: np.where(x > 0, 1.0, 0.0), 0.0, math.inf, "jumps at x"),
        (lambda x: np.exp(x) if x >= 0 else math.nan, 0.0, 1.0, "right side"),
        (lambda x: np.exp(x) if x <= 0 else math.nan, 0.0, 1.0, "left side"),
        (lambda x: np.round(np.sin(x), 3), 1.0, -math.sin(1), "noisy"),
    ],
)
def test_a_second_derivative_says_what_is_the_matter(f, x, true, warning):
    estimate = derivative(f, x, n=2)
    assert any(warning in text for text in estimate.warnings), estimate
    assert estimate.error == math.inf if true == math.inf else abs(estimate.value - true) <= estimate.error


def test_the_sides_of_a_kink_of_the_slope_lie_within_the_error():
    estimate = derivative(lambda x: x * abs(x), 0.0, n=2)
    assert estimate.error >= 2


@pytest.mark.parametrize("n", [0, 3, -1, 1.5, True, "2", None])
def test_unusable_order(n):
    with pytest.raises(InputError, match="n must be 1 or 2"):
        derivative(square, 1.0, n=n)


def test_complex_steps_of_second_order_tell_that_f_is_not_analytic():
    estimate = derivative(lambda x: x * np.real(x) ** 2, 1.0, n=2, method="complex")
    assert "not analytic" in estimate.warnings[0]
    assert abs(estimate.value - 6) <= estimate.error
    with pytest.raises(FunctionError, match="complex x"):
        derivative(math.sin, 1.0, n=2, method="complex")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("f", [lambda x: 3.0, lambda x: 0.0 * np.sum(x)])
def test_a_function_that_is_the_same_everywhere_is_named(f, method):
    for call in (derivative, numerical_gradient, lambda f, x, method: derivative(f, x, n=2, method=method)):
        with pytest.warns(GradientWarning, match="<lambda> does not depend on its argument.*lambda W") as said:
            estimate = call(f, 1.0, method=method)
        assert [each.filename for each in said] == [__file__]
        assert (estimate.value, "does not depend" in estimate.warnings[-1]) == (0.0, True)


@pytest.mark.parametrize("method", METHODS)
def test_a_plateau_is_no_independence(method):
    def f(x):
        return x - 3 if np.real(x) > 3 else 0.0 * x

    for call in (derivative, numerical_gradient):
        assert not any("depend" in text for text in call(f, -1.0, method=method).warnings)


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@pytest.mark.parametrize("method", METHODS)
def test_many_derivatives_at_once(method):
    layout, x = flatten(np.array([1.2, -0.3, 0.7, 1e-3]))
    v = np.array([1.0, 2.0, -1.0, 0.5])
    H = np.diag(np.r_[1200 * x[:-1] ** 2 - 400 * x[1:] + 2, 0.0]) + np.diag([0, 200.0, 200, 200])
    H += np.diag(-400 * x[:-1], 1) + np.diag(-400 * x[:-1], -1)
    whole = difference_hessian(rosenbrock, layout, x, method)
    along = difference_hvp(rosenbrock, layout, x, v, method)
    assert np.all(np.abs(whole.value - H) <= whole.error)
    assert np.all(np.abs(along.value - H @ v) <= along.error)
    assert whole.error.max() <= {"forward": 1, "backward": 1, "central": 1e-3}.get(method, 1e-6)
    np.testing.assert_array_equal(whole.value, whole.value.T)
    assert difference_hvp(rosenbrock, layout, x, 0 * v, method).value.tolist() == [0.0] * 4
    outputs = difference_jacobian(lambda x: np.array([[x[0] * x[1], np.sin(x[2])]]), layout, x, method)
    J = [[x[1], x[0], 0, 0], [0, 0, np.cos(x[2]), 0]]
    assert np.all(np.abs(outputs.value - J) <= outputs.error)
    assert outputs.error.max() <= (1e-5 if method in FIXED else 1e-10)


def test_stairs_on_a_slope_do_not_hide_behind_a_shorter_step():
    def f(x):
        return np.floor(x * 1e9) / 1e9 + x**2

    estimate = derivative(f, 1.3)
    assert abs(estimate.value - 3.6) <= estimate.error


# -- an Estimate acts as its value ------------------------------------------------------------------------------------

V = np.array([3.0, -2.0, 0.5])
AS_ITS_VALUE = [
    "g + V", "V + g", "g - V", "V - g", "2 * g", "g * V", "g / V", "V / g", "g // 2", "9 // g", "g % 2", "9 % g",
    "g ** 2", "2 ** g", "g @ V", "V @ g", "divmod(g, 4)", "divmod(V, g)", "-g", "+g", "abs(g)",
    "g < 0", "0 < g", "g >= V", "V <= g", "g == g", "g != V", "V == g", "g == 'text'", "[1.0, 2.0, 3.0] * g", "g + g",
    "g[0]", "g[-1]", "g[:2]", "g[g > 0]", "len(g)", "list(g)", "max(g)", "sum(g)", "6.0 in g", "[*reversed(g)]",
    "np.asarray(g)", "np.array(g, dtype=np.float32)", "np.asarray(g).dtype", "np.stack([g, g])", "np.array([g, g])",
    "np.sum(g)", "np.mean(g, axis=0)", "np.linalg.norm(g)", "np.dot(g, V)", "np.where(g > 0, g, 0)", "np.sqrt(abs(g))",
    "np.add.reduce(g)", "np.outer(V, g)", "np.clip(g, -1, 1)", "np.allclose(g, V)", "np.add(V, g, out=V.copy())",
    "g.shape", "g.dtype", "g.ndim", "g.size", "g.T", "g.sum()", "g.max()", "g.copy()", "g.tolist()", "g.reshape(3, 1)",
]  # fmt: skip
AS_ITS_NUMBER = [
    "2 * g", "g - 1", "1 - g", "g / 2", "3 / g", "g ** 2", "g + g", "V * g", "-g", "abs(g)", "g < 7", "7 > g", "g == g",
    "float(g)", "int(g)", "bool(g)", "round(g, 2)", "math.sqrt(g)", "f'{g:.3f}'", "'%.3f' % g", "np.sin(g)",
    "{g: 1}[g]", "np.asarray(g)", "np.array([g, g])", "sum([g, g])", "g.shape", "g.ndim", "g.dtype", "np.ndim(g)",
    "g.item()",
]  # fmt: skip


@pytest.mark.parametrize(("texts", "x"), [(AS_ITS_VALUE, V), (AS_ITS_NUMBER, 0.7)], ids=["array", "number"])
def test_an_estimate_acts_as_its_value(texts, x):
    estimate = numerical_gradient(lambda x: np.sum(np.sin(x) + x**2), x)
    names = {"np": np, "V": V, "math": math}
    own = np.float64(estimate.value) if isinstance(x, float) else estimate.value
    for text in texts:
        found, expected = (eval(text, names | {"g": g}) for g in (estimate, own))
        assert not isinstance(found, Estimate), text
        np.testing.assert_array_equal(found, expected, err_msg=text)


def test_the_loop_of_the_articles():
    x, path = np.array([-3.0, 4.0]), []
    kept = x
    for _ in range(100):
        path.append(x.copy())
        x -= 0.1 * numerical_gradient(lambda x: x[0] ** 2 + x[1] ** 2, x, method="central", h=1e-4)
    assert x is kept
    assert type(x) is np.ndarray
    np.testing.assert_allclose(x, [-6.11110793e-10, 8.14814391e-10], rtol=1e-6)
    g = numerical_gradient(np.sum, V)
    before = g
    g *= 0.5
    assert type(g) is np.ndarray
    np.testing.assert_allclose(before, 1.0)
    assert f"{before:.2f}" == "[1.00 1.00 1.00]"


@pytest.mark.parametrize("copied", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
@pytest.mark.parametrize("x", [0.5, V, {"W": V, "b": 1.0}])
def test_an_estimate_can_be_copied_and_pickled(copied, x):
    estimate = numerical_gradient(lambda p: np.sum(p["W"] ** 2) if isinstance(p, dict) else np.sum(p**2), x)
    assert repr(copied(estimate)) == repr(estimate)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("0.1 * d", TypeError, "a dict of arrays, which don't compute as one array"),
        ("d + d", TypeError, "for key, g in estimate.items"),
        ("np.sum(d)", TypeError, "take its parts"),
        ("np.asarray(d)", TypeError, "take its parts"),
        ("2 * t", TypeError, "a tuple of arrays"),
        ("g.__setitem__(0, 1.0)", TypeError, "can't be written into"),
        ("np.multiply(g, 2, out=g)", TypeError, "can't be written into"),
        ("float(g)", TypeError, "of a single number"),
        ("g.vlaue", AttributeError, "no attribute 'vlaue'"),
        ("bool(g)", ValueError, "ambiguous"),
        ("np.array(g, dtype=np.float32, copy=False)", ValueError, "copy"),
        ("hash(g)", TypeError, "unhashable"),
        ("len(n)", TypeError, "no len"),
        ("n[0]", IndexError, "scalar"),
    ],
)
def test_what_an_estimate_does_not_do(text, kind, message):
    g, n = numerical_gradient(np.sum, V), derivative(np.sin, 1.0)
    d = numerical_gradient(lambda p: np.sum(p["W"]) + p["b"], {"W": V, "b": 1.0})
    t = numerical_gradient(lambda p: np.sum(p[0]) * np.sum(p[1]), (V, V))
    with pytest.raises(kind, match=message):
        eval(text, {"np": np, "g": g, "d": d, "t": t, "n": n})


def test_the_estimate_of_a_structure_gives_its_parts_and_serves_as_a_gradient():
    def loss(p):
        return np.sum(p["W"] ** 2) + (p["b"] - 1) ** 2

    params = {"W": V.copy(), "b": np.array(0.0)}
    estimate = numerical_gradient(loss, params)
    assert list(estimate) == list(estimate.keys()) == ["W", "b"]
    assert "W" in estimate
    np.testing.assert_allclose(estimate["W"], 2 * V, rtol=1e-9)
    assert estimate == estimate
    assert kb.check_gradient(loss, estimate, params).ok
    kb.SGD(lr=0.1).update(params, estimate)
    np.testing.assert_allclose(params["W"], 0.8 * V, rtol=1e-9)
    first, second = numerical_gradient(lambda p: np.sum(p[0]) * np.sum(p[1]), [V, np.ones(2)])
    assert (first.shape, second.shape) == ((3,), (2,))


def test_an_estimate_inside_a_function_that_is_traced():
    g, n = numerical_gradient(np.sum, V), derivative(np.sin, 1.0)
    for f, expected in (
        (lambda x: np.sum((g - x) ** 2), 2 * (V - 1)),
        (lambda x: x @ g, np.ones(3)),
        (lambda x: np.sum(n * x), np.full(3, np.cos(1.0))),
    ):
        np.testing.assert_allclose(kb.grad(f, method="backprop")(V), expected, rtol=1e-9)
