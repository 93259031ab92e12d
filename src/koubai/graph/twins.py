"""What stands in for the functions of a part of SciPy, which don't ask their arguments how they are done.

A twin is written like a function in graph/numpy, with SciPy's own signature: what it can't honour it refuses by
name. It serves traced arguments only; plain ones go to SciPy itself. A file of twins is loaded when a traced function
first meets that part of SciPy, and only then: koubai's tracing does not need SciPy.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, TypeVar

from koubai.errors import TraceError
from koubai.graph.traced import Traced, concretize, is_differentiated
from koubai.graph.user_code import untraceable

__all__ = ["Twins", "differentiated", "meets_traced", "plain"]

F = TypeVar("F", bound=Callable[..., Any])


def meets_traced(*values: Any) -> bool:
    """Return whether one of the values, or of what lists, tuples and dicts among them hold, is traced."""
    return any(True for _ in _traced_within(values))


def differentiated(*values: Any) -> bool:
    """Return whether one of the values, or of what they hold, depends on what is differentiated."""
    return any(map(is_differentiated, _traced_within(values)))


def _traced_within(values: Iterable[Any]) -> Iterator[Traced]:
    for value in values:
        if type(value) is Traced:
            yield value
        elif isinstance(value, list | tuple):
            yield from _traced_within(value)
        elif isinstance(value, dict):
            yield from _traced_within(value.values())


def plain(value: Any) -> Any:
    """Return the value, or what it holds, as numbers, and bind the path to them. Nothing of it is differentiated."""
    if type(value) is Traced:
        return concretize(value, "a function of SciPy's", "keep that argument constant, or pass method='central'")
    if isinstance(value, list | tuple):
        return type(value)(plain(part) for part in value)
    return {name: plain(part) for name, part in value.items()} if isinstance(value, dict) else value


class Twins:
    """The twins of one part of SciPy: of its functions, and of the objects of its classes."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.module: Any = importlib.import_module(package)
        self.functions: dict[Any, Any] = {}
        self.written: dict[Any, Callable[..., Any]] = {}  # the twins themselves, which serve traced arguments only
        self.kinds: dict[type, Callable[[Any], Any]] = {}

    def of(self, *names: str) -> Callable[[F], F]:
        """Enter the decorated function as the twin of these functions, if the installed SciPy has them."""

        def enter(function: F) -> F:
            for name in names:
                original = getattr(self.module, name, None)
                if original is not None:
                    self.written[original] = function
                    self.functions[original] = _where_traced(original, function)
            return function

        return enter

    def standin(self, value: Any) -> Any:
        """Return what a traced function meets in place of this function, class or object; None: it itself."""
        try:
            found = self.functions.get(value)
        except TypeError:  # not hashable
            found = None
        if found is not None:
            return found
        for kind in type(value).__mro__:
            if kind in self.kinds:
                return self.kinds[kind](value)
        return None

    def refuse(self, function: str, argument: str, value: Any) -> NoReturn:
        raise self.refusal(function, argument, value)

    def refusal(self, function: str, argument: str, value: Any) -> TraceError:
        shown = value if isinstance(value, str) and " " in value else repr(value)  # a description, or the value itself
        reason = f"{self.package}.{function} with {argument}={shown} can't be traced"
        return untraceable(reason, f"leave {argument} out, or pass method='central'")


def _where_traced(original: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def standin(*args: Any, **kwargs: Any) -> Any:
        if not meets_traced(args, kwargs):
            return original(*args, **kwargs)
        if differentiated(args, kwargs):
            return function(*args, **kwargs)
        try:
            return function(*args, **kwargs)
        except TraceError:  # no derivative can be lost: SciPy may have the numbers
            return original(*plain(args), **plain(kwargs))

    return standin
