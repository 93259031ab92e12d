"""The descents that evaluate f themselves as one loop: steps up to one at which a rule for stopping may hold."""

from __future__ import annotations

import contextlib
import itertools
import math
import struct
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import FunctionType
from typing import Any, ClassVar, NamedTuple

import numpy as np

from koubai.derivatives.paths import Path
from koubai.derivatives.residuals import count
from koubai.descent import searches
from koubai.descent.optimizers import Optimizer
from koubai.descent.record import FEW_STEPS, Rows
from koubai.descent.rules import Rule
from koubai.descent.schedules import Schedule
from koubai.descent.step_program import limits
from koubai.descent.steppers import PythonStepper
from koubai.descent.stopping import EPS, Point, are_equal, largest
from koubai.errors import CompileError, CompileWarning, TraceError, quiet, warn
from koubai.execute import library, scalar_code
from koubai.execute.abi import address
from koubai.execute.replay import Columns, Replay
from koubai.execute.scalar_code import ANSWER, ASKED, AT, CALLED, EVALUATIONS, Block
from koubai.parameters import FloatArray

__all__ = ["Kind", "SearchStepper"]

LARGEST = 2**14  # parameters; beyond them the arrays of `koubai.descent.rules` are faster
MANY = 1024  # from which on it pays to have LLVM vectorise the loops, 0.2 s once on a machine
SMALL = 64  # up to which Python may make the first steps; of more, machine code makes all steps, or the rule itself
PAIRS = 100  # of L-BFGS
SQUARES = "levenberg_marquardt"
FEW, PRODUCTS = 32, 2**20  # parameters of least squares, and these times elements of J: beyond, LAPACK is faster
TEXTS: dict[str, FunctionType] = {
    text.__name__: text  # type: ignore[misc]
    for text in (
        searches.gradient_descent, searches.barzilai_borwein, searches.conjugate_gradient, searches.lbfgs,
        searches.levenberg_marquardt,
    )
}  # fmt: skip
WORDS = {  # what the VARIANT is, by its number
    "gradient_descent": ("line_search", ("armijo", "wolfe")),
    "barzilai_borwein": ("variant", ("long", "short")),
    "conjugate_gradient": ("variant", ("pr+", "fr")),
    "lbfgs": ("curvature_test", ("relative", "absolute")),
}
MACHINE_FROM = 300  # steps that Python makes by itself before machine code is loaded, which takes as long as they do
PRODUCTS_OF_A_STEP = 600  # of two numbers, that take Python as long as such a step
DESCENT = 8  # steps of least squares
STEPS, WORK = 512, 2**24  # in a row, and elements gone through in them, before a signal is answered
SCHEDULED = 32  # rates that are computed at a time
CACHED = 4  # of the same kind, for later descents
_FIELDS = struct.Struct(f"{searches.NUMBERS}d{searches.END}q")
_READ = struct.Struct(f"{searches.NUMBERS}d{searches.END + 1}q")
_T, _BEST_T, _END = (searches.NUMBERS + k for k in (searches.T, searches.BEST_T, searches.END))  # in what is read
PAUSE = 0.05  # seconds after which a descent reports where it is


class _Code:
    """The code that runs the texts: Python at first, then machine code, to the same bits."""

    def __init__(self) -> None:
        self.python_steps = 0  # steps by Python; one of ten parameters takes twice as long as one of a few
        self.machines: dict[str, scalar_code.Machine | None] = {}

    def of(self, name: str, n: int, ahead: int = 0) -> scalar_code.Machine | None:
        """Return the machine code of a rule for n parameters; None: Python makes the steps. ahead: how many it would
        make.
        """
        key = name if n < MANY else f"{name} of many"
        if key not in self.machines:
            if self.python_steps + ahead < MACHINE_FROM:
                return None
            self.machines[key] = None
            if library.available():
                try:
                    self.machines[key] = scalar_code.compiled(TEXTS[name], vectorise=n >= MANY)
                except CompileError as error:
                    warn(CompileWarning(error))
        return self.machines[key]


_code = _Code()


class Kind(NamedTuple):
    """The settings of an optimizer that a text needs, or ``suits`` False: the rule itself makes its steps."""

    name: str
    suits: bool
    history_size: int
    memory: int
    own: tuple[float, ...]  # C1, C2, LR_MIN, LR_MAX
    variant: int

    @classmethod
    def of(cls, optimizer: Optimizer) -> Kind:
        found: Kind | None = optimizer.derived.get(cls)
        if found is None:
            found = optimizer.derived[cls] = cls._made(optimizer)
        return found

    @classmethod
    def _made(cls, optimizer: Optimizer) -> Kind:
        name, hyper, lr = optimizer.rule.name, optimizer.hyperparameters, optimizer.lr
        history_size, memory = hyper.get("history_size", 0), hyper.get("memory", 0)
        suits = (
            type(optimizer).__module__ == Optimizer.__module__
            and not (hyper["weight_decay"] or hyper.get("groups"))
            and hyper["clipvalue"] is None
            and hyper["clipnorm"] is None
            and hyper.get("line_search") != "none"
            and max(history_size, memory) <= PAIRS
            and not (isinstance(lr, Schedule) and lr.start() != ())
        )
        word, choices = WORDS.get(name, ("", ("",)))
        own = tuple([hyper.get(each, 0.0) for each in ("c1", "c2", "lr_min", "lr_max")])
        return cls(name, suits, history_size, memory, own, choices.index(hyper.get(word, "")) if suits else 0)


class _Memory:
    """The arrays that a text works on, by the names of its parameters.

    state: the optimizer's, views of ``store``; begun: what is in it at the start of any descent.
    """

    spare: ClassVar[dict[Any, list[_Memory]]] = {}

    def __init__(self, key: tuple[Kind, int, int], rule: Rule, begun: Sequence[Any]) -> None:
        self.key, (kind, n, m) = key, key
        name = kind.name
        shapes = [np.shape(part) for part in begun]
        ends = itertools.accumulate(map(math.prod, shapes), initial=0)
        self.places = [(slice(*pair), shape) for pair, shape in zip(itertools.pairwise(ends), shapes, strict=True)]
        self.begun = np.concatenate([np.ravel(part) for part in begun])
        self.store, self.state = self.begun.copy(), {}
        for each, (place, shape) in zip(rule.state, self.places, strict=True):
            self.state[each] = self.store[place].reshape(shape or (1,))
        pairs = kind.history_size if name == "lbfgs" else 1
        scratch = max(n, pairs)
        fields = np.zeros(searches.NUMBERS + searches.COUNTS)
        self._fields = fields.data.cast("B")  # as bytes: Python reads and writes them ten times as fast
        given: dict[str, Any] = {
            "xs": np.zeros((4, n)), "gs": np.zeros((4, n)), "trials": np.zeros((4, 3)), "before": np.zeros((2, n)),
            "direction": np.zeros(scratch), "best": np.zeros(2 * n), "numbers": fields[: searches.NUMBERS],
            "counts": fields[searches.NUMBERS :].view(np.int64), "rates": np.zeros(1), "ends_next": np.zeros(2),
            "inverse_next": np.zeros((pairs, pairs)), "along_next": np.zeros(pairs), "column": np.zeros(scratch),
            "parts": np.zeros(scratch), "q": np.zeros(scratch), "row_fun": np.zeros(1), "row_norm": np.zeros(1),
            "row_x": np.zeros(n),
        }  # fmt: skip
        if name == SQUARES:
            given |= {each: np.zeros(n) for each in ("y", "sizes", "d", "scale_next", "along")}
            given |= {"r": np.zeros(m), "q": np.zeros(m), "columns": np.zeros((n, m)), "a": np.zeros((n, m))}
            given |= {"z": np.zeros((n, n)), "out": np.zeros(2)}
            self.r, self.columns = given["r"], given["columns"]
        self.arrays = given | self.state
        self.xs, self.gs, self.numbers, self.counts = (given[k] for k in ("xs", "gs", "numbers", "counts"))
        self.trials, self.before, self.best, self.rates = (given[k] for k in ("trials", "before", "best", "rates"))
        self.counts[searches.N], self.counts[searches.M], self.counts[searches.VARIANT] = n, m, kind.variant
        self._own = kind.own
        self.counts[searches.ROOM] = len(self.state["recent"]) if name == "barzilai_borwein" else pairs + 1
        code = TEXTS[name].__code__
        self.names = list(code.co_varnames[: code.co_argcount])
        self.block = Block([self.arrays[each] for each in self.names])
        self._nowhere = tuple([address(given[each]) for each in ("row_fun", "row_norm", "row_x")])
        self._rate, self.place = address(self.rates), address(self.xs)
        self._moving = [self.block.starts[self.names.index(each)] for each in ("rates", "row_fun", "row_norm", "row_x")]
        self._views: list[Any] | None = None

    def kept(self) -> Callable[[], tuple[Any, ...]]:
        """Return what gives the optimizer's state as it is here now, whatever becomes of the memory."""
        return partial(self._parted, self.store.copy())

    def _parted(self, flat: FloatArray) -> tuple[Any, ...]:
        return tuple([flat[place].reshape(shape) if shape else flat[place.start] for place, shape in self.places])

    def read(self) -> tuple[Any, ...]:
        """Return the optimizer's state as it is here now."""
        return self._parted(self.store.copy())

    def fill(self, given: Sequence[float], fun: float, best: float, promise: Sequence[float], *counts: int) -> None:
        """Set the first line of the numbers, f here and the least so far, the last line; and the counts before END."""
        _FIELDS.pack_into(self._fields, 0, *given, fun, 0.0, best, 0.0, *self._own, *promise, *counts)

    def fields(self) -> tuple[Any, ...]:
        """Return all numbers, then the counts up to END."""
        return _READ.unpack_from(self._fields)

    def bind(self, rates: FloatArray | None, rows: Rows | None) -> None:
        """Take these rates and rows."""
        self.moving = rates, rows
        rate, fun, norm, x = self._moving
        places = self.block.places
        places[rate] = self._rate if rates is None else address(rates)
        places[fun], places[norm], places[x] = self._nowhere if rows is None else rows.places[:3]

    def views(self) -> list[Any]:
        """Return the arguments for Python, which reads and writes the same memory."""
        if self._views is None:
            self._views = [_view(self.arrays[each]) for each in self.names]
        rates, rows = self.moving
        moving = {"rates": self.rates if rates is None else rates}
        if rows is not None:
            moving |= {"row_fun": rows["fun"], "row_norm": rows["grad_norm"], "row_x": rows["x"].reshape(-1)}
        return [
            _view(moving[each]) if each in moving else view for each, view in zip(self.names, self._views, strict=True)
        ]


def _view(array: Any) -> Any:
    return memoryview(array) if array.ndim == 1 else [memoryview(row) for row in array]


class SearchStepper:
    """Makes the steps of a descent that evaluates f itself; its memory holds the descent while it does.

    If a rule for stopping may hold after a step, Python gets the point; no step is made twice. Whatever f
    raises passes through, and the descent is then as it was after its last step.
    """

    def __init__(self, python: PythonStepper, kind: Kind) -> None:
        self.python, self.descent, self.kind, self.name = python, python.descent, kind, kind.name
        self.path: Path | None = None  # of f, to which the tables belong
        self.table: Replay | None = None
        self.columns: Columns | None = None  # of least squares
        self.loaded_point: Point | None = None  # the point whose state the memory holds
        self.begin: Point | None = None  # where the steps began
        self.asked: list[Point] = []  # what Python has evaluated in the present step
        self.deadline = 0.0
        self.ahead, self.fits = 0, True  # Python's time for a descent, in steps; whether J has room in memory
        self.bound: tuple[int, ...] = ()  # the tables that the memory leads to, by their addresses
        self.memory: _Memory = None  # type: ignore[assignment]  # of least squares, until their number is known
        self.limits = limits(self.descent.stopping)
        if self.name != SQUARES:
            self._take_memory(0)

    @classmethod
    def of(cls, python: PythonStepper) -> SearchStepper | None:
        """Return the loop of a descent, or None: the rule itself makes its steps, by ``python``."""
        descent = python.descent
        kind, objective, n = Kind.of(descent.optimizer), descent.objective, descent.layout.size
        suits = (
            kind.name in TEXTS
            and kind.suits
            and objective.program is not None
            and descent.batches is None
            and descent.bounds is None
            and descent.layout.dtype == np.float64
            and n <= (FEW if kind.name == SQUARES else LARGEST)
        )
        if not suits or (n > SMALL and _code.of(kind.name, n, MACHINE_FROM) is None):
            return None
        path = objective.path(descent.start)
        try:
            found: SearchStepper = path.specializations[kind].pop()  # type: ignore[union-attr]
        except (AttributeError, KeyError, IndexError):
            return cls(python, kind)
        found.python, found.descent, found.path = python, descent, path
        found.limits = limits(descent.stopping)
        return found

    def leave(self) -> None:
        """End a descent; what was made for it is left to the next one on the same path."""
        descent, path, spare = self.descent, self.path, None
        if path is not None:
            if self.memory is not None and self.fits and self.memory.xs.shape[1] <= SMALL:
                spare = path.specializations.setdefault(self.kind, [])
                spare = spare if len(spare) < CACHED else None
            self._leave_tables()  # searches of all kinds share the one, and whoever asks for residuals the other
        if descent.checkpoint is not None:
            descent.state  # noqa: B018 - read from the memory, if it has not been: a checkpoint needs it
        elif descent.state_is_lazy:
            wanted = self.name == SQUARES or descent.verdict is None or not descent.verdict.status.success
            descent.state = self.memory.kept() if wanted and self.memory is not None else ()
        self.python = self.descent = self.path = self.loaded_point = self.begin = None  # type: ignore[assignment]
        self.asked.clear()
        if self.memory is not None:
            self.memory.moving = None, None
        if spare is not None:
            spare.append(self)

    def _take_memory(self, m: int) -> None:
        """Take memory for m residuals into use."""
        descent, key = self.descent, (self.kind, self.descent.layout.size, m)
        try:
            memory = _Memory.spare[key].pop()
        except (KeyError, IndexError):
            start = descent.start
            memory = _Memory(key, descent.optimizer.rule, descent.optimizer.init(start, descent.layout))
        self.memory, self.loaded_point, self.bound = memory, None, ()

    def _has_room(self, point: Point) -> bool:
        """Make room for the residuals in the memory; False: they are too many, or too few."""
        if self.memory is None or not self.fits:
            self._leave_memory()
            m, n = self._number(point), point.x.size
            if m < n or m * n * n > PRODUCTS or (m * n * n > PRODUCTS_OF_A_STEP and not library.available()):
                return False
            self.ahead = DESCENT * (m * n * (n + 2) // PRODUCTS_OF_A_STEP)
            self.fits = True
            self._take_memory(m)
        return True

    def _number(self, point: Point) -> int:
        """Return how many residuals there are; if the path says it wrongly, `_residuals` finds that they don't fit."""
        objective = self.descent.objective
        path = objective.path(point.x) if self.fits else None
        if path is not None:
            with contextlib.suppress(TraceError):  # which comes up again
                return count(path)
        with quiet():
            return len(objective.residuals(point)[0])

    def _leave_memory(self) -> None:
        """Leave the memory for a descent on another function."""
        memory, self.memory = self.memory, None  # type: ignore[assignment]
        if memory is not None:
            if self.descent is not None:
                self.descent.state  # noqa: B018 - read from the memory, if it has not been
            memory.moving = None, None
            spare = _Memory.spare.setdefault(memory.key, [])
            if len(spare) < CACHED and len(_Memory.spare) < 64 and memory.xs.shape[1] <= SMALL:
                spare.append(memory)

    def _leave_tables(self) -> None:
        if self.path is not None:
            if self.table is not None:
                self.path.tables.spare.append(self.table)
            if self.columns is not None:
                self.descent.objective.squares.give_back(self.path, self.columns)
        self.table = self.columns = None

    def __del__(self) -> None:
        self._leave_tables()  # if `leave` was not called
        self._leave_memory()

    def advance(self, many: bool) -> None:
        """Make one step, or many, and end at one to which the rules for stopping were applied, or to report."""
        descent = self.descent
        if descent.objective.program is None:
            self.python.advance(many)
            return
        point, checkpoint, t = descent.current(), descent.checkpoint, descent.point.t
        if self.name == SQUARES and not self._has_room(point):
            self.python.step_from(point)
            return
        end = min(t + self._most(point.x), descent.stopping.max_steps - 1)
        rates: FloatArray | None = None
        rows: Rows | None = None
        mask = -1
        if not t and end > FEW_STEPS:
            end = FEW_STEPS
        if checkpoint is not None and checkpoint.steps is not None:
            end = min(end, t + checkpoint.steps + 1 - checkpoint.step)
        if callable(descent.optimizer.lr) and many and end > t:
            rates, end = descent.rates(min(end, t + SCHEDULED))
        if many and end > t:
            end, mask, rows = descent.recorder.reserve(t, end)
        is_asked = not many or end <= t  # whether the rules for stopping are applied to the first step
        self._load(point, t + 1 if is_asked else end, rates, rows, mask, is_asked)
        self.deadline, why, made, memory = time.monotonic() + PAUSE, searches.REACHED, 0, self.memory
        with quiet():
            try:
                why = self._run()
            finally:
                fields = memory.fields()
                made = fields[_T] - t
                self._count(made + (why == searches.REMARKABLE))
                if made:
                    self._sync(fields, made, rates, is_end=why != searches.REMARKABLE)
            if checkpoint is not None:
                checkpoint.step += made - (why == searches.REACHED or (why == searches.ODD and made > 0))
            if why == searches.REMARKABLE:
                self._apply_rules(fields)
        if why == searches.ODD and not made:  # here the next step begins, which the text can't make
            if self.fits:
                self.python.step_from(point)
            else:
                self.advance(many)

    def _most(self, x: FloatArray) -> int:
        """Return how many steps may be made in a row, with the tables that there are for the path that f takes here."""
        table, columns = self._tabled(x)
        work = (table.work if table is not None else 0) + (columns.work if columns is not None else 0)
        if work and self.name == SQUARES:
            work += self.memory.columns.size * (x.size + 2)
        return max(1, min(STEPS, WORK // work)) if work else STEPS

    def _tabled(self, x: FloatArray) -> tuple[Replay | None, Columns | None]:
        """Take the tables of the path that f takes here into use, if it has any."""
        objective = self.descent.objective
        path = objective.path(x)
        if path is not self.path:
            self._leave_tables()
            self.path = path
        if path is not None and (self.table is None or (self.columns is None and self.name == SQUARES)):
            has_code = _code.of(self.name, self.descent.layout.size, self.ahead) is not None
            if has_code and not objective.batch and path.agrees and path.recorded.environment.complete:
                if self.table is None:
                    self.table = path.table()
                if self.columns is None and self.name == SQUARES:
                    self.columns = objective.squares.table(path)
        table = self.table if self.table is not None and self.table.is_valid() else None
        columns = self.columns if self.columns is not None and self.columns.is_valid() else None
        if columns is not None and columns.r.size != self.memory.counts[searches.M]:
            columns = None
        of_f = (table.address, table.place) if table is not None else (0, 0)
        of_columns = (columns.address, columns.place) if columns is not None else (0, 0)
        if (bound := of_f + of_columns) != self.bound:
            self.memory.block.places[slice(*CALLED)] = bound
            self.bound = bound
        return table, columns

    def _count(self, steps: int) -> None:
        """Count what was done without Python."""
        frame, descent = self.memory.block.frame, self.descent
        if asked := int(frame[EVALUATIONS]):
            frame[EVALUATIONS] = 0
            descent.objective.nfev += asked
            descent.objective.njev += asked
            descent.compiled_steps += steps
            descent.native_steps += steps

    def _load(
        self, point: Point, end: int, rates: FloatArray | None, rows: Rows | None, mask: int, is_asked: bool
    ) -> None:
        """Copy the descent into the memory. is_asked: the rules for stopping are to be applied to its next step."""
        descent, memory = self.descent, self.memory
        memory.xs[0], memory.gs[0] = point.x, point.g
        if descent.point is not self.loaded_point:
            if descent.point.t == 0 and descent.state_is_lazy:
                memory.store[:] = memory.begun
            else:
                for array, part in zip(memory.state.values(), descent.state, strict=True):
                    array[...] = part
            self.loaded_point = descent.point
        stopping = descent.stopping
        gtol, promise = stopping.limit or -1.0, (0.0, -math.inf)
        if self.name == SQUARES and stopping.gtol is None:  # then they end by what a step promises
            gtol, promise = 0.0, (EPS, EPS**1.5 * abs(stopping.start.fun))
        target, *others = self.limits
        memory.fill(
            (target, math.inf if is_asked else gtol, *others), point.fun, descent.best.fun, promise,
            point.t, point.t, end, rates is not None, mask, 0, -1,
        )  # fmt: skip
        if rates is None:
            memory.rates[0] = descent.lr
        memory.bind(rates, rows)
        memory.block.frame[0] = 0
        self.begin = point

    def _run(self) -> int:
        """Run the text until it returns; Python evaluates f when it asks for it."""
        memory, block = self.memory, self.memory.block
        machine = _code.of(self.name, self.descent.layout.size, self.ahead)
        if machine is None:
            return self._interpreted()
        call, frame, numbers = machine.call, block.frame, block.numbers
        base, width = memory.place, 8 * memory.xs.shape[1]
        while (why := call(block.address)) < 0:
            if why == ASKED:
                place = (int(frame[AT]) - base) // width
                numbers[ANSWER] = self._evaluate(memory.xs[place], memory.gs[place])
            else:
                numbers[ANSWER] = self._residuals()
        return int(why)

    def _interpreted(self) -> int:
        before = int(self.memory.counts[searches.T])
        steps = TEXTS[self.name](*self.memory.views())
        answer: float | None = None
        try:
            while True:
                x, g, *columns = steps.send(answer)
                answer = self._residuals() if columns else self._evaluate(np.asarray(x), np.asarray(g))
        except StopIteration as stopped:
            return int(stopped.value)
        finally:
            made = int(self.memory.counts[searches.T]) - before
            _code.python_steps += (made + 1) * self.ahead // DESCENT + made * (1 + self.memory.xs.shape[1] // 10)

    def _evaluate(self, x: FloatArray, g: FloatArray) -> float:
        """Evaluate a point as the descent does; it may be the best one even if the search goes on to another."""
        descent, counts = self.descent, self.memory.counts
        t = int(counts[searches.T]) + 1
        point: Point = descent.objective.evaluate(t, x.copy())
        if self.path is not None:
            self.path.tables.count += 1
        if self.asked and self.asked[0].t != t:
            self.asked.clear()
        self.asked.append(point)
        g[:] = point.g
        if point.fun < descent.best.fun and point.is_finite:
            descent.best = point
        if point.error:  # differences have taken over: the rules for stopping have to check the point
            self.memory.numbers[searches.GTOL] = np.inf
        if time.monotonic() > self.deadline:
            counts[searches.T_END] = t
        return point.fun

    def _residuals(self) -> float:
        """Set the residuals and J at the point where a step begins; negative: they have no room."""
        memory, point = self.memory, self.begin
        assert point is not None
        if point.t != (t := int(memory.counts[searches.T])):
            x, g = memory.xs[0].copy(), memory.gs[0].copy()
            fun, norm = float(memory.numbers[searches.FUN]), float(memory.numbers[searches.NORM])
            point = Point(t, x, fun, g, norm)
        r, jacobian = self.descent.objective.residuals(point)
        self.fits = r.size == memory.r.size
        if not self.fits:
            return -1.0
        memory.r[:], memory.columns[:] = r, jacobian.T
        return 1.0

    def _sync(self, fields: Sequence[Any], made: int, rates: FloatArray | None, is_end: bool) -> None:
        """Take the steps that were made into the descent. fields: of the memory. is_end: with the state; no step
        follows at once.
        """
        descent, memory, t = self.descent, self.memory, fields[_T]
        if rates is not None:
            descent.lr = float(rates[made])
        fun, norm = fields[searches.FUN], fields[searches.NORM]
        point = Point(t, memory.xs[0].copy(), fun, memory.gs[0].copy(), norm)
        descent.stopping.go_on_at(memory.before.copy(), point)
        descent.point = self.loaded_point = point
        if is_end:
            descent.state = memory.read
            self._best(fields)
        lr = descent.lr if rates is None else rates
        descent.recorder.take(t - made, lr, (t, point.x, fun, norm, descent.lr, False, False))

    def _best(self, fields: Sequence[Any]) -> None:
        """Take the best point from the memory, unless Python has it."""
        t, fun, descent = fields[_BEST_T], fields[searches.BEST], self.descent
        if t >= 0 and fun < descent.best.fun:
            best = self.memory.best.copy()
            n = best.size // 2
            descent.best = Point(t, best[:n], fun, best[n:], fields[searches.BEST_NORM])

    def _apply_rules(self, fields: Sequence[Any]) -> None:
        """Apply the rules for stopping to the step on which the loop ended."""
        descent, memory = self.descent, self.memory
        place, t = fields[_END], fields[_T] + 1
        x = memory.xs[place].copy()
        after = None
        for point in self.asked:
            if after is None and point.t == t and are_equal(point.x, x):
                after = point
        if after is None:
            g = memory.gs[place].copy()
            after = Point(t, x, float(memory.trials[place, 1]), g, largest(g))
        if fields[_BEST_T] != t or not are_equal(memory.best[: x.size], x):
            self._best(fields)  # else it is this point, and will be found to be
        promise = None
        if self.name == SQUARES:
            promise = float(memory.state["promise"][0])
            if are_equal(x, memory.xs[0]):  # where the step began
                descent.objective.know(after, memory.r.copy(), np.ascontiguousarray(memory.columns.T))
        descent.reach(after, memory.read, promise)
        if descent.point is after:
            self.loaded_point = after
