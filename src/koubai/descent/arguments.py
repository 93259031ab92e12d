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

_KNOWN = ("auto", "backprop", *METHODS)
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
    max_steps: int,
    gtol: float | None,
    ftol: float | None,
    xtol: float | None,
    target: float | None,
) -> PythonStepper:
    """Return a stepper for the descent that the arguments of `minimize` describe, ready for its first evaluation."""
    if not callable(f):
        raise InputError(f"f must be a function of x, got {f!r}; for text use koubai.parse({f!r})")
    is_own = grad is True or callable(grad)
    if not is_own and not (isinstance(grad, str) and grad in _KNOWN):
        raise UnknownNameError("gradient method", grad, _KNOWN)
    args = args if isinstance(args, tuple) else (args,)
    layout, start = flatten(x0)
    chosen, why = named(optimizer, lr, stochastic=batches is not None)
    limits = None if bounds is None else Bounds.read(bounds, layout, start)
    iterator = None if batches is None else BatchIterator.read(batches, args)
    if iterator is not None and chosen is not None and "residuals" in chosen.rule.uses:
        raise InputError(
            f"{type(chosen).__name__} takes all the data at once: leave batches out, or use optimizer='adam'"
        )
    if iterator is not None and (ftol is not None or xtol is not None):
        raise InputError("ftol and xtol say nothing of mini-batches, which differ anyway; use gtol or target")
    if chosen is not None and isinstance(chosen.lr, str):
        chosen, why = found_for_descent(
            chosen, why, f, x0, args=args, grad=grad, bounds=bounds, batches=batches, seed=seed,
            steps=max_steps if batches is not None else None,
        )  # fmt: skip
    first = _ANY if chosen is None else chosen  # the one until f is known
    rules = Stopping(layout, first, max_steps, gtol, ftol, xtol, target, free=None if limits is None else limits.free)
    options = {
        "grad": "user" if is_own else grad,
        "bounds": None if limits is None else limits.pairs(),
        "record": record,
        "max_steps": plain(max_steps), "gtol": plain(gtol), "ftol": plain(ftol), "xtol": plain(xtol),
        "target": plain(target),
    }  # fmt: skip
    steps = int(max_steps)
    return PythonStepper(
        Descent(
            Objective(f, grad, layout, limits, args),
            layout,
            start,
            first,
            rules,
            Recorder(layout, record, steps=FEW_STEPS if first.rule.searches and steps > FEW_STEPS else steps),
            limits,
            iterator,
            plain(seed),
            options,
            None if checkpoint is None else Checkpoint.of(checkpoint),
            why,
            chosen is None,
        )
    )
