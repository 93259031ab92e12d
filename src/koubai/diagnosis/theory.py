"""The theory of convergence, checked on a run: curvatures, stability bound, descent lemma, predicted and measured rate.

Nothing of the run changes. At most 60 gradients are evaluated, or a fifth of those that the run took.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from koubai.derivatives.curvature import Curvature, curvature, extreme_eigenvalues, hessian_product
from koubai.derivatives.gradient import grad as gradient_of
from koubai.descent.optimizers import Optimizer
from koubai.descent.record import History, Run, rows_of
from koubai.descent.stability import (
    has_recurrence,
    preconditioner,
    predicted_rate,
    recurrence,
    stability_bound,
)
from koubai.errors import FunctionError, InputError, quiet
from koubai.parameters import FloatArray, flatten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from koubai.nn.network import Network

__all__ = [
    "DescentLemma",
    "PathCurvature",
    "Rate",
    "Theory",
    "measured_rate",
    "sharpness",
    "theory",
]

Flags: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]

SHARE, LEAST = 5, 60  # a fifth of the run's gradient evaluations, or 60 if that is more
PER_PRODUCT = 2  # gradient evaluations that a Hessian-vector product costs, exact or by central differences
POINTS = 12  # of the path at which curvatures are measured, at most
FEWEST = 4  # products at a point, below which Lanczos says too little
STEPS = 20_000  # that are gone through one by one, at most
DOUBTFUL = 0.02  # of the smallest curvature: an error beyond that is told
SAME = 1e-8  # relative to the fall of f: so well a parabola explains f along the path, or f is none
ROUNDING, EXACT = 100, 1000  # steps so many times the rounding of x follow the gradient; each mode of them
ROWS = 400  # of the path to which modes are fitted, at most
CHANNELS, WIDTH = 4, 10  # directions in which modes are looked for, and numbers that are compared with the next ones
MODES = 8  # at most: more of them fit anything
MISFIT = 1e-2  # root mean square: so well modes must explain the steps
BLOCKS = 8  # of the tail, whose slopes are compared
FALL = 0.7  # of log |∇f|: a tail that falls by less is too short to tell a power from a factor
POWER = 0.2  # from there on 1/r of |∇f| ~ t^-r is a power: a function like |x|^2.25, and flatter


@dataclass(frozen=True)
class Rate:
    """The factor by which f - f* shrinks in a step, fitted to the end of a run.

    Attributes
    ----------
    value : float
        Below 1 if it converges; NaN if the run has too few rows.
    error : float
        How far apart the factors of the two halves of the fitted part are.
    first, last : int
        The steps between which it was fitted.
    is_linear : bool
        Whether both halves agree, and the tail is no power of t: f - f* falls by the same factor each step, not ever
        more slowly.
    power : float
        If the tail falls as a power of t, the q of f - f* ~ t^-q; NaN if not. Then ``value`` is the factor by which it
        falls there, and is on its way to 1.
    """

    value: float
    error: float
    first: int
    last: int
    is_linear: bool
    power: float = math.nan


@dataclass(frozen=True)
class PathCurvature:
    """The curvatures of f at one point of the path.

    Attributes
    ----------
    t : int
        Updates made.
    lr : float
        The rate of the update that follows.
    smallest, largest : float
        The extreme eigenvalues of the Hessian; of P^½ ∇²f P^½ for a rule that divides by √v, with its P at this step.
    ratio : float
        lr over the stability bound at this curvature: 1 is the edge of stability. NaN if there is no bound.
    error : float
        What the eigenvalues may be wrong by.
    products : int
        Hessian-vector products that it took.
    """

    t: int
    lr: float
    smallest: float
    largest: float
    ratio: float
    error: float
    products: int


@dataclass(frozen=True, eq=False)
class DescentLemma:
    """The descent lemma, step by step: f rises above its tangent plane by at most L / 2 times the step squared.

        f(x) - f(x + s)  ≥  -∇f·s - L/2 |s|²     for s = -lr ∇f:  lr (1 - lr L / 2) |∇f|²

    Attributes
    ----------
    t : array of int, shape (steps,)
        The steps that were checked, by the updates made before them.
    fall : array
        By how much f fell.
    promised : array
        By how much it falls at least; a negative number promises nothing, and is the most that f may rise.
    broken : array of bool
        Where f fell by less than promised, beyond rounding: there f curves more than the L that was measured.
    """

    t: np.ndarray[Any, np.dtype[np.int64]]
    fall: FloatArray
    promised: FloatArray
    broken: Flags

    @property
    def holds(self) -> bool:
        """Whether every checked step keeps it."""
        return not bool(self.broken.any())

    @property
    def excess(self) -> FloatArray:
        """By how much f fell short of the promise, at each step; 0 where it kept it."""
        return np.where(self.broken, self.promised - self.fall, 0.0)


@dataclass(frozen=True, eq=False, repr=False)
class Theory:
    """What the theory of convergence says of a run, beside what the run did.

    Attributes
    ----------
    run : Run
        The run.
    curvatures : tuple of PathCurvature
        At points of the path, in their order; the last one is the end.
    L, mu : float
        The largest and the smallest curvature of f along the path, of the preconditioned Hessian for rules that divide
        by √v.
    bound : float or None
        The largest stable rate at the end of the path; None if the rule has none, or f curves down there.
    lemma : DescentLemma or None
        None if no step could be checked.
    predicted : float or None
        The factor by which f - f* shrinks in a step at the end of the run, from the curvatures there in which the path
        has a part; 1 at a degenerate minimum. None if the rule has no such factor, or if its divisor still changes.
    power : float or None
        The q of f - f* ~ t^-q if the run tends to a degenerate minimum, where the smallest curvature falls to 0 with
        the gradient: there is no factor. None elsewhere. ``measured.power`` is the same number, measured.
    measured : Rate
        The same factor, measured.
    closed_form : array, shape (rows, n), or None
        If f is a parabola and the rule is linear with a constant rate: where the exact solution is at every row.
    error : float or None
        The largest distance of the run from it, over the largest distance of the run from the minimum.
    least : float
        The least f, by the parabola at the end if that has a minimum; the least of the run otherwise.
    evaluations, budget : int
        Gradients that all this took (a Hessian-vector product counts as two), and how many it might take.
    notes : tuple of str
        What could not be said, and why.

    Examples
    --------
    >>> run = kb.minimize(lambda x: x[0] ** 2 + 5 * x[1] ** 2, [3.0, 1.0], lr=0.05)
    >>> theory = run.theory()
    >>> theory.L, theory.mu, round(theory.bound, 6), theory.lemma.holds
    (10.0, 2.0, 0.2, True)
    >>> round(theory.predicted, 4), round(theory.measured.value, 4)
    (0.81, 0.81)
    """

    run: Run
    curvatures: tuple[PathCurvature, ...]
    L: float
    mu: float
    bound: float | None
    lemma: DescentLemma | None
    predicted: float | None
    power: float | None
    measured: Rate
    closed_form: FloatArray | None
    error: float | None
    least: float
    evaluations: int
    budget: int
    notes: tuple[str, ...] = field(default=())

    @property
    def kappa(self) -> float:
        """The condition number L / mu at the end of the path; inf if f is flat or curves down there."""
        end = self.curvatures[-1]
        return end.largest / end.smallest if end.smallest > 0 else math.inf

    @property
    def best_lr(self) -> float | None:
        """The rate 2 / (L + mu), with which gradient descent is fastest near the end; None if f curves down there."""
        end = self.curvatures[-1]
        return 2 / (end.largest + end.smallest) if end.smallest > 0 else None

    @property
    def best_rate(self) -> float | None:
        """The factor ((κ - 1) / (κ + 1))² of f - f* at that rate."""
        return None if self.best_lr is None else ((self.kappa - 1) / (self.kappa + 1)) ** 2

    @property
    def ratio(self) -> float:
        """The rate at the end over the stability bound there: above 1 it can't stay; NaN if there is no bound."""
        return self.curvatures[-1].ratio

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the run with what the descent lemma promises, and the predicted beside the measured rate."""
        from koubai.plot.theory import theory as draw

        return draw(self, ax=ax)

    def __repr__(self) -> str:
        return "\n".join(f"{name:<10} {text}" for name, text in self._lines())

    def _lines(self) -> list[tuple[str, str]]:
        t = len(self.curvatures)
        lines = [("curvature", f"L = {self.L:.6g}, mu = {self.mu:.6g} at {t} point{'s' * (t > 1)} of the path")]
        if math.isfinite(self.kappa):
            lines.append(("condition", f"kappa = {self.kappa:.6g} at the end"))
        lr = self.curvatures[-1].lr
        if self.bound is not None:
            side = "at" if abs(self.ratio - 1) < 1e-6 else "below" if self.ratio < 1 else "above"
            lines.append(("bound", f"lr = {lr:.6g} is {side} the largest stable rate {self.bound:.6g} at the end"))
        if self.lemma is not None:
            n, broken = len(self.lemma.t), int(self.lemma.broken.sum())
            said = "all keep" if not broken else f"{broken} break"
            lines.append(("lemma", f"{n} steps checked, {said} f(x) - f(x + s) ≥ -∇f·s - L/2 |s|²"))
        where = f"from step {self.measured.first} to {self.measured.last}"
        if self.power is not None:
            lines.append(("predicted", f"f - f* as t^-{self.power:.3g}, sublinear: the factor tends to 1"))
        elif self.predicted is not None:
            lines.append(("predicted", f"f - f* times {self.predicted:.6g} a step"))
        if self.power is not None and math.isfinite(self.measured.power):
            lines.append(
                ("measured", f"f - f* as t^-{self.measured.power:.3g}, times {self.measured.value:.6g} {where}")
            )
        elif math.isfinite(self.measured.value):
            steady = "" if self.measured.is_linear else "; no steady factor yet"
            lines.append(("measured", f"f - f* times {self.measured.value:.6g} a step, {where}{steady}"))
        if self.error is not None:
            lines.append(("exact", f"a parabola: the run is its exact solution, to {self.error:.2g}"))
        lines.append(("cost", f"{self.evaluations} of at most {self.budget} gradient evaluations"))
        return lines + [("note", note) for note in self.notes]


def theory(
    run: Run,
    f: Callable[[Any], Any] | None = None,
    *,
    grad: Callable[[Any], Any] | None = None,
    seed: int = 0,
) -> Theory:
    """Theory: curvatures along the path of a run, the stability bound, the descent lemma, predicted and measured rate.

        mu ≤ curvature ≤ L,   lr < bound(L),   f(x) - f(x + s) ≥ -∇f·s - L/2 |s|²,   f - f* shrinks by max ρ(M(lr, λ))²

    Curvatures are extreme eigenvalues of the Hessian, by Lanczos; for rules that divide by √v those of P^½ ∇²f P^½,
    with P found by running the rule over gradients at points of the path. At a degenerate minimum no factor holds, and
    f - f* falls as a power of t, which follows from how the smallest curvature falls with the gradient.

    Parameters
    ----------
    run : Run
        Of `koubai.minimize`; with record="all" or few steps every step is checked.
    f : callable, optional
        f as a function of x alone, if the run does not know it: it was loaded from a file, or it had mini-batches and
        this is the loss over all data.
    grad : callable, optional
        The gradient as a function of x, if the run used one of its own and f can't be traced: curvatures are then
        differences of it.
    seed : int, default 0
        Of the first direction of Lanczos.

    Returns
    -------
    Theory
        Its ``evaluations`` are at most 60 or a fifth of the run's own, whichever is more.

    Raises
    ------
    InputError
        For anything but a run, for a run with mini-batches without f, and for one whose optimizer is not known.
    FunctionError
        If f has no finite curvature at any point that was tried, or a loaded run lacks its function.

    Examples
    --------
    >>> from koubai.diagnosis.theory import theory
    >>> run = kb.minimize(lambda x: (x[0] - 1) ** 2 + 4 * x[1] ** 2, [-3.0, 4.0], kb.Momentum(lr=0.01))
    >>> print(repr(theory(run)).splitlines()[0])
    curvature  L = 8, mu = 2 at 12 points of the path
    """
    if not isinstance(run, Run):
        raise InputError(f"run must be the result of koubai.minimize, got {type(run).__name__}")
    if not isinstance(run.optimizer, Optimizer):
        raise InputError(f"the run's optimizer {run.optimizer!r} was not saved with it, so that its bound is not known")
    if f is None and run.history.epochs is not None:
        raise InputError(
            "the run had mini-batches: give f, the loss over all data as a function of x alone; "
            "of a network koubai.diagnosis.theory.sharpness measures the curvature"
        )
    with quiet():
        return _Survey(run, run.function if f is None else f, grad, seed).theory()


class _Survey:
    """What is measured of a run, within its budget."""

    def __init__(self, run: Run, f: Callable[[Any], Any], grad: Callable[[Any], Any] | None, seed: int) -> None:
        self.run, self.f, self.seed = run, f, seed
        self.optimizer: Optimizer = run.optimizer  # type: ignore[assignment]
        self.layout, self.end = flatten(run.x)
        self.t, self.lr, self.fun = run.history.t, run.history.lr, run.history.fun
        self.x = rows_of(run.history.x, self.layout)
        self.budget = max(LEAST, run.njev // SHARE)
        self.spent = 0
        self.notes: list[str] = []
        self.failure = ""  # why a curvature could not be measured
        self.in_batches = run.history.epochs is not None  # so that f and gradients on the record are of samples
        self._grad = grad
        self.divides = has_recurrence(self.optimizer) and bool(self.optimizer.rule.preconditioner)
        self.held = np.zeros(self.layout.size, dtype=bool)
        if run.options.get("bounds") is not None:
            low, high = np.array([[-np.inf if a is None else a, np.inf if b is None else b]
                                  for a, b in run.options["bounds"]]).T  # fmt: skip
            self.held = (self.end <= low) | (self.end >= high)

    # -- derivatives, counted -----------------------------------------------------------------------------------------

    @property
    def left(self) -> int:
        return self.budget - self.spent

    def _differences(self) -> Callable[[FloatArray], FloatArray] | None:
        """Return the flat gradient of which differences are to be taken; None if f has a graph."""
        source = self.run.gradient_source
        if self._grad is None and (source in ("backprop", "user") or self.run.function is not self.f):
            return None
        return self.gradient

    def gradient(self, x: FloatArray) -> FloatArray:
        """Return the flat gradient at the flat x."""
        if self._grad is None:
            method = self.run.options.get("grad", "auto")
            self._grad = gradient_of(self.f, method="auto" if method == "user" else method)
        g = self._grad(self.layout.copy(x.astype(self.layout.dtype)))
        return self.layout.match(g, "the gradient that grad returned").astype(np.float64)

    def product(self, x: FloatArray, scale: FloatArray | None) -> Callable[[FloatArray], FloatArray]:
        """Return the product with the scaled Hessian at x; every call is counted."""
        exact = hessian_product(self.f, self.layout.copy(x), gradient=self._differences())
        root = np.where(self.held, 0.0, 1.0) if scale is None else np.where(self.held, 0.0, np.sqrt(scale))

        def product(v: FloatArray) -> FloatArray:
            self.spent += PER_PRODUCT
            return root * exact(root * v)

        return product

    # -- the whole ----------------------------------------------------------------------------------------------------

    def theory(self) -> Theory:
        run, n = self.run, self.layout.size
        optimizer = self.optimizer
        gradients = self._gradients()
        scales = self._scales(gradients) if self.divides else {}
        hessian = self._hessian() if not self.divides and n * PER_PRODUCT <= self.left else None
        found = self._curvatures(scales, hessian)
        if not found:
            raise FunctionError(f"no curvature could be measured along the path: {self.failure}")
        points = tuple(found)
        end = points[-1]
        largest = max(p.largest for p in points)
        if not self.divides:
            largest = max(largest, self._steepest(gradients, largest))
        if end.error > DOUBTFUL * abs(end.smallest):
            self.notes.append(
                f"the curvatures of {n} parameters are known to ±{end.error:.3g} after {end.products} products: "
                "mu may be smaller, and the predicted rate nearer to 1"
            )
        if self.in_batches:
            self.notes.append("steps of mini-batches: the descent lemma and the measured rate would be those of noise")
            measured = Rate(math.nan, math.nan, int(self.t[0]), int(self.t[-1]), False)
        else:
            measured = measured_rate(run.history)
        power = self._power(points)
        least, parabola = self._lowest(hessian, power)
        closed = self._closed_form(hessian) if parabola and hessian is not None else None
        distance = None
        if closed is not None and hessian is not None:
            away = np.linalg.norm(self.x - self._minimum(hessian), axis=1).max()
            distance = float(np.linalg.norm(self.x - closed, axis=1).max() / max(away, 1e-300))
        return Theory(
            run,
            points,
            largest,
            min(p.smallest for p in points),
            stability_bound(optimizer, end.largest) if end.largest > 0 and (scales or not self.divides) else None,
            self._lemma(gradients, largest),
            self._predicted(end, measured, scales, hessian, power),
            power,
            measured,
            closed,
            distance,
            least,
            self.spent,
            self.budget,
            tuple(self.notes),
        )

    # -- gradients along the path -------------------------------------------------------------------------------------

    def _gradients(self) -> dict[int, FloatArray]:
        """Return the gradient by row: read off the path where the rule is linear, evaluated at some rows otherwise."""
        if has_recurrence(self.optimizer) and not self.divides:
            return {} if self.in_batches else self._read_off()
        if not self.divides:
            return {}
        rows = np.unique(np.linspace(0, len(self.t) - 1, min(len(self.t), self.budget // 3)).astype(int))
        found = {}
        for i in rows.tolist():
            g = self.gradient(self.x[i])
            self.spent += 1
            if np.isfinite(g).all():
                found[i] = g
        return found

    def _read_off(self) -> dict[int, FloatArray]:
        """Return the gradients that the updates of a linear rule must have had: nothing is evaluated."""
        history, optimizer = self.run.history, self.optimizer
        steps = min(len(self.t) - 1, STEPS)
        whole = np.diff(self.t[: steps + 1]) == 1
        spoilt = ~whole | history.clipped[:steps] | history.projected[1 : steps + 1]
        if spoilt.any():
            steps = int(np.argmax(spoilt))
        if steps < len(self.t) - 1:
            self.notes.append(f"the descent lemma was checked for the first {steps} steps only")
        if not steps:
            return {}
        x = self.x.astype(np.float64)
        state = optimizer.init(np.zeros(self.layout.size))
        if all(a.ndim == 0 for a in state):  # nothing is carried: all steps at once
            rates = self.lr[:steps, None]
            nothing = optimizer.step(x[:steps], np.zeros_like(x[:steps]), state, 2, rates)[0]  # type: ignore[arg-type]
            unit = optimizer.step(np.zeros((steps, 1)), np.full((steps, 1), 1e-100), state, 2, rates)[0]  # type: ignore[arg-type]
            return dict(enumerate((x[1 : steps + 1] - nothing) / (unit / 1e-100)))
        found, zeros = {}, np.zeros(self.layout.size)
        tiny = np.full(self.layout.size, 1e-100)
        for i in range(steps):
            lr = float(self.lr[i])
            nothing = optimizer.step(x[i], zeros, state, i + 1, lr)[0]
            unit = optimizer.step(zeros, tiny, tuple(np.zeros_like(a) for a in state), i + 1, lr)[0]
            found[i] = (x[i + 1] - nothing) / (unit / 1e-100)
            state = optimizer.step(x[i], found[i], state, i + 1, lr)[1]
        return found

    def _steepest(self, gradients: dict[int, FloatArray], L: float) -> float:
        """Return the largest |change of the gradient| / |step| along the path, where it is more than rounding."""
        if len(gradients) < 2 or max(gradients) != len(gradients) - 1:
            return 0.0
        g = np.array(list(gradients.values()))
        x = self.x[: len(g)].astype(np.float64)
        moved = np.linalg.norm(np.diff(x, axis=0), axis=1)
        changed = np.linalg.norm(np.diff(g, axis=0), axis=1)
        eps = float(np.finfo(self.layout.dtype).eps)
        wrong = 8 * eps * np.linalg.norm(x[1:], axis=1) / np.maximum(self.lr[1 : len(g)], 1e-300)
        certain = (moved > 0) & (wrong < 1e-3 * changed) & (wrong < 1e-3 * L * moved)
        return float((changed[certain] / moved[certain]).max()) if certain.any() else 0.0

    # -- the rule's divisor -------------------------------------------------------------------------------------------

    def _scales(self, gradients: dict[int, FloatArray]) -> dict[int, FloatArray]:
        """Return P at the rows with a gradient: the rule runs over gradients interpolated between them.

        Their largest components are on the record at every row; the shares of the others are interpolated, and squared
        ones, since a divisor is made of squares. Where the signs matter too, all gradients must be known.
        """
        optimizer, steps = self.optimizer, int(self.t[-1])
        rows = sorted(gradients)
        if steps > STEPS * SHARE:
            self.notes.append(f"the divisor of {type(optimizer).__name__} was not followed over {steps} steps")
            return {}
        if len(rows) < 2:
            return {}
        if not _ignores_signs(optimizer) and len(rows) < steps:
            self.notes.append(
                f"the divisor of {type(optimizer).__name__} depends on every gradient; only {len(rows)} were evaluated"
            )
            return {}
        decay = optimizer.hyperparameters.get("weight_decay") or 0.0
        if optimizer.hyperparameters.get("decoupled_weight_decay"):
            decay = 0.0
        at = self.t[rows].astype(np.float64)
        g = np.array([gradients[i] + decay * self.x[i] for i in rows])
        signs = len(rows) == len(self.t) == steps + 1
        sizes = np.interp(np.arange(steps + 1), self.t, self.run.history.grad_norm)
        squares = g if signs else np.square(g / np.maximum(np.abs(g).max(axis=1, keepdims=True), 1e-300))
        wanted = {int(self.t[i]): i for i in rows}
        state = optimizer.init(self.end.astype(np.float64))
        zeros, found = np.zeros(self.layout.size), {}
        for t in range(steps + 1):
            j = min(max(int(np.searchsorted(at, t, side="right")), 1), len(rows) - 1)
            part = (t - at[j - 1]) / (at[j] - at[j - 1])
            square = squares[j - 1] + part * (squares[j] - squares[j - 1])
            along = square if signs else sizes[t] * np.sqrt(square)
            state = optimizer.step(zeros, along, state, t + 1, optimizer.lr_at(0))[1]
            if t in wanted:
                scale = preconditioner(optimizer, state, t + 1)
                if scale is not None and np.isfinite(scale).all():
                    found[wanted[t]] = scale
        return found

    # -- curvatures ---------------------------------------------------------------------------------------------------

    def _hessian(self) -> FloatArray | None:
        product = self.product(self.end, None)
        try:
            columns = np.array([product(unit) for unit in np.eye(self.layout.size)])
        except FunctionError as error:
            self.failure = str(error)
            return None
        return (columns + columns.T) / 2 if np.isfinite(columns).all() else None

    def _curvatures(self, scales: dict[int, FloatArray], hessian: FloatArray | None) -> list[PathCurvature]:
        """Return the curvatures at as many points of the path as the budget is enough for, the end first of all."""
        n, last = self.layout.size, len(self.t) - 1
        found: dict[int, PathCurvature] = {}
        if hessian is not None:
            values = np.linalg.eigvalsh(hessian[np.ix_(~self.held, ~self.held)]) if not self.held.all() else np.zeros(1)
            found[last] = self._point(last, float(values[0]), float(values[-1]), 0.0, n, False)
        candidates = sorted(scales) if scales else range(last + 1)
        order = _spread(list(candidates))
        for k, i in enumerate(order[:POINTS]):
            if i in found:
                continue
            products = self.left // PER_PRODUCT
            if not k and hessian is None:
                products = max(FEWEST, 3 * products // 4)  # at the end the rate is predicted
            elif n > 12:
                products = min(products, max(FEWEST, products // 3))
            if products < min(n, FEWEST):
                break
            try:
                found[i] = self._at(i, scales.get(i), min(products, n))
            except FunctionError as error:
                self.failure = str(error)
        return [found[i] for i in sorted(found)]

    def _at(self, i: int, scale: FloatArray | None, most: int) -> PathCurvature:
        towards = self.x[i] - self.x[i - 1] if i else None
        if towards is not None and scale is not None:
            towards = towards / np.sqrt(np.where(scale > 0, scale, 1.0))
        n = self.layout.size
        c = extreme_eigenvalues(self.product(self.x[i], scale), n, most=most, towards=towards, seed=self.seed)
        return self._point(i, c.smallest, c.largest, c.error, c.products, scale is not None)

    def _point(
        self, i: int, smallest: float, largest: float, error: float, products: int, is_scaled: bool
    ) -> PathCurvature:
        lr = float(self.lr[i])
        bound = stability_bound(self.optimizer, largest) if largest > 0 and is_scaled == self.divides else None
        return PathCurvature(
            int(self.t[i]),
            lr,
            smallest,
            largest,
            math.nan if bound is None else lr / bound if bound else math.inf,
            error,
            products,
        )

    # -- the parabola -------------------------------------------------------------------------------------------------

    def _minimum(self, hessian: FloatArray) -> FloatArray:
        g = self.layout.match(self.run.jac, "jac").astype(np.float64)
        return self.end - np.linalg.lstsq(hessian, g, rcond=1e-14)[0]

    def _lowest(self, hessian: FloatArray | None, power: float | None) -> tuple[float, bool]:
        """Return the least f, and whether f is a parabola, as far as all of its values along the path tell."""
        best = min(float(self.run.best_fun), float(self.fun.min()))
        g = self.layout.match(self.run.jac, "jac").astype(np.float64)
        if hessian is None or not np.isfinite(g).all() or self.held.any() or self.in_batches:
            return best, False
        d = self.x.astype(np.float64) - self.end
        model = self.run.fun + d @ g + np.einsum("ki,ij,kj->k", d, hessian, d) / 2
        size = max(float(np.ptp(self.fun)), abs(self.run.fun) * 1e-6)
        curved = float(np.abs(self.fun - self.run.fun - d @ g).max())
        parabola = bool(np.abs(model - self.fun).max() <= SAME * size) and curved > 1e-3 * float(np.ptp(self.fun))
        if np.linalg.eigvalsh(hessian)[0] > 0:
            below = float(g @ np.linalg.solve(hessian, g)) / 2
            if power is not None:  # of d^k it is (k - 1) / k as much, not half
                below *= (power + 1) / power
            # near the end the parabola is f; far from it it may be anything
            if parabola or below <= 0.1 * max(best - self.run.fun, float(np.ptp(self.fun))):
                return min(best, self.run.fun - below), parabola
        return best, parabola

    def _closed_form(self, hessian: FloatArray) -> FloatArray | None:
        """Return the exact points of a linear rule on this parabola: in each eigenvector a power of its matrix."""
        optimizer, hyper = self.optimizer, self.optimizer.hyperparameters
        lr = float(self.lr[0])
        if (
            not has_recurrence(optimizer)
            or self.divides
            or hyper.get("weight_decay")
            or hyper.get("clipvalue") is not None
            or hyper.get("clipnorm") is not None
            or not (self.lr[:-1] == lr).all()
        ):
            return None
        values, vectors = np.linalg.eigh(hessian)
        least = self._minimum(hessian)
        start = (self.x[0].astype(np.float64) - least) @ vectors
        matrices = recurrence(optimizer, values, lr)
        if matrices is None:
            return None
        state = optimizer.init(np.zeros(len(values)))
        first, state = optimizer.step(start, values * start, state, 1, lr)
        carried = [a for a in state if a.ndim]
        one = np.stack([first, *carried], axis=1)[:, : matrices.shape[1], None]
        roots, sides = np.linalg.eig(matrices)
        apart = np.abs(np.linalg.det(sides)) > 1e-6
        along = np.zeros_like(one, dtype=complex)
        along[apart] = np.linalg.solve(sides[apart], one[apart].astype(complex))
        points = np.empty((len(self.t), len(values)))
        points[0] = start
        powers = self.t[1:] - 1
        for k in range(0, len(powers), 1000):
            power = powers[k : k + 1000]
            rows = points[1 + k : 1 + k + len(power)]
            rows[...] = (sides[:, 0] * along[:, :, 0] * roots ** power[:, None, None]).sum(axis=2).real
            for j in np.flatnonzero(~apart):  # a double root has no two eigenvectors
                rows[:, j] = [(np.linalg.matrix_power(matrices[j], int(e)) @ one[j])[0, 0] for e in power]
        along_all: FloatArray = points @ vectors.T
        return least + along_all

    # -- the descent lemma --------------------------------------------------------------------------------------------

    def _lemma(self, gradients: dict[int, FloatArray], L: float) -> DescentLemma | None:
        if self.divides:  # L is of the scaled Hessian: no bound on f in x
            return None
        rows = np.array([i for i in sorted(gradients) if i + 1 < len(self.t) and self.t[i + 1] == self.t[i] + 1], int)
        if not rows.size:
            return None
        g = np.array([gradients[i] for i in rows.tolist()])
        x, after = self.x[rows].astype(np.float64), self.x[rows + 1].astype(np.float64)
        s = after - x
        square = np.einsum("ki,ki->k", s, s)
        fall = self.fun[rows] - self.fun[rows + 1]
        promised = -np.einsum("ki,ki->k", g, s) - L / 2 * square
        eps = float(np.finfo(self.layout.dtype).eps)
        size = np.abs(self.fun[rows]) + np.abs(self.fun[rows + 1])
        # The rounding of f, and that of x, which moves f along the gradient, and of which the gradient was read.
        moved = 16 * eps * np.linalg.norm(after, axis=1)
        steep = np.linalg.norm(g, axis=1) + np.sqrt(square) / np.maximum(self.lr[rows], 1e-300)
        rounding = 16 * eps * size + moved * steep + L * moved * moved + 1e-9 * L * square
        return DescentLemma(self.t[rows], fall, promised, promised - fall > rounding)

    # -- the rate -----------------------------------------------------------------------------------------------------

    def _power(self, points: tuple[PathCurvature, ...]) -> float | None:
        """Return the q of f - f* ~ t^-q if the smallest curvature falls as a power of the gradient; None if not."""
        if self.divides or self.in_batches or not has_recurrence(self.optimizer) or not self.t[-1]:
            return None
        late = [p for p in points if p.t >= self.t[-1] / 4]
        rows = np.searchsorted(self.t, [p.t for p in late])
        g, bends = self.run.history.grad_norm[rows], np.array([p.smallest for p in late])
        if len(late) < 4 or not (g > 0).all() or not (bends > 0).all() or np.ptp(self.lr[rows]) > 0:
            return None
        if any(p.error > DOUBTFUL * p.smallest for p in late):
            return None
        power = _exponent(np.log(g), np.log(bends))
        if math.isnan(power):
            return None
        self.notes.append(
            "the curvature mu falls to 0 with the gradient: the run tends to a degenerate minimum or shelf"
        )
        return power

    def _met(self, end: PathCurvature, hessian: FloatArray | None) -> tuple[float, float]:
        """Return the extreme curvatures at the end along the directions in which the path has a part."""
        if hessian is None or self.held.any():
            return end.smallest, end.largest
        values, vectors = np.linalg.eigh(hessian)
        away = np.abs((self.x.astype(np.float64) - self.end) @ vectors).max(axis=0)
        eps = float(np.finfo(self.layout.dtype).eps)
        met = away > ROUNDING * eps * float(np.abs(self.x).max())
        if met.all() or not met.any():
            return end.smallest, end.largest
        values = values[met]
        if values[0] > end.smallest * (1 + DOUBTFUL) or values[-1] < end.largest * (1 - DOUBTFUL):
            self.notes.append(
                f"the path has no part in {int((~met).sum())} of {len(met)} directions: the predicted rate is that of "
                f"the others, of curvature {values[0]:.6g} to {values[-1]:.6g}"
            )
        return float(values[0]), float(values[-1])

    def _predicted(
        self,
        end: PathCurvature,
        measured: Rate,
        scales: dict[int, FloatArray],
        hessian: FloatArray | None,
        power: float | None,
    ) -> float | None:
        if not has_recurrence(self.optimizer):
            name = type(self.optimizer).__name__
            if self.optimizer.hyperparameters.get("groups"):
                self.notes.append(f"the groups of {name} have settings of their own, so there is no one bound and rate")
            else:
                self.notes.append(f"{name} has no bound and no rate that follow from the curvatures alone")
            return None
        if self.divides:
            late = [scale for i, scale in scales.items() if self.t[i] >= self.t[-1] / 2]
            if not late or (np.ptp(late, axis=0) > 0.1 * np.min(late, axis=0)).any():
                self.notes.append(
                    f"{type(self.optimizer).__name__} still changes its divisor at the end, so there is no one rate"
                )
                return None
        if power is not None:
            return 1.0
        mu, L = self._met(end, hessian)
        inside = (self.t >= measured.first) & (self.t < max(measured.last, measured.first + 1))
        rates = self.lr[inside] if inside.any() else self.lr[-1:]
        picked = rates[np.unique(np.linspace(0, len(rates) - 1, 16).astype(int))]
        each = {lr: predicted_rate(self.optimizer, mu, L, lr) for lr in set(picked.tolist())}
        logs = [math.log(max(rate, 1e-300)) for lr in picked.tolist() if (rate := each[lr]) is not None]
        return float(np.exp(np.mean(logs))) if len(logs) == len(picked) else None


def _ignores_signs(optimizer: Optimizer) -> bool:
    """Return whether the rule's divisor is the same for gradients of other signs."""
    found = []
    for sign in (1.0, -1.0):
        state = optimizer.init(np.ones(1))
        for t in (1, 2):
            g = np.full(1, 1.0 if t == 1 else sign)
            state = optimizer.step(np.zeros(1), g, state, t, 1.0)[1]
        found.append(preconditioner(optimizer, state, 2))
    return found[0] is not None and found[1] is not None and bool(np.allclose(found[0], found[1], rtol=1e-12))


def _spread(rows: list[int]) -> list[int]:
    """Return the rows in an order in which any first few of them are spread over all of them, the last one first."""
    order, seen = [], set[int]()
    count = 1
    parts = [1.0, 0.0]
    while len(parts) < 4 * POINTS:
        parts += [(2 * k + 1) / (2 * count) for k in range(count)]
        count *= 2
    for part in parts:
        i = rows[round(part * (len(rows) - 1))]
        if i not in seen:
            seen.add(i)
            order.append(i)
    return order


# -- the measured rate ------------------------------------------------------------------------------------------------


def measured_rate(history: History) -> Rate:
    """Measured rate: the factor by which f - f* shrinks in a step, fitted to the tail of a run.

        f - f* ~ |∇f|² ~ rate**t     the slowest of the modes that make the last steps, above rounding

    Steps and gradients need no f*. Where a few modes don't explain the steps, it is the slope of log |∇f|², and of an
    oscillation that of its peaks.

    Parameters
    ----------
    history : History
        Of a run without mini-batches, whose gradients only show noise otherwise.

    Returns
    -------
    Rate
        NaN if fewer than 6 rows can be used.

    Examples
    --------
    >>> from koubai.diagnosis.theory import measured_rate
    >>> run = kb.minimize(lambda x: x**2, 1.0, lr=0.1, max_steps=100)
    >>> round(measured_rate(run.history).value, 6)
    0.64
    """
    if not isinstance(history, History):
        raise InputError(f"history must be that of a run, run.history; got {type(history).__name__}")
    with quiet():
        return _fitted(history)


def _fitted(history: History) -> Rate:
    layout, _ = flatten(history[0].x)
    eps = float(np.finfo(layout.dtype).eps)
    x = rows_of(history.x, layout).astype(np.float64)
    norms, t = history.grad_norm, history.t.astype(np.float64)
    moved = np.diff(x, axis=0)
    size = np.maximum(np.abs(x[1:]).max(axis=1), np.abs(x[:-1]).max(axis=1))
    steps = np.abs(moved).max(axis=1)
    visible = np.isfinite(norms) & (norms > 1e-290)

    def usable(rounding: float) -> int:
        good = visible.copy()
        good[1:] &= steps > rounding * eps * size
        return len(norms) if good.all() else _end_of_the_first_part(good)

    fits: list[_Fit] = []
    power = math.nan
    if len(norms) >= 6:
        end = usable(EXACT)
        fits += _of_modes(t[:end], moved[: end - 1], history.lr[: end - 1])
        if not any(_agree(*fit.halves) for fit in fits):
            end = usable(ROUNDING)
            y = np.log(norms[:end])
            while _is_floor(y):
                y = y[: len(y) // 2]
            fits += _of_steps(t[: len(y)], moved[: max(0, len(y) - 1)], history.lr[: len(y)])
            fits += _tail(t[: len(y)], y)
        end = usable(ROUNDING)
        power = _power(t[:end], np.log(norms[:end]), history.lr[:end])
    if not fits:
        at = int(history.t[-1])
        return Rate(math.nan, math.nan, at, at, False)
    fit = next((fit for fit in fits if _agree(*fit.halves)), fits[-1])
    before, after = fit.halves
    apart = abs(math.exp(2 * before) - math.exp(2 * after))
    is_linear = _agree(before, after) and math.isnan(power)
    return Rate(math.exp(2 * fit.slope), apart, int(fit.first), int(fit.last), is_linear, power)


def _agree(before: float, after: float) -> bool:
    """Return whether the slopes of two halves are those of one line."""
    return bool(abs(before - after) <= 0.15 * max(abs(before), abs(after)))


class _Fit(NamedTuple):
    """A slope of log |∇f|, those of both halves, and the steps between which it was fitted."""

    slope: float
    halves: tuple[float, float]
    first: float
    last: float


def _end_of_the_first_part(good: Flags) -> int:
    """Return the end of the good rows: single bad ones, at the turns of an oscillation, do not end them."""
    share = np.cumsum(~good)
    for end in np.flatnonzero(~good).tolist():
        if share[min(end + 4, len(good) - 1)] - share[end] >= min(4, len(good) - 1 - end):
            return int(end)
    return len(good)


def _is_floor(y: FloatArray) -> bool:
    """Return whether the second half neither rises nor falls, but goes up and down: the noise of the gradient."""
    half = y[len(y) // 2 :]
    if len(half) < 20:
        return False
    quarters = half[: len(half) // 2], half[len(half) // 2 :]
    apart = abs(float(np.median(quarters[0]) - np.median(quarters[1])))
    return bool(0.2 < (np.diff(half) > 0).mean() < 0.8) and apart < 0.5


def _is_even(t: FloatArray, lr: FloatArray) -> bool:
    """Return whether the rows are the same number of steps apart, all with one rate: steps shrink as slopes do."""
    return not (np.diff(t) != t[1] - t[0]).any() and bool(np.ptp(lr) <= 1e-9 * abs(lr[0]))


def _of_modes(t: FloatArray, moved: FloatArray, lr: FloatArray) -> list[_Fit]:
    """Return the slope of the slowest mode in the second half of the steps; nothing if a few modes don't explain them.

    Near a minimum a step is a sum of modes ρ^t cos(ω t + φ), however near to one another, and however long the waves.
    """
    begin = len(moved) // 2
    if len(moved) - begin < 8 or not _is_even(t[begin:], lr[begin:]):
        return []
    every = -(-(len(moved) - begin) // ROWS)
    z, stride = moved[begin::every], every * float(t[begin + 1] - t[begin])
    whole = _slowest(z, stride)
    if whole is None:
        return []
    middle = len(z) // 2
    parts = [whole if (part := _slowest(half, stride)) is None else part for half in (z[: middle + 1], z[middle:])]
    return [_Fit(whole, (parts[0], parts[1]), float(t[begin]), float(t[-1]))]


def _slowest(z: FloatArray, stride: float) -> float | None:
    """Return log ρ of the slowest of a few modes that explain z; None if they don't.

    Of the rows of z, side by side with the m-th, 2m-th … after them, the next ones are a linear function, whose
    eigenvalues are ρ^m exp(i ω m): Hua and Sarkar, "Matrix pencil method for estimating parameters of exponentially
    damped/undamped sinusoids in noise", 1990.
    """
    k = np.arange(len(z), dtype=np.float64)
    sizes = np.log(np.linalg.norm(z, axis=1))
    if len(z) < 6 or not np.isfinite(sizes).all():
        return None
    about = _median_slope(k, sizes)
    level = z * np.exp(-about * k - sizes[0])[:, None]  # of about the same height all along
    if not np.isfinite(level).all():
        return None
    if level.shape[1] > CHANNELS:
        values, vectors = np.linalg.eigh(level @ level.T)
        level = vectors[:, -CHANNELS:] * np.sqrt(np.maximum(values[-CHANNELS:], 0.0))
    channels = level.shape[1]
    for width in (WIDTH, 6):
        lags = max(2, -(-width // channels))
        m = max(1, len(z) // (3 * lags))
        rows = len(z) - lags * m
        if rows >= lags * channels + 2:
            break
    else:
        return None
    beside = np.concatenate([level[i * m : i * m + rows] for i in range(lags + 1)], axis=1)
    now, later = beside[:, : lags * channels], beside[:, channels:]
    left, singular, right = np.linalg.svd(now, full_matrices=False)
    for modes in range(1, min(MODES, len(singular)) + 1):
        if not singular[modes - 1] > 0:
            return None
        along = left[:, :modes].T @ later
        misfit = float(np.linalg.norm(left[:, :modes] @ (along @ right[:modes].T) @ right[:modes] - later))
        if misfit <= MISFIT * float(np.linalg.norm(later)):
            matrix = along @ right[:modes].T / singular[:modes, None]
            largest = float(np.abs(np.linalg.eigvals(matrix)).max())
            return (about + math.log(largest) / m) / stride if largest > 0 else None
    return None


def _of_steps(t: FloatArray, moved: FloatArray, lr: FloatArray) -> list[_Fit]:
    """Return the slope of the lengths of the last two thirds of the steps: of many waves they have none."""
    begin = len(moved) // 3
    if len(moved) - begin < 6 or not _is_even(t[begin:], lr[begin:]):
        return []
    y, at = np.log(np.linalg.norm(moved[begin:], axis=1)), t[begin:-1]
    if not np.isfinite(y).all():
        return []
    middle = len(y) // 2
    slopes = [
        float(np.polyfit(at[part], y[part], 1)[0]) for part in (slice(None), slice(middle + 1), slice(middle, None))
    ]
    return [_Fit(slopes[0], (slopes[1], slopes[2]), float(t[begin]), float(t[-1]))]


def _tail(t: FloatArray, y: FloatArray) -> list[_Fit]:
    """Return slopes of the end of y, the likelier ones first; nothing for few rows.

    Of an oscillation two thirds of the rows count, so that there are some peaks or at least one; else the last quarter.
    """
    n = len(y)
    if n < 6:
        return []
    quarter = max(6, n // 4)
    grows = np.median(y[-max(3, n // 10) :]) > np.median(y[n - quarter : n - quarter + max(3, n // 10)])
    envelope = np.maximum.accumulate(y) if grows else np.maximum.accumulate(y[::-1])[::-1]
    peaks = 1 + np.flatnonzero((y[1:-1] > y[:-2]) & (y[1:-1] >= y[2:]) & (y[1:-1] == envelope[1:-1]))
    peaks = peaks[peaks >= n // 3]
    half = y[n // 2 :]
    dips = (half[1:-1] < half[:-2]) & (half[1:-1] < half[2:])
    fits = [_halved(t[peaks], y[peaks])] if len(peaks) >= 3 else []
    if dips.any() and not grows:
        fits.append(_halved(t[n // 3 :], envelope[n // 3 :]))
    return [*fits, _halved(t[n - quarter :], envelope[n - quarter :])]


def _power(t: FloatArray, y: FloatArray, lr: FloatArray) -> float:
    """Return q if the last three quarters of |∇f| = exp(y) fall as a power of t, f - f* as t^-q; NaN if not.

    Where f - f* ~ d^k, k > 2, gradient descent has |∇f| ~ (t + t0)^-r with r = (k-1)/(k-2) and q = k/(k-2) = 2r - 1, so
    that its slope -dy/dt is in proportion to |∇f|^1/r; of a factor a step it is the same throughout, and 1/r is 0.
    """
    begin = len(y) // 4
    if len(y) - begin < 4 * BLOCKS or np.ptp(lr[begin:]) > 1e-9 * abs(lr[begin]) or not y[begin] - y[-1] > FALL:
        return math.nan
    blocks = np.array_split(np.arange(begin, len(y)), BLOCKS)
    slopes = np.array([-_median_slope(t[block], y[block]) for block in blocks])
    if not (slopes > 0).all():
        return math.nan
    return _exponent(np.array([float(np.median(y[block])) for block in blocks]), np.log(slopes))


def _exponent(y: FloatArray, z: FloatArray) -> float:
    """Return q if z is a line over log |∇f| = y that rises at 1/r: of the slope, or of the smallest curvature."""
    if not np.ptp(y) > FALL:
        return math.nan
    order = np.argsort(y)
    y, z = y[order], z[order]
    slope = _median_slope(y, z)
    off = z - slope * y
    if not POWER <= slope < 1 or np.ptp(off) > 0.2 * max(1.0, slope * float(np.ptp(y))):
        return math.nan
    return 2 / slope - 1


def _halved(t: FloatArray, y: FloatArray) -> _Fit:
    middle = len(t) // 2
    halves = _median_slope(t[: middle + 1], y[: middle + 1]), _median_slope(t[middle:], y[middle:])
    return _Fit(_median_slope(t, y), halves, float(t[0]), float(t[-1]))


def _median_slope(t: FloatArray, y: FloatArray) -> float:
    """Return the median of the slopes between points half the range apart or more (Theil & Sen)."""
    if len(t) > 200:
        picked = np.unique(np.linspace(0, len(t) - 1, 200).astype(int))
        t, y = t[picked], y[picked]
    i, j = np.triu_indices(len(t), max(1, len(t) // 2))
    return float(np.median((y[j] - y[i]) / (t[j] - t[i])))


# -- networks ---------------------------------------------------------------------------------------------------------


def sharpness(network: Network, X: Any, y: Any, *, scale: Any = None, seed: int = 0) -> Curvature:
    """Sharpness: the extreme curvatures of a network's loss over these samples, at its present weights.

        λ_max(∇²loss): gradient descent trains at the edge of stability where lr · λ_max is about 2

    Parameters
    ----------
    network : Network
        As in prediction, without dropout; it stays as it is.
    X, y : arrays
        The samples, all at once.
    scale : optional
        The diagonal of a preconditioner, in the form of the parameters.
    seed : int, default 0
        Of the first direction of Lanczos.

    Returns
    -------
    Curvature
        Its ``largest`` is what `stability_bound` takes; ``products`` times two gradients were evaluated.

    Examples
    --------
    >>> from koubai.diagnosis.theory import sharpness
    >>> X, y = kb.nn.spirals(60, seed=0)
    >>> network = kb.nn.Network([kb.nn.Dense(8), kb.nn.Tanh(), kb.nn.Dense(3)], kb.nn.CrossEntropy(), seed=0)
    >>> run = network.fit(X, y, "sgd", epochs=1)
    >>> sharpness(network, X, y).largest > 0
    True

    References
    ----------
    Cohen et al., "Gradient descent on neural networks typically occurs at the edge of stability", ICLR 2021.
    """
    import copy

    twin = copy.deepcopy(network)

    def gradient(v: FloatArray) -> FloatArray:
        twin.vector[...] = v
        return twin.layout.match(twin.gradient(X, y), "the gradient").astype(np.float64)

    start = twin.layout.copy(np.array(network.vector))
    return curvature(lambda x: 0.0, start, gradient=gradient, scale=scale, seed=seed)
