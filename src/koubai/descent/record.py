"""What a descent leaves behind: Run, its History, and the Status that says why it stopped."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from koubai.errors import InputError
from koubai.parameters import FloatArray, Layout, Parameters

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["History", "Recorder", "Run", "Status", "Step"]


class Status(enum.Enum):
    """Why a descent stopped. Each member's ``meaning`` says it in words; only two of them are success."""

    converged = "the stopping tolerance was met"
    max_steps = "the step limit came first"
    diverged = "f grew without bound"
    nonfinite = "f or its gradient is no longer finite"
    stalled = "x no longer changes though the gradient is not small"
    noise_floor = "the gradient can't be told from its own error"
    target_reached = "f reached the target"
    stopped = "stopped by the caller"

    @property
    def meaning(self) -> str:
        return self.value

    @property
    def success(self) -> bool:
        """True for ``converged`` and ``target_reached`` only."""
        return self in (Status.converged, Status.target_reached)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Step:
    """One point of the path: after ``t`` updates, ``f`` and the gradient ``g`` at ``x``, and the rate ``lr`` used next.

    ``x`` and ``g`` are copies; later steps do not overwrite them.
    """

    t: int
    x: Any
    f: float
    g: Any
    lr: float


@dataclass(frozen=True)
class History:
    """The path. Row i of every array belongs to the same point: ``fun[i] == f(x[i])`` after ``t[i]`` updates.

    t: (rows,) updates made so far. x: (rows, *shape of x), or a dict of such arrays. fun, grad_norm, lr: (rows,);
    grad_norm is the largest absolute component of the (projected) gradient, the number that gtol is compared with.
    A long run over many parameters is thinned to every 2nd, 4th, 8th … row; the first and the last row always stay.
    """

    t: np.ndarray[Any, np.dtype[np.int64]]
    x: Any
    fun: FloatArray
    grad_norm: FloatArray
    lr: FloatArray

    def __len__(self) -> int:
        return len(self.t)


class Recorder:
    """Collects the rows of a History in bounded memory.

    record="auto" keeps every row until ``ROWS`` rows or ``NUMBERS`` numbers are held, then every second one of them,
    and so on; "all" keeps every row; "off" keeps the first and the last.
    """

    ROWS = 100_000
    NUMBERS = 8_000_000  # 64 MB of float64

    def __init__(self, layout: Layout, record: Literal["auto", "all", "off"]) -> None:
        if record not in ("auto", "all", "off"):
            raise InputError(f"record must be 'auto', 'all' or 'off', got {record!r}")
        self.layout = layout
        self.record = record
        self.stride = 1
        self.limit = max(64, min(self.ROWS, self.NUMBERS // max(layout.size, 1)))
        self.rows: list[tuple[int, FloatArray, float, float, float]] = []
        self.last: tuple[int, FloatArray, float, float, float] | None = None

    def add(self, t: int, x: FloatArray, fun: float, grad_norm: float, lr: float) -> None:
        """Add the row of step ``t``. ``x`` is kept as it is: the caller must not change it afterwards."""
        self.last = (t, x, fun, grad_norm, lr)
        if t % self.stride or (self.record == "off" and self.rows):
            return
        self.rows.append(self.last)
        if self.record == "auto" and len(self.rows) > self.limit:
            self.rows = self.rows[::2]
            self.stride *= 2

    def history(self) -> History:
        """Return the rows so far as arrays, the last one included."""
        rows = list(self.rows)
        if self.last is not None and (not rows or rows[-1][0] != self.last[0]):
            rows.append(self.last)
        t, x, fun, grad_norm, lr = zip(*rows, strict=True)
        return History(
            np.array(t, dtype=np.int64),
            self.layout.view(np.array(x)),
            np.array(fun, dtype=np.float64),
            np.array(grad_norm, dtype=np.float64),
            np.array(lr, dtype=np.float64),
        )


@dataclass(frozen=True, repr=False)
class Run:
    """The result of a descent. ``x``, ``fun`` and ``jac`` belong together: fun == f(x), jac is the gradient there.

    x: the last point, in the form of x0; best_x: the point with the least f ever visited.
    nit: updates made; nfev, njev: evaluations of f and of the gradient callable (differences count in nfev).
    status: a Status; success is true only for ``converged`` and ``target_reached``; message says why in a sentence.
    executor: what ran the descent; gradient_source: where the gradient came from.
    """

    x: Any
    fun: float
    jac: Any
    nit: int
    nfev: int
    njev: int
    status: Status
    message: str
    best_x: Any
    best_fun: float
    history: History
    executor: str
    gradient_source: str
    optimizer: Any
    seed: int | None
    function: Callable[[Parameters], Any] = field(compare=False)

    @property
    def success(self) -> bool:
        return self.status.success

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the path: arrows on the curve (1-D), over contours (2-D), else f and gradient norm against the step."""
        from koubai.plot import run

        return run(self, ax=ax)

    def __repr__(self) -> str:
        lines = [f"Run: {self.status} — {self.message}"]
        for name in ("x", "fun", "best_x", "best_fun", "nit", "nfev", "njev", "gradient_source", "optimizer"):
            value = np.array2string(v, threshold=8) if isinstance(v := getattr(self, name), np.ndarray) else repr(v)
            lines.append(f"  {name:>15}: {value}")
        return "\n".join(lines)
