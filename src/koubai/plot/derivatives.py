"""Pictures of a derivative: the tangent and the secants, the error of the differences, the field of the gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from koubai.derivatives.differences import Estimate, derivative, numerical_gradient
from koubai.errors import FunctionError, InputError
from koubai.parameters import FloatArray, Layout, as_scalar, flatten
from koubai.plot.field import NO_VALUE, draw_field, height, label_axes, read_ranges, sample_line, set_aspect, shown
from koubai.plot.style import CURVE, DARK, LIGHT, PATH, THIRD, axes_for, halo, number, place_legend, write_title

__all__ = ["difference_error", "gradient_field", "tangent"]

ARROWS = 15  # along each axis of the gradient field
EPS = float(np.finfo(np.float64).eps)


def tangent(
    f: Callable[[Any], Any], x: float, *, h: float | Sequence[float] | None = None, ax: Axes | None = None
) -> Axes:
    """Tangent: the curve of f around x, the line that touches it there, and secants that turn into it.

        tangent  y = f(x) + f'(x) (s − x)              slope f'(x), intercept f(x) − f'(x) x
        secant   slope (f(x+h) − f(x)) / h

    x: a number. h: one step or several, not 0, negative for the other side; each gives the secant through x and x+h,
    the fainter the longer. f'(x) is `koubai.derivative`'s best value.
    Returns the axes. Raises InputError for an x or h that can't be used, also where x+h == x, and FunctionError where f
    is not finite at x or x+h.
    """
    layout, x = _number(x)
    steps = sorted(_steps(h, x), key=abs, reverse=True)
    slope = derivative(f, x)
    at_x = _value(f, layout, x)
    ends = [_value(f, layout, x + step) for step in steps]
    ax = axes_for(ax)

    half = max(abs(x) / 2, 1.0)
    if steps and abs(steps[0]) >= 0.02 * half:  # a shorter secant can't be told from the tangent at any window
        half = 1.6 * abs(steps[0])
    window = np.array([x - half, x + half])
    grid, curve = sample_line(f, layout, *window)
    ax.plot(grid, curve, color=CURVE, linewidth=2.5, solid_capstyle="butt", path_effects=halo(2.5, 0.5), label="f")
    touching = at_x + float(slope) * (window - x)
    for i, (step, end) in enumerate(zip(steps, ends, strict=True)):
        secant = (end - at_x) / step
        label = f"secant, h = {number(step)}: slope {number(secant, 6)}"
        fading = 0.4 + 0.6 * (i + 1) / len(steps)
        ax.plot(
            window, at_x + secant * (window - x), color=THIRD, linewidth=1.8, linestyle="--", alpha=fading, label=label
        )
        ax.plot(x + step, end, marker="o", markersize=6, color=THIRD, markeredgecolor=DARK)
    line = f"tangent: slope {number(float(slope), 6)}, intercept {number(_intercept(slope, x, at_x), 6)}"
    ax.plot(window, touching, color=PATH, linewidth=2, path_effects=halo(2, 0.5), label=line)
    ax.plot(x, at_x, marker="o", markersize=8, color=PATH, markeredgecolor=DARK)
    ax.set_xlim(*window)
    ax.set_ylim(*height(curve, np.array([at_x, *ends, *touching])))
    label_axes(ax, f, layout, "f")
    write_title(ax, f"The tangent of f at {ax.get_xlabel()} = {number(x)}")
    ax.grid(alpha=0.25)
    lines = np.column_stack([np.tile(grid, 2), np.concatenate([curve, at_x + float(slope) * (grid - x)])])
    place_legend(ax, lines, marks=np.array([[x, at_x]]))
    return ax


def difference_error(f: Callable[[Any], Any], x: float, *, exact: float | None = None, ax: Axes | None = None) -> Axes:
    """Difference error: how far forward, backward and central differences are off, against the step h.

        truncation  ∝ h (forward, backward), ∝ h² (central)        rounding  ∝ eps |f| / h

    A large h cuts off too much of f's bend, a small one leaves nothing but rounding: the sum is a V on logarithmic
    scales. Marked on each curve is the h that the method takes as the optimum when none is given. An error of exactly
    0 is drawn at the lower edge.
    x: a number. exact: f'(x); None takes `koubai.derivative`'s own best value, and shades what lies below its error
    estimate. Grey on the left: x + h rounds to x.
    Returns the axes. Raises InputError for an x or exact that can't be used, or where exact is needed because f'(x)
    can't be found, and FunctionError where f is not finite at x.
    """
    _, x = _number(x)
    if exact is None:
        reference = derivative(f, x)
        true, uncertainty = float(reference), reference.error
        if not math.isfinite(true + uncertainty):
            raise InputError(f"f'({x!r}) can't be found: {'; '.join(reference.warnings)}; give it as exact=")
    else:
        (_, true), uncertainty = _number(exact, "exact"), 0.0
    scale = max(abs(x), 1.0)
    h = scale * np.logspace(-17, 0, 205)
    ax = axes_for(ax)
    smallest = max(EPS * abs(true), uncertainty) / 8 or EPS

    def error(estimate: Estimate) -> float:
        return max(abs(float(estimate) - true), smallest)  # an exact hit has no place on a logarithmic scale

    styles = {"forward": (CURVE, "-", "o"), "backward": (PATH, "--", "s"), "central": (THIRD, "-", "D")}
    points, marks = [], []
    for method, (color, style, marker) in styles.items():
        errors = np.array([error(derivative(f, x, method=method, h=step)) for step in h])
        errors[~np.isfinite(errors)] = np.nan
        best = derivative(f, x, method=method)
        ax.plot(h, errors, color=color, linestyle=style, linewidth=1.6, path_effects=halo(1.6, 0.4),
                label=f"{method}, optimal h ≈ {number(best.h, 2)}")  # fmt: skip
        ax.plot(best.h, error(best), marker=marker, markersize=9, color=color, markeredgecolor=DARK, zorder=4)
        points.append(np.column_stack([h, errors]))
        marks.append((best.h, error(best)))
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(h[0], h[-1])
    stuck = float(np.spacing(abs(x))) / 2
    shades: list[Patch] = []
    if stuck > h[0]:
        ax.axvspan(h[0], stuck, color=NO_VALUE, alpha=0.6, linewidth=0)
        shades.append(Patch(color=NO_VALUE, alpha=0.6, label="x + h rounds to x"))
    if uncertainty > 0:
        ax.set_ylim(bottom=smallest / 2)
        ax.axhspan(smallest / 2, uncertainty, color=PATH, alpha=0.2, linewidth=0)
        shades.append(Patch(color=PATH, alpha=0.2, label="below what the reference can tell"))
    ax.set_xlabel("h")
    ax.set_ylabel("|difference − f'(x)|")
    source = f"f'({number(x)}) = {number(true, 6)}" + ("" if exact is not None else f" ± {number(uncertainty, 1)}")
    write_title(ax, f"The error of the three differences: {source}")
    ax.grid(alpha=0.25)
    place_legend(ax, np.vstack(points), marks=np.array(marks), extra=shades)
    return ax


def gradient_field(
    f: Callable[[Any], Any],
    bounds: Any,
    *,
    gradient: Callable[[Any], Any] | None = None,
    downhill: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Gradient field: arrows of ∇f over the filled contours of a function of two variables.

        ∇f = (∂f/∂x0, ∂f/∂x1)        downhill=True draws −∇f, the way a descent goes

    f: takes x of shape (2,). bounds: one (low, high) pair for both variables, or a pair for each. gradient: a function
    that returns ∇f(x) in shape (2,), or an Estimate; None takes central differences.
    Arrows are as long as the gradient is large, in proportion; where the largest would hide the rest they show its
    direction alone, and the title says so. Grey ground: f has no finite value there.
    Returns the axes. Raises InputError for unusable bounds or a gradient of another shape, and where there is no
    gradient in the whole window what f or gradient itself raises, or FunctionError.
    """
    layout = Layout(None, ((2,),), False, np.dtype(np.float64))
    ranges = read_ranges(bounds, 2)
    tails = [low + (high - low) * (np.arange(ARROWS) + 0.5) / ARROWS for low, high in ranges]
    columns = np.stack(np.meshgrid(*tails)).reshape(2, -1).T
    arrows = np.array([_gradient_at(f, gradient, layout, point) for point in columns])
    finite = np.isfinite(arrows).all(axis=1)
    if not finite.any():
        with np.errstate(all="ignore"):
            _value(f, layout, columns[0])
            if gradient is not None:
                gradient(columns[0].copy())
        raise FunctionError(f"the gradient is not finite anywhere in bounds {ranges.tolist()}")
    columns, arrows = columns[finite], arrows[finite]
    if downhill:
        arrows = -arrows

    ax = axes_for(ax)
    field = draw_field(ax, f, layout, ranges)
    lengths = np.linalg.norm(arrows, axis=1)
    proportional = lengths.max() <= 6 * np.median(lengths)
    if not proportional:
        arrows = arrows / np.where(lengths > 0, lengths, 1.0)[:, np.newaxis]
        lengths = np.linalg.norm(arrows, axis=1)
    longest = lengths.max()
    if longest > 0:
        ax.quiver(
            *columns.T, *arrows.T, angles="xy", scale_units="width", scale=longest * ARROWS / 1.2, units="inches",
            width=0.018, headwidth=4.5, headlength=5, headaxislength=4.5, pivot="tail" if proportional else "mid",
            color=LIGHT, edgecolor=DARK, linewidth=0.6, zorder=3,
        )  # fmt: skip
    label_axes(ax, f, layout)
    set_aspect(ax, ranges)
    what = "−∇f, the direction of steepest descent" if downhill else "The gradient ∇f"
    write_title(ax, what + ("" if proportional else " (direction only)"))
    if field is None or field.has_gaps:
        ax.legend(handles=[Patch(facecolor=NO_VALUE, edgecolor=DARK, label="f not finite")], loc="upper right")
    return ax


def _number(x: Any, argument: str = "x") -> tuple[Layout, float]:
    """Return the form and value of a finite number. Raises InputError for anything else."""
    layout, vector = flatten(x, argument)
    if not layout.is_number:
        raise InputError(f"{argument} must be one number, got {x!r}")
    return Layout(None, ((),), True, np.dtype(np.float64)), float(vector[0])


def _steps(h: float | Sequence[float] | None, x: float) -> list[float]:
    if h is None:
        return []
    _, steps = flatten(h, "h")
    for step in steps.tolist():
        if x + step == x:
            raise InputError(f"h = {step!r} gives no secant at x = {x!r}: x + h == x; take a larger one")
    return [float(step) for step in steps]


def _value(f: Callable[[Any], Any], layout: Layout, x: Any) -> float:
    """Return f(x), which must be finite."""
    with np.errstate(all="ignore"):
        value = float(as_scalar(f(shown(layout, np.atleast_1d(x)))))
    if not math.isfinite(value):
        raise FunctionError(f"f is not finite there: f({x!r}) = {value}")
    return value


def _intercept(slope: Estimate, x: float, at_x: float) -> float:
    """Return f(x) − f'(x) x, as 0 where it can't be told from 0."""
    intercept = at_x - float(slope) * x
    unsure = slope.error * abs(x) + 4 * EPS * abs(at_x)
    return 0.0 if abs(intercept) <= unsure else intercept


def _gradient_at(
    f: Callable[[Any], Any], gradient: Callable[[Any], Any] | None, layout: Layout, point: FloatArray
) -> FloatArray:
    """Return ∇f at ``point``, NaN where it does not exist. Raises InputError where ``gradient`` has another shape."""
    try:
        with np.errstate(all="ignore"):
            value = numerical_gradient(f, point, method="central") if gradient is None else gradient(point.copy())
    except Exception:  # outside its domain f may raise anything: no arrow there
        return np.full(2, np.nan)
    return layout.match(value.value if isinstance(value, Estimate) else value, "gradient(x)")
