"""Descents from many starts over a box: which minima there are, how often each is reached, and what may be left."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from koubai.descent.default import AUTO
from koubai.descent.many import Batch, Many, read_starts, read_threads
from koubai.descent.optimizers import LBFGS, Optimizer, resolve
from koubai.descent.record import Status
from koubai.errors import InputError
from koubai.parameters import FloatArray, check_whole
from koubai.search.minima import (
    Descend,
    FoundMinimum,
    Values,
    as_found,
    chance_of_lower,
    group,
    nearest,
    read_box,
    signatures,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MultiStart", "multistart"]

SAMPLINGS = ("sobol", "latin_hypercube")
WALKERS = 32  # of the lowest minima, from which hops go on
RADII = 1e-3, 0.5  # of the box: the least and the largest distance of a hop
CROSSED = 0.25  # the share of hops that take components of another of the lowest minima
LATE = 1e-4  # of the box: as near to a minimum a descent that was not over counts as there
GTOL = 1e-6  # of the rules that have no search


@dataclass(frozen=True, eq=False, repr=False)
class MultiStart:
    """What descents from many starts found.

    Attributes
    ----------
    f : callable
        The function.
    bounds : tuple of (low, high)
        The box.
    minima : list of FoundMinimum
        Where descents ended, the lowest first: x, fun, share of the starts, signature, count.
    best : FoundMinimum
        The lowest end of all, even if its descent had not converged.
    chance_of_lower : float
        The chance that a minimum lower than all found remains unseen; 1 if there were too few starts to tell. It is
        (w + 1) / (N - 1) for N starts with w different ends, after Boender and Rinnooy Kan (1987), and knows nothing of
        hops.
    ends : Many
        The end of each start.
    status : dict
        How many starts ended how, by `Status`.
    raised : dict
        What f raised, by the number of the start, -1 for points on the way.
    nfev : int
        Evaluations of f with its gradient, hops included.
    hops : int
        Rounds of hops that were made.
    """

    f: Callable[[Any], Any]
    bounds: tuple[tuple[float, float], ...]
    minima: list[FoundMinimum]
    best: FoundMinimum
    chance_of_lower: float
    ends: Many
    status: Mapping[Status, int]
    raised: Mapping[int, str]
    nfev: int
    hops: int

    def __repr__(self) -> str:
        return f"MultiStart({self.summary})"

    @property
    def summary(self) -> str:
        """One sentence."""
        count = len(self.minima)
        text = f"{count} place{'s' * (count != 1)} reached from {len(self.ends)} starts; best f = {self.best.fun:.6g}"
        others = [f"{n} {status.name}" for status, n in self.status.items() if status is not Status.converged]
        text += f"; {', '.join(others)}" if others else ""
        text += f"; f raised at {len(self.raised)} of them" if set(self.raised) - {-1} else ""
        return f"{text}; chance of a lower one {self.chance_of_lower:.2g}"

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the shares of the starts that ended in each minimum; see `koubai.plot.shares`."""
        from koubai.plot import shares

        return shares(self, ax=ax)


def multistart(
    f: Callable[[Any], Any],
    bounds: Any,
    *,
    starts: Any = 1000,
    optimizer: Optimizer | str = "auto",
    hops: int = 0,
    sampling: str = "sobol",
    max_steps: int = 1000,
    gtol: float | None = None,
    seed: int = 0,
    executor: Executor | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> MultiStart:
    """Multistart: descend from starts all over a box, and tell the minima apart in which the descents end.

        x[i] = minimize(f, start[i], bounds=bounds).x     for each start i,   then ends of one valley are one minimum

    Two ends are of one valley if they are near each other and f is nowhere between them higher than at both. Where f
    has too many minima for plain starts, hops go on from the lowest ones: each takes some components of x elsewhere,
    descends, and stays there if f is lower (monotonic basin hopping, many side by side).

    Parameters
    ----------
    f : callable
        As in `minimize`: an array in, a number out; a plain number in, if bounds is one pair.
    bounds : sequence of (low, high)
        The finite box, a pair for each variable; the descents stay in it.
    starts : int or array_like
        How many starts, or the starts themselves, one in each row.
    optimizer : Optimizer or str
        "auto" is L-BFGS.
    hops : int
        Rounds of hops from the 32 lowest minima.
    sampling : str
        How starts are spread: "sobol" (scrambled Sobol points) or "latin_hypercube".
    max_steps : int
        The most updates of each descent.
    gtol : float, optional
        As in `minimize_many`; for rules without a search, None is 1e-6.
    seed : int
        Of the starts and hops: the same seed gives the same result, to the bit.
    executor : concurrent.futures.Executor, optional
        Where functions that can't be traced are minimized, start by start.
    threads : int, optional
        As in `minimize_many`.
    progress : callable, optional
        Called between pieces with the descents done and all of them; what it raises ends the search.

    Returns
    -------
    MultiStart
        minima, best, chance_of_lower, the end of each start, counts by status. A start at which f raises is counted
        under ``raised`` and as nonfinite; only if no descent leads to a finite f, that is an error.

    Raises
    ------
    InputError
        The box is crossed, empty or infinite, there are no starts, or they lie outside.

    Examples
    --------
    >>> def himmelblau(x):
    ...     return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2
    >>> found = kb.multistart(himmelblau, [(-5, 5), (-5, 5)], starts=256)
    >>> len(found.minima), [m.signature for m in found.minima]
    (4, ['minimum', 'minimum', 'minimum', 'minimum'])
    >>> found.best.fun < 1e-9
    True

    References
    ----------
    Boender & Rinnooy Kan, "Bayesian stopping rules for multistart global optimization methods", Math. Programming 1987.
    Wales & Doye, "Global optimization by basin-hopping", J. Phys. Chem. A 1997; Leary, "Global optimization on
    funneling landscapes", J. Global Optim. 2000 (monotonic hops).
    """
    low, high, is_number = read_box(bounds)
    threads = read_threads(threads)
    random = np.random.default_rng(check_whole(seed, 0, "seed"))
    hops = check_whole(hops, 0, "hops")
    points = _spread(starts, low, high, sampling, random)
    chosen = LBFGS() if isinstance(optimizer, str) and optimizer.lower() == AUTO else resolve(optimizer)
    if gtol is None and "evaluate" not in chosen.rule.uses:
        gtol = GTOL
    box: Any = (low[0], high[0]) if is_number else np.stack([low, high], 1)
    rows_of_f = points[:, 0] if is_number else points
    batch = Batch(f, chosen, rows_of_f, box, check_whole(max_steps, 0, "max_steps"), gtol, executor)
    shape = () if is_number else low.shape

    def values(x: FloatArray) -> FloatArray:
        return batch.values(np.clip(x, low, high).reshape(-1, *shape), threads)

    def descend(x: FloatArray) -> tuple[FloatArray, FloatArray]:
        ends = batch.run(np.clip(x, low, high).reshape(-1, *shape), threads=threads)
        return ends.x.reshape(len(x), -1), ends.fun

    ends = batch.run(points.reshape(-1, *shape), threads=threads, progress=progress)
    x, fun = ends.x.reshape(len(points), -1), ends.fun
    status = Counter(ends.status)
    is_end = np.isin(ends.codes, [Many.code_of(Status.converged), Many.code_of(Status.stalled)]) & np.isfinite(fun)
    if not np.isfinite(fun).any():
        first = next(iter(ends.raised.values()), f"f is not finite at any of the {len(points)} starts")
        raise InputError(f"no descent led to a finite f; the first start: {first}")
    rows = np.flatnonzero(is_end)
    grouped = group(x[rows], fun[rows], low, high, values, descend)
    lowest = rows[grouped.lowest]
    counts = np.bincount(grouped.labels, minlength=len(lowest))
    if len(lowest):  # descents that were not over, but had come as near as others that were
        late = np.flatnonzero((ends.status == Status.max_steps) & np.isfinite(fun))
        label, distance = nearest(x[late], x[lowest], low, high)
        np.add.at(counts, label[distance <= LATE], 1)
    chance = chance_of_lower(int(counts.sum()), len(lowest))
    found_x, found_fun, nfev = x[lowest], fun[lowest], int(ends.nfev.sum())
    if hops and len(lowest):
        found_x, found_fun, counts, more = _hop(
            batch, found_x, found_fun, counts, low, high, hops, random, values, descend, threads, shape, progress
        )
        nfev += more
    kinds = signatures(found_x, found_fun, low, high, values, descend, True) if len(found_x) else []
    minima = as_found(found_x, found_fun, counts.tolist(), len(points), kinds, shape)
    i = int(np.nanargmin(fun))
    if minima and minima[0].fun <= fun[i]:
        best = minima[0]
    else:
        kind = f"unfinished: {ends.status[i].name}"
        (best,) = as_found(x[i : i + 1], fun[i : i + 1], [1], len(points), [kind], shape)
    pairs = tuple(zip(low.tolist(), high.tolist(), strict=True))
    return MultiStart(f, pairs, minima, best, chance, ends, dict(status), ends.raised, nfev, hops)


def _spread(starts: Any, low: FloatArray, high: FloatArray, sampling: str, random: np.random.Generator) -> FloatArray:
    """Return the starts, one in each row."""
    if not np.isscalar(starts):
        points = read_starts(starts)
        points = points.reshape(len(points), -1).astype(np.float64)
        if points.shape[1] != len(low):
            raise InputError(f"starts have {points.shape[1]} components, but bounds are given for {len(low)}")
        outside = np.flatnonzero(((points < low) | (points > high)).any(axis=1))
        if outside.size:
            raise InputError(f"start {outside[0]} lies outside its bounds: {points[outside[0]]}; move it or the bounds")
        return points
    count = check_whole(starts, 1, "starts")
    if sampling not in SAMPLINGS:
        raise InputError(f"sampling must be one of {', '.join(map(repr, SAMPLINGS))}, got {sampling!r}")
    from scipy.stats import qmc

    n = len(low)
    if sampling == "sobol":
        sampler: Any = qmc.Sobol(n, rng=random)
        unit = sampler.random_base2(max(0, (count - 1).bit_length()))[:count]
    else:
        unit = qmc.LatinHypercube(n, rng=random).random(count)
    points = np.clip(low + unit * (high - low), low, high)
    return np.ascontiguousarray(points)


def _hop(
    batch: Batch, x: FloatArray, fun: FloatArray, counts: Any, low: FloatArray, high: FloatArray, rounds: int,
    random: np.random.Generator, values: Values, descend: Descend, threads: int, shape: tuple[int, ...],
    progress: Callable[[int, int], None] | None,
) -> tuple[FloatArray, FloatArray, Any, int]:  # fmt: skip
    """Hop on from the lowest minima; return all minima, how many starts led to each, and the evaluations made."""
    n, width, nfev = x.shape[1], high - low, 0
    # of few minima each has several walkers
    walkers, heights = np.resize(x[:WALKERS], (WALKERS, n)), np.resize(fun[:WALKERS], WALKERS)
    for done in range(rounds):
        if progress is not None:
            progress(done, rounds)
        # how many components move: one as often as all, and any number between
        moved = random.random((WALKERS, n)) < random.uniform(0.0, 1.0, (WALKERS, 1)) ** 2
        moved[np.arange(WALKERS), random.integers(n, size=WALKERS)] = True
        radius = np.exp(random.uniform(math.log(RADII[0]), math.log(RADII[1]), (WALKERS, 1)))
        there = walkers + random.uniform(-1.0, 1.0, (WALKERS, n)) * radius * width
        there = np.where(there < low, 2 * low - there, there)
        there = np.where(there > high, 2 * high - there, there)
        other = walkers[random.integers(WALKERS, size=WALKERS)]
        there = np.where(random.random((WALKERS, 1)) < CROSSED, other, there)
        there = np.clip(np.where(moved, there, walkers), low, high)
        ends = batch.run(there.reshape(-1, *shape), threads=1 if WALKERS * n < 1024 else threads)
        nfev += int(ends.nfev.sum())
        lower = np.isfinite(ends.fun) & (ends.fun < heights) & (ends.status != Status.max_steps)
        walkers[lower], heights[lower] = ends.x.reshape(WALKERS, -1)[lower], ends.fun[lower]
    every_x, every_fun = np.concatenate([x, walkers]), np.concatenate([fun, heights])
    grouped = group(every_x, every_fun, low, high, values, descend)
    total = np.zeros(len(grouped.lowest), np.int64)
    np.add.at(total, grouped.labels[: len(x)], counts)
    return every_x[grouped.lowest], every_fun[grouped.lowest], total, nfev
