"""NumPy, math, SciPy and ``float`` as a traced function sees them.

NumPy asks its arguments how a function of theirs is done; but not ``np.zeros``, ``np.float64`` and their like, and
nothing in ``math`` or ``scipy``. For these, a stand-in keeps the trace. Nothing is patched: a traced function looks its
globals up through `koubai.graph.mirror`, which answers with the stand-ins of this file.
"""

from __future__ import annotations

import cmath
import functools
import importlib
import itertools
import math
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import koubai.graph.numpy  # noqa: F401 its files fill the table
from koubai.graph.numpy.arguments import array, holds_traced, implements
from koubai.graph.numpy.creation import new_array
from koubai.graph.traced import FUNCTIONS, Traced, constant_array, number_for_text, python_number, value_of
from koubai.graph.tracer import Trace, current_trace
from koubai.graph.user_code import untraceable

__all__ = ["IMPURE", "STANDINS", "STANDIN_MODULES", "SciPy", "Vectorize", "scipy_standin"]


class _Library(types.ModuleType):
    """NumPy or math, with stand-ins in the places where they don't ask the argument."""

    def __init__(self, module: types.ModuleType, standins: dict[str, Any]) -> None:
        super().__init__(module.__name__)
        self.__dict__.update({n: f for n, f in vars(module).items() if isinstance(f, np.ufunc)})  # found at once
        self.__dict__.update(standins)
        self.__dict__["_module"] = module

    def __getattr__(self, name: str) -> Any:
        if name in IMPURE and (trace := current_trace()) is not None:
            trace.unwatch(f"it uses {self.__name__}.{name}")
        value = getattr(self.__dict__["_module"], name)
        return SciPy(value) if name == "polynomial" and self.__name__ == "numpy" else value


# names of NumPy's that read what no argument tells
IMPURE = frozenset(
    [
        *("random", "load", "loadtxt", "genfromtxt", "fromfile", "memmap", "lib", "save", "savez", "savetxt"),
        *("seterr", "seterrcall", "geterr", "set_printoptions", "get_printoptions", "printoptions"),
    ]
)


class SciPy(types.ModuleType):
    """A module of SciPy's, or of ``numpy.polynomial``, with twins for what asks no argument."""

    def __init__(self, module: types.ModuleType) -> None:
        super().__init__(module.__name__)
        self.__dict__["_module"] = module

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.__dict__["_module"], name)
        found = scipy_standin(value)
        if found is None and callable(value) and self.__name__.startswith(_IMPURE_PARTS):
            trace = current_trace()
            if trace is not None:
                trace.unwatch(f"it uses {self.__name__}.{name}")
        return value if found is None else found


# parts of SciPy's whose functions may read what no argument tells, or draw at random
_IMPURE_PARTS = ("scipy.stats", "scipy.optimize", "scipy.io", "scipy.datasets")

# the part of SciPy -> the file in graph/scipy that holds its twins, loaded when they are first asked for
_TWINS = {
    **{name: name for name in ("special", "stats", "linalg", "integrate", "spatial", "signal", "interpolate")},
    "ndimage": "signal",
}


def scipy_standin(value: Any) -> Any:
    """Return what a traced function meets in place of a module, function, class or object of SciPy's, of
    ``numpy.polynomial`` or of statistics; None: it itself, or it is another's."""
    if isinstance(value, types.FunctionType) and value.__module__ == "statistics" and value.__name__ in _STATISTICS:
        return getattr(_statistics(), value.__name__)
    if isinstance(value, types.ModuleType) and value.__name__ == "statistics":
        return _statistics()
    if isinstance(value, types.ModuleType):
        return SciPy(value) if value.__name__.startswith(("scipy", "numpy.polynomial")) else None
    if isinstance(value, types.MethodType):
        owner = scipy_standin(value.__self__)
        return None if owner is None else getattr(owner, value.__name__)
    # a class made in C for a namespace without a name has no module
    place = getattr(value if isinstance(value, types.FunctionType | type) else type(value), "__module__", None)
    if isinstance(place, str) and place.startswith("numpy.polynomial"):
        return importlib.import_module("koubai.graph.numpy.polynomial_bases").standin(value)
    if not isinstance(place, str) or not place.startswith("scipy."):
        return None
    file = _TWINS.get(place.split(".")[1])
    return None if file is None else importlib.import_module(f"koubai.graph.scipy.{file}").standin(value)


# --- stand-ins
class _NumberType(type):
    """The type of the stand-ins for float types, which answer and compare as the ``original`` does."""

    original: Any
    dtype: np.dtype[Any]  # so that the stand-in is understood as a dtype

    def __call__(cls, x: Any = 0.0) -> Any:
        if not holds_traced(x):
            trace = current_trace()
            if isinstance(x, str) and trace is not None and trace.written_as_text:
                raise untraceable("the text of a traced value is turned back into a number", "use the value itself")
            own = type(x).__dict__.get("__float__")
            if (
                isinstance(own, types.FunctionType) and type(number := own(x)) is Traced
            ):  # float itself would read its number
                return cls(number)
            return cls.original(x)
        y = array(x)
        if cls.original is float and y.shape:
            if y.size != 1:
                raise TypeError("only length-1 arrays can be converted to Python scalars")
            y = y.reshape(())
        y = y.astype(cls.dtype) if y.dtype != cls.dtype else y  # np.float64 of an array is that array, not a copy
        return python_number(y) if cls.original is float else y

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


class _ComplexType(_NumberType):
    def __call__(cls, real: Any = 0.0, imag: Any = 0.0) -> Any:
        if not holds_traced((real, imag)):
            return complex(real) if type(imag) is float and imag == 0.0 else complex(real, imag)
        return array(real) + 1j * array(imag)


class _Complex(complex, metaclass=_ComplexType):
    """``complex`` in the same way."""

    original, dtype = complex, np.dtype(np.complex128)


class _TypeType(type):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return args[0].__class__ if len(args) == 1 and type(args[0]) is Traced else type(*args, **kwargs)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, type)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, type)

    def __eq__(cls, other: object) -> bool:
        return other is type or other is cls

    def __hash__(cls) -> int:
        return hash(type)


class _Type(type, metaclass=_TypeType):
    """``type`` as traced code meets it: of a traced number it tells the type of that number."""

    original = type


def _running() -> Trace:
    """Return the trace that is running."""
    trace = current_trace()
    if trace is None:
        raise untraceable(
            "a function made while tracing runs after it", "don't keep functions made inside the function"
        )
    return trace


def _zeros(shape: Any, dtype: Any = np.float64, order: str = "C", *, device: Any = None, like: Any = None) -> Any:
    return _assignable(shape, dtype, 0.0, order, like)


def _ones(shape: Any, dtype: Any = np.float64, order: str = "C", *, device: Any = None, like: Any = None) -> Any:
    return _assignable(shape, dtype, 1.0, order, like)


def _full(
    shape: Any, fill_value: Any, dtype: Any = None, order: str = "C", *, device: Any = None, like: Any = None
) -> Any:
    kind = np.result_type(array(fill_value).dtype) if dtype is None else dtype
    return _assignable(shape, kind, fill_value, order, like)


def _without_like(like: Any) -> None:
    if like is not None:
        raise untraceable("an array made with like= can't be traced", "leave like out")


def _assignable(shape: Any, dtype: Any, value: Any, order: Any, like: Any) -> Any:
    _without_like(like)
    kind = np.dtype(dtype)
    if kind.kind not in "fiubc":
        return np.full(shape, value, kind)
    held = np.zeros(shape, kind, order) if order not in ("C", None) else None  # in the layout that views depend on
    return new_array(_running(), shape, kind, value, held)


def _eye(
    N: Any,
    M: Any = None,
    k: int = 0,
    dtype: Any = np.float64,
    order: str = "C",
    *,
    device: Any = None,
    like: Any = None,
) -> Any:
    _without_like(like)
    plain: Any = np.eye  # its type wants the order spelled out
    return constant_array(_running(), plain(int(N), None if M is None else int(M), int(k), np.dtype(dtype), order))


def _identity(n: Any, dtype: Any = np.float64, *, like: Any = None) -> Any:
    return _eye(n, dtype=np.float64 if dtype is None else dtype, like=like)


def _array(
    object: Any,
    dtype: Any = None,
    *,
    copy: Any = True,
    order: str = "K",
    subok: bool = False,
    ndmin: int = 0,
    like: Any = None,
) -> Any:
    _without_like(like)
    if type(object) is Traced:
        y = object if dtype is None else object.astype(dtype)
        y = y.copy(order) if copy and y is object else y
    elif holds_traced(object):
        y = array(object)
        y = y if dtype is None else y.astype(dtype)
    else:
        kind = None if dtype is None else np.dtype(dtype)
        plain: Any = np.array(object, dtype=kind, copy=True, order=order, ndmin=ndmin)  # type: ignore[call-overload]
        if plain.dtype.kind not in "fiubc":
            return plain
        y = constant_array(_running(), plain, plain)  # an array even if it is 0-d, so that it can be written into
    return y.reshape((1,) * (ndmin - y.ndim) + y.shape) if y.ndim < ndmin else y


def _asarray(
    a: Any, dtype: Any = None, order: Any = None, *, device: Any = None, copy: Any = None, like: Any = None
) -> Any:
    _without_like(like)
    if type(a) is not Traced and not holds_traced(a):
        return np.asarray(a, None if dtype is None else np.dtype(dtype), order, copy=copy)
    y = array(a)
    if dtype is not None and y.dtype != np.dtype(dtype):
        return y.astype(dtype)
    if y is not a:
        return y
    held: Any = value_of(y)
    moves = isinstance(held, np.ndarray) and order in ("C", "F")
    fits = not moves or getattr(held.flags, f"{order.lower()}_contiguous")
    return y if fits and not copy else y.copy(order or "K")


def _ascontiguousarray(a: Any, dtype: Any = None, *, like: Any = None) -> Any:
    y = _asarray(a, dtype, "C", like=like)
    return y if y.ndim else y.reshape((1,))


def _asfortranarray(a: Any, dtype: Any = None, *, like: Any = None) -> Any:
    return _asarray(a, dtype, "F", like=like)


def _asarray_chkfinite(a: Any, dtype: Any = None, order: Any = None) -> Any:
    y = _asarray(a, dtype)
    if y.dtype.kind in "fc" and not np.all(np.isfinite(y)):
        raise ValueError("array must not contain infs or NaNs")
    return y


def _arange(*args: Any, dtype: Any = None, device: Any = None, like: Any = None, **ends: Any) -> Any:
    _without_like(like)
    kind = None if dtype is None else np.dtype(dtype)
    if not holds_traced([*args, *ends.values()]):
        return np.arange(*args, dtype=kind, **ends)
    names = ("stop",) if len(args) == 1 and "stop" not in ends else ("start", "stop", "step")
    given = {"start": 0, "step": 1} | dict(zip(names, args, strict=False)) | ends
    start, step = given["start"], given["step"]
    y = start + step * np.arange(max(0, math.ceil((given["stop"] - start) / step)))
    return y if kind is None else y.astype(kind)


def _fromiter(iter: Any, dtype: Any, count: int = -1, *, like: Any = None) -> Any:
    _without_like(like)
    values = list(iter if count < 0 else itertools.islice(iter, count))
    if 0 <= len(values) < count:
        raise ValueError(f"iterator too short: Expected {count} but iterator had only {len(values)} items.")
    return array(values).astype(dtype) if holds_traced(values) else _array(values, dtype)


class Vectorize:
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


def _ndenumerate(arr: Any) -> Iterator[tuple[tuple[int, ...], Any]]:
    y = array(arr)
    if not holds_traced(y):
        yield from np.ndenumerate(arr)
    else:
        for index in np.ndindex(y.shape):
            yield index, y[index]


class _frompyfunc:
    """``np.frompyfunc`` made inside the traced function: it is traced once for every element."""

    def __init__(self, func: Any, nin: int, nout: int, **kwargs: Any) -> None:
        self.plain = np.frompyfunc(func, nin, nout, **kwargs)
        self.elements = Vectorize(func)
        self.nout = nout

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.nout != 1 or kwargs or not holds_traced(args):
            return self.plain(*args, **kwargs)
        return self.elements(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plain, name)


def _by_numpy(original: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def standin(*args: Any, **kwargs: Any) -> Any:
        if not holds_traced(args):
            return original(*args, **kwargs)
        if original is math.prod:  # it multiplies by the numbers' own operator
            return function(*args, **kwargs)
        # Python's math computes in float64, and gives a Python number
        wide = [a.astype(np.float64) if type(a) is Traced and a.dtype == np.float32 else a for a in args]
        y = function(*wide, **kwargs)
        if type(y) is not Traced:
            return tuple([_as_python(part) for part in y]) if type(y) is tuple else y
        if original in _RAISING and not np.isfinite(y):  # guarded: elsewhere it may raise, or no longer
            original(*[value_of(a) if type(a) is Traced else a for a in args])
        return _as_python(y)

    return standin


def _as_python(y: Any) -> Any:
    return python_number(y) if type(y) is Traced else y


# functions of math that raise for some finite numbers, where NumPy's give nan or inf
_RAISING = {
    getattr(math, name)
    for name in (
        *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "sinh", "cosh", "acos", "asin", "acosh"),
        *("atanh", "fmod", "pow", "gamma", "lgamma"),
    )
    if hasattr(math, name)
}


@implements(np.array2string, np.array_repr, np.array_str)
def _text(a: Any, *args: Any, **kwargs: Any) -> str:
    return np.array2string(number_for_text(a), *args, **kwargs)


def _errstate(**kwargs: Any) -> Any:
    if not {"ignore", "warn"}.issuperset(kwargs.values()) and (trace := current_trace()) is not None:
        trace.unwatch("np.errstate makes NumPy raise")
    return np.errstate(**kwargs)


def _listed(function: Callable[..., Any]) -> Callable[..., Any]:
    """``np.sum([a, b])`` and its like: NumPy does not search lists for traced values."""

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


def _frexp(x: Any) -> Any:
    exponent = math.frexp(value_of(x))[1]
    if x == 0 or (abs(x) >= 2.0 ** (exponent - 1) and abs(x) < 2.0**exponent):  # guarded: the exponent is a constant
        return x * 2.0**-exponent, exponent
    return x, exponent  # nan and inf


def _isclose(a: Any, b: Any, *, rel_tol: float = 1e-9, abs_tol: float = 0.0) -> bool:
    return bool(a == b) or bool(abs(a - b) <= max(rel_tol * max(abs(a), abs(b)), abs_tol))


_MATH = {
    "frexp": _frexp,
    "isclose": _isclose,
    "ldexp": lambda x, i: x * 2.0**i,
    "modf": lambda x: (x - np.trunc(x), np.trunc(x)),
    "remainder": lambda x, y: x - np.rint(x / y) * y,
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
        name: lambda x, special=special: getattr(importlib.import_module("scipy.special"), special)(x)
        for name, special in (("erf", "erf"), ("erfc", "erfc"), ("gamma", "gamma"), ("lgamma", "gammaln"))
    },
}


def _mean_of_squares(values: Any, center: Any, freedom: int) -> Any:
    x = array(list(values))
    return np.sum((x - (np.mean(x) if center is None else center)) ** 2) / (x.size - freedom)


_STATISTICS: dict[str, Callable[..., Any]] = {
    "mean": lambda data: np.mean(array(list(data))),
    "fmean": lambda data, weights=None: np.average(array(list(data)), weights=weights),
    "geometric_mean": lambda data: np.exp(np.mean(np.log(array(list(data))))),
    "harmonic_mean": lambda data, weights=None: 1 / np.average(1 / array(list(data)), weights=weights),
    "median": lambda data: np.median(array(list(data))),
    "median_low": lambda data: sorted(data)[(len(data) - 1) // 2],
    "median_high": lambda data: sorted(data)[len(data) // 2],
    "variance": lambda data, xbar=None: _mean_of_squares(data, xbar, 1),
    "pvariance": lambda data, mu=None: _mean_of_squares(data, mu, 0),
    "stdev": lambda data, xbar=None: np.sqrt(_mean_of_squares(data, xbar, 1)),
    "pstdev": lambda data, mu=None: np.sqrt(_mean_of_squares(data, mu, 0)),
}
_CMATH: dict[str, Callable[..., Any]] = {
    **{name: getattr(np, name) for name in ("exp", "log10", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh")},
    "log": lambda z, base=None: np.log(z) if base is None else np.log(z) / np.log(base),
    "phase": lambda z: np.arctan2(np.imag(z), np.real(z)),
    "polar": lambda z: (np.abs(z), np.arctan2(np.imag(z), np.real(z))),
    "rect": lambda r, phi: r * np.cos(phi) + 1j * (r * np.sin(phi)),
    **{name: getattr(np, name) for name in ("isfinite", "isnan", "isinf")},
}


def _of_numbers(original: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of Python's numbers, or of a list of them, written in NumPy's terms if they are traced."""

    @functools.wraps(original)
    def standin(*args: Any, **kwargs: Any) -> Any:
        args = tuple([list(a) if isinstance(a, Iterator) else a for a in args])
        if not holds_traced(args):
            return original(*args, **kwargs)
        y = function(*[array(a) + 0j if original.__module__ == "cmath" else a for a in args], **kwargs)
        return tuple([_as_python(part) for part in y]) if type(y) is tuple else _as_python(y)

    return standin


def _library_of(module: types.ModuleType, functions: dict[str, Callable[..., Any]]) -> _Library:
    return _Library(module, {n: _of_numbers(getattr(module, n), f) for n, f in functions.items() if hasattr(module, n)})


def _statistics() -> _Library:
    """Return the stand-in for the module ``statistics``, which is loaded when it is first used."""
    return _library_of(importlib.import_module("statistics"), _STATISTICS)


CMATH = _library_of(cmath, _CMATH)
MATH = _Library(math, {n: _by_numpy(getattr(math, n), f) for n, f in _MATH.items() if hasattr(math, n)})
_CREATION = {
    "zeros": _zeros,
    "empty": _zeros,
    "ones": _ones,
    "full": _full,
    "eye": _eye,
    "identity": _identity,
    "fromiter": _fromiter,
    "array": _array,
    **dict.fromkeys(("asarray", "asanyarray"), _asarray),
    "ascontiguousarray": _ascontiguousarray,
    "asfortranarray": _asfortranarray,
    "asarray_chkfinite": _asarray_chkfinite,
    "arange": _arange,
    "vectorize": Vectorize,
    "errstate": _errstate,
    "ndenumerate": _ndenumerate,
    "frompyfunc": _frompyfunc,
    "float64": _Float64,
    "float32": _Float32,
    "r_": _Joined(np.r_),
    "c_": _Joined(np.c_),
}
# these take lists of arrays, and search them
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
    "histogram2d",
)


def _listing(module: types.ModuleType) -> dict[str, Any]:
    """The functions of a part of NumPy that are in the table, searching lists."""
    return {
        name: _listed(value)
        for name, value in vars(module).items()  # not dir: getattr would import what NumPy itself puts off
        if isinstance(value, types.FunctionType | type(np.sum)) and value in FUNCTIONS and name not in _OF_ARRAYS
    }


_CREATION = _listing(np) | _CREATION
_CREATION |= {part.__name__.rpartition(".")[2]: _Library(part, _listing(part)) for part in (np.linalg, np.fft)}
NUMPY = _Library(np, _CREATION)
STANDIN_MODULES = (_Library, SciPy)
STANDINS: dict[Any, Any] = {
    np: NUMPY,
    math: MATH,
    float: _Float,
    complex: _Complex,
    type: _Type,
    cmath: CMATH,
    **{getattr(cmath, n): getattr(CMATH, n) for n in _CMATH},
    **{getattr(np, n): f for n, f in _CREATION.items() if hasattr(np, n)},
    **{getattr(part, n): f for part in (np.linalg, np.fft) for n, f in _listing(part).items()},
    **{getattr(math, n): getattr(MATH, n) for n in _MATH if hasattr(math, n)},
}
