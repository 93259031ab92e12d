"""A graph run node by node, with nothing generated: for graphs of very many nodes, such as those of long loops.

To write a program and have Python compile it takes longer than hundreds of such runs, and needs kilobytes a node. Here
a node is one turn of a loop: call this on what is in those places, and put the answer into that place. The bits are
those of straight-line NumPy.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from koubai.execute.memory import MemoryPlan, is_view, write
from koubai.graph.graph import CAPTURED, CONSTANT, INPUT, LEAVES, Graph, Guard, Node
from koubai.graph.ops import ON_NUMBERS, Index
from koubai.graph.tracer import uncollected

__all__ = ["interpret"]

_ONE, _MANY = -1, -2  # operands, instead of a second place


class _Refused(Exception):
    """A guard fails."""


def interpret(graph: Graph) -> Callable[..., Any]:
    """Return ``run(*inputs)``: the outputs as a tuple, or None if a guard fails. Safe to call from several
    threads.
    """
    return _Interpreter(graph).run


class _Interpreter:
    """calls, first, second, into: what each turn calls, the places of its operands and that of its result."""

    @uncollected()
    def __init__(self, graph: Graph) -> None:
        nodes = graph.nodes
        self.nodes = nodes
        self.memory = MemoryPlan(nodes, graph.outputs)
        self.given = {self.memory.roots[i] for i in graph.outputs}
        self.calls: list[Callable[..., Any]] = []
        self.first: list[Any] = []
        self.second: list[int] = []
        self.into: list[int] = []
        self.values: list[Any] = []  # what is in the places at the start
        self.place: list[int] = [-1] * len(nodes)
        self.indices: dict[int, int] = {}  # the places of indices, by their identity
        self.free: list[int] = []
        checks: dict[int, list[Guard]] = {}
        for guard in graph.guards:
            checks.setdefault(guard.node, []).append(guard)
        last = [-1] * len(nodes)  # the last reader of each
        for i, node in enumerate(nodes):
            for j in node[1]:
                last[j] = i
        for i in (*graph.inputs, *graph.outputs):
            last[i] = len(nodes)
        nowhere = self._new(None)
        self.fixed: set[int] = set()  # nodes that are the same in each run
        self.captured = [node for node in nodes if node[0] is CAPTURED]
        calls, first, second, into = self.calls, self.first, self.second, self.into
        place, values, free = self.place, self.values, self.free
        for i, node in enumerate(nodes):
            op, used, params, shape, *_ = node
            if not used and op in LEAVES:
                place[i] = self._new(None if op is INPUT else params["value"])
                last[i] = len(nodes)
            elif (
                (op.spreads or op.reduces is not None)
                and i not in self.given
                and (value := self._known(node)) is not None
            ):
                place[i] = self._new(value)
                self.fixed.add(i)
                last[i] = len(nodes)
            else:
                if not params and not shape and len(used) == 2 and not op.view:  # most nodes of a long loop
                    a, b = used
                    plain = nodes[a][0] is CONSTANT and nodes[b][0] is CONSTANT
                    calls.append(op.call if plain else ON_NUMBERS.get(op, op.call))
                    first.append(place[a])
                    second.append(place[b])
                else:
                    self._node(i, node)
                for j in used:
                    if last[j] == i:
                        last[j] = -1  # it may be read twice
                        free.append(place[j])
                if free:
                    place[i] = free.pop()
                else:
                    place[i] = len(values)
                    values.append(None)
                into.append(place[i])
            if checks:
                for guard in checks.get(i, ()):
                    self._turn(partial(_check, guard), place[i], _ONE)
                    into.append(nowhere)
        self.inputs = [self.place[i] for i in graph.inputs]
        self.outputs: list[tuple[int, bool]] = []  # the place, and whether the caller gets a copy of what is there
        for k, i in enumerate(graph.outputs):
            shown = nodes[self.memory.roots[i]].op in LEAVES or self.memory.roots[i] != i or i in graph.outputs[:k]
            self.outputs.append((self.place[i], shown and bool(nodes[i].shape)))
        del self.nodes, self.given, self.memory, self.place, self.indices, self.free, self.fixed

    def run(self, *inputs: Any) -> Any:
        for node in self.captured:  # the caller's own array: it must still be the one that was traced
            value = node.params["value"]
            if value.shape != node.shape or value.dtype != node.dtype:
                return None
        values = self.values.copy()
        for place, value in zip(self.inputs, inputs, strict=True):
            values[place] = value
        try:
            with np.errstate(all="ignore"):
                for call, a, b, out in zip(self.calls, self.first, self.second, self.into, strict=True):
                    if b >= 0:
                        values[out] = call(values[a], values[b])
                    elif b == _ONE:
                        values[out] = call(values[a])
                    else:
                        values[out] = call(*[values[place] for place in a])
        except _Refused:
            return None
        return tuple([values[place].copy() if copied else values[place] for place, copied in self.outputs])

    def _known(self, node: Node) -> Any:
        """Return a number spread over an array, or such an array added up, if it is the same in each run."""
        j = node.inputs[0]
        if self.nodes[j].op is not CONSTANT and j not in self.fixed:
            return None
        with np.errstate(all="ignore"):
            return node.op.call(self.values[self.place[j]], **node.params)

    # --- what a turn does
    def _new(self, value: Any) -> int:
        self.values.append(value)
        return len(self.values) - 1

    def _index(self, index: Index) -> int:
        place = self.indices.get(id(index))
        if place is None:
            place = self.indices[id(index)] = self._new(index.fill(()))
        return place

    def _turn(self, call: Callable[..., Any], a: Any, b: int) -> None:
        self.calls.append(call)
        self.first.append(a)
        self.second.append(b)

    def _node(self, i: int, node: Node) -> None:
        op, inputs, params, shape, *_ = node
        place = self.place
        call = op.call
        if not params:
            if not shape:
                if op.view:
                    call = partial(_unwrapped, call)
                elif self.nodes[inputs[0]][0] is not CONSTANT or self.nodes[inputs[-1]][0] is not CONSTANT:
                    call = ON_NUMBERS.get(op, call)
        elif op.index == "reads" and not params["index"].holes:
            index: Index = params["index"]
            if i in self.memory.copied:
                call = _copied_out
            elif not shape and Ellipsis in index.items:
                call = _number_of
            else:
                call = operator.getitem
            self._turn(call, place[inputs[0]], self._index(index))
            return
        elif len(shape) < 2 and (reduction := op.reduction) is not None and not params["keepdims"]:
            # what the row's function calls, without it and without names it takes half the time
            self._turn(reduction, place[inputs[0]], self._new(params["axis"]))
            return
        elif i in self.memory.in_place:
            index = params["index"]
            places = [place[j] for j in inputs]
            if index.holes:
                self._turn(partial(write, node), tuple(places), _MANY)
            else:
                where = self._index(index)
                self._turn(_put if op.index == "sets" else _put_more, (places[0], where, places[1]), _MANY)
            return
        else:
            call = partial(call, **params)
            if not shape and is_view(node):
                call = partial(_unwrapped, call)
        if len(shape) > 1 and not is_view(node) and op.index != "reads" and i not in self.given:
            # as in a program's buffers: the order of a later sum follows from it
            call = partial(call, order="C") if isinstance(call, np.ufunc) else partial(_in_rows, call)
        if len(inputs) == 2:
            self._turn(call, place[inputs[0]], place[inputs[1]])
        elif len(inputs) == 1:
            self._turn(call, place[inputs[0]], _ONE)
        else:
            self._turn(call, tuple([place[j] for j in inputs]), _MANY)


def _check(guard: Guard, value: Any) -> None:
    if not guard.holds(value):
        raise _Refused


def _in_rows(call: Callable[..., Any], *operands: Any) -> Any:
    """Return an array row by row; NumPy gives one the order of the operands, such as a transposed view's."""
    return np.asarray(call(*operands), order="C")


def _unwrapped(call: Callable[..., Any], *operands: Any) -> Any:
    """Return a number, also if NumPy would return an array of no axes that shows the operand's memory."""
    value = call(*operands)
    return value[()] if isinstance(value, np.ndarray) else value


def _number_of(x: Any, where: Any) -> Any:
    return x[where][()]


def _copied_out(x: Any, where: Any) -> Any:
    return x[where].copy()


def _put(x: Any, where: Any, v: Any) -> Any:
    x[where] = v
    return x


def _put_more(x: Any, where: Any, v: Any) -> Any:
    x[where] += v
    return x
