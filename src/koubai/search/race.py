"""A fair race: optimizers on one function, each with the same budget of evaluations."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Never, Protocol, runtime_checkable

import numpy as np

from koubai.descent.arguments import prepared
from koubai.descent.default import with_rate
from koubai.descent.objective import Bounds, NoResidualsError, Objective
from koubai.descent.optimizers import Optimizer, names, resolve
from koubai.descent.record import History, Run, Status, filled
from koubai.descent.stopping import Point, Verdict
from koubai.errors import InputError, KoubaiError, UnknownNameError, quiet
from koubai.messages import Worded, told, worded
from koubai.parameters import FloatArray, Layout, Parameters, check_whole, flatten
from koubai.search.learning_rate import LearningRate, find_lr

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BudgetSpent", "Entrant", "Evaluate", "Race", "Trial", "race"]

LARGE = 64  # a budget from which on f is traced, whose check takes some evaluations; below it is differenced
SAME = 0.01  # the rate of all, if lr="same" and none is named
SCIPY = ("Nelder-Mead", "Powell", "CG", "BFGS", "Newton-CG", "L-BFGS-B", "TNC", "COBYLA", "COBYQA", "SLSQP")
UNCONSTRAINED = ("CG", "BFGS", "Newton-CG")  # of these, those that take no bounds


class BudgetSpent(BaseException):
    """The budget of evaluations is spent: what ``evaluate`` raises instead of evaluating once more."""


class Evaluate(Protocol):
    """What an entrant of another library asks; both count, and raise `BudgetSpent` once the budget is spent."""

    def __call__(self, x: Any, /) -> tuple[float, FloatArray]:
        """Return f and the flat gradient at a flat x."""

    def value(self, x: Any, /) -> float:
        """Return f alone, for optimizers that take no gradient."""


@runtime_checkable
class Entrant(Protocol):
    """An optimizer of another library, as `race` takes it.

    Attributes
    ----------
    name : str
        As the table shows it.
    """

    name: str

    def descend(
        self, evaluate: Evaluate, x0: FloatArray, *, bounds: tuple[FloatArray, FloatArray] | None, seed: int
    ) -> str:
        """Descend from the flat x0; return why it ended, in a few words. bounds: low and high, flat.

        `BudgetSpent`, which ``evaluate`` raises once the budget is spent, may pass through.
        """


@dataclass(frozen=True)
class _SciPy:
    """A method of scipy.optimize.minimize, with the gradient that koubai gives, and no tolerance but its own."""

    name: str
    method: str

    def descend(self, evaluate: Evaluate, x0: FloatArray, *, bounds: Any, seed: int) -> str:
        from scipy.optimize import minimize

        if bounds is not None and self.method in UNCONSTRAINED:
            raise InputError(f"{self.name} takes no bounds: leave it out, or leave bounds out")
        pairs = None if bounds is None else list(zip(*bounds, strict=True))
        slopes = self.method not in ("Nelder-Mead", "Powell", "COBYLA", "COBYQA")

        options = {"maxiter": 10**9} | ({"maxfun": 10**9} if self.method in ("L-BFGS-B", "TNC") else {})
        if self.method == "COBYLA":
            options = {"maxiter": 10**6}
        asked: Any = evaluate if slopes else evaluate.value
        result = minimize(asked, x0, jac=slopes or None, method=self.method, bounds=pairs, options=options)
        return str(result.message)


@dataclass(frozen=True, eq=False)
class Trial:
    """One entrant from one start.

    Attributes
    ----------
    name : str
        The entrant.
    start : int
        Which start.
    run : Run
        Its path: every step, or of another library's optimizer each evaluation that lowered f.
    evaluations : array of int
        1, 2, … as f was asked,
    fun : array
        and f there.
    nfev : int
        All evaluations that were charged.
    seconds : float
        Wall time.
    failure : str
        Why it ended, if f raised or the optimizer could not go on; else "".
    """

    name: str
    start: int
    run: Run
    evaluations: Any
    fun: FloatArray
    nfev: int
    seconds: float
    failure: str = ""

    def reached(self, target: float) -> float:
        """Return the evaluations after which f was at the target; inf if it never was."""
        hits = np.flatnonzero(self.fun <= target)
        return float(self.evaluations[hits[0]]) if hits.size else math.inf


@dataclass(frozen=True, eq=False, repr=False)
class Race:
    """The result of `race`; printing shows the table.

    Attributes
    ----------
    runs : dict of name → Run
        From the first start.
    trials : list of Trial
        Of every entrant from every start.
    table : dict of columns
        A row an entrant, the best first: name, lr, tuning (evaluations spent on the rate), evaluations (to the target,
        the median over the starts; inf if most don't reach it), fun (the lowest f, median), success (the share of
        starts from which the target was reached), diverged and failed (counts), status (from the first start), seconds.
    winner : str
        The first in the table: the largest share of successes, then the fewest evaluations, then the lowest f.
    tied : tuple of str
        All who share the first place, the winner among them.
    targets : array
        The f that counts as reached, for each start.
    budget : int
        Evaluations of each entrant from each start.
    rules : str
        What was equal for all, in a sentence.
    """

    runs: dict[str, Run]
    trials: list[Trial]
    table: dict[str, list[Any]]
    winner: str
    tied: tuple[str, ...]
    targets: FloatArray
    budget: int
    rules: str

    def __repr__(self) -> str:
        return self.told("en")

    def told(self, lang: str | None = None) -> str:
        """Return the table and the rules as text, in a language: "en", "ja", or None for the locale's."""
        from rich.cells import cell_len as cells  # Japanese letters are two cells wide

        def word(text: Worded) -> str:
            return told(text, lang)

        head = (
            "", "lr", word(worded("tuning")), word(worded("evaluations")), word(worded("lowest f")),
            word(worded("success")), "", "ms",
        )  # fmt: skip
        rows: list[tuple[str, ...]] = [head]
        t = self.table
        for i, name in enumerate(t["name"]):
            lr, evaluations = t["lr"][i], t["evaluations"][i]
            diverged, failed = t["diverged"][i], t["failed"][i]
            bad = [word(worded("{count} diverged", count=diverged))] if diverged else []
            bad += [word(worded("{count} failed", count=failed))] if failed else []
            mark = "=" if name in self.tied and len(self.tied) > 1 else ""
            rows.append(
                (
                    f"{mark}{name}", "" if lr is None else f"{lr:.3g}", f"{t['tuning'][i]:,}" if t["tuning"][i] else "",
                    f"{evaluations:,.0f}" if math.isfinite(evaluations) else "–", f"{t['fun'][i]:.6g}",
                    f"{t['success'][i]:.0%}", ", ".join(bad), f"{1e3 * t['seconds'][i]:.1f}",
                )
            )  # fmt: skip
        wide = [max(cells(row[i]) for row in rows) for i in range(len(head))]
        lines = []
        for row in rows:
            pads = [" " * (w - cells(c)) for c, w in zip(row, wide, strict=True)]
            cell = [c + pad if i in (0, 6) else pad + c for i, (c, pad) in enumerate(zip(row, pads, strict=True))]
            lines.append("  ".join(cell))
        return "\n".join([*(line.rstrip() for line in lines), told(self.rules, lang)])

    def profile(self, ratios: Any = None) -> tuple[FloatArray, dict[str, FloatArray]]:
        """Performance profile: for each entrant the share of starts from which it takes at most r times the fewest.

            ρ(r) = |{starts: evaluations ≤ r · the fewest of all entrants}| / |starts|

        Parameters
        ----------
        ratios : array, optional
            The r, ≥ 1; by default from 1 to the largest that occurs.

        Returns
        -------
        (array, dict of name → array)
            The ratios, and the shares at each.

        Examples
        --------
        >>> found = kb.race(lambda x: x**2, 1.0, ["sgd", "adam"], budget=50)
        >>> float(found.profile([1.0])[1][found.winner][0])
        1.0

        References
        ----------
        Dolan & Moré, "Benchmarking Optimization Software with Performance Profiles", Mathematical Programming 2002.
        """
        took = {
            name: np.array([t.reached(self.targets[t.start]) for t in self.trials if t.name == name])
            for name in self.table["name"]
        }
        fewest = np.min(list(took.values()), axis=0)
        with quiet():
            ratio = {name: np.where(np.isfinite(own), own / fewest, np.inf) for name, own in took.items()}
        largest = max((float(r) for own in ratio.values() for r in own if math.isfinite(r)), default=1.0)
        at = np.geomspace(1.0, 1.1 * max(largest, 2.0), 200) if ratios is None else np.asarray(ratios, np.float64)
        return at, {name: (own[None] <= at[:, None] * (1 + 1e-12)).mean(axis=1) for name, own in ratio.items()}

    def plot(self, figure: Figure | None = None) -> Figure:
        """Plot: all paths in one picture (one or two parameters), f by evaluations, and the performance profile."""
        from koubai.plot.rates import race_page

        return race_page(self, figure=figure)

    def animate(self, path: str | os.PathLike[str]) -> Path:
        """Animate: the race from the first start as a moving picture, a .gif or .html, evaluation by evaluation."""
        from koubai.plot.rates import race_animation

        return race_animation(self, path)


def race(
    f: Callable[..., Any],
    x0: Parameters,
    optimizers: Sequence[Any] | Mapping[str, Any],
    *,
    budget: int = 1000,
    lr: Literal["tuned", "given", "same"] | float = "tuned",
    starts: int = 1,
    seeds: int = 1,
    target: float | None = None,
    within: float = 1e-3,
    args: Any = (),
    grad: Any = "auto",
    bounds: Any = None,
    seed: int = 0,
    progress: Callable[[str], Any] | None = None,
    **unknown: Never,
) -> Race:
    """Race: optimizers on one function with one budget of evaluations each; ties, failures, divergences are shown.

        kb.race(f, x0, ["sgd", "adam", kb.LBFGS(), "scipy:L-BFGS-B"]).plot()

    One evaluation is f and its gradient at a point, by backpropagation; what a line search tries counts. What it takes
    to trace f and to check its gradient once (some ten evaluations) is in every entrant's budget. If f can't be
    traced, or the budget is below 64, the gradient is central differences, and each f that they take counts. No entrant
    gets one evaluation more than the budget. The target is the f at which ``within`` of the way from the start down to
    the lowest f that any entrant found is left.

    Parameters
    ----------
    f : callable
        As in `koubai.minimize`.
    x0 : number, array or structure of arrays
        The first start.
    optimizers : list, or dict of name → optimizer
        Names, optimizer objects, "scipy:METHOD" for those of scipy.optimize.minimize, and objects with the methods of
        `koubai.search.race.Entrant` for those of other libraries.
    budget : int, default 1000
        Evaluations of each from each start.
    lr : "tuned", "given", "same" or float, default "tuned"
        "tuned": each optimizer that takes a rate gets the one that `find_lr` finds at the first start, with descents
        as long as the budget at most, the same method for all; what that took is in the table, apart from the budget.
        "given": the rates that they have. A number, or "same" for 0.01: this rate for all.
    starts : int, default 1
        Starts: x0, and others that are uniform in the bounds, or without bounds normal about x0 with a deviation of
        half its largest |component|, at least ½.
    seeds : int, default 1
        Repeats with other starts and, for entrants that are random, other numbers.
    target : float, optional
        An f that counts as reached; None: see above.
    within : float, default 0.001
        See above.
    args, grad, bounds : optional
        As in `koubai.minimize`.
    seed : int, default 0
        Of the first of the seeds.
    progress : callable, optional
        Called with the name of each entrant when its turn begins.

    Returns
    -------
    Race
        ``.runs``, ``.trials``, ``.table``, ``.winner``, ``.profile()``, ``.plot()``, ``.animate(path)``.

    Raises
    ------
    InputError
        For a budget below 1, unknown entrants, two of one name, and an lr that can't be used.

    Examples
    --------
    >>> found = kb.race(kb.problems["rosenbrock"].f, [-1.2, 1.0], ["sgd", "adam", "lbfgs"], budget=200)
    >>> found.winner, all(trial.nfev <= 200 for trial in found.trials)
    ('Adam', True)

    References
    ----------
    Moré & Wild, "Benchmarking Derivative-Free Optimization Algorithms", SIAM Journal on Optimization 2009, for the
    target.
    """
    if unknown:
        raise UnknownNameError.of_argument(race, unknown)
    if not callable(f):
        raise InputError(f"f must be a function of x, got {f!r}")
    for value, name in ((budget, "budget"), (starts, "starts"), (seeds, "seeds")):
        check_whole(value, 1, name)
    check_whole(seed, 0, "seed")
    if isinstance(lr, str) and lr not in ("tuned", "given", "same"):
        raise UnknownNameError("lr", lr, ("tuned", "given", "same"))
    if not isinstance(within, int | float) or isinstance(within, bool) or not 0 < within < 1:
        raise InputError(f"within must be a share between 0 and 1, got {within!r}")
    entrants = _entrants(optimizers)
    args = args if isinstance(args, tuple) else (args,)
    options = {"args": args, "grad": grad, "bounds": bounds}
    layout, first = flatten(x0)
    limits = Bounds.read(bounds, layout, first)
    rates: dict[str, LearningRate | float | None] = {}
    for name, entrant in entrants.items():
        if progress is not None and lr == "tuned" and _has_rate(entrant):
            progress(f"{name}: finding its rate")
        rates[name], entrants[name] = _with_rate(f, x0, entrant, lr, budget, seed, options)
    turn = _Turn(f, layout, limits, budget, options)
    turn.prepare(first)
    trials: list[Trial] = []
    points = [(s, x) for s in range(seeds) for x in _starts(first, limits, starts, seed + s, with_first=s == 0)]
    for name, entrant in entrants.items():
        if progress is not None:
            progress(name)
        for i, (s, x) in enumerate(points):
            trials.append(turn.trial(name, entrant, i, x, seed + s))
    return _ranked(trials, entrants, rates, len(points), budget, target, within, lr, turn.set_up or turn.check)


def _entrants(given: Any) -> dict[str, Any]:
    """Return the entrants by name. Raises InputError for what can't take part."""
    if isinstance(given, str | Optimizer) or not isinstance(given, Mapping | Sequence):
        raise InputError(f"optimizers must be a list of optimizers, or a dict of name → optimizer, got {given!r}")
    if not given:
        raise InputError("optimizers is empty: give at least one")
    pairs = given.items() if isinstance(given, Mapping) else [(None, one) for one in given]
    found: dict[str, Any] = {}
    for name, one in pairs:
        entrant = _entrant(one)
        own = type(entrant).__name__ if isinstance(entrant, Optimizer) else entrant.name
        label = str(name or own)
        if name is None and label in found and isinstance(entrant, Optimizer):
            label = repr(entrant)
        if label in found:
            raise InputError(f"two entrants are called {label!r}: give a dict of name → optimizer")
        found[label] = entrant
    return found


def _entrant(one: Any) -> Any:
    if isinstance(one, str) and one.lower().startswith("scipy:"):
        method = next((m for m in SCIPY if m.lower() == one[6:].lower()), None)
        if method is None:
            raise UnknownNameError("entrant", one, [f"scipy:{m}" for m in SCIPY])
        return _SciPy(f"scipy:{method}", method)
    if isinstance(one, str) and one.lower() not in names():
        raise UnknownNameError("entrant", one, (*names(), *(f"scipy:{m}" for m in SCIPY)))
    if not isinstance(one, str | Optimizer | type) and isinstance(one, Entrant):
        return one
    return resolve(one)


def _has_rate(entrant: Any) -> bool:
    return isinstance(entrant, Optimizer) and not entrant.rule.searches


def _with_rate(
    f: Any, x0: Any, entrant: Any, lr: Any, budget: int, seed: int, options: dict[str, Any]
) -> tuple[LearningRate | float | None, Any]:
    """Return the rate of an entrant, None if it takes none, and the entrant with it."""
    if not _has_rate(entrant):
        return None, entrant
    if lr == "given" and entrant.lr != "auto":
        return (None if callable(entrant.lr) else entrant.lr), entrant
    if lr in ("tuned", "given"):
        try:
            found = find_lr(f, x0, entrant, seed=seed, steps=max(2, min(budget, 1000)), **options)
        except (KoubaiError, ArithmeticError, ValueError):  # no rate leads down from here: its turn will show that
            return entrant.lr if isinstance(entrant.lr, float) else SAME, with_rate(entrant, SAME)
        return found, found.optimizer
    rate = SAME if lr == "same" else lr
    return float(rate), with_rate(entrant, rate)


def _starts(first: FloatArray, limits: Bounds | None, starts: int, seed: int, with_first: bool) -> list[FloatArray]:
    rng = np.random.default_rng([seed, 17])
    found = [first] if with_first else []
    while len(found) < starts:
        if limits is not None and np.isfinite(limits.low).all() and np.isfinite(limits.high).all():
            x: FloatArray = rng.uniform(limits.low, limits.high)
        else:
            x = first + max(0.5, 0.5 * float(np.max(np.abs(first)))) * rng.normal(size=first.size)
            x = x if limits is None else limits.project(x)
        found.append(x.astype(first.dtype))
    return found


class _Metered(Objective):
    """An objective that refuses the evaluation that would be one too many.

    check: evaluations that are charged to those who ask for f alone, as the check is to all others.
    """

    lowest: Point | None = None
    cost: int = 1  # of an evaluation, as far as is known: differences take several

    def __init__(self, *arguments: Any, most: int, check: int) -> None:
        super().__init__(*arguments)
        self.most, self.check = most, check
        self.asked: list[tuple[int, float]] = []  # (evaluations so far, f) of every point

    def evaluate(self, t: int, x: FloatArray) -> Point:
        self._afford(self.cost)
        before, first = self.nfev, not self.asked
        point = super().evaluate(t, x)
        self.cost = 2 if first and self.program is not None else self.nfev - before
        return self._noted(point)

    def value(self, x: FloatArray) -> np.floating[Any]:
        self._afford(1)
        return super().value(x)

    def value_alone(self, x: FloatArray) -> Point:
        if not self.asked:
            self.nfev += self.check
        fun = float(self.value(x))
        return self._noted(Point(0, x, fun, np.full_like(x, 0.0 if math.isfinite(fun) else math.nan), math.nan))

    def _noted(self, point: Point) -> Point:
        self.asked.append((self.nfev, point.fun))
        if math.isfinite(point.fun) and (self.lowest is None or point.fun < self.lowest.fun):
            self.lowest = point
        return point

    def _afford(self, cost: int) -> None:
        if self.nfev + cost > self.most:
            raise BudgetSpent


class _Limited:
    """f with a limit of its calls that is never exceeded: differences don't know in advance how many they take."""

    def __init__(self, f: Callable[..., Any], most: int) -> None:
        self.f, self.most, self.calls = f, most, 0
        self.__name__ = getattr(f, "__name__", "f")

    def __call__(self, *args: Any) -> Any:
        if self.calls >= self.most:
            raise BudgetSpent
        self.calls += 1
        return self.f(*args)


@dataclass
class _Turn:
    """The turn of one entrant from one start."""

    f: Callable[..., Any]
    layout: Layout
    limits: Bounds | None
    budget: int
    options: dict[str, Any]
    check: int = 0  # evaluations that tracing f and checking its gradient take: each entrant's first one has them
    set_up: int = 0  # those charged to every entrant besides: with them it was found out that f can't be traced

    def trial(self, name: str, entrant: Any, start: int, x: FloatArray, seed: int) -> Trial:
        failure, begun = "", time.perf_counter()
        make = self._koubais if isinstance(entrant, Optimizer) else self._anothers
        with quiet(), warnings.catch_warnings(action="ignore"):  # the table and the runs say what happened
            run, meter, failure = make(entrant, x, seed)
        seconds = time.perf_counter() - begun
        asked = np.array(meter.asked, np.float64).reshape(-1, 2)
        return Trial(name, start, run, asked[:, 0].astype(int), asked[:, 1], meter.nfev + self.set_up, seconds, failure)

    def _meter(self) -> _Metered:
        options, most = self.options, self.budget - self.set_up
        f = self.f if most >= LARGE and options["grad"] in ("auto", "backprop") else _Limited(self.f, most)
        return _Metered(f, options["grad"], self.layout, self.limits, options["args"], most=most, check=self.check)

    def prepare(self, x: FloatArray) -> None:
        """Trace f and check its gradient, once for all; differences take over where it can't be traced."""
        if self.options["grad"] != "auto":
            return
        if self.budget < LARGE:
            self.options["grad"] = "central"
            return
        meter = self._meter()
        try:
            with quiet(), warnings.catch_warnings(action="ignore"):
                meter.evaluate(0, x)
        except Exception:  # f raises there: each entrant's turn shows it
            return
        if meter.program is None:
            self.options["grad"] = "central"
            self.set_up = min(meter.nfev - 1, self.budget - 1)
        else:
            self.check = meter.nfev - 1

    def _koubais(self, optimizer: Optimizer, x: FloatArray, seed: int) -> tuple[Run, _Metered, str]:
        stepper = prepared(
            self.f, self.layout.copy(x), optimizer, lr=None, seed=seed, record="auto", checkpoint=None, batches=None,
            max_steps=self.budget, gtol=None, ftol=None, xtol=None, target=None, **self.options,
        )  # fmt: skip
        descent, meter, failure = stepper.descent, self._meter(), ""
        descent.objective, descent.stopping.unbounded = meter, True  # koubai gives no advice then, which would cost
        try:
            stepper.begin()
            while descent.verdict is None:
                stepper.advance(False)
        except BudgetSpent:
            descent.verdict = Verdict(Status.max_steps, _spent(self.budget))
        except NoResidualsError as problem:
            failure = str(problem)
        except Exception as problem:  # f raised, or is not finite at the start
            failure = f"{type(problem).__name__}: {problem}"
        if not descent.recorder.count:
            return (
                _nowhere(self.layout, x, meter, optimizer, failure or "the budget ends before the start"),
                meter,
                (failure or f"the budget of {self.budget} is less than the start takes"),
            )
        if failure:
            descent.verdict = Verdict(Status.stopped, failure)
        meter.f = self.f  # what is drawn of the run later is no part of the budget
        return descent.run(descent.point, meter.lowest or descent.best, None, True), meter, failure

    def _anothers(self, entrant: Any, x: FloatArray, seed: int) -> tuple[Run, _Metered, str]:
        meter, failure = self._meter(), ""
        rows: list[tuple[int, FloatArray, float, float]] = []

        evaluate = _Asked(meter, rows)
        bounds = None if self.limits is None else (self.limits.low, self.limits.high)
        status = Status.stopped
        try:
            message = entrant.descend(evaluate, x.astype(np.float64), bounds=bounds, seed=seed)
        except BudgetSpent:
            message, status = _spent(self.budget), Status.max_steps
        except InputError:
            raise
        except Exception as problem:
            failure = message = f"{type(problem).__name__}: {problem}"
        if meter.lowest is None:
            return _nowhere(self.layout, x, meter, entrant.name, failure or message), meter, failure or message
        if not math.isfinite(meter.asked[-1][1]) and not failure:
            status, message = Status.nonfinite, f"f = {meter.asked[-1][1]} at its last point; {message}"
        return _run_of(self.layout, rows, meter, entrant.name, status, message), meter, failure


@dataclass
class _Asked:
    """f as an entrant of another library asks it. rows: (how manieth, x, f, |gradient|) of each that lowered f."""

    meter: _Metered
    rows: list[Any]

    def __call__(self, at: Any) -> tuple[float, FloatArray]:
        point = self._kept(self.meter.evaluate(len(self.meter.asked), self._flat(at)))
        return point.fun, np.array(point.g, np.float64)

    def value(self, at: Any) -> float:
        return self._kept(self.meter.value_alone(self._flat(at))).fun

    def _flat(self, at: Any) -> FloatArray:
        return np.array(at, self.meter.layout.dtype).ravel()

    def _kept(self, point: Point) -> Point:
        if math.isfinite(point.fun) and (not self.rows or point.fun < self.rows[-1][2]):
            self.rows.append((len(self.meter.asked) - 1, point.x, point.fun, point.grad_norm))
        return point


def _spent(budget: int) -> Worded:
    return worded("the budget of {budget:,} evaluations is spent", budget=budget)


def _run_of(layout: Layout, rows: list[Any], meter: _Metered, name: str, status: Status, message: str) -> Run:
    low = meter.lowest
    assert low is not None
    xs = np.array([row[1] for row in rows])
    n = len(rows)
    history = filled(
        History, t=np.array([row[0] for row in rows]), x=layout.view(xs),
        fun=np.array([row[2] for row in rows]), grad_norm=np.array([row[3] for row in rows]),
        lr=np.full(n, np.nan), clipped=np.zeros(n, bool), projected=np.zeros(n, bool), epochs=None,
    )  # fmt: skip
    return filled(
        Run, x=layout.copy(low.x), fun=low.fun, jac=layout.copy(low.g), nit=len(meter.asked) - 1, nfev=meter.nfev,
        njev=meter.njev, status=status, message=message, best_x=layout.copy(low.x), best_fun=low.fun, history=history,
        executor=meter.executor, executor_reason="another library makes the steps", gradient_source=meter.source,
        optimizer=name, optimizer_reason="given", seed=None, options={}, function=_plain_of(meter),
        covariance_of=None,
    )  # fmt: skip


def _plain_of(meter: _Metered) -> Callable[..., Any]:
    args, f = meter.batch, meter.f.f if isinstance(meter.f, _Limited) else meter.f
    return (lambda x: f(x, *args)) if args else f


def _nowhere(layout: Layout, x: FloatArray, meter: _Metered, optimizer: Any, message: str) -> Run:
    """Return the run of an entrant that could not be evaluated at its start."""
    nan = np.full_like(x, np.nan)
    meter.lowest = Point(0, x, math.nan, nan, math.nan)
    run = _run_of(layout, [(0, x, math.nan, math.nan)], meter, str(optimizer), Status.nonfinite, message)
    meter.lowest = None
    return run


def _ranked(
    trials: list[Trial], entrants: dict[str, Any], rates: dict[str, Any], starts: int, budget: int,
    target: float | None, within: float, lr: Any, check: int,
) -> Race:  # fmt: skip
    """Return the race with its table: who reaches the target how often, and how soon."""
    targets = np.full(starts, -math.inf if target is None else float(target))
    if target is None:
        for i in range(starts):
            own = [t for t in trials if t.start == i]
            begun = next((t.fun[0] for t in own if len(t.fun) and np.isfinite(t.fun[0])), math.nan)
            lowest = min((float(np.min(t.fun[np.isfinite(t.fun)], initial=math.inf)) for t in own), default=math.inf)
            targets[i] = lowest + within * (begun - lowest) if math.isfinite(begun) else -math.inf
    columns = ("name", "lr", "tuning", "evaluations", "fun", "success", "diverged", "failed", "status", "seconds")
    rows: list[dict[str, Any]] = []
    for name in entrants:
        own = [t for t in trials if t.name == name]
        took = [t.reached(targets[t.start]) for t in own]
        rate, low = rates[name], [float(np.min(t.fun[np.isfinite(t.fun)], initial=math.inf)) for t in own]
        rows.append(
            {
                "name": name,
                "lr": rate.lr if isinstance(rate, LearningRate) else rate,
                "tuning": rate.nfev if isinstance(rate, LearningRate) else 0,
                "evaluations": float(np.sort(took)[(len(took) - 1) // 2]),
                "fun": float(np.sort(low)[(len(low) - 1) // 2]),
                "success": float(np.isfinite(took).mean()),
                "diverged": sum(t.run.status in (Status.diverged, Status.nonfinite) and not t.failure for t in own),
                "failed": sum(bool(t.failure) for t in own),
                "status": own[0].failure or own[0].run.status.name,
                "seconds": sum(t.seconds for t in own) / len(own),
            }
        )

    def place(row: dict[str, Any]) -> tuple[float, float, float]:
        return -row["success"], row["evaluations"], row["fun"] if row["success"] == 0 else 0.0

    rows.sort(key=place)
    tied = tuple(row["name"] for row in rows if place(row) == place(rows[0]))
    how = {
        "tuned": worded("rates found by find_lr at the first start"),
        "given": worded("rates as given"),
        "same": worded("lr {lr} for all", lr=SAME),
    }
    checked = worded(", {count} of them to check it", count=check) if check else ""
    rules = worded(
        "{budget:,} evaluations of f and its gradient each{checked}, {starts}, {how}; target: {target}",
        budget=budget,
        checked=checked,
        starts=worded("1 start") if starts == 1 else worded("{count} starts", count=starts),
        how=how.get(lr) or worded("lr {lr} for all", lr=lr),
        target=worded("f ≤ {target:.6g}", target=target)
        if target is not None
        else worded("{within:.2g} of the way down to the lowest f left", within=within),
    )
    if len(tied) > 1:
        rules = worded("{rules}; {count} share the first place", rules=rules, count=len(tied))
    table = {column: [row[column] for row in rows] for column in columns}
    runs = {name: next(t.run for t in trials if t.name == name) for name in table["name"]}
    return Race(runs, trials, table, rows[0]["name"], tied, targets, budget, rules)
