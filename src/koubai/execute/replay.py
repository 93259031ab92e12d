"""A graph as a table of NumPy's own inner loops, which a few lines of machine code go through: no Python in between.

A small array's NumPy call takes ten times as long as the loop that it ends in. The loops of the ufuncs are in NumPy's
C interface, so that the bits are those of the straight-line program (`koubai.execute.arrays`), or, for a few numbers,
of the arithmetic of Python (`koubai.execute.floats`). Nothing is compiled for a graph: the code that goes through the
table is the same for all.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import math
import operator
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from koubai.execute import library
from koubai.execute.descents import address
from koubai.execute.elements import Unsuitable
from koubai.execute.lower import lowered
from koubai.execute.memory import is_view, is_write
from koubai.graph.graph import CAPTURED, CONSTANT, INPUT, Graph, Node
from koubai.graph.ops import OPS, Monoid, Op

if TYPE_CHECKING:
    from koubai.execute.ir import Code, Function, Value

__all__ = [
    "DIMENSIONS", "KNOWN_MACHINE", "POINTERS", "STRIDES", "WIDTH", "Columns", "Replay", "Tables", "inner_loop",
    "is_loaded",
]  # fmt: skip

WIDTH = 24  # 64-bit words of a row: function, data, 4 pointers, 6 dimensions, 12 strides
POINTERS, DIMENSIONS, STRIDES = 2, 6, 12
ROWS, BYTES = 10_000, 2**22  # of a table, and of the arrays between
# evaluations on a path, in whichever descents, from which on a table pays: what it takes to make and what it saves both
# grow with the nodes. Few nodes need so many; of very many it takes MORE times as many
ASKED_FOR, NODES, MORE = 25, 100, 3
KNOWN_MACHINE = sys.implementation.name == "cpython" and sys.platform != "win32" and sys.maxsize > 2**32
# What is done to numbers by the machine code itself, by its code; the last four refuse what is not finite, as Python
# raises there
_GUARD, _COPY, _ADD, _SUBTRACT, _MULTIPLY, _NEGATIVE, _DIVIDE, _POW, _EXACT_DIVIDE, _ONE, _TWO, _ROOT = range(12)
_SCALARS = {
    OPS[name]: code
    for name, code in (
        ("add", _ADD), ("subtract", _SUBTRACT), ("multiply", _MULTIPLY), ("negative", _NEGATIVE), ("divide", _DIVIDE),
    )
}  # fmt: skip
_OF_FLOATS = {OPS["divide"]: _EXACT_DIVIDE, OPS["sqrt"]: _ROOT}
_POWER, _WHERE, _ASTYPE, _ZEROS, _SETITEM, _GETITEM, _MATMUL = (
    OPS[name] for name in ("power", "where", "astype", "zeros", "setitem", "getitem", "matmul")
)
# of Python's functions those that do no more than call the C library
_LIBM = re.compile(r"math\.(exp|sin|cos|tan|tanh|sinh|cosh|asin|acos|atan|log)\(\{0\}\)")
_FLOAT, _BOOL = np.dtype(np.float64), np.dtype(np.bool_)
# what a context holds, word for word
_OF_F = "table count own_x own_g own_f bytes"
_OF_COLUMNS = "table count own_x own_r own_column bytes length later later_count direction"
_NUMBERS = {"count", "later_count", "bytes", "length"}
_ASKED = ["context", "x", "gradient", "answer"]


def _function(name: str, result: str, *arguments: str | tuple[str, str], internal: bool = False) -> Function:
    from koubai.execute.ir import Function  # only now: to import koubai need not take the time for it

    return Function(name, result, arguments, apart=False, internal=internal)


def _write_select() -> Function:
    """select(args, dims, steps, data): `np.where`, as an inner loop of NumPy's."""
    code = _function("select", "void", "args", "dims", "steps", "data")
    args, dims, steps, _ = code.arguments
    strides = [code.load(steps, k, "i64") for k in range(4)]
    arrays = [code.load(args, k, "ptr") for k in range(4)]
    with code.loop(0, code.load(dims, 0, "i64")) as loop:
        at = [code.at(array, loop.index * stride, "i8") for array, stride in zip(arrays, strides, strict=True)]
        test = code.load(at[0], 0, "i8").differs(0)
        a, b = (code.load(place, 0, "double") for place in at[1:3])
        code.store(code.select(test, a, b), at[3])
    code.ret()
    return code


def _write_through() -> Function:
    """through(table, count): do what the rows say; false: a guard fails, or something is not finite."""
    code = _function("through", "i1", "table", ("i64", "count"), internal=True)
    table, count = code.arguments
    with code.block() as done:
        with code.loop(0, count) as loop:
            row = code.at(table, loop.index * WIDTH, "i64")
            function = code.load(row, 0, "i64")
            data, *p = (code.load(code.at(row, k, "i64"), 0, "ptr") for k in range(1, POINTERS + 3))

            def put(result: Value, place: Value, finite: bool = False) -> None:
                code.store(result, place)
                if finite:
                    done.leave(unless=result.is_finite())

            def numbers(n: int) -> list[Value]:
                return [code.load(place, 0, "double") for place in p[:n]]

            with code.switch(function) as switch:
                with switch.case():
                    places = (code.at(row, k, "i64") for k in (POINTERS, DIMENSIONS, STRIDES))
                    loop_ = code.convert(function, "inttoptr", "ptr")
                    code.call(loop_.text, "void", *places, data)
                with switch.case(_GUARD):
                    asked = code.load(p[0], 0, "i8").to("zext", "i64")
                    done.leave(unless=asked.equals(data.to("ptrtoint", "i64")))
                with switch.case(_COPY):
                    _copy(code, p[1], p[0], data.to("ptrtoint", "i64"))
                for key, how in ((_ADD, operator.add), (_SUBTRACT, operator.sub), (_MULTIPLY, operator.mul)):
                    with switch.case(key):
                        put(how(*numbers(2)), p[2])
                with switch.case(_NEGATIVE):
                    put(-numbers(1)[0], p[1])
                for key in (_DIVIDE, _EXACT_DIVIDE):
                    with switch.case(key):
                        put(operator.truediv(*numbers(2)), p[2], key == _EXACT_DIVIDE)
                for key, n in ((_POW, 2), (_ONE, 1), (_TWO, 2)):
                    with switch.case(key):
                        put(code.call(data.text, "double", *numbers(n)), p[n], key != _POW)
                with switch.case(_ROOT):
                    put(code.intrinsic("sqrt", *numbers(1)), p[1], True)
        code.ret(True)
    code.ret(False)
    return code


def _copy(code: Code, target: Value, source: Value, count: Value) -> None:
    code.declared.add("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
    code.call("llvm.memcpy.p0.p0.i64", "void", target, source, count, code.constant(False, "i1"))


def _write_taken() -> Function:
    """taken(source, target, count): copy so many bytes of numbers; false as soon as one is not finite."""
    code = _function("taken", "i1", "source", "target", ("i64", "count"), internal=True)
    source, target, count = code.arguments
    with code.block() as done:
        with code.loop(0, count, 8) as loop:
            part = code.load(code.at(source, loop.index, "i8"), 0, "double")
            code.store(part, code.at(target, loop.index, "i8"))
            done.leave(unless=part.is_finite())
        code.ret(True)
    code.ret(False)
    return code


def _context(code: Function, names: str) -> dict[str, Value]:
    context = code.arguments[0]
    return {
        name: code.load(code.at(context, k, "i64"), 0, "i64" if name in _NUMBERS else "ptr")
        for k, name in enumerate(names.split())
    }


def _write_replay() -> Function:
    """replay(context, x, g, f): f and its gradient at x. Are all finite?"""
    code = _function("replay", "i1", *_ASKED)
    _, x, g, f = code.arguments
    own = _context(code, _OF_F)
    _copy(code, own["own_x"], x, own["bytes"])
    with code.block() as done:
        done.leave(unless=code.call("through", "i1", own["table"], own["count"]))
        done.leave(unless=code.call("taken", "i1", own["own_f"], f, code.constant(8, "i64")))
        code.ret(code.call("taken", "i1", own["own_g"], g, own["bytes"]))
    code.ret(False)
    return code


def _write_columns() -> Function:
    """columns(context, x, r, columns): residuals and the columns of J at x. Are all finite?"""
    code = _function("columns", "i1", *_ASKED)
    _, x, r, columns = code.arguments
    own = _context(code, _OF_COLUMNS)
    _copy(code, own["own_x"], x, own["bytes"])
    with code.block() as done:
        done.leave(unless=code.call("through", "i1", own["table"], own["count"]))
        done.leave(unless=code.call("taken", "i1", own["own_r"], r, own["length"]))
        with code.loop(0, own["bytes"], 8) as loop:
            along = code.at(own["direction"], loop.index, "i8")
            code.store(code.constant(1.0, "double"), along)
            through = code.call("through", "i1", own["later"], own["later_count"])
            code.store(code.constant(0.0, "double"), along)
            done.leave(unless=through)
            column = code.at(columns, (loop.index >> 3) * own["length"], "i8")
            done.leave(unless=code.call("taken", "i1", own["own_column"], column, own["length"]))
        code.ret(True)
    code.ret(False)
    return code


def _text() -> str:
    from koubai.execute.llvm import module

    return module(_write_select(), _write_through(), _write_taken(), _write_replay(), _write_columns())


@functools.cache
def _loaded() -> library.Library:
    return library.load("replay", _text)


def is_loaded() -> bool:
    """Tell whether the machine code that tables need is here already: to load it takes as long as hundreds of calls."""
    return _loaded.cache_info().currsize > 0


@functools.cache
def inner_loop(ufunc: Any, types: str) -> tuple[int, int]:
    """Return a ufunc's inner loop for these types, and its data. Raises Unsuitable.

    They stand in the PyUFuncObject of NumPy's C interface: after the head four ints (nin, nout, nargs, identity), the
    loops, their data, and their number.
    """
    start = id(ufunc) + object.__basicsize__
    known = tuple((ctypes.c_int * 3).from_address(start)), ctypes.c_int.from_address(start + 32).value
    if known != ((ufunc.nin, ufunc.nout, ufunc.nargs), ufunc.ntypes) or types not in ufunc.types:
        raise Unsuitable(f"{ufunc.__name__} of {types}")
    k = ufunc.types.index(types)
    loops, data = (ctypes.c_void_p * 2).from_address(start + 16)
    pointer = ctypes.c_void_p.from_address(loops + 8 * k).value
    held = ctypes.c_void_p.from_address(data + 8 * k).value if data else 0
    if not pointer:
        raise Unsuitable(f"{ufunc.__name__} of {types}")
    return pointer, held or 0


def _shown(array: Any, index: Any) -> Any:
    """Return a part of an array, a number too, as a view."""
    where = index.fill(())
    where = where if isinstance(where, tuple) else (where,)
    return array[where if any(item is Ellipsis for item in where) else (*where, ...)]


def _is_known(node: Node, known: Mapping[int, Any]) -> bool:
    """Tell whether the node is the same at every call."""
    return node.op is CONSTANT or (
        node.op not in (INPUT, CAPTURED) and bool(node.inputs) and all(j in known for j in node.inputs)
    )


def _as_read(value: Any) -> Any:
    """Return a constant as the loops read it."""
    if value.dtype.kind not in "fiub" or (value.dtype.kind == "f" and value.itemsize != 8):
        raise Unsuitable(f"a constant of {value.dtype}")
    return np.array(value, None if value.dtype == _BOOL else np.float64, order="C")


def _called(place: int) -> Any:
    return ctypes.CFUNCTYPE(ctypes.c_bool, *[ctypes.c_void_p] * 4)(place)


@functools.cache
def _of_libm(name: str) -> int:
    function = getattr(ctypes.CDLL(None), name)
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _is_ufunc(op: Op) -> bool:
    return isinstance(op.call, np.ufunc)


def _is_written_out(op: Op) -> bool:
    """Return whether Python's arithmetic has no code for a row but ``lower``."""
    return op.lower is None


class _Table:
    """The operations of graphs, as rows that lead from one array of a memory of its own to the next.

    floats: have they the bits of Python's arithmetic, and not NumPy's?
    """

    def __init__(self, floats: bool) -> None:
        if not KNOWN_MACHINE or not library.available():
            raise Unsuitable("another Python or system than those whose memory is known, or no llvmlite")
        self.floats = floats
        self.rows: list[Any] = []
        self.kept: list[Any] = []  # arrays that the table leads to
        self.places: dict[int, int] = {}  # where they lie, by their identities
        self.captured: list[Any] = []  # arrays from outside
        self.lay: list[tuple[Any, ...]] = []  # where they lay, and how
        self.work = self.bytes = 0  # elements gone through; of the arrays between

    def fill(self, graph: Graph, inputs: Sequence[Any], late: Sequence[int] = (), later: Any = None) -> list[Any]:
        """Add the rows of a graph whose inputs lie in these arrays; return where its outputs do.

        late: positions of inputs; the rows of what depends on them go to the list ``later``.
        """
        self.graph = graph = lowered(graph, _is_written_out if self.floats else _is_ufunc)
        nodes = graph.nodes
        self.values: list[Any] = []
        self.known: dict[int, Any] = {}  # nodes that depend on no argument, as NumPy gives them
        given = dict(zip(graph.inputs, inputs, strict=True))
        first, waits = self.rows, {graph.inputs[k] for k in late}
        checks: dict[int, list[Any]] = {}
        for guard in graph.guards:
            checks.setdefault(guard.node, []).append(guard)
        for i, node in enumerate(nodes):
            if not waits.isdisjoint(node.inputs):
                waits.add(i)
            self.rows = later if i in waits else first
            if node.op is INPUT:
                if node.dtype != _FLOAT:
                    raise Unsuitable(f"an argument of {node.dtype}")
                self.values.append(given[i])
            elif _is_known(node, self.known):
                operands = [self.known[j] for j in node.inputs]
                with np.errstate(all="ignore"):
                    value = node.params["value"] if node.op is CONSTANT else node.op.call(*operands, **node.params)
                self.known[i] = value
                self.values.append(_as_read(np.asarray(value)))
            else:
                self.values.append(self._value(node, [self.values[j] for j in node.inputs]))
            for guard in checks.get(i, ()):
                self._guarded(guard, node, self.values[i])
        self.rows = first
        return [self.values[i] for i in graph.outputs]

    def finish(self, rows: Sequence[Any]) -> Any:
        """Return rows as they are gone through."""
        return np.array(rows, np.int64).reshape(-1, WIDTH)

    def stands(self) -> bool:
        """Tell whether the arrays that f reads from outside still lie where they did."""
        for array, (place, shape, strides, dtype) in zip(self.captured, self.lay, strict=True):
            if address(array) != place or array.shape != shape or array.strides != strides or array.dtype != dtype:
                return False
        return True

    # -- rows

    def _place(self, array: Any) -> int:
        """Return where an array lies, which is kept for as long as the table."""
        known = self.places.get(id(array))
        if known is None:
            known = self.places[id(array)] = address(array)
            self.kept.append(array)
        return known

    def _row(
        self, function: int, data: int, arrays: Sequence[Any], dims: Sequence[int] = (), strides: Sequence[int] = ()
    ) -> None:
        row = [0] * WIDTH
        row[0], row[1] = function, data
        row[POINTERS : POINTERS + len(arrays)] = map(self._place, arrays)
        row[DIMENSIONS : DIMENSIONS + len(dims)] = dims
        row[STRIDES : STRIDES + len(strides)] = strides
        if len(self.rows) == ROWS:
            raise Unsuitable("too many operations")
        self.rows.append(row)
        self.work += 8 + (dims[0] if dims else 0)

    def _buffer(self, shape: tuple[int, ...], dtype: Any = _FLOAT) -> Any:
        self.bytes += math.prod(shape) * dtype.itemsize
        if self.bytes > BYTES:
            raise Unsuitable("large arrays, to which Python adds little time")
        return np.zeros(shape, dtype)

    def _elements(self, function: int, data: int, operands: Sequence[Any], out: Any) -> None:
        """Add the rows of a loop over all elements of arrays of one shape."""
        if out.size <= 1:
            if out.size:
                arrays = [*operands, out]
                self._row(function, data, arrays, [1], [a.itemsize for a in arrays])
            return
        arrays = [*(np.broadcast_to(v, out.shape) for v in operands), out]
        if all(a.flags.c_contiguous or not any(a.strides) for a in arrays):
            self._row(function, data, arrays, [out.size], [a.itemsize * a.flags.c_contiguous for a in arrays])
        else:
            for at in np.ndindex(*out.shape[:-1]):
                lines = [a[at] for a in arrays]
                self._row(function, data, lines, [out.shape[-1]], [a.strides[0] for a in lines])

    def _copied(self, value: Any, out: Any) -> None:
        if value.shape == out.shape and value.flags.c_contiguous and out.flags.c_contiguous:
            self._row(_COPY, out.nbytes, [value, out])
        elif out.dtype == _FLOAT:
            self._elements(*inner_loop(np.positive, "d->d"), [value], out)
        else:
            raise Unsuitable(f"a copy of {out.dtype}")

    def _guarded(self, guard: Any, node: Node, value: Any) -> None:
        if type(guard.expected) is not bool or node.shape or value.dtype != _BOOL:
            raise Unsuitable("a guard on a number")
        self._row(_GUARD, int(guard.expected), [value])

    # -- nodes

    def _value(self, node: Node, operands: list[Any]) -> Any:
        """Return the memory of a node, with the rows added that fill it."""
        op = node.op
        if op is CAPTURED:
            value = node.params["value"]
            if value.dtype != _FLOAT or not value.flags.aligned or self.floats:
                raise Unsuitable(f"an array from outside of {value.dtype}")
            self.captured.append(value)
            self.lay.append((address(value), value.shape, value.strides, value.dtype))
            return value
        if node.dtype not in (_FLOAT, _BOOL):
            raise Unsuitable(f"{op.name} of {node.dtype}")
        if op.elementwise and op not in (_WHERE, _ASTYPE):
            return self._elementwise(node, operands)
        if op.reduces is not None and node.dtype == _FLOAT and operands[0].dtype == _FLOAT:
            return self._reduced(node, op.reduces, operands[0])
        if op is _MATMUL and not self.floats:
            return self._matmul(node, operands)
        return self._moved(node, operands)

    def _moved(self, node: Node, operands: list[Any]) -> Any:
        """Return the result of what only moves numbers, or chooses among them."""
        op, out = node.op, self._buffer(node.shape, node.dtype)
        params = node.params
        if op is _WHERE:
            condition, *rest = operands
            if condition.dtype != _BOOL or any(v.dtype != _FLOAT for v in rest) or node.dtype != _FLOAT:
                raise Unsuitable("where of others than float64")
            self._elements(_loaded().address("select"), 0, [condition, *rest], out)
        elif op is _ASTYPE and operands[0].dtype == _BOOL and node.dtype == _FLOAT:
            self._elements(_loaded().address("select"), 0, [operands[0], np.array(1.0), np.array(0.0)], out)
        elif op is _ASTYPE and operands[0].dtype == node.dtype:
            self._copied(operands[0], out)
        elif op is _ZEROS:
            return out
        elif is_write(node) and not params["index"].holes:
            base, value = operands[:2]
            self._copied(base, out)
            part = _shown(out, params["index"])
            if op is _SETITEM:
                self._copied(np.broadcast_to(value, part.shape), part)
            else:
                self._elements(*inner_loop(np.add, "dd->d"), [part, value], part)
        elif op.runs is not None and out.ndim == 1:
            self._copied(operands[0], out)
            for k in range(1, out.size):
                self._row(_SCALARS[OPS[op.runs.join]], 0, [out[k - 1 : k], out[k : k + 1], out[k : k + 1]])
        elif op.parts is not None:
            part_of = op.parts(out[..., None], [value.shape for value in operands], **params)  # no part is a number
            for k, value in enumerate(operands):
                self._copied(value, part_of(k)[..., 0])
        elif is_view(node) and node.op.call is not None:
            value = operands[0]
            view = _shown(value, params["index"]) if op is _GETITEM else node.op.call(value, **params)
            if not isinstance(view, np.ndarray) or (value.size and not np.may_share_memory(view, value)):
                copy = self._buffer(value.shape, value.dtype)  # a reshape that has to copy
                self._copied(value, copy)
                view = node.op.call(copy, **params)
            if view.shape != node.shape or not (view.base is not None or view is value):
                raise Unsuitable(op.name)
            return view
        else:
            raise Unsuitable(op.name)
        return out

    def _elementwise(self, node: Node, operands: list[Any]) -> Any:
        op, out = node.op, self._buffer(node.shape, node.dtype)
        kinds = {v.dtype for v in operands}
        if op is _POWER:
            return self._power(node, operands, out)
        if self.floats or not node.shape:
            if kinds == {_FLOAT} and node.dtype == _FLOAT and self._scalars(op, operands, out):
                return out
            if self.floats and not (op.exact and op.scalar is not None and kinds == {_FLOAT}):
                raise Unsuitable(op.name)
        if not isinstance(op.call, np.ufunc):
            raise Unsuitable(op.name)
        if _BOOL in kinds and _FLOAT in kinds:
            operands = [self._as_floats(v) for v in operands]
            kinds = {_FLOAT}
        types = ("?" if kinds == {_BOOL} else "d") * len(operands) + "->" + ("?" if node.dtype == _BOOL else "d")
        self._elements(*inner_loop(node.op.call, types), operands, out)
        return out

    def _as_floats(self, value: Any) -> Any:
        if value.dtype == _FLOAT:
            return value
        out = self._buffer(value.shape)
        self._elements(_loaded().address("select"), 0, [value, np.array(1.0), np.array(0.0)], out)
        return out

    def _scalars(self, op: Op, operands: list[Any], out: Any) -> bool:
        """Add the rows of arithmetic, number by number, if it is that."""
        code, data = _SCALARS.get(op), 0
        if self.floats:
            code = _OF_FLOATS.get(op, code)
            if found := _LIBM.fullmatch(op.scalar or ""):
                code, data = _ONE, _of_libm(found[1])
        if code is None:
            return False
        if not out.shape:
            self._row(code, data, [*operands, out])
            return True
        spread = [np.broadcast_to(v, out.shape) for v in operands]
        for at in np.ndindex(*out.shape):
            self._row(code, data, [*(v[(*at, ...)] for v in spread), out[(*at, ...)]])
        return True

    def _power(self, node: Node, operands: list[Any], out: Any) -> Any:
        """The operator's shortcuts for arrays, libm for numbers, and of a few numbers what the floats' program does."""
        x, exponent = operands
        given = self.graph.nodes[node.inputs[1]]
        known: Any = given.params["value"] if given.op is CONSTANT and given.dtype is None else None
        if x.dtype != _FLOAT or exponent.dtype != _FLOAT:
            raise Unsuitable("power")
        if node.shape:
            if self.floats and known not in (1, 2):
                raise Unsuitable("power")
            call = {2: np.square, 0.5: np.sqrt, -1: np.reciprocal, 1: np.positive}.get(known, np.power)
            self._elements(*inner_loop(call, "dd->d" if call is np.power else "d->d"), operands[: call.nin], out)
        elif self.floats and known in (1, 2, 3, 4):
            if known == 1:
                return x
            self._row(_MULTIPLY, 0, [x, x, out])
            if known == 3:
                self._row(_MULTIPLY, 0, [out, x, out])
            elif known == 4:
                self._row(_MULTIPLY, 0, [out, out, out])
        else:
            self._row(_TWO if self.floats else _POW, _of_libm("pow"), [x, exponent, out])
        return out

    def _reduced(self, node: Node, monoid: Monoid, x: Any) -> Any:
        """Reduce as NumPy does: along memory where that axis is the last one, else row upon row."""
        axis = node.params["axis"]
        axes = tuple(range(x.ndim)) if axis is None else tuple(k % x.ndim for k in axis)
        if not x.size or not x.flags.c_contiguous or (self.floats and not monoid.adds):
            raise Unsuitable(f"{node.op.name} of an array like this")
        if not x.shape:
            return x.reshape(node.shape)
        if len(axes) == x.ndim:
            rows, out = x.reshape(1, -1), self._buffer((1,))
        elif axes == (x.ndim - 1,):
            rows, out = x.reshape(-1, x.shape[-1]), self._buffer((x.size // x.shape[-1],))
        elif axes == (0,):
            rows, out = x.reshape(x.shape[0], -1), self._buffer((x.size // x.shape[0],))
        else:
            raise Unsuitable("a reduction over some axes")
        call: Any = OPS[monoid.join].call
        if not isinstance(call, np.ufunc):
            raise Unsuitable(monoid.join)
        loop, data = inner_loop(call, "dd->d")
        begin = None if call.identity is None else np.full(out.shape, float(call.identity))
        if axes == (0,) and x.ndim > 1:
            self._copied(rows[0] if begin is None else begin, out)
            for row in rows[1:] if begin is None else rows:
                self._row(loop, data, [out, row, out], [out.size], [8, 8, 8])
            return out.reshape(node.shape)
        for k, row in enumerate(rows):
            part = out[k : k + 1]
            self._copied(row[:1] if begin is None else begin[:1], part)
            rest = row[1:] if begin is None else row
            if rest.size:
                self._row(loop, data, [part, rest, part], [rest.size], [0, 8, 0])
        return out.reshape(node.shape)

    def _matmul(self, node: Node, operands: list[Any]) -> Any:
        a, b = operands
        if a.ndim > 2 or b.ndim > 2 or {a.dtype, b.dtype} != {_FLOAT} or not a.size or not b.size:
            raise Unsuitable("a stack of matrices")
        out = self._buffer(node.shape)
        left, right = np.atleast_2d(a), b if b.ndim == 2 else b[:, None]
        both = out.reshape(left.shape[0], right.shape[1])
        strides = [s if n > 1 else 0 for v in (left, right, both) for n, s in zip(v.shape, v.strides, strict=True)]
        loop, data = inner_loop(np.matmul, "dd->d")
        self._row(loop, data, [left, right, both], [1, *left.shape, right.shape[1]], [0, 0, 0, *strides])
        return out


class Replay(_Table):
    """A graph of f and its gradient. ``address`` of a function (context, x, g, f) that is true where it gave both.

    It is not where a guard fails, or something is not finite. floats: has it the bits of Python's arithmetic, and not
    NumPy's? One call at a time. Raises Unsuitable where the graph has something else.
    """

    def __init__(self, graph: Graph, floats: bool) -> None:
        super().__init__(floats)
        self.x, inputs = _flat(graph, graph.inputs)
        self.g, self.fun = np.zeros(self.x.size), np.zeros(1)
        value, *gradients = self.fill(graph, inputs)
        if value.shape or value.dtype != _FLOAT or [v.size for v in gradients] != [v.size for v in inputs]:
            raise Unsuitable("outputs of another form")
        self._copied(value, self.fun.reshape(()))
        start = 0
        for part in gradients:
            self._copied(part, self.g[start : start + part.size].reshape(part.shape))
            start += part.size
        self.table = self.finish(self.rows)
        self.context = np.array(
            [address(self.table), len(self.table), *map(address, (self.x, self.g, self.fun)), self.x.nbytes], np.int64
        )
        self.address, self.place = _loaded().address("replay"), address(self.context)
        self._call = _called(self.address)

    def __call__(self, x: Any) -> tuple[float, Any] | None:
        """Return f and its gradient, or None."""
        x, g, fun = np.ascontiguousarray(x, np.float64), np.empty(self.x.size), np.empty(1)
        done = self.stands() and self._call(self.place, address(x), address(g), address(fun))
        return (float(fun[0]), g) if done else None


class Columns(_Table):
    """The graph of residuals r(x) and that of their derivative along a direction, as J column by column.

    ``address`` of a function (context, x, r, columns), as `Replay` has one. along: the graph whose inputs are x and a
    direction in the form of x (`koubai.graph.forward`); what depends on x alone is computed once for all columns.
    floats: of either graph. Raises Unsuitable.
    """

    def __init__(self, graph: Graph, along: Graph, floats: tuple[bool, bool]) -> None:
        super().__init__(floats[0])
        self.x, inputs = _flat(graph, graph.inputs)
        count = len(inputs)
        if len(along.inputs) != 2 * count:
            raise Unsuitable("arguments besides x")
        (r,) = self.fill(graph, inputs)
        self.r, self.column = np.zeros(r.size), np.zeros(r.size)
        self._copied(r, self.r)
        self.direction, directions = _flat(along, along.inputs[count:])
        later: list[Any] = []
        self.floats, before = floats[1], self.work
        late = range(count, 2 * count)
        (column,) = self.fill(along, [*inputs, *directions], late, later)
        self.rows, first = later, self.rows
        self._copied(column, self.column)
        self.table, self.later = self.finish(first), self.finish(later)
        self.work += (self.x.size - 1) * (self.work - before)
        tables = [address(self.table), len(self.table), *map(address, (self.x, self.r, self.column))]
        rest = [self.x.nbytes, self.r.nbytes, address(self.later), len(self.later), address(self.direction)]
        self.context = np.array([*tables, *rest], np.int64)
        self.address, self.place = _loaded().address("columns"), address(self.context)
        self._call = _called(self.address)
        self._spare = np.zeros(self.x.size), np.zeros(r.size), np.zeros((self.x.size, r.size))
        self._places = [address(array) for array in self._spare]

    def __call__(self, x: Any) -> tuple[Any, Any] | None:
        """Return r and J, or None."""
        given, r, columns = self._spare
        given[:] = x
        done = self.stands() and self._call(self.place, *self._places)
        return (r.copy(), np.ascontiguousarray(columns.T)) if done else None


MADE = 2  # tables of a path: a descent keeps one, and Python has one


class Tables:
    """What is known of one path: how often it was asked, and the tables that answer without Python."""

    def __init__(self) -> None:
        self.count = 0
        self.spare: list[Any] = []  # not in use by anyone
        self.made = 0

    def take(self, nodes: int, make: Callable[[], Any]) -> Any:
        """Return a table that nobody uses, if there is one by now. nodes: of the graph that ``make`` makes it of."""
        if not self.spare and self.made < MADE and self.count >= ASKED_FOR * min(MORE, max(1, nodes // NODES)):
            self.made += 1
            with contextlib.suppress(Unsuitable):
                self.spare.append(make())
        try:
            return self.spare.pop()
        except IndexError:
            return None


def _flat(graph: Graph, inputs: Sequence[int]) -> tuple[Any, list[Any]]:
    """Return memory for these inputs, one after the other, and the part of each."""
    shapes = [graph.nodes[i].shape for i in inputs]
    ends = np.cumsum([0, *map(math.prod, shapes)]).tolist()
    x = np.zeros(ends[-1])
    return x, [x[slice(*ends)].reshape(shape) for shape, ends in zip(shapes, itertools.pairwise(ends), strict=True)]
