"""Arguments as NumPy's functions take them: nested lists, axes, ``dtype=`` and ``out=``; and how to add a function.

How to add one: write a function with NumPy's own signature, in terms of operators, of functions already in the table
and of ``apply("primitive", …)``, under ``@implements(np.name)``, in the file of its family. It may be called on traced
and on plain arrays alike, but at least one argument is traced. An argument that can't be honoured raises through
`refuse`. Its derivative follows from the primitives'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from koubai.graph.ops import apply
from koubai.graph.traced import FUNCTIONS, Traced, overwrite
from koubai.graph.user_code import untraceable

__all__ = ["array", "axes_of", "finish", "holds_traced", "implements", "normalized_axis", "refuse", "same_dtype"]


F = TypeVar("F", bound=Callable[..., Any])


def implements(*functions: Any) -> Callable[[F], F]:
    """Enter the decorated function into the table under each of ``functions``."""

    def enter(function: F) -> F:
        for name in functions:
            FUNCTIONS[name] = function
        return function

    return enter


def refuse(function: str, argument: str, value: Any) -> None:
    raise untraceable(f"np.{function} with {argument}={value!r} can't be traced", f"leave {argument} out")


def array(x: Any) -> Any:
    """Return ``x`` as a traced or plain array; nested sequences with traced parts are stacked."""
    if type(x) is Traced or isinstance(x, np.ndarray | np.generic):
        return x
    if isinstance(x, list | tuple) and holds_traced(x):
        parts = [array(part) for part in x]
        dtype = np.result_type(*(part.dtype if hasattr(part, "dtype") else np.asarray(part).dtype for part in parts))
        parts = [part if part.dtype == dtype else part.astype(dtype) for part in (_typed(p, dtype) for p in parts)]
        return apply("stack", *parts, axis=0)
    return np.asarray(x)


def _typed(part: Any, dtype: Any) -> Any:
    return part if hasattr(part, "dtype") else np.asarray(part, dtype)[()]


def holds_traced(x: Any) -> bool:
    if isinstance(x, list | tuple):
        return any(holds_traced(part) for part in x)
    return type(x) is Traced


def normalized_axis(axis: int, ndim: int) -> int:
    axis = int(axis)
    if not -ndim <= axis < ndim:
        raise np.exceptions.AxisError(axis, ndim)
    return axis % ndim


def axes_of(axis: Any, ndim: int) -> tuple[int, ...] | None:
    if axis is None:
        return None
    if type(axis) is int:
        return (normalized_axis(axis, ndim),)
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    result = tuple(sorted(normalized_axis(a, ndim) for a in axes))
    if len(set(result)) != len(result):
        raise ValueError("duplicate value in 'axis'")
    return result if ndim else None


def finish(y: Any, dtype: Any, out: Any) -> Any:
    """Honour ``dtype=`` and ``out=`` of a NumPy call whose result is ``y``."""
    if dtype is not None:
        y = y.astype(np.dtype(dtype))
    if out is None:
        return y
    if isinstance(out, tuple):
        (out,) = out
    if type(out) is not Traced:
        raise untraceable(
            "out= is an array made outside the function", "make it inside with np.empty, or leave out= out"
        )
    return overwrite(out, y)


FUNCTIONS["array"] = array


def same_dtype(arrays: Sequence[Any], dtype: Any = None) -> list[Any]:
    """Return the arrays in one dtype: their common one, unless another is given."""
    parts = [array(a) for a in arrays]
    common = np.result_type(*(part.dtype for part in parts)) if dtype is None else np.dtype(dtype)
    return [part if part.dtype == common else part.astype(common) for part in parts]
