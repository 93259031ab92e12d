"""Zeros that are zero whatever the numbers are: they stay zero where a local derivative is infinite or undefined.

In ``np.where(x > 0, x * np.log(x), 0)`` nothing depends on log(0), though the logarithm is taken there too: its
cotangent is 0, its derivative ∞, and 0 · ∞ is NaN. Such a zero is known without a number: the mask, the index or the
constant factor makes it, here and nearby. A cotangent is *live* where it may be anything else. A zero that only the
numbers make, as that of ``np.sqrt(x) ** 2`` at 0, is live: there the product is undefined indeed (it is 1).

Every function works on plain and on traced arrays, as the rules of the primitives do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from koubai.graph.ops import Op, apply, expand, unbroadcast

__all__ = ["live_after_unbroadcast", "live_seed", "part_of"]

# what only moves a cotangent about, or adds some of it up: its rule shows where the live ones go
_MOVES = (
    *("getitem", "setitem", "add_at", "reshape", "transpose", "broadcast_to", "concatenate", "stack", "sum", "cumsum"),
    *("sliding_window_view", "overlap_add"),
    *("astype", "real", "imag", "conjugate", "add", "subtract", "negative", "positive"),
)
_CHOICES = {"maximum": (0, 1), "fmax": (0, 1), "minimum": (1, 0), "fmin": (1, 0)}
# operands that do not count if the other one is a constant 0
_FACTORS = {"multiply": (0, 1), "power": (0,), **dict.fromkeys(("special.xlogy", "special.xlog1py"), (1,))}
_PRODUCTS = ("matmul", "einsum")
_REDUCED = ("prod", "norm", "logsumexp", "max", "min")
_RUNNING = ("cumprod", "recurrence")  # along an axis
_DECOMPOSED = ("eigh", "linalg.eigh", "svd")  # whose rules take the live cotangents themselves
_MATRICES = (
    *("inv", "solve", "inverse_or_nan", "det", "cofactors", "logabsdet", "cholesky", "eigvalsh", "svdvals", "pinv"),
    *("qr", "eigenvalues", "singular_values", *_DECOMPOSED),
)


def live_seed(g: Any) -> Any:
    """Return where a cotangent that the caller gives is live: who knows its zeros."""
    return g != 0


def live_after_unbroadcast(live: Any, shape: tuple[int, ...]) -> Any:
    """Return where a sum over the axes of broadcasting is live: where anything that it adds is."""
    return live if live is None or live.shape == shape else unbroadcast(_weights(live), shape) != 0


def part_of(
    op: Op, k: int, g: Any, live: Any, y: Any, operands: Sequence[Any], params: dict[str, Any], varies: Sequence[bool]
) -> tuple[Any, Any]:
    """Return the cotangent of operand ``k`` by the rule of ``op``, exactly zero where it is not live, and where it is.

    g: the cotangent of the result y, broadcast to its shape; live: where g is live, None for everywhere.
    varies: which operands depend on what is differentiated; the others are constant.
    An elementwise rule's part has the broadcast shape still.
    """
    rule: Any = op.rule(k)
    if op.name in _DECOMPOSED and live is not None:
        part = rule(g, y, *operands, live=live, **params)
    elif op.name in _PRODUCTS and live is not None:
        part = _product(rule, k, g, live, y, operands, params)
    else:
        part = rule(g, y, *operands, **params)
    live = _live(op, rule, k, live, y, operands, params, varies)
    if live is not None and op.name not in _MOVES:
        part = np.where(live, part, 0.0)
    return part, live


def _weights(live: Any) -> Any:
    return live.astype(np.float64)


def _both(live: Any, condition: Any, shape: tuple[int, ...]) -> Any:
    condition = _broadcast(_array(condition), shape)
    return condition if live is None else np.logical_and(live, condition)


def _live(
    op: Op,
    rule: Any,
    k: int,
    live: Any,
    y: Any,
    operands: Sequence[Any],
    params: dict[str, Any],
    varies: Sequence[bool],
) -> Any:
    """Return where the cotangent of operand ``k`` is live."""
    name, shape = op.name, np.shape(y)
    if op.elementwise:
        condition = _condition(name, k, y, operands, varies)
        return live if condition is None else _both(live, condition, shape)
    if name in ("getitem", "setitem") and live is None:
        live = np.ones(shape, np.bool_)
    if name in ("max", "min"):
        x = operands[0]
        hit = x == expand(y, x.shape, params["axis"], params["keepdims"])
        return hit if live is None else np.logical_and(expand(live, x.shape, params["axis"], params["keepdims"]), hit)
    if live is None:
        return None
    target = np.shape(operands[k])
    if name in _MOVES:
        return _broadcast(rule(_weights(live), y, *operands, **params), target) != 0
    if name in _REDUCED:
        return _broadcast(expand(live, target, params["axis"], params["keepdims"]), target)
    if name in _RUNNING:
        axis = params.get("axis", 0)
        back = (slice(None),) * axis + (slice(None, None, -1),)
        return apply("cumsum", _weights(live)[back], axis=axis)[back] != 0
    if name in _PRODUCTS:
        # a factor that varies may be zero here and not nearby
        factors = [
            np.ones(v.shape) if i == k or varies[i] else _weights(_array(v) != 0) for i, v in enumerate(operands)
        ]
        return rule(_weights(live), y, *factors, **params) != 0
    if name in _MATRICES and np.shape(y)[: len(target) - 2] == target[:-2]:  # each matrix of a stack by itself
        lead = target[:-2]
        return _broadcast(np.any(live.reshape((*lead, -1)), axis=-1).reshape((*lead, 1, 1)), target)
    return _broadcast(np.any(live), target)


def _broadcast(v: Any, shape: tuple[int, ...]) -> Any:
    return v if np.shape(v) == shape else np.broadcast_to(v, shape)


def _array(v: Any) -> Any:
    return v if hasattr(v, "dtype") else np.asarray(v)


def _condition(name: str, k: int, y: Any, operands: Sequence[Any], varies: Sequence[bool]) -> Any:
    """Return where an elementwise rule may pass anything on to operand ``k``; None: everywhere."""
    if name == "where":
        return operands[0] if k == 1 else np.logical_not(operands[0])
    if name in _CHOICES:
        a, b = (operands[i] for i in _CHOICES[name])
        return _outweighs(name, *((a, b) if k == 0 else (b, a)))
    if name == "heaviside":
        return operands[0] == 0
    if name == "relu":
        return y > 0
    if k in _FACTORS.get(name, ()):
        other = operands[1 - k]
        if not varies[1 - k] and (hasattr(other, "dtype") or other == 0):
            return _array(other) != 0
    return None


def _outweighs(name: str, a: Any, b: Any) -> Any:
    weight = apply("share", a, b) != 0
    return np.logical_or(weight, np.isnan(b)) if name in ("fmax", "fmin") else weight


def _product(rule: Any, k: int, g: Any, live: Any, y: Any, operands: Sequence[Any], params: dict[str, Any]) -> Any:
    """Return the part of a product of matrices, in which a dead cotangent also meets inf and NaN of the other one."""
    clean = [v if i == k else np.where(np.isfinite(v), v, 0.0) for i, v in enumerate(operands)]
    poisoned: Any = False
    for j, other in enumerate(operands):
        if j != k:
            bad = [np.ones(v.shape) if i != j else _weights(np.logical_not(np.isfinite(other))) for i, v in
                   enumerate(operands)]  # fmt: skip
            poisoned = np.logical_or(poisoned, rule(_weights(live), y, *bad, **params) != 0)
    return np.where(poisoned, rule(g, y, *operands, **params), rule(g, y, *clean, **params))
