"""Layers and losses from text: "64,relu,10", "crossentropy"."""

from __future__ import annotations

import re
from collections.abc import Callable

from koubai.errors import InputError, UnknownNameError
from koubai.nn.layers import (
    GELU,
    AvgPool2D,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    LayerNorm,
    LeakyReLU,
    MaxPool2D,
    ReLU,
    Sigmoid,
    Softmax,
    Tanh,
)
from koubai.nn.losses import MAE, MSE, BinaryCrossEntropy, CrossEntropy, Huber, Loss

__all__ = ["LOSSES", "NOTATION", "parse_layers", "parse_loss"]

LOSSES: dict[str, type[Loss]] = {
    loss.__name__.lower(): loss for loss in (CrossEntropy, BinaryCrossEntropy, MSE, MAE, Huber)
}

# example → (the pattern, what is made from the parts in brackets)
NOTATION: dict[str, tuple[str, Callable[..., Layer]]] = {
    "64": (r"(\d+)", lambda units: Dense(int(units))),
    "sigmoid": ("sigmoid", Sigmoid),
    "tanh": ("tanh", Tanh),
    "relu": ("relu", ReLU),
    "leakyrelu": ("leakyrelu", LeakyReLU),
    "gelu": ("gelu", GELU),
    "softmax": ("softmax", Softmax),
    "dropout0.5": (r"dropout([\d.]+)", lambda p: Dropout(float(p))),
    "batchnorm": ("batchnorm", BatchNorm),
    "layernorm": ("layernorm", LayerNorm),
    "conv8x3s1p1": (
        r"conv(\d+)x(\d+)(?:s(\d+))?(?:p(\d+))?",
        lambda out, size, stride, padding: Conv2D(
            int(out), int(size), stride=int(stride or 1), padding=int(padding or 0)
        ),
    ),
    "pool2": (r"pool(\d+)", lambda size: MaxPool2D(int(size))),
    "avgpool2": (r"avgpool(\d+)", lambda size: AvgPool2D(int(size))),
    "flatten": ("flatten", Flatten),
}


def parse_layers(text: str) -> list[Layer]:
    """Layers from text: items with commas between them, one layer each.

        64              Dense(64): 64 units
        relu            also leakyrelu, gelu, sigmoid, tanh, softmax
        conv8x3s2p1     Conv2D: 8 filters of 3 × 3, stride 2, padding 1; conv8x3 has stride 1, padding 0
        pool2           MaxPool2D(2); avgpool2: AvgPool2D(2)
        flatten         Flatten()
        dropout0.5      Dropout(0.5)
        batchnorm       BatchNorm(); layernorm: LayerNorm()

    Parameters
    ----------
    text : str
        The items.

    Returns
    -------
    list of Layer
        For a `Network`.

    Raises
    ------
    InputError
        For an item that means nothing, with the nearest one, or that its layer refuses.

    Examples
    --------
    >>> [layer.name for layer in nn.parse_layers("64,relu,10")]
    ['Dense(64)', 'ReLU()', 'Dense(10)']
    """
    layers = []
    for place, item in enumerate(text.lower().replace(" ", "").split(","), 1):
        for pattern, make in NOTATION.values():
            if match := re.fullmatch(pattern, item):
                try:
                    layers.append(make(*match.groups()))
                except ValueError as error:
                    raise InputError(f"layers: item {place}, {item!r}: {error}") from None
                break
        else:
            raise UnknownNameError(f"layer, item {place} of layers:", item, NOTATION)
    return layers


def parse_loss(text: str) -> Loss:
    """Loss from text: its name, as crossentropy, binarycrossentropy, mse, mae or huber, with its usual settings.

    Parameters
    ----------
    text : str
        The name.

    Returns
    -------
    Loss
        For a `Network`.

    Raises
    ------
    UnknownNameError
        For any other name.

    Examples
    --------
    >>> type(nn.parse_loss("mse")).__name__
    'MSE'
    """
    name = text.lower().replace("_", "").replace("-", "")
    if name not in LOSSES:
        raise UnknownNameError("loss", text, LOSSES)
    return LOSSES[name]()
