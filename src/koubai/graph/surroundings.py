"""What a function reads from outside itself, and the stand-ins it meets there while it is traced.

The function runs as a copy whose globals are looked up through `_Globals`: ``np.zeros`` and its like, ``math.*`` and
``float`` are then stand-ins that keep the trace; arrays of the caller's are graph inputs that are read anew at every
run; the user's own helper functions are copied in the same way. Nothing global is patched, so other threads notice
nothing.

Everything read is remembered. `Surroundings.same` tells whether a graph still stands: rebinding a global or closure
variable, changing a list, dict, attribute or class that the function could reach, or editing a function in place, means
tracing anew. That serves one gradient in use. A graph that is kept for later has to be sure of more
(`Surroundings.unchanged`), and of all that can be read: where a class, a library, a file or the like is met,
`Surroundings.complete` is False.
"""

from __future__ import annotations

import builtins
import dis
import functools
import importlib
import math
import sys
import sysconfig
import types
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from koubai.errors import TraceError
from koubai.graph import editing, fourier, linear_algebra, series, statistics  # noqa: F401 they fill the table
from koubai.graph.functions import array, holds_traced, new_array
from koubai.graph.trace import FUNCTIONS, Trace, Traced, current_trace, new_traced, untraceable

__all__ = ["Surroundings"]

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


class Surroundings:
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
            return _numpy
        if value is math:
            return _math
        if type(value) is Traced:
            return value
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
            return _vectorize(self.inside(value.pyfunc), otypes=value.otypes)
        if isinstance(value, types.FunctionType | type(np.sum)):  # NumPy's functions have a type of their own
            standin = STANDINS.get(value)
            if standin is None and value.__module__.startswith("scipy.special"):
                standin = _special().STANDINS.get(value)
            return standin if standin is not None else self.inside(value)
        if isinstance(value, types.ModuleType):
            if value.__name__ in ("scipy", "scipy.special"):
                return _SciPy(value)
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

    def __init__(self, owner: Surroundings, outer: dict[str, Any]) -> None:
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
            return _Float
        raise KeyError(name)


class _Module(types.ModuleType):
    """A module of the user's, with every look remembered and answered by the stand-in."""

    def __init__(self, owner: Surroundings, module: types.ModuleType) -> None:
        super().__init__(module.__name__)
        self.__dict__["_owner"], self.__dict__["_module"] = owner, module

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.__dict__["_module"], name)
        outer = self.__dict__["_module"].__dict__
        if name in outer and value is not np and value is not math:
            self.__dict__["_owner"].reads[(id(outer), name)] = (outer, name, value)
        return self.__dict__["_owner"].substitute(value)


class _Library(types.ModuleType):
    """NumPy or math, with stand-ins in the places where they don't ask the argument."""

    def __init__(self, module: types.ModuleType, standins: dict[str, Any]) -> None:
        super().__init__(module.__name__)
        self.__dict__.update({n: f for n, f in vars(module).items() if isinstance(f, np.ufunc)})  # found at once
        self.__dict__.update(standins)
        self.__dict__["_module"] = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_module"], name)


class _SciPy(types.ModuleType):
    """``scipy`` or ``scipy.special``, with stand-ins for what asks no argument; loaded on the first look."""

    def __init__(self, module: types.ModuleType) -> None:
        super().__init__(module.__name__)
        self.__dict__["_module"] = module

    def __getattr__(self, name: str) -> Any:
        module = self.__dict__["_module"]
        value = getattr(module, name)
        if module.__name__ == "scipy":
            return _SciPy(value) if name == "special" else value
        return _special().STANDINS.get(value, value) if isinstance(value, types.FunctionType) else value


def _special() -> Any:
    return importlib.import_module("koubai.graph.special")


# --- stand-ins
class _NumberType(type):
    """The type of the stand-ins for float types, which answer and compare as the ``original`` does."""

    original: Any
    dtype: np.dtype[Any]  # so that the stand-in is understood as a dtype

    def __call__(cls, x: Any = 0.0) -> Any:
        if not holds_traced(x):
            trace = current_trace()
            if isinstance(x, str) and trace is not None and trace.told:
                raise untraceable("the text of a traced value is turned back into a number", "use the value itself")
            return cls.original(x)
        y = array(x)
        if cls.original is float and y.shape:
            if y.size != 1:
                raise TypeError("only length-1 arrays can be converted to Python scalars")
            y = y.reshape(())
        y = y.astype(cls.dtype) if y.dtype != cls.dtype else y  # np.float64 of an array is that array, not a copy
        return y._as_python() if cls.original is float else y

    def __instancecheck__(cls, instance: Any) -> bool:
        return bool(isinstance(instance, cls.original))

    def __subclasscheck__(cls, subclass: type) -> bool:
        return bool(issubclass(subclass, cls.original))

    def __eq__(cls, other: object) -> bool:
        return other is cls.original or other is cls

    def __hash__(cls) -> int:
        return hash(cls.original)


class _Float(float, metaclass=_NumberType):
    """``float`` as traced code meets it: of a traced number it gives the traced number."""

    original, dtype = float, np.dtype(np.float64)


class _Float64(float, metaclass=_NumberType):
    """``np.float64`` in the same way; of an array it gives an array."""

    original, dtype = np.float64, np.dtype(np.float64)


class _Float32(float, metaclass=_NumberType):
    """``np.float32`` in the same way."""

    original, dtype = np.float32, np.dtype(np.float32)


def _owner() -> Any:
    """Return a traced value of the running trace, for the constructors that need one."""
    trace = current_trace()
    if trace is None:
        raise untraceable(
            "a function made while tracing runs after it", "don't keep functions made inside the function"
        )
    return new_traced(trace, -1, None, (), np.dtype(np.float64))


def _zeros(shape: Any, dtype: Any = np.float64, order: str = "C", **kw: Any) -> Any:
    return _assignable(shape, dtype, 0.0)


def _ones(shape: Any, dtype: Any = np.float64, order: str = "C", **kw: Any) -> Any:
    return _assignable(shape, dtype, 1.0)


def _full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C", **kw: Any) -> Any:
    return _assignable(shape, np.result_type(array(fill_value).dtype) if dtype is None else dtype, fill_value)


def _assignable(shape: Any, dtype: Any, value: Any) -> Any:
    kind = np.dtype(dtype)
    if kind.kind not in "fiubc":
        return np.full(shape, value, kind)
    return new_array(_owner(), shape, kind, value)


def _eye(N: Any, M: Any = None, k: int = 0, dtype: Any = np.float64, **kw: Any) -> Any:
    return _owner()._wrap(np.eye(int(N), None if M is None else int(M), int(k), np.dtype(dtype)))


def _array(object: Any, dtype: Any = None, *, copy: Any = True, order: str = "K", ndmin: int = 0, **kw: Any) -> Any:
    if type(object) is Traced:
        y = object if dtype is None else object.astype(dtype)
        y = y.copy(order) if copy and y is object else y
    elif holds_traced(object):
        y = array(object)
        y = y if dtype is None else y.astype(dtype)
    else:
        kind = None if dtype is None else np.dtype(dtype)
        plain: Any = np.array(object, dtype=kind, copy=True, ndmin=ndmin)
        if plain.dtype.kind not in "fiubc":
            return plain
        y = _owner()._wrap(plain)
        y._value = plain  # an array even where it is 0-d, so that it can be written into
    return y.reshape((1,) * (ndmin - y.ndim) + y.shape) if y.ndim < ndmin else y


def _asarray(a: Any, dtype: Any = None, *args: Any, **kw: Any) -> Any:
    if type(a) is Traced or holds_traced(a):
        y = array(a)
        return y if dtype is None or y.dtype == np.dtype(dtype) else y.astype(dtype)
    return np.asarray(a, None if dtype is None else np.dtype(dtype), *args, **kw)


def _arange(*args: Any, dtype: Any = None, **kw: Any) -> Any:
    if not holds_traced(args):
        return np.arange(*args, dtype=None if dtype is None else np.dtype(dtype), **kw)
    start, stop, step = (0, args[0], 1) if len(args) == 1 else (*args, 1)[:3]
    n = math.ceil((stop - start) / step)
    return start + step * np.arange(n)


class _vectorize:
    """``np.vectorize``: the function is traced once for every element."""

    def __init__(self, pyfunc: Any, *args: Any, **kwargs: Any) -> None:
        self.pyfunc = pyfunc
        self.plain = np.vectorize(pyfunc, *args, **kwargs)
        self.simple = not args and set(kwargs) <= {"otypes", "doc", "cache"}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not holds_traced(args) or kwargs or not self.simple:
            return self.plain(*args, **kwargs)
        arrays = np.broadcast_arrays(*[array(a) for a in args])
        if not arrays[0].shape:
            return array(self.pyfunc(*arrays))
        rows = zip(*[a.ravel() for a in arrays], strict=True)
        results = [self.pyfunc(*row) for row in rows]
        otypes: Any = self.plain.otypes  # else the first result tells, as in NumPy
        kind = otypes[0] if otypes else getattr(results[0], "dtype", type(results[0]))
        return array(results).reshape(arrays[0].shape).astype(kind, copy=False)


def _by_numpy(original: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def standin(*args: Any) -> Any:
        if not holds_traced(args):
            return original(*args)
        if original is math.prod:  # it multiplies by the numbers' own operator
            return function(*args)
        # Python's math computes in float64, and gives a Python number
        y = function(*[a.astype(np.float64) if type(a) is Traced and a.dtype == np.float32 else a for a in args])
        return y._as_python() if type(y) is Traced else y

    return standin


def _listed(function: Callable[..., Any]) -> Callable[..., Any]:
    """``np.sum([a, b])`` and its like: NumPy does not look into lists for traced values."""

    def plain(value: Any) -> Any:
        return array(value) if isinstance(value, list | tuple) and holds_traced(value) else value

    written = FUNCTIONS[function]

    @functools.wraps(function)
    def standin(*args: Any, **kwargs: Any) -> Any:
        if args and type(args[0]) is Traced:  # the answer that NumPy would ask for, without asking NumPy
            for value in (*args[1:], *kwargs.values()):
                if isinstance(value, list | tuple):
                    break
            else:
                return written(*args, **kwargs)
        return function(*map(plain, args), **{name: plain(value) for name, value in kwargs.items()})

    return standin


class _Joined:
    """``np.r_`` and ``np.c_``."""

    def __init__(self, plain: Any) -> None:
        self.plain = plain

    def __getitem__(self, key: Any) -> Any:
        items = key if isinstance(key, tuple) else (key,)
        if not holds_traced(items):
            return self.plain[key]
        if any(isinstance(item, str) for item in items):
            raise untraceable("np.r_ with a string can't be traced", "use np.concatenate")
        parts = [array(np.r_[item] if isinstance(item, slice) else item) for item in items]
        if self.plain is np.r_:
            return np.concatenate([np.atleast_1d(part) for part in parts])
        return np.concatenate([part if part.ndim > 1 else part.reshape((-1, 1)) for part in parts], axis=-1)


def _fsum(values: Any) -> Any:
    total: Any = 0.0
    for value in values:
        total = total + value
    return total


def _dist(p: Any, q: Any) -> Any:
    return np.sqrt(_fsum([(a - b) ** 2 for a, b in zip(p, q, strict=True)]))


_MATH = {
    **{
        name: getattr(np, name)
        for name in ("exp", "exp2", "expm1", "log2", "log10", "log1p", "sqrt", "cbrt", "sin", "cos")
    },
    **{
        name: getattr(np, name)
        for name in ("tan", "sinh", "cosh", "tanh", "fabs", "fmod", "copysign", "degrees", "radians")
    },
    **{name: getattr(np, name) for name in ("isnan", "isinf", "isfinite")},
    **{name: getattr(np, "arc" + name[1:]) for name in ("asin", "acos", "atan", "asinh", "acosh", "atanh", "atan2")},
    "log": lambda x, base=None: np.log(x) if base is None else np.log(x) / np.log(base),
    "pow": lambda x, y: x**y,
    "hypot": lambda *xs: functools.reduce(np.hypot, xs),
    "prod": lambda values, *, start=1: functools.reduce(lambda a, b: a * b, values, start),
    "dist": _dist,
    "fsum": _fsum,
    **{
        name: lambda x, special=special: getattr(_special().special, special)(x)
        for name, special in (("erf", "erf"), ("erfc", "erfc"), ("gamma", "gamma"), ("lgamma", "gammaln"))
    },
}
_math = _Library(math, {n: _by_numpy(getattr(math, n), f) for n, f in _MATH.items() if hasattr(math, n)})
_CREATION = {
    "zeros": _zeros,
    "empty": _zeros,
    "ones": _ones,
    "full": _full,
    "eye": _eye,
    "identity": _eye,
    "array": _array,
    **dict.fromkeys(("asarray", "asanyarray", "ascontiguousarray", "asfortranarray", "asarray_chkfinite"), _asarray),
    "arange": _arange,
    "vectorize": _vectorize,
    "float64": _Float64,
    "float32": _Float32,
    "r_": _Joined(np.r_),
    "c_": _Joined(np.c_),
}
# these take lists of arrays, and look into them
_OF_ARRAYS = (
    "concatenate",
    "concat",
    "stack",
    "hstack",
    "vstack",
    "dstack",
    "column_stack",
    "block",
    "select",
    "piecewise",
    "choose",
    "multi_dot",
)


def _listing(module: types.ModuleType) -> dict[str, Any]:
    """The functions of a part of NumPy that are in the table, looking into lists."""
    return {
        name: _listed(value)
        for name, value in vars(module).items()  # not dir: getattr would import what NumPy itself puts off
        if isinstance(value, types.FunctionType | type(np.sum)) and value in FUNCTIONS and name not in _OF_ARRAYS
    }


_CREATION = _listing(np) | _CREATION
_CREATION |= {part.__name__.rpartition(".")[2]: _Library(part, _listing(part)) for part in (np.linalg, np.fft)}
_numpy = _Library(np, _CREATION)
STANDINS: dict[Any, Any] = {
    float: _Float,
    **{getattr(np, n): f for n, f in _CREATION.items() if hasattr(np, n)},
    **{getattr(part, n): f for part in (np.linalg, np.fft) for n, f in _listing(part).items()},
    **{getattr(math, n): getattr(_math, n) for n in _MATH if hasattr(math, n)},
}
