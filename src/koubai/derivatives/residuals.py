"""The residuals of a function that is a sum of squares, and their Jacobian, from the graph of the function itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from koubai.derivatives.gradient import Differentiated
from koubai.derivatives.paths import Path
from koubai.errors import TraceError
from koubai.execute.choose import Program
from koubai.graph.call import Leaves
from koubai.graph.squares import residuals, tangent
from koubai.parameters import FloatArray, Layout

__all__ = ["Residuals"]


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

        Raises TraceError where f can't be traced, or is no sum of squares on the path that it takes at x.
        """
        r, path, leaves = self._residuals(x, batch)
        if self._units is None:
            ways = (
                Leaves.of(self.program.f, [self.layout.view(u), *batch], {}, (0,))
                for u in np.eye(x.size, dtype=x.dtype)
            )
            self._units = [[along.values[k] for k in along.active] for along in ways]
        (_, tangent), still = path.made["squares"], np.zeros_like(r)
        jacobian = np.empty((r.size, x.size), r.dtype)
        for i, directions in enumerate(self._units):
            (jacobian[:, i],) = tangent.run(*leaves.values, still, *directions)
        return r, jacobian

    def _residuals(self, x: FloatArray, batch: tuple[Any, ...]) -> tuple[FloatArray, Path, Leaves]:
        leaves = Leaves.of(self.program.f, [self.layout.copy(x), *batch], {}, (0,))
        path = self.program.path(self.layout.view(x), *batch)
        found = self._run(path, leaves) if path is not None and path.same() else None
        if found is None:  # the path used last is another one, or what it read has changed, as a counter in f does
            path = self.program.taken(self.layout.copy(x), *batch)
            found = self._run(path, leaves)
        if path is None or found is None:
            raise TraceError("f takes another path when it is called again", "keep its state outside")
        return found, path, leaves

    def _run(self, path: Path, leaves: Leaves) -> FloatArray | None:
        """Return r, or None where f takes another path. What was derived of the path serves its later uses too."""
        if "squares" not in path.made:
            try:
                graph = residuals(path.recorded.graph, leaves.active)
                path.made["squares"] = Program(graph), Program(tangent(graph, leaves.active))
            except TraceError as error:
                path.made["squares"] = error.reason
        made = path.made["squares"]
        if isinstance(made, str):
            raise TraceError(made, "take another optimizer, LBFGS say")
        found = made[0].run(*leaves.values)
        return None if found is None else found[0]
