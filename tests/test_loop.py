import signal
import threading

import numpy as np
import pytest

import koubai as kb
from koubai import Status
from koubai.errors import FunctionError, GradientWarning, InputError, Interrupted, UnknownNameError
from koubai.execute import library


def bowl(x):
    return x[0] ** 2 + x[1] ** 2


def bowl_gradient(x):
    return 2 * x


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


# -- the promises of a run --------------------------------------------------------------------------------------------

RUNS = {
    "converged": lambda **k: kb.minimize(bowl, [-3.0, 4.0], kb.SGD(lr=0.1), **k),
    "max_steps": lambda **k: kb.minimize(rosenbrock, [-1.2, 1.0], kb.SGD(lr=1e-3), max_steps=200, **k),
    "diverged": lambda **k: kb.minimize(bowl, [-3.0, 4.0], kb.SGD(lr=10.0), **k),
    "nonfinite": lambda **k: kb.minimize(lambda x: np.log(x[0]) + x[1] ** 2, [0.5, 1.0], kb.SGD(lr=0.2), **k),
    "stalled": lambda **k: kb.minimize(np.sum, [1e9, 1e9], kb.SGD(lr=1e-12), grad=np.ones_like, **k),
    "target_reached": lambda **k: kb.minimize(bowl, [-3.0, 4.0], kb.SGD(lr=0.1), target=1.0, **k),
    "noise_floor": lambda **k: kb.minimize(lambda x: 1e9 + bowl(x), [-3.0, 4.0], kb.SGD(lr=0.1), grad="central", **k),
    "stopped": lambda **k: kb.minimize(bowl, [-3.0, 4.0], kb.SGD(lr=0.01), on_step=lambda step: step.t == 5, **k),
}


@pytest.mark.parametrize("status", RUNS)
def test_every_status_is_reached_and_only_tolerance_and_target_are_success(status):
    run = RUNS[status]()
    assert run.status is Status[status], run.message
    assert run.success is (status in ("converged", "target_reached"))
    assert run.message
    assert status in repr(run)


def test_every_status_has_a_run_here():
    assert {*RUNS, "finished"} == {status.name for status in Status}  # which only a training can be: test_network.py


@pytest.mark.parametrize("status", RUNS)
def test_fun_jac_and_x_belong_together_and_the_best_is_kept(status):
    run = RUNS[status]()
    f = run.function
    assert np.float64(f(run.x)) == run.fun
    assert np.isfinite(run.fun)
    assert np.isfinite(run.jac).all()
    assert np.float64(f(run.best_x)) == run.best_fun == run.history.fun.min()
    assert [np.float64(f(x)) for x in run.history.x] == run.history.fun.tolist()
    assert run.history.t.tolist() == list(range(run.nit + 1))
    assert np.array_equal(run.history.x[-1], run.x)
    assert run.history.grad_norm[-1] == np.abs(run.jac).max()
    exact = kb.numerical_gradient(f, run.x)
    rounding = np.finfo(float).eps * abs(run.fun) / 6e-6 if run.gradient_source == "central differences" else 0.0
    slack = 1e-6 * np.abs(exact.value).max() + np.max(exact.error) + rounding
    np.testing.assert_allclose(run.jac, exact.value, atol=slack)


def test_evaluations_are_counted():
    calls = {"f": 0, "g": 0}

    def f(x):
        calls["f"] += 1
        return bowl(x)

    def g(x):
        calls["g"] += 1
        return 2 * x

    run = kb.minimize(f, [1.0, 2.0], grad=g)
    # two more look at the gradient once
    assert (run.nfev, run.njev) == (calls["f"], calls["g"]) == (run.nit + 3, run.nit + 1)
    calls["f"] = 0
    run = kb.minimize(f, [1.0, 2.0], grad="central")
    assert (run.nfev, run.njev) == (calls["f"], 0)


def test_the_best_point_survives_a_later_rise():
    run = kb.minimize(bowl, [1.0, 1.0], kb.SGD(lr=0.3, momentum=0.99), grad=bowl_gradient, max_steps=37)
    assert run.best_fun < run.fun
    assert bowl(run.best_x) == run.best_fun


def test_the_same_call_gives_the_same_bits():
    a, b = (kb.minimize(rosenbrock, [-1.2, 1.0], kb.SGD(lr=1e-3), max_steps=100) for _ in range(2))
    assert np.array_equal(a.history.x, b.history.x)


# -- forms of x -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "x0", [3.0, 3, np.array([3.0]), np.array([[1.0, 2.0], [3.0, 4.0]]), {"W": np.ones((2, 3)), "b": np.array(2.0)}]
)
def test_x_keeps_its_form(x0):
    def f(x):
        return sum(np.sum(v**2) for v in x.values()) if isinstance(x, dict) else np.sum(x**2)

    run = kb.minimize(f, x0)
    assert run.success
    for point in (run.x, run.best_x, run.jac):
        if isinstance(x0, dict):
            assert {k: np.shape(v) for k, v in point.items()} == {k: np.shape(v) for k, v in x0.items()}
        else:
            assert np.shape(point) == np.shape(x0)


def test_an_integer_start_gives_the_run_of_its_float64_twin():
    whole, real = (kb.minimize(bowl, start, kb.SGD(lr=0.1)) for start in (np.array([-3, 4]), np.array([-3.0, 4.0])))
    assert np.array_equal(whole.history.x, real.history.x)
    assert whole.x.dtype == np.float64


def test_float32_parameters_stay_float32():
    run = kb.minimize(lambda x: (x**2).sum(), np.ones(2, np.float32), kb.SGD(lr=0.1), grad=lambda x: 2 * x, gtol=1e-3)
    assert run.x.dtype == np.float32
    assert run.success


def test_nothing_that_is_passed_in_is_changed():
    start, bounds = np.array([-3.0, 4.0]), [[-5.0, 5.0], [None, 5.0]]

    def hostile(x):
        value = bowl(x)
        x[:] = 99.0
        return value

    def hostile_gradient(x):
        g = 2 * x
        x[:] = -99.0
        return g

    def hostile_step(step):
        step.x[:] = 7.0
        step.g[:] = 7.0

    run = kb.minimize(hostile, start, grad=hostile_gradient, bounds=bounds, on_step=hostile_step)
    assert start.tolist() == [-3.0, 4.0]
    assert bounds == [[-5.0, 5.0], [None, 5.0]]
    assert run.success
    assert run.history.x[0].tolist() == [-3.0, 4.0]


def test_the_articles_gradient_that_perturbs_x_in_place_works():
    def numerical(x):
        h, g = 1e-4, np.zeros_like(x)
        for i in range(x.size):
            kept = x[i]
            x[i] = kept + h
            above = bowl(x)
            x[i] = kept - h
            g[i] = (above - bowl(x)) / (2 * h)
            x[i] = kept
        return g

    assert kb.minimize(bowl, [-3.0, 4.0], grad=numerical).success


# -- stopping ---------------------------------------------------------------------------------------------------------


def test_gtol_is_the_largest_component_and_inclusive():
    run = kb.minimize(bowl, [0.5, 0.25], grad=bowl_gradient, gtol=1.0)
    assert (run.status, run.nit) == (Status.converged, 0)


def test_gtol_zero_is_off():
    run = kb.minimize(bowl, [0.0, 1e-3], kb.SGD(lr=0.1), grad=bowl_gradient, gtol=0, max_steps=20)
    assert (run.status, run.nit) == (Status.max_steps, 20)


@pytest.mark.parametrize("tolerance", ["ftol", "xtol"])
def test_small_changes_converge_only_where_little_lies_ahead(tolerance):
    good = kb.minimize(bowl, [-3.0, 4.0], kb.SGD(lr=0.1), grad=bowl_gradient, gtol=0, **{tolerance: 1e-8})
    assert good.status is Status.converged
    assert np.abs(good.x).max() < 1e-3
    slow = kb.minimize(bowl, [-3.0, 4.0], kb.SGD(lr=1e-12), grad=bowl_gradient, max_steps=50, **{tolerance: 1e-8})
    assert slow.status is Status.max_steps


def test_a_rate_too_small_for_x_to_change_is_stalled_not_converged():
    run = RUNS["stalled"]()
    assert "has not changed" in run.message


def test_a_difference_that_rounds_away_is_never_convergence():
    """x ± h both round to x, so the difference is 0; only the Estimate knows that this says nothing."""
    run = kb.minimize(bowl, [3e14, 4e14], grad=lambda x: kb.numerical_gradient(bowl, x, method="central", h=1e-4))
    assert run.status is Status.stalled
    assert "rounds to x" in run.message


def test_a_gradient_below_its_own_error_is_the_noise_floor():
    run = kb.minimize(lambda x: 1e9 + bowl(x), [-3.0, 4.0], kb.SGD(lr=0.1), grad="central")
    assert run.status is Status.noise_floor
    assert not run.success
    assert kb.minimize(lambda x: 1e9 + bowl(x), [-3.0, 4.0], kb.SGD(lr=0.1), grad="backprop").success


def test_nonfinite_stops_before_the_parameters_and_names_what_was_bad():
    run = RUNS["nonfinite"]()
    assert "f = " in run.message
    assert np.isfinite(run.x).all()

    def bad_gradient(x):
        return np.array([2 * x[0], np.nan if x[1] < 1 else 2 * x[1]])

    run = kb.minimize(bowl, [-3.0, 4.0], kb.SGD(lr=0.1), grad=bad_gradient)
    assert run.status is Status.nonfinite
    assert "x[1] is nan" in run.message
    assert np.isfinite(run.history.x).all()


def test_unbounded_descents_are_diverged():
    run = kb.minimize(lambda x: -(x[0] ** 2), [1.0], kb.SGD(lr=1.0))
    assert run.status is Status.diverged
    assert "unbounded below" in run.message


def test_an_overflowing_x_is_diverged():
    run = kb.minimize(lambda x: -1e10 * float(x[0]), [1.0], kb.SGD(lr=1e308), grad=lambda x: np.array([-1e10]))
    assert run.status is Status.diverged
    assert run.x.tolist() == [1.0]


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("factor", [1.5, 10.0, 1e4])
def test_a_rate_above_the_limit_is_never_a_success(scale, factor):
    """f = scale·(x² + 3y²): stable below lr = 1/(3·scale)."""
    weights = scale * np.array([1.0, 3.0])
    optimizer = kb.SGD(lr=factor / (3 * scale))
    run = kb.minimize(
        lambda x: weights @ x**2, [-3.0, 4.0], optimizer, grad=lambda x: 2 * weights * x, gtol=1e-8 * scale
    )
    assert run.status is Status.diverged
    assert run.diagnose().evidence["stable_lr"].value == pytest.approx(1 / (3 * scale), rel=0.05)


def test_the_largest_stable_rate_is_named():
    run = kb.minimize(lambda x: x[0] ** 2 / 20 + x[1] ** 2, [-7.0, 2.0], kb.SGD(lr=1.2))
    assert run.status is Status.diverged
    assert run.diagnose().evidence["stable_lr"].value == pytest.approx(1.0, rel=0.01)


# -- bounds -----------------------------------------------------------------------------------------------------------


def test_bounds_are_kept_and_a_minimum_on_the_edge_is_converged():
    run = kb.minimize(bowl, [-3.0, 4.0], bounds=[(-5, -1), (None, None)])
    assert run.success
    assert run.x[0] == -1
    assert (run.history.x[:, 0] <= -1).all()
    assert run.history.grad_norm[-1] <= 1e-6
    assert abs(run.jac[0] + 2) < 1e-6


def test_clipping_schedules_and_projections_are_on_the_record():
    optimizer = kb.SGD(lr=kb.schedules.exponential(0.3, 0.9), clipnorm=3.0)
    run = kb.minimize(bowl, [-3.0, 4.0], optimizer, grad=bowl_gradient, bounds=[(-5, -1), (None, None)])
    history = run.history
    norms = [np.hypot(*(2 * x)) for x in history.x]
    assert history.clipped.tolist() == [norm > 3.0 for norm in norms]
    assert history.clipped[0]
    assert not history.clipped.all()
    assert history.lr.tolist() == [optimizer.lr_at(t) for t in history.t]
    for i in range(run.nit):
        g = 2 * history.x[i] * (3.0 / (norms[i] + 1e-6) if history.clipped[i] else 1.0)
        assert history.projected[i + 1] == ((history.x[i] - history.lr[i] * g)[0] > -1)
    assert history.projected.any()
    assert not history.projected[0]


def test_bounds_for_dicts_and_numbers():
    run = kb.minimize(lambda p: (p["a"] ** 2).sum() + p["b"] ** 2, {"a": np.ones(2), "b": 2.0}, bounds={"a": (0.5, 3)})
    np.testing.assert_allclose(run.x["a"], 0.5)
    assert abs(run.x["b"]) < 1e-5
    assert kb.minimize(lambda x: x**2, 3.0, bounds=(1, 4)).x == 1


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ([(1, -1), (0, 5)], "crossed at x\\[0\\]"),
        ([(0, 0), (0, 5)], "x0 lies outside its bounds: x\\[0\\] = -3"),
        ([(0, 1), (0, 5)], "x0 lies outside its bounds: x\\[0\\] = -3"),
        ([(0, 1)], "bounds have shape"),
        ("ab", "bounds must be"),
        ([(np.nan, 1), (0, 5)], "must not be NaN"),
        (5, "bounds"),
    ],
)
def test_bounds_that_can_not_be_used_are_refused(bounds, message):
    with pytest.raises(InputError, match=message):
        kb.minimize(bowl, [-3.0, 4.0], bounds=bounds)


def test_an_unknown_name_in_bounds_suggests():
    with pytest.raises(UnknownNameError, match="did you mean 'weight'"):
        kb.minimize(lambda p: p["weight"] ** 2, {"weight": 1.0}, bounds={"wieght": (0, 1)})


# -- input that can't be used -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, "text", [1.0, 2.0], 1j, object()])
def test_a_function_that_gives_no_number(value):
    with pytest.raises(FunctionError, match=r"f\(x\) returned") as caught:
        kb.minimize(lambda x: value, [1.0, 2.0])
    assert "at step 0" in caught.value.__notes__[0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_start_where_f_is_not_finite(value):
    with pytest.raises(FunctionError, match=r"f\(x0\) = .* at x0 = \[1., 2.\]"):
        kb.minimize(lambda x: value, [1.0, 2.0])


def test_a_start_where_the_gradient_is_not_finite():
    with pytest.raises(FunctionError, match="the gradient at x0"):
        kb.minimize(bowl, [1.0, 2.0], grad=lambda x: x * np.nan)


def test_an_exception_inside_f_passes_through_with_step_and_x():
    def f(x):
        if x[0] < 0.7:
            raise ZeroDivisionError("mine")
        return bowl(x)

    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        kb.minimize(f, [1.0, 0.0], lr=0.1, grad=bowl_gradient)
    assert caught.value.__notes__ == ["koubai: at step 2, x = [0.64, 0.  ]"]


@pytest.mark.parametrize("x0", [[], {}, [1j], np.array([None]), [np.nan], [1.0, np.inf], "12", None])
def test_starts_that_can_not_be_used(x0):
    with pytest.raises(InputError, match="x0"):
        kb.minimize(bowl, x0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_steps": -1}, "max_steps must be a whole number ≥ 0, got -1"),
        ({"max_steps": 1.5}, "max_steps"),
        ({"gtol": -1e-6}, "gtol must be a finite number ≥ 0"),
        ({"gtol": float("nan")}, "gtol"),
        ({"gtol": -1.0}, "gtol .* use 0 to turn it off"),
        ({"ftol": "small"}, "ftol"),
        ({"xtol": -1}, "xtol"),
        ({"target": float("nan")}, "target must be a number"),
        ({"record": "some"}, "record must be 'auto', 'all' or 'off'"),
        ({"on_step": 3}, "on_step must be a function"),
        ({"grad": "centrel"}, "did you mean 'central'"),
        ({"grad": 3}, "unknown gradient method 3"),
        ({"optimizer": "sdg"}, "did you mean 'sgd'"),
        ({"grad": lambda x: np.zeros(3)}, r"gradient that grad returned has shape \(3,\)"),
        ({"grad": lambda x: None}, "gradient that grad returned"),
    ],
)
def test_options_that_can_not_be_used(options, message):
    with pytest.raises(InputError, match=message):
        kb.minimize(bowl, [1.0, 2.0], **options)


def test_f_that_is_no_function():
    with pytest.raises(InputError, match="f must be a function"):
        kb.minimize("x**2", 1.0)


# -- iterate, callbacks, interruption ---------------------------------------------------------------------------------


def test_iterate_is_the_same_descent():
    run = kb.minimize(bowl, [-3.0, 4.0], kb.SGD(lr=0.1))
    steps = list(kb.iterate(bowl, [-3.0, 4.0], kb.SGD(lr=0.1)))
    assert [s.t for s in steps] == run.history.t.tolist()
    assert np.array_equal([s.x for s in steps], run.history.x)
    assert [s.f for s in steps] == run.history.fun.tolist()
    assert [s.lr for s in steps] == run.history.lr.tolist()
    assert np.array_equal(steps[-1].g, run.jac)


def test_iterate_returns_the_run_and_can_be_left():
    runs = []

    def drive():
        runs.append((yield from kb.iterate(bowl, [-3.0, 4.0], kb.SGD(lr=0.1))))

    steps = list(drive())
    assert runs[0].status is Status.converged
    assert runs[0].nit == steps[-1].t
    for step in kb.iterate(bowl, [-3.0, 4.0], lr=0.1):
        if step.t == 3:
            break
    assert step.t == 3


def test_iterate_refuses_wrong_arguments_at_once():
    with pytest.raises(InputError, match="x0"):
        kb.iterate(bowl, [])
    with pytest.raises(UnknownNameError, match="did you mean 'max_steps'"):
        kb.iterate(bowl, [1.0, 2.0], max_step=3)


def test_on_step_sees_every_point_and_its_exceptions_pass():
    seen = []
    run = kb.minimize(bowl, [-3.0, 4.0], on_step=lambda step: seen.append(step.t))
    assert seen == list(range(run.nit + 1))
    with pytest.raises(RuntimeError, match="mine"):
        kb.minimize(bowl, [-3.0, 4.0], on_step=lambda step: (_ for _ in ()).throw(RuntimeError("mine")))


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals need the main thread")
@pytest.mark.parametrize("place", ["f", "on_step"])
def test_ctrl_c_keeps_the_run_so_far(place):
    def interrupt(t):
        if t == 40:
            signal.raise_signal(signal.SIGINT)

    count = iter(range(10_000))
    f = (lambda x: (interrupt(next(count)), bowl(x))[1]) if place == "f" else bowl
    on_step = (lambda step: interrupt(step.t)) if place == "on_step" else None
    with pytest.raises(Interrupted, match="interrupted after step") as caught:
        kb.minimize(f, [-3.0, 4.0], kb.SGD(lr=0.01), grad=bowl_gradient, on_step=on_step)
    run = caught.value.run
    assert run.status is Status.stopped
    assert not run.success
    assert run.nit == (37 if place == "f" else 40)  # two evaluations looked at the gradient
    assert bowl(run.x) == run.fun == run.best_fun


def test_ctrl_c_before_the_first_point_is_an_ordinary_interrupt():
    def f(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        kb.minimize(f, [1.0])
    assert not isinstance(caught.value, Interrupted)


def test_the_progress_bar_goes_to_stderr(capsys):
    run = kb.minimize(bowl, [-3.0, 4.0], progress=True)
    assert run.success
    assert capsys.readouterr().out == ""


# -- ends that are no success, and ends to the rounding of f -----------------------------------------------------------

TIMES = np.linspace(0, 4, 50)


@pytest.mark.parametrize("gtol", [None, 1e-6])
@pytest.mark.parametrize("lr", [10.0, 100.0])
def test_an_end_above_the_start_is_no_success(lr, gtol):
    run = kb.minimize(lambda x: -np.exp(-(x**2)), 0.9, kb.SGD(lr=lr), gtol=gtol)
    assert run.status is Status.stalled
    assert "lies above that of the start, -0.444858: a step leapt away" in run.message
    assert run.best_x == 0.9


@pytest.mark.parametrize("unit", [1e-12, 1e-6, 1.0, 1e6, 1e12])
@pytest.mark.parametrize("of", ["f", "x"])
def test_least_squares_converge_in_any_units(unit, of):
    """The same digits, the same steps: nothing in them depends on the units but for rounding."""
    y = 2.5 * np.exp(-1.3 * TIMES) + 0.5 + 0.05 * np.cos(31 * TIMES)
    in_f, in_x = (unit, 1.0) if of == "f" else (1.0, unit)

    def f(p):
        a, b, c = p[0] / in_x, p[1] / in_x, p[2] / in_x
        return np.sum((in_f * (a * np.exp(-b * TIMES) + c - y)) ** 2)

    run = kb.minimize(f, in_x * np.ones(3))
    assert run.success
    assert run.message.startswith("to the rounding of f: at step")
    np.testing.assert_allclose(run.x / in_x, [2.50951226, 1.30725492, 0.50095406], atol=1e-6)
    assert np.linalg.norm(in_x * kb.grad(f)(run.x)) <= 1e-6 * f(run.x)


def test_a_region_without_slope_is_no_success_of_least_squares():
    """The model's peak lies far from the data: they tell it nothing, and a step promises nothing."""

    def f(p):
        return np.sum((p[0] * np.exp(-((TIMES - p[1]) ** 2)) - np.exp(-((TIMES - 2) ** 2))) ** 2)

    run = kb.minimize(f, np.array([1.0, 20.0]))
    assert run.success <= (run.fun < 1e-6)


def test_least_squares_from_their_minimum():
    assert kb.minimize(lambda x: x**2, 0.0).nit == 0
    f = lambda p: np.sum((p[0] * TIMES + p[1] - np.sin(TIMES)) ** 2)  # noqa: E731
    first = kb.minimize(f, np.zeros(2))
    again = kb.minimize(f, first.x)
    assert first.success
    assert again.success
    assert again.nit <= 2


@pytest.mark.parametrize("grad", ["auto", "backprop", "forward", "central", "complex", "adaptive"])
@pytest.mark.parametrize("f", [lambda x: 3.0, lambda x: np.sum(np.eye(3))])
def test_a_function_that_does_not_depend_on_x_is_never_minimized(f, grad):
    for target in (None, 5.0):
        with pytest.warns(GradientWarning, match="does not depend on its argument"):
            run = kb.minimize(f, np.ones(3), grad=grad, target=target)
        assert (run.success, run.status.name) == (False, "stalled")
        assert "does not depend on its argument" in run.message


def test_a_bottom_that_is_flat_is_a_success():
    def f(x):
        return np.sum(np.maximum(x - 1, 0) ** 2)

    assert kb.minimize(f, np.array([3.0, 0.5]), kb.SGD(0.5)).success


@pytest.mark.parametrize("text", [False, True])
def test_a_function_of_chance_is_refused_unless_differences_are_asked_for(text):
    random = np.random.default_rng(2)

    def f(x):
        first = float(f"{x[0]}") if text else x[0]
        return first**2 + x[1] ** 2 + 1e-3 * random.standard_normal()

    with pytest.raises(FunctionError, match="two calls"):
        kb.minimize(f, np.ones(2), kb.SGD(0.1))


# -- SciPy's ways: further arguments, value and gradient in one -------------------------------------------------------


def decay(p, t, y, weight=1.0):
    return np.sum(weight * (p[0] * np.exp(-p[1] * t) - y) ** 2)


HOURS = np.linspace(0.0, 1.0, 20)
CURVE = 2.0 * np.exp(-3.0 * HOURS)


@pytest.mark.parametrize("optimizer", ["auto", "lbfgs", "adam", kb.SGD(lr=0.01)])
@pytest.mark.parametrize("grad", ["auto", "backprop", "central", lambda p, t, y, w: kb.grad(decay)(p, t, y, w)])
@pytest.mark.parametrize("bounds", [None, [(0.0, 1.5), (0.0, 2.5)]])
def test_args_give_the_descent_of_the_function_that_holds_them(optimizer, grad, bounds):
    options = {"grad": grad, "bounds": bounds, "max_steps": 60}
    run = kb.minimize(decay, [1.0, 1.0], optimizer, args=(HOURS, CURVE, 2.0), **options)
    own = {"grad": lambda p: grad(p, HOURS, CURVE, 2.0)} if callable(grad) else {}
    same = kb.minimize(lambda p: decay(p, HOURS, CURVE, 2.0), [1.0, 1.0], optimizer, **options | own)
    np.testing.assert_allclose(run.x, same.x, rtol=1e-9)
    assert (run.nit, run.gradient_source, run.optimizer) == (same.nit, same.gradient_source, same.optimizer)
    assert run.function(run.x) == run.fun
    assert run.spec["function"] == {"name": "test_loop.decay"}
    if run.covariance is not None:
        np.testing.assert_allclose(run.stderr, same.stderr, rtol=1e-6, atol=1e-12)


@pytest.mark.skipif(not library.available(), reason="llvmlite can't be loaded")
@pytest.mark.parametrize("optimizer", [kb.SGD(lr=0.01), kb.Adam(lr=1e-3)])
@pytest.mark.parametrize("bounds", [None, [(0.0, 1.9), (None, None)]])
def test_a_long_descent_with_args_is_compiled_for_these_args(optimizer, bounds):
    for curve in (CURVE, 2 * CURVE, CURVE):
        options = {"max_steps": 5000, "gtol": 0, "bounds": bounds}
        run = kb.minimize(decay, [1.0, 1.0], optimizer, args=(HOURS, curve), **options)
        same = kb.minimize(lambda p, curve=curve: decay(p, HOURS, curve), [1.0, 1.0], optimizer, **options)
        assert (run.executor, run.nit) == (same.executor, same.nit)
        assert run.executor == "native"
        np.testing.assert_allclose(run.history.x, same.history.x, rtol=1e-12)


def test_args_change_between_two_descents_and_are_no_part_of_what_is_kept():
    class Target:
        at = 1.0

    target = Target()

    def f(x, target):
        return np.sum((x - target.at) ** 4 + (x - target.at) ** 2)

    for at in (1.0, 3.0):
        target.at = at
        np.testing.assert_allclose(kb.minimize(f, [5.0, 6.0], args=(target,)).x, at, atol=1e-5)
    for at in (1.0, np.array([1.0, 3.0]), [2.0, 4.0]):  # no tuple: one argument
        np.testing.assert_allclose(
            kb.minimize(lambda x, a: np.sum((x - np.asarray(a)) ** 2), [5.0, 6.0], args=at).x,
            np.broadcast_to(at, 2), atol=1e-5,
        )  # fmt: skip


@pytest.mark.parametrize("has_gradient", [False, True])
def test_args_come_after_the_batch(has_gradient):
    X = np.arange(12.0).reshape(6, 2) / 10
    y = X @ [1.0, 2.0]

    def loss(w, X, y, decay):
        e = X @ w - y
        value = np.mean(e**2) + decay * np.sum(w**2)
        return (value, 2 * X.T @ e / len(e) + 2 * decay * w) if has_gradient else value

    def minimized(f, **options):
        batches = kb.nn.batches(X, y, 2, 0)
        return kb.minimize(f, [0.0, 0.0], kb.Adam(lr=0.05), batches=batches, max_steps=90, **options)

    run = minimized(loss, args=(0.01,), grad=has_gradient or "auto")
    same = minimized(lambda w, X, y: np.mean((X @ w - y) ** 2) + 0.01 * np.sum(w**2))
    np.testing.assert_allclose(run.x, same.x, rtol=1e-9)
    np.testing.assert_allclose(run.fun, same.fun, rtol=1e-9)


def test_iterate_and_resume_take_args_and_gradients(tmp_path):
    def f(x, a):
        return np.sum((x - a) ** 2), 2 * (x - a)

    options = {"args": (3.0,), "grad": True}
    run = kb.minimize(f, [0.0, 1.0], kb.SGD(lr=0.01), **options, max_steps=60)
    steps = list(kb.iterate(f, [0.0, 1.0], kb.SGD(lr=0.01), **options, max_steps=60))
    assert np.array_equal(steps[-1].x, run.x)
    kb.minimize(f, [0.0, 1.0], kb.SGD(lr=0.01), **options, max_steps=30, checkpoint=tmp_path / "c")
    again = kb.resume(tmp_path / "c", f, **options, max_steps=60)
    assert np.array_equal(again.x, run.x)
    assert again.nfev == run.nfev
    for missing, message in (({"args": 3.0}, "give grad="), ({"grad": True}, "does not take"),
                             ({"args": 4.0, "grad": True}, "not the function of the checkpoint")):  # fmt: skip
        with pytest.raises(InputError, match=message):
            kb.resume(tmp_path / "c", f, **missing)


@pytest.mark.parametrize(
    "optimizer",
    ["auto", "lbfgs", "gradientdescent", "conjugategradient", "barzilaiborwein", kb.RMSprop(lr=0.01), kb.SGD(lr=0.1)],
)
def test_an_f_with_its_gradient_is_called_once_a_point(optimizer):
    asked = []

    def f(x):
        asked.append(x.tobytes())
        return np.sum(np.cosh(x - 1)), np.sinh(x - 1)

    run = kb.minimize(f, [3.0, 2.0], optimizer, grad=True, max_steps=1000)
    assert len(asked) == len(set(asked)) == run.nfev == run.njev + 2  # two look at the gradient once
    assert run.gradient_source == "user"
    assert run.function(run.x) == run.fun
    assert run.status in (Status.converged, Status.max_steps)
    assert run.plot() is not None


@pytest.mark.parametrize(
    ("f", "grad", "error", "message"),
    [
        (lambda x: np.sum(x**2), True, FunctionError, r"grad=True wants f\(x\) to return \(value, gradient\), but"),
        (lambda x: (np.sum(x**2), None), True, FunctionError, r"wants f\(x\) to return \(value, gradient\)"),
        (lambda x: None, True, FunctionError, "returned None"),
        (lambda x: (2 * x, np.sum(x**2)), True, FunctionError, "returned an array of shape"),
        (lambda x: (np.sum(x**2), x[:1]), True, InputError, "the gradient that f returned has shape"),
        (lambda x: (np.sum(x**2), 2 * x), "auto", FunctionError, "minimize takes grad=True"),
        (lambda x: (np.sum(x**2), 2 * x), "central", FunctionError, "minimize takes grad=True"),
        (bowl, False, UnknownNameError, "gradient method False"),
        (bowl, np.ones(2), UnknownNameError, "gradient method array"),
    ],
)
def test_a_gradient_that_is_missing_or_not_expected(f, grad, error, message):
    with pytest.raises(error, match=message):
        kb.minimize(f, [1.0, 2.0], grad=grad)


def test_least_squares_want_an_f_that_returns_its_value_alone():
    with pytest.raises(InputError, match="leave the gradient and grad=True out"):
        kb.minimize(lambda x: (np.sum(x**2), 2 * x), [1.0, 2.0], kb.LevenbergMarquardt(), grad=True)
