"""The settings of layers, losses and networks: what is set later is checked as in ``__init__``."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

from koubai.errors import InputError, UnknownNameError

__all__ = ["Configurable", "below_one", "is_own", "positive"]


class Configurable:
    """An object whose settings are checked wherever they are set: by making another one with them.

    settings: their names, which are those that koubai's own classes take. closed: there are no other attributes; a
    class of the user's own may have any beside them.
    """

    settings: ClassVar[frozenset[str]] = frozenset()
    closed: ClassVar[bool] = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        made = vars(cls).get("__init__")
        if made is not None and is_own(cls):
            code = made.__code__
            taken = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
            cls.settings = cls.settings.union(taken) - {"b"}  # which goes to the weights

    def setting(self, name: str) -> Any:
        """Return a setting as it is."""
        return self.__dict__[name]

    def allows(self, made: Any, name: str) -> bool:
        """Return whether the object may become like ``made``, which differs in the setting ``name``."""
        return True

    def __setattr__(self, name: str, value: Any) -> None:
        kind = type(self)
        if name in self.settings and (name in self.__dict__ or callable(getattr(kind, name, None))):
            own: Any = next(part for part in kind.__mro__ if is_own(part))
            made = own(**{each: self.setting(each) for each in own.settings} | {name: value})
            if not self.allows(made, name):
                raise InputError(f"{self!r}: {name} can't be changed any more; make another one")
            value = made.setting(name)
            if "name" in self.__dict__ and kind is own:
                object.__setattr__(self, "name", made.name)
        elif (
            self.closed
            and is_own(kind)
            and not name.startswith("_")
            and name not in (*self.settings, "name", "input_shape", "gradients")
            and not hasattr(kind, name)
        ):
            if name in self.__dict__.get("_params", {}) or name in ("W", "b"):
                raise InputError(f"{self!r}: weights are set by name, as in layer.params[{name!r}] = array")
            raise UnknownNameError(f"{kind.__name__} setting", name, sorted(self.settings))
        object.__setattr__(self, name, value)


def is_own(kind: type) -> bool:
    """Return whether a class is one of koubai's, of which everything is known."""
    return kind.__module__.startswith("koubai.nn.")


def below_one(value: Any, name: str) -> float:
    """Return a number in [0, 1). Raises InputError for anything else."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < 1:
        raise InputError(f"{name} must lie in [0, 1), got {value!r}")
    return float(value)


def positive(value: Any, name: str) -> float:
    """Return a number > 0. Raises InputError for anything else."""
    if isinstance(value, bool) or not isinstance(value, Real) or not float(value) > 0:
        raise InputError(f"{name} must be a number > 0, got {value!r}")
    return float(value)
