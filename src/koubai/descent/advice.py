"""Which rate would have done better: only rates are named that were tried, in a short descent from the start."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np

from koubai.descent.objective import Bounds, Objective
from koubai.descent.optimizers import Optimizer, State
from koubai.descent.record import Status
from koubai.descent.stopping import Point, Stopping, Verdict, norm
from koubai.errors import quiet
from koubai.parameters import FloatArray

__all__ = ["advised"]

FEWEST = 2  # steps: one alone says little of a rate
STEPS = 50  # of a trial, at most
SMALLER = 12  # times the rate is divided by 10 before no advice is given
EDGE = 0.95  # of the largest stable rate: a rate beyond that is at the edge of stability


def advised(
    objective: Objective, stopping: Stopping, bounds: Bounds | None, end: Point, state: State, verdict: Verdict
) -> Verdict:
    """Return ``verdict`` with a rate that was tried, if its own rate is to blame for it; else as it is."""
    optimizer = stopping.optimizer
    if verdict.status not in (Status.diverged, Status.nonfinite, Status.max_steps) or callable(optimizer.lr):
        return verdict
    if optimizer.rule.searches or stopping.unbounded or not stopping.follows:
        return verdict
    if end.t < FEWEST and verdict.status is Status.max_steps:
        return verdict
    steps = max(5, min(STEPS, end.t // 20)) if verdict.status is Status.max_steps else STEPS
    trials = _Trials(objective, optimizer, bounds, stopping.start, steps)
    with quiet():
        if verdict.status is Status.max_steps:
            sentence = _of_a_slow_one(trials, stopping, end, state)
        else:
            sentence = _of_a_wild_one(trials, stopping)
    return Verdict(verdict.status, verdict.message + sentence) if sentence else verdict


def _of_a_wild_one(trials: _Trials, stopping: Stopping) -> str:
    """Return advice for a descent that diverged: the largest stable rate, and one that went down."""
    lr, curvature = float(trials.optimizer.lr), max(trials.curvature(), stopping.curvature())  # type: ignore[arg-type]
    stable = trials.optimizer.largest_stable_lr(curvature)
    first, limit = lr / 10, ""
    if stable is not None and stable <= lr:
        first = stable / 2
        if trials.fall(EDGE * stable) > 0:
            limit = f"; the curvature along the path is {curvature:.4g}, so the largest stable lr is about {stable:.4g}"
    for k in range(SMALLER):
        smaller = first / 10**k
        if trials.fall(smaller) > 0:
            return f"; try lr {smaller:.2g}: {trials.describe(smaller)}{limit}"
    return ""


def _of_a_slow_one(trials: _Trials, stopping: Stopping, end: Point, state: State) -> str:
    """Return advice for a descent that ran out of steps: too slow, oscillating, or at the edge of stability."""
    lr, curvature = float(trials.optimizer.lr), stopping.curvature()  # type: ignore[arg-type]
    if lr == 0:
        return ""
    stable, start = trials.optimizer.largest_stable_lr(curvature), stopping.start
    reached = start.fun - end.fun  # in many more steps than a trial has
    before = stopping.before  # if it is not known, it may have been on either side
    turns = before is None or float(np.dot(end.g, end.x - before)) > 0  # back where it came from
    if turns and trials.swings(end, state):
        reason, rates, wanted = (
            "x goes to and fro between two points: lr is too large",
            [lr / 3, lr / 10, lr / 100],
            0.0,
        )
    elif reached < 0:
        reason, rates, wanted = "f ends above its start: lr is too large", [lr / 10**k for k in range(1, SMALLER)], 0.0
    elif stable is None:
        reason, rates, wanted = "", [10 * lr, 100 * lr, lr / 10, lr / 100], reached
    elif lr >= EDGE * stable and end.fun >= 0.5 * start.fun:
        reason = f"lr {lr:.3g} is at the edge of stability, about {stable:.4g}"
        rates, wanted = [1 / curvature, lr / 10], reached
    elif lr < 0.01 * stable:
        reason = f"too slow: lr {lr:.3g} is {lr / stable:.2g} of the largest stable rate, about {stable:.4g}"
        rates, wanted = [1 / curvature, 100 * lr, 10 * lr], 1.1 * trials.fall(lr)
    else:
        return ""  # neither too large nor too small: the function is hard
    best = (
        next((rate for rate in rates if trials.fall(rate) > 0), rates[0]) if not wanted else max(rates, key=trials.fall)
    )
    if not trials.fall(best) > wanted:
        return "" if wanted else f"; {reason}"
    return f"; {reason + ': ' if reason else ''}try lr {best:.2g}: {trials.describe(best)}"


@dataclass
class _Trials:
    """Short descents from the start, with the same optimizer at other rates."""

    objective: Objective
    optimizer: Optimizer
    bounds: Bounds | None
    start: Point
    steps: int

    def __post_init__(self) -> None:
        self.ends: dict[float, float] = {}  # f at the end of each; inf if it failed

    def fall(self, lr: float) -> float:
        """Return by how much f falls with this rate; -inf if it rises far above its start, or is not finite."""
        if lr not in self.ends:
            self.ends[lr] = self._end(lr)
        return self.start.fun - self.ends[lr]

    def describe(self, lr: float) -> str:
        return f"{self.steps} steps from the start take f to {self.ends[lr]:.6g}"

    def curvature(self) -> float:
        """Return the curvature of f at the start, along its gradient."""
        x, g = self.start.x, self.start.g
        size = float(np.max(np.abs(g)))
        if not size > 0:
            return 0.0
        step = float(np.finfo(x.dtype).eps) ** 0.25 * (float(np.max(np.abs(x))) or 1.0) / size
        there = x - step * g
        if self.bounds is not None:
            there = self.bounds.project(there)
        moved = norm(there - x)
        if moved == 0:
            return 0.0
        point = self._at(1, there)
        return 0.0 if point is None else norm(point.g - g) / moved

    def _at(self, t: int, x: FloatArray) -> Point | None:
        """Return the point; None if it is not finite, or f raises: the user didn't ask for this evaluation."""
        try:
            point = self.objective.evaluate(t, x)
        except Exception:
            return None
        return point if point.is_finite else None

    def swings(self, end: Point, state: State) -> bool:
        """Return whether the second of two more steps undoes the first."""
        once = self._step(self.optimizer, end, state, end.t + 1)
        twice = None if once is None else self._step(self.optimizer, *once, end.t + 2)
        if once is None or twice is None:
            return False
        return norm(twice[0].x - end.x) <= 1e-3 * norm(once[0].x - end.x)

    def _step(self, optimizer: Optimizer, point: Point, state: State, t: int) -> tuple[Point, State] | None:
        """Return the next point and state; None if f or x is not finite."""
        lr = float(optimizer.lr)  # type: ignore[arg-type]
        x, state = optimizer.step(point.x, point.g, state, t, lr, fun=point.fun, layout=self.objective.layout)
        x = x if self.bounds is None else self.bounds.project(x)
        after = self._at(t, x) if np.isfinite(x).all() else None
        return None if after is None else (after, state)

    def _end(self, lr: float) -> float:
        optimizer = copy.copy(self.optimizer)
        optimizer.lr = lr  # checked by __setattr__
        point, state = self.start, optimizer.init(self.start.x, self.objective.layout)
        for t in range(1, self.steps + 1):
            after = self._step(optimizer, point, state, t)
            if after is None or after[0].fun - self.start.fun > abs(self.start.fun):
                return math.inf
            point, state = after
        return point.fun
