"""An optimizer's update of plain arrays in machine code: which arrays it is bound to, and where its state is."""

from __future__ import annotations

import ctypes
import math
import weakref
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from koubai.execute.update import PIECE, THREADED, Update, Workspace
from koubai.graph.formula import traced
from koubai.parameters import FloatArray, Layout

__all__ = ["Fused"]

State: TypeAlias = tuple[Any, ...]
Step: TypeAlias = Callable[..., tuple[Any, State]]


class Fused:
    """The update of one optimizer object. Its state is in arrays that the machine code writes into.

    state: what the optimizer shows as its state: the vectors and views of the single numbers. claim: refers weakly to a
    function that is called before other arrays are updated, and raises if the state is not theirs. Raises TraceError
    or NotLowerable if the rule is not elementwise.
    """

    def __init__(
        self,
        step: Step,
        begin: Callable[[Any], tuple[Any, ...]],
        layout: Layout,
        state: Sequence[Any],
        claim: Callable[[], Callable[[Sequence[Any]], None] | None] = lambda: None,
    ) -> None:
        one = np.ones(1, layout.dtype)
        scalars = [(name, np.float64(1.0), True) for name in ("t", "lr", "fun")]
        states = [(f"s{k}", np.asarray(part)[()], False) for k, part in enumerate(begin(one))]

        def body(x: Any, g: Any, t: Any, lr: Any, fun: Any, *state: Any) -> Sequence[Any]:
            after, new = step(x, g, state, t, lr, fun=fun)
            return [after, *new]

        self.code = Update(traced("update", [("x", one, False), ("g", one, False), *scalars, *states], body))
        self.names, self.form, self.parts = layout.names, layout.form, layout.parts
        self.shapes, self.dtype, self.total = layout.shapes, layout.dtype, layout.size
        self.shared = np.array(
            [part for part, s in zip(state, self.code.shared, strict=True) if s] or [np.zeros(())], self.dtype
        )
        rest = iter(range(len(self.shared)))
        self.state = tuple(
            self.shared[k : k + 1].reshape(()) if s and (k := next(rest)) >= 0 else np.array(part)
            for part, s in zip(state, self.code.shared, strict=True)
        )
        pointers = [part.ctypes.data for part in self.state] or [0]
        self._pointers = (ctypes.c_void_p * len(pointers))(*pointers)
        self.pieces = np.zeros((len(self.shapes), PIECE), np.int64)
        sizes = [math.prod(shape) for shape in self.shapes]
        self.pieces[:, 2], self.pieces[:, 3] = np.cumsum([0, *sizes[:-1]]), sizes
        self._workspace = Workspace(self.code, self.pieces, ctypes.addressof(self._pointers), self.shared)
        self._block, self._numbers, self._whole = self._workspace.block, self._workspace.numbers, self.code.whole
        self._threaded = layout.size >= THREADED
        self._claim = claim
        self._params: list[Any] = [_nothing] * len(sizes)  # weak references to the arrays seen last
        self._grads: list[Any] = [_nothing] * len(sizes)
        self._written: tuple[list[int], list[int], list[int]] = [], [], []  # the parameters' ends, and which they are

    def run(self, params: Any, grads: Any, t: int, lr: float, fun: float, check: bool) -> bool | None:
        """Update. None: nothing was done, since the arrays are not of a kind that this can update. False: a gradient is
        not finite; if ``check``, which checks all of them first, nothing was done.
        """
        if self.names is None:
            known = self._params[0]() is params and self._grads[0]() is grads and params.flags.writeable
            if not known and not self._bound([params], [grads]):
                return None
        elif self.form is not None or (isinstance(params, dict) and len(params) == len(grads) == len(self.names)):
            try:
                if (type(grads) is not type(params) and not isinstance(grads, dict)) or not self._bound(
                    self.parts(params), self.parts(grads)
                ):
                    return None
            except (KeyError, IndexError, TypeError):
                return None
        else:
            return None
        if check is not self._workspace.check:
            self._workspace.set_check(check)
        numbers = self._numbers
        numbers[0], numbers[1], numbers[2] = t, lr, fun
        if self._threaded:
            return self.code.run(self._workspace)
        return self._whole(self._block)  # type: ignore[no-any-return]

    def _bound(self, xs: Sequence[Any], gs: Sequence[Any]) -> bool:
        """Bind the code to these arrays; False if it can't work on them."""
        for k, x in enumerate(xs):
            if self._params[k]() is not x:
                if (claim := self._claim()) is not None:
                    claim(xs)
                self._grads = [_nothing] * len(gs)  # they have to be compared with it
                self.pieces[k, 0] = address = self._address(x, k)
                if not address or not x.flags.aligned or not self._apart():
                    self._params[k] = _nothing
                    return False
                self._params[k] = weakref.ref(x)
            if not x.flags.writeable:
                return False
        for k, g in enumerate(gs):
            if self._grads[k]() is not g:
                self.pieces[k, 1] = address = self._address(g, k)
                if not address or self._is_written(address, k):
                    self._grads[k] = _nothing
                    return False
                self._grads[k] = weakref.ref(g)
        return True

    def check(self, step: Step, x: FloatArray, t: int, lr: float) -> str | None:
        """Compare one update with what NumPy makes of it; return what is wrong, if anything. Changes nothing.

        The bound is 1e4 units in the last place of the largest number among the results.
        """
        n = min(len(x), 1000)
        x, g = x[:n].copy(), np.linspace(-1.0, 1.0, n).astype(self.dtype)
        before = tuple(np.array(part[:n] if part.shape else part) for part in self.state)
        with np.errstate(all="ignore"):
            expected, states = step(x, g, before, t, lr, fun=1.0)
        shared = np.array(
            [part for part, s in zip(before, self.code.shared, strict=True) if s] or [np.zeros(())], self.dtype
        )
        pointers = (ctypes.c_void_p * max(1, len(before)))(*(part.ctypes.data for part in before))
        pieces = np.array([[x.ctypes.data, g.ctypes.data, 0, n]])
        workspace = Workspace(self.code, pieces, ctypes.addressof(pointers), shared)
        workspace.numbers[0], workspace.numbers[1], workspace.numbers[2] = t, lr, 1.0
        self.code.whole(workspace.block)
        vectors = [part for part, s in zip(before, self.code.shared, strict=True) if not s]
        wanted = [part for part, s in zip(states, self.code.shared, strict=True) if not s]
        for found, right in zip((x, *vectors), (expected, *wanted), strict=True):
            bound = 1e4 * np.finfo(self.dtype).eps * float(np.max(np.abs(right), initial=0.0))
            difference = np.abs(found - right)
            if not np.all(difference <= bound) and np.all(np.isfinite(right)):
                i = int(np.argmax(difference))
                return f"an update in machine code gives {found[i]!r}, NumPy {right[i]!r}"
        return None

    def _address(self, array: Any, k: int) -> int:
        """Return the address of an array; 0 unless it is a plain one of the form that is expected."""
        if type(array) is not np.ndarray or array.dtype != self.dtype or array.shape != self.shapes[k]:
            return 0
        return int(array.__array_interface__["data"][0]) if array.flags.c_contiguous else 0

    def _apart(self) -> bool:
        """Return whether no two of the parameters share memory: each must be updated once."""
        order = np.argsort(self.pieces[:, 0])
        begin = self.pieces[order, 0]
        end = begin + self.pieces[order, 3] * self.dtype.itemsize
        self._written = begin.tolist(), end.tolist(), order.tolist()
        return bool(np.all(begin[1:] >= end[:-1])) or not begin.all()

    def _is_written(self, address: int, k: int) -> bool:
        """Return whether a parameter overlaps gradient ``k``; its own may, if both are the same memory."""
        begin, end, order = self._written
        i = bisect_right(begin, address) - 1
        if i >= 0 and end[i] > address and (begin[i] != address or order[i] != k):
            return True
        after = address + int(self.pieces[k, 3]) * self.dtype.itemsize
        return i + 1 < len(begin) and begin[i + 1] < after


def _nothing() -> Any:
    """Stand for a weak reference to what no array is."""
    return _nothing
