"""Many descents at once: the loop of one, with a start in each lane of a vector register.

Blocks of `LANES` starts, or `FEWER`, take `CHUNK` steps at a time without a check between them. What a check would have
found (f, the gradient or x not finite, or grown beyond the limit) is accumulated on the way; if anything was wrong, the
chunk is done again with all checks at every step. So a lane has the bits that it would have had alone, and its
neighbours cost it nothing.

Often checking x is enough: bounds on the results of all operations give a safe interval. While x is in it, f stays
below the limit and the gradient finite, so f need not even be computed between two checks.

A plain descent soon stops moving to the last bit, or alternates between two neighbouring numbers. If a step depends on
x and the state alone (the rate is constant, and so is what the rule computes of t), a state that comes back bit for bit
comes back again after as many steps. So once `PERIOD` steps have brought all lanes of a block back to where they were,
all further whole periods are skipped, with the same bits.
"""

from __future__ import annotations

import ctypes
import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from koubai.execute import library
from koubai.execute.abi import DescentGraphs, address
from koubai.execute.elements import NotLowerable, filled, moved_inputs, split
from koubai.execute.ir import BOOL, TAGS, Function, Loop, Value
from koubai.execute.llvm import KINDS, has_code, module
from koubai.execute.lower import lowered
from koubai.execute.native import Captured, added, depends, fingerprint, loop_invariant, unroll
from koubai.graph.graph import CAPTURED, CONSTANT, INPUT, Graph, Node
from koubai.graph.ops import Range

__all__ = [
    "AWAY", "CONVERGED", "DIVERGED", "ELSEWHERE", "LANES", "MAX_STEPS", "NONFINITE", "REFUSED", "BatchedDescents",
    "safe_interval",
]  # fmt: skip

LANES = 32  # starts per block: four registers of eight doubles hide each other's latency …
FEWER = 16  # … and two of them if more values are carried than there are registers
REGISTER = 64  # bytes
CHUNK = 64  # steps between two checks, if no tolerance is checked at each
FAR = 900  # numbers beyond 2**±FAR are divided, not multiplied by a reciprocal
PERIOD = 8  # steps, a part of a chunk, after which lanes may be where they were: at rest, or in a cycle of 2, 4 or 8
RUNNING, CONVERGED, DIVERGED, NONFINITE, MAX_STEPS, REFUSED = range(6)
AWAY, ELSEWHERE = -2, -1  # a descent that has not come to rest, and one that has, but at no known point


# -- bounds on x ------------------------------------------------------------------------------------------------------

BIG = 1e30  # from here on a number might overflow in what follows, in float32 at least


def _largest(graph: Graph, x: float) -> list[float]:
    """Return a bound of each output's elements if those of all inputs are in [-x, x]; inf: none is known."""
    sizes: list[float] = []
    for node in graph.nodes:
        given = [sizes[j] for j in node.inputs]
        size = _node_largest(graph, node, given, x) * (1 + 1e-6)  # rounding adds far less
        sizes.append(size if size < BIG else math.inf)
    return [sizes[i] for i in graph.outputs]


def _node_largest(graph: Graph, node: Node, given: Sequence[float], x: float) -> float:
    if node.op is INPUT:
        return x
    if node.op in (CONSTANT, CAPTURED):
        return float(np.max(np.abs(node.params["value"]), initial=0.0))
    if math.inf in given:
        return math.inf
    if node.op.bound is None:
        return max(given[: moved_inputs(node)]) if node.op.moves else math.inf
    inputs = [graph.nodes[j] for j in node.inputs]
    values = [np.asarray(n.params["value"]) if n.op is CONSTANT else None for n in inputs]
    return node.op.bound(*[Range(size, n.shape, v) for size, n, v in zip(given, inputs, values, strict=True)])


def safe_interval(value: Graph, growth: float) -> float:
    """Return an X: while every |x| ≤ X, |f| stays below ``growth`` and the gradient finite. 0: there is none."""
    candidates = [2.0 ** (k / 4) for k in range(-16, 128)]

    def too_large(x: float) -> bool:
        f, *g = _largest(value, x)
        return f > 0.8 * growth or math.inf in g

    k = bisect_left(candidates, True, key=too_large)
    return candidates[k - 1] if k else 0.0


# -- the code ---------------------------------------------------------------------------------------------------------


class BatchedDescents:
    """The code for many descents. It works on a range of blocks, so that threads can share them.

    rates: a learning rate for each start, instead of one per step. growth: a descent whose f or |x| has grown by this
    factor has diverged. farthest: the largest |component| of the starts. near: note after how many steps the norm stays
    small, and near which known point. The tolerance is then checked between two chunks only.
    """

    def __init__(
        self, graphs: DescentGraphs, begin: Graph, gtol: bool, rates: bool, growth: float, farthest: float,
        near: bool = False,
    ) -> None:  # fmt: skip
        kind = KINDS.get(graphs.dtype, "")
        if kind not in TAGS:
            raise NotLowerable(f"parameters of {graphs.dtype}")
        graphs, begin = graphs.lowered(has_code), lowered(begin, has_code)
        self.graphs, self.dtype, self.growth = graphs, graphs.dtype, growth
        checks_norm = gtol and not near
        self.safe_interval = 0.0 if checks_norm else safe_interval(graphs.value, growth)
        if graphs.size * (CHUNK + 1) * farthest**2 > self.safe_interval**2:  # the sum over a chunk is checked
            self.safe_interval = 0.0
        self.width = FEWER if checks_norm or graphs.size > 4 else LANES
        self.captured = Captured(graphs.value)
        self.varying = [True, True, False, False, False, rates, True, *[True] * len(graphs.states)]
        self.invariant = [] if rates else loop_invariant(graphs.update, self.varying)
        self.repeats = not depends(graphs.update, graphs.update.inputs[4], self.invariant)  # on t, but for the table
        self.kinds = [KINDS.get(graphs.update.nodes[i].dtype, "double") for i in self.invariant]
        key = b"batched" + fingerprint(graphs.value, graphs.update, graphs.measure, begin)
        key += repr((checks_norm, rates, self.safe_interval > 0, graphs.states, near)).encode()

        def make() -> str:
            functions = [_Writer(graphs, begin, kind, self, checks_norm, rates, near).text(), self._prepare()]
            return module(*functions)

        self.library = library.load(key, make)
        pointer, whole = ctypes.c_void_p, ctypes.c_int64
        self._run = self.library.function("batched", None, *[pointer] * 13, whole, whole, whole)
        self._table = self.library.function("prepare", None, pointer, pointer, whole)

    def _prepare(self) -> Function:
        """Write the function that computes, for each step, what all starts have in common."""
        update = self.graphs.update
        code = Function("prepare", "void", ["lr", "table", ("i64", "steps")])
        rates, table, steps = code.arguments
        with code.loop(0, steps) as loop:
            lr = code.load(rates, loop.index, "double")
            step = (loop.index + 1).to("sitofp", "double")
            row = code.at(table, loop.index * (len(self.invariant) + 1), "double")
            code.store(lr, row)
            if self.invariant:
                part = Graph.pruned(update.nodes, update.inputs, self.invariant)
                nothing = [np.broadcast_to(filled((), [code.constant(0.0, "double")]), update.nodes[i].shape)
                           for i in update.inputs]  # fmt: skip
                nothing[4], nothing[5] = filled((), [step]), filled((), [lr])
                results, _ = unroll(code, part, nothing, lambda i: None, self.varying)
                for k, result in enumerate(results):
                    code.store(code.cast(result[()], "double"), row, 1 + k)
        code.ret()
        return code

    def table(self, lr: Any) -> Any:
        """Return what all starts have in common in each step: the rate, and what the update computes of it and t."""
        table = np.empty((len(lr), len(self.invariant) + 1))
        self._table(lr.ctypes.data, table.ctypes.data, len(lr))
        return table

    def numbers(self, gtol: float, steps: int, table: Any, near: float = 0.0) -> Any:
        """Return the numbers that it reads; gtol: below 0 it is never met. table: as `table` returns it, or the rates
        of the starts, which stay. near: a norm that is small.
        """
        constant_from = 0  # from this step on all rows are the same
        if table.ndim == 2:
            bits = table.view(np.int64)
            changes = np.flatnonzero((bits[1:] != bits[:-1]).any(axis=1))
            constant_from = changes[-1] + 1 if changes.size else 0
        return np.array([gtol, self.growth, steps, self.safe_interval**2, constant_from, near])

    @staticmethod
    def known(points: Any, reaches: Any, widths: Any) -> Any:
        """Return the known points as they are read: an end is at one if no component is farther than reach * width."""
        return np.concatenate([[len(points)], 1 / widths, np.column_stack([points, reaches]).ravel()])

    def bound(self, memory: Sequence[Any], count: int) -> Callable[[int, int], None]:
        """Return what descends from the starts first … last - 1 of ``count``; first is a multiple of LANES.

        memory: the starts, one per row; then the outputs, with room for a multiple of LANES: x, one per row, f, the
        norm, steps, status and, with ``near``, the number of the known point where it came to rest, ELSEWHERE or AWAY
        (steps is then after how many it was at rest); then low, high, `numbers`, the table or the rates (as many), the
        arrays that f reads, and `known` points.
        """
        places = [address(part) for part in memory]

        def descend(first: int, last: int, kept: Any = (self, memory)) -> None:
            """Run. Code and memory stay alive: an interrupted caller may be gone while another thread still works."""
            self._run(*places, count, first, last)

        return descend


class _Sparing(Function):
    """Code with fewer additions and divisions, and the same bits.

    bounded: everything that is computed now is far from overflow. Then a + 2 b is one instruction, since 2 b is exact.
    """

    def __init__(self, name: str, result: str, arguments: Sequence[str | tuple[str, str]]) -> None:
        super().__init__(name, result, arguments)
        self.bounded = False
        self._multiples: dict[str, tuple[Value, Value]] = {}  # products with a power of two: its two factors
        self._unsigned: set[str] = set()  # what is never -0.0, so that 0.0 + v is v

    def binary(self, instruction: str, a: Value, b: Value) -> Value:
        if instruction == "fdiv" and self._is_shared(a, b):
            return self._quotient(a, b)
        shorter = self._shorter_sum(a, b) if instruction == "fadd" else None
        result = super().binary(instruction, a, b) if shorter is None else shorter
        if instruction == "fmul":
            for v, factor in ((a, b), (b, a)):
                if factor.constant is not None and factor.constant >= 1:  # a smaller one may round
                    if math.frexp(factor.constant)[0] == 0.5:
                        self._multiples[result.text] = v, factor
                    if self._is_unsigned(v):
                        self._unsigned.add(result.text)
        elif (instruction == "fadd" and (self._is_unsigned(a) or self._is_unsigned(b))) or (
            instruction == "fsub" and (self._is_unsigned(a) or _is_nonzero(b))
        ):
            self._unsigned.add(result.text)  # two numbers that are opposite add up to 0.0
        return result

    def _is_shared(self, a: Value, b: Value) -> bool:
        """Return whether many numbers are divided by one."""
        return a.lanes > 1 and b.lanes == 1 and a.kind == "double" and b.constant is None and library.has_fma()

    def _quotient(self, a: Value, b: Value) -> Value:
        """Return a / b by the reciprocal of b and two corrections, which round as the division does in a third of its
        time. Far from 1 they might overflow or underflow: there it divides.

        Markstein, "Computation of elementary functions on the IBM RISC System/6000 processor", IBM J. Res. Dev. 1990.
        """
        size, low, high = abs(a), 2.0**-FAR, 2.0**FAR
        near = self.across("and", ((size >= low) & (size <= high)) | a.equals(0.0))
        near = near & (abs(b) >= 2.0**-100) & (abs(b) <= 2.0**100)
        with self.when(near) as branch:
            inverse, divisor = self.splat(1.0 / b, a.lanes), self.splat(b, a.lanes)
            first = a * inverse
            result = first
            for _ in range(2):
                result = self.intrinsic("fma", self.intrinsic("fma", -result, divisor, a), inverse, result)
            branch.give(result.with_sign(first))  # of -0.0, too
        with branch.otherwise():
            branch.give(super().binary("fdiv", a, b))
        return branch.values[0]

    def _shorter_sum(self, a: Value, b: Value) -> Value | None:
        for v, other in ((a, b), (b, a)):
            if v.constant == 0 and self._is_unsigned(other):
                return other
            if self.bounded and v.text in self._multiples:
                return self.intrinsic("fma", *self._multiples[v.text], other)
        return None

    def _is_unsigned(self, v: Value) -> bool:
        return v.text in self._unsigned or _is_nonzero(v)


def _is_nonzero(v: Value) -> bool:
    """Return whether it is a constant other than 0, in float32 too."""
    return v.constant is not None and abs(v.constant) > 1 / BIG


class _Writer:
    """Writes the function ``batched``. A *bundle* is what the loop carries: x, the state, f, the norm and flags."""

    def __init__(
        self,
        graphs: DescentGraphs,
        begin: Graph,
        kind: str,
        batch: BatchedDescents,
        checks_norm: bool,
        rates: bool,
        near: bool,
    ) -> None:
        names = ["starts", "x", "fun", "norm", "steps", "status", "place", "low", "high", "numbers", "table"]
        names += ["captured", "known"]
        numbers = ["count", "first", "last"]
        self.code = code = _Sparing("batched", "void", [*names, *(("i64", name) for name in numbers)])
        self.given = dict(zip([*names, *numbers], code.arguments, strict=True))
        self.graphs, self.begin, self.kind = graphs, begin, kind
        self.batch, self.checks_norm, self.rates = batch, checks_norm, rates
        self.near = near
        self.n, self.width, self.is_safe = graphs.size, batch.width, batch.safe_interval > 0
        self.columns = code.alloca(kind, self.n * self.width, 64)
        self.shapes = [graphs.value.nodes[i].shape for i in graphs.value.inputs]
        self.row = len(batch.invariant) + 1
        self.rate: Any = None  # of each lane, if each has its own

    # -- values in lanes ----------------------------------------------------------------------------------------------

    def wide(self, v: Value) -> Value:
        return self.code.splat(self.code.cast(v, self.kind), self.width)

    def flag(self, on: bool) -> Value:
        return self.code.splat(self.code.constant(on, BOOL), self.width)

    def whole(self, k: int) -> Value:
        return self.code.splat(self.code.constant(k, "i32"), self.width)

    def finite(self, values: Sequence[Value]) -> Value:
        return self.code.all([v.is_finite() for v in values])

    def load(self, pointer: Value, k: int | Value = 0) -> Value:
        return self.code.load(pointer, k, self.kind, self.width, 4)

    def column(self, k: int) -> Value:
        """Return the address of component ``k`` of the block's x, stored lane by lane."""
        return self.code.at(self.columns, k * self.width, self.kind)

    def transpose(self, rows: Value, block: Value, inward: bool) -> None:
        """Write a loop that copies the block's rows into the columns (inward), or the columns back.

        If the last block is not full, its last lanes descend from the last start.
        """
        code, kind = self.code, self.kind
        with code.loop(0, self.width) as loop:
            row = block + loop.index
            if inward:
                row = code.intrinsic("smin", row, self.given["count"] - 1)
            row = code.at(rows, row * self.n, kind)
            for k in range(self.n):
                place = code.at(self.column(k), loop.index, kind)
                source, target = ((row, k), (place, 0)) if inward else ((place, 0), (row, k))
                code.store(code.load(*source, kind), *target)

    # -- the three graphs ---------------------------------------------------------------------------------------------

    def value(self, x: Sequence[Value], bounded: bool) -> tuple[Value, list[Value], Value]:
        """Return f, the gradient, and whether the path is the one that was traced.

        bounded: x is in the safe interval.
        """
        self.code.bounded = bounded and library.has_fma()
        results, asked = unroll(self.code, self.graphs.value, split(x, self.shapes), self.held.__getitem__)
        self.code.bounded = False
        g = [self.wide(v) for part in results[1:] for v in part.ravel()]
        same = self.code.splat(self.code.all(asked), self.width)
        return self.wide(results[0][()]), g, same

    def measure(self, x: Sequence[Value], g: Sequence[Value]) -> Value:
        given = [filled((self.n,), x), filled((self.n,), g), self.low, self.high]
        return self.wide(unroll(self.code, self.graphs.measure, given, self.held.__getitem__)[0][0][()])

    def update(
        self, t: Value, x: Sequence[Value], g: Sequence[Value], state: Sequence[Value], f: Value
    ) -> tuple[list[Value], list[Value]]:
        code = self.code
        known: dict[int, Any] = {}
        after = (t + 1).to("sitofp", "double")
        if self.rates:
            lr = self.rate
        else:
            row = code.at(self.given["table"], t * self.row, "double")
            lr = code.load(row, 0, "double")
            for k, (i, kind) in enumerate(zip(self.batch.invariant, self.batch.kinds, strict=True)):
                known[i] = filled((), [code.cast(code.load(row, 1 + k, "double"), kind)])
        given = [filled((self.n,), x), filled((self.n,), g), self.low, self.high]
        given += [filled((), [v]) for v in (after, lr, f)]
        results, _ = unroll(
            code, self.graphs.update, [*given, *split(state, self.graphs.states)], self.held.__getitem__,
            self.batch.varying, known,
        )  # fmt: skip
        return [self.wide(v) for v in results[0]], [self.wide(v) for part in results[2:] for v in part.ravel()]

    # -- the loops ----------------------------------------------------------------------------------------------------

    def text(self) -> Function:
        code, n, given = self.code, self.n, self.given
        self.low, self.high = (code.elements(given[name], 0, (n,), self.kind) for name in ("low", "high"))
        read = self.batch.captured.reader(code, given["captured"])
        self.held = {i: read(i) for i in self.batch.captured.nodes}
        tolerance, growth, steps, interval, constant_from, near = (
            code.load(given["numbers"], k, "double") for k in range(6)
        )
        self.small = self.wide(near)
        self.tolerance = self.wide(tolerance)
        self.limit, self.constant_from = steps.to("fptosi", "i64"), constant_from.to("fptosi", "i64")
        with code.loop(given["first"], given["last"], self.width) as blocks:
            self.transpose(given["starts"], blocks.index, True)
            x = [self.load(self.column(k)) for k in range(n)]
            if self.rates:
                self.rate = code.cast(self.load(given["table"], blocks.index), "double")
            states, _ = unroll(code, self.begin, [filled((n,), x)], self.held.__getitem__)
            state = [self.wide(v) for part in states for v in part.ravel()]
            f, g, same = self.value(x, self.is_safe)
            norm = self.measure(x, g)
            good = self.finite([f, *g])
            met = norm <= self.tolerance
            status = code.select(met, self.whole(CONVERGED), self.whole(RUNNING))
            status = code.select(good, status, self.whole(NONFINITE))
            status = code.select(same, status, self.whole(REFUSED))
            far, scale = self.wide(growth), abs(f)
            scale = code.select(scale > 1.0, scale, 1.0)
            self.f_limit = f + far * scale
            size = added([v * v for v in x], True)
            size = code.select(size > 1.0, size, 1.0)
            self.x_limit = far * far * size
            # sums of squares in another order may differ by roundings
            self.reach = self.wide(interval) if self.is_safe else self.x_limit * 0.5
            since = [code.select(norm > self.small, self.whole(1), self.whole(0))] if self.near else []
            bundle = [*x, *state, *since, f, norm, good & same & ~met, self.whole(0), status]
            with code.loop(carried=[code.constant(0, "i64"), *bundle]) as chunks:
                t, *held = chunks.carried
                chunks.leave(unless=(t < self.limit) & code.any(held[-3]))
                end = code.intrinsic("smin", t + CHUNK, self.limit)
                if not self.checks_norm:
                    self._fast_chunk(chunks, held, t, end)
                self._checked_chunk(chunks, held, t, end)
            running = held[-1].equals(RUNNING)
            held[-1] = code.select(running, self.whole(MAX_STEPS), held[-1])
            if self.near:
                held[-2], place = self._arrived(held)
                code.store(place, given["place"], blocks.index, 4)
            for k in range(n):
                code.store(held[k], self.column(k), align=4)
            for v, name in zip((*held[-5:-3], *held[-2:]), ("fun", "norm", "steps", "status"), strict=True):
                code.store(v, given[name], blocks.index, 4)
            self.transpose(given["x"], blocks.index, False)
        code.ret()
        return code

    def _arrived(self, held: Sequence[Value]) -> tuple[Value, Value]:
        """Return after how many steps each descent was at rest, and the number of the known point where it is."""
        code, known, row = self.code, self.given["known"], self.n + 1
        since, f, (steps, status) = held[-6], held[-5], held[-2:]
        rests = status.equals(CONVERGED) | (status.equals(MAX_STEPS) & (since <= steps))
        rests = rests & self.finite([f])
        count = code.load(known, 0, "double").to("fptosi", "i64")
        scales = [self.wide(code.load(known, 1 + k, "double")) for k in range(self.n)]
        far = self.wide(code.constant(math.inf, "double"))
        with code.loop(0, count, 1, [code.select(rests, self.whole(ELSEWHERE), self.whole(AWAY)), far]) as loop:
            place, least = loop.carried
            point = code.at(known, loop.index * row + row, "double")
            distance = self.wide(code.constant(0.0, "double"))
            for k in range(self.n):
                apart = abs(held[k] - self.wide(code.load(point, k, "double"))) * scales[k]
                distance = code.select(apart > distance, apart, distance)
            nearer = distance < least
            reached = rests & nearer & (distance <= self.wide(code.load(point, self.n, "double")))
            number = self._counted(loop.index)
            place = code.select(nearer & rests, self.whole(ELSEWHERE), place)
            loop.again(code.select(reached, number, place), code.select(nearer, distance, least))
        return code.select(rests, code.intrinsic("smin", since, steps), steps), loop.results[0]

    def _fast_chunk(self, chunks: Loop, held: Sequence[Value], t: Value, end: Value) -> None:
        """Write a chunk without checks. If it can't be trusted, the code that follows is run instead."""
        code, active, moving = self.code, held[-3], held[:-5]
        nothing = Value("zeroinitializer", self.kind, self.width, None, code)
        start = [*moving, *[nothing] * (1 if self.is_safe else 3)]
        if self.near:
            start.append(self.wide(code.constant(math.inf, "double")))
        start.append(self.flag(True))
        count = len(moving)
        moves = count - self.near  # what a step depends on
        if self.batch.repeats:
            with code.loop(carried=[t, end, *start]) as rounds:
                first, last, *begun = rounds.carried
                stop = code.intrinsic("smin", first + PERIOD, last)
                after = self._steps(first, stop, begun)
                # fewer steps than a period are only made before the limit, when none is left
                moved = code.any(active & self._differ(begun[:moves], after[:moves]))
                resting = (first >= self.constant_from) & ~moved
                left_out = code.select(resting, (self.limit - stop) & -PERIOD, 0)
                reached, end_now = stop + left_out, code.select(resting, self.limit, last)
                if self.near:  # what was large in this period is so in the last one
                    since, more = after[moves], left_out.to("trunc", "i32")
                    after[moves] = code.select(since > self._counted(first), since + more, since)
                rounds.again(reached, end_now, *after, when=reached < end_now)
            _, end, *after = rounds.results
        else:
            after = self._steps(t, end, start)
        new, checks, path = after[:count], after[count:-1], after[-1]
        new_x = new[: self.n]
        new_f, new_g, asked = self.value(new_x, self.is_safe)
        norm = self.measure(new_x, new_g)
        checks, path = self._accumulated(checks, new_x, new_f, new_g), path & asked
        trusted = path & (checks[0] <= self.reach)
        met = norm <= self.tolerance
        if self.near:  # one that only passed through the tolerance has stopped there
            trusted = trusted & (met | (checks[-1] > self.tolerance))
        if not self.is_safe:
            trusted = trusted & (checks[1] <= self.f_limit) & self.finite([checks[2]])
        with code.when(code.across("and", trusted | ~active)):
            counted = held[-2] + (end - t).to("trunc", "i32")
            status, going = held[-1], active
            if self.near:
                new[-1] = code.select(norm > self.small, self._counted(end) + 1, new[-1])
                going, status = active & ~met, code.select(active & met, self.whole(CONVERGED), status)
            done = [*new, new_f, norm]
            kept = [code.select(active, value, before) for before, value in zip(held, done, strict=False)]
            chunks.again(end, *kept, going, code.select(active, counted, held[-2]), status)

    def _counted(self, t: Value) -> Value:
        return self.code.splat(t.to("trunc", "i32"), self.width)

    def _steps(self, first: Value, end: Value, carried: Sequence[Value]) -> list[Value]:
        """Write steps without checks."""
        with self.code.loop(first, end, 1, carried, once=True) as loop:
            loop.again(*self._step(loop.index, loop.carried))
        return list(loop.results)

    def _step(self, t: Value, carried: Sequence[Value]) -> list[Value]:
        """Write one step without checks of its own. carried: x and the state, the accumulated checks, and whether all
        paths were the one that was traced.

        It is written for one register after the other: few values are live at once, and the next one's work begins
        before the last one's results are there.
        """
        whole, self.width = self.width, REGISTER // np.dtype(self.batch.dtype).itemsize
        rate, parts = self.rate, []
        for first in range(0, whole, self.width):
            if self.rates:
                self.rate = self._part(rate, first)
            parts.append(self._advance(t, [self._part(v, first) for v in carried]))
        self.width, self.rate = whole, rate
        return [self._joined(values) for values in zip(*parts, strict=True)]

    def _advance(self, t: Value, carried: Sequence[Value]) -> list[Value]:
        code = self.code
        count = len(carried) - 1 - (1 if self.is_safe else 3) - self.near
        moves = count - self.near
        x, state, since = carried[: self.n], carried[self.n : moves], carried[moves:count]
        checks, same = carried[count:-1], carried[-1]
        f, g, path = self.value(x, self.is_safe)
        new_x, new_state = self.update(t, x, g, state, f)
        checks = self._accumulated(checks, x, f, g)
        if self.near:
            norm = self.measure(x, g)
            since = [code.select(norm > self._part(self.small, 0), self._counted(t) + 1, since[0])]
            checks[-1] = code.select(norm < checks[-1], norm, checks[-1])
        return [*new_x, *new_state, *since, *checks, same & path]

    def _part(self, v: Value, first: int) -> Value:
        """Return as many lanes as are written now, from ``first`` on."""
        return self.code.shuffled(range(first, first + self.width), v)

    def _joined(self, parts: Sequence[Value]) -> Value:
        """Return the lanes of all parts side by side."""
        if len(parts) == 1:
            return parts[0]
        half = len(parts) // 2
        a, b = self._joined(parts[:half]), self._joined(parts[half:])
        return self.code.shuffled(range(2 * a.lanes), a, b)

    def _differ(self, before: Sequence[Value], after: Sequence[Value]) -> Value:
        """Return in which lanes the bits of any of these differ."""
        differs = self.flag(False)
        for a, b in zip(before, after, strict=True):
            differs = differs | a.bits().differs(b.bits())
        return differs

    def _accumulated(self, checks: Sequence[Value], x: Sequence[Value], f: Value, g: Sequence[Value]) -> list[Value]:
        """Return the checks with another step: the sums of x² and, outside of a safe interval, of |f| and of g."""
        # Without fused multiply-add: f often has these squares too, and they are computed once.
        checks = list(checks)
        checks[0] = checks[0] + added([v * v for v in x], True)
        if not self.is_safe:
            checks[1:3] = checks[1] + abs(f), checks[2] + added(g, False)
        return checks

    def _checked_chunk(self, chunks: Loop, held: Sequence[Value], t: Value, end: Value) -> None:
        """Write a chunk with all checks at every step."""
        code, n = self.code, self.n
        _, first_g, _ = self.value(held[:n], False)
        with code.loop(t, end, 1, [*held[:n], *first_g, *held[n:]], once=True) as loop:
            bundle = loop.carried
            last = -6 if self.near else -5
            x, g, state, since = bundle[:n], bundle[n : 2 * n], bundle[2 * n : last], bundle[last:-5]
            f, _, active, steps, status = bundle[-5:]
            new_x, new_state = self.update(loop.index, x, g, state, f)
            new_f, new_g, path = self.value(new_x, False)
            new_norm = self.measure(new_x, new_g)
            taken = active & self.finite([new_f, *new_g, *new_x]) & path
            met = new_norm <= self.tolerance
            grown = (new_f > self.f_limit) | (added([v * v for v in new_x], True) > self.x_limit)
            done = steps + taken.to("zext", "i32")
            new_since = [code.select(new_norm > self.small, done + 1, before) for before in since]
            after = [*new_x, *new_g, *new_state, *new_since, new_f, new_norm]
            kept = [code.select(taken, new, old) for new, old in zip(after, bundle[:-3], strict=True)]
            bad = code.select(path, self.whole(NONFINITE), self.whole(REFUSED))
            why = code.select(grown, self.whole(DIVERGED), self.whole(RUNNING))
            why = code.select(met, self.whole(CONVERGED), why)
            status = code.select(active, code.select(taken, why, bad), status)
            loop.again(*kept, taken & ~(met | grown), done, status)
        reached = loop.results
        chunks.again(end, *reached[:n], *reached[2 * n :])
