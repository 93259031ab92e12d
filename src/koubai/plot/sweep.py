"""The picture of a sweep: what its trials came to, against their hyperparameters."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import MaxNLocator, NullFormatter

from koubai.errors import InputError, UnknownNameError
from koubai.parameters import FloatArray, plain
from koubai.plot.field import scale_beside
from koubai.plot.fitting import finish
from koubai.plot.scales import Numbers, log_scale
from koubai.plot.style import BEST, COLORS, DARK, END, FIELD, axes_for, halo, look, number
from koubai.plot.text import counted, said, status_name
from koubai.search.sweep import Sweep
from koubai.search.trial import FAILURES

__all__ = ["sweep"]

SERIES = len(COLORS)  # values of a hyperparameter that are told apart by colour and mark; more are a scale of colours
WIDE = 20.0  # numbers whose ends differ by this factor get a logarithmic scale
TOP = 0.965  # of the axes' height, where trials stand that came to no number


def sweep(
    sweep: Sweep,
    x: str | None = None,
    by: str | None = None,
    *,
    title: str | None = None,
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Sweep: fun of each trial against one hyperparameter, with colours and marks for another.

    A line joins the lowest trials of each colour. Trials that failed, diverged or were given up stand as crosses along
    the upper edge; the star is the best one. Many numbers of ``by`` are shown by a scale of colours.

    Parameters
    ----------
    sweep : Sweep
        As `koubai.sweep` returns it.
    x : str, optional
        The hyperparameter of the axis below; None takes "lr", or else the one with the most numbers.
    by : str, optional
        The one that is told by colour; None takes the one with the fewest values of those that are left, "" none.
    title : str, optional
        None says which trial is the best, "" leaves it out.
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
        If ``sweep`` is not a Sweep, and for a name that is none of its hyperparameters.

    Examples
    --------
    >>> made = kb.sweep(lambda x: x**2, {"lr": [0.01, 0.1, 0.9, 1.5]}, x0=1.0, max_steps=20)
    >>> kb.plot.sweep(made).get_xlabel()
    'lr'
    """
    if not isinstance(sweep, Sweep):
        raise InputError(f"sweep must be a Sweep, as koubai.sweep returns it, got {type(sweep).__name__}")
    table, names = sweep.table, sweep.hyperparameters
    for name in (x, by or None):
        if name is not None and name not in names:
            raise UnknownNameError("hyperparameter of the sweep", name, names)
    varied = sorted((n for n in names if _count(table[n]) > 1), key=lambda n: _count(table[n])) or list(names)
    if x is None:
        numeric = [n for n in varied if _is_numeric(table[n])]
        x = "lr" if "lr" in numeric else (numeric or varied)[-1]
    left = [name for name in varied if name != x]
    left.sort(key="seed".__eq__)  # repeats, if there is anything else to tell apart
    if by is None:
        by = next((name for name in left if not _is_numeric(table[name])), left[0] if left else "")
    at, x_names = _positions(table[x])
    fun = np.where(np.isin(table["status"], FAILURES), np.nan, table["fun"])
    fun = np.where(np.isfinite(fun), np.clip(fun, -1e300, 1e300), np.nan)
    ended = np.isfinite(fun)
    ax = axes_for(ax)
    if x_names:
        ax.set_xticks(range(len(x_names)), labels=x_names)
        ax.set_xlim(-0.5, len(x_names) - 0.5)
    elif _is_wide(at):
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(Numbers(digits=4))
        ax.xaxis.set_minor_formatter(NullFormatter())
    elif table[x].dtype.kind in "iu":
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if by and _is_numeric(table[by]) and _count(table[by]) > SERIES:
        _scale_of_colours(ax, at[ended], fun[ended], table[by].astype(np.float64), ended, by)
    else:
        joined = len([name for name in left if name != by]) == 0 and not x_names
        _series(ax, at, fun, table[by] if by else None, by, joined)
    log_scale(ax, fun)
    lost = int(np.count_nonzero(~ended))
    if lost:
        kinds = said("or").join(map(status_name, dict.fromkeys(table["status"][~ended].tolist())))
        label = said("lost", count=lost, kinds=kinds)
        ax.plot(at[~ended], np.full(lost, TOP), transform=ax.get_xaxis_transform(), linestyle="", marker="x",
                markersize=7, markeredgewidth=2, color=END, label=label, zorder=4)  # fmt: skip
        ax.margins(y=0.12)
    best = sweep.best
    text = said("no_trial")
    if best is not None:
        row = int(np.flatnonzero(table["trial"] == best["trial"])[0])
        ax.plot(at[row], fun[row], linestyle="", marker="*", markersize=17, markerfacecolor=BEST,
                markeredgecolor=DARK, label=said("best_fun", fun=number(best["fun"])), zorder=5)  # fmt: skip
        text = said("best_trial", values=", ".join(f"{name} = {_shown(best[name])}" for name in names))
    ax.set_xlabel(x)
    ax.set_ylabel("fun")
    ax.grid(alpha=0.25)
    finish(ax, counted("trials", len(sweep)), text, title=title, legend=legend)
    return ax


def _series(ax: Axes, at: FloatArray, fun: FloatArray, groups: Any, by: str, joined: bool) -> None:
    """Draw the trials of each value of a hyperparameter, and a line through the lowest at each place."""
    values = [None] if groups is None else _distinct(groups)
    for i, value in enumerate(values):
        shown = _shown(value)
        mine = np.isfinite(fun)
        if groups is not None:
            mine &= np.array([_shown(one) == shown for one in groups])
        style = look(i)
        places = np.unique(at[mine])
        if len(places) > 1 and (joined or len(places) < np.count_nonzero(mine)):
            lowest = [float(fun[mine & (at == place)].min()) for place in places]
            ax.plot(places, lowest, color=style["color"], linestyle=style["linestyle"], linewidth=1.8,
                    path_effects=halo(1.8, 0.5), zorder=2)  # fmt: skip
        label = shown if isinstance(value, str) else f"{by} = {shown}" if groups is not None else said("trial")
        ax.plot(at[mine], fun[mine], linestyle="", marker=style["marker"], markersize=6, color=style["color"],
                markeredgecolor=DARK, markeredgewidth=0.6, label=label, zorder=3)  # fmt: skip


def _scale_of_colours(ax: Axes, at: FloatArray, fun: FloatArray, values: FloatArray, ended: Any, by: str) -> None:
    norm = (LogNorm if _is_wide(values) else Normalize)(values.min(), values.max())
    dots = ax.scatter(at, fun, c=values[ended], norm=norm, cmap=FIELD, s=40, edgecolors=DARK, linewidths=0.6, zorder=3)
    scale = scale_beside(ax, dots)
    scale.set_label(by)
    if isinstance(norm, LogNorm):
        scale.ax.yaxis.set_major_formatter(Numbers(digits=4))
        scale.ax.yaxis.set_minor_formatter(NullFormatter())


def _is_numeric(column: Any) -> bool:
    return column.dtype.kind in "iuf"


def _distinct(column: Any) -> list[Any]:
    if _is_numeric(column):
        return np.unique(column).tolist()  # type: ignore[no-any-return]
    return list({_shown(value): value for value in column}.values())


def _count(column: Any) -> int:
    return len(_distinct(column))


def _positions(column: Any) -> tuple[FloatArray, list[str]]:
    """Return where the values of a hyperparameter stand, and what to write there if they are no numbers."""
    if _is_numeric(column):
        return column.astype(np.float64), []
    names = [_shown(value) for value in _distinct(column)]
    return np.array([names.index(_shown(value)) for value in column], dtype=np.float64), names


def _is_wide(values: FloatArray) -> bool:
    """Return whether a logarithmic scale suits the values; evenly drawn ones may come near zero by chance."""
    low, high = np.quantile(np.unique(values), [0.1, 0.9])
    return bool(values.min() > 0 and high > WIDE * low)


def _shown(value: Any) -> str:
    value = plain(value)
    if isinstance(value, float | int) and not isinstance(value, bool):
        return number(value)
    text = str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
