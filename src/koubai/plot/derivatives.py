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
from koubai.plot.field import (
    NO_VALUE,
    draw_field,
    gaps_of,
    height,
    label_axes,
    read_ranges,
    sample_line,
    set_aspect,
    shown,
)
from koubai.plot.fitting import finish
from koubai.plot.style import CURVE, DARK, END, LIGHT, PATH, THIRD, axes_for, halo, number
from koubai.plot.text import said

__all__ = ["difference_error", "gradient_field", "tangent"]

ARROWS = 15  # along each axis of the gradient field
EPS = float(np.finfo(np.float64).eps)


def tangent(
    f: Callable[[Any], Any],
    x: float,
    *,
    h: float | Sequence[float] | None = None,
    title: str | None = None,
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Tangent: the curve of f around x, the line that touches it there, and secants that turn into it.

        tangent  y = f(x) + f'(x) (s − x)              slope f'(x), intercept f(x) − f'(x) x
        secant   slope (f(x+h) − f(x)) / h

    f'(x) is `koubai.derivative`'s best value. At a kink, which has no tangent, the one-sided tangents are drawn
    instead; the title says so, and anything else that `koubai.derivative` warns of.

    Parameters
    ----------
    f : callable
        Takes a number and returns one.
    x : float
        The point.
    h : float or list of float, optional
        One step or several, not 0, negative for the other side; each gives the secant through x and x+h, the fainter
        the longer.
    title : str, optional
        None names the picture, "" leaves it out.
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
        For an x or h that can't be used, also if x+h == x.
    FunctionError
        If f is not finite at x or x+h.

    Examples
    --------
    >>> ax = kb.plot.tangent(lambda x: x**3, 10.0, h=3)
    >>> ax.get_title()
    'The tangent of f at x = 10'
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
    touching = _touching(f, slope, x, at_x)
    for i, (step, end) in enumerate(zip(steps, ends, strict=True)):
        secant = (end - at_x) / step
        label = said("secant", h=number(step), slope=number(secant, 6))
        fading = 0.4 + 0.6 * (i + 1) / len(steps)
        ax.plot(
            window, at_x + secant * (window - x), color=THIRD, linewidth=1.8, linestyle="--", alpha=fading, label=label
        )
        ax.plot(x + step, end, marker="o", markersize=6, color=THIRD, markeredgecolor=DARK)
    for name, steepness, side, color in touching:
        reach = window if side == 0 else np.sort([x, x + side * half])
        intercept = number(_intercept(steepness, slope.error if side == 0 else 0.0, x, at_x), 6)
        ax.plot(
            reach, at_x + steepness * (reach - x), color=color, linewidth=2, path_effects=halo(2, 0.5),
            label=said("slope", name=name, slope=number(steepness, 6), intercept=intercept),
        )  # fmt: skip
    ax.plot(x, at_x, marker="o", markersize=8, color=PATH, markeredgecolor=DARK)
    ax.set_xlim(*window)
    edges = [at_x + steepness * end for _, steepness, side, _ in touching for end in (-half, half) if end * side >= 0]
    ax.set_ylim(*height(curve, np.array([at_x, *ends, *edges])))
    label_axes(ax, f, layout, "f")
    name_of_x = ax.get_xlabel()
    what = {0: "no_tangent_at", 1: "tangent_at"}.get(len(touching), "tangents_at")
    ax.grid(alpha=0.25)
    finish(ax, said(what, name=name_of_x, at=number(x)), *slope.warnings, title=title, legend=legend)
    return ax


def _touching(f: Callable[[Any], Any], slope: Estimate, x: float, at_x: float) -> list[tuple[str, float, int, str]]:
    """Return the tangents at x, each with its slope, side (0: both) and colour: one, two at a kink, or none."""
    if not any("kink" in warning for warning in slope.warnings):
        jumps = any("jump" in warning for warning in slope.warnings) or not math.isfinite(float(slope))
        return [] if jumps else [(said("tangent"), float(slope), 0, PATH)]
    sides = []
    for name, method, side, color in (("left", "backward", -1, PATH), ("right", "forward", 1, END)):
        near = derivative(f, x, method=method)
        nearer = derivative(f, x, method=method, h=near.h / 16)
        if abs(float(near) - float(nearer)) <= 1e-3 * max(abs(float(near)), 1e-3):  # else it is vertical there
            value = float(near) if abs(float(near)) > 1e-6 * max(1.0, abs(at_x)) else 0.0
            sides.append((said(f"tangent_{name}"), value, side, color))
    return sides


def difference_error(
    f: Callable[[Any], Any],
    x: float,
    *,
    exact: float | None = None,
    title: str | None = None,
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Difference error: how far forward, backward and central differences are off, against the step h.

        truncation  ∝ h (forward, backward), ∝ h² (central)        rounding  ∝ eps |f| / h

    A large h cuts off too much of f's bend, a small one leaves nothing but rounding: the sum is a V on logarithmic
    scales. Marked on each curve is the h that the method takes as the optimum if none is given. An error of exactly
    0 is drawn at the lower edge. Grey on the left: x + h rounds to x.

    Parameters
    ----------
    f : callable
        Takes a number and returns one.
    x : float
        The point.
    exact : float, optional
        f'(x); None takes `koubai.derivative`'s own best value, and shades what is below its error estimate.
    title : str, optional
        None names the picture, "" leaves it out.
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
        For an x or exact that can't be used, or if exact is needed because f'(x) can't be found.
    FunctionError
        If f is not finite at x.

    Examples
    --------
    >>> kb.plot.difference_error(np.sin, 1.0).get_xscale()
    'log'
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
    for method, (color, style, marker) in styles.items():
        errors = np.array([error(derivative(f, x, method=method, h=step)) for step in h])
        errors[~np.isfinite(errors)] = np.nan
        best = derivative(f, x, method=method)
        ax.plot(h, errors, color=color, linestyle=style, linewidth=1.6, path_effects=halo(1.6, 0.4),
                label=said("optimal_h", method=said(method), h=number(best.h, 2)))  # fmt: skip
        ax.plot(best.h, error(best), marker=marker, markersize=9, color=color, markeredgecolor=DARK, zorder=4)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(h[0], h[-1])
    stuck = float(np.spacing(abs(x))) / 2
    shades: list[Patch] = []
    if stuck > h[0]:
        ax.axvspan(h[0], stuck, color=NO_VALUE, alpha=0.6, linewidth=0)
        shades.append(Patch(color=NO_VALUE, alpha=0.6, label=said("h_rounds")))
    if uncertainty > 0:
        ax.set_ylim(bottom=smallest / 2)
        ax.axhspan(smallest / 2, uncertainty, color=PATH, alpha=0.2, linewidth=0)
        shades.append(Patch(color=PATH, alpha=0.2, label=said("below_reference")))
    ax.set_xlabel("h")
    ax.set_ylabel(said("difference_error"))
    source = f"f'({number(x)}) = {number(true, 6)}" + ("" if exact is not None else f" ± {number(uncertainty, 1)}")
    ax.grid(alpha=0.25)
    finish(ax, said("three_differences", source=source), title=title, legend=legend, extra=shades)
    return ax


def gradient_field(
    f: Callable[[Any], Any],
    bounds: Any,
    *,
    gradient: Callable[[Any], Any] | None = None,
    downhill: bool = False,
    at: Any = None,
    title: str | None = None,
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Gradient field: arrows of ∇f over the filled contours of a function of two variables.

        ∇f = (∂f/∂x0, ∂f/∂x1)        downhill=True draws −∇f, the way a descent goes

    Arrows are as long as the gradient is large, in proportion; if the largest would hide the rest they show its
    direction alone, and the title says so. Grey ground: f has no finite value there.

    Parameters
    ----------
    f : callable
        Takes x of shape (2,).
    bounds : (low, high), or a pair for each variable
        The window.
    gradient : callable, optional
        Returns ∇f(x) in shape (2,), or an Estimate; None takes central differences.
    downhill : bool, default False
        Draw −∇f.
    at : array, shape (2,), optional
        A point to mark, with its own arrow, and its gradient in the legend.
    title : str, optional
        None names the picture, "" leaves it out.
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
        For unusable bounds, a point outside of them or a gradient of another shape.
    FunctionError
        If there is no gradient in the whole window, or at the point; or what f or gradient itself raises.

    Examples
    --------
    >>> ax = kb.plot.gradient_field(lambda x: x[0] ** 2 + x[1] ** 2, (-2, 2), at=[1.0, 1.0])
    >>> [float(end) for end in ax.get_xlim()]
    [-2.0, 2.0]
    """
    layout = Layout(None, ((2,),), False, np.dtype(np.float64))
    ranges = read_ranges(bounds, 2)
    marked = None if at is None else _marked(f, gradient, layout, ranges, at)
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
    set_aspect(ax, ranges)
    label_axes(ax, f, layout)
    if marked is not None:
        _mark(ax, *marked, downhill, longest * ARROWS / 1.2 if proportional and longest > 0 else 0.0)
    what = said("descent_direction" if downhill else "gradient")
    what = what if proportional else said("direction_only", what=what)
    finish(ax, what, title=title, legend=legend, extra=gaps_of(field))
    return ax


def _marked(
    f: Callable[[Any], Any], gradient: Callable[[Any], Any] | None, layout: Layout, ranges: FloatArray, at: Any
) -> tuple[FloatArray, FloatArray]:
    """Return the point to mark and its gradient."""
    point = flatten(at, "at")[1].astype(np.float64)
    if point.shape != (2,):
        raise InputError(f"at must be a point of 2 numbers, got {at!r}")
    if not ((point >= ranges[:, 0]) & (point <= ranges[:, 1])).all():
        raise InputError(f"at must lie inside bounds {ranges.tolist()}, got {point.tolist()}")
    arrow = _gradient_at(f, gradient, layout, point)
    if not np.isfinite(arrow).all():
        _value(f, layout, point)
        raise FunctionError(f"the gradient is not finite at {point.tolist()}")
    return point, arrow


def _mark(ax: Axes, point: FloatArray, arrow: FloatArray, downhill: bool, scale: float) -> None:
    """Mark a point and draw its arrow: as long as those of the field, if they have a scale, but long enough."""
    where, what = (f"({', '.join(number(v) for v in pair)})" for pair in (point, arrow))
    ax.plot(*point, linestyle="", marker="o", markersize=9, color=END, markeredgecolor=DARK, zorder=5,
            label=said("gradient_at", gradient=what, point=where))  # fmt: skip
    length = float(np.linalg.norm(arrow))
    if length > 0:
        share = max(length / scale if scale > 0 else 0.0, 0.12)  # of the picture's width
        ax.quiver(
            *point, *(arrow / length * (-1 if downhill else 1)), angles="xy", scale_units="width", scale=1 / share,
            units="inches", width=0.04, headwidth=4, headlength=4.5, headaxislength=4, color=END, edgecolor=DARK,
            linewidth=0.8, zorder=4,
        )  # fmt: skip


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


def _intercept(slope: float, error: float, x: float, at_x: float) -> float:
    """Return f(x) − f'(x) x, as 0 if it can't be distinguished from 0."""
    intercept = at_x - slope * x
    unsure = error * abs(x) + 4 * EPS * abs(at_x)
    return 0.0 if abs(intercept) <= unsure else intercept


def _gradient_at(
    f: Callable[[Any], Any], gradient: Callable[[Any], Any] | None, layout: Layout, point: FloatArray
) -> FloatArray:
    """Return ∇f at ``point``, NaN if it does not exist. Raises InputError if ``gradient`` has another shape."""
    try:
        with np.errstate(all="ignore"):
            value = numerical_gradient(f, point, method="central") if gradient is None else gradient(point.copy())
    except Exception:  # outside its domain f may raise anything: no arrow there
        return np.full(2, np.nan)
    return layout.match(value.value if isinstance(value, Estimate) else value, "gradient(x)")
