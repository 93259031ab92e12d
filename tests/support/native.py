"""A graph of a few numbers as one function of machine code: what descents do at each step, to be looked at alone."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from koubai.execute import library
from koubai.execute.abi import address
from koubai.execute.elements import NotLowerable
from koubai.execute.ir import BOOL, Function
from koubai.execute.llvm import KINDS, has_code, module
from koubai.execute.lower import lowered
from koubai.execute.native import Captured, fingerprint, unroll
from koubai.graph.graph import Graph

__all__ = ["compile_native"]


def compile_native(graph: Graph) -> Callable[..., Any]:
    """Return ``run(*inputs)``: the outputs as a tuple, or None where a guard fails. Safe to call from several threads.

    Raises NotLowerable where the graph has something that there is no code for.
    """
    graph = lowered(graph, has_code)
    kinds = []
    for i in (*graph.inputs, *graph.outputs):
        node = graph.nodes[i]
        if node.dtype not in KINDS or (i in graph.inputs and node.dtype == np.bool_):
            raise NotLowerable(f"an input or output of {node.dtype}")
        kinds.append(KINDS[node.dtype])
    captured = Captured(graph)
    count = len(graph.inputs)

    def make() -> str:
        code = Function("run", BOOL, [*(f"p{k}" for k in range(len(kinds))), "captured"])
        *pointers, read = code.arguments
        given = zip(pointers, graph.inputs, kinds, strict=False)
        inputs = [code.elements(pointer, 0, graph.nodes[i].shape, kind) for pointer, i, kind in given]
        outputs, asked = unroll(code, graph, inputs, captured.reader(code, read))
        for elements, pointer, kind in zip(outputs, pointers[count:], kinds[count:], strict=True):
            for k, v in enumerate(elements.ravel()):
                code.store(code.cast(v, kind), pointer, k)
        code.ret(code.all(asked))
        return module(code)

    loaded = library.load(b"run" + fingerprint(graph), make)
    call = ctypes.CFUNCTYPE(ctypes.c_bool, *[ctypes.c_void_p] * (len(kinds) + 1))(loaded.address("run"))
    forms = [(graph.nodes[i].shape, graph.nodes[i].dtype) for i in (*graph.inputs, *graph.outputs)]

    def run(*inputs: Any) -> Any:
        read = captured.gathered()
        if read is None:
            return None
        given = [np.ascontiguousarray(v, form[1]) for v, form in zip(inputs, forms[:count], strict=True)]
        results = [np.empty(shape, dtype) for shape, dtype in forms[count:]]
        pointers = [address(a) for a in (*given, *results, read)]
        if not call(*pointers):
            return None
        return tuple(result if result.shape else result[()] for result in results)

    run.library = loaded  # type: ignore[attr-defined]
    return run
