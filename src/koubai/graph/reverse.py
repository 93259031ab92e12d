"""Reverse mode: a graph becomes the graph of its value and its gradient.

The rules of the primitives are called on traced values without numbers, so what they compute is recorded as graph
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from koubai.errors import TraceError
from koubai.graph.ops import OPS, unbroadcast
from koubai.graph.trace import INPUT, LEAVES, Graph, Node, Trace, Traced, record

__all__ = ["pullback", "reverse"]


def reverse(graph: Graph, wrt: Sequence[int] | None = None) -> Graph:
    """Return the graph of (value, gradient of the value with respect to each input numbered in ``wrt``).

    wrt: positions in ``graph.inputs``; None: all that are real. Raises TraceError unless the graph's one output is a
    real scalar.
    """
    if len(graph.outputs) != 1:
        raise TraceError(f"a gradient needs one output, this graph has {len(graph.outputs)}", "use pullback")
    output = graph.nodes[graph.outputs[0]]
    if output.shape != ():
        raise TraceError(
            f"a gradient needs a scalar, the output has shape {output.shape}", "sum it, or use koubai.jacobian"
        )
    return _reversed(graph, wrt, seeds=None)


def pullback(graph: Graph, wrt: Sequence[int] | None = None) -> Graph:
    """Return the graph whose inputs are the graph's and one cotangent an output, and whose outputs are the products
    cotangent · Jacobian for each input in ``wrt``. On the gradient part of a graph this is a Hessian-vector product."""
    return _reversed(graph, wrt, seeds=graph.outputs)


def _reversed(graph: Graph, wrt: Sequence[int] | None, seeds: Sequence[int] | None) -> Graph:
    trace = Trace(concrete=False, name=graph.name)
    nodes = graph.nodes
    if wrt is None:
        wrt = [k for k, i in enumerate(graph.inputs) if _real(nodes[i].dtype)]
    targets = [graph.inputs[k] for k in wrt]
    _load(trace, graph, targets)
    cotangents: dict[int, Traced] = {}
    if seeds is None:
        output = graph.outputs[0]
        dtype = nodes[output].dtype
        if _real(dtype):
            one = trace.constant(np.ones((), dtype)[()])
            cotangents[output] = Traced(trace, one, None, (), dtype)
    else:
        for k, i in enumerate(seeds):
            shape, dtype = nodes[i].shape, nodes[i].dtype
            added = trace.append(Node(INPUT, (), {"name": f"g{k}"}, shape, dtype), 0)
            trace.inputs.append(added)
            seed = Traced(trace, added, None, shape, dtype)
            cotangents[i] = _joined(cotangents[i], seed) if i in cotangents else seed
    for i in range(len(nodes) - 1, -1, -1):
        node = nodes[i]
        if trace.levels[i] != 2 or node.op in LEAVES:
            continue
        g = cotangents.pop(i, None)
        if g is None:
            continue
        trace.where = (*node.where[:2], True) if node.where else None
        arguments: list[Any] = [_value(trace, j) for j in node.inputs]
        result = _value(trace, i)
        for k, j in enumerate(node.inputs):
            if trace.levels[j] != 2 or not _real(nodes[j].dtype):
                continue
            rule = node.op.rule(k)
            if rule is None:
                continue
            part = rule(g, result, *arguments, **node.params)
            if node.op.elementwise and part.shape != nodes[j].shape:
                part = unbroadcast(part, nodes[j].shape)
            if part.dtype != nodes[j].dtype:
                if _complex(part.dtype) and not _complex(nodes[j].dtype):
                    part = record(OPS["real"], (part,))
                part = part.astype(nodes[j].dtype, copy=False)
            cotangents[j] = _joined(cotangents[j], part) if j in cotangents else part
    gradients = []
    for i in targets:
        g = cotangents.get(i)
        if g is None:
            zeros = {"shape": nodes[i].shape, "dtype": nodes[i].dtype}
            gradients.append(trace.emit(OPS["zeros"], (), zeros, nodes[i].shape, nodes[i].dtype))
        else:
            gradients.append(g._node)
    outputs = gradients if seeds is not None else [graph.outputs[0], *gradients]
    return Graph.pruned(trace.nodes, trace.inputs, outputs, graph.guards, graph.kinks, graph.name)


def _real(dtype: np.dtype[Any] | None) -> bool:
    return dtype is not None and dtype.kind in "fc"


def _complex(dtype: np.dtype[Any] | None) -> bool:
    return dtype is not None and dtype.kind == "c"


def _load(trace: Trace, graph: Graph, targets: Sequence[int]) -> None:
    """Continue ``trace`` where ``graph`` ended, so that the derivative shares its nodes."""
    trace.inputs = list(graph.inputs)
    wanted = set(targets)
    for i, node in enumerate(graph.nodes):
        level = 2 if i in wanted else 0
        if node.op not in LEAVES:
            if node.op.differentiable and any(trace.levels[j] == 2 for j in node.inputs):
                level = 2
            trace.table[(node.op.name, node.inputs, *node.params.values())] = i
        trace.append(node, level)


def _value(trace: Trace, i: int) -> Any:
    node = trace.nodes[i]
    if node.dtype is None:
        return node.params["value"]  # rules see Python numbers as they are
    return Traced(trace, i, None, node.shape, node.dtype)


def _joined(total: Traced, part: Traced) -> Traced:
    """Add two cotangents; one that is a few elements written into zeros is added in place instead."""
    trace = total._trace
    for a, b in ((total, part), (part, total)):
        node = trace.nodes[b._node]
        if node.op in (_ADD_AT, _SETITEM) and trace.nodes[node.inputs[0]].op is _ZEROS:
            i = trace.emit(_ADD_AT, (a._node, *node.inputs[1:]), node.params, a.shape, a.dtype)
            return Traced(trace, i, None, a.shape, a.dtype)
    return record(OPS["add"], (total, part))


_ADD_AT, _SETITEM, _ZEROS = OPS["add_at"], OPS["setitem"], OPS["zeros"]
