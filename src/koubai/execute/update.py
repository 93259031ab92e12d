"""One update of plain arrays as one pass over memory: every elementwise rule, fused from the text that NumPy runs.

The graph is traced over vectors of one element. What has their shape is computed for each element; what is a single
number (the powers of the step, a state that all elements share) once before. All gradients are looked at before the
first parameter is written, so that one that is not finite leaves everything as it was.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from koubai.execute import library
from koubai.execute.descents import address
from koubai.execute.elements import Unsuitable, filled
from koubai.execute.llvm import BOOL, KINDS, TAGS, Code, Phi, Value, of_type
from koubai.execute.native import Function, expand, fingerprint, frontier, module
from koubai.graph.trace import LEAVES, Graph

__all__ = ["PIECE", "Update"]

THREADED = 2**18  # numbers from which on a second thread is worth its hand-over
REGISTER = 64  # bytes


PIECE = 4  # numbers that describe one array: the addresses of x and g, where its part of the state begins, its size


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
        p, d, w = ctypes.c_void_p, ctypes.c_double, ctypes.c_int64

        def bound(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
            return ctypes.CFUNCTYPE(result, *arguments)(loaded.address(name))

        self.whole = bound("whole", ctypes.c_bool, p, w, p, p, p, d, d, d)
        self._prepare = bound("prepare", None, p, p, d, d, d)
        self._share = bound("share", ctypes.c_bool, p, w, p, p, p, w, w, w)

    # -- running ------------------------------------------------------------------------------------------------------

    def memory(self) -> Any:
        """Return a table for `run`; a caller keeps one of its own."""
        return np.empty(self.table + 3)

    def run(
        self, pieces: Any, total: int, states: int, shared: Any, table: Any, t: float, lr: float, fun: float
    ) -> bool:
        """Update every piece. False: a gradient is not finite, and nothing was done.

        pieces: (arrays, PIECE) integers; total: their sizes together. states: the address of the states' pointers.
        shared: the states that are single numbers, in one vector.
        """
        addresses = address(pieces), len(pieces), states, address(shared), address(table)
        threads = len(os.sched_getaffinity(0)) if total >= THREADED else 1
        if threads == 1 or not _one_at_a_time.acquire(blocking=False):
            return self.whole(*addresses, t, lr, fun)  # type: ignore[no-any-return]
        try:
            self._prepare(address(shared), address(table), t, lr, fun)
            meeting = np.zeros(2, np.int64)  # how many have looked at their gradients, and has one found a bad one?
            given = (*addresses[:3], address(table), address(meeting))
            share = -(-total // (threads * 1024)) * 1024
            ranges = [(first, min(first + share, total)) for first in range(0, total, share)]
            tasks = [_threads().submit(self._share, *given, *part, len(ranges)) for part in ranges[1:]]
            done: bool = self._share(*given, *ranges[0], len(ranges))
            for task in tasks:
                task.result()
        finally:
            _one_at_a_time.release()
        if done:
            count = sum(self.shared)
            shared[:count] = table[len(self.uniform) : len(self.uniform) + count]
        return done

    # -- the text -----------------------------------------------------------------------------------------------------

    def _text(self) -> str:
        return module(
            self._write_prepare(), self._write_finite(), self._write_step(), self._write_whole(), self._write_share()
        )

    def _write_prepare(self) -> Function:
        """prepare(shared, table, t, lr, fun): the numbers that all elements need, the new shared states, t, lr, fun."""
        graph = self.graph
        function = Function(
            "prepare", "void", ["shared", "table", ("double", "t"), ("double", "lr"), ("double", "fun")]
        )
        code = function.code
        code.block("entry")
        new = [i for i, shared in zip(graph.outputs[1:], self.shared, strict=True) if shared]
        part = Graph(graph.nodes, graph.inputs, [*self.uniform, *new])
        scalars = [Value(f"%{name}", "double") for name in ("t", "lr", "fun")]
        nothing = filled((1,), [code.number(0.0, self.kind)])
        states: list[Any] = []
        for shared in self.shared:
            place = sum(s is not nothing for s in states)
            states.append(filled((), [function.load("%shared", place, self.kind)]) if shared else nothing)
        given = [nothing, nothing, *(filled((), [v]) for v in scalars), *states]
        results, _ = expand(code, part, given, _no_array, self.varying)
        for k, v in enumerate((*(result[()] for result in results), *scalars)):
            function.store(code.cast(v, "double"), "%table", k)
        code.line("ret void")
        return function

    def _write_finite(self) -> Function:
        """finite(g, begin, end): are these all finite?"""
        function = Function("finite", "i1", ["g", ("i64", "begin"), ("i64", "end")])
        code = function.code
        code.block("head")

        def body(lanes: int, index: str, bad: Value) -> Value:
            size = code.intrinsic("fabs", self._load(code, lanes, "%g", index))
            return code.binary("or", bad, code.compare("uge", size, code.number(np.inf, self.kind)))

        bad = self._strips(code, 4, body)
        code.line(f"ret i1 {code.binary('xor', bad, Value('true', BOOL, 1, True)).text}")
        return function

    def _write_step(self) -> Function:
        """step(piece, states, table, begin, end): the new x and states of these elements of one array."""
        graph, kind = self.graph, self.kind
        function = Function("step", "void", ["piece", "states", "table", ("i64", "begin"), ("i64", "end")], apart=False)
        code = function.code
        code.block("head")
        x, g = (code.load(f"load ptr, ptr {function.place('%piece', k, 'i64')}") for k in (0, 1))
        start = code.load(f"load i64, ptr {function.place('%piece', 2, 'i64')}")
        pointers = []
        for k, shared in enumerate(self.shared):
            base = code.load(f"load ptr, ptr {function.place('%states', k, 'ptr')}")
            pointers.append(base if shared else code.raw(f"getelementptr {kind}, ptr {base}, i64 {start}"))
        table = [function.load("%table", k, "double") for k in range(self.table + 3)]
        known = {i: filled((), [code.cast(v, k)]) for i, v, k in zip(self.uniform, table, self.kinds, strict=False)}
        alike = [function.load(p, 0, kind) if shared else None for p, shared in zip(pointers, self.shared, strict=True)]
        kept = [i for i, shared in zip(graph.outputs[1:], self.shared, strict=True) if not shared]
        part = Graph(graph.nodes, graph.inputs, [graph.outputs[0], *kept])
        targets = [x, *(p for p, shared in zip(pointers, self.shared, strict=True) if not shared)]

        def body(lanes: int, index: str, bad: Value) -> Value:
            vectors = [filled((1,), [self._load(code, lanes, p, index)]) for p in (x, g)]
            states = [
                filled((), [one]) if one is not None else filled((1,), [self._load(code, lanes, p, index)])
                for one, p in zip(alike, pointers, strict=True)
            ]
            scalars = [filled((), [v]) for v in table[self.table :]]
            results, _ = expand(code, part, [*vectors, *scalars, *states], _no_array, self.varying, known)
            for pointer, result in zip(targets, results, strict=True):
                v = code.spread(code.cast(result.ravel()[0], kind), lanes)
                at = code.raw(f"getelementptr {kind}, ptr {pointer}, i64 {index}")
                code.line(f"store {of_type(kind, lanes)} {v.text}, ptr {at}, align {self.align}")
            return bad

        self._strips(code, 1, body)
        code.line("ret void")
        return function

    def _write_whole(self) -> Function:
        """whole(pieces, count, states, shared, table, t, lr, fun): everything, where one thread does it."""
        scalars = [("double", name) for name in ("t", "lr", "fun")]
        pointers: list[str | tuple[str, str]] = ["pieces", ("i64", "count"), "states", "shared", "table"]
        function = Function("whole", "i1", [*pointers, *scalars], apart=False)
        code = function.code
        code.lines += f"""entry:
  br label %look
look:
  %i = phi i64 [ 0, %entry ], [ %i.next, %looked ]
  %looking = icmp slt i64 %i, %count
  br i1 %looking, label %one, label %ready
one:
  %p = getelementptr [{PIECE} x i64], ptr %pieces, i64 %i
  %gp = getelementptr i64, ptr %p, i64 1
  %g = load ptr, ptr %gp
  %np = getelementptr i64, ptr %p, i64 3
  %n = load i64, ptr %np
  %fine = call i1 @finite(ptr %g, i64 0, i64 %n)
  br i1 %fine, label %looked, label %refused
looked:
  %i.next = add i64 %i, 1
  br label %look
refused:
  ret i1 false
ready:
  call void @prepare(ptr %shared, ptr %table, double %t, double %lr, double %fun)
  br label %go
go:
  %j = phi i64 [ 0, %ready ], [ %j.next, %do ]
  %going = icmp slt i64 %j, %count
  br i1 %going, label %do, label %done
do:
  %q = getelementptr [{PIECE} x i64], ptr %pieces, i64 %j
  %mp = getelementptr i64, ptr %q, i64 3
  %m = load i64, ptr %mp
  call void @step(ptr %q, ptr %states, ptr %table, i64 0, i64 %m)
  %j.next = add i64 %j, 1
  br label %go""".splitlines()
        code.block("done")
        for k in range(sum(self.shared)):
            new = function.load("%table", len(self.uniform) + k, "double")
            function.store(code.cast(new, self.kind), "%shared", k)
        code.line("ret i1 true")
        return function

    def _write_share(self) -> Function:
        """share(pieces, count, states, table, meeting, first, last, parties): one thread's part of the update.

        first, last: of the elements of all arrays together. A thread that has looked at its gradients waits for the
        others, so that nobody writes before everybody has found all finite.
        """
        wide = [("i64", name) for name in ("first", "last", "parties")]
        pointers: list[str | tuple[str, str]] = ["pieces", ("i64", "count"), "states", "table", "meeting"]
        function = Function("share", "i1", [*pointers, *wide], apart=False)
        code = function.code
        code.declared |= {f"declare i64 @llvm.{name}.i64(i64, i64)" for name in ("smax", "smin")}

        def over(k: str, after: str, body: Sequence[str]) -> list[str]:
            """Loop over the arrays, with the part of each that is this thread's: %lo … %hi."""
            return f"""{k}.loop:
  %{k} = phi i64 [ 0, %{k}.begin ], [ %{k}.next, %{k}.end ]
  %{k}.on = icmp slt i64 %{k}, %count
  br i1 %{k}.on, label %{k}.one, label %{after}
{k}.one:
  %{k}.p = getelementptr [{PIECE} x i64], ptr %pieces, i64 %{k}
  %{k}.gp = getelementptr i64, ptr %{k}.p, i64 1
  %{k}.g = load ptr, ptr %{k}.gp
  %{k}.sp = getelementptr i64, ptr %{k}.p, i64 2
  %{k}.start = load i64, ptr %{k}.sp
  %{k}.np = getelementptr i64, ptr %{k}.p, i64 3
  %{k}.n = load i64, ptr %{k}.np
  %{k}.from = sub i64 %first, %{k}.start
  %{k}.to = sub i64 %last, %{k}.start
  %{k}.lo = call i64 @llvm.smax.i64(i64 %{k}.from, i64 0)
  %{k}.hi = call i64 @llvm.smin.i64(i64 %{k}.to, i64 %{k}.n)
  %{k}.mine = icmp slt i64 %{k}.lo, %{k}.hi
  br i1 %{k}.mine, label %{k}.body, label %{k}.end
{k}.body:
{chr(10).join(body)}
{k}.end:
  %{k}.next = add i64 %{k}, 1
  br label %{k}.loop""".splitlines()

        code.lines += ["i.begin:", "  br label %i.loop"]
        code.lines += over("i", "met", [
            "  %fine = call i1 @finite(ptr %i.g, i64 %i.lo, i64 %i.hi)",
            "  br i1 %fine, label %i.end, label %bad",
        ])  # fmt: skip
        code.lines += """bad:
  %flag = getelementptr i64, ptr %meeting, i64 1
  store atomic i64 1, ptr %flag release, align 8
  br label %i.end
met:
  %before = atomicrmw add ptr %meeting, i64 1 acq_rel
  br label %wait
wait:
  %here = load atomic i64, ptr %meeting acquire, align 8
  %all = icmp sge i64 %here, %parties
  br i1 %all, label %told, label %wait
told:
  %flags = getelementptr i64, ptr %meeting, i64 1
  %found = load atomic i64, ptr %flags acquire, align 8
  %good = icmp eq i64 %found, 0
  br i1 %good, label %j.begin, label %refused
refused:
  ret i1 false
j.begin:
  br label %j.loop""".splitlines()
        code.lines += over("j", "done", [
            "  call void @step(ptr %j.p, ptr %states, ptr %table, i64 %j.lo, i64 %j.hi)",
            "  br label %j.end",
        ])  # fmt: skip
        code.lines += ["done:", "  ret i1 true"]
        return function

    @property
    def align(self) -> int:
        return 8 if self.kind == "double" else 4

    def _load(self, code: Code, lanes: int, pointer: str, index: str) -> Value:
        at = code.raw(f"getelementptr {self.kind}, ptr {pointer}, i64 {index}")
        return Value(code.load(f"load {of_type(self.kind, lanes)}, ptr {at}, align {self.align}"), self.kind, lanes)

    def _strips(self, code: Code, unroll: int, body: Callable[[int, str, Value], Value]) -> Value:
        """Write a loop over begin … end in vectors, then element by element; it goes on from the block ``head``.

        body(lanes, index, flag) returns the flag that it passes on; at the end it says whether any lane raised it.
        """
        lanes = self.lanes
        no = Value("false", BOOL, 1, False)
        span = code.raw("sub i64 %end, %begin")
        whole = code.raw(f"mul i64 {code.raw(f'sdiv i64 {span}, {unroll * lanes}')}, {unroll * lanes}")
        last = code.raw(f"add i64 %begin, {whole}")
        code.line("br label %strip")
        code.block("strip")
        at, flag = Phi(code, "i64", 1), Phi(code, BOOL, lanes)
        code.line(f"%on = icmp slt i64 {at.value.text}, {last}")
        code.line("br i1 %on, label %vectors, label %rest")
        code.block("vectors")
        raised = flag.value
        for u in range(unroll):
            raised = body(lanes, code.raw(f"add i64 {at.value.text}, {u * lanes}"), raised)
        following = Value(code.raw(f"add i64 {at.value.text}, {unroll * lanes}"), "i64")
        code.line("br label %strip")
        at.close((Value("%begin", "i64"), "head"), (following, "vectors"))
        flag.close((code.spread(no, lanes), "head"), (raised, "vectors"))
        code.block("rest")
        code.declared.add(f"declare i1 @llvm.vector.reduce.or.v{lanes}i1(<{lanes} x i1>)")
        some = code.raw(f"call i1 @llvm.vector.reduce.or.v{lanes}i1(<{lanes} x i1> {flag.value.text})")
        code.line("br label %single")
        code.block("single")
        one, told = Phi(code, "i64", 1), Phi(code, BOOL, 1)
        code.line(f"%left = icmp slt i64 {one.value.text}, %end")
        code.line("br i1 %left, label %element, label %finished")
        code.block("element")
        after = body(1, one.value.text, told.value)
        following = Value(code.raw(f"add i64 {one.value.text}, 1"), "i64")
        code.line("br label %single")
        one.close((Value(last, "i64"), "rest"), (following, "element"))
        told.close((Value(some, BOOL), "rest"), (after, "element"))
        code.block("finished")
        return told.value


def _no_array(i: int) -> Any:
    raise Unsuitable("an array from outside")


_pool: ThreadPoolExecutor | None = None
_one_at_a_time = threading.Lock()  # threads that wait for one another must all have begun


def _threads() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="koubai")
    return _pool


def _forget_threads() -> None:
    global _pool, _one_at_a_time
    _pool, _one_at_a_time = None, threading.Lock()  # a forked child has none of its parent's threads


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
