"""The residuals of a function that is a sum of squares, and their Jacobian, from the graph of the function itself."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from koubai.derivatives.gradient import Differentiated
from koubai.derivatives.paths import Path
from koubai.errors import TraceError
from koubai.execute.choose import Program
from koubai.execute.replay import Columns, Tables, is_loaded
from koubai.graph.call import Leaves
from koubai.graph.forward import pushforward
from koubai.graph.graph import Graph
from koubai.graph.squares import Squares
from koubai.parameters import FloatArray, Layout

__all__ = ["Residuals", "count"]


class Residuals:
    """The residuals r(x) with f(x) = r·r, but for a constant, and the Jacobian J[i, j] = ∂r[i] / ∂x[j], for flat x.

    program: f and its gradient, whose traced paths are read. One forward pass along each parameter: of J no more than
    a column is computed at a time.
    """

    def __init__(self, program: Differentiated, layout: Layout) -> None:
        self.program, self.layout = program, layout
        self._units: list[list[Any]] | None = None  # the direction of each parameter, in the arrays of a path

    def at(self, x: FloatArray, *batch: Any) -> tuple[FloatArray, FloatArray]:
        """Return r and J at ``x``; batch: f's arguments after x.

        Raises TraceError if f can't be traced, or isn't a sum of squares on the path that it takes at x.
        """
        if not batch and (tabled := self._tabled(x)) is not None:
            return tabled
        r, path, values = self._residuals(x, batch)
        if self._units is None:
            active = path.recorded.leaves.active
            ways = (self._leaves(u, batch) for u in np.eye(x.size, dtype=x.dtype))
            self._units = [[along[k] for k in active] for along in ways]
        squares = _Squares.of(path, path.recorded.leaves.active)
        squares.tables.count += 1
        jacobian, run = np.empty((r.size, x.size), r.dtype), squares.tangent.run
        for i, directions in enumerate(self._units):
            (jacobian[:, i],) = run(*values, *directions)
        return r, jacobian

    def table(self, path: Path) -> Columns | None:
        """Return an unused table of r and J on this path, if there is one; the caller gives it back by `give_back`."""
        squares = path.specializations.get("squares")
        return None if squares is None or squares.refused is not None else squares.table()

    def give_back(self, path: Path, table: Columns) -> None:
        if (squares := path.specializations.get("squares")) is not None:  # others may have taken its place
            squares.tables.spare.append(table)

    def _tabled(self, x: FloatArray) -> tuple[FloatArray, FloatArray] | None:
        """Return r and J without Python in between, to the same bits, if there is a table for it."""
        path = self.program.last
        if path is None or "squares" not in path.specializations or x.dtype != np.float64 or not path.same():
            return None
        path.specializations["squares"].check()
        if not is_loaded() or not path.agrees or not path.recorded.environment.complete:
            return None
        if (table := self.table(path)) is None:
            return None
        found = table(x)
        self.give_back(path, table)
        return found

    def _leaves(self, x: FloatArray, batch: tuple[Any, ...]) -> Sequence[Any]:
        """Return the arrays among f's arguments at ``x``."""
        if not batch and self.layout.names is None:
            return (self.layout.view(x),)
        return Leaves.of(self.program.f, [self.layout.view(x), *batch], {}, (0,)).values

    def _residuals(self, x: FloatArray, batch: tuple[Any, ...]) -> tuple[FloatArray, Path, Sequence[Any]]:
        values = self._leaves(x, batch)
        path = self.program.path(self.layout.view(x), *batch) if batch else self.program.last
        found = self._run(path, values) if path is not None and path.same() else None
        if found is None:  # the path used last is another one, or what it read has changed, as a counter in f does
            path = self.program.path_for(self.layout.copy(x), *batch)
            found = self._run(path, values)
        if path is None or found is None:
            raise TraceError("f takes another path when it is called again", "keep its state outside")
        return found, path, values

    def _run(self, path: Path, values: Sequence[Any]) -> FloatArray | None:
        """Return r, or None if f takes another path."""
        found = _Squares.of(path, path.recorded.leaves.active).residuals.run(*values)
        return None if found is None else found[0]


def count(path: Path) -> int:
    """Return how many residuals there are on this path. Raises TraceError if f isn't a sum of squares on it."""
    return _Squares.of(path, path.recorded.leaves.active).size


class _Squares:
    """What was derived from a path and serves its later uses too: the residuals and J, or why there are none."""

    refused: tuple[str, str] | None = None
    size = 0  # how many residuals there are

    def __init__(self, graph: Graph, active: Sequence[int]) -> None:
        self.tables, self.whole, self.active = Tables(), graph, active
        try:
            found = Squares(graph, active)
        except TraceError as error:
            self.refused = error.reason, error.fix
            return
        self.size = found.size
        if found.size >= sum(math.prod(graph.nodes[graph.inputs[k]].shape) for k in active):
            self.graph = found.residuals()  # else they are hardly asked for

    @functools.cached_property
    def graph(self) -> Graph:
        """The residuals."""
        return Squares(self.whole, self.active).residuals()

    @functools.cached_property
    def along(self) -> Graph:
        return pushforward(self.graph, self.active)

    @functools.cached_property
    def residuals(self) -> Program:
        return Program(self.graph)

    @functools.cached_property
    def tangent(self) -> Program:
        return Program(self.along)

    @classmethod
    def of(cls, path: Path, active: Sequence[int]) -> _Squares:
        """Return those of a path. Raises TraceError if f isn't a sum of squares on it."""
        found: _Squares | None = path.specializations.get("squares")
        if found is None:
            found = path.specializations["squares"] = cls(path.recorded.graph, active)
        found.check()
        return found

    def check(self) -> None:
        if self.refused is not None:
            raise TraceError(*self.refused)

    def table(self) -> Columns | None:
        executors = self.residuals.executor, self.tangent.executor
        if not {"floats", "numpy"}.issuperset(executors):
            return None
        floats = executors[0] == "floats", executors[1] == "floats"
        graph, along = self.graph, self.along
        found: Columns | None = self.tables.take(len(along.nodes), lambda most: Columns(graph, along, floats, most))
        return found
