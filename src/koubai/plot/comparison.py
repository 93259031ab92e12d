"""Pictures of several descents: their paths on one field or curve, their losses on one axes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from koubai.descent.record import Run, Status
from koubai.errors import InputError
from koubai.messages import reason
from koubai.parameters import FloatArray, Layout, flatten
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
from koubai.plot.fitting import Fitting, along, finish
from koubai.plot.scales import count_along, log_scale
from koubai.plot.style import DARK, LIGHT, axes_for, halo, look, number
from koubai.plot.text import counted, said, spoken, status_name
from koubai.plot.window import MARGIN, beginning, fill, include, layout_of, minima_of, points_of, surround, within

__all__ = ["compare", "drawn_before", "mark_minima", "paths", "reason_of", "remember", "run_label", "thin"]

CELL, AROUND, CROWDED = 4.0, 3, 0.42  # pixels; cells on each side of one; the share of full ones that is a tangle
PROBES = 5  # points of each path at which the runs' functions are compared
STEPS, MARKS = 40, 10  # a path of at most so many steps marks each of them, a longer one so many points
HIGH = 1e3  # a loss more than so many times as high as all starts is outside the picture


def paths(
    runs: Sequence[Run] | Mapping[str, Run],
    *,
    labels: Sequence[str] | None = None,
    bounds: Any = None,
    minima: Iterable[Any] = (),
    title: str | None = None,
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Paths: several descents of one function on its curve (one parameter) or over its contours (two).

    Each run has its own colour, mark and line style; the empty mark is its start, the full one its end, beside
    which its name is written; the legend has one row for each.

    Parameters
    ----------
    runs : list of Run, or a dict of name → Run
        The descents of one function.
    labels : list of str, optional
        Their names, if runs is a list; None takes what tells the runs apart: the optimizer, else the rate, else the
        start.
    bounds : (low, high), or a pair for each element of x, optional
        The window; None holds every path, and of one that runs away the start.
    minima : iterable, default ()
        Known minima to mark: points, or objects with the point as ``.x``, such as those of a Problem.
    title : str, optional
        None says which run came lowest, "" leaves it out.
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
        For runs of different functions or sizes, or of more than two parameters.

    Examples
    --------
    >>> bowl = kb.problems["shifted_bowl"].f
    >>> runs = [kb.minimize(bowl, [-3.0, 4.0], name, max_steps=20) for name in ("sgd", "adam")]
    >>> kb.plot.paths(runs, labels=["plain", "adaptive"]).get_xlabel()
    'x0'
    """
    named = _named(runs, labels)
    layout = _one_layout(named)
    f = _one_function(named, layout)
    ways = [points_of(run, layout) for run in named.values()]
    minima = list(minima)
    known = minima_of(minima, layout)
    flat = layout.size == 2
    if bounds is None:
        ranges = include(_window(named.values(), ways, MARGIN if flat else MARGIN + 0.1), known)
        ranges = fill(ranges) if flat else ranges
    else:
        ranges = read_ranges(bounds, layout.size)
    ax = axes_for(ax)
    before = set(ax.get_children())
    visible = known[within(known, ranges)]
    gaps: list[Patch] = []
    if flat:
        least = min(float(run.history.fun[within(way, ranges)].min(initial=np.inf)) for run, way in _pairs(named, ways))
        field = draw_field(ax, f, layout, ranges, least)
        set_aspect(ax, ranges)
        gaps = gaps_of(field)
        rows = ways
    else:
        visible = np.column_stack([visible, sample_points(f, layout, visible.T)])
        visible = visible[np.isfinite(visible[:, 1])]
        grid, curve = sample_line(f, layout, *ranges[0])
        rows = [np.column_stack([way, np.clip(run.history.fun, -1e300, 1e300)]) for run, way in _pairs(named, ways)]
        shown = np.concatenate([row[within(way, ranges), 1] for row, way in zip(rows, ways, strict=True)])
        ax.set_xlim(*ranges[0])
        ax.set_ylim(*height(curve, np.concatenate([shown, visible[:, 1]])))
        ax.plot(grid, curve, color="#707070", linewidth=1.2, label="f", zorder=2)
        ax.grid(alpha=0.25)
    fitting = Fitting.of(ax)
    for i, ((label, run), way, row) in enumerate(zip(named.items(), ways, rows, strict=True)):
        inside = within(way, ranges)
        if len(beginning(run, way)) < len(way) and not inside.all():  # to where it leaves the window for good
            row = row[: int(np.flatnonzero(inside)[-1]) + 2] if inside.any() else row[:2]
        _draw(ax, row, i, f"{_row(label, run)}{_leaves(run, inside)}")
        if inside.any():
            fitting.label(label, row[-1 if inside[-1] else max(int(np.argmin(inside)) - 1, 0)])
    mark_minima(ax, visible, zorder=4)
    label_axes(ax, f, layout, *(() if flat else ("f",)))
    remember(ax, before, "path", named, runs, labels, bounds=bounds, minima=minima)
    finish(ax, f"{_count(named)}: {_lowest(named)}", title=title, legend=legend, extra=gaps, beside=len(named) > 3)
    return ax


def compare(
    runs: Sequence[Run] | Mapping[str, Run],
    *,
    labels: Sequence[str] | None = None,
    title: str | None = None,
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Compare: the losses of several descents, of any functions, against the step, on a logarithmic scale.

    If one of them goes below zero, their heights above the lowest f of all are drawn (of all but those that fall
    without bound), and the axis says so. Of a stochastic descent it is the mean loss of each epoch. A loss that runs
    away leaves the picture a thousand times above the highest start.

    Parameters
    ----------
    runs : list of Run, or a dict of name → Run
        The descents.
    labels : list of str, optional
        Their names, if runs is a list; None takes what tells the runs apart: the optimizer, else the rate, else the
        start.
    title : str, optional
        None says which run came lowest, "" leaves it out.
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
        For anything that is not a Run, and for names that do not fit.

    Examples
    --------
    >>> runs = {name: kb.minimize(lambda x: x**2, 1.0, name, max_steps=20) for name in ("sgd", "adam")}
    >>> kb.plot.compare(runs).get_ylabel()
    'loss'
    """
    named = _named(runs, labels)
    losses = {label: _losses(run) for label, run in named.items()}
    tame = [run.status is not Status.diverged for run in named.values()]
    if not any(tame):
        tame = [run.status is not Status.diverged or run.fun > run.history.fun[0] for run in named.values()]
    kept = [f[np.isfinite(f)] for (_, f), counts in zip(losses.values(), tame, strict=True) if counts]
    least = min((float(f.min()) for f in kept if f.size), default=0.0)
    base = least if least < 0 else 0.0
    start = max((float(f[0] - base) for _, f in losses.values() if len(f) and np.isfinite(f[0])), default=1.0)
    ax = axes_for(ax)
    before = set(ax.get_children())
    fitting = Fitting.of(ax)
    drawn = []
    for i, (label, run) in enumerate(named.items()):
        t, f = losses[label]
        y = np.where(np.isfinite(f) & (f > base), np.clip(f, -1e280, 1e280) - base, np.nan)
        style = look(i)
        apart = max(1, len(t) // MARKS) if len(t) > STEPS else 1
        ax.plot(t, y, **style, linewidth=2, markevery=(i * apart * 3 // 8 % apart, apart), markersize=6,
                markeredgecolor=DARK, solid_capstyle="butt", path_effects=halo(2, 0.5), label=_row(label, run),
                zorder=3)  # fmt: skip
        seen = np.flatnonzero(np.isfinite(y) & (y <= HIGH * start if start > 0 else True))
        if seen.size:
            fitting.label(label, (t[seen[-1]], y[seen[-1]]))
        drawn.append(y)
    heights = np.concatenate(drawn)
    heights = heights[np.isfinite(heights)]
    if start > 0 and heights.size and heights.max() > HIGH * start:
        ax.set_ylim(top=HIGH * start)
        heights = heights[heights <= HIGH * start]
        low, high = float(heights.min()), HIGH * start
        ax.set_ylim(low / (high / low) ** 0.05, high)
    ax.set_ylabel(said("loss") if base == 0 else said("loss_above", base=number(-base)))
    log_scale(ax, heights)
    ax.margins(x=0.08)
    count_along(ax, said("step"))
    remember(ax, before, "loss", named, runs, labels)
    finish(ax, f"{_count(named)}: {_lowest(named)}", title=title, legend=legend, beside=len(named) > 3)
    return ax


# -- one picture for the runs that are drawn on the same axes ---------------------------------------------------------


def drawn_before(ax: Axes | None, run: Run, kind: str) -> Mapping[str, Any] | None:
    """Remove the picture of this kind that koubai drew on ``ax``; return what draws it again with ``run`` in it.

    None if there is no such picture. What the user drew there stays.
    """
    fitting = Fitting.of(ax) if isinstance(ax, Axes) else None
    if fitting is None or fitting.kind != kind or not fitting.runs:
        return None
    runs = [*fitting.runs, *(() if any(run is one for one in fitting.runs) else (run,))]
    labels = fitting.more["labels"]
    if labels is not None and len(runs) > len(labels):
        labels = [*labels, _fresh(labels)]
    if kind == "path":  # nothing is removed if the new run does not fit
        named = _named(runs, labels)
        _one_function(named, _one_layout(named))
    fitting.clear()
    return {"runs": runs, **fitting.more, "labels": labels}


def remember(
    ax: Axes, before: set[Any], kind: str, named: Mapping[str, Run], runs: Any, labels: Any, **more: Any
) -> None:
    """Keep in mind what was drawn for the runs, so that another run on the same axes joins them."""
    fitting = Fitting.of(ax)
    fitting.kind, fitting.runs = kind, list(named.values())
    given = labels is not None or isinstance(runs, Mapping)
    fitting.more = {"labels": list(named) if given else None, **more}
    fitting.drawn = [artist for artist in ax.get_children() if artist not in before and artist is not fitting]


def _fresh(labels: Sequence[str]) -> str:
    return next(name for name in (said("run", number=i) for i in range(len(labels) + 1, 10**9)) if name not in labels)


# -- names ------------------------------------------------------------------------------------------------------------


def _named(runs: Any, labels: Sequence[str] | None) -> dict[str, Run]:
    """Return the runs by name. Raises InputError if they aren't runs, or the names do not fit."""
    if isinstance(runs, Run) or not isinstance(runs, Mapping | Iterable) or isinstance(runs, str):
        raise InputError(f"runs must be a list of runs or a dict of name → Run, got {type(runs).__name__}")
    if isinstance(runs, Mapping):
        if labels is not None:
            raise InputError("labels: the names of the runs are the keys of the dict; give a list of runs with labels=")
        labels, found = [str(name) for name in runs], list(runs.values())
    else:
        found = list(runs)
    if not found:
        raise InputError("runs is empty; give at least one Run, as koubai.minimize returns it")
    for i, run in enumerate(found):
        if not isinstance(run, Run):
            what = f"runs[{labels[i]!r}]" if isinstance(runs, Mapping) and labels is not None else f"runs[{i}]"
            raise InputError(f"{what} must be a Run, as koubai.minimize returns it, got {type(run).__name__}")
    if labels is None:
        return dict(zip(_tell_apart(found), found, strict=True))
    names = [str(label) for label in labels] if not isinstance(labels, str) else [labels]
    if len(names) != len(found) or len(set(names)) != len(names):
        raise InputError(f"labels must be {len(found)} different names, one a run, got {names!r}")
    return dict(zip(names, found, strict=True))


def _tell_apart(runs: Sequence[Run]) -> list[str]:
    """Return what distinguishes the runs: optimizer, rate or start, or several of them; a number if nothing does."""
    about: tuple[Callable[[Run], str], ...] = (_optimizer, _rate, _start, run_label)
    for parts in ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2), (3,), (3, 2)):
        names = [", ".join(filter(None, (about[part](run) for part in parts))) for run in runs]
        if len(set(names)) == len(names) and all(names):
            return names
    return [f"{_optimizer(run)} {i}" for i, run in enumerate(runs, 1)]


def _optimizer(run: Run) -> str:
    return run_label(run).partition("(")[0]


def run_label(run: Run) -> str:
    """Return the optimizer, as it is written in a title."""
    text = run.optimizer if isinstance(run.optimizer, str) else repr(run.optimizer)
    return textwrap.shorten(text, 48, placeholder=" …")


def reason_of(run: Run) -> str:
    """Return why a run stopped."""
    return reason(run.status.name, run.message, spoken())


def _rate(run: Run) -> str:
    lr = getattr(run.optimizer, "lr", None)
    if lr is None:
        return ""
    return f"lr {lr:g}" if isinstance(lr, int | float) else textwrap.shorten(f"lr {lr!r}", 32, placeholder=" …")


def _start(run: Run) -> str:
    layout, _ = flatten(run.x)
    if layout.size > 3:
        return ""
    numbers = ", ".join(number(v, 3) for v in points_of(run, layout)[0])
    return said("from", point=numbers if layout.size == 1 else f"({numbers})")


def _row(label: str, run: Run) -> str:
    """Return a run's row of the legend: the optimizer, the steps, and where and how it ended."""
    optimizer = run_label(run)
    who = optimizer if optimizer.partition("(")[0] == label or label == optimizer else f"{label}: {optimizer}"
    return f"{who}, {counted('steps', run.nit)}, f = {number(run.fun)}, {status_name(run.status.name)}"


def _leaves(run: Run, inside: Any) -> str:
    if inside.all():
        return ""
    return said("leaves", step=run.history.t[max(int(np.argmin(inside)) - 1, 0)])


def _count(named: Mapping[str, Run]) -> str:
    return counted("descents", len(named))


def _lowest(named: Mapping[str, Run]) -> str:
    best = {label: run.best_fun for label, run in named.items() if not math.isnan(run.best_fun)}
    if not best:
        return said("no_value")
    label = min(best, key=best.__getitem__)
    return said("lowest", fun=number(best[label]), label=label)


# -- one function -----------------------------------------------------------------------------------------------------


def _one_layout(named: Mapping[str, Run]) -> Layout:
    """Return the form that x has in every run."""
    (first, run), *others = named.items()
    layout = layout_of(run)
    if layout.size > 2:
        raise InputError(
            f"paths are drawn for 1 or 2 parameters, {first!r} has {layout.size}: koubai.plot.compare draws the losses"
        )
    for name, run in named.items():
        if run.history.epochs is not None:
            raise InputError(
                f"paths are drawn over one function, and {name!r} has another one for each of its mini-batches; "
                "koubai.plot.compare draws the losses of any runs"
            )
    for name, other in others:
        size = layout_of(other).size
        if size != layout.size:
            raise InputError(
                f"paths are drawn over one function: {first!r} has {layout.size} parameter"
                f"{'s' if layout.size > 1 else ''}, {name!r} has {size}; koubai.plot.compare draws the losses "
                "of any runs"
            )
    return layout


def _one_function(named: Mapping[str, Run], layout: Layout) -> Callable[[Any], Any]:
    """Return the function that every run descended. Raises InputError if they are not the same."""
    given = {name: run.function for name, run in named.items()}
    first = next((name for name, run in named.items() if np.isfinite(_at(given[name], run, layout)[0]).any()), None)
    if first is None:
        return next(iter(given.values()))
    f = given[first]
    for name, run in named.items():
        if run.function is f:
            continue
        value, seen = _at(f, run, layout)
        close = 1e-3 if layout.dtype == np.float32 else 1e-6
        agree = ~np.isfinite(seen) | (np.abs(value - seen) <= close * np.abs(seen) + 1e-12)
        if not agree.all():
            raise InputError(
                f"paths are drawn over one function, but {name!r} descended another one than {first!r}; "
                "koubai.plot.compare draws the losses of any runs"
            )
    return f


def _at(f: Callable[[Any], Any], run: Run, layout: Layout) -> tuple[FloatArray, FloatArray]:
    """Return f at some points of a run's path, and what the run found there."""
    rows = np.unique(np.linspace(0, len(run.history) - 1, PROBES).astype(np.int64))
    return sample_points(f, layout, points_of(run, layout)[rows].T), run.history.fun[rows]


# -- drawing ----------------------------------------------------------------------------------------------------------


def _pairs(named: Mapping[str, Run], ways: Sequence[FloatArray]) -> Iterable[tuple[Run, FloatArray]]:
    return zip(named.values(), ways, strict=True)


def _window(runs: Iterable[Run], ways: Sequence[FloatArray], margin: float) -> FloatArray:
    """Return the ranges that hold every path; of those that run away only the start, unless all of them do."""
    begun = [beginning(run, way) for run, way in zip(runs, ways, strict=True)]
    away = [len(part) < len(way) for part, way in zip(begun, ways, strict=True)]
    if not all(away):
        begun = [part[:1] if gone else part for part, gone in zip(begun, away, strict=True)]
    return surround(np.concatenate(begun), margin)


def _draw(ax: Axes, points: FloatArray, i: int, label: str) -> None:
    """Draw one path in the i-th look, with its start and end."""
    style: dict[str, Any] = look(i)
    linewidth, alpha = thin(ax, points, 1.8)
    ax.plot(*points.T, **style, linewidth=linewidth, alpha=alpha, markersize=5, markeredgecolor=DARK,
            markevery=_spread(points, i, ax), path_effects=halo(linewidth, 0.6) if alpha == 1 else None,
            label=label, zorder=3)  # fmt: skip
    for row, size, face in ((0, 8, LIGHT), (-1, 9, style["color"])):
        ax.plot(*points[row], marker=style["marker"], linestyle="", markersize=size, markerfacecolor=face,
                markeredgecolor=DARK if row else style["color"], markeredgewidth=1 if row else 2, zorder=5)  # fmt: skip


def thin(ax: Axes, points: FloatArray, linewidth: float) -> tuple[float, float]:
    """Return the width and opacity that leave a path readable: one that fills an area is a thin and faint line."""
    seen = along(ax.transData.transform(points), ax.bbox)
    if len(seen) < 2:
        return linewidth, 1.0
    cells = ((seen - ax.bbox.min) / CELL).astype(np.int64).clip(0)
    grid = np.zeros(cells.max(axis=0) + 1, dtype=np.int64)
    np.add.at(grid, tuple(cells.T), 1)
    full = grid > 0
    # the share of full cells around each full one: a seventh or less along a line
    sums = np.pad(full, ((AROUND + 1, AROUND), (AROUND + 1, AROUND))).cumsum(axis=0).cumsum(axis=1)
    wide = 2 * AROUND + 1
    near = sums[wide:, wide:] - sums[:-wide, wide:] - sums[wide:, :-wide] + sums[:-wide, :-wide]
    crowd = float(np.average(near[full], weights=grid[full])) / wide**2
    if crowd <= CROWDED:
        return linewidth, 1.0
    return 0.5 * linewidth, float(np.interp(crowd, [CROWDED, 2 * CROWDED], [0.7, 0.15]))


def _spread(points: FloatArray, i: int, ax: Axes) -> list[int]:
    """Return the rows that carry a mark: all of a few, else some, evenly along the path; other runs have other ones."""
    if len(points) <= STEPS:
        return list(range(len(points)))
    rows = np.clip(ax.transData.transform(points), ax.bbox.min, ax.bbox.max)
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(rows, axis=0).T))])
    wanted = length[-1] * (np.arange(MARKS) + (0.5 + 0.37 * i) % 1.0) / MARKS
    return sorted(set(np.searchsorted(length, wanted).clip(0, len(points) - 1).tolist()))


def _losses(run: Run) -> tuple[Any, FloatArray]:
    """Return the steps and losses to draw: of a stochastic descent by epoch, if it had any."""
    epochs = run.history.epochs
    return (epochs.t, epochs.fun) if epochs is not None and len(epochs) else (run.history.t, run.history.fun)


def mark_minima(ax: Axes, points: FloatArray, zorder: float) -> None:
    """Mark the known minima with stars."""
    if len(points):
        ax.plot(*points.T, linestyle="", marker="*", markersize=15, markerfacecolor=LIGHT, markeredgecolor=DARK,
                label=counted("known_minima", len(points)), zorder=zorder)  # fmt: skip
