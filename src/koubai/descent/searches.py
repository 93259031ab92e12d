"""The descents that evaluate f themselves, number by number; `koubai.descent.rules` has the same in arrays.

Each is a generator that makes step after step, asks for f and its gradient at the points it tries, and keeps the record
of the steps at which no rule for stopping can hold; at any other one it returns. Python runs this text as well as
machine code made of it (`koubai.execute.scalar_code`), to the same bits: the order of each sum is written down.

Places 0 to 3 of ``xs``, ``gs`` and ``trials`` hold points along the direction: 0 the one the step begins at, 1 to 3
those tried; a row of ``trials`` is (how far it is, f, slope). Least squares ask for residuals and the columns of their
Jacobian besides, where a step begins.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any, TypeAlias

from koubai.execute.scalar_code import Integers, Matrix, Vector

__all__ = [
    "barzilai_borwein", "conjugate_gradient", "gradient_descent", "lbfgs", "lbfgs_many", "lbfgs_many_within",
    "levenberg_marquardt",
]  # fmt: skip

Asked: TypeAlias = Any  # (x, where the gradient goes); f is the answer. Or (x, where residuals go, where columns do)

# In ``numbers``. The first line is given; the second one is f and its norm at the point, the least f so far and its
# norm; the third line are the optimizer's; the last one says from
# where on a promise is little: a share of |f|, and more.
TARGET, GTOL, FTOL, XTOL, F_LIMIT, X2_LIMIT = 0, 1, 2, 3, 4, 5
FUN, NORM, BEST, BEST_NORM = 6, 7, 8, 9
C1, C2, LR_MIN, LR_MAX = 10, 11, 12, 13
SHARE, MORE = 14, 15
NUMBERS = 16
# In ``counts``: steps made, then at first, then at last; 1 where each has a rate of its own; the bits that the step of
# a row has not; rows written; the step of the best point (-1: none new); the place of the point that was remarkable;
# the elements of x; the optimizer's; the residuals; evaluations of f along a direction.
T, T_BEGIN, T_END, RATES, MASK, ROWS, BEST_T, END, N, ROOM, VARIANT, M, TRIED = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
COUNTS = 13

REACHED, REMARKABLE, ODD = 0, 1, 2  # odd: the rule itself has to make the next step
EPS = 2.0**-52
SEEN, BARELY_SEEN = EPS**0.5, EPS**0.75
TINY, HUGE = 1e-30, 1e30  # between them a sum of squares has lost nothing
LEAST = 2.0**-1022
LONG = 64  # elements, from which on the order of a sum is that of several side by side


def _dot(a: Vector, b: Vector, n: int) -> float:
    """Return a·b, two products at a time; of long vectors eight sums side by side, which a processor adds at once."""
    total = 0.0
    done = 0
    if n >= LONG:
        t0 = 0.0
        t1 = 0.0
        t2 = 0.0
        t3 = 0.0
        t4 = 0.0
        t5 = 0.0
        t6 = 0.0
        t7 = 0.0
        for k in range(n // 8):
            t0 += a[8 * k] * b[8 * k]
            t1 += a[8 * k + 1] * b[8 * k + 1]
            t2 += a[8 * k + 2] * b[8 * k + 2]
            t3 += a[8 * k + 3] * b[8 * k + 3]
            t4 += a[8 * k + 4] * b[8 * k + 4]
            t5 += a[8 * k + 5] * b[8 * k + 5]
            t6 += a[8 * k + 6] * b[8 * k + 6]
            t7 += a[8 * k + 7] * b[8 * k + 7]
        total = ((t0 + t4) + (t2 + t6)) + ((t1 + t5) + (t3 + t7))
        done = n // 8 * 8
    for k in range(done // 2, n // 2):
        total += a[2 * k] * b[2 * k] + a[2 * k + 1] * b[2 * k + 1]
    if n % 2 == 1:
        total += a[n - 1] * b[n - 1]
    return total


def _copy(a: Vector, b: Vector, n: int) -> None:
    for i in range(n):
        b[i] = a[i]


def _all_finite(a: Vector, n: int) -> bool:
    for i in range(n):  # noqa: SIM110 - machine code has no generators
        if not math.isfinite(a[i]):
            return False
    return True


def _are_equal(a: Vector, b: Vector, n: int) -> bool:
    for i in range(n):  # noqa: SIM110
        if a[i] != b[i]:
            return False
    return True


def _largest(a: Vector, n: int) -> float:
    size = 0.0
    for i in range(n):
        if not abs(a[i]) <= size:
            size = abs(a[i])
    return size


def _distance2(a: Vector, b: Vector, n: int) -> float:
    total = 0.0
    for i in range(n):
        total += (a[i] - b[i]) * (a[i] - b[i])
    return total


def _quotient(a: float, b: float) -> float:
    """Return a / b; NaN if b is 0, where nothing depends on a sign."""
    if b == 0.0:
        return math.nan
    return a / b


# -- points along a direction -----------------------------------------------------------------------------------------


def _at(
    place: int, a: float, xs: Matrix, gs: Matrix, trials: Matrix, direction: Vector, best: Vector,
    numbers: Vector, counts: Integers,
) -> Generator[Asked, float, None]:  # fmt: skip
    """Evaluate f at the distance ``a``, as place ``place``; what is not finite counts as inf."""
    n = counts[N]
    for i in range(n):
        xs[place][i] = xs[0][i] + a * direction[i]
    counts[TRIED] += 1
    fun = math.nan
    if _all_finite(xs[place], n):
        fun = yield xs[place], gs[place]
    is_finite = math.isfinite(fun) and _all_finite(gs[place], n)
    if is_finite and fun < numbers[BEST]:
        numbers[BEST] = fun
        numbers[BEST_NORM] = _largest(gs[place], n)
        counts[BEST_T] = counts[T] + 1
        for i in range(n):
            best[i] = xs[place][i]
            best[n + i] = gs[place][i]
    trials[place][0] = a
    if is_finite:
        trials[place][1] = fun
        trials[place][2] = _dot(gs[place], direction, n)
    else:
        trials[place][1] = math.inf
        trials[place][2] = math.nan


def _begin(slope: float, trials: Matrix, numbers: Vector) -> None:
    trials[0][0] = 0.0
    trials[0][1] = numbers[FUN]
    trials[0][2] = slope


def _unit_of(size: float) -> float:
    """Return the power of two above ``size``, by which it is between 1/2 and 1; within 2^±1000."""
    unit = 1.0
    for _ in range(1000):
        if not unit <= size:
            break
        unit *= 2.0
    for _ in range(1000):
        if not 0.5 * unit > size:
            break
        unit *= 0.5
    return unit


def _cubic(p: Vector, q: Vector, low: float, high: float) -> float:
    """Return the minimum in [low, high] of the cubic with the values and slopes of two points."""
    left = p[0]
    right = q[0]
    f_left = p[1]
    f_right = q[1]
    s_left = p[2]
    s_right = q[2]
    if not p[0] <= q[0]:
        left = q[0]
        right = p[0]
        f_left = q[1]
        f_right = p[1]
        s_left = q[2]
        s_right = p[2]
    middle = (low + high) / 2.0
    d1 = s_left + s_right - 3.0 * _quotient(f_left - f_right, left - right)
    unit = _unit_of(max(max(abs(s_left), abs(s_right)), abs(d1)))
    square = (d1 / unit) * (d1 / unit) - (s_left / unit) * (s_right / unit)
    if not (math.isfinite(square) and square >= 0.0):
        return middle
    d2 = math.sqrt(square) * unit
    a = right - (right - left) * _quotient(s_right + d2 - d1, s_right - s_left + 2.0 * d2)
    if not math.isfinite(a):
        return middle
    return min(max(a, low), high)


def _third(a: int, b: int) -> int:
    """Return a place for a trial: one of 1, 2 and 3 that is neither."""
    if a != 1 and b != 1:
        return 1
    if a != 2 and b != 2:
        return 2
    return 3


def _too_high(place: int, trials: Matrix, numbers: Vector) -> bool:
    return not trials[place][1] <= trials[0][1] + numbers[C1] * (trials[place][0] * trials[0][2])


def _is_flat(place: int, trials: Matrix, numbers: Vector) -> bool:
    return abs(trials[place][2]) <= -numbers[C2] * trials[0][2]


def _is_hidden(a: float, trials: Matrix) -> bool:
    """Return whether f can't be seen to fall as near as this."""
    return not a * -trials[0][2] > EPS * abs(trials[0][1])


def _low_by_its_slope(place: int, trials: Matrix, numbers: Vector) -> bool:
    return (
        _is_flat(place, trials, numbers)
        and trials[place][2] <= (2.0 * numbers[C1] - 1.0) * trials[0][2]
        and _too_high(place, trials, numbers)
        and trials[place][1] <= trials[0][1]
    )


def _wolfe(
    first: float, xs: Matrix, gs: Matrix, trials: Matrix, direction: Vector, best: Vector, numbers: Vector,
    counts: Integers,
) -> Generator[Asked, float, int]:  # fmt: skip
    """Return the place of a point that meets the strong Wolfe conditions, or of the lowest one found; 0 if none is."""
    n = counts[N]
    previous = 0
    trial = 1
    yield from _at(trial, first, xs, gs, trials, direction, best, numbers, counts)
    tried = 0
    while True:
        if _low_by_its_slope(trial, trials, numbers):
            return trial
        high_up = _too_high(trial, trials, numbers)
        if tried == 25 or (high_up and _is_hidden(trials[trial][0], trials)):
            if trials[trial][1] < trials[0][1]:
                return trial
            return 0
        if high_up or (tried > 1 and trials[trial][1] >= trials[previous][1]):
            break
        if _is_flat(trial, trials, numbers):
            return trial
        if trials[trial][2] >= 0.0:
            break
        reach = trials[trial][0] - trials[previous][0]
        a = _cubic(trials[previous], trials[trial], trials[trial][0] + 0.01 * reach, 10.0 * trials[trial][0])
        previous = trial
        trial = _third(previous, 0)
        yield from _at(trial, a, xs, gs, trials, direction, best, numbers, counts)
        tried += 1
    low = trial
    high = previous
    if trials[previous][1] <= trials[trial][1]:
        low = previous
        high = trial
    slow = False
    while tried < 25:
        left = min(trials[low][0], trials[high][0])
        right = max(trials[low][0], trials[high][0])
        if _are_equal(xs[low], xs[high], n) or _is_hidden(right, trials):
            break
        a = _cubic(trials[low], trials[high], left, right)
        margin = 0.1 * (right - left)
        if min(right - a, a - left) < margin:
            if slow or a >= right or a <= left:
                if abs(a - right) < abs(a - left):
                    a = right - margin
                else:
                    a = left + margin
                slow = False
            else:
                slow = True
        else:
            slow = False
        trial = _third(low, high)
        yield from _at(trial, a, xs, gs, trials, direction, best, numbers, counts)
        tried += 1
        if _low_by_its_slope(trial, trials, numbers):
            return trial
        if _too_high(trial, trials, numbers) or trials[trial][1] >= trials[low][1]:
            high = trial
            if not trials[low][1] <= trials[high][1]:
                high = low
                low = trial
        else:
            if _is_flat(trial, trials, numbers):
                return trial
            if trials[trial][2] * (trials[high][0] - trials[low][0]) >= 0.0:
                high = low
            low = trial
    return low


def _armijo(
    first: float, ceiling: float, xs: Matrix, gs: Matrix, trials: Matrix, direction: Vector, best: Vector,
    numbers: Vector, counts: Integers,
) -> Generator[Asked, float, int]:  # fmt: skip
    """Return the place of the first of first, first / 2, first / 4, … at which f is low enough; 0 if none is."""
    a = first
    for _ in range(60):
        yield from _at(1, a, xs, gs, trials, direction, best, numbers, counts)
        if trials[1][1] <= ceiling + numbers[C1] * (a * trials[0][2]):
            return 1
        a /= 2.0
    return 0


def _arrived(
    place: int, xs: Matrix, gs: Matrix, trials: Matrix, numbers: Vector, counts: Integers
) -> Generator[Asked, float, int]:
    """Return the place of the point that the step leads to: if none was lower, the old one, evaluated again."""
    n = counts[N]
    if place > 0:
        return place
    counts[TRIED] += 1
    _copy(xs[0], xs[1], n)
    fun = yield xs[1], gs[1]
    trials[1][1] = fun
    return 1


# -- what follows a step ----------------------------------------------------------------------------------------------


def _is_remarkable(place: int, xs: Matrix, gs: Matrix, trials: Matrix, numbers: Vector, counts: Integers) -> bool:
    """Return whether a rule for stopping may hold at the point that the step has led to, or it is not finite."""
    n = counts[N]
    fun = trials[place][1]
    if not (numbers[TARGET] < fun <= numbers[F_LIMIT] and _all_finite(gs[place], n)):
        return True
    moved2 = _distance2(xs[place], xs[0], n)
    turned2 = _distance2(gs[place], gs[0], n)
    if not (TINY < moved2 < HUGE and TINY < turned2 < HUGE):  # Python scales them first
        return True
    if not (numbers[GTOL] < _largest(gs[place], n) and _dot(xs[place], xs[place], n) <= numbers[X2_LIMIT]):
        return True
    if abs(fun - numbers[FUN]) <= numbers[FTOL] * max(1.0, abs(fun)):
        return True
    limit = numbers[XTOL] * max(1.0, _largest(xs[place], n))
    return limit >= 0.0 and moved2 <= float(n) * limit * limit


def _take(
    place: int, xs: Matrix, gs: Matrix, trials: Matrix, before: Matrix, row_fun: Vector, row_norm: Vector,
    row_x: Vector, numbers: Vector, counts: Integers,
) -> None:  # fmt: skip
    """Go to the point that the step has led to, and write its row, to be overwritten unless it is due."""
    n = counts[N]
    numbers[FUN] = trials[place][1]
    numbers[NORM] = _largest(gs[place], n)
    counts[T] += 1
    _copy(xs[0], before[0], n)
    _copy(gs[0], before[1], n)
    _copy(xs[place], xs[0], n)
    _copy(gs[place], gs[0], n)
    row = counts[ROWS]
    row_fun[row] = numbers[FUN]
    row_norm[row] = numbers[NORM]
    for i in range(n):
        row_x[row * n + i] = xs[0][i]
    if (counts[T] & counts[MASK]) == 0:
        counts[ROWS] += 1


def _rate_of(rates: Vector, counts: Integers) -> float:
    """Return the rate of the update that follows."""
    return rates[(counts[T] - counts[T_BEGIN]) * counts[RATES]]


def _downhill(gs: Matrix, direction: Vector, n: int) -> None:
    for i in range(n):
        direction[i] = -gs[0][i]


def _taxicab(a: Vector, n: int) -> float:
    total = 0.0
    for i in range(n):
        total += abs(a[i])
    return total


# -- the rules, as in `koubai.descent.rules`: what they keep is changed when the step is over -------------------------


def gradient_descent(
    xs: Matrix, gs: Matrix, trials: Matrix, before: Matrix, direction: Vector, best: Vector, numbers: Vector,
    counts: Integers, rates: Vector, row_fun: Vector, row_norm: Vector, row_x: Vector, a: Vector,
) -> Generator[Asked, float, int]:  # fmt: skip
    n = counts[N]
    while counts[T] < counts[T_END]:
        _downhill(gs, direction, n)
        _begin(_dot(gs[0], direction, n), trials, numbers)
        first = _rate_of(rates, counts)
        if a[0] > 0.0:
            first = 2.0 * a[0]
        end = 0
        if counts[VARIANT] == 0:
            end = yield from _armijo(first, numbers[FUN], xs, gs, trials, direction, best, numbers, counts)
        else:
            end = yield from _wolfe(first, xs, gs, trials, direction, best, numbers, counts)
        place = yield from _arrived(end, xs, gs, trials, numbers, counts)
        a[0] = trials[end][0]
        if _is_remarkable(place, xs, gs, trials, numbers, counts):
            counts[END] = place
            return REMARKABLE
        _take(place, xs, gs, trials, before, row_fun, row_norm, row_x, numbers, counts)
    return REACHED


def barzilai_borwein(
    xs: Matrix, gs: Matrix, trials: Matrix, before: Matrix, direction: Vector, best: Vector, numbers: Vector,
    counts: Integers, rates: Vector, row_fun: Vector, row_norm: Vector, row_x: Vector, x_last: Vector, g_last: Vector,
    recent: Vector,
) -> Generator[Asked, float, int]:  # fmt: skip
    n = counts[N]
    room = counts[ROOM]
    while counts[T] < counts[T_END]:
        moved2 = 0.0
        turned2 = 0.0
        curvature = 0.0
        for i in range(n):
            moved = xs[0][i] - x_last[i]
            turned = gs[0][i] - g_last[i]
            moved2 += moved * moved
            turned2 += turned * turned
            curvature += moved * turned
        a = _rate_of(rates, counts)
        if counts[T] > 0 and curvature > 0.0 and math.isfinite(curvature):
            if counts[VARIANT] == 0:
                a = moved2 / curvature
            else:
                a = _quotient(curvature, turned2)
        a = min(max(a, numbers[LR_MIN]), numbers[LR_MAX])
        ceiling = numbers[FUN]
        for i in range(1, room):
            ceiling = max(ceiling, recent[i])
        _downhill(gs, direction, n)
        _begin(_dot(gs[0], direction, n), trials, numbers)
        end = yield from _armijo(a, ceiling, xs, gs, trials, direction, best, numbers, counts)
        place = yield from _arrived(end, xs, gs, trials, numbers, counts)
        for i in range(1, room):
            recent[i - 1] = recent[i]
        recent[room - 1] = numbers[FUN]
        _copy(xs[0], x_last, n)
        _copy(gs[0], g_last, n)
        if _is_remarkable(place, xs, gs, trials, numbers, counts):
            counts[END] = place
            return REMARKABLE
        _take(place, xs, gs, trials, before, row_fun, row_norm, row_x, numbers, counts)
    return REACHED


def conjugate_gradient(
    xs: Matrix, gs: Matrix, trials: Matrix, before: Matrix, q: Vector, best: Vector, numbers: Vector,
    counts: Integers, rates: Vector, row_fun: Vector, row_norm: Vector, row_x: Vector, g_last: Vector, square: Vector,
    direction: Vector, a: Vector,
) -> Generator[Asked, float, int]:  # fmt: skip
    """q: the direction of this step; the others are what the rule keeps."""
    n = counts[N]
    while counts[T] < counts[T_END]:
        square_next = _dot(gs[0], gs[0], n)
        b = 0.0
        if square[0] > 0.0 and a[0] > 0.0:
            part = square_next
            if counts[VARIANT] == 0:
                part = 0.0
                for i in range(n):
                    part += gs[0][i] * (gs[0][i] - g_last[i])
                part = max(part, 0.0)
            b = part / square[0]
        slope_last = _dot(g_last, direction, n)
        for i in range(n):
            q[i] = -gs[0][i] + b * direction[i]
        if b == 0.0 or not _dot(gs[0], q, n) < -1e-10 * math.sqrt(square_next * _dot(q, q, n)):
            _downhill(gs, q, n)
        slope = _dot(gs[0], q, n)
        first = _rate_of(rates, counts) / max(1.0, _taxicab(gs[0], n))
        if a[0] > 0.0 and slope < 0.0:
            first = min(max(a[0] * slope_last / slope, first * 1e-6), 1e6 * a[0])
        _begin(slope, trials, numbers)
        end = yield from _wolfe(first, xs, gs, trials, q, best, numbers, counts)
        place = yield from _arrived(end, xs, gs, trials, numbers, counts)
        _copy(gs[0], g_last, n)
        square[0] = square_next
        _copy(q, direction, n)
        a[0] = trials[end][0]
        if _is_remarkable(place, xs, gs, trials, numbers, counts):
            counts[END] = place
            return REMARKABLE
        _take(place, xs, gs, trials, before, row_fun, row_norm, row_x, numbers, counts)
    return REACHED


# -- L-BFGS. The pairs are in the rows of s and y as `koubai.descent.rules` says -------------------------------------


def _row_of(j: int, pairs: int, newest: int, room: int) -> int:
    """Return the row of pair ``j``, the oldest being 0."""
    return (newest + room - pairs + 1 + j) % room


def _products(rows: Matrix, newest: int, pairs: int, room: int, x: Vector, out: Vector, n: int) -> None:
    for j in range(pairs):
        out[j] = _dot(rows[_row_of(j, pairs, newest, room)], x, n)


def _add_combined(
    rows: Matrix, newest: int, pairs: int, room: int, parts: Vector, sign: float, out: Vector, n: int
) -> None:
    """Add the sum of the last rows, each times its part, to ``out``, or take it away."""
    for j in range(pairs):
        row = rows[_row_of(j, pairs, newest, room)]
        part = sign * parts[j]
        for i in range(n):
            out[i] += part * row[i]


def _next_pair(
    xs: Matrix, gs: Matrix, s: Matrix, y: Matrix, ends: Vector, inverse: Matrix, along: Vector, x_last: Vector,
    g_last: Vector, step: Vector, inverse_next: Matrix, along_next: Vector, column: Vector, ends_next: Vector,
    counts: Integers,
) -> None:  # fmt: skip
    """Keep the pair of the last step, if it says enough about the curvature."""
    n = counts[N]
    room = counts[ROOM]
    pairs = int(ends[0])
    newest = int(ends[1])
    kept = -1  # of the pairs, if there is a new one
    curvature = 0.0
    if counts[T] > 0:
        row = (newest + 1) % room
        is_step = True
        for i in range(n):
            if xs[0][i] != x_last[i] + step[i]:
                is_step = False
        for i in range(n):
            s[row][i] = step[i]
            if not is_step:
                s[row][i] = xs[0][i] - x_last[i]
            y[row][i] = gs[0][i] - g_last[i]
        curvature = _dot(s[row], y[row], n)
        change2 = _dot(y[row], y[row], n)
        scale = 1.0
        if counts[VARIANT] == 0:
            scale = math.sqrt(_dot(s[row], s[row], n) * change2)
        if math.isfinite(curvature) and curvature > 1e-10 * scale and change2 > 0.0:
            newest = row
            kept = min(pairs, room - 2)
    first = pairs
    if kept >= 0:
        first = pairs - kept
        pairs = kept + 1
    for i in range(room - 1):
        along_next[i] = 0.0
    _products(s, newest, pairs, room, gs[0], along_next, n)
    if kept >= 0:
        for i in range(room - 1):
            for j in range(room - 1):
                inverse_next[i][j] = 0.0
        for j in range(kept):
            column[j] = along_next[j] - along[first + j]
        for i in range(kept):
            for j in range(kept):
                inverse_next[i][j] = inverse[first + i][first + j]
            inverse_next[i][kept] = _dot(inverse_next[i], column, kept) / -curvature
        inverse_next[kept][kept] = 1.0 / curvature
    else:
        for i in range(room - 1):
            _copy(inverse[i], inverse_next[i], room - 1)
    ends_next[0] = float(pairs)
    ends_next[1] = float(newest)


def _quasi_newton(
    visible: float, gs: Matrix, s: Matrix, y: Matrix, ends: Vector, inverse: Matrix, along: Vector, u: Vector,
    parts: Vector, q: Vector, direction: Vector, counts: Integers,
) -> None:  # fmt: skip
    """Set the direction to -H g, as `koubai.descent.rules` does."""
    n = counts[N]
    room = counts[ROOM]
    pairs = int(ends[0])
    newest = int(ends[1])
    for i in range(pairs):
        u[i] = _dot(inverse[i], along, pairs)
    _copy(gs[0], q, n)
    _add_combined(y, newest, pairs, room, u, -1.0, q, n)
    scale = _quotient(1.0, inverse[pairs - 1][pairs - 1] * _dot(y[newest], y[newest], n))
    if visible > 0.0:
        scale = max(scale, visible / max(_dot(q, q, n), LEAST))
    _products(y, newest, pairs, room, q, direction, n)
    for i in range(pairs):
        u[i] = scale * direction[i] - _quotient(u[i], inverse[i][i])
    for i in range(pairs):
        total = 0.0
        for j in range(i + 1):
            total += inverse[j][i] * u[j]
        parts[i] = total
    for i in range(n):
        direction[i] = -scale * q[i]
    _add_combined(s, newest, pairs, room, parts, 1.0, direction, n)


def lbfgs(
    xs: Matrix, gs: Matrix, trials: Matrix, before: Matrix, direction: Vector, best: Vector, numbers: Vector,
    counts: Integers, rates: Vector, row_fun: Vector, row_norm: Vector, row_x: Vector, s: Matrix, y: Matrix,
    ends: Vector, inverse: Matrix, along: Vector, x_last: Vector, g_last: Vector, step: Vector, ends_next: Vector,
    inverse_next: Matrix, along_next: Vector, column: Vector, parts: Vector, q: Vector,
) -> Generator[Asked, float, int]:  # fmt: skip
    """L-BFGS with a Wolfe search. q has room for n numbers, direction and column for the larger of n and the pairs."""
    n = counts[N]
    while counts[T] < counts[T_END]:
        _next_pair(
            xs, gs, s, y, ends, inverse, along, x_last, g_last, step, inverse_next, along_next, column, ends_next,
            counts,
        )  # fmt: skip
        lr = _rate_of(rates, counts)
        is_fresh = ends_next[0] == 0.0
        if not is_fresh:
            _quasi_newton(0.0, gs, s, y, ends_next, inverse_next, along_next, column, parts, q, direction, counts)
        else:
            _downhill(gs, direction, n)
        slope = _dot(gs[0], direction, n)
        if not (math.isfinite(slope) and slope < 0.0):
            ends_next[0] = 0.0
            is_fresh = True
            _downhill(gs, direction, n)
        short = min(1.0, 1.0 / max(_taxicab(gs[0], n), 1e-300)) * lr
        size = abs(numbers[FUN])
        first = lr
        if is_fresh:
            first = short
        attempt = 0
        end = 0
        while True:
            slope = _dot(gs[0], direction, n)
            if slope < 0.0:
                if first == short and -first * slope <= EPS * size:
                    first = SEEN * size / -slope
                _begin(slope, trials, numbers)
                end = yield from _wolfe(first, xs, gs, trials, direction, best, numbers, counts)
            if end > 0 or is_fresh:
                break
            attempt += 1
            first = lr
            if attempt == 3:
                is_fresh = True
                ends_next[0] = 0.0
                first = short
                _downhill(gs, direction, n)
            else:
                visible = SEEN * size
                if attempt == 1:
                    visible = BARELY_SEEN * size
                _quasi_newton(
                    visible, gs, s, y, ends_next, inverse_next, along_next, column, parts, q, direction, counts
                )
        if end == 0:
            ends_next[0] = 0.0
            _begin(0.0, trials, numbers)
        place = yield from _arrived(end, xs, gs, trials, numbers, counts)
        for i in range(n):
            step[i] = trials[end][0] * direction[i]
        _copy(ends_next, ends, 2)
        _copy(along_next, along, counts[ROOM] - 1)
        for i in range(counts[ROOM] - 1):
            _copy(inverse_next[i], inverse[i], counts[ROOM] - 1)
        _copy(xs[0], x_last, n)
        _copy(gs[0], g_last, n)
        if _is_remarkable(place, xs, gs, trials, numbers, counts):
            counts[END] = place
            return REMARKABLE
        _take(place, xs, gs, trials, before, row_fun, row_norm, row_x, numbers, counts)
    return REACHED


# -- L-BFGS from many starts, one after the other. Several threads run this, each with its own starts and memory -------

# In ``task``: the first start and the last one, the most steps of each, the most evaluations, and whether gtol is a
# share of the gradient at the start, where that is below 1.
FIRST, LAST, MOST_STEPS, IS_SHARE = 0, 1, 2, 3
TASK = 4
RUNNING, CONVERGED, DIVERGED, NONFINITE, OUT_OF_STEPS, STALLED = 0, 1, 2, 3, 4, 7
GROWN = 1e10  # as in `koubai.descent.stopping`
LARGEST = 1.7e308


def _enter(fun: float, gtol: float, xs: Matrix, gs: Matrix, numbers: Vector, counts: Integers, task: Integers) -> int:
    """Begin a descent at xs[0]; return its state, as the codes above."""
    n = counts[N]
    counts[T] = 0
    counts[TRIED] = 1
    counts[MASK] = -1
    counts[RATES] = 0
    norm = _largest(gs[0], n)
    numbers[FUN] = fun
    numbers[NORM] = norm
    numbers[BEST] = fun
    numbers[TARGET] = -math.inf
    numbers[GTOL] = gtol
    if task[IS_SHARE] != 0 and norm < 1.0:
        numbers[GTOL] = gtol * norm
    numbers[FTOL] = -1.0
    numbers[XTOL] = -1.0
    numbers[F_LIMIT] = min(fun + GROWN * max(1.0, abs(fun)), LARGEST)
    numbers[X2_LIMIT] = min(GROWN * GROWN * max(1.0, _dot(xs[0], xs[0], n)), LARGEST)
    if not (math.isfinite(fun) and _all_finite(gs[0], n)):
        return NONFINITE
    if norm <= numbers[GTOL]:
        return CONVERGED
    return RUNNING


def _judge(place: int, stays: int, xs: Matrix, gs: Matrix, trials: Matrix, numbers: Vector, counts: Integers) -> int:
    """Return how the descent stands at the point that a step led to. stays: steps in a row that left x as it was."""
    n = counts[N]
    fun = trials[place][1]
    if not (math.isfinite(fun) and _all_finite(gs[place], n)):
        return NONFINITE
    if fun > numbers[F_LIMIT] or _dot(xs[place], xs[place], n) > numbers[X2_LIMIT]:
        return DIVERGED
    if stays >= 2:
        return STALLED
    return RUNNING


def lbfgs_many(
    xs: Matrix, gs: Matrix, trials: Matrix, before: Matrix, direction: Vector, best: Vector, numbers: Vector,
    counts: Integers, rates: Vector, row_fun: Vector, row_norm: Vector, row_x: Vector, s: Matrix, y: Matrix,
    ends: Vector, inverse: Matrix, along: Vector, x_last: Vector, g_last: Vector, step: Vector, ends_next: Vector,
    inverse_next: Matrix, along_next: Vector, column: Vector, parts: Vector, q: Vector, starts: Matrix, x: Matrix,
    fun: Vector, norm: Vector, steps: Integers, codes: Integers, tried: Integers, gtol: Vector, task: Integers,
) -> Generator[Asked, float, int]:  # fmt: skip
    """The steps of `lbfgs` from each start; a step that no rule for stopping may follow is not looked at."""
    n = counts[N]
    k = task[FIRST]
    while k < task[LAST]:
        _copy(starts[k], xs[0], n)
        first_fun = yield xs[0], gs[0]
        state = _enter(first_fun, gtol[0], xs, gs, numbers, counts, task)
        ends[0] = 0.0
        ends[1] = float(counts[ROOM] - 1)
        stays = 0
        while state == RUNNING:
            if counts[T] >= task[MOST_STEPS]:
                state = OUT_OF_STEPS
                break
            counts[T_BEGIN] = counts[T]
            counts[T_END] = task[MOST_STEPS]
            counts[ROWS] = 0
            why = yield from lbfgs(
                xs, gs, trials, before, direction, best, numbers, counts, rates, row_fun, row_norm, row_x, s, y, ends,
                inverse, along, x_last, g_last, step, ends_next, inverse_next, along_next, column, parts, q,
            )  # fmt: skip
            if why == REACHED:
                stays = 0
                continue
            place = counts[END]
            stays += 1
            if not _are_equal(xs[place], xs[0], n):
                stays = 0
            state = _judge(place, stays, xs, gs, trials, numbers, counts)
            if state != NONFINITE:
                counts[T] += 1
                numbers[FUN] = trials[place][1]
                numbers[NORM] = _largest(gs[place], n)
                _copy(xs[place], xs[0], n)
                _copy(gs[place], gs[0], n)
                if numbers[NORM] <= numbers[GTOL]:
                    state = CONVERGED
        _copy(xs[0], x[k], n)
        fun[k] = numbers[FUN]
        norm[k] = numbers[NORM]
        steps[k] = counts[T]
        codes[k] = state
        tried[k] = counts[TRIED]
        k += 1
    return REACHED


# -- the same within bounds -------------------------------------------------------------------------------------------


def _is_held(x: float, g: float, low: float, high: float) -> bool:
    """Return whether -g pushes a component out of its bounds."""
    return (x <= low and g > 0.0) or (x >= high and g < 0.0) or low == high


def _free_norm(x: Vector, g: Vector, low: Vector, high: Vector, n: int) -> float:
    """Return the largest component of the gradient that the bounds leave free."""
    size = 0.0
    for i in range(n):
        if not _is_held(x[i], g[i], low[i], high[i]) and not abs(g[i]) <= size:
            size = abs(g[i])
    return size


def _dot_free(a: Vector, b: Vector, free: Vector, n: int) -> float:
    total = 0.0
    for i in range(n):
        if free[i] != 0.0:
            total += a[i] * b[i]
    return total


def _take_pair(
    xs: Matrix, gs: Matrix, s: Matrix, y: Matrix, ends: Vector, x_last: Vector, g_last: Vector, counts: Integers
) -> None:
    """Keep the last step and what the gradient changed by, if they say enough about the curvature."""
    n = counts[N]
    room = counts[ROOM]
    row = (int(ends[1]) + 1) % room
    for i in range(n):
        s[row][i] = xs[0][i] - x_last[i]
        y[row][i] = gs[0][i] - g_last[i]
    curvature = _dot(s[row], y[row], n)
    scale = math.sqrt(_dot(s[row], s[row], n) * _dot(y[row], y[row], n))
    if math.isfinite(curvature) and curvature > 1e-10 * scale:
        ends[0] = float(min(int(ends[0]) + 1, room - 1))
        ends[1] = float(row)


def _set_direction(
    gs: Matrix, s: Matrix, y: Matrix, ends: Vector, free: Vector, parts: Vector, direction: Vector, counts: Integers
) -> bool:
    """Set the direction to -H g in the free components (two loops over the pairs); return whether a pair was of use."""
    n = counts[N]
    room = counts[ROOM]
    pairs = int(ends[0])
    newest = int(ends[1])
    for i in range(n):
        direction[i] = 0.0
        if free[i] != 0.0:
            direction[i] = -gs[0][i]
    scale = 0.0
    for back in range(pairs):
        row = (newest + room - back) % room
        curvature = _dot_free(s[row], y[row], free, n)
        size2 = _dot_free(y[row], y[row], free, n)
        parts[back] = math.nan
        if curvature > 1e-10 * math.sqrt(_dot_free(s[row], s[row], free, n) * size2) and size2 > 0.0:
            parts[back] = _dot_free(s[row], direction, free, n) / curvature
            for i in range(n):
                if free[i] != 0.0:
                    direction[i] -= parts[back] * y[row][i]
            if scale == 0.0:
                scale = curvature / size2
    if scale == 0.0:
        return False
    for i in range(n):
        direction[i] *= scale
    for ahead in range(pairs):
        back = pairs - 1 - ahead
        row = (newest + room - back) % room
        if math.isfinite(parts[back]):
            part = parts[back] - _dot_free(y[row], direction, free, n) / _dot_free(s[row], y[row], free, n)
            for i in range(n):
                if free[i] != 0.0:
                    direction[i] += part * s[row][i]
    return True


def _at_within(
    place: int, a: float, xs: Matrix, gs: Matrix, trials: Matrix, direction: Vector, low: Vector, high: Vector,
    counts: Integers,
) -> Generator[Asked, float, float]:  # fmt: skip
    """Evaluate f at the distance ``a`` along the path bent onto the bounds; return g·(the step itself)."""
    n = counts[N]
    gain = 0.0
    for i in range(n):
        xs[place][i] = min(max(xs[0][i] + a * direction[i], low[i]), high[i])
        gain += gs[0][i] * (xs[place][i] - xs[0][i])
    counts[TRIED] += 1
    fun = math.nan
    if math.isfinite(gain):
        fun = yield xs[place], gs[place]
    trials[place][0] = a
    trials[place][1] = math.inf
    trials[place][2] = 0.0
    if math.isfinite(fun) and _all_finite(gs[place], n):
        trials[place][1] = fun
        for i in range(n):
            if low[i] < xs[place][i] < high[i]:
                trials[place][2] += gs[place][i] * direction[i]
    return gain


def _search_within(
    first: float, xs: Matrix, gs: Matrix, trials: Matrix, direction: Vector, low: Vector, high: Vector,
    numbers: Vector, counts: Integers,
) -> Generator[Asked, float, int]:  # fmt: skip
    """Return the place of a point that is low enough; 0 if none is found. A path that still falls steeply is followed
    further: what is far away is not left unseen.
    """
    n = counts[N]
    a = first
    slope = _dot(gs[0], direction, n)
    found = 0
    for _ in range(25):
        gain = yield from _at_within(1, a, xs, gs, trials, direction, low, high, counts)
        if trials[1][1] <= numbers[FUN] + numbers[C1] * gain and gain < 0.0:
            found = 1
            break
        if not -a * slope > EPS * abs(numbers[FUN]):
            if trials[1][1] < numbers[FUN]:
                found = 1
            break
        shrunk = 0.1 * a
        bend = 2.0 * (trials[1][1] - numbers[FUN] - a * slope)
        if math.isfinite(bend) and bend > 0.0:
            shrunk = min(max(-slope * a * a / bend, 0.1 * a), 0.5 * a)
        a = shrunk
    if found == 0:
        return 0
    for _ in range(10):
        if not trials[found][2] < numbers[C2] * slope:
            break
        other = 3 - found
        a *= 4.0
        gain = yield from _at_within(other, a, xs, gs, trials, direction, low, high, counts)
        if not trials[other][1] < trials[found][1] or _are_equal(xs[other], xs[found], n):
            break
        found = other
    return found


def lbfgs_many_within(
    xs: Matrix, gs: Matrix, trials: Matrix, direction: Vector, numbers: Vector, counts: Integers, rates: Vector,
    s: Matrix, y: Matrix, ends: Vector, x_last: Vector, g_last: Vector, free: Vector, parts: Vector, starts: Matrix,
    x: Matrix, fun: Vector, norm: Vector, steps: Integers, codes: Integers, tried: Integers, gtol: Vector,
    task: Integers, low: Vector, high: Vector,
) -> Generator[Asked, float, int]:  # fmt: skip
    """L-BFGS within bounds, from each start: what a step brings to a bound is held there while -g pushes it outwards.

    The pairs are used in the free components alone (Kelley, "Iterative methods for optimization", 1999, chapter 5).
    """
    n = counts[N]
    k = task[FIRST]
    while k < task[LAST]:
        _copy(starts[k], xs[0], n)
        first_fun = yield xs[0], gs[0]
        state = _enter(first_fun, gtol[0], xs, gs, numbers, counts, task)
        ends[0] = 0.0
        ends[1] = float(counts[ROOM] - 1)
        stays = 0
        numbers[NORM] = _free_norm(xs[0], gs[0], low, high, n)
        if state == RUNNING and numbers[NORM] <= numbers[GTOL]:
            state = CONVERGED
        while state == RUNNING:
            if counts[T] >= task[MOST_STEPS]:
                state = OUT_OF_STEPS
                break
            for i in range(n):
                free[i] = 1.0
                if _is_held(xs[0][i], gs[0][i], low[i], high[i]):
                    free[i] = 0.0
            is_known = _set_direction(gs, s, y, ends, free, parts, direction, counts)
            slope = _dot(gs[0], direction, n)
            if not (math.isfinite(slope) and slope < 0.0):
                is_known = False
                ends[0] = 0.0
                for i in range(n):
                    direction[i] = -gs[0][i] * free[i]
            first = rates[0]
            if not is_known:
                first = rates[0] * min(1.0, 1.0 / max(_taxicab(direction, n), 1e-300))
            place = yield from _search_within(
                first, xs, gs, trials, direction, low, high, numbers, counts
            )  # fmt: skip
            counts[T] += 1
            if place == 0:
                ends[0] = 0.0
                stays += 1
                if stays == 2 or not is_known:
                    state = STALLED
                continue
            stays = 0
            _copy(xs[0], x_last, n)
            _copy(gs[0], g_last, n)
            _copy(xs[place], xs[0], n)
            _copy(gs[place], gs[0], n)
            numbers[FUN] = trials[place][1]
            numbers[NORM] = _free_norm(xs[0], gs[0], low, high, n)
            if numbers[FUN] > numbers[F_LIMIT] or _dot(xs[0], xs[0], n) > numbers[X2_LIMIT]:
                state = DIVERGED
            if state == RUNNING and numbers[NORM] <= numbers[GTOL]:
                state = CONVERGED
            _take_pair(xs, gs, s, y, ends, x_last, g_last, counts)
        _copy(xs[0], x[k], n)
        fun[k] = numbers[FUN]
        norm[k] = numbers[NORM]
        steps[k] = counts[T]
        codes[k] = state
        tried[k] = counts[TRIED]
        k += 1
    return REACHED


# -- least squares. A row of ``columns`` is a column of J; those of ``a`` are the same in units of d, later R's -------


def _dot_between(a: Vector, b: Vector, begin: int, end: int) -> float:
    """Return the sum of a[i] b[i] for begin ≤ i < end, four products at a time."""
    first = 0.0
    second = 0.0
    third = 0.0
    fourth = 0.0
    fours = (end - begin) // 4
    for k in range(fours):
        i = begin + 4 * k
        first += a[i] * b[i]
        second += a[i + 1] * b[i + 1]
        third += a[i + 2] * b[i + 2]
        fourth += a[i + 3] * b[i + 3]
    for i in range(begin + 4 * fours, end):
        first += a[i] * b[i]
    return (first + second) + (third + fourth)


def _weighed(
    columns: Matrix, r: Vector, g: Vector, scale: Vector, scale_next: Vector, d: Vector, a: Matrix, n: int, m: int
) -> bool:
    """Set a to the scaled columns, taken further; return whether 2 J'r is g, and nothing too large or too small."""
    for j in range(n):
        column = columns[j]
        product = 0.0
        size = 0.0
        for i in range(m):
            part = r[i] * column[i]
            product += part
            size += abs(part)
        if not abs(2.0 * product - g[j]) <= 2e-6 * size + 1e-300:
            return False
        length = math.sqrt(_dot_between(column, column, 0, m))
        scale_next[j] = max(scale[j], length)
        d[j] = 1.0
        if scale_next[j] > 0.0:
            d[j] = scale_next[j]
        is_small = length < 1e-150 or length < 1e-100 * d[j]
        if not length <= 1e150 or (is_small and _largest(column, m) > 0.0):
            return False
        for i in range(m):
            a[j][i] = column[i] / d[j]
    return True


def _reflect(a: Vector, v: Vector, factor: float, begin: int, end: int) -> None:
    share = factor * _dot_between(v, a, begin, end)
    for i in range(begin, end):
        a[i] -= share * v[i]


def _triangular(a: Matrix, r: Vector, n: int, m: int) -> None:
    """Turn columns and r by Householder's reflections, so that below the diagonal nothing counts any more."""
    for k in range(n):
        v = a[k]
        size = math.sqrt(_dot_between(v, v, k, m))
        if size == 0.0:
            continue
        if v[k] > 0.0:
            size = -size
        v[k] -= size
        factor = -1.0 / (size * v[k])
        for j in range(k + 1, n):
            _reflect(a[j], v, factor, k, m)
        _reflect(r, v, factor, k, m)
        v[k] = size


def _rows_of(a: Matrix, z: Matrix, n: int) -> None:
    """Set z to the rows of R."""
    for k in range(n):
        for j in range(k):
            z[k][j] = 0.0
        for j in range(k, n):
            z[k][j] = a[j][k]


def _turn(a: Vector, b: Vector, cosine: float, sine: float, n: int) -> None:
    for i in range(n):
        left = a[i]
        a[i] = cosine * left - sine * b[i]
        b[i] = sine * left + cosine * b[i]


def _orthogonal(z: Matrix, y: Vector, n: int) -> bool:
    """Turn the rows of z, and y with them, until any two are orthogonal (Hestenes); return whether that succeeded.

    Then they are R's singular values, each times its right vector, and y[k] is Q'r along the left one.
    """
    near = float(n) * EPS
    for _ in range(60):
        turned = False
        for p in range(n - 1):
            for q in range(p + 1, n):
                a = z[p]
                b = z[q]
                product = _dot_between(a, b, 0, n)
                a2 = _dot_between(a, a, 0, n)
                b2 = _dot_between(b, b, 0, n)
                if not abs(product) > near * (math.sqrt(a2) * math.sqrt(b2)):
                    continue
                ratio = (b2 - a2) / (2.0 * product)
                tangent = 1.0 / (abs(ratio) + math.sqrt(1.0 + ratio * ratio))
                if tangent == 0.0:
                    continue
                turned = True
                if ratio < 0.0:
                    tangent = -tangent
                cosine = 1.0 / math.sqrt(1.0 + tangent * tangent)
                _turn(a, b, cosine, cosine * tangent, n)
                left = y[p]
                y[p] = cosine * left - cosine * tangent * y[q]
                y[q] = cosine * tangent * left + cosine * y[q]
        if not turned:
            return True
    return False


def _ranked(z: Matrix, y: Vector, sizes: Vector, n: int, m: int) -> float:
    """Set the singular values, 0 if they are only rounding; return what |r + J s|² could fall by in all."""
    largest = 0.0
    for k in range(n):
        sizes[k] = math.sqrt(_dot_between(z[k], z[k], 0, n))
        largest = max(largest, sizes[k])
    ahead = 0.0
    for k in range(n):
        if sizes[k] > float(max(m, n)) * EPS * largest:
            ahead += y[k] * y[k]
        else:
            sizes[k] = 0.0
    return ahead


def _excess(c: float, y: Vector, sizes: Vector, radius: float, n: int, out: Vector) -> None:
    """Set out to how far the step damped by ``c`` leads beyond the radius, and the derivative of that by c."""
    square = 0.0
    falling = 0.0
    for k in range(n):
        if sizes[k] > 0.0:
            bottom = sizes[k] * sizes[k] + c
            ratio = sizes[k] * y[k] / bottom
            square += ratio * ratio
            falling += ratio * (ratio / bottom)
    length = math.sqrt(square)
    out[0] = length - radius
    out[1] = 0.0
    if length > 0.0:
        out[1] = -falling / length


def _damping(y: Vector, sizes: Vector, radius: float, n: int, out: Vector) -> float:
    """Return the c ≥ 0 for which the step is as long as the radius, to a tenth; 0 if it is shorter anyway."""
    _excess(0.0, y, sizes, radius, n, out)
    if out[0] <= 0.1 * radius:
        return 0.0
    square = 0.0
    for k in range(n):
        part = sizes[k] * y[k]
        square += part * part
    low = -_quotient(out[0], out[1])
    high = math.sqrt(square) / radius
    c = low
    for _ in range(30):
        if not low <= c <= high:
            c = max(1e-3 * high, math.sqrt(low * high))
        _excess(c, y, sizes, radius, n, out)
        if abs(out[0]) <= 0.1 * radius:
            break
        if out[0] > 0.0:
            low = max(low, c)
        else:
            high = min(high, c)
        c -= (out[0] + radius) / radius * _quotient(out[0], out[1])
    return c


def _set_step(
    z: Matrix, y: Vector, sizes: Vector, damping: float, d: Vector, direction: Vector, x: Vector, there: Vector, n: int
) -> None:
    """Set ``there`` to where the damped step leads, and ``direction`` to that step."""
    for i in range(n):
        total = 0.0
        for k in range(n):
            if sizes[k] > 0.0:
                total += z[k][i] * (y[k] / (sizes[k] * sizes[k] + damping))
        direction[i] = -total / d[i]
        there[i] = x[i] + direction[i]


def _foretell(a: Matrix, q: Vector, d: Vector, x: Vector, there: Vector, along: Vector, out: Vector, n: int) -> float:
    """Return how long the step is, each element times its d; set out to r·J s and |J s|²."""
    square = 0.0
    for i in range(n):
        along[i] = d[i] * (there[i] - x[i])
        square += along[i] * along[i]
    out[0] = 0.0
    out[1] = 0.0
    for k in range(n):
        total = 0.0
        for j in range(k, n):
            total += a[j][k] * along[j]
        out[0] += q[k] * total
        out[1] += total * total
    return math.sqrt(square)


def _size_of(x: Vector, d: Vector, n: int) -> float:
    square = 0.0
    for i in range(n):
        square += (d[i] * x[i]) * (d[i] * x[i])
    if square == 0.0:
        return 1.0
    return math.sqrt(square)


def levenberg_marquardt(
    xs: Matrix, gs: Matrix, trials: Matrix, before: Matrix, direction: Vector, best: Vector, numbers: Vector,
    counts: Integers, rates: Vector, row_fun: Vector, row_norm: Vector, row_x: Vector, radius: Vector, scale: Vector,
    promise: Vector, r: Vector, columns: Matrix, q: Vector, a: Matrix, z: Matrix, y: Vector, sizes: Vector, d: Vector,
    scale_next: Vector, along: Vector, out: Vector,
) -> Generator[Asked, float, int]:  # fmt: skip
    """q: r, turned as the columns in a are; it has room for m numbers."""
    n = counts[N]
    m = counts[M]
    while counts[T] < counts[T_END]:
        given = yield xs[0], r, columns
        if given < 0.0 or not _weighed(columns, r, gs[0], scale, scale_next, d, a, n, m):
            return ODD
        _copy(r, q, m)
        _triangular(a, q, n, m)
        _rows_of(a, z, n)
        _copy(q, y, n)
        if not _orthogonal(z, y, n):
            return ODD
        ahead = _ranked(z, y, sizes, n, m)
        reach = radius[0]
        is_fresh = reach == 0.0
        if is_fresh:
            reach = _rate_of(rates, counts) * _size_of(xs[0], d, n)
        end = 0
        while True:
            if not (reach > 0.0 and math.isfinite(reach)):
                return ODD
            damping = _damping(y, sizes, reach, n, out)
            _set_step(z, y, sizes, damping, d, direction, xs[0], xs[1], n)
            length = _foretell(a, q, d, xs[0], xs[1], along, out, n)
            slope = out[0]
            promised = -2.0 * slope - out[1]
            if _are_equal(xs[1], xs[0], n) or not promised > EPS / 16.0 * abs(numbers[FUN]):
                break
            if is_fresh:
                reach = min(reach, length)
                is_fresh = False
            yield from _at(1, 1.0, xs, gs, trials, direction, best, numbers, counts)
            fallen = numbers[FUN] - trials[1][1]
            if fallen < 0.25 * promised:
                shrink = 0.5
                if fallen < 0.0:
                    bottom = 2.0 * slope + fallen
                    shrink = 0.1
                    if math.isfinite(bottom) and bottom != 0.0:
                        shrink = slope / bottom
                    shrink = min(max(shrink, 0.1), 0.5)
                reach = shrink * min(reach, 10.0 * length)
            elif damping == 0.0 or fallen >= 0.75 * promised:
                reach = 2.0 * length
            if fallen >= 1e-4 * promised:
                end = 1
                break
        place = yield from _arrived(end, xs, gs, trials, numbers, counts)
        radius[0] = reach
        promise[0] = ahead
        _copy(scale_next, scale, n)
        is_little = ahead <= numbers[SHARE] * abs(trials[place][1]) + numbers[MORE]
        if is_little or _is_remarkable(place, xs, gs, trials, numbers, counts):
            counts[END] = place
            return REMARKABLE
        _take(place, xs, gs, trials, before, row_fun, row_norm, row_x, numbers, counts)
    return REACHED
