"""LLVM IR, written value by value: `Value` has Python's operators, `Code` is the function that they are written into.

The flow of control is structured: a `loop`, a `when` and a `switch` are ``with`` statements, and a `block` is a part
that can be left early from any depth. Values that differ from path to path are carried or given; the labels and phis
that this takes are written here, and nowhere else.

There are no fast-math flags. An instruction whose result is already known on every path to here isn't written again.
"""

from __future__ import annotations

import contextlib
import functools
import math
import operator
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Self, TypeAlias

from koubai.execute.elements import filled

__all__ = [
    "BOOL", "TAGS", "Argument", "Block", "Code", "Function", "Loop", "Operand", "Switch", "Value", "When", "literal",
    "of_type",
]  # fmt: skip

BOOL = "i1"
TAGS = {"double": "f64", "float": "f32"}  # in the names of functions
_WHOLE = {"double": "i64", "float": "i32"}  # the integers with as many bits
_FLOATS = {whole: kind for kind, whole in _WHOLE.items()}
Operand: TypeAlias = "Value | float"
Argument: TypeAlias = "str | tuple[str, str] | tuple[str, str, int]"  # (kind, name, lanes); a name alone: a pointer


def of_type(kind: str, lanes: int) -> str:
    return kind if lanes == 1 else f"<{lanes} x {kind}>"


def _rounded(value: float) -> float:
    """Return a number in single precision."""
    try:
        return struct.unpack("f", struct.pack("f", value))[0]  # type: ignore[no-any-return]
    except OverflowError:
        return math.copysign(math.inf, value)


def _digits(value: float) -> str:
    """Write a number exactly, as LLVM reads it: the bits of the double that it is."""
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


@functools.cache
def _intrinsic(name: str, kind: str, lanes: int, count: int) -> tuple[str, str, str]:
    """Return the type of a function of LLVM's, its name, and what declares it."""
    of, symbol = of_type(kind, lanes), f"@llvm.{name}.{'' if lanes == 1 else f'v{lanes}'}{TAGS.get(kind, kind)}"
    return of, symbol, f"declare {of} {symbol}({', '.join([of] * count)})"


class Value:
    """An SSA value or a constant. kind: "double", "i1", "i64", "ptr", …; lanes: 1, or how many of them side by side.

    constant: what a constant is, so that it can be written in another kind; "literal" kind: not yet given one. Python's
    operators add instructions, and take a Python number for a constant. Not a tuple: NumPy must take it for one entry
    of an object array.
    """

    __slots__ = ("code", "constant", "kind", "lanes", "text")
    code: Code

    def __init__(self, text: str, kind: str, lanes: int = 1, constant: Any = None, code: Any = None) -> None:
        self.text, self.kind, self.lanes, self.constant, self.code = text, kind, lanes, constant, code

    @property
    def type(self) -> str:
        return of_type(self.kind, self.lanes)

    @property
    def typed(self) -> str:
        """The value as an operand, after its type."""
        lanes = self.lanes
        return f"{self.kind} {self.text}" if lanes == 1 else f"<{lanes} x {self.kind}> {self.text}"

    def like(self, other: Operand) -> Value:
        return other if isinstance(other, Value) else self.code.constant(other, self.kind)

    def _binary(self, instruction: str, other: Operand) -> Value:
        return self.code.binary(instruction, self, other if isinstance(other, Value) else self.like(other))

    def _compare(self, predicate: str, other: Operand) -> Value:
        how = "o" if self.kind in TAGS else "" if predicate == "eq" else "s"
        return self.code.compare(how + predicate, self, other)

    def __add__(self, other: Operand) -> Value:
        return self._binary("fadd" if self.kind in TAGS else "add", other)

    def __radd__(self, other: Operand) -> Value:
        return self.like(other) + self

    def __sub__(self, other: Operand) -> Value:
        return self._binary("fsub" if self.kind in TAGS else "sub", other)

    def __rsub__(self, other: Operand) -> Value:
        return self.like(other) - self

    def __mul__(self, other: Operand) -> Value:
        return self._binary("fmul" if self.kind in TAGS else "mul", other)

    def __rmul__(self, other: Operand) -> Value:
        return self.like(other) * self

    def __truediv__(self, other: Operand) -> Value:
        return self._binary("fdiv", other)

    def __rtruediv__(self, other: Operand) -> Value:
        return self.like(other) / self

    def __and__(self, other: Operand) -> Value:
        return self._binary("and", other)

    def __or__(self, other: Operand) -> Value:
        return self._binary("or", other)

    def __xor__(self, other: Operand) -> Value:
        return self._binary("xor", other)

    def __invert__(self) -> Value:
        return self._binary("xor", True if self.kind == BOOL else -1)

    def __lshift__(self, places: Operand) -> Value:
        return self._binary("shl", places)

    def __rshift__(self, places: Operand) -> Value:
        """Shift right, with zeros from the left."""
        return self._binary("lshr", places)

    def __lt__(self, other: Operand) -> Value:
        return self._compare("lt", other)

    def __le__(self, other: Operand) -> Value:
        return self._compare("le", other)

    def __gt__(self, other: Operand) -> Value:
        return self._compare("gt", other)

    def __ge__(self, other: Operand) -> Value:
        return self._compare("ge", other)

    def equals(self, other: Operand) -> Value:
        return self._compare("eq", other)

    def differs(self, other: Operand) -> Value:
        return self.code.compare("une" if self.kind in TAGS else "ne", self, other)

    def is_nan(self) -> Value:
        return self.code.compare("uno", self, self)

    def is_finite(self) -> Value:
        return abs(self) < math.inf

    def __neg__(self) -> Value:
        if self.kind not in TAGS:
            return 0 - self
        if self.constant is not None:
            return self.code.constant(-self.constant, self.kind)
        return self.code.pure(f"fneg {self.typed}", self.kind, self.lanes)

    def __abs__(self) -> Value:
        return self.code.intrinsic("fabs", self)

    def with_sign(self, other: Value) -> Value:
        return self.code.intrinsic("copysign", self, other)

    def mirrored(self, x: Value) -> Value:
        """Return the value for x ≥ 0, its opposite for x < 0: the sign bits are combined by xor."""
        bits = self.bits()
        return (bits ^ (x.bits() & -(1 << (int(bits.kind[1:]) - 1)))).floats()

    def to(self, how: str, kind: str) -> Value:
        """Return the value in another kind; ``how`` is LLVM's instruction."""
        return self if kind == self.kind else self.code.convert(self, how, kind)

    def bits(self) -> Value:
        return self.to("bitcast", _WHOLE[self.kind])

    def floats(self) -> Value:
        return self.to("bitcast", _FLOATS[self.kind])

    def at_most(self, bound: float) -> Value:
        """NaN stays."""
        return self.code.select(self > bound, bound, self)

    def at_least(self, bound: float) -> Value:
        """NaN stays."""
        return self.code.select(self < bound, bound, self)


def literal(value: Any) -> Value:
    """Return a constant that takes the kind of the other operand."""
    return Value("", "literal", 1, value)


class Code:
    """One function's body under construction: a list of lines, and what they call.

    label: of the block that is being written; None if nothing comes to.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.hoisted: list[str] = []  # lines before all blocks
        self.count = 0
        self.declared: set[str] = set()  # LLVM's intrinsics and libm
        self.called: set[tuple[str, str, int]] = set()  # of vectormath
        self.label: str | None = "entry"
        self._known: dict[str, Value] = {}  # expression -> its result
        self._places = 0  # how many places there are at which a call may resume
        self._state: Value | None = None

    # -- instructions -------------------------------------------------------------------------------------------------

    def line(self, text: str) -> None:
        """Add an instruction without a result."""
        self.lines.append(f"  {text}")

    def pure(self, expression: str, kind: str, lanes: int = 1) -> Value:
        """Add an instruction whose result depends on its operands alone, unless it was computed already."""
        v = self._known.get(expression)
        if v is None:
            self.count += 1
            name = f"%v{self.count}"
            self.lines.append(f"  {name} = {expression}")
            v = self._known[expression] = Value(name, kind, lanes, None, self)
        return v

    def fresh(self, expression: str, kind: str, lanes: int = 1) -> Value:
        """Add an instruction whose result may differ each time."""
        v = self.name(kind, lanes)
        self.lines.append(f"  {v.text} = {expression}")
        return v

    def hoist(self, expression: str, kind: str) -> Value:
        """Add an instruction before all blocks."""
        v = self.name(kind)
        self.hoisted.append(f"  {v.text} = {expression}")
        return v

    def alloca(self, kind: str, count: int = 1, align: int = 8) -> Value:
        """Return memory on the stack for so many elements."""
        of = kind if count == 1 else f"[{count} x {kind}]"
        return self.hoist(f"alloca {of}, align {align}", "ptr")

    def at(self, pointer: Value, k: int | Value, kind: str) -> Value:
        """Return the address of element ``k``."""
        if k == 0:
            return pointer
        return self.pure(f"getelementptr {kind}, ptr {pointer.text}, i64 {k if isinstance(k, int) else k.text}", "ptr")

    def load(self, pointer: Value, k: int | Value, kind: str, lanes: int = 1, align: int = 0) -> Value:
        """Return element ``k``, or a vector from there on. A bool is a byte in memory, as NumPy's are."""
        if kind == BOOL:
            return self.load(pointer, k, "i8", lanes, align).to("trunc", BOOL)
        at = pointer.text if k == 0 else self.at(pointer, k, kind).text
        return self.fresh(f"load {of_type(kind, lanes)}, ptr {at}{f', align {align}' if align else ''}", kind, lanes)

    def store(self, v: Value, pointer: Value, k: int | Value = 0, align: int = 0) -> None:
        if v.kind == BOOL:
            v = v.to("zext", "i8")
        at = pointer.text if k == 0 else self.at(pointer, k, v.kind).text
        self.lines.append(f"  store {v.typed}, ptr {at}{f', align {align}' if align else ''}")

    def elements(self, pointer: Value, start: int, shape: tuple[int, ...], kind: str) -> Any:
        return filled(shape, [self.load(pointer, start + k, kind) for k in range(math.prod(shape))])

    def call(self, name: str, result: str, *values: Value) -> Value:
        """Call a function of the module, or, if the name begins with %, through a pointer."""
        symbol = name if name[0] == "%" else f"@{name}"
        text = f"call {result} {symbol}({', '.join([v.typed for v in values])})"
        if result == "void":
            self.line(text)
            return Value("", result)
        return self.fresh(text, result)

    # -- values -------------------------------------------------------------------------------------------------------

    def constant(self, value: float, kind: str) -> Value:
        if kind in TAGS:
            return Value(_digits(_rounded(value) if kind == "float" else value), kind, 1, value, self)
        text = ("true" if value else "false") if kind == BOOL else str(value)
        return Value(text, kind, 1, value, self)

    def numbered(self, lanes: int, kind: str) -> Value:
        """Return each lane's number."""
        return Value(f"<{', '.join([f'{kind} {k}' for k in range(lanes)])}>", kind, lanes, None, self)

    def flags(self, flags: Sequence[bool]) -> Value:
        shown = ", ".join(["i1 true" if flag else "i1 false" for flag in flags])
        return Value(f"<{shown}>", BOOL, len(flags), None, self)

    def cast(self, v: Value, kind: str) -> Value:
        """Return ``v`` as a bool, a double or a float."""
        if v.kind == kind:
            return v
        if v.kind == "literal":
            return self.constant(v.constant, kind)
        if v.constant is not None and kind != BOOL and v.kind != BOOL:
            return self.constant(_rounded(v.constant) if v.kind == "float" else v.constant, kind)
        if kind == BOOL:
            return self.pure(f"fcmp une {v.typed}, zeroinitializer", BOOL, v.lanes)
        if v.kind == BOOL:
            return self.convert(v, "uitofp", kind)
        return self.convert(v, "fpext" if kind == "double" else "fptrunc", kind)

    def convert(self, v: Value, how: str, kind: str) -> Value:
        return self.pure(f"{how} {v.typed} to {of_type(kind, v.lanes)}", kind, v.lanes)

    def splat(self, v: Value, lanes: int) -> Value:
        """Return ``v`` once in each lane."""
        if v.lanes == lanes:
            return v
        if v.constant is not None:
            return Value(f"splat ({v.typed})", v.kind, lanes, None, self)
        vector = of_type(v.kind, lanes)
        one = self.pure(f"insertelement {vector} poison, {v.typed}, i32 0", v.kind, lanes)
        return self.pure(f"shufflevector {one.typed}, {vector} poison, <{lanes} x i32> zeroinitializer", v.kind, lanes)

    def shuffled(self, picks: Iterable[int], a: Value, b: Value | None = None) -> Value:
        """Return these lanes of ``a`` and, numbered after them, of ``b``."""
        chosen = [f"i32 {k}" for k in picks]
        other = "poison" if b is None else b.text
        mask = f"<{len(chosen)} x i32> <{', '.join(chosen)}>"
        return self.pure(f"shufflevector {a.typed}, {a.type} {other}, {mask}", a.kind, len(chosen))

    def lane(self, v: Value, k: int) -> Value:
        return self.pure(f"extractelement {v.typed}, i32 {k}", v.kind)

    def pack(self, values: Sequence[Value]) -> Value:
        """Return single values as one vector."""
        kind, lanes = values[0].kind, len(values)
        vector = Value("poison", kind, lanes)
        for k, v in enumerate(values):
            vector = self.pure(f"insertelement {vector.typed}, {v.typed}, i32 {k}", kind, lanes)
        return vector

    def folded(self, combine: Callable[[Code, Value, Value], Value], v: Value) -> Value:
        """Return the lanes combined, half with half."""
        while v.lanes > 1:
            half = v.lanes // 2
            if half == 1:
                v = combine(self, self.lane(v, 0), self.lane(v, 1))
            else:
                v = combine(self, *(self.shuffled(range(start, start + half), v) for start in (0, half)))
        return v

    def broadcast(self, values: Sequence[Value]) -> list[Value]:
        """Return the values with equally many lanes."""
        lanes = max([v.lanes for v in values])
        return [self.splat(v, lanes) for v in values]

    def binary(self, instruction: str, a: Value, b: Value) -> Value:
        """Compute with two values of one kind."""
        if a.lanes != b.lanes:
            a, b = self.broadcast((a, b))
        return self.pure(f"{instruction} {a.typed}, {b.text}", a.kind, a.lanes)

    def compare(self, predicate: str, a: Value, b: Operand) -> Value:
        b = a.like(b)
        if a.lanes != b.lanes:
            a, b = self.broadcast((a, b))
        return self.pure(f"{'fcmp' if a.kind in TAGS else 'icmp'} {predicate} {a.typed}, {b.text}", BOOL, a.lanes)

    def select(self, condition: Value, a: Operand, b: Operand) -> Value:
        """Return ``a`` if the condition holds, else ``b``, lane by lane; one of them may be a Python number."""
        if not isinstance(a, Value):
            a = b.like(a)  # type: ignore[union-attr]
        condition, a, b = self.broadcast((condition, a, a.like(b)))
        return self.pure(f"select {condition.typed}, {a.typed}, {b.typed}", a.kind, a.lanes)

    def intrinsic(self, name: str, a: Value, *others: Operand) -> Value:
        """Call one of LLVM's own functions, which work lane by lane."""
        values = [a, *map(a.like, others)]
        if len({v.lanes for v in values}) > 1:
            values = self.broadcast(values)
        kind, lanes = values[0].kind, values[0].lanes
        of, symbol, declared = _intrinsic(name, kind, lanes, len(values))
        self.declared.add(declared)
        return self.pure(f"call {of} {symbol}({', '.join([v.typed for v in values])})", kind, lanes)

    def across(self, name: str, v: Value) -> Value:
        """Reduce the lanes by one of LLVM's own functions."""
        symbol = f"@llvm.vector.reduce.{name}.v{v.lanes}{TAGS.get(v.kind, v.kind)}"
        self.declared.add(f"declare {v.kind} {symbol}({v.type})")
        return self.pure(f"call {v.kind} {symbol}({v.typed})", v.kind)

    def any(self, v: Value) -> Value:
        """Return whether it holds in any lane."""
        return self.across("or", v)

    def libm(self, name: str, *values: Value) -> Value:
        """Call the C library on single numbers, as Python does."""
        of = values[0].kind
        symbol = f"@{name}{'f' if of == 'float' else ''}"
        self.declared.add(f"declare {of} {symbol}({', '.join([of] * len(values))})")
        return self.pure(f"call {of} {symbol}({', '.join([v.typed for v in values])})", of)

    def all(self, values: Sequence[Value]) -> Value:
        """Return whether all of these are true."""
        return functools.reduce(operator.and_, values) if values else self.constant(True, BOOL)

    # -- the flow of control ------------------------------------------------------------------------------------------

    def block(self) -> Block:
        """``with code.block() as block``: a part that ``block.leave`` leaves early."""
        return Block(self)

    def loop(
        self, start: int | Value | None = None, stop: int | Value = 0, step: int = 1, carried: Sequence[Value] = (),
        *, once: bool = False,
    ) -> Loop:  # fmt: skip
        """``with code.loop(start, stop, step, carried) as loop``: over ``range(start, stop, step)``, or without end.

        carried: what goes from iteration to iteration. once: start is known to be below stop, so that the first
        iteration needs no test.
        """
        return Loop(self, start, stop, step, carried, once)

    def when(self, test: Value, *otherwise: Value) -> When:
        """``with code.when(test) as branch``: run if the test holds; otherwise: the values if it does not."""
        return When(self, test, otherwise, True)

    def unless(self, test: Value, *otherwise: Value) -> When:
        """``with code.unless(test) as branch``: run if the test does not hold."""
        return When(self, test, otherwise, False)

    def switch(self, value: Value) -> Switch:
        """``with code.switch(value) as switch``, and therein ``with switch.case(3)``: one of several parts."""
        return Switch(self, value)

    def ret(self, v: Value | bool | None = None) -> None:
        if isinstance(v, bool):
            v = self.constant(v, BOOL)
        self.finish("ret void" if v is None else f"ret {v.typed}")

    def resumable(self, state: Value) -> None:
        """Allow `suspend`. state: the address of a word that is kept from call to call; 0: a call begins at the top.

        What one block has computed is not reused in others.
        """
        self._state = state
        self.begin(self.new_label(), {})

    def suspend(self, v: Value) -> None:
        """Return ``v``; the next call of the function resumes here, with only what is in memory."""
        assert self._state is not None
        self._places += 1
        self.store(self.constant(self._places, "i64"), self._state)
        self.ret(v)
        self.begin(f"place{self._places}", {})

    # -- labels and phis ----------------------------------------------------------------------------------------------

    def new_label(self) -> str:
        self.count += 1
        return f"b{self.count}"

    def begin(self, label: str, known: dict[str, Value]) -> None:
        """Begin a block. known: what is computed on every path to it."""
        self.lines.append(f"{label}:")
        self.label, self._known = label, {} if self._state is not None else known

    def finish(self, line: str) -> None:
        """End the block, if one is being written."""
        if self.label is not None:
            self.lines.append(f"  {line}")
        self.label = None

    def name(self, kind: str, lanes: int = 1) -> Value:
        """Return a value whose line is written later."""
        self.count += 1
        return Value(f"%v{self.count}", kind, lanes, None, self)

    def join(self, label: str, ways: Ways, known: dict[str, Value]) -> tuple[Value, ...]:
        """Begin the block where these ways meet, if there are any, and return the values that they bring."""
        if not ways:
            self.label = None
            return ()
        self.begin(label, known)
        labels = [before for before, _ in ways]
        found = []
        for values in zip(*[given for _, given in ways], strict=True):
            v = values[0]
            if any(other.text != v.text for other in values):
                v = self.fresh(_phi(labels, values), v.kind, v.lanes)
            found.append(v)
        return tuple(found)

    def body(self) -> Sequence[str]:
        """Return all lines."""
        lines = ["entry:", *self.hoisted]
        if self._state is not None:
            ways = " ".join([f"i64 {k}, label %place{k}" for k in range(1, self._places + 1)])
            lines.append(f"  %place = load i64, ptr {self._state.text}")
            lines.append(f"  switch i64 %place, label %{self.lines[0][:-1]} [ {ways} ]")
        return lines + self.lines


Ways: TypeAlias = list[tuple[str, Sequence[Value]]]  # (label of the block it comes from, values)


def _phi(labels: Sequence[str], values: Sequence[Value]) -> str:
    came = ", ".join([f"[ {v.text}, %{label} ]" for label, v in zip(labels, values, strict=True)])
    return f"phi {values[0].type} {came}"


class Block:
    """A part of the code. results: the values that it was left with, merged from all ways out of it."""

    def __init__(self, code: Code) -> None:
        self.code, self._end = code, code.new_label()
        self.results: tuple[Value, ...] = ()
        self._ways: Ways = []

    def __enter__(self) -> Self:
        self._outer = self.code._known
        self.code._known = self._outer.copy()
        return self

    def leave(self, *results: Value, unless: Value | None = None) -> None:
        """Leave the part; if ``unless`` holds, go on here."""
        code = self.code
        if code.label is None or (unless is not None and unless.constant):
            return
        self._ways.append((code.label, results))
        if unless is None:
            code.finish(f"br label %{self._end}")
        else:
            here = code.new_label()
            code.finish(f"br i1 {unless.text}, label %{here}, label %{self._end}")
            code.begin(here, code._known)

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._close()

    def _close(self) -> None:
        if self._ways or self.code.label is None:
            self.leave()
            self.results = self.code.join(self._end, self._ways, self._outer)


class Loop(Block):
    """A loop. index, carried: of this iteration. step: to the next index; it is read at the end of an iteration.

    An iteration ends with ``again``; without carried values it ends by itself. results: of a loop over a range, the
    values carried at its end.
    """

    index: Value

    def __init__(
        self, code: Code, start: int | Value | None, stop: int | Value, step: int, carried: Sequence[Value], once: bool
    ) -> None:
        super().__init__(code)
        self._first, self._stop, self._begin = list(carried), stop, code.new_label()
        self.step = step
        self._is_counted = start is not None
        self._once = once or (isinstance(start, int) and isinstance(stop, int) and start < stop)
        if start is not None:
            self._first.insert(0, start if isinstance(start, Value) else code.constant(start, "i64"))

    def __enter__(self) -> Self:
        super().__enter__()
        code, first = self.code, self._first
        self._back: Ways = [(code.label or "", first)]
        code.finish(f"br label %{self._begin}")
        code.begin(self._begin, code._known)
        self._at = len(code.lines)
        self._phis = [code.name(v.kind, v.lanes) for v in first]
        code.lines += [""] * len(first)
        self.carried = self._phis[self._is_counted :]
        if self._is_counted:
            self.index = self._phis[0]
            if not self._once:
                self.leave(*self.carried, unless=self._is_on(self.index))
        return self

    def _is_on(self, index: Value) -> Value:
        return index < self._stop if self.step > 0 else index > self._stop

    def again(self, *carried: Value, when: Value | None = None) -> None:
        """Go on to the next iteration with these values; if ``when`` does not hold, leave with them."""
        code, given = self.code, carried
        if code.label is None:
            return
        if self._is_counted:
            following = self.index + self.step
            given = following, *carried
            when = self._is_on(following) if self._once else when
        self._back.append((code.label, given))
        if when is None:
            code.finish(f"br label %{self._begin}")
        else:
            self._ways.append((code.label, carried))
            code.finish(f"br i1 {when.text}, label %{self._begin}, label %{self._end}")

    def _close(self) -> None:
        self.again()
        code, labels = self.code, [label for label, _ in self._back]
        for k, values in enumerate(zip(*[given for _, given in self._back], strict=True)):
            code.lines[self._at + k] = f"  {self._phis[k].text} = {_phi(labels, values)}"
        self.results = code.join(self._end, self._ways, self._outer)


class When:
    """A part that is run if a test holds, or if it doesn't.

    ``with branch.otherwise()``, if there is one, comes right after it. values: those that the branches ``give``.
    """

    def __init__(self, code: Code, test: Value, otherwise: tuple[Value, ...], holds: bool) -> None:
        self.code, self._test, self._otherwise, self._holds = code, test, otherwise, holds
        self._yes, self._no = code.new_label(), code.new_label()
        self.values: tuple[Value, ...] = ()
        self._given: tuple[Value, ...] = ()
        self._ways: Ways = []

    def __enter__(self) -> Self:
        code = self.code
        self._outer, self._before = code._known, code.label or ""
        ways = (self._yes, self._no) if self._holds else (self._no, self._yes)
        code.finish(f"br i1 {self._test.text}, label %{ways[0]}, label %{ways[1]}")
        code.begin(self._yes, self._outer.copy())
        return self

    def give(self, *values: Value) -> None:
        """Set the values at the end of this branch."""
        self._given = values

    def _come(self, end: str) -> None:
        if self.code.label is not None:
            self._ways.append((self.code.label, self._given))
            self.code.finish(f"br label %{end}")

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._come(self._no)
            self._last = len(self.code.lines) - 1
            if self._ways and len(self._otherwise) == len(self._given):
                self.values = self.code.join(self._no, [*self._ways, (self._before, self._otherwise)], self._outer)
            else:  # no values come from there, or a branch follows that gives the others
                self.code.begin(self._no, self._outer)
                self.values = self._otherwise

    @contextlib.contextmanager
    def otherwise(self) -> Iterator[None]:
        code, end = self.code, self.code.new_label()
        assert code.label == self._no, "otherwise comes right after its branch"
        if self._ways:
            code.lines[self._last] = f"  br label %{end}"
        code._known, self._given = self._outer.copy(), ()
        yield
        if self._ways:
            self._come(end)
            self.values = code.join(end, self._ways, self._outer)
        else:
            self.values = self._given


class Switch:
    """One of several parts. values: those that they ``give``."""

    def __init__(self, code: Code, value: Value) -> None:
        self.code, self._value, self._end = code, value, code.new_label()
        self._cases: list[str] = []
        self._default = ""
        self._given: tuple[Value, ...] = ()
        self._ways: Ways = []
        self.values: tuple[Value, ...] = ()

    def __enter__(self) -> Self:
        code = self.code
        self._outer, self._before, self._at = code._known, code.label or "", len(code.lines)
        code.finish("")
        return self

    @contextlib.contextmanager
    def case(self, *keys: int) -> Iterator[None]:
        """Begin the part for these values; without any, that for all others."""
        code, label = self.code, self.code.new_label()
        self._cases += [f"{self._value.kind} {key}, label %{label}" for key in keys]
        self._default = self._default if keys else label
        self._given = ()
        code.begin(label, self._outer.copy())
        yield
        if code.label is not None:
            self._ways.append((code.label, self._given))
            code.finish(f"br label %{self._end}")

    def give(self, *values: Value) -> None:
        """Set the values at the end of this part."""
        self._given = values

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            if not self._default:
                self._ways.append((self._before, ()))
            others = self._default or self._end
            text = f"  switch {self._value.typed}, label %{others} [ {' '.join(self._cases)} ]"
            self.code.lines[self._at] = text
            self.values = self.code.join(self._end, self._ways, self._outer)


class Function(Code):
    """A function. arguments: their values.

    apart: no two pointers lead to the same memory. internal: only the module's other functions call it.
    """

    def __init__(
        self,
        name: str,
        result: str,
        arguments: Sequence[Argument],
        *,
        apart: bool = True,
        internal: bool = False,
        attributes: str = "",
    ) -> None:
        super().__init__()
        self.arguments = tuple([self._argument(*(("ptr", a) if isinstance(a, str) else a)) for a in arguments])
        pointer = "ptr noalias" if apart else "ptr"
        shown = [f"{pointer if v.kind == 'ptr' else v.type} {v.text}" for v in self.arguments]
        linkage = "internal " if internal else ""
        self.head = f"define {linkage}{result} @{name}({', '.join(shown)}) {attributes}{{"

    def _argument(self, kind: str, name: str, lanes: int = 1) -> Value:
        return Value(f"%{name}", kind, lanes, None, self)

    def text(self) -> str:
        return "\n".join([self.head, *self.body(), "}"])
