"""Layers: each writes its formula once, forward, in NumPy; its derivatives come from the engine.

A layer works alone (``forward``, ``backward``) and inside a `Network`, which runs ``apply`` of all of them in one
graph. Samples lie along axis 0; images have the axes (sample, channel, height, width).

In memory images are kept with the samples last, (channel, height, width, sample): what belongs to one channel is then
one piece of memory, as is every row of a window, so that NumPy and BLAS work on long runs. The transposes to and fro
are views, which cost nothing.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, TypeAlias

import numpy as np

from koubai.derivatives.gradient import Paths
from koubai.errors import InputError
from koubai.graph import activations  # noqa: F401 its primitives enter the table
from koubai.graph.call import Leaves
from koubai.graph.ops import apply
from koubai.graph.reverse import pullback
from koubai.nn.initializers import Initializer, initializer
from koubai.parameters import real_array

__all__ = [
    "Dense",
    "Flatten",
    "Layer",
    "LeakyReLU",
    "ReLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
]

Shape: TypeAlias = tuple[int, ...]
Arrays: TypeAlias = dict[str, Any]


class Layer:
    """Layer: a function of its parameters and of a batch x. This one returns x as it is.

        y = layer.forward(x);  dx = layer.backward(dy)

    To write one, override `apply`, and `output_shape` and `initial` where the defaults don't hold; never a derivative.
    name: as errors and summaries show it. params: its own arrays by name, made by `build`. state: what it carries from
    batch to batch without learning it, as running statistics. gradients: of the params, after `backward`.
    """

    takes_integers: ClassVar[bool] = False  # does it read whole numbers, as an index is?

    def __init__(self) -> None:
        self.name = f"{type(self).__name__}()"
        self.input_shape: Shape | None = None  # without the batch axis; None: not built yet
        self.params: Arrays = {}
        self.state: Arrays = {}
        self.gradients: Arrays = {}
        self._run: tuple[Any, ...] | None = None  # what `backward` needs of the last `forward`
        self._paths: Paths | None = None

    def __repr__(self) -> str:
        return self.name

    # --- what a layer says of itself
    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one sample's output. Raises InputError where an input of this shape can't be taken."""
        return input_shape

    def initial(self, input_shape: Shape, rng: np.random.Generator) -> tuple[Arrays, Arrays]:
        """Return new (params, state) for inputs of this shape."""
        return {}, {}

    def apply(self, params: Arrays, x: Any, state: Arrays, *, train: bool, noise: Any = None) -> tuple[Any, Arrays]:
        """Return (y, the new state): a pure function, traced and differentiated by the engine."""
        return x, state

    def noise(self, x_shape: Shape, rng: np.random.Generator, dtype: Any, out: Any = None) -> Any:
        """Return the random numbers that training on one batch takes, or None. ``out``: an earlier answer, reused."""
        return None

    # --- what every layer can do
    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: Any = np.float64) -> None:
        """Make ``params`` and ``state`` for samples of this shape. Raises InputError where the shape doesn't fit."""
        input_shape = tuple(int(n) for n in input_shape)
        self.output_shape(input_shape)
        params, state = self.initial(input_shape, rng)
        self.params = {name: np.asarray(value, dtype) for name, value in params.items()}
        self.state = {name: np.asarray(value, dtype) for name, value in state.items()}
        self.input_shape = input_shape

    def forward(self, x: Any, *, train: bool = False, seed: int = 0) -> Any:
        """Return the output for a batch x, and keep what `backward` needs.

        train: training or evaluation mode, which Dropout and BatchNorm tell apart; seed: of the weights, made at the
        first call with the precision of x, and of the noise. Raises InputError where x doesn't fit the layer.
        """
        x = np.asarray(x)
        if not (self.takes_integers and x.dtype.kind in "iu"):
            x = real_array(x, "x")
        if x.ndim < 2 and not self.takes_integers:
            raise InputError(
                f"{self.name}: x has shape {x.shape}; axis 0 must be the samples: x[None] is a batch of one"
            )
        if not x.size:
            raise InputError(f"{self.name}: x is empty (shape {x.shape}); give at least one sample")
        if self.input_shape is None or not (self.params or self.state or x.shape[1:] == self.input_shape):
            self.build(x.shape[1:], np.random.default_rng(seed), x.dtype if x.dtype.kind == "f" else np.float64)
        elif x.shape[1:] != self.input_shape:
            raise InputError(f"{self.name} was built for samples of shape {self.input_shape}, got {x.shape[1:]}")
        dtype = next((value.dtype for value in self.params.values()), x.dtype)
        if x.dtype.kind == "f":
            x = x.astype(dtype, copy=False)
        noise = self.noise(x.shape, np.random.default_rng(seed), x.dtype) if train else None
        before = self.state
        with np.errstate(all="ignore"):
            y, after = self.apply(self.params, x, before, train=train, noise=noise)
        if train:
            self.state = after
        self._run = self.params, x, before, train, noise, y.shape, y.dtype
        return y

    def backward(self, dout: Any) -> Any:
        """Return dx for the cotangent ``dout`` of the last `forward`'s output, and set ``gradients``.

        Raises InputError where `forward` was not called before, or dout has another shape than the output. Where x is
        an index there is no dx: None.
        """
        if self._run is None:
            raise InputError(f"{self.name}: backward was called before forward; call forward(x) first")
        params, x, state, train, noise, shape, dtype = self._run
        dout = real_array(dout, "dout").astype(dtype, copy=False)
        if dout.shape != shape:
            raise InputError(
                f"{self.name}: dout has shape {dout.shape}, but the output has {shape}; they must be equal"
            )
        if self._paths is None:

            def outputs(params: Arrays, x: Any, state: Arrays, noise: Any, train: bool) -> Any:
                return self.apply(params, x, state, train=train, noise=noise)[0]

            self._paths = Paths(outputs, pullback, scalar=False)
        active = [k for k, on in ((0, bool(params)), (1, x.dtype.kind == "f")) if on]
        leaves = Leaves.of(self._paths.f, (params, x, state, noise, train), {}, active)
        results = list(self._paths.run(leaves, dout))
        self.gradients = dict(zip(params, results, strict=False))
        return results[len(params)] if 1 in active else None


def _shown(value: Any) -> str:
    return "×".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _whole(value: Any, least: int, argument: str) -> int:
    """Return a whole number ≥ least. Raises InputError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{argument} must be a whole number ≥ {least}, got {value!r}")
    return int(value)


def _inward(x: Any) -> Any:
    """Show images with the samples last; leave everything else."""
    return x.transpose(1, 2, 3, 0) if x.ndim == 4 else x


def _outward(x: Any) -> Any:
    return x.transpose(3, 0, 1, 2) if x.ndim == 4 else x


# --- activations
class _Activation(Layer):
    """A layer that does the same to every number."""

    def value(self, x: Any) -> Any:
        return x

    def apply(self, params: Arrays, x: Any, state: Arrays, *, train: bool, noise: Any = None) -> tuple[Any, Arrays]:
        return _outward(self.value(_inward(x))), state


class Sigmoid(_Activation):
    """Sigmoid: squeezes every number into (0, 1).

    y = 1 / (1 + exp(−x)),  dy/dx = y (1 − y)
    """

    def value(self, x: Any) -> Any:
        return apply("sigmoid", x)


class Tanh(_Activation):
    """Tanh: squeezes every number into (−1, 1).

    y = tanh(x),  dy/dx = 1 − y²
    """

    def value(self, x: Any) -> Any:
        return np.tanh(x)


class ReLU(_Activation):
    """Rectified linear unit: keeps what is positive.

        y = max(x, 0),  dy/dx = 1 where x > 0, else 0

    At 0 the derivative is 0, as in JAX and PyTorch.

    Nair, Hinton, "Rectified Linear Units Improve Restricted Boltzmann Machines", ICML 2010.
    """

    def value(self, x: Any) -> Any:
        return apply("relu", x)


class LeakyReLU(_Activation):
    """Leaky rectified linear unit: lets a little of the negative through, so that no unit dies.

        y = x where x > 0, else slope · x

    slope: in [0, 1); 0.01 as PyTorch's default (Keras: 0.3). At 0 the derivative is slope, as in PyTorch.

    Maas, Hannun, Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic Models", ICML 2013.
    """

    def __init__(self, slope: float = 0.01) -> None:
        super().__init__()
        if not isinstance(slope, int | float) or not 0 <= slope < 1:
            raise InputError(f"slope must lie in [0, 1), got {slope!r}")
        self.slope = float(slope)
        self.name = f"LeakyReLU({slope})"

    def value(self, x: Any) -> Any:
        return self.slope * x + (1.0 - self.slope) * apply("relu", x)


class Softmax(Layer):
    """Softmax: turns the numbers of a sample into probabilities that sum to 1.

        y[k] = exp(x[k]) / Σ exp(x[j])

    Over the last axis, of images over the channels. The loss `CrossEntropy` takes the numbers before it.
    """

    def apply(self, params: Arrays, x: Any, state: Arrays, *, train: bool, noise: Any = None) -> tuple[Any, Arrays]:
        x = _inward(x)
        axis = 0 if x.ndim == 4 else x.ndim - 1
        raised = np.exp(x - apply("largest", x, axis=(axis,), keepdims=True))
        return _outward(raised / np.sum(raised, axis=axis, keepdims=True)), state


# --- layers with weights
class Dense(Layer):
    """Dense: every output is a weighted sum of all inputs.

        y = x W + b

    units: outputs a sample; W: (inputs, units), b: (units,). init: of W, the name of an initializer or a function; b
    starts at 0, or is left out. Over the last axis of x. PyTorch's Linear keeps the transpose of W.
    """

    def __init__(self, units: int, *, init: str | Initializer = "xavier", bias: bool = True) -> None:
        super().__init__()
        self.units = _whole(units, 1, "units")
        self.init = initializer(init)
        self.bias = bias
        self.name = f"Dense({self.units})"

    def output_shape(self, input_shape: Shape) -> Shape:
        if not input_shape:
            raise InputError(f"{self.name} takes at least one feature a sample; give x of shape (samples, features)")
        if len(input_shape) == 3:
            raise InputError(f"{self.name} can't take images of shape {input_shape}; put Flatten() before it")
        return (*input_shape[:-1], self.units)

    def initial(self, input_shape: Shape, rng: np.random.Generator) -> tuple[Arrays, Arrays]:
        inputs = input_shape[-1]
        params = {"W": self.init(rng, (inputs, self.units), inputs, self.units)}
        if self.bias:
            params["b"] = np.zeros(self.units)
        return params, {}

    def apply(self, params: Arrays, x: Any, state: Arrays, *, train: bool, noise: Any = None) -> tuple[Any, Arrays]:
        y = x @ params["W"]
        return (y + params["b"] if self.bias else y), state


# --- shapes
class Flatten(Layer):
    """Flatten: every sample becomes one row of numbers, in the order (channel, height, width)."""

    def output_shape(self, input_shape: Shape) -> Shape:
        return (math.prod(input_shape),)

    def apply(self, params: Arrays, x: Any, state: Arrays, *, train: bool, noise: Any = None) -> tuple[Any, Arrays]:
        if x.ndim == 4:
            return _inward(x).reshape(-1, x.shape[0]).T, state
        return x.reshape(x.shape[0], -1), state
