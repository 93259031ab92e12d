"""Which nodes of a graph share memory, and which writes into arrays are done in place.

A write into an array is a node of its own, and means a copy with other elements in it. A loop that fills a table makes
one such node per step, and to copy the table each time would take a time quadratic in the steps. So the write is done
in the array's own memory if no later node reads the array as it was; if only slices of it are still read, these are
copied out first, which is less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from koubai.graph.graph import INPUT, LEAVES, Graph, Node
from koubai.graph.ops import add_into

__all__ = ["MemoryPlan", "is_view", "is_write", "sweep", "write"]

_WRITES = ("sets", "adds")


def is_view(node: Node) -> bool:
    """Return whether the node shows its first operand's memory, if it is an array."""
    return node.op.view or (node.op.index == "reads" and not node.params["index"].holes)


def is_write(node: Node) -> bool:
    """Return whether the node is its first operand with other elements in it."""
    return node.op.index in _WRITES


def write(node: Node, x: Any, v: Any, *arrays: Any) -> Any:
    """Do in place, in ``x``, what the node, a write, means for a copy of ``x``; return it."""
    index = node.params["index"]
    where = index.fill(arrays)
    if node.op.index == "sets":
        x[where] = v
    else:
        add_into(x, v, where, bool(index.holes))
    return x


class MemoryPlan:
    """Which memory each node of a graph uses, decided before it is run.

    roots: the node whose memory each node shows, itself if it has its own; copied: the slices that are copied out of
    their array, and so have memory of their own; in_place: the writes that are done in their first operand's memory.
    """

    __slots__ = ("copied", "in_place", "roots")

    def __init__(self, nodes: Sequence[Node], outputs: Iterable[int], *, copying: bool = True) -> None:
        """copying: slices may be copied, so that their array can be written to."""
        self.copied: set[int] = set()
        self.in_place: set[int] = set()
        self.roots = roots = list(range(len(nodes)))
        last = roots.copy()  # the last node that reads a node's memory, also through a view
        readers: dict[int, list[int]] = {}  # of the arrays that are written to
        for i, (op, inputs, _, shape, *_) in enumerate(nodes):
            if shape and inputs:
                if is_view(nodes[i]):
                    roots[i] = roots[inputs[0]]
                elif op.index in _WRITES:
                    readers[inputs[0]] = []
        if not readers:
            return
        for i in outputs:
            last[i] = len(nodes)
            readers.pop(i, None)  # a result stays as it is
        for i in range(len(nodes) - 1, -1, -1):
            until = last[i] if roots[i] != i else i
            for j in nodes[i].inputs:
                if last[j] < until:
                    last[j] = until
                if j in readers:
                    readers[j].append(i)
        for base, known in readers.items():
            self._write(nodes, base, known, last, copying)
        if self.copied:
            for i, node in enumerate(nodes):
                roots[i] = roots[node.inputs[0]] if roots[i] != i and i not in self.copied else i

    def _write(
        self, nodes: Sequence[Node], base: int, readers: Sequence[int], last: Sequence[int], copying: bool
    ) -> None:
        """Find out whether the array's last reader (they come last first) is a write that may be done in place."""
        write, *others = readers
        node, roots = nodes[write], self.roots
        if not is_write(node) or node.inputs[0] != base or nodes[base].op in LEAVES or roots[base] != base:
            return
        for j in node.inputs[1:]:
            if roots[j] == base:
                return
        shown = [i for i in others if last[i] > write and roots[i] == base]
        if shown:
            size = sum(math.prod(nodes[i].shape) for i in shown)
            slices = all(nodes[i].op.index == "reads" for i in shown)
            if not (copying and slices and size < math.prod(nodes[base].shape)):
                return
            self.copied.update(shown)
        self.in_place.add(write)

    def perform(self, i: int, node: Node, operands: Sequence[Any]) -> Any:
        """Return the value of node ``i``; a write that is done in place changes its first operand."""
        if i in self.in_place:
            return write(node, *operands)
        value = node.op.call(*operands, **node.params)
        return value.copy() if i in self.copied else value


def sweep(
    graph: Graph, given: Sequence[Any], compute: Callable[[int, Node, list[Any], MemoryPlan], Any]
) -> dict[int, Any]:
    """Go through the graph once, and return what its outputs and the nodes with guards hold.

    given: what the inputs hold. compute(i, node, held, memory): returns what a node holds, from what its operands hold;
    it computes by ``memory.perform``. Values that no later node reads are dropped: a long loop that fills a table needs
    one table, not one per step.
    """
    nodes = graph.nodes
    asked = {*graph.outputs, *(guard.node for guard in graph.guards)}
    memory = MemoryPlan(nodes, asked)
    last = [-1] * len(nodes)
    for i, node in enumerate(nodes):
        for j in node.inputs:
            last[j] = i
    values: dict[int, Any] = dict(zip(graph.inputs, given, strict=True))
    for i, node in enumerate(nodes):
        if node.op is INPUT:
            continue
        held = [values[j] for j in node.inputs]
        for j in node.inputs:
            if last[j] == i and j not in asked:
                values.pop(j, None)
        values[i] = compute(i, node, held, memory)
    return {i: values[i] for i in asked}
