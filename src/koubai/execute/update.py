"""One update of plain arrays as one pass over memory: every elementwise rule, fused from the text that NumPy runs.

The graph is traced over vectors of one element. What has their shape is computed for each element; what is a single
number (the powers of the step, a state that all elements share) once before. All gradients are looked at before the
first parameter is written, so that one that is not finite leaves everything as it was; where the caller answers for
them, they are looked at on the way.

Large arrays are cut into parts, and every thread takes the next one that nobody has taken: the thread that calls begins
at once, the others come when they wake. When all parts have been looked at, they are updated from the last one to the
first, since the gradients seen last may still be in the cache. A helping thread that is done looks out for the next
update for a moment before it sleeps: to wake it takes as long as a hundred thousand numbers do.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from koubai.execute import library
from koubai.execute.descents import address
from koubai.execute.elements import Unsuitable, filled
from koubai.execute.llvm import BOOL, KINDS, TAGS, Phi, Value, module, of_type
from koubai.execute.llvm import OldCode as Code
from koubai.execute.native import OldFunction, expand, fingerprint, frontier
from koubai.graph.trace import LEAVES, Graph

__all__ = ["PIECE", "THREADED", "Memory", "Update"]

THREADED = 2**18  # numbers from which on a second thread is worth its hand-over
PART = 2**15  # numbers in a part, at least …
PARTS = 32  # … and parts for each thread, at most
REGISTER = 64  # bytes
PIECE = 4  # numbers that describe one array: the addresses of x and g, where its part of the state begins, its size
_PIECES, _COUNT, _STATES, _SHARED, _TABLE, _TOTAL, _LOOK = range(7)  # in a block
MEETING = 6  # numbers that threads share: parts begun to look at, looked at, is one bad?, begun to update, updated,
# and was one bad that was updated?


class Memory:
    """What an update reads and writes: where the arrays lie, the state, and the numbers that all elements share.

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
        self.look = True

    def ask(self, look: bool) -> None:
        """Say whether all gradients are to be looked at before anything is written."""
        self.look = look
        self._block[_LOOK] = look


class Update:
    """The code of an update. Inputs of the graph: x, g, t, lr, fun, *state; outputs: x, *state, for x of shape (1,).

    shared: which arrays of the state are single numbers. Raises Unsuitable where the rule is not elementwise.
    """

    def __init__(self, graph: Graph) -> None:
        nodes = graph.nodes
        dtype = nodes[graph.inputs[0]].dtype
        self.kind = KINDS.get(dtype, "")
        if self.kind not in TAGS:
            raise Unsuitable(f"parameters of {dtype}")
        for node in nodes:
            if node.op not in LEAVES and not node.op.elementwise and node.op.name not in ("broadcast_to", "zeros"):
                raise Unsuitable(f"{node.op.name} looks at more than one element")
        self.graph = graph
        states = [nodes[i] for i in graph.inputs[5:]]
        self.shared = [node.shape == () for node in states]
        if [nodes[i].shape == () for i in graph.outputs[1:]] != self.shared:
            raise Unsuitable("a state that changes its shape")
        if any(nodes[i].dtype != dtype for i in (*graph.inputs[5:], *graph.outputs)):
            raise Unsuitable("a state of another dtype")
        self.varying = [True, True, False, False, False, *(not shared for shared in self.shared)]
        self.uniform = frontier(graph, self.varying)
        self.kinds = [KINDS.get(nodes[i].dtype, "double") for i in self.uniform]
        self.lanes = REGISTER // np.dtype(dtype).itemsize
        self.table = len(self.uniform) + sum(self.shared)  # then t, lr and fun
        loaded = library.load(b"update" + fingerprint(graph), self._text)
        self.library = loaded
        pointer, whole = ctypes.c_void_p, ctypes.c_int64

        def bound(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
            return ctypes.CFUNCTYPE(result, *arguments)(loaded.address(name))

        self.whole = bound("whole", ctypes.c_bool, pointer)
        self._prepare = bound("prepare", None, pointer)
        self._share = bound("share", ctypes.c_bool, pointer, pointer, whole, whole, whole)
        self._share_address = loaded.address("share")

    # -- running ------------------------------------------------------------------------------------------------------

    def run(self, memory: Memory) -> bool:
        """Update every piece. False: a gradient is not finite; where they were looked at before, nothing was done."""
        total = memory.total
        threads = library.processors() if total >= THREADED else 1
        if threads == 1 or not _one_at_a_time.acquire(blocking=False):
            return self.whole(memory.block)  # type: ignore[no-any-return]
        try:
            self._prepare(memory.block)
            size = -(-max(PART, -(-total // (threads * PARTS))) // 1024) * 1024
            parts = -(-total // size)
            meeting = np.zeros(MEETING, np.int64)
            if not memory.look:
                meeting[:2] = parts
            task = memory.block, address(meeting), parts, size, total
            helpers = _helpers(threads - 1)
            try:
                for helper in helpers:
                    helper.call(self._share_address, task, (self, memory, meeting))
                done: bool = self._share(*task)
            finally:
                for helper in helpers:
                    helper.dismiss()
        finally:
            _one_at_a_time.release()
        if done or not memory.look:
            count = sum(self.shared)
            memory.shared[:count] = memory.table[len(self.uniform) : len(self.uniform) + count]
        return done

    # -- the text -----------------------------------------------------------------------------------------------------

    def _text(self) -> str:
        return module(
            self._write_prepare(), self._write_finite(), self._write_step(), self._write_look(), self._write_make(),
            self._write_whole(), _rest(), self._write_share(),
        )  # fmt: skip

    def _write_prepare(self) -> OldFunction:
        """prepare(block): bring what all elements need, and the new shared states, into the table."""
        graph = self.graph
        function = OldFunction("prepare", "void", ["block"], apart=False)
        code = function.code
        code.block("entry")
        shared, table = (self._word(function, "%block", k, "ptr") for k in (_SHARED, _TABLE))
        new = [i for i, alike in zip(graph.outputs[1:], self.shared, strict=True) if alike]
        part = Graph(graph.nodes, graph.inputs, [*self.uniform, *new])
        scalars = [function.load(table, self.table + k, "double") for k in range(3)]
        nothing = filled((1,), [code.number(0.0, self.kind)])
        states: list[Any] = []
        for alike in self.shared:
            place = sum(state is not nothing for state in states)
            states.append(filled((), [function.load(shared, place, self.kind)]) if alike else nothing)
        given = [nothing, nothing, *(filled((), [v]) for v in scalars), *states]
        results, _ = expand(code, part, given, _no_array, self.varying)
        for k, result in enumerate(results):
            function.store(code.cast(result[()], "double"), table, k)
        code.line("ret void")
        return function

    def _write_finite(self) -> OldFunction:
        """finite(g, begin, end): are these all finite?"""
        function = OldFunction("finite", "i1", ["g", ("i64", "begin"), ("i64", "end")])
        code = function.code
        code.block("head")

        def body(lanes: int, index: str, bad: Value) -> Value:
            return self._or_not_finite(code, bad, self._load(code, lanes, "%g", index))

        self._tell(code, self._strips(code, 4, [body]))
        return function

    def _write_step(self) -> OldFunction:
        """step(piece, states, table, begin, end): the new x and states of these elements of one array. Is g finite?"""
        graph, kind = self.graph, self.kind
        function = OldFunction(
            "step", "i1", ["piece", "states", "table", ("i64", "begin"), ("i64", "end")], apart=False
        )
        code = function.code
        code.block("head")
        x, g = (self._word(function, "%piece", k, "ptr") for k in (0, 1))
        start = self._word(function, "%piece", 2, "i64")
        pointers = []
        for k, shared in enumerate(self.shared):
            base = self._word(function, "%states", k, "ptr")
            pointers.append(base if shared else code.raw(f"getelementptr {kind}, ptr {base}, i64 {start}"))
        table = [function.load("%table", k, "double") for k in range(self.table + 3)]
        known = {i: filled((), [code.cast(v, k)]) for i, v, k in zip(self.uniform, table, self.kinds, strict=False)}
        alike = [function.load(p, 0, kind) if shared else None for p, shared in zip(pointers, self.shared, strict=True)]
        kept = [i for i, shared in zip(graph.outputs[1:], self.shared, strict=True) if not shared]
        part = Graph(graph.nodes, graph.inputs, [graph.outputs[0], *kept])
        targets = [x, *(p for p, shared in zip(pointers, self.shared, strict=True) if not shared)]

        def body(ones: Sequence[int], lanes: int, index: str, bad: Value) -> Value:
            vectors = [filled((1,), [self._load(code, lanes, p, index)]) for p in (x, g)]
            states = [
                filled((), [one]) if one is not None else filled((1,), [self._load(code, lanes, p, index)])
                for one, p in zip(alike, pointers, strict=True)
            ]
            scalars = [filled((), [v]) for v in table[self.table :]]
            shared = known | {i: filled((), [code.number(1.0, kind)]) for i in ones}
            results, _ = expand(code, part, [*vectors, *scalars, *states], _no_array, self.varying, shared)
            for pointer, result in zip(targets, results, strict=True):
                v = code.spread(code.cast(result.ravel()[0], kind), lanes)
                at = code.raw(f"getelementptr {kind}, ptr {pointer}, i64 {index}")
                code.line(f"store {of_type(kind, lanes)} {v.text}, ptr {at}, align {self.align}")
            return self._or_not_finite(code, bad, vectors[1][0])

        bodies, choice = [], "0"
        divisors = self._divisors()
        for k, i in enumerate(divisors):
            v = code.cast(known[i][()], "double")
            is_one = code.compare("oeq", v, code.number(1.0, "double"))
            choice = code.raw(f"add i32 {choice}, {code.raw(f'select i1 {is_one.text}, i32 {1 << k}, i32 0')}")
        for version in range(1 << len(divisors)):
            ones = [i for k, i in enumerate(divisors) if version >> k & 1]
            bodies.append(functools.partial(body, ones))
        self._tell(code, self._strips(code, 1, bodies, choice))
        return function

    def _or_not_finite(self, code: Code, bad: Value, g: Value) -> Value:
        size = code.intrinsic("fabs", g)
        return code.binary("or", bad, code.compare("uge", size, code.number(np.inf, self.kind)))

    @staticmethod
    def _tell(code: Code, bad: Value) -> None:
        code.line(f"ret i1 {code.binary('xor', bad, Value('true', BOOL, 1, True)).text}")

    def _divisors(self) -> list[int]:
        """Return the numbers of the table that elements are divided by: 1 - beta1**t is soon one, and costs nothing."""
        nodes = self.graph.nodes
        found = {node.inputs[1] for node in nodes if node.op.name == "divide" and node.shape}
        return [i for i in self.uniform if i in found][:2]

    def _write_look(self) -> OldFunction:
        """look(block, first, last): are the gradients of these elements, of all arrays together, finite?"""
        function = OldFunction("look", "i1", ["block", ("i64", "first"), ("i64", "last")], apart=False)
        self._over(function, "%fine = call i1 @finite(ptr %g, i64 %lo, i64 %hi)")
        return function

    def _write_make(self) -> OldFunction:
        """make(block, first, last): update these elements. Were their gradients finite?"""
        function = OldFunction("make", "i1", ["block", ("i64", "first"), ("i64", "last")], apart=False)
        self._over(function, "%fine = call i1 @step(ptr %p, ptr %states, ptr %table, i64 %lo, i64 %hi)")
        return function

    def _over(self, function: OldFunction, body: str) -> None:
        """Loop over the arrays, with the elements of each that lie between %first and %last: %lo … %hi. Were all of
        them %fine?
        """
        code = function.code
        code.declared |= {f"declare i64 @llvm.{name}.i64(i64, i64)" for name in ("smax", "smin")}
        code.block("entry")
        for k, name in ((_PIECES, "pieces"), (_STATES, "states"), (_TABLE, "table")):
            code.line(f"%{name} = load ptr, ptr {function.place('%block', k, 'i64')}")
        code.line(f"%count = load i64, ptr {function.place('%block', _COUNT, 'i64')}")
        code.lines += f"""  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %end ]
  %all = phi i1 [ true, %entry ], [ %now, %end ]
  %on = icmp slt i64 %i, %count
  br i1 %on, label %one, label %done
one:
  %p = getelementptr [{PIECE} x i64], ptr %pieces, i64 %i
  %gp = getelementptr i64, ptr %p, i64 1
  %g = load ptr, ptr %gp
  %sp = getelementptr i64, ptr %p, i64 2
  %start = load i64, ptr %sp
  %np = getelementptr i64, ptr %p, i64 3
  %n = load i64, ptr %np
  %from = sub i64 %first, %start
  %to = sub i64 %last, %start
  %lo = call i64 @llvm.smax.i64(i64 %from, i64 0)
  %hi = call i64 @llvm.smin.i64(i64 %to, i64 %n)
  %some = icmp slt i64 %lo, %hi
  br i1 %some, label %body, label %end
body:
  {body}
  %both = and i1 %all, %fine
  br label %end
end:
  %now = phi i1 [ %all, %one ], [ %both, %body ]
  %next = add i64 %i, 1
  br label %loop
done:
  ret i1 %all""".splitlines()

    def _write_whole(self) -> OldFunction:
        """whole(block): everything, where one thread does it."""
        function = OldFunction("whole", "i1", ["block"], apart=False)
        code = function.code
        code.block("entry")
        total = self._word(function, "%block", _TOTAL, "i64")
        shared, table = (self._word(function, "%block", k, "ptr") for k in (_SHARED, _TABLE))
        code.line(f"%asked = icmp ne i64 {self._word(function, '%block', _LOOK, 'i64')}, 0")
        code.line("br i1 %asked, label %first, label %go")
        code.block("first")
        code.line(f"%fine = call i1 @look(ptr %block, i64 0, i64 {total})")
        code.line("br i1 %fine, label %go, label %refused")
        code.block("refused")
        code.line("ret i1 false")
        code.block("go")
        code.line("call void @prepare(ptr %block)")
        code.line(f"%made = call i1 @make(ptr %block, i64 0, i64 {total})")
        for k in range(sum(self.shared)):
            new = function.load(table, len(self.uniform) + k, "double")
            function.store(code.cast(new, self.kind), shared, k)
        code.line(f"ret i1 {code.raw('or i1 %made, %asked')}")  # what was found finite before is told as that
        return function

    def _write_share(self) -> OldFunction:
        """share(block, meeting, parts, size, total): take parts as long as there are any, until all is done.

        Nobody writes before all parts have been looked at and all gradients found finite.
        """
        numbers = [("i64", name) for name in ("parts", "size", "total")]
        function = OldFunction("share", "i1", ["block", "meeting", *numbers], apart=False)
        code = function.code
        code.declared.add("declare i64 @llvm.smin.i64(i64, i64)")
        code.block("entry")
        looks, looked, bad, makes, made, odd = (function.place("%meeting", k, "i64") for k in range(MEETING))
        asked = self._word(function, "%block", _LOOK, "i64")
        code.lines += f"""  br label %look
look:
  %i = atomicrmw add ptr {looks}, i64 1 monotonic
  %to.look = icmp slt i64 %i, %parts
  br i1 %to.look, label %look.one, label %wait
look.one:
  %i.first = mul i64 %i, %size
  %i.next = add i64 %i.first, %size
  %i.last = call i64 @llvm.smin.i64(i64 %i.next, i64 %total)
  %fine = call i1 @look(ptr %block, i64 %i.first, i64 %i.last)
  br i1 %fine, label %look.end, label %bad
bad:
  store atomic i64 1, ptr {bad} monotonic, align 8
  br label %look.end
look.end:
  %i.done = atomicrmw add ptr {looked}, i64 1 acq_rel
  br label %look
{self._rest_until("wait", "look", looked, "told")}
told:
  %found = load atomic i64, ptr {bad} monotonic, align 8
  %good = icmp eq i64 %found, 0
  br i1 %good, label %make, label %refused
refused:
  ret i1 false
make:
  %j = atomicrmw add ptr {makes}, i64 1 monotonic
  %to.make = icmp slt i64 %j, %parts
  br i1 %to.make, label %make.one, label %finish
make.one:
  %j.after = sub i64 %parts, %j
  %j.back = sub i64 %j.after, 1
  %j.first = mul i64 %j.back, %size
  %j.next = add i64 %j.first, %size
  %j.last = call i64 @llvm.smin.i64(i64 %j.next, i64 %total)
  %j.fine = call i1 @make(ptr %block, i64 %j.first, i64 %j.last)
  br i1 %j.fine, label %make.end, label %odd
odd:
  store atomic i64 1, ptr {odd} monotonic, align 8
  br label %make.end
make.end:
  %j.done = atomicrmw add ptr {made}, i64 1 release
  br label %make
{self._rest_until("finish", "make", made, "done")}
done:
  %told.odd = load atomic i64, ptr {odd} monotonic, align 8
  %all.fine = icmp eq i64 %told.odd, 0
  %before = icmp ne i64 {asked}, 0
  %told.fine = or i1 %all.fine, %before
  ret i1 %told.fine""".splitlines()
        return function

    @staticmethod
    def _rest_until(name: str, before: str, counter: str, then: str) -> str:
        """Return the block ``name``, entered from ``before``: wait until all parts are counted, then go on."""
        return f"""{name}:
  %{name}.turns = phi i64 [ 0, %{before} ], [ %{name}.next, %{name}.on ]
  %{name}.count = load atomic i64, ptr {counter} acquire, align 8
  %{name}.over = icmp sge i64 %{name}.count, %parts
  br i1 %{name}.over, label %{then}, label %{name}.on
{name}.on:
  %{name}.next = add i64 %{name}.turns, 1
  call void @rest(i64 %{name}.turns)
  br label %{name}"""

    def _word(self, function: OldFunction, pointer: str, k: int, kind: str) -> str:
        """Return word ``k`` of a description."""
        return function.code.load(f"load {kind}, ptr {function.place(pointer, k, 'i64')}")

    @property
    def align(self) -> int:
        return 8 if self.kind == "double" else 4

    def _load(self, code: Code, lanes: int, pointer: str, index: str) -> Value:
        at = code.raw(f"getelementptr {self.kind}, ptr {pointer}, i64 {index}")
        return Value(code.load(f"load {of_type(self.kind, lanes)}, ptr {at}, align {self.align}"), self.kind, lanes)

    def _strips(
        self, code: Code, unroll: int, bodies: Sequence[Callable[[int, str, Value], Value]], choice: str = "0"
    ) -> Value:
        """Write a loop over begin … end in vectors, then element by element; it goes on from the block ``head``.

        body(lanes, index, flag) returns the flag that it passes on; at the end it says whether any lane raised it.
        choice: which body the vectors take, as i32; single elements take the first.
        """
        lanes = self.lanes
        no = Value("false", BOOL, 1, False)
        span = code.raw("sub i64 %end, %begin")
        whole = code.raw(f"mul i64 {code.raw(f'sdiv i64 {span}, {unroll * lanes}')}, {unroll * lanes}")
        last = code.raw(f"add i64 %begin, {whole}")
        raised = code.spread(no, lanes)
        others = " ".join(f"i32 {k}, label %strip{k}" for k in range(1, len(bodies)))
        code.line(f"switch i32 {choice}, label %strip0 [ {others} ]")
        flags = []
        for k, body in enumerate(bodies):
            code.block(f"strip{k}")
            at, flag = Phi(code, "i64", 1), Phi(code, BOOL, lanes)
            flags.append((flag.value, f"strip{k}"))
            on = code.load(f"icmp slt i64 {at.value.text}, {last}")
            code.line(f"br i1 {on}, label %vectors{k}, label %rest")
            code.block(f"vectors{k}")
            after = flag.value
            for u in range(unroll):
                after = body(lanes, code.raw(f"add i64 {at.value.text}, {u * lanes}"), after)
            following = Value(code.raw(f"add i64 {at.value.text}, {unroll * lanes}"), "i64")
            code.line(f"br label %strip{k}")
            at.close((Value("%begin", "i64"), "head"), (following, f"vectors{k}"))
            flag.close((raised, "head"), (after, f"vectors{k}"))
        code.block("rest")
        flag = Phi(code, BOOL, lanes)
        flag.close(*flags)
        code.declared.add(f"declare i1 @llvm.vector.reduce.or.v{lanes}i1(<{lanes} x i1>)")
        some = code.raw(f"call i1 @llvm.vector.reduce.or.v{lanes}i1(<{lanes} x i1> {flag.value.text})")
        code.line("br label %single")
        code.block("single")
        one, told = Phi(code, "i64", 1), Phi(code, BOOL, 1)
        code.line(f"%left = icmp slt i64 {one.value.text}, %end")
        code.line("br i1 %left, label %element, label %finished")
        code.block("element")
        end = bodies[0](1, one.value.text, told.value)
        following = Value(code.raw(f"add i64 {one.value.text}, 1"), "i64")
        code.line("br label %single")
        one.close((Value(last, "i64"), "rest"), (following, "element"))
        told.close((Value(some, BOOL), "rest"), (end, "element"))
        code.block("finished")
        return told.value


def _no_array(i: int) -> Any:
    raise Unsuitable("an array from outside")


# -- helping threads --------------------------------------------------------------------------------------------------

LOOKOUT = 50_000  # looks, some 50 µs in all, before a helping thread sleeps
_ASLEEP, _IDLE, _CALLED, _BUSY = range(4)  # what a helper is, in the first word of its mail; then the task


def _rest() -> OldFunction:
    """rest(i): in a loop that waits, let another thread have this CPU now and then: perhaps the one that is awaited."""
    function = OldFunction("rest", "void", [("i64", "i")], apart=False)
    if sys.platform == "win32":
        function.code.line("ret void")
        return function
    function.code.declared.add("declare i32 @sched_yield()")
    function.code.lines += """  %part = and i64 %i, 4095
  %now = icmp eq i64 %part, 4095
  br i1 %now, label %yield, label %done
yield:
  %told = call i32 @sched_yield()
  br label %done
done:
  ret void""".splitlines()
    return function


def _serving() -> OldFunction:
    """serve(mail): do the tasks that come, until none has come for a while."""
    function = OldFunction("serve", "void", ["mail"], apart=False)
    code = function.code
    code.block("entry")
    words = [function.place("%mail", k, "i64") for k in range(7)]
    task = [f"  %w{k} = load {'i64' if k > 3 else 'ptr'}, ptr {words[k]}" for k in range(1, 7)]
    code.lines += f"""  br label %look
look:
  %i = phi i64 [ 0, %entry ], [ %next, %idle ], [ 0, %sleep ], [ 0, %work ], [ 0, %take ]
  %state = load atomic i64, ptr %mail acquire, align 8
  %called = icmp eq i64 %state, {_CALLED}
  br i1 %called, label %take, label %idle
idle:
  %next = add i64 %i, 1
  %on = icmp slt i64 %next, {LOOKOUT}
  br i1 %on, label %look, label %sleep
sleep:
  %slept = cmpxchg ptr %mail, i64 {_IDLE}, i64 {_ASLEEP} acq_rel monotonic
  %asleep = extractvalue {{ i64, i1 }} %slept, 1
  br i1 %asleep, label %done, label %look
take:
  %taken = cmpxchg ptr %mail, i64 {_CALLED}, i64 {_BUSY} acq_rel monotonic
  %mine = extractvalue {{ i64, i1 }} %taken, 1
  br i1 %mine, label %work, label %look
work:
{chr(10).join(task)}
  %fine = call i1 %w1(ptr %w2, ptr %w3, i64 %w4, i64 %w5, i64 %w6)
  store atomic i64 {_IDLE}, ptr %mail release, align 8
  br label %look
done:
  ret void""".splitlines()
    return function


def _calling() -> list[OldFunction]:
    """call(mail) tells that there is a task, and returns what the helper was; dismiss(mail) waits until it has left."""
    call = OldFunction("call", "i64", ["mail"], apart=False)
    call.code.lines += f"""  %was = atomicrmw xchg ptr %mail, i64 {_CALLED} acq_rel
  ret i64 %was""".splitlines()
    dismiss = OldFunction("dismiss", "void", ["mail"], apart=False)
    dismiss.code.lines += f"""entry:
  %back = cmpxchg ptr %mail, i64 {_CALLED}, i64 {_IDLE} acq_rel acquire
  %never = extractvalue {{ i64, i1 }} %back, 1
  br i1 %never, label %gone, label %wait
wait:
  %waits = phi i64 [ 0, %entry ], [ %waits.next, %on ]
  %state = load atomic i64, ptr %mail acquire, align 8
  %busy = icmp eq i64 %state, {_BUSY}
  br i1 %busy, label %on, label %gone
on:
  %waits.next = add i64 %waits, 1
  call void @rest(i64 %waits)
  br label %wait
gone:
  ret void""".splitlines()
    return [call, dismiss]


class _Helper:
    """A thread that shares the updates of whoever holds `_one_at_a_time`."""

    def __init__(self) -> None:
        self.library = library.load(b"helpers", lambda: module(_rest(), _serving(), *_calling()))
        serve, self._call, self._dismiss = (
            ctypes.CFUNCTYPE(result, ctypes.c_void_p)(self.library.address(name))
            for name, result in (("serve", None), ("call", ctypes.c_int64), ("dismiss", None))
        )
        mail = np.zeros(7, np.int64)
        self._place, self._words, self._wake = address(mail), mail.data, threading.Lock()
        self._wake.acquire()

        def help() -> None:
            while True:
                self._wake.acquire()
                serve(self._place)

        threading.Thread(target=help, name="koubai", daemon=True).start()

    def call(self, share: int, task: Sequence[int], kept: object) -> None:
        """Have the task shared. kept: what must live as long as the helper may read it, whatever interrupts us."""
        self._kept = kept
        words = self._words
        words[1] = share
        words[2], words[3], words[4], words[5], words[6] = task
        if self._call(self._place) == _ASLEEP:
            self._wake.release()

    def dismiss(self) -> None:
        """Return when the helper reads the task no more: it may not even have begun."""
        self._dismiss(self._place)


_team: list[_Helper] = []
_one_at_a_time = threading.Lock()


def _helpers(count: int) -> list[_Helper]:
    while len(_team) < count:
        _team.append(_Helper())
    return _team[:count]


def _forget_threads() -> None:
    global _one_at_a_time
    _team.clear()  # a forked child has none of its parent's threads
    _one_at_a_time = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
