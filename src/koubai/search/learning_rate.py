"""The learning rate that suits a function, a start and an optimizer: measured, with the range that is usable."""

from __future__ import annotations

import copy
import functools
import math
import random
import sys
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count, islice
from typing import TYPE_CHECKING, Any, Literal, Never

import numpy as np

from koubai.derivatives.curvature import MOST, Curvature, curvature
from koubai.descent.arguments import prepared
from koubai.descent.batch_iterator import Source, as_source
from koubai.descent.batches import batches
from koubai.descent.default import with_rate
from koubai.descent.fit import FunctionModel
from koubai.descent.loop import drive, points
from koubai.descent.optimizers import Optimizer, resolve
from koubai.descent.record import Status
from koubai.descent.schedules import constant
from koubai.descent.stability import divides, fixed_bound, has_recurrence, preconditioner, stability_bound
from koubai.descent.training import Training
from koubai.errors import FunctionError, InputError, TraceError, UnknownNameError, quiet
from koubai.parameters import FloatArray, Parameters, check_whole, flatten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from koubai.nn.network import Network

__all__ = ["LearningRate", "NoRateError", "RateCurve", "find_lr", "for_descent", "for_training"]

BAD = (Status.diverged, Status.nonfinite)
PER_DECADE = 20  # rates are tried at 10 ** (k / 20), so that what two rounds try is tried once
AHEAD = 20  # steps after which the preconditioner of an adaptive rule is taken for its bound
LEAVES = 4 / 3  # the updates of a rate that leaves the target again count so many times: with the slack, twice
BELOW = 4  # decades below the best rate begin the 60 whose runs set what a search may cost, …
LONG = 13  # … which is no more than so many of the longest descents cost
NEIGHBOURS = 4  # descents to the target are kept of that for two pairs beside the best rate, which decide in the end, …
AT_FIRST = 0.3  # … of the rest is for the first steps, …
FOR_LATER = 0.25  # … and of what is then left for further rounds
ROUNDS = 3  # at most, while the 60 runs turn out to cost more than it seemed
DEEPER = 3  # half-decades below a rate that doesn't come to rest are followed to the end
ROUGH = 12  # products for the magnitude of the curvature at the start
SLOW = 1e-3  # of the best rate's progress: where a survey ends
UNSETTLED = 3  # rates below one that does not settle are followed to the end
ASIDE = 0.02  # of a stability bound: descents so far on both sides of it show whether it holds


class NoRateError(InputError):
    """No rate lowers f from this start."""


@dataclass(frozen=True)
class _Plan:
    """How rates are tried: a survey of all magnitudes, then a dense round that is halved while it goes on.

    survey, apart: steps, and twentieths of a decade between two rates; below, above: the range around the best of the
    survey, in twentieths; dense: the distance there, twice as large in the lower half of it; first, last: steps of the
    first and of the longest descents; keep: how many rates are followed at least; target: the share of the way down
    that is left when the target is reached; stays: the share above its lowest point at which a descent may end;
    repeats: orders of the data.
    """

    survey: int = 30
    apart: int = 10
    below: int = 50
    above: int = 40
    dense: int = 1
    first: int = 32
    last: int = 1000
    keep: int = 5
    target: float = 1e-3
    stays: float = 0.02
    slack: float = 1.5  # a rate that takes so many times the steps of the fastest may be chosen, if it goes on further
    share: float = 0.3  # of what a run at each of 60 rates would cost may be spent
    repeats: int = 1
    window: int = 1  # steps of which a loss is the mean


EXACT = _Plan()
STOCHASTIC = _Plan(
    survey=12, below=24, above=12, dense=4, first=32, last=128, keep=3, target=0.05, stays=0.2, repeats=2, window=6
)


@dataclass(frozen=True, eq=False)
class RateCurve:
    """The probing descents of `find_lr`, in the order of their rates.

    Attributes
    ----------
    lr : array
        The rates.
    fun : array
        The lowest f (for mini-batches, mean loss) that each reached; inf if it diverged at once.
    last : array
        f where each stopped.
    steps : array of int
        Updates made; the more promising rates were followed further.
    time : array
        Updates until f was at the target; inf if it was not reached.
    diverged : array of bool
        Whether f or x grew without bound or became NaN.
    x : list
        Where each ended, flat; empty for trainings.
    """

    lr: FloatArray
    fun: FloatArray
    last: FloatArray
    steps: Any
    time: FloatArray
    diverged: Any
    x: list[FloatArray]

    def __len__(self) -> int:
        return len(self.lr)


@dataclass(frozen=True, eq=False, repr=False)
class LearningRate:
    """A learning rate with the evidence for it, as `find_lr` gives it; ``float(found)`` is the rate.

    Attributes
    ----------
    lr : float
        The rate: of those that reach the target fast, the one that goes on furthest.
    low, high : float
        The usable range: from ``low`` on a descent makes at least a hundredth of the progress that the best one makes
        in as many steps; above ``high`` it diverges, or ends no lower than it began.
    bound : float or None
        The largest stable rate by the measured curvature and the rule's own condition; None if there is none.
    bound_reason : str
        How it was found, and whether descents just below and above it agree; or why there is none.
    curve : RateCurve
        The descents that were tried.
    target : float
        The f that counted as reached: 0.1% of the way down is left (with mini-batches 5%).
    nfev : int
        Evaluations of f, or updates on mini-batches, that it took.
    optimizer : Optimizer
        The one that was given, with the rate found.
    f : callable or None
        The function; None after a training.
    start : in the form of x0
        Where all began.
    drop : float
        How far down from there the lowest point found is.
    """

    lr: float
    low: float
    high: float
    bound: float | None
    bound_reason: str
    curve: RateCurve
    target: float
    nfev: int
    optimizer: Optimizer
    f: Callable[..., Any] | None = None
    start: Any = None
    drop: float = 0.0

    def __float__(self) -> float:
        return self.lr

    def __repr__(self) -> str:
        bound = "" if self.bound is None else f", stable up to {self.bound:.4g}"
        name = type(self.optimizer).__name__
        return (
            f"lr {self.lr:.4g} for {name} (usable {self.low:.2g} to {self.high:.4g}{bound}; {self.nfev:,} evaluations)"
        )

    def plot(self, ax: Axes | None = None, *, title: str | None = None, legend: bool = True) -> Axes:
        """Plot: the rate strip, as `koubai.plot.rates` draws it."""
        from koubai.plot.rates import rates

        return rates(self, ax=ax, title=title, legend=legend)


def find_lr(
    f: Any,
    x0: Any,
    optimizer: Optimizer | str,
    *,
    data: Any = None,
    args: Any = (),
    grad: Any = "auto",
    bounds: Any = None,
    batch_size: int = 32,
    steps: int | None = None,
    seed: int = 0,
    **unknown: Never,
) -> LearningRate:
    """Find the learning rate: the one with which this optimizer descends fastest from this start, and its usable range.

        kb.find_lr(f, x0, "adam")   kb.find_lr(network, (X, y), "adam")   kb.find_lr(loss, params, "adam", data=(X, y))

    The magnitude comes from the curvature (the Hessian's largest eigenvalue, by Lanczos) and the size of x. Short
    descents at rates from far below to far above show where progress begins and where it ends; then rates 12% apart
    are followed, the better half of them twice as far each time, up to 1000 steps, and the neighbours of the best. How
    many is bounded by what a run to the target at each of 60 rates would cost, as far as the descents tell: where the
    target is near, the search is short. The target is the f at which 0.1% of the way to the lowest point found is
    left. Of the rates that reach it in up to 1.5 times the fewest steps, and stay there, the one is taken that goes on
    further. For a rule whose stability bound is known (2 / L for plain descent, 2 (1 + momentum) / L with momentum,
    for Adam and RMSprop by the preconditioned curvature) it is compared with what the descents did. A network or a
    loss with data is trained for some 130 updates at a time, with several orders of the data, on copies.

    Nothing that is given changes: parameters, running statistics, the optimizer's state, random generators and the
    order of the data are afterwards, to the bit, what they were.

    Parameters
    ----------
    f : callable or Network
        As in `koubai.minimize`; with ``data`` a loss of (params, *batch), as in `koubai.fit`; or a network.
    x0 : number, array or structure of arrays
        The start; for a network its data: (X, y), or a function of the epoch that gives batches.
    optimizer : Optimizer or str
        Whose rate is sought; its other settings count.
    data : tuple of arrays, Batches, Stream or callable, optional
        Of a loss, as `koubai.fit` takes them.
    args, grad, bounds : optional
        As in `koubai.minimize`.
    batch_size : int, default 32
        Samples of an update.
    steps : int, optional
        The most updates of one descent; None is 1000, or 128 with mini-batches.
    seed : int, default 0
        Of the orders of the data, and of the first direction for the curvature. The same seed gives the same rate.

    Returns
    -------
    LearningRate
        ``.lr``, ``.low``, ``.high``, ``.bound``, the evidence ``.curve``, ``.nfev`` and ``.plot()``.

    Raises
    ------
    InputError
        If the optimizer takes no rate, x0 is a stationary point, no rate lowers f, or the data can be read only once.
    FunctionError
        If f gives no finite number at x0.

    Examples
    --------
    >>> found = kb.find_lr(lambda x: np.sum(x**2), [-3.0, 4.0], "sgd")
    >>> round(found.bound, 6), found.low < found.lr < found.high
    (1.0, True)
    >>> kb.minimize(lambda x: np.sum(x**2), [-3.0, 4.0], "sgd", lr=found.lr).success
    True

    References
    ----------
    Cohen et al., "Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability", ICLR 2021, and
    "Adaptive Gradient Methods at the Edge of Stability", 2022, for the bounds; Jamieson & Talwalkar, "Non-stochastic
    Best Arm Identification and Hyperparameter Optimization", AISTATS 2016, for the halving.
    """
    if unknown:
        raise UnknownNameError.of_argument(find_lr, unknown)
    chosen = _tunable(optimizer)
    check_whole(seed, 0, "seed")
    if steps is not None:
        check_whole(steps, 2, "steps", " or None")
    network = _as_network(f)
    if network is not None:
        twin = copy.deepcopy(network)
        X, y = x0 if isinstance(x0, tuple) and len(x0) == 2 else (x0, None)
        with _untouched(X, network):
            _refuse_once(X)
            model: Any = twin.training(X, y, chosen, batch_size=batch_size).model
            return _of_training(model, model.source, chosen, seed, steps)
    if not callable(f):
        raise InputError(f"f must be a function of x, or a network, got {f!r}")
    if data is not None:
        if grad != "auto" or bounds is not None or args not in ((), None):
            raise InputError("args, grad and bounds go with a function of x alone: leave them out, or leave data out")
        layout, start = flatten(x0, "x0")
        with _untouched(f, data):
            source = _source_of(data, batch_size, seed)
            return _of_training(FunctionModel(f, layout, start, source, None), source, chosen, seed, steps)
    return for_descent(f, x0, chosen, args=args, grad=grad, bounds=bounds, seed=seed, steps=steps)


def for_descent(
    f: Callable[..., Any],
    x0: Parameters,
    optimizer: Optimizer,
    *,
    args: Any = (),
    grad: Any = "auto",
    bounds: Any = None,
    batches: Any = None,
    seed: int | None = 0,
    steps: int | None = None,
) -> LearningRate:
    """Find the rate of a descent that `koubai.minimize` is to make with these arguments."""
    chosen, args = _tunable(optimizer), args if isinstance(args, tuple) else (args,)
    plan = EXACT if batches is None else STOCHASTIC
    if batches is not None:
        steps = None if steps is None else min(plan.last, max(16, int(steps) // 12))
    plan = _shortened(plan, steps)
    with _untouched(f, grad, args, batches):
        if batches is not None:
            _refuse_once(batches)
        probes = _Descents(f, x0, chosen, plan, {"args": args, "grad": grad, "bounds": bounds, "batches": batches})
        return _Search(probes, plan, chosen).result(seed or 0)


def for_training(model: Any, source: Source, optimizer: Optimizer, seed: int | None, epochs: int) -> LearningRate:
    """Find the rate of a training of so many epochs that `koubai.fit` or `Network.fit` is to make; model: theirs.

    If the data tell how many batches they have, all probing together makes about as many updates as the training.
    """
    arrays, size = getattr(source, "arrays", None), getattr(source, "size", None)
    last = STOCHASTIC.last
    if arrays is not None and size:
        last = min(last, max(16, epochs * -(-len(arrays[0]) // size) // 12))
    with _untouched(model.function, source):
        return _of_training(model, source, _tunable(optimizer), seed or 0, last)


def _of_training(model: Any, source: Source, optimizer: Optimizer, seed: int, steps: int | None) -> LearningRate:
    plan = _shortened(STOCHASTIC, steps)
    return _Search(_Trainings(model, source, optimizer, plan), plan, optimizer).result(seed)


def _shortened(plan: _Plan, steps: int | None) -> _Plan:
    if steps is None or steps == plan.last:
        return plan
    share = steps / plan.last
    changes: dict[str, Any] = {"last": steps}
    for name in ("survey", "first", "window"):
        value = getattr(plan, name)
        changes[name] = value if share > 1 else max(1 if name == "window" else min(steps, 4), round(value * share))
    if plan.repeats == 1 and share < 1:  # few steps tell too little: they are a larger share of the longest descents
        changes |= {"first": min(steps, max(changes["first"], 16)), "share": 0.5}
    return _Plan(**{**plan.__dict__, **changes})


def _tunable(optimizer: Any) -> Optimizer:
    chosen = resolve(optimizer)
    if chosen.rule.searches:
        raise InputError(f"{type(chosen).__name__} finds its own steps by searching along them: it has no rate to find")
    return chosen


def _as_network(f: Any) -> Network | None:
    """Return ``f`` if it is a network. Who has one has imported its module."""
    module = sys.modules.get("koubai.nn.network")
    return f if module is not None and isinstance(f, module.Network) else None


def _source_of(data: Any, batch_size: int, seed: int) -> Source:
    _refuse_once(data)
    source = as_source(data)
    if source is not None:
        return source
    arrays = data if isinstance(data, tuple | list) else (data,)
    if len(arrays) <= 2:
        return batches(arrays[0], arrays[1] if len(arrays) == 2 else None, size=batch_size, seed=seed)
    arrays = tuple(np.asarray(a) for a in arrays)
    order: Any = batches(np.arange(len(arrays[0])), size=batch_size, seed=seed)
    if any(len(a) != len(arrays[0]) for a in arrays):
        raise InputError(f"data must be equally many samples each, got {[len(a) for a in arrays]}")
    return replace(order, arrays=arrays)  # type: ignore[no-any-return]


def _refuse_once(data: Any) -> None:
    """Raise InputError if the data can be read only once: probing would use them up."""
    fix = "give a function of the epoch that makes a new one each time, or arrays"
    if isinstance(data, Iterator):
        raise InputError(f"data is a {type(data).__name__}, which can be read only once: {fix}")
    source = as_source(data)
    if source is not None and callable(data):
        first = source.epoch(0)
        if isinstance(first, Iterator) and first is source.epoch(0):
            raise InputError(f"data gives the same {type(first).__name__} at every call, which can be read once: {fix}")


# -- what was given stays as it is ------------------------------------------------------------------------------------


@contextmanager
def _untouched(*given: Any) -> Iterator[None]:
    """Put every random generator that what is given can reach back to where it was, NumPy's and Python's own too."""
    found: dict[int, Any] = {}
    _generators(given, found, set(), 6)
    before = [_kept(generator) for generator in found.values()]
    legacy, pythons = np.random.get_state(), random.getstate()  # noqa: NPY002 - the user's own
    try:
        with warnings.catch_warnings(action="ignore"):  # the descent itself repeats what the user should know
            yield
    finally:
        np.random.set_state(legacy)  # noqa: NPY002
        random.setstate(pythons)
        for restore in before:
            restore()


def _kept(generator: Any) -> Callable[[], None]:
    """Return what puts ``generator`` back into the state that it has now."""
    if isinstance(generator, np.random.Generator):
        return functools.partial(setattr, generator.bit_generator, "state", generator.bit_generator.state)
    if isinstance(generator, np.random.RandomState):
        return functools.partial(generator.set_state, generator.get_state())
    return functools.partial(generator.setstate, generator.getstate())


def _generators(thing: Any, found: dict[int, Any], seen: set[int], depth: int) -> None:
    """Collect the random generators that ``thing`` holds, or a function reads."""
    if depth < 0 or id(thing) in seen or isinstance(thing, str | bytes | int | float | np.ndarray | type | None):
        return
    seen.add(id(thing))
    if isinstance(thing, np.random.Generator | np.random.RandomState | random.Random):
        found[id(thing)] = thing
        return
    parts: list[Any] = []
    if isinstance(thing, Mapping):
        parts = list(thing.values())
    elif isinstance(thing, tuple | list | set):
        parts = list(thing) if len(thing) <= 1000 else []
    elif isinstance(thing, functools.partial):
        parts = [thing.func, *thing.args, *thing.keywords.values()]
    elif isinstance(thing, types.MethodType):
        parts = [thing.__self__, thing.__func__]
    elif isinstance(thing, types.FunctionType):
        for cell in thing.__closure__ or ():
            try:
                parts.append(cell.cell_contents)
            except ValueError:  # not filled yet
                continue
        parts += [*(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values()]
        codes = [thing.__code__]
        while codes:
            code = codes.pop()
            parts += [thing.__globals__[name] for name in code.co_names if name in thing.__globals__]
            codes += [c for c in code.co_consts if isinstance(c, types.CodeType)]
    elif not isinstance(thing, types.ModuleType) and not type(thing).__module__.startswith("numpy"):
        parts = list(getattr(thing, "__dict__", {}).values())
    for part in parts:
        _generators(part, found, seen, depth - 1)


# -- descents that are tried ------------------------------------------------------------------------------------------


@dataclass
class _Probe:
    """One rate that was tried: its losses so far, and how it stands."""

    fun: FloatArray
    steps: int
    diverged: bool
    x: FloatArray

    def until(self, steps: int) -> _Probe:
        """Return what was known of it after so many steps."""
        return replace(self, fun=self.fun[: steps + 1])


class _Descents:
    """Descents on a function from one start, one a rate, each of which can be continued."""

    def __init__(self, f: Any, x0: Any, optimizer: Optimizer, plan: _Plan, options: dict[str, Any]) -> None:
        self.f, self.x0, self.optimizer, self.plan, self.options = f, x0, optimizer, plan, options
        self.layout, self.x = flatten(x0, "x0")
        self.steppers: dict[Any, Any] = {}
        first = self._stepper(1.0, 0)
        first.begin()  # raises FunctionError if f is not finite here
        self.objective, self.begun = first.descent.objective, first.descent.point
        self.spent = self.objective.nfev
        if self.objective.source.endswith("differences") and options["grad"] == "auto":
            self.options = options | {"grad": "central"}  # probes need no error estimate, which costs 20 times as much
            self.objective = self._stepper(1.0, 0).descent.objective

    @property
    def f0(self) -> float:
        return float(self.begun.fun)

    def _stepper(self, lr: float, steps: int) -> Any:
        # koubai gives no advice on the rate of a schedule, which would be more descents
        optimizer = with_rate(self.optimizer, constant(lr))
        keep: Literal["all", "off"] = "all" if self.layout.size <= 100 else "off"
        return prepared(
            self.f, self.x0, optimizer, lr=None, seed=None, record=keep, checkpoint=None, max_steps=steps,
            gtol=None if self.options["batches"] is None else 0.0, ftol=None, xtol=None, target=None, **self.options,
        )  # fmt: skip

    def run(self, k: int, steps: int, repeat: int = 0) -> _Probe:
        """Descend at rate 10 ** (k / 20), or go on with it, up to so many steps."""
        return self.at(k, 10.0 ** (k / PER_DECADE), steps)

    def at(self, key: Any, lr: float, steps: int) -> _Probe:
        if key not in self.steppers:
            self.steppers[key] = [self._stepper(lr, steps), [], None]
            if self.options["batches"] is None:  # all begin at the same point, which is evaluated once
                begun = self.steppers[key][0]
                begun.descent.objective = self.objective
                begun.begin(self.begun)
                self.steppers[key][1].append(self.f0)
        entry = self.steppers[key]
        stepper, losses, ended = entry
        descent = stepper.descent
        before = descent.objective.nfev
        fast = self.layout.size <= 100 and self.options["batches"] is None
        if ended is None:
            descent.verdict, descent.stopping.max_steps = None, steps
            try:
                for point in points(stepper, many=fast):
                    if not fast:
                        losses.append(point.fun)
                verdict = descent.verdict
                status = None if verdict is None else verdict.status
            except InputError:
                raise
            except Exception:  # f raises where this rate leads
                status = Status.nonfinite
                if not descent.recorder.count:
                    raise
            if status is not Status.max_steps:
                entry[2] = status
        self.spent += descent.objective.nfev - before
        status = entry[2]
        fun: FloatArray = np.array(descent.recorder.arrays()["fun"] if fast else losses, np.float64)
        if self.plan.window > 1:
            fun = _smoothed(fun, self.plan.window)
        return _Probe(fun, descent.point.t, status in BAD, descent.point.x)

    def curvature(self, x: FloatArray, scale: FloatArray | None, seed: int, most: int) -> Curvature:
        """Measure the curvature at x; every product counts as two evaluations."""
        args, grad = self.options["args"], self.options["grad"]
        view = self.layout.view
        if self.options["batches"] is not None:
            raise FunctionError("f is only seen in mini-batches")
        by_differences = grad not in ("auto", "backprop")

        def slopes(at: FloatArray) -> FloatArray:
            before = self.objective.nfev
            point = self.objective.evaluate(1, at)
            self.spent += self.objective.nfev - before
            return np.asarray(point.g)

        found = curvature(
            self.f, view(x), args=args, scale=None if scale is None else view(scale), seed=seed,
            gradient=slopes if by_differences else None, most=most,
        )  # fmt: skip
        self.spent += 0 if by_differences else 2 * found.products
        return found


def _smoothed(fun: FloatArray, window: int) -> FloatArray:
    """Return running means over so many steps; the first ones are over what there is."""
    sums = np.concatenate([[0.0], np.cumsum(fun)])
    ends = np.arange(1, len(fun) + 1)
    begins = np.maximum(0, ends - window)
    with quiet():
        return np.asarray((sums[ends] - sums[begins]) / (ends - begins))


class _Chunks:
    """The batches of a source, epoch after epoch, cut into short epochs of so many of them."""

    def __init__(self, source: Source, size: int, first: int) -> None:
        self.source, self.size, self.first = source, size, first
        self._stream: Iterator[Any] = iter(())
        self._next = -1

    def _all(self) -> Iterator[Any]:
        for k in count(self.first):
            is_empty = True
            for batch in self.source.epoch(k):
                is_empty = False
                yield batch
            if is_empty:
                return

    def epoch(self, k: int) -> Iterable[Any]:
        if k != self._next:
            self._stream = islice(self._all(), k * self.size, None)
        self._next = k + 1
        return islice(self._stream, self.size)


class _Trainings:
    """Trainings of copies of a model, one a rate and order of the data."""

    def __init__(self, model: Any, source: Source, optimizer: Optimizer, plan: _Plan) -> None:
        self.model, self.source, self.optimizer, self.plan = model, source, optimizer, plan
        self.layout, self.x = model.layout, np.array(model.start)
        self.spent = 0
        self.done: dict[tuple[int, int], tuple[int, _Probe]] = {}
        self.f0 = math.inf
        self.refused: FunctionError | None = None  # the last time that f could not be followed

    def run(self, k: int, steps: int, repeat: int = 0) -> _Probe:
        known = self.done.get((k, repeat))
        if known is not None and known[0] >= steps:
            return known[1]
        window = self.plan.window
        optimizer = with_rate(self.optimizer, constant(10.0 ** (k / PER_DECADE)))
        chunks = _Chunks(self.source, window, repeat)  # other epochs have other orders
        model = self.model.twin(chunks)
        training = Training.of(model, chunks, optimizer, epochs=max(1, steps // window), seed=None, record="off")
        try:
            with quiet():
                run = drive(training, None, False)
            assert run.history.epochs is not None
            losses, diverged, made = run.history.epochs.fun, run.status in BAD, run.nit
        except FunctionError as problem:
            self.refused = problem
            losses, diverged, made = np.array([math.inf]), True, 0
        fun = np.asarray(losses, np.float64) if len(losses) else np.array([math.inf])
        self.spent += max(made, 1)
        if not diverged and not np.isfinite(fun).all():
            diverged = True
        probe = _Probe(np.repeat(fun, window), made, diverged, np.empty(0))
        self.done[k, repeat] = steps, probe
        if not repeat and not diverged:
            self.f0 = probe.fun[0] if not math.isfinite(self.f0) else max(self.f0, probe.fun[0])
        return probe


# -- the search -------------------------------------------------------------------------------------------------------


@dataclass
class _Search:
    """Tries rates, and tells which one to take."""

    probes: _Descents | _Trainings
    plan: _Plan
    optimizer: Optimizer
    tried: dict[int, _Probe] = field(default_factory=dict)
    asked: dict[int, int] = field(default_factory=dict)  # the steps for which each was to be followed
    bends: dict[tuple[int, int], float | None] = field(default_factory=dict)  # the curvature where a rate had come to

    @property
    def is_fixed(self) -> bool:
        """Whether the curvature of f alone bounds the rate."""
        return has_recurrence(self.optimizer) and not divides(self.optimizer)

    def run(self, k: int, steps: int) -> _Probe:
        """Follow a rate for so many steps, unless it was followed as far."""
        if self.asked.get(k, 0) < steps:
            self.tried[k], self.asked[k] = self.probes.run(k, steps), steps
        return self.tried[k]

    def result(self, seed: int) -> LearningRate:
        with quiet():
            best = self._survey(self._curvature(self.probes.x, seed, most=ROUGH))
            chosen = self._halved(best, seed)
            bound, reason = self._bound(chosen, seed)
            low, high = self._range(chosen)
        lr = 10.0 ** (chosen / PER_DECADE)
        if bound is not None and self._holds(bound, seed):
            reason += "; descents just below and just above it agree"
            high = bound if lr < bound else high
        return self._found(lr, low, high, bound, reason)

    # -- which magnitude ----------------------------------------------------------------------------------------------

    def _curvature(self, x: FloatArray, seed: int, scale: FloatArray | None = None, most: int = MOST) -> float | None:
        """Return the largest |curvature| at x, by so many products at most; None if it can't be measured."""
        if isinstance(self.probes, _Trainings):
            return None
        try:
            found = self.probes.curvature(x, scale, seed, most)
        except (FunctionError, TraceError, ArithmeticError, ValueError):
            return None
        largest = max(abs(found.largest), abs(found.smallest))
        return largest if 0 < largest < math.inf else None

    def _survey(self, curvature_at_start: float | None) -> int:
        """Return the best of rates of all magnitudes that may be right, half a decade apart."""
        plan, probes = self.plan, self.probes
        low, high = -6 * PER_DECADE, 2 * PER_DECADE
        if isinstance(probes, _Descents):
            x, g = probes.begun.x, probes.begun.g
            steepest = float(np.max(np.abs(g)))
            if steepest == 0:
                raise NoRateError("x0 is a stationary point: its gradient is 0, so that no rate leads anywhere")
            size = float(np.max(np.abs(x))) or 1.0
            bound = curvature_at_start or steepest / size
            if self.is_fixed:
                low, high = _place(1e-6 / bound), _place(1e5 / bound)
            else:
                lengths = size, min(max(steepest / bound, 1e-6 * size), 1e6 * size)
                low, high = _place(1e-6 * min(lengths)), _place(1e3 * max(lengths))
        low -= low % plan.apart
        best: int | None = None
        for _ in range(3):
            surveyed = range(low, high + 1, plan.apart)
            for k in reversed(surveyed):
                probe = self.run(k, plan.survey)
                if self._falls(probe) and (best is None or self._lowest(probe) <= self._lowest(self.tried[best])):
                    best = k
                elif best is not None and self._is_slow(probe, self.tried[best]):
                    return best  # and what is smaller yet is slower
            if best is not None and (best > surveyed[0] or low < -25 * PER_DECADE):
                return best
            low, high = low - 6 * PER_DECADE, low - 1  # smaller yet
        if isinstance(probes, _Trainings) and probes.refused is not None and not math.isfinite(probes.f0):
            raise probes.refused  # at every rate
        if best is None:
            raise NoRateError(
                f"no rate from {10 ** (low / PER_DECADE):.1e} on lowers f below {probes.f0:.6g} in {plan.survey} steps"
                ": x0 is at a minimum already, or the gradient is wrong (see koubai.check_gradient)"
            )
        return best

    def _lowest(self, probe: _Probe) -> float:
        """Return how low a rate comes; of mini-batches, the last mean, since single ones say little."""
        if probe.diverged and isinstance(self.probes, _Trainings):
            return math.inf
        fun = probe.fun[np.isfinite(probe.fun)]
        if not fun.size or probe.diverged:
            return math.inf
        return float(fun.min() if self.plan.window == 1 else fun[-1])

    def _falls(self, probe: _Probe) -> bool:
        return self._lowest(probe) < self.probes.f0

    def _is_slow(self, probe: _Probe, best: _Probe) -> bool:
        """Return whether a rate leads down all the way, but hardly."""
        f0 = self.probes.f0
        if self.plan.repeats > 1 or probe.diverged or not np.max(probe.fun) <= f0:
            return False
        return f0 - self._lowest(probe) < SLOW * (f0 - self._lowest(best))

    # -- which rate ---------------------------------------------------------------------------------------------------

    def _halved(self, best: int, seed: int) -> int:
        """Follow rates around the best of the survey, the better half of them twice as far each time; return the one
        to take. What that may cost is known better with every round: if much is left, more rates are followed.
        """
        plan = self.plan
        rates = self._around(best)
        for _ in range(ROUNDS):
            before = self.probes.spent
            self._begin(rates)
            self._follow_the_better()
            if plan.repeats > 1:
                order = self._ranked(self._good(plan.last))[2]
                return self._repeated(order[: plan.keep], plan.last)
            self._look_deeper()
            if self._room_for_rounds() < plan.last or self.probes.spent == before:
                break
        return self._refined(seed)

    def _around(self, best: int) -> list[int]:
        """Return the rates around the best of the survey: far ones apart from each other first, then those between."""
        plan = self.plan

        def apart(k: int) -> int:
            return next(step for step in (8, 4, 2, 1) if (k - best) % (step * plan.dense) == 0)

        near = [best + i for i in range(-plan.below, plan.above + 1) if i % plan.dense == 0]
        rates = [k for k in near if apart(k) > 1 or k >= best - plan.below // 2]
        return sorted(rates, key=lambda k: (-apart(k), abs(k - best)))

    def _begin(self, rates: list[int]) -> None:
        """Make the first steps with these rates, as many of them as may be."""
        plan = self.plan
        most = self.probes.spent + AT_FIRST * self._room_for_rounds()
        for k in rates:
            if self.probes.spent >= most:
                break
            self.run(k, plan.first)

    def _follow_the_better(self) -> None:
        """Go twice as far each time with the better half of the rates, or with as many of them as may be."""
        plan = self.plan
        steps, room = plan.first, (1 - FOR_LATER) * self._room_for_rounds()
        while steps < plan.last:
            good = {k: probe.until(steps) for k, probe in self._good(steps).items()}
            lowest, _, order = self._ranked(good)
            by_height = sorted(good, key=lambda k: (lowest[k], k))
            wanted = max(plan.keep, len(good) // 2)
            better = list(dict.fromkeys(k for pair in zip(order, by_height, strict=True) for k in pair))[:wanted]
            rounds, steps = math.ceil(math.log2(plan.last / steps)), min(plan.last, 2 * steps)
            if 2 * steps <= plan.last:  # what is slow at first may be what gets furthest: one of each magnitude stays
                magnitudes = {k // plan.apart: k for k in reversed(by_height)}
                better[2:2] = sorted(magnitudes.values(), key=lambda k: lowest[k])
            before = self.probes.spent
            for k in better:
                self.run(k, steps)
                if self.probes.spent + steps // 2 - before > room / rounds:
                    break
            room -= self.probes.spent - before

    def _look_deeper(self) -> None:
        """Follow smaller rates to the end, if the best goes to and fro at the bottom: they come the closer to it."""
        plan, good = self.plan, self._good()
        best = self._best(good)
        if good[best].steps < plan.last or not self._is_stuck(good[best]):
            return
        for k in range(best - plan.apart, best - DEEPER * plan.apart - 1, -plan.apart):
            if self._room_for_rounds() < plan.last:
                break
            self.run(k, plan.last)

    def _is_stuck(self, probe: _Probe) -> bool:
        """Return whether the second half of its steps brought next to nothing."""
        fallen = self._lowest(probe.until(probe.steps // 2)) - self._lowest(probe)
        return fallen < self.plan.target * (self.probes.f0 - self.fb)

    def _good(self, steps: int = 1) -> dict[int, _Probe]:
        """Return the rates that were followed for so many steps, or to the end of a descent, and have not diverged."""
        while True:
            good = {k: probe for k, probe in self.tried.items() if not probe.diverged}
            far = {k: probe for k, probe in good.items() if self.asked[k] >= steps}
            if far:
                return far
            # what is still good was not followed so far; or else smaller rates may be
            k = min(good, key=lambda k: (self._lowest(good[k]), k), default=min(self.tried) - self.plan.apart // 2)
            if k < -40 * PER_DECADE:
                raise NoRateError("every rate that was tried diverges; see koubai.check_gradient for the gradient")
            self.run(k, steps)

    def _room_for_rounds(self) -> float:
        """Return the evaluations that may still be made before the neighbours of the best rate are followed."""
        most, fewest = self._most()
        return most - NEIGHBOURS * min(self.plan.last, self.plan.slack * fewest + 1) - self.probes.spent

    def _most(self) -> tuple[float, float]:
        """Return the evaluations that all may take, a share of what 60 runs would take, as far as that is known; and
        the fewest updates to the target.

        The 60 are three for each half-decade from some decades below the best rate on, each up to the target. One that
        has not come to the target is as much slower than the best as its rate is smaller, if it still falls.
        """
        plan = self.plan
        if plan.repeats > 1:
            return math.inf, plan.last  # mini-batches have short descents
        good = self._good()
        self.fb = min(self._lowest(probe) for probe in good.values())
        times = {k: self._first(probe.fun, plan.target) for k, probe in good.items()}
        best = min(times, key=lambda k: (times[k], k))

        def cost(k: int) -> float:
            near = min(self.tried, key=lambda other: abs(other - k))
            if k <= best and abs(near - k) > plan.apart // 2:
                return float(times[best] * 10 ** ((best - k) / PER_DECADE))
            probe = self.tried[near]
            if probe.diverged or (near > best and probe.steps < self.asked[near]):
                return probe.steps
            if math.isfinite(times[near]):
                return times[near]
            if near > best or self._is_stuck(probe):
                return plan.last
            return float(max(probe.steps, times[best] * 10 ** ((best - near) / PER_DECADE)))

        half_decades = range(best - BELOW * PER_DECADE, max(self.tried) + 1, plan.apart)
        runs = 3 * sum(min(cost(k), plan.last) for k in half_decades[:20])
        return min(plan.share * runs, LONG * plan.last), times[best]

    def _refined(self, seed: int) -> int:
        """Return the best rate after a look at those that the halving left behind: its neighbours, and the largest one
        below the stability bound, which is slow at first and gets furthest along a narrow valley.
        """
        plan, most = self.plan, self._most()[0]

        def follow(k: int, steps: int) -> None:
            if self.probes.spent + steps <= most:
                self.run(k, steps)

        best = self._best(self._good())
        bound = self._bound(best, seed)[0] if self.is_fixed else None
        if bound is not None and best - plan.below < (k := _place((1 - ASIDE) * bound)) < best + plan.above:
            follow(k, plan.last)
            best = self._best(self._good())
        if not self._settles(self.tried[best]) and 2 * self._time(self.tried[best], plan.target) > plan.last // 2:
            for k in range(best - 1, best - 1 - UNSETTLED, -1):
                follow(k, plan.last)
                if k in self.tried and not self.tried[k].diverged and self._settles(self.tried[k]):
                    break
            best = self._best(self._good())
        apart = plan.apart // 2
        while apart:
            time = self._time(self.tried[best], plan.target)
            if not math.isfinite(time):
                break
            for k in (best - apart, best + apart):
                follow(k, min(plan.last, int(plan.slack * time) + 1))
            best, before = self._best(self._good()), best
            if best == before:
                apart //= 2
        while self.run(best, plan.last).diverged:  # it leads to the target, and then away
            best = self._best(self._good())
        return best

    def _settles(self, probe: _Probe) -> bool:
        return bool(probe.fun[-1] <= max(self._lowest(probe), self._level(self.plan.target)))

    def _best(self, good: dict[int, _Probe]) -> int:
        _, time, order = self._ranked(good)
        return self._furthest(good, order, time)

    def _ranked(self, good: dict[int, _Probe]) -> tuple[dict[int, float], dict[int, float], list[int]]:
        """Return the lowest f of each rate, its updates to the target, and the rates by both."""
        lowest = {k: self._lowest(probe) for k, probe in good.items()}
        self.fb = min(lowest.values())
        time = {k: self._time(probe, self.plan.target) for k, probe in good.items()}
        return lowest, time, sorted(good, key=lambda k: (time[k], lowest[k], k))

    def _furthest(self, good: dict[int, _Probe], order: list[int], time: dict[int, float]) -> int:
        """Return, of the rates that are nearly as fast as the fastest, the one that goes on further."""
        if not math.isfinite(time[order[0]]):
            return order[0]
        most = 2.0 * self.plan.last
        near = [k for k in order if time[k] <= self.plan.slack * time[order[0]]]

        def cost(k: int) -> tuple[float, int]:
            others = (self._time(good[k], share) for share in (10 * self.plan.target, 0.1 * self.plan.target, 1e-6))
            return sum(math.log(min(max(t, 1.0), most)) for t in (time[k], *others)), k

        return min(near, key=cost)

    def _repeated(self, candidates: list[int], steps: int) -> int:
        """Return the best of a few rates by the mean of their losses over several orders of the data."""
        plan = self.plan
        means: dict[int, FloatArray] = {}
        for k in candidates:
            each = [self.probes.run(k, steps, repeat) for repeat in range(plan.repeats)]
            if not any(probe.diverged for probe in each):
                n = min(len(probe.fun) for probe in each)
                means[k] = np.mean([probe.fun[:n] for probe in each], axis=0)
        if not means:
            return candidates[0] - PER_DECADE // 3  # each diverges in some order of the data
        self.fb = min(float(fun[-1]) for fun in means.values())
        time = {k: self._first(fun, plan.target) for k, fun in means.items()}
        order = sorted(means, key=lambda k: (time[k], means[k][-1], k))
        near = [k for k in order if time[k] <= plan.slack * time[order[0]]]
        return min(near, key=lambda k: (means[k][-1], k))

    def _time(self, probe: _Probe, share: float) -> float:
        """Return the updates after which no more than this share of the way down is left; more if it does not stay."""
        left = self.fb + self.plan.stays * (self.probes.f0 - self.fb)
        if probe.fun[-1] <= max(left, self._level(share)):
            return self._first(probe.fun, share)
        return LEAVES * self._first(probe.fun, share) if probe.fun[-1] < self.probes.f0 else math.inf

    def _level(self, share: float) -> float:
        return self.fb + share * (self.probes.f0 - self.fb)

    def _first(self, fun: FloatArray, share: float) -> float:
        hits = np.flatnonzero(fun <= self._level(share))
        return float(hits[0]) if hits.size else math.inf

    # -- what holds around it -----------------------------------------------------------------------------------------

    def _range(self, chosen: int) -> tuple[float, float]:
        """Return from where a rate makes progress, and from where it diverges or ends no lower than the start."""
        steps, f0 = self.plan.survey, self.probes.f0
        early = {k: probe.fun[: steps + 1] for k, probe in self.tried.items()}
        fallen = {k: f0 - float(np.min(fun[np.isfinite(fun)], initial=f0)) for k, fun in early.items()}
        best, share = max(fallen.values()), 0.01 if self.plan.window == 1 else 0.1
        low = min(k for k in fallen if k <= chosen and (fallen[k] >= share * best or k == chosen))
        bad = [k for k, probe in self.tried.items() if k > chosen and (probe.diverged or not probe.fun[-1] < f0)]
        good = [k for k in self.tried if k >= chosen and k < min(bad, default=10**6)]
        high = 10.0 ** (max(good) / PER_DECADE)
        return 10.0 ** (low / PER_DECADE), high

    def _bound(self, chosen: int, seed: int) -> tuple[float | None, str]:
        """Return the largest stable rate by the curvature where the descent at the chosen rate comes to rest."""
        probes = self.probes
        if isinstance(probes, _Trainings):
            return None, "mini-batches leave no curvature to measure: the range is that of the trainings"
        if self.is_fixed:
            end = chosen, self.tried[chosen].steps
            if end not in self.bends:
                self.bends[end] = self._curvature(self.tried[chosen].x, seed)
            largest = self.bends[end]
            bound = None if largest is None else fixed_bound(self.optimizer, largest)
            if largest is None or bound is None or not math.isfinite(bound):
                return None, "no stability bound: the curvature is 0 or unknown, or gradients are clipped or grouped"
            return bound, f"the rule's condition at the curvature {largest:.4g} where the descent ends"
        if not has_recurrence(self.optimizer) or stability_bound(self.optimizer, 1.0) is None:
            return None, f"{type(self.optimizer).__name__} has no stability bound by the curvature"
        lr = 10.0 ** (chosen / PER_DECADE)
        probe = probes.at("ahead", lr, AHEAD)
        descent = probes.steppers["ahead"][0].descent
        scale = preconditioner(self.optimizer, descent.state, max(probe.steps, 1))
        largest = self._curvature(probe.x, seed, scale)
        if largest is None:
            return None, "no stability bound: the preconditioned curvature is 0 or unknown"
        bound = stability_bound(self.optimizer, largest)
        return bound, f"the preconditioned curvature {largest:.4g} after {probe.steps} steps"

    def _holds(self, bound: float, seed: int) -> bool:
        """Return whether descents just below the bound of a rule with a fixed one stay, and just above it grow."""
        if not self.is_fixed or isinstance(self.probes, _Trainings):
            return False
        f0, steps = self.probes.f0, 2 * self.plan.first
        below = self.probes.at("below", (1 - ASIDE) * bound, steps)
        above = self.probes.at("above", (1 + ASIDE) * bound, steps)
        return bool(
            not below.diverged and below.fun[-1] < f0 and (above.diverged or not above.fun[-1] <= 2 * below.fun[-1])
        )

    def _found(self, lr: float, low: float, high: float, bound: float | None, reason: str) -> LearningRate:
        keys = sorted(self.tried)
        each = [self.tried[k] for k in keys]
        curve = RateCurve(
            np.array([10.0 ** (k / PER_DECADE) for k in keys]),
            np.array([float(np.min(p.fun[np.isfinite(p.fun)], initial=math.inf)) for p in each]),
            np.array([float(p.fun[-1]) for p in each]),
            np.array([p.steps for p in each]),
            np.array([self._first(p.fun, self.plan.target) for p in each]),
            np.array([p.diverged for p in each]),
            [p.x for p in each] if isinstance(self.probes, _Descents) else [],
        )
        f = self.probes.f if isinstance(self.probes, _Descents) and self.probes.options["batches"] is None else None
        start = self.probes.layout.copy(self.probes.x)
        target = self._level(self.plan.target)
        return LearningRate(
            lr,
            low,
            high,
            bound,
            reason,
            curve,
            target,
            self.probes.spent,
            with_rate(self.optimizer, lr),
            f,
            start,
            self.probes.f0 - self.fb,
        )


def _place(lr: float) -> int:
    return math.floor(PER_DECADE * math.log10(lr))
