"""Rows that an executor has no code for, in terms of others: a derived formula is written once, in its row.

`lowered` is the graph that an executor works on. NumPy itself runs every row, and is given the graph as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from koubai.graph.graph import INPUT, Graph, Node
from koubai.graph.ops import Op
from koubai.graph.traced import Traced, current_node
from koubai.graph.tracer import Trace

__all__ = ["HasCode", "lowered", "pair"]

HasCode: TypeAlias = Callable[[Op], bool]


def lowered(graph: Graph, has_code: HasCode) -> Graph:
    """Return the graph with each row that there is no code for written out in others, where its ``lower`` does so."""
    if all(op.lower is None or has_code(op) for op in {node[0] for node in graph.nodes}):
        return graph
    nodes: list[Node] = []
    new: list[int] = []
    for node in graph.nodes:
        inputs = tuple([new[j] for j in node.inputs])
        part = None
        if node.op.lower is not None and not has_code(node.op):
            part = _part(node, [nodes[j] for j in inputs], has_code)
        if part is None:
            nodes.append(node._replace(inputs=inputs))
            new.append(len(nodes) - 1)
            continue
        place: list[int] = []
        given = dict(zip(part.inputs, [j for j in inputs if nodes[j].dtype is not None], strict=True))
        for i, one in enumerate(part.nodes):
            if i in given:
                place.append(given[i])
            else:
                nodes.append(one._replace(inputs=tuple([place[j] for j in one.inputs]), where=node.where))
                place.append(len(nodes) - 1)
        new.append(place[part.outputs[0]])
    return Graph(
        nodes,
        [new[i] for i in graph.inputs],
        [new[i] for i in graph.outputs],
        [guard._replace(node=new[guard.node]) for guard in graph.guards],
        (),
        graph.name,
    )


@functools.cache
def pair(op: Op, dtype: np.dtype[Any], has_code: HasCode) -> Graph | None:
    """Return what an elementwise row makes of two numbers; None if it can't be written out."""
    given = [Node(INPUT, (), {"name": name}, (), dtype) for name in "ab"]
    return _part(Node(op, (0, 1), {}, (), dtype), given, has_code)


def _part(node: Node, given: Sequence[Node], has_code: HasCode) -> Graph | None:
    """Return a node as a graph of its inputs but for Python's numbers; None if ``lower`` has none of this form."""
    lower: Any = node.op.lower
    if lower is None:
        return None
    trace = Trace(concrete=False, name=node.op.name)
    inputs = [n.params["value"] if n.dtype is None else trace.input(n, f"x{k}") for k, n in enumerate(given)]
    with trace.running():
        result = lower(*inputs, **node.params)
        if type(result) is not Traced or (result.shape, result.dtype) != (node.shape, node.dtype):
            return None
        graph = trace.graph([current_node(result)])
    return lowered(graph, has_code)
