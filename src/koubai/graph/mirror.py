"""The mirror of the outside world that a function meets while it is traced.

It is made as the function reads: its globals, cells and defaults, the containers, objects, classes and modules that it
reaches through them, and the functions in all of these. In the mirror ``np.zeros`` and its like, ``math.*`` and
``float`` are stand-ins that keep the trace, and arrays are inputs of the graph, read again at every run. Nothing global
is patched, so other threads notice nothing. What is read is written down in the `Environment`.

What the function changes is changed in the mirror. When the call has succeeded, `Mirror.commit` carries the changes
over, as plain numbers. A function that changes something is traced again at each call too, since the change is part of
what it does.
"""

from __future__ import annotations

import abc
import array as arrays_of_c
import collections
import contextlib
import copy
import enum
import functools
import types
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from koubai.errors import is_told_to_raise
from koubai.graph.environment import MISSING, Environment, slot_value
from koubai.graph.kinds import (
    BUILTIN,
    CACHED,
    CONSTANT_KINDS,
    CONSTANT_TYPES,
    DESCRIBED,
    DISPATCHED,
    FUNCTION,
    IMPURE_BUILTINS,
    METACLASSES,
    SHADOWED,
    SKIPPED,
    SOLID,
    TRANSPARENT,
    TUPLE_GETTER,
    home_of,
    is_foreign,
    is_library_class,
    is_pure,
    module_of,
    names_of_class_bodies,
    traits_of,
    unchanged,
)
from koubai.graph.namespaces import BUILTINS, Cached, Globals, Module
from koubai.graph.standins import IMPURE, STANDIN_MODULES, STANDINS, SciPy, Vectorize, scipy_standin
from koubai.graph.traced import Traced
from koubai.graph.tracer import Trace, current_trace

__all__ = ["Mirror", "mirrored"]

_LIMIT = 10_000  # values mirrored inside lists, dicts and objects; more can't be watched in passing
_OF_NETWORKS = ("koubai.nn", "koubai.descent.batches")  # whose classes depend on their arguments alone


class Mirror:
    """The mirror of the outside world that one traced call meets. ``environment``: what the call reads of it."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        trace.mirror = self
        self.environment = Environment(trace)
        self._mirrors: dict[int, tuple[Any, Any]] = {}  # id of an original -> the original, its mirror
        self._originals: dict[int, tuple[Any, Any]] = {}  # id of a mirror -> the mirror, its original
        self._globals: dict[int, Globals] = {}
        self._changes: list[Callable[[], bool]] = []  # each carries one thing's changes over; were there any?
        self._fetched: dict[int, dict[str, Any]] = {}  # id of a shadow -> its attributes as they were fetched
        self._exported: dict[int, tuple[Any, Any]] = {}  # id of a new thing -> the thing, the plain one in its place
        self._building = False

    # --- the mirror
    def inside(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function that is traced, as it is to be run under the trace."""
        if module_of(type(function)).startswith("koubai.") or (
            isinstance(function, types.MethodType) and module_of(type(function.__self__)).startswith("koubai.")
        ):
            return function  # koubai's own, which hands what changes in as arguments
        return self.substitute(function)  # type: ignore[no-any-return]

    def substitute(self, value: Any) -> Any:
        """Return what the function meets in place of an outside ``value``."""
        kind = type(value)
        if kind in CONSTANT_TYPES or kind is Traced:
            return value
        known = self._mirrors.get(id(value))
        if known is not None:
            return known[1]
        if len(self._mirrors) > _LIMIT:
            self.trace.unwatch(f"it reads more than {_LIMIT} outside values")
        mirror = self._mirror(value, kind)
        if id(value) not in self._mirrors:
            self._remember(value, mirror)
        return mirror

    def _remember(self, value: Any, mirror: Any) -> Any:
        self._mirrors[id(value)] = value, mirror
        if mirror is not value:
            self._originals[id(mirror)] = mirror, value
        return mirror

    def _mirror(self, value: Any, kind: type) -> Any:
        if kind is np.ndarray:
            return self._array(value)
        if isinstance(value, FUNCTION | BUILTIN | DISPATCHED | type | types.ModuleType):
            standin = STANDINS.get(value) or scipy_standin(value)
            if standin is not None:
                return standin
        if isinstance(value, FUNCTION | DISPATCHED):
            return self._function(value)
        if kind is np.ufunc:
            if all("O" in signature for signature in value.types):
                self.trace.unwatch("it calls a function that np.frompyfunc made")
            return value
        if isinstance(value, type):
            return self._class(value)
        home = module_of(kind)
        container = _CONTAINERS.get(kind)
        if container is not None:
            return container(self, value)
        if isinstance(value, types.ModuleType):
            return self._module(value)
        if isinstance(value, types.MethodType):
            standin = scipy_standin(value)
            if standin is not None:
                return standin
            return types.MethodType(self.substitute(value.__func__), self.substitute(value.__self__))
        if isinstance(value, BUILTIN):
            return self._builtin(value)
        if isinstance(value, functools.partial):
            parts = [self.substitute(a) for a in value.args]
            self.environment.containers.append((value.keywords, dict(value.keywords)))
            named = {k: self.substitute(v) for k, v in value.keywords.items()}
            return functools.partial(self.substitute(value.func), *parts, **named)
        if kind is CACHED:
            return Cached(self, value)
        if kind is np.vectorize:
            return Vectorize(self.substitute(value.pyfunc), otypes=value.otypes)
        if isinstance(value, staticmethod | classmethod | property | functools.cached_property):
            return self._member(value)
        constant = isinstance(value, CONSTANT_KINDS) and kind is not np.void and is_library_class(kind)
        if constant or isinstance(value, enum.Enum):
            return value
        if kind is TUPLE_GETTER or (home in ("typing", "types", "dataclasses") and kind not in SHADOWED):
            return value
        if isinstance(value, _Shadow) or (is_pure(home) and home.startswith("koubai")):
            return value
        if not is_library_class(kind) or kind in SHADOWED:
            return self._object(value, kind)
        standin = scipy_standin(value)
        if standin is not None:
            self._watch_parts(value)
            return standin
        self.trace.unwatch(f"it reads a {home}.{kind.__qualname__}")
        return value

    def _array(self, value: np.ndarray[Any, Any]) -> Any:
        if value.dtype.kind in "fiubc":
            self.environment.captured.append((value, value.shape, value.dtype))
            return self.trace.captured(value)
        if value.dtype.hasobject:
            copy = np.empty_like(value)
            self._remember(value, copy)
            content = list(value.flat) if value.dtype.kind == "O" else None
            if content is None:
                self.trace.unwatch(f"it reads an array of dtype {value.dtype}")
                return value
            for i, item in enumerate(content):
                copy.flat[i] = self.substitute(item)
            self.environment.containers.append((_Flat(value), content))
            self._expect(list(copy.flat), lambda: list(copy.flat), lambda now: _fill(value, now))
            return copy
        self.environment.arrays.append((value, value.copy()))
        return value

    def _watch_parts(self, thing: Any) -> None:
        """Watch the attributes of an object of SciPy's that is read as it is: a spline, a distribution."""
        stack, met = [thing], {id(thing)}
        while stack:
            part = stack.pop()
            inside: list[Any] = []
            if isinstance(part, np.ndarray):
                self.environment.arrays.append((part, part.copy()))
            elif isinstance(part, list | tuple | dict):
                self.environment.containers.append((part, part.copy() if isinstance(part, dict) else list(part)))
                inside = list(part.values()) if isinstance(part, dict) else list(part)
            elif part is thing or type(part).__module__.partition(".")[0] == "scipy":  # one that does its work
                own = _instance_dict(part)
                if own is not None:
                    self.environment.containers.append((own, dict(own)))
                slots = [(part, slot, slot_value(slot, part)) for slot in _slots_of(type(part))]
                self.environment.slots += slots
                inside = [*(own or {}).values(), *(value for _, _, value in slots)]
            stack += [each for each in inside if id(each) not in met]
            met.update(map(id, inside))

    def _module(self, value: types.ModuleType) -> Any:
        if isinstance(value, (*STANDIN_MODULES, Module)):
            return value
        name = value.__name__
        if name == "scipy" or name.startswith("scipy."):
            return SciPy(value)
        if not is_foreign(name):
            return Module(self, value)
        if not is_pure(name):
            self.trace.unwatch(f"it reads the module {name}")
        return value

    def _builtin(self, value: Any) -> Any:
        owner = value.__self__
        if owner is None or isinstance(owner, types.ModuleType):
            module = value.__module__ or getattr(owner, "__name__", "")
            if not is_pure(module) or (module == "builtins" and value.__name__ in IMPURE_BUILTINS):
                self.trace.unwatch(f"it calls {module}.{value.__name__}")
            return value
        mirror = self.substitute(owner)
        return getattr(mirror, value.__name__) if mirror is not owner else value

    # --- functions
    def _function(self, function: Any) -> Any:
        home = home_of(function) if isinstance(function, FUNCTION) else "numpy"
        if isinstance(getattr(function, "__globals__", None), Globals) or not is_foreign(home):
            return self._copied(function)
        if not is_pure(home) or function.__name__ in IMPURE:
            self.trace.unwatch(f"it calls {home}.{function.__qualname__}")
        cells = getattr(function, "__closure__", None) or ()
        if home.startswith(("koubai", "numpy", "scipy")) or not cells:
            return function
        return self._copied(function, function.__globals__)  # a library's wrapper around a function of the user's

    def _copied(self, function: types.FunctionType, overlay: Any = None) -> types.FunctionType:
        outer: Any = function.__globals__
        made_inside = isinstance(outer, Globals)  # made inside a function that is being traced
        if made_inside:
            outer = outer.outer
        if overlay is None:
            overlay = self._globals.get(id(outer))
            if overlay is None:
                overlay = self._globals[id(outer)] = Globals(self, outer)
        cells, contents = [], []
        for cell in function.__closure__ or ():
            known = self._mirrors.get(id(cell))  # two functions may share it
            if known is not None:
                cells.append(known[1])
                continue
            inner = types.CellType()
            self._remember(cell, inner)
            cells.append(inner)
            contents.append((cell, inner))
        handles, annotated = traits_of(function.__code__)
        if handles:
            self.environment.handles = True
            if is_told_to_raise():
                self.trace.unwatch("it may catch what NumPy is told to raise")
        if annotated:
            self.trace.unwatch("it reads annotations")
        copy = types.FunctionType(function.__code__, overlay, function.__name__, None, tuple(cells) or None)
        self._remember(function, copy)  # before its cells are filled: it may be its own closure
        for cell, inner in contents:
            try:
                content = cell.cell_contents
            except ValueError:  # not filled yet
                content = MISSING
                self.trace.unwatch("a variable of an enclosing function has no value yet")
            else:
                if not made_inside:
                    self.environment.cells.append((cell, content))
                inner.cell_contents = self.substitute(content)
            self._expect_cell(cell, inner)
        if not made_inside:  # one made inside the traced function is made again by every call
            alive = weakref.ref(function)  # it may be the traced one, and shall not live on through what it read
            parts = (function.__code__, function.__defaults__, function.__kwdefaults__, function.__doc__)
            self.environment.functions.append((alive, *parts, not function.__dict__))
        copy.__doc__ = function.__doc__
        if function.__defaults__:
            copy.__defaults__ = tuple(self.substitute(v) for v in function.__defaults__)
        if function.__kwdefaults__:
            copy.__kwdefaults__ = self.substitute(function.__kwdefaults__)
        if function.__dict__:
            copy.__dict__.update({k: self.substitute(v) for k, v in function.__dict__.items()})
            self.environment.containers.append((function.__dict__, dict(function.__dict__)))
        self._expect_items(function.__dict__, copy.__dict__)
        copy.__module__, copy.__qualname__ = function.__module__, function.__qualname__
        if isinstance(overlay, Globals):
            for name in names_of_class_bodies(function.__code__):
                if name in outer or name in BUILTINS:
                    overlay[name]  # a class body bypasses what supplies missing names
        return copy

    def _expect_cell(self, cell: types.CellType, inner: types.CellType) -> None:
        def content() -> list[Any]:
            try:
                return [inner.cell_contents]
            except ValueError:
                return []

        self._expect(content(), content, lambda now: setattr(cell, "cell_contents", now[0]) if now else None)

    # --- classes and objects
    def _class(self, cls: type) -> Any:
        if is_library_class(cls):
            if not is_pure(module_of(cls)) and not module_of(cls).startswith(_OF_NETWORKS):
                self.trace.unwatch(f"it uses {module_of(cls)}.{cls.__qualname__}")
            return cls
        if issubclass(cls, BaseException | _Shadow):
            return cls
        if issubclass(cls, enum.Enum):
            if any(isinstance(member, FUNCTION | property) for member in vars(cls).values()):
                self.trace.unwatch(f"it uses {cls.__qualname__}, an Enum with methods")
            return cls
        if module_of(cls) in TRANSPARENT and cls not in SHADOWED:
            return cls
        if type(cls) not in METACLASSES or any(
            "__getattribute__" in vars(part) for part in cls.__mro__[:-1] if part not in SOLID
        ):
            self.trace.unwatch(f"it uses {cls.__qualname__}, a class with a way of its own to find attributes")
            return cls
        written_in_c = cls is types.SimpleNamespace
        bases = (cls,) if written_in_c else tuple(self.substitute(base) for base in cls.__bases__)
        if not any(issubclass(base, _Shadow) for base in bases):
            bases = (_Shadow, *(base for base in bases if base is not object))
        own: dict[str, Any] = {
            "__subclasses__": classmethod(self._subclasses(cls)),
            "__module__": module_of(cls),
            "__qualname__": cls.__qualname__,
        }
        own |= {
            "__dict__": property(self._all_attributes, _replace_dict),
            "__getattr__": self._getattr(cls),
            "__doc__": cls.__doc__,
        }
        for name in DESCRIBED.intersection(vars(cls)):
            own[name] = vars(cls)[name]
        building, self._building = self._building, True
        try:
            shadow: Any = type(cls)(cls.__name__, bases, own)  # type: ignore[misc]
        except TypeError:
            self.trace.unwatch(f"it uses {cls.__qualname__}, a class that can't be copied")
            return cls
        finally:
            self._building = building
        self._remember(cls, shadow)  # before its methods are copied, which may name it
        self.environment.bases.append((cls, cls.__bases__))
        if type(cls) is abc.ABCMeta:
            self._register(cls, shadow)
        content = {} if written_in_c else dict(vars(cls))
        self.environment.containers.append(({} if written_in_c else vars(cls), content))
        for name, member in content.items():
            if name in SKIPPED or isinstance(member, types.MemberDescriptorType | types.GetSetDescriptorType):
                continue
            if name == "__init_subclass__":
                member = self._quiet(member)
            mirror = self._member(member, name)
            setattr(shadow, name, _as_array(mirror) if name == "__array__" else mirror)
        if hasattr(cls, "__abstractmethods__"):
            shadow.__abstractmethods__ = cls.__abstractmethods__
        first = dict(vars(shadow))

        def carry() -> bool:
            changed = [(k, v) for k, v in vars(shadow).items() if first.get(k, MISSING) is not v and k not in SKIPPED]
            for name, v in changed:
                setattr(cls, name, self.plain(v))
            return bool(changed)

        self.on_commit(carry)
        return shadow

    def _register(self, cls: Any, shadow: Any) -> None:
        """Let the copy of an abstract class know those that were registered with it."""
        registry: Any = getattr(abc, "_get_dump")(cls)[0]  # noqa: B009 weak references, which typeshed does not know
        for reference in registry:
            if (registered := reference()) is not None:
                shadow.register(self.substitute(registered))
        self.environment.token = abc.get_cache_token()

    def _subclasses(self, cls: type) -> Callable[..., list[type]]:
        def listed(shadow: type) -> list[type]:
            self.trace.unwatch(f"it asks for the subclasses of {cls.__qualname__}")
            below: list[type] = cls.__subclasses__()
            return [self.substitute(known) for known in below if not issubclass(known, _Shadow)]

        return listed

    def _quiet(self, member: Any) -> Any:
        """Return a class's ``__init_subclass__`` that does not hear of the copies that are made here."""

        def init_subclass(cls: type, /, **options: Any) -> None:
            if not self._building:
                member.__func__(cls, **options)

        return classmethod(init_subclass)

    def _member(self, member: Any, name: str = "") -> Any:
        """Return a member of a class, with its functions as they are to be run under the trace."""
        if isinstance(member, staticmethod | classmethod):
            return type(member)(self.substitute(member.__func__))
        if type(member) is property:
            return property(
                *(None if f is None else self.substitute(f) for f in (member.fget, member.fset, member.fdel))
            )
        if type(member) is functools.cached_property:
            cached: Any = functools.cached_property(self.substitute(member.func))
            cached.__set_name__(None, member.attrname or name)
            return cached
        if isinstance(member, functools.partialmethod):
            parts = [self.substitute(a) for a in member.args]
            return functools.partialmethod(
                self.substitute(member.func), *parts, **{k: self.substitute(v) for k, v in member.keywords.items()}
            )
        mirror = self.substitute(member)
        if isinstance(mirror, functools.singledispatchmethod) and getattr(mirror, "_method_cache", None) is not None:
            mirror = copy.copy(mirror)  # Python 3.13 keeps in it every object that it was called for
            mirror._method_cache = None  # type: ignore[attr-defined]
        return mirror

    def _object(self, thing: Any, kind: type) -> Any:
        """Return a user's object with the same attributes, fetched when they are asked for, and methods that are
        traced.
        """
        shadow_class = self.substitute(kind)
        if shadow_class is kind or not issubclass(shadow_class, _Shadow):
            self.trace.unwatch(f"it reads a {kind.__qualname__}")
            return thing
        shadow = self._blank(thing, kind, shadow_class)
        if shadow is None:
            self.trace.unwatch(f"it reads a {kind.__qualname__}")
            return thing
        fetched = self._fetched[id(shadow)] = {}
        own = _instance_dict(thing)
        if own is not None:
            self.environment.containers.append((own, dict(own)))
            for name in own:
                if any(name in vars(part) for part in kind.__mro__):  # else the class's would be found first
                    self._fetch(shadow, name)
        slots = [slot for slot in _slots_of(kind) if slot.__objclass__ not in SOLID]
        self.environment.kinds.append((thing, kind))
        self.environment.slots += [(thing, slot, slot_value(slot, thing)) for slot in slots]

        def carry() -> bool:
            now = _real_dict(shadow)
            changed = [(k, v) for k, v in now.items() if fetched.get(k, MISSING) is not v]
            gone = [k for k in fetched if k not in now]
            for name, v in changed:
                _set_attribute(thing, own, name, self.plain(v))
            for name in gone:
                object.__delattr__(thing, name)
            return bool(changed or gone)

        self.on_commit(carry)
        return shadow

    def _blank(self, thing: Any, kind: type, shadow_class: Any) -> Any:
        """Return an object of the shadow's class without attributes, with the content if it is a container."""
        solid: Any = next((base for base in SOLID if issubclass(kind, base)), None)
        try:
            if solid is None:
                return self._remember(thing, object.__new__(shadow_class))
            if solid in (tuple, frozenset):
                return self._remember(thing, solid.__new__(shadow_class, [self.substitute(v) for v in thing]))
            if solid in (float, int, str, bytes):
                return self._remember(thing, solid.__new__(shadow_class, thing))
            shadow = self._remember(thing, solid.__new__(shadow_class))
        except TypeError:
            return None
        if solid is types.SimpleNamespace:
            return shadow
        if solid is collections.defaultdict:
            shadow.default_factory = self.substitute(thing.default_factory)
        if issubclass(solid, dict):
            content = dict(dict.items(thing))
            for k, v in content.items():
                dict.__setitem__(shadow, self.substitute(k), self.substitute(v))
            self.environment.containers.append((_View(dict, thing), content))
            self._expect_items(_View(dict, thing), _View(dict, shadow))
        else:
            items = list(solid.__iter__(thing))
            extend = solid.update if solid is set else solid.extend
            extend(shadow, [self.substitute(v) for v in items])
            self.environment.containers.append((_View(solid, thing), items))
            self._expect(
                list(solid.__iter__(shadow)),
                lambda: list(solid.__iter__(shadow)),
                lambda now: (solid.clear(thing), extend(thing, now)),
            )
        return shadow

    def _fetch(self, shadow: Any, name: str) -> Any:
        """Return an attribute that the shadow has not got yet; MISSING if its original has none of that name."""
        known = self._originals.get(id(shadow))
        fetched = self._fetched.get(id(shadow))
        if known is None or fetched is None or name in fetched:
            return MISSING
        value = _own_attribute(known[1], name)
        if value is not MISSING:
            value = fetched[name] = _real_dict(shadow)[name] = self.substitute(value)
        return value

    def _getattr(self, cls: type) -> Callable[[Any, str], Any]:
        own = next((vars(part)["__getattr__"] for part in cls.__mro__ if "__getattr__" in vars(part)), None)

        def missing(shadow: Any, name: str) -> Any:
            value = self._fetch(shadow, name)
            if value is not MISSING:
                return value
            if own is not None:
                return self.substitute(own)(shadow, name)
            raise AttributeError(f"{cls.__name__!r} object has no attribute {name!r}", name=name, obj=shadow)

        return missing

    def _all_attributes(self, shadow: Any) -> dict[str, Any]:
        known = self._originals.get(id(shadow))
        if known is not None:
            for name in _instance_dict(known[1]) or ():
                self._fetch(shadow, name)
        return _real_dict(shadow)

    # --- containers
    def _list(self, value: Any) -> Any:
        copy: Any = collections.deque(maxlen=value.maxlen) if type(value) is collections.deque else []
        self._remember(value, copy)
        content = list(value)
        copy.extend(content if CONSTANT_TYPES.issuperset(map(type, content)) else map(self.substitute, content))
        self._watch(value, content)

        def write(now: list[Any]) -> None:
            value.clear()
            value.extend(now)

        self._expect(list(copy), lambda: list(copy), write)
        return copy

    def _tuple(self, value: Any) -> Any:
        if CONSTANT_TYPES.issuperset(map(type, value)):
            return value
        return tuple([self.substitute(v) for v in value])

    def _frozenset(self, value: Any) -> Any:
        return value if CONSTANT_TYPES.issuperset(map(type, value)) else frozenset(map(self.substitute, value))

    def _set(self, value: Any) -> Any:
        copy: set[Any] = self._remember(value, set())
        copy.update(map(self.substitute, value))
        self._watch(value, set(value))

        def write(now: list[Any]) -> None:
            value.clear()
            value.update(now)

        first = set(copy)
        self._expect(list(first), lambda: list(first) if copy == first else list(copy), write)
        return copy

    def _dict(self, value: Any) -> Any:
        copy: Any
        if type(value) is collections.defaultdict:
            copy = collections.defaultdict(self.substitute(value.default_factory))
        else:
            copy = {} if type(value) is types.MappingProxyType else type(value)()
        self._remember(value, copy)
        content = dict(value)
        for k, v in content.items():
            copy[self.substitute(k)] = self.substitute(v)
        self._watch(value, content)
        if type(value) is types.MappingProxyType:
            return self._remember(value, types.MappingProxyType(copy))
        self._expect_items(value, copy)
        return copy

    def _numbers(self, value: Any) -> Any:
        copy = self._remember(value, value[:])
        content = value.tobytes() if isinstance(value, arrays_of_c.array) else bytes(value)
        self.environment.containers.append((_Bytes(value), content))

        def write(now: list[Any]) -> None:
            value[:] = copy

        self._expect([bytes(content)], lambda: [bytes(_Bytes(copy).content())], write)
        return copy

    def _watch(self, value: Any, content: Any) -> None:
        if len(content) > _LIMIT:
            self.trace.unwatch(f"it reads more than {_LIMIT} outside values")
        self.environment.containers.append((value, content))

    # --- writing
    def on_commit(self, carry: Callable[[], bool]) -> None:
        """Have ``carry`` called when the call has succeeded: it carries changes over; return whether there were any."""
        self._changes.append(carry)

    def _expect(self, first: list[Any], now: Callable[[], list[Any]], write: Callable[[list[Any]], Any]) -> None:
        """Have ``write`` called with the plain content of a mirror, if it is no longer ``first``."""

        def carry() -> bool:
            content = now()
            if len(content) == len(first) and all(map(unchanged, first, content)):
                return False
            write([self.plain(v) for v in content])
            return True

        self.on_commit(carry)

    def _expect_items(self, original: Any, mirror: Any) -> None:
        first = dict(mirror.items())

        def carry() -> bool:
            changed = [(k, v) for k, v in mirror.items() if not unchanged(first.get(k, MISSING), v)]
            gone = [k for k in first if k not in mirror]
            for k in gone:
                original.pop(self.plain(k), None)
            for k, v in changed:
                original[self.plain(k)] = self.plain(v)
            return bool(changed or gone)

        self.on_commit(carry)

    def commit(self) -> None:
        """Carry over what the function changed outside, as plain numbers."""
        for carry in self._changes:
            if carry():
                self.trace.unwatch("it changes what lies outside it")
        if self.trace.commit_captured():
            self.trace.unwatch("it writes into an array from outside")

    def plain(self, value: Any) -> Any:
        """Return what is outside the trace for a value of the traced function's."""
        kind = type(value)
        if kind in CONSTANT_TYPES:
            return value
        known = self._originals.get(id(value)) or self._exported.get(id(value))
        if known is not None:
            return known[1]
        if kind is Traced:
            return value.plain()
        exported: Any = value
        if kind in (list, dict, set, collections.deque, collections.OrderedDict, collections.defaultdict):
            exported = value.copy() if kind is not collections.defaultdict else kind(value.default_factory)
            self._exported[id(value)] = value, exported
            if isinstance(value, dict):
                exported.clear()
                exported.update({self.plain(k): self.plain(v) for k, v in value.items()})
            else:
                parts = [self.plain(v) for v in value]
                exported.clear()
                (exported.update if kind is set else exported.extend)(parts)
        elif kind in (tuple, frozenset):
            exported = kind([self.plain(v) for v in value])
        elif isinstance(value, tuple) and hasattr(value, "_fields"):
            exported = tuple.__new__(self.plain(kind), [self.plain(v) for v in value])
        elif kind is np.ndarray and value.dtype.kind == "O":
            exported = value.copy()
            for i, item in enumerate(value.flat):
                exported.flat[i] = self.plain(item)
        elif isinstance(value, types.MethodType):
            exported = types.MethodType(self.plain(value.__func__), self.plain(value.__self__))
        elif isinstance(value, functools.partial):
            named = {k: self.plain(v) for k, v in value.keywords.items()}
            exported = functools.partial(self.plain(value.func), *map(self.plain, value.args), **named)
        elif isinstance(value, FUNCTION) and isinstance(value.__globals__, Globals):
            exported = self._plain_function(value)
        elif isinstance(value, _Shadow):
            exported = self._plain_object(value)
        elif isinstance(value, type):
            exported = getattr(value, "original", value)  # of a stand-in for a type
        self._exported[id(value)] = value, exported
        return exported

    def _plain_function(self, function: Any) -> Any:
        cells = tuple(types.CellType() for _ in function.__closure__ or ())
        outer = function.__globals__.outer
        exported = types.FunctionType(function.__code__, outer, function.__name__, None, cells or None)
        self._exported[id(function)] = function, exported
        for cell, inner in zip(cells, function.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):
                cell.cell_contents = self.plain(inner.cell_contents)
        exported.__defaults__ = self.plain(function.__defaults__)
        exported.__kwdefaults__ = self.plain(function.__kwdefaults__)
        exported.__dict__.update(self.plain(dict(function.__dict__)))
        exported.__module__, exported.__qualname__ = function.__module__, function.__qualname__
        return exported

    def _plain_object(self, shadow: Any) -> Any:
        """Return an object of the user's own class for one that the traced function made of its mirror."""
        cls = self.plain(type(shadow))
        solid: Any = next((base for base in SOLID if issubclass(cls, base)), object)
        if solid in (tuple, frozenset, float, int, str, bytes):
            content = [self.plain(v) for v in shadow] if solid in (tuple, frozenset) else shadow
            exported = solid.__new__(cls, content)
        else:
            exported = solid.__new__(cls)
        self._exported[id(shadow)] = shadow, exported
        if issubclass(solid, dict):
            for k, v in dict.items(shadow):
                dict.__setitem__(exported, self.plain(k), self.plain(v))
        elif solid in (list, set, collections.deque):
            (solid.update if solid is set else solid.extend)(exported, [self.plain(v) for v in solid.__iter__(shadow)])
        own = _instance_dict(exported)
        for name, v in _real_dict(shadow).items():
            _set_attribute(exported, own, name, self.plain(v))
        return exported

    def close(self) -> None:
        """Forget what only the tracing needed."""
        for kept in (self._mirrors, self._originals, self._globals, self._fetched, self._exported):
            kept.clear()
        self._changes.clear()
        self.trace.captures.clear()
        self.trace.mirror = None


def mirrored(thing: Any) -> Any:
    """Return what the function that is being traced meets in place of a user's ``thing``, if one is being traced.

    For koubai's own functions, which are not mirrored themselves, where they call a layer or a loss of the user's.
    """
    trace = current_trace()
    if trace is None or trace.mirror is None or is_library_class(type(thing)):
        return thing
    return trace.mirror.substitute(thing)


class _Shadow:
    """What the classes of mirrored objects derive from."""


_real_dict: Callable[[Any], dict[str, Any]] = _Shadow.__dict__["__dict__"].__get__


def _as_array(method: Any) -> Any:
    """Return a user's ``__array__`` with the answer that NumPy asks for."""

    def __array__(thing: Any, *args: Any, **kwargs: Any) -> Any:
        return np.asarray(method(thing, *args, **kwargs))

    return __array__


def _replace_dict(shadow: Any, new: dict[str, Any]) -> None:
    _Shadow.__dict__["__dict__"].__set__(shadow, new)


def _instance_dict(thing: Any) -> dict[str, Any] | None:
    try:
        found = object.__getattribute__(thing, "__dict__")
    except AttributeError:
        return None
    return found if isinstance(found, dict) else None


def _own_attribute(thing: Any, name: str) -> Any:
    """Return an attribute that the object itself holds, in its dict or in a slot."""
    own = _instance_dict(thing)
    if own is not None and name in own:
        return own[name]
    for part in type(thing).__mro__:
        slot = vars(part).get(name, MISSING)
        if type(slot) is types.MemberDescriptorType:
            return slot_value(slot, thing)
    return MISSING


def _set_attribute(thing: Any, own: dict[str, Any] | None, name: str, value: Any) -> None:
    if own is not None and not any(
        type(vars(part).get(name)) is types.MemberDescriptorType for part in type(thing).__mro__
    ):
        own[name] = value
    else:
        object.__setattr__(thing, name, value)


def _slots_of(kind: type) -> list[Any]:
    return [s for part in kind.__mro__ for s in vars(part).values() if type(s) is types.MemberDescriptorType]


def _fill(target: np.ndarray[Any, Any], content: list[Any]) -> None:
    for i, item in enumerate(content):
        target.flat[i] = item


class _Flat:
    """An array of objects as a list is looked at."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __len__(self) -> int:
        return self.array.size

    def __iter__(self) -> Any:
        return iter(self.array.flat)


class _View:
    """A container of a user's class, as the builtin class that it derives from sees it."""

    def __init__(self, kind: Any, thing: Any) -> None:
        self.kind, self.thing = kind, thing

    def __len__(self) -> int:
        return int(self.kind.__len__(self.thing))

    def __iter__(self) -> Any:
        return self.kind.__iter__(self.thing)

    def __contains__(self, key: Any) -> bool:
        return bool(self.kind.__contains__(self.thing, key))

    def __setitem__(self, key: Any, value: Any) -> None:
        self.kind.__setitem__(self.thing, key, value)

    def __getattr__(self, name: str) -> Any:
        return functools.partial(getattr(self.kind, name), self.thing)


class _Bytes:
    """An array of C numbers, or bytes that can be written, as they are looked at."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def content(self) -> bytes:
        value = self.value
        return value.tobytes() if isinstance(value, arrays_of_c.array) else bytes(value)


_CONTAINERS: dict[type, Callable[[Mirror, Any], Any]] = {
    list: Mirror._list,
    collections.deque: Mirror._list,
    tuple: Mirror._tuple,
    set: Mirror._set,
    frozenset: Mirror._frozenset,
    dict: Mirror._dict,
    collections.OrderedDict: Mirror._dict,
    collections.defaultdict: Mirror._dict,
    collections.Counter: Mirror._dict,
    types.MappingProxyType: Mirror._dict,
    weakref.WeakKeyDictionary: Mirror._dict,
    weakref.WeakValueDictionary: Mirror._dict,
    bytearray: Mirror._numbers,
    arrays_of_c.array: Mirror._numbers,
}
