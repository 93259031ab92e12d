"""f and its gradient at one point as a function of machine code, for code that asks for them itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from koubai.execute import library
from koubai.execute.abi import address
from koubai.execute.elements import NotLowerable, split
from koubai.execute.ir import Function, Value
from koubai.execute.llvm import has_code, module
from koubai.execute.lower import lowered
from koubai.execute.native import Captured, fingerprint, unroll
from koubai.graph.graph import Graph

__all__ = ["Pointwise"]


class Pointwise:
    """``address``: that of a function (context, x, g, f), true if it computed both; any number of threads may call it.

    It is false if a guard fails, or the gradient isn't finite though f is: a careful derivative may be.
    graph: (the arrays stored in x, in order) -> f and the gradient for each, float64. Raises NotLowerable.
    """

    def __init__(self, graph: Graph) -> None:
        graph = lowered(graph, has_code)
        if any(graph.nodes[i].dtype != np.float64 for i in graph.inputs):
            raise NotLowerable("parameters that are not float64")
        self.captured = Captured(graph)
        key = b"pointwise" + fingerprint(graph)
        self.library = library.load(key, lambda: module(_written(graph, self.captured)))
        self.address = self.library.address("pointwise")
        self.numbers = self.captured.gathered()
        self.place = address(self.numbers)


def _written(graph: Graph, captured: Captured) -> Function:
    code = Function("pointwise", "i1", ["context", "x", "g", "f"])
    context, x, g, f = code.arguments
    shapes = [graph.nodes[i].shape for i in graph.inputs]
    count = sum(int(np.prod(shape)) for shape in shapes)
    read = captured.reader(code, context)
    held = {i: read(i) for i in captured.nodes}
    given = split([code.load(x, k, "double") for k in range(count)], shapes)
    results, asked = unroll(code, graph, given, held.__getitem__)
    fun = code.cast(results[0][()], "double")
    slopes: Sequence[Value] = [code.cast(v, "double") for part in results[1:] for v in part.ravel()]
    code.store(fun, f)
    for k, slope in enumerate(slopes):
        code.store(slope, g, k)
    known = code.all([v.is_finite() for v in slopes]) | ~fun.is_finite()
    code.ret(code.all([known, *asked]))
    return code
