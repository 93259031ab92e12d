"""Fit: any NumPy function of parameters and data, made small mini-batch by mini-batch by the one loop."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Literal, Never, TypeAlias

import numpy as np
import numpy.typing as npt

from koubai.derivatives.differences import difference_gradient
from koubai.derivatives.nonfinite import GRADIENT
from koubai.derivatives.paths import Paths
from koubai.descent.batch_iterator import BatchIterator, Source, as_source, weight
from koubai.descent.batches import GatheredBatches, array_of_samples, check_finite
from koubai.descent.default import AUTO, named
from koubai.descent.loop import drive
from koubai.descent.optimizers import Optimizer
from koubai.descent.record import Call, Run
from koubai.descent.training import Epoch, Progress, Training, with_rate_before
from koubai.descent.training_step import Differences
from koubai.errors import (
    FallbackWarning,
    FunctionError,
    GradientWarning,
    InputError,
    TraceError,
    UnknownNameError,
    warn,
)
from koubai.graph.call import Leaves
from koubai.parameters import FloatArray, Layout, Parameters, as_scalar, flatten

__all__ = ["FunctionModel", "ValueAndGradient", "consecutive", "fit", "weighted_mean"]

Array: TypeAlias = npt.NDArray[Any]


def fit(
    loss: Callable[..., Any],
    params: Parameters,
    data: Any,
    optimizer: Optimizer | str = AUTO,
    *,
    epochs: int = 10,
    batch_size: int = 32,
    validation: Any = None,
    patience: int | None = None,
    min_delta: float = 0.0,
    gtol: float = 0.0,
    target: float | None = None,
    seed: int = 0,
    record: Literal["auto", "all", "off"] = "auto",
    progress: bool = False,
    checkpoint: Any = None,
    resume: Run | str | os.PathLike[str] | None = None,
    on_epoch: Callable[[Epoch], Any] | None = None,
    **unknown: Never,
) -> Run:
    """Fit: make the mean of a loss over data small, mini-batch by mini-batch; the loss is any NumPy function.

        run = kb.fit(lambda p, X, y: np.mean((X @ p["w"] + p["b"] - y) ** 2), {"w": w, "b": 0.0}, (X, y))

    A loss that can't be traced is trained with adaptive differences after one FallbackWarning that says where and why;
    run.gradient_source tells. A training can be taken up again:

        run = kb.fit(loss, params, data, epochs=1);  run = kb.fit(loss, run.x, data, epochs=1, resume=run)

    Both together are, bit for bit, one training of two epochs; without resume each begins with the first order of the
    data, the start of the schedule and no momentum.

    Parameters
    ----------
    loss : callable
        Called as loss(params, *batch), returns the mean over the batch's samples.
    params : number, array, or a dict, list or tuple of arrays
        The start. Nothing passed in is changed.
    data : tuple of arrays, array, Batches, Stream or callable
        Arrays with as many rows as there are samples, or a function of the epoch 0, 1, … that gives batches. A batch
        has the same rows of each.
    optimizer : Optimizer or str, default "auto"
        An object, its name, or "auto", Adam at its own rate; schedules that look at f see an epoch's (validation) loss.
    epochs : int, default 10
        How often each sample is taken.
    batch_size : int, default 32
        Samples of an update; the last batch has what is left. Batches and streams have their own.
    validation : tuple of arrays, optional
        Data held back, as the batches have them; its loss is measured after each epoch.
    patience : int, optional
        Stop after so many epochs without a lower (validation) loss.
    min_delta : float, default 0.0
        Only a fall by more than this counts for patience.
    gtol, target : float, default 0.0, None
        Stop at an epoch's end if gradient or loss over all the data reach them.
    seed : int, default 0
        Of the order.
    record : {"auto", "all", "off"}, default "auto"
        "auto" thins a long path, "all" keeps it, "off" keeps neither the path nor what the gradients were like.
    progress : bool, default False
        A bar on stderr.
    checkpoint : path or (path, every), optional
        A file, as `koubai.minimize` takes it.
    resume : Run or path, optional
        The run of an earlier `fit`, to go on from in order, schedule and moments, or a checkpoint's file. The optimizer
        may then be left out; its lr may be another one, and so may params and the data.
    on_epoch : callable, optional
        Called with an `Epoch`; returning True stops.

    Returns
    -------
    Run
        run.x is the last point, run.best_x the best one.

    Raises
    ------
    InputError
        For arguments that can't be used; for a run to go on from that did not end with an epoch, or was loaded from a
        file, which keeps no moments (a checkpoint's does).

    Examples
    --------
    >>> X = np.linspace(-1, 1, 50)
    >>> loss = lambda w, x, y: np.mean((w[0] * x + w[1] - y) ** 2)
    >>> run = kb.fit(loss, [0.0, 0.0], (X, 3 * X + 2), kb.SGD(0.1), epochs=100)
    >>> run.x.round(3)
    array([3., 2.])
    """
    if unknown:
        raise UnknownNameError.of_argument(fit, unknown)
    if not callable(loss):
        raise InputError(f"loss must be a function of (params, *batch), got {loss!r}")
    layout, start = flatten(params, "params")
    before = _before(resume, layout, seed)
    if before is not None and isinstance(optimizer, str) and optimizer == AUTO:
        optimizer = before.optimizer or AUTO
    chosen, why = named(optimizer, None, stochastic=True)
    chosen = with_rate_before(chosen, before, resume)
    source = as_source(data)
    if source is None:
        source = _gathered(data, batch_size, seed)
    if validation is not None:
        given = validation if isinstance(validation, tuple | list) else (validation,)
        validation = tuple(array_of_samples(a, f"validation[{i}]") for i, a in enumerate(given))
    model = FunctionModel(loss, layout, start, source, validation)
    training = Training.of(
        model, source, chosen, why, epochs=epochs, patience=patience, min_delta=min_delta, gtol=gtol, target=target,
        seed=seed, record=record, checkpoint=checkpoint, on_epoch=on_epoch,
    )  # fmt: skip
    if before is not None:
        training.continue_from(before)
    elif isinstance(resume, str | os.PathLike):
        training.resume_from(resume)
    training.descent.call = Call(
        fit, loss, model.start, layout,
        {
            "data": data, "optimizer": chosen, "epochs": epochs, "batch_size": batch_size, "validation": validation,
            "patience": patience, "min_delta": min_delta, "gtol": gtol, "target": target, "seed": seed,
            "record": record,
        },
        source,
    )  # fmt: skip
    return replace(drive(training, None, progress), progress=training.progress())


def _gathered(data: Any, batch_size: int, seed: int) -> GatheredBatches:
    """Return the batches of arrays. Raises InputError if they are not equally many samples, all of them finite."""
    given = data if isinstance(data, tuple | list) else (data,)
    arrays = tuple(array_of_samples(a, f"data[{i}]") for i, a in enumerate(given))
    for i, a in enumerate(arrays):
        if len(a) != len(arrays[0]):
            raise InputError(f"data[0] has {len(arrays[0])} samples, data[{i}] has {len(a)}; they must be equally many")
        check_finite(a, f"data[{i}]")
    return GatheredBatches(arrays, batch_size, seed, lambda a: a)


def _before(resume: Any, layout: Layout, seed: int) -> Progress | None:
    """Return how far the training had come that `fit` continues, if ``resume`` is a run.

    Raises InputError if nothing can go on from ``resume`` with parameters of this form and this order of the data.
    """
    if isinstance(resume, str | os.PathLike) or resume is None or resume is False:
        return None
    if not isinstance(resume, Run):
        raise InputError(
            "resume must be the path of a checkpoint, or the run of an earlier kb.fit, as in kb.fit(loss, run.x, data, "
            f"resume=run); got {resume!r}"
        )
    if not isinstance(resume.progress, Progress):
        raise InputError(
            "resume=run goes on from a run that kb.fit returned at the end of an epoch; this one stopped before, comes "
            "from elsewhere, or from a file, which keeps no moments: give checkpoint=file, and then resume=file"
        )
    if resume.seed != seed:
        raise InputError(f"the run was made with seed={resume.seed}, which its order follows from; now it is {seed}")
    there = flatten(resume.x)[0]
    if (there.names, there.shapes, there.dtype) != (layout.names, layout.shapes, layout.dtype):
        raise InputError(
            f"params must have the form of run.x, {_form(there)}, whose moments go on; got {_form(layout)}"
        )
    return resume.progress


def _form(layout: Layout) -> str:
    named = zip(layout.names or ("",), layout.shapes, strict=True)
    return ", ".join(f"{name} {shape}".strip() for name, shape in named) + f" of {layout.dtype}"


class FunctionModel:
    """A function of parameters and data as `Training` sees it."""

    model_state: FloatArray | None = None
    counts = 0
    program_cache: dict[Any, Any] | None = None

    def __init__(
        self,
        loss: Callable[..., Any],
        layout: Layout,
        start: FloatArray,
        source: Source,
        held: tuple[Array, ...] | None,
    ) -> None:
        self.loss = self.function = loss
        self.layout, self.start, self.source, self.held = layout, start, source, held
        self.has_validation, self.name = held is not None, getattr(loss, "__name__", "loss")
        names, sizes = layout.names or ("x",), map(math.prod, layout.shapes)
        self.layers = consecutive(zip(names, sizes, strict=True))
        self._program = ValueAndGradient(loss)
        self._differs = False  # whether the gradient is made by differences
        self._fallen: Exception | None = None  # why, until a warning has said so
        self._notes: set[str] = set()  # of the differences that the user has read

    def twin(self, source: Source) -> FunctionModel:
        """Return the same model at its start, with other data."""
        return FunctionModel(self.loss, self.layout, self.start, source, None)

    def data(self, batch: tuple[Any, ...], t: int) -> tuple[Array, ...]:
        return tuple([a if type(a) is np.ndarray else np.asarray(a) for a in batch])

    def samples(self, batch: tuple[Any, ...]) -> float:
        return weight(batch)

    def full_loss_and_gradient(self, params: FloatArray, model_state: FloatArray | None) -> tuple[float, FloatArray]:
        fun, total, g = 0.0, 0.0, np.zeros(params.size)
        for data, size in self._batches():
            value, slopes = self._value_and_gradient(params, data)
            fun, total = fun + size * value, total + size
            g += size * slopes
        return fun / total, (g / total).astype(params.dtype)

    def full_loss(self, params: FloatArray, model_state: FloatArray | None, least: float) -> float:
        with np.errstate(all="ignore"):
            return weighted_mean(
                (float(as_scalar(self.loss(self.layout.copy(params), *data))), size) for data, size in self._batches()
            )

    def _batches(self) -> Iterator[tuple[tuple[Array, ...], float]]:
        """Yield the arrays and the weight of each batch of all the data."""
        return ((self.data(batch, 0), weight(batch)) for batch in BatchIterator(self.source.epoch).all())

    def _value_and_gradient(self, params: FloatArray, data: tuple[Any, ...]) -> tuple[float, FloatArray]:
        if not self._differs:
            try:
                return self._program(self.layout.copy(params), *data)
            except TraceError as error:
                self.by_differences(error)
        return self._differences(params, data)[:2]

    def by_differences(self, error: Exception) -> Differences:
        self._differs = True
        self._fallen = error
        return self._differences

    def _differences(self, params: FloatArray, data: tuple[Any, ...]) -> tuple[float, FloatArray, int]:
        """Return the loss, its gradient by differences, and how many evaluations that took."""

        def loss(p: Any) -> Any:
            return self.loss(p, *data)

        with np.errstate(all="ignore"):
            fun = as_scalar(loss(self.layout.copy(params)))
            if not np.isfinite(fun):  # differences around such a point are wasted
                return float(fun), np.full_like(params, np.nan), 1
            g, _, _, evaluations = difference_gradient(loss, self.layout, params, "adaptive", fun=fun, tell=self._note)
        if self._fallen is not None:
            error, self._fallen = self._fallen, None
            warn(FallbackWarning(error, 1 + evaluations))
        return float(fun), g.astype(params.dtype), 1 + evaluations

    def _note(self, matter: str, sentence: str) -> None:
        """Pass on what differences say of themselves, each matter once in a training."""
        if matter not in self._notes:
            self._notes.add(matter)
            warn(GradientWarning(f"the gradient of {self.name} by differences: {sentence}"))

    def validate(self, params: FloatArray, model_state: FloatArray | None) -> tuple[float, float | None] | None:
        if self.held is None:
            return None
        value = np.asarray(self.loss(self.layout.copy(params), *self.held))
        if value.size != 1:
            raise FunctionError(f"{self.name} must return one number, it returned an array of shape {value.shape}")
        return float(value.reshape(())), None

    def load(self, params: FloatArray, model_state: FloatArray | None) -> None:
        pass

    def after_callback(self, params: FloatArray) -> FloatArray:
        return params

    def explain_failure(self, params: FloatArray, model_state: FloatArray | None, data: tuple[Any, ...]) -> str:
        return ""


class ValueAndGradient:
    """A loss of parameters and data with its flat gradient, as backpropagation gives it: training has compared it with
    differences already."""

    def __init__(self, loss: Callable[..., Any]) -> None:
        self.paths = Paths(loss, GRADIENT, scalar=False)

    def __call__(self, params: Any, *data: Any) -> tuple[float, FloatArray]:
        leaves = Leaves.of(self.paths.f, (params, *data), {}, [0])
        value, *slopes = self.paths.run(leaves)
        path = self.paths.newest(leaves.form)
        if path is not None and path.recorded.leaves.values:  # these arrays need not stay
            path.recorded = path.recorded._replace(leaves=leaves._replace(values=()))
        return float(value), np.concatenate([np.ravel(part) for part in slopes])


def weighted_mean(parts: Iterable[tuple[float, float]]) -> float:
    """Return the mean of values that come with their weights."""
    total, weights = 0.0, 0.0
    for value, each in parts:
        total, weights = total + each * value, weights + each
    return total / weights


def consecutive(sizes: Iterable[tuple[str, int]]) -> list[tuple[str, int, int]]:
    """Return (name, start, stop) of parts of these sizes that are stored one after another."""
    parts, start = [], 0
    for name, size in sizes:
        parts.append((name, start, start + size))
        start += size
    return parts
