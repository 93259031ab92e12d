"""Many descents at once: one function and one optimizer from a great many starts."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from koubai.derivatives.gradient import Differentiated
from koubai.derivatives.nonfinite import GRADIENT
from koubai.descent.loop import minimize
from koubai.descent.objective import Bounds
from koubai.descent.optimizers import Optimizer, resolve
from koubai.descent.record import Status
from koubai.descent.schedules import Schedule
from koubai.descent.step_program import descent_graphs
from koubai.descent.stopping import GROWTH
from koubai.errors import FunctionError, GradientError, InputError, TraceError, quiet
from koubai.execute import lanes, library
from koubai.execute.elements import Unsuitable
from koubai.graph.formula import traced
from koubai.graph.graph import Graph
from koubai.graph.reverse import Careful
from koubai.parameters import FloatArray, Layout, real_array

__all__ = ["Many", "descend_many"]

PIECE = 8192  # starts a call at most: a signal is answered between two calls, …
PIECES = 4  # … and threads share the pieces, so many or more for each of them
MOST = 2**31 - 1  # steps are counted in 32 bits
_STATUS = {
    lanes.CONVERGED: Status.converged,
    lanes.DIVERGED: Status.diverged,
    lanes.NONFINITE: Status.nonfinite,
    lanes.MAX_STEPS: Status.max_steps,
}
_CODES = {status: code for code, status in _STATUS.items()}


@dataclass(frozen=True, eq=False)
class Many:
    """The results of many descents; row i of every array belongs to start i.

    x: (starts, *shape of x), the last good point of each; fun, grad_norm: (starts,), f there and the largest
    |component| of the gradient; steps: (starts,), updates made; executor: what ran them.
    """

    x: FloatArray
    fun: FloatArray
    grad_norm: FloatArray
    steps: np.ndarray[Any, np.dtype[np.int32]]
    codes: np.ndarray[Any, np.dtype[np.int32]]
    executor: str
    executor_reason: str

    @property
    def status(self) -> np.ndarray[Any, np.dtype[np.object_]]:
        """The reason why each stopped: an array of Status."""
        table = np.array([_STATUS.get(code) for code in range(max(_STATUS) + 1)], object)
        found: np.ndarray[Any, np.dtype[np.object_]] = table[self.codes]
        return found

    def __len__(self) -> int:
        return len(self.fun)


def descend_many(
    f: Callable[[Any], Any],
    starts: Any,
    optimizer: Optimizer | str,
    *,
    max_steps: int = 1000,
    gtol: float = 0.0,
    bounds: Any = None,
    lr: Any = None,
    threads: int | None = None,
) -> Many:
    """Descend many: the updates of `minimize` from every start at once, side by side in vector registers.

    f: as in `minimize`. starts: (starts, *shape of x). lr: a learning rate for each start, instead of the optimizer's.
    Each descent stops if its largest |gradient component| ≤ gtol (0 turns it off), if it diverges (f or x beyond
    1e10 times its start), before a step to where f or the gradient is not finite, or after max_steps updates. A descent
    that starts where f is not finite ends there, nonfinite.
    threads: how many (None: one per CPU that this process may use); they change no bit of the result.
    If f has no machine code, or takes another path from some start (an `if` on x), `minimize` runs those one by one.
    Raises InputError if the starts are not an array of finite numbers, or if there are not as many rates as starts.
    """
    points = real_array(starts, "starts")
    if points.ndim == 0 or not points.size:
        raise InputError(f"starts must be an array of starts, one a row, got shape {points.shape}")
    with np.errstate(invalid="ignore"):
        lowest, highest = float(points.min()), float(points.max())  # NaN if one of them is
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        row = int(np.flatnonzero(~np.isfinite(points.reshape(len(points), -1)).all(axis=1))[0])
        raise InputError(f"starts must be finite, but start {row} is {points[row]}")
    if isinstance(max_steps, bool) or not isinstance(max_steps, int | np.integer) or max_steps < 0:
        raise InputError(f"max_steps must be a whole number ≥ 0, got {max_steps!r}")
    if max_steps > MOST:
        raise InputError(f"max_steps must be at most {MOST}, got {max_steps}")
    if isinstance(gtol, bool) or not 0 <= gtol < math.inf:
        raise InputError(f"gtol must be a finite number ≥ 0, got {gtol!r}")
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise InputError(f"threads must be a whole number ≥ 1 or None, got {threads!r}")
    chosen = resolve(optimizer)
    rates = None if lr is None else _rates(lr, len(points))
    shape = points.shape[1:]
    layout = Layout(None, (shape,), not shape, points.dtype)
    flat = np.ascontiguousarray(points.reshape(len(points), -1))
    limits = Bounds.read(bounds, layout, flat[0])
    if limits is not None and (outside := np.flatnonzero((limits.project(flat) != flat).any(axis=1))).size:
        raise InputError(f"start {outside[0]} lies outside its bounds: {points[outside[0]]}; move it or the bounds")
    work = _Work(f, chosen, layout, limits, int(max_steps), float(gtol), bounds)
    result = _Result(flat, shape)
    code, reason = work.compiled(flat, rates, max(-lowest, highest))
    if code is None:
        work.one_by_one(result, flat, rates, range(len(flat)))
        return result.many("python", reason)
    work.run(code, result, flat, rates, threads or library.processors())
    if (result.codes == lanes.NONFINITE).any() and (careful := work.careful(rates, max(-lowest, highest))) is not None:
        rows = np.flatnonzero(result.codes == lanes.NONFINITE)
        again = _Result(flat[rows], shape)
        work.run(careful, again, flat[rows], None if rates is None else rates[rows], threads or 1)
        result.take(rows, again)
    refused = np.flatnonzero(result.codes == lanes.REFUSED)
    if len(refused):
        work.one_by_one(result, flat, rates, refused)
        reason = f"{len(refused)} of {len(flat)} descents take another path through f and ran one by one"
    return result.many("native", reason)


def _rates(lr: Any, count: int) -> FloatArray:
    rates = np.asarray(lr, np.float64)
    if rates.shape != (count,) or not (np.isfinite(rates) & (rates >= 0)).all():
        raise InputError(f"lr must be {count} finite rates ≥ 0, one a start, got shape {rates.shape}")
    return rates


class _Result:
    """The arrays that the threads write into, each its own rows. There is room for whole blocks."""

    def __init__(self, flat: FloatArray, shape: tuple[int, ...]) -> None:
        self.shape = shape
        room, n, size = _whole_blocks(len(flat)), flat.shape[1], flat.itemsize
        ends = room * np.cumsum([n * size, size, size, 4, 4])
        # One piece of memory: the system hands out a large one in a fraction of the time that several small ones take.
        x, fun, norm, steps, codes = np.split(np.empty(ends[-1], np.uint8), ends[:-1])
        self.memory = (
            x.view(flat.dtype).reshape(room, n), fun.view(flat.dtype), norm.view(flat.dtype), steps.view(np.int32),
            codes.view(np.int32),
        )  # fmt: skip
        self.used: list[Any] = [part[: len(flat)] for part in self.memory]
        self.x, self.fun, self.norm, self.steps, self.codes = self.used

    def take(self, rows: Any, other: _Result) -> None:
        """Put the results of other descents in these rows."""
        for own, new in zip(self.used, other.used, strict=True):
            own[rows] = new

    def many(self, executor: str, reason: str) -> Many:
        x = self.x.reshape(len(self.x), *self.shape)
        return Many(x, self.fun, self.norm, self.steps, self.codes, executor, reason)


def _whole_blocks(count: int) -> int:
    return -(-count // lanes.LANES) * lanes.LANES


@dataclass
class _Work:
    f: Callable[[Any], Any]
    optimizer: Optimizer
    layout: Layout
    bounds: Bounds | None
    max_steps: int
    gtol: float
    given_bounds: Any
    path: Any = field(default=None, init=False)  # of f, at the first start

    def compiled(self, flat: FloatArray, rates: FloatArray | None, farthest: float) -> tuple[lanes.Lanes | None, str]:
        """Return the machine code, or None, and the reason. farthest: the largest |component| of the starts."""
        optimizer = self.optimizer
        if isinstance(optimizer.lr, Schedule) and optimizer.lr.start() != ():
            return None, "the schedule looks at f"
        if not library.available():
            return None, "llvmlite can't be loaded"
        x = flat[0]
        try:
            program = Differentiated(
                self.f,
                0,
                "backprop",
                cache=True,
                box=None if self.bounds is None else (self.bounds.low, self.bounds.high),
            )
            with quiet():
                program(self.layout.copy(x))
            self.path = program.path(self.layout.copy(x))
            if self.path is None:
                return None, "f leaves no path"
            return self._lanes(self.path.graph, x, rates, farthest), "f has machine code"
        except (TraceError, GradientError, FunctionError, Unsuitable) as error:
            return None, error.reason if isinstance(error, TraceError) else str(error)

    def _lanes(self, graph: Graph, x: FloatArray, rates: FloatArray | None, farthest: float) -> lanes.Lanes:
        optimizer = self.optimizer
        graphs = descent_graphs(graph, optimizer, optimizer.init(x, self.layout), self.layout, self.bounds)
        begin = traced("begin", [("x", x, False)], lambda x: optimizer.init(x, self.layout))
        return lanes.Lanes(graphs, begin, self.gtol > 0, rates is not None, GROWTH, farthest)

    def careful(self, rates: FloatArray | None, farthest: float) -> lanes.Lanes | None:
        """Return code that keeps zeros where derivatives are infinite; None if there is none, or it is in use."""
        if self.path.careful or self.path.resolver is None:
            return None
        recorded = self.path.recorded
        graph = GRADIENT(recorded.graph, recorded.leaves.active, Careful())
        try:
            return self._lanes(graph, np.ravel(recorded.leaves.values[0]), rates, farthest)
        except (TraceError, Unsuitable):
            return None

    def run(self, code: lanes.Lanes, result: _Result, flat: FloatArray, rates: FloatArray | None, threads: int) -> None:
        dtype, n = flat.dtype, flat.shape[1]
        low = np.full(n, -np.inf, dtype) if self.bounds is None else self.bounds.low
        high = np.full(n, np.inf, dtype) if self.bounds is None else self.bounds.high
        captured = code.captured.gathered()
        if rates is None:
            table = code.table(np.array([self.optimizer.lr_at(t) for t in range(self.max_steps)] or [0.0]))
        else:
            table = np.resize(rates.astype(dtype), _whole_blocks(len(rates)))
        numbers = code.numbers(self.gtol if self.gtol > 0 else -1.0, self.max_steps, table)
        memory = (flat, *result.memory, low, high, numbers, table, captured)

        descend = code.bound(memory, len(flat))
        size = min(PIECE, _whole_blocks(-(-len(flat) // (threads * PIECES))))
        firsts = deque(range(0, len(flat), size))  # pieces that no thread has taken yet

        def work() -> None:
            while True:
                try:
                    first = firsts.popleft()
                except IndexError:
                    return
                descend(first, min(first + size, len(flat)))

        helpers = min(threads, len(firsts)) - 1
        if helpers == 0:
            work()
            return
        with ThreadPoolExecutor(helpers) as pool:
            futures = [pool.submit(work) for _ in range(helpers)]
            try:
                work()  # this thread is one of them
            finally:
                firsts.clear()  # Ctrl-C: what has not begun is not begun
        for future in futures:
            future.result()

    def one_by_one(
        self, result: _Result, flat: FloatArray, rates: FloatArray | None, rows: Sequence[int] | Any
    ) -> None:
        for i in rows:
            optimizer = self.optimizer
            if rates is not None:
                optimizer = type(optimizer)(
                    float(rates[i]), semantics=optimizer.semantics, **optimizer.hyperparameters
                )  # fmt: skip
            start = self.layout.copy(flat[i])
            try:
                run = minimize(
                    self.f, start, optimizer, max_steps=self.max_steps, gtol=self.gtol, bounds=self.given_bounds,
                    record="off",
                )  # fmt: skip
            except FunctionError:
                result.x[i], result.fun[i], result.norm[i] = flat[i], np.nan, np.nan
                result.steps[i], result.codes[i] = 0, lanes.NONFINITE
                continue
            result.x[i] = np.ravel(run.x)
            result.fun[i], result.norm[i] = run.fun, run.history.grad_norm[-1]
            result.steps[i], result.codes[i] = run.nit, _CODES.get(run.status, lanes.MAX_STEPS)
