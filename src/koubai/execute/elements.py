"""A graph of a few numbers, unrolled: a node becomes an object array with one entry per element.

What only moves elements (slices, reshapes, writes into zeros) costs nothing then: it is done here, once, whatever the
entries are, so that pure Python and machine code share one expansion.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from koubai.graph.graph import CONSTANT, Node
from koubai.graph.ops import OPS

__all__ = [
    "NotLowerable",
    "added_up",
    "axis_last",
    "filled",
    "is_product",
    "is_quotient",
    "known_arrays",
    "moved_inputs",
    "rearranged",
    "split",
]

_MATMUL, _DIVIDE = OPS["matmul"], OPS["divide"]
BLOCK = 128  # NumPy sums up to here with eight running sums, and halves what is longer


class NotLowerable(Exception):
    """The graph has a node that this executor has no code for."""


def is_product(node: Node) -> bool:
    """Return whether a node is a matrix product."""
    return node.op is _MATMUL


def is_quotient(node: Node) -> bool:
    """Return whether a node divides."""
    return node.op is _DIVIDE


def filled(shape: tuple[int, ...], entries: Sequence[Any]) -> Any:
    """Return an object array of these entries."""
    elements = np.empty(len(entries), object)
    for i, entry in enumerate(entries):
        elements[i] = entry
    return elements.reshape(shape)


def moved_inputs(node: Node) -> int:
    """Return how many inputs of a node that moves elements hold them: the last ones may be arrays in its index."""
    return len(node.inputs) - (node.params["index"].holes if "index" in node.params else 0)


def known_arrays(nodes: Sequence[Node], node: Node) -> list[Any]:
    """Return the arrays in the holes of a node's index. Raises NotLowerable unless they are constants."""
    given = [nodes[j] for j in node.inputs[moved_inputs(node) :]]
    if any(n.op is not CONSTANT for n in given):
        raise NotLowerable(f"{node.op.name} with an index that is computed")
    return [n.params["value"] for n in given]


def rearranged(
    node: Node,
    operands: Sequence[Any],
    arrays: Sequence[Any],
    number: Callable[[float], Any],
    add: Callable[[Any, Any], Any],
) -> Any:
    """Return the elements of a node that only moves elements, fills an array, or adds some elements to others.

    operands: of the node's own dtype. arrays: in the holes of its index. number(v): the entry for a number.
    """
    if node.op.fills is not None:
        return filled(node.shape, [number(float(node.op.fills))] * math.prod(node.shape))
    if node.op.index == "adds":
        result = operands[0].copy()
        places = np.arange(result.size).reshape(result.shape)[node.params["index"].fill(arrays)]
        flat, added = result.reshape(-1), np.broadcast_to(operands[1], np.shape(places))
        for k, at in zip(np.ravel(places), added.ravel(), strict=True):
            flat[k] = add(flat[k], at)
        return result
    # what becomes an element must not be an array
    joined = [part if part.shape else part[()] for part in operands] if node.op.parts is not None else operands
    if node.op.index == "sets" and not operands[1].shape:
        joined = [operands[0], operands[1][()]]
    return np.asarray(node.op.call(*joined, *arrays, **node.params), object).reshape(node.shape)


def split(vector: Sequence[Any], shapes: Sequence[tuple[int, ...]]) -> list[Any]:
    """Return the arrays that are stored in a flat vector."""
    parts, start = [], 0
    for shape in shapes:
        stop = start + math.prod(shape)
        parts.append(filled(shape, vector[start:stop]))
        start = stop
    return parts


def axis_last(x: Any, axis: tuple[int, ...] | None) -> Any:
    """Return the elements with those that a reduction combines moved to one last axis."""
    axes = tuple(range(x.ndim)) if axis is None else axis
    rest = tuple(k for k in range(x.ndim) if k not in axes)
    return x.transpose((*rest, *axes)).reshape((*(x.shape[k] for k in rest), -1))


def added_up(parts: Sequence[Any], add: Callable[[Any, Any], Any]) -> Any:
    """Add in NumPy's order for contiguous elements: pairwise, from eight running sums."""
    n = len(parts)
    if n < 8:
        return _chain(parts, add)
    if n <= BLOCK:
        whole = n - n % 8
        r = [_chain(parts[k:whole:8], add) for k in range(8)]
        total = add(add(add(r[0], r[1]), add(r[2], r[3])), add(add(r[4], r[5]), add(r[6], r[7])))
        return _chain([total, *parts[whole:]], add)
    half = n // 2 - n // 2 % 8
    return add(added_up(parts[:half], add), added_up(parts[half:], add))


def _chain(parts: Iterable[Any], add: Callable[[Any, Any], Any]) -> Any:
    rest = iter(parts)
    total = next(rest)
    for part in rest:
        total = add(total, part)
    return total
