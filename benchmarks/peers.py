"""The descents that koubai's are measured beside, written as well as each peer allows. Frameworks are imported late:
a process that measures cold starts pays for its own alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

MAX_STEPS = 1000
GTOL = 1e-12  # asked at every step, met by none of the 1000: all contenders make every step


def quad(x: Any) -> Any:
    return (x[0] - 1) ** 2 + (x[1] - 2) ** 2


def rosenbrock(x: Any) -> Any:
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def himmelblau(x: Any) -> Any:
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


def other(x: Any) -> Any:
    """A function that is none of those measured, to set a framework up with."""
    return (x[0] + x[1]) ** 4 + x[0] ** 2 * (x[1] + 3) ** 2


# With what to start, and an lr with which no step of 1000, nor of 90,000, leaves x as it was.
STARTS = {"quad": (-3.0, 4.0), "rosenbrock": (-1.2, 1.0), "other": (0.5, 1.0)}
RATES = {"quad": 2e-5, "rosenbrock": 2e-4, "other": 1e-3}
FUNCTIONS = {"quad": quad, "rosenbrock": rosenbrock, "other": other}


# -- JAX -------------------------------------------------------------------------------------------------------------


def jax_descent(name: str, max_steps: int = MAX_STEPS) -> Callable[[Any], Any]:
    """Return a fresh compiled descent: a fori_loop, without history or stopping test. The answer is awaited."""
    import jax

    f, lr = FUNCTIONS[name], RATES[name]

    def fresh(x):
        return f(x)

    def descend(x):
        return jax.lax.fori_loop(0, max_steps, lambda _, x: x - lr * jax.grad(fresh)(x), x)

    compiled = jax.jit(descend)
    return lambda x: compiled(x).block_until_ready()


# -- numba -----------------------------------------------------------------------------------------------------------


def quad_by_hand(x, y):
    a, b = x - 1, y - 2
    return a * a + b * b, 2 * a, 2 * b


def rosenbrock_by_hand(x, y):
    r, s = y - x * x, 1 - x
    return 100 * r * r + s * s, -400 * r * x - 2 * s, 200 * r


def other_by_hand(x, y):
    a, b = x + y, y + 3
    c = 4 * a * a * a
    return a * a * a * a + x * x * b * b, c + 2 * x * b * b, c + 2 * x * x * b


BY_HAND = {"quad": quad_by_hand, "rosenbrock": rosenbrock_by_hand, "other": other_by_hand}


def numba_descent(name: str) -> Callable[..., Any]:
    """Return a fresh descent with its state in registers, a history and a stopping test: call it as (x0, lr, max_steps,
    gtol). It compiles at the first call.
    """
    import numba

    value_and_gradient = numba.njit(inline="always")(BY_HAND[name])

    @numba.njit
    def descend(x0, lr, max_steps, gtol):
        path, values, norms = np.empty((max_steps + 1, 2)), np.empty(max_steps + 1), np.empty(max_steps + 1)
        x, y = x0[0], x0[1]
        t = 0
        while True:
            value, gx, gy = value_and_gradient(x, y)
            norm = max(abs(gx), abs(gy))
            path[t, 0], path[t, 1], values[t], norms[t] = x, y, value, norm
            if norm <= gtol or not math.isfinite(value) or not math.isfinite(norm) or t == max_steps:
                return path[: t + 1], values[: t + 1], norms[: t + 1]
            x, y = x - lr * gx, y - lr * gy
            t += 1

    return descend
