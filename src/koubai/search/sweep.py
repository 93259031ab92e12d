"""Sweeps: one descent, training or function with many settings, on any workers, with a record that survives."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from koubai.descent.optimizers import Optimizer
from koubai.descent.progress_bar import counting_bar
from koubai.errors import CheckpointWarning, InputError, called, quiet, warn
from koubai.nn.network import Network
from koubai.parameters import flatten, plain
from koubai.search.journal import Journal, as_record
from koubai.search.space import Space
from koubai.search.study import StudyRecord
from koubai.search.trial import (
    FAILURES,
    RESERVED,
    Work,
    describe,
    dumps,
    limited_blas,
    read_outcome,
    reporter,
    run_trial,
    send,
    work_on,
)
from koubai.search.workers import Task, Workers

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

__all__ = ["Sweep", "sweep"]

CHECKED = 10_000  # trials whose optimizers are made before the first one runs


@dataclass(frozen=True, repr=False)
class Sweep:
    """The result of `koubai.sweep`: a row for each trial, in the order of their numbers. ``len`` counts them.

    Attributes
    ----------
    table : dict
        Columns of one length: "trial"; a column for each hyperparameter of the space; "status", a name of
        `koubai.Status`, or "failed" (an exception), "crashed" (its worker was lost), "pruned" (by a study); "fun", what
        a trial is ranked by; further numbers; and "message". NaN where a trial has no number.
    hyperparameters : tuple of str
        Their names.
    best : dict or None
        The row with the least fun, of those that neither failed, diverged nor were given up.
    work : Work
        What the trials shared.
    params : list of dict
        The hyperparameters of each trial, as they were given.
    """

    table: dict[str, Any]
    hyperparameters: tuple[str, ...]
    work: Work
    params: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.params)

    def __repr__(self) -> str:
        counts = {
            name: int(np.count_nonzero(self.table["status"] == name)) for name in dict.fromkeys(self.table["status"])
        }
        best = self.best
        line = (
            "none ended well"
            if best is None
            else f"best: trial {best['trial']}, fun = {best['fun']:.6g}, "
            + ", ".join(f"{name}={best[name]!r}" for name in self.hyperparameters)
        )
        return f"Sweep of {len(self)} trials ({', '.join(f'{n} {name}' for name, n in counts.items())}); {line}"

    @property
    def best(self) -> dict[str, Any] | None:
        fun = np.where(np.isin(self.table["status"], FAILURES), np.nan, self.table["fun"])
        if not np.isfinite(fun).any():
            return None
        i = int(np.nanargmin(np.where(np.isfinite(fun), fun, np.nan)))
        return {name: plain(column[i]) for name, column in self.table.items()}

    def run(self, trial: int | None = None) -> Any:
        """Make a trial once more, bit for bit, with its whole history: the best one if ``trial`` is None.

        Returns its Run (or what a function of the hyperparameters returns). Raises InputError for a trial that is not
        there.
        """
        if trial is None:
            best = self.best
            if best is None:
                raise InputError("no trial ended well; name the one to run again, as in run(0)")
            trial = best["trial"]
        rows = np.flatnonzero(self.table["trial"] == trial)
        if not len(rows):
            raise InputError(f"trial must be one of the table's, got {trial!r}")
        with limited_blas():
            return self.work.run(self.params[int(rows[0])])

    def plot(
        self,
        x: str | None = None,
        by: str | None = None,
        *,
        ax: Axes | None = None,
        title: str | None = None,
        legend: bool = True,
    ) -> Axes:
        """Draw fun against a hyperparameter; see `koubai.plot.sweep`."""
        from koubai.plot import sweep as draw

        return draw(self, x, by, ax=ax, title=title, legend=legend)

    def to_dataframe(self) -> pandas.DataFrame:
        """Return the table as a pandas DataFrame."""
        import pandas

        return pandas.DataFrame({name: list(column) for name, column in self.table.items()})


def sweep(
    f: Any,
    space: Mapping[str, Any],
    *,
    x0: Any = None,
    optimizer: Any = None,
    data: Any = None,
    trials: int | None = None,
    seed: int = 0,
    executor: Any = None,
    journal: str | os.PathLike[str] | None = None,
    study: Any = None,
    progress: bool = False,
    **options: Any,
) -> Sweep:
    """Sweep: run f with every combination of hyperparameters, or with some drawn from a space, and table what came out.

        sweep = kb.sweep(f, {"lr": [0.1, 0.01], "optimizer": ["sgd", "adam"]}, x0=[0.0, 0.0])

    What f is says what a trial is. A function with x0 (given here or in the space): `koubai.minimize`. With data too:
    `koubai.fit`. A network with data: a copy of it is trained by its ``fit``. A function alone is called with the
    hyperparameters by name, and returns a number, a Run, or a dict of numbers with "fun" among them. ``fun`` is what
    trials are ranked by: f at the end; of a training the loss on the data held back, if there are any, else run.fun.

    The table follows from the arguments alone: any number of workers gives it bit for bit, and so does a sweep that was
    killed and called again with its journal. BLAS has one thread in each worker. f must not keep anything between
    calls. What fails is a row with its status and message, never an exception: f that raises, a descent that diverges.
    A trial that ends its worker process is "crashed", and is tried again if the sweep is called again.

    Parameters
    ----------
    f : callable or Network
        As above.
    space : dict
        Name → list of values; or dict(low=…, high=…), numbers from low to high, with log=True evenly by their
        logarithms, with integer=True whole ones; or a distribution of scipy.stats. Names are "optimizer" (names or
        objects), lr and the other hyperparameters of the optimizer, "x0", and the arguments of minimize or fit, such as
        batch_size, epochs and seed (of a network that is not built yet, its weights too).
    x0 : parameters, optional
        The start, as `koubai.minimize` and `koubai.fit` take it.
    optimizer : Optimizer or str, optional
        None is SGD for a descent and Adam for a training, or "auto" if none of its hyperparameters is given.
    data : tuple of arrays, optional
        Of a training.
    trials : int, optional
        How many. None is the whole grid of the lists. Otherwise they are drawn: from lists alone points of the grid,
        none twice. More trials leave the first ones as they are.
    seed : int, default 0
        Of the draws.
    executor : int or executor, optional
        None runs the trials here, one after another; a number starts so many processes; or any object with submit() as
        in concurrent.futures: a thread or process pool, Dask's client.get_executor(), mpi4py.futures.MPIPoolExecutor.
    journal : path, optional
        A file to which every finished trial is appended and synced at once. A sweep that is called again with it goes
        on where it ended.
    study : optuna.Study, optional
        Its sampler chooses the hyperparameters, its pruner gives trials up, its storage is the record to go on from.
        Says trials, how many it should have in all. As it learns from what is finished, the trials depend on how many
        run at once.
    progress : bool, default False
        A progress bar on stderr.
    **options
        Hyperparameters, and arguments of minimize or fit, that are the same in all trials.

    Returns
    -------
    Sweep
        The table, the best row, and a way to run a trial again.

    Raises
    ------
    InputError
        For arguments that can't be used, for what can't be sent to worker processes, and for the journal of another
        sweep.

    Examples
    --------
    >>> f = lambda x: (x[0] - 1) ** 2 + 10 * (x[1] + 2) ** 2
    >>> sweep = kb.sweep(f, {"lr": [0.001, 0.01, 0.09, 0.2]}, x0=[0.0, 0.0], max_steps=100)
    >>> sweep.table["status"]
    array(['max_steps', 'max_steps', 'converged', 'diverged'], dtype='<U9')
    >>> sweep.best["lr"]
    0.09
    >>> sweep.run().x.round(4)
    array([ 1., -2.])
    >>> draws = kb.sweep(f, {"lr": dict(low=1e-3, high=0.1, log=True)}, x0=[0.0, 0.0], trials=3, max_steps=100)
    >>> draws.table["lr"].round(4)
    array([0.0188, 0.0602, 0.0015])
    """
    if study is not None and journal is not None:
        raise InputError("study keeps its own record: give its storage a file, and leave journal out")
    if study is not None and trials is None:
        raise InputError("study: say how many trials it should have in all, trials=100")
    work, points = _work(f, space, x0, optimizer, data, options), Space(space, trials, seed)
    if study is None:
        for trial in range(min(points.trials, CHECKED)):
            work.check(points.params(trial))
    workers = Workers(executor)
    with contextlib.ExitStack() as stack:
        record: Any = _Memory()
        if study is not None:
            record = StudyRecord(study, points, _described(work, points))
            if not workers.in_threads:
                record.check_processes()
            total = max(points.trials, len(record.records))
            tasks = record.ask(total - len(record.records))
        else:
            if journal is not None:
                record = Journal(journal, _described(work, points), lambda trial: _plain(points.params(trial)))
                stack.enter_context(record)
            total = points.trials
            tasks = ((i, points.params(i)) for i in range(total) if i not in record.records)
        report = stack.enter_context(_bar(total)) if progress else None
        rows = record.records | _run_all(work, workers, tasks, record, points, report)
        numbers, params = (range(total), points.params) if study is None else (sorted(rows), record.params)
        return _made(points, work, {i: rows[i] for i in numbers}, [params(i) for i in numbers])


class _Memory:
    """The record of a sweep without a journal."""

    asks = prunes = False

    def __init__(self) -> None:
        self.records: dict[int, dict[str, Any]] = {}

    def append(self, row: dict[str, Any]) -> None:
        self.records[row["trial"]] = row


def _run_all(
    work: Work,
    workers: Workers,
    tasks: Iterator[Task],
    record: Any,
    points: Space,
    report: Callable[[dict[int, Any]], None] | None,
) -> dict[int, dict[str, Any]]:
    """Run the tasks, and record each as soon as it is finished. Return the rows that are not on record."""
    unwritten: dict[int, dict[str, Any]] = {}
    crashed: dict[int, dict[str, Any]] = {}
    warned = False

    def write() -> None:
        for number in list(unwritten):
            record.append(unwritten[number])
            del unwritten[number]

    with contextlib.closing(_results(work, workers, tasks, record, points)) as results:
        try:
            for (number, params), outcome in results:
                row = as_record({"trial": number, "params": _plain(params), **outcome}, "")
                # not on record: called again, the sweep tries it again; a study's sampler has to know
                (crashed if row["status"] == "crashed" and not record.asks else unwritten)[number] = row
                try:
                    write()
                except OSError as error:
                    if not warned:
                        warned = True
                        text = f"the journal can't be written: {error}; the sweep goes on, and tries again after each"
                        warn(CheckpointWarning(f"{text} trial"))
                if report is not None:
                    report(record.records | unwritten | crashed)
        except BaseException as stopped:
            with contextlib.suppress(OSError):
                write()
            if not isinstance(record, _Memory):
                stopped.add_note(f"{len(record.records)} trials are on record; the same call goes on from there")
            raise
    if unwritten:
        warn(
            CheckpointWarning(
                f"{len(unwritten)} trials are in the sweep's table, but could not be written to its journal"
            )
        )
    return unwritten | crashed


def _results(
    work: Work, workers: Workers, tasks: Iterator[Task], record: Any, points: Space
) -> Generator[tuple[Task, dict[str, Any]]]:
    """Give each task with its outcome, as soon as there is one."""

    def run_here(task: Task) -> dict[str, Any]:
        number, params = task
        return run_trial(work, params, reporter(record.trials[number]) if record.prunes else None)

    if workers.is_here:
        yield from ((task, run_here(task)) for task in tasks)
        return
    if workers.in_threads:
        yield from workers.run(tasks, lambda pool, task, _: pool.submit(run_here, task), lambda outcome: outcome)
        return
    payload = send(work, points.parts, record.study if record.prunes else None)

    def submit(pool: Any, task: Task, attempt: int) -> Any:
        number, params = task
        more = record.trials[number]._trial_id if record.prunes else None
        return pool.submit(work_on, payload, dumps((params, more)), attempt)

    yield from workers.run(tasks, submit, read_outcome, ahead=0 if record.asks else workers.width)


# -- what is swept ----------------------------------------------------------------------------------------------------


def _work(f: Any, space: Any, x0: Any, optimizer: Any, data: Any, options: dict[str, Any]) -> Work:
    """Return what a trial is. Raises InputError if the arguments don't go together."""
    names = [*space] if isinstance(space, Mapping) else []
    given = {"x0": x0, "optimizer": optimizer, "data": data}
    for name in names:
        if given.get(name) is not None or name in options:
            raise InputError(f"{name} is in the space, and given as an argument too; leave one of them out")
    has_start = x0 is not None or "x0" in names
    if isinstance(f, Network):
        if data is None:
            raise InputError("a network needs data=(X, y) to be trained on")
        if has_start:
            raise InputError("x0: a network has weights of its own; leave x0 out, and sweep the network's seed")
        kind, f = "network", copy.deepcopy(f)
    elif not callable(f):
        raise InputError(f"f must be a function or a network, got {f!r:.60}")
    elif data is not None and not has_start:
        raise InputError("x0: a loss over data needs a start; give x0=, or f a Network")
    else:
        kind = "fit" if data is not None else "minimize" if has_start else "call"
    if kind == "call" and (optimizer is not None or "optimizer" in options):
        raise InputError("x0: to be minimized f needs a start; give x0=, or leave optimizer out")
    for name in (*names, *options):
        if kind != "call" and (name in RESERVED or name == "data"):
            raise InputError(f"{name} can't be given to the trials of a sweep; leave it out")
    return Work(kind, f, copy.deepcopy(x0), optimizer, data, options)


def _described(work: Work, points: Space) -> dict[str, Any]:
    """Return what makes the sweep this one and no other, in JSON's types."""
    f: Any = work.f
    if work.kind == "network":
        weights = describe(f.vector) if f.input_shape is not None else None
        f = {"network": repr(f), "seed": f.seed, "dtype": f.dtype.name, "l1": f.l1, "l2": f.l2, "weights": weights}
    parts = {"f": f, "x0": work.x0, "optimizer": work.optimizer, "data": work.data, "options": work.options}
    about = {name: describe(part) for name, part in parts.items()}
    start = work.x0 if work.x0 is not None else points.params(0).get("x0")
    if work.kind == "minimize":  # what f makes of the data that it reads is no text of its
        about["f(x0)"] = _value(work, start)
    described: dict[str, Any] = _plain({**about, "space": points.describe(), "seed": points.seed})
    return described


def _value(work: Work, x0: Any) -> str:
    """Return f at a start as text; what it raises, if it does."""
    args = work.options.get("args", ())
    try:
        layout, x = flatten(x0)
        with quiet():
            value = called(lambda: work.f(layout.view(x.copy()), *(args if isinstance(args, tuple) else (args,))))
        return repr(float(np.asarray(value[0] if work.options.get("grad") is True else value)))
    except Exception as error:
        return type(error).__name__


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(describe(value)))


# -- the table --------------------------------------------------------------------------------------------------------


def _made(points: Space, work: Work, rows: Mapping[int, dict[str, Any]], params: list[dict[str, Any]]) -> Sweep:
    names = list(dict.fromkeys(["fun", *(name for row in rows.values() for name in row["values"])]))
    taken = {"trial", "status", "message", *points.parts}
    table: dict[str, Any] = {"trial": np.array([*rows], dtype=np.int64)}
    table |= {name: _column([own[name] for own in params]) for name in points.parts}
    table["status"] = np.array([row["status"] for row in rows.values()], dtype=np.str_)
    for name in names:  # a number that f names like a hyperparameter gets another name
        column = [row["values"].get(name, math.nan) for row in rows.values()]
        table[f"{name}_" if name in taken else name] = np.array(column, dtype=np.float64)
    table["message"] = np.array([row["message"] for row in rows.values()], dtype=np.str_)
    return Sweep(table, tuple(points.parts), work, params)


def _column(values: list[Any]) -> Any:
    """Return the values of a hyperparameter as an array: of numbers or text if all of them are, else of objects."""
    kinds = {type(value) for value in values}
    for kind, dtype in (({bool}, np.bool_), ({str}, np.str_), ({int}, np.int64), ({int, float}, np.float64)):
        if kinds <= kind and all(type(value) is not int or abs(value) < 2**53 for value in values):
            return np.array(values, dtype=dtype)
    column = np.empty(len(values), dtype=object)
    column[:] = [repr(value) if isinstance(value, Optimizer) else value for value in values]
    return column


@contextlib.contextmanager
def _bar(total: int) -> Iterator[Callable[[dict[int, Any]], None]]:
    """Give a function that reports the rows so far to a Rich progress bar on stderr."""
    with counting_bar(total) as show:

        def report(rows: dict[int, Any]) -> None:
            ended = [row["values"]["fun"] for row in rows.values() if row["status"] not in FAILURES]
            failed = len(rows) - len(ended)
            at = f"best {min(ended):.6g}" if ended else ""
            show(completed=len(rows), at=at + (f"  {failed} failed" if failed else ""))

        yield report
