"""How the pictures look: colours, numbers for people, and where a new figure comes from.

Line colours are those of Okabe & Ito, "Color Universal Design", 2008: told apart with every common kind of colour
blindness. All of them are of middling lightness and carry a thin dark halo, so they read on white, on black and on
every colour of the field. The field is viridis: its lightness rises evenly from low to high, so it also reads in grey.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patheffects import AbstractPathEffect, Normal, Stroke

from koubai.errors import InputError
from koubai.parameters import FloatArray

__all__ = [
    "BEST",
    "CURVE",
    "DARK",
    "END",
    "FIELD",
    "LIGHT",
    "PATH",
    "START",
    "THIRD",
    "axes_for",
    "halo",
    "inches",
    "number",
    "place_legend",
    "write_title",
]

CHARACTER = 0.085  # inches, of one letter at the usual 10 points

Corner: TypeAlias = Literal["upper right", "upper left", "lower right", "lower left"]

CURVE = "#56B4E9"  # sky blue
PATH = "#E69F00"  # orange
THIRD = "#009E73"  # bluish green
START = "#F0E442"  # yellow
END = "#D55E00"  # vermillion
BEST = "#CC79A7"  # reddish purple
DARK = "#1A1A1A"
LIGHT = "#FFFFFF"
FIELD = "viridis"


def halo(linewidth: float, width: float = 0.8) -> list[AbstractPathEffect]:
    """Return path effects that draw a dark edge of ``width`` points on both sides of a line of ``linewidth``."""
    return [Stroke(linewidth=linewidth + 2 * width, foreground=DARK), Normal()]


def axes_for(ax: Axes | None) -> Axes:
    """Return ``ax``, or the axes of a new figure. Raises InputError for anything else, a Figure say."""
    if ax is None:
        from matplotlib import pyplot  # only here: who passes ax needs no pyplot, and no display

        _, ax = pyplot.subplots(figsize=(8, 6), layout="constrained")
    if not isinstance(ax, Axes):
        raise InputError(f"ax must be a matplotlib Axes or None, got {type(ax).__name__}")
    return ax


def inches(ax: Axes) -> tuple[float, float]:
    """Return the width and height of ``ax``, before the layout has moved it: near enough to wrap text."""
    figure = ax.get_figure()  # a SubFigure has the dpi of its figure
    assert figure is not None
    return ax.bbox.width / figure.dpi, ax.bbox.height / figure.dpi


def write_title(ax: Axes, *lines: str) -> None:
    """Write the lines that are not empty over ``ax``, each wrapped to its width."""
    width = max(30, int(1.15 * inches(ax)[0] / CHARACTER))  # a line may stand out a little on both sides
    text = "\n".join(textwrap.fill(line, width) for line in lines if line)
    ax.set_title(text, fontsize="medium", parse_math=False)  # a $ in a name or message is a $


def number(value: float, digits: int = 4) -> str:
    """Return ``value`` as a person would write it: 300, −2000, 0.00199, 2.59e13."""
    mantissa, _, exponent = f"{float(value):.{digits}g}".partition("e")
    return f"{mantissa}e{int(exponent)}".replace("-", "−") if exponent else mantissa.replace("-", "−")


def place_legend(ax: Axes, points: FloatArray, marks: FloatArray | None = None, extra: Sequence[Artist] = ()) -> None:
    """Put the legend of ``ax`` into the corner where it hides least.

    points, marks: (rows, 2), in data coordinates; each mark weighs as much as all points.
    extra: handles beside those of the artists in ax.
    matplotlib's own "best" looks at every vertex, takes seconds on a long path and warns about it.
    """
    handles = [*ax.get_legend_handles_labels()[0], *extra]
    ax.get_xlim(), ax.get_ylim()  # matplotlib puts off finding limits until they are asked for; transData does not ask
    to_axes = ax.transData + ax.transAxes.inverted()
    spots = to_axes.transform(points[np.isfinite(points).all(axis=1)])
    marked = to_axes.transform(marks) if marks is not None else np.empty((0, 2))
    longest = max((len(str(handle.get_label())) for handle in handles), default=0)
    width, height = (0.7 + CHARACTER * longest) / inches(ax)[0], (0.2 + 0.25 * len(handles)) / inches(ax)[1]

    def hidden(corner: Corner) -> float:
        def inside(rows: FloatArray) -> Any:
            x = rows[:, 0] > 1 - width if "right" in corner else rows[:, 0] < width
            y = rows[:, 1] > 1 - height if "upper" in corner else rows[:, 1] < height
            return x & y

        return float(inside(spots).sum() / max(len(spots), 1) + inside(marked).sum())

    corners: tuple[Corner, ...] = ("upper right", "upper left", "lower right", "lower left")
    ax.legend(handles=handles, loc=min(corners, key=hidden), framealpha=0.9)
