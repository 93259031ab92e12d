"""A network as a training sees it, and the programs that networks which compute the same of their weights share."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from koubai.descent.batches import GatheredBatches, chunks
from koubai.descent.fit import ValueAndGradient, consecutive, weighted_mean
from koubai.errors import InputError
from koubai.nn.layer import layer_by_layer
from koubai.nn.losses import Loss, hits
from koubai.nn.settings import is_own
from koubai.nn.sources import CheckedBatches
from koubai.parameters import FloatArray

if TYPE_CHECKING:
    from koubai.nn.network import Network

__all__ = ["NetworkModel", "NetworkPrograms", "cache_key", "program_cache"]

Array: TypeAlias = npt.NDArray[Any]
CACHED = 16  # programs of networks that are kept


class NetworkPrograms:
    """The function of networks with the same `cache_key`, and its programs, which all of them share.

    network: one of them, as it may be traced: for koubai's own layers a twin without weights, whose settings don't
    change; criterion: its loss. value_and_gradient: of the loss in evaluation; steps: what `Training` compiles; None
    if a layer or a loss is the user's own and may do anything.
    """

    def __init__(self, network: Network, shares: bool) -> None:
        self.network = network.without_arrays() if shares else network
        self.steps = dict[Any, Any]() if shares else None
        self.criterion: Loss = self.network.setting("loss")
        self.counts = int(self.criterion.classifies)
        self.shapes = [network.input_shape or (), *network.output_shapes[:-1]]
        probe = np.random.default_rng(0)
        self.noisy = [
            i
            for i, layer in enumerate(network.layers)
            if layer.noise((1, *self.shapes[i]), probe, network.dtype) is not None
        ]
        self.value_and_gradient = ValueAndGradient(self.evaluated)

    @classmethod
    def of(cls, network: Network) -> NetworkPrograms:
        """Return the programs of a network."""
        if (key := cache_key(network)) is None:
            network.programs = network.programs or cls(network, shares=False)
            return network.programs
        with _lock:
            programs = program_cache.pop(key, None) or cls(network, shares=True)
            program_cache[key] = programs
            while len(program_cache) > CACHED:
                del program_cache[next(iter(program_cache))]
        return programs

    def evaluated(self, params: Any, x: Any, y: Any, w: Any, state: Any) -> Any:
        """Return the mean loss in evaluation, without penalties."""
        outputs, _ = self.network.apply(params, x, state, train=False)
        return self.criterion(outputs, y, w)

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
        value = self.criterion(outputs, y, w)
        if w is not None:  # their mean over all the data is 1
            value = value * (self.criterion.total_weight(y, w) * (1.0 / y.shape[0]))
        if network.l1 or network.l2:
            value = value + network.penalty(params)
        passed_on: tuple[Any, ...] = ()
        if network.state_layout is not None:
            passed_on = (np.concatenate([after[name].reshape(-1) for name in network.state_layout.names or ()]),)
        counts: tuple[Any, ...] = ()
        if self.counts:
            counts = (np.sum(hits(self.criterion, outputs, y)),)
        return (value, *passed_on, *counts) if passed_on or counts else value

    def loss_and_gradient(
        self, network: Network, groups: Iterable[tuple[Array, Array, Array | None]]
    ) -> tuple[float, FloatArray]:
        """Return loss and flat gradient at a network's weights over all samples of the groups, in evaluation mode."""
        fun, total = 0.0, 0.0
        g = np.zeros(network.layout.size, np.float64)
        for X, y, weights in groups:
            for part in chunks(len(X)):
                w = None if weights is None else weights[part]
                if not (size := float(self.criterion.total_weight(y[part], w))):
                    continue
                x, state = network.cast(X[part]), dict(network.state)
                value, slopes = self.value_and_gradient(dict(network.params), x, y[part], w, state)
                fun, total = fun + size * value, total + size
                g += size * slopes
        fun, g = fun / total, g / total
        for name, part_of_g in network.layout.view(g).items():
            if name.endswith(".W"):
                part_of_g += network.l1 * np.sign(network.params[name]) + 2.0 * network.l2 * network.params[name]
        return fun + float(network.penalty(network.params)), g.astype(network.dtype)


program_cache: dict[Any, NetworkPrograms] = {}  # by `cache_key`; what was trained last is at the end
_lock = threading.Lock()


def cache_key(network: Network) -> Any:
    """Return a key that networks share which compute the same from their weights; None if that isn't known."""
    loss = network.setting("loss")
    things = (*network.layers, loss)
    if not all(is_own(type(thing)) for thing in (network, *things)):
        return None
    parts: list[Any] = []
    for thing in things:
        kind = type(thing)
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

    def __init__(
        self, network: Network, source: GatheredBatches | CheckedBatches, validation: tuple[Array, Array] | None
    ) -> None:
        self.network, self.source, self.validation = network, source, validation
        self.function = network
        self.layout, self.start, self.model_state = network.layout, network.vector, network.carried
        sizes = (sum(a.size for a in layer.params.values()) for layer in network.layers)
        self.layers = consecutive((name, n) for name, n in zip(network.names, sizes, strict=True) if n)
        self.name, self.has_validation = repr(network), validation is not None
        self.key = cache_key(network)
        self.programs = programs = NetworkPrograms.of(network)
        self.loss, self.counts, self.program_cache = programs.loss, programs.counts, programs.steps
        self.noisy, self.shapes = programs.noisy, programs.shapes
        self._noise: dict[tuple[int, int], Any] = {}  # (layer, samples) -> memory for it

    def twin(self, source: CheckedBatches) -> NetworkModel:
        """Return a model of a copy of the network, with other data."""
        return NetworkModel(copy.deepcopy(self.network), source, None)

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

    def full_loss_and_gradient(self, params: FloatArray, model_state: FloatArray | None) -> tuple[float, FloatArray]:
        self.load(params, model_state)
        with np.errstate(all="ignore"):
            return self.programs.loss_and_gradient(self.network, self._groups())

    def full_loss(self, params: FloatArray, model_state: FloatArray | None, least: float) -> float:
        self.load(params, model_state)
        network = self.network
        if isinstance(self.source, GatheredBatches) and is_own(type(self.programs.criterion)):
            # no sample's loss is below 0, and their weights have the mean 1: often a part of them says enough
            X, y, *w = self.source.arrays
            some = -(-len(X) // 3)
            value, _, size = network.measured(X[:some], y[:some], w[0][:some] if w else None)
            penalty = float(network.penalty(network.params))
            if (value - penalty) * size / len(X) + penalty > least:
                return math.inf
        measured = (network.measured(*group) for group in self._groups())
        return weighted_mean((value, size) for value, _, size in measured)

    def _groups(self) -> Iterable[tuple[Array, Array, Array | None]]:
        """Return (X, y, weights or None) of all the data, in as few parts as they come in."""
        groups = [self.source.arrays] if isinstance(self.source, GatheredBatches) else self.source.epoch(0)
        return ((X, y, w[0] if w else None) for X, y, *w in groups)

    def by_differences(self, error: Exception) -> None:
        """A network is backpropagated or not trained at all."""

    def validate(self, params: FloatArray, model_state: FloatArray | None) -> tuple[float, float | None] | None:
        if self.validation is None:
            return None
        self.load(params, model_state)
        X, y = self.validation
        return self.network.measured(X, y, None)[:2]

    def load(self, params: FloatArray, model_state: FloatArray | None) -> None:
        """Set the network's weights and state to these."""
        self.network.vector[...] = params
        if model_state is not None and self.network.carried is not None:
            self.network.carried[...] = model_state

    def after_callback(self, params: FloatArray) -> FloatArray:
        if self.key != cache_key(self.network):
            raise InputError(
                "on_epoch changed a setting of a layer, of the loss or of the network, but a training goes by those "
                "that it began with: change them between two trainings, fit(…, resume=True)"
            )
        return self.network.vector

    def explain_failure(self, params: FloatArray, model_state: FloatArray | None, data: tuple[Any, ...]) -> str:
        network = self.network
        given = network.layout.view(params)
        state = network.state_of(model_state)
        noise = dict(zip(self.noisy, data[len(data) - len(self.noisy) :], strict=True))
        bad = next((name for name, value in given.items() if not np.isfinite(value).all()), None)
        if bad is not None:
            return f"the weights {bad!r} of layer {network.names[int(bad.split('.')[0])]!r} are not finite"
        x: Any = data[0]
        through = layer_by_layer(network.layers, given, x, state, train=True, noise=noise)
        with np.errstate(all="ignore"):
            for name, (x, _) in zip(network.names, through, strict=True):
                if not np.isfinite(x).all():
                    return f"layer {name!r} is the first whose output is not finite"
        loss = self.programs.criterion.name
        return f"every layer's output is finite, up to {np.max(np.abs(x)):.3g}; the loss {loss} is not"
