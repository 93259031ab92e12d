"""What is simplified while a derivative is recorded: work that changes no bit is left out.

`SIMPLIFY` holds a rule per primitive. A rule takes the trace, the primitive, its operands' nodes and its parameters; it
returns the node of the result, or None, with the operands in ``nodes`` made simpler.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from koubai.graph.graph import CONSTANT, Node
from koubai.graph.ops import OPS, Op

if TYPE_CHECKING:
    from koubai.graph.tracer import Trace

__all__ = ["SIMPLIFY", "difference", "simplify_elementwise"]


def simplify_elementwise(trace: Trace, op: Op, nodes: list[int], params: dict[str, Any]) -> int | None:
    """Simplify an elementwise call: broadcast no operand without need, and work out what only has constants.

    Return the node of the result, or None, with the operands in ``nodes`` made simpler.
    """
    at = trace.nodes
    constant = True
    for i in nodes:
        kind = at[i][0]
        if kind is _BROADCAST:
            return _not_broadcast(trace, op, nodes)
        if constant and (kind is not CONSTANT or at[i][3]):
            constant = False
    if constant:
        value = op.call(*[at[i].params["value"] for i in nodes])
        if isinstance(value, np.generic):
            return trace.constant(value)
    return None


def _not_broadcast(trace: Trace, op: Op, nodes: list[int]) -> int | None:
    at = trace.nodes
    wide = None
    for k, i in enumerate(nodes):
        if at[i].op is _BROADCAST and all(at[j].shape in ((), at[i].shape) for m, j in enumerate(nodes) if m != k):
            source = at[i].inputs[0]
            if at[source].shape == () or (len(nodes) == 2 and at[nodes[1 - k]].shape == at[i].shape):
                nodes[k], wide = source, at[i].shape
    if wide is None:
        return None
    if all(at[i].shape == () for i in nodes):  # each is one number: broadcast the result
        return trace.derive(_BROADCAST, [trace.derive(op, nodes, _NONE)], {"shape": wide})
    return trace.derive(op, nodes, _NONE)


def _simplify_product(trace: Trace, op: Op, nodes: list[int], params: dict[str, Any]) -> int | None:
    at = trace.nodes
    a, b = nodes
    left, right = at[a], at[b]
    one, other = left[0], right[0]
    if one is CONSTANT or other is CONSTANT:
        for constant, i in ((left, b), (right, a)):
            factor = _factor(constant)
            dtype = at[i].dtype
            if factor is None or dtype is None:
                continue
            if factor == 1.0 and (constant.dtype is None or constant.dtype == dtype):
                return i
            inner = _scaled(trace, i)
            if inner is not None and (_exact(factor) or _exact(inner[0])):
                return trace.derive(op, [trace.constant(factor * inner[0]), inner[1]], _NONE)
    elif one is _MULTIPLY and other is _MULTIPLY:
        first, second = _scaled(trace, a), _scaled(trace, b)
        if first is not None and second is not None and (_exact(first[0]) or _exact(second[0])):
            scaled = trace.derive(op, [trace.constant(first[0] * second[0]), first[1]], _NONE)
            return trace.derive(op, [scaled, second[1]], _NONE)
    return simplify_elementwise(trace, op, nodes, params)


def _simplify_negative(trace: Trace, op: Op, nodes: list[int], params: dict[str, Any]) -> int | None:
    (i,) = nodes
    given = trace.nodes[i]
    if given.op is _NEGATIVE:
        return given.inputs[0]
    inner = _scaled(trace, i)
    if inner is not None:
        return trace.derive(_MULTIPLY, [trace.constant(-inner[0]), inner[1]], _NONE)
    return simplify_elementwise(trace, op, nodes, params)


def _simplify_sum_of_two(trace: Trace, op: Op, nodes: list[int], params: dict[str, Any]) -> int | None:
    at = trace.nodes
    i, j = nodes
    if at[i][0] is _NEGATIVE:
        return trace.derive(_SUBTRACT, [j, at[i].inputs[0]], _NONE)
    if at[j][0] is _NEGATIVE:
        return trace.derive(_SUBTRACT, [i, at[j].inputs[0]], _NONE)
    return simplify_elementwise(trace, op, nodes, params)


def difference(trace: Trace, i: int, j: int) -> int | None:
    """Return the node of what ``i + (-j)`` is simplified to, if that is i - j: then -j needs no node."""
    at = trace.nodes
    if at[i].op is _NEGATIVE or at[j].op in (_NEGATIVE, _BROADCAST, CONSTANT) or _scaled(trace, j) is not None:
        return None
    return trace.derive(_SUBTRACT, [i, j], _NONE)


def _simplify_reduction(trace: Trace, op: Op, nodes: list[int], params: dict[str, Any]) -> int | None:
    given = trace.nodes[nodes[0]]
    if given.op is not _NEGATIVE:
        return None
    return trace.derive(_NEGATIVE, [trace.derive(op, [given.inputs[0]], params)], _NONE)


def _simplify_write(trace: Trace, op: Op, nodes: list[int], params: dict[str, Any]) -> int | None:
    broadcast = trace.nodes[nodes[1]]
    if broadcast.op is _BROADCAST and trace.nodes[broadcast.inputs[0]].shape == ():
        nodes[1] = broadcast.inputs[0]  # a write broadcasts its value anyway
    return None


def _simplify_shape(trace: Trace, op: Op, nodes: list[int], params: dict[str, Any]) -> int | None:
    broadcast = trace.nodes[nodes[0]]
    if broadcast.op is not _BROADCAST or trace.nodes[broadcast.inputs[0]].shape:
        return None
    return trace.derive(_BROADCAST, [broadcast.inputs[0]], {"shape": params["shape"]})


def _factor(node: Node) -> float | None:
    """Return a finite real constant as a Python float, if the node is one."""
    if node.op is not CONSTANT or node.shape:
        return None
    value = node.params["value"]
    if type(value) is not float and isinstance(value, _NO_FACTORS):
        return None
    return float(value) if math.isfinite(value) else None


_NO_FACTORS = bool, np.bool_, complex, np.complexfloating


def _scaled(trace: Trace, i: int) -> tuple[float, int] | None:
    """Return (c, node of a) if node ``i`` is a Python number c times a float array or scalar a."""
    at = trace.nodes
    op, inputs, _, _, dtype, _ = at[i]
    if op is _MULTIPLY and dtype is not None and dtype.kind == "f":
        for j, k in (inputs, inputs[::-1]):
            factor = _factor(at[j])
            if factor is not None and at[k].dtype == dtype and at[j].dtype in (None, dtype):
                return factor, k
    return None


def _exact(factor: float) -> bool:
    """Return whether scaling by ``factor`` is free of rounding: it is a power of two of moderate size."""
    return math.frexp(factor)[0] in (0.5, -0.5) and 1e-6 < abs(factor) < 1e6


_NONE: dict[str, Any] = {}
_BROADCAST, _MULTIPLY, _NEGATIVE, _SUBTRACT = (
    OPS[name] for name in ("broadcast_to", "multiply", "negative", "subtract")
)
SIMPLIFY: dict[Op, Callable[[Trace, Op, list[int], dict[str, Any]], int | None]] = {
    _MULTIPLY: _simplify_product,
    _NEGATIVE: _simplify_negative,
    OPS["add"]: _simplify_sum_of_two,
    OPS["sum"]: _simplify_reduction,
    OPS["setitem"]: _simplify_write,
    OPS["add_at"]: _simplify_write,
    OPS["reshape"]: _simplify_shape,
    _BROADCAST: _simplify_shape,
}
