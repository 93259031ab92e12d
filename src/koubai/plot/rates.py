"""Pictures of searches: the strip of learning rates, and a race."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from koubai.descent.loop import minimize
from koubai.descent.record import rows_of
from koubai.errors import InputError, KoubaiError, quiet
from koubai.parameters import FloatArray, flatten
from koubai.plot.animation import PATH_ORDER, moving_target, picture_of, write_moving
from koubai.plot.comparison import paths
from koubai.plot.fitting import finish
from koubai.plot.scales import Numbers, log_scale
from koubai.plot.style import BEST, CURVE, DARK, END, START, THIRD, axes_for, halo, look, number
from koubai.plot.text import find_fonts, said

if TYPE_CHECKING:
    from koubai.search.learning_rate import LearningRate
    from koubai.search.race import Race

__all__ = ["profile", "progress", "race_animation", "race_page", "rates"]

LEAST = 1e-12  # share of the way down that is left: what is below is drawn here
SHADES = {"slow": CURVE, "usable": START, "good": THIRD, "diverging": END}
FRAMES = 60
VALLEYS = 2  # parameters up to which is found out which valley a descent ends in


def rates(found: LearningRate, *, ax: Axes | None = None, title: str | None = None, legend: bool = True) -> Axes:
    """Rates: the strip from too slow over good to diverging, with what each rate that was tried has left.

    Up the axis is the share of the way down that was left where f was lowest; crosses at the top diverged. The dashed
    line is the stability bound by the measured curvature. Of functions of one or two parameters, diamonds ended in
    another valley than the slow descents do: their steps were long enough to jump out of it.

    Parameters
    ----------
    found : LearningRate
        As `koubai.find_lr` returns it.
    ax : Axes, optional
        What to draw on; a new figure by default.
    title : str, optional
        None says the rate and its range, "" leaves it out.
    legend : bool, default True
        False leaves it out.

    Returns
    -------
    Axes
        The picture.

    Raises
    ------
    InputError
        For anything else than a LearningRate.

    Examples
    --------
    >>> found = kb.find_lr(lambda x: np.sum(x**2), [-3.0, 4.0], "sgd")
    >>> kb.plot.rates(found).get_xlabel()
    'lr'
    """
    if not hasattr(found, "curve") or not hasattr(found, "high"):
        raise InputError(f"found must be a LearningRate, as koubai.find_lr returns it, got {type(found).__name__}")
    curve = found.curve
    ax = axes_for(ax, (9, 4.8))
    finite = np.isfinite(curve.fun)
    lowest = float(np.min(curve.fun[finite]))
    share = np.where(finite, (curve.fun - lowest) / max(_drop(found), 1e-300), np.nan)
    good = finite & ~curve.diverged
    y = np.clip(share, LEAST, 3.0)
    window = _window(found, share)
    edges = _bands(found, window)
    for name, low, high in edges:
        if high > low:
            ax.axvspan(low, high, color=SHADES[name], alpha=0.22, linewidth=0, zorder=0)
    inside = (curve.lr >= window[0]) & (curve.lr <= window[1])
    jumped = _jumped(found, good & inside)
    reached = np.isfinite(curve.time)
    for chosen, marker, face, edge, name in (
        (good & ~reached & ~jumped, "o", "white", DARK, said("tried")),
        (good & reached & ~jumped, "o", DARK, "white", said("reached")),
        (good & jumped, "D", BEST, DARK, said("jumped")),
    ):
        chosen = chosen & inside
        if chosen.any():
            size = 16 + 26 * np.sqrt(curve.steps[chosen] / max(curve.steps.max(), 1))
            ax.scatter(curve.lr[chosen], y[chosen], size, marker=marker, facecolor=face, edgecolor=edge, linewidth=0.8,
                       zorder=4, label=name)  # fmt: skip
    bad = ~good & inside
    if bad.any():
        ax.scatter(curve.lr[bad], np.full(bad.sum(), 3.0), 34, marker="x", color=END, linewidth=1.6, zorder=4,
                   label=said("diverged"))  # fmt: skip
    ax.axvline(found.lr, color=DARK, linewidth=2, zorder=3, label=f"lr {number(found.lr, 3)}")
    if found.bound is not None:
        ax.axvline(found.bound, color=END, linewidth=2, linestyle="--", path_effects=halo(2, 0.4), zorder=3,
                   label=said("stable_up_to", bound=number(found.bound, 3)))  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(*window)
    floor = float(np.nanmin(y[good & inside])) if (good & inside).any() else LEAST
    ax.set_ylim(max(LEAST, floor) / 2.5, 6.0)
    ax.yaxis.set_major_formatter(Numbers(digits=4))
    ax.xaxis.set_major_formatter(Numbers(digits=4))
    ax.set_xlabel("lr")
    ax.set_ylabel(said("share_left"))
    ax.grid(alpha=0.25)
    for name, low, high in edges:  # the bands' names, in the bands if they are wide enough
        left, right = (math.log(v / window[0]) / math.log(window[1] / window[0]) for v in (low, high))
        if right - left > 0.09:
            ax.text((left + right) / 2, 0.03, said(name), transform=ax.transAxes, ha="center", va="bottom",
                    fontsize="small", color=DARK, zorder=5)  # fmt: skip
    shown = dict.fromkeys(name for name, low, high in edges if high > low)
    patches = [Patch(facecolor=SHADES[name], alpha=0.35, label=said(name)) for name in shown]
    name = type(found.optimizer).__name__
    line = said("rates", name=name, lr=number(found.lr, 3), low=number(found.low, 2), high=number(found.high, 3))
    finish(ax, line, title=title, legend=legend, extra=patches, beside=True)
    return ax


def _drop(found: LearningRate) -> float:
    """Return how far down it went in all, of which the target leaves a known share."""
    fun = found.curve.fun[np.isfinite(found.curve.fun)]
    return found.drop if found.drop > 0 else float(np.ptp(fun))


def _window(found: LearningRate, share: FloatArray) -> tuple[float, float]:
    """Return the rates that are shown: a little slower than the usable ones, up to a little beyond them."""
    lr = found.curve.lr
    low = max(lr[0], min(found.low / 3, found.lr / 100))
    high = min(lr[-1], max(10 * found.high, 3 * found.lr, 2 * (found.bound or 0.0)))
    return low / 1.3, high * 1.3


def _bands(found: LearningRate, window: tuple[float, float]) -> list[tuple[str, float, float]]:
    """Return (name, from, to) of each part of the strip."""
    curve = found.curve
    near = np.isfinite(curve.time) & (curve.time <= 2 * np.maximum(np.min(curve.time), 1.0))
    at = int(np.argmin(np.abs(np.log(curve.lr / found.lr))))
    first = last = at
    while first > 0 and (near[first - 1] or not np.isfinite(curve.fun[first - 1])):
        first -= 1
    while last + 1 < len(curve) and near[last + 1]:
        last += 1
    begin, end = float(curve.lr[first]) / 1.06, min(float(curve.lr[last]) * 1.06, max(found.high, found.lr))
    low, high = min(found.low, begin), max(found.high, end)
    parts = [("slow", window[0], low), ("usable", low, begin), ("good", begin, end), ("usable", end, high)]
    return [*parts, ("diverging", high, window[1])]


def _jumped(found: LearningRate, candidates: Any) -> Any:
    """Return which of the rates ended in another valley than the slowest that make progress do."""
    curve, f = found.curve, found.f
    jumped = np.zeros(len(curve), bool)
    if f is None or not curve.x or curve.x[0].size > VALLEYS:
        return jumped
    layout, _ = flatten(found.start)
    ends: dict[int, FloatArray] = {}
    with quiet():
        for i in np.flatnonzero(candidates):
            try:
                run = minimize(f, layout.copy(curve.x[i]), "lbfgs", max_steps=60, record="off")
                ends[int(i)] = np.ravel(np.concatenate([np.ravel(p) for p in layout.parts(run.x)]))
            except (KoubaiError, ArithmeticError, ValueError):
                continue
    slow: Any = next((i for i in ends if curve.lr[i] >= found.low), None)
    if slow is None:
        return jumped
    reach = 1e-2 * max(1.0, float(np.max(np.abs(ends[slow]))))
    for j, x in ends.items():
        jumped[j] = float(np.max(np.abs(x - ends[slow]))) > reach
    return jumped


# -- a race -----------------------------------------------------------------------------------------------------------


def race_page(found: Race, *, figure: Figure | None = None) -> Figure:
    """Race page: all paths in one picture, the lowest f by evaluations, and the performance profile.

    Parameters
    ----------
    found : Race
        As `koubai.race` returns it.
    figure : Figure, optional
        What to draw on; a new one by default.

    Returns
    -------
    Figure
        The page: paths if x has one or two parameters, and the profile if there are several starts.

    Examples
    --------
    >>> found = kb.race(kb.problems["himmelblau"].f, [0.0, 0.0], ["sgd", "adam"], budget=100)
    >>> len(kb.plot.race_page(found).axes) >= 2
    True
    """
    drawable = {name: run for name, run in found.runs.items() if np.isfinite(run.history.fun).all()}
    size = flatten(next(iter(found.runs.values())).x)[0].size
    starts = len(found.targets)
    panels = ["progress", *(["profile"] if starts > 1 else [])]
    if drawable and size <= 2:
        panels = ["paths", *panels]
    if figure is None:
        from matplotlib import pyplot

        figure = pyplot.figure(figsize=(6.4 * len(panels), 5.6), layout="constrained")
    grid: Any = figure.subplots(1, len(panels), squeeze=False)
    for ax, panel in zip(grid[0], panels, strict=True):
        if panel == "paths":
            try:
                paths(drawable, ax=ax, title=said("paths_from_first"), legend=False)
            except InputError:  # what was raced can't be drawn outside of its starts
                ax.set_axis_off()
        elif panel == "progress":
            progress(found, ax=ax)
        else:
            profile(found, ax=ax)
    return figure


def progress(found: Race, *, ax: Axes | None = None, legend: bool = True) -> Axes:
    """Progress: the lowest f so far of each entrant, from the first start, by the evaluations it had.

    Parameters
    ----------
    found : Race
        As `koubai.race` returns it.
    ax : Axes, optional
        What to draw on; a new figure by default.
    legend : bool, default True
        False leaves it out.

    Returns
    -------
    Axes
        The picture.

    Examples
    --------
    >>> found = kb.race(lambda x: x**2, 1.0, ["sgd", "adam"], budget=50)
    >>> kb.plot.progress(found).get_xlabel()
    'evaluations'
    """
    ax = axes_for(ax)
    own = {t.name: t for t in found.trials if t.start == 0}
    lows = [float(np.min(t.fun[np.isfinite(t.fun)], initial=math.inf)) for t in own.values()]
    lowest = min(lows, default=0.0)
    base = lowest if lowest < 0 else 0.0
    heights = []
    for i, name in enumerate(found.table["name"]):
        trial, style = own[name], look(i)
        if not len(trial.fun) or not np.isfinite(trial.fun).any():
            ax.plot([], [], **style, label=f"{name}: {said('failed')}")
            continue
        best = np.minimum.accumulate(np.where(np.isfinite(trial.fun), trial.fun, np.inf)) - base
        y = np.where(np.isfinite(best) & (best > 0), best, np.nan)
        heights.append(y[np.isfinite(y)])
        at = trial.reached(found.targets[0])
        ending = said("target_at", evaluations=at) if math.isfinite(at) else _ending(trial)
        ax.plot(trial.evaluations, y, **style | {"marker": ""}, linewidth=2, path_effects=halo(2, 0.5), zorder=3,
                drawstyle="steps-post", label=f"{name}: {ending}")  # fmt: skip
        if math.isfinite(at):
            k = int(np.searchsorted(trial.evaluations, at))
            ax.plot([at], [y[k]], style["marker"], color=style["color"], markersize=8, markeredgecolor=DARK, zorder=5)
    if math.isfinite(found.targets[0]) and found.targets[0] > base:
        ax.axhline(found.targets[0] - base, color=DARK, linestyle=":", linewidth=1.2, zorder=2, label=said("target"))
    ax.set_xscale("log")
    ax.set_xlabel(said("evaluations"))
    ax.set_ylabel(said("lowest_so_far") + (f" + {number(-base)}" if base < 0 else ""))
    if heights:
        log_scale(ax, np.concatenate(heights))
    ax.xaxis.set_major_formatter(Numbers(digits=6))
    ax.grid(alpha=0.25)
    first = said("first", name=found.winner)
    if len(found.tied) > 1:
        first = said("first_shared", names=" = ".join(found.tied))
    finish(ax, said("evaluations_each", budget=found.budget, first=first), legend=legend, beside=True)
    return ax


def _ending(trial: Any) -> str:
    if trial.failure:
        return said("failed")
    return said("diverged" if trial.run.status.name in ("diverged", "nonfinite") else "target_not_reached")


def profile(found: Race, *, ax: Axes | None = None, legend: bool = True) -> Axes:
    """Profile: the share of starts from which an entrant took at most so many times the evaluations of the fastest.

    Parameters
    ----------
    found : Race
        As `koubai.race` returns it, of several starts.
    ax : Axes, optional
        What to draw on; a new figure by default.
    legend : bool, default True
        False leaves it out.

    Returns
    -------
    Axes
        The picture: at 1 how often each was the fastest, at the right how often it reached the target at all.

    Examples
    --------
    >>> found = kb.race(lambda x: x**2, 1.0, ["sgd", "adam"], budget=50, starts=3)
    >>> kb.plot.profile(found).get_ylabel()
    'share of starts'
    """
    ax = axes_for(ax)
    at, shares = found.profile()
    for i, name in enumerate(found.table["name"]):
        style = look(i) | {"marker": ""}
        ax.plot(at, shares[name], **style, linewidth=2, path_effects=halo(2, 0.5), drawstyle="steps-post", label=name)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(Numbers(digits=4, wanted=(1, 2, 5)))
    ax.set_xlabel(said("times_fewest"))
    ax.set_ylabel(said("share_of_starts"))
    ax.set_ylim(-0.03, 1.03)
    ax.grid(alpha=0.25)
    finish(ax, said("profile", count=len(found.targets)), legend=legend, beside=True)
    return ax


def race_animation(found: Race, path: str | os.PathLike[str]) -> Path:
    """Write the race, a .gif or .html: paths (one or two parameters) and lowest f grow, evaluation by evaluation."""
    target = moving_target(path)
    from PIL import Image

    figure = Figure(dpi=80, figsize=(12.8, 5.6), layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)  # matplotlib's has no types
    drawable = {name: run for name, run in found.runs.items() if np.isfinite(run.history.fun).all()}
    size = flatten(next(iter(found.runs.values())).x)[0].size
    panels: Any = figure.subplots(1, 2) if drawable and size <= 2 else [None, figure.subplots()]
    progress(found, ax=panels[1])
    if panels[0] is not None:
        paths(drawable, ax=panels[0], title=" ", legend=False)
    canvas.draw()
    figure.set_layout_engine("none")  # from here on nothing moves but the paths
    own = {t.name: t for t in found.trials if t.start == 0}
    growing = []
    for line in panels[1].lines:
        name = next((n for n in own if str(line.get_label()).startswith(f"{n}: ")), None)
        points = np.column_stack(line.get_data())
        if name is not None and len(own[name].fun) == len(points):
            growing.append((line, own[name].evaluations, points))
        elif line.get_marker() not in ("", "None", None):
            line.set_visible(False)
    if panels[0] is not None:
        for artist in (*panels[0].lines, *panels[0].collections):
            if artist.get_zorder() in PATH_ORDER:
                artist.set_visible(False)
        for i, (name, run) in enumerate(drawable.items()):
            layout = flatten(run.x)[0]
            x = rows_of(run.history.x, layout).astype(np.float64)
            points = np.column_stack([x[:, 0], run.history.fun]) if size == 1 else x
            (line,) = panels[0].plot([], [], **look(i) | {"marker": ""}, linewidth=1.8, path_effects=halo(1.8, 0.6))
            growing.append((line, _asked_at(own[name], run), points))
            (end,) = panels[0].plot([], [], look(i)["marker"], color=look(i)["color"], markeredgecolor=DARK, zorder=6)
            growing.append((end, _asked_at(own[name], run), points))
    for line, _, points in growing:
        line.set_data(*points[-1:].T if line.get_zorder() == 6 else points.T)
    canvas.draw()
    colours = picture_of(canvas).quantize(128)
    title = (panels[0] or panels[1]).title
    moving = [line for line, _, _ in growing]
    for artist in (title, *moving):
        artist.set_visible(False)
    canvas.draw()
    ground = canvas.copy_from_bbox(figure.bbox)
    for artist in (title, *moving):
        artist.set_visible(True)
    last = max((int(t.evaluations[-1]) for t in own.values() if len(t.evaluations)), default=1)
    frames = []
    for n in np.unique(np.geomspace(1, last, FRAMES).round().astype(int)):
        for line, asked, points in growing:
            until = int(np.searchsorted(asked, n, side="right"))
            begin = until - 1 if line.get_zorder() == 6 else 0
            line.set_data(*points[max(begin, 0) : until].T)
        title.set_text(said("evaluations_of", done=n, budget=found.budget))
        find_fonts([title])
        canvas.restore_region(ground)
        for artist in (*moving, title):
            artist.axes.draw_artist(artist)
        frames.append(picture_of(canvas).quantize(palette=colours, dither=Image.Dither.NONE))
    return write_moving(target, frames, said("moving_race"))


def _asked_at(trial: Any, run: Any) -> Any:
    """Return after how many evaluations each row of the path was there: where f is that of the row, in order."""
    at, k = np.zeros(len(run.history.fun)), 0
    for i, fun in enumerate(run.history.fun):
        hits = np.flatnonzero(trial.fun[k:] == fun)
        k += int(hits[0]) if hits.size else 0
        at[i] = trial.evaluations[min(k, len(trial.evaluations) - 1)]
    return at
