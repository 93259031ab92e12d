"""Initial weights: how far apart they start decides whether the signal survives the depth of a network.

An initializer is a function ``(rng, shape, fan_in, fan_out) → array``; fan_in counts the inputs that one output sums
over, fan_out the outputs that one input feeds. Layers take one, or the name of one of these.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from koubai.errors import InputError, UnknownNameError

__all__ = [
    "Initializer",
    "draw",
    "he",
    "he_uniform",
    "initializer",
    "normal",
    "orthogonal",
    "xavier",
    "xavier_normal",
    "zeros",
]

Shape: TypeAlias = tuple[int, ...]
Initializer: TypeAlias = Callable[[np.random.Generator, Shape, int, int], Any]


def zeros(rng: np.random.Generator, shape: Shape, fan_in: int, fan_out: int) -> Any:
    """Zeros: every unit of a layer starts equal, and so stays equal to the others; right for biases only."""
    return np.zeros(shape)


def normal(rng: np.random.Generator, shape: Shape, fan_in: int, fan_out: int, *, std: float = 0.01) -> Any:
    """Normal: W ~ N(0, std²), for any size of the layer; ``functools.partial(normal, std=0.1)`` for another."""
    return rng.normal(0.0, std, shape)


def xavier(rng: np.random.Generator, shape: Shape, fan_in: int, fan_out: int) -> Any:
    """Xavier (Glorot), uniform: W ~ U(−a, a), a = √(6 / (fan_in + fan_out)); for sigmoid and tanh.

    Glorot, Bengio, "Understanding the Difficulty of Training Deep Feedforward Neural Networks", AISTATS 2010.
    """
    a = math.sqrt(6.0 / (fan_in + fan_out))
    return rng.uniform(-a, a, shape)


def xavier_normal(rng: np.random.Generator, shape: Shape, fan_in: int, fan_out: int) -> Any:
    """Xavier (Glorot), normal: W ~ N(0, 2 / (fan_in + fan_out)); for sigmoid and tanh."""
    return rng.normal(0.0, math.sqrt(2.0 / (fan_in + fan_out)), shape)


def he(rng: np.random.Generator, shape: Shape, fan_in: int, fan_out: int) -> Any:
    """He, normal: W ~ N(0, 2 / fan_in); for ReLU, which lets half of the signal through.

    He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", ICCV 2015.
    """
    return rng.normal(0.0, math.sqrt(2.0 / fan_in), shape)


def he_uniform(rng: np.random.Generator, shape: Shape, fan_in: int, fan_out: int) -> Any:
    """He, uniform: W ~ U(−a, a), a = √(6 / fan_in); for ReLU."""
    a = math.sqrt(6.0 / fan_in)
    return rng.uniform(-a, a, shape)


def orthogonal(rng: np.random.Generator, shape: Shape, fan_in: int, fan_out: int) -> Any:
    """Orthogonal: W, as a matrix of shape[0] rows, has orthonormal rows or columns, whichever are fewer.

    Saxe, McClelland, Ganguli, "Exact Solutions to the Nonlinear Dynamics of Learning in Deep Linear Neural Networks",
    ICLR 2014.
    """
    rows, columns = shape[0], math.prod(shape[1:])
    q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diagonal(r))  # so that every rotation is as likely
    return (q if rows >= columns else q.T).reshape(shape)


_NAMED = {f.__name__: f for f in (zeros, normal, xavier, xavier_normal, he, he_uniform, orthogonal)}
_NAMED |= {"glorot": xavier, "glorot_normal": xavier_normal}


def initializer(init: str | Initializer) -> Initializer:
    """Return the initializer of that name, or ``init`` itself if it is one."""
    if isinstance(init, str):
        if init not in _NAMED:
            raise UnknownNameError("initializer", init, _NAMED)
        return _NAMED[init]
    if not callable(init):
        raise InputError(f"init must be a name ({', '.join(_NAMED)}) or a function, got {init!r}")
    return init


def draw(init: Initializer, rng: np.random.Generator | None, shape: Shape, fan_in: int, fan_out: int) -> Any:
    """Return initial weights, or, if rng is None, zeros that take no memory: only their shape is needed.

    Raises InputError if ``init``, somebody's own function, gives no such array.
    """
    if rng is None:
        return np.broadcast_to(0.0, shape)
    weights = np.asarray(init(rng, shape, fan_in, fan_out))
    if weights.shape != shape or weights.dtype.kind not in "fiu" or not np.isfinite(weights).all():
        raise InputError(
            f"init must return finite numbers of shape {shape}; {getattr(init, '__name__', init)} returned "
            f"{weights.dtype} of shape {weights.shape}"
        )
    return weights
