"""The ground of a picture: a function sampled over a window without a crash, and its filled contours."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm, Normalize
from matplotlib.contour import QuadContourSet
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from koubai.errors import InputError
from koubai.parameters import FloatArray, Layout, as_scalar
from koubai.plot.scales import CLOSE, less, plain_ticks, roundest
from koubai.plot.style import DARK, FIELD, figure_of, number
from koubai.plot.text import said

__all__ = [
    "Field",
    "Levels",
    "choose_levels",
    "draw_field",
    "gaps_of",
    "height",
    "label_axes",
    "read_ranges",
    "sample_grid",
    "sample_line",
    "sample_points",
    "scale_beside",
    "set_aspect",
    "shown",
]

# Points along each axis: if one call on the whole grid is right, and if f must be called point by point.
LINE, LINE_POINTWISE = 1201, 401
GRID, GRID_POINTWISE = 241, 61
PROBES = 64
DECADES = 2.0  # a field that spans more than this many powers of ten gets log-scaled levels
NO_VALUE = "#BDBDBD"  # the background where f has no finite value

Function = Callable[[Any], Any]


def shown(layout: Layout, columns: FloatArray) -> Any:
    """Show a copy of ``columns`` (n, …), one entry an element of x, in the form of x; the trailing axes are kept."""
    columns = columns.astype(layout.dtype)  # a copy: f may write into what it is given
    if layout.is_number:
        return columns[0]
    rest = columns.shape[1:]
    if layout.names is None:
        return columns.reshape(layout.shapes[0] + rest)
    pairs = zip(layout.slices, layout.shapes, strict=True)
    return layout.assembled([columns[part].reshape(shape + rest) for part, shape in pairs])


def sample_line(f: Function, layout: Layout, low: float, high: float) -> tuple[FloatArray, FloatArray]:
    """Return points from low to high and f there; NaN if f raises or has no finite value."""
    x = np.linspace(low, high, LINE)
    values = _at_once(f, layout, x[np.newaxis])
    if values is None:
        x = np.linspace(low, high, LINE_POINTWISE)
        values = sample_points(f, layout, x[np.newaxis])
    return x, values


def sample_grid(f: Function, layout: Layout, ranges: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return x0 (W,), x1 (H,) and f there (H, W); NaN if f raises or has no finite value."""
    x0, x1, values = _grid(ranges, GRID, lambda columns: _at_once(f, layout, columns))
    if values is None:
        x0, x1, values = _grid(ranges, GRID_POINTWISE, lambda columns: sample_points(f, layout, columns))
        assert values is not None
    return x0, x1, values


def _grid(
    ranges: FloatArray, count: int, evaluate: Callable[[FloatArray], FloatArray | None]
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    x0, x1 = (np.linspace(low, high, count) for low, high in ranges)
    return x0, x1, evaluate(np.stack(np.meshgrid(x0, x1)))


def _at_once(f: Function, layout: Layout, columns: FloatArray) -> FloatArray | None:
    """Return f on all points by one call, or None if that is not what f gives point by point.

    Many functions accept the whole grid by broadcasting; some accept it and mean something else (a sum over all, a
    branch that looks at one element). So the answer is used only after it agrees at random points.
    """
    try:
        with np.errstate(all="ignore"):
            values = np.asarray(f(shown(layout, columns)))
    except Exception:
        return None
    if values.shape != columns.shape[1:] or values.dtype.kind not in "fiu":
        return None
    flat = columns.reshape(len(columns), -1)
    probes = np.random.default_rng(0).choice(flat.shape[1], PROBES, replace=False)
    rtol = 1e-3 if np.float32 in (values.dtype, layout.dtype) else 1e-8
    values = _finite(values)
    if not np.allclose(values.ravel()[probes], sample_points(f, layout, flat[:, probes]), rtol, 1e-12, equal_nan=True):
        return None
    return values


def sample_points(f: Function, layout: Layout, columns: FloatArray) -> FloatArray:
    """Return f at each of ``columns`` (n, …), by single calls; NaN if f raises or has no finite value."""
    flat = columns.reshape(len(columns), -1)
    values = np.full(flat.shape[1], np.nan)
    with np.errstate(all="ignore"):
        for i in range(flat.shape[1]):
            try:
                values[i] = as_scalar(f(shown(layout, flat[:, i])))
            except Exception:  # outside its domain f may raise anything: the picture shows a gap there
                continue
    return _finite(values.reshape(columns.shape[1:]))


def _finite(values: FloatArray) -> FloatArray:
    values = values.astype(np.float64)
    values[~np.isfinite(values)] = np.nan
    return np.clip(values, -1e300, 1e300)  # room for differences and margins, which must not overflow


def read_ranges(bounds: Any, n: int) -> FloatArray:
    """Return ``bounds`` as (n, 2): one (low, high) pair for all elements of x, or one an element.

    Raises InputError if that can't be read, is not finite, or is crossed.
    """
    try:
        ranges = np.array(bounds, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"bounds must be a (low, high) pair or one pair an element of x, got {bounds!r}") from None
    if ranges.shape not in ((2,), (n, 2)):
        raise InputError(f"bounds have shape {ranges.shape}; give one (low, high) pair, or {n} of them")
    ranges = np.broadcast_to(ranges, (n, 2))
    if not np.isfinite(ranges).all() or not (ranges[:, 0] < ranges[:, 1]).all():
        raise InputError(f"bounds must be finite with low below high, got {bounds!r}")
    return ranges


@dataclass(frozen=True)
class Levels:
    """Contour levels of f − base, ascending, and how colours go with them. log: evenly spaced in log(f − base)."""

    base: float
    values: FloatArray
    log: bool

    @property
    def norm(self) -> Normalize:
        return (LogNorm if self.log else Normalize)(self.values[0], self.values[-1])

    def ticks(self) -> list[float]:
        """Return the levels to write beside the colours: powers of ten, also twice and five times, or even steps."""
        low, high = float(self.values[0]), float(self.values[-1])
        if not self.log:
            ticks = list(MaxNLocator(8).tick_values(low, high))
        else:
            first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
            powers = range(first, last + 1, max(1, math.ceil((last - first) / 8)))
            ticks = [digit * 10.0**power for power in powers for digit in ((1, 2, 5) if last - first <= 3 else (1,))]
        margin = 1e-9 * (high - low)
        return [tick for tick in ticks if low - margin <= tick <= high + margin]

    @property
    def label(self) -> str:
        """The name of the quantity of the levels: ``f``, or ``f − base``."""
        return less("f", self.base, 4 if self.log else 15)


def choose_levels(values: FloatArray, least: float = math.inf) -> Levels:
    """Choose contour levels: log-spaced above the least value if f spans decades, else linear.

    values: f over the window, NaN if it has none; at least one is finite. least: a value of f known to be lower (a
    minimum that the grid misses). The highest and lowest hundredths of the window, by area, do not count: a pole in one
    pixel would otherwise paint all the rest in one colour.
    """
    finite = values[np.isfinite(values)]
    base = min(float(finite.min()), least)
    above = finite - base
    positive = above[above > 0]
    if positive.size == 0:  # f is constant
        return Levels(0.0, np.linspace(base - 1, base + 1, 3), log=False)
    low, high = np.quantile(positive, [0.01, 0.99])
    low = max(low, 16 * np.finfo(np.float64).eps * abs(base))  # differences below f's rounding are noise
    if high > low * 10**DECADES:
        if 0 <= base < low:  # f itself spans the decades: its own values are easier to read than differences
            base = 0.0
        per_decade = max(1, min(8, round(20 / math.log10(high / low))))
        start, stop = math.floor(math.log10(low) * per_decade), math.ceil(math.log10(high) * per_decade)
        step = max(1, (stop - start) // 40)
        exponents = np.arange(start, stop + step, step) / per_decade
        return Levels(base, 10.0 ** np.clip(exponents, -300, 300), log=True)
    bottom, top = finite.min(), np.quantile(finite, 0.99)
    if not top > bottom:  # f is constant but for less than a hundredth of the window
        top = finite.max()
    # values that differ in their last digits only are written less what they have in common
    base = roundest(float(bottom), float(top)) if top - bottom < CLOSE * max(abs(bottom), abs(top)) else 0.0
    linear = MaxNLocator(20, steps=[1, 2, 2.5, 5, 10]).tick_values(float(bottom) - base, float(top) - base)
    return Levels(base, np.asarray(linear), log=False)


@dataclass(frozen=True)
class Field:
    """The result of `draw_field`: sampled values, levels and contours; has_gaps: f had no finite value somewhere."""

    values: FloatArray
    levels: Levels
    contours: QuadContourSet
    has_gaps: bool


def draw_field(ax: Axes, f: Function, layout: Layout, ranges: FloatArray, least: float = math.inf) -> Field | None:
    """Fill ``ax`` with the contours of f over ``ranges`` and a scale beside it; None if f has no value."""
    x0, x1, values = sample_grid(f, layout, ranges)
    has_gaps = not np.isfinite(values).all()
    if has_gaps:
        ax.set_facecolor(NO_VALUE)
    if not np.isfinite(values).any():
        return None
    levels = choose_levels(values, least)
    z = np.ma.masked_invalid(values - levels.base)
    if levels.log:
        z = np.ma.maximum(z, levels.values[0] * 1e-3)  # the least value itself is 0, which has no logarithm
    filled = ax.contourf(x0, x1, z, levels.values, norm=levels.norm, cmap=FIELD, extend="both")
    ax.contour(x0, x1, z, levels.values, colors=DARK, linewidths=0.4, alpha=0.35)
    scale = scale_beside(ax, filled)
    scale.set_label(levels.label)
    ticks = levels.ticks()
    nothing = 0.0 if levels.log else 1e-9 * float(np.ptp(levels.values))
    scale.set_ticks(
        ticks, labels=[number(0.0 if abs(tick) < nothing else tick, 4 if levels.log else 6) for tick in ticks]
    )
    scale.minorticks_off()
    ax.set_xlim(*ranges[0])
    ax.set_ylim(*ranges[1])
    return Field(values, levels, filled, has_gaps)


def scale_beside(ax: Axes, colors: ScalarMappable, **how: Any) -> Colorbar:
    """Draw the scale of these colours beside the axes, not out of them.

    It is as tall as the axes at any aspect, and a figure that the caller has laid out keeps its axes.
    """
    return figure_of(ax).colorbar(colors, cax=ax.inset_axes((1.02, 0, 0.03, 1)), **how)


def gaps_of(field: Field | None) -> list[Patch]:
    """Return the row of the legend on where f is not finite, if that is anywhere."""
    if field is not None and not field.has_gaps:
        return []
    return [Patch(facecolor=NO_VALUE, edgecolor=DARK, label=said("f_not_finite"))]


def height(curve: FloatArray, points: FloatArray) -> tuple[float, float]:
    """Return the y range that shows all of the points, and of the curve as much as leaves the points readable."""
    finite = curve[np.isfinite(curve)]
    if not finite.size and not points.size:
        return -1.0, 1.0
    low, high = points.min(initial=np.inf), points.max(initial=-np.inf)
    if finite.size:
        least, tenth, most, greatest = np.quantile(finite, [0, 0.1, 0.9, 1])
        low, high = min(low, most), max(high, tenth)
        room = max(high - low, most - tenth) / 2
        low, high = min(low, max(least, low - room)), max(high, min(greatest, high + room))
    margin = 0.06 * (high - low) or max(1.0, 0.1 * abs(high))
    return float(low - margin), float(high + margin)


def set_aspect(ax: Axes, ranges: FloatArray) -> None:
    """Make the scales of the two axes equal unless the window is like a strip."""
    width, height = np.ptp(ranges, axis=1)
    ax.set_aspect("equal" if 0.4 < width / height < 2.5 else "auto")


def label_axes(ax: Axes, f: Function, layout: Layout, *others: str) -> None:
    """Label the axes, whose limits are set, with the names of x's elements, and write their ticks plainly.

    The names are f's own ``variables``, the dict's keys, or x, x0, x1.
    """
    variables = getattr(f, "variables", None)
    if variables is not None and len(variables) == layout.size:
        names = [str(name) for name in variables]
    elif layout.names is not None:
        names = [layout.label(i) for i in range(layout.size)]
    else:
        names = ["x"] if layout.size == 1 else [f"x{i}" for i in range(layout.size)]
    x_label, y_label = [*names, *others]
    ax.set_xlabel(x_label)
    ax.set_ylabel(y_label)
    plain_ticks(ax.xaxis, *ax.get_xlim())
    plain_ticks(ax.yaxis, *ax.get_ylim())
