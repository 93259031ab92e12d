"""One descent: its arguments, its present point, and what happens when a stepper has reached another point."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Protocol

import numpy as np

from koubai.descent.batch_iterator import BatchIterator
from koubai.descent.checkpoint import Checkpoint
from koubai.descent.endings import standing_still
from koubai.descent.files import Applied
from koubai.descent.objective import Bounds, Function, Objective
from koubai.descent.optimizers import Optimizer, State
from koubai.descent.record import Call, Epochs, Recorder, Run, Status, Step, filled
from koubai.descent.schedules import Memory
from koubai.descent.stopping import Point, Stopping, Verdict
from koubai.errors import quiet
from koubai.messages import worded
from koubai.parameters import FloatArray, Layout

__all__ = ["Descent", "RuleStepper", "Stepper"]


class Stepper(Protocol):
    """Makes the steps of a descent."""

    def advance(self, many: bool) -> None:
        """Go on to the next point of the descent. many: or to a later one; only some of the points are wanted."""

    def leave(self) -> None:
        """End the descent."""


class RuleStepper(Stepper, Protocol):
    """The stepper that applies the rule itself, and so can make every step; machine code may take its place.

    KIND: of the checkpoints that are written.
    """

    KIND: ClassVar[str]

    descent: Descent

    def begin(self) -> None:
        """Make the descent arrive at its start."""

    def run(self, skip_final_pass: bool) -> Run:
        """Return the record of the descent so far. skip_final_pass: don't go over all the data of a stochastic one."""

    def bar(self) -> AbstractContextManager[Callable[[Point], None]]:
        """Return a context that gives a function to which points are reported, a progress bar."""

    def written(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what a checkpoint holds besides the descent: a header, and arrays."""


class Descent:
    """A descent: its arguments and its state.

    Every stepper moves it by `reach` or, if it has applied the rules for stopping itself, by setting the point and the
    state after it. ``verdict`` is None while the descent goes on.
    """

    call: Call | None = None  # of a descent that did not begin in the middle
    t_before: int = 0  # updates of an earlier training, which schedules count
    point: Point  # the last good point
    best: Point
    lr: float  # of the update that follows ``point``
    _state: State | Callable[[], State]  # the optimizer's, before that update, or what gives it
    memory: Memory | None = None  # the schedule's
    shows_points: bool = True  # whether the schedule sees f at every point
    verdict: Verdict | None = None
    committed: bool = True  # False while a step is on its way
    ended_nonfinite: bool = False  # the last step led to a point that is not finite
    failed_x: FloatArray | None = None  # that point
    compiled_steps: int = 0  # steps made by a loop of their own, not one by one in Python
    native_steps: int = 0  # of these, in machine code
    reason: str = "every step is looked at"  # why machine code makes steps, or why not

    def __init__(
        self,
        objective: Objective,
        layout: Layout,
        start: FloatArray,
        optimizer: Optimizer,
        stopping: Stopping,
        recorder: Recorder,
        bounds: Bounds | None,
        batches: BatchIterator | None,
        seed: int | None,
        options: dict[str, Any],
        checkpoint: Checkpoint | None,
        optimizer_reason: str = "given",
        may_choose_optimizer: bool = False,
    ) -> None:
        """options: the arguments of minimize, in JSON's types. optimizer_reason: why this optimizer;
        may_choose_optimizer: whether another one may take its place once f is known.
        """
        self.objective, self.layout, self.start, self.optimizer = objective, layout, start, optimizer
        self.stopping, self.recorder, self.bounds, self.batches = stopping, recorder, bounds, batches
        self.seed, self.options, self.checkpoint = seed, options, checkpoint
        self.optimizer_reason, self.may_choose_optimizer = optimizer_reason, may_choose_optimizer

    # -- where it is --------------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """The optimizer's state before the update that follows ``point``."""
        if callable(self._state):
            self._state = self._state()
        return self._state

    @state.setter
    def state(self, state: State | Callable[[], State]) -> None:
        self._state = state

    @property
    def state_is_lazy(self) -> bool:
        """Whether the state has not been asked for yet."""
        return callable(self._state)

    def current(self) -> Point:
        """Return the last point, evaluated again if what f reads has changed: a search compares f there with f here."""
        point = self.point
        if self.batches is None and self.optimizer.rule.searches and self.objective.has_changed(point.x):
            again = self.objective.visit(point.t, point.x)
            point = again if again.is_finite else point
        return point

    def rate(self, t: int) -> float:
        """Return the rate of the update that follows step ``t``, with the schedule's memory as it is now."""
        return self.optimizer.rate(self.t_before + t, self.memory or ())

    def rates(self, end: int) -> tuple[FloatArray, int]:
        """Return the schedule's rates after the points point.t, …, end, and how many of these can be reached."""
        rates = [self.lr]
        for t in range(self.point.t + 1, end + 1):
            try:
                rates.append(self.rate(t))
            except Exception:  # the schedule's error is raised when the step is reached
                return np.array(rates), t - 1
        return np.array(rates), end

    def step(self) -> Step:
        """Return the last point as `iterate` yields it."""
        point, copy = self.point, self.layout.copy
        return Step(point.t, copy(point.x), point.fun, copy(point.g), self.lr)

    # -- arriving -----------------------------------------------------------------------------------------------------

    def reach(self, after: Point, state: State | Callable[[], State], promise: float | None = None) -> None:
        """Move to the point that a step has led to, if it is a good one, with the state after it.

        promise: by how much the step was to lower f, if that is known without the state.

        A parameter is never updated with a gradient that is not finite, and a point where f or the gradient is not
        finite is never kept.
        """
        if not after.is_finite:
            self.end_nonfinite(self.stopping.nonfinite(after, self.objective.nonfinite_reason), after)
        else:
            self._state = state
            self.arrive(after, promise=promise)

    def end_nonfinite(self, verdict: Verdict, after: Point) -> None:
        """End before ``after``, which is not finite."""
        self.ended_nonfinite, self.failed_x = True, after.x
        self.verdict = verdict

    def arrive(self, point: Point, clipped: bool | None = None, promise: float | None = None) -> None:
        """Record a good point, and find out whether the descent ends there.

        clipped: whether the update that follows clips its gradient, if that is known. promise: as in `reach`.
        """
        with quiet():  # norms near the largest number
            if promise is None and self.optimizer.rule.promises:
                promise = self.optimizer.promise(self.state) if point.t else math.inf
            verdict = self.stopping.check(point, promise)
            if verdict is not None:
                verdict = self._examined(verdict, point)
            if clipped is None:
                clipped = bool(self.optimizer.clips(point.x, point.g, self.layout))
        if callable(lr := self.optimizer.lr):
            if self.shows_points:
                self.memory = self.optimizer.observe(self.memory, point.t, point.fun)
            lr = self.rate(point.t)
        assert not isinstance(lr, str)
        self.lr = lr
        self.recorder.add(point.t, point.x, point.fun, point.grad_norm, self.lr, clipped, point.projected)
        self.point = point
        if point.t == 0 or (self.batches is None and point.fun < self.best.fun):
            self.best = point
        if verdict is not None:
            self._conclude(verdict)

    def run_out(self) -> None:
        """End at ``point``, the last one allowed; a loop has applied all other rules for stopping to it."""
        self._conclude(self.stopping.out_of_steps(self.point))

    def _conclude(self, verdict: Verdict) -> None:
        """End at ``point`` with this verdict, and with what the optimizer has to say of its own state."""
        if verdict.status.success or self.optimizer.rule.advise is None:
            self.verdict = verdict
            return
        if advice := self.optimizer.advice(self.state, self.point.t):
            verdict = Verdict(verdict.status, worded("{found}; {advice}", found=verdict.message, advice=advice))
        self.verdict = verdict

    def _examined(self, verdict: Verdict, point: Point) -> Verdict:
        """Return the verdict of the rules for stopping at ``point``, after checking what they can't see."""
        objective, stopping = self.objective, self.stopping
        if verdict.status is Status.stalled and stopping.stands_still:
            verdict = standing_still(objective, stopping, self.bounds, point)
        if verdict.status.success:
            flat = objective.independent or objective.disagreement
            if verdict.status is Status.converged:
                flat = flat or objective.flat_by_construction(point)
            verdict = Verdict(Status.stalled, flat) if flat else verdict
        if verdict.status is Status.converged and point.t > 0 and self.batches is None:
            verdict = self._above_the_best(point) or verdict
        if verdict.status is Status.converged:
            verdict = stopping.doubted(verdict, point, objective.measured_error(point))
        return verdict

    def _above_the_best(self, point: Point) -> Verdict | None:
        verdict = self.stopping.above_the_best(point, self.best)
        if verdict is None:
            return None
        self.best = self.objective.visit(self.best.t, self.best.x)  # what f reads may have changed since
        return self.stopping.above_the_best(point, self.best)

    # -- the end ------------------------------------------------------------------------------------------------------

    def run(self, point: Point, best: Point, epochs: Epochs | None, skip_final_pass: bool) -> Run:
        """Return the record of the descent so far. point, best: the last and the best one, as the run gives them."""
        verdict = self.verdict or Verdict(Status.stopped, worded("the caller left the loop at step {t}", t=point.t))
        copy = self.layout.copy
        return filled(
            Run,
            x=copy(point.x),
            fun=point.fun,
            jac=copy(point.g),
            nit=point.t,
            nfev=self.objective.nfev,
            njev=self.objective.njev,
            status=verdict.status,
            message=verdict.message,
            best_x=copy(best.x),
            best_fun=best.fun,
            history=self.recorder.history(epochs),
            executor="native" if self.native_steps else self.objective.executor,
            executor_reason=self.reason,
            gradient_source=self.objective.source,
            optimizer=self.optimizer,
            optimizer_reason=self.optimizer_reason,
            seed=self.seed,
            options=self.options,
            function=self._function(),
            covariance_of=None if skip_final_pass else self._covariance(point),
            call=self.call,
            failed_x=None if self.failed_x is None else copy(self.failed_x),
        )

    def _function(self) -> Function:
        """Return f, as a function of x alone unless there are mini-batches."""
        f = self.objective.f
        if self.batches is not None:
            return f
        args, has_gradient = self.objective.batch, self.objective.grad is True
        return Applied(f, args, has_gradient) if args or has_gradient else f

    def _covariance(self, point: Point) -> Callable[[], FloatArray] | None:
        """Return what gives the covariance of the parameters after least squares, None after anything else."""
        if "residuals" not in self.optimizer.rule.uses or self.batches is not None:
            return None
        return self.objective.covariance(point)
