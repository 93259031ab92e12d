"""Where koubai keeps files of its user, by the platform's conventions."""

from __future__ import annotations

import os
import sys
from typing import Literal

__all__ = ["user_folder"]

# on Windows below %LOCALAPPDATA%; on macOS; elsewhere the variable and what it is where it isn't set
_PLACES = {
    "cache": (("koubai", "Cache"), "~/Library/Caches/koubai", "XDG_CACHE_HOME", "~/.cache"),
    "state": (("koubai",), "~/Library/Application Support/koubai", "XDG_STATE_HOME", "~/.local/state"),
}


def user_folder(kind: Literal["cache", "state"]) -> str | None:
    """Return the folder for what can be made again, or for what should outlive a process; None where there is none."""
    windows, mac, variable, default = _PLACES[kind]
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or os.path.expanduser(r"~\AppData\Local")
        folder = os.path.join(base, *windows)
    elif sys.platform == "darwin":
        folder = os.path.expanduser(mac)
    else:
        base = os.environ.get(variable, "")
        folder = os.path.join(base if os.path.isabs(base) else os.path.expanduser(default), "koubai")
    return folder if os.path.isabs(folder) else None  # "~" stays where the user has no home
