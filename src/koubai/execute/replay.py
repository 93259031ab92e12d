"""A graph as a table of NumPy's own inner loops, which a few lines of machine code call one after the other, without
Python in between.

A NumPy call on a small array takes ten times as long as the inner loop that it ends in. The ufuncs' loops are in
NumPy's C interface, so that the bits are those of the straight-line program (`koubai.execute.arrays`), or, for a few
numbers, of the arithmetic of Python (`koubai.execute.floats`). Nothing is compiled for a graph: the code that walks the
table is the same for all.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
import operator
import re
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from koubai.execute import library
from koubai.execute.abi import address, watched
from koubai.execute.elements import NotLowerable, is_product
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
# where the words of a short row belong, by their number: of numbers, and of a loop over one index
_BLANK = [(0,) * n for n in range(WIDTH)]
_PACKED = {
    words: struct.Struct(f"{words}q{8 * (WIDTH - words)}x").pack for words in (4, 5, 6, WIDTH)
} | {11: struct.Struct(f"7q{8 * (STRIDES - 7)}x4q{8 * (WIDTH - STRIDES - 4)}x").pack}  # fmt: skip
ROWS, BYTES = 10_000, 2**22  # of a table, and of the arrays between
# To make a table takes as long as a few evaluations by Python, a row a node: it pays from so many on. One of very many
# rows, as a loop over arrays that are not contiguous makes them, pays after so many more.
ASKED_FOR, MORE = 0, 75
ROWS_A_NODE, ROWS_BESIDES = 2, 64
MANY, LONG = 200, 32  # nodes, among which it pays to search for so many whose rows are made at once
KNOWN_MACHINE = sys.implementation.name == "cpython" and sys.platform != "win32" and sys.maxsize > 2**32
# The codes of what the machine code itself does to numbers; the last four refuse a result that is not finite, as Python
# raises there
_GUARD, _COPY, _ADD, _SUBTRACT, _MULTIPLY, _NEGATIVE, _DIVIDE, _POW, _EXACT_DIVIDE, _ONE, _TWO, _ROOT = range(12)
_SCALARS = {
    OPS[name]: code
    for name, code in (
        ("add", _ADD), ("subtract", _SUBTRACT), ("multiply", _MULTIPLY), ("negative", _NEGATIVE), ("divide", _DIVIDE),
    )
}  # fmt: skip
_OF_FLOATS = {OPS["divide"]: _EXACT_DIVIDE, OPS["sqrt"]: _ROOT}
_SIMPLE_FLOATS, _NUMBER = _SCALARS | {OPS["divide"]: _EXACT_DIVIDE}, {int}
_OWN_LOOPS = {OPS["where"]: "select"}  # of what is not a ufunc: loops of our own
_POWER = OPS["power"]
_FACTORED = {"cholesky": "cholesky_lo", "solve": "solve", "inv": "inv"}  # rows that are LAPACK's, as NumPy calls it
# of a ufunc's loop, by the number of operands, whether these are truth values, and whether the result is one
_TYPES = {
    (n, given, made): n * "d?"[given] + "->" + "d?"[made]
    for n in (1, 2, 3) for given in (False, True) for made in (False, True)
}  # fmt: skip
# those of Python's functions that only call the C library
_LIBM = re.compile(r"math\.(exp|sin|cos|tan|tanh|sinh|cosh|asin|acos|atan|log)\(\{0\}\)")
_FLOAT, _BOOL = np.dtype(np.float64), np.dtype(np.bool_)
_OF_NUMBERS = {((), form) for form in (_FLOAT, float, int)}  # the forms of a float64 by itself
# what a context holds, word for word
_OF_F = "table count own_x own_g own_f bytes"
_OF_COLUMNS = "table count own_x own_r own_column bytes length later later_count direction"
_NUMBERS = {"count", "later_count", "bytes", "length"}
_ASKED = ["context", "x", "gradient", "answer"]


def _function(name: str, result: str, *arguments: str | tuple[str, str], internal: bool = False) -> Function:
    from koubai.execute.ir import Function  # only now: it would slow down the import of koubai

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
    """through(table, count): run the rows; return false if a guard fails, or something is not finite."""
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
    """taken(source, target, count): copy so many bytes of numbers; return false as soon as one is not finite."""
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
    """replay(context, x, g, f): compute f and its gradient at x; return whether all are finite."""
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
    """columns(context, x, r, columns): compute residuals and columns of J at x; return whether all are finite."""
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
    """Return whether the machine code that walks tables is loaded: to load it takes as long as hundreds of calls."""
    return _loaded.cache_info().currsize > 0


@functools.cache
def inner_loop(ufunc: Any, types: str) -> tuple[int, int]:
    """Return a ufunc's inner loop for these types, and its data. Raises NotLowerable.

    They are in the PyUFuncObject of NumPy's C interface: after the head four ints (nin, nout, nargs, identity), the
    loops, their data, and their number.
    """
    start = id(ufunc) + object.__basicsize__
    known = tuple((ctypes.c_int * 3).from_address(start)), ctypes.c_int.from_address(start + 32).value
    if known != ((ufunc.nin, ufunc.nout, ufunc.nargs), ufunc.ntypes) or types not in ufunc.types:
        raise NotLowerable(f"{ufunc.__name__} of {types}")
    k = ufunc.types.index(types)
    loops, data = (ctypes.c_void_p * 2).from_address(start + 16)
    pointer = ctypes.c_void_p.from_address(loops + 8 * k).value
    held = ctypes.c_void_p.from_address(data + 8 * k).value if data else 0
    if not pointer:
        raise NotLowerable(f"{ufunc.__name__} of {types}")
    return pointer, held or 0


def _shown(array: Any, index: Any) -> Any:
    """Return a part of an array, a number too, as a view."""
    where = index.fill(())
    where = where if isinstance(where, tuple) else (where,)
    return array[where if any(item is Ellipsis for item in where) else (*where, ...)]


def _twins(nodes: Sequence[Node], others: Sequence[Node]) -> list[int]:
    """Return which of the first nodes are those of another graph under other numbers, without some: for each its
    number there, as far as there is one.
    """
    twins: list[int] = []
    k, count = 0, len(others)
    for node in nodes:
        op, used, params = node[0], node[1], node[2]
        if used and max(used) >= len(twins):
            break
        if len(used) == 2:  # as most have
            theirs: tuple[int, ...] = (twins[used[0]], twins[used[1]])
        else:
            theirs = tuple([twins[j] for j in used])
        while k < count:
            other = others[k]
            if other[0] is op and other[2] is params and other[1] == theirs:
                break
            k += 1
        else:
            break
        twins.append(k)
        k += 1
    return twins


def _count(rows: Sequence[Any]) -> int:
    """Return how many rows there are."""
    return sum([1 if type(row) is tuple else len(row) for row in rows])


def _work(rows: Sequence[Any]) -> int:
    """Return how many elements they go through, and about eight more for each."""
    return 8 * _count(rows) + sum(
        [int(row[DIMENSIONS]) for row in rows if type(row) is tuple and len(row) > DIMENSIONS]
    )


def _runs(graph: Graph, simple: Mapping[Op, int], first: int) -> dict[int, int]:
    """Return where many nodes follow each other that are ``simple`` arithmetic of numbers, and where these end."""
    nodes, runs, start = graph.nodes, dict[int, int](), -1
    number = list(map(_OF_NUMBERS.__contains__, graph.forms))
    for i in range(first, len(nodes)):
        node = nodes[i]
        if node[0] in simple and number[i] and number[(used := node[1])[0]] and number[used[-1]]:
            if start < 0:
                start = i
        elif start >= 0:
            if i - start >= LONG:
                runs[start] = i
            start = -1
    return runs


def _addresses(array: Any) -> Any:
    """Return where each element of an array is."""
    places = np.array(address(array))
    for length, step in zip(array.shape, array.strides, strict=True):
        places = np.add.outer(places, step * np.arange(length))
    return places


def _as_read(value: Any) -> Any:
    """Return a constant as the loops read it."""
    if value.dtype.kind not in "fiub" or (value.dtype.kind == "f" and value.itemsize != 8):
        raise NotLowerable(f"a constant of {value.dtype}")
    return np.array(value, None if value.dtype == _BOOL else np.float64, order="C")


@functools.cache
def _scalar_code(op: Op, floats: bool) -> tuple[int | None, int]:
    """Return what the machine code does to numbers for an operation, and the function that it calls; None: nothing."""
    code, data = _SCALARS.get(op), 0
    if floats:
        code = _OF_FLOATS.get(op, code)
        if found := _LIBM.fullmatch(op.scalar or ""):
            code, data = _ONE, _of_libm(found[1])
    return code, data


def _called(name: str) -> Any:
    return _loaded().function(name, ctypes.c_bool, *[ctypes.c_void_p] * 4)


@functools.cache
def _of_libm(name: str) -> int:
    function = getattr(ctypes.CDLL(None), name)
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _is_ufunc(op: Op) -> bool:
    return isinstance(op.call, np.ufunc)


class _TooLongError(NotLowerable):
    """There are more rows than there may be."""

    def __init__(self) -> None:
        super().__init__("too many operations")


def _is_core(op: Op) -> bool:
    """Return whether a row has no ``lower``: rows that have one are written out for Python's arithmetic."""
    return op.lower is None


class _At:
    """An array at an address. (Of ctypes each size would take a type, which is a cycle of references.)"""

    __slots__ = ("__array_interface__",)

    def __init__(self, place: int, shape: tuple[int, ...], dtype: Any) -> None:
        self.__array_interface__ = {"version": 3, "data": (place, False), "shape": shape, "typestr": dtype.str}


class _Table:
    """The operations of graphs, as rows that lead from one value in a memory of its own to the next.

    A value is the address of a float64 by itself; or, of an array whose elements are contiguous, its
    (address, shape, size, bytes an element), which are 0 if one number is spread over it; or any other array. A row is
    a tuple of the words that it needs, as `_PACKED` says. floats: whether the rows have the bits of Python's
    arithmetic, not NumPy's. most: rows that there may be. Raises NotLowerable, _TooLongError if there are more rows.
    """

    def __init__(self, floats: bool, most: int = ROWS) -> None:
        if not KNOWN_MACHINE or not library.available():
            raise NotLowerable("another Python or system than those whose memory is known, or no llvmlite")
        self.floats, self.most = floats, most
        self.rows: list[Any] = []  # and, of many that are alike, all as an array
        self.kept: list[Any] = []  # arrays that the table leads to
        self.captured: list[tuple[Any, ...]] = []  # arrays from outside: their addresses, shapes, strides, dtypes
        self.work = self.bytes = 0  # elements gone through; of the arrays between
        self.next = self.end = 0  # of the memory for arrays
        self.filled: tuple[Graph, bool] | None = None  # the graph whose rows were added last, and ``floats`` then
        self.values: list[Any] = []  # of its nodes
        self.known: dict[int, Any] = {}  # those that depend on no argument, as NumPy gives them

    def fill(self, graph: Graph, inputs: Sequence[Any], late: Sequence[int] = (), later: Any = None) -> list[Any]:
        """Add the rows of a graph whose inputs have these values; return those of its outputs.

        late: positions of inputs; the rows of what depends on them go to the list ``later``. As far as the graph begins
        with the nodes of the one before it, its rows are there already.
        """
        graph = lowered(graph, _is_core if self.floats else _is_ufunc)
        nodes = graph.nodes
        if len(nodes) > ROWS_A_NODE * self.most:
            raise _TooLongError
        twins: list[int] = []
        if self.filled is not None and self.filled[1] is self.floats:
            twins = _twins(nodes, self.filled[0].nodes)
        values: list[Any] = [self.values[twin] for twin in twins]
        known = {i: self.known[twin] for i, twin in enumerate(twins) if twin in self.known}
        self.graph, self.filled = graph, (graph, self.floats)
        self.values, self.known = values, known
        self._more_numbers(len(nodes))
        free = self.free
        given = dict(zip(graph.inputs, inputs, strict=True))
        waits = bytearray(len(nodes))  # of each node, whether it depends on an input that is late
        for k in late:
            waits[graph.inputs[k]] = 1
        first = rows = self.rows
        simple = _SIMPLE_FLOATS if self.floats else _SCALARS
        checks: dict[int, list[Any]] = {}
        for guard in graph.guards:
            checks.setdefault(guard.node, []).append(guard)
        runs = {} if len(nodes) < MANY or checks else _runs(graph, simple, len(twins))
        with np.errstate(all="ignore"):
            end = 0  # of what is done at once
            for i in range(len(twins), len(nodes)):
                if i < end:
                    continue
                node = nodes[i]
                if i in runs:
                    end = runs[i]
                    self._at_once(range(i, end), simple, waits if late else None, later)
                    continue
                op, used, _, shape, dtype, _ = node
                if late and used:
                    for j in used:
                        if waits[j]:
                            waits[i] = 1
                    rows = self.rows = later if waits[i] else first
                if len(used) == 2 and not shape and dtype is _FLOAT and op in simple:
                    j, k = used
                    a, b = values[j], values[k]
                    if type(a) is int and type(b) is int and not (j in known and k in known) and not checks:
                        out = next(free, 0) or self._number()
                        rows.append((simple[op], 0, a, b, out))
                        values.append(out)
                        continue
                operands = [values[j] for j in used]
                if op is INPUT:
                    if dtype != _FLOAT:
                        raise NotLowerable(f"an argument of {dtype}")
                    values.append(given[i])
                elif op is CONSTANT or (used and used[0] in known and all(j in known for j in used)):
                    value = node.params["value"] if not used else op.call(*[known[j] for j in used], **node.params)
                    known[i] = value
                    values.append(self._constant(value))
                else:
                    values.append(self._value(node, operands))
                if checks:
                    for guard in checks.get(i, ()):
                        self._guarded(guard, node, values[i])
        self.rows = first
        if max(_count(first), _count(later or ())) > self.most:
            raise _TooLongError
        self.work = _work(first) + _work(later or ())
        return [values[i] for i in graph.outputs]

    def _at_once(self, which: range, codes: Mapping[Op, int], waits: bytearray | None, later: Any) -> None:
        """Add the rows of arithmetic of numbers, node upon node."""
        nodes, values = self.graph.nodes[which.start : which.stop], self.values
        numbers = np.zeros(len(which))
        self.kept.append(numbers)
        begin = address(numbers)
        values.extend(range(begin, begin + numbers.nbytes, 8))
        rows = np.zeros((len(which), 5), np.int64)
        rows[:, 0] = [codes[node[0]] for node in nodes]
        rows[:, 2] = [values[node[1][0]] for node in nodes]
        rows[:, 3] = [values[node[1][-1]] for node in nodes]
        rows[:, 4] = np.arange(begin, begin + numbers.nbytes, 8)
        negated = rows[:, 0] == _NEGATIVE  # has one operand, and then the result
        rows[negated, 3] = rows[negated, 4]
        if waits is None:
            self.rows.append(rows)
            return
        for i, node in zip(which, nodes, strict=True):
            if waits[node[1][0]] or waits[node[1][-1]]:
                waits[i] = 1
        late = np.frombuffer(waits, np.bool_)[which.start : which.stop].copy()
        self.rows.append(rows[~late])
        later.append(rows[late])

    def finish(self, rows: Sequence[Any]) -> Any:
        """Return rows as they are gone through."""
        parts = []
        for is_one, group in itertools.groupby(rows, lambda row: type(row) is tuple):
            if is_one:
                packed = b"".join([_PACKED[len(row)](*row) for row in group])
                parts.append(np.frombuffer(packed, np.int64).reshape(-1, WIDTH))
            else:
                for some in group:
                    parts.append(np.zeros((len(some), WIDTH), np.int64))
                    parts[-1][:, : some.shape[1]] = some
        return parts[0] if len(parts) == 1 else np.concatenate([np.zeros((0, WIDTH), np.int64), *parts])

    def is_valid(self) -> bool:
        """Return whether the arrays that f reads from outside are still where they were."""
        for array, now, place, shape, strides, dtype in self.captured:
            if now.value != place or array.shape != shape or array.strides != strides or array.dtype != dtype:
                return False
        return True

    # -- values

    def flat(self, shapes: Sequence[tuple[int, ...]]) -> tuple[Any, list[Any]]:
        """Return memory for arrays of these shapes, one after the other, and the value of each."""
        whole = np.zeros(sum(map(math.prod, shapes)))
        place, values = address(whole), list[Any]()
        for shape in shapes:
            size = math.prod(shape)
            values.append((place, shape, size, 8) if shape else place)
            place += 8 * size
        return whole, values

    def held(self, array: Any) -> Any:
        """Return the value that an array is, which is kept for as long as the table."""
        if not array.flags.c_contiguous or array.dtype not in (_FLOAT, _BOOL):
            return array
        self.kept.append(array)
        place, step = address(array), array.itemsize
        return place if not array.shape and step == 8 else (place, array.shape, array.size, step)

    def _more_numbers(self, count: int) -> None:
        self.numbers = np.zeros(count)
        self.kept.append(self.numbers)
        self.start = address(self.numbers)
        self.free = iter(range(self.start, self.start + self.numbers.nbytes, 8))

    def _number(self) -> int:
        """Return memory for a number."""
        place = next(self.free, 0)
        if not place:
            self._more_numbers(256)
            place = next(self.free)
        return place

    def _constant(self, value: Any) -> Any:
        """Return a value that is the same at every call."""
        if type(value) is float or type(value) is np.float64:
            place = self._number()
            self.numbers[(place - self.start) >> 3] = value
            return place
        return self.held(_as_read(np.asarray(value)))

    def _buffer(self, shape: tuple[int, ...], dtype: Any = _FLOAT) -> Any:
        """Return memory for a value, which holds zeros."""
        if not shape and dtype == _FLOAT:
            return self._number()
        size, step = math.prod(shape), dtype.itemsize
        self.bytes += size * step
        if self.bytes > BYTES:
            raise NotLowerable("large arrays, to which Python adds little time")
        place = self.next
        self.next += -8 * (-size * step // 8)
        if self.next > self.end:
            block = np.zeros(max(2048, -(-size * step // 8)))
            self.kept.append(block)
            place = address(block)
            self.next, self.end = place - 8 * (-size * step // 8), place + block.nbytes
        return place, shape, size, step

    def _array(self, value: Any) -> Any:
        """Return a value as an array."""
        kind = type(value)
        if kind is not int and kind is not tuple:
            return value
        place, shape, _, step = value if kind is tuple else (value, (), 1, 8)
        if not step:
            return np.broadcast_to(self._array(place), shape)
        return np.asarray(_At(place, shape, _BOOL if step == 1 else _FLOAT))

    def _place(self, value: Any) -> int:
        """Return where a value begins."""
        if type(value) is int:
            return value
        if type(value) is tuple:
            return value[0]  # type: ignore[no-any-return]
        self.kept.append(value)
        return address(value)

    @staticmethod
    def _is_bool(value: Any) -> bool:
        kind = type(value)
        return bool(value[3] == 1 if kind is tuple else kind is not int and value.dtype == _BOOL)

    # -- rows

    def _row(
        self, function: int, data: int, values: Sequence[Any], dims: Sequence[int] = (), strides: Sequence[int] = ()
    ) -> None:
        if len(self.rows) >= self.most:
            raise _TooLongError
        places = [v if type(v) is int else self._place(v) for v in values]
        blank = _BLANK[4 - len(places)]
        if not dims:
            self.rows.append((function, data, *places, *blank))
            return
        if len(dims) == 1:
            self.rows.append((function, data, *places, *blank, *dims, *strides, *_BLANK[4 - len(strides)]))
        else:
            dims = (*dims, *_BLANK[STRIDES - DIMENSIONS - len(dims)])
            self.rows.append(
                (function, data, *places, *blank, *dims, *strides, *_BLANK[WIDTH - STRIDES - len(strides)])
            )

    def _elements(self, function: int, data: int, operands: Sequence[Any], out: Any) -> None:
        """Add the rows of a loop over all elements of values of one shape."""
        kind = type(out)
        if kind is int:
            self._row(function, data, [*operands, out], [1], [1 if self._is_bool(v) else 8 for v in (*operands, out)])
            return
        if kind is tuple:
            place, shape, size, step = out
            places, strides = [], []
            for value in operands:
                kind = type(value)
                if kind is int:
                    places.append(value)
                    strides.append(0)
                elif kind is tuple and (value[1] == shape or value[2] == 1):
                    places.append(value[0])
                    strides.append(value[3] if value[1] == shape else 0)
                else:
                    break
            else:
                if len(self.rows) >= self.most:
                    raise _TooLongError
                if size:
                    blank = _BLANK[3 - len(places)]
                    self.rows.append((function, data, *places, place, *blank, size, *strides, step, *blank))
                return
        out = self._array(out)
        shape = out.shape
        arrays = [*(np.broadcast_to(self._array(v), shape) for v in operands), out]
        if out.size <= 1:
            if out.size:
                self._row(function, data, arrays, [1], [a.itemsize for a in arrays])
        elif all(a.flags.c_contiguous or not any(a.strides) for a in arrays):
            self._row(function, data, arrays, [out.size], [a.itemsize * a.flags.c_contiguous for a in arrays])
        else:
            self.kept += arrays
            starts = [_addresses(a[..., 0]).ravel().tolist() for a in arrays]
            blank = _BLANK[4 - len(arrays)]
            rest = (*blank, shape[-1], *[a.strides[-1] for a in arrays], *blank)
            self.rows += [(function, data, *places, *rest) for places in zip(*starts, strict=True)]
            if len(self.rows) > self.most:
                raise _TooLongError

    def copied(self, value: Any, out: Any) -> None:
        """Add the rows that copy a value into one of the same shape."""
        if type(value) is int and type(out) is int:
            self._row(_COPY, 8, [value, out])
        elif type(value) is tuple and type(out) is tuple and value[1] == out[1] and value[3] == out[3]:
            self._row(_COPY, out[2] * out[3], [value, out])
        elif not self._is_bool(out):
            self._elements(*inner_loop(np.positive, "d->d"), [value], out)
        else:
            raise NotLowerable("a copy of truth values")

    def _guarded(self, guard: Any, node: Node, value: Any) -> None:
        if type(guard.expected) is not bool or node.shape or node.dtype != _BOOL:
            raise NotLowerable("a guard on a number")
        self._row(_GUARD, int(guard.expected), [value])

    # -- nodes

    def _value(self, node: Node, operands: list[Any]) -> Any:
        """Return the value of a node, with the rows added that make it."""
        op = node.op
        if op is CAPTURED:
            value = node.params["value"]
            if value.dtype != _FLOAT or not value.flags.aligned or self.floats:
                raise NotLowerable(f"an array from outside of {value.dtype}")
            self.captured.append((value, watched(value), address(value), value.shape, value.strides, value.dtype))
            return self.held(value)
        if node.dtype not in (_FLOAT, _BOOL):
            raise NotLowerable(f"{op.name} of {node.dtype}")
        if op.converts or op in _OWN_LOOPS:
            return self._chosen(node, operands)
        if op.elementwise:
            return self._elementwise(node, operands)
        if op.reduces is not None and node.dtype == _FLOAT and not self._is_bool(operands[0]):
            return self._reduced(node, op.reduces, operands[0])
        if is_product(node) and not self.floats:
            return self._matmul(node, [*map(self._array, operands)])
        if op.name in _FACTORED and not self.floats:
            return self._factored(node, [*map(self._array, operands)])
        if is_write(node):
            return self._written(node, *operands[:2])
        if op.index == "reads" and node.params["index"].holes:
            out = self._buffer(node.shape, node.dtype)
            self._carried(self._listed(node, operands[0]), _addresses(self._array(out)))
            return out
        if is_view(node):
            return self._viewed(node, operands[0])
        return self._moved(node, operands)

    def _chosen(self, node: Node, operands: list[Any]) -> Any:
        """Return a choice between numbers, of which the casts of truth values are one."""
        out = self._buffer(node.shape, node.dtype)
        is_bool = [*map(self._is_bool, operands)]
        if node.op.converts and is_bool[0] is self._is_bool(out):
            self.copied(operands[0], out)
            return out
        if node.op.converts:
            operands, is_bool = [*operands, self._constant(1.0), self._constant(0.0)], [*is_bool, False, False]
        if is_bool != [True, False, False] or node.dtype != _FLOAT:
            raise NotLowerable("where of others than float64")
        self._elements(_loaded().address("select"), 0, operands, out)
        return out

    def _moved(self, node: Node, operands: list[Any]) -> Any:
        """Return what only moves numbers."""
        op, out = node.op, self._buffer(node.shape, node.dtype)
        if op.fills is not None:
            if op.fills:
                self._array(out).fill(op.fills)
            return out
        if op.parts is not None and len(node.shape) == 1 and {*map(type, operands)} == _NUMBER:
            for k, value in enumerate(operands):
                self.copied(value, out[0] + 8 * k)
            return out
        arrays, array = [*map(self._array, operands)], self._array(out)
        if op.runs is not None and array.ndim == 1:
            self.copied(operands[0], out)
            for k in range(1, array.size):
                self._row(_SCALARS[OPS[op.runs.join]], 0, [out[0] + 8 * k - 8, out[0] + 8 * k, out[0] + 8 * k])
        elif op.parts is not None:
            part_of = op.parts(array[..., None], [a.shape for a in arrays], **node.params)  # no part is a number
            for k, value in enumerate(operands):
                self.copied(value, self.held(part_of(k)[..., 0]))
        else:
            raise NotLowerable(op.name)
        return out

    def _written(self, node: Node, base: Any, value: Any) -> Any:
        """Return an array with other elements in it."""
        out, index = self._buffer(node.shape, node.dtype), node.params["index"]
        self.copied(base, out)
        if index.holes:
            if node.op.index != "sets":
                raise NotLowerable("sums into elements that are listed")
            places = self._listed(node, out)
            self._carried(_addresses(np.broadcast_to(self._array(value), places.shape)), places)
            return out
        part = self._element(out, index)
        part = self.held(_shown(self._array(out), index)) if part is None else part
        if node.op.index == "adds":
            self._elements(*inner_loop(np.add, "dd->d"), [part, value], part)
        elif type(value) is int and type(part) is int:
            self.copied(value, part)
        else:
            self.copied(self.held(np.broadcast_to(self._array(value), self._array(part).shape)), part)
        return out

    def _listed(self, node: Node, value: Any) -> Any:
        """Return where the elements are that an index with arrays, always the same ones, chooses."""
        arrays = node.inputs[1 + is_write(node) :]
        if self._is_bool(value) or not all(j in self.known for j in arrays):
            raise NotLowerable("an index that is computed, or of truth values")
        return _addresses(self._array(value))[node.params["index"].fill([self.known[j] for j in arrays])]

    def _carried(self, sources: Any, targets: Any) -> None:
        """Add the rows that copy numbers from there to here, one after the other; of even steps they are one loop."""
        pairs = np.stack((sources.ravel(), targets.ravel()))
        steps = np.diff(pairs)
        if pairs.shape[1] > 1 and (steps == steps[:, :1]).all() and steps[1, 0]:
            self._row(*inner_loop(np.positive, "d->d"), pairs[:, 0].tolist(), [pairs.shape[1]], steps[:, 0].tolist())
        else:
            for pair in pairs.T.tolist():
                self._row(_COPY, 8, pair)

    def _factored(self, node: Node, operands: list[Any]) -> Any:
        """Return what LAPACK makes of matrices, which is NaN throughout if NumPy would raise."""
        if any(a.ndim != 2 or a.dtype != _FLOAT for a in operands):
            raise NotLowerable("a stack of matrices")
        call = getattr(getattr(np.linalg, "_umath_linalg", None), _FACTORED[node.op.name], None)
        if call is None:
            raise NotLowerable(f"another NumPy than those whose {node.op.name} is known")
        out = self._buffer(node.shape)
        arrays = [*operands, self._array(out)]
        loop, data = inner_loop(call, "d" * len(operands) + "->d")
        dims = [1, *operands[0].shape[:1], *(b.shape[1] for b in operands[1:])]
        self._row(loop, data, arrays, dims, [*[0] * len(arrays), *(step for a in arrays for step in a.strides)])
        self._row(_EXACT_DIVIDE, 0, [out[0], self._constant(1.0), self._number()])  # leaves unless it is finite
        return out

    @staticmethod
    def _element(value: Any, index: Any) -> int | None:
        """Return the one number of an array that an index chooses; None if it is not that."""
        if type(value) is not tuple or value[3] != 8 or len(index.items) != len(value[1]):
            return None
        place = 0
        for item, length in zip(index.items, value[1], strict=True):
            if type(item) is not int:
                return None
            place = place * length + item % length
        return value[0] + 8 * place  # type: ignore[no-any-return]

    def _viewed(self, node: Node, value: Any) -> Any:
        """Return what shows the memory of a value."""
        op, params, shape = node.op, node.params, node.shape
        if op.index == "reads" and (element := self._element(value, params["index"])) is not None:
            return element
        if op.spreads and type(value) is int and (size := math.prod(shape)):
            return (value, shape, size, 0) if shape else value
        if op.reshapes and type(value) is tuple and value[3] == 8:
            return (value[0], shape, *value[2:]) if shape else value[0]
        array = self._array(value)
        view = _shown(array, params["index"]) if op.index == "reads" else op.call(array, **params)
        if not isinstance(view, np.ndarray) or (array.size and not np.may_share_memory(view, array)):
            copy = self._buffer(array.shape, array.dtype)  # a reshape that has to copy
            self.copied(value, copy)
            array = self._array(copy)
            view = op.call(array, **params)
        if view.shape != shape or not (view.base is not None or view is array):
            raise NotLowerable(op.name)
        return self.held(view)

    def _elementwise(self, node: Node, operands: list[Any]) -> Any:
        op, out = node.op, self._buffer(node.shape, node.dtype)
        if op is _POWER:
            return self._power(node, operands, out)
        bools, is_bool = sum([type(v) is not int and self._is_bool(v) for v in operands]), node.dtype == _BOOL
        if self.floats or not node.shape:
            if not bools and not is_bool and self._scalars(op, operands, out):
                return out
            if self.floats and not (op.exact and op.scalar is not None and not bools):
                raise NotLowerable(op.name)
        if not isinstance(op.call, np.ufunc):
            raise NotLowerable(op.name)
        if 0 < bools < len(operands):
            operands, bools = [self._as_floats(v) for v in operands], 0
        self._elements(*inner_loop(op.call, _TYPES[len(operands), bool(bools), is_bool]), operands, out)
        return out

    def _as_floats(self, value: Any) -> Any:
        if not self._is_bool(value):
            return value
        out = self._buffer(self._array(value).shape)
        self._elements(_loaded().address("select"), 0, [value, self._constant(1.0), self._constant(0.0)], out)
        return out

    def _scalars(self, op: Op, operands: list[Any], out: Any) -> bool:
        """Add rows number by number if the operation is arithmetic; return whether it is."""
        code, data = _scalar_code(op, self.floats)
        if code is None:
            return False
        if type(out) is int:
            self._row(code, data, [*operands, out])
            return True
        spread = [np.broadcast_to(self._array(v), out[1]) for v in operands]
        for k, at in enumerate(np.ndindex(*out[1])):
            self._row(code, data, [*(v[(*at, ...)] for v in spread), out[0] + 8 * k])
        return True

    def _power(self, node: Node, operands: list[Any], out: Any) -> Any:
        """Add the rows of a power: the operator's ufuncs for arrays, libm for numbers, or as Python's program does."""
        x, exponent = operands
        given = self.graph.nodes[node.inputs[1]]
        known: Any = given.params["value"] if given.op is CONSTANT and given.dtype is None else None
        if self._is_bool(x) or self._is_bool(exponent):
            raise NotLowerable("power")
        if node.shape:
            if self.floats and known not in (1, 2):
                raise NotLowerable("power")
            call = node.op.ufunc(known)  # type: ignore[misc]
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
        """Reduce as NumPy does: along memory if the axis is the last one, else row upon row."""
        if type(x) is int:
            return self._viewed_as(x, node.shape)
        if type(x) is not tuple or not x[2] or x[3] != 8 or (self.floats and not monoid.adds):
            raise NotLowerable(f"{node.op.name} of an array like this")
        place, shape, size, _ = x
        axis, n = node.params["axis"], len(shape)
        axes = tuple(range(n)) if axis is None else tuple(k % n for k in axis)
        if len(axes) == n:
            length = size
        elif axes == (n - 1,) or axes == (0,):
            length = shape[axes[0]]
        else:
            raise NotLowerable("a reduction over some axes")
        call: Any = OPS[monoid.join].call
        if not isinstance(call, np.ufunc):
            raise NotLowerable(monoid.join)
        loop, data = inner_loop(call, "dd->d")
        begin = None if call.identity is None else self._constant(float(call.identity))
        out = self._buffer((size // length,))
        if axes == (0,) and n > 1:
            rows = [(place + 8 * out[2] * k, out[1], out[2], 8) for k in range(length)]
            if begin is None:
                self.copied(rows.pop(0), out)
            else:
                self._elements(*inner_loop(np.positive, "d->d"), [begin], out)
            for row in rows:
                self._row(loop, data, [out, row, out], [out[2]], [8, 8, 8])
        else:
            for k in range(out[2]):
                first, part = place + 8 * length * k, out[0] + 8 * k
                self.copied(first if begin is None else begin, part)
                rest = length - (begin is None)
                if rest:
                    self._row(loop, data, [part, first + 8 * (begin is None), part], [rest], [0, 8, 0])
        return self._viewed_as(out, node.shape)

    @staticmethod
    def _viewed_as(value: Any, shape: tuple[int, ...]) -> Any:
        """Return contiguous numbers as an array of this shape, or a number."""
        place, size = (value, 1) if type(value) is int else (value[0], value[2])
        return (place, shape, size, 8) if shape else place

    def _matmul(self, node: Node, operands: list[Any]) -> Any:
        a, b = operands
        if a.ndim > 2 or b.ndim > 2 or {a.dtype, b.dtype} != {_FLOAT} or not a.size or not b.size:
            raise NotLowerable("a stack of matrices")
        out = self._buffer(node.shape)
        left, right = np.atleast_2d(a), b if b.ndim == 2 else b[:, None]
        both = self._array(out).reshape(left.shape[0], right.shape[1])
        strides = [s if n > 1 else 0 for v in (left, right, both) for n, s in zip(v.shape, v.strides, strict=True)]
        loop, data = inner_loop(np.matmul, "dd->d")
        self._row(loop, data, [left, right, both], [1, *left.shape, right.shape[1]], [0, 0, 0, *strides])
        return out


class Replay(_Table):
    """A graph of f and its gradient. ``address``: that of a function (context, x, g, f), true if it computed both.

    It is false if a guard fails, or something is not finite. floats: it has the bits of Python's arithmetic, not
    NumPy's. One call at a time. Raises NotLowerable if the graph has operations that a table can't do.
    """

    def __init__(self, graph: Graph, floats: bool, most: int = ROWS) -> None:
        super().__init__(floats, most)
        self.x, inputs = self.flat([graph.nodes[i].shape for i in graph.inputs])
        value, *gradients = self.fill(graph, inputs)
        fun, *forms = [graph.nodes[i] for i in graph.outputs]
        shapes, given = [node.shape for node in forms], [graph.nodes[i].shape for i in graph.inputs]
        if fun.shape or shapes != given or any(node.dtype != _FLOAT for node in (fun, *forms)):
            raise NotLowerable("outputs of another form")
        self.g, parts = self.flat(shapes)
        self.fun = np.zeros(1)
        for made, taken in zip((value, *gradients), (address(self.fun), *parts), strict=True):
            self.copied(made, taken)
        self.table = self.finish(self.rows)
        self.context = np.array(
            [address(self.table), len(self.table), *map(address, (self.x, self.g, self.fun)), self.x.nbytes], np.int64
        )
        self.address, self.place = _loaded().address("replay"), address(self.context)
        self._call = _called("replay")

    def __call__(self, x: Any) -> tuple[float, Any] | None:
        """Return f and its gradient, or None."""
        x, g, fun = np.ascontiguousarray(x, np.float64), np.empty(self.x.size), np.empty(1)
        done = self.is_valid() and self._call(self.place, address(x), address(g), address(fun))
        return (float(fun[0]), g) if done else None


class Columns(_Table):
    """The graph of residuals r(x) and that of their derivative along a direction, which gives J column by column.

    ``address``: that of a function (context, x, r, columns), as in `Replay`. along: the graph whose inputs are x and a
    direction in the form of x (`koubai.graph.forward`); what depends on x alone is computed once for all columns.
    floats: for each of the two graphs. Raises NotLowerable.
    """

    def __init__(self, graph: Graph, along: Graph, floats: tuple[bool, bool], most: int = ROWS) -> None:
        super().__init__(floats[0], most)
        self.x, inputs = self.flat([graph.nodes[i].shape for i in graph.inputs])
        count = len(inputs)
        if len(along.inputs) != 2 * count:
            raise NotLowerable("arguments besides x")
        (r,) = self.fill(graph, inputs)
        if any(form[1] != _FLOAT for form in (graph.forms[graph.outputs[0]], along.forms[along.outputs[0]])):
            raise NotLowerable("residuals of another form")
        shape = graph.nodes[graph.outputs[0]].shape
        (self.r, (own_r,)), (self.column, (own_column,)) = self.flat([shape]), self.flat([shape])
        self.copied(r, own_r)
        self.direction, directions = self.flat([along.nodes[i].shape for i in along.inputs[count:]])
        later: list[Any] = []
        self.floats, before = floats[1], self.work
        late = range(count, 2 * count)
        (column,) = self.fill(along, [*inputs, *directions], late, later)
        self.rows, first = later, self.rows
        self.copied(column, own_column)
        self.table, self.later = self.finish(first), self.finish(later)
        self.work += (self.x.size - 1) * (self.work - before)
        tables = [address(self.table), len(self.table), *map(address, (self.x, self.r, self.column))]
        rest = [self.x.nbytes, self.r.nbytes, address(self.later), len(self.later), address(self.direction)]
        self.context = np.array([*tables, *rest], np.int64)
        self.address, self.place = _loaded().address("columns"), address(self.context)
        self._call = _called("columns")
        self._spare = np.zeros(self.x.size), np.zeros(shape), np.zeros((self.x.size, *shape))
        self._places = [address(array) for array in self._spare]

    def __call__(self, x: Any) -> tuple[Any, Any] | None:
        """Return r and J, or None."""
        given, r, columns = self._spare
        given[:] = x
        done = self.is_valid() and self._call(self.place, *self._places)
        return (r.copy(), np.ascontiguousarray(columns.T)) if done else None


MADE = 2  # tables of a path: a descent holds one, and Python has one


class Tables:
    """The tables of one path, which evaluate f without Python, and how often it was evaluated."""

    def __init__(self) -> None:
        self.count = 0
        self.least = 0  # of ``count``, for the next table
        self.spare: list[Any] = []  # not in use
        self.made = 0

    def take(self, nodes: int, make: Callable[[int], Any]) -> Any:
        """Return a table that nobody uses, if there is one by now. nodes: of the graph that ``make`` makes it of, of no
        more rows than it is given.
        """
        if not self.spare and self.made < MADE and self.count >= max(ASKED_FOR, self.least):
            self.made += 1
            most = ROWS if self.least else min(ROWS, ROWS_A_NODE * nodes + ROWS_BESIDES)
            try:
                self.spare.append(make(most))
            except _TooLongError:
                if not self.least:
                    self.made, self.least = 0, self.count + MORE
            except NotLowerable:
                self.made = MADE  # nor will another one be
        try:
            return self.spare.pop()
        except IndexError:
            return None
