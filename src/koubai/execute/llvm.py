"""The primitives as LLVM IR: one emitter per row of OPS, for a number, for a vector of them, for float64 and float32.

The arithmetic is strict (there are no fast-math flags), so that it has NumPy's bits; what is not arithmetic comes from
`koubai.execute.vectormath`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from koubai.execute import library, vectormath
from koubai.execute.elements import NotLowerable
from koubai.execute.ir import BOOL, TAGS, Code, Function, Value, literal
from koubai.execute.lower import pair
from koubai.graph.graph import CONSTANT, Node
from koubai.graph.ops import OPS, Monoid, Op

__all__ = [
    "CALL",
    "DATA",
    "KINDS",
    "Emitter",
    "combiner",
    "cost",
    "elementwise",
    "has_code",
    "held_dtype",
    "module",
    "scalar",
]  # fmt: skip

KINDS: dict[Any, str] = {np.dtype(np.float64): "double", np.dtype(np.float32): "float", np.dtype(np.bool_): BOOL}
INLINED = 16  # calls of vectormath in a text: more would take the compiler longer than they save
DATA = object.__basicsize__  # NumPy's C interface: a pointer to the data follows the head of the array object


def scalar(code: Code, node: Node) -> Value:
    """Return the number that a CONSTANT of one element holds, in its node's type. Raises NotLowerable."""
    value = np.asarray(node.params["value"])
    if value.dtype.kind not in "fiub":
        raise NotLowerable(f"a constant of {value.dtype}")
    given = literal(value.ravel()[0].item())
    kind = KINDS.get(node.dtype, "") if node.dtype is not None else ""
    return code.cast(given, kind) if kind else given


def _function(code: Code, name: str, *values: Value) -> Value:
    """Call a function of vectormath."""
    values = tuple(code.broadcast(values))
    kind, lanes, of = values[0].kind, values[0].lanes, values[0].type
    code.called.add((name, TAGS[kind], lanes))
    symbol = vectormath.symbol(name, TAGS[kind], lanes)
    return code.pure(f'call {of} @"{symbol}"({", ".join([v.typed for v in values])})', kind, lanes)


def module(*functions: Function, inlined: bool = False) -> str:
    """Return the whole text: functions, those of vectormath that they call, and declarations, each once.

    inlined: whether what they call becomes part of their loops, in which its constants stay in registers, as long as
    there are few calls.
    """
    called: set[tuple[str, str, int]] = set()
    declared: set[str] = set()
    for one in functions:
        called |= one.called
        declared |= one.declared
    texts = [one.text() for one in functions]
    inlined = inlined and sum(text.count('@"kb.') for text in texts) <= INLINED
    body = []
    for line in vectormath.definitions(sorted(called), fma=library.has_fma(), inlined=inlined).splitlines():
        if line.startswith("declare "):
            declared.add(line)
        else:
            body.append(line)
    return "\n".join([*sorted(declared), *body, *texts])


# -- the primitives ---------------------------------------------------------------------------------------------------

Emitter = Callable[..., Value]
_EMIT: dict[str, Emitter] = {}  # on operands of the result's kind
_SPECIAL: dict[str, Emitter] = {}  # on operands of any kind: called with (code, node, operands, dtypes)
_DTYPES = {kind: dtype for dtype, kind in KINDS.items()}
_POWER = OPS["power"]
INTEGER_POWERS = 4  # up to here by multiplication, within 2 ulp
CALL = 20  # operations that a function of vectormath counts for


_EMIT |= {
    "add": lambda code, a, b: a + b,
    "subtract": lambda code, a, b: a - b,
    "multiply": lambda code, a, b: a * b,
    "divide": lambda code, a, b: a / b,
    "negative": lambda code, x: -x,
    "copysign": lambda code, a, b: a.with_sign(b),
}
for _name in ("positive", "conjugate", "real"):
    _EMIT[_name] = lambda code, x: x
for _name, _intrinsic in (("absolute", "fabs"), *((n, n) for n in ("sqrt", "floor", "ceil", "trunc", "rint"))):
    _EMIT[_name] = lambda code, x, name=_intrinsic: code.intrinsic(name, x)


def _extreme(predicate: str, nan_wins: bool) -> Emitter:
    def emit(code: Code, a: Value, b: Value) -> Value:
        return code.select(code.compare(predicate, a, b) | (a if nan_wins else b).is_nan(), a, b)

    return emit


_EMIT |= {
    "maximum": _extreme("ogt", True),  # of two zeros the second, as NumPy on x86
    "minimum": _extreme("olt", True),
    "fmax": _extreme("oge", False),
    "fmin": _extreme("ole", False),
}


def _sign(code: Code, x: Value) -> Value:
    above, below = code.cast(x > 0.0, x.kind), code.cast(x < 0.0, x.kind)
    return code.select(x.is_nan(), x, above - below)


def _share(code: Code, a: Value, b: Value) -> Value:
    half, zero = code.constant(0.5, a.kind), code.constant(0.0, a.kind)
    return code.select(a > b, half, zero) + code.select(a >= b, half, zero)


_EMIT |= {"sign": _sign, "share": _share}


def _power(code: Code, a: Value, b: Value, node: Node, invariant: bool) -> Value:
    """invariant: nothing in the node depends on x."""
    known = b.constant
    if known == 0:
        return code.constant(1.0, a.kind)
    if known is not None and float(known).is_integer() and abs(known) <= INTEGER_POWERS:
        x = a if known > 0 else 1.0 / a
        whole = abs(int(known))
        square = x * x if whole > 1 else x
        return {1: x, 2: square}.get(whole) or square * (x if whole == 3 else square)
    if known == 0.5 and node.shape:
        return code.intrinsic("sqrt", a)  # NumPy's shortcut for arrays
    if invariant and a.lanes == b.lanes == 1:
        return code.libm("pow", a, b)  # a power of the step: what Python computes, to the bit
    if "power" not in vectormath.FUNCTIONS:
        raise NotLowerable("power")
    return _function(code, "power", a, b)


def _logic(name: str) -> Emitter:
    def emit(code: Code, node: Node, operands: Sequence[Value], dtypes: Sequence[Any]) -> Value:
        return code.binary(name, *(code.cast(v, BOOL) for v in operands))

    return emit


def _not(code: Code, node: Node, operands: Sequence[Value], dtypes: Sequence[Any]) -> Value:
    return ~code.cast(operands[0], BOOL)


def _comparison(on_numbers: str, on_bools: str) -> Emitter:
    def emit(code: Code, node: Node, operands: Sequence[Value], dtypes: Sequence[Any]) -> Value:
        common = np.result_type(*dtypes)
        if common == np.bool_:
            return code.compare(on_bools, *(code.cast(v, BOOL) for v in operands))
        kind = KINDS.get(common, "double" if common.kind in "iu" else "")
        if not kind:
            raise NotLowerable(f"{node.op.name} of {common}")
        return code.compare(on_numbers, *(code.cast(v, kind) for v in operands))

    return emit


def _test(how: Callable[[Value], Value]) -> Emitter:
    def emit(code: Code, node: Node, operands: Sequence[Value], dtypes: Sequence[Any]) -> Value:
        if operands[0].kind not in TAGS:
            raise NotLowerable(f"{node.op.name} of {dtypes}")
        return how(operands[0])

    return emit


def _kind(node: Node) -> str:
    kind = KINDS.get(node.dtype, "") if node.dtype is not None else "double"
    if not kind:
        raise NotLowerable(f"{node.op.name} of {node.dtype}")
    return kind


def _where(code: Code, node: Node, operands: Sequence[Value], dtypes: Sequence[Any]) -> Value:
    (condition, a, b), kind = operands, _kind(node)
    return code.select(code.cast(condition, BOOL), code.cast(a, kind), code.cast(b, kind))


_SPECIAL |= {
    **{f"logical_{name}": _logic(name) for name in ("and", "or", "xor")},
    "logical_not": _not,
    "less": _comparison("olt", "ult"),
    "less_equal": _comparison("ole", "ule"),
    "greater": _comparison("ogt", "ugt"),
    "greater_equal": _comparison("oge", "uge"),
    "equal": _comparison("oeq", "eq"),
    "not_equal": _comparison("une", "ne"),
    "isnan": _test(Value.is_nan),
    "isfinite": _test(Value.is_finite),
    "isinf": _test(lambda x: abs(x).equals(np.inf)),
    "signbit": _test(lambda x: x.like(1.0).with_sign(x) < 0.0),
    "where": _where,
}


def has_code(op: Op) -> bool:
    """Return whether there is code for the row itself, so that it need not be written out in others."""
    return op.converts or op.name in _EMIT or op.name in _SPECIAL or op.name in vectormath.FUNCTIONS


def elementwise(
    code: Code, node: Node, operands: Sequence[Value], inputs: Sequence[Node], invariant: bool = False
) -> Value:
    """Return one element (or one vector of them) of an elementwise node.

    inputs: the nodes of the operands, for their dtypes. invariant: nothing in the node depends on x.
    Raises NotLowerable if there is no code for it.
    """
    op, name = node.op, node.op.name
    if any(n.dtype is not None and n.dtype not in KINDS and n.op is not CONSTANT for n in inputs):
        raise NotLowerable(f"{name} of {[n.dtype for n in inputs]}")
    if op.converts:
        return code.cast(operands[0], _kind(node))
    if name in _SPECIAL:
        return _SPECIAL[name](code, node, operands, [_weak(n) for n in inputs])
    kind = _kind(node)
    if kind not in TAGS:
        raise NotLowerable(f"{name} of {node.dtype}")
    given = [code.cast(v, kind) for v in operands]
    if op is _POWER:
        return _power(code, given[0], given[1], node, invariant)
    if name in _EMIT:
        return _EMIT[name](code, *given)
    if name in vectormath.FUNCTIONS:
        return _function(code, name, *given)
    raise NotLowerable(name)


def combiner(monoid: Monoid) -> Emitter:
    """Return the code that combines two results of a reduction: called with (code, a, b) of one kind.

    Raises NotLowerable if there is none.
    """
    op = OPS[monoid.join]
    if not has_code(op) and pair(op, np.dtype(np.float64), has_code) is None:
        raise NotLowerable(op.name)

    def combine(code: Code, a: Value, b: Value) -> Value:
        if op.name in _EMIT:
            return _EMIT[op.name](code, a, b)
        if op.name in _SPECIAL:  # of truth values, which may be carried as numbers
            return code.cast(_SPECIAL[op.name](code, _NOTHING, (a, b), ()), a.kind)
        if op.name in vectormath.FUNCTIONS:
            return _function(code, op.name, a, b)
        part = pair(op, _DTYPES[a.kind], has_code)
        if part is None:
            raise NotLowerable(op.name)
        values = dict(zip(part.inputs, (a, b), strict=True))
        for i, node in enumerate(part.nodes):
            if i not in values and node.op is CONSTANT:
                values[i] = scalar(code, node)
            elif i not in values:
                inputs = [part.nodes[j] for j in node.inputs]
                values[i] = elementwise(code, node, [values[j] for j in node.inputs], inputs)
        return values[part.outputs[0]]

    return combine


def cost(node: Node, given: Sequence[Node], lanes: int) -> int:
    """Return how many operations an element takes, of so many at once. Raises NotLowerable if there is no code."""
    code = Code()
    operands = []
    for n in given:
        if n.op is CONSTANT and math.prod(n.shape) == 1:
            operands.append(scalar(code, n))
        else:
            operands.append(Value("%x", KINDS.get(held_dtype(n), ""), lanes, None, code))
    elementwise(code, node, operands, given, lanes == 1)
    slow = sum(4 for line in code.lines if "fdiv" in line or "sqrt" in line)
    return len(code.lines) + slow + CALL * len(code.called)


def held_dtype(node: Node) -> np.dtype[Any]:
    """Return the dtype in which a kernel reads an array: of integers, as NumPy converts them."""
    if node.op is CONSTANT and node.dtype is not None and node.dtype.kind in "iu":
        return np.dtype(np.float64)
    if node.dtype not in KINDS:
        raise NotLowerable(f"an array of {node.dtype}")
    return node.dtype  # type: ignore[return-value]


def _weak(node: Node) -> Any:
    return node.dtype if node.dtype is not None else type(node.params["value"])(1)


_NOTHING: Any = None  # the code that combines truth values needs no node
