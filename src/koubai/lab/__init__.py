"""The lab: a page on 127.0.0.1 that runs the real engine. `koubai lab` opens it; `serve` is what that calls."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable

from koubai.errors import InputError, MissingPackageError

__all__ = ["PORT", "listening", "run_server", "serve"]

PORT = 8421  # the one that is taken if it is free: a page that was open finds the lab again
ADDRESS = "127.0.0.1"


def serve(
    port: int | None = None,
    *,
    browser: bool = True,
    state: str = "",
    say: Callable[[str], None] | None = None,
) -> None:
    """Serve: run the lab until it is interrupted.

    The first line that it says is the address, with the token of this launch.

    Parameters
    ----------
    port : int, optional
        Where; None is 8421, or any other if that one is taken.
    browser : bool, default True
        Whether to open the page in the browser.
    state : str, default ""
        What the page shows first: a state as it stands behind the # of the page's address.
    say : callable, optional
        Called with each line for the user; printed on stdout if it is left out.

    Raises
    ------
    InputError
        If the port is taken, or no port.
    MissingPackageError
        If Starlette, uvicorn or websockets are not installed.

    Examples
    --------
    >>> koubai.lab.serve(browser=False)  # doctest: +SKIP
    http://127.0.0.1:8421/?token=…
    """
    with listening(port) as bound:
        _serve_on(bound, browser, state, say)


def _serve_on(bound: socket.socket, browser: bool, state: str, say: Callable[[str], None] | None) -> None:
    import secrets

    own = bound.getsockname()[1]
    token = secrets.token_urlsafe(24)
    address = f"http://{ADDRESS}:{own}/?token={token}" + (f"#{state.removeprefix('#')}" if state else "")
    if say is None:
        print(address, flush=True)
    else:
        say(address)
    if browser:
        import threading
        import webbrowser

        # the socket listens already: the browser waits for the answer while the rest is imported
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    run_server(bound, own, token)


def listening(port: int | None = None) -> socket.socket:
    """Return a socket that listens on this port of this machine alone. Raises InputError if the port is taken."""
    if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65_535):
        raise InputError(f"port must be a whole number from 0 (any) to 65535, got {port!r}")
    last: OSError | None = None
    for wanted in (PORT, 0) if port is None else (port,):
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if sys.platform != "win32":  # there it would let another process take the same port
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((ADDRESS, wanted))
            bound.listen(128)
            return bound
        except OSError as error:
            bound.close()
            last = error
    raise InputError(f"port {port} can't be used: {last}; leave --port out, or take another one") from None


def run_server(bound: socket.socket, port: int, token: str) -> None:
    """Serve on this socket until Ctrl-C."""
    try:
        import uvicorn
        import websockets  # noqa: F401  uvicorn takes it for the websocket

        from koubai.lab.server import MOST_MESSAGE, application
    except ImportError as error:
        raise MissingPackageError("the lab needs", error.name or "starlette, uvicorn and websockets") from None
    config = uvicorn.Config(
        application(port, token), loop="asyncio", http="h11", ws="websockets-sansio", lifespan="on", access_log=False,
        log_level="error", server_header=False, date_header=False, proxy_headers=False, ws_max_size=MOST_MESSAGE,
        ws_max_queue=2, ws_per_message_deflate=False, ws_ping_interval=20.0, ws_ping_timeout=60.0,
        timeout_keep_alive=30, timeout_graceful_shutdown=2, h11_max_incomplete_event_size=64 * 1024,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[bound])
