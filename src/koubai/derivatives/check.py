"""check_gradient: whether a gradient that someone wrote is the gradient of this function."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Never

import numpy as np
import numpy.typing as npt

from koubai.derivatives.differences import INDEPENDENT, Estimate, estimate
from koubai.errors import UnknownNameError
from koubai.parameters import FloatArray, Layout, Parameters, as_pair, as_scalar, flatten

__all__ = ["GradientCheck", "WrongComponent", "check_gradient", "glanced_at"]

SMALL = 64  # up to so many components, each one is checked by itself
VOTES = 3  # random directions that must agree before a gradient passes
LISTED = 100  # wrong components after which the search ends: the gradient is wrong, not some of its components
FLOAT32 = 2e-7  # a gradient is never excused for being less exact than float32
PLAIN = 1e-4  # of a slope: what differs by more is plainly wrong, less may be someone's own difference
SHOWN = 10


@dataclass(frozen=True)
class WrongComponent:
    """A component of a gradient that differs from the difference quotient by more than both can be off.

    index: where it is in x: an int (vectors), a tuple (other arrays; () for a number), (name, i, j, …) in a dict.
    label: the same as text. expected: the slope by differences; |given − expected| > tolerance.
    """

    index: Any
    label: str
    given: float
    expected: float
    tolerance: float


@dataclass(frozen=True, repr=False)
class GradientCheck:
    """The verdict on a gradient; ``bool(check)`` is ``check.ok``.

    Attributes
    ----------
    ok : bool
        Whether no component is wrong; also False if nothing could be tested.
    wrong : tuple
        The components that are wrong, in the order of x: each has ``index``, ``given``, ``expected`` and ``tolerance``.
    nfev : int
        Evaluations of f.
    size : int
        Components of the gradient.
    tolerance : float
        The loosest that any component was held to (for random directions: the directional derivative); an error below
        it can't be seen by evaluating f.
    warnings : tuple of str
        What could not be tested, and why.
    """

    ok: bool
    wrong: tuple[WrongComponent, ...]
    nfev: int
    size: int
    tolerance: float
    warnings: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        cost = f"{self.nfev} evaluations of f, tolerance {self.tolerance:.1e}"
        if self.ok:
            lines = [f"GradientCheck: ok, no wrong component among {self.size} ({cost})"]
        elif not self.wrong:
            lines = [f"GradientCheck: no verdict on {self.size} components ({cost})"]
        else:
            lines = [f"GradientCheck: {len(self.wrong)} of {self.size} components are wrong ({cost})"]
        for one in self.wrong[:SHOWN]:
            lines.append(
                f"  {one.label}: given {one.given!r}, expected {one.expected!r} (tolerance {one.tolerance:.1e})"
            )
        if len(self.wrong) > SHOWN:
            lines.append(f"  … and {len(self.wrong) - SHOWN} more in .wrong")
        return "\n".join([*lines, *(f"  warning: {text}" for text in self.warnings)])


def check_gradient(
    f: Callable[[Any], Any], gradient: Any, x: Parameters, *, seed: int = 0, **unknown: Never
) -> GradientCheck:
    """Check a gradient: compare it with adaptive differences of f, and name each component that is wrong.

        wrong[i]  ⇔  |given[i] − expected[i]| > tolerance[i]

    The tolerance is twice the error of the difference, which is measured from f's noise, plus the rounding to be
    expected of the gradient itself: 1e-8 of the component, more if f or the gradient is in float32. NaN is wrong. Up to
    64 components each is differenced. Above, directional derivatives along random signs are compared, and one that
    disagrees is bisected down to the components; the gradient passes when 3 directions in a row agree. The search ends
    at 100 wrong components.

    Parameters
    ----------
    f : callable
        Maps x to one number.
    gradient : callable, array or True
        A function of x, or its value at x, in the form of x; or True: f returns the pair (value, gradient).
    x : number, array, or a dict, list or tuple of arrays
        The point.
    seed : int, default 0
        Of the random directions.

    Returns
    -------
    GradientCheck
        True if the gradient is right.

    Raises
    ------
    InputError
        If the gradient has not the form of x.
    FunctionError
        If f is not a finite number at x.

    Examples
    --------
    >>> check = kb.check_gradient(lambda x: x[0] ** 2 + x[1], lambda x: np.array([2 * x[0], 0.0]), [3.0, 4.0])
    >>> check.ok, check.wrong[0].index, check.wrong[0].given
    (False, 1, 0.0)
    """
    if unknown:
        raise UnknownNameError.of_argument(check_gradient, unknown)
    layout, vector = flatten(x, "x")
    if gradient is True:
        both = f

        def f(x: Any) -> Any:
            return as_pair(both(x))[0]

        def gradient(x: Any) -> Any:
            return as_pair(both(x))[1]

    value = gradient(layout.copy(vector) if not layout.is_number else vector[0]) if callable(gradient) else gradient
    value = value.value if isinstance(value, Estimate) else value
    given = layout.match(value, "gradient").astype(np.float64)
    checker = _Checker(
        f, layout, vector.astype(np.float64), given, max(_eps(layout.parts(value)), float(np.finfo(layout.dtype).eps))
    )
    if layout.size <= SMALL:
        checker.check_each()
    else:
        checker.vote(np.random.default_rng(seed))
    wrong = tuple(checker.wrong[i] for i in sorted(checker.wrong))
    return GradientCheck(
        not wrong and not checker.unexplained,
        wrong,
        checker.nfev,
        layout.size,
        checker.tolerance,
        tuple(dict.fromkeys(checker.warnings)),
    )


def glanced_at(f: Callable[[Any], Any], layout: Layout, x: FloatArray, given: FloatArray) -> tuple[str, int]:
    """Return what is plainly wrong with the gradient ``given`` at ``x``, if anything is; and the evaluations it took.

    One slope along random signs is enough for that, by two evaluations if it agrees; what differences can't measure
    says nothing.
    """
    eps = float(np.finfo(x.dtype).eps)
    everything, signs = np.arange(layout.size), np.random.default_rng(0).choice([-1.0, 1.0], size=layout.size)
    step = eps ** (1 / 3) * signs * np.where(x != 0, np.abs(x), float(np.max(np.abs(x))) or 1.0)
    ends = [float(as_scalar(f(layout.view((x + side * step).astype(x.dtype))))) for side in (1, -1)]
    slope, measured = float(given @ step), (ends[0] - ends[1]) / 2
    if abs(slope - measured) <= PLAIN * max(abs(slope), abs(measured)):
        return "", 2
    checker = _Checker(f, layout, x.astype(np.float64), given.astype(np.float64), eps)
    excess, tolerance = checker._compare(everything, signs)
    slope = float(given @ signs)
    if not abs(excess) > max(10 * tolerance, PLAIN * max(abs(slope), abs(slope - excess))):
        return "", checker.nfev + 2
    checker._bisect(everything, signs, excess, tolerance)
    if not checker.wrong:
        return f"along random signs its slope is {slope:.6g}, by differences {slope - excess:.6g}", checker.nfev + 2
    one = max(checker.wrong.values(), key=lambda wrong: abs(wrong.given - wrong.expected))
    return f"component {one.label} is {one.given:.6g}, by differences {one.expected:.6g}", checker.nfev + 2


def _eps(parts: Sequence[Any]) -> float:
    """Return the coarsest rounding among the arrays of a gradient."""
    dtypes = [np.asarray(part).dtype for part in parts]
    return max(float(np.finfo(dtype if dtype.kind == "f" else np.float64).eps) for dtype in dtypes)


def _index(layout: Layout, i: int) -> Any:
    for name, shape in zip(layout.names or (None,), layout.shapes, strict=True):
        size = math.prod(shape)
        if i < size:
            index = tuple(int(k) for k in np.unravel_index(i, shape))
            if name is not None:
                return (name, *index)
            return index[0] if len(index) == 1 else index
        i -= size
    raise IndexError(i)


class _Checker:
    """The state of one check: what is given, what of it has been found wrong, and what that cost."""

    def __init__(self, f: Callable[[Any], Any], layout: Layout, x: FloatArray, given: FloatArray, eps: float) -> None:
        self.f, self.layout, self.x = f, layout, x
        self.given = given  # wrong components are replaced by their expected value once they are named
        self.fun = float(as_scalar(f(self._show())))
        self.nfev = 1
        self.wrong: dict[int, WrongComponent] = {}
        self.tolerance = 0.0
        self.warnings: list[str] = []
        self.unexplained = False
        self.eps = eps
        self.rtol = max(1e-8, 64 * eps)
        finite = np.abs(given[np.isfinite(given)])
        self.largest = float(finite.max()) if finite.size else 0.0

    def _show(self) -> Any:
        return self.x[0] if self.layout.is_number else self.layout.copy(self.x)

    def check_each(self) -> None:
        """Compare every component with its own difference."""
        found = estimate(self.f, self._show(), "adaptive", None, elementwise=False)
        self.nfev += found.nfev
        self.warnings += tuple(w.format(name="f") if w is INDEPENDENT else w for w in found.warnings)
        expected = self.layout.match(found.value, "value").astype(np.float64)
        error = self.layout.match(found.error, "error").astype(np.float64)
        self._allow_for(found.noise)
        for i in range(self.layout.size):
            self._judge(i, float(expected[i]), float(error[i]))
        self.unexplained = not np.isfinite(error).any()

    def vote(self, rng: np.random.Generator) -> None:
        """Compare directional derivatives along random signs; look for the components to blame if one disagrees."""
        everything = np.arange(self.layout.size)
        for i in np.flatnonzero(~np.isfinite(self.given))[:LISTED]:
            self._check_component(int(i))
        self.given[~np.isfinite(self.given)] = 0.0  # beyond LISTED of them, which ends the search
        agreed = disagreed = unmeasured = 0
        while max(agreed, disagreed, unmeasured) < VOTES and len(self.wrong) < LISTED:
            signs = rng.choice([-1.0, 1.0], size=self.layout.size)
            excess, tolerance = self._compare(everything, signs)
            if not math.isfinite(tolerance):
                unmeasured += 1
                continue
            self.tolerance = max(self.tolerance, tolerance)
            if not abs(excess) > tolerance:
                agreed += 1
                continue
            agreed = 0
            before = len(self.wrong)
            self._bisect(everything, signs, excess, tolerance)
            disagreed = disagreed + 1 if len(self.wrong) == before else 0
        self.unexplained = max(disagreed, unmeasured) >= VOTES
        if disagreed >= VOTES:
            self.warnings.append(
                f"{VOTES} directional derivatives disagree with the gradient, the last by {abs(excess):.1e} where "
                f"{tolerance:.1e} is allowed, but no single component differs by more than its own tolerance"
            )
        if len(self.wrong) >= LISTED:
            self.warnings.append(f"the search ended at {LISTED} wrong components; there may be more")

    def _bisect(self, part: npt.NDArray[np.intp], signs: FloatArray, excess: float, tolerance: float) -> None:
        """Find the components of ``part`` behind a directional derivative that is off by ``excess``."""
        if len(self.wrong) >= LISTED:
            return
        if part.size == 1:
            self._check_component(int(part[0]))
            return
        first, second = part[: part.size // 2], part[part.size // 2 :]
        excess_first, tolerance_first = self._compare(first, signs)
        # the same signs are used, so what the first half does not explain is in the second
        excess_second, tolerance_second = excess - excess_first, tolerance + tolerance_first
        ratio_first, ratio_second = abs(excess_first) / tolerance_first, abs(excess_second) / tolerance_second
        threshold = min(1.0, max(ratio_first, ratio_second))
        if ratio_first >= threshold:
            self._bisect(first, signs, excess_first, tolerance_first)
        if ratio_second >= threshold:
            self._bisect(second, signs, excess_second, tolerance_second)

    def _compare(self, part: npt.NDArray[np.intp], signs: FloatArray) -> tuple[float, float]:
        """Return how far the gradient along ``signs`` (in ``part`` only) is from f's slope, and what is allowed."""
        slope, error = self._slope(part, signs[part])
        if not math.isfinite(error):
            self.warnings.append(
                "a directional derivative could not be measured: f is not smooth, or not finite, near x"
            )
            return 0.0, math.inf
        floor = math.sqrt(float(np.sum(self._floor(self.given[part]) ** 2)))  # random signs: they add in quadrature
        return float(self.given[part] @ signs[part]) - slope, 2 * error + 4 * floor

    def _check_component(self, i: int) -> None:
        slope, error = self._slope(np.array([i]), np.ones(1))
        self._judge(i, slope, error)

    def _judge(self, i: int, expected: float, error: float) -> None:
        given = float(self.given[i])
        tolerance = 2 * error + float(self._floor(np.array([expected]))[0]) if math.isfinite(expected) else math.inf
        if math.isfinite(tolerance):
            self.tolerance = max(self.tolerance, tolerance)
        if math.isfinite(given) and abs(given - expected) <= tolerance:
            return
        self.wrong[i] = WrongComponent(_index(self.layout, i), self.layout.label(i), given, expected, tolerance)
        self.given[i] = expected if math.isfinite(expected) else 0.0

    def _floor(self, slope: FloatArray) -> FloatArray:
        """Return the rounding that a correct gradient of this size may have."""
        return self.rtol * np.abs(slope) + 64 * self.eps * self.largest

    def _slope(self, part: npt.NDArray[np.intp], signs: FloatArray) -> tuple[float, float]:
        def along(t: float) -> Any:
            point = self.x.copy()
            point[part] += t * signs
            return self.f(self.layout.copy(point))

        found = estimate(along, 0.0, "adaptive", None, elementwise=False)
        self.nfev += found.nfev
        self._allow_for(found.noise)
        return found.value, found.error

    def _allow_for(self, noise: float) -> None:
        """Expect of a gradient no more than of f: one that computes in float32 shows it in its noise."""
        if self.fun:
            self.eps = max(self.eps, min(noise / abs(self.fun), FLOAT32))
            self.rtol = max(self.rtol, 64 * self.eps)
