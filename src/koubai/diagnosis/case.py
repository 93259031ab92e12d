"""A finished descent under examination: its path, and evaluations of f around it, counted and bounded."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from koubai.derivatives.curvature import Curvature, curvature
from koubai.descent.default import with_rate
from koubai.descent.files import Missing
from koubai.descent.objective import Bounds, Objective
from koubai.descent.optimizers import LBFGS, Optimizer
from koubai.descent.record import Call, Run, rows_of
from koubai.descent.stopping import Point, norm
from koubai.errors import InputError, KoubaiError, quiet
from koubai.parameters import FloatArray, flatten

__all__ = ["KEPT", "TAIL", "Case", "SpentError", "Trial"]

LEAST, SHARE = 60, 0.2  # evaluations of the gradient that a diagnosis may take: so many, or this share of the run's own
TAIL = 40  # of the last steps, to see how the path ends
KEPT = 4  # evaluations that a search leaves
LOWER = 20  # steps of L-BFGS, to see how much lower f is nearby


class SpentError(Exception):
    """The evaluations that a diagnosis may take are used up."""


@dataclass(frozen=True)
class Trial:
    """A short descent: f after 0, 1, … steps, its last point, and why it ended early ("" if it did not)."""

    fun: FloatArray
    end: Point
    trouble: str = ""


class Case:
    """A finished descent on a function, and what is measured of it. Nothing of the run changes."""

    def __init__(self, run: Run) -> None:
        self.run = run
        if isinstance(run.function, Missing):
            raise InputError(f"the run was loaded without its function {run.function.name}; use koubai.load(path, f)")
        self.call = call = run.call or self._from_a_file(run)
        self.layout, self.start_x = call.layout, call.start
        options = call.options
        args = options.get("args", ())
        self.args = args if isinstance(args, tuple) else (args,)
        self.bounds = Bounds.read(options.get("bounds"), self.layout, self.start_x)
        self.grad = options.get("grad", "auto")
        self.objective = Objective(call.f, self.grad, self.layout, self.bounds, self.args)
        self.path = rows_of(run.history.x, self.layout).astype(np.float64)
        self.t, self.fun = run.history.t, run.history.fun
        self.most = max(LEAST, int(SHARE * run.njev))
        self.spent = 0  # evaluations of the gradient
        self.optimizer = run.optimizer if isinstance(run.optimizer, Optimizer) else None

    @staticmethod
    def _from_a_file(run: Run) -> Call:
        layout, _ = flatten(run.x)
        start = rows_of(run.history.x, layout)[0].astype(layout.dtype)
        grad = run.options.get("grad", "auto")
        options = {"grad": "auto" if grad == "user" else grad, "bounds": run.options.get("bounds")}

        def make(*_: Any, **__: Any) -> Run:
            raise InputError("this run comes from a file, which does not hold the call")

        return Call(make, run.function, start, layout, options)

    # -- evaluations --------------------------------------------------------------------------------------------------

    @property
    def left(self) -> int:
        """How many evaluations of the gradient may still be made."""
        return self.most - self.spent

    def at(self, x: FloatArray, t: int = 1) -> Point | None:
        """Return f and the gradient at x; None if they are not finite, or f raises. Raises SpentError."""
        if self.left <= 0:
            raise SpentError
        self.spent += 1
        if self.bounds is not None:
            x = self.bounds.project(x)
        if not np.isfinite(x).all():
            return None
        with quiet(), warnings.catch_warnings(action="ignore"):
            try:
                point = self.objective.evaluate(t, x.astype(self.layout.dtype))
            except Exception:  # the user did not ask for this evaluation
                return None
        return point if point.is_finite else None

    def value(self, x: FloatArray) -> float:
        """Return f at x; NaN if it raises, or x lies outside of the bounds."""
        if self.bounds is not None and not np.array_equal(self.bounds.project(x), x):
            return math.nan
        with quiet(), warnings.catch_warnings(action="ignore"):
            try:
                return float(self.objective.value(x.astype(self.layout.dtype)))
            except Exception:
                return math.nan

    def descend(
        self, optimizer: Optimizer, x: FloatArray, steps: int, wild: float = math.inf, most: int | None = None,
        searched: bool = False,
    ) -> Trial:  # fmt: skip
        """Return a short descent from x. It ends early if a point is not finite, or f rises to ``wild``.

        most: evaluations of the gradient. searched: if they do not suffice for the last search, take its lowest point.
        """
        limit = self.most if most is None else min(self.most, self.spent + most)
        point = self.at(x, 0)
        if point is None:
            return Trial(np.array([math.nan]), Point(0, x, math.nan, x * math.nan, math.nan), "nonfinite")
        funs, state = [point.fun], optimizer.init(point.x, self.layout)
        known: list[Point] = []

        def evaluate(there: FloatArray) -> tuple[float, FloatArray]:
            if self.spent >= limit:
                raise SpentError
            found = self.at(there, 0)
            if found is None:
                return math.nan, np.full_like(there, math.nan)
            known.append(found)
            return found.fun, found.g

        def spent(point: Point) -> Trial:
            end = min([point, *known], key=lambda p: p.fun) if searched else point
            return Trial(np.array(funs), end, "spent")

        box = None if self.bounds is None else (self.bounds.low, self.bounds.high)
        for t in range(1, steps + 1):
            known.clear()
            with quiet():
                try:
                    x, state = optimizer.step(
                        point.x, point.g, state, t, optimizer.lr_at(t - 1), fun=point.fun, evaluate=evaluate,
                        layout=self.layout, box=box,
                    )  # fmt: skip
                except SpentError:
                    return spent(point)
            x = x if self.bounds is None else self.bounds.project(x)
            after = next((p for p in known if np.array_equal(p.x, x)), None)
            if after is None:
                if self.spent >= limit:
                    return spent(point)
                after = self.at(x, t)
            if after is None or after.fun >= wild:
                return Trial(np.array([*funs, math.inf]), point, "wild" if after else "nonfinite")
            if np.array_equal(after.x, point.x):
                break
            point = after
            funs.append(point.fun)
        return Trial(np.array(funs), point)

    def at_rate(self, lr: float, steps: int) -> Trial:
        """Return a short descent from the start by the run's own optimizer at another rate."""
        assert self.optimizer is not None
        optimizer, start = with_rate(self.optimizer, lr), self.start
        return self.descend(
            optimizer, self.start_x, steps, wild=start + max(1e3 * abs(start - self.run.best_fun), abs(start))
        )

    def within(self, bounds: Any) -> Case:
        """Return the same case within other bounds; what it evaluates is to be added to ``spent``."""
        case = copy.copy(self)
        case.bounds = Bounds.read(bounds, self.layout, self.start_x)
        return case

    # -- the path -----------------------------------------------------------------------------------------------------

    @property
    def start(self) -> float:
        return float(self.fun[0])

    @property
    def end(self) -> float:
        return float(self.run.fun)

    @cached_property
    def end_x(self) -> FloatArray:
        return flatten(self.run.x)[1].astype(np.float64)

    @cached_property
    def best_x(self) -> FloatArray:
        return flatten(self.run.best_x)[1].astype(np.float64)

    @cached_property
    def end_g(self) -> FloatArray:
        g = self.layout.match(self.run.jac, "jac").astype(np.float64)
        return g if self.bounds is None else self.bounds.free(self.end_x, g)

    @cached_property
    def tail(self) -> FloatArray:
        """The last points, one a step, as rows; made once more from the end if the history has not kept them."""
        m = min(TAIL, len(self.path) - 1)
        rows, t = self.path[-m - 1 :], self.t[-m - 1 :]
        if m < 1 or (np.diff(t) == 1).all():
            return rows
        return rows[-1:]

    @cached_property
    def steps(self) -> FloatArray:
        return np.diff(self.tail, axis=0)

    @cached_property
    def turning(self) -> float:
        """The mean cosine between a step and the next at the end: -1 where the path goes to and fro."""
        lengths = np.linalg.norm(self.steps, axis=1)
        found = [
            float(a @ b) / (p * q)
            for a, b, p, q in zip(self.steps, self.steps[1:], lengths, lengths[1:], strict=False)
            if p > 0 and q > 0
        ]
        return float(np.mean(found)) if found else 0.0

    @cached_property
    def sharpest_turn(self) -> int | None:
        """The index of the step in the tail after which the path turns back most; None if it never does."""
        lengths = np.linalg.norm(self.steps, axis=1)
        if len(lengths) < 2 or not (lengths > 0).all():
            return None
        cosines = np.sum(self.steps[:-1] * self.steps[1:], axis=1) / (lengths[:-1] * lengths[1:])
        i = int(np.argmin(cosines))
        return i if cosines[i] < 0 else None

    @cached_property
    def shrinking(self) -> float:
        """By what the steps are multiplied at the end, a step: below 1 they become shorter."""
        lengths = np.linalg.norm(self.steps, axis=1)
        lengths = lengths[lengths > 0]
        if len(lengths) < 6:
            return math.nan
        third = len(lengths) // 3
        first, last = float(np.mean(np.log(lengths[:third]))), float(np.mean(np.log(lengths[-third:])))
        return math.exp((last - first) / (len(lengths) - third))

    @cached_property
    def cycle(self) -> bool:
        """Whether the path ends going to and fro between two points."""
        if len(self.tail) < 4:
            return False
        a, b, c = self.tail[-3:]
        apart = float(np.linalg.norm(c - b))
        return apart > 1e-9 * float(np.linalg.norm(c)) and float(np.linalg.norm(c - a)) <= 1e-2 * apart

    @cached_property
    def extent(self) -> float:
        """How far the path and its end are spread: a length on which f may be expected to change."""
        spread = float(np.linalg.norm(np.ptp(self.path, axis=0)))
        longest = max(spread, float(np.linalg.norm(self.end_x)), float(np.linalg.norm(self.start_x)))
        return max(longest or 1.0, 1e-3)

    @property
    def is_search(self) -> bool:
        return self.optimizer is not None and self.optimizer.rule.searches

    @cached_property
    def lr(self) -> float | None:
        """The rate of the last step; None for a search."""
        if self.optimizer is None or self.is_search:
            return None
        return float(self.run.history.lr[-1])

    @property
    def fixed_lr(self) -> float | None:
        """The rate, if it is one number."""
        if self.optimizer is None or self.is_search or callable(self.optimizer.lr):
            return None
        return float(self.optimizer.lr)

    # -- f around it --------------------------------------------------------------------------------------------------

    @cached_property
    def low(self) -> Point:
        """The lowest point that a few steps of L-BFGS find from the best point of the run."""
        here = Point(0, self.best_x, float(self.run.best_fun), self.best_x * 0, math.nan)
        if self.left < 4:
            return here
        try:
            trial = self.descend(LBFGS(), self.best_x, LOWER, most=max(LOWER, self.left // 3), searched=True)
        except SpentError:
            return here
        return trial.end if trial.end.fun < here.fun else self._down_the_slope(here)

    def _down_the_slope(self, here: Point) -> Point:
        """Return the lowest point on the line down the slope: where a search has found nothing, there may be one."""
        x, size = self.end_x, float(np.linalg.norm(self.end_g))
        if not (math.isfinite(size) and size > 0):
            return here
        for k in range(1, 10):
            there = x - 10.0**-k * self.extent * self.end_g / size
            if (fun := self.value(there)) < here.fun:
                here = Point(0, there, fun, there * 0, math.nan)
        return here

    def falls_on(self) -> tuple[FloatArray, float] | None:
        """Return the farthest point on a line from the end, and f, if f falls along it without end; None if not.

        Far out a fall that ends, or that a logarithm makes, grows by less than a factor of 2 from distance to distance
        of ten times.
        """
        for along in self._directions():
            size = float(np.linalg.norm(along))
            if not (math.isfinite(size) and size > 0):
                continue
            far = self.extent * 10.0 ** np.arange(-3, 7.5, 0.5)
            falls = [self.end - self.value(self.end_x + s * along / size) for s in far]
            rounding = 4 * float(np.finfo(self.layout.dtype).eps) * abs(self.end)
            if np.isnan(falls).any():  # the domain or the bounds end
                continue
            if not all(b >= a - rounding for a, b in zip([0.0, *falls], falls, strict=False) if b < math.inf):
                continue
            finite = [fall for fall in falls if fall < math.inf]  # beyond, f is less than any number
            if len(finite) < 3 or not finite[-1] > max(0.0, self.start - self.end):
                continue
            if all(b >= 2 * a for a, b in list(zip(finite, finite[2:], strict=False))[-7:]):
                k = len(finite) - 1
                return self.end_x + far[k] * along / size, self.end - finite[k]
        return None

    def _directions(self) -> Iterator[FloatArray]:
        """Yield where f may fall on and on: along the path, where it zigzags as well, and down the slope."""
        yield self.end_x - self.path[len(self.path) // 2]
        yield self.end_x - self.start_x
        yield -self.end_g
        yield self.low.x - self.end_x

    @property
    def gap(self) -> float:
        """How far the end lies above the lowest point nearby."""
        return max(0.0, self.end - self.low.fun)

    @property
    def share(self) -> float:
        """The gap as a share of all that f could fall from the start."""
        whole = self.start - self.low.fun
        return self.gap / whole if whole > 0 else 0.0

    @cached_property
    def elsewhere(self) -> Point | None:
        """A point that is clearly lower than the end, found by a bounded search around the path; None if none is."""
        from scipy.stats import qmc

        n = self.layout.size
        if n > 20 or self.left < 8:
            return None
        if self.bounds is not None and np.isfinite(self.bounds.low).all() and np.isfinite(self.bounds.high).all():
            low, high = self.bounds.low.astype(float), self.bounds.high.astype(float)
        else:
            middle = self.end_x
            reach = 2 * np.maximum(np.ptp(self.path, axis=0), np.maximum(np.abs(middle), 1.0))
            low, high = middle - reach, middle + reach
        sobol = qmc.Sobol(n, seed=0)
        places = low + (high - low) * sobol.random(128)
        values = np.array([self.value(x) for x in places])
        order = np.argsort(np.where(np.isfinite(values), values, math.inf))
        best: Point | None = None
        reserve = self.spent + max(0, self.left - KEPT)  # for what is asked of a point that is found
        for i in order[:3]:
            if self.spent + 6 > reserve or not math.isfinite(values[i]):
                break
            trial = self.descend(
                LBFGS(), places[i], LOWER, most=min((reserve - self.spent), max(8, (reserve - self.spent) // 2))
            )
            if best is None or trial.end.fun < best.fun:
                best = trial.end
        whole = max(self.start - self.end, abs(self.end) * 1e-6, 1e-12)
        if best is None or not best.fun < self.end - max(1e-3 * whole, 1e-6 * abs(self.end)):
            return None
        return best

    def edge(self, a: FloatArray, b: FloatArray) -> FloatArray | None:
        """Return the last point from a to b where f is finite; None if it is at b, or is not at a."""
        if math.isfinite(self.value(b)) or not math.isfinite(self.value(a)):
            return None
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if math.isfinite(self.value(a + middle * (b - a))) else (low, middle)
        return a + low * (b - a)

    @cached_property
    def outside(self) -> FloatArray | None:
        """A point outside of the domain of f: the one that failed, or the next down the slope."""
        if self.run.failed_x is not None:
            return flatten(self.run.failed_x)[1].astype(np.float64)
        size = float(np.linalg.norm(self.end_g))
        if not (math.isfinite(size) and size > 0):
            return None
        ahead = (self.end_x - 10.0**k * self.extent * self.end_g / size for k in range(-12, 0))
        return next((x for x in ahead if not math.isfinite(self.value(x))), None)

    def falls_off(self) -> float | None:
        """Return f next to the edge of its domain, if it falls all the way there; None if not."""
        if self.outside is None or (edge := self.edge(self.end_x, self.outside)) is None:
            return None
        values = [self.value(edge + 10.0**-k * (self.end_x - edge)) for k in range(9)]
        if not all(b < a for a, b in pairwise(values)):
            return None
        return values[-1]

    def curvature_at(self, x: FloatArray, scale: Any = None) -> Curvature | None:
        """Return the extreme eigenvalues of the Hessian; None if they can't be measured here."""

        def gradient(there: FloatArray) -> FloatArray:
            found = self.at(there)
            if found is None:
                raise FloatingPointError
            return found.g.astype(np.float64)

        try:
            return curvature(
                self.call.f, self.layout.view(x), gradient=gradient, scale=scale, most=max(2, self.left // 4)
            )
        except (SpentError, KoubaiError, ArithmeticError):
            return None

    @cached_property
    def curvature(self) -> Curvature | None:
        """The extreme curvatures at the end, along what the bounds leave free there."""
        held = (self.end_g == 0) & (self.layout.match(self.run.jac, "jac") != 0)  # pushed against its bound
        return self.curvature_at(self.end_x, self.layout.view((~held).astype(np.float64)) if held.any() else None)

    def jump(self, a: FloatArray, b: FloatArray) -> float | None:
        """Return how much of the change of the slope between two points is left on 1/1024 of their distance.

        The half with the larger part of the change is followed: about 1 at a kink, 1/1024 where f is smooth. None if
        the slope does not change, or f is not finite between them.
        """
        along = b - a
        length = norm(along)
        if not length > 0:
            return None
        along = along / length

        def slope(s: float) -> float:
            point = self.at(a + s * along)
            return math.nan if point is None else float(point.g @ along)

        low, high, left, right = 0.0, length, slope(0.0), slope(length)
        whole = abs(right - left)
        if not whole > 1e-6 * max(abs(left), abs(right)):
            return None
        for _ in range(10):
            middle = (low + high) / 2
            between = slope(middle)
            if not math.isfinite(between):
                return None
            if abs(between - left) > abs(right - between):
                high, right = middle, between
            else:
                low, left = middle, between
        return abs(right - left) / whole

    def along(self, direction: FloatArray, h: float) -> tuple[float, float]:
        """Return the slope at the end along a direction of length 1, and the bend there, over the distance h."""
        ahead, behind = self.at(self.end_x + h * direction), self.at(self.end_x - h * direction)
        if ahead is None or behind is None:
            return math.nan, math.nan
        p, q = float(ahead.g @ direction), float(behind.g @ direction)
        return (p + q) / 2, (p - q) / (2 * h)
