"""Reverse mode: a graph becomes the graph of its value and its gradient.

The rules of the primitives are called on traced values without numbers, so what they compute is recorded as graph
again.

At most points one product is as good as another. Where a local derivative is infinite, 0 · ∞ turns a zero that a mask
or an index makes into NaN: a *careful* reversal keeps such zeros (`koubai.graph.careful`), at the price of more work.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from koubai.errors import TraceError
from koubai.graph.careful import live_after_unbroadcast, live_seed, part_of
from koubai.graph.graph import INPUT, LEAVES, Graph, Node
from koubai.graph.ops import OPS, Op, Shape, unbroadcast
from koubai.graph.repeats import Backwards
from koubai.graph.traced import Traced, current_node, new_traced, record, trace_of
from koubai.graph.tracer import Trace, uncollected
from koubai.graph.user_code import Where

__all__ = ["Careful", "broadcast", "carried", "load", "pullback", "reverse"]


# the node that was differentiated, which operand, and the nodes of both cotangents in the new graph
Step: TypeAlias = tuple[int, int, int, int]


@dataclass
class Careful:
    """How to reverse if local derivatives are not finite.

    guess: what is undefined (0 · ∞ with a zero that the numbers make, 0 / 0) counts as 0; somebody has to confirm it.
    steps: the steps of the reversal, in their order; trace: holds the nodes that they name.
    """

    guess: bool = False
    steps: list[Step] = field(default_factory=list, init=False)
    trace: Trace | None = field(default=None, init=False)


def reverse(
    graph: Graph, wrt: Sequence[int] | None = None, *, auxiliary: bool = False, careful: Careful | None = None
) -> Graph:
    """Return the graph of (value, gradient of the value with respect to each input numbered in ``wrt``).

    wrt: positions in ``graph.inputs``; None: all that are real. auxiliary: outputs after the first are allowed, and
    are between value and gradient. Raises TraceError unless the graph's one (first) output is a real scalar.
    """
    if len(graph.outputs) != 1 and not auxiliary:
        raise TraceError(f"a gradient needs one output, this graph has {len(graph.outputs)}", "use pullback")
    output = graph.nodes[graph.outputs[0]]
    if output.shape != ():
        raise TraceError(
            f"a gradient needs a scalar, the output has shape {output.shape}", "sum it, or use koubai.jacobian"
        )
    return _reversed(graph, wrt, None, careful)


def pullback(graph: Graph, wrt: Sequence[int] | None = None, *, careful: Careful | None = None) -> Graph:
    """Return the graph whose inputs are the graph's and one cotangent per output, and whose outputs are the products
    cotangent · Jacobian for each input in ``wrt``. On the gradient part of a graph this is a Hessian-vector product."""
    return _reversed(graph, wrt, graph.outputs, careful)


@uncollected()
def _reversed(graph: Graph, wrt: Sequence[int] | None, seeds: Sequence[int] | None, careful: Careful | None) -> Graph:
    trace = Trace(concrete=False, name=graph.name)
    nodes, forms = graph.nodes, graph.forms
    if wrt is None:
        wrt = [k for k, i in enumerate(graph.inputs) if _real(nodes[i].dtype)]
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
    # a cotangent may be smaller than its node, as a sum's is: then it is meant to be broadcast to the node's shape
    cotangents: dict[int, Traced] = {}
    alive: dict[int, Any] = {}  # where each of them is live; of a careful reversal only
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
            live = live_seed(seed) if careful is not None else None
            if i in cotangents:
                alive[i] = _either(alive[i], live)
                cotangents[i] = _joined(cotangents[i], seed)
            else:
                alive[i], cotangents[i] = live, seed
    with np.errstate(all="ignore"):
        turns = Backwards(trace, nodes, carries, cotangents) if careful is None else None
        i = len(nodes)
        while i:
            i -= 1
            if turns is not None and i == turns.watch:
                i = turns.at(i)
            op, inputs, params, shape, _, where = nodes[i]
            if not inputs or i not in cotangents:
                continue
            g = cotangents.pop(i)
            trace.where = derived.get(id(where))
            if where and trace.where is None:
                code, offset, _ = where
                trace.where = derived[id(where)] = code, offset, True
            if g.shape != shape and (
                careful is not None or not _takes_less(op, g, [nodes[j].shape for j in inputs if carries[j]], shape)
            ):
                g = broadcast(g, shape)
            elementwise, vjp = op.elementwise, op.vjp
            cut = y = None
            arguments: tuple[Any, ...] = ()
            if op.parts is not None and careful is None:
                cut = op.parts(g, [nodes[j].shape for j in inputs], **params)
            else:
                y, arguments = value(i), tuple(map(value, inputs))
            values[i] = None  # nothing reads it any more
            live = alive.pop(i, None)
            operands = enumerate(inputs)
            # what is read of g is read before g is written on: then that can be done in place
            for k, j in reversed(tuple(operands)) if op is _SETITEM else operands:
                if not carries[j]:
                    continue
                rule = (vjp[k] if k < len(vjp) else None) if type(vjp) is tuple else op.rule(k)
                if rule is None:
                    continue
                given, dtype = forms[j]
                if careful is not None:
                    varies = [carries[m] for m in inputs]
                    part, passed = part_of(op, k, g, live, y, arguments, params, varies)
                    if careful.guess:
                        part = np.where(np.isnan(part), 0.0, part)
                    part, passed = _as_traced(trace, part), live_after_unbroadcast(passed, given)
                    careful.steps.append((i, k, current_node(g), current_node(part)))
                    alive[j] = _either(alive[j], passed) if j in cotangents else passed
                elif cut is not None:
                    part = cut(k)
                elif op is _GETITEM and j in cotangents and cotangents[j].shape == given:
                    if k == 0:  # what the rule and `_joined` come to, without zeros in between
                        into = [current_node(cotangents[j]), current_node(g), *inputs[1:]]
                        cotangents[j] = new_traced(trace, trace.derive(_ADD_AT, into, params), None, given, dtype)
                    continue
                else:
                    part = rule(g, y, *arguments, **params) if params else rule(g, y, *arguments)
                if elementwise and given != shape and part.shape != given:
                    part = unbroadcast(part, given)
                if part.dtype is not dtype and part.dtype != dtype:
                    if part.dtype.kind == "c" and dtype.kind != "c":
                        part = record(OPS["real"], (part,))
                    part = part.astype(dtype, copy=False)
                cotangents[j] = _joined(cotangents[j], part) if j in cotangents else part
    gradients = []
    for i in targets:
        shape, dtype = forms[i]
        if i in cotangents:
            gradients.append(current_node(broadcast(cotangents[i], shape)))
        else:
            gradients.append(trace.emit(_ZEROS, (), {"shape": shape, "dtype": dtype}))
    if careful is not None:
        careful.trace = trace
    outputs = gradients if seeds is not None else [*graph.outputs, *gradients]
    made = trace.nodes if careful is None else list(trace.nodes)  # which `Graph.pruned` drops
    return Graph.pruned(made, trace.inputs, outputs, graph.guards, graph.kinks, graph.name, trace)


def _either(one: Any, other: Any) -> Any:
    return None if one is None or other is None else np.logical_or(one, other)


def _as_traced(trace: Trace, value: Any) -> Traced:
    """Return a value of the trace: a part may come out as a plain number, such as 0."""
    if type(value) is Traced:
        return value
    value = np.asarray(value)
    return new_traced(trace, trace.constant(value), None, value.shape, value.dtype)


def _takes_less(op: Op, g: Traced, given: Sequence[Shape], shape: Shape) -> bool:
    """Return whether the rule of ``op`` works on a cotangent that is not broadcast; what it gives isn't either."""
    if op.elementwise:
        return all(one == shape for one in given)
    return op is _SUM and not g.shape


def broadcast(g: Traced, shape: Shape) -> Traced:
    """Return a traced value of this shape."""
    return g if g.shape == shape else record(_BROADCAST, (g,), {"shape": shape})


def _real(dtype: np.dtype[Any] | None) -> bool:
    return dtype is not None and dtype.kind in "fc"


def load(trace: Trace, graph: Graph) -> None:
    """Continue ``trace`` where ``graph`` ended, so that the derivative shares its nodes."""
    trace.inputs = list(graph.inputs)
    trace.nodes = list(graph.nodes)
    trace.forms = list(graph.forms)
    try:
        trace.value_numbering = graph.value_numbering.pop()  # one step, so that no two derivatives take the same
    except IndexError:
        trace.value_numbering = _Calls(graph.nodes)


def carried(graph: Graph, targets: Sequence[int]) -> list[bool]:
    """Return of each node whether its derivative by the nodes in ``targets`` is wanted."""
    carries = [False] * len(graph.nodes)
    for i in targets:
        carries[i] = _real(graph.nodes[i].dtype)
    for i, (op, inputs, _, _, dtype, _) in enumerate(graph.nodes):
        if inputs and op.vjp and dtype is not None and dtype.kind in "fc":
            for j in inputs:
                if carries[j]:
                    carries[i] = True
                    break
    return carries


class _Calls(defaultdict[Op, dict[Any, int]]):
    """The calls of a graph's nodes, found for a primitive when it is asked for."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        super().__init__(dict)
        self.nodes = nodes

    @functools.cached_property
    def places(self) -> dict[Op, list[int]]:
        """Where the nodes of each primitive are."""
        places: dict[Op, list[int]] = {}
        for i, node in enumerate(self.nodes):
            op = node[0]
            if op in places:
                places[op].append(i)
            else:
                places[op] = [i]
        return places

    def __missing__(self, op: Op) -> dict[Any, int]:
        found = self[op] = {}
        nodes = self.nodes
        for i in self.places.get(op, ()) if op not in LEAVES else ():
            node = nodes[i]
            params = node[2]
            found[(node[1], *params.values()) if params else node[1]] = i
        return found


def _joined(total: Traced, part: Traced) -> Traced:
    """Add two cotangents; one that is a few elements written into zeros is added in place instead."""
    trace = trace_of(total)
    for a, b in ((total, part), (part, total)) if total.shape else ():
        node = trace.nodes[current_node(b)]
        if node.op in (_ADD_AT, _SETITEM) and trace.nodes[node.inputs[0]].op is _ZEROS and a.shape == b.shape:
            i = trace.emit(_ADD_AT, (current_node(a), *node.inputs[1:]), node.params, (a.shape, a.dtype))
            return new_traced(trace, i, None, a.shape, a.dtype)
    return record(_ADD, (total, part))


_ADD, _ADD_AT, _BROADCAST, _GETITEM, _SETITEM, _SUM, _ZEROS = (
    OPS[name] for name in ("add", "add_at", "broadcast_to", "getitem", "setitem", "sum", "zeros")
)
