"""The first use of a graph: does it agree with the function it was traced from?

One random directional derivative is compared with differences of the function, at several steps and with the noise of
the function measured, so that neither a kink nor rounding raises falsely and a wrong derivative can't stay silent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from koubai.errors import GradientError, TraceError

__all__ = ["cross_check"]

_STEPS = ((1e-4, 1e-5), (1e-3, 1e-4), (1e-5, 1e-6), (1e-2, 1e-3), (1e-6, 1e-7))
_STEPS_FLOAT32 = ((1e-2, 3e-3), (3e-2, 1e-2), (1e-1, 3e-2))


def cross_check(
    f: Callable[..., Any],
    leaves: Sequence[Any],
    active: Sequence[int],
    value: float,
    gradients: Sequence[Any],
    where: str,
    single: bool = False,
) -> None:
    """Compare ``value`` and ``gradients`` with ``f(*leaves)`` and its differences.

    f: takes the leaves and returns a float; active: the leaves that are differentiated, in the order of ``gradients``;
    single: f computes in float32 somewhere.
    Raises TraceError where two calls of f differ or its value is not the graph's; GradientError where the derivative
    is wrong beyond the measured noise.
    """
    if not all(np.isfinite(leaves[k]).all() for k in active):
        return
    random = np.random.default_rng(20240229)
    directions = [_direction(random, np.asarray(leaves[k], np.float64)) for k in active]
    eps = max(float(np.finfo(np.asarray(leaves[k]).dtype).eps) for k in active)
    if single:
        eps = max(eps, float(np.finfo(np.float32).eps))

    def at(h: float) -> float:
        moved = list(leaves)
        for k, v in zip(active, directions, strict=True):
            x, y = np.asarray(leaves[k]), np.asarray(v * h)
            y += x
            moved[k] = y.astype(x.dtype, copy=False) if x.ndim else x.dtype.type(y)
        for k, leaf in enumerate(moved):
            if leaf is leaves[k] and isinstance(leaf, np.ndarray):
                moved[k] = leaf.copy()
        try:
            return float(f(*moved))
        except Exception:
            if h == 0.0:
                raise
            return float("nan")  # outside the domain of f

    with np.errstate(all="ignore"):
        f0, again = at(0.0), at(0.0)
        if f0 != again and not (np.isnan(f0) and np.isnan(again)):
            raise TraceError(
                f"two calls of {where} at the same x differ: {f0!r} and {again!r}",
                "a function with randomness or hidden state has no gradient; fix the seed inside it",
            )
        if not np.isfinite(f0) or not np.isfinite(value):
            if (np.isnan(f0) and np.isnan(value)) or f0 == value:
                return
            raise TraceError(f"the traced {where} gives {value!r}, the function itself {f0!r}", "please report this")
        noise = max(abs(at(s * 4 * eps) - f0) for s in (-1.0, 1.0))
        noise = max(noise if np.isfinite(noise) else 0.0, eps * abs(f0))
        if abs(value - f0) > 100 * noise + 1e3 * eps * abs(f0):
            raise TraceError(f"the traced {where} gives {value!r}, the function itself {f0!r}", "please report this")
        slope = float(sum(np.sum(np.asarray(g, np.float64) * v) for g, v in zip(gradients, directions, strict=True)))
        undefined = any(np.isnan(g).any() for g in gradients)  # such as 0 · ∞: it may still have a finite value
        if not np.isfinite(slope) and not undefined:
            return
        found: list[tuple[float, float]] = []
        by_step: dict[float, float] = {}
        for h, smaller in _STEPS if eps < 1e-10 else _STEPS_FLOAT32:
            pair = _difference(at, h, smaller, noise)
            if pair is None:
                continue
            error, difference = pair
            if error <= 1e-6 * abs(slope) and abs(difference - slope) <= 10 * error:
                return
            found.append(pair)
            by_step[smaller] = difference
        if _still_growing(by_step, noise):
            return
        # the sharpest difference decides, if the next one confirms it and both tell more than the size
        found.sort()
        if len(found) < 2:
            return
        (error, difference), (next_error, confirmed) = found[:2]
        size = abs(difference) if undefined else max(abs(difference), abs(slope))
        sure = next_error <= 1e-2 * size and abs(difference - confirmed) <= 10 * (error + next_error)
        wrong = sure and (undefined or abs(difference - slope) > 10 * error + 1e3 * eps * size)
        if wrong and not _at_kink(at, f0, slope, noise, eps):
            raise GradientError(
                f"backpropagation through {where} gives the directional derivative {slope!r}, a difference gives "
                f"{difference!r}; the measured noise of f is {noise:.2g}. Use method='adaptive', and report this"
            )


def _still_growing(by_step: dict[float, float], noise: float) -> bool:
    """Do the differences grow as the step shrinks? Then a singularity is nearer than any step, and none can tell."""
    if len(by_step) < 2:
        return False
    (finest, sharp), (_, blunt) = sorted(by_step.items())[:2]
    return abs(sharp) - 4 * noise / finest > 2 * abs(blunt)


def _direction(random: np.random.Generator, x: Any) -> Any:
    """Return a random direction in the scale of x, element by element."""
    v = np.asarray(random.choice([-1.0, 1.0], x.shape))
    v *= random.uniform(0.5, 1.5, x.shape)  # in place, here and in `at`: large arguments must not need many arrays
    scale = np.asarray(np.abs(x))
    np.putmask(scale, scale == 0, scale.max() or 1.0)
    v *= scale
    return v


def _difference(at: Callable[[float], float], h: float, smaller: float, noise: float) -> tuple[float, float] | None:
    """Return (error, derivative along the direction) from two steps; None where f is not finite on any side."""
    for left, right in ((-1.0, 1.0), (0.0, 1.0), (-1.0, 0.0)):  # central, and one-sided where f ends
        wide, narrow = ((at(right * s) - at(left * s)) / ((right - left) * s) for s in (h, smaller))
        if np.isfinite(wide) and np.isfinite(narrow):
            return abs(wide - narrow) + 4 * noise / smaller, narrow
    return None


def _at_kink(at: Callable[[float], float], f0: float, slope: float, noise: float, eps: float) -> bool:
    """Does the function bend here, with ``slope`` between the two one-sided slopes?"""
    h = 1e-6 if eps < 1e-10 else 1e-2
    left, right = (f0 - at(-h)) / h, (at(h) - f0) / h
    error = 10 * (noise / h) + 1e-4 * max(abs(left), abs(right))
    return abs(right - left) > error and min(left, right) - error <= slope <= max(left, right) + error
