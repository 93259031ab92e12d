"""Why x stays where it is: the rounding of f, a kink, a bound, the end of f, a wrong gradient, or the optimizer alone.

A step that leaves x as it was says nothing by itself. So f is evaluated around x, a handful of times: it is
at its end if nothing lowers it, L-BFGS included, and it is smooth there. Everything else has a message of its own,
and isn't a success.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from koubai.descent.objective import Bounds, Objective
from koubai.descent.optimizers import LBFGS, Optimizer
from koubai.descent.record import Status
from koubai.descent.stopping import ROUNDINGS, Point, Stopping, Verdict
from koubai.messages import Worded, worded
from koubai.parameters import FloatArray

__all__ = ["standing_still"]

STEPS = 10  # of L-BFGS, to see whether f can still fall
SMOOTH = 30.0  # times as much a parabola bends at ten times the distance, 100; a kink bends 10 times as much


def standing_still(objective: Objective, stopping: Stopping, bounds: Bounds | None, point: Point) -> Verdict:
    """Return the verdict of a descent whose x has stopped at ``point``, though its gradient is not small."""
    about = _About(objective, bounds, point)
    detail = worded("largest |gradient| {g:.3g}, {limit}", g=point.grad_norm, limit=stopping.gtol_text)
    name = type(stopping.optimizer).__name__

    def stalled(why: Worded) -> Verdict:
        told = worded(
            "x has not changed for {steps} steps: {why} ({detail})", steps=stopping.unchanged, why=why, detail=detail
        )
        return Verdict(Status.stalled, told)

    if point.grad_norm == 0:
        return stalled(worded("the gradient is 0"))
    if about.size == 0:
        return stalled(worded("what is left of the gradient pushes x against its bounds"))
    if (sentence := about.obstacle()) is not None:
        return stalled(sentence)
    lower = about.lowest(stopping)
    if lower.fun < point.fun - ROUNDINGS * about.rounding or about.falls:
        if "evaluate" in stopping.optimizer.rule.uses:
            if about.falls:
                why = worded(
                    "no step that {name} tries lowers f, but f falls by {fall:.3g} along the gradient",
                    name=name,
                    fall=about.falls,
                )
            else:
                why = worded(
                    "no step that {name} tries lowers f, but f falls to {fun:.6g} by L-BFGS", name=name, fun=lower.fun
                )
        else:
            why = worded(
                "lr × gradient is below the rounding of x, and f still falls: use a larger lr, or optimizer='lbfgs'"
            )
        return stalled(why)
    if objective.is_flat(point):
        return stalled(worded("f = {fun:.6g} does not change at all around x", fun=point.fun))
    if about.is_steep:
        why = worded(
            "no step lowers f = {fun:.6g} to be seen, though its gradient is large in the units of x and f: f is too "
            "narrow for its own rounding; choose other units for x",
            fun=point.fun,
        )
        return stalled(why)
    found = worded("to the rounding of f: no step from here lowers f = {fun:.6g}", fun=point.fun)
    if np.array_equal(point.x, stopping.start.x):
        found = worded("{found}; no step was made", found=found)
    if stopping.gtol is not None and stopping.gtol > 0:
        found = worded(
            "{found}, and the gradient stays above gtol ({detail}): use a larger gtol", found=found, detail=detail
        )
        return Verdict(Status.stalled, found)
    found = worded("{found} ({detail})", found=found, detail=detail)
    return stopping.above_the_start(point) or Verdict(Status.converged, found)


class _About:
    """f around a point, along its gradient."""

    falls = 0.0  # by so much f was seen to fall along the gradient

    def __init__(self, objective: Objective, bounds: Bounds | None, point: Point) -> None:
        self.objective, self.bounds, self.point = objective, bounds, point
        g = point.g if bounds is None else bounds.free(point.x, point.g)
        largest = float(np.max(np.abs(g)))
        self.size = largest * math.sqrt(float(np.square(g / largest).sum())) if largest > 0 else 0.0
        self.down: FloatArray = -g / self.size if self.size > 0 else np.zeros_like(g)
        self.eps = float(np.finfo(point.x.dtype).eps)
        moves = (point.x != 0) & (self.down != 0)
        # the distance at which the first component changes by its own size
        self.width = float(np.min(np.abs(point.x[moves] / self.down[moves]))) if moves.any() else 1.0
        self.rounding = self._noise()

    def _noise(self) -> float:
        """Return by how much f changes if x moves by a few roundings, which squares and differences in f magnify."""
        signs = np.where(self.down < 0, -1, 1).astype(self.point.x.dtype)
        values = [self._value(self.point.x * (1 + k * 4 * self.eps * signs)) for k in (-3, -2, -1, 1, 2, 3)]
        changes = [abs(value - self.point.fun) for value in values if value is not None and math.isfinite(value)]
        return max(self.eps * abs(self.point.fun), *changes) if changes else self.eps * abs(self.point.fun)

    @property
    def is_steep(self) -> bool:
        """Return whether the gradient, in the units of x and f, is larger than the rounding of f explains."""
        is_exact = self.rounding <= ROUNDINGS * self.eps * abs(self.point.fun)
        return is_exact and bool((np.abs(self.size * self.down * self.point.x) > 0.1 * abs(self.point.fun)).any())

    def obstacle(self) -> Worded | None:
        """Return what keeps f from falling along the gradient, or None: it is at its end, as far as can be seen."""
        x, fun = self.point.x, self.point.fun
        h = near = 1e2 * self.eps * self.width
        at_once = self._value(x + near * self.down)
        if at_once is None:
            return worded("the way down leads out of the bounds")
        if not math.isfinite(at_once):
            return worded("f = {fun} right beyond: its domain ends here", fun=at_once)
        h = max(near, 1e2 * self.rounding / self.size)
        fell, rises = 0.0, list[float]()
        while 0 < h <= 10 * self.width:  # 0 where x is next to nothing
            ahead, behind = self._value(x + h * self.down), self._value(x - h * self.down)
            if ahead is not None and not math.isfinite(ahead) and fell > 0:
                return worded(
                    "f falls on, but at a distance of {h:.3g} it is {fun}: its domain ends there", h=h, fun=ahead
                )
            if ahead is None or not math.isfinite(ahead):
                break
            fell = max(fell, fun - ahead)
            if ahead > fun:
                if fell > 0:
                    break
                if behind is not None and behind < fun - 0.1 * h * self.size:
                    return worded(
                        "f falls where the gradient says that it rises: see koubai.check_gradient(f, grad, x)"
                    )
                if behind is None or not math.isfinite(behind) or len(rises) == 2:
                    break
                rises.append(ahead - 2 * fun + behind)
            h *= 10
        if len(rises) == 2 and rises[1] < SMOOTH * rises[0] and rises[0] > 10 * self.rounding and fell == 0:
            return worded("f has a kink here, where it rises to both sides")
        if fell > ROUNDINGS * self.rounding:
            self.falls = fell
        return None

    def lowest(self, stopping: Stopping) -> Point:
        """Return the lowest point that a few steps of L-BFGS find from here."""
        if isinstance(stopping.optimizer, LBFGS):
            return self.point  # it was tried
        box = None if self.bounds is None else (self.bounds.low, self.bounds.high)
        helper: Optimizer = LBFGS()
        best = point = self.point
        state = helper.init(point.x, self.objective.layout)
        for t in range(1, STEPS + 1):
            trials: list[Point] = []
            x, state = helper.step(
                point.x, point.g, state, t, helper.lr_at(t), fun=point.fun,
                evaluate=partial(self._trial, trials, point.t), layout=self.objective.layout, box=box,
            )  # fmt: skip
            after = next((trial for trial in trials if np.array_equal(trial.x, x)), point)
            if np.array_equal(after.x, point.x):
                break
            point = after
            best = min(best, point, key=lambda p: p.fun)
            if best.fun < self.point.fun - ROUNDINGS * self.rounding:
                break
        return best

    def _trial(self, trials: list[Point], t: int, x: FloatArray) -> tuple[float, FloatArray]:
        there = x if self.bounds is None else self.bounds.project(x)
        if not np.isfinite(there).all():
            return math.nan, np.full_like(there, np.nan)
        trials.append(self.objective.evaluate(t, there))
        return trials[-1].fun, trials[-1].g

    def _value(self, x: FloatArray) -> float | None:
        """Return f at ``x``, nan if it raises, None outside the bounds."""
        if self.bounds is not None and not np.array_equal(self.bounds.project(x), x):
            return None
        try:
            return float(self.objective.value(x))
        except (ArithmeticError, ValueError):
            return math.nan
