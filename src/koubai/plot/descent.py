"""Pictures of a descent: its path on the curve, its path over contours, f and the gradient against the step."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from koubai.descent.record import Run, Status, rows_of
from koubai.errors import InputError
from koubai.parameters import FloatArray, Layout, flatten
from koubai.plot.field import (
    NO_VALUE,
    draw_field,
    height,
    label_axes,
    read_ranges,
    sample_line,
    sample_points,
    set_aspect,
)
from koubai.plot.network import training_curves
from koubai.plot.style import (
    BEST,
    CURVE,
    DARK,
    END,
    LIGHT,
    PATH,
    START,
    THIRD,
    axes_for,
    halo,
    number,
    place_legend,
    write_title,
)

__all__ = ["convergence", "path_1d", "path_2d", "run"]

ARROWS = 100  # a path of at most so many steps shows each of them as an arrow; a longer one is a line with a few heads
HEADS = 8  # at most, and one for each tenth of the picture's width
MARGIN = 0.2  # of the path's extent, on each side of it


def run(run: Run, *, minima: Iterable[Any] = (), ax: Axes | None = None) -> Axes:
    """Run: the picture that suits the descent: `path_1d` for one parameter, `path_2d` for two, else `convergence`.

    A stochastic descent is drawn as `convergence`: no single curve belongs to its mini-batches; the training of a
    network as `training_curves`.

    minima: known minima to mark on a path: points, or objects with the point as ``.x``, such as those of a Problem.
    Returns the axes. Raises InputError if ``run`` is not a Run or ``ax`` not an Axes.
    """
    size = _layout(run).size
    if run.history.epochs is not None and run.history.epochs.layers and len(run.history.epochs):
        return training_curves(run, ax=ax)
    if size > 2 or run.history.epochs is not None:
        return convergence(run, ax=ax)
    return (path_1d if size == 1 else path_2d)(run, minima=minima, ax=ax)


def path_1d(run: Run, *, bounds: Any = None, minima: Iterable[Any] = (), ax: Axes | None = None) -> Axes:
    """Path in one dimension: every step as an arrow on the curve of f.

        (x_t, f(x_t)) → (x_{t+1}, f(x_{t+1}))

    bounds: (low, high) of the window; None shows the whole path with the minima near it, or, where it runs away, its
    readable beginning, and the title says how much lies outside. minima: points, or objects with the point as ``.x``.
    A path of more than 100 steps is a line with a few arrow heads.
    Returns the axes. Raises InputError for a run with more than one parameter and for unusable bounds or minima.
    """
    layout = _layout(run, 1, "path_1d")
    x, fun = _points(run, layout)[:, 0], np.clip(run.history.fun, -1e300, 1e300)
    known = _minima(minima, layout)
    window = _window(run, x[:, np.newaxis], MARGIN + 0.1)
    low, high = (_include(window, known) if bounds is None else read_ranges(bounds, 1))[0]
    known = known[(known >= low) & (known <= high)]
    stars = np.column_stack([known, sample_points(run.function, layout, known[np.newaxis])])
    stars = stars[np.isfinite(stars[:, 1])]
    ax = axes_for(ax)
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
    _mark_minima(ax, stars, zorder=4)
    label_axes(ax, run.function, layout, "f")
    _title(ax, run, _beyond(run, inside))
    ax.grid(alpha=0.25)
    place_legend(ax, np.column_stack([grid, curve]), marks=points[[0, -1]][inside[[0, -1]]])
    return ax


def path_2d(run: Run, *, bounds: Any = None, minima: Iterable[Any] = (), ax: Axes | None = None) -> Axes:
    """Path in two dimensions: the steps over filled contours of f, with start, end, best and known minima.

    bounds: (low, high), or one pair for each element of x; None shows the whole path with the minima near it, or, where
    it runs away, its readable beginning, and the title says how much lies outside. minima: points, or objects with the
    point as ``.x``. The levels are log-spaced where f spans decades. Grey ground: f has no finite value there.
    Returns the axes. Raises InputError for a run that does not have two parameters and for unusable bounds or minima.
    """
    layout = _layout(run, 2, "path_2d")
    points = _points(run, layout)
    known = _minima(minima, layout)
    ranges = _fill(_include(_window(run, points, MARGIN), known)) if bounds is None else read_ranges(bounds, 2)
    ax = axes_for(ax)
    inside = _within(points, ranges)
    least = float(run.history.fun[inside].min(initial=np.inf))
    field = draw_field(ax, run.function, layout, ranges, least)
    ax.set_xlim(*ranges[0])
    ax.set_ylim(*ranges[1])
    set_aspect(ax, ranges)
    _draw_path(ax, points, zorder=3)
    _mark_ends(ax, run, points, layout, inside, zorder=5)
    visible = known[_within(known, ranges)]
    _mark_minima(ax, visible, zorder=4)
    label_axes(ax, run.function, layout)
    _title(ax, run, _beyond(run, inside))
    gaps = [Patch(facecolor=NO_VALUE, edgecolor=DARK, label="f not finite")] if field is None or field.has_gaps else []
    place_legend(ax, points[inside], marks=np.vstack([points[[0, -1]], visible]), extra=gaps)
    return ax


def convergence(run: Run, *, ax: Axes | None = None) -> Axes:
    """Convergence: f and the largest |gradient component| against the step, on one logarithmic scale.

    Where f goes below zero, its height above the lowest f of the run is drawn instead, and the legend says so (but not
    where f falls without bound). A scale that must hold zero or negative values is linear around zero.
    A stochastic descent shows the mini-batches' losses, and over them the mean loss of each epoch.
    The title says why the descent stopped.
    Returns the axes. Raises InputError if ``run`` is not a Run or ``ax`` not an Axes.
    """
    _layout(run)
    history = run.history
    fun, label = history.fun, "f" if history.epochs is None else "f of a mini-batch"
    least = float(fun[np.isfinite(fun)].min(initial=np.inf))
    if least < 0 and run.status is not Status.diverged:
        fun, label = fun - least, f"f + {number(-least)} (height above the lowest f)"
    ax = axes_for(ax)
    marker = "o" if len(history) <= 40 else ""
    drawn = []
    for values, color, style, name in (
        (fun, CURVE, "-", label),
        (history.grad_norm, PATH, "--", "largest |gradient component|"),
    ):
        y = np.where(np.isfinite(values), np.clip(values, -1e300, 1e300), np.nan)
        ax.plot(history.t, y, color=color, linestyle=style, linewidth=2, marker=marker, markersize=5,
                markeredgecolor=DARK, solid_capstyle="butt", path_effects=halo(2, 0.5), label=name)  # fmt: skip
        drawn.append(np.column_stack([history.t, y]))
    if history.epochs is not None and len(history.epochs.t):
        means = history.epochs.fun - (least if label.startswith("f +") else 0.0)
        ax.plot(history.epochs.t, means, color=THIRD, linewidth=2.5, marker="s", markersize=6, markeredgecolor=DARK,
                path_effects=halo(2.5, 0.8), label="mean loss of an epoch", zorder=4)  # fmt: skip
    rows = np.vstack(drawn)
    rows = rows[np.isfinite(rows).all(axis=1)]
    _log_scale(ax, rows[:, 1])
    ax.set_xlabel("step")
    ax.set_ylabel("f, |gradient|")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.25)
    _title(ax, run)
    place_legend(ax, rows)
    return ax


# -- reading a run ----------------------------------------------------------------------------------------------------


def _layout(run: Run, size: int | None = None, name: str = "") -> Layout:
    """Return the form of x. Raises InputError unless ``run`` is a Run with ``size`` parameters."""
    if not isinstance(run, Run):
        raise InputError(f"run must be a Run, as koubai.minimize returns it, got {type(run).__name__}")
    layout, _ = flatten(run.x, "run.x")
    if size is not None and layout.size != size:
        raise InputError(
            f"{name} draws a run of {size} parameter{'s' if size > 1 else ''}, this one has {layout.size}; "
            "koubai.plot.run picks the picture that fits"
        )
    return layout


def _points(run: Run, layout: Layout) -> FloatArray:
    """Return the path as (rows, n)."""
    return rows_of(run.history.x, layout).astype(np.float64)


def _minima(minima: Iterable[Any], layout: Layout) -> FloatArray:
    """Return the known minima as (count, n)."""
    points = []
    for minimum in minima:
        point = getattr(minimum, "x", minimum)
        try:
            x = np.array(point, dtype=np.float64).ravel()
        except (TypeError, ValueError):
            raise InputError(f"minima must hold points of {layout.size} numbers, got {point!r}") from None
        if x.size != layout.size or not np.isfinite(x).all():
            raise InputError(f"minima must hold points of {layout.size} finite numbers, got {point!r}")
        points.append(x)
    return np.array(points).reshape(-1, layout.size)


# -- choosing the window ----------------------------------------------------------------------------------------------


def _window(run: Run, points: FloatArray, margin: float) -> FloatArray:
    """Return the ranges (n, 2) that show the path: all of it, or the beginning of one that runs away.

    A path whose steps grow by orders of magnitude has no scale at which all of it can be read. Shown of it are the
    steps up to eight times as long as the first one, and the best point.
    """
    start = points[0]
    steps = np.abs(np.diff(points, axis=0)).max(axis=1, initial=0.0)
    moved = steps[steps > 0]
    kept = points
    fun = run.history.fun
    if moved.size and steps.max() > 30 * moved[0] and (run.status is Status.diverged or fun[-1] > fun[0]):
        best = int(np.argmin(fun))
        if best == len(fun) - 1:  # f falls for ever: its lowest point is as far away as the end
            best = 0
        kept = points[: max(best, int(np.argmax(steps > 8 * moved[0]))) + 1]
    low, high = kept.min(axis=0), kept.max(axis=0)
    extent = high - low
    # A path that does not move along one axis, or not at all, still needs ground on both sides of it
    smallest = extent.max() / 2 if extent.max() > 0 else max(1.0, float(np.abs(start).max()))
    rounding = 1e-9 * np.maximum(np.abs(low), np.abs(high))
    extent = np.where(extent > np.maximum(rounding, 1e-6 * extent.max()), extent, smallest)
    middle, half = (low + high) / 2, extent * (0.5 + margin)
    return np.column_stack([middle - half, middle + half])


def _include(ranges: FloatArray, known: FloatArray) -> FloatArray:
    """Widen ``ranges`` to hold the known minima, unless the path would then be too small to read."""
    if not len(known):
        return ranges
    low, high = known.min(axis=0), known.max(axis=0)
    pad = 0.1 * np.maximum(high - low, ranges[:, 1] - ranges[:, 0])
    wider = np.column_stack([np.minimum(ranges[:, 0], low - pad), np.maximum(ranges[:, 1], high + pad)])
    return wider if (np.ptp(wider, axis=1) <= 4 * np.ptp(ranges, axis=1)).all() else ranges


def _fill(ranges: FloatArray, shape: float = 1.25) -> FloatArray:
    """Widen the shorter side so that equal scales fill a picture of this shape, where the two scales are comparable."""
    x, y = np.ptp(ranges, axis=1)
    if not 0.25 < x / y < 4:
        return ranges
    half = np.array([max(x, shape * y), max(y, x / shape)]) / 2
    middle = (ranges[:, 0] + ranges[:, 1]) / 2
    return np.column_stack([middle - half, middle + half])


def _within(points: FloatArray, ranges: FloatArray) -> Any:
    return ((points >= ranges[:, 0]) & (points <= ranges[:, 1])).all(axis=1)


# -- drawing ----------------------------------------------------------------------------------------------------------


def _draw_path(ax: Axes, points: FloatArray, zorder: float) -> None:
    """Draw every step as an arrow, or, where they are many, one line through all points with a few heads on it."""
    if len(points) < 2:
        return
    if len(points) - 1 <= ARROWS:
        _arrows(ax, points[:-1], np.diff(points, axis=0), 0.022, zorder, scale_units="xy", scale=1)
        return
    linewidth = 1.6
    ax.plot(*points.T, color=PATH, linewidth=linewidth, path_effects=halo(linewidth, 0.6), zorder=zorder)
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
    """Mark start and end, and the best point where it is neither of them."""
    best = int(np.argmin(run.history.fun))
    marks = [("start", 0, START, "o"), ("end", len(points) - 1, END, "s")]
    others = min(run.history.fun[0], run.history.fun[-1])
    if others - run.history.fun[best] > 1e-9 * abs(others):  # else it hides behind them: a path that swings for ever
        marks.insert(1, ("best", best, BEST, "D"))
    for label, row, color, marker in marks:
        where = ", ".join(number(v) for v in points[row, : layout.size])
        text = f"{label} ({where})" if layout.size > 1 else f"{label} x = {where}"
        ax.plot(*points[row], linestyle="", marker=marker, markersize=8, markerfacecolor=color, markeredgecolor=DARK,
                label=text if inside[row] else f"{text}, outside", zorder=zorder)  # fmt: skip


def _mark_minima(ax: Axes, points: FloatArray, zorder: float) -> None:
    if len(points):
        ax.plot(*points.T, linestyle="", marker="*", markersize=15, markerfacecolor=LIGHT, markeredgecolor=DARK,
                label="known minimum" if len(points) == 1 else "known minima", zorder=zorder)  # fmt: skip


def _log_scale(ax: Axes, values: FloatArray) -> None:
    """Make the y scale logarithmic; where there are zeros or negatives, linear around zero."""
    sizes = np.abs(values[values != 0])
    if not sizes.size:
        return
    if (values > 0).all():
        ax.set_yscale("log")
    else:
        threshold = max(float(sizes.min()), 1e-30 * float(sizes.max()))
        decades = np.log10(float(sizes.max()) / threshold)
        ax.set_yscale("symlog", linthresh=threshold, linscale=max(1.0, decades / 12))


def _beyond(run: Run, inside: Any) -> str:
    """Say from where on the path is outside the window; empty where it never is."""
    if inside.all():
        return ""
    outside, first = np.count_nonzero(~inside), run.history.t[np.argmin(inside)]
    return f"outside this window: {outside:,} of {len(inside):,} points, the first after step {first:,}"


def _title(ax: Axes, run: Run, note: str = "") -> None:
    """Say in two or three short lines what ran, where it ended and why."""
    optimizer = textwrap.shorten(repr(run.optimizer), 48, placeholder=" …")
    steps = f"{run.nit:,} step{'' if run.nit == 1 else 's'}"
    reason = f"{run.status.name.replace('_', ' ')}: {run.message.split('; ')[0]}"
    write_title(ax, f"{optimizer}, {steps}, f = {number(run.fun)}", reason, note)
