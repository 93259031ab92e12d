"""The base of all layers, which have their arrays in place, are built, and run by themselves or in a network.

A layer works alone (``forward``, ``backward``) and inside a `Network`, which runs ``apply`` of all of them in one
graph.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, NoReturn, TypeAlias

import numpy as np

from koubai.derivatives.paths import Paths
from koubai.errors import InputError
from koubai.graph.call import Leaves
from koubai.graph.mirror import mirrored
from koubai.graph.reverse import pullback
from koubai.nn.settings import Configurable
from koubai.parameters import check_whole, real_array

__all__ = ["Arrays", "Layer", "Shape", "Weights", "fitting", "layer_by_layer"]

Shape: TypeAlias = tuple[int, ...]
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


def fitting(value: Any, shape: Shape, dtype: Any, name: str) -> Any:
    """Return an array that is given as weights. Raises InputError if its shape or a number doesn't fit."""
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


class Layer(Configurable):
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
        What it passes from batch to batch without learning it, such as running statistics.
    gradients : dict of arrays
        Of the params, after `backward`.

    Examples
    --------
    >>> layer = nn.Tanh()
    >>> y = layer.forward(np.zeros((1, 2)))
    >>> layer.backward(np.ones((1, 2)))
    array([[1., 1.]])
    """

    takes_integers: ClassVar[bool] = False  # whether it takes whole numbers, as an index is

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
        """Return the state for a copy: all but what `backward` needs."""
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
        """Return whether its arrays, and what follows it, fit another setting, too."""
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
        """Return the shape of one sample's output. Raises InputError if an input of this shape can't be taken."""
        return input_shape

    def initial(self, input_shape: Shape, rng: np.random.Generator | None) -> tuple[Arrays, Arrays]:
        """Return new (params, state) for inputs of this shape.

        rng is None for koubai's own layers if only the shapes are needed: then they may be of any size, and take
        no memory.
        """
        return {}, {}

    def apply(self, params: Arrays, x: Any, state: Arrays, *, train: bool, noise: Any = None) -> tuple[Any, Arrays]:
        """Return (y, the new state): a pure function, traced and differentiated by the engine."""
        return x, state

    def check(self, x: Any) -> None:
        """Raise InputError if there are numbers in x that the layer can't take."""

    def noise(self, x_shape: Shape, rng: np.random.Generator, dtype: Any, out: Any = None) -> Any:
        """Return the random numbers that training on one batch takes, or None. ``out``: an earlier answer, reused."""
        return None

    # --- what every layer can do
    def build(self, input_shape: Shape, rng: np.random.Generator, dtype: Any = np.float64) -> None:
        """Make ``params`` and ``state`` for samples of this shape, but for what was set before. Raises InputError if
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

        train: training or evaluation mode, in which Dropout and BatchNorm differ. seed: of the weights, made at the
        first call with the precision of x, and of the noise, 0 if none was given; with a seed the noise begins there,
        without one it goes on, new at every call. Raises InputError if x doesn't fit the layer.
        """
        x = np.asarray(x)
        if not (self.takes_integers and x.dtype.kind in "iu"):
            x = real_array(x, "x")
        if seed is not None:
            seed = check_whole(seed, 0, "seed")
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

        Raises InputError if `forward` was not called before, or dout has another shape than the output. If x is
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
