"""Derivatives of a plain function by differences that know nothing of koubai."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

STEP = 0.02


def argument(point: Any) -> Any:
    """Return a point as a function is called with it: a float64 for a number, otherwise an array of its own."""
    return np.float64(point) if np.ndim(point) == 0 else np.array(point, float)


def slope(f: Callable[[Any], Any], point: Any, step: float = STEP) -> tuple[Any, float]:
    """Return (gradient, error): central differences at three steps, extrapolated to step 0.

        d(h) = (f(x + h) - f(x - h)) / 2 h,   d + O(h⁶) from d(h), d(h/2), d(h/4)

    error: how far the best extrapolation lies from the second best, or from a difference over a far smaller step by
    more than its truncation, as where a kink is near; for the worst component. inf where f is not defined beside the
    point, and where the point is a kink: the slopes to its two sides do not come together as the step shrinks.
    """
    x = np.array(point, float)
    gradient, error = np.empty(x.shape), 0.0
    for at in np.ndindex(x.shape):
        differences, bends = [], []
        for h in (step, step / 2, step / 4, step / 16):
            right, left = x.copy(), x.copy()
            right[at] += h
            left[at] -= h
            try:
                above, here, below = (float(f(argument(side))) for side in (right, x, left))
            except Exception:
                return gradient, np.inf
            differences.append((above - below) / (right[at] - left[at]))
            bends.append(abs((above - here) / (right[at] - x[at]) - (here - below) / (x[at] - left[at])))
        if bends[3] > max(0.5 * bends[2], 1e-6 * (1 + abs(differences[3]))):
            return gradient, np.inf
        first, second, third, small = differences
        coarse, fine = (4 * second - first) / 3, (4 * third - second) / 3
        gradient[at] = best = (16 * fine - coarse) / 15
        apart = abs(small - best) - abs(first - best) / 64  # four times the truncation of a smooth f
        error = max(error, abs(best - fine), apart) if np.isfinite(best) else np.inf
    return (gradient if x.ndim else gradient[()]), error


def bend(f: Callable[[Any], Any], point: Any) -> tuple[Any, float]:
    """Return (the matrix of second derivatives, error), by differences of `slope`."""
    x = np.array(point, float)
    rows, error = np.empty(x.shape * 2), 0.0
    for at in np.ndindex(x.shape):
        sides = []
        for h in (0.04, -0.04, 0.02, -0.02):
            beside = x.copy()
            beside[at] += h
            sides.append(slope(f, beside))
        coarse, fine = ((sides[i][0] - sides[i + 1][0]) / h for i, h in ((0, 0.08), (2, 0.04)))
        rows[at] = row = (4 * fine - coarse) / 3
        error = max(error, np.max(np.abs(row - fine)) * 0.1, *(25 * side[1] for side in sides))
    return (rows if x.ndim else rows[()]), error
