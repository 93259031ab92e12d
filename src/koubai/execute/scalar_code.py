"""Functions of numbers and arrays, written in a small part of Python, as machine code: one text, run by either.

What such a function may hold: float, int and bool variables; parameters that are `Vector`, `Integers` or `Matrix`,
and rows of a matrix; assignments, ``if``, ``while``, ``for`` over a range, ``break``, ``continue``, ``return`` of one
number; arithmetic, comparisons, ``and``, ``or``, ``not``, ``abs``, ``min`` and ``max`` of two, `math.sqrt`,
`math.isfinite`, and calls of other such functions. It must not divide by zero: Python raises there. Everything is
rounded alike, so that both have the same bits.

A generator is code that stops and resumes: ``fun = yield x, g`` asks for f at ``x`` and its gradient in ``g``, and
``given = yield x, r, columns`` for residuals and the columns of their Jacobian; the answer is 1.0 if they are given.
Machine code calls functions for that, by their addresses, if there are any. If there is none, or it refuses, the code
returns `ASKED` or `ASKED_COLUMNS`, and the next call resumes there. So all variables of a generator are in a frame
outside of it; another generator, called by ``yield from``, becomes a part of it.
"""

from __future__ import annotations

import ast
import ctypes
import hashlib
import inspect
import math
import operator
import textwrap
from collections.abc import Callable, MutableSequence, Sequence
from types import FunctionType
from typing import Any, TypeAlias

import numpy as np

from koubai.errors import CompileError
from koubai.execute import ir, library
from koubai.execute.abi import address
from koubai.execute.ir import BOOL, Function, Value
from koubai.execute.llvm import module
from koubai.functions.expression import syntax_tree

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
CALLED = 1, 5  # where the functions and their contexts are in a block
SLOTS = 512  # numbers in a frame
RESUME, AT, GRADIENT, ANSWER, EVALUATIONS = range(5)  # the first slots
_KINDS = {"float": "double", "int": "i64", "bool": BOOL, "Vector": "vector", "Integers": "integers", "Matrix": "matrix"}
_STORED = {"double": "double", "i64": "i64", BOOL: "i64", "vector": "ptr", "integers": "ptr", "matrix": "ptr"}
_COMPARED: dict[type[ast.cmpop], Callable[[Value, Value], Value]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: Value.equals,
    ast.NotEq: Value.differs,
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], Callable[[Value, Value], Value]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.BitAnd: operator.and_, ast.Mod: lambda a, b: a.code.binary("srem", a, b),
    ast.FloorDiv: lambda a, b: a.code.binary("sdiv", a, b),
}  # fmt: skip


def _tree(function: FunctionType) -> ast.FunctionDef:
    tree = syntax_tree(textwrap.dedent(inspect.getsource(function))).body[0]
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
    """The address of a variable. stride: that of the length of a matrix's row."""

    def __init__(self, kind: str, place: Value, stride: Value | None) -> None:
        self.kind, self.place, self.stride = kind, place, stride


class _Array:
    """A pointer, and the length of a row if it is a matrix."""

    def __init__(self, kind: str, pointer: Value, stride: Value | None = None) -> None:
        self.kind, self.pointer, self.stride = kind, pointer, stride

    @property
    def parts(self) -> list[Value]:
        return [self.pointer] if self.stride is None else [self.pointer, self.stride]


class _Writer:
    """Writes one function, with the generators that it calls inlined."""

    code: Function
    frame: Value

    def __init__(self, function: FunctionType, trees: dict[FunctionType, ast.FunctionDef]) -> None:
        self.function, self.trees = function, trees
        self.is_generator = inspect.isgeneratorfunction(function)
        self.slots = EVALUATIONS + 1
        self.variables: dict[str, _Variable] = {}
        self.space = function.__globals__
        self.loops: list[tuple[Callable[[], None], Callable[[], None]]] = []  # continue and break
        # of an inlined generator: the block that a return leaves, and the kind of its result
        self.back: tuple[ir.Block, str | None] | None = None

    # -- variables

    def slot(self, kind: str) -> Value:
        self.slots += 1
        if self.is_generator:
            return self.code.hoist(f"getelementptr i64, {self.frame.typed}, i64 {self.slots - 1}", "ptr")
        return self.code.alloca(_STORED[kind])

    def variable(self, kind: str) -> _Variable:
        return _Variable(kind, self.slot(kind), self.slot("i64") if kind == "matrix" else None)

    def store(self, variable: _Variable, value: Value | _Array) -> None:
        if isinstance(value, _Array):
            if variable.kind != value.kind:
                raise TypeError(f"a {value.kind} takes the place of a {variable.kind}")
            self.code.store(value.pointer, variable.place)
            if variable.stride is not None and value.stride is not None:
                self.code.store(value.stride, variable.stride)
            return
        value = self.cast(value, variable.kind)
        self.code.store(value.to("zext", "i64") if variable.kind == BOOL else value, variable.place)

    def loaded(self, variable: _Variable) -> Value | _Array:
        value = self.code.load(variable.place, 0, _STORED[variable.kind])
        if variable.kind in ("vector", "integers", "matrix"):
            stride = None if variable.stride is None else self.code.load(variable.stride, 0, "i64")
            return _Array(variable.kind, value, stride)
        return value.to("trunc", BOOL) if variable.kind == BOOL else value

    def scalar(self, variable: _Variable) -> Value:
        value = self.loaded(variable)
        assert isinstance(value, Value)
        return value

    def cast(self, value: Value, kind: str) -> Value:
        if value.kind == kind:
            return value
        if (value.kind, kind) == ("i64", "double"):
            return value.to("sitofp", "double")
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
        kind = BOOL if isinstance(number, bool) else "i64" if isinstance(number, int) else "double"
        return self.code.constant(number, kind)

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
                return -self.value(operand)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return ~self.value(operand)
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
                    return value.is_finite()
                return code.intrinsic({"sqrt": "sqrt", "fabs": "fabs"}[name], value)
        raise TypeError(f"no machine code for {ast.unparse(node)}")

    def compared(self, op: ast.cmpop, a: Value, b: Value) -> Value:
        return _COMPARED[type(op)](*self.alike(a, b))

    def alike(self, a: Value, b: Value) -> tuple[Value, Value]:
        kind = "double" if "double" in (a.kind, b.kind) else a.kind
        return self.cast(a, kind), self.cast(b, kind)

    def operation(self, op: ast.operator, a: Value, b: Value) -> Value:
        a, b = self.alike(a, b)
        if isinstance(op, ast.Div):
            a, b = self.cast(a, "double"), self.cast(b, "double")
        return _OPERATORS[type(op)](a, b)

    def shortcut(self, is_and: bool, nodes: Sequence[ast.expr]) -> Value:
        value = self.value(nodes[0])
        if len(nodes) == 1:
            return value
        with (self.code.when if is_and else self.code.unless)(value, self.constant(not is_and)) as branch:
            branch.give(self.shortcut(is_and, nodes[1:]))
        return branch.values[0]

    def place(self, node: ast.Subscript) -> tuple[Value, str]:
        """Return the address of an element, and its kind."""
        of, k = self.array(node.value), self.value(node.slice)
        kind = "i64" if of.kind == "integers" else "double"
        return self.code.at(of.pointer, k, kind), kind

    def element(self, node: ast.Subscript) -> Value | _Array:
        of = self.array(node.value)
        if of.stride is not None:
            return _Array("vector", self.code.at(of.pointer, self.value(node.slice) * of.stride, "double"))
        place, kind = self.place(node)
        return self.code.load(place, 0, kind)

    def call(self, name: str, nodes: Sequence[ast.expr]) -> Value:
        if name == "abs":
            return abs(self.value(nodes[0]))
        if name == "float":
            return self.cast(self.value(nodes[0]), "double")
        if name == "int":
            return self.value(nodes[0]).to("fptosi", "i64")
        if name in ("min", "max"):
            a, b = self.alike(*map(self.value, nodes))
            return self.code.select(b < a if name == "min" else b > a, b, a)
        function = self.space[name]
        given = self.arguments(function, nodes)
        parts = [part for v in given for part in (v.parts if isinstance(v, _Array) else [v])]
        return self.code.call(name, _KINDS.get(function.__annotations__["return"], "void"), *parts)

    def arguments(self, function: FunctionType, nodes: Sequence[ast.expr]) -> list[Value | _Array]:
        given = []
        for (_, kind), node in zip(_parameters(function), nodes, strict=True):
            value = self.expression(node)
            given.append(value if isinstance(value, _Array) else self.cast(value, kind))
        return given

    # -- statements

    def body(self, nodes: Sequence[ast.stmt]) -> None:
        for node in nodes:
            if self.code.label is not None:
                self.statement(node)

    def statement(self, node: ast.stmt) -> None:
        code = self.code
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Yield(value=ast.Tuple(elts=given))):
                self.assign(name, self.asked(*map(self.array, given)))
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.YieldFrom(value=ast.Call() as call)):
                self.assign(name, *self.part(call))
            case ast.Expr(value=ast.YieldFrom(value=ast.Call() as call)):
                self.part(call)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                self.assign(name, self.expression(value))
            case ast.Assign(targets=[ast.Subscript() as target], value=value):
                self.put(target, self.value(value))
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                self.assign(name, self.operation(op, self.scalar(self.variables[name]), self.value(value)))
            case ast.AugAssign(target=ast.Subscript() as target, op=op, value=value):
                before = self.element(target)
                assert isinstance(before, Value)
                self.put(target, self.operation(op, before, self.value(value)))
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                pass
            case ast.Expr(value=ast.Call(func=ast.Name(id=name), args=arguments)):
                self.call(name, arguments)
            case ast.If(test=test, body=body, orelse=orelse):
                with code.when(self.value(test)) as branch:
                    self.body(body)
                if orelse:
                    with branch.otherwise():
                        self.body(orelse)
            case ast.While(test=test, body=body):
                with code.loop() as loop:
                    loop.leave(unless=self.value(test))
                    self.looped(body, loop.again, loop.leave)
            case ast.For(target=ast.Name(id=name), iter=ast.Call(func=ast.Name(id="range"), args=limits), body=body):
                self.counted(name, limits, body)
            case ast.Break():
                self.loops[-1][1]()
            case ast.Continue():
                self.loops[-1][0]()
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
        self.code.store(self.cast(value, kind), place)

    def looped(self, body: Sequence[ast.stmt], again: Callable[[], None], leave: Callable[[], None]) -> None:
        self.loops.append((again, leave))
        self.body(body)
        self.loops.pop()

    def counted(self, name: str, limits: Sequence[ast.expr], body: Sequence[ast.stmt]) -> None:
        first = self.value(limits[0]) if len(limits) > 1 else self.constant(0)
        last, down = self.variable("i64"), len(limits) == 3  # the step is -1 then
        self.store(last, self.value(limits[min(1, len(limits) - 1)]))
        self.assign(name, first)
        with self.code.loop() as loop:
            at, limit = self.scalar(self.variables[name]), self.scalar(last)
            loop.leave(unless=at > limit if down else at < limit)
            with self.code.block() as iteration:
                self.looped(body, iteration.leave, loop.leave)
            if self.code.label is not None:
                self.store(self.variables[name], self.scalar(self.variables[name]) + (-1 if down else 1))

    def returned(self, node: ast.expr | None) -> None:
        value = None if node is None else self.value(node)
        if self.back is not None:
            part, kind = self.back
            part.leave(*([] if value is None or kind is None else [self.cast(value, kind)]))
        elif self.is_generator:
            self.code.store(self.constant(0), self.frame)  # the next call begins at the top
            self.code.ret(value)
        else:
            kind = _KINDS.get(self.function.__annotations__["return"])
            self.code.ret(value if value is None or kind is None else self.cast(value, kind))

    # -- generators

    def asked(self, x: _Array, g: _Array, columns: _Array | None = None) -> Value:
        """Ask for f or for columns at ``x``: the function given, or the caller."""
        code = self.code
        (function, context), last, why = self.asks[:2], self.answer, ASKED
        if columns is not None:
            (function, context), last, why = self.asks[2:], columns.pointer, ASKED_COLUMNS
        there = code.compare("ne", function, Value("null", "ptr"))
        with code.when(there, self.constant(False)) as known:
            known.give(code.call(function.text, BOOL, context, x.pointer, g.pointer, last))
        with code.when(*known.values) as answered:
            if columns is None:
                code.store(code.load(self.evaluations, 0, "i64") + 1, self.evaluations)
            else:
                code.store(self.constant(1.0), self.answer)
        with answered.otherwise():
            code.store(x.pointer, self.at)
            code.store(g.pointer, self.gradient)
            code.suspend(self.constant(why))
        return code.load(self.answer, 0, "double")

    def part(self, call: ast.Call) -> tuple[Value, ...]:
        """Inline another generator, with variables of its own; return what it returns."""
        assert isinstance(call.func, ast.Name)
        function = self.space[call.func.id]
        inner: dict[str, _Variable] = {}
        for (name, kind), value in zip(_parameters(function), self.arguments(function, call.args), strict=True):
            inner[name] = self.variable(kind)
            self.store(inner[name], value)
        returned = _KINDS.get(function.__annotations__["return"].rpartition(", ")[2].removesuffix("]"))
        outer = self.variables, self.back, self.loops
        with self.code.block() as part:
            self.variables, self.back, self.loops = inner, (part, returned), []
            self.body(self.trees[function].body)
        self.variables, self.back, self.loops = outer
        return part.results

    # -- the whole

    def written(self) -> Function:
        name, returns = self.function.__name__, self.function.__annotations__["return"]
        kinds = []
        for parameter, kind in _parameters(self.function):
            kinds.append((_STORED[kind] if kind != BOOL else BOOL, parameter))
            if kind == "matrix":
                kinds.append(("i64", f"{parameter}.stride"))
        if self.is_generator:
            self.code = code = Function(name, "i64", ["block"], apart=False)
            (block,) = code.arguments
            self.frame = code.hoist(f"load ptr, {block.typed}", "ptr")

            def word(of: Value, k: int) -> Value:
                return code.hoist(f"getelementptr i64, {of.typed}, i64 {k}", "ptr")

            self.asks = [code.hoist(f"load ptr, {word(block, k).typed}", "ptr") for k in range(*CALLED)]
            self.at, self.gradient, self.answer, self.evaluations = (
                word(self.frame, k) for k in (AT, GRADIENT, ANSWER, EVALUATIONS)
            )
            code.resumable(self.frame)
            given = [code.load(code.at(block, k, "i64"), 0, kind) for k, (kind, _) in enumerate(kinds, CALLED[1])]
        else:
            self.code = code = Function(name, _KINDS.get(returns, "void"), kinds, apart=False, internal=True)
            given = list(code.arguments)
        values = iter(given)
        for parameter, kind in _parameters(self.function):
            variable = self.variables[parameter] = self.variable(kind)
            v = next(values)
            is_array = kind in ("vector", "integers", "matrix")
            self.store(variable, _Array(kind, v, next(values) if kind == "matrix" else None) if is_array else v)
        self.body(self.trees[self.function].body)
        if code.label is not None and (self.is_generator or returns not in ("None", None)):
            code.finish("unreachable")
        elif code.label is not None:
            code.ret()
        if self.slots > SLOTS:
            raise TypeError(f"{name} has more than {SLOTS} variables")
        return code


class Machine:
    """A generator as machine code: ``call(block)`` runs it to its end or until it asks (`ASKED`, `ASKED_COLUMNS`)."""

    def __init__(self, loaded: library.Library, name: str) -> None:
        self.library = loaded
        self.call: Callable[[int], int] = loaded.function(name, ctypes.c_int64, ctypes.c_void_p)


class Block:
    """The arguments of a generator: arrays, and a frame for its variables."""

    def __init__(self, arguments: Sequence[Any]) -> None:
        self.frame = np.zeros(SLOTS, np.int64)
        self.numbers = self.frame.view(np.float64)
        places = [address(self.frame), 0, 0, 0, 0]
        self.starts = []  # the place of each argument
        for array in arguments:
            self.starts.append(len(places))
            places += [address(array), *([array.shape[1]] if array.ndim == 2 else [])]
        self.places = np.array(places, np.int64)
        self.address = address(self.places)
        self.arguments = list(arguments)


def compiled(function: FunctionType, vectorise: bool = False) -> Machine:
    """Return the machine code of a generator; vectorise: as `koubai.execute.library.load` takes it. Raises
    CompileError.
    """
    with open(function.__code__.co_filename, "rb") as file:  # the texts and their numbers
        key = hashlib.sha256(file.read()).hexdigest()

    def make() -> str:
        trees = _reached(function)
        plain = [f for f in trees if not inspect.isgeneratorfunction(f)]
        try:
            return module(*(_Writer(f, trees).written() for f in (*plain, function)))
        except (TypeError, KeyError) as error:
            raise CompileError(f"{function.__name__}: {error}") from error

    return Machine(library.load(f"scalar code {function.__name__} {key}", make, vectorise), function.__name__)
