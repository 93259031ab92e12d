"""The parts of a descent that a picture shows: the points of its path, the known minima, and the window with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from koubai.descent.record import Run, Status, rows_of
from koubai.errors import InputError
from koubai.parameters import FloatArray, Layout, flatten

__all__ = ["beginning", "fill", "include", "layout_of", "minima_of", "points_of", "surround", "within"]

MARGIN = 0.2  # of the path's extent, on each side of it


def layout_of(run: Run, size: int | None = None, name: str = "") -> Layout:
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


def points_of(run: Run, layout: Layout) -> FloatArray:
    """Return the path as (rows, n)."""
    return rows_of(run.history.x, layout).astype(np.float64)


def minima_of(minima: Iterable[Any], layout: Layout) -> FloatArray:
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


def beginning(run: Run, points: FloatArray) -> FloatArray:
    """Return the part of the path that can be read at one scale: all of it, or the beginning of one that runs away.

    A path whose steps grow by orders of magnitude has no scale at which all of it can be read. Shown of it are the
    steps up to eight times as long as the first one, and the best point.
    """
    steps = np.abs(np.diff(points, axis=0)).max(axis=1, initial=0.0)
    moved = steps[steps > 0]
    fun = run.history.fun
    if not moved.size or steps.max() <= 30 * moved[0] or not (run.status is Status.diverged or fun[-1] > fun[0]):
        return points
    best = int(np.argmin(fun))
    if best == len(fun) - 1:  # f falls without end: its lowest point is as far away as the end
        best = 0
    return points[: max(best, int(np.argmax(steps > 8 * moved[0]))) + 1]


def surround(points: FloatArray, margin: float = MARGIN) -> FloatArray:
    """Return ranges (n, 2) that hold the points, with ground on all sides of them."""
    low, high = points.min(axis=0), points.max(axis=0)
    extent = high - low
    # A path that does not move along one axis, or not at all, still needs ground on both sides of it
    smallest = extent.max() / 2 if extent.max() > 0 else max(1.0, float(np.abs(points[0]).max()))
    rounding = 1e-9 * np.maximum(np.abs(low), np.abs(high))
    extent = np.where(extent > np.maximum(rounding, 1e-6 * extent.max()), extent, smallest)
    middle, half = (low + high) / 2, extent * (0.5 + margin)
    return np.column_stack([middle - half, middle + half])


def include(ranges: FloatArray, known: FloatArray) -> FloatArray:
    """Widen ``ranges`` to hold the known minima, unless the path would then be too small to read."""
    if not len(known):
        return ranges
    low, high = known.min(axis=0), known.max(axis=0)
    pad = 0.1 * np.maximum(high - low, ranges[:, 1] - ranges[:, 0])
    wider = np.column_stack([np.minimum(ranges[:, 0], low - pad), np.maximum(ranges[:, 1], high + pad)])
    return wider if (np.ptp(wider, axis=1) <= 4 * np.ptp(ranges, axis=1)).all() else ranges


def fill(ranges: FloatArray, shape: float = 1.25) -> FloatArray:
    """Widen the shorter side so that equal scales fill a picture of this shape, if the two scales are comparable."""
    x, y = np.ptp(ranges, axis=1)
    if not 0.25 < x / y < 4:
        return ranges
    half = np.array([max(x, shape * y), max(y, x / shape)]) / 2
    middle = (ranges[:, 0] + ranges[:, 1]) / 2
    return np.column_stack([middle - half, middle + half])


def within(points: FloatArray, ranges: FloatArray) -> Any:
    """Tell of each point whether it is in the ranges."""
    return ((points >= ranges[:, 0]) & (points <= ranges[:, 1])).all(axis=1)
