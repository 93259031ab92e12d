"""What the lab does while nobody asks yet: a first drag should find the library imported and its machine code made."""

from __future__ import annotations

import contextlib

__all__ = ["warm"]


def warm() -> None:
    """Import the rooms, and make one descent and one small map, so that a first request does not wait for it."""
    from koubai.lab.session import table

    with contextlib.suppress(Exception):  # whatever it is, the request that meets it says so
        asks = table()
        arguments = {
            "function": {"problem": "himmelblau"},
            "x0": [-1.0, 0.5],
            "optimizers": [{"name": "SGD", "lr": 0.01}, {"name": "Adam", "lr": 0.1}],
            "max_steps": 60,
        }
        asks["descend"](arguments, lambda: None)
