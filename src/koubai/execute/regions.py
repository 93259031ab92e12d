"""Regions: what stands between the matrix products of a program on memory that stays, each as one pass in machine code.

A region is a set of nodes over rows and columns: *full* ones have an element in each place, *row* ones one a row (a
reduction along the row, and what follows from it), sums along the columns are added up from row to row, and so are
those of the rows' numbers. The kernel
goes through the rows; within a row, a *phase* is a loop over the columns, `LANES` elements at a time, and ends where
the result of a row's reduction is needed. Arrays of equal shape that only meet each other are one long row.

Sums go in a fixed order on every machine: the lanes of a row side by side, put aside after each `STRETCH` of columns,
then as a tree; columns from row to row.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from koubai.execute import library
from koubai.execute.elements import Unsuitable
from koubai.execute.llvm import (
    BOOL,
    DATA,
    KINDS,
    TAGS,
    Phi,
    Value,
    elementwise,
    emitter,
    module,
    of_type,
)
from koubai.execute.llvm import (
    OldCode as Code,
)
from koubai.execute.llvm import (
    scalar as constant,
)
from koubai.execute.native import OldFunction
from koubai.graph.ops import OPS, Index
from koubai.graph.trace import CONSTANT, LEAVES, Graph, Node

__all__ = ["LEAST", "Kernel", "Region", "partition", "table"]

LANES = 16
STRETCH = 2048  # columns that a row's running sums take up before they are put aside
LONG = 2**16  # numbers of rows that are added one after the other at most
LEAST = 64  # elements of a region that is worth a call
CALLS = ("exp", "log", "tanh", "sigmoid", "softplus", "sqrt", "power", "expm1", "log1p", "logaddexp", "sin", "cos")
_RESHAPE, _GETITEM, _ADD_AT, _TRANSPOSE = (OPS[name] for name in ("reshape", "getitem", "add_at", "transpose"))
_ALONG = {"sum": ("add", 0.0), "max": ("maximum", -math.inf), "min": ("minimum", math.inf)}
_ALONG["largest"] = _ALONG["max"]
_PLACES = ("argmax", "argmin")
_INDEX = np.dtype(np.int64)
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


def _has_code(node: Node, given: Sequence[Node]) -> bool:
    """Is there machine code for this elementwise node?"""
    if KINDS.get(node.dtype) is None:
        return False
    try:
        code = Code()
        operands = []
        for n in given:
            if n.op is CONSTANT and not n.shape:
                operands.append(constant(code, n))
            elif n.dtype in KINDS:
                operands.append(Value("%x", KINDS[n.dtype], LANES))
            else:
                return False
        _element(code, node, operands, given)
    except Unsuitable:
        return False
    return True


def _element(code: Code, node: Node, operands: Sequence[Value], given: Sequence[Node]) -> Value:
    if node.op.name == "relu":
        x = code.cast(operands[0], KINDS[node.dtype])
        return emitter("maximum")(code, x, code.number(0.0, x.kind))
    return elementwise(code, node, operands, given)


def partition(graph: Graph) -> tuple[Graph, list[Region]]:
    """Return the graph in an order in which every region's nodes stand together, and the regions."""
    graph = _without_idle_views(graph)
    nodes = graph.nodes
    guarded = {guard.node for guard in graph.guards}
    groups: list[Region] = []
    group_of: dict[int, Region] = {}
    opened: list[Region] = []
    units: list[int | Region] = []

    def close(group: Region) -> None:
        opened.remove(group)
        units.append(group)

    waiting: dict[int, None] = {}  # what NumPy computes from an open region: it can wait until it is asked for

    def settle(i: int) -> None:
        """See to it that node ``i`` is computed before what comes next."""
        due = [(i, False)]  # and whether all that it needs is settled; what waits may be a long chain
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
                    settle(j)
                found = _place(nodes, i, group_of, opened)
        if found is None:
            if any(j in waiting or (j in group_of and group_of[j] in opened) for j in node.inputs):
                waiting[i] = None
                if i in guarded:
                    settle(i)
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
        if i in guarded:  # what comes after holds only where the guard does
            settle(i)
    for group in list(opened):
        close(group)
    for i in list(waiting):
        settle(i)
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
    """Leave out what transposes a transpose back, or reshapes to the same shape."""
    nodes = list(graph.nodes)
    same = list(range(len(nodes)))
    for i, node in enumerate(nodes):
        inputs = tuple([same[j] for j in node.inputs])
        nodes[i] = node._replace(inputs=inputs)
        if node.op is _TRANSPOSE and nodes[inputs[0]].op is _TRANSPOSE:
            first = nodes[inputs[0]]
            axes = [first.params["axes"][a] for a in node.params["axes"]]
            if axes == list(range(len(axes))):
                same[i] = first.inputs[0]
        elif node.op is _RESHAPE and node.shape == nodes[inputs[0]].shape:
            same[i] = inputs[0]
    return Graph.pruned(nodes, graph.inputs, graph.outputs, graph.guards, graph.kinks, graph.name)


def _is_worth_it(nodes: Sequence[Node], region: Region) -> bool:
    computed = [i for i in region.members if nodes[i].op is not _RESHAPE]
    if region.rows * region.columns < LEAST:
        return False
    return len(computed) > 1 or any(nodes[i].op.name in CALLS for i in computed)


def _place(
    nodes: Sequence[Node], i: int, group_of: dict[int, Region], opened: Sequence[Region]
) -> tuple[Region, str] | None:
    """Return the region that node ``i`` can be part of, and as what; a new region where it can begin one."""
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

    if node.op.name == "equal" and ROW in kinds.values() and {n.dtype for n in given} == {_INDEX}:
        group = next(group for j, group in inside if kinds[j] == ROW)
        return (group, ROW) if all(n.shape == (group.rows,) for n in given) else None
    if node.op.elementwise and node.shape and _has_code(node, given):
        row_group: Region | None = next((g for j, g in inside if kinds[j] == ROW), None)
        if row_group is not None and _size(node) == row_group.rows and node.shape[0] == row_group.rows:
            for j, n in zip(node.inputs, given, strict=True):  # row with row
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
    if group.rows > 1 and node.op.name in _PLACES and kinds[j] == FULL and KINDS.get(given[0].dtype) in TAGS:
        return (group, ROW) if node.params["axis"] == 1 else None
    if 1 < group.rows <= LONG and node.op.name == "sum" and not node.shape and kinds[j] == ROW:
        counts = given[0].dtype == np.bool_ and node.dtype == _INDEX
        return (group, TOTAL) if counts or (given[0].dtype == node.dtype and node.dtype in KINDS) else None
    if node.dtype.kind != "f":
        return None
    if group.rows == 1:  # long sums of float32 are NumPy's, which adds in pairs
        sums = node.op.name == "sum" and not node.shape and kinds.get(j) == FULL
        return (group, ROW) if sums and given[0].dtype == node.dtype == np.float64 else None
    if node.op.name in _ALONG and kinds.get(j) == FULL and KINDS.get(given[0].dtype) in TAGS:
        axis = node.params["axis"]
        if axis == (1,):
            return group, ROW
        if axis == (0,) and node.op.name == "sum":
            return group, COLUMN
        return None
    if node.op is _RESHAPE and kinds.get(j) == ROW and node.shape in ((group.rows, 1), (group.rows,)):
        return group, ROW
    if node.op in (_GETITEM, _ADD_AT) and kinds.get(j) == FULL and _picks_one_a_row(nodes, node, group):
        if node.op is _GETITEM:
            return group, ROW
        value = node.inputs[1]
        if _size(nodes[value]) == 1 or (kinds.get(value) == ROW and nodes[value].shape == (group.rows,)):
            return group, FULL
    return None


def _is_uneven(nodes: Sequence[Node], j: int) -> bool:
    """Does an operand lie in memory with gaps, as far as can be told?"""
    while nodes[j].op.view or (nodes[j].op is _GETITEM and not nodes[j].params["index"].holes):
        if nodes[j].op is _TRANSPOSE or nodes[j].op.name not in ("reshape", "getitem"):
            return True
        if nodes[j].op is _GETITEM and len(nodes[nodes[j].inputs[0]].shape) != 1:
            return True
        j = nodes[j].inputs[0]
    return False


def _picks_one_a_row(nodes: Sequence[Node], node: Node, region: Region) -> bool:
    """Is the index (0, 1, 2, …; one column a row)?"""
    index = node.params["index"]
    arrays = node.inputs[2:] if node.op is _ADD_AT else node.inputs[1:]
    if index.items != (Index.HOLE, Index.HOLE) or len(arrays) != 2:
        return False
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
    numbers: the nodes of one element that it is given. moving: the arrays that lie elsewhere at every call, given as
    objects. call(table, *numbers) returns False where an index is none.
    """

    def __init__(self, graph: Graph, region: Region, outputs: Sequence[int], moves: Callable[[int], bool]) -> None:
        self.nodes, self.region = graph.nodes, region
        self.members = set(region.members)
        self.outputs = [i for i in outputs if self.nodes[i].op is not _RESHAPE]
        read: dict[int, None] = {}
        numbers: dict[int, None] = {}
        for i in region.members:
            for j in self.nodes[i].inputs:
                n = self.nodes[j]
                if j in self.members or (n.op is CONSTANT and not n.shape):
                    continue
                if n.op is CONSTANT and self.nodes[i].op in (_GETITEM, _ADD_AT):
                    continue  # the numbers of the rows
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
        self.library = library.load("regions" + key, lambda: module(self._function()))
        pointer = ctypes.c_void_p
        doubles = [ctypes.c_double] * len(self.numbers)
        self.call: Callable[..., bool] = ctypes.CFUNCTYPE(ctypes.c_bool, pointer, *doubles)(
            self.library.address("kernel")
        )

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
        """Find the phase in which each full node is computed, and that before which each row's value is known."""
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
            elif kinds[i] == ROW and (nodes[i].op.name in (*_ALONG, *_PLACES) or nodes[i].op is _GETITEM):
                self.level[i] = self.level[nodes[i].inputs[0]] + 1
                if nodes[i].op is _GETITEM:
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
        """May output ``i`` be written where operand ``j`` lies? An element must have been read for the last time."""
        nodes, kinds = self.nodes, self.region.kinds
        if j not in self.arrays or kinds[i] != FULL:
            return False
        if (nodes[i].shape, nodes[i].dtype) != (nodes[j].shape, nodes[j].dtype):
            return False
        readers = [k for k in self.region.members if j in nodes[k].inputs]
        return all(self.level[k] - (kinds[k] == ROW) <= self.level[i] for k in readers)

    # -- the function -------------------------------------------------------------------------------------------------

    def _function(self) -> OldFunction:
        region, nodes = self.region, self.nodes
        numbers = [("double", f"n{k}") for k in range(len(self.numbers))]
        function = OldFunction("kernel", BOOL, ["table", *numbers], apart=False)
        code = self.code = function.code
        code.block("entry")
        self.pointer = {}
        for k, i in enumerate(self.arrays):
            place = code.raw(f"getelementptr ptr, ptr %table, i64 {k}")
            self.pointer[i] = code.load(f"load ptr, ptr {place}")
            if i in self.moving:  # the array object: its data are where NumPy's C interface says
                place = code.raw(f"getelementptr i8, ptr {self.pointer[i]}, i64 {DATA}")
                self.pointer[i] = code.load(f"load ptr, ptr {place}")
        if self.workspace:
            place = code.raw(f"getelementptr ptr, ptr %table, i64 {len(self.arrays)}")
            self.space = code.load(f"load ptr, ptr {place}")
        self.given = {
            i: code.cast(Value(f"%n{k}", "double"), KINDS.get(nodes[i].dtype, "double"))
            for k, i in enumerate(self.numbers)
        }
        totals = [i for i in region.members if region.kinds[i] == TOTAL]
        for i in totals:
            kind = self._adding(i)
            code.line(f"%total{i} = alloca {kind}")
            code.line(f"store {kind} {'0' if kind == 'i64' else '0.0'}, ptr %total{i}")
        sums = [i for i in region.members if region.kinds[i] == COLUMN]
        if sums:
            self._clear(sums)
        before = "entry" if not sums else "cleared"
        code.line("br label %row")
        code.block("row")
        code.line(f"%r = phi i64 [ 0, %{before} ], [ %r.next, %row.end ]")
        self.first = code.raw(f"mul i64 %r, {region.columns}")
        self.row_values: dict[int, Value] = {}
        self.picked: dict[int, str] = {}
        self._pick()
        for number in range(self.phases):
            self._between(number)
            self._phase(number)
        self._between(self.phases)
        code.line("br label %row.end")
        code.block("row.end")
        code.line("%r.next = add i64 %r, 1")
        code.line(f"%r.on = icmp slt i64 %r.next, {region.rows}")
        code.line("br i1 %r.on, label %row, label %done")
        code.block("done")
        for i in totals:
            added = Value(code.load(f"load {self._adding(i)}, ptr %total{i}"), self._adding(i))
            value = code.cast(added, self.kind(i))
            code.line(f"store {value.kind} {value.text}, ptr {self.pointer[i]}, align 1")
        code.line("ret i1 true")
        if self.picked:
            code.block("wrong")
            code.line("ret i1 false")
        return function

    def _clear(self, sums: Sequence[int]) -> None:
        code, columns = self.code, self.region.columns
        code.line("br label %clear")
        code.block("clear")
        code.line("%c = phi i64 [ 0, %entry ], [ %c.next, %clear ]")
        for i in sums:
            kind = self.kind(i)
            at = code.raw(f"getelementptr {kind}, ptr {self.pointer[i]}, i64 %c")
            code.line(f"store {kind} 0.0, ptr {at}, align 1")
        code.line("%c.next = add i64 %c, 1")
        code.line(f"%c.on = icmp slt i64 %c.next, {columns}")
        code.line("br i1 %c.on, label %clear, label %cleared")
        code.block("cleared")

    def _pick(self) -> None:
        """Read which column each row picks; leave where it is none."""
        code, columns = self.code, self.region.columns
        chosen = {
            (self.nodes[i].inputs[3] if self.nodes[i].op is _ADD_AT else self.nodes[i].inputs[2])
            for i in self.region.members
            if self.nodes[i].op in (_GETITEM, _ADD_AT)
        }
        for k, j in enumerate(sorted(chosen)):
            at = code.raw(f"getelementptr i64, ptr {self.pointer[j]}, i64 %r")
            given = code.load(f"load i64, ptr {at}, align 1")
            from_end = code.raw(f"add i64 {given}, {columns}")
            negative = code.raw(f"icmp slt i64 {given}, 0")
            place = code.raw(f"select i1 {negative}, i64 {from_end}, i64 {given}")
            right = code.raw(f"icmp ult i64 {place}, {columns}")
            code.line(f"br i1 {right}, label %picked{k}, label %wrong")
            code.block(f"picked{k}")
            self.picked[j] = place

    def _between(self, number: int) -> None:
        """Compute the rows' values that are known before phase ``number``."""
        code, nodes, kinds = self.code, self.nodes, self.region.kinds
        for i in self.region.members:
            if kinds[i] not in (ROW, TOTAL) or self.level[i] != number:
                continue
            node = nodes[i]
            if kinds[i] == TOTAL:
                self._add(i, self.row_values[node.inputs[0]])
                continue
            if node.op is _RESHAPE:
                self.row_values[i] = self.row_values[node.inputs[0]]
            elif node.op is _GETITEM:
                base = node.inputs[0]
                at = self._address(base, self.picked[node.inputs[2]])
                self.row_values[i] = Value(code.load(f"load {self.kind(base)}, ptr {at}, align 1"), self.kind(base))
            elif node.op.name not in (*_ALONG, *_PLACES):
                operands = [self._row_operand(j) for j in node.inputs]
                if operands[0].kind == "i64":
                    a, b = (v.text for v in operands)
                    self.row_values[i] = Value(code.raw(f"icmp eq i64 {a}, {b}"), BOOL)
                else:
                    self.row_values[i] = _element(code, node, operands, [nodes[j] for j in node.inputs])
            if i in self.outputs:
                value = self.row_values[i]
                at = code.raw(f"getelementptr {value.kind}, ptr {self.pointer[i]}, i64 %r")
                code.line(f"store {value.kind} {value.text}, ptr {at}, align 1")

    def _adding(self, i: int) -> str:
        """Return the kind of number in which a total is added up."""
        return "i64" if self.kind(i) == "i64" else "double"

    def _add(self, i: int, value: Value) -> None:
        """Add a row's number to a total."""
        code, kind = self.code, self._adding(i)
        before = code.load(f"load {kind}, ptr %total{i}")
        if kind == "i64":
            after = code.raw(f"add i64 {before}, {code.raw(f'zext i1 {value.text} to i64')}")
        else:
            after = code.raw(f"fadd double {before}, {code.cast(value, kind).text}")
        code.line(f"store {kind} {after}, ptr %total{i}")

    def _row_operand(self, j: int) -> Value:
        code, n = self.code, self.nodes[j]
        if j in self.row_values:
            return self.row_values[j]
        if n.op is CONSTANT and not n.shape:
            return constant(code, n)
        if j in self.given:
            return self.given[j]
        at = code.raw(f"getelementptr {self.kind(j)}, ptr {self.pointer[j]}, i64 %r")
        return Value(code.load(f"load {self.kind(j)}, ptr {at}, align 1"), self.kind(j))

    def _address(self, i: int, column: str) -> str:
        """Return the address of an element of a full node, in its array or, for this row, in the workspace."""
        code, stored = self.code, "i8" if self.kind(i) == BOOL else self.kind(i)
        if i in self.pointer:
            place = code.raw(f"add i64 {self.first}, {column}")
            return code.raw(f"getelementptr {stored}, ptr {self.pointer[i]}, i64 {place}")
        start = code.raw(f"getelementptr i8, ptr {self.space}, i64 {self.scratch[i]}")
        return code.raw(f"getelementptr {stored}, ptr {start}, i64 {column}")

    # -- one phase: a loop over the columns ---------------------------------------------------------------------------

    def _phase(self, number: int) -> None:
        code, nodes, kinds = self.code, self.nodes, self.region.kinds
        members = self.region.members
        full = [i for i in members if kinds[i] == FULL and self.level[i] == number]
        sums = [i for i in members if kinds[i] == COLUMN and self.level[i] == number]
        rows = [i for i in members if kinds[i] == ROW and self.level[i] == number + 1]
        along = [i for i in rows if nodes[i].op.name in _ALONG]
        places = [i for i in rows if nodes[i].op.name in _PLACES]
        if not full and not sums and not along and not places:
            return
        columns = self.region.columns
        whole = columns // LANES * LANES
        label = f"p{number}"
        row = {i: self.row_values[i] for i in self.row_values}
        outside = {
            j: self._row_operand(j)
            for i in full
            for j in nodes[i].inputs
            if j not in self.members and self._role(i, j) == ROW
        }
        entry = f"{label}.in"
        code.line(f"br label %{entry}")
        code.block(entry)
        starts: dict[Any, Value] = {}
        for i in along:
            first = code.number(_ALONG[nodes[i].op.name][1], self.kind(i))
            starts[i] = code.spread(first, LANES)
        for i in places:
            first = code.number(self._worst(i), self.kind(nodes[i].inputs[0]))
            starts[i], starts[i, "place"] = code.spread(first, LANES), self._lanes("i32")
        totals = starts
        if whole:
            added = [i for i in along if nodes[i].op.name == "sum"]
            split = bool(added) and whole > STRETCH
            begin, came, before = Value("0", "i64"), entry, starts
            if split:
                came = f"{label}.stretch"
                code.line(f"br label %{came}")
                code.block(came)
                start = Phi(code, "i64", 1)
                carried = {key: Phi(code, v.kind, LANES) for key, v in starts.items()}
                begin, before = start.value, {key: phi.value for key, phi in carried.items()}
            code.line(f"br label %{label}")
            code.block(label)
            at = Phi(code, "i64", 1)
            phis = {key: Phi(code, v.kind, LANES) for key, v in starts.items()}
            going = {key: phi.value for key, phi in phis.items()}
            totals = self._columns(full, sums, along, places, going, at.value.text, LANES, row | outside)
            following = Value(code.load(f"add i64 {at.value.text}, {LANES}"), "i64")
            left = on = code.load(f"icmp slt i64 {following.text}, {whole}")
            if split:
                end = code.load(f"add i64 {begin.text}, {STRETCH}")
                on = code.load(f"and i1 {left}, {code.load(f'icmp slt i64 {following.text}, {end}')}")
            code.line(f"br i1 {on}, label %{label}, label %{label}.{'end' if split else 'out'}")
            at.close((begin, came), (following, label))
            for key, phi in phis.items():
                phi.close((starts[key] if key in added else before[key], came), (totals[key], label))
            if split:
                code.block(f"{label}.end")  # the sums of this stretch are put aside
                totals = totals | {i: code.binary("fadd", before[i], totals[i]) for i in added}
                code.line(f"br i1 {left}, label %{came}, label %{label}.out")
                start.close((Value("0", "i64"), entry), (following, f"{label}.end"))
                for key, phi in carried.items():
                    phi.close((starts[key], entry), (totals[key], f"{label}.end"))
            code.block(f"{label}.out")
        if whole < columns:
            totals = self._columns(full, sums, along, places, totals, str(whole), columns - whole, row | outside)
        for i in along:
            self.row_values[i] = self._tree(_ALONG[nodes[i].op.name][0], totals[i])
        for i in places:
            self.row_values[i] = self._place_of(i, totals[i], totals[i, "place"])

    def _worst(self, i: int) -> float:
        """Return what loses against any element in the search for a row's largest or smallest one."""
        return -math.inf if self.nodes[i].op.name == "argmax" else math.inf

    def _lanes(self, kind: str) -> Value:
        numbers = ", ".join(f"{kind} {k}" for k in range(LANES))
        return Value(f"<{numbers}>", kind, LANES)

    def _place_of(self, i: int, found: Value, places: Value) -> Value:
        """Return where the row's largest or smallest element stands first, or its first NaN.

        found, places: each lane's, and where it stands.
        """
        code = self.code
        best = self._tree("maximum" if self.nodes[i].op.name == "argmax" else "minimum", found)
        is_best = code.compare("oeq", found, code.spread(best, LANES))
        is_nan = code.compare("uno", found, found)
        nowhere = code.spread(Value(str(2**31 - 1), "i32"), LANES)
        here = code.select(code.binary("or", is_best, is_nan), places, nowhere)
        symbol = f"@llvm.vector.reduce.smin.v{LANES}i32"
        code.declared.add(f"declare i32 {symbol}(<{LANES} x i32>)")
        first = code.raw(f"call i32 {symbol}(<{LANES} x i32> {here.text})")
        return Value(code.raw(f"zext i32 {first} to i64"), "i64")

    def _role(self, i: int, j: int) -> str:
        """Return what an operand from outside is to a full node: full, one number a row, or one a column."""
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
        at: str,
        lanes: int,
        row: dict[int, Value],
    ) -> dict[Any, Value]:
        """Write the code for the columns from ``at`` on, ``lanes`` of them; return the new totals.

        All is read before anything is written: an output may lie where an operand does.
        """
        code, nodes = self.code, self.nodes
        values: dict[int, Value] = {}

        def operand(i: int, j: int) -> Value:
            n = nodes[j]
            if j in values:
                return values[j]
            if n.op is CONSTANT and not n.shape:
                return constant(code, n)
            if j in self.given:
                return self.given[j]
            if j in row:
                return row[j]
            if j in self.members or self._role(i, j) == FULL:
                address = self._address(j, at)
            else:
                stored = "i8" if self.kind(j) == BOOL else self.kind(j)
                address = code.raw(f"getelementptr {stored}, ptr {self.pointer[j]}, i64 {at}")
            values[j] = self._load(address, self.kind(j), lanes)
            return values[j]

        for i in full:
            node = nodes[i]
            if node.op is _ADD_AT:
                base = operand(i, node.inputs[0])
                value = code.cast(operand(i, node.inputs[1]), base.kind)
                here = self._is_column(at, self.picked[node.inputs[3]])
                values[i] = code.select(here, code.binary("fadd", base, value), base)
            else:
                values[i] = _element(code, node, [operand(i, j) for j in node.inputs], [nodes[j] for j in node.inputs])
            values[i] = code.spread(code.cast(values[i], self.kind(i)), LANES)
        written = [(values[i], self._address(i, at)) for i in full if i in self.stored]
        for i in sums:
            address = code.raw(f"getelementptr {self.kind(i)}, ptr {self.pointer[i]}, i64 {at}")
            before = self._load(address, self.kind(i), lanes)
            written.append((code.binary("fadd", before, operand(i, nodes[i].inputs[0])), address))
        after: dict[Any, Value] = {}

        def reduced(i: int, neutral: float) -> Value:
            x = operand(i, nodes[i].inputs[0])
            rest = code.spread(code.number(neutral, x.kind), LANES)
            return x if lanes == LANES else code.select(self._mask(lanes), x, rest)

        for i in along:
            name, neutral = _ALONG[nodes[i].op.name]
            after[i] = emitter(name)(code, totals[i], reduced(i, neutral))
        for i in places:
            x, best, place = reduced(i, self._worst(i)), totals[i], totals[i, "place"]
            beyond = code.compare("ugt" if nodes[i].op.name == "argmax" else "ult", x, best)
            better = code.binary("and", beyond, code.compare("ord", best, best))  # the first NaN stays
            start = Value(code.raw(f"trunc i64 {at} to i32"), "i32")
            here = code.binary("add", code.spread(start, LANES), self._lanes("i32"))
            after[i], after[i, "place"] = code.select(better, x, best), code.select(better, here, place)
        for value, address in written:
            self._store(value, address, lanes)
        return after

    def _mask(self, lanes: int) -> Value:
        flags = ", ".join(f"i1 {'true' if k < lanes else 'false'}" for k in range(LANES))
        return Value(f"<{flags}>", BOOL, LANES)

    def _is_column(self, at: str, picked: str) -> Value:
        """Return in which lane the column lies that the row picks."""
        code = self.code
        vector = f"<{LANES} x i64>"
        gap = code.raw(f"sub i64 {picked}, {at}")
        one = code.raw(f"insertelement {vector} poison, i64 {gap}, i32 0")
        spread = code.raw(f"shufflevector {vector} {one}, {vector} poison, <{LANES} x i32> zeroinitializer")
        return Value(code.raw(f"icmp eq {vector} {spread}, {self._lanes('i64').text}"), BOOL, LANES)

    def _load(self, address: str, kind: str, lanes: int) -> Value:
        code = self.code
        stored = "i8" if kind == BOOL else kind
        of = of_type(stored, LANES)
        if lanes == LANES:
            text = code.load(f"load {of}, ptr {address}, align 1")
        else:
            tag = "i8" if kind == BOOL else TAGS[kind]
            code.declared.add(f"declare {of} @llvm.masked.load.v{LANES}{tag}.p0(ptr, i32, <{LANES} x i1>, {of})")
            mask = self._mask(lanes).text
            text = code.load(
                f"call {of} @llvm.masked.load.v{LANES}{tag}.p0(ptr {address}, i32 1, <{LANES} x i1> {mask}, "
                f"{of} zeroinitializer)"
            )
        if kind == BOOL:
            text = code.raw(f"trunc {of} {text} to {of_type(BOOL, LANES)}")
        return Value(text, kind, LANES)

    def _store(self, v: Value, address: str, lanes: int) -> None:
        code, stored, text = self.code, v.kind, v.text
        if v.kind == BOOL:
            stored, text = "i8", code.raw(f"zext {of_type(BOOL, LANES)} {text} to {of_type('i8', LANES)}")
        of = of_type(stored, LANES)
        if lanes == LANES:
            code.line(f"store {of} {text}, ptr {address}, align 1")
            return
        tag = "i8" if v.kind == BOOL else TAGS[v.kind]
        code.declared.add(f"declare void @llvm.masked.store.v{LANES}{tag}.p0({of}, ptr, i32, <{LANES} x i1>)")
        mask = self._mask(lanes).text
        code.line(
            f"call void @llvm.masked.store.v{LANES}{tag}.p0({of} {text}, ptr {address}, i32 1, <{LANES} x i1> {mask})"
        )

    def _tree(self, name: str, v: Value) -> Value:
        """Return the lanes put together, half by half."""
        code, lanes = self.code, LANES
        while lanes > 1:
            half = lanes // 2
            of = of_type(v.kind, lanes)
            parts = []
            for start in (0, half):
                if half == 1:
                    parts.append(Value(code.raw(f"extractelement {of} {v.text}, i32 {start}"), v.kind, 1))
                else:
                    parts.append(code.shuffled(range(start, start + half), v))
            v, lanes = emitter(name)(code, *parts), half
        return v


def table(*arrays: Any) -> Any:
    """Return the addresses of arrays (None: to be filled in) as a kernel takes them, holding the arrays."""
    addresses: Any = (ctypes.c_void_p * len(arrays))(*[None if a is None else a.ctypes.data for a in arrays])
    addresses.held = arrays
    return addresses
