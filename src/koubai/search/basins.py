"""Basins: which minimum each start of a picture leads to, and in how many steps."""

from __future__ import annotations

import threading as _threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from koubai.descent.batch_searches import Searches
from koubai.descent.many import PIECE, Batch, Many, Results, read_threads, share_out
from koubai.descent.optimizers import Optimizer
from koubai.descent.record import Status
from koubai.errors import InputError
from koubai.execute import batched
from koubai.parameters import FloatArray, check_whole
from koubai.search.minima import FEW, FoundMinimum, as_found, group, middle, nearest, read_box, signatures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["DIVERGED", "NONFINITE", "UNFINISHED", "Basins", "basins"]

UNFINISHED, DIVERGED, NONFINITE = -1, -2, -3
COARSE = 2048  # starts, about, from which the minima are found before all others are only compared with them
REACH = 1e-2  # of the box: an end as near to a minimum is there, if none is nearer than three times that
SMALL = 1e-3  # of the median gradient at the coarse starts: a gradient that stays as small is one that has arrived
EQUAL = 1e-9  # of |f| over the window: minima whose f differs by less are in the order of x
GTOL = 1e-6
RESOLUTION = 400, 400
MOST_PIXELS = 2**26
_CODES = np.full(16, UNFINISHED, np.int32)  # what a start is that has not come to rest, by the number of its status
_CODES[Many.code_of(Status.diverged)], _CODES[Many.code_of(Status.nonfinite)] = DIVERGED, NONFINITE
LEFT = 200_000  # ends of no known minimum that are compared with each other; more are taken to the nearest of these


@dataclass(frozen=True, eq=False, repr=False)
class Basins:
    """The basins of attraction over a window.

    Attributes
    ----------
    f, optimizer : callable, Optimizer
        The function, and what descended on it.
    label : array of int, (height, width), or (width,) in one dimension
        The number in ``minima`` that the start leads to; -1 unfinished, -2 diverged, -3 not finite, f raising included.
        Row 0 is the lowest.
    steps : array of int32
        After how many steps the gradient stayed below 1e-3 of its median over the window; for rules with a search, how
        many steps were made.
    minima : list of FoundMinimum
        Where descents end, the lowest first, with their shares of the window.
    x : tuple of arrays
        The coordinates of the columns, and of the rows if there are two dimensions.
    axes, at : tuple of int, array or None
        The components that vary, and the point through which the slice goes.
    max_steps : int
        The most steps of each descent.
    raised : dict
        What f raised at some starts, by their number, row after row; -1 for points on the way.
    executor, executor_reason : str
        What ran the descents.
    """

    f: Callable[[Any], Any]
    optimizer: Optimizer
    label: np.ndarray[Any, np.dtype[np.int32]]
    steps: np.ndarray[Any, np.dtype[np.int32]]
    minima: list[FoundMinimum]
    x: tuple[FloatArray, ...]
    axes: tuple[int, ...]
    at: FloatArray | None
    max_steps: int
    raised: Mapping[int, str]
    executor: str
    executor_reason: str

    @property
    def shares(self) -> dict[str, float]:
        """The share of the window that is unfinished, diverged and not finite."""
        size = self.label.size
        names = {UNFINISHED: "unfinished", DIVERGED: "diverged", NONFINITE: "nonfinite"}
        return {name: float(np.count_nonzero(self.label == code)) / size for code, name in names.items()}

    def __repr__(self) -> str:
        shown = " × ".join(map(str, self.label.shape[::-1]))
        others = "".join(f", {share:.2%} {name}" for name, share in self.shares.items() if share)
        count = len(self.minima)
        return f"Basins({shown} starts, {count} place{'s' * (count != 1)} where descents end{others})"

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the map; in one dimension, a strip under the curve. See `koubai.plot.basins`."""
        from koubai.plot import basins

        return basins(self, ax=ax, **options)


def basins(
    f: Callable[[Any], Any],
    bounds: Any,
    *,
    optimizer: Optimizer | str,
    resolution: int | Sequence[int] = RESOLUTION,
    steps: int = 1000,
    gtol: float = GTOL,
    at: Any = None,
    axes: Sequence[int] = (0, 1),
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Basins:
    """Basins: the minimum that each start in a window leads to, and after how many steps.

        label[i, j] = the minimum near minimize(f, (x[j], y[i]), optimizer, max_steps=steps, gtol=gtol).x

    A start that has not come to rest after ``steps`` updates is unfinished: its gradient is neither ≤ gtol, nor has it
    stayed below 1e-3 of the median gradient over the window. Places where descents come to rest that are saddles are
    told by their signature. The window bounds the starts, not the descents.

    Parameters
    ----------
    f : callable
        As in `minimize`.
    bounds : sequence of (low, high)
        The window: two pairs, or one for a function of one variable; (low, high) alone if f takes a plain number.
    optimizer : Optimizer or str
        Such as kb.SGD(0.01) or "lbfgs".
    resolution : int or (width, height)
        Starts along each axis.
    steps : int
        The most updates of each descent.
    gtol : float
        A descent is over where its largest |gradient component| is as small.
    at : array_like, optional
        A point of n variables: the window is the slice through it along ``axes``. The descents move in all variables.
    axes : (int, int)
        The components of ``at`` that vary.
    threads : int, optional
        As in `minimize_many`; they change no bit.
    progress : callable, optional
        Called between pieces with the starts done and all of them; what it raises ends the computation.

    Returns
    -------
    Basins
        label, steps, minima and plot().

    Raises
    ------
    InputError
        The window is crossed, empty or infinite, or the resolution or steps are not positive.

    Examples
    --------
    >>> def himmelblau(x):
    ...     return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2
    >>> map = kb.basins(himmelblau, [(-5, 5), (-5, 5)], optimizer=kb.SGD(0.01), resolution=100)
    >>> map.label.shape, len(map.minima)
    ((100, 100), 4)
    >>> [round(m.share, 2) for m in map.minima]  # doctest: +SKIP
    [0.27, 0.26, 0.24, 0.23]
    """
    low, high, is_number = read_box(bounds)
    size = _read_resolution(resolution, len(low))
    steps = check_whole(steps, 1, "steps")
    if isinstance(gtol, bool) or not 0 < gtol < np.inf:
        raise InputError(f"gtol must be a finite number > 0, got {gtol!r}: it tells which starts have come to rest")
    around, varying = _read_slice(at, axes, len(low), is_number)
    lines = tuple(np.linspace(first, last, count) for first, last, count in zip(low, high, size, strict=True))
    return _Work(f, optimizer, low, high, lines, around, varying, is_number, steps, float(gtol)).run(
        read_threads(threads), progress, None if at is None else around
    )


def _read_resolution(resolution: Any, dimensions: int) -> tuple[int, ...]:
    given = (resolution,) * dimensions if np.ndim(resolution) == 0 else tuple(resolution)
    if given == RESOLUTION:
        given = given[:dimensions]
    whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) and n >= 2 for n in given)
    if not whole or len(given) != dimensions:
        raise InputError(f"resolution must be whole numbers ≥ 2, one for each axis, got {resolution!r}")
    if np.prod([float(n) for n in given]) > MOST_PIXELS:
        raise InputError(f"resolution {resolution!r} has more than {MOST_PIXELS} starts; take fewer")
    return tuple(int(n) for n in given)


def _read_slice(at: Any, axes: Sequence[int], dimensions: int, is_number: bool) -> tuple[FloatArray, tuple[int, ...]]:
    """Return a point of all variables, and the components that vary."""
    if dimensions > 2:
        raise InputError(
            f"a map has two axes, but bounds are given for {dimensions} variables: give two pairs, at= the point "
            "through which the slice goes, and axes="
        )
    if at is None:
        return np.zeros(dimensions), tuple(range(dimensions))
    point = np.array(at, np.float64)
    chosen: tuple[Any, ...] = tuple(axes)[:dimensions] if dimensions > 1 or np.ndim(axes) else (axes,)
    if point.ndim != 1 or not np.isfinite(point).all() or is_number:
        raise InputError(f"at must be a vector of finite numbers, got {at!r}")
    is_known = all(isinstance(i, int | np.integer) and 0 <= i < len(point) for i in chosen)
    if not is_known or len(set(chosen)) != dimensions:
        raise InputError(f"axes must be {dimensions} different components of at, 0 … {len(point) - 1}, got {axes!r}")
    return point, tuple(int(i) for i in chosen)


class _Work:
    def __init__(
        self, f: Callable[[Any], Any], optimizer: Optimizer | str, low: FloatArray, high: FloatArray,
        lines: tuple[FloatArray, ...], around: FloatArray, varying: tuple[int, ...], is_number: bool, steps: int,
        gtol: float,
    ) -> None:  # fmt: skip
        self.f, self.lines, self.around, self.varying, self.steps, self.gtol = f, lines, around, varying, steps, gtol
        self.shape = () if is_number else around.shape
        self.size = tuple(len(line) for line in reversed(lines))
        self.count = int(np.prod(self.size))
        # distances are measured in the window's, along other axes in the mean of its sides
        self.low, self.high = np.full(len(around), 0.0), np.full(len(around), float((high - low).mean()))
        self.low[list(varying)], self.high[list(varying)] = low, high
        coarse = self.coarse()
        self.batch = Batch(f, optimizer, self.starts(coarse).reshape(-1, *self.shape), None, steps, gtol, near=0.0)
        if self.batch.is_search or self.batch.code is None:
            self.batch.near = None
        self.lock = _threading.Lock()

    def coarse(self) -> Any:
        """Return the numbers of starts all over the window."""
        stride = max(1, int((self.count / COARSE) ** (1 / len(self.size))))
        rows = np.arange(self.count).reshape(self.size)
        return rows[tuple(slice(stride // 2, None, stride) for _ in self.size)].ravel()

    def starts(self, rows: Any) -> FloatArray:
        """Return the starts of these numbers, one in each row."""
        points = np.tile(self.around, (len(rows), 1))
        points[:, self.varying[0]] = self.lines[0][rows % len(self.lines[0])]
        if len(self.lines) == 2:
            points[:, self.varying[1]] = self.lines[1][rows // len(self.lines[0])]
        return points

    def write(self, points: FloatArray, first: int, last: int) -> None:
        """Write the starts from number ``first`` on over the rows of ``points``, in what varies."""
        if len(self.lines) == 1:
            points[: last - first, self.varying[0]] = self.lines[0][first:last]
            return
        (x, y), width = self.lines, len(self.lines[0])
        for row in range(first // width, (last - 1) // width + 1):
            begin, end = max(first, row * width), min(last, (row + 1) * width)
            part = points[begin - first : end - first]
            part[:, self.varying[0]] = x[begin - row * width : end - row * width]
            part[:, self.varying[1]] = y[row]

    def values(self, x: FloatArray) -> FloatArray:
        return self.batch.values(x.reshape(-1, *self.shape))

    def descend(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        ends = self.batch.run(x.reshape(-1, *self.shape), threads=self.threads)
        return ends.x.reshape(len(x), -1), ends.fun

    def run(self, threads: int, progress: Callable[[int, int], None] | None, at: FloatArray | None) -> Basins:
        self.threads = threads
        if self.batch.code is None:
            ends = self.batch.run(self.starts(np.arange(self.count)).reshape(-1, *self.shape), None, threads, progress)
            raised: Mapping[int, str] = ends.raised
            label, steps = _CODES[ends.codes], ends.steps
            where, x, fun = self._arrivals(ends)
            grouped = group(x, fun, self.low, self.high, self.values, self.descend)
            label[where] = grouped.labels
            minima_x, minima_fun = x[grouped.lowest], fun[grouped.lowest]
        else:
            coarse = self.starts(self.coarse()).reshape(-1, *self.shape)
            if self.batch.near is not None:
                self.batch.near = self._small(coarse)
            ends = self.batch.run(coarse, threads=threads)
            _, x, fun = self._arrivals(ends)
            grouped = group(x, fun, self.low, self.high, self.values, self.descend)
            label, steps, minima_x, minima_fun, raised = self._all(x[grouped.lowest], fun[grouped.lowest], progress)
        return self._told(label, steps, minima_x, minima_fun, raised, ends, at)

    def _small(self, points: FloatArray) -> float:
        """Return the gradient that counts as small."""
        given, self.batch.max_steps = self.batch.max_steps, 0
        norms = self.batch.run(points, threads=1).grad_norm
        self.batch.max_steps = given
        return max(self.gtol, SMALL * middle(norms))

    def _arrivals(self, ends: Many) -> tuple[Any, FloatArray, FloatArray]:
        """Return which starts have come to rest, where, and f there."""
        rows = np.flatnonzero(self._places(ends.codes, ends.nfev, ends.fun) >= batched.ELSEWHERE)
        return rows, ends.x.reshape(len(ends), -1)[rows], ends.fun[rows]

    def _places(self, codes: Any, nfev: Any, fun: FloatArray) -> Any:
        """Return where each descent came to rest: what machine code noted, or else that it did."""
        if self.batch.near is not None:
            return nfev
        rests = (codes == Many.code_of(Status.converged)) | (codes == Many.code_of(Status.stalled))
        return np.where(rests & np.isfinite(fun), batched.ELSEWHERE, batched.AWAY)

    def _all(
        self, minima: FloatArray, heights: FloatArray, progress: Callable[[int, int], None] | None
    ) -> tuple[Any, Any, FloatArray, FloatArray, dict[int, str]]:
        """Descend from all starts, piece by piece, in memory that stays in the cache."""
        label = np.empty(self.count, np.int32)
        steps = np.empty(self.count, np.int32)
        left: list[tuple[Any, FloatArray, FloatArray]] = []
        raised: dict[int, str] = {}
        reach = _reaches(minima, self.low, self.high)
        told = self.batch.near is not None and len(minima) <= FEW
        if told:
            self.batch.known = batched.BatchedDescents.known(minima, reach, self.high - self.low)

        def worker() -> Callable[[int, int], None]:
            flat = np.tile(self.around, (PIECE, 1))
            result = Results(flat, self.shape, self.batch.is_search)
            descend = self.batch.worker(flat, result)

            def do(first: int, last: int) -> None:
                count = last - first
                self.write(flat, first, last)
                descend(0, count)
                part = result.first(count)
                if not self.batch.is_search and part.codes.max() >= batched.NONFINITE:
                    with self.lock:
                        self.batch.finish(part, flat[:count])
                        raised.update({first + row: text for row, text in part.raised.items()})
                        part.raised.clear()
                elif isinstance(self.batch.code, Searches):
                    found = self.batch.code.raised_from(flat[:count], part.codes, part.steps)
                    with self.lock:
                        raised.update({first + row: text for row, text in found.items()})
                steps[first:last] = part.steps
                places = self._places(part.codes, part.nfev, part.fun)
                own = label[first:last]
                np.take(_CODES, part.codes, out=own)
                np.copyto(own, places, where=places >= 0, casting="same_kind")
                rows = np.flatnonzero(places == batched.ELSEWHERE)
                if rows.size and len(minima) and not told:
                    number, distance = nearest(part.x[rows], minima, self.low, self.high)
                    known = distance <= reach[number]
                    own[rows[known]] = number[known]
                    rows = rows[~known]
                if rows.size:
                    left.append((first + rows, part.x[rows], part.fun[rows]))

            return do

        share_out(self.count, self.threads, worker, progress)
        if left:
            rows, x, fun = (np.concatenate(parts) for parts in zip(*left, strict=True))
            minima, heights = self._take(label, rows, x, fun, minima, heights)
        if isinstance(self.batch.code, Searches):
            on_the_way = self.batch.code.raised_on_the_way(raised)
            if on_the_way is not None:
                raised[-1] = on_the_way
        return label, steps, minima, heights, raised

    def _take(
        self, label: Any, rows: Any, x: FloatArray, fun: FloatArray, minima: FloatArray, heights: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Give the ends that are near no known minimum their labels; return all minima."""
        order = np.argsort(rows)  # whichever thread was first
        rows, x, fun = rows[order], x[order], fun[order]
        some = np.linspace(0, len(x) - 1, min(len(x), LEFT)).astype(np.intp)
        known = len(minima)
        every_x, every_fun = np.concatenate([minima, x[some]]), np.concatenate([heights, fun[some]])
        grouped = group(every_x, every_fun, self.low, self.high, self.values, self.descend)
        found = label >= 0
        label[found] = grouped.labels[:known][label[found]]
        if len(some) == len(x):
            label[rows] = grouped.labels[known:]
        else:
            label[rows] = grouped.labels[known:][nearest(x, x[some], self.low, self.high)[0]]
        return every_x[grouped.lowest], every_fun[grouped.lowest]

    def _order(self, x: FloatArray, fun: FloatArray) -> Any:
        """Return the order of the minima by f, and by x where f is the same but for the last steps of the descents."""
        scale = EQUAL * middle(np.abs(self.values(self.starts(self.coarse()[:: COARSE // 32]))))
        heights = np.rint(fun / scale) if scale else fun
        return np.lexsort((*x.T[::-1], heights))

    def _told(
        self, label: Any, steps: Any, x: FloatArray, fun: FloatArray, raised: Mapping[int, str], ends: Many,
        at: FloatArray | None,
    ) -> Basins:  # fmt: skip
        by_f = self._order(x, fun)
        if (by_f[:-1] > by_f[1:]).any():
            place = np.empty_like(by_f)
            place[by_f] = np.arange(len(by_f))
            found = label >= 0
            label[found] = place[label[found]]
            x, fun = x[by_f], fun[by_f]
        counts = np.bincount(label - NONFINITE, minlength=len(x) - NONFINITE)[-NONFINITE:]
        kinds = signatures(x, fun, self.low, self.high, self.values, self.descend, False) if len(x) else []
        minima = as_found(x, fun, counts.tolist(), self.count, kinds, self.shape)
        return Basins(
            self.f, self.batch.optimizer, label.reshape(self.size), np.asarray(steps).reshape(self.size), minima,
            self.lines, self.varying, at, self.steps, raised, ends.executor, ends.executor_reason,
        )  # fmt: skip


def _reaches(minima: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """Return how far from each minimum an end may be to belong to it."""
    reach = np.full(len(minima), REACH)
    if 1 < len(minima) <= 1000:
        apart = np.abs((minima[:, None] - minima[None]) / (high - low)).max(axis=2)
        np.fill_diagonal(apart, np.inf)
        reach = np.minimum(reach, apart.min(axis=1) / 3)
    elif len(minima) > 1000:
        reach[:] = 0.0  # told by comparing the ends with each other
    return reach
