"""A sum of squares, recognised in the graph of a function: its residuals.

``np.sum((model(p) - y)**2)`` is traced into a sum of a power of a difference; what is squared can be read off, weights,
means and sums of such sums included. Nothing is guessed: what is not plainly a sum of squares is none.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from koubai.errors import TraceError
from koubai.graph.graph import CONSTANT, Graph
from koubai.graph.ops import OPS
from koubai.graph.reverse import broadcast, carried, load
from koubai.graph.traced import Traced, current_node, new_traced, record
from koubai.graph.tracer import Trace

__all__ = ["Squares"]

_USE = "take another optimizer, LBFGS say"
# the same numbers in another order, or some of them: what holds of each element holds of theirs
_REARRANGING = ("reshape", "transpose", "getitem", "broadcast_to", "flip", "astype")


class Squares:
    """The squares of which a graph's one output is the sum, but for what does not depend on x.

    active: the positions in ``graph.inputs`` of x. size: how many they are. Raises TraceError if the output isn't
    a sum of squares; if a weight read from outside is negative, the residuals are NaN.
    """

    def __init__(self, graph: Graph, active: Sequence[int]) -> None:
        self._reader = _Reader(graph, [graph.inputs[k] for k in active])
        with np.errstate(all="ignore"):
            self._parts = self._reader.total(graph.outputs[0])
        if not self._parts:
            raise TraceError("f does not depend on x", _USE)
        self.size = sum(math.prod(part.shape) for part in self._parts)

    def residuals(self) -> Graph:
        """Return the graph of one vector r, such that the output is r·r."""
        graph, trace = self._reader.graph, self._reader.trace
        with np.errstate(all="ignore"):
            parts = [record(OPS["reshape"], (part,), {"shape": (math.prod(part.shape),)}) for part in self._parts]
            joined = parts[0] if len(parts) == 1 else record(OPS["concatenate"], tuple(parts), {"axis": 0})
        outputs = [current_node(joined)]
        return Graph.pruned(trace.nodes, trace.inputs, outputs, graph.guards, (), graph.name, trace)


class _Reader:
    """Reads a graph backwards from its output. Most graphs aren't sums of squares, as their last nodes show."""

    def __init__(self, graph: Graph, targets: Sequence[int]) -> None:
        self.graph, self.nodes, self.carries = graph, graph.nodes, carried(graph, targets)
        self._seen: dict[int, Any] = {}

    @functools.cached_property
    def trace(self) -> Trace:
        trace = Trace(concrete=False, name=self.graph.name)
        load(trace, self.graph)
        return trace

    def value(self, i: int) -> Any:
        """Return a node as the rules see it; a Python number is shown as it is."""
        if i not in self._seen:
            _, _, params, shape, dtype, _ = self.nodes[i]
            self._seen[i] = params["value"] if dtype is None else new_traced(self.trace, i, None, shape, dtype)
        return self._seen[i]

    def total(self, output: int) -> list[Traced]:
        """Return arrays whose squares, all added up, are node ``output``, but for a constant."""
        found: list[Traced] = []
        waiting: list[tuple[int, Any]] = [(output, None)]  # nodes whose elements are added up, and their weight
        while waiting:
            i, weight = waiting.pop()
            node = self.nodes[i]
            name, inputs = node.op.name, node.inputs
            if not self.carries[i]:
                continue
            broadcasts = name == "add" and any(node.shape != self.nodes[j].shape for j in inputs)
            if name in ("add", "sum", "reshape", "transpose", "stack", "concatenate") and not broadcasts:
                waiting += [(j, weight) for j in reversed(inputs)]
            elif name == "getitem" and math.prod(self.nodes[inputs[0]].shape) == math.prod(node.shape) == 1:
                waiting.append((inputs[0], weight))
            elif (
                name in ("multiply", "divide", "negative", "subtract")
                and (step := self._weighted(i, scalar=True)) is not None
            ):
                waiting.append((step[0], _times(weight, step[1])))
            elif name == "matmul" and node.shape == () and not all(self.carries[j] for j in inputs):
                along, other = inputs if self.carries[inputs[0]] else reversed(inputs)
                found += [_scaled(part, _times(weight, self.value(other))) for part in self.elements(along)]
            elif (twice := self._product(i)) is not None:
                found.append(_scaled(twice[0], _times(weight, twice[1])))
            elif (square := self._squared(i)) is not None and self.nodes[square].op.name == "norm":
                length = self.nodes[square]
                if length.params["p"] != 2:
                    raise self._none(i)
                found.append(_scaled(self.value(length.inputs[0]), weight))
            else:
                found += [_scaled(part, weight) for part in self.elements(i)]
        return found

    def elements(self, i: int) -> list[Traced]:
        """Return arrays whose squares, added element by element, are node ``i``, but for what is constant."""
        node = self.nodes[i]
        name, inputs = node.op.name, node.inputs
        if not self.carries[i]:
            return []
        if name == "add":
            return [broadcast(part, node.shape) for j in inputs for part in self.elements(j)]
        if (square := self._squared(i)) is not None:
            base = self.nodes[square]
            return [self.value(base.inputs[0] if base.op.name == "absolute" else square)]
        if name == "multiply" and (same := self._same(*inputs)) is not None:
            return [_scaled(self.value(same[0]), same[1])]
        if name in ("multiply", "divide", "negative", "subtract") and (step := self._weighted(i)) is not None:
            return [_scaled(broadcast(part, node.shape), step[1]) for part in self.elements(step[0])]
        if name in _REARRANGING:
            rest = tuple(self.value(j) for j in inputs[1:])
            return [record(node.op, (part, *rest), node.params) for part in self.elements(inputs[0])]
        raise self._none(i)

    def _squared(self, i: int) -> int | None:
        """Return the node that node ``i`` is the square of, if it is one."""
        node = self.nodes[i]
        if node.op.name == "square":
            return node.inputs[0]
        if node.op.name == "power":
            base, exponent = (self.nodes[j] for j in node.inputs)
            value: Any = exponent.params["value"] if exponent.op is CONSTANT else None
            if np.size(value) == 1 and np.ravel(value)[0] == 2 and base.shape == node.shape:
                return node.inputs[0]
        return None

    def _weighted(self, i: int, scalar: bool = False) -> tuple[int, Any] | None:
        """Return the node that node ``i`` is a constant multiple of, and what it is multiplied by; less a constant."""
        node = self.nodes[i]
        name = node.op.name
        if name == "negative":
            return node.inputs[0], -1.0
        a, b = node.inputs
        if name == "subtract":
            if not self.carries[b]:
                return (a, None) if self.nodes[a].shape == node.shape else None
            return (b, -1.0) if not self.carries[a] and self.nodes[b].shape == node.shape else None
        if name == "multiply" and not self.carries[a]:
            a, b = b, a
        if not self.carries[a] or self.carries[b] or (scalar and self.nodes[b].shape != ()):
            return None
        return a, self.value(b) if name == "multiply" else 1.0 / self.value(b)

    def _same(self, a: int, b: int) -> tuple[int, Any] | None:
        """Return the node that nodes ``a`` and ``b`` are constant multiples of, and the product of the two factors."""
        factors: Any = None
        bases = []
        for i in (a, b):
            while self.nodes[i].op.name in ("multiply", "divide", "negative"):
                step = self._weighted(i)
                if step is None:
                    break
                i, factors = step[0], _times(factors, step[1])
            bases.append(i)
        return (bases[0], factors) if bases[0] == bases[1] else None

    def _product(self, i: int) -> tuple[Traced, Any] | None:
        """Return what node ``i`` is the product of with itself, as np.dot and its kin write it, and a weight."""
        node = self.nodes[i]
        if node.op.name == "einsum" and len(node.inputs) == 2:
            left, right = node.params["subscripts"].split("->")[0].split(",")
            if left != right or len(set(left)) != len(left) or node.shape != ():
                return None
        elif node.op.name != "matmul" or node.shape not in ((), (1,), (1, 1)):
            return None
        a, b = (self._unshaped(j) for j in node.inputs)
        if (same := self._same(a, b)) is None:
            return None
        return self.value(same[0]), same[1]

    def _unshaped(self, i: int) -> int:
        """Return the vector that node ``i`` is but for its shape."""
        while self.nodes[i].op.name in ("reshape", "transpose"):
            i = self.nodes[i].inputs[0]
        return i

    def _none(self, i: int) -> TraceError:
        return TraceError(f"f is no sum of squares: {self.nodes[i].op.name} is not squared in it", _USE)


def _times(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else a * b


def _scaled(part: Traced, weight: Any) -> Traced:
    """Return ``part`` times the root of ``weight``."""
    if weight is None:
        return part
    if not isinstance(weight, Traced):
        if not weight >= 0:
            raise TraceError("f is no sum of squares: it takes one off", _USE)
        return record(OPS["multiply"], (part, float(np.sqrt(weight))))
    return record(OPS["multiply"], (part, record(OPS["sqrt"], (weight,))))
