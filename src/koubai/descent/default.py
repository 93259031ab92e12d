"""The optimizer of a descent that names none: a fixed rule that depends on the function and the arguments alone.

    mini-batches                                                  Adam, at its own rate (0.001)
    lr= alone                                                     SGD at this rate, as in the articles
    f's graph is a sum of squares, of no more than 100 parameters
    and at least as many residuals, and gives the gradient, and
    one graph serves at many points                               LevenbergMarquardt
    otherwise                                                     LBFGS

No other optimizer is as good a guess for a smooth function of which nothing is known (Nocedal & Wright, "Numerical
optimization", 2006, chapters 7 and 10). With fewer residuals than parameters, the lines that Levenberg and Marquardt
put in their place leave the way open. 100 parameters are where 100 forward passes for a Jacobian are still cheap.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from numbers import Real
from typing import Any

from koubai.derivatives.paths import Path
from koubai.derivatives.residuals import count
from koubai.descent.objective import Objective
from koubai.descent.optimizers import AUTO_RATE, LBFGS, SGD, Adam, LevenbergMarquardt, Optimizer, Rate, resolve
from koubai.descent.stopping import Point
from koubai.errors import GradientError, InputError, TraceError
from koubai.graph.tracer import seldom_collected

__all__ = ["AUTO", "choose", "found_for_descent", "found_for_training", "named", "remade", "with_rate"]

AUTO = "auto"

LARGEST = 100  # parameters


def named(optimizer: Any, lr: Rate | None, stochastic: bool) -> tuple[Optimizer | None, str]:
    """Return the optimizer that the arguments name, and why it is the one; None: f has to be known first.

    Raises InputError if it is not an optimizer, or lr is given twice.
    """
    if lr is None and isinstance(optimizer, Optimizer):
        return optimizer, "given"
    is_name = isinstance(optimizer, str)
    if not is_name and isinstance(optimizer, tuple | list | Real):  # SciPy's third argument is args, others' the rate
        fix = f"lr={optimizer!r}" if isinstance(optimizer, Real) else "args=(…), what f takes after x"
        raise InputError(
            f"optimizer must be an optimizer object or a name such as 'sgd', got {optimizer!r}; write {fix}"
        )
    if lr is not None:
        if isinstance(optimizer, Optimizer):
            raise InputError(
                f"the rate is the optimizer's: write {type(optimizer).__name__}(lr={lr!r}), and leave lr out"
            )
        if is_name and optimizer.lower() == AUTO:
            return SGD(lr), "lr alone means plain gradient descent"
        return resolve(optimizer, lr=lr), "given"
    if not is_name or optimizer.lower() != AUTO:
        return resolve(optimizer), "given"
    return (Adam(), "there are mini-batches") if stochastic else (None, "")


def found_for_descent(optimizer: Optimizer, why: str, f: Any, x0: Any, **options: Any) -> tuple[Optimizer, str]:
    """Return the optimizer, and why it is the one, with the rate that is found if its lr is "auto".

    f, x0, options: as `koubai.search.learning_rate.for_descent` takes them.
    """
    return _found(optimizer, why, lambda search: search.for_descent(f, x0, optimizer, **options))


def found_for_training(optimizer: Optimizer, why: str, model: Any, source: Any, *more: Any) -> tuple[Optimizer, str]:
    """Return the optimizer, and why it is the one, with the rate that is found if its lr is "auto"."""
    return _found(optimizer, why, lambda search: search.for_training(model, source, optimizer, *more))


def _found(optimizer: Optimizer, why: str, find: Callable[[Any], Any]) -> tuple[Optimizer, str]:
    if optimizer.lr != AUTO_RATE:
        return optimizer, why
    from koubai.search import learning_rate

    try:
        found = find(learning_rate)
    except learning_rate.NoRateError as problem:  # the descent itself shows that x0 is a minimum, say
        own = remade(optimizer, None)
        return own, f"{why}; its own lr {own.lr}, since none was found: {problem}"
    return found.optimizer, f"{why}; {found}"


def choose(objective: Objective, point: Point) -> tuple[Optimizer, str]:
    """Return the optimizer for a descent without mini-batches from ``point``, and why it is the one."""
    n = point.x.size
    if objective.program is None:
        return LBFGS(), f"f was not traced, its gradient comes from {objective.source}"
    if n > LARGEST:
        return LBFGS(), f"f has {n} parameters, more than {LARGEST}"
    path = objective.path(point.x)
    if path is None:
        kind, why = _by_squares(objective, point, None)
        return kind(), why
    if (reason := path.recorded.environment.unwatched) is not None:
        return LBFGS(), f"f is traced again at each point: {reason}"
    found = path.specializations.get(choose)
    if found is None or found[0] is not path.checked:  # else an earlier descent has chosen for the same numbers
        with seldom_collected:
            kind, why = _by_squares(objective, point, path)
        found = path.specializations[choose] = path.checked, kind, why
    return found[1](), found[2]


def _by_squares(objective: Objective, point: Point, path: Path | None) -> tuple[type[Optimizer], str]:
    """Return the kind of optimizer that follows from whether f is a sum of squares on this path, and why."""
    n = point.x.size
    try:
        if path is not None and (m := count(path)) < n:
            return LBFGS, f"f is a sum of {m} squares, fewer than its {n} parameters"
        m = len(objective.residuals(point)[0])
    except TraceError as error:
        return LBFGS, error.reason
    except (InputError, GradientError) as error:
        return LBFGS, str(error)
    return LevenbergMarquardt, f"f is a sum of {m} squares in {n} parameter{'s' * (n != 1)}"


def with_rate(optimizer: Optimizer, lr: Rate) -> Optimizer:
    """Return a copy of an optimizer with another rate."""
    twin = copy.copy(optimizer)
    twin.lr = lr
    return twin


def remade(optimizer: Optimizer, lr: Rate | None, **changes: Any) -> Optimizer:
    """Return a new optimizer of the same kind with this rate, None for its own, and these hyperparameters changed."""
    return type(optimizer)(lr, semantics=optimizer.semantics, **{**optimizer.hyperparameters, **changes})
