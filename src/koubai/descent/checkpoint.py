"""Checkpoints: where and how often a descent is saved, and what such a file holds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from koubai.derivatives.differences import METHODS
from koubai.descent.files import (
    Archive,
    ArraySpec,
    a_flag,
    a_function,
    a_layout,
    a_list,
    a_number,
    a_record,
    a_row,
    a_text,
    a_whole,
    an_optimizer,
    check_target,
    one_of,
    optional,
    read_archive,
    write_archive,
)
from koubai.descent.optimizers import Optimizer
from koubai.descent.record import COLUMNS, OPTIONS, Status
from koubai.descent.schedules import Schedule
from koubai.descent.stopping import Point
from koubai.errors import CheckpointWarning, InputError, warn
from koubai.parameters import plain

__all__ = ["STOPPING_STATE", "Checkpoint", "load_points", "read"]

# What `Stopping` has learned from the path so far.
STOPPING_STATE = (
    "unchanged", "in_noise", "lipschitz", "step_curvature", "working_gtol",
)  # fmt: skip


@dataclass
class Checkpoint:
    """Where and how often a descent is saved."""

    path: str | os.PathLike[str]
    steps: int | None
    seconds: float | None
    kept: int | None = None  # the step that is in the file, once this descent is in it
    step: int = field(default=0, init=False)  # since the last one that was saved
    clock: float = field(default_factory=time.monotonic, init=False)
    fails: bool = field(default=False, init=False)  # whether the last attempt to save failed

    @classmethod
    def of(cls, checkpoint: Any) -> Checkpoint | None:
        """Return what the argument of minimize means. Raises InputError if it means nothing."""
        if checkpoint is None:
            return None
        path, every = checkpoint if isinstance(checkpoint, tuple) and len(checkpoint) == 2 else (checkpoint, 10.0)
        if not isinstance(path, str | os.PathLike):
            raise InputError(f"checkpoint must be a file's path or (path, every), got {checkpoint!r}")
        every = plain(every)
        if isinstance(every, bool) or not isinstance(every, int | float) or not 0 < every < np.inf:
            raise InputError(f"checkpoint: every must be a number of steps (int) or seconds (float) > 0, got {every!r}")
        folder = os.path.dirname(check_target(path, "checkpoint"))
        if not os.access(folder, os.W_OK):
            raise InputError(f"checkpoint: nothing can be written into the folder {folder!r}; choose another one")
        return cls(path, every, None) if isinstance(every, int) else cls(path, None, every)

    def is_due(self) -> bool:
        self.step += 1
        if self.steps is not None:
            return self.step > self.steps
        return time.monotonic() - self.clock >= (self.seconds or 0.0)

    def write(self, kind: str, t: int, ask: Callable[[], tuple[Any, Any]], *, last: bool) -> None:
        """Save the descent at step ``t``. If that fails, a CheckpointWarning says so and the descent goes on.

        ask: gives the header and the arrays. last: the descent is over.
        """
        self.step = 1
        try:
            write_archive(self.path, kind, *ask())
            self.kept, self.fails = t, False
        except Exception as error:  # a full disk, a folder that is gone: no reason to lose the descent
            if last or not self.fails:
                held = "none was written before" if self.kept is None else f"the file is still that of step {self.kept}"
                goes_on = "" if last else "; the descent goes on, and will try again"
                warn(CheckpointWarning(f"no checkpoint could be written at step {t}: {error}; {held}{goes_on}"))
            self.fails = True
        self.clock = time.monotonic()


# -- what the files hold ----------------------------------------------------------------------------------------------

_ANY = a_number(finite=False)
_POINT = (a_whole(), _ANY, _ANY, _ANY, a_list(a_whole()), a_flag)  # t, f, grad_norm, error, below_rounding, is_sample
_HEADER = {
    "layout": a_layout,
    "optimizer": an_optimizer,
    "optimizer_reason": a_text,
    "function": a_function,
    "seed": optional(a_whole(-(2**255), 2**255)),
    "lr": a_number(0),
    "memory": optional(a_list(_ANY)),
    "states": a_whole(),
    "points": a_record(
        {
            "start": a_row(*_POINT),
            "last": a_row(a_whole(), a_number(), *_POINT[2:]),
            "best": a_row(*_POINT),
        }
    ),
    "stopping": a_record({name: a_whole() if name in ("unchanged", "in_noise") else _ANY for name in STOPPING_STATE}),
    "stride": a_whole(1),
    "last_row": a_row(a_whole(), a_number(), _ANY, a_number(0), a_flag, a_flag),  # t, and the columns of a history
    "counts": a_row(a_whole(), a_whole()),
    "paid": a_list(a_text),  # the digests of the graphs whose cost is counted
    "differences": a_flag,
    "looped": a_flag,
    "verdict": optional(a_row(one_of(*Status.__members__), a_text)),
}
_BATCHES = a_record(
    {
        "epoch": a_whole(),
        "index": a_whole(),
        "sums": a_row(_ANY, _ANY, _ANY),
        "rows": a_list(a_row(a_whole(), _ANY, _ANY, _ANY)),
    }
)
_LAYERS = optional(a_list(_ANY))
_HEADERS = {
    "checkpoint": a_record(
        _HEADER
        | {
            "feed": optional(_BATCHES),
            "options": a_record(
                {name: OPTIONS[name] for name in ("bounds", "record", "max_steps", "gtol", "ftol", "xtol", "target")}
                | {"grad": one_of("user", "auto", "backprop", *METHODS)}
            ),
        }
    ),
    "training": a_record(
        _HEADER
        | {
            "feed": _BATCHES,
            "options": a_record(
                {
                    name: OPTIONS[name]
                    for name in ("epochs", "batch_size", "patience", "min_delta", "gtol", "target", "record")
                }
            ),
            "epochs": a_row(  # the rows of the epochs, epochs waited, counts, sums of the layers, the least loss
                a_list(a_row(_ANY, optional(_ANY), optional(_ANY), optional(_ANY), _LAYERS, _LAYERS)),
                a_whole(),
                a_list(_ANY),
                a_row(a_whole(), a_list(_ANY), a_list(_ANY)),
                _ANY,
            ),
            "carries": a_flag,
            "before": a_row(a_whole(), a_whole()),  # updates and epochs of an earlier training
            "evaluations": a_row(a_whole(), optional(a_whole())),  # and the steps until backpropagation was given up
        }
    ),
}


def read(path: str | os.PathLike[str], kind: str) -> Archive:
    """Return the archive of a saved descent, kind "checkpoint" or "training". Raises InputError for another file."""
    return read_archive(path, kind, _HEADERS[kind])


def load_points(archive: Archive, optimizer: Optimizer) -> dict[str, Point]:
    """Return the points in a file by name, once its arrays are what such a descent with this optimizer writes."""
    with archive.building():
        header, arrays = archive.header, archive.arrays
        layout, batches = header["layout"], header["feed"]
        n, kind, stored = layout.size, layout.dtype.name, sum(array.size for array in arrays.values())
        if max(n, *(optimizer.hyperparameters.get(name, 0) for name in ("memory", "history_size"))) > stored:
            raise InputError("it holds fewer numbers than its header says")
        states = optimizer.init(np.zeros(n, kind), layout)
        if header["states"] != len(states):
            raise InputError(f"it has {header['states']} arrays of the optimizer's state, which are {len(states)}")
        begun = "feed" in arrays and arrays["feed"].ndim > 0  # whether there is a sum of the epoch's gradients
        sizes = archive.expect(
            {
                **{f"{name}.x": ArraySpec(kind, (n,), finite=True) for name in ("start", "last", "best")},
                **{f"{name}.g": ArraySpec(kind, (n,), finite=name == "last") for name in ("start", "last")},
                "best.g": ArraySpec(("float32", "float64"), ("best",)),  # the mean along an epoch, or empty
                **{f"state.{i}": ArraySpec(state.dtype.name, state.shape) for i, state in enumerate(states)},
                "rows.x": ArraySpec(kind, ("rows", n), finite=True),
                **{f"rows.{name}": ArraySpec(np.dtype(dtype).name, ("rows",)) for name, dtype in COLUMNS.items()},
                **({"bounds": ArraySpec(kind, (2, n), optional=True)} if "carries" not in header else {}),
                **({"feed": ArraySpec(("float32", "float64"), (n,) * begun)} if batches is not None else {}),
                **(
                    {name: ArraySpec(kind, ("carried",), finite=True) for name in _CARRIED}
                    if header.get("carries")
                    else {}
                ),
            }
        )
        for name, most in optimizer.rule.counts.items():
            counted = arrays[f"state.{optimizer.rule.state.index(name)}"]
            if not np.isin(counted, np.arange(optimizer.hyperparameters[most] + 1)).all():
                raise InputError(f"{name} of the optimizer's state must be whole numbers from 0 to its {most}")
        if sizes["best"] not in (0, n):
            raise InputError(f"the gradient of its best point has {sizes['best']} components")
        last, stride = header["points"]["last"], header["stride"]
        t = last[0]
        if stride & (stride - 1):
            raise InputError(f"stride must be a power of 2, got {stride}")
        rows = 1 if header["options"]["record"] == "off" else t // stride + 1
        if header["last_row"][0] != t or sizes["rows"] != rows or stride > max(t, 1):
            raise InputError(f"its rows, one each {stride} steps, don't end at step {t}")
        if "bounds" in arrays and not (arrays["bounds"][0] <= arrays["bounds"][1]).all():
            raise InputError("its bounds are crossed")
        rate = optimizer.lr.start() if isinstance(optimizer.lr, Schedule) else ()
        if header["memory"] is not None and len(header["memory"]) != len(rate):
            raise InputError(f"what its schedule remembers must be {len(rate)} numbers")
        if batches is not None and last[5] and not batches["index"]:
            raise InputError("its last point is of no batch")
        if header["verdict"] is None and "carries" in header and not last[5]:
            raise InputError("it doesn't say how the training ended")
        if any(i >= n for point in header["points"].values() for i in point[4]):
            raise InputError(f"its points have components beyond {n}")
        return {
            name: Point(
                t, arrays[f"{name}.x"], fun, arrays[f"{name}.g"], grad_norm, error, tuple(below_rounding), is_sample
            )
            for name, (t, fun, grad_norm, error, below_rounding, is_sample) in header["points"].items()
        }


_CARRIED = ("carried", "best.carried", "start.carried")
