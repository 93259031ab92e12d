"""What the pictures say can be read: nothing is cut off, collides or hides a path, and several runs are told apart."""

import importlib.util
import itertools
import pickle
import shutil
import sys
import warnings
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver
from matplotlib.text import Text

import koubai as kb
from koubai import cli, plot
from koubai.errors import FunctionError, InputError
from koubai.plot import text as fonts
from koubai.plot.scales import roundest
from koubai.plot.style import look


def bowl(x):
    return x[0] ** 2 + x[1] ** 2


def parabola(x):
    return (x - 1) ** 2


def ten(x):
    return np.sum(np.arange(1, 11) * x**2)


def valley(x):
    return x[0] ** 2 / 20 + x[1] ** 2


def rastrigin(x):
    return 10 * np.size(x) + np.sum(x**2 - 10 * np.cos(2 * np.pi * x))


def run(f, x0, lr, optimizer=kb.SGD, **how):
    return kb.minimize(f, x0, optimizer(lr=lr), **how)


RUNS = {
    "1-D": lambda: run(parabola, -3.0, 0.1),
    "2-D": lambda: run(bowl, [-3.0, 4.0], 0.1),
    "10-D": lambda: run(ten, np.ones(10), 0.01),
    "diverged 1-D": lambda: run(parabola, 3.0, 1.05),
    "diverged 2-D": lambda: run(bowl, [-3.0, 4.0], 10),
    "diverged 10-D": lambda: run(ten, np.ones(10), 0.11),
    "too slow": lambda: run(bowl, [-3.0, 4.0], 1e-10, max_steps=100),
    "unbounded": lambda: run(lambda x: x[1] ** 2 - x[0] ** 2, [0.5, 2.0], 0.1),
    "100,000 steps": lambda: run(valley, [-7.0, 2.0], 1e-5, max_steps=100_000, gtol=0.0),
}


def below_a_run(axes):
    plot.run(RUNS["1-D"](), ax=axes[0, 0])
    return axes[1, 0]


LAYOUTS = {
    "alone": lambda: Figure(layout="constrained").add_subplot(),
    "small": lambda: Figure(figsize=(3.2, 2.8), layout="constrained").add_subplot(),
    "2 × 3": lambda: Figure(figsize=(12, 8), layout="constrained").subplots(2, 3)[0, 1],
    "1 × 3, tight": lambda: Figure(figsize=(12, 4), layout="tight").subplots(1, 3)[1],
    "1 × 2, no layout": lambda: Figure(figsize=(10, 5)).subplots(1, 2)[0],
    "2 × 2, no layout": lambda: below_a_run(Figure(figsize=(9, 7)).subplots(2, 2)),
}


@pytest.fixture(autouse=True)
def _clean():
    before = dict(mpl.rcParams)
    yield
    plt.close("all")
    assert dict(mpl.rcParams) == before, "a picture changed matplotlib's settings"


def box(artist):
    return artist.get_window_extent(artist.get_figure().figure.canvas.get_renderer())


def drawn(ax):
    figure = ax.get_figure().figure
    if not hasattr(figure.canvas, "get_renderer"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        FigureCanvasAgg(figure)
    figure.canvas.draw()
    return ax


def texts(ax):
    """Every text of ``ax`` that shows."""
    off = [] if ax.axison else [*ax.xaxis.findobj(Text), *ax.yaxis.findobj(Text)]
    for axis in (axis for one in (ax, *ax.child_axes) for axis in (one.xaxis, one.yaxis)):
        low, high = sorted(axis.get_view_interval())
        off += [tick.label1 for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high]
    return [t for t in ax.findobj(Text) if t not in off and t.get_visible() and t.get_text().strip() and box(t).width]


def overlapping(artists, slack=1.0):
    boxes = [(a.get_text(), box(a)) for a in artists]
    return [
        (one, other) for (one, a), (other, b) in itertools.combinations(boxes, 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > slack and min(a.y1, b.y1) - max(a.y0, b.y0) > slack
    ]  # fmt: skip


def outside(ax, artists):
    edge = ax.get_figure().figure.bbox
    boxes = [(a, box(a)) for a in artists]
    return [
        (str(a), b.extents) for a, b in boxes
        if b.x0 < edge.x0 - 1 or b.y0 < edge.y0 - 1 or b.x1 > edge.x1 + 1 or b.y1 > edge.y1 + 1
    ]  # fmt: skip


def hidden_marks(ax):
    """The start, end and best points that the legend covers."""
    cover = box(ax.get_legend())
    marks = [line for line in ax.lines if line.get_linestyle() == "None"]
    return [m.get_label() for m in marks if any(cover.contains(*ax.transData.transform(p)) for p in m.get_xydata())]


def said(ax):
    return " ".join(ax.get_title().split())


# -- titles and legends in every kind of subplot ----------------------------------------------------------------------


@pytest.mark.sampled(19)
@pytest.mark.parametrize(("name", "layout"), [*itertools.product(RUNS, LAYOUTS)][::2])
def test_the_whole_diagnosis_and_the_legend_fit_every_subplot(name, layout):
    descent = RUNS[name]()
    ax = drawn(plot.run(descent, ax=LAYOUTS[layout]()))
    assert descent.message in said(ax)
    assert outside(ax, [ax.title, ax.xaxis.label, ax.yaxis.label]) == []
    assert ax.title.get_fontsize() >= 5
    if ax.get_legend().get_visible():
        assert outside(ax, [ax.get_legend()]) == []
        assert hidden_marks(ax) == []


def test_titles_of_neighbours_do_not_meet():
    figure = Figure(figsize=(12, 8), layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    for ax, name in zip(axes, RUNS, strict=False):
        plot.run(RUNS[name](), ax=ax)
    drawn(axes[0])
    assert overlapping([ax.title for ax in axes]) == []
    assert [outside(ax, [ax.title, ax.get_legend()]) for ax in axes] == [[]] * 6


def test_a_subplot_without_a_layout_leaves_room_and_still_takes_one():
    figure = Figure(figsize=(9, 7))
    axes = figure.subplots(2, 2).ravel()
    for ax, name in zip(axes, ("1-D", "diverged 2-D", "too slow", "diverged 10-D"), strict=True):
        plot.run(RUNS[name](), ax=ax)
    for lay_out in (lambda: None, figure.tight_layout):  # warnings are errors
        lay_out()
        drawn(axes[0])
        shown = [text for ax in axes for text in (ax.title, ax.xaxis.label, ax.yaxis.label)]
        assert overlapping(shown) == []
        assert [outside(ax, [ax.title]) for ax in axes] == [[]] * 4
        assert all("…" not in ax.get_title() for ax in axes)


def test_a_title_follows_its_axes_to_another_size_and_leaves_the_users_alone():
    ax = plot.run(RUNS["diverged 2-D"]())
    for size in ((3, 3), (12, 4), (5, 8)):
        ax.figure.set_size_inches(size)
        drawn(ax)
        assert outside(ax, [ax.title]) == []
    ax.set_title("mine", fontsize=20)
    drawn(ax)
    assert (ax.get_title(), ax.title.get_fontsize()) == ("mine", 20)


NETWORK = {}


def training():
    if not NETWORK:
        X, y = kb.nn.moons(80, seed=0)
        network = kb.nn.Network([kb.nn.Dense(8), kb.nn.Tanh(), kb.nn.Dense(2)], kb.nn.CrossEntropy(), seed=0)
        NETWORK["run"] = network.fit(X, y, kb.Adam(lr=0.02), epochs=4, batch_size=20)
    return NETWORK["run"]


TITLED = {
    "run": lambda **how: plot.run(RUNS["2-D"](), **how),
    "Run.plot": lambda **how: RUNS["10-D"]().plot(**how),
    "path_1d": lambda **how: plot.path_1d(RUNS["1-D"](), **how),
    "path_2d": lambda **how: plot.path_2d(RUNS["2-D"](), **how),
    "convergence": lambda **how: plot.convergence(RUNS["2-D"](), **how),
    "training_curves": lambda **how: plot.training_curves(training(), **how),
    "gradient_norms": lambda **how: plot.gradient_norms(training(), **how),
    "gradient_by_depth": lambda **how: plot.gradient_by_depth({"one": training()}, **how),
    "paths": lambda **how: plot.paths([RUNS["2-D"](), RUNS["diverged 2-D"]()], **how),
    "compare": lambda **how: plot.compare([RUNS["2-D"](), RUNS["10-D"]()], **how),
    "tangent": lambda **how: plot.tangent(parabola, 2.0, **how),
    "difference_error": lambda **how: plot.difference_error(np.exp, 1.0, **how),
    "gradient_field": lambda **how: plot.gradient_field(bowl, (-4, 4), at=(1, 2), **how),
}


@pytest.mark.sampled(12)
@pytest.mark.parametrize("name", TITLED)
def test_title_and_legend_are_as_asked_for(name):
    ax = TITLED[name]()
    assert ax.get_title()
    assert ax.get_legend() is not None
    ax = TITLED[name](title="Mine, with a $", legend=False)
    assert ax.get_title() == "Mine, with a $"
    assert ax.get_legend() is None
    assert TITLED[name](title="").get_title() == ""
    drawn(ax)


def test_a_picture_can_be_pickled_whatever_its_function():
    ax = plot.run(kb.minimize(lambda x: x[0] ** 2 + x[1] ** 2, [1.0, 2.0]))
    copy = pickle.loads(pickle.dumps(ax.figure)).axes[0]
    drawn(copy)
    assert copy.get_title() == drawn(ax).get_title()


# -- several runs -----------------------------------------------------------------------------------------------------


def legend(ax):
    return [t.get_text().replace("\n", " ") for t in ax.get_legend().get_texts()]


def lines_of(ax, count):
    """The lines of the runs: those with a row in the legend that say where they ended."""
    found = [line for line in ax.lines if "steps, f = " in str(line.get_label())]
    assert len(found) == count
    return found


def test_paths_of_several_runs_are_told_apart_and_in_one_window():
    runs = [run(valley, [-7.0, 2.0], lr, max_steps=40) for lr in (0.1, 0.5, 0.95)]
    ax = drawn(plot.paths(runs, minima=[(0.0, 0.0)]))
    found = lines_of(ax, 3)
    for one, line in zip(runs, found, strict=True):
        np.testing.assert_array_equal(line.get_xydata(), one.history.x)
    for what in ("color", "marker", "linestyle"):
        assert len({str(getattr(line, f"get_{what}")()) for line in found}) == 3
    every = np.concatenate([one.history.x for one in runs])
    for (low, high), column in zip((ax.get_xlim(), ax.get_ylim()), every.T, strict=True):
        assert low < column.min() < column.max() < high
    assert legend(ax)[:3] == [
        f"lr {lr}: SGD(lr={lr}), 40 steps, f = {plot.style.number(one.fun)}, max steps"
        for lr, one in zip((0.1, 0.5, 0.95), runs, strict=True)
    ]
    assert [t.get_text() for t in ax.texts] == ["lr 0.1", "lr 0.5", "lr 0.95"]
    assert len(arrows_and_fields(ax)) == 0


def arrows_and_fields(ax):
    return [artist for artist in ax.get_children() if isinstance(artist, Quiver)]


def test_paths_in_one_dimension_are_on_one_curve():
    runs = {"left": run(parabola, -3.0, 0.1), "right": run(parabola, 6.0, 0.3)}
    ax = drawn(plot.paths(runs))
    for one, line in zip(runs.values(), lines_of(ax, 2), strict=True):
        np.testing.assert_array_equal(line.get_xydata(), np.column_stack([one.history.x, one.history.fun]))
    assert ax.get_xlim()[0] < -3 < 6 < ax.get_xlim()[1]
    assert legend(ax)[0] == "f"
    assert len(legend(ax)) == 3


def test_a_run_that_runs_away_does_not_shrink_the_others():
    tame = run(bowl, [-3.0, 4.0], 0.1)
    ax = plot.paths([tame, run(bowl, [-3.0, 4.0], 10), run(bowl, [3.0, 4.0], 1.2)])
    assert np.ptp(ax.get_xlim()) < 20
    assert ["outside after step" in row for row in legend(ax)] == [False, True, True]
    ax = drawn(plot.compare([tame, run(bowl, [-3.0, 4.0], 10)]))
    assert ax.get_ylim()[1] <= 25 * 1e3
    assert "diverged" in legend(ax)[1]


@pytest.mark.sampled(12)
@pytest.mark.parametrize("count", [2, 8, 12])
@pytest.mark.parametrize("draw", [plot.paths, plot.compare])
def test_labels_of_many_runs_stay_inside_and_apart(draw, count):
    rng = np.random.default_rng(count)
    runs = [run(valley, rng.uniform(-5, 5, 2), 0.2, max_steps=60) for _ in range(count)]
    ax = drawn(draw(runs))
    labels = [t for t in ax.texts if t.get_visible()]
    assert len(labels) >= min(count, 6)
    assert overlapping(labels, 0) == []
    inside = ax.bbox.padded(1)
    assert [t for t in labels if not (inside.contains(*box(t).min) and inside.contains(*box(t).max))] == []
    assert outside(ax, [ax.get_legend(), ax.title]) == []
    assert len(legend(ax)) == count


def test_no_two_looks_are_the_same():
    looks = [tuple(look(i).values()) for i in range(32)]
    assert len(set(looks)) == 32
    assert len({colour for colour, _, _ in looks[:8]}) == 8
    assert len({(marker, style) for _, marker, style in looks[:8]}) == 8  # in grey too


F = {
    "SGD": kb.SGD(lr=0.1),
    "Adam": kb.Adam(lr=0.1),
    "slow": kb.SGD(lr=0.01),
    "heavy": kb.Momentum(lr=0.1, momentum=0.5),
}


@pytest.mark.sampled(10)
@pytest.mark.parametrize(
    ("runs", "labels"),
    [
        ([("SGD", 1.0), ("Adam", 1.0)], ["SGD", "Adam"]),
        ([("SGD", 1.0), ("slow", 1.0)], ["lr 0.1", "lr 0.01"]),
        ([("SGD", 1.0), ("SGD", -2.0)], ["from (1, 2)", "from (−2, 2)"]),
        ([("SGD", 1.0), ("slow", 1.0), ("Adam", 1.0)], ["SGD, lr 0.1", "SGD, lr 0.01", "Adam, lr 0.1"]),
        ([("SGD", 1.0), ("SGD", 1.0)], ["SGD 1", "SGD 2"]),
    ],
)
def test_labels_are_what_tells_the_runs_apart(runs, labels):
    made = [kb.minimize(bowl, [x, 2.0], F[name], max_steps=5) for name, x in runs]
    for draw in (plot.paths, plot.compare):
        assert [t.get_text() for t in draw(made).texts] == labels
        mine = [f"run {i}" for i in range(len(made))]
        assert [t.get_text() for t in draw(made, labels=mine).texts] == mine
        assert [t.get_text() for t in draw(dict(zip(mine, made, strict=True))).texts] == mine


def test_losses_that_go_below_zero_are_drawn_above_the_common_lowest():
    def f(x):
        return np.sum(x**4 - 16 * x**2 + 5 * x) / 2

    runs = [run(f, [0.5, -1.0, 0.3], 0.01), run(f, [0.5, -1.0, 0.3], 0.02, kb.Adam, max_steps=30)]
    ax = drawn(plot.compare(runs))
    least = min(one.history.fun.min() for one in runs)
    assert "height above the lowest" in ax.get_ylabel()
    assert ax.get_yscale() == "log"
    for one, line in zip(runs, lines_of(ax, 2), strict=True):
        height = one.history.fun - least
        np.testing.assert_array_equal(line.get_ydata(), np.where(height > 0, height, np.nan))


def test_trainings_are_compared_by_epoch():
    ax = drawn(plot.compare({"a": training(), "b": RUNS["2-D"]()}))
    np.testing.assert_array_equal(lines_of(ax, 2)[0].get_ydata(), training().history.epochs.fun)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: plot.paths([]), "runs is empty"),
        (lambda: plot.paths(RUNS["2-D"]()), "list of runs or a dict"),
        (lambda: plot.compare(7), "list of runs or a dict"),
        (lambda: plot.compare([RUNS["2-D"](), 3]), r"runs\[1\] must be a Run"),
        (lambda: plot.compare({"a": 3}), r"runs\['a'\] must be a Run"),
        (lambda: plot.paths([RUNS["2-D"](), RUNS["1-D"]()], labels=["a", "b"]), "'a' has 2 parameters, 'b' has 1"),
        (lambda: plot.paths([RUNS["10-D"]()]), "1 or 2 parameters.*compare draws the losses"),
        (lambda: plot.paths([RUNS["2-D"](), run(valley, [1.0, 1.0], 0.1)], labels=["a", "b"]), "'b' descended another"),
        (lambda: plot.paths([training()]), "mini-batches|1 or 2 parameters"),
        (lambda: plot.paths([RUNS["2-D"]()], labels=["a", "b"]), "labels must be 1 different names"),
        (lambda: plot.paths([RUNS["2-D"]()] * 2, labels=["a", "a"]), "labels must be 2 different names"),
        (lambda: plot.paths({"a": RUNS["2-D"]()}, labels=["b"]), "keys of the dict"),
        (lambda: plot.paths([RUNS["2-D"]()], bounds=(2, 1)), "bounds must be finite with low below high"),
        (lambda: plot.paths([RUNS["2-D"]()], minima=[(1, 2, 3)]), "minima must hold points of 2"),
        (lambda: plot.compare([RUNS["2-D"]()], ax=3), "ax must be a matplotlib Axes"),
    ],
)
def test_runs_that_do_not_fit_are_named(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_one_function_written_twice_is_one_function():
    runs = [kb.minimize(f, [x, 1.0], kb.SGD(lr=0.1)) for f, x in ((lambda x: x @ x, 3.0), (bowl, -2.0))]
    plot.paths(runs)


# -- a second run on the same axes ------------------------------------------------------------------------------------


def test_a_second_run_joins_the_first_and_leaves_the_users_artists():
    ax = Figure(layout="constrained").add_subplot()
    mine = ax.plot([0, 1], [0, 1], label="mine")[0], ax.text(0.5, 0.5, "note")
    first, second = run(bowl, [-3.0, 4.0], 0.1), run(bowl, [5.0, -4.0], 0.1, kb.Momentum)
    first.plot(ax=ax)
    second.plot(ax=ax)
    second.plot(ax=ax)  # it is there already
    drawn(ax)
    lines_of(ax, 2)
    every = np.concatenate([first.history.x, second.history.x])
    for (low, high), column in zip((ax.get_xlim(), ax.get_ylim()), every.T, strict=True):
        assert low < column.min() < column.max() < high
    assert [row.partition("(")[0] for row in legend(ax)] == ["mine", "SGD", "Momentum"]
    assert all(artist in ax.get_children() for artist in mine)
    assert len(ax.child_axes) == 1  # one scale of colours
    run(bowl, [5.0, 4.0], 0.1, kb.Adam).plot(ax=ax)
    lines_of(ax, 3)


@pytest.mark.parametrize(
    ("first", "second", "xlabel"),
    [
        (lambda: run(parabola, -3.0, 0.1), lambda: run(parabola, 7.0, 0.3), "x"),
        (lambda: run(ten, np.ones(10), 0.01), lambda: run(ten, np.ones(10), 0.1, kb.Adam), "step"),
        (training, lambda: run(ten, np.ones(10), 0.01), "step"),
    ],
)
def test_every_picture_of_a_run_takes_up_a_second_one(first, second, xlabel):
    ax = Figure(layout="constrained").add_subplot()
    for made in (first(), second()):
        assert made.plot(ax=ax) is ax
    drawn(ax)
    lines_of(ax, 2)
    assert ax.get_xlabel() == xlabel
    assert len(legend(ax)) == len(set(legend(ax)))


def test_a_run_of_another_function_does_not_take_the_first_off():
    ax = Figure().add_subplot()
    run(bowl, [-3.0, 4.0], 0.1).plot(ax=ax)
    before = ax.get_children()
    with pytest.raises(InputError, match="descended another"):
        run(valley, [-3.0, 4.0], 0.1).plot(ax=ax)
    assert ax.get_children() == before


# -- derivatives ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "x", "rows", "words"),
    [
        (np.abs, 0.0, ["tangent from the left: slope −1, intercept 0", "tangent from the right: slope 1, intercept 0"],
         "The one-sided tangents of f at x = 0 f has a kink"),
        (lambda x: np.abs(x - 1) + x, 1.0,
         ["tangent from the left: slope 0, intercept 1", "tangent from the right: slope 2, intercept −1"], "kink"),
        (lambda x: np.abs(x) ** 0.5, 0.0, [], "No tangent of f at x = 0 f has a kink"),
        (np.sign, 0.0, [], "No tangent of f at x = 0 f jumps"),
        (lambda x: x**3, 10.0, ["tangent: slope 300, intercept −2000"], "The tangent of f at x = 10"),
    ],
)  # fmt: skip
def test_a_tangent_is_drawn_where_there_is_one(f, x, rows, words):
    ax = drawn(plot.tangent(f, x))
    assert [row for row in legend(ax) if row.startswith("tangent")] == rows
    assert words in said(ax)


def test_one_sided_tangents_end_at_the_kink():
    ax = plot.tangent(np.abs, 0.0)
    left, right = (line for line in ax.lines if str(line.get_label()).startswith("tangent"))
    assert left.get_xdata().max() == 0 == right.get_xdata().min()
    np.testing.assert_allclose(left.get_ydata(), np.abs(left.get_xdata()))
    np.testing.assert_allclose(right.get_ydata(), np.abs(right.get_xdata()))


@pytest.mark.parametrize("downhill", [False, True])
def test_a_gradient_field_marks_the_point(downhill):
    ax = drawn(plot.gradient_field(bowl, (-8, 8), at=(3, 4), downhill=downhill))
    assert legend(ax) == ["∇f = (6, 8) at (3, 4)"]
    (point,) = ax.lines
    assert point.get_xydata().tolist() == [[3.0, 4.0]]
    arrow = arrows_and_fields(ax)[-1]
    assert arrow.XY.tolist() == [[3.0, 4.0]]
    np.testing.assert_allclose([*arrow.U, *arrow.V], np.array([0.6, 0.8]) * (-1 if downhill else 1), rtol=1e-6)


@pytest.mark.parametrize(
    ("at", "error", "words"),
    [
        ((9, 0), InputError, "at must lie inside bounds"),
        ((1, 2, 3), InputError, "at must be a point of 2 numbers"),
        ((-1, 0), FunctionError, "not finite"),
    ],
)
def test_a_point_that_can_not_be_marked_is_named(at, error, words):
    with pytest.raises(error, match=words):
        plot.gradient_field(lambda x: x[1] + np.log(x[0]), (-8, 8), at=at)


def test_the_command_marks_the_point_that_it_is_asked_for(monkeypatch, capsys):
    saved = []
    monkeypatch.setattr(cli, "_save", lambda path, draw: saved.append(draw(Figure().add_subplot())))
    cli.app(["gradient", "x**2 + y**2", "--at", "3,4", "-o", "field.png"], standalone_mode=False)
    assert legend(saved[0]) == ["∇f = (6, 8) at (3, 4)"]
    assert "d/dx = 6.0" in capsys.readouterr().out


# -- paths that cross themselves --------------------------------------------------------------------------------------


@pytest.mark.sampled(8)
@pytest.mark.parametrize("steps", [80, 1000])
@pytest.mark.parametrize("x0", [2.2, [2.2, -3.1]])
def test_an_oscillating_path_is_no_blob_of_arrows(x0, steps):
    descent = run(rastrigin, x0, 0.01, max_steps=steps)
    ax = drawn(descent.plot())
    (heads,) = arrows_and_fields(ax)
    assert len(heads.U) <= 8
    points = descent.history.x if np.ndim(x0) else np.column_stack([descent.history.x, descent.history.fun])
    (path,) = [line for line in ax.lines if np.array_equal(line.get_xydata(), points) and line.get_linestyle() == "-"]
    assert path.get_alpha() < 0.75
    assert path.get_linewidth() < 1


def test_a_path_that_goes_to_and_fro_on_one_line_is_drawn_in_full():
    ax = run(lambda x: np.abs(x[0]) + 5 * np.abs(x[1]), [-2.0, 1.03], 0.13, max_steps=2000).plot()
    path = next(line for line in ax.lines if len(line.get_xdata()) == 2001)
    assert path.get_alpha() == 1


# -- many layers, many classes ----------------------------------------------------------------------------------------


@pytest.mark.sampled(12)
@pytest.mark.parametrize("place", ["alone", "2 × 3"])
@pytest.mark.parametrize("layers", [3, 20])
@pytest.mark.parametrize("draw", [plot.activations, plot.weights])
def test_layers_do_not_collide(draw, layers, place):
    rng = np.random.default_rng(0)
    outputs = {f"{i} Dense(200)": rng.normal(size=(50, 20)) * (rng.random((50, 20)) > 0.3) for i in range(layers)}
    ax = drawn(draw(outputs, ax=None if place == "alone" else LAYOUTS[place]()))
    assert overlapping(texts(ax)) == []
    assert outside(ax, texts(ax)) == []


@pytest.mark.sampled(11)
@pytest.mark.parametrize("place", ["alone", "2 × 3"])
@pytest.mark.parametrize("name", ["{}", "class number {}"])
@pytest.mark.parametrize("count", [3, 60])
def test_classes_do_not_collide(count, name, place):
    rng = np.random.default_rng(0)
    y = np.concatenate([np.arange(count), rng.integers(0, count, 500)])
    guess = np.where(rng.random(len(y)) < 0.8, y, rng.integers(0, count, len(y)))
    classes = [name.format(i) for i in range(count)]
    ax = drawn(plot.confusion(y, guess, classes=classes, ax=None if place == "alone" else LAYOUTS[place]()))
    assert overlapping(texts(ax)) == []
    assert outside(ax, texts(ax)) == []


# -- scales -----------------------------------------------------------------------------------------------------------

SCALED = {
    "tiny rate 1-D": lambda: run(parabola, -3.0, 1e-10, max_steps=50).plot(),
    "tiny rate 2-D": lambda: run(bowl, [-3.0, 4.0], 1e-10, max_steps=50).plot(),
    "tiny rate, not round": lambda: run(bowl, [-1.23456789, 1e5 + 0.1], 1e-13, max_steps=50).plot(),
    "tiny rate 10-D": lambda: run(ten, np.ones(10), 1e-10, max_steps=50).plot(),
    "tiny rates": lambda: plot.compare([run(ten, np.ones(10), lr, max_steps=50) for lr in (1e-10, 2e-10)]),
    "unbounded": lambda: plot.convergence(RUNS["unbounded"]()),
    "unbounded, late": lambda: plot.convergence(run(lambda x: np.sum(x**3), [-0.1, -0.1], 0.01)),
    "unbounded, slowly": lambda: plot.convergence(run(lambda x: np.sum(x), np.ones(5), 0.1, max_steps=500)),
    "below zero": lambda: plot.convergence(run(lambda x: np.sum(x**4 - 16 * x**2 + 5 * x), [0.5, -1.0], 0.005)),
    "far out": lambda: run(bowl, [-3e7, 4e7], 0.1).plot(),
}


@pytest.mark.sampled(10)
@pytest.mark.parametrize("name", SCALED)
def test_ticks_are_read_without_an_offset_and_do_not_collide(name):
    ax = drawn(SCALED[name]())
    for axis in (ax.xaxis, ax.yaxis):
        assert axis.get_offset_text().get_text() == ""
        low, high = sorted(axis.get_view_interval())
        ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        shown = [t.label1 for t in ticks if low <= t.get_loc() <= high and t.label1.get_text()]
        assert len({t.get_text() for t in shown}) == len(shown) >= 2
        assert overlapping(shown, 0) == []


def test_narrow_windows_say_what_their_ticks_are_less():
    ax = drawn(SCALED["tiny rate 2-D"]())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x0 + 3", "x1 − 4")
    assert ax.child_axes[0].get_ylabel() == "f − 25"
    assert "2e−8" in [t.get_text() for t in ax.get_xticklabels()]


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (-3.0000001, -2.9, -3.0),
        (1.23456789, 1.23456795, 1.2345679),
        (-1.0, 1.0, 0.0),
        (0.0, 0.0, 0.0),
        (99.9, 100.1, 100.0),
    ],
)
def test_the_roundest_number_between(low, high, wanted):
    assert roundest(low, high) == pytest.approx(wanted, abs=1e-12)


# -- Japanese ---------------------------------------------------------------------------------------------------------


def japanese(ax=None):
    descent = kb.minimize(lambda p: (p["重み"] - 1) ** 2 + p["切片"] ** 2, {"重み": -1.0, "切片": 4.0}, kb.SGD(lr=0.1))
    return descent.plot(ax=ax, title="勾配降下法")


def test_text_that_no_font_has_is_told_of_once(monkeypatch):
    monkeypatch.setattr(fonts, "_candidates", lambda: iter(()))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        japanese()
    (one,) = told
    assert set("重み切片勾配降下法") <= set(str(one.message))
    assert "pip install matplotlib-fontja" in str(one.message)
    assert one.filename == __file__


def test_text_takes_the_font_of_an_installed_package(monkeypatch, tmp_path):
    """A package with a font is looked into, not imported; rcParams stay (see _clean)."""
    source = Path(mpl.get_data_path()) / "fonts" / "ttf" / "STIXNonUni.ttf"
    (tmp_path / "a_font" / "fonts").mkdir(parents=True)
    (tmp_path / "a_font" / "__init__.py").write_text("raise RuntimeError('imported')")
    shutil.copy(source, tmp_path / "a_font" / "fonts" / "other.ttf")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(fonts, "PACKAGES", ("a_font",))
    ax = plot.run(RUNS["2-D"](), title="\ue000 of it")  # a character that only this font has
    drawn(ax)  # a missing glyph would warn, and warnings are errors
    assert "a_font" not in sys.modules
    assert "STIXNonUnicode" in ax.title.get_fontfamily()


@pytest.mark.skipif(
    not any(fonts._has([name], "勾") for name in fonts._candidates()), reason="no Japanese font is installed"
)
def test_japanese_is_drawn_everywhere():
    ax = drawn(japanese())
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("重み", "切片", "勾配降下法")
    drawn(plot.paths([RUNS["2-D"](), RUNS["diverged 2-D"]()], labels=["確率的勾配降下法", "発散"]))
    drawn(plot.confusion([0, 1, 1], [0, 1, 0], classes=["猫", "犬"]))


def test_lines_without_spaces_are_wrapped():
    font = mpl.font_manager.FontProperties(size=10)
    lines = fonts.wrap("abcdefghij" * 20, 100, font)
    assert "".join(lines) == "abcdefghij" * 20
    assert max(fonts.text_width(line, font) for line in lines) <= 100
    assert fonts.wrap("one two  three", 1000, font) == ["one two  three"]


# -- the chart of the README ------------------------------------------------------------------------------------------


def test_the_chart_of_speed_has_no_label_twice_and_none_over_another():
    path = Path(__file__).parents[1] / "benchmarks" / "report.py"
    spec = importlib.util.spec_from_file_location("report_of_speed", path)
    report = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = report
    spec.loader.exec_module(report)
    del sys.modules[spec.name]
    (ax,) = report.chart().axes
    drawn(ax)
    names = [t.get_text() for t in ax.get_yticklabels()]
    assert len(set(names)) == len(names)
    assert overlapping([*ax.get_yticklabels(), *ax.texts], 0) == []
    assert outside(ax, [*ax.get_yticklabels(), *ax.texts]) == []
