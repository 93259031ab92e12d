"""Layers: each writes its formula once, forward, in NumPy; its derivatives come from the engine.

A layer works alone (``forward``, ``backward``) and inside a `Network`, which runs ``apply`` of all of them in one
graph. Samples lie along axis 0; images have the axes (sample, channel, height, width).

In memory images are kept with the samples last, (channel, height, width, sample): what belongs to one channel is then
one piece of memory, as is every row of a window, so that NumPy and BLAS work on long runs. The transposes to and fro
are views, which cost nothing.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from typing import Any, ClassVar, NoReturn, TypeAlias

import numpy as np

from koubai.derivatives.paths import Paths
from koubai.errors import InputError
from koubai.graph import activations, windows  # noqa: F401 their primitives enter the table
from koubai.graph.call import Leaves
from koubai.graph.mirror import mirrored
from koubai.graph.ops import apply
from koubai.graph.reverse import pullback
from koubai.nn.initializers import Initializer, draw, initializer, normal
from koubai.nn.settings import Settled
from koubai.parameters import real_array

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
    "Weights",
    "fitting",
    "layer_by_layer",
]

Shape: TypeAlias = tuple[int, ...]
Pair: TypeAlias = tuple[int, int]
Arrays: TypeAlias = dict[str, Any]


class Weights(Arrays):
    """Arrays by name, each in its place: to set one writes its numbers there, in that array's shape and precision.

    Raises InputError for a name that is not there, another shape, or numbers that are not finite; then nothing is set.
    """

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def update(self, *given: Any, **more: Any) -> None:
        pairs = [(name, self._checked(name, value)) for name, value in dict(*given, **more).items()]
        for name, value in pairs:
            if value is not self[name]:
                self[name][...] = value

    def _checked(self, name: str, value: Any) -> Any:
        if name not in self:
            raise InputError(f"there is no {name!r} among the weights {', '.join(map(repr, self))}")
        own = self[name]
        if value is own:  # as after params["W"] -= lr * g
            return value
        return fitting(value, own.shape, own.dtype, name)

    def __ior__(self, other: Any) -> Weights:  # type: ignore[override,misc]
        self.update(other)
        return self

    def setdefault(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else self._checked(name, default)

    def _stays(self, *_: Any) -> NoReturn:
        raise InputError(f"{', '.join(map(repr, self))} can't be taken away: set them, as in params[name] = array")

    __delitem__ = pop = popitem = clear = _stays

    def __reduce__(self) -> Any:
        return Weights, (dict(self),)


def layer_by_layer(
    layers: Iterable[Layer],
    params: Mapping[str, Any],
    x: Any,
    state: Mapping[str, Any],
    *,
    train: bool,
    noise: Mapping[int, Any],
) -> Iterator[tuple[Any, Arrays]]:
    """Yield the output of each layer of a network and its new state; their arrays are named "0.W", "0.b", …"""
    for i, layer in enumerate(layers):
        own = {name: params[f"{i}.{name}"] for name in layer.params}
        carried = {name: state[f"{i}.{name}"] for name in layer.state}
        x, after = mirrored(layer).apply(own, x, carried, train=train, noise=noise.get(i))
        yield x, {f"{i}.{name}": value for name, value in after.items()}


def fitting(value: Any, shape: Shape, dtype: Any, name: str) -> Any:
    """Return an array that is given as weights. Raises InputError where its shape or a number doesn't fit."""
    array = real_array(value, name)
    if array.shape != shape:
        turned = "; give its transpose, .T" if array.ndim > 1 and array.T.shape == shape else ""
        raise InputError(f"{name} was given with shape {array.shape}, but it must have {shape}{turned}")
    with np.errstate(over="ignore"):
        array = array.astype(dtype, copy=False)
    if not np.isfinite(array).all():
        at = tuple(map(int, np.argwhere(~np.isfinite(array))[0]))
        raise InputError(f"{name} must be finite in {np.dtype(dtype)}, but {name}[{', '.join(map(str, at))}] is not")
    return array


class Layer(Settled):
    """Layer: a function of its parameters and of a batch x. This one returns x as it is.

        y = layer.forward(x);  dx = layer.backward(dy)

    To write one, override `apply`, in NumPy functions of whole arrays, and `output_shape` and `initial` if the defaults
    don't hold; never a derivative.

    Attributes
    ----------
    name : str
        As errors and summaries show it.
    params : dict of arrays
        Its own arrays by name, made by `build`, but for those that were set before: ``layer.params["W"] = W`` sets the
        weights at any time.
    state : dict of arrays
        What it carries from batch to batch without learning it, such as running statistics.
    gradients : dict of arrays
        Of the params, after `backward`.

    Examples
    --------
    >>> layer = nn.Tanh()
    >>> y = layer.forward(np.zeros((1, 2)))
    >>> layer.backward(np.ones((1, 2)))
    array([[1., 1.]])
    """

    takes_integers: ClassVar[bool] = False  # does it read whole numbers, as an index is?

    def __init__(self) -> None:
        self.name = f"{type(self).__name__}()"
        self.input_shape: Shape | None = None  # without the batch axis; None: not built yet
        self._params: Arrays = {}
        self._state: Arrays = {}
        self.gradients: Arrays = {}
        self._random: np.random.Generator | None = None  # of the noise of the next `forward` in training
        self._run: tuple[Any, ...] | None = None  # what `backward` needs of the last `forward`
        self._paths: Paths | None = None

    def __repr__(self) -> str:
        return self.name

    def __getstate__(self) -> Arrays:
        """What a copy gets: all but what `backward` needs."""
        return self.__dict__ | {"_run": None, "_paths": None}

    @property
    def params(self) -> Arrays:
        return self._params

    @params.setter
    def params(self, arrays: Mapping[str, Any]) -> None:
        self._params = self._taken(self._params, arrays)

    @property
    def state(self) -> Arrays:
        return self._state

    @state.setter
    def state(self, arrays: Mapping[str, Any]) -> None:
        self._state = self._taken(self._state, arrays)

    def _taken(self, own: Arrays, arrays: Mapping[str, Any]) -> Arrays:
        """Return the arrays with what was given for all of them; before `build` it is kept for that."""
        if self.input_shape is None:
            return dict(arrays)
        if missing := [name for name in own if name not in arrays]:
            raise InputError(f"{self.name}: {missing[0]!r} is missing; set single ones by name, as in params[name] = W")
        own.update(arrays)
        return own

    def lie_in(self, params: Arrays, state: Arrays) -> None:
        """Take these arrays, which a network has, as its own."""
        self._params, self._state = Weights(params), Weights(state)

    def without_arrays(self) -> Layer:
        """Return a copy that has the settings and the names of the arrays, and nothing else."""
        twin = copy.copy(self)
        twin._params, twin._state = dict.fromkeys(self._params), dict.fromkeys(self._state)
        twin.gradients, twin._random = {}, None
        return twin

    def allows(self, made: Layer, name: str) -> bool:
        """Tell whether its arrays, and what follows it, fit another setting, too."""
        if self.input_shape is None:
            return True
        shapes = [
            (layer.output_shape(self.input_shape), *({k: np.shape(v) for k, v in part.items()} for part in arrays))
            for layer, arrays in (
                (self, (self._params, self._state)),
                (made, made.initial(self.input_shape, None)),
            )
        ]
        return shapes[0] == shapes[1]

    # --- what a layer says of itself
    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one sample's output. Raises InputError where an input of this shape can't be taken."""
        return input_shape

    def initial(self, input_shape: Shape, rng: np.random.Generator | None) -> tuple[Arrays, Arrays]:
        """Return new (params, state) for inputs of this shape.

        rng is None for koubai's own layers where only the shapes are asked for: then they may be of any size, and take
        no memory.
        """
        return {}, {}

    def apply(self, params: Arrays, x: Any, state: Arrays, *, train: bool, noise: Any = None) -> tuple[Any, Arrays]:
        """Return (y, the new state): a pure function, traced and differentiated by the engine."""
        return x, state

    def check(self, x: Any) -> None:
        """Raise InputError where there are numbers in x that the layer can't take."""

    def noise(self, x_shape: Shape, rng: np.random.Generator, dtype: Any, out: Any = None) -> Any:
        """Return the random numbers that training on one batch takes, or None. ``out``: an earlier answer, reused."""
        return None

    # --- what every layer can do
    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: Any = np.float64) -> None:
        """Make ``params`` and ``state`` for samples of this shape, but for what was set before. Raises InputError where
        the shape doesn't fit.
        """
        input_shape = tuple(int(n) for n in input_shape)
        self.output_shape(input_shape)
        made = self.initial(input_shape, rng)
        for given, arrays in zip((self._params, self._state), made, strict=True):
            if unknown := [name for name in given if name not in arrays]:
                there = ", ".join(map(repr, arrays)) or "none"
                raise InputError(f"{self.name}: there is no {unknown[0]!r} among its arrays ({there})")
        params, state = (
            {
                name: fitting(given[name], np.shape(value), dtype, f"{self.name}: {name}")
                if name in given
                else np.array(value, dtype)
                for name, value in arrays.items()
            }
            for given, arrays in zip((self._params, self._state), made, strict=True)
        )
        self.lie_in(params, state)
        self.input_shape = input_shape

    def forward(self, x: Any, *, train: bool = False, seed: int | None = None) -> Any:
        """Return the output for a batch x, and keep what `backward` needs.

        train: training or evaluation mode, which Dropout and BatchNorm tell apart. seed: of the weights, made at the
        first call with the precision of x, and of the noise, 0 if none was given; with a seed the noise begins there,
        without one it goes on, new at every call. Raises InputError where x doesn't fit the layer.
        """
        x = np.asarray(x)
        if not (self.takes_integers and x.dtype.kind in "iu"):
            x = real_array(x, "x")
        if seed is not None:
            seed = _whole(seed, 0, "seed")
        if x.ndim < 2 and not self.takes_integers:
            raise InputError(
                f"{self.name}: x has shape {x.shape}; axis 0 must be the samples: x[None] is a batch of one"
            )
        if not x.size:
            raise InputError(f"{self.name}: x is empty (shape {x.shape}); give at least one sample")
        if self.input_shape is None or not (self.params or self.state or x.shape[1:] == self.input_shape):
            given = [real_array(a, f"{self.name}: {name}").dtype for name, a in self._params.items()]
            dtype = np.result_type(*given) if given else x.dtype if x.dtype.kind == "f" else np.float64
            self.build(x.shape[1:], np.random.default_rng(seed or 0), dtype)
        elif x.shape[1:] != self.input_shape:
            raise InputError(f"{self.name} was built for samples of shape {self.input_shape}, got {x.shape[1:]}")
        self.check(x)
        dtype = next((value.dtype for value in self.params.values()), x.dtype)
        if x.dtype.kind == "f":
            x = x.astype(dtype, copy=False)
        noise = None
        if train:
            if seed is not None or self._random is None:
                self._random = np.random.default_rng(seed or 0)
            noise = self.noise(x.shape, self._random, x.dtype)
        params, before = dict(self.params), dict(self.state)
        with np.errstate(all="ignore"):
            y, after = self.apply(params, x, before, train=train, noise=noise)
        if train and before:
            before = {name: value.copy() for name, value in before.items()}
            self.state = after
        self._run = params, x, before, train, noise, y.shape, y.dtype
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
                return mirrored(self).apply(params, x, state, train=train, noise=noise)[0]

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


def _given(value: Any, axes: int, form: str) -> Any:
    """Return the weights W that were given in place of a number, None where a number was. Raises InputError where they
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

        y = max(x, 0),  dy/dx = 1 where x > 0, else 0

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

        y = x where x > 0, else slope · x

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
    """Gaussian error linear unit: weighs every number by the share of a normal distribution that lies below it.

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
        self.approximate = _flag(approximate, "approximate")
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
        self.units = _whole(units, 1, "units")
        self.init = initializer(init)
        self.bias = _flag(bias, "bias")
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
        self.filters = _whole(filters, 1, "filters")
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
        self.bias = _flag(bias, "bias")
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
        return _whole(value[0], least, argument), _whole(value[1], least, argument)
    return (_whole(value, least, argument),) * 2


def _place_counts(name: str, input_shape: Shape, kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    """Return (height, width) of the output. Raises InputError where no window fits into the image."""
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
    """Embedding: every whole number stands for a vector that is learned.

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
        self.count, self.size = _whole(count, 1, "count"), _whole(size, 1, "size")
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

    Inverted, as in PyTorch and Keras: what stays is made larger in training, so that nothing is to do afterwards.

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
        if isinstance(p, bool) or not isinstance(p, Real) or not 0 <= float(p) < 1:
            raise InputError(f"p must lie in [0, 1), got {p!r}")
        self.p: float = float(p)
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
        self.momentum, self.eps = _fraction(momentum, "momentum"), _positive(eps, "eps")

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
        self.axes = None if axes is None else _whole(axes, 1, "axes")
        self.eps = _positive(eps, "eps")

    def output_shape(self, input_shape: Shape) -> Shape:
        if not input_shape or (self.axes or 1) > len(input_shape):
            raise InputError(f"{self.name} takes samples of at least {self.axes or 1} axes, got {input_shape}")
        return input_shape

    def initial(self, input_shape: Shape, rng: np.random.Generator | None) -> tuple[Arrays, Arrays]:
        shape = input_shape[-(self.axes or len(input_shape)) :]
        return {"gamma": _filled(1.0, shape), "beta": _filled(0.0, shape)}, {}

    def apply(self, params: Arrays, x: Any, state: Arrays, *, train: bool, noise: Any = None) -> tuple[Any, Arrays]:
        x = _inward(x)
        # samples lie last in images, first elsewhere
        stop = x.ndim - 1 if x.ndim == 4 else x.ndim
        axes = tuple(range(stop - len(params["gamma"].shape), stop))
        shape = tuple(n if i in axes else 1 for i, n in enumerate(x.shape))
        gamma, beta = (params[name].reshape(shape) for name in ("gamma", "beta"))
        centered = x - np.mean(x, axis=axes, keepdims=True)
        var = np.mean(np.square(centered), axis=axes, keepdims=True)
        return _outward(centered * (1.0 / np.sqrt(var + self.eps)) * gamma + beta), state


def _flag(value: Any, argument: str) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{argument} must be True or False, got {value!r}")
    return bool(value)


def _fraction(value: Any, argument: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise InputError(f"{argument} must lie in [0, 1], got {value!r}")
    return float(value)


def _positive(value: Any, argument: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not float(value) > 0:
        raise InputError(f"{argument} must be a number > 0, got {value!r}")
    return float(value)
