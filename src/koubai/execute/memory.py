"""Which nodes of a graph share memory, and which writes into arrays are done where the array lies.

A write into an array is a node of its own, and means a copy with other elements in it. A loop that fills a table makes
one such node a step, and to copy the table each time would take a time quadratic in the steps. So the write is done in
the array's own memory, wherever nobody looks at what was there any more; and where slices of it are still looked at,
these are copied out, which is less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from koubai.graph.graph import INPUT, LEAVES, Graph, Node
from koubai.graph.ops import add_into

__all__ = ["Memory", "is_view", "is_write", "sweep", "write"]

_WRITES = ("sets", "adds")


def is_view(node: Node) -> bool:
    """Does the node show its first operand's memory, if it is an array?"""
    return node.op.view or (node.op.index == "reads" and not node.params["index"].holes)


def is_write(node: Node) -> bool:
    """Return whether the node is its first operand with other elements in it."""
    return node.op.index in _WRITES


def write(node: Node, x: Any, v: Any, *arrays: Any) -> Any:
    """Do what the node, a write, does to a copy of ``x``, in ``x`` itself; return it."""
    index = node.params["index"]
    where = index.fill(arrays)
    if node.op.index == "sets":
        x[where] = v
    else:
        add_into(x, v, where, bool(index.holes))
    return x


class Memory:
    """What is known of the memory of a graph's nodes before it is run.

    roots: the node whose memory each node shows, itself where it has its own; copied: the slices that are copied out of
    their array, and so have memory of their own; in_place: the writes that are done in their first operand's memory.
    """

    __slots__ = ("copied", "in_place", "roots")

    def __init__(self, nodes: Sequence[Node], outputs: Iterable[int], *, copying: bool = True) -> None:
        """copying: may slices be copied, so that their array can be written on?"""
        self.copied: set[int] = set()
        self.in_place: set[int] = set()
        self.roots = roots = list(range(len(nodes)))
        last = roots.copy()  # the last node that reads what a node shows, be it through a view
        readers: dict[int, list[int]] = {}  # of the arrays that are written on
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
        """See whether the array's last reader (they come last first) writes on it, and may do so in place."""
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


def sweep(graph: Graph, given: Sequence[Any], compute: Callable[[int, Node, list[Any], Memory], Any]) -> dict[int, Any]:
    """Go through the graph once, and return what its outputs and the nodes with guards came to hold.

    given: what the inputs hold. compute(i, node, held, memory): makes what a node holds of what its operands hold, of
    constants of nothing; what it computes, it does by ``memory.perform``. What nobody reads any more is let go of:
    a long loop that fills a table needs no table a step.
    """
    nodes = graph.nodes
    asked = {*graph.outputs, *(guard.node for guard in graph.guards)}
    memory = Memory(nodes, asked)
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
