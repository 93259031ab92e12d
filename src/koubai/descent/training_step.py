"""One step of a training as one program: the forward pass, the loss, the gradient and the update.

The rule is traced like any function, and what the epoch's record needs of the gradient is computed in the same pass
over memory as the update. A step reads the parameters, the rule's state and the model's state (running statistics) from
one buffer slot and writes them into the next, so nothing is allocated, and a step that turns out not to be finite is
simply dropped. An update is as fast as memory is: the rule's state, which only a checkpoint needs once the step is
made, is updated in place."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from koubai.derivatives.agreement import cross_check
from koubai.derivatives.differences import INDEPENDENT
from koubai.derivatives.nonfinite import GRADIENT, Resolver
from koubai.descent.batch_iterator import CountedGraphs
from koubai.descent.optimizers import Optimizer
from koubai.errors import FunctionError, GradientError, GradientWarning, TraceError, warn
from koubai.execute import library, regions
from koubai.execute.abi import offset_arrays
from koubai.execute.arrays import compile_bound
from koubai.execute.chain import Consecutive
from koubai.execute.elements import NotLowerable
from koubai.graph.call import Leaves, TracedCall, inline, record_call
from koubai.graph.graph import Graph
from koubai.graph.reverse import Careful, reverse
from koubai.graph.traced import Traced, current_node
from koubai.graph.tracer import Trace
from koubai.messages import worded
from koubai.parameters import FloatArray, Layout

__all__ = ["SLOTS", "BufferSlot", "Differences", "Model", "StepPrograms", "Steps"]

FUSED = 4096  # a step that reads at least so many numbers is machine code around its matrix products
PATHS = 16  # cached for one form of batch: a loss may branch, or read what changes
CACHED = 64  # compiled steps of equal models, for later trainings
POINT_BUFFERS = 3  # for the parameters: the last good point, the present one, and the next
GRADIENT_BUFFERS = 2  # at the last good point and the present one
# Slot k has the point buffer k % POINT_BUFFERS and the gradient buffer k % GRADIENT_BUFFERS.
SLOTS = POINT_BUFFERS * GRADIENT_BUFFERS
CHECKED_AT = (0.0, 0.3, 0.3, 1.0, 1.0)  # how far from the start the gradient is compared with a difference
_LOOKS = ("isnan", "isfinite", "isinf")  # in a loss: its data hold numbers that are not finite and are to be left out


Differences = Callable[[FloatArray, tuple[Any, ...]], tuple[float, FloatArray, int]]
# (params, data) -> loss, gradient, evaluations of the loss


class Model(Protocol):
    """A model that can be trained: a network, or any function of parameters and data."""

    layout: Layout  # the form in which the flat parameters are shown
    start: FloatArray  # the parameters, flat
    # the model's state besides the parameters (running statistics), which a step passes on to the next, flat
    model_state: FloatArray | None
    counts: int  # that `loss` returns besides: the samples classified rightly, if it classifies
    layers: list[tuple[str, int, int]]  # (name, start, stop) of each part of the parameters that is recorded by itself
    name: str  # in messages
    function: Any  # of the run
    # of a step's programs, for the next training of a model that computes the same; None: there is none, since what the
    # model computes can't be known in advance
    program_cache: dict[Any, Any] | None
    has_validation: bool  # whether there are data held back, which `validate` evaluates
    # (params, [state], *data) -> loss, or (loss, [state after], *counts): traced, and run as it is
    loss: Callable[..., Any]

    def data(self, batch: tuple[Any, ...], t: int) -> tuple[Any, ...]:
        """Return the arrays of one batch, with the noise of step ``t``, as the loss takes them."""

    def samples(self, batch: tuple[Any, ...]) -> float:
        """Return the weight of a batch among the others: its samples, or the sum of their weights."""

    def full_loss_and_gradient(self, params: FloatArray, model_state: FloatArray | None) -> tuple[float, FloatArray]:
        """Return the loss and its gradient over all the data."""

    def by_differences(self, error: Exception) -> Differences | None:
        """Return what takes the place of backpropagation, which ``error`` prevents; None: nothing does."""

    def full_loss(self, params: FloatArray, model_state: FloatArray | None, least: float) -> float:
        """Return the loss over all the data, or any number ≥ ``least`` if it is not below that."""

    def validate(self, params: FloatArray, model_state: FloatArray | None) -> tuple[float, float | None] | None:
        """Return loss and accuracy on the data held back, if there is any."""

    def load(self, params: FloatArray, model_state: FloatArray | None) -> None:
        """Set the parameters of the model to these."""

    def after_callback(self, params: FloatArray) -> FloatArray:
        """Return the parameters of the model after a callback, which may have changed them; ``params``: before it."""

    def explain_failure(self, params: FloatArray, model_state: FloatArray | None, data: tuple[Any, ...]) -> str:
        """Return where the first number that is not finite appears, as part of a sentence, or ""."""


StepResult = tuple[float, float, Sequence[Any]]  # the loss, g · g and the counts of a step


# -- one step as a program --------------------------------------------------------------------------------------------


@dataclass
class BufferSlot:
    """The memory of one step: the parameters, the gradient there, the rule's state, the model's state."""

    x: FloatArray
    g: FloatArray
    state: list[Any]  # arrays that stay in place, and numbers
    model_state: FloatArray | None

    @classmethod
    def allocate(
        cls, x: FloatArray, state: Sequence[Any], model_state: FloatArray | None, sums: bool
    ) -> tuple[list[BufferSlot], FloatArray | None]:
        """Return the slots, the first one filled with ``x``, the state and the model's state, and memory for the sum of
        gradients, if there are to be ``sums``.
        """
        values = [np.asarray(part) for part in state]
        large = [part for part in values if part.ndim]
        place = [x, *large] if model_state is None else [x, *large, model_state]
        wanted = [*place * POINT_BUFFERS, *[x] * (GRADIENT_BUFFERS + sums)]
        memory = offset_arrays([(part.shape, part.dtype) for part in wanted])
        places, gradients = memory[: POINT_BUFFERS * len(place)], memory[POINT_BUFFERS * len(place) :]
        slots = []
        for k in range(SLOTS):
            at, *rest = places[k % POINT_BUFFERS * len(place) :][: len(place)]
            passed, left = (None if model_state is None else rest.pop()), iter(rest)
            parts = [next(left) if part.ndim else part[()] for part in values]
            slots.append(cls(at, gradients[k % GRADIENT_BUFFERS], parts, passed))
        for part, value in zip(places, place, strict=False):  # those of the first slot
            part[...] = value
        slots[0].g.fill(np.nan)
        total = gradients[GRADIENT_BUFFERS] if sums else None
        if total is not None:
            total.fill(0.0)
        return slots, total


class StepPrograms:
    """The compiled steps of a model, one for every form of batch; for a function that branches, one for every path.

    sum: the gradients of all steps made, each times the weight of its batch, until `forget` sets it to zero. None if it
    is not needed: an update with momentum reads and writes seven arrays, and two of these accesses are for the sum.
    in_place: whether the slots share one state, which is updated in place; not if ``keeps_state`` demands that a slot's
    state stays as it was after the step from there; otherwise the first program decides (None: not yet).
    nfev: plain evaluations of the loss, for the cross-check of the gradient. source: the newest program as text.
    """

    def __init__(
        self,
        model: Model,
        optimizer: Optimizer,
        slots: Sequence[BufferSlot],
        total: FloatArray | None,
        keeps_state: bool,
    ) -> None:
        self.model, self.optimizer, self.slots = model, optimizer, slots
        self.in_place = False if keeps_state else None
        self.layout = model.layout
        self.sum = total
        self.arrays = [i for i, part in enumerate(slots[0].state) if np.ndim(part)]
        self.numbers = [i for i, part in enumerate(slots[0].state) if not np.ndim(part)]
        self.nfev = 0
        self.source = ""
        self.fused, self.reason = False, "no step was made"
        self.differences: Differences | None = None
        self.gave_up: int | None = None  # the steps by backpropagation before differences took over
        self.counted_graphs = CountedGraphs()
        self._forms: dict[Any, list[_Bound]] = {}
        self._seen: tuple[Any, Any] = (), ()  # the last data and their form
        self._checks = 0  # paths that were compared with the loss
        self.independent = ""  # a sentence, if the loss doesn't depend on the parameters
        self.careful = False  # whether zeros are kept where derivatives are infinite

    def run(self, k: int, data: tuple[Any, ...], weight: float, t: int, lr: float) -> StepResult:
        """Make update ``t`` from slot k into the next one. weight: the batch's. The gradient is then in slot k."""
        if self.differences is not None:
            return self._by_differences(k, data, weight, t, lr)
        if data is not self._seen[0]:  # full batches come in the same memory
            self._seen = data, tuple([(a.shape, a.dtype) for a in data])
        form = self._seen[1]
        if not self._forms:  # machine code takes a few milliseconds per program, and some hundred the first time
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
            if self.model.program_cache is not None:  # then what was traced here depends on earlier trainings
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

    @property
    def kept_numbers(self) -> list[Any]:
        """The numbers of the rule's state."""
        return [self.slots[0].state[i] for i in self.numbers]

    def consecutive(self, data: tuple[Any, ...], pairs: list[tuple[Any, Any]]) -> Consecutive | None:
        """Return what makes several steps from batches of this form with no Python in between, if there is one.

        data: of a batch that a step was made with, in the memory of ``pairs``: (rows, memory for those of a batch).
        """
        known = self._forms.get(tuple([(a.shape, a.dtype) for a in data]), ())
        if len(known) != 1 or self.differences is not None:
            return None
        (bound,) = known
        if bound.consecutive is None and not bound.alone:
            bound.alone = True
            parts = [run.parts for run in bound.fused or ()] or [None]
            kept = len(self.numbers)  # as they are from step to step
            if bound.same is None and not bound.copies and all(part and part.passed_on == kept for part in parts):
                for part in parts:
                    part.tie(*self.kept_numbers, *data, *[np.float64(1)] * 3)
                with suppress(NotLowerable):
                    slots = [(slot.x, slot.g) for slot in self.slots]
                    bound.consecutive = Consecutive(parts, slots, pairs, square=0, loss=1)
        return bound.consecutive

    def _new_path(self, form: Any, k: int, data: tuple[Any, ...], weight: float, t: int, lr: float) -> StepResult:
        known = self._forms.setdefault(form, [])
        steps = self._cached(form)
        if steps is None:
            recorded = self.recorded(k, data)
            bound = next((b for b in known if b.steps.recorded.graph.equals(recorded.graph)), None)
        else:
            recorded, bound = steps.recorded, None
        if bound is not None:
            bound.renew(recorded)
        else:
            bound = _Bound.of(self, steps or Steps.traced(self, recorded, data), k)
            if not self.careful and self._needs_care(bound, k, data, weight, t, lr):
                self.careful, self._forms = True, {form: known}
                known.clear()
                steps = self._cached(form)
                recorded = self.recorded(k, data) if steps is None else steps.recorded
                bound = _Bound.of(self, steps or Steps.traced(self, recorded, data), k)
            self.source = bound.source
            branches = bool(recorded.graph.guards) and self._checks < PATHS
            if not self._checks or branches or not recorded.environment.complete:
                self._checks += 1
                if steps is None:
                    self._check(bound, k, data, weight, t, lr)
            if steps is None:
                self._cache(form, bound.steps)
        known[:] = [bound, *(b for b in known if b is not bound)][:PATHS]
        results = bound.run(self, k, data, weight, t, lr)
        if results is None:
            raise TraceError(
                f"{self.model.name} takes another path when it is called again",
                "a function with randomness or hidden state has no gradient; keep its state outside",
            )
        return results

    def _cached(self, form: Any) -> Steps | None:
        """Return what an earlier training of an equal model compiled for this form of batch, if it did."""
        program_cache = self.model.program_cache
        return None if program_cache is None else program_cache.get((form, *self._cache_key()))

    def _cache(self, form: Any, steps: Steps) -> None:
        """Cache what was compiled and checked, unless it depends on more than its inputs."""
        recorded, program_cache = steps.recorded, self.model.program_cache
        if program_cache is None or recorded.graph.guards or not recorded.environment.empty or self.independent:
            return
        while len(program_cache) >= CACHED:
            del program_cache[next(iter(program_cache))]
        steps.recorded = recorded._replace(leaves=recorded.leaves._replace(values=()))  # they are this training's own
        program_cache[form, *self._cache_key()] = steps

    def _cache_key(self) -> tuple[Any, ...]:
        """Return what a step's programs depend on besides the model and the form of the batch."""
        optimizer = self.optimizer
        own = optimizer.rule.name, type(optimizer), optimizer.semantics, optimizer.settings
        # the rates of groups are compiled in, as multiples of lr
        rates = repr(optimizer.lr) if optimizer.hyperparameters.get("groups") else ""
        return *own, rates, self.sum is not None, self.fused, self.careful, FUSED

    def _needs_care(self, bound: _Bound, k: int, data: tuple[Any, ...], weight: float, t: int, lr: float) -> bool:
        """Return whether the gradient needs care: f looks for NaN, or its first gradient is not finite."""
        if any(node.op.name in _LOOKS for node in bound.steps.recorded.graph.nodes):
            return True
        if self._checks:
            return False
        with self._unchanged(k):
            results = bound.run(self, k, data, weight, t, lr)
            return results is not None and math.isfinite(results[0]) and not bool(np.isfinite(self.slots[k].g).all())

    @contextmanager
    def _unchanged(self, k: int) -> Iterator[None]:
        """Undo the steps that are made from slot k inside the context."""
        slot, total = self.slots[k], None if self.sum is None else self.sum.copy()
        x, state = slot.x.copy(), [np.array(part) if i in self.arrays else part for i, part in enumerate(slot.state)]
        try:
            yield
        finally:
            slot.x[...] = x
            self._put(state, slot.state)
            if self.sum is not None:
                self.sum[...] = total

    def explain_nonfinite(self, k: int, data: tuple[Any, ...]) -> str:
        """Return why the gradient at slot k is not finite, though the loss is."""
        recorded = self.recorded(k, data)
        graph, leaves = recorded.graph, recorded.leaves
        loss = Graph(graph.nodes, graph.inputs, graph.outputs[:1], graph.guards, graph.kinks, graph.name, graph)
        _, reason = Resolver(loss, leaves.active, GRADIENT)(leaves.values, (), ())
        return reason or "it would be finite if what a mask leaves out were finite: mask the argument too"

    def _by_differences(self, k: int, data: tuple[Any, ...], weight: float, t: int, lr: float) -> StepResult:
        assert self.differences is not None
        slot = self.slots[k]
        loss, slot.g[...], evaluations = self.differences(slot.x, data)
        self.nfev += evaluations
        self.update(k, t, lr, loss)
        with np.errstate(all="ignore"):
            if self.sum is not None:
                self.sum += weight * slot.g
            return loss, float(np.dot(slot.g, slot.g)), ()

    def update(self, k: int, t: int, lr: float, loss: float) -> None:
        """Make update ``t`` from the gradient in slot k by the rule as it is, without compiling it."""
        slot, after = self.slots[k], self.slots[(k + 1) % SLOTS]
        with np.errstate(all="ignore"):
            x, states = self.optimizer.step(slot.x, slot.g, tuple(slot.state), t, lr, fun=loss, layout=self.layout)
        after.x[...] = x
        if self.in_place:  # a part may be a view of memory that another one is about to be written into
            states = tuple([np.array(part) if i in self.arrays else part for i, part in enumerate(states)])
        self._put(states, after.state)

    def _put(self, states: Sequence[Any], into: list[Any]) -> None:
        for i, part in enumerate(states):
            if i in self.arrays:
                into[i][...] = part
            else:
                into[i] = part

    def forget(self) -> None:
        """Set the sum of the gradients to zero."""
        if self.sum is not None:
            self.sum.fill(0.0)

    def compiled(self, graph: Graph, updates: bool) -> Any:
        """Compile a step's graph; return what binds it to memory."""
        lying = 1 + (self.sum is not None) + len(self.arrays) * updates + (self.slots[0].model_state is not None)
        return compile_bound(graph, range(lying), range(lying + updates), regions if self.fused else None)

    def arguments(self, x: FloatArray, model_state: Any, data: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the arguments of the loss."""
        return self.layout.view(x), *(() if model_state is None else (model_state,)), *data

    def recorded(self, k: int, data: tuple[Any, ...]) -> TracedCall:
        """Trace the loss at slot k."""
        slot, loss = self.slots[k], self.model.loss
        leaves = Leaves.of(loss, self.arguments(slot.x, slot.model_state, data), {}, [0])
        recorded = record_call(loss, leaves, scalar=False)
        self.nfev += 1
        wanted = 1 + (slot.model_state is not None) + self.model.counts
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
        """Compare the gradient with a difference of the loss, once. Raises GradientError if they disagree.

        Near the kinks of many units a difference says nothing: then points further away are tried, and a gradient that
        agrees at one of them is right, since every point has the same graph.
        """
        slot = self.slots[k]
        x, single = slot.x.copy(), slot.x.dtype == np.float32
        graph = _loss_graph(self, bound.steps.recorded, data)
        rest = (*(() if slot.model_state is None else (slot.model_state,)), *data)

        def plain(at: FloatArray, *rest: Any) -> float:
            self.nfev += 1
            value = self.model.loss(self.layout.view(at), *rest)
            return float(value[0] if isinstance(value, tuple) else value)

        random = np.random.default_rng(20240229)
        alarm: GradientError | None = None
        with self._unchanged(k):
            for away in CHECKED_AT:
                if away:
                    slot.x[...] = x + away * random.standard_normal(x.size)
                results = bound.run(self, k, data, weight, t, lr)
                if results is None or not math.isfinite(results[0]):
                    continue
                leaves = (slot.x.copy(), *rest)
                try:
                    checked = [slot.g], self.model.name, single, graph
                    if not cross_check(plain, leaves, [0], results[0], *checked):
                        self.independent = worded(INDEPENDENT, name=self.model.name)
                        warn(GradientWarning(self.independent))
                    return
                except GradientError as error:
                    alarm = alarm or error
        if alarm is not None:
            raise alarm


@dataclass
class Steps:
    """One traced path for one form of batch, and the code compiled for it, for the memory of any training."""

    recorded: TracedCall
    gradient: Graph
    step: Any  # binds the whole step to memory; None: the rule can't be part of the graph
    gradient_only: Any = None  # binds loss and gradient alone, once that was needed

    @classmethod
    def traced(cls, programs: StepPrograms, recorded: TracedCall, data: tuple[Any, ...]) -> Steps:
        careful = Careful() if programs.careful else None
        gradient = reverse(recorded.graph, recorded.leaves.active, auxiliary=True, careful=careful)
        try:
            whole = _step_graph(programs, recorded, gradient, data, updates=True)
        except (TraceError, TypeError, ValueError):  # a rule that looks at numbers runs as it is
            return cls(recorded, gradient, None)
        return cls(recorded, gradient, programs.compiled(whole, True))

    def without_update(self, programs: StepPrograms, data: tuple[Any, ...]) -> Any:
        """Return what binds loss and gradient without the update."""
        if self.gradient_only is None:
            graph = _step_graph(programs, self.recorded, self.gradient, data, updates=False)
            self.gradient_only = programs.compiled(graph, False)
        return self.gradient_only


@dataclass
class _Bound:
    """One traced path for one form of batch, bound to the slots."""

    steps: Steps
    same: Callable[[], bool] | None  # whether what the loss reads from outside is unchanged; None: it reads nothing
    fused: list[Any] | None = None  # one per slot; None: the rule can't be part of the graph
    gradient_only: list[Callable[..., Any]] | None = None  # loss and gradient alone
    source: str = ""
    copies: list[tuple[Any, Any]] = field(default_factory=list)  # (state, where its program writes it)
    consecutive: Consecutive | None = None  # makes several steps
    alone: bool = False  # whether it was found out that nothing does

    def renew(self, recorded: TracedCall) -> None:
        """Take over another trace that gave an equal graph."""
        self.steps.recorded, self.same = recorded, _same(recorded)

    @classmethod
    def of(cls, programs: StepPrograms, steps: Steps, k: int) -> _Bound:
        bound = cls(steps, _same(steps.recorded))
        if steps.step is not None:
            bound.fused = bound._programs(programs, steps.step, k, True)
        return bound

    def _programs(self, programs: StepPrograms, made: Any, k: int, updates: bool) -> list[Callable[..., Any]]:
        """Bind what was compiled to the memory of the slots; return a program per slot."""
        slots, arrays = programs.slots, programs.arrays
        carries, sums = slots[0].model_state is not None, [] if programs.sum is None else [programs.sum]
        bind = made.fresh()
        own = 1 + len(sums)  # x, or g, and the sum
        runs, state = [], slots[k].state
        elsewhere = [j for n, j in enumerate(arrays) if updates and (own + n, own + 1 + n) not in made.replaceable]
        if programs.in_place is None and updates:  # once for all: later programs share the slots with this one
            programs.in_place = bool(arrays) and not elsewhere
            for slot in slots if programs.in_place else ():
                slot.state = state
        scratch = {j: np.empty_like(state[j]) for j in elsewhere} if programs.in_place else {}
        self.copies.extend((state[j], written) for j, written in scratch.items())
        for i, slot in enumerate(slots):
            after = slots[(i + 1) % SLOTS]
            memory, results = [slot.x, *sums], [slot.g, *sums]
            if updates:
                memory += [slot.state[j] for j in arrays]
                results += [after.x, *(scratch.get(j, after.state[j]) for j in arrays)]
            if carries:
                memory, results = [*memory, slot.model_state], [*results, after.model_state]  # type: ignore[list-item]
            runs.append(bind(memory, results))
        self.source = self.source or bind.source
        return runs

    def run(
        self, programs: StepPrograms, k: int, data: tuple[Any, ...], weight: float, t: int, lr: float
    ) -> StepResult | None:
        """Make the update, or return None if the loss takes another path."""
        slots, numbers = programs.slots, programs.numbers
        slot, after = slots[k], slots[(k + 1) % SLOTS]
        if self.fused is not None:
            state = slot.state
            results = self.fused[k](*[state[i] for i in numbers], *data, weight, np.float64(t), np.float64(lr))
            if results is not None:
                for kept, written in self.copies:
                    kept[...] = written
                for i, value in zip(numbers, results, strict=False):
                    after.state[i] = value
                square, loss, *counts = results[len(numbers) :]
                return float(loss), float(square), counts
        if self.gradient_only is None:
            made = self.steps.without_update(programs, data)
            self.gradient_only = self._programs(programs, made, k, False)
        results = self.gradient_only[k](*data, weight)
        if results is None:
            return None
        square, loss, *counts = results
        programs.update(k, t, lr, float(loss))
        return float(loss), float(square), counts


def _same(recorded: TracedCall) -> Callable[[], bool] | None:
    return None if recorded.environment.empty else recorded.environment.same


def _loss_graph(programs: StepPrograms, recorded: TracedCall, data: tuple[Any, ...]) -> Graph:
    """Return the graph of the loss alone: (x, model state, data) -> loss."""
    slot = programs.slots[0]
    tape = Trace(concrete=False, name="loss")
    x = tape.input(slot.x, "x")
    rest = [] if slot.model_state is None else [tape.input(slot.model_state, "model_state")]
    rest += [tape.input(a, f"data{i}") for i, a in enumerate(data)]
    with tape.running():
        loss, *_ = inline(recorded, recorded.graph, [*_parameters(programs, x), *rest])
    return tape.graph([_node(tape, loss)])


def _step_graph(
    programs: StepPrograms, recorded: TracedCall, gradient: Graph, data: tuple[Any, ...], updates: bool
) -> Graph:
    """Return the graph of a step.

    (x, sum, state arrays, model state; state numbers, data, weight, t, lr) ->
    (g, sum, x, state arrays, model state; state numbers, g · g, loss, counts). Without updates there is no state, and
    without ``programs.sum`` no sum.
    """
    slot = programs.slots[0]
    tape = Trace(concrete=False, name="step")
    x, sums = tape.input(slot.x, "x"), [] if programs.sum is None else [tape.input(programs.sum, "sum")]
    state: list[Any] = list(slot.state)
    if updates:
        for i in programs.arrays:
            state[i] = tape.input(slot.state[i], f"state{i}")
    model_state = None if slot.model_state is None else tape.input(slot.model_state, "model_state")
    if updates:
        for i in programs.numbers:
            state[i] = tape.input(slot.state[i], f"state{i}")
    inputs = [tape.input(a, f"data{i}") for i, a in enumerate(data)]
    weight = tape.input(np.float64(1), "weight")
    with tape.running():
        values = [*_parameters(programs, x), *(() if model_state is None else (model_state,)), *inputs]
        results = inline(recorded, gradient, values)
        wanted = 1 + (model_state is not None) + programs.model.counts
        (loss, *others), parts = results[:wanted], results[wanted:]
        passed_on = [others.pop(0)] if model_state is not None else []
        g: Any = np.concatenate([part.reshape(-1) for part in parts])
        square = np.sum(np.square(g.astype(np.float64)))
        if not updates:
            sums = [total + g * weight.astype(g.dtype) for total in sums]
            return tape.graph([_node(tape, value) for value in (g, *sums, *passed_on, square, loss, *others)])
        t, lr = (tape.input(np.float64(1), name) for name in ("t", "lr"))
        rule = _rule_graph(programs)
        after, *states = inline(rule, rule.graph, [x, g, t, lr, loss.astype(np.float64), *state])
        arrays = [states[i] for i in programs.arrays]
        numbers = [states[i] for i in programs.numbers]
        # last: it is added to in place, so no guard may fail after it
        sums = [total + g * weight.astype(g.dtype) for total in sums]
    results = [g, *sums, after, *arrays, *passed_on, *numbers, square, loss, *others]
    return tape.graph([_node(tape, value) for value in results])


def _parameters(programs: StepPrograms, x: Any) -> list[Any]:
    """Return the arrays of which the flat parameters consist, as the loss was traced with them."""
    return programs.layout.parts(programs.layout.view(x))


def _rule_graph(programs: StepPrograms) -> TracedCall:
    """Trace the update: (x, g, t, lr, fun, *state) -> (x, *state)."""
    slot, optimizer, layout = programs.slots[0], programs.optimizer, programs.layout

    def update(x: Any, g: Any, t: Any, lr: Any, fun: Any, *state: Any) -> tuple[Any, ...]:
        # as Python's numbers, t, lr and fun take the precision of x
        after, states = optimizer.step(x, g, state, t.item(), lr.item(), fun=fun.item(), layout=layout)
        return (after, *states)

    numbers = (np.float64(2.0), np.float64(1e-3), np.float64(1.0))
    values = (slot.x, np.full_like(slot.x, 1e-3), *numbers, *slot.state)
    return record_call(update, Leaves.of(update, values, {}, [0]), scalar=False)


def _node(tape: Trace, value: Any) -> int:
    return current_node(value) if type(value) is Traced else tape.constant(value)
