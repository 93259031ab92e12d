"""The primitives as LLVM IR: one emitter a row of OPS, for a number, for a vector of them, for float64 and float32.

The arithmetic is strict (no fast-math flag stands anywhere), so that it has NumPy's bits; what is not arithmetic comes
from `koubai.execute.vectormath`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from koubai.execute import library, vectormath
from koubai.execute.elements import Unsuitable
from koubai.execute.ir import BOOL, TAGS, Code, Function, Value, literal
from koubai.graph.graph import CONSTANT, Node

__all__ = ["DATA", "KINDS", "Emitter", "elementwise", "emitter", "function", "module", "scalar"]

KINDS: dict[Any, str] = {np.dtype(np.float64): "double", np.dtype(np.float32): "float", np.dtype(np.bool_): BOOL}
DATA = object.__basicsize__  # NumPy's C interface: a pointer to the data follows the head of the array object


def scalar(code: Code, node: Node) -> Value:
    """Return the number that a CONSTANT of one element holds, in its node's type. Raises Unsuitable."""
    value = np.asarray(node.params["value"])
    if value.dtype.kind not in "fiub":
        raise Unsuitable(f"a constant of {value.dtype}")
    given = literal(value.ravel()[0].item())
    kind = KINDS.get(node.dtype, "") if node.dtype is not None else ""
    return code.cast(given, kind) if kind else given


def function(code: Code, name: str, *values: Value) -> Value:
    """Call a function of vectormath."""
    values = tuple(code.together(values))
    kind, lanes, of = values[0].kind, values[0].lanes, values[0].type
    code.called.add((name, TAGS[kind], lanes))
    symbol = vectormath.symbol(name, TAGS[kind], lanes)
    return code.pure(f'call {of} @"{symbol}"({", ".join([v.typed for v in values])})', kind, lanes)


def module(*functions: Function) -> str:
    """Return the whole text: functions, what they call of vectormath, and declarations, each once."""
    called: set[tuple[str, str, int]] = set()
    declared: set[str] = set()
    for one in functions:
        called |= one.called
        declared |= one.declared
    body = []
    for line in vectormath.definitions(sorted(called), fma=library.has_fma()).splitlines():
        if line.startswith("declare "):
            declared.add(line)
        else:
            body.append(line)
    return "\n".join([*sorted(declared), *body, *(one.text() for one in functions)])


# -- the primitives ---------------------------------------------------------------------------------------------------

Emitter = Callable[..., Value]
_EMIT: dict[str, Emitter] = {}
_COMPARE = {
    "less": "olt",
    "less_equal": "ole",
    "greater": "ogt",
    "greater_equal": "oge",
    "equal": "oeq",
    "not_equal": "une",
}
_ON_BOOLS = {
    "equal": "eq",
    "not_equal": "ne",
    "less": "ult",
    "less_equal": "ule",
    "greater": "ugt",
    "greater_equal": "uge",
}
_OTHER_NAMES = {"special.expit": "sigmoid"}
INTEGER_POWERS = 4  # up to here by multiplication, within 2 ulp


def _emits(*names: str) -> Callable[[Emitter], Emitter]:
    def register(emitter: Emitter) -> Emitter:
        for name in names:
            _EMIT[name] = emitter
        return emitter

    return register


_EMIT |= {
    "add": lambda code, a, b: a + b,
    "subtract": lambda code, a, b: a - b,
    "multiply": lambda code, a, b: a * b,
    "divide": lambda code, a, b: a / b,
    "negative": lambda code, x: -x,
    "square": lambda code, x: x * x,
    "reciprocal": lambda code, x: 1.0 / x,
    "copysign": lambda code, a, b: a.with_sign(b),
}
for _name in ("positive", "conjugate", "real"):
    _EMIT[_name] = lambda code, x: x
for _name in ("deg2rad", "radians"):
    _EMIT[_name] = lambda code, x: x * (np.pi / 180.0)
for _name, _intrinsic in (("absolute", "fabs"), *((n, n) for n in ("fabs", "sqrt", "floor", "ceil", "trunc", "rint"))):
    _EMIT[_name] = lambda code, x, name=_intrinsic: code.intrinsic(name, x)


@_emits("rad2deg", "degrees")
def _degrees(code: Code, x: Value) -> Value:
    single = np.float32(180.0) / np.float32(np.pi)  # NumPy rounds both, then the quotient
    return x * (180.0 / np.pi if x.kind == "double" else float(single))


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


@_emits("sign")
def _sign(code: Code, x: Value) -> Value:
    above, below = code.cast(x > 0.0, x.kind), code.cast(x < 0.0, x.kind)
    return code.select(x.is_nan(), x, above - below)


@_emits("share")
def _share(code: Code, a: Value, b: Value) -> Value:
    half, zero = code.constant(0.5, a.kind), code.constant(0.0, a.kind)
    return code.select(a > b, half, zero) + code.select(a >= b, half, zero)


@_emits("heaviside")
def _heaviside(code: Code, x: Value, at_zero: Value) -> Value:
    step = code.select(x.equals(0.0), at_zero, code.cast(x > 0.0, x.kind))
    return code.select(x.is_nan(), x, step)


@_emits("quotient_or_zero")
def _quotient_or_zero(code: Code, a: Value, b: Value) -> Value:
    return code.select(a.differs(0.0) | b.differs(0.0), a / b, 0.0)


def _power(code: Code, a: Value, b: Value, node: Node, uniform: bool) -> Value:
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
    if uniform and a.lanes == b.lanes == 1:
        return code.libm("pow", a, b)  # a power of the step: what Python computes, to the bit
    if "power" not in vectormath.FUNCTIONS:
        raise Unsuitable("power")
    return function(code, "power", a, b)


_LOGIC = {"logical_and": "and", "logical_or": "or", "logical_xor": "xor"}
_LOGIC |= {name.replace("logical", "bitwise"): word for name, word in _LOGIC.items()}


def elementwise(
    code: Code, node: Node, operands: Sequence[Value], inputs: Sequence[Node], uniform: bool = False
) -> Value:
    """Return one element (or one vector of them) of an elementwise node.

    inputs: the nodes of the operands, for their dtypes. uniform: nothing in the node depends on x.
    Raises Unsuitable where there is no code for it.
    """
    name = node.op.name
    kinds = [n.dtype for n in inputs]
    if any(
        kind is not None and kind not in KINDS and n.op is not CONSTANT for kind, n in zip(kinds, inputs, strict=True)
    ):
        raise Unsuitable(f"{name} of {kinds}")
    if name in _LOGIC or name in ("logical_not", "invert"):
        if name.startswith(("bitwise", "invert")) and any(kind != np.bool_ for kind in kinds):
            raise Unsuitable(f"{name} of {kinds}")
        flags = [code.cast(v, BOOL) for v in operands]
        if len(flags) == 1:
            return ~flags[0]
        return code.binary(_LOGIC[name], *flags)
    if name in _COMPARE:
        common = np.result_type(*(_weak(n) for n in inputs))
        if common == np.bool_:
            return code.compare(_ON_BOOLS[name], *(code.cast(v, BOOL) for v in operands))
        kind = KINDS.get(common, "double" if common.kind in "iu" else "")
        if not kind:
            raise Unsuitable(f"{name} of {common}")
        return code.compare(_COMPARE[name], *(code.cast(v, kind) for v in operands))
    if name in ("isnan", "isfinite", "isinf", "signbit"):
        (x,) = operands
        if x.kind not in TAGS:
            raise Unsuitable(f"{name} of {kinds}")
        if name == "isnan":
            return x.is_nan()
        if name == "signbit":
            return x.like(1.0).with_sign(x) < 0.0
        return x.is_finite() if name == "isfinite" else abs(x).equals(np.inf)
    kind = KINDS.get(node.dtype, "") if node.dtype is not None else "double"
    if name == "astype":
        if not kind:
            raise Unsuitable(f"astype to {node.dtype}")
        return code.cast(operands[0], kind)
    if name == "where":
        if not kind:
            raise Unsuitable(f"where of {node.dtype}")
        condition, a, b = operands
        return code.select(code.cast(condition, BOOL), code.cast(a, kind), code.cast(b, kind))
    if kind not in TAGS:
        raise Unsuitable(f"{name} of {node.dtype}")
    given = [code.cast(v, kind) for v in operands]
    if name == "power":
        return _power(code, given[0], given[1], node, uniform)
    known = _EMIT.get(name)
    if known is not None:
        return known(code, *given)
    found = _OTHER_NAMES.get(name, name)
    if found in vectormath.FUNCTIONS:
        return function(code, found, *given)
    raise Unsuitable(name)


def emitter(name: str) -> Emitter:
    """Return the code of a primitive on operands of its own kind."""
    return _EMIT[name]


def _weak(node: Node) -> Any:
    return node.dtype if node.dtype is not None else type(node.params["value"])(1)
