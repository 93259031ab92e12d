"""The steps of a descent on a function by the optimizer's rule itself, run by Python."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from koubai.descent.batch_iterator import BatchIterator, weight
from koubai.descent.default import choose
from koubai.descent.descent import Descent
from koubai.descent.objective import norm
from koubai.descent.optimizers import State
from koubai.descent.progress_bar import steps_bar
from koubai.descent.record import Epochs, Run
from koubai.descent.stopping import Point, are_equal, shown
from koubai.errors import FunctionError, GradientError, quiet
from koubai.parameters import FloatArray

__all__ = ["PythonStepper"]


def _known(points: list[Point], x: FloatArray) -> Point | None:
    """Return the first of these points that is at ``x``."""
    for point in points:
        if point.x is x or are_equal(point.x, x):
            return point
    return None


class PythonStepper:
    """Makes any step of a descent on f, one at a time, with mini-batches too."""

    KIND: ClassVar[str] = "checkpoint"

    def __init__(self, descent: Descent) -> None:
        self.descent = descent

    def leave(self) -> None:
        """End the descent."""

    def ask(self) -> None:
        """Ask f for its value at the start, if that is known to be wanted, as it is outside of `quiet`."""
        descent = self.descent
        if descent.batches is None and not descent.recorder.count:
            descent.objective.ask(descent.start)

    def begin(self) -> None:
        """Arrive at the start; choose the optimizer by f, if none was named."""
        descent = self.descent
        first = self._first() if descent.may_choose_optimizer else None
        if first is not None:
            descent.optimizer, descent.optimizer_reason = choose(descent.objective, first)
            descent.stopping.optimizer, descent.may_choose_optimizer = descent.optimizer, False
        optimizer = descent.optimizer
        begun = partial(optimizer.init, descent.start, descent.layout)
        descent.state = begun if optimizer.rule.searches or optimizer.begins_with_zeros else begun()
        descent.lr = optimizer.lr_at(0)
        descent.arrive(first or self._first())

    def _first(self) -> Point:
        """Return the start, evaluated, which must be finite: there is no earlier point to fall back on."""
        descent = self.descent
        objective, start = descent.objective, descent.start
        if descent.batches is None:
            point = objective.evaluate(0, start)
        else:
            descent.best = Point(0, start, np.inf, np.full_like(start, np.nan), np.inf, is_sample=True)
            point = self._sampled(descent.batches, 0, start)
        if point.is_finite:
            if descent.batches is None:
                objective.glance(point)
        else:
            what = f"f(x0) = {point.fun}" if not np.isfinite(point.fun) else f"the gradient at x0 is {shown(point.g)}"
            reason = f": {objective.nonfinite_reason}" if objective.nonfinite_reason else ""
            fix = "start elsewhere" if np.isfinite(point.fun) else "start where f is finite"
            raise FunctionError(f"{what} at x0 = {shown(descent.layout.view(start))}{reason}; {fix}")
        return point

    def advance(self, many: bool) -> None:
        """Make one step."""
        self.step_from(self.descent.current())

    def step_from(self, point: Point) -> None:
        """Make one step from the last point, as f is there now."""
        self.descent.reach(*self._updated(point))

    def _updated(self, point: Point) -> tuple[Point, State]:
        """Make one update; return the new point, evaluated, and the optimizer's state after it."""
        descent = self.descent
        bounds, objective, t = descent.bounds, descent.objective, point.t + 1
        trials: list[Point] = []  # the points that a line search evaluates on its way
        asked: dict[str, Any] = {}
        if descent.optimizer.rule.searches:
            asked = {
                "evaluate": partial(self._trial, trials, t), "residuals": lambda x: objective.residuals(point),
                "box": None if bounds is None else (bounds.low, bounds.high),
            }  # fmt: skip
        with quiet():
            x, state = descent.optimizer.step(
                point.x, point.g, descent.state, t, descent.lr, fun=point.fun, layout=descent.layout, **asked
            )
        projected = False
        if bounds is not None:
            inside = bounds.project(x)
            projected, x = not np.array_equal(inside, x), inside
        if descent.batches is not None:
            after = self._sampled(descent.batches, t, x)
        else:
            after = _known(trials, x) or objective.visit(t, x)
        return (replace(after, projected=True) if projected else after), state

    def _trial(self, trials: list[Point], t: int, x: FloatArray) -> tuple[float, FloatArray]:
        """Evaluate a point for a line search. It may be the best one even if the search goes on to another."""
        descent = self.descent
        trial = descent.objective.visit(t, x if descent.bounds is None else descent.bounds.project(x))
        trials.append(trial)
        if descent.batches is None and trial.is_finite and trial.fun < descent.best.fun:
            descent.best = trial
        return trial.fun, trial.g

    def _sampled(self, batches: BatchIterator, t: int, x: FloatArray) -> Point:
        """Return the point ``x`` by the next mini-batch, or by all the data if the descent has reached its aim."""
        descent = self.descent
        objective, stopping = descent.objective, descent.stopping
        if (batch := batches.draw()) is None:
            ended = batches.end_epoch(t, norm(x, batches.sums.gradient, descent.bounds))
            if ended.mean < descent.best.fun:
                descent.best = Point(t, x, ended.mean, ended.gradient, batches.rows[-1][2], is_sample=True)
            if stopping.may_end(ended.mean, batches.rows[-1][2]):
                whole = objective.mean(t, x, batches)
                if stopping.may_end(whole.fun, whole.grad_norm):
                    return whole
            batch = batches.draw() or ()
        objective.batch = batch
        point = replace(objective.visit(t, x), is_sample=True)
        if point.is_finite:
            batches.sums.add(weight(batch), point.fun, point.g)
        return point

    def bar(self) -> AbstractContextManager[Callable[[Point], None]]:
        """Return a context that gives a function to which points are reported, a progress bar."""
        return steps_bar(self.descent.stopping.max_steps)

    def written(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what a checkpoint holds besides the descent: a header, and arrays."""
        return {}, {}

    # -- the end ------------------------------------------------------------------------------------------------------

    def run(self, skip_final_pass: bool) -> Run:
        """Return the record of the descent so far. skip_final_pass: don't go over all the data of a stochastic one."""
        batches = self.descent.batches
        epochs = None if batches is None else Epochs.of(batches.rows)
        return self.descent.run(*self._ends(skip_final_pass), epochs, skip_final_pass)

    def _ends(self, skip_final_pass: bool) -> tuple[Point, Point]:
        """Return the last and the best point, as a run gives them. skip_final_pass: don't go over all the data."""
        descent, batches = self.descent, self.descent.batches
        point, best = self._verified(descent.point), descent.best
        is_last = best is descent.point or (are_equal(best.x, point.x) and (batches is None or best.t == point.t))
        best = point if is_last else self._verified(best)
        if batches is not None and not skip_final_pass:
            point, best = self._whole(batches, point), self._whole(batches, best)
            if best.t:
                start = self._whole(batches, replace(descent.stopping.start, is_sample=True))
                best = start if start.fun < best.fun else best
        return point, (point if point.fun < best.fun else best)

    def _whole(self, batches: BatchIterator, point: Point) -> Point:
        """Return a mini-batch's point with f and the gradient over all the data, if they are finite."""
        if not point.is_sample:
            return point
        whole = self.descent.objective.mean(point.t, point.x, batches)
        return whole if whole.is_finite else point

    def _verified(self, point: Point) -> Point:
        """Return ``point`` with f from the user's own function: a program may differ from it in the last digits.

        If what f reads from outside has changed since (a penalty that grows, say), the point is evaluated again.
        Raises GradientError if f and its program still differ: what ran was then not the user's function.
        """
        objective = self.descent.objective
        if objective.executor == "python" or self.descent.batches is not None:
            return point
        fun = float(objective.value(point.x))
        if fun == point.fun:
            return point
        if not objective.agrees(fun, point):
            again = objective.evaluate(point.t, point.x)
            if again.is_finite and objective.agrees(fun, again):
                return replace(again, fun=fun, projected=point.projected)
            x = shown(self.descent.layout.view(point.x))
            raise GradientError(
                f"f({x}) = {fun!r}, but its traced program gave {point.fun!r}: f has a hidden state or is random; "
                "make it a function of its arguments alone, or give grad='adaptive'"
            )
        return replace(point, fun=fun)
