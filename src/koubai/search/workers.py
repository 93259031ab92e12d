"""The workers of a sweep: this process, a pool of the sweep's own, or any executor."""

from __future__ import annotations

import math
import queue
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

from koubai.errors import InputError, KoubaiError
from koubai.search.trial import start_worker

__all__ = ["Task", "Workers"]

Task: TypeAlias = tuple[int, dict[str, Any]]  # a trial's number and hyperparameters
ATTEMPTS = 3  # of a trial whose worker is lost

_GUARD = (
    "worker processes die before they have finished a trial. In a script, what starts them must stand below "
    'if __name__ == "__main__":; else f may end the process: try executor=None, which runs it here'
)


@dataclass(frozen=True)
class _Running:
    task: Task
    attempt: int
    alone: bool  # no other task runs beside it: if the pool breaks, it was this one
    pool: Any


class Workers:
    """The executor of a sweep: None, a number of processes, or an object with ``submit``. Raises InputError."""

    def __init__(self, executor: Any) -> None:
        if hasattr(executor, "get_executor"):  # a Dask client
            executor = executor.get_executor()
        is_number = isinstance(executor, int) and not isinstance(executor, bool)
        if is_number and executor < 1:
            raise InputError(f"executor: the number of worker processes must be ≥ 1, got {executor}")
        if executor is not None and not is_number and not callable(getattr(executor, "submit", None)):
            raise InputError(
                "executor must be None, a number of worker processes, or have submit(), as those of concurrent.futures,"
                f" Dask's client.get_executor() and mpi4py.futures do; got {executor!r:.60}"
            )
        self.executor = None if is_number else executor
        self.width = executor if is_number else _width(executor)
        self.is_here = executor is None
        self.in_threads = self.is_here or isinstance(executor, ThreadPoolExecutor)
        self.owned: ProcessPoolExecutor | None = None
        self.context = self.start = self.arguments = None  # of a pool that took the place of a broken one
        self.returned = False  # a trial came back from a worker

    def run(
        self, tasks: Iterator[Task], submit: Callable[[Any, Task, int], Any], read: Callable[[Any], Any], ahead: int = 0
    ) -> Iterator[tuple[Task, Any]]:
        """Give each task with its outcome, which is "crashed" if its worker was lost again and again.

        submit: gives a task to an executor, and returns its future. ahead: tasks that wait beside those that run.
        """
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        running: dict[Any, _Running] = {}
        suspects: deque[Task] = deque()  # one of them ended its process: each runs alone now, to find out which
        again: deque[tuple[Task, int]] = deque()
        crashes = 0
        try:
            while True:
                alone = any(entry.alone for entry in running.values())
                while not alone and len(running) < (1 if suspects else self.width + ahead):
                    alone = bool(suspects)
                    task, attempt = (suspects.popleft(), 0) if alone else again.popleft() if again else (None, 0)
                    task = next(tasks, None) if task is None else task
                    if task is None:
                        break
                    pool = self._pool()
                    try:
                        future = submit(pool, task, attempt)
                    except BrokenExecutor:  # since the last look
                        self._replace(pool)
                        suspects.appendleft(task)
                        alone = False
                        if running:
                            break
                        continue
                    running[future] = _Running(task, attempt, alone, pool)
                    future.add_done_callback(done.put)
                if not running:
                    return
                future = done.get()
                entry = running.pop(future)
                try:
                    result = future.result()
                except (Exception, CancelledError) as error:
                    text = f"its worker was lost: {type(error).__name__}: {error}".partition("\n")[0][:300]
                    if isinstance(error, BrokenExecutor):
                        self._replace(entry.pool)
                        if not entry.alone:
                            suspects.append(entry.task)
                            continue
                        crashes += 1
                        if crashes > 1 and not self.returned:
                            raise KoubaiError(_GUARD) from None
                        text += "" if self.returned else f". {_GUARD}"
                    elif entry.attempt + 1 < ATTEMPTS:
                        again.append((entry.task, entry.attempt + 1))
                        continue
                    yield entry.task, {"status": "crashed", "message": text, "values": {"fun": math.nan}}
                else:
                    self.returned = True
                    yield entry.task, read(result)
        finally:
            for future in running:
                future.cancel()
            self._stop(kill=bool(running))

    def _pool(self) -> Any:
        if self.executor is not None:
            return self.executor
        if self.owned is None:
            import multiprocessing

            # not forked: this process has threads, of BLAS and of machine code, which a fork would lose amid their work
            context = self.context or multiprocessing.get_context("spawn")
            self.owned = ProcessPoolExecutor(self.width, context, self.start or start_worker, self.arguments or ())
        return self.owned

    def _replace(self, pool: Any) -> None:
        """Let new processes take the place of a broken pool. Raises KoubaiError if it is no pool of processes."""
        if pool is self.owned:
            self._stop(kill=True)
        elif pool is self.executor:
            if not isinstance(pool, ProcessPoolExecutor):
                raise KoubaiError("the executor is broken and takes no more trials; give a new one") from None
            given: Any = pool
            self.executor = None
            names = ("_mp_context", "_initializer", "_initargs")
            self.context, self.start, self.arguments = (getattr(given, name, None) for name in names)

    def _stop(self, kill: bool) -> None:
        """End the processes of the sweep's own; kill: those too that are amid a trial."""
        pool, self.owned = self.owned, None
        if pool is not None:
            processes = list((getattr(pool, "_processes", None) or {}).values())
            pool.shutdown(wait=not kill, cancel_futures=True)
            if kill:
                for process in processes:
                    process.terminate()


def _width(executor: Any) -> int:
    """Return how many trials an executor runs at once, as far as it says so."""
    asks: tuple[Callable[[], Any], ...] = (
        lambda: executor._max_workers,
        lambda: executor.num_workers,  # mpi4py
        lambda: sum(executor._client.nthreads().values()),  # Dask
    )
    for ask in asks:
        try:
            return max(1, int(ask()))
        except Exception:
            continue
    return 1 if executor is None else 64
