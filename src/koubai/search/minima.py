"""Which ends of many descents are the same minimum, of what kind it is, and whether a lower one may be left."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from koubai.errors import InputError
from koubai.parameters import FloatArray

__all__ = [
    "FoundMinimum",
    "Grouped",
    "as_found",
    "chance_of_lower",
    "group",
    "middle",
    "nearest",
    "read_box",
    "signatures",
]

Values: TypeAlias = Callable[[FloatArray], FloatArray]  # f at each of these points, (points, n) -> (points,)
Descend: TypeAlias = Callable[[FloatArray], tuple[FloatArray, FloatArray]]  # where descents from there end, and f there
Mask: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]
Labels: TypeAlias = np.ndarray[Any, np.dtype[np.intp]]

CELL = 1e-6  # of the box: ends in one cell are one
MOST_CELLS = 20_000  # that are compared with each other; with more, cells are made larger
NEAR = 0.02  # of the box, along every axis: ends farther apart are not compared at first, …
ROUNDS = NEAR, 0.1, 0.1  # … then the lowest of each group, as far as this
NEIGHBOURS = 6  # with which an end is compared
# Where f is asked between two ends, as seen from the higher one: around that one stands the wall that it has to have,
# however many lower ones lie on the way to the other.
BETWEEN = (1 / 128, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)
FLOOR = 1e-3  # of what f rises by between two ends: by no more do they and the way between differ on a bent floor
UNSETTLED = 1e-12  # of |f| over the box: by so much f at an end may be above its minimum still, …
ASKED = 32  # … and at so many points f is asked for that
APART = 5e-3  # of the box: how far from a point on a flat floor another descent begins
FEW = 64  # points whose distances are all computed
STEP = 1e-4  # of the box: how far from a minimum f is asked for its curvature
CURVED = 1e-6  # of the largest second difference: a smaller one is none
MOST_CURVED = 32  # variables, up to which all second differences are computed


@dataclass(frozen=True, eq=False)
class FoundMinimum:
    """A point where descents end.

    Attributes
    ----------
    x : array or float
        The lowest end there, in the form of the starts.
    fun : float
        f there.
    share : float
        The share of all starts that end there.
    signature : str
        "minimum", "saddle" (f falls to some side), "maximum", or "flat" (f does not change to some side), as second
        differences of f at a ten thousandth of the box tell.
    count : int
        The number of starts that end there.
    """

    x: Any
    fun: float
    share: float
    signature: str
    count: int

    def __repr__(self) -> str:
        x = np.array2string(np.asarray(self.x), precision=6, separator=", ", threshold=6)
        return f"<{self.signature} f = {self.fun:.6g} at {x}, {self.share:.1%} of the starts>"


@dataclass(frozen=True)
class Grouped:
    """labels: of each point, the number of its group; lowest: the row of each group's lowest point, groups by f."""

    labels: Labels
    lowest: Labels


def read_box(bounds: Any) -> tuple[FloatArray, FloatArray, bool]:
    """Return low and high, and whether they are those of one plain number. Raises InputError."""
    low_high = getattr(bounds, "lb", None), getattr(bounds, "ub", None)  # SciPy's Bounds
    try:
        if low_high[0] is not None:
            pairs = np.stack(np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, np.float64)) for v in low_high)), -1)
        else:
            pairs = np.asarray(bounds, np.float64)
    except (TypeError, ValueError):
        pairs = np.empty(0)  # no pairs either
    is_number = pairs.shape == (2,)
    pairs = pairs.reshape(1, 2) if is_number else pairs
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not len(pairs):
        raise InputError(
            f"bounds must be pairs (low, high), one for each variable, as [(-5, 5), (-5, 5)]; got {bounds!r}"
        )
    for i, (low, high) in enumerate(pairs):
        name = "bounds" if is_number else f"bounds[{i}]"
        if not (math.isfinite(low) and math.isfinite(high)):
            raise InputError(f"{name} must be finite, got ({low}, {high}): starts are spread over all of it")
        if not low < high:
            raise InputError(f"{name} is crossed or empty: low {low} must be below high {high}")
        if not math.isfinite(float(high) - float(low)):
            raise InputError(f"{name} is too wide for floats: ({low}, {high})")
    low, high = np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])
    return low, high, is_number


# -- groups -----------------------------------------------------------------------------------------------------------


def group(
    x: FloatArray, fun: FloatArray, low: FloatArray, high: FloatArray, values: Values, descend: Descend
) -> Grouped:
    """Group ends that lie in one valley: near each other, and f nowhere between them higher than at both.

    x: (ends, n), fun: (ends,). Ends are compared with the nearest others; a chain of them may be long, as along the
    floor of a valley. If the floor is bent, f is higher halfway between two ends on it, but a descent from there ends
    between them again; between two minima it ends in one of them.
    """
    if not len(x):
        nothing = np.zeros(0, np.intp)
        return Grouped(nothing, nothing)
    u = (x - low) / (high - low)
    order = np.argsort(fun, kind="stable")
    weights = np.random.default_rng(0).integers(1, 2**62, x.shape[1], dtype=np.int64) | 1
    cell = CELL
    while True:
        # one number for each cell; two cells of one number are as likely as not among 2**32 of them
        with np.errstate(over="ignore", invalid="ignore"):
            keys = (np.rint(np.clip(u[order] / cell, -2e18, 2e18)).astype(np.int64) * weights).sum(axis=1)
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        if len(first) <= MOST_CELLS or cell > NEAR:
            break
        cell *= 10
    by_f = np.argsort(first)
    rows = order[first[by_f]]  # the lowest of each cell, by f
    joined = np.arange(len(rows))
    around = values(low + np.random.default_rng(0).random((ASKED, x.shape[1])) * (high - low))
    unsettled = UNSETTLED * middle(np.abs(around))
    for near in ROUNDS:
        _, lowest, number = np.unique(joined, return_index=True, return_inverse=True)
        if len(lowest) == 1:
            break
        own = rows[lowest]  # the lowest of each group
        joined = _joined(u[own], x[own], fun[own], near, unsettled, values, descend)[number]
    _, lowest, number = np.unique(joined, return_index=True, return_inverse=True)
    place = np.argsort(np.argsort(lowest))  # of each group, by f
    labels = np.empty(len(x), np.intp)
    labels[order] = place[number][np.argsort(by_f)][inverse]
    return Grouped(labels, rows[np.sort(lowest)])


def middle(sizes: FloatArray) -> float:
    """Return the median of those that are finite, 0 if none is. (NumPy's loads its masked arrays, in 20 ms.)"""
    finite = np.sort(sizes[np.isfinite(sizes)])
    return float(finite[(len(finite) - 1) // 2] + finite[len(finite) // 2]) / 2 if finite.size else 0.0


def _joined(
    u: FloatArray, x: FloatArray, fun: FloatArray, near: float, unsettled: float, values: Values, descend: Descend
) -> Labels:  # fmt: skip
    """Return the number of each point's group."""
    pairs = _neighbours(u, near)
    parent = np.arange(len(u))
    if not len(pairs):
        return parent

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    a, b = pairs[:, 0], pairs[:, 1]
    top = np.maximum(fun[a], fun[b])
    size = np.abs(fun[np.isfinite(fun)]).max(initial=0.0)
    ceiling = top + 1e-9 * np.abs(top) + 1e-15 * size
    from_a = (fun[a] >= fun[b])[:, None]
    higher, lower = np.where(from_a, x[a], x[b]), np.where(from_a, x[b], x[a])
    between = np.concatenate([higher + t * (lower - higher) for t in BETWEEN])
    highest = values(between).reshape(len(BETWEEN), -1).max(axis=0)
    same = highest <= ceiling
    level = FLOOR * (highest - top) + unsettled  # what two ends on one floor may differ by
    doubtful = np.flatnonzero(~same & (np.abs(fun[a] - fun[b]) <= level))
    if doubtful.size:
        i, j = a[doubtful], b[doubtful]
        end, height = descend((x[i] + x[j]) / 2)
        unit = np.ptp(x, axis=0)
        unit[unit == 0.0] = 1.0
        apart = [np.abs((p - q) / unit).max(axis=1) for p, q in ((end, x[i]), (end, x[j]), (x[i], x[j]))]
        between_again = np.minimum(apart[0], apart[1]) >= 0.25 * apart[2]
        # a lower end between them is a third minimum, and they are two others
        same[doubtful] = between_again & (np.abs(height - top[doubtful]) <= 2 * level[doubtful])
    for i, j in pairs[same]:
        parent[root(int(i))] = root(int(j))
    return np.unique([root(i) for i in range(len(u))], return_inverse=True)[1]


def _neighbours(u: FloatArray, near: float) -> Labels:
    """Return pairs of points that are near each other."""
    count = len(u)
    if count <= FEW:
        distance = np.abs(u[:, None] - u[None]).max(axis=2)
        return np.argwhere(np.triu(distance <= near, 1))
    from scipy.spatial import cKDTree

    nearest = min(NEIGHBOURS + 1, count)
    distance, other = cKDTree(u).query(u, nearest, p=np.inf, distance_upper_bound=near)
    own = np.repeat(np.arange(count), nearest)[np.isfinite(distance).ravel()]
    other = other.ravel()[np.isfinite(distance).ravel()]
    pairs = np.stack([np.minimum(own, other), np.maximum(own, other)], axis=1)
    return np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)


def nearest(x: FloatArray, minima: FloatArray, low: FloatArray, high: FloatArray) -> tuple[Labels, FloatArray]:
    """Return the number of the minimum nearest to each point, and how far it is, in boxes along the farthest axis."""
    width = high - low
    if len(minima) > FEW:
        from scipy.spatial import cKDTree

        distance, label = cKDTree(minima / width).query(x / width, p=np.inf)
        return label, distance
    label, least = np.zeros(len(x), np.intp), np.full(len(x), np.inf)
    for k, minimum in enumerate(minima):
        distance = np.abs(x[:, 0] - minimum[0]) / width[0]
        for i in range(1, x.shape[1]):
            np.maximum(distance, np.abs(x[:, i] - minimum[i]) / width[i], out=distance)
        nearer = distance < least
        label[nearer] = k
        np.minimum(distance, least, out=least)
    return label, least


# -- kinds ------------------------------------------------------------------------------------------------------------


def signatures(
    x: FloatArray, fun: FloatArray, low: FloatArray, high: FloatArray, values: Values, descend: Descend,
    is_bounded: bool,
) -> list[str]:  # fmt: skip
    """Return "minimum", "saddle", "maximum" or "flat" for each point, by f around it.

    Second differences give the Hessian; along its least eigenvector f itself decides. is_bounded: f is asked within
    the box alone, and a component at its bound stays there.
    """
    count, n = x.shape
    h = STEP * (high - low)
    held: Mask = np.zeros(x.shape, bool)
    centre = x
    if is_bounded:
        held = (x <= low) | (x >= high)
        centre = np.where(held, x, np.clip(x, low + 2 * h, high - 2 * h))
    if n > MOST_CURVED:
        return [_by_axes(*row) for row in zip(*_along_axes(centre, h, values), held, strict=True)]
    hessians, middle = _hessians(centre, h, held, values)
    hessians = np.where(np.isfinite(hessians), hessians, 0.0)
    scale = np.abs(hessians).max(axis=(1, 2))
    for i in range(n):  # what is held bends more than all that is free: it is looked at last
        hessians[:, i, i] = np.where(held[:, i], 2 * n * scale + 1.0, hessians[:, i, i])
    size, vectors = np.linalg.eigh(hessians)
    step = np.where(held, 0.0, vectors[:, :, 0]) * h
    sides = values(np.concatenate([centre + k * step for k in (1, -1, 2, -2)])).reshape(4, count)
    lowest = np.where(np.isfinite(sides), sides, np.inf).min(axis=0)
    free = (~held).sum(axis=1)
    rounding = 64 * np.finfo(np.float64).eps * np.maximum(np.abs(middle), np.abs(fun))
    falls = (lowest < middle - rounding) & (size[:, 0] < -CURVED * scale) & (free > 0)
    level = ~falls & (size[:, 0] <= np.maximum(CURVED * scale, rounding)) & (free > 0)
    found = np.where(falls, "saddle", "minimum").astype(object)
    found[falls & ((size < -CURVED * scale[:, None]).sum(axis=1) == n)] = "maximum"
    if level.any():  # to second order: where a descent from farther along comes back to, f rises to all sides
        away = np.where(held, 0.0, vectors[:, :, 0])[level] * (APART * (high - low))
        from_there = centre[level] + away
        if is_bounded:
            from_there = np.clip(from_there, low, high)
        end, height = descend(from_there)
        moved = np.linalg.norm((from_there - centre[level]) / (high - low), axis=1)
        left = np.linalg.norm((end - centre[level]) / (high - low), axis=1)
        change = np.abs(height - middle[level])
        rise = np.abs(values(from_there) - middle[level])
        stays = (left > 0.5 * moved) & (change <= np.maximum(rounding[level], FLOOR * rise + 1e-12 * scale[level]))
        found[np.flatnonzero(level)[stays]] = "flat"
    return [str(kind) for kind in found]


def _hessians(x: FloatArray, h: FloatArray, held: Mask, values: Values) -> tuple[FloatArray, FloatArray]:
    """Return the matrices of second differences in units of h, those held zero, and f at x."""
    count, n = x.shape
    moves = [np.zeros(n)]
    upper = [(i, j) for i in range(n) for j in range(i, n)]
    for i, j in upper:
        for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1)) if i != j else ((1, 0), (-1, 0)):
            move = np.zeros(n)
            move[i] += a * h[i]
            move[j] += b * h[j]
            moves.append(move)
    steps = np.stack(moves)
    points = x[None] + np.where(held[None], 0.0, steps[:, None])
    f = values(points.reshape(-1, n)).reshape(len(steps), count)
    hessians, k = np.zeros((count, n, n)), 1
    for i, j in upper:
        if i == j:
            second = f[k] - 2 * f[0] + f[k + 1]
            k += 2
        else:
            second = (f[k] - f[k + 1] - f[k + 2] + f[k + 3]) / 4
            k += 4
        hessians[:, i, j] = hessians[:, j, i] = np.where(held[:, i] | held[:, j], 0.0, second)
    return hessians, f[0]


def _along_axes(x: FloatArray, h: FloatArray, values: Values) -> tuple[FloatArray, FloatArray]:
    """Return f at x, and at both sides along each axis: (points, n, 2)."""
    count, n = x.shape
    moves = np.concatenate([np.diag(h), -np.diag(h), np.zeros((1, n))])
    f = values((x[None] + moves[:, None]).reshape(-1, n)).reshape(2 * n + 1, count)
    return f[-1], np.stack([f[:n].T, f[n : 2 * n].T], axis=-1)


def _by_axes(middle: float, sides: FloatArray, held: Mask) -> str:
    rounding = 64 * np.finfo(np.float64).eps * abs(middle)
    around = sides[~held]
    if (around < middle - rounding).any():
        return "saddle"
    return "flat" if len(around) and (np.abs(around - middle) <= rounding).all(axis=1).any() else "minimum"


# -- what may be left -------------------------------------------------------------------------------------------------


def chance_of_lower(starts: int, found: int) -> float:
    """Return the chance that a minimum below all ``found`` ones was not found by descents from random ``starts``.

        chance = (w + 1) / (N - 1)        for N starts with w different ends;   1 if N ≤ w + 2

    Boender and Rinnooy Kan take any number of minima and any shares of the starts for equally likely a priori; then
    w (N - 1) / (N - w - 2) minima are expected, so many that the lowest of them is among those unseen with the chance
    above, if each may as well be the lowest. Lower minima mostly draw more starts than others, so it is on the safe
    side.

    Boender & Rinnooy Kan, "Bayesian stopping rules for multistart global optimization methods", Math. Programming 1987.
    """
    if starts <= found + 2:
        return 1.0
    return min(1.0, (found + 1) / (starts - 1))


def as_found(
    x: FloatArray, fun: FloatArray, counts: Sequence[int], total: int, kinds: Sequence[str], shape: tuple[int, ...]
) -> list[FoundMinimum]:
    """Return the minima in the form of the starts."""
    return [
        FoundMinimum(row.reshape(shape).copy() if shape else float(row[0]), float(f), count / total, kind, int(count))
        for row, f, count, kind in zip(x, fun, counts, kinds, strict=True)
    ]
