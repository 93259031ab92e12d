"""The lab: a page on 127.0.0.1 that runs the real engine. `koubai lab` opens it; `serve` is what that calls.

In a notebook `descent` and `basins` give two of its rooms as widgets.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from koubai.errors import InputError, MissingPackageError

if TYPE_CHECKING:
    from types import ModuleType

    from koubai.lab.notebook import Basins, Descent

__all__ = ["PORT", "basins", "descent", "listening", "run_server", "serve"]

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
        What the page shows first: JSON, or a state as it stands behind the # of the page's address.
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


def descent(
    function: Any = "himmelblau",
    x0: Any = None,
    optimizers: Any = None,
    *,
    max_steps: int | None = None,
    gtol: float | None = None,
    bounds: Sequence[Sequence[float | None]] | None = None,
    seed: int | None = None,
    window: Sequence[Sequence[float]] | None = None,
    view: str | None = None,
    panel: str | None = None,
    language: str | None = None,
    theme: str | None = None,
    height: int = 640,
) -> Descent:
    """Descent room: drag a start in a notebook, and the whole paths of several optimizers follow.

    Parameters
    ----------
    function : str, Expression, Problem or mapping, default "himmelblau"
        A function of two variables: a name of `koubai.problems`, a text for `koubai.parse`, one of these objects, or
        the specification of a descent, `run.spec`, which brings what is left out below.
    x0 : array, optional
        The start. The problem's own if it is left out.
    optimizers : list, optional
        Names, objects, or mappings such as ``{"name": "Adam", "lr": 0.1}``, up to 12; one alone need not be a list.
    max_steps, gtol, bounds, seed : optional
        As of `koubai.minimize`; 200, 1e-6, none and 0. bounds: [[low, high], [low, high]].
    window : [[xlow, xhigh], [ylow, yhigh]], optional
        The part of the plane that is drawn.
    view : {"contours", "surface"}, optional
        How f is drawn.
    panel : {"curves", "step", "race", "share"}, optional
        What is open beside it.
    language : {"en", "ja"}, optional
        The browser's if it is left out.
    theme : {"light", "dark"}, optional
        The notebook's if it is left out.
    height : int, default 640
        In pixels.

    Returns
    -------
    Descent
        A widget of Jupyter's. ``.state`` is what it is set to and where the descents end; ``.runs()`` makes them as
        `Run` objects, with the same bits; ``.set(x0=…)`` changes it.

    Raises
    ------
    InputError
        For what can't be used, by its name.
    MissingPackageError
        If anywidget is not installed.

    Examples
    --------
    >>> room = koubai.lab.descent("x**2/20 + y**2", x0=[-7, 2], optimizers=["sgd", "adam"])  # doctest: +SKIP
    >>> room.runs()[0].x  # doctest: +SKIP
    """
    changes = {
        "x0": x0, "optimizers": optimizers, "max_steps": max_steps, "gtol": gtol, "bounds": bounds, "seed": seed,
        "window": window, "view": view, "panel": panel,
    }  # fmt: skip
    made: Descent = _notebook().descent_of(function, changes, {"language": language, "theme": theme, "height": height})
    return made


def basins(
    function: Any = "himmelblau",
    optimizer: Any = None,
    *,
    window: Sequence[Sequence[float]] | None = None,
    steps: int | None = None,
    x0: Any = None,
    language: str | None = None,
    theme: str | None = None,
    height: int = 640,
) -> Basins:
    """Basin room: in a notebook, the minimum that a descent from each pixel reaches.

    Parameters
    ----------
    function : str, Expression, Problem or mapping, default "himmelblau"
        A function of two variables: a name of `koubai.problems`, a text for `koubai.parse`, or one of these objects.
    optimizer : str, Optimizer or mapping, optional
        One; gradient descent with the rate 0.01 if it is left out.
    window : [[xlow, xhigh], [ylow, yhigh]], optional
        The part of the plane whose points are starts.
    steps : int, optional
        Of each descent; 200.
    x0 : array, optional
        The start whose path is drawn.
    language, theme, height : optional
        As of `descent`.

    Returns
    -------
    Basins
        A widget of Jupyter's. ``.state`` is what it is set to, and the minima with their shares that it shows.

    Raises
    ------
    InputError
        For what can't be used, by its name.
    MissingPackageError
        If anywidget is not installed.

    Examples
    --------
    >>> koubai.lab.basins("himmelblau", {"name": "SGD", "lr": 0.0235}, steps=300)  # doctest: +SKIP
    """
    changes = {"optimizer": optimizer, "window": window, "steps": steps, "x0": x0}
    made: Basins = _notebook().basins_of(function, changes, {"language": language, "theme": theme, "height": height})
    return made


def _notebook() -> ModuleType:
    try:
        from koubai.lab import notebook
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("anywidget", "traitlets", "ipywidgets"):
            raise
        raise MissingPackageError("the lab in a notebook needs", "anywidget") from None
    return notebook


def _fragment(state: str) -> str:
    """Return a state as it stands behind the #: what people write is quoted, what was copied from there is not."""
    from urllib.parse import quote

    text = state.strip().removeprefix("#")
    return quote(text, safe=":,/") if text.startswith("{") else text


def _serve_on(bound: socket.socket, browser: bool, state: str, say: Callable[[str], None] | None) -> None:
    import secrets

    own = bound.getsockname()[1]
    token = secrets.token_urlsafe(24)
    address = f"http://{ADDRESS}:{own}/?token={token}" + (f"#{_fragment(state)}" if state else "")
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
