"""What is descended on: the user's function and its gradient over flat vectors, and the bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from koubai.derivatives.agreement import refuse_random
from koubai.derivatives.differences import FLAT, INDEPENDENT, Estimate, difference_gradient, measured_error
from koubai.derivatives.gradient import Differentiated
from koubai.descent.feed import Epoch, Feed, weight
from koubai.descent.stopping import Point, shown
from koubai.errors import (
    FallbackWarning,
    GradientError,
    GradientWarning,
    InputError,
    TraceError,
    UnknownNameError,
    warn,
)
from koubai.graph.trace import run_nodes
from koubai.parameters import FloatArray, Layout, as_scalar

__all__ = ["Bounds", "Objective", "largest_of", "norm"]

Function: TypeAlias = Callable[[Any], Any]
Gradient: TypeAlias = str | Callable[[Any], Any]

_ONE_STEP = ("forward", "backward", "central")
_NOWHERE = np.zeros(0, dtype=bool)


@dataclass
class Objective:
    """f and its gradient over flat vectors, with every evaluation counted. batch: f's arguments after x."""

    f: Function
    grad: Gradient
    layout: Layout
    batch: tuple[Any, ...] = ()
    nfev: int = 0
    njev: int = 0
    executor: str = "python"
    program: Differentiated | None = field(default=None, init=False)  # value and gradient by backpropagation
    told: str = field(default="", init=False)  # why the last gradient is not finite, where f is
    independent: str = field(default="", init=False)  # what is to be said if nothing leads from x to f, as it seems
    _moved: bool = field(default=False, init=False)  # is the point asked for another than the start?
    _fallen: Exception | None = field(default=None, init=False)  # why backpropagation was given up, if it was just now
    _notes: set[str] = field(default_factory=set, init=False)  # of the differences that the user has read
    _one_step: tuple[str, float | None] | None = field(default=None, init=False)  # (method, h) of simple differences

    def __post_init__(self) -> None:
        if self.grad in ("auto", "backprop"):
            self.program = Differentiated(self.f, 0, "backprop", keep=True)
            self.program.explain(self._explain)
        elif self.grad in _ONE_STEP:
            self._one_step = str(self.grad), None

    def flat_by_construction(self, x: FloatArray) -> str:
        """Return what is to be said where f follows x in steps only: its derivative is 0 wherever it has one."""
        path = self.path(x)
        if path is None or any(path.graph.nodes[i].op.name != "zeros" for i in path.graph.outputs[1:]):
            return ""
        name = getattr(self.f, "__name__", "f")
        return (
            f"{name} follows x in steps only: its derivative is 0 wherever it has one, which says nothing of a minimum"
        )

    def _explain(self, sentence: str) -> None:
        if sentence == INDEPENDENT.format(name=getattr(self.f, "__name__", "f")):
            self.independent = sentence
            warn(GradientWarning(sentence))
        else:
            self.told = sentence

    def _note(self, matter: str, sentence: str) -> None:
        """Pass on what differences say of themselves, each matter once in a descent."""
        if matter is FLAT:
            if self._moved:
                return  # so it may be at the end of a descent
            self.independent = f"{getattr(self.f, '__name__', 'f')}: {FLAT}"
        if matter not in self._notes:
            self._notes.add(matter)
            name = getattr(self.f, "__name__", "f")
            warn(GradientWarning(f"the gradient of {name} by differences: {sentence}"))

    def measured_error(self, point: Point) -> float:
        """Return the error of the gradient at ``point`` by the measured noise of f; 0.0 where it is measured already,
        or no difference.
        """
        if self._one_step is None:
            return 0.0
        along = (lambda x: self.f(x, *self.batch)) if self.batch else self.f
        error, used = measured_error(along, self.layout, point.x, *self._one_step)
        self.nfev += used
        return error

    @property
    def source(self) -> str:
        if callable(self.grad):
            return "user"
        return "backprop" if self.program is not None else f"{self._method} differences"

    @property
    def _method(self) -> str:
        return "adaptive" if self.grad == "auto" else str(self.grad)

    def value(self, x: FloatArray) -> np.floating[Any]:
        """Return f at ``x``, from the user's function itself."""
        self.nfev += 1
        return as_scalar(self.f(self.layout.copy(x), *self.batch))

    def evaluate(self, t: int, x: FloatArray, bounds: Bounds | None) -> Point:
        """Return f and the gradient at ``x``. The user's functions get copies; their exceptions get a note."""
        error, stuck, self.told, self._moved = 0.0, _NOWHERE, "", t > 0
        with np.errstate(all="ignore"):  # the stopping rules look for what is not finite; warnings would only repeat it
            try:
                backprop = self._backprop(t, x)
                if backprop is not None:
                    fun, g = backprop
                elif not np.isfinite(fun := self.value(x)):  # differences around such a point are wasted
                    g = np.full_like(x, np.nan)
                elif callable(self.grad):
                    g, error, stuck = self._own_gradient(x)
                else:
                    method = self._method
                    along = (lambda x: self.f(x, *self.batch)) if self.batch else self.f
                    difference, rounding, stuck, used = difference_gradient(
                        along, self.layout, x, method, fun=fun, tell=self._note
                    )
                    g, error, self.nfev = difference.astype(x.dtype), float(rounding.max()), self.nfev + used
                    if self._fallen is not None:
                        fallen, self._fallen = self._fallen, None
                        warn(FallbackWarning(fallen, 1 + used))
            except Exception as problem:
                problem.add_note(f"koubai: at step {t}, x = {shown(self.layout.view(x))}")
                raise
        return Point(
            t,
            x,
            float(fun),
            g,
            norm(x, g, bounds),
            error,
            tuple(np.flatnonzero(stuck)) if stuck is not _NOWHERE else (),
        )

    def mean(self, t: int, x: FloatArray, feed: Feed, bounds: Bounds | None) -> Point:
        """Return f and the gradient at ``x`` over all the data of ``feed``, every sample with the same weight."""
        sums, error = Epoch(), 0.0
        for self.batch in feed.all():
            point = self.evaluate(t, x, bounds)
            error = max(error, point.error)
            with np.errstate(all="ignore"):
                sums.add(weight(self.batch), point.fun, point.g)
        g = sums.gradient.astype(x.dtype)
        return Point(t, x, sums.mean, g, norm(x, g, bounds), error)

    def _backprop(self, t: int, x: FloatArray) -> tuple[np.floating[Any], FloatArray] | None:
        """Return f and its gradient from the traced program, or None where differences have to do."""
        if self.program is None:
            return None
        if t == 0 and not np.isfinite(self.value(x)):  # tracing can't be checked where f has no value
            return np.float64(np.nan), np.full_like(x, np.nan)
        before = self.program.nfev
        try:
            fun, g = self.program(self.layout.copy(x), *self.batch)
        except (TraceError, GradientError) as error:
            self.nfev += self.program.nfev - before
            if self.grad == "backprop":
                raise
            self.program, self.executor = None, "python"
            self._fallen = error
            refuse_random(lambda: self.value(x), getattr(self.f, "__name__", "f"))
            return None
        self.nfev += 1 + self.program.nfev - before
        self.njev += 1
        self.executor = self.program.executor
        return fun, self.layout.match(g, "the gradient")

    def agrees(self, fun: float, point: Point) -> bool:
        """Tell whether f may be ``fun`` where a program of it gave ``point.fun``: but for rounding on the way."""
        eps = float(np.finfo(self.layout.dtype).eps)
        difference = abs(fun - point.fun)
        if difference <= math.sqrt(eps) * max(abs(fun), abs(point.fun)):
            return True
        path = self.path(point.x)
        if path is None:
            return False
        leaves = self.layout.parts(self.layout.view(point.x))
        return difference <= 1e3 * eps * largest_of(run_nodes(path.graph, leaves))

    def path(self, x: FloatArray) -> Any:
        """Return the traced path that the program took last for an argument of this form, or None."""
        return None if self.program is None else self.program.path(self.layout.view(x), *self.batch)

    def _own_gradient(self, x: FloatArray) -> tuple[FloatArray, float, np.ndarray[Any, np.dtype[np.bool_]]]:
        assert callable(self.grad)
        value = self.grad(self.layout.copy(x), *self.batch)
        self.njev += 1
        if not isinstance(value, Estimate):
            return self.layout.match(value, "the gradient that grad returned"), 0.0, _NOWHERE
        self.nfev += value.nfev
        step = self.layout.match(value.h, "Estimate.h").astype(np.float64)
        self._one_step = (value.method, float(step.min())) if value.method in _ONE_STEP else None
        stuck = (x + step == x) & (x - step == x)
        error = self.layout.match(value.error, "Estimate.error")
        finite = error[np.isfinite(error)]
        return self.layout.match(value.value, "Estimate.value"), float(finite.max(initial=0.0)), stuck


def largest_of(values: Iterable[Any]) -> float:
    """Return the largest finite |component| among arrays, of those that are real."""
    sizes = (np.abs(v) for v in map(np.asarray, values) if v.dtype.kind == "f")
    return max((float(np.max(size, initial=0.0, where=np.isfinite(size))) for size in sizes), default=0.0)


def norm(x: FloatArray, g: FloatArray, bounds: Bounds | None) -> float:
    """Return the largest |component| of the gradient; those that push x out of its bounds do not count."""
    return float(np.maximum.reduce(np.abs(g if bounds is None else bounds.free(x, g))))


@dataclass(frozen=True)
class Bounds:
    low: FloatArray
    high: FloatArray

    @classmethod
    def read(cls, bounds: Any, layout: Layout, x: FloatArray) -> Bounds | None:
        """Return the flat bounds. Raises InputError where they are crossed, misshapen or exclude the start."""
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
            if not low[i] < high[i]:
                raise InputError(f"bounds are crossed at {layout.label(i)}: low {low[i]} must be below high {high[i]}")
            if not low[i] <= x[i] <= high[i]:
                raise InputError(
                    f"x0 lies outside its bounds: {layout.label(i)} = {x[i]}, bounds ({low[i]}, {high[i]}); "
                    "move the start or the bounds"
                )
        return cls(low, high)

    def pairs(self) -> list[list[float | None]]:
        """Return the bounds in JSON's types; None is no bound."""
        ends = zip(self.low.tolist(), self.high.tolist(), strict=True)
        return [[end if np.isfinite(end) else None for end in pair] for pair in ends]

    def project(self, x: FloatArray) -> FloatArray:
        # An overflowed x stays as it is: projected, it would look like an ordinary point on the bound.
        return np.where(np.isfinite(x), np.clip(x, self.low, self.high), x)

    def free(self, x: FloatArray, g: FloatArray) -> FloatArray:
        """Return the gradient with the components that push x out of its bounds set to zero."""
        pushed = ((x <= self.low) & (g > 0)) | ((x >= self.high) & (g < 0))
        return np.where(pushed, 0.0, g)


def _ends(pair: Any, shape: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
    """Return low and high, flat, for one array of ``shape`` from one pair or a pair an element."""
    try:
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
