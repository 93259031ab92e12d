"""The first use of a graph: does it agree with the function it was traced from?

One random directional derivative is compared with differences of the function, at several steps and with the noise of
the function measured, so that neither a kink nor rounding raises falsely and a wrong derivative can't stay silent.

Where no difference confirms backpropagation, the function may still be to blame: a network of rectifiers bends within
every step that rounding allows. Then the graph is asked for another witness, which needs no step of the whole: the
direction is pushed forward through the graph, node by node, each node being differenced alone and at the steps that
suit it, element by element where it works so. A kink of one primitive is no nearer than its operand is to it, and a
step relative to the operand does not cross it. What comes out is the derivative of the graph without any of the
derivative rules, so it finds a wrong rule, and a wrong order of right ones, at kinks too; it decides wherever it is
sharp. It knows nothing of f itself: that the graph follows f to where the difference was taken is asked besides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from koubai.errors import GradientError, TraceError
from koubai.graph.trace import Graph, Node, run_nodes

__all__ = ["cross_check"]

_STEPS = ((1e-4, 1e-5), (1e-3, 1e-4), (1e-5, 1e-6), (1e-2, 1e-3), (1e-6, 1e-7))
_STEPS_FLOAT32 = ((1e-2, 3e-3), (3e-2, 1e-2), (1e-1, 3e-2))
# of one node: the long ones for what is linear, the middle for what is smooth, the short ones beside a kink
_NODE_STEPS = (0.3, 1e-3, 1e-5, 1e-7, 1e-9, 1e-11)


def cross_check(
    f: Callable[..., Any],
    leaves: Sequence[Any],
    active: Sequence[int],
    value: float,
    gradients: Sequence[Any],
    where: str,
    single: bool = False,
    graph: Graph | None = None,
    box: tuple[Any, Any] | None = None,
) -> None:
    """Compare ``value`` and ``gradients`` with ``f(*leaves)`` and its differences.

    f: takes the leaves and returns a float; active: the leaves that are differentiated, in the order of ``gradients``;
    single: f computes in float32 somewhere; graph: f as it was traced, whose inputs are the leaves and whose first
    output is f; without it, nothing but differences of f is asked. box: the lowest and the highest active leaves, flat,
    one after the other: f is not called outside.
    Raises TraceError where two calls of f differ or its value is not the graph's; GradientError where the derivative
    is wrong beyond the measured noise.
    """
    if not all(np.isfinite(leaves[k]).all() for k in active):
        return
    random = np.random.default_rng(20240229)
    directions = [_direction(random, np.asarray(leaves[k], np.float64)) for k in active]
    eps = max(float(np.finfo(np.asarray(leaves[k]).dtype).eps) for k in active)
    if single:
        eps = max(eps, float(np.finfo(np.float32).eps))

    if box is not None:
        directions = _into(box, [np.asarray(leaves[k], np.float64) for k in active], directions)

    def moved(h: float) -> list[Any]:
        there = list(leaves)
        for k, v in zip(active, directions, strict=True):
            x, y = np.asarray(leaves[k]), np.asarray(v * h)
            y += x
            there[k] = y.astype(x.dtype, copy=False) if x.ndim else x.dtype.type(y)
        return there

    def at(h: float) -> float:
        there = moved(h)
        for k, leaf in enumerate(there):
            if leaf is leaves[k] and isinstance(leaf, np.ndarray):
                there[k] = leaf.copy()
        if box is not None and h != 0.0:
            flat = _one_vector([there[k] for k in active])
            if (flat < box[0]).any() or (flat > box[1]).any():
                return float("nan")
        try:
            return float(f(*there))
        except Exception:
            if h == 0.0:
                raise
            return float("nan")  # outside the domain of f

    with np.errstate(all="ignore"):
        f0, again = at(0.0), at(0.0)
        if f0 != again and not (np.isnan(f0) and np.isnan(again)):
            raise TraceError(
                f"two calls of {where} at the same x differ: {f0!r} and {again!r}",
                "a function with randomness or hidden state has no gradient; fix the seed inside it",
            )
        if not np.isfinite(f0) or not np.isfinite(value):
            if (np.isnan(f0) and np.isnan(value)) or f0 == value:
                return
            raise TraceError(f"the traced {where} gives {value!r}, the function itself {f0!r}", "please report this")
        noise = max(abs(at(s * 4 * eps) - f0) for s in (-1.0, 1.0))
        noise = max(noise if np.isfinite(noise) else 0.0, eps * abs(f0))
        if abs(value - f0) > 100 * noise + 1e3 * eps * abs(f0):
            raise TraceError(f"the traced {where} gives {value!r}, the function itself {f0!r}", "please report this")
        slope = float(sum(np.sum(np.asarray(g, np.float64) * v) for g, v in zip(gradients, directions, strict=True)))
        undefined = any(np.isnan(g).any() for g in gradients)  # such as 0 · ∞: it may still have a finite value
        if not np.isfinite(slope) and not undefined:
            return
        found: list[tuple[float, float, float]] = []
        for h, smaller in _STEPS if eps < 1e-10 else _STEPS_FLOAT32:
            pair = _difference(at, h, smaller, noise)
            if pair is None:
                continue
            error, difference = pair
            if error <= 1e-6 * abs(slope) and abs(difference - slope) <= 10 * error:
                return
            found.append((error, difference, smaller))
        found.sort()
        differs = _verdict(found, slope, undefined, eps, noise)
        if differs is False or (differs is None and eps > 1e-10 and _roughly(found, slope)):
            return
        wrong = bool(differs) and not _at_kink(at, f0, slope, noise, eps)
        told = f"a difference gives {found[0][1]!r}" if wrong else ""
        slopes = None if graph is None or undefined else _slopes_of_nodes(graph, moved, active, directions, eps)
        if graph is not None and slopes is not None:
            expected, spread = slopes[0], max(slopes) - min(slopes)
            size = sum(float(np.sum(np.abs(g * v))) for g, v in zip(gradients, directions, strict=True))
            apart = abs(slope - expected) > max(10 * spread + 100 * noise, max(1e-6, 1e3 * eps) * size)
            if apart and not wrong and spread <= 1e-2 * max(abs(slope), abs(expected)):
                told = f"differences of its operations, one by one, give {expected!r}"
            elif wrong and not apart and _follows(graph, moved, at, found[:2], slope):
                told = ""
        if told:
            raise GradientError(
                f"backpropagation through {where} gives the directional derivative {slope!r}, {told}; the measured "
                f"noise of f is {noise:.2g}. Use method='adaptive', and report this"
            )


def _verdict(
    found: list[tuple[float, float, float]], slope: float, undefined: bool, eps: float, noise: float
) -> bool | None:
    """Do the differences, (error, difference, step) with the sharpest first, differ from ``slope``? None: they can't
    tell.

    The sharpest one decides, if the next confirms it and both tell more than the size.
    """
    if len(found) < 2 or _still_growing({step: difference for _, difference, step in found}, noise):
        return None
    (error, difference, _), (next_error, confirmed, _) = found[:2]
    size = abs(difference) if undefined else max(abs(difference), abs(slope))
    if next_error > 1e-2 * size or abs(difference - confirmed) > 10 * (error + next_error):
        return None
    return undefined or abs(difference - slope) > 10 * error + 1e3 * eps * size


def _roughly(found: Sequence[tuple[float, float, float]], slope: float) -> bool:
    """Does the sharpest difference lie at ``slope``, if no closer than rounding in float32 allows?"""
    error, difference, _ = found[0] if found else (np.inf, np.nan, 0.0)
    return error <= 0.1 * abs(slope) and abs(difference - slope) <= 2 * error


def _still_growing(by_step: dict[float, float], noise: float) -> bool:
    """Do the differences grow as the step shrinks? Then a singularity is nearer than any step, and none can tell."""
    if len(by_step) < 2:
        return False
    (finest, sharp), (_, blunt) = sorted(by_step.items())[:2]
    return abs(sharp) - 4 * noise / finest > 2 * abs(blunt)


def _direction(random: np.random.Generator, x: Any) -> Any:
    """Return a random direction in the scale of x, element by element."""
    v = np.asarray(random.choice([-1.0, 1.0], x.shape))
    v *= random.uniform(0.5, 1.5, x.shape)  # in place, here and in `at`: large arguments must not need many arrays
    scale = np.asarray(np.abs(x))
    np.putmask(scale, scale == 0, scale.max() or 1.0)
    v *= scale
    return v


def _one_vector(parts: Sequence[Any]) -> Any:
    return np.concatenate([np.ravel(part) for part in parts])


def _into(box: tuple[Any, Any], parts: Sequence[Any], directions: Sequence[Any]) -> list[Any]:
    """Return the directions, turned and shortened so that a step of the longest length stays in the box."""
    x, v, (low, high) = _one_vector(parts), _one_vector(directions), box
    longest = max(step for step, _ in (*_STEPS, *_STEPS_FLOAT32))
    v = np.where(x + longest * v > high, -np.abs(v), v)
    v = np.where(x + longest * v < low, np.abs(v), v)
    v = np.where(
        (x + longest * v > high) | (x + longest * v < low),
        0.5 * np.where(high - x > x - low, high - x, low - x) / longest,
        v,
    )
    ends = np.cumsum([part.size for part in parts])[:-1]
    return [piece.reshape(part.shape) for piece, part in zip(np.split(v, ends), parts, strict=True)]


def _difference(at: Callable[[float], float], h: float, smaller: float, noise: float) -> tuple[float, float] | None:
    """Return (error, derivative along the direction) from two steps; None where f is not finite on any side."""
    for left, right in ((-1.0, 1.0), (0.0, 1.0), (-1.0, 0.0)):  # central, and one-sided where f ends
        wide, narrow = ((at(right * s) - at(left * s)) / ((right - left) * s) for s in (h, smaller))
        if np.isfinite(wide) and np.isfinite(narrow):
            return abs(wide - narrow) + 4 * noise / smaller, narrow
    return None


def _at_kink(at: Callable[[float], float], f0: float, slope: float, noise: float, eps: float) -> bool:
    """Does the function bend here, with ``slope`` between the two one-sided slopes?"""
    h = 1e-6 if eps < 1e-10 else 1e-2
    left, right = (f0 - at(-h)) / h, (at(h) - f0) / h
    error = 10 * (noise / h) + 1e-4 * max(abs(left), abs(right))
    return abs(right - left) > error and min(left, right) - error <= slope <= max(left, right) + error


def _follows(
    graph: Graph,
    moved: Callable[[float], list[Any]],
    at: Callable[[float], float],
    found: Sequence[tuple[float, float, float]],
    slope: float,
) -> bool:
    """Is the graph still f where the differences were taken? Where its guards fail, it does not claim to be."""
    for _, difference, step in found:
        for h in (-step, step):
            values = _values(graph, moved(h))
            if values is not None and all(guard.holds(values[guard.node]) for guard in graph.guards):
                apart = abs(float(values[graph.outputs[0]]) - at(h))
                if apart > 0.1 * step * abs(difference - slope):
                    return False
    return True


def _values(graph: Graph, leaves: Sequence[Any]) -> list[Any] | None:
    """Return the value of every node; None where the graph ends: outside the domain, or on another path."""
    try:
        return run_nodes(graph, leaves)
    except (ArithmeticError, IndexError, ValueError):
        return None


def _slopes_of_nodes(
    graph: Graph, moved: Callable[[float], list[Any]], active: Sequence[int], directions: Sequence[Any], eps: float
) -> list[float] | None:
    """Return the graph's directional derivative from differences of its nodes alone, in four ways; None: not finite.

    Their spread is the error: they differ in the steps, in the point by rounding, and in the slope that is taken at a
    kink that no step resolves, the mean of both sides or the one above or below. And of the largest slope met on the
    way, what cancels leaves an error: none of them is trusted beyond it.
    """
    slopes, steepest = [], 0.0
    for h, factor, side in ((0.0, 1.0, 0), (0.0, 0.4, 1), (0.0, 0.4, -1), (4 * eps, 1.0, 0)):
        values = _values(graph, moved(h))
        if values is None:
            return None
        tangents = {graph.inputs[k]: v for k, v in zip(active, directions, strict=True)}
        for i, node in enumerate(graph.nodes):
            if node.inputs and node.dtype is not None and node.dtype.kind in "fc":
                operands = [values[j] for j in node.inputs]
                parts = [
                    _pushed_forward(node, operands, k, tangents[j], factor, side)
                    for k, j in enumerate(node.inputs)
                    if j in tangents
                ]
                if parts:
                    tangents[i] = sum(parts[1:], parts[0])
                    steepest = max(steepest, float(np.max(np.abs(tangents[i]), initial=0.0)))
        slopes.append(float(np.real(tangents.get(graph.outputs[0], 0.0))))
    slopes.append(slopes[0] + 2e-11 * steepest)
    return slopes if np.isfinite(slopes).all() else None


def _pushed_forward(node: Node, operands: Sequence[Any], k: int, tangent: Any, factor: float, side: int) -> Any:
    """Return the derivative of the node's value as operand ``k`` moves along ``tangent``, by differences.

    Of many steps each element of the value takes the one with the least error, which is what both sides differ by and
    rounding; one at which it bends, as at a kink or a pole, is taken where there is no other. All is done in float64.
    factor: on the steps; side: which slope to take at a kink, 0 for the mean.
    """
    if node.op.view:  # the tangent is only looked at in another way too
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
    steps = _NODE_STEPS if node.op.vjp else _NODE_STEPS[2:]  # flights of stairs are not to look like slopes
    for step in (factor * relative * scale for relative in steps for scale in (size, 1.0)):
        try:
            right, left = (call(step) - y) / step, (y - call(-step)) / step
        except (ArithmeticError, ValueError):  # outside the domain, such as LinAlgError
            continue
        jump, steep = np.abs(right - left), np.abs(right) + np.abs(left)
        rounding = eps * (height + size * steep) / step
        bent = (jump > 2e-2 * steep) & (jump > 100 * rounding)
        sided = np.where(bent, right if side > 0 else left, (right + left) / 2) if side else (right + left) / 2
        error = np.where(bent, 1e30, 1.0) * (jump + rounding)
        better = error < least
        least, slope = np.where(better, error, least), np.where(better, sided, slope)
        steepest = steep if node.op.elementwise else np.max(steep, initial=0.0)
        if ((error <= max(1e-9, 100 * eps) * steepest) & (error < np.inf)).all():
            break  # linear
    return np.where(slope == 0, 0.0, slope * length)  # what does not count may be infinite
