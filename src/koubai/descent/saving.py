"""A descent to a checkpoint, and a checkpoint to a descent again."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from koubai.descent.batch_iterator import BatchIterator
from koubai.descent.checkpoint import STOPPING_STATE, Checkpoint, load_points, read
from koubai.descent.descent import Descent, RuleStepper
from koubai.descent.files import describe_function, describe_layout, describe_optimizer, restore_optimizer, version
from koubai.descent.objective import Bounds, Function, Objective
from koubai.descent.optimizers import Optimizer
from koubai.descent.record import Recorder, Status
from koubai.descent.steppers import PythonStepper
from koubai.descent.stopping import Point, Stopping, Verdict, shown
from koubai.errors import InputError, quiet
from koubai.parameters import plain

__all__ = ["restore_state", "restored", "save"]


def save(stepper: RuleStepper, last: bool = False) -> None:
    """Save a descent, if a checkpoint was asked for and there is already a point. last: the descent is over."""
    descent = stepper.descent
    if descent.checkpoint is None or not descent.recorder.count:
        return
    if descent.batches is not None and not descent.committed:
        return  # a batch was drawn that no step has used yet: the file stays as it is
    descent.checkpoint.write(stepper.KIND, descent.point.t, lambda: _written(stepper), last=last)


def _written(stepper: RuleStepper) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return everything that the next update depends on: a header in JSON's types, and arrays."""
    descent = stepper.descent
    stopping, recorder, objective = descent.stopping, descent.recorder, descent.objective
    points = {"start": stopping.start, "last": descent.point, "best": descent.best}
    with quiet():
        learned = {name: getattr(stopping, name) for name in STOPPING_STATE}
    header = {
        "layout": describe_layout(descent.layout),
        "optimizer": describe_optimizer(descent.optimizer),
        "optimizer_reason": descent.optimizer_reason,
        "function": describe_function(objective.f),
        "options": descent.options,
        "seed": descent.seed,
        "lr": descent.lr,
        "memory": descent.memory,
        "states": len(descent.state),
        "points": {
            name: [p.t, p.fun, p.grad_norm, p.error, list(map(int, p.below_rounding)), p.is_sample]
            for name, p in points.items()
        },
        "feed": None if descent.batches is None else descent.batches.position(),
        "stopping": learned,
        "stride": recorder.stride,
        "last_row": [recorder.last[0], *recorder.last[2:]] if recorder.last else None,
        "counts": [objective.nfev, objective.njev],
        "paid": objective.counted_graphs.digests(),
        "differences": objective.program is None and objective.grad == "auto",
        "looped": descent.compiled_steps > 0,
        "verdict": None if descent.verdict is None else [descent.verdict.status.name, descent.verdict.message],
    }
    arrays = {f"{name}.{part}": getattr(p, part) for name, p in points.items() for part in ("x", "g")}
    arrays |= {f"state.{i}": array for i, array in enumerate(descent.state)}
    arrays |= {f"rows.{name}": column for name, column in recorder.arrays().items()}
    if descent.bounds is not None:
        arrays |= {"bounds": np.stack([descent.bounds.low, descent.bounds.high])}
    if descent.batches is not None:
        arrays |= {"feed": np.asarray(descent.batches.sums.g)}
    more, more_arrays = stepper.written()
    return header | more, arrays | more_arrays


def restored(
    path: str | os.PathLike[str],
    f: Function,
    args: Any,
    grad: Function | bool | None,
    optimizer: Optimizer | None,
    batches: Any,
    max_steps: int | None,
) -> PythonStepper:
    """Return the steps of the descent that `save` wrote, ready for its next update."""
    archive = read(path, "checkpoint")
    header, arrays = archive.header, archive.arrays
    if archive.koubai != (here := version()):
        raise InputError(f"{str(path)!r} was written by koubai {archive.koubai}; this is {here}, start again")
    saved = header["optimizer"]
    chosen = restore_optimizer(saved) if optimizer is None else optimizer
    if isinstance(chosen, str):
        raise InputError(f"the lr of {saved} is a function, which a file can't hold: give optimizer={saved}")
    if describe_optimizer(chosen) != saved:
        raise InputError(f"optimizer is {chosen!r}, but the checkpoint was written with {saved}")
    options = header["options"]
    if (options["grad"] == "user") != (grad is not None):
        how = (
            "had a gradient of your own: give grad="
            if grad is None
            else f"used grad={options['grad']!r}: leave grad out"
        )
        raise InputError(f"the descent of {str(path)!r} {how}")
    args = args if isinstance(args, tuple) else (args,)
    iterator = BatchIterator.read(batches, args)
    if (iterator is None) != (header["feed"] is None):
        how = "had mini-batches: give batches=" if iterator is None else "had no mini-batches: leave batches out"
        raise InputError(f"the descent of {str(path)!r} {how}")
    points = load_points(archive, chosen)
    if iterator is not None:
        iterator.restore(header["feed"], arrays["feed"])
    layout = header["layout"]
    limits = Bounds(*arrays["bounds"]) if "bounds" in arrays else None
    limit = options["max_steps"] if max_steps is None else max_steps
    stopping = Stopping(
        layout, chosen, limit, **{name: options[name] for name in ("gtol", "ftol", "xtol", "target")},
        free=None if limits is None else limits.free,
    )  # fmt: skip
    descent = Descent(
        Objective(f, options["grad"] if grad is None else grad, layout, limits, args), layout, points["start"].x,
        chosen, stopping, Recorder(layout, options["record"], steps=limit), limits, iterator, header["seed"],
        options | {"max_steps": plain(limit)}, Checkpoint.of(path), header["optimizer_reason"],
    )  # fmt: skip
    if descent.checkpoint is not None:
        descent.checkpoint.kept = points["last"].t
    if header["differences"]:
        descent.objective.program = None
    descent.objective.counted_graphs.restore(header["paid"])
    _compare(descent, points["last"], header["looped"])
    restore_state(descent, header, arrays, points)
    return PythonStepper(descent)


def restore_state(descent: Descent, header: dict[str, Any], arrays: dict[str, Any], points: dict[str, Point]) -> None:
    """Take over what the descent that was saved had learned, recorded and decided."""
    for name in STOPPING_STATE:
        setattr(descent.stopping, name, header["stopping"][name])
    descent.stopping.start, descent.stopping.last = points["start"], points["last"]
    descent.point, descent.best, descent.lr = points["last"], points["best"], header["lr"]
    descent.state = tuple(arrays[f"state.{i}"] for i in range(header["states"]))
    descent.memory = None if header["memory"] is None else tuple(header["memory"])
    t, *columns = header["last_row"]
    last = (t, descent.point.x, *columns)
    rows = {name.removeprefix("rows."): array for name, array in arrays.items() if name.startswith("rows.")}
    descent.recorder.add_rows(rows, last)
    descent.recorder.stride = header["stride"]
    descent.objective.nfev, descent.objective.njev = header["counts"]
    if header["verdict"] is not None:
        status, message = header["verdict"]
        goes_on = status == "stopped" or (status == "max_steps" and descent.stopping.max_steps > descent.point.t)
        descent.verdict = None if goes_on else Verdict(Status[status], message)


def _compare(descent: Descent, last: Point, looped: bool) -> None:
    """Raise InputError unless f and the gradient are, to the bit, what they were for the checkpoint.

    looped: a compiled loop computed them there, which gives the same numbers except for rounding.
    """
    try:
        if descent.batches is None:
            again = descent.objective.evaluate(last.t, last.x)
        elif last.is_sample:
            descent.objective.batch = descent.batches.redraw()
            again = descent.objective.evaluate(last.t, last.x)
        else:
            again = descent.objective.mean(last.t, last.x, descent.batches)
    except (ValueError, TypeError, IndexError, KeyError) as error:
        x = shown(descent.layout.view(last.x))
        raise InputError(f"f does not take the x of the checkpoint, {x}: {error}") from error
    if looped and descent.objective.agrees(again.fun, last):
        return
    if again.fun != last.fun or not np.array_equal(again.g, last.g):
        what = f"f(x) = {again.fun!r}, then {last.fun!r}" if again.fun != last.fun else "the gradient differs"
        raise InputError(
            f"f is not the function of the checkpoint, or batches its data: at its last x, now {what}; "
            "start again with minimize"
        )
