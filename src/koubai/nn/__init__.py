"""Networks: layers and losses; data to train on, in mini-batches, split, standardized; data sets."""

from koubai.nn import initializers
from koubai.nn.data import Batches, Standardizer, Stream, batches, one_hot, split, standardize
from koubai.nn.datasets import Table, blobs, circles, digits, moons, read_csv, spirals, xor
from koubai.nn.layers import Dense, Flatten, Layer, LeakyReLU, ReLU, Sigmoid, Softmax, Tanh
from koubai.nn.losses import MSE, CrossEntropy, Loss

__all__ = [
    "MSE",
    "Batches",
    "CrossEntropy",
    "Dense",
    "Flatten",
    "Layer",
    "LeakyReLU",
    "Loss",
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
    "read_csv",
    "spirals",
    "split",
    "standardize",
    "xor",
]
