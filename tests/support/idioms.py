"""All idioms: importing this enters them."""

from . import arrays, branches, effects, libraries, objects, reach, state, text, world
from .writing import IDIOMS, Idiom, corpus

__all__ = [
    "IDIOMS",
    "Idiom",
    "arrays",
    "branches",
    "corpus",
    "effects",
    "libraries",
    "objects",
    "reach",
    "state",
    "text",
    "world",
]
