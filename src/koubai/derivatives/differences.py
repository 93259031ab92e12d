"""Derivatives by differences, each with an error estimate: forward, backward and central."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from koubai.errors import FunctionError, InputError, UnknownNameError
from koubai.parameters import FloatArray, Layout, Parameters, as_scalar, flatten

__all__ = ["METHODS", "Estimate", "derivative", "difference_gradient", "numerical_gradient"]

METHODS = ("forward", "backward", "central")

# The user's f along one coordinate: the coordinate's value in, f's value out (NaN allowed, float32 kept).
_Line: TypeAlias = Callable[[float], "np.floating[Any]"]

_STUCK = "x+h == x and x−h == x in float64: h is below the spacing of numbers at x, the difference says nothing"
_STUCK_ONE_SIDE = "x+h or x−h rounds to x in float64: the step that was really made is not h"
_NONFINITE = "f is not finite at x+h or x−h: the difference can't be trusted"


@dataclass(frozen=True, repr=False)
class Estimate:
    """A derivative with the error to expect of it.

        |value − f'(x)| ≤ error   (an estimate, not a proof)

    value, error, h: in the form of x (a float for a number, an array of x's shape, a dict of arrays).
    noise: how far f's values may be off by rounding, absolute; one float, for elementwise derivatives in x's form.
    nfev: evaluations of f. warnings: plain sentences; empty when nothing is the matter.
    """

    value: Any
    error: Any
    h: Any
    nfev: int
    method: str
    noise: Any
    warnings: tuple[str, ...] = ()

    def __float__(self) -> float:
        if not isinstance(self.value, float):
            raise TypeError(f"only the estimate of a single number converts to float; .value is {self.value!r}")
        return self.value

    def __repr__(self) -> str:
        if isinstance(self.value, float):
            head = f"{self.value!r} ± {self.error:.1e}  ({self.method}, h={self.h:.3g}, {self.nfev} evaluations)"
        else:
            head = f"({self.method}, {self.nfev} evaluations)\n  value: {self.value!r}\n  error: {self.error!r}"
        return "\n".join([f"Estimate: {head}", *(f"  warning: {text}" for text in self.warnings)])


class _Part(NamedTuple):
    """What is found out about one component."""

    value: float
    error: float
    h: float
    noise: float
    nfev: int
    notes: tuple[str, ...]


def derivative(f: Callable[[Any], Any], x: Any, *, method: str = "central", h: float | None = None) -> Estimate:
    """Derivative: the slope of f at x, by differences, with its error.

        forward   (f(x+h) − f(x)) / h
        backward  (f(x) − f(x−h)) / h
        central   (f(x+h) − f(x−h)) / (2h)

    x: a number, or an array of any shape: then f is elementwise and every element gets its own derivative.
    h: > 0, used exactly as given. None takes the optimum for the method: eps^(1/2) (forward, backward) or eps^(1/3)
    (central) times max(|x|, 1), where eps is the rounding of what f returns (float32 or float64).
    .error is the truncation, measured from a second step h/2 (this doubles the evaluations), plus the rounding bound
    eps |f| / h. Integers and float32 in x are taken as float64.

    Raises InputError for an x or h that can't be used, UnknownNameError for the method, FunctionError where f does not
    return one real number or is not finite at x. If f is not finite at x±h, .error is infinite and a warning says so.
    """
    layout, vector = _start(x, method, h)
    with np.errstate(all="ignore"):
        parts = []
        for i in range(vector.size):
            line = _elementwise(f)
            at_x = _value_at(line, vector[i], layout.label(i))
            parts.append(_fixed(line, vector[i], at_x, method, h))
    noise = np.array([part.noise for part in parts])
    return _assemble(layout, parts, method, _show(layout, noise), nfev=len(parts))


def numerical_gradient(
    f: Callable[[Any], Any], x: Parameters, *, method: str = "central", h: float | None = None
) -> Estimate:
    """Numerical gradient: all partial derivatives of f at x, by differences, with their errors.

        g[i] = (f(x + h e_i) − f(x − h e_i)) / (2h)   (central; the other methods as in `derivative`)

    f: maps x, in the form it is given here, to one number. x: a number, an array of any shape or a dict of arrays.
    h, .error and what raises: as in `derivative`. f never sees the caller's arrays, only copies.
    """
    layout, vector = _start(x, method, h)
    with np.errstate(all="ignore"):
        at_x = _value_at(lambda _: as_scalar(f(_show(layout, vector.copy()))), vector[0], "x")
        parts = [_fixed(_coordinate(f, layout, vector, i), vector[i], at_x, method, h) for i in range(vector.size)]
    noise = max(part.noise for part in parts)
    return _assemble(layout, parts, method, noise, nfev=1)


def difference_gradient(
    f: Callable[[Any], Any],
    layout: Layout,
    vector: FloatArray,
    method: str = "central",
    h: float | None = None,
    fun: np.floating[Any] | None = None,
) -> tuple[FloatArray, FloatArray, np.ndarray[Any, np.dtype[np.bool_]], int]:
    """Difference gradient: `numerical_gradient` for a descent, without the evaluations that measure truncation.

    f takes the caller's form (``layout``); ``vector`` is x, flat, and is not changed. fun: f(x) as `as_scalar` gives
    it, if it is known; otherwise it is evaluated where it is needed (forward, backward, or h=None).
    Returns gradient, rounding error (the bound eps |f| / h), stuck (bool: both x+h and x−h round to x, so the component
    is 0 whatever f does), nfev; the first three flat, in float64. A value of f that is not finite gives a
    component that is not finite; nothing is raised for it.
    """
    _check_method(method)
    x = vector.astype(np.float64)
    n = x.size
    nfev = 0
    gradient, rounding, stuck = np.empty(n), np.empty(n), np.zeros(n, dtype=bool)
    with np.errstate(all="ignore"):
        if fun is None and (h is None or method != "central"):
            fun, nfev = as_scalar(f(_show(layout, x.copy()))), 1
        for i in range(n):
            line = _coordinate(f, layout, x, i)
            step = float(h) if h is not None else _default_step(x[i], fun, method)
            low, high, f_low, f_high, used = _pair(line, x[i], fun, method, step)
            gradient[i] = _quotient(f_low, f_high, method, step)
            rounding[i] = _rounding_error(x[i], f_low, f_high, low, high, gradient[i], step, method)
            stuck[i] = low == x[i] == high
            nfev += used
    return gradient, rounding, stuck, nfev


def _check_method(method: str) -> None:
    if method not in METHODS:
        raise UnknownNameError("method", method, METHODS)


def _start(x: Parameters, method: str, h: float | None) -> tuple[Layout, FloatArray]:
    """Check the arguments; return x's form and its values as float64 (in float32 most steps would round away)."""
    _check_method(method)
    layout, vector = flatten(x, "x")
    if h is not None:
        try:
            usable = math.isfinite(h) and h > 0
        except TypeError:
            usable = False
        if not usable:
            raise InputError(f"h must be a finite number > 0, got {h!r}; None takes the optimum for the method")
    return layout, vector.astype(np.float64)


def _show(layout: Layout, vector: FloatArray) -> Any:
    """Show ``vector`` in the caller's form; a number as np.float64, which is a float whose arithmetic never raises."""
    return vector[0] if layout.is_number else layout.view(vector)


def _elementwise(f: Callable[[Any], Any]) -> _Line:
    return lambda s: as_scalar(f(np.float64(s)))


def _coordinate(f: Callable[[Any], Any], layout: Layout, vector: FloatArray, i: int) -> _Line:
    """Return f as a function of element ``i`` alone. Every call gets its own copy of x, as f may write into it."""

    def line(s: float) -> np.floating[Any]:
        point = vector.copy()
        point[i] = s
        return as_scalar(f(_show(layout, point)))

    return line


def _value_at(line: _Line, x: float, label: str) -> np.floating[Any]:
    """Return f(x), which must be finite: where f has no value it has no derivative."""
    value = line(x)
    if not math.isfinite(value):
        raise FunctionError(f"f(x) = {value} at {label} = {x!r}; f must be finite where its derivative is asked for")
    return value


def _default_step(x: float, fun: np.floating[Any] | None, method: str) -> float:
    """Return the h that balances truncation and rounding for an f whose scale is max(|x|, 1), with x + h exact."""
    eps = float(np.finfo(getattr(fun, "dtype", np.float64)).eps)
    h = eps ** (1 / 3 if method == "central" else 1 / 2) * max(abs(x), 1.0)
    return float((x + h) - x)


def _pair(
    line: _Line, x: float, at_x: np.floating[Any] | None, method: str, h: float
) -> tuple[float, float, np.floating[Any], np.floating[Any], int]:
    """Evaluate f at the two ends of the method's interval: low, high, f(low), f(high), evaluations made."""
    if method == "central":
        return x - h, x + h, line(x - h), line(x + h), 2
    assert at_x is not None
    if method == "forward":
        return x, x + h, at_x, line(x + h), 1
    return x - h, x, line(x - h), at_x, 1


def _quotient(f_low: np.floating[Any], f_high: np.floating[Any], method: str, h: float) -> float:
    return float((np.float64(f_high) - np.float64(f_low)) / (2 * h if method == "central" else h))


def _rounding_error(
    x: float,
    f_low: np.floating[Any],
    f_high: np.floating[Any],
    low: float,
    high: float,
    slope: float,
    h: float,
    method: str,
) -> float:
    """Bound what rounding does to the quotient: in f's two values, and in x±h, which may not be h away from x."""
    width = 2 * h if method == "central" else h
    in_f = (_rounding(f_low) + _rounding(f_high)) / width
    in_x = abs(slope) * abs((high - low) - width) / width
    return float(in_f + in_x)


def _rounding(value: np.floating[Any]) -> float:
    """Return the rounding of one value of f: one unit in the last place of the type that f returned."""
    return float(np.finfo(value.dtype).eps) * abs(float(value))


def _fixed(line: _Line, x: float, at_x: np.floating[Any], method: str, h: float | None) -> _Part:
    """Take one difference with the step h, and a second one with h/2 that shows the truncation."""
    step = float(h) if h is not None else _default_step(x, at_x, method)
    low, high, f_low, f_high, used = _pair(line, x, at_x, method, step)
    value = _quotient(f_low, f_high, method, step)
    noise = max(_rounding(at_x), _rounding(f_low), _rounding(f_high))
    if low == high:
        return _Part(value, math.inf, step, noise, used, (_STUCK if method == "central" else _stuck(method),))
    *_, f_low_half, f_high_half, used_half = _pair(line, x, at_x, method, step / 2)
    half = _quotient(f_low_half, f_high_half, method, step / 2)
    # D(h) − D(h/2) is 1/2 of the truncation of a first-order formula and 3/4 of that of a second-order one
    truncation = abs(value - half) * (4 / 3 if method == "central" else 2)
    error = truncation + _rounding_error(x, f_low, f_high, low, high, value, step, method)
    notes: tuple[str, ...] = ()
    if not (math.isfinite(f_low) and math.isfinite(f_high)):
        notes = (_NONFINITE,)
    elif method == "central" and (low == x or high == x):
        notes = (_STUCK_ONE_SIDE,)
    return _Part(value, error if math.isfinite(error) else math.inf, step, noise, used + used_half, notes)


def _stuck(method: str) -> str:
    side = "x+h" if method == "forward" else "x−h"
    return f"{side} == x in float64: h is below the spacing of numbers at x, the difference says nothing"


def _assemble(layout: Layout, parts: list[_Part], method: str, noise: Any, nfev: int) -> Estimate:
    """Put the components together in x's form; ``nfev`` counts the evaluations that they share."""

    def column(values: Iterable[float]) -> Any:
        vector = np.array(list(values))
        return float(vector[0]) if layout.is_number else layout.view(vector)

    where: dict[str, list[str]] = {}
    for i, part in enumerate(parts):
        for note in part.notes:
            where.setdefault(note, []).append(layout.label(i))
    return Estimate(
        value=column(part.value for part in parts),
        error=column(part.error for part in parts),
        h=column(part.h for part in parts),
        nfev=nfev + sum(part.nfev for part in parts),
        method=method,
        noise=float(noise) if np.ndim(noise) == 0 and not isinstance(noise, dict) else noise,
        warnings=tuple(note if layout.is_number else f"{_listed(labels)}: {note}" for note, labels in where.items()),
    )


def _listed(labels: list[str]) -> str:
    return ", ".join(labels[:3]) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")
