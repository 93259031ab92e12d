"""Networks: layers and losses; data to train on, in mini-batches, split, standardized; data sets."""

from typing import Any as _Any

from koubai.nn import initializers
from koubai.nn.data import Batches, Standardizer, Stream, batches, one_hot, split, standardize
from koubai.nn.datasets import Table, blobs, circles, digits, moons, read_csv, spirals, xor
from koubai.nn.layers import (
    GELU,
    AvgPool2D,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
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
from koubai.nn.network import Epoch, Evaluation, Network
from koubai.nn.notation import parse_layers, parse_loss
from koubai.synonyms import no_attribute as _no_attribute

__all__ = [
    "GELU",
    "MAE",
    "MSE",
    "AvgPool2D",
    "BatchNorm",
    "Batches",
    "BinaryCrossEntropy",
    "Conv2D",
    "CrossEntropy",
    "Dense",
    "Dropout",
    "Embedding",
    "Epoch",
    "Evaluation",
    "Flatten",
    "Huber",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Loss",
    "MaxPool2D",
    "Network",
    "ReLU",
    "Sigmoid",
    "Softmax",
    "Standardizer",
    "Stream",
    "Table",
    "Tanh",
    "batches",
    "blobs",
    "circles",
    "digits",
    "initializers",
    "moons",
    "one_hot",
    "parse_layers",
    "parse_loss",
    "read_csv",
    "spirals",
    "split",
    "standardize",
    "xor",
]


def __getattr__(name: str) -> _Any:
    raise _no_attribute(__name__, name, __all__)
