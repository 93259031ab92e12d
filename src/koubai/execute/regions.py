"""Regions: the operations between the matrix products of a bound program, fused: each is one pass in machine code.

A region is a set of nodes over rows and columns: *full* ones have an element in each place, *row* ones one per row (a
reduction along the row, and what follows from it); sums along the columns, and those of the rows' numbers, are
accumulated from row to row. The kernel goes through the rows; within a row, a *phase* is a loop over the columns,
`LANES` elements at a time, and ends where the result of a row's reduction is needed. Arrays of equal shape that are
combined only with each other are one long row.

Sums have a fixed order on every machine: along a row lane by lane, the sums of each `CHUNK` of columns added up, then
as a tree; along columns from row to row.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from koubai.execute import library
from koubai.execute.abi import address
from koubai.execute.chain import Chain, Parts, chains, entry, place
from koubai.execute.elements import NotLowerable, moved_inputs
from koubai.execute.ir import BOOL, TAGS, Block, Function, Value, of_type
from koubai.execute.llvm import CALL, DATA, KINDS, combiner, cost, elementwise, has_code, module, scalar
from koubai.execute.lower import lowered
from koubai.execute.memory import is_view
from koubai.graph.graph import CONSTANT, LEAVES, Graph, Node
from koubai.graph.ops import OPS, Index, Monoid

__all__ = ["LEAST", "Chain", "Kernel", "Parts", "Region", "chains", "partition", "place", "table"]

LANES = 16
CHUNK = 2048  # columns that a row's running sums take in before they are added to the totals
LONG = 2**16  # rows whose numbers are added one after the other, at most
LEAST = 64  # elements from which on a region is worth a call
_EQUAL = OPS["equal"]
_INDEX = np.dtype(np.int64)
_PICKS = ("reads", "adds")  # rows pick one element each by their index
FULL, ROW, COLUMN, TOTAL = "full", "row", "column", "total"


@dataclass
class Region:
    """Nodes that one kernel computes. kinds: what each is, "full", "row", or a sum: along the columns "column", of the
    rows' numbers "total".
    """

    rows: int
    columns: int
    members: list[int] = field(default_factory=list)
    kinds: dict[int, str] = field(default_factory=dict)


def _size(node: Node) -> int:
    return math.prod(node.shape)


def _cost(node: Node, given: Sequence[Node]) -> int:
    """Return how many operations an element of an elementwise node takes; 0 if there is no machine code for it."""
    if KINDS.get(node.dtype) is None or any(n.dtype not in KINDS and (n.op is not CONSTANT or n.shape) for n in given):
        return 0
    try:
        return 1 + cost(node, given, LANES)
    except NotLowerable:
        return 0


def _is_along(node: Node) -> bool:
    """Return whether the node's value for a row depends on all its elements: a reduction, or the place of one."""
    return node.op.reduces is not None or node.op.finds is not None


def _adds(node: Node) -> bool:
    return node.op.reduces is not None and node.op.reduces.adds


def partition(graph: Graph) -> tuple[Graph, list[Region]]:
    """Return the graph in an order in which every region's nodes are consecutive, and the regions."""
    graph = _without_idle_views(lowered(graph, has_code))
    nodes = graph.nodes
    guarded = {guard.node for guard in graph.guards}
    groups: list[Region] = []
    group_of: dict[int, Region] = {}
    opened: list[Region] = []
    units: list[int | Region] = []

    def close(group: Region) -> None:
        opened.remove(group)
        units.append(group)

    waiting: dict[int, None] = {}  # what NumPy computes from an open region: it can wait until it is needed

    def schedule(i: int) -> None:
        """Have node ``i`` computed before what comes next."""
        due = [(i, False)]  # and whether its inputs are scheduled; what waits may be a long chain
        while due:
            i, ready = due.pop()
            if ready:
                units.append(i)
            elif i in waiting:
                del waiting[i]
                due.append((i, True))
                due += [(j, False) for j in reversed(nodes[i].inputs)]
            elif i in group_of and group_of[i] in opened:
                close(group_of[i])

    for i, node in enumerate(nodes):
        found = None
        if node.op not in LEAVES:
            found = _place(nodes, i, group_of, opened)
            if found is not None and any(j in waiting for j in node.inputs):
                for j in [j for j in node.inputs if j in waiting]:
                    schedule(j)
                found = _place(nodes, i, group_of, opened)
        if found is None:
            if any(j in waiting or (j in group_of and group_of[j] in opened) for j in node.inputs):
                waiting[i] = None
                if i in guarded:
                    schedule(i)
            else:
                units.append(i)
            continue
        for j in node.inputs:
            if j in group_of and group_of[j] in opened and group_of[j] is not found[0]:
                close(group_of[j])
        group, kind = found
        if group not in opened:
            opened.append(group)
            groups.append(group)
        group.members.append(i)
        group.kinds[i] = kind
        group_of[i] = group
        if i in guarded:  # what comes next is valid only if the guard holds
            schedule(i)
    for group in list(opened):
        close(group)
    for i in list(waiting):
        schedule(i)
    new: dict[int, int] = {}
    ordered: list[Node] = []
    kept = []

    def add(i: int) -> None:
        new[i] = len(ordered)
        ordered.append(nodes[i]._replace(inputs=tuple([new[j] for j in nodes[i].inputs])))

    for unit in units:
        if isinstance(unit, int):
            add(unit)
            continue
        for i in unit.members:
            add(i)
        if _is_worth_it(nodes, unit):
            kinds = {new[i]: kind for i, kind in unit.kinds.items()}
            kept.append(Region(unit.rows, unit.columns, [new[i] for i in unit.members], kinds))
    again = Graph(
        ordered,
        [new[i] for i in graph.inputs],
        [new[i] for i in graph.outputs],
        [guard._replace(node=new[guard.node]) for guard in graph.guards],
        (),
        graph.name,
    )
    return again, kept


def _without_idle_views(graph: Graph) -> Graph:
    """Return the graph without views that undo another, and reshapes to the same shape."""
    nodes = list(graph.nodes)
    same = list(range(len(nodes)))
    for i, node in enumerate(nodes):
        inputs = tuple([same[j] for j in node.inputs])
        nodes[i] = node._replace(inputs=inputs)
        if node.op.reshapes:
            same[i] = inputs[0] if node.shape == nodes[inputs[0]].shape else i
        elif node.op.view and _shows_again(nodes, node):
            same[i] = nodes[inputs[0]].inputs[0]
    return Graph.pruned(nodes, graph.inputs, graph.outputs, graph.guards, graph.kinks, graph.name)


def _shows_again(nodes: Sequence[Node], node: Node) -> bool:
    """Return whether a view undoes another one of the same operation, as a transpose does."""
    first = nodes[node.inputs[0]]
    if first.op is not node.op or not node.op.moves or nodes[first.inputs[0]].shape != node.shape:
        return False
    base = np.empty(node.shape, np.int8)
    view = node.op.call(first.op.call(base, **first.params), **node.params)
    return bool(view.__array_interface__ == base.__array_interface__)


def _is_worth_it(nodes: Sequence[Node], region: Region) -> bool:
    computed = [i for i in region.members if not nodes[i].op.reshapes]
    if region.rows * region.columns < LEAST:
        return False
    return len(computed) > 1 or any(
        nodes[i].op.elementwise and _cost(nodes[i], [nodes[j] for j in nodes[i].inputs]) > CALL for i in computed
    )


def _place(
    nodes: Sequence[Node], i: int, group_of: dict[int, Region], opened: Sequence[Region]
) -> tuple[Region, str] | None:
    """Return the region that node ``i`` can join, and as which kind; a new region if it can begin one."""
    node = nodes[i]
    given = [nodes[j] for j in node.inputs]
    inside = [(j, group_of[j]) for j in node.inputs if j in group_of and group_of[j] in opened]
    kinds = {j: group.kinds[j] for j, group in inside}
    if any(kind in (COLUMN, TOTAL) for kind in kinds.values()) or node.dtype is None or not _size(node):
        return None
    if any(_is_uneven(nodes, j) for j in node.inputs if j not in kinds):
        return None

    def fitting(rows: int, columns: int) -> Region:
        same = [g for g in opened if (g.rows, g.columns) == (rows, columns)]
        return same[-1] if same else Region(rows, columns)

    if node.op is _EQUAL and ROW in kinds.values() and {n.dtype for n in given} == {_INDEX}:
        group = next(group for j, group in inside if kinds[j] == ROW)
        return (group, ROW) if all(n.shape == (group.rows,) for n in given) else None
    if node.op.elementwise and node.shape and _cost(node, given):
        row_group: Region | None = next((g for j, g in inside if kinds[j] == ROW), None)
        if row_group is not None and _size(node) == row_group.rows and node.shape[0] == row_group.rows:
            for j, n in zip(node.inputs, given, strict=True):  # numbers of rows with each other
                if j in kinds and kinds[j] != ROW:
                    return None
                if j not in kinds and _size(n) != 1 and n.shape != node.shape:
                    return None
                if j in kinds and n.shape != node.shape:
                    return None
            return row_group, ROW
        if len(node.shape) == 2 and node.shape[0] > 1 and node.shape[1] > 1:
            rows, columns = node.shape
            group = fitting(rows, columns)
            for j, n in zip(node.inputs, given, strict=True):
                if j in kinds and group_of[j] is group:
                    fits = n.shape == node.shape if kinds[j] == FULL else n.shape == (rows, 1)
                else:
                    fits = _size(n) == 1 or n.shape in (node.shape, (columns,), (1, columns), (rows, 1))
                if not fits:
                    return None
            return group, FULL
        if all(_size(n) == 1 or n.shape == node.shape for n in given) and _size(node) > 1:
            group = fitting(1, _size(node))
            if any(kinds.get(j) == ROW for j in node.inputs):  # a sum is known when its region is done
                group = Region(1, _size(node))
            return group, FULL
        return None
    if len(inside) == 0 or node.inputs[0] not in kinds:
        return None
    j = node.inputs[0]
    group = group_of[j]
    if group.rows > 1 and node.op.finds is not None and kinds[j] == FULL and KINDS.get(given[0].dtype) in TAGS:
        return (group, ROW) if node.params["axis"] == 1 else None
    if 1 < group.rows <= LONG and _adds(node) and not node.shape and kinds[j] == ROW:
        counts = given[0].dtype == np.bool_ and node.dtype == _INDEX
        return (group, TOTAL) if counts or (given[0].dtype == node.dtype and node.dtype in KINDS) else None
    if node.dtype.kind != "f":
        return None
    if group.rows == 1:  # long sums of float32 are left to NumPy, which adds pairwise
        sums = _adds(node) and not node.shape and kinds.get(j) == FULL
        return (group, ROW) if sums and given[0].dtype == node.dtype == np.float64 else None
    if node.op.reduces is not None and kinds.get(j) == FULL and KINDS.get(given[0].dtype) in TAGS:
        axis = node.params["axis"]
        try:
            combiner(node.op.reduces)
        except NotLowerable:
            return None
        if axis == (1,):
            return group, ROW
        if axis == (0,) and _adds(node):
            return group, COLUMN
        return None
    if node.op.reshapes and kinds.get(j) == ROW and node.shape in ((group.rows, 1), (group.rows,)):
        return group, ROW
    if node.op.index in _PICKS and kinds.get(j) == FULL and _picks_one_a_row(nodes, node, group):
        if node.op.index == "reads":
            return group, ROW
        value = node.inputs[1]
        if _size(nodes[value]) == 1 or (kinds.get(value) == ROW and nodes[value].shape == (group.rows,)):
            return group, FULL
    return None


def _is_uneven(nodes: Sequence[Node], j: int) -> bool:
    """Return whether an operand may have gaps in memory."""
    while is_view(nodes[j]):
        if not (nodes[j].op.reshapes or nodes[j].op.index):
            return True
        if nodes[j].op.index and len(nodes[nodes[j].inputs[0]].shape) != 1:
            return True
        j = nodes[j].inputs[0]
    return False


def _picks_one_a_row(nodes: Sequence[Node], node: Node, region: Region) -> bool:
    """Return whether the index is (0, 1, 2, …; one column per row)."""
    index = node.params["index"]
    if index.items != (Index.HOLE, Index.HOLE):
        return False
    arrays = node.inputs[moved_inputs(node) :]
    first, second = nodes[arrays[0]], nodes[arrays[1]]
    return (
        first.op is CONSTANT
        and np.array_equal(first.params["value"], np.arange(region.rows))
        and second.op in LEAVES
        and second.op is not CONSTANT
        and second.shape == (region.rows,)
        and second.dtype == np.int64
    )


# -- the code ---------------------------------------------------------------------------------------------------------


class Kernel:
    """The machine code of a region. arrays: the nodes whose memory it reads or writes, in the order of the pointers;
    numbers: the nodes of one element, passed as arguments. moving: the arrays that are elsewhere at every call, passed
    as objects. call(table, *numbers) returns False if an index is out of range.
    """

    def __init__(self, graph: Graph, region: Region, outputs: Sequence[int], moves: Callable[[int], bool]) -> None:
        self.nodes, self.region = graph.nodes, region
        self.members = set(region.members)
        self.outputs = [i for i in outputs if not self.nodes[i].op.reshapes]
        read: dict[int, None] = {}
        numbers: dict[int, None] = {}
        for i in region.members:
            for j in self.nodes[i].inputs:
                n = self.nodes[j]
                if j in self.members or (n.op is CONSTANT and not n.shape):
                    continue
                if n.op is CONSTANT and self.nodes[i].op.index:
                    continue  # the rows' own numbers 0, 1, 2, …
                (numbers if _size(n) == 1 else read)[j] = None
        self.arrays = [*read, *self.outputs]
        self.numbers = list(numbers)
        self.moving = [i for i in read if moves(i)]
        self._levels()
        scratch = [i for i in sorted(self.stored) if i not in self.outputs]
        width = -(-region.columns // LANES) * LANES
        self.scratch = {i: k * width * 8 for k, i in enumerate(scratch)}
        self.workspace = len(scratch) * width * 8
        key = repr((LANES, region.rows, region.columns, sorted(region.kinds.items()), self.arrays, self.numbers))
        key += repr((self.outputs, self.moving, [self._described(i) for i in region.members]))
        self.library = library.load("regions" + key, self._text)
        pointer = ctypes.c_void_p
        doubles = [ctypes.c_double] * len(self.numbers)
        self.call: Callable[..., bool] = self.library.function("kernel", ctypes.c_bool, pointer, *doubles)

    def _described(self, i: int) -> Any:
        """Return all of a node that its code depends on."""
        node = self.nodes[i]
        given = [
            (j, n.dtype, n.shape, repr(n.params["value"]) if n.op is CONSTANT and not n.shape else "")
            for j, n in ((j, self.nodes[j]) for j in node.inputs)
        ]
        params = {name: value for name, value in node.params.items() if name != "index"}
        return i, node.op.name, node.shape, node.dtype, params, given

    def kind(self, i: int) -> str:
        return "i64" if self.nodes[i].dtype == _INDEX else KINDS[self.nodes[i].dtype]

    # -- which phase --------------------------------------------------------------------------------------------------

    def _levels(self) -> None:
        """Find the phase in which each full node is computed, and the one before which each row's value is known."""
        kinds, nodes = self.region.kinds, self.nodes
        self.level: dict[int, int] = {}
        self.stored = {i for i in self.outputs if kinds[i] == FULL}
        for i in self.region.members:
            inside = [j for j in nodes[i].inputs if j in self.members]
            before = [self.level[j] for j in inside]
            if kinds[i] == FULL:
                self.level[i] = max(before, default=0)
            elif kinds[i] == COLUMN:
                self.level[i] = self.level[nodes[i].inputs[0]]
            elif kinds[i] == ROW and (_is_along(nodes[i]) or nodes[i].op.index):
                self.level[i] = self.level[nodes[i].inputs[0]] + 1
                if nodes[i].op.index:
                    self.stored.add(nodes[i].inputs[0])
            else:
                self.level[i] = max(before, default=0)
        for i in self.region.members:
            if kinds[i] in (FULL, COLUMN):
                for j in nodes[i].inputs:
                    if j in self.members and kinds[j] == FULL and self.level[j] < self.level[i]:
                        self.stored.add(j)
        self.phases = 1 + max(self.level.values())

    def may_replace(self, j: int, i: int) -> bool:
        """Return whether output ``i`` may overwrite operand ``j``: each element after it is read for the last time.

        The last lanes of a row reach into the next one. Masked or not, a processor has the load from there wait for the
        store to be over: twice as long for short rows, so that these have memory of their own.
        """
        nodes, kinds, region = self.nodes, self.region.kinds, self.region
        if region.rows > 1 and region.columns % LANES:
            return False
        if j not in self.arrays or kinds[i] != FULL:
            return False
        if (nodes[i].shape, nodes[i].dtype) != (nodes[j].shape, nodes[j].dtype):
            return False
        readers = [k for k in self.region.members if j in nodes[k].inputs]
        return all(self.level[k] - (kinds[k] == ROW) <= self.level[i] for k in readers)

    # -- the function -------------------------------------------------------------------------------------------------

    def _text(self) -> str:
        kernel = self._function()
        return module(kernel, entry(kernel, len(self.numbers)), inlined=True)

    def _function(self) -> Function:
        region, nodes = self.region, self.nodes
        numbers = [("double", f"n{k}") for k in range(len(self.numbers))]
        self.code = code = Function("kernel", BOOL, ["table", *numbers], apart=False)
        table, *given = code.arguments
        self.pointer = {}
        for k, i in enumerate(self.arrays):
            self.pointer[i] = code.load(table, k, "ptr")
            if i in self.moving:  # the array object: NumPy's C interface says where its data are
                self.pointer[i] = code.load(code.at(self.pointer[i], DATA, "i8"), 0, "ptr")
        if self.workspace:
            self.space = code.load(table, len(self.arrays), "ptr")
        self.given = {
            i: code.cast(v, KINDS.get(nodes[i].dtype, "double")) for i, v in zip(self.numbers, given, strict=True)
        }
        totals = [i for i in region.members if region.kinds[i] == TOTAL]
        sums = [i for i in region.members if region.kinds[i] == COLUMN]
        if sums:
            with code.loop(0, region.columns) as clear:
                for i in sums:
                    code.store(code.constant(0.0, self.kind(i)), self.pointer[i], clear.index, 1)
        zeros = [code.constant(0, "i64" if self.kind(i) == "i64" else "double") for i in totals]
        with code.block() as right:
            with code.loop(0, region.rows, 1, zeros) as rows:
                self.row, self.totals = rows.index, dict(zip(totals, rows.carried, strict=True))
                self.first = self.row * region.columns
                self.row_values: dict[int, Value] = {}
                self.vectors: dict[int, Value] = {}  # of a row that is one vector: no phase reads it back from memory
                self.picked = self._pick(right)
                for number in range(self.phases):
                    self._between(number)
                    self._phase(number)
                self._between(self.phases)
                rows.again(*self.totals.values())
            for i, total in zip(totals, rows.results, strict=True):
                code.store(code.cast(total, self.kind(i)), self.pointer[i], align=1)
            code.ret(True)
        if self.picked:
            code.ret(False)
        return code

    def _pick(self, right: Block) -> dict[int, Value]:
        """Read which column each row picks; leave if it is out of range."""
        code, columns = self.code, self.region.columns
        chosen = {self.nodes[i].inputs[-1] for i in self.region.members if self.nodes[i].op.index}
        picked = {}
        for j in sorted(chosen):
            given = code.load(self.pointer[j], self.row, "i64", align=1)
            picked[j] = code.select(given < 0, given + columns, given)
            right.leave(unless=code.compare("ult", picked[j], columns))
        return picked

    def _between(self, number: int) -> None:
        """Compute the rows' values that are known before phase ``number``."""
        code, nodes, kinds = self.code, self.nodes, self.region.kinds
        for i in self.region.members:
            if kinds[i] not in (ROW, TOTAL) or self.level[i] != number:
                continue
            node = nodes[i]
            if kinds[i] == TOTAL:
                total, value = self.totals[i], self.row_values[node.inputs[0]]
                counts = total.kind == "i64"
                self.totals[i] = total + (value.to("zext", "i64") if counts else code.cast(value, "double"))
                continue
            if node.op.reshapes:
                self.row_values[i] = self.row_values[node.inputs[0]]
            elif node.op.index:
                base = node.inputs[0]
                at = self._address(base, self.picked[node.inputs[-1]])
                self.row_values[i] = code.load(at, 0, self.kind(base), align=1)
            elif not _is_along(node):
                operands = [self._row_operand(j) for j in node.inputs]
                if operands[0].kind == "i64":
                    self.row_values[i] = operands[0].equals(operands[1])
                else:
                    self.row_values[i] = elementwise(code, node, operands, [nodes[j] for j in node.inputs])
            if i in self.outputs:
                code.store(self.row_values[i], self.pointer[i], self.row, 1)

    def _row_operand(self, j: int) -> Value:
        n = self.nodes[j]
        if j in self.row_values:
            return self.row_values[j]
        if n.op is CONSTANT and not n.shape:
            return scalar(self.code, n)
        if j in self.given:
            return self.given[j]
        return self.code.load(self.pointer[j], self.row, self.kind(j), align=1)

    def _address(self, i: int, column: Value) -> Value:
        """Return the address of an element of a full node, in its array or, for this row, in the workspace."""
        code, stored = self.code, "i8" if self.kind(i) == BOOL else self.kind(i)
        if i in self.pointer:
            return code.at(self.pointer[i], self.first + column, stored)
        return code.at(code.at(self.space, self.scratch[i], "i8"), column, stored)

    # -- one phase: a loop over the columns ---------------------------------------------------------------------------

    def _phase(self, number: int) -> None:
        code, nodes, kinds = self.code, self.nodes, self.region.kinds
        members = self.region.members
        full = [i for i in members if kinds[i] == FULL and self.level[i] == number]
        sums = [i for i in members if kinds[i] == COLUMN and self.level[i] == number]
        rows = [i for i in members if kinds[i] == ROW and self.level[i] == number + 1]
        along = [i for i in rows if nodes[i].op.reduces is not None]
        places = [i for i in rows if nodes[i].op.finds is not None]
        if not full and not sums and not along and not places:
            return
        columns = self.region.columns
        whole = columns // LANES * LANES if columns > LANES else 0
        outside = {
            j: self._row_operand(j)
            for i in full
            for j in nodes[i].inputs
            if j not in self.members and self._role(i, j) == ROW
        }
        row = self.row_values | outside
        starts: dict[Any, Value] = {}
        for i in along:
            first = code.constant(self._monoid(i).neutral, self.kind(i))
            starts[i] = code.splat(first, LANES)
        for i in places:
            first = code.constant(self._monoid(i).neutral, self.kind(nodes[i].inputs[0]))
            starts[i], starts[i, "place"] = code.splat(first, LANES), code.numbered(LANES, "i32")

        def over(begin: int | Value, end: int | Value, first: dict[Any, Value]) -> dict[Any, Value]:
            """Write the loop over these columns; return the totals."""
            with code.loop(begin, end, LANES, list(first.values()), once=True) as loop:
                going = dict(zip(first, loop.carried, strict=True))
                after = self._columns(full, sums, along, places, going, loop.index, LANES, row)
                loop.again(*(after[key] for key in first))
            return dict(zip(first, loop.results, strict=True))

        totals = starts
        added = [i for i in along if _adds(nodes[i])]
        if added and whole > CHUNK:  # the sums of each chunk are added to the totals
            with code.loop(0, whole, CHUNK, list(starts.values())) as chunks:
                before = dict(zip(starts, chunks.carried, strict=True))
                end = code.intrinsic("smin", chunks.index + CHUNK, whole)
                totals = over(chunks.index, end, before | {i: starts[i] for i in added})
                chunks.again(*(totals | {i: before[i] + totals[i] for i in added}).values())
            totals = dict(zip(starts, chunks.results, strict=True))
        elif whole:
            totals = over(0, whole, starts)
        if whole < columns:
            rest = code.constant(whole, "i64")
            totals = self._columns(full, sums, along, places, totals, rest, columns - whole, row)
        for i in along:
            self.row_values[i] = code.folded(combiner(self._monoid(i)), totals[i])
        for i in places:
            self.row_values[i] = self._place_of(i, totals[i], totals[i, "place"])

    def _monoid(self, i: int) -> Monoid:
        """Return the monoid that a row's elements are reduced with, or whose choice is searched."""
        op = self.nodes[i].op
        monoid = op.reduces or op.finds
        assert monoid is not None
        return monoid

    def _place_of(self, i: int, found: Value, places: Value) -> Value:
        """Return the first place of the row's largest or smallest element, or of its first NaN.

        found, places: each lane's element, and its place.
        """
        code = self.code
        best = code.folded(combiner(self._monoid(i)), found)
        here = code.select(found.equals(best) | found.is_nan(), places, 2**31 - 1)
        return code.across("smin", here).to("zext", "i64")

    def _role(self, i: int, j: int) -> str:
        """Return what an operand from outside is to a full node: full, one number per row, or one per column."""
        shape, rows = self.nodes[j].shape, self.region.rows
        if shape == self.nodes[i].shape or rows == 1:
            return FULL
        return ROW if shape == (rows, 1) else COLUMN

    def _columns(
        self,
        full: Sequence[int],
        sums: Sequence[int],
        along: Sequence[int],
        places: Sequence[int],
        totals: dict[Any, Value],
        at: Value,
        lanes: int,
        row: dict[int, Value],
    ) -> dict[Any, Value]:
        """Write the code for the columns from ``at`` on, ``lanes`` of them; return the new totals.

        All is read before anything is written: an output may overwrite an operand.
        """
        code, nodes = self.code, self.nodes
        values: dict[int, Value] = self.vectors if self.region.columns <= LANES else {}

        def operand(i: int, j: int) -> Value:
            n = nodes[j]
            if j in values:
                return values[j]
            if n.op is CONSTANT and not n.shape:
                return scalar(code, n)
            if j in self.given:
                return self.given[j]
            if j in row:
                return row[j]
            if j in self.members or self._role(i, j) == FULL:
                address = self._address(j, at)
            else:
                stored = "i8" if self.kind(j) == BOOL else self.kind(j)
                address = code.at(self.pointer[j], at, stored)
            values[j] = self._load(address, self.kind(j), lanes)
            return values[j]

        for i in full:
            node = nodes[i]
            if node.op.index:
                base = operand(i, node.inputs[0])
                value = code.cast(operand(i, node.inputs[1]), base.kind)
                here = (self.picked[node.inputs[-1]] - at).equals(code.numbered(LANES, "i64"))
                values[i] = code.select(here, base + value, base)
            else:
                operands, given = [operand(i, j) for j in node.inputs], [nodes[j] for j in node.inputs]
                values[i] = elementwise(code, node, operands, given)
            values[i] = code.splat(code.cast(values[i], self.kind(i)), LANES)
        written = [(values[i], self._address(i, at)) for i in full if i in self.stored]
        for i in sums:
            address = code.at(self.pointer[i], at, self.kind(i))
            before = self._load(address, self.kind(i), lanes)
            written.append((before + operand(i, nodes[i].inputs[0]), address))
        after: dict[Any, Value] = {}

        def reduced(i: int) -> Value:
            x = operand(i, nodes[i].inputs[0])
            return x if lanes == LANES else code.select(self._mask(lanes), x, self._monoid(i).neutral)

        for i in along:
            after[i] = combiner(self._monoid(i))(code, totals[i], reduced(i))
        for i in places:
            x, best, place = reduced(i), totals[i], totals[i, "place"]
            beyond = code.compare("ugt" if self._monoid(i).neutral < 0 else "ult", x, best)
            better = beyond & code.compare("ord", best, best)  # the first NaN stays
            here = at.to("trunc", "i32") + code.numbered(LANES, "i32")
            after[i], after[i, "place"] = code.select(better, x, best), code.select(better, here, place)
        for value, address in written:
            self._store(value, address, lanes)
        return after

    def _mask(self, lanes: int) -> Value:
        return self.code.flags([k < lanes for k in range(LANES)])

    def _load(self, address: Value, kind: str, lanes: int) -> Value:
        code = self.code
        if lanes == LANES:
            return code.load(address, 0, kind, LANES, 1)
        stored = "i8" if kind == BOOL else kind
        of, name = of_type(stored, LANES), f"@llvm.masked.load.v{LANES}{TAGS.get(stored, stored)}.p0"
        code.declared.add(f"declare {of} {name}(ptr, i32, <{LANES} x i1>, {of})")
        given = f"{address.typed}, i32 1, {self._mask(lanes).typed}, {of} zeroinitializer"
        v = code.fresh(f"call {of} {name}({given})", stored, LANES)
        return v.to("trunc", BOOL) if kind == BOOL else v

    def _store(self, v: Value, address: Value, lanes: int) -> None:
        code = self.code
        if lanes == LANES:
            code.store(v, address, align=1)
            return
        v = v.to("zext", "i8") if v.kind == BOOL else v
        name = f"@llvm.masked.store.v{LANES}{TAGS.get(v.kind, v.kind)}.p0"
        code.declared.add(f"declare void {name}({v.type}, ptr, i32, <{LANES} x i1>)")
        code.line(f"call void {name}({v.typed}, {address.typed}, i32 1, {self._mask(lanes).typed})")


def table(*arrays: Any) -> Any:
    """Return the addresses of arrays (None: to be filled in) as a kernel takes them, holding the arrays."""
    addresses: Any = _pointers(len(arrays))(*[None if a is None else address(a) for a in arrays])
    addresses.held = arrays
    return addresses


@functools.lru_cache(64)
def _pointers(count: int) -> Any:
    """Return the type of so many pointers; ctypes alone would make it again for each table, with a cycle to collect."""
    return ctypes.c_void_p * count
