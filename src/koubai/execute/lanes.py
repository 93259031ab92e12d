"""Many descents at once: the loop of one, with a start in each lane of a vector register.

Blocks of `LANES` starts take `CHUNK` steps at a time without a question between them; what tells whether a question
would have been answered otherwise (f or the gradient not finite, f grown beyond the limit) is gathered on the way, and
where it is, the chunk is done again with every question asked at every step. So a lane has the bits that it would have
had alone, and its neighbours cost it nothing.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from koubai.execute import library
from koubai.execute.descents import DescentGraphs
from koubai.execute.elements import Unsuitable, filled, split
from koubai.execute.llvm import BOOL, KINDS, TAGS, Phi, Value, of_type
from koubai.execute.native import (
    Captured,
    Function,
    added,
    expand,
    fingerprint,
    frontier,
    module,
)
from koubai.graph.trace import Graph

__all__ = ["CONVERGED", "DIVERGED", "LANES", "MAX_STEPS", "NONFINITE", "REFUSED", "Lanes"]

LANES = 16  # starts a block: two registers of eight doubles hide each other's latency, and all fit
CHUNK = 64  # steps between two looks, where no tolerance is asked at each
RUNNING, CONVERGED, DIVERGED, NONFINITE, MAX_STEPS, REFUSED = range(6)


def _keeps_nonfinite(update: Graph) -> bool:
    """Is an x that is not finite never finite again? So it is where the new x is the old one, scaled, plus a step."""
    nodes = update.nodes
    after, x = nodes[update.outputs[0]], update.inputs[0]
    for j in after.inputs if after.op.name in ("add", "subtract") else ():
        if j == x or (nodes[j].op.name == "multiply" and x in nodes[j].inputs):
            return True
    return False


class Lanes:
    """The code for many descents. ``run`` works on a range of blocks, so that threads can share them.

    Arrays are (n, starts) with the starts side by side. rates: a learning rate for each start, instead of one a step.
    """

    def __init__(self, graphs: DescentGraphs, begin: Graph, gtol: bool, rates: bool) -> None:
        kind = KINDS.get(graphs.dtype, "")
        if kind not in TAGS:
            raise Unsuitable(f"parameters of {graphs.dtype}")
        self.graphs, self.dtype = graphs, graphs.dtype
        self.captured = Captured(graphs.value)
        self.varying = [True, True, False, False, False, rates, True, *[True] * len(graphs.states)]
        self.uniform = [] if rates else frontier(graphs.update, self.varying)
        self.kinds = [KINDS.get(graphs.update.nodes[i].dtype, "double") for i in self.uniform]
        key = b"lanes" + fingerprint(graphs.value, graphs.update, graphs.measure, begin)
        key += repr((gtol, rates, graphs.states)).encode()

        def make() -> str:
            functions = [_Writer(graphs, begin, kind, self, gtol, rates).text(), self._prepare()]
            return module(*functions)

        self.library = library.load(key, make)
        pointer, whole = ctypes.c_void_p, ctypes.c_int64
        self._run = ctypes.CFUNCTYPE(None, *[pointer] * 10, whole, whole, whole)(self.library.address("lanes"))
        self._table = ctypes.CFUNCTYPE(None, pointer, pointer, whole)(self.library.address("prepare"))

    def _prepare(self) -> Function:
        """Write the function that computes, for each step, what all starts have in common."""
        update = self.graphs.update
        function = Function("prepare", "void", ["lr", "table", ("i64", "steps")])
        code = function.code
        code.block("entry")
        code.line("br label %head")
        code.block("head")
        code.line("%i = phi i64 [ 0, %entry ], [ %next, %body ]")
        code.line("%on = icmp slt i64 %i, %steps")
        code.line("br i1 %on, label %body, label %exit")
        code.block("body")
        code.line("%next = add i64 %i, 1")
        lr = Value(code.load(f"load double, ptr {code.raw('getelementptr double, ptr %lr, i64 %i')}"), "double")
        step = Value(code.raw("sitofp i64 %next to double"), "double")
        row = code.raw(f"getelementptr double, ptr %table, i64 {code.raw(f'mul i64 %i, {len(self.uniform) + 1}')}")
        function.store(lr, row, 0)
        if self.uniform:
            part = Graph.pruned(update.nodes, update.inputs, self.uniform)
            nothing = [np.broadcast_to(filled((), [code.number(0.0, "double")]), update.nodes[i].shape)
                       for i in update.inputs]  # fmt: skip
            nothing[4], nothing[5] = filled((), [step]), filled((), [lr])
            results, _ = expand(code, part, nothing, lambda i: None, self.varying)
            for k, result in enumerate(results):
                function.store(code.cast(result[()], "double"), row, 1 + k)
        code.line("br label %head")
        code.block("exit")
        code.line("ret void")
        return function

    def table(self, lr: Any) -> Any:
        """Return what all starts have in common in each step: the rate, and what the update computes of it and t."""
        table = np.empty((len(lr), len(self.uniform) + 1))
        self._table(lr.ctypes.data, table.ctypes.data, len(lr))
        return table

    def run(self, memory: Sequence[Any], count: int, first: int, last: int) -> None:
        """Descend from the starts first … last - 1 of ``count``, all three multiples of LANES.

        memory: x, f, the norm, steps, status, low, high, numbers (gtol, limit of growth, steps), the table or the
        rates, and the arrays that f reads.
        """
        self._run(*[part.ctypes.data for part in memory], count, first, last)


class _Writer:
    """Writes the function ``lanes``. A *bundle* is what goes round: x, g, the state, f, the norm, and the flags."""

    def __init__(self, graphs: DescentGraphs, begin: Graph, kind: str, lanes: Lanes, gtol: bool, rates: bool) -> None:
        names = ["x", "fun", "norm", "steps", "status", "low", "high", "numbers", "table", "captured"]
        self.function = Function("lanes", "void", [*names, *(("i64", name) for name in ("count", "first", "last"))])
        self.code = self.function.code
        self.graphs, self.begin, self.kind, self.lanes, self.gtol, self.rates = graphs, begin, kind, lanes, gtol, rates
        self.n, self.states = graphs.size, sum(math.prod(shape) for shape in graphs.states)
        self.shapes = [graphs.value.nodes[i].shape for i in graphs.value.inputs]
        self.row = len(lanes.uniform) + 1

    # -- values in lanes ----------------------------------------------------------------------------------------------

    def wide(self, v: Value) -> Value:
        return self.code.spread(self.code.cast(v, self.kind), LANES)

    def flag(self, on: bool) -> Value:
        return Value(f"splat (i1 {str(on).lower()})", BOOL, LANES)

    def whole(self, k: int) -> Value:
        return Value(f"splat (i32 {k})", "i32", LANES)

    def both(self, a: Value, b: Value) -> Value:
        return self.code.binary("and", a, b)

    def no(self, a: Value) -> Value:
        return self.code.binary("xor", a, self.flag(True))

    def any(self, a: Value) -> str:
        self.code.declared.add(f"declare i1 @llvm.vector.reduce.or.v{LANES}i1(<{LANES} x i1>)")
        return self.code.raw(f"call i1 @llvm.vector.reduce.or.v{LANES}i1(<{LANES} x i1> {a.text})")

    def finite(self, values: Sequence[Value]) -> Value:
        code = self.code
        found = [code.compare("olt", code.intrinsic("fabs", v), code.number(math.inf, v.kind)) for v in values]
        return code.all(found)

    def at(self, name: str, k: int = 0) -> str:
        """Return the address of the block's lanes in an array, or in row ``k`` of a matrix."""
        code, of = self.code, "i32" if name in ("steps", "status") else self.kind
        place = "%b" if k == 0 else code.raw(f"add i64 %b, {code.raw(f'mul i64 %count, {k}')}")
        return code.raw(f"getelementptr {of}, ptr %{name}, i64 {place}")

    def load(self, name: str, k: int = 0) -> Value:
        of, size = of_type(self.kind, LANES), 8 if self.kind == "double" else 4
        return Value(self.code.load(f"load {of}, ptr {self.at(name, k)}, align {size}"), self.kind, LANES)

    def store(self, v: Value, name: str, k: int = 0) -> None:
        size = 8 if v.kind == "double" else 4
        self.code.line(f"store {of_type(v.kind, LANES)} {v.text}, ptr {self.at(name, k)}, align {size}")

    # -- the three graphs ---------------------------------------------------------------------------------------------

    def value(self, x: Sequence[Value]) -> tuple[Value, list[Value], Value]:
        """Return f, the gradient, and whether the path is the one that was traced."""
        results, asked = expand(self.code, self.graphs.value, split(x, self.shapes), self.held.__getitem__)
        g = [self.wide(v) for part in results[1:] for v in part.ravel()]
        same = self.code.spread(self.code.all(asked), LANES) if asked else self.flag(True)
        return self.wide(results[0][()]), g, same

    def measure(self, x: Sequence[Value], g: Sequence[Value]) -> Value:
        given = [filled((self.n,), x), filled((self.n,), g), self.low, self.high]
        return self.wide(expand(self.code, self.graphs.measure, given, self.held.__getitem__)[0][0][()])

    def update(
        self, t: str, x: Sequence[Value], g: Sequence[Value], state: Sequence[Value], f: Value
    ) -> tuple[list[Value], list[Value]]:
        code = self.code
        known: dict[int, Any] = {}
        after = Value(code.raw(f"sitofp i64 {code.raw(f'add i64 {t}, 1')} to double"), "double")
        if self.rates:
            lr = self.rate
        else:
            row = code.raw(f"getelementptr double, ptr %table, i64 {code.raw(f'mul i64 {t}, {self.row}')}")
            lr = self.function.load(row, 0, "double")
            for k, (i, kind) in enumerate(zip(self.lanes.uniform, self.lanes.kinds, strict=True)):
                known[i] = filled((), [code.cast(self.function.load(row, 1 + k, "double"), kind)])
        given = [filled((self.n,), x), filled((self.n,), g), self.low, self.high]
        given += [filled((), [v]) for v in (after, lr, f)]
        results, _ = expand(
            code, self.graphs.update, [*given, *split(state, self.graphs.states)], self.held.__getitem__,
            self.lanes.varying, known,
        )  # fmt: skip
        return [self.wide(v) for v in results[0]], [self.wide(v) for part in results[2:] for v in part.ravel()]

    def grown(self, f: Value, x: Sequence[Value], f_limit: Value, x_limit: Value) -> Value:
        code = self.code
        beyond = code.compare("ogt", f, f_limit)
        size = added(code, [code.binary("fmul", v, v) for v in x], True)
        return code.binary("or", beyond, code.compare("ogt", size, x_limit))

    # -- the loops ----------------------------------------------------------------------------------------------------

    def text(self) -> Function:
        code, n = self.code, self.n
        code.block("entry")
        self.low, self.high = (self.function.elements(f"%{name}", 0, (n,), self.kind) for name in ("low", "high"))
        read = self.lanes.captured.reader(self.function, "%captured")
        self.held = {i: read(i) for i in self.lanes.captured.nodes}
        self.tolerance = self.wide(self.function.load("%numbers", 0, "double"))
        growth = self.function.load("%numbers", 1, "double")
        limit = code.raw(f"fptosi double {self.function.load('%numbers', 2, 'double').text} to i64")
        code.line("br label %blocks")
        code.block("blocks")
        code.line("%b = phi i64 [ %first, %entry ], [ %b.next, %stored ]")
        code.line("%more = icmp slt i64 %b, %last")
        code.line("br i1 %more, label %begin, label %exit")

        code.block("begin")
        x = [self.load("x", k) for k in range(n)]
        if self.rates:
            self.rate = code.cast(self.load("table"), "double")
        states, _ = expand(code, self.begin, [filled((n,), x)], self.held.__getitem__)
        state = [self.wide(v) for part in states for v in part.ravel()]
        f, g, same = self.value(x)
        norm = self.measure(x, g)
        good = self.finite([f, *g])
        met = code.compare("ole", norm, self.tolerance)
        status = code.select(met, self.whole(CONVERGED), self.whole(RUNNING))
        status = code.select(good, status, self.whole(NONFINITE))
        status = code.select(same, status, self.whole(REFUSED))
        active = self.both(self.both(good, same), self.no(met))
        one, far = code.number(1.0, self.kind), self.wide(growth)
        scale = code.intrinsic("fabs", f)
        scale = code.select(code.compare("ogt", scale, one), scale, one)
        self.f_limit = code.binary("fadd", f, code.binary("fmul", far, scale))
        size = added(code, [code.binary("fmul", v, v) for v in x], True)
        size = code.select(code.compare("ogt", size, one), size, one)
        self.x_limit = code.binary("fmul", code.binary("fmul", far, far), size)
        code.line("br label %chunks")

        code.block("chunks")
        bundle = [*x, *g, *state, f, norm, active, self.whole(0), status]
        phis = [Phi(code, v.kind, LANES) for v in bundle]
        at = Phi(code, "i64", 1)
        held = [phi.value for phi in phis]
        t = at.value.text
        code.line(f"%unfinished = icmp slt i64 {t}, {limit}")
        code.line(f"%alive = and i1 %unfinished, {self.any(held[-3])}")
        code.line("br i1 %alive, label %chunk, label %stored")
        code.block("chunk")
        wanted = code.raw(f"add i64 {t}, {CHUNK}")
        end = code.raw(f"select i1 {code.raw(f'icmp slt i64 {wanted}, {limit}')}, i64 {wanted}, i64 {limit}")
        ways = []
        if not self.gtol:
            ways.append(self._unasked(held, t, end))
        else:
            code.line("br label %careful")
            code.block("careful")
        ways.append(self._asked(held, t, end, "careful"))
        for k, phi in enumerate(phis):
            phi.close((bundle[k], "begin"), *((after[k], label) for after, label in ways))
        at.close((Value("0", "i64"), "begin"), *((Value(end, "i64"), label) for _, label in ways))

        code.block("stored")
        running = Value(code.raw(f"icmp eq {of_type('i32', LANES)} {held[-1].text}, zeroinitializer"), BOOL, LANES)
        status = code.select(running, self.whole(MAX_STEPS), held[-1])
        for k in range(n):
            self.store(held[k], "x", k)
        self.store(held[-5], "fun")
        self.store(held[-4], "norm")
        self.store(held[-2], "steps")
        self.store(status, "status")
        code.line(f"%b.next = add i64 %b, {LANES}")
        code.line("br label %blocks")
        code.block("exit")
        code.line("ret void")
        return self.function

    def _parts(self, bundle: Sequence[Value]) -> tuple[list[Value], list[Value], list[Value], Value]:
        n, m = self.n, self.states
        return list(bundle[:n]), list(bundle[n : 2 * n]), list(bundle[2 * n : 2 * n + m]), bundle[2 * n + m]

    def _unasked(self, held: Sequence[Value], t: str, end: str) -> tuple[list[Value], str]:
        """Write a chunk without questions. Where it is not to be trusted, it goes on at the block ``careful``."""
        code, count = self.code, 2 * self.n + self.states + 1
        code.line("br label %fast")
        code.block("fast")
        phis = [Phi(code, v.kind, LANES) for v in held[:count]]
        # A gradient that is not finite shows in x from then on, where x keeps it; else it has to be looked at here.
        sums_g = not _keeps_nonfinite(self.graphs.update)
        total, level, same = Phi(code, self.kind, LANES), Phi(code, self.kind, LANES), Phi(code, BOOL, LANES)
        i = Phi(code, "i64", 1)
        code.line("br label %fast.body")
        code.block("fast.body")
        x, g, state, f = self._parts([phi.value for phi in phis])
        new_x, new_state = self.update(i.value.text, x, g, state, f)
        new_f, new_g, asked = self.value(new_x)
        sizes = code.binary("fadd", level.value, code.intrinsic("fabs", new_f))
        sums = code.binary("fadd", total.value, added(code, new_g, False)) if sums_g else total.value
        path = self.both(same.value, asked)
        done = [*new_x, *new_g, *new_state, new_f]
        following = code.raw(f"add i64 {i.value.text}, 1")
        code.line(f"%fast.on = icmp slt i64 {following}, {end}")
        code.line("br i1 %fast.on, label %fast, label %fast.end")
        nought = Value("zeroinitializer", self.kind, LANES)
        for phi, before, after in zip(phis, held, done, strict=False):
            phi.close((before, "chunk"), (after, "fast.body"))
        total.close((nought, "chunk"), (sums, "fast.body"))
        level.close((nought, "chunk"), (sizes, "fast.body"))
        same.close((self.flag(True), "chunk"), (path, "fast.body"))
        i.close((Value(t, "i64"), "chunk"), (Value(following, "i64"), "fast.body"))
        code.block("fast.end")
        trusted = self.both(
            self.both(self.finite([sums, *new_x, *new_g]), path), code.compare("ole", sizes, self.f_limit)
        )
        trusted = self.both(trusted, self.no(self.grown(new_f, new_x, self.f_limit, self.x_limit)))
        active = held[-3]
        doubtful = self.any(self.both(active, self.no(trusted)))
        code.line(f"br i1 {doubtful}, label %careful, label %fast.kept")
        code.block("fast.kept")
        made = Value(code.raw(f"trunc i64 {code.raw(f'sub i64 {end}, {t}')} to i32"), "i32")
        steps = Value(
            code.raw(f"add {of_type('i32', LANES)} {held[-2].text}, {code.spread(made, LANES).text}"), "i32", LANES
        )
        kept = [code.select(active, after, before) for before, after in zip(held, done, strict=False)]
        norm = self.measure(kept[: self.n], kept[self.n : 2 * self.n])
        result = [*kept, norm, active, code.select(active, steps, held[-2]), held[-1]]
        code.line("br label %chunks")
        code.block("careful")
        return result, "fast.kept"

    def _asked(self, held: Sequence[Value], t: str, end: str, before: str) -> tuple[list[Value], str]:
        """Write a chunk with every question at every step."""
        code = self.code
        code.line("br label %slow")
        code.block("slow")
        phis = [Phi(code, v.kind, LANES) for v in held]
        i = Phi(code, "i64", 1)
        bundle = [phi.value for phi in phis]
        code.line("br label %slow.body")
        code.block("slow.body")
        x, g, state, f = self._parts(bundle)
        norm, active, steps, status = bundle[-4:]
        new_x, new_state = self.update(i.value.text, x, g, state, f)
        new_f, new_g, path = self.value(new_x)
        new_norm = self.measure(new_x, new_g)
        good = self.finite([new_f, *new_g, *new_x])
        taken = self.both(active, self.both(good, path))
        met = code.compare("ole", new_norm, self.tolerance)
        grown = self.grown(new_f, new_x, self.f_limit, self.x_limit)
        kept = [
            code.select(taken, after, old)
            for after, old in zip((*new_x, *new_g, *new_state, new_f, new_norm), (*x, *g, *state, f, norm), strict=True)
        ]
        counted = Value(code.raw(f"zext {of_type(BOOL, LANES)} {taken.text} to {of_type('i32', LANES)}"), "i32", LANES)
        more = Value(code.raw(f"add {of_type('i32', LANES)} {steps.text}, {counted.text}"), "i32", LANES)
        bad = code.select(path, self.whole(NONFINITE), self.whole(REFUSED))
        why = code.select(grown, self.whole(DIVERGED), self.whole(RUNNING))
        why = code.select(met, self.whole(CONVERGED), why)
        why = code.select(taken, why, bad)
        after = code.select(active, why, status)
        going = self.both(taken, self.no(code.binary("or", met, grown)))
        following = code.raw(f"add i64 {i.value.text}, 1")
        code.line(f"%slow.on = icmp slt i64 {following}, {end}")
        code.line("br i1 %slow.on, label %slow, label %slow.end")
        done = [*kept, going, more, after]
        for phi, first, last in zip(phis, held, done, strict=True):
            phi.close((first, before), (last, "slow.body"))
        i.close((Value(t, "i64"), before), (Value(following, "i64"), "slow.body"))
        code.block("slow.end")
        code.line("br label %chunks")
        return done, "slow.end"
