"""One update of plain arrays as one pass over memory: every elementwise rule, fused from the text that NumPy runs.

The graph is traced over vectors of one element. What has their shape is computed for each element; what is a single
number (the powers of the step, a state that all elements share) once, before the loop. All gradients are checked before
the first parameter is written, so that one that is not finite leaves everything as it was; if the caller can undo the
update, they are checked during it.

Large arrays are cut into parts, and every thread takes the next part that no other has taken: the calling thread begins
at once, the workers join when they wake. When all parts have been checked, they are updated from the last one to the
first, since the gradients read last may still be in the cache. A worker that is done spins for a moment, waiting for
the next update, before it sleeps: to wake it takes as long as to update a hundred thousand numbers.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from koubai.execute import library
from koubai.execute.abi import address
from koubai.execute.elements import NotLowerable, filled, is_quotient
from koubai.execute.ir import BOOL, TAGS, Code, Function, Value
from koubai.execute.llvm import KINDS, has_code, module
from koubai.execute.lower import lowered
from koubai.execute.native import fingerprint, loop_invariant, unroll
from koubai.graph.graph import LEAVES, Graph

__all__ = ["PIECE", "THREADED", "Update", "Workspace"]

THREADED = 2**18  # numbers from which on a second thread pays
PART = 2**15  # numbers in a part, at least
PARTS = 32  # parts for each thread, at most
REGISTER = 64  # bytes
PIECE = 4  # numbers that describe one array: the addresses of x and g, the offset of its state, its size
_PIECES, _COUNT, _STATES, _SHARED, _TABLE, _TOTAL, _CHECK = range(7)  # in a block
# counters that threads share: checks begun, checks done, 1 if one failed, updates begun, updates done, 1 if one failed
BARRIER = 6


class Workspace:
    """What an update reads and writes: the arrays, the state, and the numbers that all elements share.

    pieces: (arrays, PIECE) integers. pointers: the address of the states' addresses. shared: the states that are single
    numbers, in one vector. numbers: t, lr and fun, to be set before each update.
    """

    def __init__(self, code: Update, pieces: Any, pointers: int, shared: Any) -> None:
        self.pieces, self.shared, self.total = pieces, shared, int(pieces[:, 3].sum())
        self.table = np.empty(code.table + 3)
        self.numbers: Any = self.table.data[code.table :]  # a memoryview is written faster than an array
        self._block = np.array(
            [address(pieces), len(pieces), pointers, address(shared), address(self.table), self.total, 1]
        )
        self.block = address(self._block)  # one pointer is passed instead of all of these
        self.check = True

    def set_check(self, check: bool) -> None:
        """Set whether all gradients are checked before anything is written."""
        self.check = check
        self._block[_CHECK] = check


class Update:
    """The code of an update. Inputs of the graph: x, g, t, lr, fun, *state; outputs: x, *state, for x of shape (1,).

    shared: which arrays of the state are single numbers. Raises NotLowerable if the rule is not elementwise.
    """

    def __init__(self, graph: Graph) -> None:
        graph = lowered(graph, has_code)
        nodes = graph.nodes
        dtype = nodes[graph.inputs[0]].dtype
        self.kind = KINDS.get(dtype, "")
        if self.kind not in TAGS:
            raise NotLowerable(f"parameters of {dtype}")
        for node in nodes:
            op = node.op
            if op not in LEAVES and not (op.elementwise or op.spreads or op.fills is not None):
                raise NotLowerable(f"{node.op.name} needs more than one element")
        self.graph = graph
        states = [nodes[i] for i in graph.inputs[5:]]
        self.shared = [node.shape == () for node in states]
        if [nodes[i].shape == () for i in graph.outputs[1:]] != self.shared:
            raise NotLowerable("a state that changes its shape")
        if any(nodes[i].dtype != dtype for i in (*graph.inputs[5:], *graph.outputs)):
            raise NotLowerable("a state of another dtype")
        self.varying = [True, True, False, False, False, *(not shared for shared in self.shared)]
        self.invariant = loop_invariant(graph, self.varying)
        self.kinds = [KINDS.get(nodes[i].dtype, "double") for i in self.invariant]
        self.lanes = REGISTER // np.dtype(dtype).itemsize
        self.table = len(self.invariant) + sum(self.shared)  # then t, lr and fun
        loaded = library.load(b"update" + fingerprint(graph), self._text)
        self.library = loaded
        pointer, whole = ctypes.c_void_p, ctypes.c_int64
        self.whole = loaded.function("whole", ctypes.c_bool, pointer)
        self._prepare = loaded.function("prepare", None, pointer)
        self._share = loaded.function("share", ctypes.c_bool, pointer, pointer, whole, whole, whole)
        self._share_address = loaded.address("share")

    # -- running ------------------------------------------------------------------------------------------------------

    def run(self, workspace: Workspace) -> bool:
        """Update every piece. False: a gradient is not finite; if they were checked first, nothing was done."""
        total = workspace.total
        threads = library.processors() if total >= THREADED else 1
        if threads == 1 or not _one_at_a_time.acquire(blocking=False):
            return self.whole(workspace.block)  # type: ignore[no-any-return]
        try:
            self._prepare(workspace.block)
            size = -(-max(PART, -(-total // (threads * PARTS))) // 1024) * 1024
            parts = -(-total // size)
            barrier = np.zeros(BARRIER, np.int64)
            if not workspace.check:
                barrier[:2] = parts
            task = workspace.block, address(barrier), parts, size, total
            workers = _workers(threads - 1)
            try:
                for worker in workers:
                    worker.call(self._share_address, task, (self, workspace, barrier))
                done: bool = self._share(*task)
            finally:
                for worker in workers:
                    worker.dismiss()
        finally:
            _one_at_a_time.release()
        if done or not workspace.check:
            count = sum(self.shared)
            workspace.shared[:count] = workspace.table[len(self.invariant) : len(self.invariant) + count]
        return done

    # -- the text -----------------------------------------------------------------------------------------------------

    def _text(self) -> str:
        return module(
            self._write_prepare(), self._write_finite(), self._write_step(), self._write_check(), self._write_make(),
            self._write_whole(), _rest(), self._write_share(),
        )  # fmt: skip

    def _write_prepare(self) -> Function:
        """prepare(block): compute what all elements need, and the new shared states, into the table."""
        graph = self.graph
        code = Function("prepare", "void", ["block"], apart=False)
        shared, table = (_word(code.arguments[0], k, "ptr") for k in (_SHARED, _TABLE))
        new = [i for i, alike in zip(graph.outputs[1:], self.shared, strict=True) if alike]
        part = Graph(graph.nodes, graph.inputs, [*self.invariant, *new])
        scalars = [code.load(table, self.table + k, "double") for k in range(3)]
        nothing = filled((1,), [code.constant(0.0, self.kind)])
        states: list[Any] = []
        for alike in self.shared:
            place = sum(state is not nothing for state in states)
            states.append(filled((), [code.load(shared, place, self.kind)]) if alike else nothing)
        given = [nothing, nothing, *(filled((), [v]) for v in scalars), *states]
        results, _ = unroll(code, part, given, _no_array, self.varying)
        for k, result in enumerate(results):
            code.store(code.cast(result[()], "double"), table, k)
        code.ret()
        return code

    def _write_finite(self) -> Function:
        """finite(g, begin, end): return whether these are all finite."""
        code = Function("finite", BOOL, ["g", ("i64", "begin"), ("i64", "end")])
        g, begin, end = code.arguments

        def body(lanes: int, index: Value, bad: Value) -> Value:
            return _or_not_finite(bad, code.load(g, index, self.kind, lanes, self.align))

        code.ret(~self._vector_loop(code, begin, end, 4, [body], code.constant(0, "i32")))
        return code

    def _write_step(self) -> Function:
        """step(piece, states, table, begin, end): update these elements of one array; return whether g is finite."""
        graph, kind = self.graph, self.kind
        names = ["piece", "states", "table", ("i64", "begin"), ("i64", "end")]
        code = Function("step", BOOL, names, apart=False)  # type: ignore[arg-type]
        piece, places, numbers, begin, end = code.arguments
        x, g, start = _word(piece, 0, "ptr"), _word(piece, 1, "ptr"), _word(piece, 2)
        pointers = []
        for k, shared in enumerate(self.shared):
            base = _word(places, k, "ptr")
            pointers.append(base if shared else code.at(base, start, kind))
        table = [code.load(numbers, k, "double") for k in range(self.table + 3)]
        known = {i: filled((), [code.cast(v, k)]) for i, v, k in zip(self.invariant, table, self.kinds, strict=False)}
        alike = [code.load(p, 0, kind) if shared else None for p, shared in zip(pointers, self.shared, strict=True)]
        kept = [i for i, shared in zip(graph.outputs[1:], self.shared, strict=True) if not shared]
        part = Graph(graph.nodes, graph.inputs, [graph.outputs[0], *kept])
        targets = [x, *(p for p, shared in zip(pointers, self.shared, strict=True) if not shared)]

        def body(ones: Sequence[int], lanes: int, index: Value, bad: Value) -> Value:
            def vector(pointer: Value) -> Any:
                return filled((1,), [code.load(pointer, index, kind, lanes, self.align)])

            vectors = [vector(p) for p in (x, g)]
            states = [filled((), [v]) if v is not None else vector(p) for v, p in zip(alike, pointers, strict=True)]
            scalars = [filled((), [v]) for v in table[self.table :]]
            shared = known | {i: filled((), [code.constant(1.0, kind)]) for i in ones}
            results, _ = unroll(code, part, [*vectors, *scalars, *states], _no_array, self.varying, shared)
            for pointer, result in zip(targets, results, strict=True):
                code.store(code.splat(code.cast(result.ravel()[0], kind), lanes), pointer, index, self.align)
            return _or_not_finite(bad, vectors[1][0])

        bodies, choice = [], code.constant(0, "i32")
        divisors = self._divisors()
        for k, i in enumerate(divisors):
            is_one = code.cast(known[i][()], "double").equals(1.0)
            choice = choice + code.select(is_one, code.constant(1 << k, "i32"), 0)
        for version in range(1 << len(divisors)):
            ones = [i for k, i in enumerate(divisors) if version >> k & 1]
            bodies.append(functools.partial(body, ones))
        code.ret(~self._vector_loop(code, begin, end, 1, bodies, choice))
        return code

    def _divisors(self) -> list[int]:
        """Return the numbers of the table that elements are divided by: once 1 - beta1**t is one, that is free."""
        nodes = self.graph.nodes
        found = {node.inputs[1] for node in nodes if is_quotient(node) and node.shape}
        return [i for i in self.invariant if i in found][:2]

    def _write_check(self) -> Function:
        """check(block, first, last): return whether the gradients of these elements, over all arrays, are finite."""
        return self._over("check", lambda code, _, *part: code.call("finite", BOOL, *part))

    def _write_make(self) -> Function:
        """make(block, first, last): update these elements; return whether their gradients were finite."""

        def body(code: Function, piece: Value, _: Value, low: Value, high: Value) -> Value:
            states, table = (_word(code.arguments[0], k, "ptr") for k in (_STATES, _TABLE))
            return code.call("step", BOOL, piece, states, table, low, high)

        return self._over("make", body)

    def _over(self, name: str, body: Callable[..., Value]) -> Function:
        """Write a loop over the arrays, over those elements of each that are between first and last.

        body(code, piece, g, low, high) writes what is done with them, and returns whether all was well.
        """
        code = Function(name, BOOL, ["block", ("i64", "first"), ("i64", "last")], apart=False)
        block, first, last = code.arguments
        pieces, count = _word(block, _PIECES, "ptr"), _word(block, _COUNT)
        with code.loop(0, count, 1, [code.constant(True, BOOL)]) as loop:
            piece = code.at(pieces, loop.index, f"[{PIECE} x i64]")
            g, start, size = _word(piece, 1, "ptr"), _word(piece, 2), _word(piece, 3)
            low = code.intrinsic("smax", first - start, 0)
            high = code.intrinsic("smin", last - start, size)
            with code.when(low < high, *loop.carried) as some:
                some.give(loop.carried[0] & body(code, piece, g, low, high))
            loop.again(*some.values)
        code.ret(*loop.results)
        return code

    def _write_whole(self) -> Function:
        """whole(block): the whole update on one thread."""
        code = Function("whole", BOOL, ["block"], apart=False)
        (block,) = code.arguments
        total, zero = _word(block, _TOTAL), code.constant(0, "i64")
        shared, table = (_word(block, k, "ptr") for k in (_SHARED, _TABLE))
        checks = _word(block, _CHECK).differs(0)
        with code.when(checks), code.unless(code.call("check", BOOL, block, zero, total)):
            code.ret(False)
        code.call("prepare", "void", block)
        made = code.call("make", BOOL, block, zero, total)
        for k in range(sum(self.shared)):
            new = code.load(table, len(self.invariant) + k, "double")
            code.store(code.cast(new, self.kind), shared, k)
        code.ret(made | checks)  # they were found finite before
        return code

    def _write_share(self) -> Function:
        """share(block, barrier, parts, size, total): take parts as long as there are any, until all is done.

        No thread writes before all parts have been checked and all gradients found finite.
        """
        numbers = [("i64", name) for name in ("parts", "size", "total")]
        code = Function("share", BOOL, ["block", "barrier", *numbers], apart=False)
        block, barrier, parts, size, total = code.arguments
        checks, checked, bad, makes, made, odd = (code.at(barrier, k, "i64") for k in range(BARRIER))
        one = code.constant(1, "i64")
        checks_first = _word(block, _CHECK)

        def do(name: str, part: Value, failed: Value) -> None:
            first = part * size
            last = code.intrinsic("smin", first + size, total)
            with code.unless(code.call(name, BOOL, block, first, last)):
                _set(failed, one, "monotonic")

        with code.loop() as loop:
            i = _counted(checks, "monotonic")
            loop.leave(unless=i < parts)
            do("check", i, bad)
            _counted(checked, "acq_rel")
        _wait(code, lambda: _read(checked, "acquire") < parts)
        with code.unless(_read(bad, "monotonic").equals(0)):
            code.ret(False)
        with code.loop() as loop:
            j = _counted(makes, "monotonic")
            loop.leave(unless=j < parts)
            do("make", parts - j - 1, odd)
            _counted(made, "release")
        _wait(code, lambda: _read(made, "acquire") < parts)
        code.ret(_read(odd, "monotonic").equals(0) | checks_first.differs(0))
        return code

    @property
    def align(self) -> int:
        return 8 if self.kind == "double" else 4

    def _vector_loop(
        self,
        code: Code,
        begin: Value,
        end: Value,
        factor: int,
        bodies: Sequence[Callable[[int, Value, Value], Value]],
        choice: Value,
    ) -> Value:
        """Write a loop over begin … end in vectors, then element by element.

        body(lanes, index, flag) returns the flag for the next iteration; returned is whether any lane raised it.
        factor: vectors per iteration. choice: which body the vectors take; single elements take the first.
        """
        lanes, step = self.lanes, factor * self.lanes
        last = begin + code.binary("sdiv", end - begin, code.constant(step, "i64")) * step
        raised = code.splat(code.constant(False, BOOL), lanes)
        with code.switch(choice) as switch:
            for k, body in enumerate(bodies):
                with switch.case(*[k][: k > 0]):
                    with code.loop(begin, last, step, [raised]) as loop:
                        (flag,) = loop.carried
                        for u in range(factor):
                            flag = body(lanes, loop.index + u * lanes, flag)
                        loop.again(flag)
                    switch.give(*loop.results)
        with code.loop(last, end, 1, [code.any(*switch.values)]) as singles:
            singles.again(bodies[0](1, singles.index, *singles.carried))
        return singles.results[0]


def _or_not_finite(bad: Value, g: Value) -> Value:
    return bad | g.code.compare("uge", abs(g), math.inf)


def _word(pointer: Value, k: int, kind: str = "i64") -> Value:
    """Return word ``k`` of a description."""
    return pointer.code.load(pointer.code.at(pointer, k, "i64"), 0, kind)


# What threads share is read and written atomically.


def _counted(place: Value, order: str) -> Value:
    """Add one, and return the number before."""
    return place.code.fresh(f"atomicrmw add {place.typed}, i64 1 {order}", "i64")


def _read(place: Value, order: str) -> Value:
    return place.code.fresh(f"load atomic i64, {place.typed} {order}, align 8", "i64")


def _set(place: Value, v: Value, order: str) -> None:
    place.code.line(f"store atomic {v.typed}, {place.typed} {order}, align 8")


def _exchanged(place: Value, before: int, after: int, order: str) -> Value:
    """Write ``after`` if ``before`` is there, and return whether it was."""
    pair = place.code.fresh(f"cmpxchg {place.typed}, i64 {before}, i64 {after} {order}", "{ i64, i1 }")
    return place.code.pure(f"extractvalue {pair.typed}, 1", BOOL)


def _wait(code: Code, is_on: Callable[[], Value]) -> None:
    """Write a loop that waits as long as this holds."""
    with code.loop(carried=[code.constant(0, "i64")]) as loop:
        loop.leave(unless=is_on())
        code.call("rest", "void", *loop.carried)
        loop.again(loop.carried[0] + 1)


def _no_array(i: int) -> Any:
    raise NotLowerable("an array from outside")


# -- workers ----------------------------------------------------------------------------------------------------------

SPINS = 50_000  # reads of its mailbox, some 50 µs in all, before a worker sleeps
_ASLEEP, _IDLE, _CALLED, _BUSY = range(4)  # a worker's state, the first word of its mailbox; the task follows


def _rest() -> Function:
    """rest(i): in a loop that waits, yield this CPU now and then to another thread, perhaps the one that is awaited."""
    code = Function("rest", "void", [("i64", "i")], apart=False)
    if sys.platform != "win32":
        code.declared.add("declare i32 @sched_yield()")
        with code.when((code.arguments[0] & 4095).equals(4095)):
            code.call("sched_yield", "i32")
    code.ret()
    return code


def _serving() -> Function:
    """serve(mailbox): do the tasks that come, until none has come for a while."""
    code = Function("serve", "void", ["mailbox"], apart=False)
    (mailbox,) = code.arguments
    zero = code.constant(0, "i64")
    with code.loop(carried=[zero]) as loop:
        with code.unless(_read(mailbox, "acquire").equals(_CALLED)):
            spins = loop.carried[0] + 1
            with code.when(spins < SPINS):
                loop.again(spins)
            with code.when(_exchanged(mailbox, _IDLE, _ASLEEP, "acq_rel monotonic")):
                loop.leave()
            loop.again(zero)
        with code.when(_exchanged(mailbox, _CALLED, _BUSY, "acq_rel monotonic")):
            share, block, barrier, *numbers = (_word(mailbox, k, "ptr" if k < 4 else "i64") for k in range(1, 7))
            code.call(share.text, BOOL, block, barrier, *numbers)
            _set(mailbox, code.constant(_IDLE, "i64"), "release")
        loop.again(zero)
    code.ret()
    return code


def _calling() -> list[Function]:
    """call(mailbox) announces a task, and returns the worker's state before; dismiss(mailbox) waits for it."""
    call = Function("call", "i64", ["mailbox"], apart=False)
    call.ret(call.fresh(f"atomicrmw xchg ptr %mailbox, i64 {_CALLED} acq_rel", "i64"))
    dismiss = Function("dismiss", "void", ["mailbox"], apart=False)
    (mailbox,) = dismiss.arguments
    with dismiss.unless(_exchanged(mailbox, _CALLED, _IDLE, "acq_rel acquire")):
        _wait(dismiss, lambda: _read(mailbox, "acquire").equals(_BUSY))
    dismiss.ret()
    return [call, dismiss]


class _Worker:
    """A thread that shares the updates of the thread that holds `_one_at_a_time`."""

    def __init__(self) -> None:
        self.library = library.load(b"workers", lambda: module(_rest(), _serving(), *_calling()))
        serve, self._call, self._dismiss = (
            self.library.function(name, result, ctypes.c_void_p)
            for name, result in (("serve", None), ("call", ctypes.c_int64), ("dismiss", None))
        )
        mailbox = np.zeros(7, np.int64)
        self._place, self._words, self._wake = address(mailbox), mailbox.data, threading.Lock()
        self._wake.acquire()

        def work() -> None:
            while True:
                self._wake.acquire()
                serve(self._place)

        threading.Thread(target=work, name="koubai", daemon=True).start()

    def call(self, share: int, task: Sequence[int], kept: object) -> None:
        """Hand over the task. kept: what must live as long as the worker may read it, even if we are interrupted."""
        self._kept = kept
        words = self._words
        words[1] = share
        words[2], words[3], words[4], words[5], words[6] = task
        if self._call(self._place) == _ASLEEP:
            self._wake.release()

    def dismiss(self) -> None:
        """Return when the worker no longer reads the task: it may not even have begun."""
        self._dismiss(self._place)


_team: list[_Worker] = []
_one_at_a_time = threading.Lock()


def _workers(count: int) -> list[_Worker]:
    while len(_team) < count:
        _team.append(_Worker())
    return _team[:count]


def _forget_threads() -> None:
    global _one_at_a_time
    _team.clear()  # a forked child has none of its parent's threads
    _one_at_a_time = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
