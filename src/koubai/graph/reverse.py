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
from koubai.graph.trace import INPUT, LEAVES, Graph, Node, Trace, Traced, _form, record

__all__ = ["pullback", "reverse"]


def reverse(graph: Graph, wrt: Sequence[int] | None = None, *, auxiliary: bool = False) -> Graph:
    """Return the graph of (value, gradient of the value with respect to each input numbered in ``wrt``).

    wrt: positions in ``graph.inputs``; None: all that are real. auxiliary: outputs after the first are allowed, and
    stand between value and gradient. Raises TraceError unless the graph's one (first) output is a real scalar.
    """
    if len(graph.outputs) != 1 and not auxiliary:
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
    values = _load(trace, graph, targets)
    levels = trace.levels
    cotangents: dict[int, Traced] = {}
    if seeds is None:
        output = graph.outputs[0]
        dtype = nodes[output].dtype
        if dtype is not None and dtype.kind in "fc":
            one = trace.constant(dtype.type(1))
            cotangents[output] = Traced(trace, one, None, (), dtype)
    else:
        for k, i in enumerate(seeds):
            shape, dtype = nodes[i].shape, nodes[i].dtype
            added = trace.append(Node(INPUT, (), {"name": f"g{k}"}, shape, dtype), 0)
            trace.inputs.append(added)
            seed = Traced(trace, added, None, shape, dtype)
            cotangents[i] = _joined(cotangents[i], seed) if i in cotangents else seed
    for i in range(len(nodes) - 1, -1, -1):
        if levels[i] != 2:
            continue
        op, inputs, params, _, _, where = nodes[i]
        if op in LEAVES:
            continue
        g = cotangents.pop(i, None)
        if g is None:
            continue
        trace.where = (*where[:2], True) if where else None
        arguments = tuple(map(values.__getitem__, inputs))
        for k, j in enumerate(inputs):
            given = nodes[j]
            if levels[j] != 2 or given.dtype is None or given.dtype.kind not in "fc":
                continue
            rule = op.rule(k)
            if rule is None:
                continue
            part = rule(g, values[i], *arguments, **params)
            if op.elementwise and part.shape != given.shape:
                part = unbroadcast(part, given.shape)
            if part.dtype != given.dtype:
                if _complex(part.dtype) and not _complex(given.dtype):
                    part = record(OPS["real"], (part,))
                part = part.astype(given.dtype, copy=False)
            cotangents[j] = _joined(cotangents[j], part) if j in cotangents else part
    gradients = []
    for i in targets:
        g = cotangents.get(i)
        if g is None:
            zeros = {"shape": nodes[i].shape, "dtype": nodes[i].dtype}
            gradients.append(trace.emit(OPS["zeros"], (), zeros, nodes[i].shape, nodes[i].dtype))
        else:
            gradients.append(g._node)
    outputs = gradients if seeds is not None else [*graph.outputs, *gradients]
    return Graph.pruned(trace.nodes, trace.inputs, outputs, graph.guards, graph.kinks, graph.name, nodes)


def _real(dtype: np.dtype[Any] | None) -> bool:
    return dtype is not None and dtype.kind in "fc"


def _complex(dtype: np.dtype[Any] | None) -> bool:
    return dtype is not None and dtype.kind == "c"


def _load(trace: Trace, graph: Graph, targets: Sequence[int]) -> list[Any]:
    """Continue ``trace`` where ``graph`` ended, so that the derivative shares its nodes; return what rules see."""
    trace.inputs = list(graph.inputs)
    trace.nodes = list(graph.nodes)
    levels, forms, table = trace.levels, trace.forms, trace.table
    values: list[Any] = []
    for i, node in enumerate(graph.nodes):
        op, inputs, params, shape, dtype, _ = node
        level = 2 if i in targets else 0
        if inputs or op not in LEAVES:
            if level == 0 and op.vjp:
                for j in inputs:
                    if levels[j] == 2:
                        level = 2
            table[(op, inputs, *params.values()) if params else (op, inputs)] = i
        levels.append(level)
        forms.append((shape, dtype) if dtype is not None else _form(node))
        # Python numbers are shown as they are
        values.append(params["value"] if dtype is None else Traced(trace, i, None, shape, dtype))
    return values


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
