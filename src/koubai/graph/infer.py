"""Shapes and dtypes without numbers: what a primitive returns, by the forms of its operands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from koubai.graph.ops import OPS, Op, Shape

if TYPE_CHECKING:
    from koubai.graph.graph import Node

__all__ = [
    "NUMBER",
    "infer_shape_dtype",
]

NUMBER: tuple[Shape, np.dtype[Any]] = (), np.dtype(np.float64)  # the form of one, as far as it can be this object


# --- shapes and dtypes without numbers
_dtypes: dict[Any, np.dtype[Any]] = {}
_inferred: dict[Any, tuple[Shape, np.dtype[Any]]] = {}  # so that the same is not worked out twice
_INFERRED = 2_000  # of them are kept, in 1 MB


def _result_dtype(op: Op, operands: Sequence[Node], params: dict[str, Any]) -> np.dtype[Any]:
    key = (op, *[b.dtype or type(b.params["value"]) for b in operands], params.get("dtype"))
    dtype = _dtypes.get(key)
    if dtype is None:
        ones = [type(b.params["value"])(1) if b.dtype is None else np.ones((), b.dtype)[()] for b in operands]
        if op.elementwise:
            with np.errstate(all="ignore"):
                dtype = np.asarray(op.call(*ones, **params)).dtype
        elif op.dtype is not None:
            dtype = np.dtype(op.dtype(*(np.result_type(one) for one in ones)))
        elif "dtype" in params:
            dtype = np.dtype(params["dtype"])
        else:
            dtype = np.result_type(*ones)
        _dtypes[key] = dtype
    return dtype


def infer_shape_dtype(
    op: Op, forms: Sequence[Any], nodes: Sequence[Node], inputs: Sequence[int], params: dict[str, Any]
) -> Any:
    """Return the form of a result from those of its operands."""
    question: Any
    if "index" in params:  # a loop has another place a step
        question = (op, *map(forms.__getitem__, inputs), params["index"].form)
    elif len(inputs) == 1:
        question = (op, forms[inputs[0]], *params.values()) if params else (op, forms[inputs[0]])
    elif len(inputs) == 2 and not params:
        a, b = inputs
        if forms[a] is NUMBER and forms[b] is NUMBER and op in _ARITHMETIC:  # as most nodes of a loop over numbers
            return NUMBER
        question = op, forms[a], forms[b]
    else:
        question = (op, *map(forms.__getitem__, inputs), *params.values())
    found = _inferred.get(question)
    if found is None:
        if len(_inferred) >= _INFERRED:
            _inferred.clear()
        found = _worked_out(op, [nodes[j] for j in inputs], params)
        found = _inferred[question] = NUMBER if found == NUMBER else found
    return found


_ARITHMETIC = {OPS[name] for name in ("add", "subtract", "multiply", "divide")}


def _worked_out(op: Op, operands: Sequence[Node], params: dict[str, Any]) -> tuple[Shape, np.dtype[Any]]:
    """Ops without a shape rule are run on blank arrays."""
    if op.elementwise:
        shape: Shape = ()
        for b in operands:
            if b.shape != shape and b.shape:
                shape = b.shape if not shape else np.broadcast_shapes(shape, b.shape)
        return shape, _result_dtype(op, operands, params)
    if op.shape is not None:
        return op.shape(*[b.shape for b in operands], **params), _result_dtype(op, operands, params)
    blank = [
        b.params["value"] if b.dtype is None else np.broadcast_to(np.zeros((), b.dtype), b.shape) for b in operands
    ]
    result = op.call(*blank, **params)
    return result.shape, result.dtype
