"""The pictures: what is drawn is what the run and the function say. Checked on the artists, not on pixels."""

import base64
import copy
import io
import itertools
import json
import math
import re

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.quiver import Quiver
from PIL import Image

import koubai as kb
from koubai import plot
from koubai.derivatives.differences import derivative
from koubai.descent.loop import minimize
from koubai.descent.optimizers import SGD
from koubai.descent.record import Status
from koubai.errors import FunctionError, InputError
from koubai.functions.expression import parse
from koubai.functions.problems import problems
from koubai.parameters import Layout
from koubai.plot.field import GRID, GRID_POINTWISE, choose_levels, sample_grid, sample_line
from koubai.plot.style import number

PAIR = Layout(None, ((2,),), False, np.dtype(np.float64))
NUMBER = Layout(None, ((),), True, np.dtype(np.float64))


def bowl(x):
    return x[0] ** 2 + x[1] ** 2


def parabola(x):
    return (x - 1) ** 2


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def zigzag(x):
    return x[0] ** 2 / 20 + x[1] ** 2


def himmelblau(x):
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


RUNS = {
    "g1": lambda: minimize(parabola, -1.4761195622774732, SGD(lr=0.1), gtol=0.1),
    "5 steps": lambda: minimize(zigzag, [-7.0, 2.0], SGD(lr=0.95), max_steps=5),
    "50 steps": lambda: minimize(zigzag, [-7.0, 2.0], SGD(lr=0.95), max_steps=50),
    "5,000 steps": lambda: minimize(rosenbrock, [-1.2, 1.0], SGD(lr=0.0012), max_steps=5000),
    "5,000 steps 1-D": lambda: minimize(parabola, -3.0, SGD(lr=0.001), max_steps=5000),
    "one step": lambda: minimize(bowl, [-3.0, 4.0], SGD(lr=0.1), max_steps=1),
    "one step 1-D": lambda: minimize(parabola, 3.0, SGD(lr=0.1), max_steps=1),
    "no step": lambda: minimize(bowl, [0.0, 0.0]),
    "no step 1-D": lambda: minimize(parabola, 1.0),
    "along one axis": lambda: minimize(bowl, [1.0, 0.0], max_steps=10),
    "diverging": lambda: minimize(bowl, [-3.0, 4.0], SGD(lr=10), max_steps=100),
    "diverging 1-D": lambda: minimize(parabola, 3.0, SGD(lr=1.05), max_steps=1000),
    "unbounded": lambda: minimize(lambda x: x[1] ** 2 - x[0] ** 2, [0.5, 2.0], SGD(lr=0.1)),
    "nan in the window": lambda: minimize(
        lambda x: x[0] - np.log(x[0]) + (x[1] - 1) ** 2, [0.3, 3.0], SGD(lr=0.1), max_steps=50
    ),
    "nan in the window 1-D": lambda: minimize(lambda x: x - np.log(x), 0.1, SGD(lr=0.05), max_steps=50),
    "raises outside its domain": lambda: minimize(lambda x: x - math.log(x), 0.1, SGD(lr=0.05), max_steps=50),
    "dict": lambda: minimize(lambda p: (p["w"] * 2 + p["b"] - 3) ** 2 + p["b"] ** 2, {"w": -1.0, "b": 4.0}),
    "array of one": lambda: minimize(lambda x: (x[0] - 1) ** 2, [3.0]),
    "matrix": lambda: minimize(lambda x: np.sum((x - 1) ** 2), [[3.0, -2.0]]),
    "float32": lambda: minimize(bowl, np.array([3, 4], dtype=np.float32), SGD(lr=0.1), gtol=1e-2),
    "30,000 steps": lambda: minimize(bowl, [-3.0, 4.0], SGD(lr=1e-5), grad=lambda x: 2 * x, max_steps=30_000, gtol=0.0),
    "constant": lambda: minimize(lambda x: 3.0 + 0 * x[0], [1.0, 2.0]),
    "negative": lambda: minimize(lambda x: np.sum(x**4 - 16 * x**2 + 5 * x) / 2, [0.5, -1.0, 0.3], SGD(lr=0.01)),
    "huge": lambda: minimize(lambda x: 1e290 * np.sum(x**2), [1.0, 2.0, 3.0], SGD(lr=1e-300), max_steps=5),
}


@pytest.fixture(autouse=True)
def _clean():
    before = dict(matplotlib.rcParams)
    yield
    plt.close("all")
    assert dict(matplotlib.rcParams) == before, "a picture changed matplotlib's settings"


def arrows(ax):
    return [artist for artist in ax.get_children() if isinstance(artist, Quiver)]


def line(ax, label) -> Line2D:
    (found,) = [artist for artist in ax.get_lines() if str(artist.get_label()).startswith(label)]
    return found


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def slope_of(artist):
    (x0, x1), (y0, y1) = artist.get_xdata(), artist.get_ydata()
    return (y1 - y0) / (x1 - x0)


# -- every run can be drawn -------------------------------------------------------------------------------------------


@pytest.mark.sampled(13)
@pytest.mark.parametrize("name", RUNS)
def test_every_kind_of_run_is_drawn_and_left_unchanged(name):
    run = RUNS[name]()
    before = copy.deepcopy((run.x, run.jac, run.best_x, run.history))
    for draw in (plot.run, plot.convergence):
        ax = draw(run)
        ax.get_figure().canvas.draw()  # warnings are errors, those of the layout and the scales too
        assert ax.get_title()
    np.testing.assert_equal((run.x, run.jac, run.best_x, vars(run.history)), (*before[:3], vars(before[3])))


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: plot.run(RUNS["g1"](), ax=ax),
        lambda ax: plot.path_2d(RUNS["5 steps"](), ax=ax),
        lambda ax: plot.convergence(RUNS["g1"](), ax=ax),
        lambda ax: plot.tangent(parabola, 2.0, ax=ax),
        lambda ax: plot.difference_error(np.exp, 1.0, ax=ax),
        lambda ax: plot.gradient_field(bowl, (-1, 1), ax=ax),
    ],
)
def test_ax_is_drawn_on_and_pyplot_not_touched(draw):
    mine = Figure().add_subplot()
    assert draw(mine) is mine
    assert mine.get_title()
    assert plt.get_fignums() == []


def test_without_ax_one_figure_is_made_for_the_notebook_to_show():
    ax = plot.tangent(parabola, 2.0)
    assert plt.get_fignums() == [ax.get_figure().number]


@pytest.mark.parametrize("ax", [5, "ax", Figure()])
def test_something_else_than_axes_is_refused(ax):
    with pytest.raises(InputError, match="ax must be"):
        plot.tangent(parabola, 2.0, ax=ax)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (300.0, "300"),
        (-2000.0, "−2000"),
        (0.00199123, "0.001991"),
        (2.59e13, "2.59e13"),
        (-3.5e-7, "−3.5e−7"),
        (0.0, "0"),
    ],
)
def test_numbers_are_written_for_people(value, text):
    assert number(value) == text


# -- the path in one dimension ----------------------------------------------------------------------------------------


def test_1d_arrows_are_the_history():
    run = RUNS["g1"]()
    ax = plot.run(run)
    (quiver,) = arrows(ax)
    x, f = run.history.x, run.history.fun
    np.testing.assert_array_equal(quiver.XY, np.column_stack([x[:-1], f[:-1]]))
    np.testing.assert_array_equal(quiver.U, np.diff(x))
    np.testing.assert_array_equal(quiver.V, np.diff(f))
    assert (quiver.angles, quiver.scale_units, quiver.scale) == ("xy", "xy", 1)  # drawn to scale, from point to point
    assert line(ax, "start").get_xydata().tolist() == [[x[0], f[0]]]
    assert line(ax, "end").get_xydata().tolist() == [[x[-1], f[-1]]]
    grid, curve = line(ax, "f").get_data()
    np.testing.assert_array_equal(curve, parabola(grid))
    low, high = ax.get_xlim()
    assert low < x.min() < x.max() < high
    assert ax.get_ylim()[0] < f.min() < f.max() < ax.get_ylim()[1]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x", "f")
    assert "converged" in ax.get_title()
    assert "18 steps" in ax.get_title()


@pytest.mark.parametrize("name", ["5,000 steps", "5,000 steps 1-D"])
def test_a_long_path_is_a_line_through_every_point_with_a_few_heads(name):
    run = RUNS[name]()
    ax = plot.run(run)
    points = np.column_stack([run.history.x, run.history.fun]) if np.ndim(run.x) == 0 else run.history.x
    paths = [artist for artist in ax.get_lines() if len(artist.get_xdata()) == len(points)]
    assert any(np.array_equal(path.get_xydata(), points) for path in paths)
    (quiver,) = arrows(ax)
    assert 1 <= len(quiver.U) <= 8


def test_1d_path_that_runs_away_shows_its_beginning_and_says_so():
    run = RUNS["diverging 1-D"]()
    assert run.status is Status.diverged
    ax = plot.run(run)
    low, high = ax.get_xlim()
    inside = (run.history.x >= low) & (run.history.x <= high)
    assert 5 < inside.sum() < 50
    assert inside[:5].all()
    assert f"{(~inside).sum()} of {len(inside)} points" in ax.get_title()
    assert any("end" in text and "outside" in text for text in legend(ax))


def test_1d_bounds_and_minima():
    problem = problems["two_sines"]
    run = minimize(problem.f, problem.x0, SGD(lr=0.01))
    ax = plot.path_1d(run, bounds=problem.bounds, minima=problem.minima)
    assert ax.get_xlim() == problem.bounds[0]
    stars = line(ax, "known").get_xydata()
    np.testing.assert_allclose(stars, [(m.x, m.fun) for m in problem.minima], rtol=1e-9)


# -- the path in two dimensions ---------------------------------------------------------------------------------------


def test_2d_arrows_are_the_history():
    run = RUNS["50 steps"]()
    ax = plot.run(run)
    (quiver,) = arrows(ax)
    np.testing.assert_array_equal(quiver.XY, run.history.x[:-1])
    np.testing.assert_array_equal(np.column_stack([quiver.U, quiver.V]), np.diff(run.history.x, axis=0))
    assert (quiver.angles, quiver.scale_units, quiver.scale) == ("xy", "xy", 1)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x0", "x1")
    assert legend(ax) == ["start (−7, 2)", "end (−0.04759, 0.01031)"]
    for limits, column in zip((ax.get_xlim(), ax.get_ylim()), run.history.x.T, strict=True):
        assert limits[0] < column.min() < column.max() < limits[1]


def test_2d_all_known_minima_are_marked():
    problem = problems["himmelblau"]
    run = minimize(problem.f, [0.0, 0.0], SGD(lr=0.01))
    ax = plot.path_2d(run, minima=problem.minima)
    np.testing.assert_array_equal(line(ax, "known minima").get_xydata(), [m.x for m in problem.minima])
    same = plot.run(run, minima=[m.x for m in problem.minima])
    np.testing.assert_array_equal(line(same, "known minima").get_xydata(), [m.x for m in problem.minima])


def test_2d_minima_far_from_a_short_path_do_not_shrink_it():
    run = minimize(bowl, [0.01, 0.02])
    ax = plot.path_2d(run, minima=[(0.0, 0.0), (100.0, 0.0)])
    assert np.diff(ax.get_xlim()) < 1
    np.testing.assert_array_equal(line(ax, "known minimum").get_xydata(), [(0.0, 0.0)])


def test_2d_bounds_are_the_window():
    run = RUNS["5 steps"]()
    ax = plot.path_2d(run, bounds=((-10, 10), (-5, 5)))
    assert (ax.get_xlim(), ax.get_ylim()) == ((-10, 10), (-5, 5))
    assert "outside" not in ax.get_title()
    assert "outside" in plot.path_2d(run, bounds=(-5, 5)).get_title()


def test_2d_path_that_runs_away_shows_its_beginning_and_says_so():
    run = RUNS["diverging"]()
    assert run.status is Status.diverged
    ax = plot.run(run)
    assert np.diff(ax.get_xlim()) < 1000
    assert f"3 of {len(run.history)} points" in ax.get_title()


def test_2d_best_point_is_marked_where_it_is_not_the_end():
    run = minimize(lambda x: np.abs(x[0]) + 5 * np.abs(x[1]), [-2.0, 1.03], SGD(lr=0.13), max_steps=7)
    best = int(np.argmin(run.history.fun))
    assert 0 < best < 7
    ax = plot.run(run)
    assert line(ax, "best").get_xydata().tolist() == [run.best_x.tolist()]
    assert not [text for text in legend(plot.run(RUNS["50 steps"]())) if text.startswith("best")]


def test_2d_ground_without_a_value_is_named():
    ax = plot.run(RUNS["nan in the window"]())
    assert "f not finite" in legend(ax)
    assert "f not finite" not in legend(plot.run(RUNS["5 steps"]()))


def test_axes_carry_the_names_of_the_variables():
    ax = plot.run(minimize(parse("(u-1)**2 + (v-2)**2"), [0.0, 0.0]))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("u", "v")
    ax = plot.run(RUNS["dict"]())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("w", "b")


# -- the field --------------------------------------------------------------------------------------------------------


def filled(ax):
    (found,) = [c for c in ax.get_children() if isinstance(c, QuadContourSet) and c.filled]
    return found


def test_levels_are_log_spaced_where_f_spans_decades():
    contours = filled(plot.path_2d(RUNS["5 steps"](), bounds=(-10, 10)))
    assert isinstance(contours.norm, LogNorm)
    ratios = contours.levels[1:] / contours.levels[:-1]
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-12)
    assert contours.cmap.name == "viridis"


def test_levels_are_even_where_f_does_not():
    run = minimize(lambda x: x[0] + 2 * x[1], [1.0, 1.0], max_steps=3)
    contours = filled(plot.run(run))
    assert not isinstance(contours.norm, LogNorm)
    np.testing.assert_allclose(np.diff(contours.levels), np.diff(contours.levels)[0], rtol=1e-9)


def test_log_levels_of_a_negative_function_start_at_its_least_value():
    x = np.linspace(-3, 3, 100)
    values = np.exp(np.add.outer(x**2, x**2)) - 1000
    levels = choose_levels(values)
    assert levels.log
    assert levels.base == values.min()
    assert levels.label == "f + 999"
    assert choose_levels(values, least=-1000.0).base == -1000.0


def test_levels_of_a_pole_do_not_paint_the_rest_in_one_colour():
    x = np.linspace(-1, 1, 101)
    values = np.add.outer(x, x) + 0.0
    values[50, 50] = 1e30
    assert choose_levels(values).values[-1] < 10


def test_levels_do_not_magnify_rounding():
    rng = np.random.default_rng(0)
    levels = choose_levels(1e8 + 2e-6 * rng.random((50, 50)) ** 2)
    assert not levels.log


@pytest.mark.parametrize("values", [np.full((5, 5), 3.0), np.where(np.eye(5, dtype=bool), np.nan, -2.0)])
def test_levels_of_a_constant_ascend(values):
    assert (np.diff(choose_levels(values).values) > 0).all()


@pytest.mark.parametrize(
    ("f", "count"),
    [
        (bowl, GRID),
        (parse("x0**2 + x1**2"), GRID),
        (problems["himmelblau"].f, GRID),
        (lambda x: float(x[0]) ** 2 + float(x[1]) ** 2, GRID_POINTWISE),  # takes no grid
        (lambda x: x @ x, GRID_POINTWISE),  # means something else on a grid
        (lambda x: bowl(x) if x.sum() > 0 else -bowl(x), GRID_POINTWISE),  # one branch for all points at once
        (lambda x: bowl(x) / (1 + np.max(np.abs(x))), GRID_POINTWISE),  # looks at all points at once
    ],
)
def test_grid_values_are_those_of_single_calls(f, count):
    x0, x1, values = sample_grid(f, PAIR, np.array([[-2.0, 1.0], [-1.0, 3.0]]))
    assert values.shape == (count, count)
    rng = np.random.default_rng(1)
    for i, j in rng.integers(0, count, (50, 2)):
        assert values[i, j] == pytest.approx(f(np.array([x0[j], x1[i]])), rel=1e-12)


def test_grid_has_gaps_where_f_raises_or_is_not_finite():
    def f(x):
        if x[0] < 0:
            raise ValueError("outside")
        return np.inf if x[1] < 0 else 1.0

    x0, x1, values = sample_grid(f, PAIR, np.array([[-1.0, 1.0], [-1.0, 1.0]]))
    np.testing.assert_array_equal(np.isfinite(values), np.outer(x1 >= 0, x0 >= 0))


def test_a_function_that_writes_into_its_argument_is_sampled_rightly():
    def f(x):
        x *= 2
        return x[0] + x[1]

    x0, x1, values = sample_grid(f, PAIR, np.array([[0.0, 1.0], [0.0, 1.0]]))
    assert values.shape == (GRID, GRID)
    np.testing.assert_allclose(values, 2 * np.add.outer(x1, x0))


def test_line_values_are_those_of_single_calls():
    for f in (parabola, lambda x: math.exp(x)):
        x, values = sample_line(f, NUMBER, -1.0, 2.0)
        assert (x[0], x[-1]) == (-1.0, 2.0)
        np.testing.assert_allclose(values, [f(s) for s in x], rtol=1e-15)


# -- convergence ------------------------------------------------------------------------------------------------------


def test_convergence_draws_the_history():
    run = RUNS["g1"]()
    ax = plot.convergence(run)
    np.testing.assert_array_equal(line(ax, "f").get_xydata(), np.column_stack([run.history.t, run.history.fun]))
    np.testing.assert_array_equal(line(ax, "largest").get_ydata(), run.history.grad_norm)
    assert ax.get_yscale() == "log"
    assert "converged" in ax.get_title()
    assert "gtol" in ax.get_title()  # the reason


def test_convergence_of_a_negative_f_is_its_height_above_the_lowest():
    run = RUNS["negative"]()
    assert run.fun < -80
    ax = plot.convergence(run)
    height = line(ax, "f + ")
    np.testing.assert_array_equal(height.get_ydata(), run.history.fun - run.history.fun.min())
    assert ax.get_yscale() == "symlog"  # the lowest point itself has the height 0
    assert ax.get_ylim()[0] < 0 < ax.get_ylim()[1]


def test_convergence_of_an_f_that_falls_for_ever_shows_f_itself():
    run = RUNS["unbounded"]()
    assert run.status is Status.diverged
    ax = plot.convergence(run)
    np.testing.assert_array_equal(line(ax, "f").get_ydata(), run.history.fun)


def test_convergence_survives_zeros():
    run = minimize(bowl, [1.0, 1.0], SGD(lr=0.45), grad="central", gtol=0.0)
    assert run.history.grad_norm[-1] == 0  # x ± h are equally high
    ax = plot.convergence(run)
    assert ax.get_yscale() == "symlog"
    bottom, top = ax.get_ylim()
    assert next(tick for tick in ax.get_yticks() if bottom <= tick <= top) == 0  # shown, and nothing negative


def test_legend_stands_where_the_lines_are_not():
    run = minimize(bowl, [1.0, 1.0], SGD(lr=0.45), grad=lambda x: 2 * x, gtol=0.0, max_steps=300)
    ax = plot.convergence(run)  # both lines fall at the left and run along the bottom
    ax.get_figure().canvas.draw()
    box = ax.get_legend().get_window_extent()
    middle = ax.transAxes.inverted().transform([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2])
    assert (middle > 0.5).all()


def test_run_with_many_parameters_is_drawn_as_convergence():
    ax = plot.run(RUNS["negative"]())
    assert ax.get_xlabel() == "step"


# -- derivatives ------------------------------------------------------------------------------------------------------


def test_d4_tangent_of_the_cube_at_10():
    ax = plot.tangent(lambda x: x**3, 10)
    touching = line(ax, "tangent")
    assert touching.get_label() == "tangent: slope 300, intercept −2000"
    assert slope_of(touching) == pytest.approx(300, rel=1e-8)
    x, y = touching.get_xydata()[0]
    assert y - slope_of(touching) * x == pytest.approx(-2000, rel=1e-8)
    grid, curve = line(ax, "f").get_data()
    np.testing.assert_allclose(curve, grid**3, rtol=1e-15)
    assert ax.get_xlim()[0] < 10 < ax.get_xlim()[1]


def test_secants_turn_into_the_tangent_as_h_shrinks():
    steps = [0.1, 2.0, 0.5]
    ax = plot.tangent(lambda x: x**2, 1.0, h=steps)
    assert steps == [0.1, 2.0, 0.5]
    secants = [artist for artist in ax.get_lines() if str(artist.get_label()).startswith("secant")]
    np.testing.assert_allclose([slope_of(secant) for secant in secants], [4.0, 2.5, 2.1])  # x² at 1: 2 + h
    for secant, h in zip(secants, [2.0, 0.5, 0.1], strict=True):
        (x0, _), (y0, _) = secant.get_data()
        assert y0 + slope_of(secant) * (1 + h - x0) == pytest.approx((1 + h) ** 2)  # goes through x + h
    shades = [secant.get_alpha() for secant in secants]
    assert shades == sorted(shades)
    assert shades[-1] == 1
    assert "secant, h = 0.5: slope 2.5" in legend(ax)


def test_tangent_at_a_flat_point_has_slope_0_in_words_too():
    assert "tangent: slope 0, intercept 0" in legend(plot.tangent(parabola, 1.0))


def test_tangent_through_the_origin_has_intercept_0_in_words():
    slope = float(derivative(np.exp, 1.0))
    assert np.exp(1.0) - slope != 0  # the tangent of exp at 1 meets the origin, but for rounding
    assert "tangent: slope 2.71828, intercept 0" in legend(plot.tangent(np.exp, 1.0))


def test_tangent_names_the_variable_of_an_expression():
    ax = plot.tangent(parse("t**2"), 3.0)
    assert ax.get_xlabel() == "t"
    assert "t = 3" in ax.get_title()


@pytest.mark.parametrize("exact", [math.e, None])
def test_the_error_of_the_differences_is_v_shaped(exact):
    ax = plot.difference_error(np.exp, 1.0, exact=exact)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    for method, power in (("forward", 1), ("backward", 1), ("central", 2)):
        h, error = line(ax, method).get_data()
        middle = int(np.nanargmin(error))
        assert 0 < middle < len(h) - 1
        assert error[0] > 1e4 * error[middle]
        assert error[-1] > 1e4 * error[middle]
        best = derivative(np.exp, 1.0, method=method).h
        near = (h > best / 100) & (h < best * 100)
        assert h[near].min() < h[middle] < h[near].max()
        (marked,) = [
            m for m in ax.get_lines() if len(m.get_xdata()) == 1 and m.get_color() == line(ax, method).get_color()
        ]
        assert marked.get_xdata()[0] == best
        # right of the optimum the truncation rules: ∝ h or h²
        right = (h > 30 * best) & (h < 0.1)
        rate = np.polyfit(np.log(h[right]), np.log(error[right]), 1)[0]
        assert rate == pytest.approx(power, abs=0.1)


def test_the_error_is_that_of_the_public_derivative():
    ax = plot.difference_error(lambda x: x**2, 2.0, exact=4)
    h, error = line(ax, "forward").get_data()
    i = int(np.argmin(np.abs(h - 1e-4)))
    assert error[i] == pytest.approx(
        abs(float(derivative(lambda x: x**2, 2.0, method="forward", h=h[i])) - 4), rel=1e-12
    )
    assert error[0] == 4.0  # x + h == x: the difference is 0
    assert "x + h rounds to x" in legend(ax)


@pytest.mark.sampled(6)
@pytest.mark.filterwarnings("ignore:.*does not depend on its argument")
@pytest.mark.parametrize("f", [lambda x: 0.0 * x, lambda x: 7.0, lambda x: x**2])
def test_the_error_of_a_function_without_slope_is_drawn(f):
    ax = plot.difference_error(f, 0.0)
    ax.get_figure().canvas.draw()
    assert (line(ax, "central").get_ydata() > 0).all()


def test_d7_gradient_field():
    ax = plot.gradient_field(bowl, (-2, 2))
    (quiver,) = arrows(ax)
    np.testing.assert_allclose(np.column_stack([quiver.U, quiver.V]), 2 * quiver.XY, atol=1e-8)
    assert ax.get_title() == "The gradient ∇f"
    assert (ax.get_xlim(), ax.get_ylim()) == ((-2, 2), (-2, 2))
    assert filled(ax)


def test_downhill_field_is_the_negative_gradient_and_says_so():
    ax = plot.gradient_field(bowl, ((-2, 2), (-1, 1)), gradient=lambda x: 2 * x, downhill=True)
    (quiver,) = arrows(ax)
    np.testing.assert_allclose(np.column_stack([quiver.U, quiver.V]), -2 * quiver.XY)
    assert "−∇f" in ax.get_title()


def test_field_of_very_unequal_gradients_shows_directions_and_says_so():
    problem = problems["rosenbrock"]
    ax = plot.gradient_field(problem.f, problem.bounds, gradient=problem.grad)
    (quiver,) = arrows(ax)
    np.testing.assert_allclose(np.hypot(quiver.U, quiver.V), 1)
    assert "direction only" in ax.get_title()


def test_field_has_no_arrows_where_f_has_no_value():
    ax = plot.gradient_field(lambda x: x[1] - np.log(x[0]), ((-1, 3), (-1, 3)))
    (quiver,) = arrows(ax)
    assert len(quiver.U) > 0
    assert (quiver.X > 0).all()
    assert "f not finite" in legend(ax)


def test_field_is_drawn_where_f_raises_in_the_middle_of_the_window():
    ax = plot.gradient_field(lambda x: x[1] - math.log(x[0]), ((-3, 1), (-1, 3)))
    (quiver,) = arrows(ax)
    assert (quiver.X > 0).all()


# -- bad input --------------------------------------------------------------------------------------------------------

ONE, TWO, THREE = "one step 1-D", "one step", "negative"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: plot.run(3), "run must be a Run"),
        (lambda: plot.convergence([1, 2]), "run must be a Run"),
        (lambda: plot.path_1d(RUNS[TWO]()), "path_1d draws a run of 1 parameter, this one has 2"),
        (lambda: plot.path_2d(RUNS[THREE]()), "path_2d draws a run of 2 parameters, this one has 3"),
        (lambda: plot.path_1d(RUNS[ONE](), bounds=(2, 1)), "bounds must be finite with low below high"),
        (lambda: plot.path_1d(RUNS[ONE](), bounds=(0, np.inf)), "bounds must be finite"),
        (lambda: plot.path_2d(RUNS[TWO](), bounds=(1, 2, 3)), "bounds have shape"),
        (lambda: plot.path_2d(RUNS[TWO](), bounds="wide"), "bounds must be"),
        (lambda: plot.path_2d(RUNS[TWO](), minima=[(1, 2, 3)]), "minima must hold points of 2"),
        (lambda: plot.path_2d(RUNS[TWO](), minima=["here"]), "minima must hold points of 2"),
        (lambda: plot.path_2d(RUNS[TWO](), minima=[(np.nan, 0)]), "finite"),
        (lambda: plot.tangent(parabola, [1.0, 2.0]), "x must be one number"),
        (lambda: plot.tangent(parabola, np.nan), "x must be finite"),
        (lambda: plot.tangent(parabola, "two"), "x is"),
        (lambda: plot.tangent(parabola, 2.0, h=1e-50), "x \\+ h == x"),
        (lambda: plot.tangent(parabola, 2.0, h=0), "x \\+ h == x"),
        (lambda: plot.tangent(parabola, 2.0, h=[1.0, np.nan]), "h must be finite"),
        (lambda: plot.difference_error(np.exp, 1.0, exact=np.inf), "exact must be finite"),
        (lambda: plot.difference_error(np.exp, 1.0, exact=[1.0]), "exact must be one number"),
        (lambda: plot.difference_error(lambda x: 1.0 if x == 1 else np.nan, 1.0), "give it as exact"),
        (lambda: plot.gradient_field(bowl, (1, 1)), "bounds must be finite with low below high"),
        (lambda: plot.gradient_field(bowl, (-1, 1), gradient=lambda x: x[0]), "gradient\\(x\\) has shape"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(InputError, match=words):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: plot.tangent(lambda x: None, 1.0),
        lambda: plot.tangent(np.log, -1.0),
        lambda: plot.tangent(np.log, 1.0, h=-2.0),
        lambda: plot.gradient_field(lambda x: x, (-1, 1)),
        lambda: plot.gradient_field(lambda x: None, (-1, 1)),
        lambda: plot.gradient_field(lambda x: np.log(x[0] + x[1]), (-2, -1)),
        lambda: plot.gradient_field(bowl, (-1, 1), gradient=lambda x: x * np.nan),
    ],
)
def test_a_function_that_gives_no_number_is_named(call):
    with pytest.raises(FunctionError):
        call()


def test_a_function_that_raises_everywhere_is_not_an_empty_picture():
    def broken(x):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        plot.gradient_field(broken, (-1, 1))
    with pytest.raises(ZeroDivisionError, match="mine"):
        plot.gradient_field(bowl, (-1, 1), gradient=broken)


# -- learning rates and mini-batches ----------------------------------------------------------------------------------


def test_schedules_are_drawn_as_they_are():
    ax = Figure().add_subplot()
    given = [kb.schedules.cosine(0.1, steps=50), kb.schedules.warmup(kb.schedules.exponential(0.1, 0.98), steps=10)]
    assert kb.schedules.plot(*given, steps=60, ax=ax) is ax
    assert len(ax.lines) == 2
    for line, schedule in zip(ax.lines, given, strict=True):
        assert line.get_xdata().tolist() == list(range(60))
        assert list(line.get_ydata()) == [schedule(t) for t in range(60)]
        assert line.get_label() == repr(schedule)


@pytest.mark.parametrize(("given", "steps"), [((), 10), ((0.1,), 10), ((kb.schedules.constant(0.1),), 1)])
def test_what_is_no_schedule_is_refused(given, steps):
    with pytest.raises(InputError, match=r"schedules|steps"):
        kb.plot.schedules(*given, steps=steps)


def test_a_stochastic_run_shows_its_epochs():
    ax = Figure().add_subplot()
    data = kb.nn.batches(np.arange(20.0), size=5)
    run = kb.minimize(lambda w, rows: np.mean((w - rows) ** 2), 0.0, kb.SGD(lr=0.05), batches=data, max_steps=16)
    run.plot(ax=ax)
    (epochs,) = [line for line in ax.lines if line.get_label() == "mean loss of an epoch"]
    assert epochs.get_xdata().tolist() == run.history.epochs.t.tolist()
    assert epochs.get_ydata().tolist() == run.history.epochs.fun.tolist()


# -- moving pictures --------------------------------------------------------------------------------------------------

MOVING = ["g1", "50 steps", "5,000 steps", "no step", "diverging", "diverging 1-D", "unbounded", "dict", "matrix",
          "nan in the window", "raises outside its domain"]  # fmt: skip


@pytest.mark.sampled(11)
@pytest.mark.parametrize("name", MOVING)
def test_a_moving_picture_grows_the_path_and_ends_as_the_run_is_drawn(name, tmp_path):
    run = RUNS[name]()
    target = run.animate(tmp_path / "path.gif")
    assert list(tmp_path.iterdir()) == [target]
    with Image.open(target) as film:
        assert 1 < film.n_frames <= min(len(run.history), 100) + 1
        shown = []
        for k in range(film.n_frames):
            film.seek(k)
            shown.append(np.asarray(film.convert("RGB"), dtype=float))
        assert film.info["duration"] > 1000  # there is time to look at the end
    assert all((one != other).any() for one, other in itertools.pairwise(shown))
    canvas = FigureCanvasAgg(Figure(figsize=(7.2, 5.4), dpi=100, layout="constrained"))
    plot.run(run, ax=canvas.figure.add_subplot())
    canvas.draw()
    still = np.asarray(canvas.buffer_rgba())[..., :3].astype(float)
    assert np.abs(shown[-1] - still).mean() < 3  # but for a palette of 256 colours


def test_a_page_shows_what_the_gif_shows_and_needs_nothing_else(tmp_path):
    run = RUNS["50 steps"]()
    with Image.open(run.animate(tmp_path / "path.gif")) as film:
        shown = []
        for k in range(film.n_frames):
            film.seek(k)
            shown.append(np.asarray(film.convert("RGB"), dtype=int))
    target = run.animate(tmp_path / "path.html")
    page = target.read_text(encoding="utf-8")
    assert target.stat().st_size < 5e6
    assert not re.search(r"@[A-Z]+@|https?:|src=[\"']", page)

    def picture(data):
        return Image.open(io.BytesIO(base64.b64decode(data)))

    ground = picture(re.search(r'const ground = "(.*?)"', page)[1]).convert("RGBA")
    patches = json.loads(re.search(r"const patches = (.*?);  //", page)[1])
    assert len(patches) == len(shown)
    assert patches[-1] == [0, 0, ""]
    for (left, top, data), frame in zip(patches, shown, strict=True):
        whole = ground.copy()
        if data:
            whole.alpha_composite(picture(data), (left, top))
        np.testing.assert_array_equal(np.asarray(whole.convert("RGB"), dtype=int), frame)


@pytest.mark.parametrize(
    ("run", "path", "message"),
    [
        ("10-D", "path.gif", "1 or 2 parameters; this run has 10 parameters: draw run.plot"),
        ("batches", "path.gif", "this run has mini-batches"),
        ("g1", "path.mp4", r"must end in \.gif"),
        ("g1", "nowhere/path.gif", "does not exist"),
    ],
)
def test_a_moving_picture_that_can_not_be(run, path, message, tmp_path):
    runs = {
        "10-D": lambda: minimize(lambda x: np.sum(x**2), np.ones(10), SGD(lr=0.1)),
        "batches": lambda: minimize(lambda x, y: np.sum((x - y) ** 2), [0.0, 0.0], SGD(lr=0.1), max_steps=4,
                                    batches=[np.ones(2)]),
        "g1": RUNS["g1"],
    }  # fmt: skip
    with pytest.raises(InputError, match=message):
        runs[run]().animate(tmp_path / path)
    with pytest.raises(InputError, match="run must be a Run"):
        plot.animate("run", tmp_path / "path.gif")


def test_a_run_down_to_the_smallest_numbers_is_drawn():
    """The largest number over the smallest one is beyond all numbers, and both lie on one axis."""
    run = kb.minimize(lambda x: 50 * x @ x, [1.0, 10.0], kb.SGD(lr=0.0175), max_steps=8000, gtol=0)
    assert 0 < np.median(run.history.grad_norm) < 1e-315
    assert not run.history.fun.min()
    ax = kb.plot.convergence(run)
    ax.figure.canvas.draw()
    low, high = ax.get_ylim()
    assert -1e-260 < low < 0
    assert 5000 < high < 1e40
