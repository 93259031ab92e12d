"""A program of kernels and matrix products as a table that one call goes through, with no Python in between.

The products are NumPy's own inner loop, so that their bits are those of `np.matmul`.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from koubai.execute import library
from koubai.execute.abi import address
from koubai.execute.elements import NotLowerable
from koubai.execute.ir import TAGS, Function, Value
from koubai.execute.llvm import KINDS, module
from koubai.execute.replay import DIMENSIONS, KNOWN_MACHINE, POINTERS, STRIDES, WIDTH, inner_loop

__all__ = ["Chain", "Consecutive", "Parts", "chains", "entry", "place"]

_KIND = WIDTH - 1  # a word that no product needs: whether the row is a kernel, which can fail
_CODE = {np.dtype(np.float32): "ff->f", np.dtype(np.float64): "dd->d"}


def chains(dtypes: set[Any]) -> bool:
    """Return whether there are chains here, and products of arrays of these dtypes in them."""
    try:
        return KNOWN_MACHINE and all(inner_loop(np.matmul, _CODE[dtype]) for dtype in dtypes)
    except (KeyError, NotLowerable):
        return False


def place(row: int, operand: int) -> int:
    """Return the word of a table in which the address of a product's first or second operand is."""
    return row * WIDTH + POINTERS + operand


def entry(kernel: Function, numbers: int) -> Function:
    """Return the function ``linked(args)`` that calls a kernel as a chain does, args: its table and its numbers."""
    code = Function("linked", "i1", ["args"], apart=False)
    (args,) = code.arguments
    table, given = (code.load(args, k, "ptr") for k in range(2))
    assert kernel.head.startswith("define i1 @kernel(")
    code.ret(code.call("kernel", "i1", table, *(code.load(given, k, "double") for k in range(numbers))))
    return code


def _write_through() -> Function:
    """through(rows, count): do what the rows say; false if a kernel fails."""
    code = Function("through", "i1", ["rows", ("i64", "count")], apart=False)
    rows, count = code.arguments
    code.ret(_written(code, rows, count))
    return code


def _written(code: Function, rows: Value, count: Value) -> Value:
    """Write the way through the rows; return whether no kernel failed."""
    with code.block() as done:
        with code.loop(0, count) as loop:
            row = code.at(rows, loop.index * WIDTH, "i64")
            function = code.load(row, 0, "ptr")
            args, dims, steps = (code.at(row, k, "i64") for k in (POINTERS, DIMENSIONS, STRIDES))
            with code.when(code.load(row, _KIND, "i64").equals(0)) as product:
                code.call(function.text, "void", args, dims, steps, code.load(row, 1, "ptr"))
            with product.otherwise():
                done.leave(code.constant(False, "i1"), unless=code.call(function.text, "i1", args))
        done.leave(code.constant(True, "i1"))
    return done.results[0]


@functools.cache
def _through() -> Any:
    found = library.load("chain", lambda: module(_write_through()))
    return found.function("through", ctypes.c_bool, ctypes.c_void_p, ctypes.c_int64)


def _product(dtype: Any, *forms: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """Return the row of a product without the addresses: what comes before and after them. forms: of the three arrays,
    each its shape and its strides.
    """
    row = [0] * WIDTH
    row[:2] = inner_loop(np.matmul, _CODE[dtype])
    (m, n, *_), (_, p, *_), _ = forms
    row[DIMENSIONS : DIMENSIONS + 4] = 1, m, n, p
    strides = [s if n > 1 else 0 for form in forms for n, s in zip(form[:2], form[2:], strict=True)]
    row[STRIDES : STRIDES + 9] = 0, 0, 0, *strides
    return row[:POINTERS], row[POINTERS + 3 :]


class Chain:
    """The rows of a program, in order. rows: the table, once all are added; an operand that is elsewhere at every
    call is written there. call(): do what they say; False if an index is out of range.
    """

    def __init__(self) -> None:
        self._rows: list[list[int]] = []
        self._kept: list[Any] = []

    def kernel(self, code: library.Library, table: Any, numbers: int) -> None:
        """Add a kernel by its code, which has an `entry`, its table and the address of its numbers."""
        self._kept += code, table
        self._rows.append([code.address("linked"), 0, ctypes.addressof(table), numbers, *[0] * (WIDTH - 5), 1])

    def product(self, a: Any, b: Any, out: Any) -> None:
        """Add a product of two matrices."""
        arrays = a, b, out
        self._kept += arrays
        head, tail = _product(out.dtype, *((*v.shape, *v.strides) for v in arrays))
        self._rows.append([*head, *map(address, arrays), *tail])

    def __len__(self) -> int:
        return len(self._rows)

    def table(self) -> Any:
        """Return the rows as they are gone through."""
        words = [word for row in self._rows for word in row]
        rows: Any = _words(len(words))(*words)
        rows.held = self._kept
        return rows

    def call(self, rows: Any) -> Any:
        """Return ``call()``, which does what the rows say."""
        return functools.partial(_through(), ctypes.addressof(rows), len(self._rows))


@functools.lru_cache(64)
def _words(count: int) -> Any:
    return ctypes.c_int64 * count


@dataclass(frozen=True)
class Parts:
    """A program that is a chain, in parts, for a caller that makes many runs of it in a row.

    tie, before: called with the arguments of a run; the first has the rows lead to the arrays among them, the second
    returns the numbers, or None if a guard fails. passed_on: so many arguments, the first ones, are what a run
    returns first. after: called with the results, numbers in the memory ``results``, returns what a run does then.
    quotients: of which result, by which number, each of these is the quotient (None: by none); None if it is not.
    """

    chain: Chain
    rows: Any
    numbers: Any
    tie: Callable[..., Any]
    before: Callable[..., tuple[Any, ...] | None]
    after: Callable[..., tuple[Any, ...]]
    results: tuple[Any, ...]
    quotients: list[tuple[int, Any] | None]
    passed_on: int


# -- many runs in a row -----------------------------------------------------------------------------------------------

# what a context holds, word for word; the last ones are of one call
_WORDS = [
    "rows", "count", "x", "g", "size", "bytes", "arrays", "arrays_count", "batch", "places", "places_count", "numbers",
    "numbers_bytes", "order", "given", "out", "t", "k", "mask", "fun", "norm", "row", "made",
]  # fmt: skip
_WHOLE = {"count", "size", "bytes", "arrays_count", "batch", "places_count", "numbers_bytes", "t", "k", "mask"}
_LANES = 16


@dataclass(frozen=True)
class _Form:
    """What the code of `Consecutive` depends on: the kind of the parameters, how many slots there are; which result
    g · g is; which one the loss is, of what kind, and by what it is divided.
    """

    kind: str
    slots: int
    square: int
    loss: int
    loss_kind: str
    by: Any


def _write_several(form: _Form) -> Function:
    """several(context, count, huge, start, rise): make so many steps; their number is the last word of the context.

    One that is to be looked at is the last: its loss is not finite, or above the start's by more than ``rise``, or
    g · g is not below ``huge``. Its row is not written. False if a kernel fails.
    """
    kinds: list[Any] = ["context", ("i64", "count"), ("double", "huge"), ("double", "start"), ("double", "rise")]
    code = Function("several", "i1", kinds, apart=False)
    context, count, huge, start, rise = code.arguments
    own = {
        name: code.load(code.at(context, k, "i64"), 0, "i64" if name in _WHOLE else "ptr")
        for k, name in enumerate(_WORDS)
    }
    with code.block() as done:
        with code.loop(0, count, 1, [own["k"], code.constant(0, "i64")]) as steps:
            k, due = steps.carried
            made = steps.index + 1
            _write_gathering(code, own, steps.index)
            numbers = code.load(code.at(own["numbers"], k, "ptr"), 0, "ptr")
            _copied(code, numbers, own["given"], steps.index * own["numbers_bytes"], own["numbers_bytes"])
            went = _written(code, code.load(code.at(own["rows"], k, "ptr"), 0, "ptr"), own["count"])
            done.leave(code.constant(False, "i1"), unless=went)
            out = code.at(own["out"], steps.index * own["places_count"], "i64")
            with code.loop(0, own["places_count"]) as results:
                result = code.at(own["places"], results.index * 2, "i64")
                bytes_ = code.load(result, 1, "i64")
                _copied(code, code.at(out, results.index, "i64"), code.load(result, 0, "ptr"), 0, bytes_)
            loss = code.load(code.at(out, form.loss, "i64"), 0, form.loss_kind)
            if form.by is not None:
                loss = loss / code.constant(float(form.by), form.loss_kind)
            fun, square = code.cast(loss, "double"), code.load(code.at(out, form.square, "i64"), 0, "double")
            code.store(made, code.at(context, len(_WORDS) - 1, "i64"))
            done.leave(code.constant(True, "i1"), unless=fun.is_finite() & (square < huge) & (fun - start <= rise))
            with code.when(((own["t"] + steps.index) & own["mask"]).equals(0), due) as row:
                x, g = (code.load(code.at(own[name], k, "ptr"), 0, "ptr") for name in "xg")
                _copied(code, code.at(own["row"], due * own["bytes"], "i8"), x, 0, own["bytes"])
                code.store(fun, own["fun"], due)
                code.store(code.cast(_written_largest(code, g, own["size"], form.kind), "double"), own["norm"], due)
                row.give(due + 1)
            after = k + 1
            steps.again(code.select(after.equals(form.slots), 0, after), row.values[0])
        done.leave(code.constant(True, "i1"))
    code.ret(done.results[0])
    return code


def _copied(code: Function, target: Value, source: Value, start: int | Value, count: Value) -> None:
    code.declared.add("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
    source = code.at(source, start, "i8")
    code.call("llvm.memcpy.p0.p0.i64", "void", target, source, count, code.constant(False, "i1"))


def _write_gathering(code: Function, own: dict[str, Value], step: Value) -> None:
    """Gather the rows of a batch into the memory that the program reads."""
    order = code.at(own["order"], step * own["batch"], "i64")
    with code.loop(0, own["arrays_count"]) as arrays:
        array = code.at(own["arrays"], arrays.index * 3, "i64")
        source, target = (code.load(code.at(array, k, "i64"), 0, "ptr") for k in range(2))
        bytes_ = code.load(array, 2, "i64")
        with code.loop(0, own["batch"]) as rows:
            row = code.load(order, rows.index, "i64")
            _copied(code, code.at(target, rows.index * bytes_, "i8"), source, row * bytes_, bytes_)


def _written_largest(code: Function, g: Value, size: Value, kind: str) -> Value:
    """Write the largest |component| of a gradient that is finite."""

    def larger(code: Any, a: Value, b: Value) -> Value:
        return code.select(a > b, a, b)  # type: ignore[no-any-return]

    whole = size & -_LANES
    with code.loop(0, whole, _LANES, [code.splat(code.constant(0.0, kind), _LANES)]) as lanes:
        part = code.load(code.at(g, lanes.index, kind), 0, kind, _LANES, 1)
        lanes.again(larger(code, abs(part), lanes.carried[0]))
    with code.loop(whole, size, 1, [code.folded(larger, lanes.results[0])]) as rest:
        rest.again(larger(code, abs(code.load(g, rest.index, kind)), rest.carried[0]))
    return rest.results[0]


class Consecutive:
    """Makes steps of a training one after another: each gathers its batch, runs the program of its slot, and has its
    row written, if one is due.

    parts: of the slots' programs. slots: (x, g) of each. arrays: (rows, memory for a batch of them), as the programs
    are tied to them. square, loss: which of a run's results g · g and the loss are. Raises NotLowerable.
    """

    def __init__(
        self, parts: Sequence[Parts], slots: Sequence[tuple[Any, Any]], arrays: Sequence[tuple[Any, Any]],
        square: int, loss: int,
    ) -> None:  # fmt: skip
        first = parts[0]
        form = _form(first, slots, square, loss)
        if any(a.shape[1:] != out.shape[1:] or a.dtype != out.dtype for a, out in arrays):
            raise NotLowerable("rows of another form than those of a batch")
        self.before, self.after = first.before, first.after
        self.columns = [np.dtype(v.dtype) for v in first.results]
        tables = [
            np.array([ctypes.addressof(part.rows) for part in parts], np.int64),
            np.array([ctypes.addressof(part.numbers) for part in parts], np.int64),
            *(np.array([address(slot[k]) for slot in slots], np.int64) for k in range(2)),
            np.array([[address(a), address(out), a.strides[0]] for a, out in arrays], np.int64),
            np.array([[address(v), v.itemsize] for v in first.results], np.int64),
        ]
        self._kept = tables, parts, slots, arrays
        rows, own_numbers, x, g, given, places = map(address, tables)
        size, batch = slots[0][0], len(arrays[0][1])
        words = [rows, len(first.chain), x, g, size.size, size.nbytes, given, len(arrays), batch, places]
        words += [len(first.results), own_numbers]
        self._words = np.array([*words, *[0] * (len(_WORDS) - len(words))], np.int64)
        self._own = len(words)
        found = library.load(f"several {form}", lambda: module(_write_several(form)))
        of = [ctypes.c_void_p, ctypes.c_int64, *[ctypes.c_double] * 3]
        self._call = found.function("several", ctypes.c_bool, *of)

    def __call__(
        self, t: int, k: int, order: Any, numbers: Sequence[tuple[Any, ...]], limits: tuple[float, float, float],
        out: Any, mask: int, places: Sequence[int],
    ) -> bool:  # fmt: skip
        """Make the steps from ``t`` on, the first one from slot ``k``; `made` says how many were. False if an index
        is none.

        order: of the rows, from the first batch on. numbers: of each step. limits: of g · g; the loss at the start, and
        how far above it a step is to be looked at, as then is one that is not finite; it is the last. out: memory for
        the results of each step, a word each. mask, places: of the rows of a record, as its `reserve` gives them.
        """
        given = np.array(numbers, np.float64)
        own = 8 * given.shape[1], address(order), address(given), address(out), t, k, mask, *places[:3], 0
        self._words[self._own :] = own
        return bool(self._call(address(self._words), len(numbers), *limits))

    @property
    def made(self) -> int:
        """The number of steps that the last call has made, or the one under way, if an exception came between."""
        return int(self._words[-1])

    def results(self, out: Any) -> Iterator[tuple[Any, ...]]:
        """Yield the results of each step whose words these are, as a run returns them but for what it passes on."""
        columns = (out[:, j].copy().view(of)[:: 8 // of.itemsize] for j, of in enumerate(self.columns))
        return map(self.after, *columns)


def _form(parts: Parts, slots: Sequence[tuple[Any, Any]], square: int, loss: int) -> _Form:
    asked, found = parts.quotients[square], parts.quotients[loss]
    kind = KINDS.get(slots[0][0].dtype, "")
    if asked is None or found is None or asked[1] is not None or kind not in TAGS:
        raise NotLowerable("another form of the loss")
    square_dtype, loss_dtype = (parts.results[at].dtype for at, _ in (asked, found))
    if square_dtype != np.float64 or KINDS.get(loss_dtype, "") not in TAGS:
        raise NotLowerable(f"a loss of {loss_dtype}")
    return _Form(kind, len(slots), asked[0], found[0], KINDS[loss_dtype], found[1])
