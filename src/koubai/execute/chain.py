"""A program of kernels and matrix products as a table that one call goes through, with no Python in between.

The products are NumPy's own inner loop, so that their bits are those of `np.matmul`.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np

from koubai.execute import library
from koubai.execute.descents import address
from koubai.execute.elements import Unsuitable
from koubai.execute.ir import Function, Value
from koubai.execute.llvm import module
from koubai.execute.replay import DIMENSIONS, KNOWN_MACHINE, POINTERS, STRIDES, WIDTH, inner_loop

__all__ = ["Chain", "chains", "entry", "place"]

_KIND = WIDTH - 1  # a word that no product needs: whether the row is a kernel, which can fail
_CODE = {np.dtype(np.float32): "ff->f", np.dtype(np.float64): "dd->d"}


def chains(dtypes: set[Any]) -> bool:
    """Return whether there are chains here, and products of arrays of these dtypes in them."""
    try:
        return KNOWN_MACHINE and all(inner_loop(np.matmul, _CODE[dtype]) for dtype in dtypes)
    except (KeyError, Unsuitable):
        return False


def place(row: int, operand: int) -> int:
    """Return the word of a table in which the address of a product's first or second operand stands."""
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
    """through(rows, count): do what the rows say; false where a kernel fails."""
    code = Function("through", "i1", ["rows", ("i64", "count")], apart=False)
    rows, count = code.arguments
    code.ret(written(code, rows, count))
    return code


def written(code: Function, rows: Value, count: Value) -> Value:
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
    return ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_int64)(found.address("through"))


class Chain:
    """The rows of a program, in order. rows: the table, once all are added; an operand that lies elsewhere at every
    call is written there. call(): do what they say; False where an index is none.
    """

    def __init__(self) -> None:
        self._rows: list[list[int]] = []
        self._kept: list[Any] = []

    def kernel(self, linked: int, table: Any, numbers: int) -> None:
        """Add a kernel by the address of its `entry`, its table and the address of its numbers."""
        self._kept.append(table)
        self._rows.append([linked, 0, ctypes.addressof(table), numbers, *[0] * (WIDTH - 5), 1])

    def product(self, a: Any, b: Any, out: Any) -> None:
        """Add a product of two matrices."""
        self._kept += a, b, out
        loop, data = inner_loop(np.matmul, _CODE[out.dtype])
        row = [0] * WIDTH
        row[0], row[1] = loop, data
        row[POINTERS : POINTERS + 3] = map(address, (a, b, out))
        row[DIMENSIONS : DIMENSIONS + 4] = 1, *a.shape, b.shape[1]
        strides = [s if n > 1 else 0 for v in (a, b, out) for n, s in zip(v.shape, v.strides, strict=True)]
        row[STRIDES : STRIDES + 9] = 0, 0, 0, *strides
        self._rows.append(row)

    def table(self) -> Any:
        """Return the rows as they are gone through."""
        words = [word for row in self._rows for word in row]
        rows: Any = _words(len(words))(*words)
        rows.held = self._kept
        return rows

    def call(self, rows: Any) -> Any:
        """Return ``call()``, which does what the rows say."""
        return functools.partial(_through(), ctypes.addressof(rows), len(self._rows))


@functools.cache
def _words(count: int) -> Any:
    return ctypes.c_int64 * count
