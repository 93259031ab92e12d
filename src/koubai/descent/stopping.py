"""When a descent stops, and the sentence that says why."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np

from koubai.descent.optimizers import Optimizer
from koubai.descent.record import Status
from koubai.errors import InputError
from koubai.parameters import FloatArray, Layout, is_structure

__all__ = ["Point", "Stopping", "Verdict", "shown"]

GROWTH = 1e10  # f or x this many times beyond its start has diverged: no rate that works passes through there
TINY, HUGE = 1e-30, 1e30  # between them a sum of squares has lost nothing, in float32 too
EPS = float(np.finfo(np.float64).eps)
GTOL = 1e-6  # what is asked of the gradient where nobody says, but for least squares
ROUNDINGS = 1e3  # on the way to f, as many as may hide what a step would gain that none does
PATIENCE = 10  # steps in a row before "x does not change" or "lost in noise" counts: one can be a coincidence


@dataclass(frozen=True)
class Point:
    """One evaluated point: f, the gradient and what is known of the gradient's error (differences only)."""

    t: int
    x: FloatArray
    fun: float
    g: FloatArray
    grad_norm: float  # largest |component| of the gradient; components that push x out of its bounds count as zero
    error: float = 0.0  # largest rounding error of a component
    stuck: tuple[int, ...] = ()  # components in which x + h or x - h rounds to x
    is_sample: bool = False  # f and g come from one mini-batch: they say little of the whole
    projected: bool = False  # the update that led here left the bounds and was put back onto them

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.fun) and bool(np.isfinite(self.g).all())


@dataclass(frozen=True)
class Verdict:
    status: Status
    message: str


@dataclass
class Stopping:
    """The stopping rules of one descent; ``check`` is asked at every point, in the order of the path.

    gtol: largest |gradient component| (≤). None, the default, is 1e-6, but for least squares (an optimizer that
    promises a decrease): there all that f could fall by before the last step, were the residuals straight lines, must
    be below the rounding of f, 2.2e-16 × |f|, or 1e3 times that where no step lowers f; or, where f itself goes to 0,
    below 3.3e-24 × |f at the start|. That does not depend on the units of x and f, as a gradient does. Either way an
    end above the start is no success.
    ftol: |Δf| and the decrease still to be expected, g·g / (2 × curvature), both ≤ ftol × max(1, |f|). xtol: the step
    and the distance still to be expected, both ≤ xtol × max(1, largest |x|).
    The second half of ftol and xtol is what keeps a tiny learning rate from passing for convergence.
    target: f ≤ target. Of a mini-batch's point only divergence is asked.
    """

    layout: Layout
    optimizer: Optimizer
    max_steps: int
    gtol: float | None = None
    ftol: float | None = None
    xtol: float | None = None
    target: float | None = None
    follows: bool = True  # learns the curvature from one point to the next; of mini-batches it would learn the noise

    start: Point = field(init=False)
    last: Point | None = field(default=None, init=False)
    unchanged: int = field(default=0, init=False)
    in_noise: int = field(default=0, init=False)
    bend: float = field(default=0.0, init=False)  # the curvature along the last step that moved x
    steepest: float = field(default=0.0, init=False)  # largest curvature met along the path near the start
    travelled: float = field(default=0.0, init=False)  # length of the path

    def __post_init__(self) -> None:
        if isinstance(self.max_steps, bool) or not isinstance(self.max_steps, int | np.integer) or self.max_steps < 0:
            raise InputError(f"max_steps must be a whole number ≥ 0, got {self.max_steps!r}")
        for name in ("gtol", "ftol", "xtol"):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < math.inf:
                hint = "use 0 to turn it off" if name == "gtol" else "use None to turn it off"
                raise InputError(f"{name} must be a finite number ≥ 0, got {value!r}; {hint}")
        if self.target is not None and (not isinstance(self.target, Real) or math.isnan(self.target)):
            raise InputError(f"target must be a number, got {self.target!r}")

    # -- the rules, in the order in which they count ------------------------------------------------------------------

    @property
    def limit(self) -> float:
        """The largest |gradient component| that is small."""
        return GTOL if self.gtol is None else float(self.gtol)

    def check(self, point: Point, lr: float, promise: float | None = None) -> Verdict | None:
        """Return why the descent stops at ``point``, or None: go on.

        lr: the rate that led here; promise: by how much the last step was to lower f, if the optimizer tells.
        """
        previous, self.last = self.last, point
        if previous is None:
            self.start = point
        elif self.follows:
            self._follow(previous, point)
        if point.is_sample:
            out = Verdict(Status.max_steps, f"the step limit {self.max_steps} came first")
            return self._diverged(point, lr) or (out if point.t >= self.max_steps else None)
        if self.target is not None and point.fun <= self.target:
            return Verdict(Status.target_reached, f"f = {point.fun:.6g} ≤ target {self.target:g} at step {point.t}")
        by_promise = promise is not None and self.gtol is None and point.grad_norm > 0
        small = self._promise_small(point, promise or 0.0) if by_promise else self._gradient_small(point)
        if (verdict := small) or (verdict := self._diverged(point, lr)):
            return verdict
        if previous is not None and (verdict := self._change_small(previous, point)):
            return verdict
        if self.in_noise >= PATIENCE:
            return Verdict(
                Status.noise_floor,
                f"the gradient, at most {point.grad_norm:.3g}, is within its own rounding error {point.error:.3g} "
                f"since step {point.t - PATIENCE + 1}; f is not computed precisely enough to go on",
            )
        if self.unchanged >= PATIENCE:
            told = "gtol is off" if self.gtol == 0 else f"gtol is {self.limit:g}"
            return Verdict(
                Status.stalled,
                f"x has not changed for {PATIENCE} steps: lr × gradient is below the rounding of x "
                f"(largest |gradient| {point.grad_norm:.3g}, {told})",
            )
        if point.t >= self.max_steps:
            return Verdict(Status.max_steps, self._out_of_steps(point, lr))
        return None

    def may_end(self, fun: float, grad_norm: float) -> bool:
        """Tell whether f and the gradient, over an epoch or over all the data, meet the target or gtol."""
        return (self.target is not None and fun <= self.target) or (self.limit > 0 and grad_norm <= self.limit)

    def doubted(self, verdict: Verdict, point: Point, error: float) -> Verdict:
        """Return ``verdict``, that the descent converged, unless the gradient is lost in its measured ``error``."""
        if error <= max(self.limit, point.grad_norm):
            return verdict
        return Verdict(
            Status.noise_floor,
            f"{verdict.message}, but by the measured noise of f the gradient's error is {error:.3g}: it can't be told "
            "from zero; give the exact gradient, a larger step or a larger tolerance",
        )

    def nonfinite(self, point: Point, lr: float, told: str = "") -> Verdict:
        """Return why the descent can't go on to ``point``, where f, the gradient or x itself is not finite.

        told: what is known of the reason.
        """
        x = self.layout.view(point.x)
        if not np.isfinite(point.x).all() or point.fun == -math.inf:
            what = "x overflowed" if not np.isfinite(point.x).all() else "f fell to -inf"
            return Verdict(Status.diverged, f"{what} at step {point.t}{self._stable_rate(lr)}")
        if not math.isfinite(point.fun):
            what = f"f = {point.fun} at step {point.t}"
        else:
            i = int(np.flatnonzero(~np.isfinite(point.g))[0])
            what = f"the gradient's component {self.layout.label(i)} is {point.g[i]} at step {point.t}"
        where = f" (x = {shown(x)})" + (f": {told}" if told and math.isfinite(point.fun) else "")
        return Verdict(
            Status.nonfinite,
            f"{what}{where}; x, fun and jac are those of step {point.t - 1}, the last good one{self._stable_rate(lr)}",
        )

    def _gradient_small(self, point: Point) -> Verdict | None:
        if self.limit == 0 or point.grad_norm > self.limit:
            return None
        found = f"largest |gradient| {point.grad_norm:.3g} ≤ gtol {self.limit:g} at step {point.t}"
        if point.stuck:
            return Verdict(
                Status.stalled,
                f"the difference is zero only because x ± h rounds to x in {self.layout.label(point.stuck[0])}; "
                "the true gradient is unknown here: use a larger h",
            )
        if point.error > self.limit:
            return Verdict(
                Status.noise_floor,
                f"{found}, but its rounding error is {point.error:.3g}: it can't be told from zero; "
                "give the exact gradient or a larger gtol",
            )
        return self._above_the_start(point) or Verdict(Status.converged, found)

    def _promise_small(self, point: Point, promise: float) -> Verdict | None:
        """Return the verdict of least squares: they are at their end where f can't show what it may still fall by."""
        rounding = EPS * (ROUNDINGS if self.unchanged else 1)
        if not promise <= rounding * abs(point.fun) + EPS**1.5 * abs(self.start.fun):
            # straight lines say nothing where as many residuals as parameters do not go to 0; but the curvature does
            if not self.unchanged or point.grad_norm > self.limit or not self.bend > 0:
                return None
            promise = _norm(point.g) ** 2 / (2 * self.bend)
            if not promise <= rounding * abs(point.fun):
                return None
        found = f"to the rounding of f: at step {point.t} no more than {promise:.3g} of f = {point.fun:.6g} lay ahead"
        return self._above_the_start(point) or Verdict(Status.converged, found)

    def _above_the_start(self, point: Point) -> Verdict | None:
        """Return the verdict of a small gradient above the start, which is no success."""
        if point.fun <= self.start.fun:
            return None
        return Verdict(
            Status.stalled,
            f"the gradient is small, {point.grad_norm:.3g}, but f = {point.fun:.6g} lies above that of the start, "
            f"{self.start.fun:.6g}: a step leapt away, onto a flat region or to a worse point; best_x is the best one",
        )

    def has_risen(self, fun: float) -> bool:
        """Tell whether ``fun`` lies so far above f at the start that the descent diverges."""
        return fun - self.start.fun > GROWTH * max(1.0, abs(self.start.fun))

    def _diverged(self, point: Point, lr: float) -> Verdict | None:
        start = self.start
        if self.has_risen(point.fun):
            what = f"f rose from {start.fun:.6g} to {point.fun:.3g} in {_steps(point.t)}"
        elif (size := _norm(point.x)) > GROWTH and size > GROWTH * (start_size := _norm(start.x)):
            what = f"|x| grew from {start_size:.3g} to {size:.3g} in {_steps(point.t)}"
            if point.fun < start.fun:
                return Verdict(Status.diverged, f"{what} while f keeps falling: f seems unbounded below")
        else:
            return None
        return Verdict(Status.diverged, f"{what}{self._stable_rate(lr)}")

    def _change_small(self, previous: Point, point: Point) -> Verdict | None:
        if (self.ftol is None and self.xtol is None) or self.unchanged:
            return None
        step = point.x - previous.x
        curvature = _norm(point.g - previous.g) / _norm(step)
        if not 0 < curvature < math.inf:
            return None
        if self.ftol is not None:
            change, limit = abs(point.fun - previous.fun), self.ftol * max(1.0, abs(point.fun))
            ahead = _norm(point.g) ** 2 / (2 * curvature)
            if change <= limit and ahead <= limit:
                return Verdict(
                    Status.converged, f"f changed by {change:.3g}, and about {ahead:.3g} lies ahead; both ≤ {limit:.3g}"
                )
        if self.xtol is not None:
            change, limit = _largest(step), self.xtol * max(1.0, _largest(point.x))
            ahead = point.grad_norm / curvature
            if change <= limit and ahead <= limit:
                return Verdict(
                    Status.converged, f"x changed by {change:.3g}, and about {ahead:.3g} lies ahead; both ≤ {limit:.3g}"
                )
        return None

    # -- what the path tells ------------------------------------------------------------------------------------------

    def _follow(self, previous: Point, point: Point) -> None:
        """Keep what the messages need: how long x has stood still, the noise, the curvature near the start."""
        step = _norm(point.x - previous.x)
        self.unchanged = self.unchanged + 1 if step == 0 else 0
        self.in_noise = self.in_noise + 1 if self.limit < point.grad_norm <= point.error else 0
        self.travelled += step
        if step > 0:
            self.bend = _norm(point.g - previous.g) / step
        if not self.unchanged and (point.fun <= self.near_start or previous.t == 0):
            slope = _norm(point.g - previous.g) / step
            if self.steepest < slope < math.inf:
                self.steepest = slope

    @property
    def near_start(self) -> float:
        """The f up to which a point counts as near the start."""
        return self.start.fun + 10 * max(1.0, abs(self.start.fun))

    def curvature(self) -> float:
        """Return the curvature along the path, |Δg| / |Δx|; 0.0 where it can't be told.

        The largest over single steps near the start; over the whole path where that is short, since there a single
        step's Δg drowns in rounding.
        """
        if not self.follows or self.last is None or self.last.t == 0:
            return 0.0
        moved = _norm(self.last.x - self.start.x)
        if moved > 0 and self.travelled < 1e-3 * max(1.0, _norm(self.start.x)):
            return _norm(self.last.g - self.start.g) / moved
        return self.steepest

    def _stable_rate(self, lr: float) -> str:
        curvature = self.curvature()
        stable = self.optimizer.largest_stable_lr(curvature)
        if stable is None or lr < stable:
            return ""
        return f"; the curvature along the path is {curvature:.4g}, so the largest stable lr is about {stable:.4g}"

    def _out_of_steps(self, point: Point, lr: float) -> str:
        text = f"the step limit {self.max_steps} came first: largest |gradient| {point.grad_norm:.3g}"
        if self.limit:
            text += f" > gtol {self.limit:g}" if point.grad_norm > self.limit else f", gtol {self.limit:g}"
        curvature = self.curvature()
        stable = self.optimizer.largest_stable_lr(curvature)
        if stable is None or self.max_steps == 0:
            return text
        if lr < 0.01 * stable:
            text += (
                f"; too slow: lr {lr:.3g} is {lr / stable:.2g} of the largest stable rate, about {stable:.4g}: "
                f"try lr {1 / curvature:.2g}"
            )
        elif lr >= 0.95 * stable and point.fun >= 0.5 * self.start.fun:
            text += f"; lr {lr:.3g} is at the edge of stability, about {stable:.4g}: try lr {1 / curvature:.2g}"
        return text


def shown(x: Any) -> str:
    """Return parameters as short text for a message."""
    if isinstance(x, dict):
        return "{" + ", ".join(f"{name}: {shown(value)}" for name, value in x.items()) + "}"
    if is_structure(x):
        inner = ", ".join(map(shown, x))
        return f"[{inner}]" if isinstance(x, list) else f"({inner})"
    return np.array2string(np.asarray(x), precision=6, threshold=6, edgeitems=2, separator=", ").replace("\n", "")


def _steps(count: int) -> str:
    return f"{count} step{'s' * (count != 1)}"


def _largest(x: FloatArray) -> float:
    return float(np.maximum.reduce(np.abs(x)))


def _norm(x: FloatArray) -> float:
    """Return the Euclidean norm, scaled where squares would overflow (1e200) or vanish (1e-200)."""
    square = float(np.dot(x, x))
    if TINY < square < HUGE:
        return math.sqrt(square)
    scale = _largest(x)
    return scale * math.sqrt(float(np.square(x / scale).sum())) if 0 < scale < math.inf else scale
