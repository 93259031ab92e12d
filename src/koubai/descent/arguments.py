"""The arguments of `koubai.minimize`, checked before the first evaluation."""

from __future__ import annotations

from typing import Any, Literal

from koubai.derivatives.differences import METHODS
from koubai.descent.batch_iterator import BatchIterator
from koubai.descent.checkpoint import Checkpoint
from koubai.descent.default import found_for_descent, named
from koubai.descent.descent import Descent
from koubai.descent.objective import Bounds, Function, Gradient, Objective
from koubai.descent.optimizers import LBFGS, Optimizer, Rate
from koubai.descent.record import FEW_STEPS, Recorder
from koubai.descent.steppers import PythonStepper
from koubai.descent.stopping import Stopping
from koubai.errors import InputError, UnknownNameError
from koubai.parameters import Parameters, flatten, plain

__all__ = ["prepared"]

_PLAIN = {int, float, type(None)}
_ANY = LBFGS()


def prepared(
    f: Function,
    x0: Parameters,
    optimizer: Optimizer | str,
    *,
    lr: Rate | None,
    args: Any,
    grad: Gradient,
    bounds: Any,
    batches: Any,
    seed: int | None,
    record: Literal["auto", "all", "off"],
    checkpoint: Any,
    **stopping: Any,
) -> PythonStepper:
    """Return a stepper for the descent that the arguments of `minimize` describe, ready for its first evaluation."""
    if not callable(f):
        raise InputError(f"f must be a function of x, got {f!r}; for text use koubai.parse({f!r})")
    known = ("auto", "backprop", *METHODS)
    if not callable(grad) and grad is not True and not (isinstance(grad, str) and grad in known):
        raise UnknownNameError("gradient method", grad, known)
    args = args if isinstance(args, tuple) else (args,)
    layout, start = flatten(x0)
    chosen, why = named(optimizer, lr, stochastic=batches is not None)
    first = chosen or _ANY  # the one until f is known
    limits = Bounds.read(bounds, layout, start)
    iterator = BatchIterator.read(batches, args)
    if iterator is not None and chosen is not None and "residuals" in chosen.rule.uses:
        raise InputError(
            f"{type(chosen).__name__} takes all the data at once: leave batches out, or use optimizer='adam'"
        )
    if iterator is not None and (stopping["ftol"] is not None or stopping["xtol"] is not None):
        raise InputError("ftol and xtol say nothing of mini-batches, which differ anyway; use gtol or target")
    if chosen is not None and isinstance(chosen.lr, str):
        chosen, why = found_for_descent(
            chosen, why, f, x0, args=args, grad=grad, bounds=bounds, batches=batches, seed=seed,
            steps=stopping["max_steps"] if batches is not None else None,
        )  # fmt: skip
        first = chosen
    options = {
        "grad": "user" if callable(grad) or grad is True else grad,
        "bounds": None if limits is None else limits.pairs(),
        "record": record,
        **{name: value if type(value) in _PLAIN else plain(value) for name, value in stopping.items()},
    }
    rules = Stopping(layout, first, **stopping, free=None if limits is None else limits.free)
    steps = min(int(rules.max_steps), FEW_STEPS) if first.rule.searches else int(rules.max_steps)
    descent = Descent(
        Objective(f, grad, layout, limits, args),
        layout,
        start,
        first,
        rules,
        Recorder(layout, record, steps=steps),
        limits,
        iterator,
        plain(seed),
        options,
        Checkpoint.of(checkpoint),
        why,
        chosen is None,
    )
    return PythonStepper(descent)
