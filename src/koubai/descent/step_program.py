"""A descent as graphs for machine code: the update, the bounds and the norm, traced from the text that Python runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from koubai.descent.objective import Bounds
from koubai.descent.optimizers import Optimizer
from koubai.descent.stopping import GROWTH, Stopping
from koubai.errors import TraceError
from koubai.execute.abi import BIGGEST, DescentGraphs
from koubai.graph.formula import traced
from koubai.graph.graph import Graph
from koubai.parameters import Layout

__all__ = ["descent_graphs", "limits"]


def _scalars() -> list[tuple[str, Any, bool]]:
    return [(name, np.float64(1.0), True) for name in ("t", "lr", "fun")]


def _named(state: Sequence[Any]) -> list[tuple[str, Any, bool]]:
    return [(f"s{i}", np.asarray(part)[()], False) for i, part in enumerate(state)]


def descent_graphs(
    value: Graph, optimizer: Optimizer, state: Sequence[Any], layout: Layout, bounds: Bounds | None
) -> DescentGraphs:
    """Return the graphs of a descent whose value and gradient is ``value``.

    Raises TraceError if the rule needs Python: it evaluates f itself, or looks at numbers.
    """
    if "evaluate" in optimizer.rule.uses:
        raise TraceError(f"{type(optimizer).__name__} evaluates f itself", "it runs in Python")
    x = np.zeros(layout.size, layout.dtype)
    given = [(name, x, False) for name in ("x", "g", "low", "high")]

    def update(x: Any, g: Any, low: Any, high: Any, t: Any, lr: Any, fun: Any, *state: Any) -> Sequence[Any]:
        after, states = optimizer.step(x, g, state, t, lr, fun=fun, layout=layout)
        if bounds is None:
            return [after, False, *states]
        inside = Bounds(low, high).project(after)
        return [inside, np.any(inside != after), *states]

    def measure(x: Any, g: Any, low: Any, high: Any) -> Sequence[Any]:
        free = g if bounds is None else Bounds(low, high).free(x, g)
        return [np.max(np.abs(free)), optimizer.clips(x, g, layout)]

    return DescentGraphs(
        value,
        traced("update", [*given, *_scalars(), *_named(state)], update),
        traced("measure", given, measure),
        tuple(np.shape(part) for part in state),
        bounds is not None,
    )


def limits(stopping: Stopping) -> tuple[float, ...]:
    """Return the limits that a loop checks at each step: TARGET, FTOL, XTOL, F_LIMIT and X2_LIMIT."""
    start, target, ftol, xtol = stopping.start, stopping.target, stopping.ftol, stopping.xtol
    x = start.x if start.x.dtype == np.float64 else start.x.astype(np.float64)
    square, size = float(x.dot(x)), abs(start.fun)
    highest = start.fun + GROWTH * (1 - 1e-9) * (size if size > 1.0 else 1.0)
    farthest = GROWTH * GROWTH * (1 - 1e-9) * (square if square > 1.0 else 1.0)
    return (
        -math.inf if target is None else target,
        -1.0 if ftol is None else ftol,
        -1.0 if xtol is None else xtol,
        highest if highest < BIGGEST else BIGGEST,
        farthest if farthest < BIGGEST else BIGGEST,
    )
