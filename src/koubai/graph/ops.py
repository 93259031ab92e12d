"""The primitives: one row each, holding its meaning in NumPy, its derivative, its code and its sampling domain.

How to add a primitive: add one `Op` row to the family where it belongs. Nothing else changes: tracing looks rows up by
the NumPy function in `UFUNCS`, the reverse pass asks the row for its derivative, the executors ask it for all that they
need to know (no row is known there by its name), and ``tests/test_ops.py`` runs every row at order 1 and 2 over its
``domain`` and ``examples``. A NumPy function that is a composition of primitives is not a row here; it is an entry in
``graph/numpy``.

A derivative rule is written in NumPy terms and must run on plain and on traced arrays, because the reversed graph is
reversed again for second derivatives. ``vjp[i](g, y, *inputs, **params)`` returns the cotangent of input ``i``, where
``y`` is the result and ``g`` its cotangent; ``None`` says that the derivative with respect to that input is zero. For
an elementwise row the rule may forget broadcasting, and for every row casting: the reverse pass sums and casts to the
input's shape and dtype. A rule may also return less, as that of a sum does, if spreading it over the input gives the
cotangent; elementwise rules meet such a smaller ``g`` where all that they differentiate has the shape of ``y``.

Complex values inside a real program: the cotangent g of z is the complex number with dL = Re(Σ g dz), that is
∂L/∂Re z − i ∂L/∂Im z (as JAX; PyTorch holds its conjugate). The rule of a holomorphic function is then the real one,
without any conjugation; a real input takes the real part, which the reverse pass does. Only conjugate, real, imag and
absolute have rules of their own.

Conventions at kinks, as JAX and PyTorch choose: |x|' = 0 at 0; maximum and minimum split a tie evenly, so the
derivative of maximum(x, 0) is 1/2 at 0; a reduction by max or min splits evenly among ties; sign, floor, comparisons
have derivative 0.
"""

from __future__ import annotations

import itertools
import math
import operator
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

__all__ = [
    "ON_NUMBERS",
    "OPS",
    "UFUNCS",
    "Index",
    "Monoid",
    "Op",
    "Range",
    "Scratch",
    "add_into",
    "add_row",
    "apply",
    "distinct",
    "expand",
    "recurrence",
    "reduced_shape",
    "rows_into",
    "unbroadcast",
    "zeros",
]

Shape: TypeAlias = tuple[int, ...]
Interval: TypeAlias = tuple[float, float]


class Monoid(NamedTuple):
    """What a reduction folds with: the elementwise row that joins two results, by name, and what it begins with."""

    join: str
    neutral: float

    @property
    def adds(self) -> bool:
        """Return whether it is a sum: its order matters, and a sum of -0.0 is 0.0."""
        return self.join == "add"


class Range(NamedTuple):
    """What a bound is given of an operand: the largest |element|, the shape, and the elements if they are constant."""

    largest: float
    shape: Shape
    value: Any = None


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """One primitive.

    call: its meaning, ``call(*inputs, **params)``, on NumPy arrays.
    vjp: one rule (or None) per input; or, for any number of inputs, one callable ``vjp(i, g, y, *inputs, **params)``.
    elementwise: the result has the broadcast shape of the inputs.
    shape: ``shape(*input_shapes, **params)`` if it is not elementwise; without it, the op is run on blank arrays
    once. dtype: ``dtype(*input_dtypes)`` if it is neither elementwise nor the inputs' common dtype.
    parts: of what joins its inputs, ``parts(g, input_shapes, **params)`` returns the function that cuts out of g the
    cotangent of input ``i``: rules that are given all inputs for each of them take a time quadratic in their number.
    code: how the node reads, ``"{0} + {1}"``, or a callable ``code(target, args, params)`` giving a whole
    statement. scalar: the same in pure Python on floats, bit for bit for arithmetic and within 2 ulp elsewhere; None:
    not available.
        It may raise ArithmeticError or ValueError if NumPy gives inf or nan.
    out: ``call`` is a ufunc, so that it takes a third argument to write into. into: if it isn't one, ``into(result,
    *inputs, **params)`` writes into a C-contiguous array, whatever that held, without large arrays on its way. Of an
    elementwise row without conditions, that may be an input.
    view: the result shares memory with input 0.
    domain: an interval for each input, from which tests sample; examples: (input shapes, params) to test.
    kink: ``kink(y, *inputs, **params)`` is true (somewhere) where the derivative jumps.

    What executors ask:

    lower: the same in NumPy terms of other rows, ``lower(*inputs, **params)``, for executors that have no code for the
    row itself. With it, a row needs no other code to be fast everywhere. It may return None.
    reduces: the monoid of a reduction (params: axis, keepdims). runs: that of a running one (axis). finds: that whose
    choice along an axis the row returns the place of (axis); its neutral element is the worst there is.
    moves: it only moves elements of its inputs, fills an array, or adds elements to others. But for the last, ``call``
    takes arrays of any objects.
    Of rows that move: index: "reads", "sets" or "adds": the elements of input 0 that params["index"] chooses are read,
    set to those of input 1, or have these added; the last inputs are the arrays in its holes. fills: the finite number
    that the result is full of, whatever the inputs hold. reshapes: the result has the input's elements in the same
    order, in another shape. spreads: it has each of them in several places.
    converts: the result is the input in params["dtype"].
    conditions: so many of the first inputs count as truth values.
    exact: executors and NumPy give the same bits for the same operands.
    bound: ``bound(*ranges)`` is what no |element| of the result exceeds, if it is finite for finite inputs; None:
    nothing is known, but that moved elements are no larger than before.
    method: the method of arrays that does the same, given the params in their order, and is faster to call.
    ufunc: of what isn't one itself, ``ufunc(number)`` returns the one that does the same to arrays if the last input
    is this number; None: it is not known. It takes as many of the first inputs as it has.
    """

    name: str
    call: Callable[..., Any]
    vjp: tuple[Callable[..., Any] | None, ...] | Callable[..., Any] = ()
    elementwise: bool = False
    shape: Callable[..., Shape] | None = None
    code: str | Callable[..., str] | None = None
    scalar: str | None = None
    out: bool = False
    view: bool = False
    domain: tuple[Interval, ...] = ()
    examples: tuple[tuple[tuple[Shape, ...], dict[str, Any]], ...] = ()
    kink: Callable[..., Any] | None = None
    dtype: Callable[..., Any] | None = None
    into: Callable[..., None] | None = None
    parts: Callable[..., Callable[[int], Any]] | None = None
    lower: Callable[..., Any] | None = None
    reduces: Monoid | None = None
    runs: Monoid | None = None
    finds: Monoid | None = None
    moves: bool = False
    conditions: int = 0
    exact: bool = False
    bound: Callable[..., float] | None = None
    method: str | None = None
    index: Literal["", "reads", "sets", "adds"] = ""
    fills: float | None = None
    reshapes: bool = False
    spreads: bool = False
    converts: bool = False
    ufunc: Callable[[Any], Any] | None = None

    @property
    def reduction(self) -> Callable[..., Any] | None:
        """NumPy's reduction by the monoid: called with (x, axis, dtype, out, keepdims)."""
        join: Any = OPS[self.reduces.join].call if self.reduces is not None else None
        return join.reduce if isinstance(join, np.ufunc) else None

    @property
    def differentiable(self) -> bool:
        return bool(self.vjp)

    def rule(self, i: int) -> Callable[..., Any] | None:
        """Return the derivative rule for input ``i``: called with (g, y, *inputs, **params)."""
        if callable(self.vjp):
            rule = self.vjp
            return lambda g, y, *inputs, **params: rule(i, g, y, *inputs, **params)
        return self.vjp[i] if i < len(self.vjp) else None

    def __repr__(self) -> str:
        return f"<Op {self.name}>"


class Index:
    """An index expression: ints, slices, None and Ellipsis as they are, and a `HOLE` for each array given as an
    input.

    form: of two indices with equal form and an array of one shape, both choose as many elements.
    """

    HOLE = object()
    __slots__ = ("form", "holes", "items", "key")

    def __init__(self, items: tuple[Any, ...]) -> None:
        self.items = items
        self.holes = 0
        key: list[Any] = []
        for item in items:
            if type(item) is slice:
                key.append(("slice", item.start, item.stop, item.step))
            elif item is Index.HOLE:
                self.holes += 1
                key.append("hole")
            else:
                key.append(item)
        self.key = tuple(key)
        self.form: Any = len(key) if {*map(type, key)} == {int} else self.key

    @classmethod
    def of(cls, item: int) -> Index:
        """Return the index of one number, as a loop has another one at each step."""
        made = cls.__new__(cls)
        made.items = made.key = (item,)
        made.holes, made.form = 0, 1
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Index) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def fill(self, arrays: Sequence[Any]) -> Any:
        """Return the index that NumPy takes, with ``arrays`` in the holes."""
        if not self.holes:
            return self.items if len(self.items) != 1 else self.items[0]
        rest = iter(arrays)
        items = tuple(next(rest) if item is Index.HOLE else item for item in self.items)
        return items if len(items) != 1 else items[0]

    def text(self, arrays: Sequence[str]) -> str:
        """Return the index as source, with the names ``arrays`` in the holes."""
        rest = iter(arrays)

        def one(item: Any) -> str:
            if item is Index.HOLE:
                return next(rest)
            if isinstance(item, slice):
                start, stop, step = ("" if v is None else str(v) for v in (item.start, item.stop, item.step))
                return f"{start}:{stop}" + (f":{step}" if step else "")
            return "..." if isinstance(item, EllipsisType) else str(item)

        return ", ".join(one(item) for item in self.items) if self.items else "()"

    def __repr__(self) -> str:
        return f"[{self.text(['·'] * self.holes)}]"


def apply(name: str, *args: Any, **params: Any) -> Any:
    """Run the primitive ``name``: recorded if an argument is traced, else computed at once."""
    op = OPS[name]
    for arg in args:
        record = getattr(type(arg), "_record", None)
        if record is not None:
            return record(op, args, params)
    return op.call(*args, **params)


def zeros(like: Any, shape: Shape, dtype: Any) -> Any:
    """Return zeros: a node if ``like`` is traced, so that the graph holds no array full of them."""
    make = getattr(type(like), "_zeros", None)
    return np.zeros(shape, dtype) if make is None else make(like, shape, dtype)


class Scratch(threading.local):
    """Scratch: working memory that is kept from call to call, since large arrays cost more to get than to fill."""

    block = np.empty(0, np.uint8)

    def take(self, *shape: int, dtype: Any) -> Any:
        """Return an array with any content; it is good until the next call."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if self.block.size < size:
            self.block = np.empty(size, np.uint8)
        return self.block[:size].view(dtype).reshape(shape)


OPS: dict[str, Op] = {}
UFUNCS: dict[Any, Op] = {}  # NumPy ufunc -> its row
# Row -> Python's operator, which takes a third of the time of the ufunc on numbers, and gives the same bits
ON_NUMBERS: dict[Op, Callable[..., Any]] = {}


def add_row(op: Op) -> None:
    if op.name in OPS:
        raise ValueError(f"the primitive {op.name} has two rows")
    OPS[op.name] = op
    if isinstance(op.call, np.ufunc):
        UFUNCS[op.call] = op


def _elementwise(
    call: Callable[..., Any],
    *vjp: Callable[..., Any] | None,
    domain: Sequence[Interval] = (),
    name: str | None = None,
    code: str | Callable[..., str] | None = None,
    scalar: str | None = None,
    kink: Callable[..., Any] | None = None,
    lower: Callable[..., Any] | None = None,
    conditions: int = 0,
    exact: bool = False,
    bound: Callable[..., float] | None = None,
    into: Callable[..., None] | None = None,
    ufunc: Callable[[Any], Any] | None = None,
) -> None:
    is_ufunc = isinstance(call, np.ufunc)
    add_row(
        Op(
            name or call.__name__,
            call,
            vjp,
            elementwise=True,
            code=code,
            scalar=scalar,
            out=is_ufunc,
            domain=tuple(domain),
            kink=kink,
            lower=lower,
            conditions=conditions,
            exact=exact,
            bound=bound,
            into=into,
            ufunc=ufunc,
        )
    )


def _at_most(limit: float) -> Callable[..., float]:
    return lambda *_: limit


def _same_bound(x: Range) -> float:
    return x.largest


def _sum_bound(a: Range, b: Range) -> float:
    return a.largest + b.largest


def _larger_bound(a: Range, b: Range) -> float:
    return max(a.largest, b.largest)


def _known(v: Range) -> Any:
    """Return the elements of a constant of real numbers; None if it isn't one."""
    return None if v.value is None or v.value.dtype.kind not in "fiub" else v.value.astype(np.float64)


def _divide_bound(a: Range, b: Range) -> float:
    least = 0.0 if (known := _known(b)) is None else float(np.min(np.abs(known), initial=math.inf))
    return a.largest / least if least > 0 else math.inf


def _power_bound(a: Range, b: Range) -> float:
    known = _known(b)
    whole = known is not None and known.ndim == 0 and 0 <= known == np.rint(known)
    return max(1.0, a.largest) ** float(known) if whole and known <= 64 else math.inf


# --- arithmetic
ANY = (-3.0, 3.0)
POSITIVE = (0.1, 4.0)
UNIT = (-0.9, 0.9)


def _subtract_b(g: Any, y: Any, a: Any, b: Any) -> Any:
    return -(unbroadcast(g, b.shape) if g.shape == y.shape else g)  # summed first, less is left to negate


def _power(a: Any, b: Any) -> Any:
    if type(a) is complex:
        a = np.complex128(a) if np.result_type(a, b) == np.complex128 else np.complex64(a)  # Python's isn't an array
    return a**b  # not np.power: on arrays NumPy's operator squares and takes roots exactly, and scalars use libm


def _power_base(g: Any, y: Any, a: Any, b: Any) -> Any:
    if type(b) in (int, float):  # a constant exponent, by far the commonest
        if b == 2:
            return g * 2 * a
        if b == 1:
            return g
        return g * (b * a ** (b - 1)) if b != 0 else g * 0.0
    return g * np.where(b == 0, 0.0, b * a ** np.where(b == 0, 1.0, b - 1))


def _power_exponent(g: Any, y: Any, a: Any, b: Any) -> Any:
    return g * (y * np.log(np.where(a == 0, 1.0, a)))  # 0**b is flat in b


def _power_kink(y: Any, a: Any, b: Any) -> Any:
    if type(b) in (int, float):
        return 0 < b < 1 and np.any(a == 0)
    return np.any((a == 0) & (np.asarray(b) < 1) & (np.asarray(b) > 0))


_elementwise(
    np.add,
    lambda g, y, a, b: g,
    lambda g, y, a, b: g,
    domain=(ANY, ANY),
    code="{0} + {1}",
    scalar="{0} + {1}",
    exact=True,
    bound=_sum_bound,
)
_elementwise(
    np.subtract,
    lambda g, y, a, b: g,
    _subtract_b,
    domain=(ANY, ANY),
    code="{0} - {1}",
    scalar="{0} - {1}",
    exact=True,
    bound=_sum_bound,
)
_elementwise(
    np.multiply,
    lambda g, y, a, b: g * b,
    lambda g, y, a, b: g * a,
    domain=(ANY, ANY),
    code="{0} * {1}",
    scalar="{0} * {1}",
    exact=True,
    bound=lambda a, b: a.largest * b.largest,
)
_elementwise(
    np.divide,
    lambda g, y, a, b: g / b,
    lambda g, y, a, b: -(g * y) / b,
    domain=(ANY, POSITIVE),
    code="{0} / {1}",
    scalar="{0} / {1}",
    exact=True,
    bound=_divide_bound,
)


def _power_ufunc(exponent: Any) -> Any:
    """Return what NumPy's operator takes for arrays."""
    return {2: np.square, 0.5: np.sqrt, -1: np.reciprocal, 1: np.positive}.get(exponent, np.power)


_elementwise(
    _power,
    _power_base,
    _power_exponent,
    domain=((0.3, 3.0), (-2.0, 3.0)),
    name="power",
    code="{0} ** {1}",
    scalar="power({0}, {1})",
    kink=_power_kink,
    bound=_power_bound,
    ufunc=_power_ufunc,
)


def _quotient(a: Any, b: Any) -> Any:
    y = np.zeros(np.broadcast_shapes(np.shape(a), np.shape(b)), np.result_type(a, b))
    return np.divide(a, b, out=y, where=np.logical_or(a, b))[()]


_elementwise(  # a / b with 0 / 0 = 0. The value is harmless there, its own derivative unknown: inf or nan say so
    _quotient,
    lambda g, y, a, b: g / b,
    lambda g, y, a, b: -(g * y) / b,
    domain=(ANY, POSITIVE),
    name="quotient_or_zero",
    code="np.divide({0}, {1}, out=np.zeros_like({0} + {1}), where=np.logical_or({0}, {1}))",
    lower=lambda a, b: np.where(np.logical_or(a, b), a / b, 0.0),
    exact=True,
)
_elementwise(np.negative, lambda g, y, x: -g, domain=(ANY,), code="-{0}", scalar="-{0}", exact=True, bound=_same_bound)
_elementwise(np.positive, lambda g, y, x: g, domain=(ANY,), code="+{0}", scalar="+{0}", exact=True, bound=_same_bound)
_elementwise(
    np.square,
    lambda g, y, x: g * 2 * x,
    domain=(ANY,),
    lower=lambda x: x * x,
    exact=True,
    bound=lambda x: x.largest * x.largest,
)
_elementwise(np.reciprocal, lambda g, y, x: -(g * y) * y, domain=(POSITIVE,), lower=lambda x: 1.0 / x, exact=True)
_elementwise(
    np.sqrt,
    lambda g, y, x: g * 0.5 / y,
    domain=(POSITIVE,),
    scalar="math.sqrt({0})",
    kink=lambda y, x: np.any(x == 0),
    exact=True,
)
_elementwise(np.cbrt, lambda g, y, x: g / (3 * y * y), domain=(POSITIVE,), kink=lambda y, x: np.any(x == 0))


def _absolute_vjp(g: Any, y: Any, x: Any) -> Any:
    if x.dtype.kind != "c":
        return g * apply("sign", x)
    return g * apply("quotient_or_zero", np.conjugate(x), y)


_elementwise(
    np.absolute,
    _absolute_vjp,
    domain=((0.2, 3.0),),
    scalar="abs({0})",
    kink=lambda y, x: np.any(x == 0),
    exact=True,
    bound=_same_bound,
)
_elementwise(
    np.fabs,
    lambda g, y, x: g * np.sign(x),
    domain=((0.2, 3.0),),
    kink=lambda y, x: np.any(x == 0),
    lower=lambda x: np.absolute(x),
    exact=True,
    bound=_same_bound,
)
_elementwise(
    np.remainder, lambda g, y, a, b: g, lambda g, y, a, b: -g * np.floor(a / b), domain=((0.2, 0.8), (1.0, 2.0))
)
_elementwise(np.fmod, lambda g, y, a, b: g, lambda g, y, a, b: -g * np.trunc(a / b), domain=((0.2, 0.8), (1.0, 2.0)))

_call: Any  # the loops below take NumPy functions and rules of every kind
_vjp: Any
_scalar: str | None


# --- parts of complex numbers
_elementwise(np.conjugate, lambda g, y, x: np.conjugate(g), domain=(ANY,), scalar="{0}", exact=True)
for _part, _part_vjp in (("real", lambda g, y, x: g), ("imag", lambda g, y, x: g * -1j)):
    add_row(
        Op(
            _part,
            getattr(np, _part),
            (_part_vjp,),
            elementwise=True,
            code=f"{{0}}.{_part}",
            view=True,
            domain=(ANY,),
            exact=True,
        )
    )


# --- steps: derivative zero
def _type(v: Any) -> Any:
    return getattr(v, "dtype", v)


for _call, _scalar in (
    (np.sign, "(float(({0} > 0.0) - ({0} < 0.0)) if {0} == {0} else {0})"),
    (np.floor, None),
    (np.ceil, None),
    (np.trunc, None),
    (np.rint, None),
    (np.signbit, None),
    (np.isnan, "({0} != {0})"),
    (np.isfinite, "math.isfinite({0})"),
    (np.isinf, "math.isinf({0})"),
    (np.left_shift, None),
    (np.right_shift, None),
    (np.gcd, None),
    (np.lcm, None),
):
    _elementwise(_call, scalar=_scalar, exact=True, bound=_at_most(1.0) if _call is np.sign else None)
for _call in (np.floor_divide, np.spacing):
    _elementwise(_call)
for _call, _scalar, _between_bits in (
    (np.logical_not, "(not {0})", np.invert),
    (np.logical_and, "bool({0} and {1})", np.bitwise_and),
    (np.logical_or, "bool({0} or {1})", np.bitwise_or),
    (np.logical_xor, "(bool({0}) is not bool({1}))", np.bitwise_xor),
):
    _elementwise(_call, scalar=_scalar, conditions=_call.nin, exact=True)
    _elementwise(
        _between_bits,
        lower=lambda *flags, logical=_call: logical(*flags) if np.result_type(*map(_type, flags)) == np.bool_ else None,
        exact=True,
    )
_elementwise(lambda x: np.frexp(x)[1], name="exponent", code="np.frexp({0})[1]")
for _call, _operator in (
    (np.less, "<"),
    (np.less_equal, "<="),
    (np.greater, ">"),
    (np.greater_equal, ">="),
    (np.equal, "=="),
    (np.not_equal, "!="),
):
    _elementwise(
        _call,
        code=f"{{0}} {_operator} {{1}}",
        scalar=f"({{0}} {_operator} {{1}})",
        exact=True,
        bound=_at_most(1.0),
    )


def _heaviside(x: Any, at_zero: Any) -> Any:
    return np.where(np.isnan(x), x, np.where(np.equal(x, 0.0), at_zero, np.maximum(np.sign(x), 0.0)))


_elementwise(
    np.heaviside,
    None,
    lambda g, y, a, b: np.where(a == 0, g, 0.0),
    domain=(POSITIVE, ANY),
    lower=_heaviside,
    exact=True,
)

# --- exponentials and logarithms
_LN2 = math.log(2.0)
_LN10 = math.log(10.0)
_elementwise(
    np.exp,
    lambda g, y, x: g * y,
    domain=(ANY,),
    scalar="math.exp({0})",
    bound=lambda x: math.exp(min(x.largest, 100.0)),
)
_elementwise(np.exp2, lambda g, y, x: g * (_LN2 * y), domain=(ANY,))
_elementwise(np.expm1, lambda g, y, x: g * (y + 1.0), domain=(ANY,), scalar="math.expm1({0})")
_elementwise(np.log, lambda g, y, x: g / x, domain=(POSITIVE,), scalar="math.log({0})")
_elementwise(np.log2, lambda g, y, x: g / (_LN2 * x), domain=(POSITIVE,), scalar="math.log2({0})")
_elementwise(np.log10, lambda g, y, x: g / (_LN10 * x), domain=(POSITIVE,), scalar="math.log10({0})")
_elementwise(np.log1p, lambda g, y, x: g / (x + 1.0), domain=(POSITIVE,), scalar="math.log1p({0})")
_elementwise(
    np.logaddexp, lambda g, y, a, b: g * np.exp(a - y), lambda g, y, a, b: g * np.exp(b - y), domain=(ANY, ANY)
)
_elementwise(
    np.logaddexp2, lambda g, y, a, b: g * np.exp2(a - y), lambda g, y, a, b: g * np.exp2(b - y), domain=(ANY, ANY)
)


def _sigmoid(x: Any, out: Any = None) -> Any:
    """1 / (1 + exp(−x)). Where exp overflows, the quotient is 0, as it should be: nothing else to guard against."""
    y = np.exp(np.negative(x, out), out)
    return np.divide(1.0, np.add(y, 1.0, out), out)


add_row(
    Op(
        "sigmoid",
        _sigmoid,
        (lambda g, y, x: g * (y * (1.0 - y)),),
        elementwise=True,
        out=True,
        code="1.0 / (1.0 + np.exp(-{0}))",
        lower=lambda x: 1.0 / (1.0 + np.exp(-x)),
        domain=(ANY,),
        bound=_at_most(1.0),
    )
)

# --- trigonometry
_elementwise(np.sin, lambda g, y, x: g * np.cos(x), domain=(ANY,), scalar="math.sin({0})", bound=_at_most(1.0))
_elementwise(np.cos, lambda g, y, x: -g * np.sin(x), domain=(ANY,), scalar="math.cos({0})", bound=_at_most(1.0))
_elementwise(np.tan, lambda g, y, x: g * (1.0 + y * y), domain=((-1.2, 1.2),), scalar="math.tan({0})")
_elementwise(np.arcsin, lambda g, y, x: g / np.sqrt(1.0 - x * x), domain=(UNIT,), scalar="math.asin({0})")
_elementwise(np.arccos, lambda g, y, x: -g / np.sqrt(1.0 - x * x), domain=(UNIT,), scalar="math.acos({0})")
_elementwise(np.arctan, lambda g, y, x: g / (1.0 + x * x), domain=(ANY,), scalar="math.atan({0})")
_elementwise(
    np.arctan2,
    lambda g, y, a, b: g * (b / (a * a + b * b)),
    lambda g, y, a, b: -g * (a / (a * a + b * b)),
    domain=(POSITIVE, ANY),
    scalar="math.atan2({0}, {1})",
    kink=lambda y, a, b: np.any((a == 0) & (b == 0)),
)
_elementwise(
    np.hypot,
    lambda g, y, a, b: g * (a / y),
    lambda g, y, a, b: g * (b / y),
    domain=(POSITIVE, ANY),
    kink=lambda y, a, b: np.any((a == 0) & (b == 0)),
)
_elementwise(np.sinh, lambda g, y, x: g * np.cosh(x), domain=(ANY,), scalar="math.sinh({0})")
_elementwise(np.cosh, lambda g, y, x: g * np.sinh(x), domain=(ANY,), scalar="math.cosh({0})")
_elementwise(np.tanh, lambda g, y, x: g * (1.0 - y * y), domain=(ANY,), scalar="math.tanh({0})", bound=_at_most(1.0))
_elementwise(np.arcsinh, lambda g, y, x: g / np.sqrt(x * x + 1.0), domain=(ANY,), scalar="math.asinh({0})")
_elementwise(np.arccosh, lambda g, y, x: g / np.sqrt(x * x - 1.0), domain=((1.3, 4.0),), scalar="math.acosh({0})")
_elementwise(np.arctanh, lambda g, y, x: g / (1.0 - x * x), domain=(UNIT,), scalar="math.atanh({0})")
for _call in (np.deg2rad, np.radians):
    _elementwise(
        _call,
        lambda g, y, x: g * (math.pi / 180.0),
        domain=(ANY,),
        lower=lambda x: x * (math.pi / 180.0),
        exact=True,
    )


def _degrees(x: Any) -> Any:
    single = np.float32(180.0) / np.float32(math.pi)  # NumPy rounds both, then the quotient
    return x * (float(single) if x.dtype == np.float32 else 180.0 / math.pi)


for _call in (np.rad2deg, np.degrees):
    _elementwise(_call, lambda g, y, x: g * (180.0 / math.pi), domain=(ANY,), lower=_degrees, exact=True)


# --- choices
def _share(a: Any, b: Any) -> Any:
    """1 where a > b, 1/2 where a == b, else 0, in the dtype of a and b: the weight of ``a`` in maximum(a, b)."""
    dtype = np.result_type(a, b)
    if dtype.kind != "f":
        dtype = np.dtype(np.float64)
    twice = np.add(np.greater(a, b), np.greater_equal(a, b), dtype=np.int8)
    return np.multiply(twice, 0.5, dtype=dtype)


_elementwise(
    _share,
    name="share",
    code="np.heaviside({0} - {1}, 0.5)",
    scalar="0.5 * (({0} > {1}) + ({0} >= {1}))",
    lower=lambda a, b: np.where(np.greater(a, b), 0.5, 0.0) + np.where(np.greater_equal(a, b), 0.5, 0.0),
    exact=True,
    bound=_at_most(1.0),
)


def _tie(y: Any, a: Any, b: Any) -> Any:
    return np.any(np.equal(a, b))


def _share_beside_nan(a: Any, b: Any, order: int) -> Any:
    """The weight of a if a NaN gives way to the other operand. order: 1 for the larger one, -1 for the lesser."""
    return np.where(np.isnan(b), 1.0, apply("share", *(a, b)[::order]))


for _call, _scalar in (
    (np.maximum, "({0} if {0} > {1} or {0} != {0} else {1})"),
    (np.minimum, "({0} if {0} < {1} or {0} != {0} else {1})"),
):
    _sign = 1 if _call is np.maximum else -1
    _elementwise(
        _call,
        lambda g, y, a, b, order=_sign: g * apply("share", *(a, b)[::order]),
        lambda g, y, a, b, order=_sign: g * apply("share", *(b, a)[::order]),
        domain=((-3.0, 0.0), (0.1, 3.0)),
        scalar=_scalar,
        kink=_tie,
        bound=_larger_bound,
    )
for _call, _sign in ((np.fmax, 1), (np.fmin, -1)):
    _elementwise(
        _call,
        lambda g, y, a, b, order=_sign: g * _share_beside_nan(a, b, order),
        lambda g, y, a, b, order=_sign: g * _share_beside_nan(b, a, order),
        domain=((-3.0, 0.0), (0.1, 3.0)),
        kink=_tie,
    )
_elementwise(
    np.copysign,
    lambda g, y, a, b: np.where(np.signbit(a) == np.signbit(b), g, -g),
    None,
    domain=(POSITIVE, POSITIVE),
    scalar="math.copysign({0}, {1})",
    kink=lambda y, a, b: np.any(a == 0),
    exact=True,
)


_copy: Any = np.copyto


def _where_into(result: Any, c: Any, a: Any, b: Any) -> None:
    if isinstance(c, np.ndarray) and c.ndim:
        _copy(result, b)
        _copy(result, a, where=c)
    else:
        _copy(result, a if c else b)


_elementwise(
    lambda c, a, b: np.where(c, a, b),
    None,
    lambda g, y, c, a, b: np.where(c, g, 0.0),
    lambda g, y, c, a, b: np.where(c, 0.0, g),
    domain=((-1.0, 1.0), ANY, ANY),
    name="where",
    code="np.where({0}, {1}, {2})",
    scalar="({1} if {0} else {2})",
    conditions=1,
    exact=True,
    bound=lambda c, a, b: max(a.largest, b.largest),
    into=_where_into,
)


def _astype(x: Any, *, dtype: np.dtype[Any]) -> Any:
    return x.astype(dtype) if isinstance(x, np.ndarray | np.generic) else dtype.type(x)


def _astype_into(result: Any, x: Any, *, dtype: np.dtype[Any]) -> None:
    _copy(result, x, "unsafe")


add_row(
    Op(
        "astype",
        _astype,
        (lambda g, y, x, *, dtype: g,),  # the reverse pass casts back
        elementwise=True,
        code=lambda y, args, params: f"{y} = {args[0]}.astype(np.{params['dtype'].name})",
        domain=(ANY,),
        examples=((((3,),), {"dtype": np.dtype(np.float64)}),),
        exact=True,
        bound=_same_bound,
        converts=True,
        into=_astype_into,
    )
)


# --- reductions: axis is None or a tuple of axes ≥ 0
def reduced_shape(shape: Shape, *, axis: tuple[int, ...] | None, keepdims: bool = False) -> Shape:
    if axis is None:
        return (1,) * len(shape) if keepdims else ()
    if keepdims:
        return tuple(1 if i in axis else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in axis)


def expand(g: Any, shape: Shape, axis: tuple[int, ...] | None, keepdims: bool) -> Any:
    """Give a reduced array its lost axes back, with length 1."""
    if keepdims or len(g.shape) in (0, len(shape)):
        return g
    return apply("reshape", g, shape=reduced_shape(shape, axis=axis, keepdims=True))


_ADD_UP: Any = np.add.reduce
_MULTIPLY_UP: Any = np.multiply.reduce
_GREATEST: Any = np.maximum.reduce
_LEAST: Any = np.minimum.reduce


def _sum(x: Any, *, axis: tuple[int, ...] | None, keepdims: bool) -> Any:
    return _ADD_UP(x, axis=axis, keepdims=keepdims)


def _sum_vjp(g: Any, y: Any, x: Any, *, axis: tuple[int, ...] | None, keepdims: bool) -> Any:
    return expand(g, x.shape, axis, keepdims)


def _prod(x: Any, *, axis: tuple[int, ...] | None, keepdims: bool) -> Any:
    return _MULTIPLY_UP(x, axis=axis, keepdims=keepdims)


def _prod_vjp(g: Any, y: Any, x: Any, *, axis: tuple[int, ...] | None, keepdims: bool) -> Any:
    """Each factor's cotangent is the product of all the others, formed from both sides: exact at zeros too."""
    axes = tuple(range(x.ndim)) if axis is None else axis
    rest = tuple(i for i in range(x.ndim) if i not in axes)
    order = axes + rest
    axes_first = np.transpose(x, order)
    rows = axes_first.reshape((math.prod(x.shape[i] for i in axes), *(x.shape[i] for i in rest)))
    left = _before(apply("cumprod", rows, axis=0))
    right = _before(apply("cumprod", rows[::-1], axis=0))[::-1]
    others = (left * right).reshape(axes_first.shape).transpose(tuple(int(i) for i in np.argsort(order)))
    return expand(g, x.shape, axis, keepdims) * others


def _before(y: Any) -> Any:
    """Shift a cumulative product by one along axis 0: row i is the product of the rows before it."""
    return np.concatenate([np.ones((1, *y.shape[1:]), y.dtype), y[:-1]], axis=0)


def _max(x: Any, *, axis: tuple[int, ...] | None, keepdims: bool) -> Any:
    return _GREATEST(x, axis=axis, keepdims=keepdims)


def _min(x: Any, *, axis: tuple[int, ...] | None, keepdims: bool) -> Any:
    return _LEAST(x, axis=axis, keepdims=keepdims)


def _extreme_vjp(g: Any, y: Any, x: Any, *, axis: tuple[int, ...] | None, keepdims: bool) -> Any:
    hit = (x == expand(y, x.shape, axis, keepdims)).astype(x.dtype)
    return expand(g, x.shape, axis, keepdims) / apply("sum", hit, axis=axis, keepdims=True) * hit


def _extreme_kink(y: Any, x: Any, *, axis: tuple[int, ...] | None, keepdims: bool) -> Any:
    hits = np.count_nonzero(x == expand(y, x.shape, axis, keepdims))
    return hits > np.count_nonzero(y == y)  # more hits than results, but for nan, which has none


def _axis_text(params: dict[str, Any]) -> str:
    axis, keepdims = params["axis"], params["keepdims"]
    text = "" if axis is None else f", axis={axis[0] if len(axis) == 1 else axis}"
    return text + (", keepdims=True" if keepdims else "")


_REDUCTIONS: tuple[tuple[tuple[Shape, ...], dict[str, Any]], ...] = (
    (((5,),), {"axis": None, "keepdims": False}),
    (((2, 3),), {"axis": (0,), "keepdims": False}),
    (((2, 3, 2),), {"axis": (0, 2), "keepdims": True}),
    (((2, 3),), {"axis": (1,), "keepdims": True}),
    (((2, 3),), {"axis": None, "keepdims": True}),
)


def _reduction(
    name: str,
    call: Callable[..., Any],
    vjp: Callable[..., Any],
    monoid: Monoid,
    kink: Callable[..., Any] | None = None,
    bound: Callable[..., float] | None = None,
    dtype: Callable[..., Any] | None = None,
) -> None:
    add_row(
        Op(
            name,
            call,
            (vjp,),
            shape=reduced_shape,
            dtype=dtype,
            reduces=monoid,
            bound=bound,
            code=lambda y, args, params: f"{y} = np.{name}({args[0]}{_axis_text(params)})",
            domain=(ANY,),
            examples=_REDUCTIONS,
            kink=kink,
        )
    )


def _summed_dtype(x: Any) -> Any:
    return np.int_ if x.kind in "bi" else x


_SUM, _PRODUCT = Monoid("add", 0.0), Monoid("multiply", 1.0)
_MAXIMUM, _MINIMUM = Monoid("maximum", -math.inf), Monoid("minimum", math.inf)
_reduction("sum", _sum, _sum_vjp, _SUM, bound=lambda x: x.largest * math.prod(x.shape), dtype=_summed_dtype)
_reduction("prod", _prod, _prod_vjp, _PRODUCT, dtype=_summed_dtype)
_reduction("max", _max, _extreme_vjp, _MAXIMUM, _extreme_kink, _same_bound)
_reduction("min", _min, _extreme_vjp, _MINIMUM, _extreme_kink, _same_bound)


def _logsumexp(x: Any, *, axis: tuple[int, ...] | None, keepdims: bool) -> Any:
    """log Σ exp(x), with the largest x taken out first so that nothing overflows."""
    top = apply("max", x, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    y = np.log(apply("sum", np.exp(x - top), axis=axis, keepdims=True)) + top
    return y if keepdims else y.reshape(reduced_shape(x.shape, axis=axis))[()]


def _logsumexp_vjp(g: Any, y: Any, x: Any, *, axis: tuple[int, ...] | None, keepdims: bool) -> Any:
    return expand(g, x.shape, axis, keepdims) * np.exp(x - expand(y, x.shape, axis, keepdims))


def _logsumexp_code(y: str, args: Sequence[str], params: dict[str, Any]) -> str:
    """The same steps as above, not ``np.logaddexp.reduce``, whose last bits differ."""
    kept = _axis_text(params | {"keepdims": True})
    lines = [
        f"{y} = np.max({args[0]}{kept})",
        f"{y} = np.where(np.isfinite({y}), {y}, 0.0)",
        f"{y} = np.log(np.sum(np.exp({args[0]} - {y}){kept})) + {y}",
    ]
    if not params["keepdims"]:
        lines.append(f"{y} = np.squeeze({y}{_axis_text(params)})[()]")
    return "; ".join(lines)


add_row(
    Op(
        "logsumexp",
        _logsumexp,
        (_logsumexp_vjp,),
        shape=reduced_shape,
        code=_logsumexp_code,
        domain=(ANY,),
        examples=_REDUCTIONS,
        lower=_logsumexp,
    )
)
for _name, _call, _monoid in (("any", np.any, Monoid("logical_or", 0.0)), ("all", np.all, Monoid("logical_and", 1.0))):
    add_row(
        Op(
            _name,
            _call,
            shape=reduced_shape,
            dtype=lambda x: np.bool_,
            reduces=_monoid,
            exact=True,
            code=lambda y, args, params, name=_name: f"{y} = np.{name}({args[0]}{_axis_text(params)})",
        )
    )


def _same_shape(x: Shape, **params: Any) -> Shape:
    return x


def _flip(x: Any, axis: int) -> Any:
    return x[(slice(None),) * axis + (slice(None, None, -1),)]


def _cumsum_vjp(g: Any, y: Any, x: Any, *, axis: int) -> Any:
    return _flip(apply("cumsum", _flip(g, axis), axis=axis), axis)


def _cumprod_vjp(g: Any, y: Any, x: Any, *, axis: int) -> Any:
    """dx[i] = (product before i) · s[i], s[i] = g[i] + x[i+1] s[i+1]: no division, so exact at zeros."""
    x, y, g = (np.moveaxis(v, axis, 0) for v in (x, y, g))
    following = np.concatenate([x[1:], np.zeros((1, *x.shape[1:]), x.dtype)], axis=0)
    s = apply("recurrence", following[::-1], g[::-1])[::-1]
    return np.moveaxis(_before(y) * s, 0, axis)


_CUMULATIVE: tuple[tuple[tuple[Shape, ...], dict[str, Any]], ...] = (
    (((5,),), {"axis": 0}),
    (((2, 3),), {"axis": 1}),
    (((3, 2),), {"axis": 0}),
)
for _name, _call, _vjp, _monoid in (
    ("cumsum", np.cumsum, _cumsum_vjp, _SUM),
    ("cumprod", np.cumprod, _cumprod_vjp, _PRODUCT),
):
    add_row(
        Op(
            _name,
            _call,
            (_vjp,),
            shape=_same_shape,
            dtype=_summed_dtype,
            runs=_monoid,
            exact=True,
            code=lambda y, args, params, name=_name: f"{y} = np.{name}({args[0]}, axis={params['axis']})",
            domain=(ANY,),
            examples=_CUMULATIVE,
        )
    )


def recurrence(a: Any, b: Any) -> Any:
    """Linear recurrence along axis 0: y[0] = b[0]; y[i] = b[i] + a[i] y[i-1]."""
    y = np.empty(b.shape, np.result_type(a, b))
    y[:1] = b[:1]
    for i in range(1, len(b)):
        y[i] = b[i] + a[i] * y[i - 1]
    return y


def _recurrence_total(g: Any, a: Any) -> Any:
    following = np.concatenate([a[1:], np.zeros((1, *a.shape[1:]), a.dtype)], axis=0)
    return apply("recurrence", following[::-1], g[::-1])[::-1]


def _recurrence_a(g: Any, y: Any, a: Any, b: Any) -> Any:
    before = np.concatenate([np.zeros((1, *y.shape[1:]), y.dtype), y[:-1]], axis=0)
    return _recurrence_total(g, a) * before


add_row(
    Op(
        "recurrence",
        recurrence,
        (_recurrence_a, lambda g, y, a, b: _recurrence_total(g, a)),
        shape=lambda a, b: b,
        code=lambda y, args, params: (
            f"{y} = {args[1]}.copy(); "
            f"[{y}.__setitem__(i, {y}[i] + {args[0]}[i] * {y}[i - 1]) for i in range(1, len({y}))]"
        ),
        domain=(ANY, ANY),
        examples=((((5,), (5,)), {}), (((4, 2), (4, 2)), {})),
    )
)

# --- reading, writing and rearranging


def _getitem(x: Any, *arrays: Any, index: Index) -> Any:
    return x[index.fill(arrays)]


def _getitem_vjp(i: int, g: Any, y: Any, x: Any, *arrays: Any, index: Index) -> Any:
    if i > 0:
        return None
    write = "setitem" if not arrays or distinct(*arrays) else "add_at"  # only what arrays choose may repeat
    return apply(write, zeros(g, x.shape, g.dtype), g, *arrays, index=index)


def distinct(*arrays: Any) -> bool:
    """Return whether index arrays surely choose no element twice: a known one of them never repeats, and is not
    broadcast.
    """
    widest = np.broadcast_shapes(*(np.shape(a) for a in arrays))
    for a in arrays:
        known = a if isinstance(a, np.ndarray) and type(a) is np.ndarray else getattr(a, "_known", None)
        if known is not None and known.shape == widest and known.dtype.kind in "iu":
            order = np.sort(known, axis=None)
            if order.size == 0 or (order[0] >= 0 and bool((order[1:] != order[:-1]).all())):
                return True
    return False


def _setitem(x: Any, v: Any, *arrays: Any, index: Index) -> Any:
    y = np.array(x)  # not x.copy(): a constant may be a number
    y[index.fill(arrays)] = v
    return y


def _setitem_vjp(i: int, g: Any, y: Any, x: Any, v: Any, *arrays: Any, index: Index) -> Any:
    if i == 0:
        return apply("setitem", g, 0.0, *arrays, index=index)
    if i > 1:
        return None
    taken = apply("getitem", g, *arrays, index=index)
    if arrays and not distinct(
        *arrays
    ):  # where an element is written twice, the last writer wins and the others have no influence
        count = np.arange(math.prod(taken.shape)).reshape(taken.shape)
        winner = apply("setitem", zeros(g, x.shape, count.dtype), count, *arrays, index=index)
        taken = np.where(apply("getitem", winner, *arrays, index=index) == count, taken, 0.0)
    return unbroadcast(taken, np.shape(v))


def _add_at(x: Any, v: Any, *arrays: Any, index: Index) -> Any:
    y = np.array(x)
    add_into(y, v, index.fill(arrays), bool(arrays))
    return y


def add_into(y: Any, v: Any, where: Any, repeated: bool) -> None:
    """Add ``v`` into ``y[where]`` in place; ``repeated``: the index holds arrays, whose elements may repeat."""
    if repeated:
        np.add.at(y, where, v)
    else:
        y[where] += v


def rows_into(result: Any, x: Any, index: Any) -> None:
    """Write ``x[index]`` into ``result``; ``index``: an array of whole numbers."""
    within = index.size and np.minimum.reduce(index, None) >= 0 and np.maximum.reduce(index, None) < len(x)
    if within and x.flags.c_contiguous:
        x.take(index, 0, result, "clip")  # "clip" only spares NumPy a copy: every row exists
    else:
        result[...] = x[index]


def _add_at_vjp(i: int, g: Any, y: Any, x: Any, v: Any, *arrays: Any, index: Index) -> Any:
    if i == 0:
        return g
    return unbroadcast(apply("getitem", g, *arrays, index=index), np.shape(v)) if i == 1 else None


def unbroadcast(g: Any, shape: Shape) -> Any:
    """Sum ``g`` over the axes along which ``shape`` was broadcast: the derivative of broadcasting."""
    if g.shape == shape:
        return g
    given = g.shape
    lead = len(given) - len(shape)
    if lead < 0:
        return np.broadcast_to(g, shape)
    if given[lead:] == shape:
        return apply("sum", g, axis=tuple(range(lead)) if shape else None, keepdims=False)
    ones = tuple([i + lead for i, n in enumerate(shape) if n == 1 and given[i + lead] != 1])
    if not ones and not lead:
        return np.broadcast_to(g, shape)
    g = apply("sum", g, axis=(*range(lead), *ones), keepdims=True)
    return apply("reshape", g, shape=shape) if lead else g


def _index(*items: Any) -> dict[str, Any]:
    return {"index": Index(items)}


add_row(
    Op(
        "getitem",
        _getitem,
        _getitem_vjp,
        index="reads",
        code=lambda y, args, params: f"{y} = {args[0]}[{params['index'].text(args[1:])}]",
        moves=True,
        exact=True,
        domain=(ANY,),
        examples=(
            (((4,),), _index(1)),
            (((4,),), _index(slice(1, None))),
            (((3, 4),), _index(slice(None, None, -2), None, slice(1, 3))),
            (((2, 3),), _index(Ellipsis, -1)),
        ),
    )
)
add_row(
    Op(
        "setitem",
        _setitem,
        _setitem_vjp,
        index="sets",
        shape=lambda x, *rest, index: x,
        dtype=lambda x, *rest: x,
        code=lambda y, args, params: f"{y} = np.array({args[0]}); {y}[{params['index'].text(args[2:])}] = {args[1]}",
        moves=True,
        exact=True,
        domain=(ANY, ANY),
        examples=(
            (((4,), ()), _index(1)),
            (((4,), (3,)), _index(slice(1, None))),
            (((3, 4), (4,)), _index(slice(None, None, 2))),
        ),
    )
)


def _add_at_code(y: str, args: Sequence[str], params: dict[str, Any]) -> str:
    index = params["index"].text(args[2:])
    if params["index"].holes:
        return f"{y} = np.array({args[0]}); np.add.at({y}, np.s_[{index}], {args[1]})"
    return f"{y} = np.array({args[0]}); {y}[{index}] += {args[1]}"


add_row(
    Op(
        "add_at",
        _add_at,
        _add_at_vjp,
        index="adds",
        shape=lambda x, *rest, index: x,
        dtype=lambda x, *rest: x,
        code=_add_at_code,
        moves=True,
        exact=True,
        bound=lambda x, v, *_: x.largest + v.largest * math.prod(v.shape),
        domain=(ANY, ANY),
        examples=((((4,), ()), _index(1)), (((4,), (3,)), _index(slice(1, None)))),
    )
)
add_row(
    Op(
        "zeros",
        lambda *, shape, dtype: np.zeros(shape, dtype),
        shape=lambda *, shape, dtype: shape,
        code=lambda y, args, params: f"{y} = np.zeros({params['shape']}, np.{params['dtype'].name})",
        moves=True,
        fills=0,
        exact=True,
        bound=lambda: 0.0,
    )
)


def _reshape_vjp(g: Any, y: Any, x: Any, *, shape: Shape) -> Any:
    return apply("reshape", g, shape=x.shape)


add_row(
    Op(
        "reshape",
        lambda x, *, shape: x.reshape(shape),
        (_reshape_vjp,),
        shape=lambda x, *, shape: shape,
        code=lambda y, args, params: f"{y} = np.reshape({args[0]}, {params['shape']})",
        view=True,
        moves=True,
        reshapes=True,
        exact=True,
        method="reshape",
        domain=(ANY,),
        examples=((((2, 3),), {"shape": (3, 2)}), (((6,),), {"shape": (2, 3)})),
    )
)


def _inverse(axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


add_row(
    Op(
        "transpose",
        lambda x, *, axes: x.transpose(axes),
        (lambda g, y, x, *, axes: apply("transpose", g, axes=_inverse(axes)),),
        shape=lambda x, *, axes: tuple(x[i] for i in axes),
        code=lambda y, args, params: (
            f"{y} = {args[0]}.T"
            if params["axes"] == tuple(range(len(params["axes"])))[::-1]
            else f"{y} = {args[0]}.transpose({params['axes']})"
        ),
        view=True,
        moves=True,
        exact=True,
        method="transpose",
        domain=(ANY,),
        examples=((((2, 3),), {"axes": (1, 0)}), (((2, 3, 2),), {"axes": (2, 0, 1)})),
    )
)
add_row(
    Op(
        "broadcast_to",
        lambda x, *, shape: np.broadcast_to(x, shape),
        (lambda g, y, x, *, shape: unbroadcast(g, np.shape(x)),),
        shape=lambda x, *, shape: shape,
        code=lambda y, args, params: f"{y} = np.broadcast_to({args[0]}, {params['shape']})",
        view=True,
        moves=True,
        spreads=True,
        exact=True,
        domain=(ANY,),
        examples=((((3,),), {"shape": (2, 3)}), (((2, 1),), {"shape": (2, 3)}), (((),), {"shape": (2,)})),
    )
)


def _cuts(g: Any, shapes: Sequence[Shape], *, axis: int) -> Callable[[int], Any]:
    ends = [0, *itertools.accumulate(shape[axis] for shape in shapes)]
    return lambda i: g[(slice(None),) * axis + (slice(ends[i], ends[i + 1]),)]


def _concatenate_vjp(i: int, g: Any, y: Any, *parts: Any, axis: int) -> Any:
    return _cuts(g, [part.shape for part in parts], axis=axis)(i)


def _concatenate_into(result: Any, *parts: Any, axis: int) -> None:
    np.concatenate(parts, axis, result)


def _concatenate_shape(*parts: Shape, axis: int) -> Shape:
    first = parts[0]
    return (*first[:axis], sum(part[axis] for part in parts), *first[axis + 1 :])


add_row(
    Op(
        "concatenate",
        lambda *parts, axis: np.concatenate(parts, axis=axis),
        _concatenate_vjp,
        shape=_concatenate_shape,
        code=lambda y, args, params: f"{y} = np.concatenate([{', '.join(args)}], axis={params['axis']})",
        domain=(ANY, ANY, ANY),
        examples=((((2,), (3,)), {"axis": 0}), (((2, 1), (2, 2), (2, 1)), {"axis": 1})),
        parts=_cuts,
        into=_concatenate_into,
        moves=True,
        exact=True,
    )
)


def _layers(g: Any, shapes: Sequence[Shape], *, axis: int) -> Callable[[int], Any]:
    return lambda i: g[(slice(None),) * axis + (i,)]


def _stack_vjp(i: int, g: Any, y: Any, *parts: Any, axis: int) -> Any:
    return _layers(g, (), axis=axis)(i)


add_row(
    Op(
        "stack",
        lambda *parts, axis: np.stack(parts, axis=axis) if axis or np.ndim(parts[0]) else np.array(parts),
        _stack_vjp,
        shape=lambda *parts, axis: (*parts[0][:axis], len(parts), *parts[0][axis:]),
        code=lambda y, args, params: f"{y} = np.stack([{', '.join(args)}], axis={params['axis']})",
        domain=(ANY, ANY),
        examples=((((), ()), {"axis": 0}), (((2, 3), (2, 3)), {"axis": 1}), (((3,), (3,)), {"axis": 1})),
        parts=_layers,
        moves=True,
        exact=True,
    )
)


add_row(
    Op(
        "nonzero",
        lambda mask, *, axis, count: np.nonzero(mask)[axis],
        shape=lambda mask, *, axis, count: (count,),
        dtype=lambda mask: np.intp,
        exact=True,
        code=lambda y, args, params: f"{y} = np.nonzero({args[0]})[{params['axis']}]",
    )
)


def _sorting(name: str, call: Callable[..., Any], code: str) -> None:
    add_row(
        Op(
            name,
            call,
            shape=_same_shape,
            dtype=lambda x: np.intp,
            code=lambda y, args, params: f"{y} = " + code.format(args[0], params["axis"]),
            exact=True,
        )
    )


_sorting(
    "argsort", lambda x, *, axis: np.argsort(x, axis=axis, kind="stable"), "np.argsort({0}, axis={1}, kind='stable')"
)
for _name, _call, _monoid in (("argmax", np.argmax, _MAXIMUM), ("argmin", np.argmin, _MINIMUM)):
    add_row(
        Op(
            _name,
            _call,
            dtype=lambda x: np.intp,
            finds=_monoid,
            exact=True,
            method=_name,
            shape=lambda x, *, axis: reduced_shape(x, axis=None if axis is None else (axis,)),
            code=lambda y, args, params, name=_name: f"{y} = np.{name}({args[0]}, axis={params['axis']})",
        )
    )
add_row(
    Op(
        "searchsorted",
        lambda a, v, *, side: np.searchsorted(a, v, side=side),
        shape=lambda a, v, *, side: v,
        dtype=lambda a, v: np.intp,
        exact=True,
        code=lambda y, args, params: f"{y} = np.searchsorted({args[0]}, {args[1]}, side={params['side']!r})",
    )
)


# --- products
def _matmul_shape(a: Shape, b: Shape) -> Shape:
    if len(a) == 1 and len(b) == 1:
        return ()
    if len(a) == 1:
        return (*b[:-2], b[-1])
    if len(b) == 1:
        return a[:-1]
    return (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1])


def _swap(x: Any) -> Any:
    n = len(x.shape)
    return apply("transpose", x, axes=(*range(n - 2), n - 1, n - 2))


def _matmul_a(g: Any, y: Any, a: Any, b: Any) -> Any:
    m, n = len(a.shape), len(b.shape)
    if m == 1 and n == 1:
        return g * b
    if n == 1:
        return unbroadcast(g[..., None] * b, a.shape)
    if m == 1:
        return unbroadcast(np.matmul(b, g[..., None])[..., 0], a.shape)
    return unbroadcast(g @ _swap(b), a.shape)


def _matmul_b(g: Any, y: Any, a: Any, b: Any) -> Any:
    m, n = len(a.shape), len(b.shape)
    if m == 1 and n == 1:
        return g * a
    if m == 1:
        return unbroadcast(a[:, None] * g[..., None, :], b.shape)
    if n == 1:
        return unbroadcast(np.matmul(_swap(a), g[..., None])[..., 0], b.shape)
    return unbroadcast(_swap(a) @ g, b.shape)


add_row(
    Op(
        "matmul",
        np.matmul,
        (_matmul_a, _matmul_b),
        shape=_matmul_shape,
        bound=lambda a, b: a.largest * b.largest * a.shape[-1],
        code="{0} @ {1}",
        out=True,
        domain=(ANY, ANY),
        examples=(
            (((3,), (3,)), {}),
            (((2, 3), (3,)), {}),
            (((3,), (3, 2)), {}),
            (((2, 3), (3, 2)), {}),
            (((2, 2, 3), (3, 2)), {}),
            (((3,), (2, 3, 2)), {}),
            (((2, 2, 3), (3,)), {}),
        ),
    )
)


def _einsum(*operands: Any, subscripts: str) -> Any:
    y = np.einsum(subscripts, *operands)
    return y if y.base is None else y.copy()  # NumPy gives a view of a diagonal or a transpose


def _einsum_shape(*shapes: Shape, subscripts: str) -> Shape:
    terms, result = subscripts.split("->")
    sizes: dict[str, int] = {}
    for term, shape in zip(terms.split(","), shapes, strict=True):
        for letter, n in zip(term, shape, strict=True):
            sizes[letter] = max(n, sizes.get(letter, 1))
    return tuple(sizes[letter] for letter in result)


def _einsum_vjp(i: int, g: Any, y: Any, *operands: Any, subscripts: str) -> Any:
    """Swap operand and result: the cotangent is an einsum of g with the other operands.

    A letter twice in the operand is a diagonal, written back into zeros; a letter that only it has was summed:
    broadcast.
    """
    left, result = subscripts.split("->")
    terms = left.split(",")
    target, shape = terms[i], operands[i].shape
    others = [(t, o) for j, (t, o) in enumerate(zip(terms, operands, strict=True)) if j != i]
    letters = "".join(dict.fromkeys(target))
    known = set(result).union(*(t for t, _ in others))
    have = "".join(c for c in letters if c in known)
    value = apply(
        "einsum", g, *(o for _, o in others), subscripts=f"{','.join([result, *(t for t, _ in others)])}->{have}"
    )
    sizes = dict(zip(target, shape, strict=True))
    full = tuple(sizes[c] for c in letters)
    value = unbroadcast(value, tuple(sizes[c] for c in have))  # an axis of length 1 that was stretched
    if have != letters:
        value = value.reshape(tuple(sizes[c] if c in have else 1 for c in letters))
        value = np.broadcast_to(value, full)
    if letters == target:
        return value
    grids = np.ix_(*(np.arange(n) for n in full))
    index = [grids[letters.index(c)] for c in target]
    return apply("add_at", zeros(g, shape, value.dtype), value, *index, index=Index((Index.HOLE,) * len(index)))


add_row(
    Op(
        "einsum",
        _einsum,
        _einsum_vjp,
        shape=_einsum_shape,
        code=lambda y, args, params: f"{y} = np.einsum({params['subscripts']!r}, {', '.join(args)})",
        domain=(ANY, ANY),
        examples=(
            (((2, 3), (3, 2)), {"subscripts": "ij,jk->ik"}),
            (((3, 3),), {"subscripts": "ii->"}),
            (((3, 3),), {"subscripts": "ii->i"}),
            (((2, 3), (2,)), {"subscripts": "ij,i->"}),
            (((2, 3),), {"subscripts": "ij->i"}),
        ),
    )
)

_operators: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "negative": operator.neg,
    "power": operator.pow,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "equal": operator.eq,
    "not_equal": operator.ne,
}
ON_NUMBERS.update({OPS[name]: call for name, call in _operators.items()})
