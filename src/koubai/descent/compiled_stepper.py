"""The steps of a descent in machine code, or by a loop of Python numbers: all steps that the rule alone can make."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from koubai.derivatives.paths import Path
from koubai.descent.descent import Descent
from koubai.descent.objective import largest_of
from koubai.descent.optimizers import Optimizer, State
from koubai.descent.record import Rows
from koubai.descent.schedules import Schedule
from koubai.descent.step_program import descent_graphs, limits
from koubai.descent.steppers import PythonStepper
from koubai.descent.stopping import Point
from koubai.errors import CompileError, CompileWarning, TraceError, warn
from koubai.execute import native
from koubai.execute.abi import (
    BEST,
    BEST_NORM,
    BEST_T,
    CLIPPED,
    FUN,
    NO_LIMITS,
    NORM,
    NUMBERS,
    PROJECTED,
    REACHED,
    REFUSED,
    REMARKABLE,
    DescentGraphs,
    SegmentState,
    T,
)  # fmt: skip
from koubai.execute.choose import BOUND, LEAST, NATIVE_FROM, check_result, choose_native
from koubai.execute.elements import NotLowerable
from koubai.execute.floats import FloatsDescent
from koubai.graph.call import Leaves
from koubai.graph.graph import CONSTANT, Graph, run_nodes
from koubai.parameters import FloatArray

__all__ = ["REPEATED", "CompiledLoops", "CompiledStepper", "Segment"]


_ARRAY = np.ndarray
COMPARED = 2**16  # bytes of what f takes after x, up to which two descents are compared by it


REPEATED = f"descents of this kind have made {NATIVE_FROM} steps: compiling pays"


class CompiledStepper:
    """Makes the unremarkable steps of a descent in machine code; the others it hands to the rules for stopping.

    Every good step is computed by the same code, no matter what checks it, so that a descent has the same bits however
    it is cut into segments. If f takes another path (a guard fails) or is not finite, Python makes the step.
    """

    FIRST, LARGEST = 1024, 65_536  # steps a call: a signal is answered between two calls
    WORK = 2**24  # elements computed a call, about 10 ms
    REST = 64  # Python steps before a path without a loop is looked up again: f may have taken another by then
    FEW = 4  # steps in a row, or turns from path to path, beyond which machine code doesn't pay
    PATHS = 8  # of f that get machine code; a descent that meets more goes on in Python

    def __init__(self, python: PythonStepper) -> None:
        self.python, self.descent = python, python.descent
        self.segments: dict[int, Segment | None] = {}
        self.paths: list[Path] = []  # the paths themselves, so that no other one gets an id that is in ``segments``
        self.segment: Segment | None = None  # the one that made the last step
        self.length = self.FIRST
        self.idle = 0  # Python steps to be made before machine code is tried again
        self.patience = 1
        self.turns = 0  # from one path to another, with few steps between them

    @classmethod
    def of(cls, python: PythonStepper) -> tuple[CompiledStepper | None, str]:
        """Return the stepper of a descent, or None: ``python`` makes all steps; and the reason for either."""
        descent = python.descent
        objective, optimizer = descent.objective, descent.optimizer
        if objective.program is None:
            return None, "the gradient does not come from backpropagation"
        if descent.batches is not None:
            return None, "mini-batches are read in Python"
        if "evaluate" in optimizer.rule.uses:
            return None, f"{type(optimizer).__name__} evaluates f itself"
        if isinstance(optimizer.lr, Schedule) and optimizer.lr.start() != ():
            return None, "the schedule looks at f"
        if descent.stopping.max_steps < LEAST:
            return None, f"fewer than {LEAST} steps"
        return cls(python), "f has no loop of its own"

    def leave(self) -> None:
        """End a descent."""
        for segment in self.segments.values():
            if segment is not None:
                segment.leave()
        self.segments.clear()
        self.segment = None

    def advance(self, many: bool) -> None:
        """Make many steps; or one, by the rule itself, if machine code can't."""
        if not self._advances():
            self.python.advance(many)

    def _advances(self) -> bool:
        """Make steps. False: the next one is Python's."""
        descent = self.descent
        if self.idle:
            self.idle, self.segment = self.idle - 1, None
            return False
        segment = self.segment if self.segment is not None and self.segment.path.same() else self._segment_here()
        self.segment = None
        if segment is None or not segment.ready():
            self.idle = self.REST
            return False
        steps, why = 0, REMARKABLE
        limit = int(descent.stopping.max_steps)
        end = segment.segment_end(min(descent.point.t + self.length, limit))
        if descent.checkpoint is not None and descent.checkpoint.steps is not None:
            end = min(end, descent.point.t + descent.checkpoint.steps - descent.checkpoint.step)
        if end > descent.point.t:
            steps, why = segment.run(end)
            self._count(segment, steps)
            if descent.checkpoint is not None:
                descent.checkpoint.step += steps
            self.length = min(4 * self.length, self.LARGEST, max(1, self.WORK // segment.operations))
        if why == REACHED:
            self.segment = segment
            if descent.point.t == limit:
                descent.run_out()
            return True
        if why == REMARKABLE and self._one_step(segment):
            return True
        # Perhaps f takes another path from here on, a known one. If it changes step by step, Python is faster.
        self.turns = self.turns + 1 if steps < self.FEW else 0
        others = (other for other in self.segments.values() if other not in (None, segment))
        if why == REFUSED and self.turns < self.FEW and any(map(self._one_step, others)):
            return True
        self.idle, self.patience = (0, 1) if steps >= self.FEW else (self.patience, min(2 * self.patience, 64))
        return False

    def _one_step(self, segment: Segment | None) -> bool:
        """Make the next step whatever the rules for stopping say, and apply them then; False: it can't be made so."""
        after = segment.one_step() if segment is not None and segment.ready() else None
        if after is None:
            return False
        point, self.descent.state = after
        self.descent.arrive(point)
        self._count(segment, 1)  # type: ignore[arg-type]
        self.segment = segment
        return True

    def _count(self, segment: Segment, steps: int) -> None:
        self.descent.compiled_steps += steps
        self.descent.native_steps += steps if segment.is_native else 0

    def _segment_here(self) -> Segment | None:
        """Return the memory and the code for the path that f takes here."""
        descent = self.descent
        path = descent.objective.path(descent.point.x)
        if path is None:
            return None
        if id(path) not in self.segments:
            if len(self.segments) >= self.PATHS:
                return None
            self.paths.append(path)
            self.segments[id(path)] = self._compile(path)
        segment = self.segments[id(path)]
        return segment if segment is not None and path.same() else None

    def _compile(self, path: Path) -> Segment | None:
        try:
            return CompiledLoops.of(self.descent, path).segment(self.descent, path)
        except TraceError as error:
            self.descent.reason = error.reason
            return None


def _of_x_alone(descent: Descent, path: Path) -> tuple[Graph, Any]:
    """Return the value and gradient of f along a path as a graph of x alone, and a key that identifies the graph.

    What f takes after x becomes constant in it. A key of None: that is too large to compare, and the graph serves once.
    """
    graph, objective = path.graph, descent.objective
    if not objective.batch:
        return graph, ()
    leaves = Leaves.of(objective.f, [descent.layout.view(descent.point.x), *objective.batch], {}, (0,))
    count, nodes = len(leaves.active), list(graph.nodes)
    values = [np.array(value)[()] for value in leaves.values[count:]]
    for i, value in zip(graph.inputs[count:], values, strict=True):
        nodes[i] = nodes[i]._replace(op=CONSTANT, params={"value": value})
    alone = Graph(nodes, graph.inputs[:count], graph.outputs, graph.guards, graph.kinks, graph.name)
    small = sum(value.nbytes for value in values) <= COMPARED
    return alone, tuple(value.tobytes() for value in values) if small else None


class CompiledLoops:
    """The code of one path of f for one kind of descent, which serves every descent of this kind.

    numbers: the loop of Python numbers, if there can be one; machine: machine code, once it was compiled. If both have
    the same bits, it doesn't matter which of them makes a step: then machine code is compiled once ``numbers`` has made
    enough steps, no matter in which descents, and makes every step of the descents that follow.
    """

    KINDS = 16  # kept for a path: as many optimizers as one picture compares
    SPARE = 4  # of the memory

    def __init__(self, graphs: DescentGraphs, tolerances: bool) -> None:
        self.graphs, self.tolerances = graphs, tolerances
        self.operations = graphs.operations
        self.numbers: FloatsDescent | None = None
        self.machine: native.Descent | None = None
        self.checked = False  # whether ``numbers`` was found right
        self.steps_by_numbers = 0  # in all descents
        ends = [0, *itertools.accumulate(math.prod(shape) for shape in graphs.states)]
        self.parts = [
            slice(*pair) for pair in itertools.pairwise(ends)
        ]  # where each array of the state is in the flat one
        self.spare: list[Segment] = []  # that no descent uses
        with contextlib.suppress(NotLowerable):
            self.numbers = FloatsDescent(graphs, tolerances)

    def after(self, t: int) -> int | None:
        """Return how many steps count as made by Python numbers, at step ``t`` of a descent; None: they can't be."""
        if self.numbers is None:
            return None
        return max(t, self.steps_by_numbers) if self.numbers.exact else t

    def segment(self, descent: Descent, path: Path) -> Segment:
        """Return a segment for a descent on this path."""
        try:
            segment = self.spare.pop()
        except IndexError:
            segment = Segment(self)
        segment.begin(descent, path)
        return segment

    @classmethod
    def of(cls, descent: Descent, path: Path) -> CompiledLoops:
        """Return the loops for a descent along this path. Raises TraceError if its rule needs Python."""
        optimizer, stopping = descent.optimizer, descent.stopping
        tolerances = (stopping.ftol, stopping.xtol) != (None, None)
        kind, hyperparameters = type(optimizer), optimizer.settings
        graph, args = _of_x_alone(descent, path)
        key = (kind, optimizer.semantics, hyperparameters, descent.layout, descent.bounds is None, tolerances, args)
        loops: CompiledLoops | None = None if args is None else path.specializations.get(key)
        if loops is None:
            graphs = descent_graphs(graph, optimizer, descent.state, descent.layout, descent.bounds)
            loops = cls(graphs, tolerances)
            # of optimizers of other classes, the key may not say everything
            if args is not None and kind.__module__ == Optimizer.__module__:
                path.specializations[key] = loops
                while len(path.specializations) > cls.KINDS:
                    path.specializations.pop(next(iter(path.specializations)), None)
        return loops


class Segment:
    """The memory of one descent on one path of f, and the code in use there."""

    def __init__(self, loops: CompiledLoops) -> None:
        self.loops, self.graphs = loops, loops.graphs
        self.operations, self.parts = loops.operations, loops.parts
        n, dtype = self.graphs.size, self.graphs.dtype
        size = self.parts[-1].stop if self.parts else 0
        low, high = np.full(n, -np.inf, dtype), np.full(n, np.inf, dtype)  # they stay, unless descents have bounds
        self.memory = SegmentState(np.empty(n, dtype), np.empty(n, dtype), np.zeros(max(1, size), dtype), low, high)

    def begin(self, descent: Descent, path: Path) -> None:
        """Serve this descent from here on."""
        self.descent, self.path = descent, path
        self.code: FloatsDescent | native.Descent | None = None  # the one in use
        self.is_decided = False  # whether ``code`` is final: machine code is asked for only once
        self.loaded_point: Point | None = None  # the point whose x, g and state the memory holds
        self.limits = limits(descent.stopping)
        if (bounds := descent.bounds) is not None:
            self.memory.low[:], self.memory.high[:] = bounds.low, bounds.high

    def leave(self) -> None:
        """Serve another descent."""
        self.descent = self.path = self.loaded_point = None  # type: ignore[assignment]
        self.memory.release()
        if len(self.loops.spare) < self.loops.SPARE:
            self.loops.spare.append(self)

    @property
    def is_native(self) -> bool:
        return self.code is not None and self.code is self.loops.machine

    def ready(self) -> bool:
        """Choose the code for the next steps, which follows from the step alone; return whether there is any."""
        if self.is_decided:
            return self.code is not None
        descent, loops = self.descent, self.loops
        after = loops.after(descent.point.t)
        if loops.machine is not None and loops.numbers is not None and loops.numbers.exact:
            self.code, self.is_decided, descent.reason = loops.machine, True, REPEATED
        elif self.code is None or after is None or after >= NATIVE_FROM:
            self.is_decided = after is None or after >= NATIVE_FROM
            wanted, reason = choose_native(self.operations, descent.stopping.max_steps, after)
            if wanted and loops.machine is None:
                try:
                    machine = native.Descent(self.graphs, loops.tolerances)
                    if machine.library.origin != "memory":
                        self._check(machine)
                    loops.machine = machine
                except NotLowerable as error:
                    wanted, reason = False, f"no machine code: {error}"
                except CompileError as error:
                    wanted, reason = False, str(error)
                    warn(CompileWarning(error))
            if not wanted and loops.numbers is not None:
                if not loops.checked:
                    self._check(loops.numbers)
                    loops.checked = True
                if not self.is_decided:
                    reason = f"a loop of Python numbers makes the first {NATIVE_FROM} steps"
            self.code = loops.machine if wanted else loops.numbers
            if wanted and descent.point.t < NATIVE_FROM and after:
                reason = REPEATED
            if wanted or not descent.native_steps:
                descent.reason = reason
        return self.code is not None

    def segment_end(self, end: int) -> int:
        """Return the step, at most ``end``, at which another code may have to take over."""
        if self.is_decided:
            return end
        t = self.descent.point.t
        return int(min(end, t + NATIVE_FROM - (self.loops.after(t) or 0)))

    def _load(self, end: int, rates: float | FloatArray, rows: Rows | None, mask: int) -> None:
        """Copy the descent into the memory of the loop, which goes to step ``end``. rates: one, or an array.

        rows: None: the step is made whatever the rules for stopping say.
        """
        descent, memory = self.descent, self.memory
        point, t = descent.point, descent.point.t
        if point is not self.loaded_point:
            memory.x[:], memory.g[:] = point.x, point.g
            if descent.state_is_lazy and not t and descent.optimizer.begins_with_zeros:
                memory.state[:] = 0.0
            else:
                for place, part in zip(self.parts, descent.state, strict=True):
                    memory.state[place] = part.ravel() if type(part) is _ARRAY and part.ndim > 1 else part
            self.loaded_point = point
        limits = NO_LIMITS if rows is None else (descent.stopping.limit or -1.0, *self.limits)
        # in the order of FUN, …, BEST_NORM and of T, …, PROJECTED
        memory.fill(
            point.fun, *limits, descent.best.fun, 0.0, 0.0,
            t, end, not isinstance(rates, float), rows is None, mask, 0, -1, 0, 0,
        )  # fmt: skip
        memory.bind(rows, rates)

    def run(self, end: int) -> tuple[int, int]:
        """Make steps up to ``end`` and record them; return how many, and why no more."""
        descent, memory = self.descent, self.memory
        before = descent.point.t
        end, mask, rows = descent.recorder.reserve(before, end)
        rates: float | FloatArray = descent.lr
        if callable(descent.optimizer.lr):
            rates, end = descent.rates(end)
        if end == before:
            return 0, REMARKABLE
        self._load(end, rates, rows, mask)
        why = self.code.run(memory)  # type: ignore[union-attr]
        fields = memory.fields()
        steps = fields[NUMBERS + T] - before
        if not self.is_native:
            self.loops.steps_by_numbers += steps
        if not steps:
            return 0, why
        point = descent.point = self.loaded_point = self._point(fields)
        if (t := fields[NUMBERS + BEST_T]) >= 0:
            best, n = memory.best.copy(), self.graphs.size
            descent.best = Point(t, best[:n], fields[BEST], best[n:], fields[BEST_NORM])
        stopping, objective = descent.stopping, descent.objective
        stopping.last, stopping.unchanged = point, 0
        objective.nfev += steps
        objective.njev += steps
        descent.state = partial(self._states, memory.state.copy())
        if not isinstance(rates, float):
            descent.lr = float(rates[steps])
        clipped = fields[NUMBERS + CLIPPED] != 0
        last = (point.t, point.x, point.fun, point.grad_norm, descent.lr, clipped, point.projected)
        descent.recorder.take(before, rates, last)
        return steps, why

    def _point(self, fields: Sequence[Any]) -> Point:
        """Return the point that the loop has reached. fields: all of its numbers and counts."""
        memory = self.memory
        projected = fields[NUMBERS + PROJECTED] != 0
        return Point(
            fields[NUMBERS + T], memory.x.copy(), fields[FUN], memory.g.copy(), fields[NORM], projected=projected
        )

    def _states(self, flat: FloatArray) -> State:
        """Return the arrays of the state that lie in one."""
        shapes = zip(self.parts, self.graphs.states, strict=True)
        return tuple([flat[place].reshape(shape) if shape else flat[place.start] for place, shape in shapes])

    def one_step(self) -> tuple[Point, State] | None:
        """Return the next point and state, whatever the rules for stopping say; None: Python has to make it."""
        memory, t = self.memory, self.descent.point.t
        self._load(t + 1, float(self.descent.lr), None, -1)
        self.loaded_point = None
        if self.code.run(memory) != REACHED:  # type: ignore[union-attr]
            return None
        self.descent.objective.nfev += 1
        self.descent.objective.njev += 1
        return self._point(memory.fields()), self._states(memory.state.copy())

    def _check(self, code: FloatsDescent | native.Descent) -> None:
        """Compare the first step with what the graphs mean. Raises CompileError if they differ beyond rounding."""
        descent = self.descent
        evaluations = descent.objective.nfev, descent.objective.njev
        before, self.code = self.code, code
        steps = self.one_step()
        self.code = before
        descent.objective.nfev, descent.objective.njev = evaluations
        if steps is None:
            return
        point, state = steps
        low, high = self.memory.low, self.memory.high
        t, lr = descent.point.t + 1, descent.lr
        update, value = self.graphs.update, self.graphs.value
        x, g = descent.point.x, descent.point.g
        computed = run_nodes(update, [x, g, low, high, t, lr, descent.point.fun, *descent.state])
        expected = [computed[i] for i in update.outputs]
        self._compare("x", point.x, expected[0], computed)
        for k, (found, wanted) in enumerate(zip(state, expected[2:], strict=True)):
            self._compare(f"state {k}", found, wanted, computed)
        computed = run_nodes(value, descent.layout.parts(descent.layout.view(point.x)))
        results = [computed[i] for i in value.outputs]
        self._compare("f", point.fun, results[0], computed)
        self._compare("the gradient", point.g, np.concatenate([np.ravel(part) for part in results[1:]]), computed)

    def _compare(self, what: str, found: Any, expected: Any, computed: Sequence[Any]) -> None:
        if not np.array_equal(found, expected, equal_nan=True):
            check_result(what, found, expected, BOUND * float(np.finfo(self.graphs.dtype).eps) * largest_of(computed))
