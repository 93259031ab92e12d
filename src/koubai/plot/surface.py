"""A descent in three dimensions: its path on the surface of f."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Text

from koubai.descent.record import Run
from koubai.errors import InputError
from koubai.parameters import FloatArray
from koubai.plot.comparison import run_label
from koubai.plot.field import Levels, choose_levels, label_axes, read_ranges, sample_grid
from koubai.plot.style import BEST, DARK, END, FIELD, PATH, START, halo, number
from koubai.plot.text import counted, find_fonts, said, status_name
from koubai.plot.window import beginning, include, layout_of, minima_of, points_of, surround, within

__all__ = ["surface"]

FACES = 80  # of the surface, along each side
KNEE = 0.1  # of the window is lower than where a logarithmic scale of heights begins


def surface(
    run: Run,
    *,
    bounds: Any = None,
    minima: Iterable[Any] = (),
    title: str | None = None,
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Surface: the path of a descent on the surface of f, over two parameters, and below it on the ground.

    If f spans decades, the heights are logarithmic but near the least ones; the ticks say what they are. Where f is not
    finite there is a hole.

    Parameters
    ----------
    run : Run
        A descent of two parameters.
    bounds : (low, high), or a pair for each element of x, optional
        The window; None shows the whole path with the minima near it, or, if it runs away, its readable beginning.
    minima : iterable, default ()
        Known minima to mark: points, or objects with the point as ``.x``, such as those of a Problem.
    title : str, optional
        None says what ran and where it ended, "" leaves it out.
    legend : bool, default True
        False leaves it out.
    ax : Axes3D, optional
        What to draw on, made with projection="3d"; a new figure by default.

    Returns
    -------
    Axes3D
        The picture.

    Raises
    ------
    InputError
        For a run that does not have two parameters, unusable bounds or minima, and axes of two dimensions.

    Examples
    --------
    >>> run = kb.minimize(lambda x: (x[0] - 1) ** 2 + (x[1] - 2) ** 2, [-3.0, 4.0], lr=0.1)
    >>> kb.plot.surface(run).get_zlabel()
    'f'
    """
    layout = layout_of(run, 2, "surface")
    points = points_of(run, layout)
    known = minima_of(minima, layout)
    ranges = include(surround(beginning(run, points)), known) if bounds is None else read_ranges(bounds, 2)
    drawn: Any = _axes(ax)
    x0, x1, values = sample_grid(run.function, layout, ranges)
    stride = max(1, len(x0) // FACES)
    x0, x1, values = x0[::stride], x1[::stride], values[::stride, ::stride]
    inside = within(points, ranges)
    fun = run.history.fun
    if not np.isfinite(values).any():
        raise InputError("f has no finite value in this window, so there is no surface; give other bounds")
    levels = choose_levels(values, float(fun[inside].min(initial=np.inf)))
    heights = _Scale.of(values, levels)
    z = heights(values)
    low, high = float(np.nanmin(z)), float(np.nanmax(z))
    ground = low - 0.25 * (high - low or 1.0)
    drawn.computed_zorder = False  # the path is in front of the surface, not within it
    grid = np.meshgrid(x0, x1)
    drawn.plot_surface(*grid, z, cmap=FIELD, vmin=low, vmax=high, rcount=FACES, ccount=FACES, linewidth=0,
                       antialiased=True, alpha=0.85, zorder=1)  # fmt: skip
    drawn.contour(*grid, np.ma.masked_invalid(z), 14, zdir="z", offset=ground, cmap=FIELD, linewidths=0.8, zorder=0)
    path = np.column_stack([points, heights(fun)])
    path[:, 2] = np.clip(path[:, 2], low, high)
    path[~inside] = np.nan  # 3-D axes clip nothing
    below = path[:, :2].T
    drawn.plot(*below, ground, color=DARK, linewidth=1, alpha=0.6, zorder=0.5)
    marker = "o" if len(path) <= 100 else ""
    drawn.plot(*path.T, color=PATH, linewidth=2, marker=marker, markersize=3.5, markeredgecolor=DARK,
               markeredgewidth=0.4, path_effects=halo(2, 0.6), zorder=3)  # fmt: skip
    for label, row, color, mark in ((said("start"), 0, START, "o"), (said("end"), len(path) - 1, END, "s")):
        where = ", ".join(number(v) for v in points[row])
        text = f"{label} ({where}), f = {number(fun[row])}"
        text = text if inside[row] else said("outside", point=text)
        _mark(drawn, path[row : row + 1], color, mark, text)
    known = known[within(known, ranges)]
    if len(known):
        least = [float(np.asarray(run.function(layout.view(point.astype(layout.dtype))))) for point in known]
        stars = np.column_stack([known, np.clip(heights(least), low, high)])
        _mark(drawn, stars, BEST, "*", counted("known_minima", len(known)))
    drawn.set_xlim(*ranges[0])
    drawn.set_ylim(*ranges[1])
    drawn.set_zlim(ground, high)
    label_axes(drawn, run.function, layout)
    heights.write(drawn, low, high)
    drawn.view_init(elev=35, azim=-60)
    outside = np.count_nonzero(~inside)
    note = f"\n{said('points_outside', outside=outside, count=len(points))}" if outside else ""
    written = title
    if title is None:
        written = f"{run_label(run)}, {counted('steps', run.nit)}, {status_name(run.status.name)}{note}"
    drawn.set_title(written, fontsize="medium", parse_math=False)
    if legend:
        has_layout = drawn.get_figure().figure.get_layout_engine() is not None  # it makes room below the axes
        place: Any = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.02)} if has_layout else {"loc": "upper left"}
        drawn.legend(**place, fontsize="small")
    find_fonts((text for text in drawn.findobj(Text) if isinstance(text, Text)), tell=True)
    if ax is None and matplotlib.__version_info__ < (3, 11):
        _measure(drawn)
    return drawn  # type: ignore[no-any-return]


def _measure(drawn: Any) -> None:
    """Draw the picture once without a layout: before 3.11 matplotlib's layouts must know where axes are drawn."""
    figure = drawn.get_figure()
    layout = figure.get_layout_engine()
    figure.set_layout_engine("none")
    figure.draw_without_rendering()
    figure.set_layout_engine(layout)


def _axes(ax: Any) -> Any:
    """Return ``ax``, or the 3-D axes of a new figure. Raises InputError for anything else."""
    if ax is None:
        from matplotlib import pyplot  # only here: who passes ax needs no pyplot, and no display

        figure = pyplot.figure(figsize=(8, 6.5), layout="constrained")
        return figure.add_subplot(projection="3d")
    if not hasattr(ax, "plot_surface"):
        raise InputError(
            f"ax must have three dimensions, as figure.add_subplot(projection='3d') makes them; got {type(ax).__name__}"
        )
    return ax


@dataclass(frozen=True)
class _Scale:
    """How high f is drawn: f − base, cut at the top, or log10(1 + (f − base) / knee), which is round at a minimum.

    knee: None for a linear scale.
    """

    levels: Levels
    knee: float | None

    @classmethod
    def of(cls, values: FloatArray, levels: Levels) -> _Scale:
        above = values[np.isfinite(values)] - levels.base
        return cls(levels, float(np.quantile(above[above > 0], KNEE)) if levels.log else None)

    def __call__(self, values: Any) -> FloatArray:
        above = np.minimum(np.asarray(values, dtype=np.float64) - self.levels.base, self.levels.values[-1])
        if self.knee is not None:
            above = np.log10(1 + np.maximum(above, 0.0) / self.knee)
        return np.where(np.isfinite(values), above, np.nan)

    def write(self, ax: Any, low: float, high: float) -> None:
        """Write the ticks of the axis of heights, no two of them too close to each other."""
        ax.set_zlabel(self.levels.label if self.levels.base else "f")
        ticks = [0.0, *self.levels.ticks()] if self.knee is not None else self.levels.ticks()
        kept: list[tuple[float, float]] = []
        for tick in ticks:
            at = float(self(tick + self.levels.base))
            if low - 0.02 * (high - low) <= at <= high and (not kept or at - kept[-1][0] > 0.07 * (high - low)):
                kept.append((at, tick))
        ax.set_zticks([at for at, _ in kept], labels=[number(tick, 4) for _, tick in kept])


def _mark(ax: Any, points: FloatArray, color: str, marker: str, label: str) -> None:
    ax.plot(*points.T, linestyle="", marker=marker, markersize=14 if marker == "*" else 8, markerfacecolor=color,
            markeredgecolor=DARK, label=label, zorder=5)  # fmt: skip
