"""Training: the one loop, fed with mini-batches, where one compiled program makes a whole step.

A step is one graph: the forward pass, the loss, the gradient and the update, the rule traced like any function, and
what the epoch's record wants of the gradient, in the same pass over memory as the update. It reads the parameters, the
rule's state and what the model carries (running statistics) in one frame of memory and writes them into the next, so
nothing is allocated, and a step that turns out not to be finite is simply not taken. An update is as fast as memory is:
the rule's state, which only a checkpoint asks for once the step is made, is updated where it lies.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from koubai.derivatives.agreement import cross_check
from koubai.derivatives.differences import INDEPENDENT
from koubai.derivatives.nonfinite import GRADIENT, Settler
from koubai.descent.checkpoint import Checkpoint, read, taken
from koubai.descent.feed import Feed, Paid
from koubai.descent.files import describe_optimizer, version
from koubai.descent.loop import Descent
from koubai.descent.objective import norm
from koubai.descent.optimizers import FRAMEWORKS, Optimizer
from koubai.descent.record import Epochs, Recorder, Status
from koubai.descent.schedules import Memory, Schedule
from koubai.descent.stopping import Point, Stopping, Verdict
from koubai.errors import FunctionError, GradientError, GradientWarning, InputError, TraceError, warn
from koubai.execute import library, regions
from koubai.execute.arrays import compile_bound, quiet_context
from koubai.execute.descents import staggered
from koubai.graph.call import Leaves, Recorded, record_call, replay
from koubai.graph.graph import Graph
from koubai.graph.reverse import Careful, reverse
from koubai.graph.traced import Traced, current_node
from koubai.graph.tracer import Trace
from koubai.parameters import FloatArray, Layout, plain

__all__ = ["Epoch", "Frame", "Model", "Progress", "StepPrograms", "Steps", "Training"]

HUGE = 1e30  # a sum of squares below is one of finite numbers, and no overflow is near
FUSED = 4096  # numbers that a step reads from which on its regions are machine code
PATHS = 16  # kept for one form of batch: where a loss branches, or reads what changes
KEPT = 64  # compiled steps of equal models, for later trainings
PLACES = 3  # for the parameters: the last good point, the present one, and the next
GRADIENTS = 2  # at the last good point and the present one
FRAMES = PLACES * GRADIENTS  # frame k has place k % PLACES and gradient k % GRADIENTS
NUMBERS = 2**19  # kept of the path; the epochs have their own record
CHECKED_AT = (0.0, 0.3, 0.3, 1.0, 1.0)  # how far from the start the gradient is compared with a difference
_LOOKS = ("isnan", "isfinite", "isinf")  # in a loss: its data holds what is not finite, and is to be left out
SAMPLED = 32  # of so many steps of an epoch one tells of the layers' gradients and updates
NO_GRADIENT: FloatArray = np.empty(0)  # of the best point: nobody asks for the gradient there
ASKED = 16  # so often the rules for stopping are asked where not every point is wanted


Differences = Callable[[FloatArray, tuple[Any, ...]], tuple[float, FloatArray, int]]
# (params, data) -> loss, gradient, evaluations of the loss


class Model(Protocol):
    """What can be trained. A network is one, and so is any function of parameters and data."""

    @property
    def layout(self) -> Layout:
        """How the flat parameters are shown."""

    @property
    def start(self) -> FloatArray:
        """The parameters, flat."""

    @property
    def carried(self) -> FloatArray | None:
        """What a step passes on to the next besides the parameters, flat."""

    @property
    def counts(self) -> int:
        """How many numbers `loss` returns besides: the samples classified rightly, if it classifies."""

    @property
    def layers(self) -> Sequence[tuple[str, int, int]]:
        """(name, start, stop) of each part of the flat parameters that is looked at by itself."""

    @property
    def name(self) -> str:
        """The name in messages."""

    @property
    def function(self) -> Any:
        """What the run calls its function."""

    @property
    def shared(self) -> dict[Any, Any] | None:
        """Where the programs of a step are kept for the next training of a model that computes the same; None: nowhere,
        since it depends on what can't be told beforehand."""

    @property
    def judges(self) -> bool:
        """Are there data held back, which `validate` looks at?"""

    @property
    def loss(self) -> Callable[..., Any]:
        """(params, [carried], *data) -> loss, or (loss, [carried after], *counts): traced, and run as it is."""

    def data(self, batch: tuple[Any, ...], t: int) -> tuple[Any, ...]:
        """Return the arrays of one batch, with the noise of step ``t``, as the loss takes them."""

    def samples(self, batch: tuple[Any, ...]) -> float:
        """Return the weight of a batch among the others: its samples, or the sum of their weights."""

    def whole(self, params: FloatArray, carried: FloatArray | None) -> tuple[float, FloatArray]:
        """Return the loss and its gradient over all the data."""

    def by_differences(self, error: Exception) -> Differences | None:
        """Return what takes the place of backpropagation, which can't be done because of ``error``; None: nothing."""

    def mean(self, params: FloatArray, carried: FloatArray | None, least: float) -> float:
        """Return the loss over all the data, or any number from ``least`` on where it is not below that."""

    def validate(self, params: FloatArray, carried: FloatArray | None) -> tuple[float, float | None] | None:
        """Return loss and accuracy on the data held back, if there is any."""

    def take(self, params: FloatArray, carried: FloatArray | None) -> None:
        """Let the model have these parameters, as its own."""

    def given(self, params: FloatArray) -> FloatArray:
        """Return the parameters as the model has them after its user had them in hand; before they were ``params``."""

    def blame(self, params: FloatArray, carried: FloatArray | None, data: tuple[Any, ...]) -> str:
        """Return where the first number that is not finite comes up, as part of a sentence, or nothing."""


@dataclass(frozen=True)
class Epoch:
    """What an epoch of training ended with, as ``on_epoch`` gets it.

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
    """How far a training had come when it ended, for the next one to go on from: updates and epochs made, with what
    optimizer, its settings, the state of the rule, and the rate and what a schedule remembers.
    """

    t: int = 0
    epochs: int = 0
    optimizer: Optimizer | None = None
    settings: tuple[Any, ...] = ()
    state: tuple[Any, ...] = ()
    lr: Any = None
    memory: Memory | None = None


Made = tuple[float, float, Sequence[Any]]  # the loss, g · g and the counts of a step


# -- one step as a program --------------------------------------------------------------------------------------------


@dataclass
class Frame:
    """The memory of one step: the parameters, the gradient there, the rule's state, what the model carries."""

    x: FloatArray
    g: FloatArray
    state: list[Any]  # arrays that stay in place, and numbers
    carried: FloatArray | None

    @classmethod
    def several(
        cls, x: FloatArray, state: Sequence[Any], carried: FloatArray | None, sums: bool
    ) -> tuple[list[Frame], FloatArray | None]:
        """Return the frames, the first with ``x``, the state and what is carried as given, and memory for the sum of
        gradients, if there are to be ``sums``.
        """
        values = [np.asarray(part) for part in state]
        large = [part for part in values if part.ndim]
        place = [x, *large] if carried is None else [x, *large, carried]
        wanted = [*place * PLACES, *[x] * (GRADIENTS + sums)]
        memory = staggered([(part.shape, part.dtype) for part in wanted])
        places, gradients = memory[: PLACES * len(place)], memory[PLACES * len(place) :]
        frames = []
        for k in range(FRAMES):
            at, *rest = places[k % PLACES * len(place) :][: len(place)]
            passed, left = (None if carried is None else rest.pop()), iter(rest)
            parts = [next(left) if part.ndim else part[()] for part in values]
            frames.append(cls(at, gradients[k % GRADIENTS], parts, passed))
        for part, value in zip(places, place, strict=False):  # those of the first frame
            part[...] = value
        frames[0].g.fill(np.nan)
        total = gradients[GRADIENTS] if sums else None
        if total is not None:
            total.fill(0.0)
        return frames, total


class StepPrograms:
    """The compiled steps of a model, one for every form of batch; for a function that branches, one for every path.

    sum: of the gradients of all steps made, each times the weight of its batch; whoever wants less sets it to zero.
    None where nobody wants it: an update with momentum reads and writes seven arrays, and two of these times it is the
    sum. in_place: do the frames share one state, which is updated where it lies? Not if ``keeps_state``, that a frame's
    state be what it was when the step from there has been made; otherwise the first program says (None: not yet).
    nfev: plain evaluations of the loss, for the cross-check of the gradient; source: the newest program as text.
    """

    def __init__(
        self, model: Model, optimizer: Optimizer, frames: Sequence[Frame], total: FloatArray | None, keeps_state: bool
    ) -> None:
        self.model, self.optimizer, self.frames = model, optimizer, frames
        self.in_place = False if keeps_state else None
        self.layout = model.layout
        self.sum = total
        self.arrays = [i for i, part in enumerate(frames[0].state) if np.ndim(part)]
        self.numbers = [i for i, part in enumerate(frames[0].state) if not np.ndim(part)]
        self.nfev = 0
        self.source = ""
        self.fused, self.reason = False, "no step was made"
        self.differences: Differences | None = None
        self.gave_up: int | None = None  # after so many steps by backpropagation differences took over
        self.paid = Paid()
        self._forms: dict[Any, list[_Bound]] = {}
        self._seen: tuple[Any, Any] = (), ()  # the last data and their form
        self._checks = 0  # paths that were compared with the loss
        self.independent = ""  # what is to be said if nothing leads from the parameters to the loss
        self.careful = False  # are zeros kept where derivatives are infinite?

    def run(self, k: int, data: tuple[Any, ...], weight: float, t: int, lr: float) -> Made:
        """Make update ``t`` from frame k into the next one. weight: the batch's. The gradient is then in frame k."""
        if self.differences is not None:
            return self._by_differences(k, data, weight, t, lr)
        if data is not self._seen[0]:  # full batches come in the same memory
            self._seen = data, tuple([(a.shape, a.dtype) for a in data])
        form = self._seen[1]
        if not self._forms:  # machine code takes a few milliseconds a program, and some hundred the first time
            size = self.layout.size + sum(a.size for a in data)
            self.fused = size >= FUSED and library.available()
            self.reason = f"a step reads {size} numbers; from {FUSED} on it is machine code around the matrix products"
            if size >= FUSED and not self.fused:
                self.reason = "llvmlite can't be loaded"
        for bound in self._forms.get(form, ()):
            if bound.same is not None and not bound.same():
                continue
            results = bound.run(self, k, data, weight, t, lr)
            if results is not None:
                return results
        before = self.nfev
        try:
            results = self._new_path(form, k, data, weight, t, lr)
            if self.model.shared is not None:  # it depends on earlier trainings whether there was anything to count
                self.nfev = before
            else:
                recorded = self._forms[form][0].steps.recorded
                self.nfev = before + self.paid.take(recorded.graph, recorded.environment.complete, self.nfev - before)
            return results
        except (TraceError, GradientError) as error:
            self.differences = self.model.by_differences(error)
            if self.differences is None:
                raise
            self.gave_up = t - 1 if self.gave_up is None else self.gave_up
        self.fused, self.reason = False, "the gradient does not come from backpropagation"
        return self._by_differences(k, data, weight, t, lr)

    def _new_path(self, form: Any, k: int, data: tuple[Any, ...], weight: float, t: int, lr: float) -> Made:
        known = self._forms.setdefault(form, [])
        steps = self._kept(form)
        if steps is None:
            recorded = self.recorded(k, data)
            bound = next((b for b in known if b.steps.recorded.graph.equals(recorded.graph)), None)
        else:
            recorded, bound = steps.recorded, None
        if bound is not None:
            bound.renew(recorded)
        else:
            bound = _Bound.of(self, steps or Steps.traced(self, recorded, data), k, data)
            if not self.careful and self._needs_care(bound, k, data, weight, t, lr):
                self.careful, self._forms = True, {form: known}
                known.clear()
                steps = self._kept(form)
                recorded = self.recorded(k, data) if steps is None else steps.recorded
                bound = _Bound.of(self, steps or Steps.traced(self, recorded, data), k, data)
            self.source = bound.source
            branches = bool(recorded.graph.guards) and self._checks < PATHS
            if not self._checks or branches or not recorded.environment.complete:
                self._checks += 1
                if steps is None:
                    self._check(bound, k, data, weight, t, lr)
            if steps is None:
                self._keep(form, bound.steps)
        known[:] = [bound, *(b for b in known if b is not bound)][:PATHS]
        results = bound.run(self, k, data, weight, t, lr)
        if results is None:
            raise TraceError(
                f"{self.model.name} takes another path when it is called again",
                "a function with randomness or hidden state has no gradient; keep its state outside",
            )
        return results

    def _kept(self, form: Any) -> Steps | None:
        """Return what an earlier training of an equal model compiled for this form of batch."""
        shared = self.model.shared
        return None if shared is None else shared.get((form, *self._circumstances()))

    def _keep(self, form: Any, steps: Steps) -> None:
        """Keep what was compiled and checked, unless it depends on more than its inputs."""
        recorded, shared = steps.recorded, self.model.shared
        if shared is None or recorded.graph.guards or not recorded.environment.empty or self.independent:
            return
        while len(shared) >= KEPT:
            del shared[next(iter(shared))]
        steps.recorded = recorded._replace(leaves=recorded.leaves._replace(values=()))  # they are this training's own
        shared[form, *self._circumstances()] = steps

    def _circumstances(self) -> tuple[Any, ...]:
        """Return what a step's programs depend on besides the model and the form of the batch."""
        optimizer = self.optimizer
        own = optimizer.rule.name, type(optimizer), optimizer.semantics, optimizer.settings
        rates = repr(optimizer.lr) if optimizer.hyperparameters.get("groups") else ""  # which they are in proportion to
        return *own, rates, self.sum is not None, self.fused, self.careful, FUSED

    def _needs_care(self, bound: _Bound, k: int, data: tuple[Any, ...], weight: float, t: int, lr: float) -> bool:
        """Tell whether the gradient is to be made with care: f looks for NaN, or its first gradient is not finite."""
        if any(node.op.name in _LOOKS for node in bound.steps.recorded.graph.nodes):
            return True
        if self._checks:
            return False
        with self._unchanged(k):
            results = bound.run(self, k, data, weight, t, lr)
            return results is not None and math.isfinite(results[0]) and not bool(np.isfinite(self.frames[k].g).all())

    @contextmanager
    def _unchanged(self, k: int) -> Iterator[None]:
        """Undo the steps that are made from frame k on trial."""
        frame, total = self.frames[k], None if self.sum is None else self.sum.copy()
        x, state = frame.x.copy(), [np.array(part) if i in self.arrays else part for i, part in enumerate(frame.state)]
        try:
            yield
        finally:
            frame.x[...] = x
            self._put(state, frame.state)
            if self.sum is not None:
                self.sum[...] = total

    def explained(self, k: int, data: tuple[Any, ...]) -> str:
        """Return why the gradient at frame k is not finite, though the loss is."""
        recorded = self.recorded(k, data)
        graph, leaves = recorded.graph, recorded.leaves
        loss = Graph(graph.nodes, graph.inputs, graph.outputs[:1], graph.guards, graph.kinks, graph.name, graph)
        _, told = Settler(loss, leaves.active, GRADIENT)(leaves.values, (), ())
        return told or "it would be finite if what a mask leaves out were finite: mask the argument too"

    def _by_differences(self, k: int, data: tuple[Any, ...], weight: float, t: int, lr: float) -> Made:
        assert self.differences is not None
        frame = self.frames[k]
        loss, frame.g[...], evaluations = self.differences(frame.x, data)
        self.nfev += evaluations
        self.update(k, t, lr, loss)
        with np.errstate(all="ignore"):
            if self.sum is not None:
                self.sum += weight * frame.g
            return loss, float(np.dot(frame.g, frame.g)), ()

    def update(self, k: int, t: int, lr: float, loss: float) -> None:
        """Make update ``t`` from the gradient in frame k by the rule as it is."""
        frame, after = self.frames[k], self.frames[(k + 1) % FRAMES]
        with np.errstate(all="ignore"):
            x, states = self.optimizer.step(frame.x, frame.g, tuple(frame.state), t, lr, fun=loss, layout=self.layout)
        after.x[...] = x
        if self.in_place:  # a part may show what another one is about to be written into
            states = tuple([np.array(part) if i in self.arrays else part for i, part in enumerate(states)])
        self._put(states, after.state)

    def _put(self, states: Sequence[Any], into: list[Any]) -> None:
        for i, part in enumerate(states):
            if i in self.arrays:
                into[i][...] = part
            else:
                into[i] = part

    def forget(self) -> None:
        """Begin the sum of the gradients anew."""
        if self.sum is not None:
            self.sum.fill(0.0)

    def compiled(self, graph: Graph, updates: bool) -> Any:
        """Compile a step's graph: return what binds it to memory."""
        lying = 1 + (self.sum is not None) + len(self.arrays) * updates + (self.frames[0].carried is not None)
        return compile_bound(graph, range(lying), range(lying + updates), regions if self.fused else None)

    def arguments(self, x: FloatArray, carried: Any, data: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return what the loss is called with."""
        return self.layout.view(x), *(() if carried is None else (carried,)), *data

    def recorded(self, k: int, data: tuple[Any, ...]) -> Recorded:
        """Trace the loss at frame k."""
        frame, loss = self.frames[k], self.model.loss
        leaves = Leaves.of(loss, self.arguments(frame.x, frame.carried, data), {}, [0])
        recorded = record_call(loss, leaves, scalar=False)
        self.nfev += 1
        wanted = 1 + (frame.carried is not None) + self.model.counts
        shape = recorded.graph.nodes[recorded.graph.outputs[0]].shape
        if len(recorded.graph.outputs) != wanted or shape != ():
            raise FunctionError(
                f"{self.model.name} must return one number, the mean loss of the batch; it returned "
                + (f"an array of shape {shape}" if shape else f"{len(recorded.graph.outputs)} values")
            )
        if not recorded.environment.complete:
            recorded = recorded._replace(graph=recorded.graph.unguarded())  # it serves at this point alone
        return recorded

    def _check(self, bound: _Bound, k: int, data: tuple[Any, ...], weight: float, t: int, lr: float) -> None:
        """Compare the gradient with a difference of the loss, once. Raises GradientError where they disagree.

        Near the kinks of many units a difference says nothing: then points further away are asked, and a gradient that
        holds at one of them is right, since every point has the same graph.
        """
        frame = self.frames[k]
        x, single = frame.x.copy(), frame.x.dtype == np.float32
        graph = _loss_graph(self, bound.steps.recorded, data)
        rest = (*(() if frame.carried is None else (frame.carried,)), *data)

        def plain(at: FloatArray, *rest: Any) -> float:
            self.nfev += 1
            value = self.model.loss(self.layout.view(at), *rest)
            return float(value[0] if isinstance(value, tuple) else value)

        random = np.random.default_rng(20240229)
        alarm: GradientError | None = None
        with self._unchanged(k):
            for away in CHECKED_AT:
                if away:
                    frame.x[...] = x + away * random.standard_normal(x.size)
                results = bound.run(self, k, data, weight, t, lr)
                if results is None or not math.isfinite(results[0]):
                    continue
                leaves = (frame.x.copy(), *rest)
                try:
                    checked = [frame.g], self.model.name, single, graph
                    if not cross_check(plain, leaves, [0], results[0], *checked):
                        self.independent = INDEPENDENT.format(name=self.model.name)
                        warn(GradientWarning(self.independent))
                    return
                except GradientError as error:
                    alarm = alarm or error
        if alarm is not None:
            raise alarm


@dataclass
class Steps:
    """One traced path for one form of batch, and what is compiled of it, for the memory of any training."""

    recorded: Recorded
    gradient: Graph
    step: Any  # binds the whole step to memory; None: the rule can't be part of the graph
    apart: Any = None  # binds loss and gradient alone, once that was asked for

    @classmethod
    def traced(cls, programs: StepPrograms, recorded: Recorded, data: tuple[Any, ...]) -> Steps:
        careful = Careful() if programs.careful else None
        gradient = reverse(recorded.graph, recorded.leaves.active, auxiliary=True, careful=careful)
        try:
            whole = _step_graph(programs, recorded, gradient, data, updates=True)
        except (TraceError, TypeError, ValueError):  # a rule that looks at numbers runs as it is
            return cls(recorded, gradient, None)
        return cls(recorded, gradient, programs.compiled(whole, True))

    def alone(self, programs: StepPrograms, data: tuple[Any, ...]) -> Any:
        """Return what binds loss and gradient without the update."""
        if self.apart is None:
            graph = _step_graph(programs, self.recorded, self.gradient, data, updates=False)
            self.apart = programs.compiled(graph, False)
        return self.apart


@dataclass
class _Bound:
    """One traced path for one form of batch, bound to the frames."""

    steps: Steps
    fused: list[Callable[..., Any]] | None  # one a frame; None: the rule can't be part of the graph
    apart: list[Callable[..., Any]] | None  # loss and gradient alone
    make_apart: Callable[[], list[Callable[..., Any]]]
    same: Callable[[], bool] | None  # is what the loss reads from outside still the same? None: it reads nothing
    source: str
    copies: list[tuple[Any, Any]] = field(default_factory=list)  # (state, where its program writes it)

    def renew(self, recorded: Recorded) -> None:
        """Take over another tracing that gave an equal graph."""
        self.steps.recorded, self.same = recorded, _same(recorded)

    @classmethod
    def of(cls, programs: StepPrograms, steps: Steps, k: int, data: tuple[Any, ...]) -> _Bound:
        frames, arrays = programs.frames, programs.arrays
        carries, sums = frames[0].carried is not None, [] if programs.sum is None else [programs.sum]
        copies: list[tuple[Any, Any]] = []

        def bound(made: Any, updates: bool) -> tuple[list[Callable[..., Any]], str]:
            bind = made.fresh()
            own = 1 + len(sums)  # x, or g, and the sum
            runs, state = [], frames[k].state
            elsewhere = [j for n, j in enumerate(arrays) if updates and (own + n, own + 1 + n) not in made.replaceable]
            if programs.in_place is None and updates:  # once for all: later programs share the frames with this one
                programs.in_place = bool(arrays) and not elsewhere
                for frame in frames if programs.in_place else ():
                    frame.state = state
            scratch = {j: np.empty_like(state[j]) for j in elsewhere} if programs.in_place else {}
            copies.extend((state[j], written) for j, written in scratch.items())
            for i, frame in enumerate(frames):
                after = frames[(i + 1) % FRAMES]
                memory, results = [frame.x, *sums], [frame.g, *sums]
                if updates:
                    memory += [frame.state[j] for j in arrays]
                    results += [after.x, *(scratch.get(j, after.state[j]) for j in arrays)]
                if carries:
                    memory, results = [*memory, frame.carried], [*results, after.carried]  # type: ignore[list-item]
                runs.append(bind(memory, results))
            return runs, bind.source

        def apart() -> list[Callable[..., Any]]:
            return bound(steps.alone(programs, data), False)[0]

        same = _same(steps.recorded)
        if steps.step is None:
            return cls(steps, None, None, apart, same, "")
        fused, source = bound(steps.step, True)
        return cls(steps, fused, None, apart, same, source, copies)

    def run(
        self, programs: StepPrograms, k: int, data: tuple[Any, ...], weight: float, t: int, lr: float
    ) -> Made | None:
        """Make the update, or return None where the loss takes another path."""
        frames, numbers = programs.frames, programs.numbers
        frame, after = frames[k], frames[(k + 1) % FRAMES]
        if self.fused is not None:
            state = frame.state
            results = self.fused[k](*[state[i] for i in numbers], *data, weight, np.float64(t), np.float64(lr))
            if results is not None:
                for kept, written in self.copies:
                    kept[...] = written
                for i, value in zip(numbers, results, strict=False):
                    after.state[i] = value
                square, loss, *counts = results[len(numbers) :]
                return float(loss), float(square), counts
        if self.apart is None:
            self.apart = self.make_apart()
        results = self.apart[k](*data, weight)
        if results is None:
            return None
        square, loss, *counts = results
        programs.update(k, t, lr, float(loss))
        return float(loss), float(square), counts


def _same(recorded: Recorded) -> Callable[[], bool] | None:
    return None if recorded.environment.empty else recorded.environment.same


def _loss_graph(programs: StepPrograms, recorded: Recorded, data: tuple[Any, ...]) -> Graph:
    """Return the graph of the loss alone: (x, carried, data) -> loss."""
    frame = programs.frames[0]
    tape = Trace(concrete=False, name="loss")
    x = tape.input(frame.x, "x")
    rest = [] if frame.carried is None else [tape.input(frame.carried, "carried")]
    rest += [tape.input(a, f"data{i}") for i, a in enumerate(data)]
    with tape.running():
        loss, *_ = replay(recorded, recorded.graph, [*_parameters(programs, x), *rest])
    return tape.graph([_node(tape, loss)])


def _step_graph(
    programs: StepPrograms, recorded: Recorded, gradient: Graph, data: tuple[Any, ...], updates: bool
) -> Graph:
    """Return the graph of a step.

    (x, sum, state arrays, carried; state numbers, data, weight, t, lr) ->
    (g, sum, x, state arrays, carried; state numbers, g · g, loss, counts), where without updates there is no state, and
    no sum where it is not wanted.
    """
    frame = programs.frames[0]
    tape = Trace(concrete=False, name="step")
    x, sums = tape.input(frame.x, "x"), [] if programs.sum is None else [tape.input(programs.sum, "sum")]
    state: list[Any] = list(frame.state)
    if updates:
        for i in programs.arrays:
            state[i] = tape.input(frame.state[i], f"state{i}")
    carried = None if frame.carried is None else tape.input(frame.carried, "carried")
    if updates:
        for i in programs.numbers:
            state[i] = tape.input(frame.state[i], f"state{i}")
    inputs = [tape.input(a, f"data{i}") for i, a in enumerate(data)]
    weight = tape.input(np.float64(1), "weight")
    with tape.running():
        values = [*_parameters(programs, x), *(() if carried is None else (carried,)), *inputs]
        results = replay(recorded, gradient, values)
        wanted = 1 + (carried is not None) + programs.model.counts
        (loss, *others), parts = results[:wanted], results[wanted:]
        passed_on = [others.pop(0)] if carried is not None else []
        g: Any = np.concatenate([part.reshape(-1) for part in parts])
        square = np.sum(np.square(g.astype(np.float64)))
        if not updates:
            sums = [total + g * weight.astype(g.dtype) for total in sums]
            return tape.graph([_node(tape, value) for value in (g, *sums, *passed_on, square, loss, *others)])
        t, lr = (tape.input(np.float64(1), name) for name in ("t", "lr"))
        rule = _rule_graph(programs)
        after, *states = replay(rule, rule.graph, [x, g, t, lr, loss.astype(np.float64), *state])
        arrays = [states[i] for i in programs.arrays]
        numbers = [states[i] for i in programs.numbers]
        # last: it is added to in place, so no guard may fail after it
        sums = [total + g * weight.astype(g.dtype) for total in sums]
    results = [g, *sums, after, *arrays, *passed_on, *numbers, square, loss, *others]
    return tape.graph([_node(tape, value) for value in results])


def _parameters(programs: StepPrograms, x: Any) -> list[Any]:
    """Return the arrays that the flat parameters are, as the loss was traced with them."""
    return programs.layout.parts(programs.layout.view(x))


def _rule_graph(programs: StepPrograms) -> Recorded:
    """Trace the update: (x, g, t, lr, fun, *state) -> (x, *state)."""
    frame, optimizer, layout = programs.frames[0], programs.optimizer, programs.layout

    def update(x: Any, g: Any, t: Any, lr: Any, fun: Any, *state: Any) -> tuple[Any, ...]:
        # as Python's numbers, t, lr and fun give way to the precision of x
        after, states = optimizer.step(x, g, state, t.item(), lr.item(), fun=fun.item(), layout=layout)
        return (after, *states)

    numbers = (np.float64(2.0), np.float64(1e-3), np.float64(1.0))
    values = (frame.x, np.full_like(frame.x, 1e-3), *numbers, *frame.state)
    return record_call(update, Leaves.of(update, values, {}, [0]), scalar=False)


def _largest(g: FloatArray) -> float:
    """Return the largest |component|, without memory for |g|."""
    return max(float(np.maximum.reduce(g)), -float(np.minimum.reduce(g)))


def _node(tape: Trace, value: Any) -> int:
    return current_node(value) if type(value) is Traced else tape.constant(value)


# -- the descent ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Sample(Point):
    """A mini-batch's point. x and g lie in a frame, which is written on two steps later."""

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.fun) and math.isfinite(self.grad_norm)


@dataclass
class Training(Descent):
    """A descent on mini-batches, by the epoch."""

    KIND: ClassVar[str] = "training"

    model: Model = field(init=False)
    epochs: int = field(init=False)  # the limit
    patience: int | None = field(init=False)  # epochs without a better loss
    min_delta: float = field(init=False)  # what counts as better
    on_epoch: Callable[[Epoch], Any] | None = field(init=False)
    frames: list[Frame] = field(init=False)
    programs: StepPrograms = field(init=False)
    update: FloatArray = field(init=False)  # memory
    spare: FloatArray = field(init=False)  # memory for the next best point
    clips: bool = field(default=False, init=False)  # are gradients clipped?
    watched: bool = field(default=False, init=False)  # does a progress bar want every point that has a row?
    rowed: int = field(default=-1, init=False)  # the last step that got its row in passing
    in_legs: bool = field(default=False, init=False)  # only some of the points are wanted
    made: int = field(default=0, init=False)  # the last step whose loss is known,
    finished: int = field(default=0, init=False)  # its frame,
    finite: bool = field(default=True, init=False)  # and whether it was finite
    funs: list[float] = field(default_factory=lambda: [math.nan] * FRAMES, init=False)  # the loss in each frame
    at: int = field(default=0, init=False)  # the frame of the present point
    counted: list[float] = field(default_factory=list, init=False)  # the counts so far in this epoch
    layer_sums: list[Any] = field(default_factory=list, init=False)  # [steps, gradient norms, update ratios]
    rows: list[list[Any]] = field(default_factory=list, init=False)  # of the epochs, besides the feed's
    best_carried: FloatArray | None = field(default=None, init=False)
    start_carried: FloatArray | None = field(default=None, init=False)
    least: float = field(default=math.inf, init=False)  # the (validation) loss of the last epoch that counted as better
    waited: int = field(default=0, init=False)  # epochs since then
    ending: Verdict | None = field(default=None, init=False)  # why this epoch is the last
    quiet: Context = field(default_factory=quiet_context, init=False)
    before: Progress = field(default_factory=Progress, init=False)  # what an earlier training had done, if any
    began: float = field(default_factory=time.monotonic, init=False)
    data: tuple[Any, ...] = field(default=(), init=False)  # of the present step

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
        seed: int = 0,
        record: Literal["auto", "all", "off"] = "auto",
        checkpoint: Any = None,
        on_epoch: Callable[[Epoch], Any] | None = None,
    ) -> Training:
        """Check every argument before the first step. source: gives the batches of an epoch, ``source.epoch(k)``."""
        if isinstance(epochs, bool) or not isinstance(epochs, int | np.integer) or epochs < 0:
            raise InputError(f"epochs must be a whole number ≥ 0, got {epochs!r}")
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
        options = {
            "epochs": epochs, "batch_size": getattr(source, "size", None), "patience": patience,
            "min_delta": min_delta, "gtol": gtol, "target": target, "record": record,
        }  # fmt: skip
        options = {name: plain(value) for name, value in options.items()}
        layout = model.layout
        stopping = Stopping(layout, optimizer, 2**62, gtol=gtol, target=target, follows=False)
        training = cls(
            _Objective(model), layout, model.start.copy(), optimizer, stopping,
            Recorder(layout, record, NUMBERS), None, Feed(source.epoch), plain(seed), options,
            Checkpoint.of(checkpoint), why,
        )  # fmt: skip
        training.clips = any(optimizer.hyperparameters[name] is not None for name in ("clipvalue", "clipnorm"))
        training.model, training.epochs, training.on_epoch = model, int(epochs), on_epoch
        training.patience, training.min_delta = options["patience"], float(min_delta)
        training._forget_epoch()
        training.feed = Feed(lambda k: source.epoch(training.before.epochs + k))
        return training

    def go_on(self, before: Progress) -> None:
        """Go on where an earlier training ended: order, noise, schedule and the rule's state.

        Raises InputError where the optimizer is another one; its rate may be.
        """
        if before.settings != _settings(self.optimizer):
            raise InputError(
                f"the training before was made with {before.optimizer}, this one is asked for with {self.optimizer}, "
                "whose state is another one: give the same but for lr, or leave resume=True out"
            )
        self.before = before

    def progress(self) -> Progress | None:
        """Return how far the training has come; None where it did not end with an epoch."""
        point, feed = self.point, self.feed
        assert feed is not None
        if self.verdict is None or point.is_sample or feed.index:
            return None
        t, epochs, optimizer = self.before.t + point.t, self.before.epochs + feed.epoch, self.optimizer
        state = tuple(map(np.array, self.state))
        return Progress(t, epochs, optimizer, _settings(optimizer), state, optimizer.lr, self.memory)

    # -- steps --------------------------------------------------------------------------------------------------------

    @property
    def is_told(self) -> bool:
        """Is there a record of the epochs' gradients?"""
        return self.recorder.record != "off"

    def _prepare(self, x: FloatArray, state: Sequence[Any], carried: FloatArray | None) -> None:
        self.frames, total = Frame.several(x, state, carried, self.is_told or self.stopping.limit > 0)
        self.programs = StepPrograms(self.model, self.optimizer, self.frames, total, self.checkpoint is not None)
        self.programs.paid = self.objective.paid
        self.at = 0
        self.update = np.empty_like(x)
        self.spare = np.empty_like(x)

    def _first(self) -> Point:
        self.memory = self.optimizer.lr.start() if isinstance(self.optimizer.lr, Schedule) else ()
        if self.before.optimizer is not None:
            self.state = self.before.state
            if self.before.lr == self.optimizer.lr:
                self.memory = self.before.memory
        self._prepare(self.start, self.state, self.model.carried)
        if self.epochs == 0:
            self.ending = Verdict(Status.max_steps, "no epoch was asked for")
            fun, g = self.model.whole(self.start, self.model.carried)
            return Point(0, self.start, fun, g, norm(self.start, g, None))
        assert self.feed is not None
        batch = self.feed.draw()
        assert batch is not None
        point = self._sample(0, batch)
        if not point.is_finite:
            raise FunctionError(
                f"{self._what(point)} at the start{self._where(point)}; start with smaller weights, or scale the data"
            )
        return replace(point, x=self.start, g=point.g.copy())  # both are asked for until the end

    def _engine(self) -> None:
        self.in_legs = self.checkpoint is None  # machine code is in the steps, not around them

    def _next(self) -> tuple[Point, Any]:
        """Go on to the next frame, which the last step has already written, and make the step from there.

        Where only some of the points are wanted, go on until one is: because a row of the history is due, or, every
        few steps, so that the rules for stopping are asked.
        """
        assert self.feed is not None
        try:
            while True:
                self.at = (self.at + 1) % FRAMES
                t, frame = self.made + 1, self.frames[self.at]
                batch = self.feed.draw()
                if batch is None:
                    self._close(t, frame)
                    if self.ending is not None or self.stopping.may_end(*self.feed.rows[-1][1:3]):
                        whole = self._whole(Point(t, frame.x, math.nan, frame.g, math.nan, is_sample=True))
                        if self.ending is not None or self.stopping.may_end(whole.fun, whole.grad_norm):
                            self.made = t
                            self._tell(t)
                            return whole, frame.state
                    batch = self.feed.draw()
                    assert batch is not None
                if self._step(t, batch) and self._may_pass(t):
                    continue
                point = self._seen()
                if not point.is_finite and self.point.t < t - 1:
                    self._arrive(self._seen(back=1))
                return point, frame.state
        except BaseException:
            self._catch_up()
            raise

    def _may_pass(self, t: int) -> bool:
        """Is the point of step ``t`` of no interest to anybody, but for its row in the history?"""
        fun, frame = self.funs[self.at], self.frames[self.at]
        if not self.in_legs or t % ASKED == 0 or self.stopping.has_risen(fun):
            return False
        if self.recorder.is_due(t):
            if self.watched:
                return False
            largest = _largest(frame.g)
            clipped = self.clips and self._clips(_Sample(t, frame.x, fun, frame.g, largest, is_sample=True))
            self.recorder.add(t, frame.x, fun, largest, self._rate(t), clipped)
            self.rowed = t
        return True

    def _catch_up(self) -> None:
        """Let ``point`` be the last good one: an exception came between, and its frame may be written again."""
        if self.point.t < self.made and self.finite:
            self.point = point = self._seen()
            self.lr = self._rate(point.t)
            if point.t > self.rowed:
                self.recorder.add(point.t, point.x, point.fun, point.grad_norm, self.lr, self._clips(point))

    def _sample(self, t: int, batch: tuple[Any, ...]) -> Point:
        self._step(t, batch)
        return self._seen()

    def _step(self, t: int, batch: tuple[Any, ...]) -> bool:
        """Make update t + 1 from the present frame; return whether loss and gradient are finite there."""
        assert self.feed is not None
        self.data = self.model.data(batch, self.before.t + t)
        weight = self.model.samples(batch)
        fun, square, counts = self.programs.run(self.at, self.data, weight, self.before.t + t + 1, self._rate(t))
        frame = self.frames[self.at]
        self.finite = math.isfinite(fun) and (square < HUGE or bool(np.isfinite(frame.g).all()))
        self.made, self.finished = t, self.at
        self.funs[self.at] = fun
        if not self.finite:
            return False
        self.feed.sums.add_numbers(weight, fun, square)
        if self.programs.sum is not None:
            self.feed.sums.g = self.programs.sum
        for i, count in enumerate(counts):
            self.counted[i] += float(count)
        if self.is_told and self.feed.index % SAMPLED == 1:
            self._look_at_layers(frame, self.frames[(self.at + 1) % FRAMES])
        return True

    def _seen(self, back: int = 0) -> Point:
        """Return the point of the last step, or of one before it."""
        at = (self.finished - back) % FRAMES
        frame, t = self.frames[at], self.made - back
        self._tell(self.made + 1)
        return _Sample(t, frame.x, self.funs[at], frame.g, _largest(frame.g), is_sample=True)

    def _tell(self, steps: int) -> None:
        """Put on record how so many steps were made, and how often the loss and its gradient were evaluated."""
        programs, objective = self.programs, self.objective
        differences = programs.differences is not None
        objective.njev = programs.gave_up or 0 if differences else steps
        objective.nfev = programs.nfev + objective.njev
        objective.executor = "python" if differences else "native" if programs.fused else "numpy"
        if differences:
            objective.source = "adaptive differences"  # type: ignore[misc]
        self.reason = programs.reason

    def _look_at_layers(self, frame: Frame, after: Frame) -> None:
        self.layer_sums[0] += 1
        update = np.subtract(after.x, frame.x, out=self.update)
        for k, (_, start, stop) in enumerate(self.model.layers):
            w, g, step = frame.x[start:stop], frame.g[start:stop], update[start:stop]
            self.layer_sums[1][k] += math.sqrt(float(g @ g))
            self.layer_sums[2][k] += math.sqrt(float(step @ step)) / (math.sqrt(float(w @ w)) or 1.0)

    def _arrive(self, point: Point) -> None:
        self.objective.independent = self.programs.independent
        if point.t and point.is_sample:
            verdict = self.quiet.run(self.stopping.check, point, self.lr)
            if verdict is None or point.t <= self.rowed:
                self.lr = self._rate(point.t)
                if point.t > self.rowed:
                    self.recorder.add(point.t, point.x, point.fun, point.grad_norm, self.lr, self._clips(point))
                self.point, self.verdict = point, verdict or self.ending
                return
        super()._arrive(point)
        if point.t == 0:
            self.start_carried = self.best_carried = None if self.model.carried is None else self.model.carried.copy()
            held_back = self.model.validate(point.x, self.start_carried)
            fun = point.fun if held_back is None else held_back[0] if math.isfinite(held_back[0]) else math.inf
            self.best = replace(point, x=point.x.copy(), fun=fun, g=NO_GRADIENT)
        if self.verdict is None:
            self.verdict = self.ending

    def _clips(self, point: Point) -> bool:
        hyper = self.optimizer.hyperparameters
        value, limit = hyper["clipvalue"], hyper["clipnorm"]
        if hyper["groups"]:
            return super()._clips(point)
        if value is not None:
            return bool(point.grad_norm > value)
        if limit is None:
            return False
        how = FRAMEWORKS[self.optimizer.semantics]
        parts = self.layout.parts(self.layout.view(point.g)) if how["clip_each_array"] else [point.g]
        return any(math.sqrt(float(np.vdot(part, part))) + how["clip_eps"] > limit for part in parts)

    def _rate(self, t: int) -> float:
        return super()._rate(self.before.t + t)

    def _observed(self, point: Point) -> Memory:
        return self.memory or ()  # a schedule that looks at f sees an epoch's, in `_close`

    # -- epochs -------------------------------------------------------------------------------------------------------

    def _forget_epoch(self) -> None:
        layers = len(self.model.layers)
        self.counted = [0.0] * self.model.counts
        self.layer_sums = [0, [0.0] * layers, [0.0] * layers]

    def _close(self, t: int, frame: Frame) -> None:
        """Sum up the epoch that ended after ``t`` updates, and find out whether it is the last."""
        assert self.feed is not None
        total = self.programs.sum
        ended = self.feed.close(t, math.nan if total is None else _largest(total) / self.feed.sums.weight)
        self.programs.forget()
        number = self.feed.epoch
        accuracy = self.counted[0] / ended.weight if self.model.counts else None
        lr = self._rate(t - 1)
        held_back = self.model.validate(frame.x, frame.carried)
        validation_fun, validation_accuracy = held_back if held_back is not None else (None, None)
        steps, *sums = self.layer_sums
        of_layers = ([s / steps for s in part] if steps else None for part in sums)
        self.rows.append([lr, accuracy, validation_fun, validation_accuracy, *of_layers])
        self._forget_epoch()
        fun = ended.mean if validation_fun is None else validation_fun
        self.memory = self.optimizer.observe(self.memory, t, fun)
        if fun < self.least - self.min_delta:
            # the loss along an epoch says nothing of the start, which `_ends` looks at
            is_best = validation_fun is None or fun < self.best.fun
            self.least, self.waited = fun, 0
        else:
            is_best, self.waited = False, self.waited + 1
        if is_best:
            np.copyto(self.spare, frame.x)
            best = Point(t, self.spare, fun, NO_GRADIENT, self.feed.rows[-1][2], is_sample=True)
            self.best, self.spare = best, self.best.x
            self.best_carried = None if frame.carried is None else frame.carried.copy()
        if self.patience is not None and self.waited >= self.patience:
            which = "loss" if validation_fun is None else "validation loss"
            self.ending = Verdict(
                Status.finished,
                f"the {which} has not fallen by more than {self.min_delta:g} for {self.waited} epochs; "
                "the best weights are in best_x",
            )
        if number >= self.epochs:
            self.ending = self.ending or Verdict(Status.finished, f"all {self.epochs} epochs are over: {t} steps")
        if self.on_epoch is not None:
            self.model.take(frame.x, frame.carried)
            told = Epoch(
                number, t, ended.mean, accuracy, validation_fun, validation_accuracy, lr,
                time.monotonic() - self.began,
            )  # fmt: skip
            if self.on_epoch(told) is True:
                self.ending = Verdict(Status.stopped, f"on_epoch returned True after epoch {number}")
            frame.x[...] = self.model.given(frame.x)

    def _epochs(self) -> Epochs:
        assert self.feed is not None
        names = ["lr", "accuracy", "validation_fun", "validation_accuracy"]
        if not self.rows:  # None would say so otherwise
            names = ["lr", *["accuracy"] * bool(self.model.counts)]
        names += ["layer_grad_norm", "layer_update_ratio"] if self.is_told else []
        layers = tuple(name for name, _, _ in self.model.layers)
        more: dict[str, Any] = {}
        for k, name in enumerate(names):
            column = [row[k] for row in self.rows]
            if None not in column:
                shape = (len(column), len(layers)) if name.startswith("layer_") else (len(column),)
                more[name] = np.array(column, dtype=np.float64).reshape(shape)
        return Epochs.of(self.feed.rows, self.is_told, **more, layers=layers)

    # -- the end ------------------------------------------------------------------------------------------------------

    def _what(self, after: Point) -> str:
        if not math.isfinite(after.fun):
            return f"the loss is {after.fun}"
        i = int(np.flatnonzero(~np.isfinite(after.g))[0])
        told = f" ({self.programs.explained(self.at, self.data)})" if after.is_sample else ""
        return f"the loss is {after.fun:.6g}, but the gradient's component {self.layout.label(i)} is {after.g[i]}{told}"

    def _where(self, after: Point) -> str:
        assert self.feed is not None
        place = f" (epoch {self.feed.epoch + 1}, batch {self.feed.index})"
        blamed = self.model.blame(after.x, self.frames[self.at].carried, self.data) if after.is_sample else ""
        return f"{place}: {blamed}" if blamed else place

    def _nonfinite(self, after: Point) -> Verdict:
        status = Status.nonfinite if np.isfinite(after.x).all() else Status.diverged
        return Verdict(
            status,
            f"{self._what(after)} at step {after.t}{self._where(after)}; "
            f"the weights are those of step {after.t - 1}, the last good ones",
        )

    def _carried_at(self, point: Point) -> FloatArray | None:
        if point is self.best or self.model.carried is None:
            return self.best_carried
        return next(frame.carried for frame in self.frames if frame.x is point.x or np.array_equal(frame.x, point.x))

    def _whole(self, point: Point) -> Point:
        if not point.is_sample:
            return point
        fun, g = self.model.whole(point.x, self._carried_at(point))
        whole = Point(point.t, point.x, fun, g, norm(point.x, g, None), is_sample=False)
        return whole if whole.is_finite else point

    def _ends(self, in_haste: bool) -> tuple[Point, Point]:
        """The best point is that after the epoch with the least validation loss, which is its fun.

        Where no data are held back, it is the best over all the data of the start, the end, and the point after the
        epoch that had the least mean loss along it.
        """
        if in_haste:
            return self.point, self.best
        point = self._whole(self.point)
        if self.model.judges:
            return point, self.best
        found = [] if point.is_sample else [(point, self._carried_at(self.point))]
        seen = {point.t for point, _ in found}
        start = replace(self.stopping.start, x=self.start)
        for known, carried in ((self.best, self.best_carried), (start, self.start_carried)):
            if known.t not in seen:
                seen.add(known.t)
                fun = self.model.mean(known.x, carried, min([math.inf, *(point.fun for point, _ in found)]))
                if math.isfinite(fun):
                    found.append((replace(known, fun=fun, is_sample=False), carried))
        if found:
            self.best, self.best_carried = min(found, key=lambda pair: pair[0].fun)
        return point, self.best

    def publish(self, best: bool) -> None:
        """Let the model have the parameters of the last point, or of the best."""
        if self.recorder.count:
            x = self.best.x if best else self.point.x
            self.model.take(x, self._carried_at(self.best if best else self.point))

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def _written(self) -> tuple[dict[str, Any], dict[str, Any]]:
        header, arrays = super()._written()
        carried = self._carried_at(self.point)
        header |= {
            "epochs": [self.rows, self.waited, self.counted, self.layer_sums, self.least],
            "carries": carried is not None,
            "before": [self.before.t, self.before.epochs],
            "evaluations": [self.programs.nfev, self.programs.gave_up],
        }
        if carried is not None:
            arrays |= {"carried": carried, "best.carried": self.best_carried, "start.carried": self.start_carried}
        return header, arrays

    def take_up(self, path: str | os.PathLike[str]) -> None:
        """Go on from where ``path`` was written by the same training. Raises InputError where it was another one."""
        assert self.feed is not None
        archive = read(path, self.KIND)
        header, arrays = archive.header, archive.arrays
        for name, here, there in (
            ("koubai", version(), archive.koubai),
            ("optimizer", describe_optimizer(self.optimizer), header["optimizer"]),
            ("seed", self.seed, header["seed"]),
            ("set of parameters", self.layout.shapes, header["layout"].shapes),
            *((name, self.options.get(name), header["options"].get(name)) for name in header["options"]),
        ):
            if here != there and name != "epochs":
                raise InputError(f"{str(path)!r} was written with another {name}: {there}, now {here}; start anew")
        if self.epochs < (made := header["feed"]["epoch"]):
            raise InputError(f"{str(path)!r} has {made} epochs behind it, and epochs={self.epochs} is fewer; give more")
        points = taken(archive, self.optimizer)
        with archive.building():
            self._fits(header["epochs"], arrays.get("carried"))
        self.before = Progress(*header["before"])
        last, carried = points["last"], arrays.get("carried")
        state = tuple(arrays[f"state.{i}"] for i in range(header["states"]))
        self._prepare(last.x, state, carried)
        self.memory = None if header["memory"] is None else tuple(header["memory"])
        self.feed.go_to(header["feed"], arrays["feed"])
        self.objective.paid.go_on(header["paid"])
        evaluations, self.programs.gave_up = header["evaluations"]
        if last.is_sample:  # the step that was on its way is made once more
            again = self._sample(last.t, self.feed.again())
            if again.fun != last.fun or not np.array_equal(again.g, last.g):
                raise InputError(
                    f"the data or the model are not those of {str(path)!r}: at step {last.t} the loss was "
                    f"{last.fun!r}, now it is {again.fun!r}; start anew"
                )
            last = replace(again, x=self.frames[0].x)
            if self.programs.sum is not None:
                self.programs.sum[...] = arrays["feed"]
        self.programs.nfev = evaluations
        self.feed.go_to(header["feed"], arrays["feed"])
        start = replace(points["start"])
        goes_on = not last.is_sample and self._goes_on(path, last, header)
        if goes_on:  # the last row is of all the data; it becomes that of the batch that comes next
            before = -(-last.t // header["stride"])
            arrays |= {name: array[:before] for name, array in arrays.items() if name.startswith("rows.")}
        self._take_up(header, arrays, points | {"last": last, "start": start})
        self.start = start.x
        self.rows, self.waited, self.counted, self.layer_sums, self.least = header["epochs"]
        self.best_carried, self.start_carried = arrays.get("best.carried"), arrays.get("start.carried")
        if goes_on:
            self.at, self.made = FRAMES - 1, last.t - 1  # that the step from there be made next
            self.verdict = None
        elif not last.is_sample:
            status, message = header["verdict"]
            self.verdict = Verdict(Status[status], message)

    def _fits(self, epochs: Any, carried: FloatArray | None) -> None:
        """Raise InputError unless what a file says of the epochs and the model's state is that of this model."""
        rows, _, counted, sums, _ = epochs
        layers = len(self.model.layers)
        told = [part for row in rows for part in row[4:] if part is not None] + sums[1:]
        if len(counted) != self.model.counts or any(len(part) != layers for part in told):
            raise InputError(f"its epochs are not those of {layers} layers and {self.model.counts} counts")
        here = self.model.carried
        if (None if carried is None else carried.shape) != (None if here is None else here.shape):
            raise InputError("the model carries another state")

    def _goes_on(self, path: str | os.PathLike[str], last: Point, header: dict[str, Any]) -> bool:
        """Tell whether a training that had come to its end is to go on, because more epochs are asked for."""
        assert self.feed is not None
        status, waited = header["verdict"][0], header["epochs"][1]
        if (
            self.epochs == self.feed.epoch
            or status not in ("finished", "max_steps", "stopped")
            or waited >= (self.patience or math.inf)
        ):
            return False
        fun, g = self.model.whole(last.x, self.frames[0].carried)
        if fun != last.fun or not np.array_equal(g, last.g):
            raise InputError(
                f"the data or the model are not those of {str(path)!r}: over all the data the loss was {last.fun!r}, "
                f"now it is {fun!r}; start anew"
            )
        return True

    # -- progress -----------------------------------------------------------------------------------------------------

    def reporting(self, progress: bool) -> Any:
        self.watched = bool(progress)
        return _bar(self) if progress else super().reporting(False)


def _settings(optimizer: Optimizer) -> tuple[Any, ...]:
    """Return what the state of an optimizer depends on."""
    return optimizer.rule.name, optimizer.semantics, dict(optimizer.hyperparameters)


class _Objective:
    """What a descent asks of the function that it goes down: here the counts and the names."""

    def __init__(self, model: Model) -> None:
        self.f = model.function
        self.grad, self.program, self.source, self.executor = "backprop", True, "backprop", "numpy"
        self.nfev = self.njev = 0
        self.paid = Paid()
        self.told = self.independent = self.disagreement = ""

    def measured_error(self, point: Point) -> float:
        return 0.0  # backpropagation, or adaptive differences, which measure it

    def flat_by_construction(self, x: FloatArray) -> str:
        return ""  # a training has no rule that a first gradient of zeros would meet


@contextmanager
def _bar(training: Training) -> Iterator[Callable[[Point], None]]:
    """Give a function that reports points to a Rich progress bar on stderr: epoch, loss, accuracy, samples a second."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    assert training.feed is not None
    feed, began = training.feed, time.monotonic()
    shown, seen, first = began, 0.0, -1
    columns = (BarColumn(), TextColumn("{task.fields[at]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=float(training.epochs), at="")
        length = 0  # batches in an epoch, known after the first

        def report(point: Point) -> None:
            nonlocal shown, seen, first, length
            first = point.t if first < 0 else first
            length = max(length, feed.index)
            now = time.monotonic()
            if now - shown < 0.1 and point.is_sample:
                return
            shown, sums = now, feed.sums
            if sums.weight:
                seen = sums.weight / max(feed.index, 1)
                at = f"epoch {feed.epoch + 1}/{training.epochs}  loss {sums.mean:.4g}"
                if training.model.counts:
                    at += f"  accuracy {training.counted[0] / sums.weight:.2%}"
                at += f"  {seen * (point.t + 1 - first) / max(now - began, 1e-9):,.0f} samples/s"
                part = min(feed.index / length, 1.0) if feed.epoch else 0.0
                bar.update(task, completed=feed.epoch + part, at=at)

        yield report
