"""Many descents at once: one function and one optimizer from a great many starts."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from koubai.derivatives.gradient import Differentiated
from koubai.derivatives.nonfinite import GRADIENT
from koubai.descent.batch_searches import Searches
from koubai.descent.default import AUTO, remade
from koubai.descent.loop import minimize
from koubai.descent.objective import Bounds
from koubai.descent.optimizers import LBFGS, Optimizer, resolve
from koubai.descent.record import Run, Status
from koubai.descent.schedules import Schedule
from koubai.descent.searches import STALLED
from koubai.descent.step_program import descent_graphs
from koubai.descent.stopping import GROWTH
from koubai.errors import FunctionError, GradientError, InputError, KoubaiError, TraceError, quiet
from koubai.execute import batched, library
from koubai.execute.elements import NotLowerable
from koubai.graph.formula import traced
from koubai.graph.graph import Graph
from koubai.graph.reverse import Careful
from koubai.parameters import FloatArray, Layout, as_scalar, check_whole, real_array

__all__ = ["PIECE", "Batch", "Many", "Results", "minimize_many", "read_starts", "read_threads", "share_out"]

PIECE = 8192  # starts a call at most: a signal is answered between two calls, …
PIECES = 4  # … and threads share the pieces, so many or more for each of them
MOST = 2**31 - 1  # steps are counted in 32 bits
TRACED_AT = 8  # starts at which f is tried, if it can't be traced at the first one
_STATUS = {
    batched.CONVERGED: Status.converged,
    batched.DIVERGED: Status.diverged,
    batched.NONFINITE: Status.nonfinite,
    batched.MAX_STEPS: Status.max_steps,
    STALLED: Status.stalled,
}
_TABLE = np.array([_STATUS.get(code) for code in range(max(_STATUS) + 1)], object)
_CODES = {status: code for code, status in _STATUS.items()}


@dataclass(frozen=True, eq=False)
class Many:
    """The results of many descents; row i of every array belongs to start i.

    Attributes
    ----------
    x : array, shape (starts, *shape of x)
        The last good point of each.
    fun, grad_norm : array, shape (starts,)
        f there, and the largest |component| of the gradient, without those that push x out of its bounds.
    steps, nfev : array of int32, shape (starts,)
        Updates made, and evaluations of f with its gradient.
    codes : array of int32, shape (starts,)
        The numbers of ``status``; see `code_of`.
    raised : dict
        What f raised, by the number of the start, -1 for points on the way.
    executor, executor_reason : str
        What ran the descents, and why.
    """

    x: FloatArray
    fun: FloatArray
    grad_norm: FloatArray
    steps: np.ndarray[Any, np.dtype[np.int32]]
    codes: np.ndarray[Any, np.dtype[np.int32]]
    nfev: np.ndarray[Any, np.dtype[np.int32]]
    raised: Mapping[int, str]
    executor: str
    executor_reason: str

    @property
    def status(self) -> np.ndarray[Any, np.dtype[np.object_]]:
        """The reason why each stopped: an array of Status."""
        found: np.ndarray[Any, np.dtype[np.object_]] = _TABLE[self.codes]
        return found

    @staticmethod
    def code_of(status: Status) -> int:
        """Return the number that stands for a status in ``codes``."""
        return _CODES[status]

    @property
    def success(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which of them converged."""
        converged: np.ndarray[Any, np.dtype[np.bool_]] = self.codes == batched.CONVERGED
        return converged

    def __len__(self) -> int:
        return len(self.fun)

    def __repr__(self) -> str:
        found = {status.name: int(np.sum(self.codes == code)) for code, status in _STATUS.items()}
        counts = ", ".join(f"{count} {name}" for name, count in found.items() if count)
        best = float(np.nanmin(self.fun)) if np.isfinite(self.fun).any() else math.nan
        return f"Many({len(self)} descents: {counts}; least f = {best:.6g}; {self.executor})"


def minimize_many(
    f: Callable[[Any], Any],
    starts: Any,
    optimizer: Optimizer | str = AUTO,
    *,
    max_steps: int = 1000,
    gtol: float | None = None,
    bounds: Any = None,
    lr: Any = None,
    threads: int | None = None,
    executor: Executor | None = None,
) -> Many:
    """Minimize many: the descents of `minimize` from every start at once.

        x[i] = x[i] - lr * gradient(f)(x[i])     for SGD, and so for every other rule, for each start i

    Rules that make one update after the other run side by side in vector registers; L-BFGS with its search along the
    line runs in machine code, one start after the other. Both share the processors. Where f has no machine code, or
    takes another path from some start (an `if` on x), Python does what is left, and says so in ``executor_reason``.

    Parameters
    ----------
    f : callable
        As in `minimize`: an array in, a number out.
    starts : array_like, shape (starts, *shape of x)
        One start in each row. It is not changed.
    optimizer : Optimizer or str
        "auto" is L-BFGS.
    max_steps : int
        The most updates of each descent.
    gtol : float, optional
        A descent converges where its largest |gradient component| ≤ gtol; 0 turns that off. None: 1e-6 for L-BFGS,
        or 1e-6 of the gradient at the start where that is below 1; and 0 for all others, which then make all steps.
    bounds : optional
        As in `minimize`: (low, high) for all components, or a pair for each. L-BFGS holds a component at its bound
        while the gradient pushes it outwards.
    lr : array_like, shape (starts,), optional
        A learning rate for each start, instead of the optimizer's.
    threads : int, optional
        How many; None: one per CPU that this process may use. They change no bit of the result.
    executor : concurrent.futures.Executor, optional
        Where `minimize` runs what has no machine code, start by start. f must be picklable for processes.

    Returns
    -------
    Many
        x, fun, grad_norm, steps, nfev and status, a row for each start. A descent ends as converged; as diverged (f or
        x beyond 1e10 times its start); as nonfinite, before a step to where f or the gradient is not finite, or at a
        start where f raises, which ``raised`` keeps; as stalled, where no step of a search lowers f, as at a kink; or
        after max_steps.

    Raises
    ------
    InputError
        The starts are not an array of finite numbers, lie outside the bounds, or there are not as many rates.

    Examples
    --------
    >>> import numpy as np, koubai as kb
    >>> def himmelblau(x):
    ...     return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2
    >>> starts = np.random.default_rng(0).uniform(-5, 5, (1000, 2))
    >>> many = kb.minimize_many(himmelblau, starts, "lbfgs")
    >>> bool((many.fun < 1e-9).all())
    True
    """
    points = read_starts(starts)
    max_steps = check_whole(max_steps, 0, "max_steps")
    if max_steps > MOST:
        raise InputError(f"max_steps must be at most {MOST}, got {max_steps}")
    threads = read_threads(threads)
    rates = None if lr is None else _rates(lr, len(points))
    batch = Batch(f, optimizer, points, bounds, max_steps, gtol, executor, rates)
    return batch.run(points, rates, threads)


def read_starts(starts: Any) -> FloatArray:
    """Return the starts as an array of finite numbers, one in each row. Raises InputError."""
    points = real_array(starts, "starts")
    if points.ndim == 0 or not points.size:
        raise InputError(f"starts must be an array of starts, one a row, got shape {points.shape}")
    with np.errstate(invalid="ignore"):
        lowest, highest = float(points.min()), float(points.max())  # NaN if one of them is
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        row = int(np.flatnonzero(~np.isfinite(points.reshape(len(points), -1)).all(axis=1))[0])
        raise InputError(f"starts must be finite, but start {row} is {points[row]}")
    return points


def read_threads(threads: Any) -> int:
    """Return how many threads to take: one per processor for None. Raises InputError."""
    return library.processors() if threads is None else check_whole(threads, 1, "threads", " or None")


def _rates(lr: Any, count: int) -> FloatArray:
    rates = np.asarray(lr, np.float64)
    if rates.shape != (count,) or not (np.isfinite(rates) & (rates >= 0)).all():
        raise InputError(f"lr must be {count} finite rates ≥ 0, one a start, got shape {rates.shape}")
    return rates


def share_out(
    count: int, threads: int, worker: Callable[[], Callable[[int, int], None]],
    progress: Callable[[int, int], None] | None = None,
) -> None:  # fmt: skip
    """Have threads do pieces of ``count`` rows, each with a ``worker()`` of its own: called with (first, last).

    progress: called between pieces with the rows done and all of them; what it raises ends the work, as Ctrl-C does.
    """
    size = min(PIECE, _whole_blocks(-(-count // (threads * PIECES))))
    firsts = deque(range(0, count, size))  # pieces that no thread has taken yet
    done: list[int] = []

    def work(tell: Callable[[int, int], None] | None) -> None:
        do = worker()
        while True:
            try:
                first = firsts.popleft()
            except IndexError:
                return
            last = min(first + size, count)
            do(first, last)
            done.append(last - first)
            if tell is not None:
                tell(sum(done), count)

    helpers = min(threads, len(firsts)) - 1
    if helpers <= 0:
        work(progress)
        return
    with ThreadPoolExecutor(helpers) as pool:
        futures = [pool.submit(work, None) for _ in range(helpers)]
        try:
            work(progress)  # this thread is one of them
        finally:
            firsts.clear()  # Ctrl-C: what has not begun is not begun
    for future in futures:
        future.result()
    if progress is not None:
        progress(count, count)


class Results:
    """The arrays that the threads write into, each its own rows. There is room for whole blocks.

    wide: are steps, codes and evaluations of 64 bits, as searches write them?
    """

    def __init__(self, flat: FloatArray, shape: tuple[int, ...], wide: bool) -> None:
        self.shape, self.raised = shape, dict[int, str]()
        room, n, size = _whole_blocks(len(flat)), flat.shape[1], flat.itemsize
        whole = np.dtype(np.int64 if wide else np.int32)
        ends = np.cumsum([room * n * size, *[room * size] * 2, *[room * whole.itemsize] * 3])
        # One piece of memory: the system hands out a large one in a fraction of the time that several small ones take.
        x, fun, norm, *counts = np.split(np.empty(ends[-1], np.uint8), ends[:-1])
        self.memory = (
            x.view(flat.dtype).reshape(room, n), fun.view(flat.dtype), norm.view(flat.dtype),
            *[part.view(whole) for part in counts],
        )  # fmt: skip
        self.used: list[Any] = [part[: len(flat)] for part in self.memory]
        self.x, self.fun, self.norm, self.steps, self.codes, self.nfev = self.used

    def first(self, count: int) -> Results:
        """Return the first rows, as views."""
        part = Results.__new__(Results)
        part.shape, part.raised, part.memory = self.shape, {}, self.memory
        part.used = [array[:count] for array in self.used]
        part.x, part.fun, part.norm, part.steps, part.codes, part.nfev = part.used
        return part

    def take(self, rows: Any, other: Results) -> None:
        """Put the results of other descents in these rows."""
        for own, new in zip(self.used, other.used, strict=True):
            own[rows] = new

    def many(self, executor: str, reason: str) -> Many:
        x = self.x.reshape(len(self.x), *self.shape)
        steps, codes, nfev = (part.astype(np.int32, copy=False) for part in (self.steps, self.codes, self.nfev))
        return Many(x, self.fun, self.norm, steps, codes, nfev, self.raised, executor, reason)


def _whole_blocks(count: int) -> int:
    return -(-count // batched.LANES) * batched.LANES


class Batch:
    """Descents of one function by one optimizer from any number of starts, compiled once.

    points: starts, of which one is enough to tell the form of x. near: a size of the gradient at which a descent is at
    rest once it stays as small, for a gtol and no search: ``steps`` then tells after how many steps, and ``nfev`` holds
    instead the number of the `known` point there, `batched.ELSEWHERE` or `batched.AWAY`.
    """

    def __init__(
        self, f: Callable[[Any], Any], optimizer: Optimizer | str, points: FloatArray, bounds: Any, max_steps: int,
        gtol: float | None, executor: Executor | None = None, rates: FloatArray | None = None,
        near: float | None = None,
    ) -> None:  # fmt: skip
        if gtol is not None and (isinstance(gtol, bool) or not 0 <= gtol < math.inf):
            raise InputError(f"gtol must be a finite number ≥ 0, got {gtol!r}")
        if isinstance(optimizer, str) and optimizer.lower() == AUTO:
            optimizer = LBFGS()
        self.f, self.optimizer = f, resolve(optimizer)
        self.max_steps, self.gtol, self.given_bounds, self.pool = max_steps, gtol, bounds, executor
        self.near = near
        self.known: FloatArray | None = None  # points, as the lanes read them
        self.shape = points.shape[1:]
        self.layout = Layout(None, (self.shape,), not self.shape, points.dtype)
        flat = points.reshape(len(points), -1)
        self.bounds = Bounds.read(bounds, self.layout, flat[0])
        self.path: Any = None  # of f, at the first start
        self.reason = ""
        self.code: batched.BatchedDescents | Searches | None = None
        with np.errstate(invalid="ignore"):  # without an array of all sizes in between: it would take longer
            self.farthest = max(-float(flat.min()), float(flat.max()))
        self._compile(flat, rates is not None)

    @property
    def is_search(self) -> bool:
        return isinstance(self.code, Searches)

    def _compile(self, flat: FloatArray, rates: bool) -> None:
        """Find the machine code, or why there is none."""
        optimizer = self.optimizer
        if isinstance(optimizer.lr, Schedule) and optimizer.lr.start() != ():
            self.reason = "the schedule looks at f"
            return
        if not library.available():
            self.reason = "llvmlite can't be loaded"
            return
        box = None if self.bounds is None else (self.bounds.low, self.bounds.high)
        program = Differentiated(self.f, 0, "backprop", cache=True, box=box)
        for row in range(0, len(flat), -(-len(flat) // TRACED_AT)):
            x = flat[row]
            try:
                with quiet():
                    program(self.layout.copy(x))
                self.path = program.path(self.layout.copy(x))
                if self.path is None:
                    self.reason = "f leaves no path"
                    return
                if "evaluate" in optimizer.rule.uses:
                    if rates:
                        raise NotLowerable("a search with a rate for each start")
                    self.code = Searches(program, self.path, optimizer, self.layout, self.bounds)
                else:
                    self.code = self._batched(self.path.graph, x, rates)
                self.reason = "f has machine code"
                return
            except (TraceError, GradientError, NotLowerable) as error:
                self.reason = error.reason if isinstance(error, TraceError) else str(error)
                return
            except Exception as error:  # f's own, at this start: another one may do
                self.reason = f"f raised {type(error).__name__} at a start: {error}"

    def _batched(self, graph: Graph, x: FloatArray, rates: bool) -> batched.BatchedDescents:
        optimizer = self.optimizer
        graphs = descent_graphs(graph, optimizer, optimizer.init(x, self.layout), self.layout, self.bounds)
        begin = traced("begin", [("x", x, False)], lambda x: optimizer.init(x, self.layout))
        return batched.BatchedDescents(
            graphs, begin, bool(self.gtol), rates, GROWTH, self.farthest, self.near is not None
        )

    def _careful(self, rates: bool) -> batched.BatchedDescents | None:
        """Return code that keeps zeros where derivatives are infinite; None if there is none, or it is in use."""
        if self.path.careful or self.path.resolver is None:
            return None
        recorded = self.path.recorded
        graph = GRADIENT(recorded.graph, recorded.leaves.active, Careful())
        try:
            return self._batched(graph, np.ravel(recorded.leaves.values[0]), rates)
        except (TraceError, NotLowerable):
            return None

    # -- running ------------------------------------------------------------------------------------------------------

    def run(
        self, points: FloatArray, rates: FloatArray | None = None, threads: int = 1,
        progress: Callable[[int, int], None] | None = None,
    ) -> Many:  # fmt: skip
        """Descend from all these starts."""
        flat = np.ascontiguousarray(points.reshape(len(points), -1))
        limits = self.bounds
        if limits is not None and (outside := np.flatnonzero((limits.project(flat) != flat).any(axis=1))).size:
            raise InputError(f"start {outside[0]} lies outside its bounds: {points[outside[0]]}; move it or the bounds")
        result = Results(flat, self.shape, self.is_search)
        if self.code is None:
            self._one_by_one(result, flat, rates, range(len(flat)), progress)
            return result.many("python", self.reason)
        reason = self.reason
        if isinstance(self.code, Searches):
            code, before = self.code, len(self.code.raised)
            share_out(len(flat), threads, lambda: self._searcher(code, flat, result), progress)
            if code.raised[before:]:
                result.raised.update(code.raised_from(flat, result.codes, result.steps))
                if len(result.raised) < len(code.raised) - before:  # the first of those on the way
                    result.raised[-1] = code.raised_on_the_way(result.raised, before) or code.raised[before]
                reason = f"f raised at {len(code.raised) - before} points, which count as not finite"
            if code.by_differences is not None:
                reason += "; the gradient is one of differences where f takes a path that can't be traced"
            return result.many("native", reason)
        share_out(len(flat), threads, self._shared(self.code, flat, result, rates), progress)
        reason = self.finish(result, flat, rates) or reason
        return result.many("native", reason)

    def _searcher(self, code: Searches, flat: FloatArray, result: Results) -> Callable[[int, int], None]:
        return code.worker(flat, result.memory, self.gtol, self.max_steps)

    def worker(self, flat: FloatArray, result: Results) -> Callable[[int, int], None]:
        """Return what descends from rows of ``flat``, for one thread."""
        assert self.code is not None
        if isinstance(self.code, Searches):
            return self._searcher(self.code, flat, result)
        return self._shared(self.code, flat, result, None)()

    def _shared(
        self, code: batched.BatchedDescents, flat: FloatArray, result: Results, rates: FloatArray | None
    ) -> Callable[[], Callable[[int, int], None]]:
        dtype, n = flat.dtype, flat.shape[1]
        low = np.full(n, -np.inf, dtype) if self.bounds is None else self.bounds.low
        high = np.full(n, np.inf, dtype) if self.bounds is None else self.bounds.high
        captured = code.captured.gathered()
        if rates is None:
            table = code.table(np.array([self.optimizer.lr_at(t) for t in range(self.max_steps)] or [0.0]))
        else:
            table = np.resize(rates.astype(dtype), _whole_blocks(len(rates)))
        numbers = code.numbers(self.gtol or -1.0, self.max_steps, table, self.near or 0.0)
        known = code.known(np.empty((0, n)), np.empty(0), np.ones(n)) if self.known is None else self.known
        descend = code.bound((flat, *result.memory, low, high, numbers, table, captured, known), len(flat))
        return lambda: descend

    def values(self, points: FloatArray, threads: int = 1) -> FloatArray:
        """Return f at each of these points; NaN where it raises."""
        flat = np.ascontiguousarray(points.reshape(len(points), -1))
        if self.code is None:
            values = np.full(len(flat), np.nan)
            for i, x in enumerate(flat):
                with contextlib.suppress(Exception), quiet():
                    values[i] = as_scalar(self.f(self.layout.copy(x)))
            return values
        given, self.max_steps = self.max_steps, 0
        try:
            return self.run(points, threads=threads).fun
        finally:
            self.max_steps = given

    def finish(self, result: Results, flat: FloatArray, rates: FloatArray | None = None) -> str:
        """Do what the lanes left: other paths through f, and gradients that a careful derivative knows."""
        assert isinstance(self.code, batched.BatchedDescents)
        if self.near is None:
            np.add(result.steps, 1, out=result.nfev)
        rows = np.flatnonzero(result.codes == batched.NONFINITE)
        if len(rows) and (careful := self._careful(rates is not None)) is not None:
            again = Results(flat[rows], self.shape, False)
            own = None if rates is None else rates[rows]
            share_out(len(rows), 1, self._shared(careful, flat[rows], again, own))
            if self.near is None:
                np.add(again.steps, 1, out=again.nfev)
            result.take(rows, again)
        refused = np.flatnonzero(result.codes == batched.REFUSED)
        if not len(refused):
            return ""
        self._one_by_one(result, flat, rates, refused)
        if self.near is not None:
            result.nfev[refused] = np.where(result.codes[refused] == batched.CONVERGED, batched.ELSEWHERE, batched.AWAY)
        return f"{len(refused)} of {len(flat)} descents take another path through f and ran one by one"

    def _one_by_one(
        self, result: Results, flat: FloatArray, rates: FloatArray | None, rows: Sequence[int] | Any,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:  # fmt: skip
        tasks = []
        for i in rows:
            optimizer = self.optimizer if rates is None else remade(self.optimizer, float(rates[i]))
            gtol = self.gtol
            if gtol is None and "evaluate" not in optimizer.rule.uses:
                gtol = 0.0
            start = self.layout.copy(flat[i])
            tasks.append((self.f, start, optimizer, self.max_steps, gtol, self.given_bounds))
        answers = self.pool.map(_one, tasks) if self.pool is not None else map(_one, tasks)
        for done, (i, answer) in enumerate(zip(rows, answers, strict=True)):
            if isinstance(answer, str):
                result.raised[int(i)] = answer
                result.x[i], result.fun[i], result.norm[i] = flat[i], np.nan, np.nan
                result.steps[i], result.codes[i], result.nfev[i] = 0, batched.NONFINITE, 1
            else:
                result.x[i], result.fun[i], result.norm[i], result.steps[i], result.nfev[i], status = answer
                result.codes[i] = _CODES.get(status, batched.MAX_STEPS)
            if progress is not None:
                progress(done + 1, len(rows))


def _one(task: tuple[Any, ...]) -> tuple[Any, ...] | str:
    """Descend from one start, in whatever process; what f raises comes back as a sentence."""
    f, start, optimizer, max_steps, gtol, bounds = task
    try:
        run: Run = minimize(f, start, optimizer, max_steps=max_steps, gtol=gtol, bounds=bounds, record="off")
    except InputError:
        raise
    except FunctionError as error:
        return str(error)
    except KoubaiError:
        raise
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return np.ravel(run.x), run.fun, run.history.grad_norm[-1], run.nit, run.nfev, run.status
