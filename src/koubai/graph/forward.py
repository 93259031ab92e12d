"""Forward mode: a graph becomes the graph of its derivative along a direction.

No primitive has a rule of its own for it. The local derivative of an elementwise primitive is one factor per element,
by which its rule multiplies a cotangent, and a tangent just as well. What is linear does to tangents what it does to
numbers, and what is linear in each of its operands does so with one of them after the other. What is left, such as a
factorization, is transposed: the rule's product with a cotangent is linear in the cotangent, so that reversing it
once more gives the product with a tangent (Pearlmutter's transposition).

A pass is to be taken for each element of x here, and for each element of the result in reverse mode: forward mode
suits a Jacobian with no more columns than rows, reverse mode the others, and the gradient of a number above all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from koubai.graph.graph import CONSTANT, INPUT, Graph, Node
from koubai.graph.ops import OPS, Shape, zeros
from koubai.graph.repeats import Forwards
from koubai.graph.reverse import broadcast, carried, load, pullback
from koubai.graph.simplify import difference
from koubai.graph.traced import Traced, current_node, new_traced, record
from koubai.graph.tracer import Trace, uncollected
from koubai.graph.user_code import Where

__all__ = ["pushforward"]

_ALL = 2**31
# primitives that are linear in so many of their first operands together; the others are indices and the like
_LINEAR = {
    **dict.fromkeys(("concatenate", "stack"), _ALL),
    **dict.fromkeys(("setitem", "add_at"), 2),
    **dict.fromkeys(("getitem", "reshape", "transpose", "broadcast_to", "sum", "cumsum"), 1),
    **dict.fromkeys(
        ("sliding_window_view", "overlap_add", "windows", "windows_add", "window_gather", "window_spread"), 1
    ),
    **dict.fromkeys(("fft", "ifft", "rfft", "irfft"), 1),
}
_PRODUCTS = ("matmul", "einsum")  # linear in each of their operands


@uncollected()
def pushforward(graph: Graph, wrt: Sequence[int]) -> Graph:
    """Return the graph whose inputs are the graph's and a direction for each input numbered in ``wrt``, and whose
    outputs are the derivatives of the graph's along them.
    """
    trace = Trace(concrete=False, name=graph.name)
    nodes = graph.nodes
    targets = [graph.inputs[k] for k in wrt]
    load(trace, graph)
    carries = carried(graph, targets)
    values: list[Any] = [None] * len(nodes)  # what the rules see of each node, made when the first one looks

    def value(j: int) -> Any:
        seen = values[j]
        if seen is None:
            _, _, params, shape, dtype, _ = nodes[j]  # a Python number is shown as it is
            seen = values[j] = params["value"] if dtype is None else new_traced(trace, j, None, shape, dtype)
        return seen

    derived: dict[int, Where] = {}
    tangents: dict[int, Traced] = {}
    for k, i in enumerate(targets):
        shape, dtype = graph.forms[i]
        trace.inputs.append(trace.append(INPUT, {"name": f"d{k}"}, shape, dtype, 0))
        tangents[i] = new_traced(trace, trace.inputs[-1], None, shape, dtype)
    with np.errstate(all="ignore"):
        turns = Forwards(trace, nodes, carries, tangents, graph.outputs)
        i = -1
        while (i := turns.at(i + 1) if i + 1 == turns.watch else i + 1) < len(nodes):
            node = nodes[i]
            op, inputs, params, shape, dtype, where = node
            if not carries[i] or not inputs or dtype is None:
                continue
            along = [tangents.get(j) if carries[j] else None for j in inputs]
            if all(t is None for t in along):
                continue
            trace.where = derived.get(id(where))
            if where and trace.where is None:
                trace.where = derived[id(where)] = where[0], where[1], True
            if (count := _LINEAR.get(op.name)) is not None:
                first = next(t for t in along if t is not None)
                moved = [
                    value(j) if k >= count else _still(first, *graph.forms[j]) if t is None else t
                    for k, (j, t) in enumerate(zip(inputs, along, strict=True))
                ]
                parts = [record(op, moved, params)]
            else:
                parts = _parts(trace, node, i, along, value)
            total = None
            for part in parts:
                if part.dtype != dtype:
                    if part.dtype.kind == "c" and dtype.kind != "c":
                        part = record(_REAL, (part,))
                    part = part.astype(dtype, copy=False)
                total = part if total is None else record(_ADD, (total, part))
            if total is not None:
                tangents[i] = broadcast(total, shape)
    outputs = []
    for i in graph.outputs:
        shape, dtype = graph.forms[i]
        found = current_node(tangents[i]) if i in tangents else trace.emit(_ZEROS, (), {"shape": shape, "dtype": dtype})
        outputs.append(found)
    return Graph.pruned(trace.nodes, trace.inputs, outputs, graph.guards, (), graph.name, trace)


def _parts(trace: Trace, node: Node, i: int, along: Sequence[Any], value: Callable[[int], Any]) -> list[Any]:
    """Return what adds up to the tangent of node ``i``: as each operand moves alone, or as all do."""
    op, inputs, params, *_ = node
    operands = [value(j) for j in inputs]
    moving = [(k, t) for k, t in enumerate(along) if t is not None and op.rule(k) is not None]
    if op.name in _PRODUCTS:
        return [record(op, [*operands[:k], t, *operands[k + 1 :]], params) for k, t in moving]
    if not moving:
        return []
    if op is _SUBTRACT and len(moving) == 2 and all((t.shape, t.dtype) == (node.shape, node.dtype) for _, t in moving):
        found = difference(trace, *[current_node(t) for _, t in moving])
        if found is not None:
            return [new_traced(trace, found, None, *trace.forms[found])]
    if op.elementwise:
        y = value(i)
        rules = [(op.rule(k), t) for k, t in moving]
        return [rule(t, y, *operands, **params) for rule, t in rules if rule is not None]
    return [_transposed(trace, node, operands, moving)]


def _transposed(trace: Trace, node: Node, operands: Sequence[Any], moving: Sequence[tuple[int, Traced]]) -> Traced:
    """Return the tangent of a node by its rules for cotangents, transposed."""
    own: list[Node] = []
    for k, operand in enumerate(operands):
        if type(operand) is Traced:
            own.append(Node(INPUT, (), {"name": f"x{k}"}, operand.shape, operand.dtype))
        else:
            own.append(Node(CONSTANT, (), {"value": operand}, (), None))
    given = [k for k, each in enumerate(own) if each.op is INPUT]
    own.append(node._replace(inputs=tuple(range(len(operands)))))
    alone = Graph(own, given, [len(operands)])
    there = pullback(pullback(alone, [given.index(k) for k, _ in moving]), [len(given)])
    nowhere = trace.emit(
        _ZEROS, (), {"shape": node.shape, "dtype": node.dtype}
    )  # of a cotangent, of which nothing depends
    starts = [*(current_node(operands[k]) for k in given), nowhere, *(current_node(t) for _, t in moving)]
    made = dict(zip(there.inputs, starts, strict=True))
    for i, each in enumerate(there.nodes):
        if each.op is CONSTANT:
            made[i] = trace.constant(each.params["value"])
        elif each.op is not INPUT:
            made[i] = trace.derive(each.op, [made[j] for j in each.inputs], each.params)
    end = made[there.outputs[0]]
    return new_traced(trace, end, None, *trace.forms[end])


def _still(tangent: Any, shape: Shape, dtype: Any) -> Any:
    """Return the tangent of an operand of this form that does not move."""
    if type(dtype) is type:
        return 0.0  # a Python number
    return zeros(tangent, shape, dtype) if shape else dtype.type(0)


_ADD, _REAL, _SUBTRACT, _ZEROS = (OPS[name] for name in ("add", "real", "subtract", "zeros"))
