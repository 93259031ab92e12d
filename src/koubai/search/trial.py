"""One trial of a sweep: a descent, a training or a call with its hyperparameters, here or in a worker process."""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import inspect
import json
import math
import os
import pickle
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Real
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from koubai.descent.default import AUTO
from koubai.descent.files import describe_function, describe_optimizer
from koubai.descent.fit import fit
from koubai.descent.loop import minimize
from koubai.descent.optimizers import CLASSES, SGD, Adam, Optimizer, resolve
from koubai.descent.record import Run, Status
from koubai.descent.schedules import Schedule
from koubai.errors import InputError, UnknownNameError
from koubai.parameters import plain

__all__ = [
    "FAILURES",
    "RESERVED",
    "STATUSES",
    "Work",
    "describe",
    "dumps",
    "limited_blas",
    "read_outcome",
    "reporter",
    "run_trial",
    "send",
    "start_worker",
    "work_on",
]

FAILURES = ("failed", "crashed", "diverged", "nonfinite", "pruned")  # such a trial is never the best one
STATUSES = (*Status.__members__, "failed", "crashed", "pruned")

Report = Callable[[int, float], bool]  # (step or epoch, value so far) -> whether to give the trial up

RESERVED = ("progress", "checkpoint", "resume", "on_step", "on_epoch")  # what trials of a sweep can't be given
REPORTS = 100  # of one descent to a pruner, at most


@functools.cache
def _arguments(target: Callable[..., Any]) -> tuple[str, ...]:
    others = ("self", "f", "loss", "x0", "params", "X", "y", "data", "optimizer", "lr", "unknown", *RESERVED)
    return tuple([name for name in inspect.signature(target).parameters if name not in others])


@dataclass
class Work:
    """The things that the trials of a sweep share.

    kind: "minimize", "fit", "network" or "call": what is called with the hyperparameters of a trial. data: of a
    training. options: hyperparameters that are the same for every trial.
    """

    kind: str
    f: Any
    x0: Any = None
    optimizer: Any = None
    data: Any = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The names of the arguments of what is called; other names are the optimizer's hyperparameters."""
        if self.kind == "call":
            return ()
        target = {"minimize": minimize, "fit": fit}.get(self.kind) or type(self.f).fit
        seed = () if self.kind != "network" else ("seed",)
        start = () if self.kind == "network" else ("x0",)
        return (*_arguments(target), *seed, *start)

    def check(self, params: Mapping[str, Any]) -> None:
        """Raise InputError if hyperparameters can't be given to f or its optimizer."""
        params = {**self.options, **params}
        if self.kind != "call":
            self.make_optimizer(params)
            return
        try:
            signature = inspect.signature(self.f)
        except (TypeError, ValueError):  # one without a signature, of C
            return
        try:
            signature.bind(**params)
        except TypeError as error:
            raise InputError(
                f"f is called with the hyperparameters by name, f({', '.join(f'{name}=…' for name in params)}), but "
                f"{error}; if f is to be minimized, give its start, x0="
            ) from None

    def make_optimizer(self, params: Mapping[str, Any]) -> Any:
        """Return the optimizer of a trial. Raises InputError for a hyperparameter that it does not have."""
        chosen = params.get("optimizer", self.optimizer)
        arguments = self.arguments
        own = {name: params[name] for name in params if name != "optimizer" and name not in arguments}
        if isinstance(chosen, Optimizer):
            if not own:
                return chosen
            kind, lr = type(chosen), own.pop("lr", chosen.lr)
            given = {"semantics": chosen.semantics, **chosen.hyperparameters, **own}
        elif chosen is None or (isinstance(chosen, str) and chosen.lower() == AUTO):
            if not own:
                return AUTO
            kind, lr, given = SGD if self.kind == "minimize" else Adam, own.pop("lr", None), own
        else:
            kind, lr, given = type(resolve(chosen)), own.pop("lr", None), own
        try:
            return kind(lr, **given)
        except UnknownNameError:
            known = {*inspect.signature(kind).parameters, *arguments, "optimizer"}
            name = next(name for name in own if name not in known)
            hint = ""
            if any(name in inspect.signature(other).parameters for other in CLASSES.values()):
                hint = f"; {kind.__name__} has no {name}: give optimizer a list of objects, such as SGD(0.1, {name}=…)"
            error = UnknownNameError(f"hyperparameter of a sweep with {kind.__name__}", name, known)
            raise InputError(f"{error}{hint}") from None

    def run(self, own: Mapping[str, Any], report: Report | None = None, record: str = "auto") -> Any:
        """Make the descent or training of these hyperparameters, or the call, and return what it returns."""
        params = {**self.options, **own}
        if self.kind == "call":
            return self.f(**params)
        optimizer, arguments = self.make_optimizer(params), self.arguments
        options: dict[str, Any] = {"record": record, "x0": self.x0}
        options |= {name: value for name, value in params.items() if name in arguments}
        x0 = options.pop("x0")
        if self.kind == "minimize":
            if report is not None:
                every = max(1, int(options.get("max_steps", 10_000)) // REPORTS)
                options["on_step"] = lambda step: step.t % every == 0 and report(step.t, step.f)
            return minimize(self.f, x0, optimizer, **options)
        if report is not None:
            options["on_epoch"] = lambda epoch: report(epoch.number, _loss_of(epoch))
        if self.kind == "fit":
            return fit(self.f, x0, self.data, optimizer, **options)
        network = copy.deepcopy(self.f)
        network.seed = options.pop("seed", network.seed)
        data = self.data if isinstance(self.data, tuple) else (self.data,)
        return network.fit(*data, optimizer=optimizer, **options)


def _loss_of(epoch: Any) -> float:
    return epoch.fun if epoch.validation_fun is None else epoch.validation_fun  # type: ignore[no-any-return]


# -- the result of a trial --------------------------------------------------------------------------------------------

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def run_trial(work: Work, params: Mapping[str, Any], report: Report | None = None) -> dict[str, Any]:
    """Run one trial; return its status, message and numbers in JSON's types. What f raises is a status too."""
    pruned = False

    def reported(step: int, value: float) -> bool:
        nonlocal pruned
        pruned = report is not None and math.isfinite(value) and report(step, value)
        return pruned

    try:
        with limited_blas():
            outcome = work.run(params, None if report is None else reported, record="off")
        if isinstance(outcome, Run):
            status, message, values = outcome.status.name, outcome.message, _numbers_of(work, params, outcome)
        else:
            status, message, values = _called(outcome)
    except (Exception, SystemExit) as error:
        text = _ADDRESS.sub("", str(error).strip().partition("\n")[0])[:300]
        return {"status": "failed", "message": f"{type(error).__name__}: {text}".rstrip(": "), "values": {}}
    if pruned:
        status, message = "pruned", "given up by the pruner"
    elif not math.isfinite(values["fun"]) and status not in FAILURES:
        status, message = "nonfinite", f"fun is {values['fun']}"
    return {"status": status, "message": _ADDRESS.sub("", message), "values": values}


def _numbers_of(work: Work, params: Mapping[str, Any], run: Run) -> dict[str, float]:
    """Return the numbers of a run: fun first, what the trial is ranked by."""
    epochs = run.history.epochs
    if epochs is None:
        return _floats({"fun": run.fun, "best_fun": run.best_fun, "nit": run.nit, "nfev": run.nfev})
    options = {**work.options, **params}
    row = -1
    held = epochs.validation_fun
    keeps = options.get("restore_best")
    if keeps or (keeps is None and options.get("patience") is not None):  # the weights are the best epoch's
        losses = epochs.fun if held is None else held
        if np.isfinite(losses).any():
            row = int(np.nanargmin(losses))
    columns = {name: getattr(epochs, name, None) for name in ("accuracy", "validation_accuracy")}
    accuracies = {name: column[row] for name, column in columns.items() if column is not None and len(column)}
    fun = run.fun if held is None or not len(held) else held[row]
    return _floats({"fun": fun, "training_fun": run.fun, "nit": run.nit, **accuracies})


def _called(outcome: Any) -> tuple[str, str, dict[str, float]]:
    """Return status, message and numbers of what a function of the hyperparameters returned."""
    if isinstance(outcome, Mapping):
        if "fun" not in outcome:
            raise InputError(f"f must return a number, a Run, or a dict of numbers with 'fun'; got {outcome!r}")
        return "finished", "", _floats({"fun": outcome["fun"], **outcome})
    return "finished", "", _floats({"fun": outcome})


def _floats(values: Mapping[str, Any]) -> dict[str, float]:
    out = {}
    for name, value in values.items():
        if not isinstance(name, str):
            raise InputError(f"f must return a dict with names as its keys, got {name!r}")
        if isinstance(value, np.ndarray) and value.ndim == 0:
            value = value.item()
        if isinstance(value, complex | bool) or not isinstance(value, Real):
            raise InputError(f"f must return a number, a Run, or a dict of numbers with 'fun'; {name} is {value!r:.60}")
        number = float(value)
        out[name] = math.nan if math.isnan(number) else number  # one NaN, as a file gives it back
    return out


# -- threads of BLAS --------------------------------------------------------------------------------------------------

_lock = threading.Lock()
_users = 0  # trials that run now in this process, in any thread
_limit: Any = None
_controller: tuple[int, Any] | None = None


@contextlib.contextmanager
def limited_blas() -> Iterator[None]:
    """A context in which BLAS has one thread: many workers don't fight for the cores, and as sums of matrix products
    depend on how many threads there are, every worker has the same bits. Threads of one process share it.
    """
    global _users, _limit, _controller
    from threadpoolctl import ThreadpoolController

    with _lock:
        if not _users:
            if _controller is None or _controller[0] != len(sys.modules):  # a module may have brought its own BLAS
                _controller = len(sys.modules), ThreadpoolController()
            _limit = _controller[1].limit(limits=1, user_api="blas")
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _limit.restore_original_limits()
                _limit = None


# -- to a worker and back ---------------------------------------------------------------------------------------------


def send(work: Work, space: Mapping[str, Any], study: Any) -> bytes:
    """Pickle what a worker needs. Raises InputError that names what can't be pickled, and the fix."""
    try:
        dumps([part for part in space.values() if isinstance(part, list)])  # before the first trial, not amid them
        return dumps((work, study))
    except Exception as error:
        for name, part in _parts(work, space, study):  # the first that can't be sent
            try:
                dumps(part)
            except Exception as reason:
                raise InputError(_unpicklable(name, part, reason)) from None
        raise InputError(f"the sweep can't be sent to worker processes: {error}; use a thread pool") from None


def dumps(value: Any) -> bytes:
    """Pickle a value, with cloudpickle if it is installed."""
    try:
        import cloudpickle  # comes with Dask: it also takes lambdas, and functions of a notebook
    except ImportError:
        data = pickle.dumps(value)
        if b"__main__" in data and not hasattr(sys.modules["__main__"], "__file__"):
            raise pickle.PicklingError("it was defined in a session that no other process can import") from None
        return data
    return cloudpickle.dumps(value)  # type: ignore[no-any-return]


def _parts(work: Work, space: Mapping[str, Any], study: Any) -> Iterator[tuple[str, Any]]:
    yield "network" if work.kind == "network" else "f", work.f
    yield from (("study", study), ("x0", work.x0), ("optimizer", work.optimizer), ("data", work.data))
    yield from work.options.items()
    for name, given in space.items():
        if isinstance(given, list):
            yield from ((f"space[{name!r}]", value) for value in given)


def _unpicklable(name: str, part: Any, reason: Exception) -> str:
    text = _ADDRESS.sub("", str(reason))[:200]
    fix = "use a thread pool"
    if isinstance(part, FunctionType):
        code, what = part.__code__, f"the function {part.__qualname__}"
        where = f" ({code.co_filename}, line {code.co_firstlineno})"
        cells = zip(code.co_freevars, part.__closure__ or (), strict=True)
        used = {n: part.__globals__[n] for n in code.co_names if n in part.__globals__}
        for inner, value in {**{n: c.cell_contents for n, c in cells}, **used}.items():
            try:
                dumps(value)
            except Exception:
                if not isinstance(value, FunctionType | ModuleType):
                    return (
                        f"{name} can't be sent to worker processes: {what}{where} uses {inner}, a "
                        f"{type(value).__name__}, which can't be pickled ({text}); make {inner} inside the function, "
                        f"or {fix}"
                    )
        local = part.__name__ == "<lambda>" or "<locals>" in part.__qualname__ or part.__module__ == "__main__"
        if local:
            kind = "a lambda" if part.__name__ == "<lambda>" else "defined inside a function or a notebook"
            return (
                f"{name} can't be sent to worker processes: {what}{where} is {kind}; define it with def at the top of "
                f"a module, pip install cloudpickle, or {fix}"
            )
        return f"{name} can't be sent to worker processes: {what}{where} can't be pickled ({text}); {fix}"
    return f"{name} can't be sent to worker processes: {type(part).__name__} can't be pickled ({text}); {fix}"


def start_worker() -> None:
    """Begin a process of a sweep's own: Ctrl-C is its driver's affair, and it does not outlive its driver."""
    import multiprocessing
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


@functools.lru_cache(maxsize=1)
def _load_work(payload: bytes) -> Any:
    """Return what `send` pickled; the last one is kept, so that what was traced of f serves later trials."""
    return pickle.loads(payload)


def work_on(payload: bytes, params: bytes, attempt: int) -> str:
    """Run one trial in a worker; return its outcome as JSON. attempt: so that no cluster gives an old failure again."""
    try:
        work, study = _load_work(payload)
        known, trial = pickle.loads(params)
    except Exception as error:
        return json.dumps({"error": f"{type(error).__name__}: {error}"})
    return json.dumps(run_trial(work, known, None if study is None else reporter(_trial_of(study, trial))))


def read_outcome(text: str) -> dict[str, Any]:
    """Return what `work_on` wrote. Raises InputError if the worker could not even begin."""
    outcome: dict[str, Any] = json.loads(text)
    if "error" in outcome:
        raise InputError(
            f"a worker process can't read the sweep: {outcome['error']}; what f is made of must be importable there, "
            "or pip install cloudpickle, which takes the functions of a script or notebook along"
        )
    return outcome


def reporter(trial: Any) -> Report:
    """Return what reports a trial of an Optuna study to its pruner, and asks whether to give it up."""

    def report(step: int, value: float) -> bool:
        trial.report(value, step)
        return bool(trial.should_prune())

    return report


def _trial_of(study: Any, identity: int) -> Any:
    from optuna.trial import Trial

    return Trial(study, identity)


# -- what a sweep is, in JSON's types ---------------------------------------------------------------------------------

LARGE = 64  # numbers: a larger array is written as its digest


def describe(value: Any) -> Any:
    """Return a value in JSON's types, the same in every process: a journal tells by it whether it is the sweep's."""
    value = plain(value)
    if value is None or isinstance(value, bool | str | int | float):
        return value
    if isinstance(value, np.ndarray):
        if value.size <= LARGE and value.dtype.kind in "biuf":
            return {"array": value.tolist(), "dtype": value.dtype.name}
        data = value.tobytes() if value.dtype.kind != "O" else repr(value.tolist()).encode()
        return {"sha256": hashlib.sha256(data).hexdigest(), "shape": list(value.shape), "dtype": value.dtype.name}
    if isinstance(value, list | tuple):
        return [describe(part) for part in value]
    if isinstance(value, Mapping):
        return {str(key): describe(part) for key, part in value.items()}
    if isinstance(value, Optimizer):
        return describe_optimizer(value)
    if isinstance(value, Schedule):
        return repr(value)
    if isinstance(value, FunctionType):
        return {"function": value.__qualname__, "code": _code(value.__code__)}  # its module may be __main__ or not
    if callable(value) and hasattr(value, "text"):
        return describe_function(value)
    return _ADDRESS.sub("", repr(value))


def _code(code: CodeType) -> str:
    """Return a digest of what a function does: another text of the same name is another function."""
    digest = hashlib.sha256(code.co_code)
    for part in (code.co_names, code.co_varnames, code.co_consts):
        for one in part:
            if isinstance(one, CodeType):
                text = _code(one)
            else:  # a set's order is another one in each process
                text = repr(sorted(map(repr, one)) if isinstance(one, frozenset) else one)
            digest.update(text.encode())
    return f"Python {sys.version_info[0]}.{sys.version_info[1]} {digest.hexdigest()[:16]}"
