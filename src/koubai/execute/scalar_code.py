"""Functions of numbers and arrays, written in a small part of Python, as machine code: one text, run by either.

What such a function may hold: float, int and bool variables; parameters that are `Vector`, `Integers` or `Matrix`,
and rows of a matrix; assignments, ``if``, ``while``, ``for`` over a range, ``break``, ``continue``, ``return`` of one
number; arithmetic, comparisons, ``and``, ``or``, ``not``, ``abs``, ``min`` and ``max`` of two, `math.sqrt`,
`math.isfinite`, and calls of other such functions. A division by zero must not come up: Python raises. Everything is
rounded alike, so that both have the same bits.

A generator is code that stops and goes on: ``fun = yield x, g`` asks for f at ``x`` and its gradient in ``g``, and
``given = yield x, r, columns`` for residuals and the columns of their Jacobian; the answer is 1.0 where they are given.
Machine code asks functions given by their addresses, where there are any; where there is none, or it refuses, the call
returns `ASKED` or `ASKED_COLUMNS`, and another call goes on from there. All variables of a generator lie in a frame
outside of it for that; another generator, called by ``yield from``, becomes a part of it.
"""

from __future__ import annotations

import ast
import ctypes
import hashlib
import inspect
import math
import textwrap
from collections.abc import Callable, MutableSequence, Sequence
from types import FunctionType
from typing import Any, TypeAlias

import numpy as np

from koubai.errors import CompileError
from koubai.execute import library
from koubai.execute.descents import address
from koubai.execute.llvm import BOOL, Value
from koubai.execute.llvm import OldCode as Code

__all__ = [
    "ANSWER",
    "ASKED",
    "ASKED_COLUMNS",
    "AT",
    "CALLED",
    "EVALUATIONS",
    "GRADIENT",
    "Block",
    "Integers",
    "Machine",
    "Matrix",
    "Vector",
    "compiled",
]

Vector: TypeAlias = MutableSequence[float]
Integers: TypeAlias = MutableSequence[int]
Matrix: TypeAlias = Sequence[Vector]

ASKED, ASKED_COLUMNS = -1, -2
CALLED = 1, 5  # where the functions and their contexts stand in a block
SLOTS = 512  # of a frame, a number each
RESUME, AT, GRADIENT, ANSWER, EVALUATIONS = range(5)  # the first of them
_KINDS = {"float": "double", "int": "i64", "bool": BOOL, "Vector": "vector", "Integers": "integers", "Matrix": "matrix"}
_STORED = {"double": "double", "i64": "i64", BOOL: "i64", "vector": "ptr", "integers": "ptr", "matrix": "ptr"}
_COMPARED = {ast.Lt: "olt", ast.LtE: "ole", ast.Gt: "ogt", ast.GtE: "oge", ast.Eq: "oeq", ast.NotEq: "une"}
_WHOLE = {ast.Lt: "slt", ast.LtE: "sle", ast.Gt: "sgt", ast.GtE: "sge", ast.Eq: "eq", ast.NotEq: "ne"}
_OPERATORS = {ast.Add: ("fadd", "add"), ast.Sub: ("fsub", "sub"), ast.Mult: ("fmul", "mul"), ast.Div: ("fdiv", ""),
              ast.Mod: ("", "srem"), ast.FloorDiv: ("", "sdiv"), ast.BitAnd: ("", "and")}  # fmt: skip


def _tree(function: FunctionType) -> ast.FunctionDef:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    return tree


def _parameters(function: FunctionType) -> list[tuple[str, str]]:
    """Return the parameters and their kinds."""
    return [(name, _KINDS[kind]) for name, kind in function.__annotations__.items() if name != "return"]


def _called(tree: ast.AST, space: dict[str, Any]) -> list[FunctionType]:
    names = [n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    return [space[name] for name in dict.fromkeys(names) if isinstance(space.get(name), FunctionType)]


def _reached(root: FunctionType) -> dict[FunctionType, ast.FunctionDef]:
    """Return the function and all that it calls."""
    found: dict[FunctionType, ast.FunctionDef] = {}
    todo = [root]
    while todo:
        function = todo.pop()
        if function not in found:
            found[function] = _tree(function)
            todo += _called(found[function], function.__globals__)
    return found


class _Variable:
    """Where a variable lies. stride: where the length of a matrix's row does."""

    def __init__(self, kind: str, place: str, stride: str = "") -> None:
        self.kind, self.place, self.stride = kind, place, stride


class _Array:
    """A pointer, and of a matrix the length of a row."""

    def __init__(self, kind: str, pointer: str, stride: str = "") -> None:
        self.kind, self.pointer, self.stride = kind, pointer, stride


class _Writer:
    """Writes one function, and into it the generators that it calls."""

    def __init__(self, function: FunctionType, trees: dict[FunctionType, ast.FunctionDef]) -> None:
        self.function, self.trees = function, trees
        self.is_generator = inspect.isgeneratorfunction(function)
        self.code = Code()
        self.entry: list[str] = []  # lines before all blocks
        self.slots, self.labels, self.resumed = EVALUATIONS + 1, 0, 0
        self.variables: dict[str, _Variable] = {}
        self.space = function.__globals__
        self.loops: list[tuple[str, str]] = []  # where continue and break go
        self.back: tuple[str, _Variable | None] | None = None  # where a return goes, in a part; and its result
        self.ended = False  # has the block its last line?

    # -- blocks and variables

    def label(self) -> str:
        self.labels += 1
        return f"b.{self.labels}"

    def block(self, label: str) -> None:
        if not self.ended:
            self.code.line(f"br label %{label}")
        self.code.block(label)
        self.ended = False

    def jump(self, line: str) -> None:
        if not self.ended:
            self.code.line(line)
        self.ended = True

    def branch(self, test: Value, yes: str, no: str) -> None:
        self.jump(f"br i1 {test.text}, label %{yes}, label %{no}")

    def slot(self, kind: str) -> str:
        place = f"%s.{self.slots}"
        if self.is_generator:
            self.entry.append(f"  {place} = getelementptr i64, ptr %frame, i64 {self.slots}")
        else:
            self.entry.append(f"  {place} = alloca {_STORED[kind]}")
        self.slots += 1
        return place

    def variable(self, kind: str) -> _Variable:
        return _Variable(kind, self.slot(kind), self.slot("i64") if kind == "matrix" else "")

    def store(self, variable: _Variable, value: Value | _Array) -> None:
        if isinstance(value, _Array):
            if variable.kind != value.kind:
                raise TypeError(f"a {value.kind} takes the place of a {variable.kind}")
            self.code.line(f"store ptr {value.pointer}, ptr {variable.place}")
            if value.kind == "matrix":
                self.code.line(f"store i64 {value.stride}, ptr {variable.stride}")
            return
        value = self.cast(value, variable.kind)
        if variable.kind == BOOL:
            value = Value(self.code.raw(f"zext i1 {value.text} to i64"), "i64")
        self.code.line(f"store {value.kind} {value.text}, ptr {variable.place}")

    def loaded(self, variable: _Variable) -> Value | _Array:
        if variable.kind in ("vector", "integers", "matrix"):
            stride = self.code.load(f"load i64, ptr {variable.stride}") if variable.stride else ""
            return _Array(variable.kind, self.code.load(f"load ptr, ptr {variable.place}"), stride)
        value = self.code.load(f"load {_STORED[variable.kind]}, ptr {variable.place}")
        if variable.kind == BOOL:
            return Value(self.code.raw(f"trunc i64 {value} to i1"), BOOL)
        return Value(value, variable.kind)

    def cast(self, value: Value, kind: str) -> Value:
        if value.kind == kind:
            return value
        if (value.kind, kind) == ("i64", "double"):
            return Value(self.code.raw(f"sitofp i64 {value.text} to double"), "double")
        raise TypeError(f"{value.kind} takes the place of {kind}")

    # -- expressions

    def array(self, node: ast.expr) -> _Array:
        value = self.expression(node)
        assert isinstance(value, _Array), ast.unparse(node)
        return value

    def value(self, node: ast.expr) -> Value:
        value = self.expression(node)
        assert isinstance(value, Value), ast.unparse(node)
        return value

    def constant(self, number: Any) -> Value:
        if isinstance(number, bool):
            return Value("true" if number else "false", BOOL)
        if isinstance(number, int):
            return Value(str(number), "i64")
        return self.code.number(number, "double")

    def expression(self, node: ast.expr) -> Value | _Array:
        code = self.code
        match node:
            case ast.Constant(value=number):
                return self.constant(number)
            case ast.Name(id=name):
                return self.loaded(self.variables[name]) if name in self.variables else self.constant(self.space[name])
            case ast.Attribute(value=ast.Name(id="math"), attr=name):
                return self.constant(getattr(math, name))
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=number)):
                return self.constant(-number)  # type: ignore[operator]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                value = self.value(operand)
                how = "fneg double" if value.kind == "double" else "sub i64 0,"
                return Value(code.raw(f"{how} {value.text}"), value.kind)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return code.binary("xor", self.value(operand), Value("true", BOOL, 1, True))
            case ast.BinOp(left=left, op=op, right=right):
                return self.operation(op, self.value(left), self.value(right))
            case ast.Compare(left=left, ops=ops, comparators=others):
                values = [self.value(node) for node in (left, *others)]
                return code.all([self.compared(*each) for each in zip(ops, values, values[1:], strict=False)])
            case ast.BoolOp(op=op, values=values):
                return self.shortcut(isinstance(op, ast.And), values)
            case ast.Subscript():
                return self.element(node)
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return self.call(name, arguments)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="math"), attr=name), args=[argument]):
                value = self.cast(self.value(argument), "double")
                if name == "isfinite":
                    return code.compare("olt", code.intrinsic("fabs", value), code.number(math.inf, "double"))
                return code.intrinsic({"sqrt": "sqrt", "fabs": "fabs"}[name], value)
        raise TypeError(f"no machine code for {ast.unparse(node)}")

    def compared(self, op: ast.cmpop, a: Value, b: Value) -> Value:
        a, b = self.alike(a, b)
        if a.kind == "double":
            return self.code.compare(_COMPARED[type(op)], a, b)
        return Value(self.code.raw(f"icmp {_WHOLE[type(op)]} {a.kind} {a.text}, {b.text}"), BOOL)

    def alike(self, a: Value, b: Value) -> tuple[Value, Value]:
        kind = "double" if "double" in (a.kind, b.kind) else a.kind
        return self.cast(a, kind), self.cast(b, kind)

    def operation(self, op: ast.operator, a: Value, b: Value) -> Value:
        a, b = self.alike(a, b)
        if isinstance(op, ast.Div):
            a, b = self.cast(a, "double"), self.cast(b, "double")
        name = _OPERATORS[type(op)][a.kind == "i64"]
        return Value(self.code.raw(f"{name} {a.kind} {a.text}, {b.text}"), a.kind)

    def shortcut(self, is_and: bool, values: Sequence[ast.expr]) -> Value:
        result, end = self.variable(BOOL), self.label()
        for k, node in enumerate(values):
            value = self.value(node)
            self.store(result, value)
            if k < len(values) - 1:
                following = self.label()
                self.branch(value, *((following, end) if is_and else (end, following)))
                self.block(following)
        self.block(end)
        loaded = self.loaded(result)
        assert isinstance(loaded, Value)
        return loaded

    def place(self, node: ast.Subscript) -> tuple[str, str]:
        """Return the address of an element, and its kind."""
        of, k = self.array(node.value), self.value(node.slice)
        kind = "i64" if of.kind == "integers" else "double"
        return self.code.raw(f"getelementptr {kind}, ptr {of.pointer}, i64 {k.text}"), kind

    def element(self, node: ast.Subscript) -> Value | _Array:
        of = self.array(node.value)
        if of.kind == "matrix":
            start = self.code.raw(f"mul i64 {self.value(node.slice).text}, {of.stride}")
            return _Array("vector", self.code.raw(f"getelementptr double, ptr {of.pointer}, i64 {start}"))
        place, kind = self.place(node)
        return Value(self.code.load(f"load {kind}, ptr {place}"), kind)

    def call(self, name: str, nodes: Sequence[ast.expr]) -> Value:
        code = self.code
        if name == "abs":
            return code.intrinsic("fabs", self.value(nodes[0]))
        if name == "float":
            return self.cast(self.value(nodes[0]), "double")
        if name == "int":
            return Value(code.raw(f"fptosi double {self.value(nodes[0]).text} to i64"), "i64")
        if name in ("min", "max"):
            a, b = self.alike(*map(self.value, nodes))
            how = {"min": ("olt", "slt"), "max": ("ogt", "sgt")}[name][a.kind == "i64"]
            test = code.raw(f"{'icmp' if a.kind == 'i64' else 'fcmp'} {how} {a.kind} {b.text}, {a.text}")
            return Value(code.raw(f"select i1 {test}, {a.kind} {b.text}, {a.kind} {a.text}"), a.kind)
        function = self.space[name]
        given = self.arguments(function, nodes)
        texts = []
        for value in given:
            if isinstance(value, _Array):
                texts += [f"ptr {value.pointer}", *([f"i64 {value.stride}"] if value.kind == "matrix" else [])]
            else:
                texts.append(f"{value.kind} {value.text}")
        result = _KINDS.get(function.__annotations__["return"], "void")
        text = f"call {result} @{name}({', '.join(texts)})"
        if result == "void":
            code.line(text)
            return Value("", "void")
        return Value(code.load(text), result)

    def arguments(self, function: FunctionType, nodes: Sequence[ast.expr]) -> list[Value | _Array]:
        given = []
        for (_, kind), node in zip(_parameters(function), nodes, strict=True):
            value = self.expression(node)
            given.append(value if isinstance(value, _Array) else self.cast(value, kind))
        return given

    # -- statements

    def body(self, nodes: Sequence[ast.stmt]) -> None:
        for node in nodes:
            if not self.ended:
                self.statement(node)

    def statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Yield(value=ast.Tuple(elts=given))):
                self.assign(name, self.asked(*map(self.array, given)))
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.YieldFrom(value=ast.Call() as call)):
                result = self.part(call)
                assert result is not None
                self.assign(name, self.loaded(result))
            case ast.Expr(value=ast.YieldFrom(value=ast.Call() as call)):
                self.part(call)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                self.assign(name, self.expression(value))
            case ast.Assign(targets=[ast.Subscript() as target], value=value):
                self.put(target, self.value(value))
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                before = self.loaded(self.variables[name])
                assert isinstance(before, Value)
                self.assign(name, self.operation(op, before, self.value(value)))
            case ast.AugAssign(target=ast.Subscript() as target, op=op, value=value):
                before = self.element(target)
                assert isinstance(before, Value)
                self.put(target, self.operation(op, before, self.value(value)))
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                pass
            case ast.Expr(value=ast.Call(func=ast.Name(id=name), args=arguments)):
                self.call(name, arguments)
            case ast.If(test=test, body=body, orelse=orelse):
                yes, no, end = self.label(), self.label(), self.label()
                self.branch(self.value(test), yes, no if orelse else end)
                self.block(yes)
                self.body(body)
                self.jump(f"br label %{end}")
                if orelse:
                    self.block(no)
                    self.body(orelse)
                    self.jump(f"br label %{end}")
                self.block(end)
            case ast.While(test=test, body=body):
                head, inside, end = self.label(), self.label(), self.label()
                self.block(head)
                self.branch(self.value(test), inside, end)
                self.block(inside)
                self.looped(body, head, end)
            case ast.For(target=ast.Name(id=name), iter=ast.Call(func=ast.Name(id="range"), args=limits), body=body):
                self.counted(name, limits, body)
            case ast.Break():
                self.jump(f"br label %{self.loops[-1][1]}")
            case ast.Continue():
                self.jump(f"br label %{self.loops[-1][0]}")
            case ast.Return(value=value):
                self.returned(value)
            case _:
                raise TypeError(f"no machine code for {ast.unparse(node)}")

    def assign(self, name: str, value: Value | _Array) -> None:
        if name not in self.variables:
            self.variables[name] = self.variable(value.kind)
        self.store(self.variables[name], value)

    def put(self, target: ast.Subscript, value: Value) -> None:
        place, kind = self.place(target)
        value = self.cast(value, kind)
        self.code.line(f"store {kind} {value.text}, ptr {place}")

    def looped(self, body: Sequence[ast.stmt], again: str, end: str) -> None:
        self.loops.append((again, end))
        self.body(body)
        self.loops.pop()
        self.jump(f"br label %{again}")
        self.block(end)

    def counted(self, name: str, limits: Sequence[ast.expr], body: Sequence[ast.stmt]) -> None:
        code = self.code
        first = self.value(limits[0]) if len(limits) > 1 else Value("0", "i64")
        last, down = self.variable("i64"), len(limits) == 3  # the step is -1 then
        self.store(last, self.value(limits[min(1, len(limits) - 1)]))
        self.assign(name, first)
        head, inside, following, end = (self.label() for _ in range(4))
        self.block(head)
        at, limit = self.loaded(self.variables[name]), self.loaded(last)
        assert isinstance(at, Value)
        assert isinstance(limit, Value)
        self.branch(Value(code.raw(f"icmp {'sgt' if down else 'slt'} i64 {at.text}, {limit.text}"), BOOL), inside, end)
        self.block(inside)
        self.loops.append((following, end))
        self.body(body)
        self.loops.pop()
        self.block(following)
        at = self.loaded(self.variables[name])
        assert isinstance(at, Value)
        self.store(self.variables[name], Value(code.raw(f"add i64 {at.text}, {-1 if down else 1}"), "i64"))
        self.jump(f"br label %{head}")
        self.block(end)

    def returned(self, node: ast.expr | None) -> None:
        value = None if node is None else self.value(node)
        if self.back is not None:
            label, result = self.back
            if value is not None:
                assert result is not None
                self.store(result, value)
            self.jump(f"br label %{label}")
        elif self.is_generator:
            assert value is not None
            self.code.line("store i64 0, ptr %frame")  # the next call begins anew
            self.jump(f"ret i64 {value.text}")
        elif value is None:
            self.jump("ret void")
        else:
            kind = _KINDS[self.function.__annotations__["return"]]
            self.jump(f"ret {kind} {self.cast(value, kind).text}")

    # -- generators

    def asked(self, x: _Array, g: _Array, columns: _Array | None = None) -> Value:
        """Ask for f or for columns at ``x``: of the function given, or whoever called."""
        code = self.code
        function, context, last, why = "%evaluate", "%context", "%answer", ASKED
        if columns is not None:
            function, context, last, why = "%columns", "%columns.context", columns.pointer, ASKED_COLUMNS
        self.resumed += 1
        ask, told, out, on = self.label(), self.label(), self.label(), f"resume.{self.resumed}"
        test = Value(code.raw(f"icmp ne ptr {function}, null"), BOOL)
        self.branch(test, ask, out)
        self.block(ask)
        done = code.load(f"call i1 {function}(ptr {context}, ptr {x.pointer}, ptr {g.pointer}, ptr {last})")
        self.branch(Value(done, BOOL), told, out)
        self.block(told)
        if columns is None:
            count = code.load("load i64, ptr %evaluations")
            code.line(f"store i64 {code.raw(f'add i64 {count}, 1')}, ptr %evaluations")
        else:
            code.line("store double 1.0, ptr %answer")
        self.jump(f"br label %{on}")
        self.block(out)
        code.line(f"store i64 {self.resumed}, ptr %frame")
        code.line(f"store ptr {x.pointer}, ptr %at")
        code.line(f"store ptr {g.pointer}, ptr %gradient")
        self.jump(f"ret i64 {why}")
        self.block(on)
        return Value(code.load("load double, ptr %answer"), "double")

    def part(self, call: ast.Call) -> _Variable | None:
        """Write another generator's text here, with variables of its own; return where its result lies."""
        assert isinstance(call.func, ast.Name)
        function = self.space[call.func.id]
        inner: dict[str, _Variable] = {}
        for (name, kind), value in zip(_parameters(function), self.arguments(function, call.args), strict=True):
            inner[name] = self.variable(kind)
            self.store(inner[name], value)
        told = _KINDS.get(function.__annotations__["return"].rpartition(", ")[2].removesuffix("]"))
        result = None if told is None else self.variable(told)
        outer = self.variables, self.back, self.loops
        end = self.label()
        self.variables, self.back, self.loops = inner, (end, result), []
        self.body(self.trees[function].body)
        self.variables, self.back, self.loops = outer
        self.block(end)
        return result

    # -- the whole

    def text(self) -> str:
        tree, name = self.trees[self.function], self.function.__name__
        code = self.code
        if self.is_generator:
            head = f"define i64 @{name}(ptr %block) {{"
            frame = ["%frame = load ptr, ptr %block"]
            for k, what in enumerate(("evaluate", "context", "columns", "columns.context"), CALLED[0]):
                frame += [f"%{what}.place = getelementptr ptr, ptr %block, i64 {k}"]
                frame += [f"%{what} = load ptr, ptr %{what}.place"]
            for k, what in ((AT, "at"), (GRADIENT, "gradient"), (ANSWER, "answer"), (EVALUATIONS, "evaluations")):
                frame += [f"%{what} = getelementptr i64, ptr %frame, i64 {k}"]
            self.entry += [f"  {line}" for line in frame]
            code.block("b.0")
            k = CALLED[1]
            for parameter, kind in _parameters(self.function):
                variable = self.variables[parameter] = self.variable(kind)
                for place, stored in ((variable.place, "ptr"), (variable.stride, "i64"))[: 1 + (kind == "matrix")]:
                    given = code.load(f"load {stored}, ptr {code.raw(f'getelementptr i64, ptr %block, i64 {k}')}")
                    code.line(f"store {stored} {given}, ptr {place}")
                    k += 1
        else:
            shown = []
            for parameter, kind in _parameters(self.function):
                shown.append(f"{_STORED[kind] if kind != BOOL else BOOL} %{parameter}")
                if kind == "matrix":
                    shown.append(f"i64 %{parameter}.stride")
            result = _KINDS.get(self.function.__annotations__["return"], "void")
            head = f"define internal {result} @{name}({', '.join(shown)}) {{"
            code.block("b.0")
            for parameter, kind in _parameters(self.function):
                variable = self.variables[parameter] = self.variable(kind)
                is_array = kind in ("vector", "integers", "matrix")
                stride = f"%{parameter}.stride" if kind == "matrix" else ""
                self.store(
                    variable, _Array(kind, f"%{parameter}", stride) if is_array else Value(f"%{parameter}", kind)
                )
        self.body(tree.body)
        if not self.ended:
            if self.is_generator or self.function.__annotations__["return"] not in ("None", None):
                self.jump("unreachable")
            self.jump("ret void")
        if self.slots > SLOTS:
            raise TypeError(f"{name} has more than {SLOTS} variables")
        begin = ["  br label %b.0"]
        if self.is_generator:
            ways = " ".join(f"i64 {k}, label %resume.{k}" for k in range(1, self.resumed + 1))
            begin = ["  %resume = load i64, ptr %frame", f"  switch i64 %resume, label %b.0 [ {ways} ]"]
        return "\n".join([head, "entry:", *self.entry, *begin, *code.lines, "}"])


class Machine:
    """A generator as machine code: ``call(block)`` runs it up to its end or where it asks, which is `ASKED` or so."""

    def __init__(self, loaded: library.Library, name: str) -> None:
        self.library = loaded
        self.call: Callable[[int], int] = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(loaded.address(name))


class Block:
    """The arguments of a generator: arrays, and a frame for its variables."""

    def __init__(self, arguments: Sequence[Any]) -> None:
        self.frame = np.zeros(SLOTS, np.int64)
        self.numbers = self.frame.view(np.float64)
        places = [address(self.frame), 0, 0, 0, 0]
        self.starts = []  # where each argument stands
        for array in arguments:
            self.starts.append(len(places))
            places += [address(array), *([array.shape[1]] if array.ndim == 2 else [])]
        self.places = np.array(places, np.int64)
        self.address = address(self.places)
        self.arguments = list(arguments)


def compiled(function: FunctionType) -> Machine:
    """Return the machine code of a generator. Raises CompileError."""
    with open(function.__code__.co_filename, "rb") as file:  # the texts and their numbers
        key = hashlib.sha256(file.read()).hexdigest()

    def make() -> str:
        trees = _reached(function)
        plain = [f for f in trees if not inspect.isgeneratorfunction(f)]
        writers = [_Writer(f, trees) for f in (*plain, function)]
        try:
            bodies = [writer.text() for writer in writers]
        except (TypeError, KeyError) as error:
            raise CompileError(f"{function.__name__}: {error}") from error
        declared = sorted(set().union(*(writer.code.declared for writer in writers)))
        return "\n".join([*declared, *bodies])

    return Machine(library.load(f"scalar code {function.__name__} {key}", make), function.__name__)
