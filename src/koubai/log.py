"""What koubai decides on its own, as records of ``logging.getLogger("koubai")`` at level DEBUG.

    logging.basicConfig(level=logging.DEBUG)

shows traces, refusals, compiles and what was found in a cache. koubai adds no handler and sets no level.
"""

from __future__ import annotations

import sys

__all__ = ["debug"]

_DEBUG = 10  # logging.DEBUG


def debug(message: str, *args: object) -> None:
    """Log a message, with ``args`` filled in if it is shown. For places that are slow anyway, never for a warm call.

    A program that never imported logging has nobody to read it, and doesn't pay for the import.
    """
    logging = sys.modules.get("logging")
    if logging is None:
        return
    logger = logging.getLogger("koubai")
    if logger.isEnabledFor(_DEBUG):
        logger.debug(message, *args, stacklevel=2)
