"""Networks. So far: the mini-batches that a stochastic descent is fed with."""

from koubai.nn.data import Batches, batches

__all__ = ["Batches", "batches"]
