"""When a descent stops, and the sentence that says why."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from koubai.descent.optimizers import Optimizer
from koubai.descent.record import Status
from koubai.errors import InputError
from koubai.messages import Worded, worded
from koubai.parameters import SHORT, FloatArray, Layout, is_finite, is_structure

__all__ = ["Point", "Stopping", "Verdict", "are_equal", "largest", "norm", "shown"]

GROWTH = 1e10  # f or x this many times beyond its start has diverged: no rate that works passes through there
RISEN = 1e3  # times its size at the start, and f that ends so high has diverged too, only slowly
TINY, HUGE = 1e-30, 1e30  # between them a sum of squares has lost nothing, in float32 too
EPS = float(np.finfo(np.float64).eps)
GTOL = 1e-6  # the default for the gradient, together with AHEAD; not for least squares
AHEAD = 1e-12  # of f, or of its fall if f itself goes to 0: by default, no more than that may lie ahead
ROUNDINGS = 1e3  # of f: so many may hide what a step would gain, if no step lowers f
PATIENCE = 10  # steps in a row before "x does not change" or "lost in noise" counts: one can be a coincidence


@dataclass(slots=True)  # a frozen one takes three times as long to make, and each step makes one
class Point:
    """One evaluated point: f, the gradient and what is known of the gradient's error (differences only).

    Never changed: another one takes its place.
    """

    t: int
    x: FloatArray
    fun: float
    g: FloatArray
    grad_norm: float  # largest |component| of the gradient; components that push x out of its bounds count as zero
    error: float = 0.0  # largest rounding error of a component
    below_rounding: tuple[int, ...] = ()  # components in which x + h or x - h rounds to x
    is_sample: bool = False  # f and g come from one mini-batch: they say little of the whole
    projected: bool = False  # the update that led here left the bounds and was put back onto them

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.fun) and is_finite(self.g)


@dataclass(slots=True)
class Verdict:
    """The reason why a descent stopped. Never changed."""

    status: Status
    message: str


class Stopping:
    """The stopping rules of one descent; ``check`` is called at every point, in the order of the path.

    gtol: largest |gradient component| (≤). None, the default, depends on no unit: it asks for 1e-6 and, besides, that
    no more than 1e-12 × |f| lies ahead, g·g / (2 × curvature along the last step), or, if f itself goes to 0, since
    all of it is ahead or next to nothing of it is left, than 1e-12 × what f has fallen by. The first alone would take
    a function in small units for flat; the second alone would end in a narrow valley, whose floor a step across says
    nothing about. If no step lowers f, the
    rounding of f is the end, whatever the gradient (`koubai.descent.endings`). Of least squares (an optimizer that
    promises a decrease) it asks that all that f could fall by before the last step, were the residuals straight lines,
    is below the rounding of f, 2.2e-16 × |f|, or 1e3 times that if no step lowers f; or, if f itself goes to 0,
    below 3.3e-24 × |f at the start|. Either way an end above the start, or above the best point, isn't a success.
    ftol: |Δf| and the decrease still to be expected, g·g / (2 × curvature), both ≤ ftol × max(1, |f|). xtol: the step
    and the distance still to be expected, both ≤ xtol × max(1, largest |x|).
    The second half of ftol and xtol is what keeps a tiny learning rate from passing for convergence.
    target: f ≤ target. At a mini-batch's point only divergence is checked.
    """

    start: Point
    last: Point | None = None
    unchanged: int = 0
    in_noise: int = 0
    working_gtol: float = GTOL  # without a gtol: a smaller gradient is checked
    unbounded: bool = False  # whether f seems to fall without end
    # Of the last step that moved x: x and g before it and the point after it, until it is taken in; Δx, Δg and |Δx|,
    # until the curvature along it is asked for; |Δg| / |Δx|; and the curvature
    _passed: tuple[FloatArray | tuple[FloatArray, FloatArray], Point] | None = None
    _last_step: tuple[FloatArray, FloatArray, float] | None = None
    _lipschitz: float = 0.0
    _step_curvature: float = 0.0

    def __init__(
        self,
        layout: Layout,
        optimizer: Optimizer,
        max_steps: int,
        gtol: float | None = None,
        ftol: float | None = None,
        xtol: float | None = None,
        target: float | None = None,
        follows: bool = True,
        free: Callable[[FloatArray, FloatArray], FloatArray] | None = None,
    ) -> None:
        """follows: learn the curvature from one point to the next; of mini-batches it would be the noise. free: returns
        the part of g at x that bounds leave free.
        """
        self.layout, self.optimizer = layout, optimizer
        self.max_steps, self.gtol, self.ftol, self.xtol, self.target = max_steps, gtol, ftol, xtol, target
        self.follows, self.free = follows, free
        if max_steps < 0 if type(max_steps) is int else not _counts(max_steps):
            raise InputError(f"max_steps must be a whole number ≥ 0, got {max_steps!r}")
        tolerances = () if gtol is ftol is xtol is None else (("gtol", gtol), ("ftol", ftol), ("xtol", xtol))
        for name, value in tolerances:
            if value is None or (type(value) is float and 0 <= value < math.inf):
                continue
            if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < math.inf:
                hint = "use 0 to turn it off" if name == "gtol" else "use None to turn it off"
                raise InputError(f"{name} must be a finite number ≥ 0, got {value!r}; {hint}")
        if target is not None and (not isinstance(target, Real) or math.isnan(target)):
            raise InputError(f"target must be a number, got {target!r}")

    # -- the rules, in the order in which they count ------------------------------------------------------------------

    @property
    def limit(self) -> float:
        """The largest |gradient component| that may be small."""
        return self.working_gtol if self.gtol is None else float(self.gtol)

    def check(self, point: Point, promise: float | None = None) -> Verdict | None:
        """Return why the descent stops at ``point``, or None: go on.

        promise: by how much the last step was to lower f, if the optimizer tells.
        """
        previous = self.last
        self.last = point
        if previous is None:
            self.start = point
        elif self.follows:
            self._follow(previous, point)
        if point.is_sample:
            out = Verdict(Status.max_steps, worded("the step limit {limit} came first", limit=self.max_steps))
            return self._diverged(point) or (out if point.t >= self.max_steps else None)
        if self.target is not None and point.fun <= self.target:
            found = worded(
                "f = {fun:.6g} ≤ target {target:g} at step {t}", fun=point.fun, target=self.target, t=point.t
            )
            return Verdict(Status.target_reached, found)
        by_promise = promise is not None and self.gtol is None and point.grad_norm > 0
        small = self._promise_small(point, promise or 0.0) if by_promise else self._gradient_small(point)
        if small is not None:
            return small
        if previous is not None and (verdict := self._diverged(point) or self._change_small(previous, point)):
            return verdict
        if self.in_noise >= PATIENCE:
            return Verdict(
                Status.noise_floor,
                worded(
                    "the gradient, at most {g:.3g}, is within its own rounding error {error:.3g} since step {t}; "
                    "f is not computed precisely enough to go on",
                    g=point.grad_norm,
                    error=point.error,
                    t=point.t - PATIENCE + 1,
                ),
            )
        if self.unchanged and self.stands_still:
            limit = worded("gtol is off") if self.gtol == 0 else worded("gtol is {gtol:g}", gtol=self.limit)
            return Verdict(
                Status.stalled,
                worded(
                    "x has not changed for {steps} steps: lr × gradient is below the rounding of x "
                    "(largest |gradient| {g:.3g}, {limit})",
                    steps=PATIENCE,
                    g=point.grad_norm,
                    limit=limit,
                ),
            )
        if point.t >= self.max_steps:
            return self.out_of_steps(point)
        return None

    @property
    def patience(self) -> int:
        """After so many steps that left x as it was, it stays: a search that found nothing starts again once."""
        return 2 if "evaluate" in self.optimizer.rule.uses else PATIENCE

    @property
    def stands_still(self) -> bool:
        return self.unchanged >= self.patience

    @property
    def gtol_text(self) -> str:
        """The limit of the gradient, for messages."""
        if self.gtol == 0:
            return worded("gtol is off")
        return worded("gtol is {gtol:g}", gtol=GTOL if self.gtol is None else self.gtol)

    def may_end(self, fun: float, grad_norm: float) -> bool:
        """Return whether f and the gradient, over an epoch or over all the data, meet the target or gtol."""
        return (self.target is not None and fun <= self.target) or (self.limit > 0 and grad_norm <= self.limit)

    def doubted(self, verdict: Verdict, point: Point, error: float) -> Verdict:
        """Return ``verdict``, that the descent converged, unless the gradient is lost in its measured ``error``."""
        if error <= max(self.limit, point.grad_norm):
            return verdict
        return Verdict(
            Status.noise_floor,
            worded(
                "{found}, but by the measured noise of f the gradient's error is {error:.3g}: it can't be told from "
                "zero; give the exact gradient, a larger step or a larger tolerance",
                found=verdict.message,
                error=error,
            ),
        )

    def nonfinite(self, point: Point, reason: str = "") -> Verdict:
        """Return the verdict of a descent that can't go on to ``point``, where f, the gradient or x is not finite.

        reason: what is known of it.
        """
        x = self.layout.view(point.x)
        if not np.isfinite(point.x).all() or point.fun == -math.inf:
            if np.isfinite(point.x).all():
                return Verdict(Status.diverged, worded("f fell to -inf at step {t}", t=point.t))
            return Verdict(Status.diverged, worded("x overflowed at step {t}", t=point.t))
        if not math.isfinite(point.fun):
            what = worded("f = {fun} at step {t} (x = {x})", fun=point.fun, t=point.t, x=shown(x))
        else:
            i = int(np.flatnonzero(~np.isfinite(point.g))[0])
            what = worded(
                "the gradient's component {label} is {g} at step {t} (x = {x})",
                label=self.layout.label(i),
                g=point.g[i],
                t=point.t,
                x=shown(x),
            )
            what = worded("{what}: {reason}", what=what, reason=reason) if reason else what
        good = worded("{what}; x, fun and jac are those of step {t}, the last good one", what=what, t=point.t - 1)
        return Verdict(Status.nonfinite, good)

    def _gradient_small(self, point: Point) -> Verdict | None:
        limit = self.limit
        if limit == 0 or point.grad_norm > limit:
            return None
        limit = GTOL if self.gtol is None else limit
        if point.below_rounding:
            return Verdict(
                Status.stalled,
                worded(
                    "the difference is zero only because x ± h rounds to x in {label}; the true gradient is unknown "
                    "here: use a larger h",
                    label=self.layout.label(point.below_rounding[0]),
                ),
            )
        found = worded(
            "largest |gradient| {g:.3g} ≤ gtol {gtol:g} at step {t}", g=point.grad_norm, gtol=limit, t=point.t
        )
        if point.error > limit:
            return Verdict(
                Status.noise_floor,
                worded(
                    "{found}, but its rounding error is {error:.3g}: it can't be told from zero; give the exact "
                    "gradient or a larger gtol",
                    found=found,
                    error=point.error,
                ),
            )
        if self.gtol is None and self.follows and point.grad_norm > 0 and not self._little_ahead(point):
            return None
        if point.t == 0:
            found = worded("{found}; no step was made", found=found)
        return self.above_the_start(point) or Verdict(Status.converged, found)

    def _little_ahead(self, point: Point) -> bool:
        """Return whether f has next to nothing left to fall by, in its own units; else lower ``working_gtol``."""
        if not self.step_curvature > 0:
            return False
        square = norm(point.g if self.free is None else self.free(point.x, point.g)) ** 2
        ahead = square / (2 * self.step_curvature)
        limit = self.negligible(point.fun, min(ahead, square / (2 * self.lipschitz)))
        if ahead <= limit:
            return True
        smaller = point.grad_norm * max(0.5, math.sqrt(limit / ahead))  # not by much: this is checked again soon
        self.working_gtol = min(self.working_gtol, smaller)
        return False

    def negligible(self, fun: float, ahead: float) -> float:
        """Return how much of ``fun`` is negligible if about ``ahead`` is left to fall by."""
        fallen, size = abs(self.start.fun - fun), abs(fun)
        goes_to_0 = ahead >= 0.1 * size or size <= 4 * EPS * fallen
        return max(AHEAD * size, (AHEAD if goes_to_0 else EPS**1.5) * fallen)

    def _promise_small(self, point: Point, promise: float) -> Verdict | None:
        """Return the verdict of least squares, which are done once what f may still fall by is below its rounding."""
        rounding = EPS * (ROUNDINGS if self.unchanged else 1)
        if not promise <= rounding * abs(point.fun) + EPS**1.5 * abs(self.start.fun):
            # straight lines say nothing if as many residuals as parameters don't go to 0; but the curvature does
            if not self.unchanged or point.grad_norm > self.limit or not self.lipschitz > 0:
                return None
            promise = norm(point.g) ** 2 / (2 * self.lipschitz)
            if not promise <= rounding * abs(point.fun):
                return None
        found = worded(
            "to the rounding of f: at step {t} no more than {ahead:.3g} of f = {fun:.6g} lay ahead",
            t=point.t,
            ahead=promise,
            fun=point.fun,
        )
        return self.above_the_start(point) or Verdict(Status.converged, found)

    def above_the_best(self, point: Point, best: Point) -> Verdict | None:
        """Return the verdict of a descent that ends above a point that it has left, which isn't a success."""
        above = point.fun - best.fun
        if above <= 0 or above <= self.negligible(point.fun, above):
            return None
        return Verdict(
            Status.stalled,
            worded(
                "the gradient is small, {g:.3g}, but f = {fun:.6g} lies above {best:.6g} at step {t}: the descent left "
                "a better point; best_x is the best one",
                g=point.grad_norm,
                fun=point.fun,
                best=best.fun,
                t=best.t,
            ),
        )

    def above_the_start(self, point: Point) -> Verdict | None:
        """Return the verdict of a small gradient above the start, which isn't a success."""
        if point.fun <= self.start.fun:
            return None
        return Verdict(
            Status.stalled,
            worded(
                "the gradient is small, {g:.3g}, but f = {fun:.6g} lies above that of the start, {start:.6g}: a step "
                "leapt away, onto a flat region or to a worse point; best_x is the best one",
                g=point.grad_norm,
                fun=point.fun,
                start=self.start.fun,
            ),
        )

    def has_risen(self, fun: float) -> bool:
        """Return whether ``fun`` is so far above f at the start that the descent diverges."""
        return fun - self.start.fun > self.rise

    @property
    def rise(self) -> float:
        """How far f may rise above the start."""
        return GROWTH * max(1.0, abs(self.start.fun))

    def _diverged(self, point: Point) -> Verdict | None:
        start = self.start
        if point.fun > start.fun and self.has_risen(point.fun):
            what = self._rose(point)
        elif (size := norm(point.x)) > GROWTH and size > GROWTH * (start_size := norm(start.x)):
            what = worded(
                "|x| grew from {start:.3g} to {size:.3g} in {steps}", start=start_size, size=size, steps=_steps(point.t)
            )
            if point.fun < start.fun:
                self.unbounded = True
                what = worded("{what} while f keeps falling: f seems unbounded below", what=what)
        else:
            return None
        return Verdict(Status.diverged, what)

    def _rose(self, point: Point) -> Worded:
        return worded(
            "f rose from {start:.6g} to {fun:.3g} in {steps}",
            start=self.start.fun,
            fun=point.fun,
            steps=_steps(point.t),
        )

    def _change_small(self, previous: Point, point: Point) -> Verdict | None:
        if (self.ftol is None and self.xtol is None) or self.unchanged:
            return None
        step = point.x - previous.x
        curvature = norm(point.g - previous.g) / norm(step)
        if not 0 < curvature < math.inf:
            return None
        if self.ftol is not None:
            change, limit = abs(point.fun - previous.fun), self.ftol * max(1.0, abs(point.fun))
            ahead = norm(point.g) ** 2 / (2 * curvature)
            if change <= limit and ahead <= limit:
                found = worded(
                    "f changed by {change:.3g}, and about {ahead:.3g} lies ahead; both ≤ {limit:.3g}",
                    change=change,
                    ahead=ahead,
                    limit=limit,
                )
                return Verdict(Status.converged, found)
        if self.xtol is not None:
            change, limit = largest(step), self.xtol * max(1.0, largest(point.x))
            ahead = point.grad_norm / curvature
            if change <= limit and ahead <= limit:
                found = worded(
                    "x changed by {change:.3g}, and about {ahead:.3g} lies ahead; both ≤ {limit:.3g}",
                    change=change,
                    ahead=ahead,
                    limit=limit,
                )
                return Verdict(Status.converged, found)
        return None

    # -- what the path shows -- ----------------------------------------------------------------------------------------

    def _follow(self, previous: Point, point: Point) -> None:
        """Keep what the rules need: for how long x has not changed, the noise, the last step that moved x."""
        if are_equal(previous.x, point.x):
            self.unchanged += 1
        else:
            self.unchanged, self._passed = 0, ((previous.x, previous.g), point)
        self.in_noise = self.in_noise + 1 if point.error and self.limit < point.grad_norm <= point.error else 0

    def _take_in(self) -> None:
        """Learn from the last step that moved x, once that is asked for."""
        if self._passed is not None:
            (x, g), point = self._passed
            along, change = point.x - x, point.g - g
            step = norm(along)
            self._lipschitz, self._last_step, self._passed = norm(change) / step, (along, change, step), None

    # Both are asked for within `quiet`: the norms may be near the largest number.

    @property
    def lipschitz(self) -> float:
        """|Δg| / |Δx| of the last step that moved x."""
        self._take_in()
        return self._lipschitz

    @lipschitz.setter
    def lipschitz(self, lipschitz: float) -> None:
        self._lipschitz, self._passed = lipschitz, None

    @property
    def step_curvature(self) -> float:
        """The curvature along the last step that moved x, Δx·Δg / Δx·Δx."""
        self._take_in()
        if self._last_step is not None:
            along, change, step = self._last_step
            self.step_curvature = float((along / step).dot(change / step))
        return self._step_curvature

    @step_curvature.setter
    def step_curvature(self, step_curvature: float) -> None:
        self._step_curvature, self._last_step = step_curvature, None

    def go_on_at(self, before: FloatArray, point: Point) -> None:
        """Go on at ``point``, to which a loop has come that applied the rules for stopping to every step on its way.

        before: x and g of the point before it.
        """
        self.last, self.unchanged, self.in_noise = point, 0, 0
        self._passed = before, point

    def out_of_steps(self, point: Point) -> Verdict:
        """Return the verdict at the last point allowed, if no other rule for stopping holds."""
        if point.fun - self.start.fun > RISEN * (abs(self.start.fun) or 1.0):
            what = worded("{what}, and the step limit {limit} came", what=self._rose(point), limit=self.max_steps)
            return Verdict(Status.diverged, what)
        came, g, gtol = self.max_steps, point.grad_norm, self.gtol
        if gtol is None and not g > GTOL:
            text = worded(
                "the step limit {limit} came first: largest |gradient| {g:.3g}, and f still falls in its own units",
                limit=came,
                g=g,
            )
        elif gtol is None:
            text = worded(
                "the step limit {limit} came first: largest |gradient| {g:.3g} > {gtol:g}", limit=came, g=g, gtol=GTOL
            )
        elif gtol and g > gtol:
            text = worded(
                "the step limit {limit} came first: largest |gradient| {g:.3g} > gtol {gtol:g}",
                limit=came,
                g=g,
                gtol=gtol,
            )
        elif gtol:
            text = worded(
                "the step limit {limit} came first: largest |gradient| {g:.3g}, gtol {gtol:g}",
                limit=came,
                g=g,
                gtol=gtol,
            )
        else:
            text = worded("the step limit {limit} came first: largest |gradient| {g:.3g}", limit=came, g=g)
        return Verdict(Status.max_steps, text)


def _counts(steps: Any) -> bool:
    return not isinstance(steps, bool) and isinstance(steps, int | np.integer) and int(steps) >= 0


def shown(x: Any) -> str:
    """Return parameters as short text for a message."""
    if isinstance(x, dict):
        return "{" + ", ".join(f"{name}: {shown(value)}" for name, value in x.items()) + "}"
    if is_structure(x):
        inner = ", ".join(map(shown, x))
        return f"[{inner}]" if isinstance(x, list) else f"({inner})"
    return np.array2string(np.asarray(x), precision=6, threshold=6, edgeitems=2, separator=", ").replace("\n", "")


def _steps(count: int) -> Worded:
    return worded("1 step") if count == 1 else worded("{count} steps", count=count)


def are_equal(a: FloatArray, b: FloatArray) -> bool:
    """Return whether two vectors of one size hold the same numbers."""
    return a.tolist() == b.tolist() if a.size <= SHORT else bool((a == b).all())


def largest(x: FloatArray) -> float:
    """Return the largest |component|."""
    if x.size <= SHORT:
        sizes: list[float] = [*map(abs, x.tolist())]
        total = sum(sizes)
        if total == total:  # Python's max may pass over a NaN
            return max(sizes)
    return float(np.maximum.reduce(np.abs(x)))


def norm(x: FloatArray) -> float:
    """Return the Euclidean norm, scaled if squares would overflow (1e200) or vanish (1e-200)."""
    square = x.dot(x)
    if TINY < square < HUGE:
        return math.sqrt(square)
    scale = largest(x)
    return scale * math.sqrt(float(np.square(x / scale).sum())) if 0 < scale < math.inf else scale
