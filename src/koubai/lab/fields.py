"""Fields: the arguments of an ask, read one by one; what can't be used is named with its value and the range."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from koubai.errors import InputError, UnknownNameError

__all__ = ["Fields"]

_LEFT_OUT: Any = object()


class Fields:
    """A JSON object whose fields are read with a check.

    where: what the object is called in an error, as "dataset"; "" for the arguments themselves.
    """

    def __init__(self, given: Any, where: str = "") -> None:
        if not isinstance(given, Mapping):
            raise InputError(f"{where or 'the arguments'} must be an object with named fields, got {_shown(given)}")
        self.given, self.where = given, where

    def name(self, field: str) -> str:
        """Return the whole name of a field, as "dataset.noise"."""
        return f"{self.where}.{field}" if self.where else field

    def only(self, known: Iterable[str]) -> None:
        """Raise UnknownNameError for a field that nothing reads: a misspelt one would be silently left out."""
        names = tuple(known)
        for field in self.given:
            if field not in names:
                raise UnknownNameError(f"field of {self.where or 'the arguments'}", str(field)[:80], names)

    def has(self, field: str) -> bool:
        """Return whether a field is there and not null."""
        return self.given.get(field) is not None

    def value(self, field: str, default: Any = _LEFT_OUT) -> Any:
        """Return a field as it is. Raises InputError if it is left out and there is no default."""
        found = self.given.get(field)
        if found is None:
            if default is _LEFT_OUT:
                raise InputError(f"{self.name(field)} is missing")
            return default
        return found

    def number(
        self,
        field: str,
        default: Any = _LEFT_OUT,
        low: float = -math.inf,
        high: float = math.inf,
        above: float = -math.inf,
    ) -> float:
        """Return a finite number in [low, high] and above ``above``."""
        found = self.value(field, default)
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise InputError(f"{self.name(field)} must be a number, got {_shown(found)}")
        try:
            number = float(found)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise InputError(f"{self.name(field)} must be a finite number, got {_shown(found)}")
        if not low <= number <= high or not number > above:
            raise InputError(f"{self.name(field)} must be {_range(low, high, above)}, got {number!r}")
        return number

    def whole(self, field: str, default: Any = _LEFT_OUT, low: int = 0, high: int = 2**31 - 1) -> int:
        """Return a whole number in [low, high]; 3.0 is one, as JavaScript has no other numbers."""
        found = self.value(field, default)
        if isinstance(found, float) and found.is_integer():
            found = int(found)
        if isinstance(found, bool) or not isinstance(found, int):
            raise InputError(f"{self.name(field)} must be a whole number, got {_shown(found)}")
        if not low <= found <= high:
            raise InputError(f"{self.name(field)} must be {_range(low, high, -math.inf)}, got {_shown(found)}")
        return found

    def flag(self, field: str, default: bool = False) -> bool:
        """Return true or false."""
        found = self.value(field, default)
        if not isinstance(found, bool):
            raise InputError(f"{self.name(field)} must be true or false, got {_shown(found)}")
        return found

    def word(self, field: str, known: Iterable[str], default: Any = _LEFT_OUT) -> str:
        """Return one of the known words. Raises UnknownNameError with the nearest one for any other."""
        found, names = self.value(field, default), tuple(known)
        if not isinstance(found, str):
            raise InputError(f"{self.name(field)} must be one of {', '.join(names)}, got {_shown(found)}")
        if found not in names:
            raise UnknownNameError(self.name(field), found[:80], names)
        return found

    def text(self, field: str, default: Any = _LEFT_OUT, most: int = 1000) -> str:
        """Return text of at most so many characters."""
        found = self.value(field, default)
        if not isinstance(found, str):
            raise InputError(f"{self.name(field)} must be text, got {_shown(found)}")
        if len(found) > most:
            raise InputError(f"{self.name(field)} has {len(found):,} characters; at most {most:,} are accepted")
        return found

    def list(self, field: str, default: Any = _LEFT_OUT, most: int = 1000) -> Sequence[Any]:
        """Return a list of at most so many entries."""
        found = self.value(field, default)
        if not isinstance(found, list | tuple):
            raise InputError(f"{self.name(field)} must be a list, got {_shown(found)}")
        if len(found) > most:
            raise InputError(f"{self.name(field)} has {len(found):,} entries; at most {most:,} are accepted")
        return found

    def fields(self, field: str, default: Any = _LEFT_OUT) -> Fields:
        """Return an object within this one."""
        return Fields(self.value(field, default), self.name(field))

    def window(self, field: str = "window", default: Any = _LEFT_OUT) -> tuple[float, float]:
        """Return the ends of a stretch of the line, low < high."""
        pair = self.list(field, default, most=2)
        if len(pair) == 1 and isinstance(pair[0], list | tuple) and len(pair[0]) == 2:
            pair = pair[0]
        if len(pair) != 2:
            raise InputError(f"{self.name(field)} must be a pair [low, high], got {_shown(pair)}")
        ends = Fields({"low": pair[0], "high": pair[1]}, self.name(field))
        low, high = ends.number("low"), ends.number("high")
        if not low < high or not math.isfinite(high - low):
            raise InputError(f"{self.name(field)} must have low < high, got [{low!r}, {high!r}]")
        return low, high


def _shown(value: Any) -> str:
    """Show a value in an error, shortened: it may be large, and it comes from anywhere."""
    if isinstance(value, str | bytes):
        value = value[:60] + ("…" if len(value) > 60 else "")  # type: ignore[operator]
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**18:
        return "a whole number of more than 18 digits"
    elif isinstance(value, Mapping):
        return "an object"
    elif isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return "null" if value is None else repr(value)


def _range(low: float, high: float, above: float) -> str:
    if above > -math.inf:
        return f"> {above:g}" + (f" and ≤ {high:g}" if high < math.inf else "")
    if low > -math.inf and high < math.inf:
        return f"from {low:g} to {high:g}"
    return f"≥ {low:g}" if low > -math.inf else f"≤ {high:g}"
