"""The learning rate as a function of the step: ``kb.SGD(lr=kb.schedules.cosine(0.1, steps=1000))``.

A schedule is a small immutable value: ``schedule(t)`` is the rate of the update that follows step t = 0, 1, …, so
``schedule(0)`` is the rate of the first update. Schedules of the same numbers are equal; the repr can be pasted.
A schedule that looks at f (`plateau`) keeps what it has seen in a tuple of numbers that the caller carries::

    memory = schedule.start()
    memory = schedule.observe(memory, t, f)     # at every step, before the rate is asked for
    lr = schedule.rate(t, memory)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from koubai.errors import InputError
from koubai.parameters import plain
from koubai.synonyms import no_attribute

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "Schedule",
    "constant",
    "cosine",
    "exponential",
    "inverse_sqrt",
    "linear",
    "one_cycle",
    "plateau",
    "plot",
    "step",
    "warmup",
]

Memory: TypeAlias = tuple[float, ...]


@dataclass(frozen=True)
class Schedule:
    """The base of all schedules: ``schedule(t)`` is the rate of the update that follows step t = 0, 1, …

    Raises InputError for a number outside its range, when it is made.
    """

    def __call__(self, t: int) -> float:
        """Return the rate of the update that follows step ``t`` = 0, 1, … of a run in which f keeps falling."""
        raise NotImplementedError

    def start(self) -> Memory:
        """Return what is remembered before the first step: nothing, unless the schedule looks at f."""
        return ()

    def observe(self, memory: Memory, t: int, fun: float) -> Memory:
        """Return the memory after f was ``fun`` at step ``t``."""
        return memory

    def rate(self, t: int, memory: Memory) -> float:
        """Return the rate of the update that follows step ``t``."""
        return self(t)

    def _check(self, **wanted: str) -> None:
        """Raise InputError unless each named field is what its word says; make NumPy's numbers Python's."""
        for name, what in wanted.items():
            value = plain(getattr(self, name))
            object.__setattr__(self, name, value)
            number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
            fits = {
                "a positive number": number and value > 0,
                "a number ≥ 0": number and value >= 0,
                "a number ≥ 1": number and value >= 1,
                "a number in (0, 1]": number and 0 < value <= 1,
                "a number in (0, 1)": number and 0 < value < 1,
                "a whole number ≥ 1": number and isinstance(value, Integral) and int(value) >= 1,
                "a whole number ≥ 0": number and isinstance(value, Integral) and int(value) >= 0,
            }
            if not fits[what]:
                raise InputError(f"{type(self).__name__}: {name} must be {what}, got {value!r}")


@dataclass(frozen=True)
class constant(Schedule):
    """Constant: the same rate at every step.

        lr(t) = lr

    Parameters
    ----------
    lr : float
        > 0, the rate.

    Raises
    ------
    InputError
        For a number outside its range.

    Examples
    --------
    >>> kb.schedules.constant(0.1)(1000)
    0.1
    """

    lr: float

    def __post_init__(self) -> None:
        self._check(lr="a positive number")

    def __call__(self, t: int) -> float:
        return self.lr


@dataclass(frozen=True)
class step(Schedule):
    """Step: the rate is multiplied by gamma every so many steps.

        lr(t) = lr * gamma**(t // every)                     (every: a whole number)
        lr(t) = lr * gamma**(number of milestones ≤ t)       (every: a tuple of steps)

    PyTorch's StepLR and MultiStepLR; Keras's ExponentialDecay with staircase, and PiecewiseConstantDecay, which changes
    one step later.

    Parameters
    ----------
    lr : float
        > 0, the first rate.
    every : int or tuple of int
        Steps between two falls, or the steps at which it falls.
    gamma : float, default 0.1
        In (0, 1].

    Raises
    ------
    InputError
        For a number outside its range.

    Examples
    --------
    >>> schedule = kb.schedules.step(1.0, every=10, gamma=0.5)
    >>> schedule(9), schedule(10), schedule(20)
    (1.0, 0.5, 0.25)
    """

    lr: float
    every: int | tuple[int, ...]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        self._check(lr="a positive number", gamma="a number in (0, 1]")
        if isinstance(self.every, list | tuple | np.ndarray):
            every = tuple(int(m) if isinstance(m, Integral) and not isinstance(m, bool) else m for m in self.every)
            object.__setattr__(self, "every", every)
            if not every or not all(type(m) is int and m >= 0 for m in every):
                raise InputError(f"step: every must be a whole number or a tuple of steps ≥ 0, got {self.every!r}")
        else:
            self._check(every="a whole number ≥ 1")

    def __call__(self, t: int) -> float:
        falls = sum(m <= t for m in self.every) if isinstance(self.every, tuple) else t // self.every
        return float(self.lr * self.gamma**falls)


@dataclass(frozen=True)
class exponential(Schedule):
    """Exponential: the rate falls by the factor gamma every ``steps`` steps, smoothly.

        lr(t) = lr * gamma**(t / steps)

    PyTorch's ExponentialLR (steps = 1); Keras's ExponentialDecay (steps is its decay_steps).

    Parameters
    ----------
    lr : float
        > 0, the first rate.
    gamma : float
        In (0, 1].
    steps : int, default 1
        ≥ 1, in which it falls by gamma.

    Raises
    ------
    InputError
        For a number outside its range.

    Examples
    --------
    >>> kb.schedules.exponential(1.0, 0.25, steps=10)(5)
    0.5
    """

    lr: float
    gamma: float
    steps: int = 1

    def __post_init__(self) -> None:
        self._check(lr="a positive number", gamma="a number in (0, 1]", steps="a whole number ≥ 1")

    def __call__(self, t: int) -> float:
        return float(self.lr * self.gamma ** (t / self.steps))


@dataclass(frozen=True)
class cosine(Schedule):
    """Cosine: the rate falls from lr to min_lr along half a cosine, and stays there.

        lr(t) = min_lr + (lr - min_lr) * (1 + cos(pi * min(t, steps) / steps)) / 2

    Keras's CosineDecay (min_lr is its alpha * lr). PyTorch's CosineAnnealingLR is the same up to t = steps, then rises
    again.

    Parameters
    ----------
    lr : float
        > 0, the first rate.
    steps : int
        ≥ 1, of the fall.
    min_lr : float, default 0.0
        ≥ 0, the last rate.

    Raises
    ------
    InputError
        For a number outside its range.

    Examples
    --------
    >>> schedule = kb.schedules.cosine(0.1, steps=100)
    >>> round(schedule(50), 6), schedule(100)
    (0.05, 0.0)

    References
    ----------
    Loshchilov & Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017.
    """

    lr: float
    steps: int
    min_lr: float = 0.0

    def __post_init__(self) -> None:
        self._check(lr="a positive number", steps="a whole number ≥ 1", min_lr="a number ≥ 0")

    def __call__(self, t: int) -> float:
        return self.min_lr + (self.lr - self.min_lr) * (1 + math.cos(math.pi * min(t, self.steps) / self.steps)) / 2


@dataclass(frozen=True)
class linear(Schedule):
    """Linear: the rate goes from lr to end_lr in a straight line, and stays there.

        lr(t) = lr + (end_lr - lr) * min(t, steps) / steps

    PyTorch's LinearLR (end_lr = lr * end_factor / start_factor); Keras's PolynomialDecay of power 1.

    Parameters
    ----------
    lr : float
        > 0, the first rate.
    steps : int
        ≥ 1, of the way.
    end_lr : float, default 0.0
        ≥ 0, the last rate.

    Raises
    ------
    InputError
        For a number outside its range.

    Examples
    --------
    >>> kb.schedules.linear(0.1, steps=100)(50)
    0.05
    """

    lr: float
    steps: int
    end_lr: float = 0.0

    def __post_init__(self) -> None:
        self._check(lr="a positive number", steps="a whole number ≥ 1", end_lr="a number ≥ 0")

    def __call__(self, t: int) -> float:
        return self.lr + (self.end_lr - self.lr) * min(t, self.steps) / self.steps


@dataclass(frozen=True)
class one_cycle(Schedule):
    """One cycle: up from lr / div_factor to lr, then down to lr / (div_factor * final_div_factor), along half cosines.

        peak, last = warm * steps - 1, steps - 1
        lr(t) = from lr / div_factor to lr along half a cosine        (t from 0 to peak)
        lr(t) = from lr to the end along half a cosine                (t from peak to last; then it stays)

    PyTorch's OneCycleLR (max_lr, total_steps, pct_start, anneal_strategy) without the cycling momentum; that one raises
    after its last step.

    Parameters
    ----------
    lr : float
        > 0, the highest rate.
    steps : int
        ≥ 1, of the whole cycle.
    warm : float, default 0.3
        In (0, 1), the share of the rise.
    div_factor, final_div_factor : float, default 25.0, 1e4
        ≥ 1: how far below lr it begins, and how far below that it ends.
    shape : {"cos", "linear"}, default "cos"
        Of rise and fall.

    Raises
    ------
    InputError
        For a number outside its range.

    Examples
    --------
    >>> schedule = kb.schedules.one_cycle(0.1, steps=100)
    >>> round(schedule(0), 6), round(schedule(29), 6)
    (0.004, 0.1)

    References
    ----------
    Smith & Topin, "Super-convergence: very fast training of neural networks using large learning rates", 2019.
    """

    lr: float
    steps: int
    warm: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    shape: str = "cos"

    def __post_init__(self) -> None:
        self._check(lr="a positive number", steps="a whole number ≥ 1", warm="a number in (0, 1)")
        self._check(div_factor="a number ≥ 1", final_div_factor="a number ≥ 1")
        if self.shape not in ("cos", "linear"):
            raise InputError(f"one_cycle: shape must be 'cos' or 'linear', got {self.shape!r}")
        if not 1 < self.warm * self.steps < self.steps - 1e-9:
            raise InputError(
                f"one_cycle: the rise takes warm * steps = {self.warm * self.steps:g} steps; it must take more than 1"
            )

    def __call__(self, t: int) -> float:
        first = self.lr / self.div_factor
        peak, last = self.warm * self.steps - 1, self.steps - 1
        if t <= peak:
            return self._between(first, self.lr, t / peak)
        return self._between(self.lr, first / self.final_div_factor, min((t - peak) / (last - peak), 1.0))

    def _between(self, a: float, b: float, part: float) -> float:
        return b + (a - b) / 2 * (math.cos(math.pi * part) + 1) if self.shape == "cos" else (b - a) * part + a


@dataclass(frozen=True)
class inverse_sqrt(Schedule):
    """Inverse square root: the rate that the theory of convex stochastic descent requires.

        lr(t) = lr / sqrt(1 + t / steps)

    With warmup(…, steps=steps) in front this is the schedule of the paper below, its equation 3.

    Parameters
    ----------
    lr : float
        > 0, the first rate.
    steps : int, default 1
        ≥ 1, how long the rate takes to fall by sqrt(2).

    Raises
    ------
    InputError
        For a number outside its range.

    Examples
    --------
    >>> kb.schedules.inverse_sqrt(0.1)(3)
    0.05

    References
    ----------
    Vaswani et al., "Attention is all you need", NeurIPS 2017.
    """

    lr: float
    steps: int = 1

    def __post_init__(self) -> None:
        self._check(lr="a positive number", steps="a whole number ≥ 1")

    def __call__(self, t: int) -> float:
        return self.lr / math.sqrt(1 + t / self.steps)


@dataclass(frozen=True)
class plateau(Schedule):
    """Plateau: the rate is multiplied by gamma if f has not fallen for more than ``patience`` steps.

        f has fallen:  f < best - threshold * |best|;  best is the least f that counted as fallen
        lr = max(lr * gamma, min_lr)   after more than patience steps without a fall, outside the cooldown

    PyTorch's ReduceLROnPlateau in "min" mode with a relative threshold (factor is its gamma), whose best * (1 -
    threshold) takes every negative f for a fall. Called with a step alone it gives lr: nothing was seen yet.

    Parameters
    ----------
    lr : float
        > 0, the first rate.
    gamma : float, default 0.1
        In (0, 1).
    patience : int, default 10
        Steps without a fall that are let pass; of a training, epochs.
    threshold : float, default 1e-4
        ≥ 0, as above.
    cooldown : int, default 0
        Steps after a fall of the rate that do not count.
    min_lr : float, default 0.0
        ≥ 0, the least rate.

    Raises
    ------
    InputError
        For a number outside its range.

    Examples
    --------
    >>> run = kb.minimize(lambda x: abs(x), 1.0, kb.SGD(lr=kb.schedules.plateau(0.3, patience=3)), max_steps=30)
    >>> bool(run.history.lr[-1] < 0.3)
    True
    """

    lr: float
    gamma: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    cooldown: int = 0
    min_lr: float = 0.0

    def __post_init__(self) -> None:
        self._check(lr="a positive number", gamma="a number in (0, 1)", min_lr="a number ≥ 0")
        self._check(patience="a whole number ≥ 0", cooldown="a whole number ≥ 0", threshold="a number ≥ 0")

    def __call__(self, t: int) -> float:
        return self.lr

    def start(self) -> Memory:
        return (math.inf, 0.0, 0.0, self.lr)  # best, steps without a fall, steps of cooldown left, rate

    def observe(self, memory: Memory, t: int, fun: float) -> Memory:
        best, waited, cooling, lr = memory
        if fun < (best - self.threshold * abs(best) if best < math.inf else best):
            best, waited = fun, 0.0
        else:
            waited += 1
        if cooling > 0:
            cooling, waited = cooling - 1, 0.0
        if waited > self.patience:
            lr, cooling, waited = max(lr * self.gamma, self.min_lr), float(self.cooldown), 0.0
        return (best, waited, cooling, lr)

    def rate(self, t: int, memory: Memory) -> float:
        return memory[3]


@dataclass(frozen=True)
class warmup(Schedule):
    """Warm-up: a straight rise to the first rate of another schedule, which then begins.

        lr(t) = after(0) * (start_factor + (1 - start_factor) * t / steps)        (t < steps)
        lr(t) = after(t - steps)                                                  (from t = steps on)

    PyTorch's SequentialLR of LinearLR and the other one; Keras's warmup_steps.

    Parameters
    ----------
    after : Schedule or float
        What begins then; a number is a constant rate.
    steps : int
        ≥ 1, of the rise.
    start_factor : float, default 0.1
        In (0, 1]: at 0 the first update would do nothing.

    Raises
    ------
    InputError
        For a number outside its range.

    Examples
    --------
    >>> schedule = kb.schedules.warmup(0.1, steps=10)
    >>> round(schedule(0), 6), schedule(10)
    (0.01, 0.1)

    References
    ----------
    Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour", arXiv:1706.02677, 2017.
    """

    after: Schedule
    steps: int
    start_factor: float = 0.1

    def __post_init__(self) -> None:
        if isinstance(self.after, Real):
            object.__setattr__(self, "after", constant(float(self.after)))
        if not isinstance(self.after, Schedule):
            raise InputError(f"warmup: after must be a schedule or a number, got {self.after!r}")
        self._check(steps="a whole number ≥ 1", start_factor="a number in (0, 1]")

    def __call__(self, t: int) -> float:
        return self.rate(t, self.after.start())

    def start(self) -> Memory:
        return self.after.start()

    def observe(self, memory: Memory, t: int, fun: float) -> Memory:
        return self.after.observe(memory, t - self.steps, fun) if t >= self.steps else memory

    def rate(self, t: int, memory: Memory) -> float:
        if t >= self.steps:
            return self.after.rate(t - self.steps, memory)
        return self.after(0) * (self.start_factor + (1 - self.start_factor) * t / self.steps)


def plot(*given: Schedule, steps: int = 1000, ax: Axes | None = None) -> Axes:
    """Draw the learning rate of each schedule against the step; see `koubai.plot.schedules`.

    Parameters
    ----------
    *given : Schedule
        The schedules.
    steps : int, default 1000
        A whole number ≥ 2.
    ax : Axes, optional
        What to draw on; a new figure by default.

    Returns
    -------
    Axes
        The picture.

    Examples
    --------
    >>> ax = kb.schedules.plot(kb.schedules.cosine(0.1, 100), steps=120)
    """
    from koubai.plot import schedules

    return schedules(*given, steps=steps, ax=ax)


def __getattr__(name: str) -> Any:
    raise no_attribute(__name__, name, __all__)
