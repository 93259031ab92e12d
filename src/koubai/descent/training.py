"""Training: a descent on mini-batches, in epochs; one compiled program makes a whole step."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from contextvars import Context
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, ClassVar, Literal

import numpy as np

from koubai.descent.batch_iterator import BatchIterator, CountedGraphs
from koubai.descent.batches import GatheredEpoch
from koubai.descent.checkpoint import Checkpoint, load_points, read
from koubai.descent.default import found_for_training, with_rate
from koubai.descent.descent import Descent
from koubai.descent.files import describe_optimizer, restore_optimizer, version
from koubai.descent.objective import norm
from koubai.descent.optimizers import AUTO_RATE, FRAMEWORKS, Optimizer
from koubai.descent.progress_bar import epochs_bar
from koubai.descent.record import Epochs, Recorder, Rows, Run, Status
from koubai.descent.saving import restore_state
from koubai.descent.schedules import Memory, Schedule
from koubai.descent.stopping import Point, Stopping, Verdict
from koubai.descent.training_step import SLOTS, BufferSlot, Model, StepPrograms
from koubai.errors import FunctionError, InputError
from koubai.execute.arrays import quiet_context
from koubai.execute.chain import Consecutive
from koubai.messages import Worded, worded
from koubai.parameters import FloatArray, check_whole, plain

__all__ = ["Epoch", "Progress", "Training", "with_rate_before"]

HUGE = 1e30  # a sum of squares below this is one of finite numbers, and far from overflow
NUMBERS = 2**19  # kept of the path; the epochs have their own record
SAMPLED = 32  # one step in this many contributes to the record of the layers' gradients and updates
NO_GRADIENT: FloatArray = np.empty(0)  # of the best point: the gradient there is never needed
ALONE = 2**18  # numbers that a step reads, from which on it alone takes so long that Python's part is nothing
ASKED = 16  # steps between two checks of the rules for stopping, if not every point is wanted


@dataclass(frozen=True)
class Epoch:
    """The result of an epoch of training, as ``on_epoch`` gets it.

    Attributes
    ----------
    number, t : int
        1, 2, …; updates made.
    fun, accuracy : float, float or None
        Mean loss, and the share classified rightly, along the epoch.
    validation_fun, validation_accuracy : float or None
        The same on the data held back.
    lr : float
        Of the last update.
    seconds : float
        Since training began.
    """

    number: int
    t: int
    fun: float
    accuracy: float | None
    validation_fun: float | None
    validation_accuracy: float | None
    lr: float
    seconds: float


@dataclass(frozen=True)
class Progress:
    """How far a training had come when it ended, so that another one can continue it: the updates and epochs made, the
    optimizer with its settings, the state of the rule, the rate, and the memory of its schedule.
    """

    t: int = 0
    epochs: int = 0
    optimizer: Optimizer | None = None
    settings: tuple[Any, ...] = ()
    state: tuple[Any, ...] = ()
    lr: Any = None
    memory: Memory | None = None


def with_rate_before(optimizer: Optimizer | None, before: Progress | None, resume: Any) -> Optimizer | None:
    """Return an optimizer whose lr is "auto" with the rate of the training that is continued, if there is one.

    before: how far it had come; resume: or its checkpoint.
    """
    if optimizer is None or optimizer.lr != AUTO_RATE:
        return optimizer
    lr = None if before is None else before.lr
    if isinstance(resume, str | os.PathLike):
        saved = restore_optimizer(read(resume, Training.KIND).header["optimizer"])
        lr = saved.lr if isinstance(saved, Optimizer) else None
    return optimizer if lr is None else with_rate(optimizer, lr)


def _largest(g: FloatArray) -> float:
    """Return the largest |component|, without memory for |g|."""
    return max(float(np.maximum.reduce(g)), -float(np.minimum.reduce(g)))


@dataclass(slots=True)
class _Sample(Point):
    """A mini-batch's point. x and g are in a buffer slot, which is written to again two steps later."""

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.fun) and math.isfinite(self.grad_norm)


@dataclass
class _Ahead:
    """Steps after step ``t``, which was made from slot ``slot``, that machine code makes by itself.

    rates: from step t on; rows: of the record, which held ``held`` before; out: memory for the steps' results.
    """

    several: Consecutive
    t: int
    slot: int
    weight: float
    rates: FloatArray
    rows: Rows
    held: int
    out: Any


@dataclass(eq=False)
class Training:
    """Makes the steps of a descent on mini-batches, in epochs."""

    KIND: ClassVar[str] = "training"

    descent: Descent
    model: Model
    epochs: int  # the limit
    patience: int | None  # epochs without a better loss
    min_delta: float  # what counts as better
    on_epoch: Callable[[Epoch], Any] | None
    objective: _Objective
    batches: BatchIterator
    slots: list[BufferSlot] = field(init=False)
    programs: StepPrograms = field(init=False)
    update: FloatArray = field(init=False)  # memory
    spare: FloatArray = field(init=False)  # memory for the next best point
    clips: bool = field(default=False, init=False)  # whether gradients are clipped
    shows_progress: bool = field(default=False, init=False)  # whether every point that has a row goes to a progress bar
    recorded_to: int = field(default=-1, init=False)  # the last step whose row `_skips_point` has added
    many: bool = field(default=False, init=False)  # only some of the points are wanted
    last_step: int = field(default=0, init=False)  # the last step whose loss is known,
    last_slot: int = field(default=0, init=False)  # its slot,
    finite: bool = field(default=True, init=False)  # and whether it was finite
    slot_losses: list[float] = field(default_factory=lambda: [math.nan] * SLOTS, init=False)  # the loss in each slot
    slot_index: int = field(default=0, init=False)  # of the present point
    epoch_counts: list[float] = field(default_factory=list, init=False)  # the counts so far in this epoch
    layer_sums: list[Any] = field(default_factory=list, init=False)  # [steps, gradient norms, update ratios]
    rows: list[list[Any]] = field(default_factory=list, init=False)  # of the epochs, besides those of the batches
    best_model_state: FloatArray | None = field(default=None, init=False)
    start_model_state: FloatArray | None = field(default=None, init=False)
    best_loss: float = field(default=math.inf, init=False)  # (validation) loss of the last epoch that counted as better
    epochs_waited: int = field(default=0, init=False)  # epochs since then
    ending: Verdict | None = field(default=None, init=False)  # why this epoch is the last
    quiet: Context = field(default_factory=quiet_context, init=False)
    before: Progress = field(default_factory=Progress, init=False)  # what an earlier training had done, if any
    began: float = field(default_factory=time.monotonic, init=False)
    data: tuple[Any, ...] = field(default=(), init=False)  # of the present step
    ahead: _Ahead | None = field(default=None, init=False)  # steps that are being made by machine code alone
    known_rows: tuple[Any, Consecutive | None] = field(default=(None, None), init=False)  # what does so, for which data

    @classmethod
    def of(
        cls,
        model: Model,
        source: Any,
        optimizer: Optimizer | None,
        why: str = "given",
        *,
        epochs: int = 10,
        patience: int | None = None,
        min_delta: float = 0.0,
        gtol: float = 0.0,
        target: float | None = None,
        seed: int | None = 0,
        record: Literal["auto", "all", "off"] = "auto",
        checkpoint: Any = None,
        on_epoch: Callable[[Epoch], Any] | None = None,
    ) -> Training:
        """Check every argument before the first step. source: gives the batches of an epoch, ``source.epoch(k)``."""
        check_whole(epochs, 0, "epochs")
        if patience is not None and (
            isinstance(patience, bool) or not isinstance(patience, int | np.integer) or patience < 1
        ):
            raise InputError(f"patience must be a whole number of epochs ≥ 1 or None, got {patience!r}")
        if isinstance(min_delta, bool) or not isinstance(min_delta, Real) or not 0 <= float(min_delta) < math.inf:
            raise InputError(f"min_delta must be a finite number ≥ 0, got {min_delta!r}")
        if on_epoch is not None and not callable(on_epoch):
            raise InputError(f"on_epoch must be a function of an Epoch or None, got {on_epoch!r}")
        assert optimizer is not None  # with mini-batches there always is one
        if "evaluate" in optimizer.rule.uses:
            raise InputError(
                f"{type(optimizer).__name__} searches along whole gradients, which mini-batches do not give; "
                "use Adam or SGD with momentum, or koubai.minimize on all the data"
            )
        if isinstance(optimizer.lr, str):
            optimizer, why = found_for_training(optimizer, why, model, source, seed, int(epochs))
        options = {
            "epochs": epochs, "batch_size": getattr(source, "size", None), "patience": patience,
            "min_delta": min_delta, "gtol": gtol, "target": target, "record": record,
        }  # fmt: skip
        options = {name: plain(value) for name, value in options.items()}
        layout, objective, batches = model.layout, _Objective(model), BatchIterator(source.epoch)
        descent = Descent(
            objective,
            layout, model.start.copy(), optimizer,
            Stopping(layout, optimizer, 2**62, gtol=gtol, target=target, follows=False),
            Recorder(layout, record, NUMBERS), None, batches, plain(seed), options, Checkpoint.of(checkpoint), why,
        )  # fmt: skip
        descent.shows_points = False
        training = cls(descent, model, int(epochs), options["patience"], float(min_delta), on_epoch, objective, batches)
        training._reset_epoch()
        return training

    def __post_init__(self) -> None:
        descent = self.descent
        self.layout, self.optimizer = descent.layout, descent.optimizer
        self.stopping, self.recorder = descent.stopping, descent.recorder
        self.clips = any(self.optimizer.hyperparameters[name] is not None for name in ("clipvalue", "clipnorm"))

    def continue_from(self, before: Progress) -> None:
        """Continue where an earlier training ended: order, noise, schedule and the rule's state.

        Raises InputError if the optimizer is another one; only its rate may differ.
        """
        if before.settings != _settings(self.optimizer):
            raise InputError(
                f"the training before was made with {before.optimizer}, this one is asked for with {self.optimizer}, "
                "whose state is another one: give the same but for lr, or leave resume=True out"
            )
        self.before, self.descent.t_before, self.batches.before = before, before.t, before.epochs

    def progress(self) -> Progress | None:
        """Return how far the training has come; None if it did not end with an epoch."""
        point, batches = self.descent.point, self.batches
        if self.descent.verdict is None or point.is_sample or batches.index:
            return None
        t, epochs, optimizer = self.before.t + point.t, self.before.epochs + batches.epoch, self.optimizer
        state = tuple(map(np.array, self.descent.state))
        return Progress(t, epochs, optimizer, _settings(optimizer), state, optimizer.lr, self.descent.memory)

    # -- steps --------------------------------------------------------------------------------------------------------

    @property
    def wants_metrics(self) -> bool:
        """Whether the epochs' gradients are recorded."""
        return self.recorder.record != "off"

    def _prepare(self, x: FloatArray, state: Sequence[Any], model_state: FloatArray | None) -> None:
        self.slots, total = BufferSlot.allocate(x, state, model_state, self.wants_metrics or self.stopping.limit > 0)
        self.programs = StepPrograms(self.model, self.optimizer, self.slots, total, self.descent.checkpoint is not None)
        self.programs.counted_graphs = self.objective.counted_graphs
        self.slot_index = 0
        self.update = np.empty_like(x)
        self.spare = np.empty_like(x)

    def begin(self) -> None:
        """Arrive at the start."""
        descent = self.descent
        descent.state = self.optimizer.init(descent.start, self.layout)
        descent.lr = self.optimizer.lr_at(0)
        self._arrive(self._first())

    def leave(self) -> None:
        """End the training."""

    def _first(self) -> Point:
        self.descent.memory = self.optimizer.lr.start() if isinstance(self.optimizer.lr, Schedule) else ()
        if self.before.optimizer is not None:
            self.descent.state = self.before.state
            if self.before.lr == self.optimizer.lr:
                self.descent.memory = self.before.memory
        self._prepare(self.descent.start, self.descent.state, self.model.model_state)
        if self.epochs == 0:
            self.ending = Verdict(Status.max_steps, worded("no epoch was asked for"))
            fun, g = self.model.full_loss_and_gradient(self.descent.start, self.model.model_state)
            return Point(0, self.descent.start, fun, g, norm(self.descent.start, g, None))
        batch = self.batches.draw()
        assert batch is not None
        point = self._sample(0, batch)
        if not point.is_finite:
            raise FunctionError(
                f"{self._what(point)} at the start{self._where(point)}; start with smaller weights, or scale the data"
            )
        return replace(point, x=self.descent.start, g=point.g.copy())  # both are needed until the end

    def advance(self, many: bool) -> None:
        """Make a step, or several of which only the last is wanted."""
        self.many = many and self.descent.checkpoint is None
        point, state = self._next()
        if point.is_finite:
            self.descent.state = state
            self._arrive(point)
        else:
            self.descent.end_nonfinite(self._nonfinite(point), point)

    def _next(self) -> tuple[Point, Any]:
        """Go on to the next slot, which the last step has already written, and make the step from there.

        If only some of the points are wanted, go on until one is: because a row of the history is due, or, every few
        steps, so that the rules for stopping are applied.
        """
        try:
            while self._goes_on():
                self.slot_index = (self.slot_index + 1) % SLOTS
                t, slot = self.last_step + 1, self.slots[self.slot_index]
                batch = self.batches.draw()
                if batch is None:
                    self._end_epoch(t, slot)
                    if self.ending is not None or self.stopping.may_end(*self.batches.rows[-1][1:3]):
                        whole = self._over_all_data(Point(t, slot.x, math.nan, slot.g, math.nan, is_sample=True))
                        if self.ending is not None or self.stopping.may_end(whole.fun, whole.grad_norm):
                            self.last_step = t
                            self._report(t)
                            return whole, slot.state
                    batch = self.batches.draw()
                    assert batch is not None
                if not self._step(t, batch) or not self._skips_point(t):
                    break
            point = self._last_point()
            if not point.is_finite and self.descent.point.t < point.t - 1:
                self._arrive(self._last_point(back=1))
            return point, self.slots[self.slot_index].state
        except BaseException:
            self._catch_up()
            raise

    def _skips_point(self, t: int) -> bool:
        """Return whether the point of step ``t`` is not wanted, after adding its row to the history if one is due."""
        fun, slot = self.slot_losses[self.slot_index], self.slots[self.slot_index]
        if not self.many or t % ASKED == 0 or self.stopping.has_risen(fun):
            return False
        if self.recorder.is_due(t):
            if self.shows_progress:
                return False
            largest = _largest(slot.g)
            clipped = self.clips and self._clips(_Sample(t, slot.x, fun, slot.g, largest, is_sample=True))
            self.recorder.add(t, slot.x, fun, largest, self.descent.rate(t), clipped)
            self.recorded_to = t
        return True

    def _goes_on(self) -> bool:
        """Make the steps that come next by machine code alone, as far as it can and their points are not wanted; return
        whether the last one's isn't either.
        """
        several, t = self._several() if self.many else None, self.last_step
        if several is None:
            return True
        reading = self.batches.reading
        count = min(reading.full, ASKED - t % ASKED)  # the last one's point may be wanted
        if self.wants_metrics:  # of the first step of an epoch, and so on
            count = min(count, SAMPLED - 1 - (self.batches.index - 1) % SAMPLED)
        end, mask, rows = self.recorder.reserve(t, t + count)
        rates = [self.descent.rate(t)]
        with suppress(Exception):  # the schedule's error is raised when the step is reached
            rates += map(self.descent.rate, range(t + 1, end + 1))
        weight, state = self.model.samples(self.data), self.programs.kept_numbers
        first = self.before.t + t + 2  # the number of the update that the first of these steps makes
        numbers: list[Any] = []
        for number, lr in enumerate(rates[1:], first):
            given = several.before(*state, *self.data, weight, np.float64(number), np.float64(lr))
            if given is None:  # a guard fails: the step is another path's
                break
            numbers.append(given)
        if not (count := len(numbers)):
            return True
        out = np.zeros((count, len(several.columns)), np.int64)
        self.ahead = _Ahead(several, t, self.slot_index, weight, np.array(rates), rows, self.recorder.count, out)
        limits = HUGE, self.stopping.start.fun, self.stopping.rise
        slot = (self.slot_index + 1) % SLOTS
        fits = several(t + 1, slot, reading.ahead(count), numbers, limits, out, mask, rows.places)
        wanted = self._settle()
        if not fits:
            raise IndexError("an index is out of range")
        return wanted

    def _several(self) -> Consecutive | None:
        """Return what makes steps like the last one by machine code alone, if anything does."""
        reading, data = self.batches.reading, self.data
        if type(reading) is not GatheredEpoch or not reading.full or self.shows_progress or self.clips:
            return None
        if data is not self.known_rows[0]:
            pairs = reading.batches.pairs(data)
            small = self.layout.size + sum(a.size for a in data) <= ALONE
            several = None if pairs is None or not small else self.programs.consecutive(data, pairs)
            self.known_rows = data, several
        return self.known_rows[1]

    def _settle(self) -> bool:
        """Take over the steps that machine code has made alone; return whether the last one's point is not wanted."""
        ahead = self.ahead
        assert ahead is not None
        several, made = ahead.several, ahead.several.made
        self.batches.skip(ahead.t + made - self.last_step)
        calm, start, rise = True, self.stopping.start.fun, self.stopping.rise
        for square, fun, *counts in several.results(ahead.out[self.last_step - ahead.t : made]):
            self.slot_index = (ahead.slot + self.last_step + 1 - ahead.t) % SLOTS
            fun, square = float(fun), float(square)
            calm = square < HUGE and fun - start <= rise
            self._made(self.last_step + 1, ahead.weight, fun, square, counts)
        end, stride = self.last_step - (not calm), self.recorder.stride
        due = end // stride - ahead.t // stride if self.recorder.record != "off" else 0
        if due and self.recorder.count == ahead.held:
            t = end // stride * stride
            fun, largest = (float(ahead.rows[name][due - 1]) for name in ("fun", "grad_norm"))
            x, lr = self.slots[(ahead.slot + t - ahead.t) % SLOTS].x, float(ahead.rates[t - ahead.t])
            self.recorder.take(ahead.t, ahead.rates, (t, x, fun, largest, lr, False, False))
            self.recorded_to = t
        self.ahead = None
        return self.last_step % ASKED != 0 if calm else self.finite and self._skips_point(self.last_step)

    def _catch_up(self) -> None:
        """Make ``point`` the last good one: an exception came between, and its slot may be written again."""
        if self.ahead is not None:
            self._settle()
        if self.descent.point.t < self.last_step and self.finite:
            self.descent.point = point = self._last_point()
            self.descent.lr = self.descent.rate(point.t)
            if point.t > self.recorded_to:
                self.recorder.add(point.t, point.x, point.fun, point.grad_norm, self.descent.lr, self._clips(point))

    def _sample(self, t: int, batch: tuple[Any, ...]) -> Point:
        self._step(t, batch)
        return self._last_point()

    def _step(self, t: int, batch: tuple[Any, ...]) -> bool:
        """Make update t + 1 from the present slot; return whether loss and gradient are finite there."""
        self.data = self.model.data(batch, self.before.t + t)
        weight = self.model.samples(batch)
        k, number = self.slot_index, self.before.t + t + 1
        if not self._made(t, weight, *self.programs.run(k, self.data, weight, number, self.descent.rate(t))):
            return False
        if self.wants_metrics and self.batches.index % SAMPLED == 1:
            self._add_layer_metrics(self.slots[k], self.slots[(k + 1) % SLOTS])
        return True

    def _made(self, t: int, weight: float, fun: float, square: float, counts: Sequence[Any]) -> bool:
        """Take over what the step from the present slot gave; return whether loss and gradient are finite there."""
        g = self.slots[self.slot_index].g
        self.finite = math.isfinite(fun) and (square < HUGE or bool(np.isfinite(g).all()))
        self.last_step, self.last_slot = t, self.slot_index
        self.slot_losses[self.slot_index] = fun
        if not self.finite:
            return False
        self.batches.sums.add_numbers(weight, fun, square)
        if self.programs.sum is not None:
            self.batches.sums.g = self.programs.sum
        for i, count in enumerate(counts):
            self.epoch_counts[i] += float(count)
        return True

    def _last_point(self, back: int = 0) -> Point:
        """Return the point of the last step, or of one before it."""
        at = (self.last_slot - back) % SLOTS
        slot, t = self.slots[at], self.last_step - back
        self._report(self.last_step + 1)
        return _Sample(t, slot.x, self.slot_losses[at], slot.g, _largest(slot.g), is_sample=True)

    def _report(self, steps: int) -> None:
        """Report how so many steps were made, and how often the loss and its gradient were evaluated."""
        programs, objective = self.programs, self.objective
        differences = programs.differences is not None
        objective.njev = programs.gave_up or 0 if differences else steps
        objective.nfev = programs.nfev + objective.njev
        objective.executor = "python" if differences else "native" if programs.fused else "numpy"
        if differences:
            objective.source = "adaptive differences"
        self.descent.reason = programs.reason

    def _add_layer_metrics(self, slot: BufferSlot, after: BufferSlot) -> None:
        self.layer_sums[0] += 1
        update = np.subtract(after.x, slot.x, out=self.update)
        for k, (_, start, stop) in enumerate(self.model.layers):
            w, g, step = slot.x[start:stop], slot.g[start:stop], update[start:stop]
            self.layer_sums[1][k] += math.sqrt(float(g @ g))
            self.layer_sums[2][k] += math.sqrt(float(step @ step)) / (math.sqrt(float(w @ w)) or 1.0)

    def _arrive(self, point: Point) -> None:
        self.objective.independent = self.programs.independent
        if point.t and point.is_sample:
            verdict = self.quiet.run(self.stopping.check, point, self.descent.lr)
            if verdict is None or point.t <= self.recorded_to:
                self.descent.lr = self.descent.rate(point.t)
                if point.t > self.recorded_to:
                    self.recorder.add(point.t, point.x, point.fun, point.grad_norm, self.descent.lr, self._clips(point))
                self.descent.point, self.descent.verdict = point, verdict or self.ending
                return
        self.descent.arrive(point, self._clips(point))
        if point.t == 0:
            state = self.model.model_state
            self.start_model_state = self.best_model_state = None if state is None else state.copy()
            held_back = self.model.validate(point.x, self.start_model_state)
            fun = point.fun if held_back is None else held_back[0] if math.isfinite(held_back[0]) else math.inf
            self.descent.best = replace(point, x=point.x.copy(), fun=fun, g=NO_GRADIENT)
        if self.descent.verdict is None:
            self.descent.verdict = self.ending

    def _clips(self, point: Point) -> bool:
        hyper = self.optimizer.hyperparameters
        value, limit = hyper["clipvalue"], hyper["clipnorm"]
        if hyper["groups"]:
            return bool(self.optimizer.clips(point.x, point.g, self.layout))
        if value is not None:
            return bool(point.grad_norm > value)
        if limit is None:
            return False
        how = FRAMEWORKS[self.optimizer.semantics]
        parts = self.layout.parts(self.layout.view(point.g)) if how["clip_each_array"] else [point.g]
        return any(math.sqrt(float(np.vdot(part, part))) + how["clip_eps"] > limit for part in parts)

    # -- epochs -------------------------------------------------------------------------------------------------------

    def _reset_epoch(self) -> None:
        layers = len(self.model.layers)
        self.epoch_counts = [0.0] * self.model.counts
        self.layer_sums = [0, [0.0] * layers, [0.0] * layers]

    def _end_epoch(self, t: int, slot: BufferSlot) -> None:
        """Sum up the epoch that ended after ``t`` updates, and find out whether it is the last."""
        total = self.programs.sum
        ended = self.batches.end_epoch(t, math.nan if total is None else _largest(total) / self.batches.sums.weight)
        self.programs.forget()
        number = self.batches.epoch
        accuracy = self.epoch_counts[0] / ended.weight if self.model.counts else None
        lr = self.descent.rate(t - 1)
        held_back = self.model.validate(slot.x, slot.model_state)
        validation_fun, validation_accuracy = held_back if held_back is not None else (None, None)
        steps, *sums = self.layer_sums
        of_layers = ([s / steps for s in part] if steps else None for part in sums)
        self.rows.append([lr, accuracy, validation_fun, validation_accuracy, *of_layers])
        self._reset_epoch()
        fun = ended.mean if validation_fun is None else validation_fun
        self.descent.memory = self.optimizer.observe(self.descent.memory, t, fun)
        if fun < self.best_loss - self.min_delta:
            # the loss along an epoch says nothing about the start, which `_ends` looks at
            is_best = validation_fun is None or fun < self.descent.best.fun
            self.best_loss, self.epochs_waited = fun, 0
        else:
            is_best, self.epochs_waited = False, self.epochs_waited + 1
        if is_best:
            np.copyto(self.spare, slot.x)
            best = Point(t, self.spare, fun, NO_GRADIENT, self.batches.rows[-1][2], is_sample=True)
            self.descent.best, self.spare = best, self.descent.best.x
            self.best_model_state = None if slot.model_state is None else slot.model_state.copy()
        if self.patience is not None and self.epochs_waited >= self.patience:
            which = worded("loss") if validation_fun is None else worded("validation loss")
            told = worded(
                "the {which} has not fallen by more than {delta:g} for {epochs} epochs; the best weights are in best_x",
                which=which,
                delta=self.min_delta,
                epochs=self.epochs_waited,
            )
            self.ending = Verdict(Status.finished, told)
        if number >= self.epochs:
            over = worded("all {epochs} epochs are over: {t} steps", epochs=self.epochs, t=t)
            self.ending = self.ending or Verdict(Status.finished, over)
        if self.on_epoch is not None:
            self.model.load(slot.x, slot.model_state)
            ended_epoch = Epoch(
                number, t, ended.mean, accuracy, validation_fun, validation_accuracy, lr,
                time.monotonic() - self.began,
            )  # fmt: skip
            if self.on_epoch(ended_epoch) is True:
                self.ending = Verdict(
                    Status.stopped, worded("on_epoch returned True after epoch {epoch}", epoch=number)
                )
            slot.x[...] = self.model.after_callback(slot.x)

    def _epochs(self) -> Epochs:
        names = ["lr", "accuracy", "validation_fun", "validation_accuracy"]
        if not self.rows:  # otherwise None says which columns there are not
            names = ["lr", *["accuracy"] * bool(self.model.counts)]
        names += ["layer_grad_norm", "layer_update_ratio"] if self.wants_metrics else []
        layers = tuple(name for name, _, _ in self.model.layers)
        more: dict[str, Any] = {}
        for k, name in enumerate(names):
            column = [row[k] for row in self.rows]
            if None not in column:
                shape = (len(column), len(layers)) if name.startswith("layer_") else (len(column),)
                more[name] = np.array(column, dtype=np.float64).reshape(shape)
        return Epochs.of(self.batches.rows, self.wants_metrics, **more, layers=layers)

    # -- the end ------------------------------------------------------------------------------------------------------

    def _what(self, after: Point) -> Worded:
        if not math.isfinite(after.fun):
            return worded("the loss is {fun}", fun=after.fun)
        i = int(np.flatnonzero(~np.isfinite(after.g))[0])
        what = worded(
            "the loss is {fun:.6g}, but the gradient's component {label} is {g}",
            fun=after.fun,
            label=self.layout.label(i),
            g=after.g[i],
        )
        if not after.is_sample:
            return what
        reason = self.programs.explain_nonfinite(self.slot_index, self.data)
        return worded("{what} ({reason})", what=what, reason=reason)

    def _where(self, after: Point) -> Worded:
        place = worded(" (epoch {epoch}, batch {batch})", epoch=self.batches.epoch + 1, batch=self.batches.index)
        if not after.is_sample:
            return place
        reason = self.model.explain_failure(after.x, self.slots[self.slot_index].model_state, self.data)
        return worded("{what}: {reason}", what=place, reason=reason) if reason else place

    def _nonfinite(self, after: Point) -> Verdict:
        status = Status.nonfinite if np.isfinite(after.x).all() else Status.diverged
        told = worded(
            "{what} at step {t}{where}; the weights are those of step {good}, the last good ones",
            what=self._what(after),
            t=after.t,
            where=self._where(after),
            good=after.t - 1,
        )
        return Verdict(status, told)

    def _model_state_at(self, point: Point) -> FloatArray | None:
        if point is self.descent.best or self.model.model_state is None:
            return self.best_model_state
        return next(slot.model_state for slot in self.slots if slot.x is point.x or np.array_equal(slot.x, point.x))

    def _over_all_data(self, point: Point) -> Point:
        if not point.is_sample:
            return point
        fun, g = self.model.full_loss_and_gradient(point.x, self._model_state_at(point))
        whole = Point(point.t, point.x, fun, g, norm(point.x, g, None), is_sample=False)
        return whole if whole.is_finite else point

    def run(self, skip_final_pass: bool) -> Run:
        """Return the record of the training so far. skip_final_pass: don't go over all the data."""
        return self.descent.run(*self._ends(skip_final_pass), self._epochs(), skip_final_pass)

    def _ends(self, skip_final_pass: bool) -> tuple[Point, Point]:
        """Return the last and the best point.

        The best one is that after the epoch with the least validation loss, which is its fun. If no data are held back,
        it is the best, over all the data, of the start, the end, and the end of the epoch with the least mean loss.
        """
        if skip_final_pass:
            return self.descent.point, self.descent.best
        point = self._over_all_data(self.descent.point)
        if self.model.has_validation:
            return point, self.descent.best
        found = [] if point.is_sample else [(point, self._model_state_at(self.descent.point))]
        seen = {point.t for point, _ in found}
        start = replace(self.stopping.start, x=self.descent.start)
        for known, model_state in ((self.descent.best, self.best_model_state), (start, self.start_model_state)):
            if known.t not in seen:
                seen.add(known.t)
                fun = self.model.full_loss(known.x, model_state, min([math.inf, *(point.fun for point, _ in found)]))
                if math.isfinite(fun):
                    found.append((replace(known, fun=fun, is_sample=False), model_state))
        if found:
            self.descent.best, self.best_model_state = min(found, key=lambda pair: pair[0].fun)
        return point, self.descent.best

    def commit(self, best: bool) -> None:
        """Load the parameters of the last point, or of the best, into the model."""
        if self.recorder.count:
            x = self.descent.best.x if best else self.descent.point.x
            self.model.load(x, self._model_state_at(self.descent.best if best else self.descent.point))

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def written(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what a checkpoint holds besides the descent: a header, and arrays."""
        model_state = self._model_state_at(self.descent.point)
        header: dict[str, Any] = {
            "epochs": [self.rows, self.epochs_waited, self.epoch_counts, self.layer_sums, self.best_loss],
            "carries": model_state is not None,
            "before": [self.before.t, self.before.epochs],
            "evaluations": [self.programs.nfev, self.programs.gave_up],
        }
        arrays: dict[str, Any] = {}
        if model_state is not None:
            best, start = self.best_model_state, self.start_model_state
            arrays = {"carried": model_state, "best.carried": best, "start.carried": start}
        return header, arrays

    def resume_from(self, path: str | os.PathLike[str]) -> None:
        """Go on from where ``path`` was written by the same training. Raises InputError if it was another one."""
        archive = read(path, self.KIND)
        header, arrays = archive.header, archive.arrays
        for name, here, there in (
            ("koubai", version(), archive.koubai),
            ("optimizer", describe_optimizer(self.optimizer), header["optimizer"]),
            ("seed", self.descent.seed, header["seed"]),
            ("set of parameters", self.layout.shapes, header["layout"].shapes),
            *((name, self.descent.options.get(name), header["options"].get(name)) for name in header["options"]),
        ):
            if here != there and name != "epochs":
                raise InputError(f"{str(path)!r} was written with another {name}: {there}, now {here}; start again")
        if self.epochs < (made := header["feed"]["epoch"]):
            raise InputError(f"{str(path)!r} has {made} epochs behind it, and epochs={self.epochs} is fewer; give more")
        points = load_points(archive, self.optimizer)
        with archive.building():
            self._fits(header["epochs"], arrays.get("carried"))
        self.before = Progress(*header["before"])
        self.descent.t_before, self.batches.before = self.before.t, self.before.epochs
        last, model_state = points["last"], arrays.get("carried")
        state = tuple(arrays[f"state.{i}"] for i in range(header["states"]))
        self._prepare(last.x, state, model_state)
        self.descent.memory = None if header["memory"] is None else tuple(header["memory"])
        self.batches.restore(header["feed"], arrays["feed"])
        self.objective.counted_graphs.restore(header["paid"])
        evaluations, self.programs.gave_up = header["evaluations"]
        if last.is_sample:  # the step that was being made is made again
            again = self._sample(last.t, self.batches.redraw())
            if again.fun != last.fun or not np.array_equal(again.g, last.g):
                raise InputError(
                    f"the data or the model are not those of {str(path)!r}: at step {last.t} the loss was "
                    f"{last.fun!r}, now it is {again.fun!r}; start again"
                )
            last = replace(again, x=self.slots[0].x)
            if self.programs.sum is not None:
                self.programs.sum[...] = arrays["feed"]
        self.programs.nfev = evaluations
        self.batches.restore(header["feed"], arrays["feed"])
        start = replace(points["start"])
        goes_on = not last.is_sample and self._continues(path, last, header)
        if goes_on:  # the last row is of all the data; it becomes that of the batch that comes next
            before = -(-last.t // header["stride"])
            arrays |= {name: array[:before] for name, array in arrays.items() if name.startswith("rows.")}
        restore_state(self.descent, header, arrays, points | {"last": last, "start": start})
        self.descent.start = start.x
        self.rows, self.epochs_waited, self.epoch_counts, self.layer_sums, self.best_loss = header["epochs"]
        self.best_model_state, self.start_model_state = arrays.get("best.carried"), arrays.get("start.carried")
        if goes_on:
            self.slot_index, self.last_step = SLOTS - 1, last.t - 1  # that the step from there be made next
            self.descent.verdict = None
        elif not last.is_sample:
            status, message = header["verdict"]
            self.descent.verdict = Verdict(Status[status], message)

    def _fits(self, epochs: Any, model_state: FloatArray | None) -> None:
        """Raise InputError unless a file's record of the epochs and the model's state fit this model."""
        rows, _, counted, sums, _ = epochs
        layers = len(self.model.layers)
        recorded = [part for row in rows for part in row[4:] if part is not None] + sums[1:]
        if len(counted) != self.model.counts or any(len(part) != layers for part in recorded):
            raise InputError(f"its epochs are not those of {layers} layers and {self.model.counts} counts")
        here = self.model.model_state
        if (None if model_state is None else model_state.shape) != (None if here is None else here.shape):
            raise InputError("the model carries another state")

    def _continues(self, path: str | os.PathLike[str], last: Point, header: dict[str, Any]) -> bool:
        """Return whether a training that had ended goes on, because more epochs are asked for."""
        status, waited = header["verdict"][0], header["epochs"][1]
        if (
            self.epochs == self.batches.epoch
            or status not in ("finished", "max_steps", "stopped")
            or waited >= (self.patience or math.inf)
        ):
            return False
        fun, g = self.model.full_loss_and_gradient(last.x, self.slots[0].model_state)
        if fun != last.fun or not np.array_equal(g, last.g):
            raise InputError(
                f"the data or the model are not those of {str(path)!r}: over all the data the loss was {last.fun!r}, "
                f"now it is {fun!r}; start again"
            )
        return True

    # -- progress -----------------------------------------------------------------------------------------------------

    def bar(self) -> AbstractContextManager[Callable[[Point], None]]:
        """Return a context that gives a function to which points are reported, a progress bar."""
        self.shows_progress = True
        return epochs_bar(self.batches, self.epochs, (lambda: self.epoch_counts[0]) if self.model.counts else None)


def _settings(optimizer: Optimizer) -> tuple[Any, ...]:
    """Return what the state of an optimizer depends on."""
    return optimizer.rule.name, optimizer.semantics, dict(optimizer.hyperparameters)


class _Objective:
    """The objective of a training: the part of `Objective` that a `Descent` needs, counts and names."""

    def __init__(self, model: Model) -> None:
        self.f = model.function
        self.grad, self.program, self.source, self.executor = "backprop", True, "backprop", "numpy"
        self.nfev = self.njev = 0
        self.counted_graphs = CountedGraphs()
        self.nonfinite_reason = self.independent = self.disagreement = ""

    def measured_error(self, point: Point) -> float:
        return 0.0  # backpropagation, or adaptive differences, which measure it

    def flat_by_construction(self, x: FloatArray) -> str:
        return ""  # a training has no rule that a first gradient of zeros would meet
