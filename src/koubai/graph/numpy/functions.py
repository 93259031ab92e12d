"""NumPy functions written in primitives: what a traced call of ``np.name`` records.

How to add one: write a function with NumPy's own signature, in terms of operators, of functions already in the table
and of ``apply("primitive", …)``, under ``@implements(np.name)``. It may be called on traced and on plain arrays alike,
but at least one argument is traced. An argument that can't be honoured raises through `refuse`. Its derivative follows
from the primitives'.
"""

from __future__ import annotations

import importlib
import itertools
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from koubai.graph.ops import OPS, UFUNCS, Index, Shape, apply
from koubai.graph.traced import FUNCTIONS, Traced, normalized, record
from koubai.graph.user_code import untraceable

__all__ = [
    "array",
    "axes_of",
    "conjugated",
    "finish",
    "holds_traced",
    "implements",
    "new_array",
    "normalized_axis",
    "refuse",
]

F = TypeVar("F", bound=Callable[..., Any])


def implements(*functions: Any) -> Callable[[F], F]:
    """Enter the decorated function into the table under each of ``functions``."""

    def enter(function: F) -> F:
        for name in functions:
            FUNCTIONS[name] = function
        return function

    return enter


def refuse(function: str, argument: str, value: Any) -> None:
    raise untraceable(f"np.{function} with {argument}={value!r} can't be traced", f"leave {argument} out")


def array(x: Any) -> Any:
    """Return ``x`` as a traced or plain array; nested sequences with traced parts are stacked."""
    if type(x) is Traced or isinstance(x, np.ndarray | np.generic):
        return x
    if isinstance(x, list | tuple) and holds_traced(x):
        parts = [array(part) for part in x]
        dtype = np.result_type(*(part.dtype if hasattr(part, "dtype") else np.asarray(part).dtype for part in parts))
        parts = [part if part.dtype == dtype else part.astype(dtype) for part in (_typed(p, dtype) for p in parts)]
        return apply("stack", *parts, axis=0)
    return np.asarray(x)


def _typed(part: Any, dtype: Any) -> Any:
    return part if hasattr(part, "dtype") else np.asarray(part, dtype)[()]


def holds_traced(x: Any) -> bool:
    if isinstance(x, list | tuple):
        return any(holds_traced(part) for part in x)
    return type(x) is Traced


def normalized_axis(axis: int, ndim: int) -> int:
    axis = int(axis)
    if not -ndim <= axis < ndim:
        raise np.exceptions.AxisError(axis, ndim)
    return axis % ndim


def axes_of(axis: Any, ndim: int) -> tuple[int, ...] | None:
    if axis is None:
        return None
    if type(axis) is int:
        return (normalized_axis(axis, ndim),)
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    result = tuple(sorted(normalized_axis(a, ndim) for a in axes))
    if len(set(result)) != len(result):
        raise ValueError("duplicate value in 'axis'")
    return result if ndim else None


def finish(y: Any, dtype: Any, out: Any) -> Any:
    """Honour ``dtype=`` and ``out=`` of a NumPy call whose result is ``y``."""
    if dtype is not None:
        y = y.astype(np.dtype(dtype))
    if out is None:
        return y
    if isinstance(out, tuple):
        (out,) = out
    if type(out) is not Traced:
        raise untraceable(
            "out= is an array made outside the function", "make it inside with np.empty, or leave out= out"
        )
    return out._write(y)


# --- ufuncs with keywords, their methods, and functions that are not in the table
def _ufunc(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    # order and subok say how the result lies in memory; a casting that NumPy refuses is refused when f itself is called
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
    """A function without an entry: computed outside the graph where no derivative can be lost, refused otherwise."""
    name = getattr(function, "__name__", str(function))

    def plain(value: Any) -> Any:
        if type(value) is Traced:
            fix = "write it with functions that koubai knows, or pass method='adaptive'"
            looked = value._look(f"np.{name} is not known to koubai: it", fix)
            if isinstance(looked, np.ndarray):
                looked.flags.writeable = False  # a write into the copy would be lost
            return looked
        if isinstance(value, list | tuple):
            return type(value)(plain(part) for part in value)
        return value

    return function(*[plain(a) for a in args], **{k: plain(v) for k, v in kwargs.items()})


FUNCTIONS["ufunc"] = _ufunc
FUNCTIONS["unknown"] = _unknown
FUNCTIONS["array"] = array
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


@implements(np.isreal)
def isreal(x: Any) -> Any:
    return imag(x) == 0


@implements(np.iscomplex)
def iscomplex(x: Any) -> Any:
    return imag(x) != 0


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


@implements(np.vecdot)
def vecdot(a: Any, b: Any) -> Any:
    return np.sum(conjugated(array(a)) * array(b), axis=-1)


@implements(np.sinc)
def sinc(x: Any) -> Any:
    t = math.pi * array(x)
    # the Taylor series where the quotient would be 0/0: its derivatives are right at 0 too
    near = np.absolute(t) < 1e-3
    safe = np.where(near, 1.0, t)
    return np.where(near, 1.0 - t * t / 6.0 + t**4 / 120.0, np.sin(safe) / safe)


@implements(np.nan_to_num)
def nan_to_num(x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    if x.dtype.kind == "c":
        raise untraceable("np.nan_to_num of complex numbers has no rule here", "treat .real and .imag by themselves")
    info = np.finfo(x.dtype)
    y = np.where(np.isnan(x), nan, x)
    y = np.where(y == math.inf, float(info.max) if posinf is None else posinf, y)
    y = np.where(y == -math.inf, float(info.min) if neginf is None else neginf, y)
    return y if copy or not x.shape else x._write(y)


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


@implements(np.where)
def where(condition: Any, *branches: Any) -> Any:
    if not branches:
        return nonzero(condition)
    a, b = (array(v) if isinstance(v, list | tuple) else v for v in branches)
    if not isinstance(condition, bool | np.bool_) and condition.dtype != np.bool_:
        condition = condition != 0
    return apply("where", condition, a, b)


@implements(np.select)
def select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Any:
    if len(condlist) != len(choicelist):
        raise ValueError("list of cases must be same length as list of conditions")
    y = default
    for condition, choice in zip(condlist[::-1], choicelist[::-1], strict=True):
        y = np.where(condition, choice, y)
    return y


@implements(np.piecewise)
def piecewise(x: Any, condlist: Any, funclist: Any, *args: Any, **kw: Any) -> Any:
    if type(condlist) is Traced or not isinstance(condlist, list | tuple):
        condlist = list(condlist) if np.ndim(condlist) > np.ndim(x) else [condlist]
    functions = list(funclist)
    if len(functions) == len(condlist) + 1:
        y = _branch(functions.pop(), x, args, kw)
    else:
        y = np.zeros_like(x)
    for condition, function in zip(condlist, functions, strict=True):
        # each branch sees only points where it holds, as in NumPy; elsewhere a point that is safe if any is
        y = _chosen(condition, function, x, args, kw, y)
    return y


def _branch(function: Any, x: Any, args: Any, kw: Any) -> Any:
    return function(x, *args, **kw) if callable(function) else function


def _chosen(condition: Any, function: Any, x: Any, args: Any, kw: Any, otherwise: Any) -> Any:
    if not callable(function) or x.ndim == 0:
        return np.where(condition, _branch(function, x, args, kw), otherwise)
    y = np.zeros_like(x) + otherwise
    y[condition] = function(x[condition], *args, **kw)
    return y


# --- reductions
def _reduce(name: str) -> Callable[..., Any]:
    op = OPS[name]

    def reduction(
        a: Any,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        keepdims: Any = False,
        initial: Any = np._NoValue,
        where: Any = True,
    ) -> Any:
        x = array(a)
        if dtype is not None:
            x = x.astype(np.dtype(dtype))
        if where is not True and where is not np._NoValue:
            neutral = {"sum": 0.0, "prod": 1.0}.get(name, initial)
            if neutral is np._NoValue or neutral is None:
                raise ValueError(
                    f"reduction operation {name} does not have an identity, so to use a where mask one has to specify "
                    "'initial'"
                )
            x = np.where(where, x, neutral)
        if not x.shape and type(axis) is int and axis in (0, -1):  # which NumPy's reductions take of a number, too
            axis = None
        params = {"axis": axes_of(axis, len(x.shape)), "keepdims": bool(keepdims) and keepdims is not np._NoValue}
        y = record(op, (x,), params) if type(x) is Traced else op.call(x, **params)
        if initial is not np._NoValue and initial is not None:
            join = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}[name]
            y = join(y, initial)
        return finish(y, None, out)

    return reduction


_SUM, _PROD = (_reduce(name) for name in ("sum", "prod"))
implements(np.sum)(_SUM)
implements(np.prod)(_PROD)


def _extreme(name: str) -> Callable[..., Any]:
    reduction = _reduce(name)

    def extreme(
        a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = np._NoValue, where: Any = True
    ) -> Any:
        return reduction(a, axis, None, out, keepdims, initial, where)

    return extreme


_MAX, _MIN = _extreme("max"), _extreme("min")
implements(np.max, np.amax)(_MAX)
implements(np.min, np.amin)(_MIN)


def _reduce_method(name: str) -> Callable[..., Any]:
    reduction = _reduce(name)

    def method(
        a: Any,
        axis: Any = 0,
        dtype: Any = None,
        out: Any = None,
        keepdims: Any = False,
        initial: Any = np._NoValue,
        where: Any = True,
    ) -> Any:
        return reduction(a, axis, dtype, out, keepdims, initial, where)

    return method


for _reducible, _name in ((np.add, "sum"), (np.multiply, "prod"), (np.maximum, "max"), (np.minimum, "min")):
    FUNCTIONS[_reducible, "reduce"] = _reduce_method(_name)


def _any_all(name: str) -> Callable[..., Any]:
    def look(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True) -> Any:
        a = array(a)
        if where is not True and where is not np._NoValue:
            a = np.where(where, a != 0, name == "all")
        return finish(apply(name, a, axis=axes_of(axis, a.ndim), keepdims=bool(keepdims)), None, out)

    return look


implements(np.any)(_any_all("any"))
implements(np.all)(_any_all("all"))
FUNCTIONS[np.logical_or, "reduce"] = lambda a, axis=0, **kw: np.any(a, axis, **kw)
FUNCTIONS[np.logical_and, "reduce"] = lambda a, axis=0, **kw: np.all(a, axis, **kw)


@implements(np.count_nonzero)
def count_nonzero(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    y = np.sum(a != 0, axis=axis, keepdims=keepdims)
    if type(y) is Traced and y.shape == () and not isinstance(np.count_nonzero(0), np.generic):
        y._weak = True  # before NumPy 2.3 the answer is a Python number
    return y


def _length(shape: Shape, axis: tuple[int, ...] | None) -> int:
    return math.prod(shape) if axis is None else math.prod(shape[i] for i in axis)


@implements(np.mean)
def mean(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True
) -> Any:
    x = array(a)
    if dtype is None and x.dtype.kind in "bi":
        dtype = np.float64
    if where is not True and where is not np._NoValue:
        chosen = np.broadcast_to(where, x.shape)
        count = np.sum(chosen, axis=axis, keepdims=keepdims).astype(x.dtype)
        return finish(_SUM(x, axis, dtype, None, keepdims, where=chosen) / count, None, out)
    return finish(_SUM(x, axis, dtype, None, keepdims) / _length(x.shape, axes_of(axis, x.ndim)), None, out)


@implements(np.average)
def average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False) -> Any:
    x = array(a)
    keep = bool(keepdims) and keepdims is not np._NoValue
    if weights is None:
        y = mean(x, axis, keepdims=keep)
        return (y, np.zeros(y.shape) + _length(x.shape, axes_of(axis, x.ndim))) if returned else y
    w = array(weights)
    if w.shape != x.shape:
        if w.ndim != 1 or not isinstance(axis, int):
            refuse("average", "weights", "of another shape than a")
        w = np.moveaxis(np.broadcast_to(w, (*np.moveaxis(x, axis, -1).shape[:-1], w.shape[0])), -1, axis)
    kind = np.result_type(x.dtype, w.dtype, np.float64 if x.dtype.kind in "bi" else x.dtype)
    total = np.sum(w, axis=axis, dtype=kind, keepdims=keep)
    y = np.sum(x.astype(kind, copy=False) * w.astype(kind, copy=False), axis=axis, keepdims=keep) / total
    return (y, total) if returned else y


@implements(np.var)
def var(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = False,
    *,
    where: Any = True,
    mean: Any = np._NoValue,
    correction: Any = np._NoValue,
) -> Any:
    x = array(a) if dtype is None else array(a).astype(np.dtype(dtype))
    axes = axes_of(axis, x.ndim)
    if where is not True and where is not np._NoValue:
        chosen = np.broadcast_to(where, x.shape)
        center = FUNCTIONS[np.mean](x, axes, keepdims=True, where=chosen) if mean is np._NoValue else mean
        sizes = np.absolute(x - center)
        count = np.sum(chosen, axis=axes, keepdims=keepdims is True) - (
            ddof if correction is np._NoValue else correction
        )
        total = _SUM(sizes * sizes, axes, None, None, keepdims is True, where=chosen)
        return finish(total / np.maximum(count, 0).astype(total.dtype), None, out)
    ddof = ddof if correction is np._NoValue else correction
    center = FUNCTIONS[np.mean](x, axes, keepdims=True) if mean is np._NoValue else mean
    deviation = x - center
    squares = deviation * deviation if x.dtype.kind != "c" else np.absolute(deviation) ** 2
    y = np.sum(squares, axis=axes, keepdims=keepdims is True) / max(_length(x.shape, axes) - ddof, 0)
    return finish(y, None, out)


@implements(np.std)
def std(*args: Any, out: Any = None, **kwargs: Any) -> Any:
    return finish(np.sqrt(var(*args, **kwargs)), None, out)


@implements(np.ptp)
def ptp(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    return finish(_MAX(a, axis, keepdims=keepdims) - _MIN(a, axis, keepdims=keepdims), None, out)


def _cumulative(name: str) -> Callable[..., Any]:
    def cumulative(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
        x = array(a) if dtype is None else array(a).astype(np.dtype(dtype))
        if axis is None:
            x, axis = x.ravel() if x.ndim else x.reshape(1), 0
        return finish(apply(name, x, axis=normalized_axis(axis, x.ndim)), None, out)

    return cumulative


implements(np.cumsum)(_cumulative("cumsum"))
implements(np.cumprod)(_cumulative("cumprod"))
FUNCTIONS[np.add, "accumulate"] = lambda a, axis=0, **kw: np.cumsum(a, axis, **kw)
FUNCTIONS[np.multiply, "accumulate"] = lambda a, axis=0, **kw: np.cumprod(a, axis, **kw)


@implements((np.logaddexp, "reduce"))
def logsumexp(
    a: Any,
    axis: Any = 0,
    dtype: Any = None,
    out: Any = None,
    keepdims: bool = False,
    initial: Any = np._NoValue,
    where: Any = True,
) -> Any:
    x = array(a) if dtype is None else array(a).astype(np.dtype(dtype))
    if where is not True:
        x = np.where(where, x, -math.inf)
    y = apply("logsumexp", x, axis=axes_of(axis, x.ndim), keepdims=bool(keepdims))
    return finish(y if initial is np._NoValue or initial is None else np.logaddexp(y, initial), None, out)


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
        a._write(apply("add_at", a, b if ufunc is np.add else -b, *arrays, index=index))

    return at


FUNCTIONS[np.add, "at"] = _at(np.add)
FUNCTIONS[np.subtract, "at"] = _at(np.subtract)


# --- shapes
@implements(np.shape)
def shape(a: Any) -> Shape:
    return array(a).shape  # type: ignore[no-any-return]


@implements(np.ndim)
def ndim(a: Any) -> int:
    return len(array(a).shape)


@implements(np.size)
def size(a: Any, axis: int | None = None) -> int:
    return math.prod(array(a).shape) if axis is None else array(a).shape[axis]


@implements(np.reshape)
def reshape(a: Any, /, shape: Any, order: str = "C", *, copy: bool | None = None) -> Any:
    a = array(a)
    wanted = tuple(int(n) for n in shape) if isinstance(shape, tuple | list) else (int(shape),)
    if order == "F":
        flat = reshape(np.transpose(a), -1)
        return np.transpose(reshape(flat, wanted[::-1]))
    if order not in ("C", "A"):
        refuse("reshape", "order", order)
    if -1 in wanted:
        rest = -math.prod(wanted)
        if wanted.count(-1) > 1 or rest <= 0 or a.size % rest:
            raise ValueError(f"cannot reshape array of size {a.size} into shape {wanted}")
        wanted = tuple(a.size // rest if n == -1 else n for n in wanted)
    if math.prod(wanted) != a.size:
        raise ValueError(f"cannot reshape array of size {a.size} into shape {wanted}")
    return apply("reshape", a, shape=wanted)


@implements(np.ravel)
def ravel(a: Any, order: str = "C") -> Any:
    return reshape(a, (-1,) if array(a).size else (0,), order)


@implements(np.transpose)
def transpose(a: Any, axes: Any = None) -> Any:
    a = array(a)
    order = tuple(range(a.ndim))[::-1] if axes is None else tuple(normalized_axis(i, a.ndim) for i in axes)
    if sorted(order) != list(range(a.ndim)):
        raise ValueError("axes don't match array")
    return apply("transpose", a, axes=order) if a.ndim > 1 else a


implements(np.permute_dims)(transpose)


@implements(np.matrix_transpose)
def matrix_transpose(x: Any) -> Any:
    return swapaxes(x, -1, -2)


@implements(np.swapaxes)
def swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    order = list(range(a.ndim))
    i, j = normalized_axis(axis1, a.ndim), normalized_axis(axis2, a.ndim)
    order[i], order[j] = order[j], order[i]
    return transpose(a, order)


@implements(np.moveaxis)
def moveaxis(a: Any, source: Any, destination: Any) -> Any:
    sources = [normalized_axis(i, a.ndim) for i in (source if isinstance(source, tuple | list) else [source])]
    places = [
        normalized_axis(i, a.ndim) for i in (destination if isinstance(destination, tuple | list) else [destination])
    ]
    order = [i for i in range(a.ndim) if i not in sources]
    for place, origin in sorted(zip(places, sources, strict=True)):
        order.insert(place, origin)
    return transpose(a, order)


@implements(np.rollaxis)
def rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    axis = normalized_axis(axis, a.ndim)
    start = start + a.ndim if start < 0 else start
    return moveaxis(a, axis, start - 1 if start > axis else start)


@implements(np.squeeze)
def squeeze(a: Any, axis: Any = None) -> Any:
    axes = axes_of(axis, a.ndim)
    if axes is None:
        axes = tuple(i for i, n in enumerate(a.shape) if n == 1)
    if any(a.shape[i] != 1 for i in axes):
        raise ValueError("cannot select an axis to squeeze out which has size not equal to one")
    return apply("reshape", a, shape=tuple(n for i, n in enumerate(a.shape) if i not in axes))


@implements(np.expand_dims)
def expand_dims(a: Any, axis: Any) -> Any:
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    total = a.ndim + len(axes)
    places = {normalized_axis(i, total) for i in axes}
    rest = iter(a.shape)
    return apply("reshape", a, shape=tuple(1 if i in places else next(rest) for i in range(total)))


@implements(np.atleast_1d)
def atleast_1d(*arrays: Any) -> Any:
    return _each(arrays, lambda a: a if a.ndim else a.reshape((1,)))


@implements(np.atleast_2d)
def atleast_2d(*arrays: Any) -> Any:
    return _each(arrays, lambda a: a if a.ndim > 1 else a.reshape((1, a.size)))


@implements(np.atleast_3d)
def atleast_3d(*arrays: Any) -> Any:
    def one(a: Any) -> Any:
        if a.ndim > 2:
            return a
        return a.reshape((*a.shape, 1)) if a.ndim == 2 else a.reshape((1, a.size, 1))

    return _each(arrays, one)


def _each(arrays: Sequence[Any], change: Callable[[Any], Any]) -> Any:
    changed = tuple(change(array(a)) for a in arrays)
    return changed[0] if len(changed) == 1 else changed


@implements(np.broadcast_to)
def broadcast_to(array: Any, shape: Any, subok: bool = False) -> Any:
    wanted = tuple(shape) if isinstance(shape, tuple | list) else (int(shape),)
    return array if array.shape == wanted else apply("broadcast_to", array, shape=wanted)


@implements(np.broadcast_arrays)
def broadcast_arrays(*args: Any, subok: bool = False) -> Any:
    arrays = [array(a) for a in args]
    wanted = np.broadcast_shapes(*(a.shape for a in arrays))
    return tuple(np.broadcast_to(a, wanted) for a in arrays)


@implements(np.flip)
def flip(m: Any, axis: Any = None) -> Any:
    axes = axes_of(axis, m.ndim)
    chosen = range(m.ndim) if axes is None else axes
    return m[tuple(slice(None, None, -1) if i in chosen else slice(None) for i in range(m.ndim))]


implements(np.fliplr)(lambda m: flip(m, 1))
implements(np.flipud)(lambda m: flip(m, 0))


@implements(np.rot90)
def rot90(m: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Any:
    i, j = (normalized_axis(a, m.ndim) for a in axes)
    k %= 4
    if k == 0:
        return m[...]
    if k == 2:
        return flip(flip(m, i), j)
    return swapaxes(flip(m, j), i, j) if k == 1 else flip(swapaxes(m, i, j), j)


# --- joining and splitting
def _same_dtype(arrays: Sequence[Any], dtype: Any = None) -> list[Any]:
    parts = [array(a) for a in arrays]
    common = np.result_type(*(part.dtype for part in parts)) if dtype is None else np.dtype(dtype)
    return [part if part.dtype == common else part.astype(common) for part in parts]


@implements(np.concatenate, np.concat)
def concatenate(arrays: Any, axis: Any = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    parts = _same_dtype(list(arrays), dtype)
    if axis is None:
        parts, axis = [part.ravel() for part in parts], 0
    return finish(apply("concatenate", *parts, axis=normalized_axis(axis, parts[0].ndim)), None, out)


@implements(np.stack)
def stack(arrays: Any, axis: int = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    parts = _same_dtype(list(arrays), dtype)
    if len({part.shape for part in parts}) != 1:
        raise ValueError("all input arrays must have the same shape")
    return finish(apply("stack", *parts, axis=normalized_axis(axis, parts[0].ndim + 1)), None, out)


@implements(np.hstack)
def hstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    parts = [atleast_1d(a) for a in tup]
    return concatenate(parts, 0 if parts[0].ndim == 1 else 1, dtype=dtype)


@implements(np.vstack)
def vstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    return concatenate([atleast_2d(a) for a in tup], 0, dtype=dtype)


@implements(np.dstack)
def dstack(tup: Any) -> Any:
    return concatenate([atleast_3d(a) for a in tup], 2)


@implements(np.column_stack)
def column_stack(tup: Any) -> Any:
    return concatenate([a if a.ndim > 1 else a.reshape((a.size, 1)) for a in map(array, tup)], 1)


@implements(np.block)
def block(arrays: Any) -> Any:
    depth = _depth(arrays)

    def join(part: Any, level: int) -> Any:
        if level == depth:
            a = array(part)
            return a if a.ndim >= depth else a.reshape((1,) * (depth - a.ndim) + a.shape)
        return concatenate([join(p, level + 1) for p in part], level - depth)

    return join(arrays, 0)


def _depth(x: Any) -> int:
    return 1 + _depth(x[0]) if isinstance(x, list) else 0


@implements(np.append)
def append(arr: Any, values: Any, axis: int | None = None) -> Any:
    return concatenate([array(arr), array(values)], axis)


@implements(np.array_split)
def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    axis = normalized_axis(axis, ary.ndim)
    n = ary.shape[axis]
    if isinstance(indices_or_sections, int | np.integer):
        each, extra = divmod(n, int(indices_or_sections))
        sizes = [each + 1] * extra + [each] * (int(indices_or_sections) - extra)
        cuts = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    else:
        cuts = [0, *(int(i) for i in indices_or_sections), n]
    lead = (slice(None),) * axis
    return [ary[(*lead, slice(start, stop))] for start, stop in itertools.pairwise(cuts)]


@implements(np.split)
def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    if isinstance(indices_or_sections, int | np.integer) and ary.shape[axis] % int(indices_or_sections):
        raise ValueError("array split does not result in an equal division")
    return array_split(ary, indices_or_sections, axis)


implements(np.hsplit)(lambda ary, n: split(ary, n, 1 if ary.ndim > 1 else 0))
implements(np.vsplit)(lambda ary, n: split(ary, n, 0))
implements(np.dsplit)(lambda ary, n: split(ary, n, 2))


if hasattr(np, "unstack"):  # NumPy 2.1

    @implements(np.unstack)
    def unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
        return tuple(moveaxis(x, axis, 0))


@implements(np.tile)
def tile(A: Any, reps: Any) -> Any:
    a = array(A)
    counts = tuple(reps) if isinstance(reps, tuple | list) else (int(reps),)
    width = max(a.ndim, len(counts))
    counts = (1,) * (width - len(counts)) + counts
    base = (1,) * (width - a.ndim) + a.shape
    spread = tuple(n for r, s in zip(counts, base, strict=True) for n in (r, s))
    lined = a.reshape(tuple(n for s in base for n in (1, s)))
    return np.broadcast_to(lined, spread).reshape(tuple(r * s for r, s in zip(counts, base, strict=True)))


@implements(np.repeat)
def repeat(a: Any, repeats: Any, axis: int | None = None) -> Any:
    x = array(a)
    if axis is None:
        x, axis = x.ravel(), 0
    axis = normalized_axis(axis, x.ndim)
    chosen = np.repeat(np.arange(x.shape[axis]), np.asarray(repeats))
    return take(x, chosen, axis)


@implements(np.roll)
def roll(a: Any, shift: Any, axis: Any = None) -> Any:
    x = array(a)
    if axis is None:
        return roll(x.ravel(), shift, 0).reshape(x.shape)
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    shifts = shift if isinstance(shift, tuple | list) else (shift,) * len(axes)
    for s, i in zip(shifts, axes, strict=True):
        i = normalized_axis(i, x.ndim)
        cut = int(s) % x.shape[i] if x.shape[i] else 0
        if cut:
            lead = (slice(None),) * i
            x = concatenate([x[(*lead, slice(-cut, None))], x[(*lead, slice(None, -cut))]], i)
    return +x if x is a else x


@implements(np.pad)
def pad(array: Any, pad_width: Any, mode: Any = "constant", **kwargs: Any) -> Any:
    x = array
    widths = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2)).tolist()
    if mode == "constant":
        fill = kwargs.get("constant_values", 0)
        if np.ndim(fill):
            refuse("pad", "constant_values", fill)
        outer = tuple(n + before + after for n, (before, after) in zip(x.shape, widths, strict=True))
        y = np.zeros(outer, x.dtype)
        inner = tuple(slice(before, before + n) for n, (before, _) in zip(x.shape, widths, strict=True))
        if type(fill) is Traced or fill != 0:
            y = y + fill
        return apply("setitem", y, x, index=Index(inner))
    if mode not in ("edge", "wrap", "reflect", "symmetric") or kwargs.get("reflect_type", "even") != "even":
        refuse("pad", "mode", mode)
    for axis, (before, after) in enumerate(widths):
        if before or after:
            x = take(x, np.pad(np.arange(x.shape[axis]), (before, after), mode), axis)
    return x


# --- choosing elements
@implements(np.nonzero)
def nonzero(a: Any) -> Any:
    mask = a if a.dtype == np.bool_ else a != 0
    count = apply("sum", mask, axis=None, keepdims=False)
    if type(count) is Traced:
        n = count._look("nonzero", "use np.where")
        return tuple(apply("nonzero", mask, axis=i, count=int(n)) for i in range(mask.ndim))
    return np.nonzero(mask)


@implements(np.take)
def take(a: Any, indices: Any, axis: int | None = None, out: Any = None, mode: str = "raise") -> Any:
    x = array(a)
    if axis is None:
        x, axis = x.ravel(), 0
    axis = normalized_axis(axis, x.ndim)
    if type(indices) is not Traced:
        indices = np.asarray(indices)
    if mode == "wrap":
        indices = indices % x.shape[axis]
    elif mode == "clip":
        indices = np.clip(indices, 0, x.shape[axis] - 1)
    return finish(x[(*(slice(None),) * axis, indices)], None, out)


@implements(np.compress)
def compress(condition: Any, a: Any, axis: int | None = None, out: Any = None) -> Any:
    return take(a, nonzero(array(condition))[0], axis, out)


@implements(np.extract)
def extract(condition: Any, arr: Any) -> Any:
    return arr.ravel()[nonzero(array(condition).ravel())[0]]


@implements(np.take_along_axis)
def take_along_axis(arr: Any, indices: Any, axis: int | None = -1) -> Any:
    if axis is None:
        return arr.ravel()[indices]
    axis = normalized_axis(axis, arr.ndim)
    index = [np.arange(n).reshape((-1,) + (1,) * (arr.ndim - 1 - i)) for i, n in enumerate(indices.shape)]
    index[axis] = indices
    return arr[tuple(index)]


@implements(np.argsort)
def argsort(a: Any, axis: int | None = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    if axis is None:
        a, axis = a.ravel(), 0
    return apply("argsort", a, axis=normalized_axis(axis, a.ndim))


@implements(np.sort)
def sort(a: Any, axis: int | None = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    x = array(a)
    if axis is None:
        x, axis = x.ravel(), 0
    return take_along_axis(x, argsort(x, axis), axis)


def _arg_extreme(name: str) -> Callable[..., Any]:
    def arg_extreme(a: Any, axis: int | None = None, out: Any = None, *, keepdims: Any = False) -> Any:
        place = apply(name, a, axis=None if axis is None else normalized_axis(axis, a.ndim))
        if keepdims is True:
            place = place.reshape((1,) * a.ndim) if axis is None else np.expand_dims(place, axis)
        return finish(place, None, out)

    return arg_extreme


implements(np.argmax)(_arg_extreme("argmax"))
implements(np.argmin)(_arg_extreme("argmin"))


@implements(np.searchsorted)
def searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> Any:
    a = array(a) if sorter is None else take(a, sorter, 0)
    return apply("searchsorted", a, array(v), side=side)


def _middle(x: Any, axis: Any, q: Any, keepdims: Any, method: str = "linear") -> Any:
    """The quantile; q in [0, 1], a plain number or array."""
    x = x.astype(np.float64) if x.dtype.kind in "biu" else x
    axes = axes_of(axis, x.ndim)
    if axes is None:
        lined = x.ravel()
    else:
        rest = tuple(i for i in range(x.ndim) if i not in axes)
        lined = transpose(x, (*rest, *axes)).reshape((*(x.shape[i] for i in rest), -1))
    ordered = sort(lined, -1)
    n = ordered.shape[-1]
    # every method takes neighbours, or a point between two: of 0, 1, 2 … its answer is their place
    rule: Any = np.quantile
    place = np.asarray(q, np.float64) * (n - 1) if method == "linear" else rule(np.arange(float(n)), q, method=method)
    place = np.asarray(place)
    low = np.floor(place).astype(np.intp)
    part = (place - low).astype(x.dtype if isinstance(q, int | float) else np.result_type(x.dtype, np.asarray(q).dtype))
    high = np.minimum(low + 1, n - 1)
    y = ordered[..., low] + (ordered[..., high] - ordered[..., low]) * part
    last = np.isnan(ordered[..., n - 1])  # nan stands last, and spoils every quantile
    y = np.where(last.reshape(last.shape + (1,) * place.ndim), math.nan, y)
    if place.ndim:
        y = moveaxis(y, tuple(range(-place.ndim, 0)), tuple(range(place.ndim)))
    if keepdims is True:
        kept = tuple(1 if axes is None or i in axes else m for i, m in enumerate(x.shape))
        y = y.reshape((*place.shape, *kept))
    return y


@implements(np.median)
def median(a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: Any = False) -> Any:
    return finish(_middle(array(a), axis, 0.5, keepdims), None, out)


@implements(np.quantile)
def quantile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: Any = False,
    method: str = "linear",
    keepdims: Any = False,
    *,
    weights: Any = None,
    interpolation: Any = None,
) -> Any:
    for name, value in (("weights", weights), ("interpolation", interpolation)):
        if value is not None:
            refuse("quantile", name, value)
    return finish(_middle(array(a), axis, _plain_quantile(q), keepdims, method), None, out)


def _plain_quantile(q: Any) -> Any:
    """Return q, which is not differentiated, as a number or an array."""
    return q if type(q) in (int, float) else np.asarray(q)


@implements(np.percentile)
def percentile(a: Any, q: Any, *args: Any, **kwargs: Any) -> Any:
    return quantile(a, _plain_quantile(q) / 100.0, *args, **kwargs)


@implements(np.interp)
def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    x, xp, fp = array(x), array(xp), array(fp)
    if period is not None:
        if period == 0:
            raise ValueError("period must be a non-zero value")
        period = np.absolute(period)
        x, xp = x % period, xp % period
        order = argsort(xp) if type(xp) is Traced else np.argsort(xp, kind="stable")
        xp, fp = xp[order], fp[order]
        xp = concatenate([xp[-1:] - period, xp, xp[:1] + period])
        fp = concatenate([fp[-1:], fp, fp[:1]])
        left = right = None
    n = xp.shape[0]
    if n == 1:
        inside = x * 0.0 + fp[0]
    else:
        j = np.clip(searchsorted(xp, x, "right") - 1, 0, n - 2)
        slope = (fp[j + 1] - fp[j]) / (xp[j + 1] - xp[j])
        inside = slope * (x - xp[j]) + fp[j]
    y = np.where(x < xp[0], fp[0] if left is None else left, inside)
    return np.where(x >= xp[n - 1], np.where(x > xp[n - 1], fp[n - 1] if right is None else right, fp[n - 1]), y)


# --- matrices
@implements(np.dot)
def dot(a: Any, b: Any, out: Any = None) -> Any:
    a, b = array(a), array(b)
    if a.ndim == 0 or b.ndim == 0:
        return finish(a * b, None, out)
    if b.ndim == 1 or (a.ndim <= 2 and b.ndim == 2):
        return finish(np.matmul(a, b), None, out)
    return finish(tensordot(a, b, ((a.ndim - 1,), (b.ndim - 2,))), None, out)


@implements(np.vdot)
def vdot(a: Any, b: Any) -> Any:
    return dot(conjugated(array(a)).ravel(), array(b).ravel())


@implements(np.inner)
def inner(a: Any, b: Any) -> Any:
    a, b = array(a), array(b)
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    return tensordot(a, b, ((a.ndim - 1,), (b.ndim - 1,)))


@implements(np.outer)
def outer(a: Any, b: Any, out: Any = None) -> Any:
    return finish(array(a).ravel()[:, None] * array(b).ravel()[None, :], None, out)


@implements(np.tensordot)
def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    a, b = array(a), array(b)
    if isinstance(axes, int | np.integer):
        mine: Any = tuple(range(a.ndim - int(axes), a.ndim))
        yours: Any = tuple(range(int(axes)))
    else:
        mine, yours = (tuple(v) if isinstance(v, tuple | list) else (int(v),) for v in axes)
    mine = tuple(normalized_axis(i, a.ndim) for i in mine)
    yours = tuple(normalized_axis(i, b.ndim) for i in yours)
    if [a.shape[i] for i in mine] != [b.shape[i] for i in yours]:
        raise ValueError("shape-mismatch for sum")
    rest_a = tuple(i for i in range(a.ndim) if i not in mine)
    rest_b = tuple(i for i in range(b.ndim) if i not in yours)
    common = math.prod(a.shape[i] for i in mine)
    rows = transpose(a, (*rest_a, *mine)).reshape((math.prod(a.shape[i] for i in rest_a), common))
    columns = transpose(b, (*yours, *rest_b)).reshape((common, math.prod(b.shape[i] for i in rest_b)))
    return np.matmul(rows, columns).reshape((*(a.shape[i] for i in rest_a), *(b.shape[i] for i in rest_b)))


@implements(np.einsum)
def einsum(
    subscripts: Any, *operands: Any, out: Any = None, dtype: Any = None, optimize: Any = False, **kwargs: Any
) -> Any:
    if not isinstance(subscripts, str):
        subscripts, operands = _from_lists((subscripts, *operands))
    for name, value in kwargs.items():
        if name not in ("order", "casting") or value not in ("K", "C", "A", "safe", "same_kind"):
            refuse("einsum", name, value)
    arrays = _same_dtype(operands, dtype)
    text = subscripts.replace(" ", "")
    left, arrow, result = text.partition("->")
    terms = left.split(",")
    if "..." in text:
        free = [c for c in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if c not in text]
        widths = [a.ndim - len(t.replace("...", "")) for t, a in zip(terms, arrays, strict=True)]
        most = max(w for t, w in zip(terms, widths, strict=True) if "..." in t)
        spread = "".join(free[:most])
        terms = [t.replace("...", spread[most - w :]) for t, w in zip(terms, widths, strict=True)]
        result = result.replace("...", spread)
    else:
        spread = ""
    if not arrow:
        every = "".join(terms)
        result = spread + "".join(c for c in sorted(set(every)) if every.count(c) == 1 and c not in spread)
    return finish(apply("einsum", *arrays, subscripts=f"{','.join(terms)}->{result}"), None, out)


def _from_lists(operands: Sequence[Any]) -> tuple[str, tuple[Any, ...]]:
    """Return the text and the operands of ``np.einsum(a, [0, 1], b, [1, 2], [0, 2])``."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

    def text(labels: Any) -> str:
        return "".join("..." if label is Ellipsis else letters[label] for label in labels)

    pairs = list(zip(operands[0::2], operands[1::2], strict=False))
    result = f"->{text(operands[-1])}" if len(operands) % 2 else ""
    return ",".join(text(labels) for _, labels in pairs) + result, tuple(a for a, _ in pairs)


@implements(np.kron)
def kron(a: Any, b: Any) -> Any:
    a, b = array(a), array(b)
    width = max(a.ndim, b.ndim)
    a = a.reshape((1,) * (width - a.ndim) + a.shape)
    b = b.reshape((1,) * (width - b.ndim) + b.shape)
    product = a.reshape(tuple(n for s in a.shape for n in (s, 1))) * b.reshape(
        tuple(n for s in b.shape for n in (1, s))
    )
    return product.reshape(tuple(m * n for m, n in zip(a.shape, b.shape, strict=True)))


@implements(np.cross)
def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Any:
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = moveaxis(array(a), axisa, -1), moveaxis(array(b), axisb, -1)
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        refuse("cross", "vectors", "of other than 3 components")
    a0, a1, a2 = (a[..., i] for i in range(3))
    b0, b1, b2 = (b[..., i] for i in range(3))
    return moveaxis(stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], -1), -1, axisc)


@implements(np.diagonal)
def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    x = moveaxis(a, (axis1, axis2), (-2, -1))
    rows = np.arange(max(0, -offset), max(min(x.shape[-2], x.shape[-1] - offset), max(0, -offset)))
    return x[..., rows, rows + offset]


@implements(np.trace)
def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> Any:
    return finish(np.sum(diagonal(a, offset, axis1, axis2), axis=-1), dtype, out)


@implements(np.diag)
def diag(v: Any, k: int = 0) -> Any:
    v = array(v)
    if v.ndim == 2:
        return diagonal(v, k)
    if v.ndim != 1:
        raise ValueError("Input must be 1- or 2-d.")
    rows = np.arange(v.shape[0]) + max(0, -k)
    n = v.shape[0] + abs(k)
    y = np.zeros((n, n), v.dtype)
    return apply("setitem", y, v, rows, rows + k, index=Index((Index.HOLE, Index.HOLE)))


implements(np.diagflat)(lambda v, k=0: diag(array(v).ravel(), k))


@implements(np.tril)
def tril(m: Any, k: int = 0) -> Any:
    return np.where(np.tri(m.shape[-2], m.shape[-1], k=k, dtype=np.bool_), m, 0.0)


@implements(np.triu)
def triu(m: Any, k: int = 0) -> Any:
    return np.where(np.tri(m.shape[-2], m.shape[-1], k=k - 1, dtype=np.bool_), 0.0, m)


@implements(np.vander)
def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    n = x.shape[0] if N is None else N
    powers = np.arange(n) if increasing else np.arange(n)[::-1]
    columns = [np.ones(x.shape, x.dtype) if p == 0 else x ** int(p) for p in powers]
    return stack(columns, 1, dtype=np.result_type(x.dtype, np.int_))


# --- along an axis
@implements(np.diff)
def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = np._NoValue, append: Any = np._NoValue) -> Any:
    x = array(a)
    axis = normalized_axis(axis, x.ndim)
    parts = [x]
    for value, place in ((prepend, 0), (append, len(parts) + 1)):
        if value is not np._NoValue:
            v = array(value)
            if v.ndim == 0:
                v = np.broadcast_to(v, tuple(1 if i == axis else m for i, m in enumerate(x.shape)))
            parts.insert(place, v)
    if len(parts) > 1:
        x = concatenate(parts, axis)
    lead = (slice(None),) * axis
    for _ in range(n):
        x = x[(*lead, slice(1, None))] - x[(*lead, slice(None, -1))]
    return x


@implements(np.ediff1d)
def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    y = diff(array(ary).ravel())
    return concatenate([np.ravel(v) for v in (to_begin, y, to_end) if v is not None])


@implements(np.gradient)
def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    x = array(f)
    axes = tuple(range(x.ndim)) if axis is None else axes_of(axis, x.ndim) or ()
    spacings = list(varargs) if len(varargs) > 1 else (list(varargs) or [1.0]) * len(axes)
    if edge_order not in (1, 2):
        raise ValueError("'edge_order' greater than 2 not supported")
    results = []
    for i, h in zip(axes, spacings, strict=True):
        y = moveaxis(x, i, 0)
        first, inner, last = (
            _gradient_on_grid(y, array(h), edge_order) if np.ndim(h) else _gradient_with_step(y, h, edge_order)
        )
        result = moveaxis(concatenate([first, inner, last], 0), 0, i)
        results.append(result.astype(x.dtype, copy=False) if x.dtype.kind in "fc" else result)
    return results[0] if len(results) == 1 else tuple(results)


def _gradient_with_step(y: Any, h: Any, edge_order: int) -> tuple[Any, Any, Any]:
    """Differences along axis 0 for one step h: the first, the inner ones, the last."""
    inner = (y[2:] - y[:-2]) / (2.0 * h)
    if edge_order == 1:
        return (y[1:2] - y[:1]) / h, inner, (y[-1:] - y[-2:-1]) / h
    first = (-1.5 * y[:1] + 2.0 * y[1:2] - 0.5 * y[2:3]) / h
    return first, inner, (1.5 * y[-1:] - 2.0 * y[-2:-1] + 0.5 * y[-3:-2]) / h


def _gradient_on_grid(y: Any, points: Any, edge_order: int) -> tuple[Any, Any, Any]:
    """The same for points at uneven distances."""
    d = diff(points).reshape((-1,) + (1,) * (y.ndim - 1))
    left, right = d[:-1], d[1:]
    inner = (
        -right / (left * (left + right)) * y[:-2]
        + (right - left) / (left * right) * y[1:-1]
        + left / (right * (left + right)) * y[2:]
    )
    if edge_order == 1:
        return (y[1:2] - y[:1]) / d[:1], inner, (y[-1:] - y[-2:-1]) / d[-1:]

    def edge(near: Any, far: Any, y0: Any, y1: Any, y2: Any) -> Any:
        both = near + far
        return -(near + both) / (near * both) * y0 + both / (near * far) * y1 - near / (far * both) * y2

    return edge(d[:1], d[1:2], y[:1], y[1:2], y[2:3]), inner, -edge(d[-1:], d[-2:-1], y[-1:], y[-2:-1], y[-3:-2])


@implements(np.trapezoid)
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    y = array(y)
    axis = normalized_axis(axis, y.ndim)
    if x is None:
        step = dx
    else:
        step = diff(array(x)) if array(x).ndim == 1 else diff(array(x), axis=axis)
        if array(x).ndim == 1:
            step = step.reshape((-1,) + (1,) * (y.ndim - 1 - axis))
    lead = (slice(None),) * axis
    return np.sum(step * (y[(*lead, slice(1, None))] + y[(*lead, slice(None, -1))]) / 2.0, axis=axis)


@implements(np.convolve)
def convolve(a: Any, v: Any, mode: str = "full") -> Any:
    a, v = array(a), array(v)
    if v.shape[0] > a.shape[0]:
        a, v = v, a
    n, m = a.shape[0], v.shape[0]
    padded = pad(a, m - 1) if type(a) is Traced else np.pad(a, m - 1)
    windows = np.arange(n + m - 1)[:, None] + np.arange(m)[::-1][None, :]
    y = np.matmul(padded[windows], v)
    if mode == "full":
        return y
    if mode == "same":
        start = (m - 1) // 2
        return y[start : start + n]
    if mode == "valid":
        return y[m - 1 : n]
    raise ValueError(f"mode must be one of 'valid', 'same', or 'full', got {mode!r}")


@implements(np.correlate)
def correlate(a: Any, v: Any, mode: str = "valid") -> Any:
    a, v = array(a), array(v)
    if v.shape[0] > a.shape[0]:
        return np.flip(convolve(conjugated(v), np.flip(a), mode))
    return convolve(a, np.flip(conjugated(v)), mode)


@implements(np.meshgrid)
def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> Any:
    arrays = [array(x).ravel() for x in xi]
    width = len(arrays)
    order = list(range(width))
    if indexing == "xy" and width > 1:
        order[0], order[1] = 1, 0
    grids = [a.reshape(tuple(-1 if j == order[i] else 1 for j in range(width))) for i, a in enumerate(arrays)]
    if sparse:
        return tuple(grids)
    wanted = np.broadcast_shapes(*(g.shape for g in grids))
    return tuple(np.broadcast_to(g, wanted) for g in grids)


@implements(np.polyval)
def polyval(p: Any, x: Any) -> Any:
    p, x = array(p), array(x)
    y: Any = np.zeros(x.shape, np.result_type(p.dtype, x.dtype))
    for coefficient in p:
        y = y * x + coefficient
    return y


# --- creation
@implements(np.zeros_like, np.empty_like)
def zeros_like(
    a: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, device: Any = None
) -> Any:
    return _filled(a, 0.0, dtype, shape, order)


@implements(np.ones_like)
def ones_like(
    a: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, device: Any = None
) -> Any:
    return _filled(a, 1.0, dtype, shape, order)


@implements(np.full_like)
def full_like(
    a: Any,
    fill_value: Any,
    dtype: Any = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
    device: Any = None,
) -> Any:
    return _filled(a, fill_value, dtype, shape, order)


def _filled(a: Any, value: Any, dtype: Any, shape: Any, order: str) -> Any:
    kind = a.dtype if dtype is None else dtype
    held: Any
    if shape is not None:
        held = np.zeros(shape, np.dtype(kind), order="F") if order == "F" else None
        return new_array(a, shape, kind, value, held)
    held = a._value
    if isinstance(held, np.ndarray):  # in a's own layout, on which it depends whether a later ravel is a view
        held = np.zeros_like(held, dtype=np.dtype(kind), order=order)  # type: ignore[call-overload]
        return new_array(a, a.shape, kind, value, held)
    return new_array(a, a.shape, kind, value)


def new_array(like: Traced, shape: Any, dtype: Any, value: Any = 0.0, held: Any = None) -> Any:
    """Return an assignable traced array full of ``value``, in the trace of ``like``; held: its zeros, if made."""
    wanted = tuple(n.__index__() for n in shape) if isinstance(shape, tuple | list) else (shape.__index__(),)
    y = like._zeros(wanted, dtype)
    if held is not None:
        y._value = held
    if type(value) is Traced or value != 0:
        y[...] = value
    return y


@implements(np.copy)
def copy(a: Any, order: str = "K", subok: bool = False) -> Any:
    return array(a).copy(order)


@implements(np.copyto)
def copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    if type(dst) is not Traced:
        raise untraceable("np.copyto writes into an array made elsewhere", "make it inside the function with np.empty")
    dst._write(src if where is True else np.where(where, src, dst))


@implements(np.fill_diagonal)
def fill_diagonal(a: Any, val: Any, wrap: bool = False) -> None:
    if type(a) is not Traced:
        raise untraceable("np.fill_diagonal writes into an array made elsewhere", "make it inside the function")
    if a.ndim < 2:
        raise ValueError("array must be at least 2-d")
    if a.ndim > 2 and len(set(a.shape)) > 1:
        raise ValueError("All dimensions of input must be of equal length")
    if wrap and a.shape[0] > a.shape[1] + 1:
        refuse("fill_diagonal", "wrap", wrap)
    rows = np.arange(min(a.shape))
    v = array(val).ravel() if np.ndim(val) else val
    a[(rows,) * a.ndim] = take(v, rows % v.shape[0]) if np.ndim(val) else v


@implements(np.linspace)
def linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
    *,
    device: Any = None,
) -> Any:
    div = num - 1 if endpoint else num
    kinds = [np.ones((), v.dtype) if hasattr(v, "dtype") else v for v in (start, stop)]
    start, stop = (v if type(v) in (int, float) else array(v) for v in (start, stop))
    k = np.arange(num, dtype=np.linspace(kinds[0], kinds[1], 2).dtype).reshape(
        (-1,) + (1,) * max(np.ndim(start), np.ndim(stop))
    )
    step = (stop - start) / max(div, 1)
    y = k * step + start
    if endpoint and num > 1:
        y = concatenate(
            [
                y[:-1],
                np.broadcast_to(np.asarray(stop, y.dtype) if type(stop) is not Traced else stop, y.shape[1:]).reshape(
                    (1, *y.shape[1:])
                ),
            ],
            0,
        )
    y = finish(moveaxis(y, 0, axis) if axis else y, dtype, None)
    return (y, step) if retstep else y


@implements(np.apply_over_axes)
def apply_over_axes(func: Any, a: Any, axes: Any) -> Any:
    y = array(a)
    for axis in axes if isinstance(axes, tuple | list) else (axes,):
        axis = normalized_axis(axis, y.ndim)
        result = array(func(y, axis))
        y = result if result.ndim == y.ndim else np.expand_dims(result, axis)
    return y


@implements(np.apply_along_axis)
def apply_along_axis(func1d: Any, axis: int, arr: Any, *args: Any, **kwargs: Any) -> Any:
    x = moveaxis(arr, axis, -1)
    rows = x.reshape((-1, x.shape[-1]))
    results = [array(func1d(rows[i], *args, **kwargs)) for i in range(rows.shape[0])]
    y = stack(results, 0).reshape((*x.shape[:-1], *results[0].shape))
    return (
        moveaxis(y, tuple(range(x.ndim - 1, y.ndim)), tuple(range(axis % x.ndim, axis % x.ndim + results[0].ndim)))
        if results[0].ndim
        else y
    )


# --- answers that are not numbers
@implements(np.result_type)
def result_type(*args: Any) -> Any:
    return np.result_type(*(a.dtype if type(a) is Traced else a for a in args))


@implements(np.can_cast)
def can_cast(from_: Any, to: Any, casting: str = "safe") -> Any:
    return np.can_cast(from_.dtype if type(from_) is Traced else from_, to, casting)  # type: ignore[arg-type]


@implements(np.iscomplexobj)
def iscomplexobj(x: Any) -> bool:
    return bool(x.dtype.kind == "c")


@implements(np.isrealobj)
def isrealobj(x: Any) -> bool:
    return bool(x.dtype.kind != "c")


@implements(np.isscalar)
def isscalar(element: Any) -> bool:
    return type(element) is Traced and element.ndim == 0


@implements(np.allclose)
def allclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> bool:
    return bool(np.all(isclose(a, b, rtol, atol, equal_nan)))


@implements(np.astype)
def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    return x.astype(dtype, copy=copy)


@implements(np.array_equiv)
def array_equiv(a1: Any, a2: Any) -> bool:
    return bool(np.all(array(a1) == array(a2)))


@implements(np.array_equal)
def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> bool:
    a1, a2 = array(a1), array(a2)
    if a1.shape != a2.shape:
        return False
    return bool(np.all(_equal(a1, a2, equal_nan)))


@implements(np.isclose)
def isclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Any:
    a, b = array(a), array(b)
    near = np.absolute(a - b) <= atol + rtol * np.absolute(b)
    return (near & np.isfinite(b)) | _equal(a, b, equal_nan)


def _equal(a: Any, b: Any, equal_nan: bool) -> Any:
    return (a == b) | (np.isnan(a) & np.isnan(b)) if equal_nan else a == b


@implements(np.isposinf)
def isposinf(x: Any) -> Any:
    return x == math.inf


@implements(np.isneginf)
def isneginf(x: Any) -> Any:
    return x == -math.inf
