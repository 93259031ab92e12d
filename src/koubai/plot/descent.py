"""Pictures of a descent: its path on the curve, its path over contours, f and the gradient against the step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from koubai.descent.record import Run, Status
from koubai.diagnosis import diagnose
from koubai.errors import InputError
from koubai.parameters import FloatArray, Layout
from koubai.plot.comparison import compare, drawn_before, mark_minima, paths, reason_of, remember, run_label, thin
from koubai.plot.field import (
    draw_field,
    gaps_of,
    height,
    label_axes,
    read_ranges,
    sample_line,
    sample_points,
    set_aspect,
)
from koubai.plot.fitting import finish
from koubai.plot.network import training_curves
from koubai.plot.scales import count_along, log_scale
from koubai.plot.style import BEST, CURVE, DARK, END, PATH, START, THIRD, axes_for, halo, number
from koubai.plot.text import counted, said, spoken, status_name
from koubai.plot.window import MARGIN, beginning, fill, include, layout_of, minima_of, points_of, surround, within

__all__ = ["convergence", "path_1d", "path_2d", "run"]

ARROWS = 100  # a path of at most so many steps shows each of them as an arrow; a longer one is a line with a few heads
HEADS = 8  # at most, and one for each tenth of the picture's width


def run(
    run: Run, *, minima: Iterable[Any] = (), title: str | None = None, legend: bool = True, ax: Axes | None = None
) -> Axes:
    """Run: the picture that suits the descent: `path_1d` for one parameter, `path_2d` for two, else `convergence`.

    A stochastic descent is drawn as `convergence`: no single curve belongs to its mini-batches; the training of a
    network as `training_curves`. A second run on the same ``ax`` joins the first one: the picture becomes that of
    `paths`, or of `compare`.

    Parameters
    ----------
    run : Run
        The descent.
    minima : iterable, default ()
        Known minima to mark: points, or objects with the point as ``.x``, such as those of a Problem.
    title : str, optional
        None says what ran, where it ended and why, "" leaves it out.
    legend : bool, default True
        False leaves it out.
    ax : Axes, optional
        What to draw on; a new figure by default.

    Returns
    -------
    Axes
        The picture.

    Raises
    ------
    InputError
        If ``run`` is not a Run or ``ax`` not an Axes.

    Examples
    --------
    >>> run = kb.minimize(lambda x: (x[0] - 1) ** 2 + (x[1] - 2) ** 2, [-3.0, 4.0], lr=0.1)
    >>> kb.plot.run(run).get_xlabel()
    'x0'
    """
    size = layout_of(run).size
    if run.history.epochs is not None and run.history.epochs.layers and len(run.history.epochs):
        return training_curves(run, title=title, legend=legend, ax=ax)
    if size > 2 or run.history.epochs is not None:
        return convergence(run, title=title, legend=legend, ax=ax)
    return (path_1d if size == 1 else path_2d)(run, minima=minima, title=title, legend=legend, ax=ax)


def path_1d(
    run: Run,
    *,
    bounds: Any = None,
    minima: Iterable[Any] = (),
    title: str | None = None,
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Path in one dimension: every step as an arrow on the curve of f.

        (x_t, f(x_t)) → (x_{t+1}, f(x_{t+1}))

    A path of more than 100 steps is a line with a few arrow heads; one that crosses itself again and again a thin line.

    Parameters
    ----------
    run : Run
        A descent of one parameter.
    bounds : (low, high), optional
        The window; None shows the whole path with the minima near it, or, if it runs away, its readable beginning, and
        the title says how much lies outside.
    minima : iterable, default ()
        Known minima to mark: points, or objects with the point as ``.x``, such as those of a Problem.
    title : str, optional
        None says what ran, where it ended and why, "" leaves it out.
    legend : bool, default True
        False leaves it out.
    ax : Axes, optional
        What to draw on; a new figure by default. A second run on the same axes joins the first one.

    Returns
    -------
    Axes
        The picture.

    Raises
    ------
    InputError
        For a run with more than one parameter and for unusable bounds or minima.

    Examples
    --------
    >>> run = kb.minimize(lambda x: (x - 1) ** 2, -3.0, lr=0.1)
    >>> kb.plot.path_1d(run, minima=[1.0]).get_xlabel()
    'x'
    """
    layout = layout_of(run, 1, "path_1d")
    minima = list(minima)
    known = minima_of(minima, layout)
    given = None if bounds is None else read_ranges(bounds, 1)
    if (joint := drawn_before(ax, run, "path")) is not None:
        return paths(**_with(joint, bounds, minima), title=title, legend=legend, ax=ax)
    x, fun = points_of(run, layout)[:, 0], np.clip(run.history.fun, -1e300, 1e300)
    window = surround(beginning(run, x[:, np.newaxis]), MARGIN + 0.1)
    low, high = (include(window, known) if given is None else given)[0]
    known = known[(known >= low) & (known <= high)]
    stars = np.column_stack([known, sample_points(run.function, layout, known[np.newaxis])])
    stars = stars[np.isfinite(stars[:, 1])]
    ax = axes_for(ax)
    before = set(ax.get_children())
    grid, curve = sample_line(run.function, layout, low, high)
    points = np.column_stack([x, fun])
    inside = (x >= low) & (x <= high)
    ax.set_xlim(low, high)
    ax.set_ylim(*height(curve, np.concatenate([fun[inside], stars[:, 1]])))
    ax.plot(
        grid, curve, color=CURVE, linewidth=2, solid_capstyle="butt", path_effects=halo(2, 0.5), label="f", zorder=2
    )
    _draw_path(ax, points, zorder=3)
    _mark_ends(ax, run, points, layout, inside, zorder=5)
    mark_minima(ax, stars, zorder=4)
    label_axes(ax, run.function, layout, "f")
    ax.grid(alpha=0.25)
    remember(ax, before, "path", {"": run}, [run], None, bounds=bounds, minima=minima)
    finish(ax, *_title(run, _beyond(run, inside)), title=title, legend=legend)
    return ax


def path_2d(
    run: Run,
    *,
    bounds: Any = None,
    minima: Iterable[Any] = (),
    title: str | None = None,
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Path in two dimensions: the steps over filled contours of f, with start, end, best and known minima.

    The levels are log-spaced if f spans decades. Grey ground: f has no finite value there.

    Parameters
    ----------
    run : Run
        A descent of two parameters.
    bounds : (low, high), or a pair for each element of x, optional
        The window; None shows the whole path with the minima near it, or, if it runs away, its readable beginning, and
        the title says how much lies outside.
    minima : iterable, default ()
        Known minima to mark: points, or objects with the point as ``.x``, such as those of a Problem.
    title : str, optional
        None says what ran, where it ended and why, "" leaves it out.
    legend : bool, default True
        False leaves it out.
    ax : Axes, optional
        What to draw on; a new figure by default. A second run on the same axes joins the first one.

    Returns
    -------
    Axes
        The picture.

    Raises
    ------
    InputError
        For a run that does not have two parameters and for unusable bounds or minima.

    Examples
    --------
    >>> run = kb.minimize(lambda x: (x[0] - 1) ** 2 + (x[1] - 2) ** 2, [-3.0, 4.0], lr=0.1)
    >>> [float(end) for end in kb.plot.path_2d(run, bounds=(-4, 6)).get_xlim()]
    [-4.0, 6.0]
    """
    layout = layout_of(run, 2, "path_2d")
    points = points_of(run, layout)
    minima = list(minima)
    known = minima_of(minima, layout)
    given = None if bounds is None else read_ranges(bounds, 2)
    if (joint := drawn_before(ax, run, "path")) is not None:
        return paths(**_with(joint, bounds, minima), title=title, legend=legend, ax=ax)
    ranges = fill(include(surround(beginning(run, points)), known)) if given is None else given
    ax = axes_for(ax)
    before = set(ax.get_children())
    inside = within(points, ranges)
    least = float(run.history.fun[inside].min(initial=np.inf))
    field = draw_field(ax, run.function, layout, ranges, least)
    ax.set_xlim(*ranges[0])
    ax.set_ylim(*ranges[1])
    set_aspect(ax, ranges)
    _draw_path(ax, points, zorder=3)
    _mark_ends(ax, run, points, layout, inside, zorder=5)
    mark_minima(ax, known[within(known, ranges)], zorder=4)
    label_axes(ax, run.function, layout)
    remember(ax, before, "path", {"": run}, [run], None, bounds=bounds, minima=minima)
    finish(ax, *_title(run, _beyond(run, inside)), title=title, legend=legend, extra=gaps_of(field))
    return ax


def convergence(run: Run, *, title: str | None = None, legend: bool = True, ax: Axes | None = None) -> Axes:
    """Convergence: f and the largest |component of the gradient| against the step, on one logarithmic scale.

    If f goes below zero, its height above the lowest f of the run is drawn instead, and the legend says so (but not
    if f falls without bound). A scale that must hold zero or negative values is linear around zero.
    A stochastic descent shows the mini-batches' losses, and over them the mean loss of each epoch.

    Parameters
    ----------
    run : Run
        The descent.
    title : str, optional
        None says why the descent stopped, "" leaves it out.
    legend : bool, default True
        False leaves it out.
    ax : Axes, optional
        What to draw on; a new figure by default. A second run on the same axes joins the first one.

    Returns
    -------
    Axes
        The picture.

    Raises
    ------
    InputError
        If ``run`` is not a Run or ``ax`` not an Axes.

    Examples
    --------
    >>> run = kb.minimize(lambda x: (x[0] - 1) ** 2 + (x[1] - 2) ** 2, [-3.0, 4.0], lr=0.1)
    >>> kb.plot.convergence(run).get_xlabel()
    'step'
    """
    layout_of(run)
    if (joint := drawn_before(ax, run, "loss")) is not None:
        return compare(**joint, title=title, legend=legend, ax=ax)
    history = run.history
    fun, label = history.fun, "f" if history.epochs is None else said("batch_f")
    least = float(fun[np.isfinite(fun)].min(initial=np.inf))
    if least < 0 and run.status is not Status.diverged:
        fun, label = fun - least, said("f_above", base=number(-least))
    ax = axes_for(ax)
    before = set(ax.get_children())
    marker = "o" if len(history) <= 40 else ""
    drawn = []
    for values, color, style, name in (
        (fun, CURVE, "-", label),
        (history.grad_norm, PATH, "--", said("largest_gradient")),
    ):
        y = np.where(np.isfinite(values), np.clip(values, -1e300, 1e300), np.nan)
        ax.plot(history.t, y, color=color, linestyle=style, linewidth=2, marker=marker, markersize=5,
                markeredgecolor=DARK, solid_capstyle="butt", path_effects=halo(2, 0.5), label=name)  # fmt: skip
        drawn.append(y)
    if history.epochs is not None and len(history.epochs.t):
        means = history.epochs.fun - (least if label.startswith("f +") else 0.0)
        ax.plot(history.epochs.t, means, color=THIRD, linewidth=2.5, marker="s", markersize=6, markeredgecolor=DARK,
                path_effects=halo(2.5, 0.8), label=said("epoch_mean"), zorder=4)  # fmt: skip
    ax.set_ylabel(said("f_and_gradient"))
    log_scale(ax, np.concatenate(drawn))
    count_along(ax, said("step"))
    remember(ax, before, "loss", {"": run}, [run], None)
    finish(ax, *_title(run), title=title, legend=legend)
    return ax


# -- drawing ----------------------------------------------------------------------------------------------------------


def _draw_path(ax: Axes, points: FloatArray, zorder: float) -> None:
    """Draw every step as an arrow, or, if they are many or a tangle, one line with a few heads."""
    if len(points) < 2:
        return
    linewidth, alpha = thin(ax, points, 1.6)
    if len(points) - 1 <= ARROWS and alpha == 1:
        _arrows(ax, points[:-1], np.diff(points, axis=0), 0.022, zorder, scale_units="xy", scale=1)
        return
    ax.plot(*points.T, color=PATH, linewidth=linewidth, alpha=alpha, zorder=zorder,
            path_effects=halo(linewidth, 0.6) if alpha == 1 else None)  # fmt: skip
    if alpha < 1:  # where it was can be shown, and how it begins
        ax.plot(*points.T, linestyle="", marker="o", markersize=2.2, color=PATH, markeredgecolor=DARK,
                markeredgewidth=0.2, zorder=zorder)  # fmt: skip
        points = points[:4]
        ax.plot(*points.T, color=PATH, linewidth=1.6, path_effects=halo(1.6, 0.6), zorder=zorder)
    rows = _spaced(ax, points)
    steps = np.diff(points, axis=0)[rows]
    middles = points[rows] + steps / 2
    steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    _arrows(ax, middles, steps, 0.03, zorder, scale_units="inches", scale=5, pivot="mid")


def _arrows(ax: Axes, tails: FloatArray, steps: FloatArray, width: float, zorder: float, **how: Any) -> None:
    ax.quiver(
        *tails.T, *steps.T, angles="xy", color=PATH, edgecolor=DARK, linewidth=0.6, units="inches", width=width,
        headwidth=5, headlength=6, headaxislength=5.5, zorder=zorder, **how,
    )  # fmt: skip


def _spaced(ax: Axes, points: FloatArray) -> Any:
    """Return rows of steps spaced evenly along the visible part of the path, as it looks in the picture."""
    inside = ax.transAxes.inverted().transform(ax.transData.transform(points))
    visible: Any = ((inside >= 0) & (inside <= 1)).all(axis=1)
    length = np.linalg.norm(np.diff(inside, axis=0), axis=1) * (visible[:-1] & visible[1:])
    along = np.cumsum(length)
    if not along[-1] > 0:
        return np.array([], dtype=np.int64)
    count = int(np.clip(along[-1] / 0.1, 1, HEADS))
    return np.unique(np.searchsorted(along, along[-1] * (np.arange(count) + 0.5) / count))


def _mark_ends(ax: Axes, run: Run, points: FloatArray, layout: Layout, inside: Any, zorder: float) -> None:
    """Mark start and end, and the best point if it is neither of them."""
    best = int(np.argmin(run.history.fun))
    marks = [(said("start"), 0, START, "o"), (said("end"), len(points) - 1, END, "s")]
    others = min(run.history.fun[0], run.history.fun[-1])
    if others - run.history.fun[best] > 1e-9 * abs(others):  # else it hides behind them: a path that swings without end
        marks.insert(1, (said("best"), best, BEST, "D"))
    for label, row, color, marker in marks:
        where = ", ".join(number(v) for v in points[row, : layout.size])
        text = f"{label} ({where})" if layout.size > 1 else f"{label} x = {where}"
        ax.plot(*points[row], linestyle="", marker=marker, markersize=8, markerfacecolor=color, markeredgecolor=DARK,
                label=text if inside[row] else said("outside", point=text), zorder=zorder)  # fmt: skip


def _beyond(run: Run, inside: Any) -> str:
    """Return the row from which on the path is outside the window, as text; empty if it never is."""
    if inside.all():
        return ""
    outside, first = np.count_nonzero(~inside), run.history.t[np.argmin(inside)]
    return said("beyond", outside=outside, count=len(inside), first=first)


def _title(run: Run, note: str = "") -> tuple[str, ...]:
    """Say what ran, where it ended and why."""
    reason = f"{status_name(run.status.name)}: {reason_of(run)}{_fault(run)}"
    return f"{run_label(run)}, {counted('steps', run.nit)}, f = {number(run.fun)}", reason, note


def _fault(run: Run) -> str:
    """Return what `koubai.diagnose` finds wrong, and what to try, as the end of a sentence; empty if nothing is."""
    try:
        found = diagnose(run, lang=spoken())
    except InputError:  # loaded without its function
        return ""
    if not found.is_fault:
        return ""
    if not found.remedy:
        return said("fault", title=found.title)
    return said("fault_remedy", title=found.title, remedy=found.remedy)


def _with(joint: Mapping[str, Any], bounds: Any, minima: list[Any]) -> dict[str, Any]:
    """Return what a joint picture is drawn with, if the last run brings bounds or minima of its own."""
    return {
        **joint,
        "bounds": joint["bounds"] if bounds is None else bounds,
        "minima": [*joint["minima"], *(one for one in minima if one not in joint["minima"])],
    }
