"""The picture of a run beside the theory: what the descent lemma promises, the predicted and the measured rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Text

from koubai.errors import InputError
from koubai.parameters import FloatArray
from koubai.plot.scales import log_scale
from koubai.plot.style import CURVE, DARK, END, PATH, THIRD, axes_for, halo, number
from koubai.plot.text import find_fonts, said

if TYPE_CHECKING:
    from koubai.diagnosis.theory import Theory

__all__ = ["theory"]

POINTS = 2000  # of a line, at most
LEAST = 1e-16  # of the largest f - f*: below it there is only rounding to see


def theory(found: Theory, *, ax: Axes | None = None) -> Axes:
    """Theory: f - f* of a run, the most that the descent lemma allows after each step, and both rates as slopes.

        f(x + s) - f*  ≤  f(x) - f* + ∇f·s + L/2 |s|²,     f - f* ~ rate**t

    Parameters
    ----------
    found : Theory
        What `Run.theory` returns.
    ax : Axes, optional
        What to draw on; a new figure by default.

    Returns
    -------
    Axes
        The picture.

    Raises
    ------
    InputError
        For anything but a theory.

    Examples
    --------
    >>> run = kb.minimize(lambda x: x[0] ** 2 + 5 * x[1] ** 2, [3.0, 1.0], lr=0.05)
    >>> ax = run.theory().plot()
    >>> ax.get_xlabel()
    'step'
    """
    from koubai.diagnosis.theory import Theory

    if not isinstance(found, Theory):
        raise InputError(f"give what run.theory() returns, got {type(found).__name__}")
    ax = axes_for(ax)
    history = found.run.history
    gap = history.fun - found.least
    floor = LEAST * max(float(np.nanmax(np.abs(gap))), float(np.finfo(float).tiny))
    seen = np.isfinite(gap) & (gap > floor)
    rows = np.flatnonzero(seen)
    if rows.size:
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(POINTS, len(rows))).astype(int))]
    bottom = float(gap[rows].min()) if rows.size else 1.0
    ax.plot(history.t[rows], gap[rows], color=CURVE, linewidth=3, path_effects=halo(3, 0.5), label=said("run_gap"),
            zorder=3)  # fmt: skip
    if found.lemma is not None:
        _draw_lemma(ax, found, bottom)
    _draw_slopes(ax, found, gap, bottom)
    log_scale(ax, gap[rows])
    ax.set_xlabel(said("step"))
    ax.set_ylabel("f − f*")
    ax.set_title(_title(found))
    ax.grid(True, color=DARK, alpha=0.12)
    ax.legend(loc="best", fontsize=9)
    find_fonts(text for text in ax.findobj(Text) if isinstance(text, Text))
    return ax


def _draw_lemma(ax: Axes, found: Theory, bottom: float) -> None:
    lemma, history = found.lemma, found.run.history
    assert lemma is not None
    before = history.fun[np.searchsorted(history.t, lemma.t)] - found.least
    allowed = before - lemma.promised  # after the step
    shown = np.isfinite(allowed) & (allowed >= bottom)
    at = np.flatnonzero(shown)
    if at.size:
        at = at[np.unique(np.linspace(0, len(at) - 1, min(POINTS, len(at))).astype(int))]
        ax.plot(lemma.t[at] + 1, allowed[at], color=PATH, linewidth=2, linestyle="--", zorder=4,
                label=said("lemma"))  # fmt: skip
    broken = lemma.broken & (before - lemma.fall > 0)
    if broken.any():
        ax.plot(lemma.t[broken] + 1, (before - lemma.fall)[broken], "X", color=END, markersize=8, markeredgecolor=DARK,
                zorder=6, label=said("breaks_lemma", L=number(found.L)))  # fmt: skip


def _draw_slopes(ax: Axes, found: Theory, gap: FloatArray, bottom: float) -> None:
    """Draw both rates over the fitted part, a little above and below the run so that they can be told apart."""
    t, measured = found.run.history.t, found.measured
    if not math.isfinite(measured.value) or measured.value <= 0:
        return
    inside = np.flatnonzero((t >= measured.first) & (t <= measured.last) & (gap > bottom))
    if inside.size < 2:
        return
    steps = np.linspace(t[inside[0]], t[inside[-1]], 50)
    slope, centre = math.log(measured.value), float(np.mean(steps))

    def fall(at: FloatArray, rate: float | None, power: float | None) -> FloatArray:
        """Return log (f - f*) beside that at the centre: of a factor a step, or of a power with the measured slope."""
        if power is None or math.isnan(power):
            return (at - centre) * math.log(rate or measured.value)
        begin = centre + power / slope
        return np.asarray(-power * np.log((at - begin) / (centre - begin)))

    own = measured.power if found.power is not None else None
    middle = float(np.median(np.log(gap[inside]) - fall(t[inside].astype(float), measured.value, own)))
    aside = (float(gap[inside].max()) / bottom) ** 0.05 * 1.05
    lines = [(said("measured"), measured.value, own, THIRD, "-", aside)]
    if found.predicted is not None and found.predicted > 0:
        lines.append((said("predicted"), found.predicted, found.power, END, "--", 1 / aside))
    for name, rate, power, color, style, factor in lines:
        if power is None or math.isnan(power):
            steady = color == END or measured.is_linear
            shown = number(rate, 5) if steady else f"≈ {number(rate, 2)}"
            label = said("rate_a_step", name=name, rate=shown)
        else:
            label = said("power_of_t", name=name, power=number(power, 3))
        ax.plot(steps, factor * np.exp(middle + fall(steps, rate, power)), color=color, linestyle=style, linewidth=2.5,
                path_effects=halo(2.5, 0.5), zorder=5, label=label)  # fmt: skip


def _title(found: Theory) -> str:
    lr, bound = found.curvatures[-1].lr, found.bound
    name = type(found.run.optimizer).__name__
    if bound is None or not math.isfinite(bound):
        return said("curvatures", name=name, mu=number(found.mu), L=number(found.L))
    sign = "=" if abs(found.ratio - 1) < 1e-6 else "<" if found.ratio < 1 else ">"
    return said("stable_rate", name=name, lr=number(lr), sign=sign, bound=number(bound))
