"""Globals, builtins, modules and cached functions as a traced function sees them: a name is looked up outside once."""

from __future__ import annotations

import builtins
import math
import sys
import types
from typing import TYPE_CHECKING, Any

import numpy as np

from koubai.graph.environment import MISSING
from koubai.graph.kinds import BUILTIN, IMPURE_BUILTINS, names_of, unchanged
from koubai.graph.numpy.arguments import holds_traced
from koubai.graph.standins import STANDINS

if TYPE_CHECKING:
    from koubai.graph.mirror import Mirror

__all__ = ["BUILTINS", "Cached", "Globals", "Module"]


class Globals(dict[str, Any]):
    """A function's globals: every name is looked up outside once, and answered by its mirror."""

    def __init__(self, owner: Mirror, outer: dict[str, Any]) -> None:
        super().__init__(__builtins__=_builtins(owner), __name__=outer.get("__name__", ""))
        self.owner, self.outer = owner, outer
        self.first = dict(self)
        owner.on_commit(self._carry)

    def __missing__(self, name: str) -> Any:
        outer, owner = self.outer, self.owner
        value = outer.get(name, MISSING)
        library = value is np or value is math  # under its own name, it is taken to stay
        if not (library and name in ("np", "numpy", "math")) and (value is not MISSING or name in BUILTINS):
            owner.environment.names[(id(outer), name)] = outer, name, value
        if value is not MISSING:
            answer = owner.substitute(value)
        elif name in BUILTINS:
            if name in IMPURE_BUILTINS:
                owner.trace.unwatch(f"it calls {name}()")
            elif name in ("RuntimeWarning", "Warning"):
                owner.trace.unwatch("it catches a warning")
            answer = dict.__getitem__(self, "__builtins__")[name]
        else:
            owner.environment.names[(id(outer), name)] = outer, name, MISSING
            raise KeyError(name)
        self[name] = self.first[name] = answer
        return answer

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default

    def _carry(self) -> bool:
        changed = [(k, v) for k, v in self.items() if not unchanged(self.first.get(k, MISSING), v)]
        for name, v in changed:
            self.outer[name] = self.owner.plain(v)
        return bool(changed)


BUILTINS = vars(builtins)


def _builtins(owner: Mirror) -> dict[str, Any]:
    """Return the builtins that the traced function sees: what it imports is mirrored as what it finds is."""

    def imported(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        module = builtins.__import__(name, dict(globals) if globals else None, None, fromlist, level)
        owner.environment.names[(id(sys.modules), module.__name__)] = sys.modules, module.__name__, module
        return owner.substitute(module)

    def evaluated(source: Any, globals: Any = None, locals: Any = None) -> Any:
        frame = sys._getframe(1)
        if globals is None:
            globals, locals = frame.f_globals, dict(frame.f_locals)
        if type(source) is str:
            source = compile(source.strip(), "<eval>", "eval")
        if isinstance(globals, Globals):
            for name in names_of(source):
                globals.get(name)  # evaluated code bypasses what supplies missing names
        else:
            globals = {"__builtins__": BUILTINS, **{k: owner.substitute(v) for k, v in globals.items()}}
        return eval(source, globals, locals)

    return {**BUILTINS, **_BUILTIN_STANDINS, "__import__": imported, "eval": evaluated}


_BUILTIN_STANDINS = {name: STANDINS[getattr(builtins, name)] for name in ("float", "complex", "type")}


class Module(types.ModuleType):
    """A module of the user's: every attribute is looked up once, and answered by its mirror."""

    def __init__(self, owner: Mirror, module: types.ModuleType) -> None:
        super().__init__(module.__name__)
        own = vars(self)
        own["_owner"], own["_module"], own["_first"] = owner, module, {}
        owner.on_commit(self._carry)

    def __getattr__(self, name: str) -> Any:
        own = vars(self)
        owner, module = own["_owner"], own["_module"]
        value = getattr(module, name)
        outer = vars(module)
        if name not in outer:
            owner.trace.unwatch(f"it reads {module.__name__}.{name}, which the module makes when asked")
        owner.environment.names[(id(outer), name)] = outer, name, value
        own[name] = own["_first"][name] = owner.substitute(value)
        return own[name]

    def _carry(self) -> bool:
        own = vars(self)
        first, module = own["_first"], own["_module"]
        skipped = ("_owner", "_module", "_first", "__name__", "__doc__", "__package__", "__loader__", "__spec__")
        changed = [(k, v) for k, v in own.items() if k not in skipped and not unchanged(first.get(k, MISSING), v)]
        for name, v in changed:
            setattr(module, name, own["_owner"].plain(v))
        return bool(changed)


class Cached:
    """A function under ``functools.lru_cache``: its memory serves plain numbers; traced ones pass it by."""

    def __init__(self, owner: Mirror, cached: Any) -> None:
        self._owner, self._cached = owner, cached

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._owner.trace.unwatch("it calls a function with a memory of its own (lru_cache)")
        given = [tuple(a) if isinstance(a, frozenset) else a for a in (*args, *kwargs.values())]
        if holds_traced(given):
            return self._owner.substitute(self._cached.__wrapped__)(*args, **kwargs)
        return self._cached(*map(self._owner.plain, args), **{k: self._owner.plain(v) for k, v in kwargs.items()})

    def __get__(self, thing: Any, kind: Any = None) -> Any:
        return self if thing is None else types.MethodType(self, thing)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._cached, name)
        if isinstance(value, BUILTIN):  # of its memory
            self._owner.trace.unwatch("it looks into the memory of a function (lru_cache)")
            return value
        return self._owner.substitute(value)
