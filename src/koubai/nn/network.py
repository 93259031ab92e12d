"""Network: layers and a loss, trained by the one loop; and `fit` for any function of parameters and data."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import math
import operator
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Literal, Never, TypeAlias

import numpy as np
import numpy.typing as npt

from koubai.derivatives.check import GradientCheck, check_gradient
from koubai.derivatives.differences import difference_gradient
from koubai.derivatives.gradient import Differentiated
from koubai.derivatives.nonfinite import GRADIENT
from koubai.derivatives.paths import Paths
from koubai.descent.default import AUTO, named
from koubai.descent.feed import Feed, weight
from koubai.descent.files import (
    Archive,
    ArraySpec,
    a_flag,
    a_list,
    a_mapping,
    a_number,
    a_record,
    a_text,
    a_whole,
    one_of,
    read_archive,
    write_archive,
)
from koubai.descent.loop import drive
from koubai.descent.optimizers import Optimizer
from koubai.descent.record import Run
from koubai.descent.training import Epoch, Progress, Training
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
from koubai.graph.mirror import mirrored
from koubai.nn import layers as known_layers
from koubai.nn import losses as known_losses
from koubai.nn.data import Batches, batches, check_whole, split
from koubai.nn.layers import Layer, Weights, fitting
from koubai.nn.losses import Loss
from koubai.nn.settings import Settled
from koubai.parameters import FloatArray, Layout, Parameters, as_scalar, flatten

__all__ = ["Epoch", "Evaluation", "MappedRows", "Network", "NetworkModel", "fit"]

Array: TypeAlias = npt.NDArray[Any]
CHUNK = 1024  # samples a pass where nothing is learned


@dataclass(frozen=True)
class Evaluation:
    """How well a network does on data.

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


class Network(Settled):
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
                raise InputError(f"layers[{i}] ({layer.name}) stands in the network twice; make another one")
        if isinstance(loss, type) or not isinstance(loss, Loss):
            hint = f"; write {loss.__name__}()" if isinstance(loss, type) else ", such as kb.nn.CrossEntropy()"
            raise InputError(f"loss must be a Loss, got {loss!r}{hint}")
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise InputError(f"seed must be a whole number ≥ 0, got {seed!r}")
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
        self._kind: _Kind | None = None  # where its programs are, if no other network may share them
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
        """Let the arrays of the network and of its layers be views of the flat ones."""
        self._params = Weights(self.layout.view(self._vector))
        self.state: dict[str, FloatArray] = Weights(self.state_of(self.carried))
        for i, layer in enumerate(self.layers):
            params, state = (
                {name: arrays[f"{i}.{name}"] for name in own}
                for arrays, own in ((self._params, layer.params), (self.state, layer.state))
            )
            layer.lie_in(params, state)

    def _pass_on(self) -> None:
        """Let the layers have the weights that were set before there were any."""
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
        """What a copy gets: all but programs, which it makes anew, and where the last training ended."""
        return self.__dict__ | {"_kind": None, "_progress": None}

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
        for i, layer in enumerate(self.layers):
            x, own = self._layer(i, layer, params, x, state, train, noise or {})
            after |= {f"{i}.{name}": value for name, value in own.items()}
        return x, after

    @staticmethod
    def _layer(
        i: int,
        layer: Layer,
        params: Mapping[str, Any],
        x: Any,
        state: Mapping[str, Any],
        train: bool,
        noise: Mapping[int, Any],
    ) -> tuple[Any, Any]:
        own = {name: params[f"{i}.{name}"] for name in layer.params}
        carried = {name: state[f"{i}.{name}"] for name in layer.state}
        return mirrored(layer).apply(own, x, carried, train=train, noise=noise.get(i))  # type: ignore[no-any-return]

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
        return np.concatenate([self._forward(X[i : i + CHUNK]) for i in range(0, len(X), CHUNK)])

    def _forward(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.ascontiguousarray(self.apply(self.params, self._cast(x), self.state, train=False)[0])

    def activations(self, X: Any) -> dict[str, Array]:
        """Return the outputs of every layer for the samples X, in order, by the layer's name."""
        x: Any = self._cast(self._samples(X))
        found = {}
        with np.errstate(all="ignore"):
            for i, (name, layer) in enumerate(zip(self.names, self.layers, strict=True)):
                x, _ = self._layer(i, layer, self.params, x, self.state, False, {})
                found[name] = np.ascontiguousarray(x)
        return found

    def predict(self, X: Any) -> Array:
        """Return what the network says of the samples X: the class of each, or the numbers."""
        return np.asarray(self._loss.predict(self.outputs(X)))

    def predict_proba(self, X: Any) -> Array:
        """Return the probabilities of the classes. Raises InputError for a loss that knows no classes."""
        return np.asarray(self._loss.proba(self.outputs(X)))

    def loss(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the mean loss over the samples, penalties included, as in prediction (no dropout)."""
        return self._evaluated(*self._pair(X, y), self._weights(sample_weight, len(X)))[0]

    def evaluate(self, X: Any, y: Any) -> Evaluation:
        """Return the mean loss and the accuracy over the samples."""
        X, y = self._pair(X, y)
        return Evaluation(*self._evaluated(X, y, None)[:2], len(X))

    def score(self, X: Any, y: Any) -> float:
        """Return the accuracy, the share of samples classified rightly; for numbers R² = 1 − Σ(y − ŷ)² / Σ(y − ȳ)²."""
        X, y = self._pair(X, y)
        outputs = self.outputs(X)
        if self._loss.classifies:
            return float(np.mean(self._right(outputs, y)))
        y, outputs = np.asarray(y, np.float64).reshape(len(y), -1), np.asarray(outputs, np.float64).reshape(len(y), -1)
        left, spread = np.square(y - outputs).sum(axis=0), np.square(y - y.mean(axis=0)).sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(spread > 0, 1.0 - left / spread, np.where(left > 0, 0.0, 1.0))
        return float(share.mean())

    def gradient(self, X: Any, y: Any, sample_weight: Any = None) -> dict[str, FloatArray]:
        """Return the gradient of `loss` in the form of params, by backpropagation."""
        X, y = self._pair(X, y)
        _, g = self._whole(((X, y, self._weights(sample_weight, len(X))),))
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

    def _evaluated(self, X: Array, y: Array, weights: Array | None) -> tuple[float, float | None, float]:
        """Return mean loss, accuracy and weight of the samples, in evaluation mode, a chunk at a time."""
        loss, right, total = 0.0, 0.0, 0.0
        for i in range(0, len(X), CHUNK):
            part = slice(i, i + CHUNK)
            outputs, targets = self._forward(X[part]), y[part]
            w = None if weights is None else weights[part]
            if self._loss.classifies:
                right += float(self._right(outputs, targets).sum())
            if not (size := float(self._loss.total_weight(targets, w))):
                continue
            with np.errstate(all="ignore"):
                loss += size * float(self._loss(outputs, targets, w))
            total += size
        mean = loss / total if total else 0.0
        return mean + float(self.penalty(self.params)), right / len(X) if self._loss.classifies else None, total

    def _right(self, outputs: Any, y: Any) -> Any:
        """Return for each sample the share of its answers that are right."""
        said = self._loss.predict(outputs)
        if y.ndim == 2 and said.ndim == 1 and y.shape[1] > 1:
            y = np.argmax(y, axis=1)  # rows of probabilities
        hits = said == (y.reshape(said.shape) if y.dtype.kind in "iub" else y.reshape(said.shape) > 0.5)
        return hits if hits.ndim == 1 else np.mean(hits.reshape(hits.shape[0], -1), axis=1)

    def _whole(self, groups: Iterable[tuple[Any, ...]], kind: _Kind | None = None) -> tuple[float, FloatArray]:
        """Return loss and flat gradient over all samples of the groups, in evaluation mode."""
        program = (kind or _Kind.of(self)).whole
        fun, total = 0.0, 0.0
        g = np.zeros(self.layout.size, np.float64)
        for X, y, weights in groups:
            for i in range(0, len(X), CHUNK):
                part = slice(i, i + CHUNK)
                w = None if weights is None else weights[part]
                if not (size := float(self._loss.total_weight(y[part], w))):
                    continue
                value, slopes = program(dict(self.params), self._cast(X[part]), y[part], w, dict(self.state))
                fun, total = fun + size * value, total + size
                g += size * slopes
        fun, g = fun / total, g / total
        for name, part_of_g in self.layout.view(g).items():
            if name.endswith(".W"):
                part_of_g += self.l1 * np.sign(self.params[name]) + 2.0 * self.l2 * self.params[name]
        return fun + float(self.penalty(self.params)), g.astype(self.dtype)

    # -- data ---------------------------------------------------------------------------------------------------------

    def _samples(self, X: Any) -> Array:
        """Return X as an array of samples of the network's shape, all finite. Raises InputError where it is not."""
        self._built("this")
        samples = _array(X, "X")
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
        _check_finite(X, what, self.dtype)
        first.check(X)

    def _pair(self, X: Any, y: Any) -> tuple[Array, Array]:
        """Return X and y, checked."""
        X = self._samples(X)
        return X, self._targets(X, y)

    def _targets(self, X: Array, y: Any, what: str = "y") -> Array:
        if y is None:
            raise InputError(f"{what} is missing: give what the network should put out for X")
        if len(X) != len(given := _array(y, what)):
            raise InputError(f"X has {len(X)} samples, {what} has {len(given)}; they must be equally many")
        y = np.asarray(self._loss.check(self.output_shape, given))
        _check_finite(y, what, self.dtype)
        return np.asarray(y, self.dtype) if y.dtype.kind == "f" else y

    def _weights(self, weights: Any, samples: int, some: bool = True) -> Array | None:
        return None if weights is None else known_losses.sample_weights(weights, samples, self.dtype, some)

    def _cast(self, x: Array) -> Array:
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
        """Fit: train the network on samples X and what it should put out for them, y; learn from where it stands.

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
            the least validation loss, start included, which is run.best_fun; without validation, where best_fun is the
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
        if not isinstance(resume, bool | str | os.PathLike | None):
            raise InputError(
                "resume must be the path of a checkpoint, or True, to go on from the last fit of this network; got "
                f"{'a Run' if isinstance(resume, Run) else repr(resume)}"
            )
        goes_on = isinstance(resume, bool) and resume
        if goes_on and self._progress is None:
            raise InputError(
                "resume=True goes on from the last fit of this network, but there is none that ended with an epoch: "
                "leave it out, or give a checkpoint's file"
            )
        if goes_on and self._progress is not None and isinstance(optimizer, str) and optimizer == AUTO:
            optimizer = self._progress.optimizer or AUTO
        training = self._training(
            X, y, optimizer, batch_size, validation, class_weight, sample_weight,
            epochs=epochs, patience=patience, min_delta=min_delta, gtol=gtol, target=target, record=record,
            checkpoint=checkpoint, on_epoch=on_epoch,
        )  # fmt: skip
        if goes_on and self._progress is not None:
            training.go_on(self._progress)
        elif resume is not None and not isinstance(resume, bool):
            training.take_up(resume)
        self._progress = None
        try:
            run = drive(training, None, progress)
            self._progress = training.progress()
            return run
        finally:
            training.publish(patience is not None if restore_best is None else restore_best)

    def _training(
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
        """Check every argument of `fit`; return the training, ready for its first step. options: of `Training.of`."""
        chosen, why = named(optimizer, None, stochastic=True)
        source, given, X, y = _source(X, y)
        weights, held = None, False
        if source is None:
            X = _array(X, "X")
            self._check_samples(X)
            y = self._targets(X, y)
            weights = self._weights(sample_weight, len(X))
            if isinstance(validation, Real) and not isinstance(validation, bool):
                if not 0 < float(validation) < 1:
                    raise InputError(
                        f"validation must be (X, y), None, or a fraction between 0 and 1; got {validation}"
                    )
                (X, y, weights), validation = self._held_back(X, y, weights, float(validation))
                held = True
            weights = self._balanced(class_weight, y, weights)
            mean = self._mean_weight([(y, weights)])
            weights = weights if mean is None else self._scaled(weights, len(y), mean)
            size, seed = (batch_size, self.seed) if given is None else (given.size, given.seed)
            source = _Ordered((X, y) if weights is None else (X, y, weights), size, seed, self._cast)
        elif class_weight is not None or sample_weight is not None or isinstance(validation, Real):
            raise InputError(
                "class_weight, sample_weight and a fraction as validation need X and y as arrays, not batches"
            )
        else:
            source = _Checked(source, self)
        if validation is not None and not held:
            if not isinstance(validation, tuple) or len(validation) != 2:
                raise InputError(f"validation must be (X, y), a fraction or None, got {type(validation).__name__}")
            validation = (np.asarray(validation[0]), validation[1])
            self._check_samples(validation[0], "validation X")
            validation = validation[0], self._targets(validation[0], validation[1], "validation y")
        if self.input_shape is None:
            next(iter(source.epoch(0)))  # builds
        model = NetworkModel(self, source, validation)
        return Training.of(model, source, chosen, why, seed=self.seed, **options)

    def _held_back(self, X: Array, y: Array, weights: Array | None, fraction: float) -> tuple[Any, Any]:
        """Return ((X, y, weights) to train on, (X, y) to validate on)."""
        rows = np.arange(len(X))
        of_one_class = self._loss.classifies and y.ndim == 1 and y.dtype.kind in "iu"
        if of_one_class:
            (kept, _), (held, _) = split(rows, y, fraction, self.seed, stratified=True)
        else:
            kept, held = split(rows, None, fraction, self.seed)
        part = functools.partial(MappedRows, X) if isinstance(X, np.memmap) else X.__getitem__
        return (part(kept), y[kept], None if weights is None else weights[kept]), (part(held), y[held])

    def _mean_weight(self, parts: Iterable[tuple[Array, Array | None]]) -> float | None:
        """Return the mean weight of the samples, of which ``parts`` are (y, weights); None where nothing weighs them.

        A batch's loss is the sum of its w l, divided by its samples times this: whatever the size of the batches, an
        epoch then goes down the one weighted mean of all the data, Σ w l / Σ w. Were each batch divided by its own
        weights, those of a batch of one would have no effect.
        """
        total, samples = 0.0, 0
        for y, weights in parts:
            if weights is None and self._loss.class_weight is None:
                return None
            for i in range(0, len(y), CHUNK):
                part = slice(i, i + CHUNK)
                total += float(self._loss.total_weight(y[part], None if weights is None else weights[part]))
            samples += len(y)
        if not total > 0:
            raise InputError("no sample has a weight above 0: there is nothing to learn from")
        return total / samples

    def _scaled(self, weights: Array | None, samples: int, mean: float) -> Array:
        """Return weights whose mean over all the data is 1."""
        return np.asarray(np.full(samples, 1.0 / mean) if weights is None else weights / mean, self.dtype)

    def _balanced(self, class_weight: Any, y: Array, weights: Array | None) -> Array | None:
        """Return the samples' weights with those of their classes."""
        if class_weight is None:
            return weights
        if not self._loss.classifies:
            raise InputError(f"class_weight needs classes, but the loss is {self._loss.name}")
        if y.size == len(y):
            labels = y.reshape(len(y)) > 0.5 if y.dtype.kind == "f" else y.reshape(len(y))
        elif isinstance(self._loss, known_losses.BinaryCrossEntropy):
            raise InputError(
                f"class_weight needs one class a sample; {self._loss.name} asks {math.prod(y.shape[1:])} questions: "
                "weigh yes and no by BinaryCrossEntropy(class_weight=(no, yes))"
            )
        else:
            labels = np.argmax(y, axis=1)
        found, of, counts = np.unique(labels.astype(np.int64), return_inverse=True, return_counts=True)
        if isinstance(class_weight, str) and class_weight == "balanced":
            sums = counts if weights is None else np.bincount(of, weights)
            with np.errstate(divide="ignore"):
                each = np.where(sums > 0, sums.sum() / (len(found) * sums), 0.0)
        elif isinstance(class_weight, Mapping):
            unknown = set(class_weight) - set(range(max(int(found.max()) + 1, *self.output_shape, 2)))
            numbers = (int, float, np.integer, np.floating)
            if unknown or not all(isinstance(w, numbers) and 0 <= w < math.inf for w in class_weight.values()):
                raise InputError(f"class_weight must give labels 0, 1, … numbers ≥ 0, got {class_weight!r}")
            each = np.array([float(class_weight.get(int(label), 1.0)) for label in found])
        else:
            raise InputError(f'class_weight must be "balanced" or a dict of label → weight, got {class_weight!r}')
        together = each[of] * (1.0 if weights is None else weights)
        if not together.any():
            raise InputError(f"class_weight leaves no sample with a weight above 0: {class_weight!r}")
        return self._weights(together, len(y))

    # -- files --------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the network with its weights: an .npz file with a JSON header, whole or not at all; `load` reads it."""
        self._built("save")
        header = {
            "layers": [_described(layer) for layer in self.layers],
            "loss": _described(self._loss),
            "seed": self.seed,
            "dtype": self.dtype.name,
            "l1": self.l1,
            "l2": self.l2,
            "input_shape": self.input_shape,
        }
        arrays = {f"params.{name}": value for name, value in self.params.items()}
        write_archive(path, "network", header, arrays | {f"state.{name}": v for name, v in self.state.items()})

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], layers: Sequence[Layer] | None = None, loss: Loss | None = None
    ) -> Network:
        """Load a network that `save` wrote. layers, loss: new ones of the same kind, where they are your own classes.

        Raises InputError where the file is not a network, or layers are needed or do not fit.
        """
        archive = read_archive(path, "network", _HEADER)
        header, arrays = archive.header, archive.arrays
        own = layers is None
        if layers is None:
            layers = [_remade(archive, one, known_layers, "layers") for one in header["layers"]]
        loss = _remade(archive, header["loss"], known_losses, "loss") if loss is None else loss
        with archive.building() if own else contextlib.nullcontext():
            network = cls(layers, loss, seed=header["seed"], dtype=header["dtype"], l1=header["l1"], l2=header["l2"])
            shapes = {name: array.shape for name, array in arrays.items()}
            fits = network._has_shapes(header["input_shape"], shapes)
        if not fits:
            which = "" if own else " given"
            raise InputError(f"the layers{which} do not fit {str(path)!r}: it has {', '.join(sorted(shapes))[:200]}")
        with archive.building():
            archive.expect({name: _weights(name, shape, header["dtype"]) for name, shape in shapes.items()})
        network.build(header["input_shape"])
        for kind, arrays_of in (("params", network.params), ("state", network.state)):
            arrays_of.update({name: arrays[f"{kind}.{name}"] for name in arrays_of})
        return network

    def _has_shapes(self, input_shape: Sequence[int], shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Return whether the arrays of the layers have these shapes, by their names in a file, before any is made."""
        shape, found = tuple(input_shape), {}
        for i, layer in enumerate(self.layers):
            after = tuple(layer.output_shape(shape))
            own = type(layer).__module__ == known_layers.__name__
            made = layer.initial(shape, None if own else np.random.default_rng(0))
            for kind, arrays in zip(("params", "state"), made, strict=True):
                for name, value in arrays.items():
                    found[f"{kind}.{i}.{name}"] = np.shape(value)
                    if shapes.get(f"{kind}.{i}.{name}") != np.shape(value):
                        return False
            shape = after
        return found.keys() == shapes.keys()


class _ValueAndGradient:
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


def _flat(arrays: dict[str, Any], dtype: np.dtype[Any]) -> tuple[Layout, FloatArray]:
    layout = Layout(tuple(arrays), tuple(a.shape for a in arrays.values()), False, dtype)
    return layout, np.concatenate([np.ravel(a) for a in arrays.values()]).astype(dtype)


def _array(value: Any, name: str) -> Array:
    if value is None:
        raise InputError(f"{name} is missing: give an array of samples")
    if isinstance(value, Iterator):
        raise InputError(
            f"{name} is a {type(value).__name__}, which can be read only once: give a function of the epoch that makes "
            "one, of (X, y) batches"
        )
    try:
        array = value if isinstance(value, np.ndarray) else np.asarray(value)
    except ValueError as error:
        raise InputError(f"{name} is not an array of samples: {error}; every sample must have the same shape") from None
    if array.dtype == object:
        raise InputError(f"{name} has object dtype; every sample must have the same shape and hold numbers")
    if isinstance(array, np.ma.MaskedArray):
        raise InputError(f"{name} is a masked array; leave out the samples with masked entries and give its .data")
    if array.ndim == 0:
        raise InputError(f"{name} must be an array of samples, got {value!r}")
    return array


def _check_finite(X: Array, name: str, dtype: npt.DTypeLike = np.float64) -> None:
    """Raise InputError where a number is not finite, or too large for the precision that it will have."""
    if X.dtype.kind != "f":
        return
    for start in range(0, len(X), CHUNK):  # an array larger than memory is looked at in parts
        part = X[start : start + CHUNK]
        with np.errstate(over="ignore"):
            finite = np.isfinite(part.astype(dtype, copy=False))
        if not finite.all():
            at = np.argwhere(~finite)[0]
            shown = ", ".join(map(str, (start + at[0], *at[1:])))
            number = part[tuple(at)]
            if np.isfinite(number):
                raise InputError(f"{name}[{shown}] = {number} is too large for {np.dtype(dtype)}: scale the data")
            raise InputError(f"{name} must be finite, but {name}[{shown}] = {number}; leave such samples out")


def _described(thing: Layer | Loss) -> dict[str, Any]:
    """Return a layer or loss in JSON's types: its class and what it was made with."""
    given = {}
    for parameter in inspect.signature(type(thing).__init__).parameters.values():
        value = getattr(thing, parameter.name, None)
        if parameter.name not in ("self", "init") and value is not None:  # the initial weights are not needed again
            given[parameter.name] = value.tolist() if isinstance(value, np.ndarray) else value
    return {"class": type(thing).__name__, "given": given}


_GIVEN = {  # what koubai's layers and losses are made with
    **dict.fromkeys(("units", "filters", "count", "axes"), a_whole(1)),
    **dict.fromkeys(("size", "kernel", "stride", "padding"), lambda value, name: _wholes(value, name)),
    **dict.fromkeys(("slope", "p", "momentum", "eps", "delta", "label_smoothing"), a_number(0)),
    **dict.fromkeys(("bias", "approximate"), a_flag),
    "class_weight": a_list(a_number(0)),
}
_CLASS = a_record({"class": a_text, "given": a_mapping(lambda value, name: value)})
_HEADER = a_record(
    {
        "layers": a_list(_CLASS),
        "loss": _CLASS,
        "seed": a_whole(0, 2**255),
        "dtype": one_of("float32", "float64"),
        "l1": a_number(0),
        "l2": a_number(0),
        "input_shape": a_list(a_whole(1)),
    }
)


def _weights(name: str, shape: tuple[int, ...], dtype: str) -> ArraySpec:
    """Return what an array of a layer is in a file."""
    return ArraySpec(dtype, shape, finite=True, least=0.0 if name.endswith(".var") else -math.inf)


def _wholes(value: Any, name: str) -> Any:
    return a_list(a_whole(), 2)(value, name) if isinstance(value, list) else a_whole()(value, name)


def _remade(archive: Archive, saved: Mapping[str, Any], room: Any, argument: str) -> Any:
    cls = getattr(room, saved["class"], None) if saved["class"] in room.__all__ else None
    if not isinstance(cls, type) or not issubclass(cls, Layer | Loss):
        raise InputError(f"{saved['class']} is a class of your own: give {argument}= to load it")
    with archive.building():
        known = {name: _GIVEN[name] for name in inspect.signature(cls.__init__).parameters if name in _GIVEN}
        given = a_record({}, may=known)(saved["given"], f"{argument}: {saved['class']}")
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in given.items()})


# -- where batches come from ------------------------------------------------------------------------------------------


def _source(X: Any, y: Any) -> tuple[Any, Batches | None, Any, Any]:
    """Tell arrays from batches: return (source of batches or None, the batches that arrays came in, X, y)."""
    if not hasattr(X, "epoch") and not callable(X):
        return None, None, X, y
    if y is not None:
        raise InputError("where X gives batches, they hold y too: leave y out")
    if not isinstance(X, Batches):
        return (X if hasattr(X, "epoch") else _Function(X)), None, None, None
    if len(X.arrays) != 2:
        raise InputError("the batches have no y: make them with kb.nn.batches(X, y)")
    return None, X, *X.arrays  # arrays are looked at as any others


@dataclass(frozen=True)
class _Function:
    """A function of the epoch that gives batches."""

    epoch: Callable[[int], Iterable[Any]]


@dataclass(frozen=True)
class MappedRows:
    """Some rows of an array that is larger than memory, read when they are asked for."""

    array: Array
    rows: npt.NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.array.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def __getitem__(self, which: Any) -> Array:
        return np.asarray(self.array[self.rows[which]])


class _Ordered:
    """Batches of arrays in the order of `kb.nn.batches`, gathered into memory that is used again for the next batch."""

    def __init__(self, arrays: tuple[Any, ...], size: int, seed: int | None, cast: Callable[[Array], Array]) -> None:
        check_whole(size, 1, "batch_size")
        order = batches(np.arange(len(arrays[0])), size=size, seed=seed)
        assert isinstance(order, Batches)
        self.rows, self.size = order.rows, order.size
        self._order = np.empty(len(arrays[0]), np.intp)
        X, *rest = arrays
        if type(X) is np.ndarray:  # a memmap is read, and cast, a batch at a time
            X = cast(X)
        large = np.memmap | MappedRows
        self.arrays = tuple([a if isinstance(a, large) else np.ascontiguousarray(a) for a in (X, *rest)])
        rows = min(self.size, len(X))
        self._gathered = [np.empty((rows, *a.shape[1:]), a.dtype) for a in self.arrays]
        self._cast = np.empty((rows, *X.shape[1:]), cast(X[:0]).dtype)
        self._full = self._cut(rows)

    def epoch(self, k: int) -> Iterator[tuple[Any, ...]]:
        for chosen in self.rows(k, self._order):
            n = len(chosen)
            gathered, batch = self._full if n == self.size else self._cut(n)
            for a, out in zip(self.arrays, gathered, strict=True):
                if isinstance(a, np.ndarray) and a.flags.c_contiguous:
                    a.take(chosen, 0, out, "clip")  # "clip" only spares NumPy a copy: every row exists
                else:
                    out[...] = a[chosen]
            if batch[0] is not gathered[0]:
                np.copyto(batch[0], gathered[0])
            yield batch

    def _cut(self, n: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Return the memory that a batch of ``n`` samples is gathered into, and the batch, which is cast."""
        gathered = tuple([out[:n] for out in self._gathered])
        X = gathered[0] if gathered[0].dtype == self._cast.dtype else self._cast[:n]
        return gathered, (X, *gathered[1:])


class _Checked:
    """Batches that come from elsewhere: each is checked and cast as it comes."""

    def __init__(self, source: Any, network: Network) -> None:
        self.source, self.network = source, network
        self.size = getattr(source, "size", None)
        self.mean_weight: float | None = None  # of the samples of epoch 0, once a batch with weights came

    def epoch(self, k: int) -> Iterator[tuple[Any, ...]]:
        for X, y, w in self._checked(k):
            if w is None and self.network._loss.class_weight is None:
                yield X, y
                continue
            if self.mean_weight is None:
                self.mean_weight = self.network._mean_weight((y, w) for _, y, w in self._checked(0))
                assert self.mean_weight is not None
            yield X, y, self.network._scaled(w, len(X), self.mean_weight)

    def _checked(self, k: int) -> Iterator[tuple[Any, Any, Any]]:
        """Yield (X, y, weights or None) of every batch."""
        size = None
        for i, batch in enumerate(self.source.epoch(k)):
            if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
                raise InputError(f"batch {i} of epoch {k} must be (X, y) or (X, y, weights)")
            size = size or len(batch)
            if len(batch) != size:
                raise InputError(
                    f"batch {i} of epoch {k} has {len(batch)} parts, the first one {size}: give weights "
                    "with every batch, or with none"
                )
            X = _array(batch[0], "X")
            self.network._check_samples(X, f"batch {i} of epoch {k}: X")
            y = self.network._targets(X, batch[1])
            yield self.network._cast(X), y, self.network._weights(batch[2], len(X), some=False) if size == 3 else None


# -- what is trained --------------------------------------------------------------------------------------------------


class _Kind:
    """What networks compute that are alike, and the programs of it that all of them share.

    network: one of them, as it may be traced: for koubai's own layers a twin without weights, whose settings nobody
    changes. whole: the loss in evaluation with its gradient; steps: what `Training` compiles; None where a layer or a
    loss is the user's own and may do anything.
    """

    def __init__(self, network: Network, shares: bool) -> None:
        self.network, self.steps = network, dict[Any, Any]() if shares else None
        if shares:
            self.network = twin = object.__new__(Network)
            layers = tuple(layer.without_arrays() for layer in network.layers)
            twin.__dict__.update(network.__dict__ | {"layers": layers})
            twin._loss, twin._params, twin.state, twin._kind = copy.copy(network._loss), {}, {}, None
            twin._progress = twin.carried = None
            del twin._vector
        self.counts = int(network._loss.classifies)
        self.shapes = [network.input_shape or (), *network.output_shapes[:-1]]
        probe = np.random.default_rng(0)
        self.noisy = [
            i
            for i, layer in enumerate(network.layers)
            if layer.noise((1, *self.shapes[i]), probe, network.dtype) is not None
        ]
        self.whole = _ValueAndGradient(self.evaluated)

    @classmethod
    def of(cls, network: Network) -> _Kind:
        """Return the kind of a network."""
        if (key := _likeness(network)) is None:
            network._kind = network._kind or cls(network, shares=False)
            return network._kind
        with _lock:
            kind = kinds.pop(key, None) or cls(network, shares=True)
            kinds[key] = kind
            while len(kinds) > KINDS:
                del kinds[next(iter(kinds))]
        return kind

    def evaluated(self, params: Any, x: Any, y: Any, w: Any, state: Any) -> Any:
        """Return the mean loss in evaluation, without penalties."""
        outputs, _ = self.network.apply(params, x, state, train=False)
        return self.network._loss(outputs, y, w)

    def loss(self, params: Any, *rest: Any) -> Any:
        """Return the loss of a batch in training, the state after it, and how many samples are classified rightly."""
        network = self.network
        state: Any = {}
        if network.state_layout is not None:
            state = network.state_of(rest[0])
            rest = rest[1:]
        X, y, *more = rest
        noise = dict(zip(self.noisy, more[len(more) - len(self.noisy) :], strict=True))
        w = more[0] if len(more) > len(self.noisy) else None
        outputs, after = network.apply(params, X, state, train=True, noise=noise)
        value = network._loss(outputs, y, w)
        if w is not None:  # their mean over all the data is 1
            value = value * (network._loss.total_weight(y, w) * (1.0 / y.shape[0]))
        if network.l1 or network.l2:
            value = value + network.penalty(params)
        passed_on: tuple[Any, ...] = ()
        if network.state_layout is not None:
            passed_on = (np.concatenate([after[name].reshape(-1) for name in network.state_layout.names or ()]),)
        counts: tuple[Any, ...] = ()
        if self.counts:
            hits = network._right(outputs, y)
            counts = (np.sum(hits),)
        return (value, *passed_on, *counts) if passed_on or counts else value


KINDS = 16  # of networks, whose programs are kept
kinds: dict[Any, _Kind] = {}  # what was trained last stands at the end
_lock = threading.Lock()


def _likeness(network: Network) -> Any:
    """Return what networks have in common that compute the same of their weights; None where that can't be told."""
    if type(network) is not Network:
        return None
    parts: list[Any] = []
    for thing, room in (*((layer, known_layers) for layer in network.layers), (network._loss, known_losses)):
        kind = type(thing)
        if kind.__module__ != room.__name__:
            return None
        settings = []
        for name, value in vars(thing).items():
            if name.startswith("_") or name in ("gradients", "init", "name", "p"):  # p: of the noise alone
                continue
            if isinstance(value, np.ndarray):
                value = value.shape, value.dtype, value.tobytes()
            elif not isinstance(value, bool | int | float | str | tuple | None):
                return None
            settings.append((name, value))
        methods = [getattr(kind, name, None) for name in ("apply", "value", "each", "weight", "predict", "__call__")]
        parts.append((kind, *methods, *settings))
    return (*parts, network.l1, network.l2, network.dtype, network.layout)


class NetworkModel:
    """A network as `Training` sees it."""

    def __init__(self, network: Network, source: Any, validation: Any) -> None:
        self.network, self.source, self.validation = network, source, validation
        self.function = network
        self.layout, self.start, self.carried = network.layout, network.vector, network.carried
        self.layers = _layer_parts(network)
        self.name, self.judges = repr(network), validation is not None
        self.likeness = _likeness(network)
        self.kind = kind = _Kind.of(network)
        self.loss, self.counts, self.shared = kind.loss, kind.counts, kind.steps
        self.noisy, self.shapes = kind.noisy, kind.shapes
        self._noise: dict[tuple[int, int], Any] = {}  # (layer, samples) -> memory for it

    def data(self, batch: tuple[Any, ...], t: int) -> tuple[Any, ...]:
        if not self.noisy:
            return batch
        rng = np.random.default_rng([self.network.seed, 1, t])
        n = len(batch[0])
        for i in self.noisy:
            layer, shape = self.network.layers[i], (n, *self.shapes[i])
            self._noise[i, n] = layer.noise(shape, rng, self.network.dtype, out=self._noise.get((i, n)))
        return (*batch, *(self._noise[i, n] for i in self.noisy))

    def samples(self, batch: tuple[Any, ...]) -> float:
        return float(len(batch[0]))

    def whole(self, params: FloatArray, carried: FloatArray | None) -> tuple[float, FloatArray]:
        self.take(params, carried)
        with np.errstate(all="ignore"):
            return self.network._whole(self._groups(), self.kind)

    def mean(self, params: FloatArray, carried: FloatArray | None, least: float) -> float:
        self.take(params, carried)
        fun, total = 0.0, 0.0
        if isinstance(self.source, _Ordered) and type(self.network._loss).__module__ == known_losses.__name__:
            # no sample's loss is below 0, and their weights have the mean 1: often a part of them says enough
            X, y, *w = self.source.arrays
            some = -(-len(X) // 3)
            value, _, size = self.network._evaluated(X[:some], y[:some], w[0][:some] if w else None)
            penalty = float(self.network.penalty(self.network.params))
            if (value - penalty) * size / len(X) + penalty > least:
                return math.inf
        for group in self._groups():
            value, _, size = self.network._evaluated(*group)
            fun, total = fun + size * value, total + size
        return fun / total

    def _groups(self) -> Iterable[tuple[Any, Any, Any]]:
        """Yield (X, y, weights or None) of all the data."""
        groups = [self.source.arrays] if isinstance(self.source, _Ordered) else self.source.epoch(0)
        return ((*group, None)[:3] for group in groups)

    def by_differences(self, error: Exception) -> None:
        """A network is backpropagated or not trained at all."""

    def validate(self, params: FloatArray, carried: FloatArray | None) -> tuple[float, float | None] | None:
        if self.validation is None:
            return None
        self.take(params, carried)
        X, y = self.validation
        return self.network._evaluated(X, y, None)[:2]

    def take(self, params: FloatArray, carried: FloatArray | None) -> None:
        """Let the network have these weights."""
        self.network.vector[...] = params
        if carried is not None and self.network.carried is not None:
            self.network.carried[...] = carried

    def given(self, params: FloatArray) -> FloatArray:
        if self.likeness != _likeness(self.network):
            raise InputError(
                "on_epoch changed a setting of a layer, of the loss or of the network, but a training goes by those "
                "that it began with: change them between two trainings, fit(…, resume=True)"
            )
        return self.network.vector

    def blame(self, params: FloatArray, carried: FloatArray | None, data: tuple[Any, ...]) -> str:
        network = self.network
        given = network.layout.view(params)
        state = network.state_of(carried)
        noise = dict(zip(self.noisy, data[len(data) - len(self.noisy) :], strict=True))
        bad = next((name for name, value in given.items() if not np.isfinite(value).all()), None)
        if bad is not None:
            return f"the weights {bad!r} of layer {network.names[int(bad.split('.')[0])]!r} are not finite"
        x: Any = data[0]
        with np.errstate(all="ignore"):
            for i, layer in enumerate(network.layers):
                x, _ = network._layer(i, layer, given, x, state, True, noise)
                if not np.isfinite(x).all():
                    return f"layer {network.names[i]!r} is the first whose output is not finite"
        return f"every layer's output is finite, up to {np.max(np.abs(x)):.3g}; the loss {network._loss.name} is not"


def _layer_parts(network: Network) -> list[tuple[str, int, int]]:
    """Return (name, start, stop) of every layer with parameters, in the flat vector."""
    parts, start = [], 0
    for name, layer in zip(network.names, network.layers, strict=True):
        stop = start + sum(a.size for a in layer.params.values())
        if stop > start:
            parts.append((name, start, stop))
        start = stop
    return parts


# -- any function -----------------------------------------------------------------------------------------------------


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
    source: Any
    if hasattr(data, "epoch"):
        source = data
    elif callable(data):
        source = _Function(data)
    else:
        arrays = tuple(
            _array(a, f"data[{i}]") for i, a in enumerate(data if isinstance(data, tuple | list) else (data,))
        )
        for i, a in enumerate(arrays):
            if len(a) != len(arrays[0]):
                raise InputError(
                    f"data[0] has {len(arrays[0])} samples, data[{i}] has {len(a)}; they must be equally many"
                )
            _check_finite(a, f"data[{i}]")
        source = _Ordered(arrays, batch_size, seed, lambda a: a)
    if validation is not None:
        given = validation if isinstance(validation, tuple | list) else (validation,)
        validation = tuple(_array(a, f"validation[{i}]") for i, a in enumerate(given))
    model = _FunctionModel(loss, layout, start, source, validation)
    training = Training.of(
        model, source, chosen, why, epochs=epochs, patience=patience, min_delta=min_delta, gtol=gtol, target=target,
        seed=seed, record=record, checkpoint=checkpoint, on_epoch=on_epoch,
    )  # fmt: skip
    if before is not None:
        training.go_on(before)
    elif isinstance(resume, str | os.PathLike):
        training.take_up(resume)
    return replace(drive(training, None, progress), progress=training.progress())


def _before(resume: Any, layout: Layout, seed: int) -> Progress | None:
    """Return how far the training had come whose run `fit` is to go on from, if it is a run that it was given.

    Raises InputError where nothing can go on from ``resume`` with parameters of this form and this order of the data.
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


class _FunctionModel:
    """A function of parameters and data as `Training` sees it."""

    carried: FloatArray | None = None
    counts = 0
    shared: dict[Any, Any] | None = None

    def __init__(self, loss: Callable[..., Any], layout: Layout, start: FloatArray, source: Any, held: Any) -> None:
        self.loss = self.function = loss
        self.layout, self.start, self.source, self.held = layout, start, source, held
        self.judges, self.name = held is not None, getattr(loss, "__name__", "loss")
        self.layers: list[tuple[str, int, int]] = []
        first = 0
        for name, shape in zip(layout.names or ("x",), layout.shapes, strict=True):
            stop = first + math.prod(shape)
            self.layers.append((name, first, stop))
            first = stop
        self._program = _ValueAndGradient(loss)
        self._differs = False  # is the gradient made by differences?
        self._fallen: Exception | None = None  # why, until that was told
        self._notes: set[str] = set()  # of the differences that the user has read

    def data(self, batch: tuple[Any, ...], t: int) -> tuple[Any, ...]:
        return tuple([a if type(a) is np.ndarray else np.asarray(a) for a in batch])

    def samples(self, batch: tuple[Any, ...]) -> float:
        return weight(batch)

    def whole(self, params: FloatArray, carried: FloatArray | None) -> tuple[float, FloatArray]:
        fun, total, g = 0.0, 0.0, np.zeros(params.size)
        for batch in Feed(self.source.epoch).all():
            value, slopes = self._value_and_gradient(params, self.data(batch, 0))
            size = weight(batch)
            fun, total = fun + size * value, total + size
            g += size * slopes
        return fun / total, (g / total).astype(params.dtype)

    def mean(self, params: FloatArray, carried: FloatArray | None, least: float) -> float:
        fun, total = 0.0, 0.0
        with np.errstate(all="ignore"):
            for batch in Feed(self.source.epoch).all():
                size = weight(batch)
                value = float(as_scalar(self.loss(self.layout.copy(params), *self.data(batch, 0))))
                fun, total = fun + size * value, total + size
        return fun / total

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

    def validate(self, params: FloatArray, carried: FloatArray | None) -> tuple[float, float | None] | None:
        if self.held is None:
            return None
        value = np.asarray(self.loss(self.layout.copy(params), *self.held))
        if value.size != 1:
            raise FunctionError(f"{self.name} must return one number, it returned an array of shape {value.shape}")
        return float(value.reshape(())), None

    def take(self, params: FloatArray, carried: FloatArray | None) -> None:
        pass

    def given(self, params: FloatArray) -> FloatArray:
        return params

    def blame(self, params: FloatArray, carried: FloatArray | None, data: tuple[Any, ...]) -> str:
        return ""
