"""One step of a training as one program: the forward pass, the loss, the gradient and the update.

The rule is traced like any function, and what the epoch's record wants of the gradient comes in the same pass over
memory as the update. A step reads the parameters, the rule's state and what the model carries (running statistics) in
one frame of memory and writes them into the next, so nothing is allocated, and a step that turns out not to be finite
is simply not taken. An update is as fast as memory is: the rule's state, which only a checkpoint asks for once the step
is made, is updated where it lies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from koubai.derivatives.agreement import cross_check
from koubai.derivatives.differences import INDEPENDENT
from koubai.derivatives.nonfinite import GRADIENT, Settler
from koubai.descent.batch_iterator import CountedGraphs
from koubai.descent.optimizers import Optimizer
from koubai.errors import FunctionError, GradientError, GradientWarning, TraceError, warn
from koubai.execute import library, regions
from koubai.execute.arrays import compile_bound
from koubai.execute.descents import staggered
from koubai.graph.call import Leaves, Recorded, record_call, replay
from koubai.graph.graph import Graph
from koubai.graph.reverse import Careful, reverse
from koubai.graph.traced import Traced, current_node
from koubai.graph.tracer import Trace
from koubai.parameters import FloatArray, Layout

__all__ = ["FRAMES", "Differences", "Frame", "Model", "StepPrograms", "Steps"]

FUSED = 4096  # numbers that a step reads from which on its regions are machine code
PATHS = 16  # kept for one form of batch: where a loss branches, or reads what changes
KEPT = 64  # compiled steps of equal models, for later trainings
PLACES = 3  # for the parameters: the last good point, the present one, and the next
GRADIENTS = 2  # at the last good point and the present one
FRAMES = PLACES * GRADIENTS  # frame k has place k % PLACES and gradient k % GRADIENTS
CHECKED_AT = (0.0, 0.3, 0.3, 1.0, 1.0)  # how far from the start the gradient is compared with a difference
_LOOKS = ("isnan", "isfinite", "isinf")  # in a loss: its data holds what is not finite, and is to be left out


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
        self.counted_graphs = CountedGraphs()
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
                self.nfev = before + self.counted_graphs.charge(
                    recorded.graph, recorded.environment.complete, self.nfev - before
                )
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


def _node(tape: Trace, value: Any) -> int:
    return current_node(value) if type(value) is Traced else tape.constant(value)
