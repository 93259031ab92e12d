"""All idioms: importing this enters them."""

from . import state
from .writing import IDIOMS, Idiom, corpus

__all__ = ["IDIOMS", "Idiom", "corpus", "state"]
