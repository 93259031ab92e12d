"""How the pictures look: colours, numbers for people, and where a new figure comes from.

Line colours are those of Okabe & Ito, "Color Universal Design", 2008: distinct with every common kind of colour
blindness. All of them are of middling lightness and carry a thin dark halo, so they read on white, on black and on
every colour of the field. The field is viridis: its lightness rises evenly from low to high, so it also reads in grey.
"""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patheffects import AbstractPathEffect, Normal, Stroke

from koubai.errors import InputError

__all__ = [
    "BEST",
    "COLORS",
    "CURVE",
    "DARK",
    "END",
    "FIELD",
    "LIGHT",
    "MARKERS",
    "PATH",
    "START",
    "THIRD",
    "axes_for",
    "figure_of",
    "halo",
    "look",
    "number",
]

CURVE = "#56B4E9"  # sky blue
PATH = "#E69F00"  # orange
THIRD = "#009E73"  # bluish green
START = "#F0E442"  # yellow
END = "#D55E00"  # vermillion
BEST = "#CC79A7"  # reddish purple
DARK = "#1A1A1A"
LIGHT = "#FFFFFF"
FIELD = "viridis"

# of several things in one picture: colours, and marks and line styles that tell them apart in grey too
COLORS = (CURVE, PATH, THIRD, BEST, START, END, "#0072B2", "#999999")
MARKERS = "osD^vP*X"
LINE_STYLES = ("-", "--", "-.", ":")


def look(i: int) -> dict[str, Any]:
    """Return colour, marker and line style of the i-th of several things: no two of the first 32 look alike."""
    again, nth = divmod(i, len(COLORS))
    return {
        "color": COLORS[nth], "marker": MARKERS[nth], "linestyle": LINE_STYLES[(nth + again) % len(LINE_STYLES)],
    }  # fmt: skip


def halo(linewidth: float, width: float = 0.8) -> list[AbstractPathEffect]:
    """Return path effects that draw a dark edge of ``width`` points on both sides of a line of ``linewidth``."""
    return [Stroke(linewidth=linewidth + 2 * width, foreground=DARK), Normal()]


def axes_for(ax: Axes | None, size: tuple[float, float] = (8, 6)) -> Axes:
    """Return ``ax``, or the axes of a new figure of this size. Raises InputError for anything else, a Figure say."""
    if ax is None:
        from matplotlib import pyplot  # only here: who passes ax needs no pyplot, and no display

        _, ax = pyplot.subplots(figsize=size, layout="constrained")
    if not isinstance(ax, Axes):
        raise InputError(f"ax must be a matplotlib Axes or None, got {type(ax).__name__}")
    return ax


def figure_of(ax: Axes) -> Figure | SubFigure:
    """Return the figure that ``ax`` is in."""
    figure = ax.get_figure()
    assert figure is not None
    return figure


def number(value: float, digits: int = 4) -> str:
    """Return ``value`` as a person would write it: 300, −2000, 0.00199, 2.59e13."""
    mantissa, _, exponent = f"{float(value):.{digits}g}".partition("e")
    return f"{mantissa}e{int(exponent)}".replace("-", "−") if exponent else mantissa.replace("-", "−")
