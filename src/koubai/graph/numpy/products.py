"""Products of vectors and matrices, and the parts of a matrix: diagonals and triangles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from koubai.graph.numpy.arguments import array, finish, implements, normalized_axis, refuse, same_dtype
from koubai.graph.numpy.indexing import take
from koubai.graph.numpy.joining import stack
from koubai.graph.numpy.shapes import moveaxis, transpose
from koubai.graph.numpy.ufuncs import conjugated
from koubai.graph.ops import Index, apply
from koubai.graph.traced import Traced
from koubai.graph.user_code import untraceable

__all__ = ["cross", "diagonal", "outer", "tensordot", "tril", "triu"]


@implements(np.vecdot)
def vecdot(a: Any, b: Any) -> Any:
    return np.sum(conjugated(array(a)) * array(b), axis=-1)


@implements(np.dot)
def dot(a: Any, b: Any, out: Any = None) -> Any:
    a, b = array(a), array(b)
    if a.ndim == 0 or b.ndim == 0:
        return finish(a * b, None, out)
    if b.ndim == 1 or (a.ndim <= 2 and b.ndim == 2):
        return finish(np.matmul(a, b), None, out)
    return finish(tensordot(a, b, ((a.ndim - 1,), (b.ndim - 2,))), None, out)


@implements(np.vdot)
def vdot(a: Any, b: Any) -> Any:
    return dot(conjugated(array(a)).ravel(), array(b).ravel())


@implements(np.inner)
def inner(a: Any, b: Any) -> Any:
    a, b = array(a), array(b)
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    return tensordot(a, b, ((a.ndim - 1,), (b.ndim - 1,)))


@implements(np.outer)
def outer(a: Any, b: Any, out: Any = None) -> Any:
    return finish(array(a).ravel()[:, None] * array(b).ravel()[None, :], None, out)


@implements(np.tensordot)
def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    a, b = array(a), array(b)
    if isinstance(axes, int | np.integer):
        mine: Any = tuple(range(a.ndim - int(axes), a.ndim))
        yours: Any = tuple(range(int(axes)))
    else:
        mine, yours = (tuple(v) if isinstance(v, tuple | list) else (int(v),) for v in axes)
    mine = tuple(normalized_axis(i, a.ndim) for i in mine)
    yours = tuple(normalized_axis(i, b.ndim) for i in yours)
    if [a.shape[i] for i in mine] != [b.shape[i] for i in yours]:
        raise ValueError("shape-mismatch for sum")
    rest_a = tuple(i for i in range(a.ndim) if i not in mine)
    rest_b = tuple(i for i in range(b.ndim) if i not in yours)
    common = math.prod(a.shape[i] for i in mine)
    rows = transpose(a, (*rest_a, *mine)).reshape((math.prod(a.shape[i] for i in rest_a), common))
    columns = transpose(b, (*yours, *rest_b)).reshape((common, math.prod(b.shape[i] for i in rest_b)))
    return np.matmul(rows, columns).reshape((*(a.shape[i] for i in rest_a), *(b.shape[i] for i in rest_b)))


@implements(np.einsum)
def einsum(
    subscripts: Any, *operands: Any, out: Any = None, dtype: Any = None, optimize: Any = False, **kwargs: Any
) -> Any:
    if not isinstance(subscripts, str):
        subscripts, operands = _from_lists((subscripts, *operands))
    for name, value in kwargs.items():
        if name not in ("order", "casting") or value not in ("K", "C", "A", "safe", "same_kind"):
            refuse("einsum", name, value)
    arrays = same_dtype(operands, dtype)
    text = subscripts.replace(" ", "")
    left, arrow, result = text.partition("->")
    terms = left.split(",")
    if "..." in text:
        free = [c for c in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if c not in text]
        widths = [a.ndim - len(t.replace("...", "")) for t, a in zip(terms, arrays, strict=True)]
        most = max(w for t, w in zip(terms, widths, strict=True) if "..." in t)
        spread = "".join(free[:most])
        terms = [t.replace("...", spread[most - w :]) for t, w in zip(terms, widths, strict=True)]
        result = result.replace("...", spread)
    else:
        spread = ""
    if not arrow:
        every = "".join(terms)
        result = spread + "".join(c for c in sorted(set(every)) if every.count(c) == 1 and c not in spread)
    return finish(apply("einsum", *arrays, subscripts=f"{','.join(terms)}->{result}"), None, out)


def _from_lists(operands: Sequence[Any]) -> tuple[str, tuple[Any, ...]]:
    """Return the text and the operands of ``np.einsum(a, [0, 1], b, [1, 2], [0, 2])``."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

    def text(labels: Any) -> str:
        return "".join("..." if label is Ellipsis else letters[label] for label in labels)

    pairs = list(zip(operands[0::2], operands[1::2], strict=False))
    result = f"->{text(operands[-1])}" if len(operands) % 2 else ""
    return ",".join(text(labels) for _, labels in pairs) + result, tuple(a for a, _ in pairs)


@implements(np.kron)
def kron(a: Any, b: Any) -> Any:
    a, b = array(a), array(b)
    width = max(a.ndim, b.ndim)
    a = a.reshape((1,) * (width - a.ndim) + a.shape)
    b = b.reshape((1,) * (width - b.ndim) + b.shape)
    product = a.reshape(tuple(n for s in a.shape for n in (s, 1))) * b.reshape(
        tuple(n for s in b.shape for n in (1, s))
    )
    return product.reshape(tuple(m * n for m, n in zip(a.shape, b.shape, strict=True)))


@implements(np.cross)
def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Any:
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = moveaxis(array(a), axisa, -1), moveaxis(array(b), axisb, -1)
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        refuse("cross", "vectors", "of other than 3 components")
    a0, a1, a2 = (a[..., i] for i in range(3))
    b0, b1, b2 = (b[..., i] for i in range(3))
    return moveaxis(stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], -1), -1, axisc)


@implements(np.diagonal)
def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    x = moveaxis(a, (axis1, axis2), (-2, -1))
    rows = np.arange(max(0, -offset), max(min(x.shape[-2], x.shape[-1] - offset), max(0, -offset)))
    return x[..., rows, rows + offset]


@implements(np.trace)
def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> Any:
    return finish(np.sum(diagonal(a, offset, axis1, axis2), axis=-1), dtype, out)


@implements(np.diag)
def diag(v: Any, k: int = 0) -> Any:
    v = array(v)
    if v.ndim == 2:
        return diagonal(v, k)
    if v.ndim != 1:
        raise ValueError("Input must be 1- or 2-d.")
    rows = np.arange(v.shape[0]) + max(0, -k)
    n = v.shape[0] + abs(k)
    y = np.zeros((n, n), v.dtype)
    return apply("setitem", y, v, rows, rows + k, index=Index((Index.HOLE, Index.HOLE)))


implements(np.diagflat)(lambda v, k=0: diag(array(v).ravel(), k))


@implements(np.tril)
def tril(m: Any, k: int = 0) -> Any:
    return np.where(np.tri(m.shape[-2], m.shape[-1], k=k, dtype=np.bool_), m, 0.0)


@implements(np.triu)
def triu(m: Any, k: int = 0) -> Any:
    return np.where(np.tri(m.shape[-2], m.shape[-1], k=k - 1, dtype=np.bool_), 0.0, m)


@implements(np.fill_diagonal)
def fill_diagonal(a: Any, val: Any, wrap: bool = False) -> None:
    if type(a) is not Traced:
        raise untraceable("np.fill_diagonal writes into an array made elsewhere", "make it inside the function")
    if a.ndim < 2:
        raise ValueError("array must be at least 2-d")
    if a.ndim > 2 and len(set(a.shape)) > 1:
        raise ValueError("All dimensions of input must be of equal length")
    if wrap and a.shape[0] > a.shape[1] + 1:
        refuse("fill_diagonal", "wrap", wrap)
    rows = np.arange(min(a.shape))
    v = array(val).ravel() if np.ndim(val) else val
    a[(rows,) * a.ndim] = take(v, rows % v.shape[0]) if np.ndim(val) else v
