"""A derivative that is not finite where the function is: the right value after all, or the operation that is to blame.

First the graph is reversed with care (`koubai.graph.careful`): a cotangent that a mask or an index makes zero stays
zero through sqrt, log, divide and power. What is left is undefined by its own rules, as 0 · ∞ in ``np.sqrt(x @ x) **
2`` at 0. There two guesses are made: that what is undefined counts as 0, which is exact if the composite is flat;
and the limit of the derivative on the way to x, from both sides if there are two. A guess counts if differences of
the function along random directions confirm it. Otherwise the first operation of the reversal whose derivative is not
finite is named.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from koubai.execute.choose import Program
from koubai.graph.graph import CONSTANT, LEAVES, Graph, Node, run_nodes
from koubai.graph.reverse import Careful, pullback, reverse
from koubai.graph.user_code import named_place

__all__ = ["GRADIENT", "HESSIAN_VECTOR", "PRODUCT", "Careful", "Derivation", "Resolver", "all_finite", "may_fail"]

_LADDER = 0.02 * 4.0 ** -np.arange(9)  # the distances from which the limit is taken
_LADDER_FLOAT32 = 0.2 * 4.0 ** -np.arange(5)
_SHARP = 1e-6  # how sharp limit and differences must be, relative to the largest slope around
_FEW = 64  # components for each of which the side on which f is defined is found


# with finite numbers these give finite numbers, and so do their rules; but for overflow
_TAME = {
    *("add", "subtract", "multiply", "negative", "positive", "square", "sum", "cumsum", "matmul", "einsum", "sin"),
    *("cos", "tanh", "where", "share", "sign", "absolute", "maximum", "minimum", "getitem", "setitem", "add_at"),
    *("zeros", "reshape", "transpose", "broadcast_to", "concatenate", "stack"),
}
_LARGE = 2000  # with more numbers, checking each costs as much as a few operations on all of them


def may_fail(graph: Graph, active: Sequence[int]) -> bool:
    """Return whether a derivative has to be checked each time it is computed. active: the inputs that it is taken by.

    Large arrays of sums and products of finite numbers are not: a test would take as long as they do, and there is
    nothing to be found.
    """
    if sum(math.prod(graph.nodes[i].shape) for i in graph.outputs) < _LARGE:
        return True
    own = {graph.inputs[k] for k in active}
    for i, node in enumerate(graph.nodes):
        if node.op is CONSTANT:
            if not np.isfinite(node.params["value"]).all():
                return True
        elif node.op in LEAVES:
            if i not in own:  # data may hold NaN
                return True
        elif node.op.name not in _TAME and not _whole_power(graph, node):
            return True
    return False


def _whole_power(graph: Graph, node: Node) -> bool:
    exponent = graph.nodes[node.inputs[1]].params.get("value") if node.op.name == "power" else None
    return isinstance(exponent, int | float) and exponent >= 1 and float(exponent).is_integer()


def all_finite(results: Sequence[Any]) -> bool:
    """Return whether every number in the results is finite."""
    for result in results:
        if getattr(result, "shape", ()):
            # a sum of squares costs one pass and no memory; only if it overflows is everything checked
            if not math.isfinite(np.vdot(result, result)) and not np.isfinite(result).all():
                return False
        elif not math.isfinite(result):
            return False
    return True


@dataclass(frozen=True)
class Derivation:
    """The way to make a derivative's graph from a function's graph.

    of: makes of the function's graph the one that is differentiated; seeded: the cotangents of its outputs are inputs
    of the derived graph, otherwise it has one output, with cotangent 1, which is part of the derived graph.
    """

    of: Callable[[Graph, Sequence[int], Careful | None], Graph]
    seeded: bool

    def __call__(self, graph: Graph, active: Sequence[int], careful: Careful | None = None) -> Graph:
        base = self.of(graph, active, None if careful is None else Careful(careful.guess))
        return pullback(base, active, careful=careful) if self.seeded else reverse(base, active, careful=careful)


class Resolver:
    """Resolves the derivatives of one traced path that are not finite.

    graph: the function; active: the inputs that are differentiated; derivation: how ``results`` came about.
    """

    def __init__(self, graph: Graph, active: Sequence[int], derivation: Derivation) -> None:
        self.graph, self.active, self.derivation = graph, active, derivation
        self._careful: Program | None = None
        self._gradient: tuple[Program, Resolver] | None = None  # for second derivatives

    def careful(self) -> Program:
        """Return the careful derivative, compiled."""
        if self._careful is None:
            self._careful = Program(self.derivation(self.graph, self.active, Careful()))
        return self._careful

    def __call__(self, leaves: Sequence[Any], extra: Sequence[Any], results: Sequence[Any]) -> tuple[Any, str]:
        """Return the results with what could be resolved, and a sentence about what could not, or "".

        leaves: the arguments; extra: the cotangents that the caller gave. If the function itself is not finite there
        is nothing to be resolved.
        """
        results = tuple(results)
        with np.errstate(all="ignore"):
            value = self._function(leaves, extra)
            if value is None or not math.isfinite(value):
                return results, self._about_first_derivative(leaves)
            found = self.careful().run(*leaves, *extra)
            if found is None:
                return results, ""
            if not all_finite(found):
                return self._undefined(leaves, extra, found)
            return (self._across(leaves, extra, results, found) if self._switches(leaves) else found), ""

    def by_masks_alone(self, leaves: Sequence[Any]) -> bool:
        """Return whether care alone makes the derivative finite here, and nearby too: no mask is about to change."""
        with np.errstate(all="ignore"):
            found = self.careful().run(*leaves)
            return found is not None and all_finite(found) and not self._switches(leaves)

    def _undefined(self, leaves: Sequence[Any], extra: Sequence[Any], found: Sequence[Any]) -> tuple[Any, str]:
        """Resolve what the rules leave undefined."""
        count = len(self.active)
        guessed = self.derivation(self.graph, self.active, Careful(guess=True))
        values = run_nodes(guessed, [*leaves, *extra])
        nearby = _Nearby(self, leaves, extra, found[-count:])
        for guess in (lambda: [values[i] for i in guessed.outputs[-count:]], nearby.limit):
            parts = nearby.completed(found[-count:], guess())
            if parts is not None and nearby.confirms(parts):
                return (*found[:-count], *parts), ""
        return found, self._blamed(leaves, extra, found)

    def _across(self, leaves: Sequence[Any], extra: Sequence[Any], plain: Sequence[Any], found: Sequence[Any]) -> Any:
        """Return the derivative if a mask is about to change: that of both sides, if f goes on smoothly.

        Otherwise it is that of the branch which was taken, as at every kink.
        """
        count = len(self.active)
        nearby = _Nearby(self, leaves, extra, plain[-count:])
        if nearby.confirms(found[-count:]):
            return found
        parts = nearby.completed(found[-count:], nearby.limit())
        return (*found[:-count], *parts) if parts is not None and nearby.confirms(parts) else found

    def _switches(self, leaves: Sequence[Any]) -> bool:
        """Return whether a condition inside the function changes its answer as soon as x moves."""
        conditions = [i for i, node in enumerate(self.graph.nodes) if node.dtype == np.bool_]
        if not conditions:
            return False
        here = run_nodes(self.graph, leaves)
        random = np.random.default_rng(20240229)
        for side in (-1.0, 1.0):
            there = list(leaves)
            for k in self.active:
                x = np.asarray(leaves[k])
                tiny = 1e-9 if x.dtype == np.float64 else 1e-5
                step = side * tiny * random.uniform(0.5, 1.5, x.shape) * np.maximum(np.abs(x), 1.0)
                there[k] = (x + step).astype(x.dtype)[()]
            try:
                values = run_nodes(self.graph, there)
            except (ArithmeticError, IndexError, ValueError):
                continue
            if any(not np.array_equal(here[i], values[i]) for i in conditions):
                return True
        return False

    def _about_first_derivative(self, leaves: Sequence[Any]) -> str:
        """Return a sentence if f is finite, but the gradient of which a second derivative is taken is not; else ""."""
        outputs = self._outputs(self.graph, leaves) if self._second else None
        if outputs is None or not all_finite(outputs):
            return ""
        gradient = Resolver(self.graph, self.active, GRADIENT)
        return gradient(leaves, (), gradient.careful().run(*leaves))[1]

    def base(self, leaves: Sequence[Any], extra: Sequence[Any]) -> float:
        """Return the sum of what is differentiated, each output times its cotangent; nan outside the path."""
        value = self._function(leaves, extra)
        return math.nan if value is None else value

    def _function(self, leaves: Sequence[Any], extra: Sequence[Any]) -> float | None:
        """Return the function, or its outputs times the cotangents; of second derivatives too the function, at x."""
        outputs: Sequence[Any] | None = self._outputs(self.graph, leaves)
        if outputs is None:
            return None
        if self._second:
            if not all_finite(outputs):
                return math.nan
            outputs = self._slopes(leaves)
        if not self.derivation.seeded:
            return float(outputs[0])
        total = 0.0
        for output, seed in zip(outputs, extra, strict=True):
            total += float(np.sum(np.where(seed == 0, 0.0, output * seed)))
        return total

    @property
    def _second(self) -> bool:
        return self.derivation.of is not _itself

    def _slopes(self, leaves: Sequence[Any]) -> Sequence[Any]:
        """Return the gradient, resolved where it is not finite."""
        if self._gradient is None:
            resolver = Resolver(self.graph, self.active, GRADIENT)
            self._gradient = Program(GRADIENT(self.graph, self.active)), resolver
        plain, resolver = self._gradient
        results = plain.run(*leaves)
        if not all_finite(results):
            results, _ = resolver(leaves, (), results)
        return results[-len(self.active) :]  # type: ignore[no-any-return]

    @staticmethod
    def _outputs(graph: Graph, leaves: Sequence[Any]) -> list[Any] | None:
        """Return the outputs; None if a guard fails or an operation raises: the path ends there."""
        try:
            values = run_nodes(graph, leaves)
        except (ArithmeticError, IndexError, ValueError):
            return None
        if not all(guard.holds(values[guard.node]) for guard in graph.guards):
            return None
        return [values[i] for i in graph.outputs]

    def _blamed(self, leaves: Sequence[Any], extra: Sequence[Any], found: Sequence[Any]) -> str:
        """Return the sentence that names the first operation whose derivative is not finite."""
        careful = Careful()
        base = self.derivation.of(self.graph, self.active, Careful())
        (pullback if self.derivation.seeded else reverse)(base, self.active, careful=careful)
        values = run_nodes(careful.trace, [*leaves, *extra])  # type: ignore[arg-type]
        what = _counted(found[-len(self.active) :])
        for i, _, g, part in careful.steps:
            if np.isfinite(values[g]).all() and not np.isfinite(values[part]).all():
                node = base.nodes[i]
                where = "" if node.where is None else f"{named_place(node.where)}: "
                at = _operand(node, [values[j] for j in node.inputs], values[part])
                return (
                    f"{where}the derivative of {_described(node)} is not finite{at}: {what}. Differences don't tell "
                    "another value: there is no derivative at this point, or none that can be measured"
                )
        return f"{what}, though the function is finite"


def _described(node: Node) -> str:
    name = node.op.name
    return {"power": "a power", "divide": "a quotient", "quotient_or_zero": "a quotient"}.get(name, name)


def _operand(node: Node, operands: Sequence[Any], part: Any) -> str:
    """Return the numbers at which the derivative is not finite, as part of a sentence."""
    shapes = [np.shape(v) for v in operands]
    if not node.op.elementwise or np.shape(part) != node.shape:
        return "" if node.op.elementwise else f" at an array of shape {shapes[0]}"
    at = tuple(int(i[0]) for i in np.nonzero(~np.isfinite(np.atleast_1d(part))))
    numbers = [np.broadcast_to(v, node.shape or (1,))[at] for v in operands]
    shown = ", ".join(f"{number:.6g}" for number in numbers)
    return f" at {shown}" if len(numbers) == 1 else f" at ({shown})"


def _counted(parts: Sequence[Any]) -> str:
    bad = [v for part in parts for v in np.ravel(part)[~np.isfinite(np.ravel(part))].tolist()]
    size = sum(np.size(part) for part in parts)
    if size == 1:
        return f"the derivative is {bad[0]}"
    return f"{len(bad)} of the derivative's {size} components {'is' if len(bad) == 1 else 'are'} {bad[0]}"


class _Nearby:
    """The function and its derivative around a point, along two random directions of the components in question."""

    def __init__(self, resolver: Resolver, leaves: Sequence[Any], extra: Sequence[Any], parts: Sequence[Any]) -> None:
        self.resolver, self.leaves, self.extra, self.parts = resolver, leaves, extra, parts
        self.single = any(np.asarray(part).dtype == np.float32 for part in parts)
        self.distances = _LADDER_FLOAT32 if self.single else _LADDER
        self.wanted = [~np.isfinite(np.asarray(part)) for part in parts]
        random = np.random.default_rng(20240229)
        allowed = self._sides()
        self.directions = [
            [
                self._direction(random, k, mask, side)
                for k, mask, side in zip(resolver.active, self.wanted, allowed, strict=True)
            ]
            for _ in range(2)
        ]

    def _direction(self, random: np.random.Generator, k: int, mask: Any, side: Any) -> Any:
        x = np.asarray(self.leaves[k], np.float64)
        signs = np.where(side == 0, random.choice([-1.0, 1.0], x.shape), side)
        scale = np.abs(x)
        scale = np.where(scale == 0, scale.max(initial=0.0) or 1.0, scale)
        return np.where(mask, signs * random.uniform(0.5, 1.5, x.shape) * scale, 0.0)

    def _sides(self) -> list[Any]:
        """Return the side of each component on which f is defined, 0 for both; tried for each if they are few."""
        sides = [np.zeros(mask.shape) for mask in self.wanted]
        if sum(int(mask.sum()) for mask in self.wanted) > _FEW:
            return sides
        for m, mask in enumerate(self.wanted):
            for at in np.argwhere(mask):
                unit = [np.zeros(other.shape) for other in self.wanted]
                unit[m][tuple(at)] = max(1.0, abs(float(np.asarray(self.leaves[self.resolver.active[m]])[tuple(at)])))
                below, above = (math.isfinite(self.value(s, unit)) for s in (-1e-3, 1e-3))
                sides[m][tuple(at)] = 0.0 if below == above else 1.0 if above else -1.0
        return sides

    def _moved(self, s: float, direction: Sequence[Any]) -> list[Any]:
        there = list(self.leaves)
        for k, v in zip(self.resolver.active, direction, strict=True):
            x = np.asarray(there[k])
            there[k] = (x + s * v).astype(x.dtype)[()]
        return there

    def value(self, s: float, direction: Sequence[Any]) -> float:
        return self.resolver.base(self._moved(s, direction), self.extra)

    def completed(self, found: Sequence[Any], parts: Sequence[Any] | None) -> list[Any] | None:
        """Return ``found`` with ``parts`` in place of the components in question; None if these are not finite."""
        if parts is None:
            return None
        whole = [
            np.where(mask, part, g).astype(g.dtype)[()] for mask, g, part in zip(self.wanted, found, parts, strict=True)
        ]
        return whole if all_finite(whole) else None

    def limit(self) -> list[Any] | None:
        """Return the limit of the derivative on the way to x, if all ways lead to the same."""
        found = [limit for direction in self.directions if (limit := self._limit_along(direction)) is not None]
        if len(found) < len(self.directions):
            return None
        (one, error), (other, other_error) = found
        size = max(1e-300, float(np.max(np.abs(one))))
        if not np.all(np.abs(one - other) <= 10 * (error + other_error) + _SHARP * size):
            return None
        if not max(error.max(), other_error.max()) <= (1e-3 if self.single else _SHARP) * size:
            return None
        mean = np.where(error <= other_error, one, other)
        ends = np.cumsum([mask.sum() for mask in self.wanted])[:-1]
        limits = [np.zeros(mask.shape) for mask in self.wanted]
        for whole, mask, part in zip(limits, self.wanted, np.split(mean, ends), strict=True):
            whole[mask] = part
        return limits

    def _limit_along(self, direction: Sequence[Any]) -> tuple[Any, Any] | None:
        """Return the limit along a direction, flat, and its error: extrapolated from a ladder of distances."""
        above, below = (self._ladder(side * self.distances, direction) for side in (1.0, -1.0))
        if above is not None and below is not None:
            rows, order = (above + below) / 2, 2  # what is odd in the distance falls out
            if not _meet(above, below):
                return None
        elif above is not None or below is not None:
            rows, order = (above if above is not None else below), 1
        else:
            return None
        return _extrapolated(rows, order)

    def _ladder(self, distances: Any, direction: Sequence[Any]) -> Any:
        """Return the components in question at each distance, one row each; None if one is not finite."""
        rows = []
        for s in distances:
            results = self.resolver.careful().run(*self._moved(float(s), direction), *self.extra)
            if results is None:
                return None
            parts = results[-len(self.parts) :]
            row = np.concatenate([np.asarray(p)[mask] for p, mask in zip(parts, self.wanted, strict=True)])
            if not np.isfinite(row).all():
                return None
            rows.append(row.astype(np.float64))
        return np.array(rows)

    def confirms(self, parts: Sequence[Any]) -> bool:
        """Return whether differences along the directions give what ``parts`` give."""
        for direction in self.directions:
            expected = sum(
                float(np.sum(np.where(mask, np.asarray(part, np.float64) * v, 0.0)))
                for part, v, mask in zip(parts, direction, self.wanted, strict=True)
            )
            if not self._measured(direction, expected):
                return False
        return True

    def _measured(self, direction: Sequence[Any], expected: float) -> bool:
        """Return whether differences along a direction give what is expected, or approach it as the step shrinks."""
        start = self.value(0.0, direction)
        above, below = (
            np.array([self.value(side * h, direction) for h in self.distances.tolist()]) for side in (1.0, -1.0)
        )
        right, left = (above - start) / self.distances, (start - below) / self.distances
        sides = [slopes for slopes in (right, left) if np.isfinite(slopes).all()]
        if not sides or any(np.isfinite(slopes).any() for slopes in (right, left) if not np.isfinite(slopes).all()):
            return False  # f is not finite at x, or ends nearby, but not there
        slope = max(abs(expected), max(float(np.max(np.abs(slopes))) for slopes in sides))
        near = (1e-2 if self.single else _SHARP) * slope
        rows = np.mean(sides, axis=0)[:, None]
        (value,), (error,) = _extrapolated(rows, len(sides))
        bends = len(sides) == 2 and not _meet(right[:, None], left[:, None])
        if not bends and error <= near and abs(value - expected) <= max(10 * error, near):
            return True
        # slowly, as those of |x|**1.5
        return all(b <= max(0.8 * a, near) for v in sides for a, b in itertools.pairwise(np.abs(v - expected).tolist()))


def _meet(above: Any, below: Any) -> bool:
    """Return whether the gap between the two sides shrinks with the distance, so that there is no kink."""
    gap = np.abs(above - below)
    return bool(np.all(gap.min(axis=0) <= 2e-2 * gap[0] + _SHARP * np.max(np.abs(above[0] + below[0]))))


def _extrapolated(rows: Any, order: int) -> tuple[Any, Any]:
    """Return the limit of the rows of a ladder at distance 0, and its error: where the rows agree best.

    order: of the error in the distance, which is a power series in distance**order.
    """
    best, error = rows[-1], np.abs(rows[-1] - rows[-2])
    last = rows
    for j in range(1, 4):
        finer = last[1:] + (last[1:] - last[:-1]) / (4.0 ** (order * j) - 1)
        differs = np.maximum(np.abs(finer[1:] - finer[:-1]), np.abs(finer[1:] - last[2:]))
        row, every = differs.argmin(axis=0), np.arange(finer.shape[1])
        better = differs[row, every] < error
        best = np.where(better, finer[1:][row, every], best)
        error = np.where(better, differs[row, every], error)
        last = finer
    return best, error


def _itself(graph: Graph, active: Sequence[int], careful: Careful | None) -> Graph:
    return graph


def _gradient_alone(graph: Graph, active: Sequence[int], careful: Careful | None) -> Graph:
    """Return the gradient without the value. Reversed again with a cotangent v it gives H v, since H is symmetric."""
    both = reverse(graph, active, careful=careful)
    return Graph(both.nodes, both.inputs, both.outputs[1:], both.guards, both.kinks, both.name, both)


GRADIENT = Derivation(_itself, seeded=False)  # f, and its gradient
PRODUCT = Derivation(_itself, seeded=True)  # cotangent · Jacobian
HESSIAN_VECTOR = Derivation(_gradient_alone, seeded=True)
