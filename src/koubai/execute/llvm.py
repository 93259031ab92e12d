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
from koubai.execute.ir import BOOL, TAGS, Code, Value, literal, of_type
from koubai.graph.trace import CONSTANT, Node

__all__ = [
    "BOOL", "DATA", "KINDS", "TAGS", "Code", "OldCode", "Phi", "Value", "elementwise", "emitter", "function", "literal",
    "module", "of_type", "scalar",
]  # fmt: skip

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


def module(*functions: Any) -> str:
    """Return the whole text: functions, what they call of vectormath, and declarations, each once."""
    called: set[tuple[str, str, int]] = set()
    declared: set[str] = set()
    for one in functions:
        called |= getattr(one, "code", one).called
        declared |= getattr(one, "code", one).declared
    body = []
    for line in vectormath.definitions(sorted(called), fma=library.has_fma()).splitlines():
        if line.startswith("declare "):
            declared.add(line)
        else:
            body.append(line)
    return "\n".join([*sorted(declared), *body, *(one.text() for one in functions)])


class OldCode(Code):
    def block(self, label: str) -> None:  # type: ignore[override]
        self.lines.append(f"{label}:")
        self._known = {}

    def raw(self, expression: str) -> str:
        return self.pure(expression, "").text

    def load(self, expression: str) -> str:  # type: ignore[override]
        return self.fresh(expression, "").text

    function = function

    def number(self, value: float, kind: str) -> Value:
        return self.constant(value, kind)


class Phi:
    """A value that comes from several blocks; its line is filled in when all of them are written."""

    def __init__(self, code: Code, kind: str, lanes: int) -> None:
        code.count += 1
        self.value = Value(f"%v{code.count}", kind, lanes)
        self.lines, self.at = code.lines, len(code.lines)
        code.lines.append("")

    def close(self, *ways: tuple[Value, str]) -> None:
        of = of_type(self.value.kind, self.value.lanes)
        came = ", ".join(f"[ {v.text}, %{label} ]" for v, label in ways)
        self.lines[self.at] = f"  {self.value.text} = phi {of} {came}"


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


for _name, _instruction in (("add", "fadd"), ("subtract", "fsub"), ("multiply", "fmul"), ("divide", "fdiv")):
    _EMIT[_name] = lambda code, a, b, instruction=_instruction: code.binary(instruction, a, b)
for _name, _intrinsic in (("absolute", "fabs"), *((n, n) for n in ("fabs", "sqrt", "floor", "ceil", "trunc", "rint"))):
    _EMIT[_name] = lambda code, x, name=_intrinsic: code.intrinsic(name, x)


@_emits("copysign")
def _copysign(code: Code, a: Value, b: Value) -> Value:
    return code.intrinsic("copysign", a, b)


@_emits("positive", "conjugate", "real")
def _positive(code: Code, x: Value) -> Value:
    return x


@_emits("negative")
def _negative(code: Code, x: Value) -> Value:
    if x.constant is not None:
        return code.constant(-x.constant, x.kind)
    return code.pure(f"fneg {x.typed}", x.kind, x.lanes)


@_emits("square")
def _square(code: Code, x: Value) -> Value:
    return code.binary("fmul", x, x)


@_emits("reciprocal")
def _reciprocal(code: Code, x: Value) -> Value:
    return code.binary("fdiv", code.constant(1.0, x.kind), x)


@_emits("deg2rad", "radians")
def _radians(code: Code, x: Value) -> Value:
    return code.binary("fmul", x, code.constant(np.pi / 180.0, x.kind))


@_emits("rad2deg", "degrees")
def _degrees(code: Code, x: Value) -> Value:
    single = np.float32(180.0) / np.float32(np.pi)  # NumPy rounds both, then the quotient
    factor = 180.0 / np.pi if x.kind == "double" else float(single)
    return code.binary("fmul", x, code.constant(factor, x.kind))


def _is_nan(code: Code, x: Value) -> Value:
    return code.compare("uno", x, x)


def _extreme(predicate: str, nan_wins: bool) -> Emitter:
    def emit(code: Code, a: Value, b: Value) -> Value:
        first = code.compare(predicate, a, b)
        odd = _is_nan(code, a if nan_wins else b)
        return code.select(code.binary("or", first, odd), a, b)

    return emit


_EMIT |= {
    "maximum": _extreme("ogt", True),  # of two zeros the second, as NumPy on x86
    "minimum": _extreme("olt", True),
    "fmax": _extreme("oge", False),
    "fmin": _extreme("ole", False),
}


@_emits("sign")
def _sign(code: Code, x: Value) -> Value:
    zero = code.constant(0.0, x.kind)
    above = code.cast(code.compare("ogt", x, zero), x.kind)
    below = code.cast(code.compare("olt", x, zero), x.kind)
    return code.select(_is_nan(code, x), x, code.binary("fsub", above, below))


@_emits("share")
def _share(code: Code, a: Value, b: Value) -> Value:
    half = code.constant(0.5, a.kind)
    zero = code.constant(0.0, a.kind)
    above = code.select(code.compare("ogt", a, b), half, zero)
    return code.binary("fadd", above, code.select(code.compare("oge", a, b), half, zero))


@_emits("heaviside")
def _heaviside(code: Code, x: Value, at_zero: Value) -> Value:
    zero = code.constant(0.0, x.kind)
    step = code.cast(code.compare("ogt", x, zero), x.kind)
    step = code.select(code.compare("oeq", x, zero), at_zero, step)
    return code.select(_is_nan(code, x), x, step)


@_emits("quotient_or_zero")
def _quotient_or_zero(code: Code, a: Value, b: Value) -> Value:
    zero = code.constant(0.0, a.kind)
    either = code.binary("or", code.compare("une", a, zero), code.compare("une", b, zero))
    return code.select(either, code.binary("fdiv", a, b), zero)


def _power(code: Code, a: Value, b: Value, node: Node, uniform: bool) -> Value:
    known = b.constant
    if known == 0:
        return code.constant(1.0, a.kind)
    if known is not None and float(known).is_integer() and abs(known) <= INTEGER_POWERS:
        x = a if known > 0 else _reciprocal(code, a)
        whole = abs(int(known))
        square = code.binary("fmul", x, x) if whole > 1 else x
        return {1: x, 2: square}.get(whole) or code.binary("fmul", square, x if whole == 3 else square)
    if known == 0.5 and node.shape:
        return code.intrinsic("sqrt", a)  # NumPy's shortcut for arrays
    if uniform and a.lanes == b.lanes == 1:
        return code.libm("pow", a, b)  # a power of the step: what Python computes, to the bit
    if "power" not in vectormath.FUNCTIONS:
        raise Unsuitable("power")
    return function(code, "power", a, b)


def _bool_of(code: Code, v: Value) -> Value:
    return code.cast(v, BOOL)


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
        flags = [_bool_of(code, v) for v in operands]
        if len(flags) == 1:
            return code.binary("xor", flags[0], Value("true", BOOL, 1, True))
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
            return _is_nan(code, x)
        if name == "signbit":
            one = code.intrinsic("copysign", code.constant(1.0, x.kind), x)
            return code.compare("olt", one, code.constant(0.0, x.kind))
        return code.compare(
            "olt" if name == "isfinite" else "oeq", code.intrinsic("fabs", x), code.constant(np.inf, x.kind)
        )
    kind = KINDS.get(node.dtype, "") if node.dtype is not None else "double"
    if name == "astype":
        if not kind:
            raise Unsuitable(f"astype to {node.dtype}")
        return code.cast(operands[0], kind)
    if name == "where":
        if not kind:
            raise Unsuitable(f"where of {node.dtype}")
        condition, a, b = operands
        return code.select(_bool_of(code, condition), code.cast(a, kind), code.cast(b, kind))
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
