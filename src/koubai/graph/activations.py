"""The primitives of activations and of losses over classes, for which NumPy has no function of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from koubai.graph.ops import OPS, Interval, Op, Shape, add_row, apply

__all__: list[str] = []

_ANY: Interval = (-3.0, 3.0)


def _sigmoid(x: Any, out: Any = None) -> Any:
    """1 / (1 + exp(−x)). Where exp overflows, the quotient is 0, as it should be: nothing else to guard against."""
    y = np.exp(np.negative(x, out), out)
    return np.reciprocal(np.add(y, 1.0, out), out)


def _softplus(x: Any) -> Any:
    """log(1 + exp(x)), with the larger of 0 and x taken out so that nothing overflows."""
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.absolute(x)))


add_row(
    Op(
        "sigmoid",
        _sigmoid,
        (lambda g, y, x: g * (y * (1.0 - y)),),
        elementwise=True,
        out=True,
        code="1.0 / (1.0 + np.exp(-{0}))",
        scalar="1.0 / (1.0 + math.exp(-{0}))",
        domain=(_ANY,),
    )
)
add_row(
    Op(
        "softplus",
        _softplus,
        (lambda g, y, x: g * apply("sigmoid", x),),
        elementwise=True,
        code="np.maximum({0}, 0.0) + np.log1p(np.exp(-np.absolute({0})))",
        scalar="(max({0}, 0.0) + math.log1p(math.exp(-abs({0}))))",
        domain=(_ANY,),
    )
)


def _relu(x: Any, out: Any = None) -> Any:
    return np.maximum(x, 0.0, out=out)


add_row(
    Op(  # its derivative is 0 at 0, as JAX and PyTorch choose for relu; that of np.maximum(x, 0) is 1/2
        "relu",
        _relu,
        (lambda g, y, x: g * (y > 0.0),),
        elementwise=True,
        out=True,
        code="np.maximum({0}, 0.0)",
        scalar="(max({0}, 0.0) if {0} == {0} else {0})",
        domain=((0.2, 3.0),),
        kink=lambda x: np.any(x == 0),
    )
)


def _largest(x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    return OPS["max"].call(x, axis=axis, keepdims=keepdims)


def _largest_shape(x: Shape, *, axis: tuple[int, ...], keepdims: bool) -> Shape:
    rule: Any = OPS["max"].shape
    return rule(x, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]


add_row(
    Op(  # for shifts that the result does not depend on: no derivative runs through it
        "largest",
        _largest,
        shape=_largest_shape,
        code=OPS["max"].code,
    )
)
