"""The primitives as LLVM IR: one emitter a row of OPS, for a number, for a vector of them, for float64 and float32.

The arithmetic is strict (no fast-math flag stands anywhere), so that it has NumPy's bits; what is not arithmetic comes
from `koubai.execute.vectormath`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from koubai.execute import vectormath
from koubai.execute.elements import Unsuitable
from koubai.graph.graph import CONSTANT, Node

__all__ = [
    "BOOL", "DATA", "KINDS", "TAGS", "Code", "Phi", "Value", "constant", "elementwise", "emitter", "literal", "of_type",
]  # fmt: skip

BOOL = "i1"
KINDS: dict[Any, str] = {np.dtype(np.float64): "double", np.dtype(np.float32): "float", np.dtype(np.bool_): BOOL}
TAGS = {"double": "f64", "float": "f32"}
DATA = object.__basicsize__  # NumPy's C interface: a pointer to the data follows the head of the array object


class Value:
    """An SSA value or a constant. kind: "double", "float" or "i1"; lanes: 1, or how many of them side by side.

    number: what a constant is, so that it can be written in another precision; "number" kind: not yet given one.
    Not a tuple: NumPy must take it for one entry of an object array.
    """

    __slots__ = ("kind", "lanes", "number", "text")

    def __init__(self, text: str, kind: str, lanes: int = 1, number: Any = None) -> None:
        self.text, self.kind, self.lanes, self.number = text, kind, lanes, number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and (self.text, self.kind) == (other.text, other.kind)

    __hash__ = None  # type: ignore[assignment]


def literal(value: Any) -> Value:
    """Return a constant that takes the kind of what it meets."""
    return Value("", "number", 1, value)


def constant(code: Code, node: Node) -> Value:
    """Return the number that a CONSTANT of one element holds, in its node's type. Raises Unsuitable."""
    value = np.asarray(node.params["value"])
    if value.dtype.kind not in "fiub":
        raise Unsuitable(f"a constant of {value.dtype}")
    given = literal(value.ravel()[0].item())
    kind = KINDS.get(node.dtype, "") if node.dtype is not None else ""
    return code.cast(given, kind) if kind else given


def _digits(value: float, kind: str) -> str:
    """Write a number exactly, as LLVM reads it: the bits of the double that it is."""
    with np.errstate(over="ignore"):
        number = float(np.float32(value)) if kind == "float" else float(value)
    return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"


def of_type(kind: str, lanes: int) -> str:
    return kind if lanes == 1 else f"<{lanes} x {kind}>"


class Code:
    """One function's body under construction: a list of lines, and what they call."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.count = 0
        self.declared: set[str] = set()  # LLVM's intrinsics and libm
        self.called: set[tuple[str, str, int]] = set()  # of vectormath
        self._known: dict[str, str] = {}  # expression -> its name: each stands once in a block

    def block(self, label: str) -> None:
        """Begin a basic block: what was computed in another one may not have been."""
        self.lines.append(f"{label}:")
        self._known = {}

    def line(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def raw(self, expression: str) -> str:
        """Add an instruction and return the name of its result."""
        name = self._known.get(expression)
        if name is None:
            self.count += 1
            name = self._known[expression] = f"%v{self.count}"
            self.lines.append(f"  {name} = {expression}")
        return name

    def load(self, expression: str) -> str:
        """Add an instruction that may give something else each time."""
        self.count += 1
        self.lines.append(f"  %v{self.count} = {expression}")
        return f"%v{self.count}"

    # -- values -------------------------------------------------------------------------------------------------------

    def cast(self, v: Value, kind: str) -> Value:
        """Return ``v`` in another kind."""
        if v.kind == kind:
            return v
        if v.kind == "number":
            if kind == BOOL:
                return Value("true" if v.number else "false", BOOL, 1, v.number)
            return Value(_digits(v.number, kind), kind, 1, v.number)
        if v.number is not None and kind != BOOL and v.kind != BOOL:
            number = float(np.float32(v.number)) if v.kind == "float" else v.number
            return Value(_digits(number, kind), kind, 1, number)
        source, target = of_type(v.kind, v.lanes), of_type(kind, v.lanes)
        if kind == BOOL:
            return Value(self.raw(f"fcmp une {source} {v.text}, zeroinitializer"), BOOL, v.lanes)
        if v.kind == BOOL:
            return Value(self.raw(f"uitofp {source} {v.text} to {target}"), kind, v.lanes)
        how = "fpext" if kind == "double" else "fptrunc"
        return Value(self.raw(f"{how} {source} {v.text} to {target}"), kind, v.lanes)

    def spread(self, v: Value, lanes: int) -> Value:
        """Return ``v`` once in each lane."""
        if v.lanes == lanes:
            return v
        vector = of_type(v.kind, lanes)
        if v.number is not None:
            return Value(f"splat ({v.kind} {v.text})", v.kind, lanes, None)
        one = self.raw(f"insertelement {vector} poison, {v.kind} {v.text}, i32 0")
        spread = self.raw(f"shufflevector {vector} {one}, {vector} poison, <{lanes} x i32> zeroinitializer")
        return Value(spread, v.kind, lanes)

    def shuffled(self, picks: Iterable[int], a: Value, b: Value | None = None) -> Value:
        """Return the lanes with these numbers, of ``a`` and, counting on, of ``b``."""
        chosen = [f"i32 {k}" for k in picks]
        of, other = of_type(a.kind, a.lanes), "poison" if b is None else b.text
        mask = f"<{len(chosen)} x i32> <{', '.join(chosen)}>"
        return Value(self.raw(f"shufflevector {of} {a.text}, {of} {other}, {mask}"), a.kind, len(chosen))

    def together(self, values: Sequence[Value]) -> list[Value]:
        """Return the values with equally many lanes."""
        lanes = max(v.lanes for v in values)
        return [self.spread(v, lanes) for v in values]

    def binary(self, instruction: str, a: Value, b: Value) -> Value:
        """Compute with two values of one kind."""
        a, b = self.together((a, b))
        return Value(self.raw(f"{instruction} {of_type(a.kind, a.lanes)} {a.text}, {b.text}"), a.kind, a.lanes)

    def compare(self, predicate: str, a: Value, b: Value) -> Value:
        a, b = self.together((a, b))
        how = "icmp" if a.kind == BOOL else "fcmp"
        return Value(self.raw(f"{how} {predicate} {of_type(a.kind, a.lanes)} {a.text}, {b.text}"), BOOL, a.lanes)

    def select(self, c: Value, a: Value, b: Value) -> Value:
        c, a, b = self.together((c, a, b))
        kind = of_type(a.kind, a.lanes)
        text = f"select {of_type(BOOL, c.lanes)} {c.text}, {kind} {a.text}, {kind} {b.text}"
        return Value(self.raw(text), a.kind, a.lanes)

    def intrinsic(self, name: str, *values: Value) -> Value:
        """Call one of LLVM's own functions, which work lane by lane."""
        values = tuple(self.together(values))
        kind, lanes = values[0].kind, values[0].lanes
        of = of_type(kind, lanes)
        symbol = f"@llvm.{name}.{'' if lanes == 1 else f'v{lanes}'}{TAGS[kind]}"
        self.declared.add(f"declare {of} {symbol}({', '.join([of] * len(values))})")
        return Value(self.raw(f"call {of} {symbol}({', '.join(f'{of} {v.text}' for v in values)})"), kind, lanes)

    def function(self, name: str, *values: Value) -> Value:
        """Call a function of vectormath."""
        values = tuple(self.together(values))
        kind, lanes = values[0].kind, values[0].lanes
        of = of_type(kind, lanes)
        self.called.add((name, TAGS[kind], lanes))
        symbol = vectormath.symbol(name, TAGS[kind], lanes)
        return Value(self.raw(f'call {of} @"{symbol}"({", ".join(f"{of} {v.text}" for v in values)})'), kind, lanes)

    def libm(self, name: str, *values: Value) -> Value:
        """Call the C library on single numbers, as Python does."""
        of = values[0].kind
        symbol = f"@{name}{'f' if of == 'float' else ''}"
        self.declared.add(f"declare {of} {symbol}({', '.join([of] * len(values))})")
        return Value(self.raw(f"call {of} {symbol}({', '.join(f'{of} {v.text}' for v in values)})"), of)

    def number(self, value: float, kind: str) -> Value:
        return Value(_digits(value, kind), kind, 1, value)

    def no(self, v: Value) -> Value:
        true = "true" if v.lanes == 1 else f"splat ({BOOL} true)"
        return Value(self.raw(f"xor {of_type(BOOL, v.lanes)} {v.text}, {true}"), BOOL, v.lanes)

    def all(self, values: Sequence[Value]) -> Value:
        """Return whether all of these are true."""
        total = values[0]
        for v in values[1:]:
            total = self.binary("and", total, v)
        return total


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
    if x.number is not None:
        return code.number(-x.number, x.kind)
    return Value(code.raw(f"fneg {of_type(x.kind, x.lanes)} {x.text}"), x.kind, x.lanes)


@_emits("square")
def _square(code: Code, x: Value) -> Value:
    return code.binary("fmul", x, x)


@_emits("reciprocal")
def _reciprocal(code: Code, x: Value) -> Value:
    return code.binary("fdiv", code.number(1.0, x.kind), x)


@_emits("deg2rad", "radians")
def _radians(code: Code, x: Value) -> Value:
    return code.binary("fmul", x, code.number(np.pi / 180.0, x.kind))


@_emits("rad2deg", "degrees")
def _degrees(code: Code, x: Value) -> Value:
    single = np.float32(180.0) / np.float32(np.pi)  # NumPy rounds both, then the quotient
    factor = 180.0 / np.pi if x.kind == "double" else float(single)
    return code.binary("fmul", x, code.number(factor, x.kind))


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
    zero = code.number(0.0, x.kind)
    above = code.cast(code.compare("ogt", x, zero), x.kind)
    below = code.cast(code.compare("olt", x, zero), x.kind)
    return code.select(_is_nan(code, x), x, code.binary("fsub", above, below))


@_emits("share")
def _share(code: Code, a: Value, b: Value) -> Value:
    half = code.number(0.5, a.kind)
    zero = code.number(0.0, a.kind)
    above = code.select(code.compare("ogt", a, b), half, zero)
    return code.binary("fadd", above, code.select(code.compare("oge", a, b), half, zero))


@_emits("heaviside")
def _heaviside(code: Code, x: Value, at_zero: Value) -> Value:
    zero = code.number(0.0, x.kind)
    step = code.cast(code.compare("ogt", x, zero), x.kind)
    step = code.select(code.compare("oeq", x, zero), at_zero, step)
    return code.select(_is_nan(code, x), x, step)


@_emits("quotient_or_zero")
def _quotient_or_zero(code: Code, a: Value, b: Value) -> Value:
    zero = code.number(0.0, a.kind)
    either = code.binary("or", code.compare("une", a, zero), code.compare("une", b, zero))
    return code.select(either, code.binary("fdiv", a, b), zero)


def _power(code: Code, a: Value, b: Value, node: Node, uniform: bool) -> Value:
    known = b.number
    if known == 0:
        return code.number(1.0, a.kind)
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
    return code.function("power", a, b)


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
            one = code.intrinsic("copysign", code.number(1.0, x.kind), x)
            return code.compare("olt", one, code.number(0.0, x.kind))
        return code.compare(
            "olt" if name == "isfinite" else "oeq", code.intrinsic("fabs", x), code.number(np.inf, x.kind)
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
    function = _OTHER_NAMES.get(name, name)
    if function in vectormath.FUNCTIONS:
        return code.function(function, *given)
    raise Unsuitable(name)


def emitter(name: str) -> Emitter:
    """Return the code of a primitive on operands of its own kind."""
    return _EMIT[name]


def _weak(node: Node) -> Any:
    return node.dtype if node.dtype is not None else type(node.params["value"])(1)
