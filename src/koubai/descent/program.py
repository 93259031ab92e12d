"""A descent as graphs for machine code: the update, the bounds and the norm, traced from the text that Python runs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from koubai.descent.objective import Bounds, largest_of
from koubai.descent.optimizers import Optimizer, State
from koubai.descent.schedules import Schedule
from koubai.descent.stopping import GROWTH, PATIENCE, Point
from koubai.errors import CompileError, CompileWarning, TraceError
from koubai.execute import native
from koubai.execute.choose import choose_descent
from koubai.execute.elements import Unsuitable
from koubai.execute.native import REACHED, REFUSED, REMARKABLE, DescentGraphs
from koubai.graph.formula import traced
from koubai.graph.trace import Graph, run_nodes
from koubai.parameters import Layout

__all__ = ["Engine", "descent_graphs"]


def _scalars() -> list[tuple[str, Any, bool]]:
    return [(name, np.float64(1.0), True) for name in ("t", "lr", "fun")]


def _named(state: Sequence[Any]) -> list[tuple[str, Any, bool]]:
    return [(f"s{i}", np.asarray(part)[()], False) for i, part in enumerate(state)]


def descent_graphs(
    value: Graph, optimizer: Optimizer, state: Sequence[Any], layout: Layout, bounds: Bounds | None
) -> DescentGraphs:
    """Return the graphs of a descent whose value and gradient is ``value``.

    Raises TraceError where the rule needs Python: it evaluates f itself, or looks at numbers.
    """
    if "evaluate" in optimizer.rule.uses:
        raise TraceError(f"{type(optimizer).__name__} evaluates f itself", "it runs in Python")
    x = np.zeros(layout.size, layout.dtype)
    given = [(name, x, False) for name in ("x", "g", "low", "high")]

    def update(x: Any, g: Any, low: Any, high: Any, t: Any, lr: Any, fun: Any, *state: Any) -> Sequence[Any]:
        after, states = optimizer.step(x, g, state, t, lr, fun=fun, layout=layout)
        if bounds is None:
            return [after, False, *states]
        inside = Bounds(low, high).project(after)
        return [inside, np.any(inside != after), *states]

    def measure(x: Any, g: Any, low: Any, high: Any) -> Sequence[Any]:
        free = g if bounds is None else Bounds(low, high).free(x, g)
        return [np.max(np.abs(free)), optimizer.clips(x, g, layout)]

    return DescentGraphs(
        value,
        traced("update", [*given, *_scalars(), *_named(state)], update),
        traced("measure", given, measure),
        tuple(np.shape(part) for part in state),
    )


class Engine:
    """Makes the unremarkable steps of a descent in machine code; the others it hands to the rules for stopping.

    Every good step is computed by the same code, whoever judges it, so that a descent has the same bits however it is
    cut into legs. Where f takes another path (a guard fails) or is not finite, Python makes the step.
    """

    FIRST, LARGEST = 1024, 65_536  # steps a call: a signal is answered between two calls
    WORK = 2**24  # elements computed a call, about 10 ms
    PATHS = 8  # of f that get machine code; a descent that meets more goes on in Python

    def __init__(self, descent: Any) -> None:
        self.descent = descent
        self.legs: dict[int, _Leg | None] = {}
        self.kept: list[Any] = []  # the paths themselves, so that no other takes an identity in ``legs``
        self.leg: _Leg | None = None  # the one that made the last step
        self.length = self.FIRST
        self.idle = 0  # Python steps to be made before machine code is tried again
        self.patience = 1
        self.steps = 0  # made in machine code

    @classmethod
    def of(cls, descent: Any) -> tuple[Engine | None, str]:
        """Return the engine of a descent, or None, and the reason for either."""
        objective, optimizer = descent.objective, descent.optimizer
        if objective.program is None:
            return None, "the gradient does not come from backpropagation"
        if descent.feed is not None:
            return None, "mini-batches are read in Python"
        if "evaluate" in optimizer.rule.uses:
            return None, f"{type(optimizer).__name__} evaluates f itself"
        if isinstance(optimizer.lr, Schedule) and optimizer.lr.start() != ():
            return None, "the schedule looks at f"
        graph = objective.path(descent.start).graph
        chosen, reason = choose_descent(graph, descent.stopping.max_steps)
        return (cls(descent), reason) if chosen else (None, reason)

    def advance(self) -> bool:
        """Make steps. True: go on with another call; False: the next step is Python's."""
        descent = self.descent
        if self.idle:
            self.idle, self.leg = self.idle - 1, None
            return False
        leg = self.leg if self.leg is not None and self.leg.path.same() else self._found()
        self.leg = None
        if leg is None:
            return False
        made, why = 0, REMARKABLE
        end = min(descent.point.t + self.length, descent.stopping.max_steps - 1)
        if descent.checkpoint is not None and descent.checkpoint.steps is not None:
            end = min(end, descent.point.t + descent.checkpoint.steps - descent.checkpoint.step)
        if end > descent.point.t:
            made, why = leg.run(end)
            self.steps += made
            if descent.checkpoint is not None:
                descent.checkpoint.step += made
            self.length = min(2 * self.length, self.LARGEST, max(1, self.WORK // leg.operations))
        if why == REACHED:
            self.leg = leg
            return True
        if why == REMARKABLE and self._one_step(leg):
            return True
        # perhaps f takes another path from here on that is known already
        if why == REFUSED and any(self._one_step(other) for other in self.legs.values() if other not in (None, leg)):
            return True
        self.idle, self.patience = (0, 1) if made else (self.patience, min(2 * self.patience, 64))
        return False

    def _one_step(self, leg: _Leg | None) -> bool:
        """Make the next step whatever the rules for stopping say, and ask them then; False: it can't be made so."""
        after = None if leg is None else leg.one_step()
        if after is None:
            return False
        point, self.descent.state = after
        self.descent._arrive(point)
        self.steps, self.patience, self.leg = self.steps + 1, 1, leg
        return True

    def _found(self) -> _Leg | None:
        """Return the memory and the code for the path that f takes here."""
        descent = self.descent
        path = descent.objective.path(descent.point.x)
        if path is None:
            return None
        if id(path) not in self.legs:
            if len(self.legs) >= self.PATHS:
                return None
            self.kept.append(path)
            self.legs[id(path)] = self._made(path)
        leg = self.legs[id(path)]
        return leg if leg is not None and path.same() else None

    def _made(self, path: Any) -> _Leg | None:
        descent = self.descent
        try:
            graphs = descent_graphs(path.graph, descent.optimizer, descent.state, descent.layout, descent.bounds)
            leg = _Leg(graphs, descent, path)
        except (TraceError, Unsuitable):
            return None
        if leg.code.library.origin != "memory":
            try:
                leg.check()
            except CompileError as error:
                warnings.warn(CompileWarning(error), stacklevel=2)
                return None
        return leg


class _Leg:
    """The code and the memory of one path of f."""

    def __init__(self, graphs: DescentGraphs, descent: Any, path: Any) -> None:
        self.descent, self.path = descent, path
        self.graphs = graphs
        stopping = descent.stopping
        self.code = native.Descent(graphs, PATIENCE, (stopping.ftol, stopping.xtol) != (None, None))
        self.operations = graphs.operations
        n, dtype = graphs.size, graphs.dtype
        bounds = descent.bounds
        self.widths = np.cumsum([math.prod(shape) for shape in graphs.states], dtype=int)
        self.memory = native.Leg(
            x=np.empty(n, dtype),
            g=np.empty(n, dtype),
            state=np.zeros(int(self.widths[-1]) if len(self.widths) else 1, dtype),
            low=np.full(n, -np.inf, dtype) if bounds is None else bounds.low,
            high=np.full(n, np.inf, dtype) if bounds is None else bounds.high,
            best=np.empty(2 * n + 1, dtype),
        )

    def _load(self) -> None:
        """Copy the descent into the memory of the loop."""
        descent, memory = self.descent, self.memory
        point, stopping, start = descent.point, descent.stopping, descent.stopping.start
        memory.x[:], memory.g[:] = point.x, point.g
        if len(self.widths):
            memory.state[:] = np.concatenate([np.ravel(part) for part in descent.state])
        scale = max(1.0, abs(start.fun))
        largest = GROWTH * max(1.0, float(np.linalg.norm(start.x.astype(np.float64))))
        numbers = memory.numbers
        numbers[native.FUN], numbers[native.NORM] = point.fun, point.grad_norm
        numbers[native.GTOL] = stopping.gtol if stopping.gtol > 0 else -1.0
        numbers[native.TARGET] = -np.inf if stopping.target is None else stopping.target
        numbers[native.F_LIMIT] = start.fun + GROWTH * scale * (1 - 1e-9)
        numbers[native.X2_LIMIT] = min(largest * largest * (1 - 1e-9), np.finfo(np.float64).max)
        numbers[native.FTOL] = -1.0 if stopping.ftol is None else stopping.ftol
        numbers[native.XTOL] = -1.0 if stopping.xtol is None else stopping.xtol
        numbers[native.NEAR] = start.fun + 10 * scale
        numbers[native.STEEP_G], numbers[native.STEEP_X] = stopping.steepest**2, 1.0
        numbers[native.TRAVELLED], numbers[native.BEST] = stopping.travelled, descent.best.fun
        counts = memory.counts
        counts[native.T], counts[native.UNCHANGED], counts[native.BEST_T] = point.t, stopping.unchanged, -1
        counts[native.CLIPPED], counts[native.PROJECTED] = 0, point.projected
        recorder = descent.recorder
        counts[native.MASK] = -1 if recorder.record == "off" else recorder.stride - 1

    def _rates(self, end: int) -> tuple[Any, int]:
        """Return the rates of the updates after point.t, …, end, and how many of these points can be reached."""
        descent = self.descent
        if not callable(descent.optimizer.lr):
            return np.array([descent.lr]), end
        rates = [descent.lr]
        for t in range(descent.point.t + 1, end + 1):
            try:
                rates.append(descent.optimizer.rate(t, descent.memory))
            except Exception:  # the schedule's fault comes up where it belongs, when the step is reached
                return np.array(rates), t - 1
        return np.array(rates), end

    def run(self, end: int) -> tuple[int, int]:
        """Make steps up to ``end`` and record them; return how many, and why no more."""
        descent, memory = self.descent, self.memory
        begin = descent.point.t
        memory.lr, end = self._rates(end)
        if end == begin:
            return 0, REMARKABLE
        self._load()
        counts, numbers, mask = memory.counts, memory.numbers, int(memory.counts[native.MASK])
        counts[native.T_END], counts[native.LR_STRIDE] = end, len(memory.lr) > 1
        n = self.graphs.size
        memory.rows = np.empty((1 if mask < 0 else end // (mask + 1) - begin // (mask + 1) + 1, n + native.ROW))
        why = self.code.run(memory)
        made = int(counts[native.T]) - begin
        if not made:
            return 0, why
        t = begin + made
        point = Point(
            t, memory.x.copy(), float(numbers[native.FUN]), memory.g.copy(), float(numbers[native.NORM]),
            projected=bool(counts[native.PROJECTED]),
        )  # fmt: skip
        if counts[native.BEST_T] >= 0:
            best = memory.best.copy()
            descent.best = Point(
                int(counts[native.BEST_T]), best[:n], float(numbers[native.BEST]), best[n : 2 * n], float(best[-1])
            )
        stopping = descent.stopping
        stopping.last, stopping.unchanged = point, int(counts[native.UNCHANGED])
        stopping.steepest = math.sqrt(numbers[native.STEEP_G] / numbers[native.STEEP_X])
        stopping.travelled = float(numbers[native.TRAVELLED])
        descent.objective.nfev += made
        descent.objective.njev += made
        descent.state = self._states()
        table = memory.lr
        descent.lr = float(table[min(made, len(table) - 1)])
        descent.point = point
        rows = memory.rows[: counts[native.ROWS]]
        ts = np.arange(begin // (mask + 1) + 1, t // (mask + 1) + 1) * (mask + 1) if mask >= 0 else np.zeros(0, int)
        columns = np.empty((len(rows), 5))
        columns[:, :2], columns[:, 3:] = rows[:, :2], rows[:, 2:4]
        columns[:, 2] = table[ts - begin] if len(table) > 1 else table[0]
        last = (
            t, point.x, point.fun, point.grad_norm, descent.lr, bool(counts[native.CLIPPED]), point.projected
        )  # fmt: skip
        descent.recorder.add_rows(ts, rows[:, native.ROW :], columns, last)
        return made, why

    def _states(self) -> State:
        flat = self.memory.state.copy()
        parts = np.split(flat, self.widths[:-1]) if len(self.widths) else []
        return tuple(part.reshape(shape)[()] if not shape else part.reshape(shape)
                     for part, shape in zip(parts, self.graphs.states, strict=True))  # fmt: skip

    def one_step(self) -> tuple[Point, State] | None:
        """Return the next point and state, whatever the rules for stopping say; None: Python has to make it."""
        memory, t = self.memory, self.descent.point.t
        self._load()
        numbers, counts = memory.numbers, memory.counts
        numbers[[native.GTOL, native.FTOL, native.XTOL]] = -1.0
        numbers[native.TARGET] = -np.inf
        numbers[[native.F_LIMIT, native.X2_LIMIT]] = np.inf
        counts[native.T_END], counts[native.LR_STRIDE], counts[native.MASK] = t + 1, 0, -1
        counts[native.UNCHANGED] = -PATIENCE
        memory.lr, memory.rows = np.array([self.descent.lr]), np.empty((1, self.graphs.size + native.ROW))
        if self.code.run(memory) != REACHED:
            return None
        self.descent.objective.nfev += 1
        self.descent.objective.njev += 1
        point = Point(
            t + 1, memory.x.copy(), float(numbers[native.FUN]), memory.g.copy(), float(numbers[native.NORM]),
            projected=bool(counts[native.PROJECTED]),
        )  # fmt: skip
        return point, self._states()

    def check(self) -> None:
        """Compare the first step with what the graphs mean. Raises CompileError where they differ beyond rounding.

        The bound is 1e4 units in the last place of the largest number that either computes on the way.
        """
        descent = self.descent
        evaluations = descent.objective.nfev, descent.objective.njev
        made = self.one_step()
        descent.objective.nfev, descent.objective.njev = evaluations
        if made is None:
            return
        point, state = made
        low, high = self.memory.low, self.memory.high
        t, lr = descent.point.t + 1, descent.lr
        update, value = self.graphs.update, self.graphs.value
        x, g = descent.point.x, descent.point.g
        computed = run_nodes(update, [x, g, low, high, t, lr, descent.point.fun, *descent.state])
        expected = [computed[i] for i in update.outputs]
        self._compare("x", point.x, expected[0], computed)
        for k, (found, wanted) in enumerate(zip(state, expected[2:], strict=True)):
            self._compare(f"state {k}", found, wanted, computed)
        leaves = descent.layout.view(point.x)
        computed = run_nodes(value, list(leaves.values()) if isinstance(leaves, dict) else [leaves])
        results = [computed[i] for i in value.outputs]
        self._compare("f", point.fun, results[0], computed)
        self._compare("the gradient", point.g, np.concatenate([np.ravel(part) for part in results[1:]]), computed)

    def _compare(self, what: str, found: Any, expected: Any, computed: Sequence[Any]) -> None:
        bound = 1e4 * np.finfo(self.graphs.dtype).eps * largest_of(computed)
        difference = np.abs(np.asarray(found, np.float64) - np.asarray(expected, np.float64))
        if not np.all(difference <= bound) and np.all(np.isfinite(expected)):
            i = int(np.argmax(difference))
            raise CompileError(
                f"machine code gives {what} = {np.ravel(found)[i]!r}, NumPy {np.ravel(expected)[i]!r}, and they may "
                f"differ by {bound:.2g}; this is a fault of koubai's, please report it"
            )
