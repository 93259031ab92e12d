"""Networks in files: an .npz archive whose JSON header says which layers and loss there are, and with what settings."""

from __future__ import annotations

import contextlib
import inspect
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

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
from koubai.errors import InputError
from koubai.nn import layers as known_layers
from koubai.nn import losses as known_losses
from koubai.nn.layer import Layer
from koubai.nn.losses import Loss
from koubai.nn.settings import is_own

if TYPE_CHECKING:
    from koubai.nn.network import Network

__all__ = ["load_network", "save_network"]


def save_network(network: Network, path: str | os.PathLike[str]) -> None:
    """Write a network that was built, with its weights."""
    header = {
        "layers": [_described(layer) for layer in network.layers],
        "loss": _described(network.setting("loss")),
        "seed": network.seed,
        "dtype": network.dtype.name,
        "l1": network.l1,
        "l2": network.l2,
        "input_shape": network.input_shape,
    }
    arrays = {f"params.{name}": value for name, value in network.params.items()}
    write_archive(path, "network", header, arrays | {f"state.{name}": v for name, v in network.state.items()})


def load_network(
    cls: type[Network], path: str | os.PathLike[str], layers: Sequence[Layer] | None, loss: Loss | None
) -> Network:
    """Return the network of a file, as a ``cls``; layers, loss: in place of those that the file describes, if given."""
    archive = read_archive(path, "network", _HEADER)
    header, arrays = archive.header, archive.arrays
    own = layers is None
    if layers is None:
        layers = [_remade(archive, one, known_layers, "layers") for one in header["layers"]]
    loss = _remade(archive, header["loss"], known_losses, "loss") if loss is None else loss
    with archive.building() if own else contextlib.nullcontext():
        network = cls(layers, loss, seed=header["seed"], dtype=header["dtype"], l1=header["l1"], l2=header["l2"])
        shapes = {name: array.shape for name, array in arrays.items()}
        fits = _have_shapes(network.layers, header["input_shape"], shapes)
    if not fits:
        which = "" if own else " given"
        raise InputError(f"the layers{which} do not fit {str(path)!r}: it has {', '.join(sorted(shapes))[:200]}")
    with archive.building():
        archive.expect({name: _weights(name, shape, header["dtype"]) for name, shape in shapes.items()})
    network.build(header["input_shape"])
    for kind, arrays_of in (("params", network.params), ("state", network.state)):
        arrays_of.update({name: arrays[f"{kind}.{name}"] for name in arrays_of})
    return network


def _have_shapes(layers: Sequence[Layer], input_shape: Sequence[int], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Return whether the arrays of the layers have these shapes, by their names in a file, before any is made."""
    shape, found = tuple(input_shape), {}
    for i, layer in enumerate(layers):
        after = tuple(layer.output_shape(shape))
        made = layer.initial(shape, None if is_own(type(layer)) else np.random.default_rng(0))
        for kind, arrays in zip(("params", "state"), made, strict=True):
            for name, value in arrays.items():
                found[f"{kind}.{i}.{name}"] = np.shape(value)
                if shapes.get(f"{kind}.{i}.{name}") != np.shape(value):
                    return False
        shape = after
    return found.keys() == shapes.keys()


def _described(thing: Layer | Loss) -> dict[str, Any]:
    """Return a layer or loss in JSON's types: its class and what it was made with."""
    given = {}
    for parameter in inspect.signature(type(thing).__init__).parameters.values():
        value = getattr(thing, parameter.name, None)
        if parameter.name not in ("self", "init") and value is not None:  # the initial weights are not needed again
            given[parameter.name] = value.tolist() if isinstance(value, np.ndarray) else value
    return {"class": type(thing).__name__, "given": given}


def _wholes(value: Any, name: str) -> Any:
    return a_list(a_whole(), 2)(value, name) if isinstance(value, list) else a_whole()(value, name)


_GIVEN = {  # what koubai's layers and losses are made with
    **dict.fromkeys(("units", "filters", "count", "axes"), a_whole(1)),
    **dict.fromkeys(("size", "kernel", "stride", "padding"), _wholes),
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


def _remade(archive: Archive, saved: Mapping[str, Any], room: Any, argument: str) -> Any:
    cls = getattr(room, saved["class"], None) if saved["class"] in room.__all__ else None
    if not isinstance(cls, type) or not issubclass(cls, Layer | Loss):
        raise InputError(f"{saved['class']} is a class of your own: give {argument}= to load it")
    with archive.building():
        known = {name: _GIVEN[name] for name in inspect.signature(cls.__init__).parameters if name in _GIVEN}
        given = a_record({}, may=known)(saved["given"], f"{argument}: {saved['class']}")
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in given.items()})
