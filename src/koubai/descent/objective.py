"""The objective of a descent: the user's function and its gradient over flat vectors, and the bounds."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from koubai.derivatives.agreement import refuse_random
from koubai.derivatives.check import glanced_at
from koubai.derivatives.differences import (
    ABOVE,
    BELOW,
    FLAT,
    INDEPENDENT,
    Estimate,
    difference_gradient,
    measured_error,
)
from koubai.derivatives.gradient import Differentiated
from koubai.derivatives.paths import RAISED, Path
from koubai.derivatives.residuals import Residuals
from koubai.descent.batch_iterator import BatchIterator, CountedGraphs, EpochSums, weight
from koubai.descent.stopping import Point, largest, shown
from koubai.errors import (
    FallbackWarning,
    FunctionError,
    GradientError,
    GradientWarning,
    InputError,
    TraceError,
    UnknownNameError,
    called,
    quiet,
    warn,
)
from koubai.graph.call import Leaves
from koubai.graph.graph import run_nodes
from koubai.messages import worded
from koubai.parameters import FloatArray, Layout, as_pair, as_scalar, is_finite

__all__ = ["Bounds", "NoResidualsError", "Objective", "largest_of", "norm"]

Function: TypeAlias = Callable[..., Any]
Gradient: TypeAlias = str | bool | Callable[..., Any]
Mask: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]

_ONE_STEP = ("forward", "backward", "central")
_ENDS = (ABOVE.format("slope"), BELOW.format("slope"))
_NOWHERE = np.zeros(0, dtype=bool)
JACOBIAN_KEPT = 10_000  # a run keeps a Jacobian of so many numbers until the covariance is asked for


class NoResidualsError(InputError):
    """f is not a sum of squares at a point, for this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"least squares need the residuals, and {reason}; use optimizer='lbfgs'")
        self.reason = reason


class Objective:
    """f and its gradient over flat vectors, with every evaluation counted. batch: f's arguments after x.

    grad: a method's name, a function, or True: f returns its value and its gradient.
    """

    nfev: int = 0
    njev: int = 0
    program: Differentiated | None = None  # value and gradient by backpropagation
    _squares: Residuals | None = None
    _last: tuple[Point, tuple[FloatArray, FloatArray]] | None = None  # residuals, Jacobian
    _first: np.floating[Any] | None = None  # f at the start, if it was asked for
    nonfinite_reason: str = ""  # why the last gradient is not finite, if f is
    disagreement: str = ""  # of the user's own gradient with f at the start
    independent: str = ""  # a sentence, if f seems not to depend on x
    _moved: bool = False  # whether the last point evaluated is another one than the start
    _fallen: Exception | None = None  # why backpropagation was given up, if it was just now
    _notes: frozenset[str] = frozenset()  # of the differences that the user has read
    _one_step: tuple[str, float | None] | None = None  # (method, h) of simple differences

    def __init__(
        self, f: Function, grad: Gradient, layout: Layout, bounds: Bounds | None = None, batch: tuple[Any, ...] = ()
    ) -> None:
        self.f, self.grad, self.layout, self.bounds, self.batch = f, grad, layout, bounds, batch
        self.counted_graphs = CountedGraphs()
        if grad in ("auto", "backprop"):
            self.program = Differentiated(f, 0, "backprop", cache=True, box=_box(bounds))
            # no reference cycle: all of a descent goes when it ends, and does not wait for the garbage collector
            this = weakref.ref(self)
            self.program.explain(lambda sentence: None if (owner := this()) is None else owner._explain(sentence))
        elif grad in _ONE_STEP:
            self._one_step = str(grad), None

    def flat_by_construction(self, point: Point) -> str:
        """Return a sentence if f follows x in steps only, so that its derivative is 0 wherever it has one; else ""."""
        path, name = self.path(point.x), getattr(self.f, "__name__", "f")
        if path is None:
            if self.source in ("user", "backprop") or not self.is_flat(point):
                return ""
            return worded(
                "{name} does not change at all around x: it is flat there, or follows x in steps, which says nothing "
                "of a minimum",
                name=name,
            )
        nodes = path.graph.nodes
        for i in path.graph.outputs[1:]:
            if nodes[i].op.name != "zeros":
                return ""
        return worded(
            "{name} follows x in steps only: its derivative is 0 wherever it has one, which says nothing of a minimum",
            name=name,
        )

    def is_flat(self, point: Point) -> bool:
        """Return whether f is the same number at four distances, at each of which a minimum shows."""
        x, width = point.x, float(np.max(np.abs(point.x))) or 1.0
        aside = width * np.random.default_rng(0).choice([-1.0, 1.0], x.size).astype(x.dtype)
        for h in (1e-6, 1e-5, 1e-4, 1e-3):
            there = x + h * aside
            if self.value(there if self.bounds is None else self.bounds.project(there)) != point.fun:
                return False
        return True

    def _explain(self, sentence: str) -> None:
        if sentence == (known := worded(INDEPENDENT, name=getattr(self.f, "__name__", "f"))):
            self.independent = known
            warn(GradientWarning(sentence))
        else:
            self.nonfinite_reason = sentence

    def _note(self, matter: str, sentence: str) -> None:
        """Pass on what differences say of themselves, each matter once in a descent."""
        if matter is FLAT:
            if self._moved:
                return  # so it may be at the end of a descent
            self.independent = worded("{name}: {what}", name=getattr(self.f, "__name__", "f"), what=FLAT)
        if matter not in self._notes:
            self._notes |= {matter}
            name = getattr(self.f, "__name__", "f")
            warn(GradientWarning(f"the gradient of {name} by differences: {sentence}"))

    def measured_error(self, point: Point) -> float:
        """Return the error of the gradient at ``point`` by the measured noise of f; 0.0 if it is measured already,
        or the gradient is not a difference.
        """
        if self._one_step is None:
            return 0.0
        along = (lambda x: self.f(x, *self.batch)) if self.batch else self.f
        inside = None if self.bounds is None else _Inside(along, self.layout, self.bounds, "adaptive")
        box = _box(self.bounds)
        error, used = measured_error(inside or along, self.layout, point.x, *self._one_step, box=box)
        self.nfev += used if inside is None else inside.calls
        return error

    @property
    def executor(self) -> str:
        """What ran the gradient; "python" if no graph did."""
        return "python" if self.program is None else self.program.executor or "python"

    @property
    def source(self) -> str:
        if callable(self.grad) or self.grad is True:
            return "user"
        return "backprop" if self.program is not None else f"{self._method} differences"

    @property
    def _method(self) -> str:
        return "adaptive" if self.grad == "auto" else str(self.grad)

    def value(self, x: FloatArray) -> np.floating[Any]:
        """Return f at ``x``, from the user's function itself."""
        self.nfev += 1
        value = called(lambda: self.f(self.layout.copy(x), *self.batch))
        return as_scalar(value if self.grad is not True else as_pair(value)[0])

    def ask(self, x: FloatArray) -> None:
        """Ask f for its value at the start, which `evaluate` takes if backpropagation needs it there."""
        if self.program is not None:
            try:
                self._first = self.value(x)
            except Exception as problem:
                self._place(problem, 0, x)
                raise

    def _place(self, problem: Exception, t: int, x: FloatArray) -> None:
        """Note where something was raised."""
        problem.add_note(f"koubai: at step {t}, x = {shown(self.layout.view(x))}")

    def evaluate(self, t: int, x: FloatArray) -> Point:
        """Return f and the gradient at ``x``. The user's functions get copies; their exceptions get a note."""
        error, below_rounding, self.nonfinite_reason, self._moved = 0.0, _NOWHERE, "", t > 0
        with quiet():  # the stopping rules look for what is not finite; warnings would only repeat it
            try:
                backprop = self._backprop(t, x)
                if backprop is not None:
                    fun, g = backprop
                elif self.grad is True:
                    fun, g, error, below_rounding = self._both(x)
                elif not np.isfinite(fun := self.value(x)):  # differences around such a point are wasted
                    g = np.full_like(x, np.nan)
                elif callable(self.grad):
                    gradient = self.grad
                    value = called(lambda: gradient(self.layout.copy(x), *self.batch))
                    g, error, below_rounding = self._own_gradient(x, value, "the gradient that grad returned")
                else:
                    method = self._method
                    along = (lambda x: self.f(x, *self.batch)) if self.batch else self.f
                    inside = None if self.bounds is None else _Inside(along, self.layout, self.bounds, method)
                    difference, rounding, below_rounding, used = difference_gradient(
                        inside or along,
                        self.layout,
                        x,
                        method,
                        fun=fun,
                        tell=self._note if inside is None else inside.telling(self._note),
                    )
                    used = used if inside is None else inside.calls
                    g, error, self.nfev = difference.astype(x.dtype), float(rounding.max()), self.nfev + used
                    if self._fallen is not None:
                        fallen, self._fallen = self._fallen, None
                        warn(FallbackWarning(fallen, 1 + used))
            except Exception as problem:
                self._place(problem, t, x)
                raise
        return Point(
            t,
            x,
            float(fun),
            g,
            norm(x, g, self.bounds),
            error,
            tuple(np.flatnonzero(below_rounding)) if below_rounding is not _NOWHERE else (),
        )

    def visit(self, t: int, x: FloatArray) -> Point:
        """Return f and the gradient at ``x`` as `evaluate` does; NaN if x itself is not finite."""
        if is_finite(x):
            return self.evaluate(t, x)
        return Point(t, x, np.nan, np.full_like(x, np.nan), np.nan)

    def mean(self, t: int, x: FloatArray, batches: BatchIterator) -> Point:
        """Return f and the gradient at ``x`` over all the data of ``batches``, every sample with the same weight."""
        sums, error = EpochSums(), 0.0
        for self.batch in batches.all():
            point = self.evaluate(t, x)
            error = max(error, point.error)
            with np.errstate(all="ignore"):
                sums.add(weight(self.batch), point.fun, point.g)
        g = sums.gradient.astype(x.dtype)
        return Point(t, x, sums.mean, g, norm(x, g, self.bounds), error)

    def _backprop(self, t: int, x: FloatArray) -> tuple[np.floating[Any], FloatArray] | None:
        """Return f and its gradient from the traced program, or None if differences have to take its place."""
        program = self.program
        if program is None:
            return None
        if t == 0:
            fun = self.value(x) if self._first is None else self._first
            self._first = None
            if not math.isfinite(fun):  # tracing can't be checked if f has no value
                return fun, np.full_like(x, np.nan)
            program.first = float(fun)
        paths, layout = program.paths, self.layout
        before = paths.nfev
        try:
            fun, g = program(x if layout.is_vector else layout.view(x), *self.batch)  # which writes into no argument
        except (TraceError, GradientError) as error:
            self.nfev += paths.nfev - before
            if self.grad == "backprop":
                raise
            self.program, self._fallen = None, error
            refuse_random(lambda: self.value(x), getattr(self.f, "__name__", "f"))
            return None
        path, cost = program.last, paths.nfev - before
        if cost and path is not None:
            cost = self.counted_graphs.charge(path.recorded.graph, path.recorded.environment.complete, cost)
        self.nfev += 1 + cost
        self.njev += 1
        return fun, layout.match(g, "the gradient")

    def residuals(self, point: Point) -> tuple[FloatArray, FloatArray]:
        """Return the residuals of which f is the sum of squares, and their Jacobian, at ``point``.

        Raises NoResidualsError if f can't be traced or is not a sum of squares, GradientError if 2 J'r is not the
        gradient that backpropagation gives.
        """
        if self._last is not None and self._last[0] is point:
            return self._last[1]
        if self.grad is True:
            raise InputError(
                "least squares need an f that returns its value alone: leave the gradient and grad=True out, or use "
                "optimizer='lbfgs'"
            )
        squares = self.squares
        before = squares.program.nfev
        try:
            r, jacobian = squares.at(point.x, *self.batch)
        except TraceError as error:
            raise NoResidualsError(error.reason) from error
        self.nfev += squares.program.nfev - before
        if not self._is_gradient(r, jacobian, point):
            if np.isnan(r).any():
                raise NoResidualsError("weights must be ≥ 0, and f has a negative one")
            if self.program is not None:
                raise GradientError(
                    f"2 J'r is {2 * (r @ jacobian)}, the gradient by backpropagation {point.g}; if nothing that f "
                    "reads has changed since that was taken, report this, and use optimizer='lbfgs'"
                )
        self._last = point, (r, jacobian)
        return r, jacobian

    @property
    def squares(self) -> Residuals:
        if self._squares is None:
            program = self.program or Differentiated(self.f, 0, "backprop", cache=True, box=_box(self.bounds))
            self._squares = Residuals(program, self.layout)
        return self._squares

    def know(self, point: Point, r: FloatArray, jacobian: FloatArray) -> None:
        """Note what `residuals` would give at ``point``, found by a loop that has made the same checks."""
        self._last = point, (r, jacobian)

    @staticmethod
    def _is_gradient(r: FloatArray, jacobian: FloatArray, point: Point) -> bool:
        """Return whether 2 J'r is the gradient at ``point`` except for rounding."""
        g = 2 * (r @ jacobian)
        error = np.abs(g - point.g)
        if (error <= 1e-6 * np.abs(g)).all():  # no more than what follows, which takes longer to find
            return True
        return bool((error <= 2e-6 * (np.abs(r) @ np.abs(jacobian)) + 1e-300).all())

    def covariance(self, point: Point) -> Callable[[], FloatArray] | None:
        """Return what gives the parameters' covariance at ``point``, as `Run.covariance` says, even if f changes later.

        None if f is not a sum of squares there. Otherwise raises as `residuals` does.
        """
        try:
            r, jacobian = self.residuals(point)
        except NoResidualsError:
            return None
        later = partial(_covariance, r, jacobian, point, self.bounds)
        return later if jacobian.size <= JACOBIAN_KEPT else partial(np.copy, later())

    def agrees(self, fun: float, point: Point) -> bool:
        """Return whether ``fun`` is ``point.fun``, which a program of f gave, except for rounding on the way."""
        eps = float(np.finfo(self.layout.dtype).eps)
        difference = abs(fun - point.fun)
        if difference <= math.sqrt(eps) * max(abs(fun), abs(point.fun)):
            return True
        path = self.path(point.x)
        if path is None:
            return False
        leaves = Leaves.of(self.f, [self.layout.view(point.x), *self.batch], {}, (0,))
        try:
            values = run_nodes(path.graph, leaves.values)
        except RAISED:  # the path is another one than that of the point
            return False
        return difference <= 1e3 * eps * largest_of(values)

    def has_changed(self, x: FloatArray) -> bool:
        """Return whether something has changed that f reads from outside and that can be watched."""
        path = self.path(x)
        return path is not None and not path.same() and path.recorded.environment.complete

    def path(self, x: FloatArray) -> Path | None:
        """Return the traced path that the program took last for an argument of this form, or None."""
        if self.program is None:
            return None
        return self.program.path(self.layout.view(x), *self.batch) if self.batch else self.program.last

    def glance(self, point: Point) -> None:
        """Warn if the user's own gradient at ``point`` is plainly not that of f."""
        if point.error or not (callable(self.grad) or self.grad is True):
            return
        along = partial(self._plain, *self.batch)
        inside = None if self.bounds is None else _Inside(along, self.layout, self.bounds, "adaptive")
        try:
            with quiet():
                wrong, used = glanced_at(inside or along, self.layout, point.x, point.g)
        except (FunctionError, ArithmeticError, ValueError):  # f ends near x0: nothing can be said
            return
        self.nfev += used if inside is None else inside.calls
        if wrong:
            self.disagreement = worded(
                "{whose} is not the gradient of {name} at x0: {wrong}; see koubai.check_gradient(f, grad, x0)",
                whose=worded("the gradient that f returns") if self.grad is True else "grad",
                name=getattr(self.f, "__name__", "f"),
                wrong=wrong,
            )
            warn(GradientWarning(self.disagreement))

    def _plain(self, *args: Any) -> Any:
        """Return f alone; args: what it takes after x, and then x."""
        value = self.f(args[-1], *args[:-1])
        return as_pair(value)[0] if self.grad is True else value

    def _both(self, x: FloatArray) -> tuple[np.floating[Any], FloatArray, float, Mask]:
        """Return f and its gradient from one call of an f that gives both."""
        self.nfev += 1
        value, g = as_pair(called(lambda: self.f(self.layout.copy(x), *self.batch)))
        if not np.isfinite(fun := as_scalar(value)):
            return fun, np.full_like(x, np.nan), 0.0, _NOWHERE
        return fun, *self._own_gradient(x, g, "the gradient that f returned")

    def _own_gradient(self, x: FloatArray, value: Any, what: str) -> tuple[FloatArray, float, Mask]:
        """Return a gradient of the user's, its error, and the components whose step is below the rounding of x."""
        self.njev += 1
        if not isinstance(value, Estimate):
            return self.layout.match(value, what), 0.0, _NOWHERE
        self.nfev += value.nfev
        step = self.layout.match(value.h, "Estimate.h").astype(np.float64)
        self._one_step = (value.method, float(step.min())) if value.method in _ONE_STEP else None
        below_rounding = (x + step == x) & (x - step == x)
        error = self.layout.match(value.error, "Estimate.error")
        finite = error[np.isfinite(error)]
        return self.layout.match(value.value, "Estimate.value"), float(finite.max(initial=0.0)), below_rounding


def _covariance(r: FloatArray, jacobian: FloatArray, point: Point, bounds: Bounds | None) -> FloatArray:
    """Return the covariance of the parameters by r and J at the minimum."""
    x = point.x
    held, on_bound = np.zeros(x.size, bool), np.zeros(x.size, bool)
    if bounds is not None:
        held = bounds.low == bounds.high
        on_bound = ~held & (bounds.free(x, point.g) == 0) & (point.g != 0)
    size, free = x.size, ~held & ~on_bound
    counts = int(np.count_nonzero((r != 0) | (jacobian != 0).any(axis=1)))
    n = int(np.count_nonzero(free))
    found = np.where(on_bound[:, None] | on_bound, np.nan, np.zeros((size, size)))
    if not n:
        return found
    length = np.sqrt(np.square(jacobian[:, free]).sum(axis=0))
    _, sizes, right = np.linalg.svd(jacobian[:, free] / np.where(length > 0, length, 1.0), full_matrices=False)
    known = counts > n and sizes[-1] > max(jacobian.shape) * np.finfo(np.float64).eps * sizes[0]
    inverse = right.T / sizes**2 @ right / np.outer(length, length) if known else np.full((n, n), np.inf)
    found[np.ix_(free, free)] = inverse * (r @ r / (counts - n)) if known else inverse
    return found


def largest_of(values: Iterable[Any]) -> float:
    """Return the largest finite |component| among arrays, of those that are real."""
    sizes = (np.abs(v) for v in map(np.asarray, values) if v.dtype.kind == "f")
    return max((float(np.max(size, initial=0.0, where=np.isfinite(size))) for size in sizes), default=0.0)


def norm(x: FloatArray, g: FloatArray, bounds: Bounds | None) -> float:
    """Return the largest |component| of the gradient; those that push x out of its bounds do not count."""
    return largest(g if bounds is None else bounds.free(x, g))


@dataclass(frozen=True)
class Bounds:
    low: FloatArray
    high: FloatArray

    @classmethod
    def read(cls, bounds: Any, layout: Layout, x: FloatArray) -> Bounds | None:
        """Return the flat bounds. Raises InputError if they are crossed, misshapen or exclude the start."""
        if bounds is None:
            return None
        if isinstance(bounds, Mapping) and layout.names is not None:
            unknown = set(bounds) - set(layout.names)
            if unknown:
                raise UnknownNameError("name in bounds", sorted(unknown)[0], layout.names)
            pairs = [bounds.get(name, (None, None)) for name in layout.names]
        else:
            pairs = [bounds] * len(layout.shapes)
        ends = [_ends(pair, shape) for pair, shape in zip(pairs, layout.shapes, strict=True)]
        low, high = (np.concatenate([end[side] for end in ends]).astype(x.dtype) for side in (0, 1))
        for i in range(x.size):
            if not low[i] <= high[i]:
                raise InputError(f"bounds are crossed at {layout.label(i)}: low {low[i]} is above high {high[i]}")
            if not low[i] <= x[i] <= high[i]:
                raise InputError(
                    f"x0 lies outside its bounds: {layout.label(i)} = {x[i]}, bounds ({low[i]}, {high[i]}); "
                    "move the start or the bounds"
                )
        return cls(low, high)

    def pairs(self) -> list[list[float | None]]:
        """Return the bounds in JSON's types; None means unbounded."""
        ends = zip(self.low.tolist(), self.high.tolist(), strict=True)
        return [[end if np.isfinite(end) else None for end in pair] for pair in ends]

    def project(self, x: FloatArray) -> FloatArray:
        # An overflowed x stays as it is: projected, it would look like an ordinary point on the bound.
        return np.where(np.isfinite(x), np.clip(x, self.low, self.high), x)

    def free(self, x: FloatArray, g: FloatArray) -> FloatArray:
        """Return the gradient with the components that push x out of its bounds set to zero."""
        pushed = ((x <= self.low) & (g > 0)) | ((x >= self.high) & (g < 0)) | (self.low == self.high)
        return np.where(pushed, 0.0, g)


def _box(bounds: Bounds | None) -> tuple[FloatArray, FloatArray] | None:
    return None if bounds is None else (bounds.low, bounds.high)


class _Inside:
    """f for differences about a point within bounds: it is never called outside of them.

    Outside, the adaptive method and complex steps see f as undefined; the other methods get what a cubic
    through four points inside gives (through fewer, if they have no room). Along a component whose bounds are equal,
    f is constant.
    """

    def __init__(self, f: Function, layout: Layout, bounds: Bounds, method: str) -> None:
        self.f, self.layout, self.bounds, self.method = f, layout, bounds, method
        self.calls = 0
        self.finite = True  # whether f was finite so far

    def telling(self, tell: Callable[[str, str], None]) -> Callable[[str, str], None]:
        """Return ``tell`` without the message that f ends at x, if it is only the box that ends there."""

        def filtered(matter: str, sentence: str) -> None:
            if not self.finite or matter not in _ENDS:
                tell(matter, sentence)

        return filtered

    def __call__(self, p: Any) -> Any:
        low, high = self.bounds.low, self.bounds.high
        x = np.concatenate([np.ravel(part) for part in self.layout.parts(p)])
        if x.dtype.kind == "c":
            out = (low != high) & ((x.real < low) | (x.real > high))
            return complex(np.nan, np.nan) if out.any() else self._asked(p)
        there = np.where(low == high, low, x)
        inside = np.clip(there, low, high)
        beyond = there - inside
        if not beyond.any():
            return self._asked(p if np.array_equal(x, there) else self.layout.copy(there))
        if self.method == "adaptive":
            raise ArithmeticError("outside the bounds")  # as f raises outside its domain
        points = [inside - k * beyond for k in range(4)]
        count = next((k for k, point in enumerate(points) if (point < low).any() or (point > high).any()), 4)
        values = [self._asked(self.layout.copy(point)) for point in points[:count]]
        signs = [(-1) ** k * math.comb(count, k + 1) for k in range(count)]
        return sum(sign * value for sign, value in zip(signs, values, strict=True)) if count > 1 else np.nan

    def _asked(self, p: Any) -> Any:
        self.calls += 1
        value = self.f(p)
        self.finite = self.finite and bool(np.isfinite(value).all())
        return value


def _ends(pair: Any, shape: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
    """Return low and high, flat, for one array of ``shape`` from one pair, a pair per element or SciPy's Bounds."""
    try:
        if hasattr(pair, "lb") and hasattr(pair, "ub"):
            ends = [np.broadcast_to(end, shape or 1).reshape(shape) for end in (pair.lb, pair.ub)]
            pair = np.stack(ends, axis=-1)
        array = np.array(pair, dtype=object)
        array = np.where(array == None, np.nan, array).astype(np.float64)  # noqa: E711 - elementwise
    except (TypeError, ValueError):
        raise InputError(f"bounds must be a (low, high) pair or one pair an element, got {pair!r}") from None
    if array.shape not in ((2,), (*shape, 2)):
        raise InputError(f"bounds have shape {array.shape}; for x of shape {shape} give (2,) or {(*shape, 2)}")
    array = np.broadcast_to(array, (*shape, 2))
    if np.isnan([v for v in np.ravel(np.array(pair, dtype=object)) if v is not None]).any():
        raise InputError(f"bounds must not be NaN, got {pair!r}; use None for no bound")
    low, high = array[..., 0].ravel(), array[..., 1].ravel()
    return np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
