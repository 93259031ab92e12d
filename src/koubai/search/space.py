"""The space of a sweep: which values its hyperparameters take, and so what the hyperparameters of each trial are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from koubai.errors import InputError
from koubai.parameters import check_whole, plain
from koubai.search.trial import describe

__all__ = ["Range", "Space"]

LARGEST_GRID = 1_000_000


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, evenly spread, or with log their logarithms; integer: whole ones, with both ends."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    @classmethod
    def of(cls, name: str, given: Mapping[str, Any]) -> Range:
        form = "dict(low=…, high=…), with log=True or integer=True if wanted"
        if not {"low", "high"} <= set(given) <= {"low", "high", "log", "integer"}:
            raise InputError(f"space[{name!r}] must be a list of values or {form}; got {dict(given)!r}")
        low: Any = given["low"]
        high: Any = given["high"]
        log, integer = given.get("log", False), given.get("integer", False)
        for end, value in (("low", low), ("high", high)):
            if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
                raise InputError(f"space[{name!r}]: {end} must be a finite number, got {value!r}")
            if integer and value != math.floor(value):
                raise InputError(f"space[{name!r}]: with integer=True {end} must be a whole number, got {value!r}")
        if not isinstance(log, bool) or not isinstance(integer, bool):
            raise InputError(f"space[{name!r}]: log and integer must be True or False, got {dict(given)!r}")
        if not low < high:
            raise InputError(f"space[{name!r}]: low must be below high, got {low!r} and {high!r}")
        if log and low <= 0:
            raise InputError(f"space[{name!r}]: with log=True low must be above 0, got {low!r}")
        kind = int if integer else float
        return cls(kind(low), kind(high), log, integer)

    def draw(self, rng: np.random.Generator) -> float:
        share = rng.random()
        if not self.integer:
            return self._at(share, self.low, self.high)
        if not self.log:
            return int(rng.integers(int(self.low), int(self.high) + 1))
        value = self._at(share, self.low - 0.5, self.high + 0.5)  # each whole number has the width of its own
        return int(min(max(round(value), self.low), self.high))

    def _at(self, share: float, low: float, high: float) -> float:
        if not self.log:
            return float(low + share * (high - low))
        return float(min(max(math.exp(math.log(low) + share * (math.log(high) - math.log(low))), low), high))


class Space:
    """What trial 0, 1, … of a sweep has for hyperparameters: the points of a grid, or seeded draws.

    A trial's hyperparameters depend on the space, the seed and its number alone, so more trials leave the first ones as
    they are.
    """

    def __init__(self, space: Any, trials: Any, seed: Any) -> None:
        if not isinstance(space, Mapping) or not space:
            raise InputError(
                f"space must be a dict of hyperparameter → list of values, such as {{'lr': [0.1, 0.01]}}; got {space!r}"
            )
        self.seed = check_whole(seed, 0, "seed")
        self.parts = {_checked_name(name): _part(name, given) for name, given in space.items()}
        lists = {name: part for name, part in self.parts.items() if isinstance(part, list)}
        self.size = math.prod(map(len, lists.values()))
        self.is_grid = len(lists) == len(self.parts)
        if trials is None:
            if not self.is_grid:
                name = next(name for name, part in self.parts.items() if not isinstance(part, list))
                raise InputError(f"space[{name!r}] is drawn from: say how often, trials=100")
            if self.size > LARGEST_GRID:
                raise InputError(f"the grid of space has {self.size:,} points; give trials= to draw some of them")
            self.trials = self.size
        else:
            self.trials = check_whole(trials, 1, "trials")
        self.order: Any = None
        if trials is not None and self.is_grid and self.size <= LARGEST_GRID:  # no point twice
            self.trials = min(self.trials, self.size)
            self.order = np.random.default_rng(self.seed).permutation(self.size)
        self.draws = trials is not None and self.order is None

    def params(self, trial: int) -> dict[str, Any]:
        """Return the hyperparameters of a trial."""
        if self.draws:
            rng = np.random.default_rng([self.seed, trial])
            return {name: _drawn(part, rng) for name, part in self.parts.items()}
        index = trial if self.order is None else int(self.order[trial])
        chosen = []
        for part in reversed(self.parts.values()):
            index, which = divmod(index, len(part))
            chosen.append(part[which])
        return dict(zip(self.parts, reversed(chosen), strict=True))

    def describe(self) -> dict[str, Any]:
        """Return the space in JSON's types."""
        how = "grid" if self.order is None and not self.draws else "draws"
        return {"how": how, **{name: _describe_part(part) for name, part in self.parts.items()}}


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise InputError(f"space must have the names of hyperparameters as its keys, got {name!r}")
    if name in ("trial", "status", "message", "fun"):
        raise InputError(f"space: {name!r} is a column that the table of a sweep has of its own; take another name")
    return name


def _part(name: str, given: Any) -> Any:
    if isinstance(given, Mapping):
        return Range.of(name, given)
    if hasattr(given, "rvs"):
        return given
    if isinstance(given, str | bytes) or not hasattr(given, "__iter__"):
        raise InputError(
            f"space[{name!r}] must be a list of values, dict(low=…, high=…) or a distribution such as "
            f"scipy.stats.loguniform(1e-4, 1); got {given!r}; for a value that all trials share, write "
            f"{name}={given!r} as an argument of sweep"
        )
    values = [plain(value) for value in given]
    if not values:
        raise InputError(f"space[{name!r}] has no values")
    return values


def _drawn(part: Any, rng: np.random.Generator) -> Any:
    if isinstance(part, list):
        return part[int(rng.integers(len(part)))]
    if isinstance(part, Range):
        return part.draw(rng)
    value = part.rvs(random_state=rng)
    return value.item() if isinstance(value, np.generic | np.ndarray) and not value.ndim else value


def _describe_part(part: Any) -> Any:
    if isinstance(part, Range):
        return {"low": part.low, "high": part.high, "log": part.log, "integer": part.integer}
    if isinstance(part, list):
        return describe(part)
    dist = getattr(part, "dist", None)
    if dist is None:
        return describe(part)
    return {"distribution": dist.name, "args": describe(part.args), **describe(part.kwds)}
