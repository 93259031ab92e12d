"""Layers: each writes its formula once, forward, in NumPy; its derivatives come from the engine.

Samples are along axis 0; images have the axes (sample, channel, height, width). In memory images are kept with the
samples last, (channel, height, width, sample): what belongs to one channel is then one piece of memory, as is every row
of a window, so that NumPy and BLAS work on long runs. The transposes to and fro are views, which cost nothing.
"""

from __future__ import annotations

import functools
import math
from numbers import Real
from typing import Any, TypeAlias

import numpy as np

from koubai.errors import InputError
from koubai.graph import activations, windows  # noqa: F401 their primitives enter the table
from koubai.graph.ops import apply
from koubai.nn.initializers import Initializer, draw, initializer, normal
from koubai.nn.layer import Arrays, Layer, Shape, Weights
from koubai.nn.settings import below_one, positive
from koubai.parameters import check_flag, check_whole, real_array

__all__ = [
    "GELU",
    "AvgPool2D",
    "BatchNorm",
    "Conv2D",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "MaxPool2D",
    "ReLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "Weights",  # by this address in older pickles
]

Pair: TypeAlias = tuple[int, int]


def _shown(value: Any) -> str:
    return "×".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _given(value: Any, axes: int, form: str) -> Any:
    """Return the weights W that were given in place of a number, None if a number was. Raises InputError if they
    have another number of axes."""
    if not isinstance(value, np.ndarray | list | tuple) or np.ndim(value) == 0:
        return None
    W = real_array(value, "W")
    if W.ndim != axes:
        raise InputError(f"W must have the form {form}, got shape {W.shape}")
    return W


def _filled(value: float, shape: int | Shape) -> Any:
    """Return an array of equal numbers that takes no memory; `Layer.build` copies it."""
    return np.broadcast_to(value, shape)


def _with_bias(W: Any, b: Any, bias: bool) -> Arrays:
    if b is None:
        return {"W": W}
    if not bias:
        raise InputError("bias=False leaves b out, but b was given")
    return {"W": W, "b": real_array(b, "b")}


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

    Examples
    --------
    >>> nn.Sigmoid().forward(np.zeros((1, 1)))
    array([[0.5]])
    """

    def value(self, x: Any) -> Any:
        return apply("sigmoid", x)


class Tanh(_Activation):
    """Tanh: squeezes every number into (−1, 1).

        y = tanh(x),  dy/dx = 1 − y²

    Examples
    --------
    >>> nn.Tanh().forward(np.zeros((1, 1)))
    array([[0.]])
    """

    def value(self, x: Any) -> Any:
        return np.tanh(x)


class ReLU(_Activation):
    """Rectified linear unit: keeps what is positive.

        y = max(x, 0),  dy/dx = 1 if x > 0, else 0

    At 0 the derivative is 0, as in JAX and PyTorch.

    Examples
    --------
    >>> nn.ReLU().forward(np.array([[-1.0, 0.0, 2.0]]))
    array([[0., 0., 2.]])

    References
    ----------
    Nair, Hinton, "Rectified Linear Units Improve Restricted Boltzmann Machines", ICML 2010.
    """

    def value(self, x: Any) -> Any:
        return apply("relu", x)


class LeakyReLU(_Activation):
    """Leaky rectified linear unit: lets a little of the negative through, so that no unit dies.

        y = x if x > 0, else slope · x

    Parameters
    ----------
    slope : float, default 0.01
        In [0, 1); the default is PyTorch's (Keras: 0.3). At 0 the derivative is slope, as in PyTorch.

    Examples
    --------
    >>> nn.LeakyReLU(0.1).forward(np.array([[-1.0, 0.0, 2.0]]))
    array([[-0.1,  0. ,  2. ]])

    References
    ----------
    Maas, Hannun, Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic Models", ICML 2013.
    """

    def __init__(self, slope: float = 0.01) -> None:
        super().__init__()
        if not isinstance(slope, Real) or not 0 <= float(slope) < 1:
            raise InputError(f"slope must lie in [0, 1), got {slope!r}")
        self.slope: float = float(slope)
        self.name = f"LeakyReLU({slope})"

    def value(self, x: Any) -> Any:
        return self.slope * x + (1.0 - self.slope) * apply("relu", x)


class GELU(_Activation):
    """Gaussian error linear unit: weighs every number by the share of a normal distribution that is below it.

        y = x Φ(x);  approximate: y = x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2

    Parameters
    ----------
    approximate : bool, default False
        The second formula, PyTorch's approximate="tanh", and JAX's default.

    Examples
    --------
    >>> nn.GELU().forward(np.array([[0.0, 1.0]])).round(4)
    array([[0.    , 0.8413]])

    References
    ----------
    Hendrycks, Gimpel, "Gaussian Error Linear Units", arXiv 2016.
    """

    def __init__(self, *, approximate: bool = False) -> None:
        super().__init__()
        self.approximate = check_flag(approximate, "approximate")
        if approximate:
            self.name = "GELU(approximate)"

    def value(self, x: Any) -> Any:
        if self.approximate:
            return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * (x * x * x))))
        return x * apply("normal_cdf", x)


class Softmax(Layer):
    """Softmax: turns the numbers of a sample into probabilities that sum to 1.

        y[k] = exp(x[k]) / Σ exp(x[j])

    Over the last axis, of images over the channels. The loss `CrossEntropy` takes the numbers before it.

    Examples
    --------
    >>> nn.Softmax().forward(np.zeros((1, 4)))
    array([[0.25, 0.25, 0.25, 0.25]])
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

    Over the last axis of x. PyTorch's Linear keeps the transpose of W.

    Parameters
    ----------
    units : int or array
        Outputs of a sample, for W of shape (inputs, units) and b of shape (units,). Or W itself: Dense(W, b), or
        Dense(W), has the weights that are given; used alone, the layer has these very arrays, a network has copies.
    b : array, optional
        Only beside W.
    init : str or callable, default "xavier"
        Of W: the name of an initializer or a function.
    bias : bool, default True
        False leaves b out; it starts at 0.

    Examples
    --------
    >>> nn.Dense(np.array([[1.0], [2.0]]), np.array([0.5])).forward(np.array([[1.0, 1.0]]))
    array([[3.5]])
    """

    def __init__(
        self, units: int | Any, b: Any = None, *, init: str | Initializer = "xavier", bias: bool = True
    ) -> None:
        super().__init__()
        if (W := _given(units, 2, "(inputs, units)")) is not None:
            self._params, units = _with_bias(W, b, bias), W.shape[1]
        elif b is not None:
            raise InputError(f"b goes with weights, Dense(W, b); got Dense({units!r}, {b!r})")
        self.units = check_whole(units, 1, "units")
        self.init = initializer(init)
        self.bias = check_flag(bias, "bias")
        self.name = f"Dense({self.units})"

    def output_shape(self, input_shape: Shape) -> Shape:
        if not input_shape:
            raise InputError(f"{self.name} takes at least one feature a sample; give x of shape (samples, features)")
        if len(input_shape) == 3:
            raise InputError(f"{self.name} can't take images of shape {input_shape}; put Flatten() before it")
        return (*input_shape[:-1], self.units)

    def initial(self, input_shape: Shape, rng: np.random.Generator | None) -> tuple[Arrays, Arrays]:
        inputs = input_shape[-1]
        params = {"W": draw(self.init, rng, (inputs, self.units), inputs, self.units)}
        if self.bias:
            params["b"] = _filled(0.0, self.units)
        return params, {}

    def apply(self, params: Arrays, x: Any, state: Arrays, *, train: bool, noise: Any = None) -> tuple[Any, Arrays]:
        y = x @ params["W"]
        return (y + params["b"] if self.bias else y), state


class Conv2D(Layer):
    """Convolution: every output channel is one small pattern, compared with the image at every place.

        y[n, f, i, j] = Σ x[n, c, i s + k − p, j s + l − p] W[f, c, k, l] + b[f]

    As everywhere in networks this is a correlation: the pattern is not turned around.

    Parameters
    ----------
    filters : int or array
        Output channels, for W of shape (filters, channels, height, width), as in PyTorch, and b of shape (filters,). Or
        W itself: Conv2D(W, b), or Conv2D(W), has the weights that are given, as `Dense` has.
    kernel : int, (int, int) or array
        Height and width of the pattern, a number if they are equal; b beside W.
    stride : int or (int, int), default 1
        s above.
    padding : int, (int, int) or "same", default 0
        p above: zeros around the image; "same" gives an output of the input's size (odd kernel, stride 1).
    init : str or callable, default "xavier"
        Of W.
    bias : bool, default True
        False leaves b out; it starts at 0.

    Examples
    --------
    >>> edges = nn.Conv2D(np.array([[[[-1.0, 1.0]]]]))
    >>> edges.forward(np.array([[[[0.0, 0.0, 1.0, 1.0]]]]))
    array([[[[0., 1., 0.]]]])

    References
    ----------
    LeCun et al., "Backpropagation Applied to Handwritten Zip Code Recognition", Neural Computation 1989.
    """

    def __init__(
        self,
        filters: int | Any,
        kernel: int | Pair | Any = None,
        *,
        stride: int | Pair = 1,
        padding: int | Pair | str = 0,
        init: str | Initializer = "xavier",
        bias: bool = True,
    ) -> None:
        super().__init__()
        if (W := _given(filters, 4, "(filters, channels, height, width)")) is not None:
            self._params, filters, kernel = _with_bias(W, kernel, bias), W.shape[0], W.shape[2:]
        self.filters = check_whole(filters, 1, "filters")
        self.kernel, self.stride = _pair(kernel, 1, "kernel"), _pair(stride, 1, "stride")
        if isinstance(padding, str):
            if padding != "same" or self.stride != (1, 1) or not all(n % 2 for n in self.kernel):
                raise InputError(
                    f'padding must be a number, a pair, or "same" with stride 1 and an odd kernel; got {padding!r} '
                    f"with stride {_shown(self.stride)} and kernel {_shown(self.kernel)}"
                )
            padding = (self.kernel[0] // 2, self.kernel[1] // 2)
        self.padding = _pair(padding, 0, "padding")
        self.init = initializer(init)
        self.bias = check_flag(bias, "bias")
        self.name = f"Conv2D({self.filters}, {_shown(self.kernel)})"

    def output_shape(self, input_shape: Shape) -> Shape:
        return (self.filters, *_place_counts(self.name, input_shape, self.kernel, self.stride, self.padding))

    def initial(self, input_shape: Shape, rng: np.random.Generator | None) -> tuple[Arrays, Arrays]:
        shape = (self.filters, input_shape[0], *self.kernel)
        area = math.prod(self.kernel)
        params = {"W": draw(self.init, rng, shape, input_shape[0] * area, self.filters * area)}
        if self.bias:
            params["b"] = _filled(0.0, self.filters)
        return params, {}

    def apply(self, params: Arrays, x: Any, state: Arrays, *, train: bool, noise: Any = None) -> tuple[Any, Arrays]:
        cut = apply("windows", _inward(x), kernel=self.kernel, stride=self.stride, padding=self.padding)
        rows = math.prod(cut.shape[:3])
        y = params["W"].reshape(self.filters, rows) @ cut.reshape(rows, -1)
        if self.bias:
            y = y + params["b"].reshape(-1, 1)
        return _outward(y.reshape(self.filters, *cut.shape[3:])), state


# --- pooling
class MaxPool2D(Layer):
    """Max pooling: the largest number of each window of the image.

        y[n, c, i, j] = max x[n, c, i s + k, j s + l] over the window (k, l)

    What doesn't fill a window at the lower and right border is left out. The largest numbers of a window share the
    derivative evenly if several are equal; PyTorch gives it to the first.

    Parameters
    ----------
    size : int or (int, int), default 2
        Of the window, a number if height and width are equal.
    stride : int or (int, int), optional
        s above; by default the size, so that windows do not overlap.

    Examples
    --------
    >>> nn.MaxPool2D(2).forward(np.arange(16.0).reshape(1, 1, 4, 4))
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """

    def __init__(self, size: int | Pair = 2, *, stride: int | Pair | None = None) -> None:
        super().__init__()
        self.size = _pair(size, 1, "size")
        self.stride = self.size if stride is None else _pair(stride, 1, "stride")
        self.name = f"{type(self).__name__}({_shown(self.size)})"

    def output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:1], *_place_counts(self.name, input_shape, self.size, self.stride, (0, 0)))

    def apply(self, params: Arrays, x: Any, state: Arrays, *, train: bool, noise: Any = None) -> tuple[Any, Arrays]:
        return _outward(apply("window_max", _inward(x), kernel=self.size, stride=self.stride)), state


class AvgPool2D(MaxPool2D):
    """Average pooling: the mean of each window of the image.

        y[n, c, i, j] = mean x[n, c, i s + k, j s + l] over the window (k, l)

    Parameters
    ----------
    size : int or (int, int), default 2
        Of the window, as in `MaxPool2D`.
    stride : int or (int, int), optional
        s above; by default the size.

    Examples
    --------
    >>> nn.AvgPool2D(2).forward(np.arange(16.0).reshape(1, 1, 4, 4))
    array([[[[ 2.5,  4.5],
             [10.5, 12.5]]]])
    """

    def apply(self, params: Arrays, x: Any, state: Arrays, *, train: bool, noise: Any = None) -> tuple[Any, Arrays]:
        cut = apply("windows", _inward(x), kernel=self.size, stride=self.stride, padding=(0, 0))
        return _outward(np.mean(cut, axis=(1, 2))), state


def _pair(value: Any, least: int, argument: str) -> Pair:
    if isinstance(value, tuple | list):
        if len(value) != 2:
            raise InputError(f"{argument} must be a whole number or a pair (height, width), got {value!r}")
        return check_whole(value[0], least, argument), check_whole(value[1], least, argument)
    return (check_whole(value, least, argument),) * 2


def _place_counts(name: str, input_shape: Shape, kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    """Return (height, width) of the output. Raises InputError if no window fits into the image."""
    if len(input_shape) != 3:
        raise InputError(
            f"{name} takes images of shape (channels, height, width), got samples of shape {input_shape}; "
            "reshape X to (samples, channels, height, width)"
        )
    high, wide = (windows.window_count(*along) for along in zip(input_shape[1:], kernel, stride, padding, strict=True))
    if high < 1 or wide < 1:
        raise InputError(
            f"{name}: a window of {_shown(kernel)} does not fit into an image of {_shown(input_shape[1:])}"
            + (f" with padding {_shown(padding)}" if any(padding) else "")
        )
    return high, wide


# --- shapes
class Flatten(Layer):
    """Flatten: every sample becomes one row of numbers, in the order (channel, height, width).

    Examples
    --------
    >>> nn.Flatten().forward(np.zeros((5, 1, 8, 8))).shape
    (5, 64)
    """

    def output_shape(self, input_shape: Shape) -> Shape:
        return (math.prod(input_shape),)

    def apply(self, params: Arrays, x: Any, state: Arrays, *, train: bool, noise: Any = None) -> tuple[Any, Arrays]:
        if x.ndim == 4:
            return _inward(x).reshape(-1, x.shape[0]).T, state
        return x.reshape(x.shape[0], -1), state


class Embedding(Layer):
    """Embedding: every whole number is replaced by a vector that is learned.

        y = W[x]

    x is an array of indices of any shape; there is no derivative with respect to it.

    Parameters
    ----------
    count : int or array
        Of the different numbers, 0 … count−1, for W of shape (count, size). Or W itself.
    size : int, optional
        Of a vector; not beside W.
    init : str or callable, optional
        Of W, which is drawn from N(0, 1) otherwise, as in PyTorch.

    Examples
    --------
    >>> nn.Embedding(np.array([[0.0, 1.0], [2.0, 3.0]])).forward(np.array([1, 0]))
    array([[2., 3.],
           [0., 1.]])
    """

    takes_integers = True

    def __init__(self, count: int | Any, size: int | None = None, *, init: str | Initializer | None = None) -> None:
        super().__init__()
        if size is None and (W := _given(count, 2, "(count, size)")) is not None:
            self._params, (count, size) = {"W": W}, W.shape
        self.count, self.size = check_whole(count, 1, "count"), check_whole(size, 1, "size")
        self.init = functools.partial(normal, std=1.0) if init is None else initializer(init)
        self.name = f"Embedding({self.count}, {self.size})"

    def output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape, self.size)

    def initial(self, input_shape: Shape, rng: np.random.Generator | None) -> tuple[Arrays, Arrays]:
        return {"W": draw(self.init, rng, (self.count, self.size), self.count, self.size)}, {}

    def check(self, x: Any) -> None:
        bad = (x < 0) | (x >= self.count)
        if x.dtype.kind == "f":
            bad |= x != np.floor(x)
        wrong = np.argwhere(bad)
        if len(wrong):
            at = tuple(map(int, wrong[0]))
            shown = ", ".join(map(str, at))
            raise InputError(f"{self.name}: x[{shown}] = {x[at]}, but indices are whole numbers 0 … {self.count - 1}")

    def apply(self, params: Arrays, x: Any, state: Arrays, *, train: bool, noise: Any = None) -> tuple[Any, Arrays]:
        return params["W"][x if x.dtype.kind in "iu" else x.astype(np.intp)], state


# --- layers that train differently than they predict
class Dropout(Layer):
    """Dropout: in training every number is left out with probability p, so that no unit relies on another.

        training: y = x m / (1 − p), m ~ Bernoulli(1 − p);  else y = x

    Inverted, as in PyTorch and Keras: what stays is made larger in training, so that nothing has to be done afterwards.

    Parameters
    ----------
    p : float, default 0.5
        In [0, 1).

    Examples
    --------
    >>> nn.Dropout(0.9).forward(np.ones((1, 2)))
    array([[1., 1.]])

    References
    ----------
    Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 2014.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = below_one(p, "p")
        self.name = f"Dropout({p})"

    def noise(self, x_shape: Shape, rng: np.random.Generator, dtype: Any, out: Any = None) -> Any:
        if out is None:
            out = (
                _outward(np.empty((*x_shape[1:], x_shape[0]), dtype)) if len(x_shape) == 4 else np.empty(x_shape, dtype)
            )
        numbers = _inward(out)
        rng.random(out=numbers, dtype=numbers.dtype)
        # ⌊u − p⌋ + 1 is 1 where u ≥ p and 0 elsewhere. To compare and store the bools as floats, NumPy before 2.3 casts
        # by way of 64 KiB of its own.
        numbers -= self.p
        np.floor(numbers, out=numbers)
        numbers += 1
        numbers *= 1.0 / (1.0 - self.p)
        return out

    def apply(self, params: Arrays, x: Any, state: Arrays, *, train: bool, noise: Any = None) -> tuple[Any, Arrays]:
        return (_outward(_inward(x) * _inward(noise)) if train else x), state


class BatchNorm(Layer):
    """Batch normalization: over the batch, every feature (of images, every channel) gets mean 0, variance 1.

        y = gamma (x − mean) / √(var + eps) + beta

    In training mean and variance are those of the batch (the variance divided by n); otherwise the running ones, which
    follow them: running = (1 − momentum) running + momentum batch, with the batch's variance divided by n − 1. All as
    in PyTorch. gamma, beta: one number per feature, learned. Raises InputError for a training batch with one value per
    feature, whose variance says nothing.

    Parameters
    ----------
    momentum : float, default 0.1
        The weight of the batch in the running statistics; Keras's momentum is 1 minus this one.
    eps : float, default 1e-5
        Added to the variance.

    Examples
    --------
    >>> layer = nn.BatchNorm()
    >>> layer.forward(np.array([[1.0], [3.0]]), train=True).round(3)
    array([[-1.],
           [ 1.]])

    References
    ----------
    Ioffe, Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift", ICML
    2015, Algorithm 1.
    """

    def __init__(self, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = _fraction(momentum, "momentum"), positive(eps, "eps")

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) not in (1, 3):
            raise InputError(
                f"{self.name} takes samples of shape (features,) or (channels, height, width), got {input_shape}"
            )
        return input_shape

    def initial(self, input_shape: Shape, rng: np.random.Generator | None) -> tuple[Arrays, Arrays]:
        n = input_shape[0]
        zeros, ones = _filled(0.0, n), _filled(1.0, n)
        return {"gamma": ones, "beta": zeros}, {"mean": zeros, "var": ones}

    def apply(self, params: Arrays, x: Any, state: Arrays, *, train: bool, noise: Any = None) -> tuple[Any, Arrays]:
        x = _inward(x)
        features = (x.shape[0], 1, 1, 1) if x.ndim == 4 else (x.shape[1],)
        gamma, beta = (params[name].reshape(features) for name in ("gamma", "beta"))
        if not train:
            scale = gamma / np.sqrt(state["var"].reshape(features) + self.eps)
            return _outward(x * scale + (beta - state["mean"].reshape(features) * scale)), state
        axes = (1, 2, 3) if x.ndim == 4 else (0,)
        n = math.prod(x.shape[i] for i in axes)
        if n < 2:
            raise InputError(
                f"{self.name}: a training batch needs more than one value a feature, got x of shape "
                f"{_outward(x).shape}; choose a batch_size that leaves no single sample over"
            )
        mean = np.mean(x, axis=axes, keepdims=True)
        centered = x - mean
        var = np.mean(np.square(centered), axis=axes, keepdims=True)
        y = centered * (gamma / np.sqrt(var + self.eps)) + beta
        batch = {"mean": mean, "var": var * (n / (n - 1))}
        followed = {
            name: (1.0 - self.momentum) * state[name] + self.momentum * value.reshape(-1)
            for name, value in batch.items()
        }
        return _outward(y), followed


class LayerNorm(Layer):
    """Layer normalization: every sample by itself is brought to mean 0 and variance 1.

        y = gamma (x − mean) / √(var + eps) + beta

    gamma, beta: of the shape of the axes, learned; PyTorch's normalized_shape is that shape.

    Parameters
    ----------
    axes : int, optional
        How many of the last axes are taken together, by default all but the samples'; 1 is Keras's default.
    eps : float, default 1e-5
        Added to the variance.

    Examples
    --------
    >>> nn.LayerNorm().forward(np.array([[1.0, 3.0]])).round(3)
    array([[-1.,  1.]])

    References
    ----------
    Ba, Kiros, Hinton, "Layer Normalization", arXiv 2016.
    """

    def __init__(self, axes: int | None = None, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.axes = None if axes is None else check_whole(axes, 1, "axes")
        self.eps = positive(eps, "eps")

    def output_shape(self, input_shape: Shape) -> Shape:
        if not input_shape or (self.axes or 1) > len(input_shape):
            raise InputError(f"{self.name} takes samples of at least {self.axes or 1} axes, got {input_shape}")
        return input_shape

    def initial(self, input_shape: Shape, rng: np.random.Generator | None) -> tuple[Arrays, Arrays]:
        shape = input_shape[-(self.axes or len(input_shape)) :]
        return {"gamma": _filled(1.0, shape), "beta": _filled(0.0, shape)}, {}

    def apply(self, params: Arrays, x: Any, state: Arrays, *, train: bool, noise: Any = None) -> tuple[Any, Arrays]:
        x = _inward(x)
        # samples are on the last axis of images, else on the first
        stop = x.ndim - 1 if x.ndim == 4 else x.ndim
        axes = tuple(range(stop - len(params["gamma"].shape), stop))
        shape = tuple(n if i in axes else 1 for i, n in enumerate(x.shape))
        gamma, beta = (params[name].reshape(shape) for name in ("gamma", "beta"))
        centered = x - np.mean(x, axis=axes, keepdims=True)
        var = np.mean(np.square(centered), axis=axes, keepdims=True)
        return _outward(centered * (1.0 / np.sqrt(var + self.eps)) * gamma + beta), state


def _fraction(value: Any, argument: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise InputError(f"{argument} must lie in [0, 1], got {value!r}")
    return float(value)
