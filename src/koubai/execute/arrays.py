"""Straight-line NumPy: a graph as one generated function whose intermediate results live in reused buffers.

Buffers are planned by liveness: a buffer is free again after the last use of what it holds and of every view of that. A
result is always fresh memory, never a buffer, so that the next call can't overwrite it. A set of buffers is checked
out for each call, so threads that call one program at once never share one.

A program that runs again and again on the same memory, a training step, is bound to it once: then it reads and writes
there, allocates nothing large, and the views that it needs are made in its setup.
"""

from __future__ import annotations

import contextvars
import ctypes
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from koubai.errors import CompileError
from koubai.execute.abi import address, offset_arrays
from koubai.execute.elements import NotLowerable, is_product, is_quotient
from koubai.execute.memory import MemoryPlan, is_view, is_write
from koubai.graph.graph import CAPTURED, CONSTANT, INPUT, LEAVES, Graph, Guard, Node, statement
from koubai.graph.ops import ON_NUMBERS, OPS, Index, add_into, distinct, rows_into

__all__ = ["compile_arrays", "compile_bound", "quiet_context"]

_NEGATIVE, _ADD, _SUBTRACT, _MULTIPLY, _DIVIDE = (OPS[n] for n in ("negative", "add", "subtract", "multiply", "divide"))

BUFFER = 1024  # elements an operand that NumPy copies at once if it can't work on the operands as they are in memory


def compile_arrays(graph: Graph) -> Callable[..., Any]:
    """Return ``run(*inputs)``: the outputs as a tuple, or None if a guard fails. Safe to call from several
    threads.
    """
    plan = _Plan(graph)
    compiled: Callable[..., Any] = plan.compiled()
    pool: list[tuple[contextvars.Context, tuple[Any, ...]]] = []

    def run(*inputs: Any) -> Any:
        try:
            held = pool.pop()  # list.pop and list.append are atomic
        except IndexError:
            held = quiet_context(), plan.buffers()
        results = held[0].run(compiled, held[1], *inputs)
        pool.append(held)
        return results

    run.source = plan.source  # type: ignore[attr-defined]
    run.release = pool.clear  # type: ignore[attr-defined]
    return run


def compile_bound(
    graph: Graph, held: Sequence[int], into: Sequence[int], fusion: ModuleType | None = None
) -> Callable[[Sequence[Any], Sequence[Any]], Callable[..., Any]]:
    """Return ``bind(memory, results)``, which returns ``run(*rest)``: the graph's program on memory that stays.

    held: the inputs that are always in the arrays ``memory``; into: the outputs that are written into the arrays
    ``results``. These must not overlap ``memory``; but an output may take the place of an input where only the same
    element of this output depends on an element of that input, or, with fusion, where ``bind.replaceable`` says so. run
    takes the other inputs and returns the other outputs as a tuple, or None if a guard fails. The bound programs
    share their buffers: one at a time may run; bind.fresh() is another one, with buffers of its own.
    fusion: `koubai.execute.regions`, if what is between the matrix products is to be machine code;
    bind.libraries: of that code, one a region. run.parts: `koubai.execute.chain.Parts`, or None.
    bind.replaceable: pairs (place in memory, place in results) of which the result may be in that memory: its elements
    are read for the last time before they are written, and only when no guard can fail any more.
    """
    plan = _Plan(graph, held, into, fusion)
    compiled: Callable[..., Any] = plan.compiled()
    wanted = [graph.nodes[graph.inputs[k]] for k in held] + [graph.nodes[graph.outputs[k]] for k in into]
    replaceable = {
        (a, b)
        for a, k in enumerate(held)
        for b, m in enumerate(into)
        if (plan.graph.inputs[k], plan.graph.outputs[m]) in plan.replaceable
    }

    def fresh() -> Callable[[Sequence[Any], Sequence[Any]], Callable[..., Any]]:
        buffers, context = plan.buffers(), quiet_context()
        context.run(np.setbufsize, BUFFER)  # three usual buffers are up to 192 KiB, and slower: they leave the cache

        def bind(memory: Sequence[Any], results: Sequence[Any]) -> Callable[..., Any]:
            for array, node in zip((*memory, *results), wanted, strict=True):
                if array.shape != node.shape or array.dtype != node.dtype or not array.flags.c_contiguous:
                    raise CompileError(f"a program wants {node.dtype}{node.shape}, got {array.dtype}{array.shape}")
            program = compiled(buffers, *memory, *results)
            run: Any = partial(context.run, program)
            run.parts = getattr(program, "parts", None)
            return run  # type: ignore[no-any-return]

        bind.source = plan.source  # type: ignore[attr-defined]
        bind.libraries = plan.libraries  # type: ignore[attr-defined]
        bind.replaceable, bind.fresh = replaceable, fresh  # type: ignore[attr-defined]
        return bind

    return fresh()


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**53)


def quiet_context() -> contextvars.Context:
    """Return a context in which NumPy gives inf and nan without a warning; entering it is cheaper than np.errstate."""
    context = contextvars.copy_context()
    context.run(np.seterr, all="ignore")
    return context


def _signs_folded(graph: Graph) -> Graph:
    """Leave out negations that only run through products and quotients into a sum: x + -a * b is x - a * b, bit for
    bit.
    """
    nodes = list(graph.nodes)
    readers: list[list[int]] = [[] for _ in nodes]
    for i, node in enumerate(nodes):
        for j in node.inputs:
            readers[j].append(i)
    for i in (*graph.outputs, *(guard.node for guard in graph.guards)):
        readers[i].append(-1)
    for i, node in enumerate(nodes):
        if node.op is not _NEGATIVE or node.dtype is None or node.dtype.kind != "f":
            continue
        at, path = i, []
        while len(readers[at]) == 1 and readers[at][0] >= 0 and nodes[readers[at][0]].dtype == node.dtype:
            at = readers[at][0]
            path.append(at)
            if nodes[at].op not in (_MULTIPLY, _DIVIDE):
                break
        if path and nodes[at].op is _ADD:
            before = path[-2] if len(path) > 1 else i
            other = next(j for j in nodes[at].inputs if j != before)
            nodes[at] = nodes[at]._replace(op=_SUBTRACT, inputs=(other, before))
            first = nodes[path[0]]
            kept = tuple(node.inputs[0] if j == i else j for j in first.inputs)
            nodes[path[0]] = first._replace(inputs=kept)
    return Graph.pruned(nodes, graph.inputs, graph.outputs, graph.guards, graph.kinks, graph.name)


@dataclass
class _Call:
    """A kernel's call as a program has it.

    before: the lines that come before it; moving: the arrays that are elsewhere in each run; numbers: the nodes that
    are its numbers; results: those that are single numbers, with the names of the memory that they are written to.
    """

    kernel: int
    before: list[str]
    moving: list[int]
    numbers: list[int]
    results: list[tuple[int, str]]


class _Plan:
    """Which node is written where, and the source that says so."""

    def __init__(
        self,
        graph: Graph,
        held: Sequence[int] = (),
        into: Sequence[int] | None = None,
        fusion: ModuleType | None = None,
    ) -> None:
        graph = _signs_folded(graph)
        self.regions: list[Any] = []
        self.fusion: Any = fusion
        self.libraries: list[Any] = []  # of the regions' machine code
        self.replaceable: set[tuple[int, int]] = set()  # (input, output): the output may be in the input's memory
        if self.fusion is not None:
            graph, self.regions = self.fusion.partition(graph)
        self.graph = graph
        self.nodes = graph.nodes
        self.memory = MemoryPlan(graph.nodes, graph.outputs, copying=fusion is None)
        self.bound = into is not None
        self.held = [graph.inputs[k] for k in held]
        self.into = tuple(into or ())
        # in a bound program: what is in memory that stays, and whether without gaps
        self.persistent = dict.fromkeys(self.held, True)
        self.setup: list[str] = []  # lines that run once: the views of such memory
        self.namespace: dict[str, Any] = {"np": np, "add_into": add_into}
        self.sizes: list[tuple[int, np.dtype[Any]]] = []  # one flat buffer each
        self.views: dict[tuple[int, tuple[int, ...]], str] = {}  # (buffer, shape) -> its name
        self.numbers: dict[Any, str] = {}  # constant -> its name
        self.lines: list[str] = []
        self.marks: list[tuple[int, int]] = []  # (node, the line at which its own begin)
        self.calls: dict[int, _Call] = {}  # by the first node of the region
        self._plan()
        self.source = self._text()

    # --- liveness
    def _is_view(self, node: Node) -> bool:
        return bool(node.shape) and is_view(node)

    def _lies_alike(self, node: Node, root: int) -> bool:
        """Return whether the operands that show ``root`` have their elements in the order of the node's."""
        for j in node.inputs:
            if self.memory.roots[j] != root:
                continue
            if self.nodes[j].shape != node.shape:
                return False
            while j != root:
                if not self.nodes[j].op.reshapes:
                    return False
                j = self.nodes[j].inputs[0]
        return True

    @staticmethod
    def _shows_memory(node: Node) -> bool:
        """Return whether NumPy would return a 0-d array that shows the operand's memory, not a number."""
        if node.op.index == "reads":
            return any(item is Ellipsis for item in node.params["index"].items)
        return node.op.view

    def _plan(self) -> None:
        nodes, graph = self.nodes, self.graph
        count = len(nodes)
        roots = self.memory.roots
        last = list(range(count))  # the last node that reads what root i holds
        region_of = {i: region for region in self.regions for i in region.members}
        for i, node in enumerate(nodes):
            for j in node.inputs:
                last[roots[j]] = region_of[i].members[-1] if i in region_of else i
        checks: dict[int, list[Guard]] = {}
        for guard in graph.guards:
            checks.setdefault(guard.node, []).append(guard)
        kept = {roots[i] for i in graph.outputs}
        for i in kept:
            last[i] = count
        results: dict[int, str] = {}  # node -> the caller's array that it is written into
        for k in self.into:
            i = graph.outputs[k]
            if i == roots[i] and nodes[i].op not in LEAVES:
                results.setdefault(i, f"r{k}")
        for i in range(count - 1, -1, -1):  # what is written on into a result is made in the result's memory
            if i in kept and self._writes_on(i, roots, last):
                kept.add(nodes[i].inputs[0])
                if i in results:
                    results[nodes[i].inputs[0]] = results[i]
        place: dict[int, int] = {}  # root -> the buffer it holds
        free: dict[tuple[int, np.dtype[Any]], list[int]] = {}
        self.names = name = [f"v{i}" for i in range(count)]

        targets = {i: target for i, target in self._output_targets().items() if i not in region_of}
        writes = {write for write, _ in targets.values()}
        skipped = writes | {nodes[write].inputs[0] for write in writes}
        parts, passed = self._parts()

        def take(node: Node) -> int:
            key = (math.prod(node.shape), np.dtype(node.dtype))
            if free.get(key):
                return free[key].pop()
            self.sizes.append(key)
            return len(self.sizes) - 1

        def release(buffer: int) -> None:
            free.setdefault(self.sizes[buffer], []).append(buffer)

        def allocate(i: int) -> str:
            """Give node ``i`` memory of its own, unless it has some; return its name."""
            node = nodes[i]
            if i in results:
                name[i] = results[i]
            elif i in kept and not self.bound:
                self.lines.append(f"{name[i]} = np.empty({node.shape}, {self._dtype(node.dtype)})")
                return name[i]
            else:
                place[i] = take(node)
                name[i] = self._view(place[i], node.shape)
            self.persistent[i] = True
            return name[i]

        allocated: set[int] = set()

        dying: dict[int, list[int]] = {}
        for i in range(count):
            dying.setdefault(last[i], []).append(i)

        def assign_memory(i: int, operands: Sequence[int] = ()) -> None:
            """Give node ``i``, which something else writes, memory: its part of a whole, that of one of ``operands``,
            which nobody needs any more, or its own.
            """
            if i not in parts:
                left = [j for j in operands if j in place and i not in results and i not in kept]
                if left:
                    place[i], name[i], self.persistent[i] = place.pop(left[0]), name[left[0]], True
                else:
                    allocate(i)
                return
            target, (before, after) = parts[i]
            if target not in allocated:
                allocated.add(target)
                allocate(target)
            as_it_is = nodes[i].shape == (after - before, *nodes[target].shape[1:])
            shape = "" if as_it_is else f".reshape({nodes[i].shape})"
            self._show(i, target, f"{name[i]} = {name[target]}[{before}:{after}]{shape}")

        skips = -1  # the last node of a region that is written already
        for i, node in enumerate(nodes):
            if i <= skips:
                continue
            self.marks.append((i, len(self.lines)))
            ended = dying.get(region_of[i].members[-1], ()) if i in region_of else ()
            if i in region_of and self._region(region_of[i], name, assign_memory, ended):
                skips = region_of[i].members[-1]
                for k in region_of[i].members:
                    if not nodes[k].shape:  # a chain reads it when all is done: its memory is nobody else's
                        place.pop(k, None)
                    for guard in checks.get(k, ()):
                        self._check(guard, name[k])
                    for r in dying.get(k, ()):
                        if r in place:
                            release(place[r])
                continue
            done = [r for r in dying.get(i, ()) if r in place and r != i]
            args = [name[j] for j in node.inputs]
            if node.op in LEAVES:
                name[i] = self._leaf(i, node)
            elif i in targets:
                target, (before, after) = targets[i]
                allocate(target)
                rest = float(nodes[nodes[target].inputs[0]].op.fills or 0)
                if before:
                    self.lines.append(f"{name[target]}[:{before}] = {rest}")
                if after < nodes[target].shape[0]:
                    self.lines.append(f"{name[target]}[{after}:] = {rest}")
                self._show(i, target, f"{name[i]} = {name[target]}[{before}:{after}]")
                self.lines.append(self._into(node, args, name[i]))
            elif i in parts:
                assign_memory(i)
                self.lines.append(self._into(node, args, name[i]))
            elif i in allocated:  # the joined parts; those that are not made in place are copied
                before = 0
                for j in node.inputs:
                    after = before + nodes[j].shape[0]
                    if j not in passed and j not in parts:
                        self.lines.append(f"{name[i]}[{before}:{after}] = {name[j]}")
                    before = after
            elif i in skipped or i in passed:
                pass
            elif is_write(node) and node.shape:
                self._write(i, node, name, args, roots, last, place, i in kept, take, results)
            elif (number := node.op.fills) is not None:
                if (i in kept and i not in results) or not node.shape:
                    full = f"np.full({node.shape}, {number}, " if number else f"np.zeros({node.shape}, "
                    self.lines.append(f"{name[i]} = {full}{self._dtype(node.dtype)})")
                else:
                    self.lines.append(f"{allocate(i)}.fill({number})")
            elif self._can_write_out(node) and (i not in kept or i in results):
                # an element is read before it is overwritten, so the result may take an operand's place; but what
                # goes by a mask reads it after its first write
                if node.op.elementwise and (node.op.out or not node.op.conditions):
                    for r in [r for r in done if self._lies_alike(node, r)]:
                        release(place[r])
                        done.remove(r)
                self.lines.append(self._into(node, args, allocate(i)))
            elif i in self.memory.copied:
                self.lines.append(f"np.copyto({allocate(i)}, {args[0]}[{self._index(node.params['index'], ())}])")
            elif self._is_view(node):
                self._show(i, node.inputs[0], self._plain(node, name[i], args))
            else:
                self.lines.append(self._plain(node, name[i], args))
                if not node.shape and self._shows_memory(node):
                    self.lines.append(f"{name[i]} = {name[i]}[()]")
            for r in done:
                if r in place:  # it may have passed its buffer on
                    release(place[r])
            for guard in checks.get(i, ()):
                self._check(guard, name[i])
        self.marks.append((count, len(self.lines)))
        for k in self.into:
            if name[graph.outputs[k]] != f"r{k}":
                self.lines.append(f"np.copyto(r{k}, {name[graph.outputs[k]]})")
        returned = []
        for i in graph.outputs:
            root = nodes[roots[i]]
            lasting = root.op in LEAVES or (self.bound and i in place)
            copy = (lasting and root.shape) or self._is_view(nodes[i])
            returned.append(f"{name[i]}.copy()" if copy else name[i])
        if len(set(graph.outputs)) < len(graph.outputs):  # the same node twice: the caller gets two arrays
            seen: set[int] = set()
            for k, i in enumerate(graph.outputs):
                if i in seen and nodes[i].shape:
                    returned[k] = f"{name[i]}.copy()"
                seen.add(i)
        self.returned = ", ".join(text for k, text in enumerate(returned) if k not in self.into)
        self.arguments = [name[i] for i in graph.inputs if i not in self.held]

    # --- code
    def _region(
        self, region: Any, name: list[str], assign_memory: Callable[[int, Sequence[int]], None], ended: Sequence[int]
    ) -> bool:
        """Write the call of a region's kernel; return whether there is one. ended: what nobody needs after it."""
        nodes, members = self.nodes, set(region.members)
        wanted = set(self.graph.outputs) | {guard.node for guard in self.graph.guards}
        for i, node in enumerate(nodes):
            if i not in members:
                wanted.update(node.inputs)
        outputs = [i for i in region.members if i in wanted]
        shown = [i for i in outputs if nodes[i].op.reshapes]
        outputs = sorted({self.memory.roots[i] for i in outputs})

        def moves(i: int) -> bool:
            return i not in self.persistent

        try:
            kernel = self.fusion.Kernel(self.graph, region, outputs, moves)
        except NotLowerable:
            return False
        if any(not self.persistent[i] for i in kernel.arrays if i in self.persistent):
            return False  # memory with gaps
        shows = [self.memory.roots[i] for i in kernel.arrays]
        decided = region.members[0] > self._last_refusal()
        for i in kernel.outputs:
            read_no_more = [j for j in ended if shows.count(j) == 1 and kernel.may_replace(j, i)]
            assign_memory(i, read_no_more)
            if not self.persistent.get(i):
                raise CompileError(f"node {i} has no memory that stays")
            if decided:
                self.replaceable |= {(j, i) for j in read_no_more if nodes[j].op is INPUT}
        self.libraries.append(kernel.library)
        k = sum(line.startswith("table") for line in self.setup)
        self.namespace |= {"table": self.fusion.table, "addressof": ctypes.addressof, f"kernel{k}": kernel.call}
        arrays = ["None" if i in kernel.moving else name[i] for i in kernel.arrays]
        if kernel.workspace:
            arrays.append(f"np.empty({kernel.workspace}, np.uint8)")
        self.setup += [f"table{k} = table({', '.join(arrays)})", f"address{k} = addressof(table{k})"]
        first = len(self.lines)
        for i in kernel.moving:
            self.lines.append(self._evened(i))
            self.lines.append(f"table{k}[{kernel.arrays.index(i)}] = id(even{i})")
        called = _Call(k, self.lines[first:], kernel.moving, kernel.numbers, [])
        self.calls[region.members[0]] = called
        self.namespace[f"code{k}"] = kernel.library
        numbers = [f"{name[i]}.item()" if nodes[i].shape else name[i] for i in kernel.numbers]
        call = f"kernel{k}({', '.join([f'address{k}', *numbers])})"
        self.lines.append(f"if not {call}: raise IndexError('an index is out of range')")
        for i in kernel.outputs:
            if not nodes[i].shape:
                self.lines.append(f"v{i} = {name[i]}[()]")
                called.results.append((i, name[i]))
                name[i] = f"v{i}"
                del self.persistent[i]  # it is a number now
        for i in region.members:  # for people
            self.lines.append(f"# {statement(nodes[i], f'v{i}', [f'v{j}' for j in nodes[i].inputs])}")
        for i in shown:
            base = self.memory.roots[i]
            self._show(i, base, f"{name[i]} = {name[base]}.reshape({nodes[i].shape})")
        return True

    def _evened(self, i: int) -> str:
        """Return the line that gives argument ``i`` without gaps."""
        v = self.names[i]
        return f"even{i} = {v} if {v}.flags.c_contiguous else np.ascontiguousarray({v})"

    def _chained(self) -> tuple[list[str], list[str], list[str]] | None:
        """Return the program as a chain that one call goes through: the lines of its setup, those of a run, and
        those that give its parts to a caller that makes many runs in a row.

        None if that isn't all that it does with arrays. What is computed of single numbers comes before the call, if
        it depends on arguments alone, or after it.
        """
        nodes, name = self.nodes, self.names
        if self.fusion is None or not self.calls or self.marks[-1][1] < len(self.lines):
            return None  # results are copied
        if any(node.op is CAPTURED for node in nodes):
            return None
        given = {i for i in self.graph.inputs if i not in self.held}
        early = {i for i in given if not nodes[i].shape} | {i for i, n in enumerate(nodes) if n.op is CONSTANT}
        shown: dict[int, tuple[int, Any]] = {}  # views of arguments: (the argument, as an array of that form shows it)
        made: dict[int, list[str]] = {}  # the lines that make each of them
        links: list[str] = []
        tied: list[str] = []
        before: list[str] = []
        numbers: list[str] = []
        results: list[tuple[int, str]] = []
        shows: list[str] = []
        after: list[str] = []
        late: set[int] = set()
        for (i, start), (_, end) in itertools.pairwise(self.marks):
            node, lines = nodes[i], self.lines[start:end]
            if i in self.calls:
                called = self.calls[i]
                if not early.issuperset(called.numbers):
                    return None
                k = called.kernel
                links.append(f"chain.kernel(code{k}, table{k}, addressof(numbers) + {8 * len(numbers)})")
                tied += [line for j in called.moving for line in made.get(j, ())] + called.before
                numbers += [name[j] for j in called.numbers]
                results += called.results
                late.update(i for i, _ in called.results)
                shows += [line for line in lines if line.startswith("#")]
            elif i in given or not lines:
                if i in given and node.shape:
                    shown[i] = i, np.empty(node.shape, node.dtype)
            elif node.op.view and node.inputs[0] in shown and self._shows_all(node, shown[node.inputs[0]][1]):
                j, array = shown[node.inputs[0]]
                shown[i] = j, node.op.call(array, **node.params)
                made[i] = [*made.get(node.inputs[0], ()), *lines]
            elif is_product(node) and len(lines) == 1 and self.persistent.get(i) and self._multiplies_matrices(node):
                operands = []
                for place, j in enumerate(node.inputs):
                    if j in shown:
                        argument, self.namespace[f"like{i}_{place}"] = shown[j]
                        operands.append(f"like{i}_{place}")
                        tied.append(self._evened(argument))
                        tied.append(f"rows[{self.fusion.place(len(links), place)}] = address(even{argument})")
                    elif j in self.persistent:
                        operands.append(name[j])
                    else:
                        return None
                links.append(f"chain.product({', '.join(operands)}, {name[i]})")
            elif node.shape:
                return None
            elif early.issuperset(node.inputs):
                early.add(i)
                before += lines
            else:
                after += lines
                if all(j in late or nodes[j].op is CONSTANT for j in node.inputs):
                    late.add(i)
        if any(guard.node not in early for guard in self.graph.guards):
            return None
        products = {nodes[i].dtype for i, _ in self.marks[:-1] if is_product(nodes[i])}
        if len(links) < 2 or not self.fusion.chains(products):
            return None
        self.namespace |= {"Chain": self.fusion.Chain, "address": address, "c_double": ctypes.c_double}
        setup = [f"numbers = (c_double * {max(1, len(numbers))})()", "chain = Chain()", *links]
        setup += ["rows = chain.table()", "through = chain.call(rows)"]
        tied = list(dict.fromkeys(tied))
        call = "if not through(): raise IndexError('an index is out of range')"
        run = [*tied, *before, *(f"numbers[{k}] = {value}" for k, value in enumerate(numbers)), call, *shows]
        run += [f"v{i} = {place}[()]" for i, place in results] + after
        given_back = [i for k, i in enumerate(self.graph.outputs) if k not in self.into]
        passed_on = 0  # arguments that come first and are given back as they are, first too
        inputs = [i for i in self.graph.inputs if i not in self.held]
        while given_back[passed_on : passed_on + 1] == inputs[passed_on : passed_on + 1]:
            passed_on += 1
        given_back = given_back[passed_on:]
        if not late.issuperset(given_back):
            return setup, run, []
        arguments, tail = ", ".join(self.arguments), f"return ({''.join(name[i] + ', ' for i in given_back)})"
        parts = [f"def tie({arguments}):", *(f"    {line}" for line in [*tied, "return ()"])]
        parts += [f"def before({arguments}):", *(f"    {line}" for line in before)]
        parts += [f"    return ({''.join(value + ', ' for value in numbers)})"]
        parts += [f"def after({', '.join(f'v{i}' for i, _ in results)}):", *(f"    {line}" for line in [*after, tail])]
        places = "".join(f"{place}, " for _, place in results)
        parts += [f"run.parts = Parts(chain, rows, numbers, tie, before, after, ({places}), quotients, {passed_on})"]
        self.namespace["Parts"] = self.fusion.Parts
        self.namespace["quotients"] = [self._quotient(i, [i for i, _ in results]) for i in given_back]
        return setup, run, parts

    def _quotient(self, i: int, results: list[int]) -> tuple[int, Any] | None:
        """Return which of the results a number is, or is a quotient of, and by what; None if it is something else."""
        node = self.nodes[i]
        if i in results:
            return results.index(i), None
        if not is_quotient(node) or node.inputs[0] not in results or self.nodes[node.inputs[1]].op is not CONSTANT:
            return None
        by = self.nodes[node.inputs[1]]
        if node.dtype != self.nodes[node.inputs[0]].dtype or by.shape or not _is_number(by.params["value"]):
            return None
        return results.index(node.inputs[0]), by.params["value"]

    @staticmethod
    def _shows_all(node: Node, array: Any) -> bool:
        """Return whether a view of ``array`` has its elements, without gaps, from the first one on."""
        view = node.op.call(array, **node.params)
        return bool(view.size == array.size and address(view) == address(array) and view.flags.forc)

    def _multiplies_matrices(self, node: Node) -> bool:
        """Return whether a product is one of two matrices of its dtype."""
        return all(len(self.nodes[j].shape) == 2 and self.nodes[j].dtype == node.dtype for j in node.inputs)

    def _last_refusal(self) -> int:
        """Return the last node at which the program may return None; -1 if it never does."""
        captured = [i for i, node in enumerate(self.nodes) if node.op is CAPTURED]
        return max([guard.node for guard in self.graph.guards] + captured, default=-1)

    def _show(self, i: int, base: int, line: str) -> None:
        """Add the line that makes node ``i`` a view of node ``base``: in the setup, if that one's memory stays."""
        whole = self.persistent.get(base)
        node = self.nodes[i]
        # a reshape of memory with gaps may be a copy
        if not self.bound or whole is None or (node.op.reshapes and node.shape and not whole):
            self.lines.append(line)
            return
        self.setup.append(line)
        self.persistent[i] = whole and self._is_run(node)

    @staticmethod
    def _is_run(node: Node) -> bool:
        """Return whether the view shows memory without gaps if its base does."""
        if node.op.index != "reads":
            return node.op.reshapes or not node.op.view  # what is made there
        items = [item for item in node.params["index"].items if item is not Ellipsis]
        return len(items) == 1 and isinstance(items[0], slice) and items[0].step in (None, 1) and len(node.shape) == 1

    def _leaf(self, i: int, node: Node) -> str:
        if node.op is INPUT:
            return f"v{i}"
        value = node.params["value"]
        if node.dtype is None and math.isfinite(abs(value)):
            return f"({value!r})"
        self.namespace[f"c{i}"] = value
        if node.op is CAPTURED:  # the caller's own array: it must still be the one that was traced
            self.lines.append(f"if c{i}.shape != {node.shape} or c{i}.dtype != {self._dtype(node.dtype)}: return None")
        return f"c{i}"

    def _can_write_out(self, node: Node) -> bool:
        if not node.shape or not math.prod(node.shape):
            return False
        if node.op.ufunc is not None or node.op.reduction is not None:
            return node.dtype is not None and node.dtype.kind == "f" and self.nodes[node.inputs[0]].dtype == node.dtype
        if node.op.index == "reads":
            return self._gathers_rows(node)
        return node.op.out or node.op.into is not None

    def _gathers_rows(self, node: Node) -> bool:
        """Return whether the index is one array of whole numbers."""
        if node.params["index"].items != (Index.HOLE,):
            return False
        index = self.nodes[node.inputs[1]]
        return index.dtype == np.intp and bool(index.shape)

    def _into(self, node: Node, args: list[str], target: str) -> str:
        """Return the statement that writes the node's result into ``target``."""
        if not node.op.out and node.op.ufunc is None:
            return self._written(node, args, target)
        call, arguments = node.op.call, self._operands(node, args)
        if node.op.ufunc is not None:
            last = self.nodes[node.inputs[-1]]
            call = node.op.ufunc(last.params["value"] if last.dtype is None else None)
            arguments = arguments[: call.nin]
        out = f"out={target}" if call in (np.maximum, np.minimum) else target  # these two refuse it by position
        return f"{self._bind(call)}({', '.join(arguments)}, {out})"

    def _written(self, node: Node, args: list[str], target: str) -> str:
        """Return the same for an operation that isn't a ufunc."""
        if (reduction := node.op.reduction) is not None:
            axis = node.params["axis"]
            axis = axis[0] if axis is not None and len(axis) == 1 else axis
            return f"{self._bind(reduction)}({args[0]}, {axis}, None, {target}, {node.params['keepdims']})"
        if node.op.index == "reads":
            return f"{self._bind(rows_into)}({target}, {', '.join(args)})"
        params = "".join(f", {k}={self._bind(v)}" for k, v in node.params.items())
        return f"{self._bind(node.op.into)}({', '.join([target, *args])}{params})"

    def _operands(self, node: Node, args: list[str]) -> list[str]:
        """Return the operands with constants as 0-d arrays of the result's dtype: NumPy converts numbers slowly."""
        dtype = node.dtype
        given = [self.nodes[j] for j in node.inputs]
        if dtype is None or dtype.kind != "f" or not node.shape or any(n.dtype not in (None, dtype) for n in given):
            return args
        operands = []
        for n, text in zip(given, args, strict=True):
            if n.op is CONSTANT and not n.shape and (n.dtype == dtype or _is_number(n.params["value"])):
                with np.errstate(over="ignore"):
                    number = np.array(n.params["value"], dtype)
                number.flags.writeable = False
                text = self.numbers.setdefault((number.tobytes(), dtype), f"n{len(self.numbers)}")
                self.namespace[text] = number
            operands.append(text)
        return operands

    def _output_targets(self) -> dict[int, tuple[int, tuple[int, int]]]:
        """Find results that are only written into a slice of zeros: they are computed in place there.

        Returns {node: (the write, (start, stop))}.
        """
        readers: dict[int, list[int]] = {}
        for i, node in enumerate(self.nodes):
            for j in node.inputs:
                readers.setdefault(j, []).append(i)
        watched = {guard.node for guard in self.graph.guards} | set(self.graph.outputs)
        targets = {}
        for i, node in enumerate(self.nodes):
            if node.op.index != "sets" or len(node.shape) != 1 or node.params["index"].holes:
                continue
            zeros, value = node.inputs[:2]
            items = node.params["index"].items
            if len(items) != 1 or not isinstance(items[0], slice) or self.nodes[zeros].op.fills is None:
                continue
            start, stop, step = items[0].indices(node.shape[0])
            made = self.nodes[value]
            if (
                step == 1
                and made.shape == (stop - start,)
                and made.dtype == node.dtype
                and made.op.elementwise
                and self._can_write_out(made)
                and readers[value] == [i]
                and readers[zeros] == [i]
                and not watched & {value, zeros}
            ):
                targets[value] = i, (start, stop)
        return targets

    def _parts(self) -> tuple[dict[int, tuple[int, tuple[int, int]]], set[int]]:
        """Find what is only joined with others, end to end: each part is made in its place there, and never copied.

        Returns {node: (the concatenation, (start, stop))}, and the reshapes between, which need no code.
        """
        readers: dict[int, list[int]] = {}
        for i, node in enumerate(self.nodes):
            for j in node.inputs:
                readers.setdefault(j, []).append(i)
        watched = {guard.node for guard in self.graph.guards} | set(self.graph.outputs)
        parts: dict[int, tuple[int, tuple[int, int]]] = {}
        passed: set[int] = set()
        for i, node in enumerate(self.nodes):
            if node.op.parts is None or node.params["axis"] != 0 or node.dtype is None:
                continue
            if len(self.nodes[node.inputs[0]].shape) < len(node.shape):
                continue  # a stack has its parts along an axis of its own
            start = 0
            for j in node.inputs:
                stop = start + self.nodes[j].shape[0]
                made = j
                between: list[int] = []
                while self.nodes[made].op.reshapes and readers[made] == [between[-1] if between else i]:
                    between.append(made)
                    made = self.nodes[made].inputs[0]
                if (
                    self.nodes[made].dtype == node.dtype
                    and self._can_write_out(self.nodes[made])
                    and self.nodes[made].op.parts is None
                    and readers[made] == [between[-1] if between else i]
                    and not watched & {made, *between}
                ):
                    parts[made] = i, (start, stop)
                    passed.update(between)
                start = stop
        return parts, passed

    def _typed(self, node: Node, args: list[str]) -> list[str]:
        """Return the operands with NumPy's numbers for Python's complex ones, whose arithmetic leaves NumPy: it takes a
        float64 for a Python float, raises at zero, and its result isn't an array.
        """
        kind = node.dtype.type if node.dtype is not None and node.dtype.kind == "c" else np.complex128
        given = [self.nodes[j].params.get("value") for j in node.inputs]
        return [
            f"{self._bind(kind)}({arg})" if type(value) is complex else arg
            for arg, value in zip(args, given, strict=True)
        ]

    def _plain(self, node: Node, target: str, args: list[str]) -> str:
        op = node.op
        if not node.shape and op in ON_NUMBERS:
            return f"{target} = {str(op.code).format(*self._typed(node, args))}"
        if op.index == "reads":
            return f"{target} = {args[0]}[{self._index(node.params['index'], args[1:])}]"
        adds = op.reduces is not None and op.reduces.adds
        if adds and not node.shape and node.dtype is not None and self.nodes[node.inputs[0]].dtype == np.bool_:
            return f"{target} = {self._bind(node.dtype.type)}(np.count_nonzero({args[0]}))"
        if (reduction := op.reduction) is not None:
            axis = node.params["axis"]
            if axis is not None and len(axis) == 1:
                axis = axis[0]
            kept = ", None, None, True" if node.params["keepdims"] else ""
            return f"{target} = {self._bind(reduction)}({args[0]}, {axis}{kept})"
        if op.converts:
            if not node.shape and node.dtype is not None and node.dtype.kind == "f":
                return f"{target} = {self._bind(node.dtype.type)}({args[0]})"
            return f"{target} = {args[0]}.astype({self._dtype(node.dtype)})"
        if op.spreads and self.nodes[node.inputs[0]].op is CONSTANT and math.prod(node.shape) <= 65536:
            value = np.array(op.call(self.nodes[node.inputs[0]].params["value"], **node.params), node.dtype, order="C")
            self.namespace[f"spread_{target}"] = value
            return f"{target} = spread_{target}"
        if op.out:
            return f"{target} = {self._bind(op.call)}({', '.join(self._operands(node, args))})"
        if op.method is not None and self.nodes[node.inputs[0]].shape:
            return f"{target} = {args[0]}.{op.method}({', '.join(map(self._bind, node.params.values()))})"
        params = "".join(f", {k}={self._bind(v)}" for k, v in node.params.items())
        return f"{target} = {self._bind(op.call)}({', '.join(args)}{params})"

    def _index(self, index: Index, arrays: Sequence[str]) -> str:
        text = index.text(arrays)
        return f"{text}," if len(index.items) == 1 and index.holes else text

    def _writes_on(self, i: int, roots: list[int], last: list[int]) -> bool:
        """Return whether node ``i`` is a write into an array that is not needed as it was: it can be done in place."""
        node = self.nodes[i]
        if not is_write(node):
            return False
        base = node.inputs[0]
        owned = base == roots[base] and self.nodes[base].op not in LEAVES
        return owned and last[base] == i and all(roots[j] != base for j in node.inputs[1:])

    def _write(
        self,
        i: int,
        node: Node,
        name: list[str],
        args: list[str],
        roots: list[int],
        last: list[int],
        place: dict[int, int],
        kept: bool,
        take: Callable[[Node], int],
        results: dict[int, str],
    ) -> None:
        """Write into an array: in place if that is allowed, else into a copy."""
        base = node.inputs[0]
        target = f"v{i}"
        if self._writes_on(i, roots, last):
            target = args[0]
            if base in place:
                place[i] = place.pop(base)
        elif i in results:
            target = results[i]
            self.lines.append(f"np.copyto({target}, {args[0]})")
        elif kept and not self.bound:
            self.lines.append(f"{target} = {args[0]}.copy()")
        else:
            place[i] = take(node)
            target = self._view(place[i], node.shape)
            self.lines.append(f"np.copyto({target}, {args[0]})")
        name[i] = target
        if self.persistent.get(base) or not target.startswith("v"):
            self.persistent[i] = True
        index = self._index(node.params["index"], args[2:])
        if node.op.index == "sets":
            self.lines.append(f"{target}[{index}] = {args[1]}")
        elif node.params["index"].holes and distinct(*[self._constant(j) for j in node.inputs[2:]]):
            self.lines.append(f"{target}[{index}] += {args[1]}")
        elif node.params["index"].holes:
            self.lines.append(f"add_into({target}, {args[1]}, np.s_[{index}], True)")
        elif self._scalar_index(node.params["index"], node.shape):
            self.lines.append(f"{target}[{index}] += {args[1]}")
        else:
            part = f"w{i}"
            self.lines.append(f"{part} = {target}[{index}]; {self._bind(np.add)}({part}, {args[1]}, {part})")

    def _constant(self, i: int) -> Any:
        node = self.nodes[i]
        return node.params["value"] if node.op is CONSTANT else node

    @staticmethod
    def _scalar_index(index: Index, shape: tuple[int, ...]) -> bool:
        return len(index.items) == len(shape) and all(isinstance(item, int) for item in index.items)

    def _check(self, guard: Guard, name: str) -> None:
        if type(guard.expected) is bool:
            self.lines.append(f"if {'not ' if guard.expected else ''}{name}: return None")
        else:
            self.namespace[f"g{len(self.lines)}"] = guard.holds
            self.lines.append(f"if not g{len(self.lines)}({name}): return None")

    def _bind(self, value: Any) -> str:
        """Return a name for ``value`` in the generated code."""
        if isinstance(value, bool | int | str | tuple | type(None)) and not isinstance(value, np.generic):
            return repr(value)
        text = getattr(value, "__name__", "").replace("<lambda>", "call")
        name = f"{text if text.isidentifier() else 'k'}"
        known = self.namespace.get(name)
        if known is not None and known is not value:
            name = next((n for n, v in self.namespace.items() if v is value), f"{name}_{len(self.namespace)}")
        self.namespace[name] = value
        return name

    def _dtype(self, dtype: Any) -> str:
        return self._bind(dtype)

    def _view(self, buffer: int, shape: tuple[int, ...]) -> str:
        return self.views.setdefault((buffer, shape), f"b{len(self.views)}")

    def _text(self) -> str:
        unpack = [f"{', '.join(self.views.values())}, = buffers"] if self.views else []
        tail = f"return ({self.returned},)" if self.returned else "return ()"
        if not self.bound:
            head = f"def run(buffers{''.join(', ' + a for a in self.arguments)}):"
            return "\n".join([head, *(f"    {line}" for line in [*unpack, *self.lines, tail]), ""])
        memory = [f"v{i}" for i in self.held] + [f"r{k}" for k in self.into]
        chained = self._chained()
        links, lines, parts = ([], self.lines, []) if chained is None else chained
        setup = [*unpack, *self.setup, *links, f"def run({', '.join(self.arguments)}):"]
        tables = [line.split()[0] for line in self.setup if line.startswith("table")]
        tables += ["rows", "numbers"] * (chained is not None)
        held = [f"run.held = {', '.join(tables)}"] if tables else []  # the kernels know only their addresses
        body = [f"    {line}" for line in [*lines, tail]] + [*parts, *held, "return run"]
        head = f"def bind(buffers{''.join(', ' + a for a in memory)}):"
        return "\n".join([head, *(f"    {line}" for line in setup + body), ""])

    def compiled(self) -> Callable[..., Any]:
        exec(compile(self.source, "<koubai: straight-line NumPy>", "exec"), self.namespace)
        return self.namespace["bind" if self.bound else "run"]  # type: ignore[no-any-return]

    def buffers(self) -> tuple[Any, ...]:
        flat = offset_arrays([((size,), dtype) for size, dtype in self.sizes])
        return tuple(flat[k].reshape(shape) for k, shape in self.views)
