"""The turns of a loop in a graph: what a derivative makes of one of them, it makes of all.

Nodes repeat if each is the node one period later, but for the distance: the same primitive of the same form from
the same line, whose operands are as far away, or are outside the loop. What a derivative makes of such a stretch of
nodes repeats as well, as soon as three periods in a row came to the same nodes, each at its distance: the rules and
what simplifies their answers read no more than the primitives, the forms and the operands of the operands. The rest
is then written down, at a fifth of the price of going through the rules again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from operator import add
from typing import Any, NamedTuple

from koubai.graph.graph import LEAVES, Node, new_node
from koubai.graph.ops import OPS
from koubai.graph.traced import Traced, new_traced, recorded_node
from koubai.graph.tracer import Trace

__all__ = ["Backwards", "Forwards"]

_LEAST = 12  # periods from which on a search pays
_LONG = 500  # nodes, of fewer of which it is soon seen that there is no loop among them
_WIDEST = 4000  # nodes of a period
_ANCHORS, _SAME, _WAYS = 32, 3, 8  # nodes from which a period is looked for, those of one place, and lengths tried
_MULTIPLES = 16  # periods that may be taken as one
_ALIKE, _TRIES = 3, 10  # periods that have to come to the same nodes, and how many may pass until they do
_GETITEM = OPS["getitem"]


class _Stretch(NamedTuple):
    """Nodes ``start`` to ``end``, of which each but the last ``period`` is the one a period later."""

    start: int
    end: int
    period: int


_NONE = _Stretch(-1, -1, 0)


def _stretches(nodes: Sequence[Node], carries: Sequence[bool]) -> list[_Stretch]:
    """Return the stretches that repeat, the last one first."""
    found: list[_Stretch] = []
    tried: dict[tuple[int, int], int] = {}
    end = len(nodes) - 1
    if len(nodes) < _LONG and max(Counter([(id(node[0]), id(node[5])) for node in nodes]).values()) < _LEAST:
        return found  # no node has as many of its kind as a loop has turns
    while end >= _LEAST and len(tried) < _ANCHORS:
        op, where = nodes[end][0], nodes[end][5]
        place = id(op), id(where)
        if not carries[end] or not nodes[end][1] or tried.get(place, 0) >= _SAME:
            end -= 1
            continue
        tried[place] = tried.get(place, 0) + 1
        ways, stretch = 0, None
        for i in range(end - 1, max(end - _WIDEST, 0), -1):
            if nodes[i][5] is where and nodes[i][0] is op:
                period, ways = end - i, ways + 1
                start = _first(nodes, carries, end, period)
                if end + 1 - start >= _LEAST * period:
                    stretch = _Stretch(start, end, period)
                if stretch is not None or ways == _WAYS:
                    break
        if stretch is not None:
            found.append(stretch)
            tried.clear()
        end = end - 1 if stretch is None else stretch.start - 1
    return found


def _first(nodes: Sequence[Node], carries: Sequence[bool], end: int, period: int) -> int:
    """Return the first node from which on to ``end`` all repeat with this period."""
    ways: list[Any] = [None] * period  # how far the operands of each move
    for i in range(end - period, -1, -1):
        op, inputs, params, shape, dtype, where = nodes[i]
        later, others, others_params, other_shape, other_dtype, there = nodes[i + period]
        if op is not later or where is not there or carries[i] is not carries[i + period]:
            return i + 1
        if not inputs or len(inputs) != len(others) or shape != other_shape:
            return i + 1
        if dtype is not other_dtype and dtype != other_dtype:
            return i + 1
        if params is not others_params and not (op is _GETITEM and not carries[i]) and params != others_params:
            return i + 1  # another element of something known may be read at each turn
        way = ways[i % period]
        if way is None:
            way = ways[i % period] = tuple([k - j for j, k in zip(inputs, others, strict=True)])
            if not {0, period}.issuperset(way):
                return i + 1
        elif len(way) == 2:  # as most have
            if inputs[0] + way[0] != others[0] or inputs[1] + way[1] != others[1]:
                return i + 1
        elif tuple(map(add, inputs, way)) != others:
            return i + 1
    return 0


class _Turns:
    """``watch`` is the next node at which `at` has to be asked which node to go on with."""

    def __init__(
        self, trace: Trace, nodes: Sequence[Node], stretches: list[_Stretch], known: dict[int, Traced]
    ) -> None:
        """stretches: in the order in which they are met, the first one at the end; known: what the derivative has of
        the nodes, which is changed.
        """
        self.trace, self.nodes, self.left, self.known = trace, nodes, stretches, known
        self.marks: list[tuple[int, dict[int, Traced]]] = []  # nodes so far, and what is known, at the ends of periods
        self.outside: Mapping[int, int] = {}  # of nodes of the stretch, what comes of nodes behind it
        self.pattern: list[Any] = []  # what each node of a turn is, how far its operands move, which are from outside
        self.turn: list[tuple[int, ...]] = []  # the operands of each at the turn that was made last
        self._next()

    def _next(self) -> None:
        self.marks.clear()
        self.stretch = self.left.pop() if self.left else _NONE
        self.period = self.stretch.period
        self.watch = self._begin()

    def _begin(self) -> int:
        raise NotImplementedError

    def _are_alike(self, i: int, period: int) -> int:
        """Return how many nodes each of the last periods came to, and note them; -1: not the same.

        i: where the next period begins; period: signed, as the derivative goes.
        """
        bounds = [mark for mark, _ in self.marks[-_ALIKE - 1 :]]
        made = bounds[-1] - bounds[-2]
        if any(b - a != made for a, b in pairwise(bounds)):
            return -1
        nodes, count, outside = self.trace.nodes, len(self.nodes), self.outside
        given = {outside[j]: j for j in outside if i + 2 * period < j <= i - (_ALIKE - 1) * period}
        pattern: list[Any] = []
        for first in bounds[-3:-1]:
            before, pattern = pattern, []
            for one, other in zip(nodes[first - made : first], nodes[first : first + made], strict=True):
                op, inputs, params, shape, dtype, where = other
                if op is not one[0] or where is not one[5] or shape != one[3] or dtype != one[4] or op in LEAVES:
                    return -1
                if len(inputs) != len(one[1]) or (params is not one[2] and params != one[2]):
                    return -1
                steps: list[int] = []
                taken: list[tuple[int, int]] = []
                for a, b in zip(one[1], inputs, strict=True):
                    step = b - a
                    if step and step != (period if b < count else made):
                        j = given.get(b, -1)
                        if j < 0 or outside.get(j - period) != a:
                            return -1
                        taken.append((len(steps), j))
                        step = 0
                    steps.append(step)
                pattern.append((op, tuple(steps), taken, params, shape, dtype, where, (shape, dtype)))
            for (_, now, taken, *_), (_, then, taken_then, *_) in zip(pattern, before, strict=False):
                if now != then or taken != [(place, j + period) for place, j in taken_then]:
                    return -1
        self.pattern = pattern
        self.turn = [node[1] for node in nodes[bounds[-2] : bounds[-1]]]
        return made

    def _write(self, count: int, period: int) -> None:
        """Write down what so many more periods come to."""
        nodes, forms, turn, outside = self.trace.nodes, self.trace.forms, self.turn, self.outside
        for k in range(1, count + 1):
            inputs: tuple[int, ...]
            for n, (op, steps, taken, params, shape, dtype, where, form) in enumerate(self.pattern):
                if len(steps) == 2:  # as most have
                    inputs = turn[n] = (turn[n][0] + steps[0], turn[n][1] + steps[1])
                else:
                    inputs = turn[n] = tuple(map(add, turn[n], steps))
                if taken:
                    own = list(inputs)
                    for place, j in taken:
                        own[place] = outside[j + k * period]
                    inputs = tuple(own)
                nodes.append(new_node((op, inputs, params, shape, dtype, where)))
                forms.append(form)

    def _shown(self, node: int) -> Traced:
        return new_traced(self.trace, node, None, *self.trace.forms[node])


class Backwards(_Turns):
    """Repeats what reversing a graph makes of the turns of its loops.

    cotangents: of the nodes still to be reversed; the caller adds to them as it goes.
    """

    def __init__(
        self, trace: Trace, nodes: Sequence[Node], carries: Sequence[bool], cotangents: dict[int, Traced]
    ) -> None:
        super().__init__(trace, nodes, _stretches(nodes, carries)[::-1], cotangents)

    def _begin(self) -> int:
        return self.stretch.end

    def at(self, i: int) -> int:
        """Return the node to go on with: ``i``, or one that is many periods before it."""
        start, end, period = self.stretch
        self.marks.append((len(self.trace.nodes), self.known.copy()))
        if i == end:
            times = self._multiple()
            if not times:
                self._next()
                return i
            self.period = times * period
        elif len(self.marks) > _ALIKE + 1:  # the first turn isn't like the others
            count = (i + 1 - start) // self.period - 2  # nothing reads deeper than operands of operands
            if count > 0 and self._repeats(i, count):
                i -= count * self.period
                self._next()
                return i
            if count <= 0 or len(self.marks) > _TRIES:
                self._next()
                return i
        self.watch = i - self.period
        return i

    def _multiple(self) -> int:
        """Return of how many periods the nodes that are read from behind the loop repeat; 0: they do not."""
        start, end, period = self.stretch
        read = {j for j in self.known if start <= j <= end}
        for times in range(1, _MULTIPLES + 1):
            wide = times * period
            if end + 1 - start < _LEAST * wide:
                return 0
            inner = {j for j in read if j <= end - wide}
            if all(j - wide in inner or j - wide < start for j in inner) and all(
                j + wide in inner or j + wide > end - wide for j in inner
            ):
                return times
        return 0

    def _repeats(self, i: int, count: int) -> bool:
        """Write down what ``count`` periods from node ``i`` on come to, if the last ones came to the same."""
        period, cotangents = self.period, self.known
        self.outside = {j: recorded_node(g) for j, g in self.marks[0][1].items()}  # by now a number may be a node
        made = self._are_alike(i, -period)
        if made < 0 or not self._same_outside(i, count):
            return False
        states = [{j: recorded_node(g) for j, g in state.items()} for _, state in self.marks[-_ALIKE - 1 :]]
        after = states[-1]
        stays, moves = set(), []  # of what moves: how far its node does, and its cotangent
        for j, g in after.items():
            if all(state.get(j) == g for state in states):
                stays.add(j)
                continue
            for back, step in ((period, made), (period, 0), (0, made)):
                if all(state.get(j + k * back) == g - k * step for k, state in enumerate(states[::-1])):
                    moves.append((j, back, step))
                    break
            else:
                return False
        self._write(count, -period)
        moved = {
            j - count * back: self._shown(after[j] + count * step) if step else cotangents[j] for j, back, step in moves
        }
        for j in list(cotangents):
            if j not in stays or j > i - count * period:
                del cotangents[j]
        cotangents.update(moved)
        return True

    def _same_outside(self, i: int, count: int) -> bool:
        """Return whether what comes from behind the loop is alike in the periods before ``i`` and in those after it."""
        outside, period, trace = self.outside, self.period, self.trace
        here = {j for j in outside if i < j <= i + period}
        for j in here:
            node, form = trace.nodes[outside[j]], trace.forms[outside[j]]
            for k in (*range(1 - _ALIKE, 0), *range(1, count + 1)):
                g = outside.get(j - k * period, -1)
                if g < 0 or (g != outside[j] and (node.op is not _GETITEM or trace.nodes[g].op is not _GETITEM)):
                    return False  # of other primitives more than the form is read
                if trace.forms[g] != form:
                    return False
        if sum(1 for j in outside if i - count * period < j <= i + _ALIKE * period) != (count + _ALIKE) * len(here):
            return False
        return all(j - count * period in outside for _, _, taken, *_ in self.pattern for _, j in taken)


class Forwards(_Turns):
    """Repeats what forward mode makes of the turns of a graph's loops.

    tangents: of the nodes so far; the caller adds to them as it goes. outputs: nodes whose tangents are wanted.
    """

    def __init__(
        self,
        trace: Trace,
        nodes: Sequence[Node],
        carries: Sequence[bool],
        tangents: dict[int, Traced],
        outputs: Sequence[int],
    ) -> None:
        self.outputs = outputs
        super().__init__(trace, nodes, _stretches(nodes, carries), tangents)

    def _begin(self) -> int:
        return self.stretch.start

    def at(self, i: int) -> int:
        """Return the node to go on with: ``i``, or one that is many periods after it."""
        self.marks.append((len(self.trace.nodes), {}))
        if len(self.marks) > _ALIKE + 1:
            count = (self.stretch.end + 1 - i) // self.period
            if count > 0 and self._repeats(i, count):
                i += count * self.period
                self._next()
                return i
            if count <= 0 or len(self.marks) > _TRIES:
                self._next()
                return i
        self.watch = i + self.period
        return i

    def _repeats(self, i: int, count: int) -> bool:
        """Write down what ``count`` periods from node ``i`` on come to, if the last ones came to the same."""
        period, nodes, tangents = self.period, self.nodes, self.known
        made = self._are_alike(i, period)
        if made < 0:
            return False
        moves = []
        for j in range(i - period, i):
            if any(k != m and k < i - _ALIKE * period for k, m in zip(nodes[j][1], nodes[j - period][1], strict=True)):
                return False  # what is known so far does not tell what is so far away
            last = [recorded_node(tangents[k]) for k in range(j, j - _ALIKE * period, -period) if k in tangents]
            steps = {a - b for a, b in pairwise(last)}
            if len(last) not in (0, _ALIKE) or (last and steps not in ({made}, {0})):
                return False
            if last:
                moves.append((j, last[0], steps.pop()))
        self._write(count, period)
        read = {*self.outputs}.union(*[node[1] for node in nodes[i + count * period :]])
        for j, node, step in moves:
            for k in range(1, count + 1):
                if j + k * period in read:
                    tangents[j + k * period] = self._shown(node + k * step)
        return True
