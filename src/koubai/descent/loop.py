"""The one loop: iterate and minimize."""

from __future__ import annotations

import functools
import inspect
import math
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Never

import numpy as np

from koubai.derivatives.differences import METHODS
from koubai.descent.advice import advised
from koubai.descent.checkpoint import LEARNT, Checkpoint, read, taken
from koubai.descent.default import AUTO, choose, named
from koubai.descent.endings import standing_still
from koubai.descent.feed import Feed, weight
from koubai.descent.files import (
    Applied,
    describe_function,
    describe_layout,
    describe_optimizer,
    restore_optimizer,
    version,
)
from koubai.descent.objective import Bounds, Function, Gradient, NoResidualsError, Objective, norm
from koubai.descent.optimizers import LBFGS, Optimizer, Rate, State
from koubai.descent.record import FEW_STEPS, Epochs, Recorder, Run, Status, Step, filled
from koubai.descent.schedules import Memory
from koubai.descent.stopping import Point, Stopping, Verdict, are_equal, shown
from koubai.errors import FunctionError, GradientError, InputError, Interrupted, UnknownNameError, quiet
from koubai.parameters import FloatArray, Layout, Parameters, flatten, is_finite, plain

if TYPE_CHECKING:
    from koubai.descent.program import Engine
    from koubai.descent.searching import Searching

__all__ = ["DEFAULTS", "Descent", "drive", "iterate", "minimize", "resume"]


def minimize(
    f: Function,
    x0: Parameters,
    optimizer: Optimizer | str = AUTO,
    *,
    lr: Rate | None = None,
    args: Any = (),
    grad: Gradient = "auto",
    max_steps: int = 10_000,
    gtol: float | None = None,
    ftol: float | None = None,
    xtol: float | None = None,
    target: float | None = None,
    bounds: Any = None,
    batches: Any = None,
    seed: int | None = 0,
    on_step: Callable[[Step], Any] | None = None,
    record: Literal["auto", "all", "off"] = "auto",
    progress: bool = False,
    checkpoint: Any = None,
    **unknown: Never,
) -> Run:
    """Minimize: descend from x0 along the gradient of f, and say why it stopped.

        x = x - lr * g,   g = ∇f(x)        (with lr alone; optimizers: their own rule)

    Stops when the largest |gradient component| ≤ gtol; f ≤ target; ftol or xtol hold (see `koubai.descent.stopping`); f
    or x diverges; f or the gradient is not finite; x no longer changes; the gradient is lost in its own rounding error;
    or max_steps updates were made. Only a met tolerance or target is a success. What was traced and compiled of a small
    f serves later calls with the same f, as long as nothing that it reads has changed: they are faster for it, and the
    same to the bit.

    Parameters
    ----------
    f : callable
        Maps x, in the form of x0, to one number.
    x0 : number, array, or a dict, list or tuple of arrays, also nested
        The start. Integers become float64, and nothing that is passed in is changed.
    optimizer : Optimizer or str, default "auto"
        An object, its name, or "auto": Levenberg–Marquardt if f's own graph is a sum of squares of up to 100
        parameters, with mini-batches Adam, else L-BFGS. The fixed rule is in `koubai.descent.default`, and
        run.optimizer_reason says why it was.
    lr : float, schedule or callable of the step, optional
        Alone, plain gradient descent at this rate; with a name, that optimizer's rate.
    args : tuple, default ()
        What f, and a grad of your own, take after x, as in SciPy: f(x, *args). Anything but a tuple is one argument.
    grad : str, callable or True, default "auto"
        "auto" backpropagates, and if f can't be traced takes adaptive differences after one FallbackWarning; "backprop"
        raises TraceError instead; "forward", "backward", "central", "complex" and "adaptive" are differences; or your
        own function of x, which may return an array in the form of x or an Estimate; or True: f returns the pair
        (value, gradient), and is called once per point.
    max_steps : int, default 10_000
        The most updates that are made.
    gtol : float, optional
        Absolute; 0 turns it off. None is 1e-6, but for least squares until a step promises no more than the rounding of
        f.
    ftol : float, optional
        Stop when the change of f and the decrease still to be expected are both ≤ ftol * max(1, |f|).
    xtol : float, optional
        Stop when the step and the distance still to be expected are both ≤ xtol * max(1, largest |x|).
    target : float, optional
        Stop when f is this low.
    bounds : pair, list of pairs or `scipy.optimize.Bounds`, optional
        One (low, high) pair for all elements, one per element, or for a dict a dict of these; None in a pair is no
        bound, and equal ones hold an element in place. x is projected onto them; line searches, L-BFGS and conjugate
        gradients go along them. f, differences of it and the check of its gradient included, is never called outside.
    batches : Batches, list or callable, optional
        Mini-batches for stochastic descent: koubai.nn.batches(X, y, size, seed), a list of batches, or a function of
        the epoch (0, 1, …) that gives them. f and grad are then called as f(x, *batch, *args) and return a mean over
        it; every update takes the next batch, an epoch takes each once. ``history.epochs`` sums up the epochs; target
        and gtol are asked at an epoch's end, and success needs them to hold over all the data at x. run.fun, run.jac
        and best_fun are over all the data; best_x is the best of the start, the end, and the end of the epoch with the
        least mean loss.
    seed : int or None, default 0
        Kept with the run.
    on_step : callable, optional
        Called with each Step; returning True stops the run.
    record : {"auto", "all", "off"}, default "auto"
        "auto" thins long histories, "all" keeps every step, "off" the first and the last.
    progress : bool, default False
        A progress bar on stderr.
    checkpoint : path or (path, every), optional
        A file for `resume`, replaced whole every 10 seconds and at the end; every: so many steps (an int) or seconds (a
        float) instead.

    Returns
    -------
    Run
        Where it ended, why, and the path.

    Raises
    ------
    InputError
        For an argument that can't be used.
    FunctionError
        If f gives no finite number at x0.
    Interrupted
        On Ctrl-C: a KeyboardInterrupt that carries the run so far.

    An exception raised by f or grad passes through, with the step and x as a note.

    Examples
    --------
    >>> run = kb.minimize(lambda x: np.sum((x - 3) ** 2), [0.0, 0.0], "adam", lr=0.5)
    >>> run.status, run.x.round(3)
    (<Status.converged: 'the stopping tolerance was met'>, array([3., 3.]))
    >>> print(kb.minimize(lambda x, a: (x - a) ** 2, 0.0, args=(2.0,), bounds=(0, 1)).x)
    1.0
    """
    if unknown:
        raise UnknownNameError.of_argument(minimize, unknown)
    descent = Descent.prepare(
        f, x0, optimizer, lr=lr, args=args, grad=grad, max_steps=max_steps, gtol=gtol, ftol=ftol, xtol=xtol,
        target=target, bounds=bounds, batches=batches, seed=seed, record=record, checkpoint=checkpoint,
    )  # fmt: skip
    return drive(descent, on_step, progress)


def resume(
    path: str | os.PathLike[str],
    f: Function,
    *,
    args: Any = (),
    grad: Function | bool | None = None,
    optimizer: Optimizer | None = None,
    batches: Any = None,
    max_steps: int | None = None,
    on_step: Callable[[Step], Any] | None = None,
    progress: bool = False,
    **unknown: Never,
) -> Run:
    """Resume: go on from the checkpoint that `minimize` wrote, bit for bit as if it had never stopped.

    The file goes on being replaced.

    Parameters
    ----------
    path : str or path
        The checkpoint.
    f : callable
        The function of the checkpoint.
    args : tuple, default ()
        What f takes after x, if there was anything.
    grad : callable or True, optional
        Only if grad was your own, which a file can't hold.
    optimizer : Optimizer, optional
        Only if the optimizer's lr was a function, which a file can't hold.
    batches : Batches, list or callable, optional
        Only if there were any.
    max_steps : int, optional
        A new limit, counted from the very start.
    on_step, progress : callable, bool
        As in `minimize`.

    Returns
    -------
    Run
        The whole run, its first part included.

    Raises
    ------
    InputError
        If the file is no checkpoint of this version of koubai, if f or grad give other numbers at the checkpoint than
        they gave then, and if what is needed is not given.

    Examples
    --------
    >>> import os, tempfile
    >>> f = lambda x: np.sum(x**2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = os.path.join(folder, "descent.npz")
    ...     half = kb.minimize(f, [1.0, 2.0], lr=0.1, max_steps=10, checkpoint=file)
    ...     kb.resume(file, f, max_steps=20).nit
    20
    """
    if unknown:
        raise UnknownNameError.of_argument(resume, unknown)
    return drive(Descent.restore(path, f, args, grad, optimizer, batches, max_steps), on_step, progress)


def drive(descent: Descent, on_step: Callable[[Step], Any] | None, progress: bool) -> Run:
    """Run a descent to its end."""
    if on_step is not None and not callable(on_step):
        raise InputError(f"on_step must be a function of a Step or None, got {on_step!r}")
    ours = on_step is None and not callable(descent.optimizer.lr)  # no function of the user's but f and grad
    with quiet() if ours else nullcontext():
        interrupted = _interrupted(descent, on_step, progress)
    run = descent.run(in_haste=interrupted)
    if interrupted:
        raise Interrupted(run)
    return run


def _interrupted(descent: Descent, on_step: Callable[[Step], Any] | None, progress: bool) -> bool:
    """Make the steps of a descent; return whether Ctrl-C ended it."""
    try:
        with descent.reporting(progress) as report:
            for point, lr in descent.points(in_legs=on_step is None):
                if report is not None:
                    report(point)
                if on_step is not None and on_step(descent.step(point, lr)) is True:
                    descent.verdict = Verdict(Status.stopped, f"on_step returned True at step {point.t}")
                    break
    except KeyboardInterrupt:
        if not descent.recorder.count:
            raise
        descent.verdict = Verdict(Status.stopped, f"interrupted after step {descent.point.t}")
        return True
    finally:
        descent.save(last=True)
    return False


def iterate(
    f: Function, x0: Parameters, optimizer: Optimizer | str = AUTO, **options: Any
) -> Generator[Step, None, Run]:
    """Iterate: the same descent as `minimize`, one Step(t, x, f, g, lr) at a time. Leave the loop to stop.

    Wrong arguments are reported at once, not at the first step.

    Parameters
    ----------
    f, x0, optimizer
        As in `minimize`.
    **options
        Those of `minimize` but for on_step and progress.

    Yields
    ------
    Step
        The start first; x and g are copies.

    Returns
    -------
    Run
        The generator's return value.

    Raises
    ------
    InputError, FunctionError
        As in `minimize`.

    Examples
    --------
    >>> for step in kb.iterate(lambda x: x**2, 1.0, lr=0.25):
    ...     print(step.t, step.x)
    ...     if step.f < 0.1:
    ...         break
    0 1.0
    1 0.5
    2 0.25
    """
    for name in options:
        if name not in DEFAULTS:
            raise UnknownNameError("argument of iterate", name, ("f", "x0", "optimizer", *DEFAULTS))
    descent = Descent.prepare(f, x0, optimizer, **DEFAULTS | options)

    def steps() -> Generator[Step, None, Run]:
        for point, lr in descent.points():
            yield descent.step(point, lr)
        return descent.run()

    return steps()


# -- the descent ------------------------------------------------------------------------------------------------------


DEFAULTS: dict[str, Any] = {
    name: parameter.default
    for name, parameter in inspect.signature(minimize).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY and name not in ("on_step", "progress")
}


_PLAIN = {int, float, type(None)}
_ANY = LBFGS()


@dataclass
class Descent:
    """One descent while it runs."""

    KIND: ClassVar[str] = "checkpoint"

    objective: Objective
    layout: Layout
    start: FloatArray
    optimizer: Optimizer
    stopping: Stopping
    recorder: Recorder
    bounds: Bounds | None
    feed: Feed | None
    seed: int | None
    options: dict[str, Any]  # what minimize was told, in JSON's types
    checkpoint: Checkpoint | None
    why: str = "given"  # this optimizer
    is_open: bool = False  # may another one still take its place, when f is known?
    point: Point = field(init=False)  # the last good point
    best: Point = field(init=False)
    lr: float = field(init=False)  # of the update that follows ``point``
    _state: State | Callable[[], State] = field(init=False)  # the optimizer's, before that update, or what gives it
    memory: Memory | None = field(default=None, init=False)  # the schedule's
    verdict: Verdict | None = field(default=None, init=False)  # None while the descent goes on
    settled: bool = field(default=True, init=False)  # False while a step is on its way
    is_lost: bool = field(default=False, init=False)  # did the last step lead to a point that is not finite?
    aside: tuple[int, int] = field(default=(0, 0), init=False)  # evaluations for advice, of f and the gradient
    looped: int = field(default=0, init=False)  # steps made by a loop of their own, not one by one in Python
    native: int = field(default=0, init=False)  # of these, in machine code
    reason: str = field(default="every step is looked at", init=False)  # why there is an engine, or none

    @classmethod
    def prepare(
        cls,
        f: Function,
        x0: Parameters,
        optimizer: Optimizer | str,
        *,
        lr: Rate | None,
        args: Any,
        grad: Gradient,
        bounds: Any,
        batches: Any,
        seed: int | None,
        record: Literal["auto", "all", "off"],
        checkpoint: Any,
        **stopping: Any,
    ) -> Descent:
        """Check every argument before the first evaluation."""
        if not callable(f):
            raise InputError(f"f must be a function of x, got {f!r}; for text use koubai.parse({f!r})")
        known = ("auto", "backprop", *METHODS)
        if not callable(grad) and grad is not True and not (isinstance(grad, str) and grad in known):
            raise UnknownNameError("gradient method", grad, known)
        args = args if isinstance(args, tuple) else (args,)
        layout, start = flatten(x0)
        chosen, why = named(optimizer, lr, stochastic=batches is not None)
        first = chosen or _ANY  # the one until f is known
        limits = Bounds.read(bounds, layout, start)
        feed = Feed.read(batches, args)
        if feed is not None and chosen is not None and "residuals" in chosen.rule.uses:
            raise InputError(
                f"{type(chosen).__name__} takes all the data at once: leave batches out, or use optimizer='adam'"
            )
        if feed is not None and (stopping["ftol"] is not None or stopping["xtol"] is not None):
            raise InputError("ftol and xtol say nothing of mini-batches, which differ anyway; use gtol or target")
        options = {
            "grad": "user" if callable(grad) or grad is True else grad,
            "bounds": None if limits is None else limits.pairs(),
            "record": record,
            **{name: value if type(value) in _PLAIN else plain(value) for name, value in stopping.items()},
        }
        told = Stopping(layout, first, **stopping, free=None if limits is None else limits.free)
        steps = min(int(told.max_steps), FEW_STEPS) if first.rule.searches else int(told.max_steps)
        return cls(
            Objective(f, grad, layout, limits, args),
            layout,
            start,
            first,
            told,
            Recorder(layout, record, steps=steps),
            limits,
            feed,
            plain(seed),
            options,
            Checkpoint.of(checkpoint),
            why,
            chosen is None,
        )

    def points(self, in_legs: bool = False) -> Iterator[tuple[Point, float]]:
        """Yield every good point with the rate of the update that follows; set ``verdict`` at the end.

        in_legs: only some of the points are wanted, so that machine code may make many steps at a time.

        A parameter is never updated with a gradient that is not finite, and a point where f or the gradient is not
        finite is never kept.
        """
        if not self.recorder.count:
            first = self._first() if self.is_open else None
            if first is not None:
                self.optimizer, self.why = choose(self.objective, first)
                self.stopping.optimizer, self.is_open = self.optimizer, False
            self.state = self._begun if self.optimizer.rule.searches else self._begun()
            self.lr = self.optimizer.lr_at(0)
            self._arrive(first or self._first())
            yield self.point, self.lr
        searching = None if self.verdict is not None else self._searching()
        engine = self._engine() if in_legs and self.verdict is None and searching is None else None
        try:
            while self.verdict is None:
                if self.checkpoint is not None and self.checkpoint.is_due():
                    self.save()
                if engine is not None and engine.advance():
                    yield self.point, self.lr
                    continue
                self.settled = False
                try:
                    if searching is not None and self.objective.program is not None:
                        searching.advance(in_legs)
                    else:
                        self.reach(*self._next())
                except NoResidualsError as problem:
                    self._go_on_without(problem)
                    if searching is not None:
                        searching.leave()
                    searching = self._searching()
                    continue
                if self.is_lost:
                    return
                self.settled = True
                yield self.point, self.lr
        finally:
            for maker in (searching, engine):
                if maker is not None:
                    maker.leave()

    @property
    def state(self) -> State:
        """The optimizer's state before the update that follows ``point``."""
        if callable(self._state):
            self._state = self._state()
        return self._state

    @state.setter
    def state(self, state: State | Callable[[], State]) -> None:
        self._state = state

    def _go_on_without(self, problem: NoResidualsError) -> None:
        """Go on from a point where f has no residuals for least squares, which its start had, on another path of f.

        Raises the problem where the optimizer is not koubai's own choice, and no step was made.
        """
        t = self.point.t
        if self.why == "given":
            if not t:
                raise problem
            self.verdict = Verdict(Status.stalled, f"f takes another path after step {t}: {problem}")
            return
        self.why = f"{self.why}; L-BFGS from step {t} on, where f takes another path: {problem.reason}"
        self.optimizer = self.stopping.optimizer = LBFGS()
        self.state = self.optimizer.init(self.point.x, self.layout)
        self.lr = self.optimizer.lr_at(t)

    def _begun(self) -> State:
        return self.optimizer.init(self.start, self.layout)

    @property
    def state_is_elsewhere(self) -> bool:
        """Has nobody asked for the state yet?"""
        return callable(self._state)

    def _searching(self) -> Searching | None:
        if not self.optimizer.rule.searches:
            return None
        found = _loops().of(self)
        if found is not None:
            self.reason = f"{type(self.optimizer).__name__} evaluates f itself, in a loop of its own"
        return found

    def reach(self, after: Point, state: State | Callable[[], State]) -> None:
        """Take the point that a step has led to, if it is a good one, with the state after it."""
        self.is_lost = not after.is_finite
        if self.is_lost:
            self.verdict = self._advised(self._nonfinite(after), after)
        else:
            self.state = state
            self._arrive(after)

    def rates(self, end: int) -> tuple[Any, int]:
        """Return the rates of the updates after point.t, …, end, and how many of these points can be reached."""
        if not callable(self.optimizer.lr):
            return self.lr, end
        rates = [self.lr]
        for t in range(self.point.t + 1, end + 1):
            try:
                rates.append(self.optimizer.rate(t, self.memory or ()))
            except Exception:  # the schedule's fault comes up where it belongs, when the step is reached
                return np.array(rates), t - 1
        return np.array(rates), end

    def _engine(self) -> Engine | None:
        engine, self.reason = _engines().of(self)
        return engine

    def _arrive(self, point: Point) -> None:
        """Take a good point into the record, and find out whether the descent ends there."""
        with quiet():  # norms near the largest number
            promise = None
            if self.optimizer.rule.promises:
                promise = self.optimizer.promise(self.state) if point.t else math.inf
            verdict = self.stopping.check(point, promise)
            if verdict is not None:
                verdict = self._examined(verdict, point)
            clipped = self._clips(point)
        if callable(lr := self.optimizer.lr):
            self.memory = self._observed(point)
            lr = self._rate(point.t)
        self.lr = lr
        self.recorder.add(point.t, point.x, point.fun, point.grad_norm, self.lr, clipped, point.projected)
        self.point = point
        if point.t == 0 or (self.feed is None and point.fun < self.best.fun):
            self.best = point
        if verdict is not None:
            self._conclude(verdict)

    def run_out(self) -> None:
        """End at ``point``, beyond which no step may be made, and of which a loop has asked all other rules."""
        self._conclude(self.stopping.out_of_steps(self.point))

    def _conclude(self, verdict: Verdict) -> None:
        """End at ``point`` with this verdict, and what is to be said of the rate and the optimizer's state."""
        if not verdict.status.success:
            verdict = self._advised(verdict, self.point)
            if advice := self.optimizer.advice(self.state, self.point.t):
                verdict = Verdict(verdict.status, f"{verdict.message}; {advice}")
        self.verdict = verdict

    def _examined(self, verdict: Verdict, point: Point) -> Verdict:
        """Return what the rules for stopping found at ``point``, after a closer look at what they can't see."""
        objective, stopping = self.objective, self.stopping
        if verdict.status is Status.stalled and stopping.stands_still:
            verdict = standing_still(objective, stopping, self.bounds, point)
        if verdict.status.success:
            flat = objective.independent or objective.disagreement
            if verdict.status is Status.converged:
                flat = flat or objective.flat_by_construction(point)
            verdict = Verdict(Status.stalled, flat) if flat else verdict
        if verdict.status is Status.converged and point.t > 0 and self.feed is None:
            verdict = self._above_the_best(point) or verdict
        if verdict.status is Status.converged:
            verdict = stopping.doubted(verdict, point, objective.measured_error(point))
        return verdict

    def _above_the_best(self, point: Point) -> Verdict | None:
        verdict = self.stopping.above_the_best(point, self.best)
        if verdict is None:
            return None
        self.best = self.evaluate(self.best.t, self.best.x)  # what f reads may have changed since
        return self.stopping.above_the_best(point, self.best)

    def _advised(self, verdict: Verdict, end: Point) -> Verdict:
        """Return ``verdict`` with a rate that was tried, where one helps."""
        objective = self.objective
        counts = objective.nfev, objective.njev
        verdict = advised(objective, self.stopping, self.bounds, end, self.state, verdict)
        self.aside = objective.nfev - counts[0], objective.njev - counts[1]
        return verdict

    def _rate(self, t: int) -> float:
        """Return the rate of the update that follows step ``t``, by what the schedule remembers."""
        return self.optimizer.rate(t, self.memory or ())

    def _clips(self, point: Point) -> bool:
        """Tell whether the update that follows clips its gradient."""
        return bool(self.optimizer.clips(point.x, point.g, self.layout))

    def _observed(self, point: Point) -> Memory:
        """Show f to the schedule; return what it remembers then."""
        return self.optimizer.observe(self.memory, point.t, point.fun)

    def _nonfinite(self, after: Point) -> Verdict:
        """Return why the descent can't go on to ``after``, which is not finite."""
        return self.stopping.nonfinite(after, self.objective.told)

    def reporting(self, progress: bool) -> AbstractContextManager[Callable[[Point], None] | None]:
        """Return a context that gives what points are reported to, a progress bar or None."""
        return _progress_bar(self.stopping.max_steps) if progress else nullcontext()

    def current(self) -> Point:
        """Return the last point as f is now: a search compares f there with f here."""
        point = self.point
        if self.feed is None and self.optimizer.rule.searches and self.objective.has_changed(point.x):
            again = self.evaluate(point.t, point.x)
            point = again if again.is_finite else point
        return point

    def make_step(self, point: Point) -> None:
        """Make one update from here by the rule itself, and take the point that it leads to."""
        self.reach(*self._updated(point))

    def _next(self) -> tuple[Point, State]:
        return self._updated(self.current())

    def _updated(self, point: Point) -> tuple[Point, State]:
        """Make one update; return the new point, evaluated, and the optimizer's state after it."""
        trials: list[Point] = []  # the points that a line search evaluates on its way
        with quiet():
            x, state = self.optimizer.step(
                point.x, point.g, self.state, point.t + 1, self.lr,
                fun=point.fun, evaluate=partial(self._trial, trials, point.t + 1), layout=self.layout,
                box=None if self.bounds is None else (self.bounds.low, self.bounds.high),
                residuals=lambda x: self.objective.residuals(point),
            )  # fmt: skip
        projected = False
        if self.bounds is not None:
            inside = self.bounds.project(x)
            projected, x = not np.array_equal(inside, x), inside
        if self.feed is not None:
            after = self._sampled(self.feed, point.t + 1, x)
        else:
            known = (trial for trial in trials if trial.x is x or are_equal(trial.x, x))
            after = next(known, None) or self.evaluate(point.t + 1, x)
        return (replace(after, projected=True) if projected else after), state

    def _sampled(self, feed: Feed, t: int, x: FloatArray) -> Point:
        """Return the point ``x`` by the next mini-batch, or by all the data where the descent has reached its aim."""
        if (batch := feed.draw()) is None:
            ended = feed.close(t, norm(x, feed.sums.gradient, self.bounds))
            if ended.mean < self.best.fun:
                self.best = Point(t, x, ended.mean, ended.gradient, feed.rows[-1][2], is_sample=True)
            if self.stopping.may_end(ended.mean, feed.rows[-1][2]):
                whole = self.objective.mean(t, x, feed)
                if self.stopping.may_end(whole.fun, whole.grad_norm):
                    return whole
            batch = feed.draw() or ()
        self.objective.batch = batch
        point = replace(self.evaluate(t, x), is_sample=True)
        if point.is_finite:
            feed.sums.add(weight(batch), point.fun, point.g)
        return point

    def evaluate(self, t: int, x: FloatArray) -> Point:
        """Evaluate f and the gradient at ``x``, unless x itself is not finite."""
        if is_finite(x):
            return self.objective.evaluate(t, x)
        return Point(t, x, np.nan, np.full_like(x, np.nan), np.nan)

    def _trial(self, trials: list[Point], t: int, x: FloatArray) -> tuple[float, FloatArray]:
        """Evaluate a point for a line search. It may be the best one even if the search goes on to another."""
        trial = self.evaluate(t, x if self.bounds is None else self.bounds.project(x))
        trials.append(trial)
        if self.feed is None and trial.is_finite and trial.fun < self.best.fun:
            self.best = trial
        return trial.fun, trial.g

    def _first(self) -> Point:
        """Evaluate the start, which must be finite: there is no earlier point to fall back on."""
        if self.feed is None:
            point = self.objective.evaluate(0, self.start)
        else:
            self.best = Point(0, self.start, np.inf, np.full_like(self.start, np.nan), np.inf, is_sample=True)
            point = self._sampled(self.feed, 0, self.start)
        if point.is_finite:
            if self.feed is None:
                self.objective.glance(point)
        else:
            what = f"f(x0) = {point.fun}" if not np.isfinite(point.fun) else f"the gradient at x0 is {shown(point.g)}"
            told = f": {self.objective.told}" if self.objective.told else ""
            fix = "start elsewhere" if np.isfinite(point.fun) else "start where f is finite"
            raise FunctionError(f"{what} at x0 = {shown(self.layout.view(self.start))}{told}; {fix}")
        return point

    def _verified(self, point: Point) -> Point:
        """Return ``point`` with f from the user's own function: a program may differ from it in the last digits.

        Where what f reads from outside has changed since (a penalty that grows, say), the point is evaluated again.
        Raises GradientError where f and its program still differ: what ran was then not the user's function.
        """
        if self.objective.executor == "python" or self.feed is not None:
            return point
        fun = float(self.objective.value(point.x))
        if fun == point.fun:
            return point
        if not self.objective.agrees(fun, point):
            again = self.objective.evaluate(point.t, point.x)
            if again.is_finite and self.objective.agrees(fun, again):
                return replace(again, fun=fun, projected=point.projected)
            x = shown(self.layout.view(point.x))
            raise GradientError(
                f"f({x}) = {fun!r}, but its traced program gave {point.fun!r}: f has a hidden state or is random; "
                "make it a function of its arguments alone, or give grad='adaptive'"
            )
        return replace(point, fun=fun)

    def step(self, point: Point, lr: float) -> Step:
        return Step(point.t, self.layout.copy(point.x), point.fun, self.layout.copy(point.g), lr)

    def _whole(self, point: Point) -> Point:
        """Return a mini-batch's point with f and the gradient over all the data, where they are finite."""
        if self.feed is None or not point.is_sample:
            return point
        whole = self.objective.mean(point.t, point.x, self.feed)
        return whole if whole.is_finite else point

    def _ends(self, in_haste: bool) -> tuple[Point, Point]:
        """Return the last and the best point, as `run` gives them."""
        point, best = self._verified(self.point), self.best
        is_last = best is self.point or (are_equal(best.x, point.x) and (self.feed is None or best.t == point.t))
        best = point if is_last else self._verified(best)
        if not in_haste:
            point, best = self._whole(point), self._whole(best)
            if self.feed is not None and best.t:
                start = self._whole(replace(self.stopping.start, is_sample=True))
                best = start if start.fun < best.fun else best
        return point, (point if point.fun < best.fun else best)

    def _epochs(self) -> Epochs | None:
        return None if self.feed is None else Epochs.of(self.feed.rows)

    def run(self, in_haste: bool = False) -> Run:
        """Return the record of the descent so far. in_haste: without another pass over the data of a stochastic one."""
        point, best = self._ends(in_haste)
        verdict = self.verdict or Verdict(Status.stopped, f"the caller left the loop at step {point.t}")
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
            history=self.recorder.history(self._epochs()),
            executor="native" if self.native else self.objective.executor,
            executor_reason=self.reason,
            gradient_source=self.objective.source,
            optimizer=self.optimizer,
            optimizer_reason=self.why,
            seed=self.seed,
            options=self.options,
            function=self._function(),
            covariance_of=None if in_haste else self._covariance(point),
        )

    def _function(self) -> Function:
        """Return f as a function of x alone, where there are no mini-batches."""
        f = self.objective.f
        if self.feed is not None:
            return f
        args, has_gradient = self.objective.batch, self.objective.grad is True
        return Applied(f, args, has_gradient) if args or has_gradient else f

    def _covariance(self, point: Point) -> Callable[[], FloatArray] | None:
        """Return what gives the covariance of the parameters after least squares, None after anything else."""
        if "residuals" not in self.optimizer.rule.uses or self.feed is not None:
            return None
        return self.objective.covariance(point)

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def save(self, last: bool = False) -> None:
        """Write everything that the next update depends on, if a checkpoint was asked for and there is a point yet."""
        if self.checkpoint is None or not self.recorder.count:
            return
        if self.feed is not None and not self.settled:
            return  # a batch was drawn that no step has used yet: what was written last stands
        self.checkpoint.write(self.KIND, self.point.t, self._written, last=last)

    def _written(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return that as a header in JSON's types, and arrays."""
        stopping, recorder, objective = self.stopping, self.recorder, self.objective
        points = {"start": stopping.start, "last": self.point, "best": self.best}
        header = {
            "layout": describe_layout(self.layout),
            "optimizer": describe_optimizer(self.optimizer),
            "optimizer_reason": self.why,
            "function": describe_function(objective.f),
            "options": self.options,
            "seed": self.seed,
            "lr": self.lr,
            "memory": self.memory,
            "states": len(self.state),
            "points": {
                name: [p.t, p.fun, p.grad_norm, p.error, list(map(int, p.stuck)), p.is_sample]
                for name, p in points.items()
            },
            "feed": None if self.feed is None else self.feed.place(),
            "stopping": {name: getattr(stopping, name) for name in LEARNT},
            "stride": recorder.stride,
            "last_row": [recorder.last[0], *recorder.last[2:]] if recorder.last else None,
            "counts": [objective.nfev - self.aside[0], objective.njev - self.aside[1]],
            "aside": self.aside,
            "paid": objective.paid.digests(),
            "differences": objective.program is None and objective.grad == "auto",
            "looped": self.looped > 0,
            "verdict": None if self.verdict is None else [self.verdict.status.name, self.verdict.message],
        }
        arrays = {f"{name}.{part}": getattr(p, part) for name, p in points.items() for part in ("x", "g")}
        arrays |= {f"state.{i}": array for i, array in enumerate(self.state)}
        arrays |= {f"rows.{name}": column for name, column in recorder.arrays().items()}
        if self.bounds is not None:
            arrays |= {"bounds": np.stack([self.bounds.low, self.bounds.high])}
        if self.feed is not None:
            arrays |= {"feed": np.asarray(self.feed.sums.g)}
        return header, arrays

    @classmethod
    def restore(
        cls,
        path: str | os.PathLike[str],
        f: Function,
        args: Any,
        grad: Function | bool | None,
        optimizer: Optimizer | None,
        batches: Any,
        max_steps: int | None,
    ) -> Descent:
        """Return the descent that ``save`` wrote, ready for its next update."""
        archive = read(path, "checkpoint")
        header, arrays = archive.header, archive.arrays
        if archive.koubai != (here := version()):
            raise InputError(f"{str(path)!r} was written by koubai {archive.koubai}; this is {here}, start anew")
        saved = header["optimizer"]
        chosen = restore_optimizer(saved) if optimizer is None else optimizer
        if isinstance(chosen, str):
            raise InputError(f"the lr of {saved} is a function, which a file can't hold: give optimizer={saved}")
        if describe_optimizer(chosen) != saved:
            raise InputError(f"optimizer is {chosen!r}, but the checkpoint was written with {saved}")
        options = header["options"]
        if (options["grad"] == "user") != (grad is not None):
            how = (
                "had a gradient of your own: give grad="
                if grad is None
                else f"used grad={options['grad']!r}: leave grad out"
            )
            raise InputError(f"the descent of {str(path)!r} {how}")
        args = args if isinstance(args, tuple) else (args,)
        feed = Feed.read(batches, args)
        if (feed is None) != (header["feed"] is None):
            how = "had mini-batches: give batches=" if feed is None else "had no mini-batches: leave batches out"
            raise InputError(f"the descent of {str(path)!r} {how}")
        points = taken(archive, chosen)
        if feed is not None:
            feed.go_to(header["feed"], arrays["feed"])
        layout = header["layout"]
        limits = Bounds(*arrays["bounds"]) if "bounds" in arrays else None
        limit = options["max_steps"] if max_steps is None else max_steps
        stopping = Stopping(
            layout, chosen, limit, **{name: options[name] for name in ("gtol", "ftol", "xtol", "target")},
            free=None if limits is None else limits.free,
        )  # fmt: skip
        descent = cls(
            Objective(f, options["grad"] if grad is None else grad, layout, limits, args), layout, points["start"].x,
            chosen, stopping, Recorder(layout, options["record"], steps=limit), limits, feed, header["seed"],
            options | {"max_steps": plain(limit)}, Checkpoint.of(path), header["optimizer_reason"],
        )  # fmt: skip
        if descent.checkpoint is not None:
            descent.checkpoint.kept = points["last"].t
        if header["differences"]:
            descent.objective.program = None
        descent.objective.paid.go_on(header["paid"])
        descent._compare(points["last"], header["looped"])
        descent._take_up(header, arrays, points)
        return descent

    def _take_up(self, header: dict[str, Any], arrays: dict[str, Any], points: dict[str, Point]) -> None:
        """Take over what the descent that was saved had learnt, recorded and decided."""
        for name in LEARNT:
            setattr(self.stopping, name, header["stopping"][name])
        self.stopping.start, self.stopping.last = points["start"], points["last"]
        self.point, self.best, self.lr = points["last"], points["best"], header["lr"]
        self.state = tuple(arrays[f"state.{i}"] for i in range(header["states"]))
        self.memory = None if header["memory"] is None else tuple(header["memory"])
        t, *columns = header["last_row"]
        last = (t, self.point.x, *columns)
        rows = {name.removeprefix("rows."): array for name, array in arrays.items() if name.startswith("rows.")}
        self.recorder.add_rows(rows, last)
        self.recorder.stride = header["stride"]
        self.objective.nfev, self.objective.njev = header["counts"]
        if header["verdict"] is not None:
            status, message = header["verdict"]
            goes_on = status == "stopped" or (status == "max_steps" and self.stopping.max_steps > self.point.t)
            self.verdict = None if goes_on else Verdict(Status[status], message)
            if not goes_on:
                self.aside = tuple(header["aside"])
                self.objective.nfev, self.objective.njev = (
                    a + b for a, b in zip(header["counts"], self.aside, strict=True)
                )

    def _compare(self, last: Point, looped: bool) -> None:
        """Raise InputError unless f and the gradient are, to the bit, what they were for the checkpoint.

        looped: a loop of its own computed them there, which gives f the same numbers but for rounding.
        """
        try:
            if self.feed is None:
                again = self.objective.evaluate(last.t, last.x)
            elif last.is_sample:
                self.objective.batch = self.feed.again()
                again = self.objective.evaluate(last.t, last.x)
            else:
                again = self.objective.mean(last.t, last.x, self.feed)
        except (ValueError, TypeError, IndexError, KeyError) as error:
            x = shown(self.layout.view(last.x))
            raise InputError(f"f does not take the x of the checkpoint, {x}: {error}") from error
        if looped and self.objective.agrees(again.fun, last):
            return
        if again.fun != last.fun or not np.array_equal(again.g, last.g):
            what = f"f(x) = {again.fun!r}, then {last.fun!r}" if again.fun != last.fun else "the gradient differs"
            raise InputError(
                f"f is not the function of the checkpoint, or batches its data: at its last x, now {what}; "
                "start anew with minimize"
            )


@functools.cache
def _engines() -> type[Engine]:
    """Return what makes steps in machine code, which is loaded by the first descent that may need it."""
    from koubai.descent.program import Engine

    return Engine


@functools.cache
def _loops() -> type[Searching]:
    from koubai.descent.searching import Searching

    return Searching


@contextmanager
def _progress_bar(max_steps: int) -> Iterator[Callable[[Point], None]]:
    """Give a function that reports a point to a Rich progress bar on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[at]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=max_steps, at="")

        def report(point: Point) -> None:
            if point.t % 16 == 0:
                bar.update(task, completed=point.t, at=f"f {point.fun:.6g}  |g| {point.grad_norm:.3g}")

        yield report
