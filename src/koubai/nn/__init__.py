"""Networks: data to train on, in mini-batches, split, standardized; data sets."""

from koubai.nn.data import Batches, Standardizer, Stream, batches, one_hot, split, standardize
from koubai.nn.datasets import Table, blobs, circles, digits, moons, read_csv, spirals, xor

__all__ = [
    "Batches",
    "Standardizer",
    "Stream",
    "Table",
    "batches",
    "blobs",
    "circles",
    "digits",
    "moons",
    "one_hot",
    "read_csv",
    "spirals",
    "split",
    "standardize",
    "xor",
]
