"""The one loop: iterate and minimize."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from koubai.derivatives.differences import METHODS, Estimate, difference_gradient
from koubai.derivatives.gradient import Differentiated
from koubai.descent.optimizers import SGD, Optimizer, resolve
from koubai.descent.record import Recorder, Run, Status, Step
from koubai.descent.stopping import Point, Stopping, Verdict, shown
from koubai.errors import (
    FallbackWarning,
    FunctionError,
    GradientError,
    InputError,
    Interrupted,
    TraceError,
    UnknownNameError,
)
from koubai.parameters import FloatArray, Layout, Parameters, as_scalar, flatten

__all__ = ["iterate", "minimize"]

DEFAULT = SGD(lr=0.1)

Function = Callable[[Any], Any]
Gradient = str | Callable[[Any], Any]


def minimize(
    f: Function,
    x0: Parameters,
    optimizer: Optimizer | str = DEFAULT,
    *,
    grad: Gradient = "auto",
    max_steps: int = 10_000,
    gtol: float = 1e-6,
    ftol: float | None = None,
    xtol: float | None = None,
    target: float | None = None,
    bounds: Any = None,
    seed: int | None = 0,
    on_step: Callable[[Step], Any] | None = None,
    record: Literal["auto", "all", "off"] = "auto",
    progress: bool = False,
) -> Run:
    """Minimize: descend from x0 along the gradient of f, and say why it stopped.

        x = x - lr * g,   g = ∇f(x)        (SGD; other optimizers: their own rule)

    f: maps x, in the form of x0, to one number. x0: a number, an array of any shape, or a dict of arrays; integers
    become float64, and nothing that is passed in is changed. optimizer: an object or its name.
    grad: "auto" backpropagates, and where f can't be traced takes adaptive differences after one FallbackWarning;
    "backprop" raises TraceError instead; "forward", "backward", "central", "complex" and "adaptive" are differences; or
    your own function of x, which may return an array in the form of x or an Estimate.
    Stops when the largest |gradient component| ≤ gtol (0 turns it off); f ≤ target; ftol or xtol hold (see
    `koubai.descent.stopping`); f or x diverges; f or the gradient is not finite; x no longer changes; the gradient is
    lost in its own rounding error; or max_steps updates were made. Only a met tolerance or target is a success.
    bounds: one (low, high) pair, or a pair an element; None in a pair is no bound. x is projected onto them.
    on_step: called with each Step; returning True stops the run. record: "auto" thins long histories, "all", "off".
    progress: a progress bar on stderr.

    Raises InputError for an argument that can't be used, FunctionError where f gives no finite number at x0, and
    Interrupted (a KeyboardInterrupt that carries the run so far) on Ctrl-C. An exception raised by f or grad passes
    through, with the step and x as a note.
    """
    if on_step is not None and not callable(on_step):
        raise InputError(f"on_step must be a function of a Step or None, got {on_step!r}")
    descent = _Descent.prepare(
        f, x0, optimizer, grad, bounds, seed, record,
        max_steps=max_steps, gtol=gtol, ftol=ftol, xtol=xtol, target=target,
    )  # fmt: skip
    try:
        with _progress_bar(progress, max_steps) as report:
            for point, lr in descent.points():
                report(point)
                if on_step is not None and on_step(descent.step(point, lr)) is True:
                    descent.verdict = Verdict(Status.stopped, f"on_step returned True at step {point.t}")
                    break
    except KeyboardInterrupt:
        if not descent.recorder.rows:
            raise
        descent.verdict = Verdict(Status.stopped, f"interrupted after step {descent.point.t}")
        raise Interrupted(descent.run()) from None
    return descent.run()


def iterate(
    f: Function, x0: Parameters, optimizer: Optimizer | str = DEFAULT, **options: Any
) -> Generator[Step, None, Run]:
    """Iterate: the same descent as `minimize`, one Step(t, x, f, g, lr) at a time. Leave the loop to stop.

    Takes the options of `minimize` but for on_step and progress. The first Step is the start; x and g are copies.
    The generator's return value is the Run. Raises as `minimize` does; wrong arguments are reported at once, not at the
    first step.
    """
    known = ("grad", "bounds", "seed", "record", "max_steps", "gtol", "ftol", "xtol", "target")
    for name in options:
        if name not in known:
            raise UnknownNameError("option of iterate", name, known)
    shared = {"grad": "auto", "bounds": None, "seed": 0, "record": "auto", "max_steps": 10_000} | options
    descent = _Descent.prepare(
        f, x0, optimizer, shared.pop("grad"), shared.pop("bounds"), shared.pop("seed"), shared.pop("record"), **shared
    )

    def steps() -> Generator[Step, None, Run]:
        for point, lr in descent.points():
            yield descent.step(point, lr)
        return descent.run()

    return steps()


# -- what is descended on ---------------------------------------------------------------------------------------------


@dataclass
class _Objective:
    """f and its gradient over flat vectors, with every evaluation counted."""

    f: Function
    grad: Gradient
    layout: Layout
    nfev: int = 0
    njev: int = 0
    executor: str = "python"
    program: Differentiated | None = field(default=None, init=False)  # value and gradient by backpropagation

    def __post_init__(self) -> None:
        if self.grad in ("auto", "backprop"):
            self.program = Differentiated(self.f, 0, "backprop")

    @property
    def source(self) -> str:
        if callable(self.grad):
            return "user"
        return "backprop" if self.program is not None else f"{self._method} differences"

    @property
    def _method(self) -> str:
        return "adaptive" if self.grad == "auto" else str(self.grad)

    def value(self, x: FloatArray) -> np.floating[Any]:
        """Return f at ``x``, from the user's function itself."""
        self.nfev += 1
        return as_scalar(self.f(self.layout.copy(x)))

    def evaluate(self, t: int, x: FloatArray, bounds: _Bounds | None) -> Point:
        """Return f and the gradient at ``x``. The user's functions get copies; their exceptions get a note."""
        error, stuck = 0.0, np.zeros(0, dtype=bool)
        with np.errstate(all="ignore"):  # the stopping rules look for what is not finite; warnings would only repeat it
            try:
                backprop = self._backprop(t, x)
                if backprop is not None:
                    fun, g = backprop
                elif not np.isfinite(fun := self.value(x)):  # differences around such a point are wasted
                    g = np.full_like(x, np.nan)
                elif callable(self.grad):
                    g, error, stuck = self._own_gradient(x)
                else:
                    method = self._method
                    difference, rounding, stuck, used = difference_gradient(self.f, self.layout, x, method, fun=fun)
                    g, error, self.nfev = difference.astype(x.dtype), float(rounding.max()), self.nfev + used
            except Exception as problem:
                problem.add_note(f"koubai: at step {t}, x = {shown(self.layout.view(x))}")
                raise
        free = g if bounds is None else bounds.free(x, g)
        return Point(t, x, float(fun), g, float(np.abs(free).max()), error, tuple(np.flatnonzero(stuck)))

    def _backprop(self, t: int, x: FloatArray) -> tuple[np.floating[Any], FloatArray] | None:
        """Return f and its gradient from the traced program, or None where differences have to do."""
        if self.program is None:
            return None
        if t == 0 and not np.isfinite(self.value(x)):  # tracing can't be checked where f has no value
            return np.float64(np.nan), np.full_like(x, np.nan)
        before = self.program.nfev
        try:
            fun, g = self.program(self.layout.copy(x))
        except (TraceError, GradientError) as error:
            self.nfev += self.program.nfev - before
            if self.grad == "backprop":
                raise
            self.program, self.executor = None, "python"
            warnings.warn(f"{error}. Adaptive differences take the place of backpropagation.", FallbackWarning, 5)
            return None
        self.nfev += 1 + self.program.nfev - before
        self.njev += 1
        self.executor = self.program.executor
        return fun, self.layout.match(g, "the gradient")

    def _own_gradient(self, x: FloatArray) -> tuple[FloatArray, float, np.ndarray[Any, np.dtype[np.bool_]]]:
        assert callable(self.grad)
        value = self.grad(self.layout.copy(x))
        self.njev += 1
        if not isinstance(value, Estimate):
            return self.layout.match(value, "the gradient that grad returned"), 0.0, np.zeros(0, dtype=bool)
        self.nfev += value.nfev
        step = self.layout.match(value.h, "Estimate.h").astype(np.float64)
        stuck = (x + step == x) & (x - step == x)
        error = self.layout.match(value.error, "Estimate.error")
        finite = error[np.isfinite(error)]
        return self.layout.match(value.value, "Estimate.value"), float(finite.max(initial=0.0)), stuck


@dataclass(frozen=True)
class _Bounds:
    low: FloatArray
    high: FloatArray

    @classmethod
    def read(cls, bounds: Any, layout: Layout, x: FloatArray) -> _Bounds | None:
        """Return the flat bounds. Raises InputError where they are crossed, misshapen or exclude the start."""
        if bounds is None:
            return None
        if isinstance(bounds, Mapping) and layout.names is not None:
            unknown = set(bounds) - set(layout.names)
            if unknown:
                raise UnknownNameError("name in bounds", sorted(unknown)[0], layout.names)
            pairs = [bounds.get(name, (None, None)) for name in layout.names]
        else:
            pairs = [bounds] * len(layout.shapes)
        ends = [_ends(pair, shape) for pair, shape in zip(pairs, layout.shapes, strict=True)]
        low, high = (np.concatenate([end[side] for end in ends]).astype(x.dtype) for side in (0, 1))
        for i in range(x.size):
            if not low[i] < high[i]:
                raise InputError(f"bounds are crossed at {layout.label(i)}: low {low[i]} must be below high {high[i]}")
            if not low[i] <= x[i] <= high[i]:
                raise InputError(
                    f"x0 lies outside its bounds: {layout.label(i)} = {x[i]}, bounds ({low[i]}, {high[i]}); "
                    "move the start or the bounds"
                )
        return cls(low, high)

    def project(self, x: FloatArray) -> FloatArray:
        # An overflowed x stays as it is: projected, it would look like an ordinary point on the bound.
        return np.where(np.isfinite(x), np.clip(x, self.low, self.high), x)

    def free(self, x: FloatArray, g: FloatArray) -> FloatArray:
        """Return the gradient with the components that push x out of its bounds set to zero."""
        pushed = ((x <= self.low) & (g > 0)) | ((x >= self.high) & (g < 0))
        return np.where(pushed, 0.0, g)


def _ends(pair: Any, shape: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
    """Return low and high, flat, for one array of ``shape`` from one pair or a pair an element."""
    try:
        array = np.array(pair, dtype=object)
        array = np.where(array == None, np.nan, array).astype(np.float64)  # noqa: E711 - elementwise
    except (TypeError, ValueError):
        raise InputError(f"bounds must be a (low, high) pair or one pair an element, got {pair!r}") from None
    if array.shape not in ((2,), (*shape, 2)):
        raise InputError(f"bounds have shape {array.shape}; for x of shape {shape} give (2,) or {(*shape, 2)}")
    array = np.broadcast_to(array, (*shape, 2))
    if np.isnan([v for v in np.ravel(np.array(pair, dtype=object)) if v is not None]).any():
        raise InputError(f"bounds must not be NaN, got {pair!r}; use None for no bound")
    low, high = array[..., 0].ravel(), array[..., 1].ravel()
    return np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)


# -- the descent ------------------------------------------------------------------------------------------------------


@dataclass
class _Descent:
    """One descent while it runs."""

    objective: _Objective
    layout: Layout
    start: FloatArray
    optimizer: Optimizer
    stopping: Stopping
    recorder: Recorder
    bounds: _Bounds | None
    seed: int | None
    point: Point = field(init=False)  # the last good point
    best: Point = field(init=False)
    verdict: Verdict = field(default=Verdict(Status.stopped, "the caller left the loop"), init=False)

    @classmethod
    def prepare(
        cls,
        f: Function,
        x0: Parameters,
        optimizer: Optimizer | str,
        grad: Gradient,
        bounds: Any,
        seed: int | None,
        record: Literal["auto", "all", "off"],
        **stopping: Any,
    ) -> _Descent:
        """Check every argument before the first evaluation."""
        if not callable(f):
            raise InputError(f"f must be a function of x, got {f!r}; for text use koubai.parse({f!r})")
        known = ("auto", "backprop", *METHODS)
        if not callable(grad) and grad not in known:
            raise UnknownNameError("gradient method", grad, known)
        layout, start = flatten(x0)
        chosen = resolve(optimizer)
        return cls(
            _Objective(f, grad, layout),
            layout,
            start,
            chosen,
            Stopping(layout, chosen, **stopping),
            Recorder(layout, record),
            _Bounds.read(bounds, layout, start),
            seed,
        )

    def points(self) -> Iterator[tuple[Point, float]]:
        """Yield every good point with the rate of the update that follows; set ``verdict`` at the end.

        A parameter is never updated with a gradient that is not finite, and a point where f or the gradient is not
        finite is never kept.
        """
        state, memory = self.optimizer.init(self.start, self.layout), None
        lr = self.optimizer.lr_at(0)
        point = self._first()
        while True:
            verdict = self.stopping.check(point, lr)
            memory = self.optimizer.observe(memory, point.t, point.fun)
            lr = self.optimizer.rate(point.t, memory)
            self.recorder.add(point.t, point.x, point.fun, point.grad_norm, lr)
            self.point = point
            if point.fun < self.best.fun:
                self.best = point
            if verdict is not None:
                advice = None if verdict.status.success else self.optimizer.advice(state, point.t)
                self.verdict = Verdict(verdict.status, f"{verdict.message}; {advice}") if advice else verdict
                yield point, lr
                return
            yield point, lr
            trials: list[Point] = []  # the points that a line search evaluates on its way
            with np.errstate(all="ignore"):
                x, state = self.optimizer.step(
                    point.x, point.g, state, point.t + 1, lr,
                    fun=point.fun, evaluate=partial(self._trial, trials, point.t + 1), layout=self.layout,
                )  # fmt: skip
            if self.bounds is not None:
                x = self.bounds.project(x)
            if (after := next((trial for trial in trials if np.array_equal(trial.x, x)), None)) is None:
                after = self._evaluate(point.t + 1, x)
            if not after.is_finite:
                self.verdict = self.stopping.nonfinite(after, lr)
                return
            point = after

    def _evaluate(self, t: int, x: FloatArray) -> Point:
        """Evaluate f and the gradient at ``x``, unless x itself is not finite."""
        if np.isfinite(x).all():
            return self.objective.evaluate(t, x, self.bounds)
        return Point(t, x, np.nan, np.full_like(x, np.nan), np.nan)

    def _trial(self, trials: list[Point], t: int, x: FloatArray) -> tuple[float, FloatArray]:
        """Evaluate a point for a line search. It may be the best one even if the search goes on to another."""
        trial = self._evaluate(t, x if self.bounds is None else self.bounds.project(x))
        trials.append(trial)
        if trial.is_finite and trial.fun < self.best.fun:
            self.best = trial
        return trial.fun, trial.g

    def _first(self) -> Point:
        """Evaluate the start, which must be finite: there is no earlier point to fall back on."""
        point = self.best = self.objective.evaluate(0, self.start, self.bounds)
        if not point.is_finite:
            what = f"f(x0) = {point.fun}" if not np.isfinite(point.fun) else f"the gradient at x0 is {shown(point.g)}"
            raise FunctionError(f"{what} at x0 = {shown(self.layout.view(self.start))}; start where f is finite")
        return point

    def _verified(self, point: Point) -> Point:
        """Return ``point`` with f from the user's own function: a program may differ from it in the last digits.

        Raises GradientError where they differ by more: what ran was then not the user's function.
        """
        if self.objective.executor == "python":
            return point
        with np.errstate(all="ignore"):
            fun = float(self.objective.value(point.x))
        if abs(fun - point.fun) > np.sqrt(np.finfo(self.layout.dtype).eps) * max(abs(fun), abs(point.fun)):
            x = shown(self.layout.view(point.x))
            raise GradientError(
                f"f({x}) = {fun!r}, but its traced program gave {point.fun!r}: f has a hidden state or is random; "
                "make it a function of its arguments alone, or give grad='adaptive'"
            )
        return replace(point, fun=fun)

    def step(self, point: Point, lr: float) -> Step:
        return Step(point.t, self.layout.copy(point.x), point.fun, self.layout.copy(point.g), lr)

    def run(self) -> Run:
        """Return the record of the descent so far."""
        point, best = self._verified(self.point), self._verified(self.best)
        copy = self.layout.copy
        return Run(
            x=copy(point.x),
            fun=point.fun,
            jac=copy(point.g),
            nit=point.t,
            nfev=self.objective.nfev,
            njev=self.objective.njev,
            status=self.verdict.status,
            message=self.verdict.message,
            best_x=copy(best.x),
            best_fun=best.fun,
            history=self.recorder.history(),
            executor=self.objective.executor,
            gradient_source=self.objective.source,
            optimizer=self.optimizer,
            seed=self.seed,
            function=self.objective.f,
        )


@contextmanager
def _progress_bar(shown: bool, max_steps: int) -> Iterator[Callable[[Point], None]]:
    """Give a function that reports a point to a Rich progress bar on stderr, or one that does nothing."""
    if not shown:
        yield lambda point: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[at]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=max_steps, at="")

        def report(point: Point) -> None:
            if point.t % 16 == 0:
                bar.update(task, completed=point.t, at=f"f {point.fun:.6g}  |g| {point.grad_norm:.3g}")

        yield report
