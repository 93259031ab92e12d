"""Special functions that NumPy has: sinc and the modified Bessel function i0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from koubai.graph.numpy.arguments import array, implements
from koubai.graph.ops import ANY, Op, add_row, apply

__all__: list[str] = []


@implements(np.sinc)
def sinc(x: Any) -> Any:
    t = math.pi * array(x)
    # the Taylor series if the quotient would be 0/0: its derivatives are right at 0 too
    near = np.absolute(t) < 1e-3
    safe = np.where(near, 1.0, t)
    return np.where(near, 1.0 - t * t / 6.0 + t**4 / 120.0, np.sin(safe) / safe)


# --- Bessel function
def _bessel_i(x: Any, *, order: int) -> Any:
    """I_n(x) = (1/π) ∫ exp(x cos θ) cos nθ dθ by the trapezoidal rule, which converges geometrically here."""
    if order == 0:
        return np.i0(x).astype(x.dtype)[()]
    count = 32 + 2 * math.ceil(float(np.max(np.abs(x), initial=0.0)))
    theta = (np.arange(count) + 0.5) * (math.pi / count)
    even_or_odd = np.sinh if order % 2 else np.cosh
    values = even_or_odd(np.multiply.outer(x, np.cos(theta))) * np.cos(order * theta)
    return np.mean(values, axis=-1, dtype=np.float64).astype(x.dtype)


def _bessel_i_vjp(g: Any, y: Any, x: Any, *, order: int) -> Any:
    above = apply("bessel_i", x, order=order + 1)
    if order == 0:
        return g * above
    return g * (0.5 * (apply("bessel_i", x, order=order - 1) + above))


def _bessel_i_code(y: str, args: Sequence[str], params: dict[str, Any]) -> str:
    n = params["order"]
    if n == 0:
        return f"{y} = np.i0({args[0]})"
    theta = "(np.arange(256) + 0.5) * (np.pi / 256)"
    return f"{y} = np.mean(np.exp(np.multiply.outer({args[0]}, np.cos({theta}))) * np.cos({n} * {theta}), axis=-1)"


add_row(
    Op(
        "bessel_i",
        _bessel_i,
        (_bessel_i_vjp,),
        elementwise=True,
        code=_bessel_i_code,
        domain=(ANY,),
        examples=((((3,),), {"order": 0}), (((2, 3),), {"order": 1}), (((),), {"order": 2})),
    )
)


@implements(np.i0)
def i0(x: Any) -> Any:
    return apply("bessel_i", array(x), order=0)
