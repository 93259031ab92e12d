"""Every update rule, as its textbook formula. Imports NumPy only.

A rule is a pure function ``rule(x, g, state, t, *, lr, …) -> (x, state)``: x and g are arrays of one shape, state is a
tuple of arrays of that shape (zeros at the start), t = 1, 2, … counts the updates, and every hyperparameter is an
argument, so that a schedule or a search changes it with nothing rebuilt. Adding a rule is writing one function here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["INTERVALS", "RULES", "Rule", "rule", "sgd"]

# Where each hyperparameter may lie: (low, high, low allowed, high allowed). A name means the same in every rule.
INTERVALS: dict[str, tuple[float, float, bool, bool]] = {
    "lr": (0.0, np.inf, False, False),
    "momentum": (0.0, 1.0, True, False),
    "dampening": (0.0, 1.0, True, True),
    "weight_decay": (0.0, np.inf, True, False),
}


@dataclass(frozen=True)
class Rule:
    """One update rule: its formula, the names of its state arrays, and its hyperparameters with their defaults."""

    name: str
    formula: Callable[..., Any]
    state: tuple[str, ...]
    defaults: dict[str, Any] = field(hash=False)
    # The largest lr × curvature at which the rule is stable on a quadratic; None where no such number is known.
    stability: Callable[..., float] | None = None

    def __call__(self, x: Any, g: Any, state: tuple[Any, ...], t: Any, **hyper: Any) -> tuple[Any, tuple[Any, ...]]:
        return self.formula(x, g, state, t, **hyper)  # type: ignore[no-any-return]


RULES: dict[str, Rule] = {}


def rule(
    state: tuple[str, ...] = (), stability: Callable[..., float] | None = None
) -> Callable[[Callable[..., Any]], Rule]:
    """Register the decorated formula as a Rule. Its keyword-only arguments are the hyperparameters."""

    def register(formula: Callable[..., Any]) -> Rule:
        parameters = inspect.signature(formula).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        name = formula.__name__
        RULES[name] = Rule(name, formula, state, defaults, stability)
        return RULES[name]

    return register


def _sgd_stability(momentum: float, nesterov: bool, dampening: float, **_: Any) -> float:
    # Both roots of z² − (1 + μ − λ(1−τ)) z + μ stay inside the unit circle (Nesterov: z² − (1+μ)(1 − λ) z + μ(1 − λ)).
    if momentum == 0:
        return 2.0
    if nesterov:
        return 2 * (1 + momentum) / (1 + 2 * momentum)
    return 2 * (1 + momentum) / (1 - dampening) if dampening < 1 else np.inf


@rule(state=("b",), stability=_sgd_stability)
def sgd(
    x: Any,
    g: Any,
    state: tuple[Any],
    t: Any,
    *,
    lr: Any = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> tuple[Any, tuple[Any]]:
    """Gradient descent, with momentum where it is asked for.

        g = g + weight_decay * x
        b = momentum * b + (1 - dampening) * g        (b = g at t = 1)
        x = x - lr * b                                (nesterov: x - lr * (g + momentum * b))

    x, g, b: the same shape. momentum in [0, 1), dampening in [0, 1], weight_decay ≥ 0.
    lr stands outside b, as in PyTorch; Keras keeps lr inside it, so that a schedule acts differently there.

    Polyak, "Some methods of speeding up the convergence of iteration methods", USSR Comput. Math. Math. Phys. 1964;
    Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013.
    """
    (b,) = state
    if weight_decay != 0:
        g = g + weight_decay * x
    if momentum == 0:
        return x - lr * g, (b,)
    b = np.where(t == 1, g, momentum * b + (1 - dampening) * g)
    return x - lr * (g + momentum * b if nesterov else b), (b,)
