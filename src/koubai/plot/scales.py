"""Scales and ticks that people can read: logarithmic ones, those around zero, and numbers that differ in their ends."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, Formatter, MaxNLocator

from koubai.parameters import FloatArray
from koubai.plot.style import number

__all__ = ["CLOSE", "Numbers", "count_along", "less", "log_scale", "plain_ticks", "roundest"]

CLOSE = 1e-4  # of its size: the ticks of a window so narrow are written as differences from its roundest number


class Numbers(Formatter):
    """Writes ticks less ``offset`` as a person would: 300, 2e−8; of a window, if there is one, to its precision.

    digits: how many of them, at most. wanted: leading digits that are written, all of them if it is None.
    """

    def __init__(
        self, offset: float = 0.0, span: float = 0.0, digits: int = 6, wanted: tuple[int, ...] | None = None
    ) -> None:
        self.offset, self.span, self.digits, self.wanted = offset, span, digits, wanted

    def __call__(self, x: float, pos: int | None = None) -> str:
        value = x - self.offset
        if abs(value) < 1e-9 * self.span:
            value = 0.0
        if self.wanted is not None:
            digit = round(value / 10 ** math.floor(math.log10(value))) if value > 0 else 0
            if digit not in self.wanted:
                return ""
        return number(value, self.digits)


def roundest(low: float, high: float) -> float:
    """Return the number with the fewest digits between low and high."""
    middle = low + (high - low) / 2
    size = max(abs(low), abs(high))
    for digits in range(-math.floor(math.log10(size)) - 1, 17 - math.floor(math.log10(size))) if size > 0 else ():
        rounded = round(middle, digits)
        if low <= rounded <= high:
            return rounded
    return middle if size > 0 else 0.0


def less(name: str, offset: float, digits: int = 15) -> str:
    """Return the label of ``name`` less ``offset``: f, f − 16, x0 + 3."""
    return f"{name} {'−' if offset > 0 else '+'} {number(abs(offset), digits)}" if offset else name


def plain_ticks(axis: Axis, low: float, high: float) -> None:
    """Write the ticks of a linear axis without a factor or a summand in its corner; the summand goes into the label."""
    span, size = high - low, max(abs(low), abs(high))
    offset = roundest(low, high) if span < CLOSE * size else 0.0
    if offset or size >= 1e5 or span < 1e-3:
        axis.set_major_locator(MaxNLocator(6))  # the same in every layout, for long numbers take room
        axis.set_major_formatter(Numbers(offset, span))
        axis.set_label_text(less(axis.get_label_text(), offset))


def count_along(ax: Axes, label: str) -> None:
    """Label the x axis, which counts, write its ticks as whole numbers, and draw the grid."""
    ax.set_xlabel(label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.25)


def log_scale(ax: Axes, values: FloatArray) -> None:
    """Make the y scale logarithmic, and linear around zero if there are zeros or negatives among the values.

    Values that hardly differ, and those that are all zero, stay on a linear scale.
    """
    values = values[np.isfinite(values)]
    sizes = np.abs(values[values != 0])
    if not sizes.size:
        return
    least, most = float(values.min()), float(values.max())
    if least > 0 and most < 1.1 * least:
        plain_ticks(ax.yaxis, *ax.get_ylim())
    elif least > 0:
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        decades = math.log10(high) - math.log10(low)
        if decades > 100:  # matplotlib's locator looks for ticks beyond the largest number
            step = math.ceil(decades / 8)
            exponents = np.arange(math.ceil(math.log10(low)), math.log10(high), step)
            ax.yaxis.set_major_locator(FixedLocator((10.0**exponents).tolist()))
            ax.yaxis.set_minor_locator(FixedLocator([]))
        wanted = tuple(range(2, 10)) if high < 6 * low else (2, 5) if high < 100 * low else ()
        ax.yaxis.set_major_formatter(Numbers(digits=4))
        ax.yaxis.set_minor_formatter(Numbers(wanted=wanted))
    else:
        _symmetrical_log_scale(ax, sizes, least, most)


def _symmetrical_log_scale(ax: Axes, sizes: FloatArray, least: float, most: float) -> None:
    largest = float(sizes.max())
    threshold = max(float(sizes.min()), min(1e-30 * largest, 1e-12 * float(np.median(sizes))))
    threshold = max(threshold, 1e-290 * largest, 1e-270)  # matplotlib divides by it, and takes less for nothing
    decades = math.log10(largest / threshold)
    linear = max(1.0, decades / 12)  # how many decades the linear part is as high as, on each side of zero
    ax.set_yscale("symlog", linthresh=threshold, linscale=linear)
    first = math.log10(threshold)
    heights = [math.log10(side / threshold) + linear if side > threshold else 0.0 for side in (most, -least)]
    step = max(1, math.ceil(sum(heights) / 10))
    ticks: Any = [0.0]
    for sign, height in zip((1.0, -1.0), heights, strict=True):
        lowest = math.ceil(max(first, first + 0.7 * step - linear) / step - 1e-9) * step
        ticks += [sign * 10.0**exponent for exponent in np.arange(lowest, first + height - linear + 0.3, step)]
    ax.yaxis.set_major_locator(FixedLocator(sorted(ticks)))
    ax.yaxis.set_major_formatter(Numbers(digits=4))
    ax.yaxis.set_minor_locator(FixedLocator([]))
