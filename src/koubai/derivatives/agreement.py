"""The one check that every derivative passes at the first use of its graph: it must agree with the function itself.

One random directional derivative is compared with differences of the function, at several steps and with the noise of
the function measured, so that neither a kink nor rounding raises falsely and a wrong derivative can't stay silent. The
noise is that of the terms of which the function consists: 1 − cos x is 1e-16 off near 0, however small it is itself.

If no difference confirms backpropagation, the function may still be to blame: a network of rectifiers bends within
every step that rounding allows. Then the graph is asked for another witness, which needs no step of the whole: the
direction is pushed forward through the graph, node by node, each node being differenced alone and at the steps that
suit it, element by element if it works so. A kink of one primitive isn't nearer than its operand is to it, and a
step relative to the operand does not cross it. What comes out is the derivative of the graph without any of the
derivative rules, so it finds a wrong rule, and a wrong order of right ones, at kinks too; it decides wherever it is
sharp. It knows nothing about f itself: whether the graph follows f to where the difference was taken is checked too.

A graph may be right about its own point and still not follow f. Text made from x and read back, a search inside f that
ends when a comparison turns, a table that is read: the graph holds what was computed there as a constant, behind
guards that fail at every other x, or between the stairs that a fine rounding makes. If x passes through anything of
the kind, the slope of f over longer steps is checked too; if it is steady and another one, and either the graph isn't
f however near, or f jumps, the graph is refused.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from koubai.derivatives.differences import Box, into, one_vector
from koubai.errors import FunctionError, GradientError, TraceError, quiet
from koubai.execute.memory import MemoryPlan, sweep
from koubai.graph.graph import Graph, Guard, Node
from koubai.graph.ops import OPS

__all__ = ["check_bend", "cross_check", "directions_of", "refuse_random"]

_STEPS = ((1e-4, 1e-5), (1e-3, 1e-4), (1e-5, 1e-6), (1e-2, 1e-3), (1e-6, 1e-7))
_STEPS_FLOAT32 = ((1e-2, 3e-3), (3e-2, 1e-2), (1e-1, 3e-2))
# of one node: the long ones for what is linear, the middle for what is smooth, the short ones beside a kink
_NODE_STEPS = (0.3, 1e-3, 1e-5, 1e-7, 1e-9, 1e-11)
_STAIR_STEPS = (1e-9, 1e-11, 1e-13)
_TREND = 1e-2  # the step over which the slope of a staircase shows; its stairs may be as wide
_FINE_TREND = 1e-3  # and that of a fine one
_PLACES = np.array([0.23, 0.49, 0.76, 1.0])  # where f is evaluated along such a step: no round numbers, as stairs have
_BRANCHES = 8  # so many branches that x decides may be a search
# primitives that give numbers they were given: they round nothing
_EXACT = frozenset(
    ("absolute", "concatenate", "conjugate", "copysign", "fabs", "fmax", "fmin", "getitem", "max", "maximum", "min")
).union(("minimum", "negative", "positive", "relu", "setitem", "stack", "where"))
# primitives that give the sum of what they are given, moved: all operands, or so many of the first ones
_MOVES = frozenset(("add_at", "concatenate", "getitem", "setitem", "stack"))
_MOVED = {"add_at": 2, "getitem": 1, "setitem": 2}
_EPS = {np.dtype(d): float(np.finfo(d).eps) for d in (np.float16, np.float32, np.float64, np.complex64, np.complex128)}
_TINY, _TINY_FLOAT32 = (float(np.finfo(d).tiny) for d in (np.float64, np.float32))
_FEW = 64  # elements of a node whose slopes are found together with those of others like it
_JUMPING = frozenset(("remainder", "fmod"))  # primitives with a derivative that jump
_SMOOTH = {OPS[name] for name in ("add", "subtract", "multiply", "divide", "negative")}


def cross_check(
    f: Callable[..., Any],
    leaves: Sequence[Any],
    active: Sequence[int],
    value: float,
    gradients: Sequence[Any],
    where: str,
    single: bool = False,
    graph: Graph | None = None,
    stairs: bool = True,
    box: Box | None = None,
) -> bool:
    """Compare ``value`` and ``gradients`` with ``f(*leaves)`` and its differences.

    f: takes the leaves and returns a float; active: the leaves that are differentiated, in the order of ``gradients``;
    single: f computes in float32 somewhere; graph: f as it was traced, whose inputs are the leaves and whose first
    output is f; without it, only differences of f are used; stairs: whether f is refused if it follows x in steps
    only (False for gradients, which do so at kinks). box: the lowest and the highest active leaves, flat, one after the
    other: f is not called outside.
    Returns False if nothing leads from the active leaves to f, and no difference moves it either.
    Raises FunctionError if two calls of f differ; TraceError if the graph does not give f's value, or does not
    follow f; GradientError if the derivative is wrong beyond the measured noise.
    """
    if not all(np.isfinite(leaves[k]).all() for k in active):
        return True
    finest = max(_EPS[np.asarray(leaves[k]).dtype] for k in active)
    eps = max(finest, _EPS[np.dtype(np.float32)]) if single else finest
    line = _Line(f, leaves, active, graph, finest, box=box)
    at = line.at
    with quiet():
        f0, again = at(0.0), line.asked(0.0)
        # numbers below the smallest normal one have fewer digits, or none
        line.noise = eps * abs(f0) + (_TINY_FLOAT32 if eps > 1e-10 else _TINY)
        if f0 != again and not (np.isnan(f0) and np.isnan(again)) and not line.within_rounding(f0 - again):
            raise _random(where, f0, again)
        noise = line.roughness(0.0, 4 * eps)
        if noise > 1e3 * line.noise:  # x may be beside a stair
            noise = min(noise, line.roughness(_PLACES[0] * _TREND, 4 * eps))
        noise = line.noise = max(noise, line.noise)
        if not math.isfinite(f0) or not math.isfinite(value):
            if (np.isnan(f0) and np.isnan(value)) or f0 == value:
                return True
            raise TraceError(f"the traced {where} gives {value!r}, the function itself {f0!r}", "please report this")
        if not line.within_rounding(max(0.0, abs(value - f0) - 1e3 * eps * abs(f0))):
            raise TraceError(f"the traced {where} gives {value!r}, the function itself {f0!r}", "please report this")
        pairs = list(zip(gradients, line.directions, strict=True))
        slope = line.slope(gradients)
        if not math.isfinite(slope):
            return True  # nothing is confirmed: the caller knows, and checks again when it is finite
        found: list[_Difference] = []
        confirmed = False
        for h, smaller in _STEPS if eps < 1e-10 else _STEPS_FLOAT32:
            difference = _Difference.of(at, h, smaller)
            if difference is not None:
                found.append(difference)
                error = difference.error(line.noise)
                if error <= 1e-6 * abs(slope) and abs(difference.slope - slope) <= 10 * error:
                    confirmed = True
                    break
        flow = None if graph is None or not stairs else _flow(graph, tuple(active))
        if flow is not None and not flow.reach and line.flat:
            return bool(flow.guards)  # the guards may lead elsewhere
        if confirmed and (flow is None or not flow.doubtful):
            return True
        size = float(sum(np.sum(np.abs(g * v)) for g, v in pairs))
        if flow is not None and flow.doubtful:
            for seed in range(4 if flow.steps else 2):  # along one, what is lost may cancel, or look like a saw
                beside = _Line(f, leaves, active, graph, finest, seed, box) if seed else line
                beside.noise = noise
                claimed = beside.slope(gradients)
                if seed >= 2 and beside.trend(claimed, saw=True, step=_FINE_TREND) is None:
                    continue  # more directions see more jumps of honest steps, which are far apart
                trend = beside.trend(claimed, saw=bool(flow.steps))
                if trend is None:
                    continue
                beside.noise = 0.0  # the measured noise may be a stair beside x
                beside.measure(finest * max(abs(f0), size))  # a part in float32 may be a small one
                if not flow.carries or not beside.follows(trend - claimed) or beside.jumps(trend, claimed):
                    raise flow.refusal(where, claimed, trend)
                beside.measure(noise)
        if confirmed:
            return True
        differs = _verdict(found, slope, eps, line.noise)
        if differs is not False:  # what is small because its terms cancel is as far off as they are
            line.measure(eps * size)
            differs = _verdict(found, slope, eps, line.noise)
        if differs is False or (differs is None and eps > 1e-10 and _roughly(found, slope, line.noise)):
            return True
        noise = line.noise
        wrong = bool(differs) and not _at_kink(at, f0, slope, noise, eps)
        sharpest = min((difference.error(noise), difference.slope) for difference in found)[1] if found else np.nan
        evidence = f"a difference gives {sharpest!r}" if wrong else ""
        slopes = None if graph is None else _slopes_of_nodes(graph, line.moved, active, line.directions, eps)
        if slopes is not None:
            expected, spread = slopes[0], max(slopes) - min(slopes)
            apart = abs(slope - expected) > max(10 * spread + 100 * noise, max(1e-6, 1e3 * eps) * size)
            if apart and not wrong and spread <= 1e-2 * max(abs(slope), abs(expected)):
                evidence = f"differences of its operations, one by one, give {expected!r}"
            elif wrong and not apart and line.follows(sharpest - slope):
                if flow is not None and flow.exact:
                    raise flow.refusal(where, slope, sharpest)
                evidence = ""
        if evidence:
            raise GradientError(
                f"backpropagation through {where} gives the directional derivative {slope!r}, {evidence}; the measured "
                f"noise of f is {noise:.2g}. Use method='adaptive', and report this"
            )
    return True


def directions_of(leaves: Sequence[Any], active: Sequence[int], seed: int = 0) -> list[Any]:
    """Return the direction along which everything here is checked: a random one, in the scale of x."""
    points = [np.asarray(leaves[k], np.float64) for k in active]
    few = sum(x.size for x in points) <= _FEW
    chosen = (_ways if few else _ways.__wrapped__)(seed, tuple([x.shape for x in points]))
    return [_scaled(way.copy() if few else way, x) for way, x in zip(chosen, points, strict=True)]


@functools.lru_cache(maxsize=64)
def _ways(seed: int, shapes: tuple[tuple[int, ...], ...]) -> list[Any]:
    """Return a direction at random for arrays of these shapes, without a scale."""
    random, ways = np.random.default_rng(20240229 + seed), []
    for shape in shapes:
        v = np.asarray(random.choice([-1.0, 1.0], shape))
        v *= random.uniform(
            0.5, 1.5, shape
        )  # in place, here and in `_scaled`: large arguments must not need many arrays
        ways.append(v)
    return ways


def check_bend(
    f: Callable[..., Any],
    leaves: Sequence[Any],
    active: Sequence[int],
    product: Callable[[Sequence[Any]], Sequence[Any]],
    where: str,
    graph: Graph,
) -> None:
    """Compare second derivatives along `directions_of` with f itself over long steps.

    product: the Hessian times what it is given. Raises TraceError if the graph does not follow f, as where f is flat
    at x to first order only.
    """
    flow = _flow(graph, tuple(active))
    for seed in (0, 1) if flow.doubtful else (0,):  # along one direction, what is lost may cancel
        line = _Line(f, leaves, active, graph, float(np.finfo(np.float64).eps), seed)
        _check_bend(line, line.slope(product(line.directions)), where, flow)


def _check_bend(line: _Line, bend: float, where: str, flow: _Flow) -> None:
    with quiet():
        f0 = line.at(0.0)
        line.noise = line.finest * abs(f0)
        line.measure()
        far, near = ((line.at(t) + line.at(-t) - 2 * f0) / t**2 for t in (3 * _TREND, _TREND))
        noise = 4 * line.noise / _TREND**2
        steady = abs(near - far) <= max(0.2 * min(abs(near), abs(far)), noise)
        best = near + (near - far) / 8 if flow.doubtful else near  # but for t⁴, if f is smooth
        share, rest = (0.3, 1e-3) if flow.doubtful else (3.0, 0.02)
        if not steady or not abs(best - bend) > max(share * abs(near - far), rest * abs(near), 10 * noise):
            return
        followed = line.follows(near - bend, 2, unseen=not flow.doubtful)
        if not followed or (flow.doubtful and line.jumps(_TREND * near)):
            raise flow.refusal(where, bend, near, "second derivative")


def refuse_random(f: Callable[[], Any], where: str) -> None:
    """Raise FunctionError if two calls of ``f`` differ: differences of it would be differences of its noise."""
    first, second = np.asarray(f()), np.asarray(f())
    if first.shape != second.shape or not np.allclose(first, second, rtol=1e-9, atol=0.0, equal_nan=True):
        raise _random(where, first, second)


def _random(where: str, first: Any, second: Any) -> FunctionError:
    shown = " and ".join(np.array2string(np.asarray(value), threshold=4, edgeitems=2) for value in (first, second))
    return FunctionError(
        f"two calls of {where} at the same x differ: {shown}. A function with randomness or hidden state has no "
        "derivative: fix the seed inside it, keep its state outside, or ask for differences by name, as in "
        "method='central'"
    )


class _Line:
    """f, and the graph of it, along one random direction d through the point: ``at(t)`` is f(x + t d).

    finest: the least step, relative to x. directions: d, in the scale of x; noise: how far values of f are off, as far
    as is known.
    """

    def __init__(
        self,
        f: Callable[..., Any],
        leaves: Sequence[Any],
        active: Sequence[int],
        graph: Graph | None,
        finest: float,
        seed: int = 0,
        box: Box | None = None,
    ) -> None:
        self.f, self.leaves, self.active, self.graph, self.finest = f, leaves, active, graph, finest
        self.directions = directions_of(leaves, active, seed)
        self.box = box
        if box is not None:
            longest = max(step for step, _ in (*_STEPS, *_STEPS_FLOAT32))
            parts = [np.asarray(leaves[k], np.float64) for k in active]
            self.directions = into(box, parts, self.directions, longest)
        self.noise = 0.0
        self._known: dict[float, float] = {}

    def slope(self, gradients: Sequence[Any]) -> float:
        """Return the derivative along d that these gradients make."""
        return float(
            sum(np.sum(np.asarray(g, np.float64) * v) for g, v in zip(gradients, self.directions, strict=True))
        )

    def moved(self, t: float) -> list[Any]:
        """Return the leaves at x + t d."""
        there = list(self.leaves)
        for k, v in zip(self.active, self.directions, strict=True):
            x, y = np.asarray(self.leaves[k]), np.asarray(v * t)
            y += x
            there[k] = y.astype(x.dtype, copy=False) if x.ndim else x.dtype.type(y)
        return there

    def at(self, t: float) -> float:
        if t not in self._known:
            self._known[t] = self.asked(t)
        return self._known[t]

    def asked(self, t: float) -> float:
        """Call f; outside the box it is NaN, as if f ended there."""
        there = self.moved(t)
        if not self._inside(t, there):
            return float("nan")
        for k, leaf in enumerate(there):
            if leaf is self.leaves[k] and isinstance(leaf, np.ndarray):
                there[k] = leaf.copy()
        try:
            return float(self.f(*there))
        except Exception:
            if t == 0.0:
                raise
            return float("nan")  # outside the domain of f

    def _inside(self, t: float, there: Sequence[Any]) -> bool:
        """Return whether f may be called here. At x itself it already was, inside the box or not."""
        if self.box is None or t == 0.0:
            return True
        x, (low, high) = one_vector([there[k] for k in self.active]), self.box
        return bool((low <= x).all() and (x <= high).all())

    def roughness(self, t: float, step: float) -> float:
        """Return how far f moves there over tiny steps; 0 if it is not finite."""
        apart = max(abs(self.at(t + s * step) - self.at(t)) for s in (-1.0, 1.0))
        return apart if math.isfinite(apart) else 0.0

    @property
    def flat(self) -> bool:
        """Whether f was the same at every point at which it was evaluated."""
        known, f0 = self._known, self._known[0.0]
        return all(value == f0 or not self._inside(t, self.moved(t)) for t, value in known.items())

    def within_rounding(self, apart: float) -> bool:
        if not abs(apart) > 100 * self.noise:
            return True
        self.measure()
        return not abs(apart) > 100 * self.noise

    def measure(self, least: float = 0.0) -> None:
        """Raise the known noise to that of the terms of which f consists, and to ``least``."""
        self.noise = max(self.noise, self._rounding, least)

    @functools.cached_property
    def _rounding(self) -> float:
        """How far the graph's value moves when every number on the way is off by its rounding."""
        graph = self.graph
        if graph is None:
            return 0.0
        random = np.random.default_rng(20240229)
        pairs = [_off_by_rounding(graph, self.leaves, random) for _ in range(4)]
        spread = max(abs(float(np.real(there)) - float(np.real(exact))) for exact, there in pairs)
        return spread if np.isfinite(spread) else 0.0

    def trend(self, slope: float, saw: bool, step: float = _TREND) -> float | None:
        """Return the slope of f over such long steps, if it is steady and not ``slope``.

        saw: whether f may rise with ``slope`` and fall back in jumps. If it does, its derivative is right: no trend.
        """
        at, noise = self.at, self.noise
        for h in (step, 1e-2 * step):
            both = self._inside(-3 * h, self.moved(-3 * h))  # or to the right alone, if the box leaves room only there
            left, width = (-1.0, 2) if both else (0.0, 1)
            rough = (at(h) - at(left * h)) / (width * h)
            if np.isfinite(rough):
                break
        else:
            return None
        if abs(rough - slope) <= max(0.01 * max(abs(rough), abs(slope)), 4 * noise / h):
            return None
        near, far = (
            sum(t * (at(t) - at(left * t)) for t in far * _PLACES) / (width * far**2 * (_PLACES @ _PLACES))
            for far in (h, 3 * h)
        )
        steady = abs(near - far) <= max(0.2 * min(abs(near), abs(far)), 4 * noise / h)
        other = abs(near - slope) > max(3 * abs(near - far), 0.01 * abs(near), 10 * noise / h)
        if not (steady and other):
            return None
        if saw and abs(near) <= 0.1 * abs(slope):
            teeth = max(abs(at(t) - at(left * t) - width * near * t) for t in h * _PLACES)  # how high they are
            if abs(near) <= 4 * (teeth + noise) / h:
                return None
        return float(near)

    def follows(self, lost: float, n: int = 1, unseen: bool = True) -> bool:
        """Return whether the graph is f somewhere near the point, to within the n-th derivative ``lost``, which f has
        and the graph hasn't.

        If its guards hold it claims to be f; if they fail it may be too. If it claims nothing, however near the
        point is, and isn't f, it follows f at this point alone. unseen: the answer if it claims to be f only so near
        that what is lost can't be seen.
        """
        assert self.graph is not None
        lost, t = abs(lost), _TREND
        while t >= 1e3 * self.finest:
            for side in (t, -t):
                there = self.moved(side)
                values = _values(self.graph, there) if self._inside(side, there) else None
                if values is None:
                    continue
                holds = all(guard.holds(values[guard.node]) for guard in self.graph.guards)
                if t**n * lost <= 30 * self.noise:  # too little to be seen
                    if holds:
                        return unseen
                elif abs(float(values[self.graph.outputs[0]]) - self.at(side)) <= 0.1 * t**n * lost:
                    return True
                elif holds:
                    return False
            t /= 8
        return False

    def jumps(self, trend: float, slope: float = 0.0) -> bool:
        """Return whether f jumps near the point.

        The half of an interval in which f moves more is halved again and again, as far as x allows. What moves with
        ``slope``, which the graph knows, is left out: it may hide a jump the other way.
        """

        def rest(t: float) -> float:
            return self.at(t) - slope * t

        low, high = -_TREND, _TREND
        while high - low > 4 * self.finest:
            middle = (low + high) / 2
            if abs(rest(middle) - rest(low)) > abs(rest(high) - rest(middle)):
                high = middle
            else:
                low = middle
        gap = abs(rest(high) - rest(low))
        return bool(gap > 30 * self.noise and gap > 100 * abs(trend - slope) * (high - low))


class _Flow(NamedTuple):
    """The derivative's way through a graph.

    reach: whether anything leads from the active inputs to the output.
    steps: nodes on such a way that are steps, so that the derivative is lost there or hides a jump.
    guards: those that the active inputs decide.
    carries: whether a derivative arrives at the output.
    doubtful: whether f may follow x by steps or by branches.
    """

    reach: bool
    steps: tuple[Node, ...]
    guards: tuple[Guard, ...]
    carries: bool
    doubtful: bool

    @property
    def exact(self) -> bool:
        """Whether a number or a text made from x decides the path, and not a whole number, as a count is."""
        read = (guard.expected for guard in self.guards if type(guard.expected) is not bool)
        return any(v.dtype.kind == "f" and bool((v != np.rint(v)).any()) for v in map(np.asarray, read))

    def refusal(self, where: str, slope: float, trend: float, what: str = "slope") -> TraceError:
        """Return the error for a graph that does not follow f, at the user's line where the derivative is lost."""
        error = self._refusal(where, slope, trend, what)
        error.lost = True
        return error

    def _refusal(self, where: str, slope: float, trend: float, what: str) -> TraceError:
        evidence = f"its {what} over a step of 1% is {trend:.6g}, and not {slope:.6g}: the derivative is lost"
        fix = "compute with the value of x itself, in NumPy's functions"
        exact = [guard for guard in self.guards if type(guard.expected) is not bool]
        for node in self.steps:
            if node.file:
                way = f"{where} follows x in the steps of {node.op.name} ({evidence})"
                return TraceError(way, fix, node.file, node.line)
        for guard in (*exact, *self.guards):
            way = "through a number or a text made of its value" if exact else "by the branches that it takes"
            if guard.where:
                return TraceError(f"{where} follows x {way} ({evidence})", fix, guard.where[0].co_filename, guard.line)
        return TraceError(f"{where} does not follow its graph ({evidence})", fix)


def _flow(graph: Graph, active: Sequence[int]) -> _Flow:
    nodes, output = graph.nodes, graph.outputs[0]
    depends, carries = bytearray(len(nodes)), bytearray(len(nodes))  # carries: whether a derivative arrives here
    for k in active:
        depends[graph.inputs[k]] = carries[graph.inputs[k]] = True
    found = []  # steps, among them those that lead to guards only
    for i, (op, inputs, _, _, dtype, _) in enumerate(nodes):
        if op in _SMOOTH and dtype is not None and dtype.kind == "f" and (carries[inputs[0]] or carries[inputs[-1]]):
            depends[i] = carries[i] = True  # what follows comes to this
            continue
        for k, j in enumerate(inputs):
            if depends[j]:
                depends[i] = True
                if carries[j] and not carries[i] and dtype is not None and dtype.kind in "fc":
                    carries[i] = callable(op.vjp) or op.rule(k) is not None
        if depends[i] and (not carries[i] or op.name in _JUMPING) and any(map(carries.__getitem__, inputs)):
            found.append(i)
    leads = bytearray(len(nodes))
    leads[output] = True
    for i in range(len(nodes) - 1, -1, -1) if found else ():
        if leads[i]:
            for j in nodes[i].inputs:
                leads[j] = True
    steps = tuple(nodes[i] for i in found if leads[i])
    guards = tuple(guard for guard in graph.guards if depends[guard.node])
    search = len(guards) >= _BRANCHES or any(type(guard.expected) is not bool for guard in guards)
    doubtful = bool(steps) or search or not carries[output]
    return _Flow(bool(depends[output]), steps, guards, bool(carries[output]), doubtful)


class _Difference(NamedTuple):
    """A difference along the line: its slope, how far that of a longer step is from it, and its own step."""

    slope: float
    apart: float
    step: float

    @classmethod
    def of(cls, at: Callable[[float], float], h: float, smaller: float) -> _Difference | None:
        """Take the difference over two steps; None if f is not finite on any side."""
        for left, right in ((-1.0, 1.0), (0.0, 1.0), (-1.0, 0.0)):  # central, and one-sided if f ends
            wide, narrow = ((at(right * s) - at(left * s)) / ((right - left) * s) for s in (h, smaller))
            if math.isfinite(wide) and math.isfinite(narrow):
                return cls(narrow, abs(wide - narrow), smaller)
        return None

    def error(self, noise: float) -> float:
        return self.apart + 4 * noise / self.step


def _verdict(found: Sequence[_Difference], slope: float, eps: float, noise: float) -> bool | None:
    """Return whether the differences differ from ``slope``; None: they can't tell.

    The sharpest one decides, if the next confirms it, both tell more than the size and no shorter step shows another
    slope: then f oscillates or bends on a finer scale.
    """
    if len(found) < 2 or _still_growing({each.step: each.slope for each in found}, noise):
        return None
    sharp = sorted((each.error(noise), each.slope, each.step) for each in found)
    (error, difference, step), (next_error, confirmed, _) = sharp[:2]
    size = max(abs(difference), abs(slope))
    if next_error > 1e-2 * size or abs(difference - confirmed) > 10 * (error + next_error):
        return None
    if any(abs(e.slope - difference) > 10 * (error + 4 * noise / e.step) + 1e-2 * size for e in found if e.step < step):
        return None
    return abs(difference - slope) > 10 * error + 1e3 * eps * size


def _roughly(found: Sequence[_Difference], slope: float, noise: float) -> bool:
    """Return whether the sharpest difference is near ``slope``, as near as rounding in float32 allows."""
    if not found:
        return False
    error, difference = min((each.error(noise), each.slope) for each in found)
    return error <= 0.1 * abs(slope) and abs(difference - slope) <= 2 * error


def _still_growing(by_step: dict[float, float], noise: float) -> bool:
    """Return whether the differences grow as the step shrinks: a singularity is nearer than any step; none can tell."""
    if len(by_step) < 2:
        return False
    (finest, sharp), (_, blunt) = sorted(by_step.items())[:2]
    return abs(sharp) - 4 * noise / finest > 2 * abs(blunt)


def _scaled(v: Any, x: Any) -> Any:
    """Return the direction in the scale of x, element by element, in its place."""
    scale = np.asarray(np.abs(x))
    np.putmask(scale, scale == 0, scale.max() or 1.0)
    v *= scale
    return v


def _at_kink(at: Callable[[float], float], f0: float, slope: float, noise: float, eps: float) -> bool:
    """Return whether the function bends here, with ``slope`` between the two one-sided slopes."""
    h = 1e-6 if eps < 1e-10 else 1e-2
    left, right = (f0 - at(-h)) / h, (at(h) - f0) / h
    error = 10 * (noise / h) + 1e-4 * max(abs(left), abs(right))
    return abs(right - left) > error and min(left, right) - error <= slope <= max(left, right) + error


def _plain(i: int, node: Node, held: list[Any], memory: MemoryPlan) -> Any:
    return memory.perform(i, node, held)


def _values(graph: Graph, leaves: Sequence[Any]) -> dict[int, Any] | None:
    """Return the values of the outputs and of the guards' nodes; None if the graph ends: outside the domain, or on
    another path.
    """
    try:
        return sweep(graph, leaves, _plain)
    except (ArithmeticError, IndexError, ValueError):
        return None


def _off_by_rounding(graph: Graph, leaves: Sequence[Any], random: np.random.Generator) -> tuple[Any, Any]:
    """Return the graph's output, and that with every number on the way off by its rounding, up or down by chance.

    What a primitive other than an elementwise one gives, such as a sum, is right for operands that are off. Steps stay
    where they are: no rounding is as large.
    """

    def chance(shape: Any) -> Any:  # each far enough to show in the last digit
        return random.choice([-1.0, 1.0], shape) * random.uniform(0.75, 1.5, shape)

    shifts = chance(len(graph.nodes))

    def off(i: int, y: Any) -> Any:
        dtype = getattr(y, "dtype", None)
        if dtype is None or dtype.kind not in "fc":
            return y
        shift = (chance(y.shape) if y.shape else shifts[i]) * (_EPS.get(dtype) or float(np.finfo(dtype).eps))
        return (y + y * shift).astype(dtype, copy=False)

    def compute(i: int, node: Node, held: list[Any], memory: MemoryPlan) -> Any:
        op = node.op
        there = [other for _, other in held]
        whole = node.dtype is not None and node.dtype.kind not in "fc"  # as a cast to int gives
        if not node.inputs or not op.differentiable or whole:
            exact = memory.perform(i, node, [value for value, _ in held])
            return exact, exact
        if i in memory.in_place and there[0] is held[0][0]:  # one array for both, so far
            there[0] = there[0].copy()
        rounds = not op.view and op.name not in _EXACT
        if rounds and not op.elementwise:
            there = [off(i, operand) for operand in there]
        exact, result = memory.perform(i, node, [value for value, _ in held]), memory.perform(i, node, there)
        return exact, off(i, result) if rounds and op.elementwise else result

    try:
        exact, result = sweep(graph, [(leaf, leaf) for leaf in leaves], compute)[graph.outputs[0]]
    except (ArithmeticError, IndexError, ValueError):
        return np.nan, np.nan
    return exact, result


def _slopes_of_nodes(
    graph: Graph, moved: Callable[[float], list[Any]], active: Sequence[int], directions: Sequence[Any], eps: float
) -> list[float] | None:
    """Return the graph's directional derivative from differences of its nodes alone, in four ways; None: not finite.

    Their spread is the error: they differ in the steps, in the point by rounding, in the slope that is taken at a kink
    that no step resolves, the mean of both sides or the one above or below; and in all but the first the slope of each
    node is as far off as it may be, by chance.
    """
    random = np.random.default_rng(20240229)
    slopes: list[float] = []
    tangents: dict[int, Any] = {graph.inputs[k]: v for k, v in zip(active, directions, strict=True)}
    for h, factor, side in ((0.0, 1.0, 0), (0.0, 0.4, 1), (0.0, 0.4, -1), (4 * eps, 1.0, 0)):
        how = factor, side, random if slopes else None
        leaves = moved(h)
        try:
            known = _slopes_at_once(graph, leaves, how)

            def compute(
                i: int, node: Node, held: list[Any], memory: MemoryPlan, how: Any = how, known: Any = known
            ) -> Any:
                operands, along = [value for value, _ in held], [tangent for _, tangent in held]
                tangent = None
                if node.dtype is not None and node.dtype.kind in "fc" and any(t is not None for t in along):
                    if i in known:
                        parts = [_times(s, t) for s, t in zip(known[i], along, strict=True) if t is not None]
                        tangent = sum(parts[1:], parts[0])
                    elif node.op.name in _MOVES:  # the tangent is moved in the same way
                        real = len(operands) if node.op.name not in _MOVED else _MOVED[node.op.name]
                        there = [
                            np.zeros(np.shape(x), np.result_type(x, np.float64)) if t is None and k < real else t
                            for k, (x, t) in enumerate(zip(operands, along, strict=True))
                        ]
                        there[real:] = operands[real:]
                        tangent = memory.perform(i, node, there)
                    else:
                        parts = [
                            _pushed_forward(node, operands, k, t, *how) for k, t in enumerate(along) if t is not None
                        ]
                        tangent = sum(parts[1:], parts[0])
                return memory.perform(i, node, operands), tangent

            given = [(leaf, tangents.get(i)) for leaf, i in zip(leaves, graph.inputs, strict=True)]
            tangent = sweep(graph, given, compute)[graph.outputs[0]][1]
        except (ArithmeticError, IndexError, ValueError):
            return None
        slopes.append(0.0 if tangent is None else float(np.real(tangent)))
    return slopes if np.isfinite(slopes).all() else None


def _slopes_at_once(graph: Graph, leaves: Sequence[Any], how: tuple[float, int, Any]) -> dict[int, list[Any]]:
    """Return the slopes of each elementwise node of few numbers, along each operand.

    A long loop has very many of them. Since these slopes do not depend on how fast the operands move, all nodes of one
    primitive and one shape are done at once.
    """
    nodes = graph.nodes
    groups: dict[Any, tuple[list[int], list[list[Any]]]] = {}

    def compute(i: int, node: Node, held: list[Any], memory: MemoryPlan) -> Any:
        op, inputs, params, shape, dtype, _ = node
        if op.elementwise and not op.view and dtype is not None and dtype.kind == "f" and math.prod(shape) <= _FEW:
            forms = [nodes[j].dtype or dtype for j in inputs]
            if all(form.kind in "fb" for form in forms):
                members, operands = groups.setdefault((op, shape, dtype, *forms, *params.values()), ([], []))
                members.append(i)  # and copies, since an array may be written on
                operands.append([np.array(np.broadcast_to(x, shape)) for x in held] if shape else held)
        return memory.perform(i, node, held)

    sweep(graph, leaves, compute)
    known: dict[int, list[Any]] = {}
    for (_, shape, _, *forms), (members, operands) in groups.items():
        node = nodes[members[0]]
        node = node._replace(shape=(len(members), *shape))
        columns = [np.array(values, form) for values, form in zip(zip(*operands, strict=True), forms, strict=False)]
        slopes = []
        for k, column in enumerate(columns):
            along = np.ones(node.shape)
            # a rule that says 0 may be that of a number of which nothing but whole ones make sense
            moves = column.dtype.kind == "f" and (node.op.rule(k) is not None or not node.op.differentiable)
            found = _pushed_forward(node, columns, k, along, *how) if moves else 0.0 * along
            slopes.append(list(found) if shape else found.tolist())
        known.update(zip(members, map(list, zip(*slopes, strict=True)), strict=True))
    return known


def _pushed_forward(
    node: Node,
    operands: Sequence[Any],
    k: int,
    tangent: Any,
    factor: float,
    side: int,
    random: np.random.Generator | None,
) -> Any:
    """Return the derivative of the node's value as operand ``k`` moves along ``tangent``, by differences.

    Of many steps each element of the value takes the one with the least error, which is what both sides differ by and
    rounding; one at which it bends, as at a kink or a pole, is taken if there is no other. All is done in float64.
    factor: on the steps; side: which slope to take at a kink, 0 for the mean; random: the slope is as far off as
    its error allows.
    """
    if node.op.view:  # the tangent is arranged in the same way
        return node.op.call(tangent, **node.params)
    x = np.asarray(operands[k])
    x = x.astype(np.result_type(x, np.float64), copy=False)
    length = np.abs(tangent)
    size = np.abs(x)
    if node.op.elementwise:
        length, size = np.broadcast_to(length, node.shape), np.broadcast_to(size, node.shape)
        x, tangent = np.broadcast_to(x, node.shape), np.broadcast_to(tangent, node.shape)
    else:
        length, size = (np.max(a, where=np.isfinite(a), initial=0.0) for a in (length, size))
    if node.op.elementwise and tangent.dtype.kind == "f":
        unit, length = 1.0, tangent  # each element has a slope; at a kink one above and one below
    else:
        unit = np.divide(tangent, length, out=np.zeros_like(tangent), where=length != 0)

    def call(step: Any) -> Any:
        moved = x + step * unit
        return np.asarray(node.op.call(*operands[:k], moved[()], *operands[k + 1 :], **node.params))

    y = call(0.0)
    eps = 4 * np.finfo(y.dtype).eps
    height = np.abs(y) if node.op.elementwise else np.max(np.abs(y), where=np.isfinite(y), initial=0.0)
    least = np.full(y.shape, np.inf)
    slope = np.full(y.shape, np.nan, np.result_type(y, np.float64))
    error = np.zeros(y.shape)
    steps = [step * scale for step in _NODE_STEPS for scale in (size, np.ones_like(size))]
    if not node.op.vjp:  # flights of stairs are not to look like slopes, nor is the one beside x
        steps = [step * np.where(size > 0, size, 1.0) for step in _STAIR_STEPS]
    for step in factor * np.sort(np.stack(steps), axis=0)[::-1]:
        try:
            right, left = (call(step) - y) / step, (y - call(-step)) / step
        except (ArithmeticError, ValueError):  # outside the domain, such as LinAlgError
            continue
        if not node.op.vjp:
            flatter = np.where(np.abs(right) < np.abs(left), right, left)
            slope = np.where(np.abs(flatter) >= np.abs(slope), slope, flatter)
            continue
        jump, steep = np.abs(right - left), np.abs(right) + np.abs(left)
        rounding = eps * (height + size * np.fmax(steep, np.abs(slope))) / step  # a step may vanish in the operand
        bent = (jump > 2e-2 * steep) & (jump > 100 * rounding)
        sided = np.where(bent, right if side > 0 else left, (right + left) / 2) if side else (right + left) / 2
        bound = np.where(bent, 1e30, 1.0) * (jump + rounding)
        better = (bound < least) | (
            np.abs(sided - slope) > 10 * (least + bound)
        )  # or it oscillates within a longer one
        least, slope = np.where(better, bound, least), np.where(better, sided, slope)
        if random is not None:  # the mean of both sides is exact for a parabola, and their difference for what is flat
            off = np.where(bent | (steep == 0), 0.0, rounding + jump * np.fmin(1.0, jump / steep))
            error = np.where(better, off / 4, error)
        steepest = steep if node.op.elementwise else np.max(steep, initial=0.0)
        if ((bound <= max(1e-9, 100 * eps) * steepest) & (bound < np.inf)).all():
            break  # linear
    if random is not None:
        slope = slope + np.nan_to_num(error) * random.uniform(-1.0, 1.0, error.shape)
    return _times(slope, length)


def _times(slope: Any, tangent: Any) -> Any:
    """Return the product; what does not count may be infinite."""
    if type(slope) is float:
        return slope * tangent if slope else 0.0
    return np.where(slope == 0, 0.0, slope * tangent)
