"""The public optimizer objects, made from the rules: ``kb.SGD(lr=0.1, momentum=0.9)``."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar, TypeAlias

import numpy as np

from koubai.descent.rules import INTERVALS, RULES, Rule
from koubai.errors import InputError, UnknownNameError
from koubai.parameters import FloatArray

__all__ = ["SGD", "Optimizer", "names", "resolve"]

Rate: TypeAlias = float | Callable[[int], float]


class Optimizer:
    """An update rule with its hyperparameters. Holds no state of a descent: one object serves many runs at once.

    lr: a positive number, or a function of the step: lr(0) is the rate of the first update. The other hyperparameters
    are those of the rule, by keyword. Raises InputError for an unknown one or a value outside its range.
    """

    rule: ClassVar[Rule]

    def __init__(self, lr: Rate | None = None, **hyperparameters: Any) -> None:
        defaults = self.rule.defaults
        for name in hyperparameters:
            if name not in defaults:
                raise UnknownNameError(f"{type(self).__name__} hyperparameter", name, defaults)
        self.lr: Rate = defaults["lr"] if lr is None else lr
        if not callable(self.lr):
            _check("lr", self.lr, type(self).__name__)
        self.hyperparameters = {name: value for name, value in (defaults | hyperparameters).items() if name != "lr"}
        for name, value in self.hyperparameters.items():
            _check(name, value, type(self).__name__, like=defaults[name])

    def lr_at(self, t: int) -> float:
        """Return the rate of the update that follows step ``t`` = 0, 1, … Raises InputError if it is no rate."""
        if not callable(self.lr):
            return self.lr
        lr = self.lr(t)
        if not isinstance(lr, Real) or not (math.isfinite(lr) and lr >= 0):
            raise InputError(f"the learning rate schedule gave {lr!r} at step {t}; it must give a finite number ≥ 0")
        return float(lr)

    def init(self, x: FloatArray) -> tuple[FloatArray, ...]:
        """Return the state before the first update: zeros in the shape of ``x``."""
        return tuple(np.zeros_like(x) for _ in self.rule.state)

    def step(
        self, x: FloatArray, g: FloatArray, state: tuple[FloatArray, ...], t: int, lr: float
    ) -> tuple[FloatArray, tuple[FloatArray, ...]]:
        """Return the new x and state of update ``t`` = 1, 2, … Nothing passed in is changed."""
        return self.rule(x, g, state, t, lr=lr, **self.hyperparameters)

    def largest_stable_lr(self, curvature: float) -> float | None:
        """Return the lr above which the rule diverges on a quadratic of this largest curvature; None: not known."""
        if self.rule.stability is None or not curvature > 0:
            return None
        return self.rule.stability(**self.hyperparameters) / curvature

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Optimizer)
            and type(self) is type(other)
            and (self.lr, self.hyperparameters) == (other.lr, other.hyperparameters)
        )

    def __hash__(self) -> int:
        return hash((type(self), self.lr, *self.hyperparameters.items()))

    def __repr__(self) -> str:
        lr = getattr(self.lr, "__name__", self.lr) if callable(self.lr) else self.lr
        changed = [f"{k}={v!r}" for k, v in self.hyperparameters.items() if v != self.rule.defaults[k]]
        return f"{type(self).__name__}({', '.join([f'lr={lr}', *changed])})"


def _check(name: str, value: Any, owner: str, like: Any = 0.0) -> None:
    """Raise InputError unless ``value`` may stand for the hyperparameter ``name``."""
    if isinstance(like, bool):
        if not isinstance(value, bool | np.bool_):
            raise InputError(f"{owner}: {name} must be True or False, got {value!r}")
        return
    low, high, low_allowed, high_allowed = INTERVALS[name]
    if isinstance(value, bool) or not isinstance(value, Real) or math.isnan(value):
        raise InputError(f"{owner}: {name} must be a real number, got {value!r}")
    value = float(value)
    if not ((low < value or (low_allowed and value == low)) and (value < high or (high_allowed and value == high))):
        interval = f"{'[' if low_allowed else '('}{low:g}, {high:g}{']' if high_allowed else ')'}"
        raise InputError(f"{owner}: {name} must lie in {interval}, got {value!r}")


def _public(name: str, rule: Rule) -> type[Optimizer]:
    """Make the public class of a rule: the signature and the docstring are the rule's own."""
    cls = type(name, (Optimizer,), {"rule": rule, "__doc__": rule.formula.__doc__, "__module__": __name__})
    parameters = [
        inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD if n == "lr" else inspect.Parameter.KEYWORD_ONLY,
                          default=default)
        for n, default in rule.defaults.items()
    ]  # fmt: skip
    cls.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return cls


SGD = _public("SGD", RULES["sgd"])

_CLASSES = {cls.__name__.lower(): cls for cls in (SGD,)}


def names() -> tuple[str, ...]:
    """Return the names by which `minimize` and the command line know the optimizers."""
    return tuple(sorted(_CLASSES))


def resolve(optimizer: Any, **hyperparameters: Any) -> Optimizer:
    """Return ``optimizer`` itself, or make the one that a name stands for. Raises InputError for anything else."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, str):
        if optimizer.lower() not in _CLASSES:
            raise UnknownNameError("optimizer", optimizer, names())
        return _CLASSES[optimizer.lower()](**hyperparameters)
    if isinstance(optimizer, type) and issubclass(optimizer, Optimizer):
        raise InputError(f"optimizer must be an object: write {optimizer.__name__}(lr=…), not {optimizer.__name__}")
    raise InputError(f"optimizer must be an optimizer object or a name such as 'sgd', got {optimizer!r}")
