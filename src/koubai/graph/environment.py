"""What a traced function read outside itself, and whether that is still the same.

Everything that is read is remembered, and a graph is kept between two calls only if every such thing is on a closed
list of kinds that can be watched: names, cells, functions, lists, tuples, dicts, sets and their kin, arrays, objects
and classes of plain Python. Of anything else, such as a file, a clock, a generator or a library's object,
`Trace.unwatched` says so, and the function is traced again at each call.
"""

from __future__ import annotations

import abc
import operator
import sys
import types
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from koubai.errors import is_told_to_raise

if TYPE_CHECKING:
    from koubai.graph.tracer import Trace

__all__ = ["MISSING", "Environment", "Reads", "slot_value"]

MISSING = object()


class Reads(NamedTuple):
    """What a traced call read from outside, by name: globals, closures, and which of these are containers or objects.

    An array that has no name of its own, since it is a part of something else, is called "array 0", "array 1", …
    """

    globals: dict[str, Any]
    closures: dict[str, Any]
    arrays: dict[str, np.ndarray[Any, Any]]
    things: dict[str, Any]


def slot_value(slot: Any, thing: Any) -> Any:
    """Return what a slot of an object holds; MISSING if it is empty."""
    try:
        return slot.__get__(thing)
    except AttributeError:
        return MISSING


def _same_content(item: Any, content: Any) -> bool:
    if type(content) is bytes:
        return bool(item.content() == content)
    if len(item) != len(content):
        return False
    if type(content) is dict:  # in the same order too
        return list(item) == list(content) and all(map(operator.is_, item.values(), content.values()))
    if type(content) is set:
        return bool(item == content)
    return all(a is b for a, b in zip(item, content, strict=True))


def _same_array(now: np.ndarray[Any, Any], then: np.ndarray[Any, Any]) -> bool:
    return now.shape == then.shape and now.dtype == then.dtype and now.tobytes() == then.tobytes()


class Environment:
    """What a traced call read outside, and the means to see whether it is still the same."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self.handles = False  # whether a function that it runs handles exceptions
        self.names: dict[tuple[int, str], tuple[Any, str, Any]] = {}
        self.cells: list[tuple[types.CellType, Any]] = []
        # function, code, defaults, keyword defaults, doc, whether it has no attributes
        self.functions: list[tuple[weakref.ref[Any], types.CodeType, Any, Any, str | None, bool]] = []
        self.containers: list[tuple[Any, Any]] = []
        self.slots: list[tuple[Any, Any, Any]] = []
        self.bases: list[tuple[type, tuple[type, ...]]] = []
        self.token: Any = None  # changes when a class is registered with an abstract one
        self.kinds: list[tuple[Any, type]] = []
        self.arrays: list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = []
        self.captured: list[tuple[np.ndarray[Any, Any], Any, Any]] = []

    @property
    def unwatched(self) -> str | None:
        """Why the function is traced again at each call: what it read first of what can't be watched. None: nothing."""
        if not self._trace.inner:
            return self._trace.unwatched
        inner = (inner.unwatched for inner in self._trace.inner)
        return self._trace.unwatched or next(filter(None, inner), None)

    @property
    def complete(self) -> bool:
        """Whether `same` notices every change of what the call read."""
        return self._trace.unwatched is None and (not self._trace.inner or self.unwatched is None)

    def same(self) -> bool:
        """Return whether the graph still holds: all that was read is of kinds that can be watched, and unchanged."""
        if self._trace.unwatched is not None or (self.handles and is_told_to_raise()):
            return False
        for outer, name, value in self.names.values():
            if outer.get(name, MISSING) is not value:
                return False
        for cell, value in self.cells:
            try:
                if cell.cell_contents is not value:
                    return False
            except ValueError:
                return False
        for known, code, defaults, kwdefaults, doc, bare in self.functions:
            function = known()
            if function is None or function.__code__ is not code:  # edited in place, as IPython's autoreload does
                return False
            if function.__defaults__ is not defaults or function.__kwdefaults__ is not kwdefaults:
                return False
            if function.__doc__ is not doc or (bare and function.__dict__):
                return False
        for item, content in self.containers:
            if not _same_content(item, content):
                return False
        for thing, slot, value in self.slots:
            if slot_value(slot, thing) is not value:
                return False
        for thing, kind in self.kinds:
            if type(thing) is not kind:
                return False
        for cls, bases in self.bases:
            if cls.__bases__ is not bases:
                return False
        if self.token is not None and abc.get_cache_token() != self.token:
            return False
        for now, shape, dtype in self.captured:
            if now.shape != shape or now.dtype != dtype:
                return False
        for now, then in self.arrays:
            if not _same_array(now, then):
                return False
        return not self._trace.inner or all(inner.same() for inner in self._trace.inner)

    def reads(self) -> Reads:
        """Return what the call read from outside, by the names that it has there."""
        globals_ = {name: value for _, name, value in self.names.values() if value is not MISSING}
        of_cells: dict[int, str] = {}
        for known, code, *_ in self.functions:
            cells = getattr(known(), "__closure__", None) or ()
            of_cells |= {id(cell): name for name, cell in zip(code.co_freevars, cells, strict=False)}
        closures = {of_cells.get(id(cell), f"cell {i}"): value for i, (cell, value) in enumerate(self.cells)}
        called = {id(value): name for name, value in (globals_ | closures).items()}
        read = [array for array, *_ in (*self.captured, *self.arrays)]
        arrays = {called.get(id(array), f"array {i}"): array for i, array in enumerate(read)}
        things = {called[id(thing)]: thing for thing, _ in (*self.containers, *self.kinds) if id(thing) in called}
        found = Reads(globals_, closures, arrays, things)
        for inner in self._trace.inner:
            found = Reads(*[a | b for a, b in zip(found, inner.reads(), strict=True)])
        return found

    def holds(self, function: Callable[..., Any]) -> bool:
        """Return whether this keeps ``function`` alive, if its module does not."""
        outers = {id(outer): outer for outer, *_ in self.names.values()}
        for outer in outers.values():
            module = sys.modules.get(outer.get("__name__", ""))
            if (module is None or vars(module) is not outer) and any(value is function for value in outer.values()):
                return True
        held: list[Iterable[Any]] = [
            content.values() if isinstance(content, dict) else content
            for _, content in self.containers
            if not isinstance(content, bytes)
        ]
        return any(content is function for _, content in self.cells) or any(
            v is function for part in held for v in part
        )

    @property
    def only_names(self) -> bool:
        """Whether names and the functions themselves are all that was read and can change."""
        others = (self.cells, self.containers, self.bases, self.slots, self.kinds, self.arrays, self.captured)
        return not (self._trace.unwatched or self.handles or any(others) or self._trace.inner)

    @property
    def empty(self) -> bool:
        """Whether the functions themselves are all that was read and can change."""
        return self.only_names and not self.names

    @property
    def may_read_errstate(self) -> bool:
        """Whether what the function does may depend on np.errstate, or on filters of warnings."""
        return self.handles or self._trace.unwatched is not None
