"""Many descents at once: the loop of one, with a start in each lane of a vector register.

Blocks of `LANES` starts, or `FEWER`, take `CHUNK` steps at a time without a question between them; what tells whether
a question would have been answered otherwise (f, the gradient or x not finite, or grown beyond the limit) is gathered
on the way, and where it is, the chunk is done again with every question asked at every step. So a lane has the bits
that it would have had alone, and its neighbours cost it nothing.

Often x alone tells: from bounds on what each operation can make of its operands follows a box within which f stays
below the limit and the gradient finite, so that f need not even be computed between two looks.

A plain descent soon stands still to the last bit, or goes to and fro between two neighbouring numbers. Where a step
depends on x and the state alone (the rate stays, and so does what the rule makes of t), whatever they were some steps
ago, bit for bit, they will be again after as many: so once `PERIOD` steps have brought all lanes of a block back to
where they were, all further whole periods are left out, and every bit is what it would be after them.
"""

from __future__ import annotations

import ctypes
import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from koubai.execute import library
from koubai.execute.descents import DescentGraphs, address
from koubai.execute.elements import Unsuitable, filled, split
from koubai.execute.llvm import BOOL, KINDS, TAGS, Phi, Value, module, of_type
from koubai.execute.llvm import OldCode as Code
from koubai.execute.native import (
    Captured,
    OldFunction,
    added,
    depends,
    expand,
    fingerprint,
    frontier,
)
from koubai.graph.trace import CAPTURED, CONSTANT, INPUT, Graph, Node

__all__ = ["CONVERGED", "DIVERGED", "LANES", "MAX_STEPS", "NONFINITE", "REFUSED", "Lanes", "box"]

LANES = 32  # starts a block: four registers of eight doubles hide each other's latency …
FEWER = 16  # … and two of them where more values are held from step to step than there are registers
REGISTER = 64  # bytes
CHUNK = 64  # steps between two looks, where no tolerance is asked at each
PERIOD = 8  # steps, a part of a chunk, after which lanes may be where they were: at rest, or in a circle of 2, 4 or 8
_WHOLE = {"double": "i64", "float": "i32"}  # the whole numbers with as many bits
RUNNING, CONVERGED, DIVERGED, NONFINITE, MAX_STEPS, REFUSED = range(6)


# -- how large can it become? -----------------------------------------------------------------------------------------

BIG = 1e30  # from here on a number might overflow in what follows, in float32 at least
# The largest |result|, given the largest |operand|s; of all that stands here, finite operands make no NaN.
_LARGEST: dict[str, Callable[..., float]] = {
    **dict.fromkeys(("add", "subtract"), lambda a, b: a + b),
    "multiply": lambda a, b: a * b,
    "square": lambda a: a * a,
    "exp": lambda a: math.exp(min(a, 100.0)),
    "where": lambda _, a, b: max(a, b),
    **dict.fromkeys(("maximum", "minimum", "setitem"), lambda a, b, *_: max(a, b)),
    **dict.fromkeys(("sin", "cos", "tanh", "sign", "special.expit", "share"), lambda *_: 1.0),
    **dict.fromkeys(("negative", "positive", "absolute", "fabs"), lambda a: a),
    **dict.fromkeys(("getitem", "reshape", "transpose", "broadcast_to", "max", "min", "astype"), lambda a, *_: a),
    **dict.fromkeys(("concatenate", "stack"), lambda *parts: max(parts)),
    **dict.fromkeys(("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"), lambda *_: 1.0),
    "zeros": lambda: 0.0,
}


def _largest(graph: Graph, x: float) -> list[float]:
    """Return a bound of each output's elements where those of all inputs lie in [-x, x]; inf: there is none known."""
    sizes: list[float] = []
    for node in graph.nodes:
        given = [sizes[j] for j in node.inputs]
        size = _node_largest(graph, node, given, x) * (1 + 1e-6)  # rounding adds far less
        sizes.append(size if size < BIG else math.inf)
    return [sizes[i] for i in graph.outputs]


def _node_largest(graph: Graph, node: Node, given: Sequence[float], x: float) -> float:
    name = node.op.name
    if node.op is INPUT:
        return x
    if node.op in (CONSTANT, CAPTURED):
        return float(np.max(np.abs(node.params["value"]), initial=0.0))
    if math.inf in given:
        return math.inf
    inputs = [graph.nodes[j] for j in node.inputs]
    if name == "sum":
        return given[0] * math.prod(inputs[0].shape)
    if name == "matmul":
        return given[0] * given[1] * inputs[0].shape[-1]
    if name == "add_at":
        return given[0] + given[1] * math.prod(inputs[1].shape)
    if name in ("divide", "power") and inputs[1].op is CONSTANT:
        other = np.asarray(inputs[1].params["value"])
        if other.dtype.kind not in "fiub":
            return math.inf
        other = other.astype(np.float64)
        if name == "divide":
            least = float(np.min(np.abs(other), initial=math.inf))
            return given[0] / least if least > 0 else math.inf
        whole = other.ndim == 0 and 0 <= other == np.rint(other)
        return max(1.0, given[0]) ** float(other) if whole and other <= 64 else math.inf
    known = _LARGEST.get(name)
    return math.inf if known is None else known(*given)


def box(value: Graph, growth: float) -> float:
    """Return an X, 0 where there is none: while every |x| ≤ X, |f| stays below ``growth`` and the gradient finite."""
    candidates = [2.0 ** (k / 4) for k in range(-16, 128)]

    def too_large(x: float) -> bool:
        f, *g = _largest(value, x)
        return f > 0.8 * growth or math.inf in g

    k = bisect_left(candidates, True, key=too_large)
    return candidates[k - 1] if k else 0.0


# -- the code ---------------------------------------------------------------------------------------------------------


class Lanes:
    """The code for many descents. It works on a range of blocks, so that threads can share them.

    rates: a learning rate for each start, instead of one a step. growth: a descent whose f or |x| has grown by this
    factor has diverged. farthest: the largest |component| of the starts.
    """

    def __init__(
        self, graphs: DescentGraphs, begin: Graph, gtol: bool, rates: bool, growth: float, farthest: float
    ) -> None:
        kind = KINDS.get(graphs.dtype, "")
        if kind not in TAGS:
            raise Unsuitable(f"parameters of {graphs.dtype}")
        self.graphs, self.dtype, self.growth = graphs, graphs.dtype, growth
        self.box = 0.0 if gtol else box(graphs.value, growth)
        if graphs.size * (CHUNK + 1) * farthest**2 > self.box**2:  # what is looked at is the sum over a chunk
            self.box = 0.0
        self.width = FEWER if gtol or graphs.size > 4 else LANES
        self.captured = Captured(graphs.value)
        self.varying = [True, True, False, False, False, rates, True, *[True] * len(graphs.states)]
        self.uniform = [] if rates else frontier(graphs.update, self.varying)
        self.repeats = not depends(graphs.update, graphs.update.inputs[4], self.uniform)  # on t, but for the table
        self.kinds = [KINDS.get(graphs.update.nodes[i].dtype, "double") for i in self.uniform]
        key = b"lanes" + fingerprint(graphs.value, graphs.update, graphs.measure, begin)
        key += repr((gtol, rates, self.box > 0, graphs.states)).encode()

        def make() -> str:
            functions = [_Writer(graphs, begin, kind, self, gtol, rates).text(), self._prepare()]
            return module(*functions)

        self.library = library.load(key, make)
        pointer, whole = ctypes.c_void_p, ctypes.c_int64
        self._run = ctypes.CFUNCTYPE(None, *[pointer] * 11, whole, whole, whole)(self.library.address("lanes"))
        self._table = ctypes.CFUNCTYPE(None, pointer, pointer, whole)(self.library.address("prepare"))

    def _prepare(self) -> OldFunction:
        """Write the function that computes, for each step, what all starts have in common."""
        update = self.graphs.update
        function = OldFunction("prepare", "void", ["lr", "table", ("i64", "steps")])
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

    def numbers(self, gtol: float, steps: int, table: Any) -> Any:
        """Return the numbers that it reads; gtol: below 0 it is never met. table: as `table` returns it, or the rates
        of the starts, which stay.
        """
        settled = 0  # from this step on all rows are the same
        if table.ndim == 2:
            bits = table.view(np.int64)
            changes = np.flatnonzero((bits[1:] != bits[:-1]).any(axis=1))
            settled = changes[-1] + 1 if changes.size else 0
        return np.array([gtol, self.growth, steps, self.box**2, settled])

    def bound(self, memory: Sequence[Any], count: int) -> Callable[[int, int], None]:
        """Return what descends from the starts first … last - 1 of ``count``; first is a multiple of LANES.

        memory: the starts, one a row; then what is written, with room for a multiple of LANES: x, one a row, f, the
        norm, steps and status; then low, high, `numbers`, the table or the rates (as many), and the arrays that f
        reads.
        """
        places = [address(part) for part in memory]

        def descend(first: int, last: int, kept: Any = (self, memory)) -> None:
            """Keep code and memory, too: an interrupted caller may be gone while another thread is still at work."""
            self._run(*places, count, first, last)

        return descend


class _Sparing(Code):
    """Code with fewer additions and the same bits.

    bounded: is all that is computed now far from overflow? Then a + 2 b is one instruction, since 2 b is exact.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bounded = False
        self._multiples: dict[str, tuple[Value, Value]] = {}  # by a power of two: of what, how often
        self._unsigned: set[str] = set()  # what is never -0.0, so that 0.0 + v is v

    def binary(self, instruction: str, a: Value, b: Value) -> Value:
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
    """Is it a constant other than 0, in float32 too?"""
    return v.constant is not None and abs(v.constant) > 1 / BIG


class _Writer:
    """Writes the function ``lanes``. A *bundle* is what goes round: x, the state, f, the norm, and the flags."""

    def __init__(self, graphs: DescentGraphs, begin: Graph, kind: str, lanes: Lanes, gtol: bool, rates: bool) -> None:
        names = ["starts", "x", "fun", "norm", "steps", "status", "low", "high", "numbers", "table", "captured"]
        self.function = OldFunction("lanes", "void", [*names, *(("i64", name) for name in ("count", "first", "last"))])
        self.code = self.function.code = _Sparing()
        self.graphs, self.begin, self.kind, self.lanes, self.gtol, self.rates = graphs, begin, kind, lanes, gtol, rates
        self.n, self.width, self.boxed = graphs.size, lanes.width, lanes.box > 0
        self.shapes = [graphs.value.nodes[i].shape for i in graphs.value.inputs]
        self.row = len(lanes.uniform) + 1
        self.rate: Any = None  # of each lane, where each has its own

    # -- values in lanes ----------------------------------------------------------------------------------------------

    def wide(self, v: Value) -> Value:
        return self.code.spread(self.code.cast(v, self.kind), self.width)

    def flag(self, on: bool) -> Value:
        return Value(f"splat (i1 {str(on).lower()})", BOOL, self.width)

    def whole(self, k: int) -> Value:
        return Value(f"splat (i32 {k})", "i32", self.width)

    def both(self, a: Value, b: Value) -> Value:
        return self.code.binary("and", a, b)

    def no(self, a: Value) -> Value:
        return self.code.binary("xor", a, self.flag(True))

    def any(self, a: Value) -> str:
        self.code.declared.add(f"declare i1 @llvm.vector.reduce.or.v{self.width}i1(<{self.width} x i1>)")
        return self.code.raw(f"call i1 @llvm.vector.reduce.or.v{self.width}i1(<{self.width} x i1> {a.text})")

    def finite(self, values: Sequence[Value]) -> Value:
        code = self.code
        found = [code.compare("olt", code.intrinsic("fabs", v), code.number(math.inf, v.kind)) for v in values]
        return code.all(found)

    def at(self, name: str) -> str:
        """Return the address of the block's lanes in an array."""
        of = "i32" if name in ("steps", "status") else self.kind
        return self.code.raw(f"getelementptr {of}, ptr %{name}, i64 %b")

    def load(self, address: str) -> Value:
        return Value(
            self.code.load(f"load {of_type(self.kind, self.width)}, ptr {address}, align 4"), self.kind, self.width
        )

    def store(self, v: Value, address: str) -> None:
        self.code.line(f"store {of_type(v.kind, self.width)} {v.text}, ptr {address}, align 4")

    def column(self, k: int) -> str:
        """Return the address of component ``k`` of the block's x, which lie lane by lane here."""
        return self.function.place("%columns", k * self.width, self.kind)

    def turn(self, label: str, rows: str, before: str, inward: bool) -> None:
        """Write a loop that brings the block's rows into the columns, or the columns back; it ends in ``label``.end.

        Where the last block is not full, its last lanes descend from the last start.
        """
        code, kind = self.code, self.kind
        code.declared.add("declare i64 @llvm.smin.i64(i64, i64)")
        code.line(f"br label %{label}")
        code.block(label)
        lane = Phi(code, "i64", 1)
        row = code.raw(f"add i64 %b, {lane.value.text}")
        if inward:
            row = code.raw(f"call i64 @llvm.smin.i64(i64 {row}, i64 {code.raw('sub i64 %count, 1')})")
        row = code.raw(f"getelementptr {kind}, ptr {rows}, i64 {code.raw(f'mul i64 {row}, {self.n}')}")
        for k in range(self.n):
            place = code.raw(f"getelementptr {kind}, ptr {self.column(k)}, i64 {lane.value.text}")
            if inward:
                code.line(f"store {kind} {self.function.load(row, k, kind).text}, ptr {place}")
            else:
                self.function.store(Value(code.load(f"load {kind}, ptr {place}"), kind), row, k)
        following = Value(code.raw(f"add i64 {lane.value.text}, 1"), "i64")
        code.line(f"%{label}.on = icmp slt i64 {following.text}, {self.width}")
        code.line(f"br i1 %{label}.on, label %{label}, label %{label}.end")
        lane.close((Value("0", "i64"), before), (following, label))
        code.block(f"{label}.end")

    # -- the three graphs ---------------------------------------------------------------------------------------------

    def value(self, x: Sequence[Value], bounded: bool) -> tuple[Value, list[Value], Value]:
        """Return f, the gradient, and whether the path is the one that was traced. bounded: does x lie in the box?"""
        self.code.bounded = bounded and library.has_fma()
        results, asked = expand(self.code, self.graphs.value, split(x, self.shapes), self.held.__getitem__)
        self.code.bounded = False
        g = [self.wide(v) for part in results[1:] for v in part.ravel()]
        same = self.code.spread(self.code.all(asked), self.width) if asked else self.flag(True)
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

    def text(self) -> OldFunction:
        code, n = self.code, self.n
        code.block("entry")
        code.line(f"%columns = alloca [{n * self.width} x {self.kind}], align 64")
        self.low, self.high = (self.function.elements(f"%{name}", 0, (n,), self.kind) for name in ("low", "high"))
        read = self.lanes.captured.reader(self.function, "%captured")
        self.held = {i: read(i) for i in self.lanes.captured.nodes}
        self.tolerance = self.wide(self.function.load("%numbers", 0, "double"))
        growth = self.function.load("%numbers", 1, "double")
        limit, self.settled = (
            code.raw(f"fptosi double {self.function.load('%numbers', k, 'double').text} to i64") for k in (2, 4)
        )
        box = self.wide(self.function.load("%numbers", 3, "double"))
        code.line("br label %blocks")
        code.block("blocks")
        code.line("%b = phi i64 [ %first, %entry ], [ %b.next, %out.end ]")
        code.line("%more = icmp slt i64 %b, %last")
        code.line("br i1 %more, label %begin, label %exit")

        code.block("begin")
        self.turn("in", "%starts", "begin", True)
        x = [self.load(self.column(k)) for k in range(n)]
        if self.rates:
            self.rate = code.cast(self.load(self.at("table")), "double")
        states, _ = expand(code, self.begin, [filled((n,), x)], self.held.__getitem__)
        state = [self.wide(v) for part in states for v in part.ravel()]
        f, g, same = self.value(x, self.boxed)
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
        half = code.number(0.5, self.kind)  # sums of squares in another order may differ by roundings
        self.reach = box if self.boxed else code.binary("fmul", self.x_limit, half)
        code.line("br label %chunks")

        code.block("chunks")
        bundle = [*x, *state, f, norm, active, self.whole(0), status]
        phis = [Phi(code, v.kind, self.width) for v in bundle]
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
            ways.append(self._unasked(held, t, end, limit))
        else:
            code.line("br label %careful")
            code.block("careful")
        ways.append(self._asked(held, t, end, "careful"))
        for k, phi in enumerate(phis):
            phi.close((bundle[k], "in.end"), *((after[k], label) for after, _, label in ways))
        at.close((Value("0", "i64"), "in.end"), *((Value(made, "i64"), label) for _, made, label in ways))

        code.block("stored")
        running = Value(
            code.raw(f"icmp eq {of_type('i32', self.width)} {held[-1].text}, zeroinitializer"), BOOL, self.width
        )
        status = code.select(running, self.whole(MAX_STEPS), held[-1])
        for k in range(n):
            self.store(held[k], self.column(k))
        for v, name in zip((*held[-5:-3], held[-2], status), ("fun", "norm", "steps", "status"), strict=True):
            self.store(v, self.at(name))
        self.turn("out", "%x", "stored", False)
        code.line(f"%b.next = add i64 %b, {self.width}")
        code.line("br label %blocks")
        code.block("exit")
        code.line("ret void")
        return self.function

    def _unasked(self, held: Sequence[Value], t: str, end: str, limit: str) -> tuple[list[Value], str, str]:
        """Write a chunk without questions. Where it is not to be trusted, it goes on at the block ``careful``.

        Return what it leaves, up to which step, and the block that it ends in.
        """
        code, active = self.code, held[-3]
        moving = held[:-5]
        kinds = [*(v.kind for v in moving), *[self.kind] * (1 if self.boxed else 3), BOOL]
        nothing = Value("zeroinitializer", self.kind, self.width)
        start = [*moving, *[nothing] * (len(kinds) - len(moving) - 1), self.flag(True)]

        code.line("br label %round")
        code.block("round")
        rounds, first, last = [Phi(code, kind, self.width) for kind in kinds], Phi(code, "i64", 1), Phi(code, "i64", 1)
        begun, stop = [phi.value for phi in rounds], last.value.text
        if self.lanes.repeats:
            period = code.raw(f"add i64 {first.value.text}, {PERIOD}")
            stop = code.raw(f"call i64 @llvm.smin.i64(i64 {period}, i64 {stop})")
        code.line("br label %fast")

        code.block("fast")
        steps, i = [Phi(code, kind, self.width) for kind in kinds], Phi(code, "i64", 1)
        code.line("br label %fast.body")
        code.block("fast.body")
        after = self._step(i.value.text, [phi.value for phi in steps])
        following = code.raw(f"add i64 {i.value.text}, 1")
        code.line(f"%fast.on = icmp slt i64 {following}, {stop}")
        code.line("br i1 %fast.on, label %fast, label %turn")
        for phi, before, value in zip(steps, begun, after, strict=True):
            phi.close((before, "round"), (value, "fast.body"))
        i.close((first.value, "round"), (Value(following, "i64"), "fast.body"))

        code.block("turn")
        reached, end_now = following, last.value.text
        if self.lanes.repeats:  # fewer steps than a period are only made before the limit, where none is left
            moved = self.any(self.both(active, self._differ(begun[: len(moving)], after[: len(moving)])))
            steady = code.raw(f"icmp sge i64 {first.value.text}, {self.settled}")
            resting = code.raw(f"and i1 {steady}, {code.raw(f'xor i1 {moved}, true')}")
            rest = code.raw(f"sub i64 {limit}, {following}")
            later = code.raw(f"add i64 {following}, {code.raw(f'and i64 {rest}, {-PERIOD}')}")
            reached = code.raw(f"select i1 {resting}, i64 {later}, i64 {following}")
            end_now = code.raw(f"select i1 {resting}, i64 {limit}, i64 {last.value.text}")
        code.line(f"%turn.on = icmp slt i64 {reached}, {end_now}")
        code.line("br i1 %turn.on, label %round, label %fast.end")
        for phi, before, value in zip(rounds, start, after, strict=True):
            phi.close((before, "chunk"), (value, "turn"))
        first.close((Value(t, "i64"), "chunk"), (Value(reached, "i64"), "turn"))
        last.close((Value(end, "i64"), "chunk"), (Value(end_now, "i64"), "turn"))

        code.block("fast.end")
        new, looked, path = after[: len(moving)], after[len(moving) : -1], after[-1]
        new_x = new[: self.n]
        new_f, new_g, asked = self.value(new_x, self.boxed)
        looked, path = self._look(looked, new_x, new_f, new_g), self.both(path, asked)
        trusted = self.both(path, code.compare("ole", looked[0], self.reach))
        if not self.boxed:
            trusted = self.both(trusted, code.compare("ole", looked[1], self.f_limit))
            trusted = self.both(trusted, self.finite([looked[2]]))
        doubtful = self.any(self.both(active, self.no(trusted)))
        code.line(f"br i1 {doubtful}, label %careful, label %fast.kept")
        code.block("fast.kept")
        made = Value(code.raw(f"trunc i64 {code.raw(f'sub i64 {end_now}, {t}')} to i32"), "i32")
        counted = Value(
            code.raw(f"add {of_type('i32', self.width)} {held[-2].text}, {code.spread(made, self.width).text}"),
            "i32",
            self.width,
        )
        done = [*new, new_f, self.measure(new_x, new_g)]
        kept = [code.select(active, value, before) for before, value in zip(held, done, strict=False)]
        result = [*kept, active, code.select(active, counted, held[-2]), held[-1]]
        code.line("br label %chunks")
        code.block("careful")
        return result, end_now, "fast.kept"

    def _step(self, t: str, carried: Sequence[Value]) -> list[Value]:
        """Write one step without questions. carried: x and the state, what was seen, and whether all paths were the
        one that was traced.

        It is written for one register after the other: so few values are held at once, and the next one's work begins
        while the last one's results are awaited.
        """
        whole, self.width = self.width, REGISTER // np.dtype(self.lanes.dtype).itemsize
        rate, parts = self.rate, []
        for first in range(0, whole, self.width):
            if self.rates:
                self.rate = self._part(rate, first)
            parts.append(self._advance(t, [self._part(v, first) for v in carried]))
        self.width, self.rate = whole, rate
        return [self._joined(values) for values in zip(*parts, strict=True)]

    def _advance(self, t: str, carried: Sequence[Value]) -> list[Value]:
        count = len(carried) - 1 - (1 if self.boxed else 3)
        x, state, seen, same = carried[: self.n], carried[self.n : count], carried[count:-1], carried[-1]
        f, g, asked = self.value(x, self.boxed)
        new_x, new_state = self.update(t, x, g, state, f)
        return [*new_x, *new_state, *self._look(seen, x, f, g), self.both(same, asked)]

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
        """Tell in which lanes any of these has another bit."""
        code, differs = self.code, self.flag(False)
        of, whole = (of_type(kind, self.width) for kind in (self.kind, _WHOLE[self.kind]))
        for pair in zip(before, after, strict=True):
            a, b = (code.raw(f"bitcast {of} {v.text} to {whole}") for v in pair)
            differs = code.binary("or", differs, Value(code.raw(f"icmp ne {whole} {a}, {b}"), BOOL, self.width))
        return differs

    def _look(self, seen: Sequence[Value], x: Sequence[Value], f: Value, g: Sequence[Value]) -> list[Value]:
        """Return what tells that all was in order: the sum of x² and, but in a box, of |f| and of g, over the steps."""
        code = self.code
        # Not multiplied and added in one instruction: f often has these squares, too.
        total = code.binary("fadd", seen[0], added(code, [code.binary("fmul", v, v) for v in x], True))
        if self.boxed:
            return [total]
        level = code.binary("fadd", seen[1], code.intrinsic("fabs", f))
        return [total, level, code.binary("fadd", seen[2], added(code, g, False))]

    def _asked(self, held: Sequence[Value], t: str, end: str, before: str) -> tuple[list[Value], str, str]:
        """Write a chunk with every question at every step. Return as `_unasked` does."""
        code, n = self.code, self.n
        _, first_g, _ = self.value(held[:n], False)
        first = [*held[:n], *first_g, *held[n:]]
        code.line("br label %slow")
        code.block("slow")
        phis = [Phi(code, v.kind, self.width) for v in first]
        i = Phi(code, "i64", 1)
        bundle = [phi.value for phi in phis]
        x, g, state = bundle[:n], bundle[n : 2 * n], bundle[2 * n : -5]
        f, _, active, steps, status = bundle[-5:]
        code.line("br label %slow.body")
        code.block("slow.body")
        new_x, new_state = self.update(i.value.text, x, g, state, f)
        new_f, new_g, path = self.value(new_x, False)
        new_norm = self.measure(new_x, new_g)
        good = self.finite([new_f, *new_g, *new_x])
        taken = self.both(active, self.both(good, path))
        met = code.compare("ole", new_norm, self.tolerance)
        grown = self.grown(new_f, new_x, self.f_limit, self.x_limit)
        kept = [
            code.select(taken, after, old)
            for after, old in zip((*new_x, *new_g, *new_state, new_f, new_norm), bundle[:-3], strict=True)
        ]
        counted = Value(
            code.raw(f"zext {of_type(BOOL, self.width)} {taken.text} to {of_type('i32', self.width)}"),
            "i32",
            self.width,
        )
        more = Value(code.raw(f"add {of_type('i32', self.width)} {steps.text}, {counted.text}"), "i32", self.width)
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
        for phi, start, last in zip(phis, first, done, strict=True):
            phi.close((start, before), (last, "slow.body"))
        i.close((Value(t, "i64"), before), (Value(following, "i64"), "slow.body"))
        code.block("slow.end")
        code.line("br label %chunks")
        return [*done[:n], *done[2 * n :]], end, "slow.end"
