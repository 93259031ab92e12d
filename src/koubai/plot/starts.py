"""Pictures of descents from many starts: which minimum each start leads to, and how many lead to each."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize, to_rgb
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from koubai.descent.record import Status
from koubai.errors import InputError
from koubai.parameters import FloatArray, Layout
from koubai.plot.field import height, label_axes, sample_line, scale_beside, set_aspect
from koubai.plot.fitting import finish
from koubai.plot.scales import plain_ticks
from koubai.plot.style import BEST, COLORS, CURVE, DARK, LIGHT, axes_for, halo, number
from koubai.plot.text import counted, place_name, said
from koubai.search.basins import DIVERGED, NONFINITE, UNFINISHED, Basins
from koubai.search.minima import FoundMinimum
from koubai.search.multistart import MultiStart

__all__ = ["basins", "shares"]

SHOWN = 6  # minima that the legend of a map names
BARS = 12  # that the picture of shares does
NAMED = 26  # minima that have letters
LIGHTEST, DARKEST = 0.93, 0.42  # lightness, in Oklab, of the fewest and the most steps
CHROMA = 0.13
GOLDEN = math.pi * (3 - math.sqrt(5))  # hues this far apart never come near each other
OTHERS = {  # what is no minimum: colour, hatch, name
    UNFINISHED: ("#A8A8A8", "", "unfinished"),
    DIVERGED: ("#2B2B2B", "", "diverged"),
    NONFINITE: ("#FFFFFF", "xxxx", "not_finite"),
}
# Björn Ottosson, "A perceptual color space for image processing", 2020
_TO_LMS = np.array([
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
])  # fmt: skip
_TO_LAB = np.array([
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
])  # fmt: skip


def _oklab(color: str) -> FloatArray:
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    lab: FloatArray = _TO_LAB @ np.cbrt(_TO_LMS @ linear)
    return lab


def _rgb(lab: FloatArray) -> FloatArray:
    """Return colours of Oklab as sRGB, the chroma made smaller where there is none so strong."""
    inverse = np.linalg.inv(_TO_LMS) @ np.eye(3), np.linalg.inv(_TO_LAB)
    result = np.zeros(lab.shape)
    done = np.zeros(lab.shape[:-1], bool)
    for strength in (1.0, 0.85, 0.7, 0.55, 0.4, 0.25, 0.1, 0.0):
        linear = (lab * [1.0, strength, strength] @ inverse[1].T) ** 3 @ inverse[0].T
        fits = (linear >= -1e-4).all(axis=-1) & (linear <= 1.0001).all(axis=-1) | (strength == 0.0)
        new = fits & ~done
        linear = np.clip(linear[new], 0.0, 1.0)
        result[new] = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        done |= fits
    return np.clip(result, 0.0, 1.0)


def _hues(count: int) -> FloatArray:
    """Return the hues of so many minima: those of the house's line colours, then others."""
    known = [math.atan2(*_oklab(color)[:0:-1]) for color in COLORS[:-1]]
    return np.array([known[i] if i < len(known) else known[0] + GOLDEN * i for i in range(count)])


def _tones(hues: FloatArray, lightness: FloatArray) -> FloatArray:
    return _rgb(np.stack([lightness, CHROMA * np.cos(hues), CHROMA * np.sin(hues)], axis=-1))


def _name(i: int) -> str:
    return chr(ord("A") + i) if i < NAMED else ""


def basins(found: Basins, *, title: str | None = None, legend: bool = True, ax: Axes | None = None) -> Axes:
    """Basins: the window coloured by the minimum that each start leads to, the lighter the fewer steps it takes.

        hue = the minimum,   lightness = the steps, alike for all hues

    A black line is drawn where starts side by side lead to different ends, and letters name the minima, so that it also
    reads in grey. Starts that were not over are grey, those that diverged nearly black, those that ended where f is not
    finite hatched. In one dimension the colours are a strip under the curve.

    Parameters
    ----------
    found : Basins
        As `koubai.basins` returns it.
    title : str, optional
        None says what ran, "" leaves it out.
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
        If ``found`` is not a Basins or ``ax`` not an Axes.

    Examples
    --------
    >>> found = kb.basins(lambda x: x**4 - 3 * x**2 + x, (-2, 2), optimizer=kb.SGD(0.02), resolution=200)
    >>> kb.plot.basins(found).get_xlabel()
    'x'
    """
    if not isinstance(found, Basins):
        raise InputError(f"found must be a Basins, as koubai.basins returns it, got {type(found).__name__}")
    ax = axes_for(ax)
    label, ends = found.label, found.label >= 0
    steps = found.steps[ends]
    fewest, most = (float(steps.min()), float(np.quantile(steps, 0.99))) if steps.size else (0.0, 1.0)
    most = max(most, fewest + 1.0)
    lightness = LIGHTEST + (DARKEST - LIGHTEST) * np.clip((found.steps - fewest) / (most - fewest), 0.0, 1.0)
    hues = _hues(max(1, len(found.minima)))
    image = np.empty((*label.shape, 3))
    image[ends] = _tones(hues[label[ends]], lightness[ends])
    for code, (color, _, _) in OTHERS.items():
        image[label == code] = to_rgb(color)
    if label.ndim == 1:
        _draw_strip(ax, found, image)
    else:
        _draw_map(ax, found, image)
    if steps.size:
        _draw_scale(ax, fewest, most)
    handles = [
        Patch(facecolor=_tones(hues[i : i + 1], np.array([0.72]))[0], edgecolor=DARK, label=_described(m, _name(i)))
        for i, m in enumerate(found.minima[:SHOWN])
    ]
    if len(found.minima) > SHOWN:
        rest = sum(m.share for m in found.minima[SHOWN:])
        others = said("others", count=len(found.minima) - SHOWN)
        handles.append(Patch(facecolor=LIGHT, edgecolor=DARK, label=f"{others}, {rest:.1%}"))
    for code, (color, hatch, name) in OTHERS.items():
        if (label == code).any():
            share = _percent(float((label == code).mean()))
            handles.append(Patch(facecolor=color, edgecolor=DARK, hatch=hatch, label=f"{said(name)}, {share}"))
    shown = " × ".join(f"{n:,}" for n in label.shape[::-1])
    places = counted("places", len(found.minima))
    lines = (
        said("basins", optimizer=repr(found.optimizer)),
        said("basin_starts", starts=shown, steps=found.max_steps, places=places),
    )
    finish(ax, *lines, title=title, legend=legend, extra=handles, beside=True)
    return ax


def _percent(share: float) -> str:
    return "< 0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def _described(minimum: FoundMinimum, name: str) -> str:
    kind = "" if minimum.signature == "minimum" else f"{place_name(minimum.signature)}, "
    return f"{name}: {kind}f = {number(minimum.fun)}, {_percent(minimum.share)}"


def _draw_map(ax: Axes, found: Basins, image: FloatArray) -> None:
    x, y = found.x
    ranges = np.array([[x[0], x[-1]], [y[0], y[-1]]])
    half = [(line[1] - line[0]) / 2 for line in (x, y)]
    extent = (x[0] - half[0], x[-1] + half[0], y[0] - half[1], y[-1] + half[1])
    ax.imshow(image, origin="lower", extent=extent, interpolation="nearest", aspect="auto", zorder=1)
    label = found.label
    if (label == NONFINITE).any():
        ax.contourf(
            x,
            y,
            (label == NONFINITE).astype(float),
            [0.5, 1.5],
            colors="none",
            hatches=[OTHERS[NONFINITE][1]],
            zorder=2,
        )
    _draw_borders(ax, found)
    ax.set_xlim(*ranges[0])
    ax.set_ylim(*ranges[1])
    set_aspect(ax, ranges)
    for i, minimum in enumerate(found.minima):
        point = np.ravel(minimum.x)[list(found.axes)]
        # of a slice only the minima near it are in the picture
        if found.at is not None and len(found.at) > 2:
            others = np.delete(np.ravel(minimum.x) - found.at, list(found.axes))
            if np.abs(others).max() > 0.01 * np.ptp(ranges):
                continue
        if ((point >= ranges[:, 0]) & (point <= ranges[:, 1])).all():
            _mark(ax, point, i, minimum)
    names = getattr(found.f, "variables", None)
    if found.at is not None and len(found.at) > 2:
        named = [str(names[i]) if names else f"x{i}" for i in found.axes]
        ax.set_xlabel(named[0])
        ax.set_ylabel(named[1])
        plain_ticks(ax.xaxis, *ax.get_xlim())
        plain_ticks(ax.yaxis, *ax.get_ylim())
    else:
        label_axes(ax, found.f, Layout(None, ((2,),), False, np.dtype(np.float64)))


def _draw_borders(ax: Axes, found: Basins) -> None:
    """Draw a line where neighbours have different labels, unless that were most of the picture."""
    label = found.label
    across, up = label[:, 1:] != label[:, :-1], label[1:] != label[:-1]
    if max(across.mean(), up.mean()) > 0.1:
        return
    edge = np.zeros(label.shape, bool)
    edge[:, 1:] |= across
    edge[1:] |= up
    layer = np.zeros((*label.shape, 4))
    layer[edge] = (*to_rgb(DARK), 0.85)
    x, y = found.x
    half = [(line[1] - line[0]) / 2 for line in (x, y)]
    extent = (x[0] - half[0], x[-1] + half[0], y[0] - half[1], y[-1] + half[1])
    ax.imshow(layer, origin="lower", extent=extent, interpolation="antialiased", aspect="auto", zorder=2)


def _mark(ax: Axes, point: Any, i: int, minimum: FoundMinimum) -> None:
    marker = {"minimum": "*", "saddle": "X", "maximum": "^", "flat": "s"}.get(minimum.signature, "o")
    ax.plot(
        *point, linestyle="", marker=marker, markersize=13 if marker == "*" else 8, markerfacecolor=LIGHT,
        markeredgecolor=DARK, zorder=5,
    )  # fmt: skip
    if i < NAMED and len(_name(i)):
        ax.annotate(
            _name(i), point, (7, 5), textcoords="offset points", color=LIGHT, fontsize="medium", fontweight="bold",
            path_effects=halo(0, 1.2), zorder=6, annotation_clip=True,
        )  # fmt: skip


def _draw_strip(ax: Axes, found: Basins, image: FloatArray) -> None:
    (x,) = found.x
    is_number = not found.minima or np.ndim(found.minima[0].x) == 0
    if found.at is not None and len(found.at) > 1:
        f: Callable[[Any], Any] = partial(_on_slice, found)
        layout = Layout(None, ((),), True, np.dtype(np.float64))
    else:
        f = found.f
        layout = Layout(None, ((),) if is_number else ((1,),), is_number, np.dtype(np.float64))
    grid, curve = sample_line(f, layout, float(x[0]), float(x[-1]))
    stars = np.array([[np.ravel(m.x)[found.axes[0]], m.fun] for m in found.minima]).reshape(-1, 2)
    inside = (stars[:, 0] >= x[0]) & (stars[:, 0] <= x[-1])
    low, high = height(curve, stars[inside, 1])
    bottom = low - 0.17 * (high - low)
    half = (x[1] - x[0]) / 2
    top = low - 0.03 * (high - low)
    ax.imshow(
        image[np.newaxis],
        extent=(x[0] - half, x[-1] + half, bottom, top),
        interpolation="nearest",
        aspect="auto",
        zorder=1,
    )
    for k in np.flatnonzero(np.diff(found.label)) if np.count_nonzero(np.diff(found.label)) < 100 else ():
        ax.plot([(x[k] + x[k + 1]) / 2] * 2, [bottom, top], color=DARK, linewidth=1, zorder=2)
    ax.plot([x[0], x[-1]], [top, top], color=DARK, linewidth=0.8, zorder=2)
    ax.plot(grid, curve, color=CURVE, linewidth=2, solid_capstyle="butt", path_effects=halo(2, 0.5), zorder=3)
    for i, minimum in enumerate(found.minima):
        if inside[i]:
            _mark(ax, stars[i], i, minimum)
    ax.set_xlim(x[0], x[-1])
    ax.set_ylim(bottom, high)
    if found.at is None:
        label_axes(ax, found.f, layout, "f")
    else:
        ax.set_xlabel(f"x{found.axes[0]}")
        ax.set_ylabel("f")
    ax.grid(alpha=0.25)


def _on_slice(found: Basins, value: Any) -> Any:
    """Return f at the point of a slice where its one component is ``value``."""
    point = np.array(found.at)
    point[found.axes[0]] = value
    return found.f(point)


def _draw_scale(ax: Axes, fewest: float, most: float) -> None:
    """Draw the scale of lightness beside the axes."""
    ramp = _rgb(np.stack([np.linspace(LIGHTEST, DARKEST, 64), np.zeros(64), np.zeros(64)], axis=-1))
    from matplotlib.cm import ScalarMappable

    shown = ScalarMappable(Normalize(fewest, most), ListedColormap(ramp))
    scale = scale_beside(ax, shown, extend="max")
    scale.set_label(said("number_of_steps"))
    scale.locator = MaxNLocator(6, integer=True)
    scale.update_ticks()
    scale.minorticks_off()


def shares(found: MultiStart, *, title: str | None = None, legend: bool = True, ax: Axes | None = None) -> Axes:
    """Shares: how many of the starts ended in each minimum, the lowest on top.

        share = starts that ended there / all starts

    Hatched bars are places that are not minima; grey ones are starts that did not come to rest.

    Parameters
    ----------
    found : MultiStart
        As `koubai.multistart` returns it.
    title : str, optional
        None says how many places were found, and the chance that a lower one is left, "" leaves it out.
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
        If ``found`` is not a MultiStart or ``ax`` not an Axes.

    Examples
    --------
    >>> found = kb.multistart(lambda x: x**4 - 3 * x**2 + x, (-2, 2), starts=64)
    >>> len(kb.plot.shares(found).patches)
    2
    """
    if not isinstance(found, MultiStart):
        raise InputError(f"found must be a MultiStart, as koubai.multistart returns it, got {type(found).__name__}")
    ax = axes_for(ax)
    rows: list[tuple[str, float, str, str]] = []
    for i, minimum in enumerate(found.minima[:BARS]):
        hatch = "" if minimum.signature == "minimum" else "////"
        color = BEST if i == 0 else CURVE
        fun = number(minimum.fun)
        name = said("bar_place", fun=fun, place=place_name(minimum.signature)) if hatch else f"f = {fun}"
        rows.append((name, minimum.share, color, hatch))
    if len(found.minima) > BARS:
        rest = found.minima[BARS:]
        rows.append((said("others", count=len(rest)), sum(m.share for m in rest), LIGHT, ""))
    total = len(found.ends)
    resting = sum(m.count for m in found.minima)
    for status, text, color in (
        (Status.max_steps, "unfinished", OTHERS[UNFINISHED][0]), (Status.diverged, "diverged", OTHERS[DIVERGED][0]),
        (Status.nonfinite, "not_finite", LIGHT),
    ):  # fmt: skip
        number_of = found.status.get(status, 0)
        if status is Status.max_steps:  # those that had come as near to a minimum are counted there
            lost = sum(found.status.get(s, 0) for s in (Status.diverged, Status.nonfinite))
            number_of = max(0, total - resting - lost)
        if number_of:
            rows.append((said(text), number_of / total, color, "xxxx" if status is Status.nonfinite else ""))
    places = np.arange(len(rows))
    widths, colors = [share for _, share, _, _ in rows], [color for _, _, color, _ in rows]
    bars = ax.barh(places, widths, color=colors, edgecolor=DARK, height=0.72, linewidth=0.8)
    for bar, (_, share, _, hatch) in zip(bars, rows, strict=True):
        bar.set_hatch(hatch)
        middle = bar.get_y() + bar.get_height() / 2
        ax.annotate(
            _percent(share), (share, middle), (4, 0), textcoords="offset points", va="center", fontsize="small"
        )  # fmt: skip
    ax.set_yticks(places, [name for name, *_ in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(0, 1.16 * max([share for _, share, _, _ in rows], default=1.0))
    ax.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    ax.set_xlabel(said("share_of", count=total))
    ax.grid(axis="x", alpha=0.25)
    ax.set_axisbelow(True)
    count = counted("reached_places", len(found.minima), starts=total)
    best = said("best_and_chance", fun=number(found.best.fun, 6), chance=number(found.chance_of_lower, 2))
    finish(ax, count, best, title=title, legend=legend)
    return ax
