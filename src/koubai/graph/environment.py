"""What a function reads from outside itself, and the stand-ins it meets there while it is traced.

The function runs as a copy whose globals are looked up through `_Globals`: ``np.zeros`` and its like, ``math.*`` and
``float`` are then stand-ins that keep the trace; arrays of the caller's are graph inputs that are read anew at every
run; the user's own helper functions are copied in the same way. Nothing global is patched, so other threads notice
nothing.

Everything read is remembered. `Environment.same` tells whether a graph still stands: rebinding a global or closure
variable, changing a list, dict, attribute or class that the function could reach, or editing a function in place, means
tracing anew. That serves one gradient in use. A graph that is kept for later has to be sure of more
(`Environment.unchanged`), and of all that can be read: where a class, a library, a file or the like is met,
`Environment.complete` is False.
"""

from __future__ import annotations

import builtins
import dis
import functools
import math
import sys
import sysconfig
import types
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from koubai.errors import TraceError
from koubai.graph.standins import MATH, NUMPY, STANDINS, Float, Vectorize, of_scipy
from koubai.graph.trace import Trace, Traced, untraceable

__all__ = ["Environment"]

_LIBRARIES = tuple({sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_ATOMS = (
    int,
    float,
    complex,
    str,
    bytes,
    bool,
    type(None),
    np.generic,
    np.dtype,
    type,
    types.BuiltinFunctionType,
    np.ufunc,
)
_PLAIN = (int, float, complex, str, bytes, bool, type(None), np.generic, np.dtype, np.ufunc)
# builtins that read nothing but their arguments, and say nothing of what they are besides their values
_PURE = {
    *("abs", "all", "any", "bool", "complex", "dict", "divmod", "enumerate", "filter", "float", "int", "isinstance"),
    *("len", "list", "map", "max", "min", "pow", "range", "reversed", "round", "set", "slice", "sorted", "str", "sum"),
    *("tuple", "zip"),
    *(name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, Exception)),
}
# attributes of NumPy that read what no argument tells
_IMPURE = frozenset(("random", "load", "loadtxt", "genfromtxt", "fromfile", "memmap", "lib", "__dict__"))
_IMPORT_NAME = dis.opmap["IMPORT_NAME"]
_STORE_GLOBAL = dis.opmap["STORE_GLOBAL"]
_LIMIT = 10_000  # values watched inside lists, dicts and objects


def _foreign(module: str | None) -> bool:
    """Is this module part of a library, whose functions are left alone?"""
    top = (module or "").partition(".")[0]
    if top in ("koubai", "numpy", "scipy") or top in sys.stdlib_module_names:
        return top != "__main__"
    file = getattr(sys.modules.get(module or ""), "__file__", None)
    return bool(file and file.startswith(_LIBRARIES))


def _reads_arguments_only(code: types.CodeType) -> bool:
    """Is there nothing in this code that reads by other ways than variables and attributes of what these hold?"""
    if _IMPORT_NAME in code.co_code[::2] or not _IMPURE.isdisjoint(code.co_names):
        return False
    return all(_reads_arguments_only(part) for part in code.co_consts if isinstance(part, types.CodeType))


def _reads_nothing_else(value: Any) -> bool:
    """Do this module and its functions, or this function of SciPy's, answer from their arguments alone?"""
    if isinstance(value, types.ModuleType):
        return value.__name__ in ("scipy", "scipy.special", "scipy.linalg")
    return isinstance(value, types.FunctionType)


class Environment:
    """The values that one traced call read from outside, and the means to see whether they are still the same.

    complete: can nothing that the call read change without `unchanged` noticing?
    """

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._globals: dict[int, _Globals] = {}
        self._copies: dict[int, Any] = {}
        self._shadows: dict[type, Any] = {}
        self.reads: dict[tuple[int, str], tuple[dict[str, Any], str, Any]] = {}
        self.cells: list[tuple[types.CellType, Any]] = []
        self.functions: list[tuple[weakref.ref[Any], types.CodeType, Any, Any]] = []
        self.containers: dict[int, tuple[Any, Any]] = {}
        self.arrays: dict[int, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = {}
        self.complete = True
        self._names: dict[tuple[int, str], tuple[dict[str, Any], str, Any]] = {}  # of NumPy, math and builtins

    # --- while tracing
    def inside(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``function`` as it is to be run under the trace."""
        standin = of_scipy(function)
        if standin is not None:
            self.complete &= _reads_nothing_else(function)
            return standin  # type: ignore[no-any-return]
        if isinstance(function, types.FunctionType):
            if not _foreign(function.__module__):
                return self._copied(function)
            pure = function.__module__.partition(".")[0] in ("koubai", "numpy", "scipy")
            self.complete &= pure and function.__closure__ is None
            return function
        if isinstance(function, types.MethodType):
            self.watch(function.__self__)
            inner = self.inside(function.__func__)
            return functools.partial(inner, self._shadow(function.__self__))
        if isinstance(function, functools.partial):
            self.watch(list(function.keywords.values()))
            parts = [self.substitute(a) for a in function.args]
            named = {k: self.substitute(v) for k, v in function.keywords.items()}
            return functools.partial(self.inside(function.func), *parts, **named)
        if not isinstance(function, type | types.BuiltinFunctionType | np.ufunc) and not _foreign(
            type(function).__module__
        ):
            call = type(function).__dict__.get("__call__")
            if isinstance(call, types.FunctionType):
                self.watch(function)
                return functools.partial(self.inside(call), self._shadow(function))
        self.complete &= isinstance(function, np.ufunc | type(np.sum))
        return function

    def _copied(self, function: types.FunctionType) -> types.FunctionType:
        copy = self._copies.get(id(function))
        if copy is not None:
            return copy  # type: ignore[no-any-return]
        if _STORE_GLOBAL in function.__code__.co_code[::2]:
            code = function.__code__
            reason = f"{function.__name__} assigns a global variable"
            raise TraceError(reason, "return the value instead", code.co_filename, code.co_firstlineno)
        outer: Any = function.__globals__
        if isinstance(outer, _Globals):  # made inside a function that is being traced
            outer = outer._outer
        overlay = self._globals.get(id(outer))
        if overlay is None:
            overlay = self._globals[id(outer)] = _Globals(self, outer)
        cells, contents = [], []
        for cell in function.__closure__ or ():
            try:
                contents.append((cell, types.CellType(), cell.cell_contents))
                cells.append(contents[-1][1])
            except ValueError:  # not filled yet
                cells.append(cell)
                self.complete = False
        self.complete &= _reads_arguments_only(function.__code__)
        copy = types.FunctionType(function.__code__, overlay, function.__name__, None, tuple(cells) or None)
        self._copies[id(function)] = copy  # before its cells are filled: it may be its own closure
        for cell, inner, content in contents:
            if content is not np and content is not math:
                self.cells.append((cell, content))
            inner.cell_contents = self.substitute(content)
        if outer is function.__globals__:  # one made inside the traced function is made anew by every call
            known = weakref.ref(function)  # it may be the traced one, and shall not live on through what it read
            self.functions.append((known, function.__code__, function.__defaults__, function.__kwdefaults__))
        if function.__defaults__:
            copy.__defaults__ = tuple(self.substitute(v) for v in function.__defaults__)
        if function.__kwdefaults__:
            copy.__kwdefaults__ = {k: self.substitute(v) for k, v in function.__kwdefaults__.items()}
        copy.__module__ = function.__module__
        return copy

    def substitute(self, value: Any) -> Any:
        """Return what the function meets in place of an outside ``value``."""
        if value is np:
            return NUMPY
        if value is math:
            return MATH
        if type(value) is Traced:
            return value
        standin = of_scipy(value)
        if standin is not None:
            self.complete &= _reads_nothing_else(value)
            return standin
        if isinstance(value, _ATOMS):
            try:
                standin = STANDINS.get(value)
            except TypeError:
                standin = None
            self.complete &= standin is not None or isinstance(value, _PLAIN)
            if isinstance(value, type) and standin is None:
                self.watch(value)
            return value if standin is None else standin
        if type(value) is np.ndarray:
            if value.dtype.kind in "fiubc":
                return self._trace.captured(value)
            self.complete = False
            return value
        if type(value) is np.vectorize:
            return Vectorize(self.inside(value.pyfunc), otypes=value.otypes)
        if isinstance(value, types.FunctionType | type(np.sum)):  # NumPy's functions have a type of their own
            standin = STANDINS.get(value)
            return standin if standin is not None else self.inside(value)
        if isinstance(value, types.ModuleType):
            if value in (np.linalg, np.fft):
                return STANDINS[value]
            if not _foreign(value.__name__):
                return _Module(self, value)
            self.complete = False
            return value
        self.watch(value)
        return self._shadow(value)

    def _shadow(self, thing: Any) -> Any:
        """Return a user's object with the same attributes, whose methods run under the trace too."""
        cls = type(thing)
        if (
            _foreign(cls.__module__)
            or type(cls) is not type
            or not hasattr(thing, "__dict__")
            or isinstance(thing, type)
        ):
            return thing
        if isinstance(thing, types.FunctionType | types.ModuleType | BaseException | np.ndarray):
            return thing
        slotted = any("__slots__" in part.__dict__ for part in cls.__mro__)
        if slotted or any("__init_subclass__" in part.__dict__ for part in cls.__mro__[:-1]):
            return thing  # making a subclass would change the object or tell the class
        shadow = self._shadows.get(cls)
        if shadow is None:
            methods: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
            for part in reversed(cls.__mro__[:-1]):
                for name, member in part.__dict__.items():
                    if isinstance(member, types.FunctionType):
                        methods[name] = self.inside(member)
                    elif isinstance(member, property) and isinstance(member.fget, types.FunctionType):
                        methods[name] = property(self.inside(member.fget), member.fset, member.fdel)
            shadow = self._shadows[cls] = type(cls.__name__, (cls,), methods)
        copy = object.__new__(shadow)
        copy.__dict__ = thing.__dict__
        return copy

    def watch(self, value: Any) -> None:
        """Remember the present content of a list, dict, set or object, and of what it holds."""
        stack = [value]
        while stack:
            item = stack.pop()
            self.complete &= isinstance(item, _PLAIN) or type(item) in (list, tuple, dict, set, frozenset, np.ndarray)
            if id(item) in self.containers or type(item) is Traced:
                continue
            if isinstance(item, _ATOMS) and (not isinstance(item, type) or _foreign(item.__module__)):
                continue
            if isinstance(item, np.ndarray):
                self.complete &= item.dtype.kind in "fiubc"
                if id(item) not in self.arrays:
                    self.arrays[id(item)] = (item, item.copy())
                continue
            content: Any
            parts: Iterable[Any]
            if isinstance(item, list | tuple):
                content = parts = list(item)
            elif isinstance(item, dict):
                content = dict(item)
                parts = item.values()
            elif isinstance(item, set | frozenset):
                content, parts = set(item), ()
            elif isinstance(item, types.FunctionType | types.ModuleType | types.MethodType):
                continue
            elif isinstance(item, type):
                content = dict(vars(item))
                parts = [*content.values(), *item.__bases__]
                self.containers[id(item)] = (vars(item), content)
            elif hasattr(item, "__dict__") and not _foreign(type(item).__module__):
                stack.append(type(item))
                item = item.__dict__
                content = dict(item)
                parts = item.values()
                if id(item) in self.containers:
                    continue
            else:
                continue
            self.containers.setdefault(id(item), (item, content))
            if len(self.containers) > _LIMIT:
                raise untraceable(
                    "the function reaches more outside data than can be watched", "pass it as an argument"
                )
            stack.extend(parts)

    # --- afterwards
    def same(self) -> bool:
        """Return whether everything read is still what it was."""
        for outer, name, value in self.reads.values():
            if outer.get(name, _MISSING) is not value:
                return False
        for cell, value in self.cells:
            try:
                if cell.cell_contents is not value:
                    return False
            except ValueError:
                return False
        for known, code, defaults, kwdefaults in self.functions:
            function = known()
            if function is None or function.__code__ is not code:  # edited in place, as IPython's autoreload does
                return False
            if function.__defaults__ is not defaults or function.__kwdefaults__ is not kwdefaults:
                return False
        for item, content in self.containers.values():
            if not _same_content(item, content):
                return False
        for now, then in self.arrays.values():
            if not _same_array(now, then):
                return False
        return not self._trace.inner or all(inner.same() for inner in self._trace.inner)

    def unchanged(self) -> bool:
        """Return whether a call would still read what it read, names of NumPy, math and builtins included."""
        for outer, name, value in self._names.values():
            if outer.get(name, _MISSING) is not value:
                return False
        return self.same()

    def holds(self, function: Callable[..., Any]) -> bool:
        """Return whether this keeps ``function`` alive, where its module does not."""
        outers = {id(outer): outer for outer, *_ in (*self.reads.values(), *self._names.values())}
        for outer in outers.values():
            module = sys.modules.get(outer.get("__name__", ""))
            if (module is None or vars(module) is not outer) and any(value is function for value in outer.values()):
                return True
        return any(content is function for _, content in self.cells)

    @property
    def empty(self) -> bool:
        """Was nothing read that can change, but the functions themselves?"""
        return not (self.reads or self.cells or self.containers or self.arrays or self._trace.inner)

    def close(self) -> None:
        """Forget what only the tracing needed."""
        self.complete &= not self._trace.inner
        self._globals.clear()
        self._copies.clear()
        self._shadows.clear()


_MISSING = object()


def _same_content(item: Any, content: Any) -> bool:
    if len(item) != len(content):
        return False
    if isinstance(item, dict | types.MappingProxyType):
        return all(item.get(k, _MISSING) is v for k, v in content.items())
    if isinstance(item, set | frozenset):
        return bool(item == content)
    return all(a is b for a, b in zip(item, content, strict=True))


def _same_array(now: np.ndarray[Any, Any], then: np.ndarray[Any, Any]) -> bool:
    return now.shape == then.shape and now.dtype == then.dtype and now.tobytes() == then.tobytes()


class _Globals(dict[str, Any]):
    """A function's globals, with every look remembered and answered by the stand-in."""

    def __init__(self, owner: Environment, outer: dict[str, Any]) -> None:
        super().__init__(__builtins__=builtins.__dict__, __name__=outer.get("__name__", ""))
        self._owner = owner
        self._outer = outer

    def __missing__(self, name: str) -> Any:
        outer = self._outer
        if name in outer:
            value = outer[name]
            watched = self._owner.reads if value is not np and value is not math else self._owner._names
            watched[(id(outer), name)] = (outer, name, value)
            return self._owner.substitute(value)
        self._owner.complete &= name in _PURE
        self._owner._names[(id(outer), name)] = (outer, name, _MISSING)
        if name == "float":
            return Float
        raise KeyError(name)


class _Module(types.ModuleType):
    """A module of the user's, with every look remembered and answered by the stand-in."""

    def __init__(self, owner: Environment, module: types.ModuleType) -> None:
        super().__init__(module.__name__)
        self.__dict__["_owner"], self.__dict__["_module"] = owner, module

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.__dict__["_module"], name)
        outer = self.__dict__["_module"].__dict__
        if name in outer and value is not np and value is not math:
            self.__dict__["_owner"].reads[(id(outer), name)] = (outer, name, value)
        return self.__dict__["_owner"].substitute(value)
