"""A formula as a graph: what NumPy text computes, whatever the numbers are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from koubai.errors import TraceError
from koubai.graph.graph import Graph
from koubai.graph.traced import Traced, current_node, weaken
from koubai.graph.tracer import Trace

__all__ = ["traced"]


def traced(name: str, arguments: Sequence[tuple[str, Any, bool]], body: Callable[..., Sequence[Any]]) -> Graph:
    """Return what ``body`` computes as a graph.

    arguments: (name, a value of its form, is it a Python number, which gives way to the precision of what it meets?).
    Raises TraceError if the body reads the number of a traced value: then it isn't a formula.
    """
    trace = Trace(concrete=True, name=name)
    trace.raises = False  # a rule divides by no zero, and a guard on every number would be in the way of machine code
    inputs = []
    for label, value, weak in arguments:
        given = trace.input(np.array(value)[()], label, activity=1)
        inputs.append(weaken(given) if weak else given)
    with trace.running():
        results = body(*inputs)
        outputs = [current_node(r) if type(r) is Traced else trace.constant(r) for r in results]
    if trace.guards:
        raise TraceError(f"{name} looks at a number that changes", "it runs in Python")
    return trace.graph(outputs)
