"""What the lab does while nobody asks yet: a first drag should find the library imported and its machine code made."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

__all__ = ["warm"]

AFTER = 2.0  # seconds in which the page is drawn and has the processor for itself
START = {"function": {"problem": "himmelblau"}, "x0": [-1.0, 0.5], "max_steps": 60}
RULE = {"name": "SGD", "lr": 0.01}

# what the page asks for at once; and what it asks for when something is changed, which imports and compiles more
AT_ONCE: dict[str, dict[str, Any]] = {"catalogue": {}, "descend": {**START, "optimizers": [RULE]}}
LATER: dict[str, dict[str, Any]] = {
    "diagnose": {**START, "optimizer": RULE},
    "step": {**START, "optimizer": RULE},
    "rates": {**START, "optimizer": RULE, "count": 8},
    "basins": {"function": START["function"], "window": [[-5, 5], [-5, 5]], "optimizer": RULE, "resolution": [16, 16]},
}


def warm() -> None:
    """Begin, in a thread of its own, to import the rooms and to ask each once."""
    threading.Thread(target=_warm, name="koubai-lab-warming", daemon=True).start()


def _warm() -> None:
    from koubai.lab.session import table

    with contextlib.suppress(Exception):  # whatever it is, the request that meets it says so
        asks = table()
        for name, arguments in AT_ONCE.items():
            asks[name](arguments, lambda: None)
        time.sleep(AFTER)
        for name, arguments in LATER.items():
            asks[name](arguments, lambda: None)
