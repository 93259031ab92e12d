"""Large arrays in machine code: a graph as a few passes over memory, with what NumPy does better left to NumPy.

What is computed element by element becomes *kernels*; matmul, sort, fft and all that has no code here stays with
NumPy, between them. A kernel is a sequence of *passes*: one loop over one index i, in which everything that can be
computed by then is computed. A pass ends where a reduction's result is needed, or an element that another iteration
computes.

Writes into slices take their gather form: element i of the result is the written value if i is in the slice, else the
element before. The ends of these ranges are known, so the loop is cut there: between the cuts it is vector code without
branches; the blocks around a cut are done element by element.

A sum's order is fixed and depends only on the operand's size: of each chunk of `CHUNK` elements, element k goes to
running sum k mod `BLOCK`; the running sums are added as a tree, (s0 + s8) + (s16 + s24), …, and then the totals of all
chunks are added pairwise. The order is the same on every machine, whatever else the loop computes. prod, max, min, any
and all are reduced in the same way. float32 is summed in float32, as NumPy does.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from koubai.errors import CompileError
from koubai.execute import library
from koubai.execute.arrays import compile_arrays
from koubai.execute.elements import NotLowerable
from koubai.execute.ir import BOOL, TAGS, Code, Function, Value
from koubai.execute.llvm import (
    DATA,
    KINDS,
    Emitter,
    combiner,
    cost,
    elementwise,
    has_code,
    held_dtype,
    module,
    scalar,
)
from koubai.execute.lower import lowered
from koubai.execute.memory import is_view, is_write
from koubai.execute.native import fingerprint
from koubai.graph.graph import CAPTURED, CONSTANT, INPUT, LEAVES, Graph, Guard, Node, statement
from koubai.graph.ops import Monoid

__all__ = ["SHARE", "compile_loops", "fitted", "left_to_numpy"]

VECTOR = 8  # lanes of a load
BLOCK = 32  # elements that vector code takes at least: so many running sums hide the latency of an addition
CHUNK = 1024  # elements that are added up before their total is stored
EXPENSIVE = 20  # operations from which on a value is kept in memory rather than computed twice
UNROLLED = 40  # lines of code up to which four vectors are taken in one iteration
SPANS = 4  # between cuts, for which a loop has vector code of its own
WORK = 800  # operations per element in all passes of a kernel, at most
PASSES = 64  # passes of a kernel, at most
SHARE = 4  # elements of kernels per element of NumPy's, from which on a program of both pays
EVERY = 4  # step of a slice that is written, at most
NODES = 1000  # nodes of a graph, at most: with more, finding the passes takes long
ROUNDS = 30  # rounds of deciding what to keep, at most
ELEMENTS = 1000  # elements of all nodes that one iteration needs, at most
LINES = 6000  # lines of code in a kernel, at most

Key = tuple[int, int]  # (step, offset): element step * i + offset


# -- what a node is to a loop -----------------------------------------------------------------------------------------


class _Part(NamedTuple):
    """Elements of a node that are those of another: element j is its element (step * j + offset) / every.

    They are those with start <= j < stop for which this is a whole number.
    """

    start: int
    stop: int
    node: int
    step: int
    offset: int
    every: int = 1


class _Need(NamedTuple):
    """Elements step * i + offset of a node, needed while low <= i < high; part: among a form's parts."""

    node: int
    step: int
    offset: int
    low: int
    high: int
    part: int = -1

    @property
    def key(self) -> Key:
        return self.step, self.offset


class _Wanted(NamedTuple):
    """An element that a loop needs while low <= i < high. given: it is read from memory, or a number."""

    low: int
    high: int
    given: bool = False


class _KeepError(Exception):
    """A node must be kept in memory."""

    def __init__(self, node: int) -> None:
        super().__init__(node)
        self.node = node


class _UnevenError(_KeepError):
    """A loop over single elements needs one of a node of which only every second element, say, is written."""

    def __init__(self, node: int, every: int) -> None:
        super().__init__(node)
        self.every = every


class _Form(NamedTuple):
    """What a node is: kind "leaf", "elementwise", "view" (of one part), "joined" (of parts) or "reduction".

    The last of the parts has the elements that no other has. added: it has all, and the others are added to them.
    """

    kind: str
    cost: int = 0
    parts: tuple[_Part, ...] = ()
    added: bool = False


def _size(node: Node) -> int:
    return math.prod(node.shape)


def _line(array: Any) -> tuple[int, int] | None:
    """Return (step, size) if the elements are evenly spaced in memory, in their order; else None."""
    step = size = 1
    for n, stride in zip(array.shape[::-1], array.strides[::-1], strict=True):
        if n == 1:
            continue
        if size == 1:
            step = stride
        elif stride != step * size:
            return None
        size *= n
    return step, size


def _shown(node: Node, shape: tuple[int, ...], view_of: Callable[[Any], Any]) -> Key:
    """Return which elements of such an array a view shows. Raises NotLowerable if they are not evenly spaced."""
    base = np.empty(shape, np.int8)
    view = view_of(base)
    line = _line(view)
    if line is None or not np.may_share_memory(view, base):
        raise NotLowerable(f"{node.op.name} that rearranges")
    return line[0], view.__array_interface__["data"][0] - base.__array_interface__["data"][0]


def _form(nodes: Sequence[Node], i: int) -> _Form:
    """Return what node ``i`` is to a loop. Raises NotLowerable if there is no code for it."""
    node = nodes[i]
    op, size, given = node.op, _size(node), [nodes[j] for j in node.inputs]
    if op in LEAVES:
        return _Form("leaf")
    if not size or KINDS.get(node.dtype) is None:
        raise NotLowerable(f"{op.name} of {node.dtype}, shape {node.shape}")
    if op.elementwise:
        if any(_size(n) not in (1, size) for n in given):
            raise NotLowerable(f"{op.name} that spreads rows or columns")
        return _Form("elementwise", cost(node, given, 1 if size == 1 else VECTOR))
    if op.fills is not None:
        return _Form("elementwise")
    if any(n.dtype not in KINDS and not (n.op is CONSTANT and n.dtype is None) for n in given):
        raise NotLowerable(f"{op.name} of {[n.dtype for n in given]}")
    if op.reduces is not None:
        if size != 1 or not _size(given[0]):
            raise NotLowerable(f"{op.name} along an axis")
        combiner(op.reduces)
        return _Form("reduction", 1)
    if is_view(node):
        if op.index == "reads":
            items = node.params["index"].items
            items = items if Ellipsis in items else (*items, ...)
            step, offset = _shown(node, given[0].shape, lambda base: base[items])
        else:
            step, offset = _shown(node, given[0].shape, lambda base: op.call(base, **node.params))
        return _Form("view", 0, (_Part(0, size, node.inputs[0], step, offset),))
    if is_write(node) and not node.params["index"].holes:
        items = node.params["index"].items
        items = items if Ellipsis in items else (*items, ...)
        step, offset = _shown(node, node.shape, lambda base: base[items])
        count = _size(nodes[i]) and math.prod(np.empty(node.shape, np.int8)[items].shape)
        before = _Part(0, size, node.inputs[0], 1, 0)
        if not count:
            return _Form("view", 0, (before,))
        step = 1 if count == 1 else step
        if _size(given[1]) not in (1, count):
            raise NotLowerable(f"{op.name} that spreads rows or columns")
        if not 0 < abs(step) <= EVERY:
            raise NotLowerable(f"{op.name} with wide gaps")
        start, stop = sorted((offset, offset + step * (count - 1)))
        one = 1 if step > 0 else -1
        part = _Part(start, stop + 1, node.inputs[1], one, -one * offset, abs(step))
        return _Form("joined", 1, (part, before), op.index == "adds")
    if op.parts is not None and math.prod(node.shape[: node.params["axis"]]) == 1:
        parts, start = [], 0
        for j in node.inputs:
            stop = start + _size(nodes[j])
            if stop > start:
                parts.append(_Part(start, stop, j, 1, -start))
            start = stop
        return _Form("joined", 1, tuple(parts))
    raise NotLowerable(op.name)


# -- what is computed in which pass -----------------------------------------------------------------------------------


class _Passes:
    """A kernel's graph, cut into passes. A *number* is a node of one element: it is computed between them.

    stored: the arrays that are written to memory; kept: those that are not outputs, because a later pass, or another
    iteration of the same loop, would have to compute them again.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph, self.nodes = graph, graph.nodes
        self.sizes = [_size(node) for node in graph.nodes]
        self.forms = [_form(graph.nodes, i) for i in range(len(graph.nodes))]
        self.outputs = list(dict.fromkeys(i for i in graph.outputs if self.sizes[i] > 1))
        self.kept: set[int] = set()
        expensive = EXPENSIVE
        for _ in range(ROUNDS):
            try:
                self._order()
                work, chosen = self._worth_keeping(expensive)
            except _KeepError as error:
                self.kept.add(error.node)
                continue
            self.kept |= chosen
            if not chosen and (work <= WORK or expensive == 1):
                break
            if not chosen:  # keep more, to compute less
                expensive //= 2
        else:
            raise NotLowerable("no order of passes was found")
        if work > WORK or len(self.passes()) > PASSES:
            raise NotLowerable("too much to be done in one loop")

    @property
    def stored(self) -> set[int]:
        return self.kept.union(self.outputs)

    def needs(self, i: int, key: Key, low: int, high: int) -> list[_Need]:
        """Return the elements of other nodes from which element step * i + offset of node ``i`` is computed.

        Of parts, the last stands for all places that are in no other. Raises _UnevenError.
        """
        step, offset = key
        form = self.forms[i]
        if form.kind == "elementwise":
            return [self._need(j, step, offset, low, high) for j in self.nodes[i].inputs]
        found = []
        first, last = low, high  # what is left
        for n, part in enumerate(form.parts):
            begin, end = first, last
            if n < len(form.parts) - 1:
                if part.step * step % part.every:
                    raise _UnevenError(i, part.every)
                if (part.step * offset + part.offset) % part.every:
                    continue
                begin, end = self._range(part, key, low, high)
                if begin <= first:
                    first = max(first, end)
                elif end >= last:
                    last = min(last, begin)
            elif form.added:
                begin, end = low, high
            if begin < end:
                j = (part.step * step // part.every, (part.step * offset + part.offset) // part.every)
                found.append(self._need(part.node, *j, begin, end, n))
        return found

    def _need(self, j: int, step: int, offset: int, low: int, high: int, part: int = -1) -> _Need:
        return _Need(j, step, offset, low, high, part) if self.sizes[j] > 1 else _Need(j, 0, 0, low, high, part)

    @staticmethod
    def _range(part: _Part, key: Key, low: int, high: int) -> tuple[int, int]:
        """Return for which of low <= i < high the element is in the part."""
        step, offset = key
        if step == 0:
            return (low, high) if part.start <= offset < part.stop else (low, low)
        if step > 0:  # the first i at or beyond each end
            begin, end = -((offset - part.start) // step), -((offset - part.stop) // step)
        else:
            begin, end = (offset - part.stop) // -step + 1, (offset - part.start) // -step + 1
        return (begin, end) if (begin := max(begin, low)) < (end := min(end, high)) else (low, low)

    def demands(self, roots: Sequence[_Need], ends: Callable[[int, Key], bool]) -> dict[int, dict[Key, _Wanted]]:
        """Return the elements that are needed for ``roots``, by node, in order.

        ends(node, key): whether this element of an array is read from memory. Raises _UnevenError.
        """
        wanted: dict[int, dict[Key, _Wanted]] = {}
        count = 0
        for root in roots:
            self._want(wanted, root)
        for i in range(max(wanted, default=-1), -1, -1):
            for key, (low, high, _) in wanted.get(i, {}).items():
                if self.sizes[i] == 1 or self.forms[i].kind == "leaf" or ends(i, key):
                    wanted[i][key] = _Wanted(low, high, True)
                    continue
                count += 1
                if count > ELEMENTS:
                    raise _KeepError(self._needed_most(wanted))
                for need in self.needs(i, key, low, high):
                    self._want(wanted, need)
        return {i: wanted[i] for i in sorted(wanted)}

    def _needed_most(self, wanted: dict[int, dict[Key, _Wanted]]) -> int:
        able = [i for i in wanted if self.sizes[i] > 1 and self.forms[i].kind in ("elementwise", "joined")]
        able = [i for i in able if i not in self.stored]
        if not able:
            raise NotLowerable("too many elements of one array for each of another")
        return max(able, key=lambda i: len(wanted[i]))

    @staticmethod
    def _want(wanted: dict[int, dict[Key, _Wanted]], need: _Need) -> None:
        keys = wanted.setdefault(need.node, {})
        low, high, _ = keys.get(need.key, _Wanted(need.low, need.high))
        keys[need.key] = _Wanted(min(low, need.low), max(high, need.high))

    def own(self, i: int, key: Key) -> bool:
        """Return whether the iteration that needs this element stores it itself."""
        return key[0] == self.every[i] and 0 <= key[1] < key[0]

    def in_memory(self, number: int) -> Callable[[int, Key], bool]:
        """Return the function that says whether pass ``number`` finds an element in memory."""
        stored = self.stored

        def found(i: int, key: Key) -> bool:
            if i not in stored or i not in self.level:
                return False
            if i in self.kept:  # in the pass that makes it, each iteration has its own element
                return self.level[i] != number or not self.own(i, key)
            return self.level[i] < number

        return found

    def _order(self) -> None:
        """Find the pass of each reduction and stored array, and the pass before which each number is known.

        every: how many elements of a stored array an iteration makes, so that each is of one part.
        Raises _UnevenError.
        """
        self.level: dict[int, int] = {}
        self.ready: dict[int, int] = {}
        self.every: dict[int, int] = {}
        stored = self.stored
        for i, node in enumerate(self.nodes):
            if self.sizes[i] == 1:
                arrays = [j for j in node.inputs if self.sizes[j] > 1]
                if self.forms[i].kind == "reduction" and arrays:
                    self.every[i] = 1
                    self.level[i] = self._earliest(self.roots([i]))
                    self.ready[i] = self.level[i] + 1
                elif arrays:  # some elements of an array
                    self.ready[i] = self._earliest(
                        [need for need in self.needs(i, (0, 0), 0, 1) if need.node in arrays]
                    )
                    numbers = [need.node for need in self.needs(i, (0, 0), 0, 1) if need.node not in arrays]
                    self.ready[i] = max([self.ready[i], *(self.ready[j] for j in numbers)])
                else:
                    self.ready[i] = max((self.ready[j] for j in node.inputs if self.sizes[j] == 1), default=0)
            elif i in stored and self.forms[i].kind != "leaf":
                self.every[i] = 1
                while True:
                    try:
                        level = self._earliest(self.roots([i]))
                        break
                    except _UnevenError as error:
                        self.every[i] *= error.every
                        if self.every[i] > EVERY:  # gaps within gaps
                            raise
                self.level[i] = level

    def _earliest(self, roots: Sequence[_Need]) -> int:
        number = 0
        while True:
            after = self._after(roots, number)
            if after <= number:
                return number
            number = after

    def _after(self, roots: Sequence[_Need], number: int) -> int:
        """Return the pass from which on ``roots`` can be computed, assuming it to be ``number``."""
        after = number
        for i, keys in self.demands(roots, self.in_memory(number)).items():
            if self.sizes[i] == 1:
                after = max(after, self.ready[i])
            elif i in self.kept and self.level.get(i, -1) >= number:
                elsewhere = any(not self.own(i, key) for key in keys)
                after = max(after, self.level[i] + elsewhere)
        return after

    def passes(self) -> list[list[int]]:
        """Return the arrays stored and the reductions made in each pass."""
        found: list[list[int]] = [[] for _ in range(max(self.level.values(), default=-1) + 1)]
        for i, number in self.level.items():
            found[number].append(i)
        return found

    def roots(self, sinks: Sequence[int]) -> list[_Need]:
        """Return what a loop computes for each of these: for a reduction, an element of its operand."""
        found = []
        for i in sinks:
            made, every = self.nodes[i].inputs[0] if self.sizes[i] == 1 else i, self.every[i]
            found += [_Need(made, every, k, 0, -((k - self.sizes[made]) // every), k) for k in range(every)]
        return found

    def jobs(self, sinks: Sequence[int]) -> list[tuple[int, _Need]]:
        """Return the roots, each with the node that it is for."""
        return [(i, root) for i in sinks for root in self.roots([i])]

    def _worth_keeping(self, expensive: int) -> tuple[int, set[int]]:
        """Return the operations of all passes, and what is computed more than once and costs ``expensive`` or more."""
        times: dict[int, float] = {}
        work = 0
        for number, sinks in enumerate(self.passes()):
            for i, keys in self.demands(self.roots(sinks), self.in_memory(number)).items():
                for (step, _), (_, _, given) in keys.items():
                    if not given:
                        times[i] = times.get(i, 0.0) + 1 / max(1, abs(step))
                        work += self.forms[i].cost
        several = [i for i, count in times.items() if count > 1.01 and i not in self.kept]
        chosen = {i for i in several if self.forms[i].kind != "view" and self._whole_cost(i) >= expensive}
        readers: dict[int, list[int]] = {}
        for i in times:
            for j in self.nodes[i].inputs:
                readers.setdefault(j, []).append(i)
        # if its only reader is kept, an operand need not be
        return work, {i for i in chosen if not (len(readers[i]) == 1 and readers[i][0] in chosen)}

    def _whole_cost(self, i: int) -> int:
        stored = self.stored
        root = [_Need(i, math.lcm(*range(1, EVERY + 1)) ** 2, 0, 0, 1)]
        wanted = self.demands(root, lambda j, _: j != i and j in stored)
        return sum(self.forms[j].cost * (not w.given) for j, keys in wanted.items() for w in keys.values())

    def cuts(self, number: int, sinks: Sequence[int]) -> list[int]:
        """Return the indices at which the loop of a pass is cut, with its beginning and end."""
        roots = self.roots(sinks)
        found = {0} | {root.high for root in roots}
        for i, keys in self.demands(roots, self.in_memory(number)).items():
            for key, (low, high, given) in keys.items():
                if self.forms[i].kind == "joined" and not given:
                    for need in self.needs(i, key, low, high):
                        found |= {need.low, need.high}
        return sorted(found)


# -- the code of one kernel -------------------------------------------------------------------------------------------


class _Workspace:
    """Where a kernel stores what goes from pass to pass, in bytes from the start of its workspace.

    number: each number's place, in a double; totals: those of a reduction's chunks; kept: the arrays that are not
    outputs, each until nothing reads it any more.
    """

    def __init__(self, passes: _Passes) -> None:
        self.size = 0
        self.number = {i: self._take(8) for i, size in enumerate(passes.sizes) if size == 1}
        self.totals: dict[int, int] = {}
        self.kept: dict[int, int] = {}
        free: list[tuple[int, int]] = []  # (bytes, start)
        last = self._last_reads(passes)
        for number, sinks in enumerate(passes.passes()):
            length = max(root.high for root in passes.roots(sinks))
            for i, start in self.kept.items():
                if last[i] == number - 1:
                    free.append((self._bytes(passes, i), start))
            for i in sinks:
                if passes.sizes[i] == 1:
                    self.totals[i] = self._take(8 * -(-length // CHUNK), 64)
                elif i not in passes.outputs:
                    size = self._bytes(passes, i)
                    fitting = min((slot for slot in free if slot[0] >= size), default=None)
                    if fitting is not None:
                        free.remove(fitting)
                    self.kept[i] = self._take(size, 64) if fitting is None else fitting[1]

    @staticmethod
    def _bytes(passes: _Passes, i: int) -> int:
        return passes.sizes[i] * held_dtype(passes.nodes[i]).itemsize

    @staticmethod
    def _last_reads(passes: _Passes) -> dict[int, int]:
        """Return the last pass in which, or before which, each kept array is read."""
        last = {i: passes.level[i] for i in passes.kept}
        for number, sinks in enumerate(passes.passes()):
            for i in passes.demands(passes.roots(sinks), passes.in_memory(number)):
                if i in last:
                    last[i] = max(last[i], number)
        for i, ready in passes.ready.items():
            if passes.forms[i].kind in ("view", "joined"):
                needs = passes.needs(i, (0, 0), 0, 1)
                for j in passes.demands(needs, passes.in_memory(ready)):
                    if j in last:
                        last[j] = max(last[j], ready)
        return last

    def _take(self, size: int, aligned: int = 8) -> int:
        start = -(-self.size // aligned) * aligned
        self.size = start + size
        return start


class _Code(Function):
    """A function of a kernel. work, arrays: its memory; own: its further arguments; sums: the running sums."""

    def __init__(self, name: str, arrays: Sequence[int], *own: str | tuple[str, str]) -> None:
        super().__init__(name, "void", ["work", *(f"a{i}" for i in arrays), *own], internal=True)
        self.work, *pointers = self.arguments
        self.arrays = dict(zip(arrays, pointers, strict=False))
        self.own = pointers[len(arrays) :]
        self.sums: Value = self.work


class _Body:
    """Writes the code of elements, in one iteration of a loop or outside of any.

    numbers: the nodes known already; checked: an index may be out of range, and is clipped.
    """

    def __init__(
        self,
        passes: _Passes,
        code: Code,
        arrays: Mapping[int, Value],
        lanes: int,
        ends: Callable[[int, Key], bool],
        numbers: Callable[[int], Value],
        checked: bool = False,
    ) -> None:
        self.passes, self.nodes, self.code, self.arrays = passes, passes.nodes, code, arrays
        self.lanes, self.ends, self.number, self.checked = lanes, ends, numbers, checked

    def kind(self, i: int) -> str:
        return KINDS[held_dtype(self.nodes[i])]

    def write(self, roots: Sequence[_Need], i: Value, shift: int = 0) -> list[Value]:
        """Return the roots' elements at index ``i`` + ``shift``, or from there on if there are several lanes."""
        values: dict[tuple[int, Key], Value] = {}
        for n, keys in self.passes.demands(roots, self.ends).items():
            for key, (low, high, given) in keys.items():
                if self.passes.sizes[n] == 1:
                    value = self.number(n)
                elif given:
                    value = self._load(n, key, i, shift)
                else:
                    needs = self.passes.needs(n, key, low, high)
                    parts = [(need, values[need.node, need.key]) for need in needs]
                    value = self._computed(n, parts, (low, high), i)
                values[n, key] = value
        return [values[root.node, root.key] for root in roots]

    def _computed(self, n: int, parts: Sequence[tuple[_Need, Value]], whole: tuple[int, int], i: Value) -> Value:
        node, code = self.nodes[n], self.code
        form = self.passes.forms[n]
        if node.op.fills is not None:
            return code.constant(float(node.op.fills), self.kind(n))
        if form.kind == "elementwise":
            return elementwise(code, node, [v for _, v in parts], [self.nodes[j] for j in node.inputs])
        (_, last), rest = parts[-1], parts[:-1]
        total = code.cast(last, self.kind(n))
        for need, v in rest:
            written = code.cast(v, self.kind(n))
            written = total + written if form.added else written
            if (need.low, need.high) == whole:
                total = written
            elif not self.checked:
                raise CompileError(f"a loop is not cut where the parts of node {n} meet")
            else:
                inside = code.compare("ult", i - need.low, need.high - need.low)
                total = code.select(inside, written, total)
        return total

    @staticmethod
    def _place(key: Key, i: Value, shift: int) -> Value:
        """Return the number of the element."""
        step, offset = key
        scaled = i if step == 1 else i * step
        constant = step * shift + offset
        return scaled + constant if constant else scaled

    def _load(self, n: int, key: Key, i: Value, shift: int) -> Value:
        code, step = self.code, key[0]
        place = self._place(key, i, shift) if step else i.like(key[1])
        if self.checked:
            place = code.intrinsic("smax", place, 0)
            place = code.intrinsic("smin", place, self.passes.sizes[n] - 1)
        if self.lanes == 1:
            return self._from_memory(n, place, 1)
        if abs(step) == 1:
            v = self._from_memory(n, place if step == 1 else place + (1 - VECTOR), VECTOR)
            return v if step == 1 else code.shuffled(reversed(range(VECTOR)), v)
        if abs(step) == 2:  # two vectors that share one element, so that none is read that may not be there
            first = place if step == 2 else place + (2 - 2 * VECTOR)
            both = [self._from_memory(n, at, VECTOR) for at in (first, first + (VECTOR - 1))]
            chosen = [k if k < VECTOR else k + 1 for k in range(0, 2 * VECTOR, 2)]
            return code.shuffled(chosen if step == 2 else chosen[::-1], *both)
        return code.pack([self._from_memory(n, place + k * step, 1) for k in range(VECTOR)])

    def _from_memory(self, n: int, place: Value, lanes: int) -> Value:
        return self.code.load(self.arrays[n], place, self.kind(n), lanes, 1)

    def store(self, n: int, made: Sequence[tuple[_Need, Value]], i: Value, shift: int = 0) -> None:
        """Store what this iteration makes of array ``n``."""
        code, kind = self.code, self.kind(n)
        values = [code.splat(code.cast(v, kind), self.lanes) for _, v in made]
        if kind == BOOL:
            values = [v.to("zext", "i8") for v in values]

        def put(v: Value, place: Value) -> None:
            code.store(v, self.arrays[n], place, 1)

        if self.lanes > 1 and len(values) == 2 == self.passes.every[n]:  # interleaved
            for half in (0, VECTOR // 2):
                chosen = [half + k // 2 + k % 2 * VECTOR for k in range(VECTOR)]
                put(code.shuffled(chosen, *values), self._place((2, 2 * half), i, shift))
            return
        for (need, _), v in zip(made, values, strict=True):
            if self.lanes == 1 or need.step == 1:
                put(v, self._place(need.key, i, shift))
                continue
            for k in range(VECTOR):
                put(code.lane(v, k), self._place(need.key, i, shift + k))


class _Kernel:
    """A graph that is all machine code. read: the inputs that are arrays; written: the outputs."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.passes = passes = _Passes(graph)
        self.memory = _Workspace(passes)
        nodes = graph.nodes
        self.read = [i for i in graph.inputs if passes.sizes[i] > 1]
        self.written = passes.outputs
        self.pointers = [*self.read, *self.written]
        self.arrays = [*self.pointers, *self.memory.kept]
        for i in self.written:
            if nodes[i].op in LEAVES:
                raise NotLowerable("an output that is an input")
        key = b"loops" + fingerprint(graph)
        self.library = library.load(key, lambda: module(*self._functions()))
        pointer = ctypes.c_void_p
        arguments = [pointer] * (1 + len(self.pointers))
        self.call = self.library.function("kernel", ctypes.c_bool, *arguments)

    # -- functions

    def _functions(self) -> list[Function]:
        functions: list[Function] = []
        combines: dict[str, Function] = {}
        for number, sinks in enumerate(self.passes.passes()):
            functions += _Loop(self, number, sinks).functions()
            for i in sinks:
                if self.passes.sizes[i] == 1:
                    combines.setdefault(*self._combine(i))
        functions += [*combines.values(), self._main()]
        if sum(len(function.lines) for function in functions) > LINES:
            raise NotLowerable("too much code")
        return functions

    def carried(self, i: int) -> str:
        """Return the type in which a reduction is carried."""
        kind = KINDS[self.passes.nodes[self.passes.nodes[i].inputs[0]].dtype]
        return "double" if kind == BOOL else kind

    def monoid(self, i: int) -> Monoid:
        monoid = self.passes.nodes[i].op.reduces
        assert monoid is not None
        return monoid

    def combine_name(self, i: int) -> str:
        return f"combine.{self.monoid(i).join}.{TAGS[self.carried(i)]}"

    def combiner(self, i: int) -> Emitter:
        """Return the code that combines two results of a reduction."""
        return combiner(self.monoid(i))

    def first(self, code: Code, i: int) -> Value:
        """Return the neutral element of a reduction."""
        return code.constant(self.monoid(i).neutral, self.carried(i))

    def _combine(self, i: int) -> tuple[str, Function]:
        """Write the function that combines totals pairwise, in place."""
        name, kind = self.combine_name(i), self.carried(i)
        code = Function(name, "void", ["totals", ("i64", "count")], internal=True)
        totals, count = code.arguments
        with code.loop(carried=[count]) as level:
            (n,) = level.carried
            level.leave(unless=n > 1)
            half = n >> 1
            with code.loop(0, half, once=True) as pair:
                both = code.at(totals, pair.index << 1, kind)
                total = self.combiner(i)(code, code.load(both, 0, kind), code.load(both, 1, kind))
                code.store(total, totals, pair.index)
            odd = n & 1
            with code.when(odd.differs(0)):
                code.store(code.load(totals, n - 1, kind), totals, half)
            level.again(half + odd)
        code.ret()
        return name, code

    def load_number(self, code: Code, work: Value, i: int) -> Value:
        """Load a number that an earlier pass, or the caller, has stored in the workspace."""
        v = code.load(code.at(work, self.memory.number[i], "i8"), 0, "double")
        return code.cast(v, KINDS[held_dtype(self.passes.nodes[i])])

    def _main(self) -> Function:
        """Write the function that computes the numbers and calls the passes."""
        passes, nodes, graph = self.passes, self.passes.nodes, self.graph
        code = Function("kernel", BOOL, ["work", *(f"o{i}" for i in self.pointers)])
        work, *objects = code.arguments
        arrays = {i: code.load(code.at(o, DATA, "i8"), 0, "ptr") for i, o in zip(self.pointers, objects, strict=True)}
        arrays |= {i: code.at(work, offset, "i8") for i, offset in self.memory.kept.items()}
        known: dict[int, Value] = {}
        by_pass = passes.passes()
        for number in range(max([len(by_pass), *(ready + 1 for ready in passes.ready.values())])):
            for i, ready in passes.ready.items():
                if ready == number:
                    known[i] = self._number(code, work, arrays, i, known)
                    if nodes[i].op is not INPUT and nodes[i].dtype is not None:
                        code.store(code.cast(known[i], "double"), code.at(work, self.memory.number[i], "i8"))
            if number < len(by_pass):
                code.call(f"pass{number}", "void", work, *arrays.values())
                for i in by_pass[number]:
                    if passes.sizes[i] == 1:
                        count = code.constant(-(-passes.sizes[nodes[i].inputs[0]] // CHUNK), "i64")
                        code.call(self.combine_name(i), "void", code.at(work, self.memory.totals[i], "i8"), count)
        asked = []
        for guard in graph.guards:
            answer = code.cast(known[guard.node], BOOL)
            asked.append(answer if guard.expected else ~answer)
        code.ret(code.all(asked))
        return code

    def _number(self, code: Code, work: Value, arrays: Mapping[int, Value], i: int, known: dict[int, Value]) -> Value:
        passes, node = self.passes, self.passes.nodes[i]
        form = passes.forms[i]
        if node.op is INPUT:
            return self.load_number(code, work, i)
        if node.op is CONSTANT:
            return scalar(code, node)
        kind = KINDS[held_dtype(node)]
        if node.op.fills is not None:
            return code.constant(float(node.op.fills), kind)
        given = [passes.nodes[j] for j in node.inputs]
        if form.kind == "elementwise":
            return elementwise(code, node, [known[j] for j in node.inputs], given, True)
        if form.kind == "reduction":
            if passes.sizes[node.inputs[0]] == 1:
                one = code.cast(known[node.inputs[0]], self.carried(i))
                return code.cast(self.combiner(i)(code, self.first(code, i), one), kind)
            total = code.load(code.at(work, self.memory.totals[i], "i8"), 0, self.carried(i))
            return code.cast(total, kind)
        body = _Body(passes, code, arrays, 1, passes.in_memory(passes.ready[i]), known.__getitem__)
        needs, here = passes.needs(i, (0, 0), 0, 1), code.constant(0, "i64")
        values = [code.cast(v, kind) for v in (body.write([need], here)[0] for need in needs)]
        return values[1] + values[0] if form.added and len(values) > 1 else values[0]


class _Loop:
    """Writes one pass: the functions ``pass``, with the vector code, ``scalar`` for the blocks around the cuts, and
    ``flush``, which stores a chunk's totals.
    """

    def __init__(self, kernel: _Kernel, number: int, sinks: Sequence[int]) -> None:
        self.kernel, self.passes, self.number, self.sinks = kernel, kernel.passes, number, sinks
        self.jobs = self.passes.jobs(sinks)
        self.roots = [root for _, root in self.jobs]
        self.reductions = [i for i in sinks if self.passes.sizes[i] == 1]
        self.cuts = self.passes.cuts(number, sinks)
        self.ends = self.passes.in_memory(number)
        wanted = self.passes.demands(self.roots, self.ends)
        self.numbers = [i for i in wanted if self.passes.sizes[i] == 1]

    def functions(self) -> list[Function]:
        found = [self._scalar(), self._pass()]
        return [self._flush(), *found] if self.reductions else found

    def _ranges(self) -> Iterator[tuple[int, int, bool]]:
        """Yield (start, stop, whether it is vector code) in order."""
        found = []
        for first, last in zip(self.cuts[:-1], self.cuts[1:], strict=True):
            start, stop = -(-first // BLOCK) * BLOCK, last // BLOCK * BLOCK
            if start < stop:
                found.append((start, stop))
        found = sorted(sorted(found, key=lambda s: s[0] - s[1])[:SPANS])
        at = 0
        for start, stop in found:
            if at < start:
                yield at, start, False
            yield start, stop, True
            at = stop
        if at < self.cuts[-1]:
            yield at, self.cuts[-1], False

    def _known(self, code: _Code, lanes: int) -> Callable[[int], Value]:
        """Load the numbers that the loop needs, before it begins."""
        values = {}
        for i in self.numbers:
            if self.passes.nodes[i].op is CONSTANT:
                values[i] = scalar(code, self.passes.nodes[i])
            else:
                values[i] = code.splat(self.kernel.load_number(code, code.work, i), lanes)
        return values.__getitem__

    def _reduced(self, code: Code, i: int, total: Value, v: Value, lanes: int) -> Value:
        """Return the total with another element (or vector of them) of a reduction's operand."""
        return self.kernel.combiner(i)(code, total, code.splat(code.cast(v, self.kernel.carried(i)), lanes))

    def _sum_place(self, code: _Code, i: int, k: int | Value) -> Value:
        """Return the address of running sum ``k`` of a reduction."""
        sums = code.at(code.sums, 8 * BLOCK * self.reductions.index(i), "i8")
        return code.at(sums, k, self.kernel.carried(i))

    def _load_sums(self, code: _Code, i: int, k: int) -> Value:
        return code.load(self._sum_place(code, i, k * VECTOR), 0, self.kernel.carried(i), VECTOR, 8)

    def _store_sums(self, code: _Code, i: int, k: int, v: Value) -> None:
        code.store(v, self._sum_place(code, i, k * VECTOR), align=8)

    def _begin(self, code: _Code) -> None:
        for i in self.reductions:
            first = self.kernel.first(code, i)
            for k in range(BLOCK // VECTOR):
                self._store_sums(code, i, k, code.splat(first, VECTOR))

    def _flush(self) -> Function:
        code = _Code(f"flush{self.number}", self.kernel.arrays, "sums", ("i64", "chunk"))
        code.sums, chunk = code.own
        for i in self.reductions:
            combine = self.kernel.combiner(i)
            vectors = [self._load_sums(code, i, k) for k in range(BLOCK // VECTOR)]
            while len(vectors) > 1:
                vectors = [combine(code, a, b) for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
            totals = code.at(code.work, self.kernel.memory.totals[i], "i8")
            code.store(code.folded(combine, vectors[0]), totals, chunk)
        self._begin(code)
        code.ret()
        return code

    def _scalar(self) -> Function:
        """Write the loop over single elements, which finds out for each in which ranges it is."""
        sums = ["sums"] if self.reductions else []
        code = _Code(f"scalar{self.number}", self.kernel.arrays, *sums, ("i64", "start"), ("i64", "stop"))
        *given, start, stop = code.own
        code.sums = given[0] if given else code.work
        body = _Body(self.passes, code, code.arrays, 1, self.ends, self._known(code, 1), checked=True)
        with code.loop(start, stop, once=True) as loop:
            values = body.write(self.roots, loop.index)
            lane = loop.index & (BLOCK - 1)
            for high in dict.fromkeys(root.high for root in self.roots):
                with code.when(loop.index < high) if high < self.cuts[-1] else contextlib.nullcontext():
                    for (i, root), v in zip(self.jobs, values, strict=True):
                        if root.high == high and i in self.reductions:
                            place = self._sum_place(code, i, lane)
                            total = code.load(place, 0, self.kernel.carried(i))
                            code.store(self._reduced(code, i, total, v, 1), place)
                        elif root.high == high:
                            body.store(i, [(root, v)], loop.index)
            if self.reductions:
                self._flush_if_full(code, loop.index + 1)
        code.ret()
        return code

    def _flush_if_full(self, code: _Code, end: Value) -> None:
        """Store a chunk's totals once it is complete."""
        with code.when((end & (CHUNK - 1)).equals(0) | end.equals(self.cuts[-1])):
            chunk = (end - 1) >> (CHUNK.bit_length() - 1)
            code.call(f"flush{self.number}", "void", code.work, *code.arrays.values(), code.sums, chunk)

    def _pass(self) -> Function:
        code = _Code(f"pass{self.number}", self.kernel.arrays)
        if self.reductions:
            code.sums = code.alloca("i8", 8 * BLOCK * len(self.reductions), 64)
            self._begin(code)
        numbers = self._known(code, VECTOR)
        sums = [code.sums] if self.reductions else []
        for start, stop, vector in self._ranges():
            ends = code.constant(start, "i64"), code.constant(stop, "i64")
            if not vector:
                code.call(f"scalar{self.number}", "void", code.work, *code.arrays.values(), *sums, *ends)
            elif not self.reductions:
                self._vectors(code, (start, stop), *ends, numbers)
            else:
                with code.loop(carried=[ends[0]]) as chunks:
                    (begin,) = chunks.carried
                    end = code.intrinsic("smin", (begin | (CHUNK - 1)) + 1, ends[1])
                    self._vectors(code, (start, stop), begin, end, numbers)
                    self._flush_if_full(code, end)
                    chunks.again(end, when=end < stop)
        code.ret()
        return code

    def _vectors(
        self, code: _Code, span: tuple[int, int], begin: Value, end: Value, numbers: Callable[[int], Value]
    ) -> None:
        """Write the vector code for begin <= i < end, which is in the span between two cuts."""
        low, high = span
        wanted = [(i, root._replace(low=low, high=high)) for i, root in self.jobs if low < root.high]
        places = [(i, k) for i, _ in wanted if i in self.reductions for k in range(BLOCK // VECTOR)]
        body = _Body(self.passes, code, code.arrays, VECTOR, self.ends, numbers)
        with code.loop(begin, end, 1, [self._load_sums(code, *place) for place in places], once=True) as loop:
            going = dict(zip(places, loop.carried, strict=True))
            unrolled, u = 1, 0
            while u < unrolled:
                before = len(code.lines)
                values = body.write([root for _, root in wanted], loop.index, u * VECTOR)
                made: dict[int, list[tuple[_Need, Value]]] = {}
                for (i, root), v in zip(wanted, values, strict=True):
                    made.setdefault(i, []).append((root, v))
                for i, parts in made.items():
                    if i in self.reductions:  # running sums rotate by one place per vector
                        going[i, u] = self._reduced(code, i, going[i, u], parts[0][1], VECTOR)
                    else:
                        body.store(i, parts, loop.index, u * VECTOR)
                if u == 0 and len(code.lines) - before <= UNROLLED:
                    unrolled = BLOCK // VECTOR
                u += 1
            loop.step = unrolled * VECTOR
            loop.again(*(going[i, (k + unrolled) % (BLOCK // VECTOR)] for i, k in places))
        for place, v in zip(places, loop.results, strict=True):  # after whole blocks each is in its own place again
            self._store_sums(code, *place, v)


# -- the whole program ------------------------------------------------------------------------------------------------


def compile_loops(graph: Graph) -> Callable[..., Any]:
    """Return ``run(*inputs)``: the outputs as a tuple, or None if a guard fails. Safe to call from several threads.

    run.passes: how often each kernel goes through memory; run.fresh: one of them is new to this process. Raises
    NotLowerable if there is little that loops could do better than NumPy.
    """
    program = _Program(graph)
    namespace: dict[str, Any] = program.namespace
    exec(compile(program.source, "<koubai: fused loops>", "exec"), namespace)
    run: Callable[..., Any] = namespace["run"]
    run.source = program.source  # type: ignore[attr-defined]
    run.release = program.release  # type: ignore[attr-defined]
    run.passes = program.passes  # type: ignore[attr-defined]
    run.left = program.left  # type: ignore[attr-defined]
    run.fresh = program.fresh  # type: ignore[attr-defined]
    return run


def left_to_numpy(graph: Graph) -> int:
    """Return how many elements NumPy computes beside the loops of a graph. Raises NotLowerable as `compile_loops`."""
    return _divided(lowered(graph, has_code).nodes)[1]


def _check_layout() -> None:
    """Raise NotLowerable if array objects are not laid out as NumPy's C interface says, as in other Pythons."""
    probe = np.zeros(1)
    if sys.implementation.name != "cpython" or (
        ctypes.c_void_p.from_address(id(probe) + DATA).value != probe.ctypes.data
    ):
        raise NotLowerable("array objects are laid out in another way")


def fitted(v: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    """Return the array as a kernel reads it."""
    array = np.ascontiguousarray(v, dtype)
    if array.shape != shape:
        raise CompileError(f"a program wants {dtype}{shape}, got {array.dtype}{array.shape}")
    return array


def _divided(nodes: Sequence[Node]) -> tuple[list[bool], int]:
    """Return which nodes are in machine code, and how many elements are left to NumPy.

    A view or a filled array that only NumPy reads is left to it. Raises NotLowerable if too much is left to NumPy for
    fusion to pay.
    """
    found, movable, work = [], [], 0
    elements = {False: 0, True: 0}  # how many NumPy (False) and kernels (True) compute
    for i, node in enumerate(nodes):
        try:
            form = _form(nodes, i)
        except NotLowerable:
            form = _Form("leaf")
        found.append(form.kind != "leaf")
        movable.append(is_view(node) or node.op.fills is not None)
        large = _size(node) > 1 or any(_size(nodes[j]) > 1 for j in node.inputs)
        work += found[i] and large and not movable[i]
        if not movable[i] and node.op not in LEAVES:
            elements[found[i]] += _size(node)
    if work < 3 or SHARE * elements[False] > elements[True]:
        raise NotLowerable("little to be fused")
    if sum(found) > NODES:
        raise NotLowerable("a graph that is too long")
    read = [False] * len(nodes)
    for i in range(len(nodes) - 1, -1, -1):
        found[i] = found[i] and (read[i] or not movable[i])
        for j in nodes[i].inputs if found[i] else ():
            read[j] = True
    return found, elements[False]


class _Program:
    """Which node is computed where: by kernels and by NumPy in alternation, in *stages*; and the generated source."""

    def __init__(self, graph: Graph) -> None:
        _check_layout()
        self.graph = graph = lowered(graph, has_code)
        self.nodes = graph.nodes
        self.lines: list[str] = []
        self.namespace: dict[str, Any] = {
            "np": np, "ndarray": np.ndarray, "empty": np.empty, "fitted": fitted, "float32": np.float32,
            "bool_": np.bool_,
        }  # fmt: skip
        self.native, _ = _divided(graph.nodes)
        self.stage = self._stages()
        self.released: list[Callable[[], None]] = []
        self.pool: list[Any] = []
        self.passes: list[int] = []
        self.fresh = False
        self.inner: list[tuple[Any, Any]] = []  # (shape, dtype) of what only this program reads
        self.source = self._text()

    def left(self) -> list[Node]:
        """Return the nodes that NumPy computes between the kernels."""
        return [
            node
            for node, native in zip(self.nodes, self.native, strict=True)
            if not native and node.op not in LEAVES and not is_view(node)
        ]

    def release(self) -> None:
        """Free the memory that is kept for the next call."""
        self.pool.clear()
        for release in self.released:
            release()

    def _stages(self) -> list[int]:
        """Number the stages: in each, a kernel comes first, then what NumPy computes from it."""
        stage: list[int] = []
        for i, node in enumerate(self.nodes):
            before = 0
            for j in node.inputs:
                later = self.native[i] and not self.native[j] and self.nodes[j].op not in LEAVES
                before = max(before, stage[j] + later)
            stage.append(before)
        return stage

    def _part(self, members: Sequence[int], native: bool) -> tuple[list[Node], dict[int, int], list[int]]:
        """Return nodes that compute ``members``, the places of these in them, and what they read from outside."""
        nodes: list[Node] = []
        new: dict[int, int] = {}
        outside: list[int] = []

        def add(i: int) -> int:
            if i in new:
                return new[i]
            node = self.nodes[i]
            constant = node.op is CONSTANT and (_size(node) == 1 or not native)
            if i in inside or constant or (not native and (node.op is CAPTURED or is_view(node))):
                node = node._replace(inputs=tuple([add(j) for j in node.inputs]))
            else:
                outside.append(i)
                dtype = held_dtype(node) if native else node.dtype
                node = Node(INPUT, (), {"name": f"v{i}"}, node.shape, dtype)
            nodes.append(node)
            new[i] = len(nodes) - 1
            return new[i]

        inside = set(members)
        for i in members:
            add(i)
        return nodes, new, outside

    def _text(self) -> str:
        graph, nodes = self.graph, self.nodes
        stages = range(max(self.stage, default=0) + 1)
        parts = []
        for number in stages:
            for native in (True, False):
                members = [
                    i for i, node in enumerate(nodes)
                    if self.stage[i] == number and self.native[i] == native and node.op not in LEAVES
                ]  # fmt: skip
                if members:
                    parts.append((native, members, *self._part(members, native)))
        asked = [guard for guard in graph.guards if not self._is_flag(guard)]
        wanted = {i for part in parts for i in part[4]}.union(graph.outputs, [guard.node for guard in asked])
        last: dict[int, int] = {}  # the last part that reads an array from outside
        for k, part in enumerate(parts):
            for i in part[4]:
                last[i] = k
        self.checked: set[int] = set()
        kernels: list[_Kernel] = []
        kept = {*graph.outputs, *graph.inputs, *(guard.node for guard in asked)}
        for k, (native, members, own, new, outside) in enumerate(parts):
            outputs = [i for i in members if i in wanted]
            guards = [
                guard._replace(node=new[guard.node])
                for guard in graph.guards
                if guard.node in members and (guard not in asked or not native)
            ]
            part_graph = Graph(own, [new[i] for i in outside], [new[i] for i in outputs], guards)
            if native:
                self._kernel(kernels, _Kernel(part_graph), outside, outputs, new)
            else:
                run = compile_arrays(part_graph)
                self.released.append(run.release)  # type: ignore[attr-defined]
                self.namespace[f"plain{k}"] = run
                self.lines.append(f"r = plain{k}({', '.join(self._name(i) for i in outside)})")
                self.lines.append("if r is None: return None")
                if outputs:
                    self.lines.append(f"{', '.join(f'v{i}' for i in outputs)}, = r")
            done = [i for i in outside if last[i] == k and i not in kept and nodes[i].op not in LEAVES]
            if done:
                self.lines.append(f"del {', '.join(f'v{i}' for i in done)}")
        for n, guard in enumerate(asked):
            if self.native[guard.node] or nodes[guard.node].op in LEAVES:
                self.namespace[f"holds{n}"] = guard.holds
                self.lines.append(f"if not holds{n}({self._name(guard.node)}): return None")
        arguments = ", ".join(f"v{i}" for i in graph.inputs)
        head = [f"def run({arguments}):"]
        if kernels:
            self._workspace(max(kernel.memory.size for kernel in kernels))
            head += ["    try:", "        held = pop()", "    except IndexError:", "        held = fresh()"]
            head.append("    work, numbers, inner = held")
            self.lines.append("push(held)")
        returned = []
        seen: set[int] = set()
        for i in graph.outputs:
            copy = nodes[i].shape and (nodes[i].op in LEAVES or i in seen)
            returned.append(f"{self._name(i)}.copy()" if copy else self._name(i))
            seen.add(i)
        self.lines.append(f"return ({', '.join(returned)},)")
        return "\n".join([*head, *(f"    {line}" for line in self.lines), ""])

    def _is_flag(self, guard: Guard) -> bool:
        """Return whether the kernel itself checks the guard."""
        node = self.nodes[guard.node]
        return type(guard.expected) is bool and _size(node) == 1 and self.native[guard.node]

    def _name(self, i: int) -> str:
        node = self.nodes[i]
        if node.op is INPUT or node.op not in LEAVES:
            return f"v{i}"
        self.namespace.setdefault(f"c{i}", node.params["value"])
        return f"c{i}"

    def _workspace(self, size: int) -> None:
        def fresh() -> Any:
            memory = np.empty(size + 64, np.uint8)
            start = -memory.ctypes.data % 64
            numbers = memory[start : start + size // 8 * 8].view(np.float64)
            return memory.ctypes.data + start, numbers, [np.empty(*form) for form in self.inner]

        self.namespace |= {"fresh": fresh, "pop": self.pool.pop, "push": self.pool.append}

    def _dtype(self, dtype: Any) -> str:
        self.namespace[f"dtype_{dtype.name}"] = dtype
        return f"dtype_{dtype.name}"

    def _kernel(
        self,
        kernels: list[_Kernel],
        kernel: _Kernel,
        outside: Sequence[int],
        outputs: Sequence[int],
        new: dict[int, int],
    ) -> None:
        nodes, lines = self.nodes, self.lines
        name = f"kernel{len(kernels)}"
        kernels.append(kernel)
        self.passes.append(len(kernel.passes.passes()))
        self.fresh |= kernel.library.origin != "memory"
        self.namespace[name] = kernel.call
        for i in outside:
            self._given(i, kernel, new[i])
        for i in outputs:
            if _size(nodes[i]) > 1:
                if i in self.graph.outputs:
                    lines.append(f"v{i} = empty({nodes[i].shape}, {self._dtype(nodes[i].dtype)})")
                else:  # only this program reads it: its memory stays
                    lines.append(f"v{i} = inner[{len(self.inner)}]")
                    self.inner.append((nodes[i].shape, nodes[i].dtype))
        old = {place: i for i, place in new.items()}
        pointers = [f"id({self._fitted_name(old[place])})" for place in kernel.pointers]
        for place in range(len(kernel.graph.nodes)):  # comments for people: what the loop computes
            node = kernel.graph.nodes[place]
            if node.op not in LEAVES:
                names = [self._shown(old[j]) for j in node.inputs]
                lines.append(f"# {statement(node, f'v{old[place]}', names)}")
        lines.append(f"if not {name}({', '.join(['work', *pointers])}): return None")
        for i in outputs:
            if _size(nodes[i]) == 1:
                number = f"numbers[{kernel.memory.number[new[i]] // 8}]"
                kind = nodes[i].dtype
                if nodes[i].shape:
                    lines.append(f"v{i} = np.full({nodes[i].shape}, {number}, {self._dtype(kind)})")
                elif kind == np.float64:
                    lines.append(f"v{i} = {number}")
                else:
                    lines.append(f"v{i} = {'float32' if kind == np.float32 else 'bool_'}({number})")

    def _fitted_name(self, i: int) -> str:
        """Return the name of an array as a kernel reads it."""
        return f"v{i}" if self.nodes[i].op is CAPTURED else self._name(i)

    def _shown(self, i: int) -> str:
        node = self.nodes[i]
        return repr(node.params["value"]) if node.op is CONSTANT and not node.shape else self._name(i)

    def _given(self, i: int, kernel: _Kernel, place: int) -> None:
        """Write what brings a node's value into the form that a kernel reads."""
        node, name = self.nodes[i], self._name(i)
        if node.op is CAPTURED:  # the caller's own array: it must still be the one that was traced
            dtype = self._dtype(node.dtype)
            self.lines.append(f"if {name}.shape != {node.shape} or {name}.dtype != {dtype}: return None")
        if _size(node) == 1:
            self.lines.append(f"numbers[{kernel.memory.number[place] // 8}] = {name}{'.item()' if node.shape else ''}")
            return
        if i in self.checked or (self.native[i] and node.op not in LEAVES):
            return
        if node.op is CONSTANT:
            held = np.array(node.params["value"], held_dtype(node), order="C")
            self.namespace[name] = held
            return
        self.checked.add(i)
        dtype = self._dtype(node.dtype)
        if node.op is CAPTURED:  # its name stays the caller's array
            self.lines.append(f"v{i} = {name}")
            name = f"v{i}"
        self.lines.append(
            f"if type({name}) is not ndarray or {name}.dtype is not {dtype} or {name}.shape != {node.shape} "
            f"or not {name}.flags.c_contiguous: {name} = fitted({name}, {dtype}, {node.shape})"
        )
