"""Ufuncs with keywords, their methods, elementwise functions beside them, and what is not in the table."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from koubai.graph.numpy.arguments import array, finish, implements, refuse
from koubai.graph.ops import OPS, UFUNCS, apply
from koubai.graph.traced import FUNCTIONS, Traced, concretize, normalized, overwrite
from koubai.graph.user_code import untraceable

__all__ = ["conjugated", "imag"]


def _ufunc(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    # order and subok say how the result is stored; a casting that NumPy refuses is refused when f itself is called
    kwargs = {
        k: v for k, v in kwargs.items() if (v is not None or k == "axis") and k not in ("casting", "order", "subok")
    }
    out = kwargs.pop("out", None)
    written = FUNCTIONS.get((ufunc, method))
    if written is not None:
        return written(*inputs, **kwargs) if out is None else finish(written(*inputs, **kwargs), None, out)
    if method != "__call__":
        return _unknown(getattr(ufunc, method), inputs, kwargs)
    op = UFUNCS.get(ufunc)
    if op is None and ufunc not in FUNCTIONS:
        if "scipy.special" in sys.modules and "koubai.graph.scipy.special" not in sys.modules:
            importlib.import_module("koubai.graph.scipy.special")  # its rows enter the table when they are first needed
            return _ufunc(ufunc, method, inputs, {**kwargs, "out": out})
        return _unknown(ufunc, inputs, kwargs)
    dtype = kwargs.pop("dtype", None)
    if dtype is not None and np.dtype(dtype).kind == "b":  # of a comparison's answer, not of what is compared
        dtype = None
    where = kwargs.pop("where", True)
    if kwargs:
        refuse(ufunc.__name__, *next(iter(kwargs.items())))
    arrays = [array(x) if isinstance(x, list | tuple) else x for x in inputs]
    if dtype is not None:
        arrays = [array(x).astype(np.dtype(dtype)) for x in arrays]
    y = apply(op.name, *arrays) if op is not None else FUNCTIONS[ufunc](*arrays)
    if where is not True:
        if out is None:
            refuse(ufunc.__name__, "where", "a mask, but without out")
        target = out[0] if isinstance(out, tuple) else out
        y = np.where(where, y, target)
    return finish(y, None, out)


def _unknown(function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """A function without an entry: computed outside the graph if no derivative can be lost, refused otherwise."""
    name = getattr(function, "__name__", str(function))

    def plain(value: Any) -> Any:
        if type(value) is Traced:
            fix = "write it with functions that koubai knows, or pass method='adaptive'"
            looked = concretize(value, f"np.{name} is not known to koubai: it", fix)
            if isinstance(looked, np.ndarray):
                looked.flags.writeable = False  # a write into the copy would be lost
            return looked
        if isinstance(value, list | tuple):
            return type(value)(plain(part) for part in value)
        return value

    return function(*[plain(a) for a in args], **{k: plain(v) for k, v in kwargs.items()})


FUNCTIONS["ufunc"] = _ufunc
FUNCTIONS["unknown"] = _unknown
UFUNCS[np.power] = OPS["power"]


@implements(np.float_power)
def float_power(a: Any, b: Any) -> Any:
    return array(a).astype(np.float64) ** (b if isinstance(b, int | float) else array(b).astype(np.float64))


@implements(np.divmod)
def divmod_(a: Any, b: Any) -> Any:
    return np.floor_divide(a, b), np.remainder(a, b)


@implements(np.modf)
def modf(x: Any) -> Any:
    whole = np.trunc(x)
    return x - whole, whole


@implements(np.frexp)
def frexp(x: Any) -> Any:
    exponent = apply("exponent", x)
    return x * np.exp2(-exponent.astype(x.dtype)), exponent


@implements(np.ldexp)
def ldexp(x: Any, n: Any) -> Any:
    return x * np.exp2(np.asarray(n, dtype=x.dtype) if type(n) is not Traced else n.astype(x.dtype))


# --- parts of complex numbers
@implements(np.real)
def real(val: Any) -> Any:
    return apply("real", val) if val.dtype.kind == "c" else val


@implements(np.imag)
def imag(val: Any) -> Any:
    return apply("imag", val) if val.dtype.kind == "c" else np.zeros_like(val)


@implements(np.real_if_close)
def real_if_close(a: Any, tol: float = 100) -> Any:
    if a.dtype.kind != "c":
        return a
    tol = tol * np.finfo(a.dtype).eps if tol > 1 else tol
    return real(a) if np.all(np.absolute(imag(a)) < tol) else a


@implements(np.angle)
def angle(z: Any, deg: bool = False) -> Any:
    a = np.arctan2(imag(z), real(z))
    return a * (180.0 / math.pi) if deg else a


@implements(np.sign)
def sign(x: Any) -> Any:
    if x.dtype.kind != "c":
        return apply("sign", x)
    size = np.absolute(x)
    return x / np.where(size == 0, 1.0, size)


del UFUNCS[np.sign]  # its row holds for real numbers only


def conjugated(x: Any) -> Any:
    """What ``x.conj()`` is: of real numbers they themselves."""
    return np.conjugate(x) if x.dtype.kind == "c" else x


FUNCTIONS[np.conjugate] = conjugated


@implements(np.nan_to_num)
def nan_to_num(x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    if x.dtype.kind == "c":
        raise untraceable("np.nan_to_num of complex numbers has no rule here", "treat .real and .imag by themselves")
    info = np.finfo(x.dtype)
    y = np.where(np.isnan(x), nan, x)
    y = np.where(y == math.inf, float(info.max) if posinf is None else posinf, y)
    y = np.where(y == -math.inf, float(info.min) if neginf is None else neginf, y)
    return y if copy or not x.shape else overwrite(x, y)


@implements(np.round, np.around)
def round_(a: Any, decimals: int = 0, out: Any = None) -> Any:
    if decimals == 0:
        return finish(np.rint(a), None, out)
    scale = 10.0 ** abs(decimals)
    return finish(np.rint(a * scale) / scale if decimals > 0 else np.rint(a / scale) * scale, None, out)


if hasattr(np, "fix"):  # deprecated since NumPy 2.5; a NumPy without it must not keep koubai from being imported

    @implements(np.fix)
    def fix(x: Any, out: Any = None) -> Any:
        return finish(np.trunc(x), None, out)


@implements(np.clip)
def clip(a: Any, a_min: Any = None, a_max: Any = None, out: Any = None, *, min: Any = None, max: Any = None) -> Any:
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    y = a
    if low is not None:
        y = np.maximum(y, low)
    if high is not None:
        y = np.minimum(y, high)
    return finish(+y if y is a else y, None, out)


def _outer(ufunc: np.ufunc) -> Callable[..., Any]:
    def outer(a: Any, b: Any, **kw: Any) -> Any:
        a, b = array(a), array(b)
        return ufunc(np.reshape(a, a.shape + (1,) * b.ndim), b, **kw)

    return outer


for _call in list(UFUNCS):
    if _call.nin == 2 and _call.signature is None:
        FUNCTIONS[_call, "outer"] = _outer(_call)


def _at(ufunc: np.ufunc) -> Callable[..., Any]:
    def at(a: Any, indices: Any, b: Any = None) -> None:
        if type(a) is not Traced:
            raise untraceable(
                f"np.{ufunc.__name__}.at writes into an array made elsewhere", "make it inside the function"
            )
        index, arrays = normalized(a, indices)
        overwrite(a, apply("add_at", a, b if ufunc is np.add else -b, *arrays, index=index))

    return at


FUNCTIONS[np.add, "at"] = _at(np.add)
FUNCTIONS[np.subtract, "at"] = _at(np.subtract)
