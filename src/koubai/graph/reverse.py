"""Reverse mode: a graph becomes the graph of its value and its gradient.

The rules of the primitives are called on traced values without numbers, so what they compute is recorded as graph
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from koubai.errors import TraceError
from koubai.graph.ops import OPS, Op, Shape, unbroadcast
from koubai.graph.trace import INPUT, LEAVES, Graph, Node, Trace, Traced, new_traced, record

__all__ = ["load", "pullback", "reverse"]


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
    nodes, forms = graph.nodes, graph.forms
    if wrt is None:
        wrt = [k for k, i in enumerate(graph.inputs) if _real(nodes[i].dtype)]
    targets = [graph.inputs[k] for k in wrt]
    values, carries = load(trace, graph, targets)
    # a cotangent may be smaller than its node, as a sum's is: then it is meant to be spread over the node's shape
    cotangents: dict[int, Traced] = {}
    if seeds is None:
        output = graph.outputs[0]
        dtype = nodes[output].dtype
        if dtype is not None and dtype.kind in "fc":
            cotangents[output] = new_traced(trace, -1, dtype.type(1), (), dtype)
    else:
        for k, i in enumerate(seeds):
            shape, dtype = nodes[i].shape, nodes[i].dtype
            added = trace.append(INPUT, {"name": f"g{k}"}, shape, dtype, 0)
            trace.inputs.append(added)
            seed = new_traced(trace, added, None, shape, dtype)
            cotangents[i] = _joined(cotangents[i], seed) if i in cotangents else seed
    with np.errstate(all="ignore"):
        for i in range(len(nodes) - 1, -1, -1):
            op, inputs, params, shape, _, where = nodes[i]
            if not inputs or i not in cotangents:
                continue
            g = cotangents.pop(i)
            if where:
                code, offset, _ = where
                trace.where = code, offset, True
            else:
                trace.where = None
            if g.shape != shape and not _takes_less(op, g, [nodes[j].shape for j in inputs if carries[j]], shape):
                g = _spread(g, shape)
            elementwise, y = op.elementwise, values[i]
            arguments = tuple(map(values.__getitem__, inputs))
            for k, j in enumerate(inputs):
                if not carries[j] or (rule := op.rule(k)) is None:
                    continue
                part = rule(g, y, *arguments, **params) if params else rule(g, y, *arguments)
                given, dtype = forms[j]
                if elementwise and given != shape and part.shape != given:
                    part = unbroadcast(part, given)
                if part.dtype != dtype:
                    if part.dtype.kind == "c" and dtype.kind != "c":
                        part = record(OPS["real"], (part,))
                    part = part.astype(dtype, copy=False)
                cotangents[j] = _joined(cotangents[j], part) if j in cotangents else part
    gradients = []
    for i in targets:
        shape, dtype = forms[i]
        if i in cotangents:
            gradients.append(_spread(cotangents[i], shape)._current())
        else:
            gradients.append(trace.emit(_ZEROS, (), {"shape": shape, "dtype": dtype}))
    outputs = gradients if seeds is not None else [*graph.outputs, *gradients]
    return Graph.pruned(trace.nodes, trace.inputs, outputs, graph.guards, graph.kinks, graph.name, trace)


def _takes_less(op: Op, g: Traced, given: Sequence[Shape], shape: Shape) -> bool:
    """Does the rule of ``op`` work on a cotangent that is not spread? The parts that it gives are not spread either."""
    if op.elementwise:
        return all(one == shape for one in given)
    return op is _SUM and not g.shape


def _spread(g: Traced, shape: Shape) -> Traced:
    return g if g.shape == shape else record(_BROADCAST, (g,), {"shape": shape})


def _real(dtype: np.dtype[Any] | None) -> bool:
    return dtype is not None and dtype.kind in "fc"


def load(trace: Trace, graph: Graph, targets: Sequence[int]) -> tuple[list[Any], list[bool]]:
    """Continue ``trace`` where ``graph`` ended, so that the derivative shares its nodes.

    Return what the rules see of each node, and whether its cotangent is wanted.
    """
    trace.inputs = list(graph.inputs)
    trace.nodes = list(graph.nodes)
    trace.forms = list(graph.forms)
    trace.table = graph.table.copy() or _calls(graph.nodes)
    values: list[Any] = []
    carries = [False] * len(graph.nodes)
    for i in targets:
        carries[i] = _real(graph.nodes[i].dtype)
    for i, (op, inputs, params, shape, dtype, _) in enumerate(graph.nodes):
        if dtype is None:
            values.append(params["value"])  # Python numbers are shown as they are
            continue
        values.append(new_traced(trace, i, None, shape, dtype))
        if inputs and op.vjp and dtype.kind in "fc":
            for j in inputs:
                if carries[j]:
                    carries[i] = True
    return values, carries


def _calls(nodes: Sequence[Node]) -> dict[Any, int]:
    return {
        (op, inputs, *params.values()): i
        for i, (op, inputs, params, *_) in enumerate(nodes)
        if inputs or op not in LEAVES
    }


def _joined(total: Traced, part: Traced) -> Traced:
    """Add two cotangents; one that is a few elements written into zeros is added in place instead."""
    trace = total._trace
    for a, b in ((total, part), (part, total)):
        node = trace.nodes[b._current()]
        if node.op in (_ADD_AT, _SETITEM) and trace.nodes[node.inputs[0]].op is _ZEROS and a.shape == b.shape:
            i = trace.emit(_ADD_AT, (a._current(), *node.inputs[1:]), node.params, (a.shape, a.dtype))
            return new_traced(trace, i, None, a.shape, a.dtype)
    return record(_ADD, (total, part))


_ADD, _ADD_AT, _BROADCAST, _SETITEM, _SUM, _ZEROS = (
    OPS[name] for name in ("add", "add_at", "broadcast_to", "setitem", "sum", "zeros")
)
