"""Network: layers and a loss, trained by the one loop."""

from __future__ import annotations

import copy
import math
import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any, Literal, Never, TypeAlias

import numpy as np
import numpy.typing as npt

from koubai.derivatives.check import GradientCheck, check_gradient
from koubai.derivatives.gradient import Differentiated
from koubai.descent.batches import GatheredBatches, array_of_samples, check_finite, chunks
from koubai.descent.default import AUTO, named
from koubai.descent.loop import drive
from koubai.descent.optimizers import Optimizer
from koubai.descent.record import Call, Run
from koubai.descent.training import Epoch, Progress, Training, with_rate_before
from koubai.errors import InputError, UnknownNameError
from koubai.nn import layers as known_layers
from koubai.nn import losses as known_losses
from koubai.nn.files import load_network, save_network
from koubai.nn.layer import Layer, Weights, fitting, layer_by_layer
from koubai.nn.losses import Loss, hits
from koubai.nn.model import NetworkModel, NetworkPrograms
from koubai.nn.settings import Configurable
from koubai.nn.sources import (
    CheckedBatches,
    arrays_or_batches,
    class_weighted,
    held_back,
    mean_weight,
    scaled,
)
from koubai.parameters import FloatArray, Layout, check_whole

__all__ = ["Epoch", "Evaluation", "Network"]

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Evaluation:
    """The performance of a network on data.

    Attributes
    ----------
    loss : float
        The mean loss.
    accuracy : float or None
        The share classified rightly; None if there are no classes.
    samples : int
        How many.
    """

    loss: float
    accuracy: float | None
    samples: int


class Network(Configurable):
    """Network: layers one after another, and the loss that training makes small.

        network = kb.nn.Network([kb.nn.Dense(64), kb.nn.ReLU(), kb.nn.Dense(10)], kb.nn.CrossEntropy())
        run = network.fit(X, y, "adam", epochs=20, validation=0.2)

    Shapes are inferred from the first batch, or by `build`. ``params`` is a dict of the arrays "0.W", "0.b", …, all of
    them views into the one flat ``vector``; to set one, before `build` or after, sets the weights of the network and of
    its layer. ``state`` is what layers carry besides, such as running means.

    Parameters
    ----------
    layers : list of Layer
        Each in one network only.
    loss : Loss
        What training makes small.
    seed : int, default 0
        Of the first weights, the order of the samples and the noise; the same seed gives the same bits.
    dtype : dtype, default float32
        float32 or float64.
    l1, l2 : float, default 0.0
        Penalties added to the loss, l1 Σ|W| + l2 Σ W² over the arrays that are named W (weights, not biases), as in
        Keras; PyTorch's weight_decay is 2 l2 on all.

    Raises
    ------
    InputError
        For layers or settings that can't be used.

    Examples
    --------
    >>> X, y = nn.moons(200)
    >>> network = nn.Network([nn.Dense(16), nn.Tanh(), nn.Dense(2)], nn.CrossEntropy(), seed=0)
    >>> run = network.fit(X, y, kb.Adam(lr=0.05), epochs=30)
    >>> network.score(X, y) > 0.95
    True
    """

    closed = False
    programs: NetworkPrograms | None = None  # if no other network may share them

    def __init__(
        self,
        layers: Sequence[Layer],
        loss: Loss,
        *,
        seed: int = 0,
        dtype: npt.DTypeLike = np.float32,
        l1: float = 0.0,
        l2: float = 0.0,
    ) -> None:
        if isinstance(layers, str | Layer) or not isinstance(layers, Iterable):
            hint = ", as kb.nn.parse_layers makes one of text" if isinstance(layers, str) else ""
            raise InputError(f"layers must be a list of Layer objects{hint}; got {layers!r}")
        self.layers = tuple(layers)
        if not self.layers:
            raise InputError("layers is empty; a network needs at least one")
        for i, layer in enumerate(self.layers):
            if isinstance(layer, type) or not isinstance(layer, Layer):
                hint = f"; write {layer.__name__}()" if isinstance(layer, type) else ""
                raise InputError(f"layers[{i}] must be a Layer, got {layer!r}{hint}")
            if any(layer is other for other in self.layers[:i]):
                raise InputError(f"layers[{i}] ({layer.name}) is in the network twice; make another one")
        if isinstance(loss, type) or not isinstance(loss, Loss):
            hint = f"; write {loss.__name__}()" if isinstance(loss, type) else ", such as kb.nn.CrossEntropy()"
            raise InputError(f"loss must be a Loss, got {loss!r}{hint}")
        check_whole(seed, 0, "seed")
        try:
            self.dtype = np.dtype(dtype)
        except TypeError:
            self.dtype = np.dtype(object)
        if self.dtype not in (np.float32, np.float64):
            raise InputError(f"dtype must be float32 or float64, got {dtype!r}")
        for name, value in (("l1", l1), ("l2", l2)):
            if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < math.inf:
                raise InputError(f"{name} must be a finite number ≥ 0, got {value!r}")
        for last, taking in (
            (known_layers.Softmax, known_losses.CrossEntropy),
            (known_layers.Sigmoid, known_losses.BinaryCrossEntropy),
        ):
            if isinstance(self.layers[-1], last) and isinstance(loss, taking):
                raise InputError(
                    f"{loss.name} takes the numbers before {self.layers[-1].name}, and applies it itself: leave the "
                    "last layer out; predict_proba gives the probabilities"
                )
        self._loss = loss
        self.seed = int(seed)
        self.l1, self.l2 = float(l1), float(l2)
        self.input_shape: tuple[int, ...] | None = None
        self.output_shapes: list[tuple[int, ...]] = []
        self._params: dict[str, Any] = {}
        self._progress: Progress | None = None  # of the last training, if it ended with an epoch

    def setting(self, name: str) -> Any:
        return self._loss if name == "loss" else self.__dict__[name]

    def allows(self, made: Any, name: str) -> bool:
        return name in ("l1", "l2", "seed")

    # -- building -----------------------------------------------------------------------------------------------------

    def build(self, input_shape: Sequence[int]) -> Network:
        """Make the weights for samples of this shape, without the batch axis. Raises InputError naming the layer."""
        try:
            shape = tuple([int(n) for n in map(operator.index, input_shape)])
        except TypeError:
            shape = (0,)
        if any(n < 1 for n in shape):
            raise InputError(
                f"input_shape must be the shape of one sample, whole numbers ≥ 1 such as (64,), got {input_shape!r}"
            )
        input_shape = shape
        self._pass_on()
        rng = np.random.default_rng(self.seed)
        shapes = []
        for i, layer in enumerate(self.layers):
            if layer.input_shape is not None and layer.input_shape != shape:
                raise InputError(
                    f"layer {i} {layer.name} was built before, for samples of shape {layer.input_shape}; here they "
                    f"have {shape}: make another one"
                )
            try:
                if layer.input_shape is None:
                    layer.build(shape, rng, self.dtype)
                shape = tuple(layer.output_shape(shape))
            except InputError as error:
                raise InputError(f"layer {i}: {error}") from None
            shapes.append(shape)
        params = {f"{i}.{name}": a for i, layer in enumerate(self.layers) for name, a in layer.params.items()}
        if not params:
            raise InputError("the network has no parameters; give it a layer that learns, such as Dense(units)")
        state = {f"{i}.{name}": a for i, layer in enumerate(self.layers) for name, a in layer.state.items()}
        self.layout, self._vector = _flat(params, self.dtype)
        self.state_layout: Layout | None = None
        self.carried: FloatArray | None = None  # of the state, flat
        if state:
            self.state_layout, self.carried = _flat(state, self.dtype)
        self._show()
        self.input_shape, self.output_shapes = input_shape, shapes
        return self

    def _show(self) -> None:
        """Make the arrays of the network and of its layers views of the flat ones."""
        self._params = Weights(self.layout.view(self._vector))
        self.state: dict[str, FloatArray] = Weights(self.state_of(self.carried))
        for i, layer in enumerate(self.layers):
            params, state = (
                {name: arrays[f"{i}.{name}"] for name in own}
                for arrays, own in ((self._params, layer.params), (self.state, layer.state))
            )
            layer.lie_in(params, state)

    def _pass_on(self) -> None:
        """Give the layers the weights that were set before there were any."""
        for name, value in self._params.items():
            number, _, own = str(name).partition(".")
            if not number.isdecimal() or int(number) >= len(self.layers):
                raise InputError(f"there is no {name!r} among the weights: give 'layer.array', as in '0.W'")
            try:
                self.layers[int(number)].params[own] = value
            except InputError as error:
                raise InputError(f"layer {number}: {error}") from None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple([f"{i} {layer.name}" for i, layer in enumerate(self.layers)])

    @property
    def params(self) -> dict[str, Any]:
        return self._params

    @params.setter
    def params(self, params: Mapping[str, Any]) -> None:
        self.set_params(params)

    @property
    def vector(self) -> FloatArray:
        self._built("vector")
        return self._vector

    @vector.setter
    def vector(self, vector: Any) -> None:
        self.vector[...] = fitting(vector, self.vector.shape, self.dtype, "vector")

    def set_params(self, params: Mapping[str, Any]) -> Network:
        """Set the weights that ``params`` names, as in {"0.W": W, "0.b": b}; the others stay as they are.

        Raises InputError, with nothing set, for a name that is not there, another shape, or numbers that are not
        finite; before the network is built, `build` does.
        """
        if not isinstance(params, Mapping):
            raise InputError(
                f"params must be a dict of arrays by name, as in {{'0.W': W}}, got {type(params).__name__}"
            )
        self._params.update(params)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a copy: all but programs, which it makes again, and where the last training ended."""
        return self.__dict__ | {"programs": None, "_progress": None}

    def without_arrays(self) -> Network:
        """Return a copy that has the settings and the names of the arrays, and nothing else."""
        twin = object.__new__(type(self))
        layers = tuple(layer.without_arrays() for layer in self.layers)
        twin.__dict__.update(self.__getstate__() | {"layers": layers, "_loss": copy.copy(self._loss), "carried": None})
        twin._params, twin.state = {}, {}
        del twin._vector
        return twin

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.input_shape is not None:
            self._show()

    def state_of(self, carried: Any) -> dict[str, Any]:
        """Show the flat state as a dict of its arrays."""
        return {} if self.state_layout is None else self.state_layout.view(carried)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self.output_shapes[-1]

    def _built(self, what: str) -> None:
        if self.input_shape is None:
            raise InputError(f"{what} needs the weights: call fit, or build(input_shape), before")

    def summary(self) -> str:
        """Return a table of the layers with their output shapes and numbers of parameters."""
        self._built("summary")
        rows = [("layer", "output", "parameters")]
        for name, layer, shape in zip(self.names, self.layers, self.output_shapes, strict=True):
            rows.append((name, "×".join(map(str, shape)), f"{sum(a.size for a in layer.params.values()):,}"))
        rows.append(("total", "", f"{self.layout.size:,}"))
        widths = [max(len(row[k]) for row in rows) for k in range(3)]
        lines = [f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows]
        rule = "─" * len(lines[0])
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])

    def __repr__(self) -> str:
        return f"Network([{', '.join(layer.name for layer in self.layers)}], {self._loss.name})"

    # -- what the network computes ------------------------------------------------------------------------------------

    def apply(
        self,
        params: Mapping[str, Any],
        x: Any,
        state: Mapping[str, Any],
        *,
        train: bool,
        noise: Mapping[int, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Return (outputs, new state): a pure function of plain NumPy, traced and differentiated by the engine."""
        after: dict[str, Any] = {}
        passed = x, after
        for passed in layer_by_layer(self.layers, params, x, state, train=train, noise=noise or {}):
            after |= passed[1]
        return passed[0], after

    def penalty(self, params: Mapping[str, Any]) -> Any:
        """Return l1 Σ|W| + l2 Σ W²."""
        total: Any = 0.0
        for name, value in params.items():
            if name.endswith(".W"):
                if self.l1:
                    total = total + self.l1 * np.sum(np.abs(value))
                if self.l2:
                    total = total + self.l2 * np.sum(np.square(value))
        return total

    def __call__(self, X: Any) -> Array:
        return self.outputs(X)

    def outputs(self, X: Any) -> Array:
        """Return the outputs of the last layer for the samples X: for losses over classes, the logits."""
        X = self._samples(X)
        return np.concatenate([self._forward(X[part]) for part in chunks(len(X))])

    def _forward(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.ascontiguousarray(self.apply(self.params, self.cast(x), self.state, train=False)[0])

    def activations(self, X: Any) -> dict[str, Array]:
        """Return the outputs of every layer for the samples X, in order, by the layer's name."""
        x = self.cast(self._samples(X))
        through = layer_by_layer(self.layers, self.params, x, self.state, train=False, noise={})
        with np.errstate(all="ignore"):
            return {name: np.ascontiguousarray(y) for name, (y, _) in zip(self.names, through, strict=True)}

    def predict(self, X: Any) -> Array:
        """Return what the network says of the samples X: the class of each, or the numbers."""
        return np.asarray(self._loss.predict(self.outputs(X)))

    def predict_proba(self, X: Any) -> Array:
        """Return the probabilities of the classes. Raises InputError for a loss that knows no classes."""
        return np.asarray(self._loss.proba(self.outputs(X)))

    def loss(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the mean loss over the samples, penalties included, as in prediction (no dropout)."""
        return self.measured(*self._pair(X, y), self._weights(sample_weight, len(X)))[0]

    def evaluate(self, X: Any, y: Any) -> Evaluation:
        """Return the mean loss and the accuracy over the samples."""
        X, y = self._pair(X, y)
        return Evaluation(*self.measured(X, y, None)[:2], len(X))

    def score(self, X: Any, y: Any) -> float:
        """Return the accuracy, the share of samples classified rightly; for numbers R² = 1 − Σ(y − ŷ)² / Σ(y − ȳ)²."""
        X, y = self._pair(X, y)
        outputs = self.outputs(X)
        if self._loss.classifies:
            return float(np.mean(hits(self._loss, outputs, y)))
        y, outputs = np.asarray(y, np.float64).reshape(len(y), -1), np.asarray(outputs, np.float64).reshape(len(y), -1)
        left, spread = np.square(y - outputs).sum(axis=0), np.square(y - y.mean(axis=0)).sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(spread > 0, 1.0 - left / spread, np.where(left > 0, 0.0, 1.0))
        return float(share.mean())

    def gradient(self, X: Any, y: Any, sample_weight: Any = None) -> dict[str, FloatArray]:
        """Return the gradient of `loss` in the form of params, by backpropagation."""
        X, y = self._pair(X, y)
        groups = [(X, y, self._weights(sample_weight, len(X)))]
        _, g = NetworkPrograms.of(self).loss_and_gradient(self, groups)
        return self.layout.view(g)  # type: ignore[no-any-return]

    def check_gradient(self, X: Any, y: Any, *, seed: int = 0) -> GradientCheck:
        """Check backpropagation against differences at the present weights, in float64; wrong components are named by
        layer and index, as "0.W[3, 1]".

        Cheap for a few samples only: differences evaluate the loss many times.
        """
        X, y = self._pair(X, y)
        params = {name: np.asarray(value, np.float64) for name, value in self.params.items()}
        state = {name: np.asarray(value, np.float64) for name, value in self.state.items()}
        x = X if X.dtype.kind in "iu" else np.asarray(X, np.float64)

        def loss(params: Any, x: Any, y: Any, state: Any) -> Any:
            outputs, _ = self.apply(params, x, state, train=False)
            return self._loss(outputs, y) + self.penalty(params)

        _, g = Differentiated(loss, 0, "backprop")(params, x, y, state)
        return check_gradient(lambda p: loss(p, x, y, state), g, params, seed=seed)

    def measured(self, X: Array, y: Array, weights: Array | None) -> tuple[float, float | None, float]:
        """Return mean loss, accuracy and weight of samples that were checked, in evaluation mode, a chunk at a time."""
        loss, right, total = 0.0, 0.0, 0.0
        for part in chunks(len(X)):
            outputs, targets = self._forward(X[part]), y[part]
            w = None if weights is None else weights[part]
            if self._loss.classifies:
                right += float(hits(self._loss, outputs, targets).sum())
            if not (size := float(self._loss.total_weight(targets, w))):
                continue
            with np.errstate(all="ignore"):
                loss += size * float(self._loss(outputs, targets, w))
            total += size
        mean = loss / total if total else 0.0
        return mean + float(self.penalty(self.params)), right / len(X) if self._loss.classifies else None, total

    # -- data ---------------------------------------------------------------------------------------------------------

    def _samples(self, X: Any) -> Array:
        """Return X as an array of samples of the network's shape, all finite. Raises InputError if it is not."""
        self._built("this")
        samples = array_of_samples(X, "X")
        self._check_samples(samples)
        return samples

    def _check_samples(self, X: Array, what: str = "X") -> None:
        first = self.layers[0]
        if X.dtype.kind not in "fiub":
            raise InputError(f"{what} must hold real numbers, got {X.dtype}")
        if not X.size:
            raise InputError(f"{what} is empty (shape {X.shape}); give at least one sample")
        if self.input_shape is None:
            if X.ndim < 2 and not first.takes_integers:
                raise InputError(
                    f"{what} has shape {X.shape}; axis 0 must be the samples: X[:, None] for one feature a sample, "
                    "X[None] for one sample"
                )
            self.build(X.shape[1:])
        elif X.shape[1:] != self.input_shape:
            raise InputError(
                f"{what} has samples of shape {X.shape[1:]}, but layer 0 {first.name} was built for {self.input_shape}"
            )
        check_finite(X, what, self.dtype)
        first.check(X)

    def _pair(self, X: Any, y: Any) -> tuple[Array, Array]:
        """Return X and y, checked."""
        X = self._samples(X)
        return X, self._targets(X, y)

    def _targets(self, X: Array, y: Any, what: str = "y") -> Array:
        if y is None:
            raise InputError(f"{what} is missing: give what the network should put out for X")
        if len(X) != len(given := array_of_samples(y, what)):
            raise InputError(f"X has {len(X)} samples, {what} has {len(given)}; they must be equally many")
        y = np.asarray(self._loss.check(self.output_shape, given))
        check_finite(y, what, self.dtype)
        return np.asarray(y, self.dtype) if y.dtype.kind == "f" else y

    def _weights(self, weights: Any, samples: int, some: bool = True) -> Array | None:
        return None if weights is None else known_losses.sample_weights(weights, samples, self.dtype, some)

    def _batch(self, batch: Sequence[Any], what: str) -> tuple[Array, Array, Array | None]:
        """Return X, y and the weights of a batch that comes from elsewhere, checked and cast."""
        X = array_of_samples(batch[0], "X")
        self._check_samples(X, f"{what}: X")
        y = self._targets(X, batch[1])
        return self.cast(X), y, self._weights(batch[2], len(X), some=False) if len(batch) == 3 else None

    def cast(self, x: Array) -> Array:
        """Return samples in the network's precision, or as indices."""
        if x.dtype.kind in "iu" and self.layers[0].takes_integers:
            return x.astype(np.intp, copy=False)
        return np.asarray(x, self.dtype)

    # -- training -----------------------------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any = None,
        optimizer: Optimizer | str = AUTO,
        *,
        epochs: int = 10,
        batch_size: int = 32,
        validation: Any = None,
        patience: int | None = None,
        min_delta: float = 0.0,
        restore_best: bool | None = None,
        class_weight: Any = None,
        sample_weight: Any = None,
        gtol: float = 0.0,
        target: float | None = None,
        record: Literal["auto", "all", "off"] = "auto",
        progress: bool = False,
        checkpoint: Any = None,
        resume: str | os.PathLike[str] | bool | None = None,
        on_epoch: Callable[[Epoch], Any] | None = None,
        **unknown: Never,
    ) -> Run:
        """Fit: train the network on samples X and the outputs y that it should give for them, from its present weights.

            network.fit(X, y, "adam", epochs=1);  network.fit(X, y, "adam", epochs=1, resume=True)

        A training begins with the weights that the network has, but with the first order of the samples, the first
        noise, the start of the schedule and no momentum. resume=True goes on where the last `fit` of this network ended
        instead: two trainings of one epoch are then, bit for bit, one of two. The optimizer may be left out; its lr may
        be another one, and so may the data. Every epoch takes each sample once, in an order that follows from the
        network's seed. A loss or gradient that is not finite stops it before the weights are touched, naming the layer;
        the weights are then the last good ones.

        Parameters
        ----------
        X, y : arrays
            Or X alone, a `Batches` or `Stream` of (X, y), as `koubai.nn.batches` gives them, or a function of the epoch
            0, 1, … that gives batches.
        optimizer : Optimizer or str, default "auto"
            An object, its name, or "auto", Adam at its own rate; schedules that look at f see an epoch's (validation)
            loss.
        epochs : int, default 10
            How often each sample is taken.
        batch_size : int, default 32
            Samples of an update; the last batch has what is left.
        validation : (X, y) or float, optional
            Data held back, or the fraction of X to hold back (classes in equal shares).
        patience : int, optional
            Stop after so many epochs without a lower (validation) loss. The weights are then the best ones: those with
            the least validation loss, start included, which is run.best_fun; without validation, when best_fun is the
            loss over all the data, the best of the start, the end, and the end of the epoch with the least mean loss.
        min_delta : float, default 0.0
            Only a fall by more than this counts for patience, as in Keras.
        restore_best : bool, optional
            Whether the weights are the best ones at the end: always, never, or as patience says.
        class_weight : "balanced" or dict, optional
            "balanced" gives each class the same sum of weights; or label → weight.
        sample_weight : array, optional
            One number per sample. The mean is then Σ w l / Σ w over all the data, and a batch's loss Σ w l / (n · mean
            weight of the data): the size of the batches does not move the optimum. A constant rate ends in the noise of
            its last batches around it, the wider the smaller they are; a schedule that decays comes to rest there.
            Accuracies count every sample once.
        gtol, target : float, default 0.0, None
            Stop at an epoch's end if gradient or loss over all the data reach them.
        record : {"auto", "all", "off"}, default "auto"
            "auto" thins a long path, "all" keeps it; "off", the fastest, keeps neither the path nor what the gradients
            were like by the epoch.
        progress : bool, default False
            A bar on stderr.
        checkpoint : path or (path, every), optional
            A file, as `koubai.minimize` takes it.
        resume : bool or path, optional
            True: as above. Or a checkpoint, to go on from, bit for bit, with the data and arguments that it was written
            with, but for ``epochs``: with more of them a training that was over goes on as if it had been asked for
            them at once (its optimizer, schedule included, must be the same one).
        on_epoch : callable, optional
            Called with an `Epoch`; returning True stops. Weights that it sets are trained on from there.

        Returns
        -------
        Run
            history.epochs has loss, accuracy, validation and the layers' gradients by the epoch.

        Raises
        ------
        InputError
            For data and arguments that can't be used.

        Examples
        --------
        >>> X, y = nn.blobs(120)
        >>> network = nn.Network([nn.Dense(3)], nn.CrossEntropy())
        >>> run = network.fit(X, y, kb.Adam(lr=0.1), epochs=10, validation=0.25)
        >>> run.history.epochs.validation_fun.shape
        (10,)
        """
        if unknown:
            raise UnknownNameError.of_argument(self.fit, unknown)
        before = self._before(resume)
        if before is not None and isinstance(optimizer, str) and optimizer == AUTO:
            optimizer = before.optimizer or AUTO
        if resume is not None and resume is not False:
            optimizer = with_rate_before(named(optimizer, None, stochastic=True)[0], before, resume) or optimizer
        training = self.training(
            X, y, optimizer, batch_size, validation, class_weight, sample_weight,
            epochs=epochs, patience=patience, min_delta=min_delta, gtol=gtol, target=target, record=record,
            checkpoint=checkpoint, on_epoch=on_epoch,
        )  # fmt: skip
        if before is not None:
            training.continue_from(before)
        elif isinstance(resume, str | os.PathLike):
            training.resume_from(resume)
        training.descent.call = Call(
            partial(_fitted_again, self, None if self.carried is None else self.carried.copy()), self,
            training.descent.start.copy(), training.layout,
            {
                "X": X, "y": y, "optimizer": training.optimizer, "epochs": epochs, "batch_size": batch_size,
                "validation": validation, "patience": patience, "min_delta": min_delta, "restore_best": restore_best,
                "class_weight": class_weight, "sample_weight": sample_weight, "gtol": gtol, "target": target,
                "record": record,
            },
            training.model.source,  # type: ignore[attr-defined]
        )  # fmt: skip
        self._progress = None
        try:
            run = drive(training, None, progress)
            self._progress = training.progress()
            return run
        finally:
            training.commit(patience is not None if restore_best is None else restore_best)

    def _before(self, resume: Any) -> Progress | None:
        """Return how far the last training had come, if `fit` goes on from there. Raises InputError if it can't."""
        if not isinstance(resume, bool | str | os.PathLike | None):
            raise InputError(
                "resume must be the path of a checkpoint, or True, to go on from the last fit of this network; got "
                f"{'a Run' if isinstance(resume, Run) else repr(resume)}"
            )
        if resume is not True:
            return None
        if self._progress is None:
            raise InputError(
                "resume=True goes on from the last fit of this network, but there is none that ended with an epoch: "
                "leave it out, or give a checkpoint's file"
            )
        return self._progress

    def training(
        self,
        X: Any,
        y: Any,
        optimizer: Optimizer | str,
        batch_size: int = 32,
        validation: Any = None,
        class_weight: Any = None,
        sample_weight: Any = None,
        **options: Any,
    ) -> Training:
        """Check the arguments of `fit`; return the training, ready for its first step. options: as `fit` has them."""
        chosen, why = named(optimizer, None, stochastic=True)
        source, held = self._sources(X, y, batch_size, validation, class_weight, sample_weight)
        if self.input_shape is None:
            next(iter(source.epoch(0)))  # builds
        return Training.of(NetworkModel(self, source, held), source, chosen, why, seed=self.seed, **options)

    def _sources(
        self, X: Any, y: Any, batch_size: int, validation: Any, class_weight: Any, sample_weight: Any
    ) -> tuple[GatheredBatches | CheckedBatches, tuple[Array, Array] | None]:
        """Check the data; return what gives the batches to train on, and the data held back to validate on."""
        given, arrays, X, y = arrays_or_batches(X, y)
        if given is None:
            X = array_of_samples(X, "X")
            self._check_samples(X)
            y = self._targets(X, y)
            weights, held = self._weights(sample_weight, len(X)), None
            if isinstance(validation, Real) and not isinstance(validation, bool):
                if not 0 < float(validation) < 1:
                    raise InputError(
                        f"validation must be (X, y), None, or a fraction between 0 and 1; got {validation}"
                    )
                (X, y, weights), held = held_back(X, y, weights, float(validation), self.seed, self._loss)
            weights = class_weighted(class_weight, y, weights, self._loss, self.output_shape, self.dtype)
            mean = mean_weight(self._loss, [(y, weights)])
            weights = weights if mean is None else scaled(weights, len(y), mean, self.dtype)
            size, seed = (batch_size, self.seed) if arrays is None else (arrays.size, arrays.seed)
            gathered = GatheredBatches((X, y) if weights is None else (X, y, weights), size, seed, self.cast)
            return gathered, held or self._validation(validation)
        if class_weight is not None or sample_weight is not None or isinstance(validation, Real):
            raise InputError(
                "class_weight, sample_weight and a fraction as validation need X and y as arrays, not batches"
            )
        return CheckedBatches(given, self._batch, self._loss, self.dtype), self._validation(validation)

    def _validation(self, validation: Any) -> tuple[Array, Array] | None:
        """Return the data that were given to validate on, checked."""
        if validation is None:
            return None
        if not isinstance(validation, tuple) or len(validation) != 2:
            raise InputError(f"validation must be (X, y), a fraction or None, got {type(validation).__name__}")
        X = np.asarray(validation[0])
        self._check_samples(X, "validation X")
        return X, self._targets(X, validation[1], "validation y")

    # -- files --------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the network with its weights: an .npz file with a JSON header, whole or not at all; `load` reads it."""
        self._built("save")
        save_network(self, path)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], layers: Sequence[Layer] | None = None, loss: Loss | None = None
    ) -> Network:
        """Load a network that `save` wrote. layers, loss: new ones of the same kind, if they are your own classes.

        Raises InputError if the file is not a network, or layers are needed or do not fit.
        """
        return load_network(cls, path, layers, loss)


def _fitted_again(own: Network, state: FloatArray | None, network: Network, params: Any, **options: Any) -> Run:
    """Train a copy of a network: the ``own`` one from these parameters, another one from the weights that it has.

    state: what the network carried besides its parameters.
    """
    twin = copy.deepcopy(network)
    if network is own:
        twin.set_params(params)
        if state is not None:
            assert twin.carried is not None
            twin.carried[...] = state
    return twin.fit(**options)


def _flat(arrays: dict[str, Any], dtype: np.dtype[Any]) -> tuple[Layout, FloatArray]:
    layout = Layout(tuple(arrays), tuple(a.shape for a in arrays.values()), False, dtype)
    return layout, np.concatenate([np.ravel(a) for a in arrays.values()]).astype(dtype)
