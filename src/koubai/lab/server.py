"""The lab's server: one page, its files and one websocket, on 127.0.0.1 and for the user who started it.

Four gates stand before everything that computes. The address is bound to this machine alone. The Host of a request must
be this address, so that no other name that was made to point here gets an answer. The Origin, where there is one, must
be the page's own, and no CORS header ever says otherwise. And a ticket is needed: a cookie that the address with the
launch's token gives, signed with a key that stays on this machine, so that a page which is open when the server is
started again on the same port goes on.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import os
import secrets
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from koubai.folders import user_folder
from koubai.lab.messages import MOST_BYTES
from koubai.lab.warming import warm

if TYPE_CHECKING:
    from koubai.lab.session import Session

__all__ = [
    "Gates",
    "Tickets",
    "application",
    "signing_key",
]

STATIC = Path(__file__).parent / "static"
HOSTS = ("127.0.0.1", "localhost")
MOST_CLIENTS = 128
SLOW = 30.0  # seconds that a page may take to read an answer
LIFETIME = 30 * 24 * 3600  # seconds that a ticket is good for
WORKERS = max(2, min(8, os.cpu_count() or 2))

HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data: blob:; connect-src 'self'; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}

NO_TICKET = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>koubai lab</title>
<meta name="viewport" content="width=device-width, initial-scale=1"></head>
<body>
<h1>koubai lab</h1>
<p>Open the lab by the address that <code>koubai lab</code> has printed: it carries a token that lets you in.
If this page was opened from a link, <a href="/">open it here</a>.</p>
<p lang="ja"><code>koubai lab</code> が表示したアドレスから開いてください。
アドレスに含まれるトークンが、開くための鍵になります。
リンクから来た場合は<a href="/">こちらから開き直してください</a>。</p>
</body></html>
"""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Deliver = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def signing_key(folder: Path | None = None) -> bytes:
    """Return the key that tickets are signed with, made at the first launch; one of this launch alone if it can't be
    kept, or if others could read it.
    """
    if folder is None:
        own = user_folder("state")
        if own is None:
            return secrets.token_bytes(32)
        folder = Path(own)
    path = folder / "lab.key"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as file:
                file.write(secrets.token_bytes(32))
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            private = os.name != "posix" or (status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077)
            key = file.read(64)
        if stat.S_ISREG(status.st_mode) and private and len(key) == 32:
            return key
    except OSError:  # a folder that can't be written
        pass
    return secrets.token_bytes(32)


class Tickets:
    """Tickets that let a browser in: for one port, good for a while, and told from forged ones by their signature."""

    def __init__(self, key: bytes, port: int, token: str) -> None:
        self.key, self.port, self.token = key, port, token
        self.cookie = f"koubai-lab-{port}"  # cookies are shared between the ports of a host

    def _signed(self, text: str) -> str:
        digest = hmac.new(self.key, f"koubai lab {self.port} {text}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def issue(self) -> str:
        """Return a new ticket."""
        text = f"{int(time.time()) + LIFETIME}.{secrets.token_urlsafe(9)}"
        return f"{text}.{self._signed(text)}"

    def is_good(self, ticket: str | None) -> bool:
        """Return whether this is a ticket of this machine's, for this port, and not too old."""
        if not ticket or len(ticket) > 200 or not ticket.isascii():
            return False
        text, _, signature = ticket.rpartition(".")
        if not hmac.compare_digest(signature, self._signed(text)):
            return False
        return int(text.partition(".")[0]) > time.time()

    def is_token(self, token: str | None) -> bool:
        """Return whether this is the token of this launch."""
        return token is not None and secrets.compare_digest(token.encode(), self.token.encode())

    def admits(self, connection: HTTPConnection) -> bool:
        """Return whether a request brings a ticket, or the token itself."""
        if self.is_good(connection.cookies.get(self.cookie)):
            return True
        return self.is_token(connection.query_params.get("token"))


class Gates:
    """Refuses requests with another Host or Origin than the page's own, and gives every response its headers."""

    def __init__(self, app: Any, port: int) -> None:
        self.app = app
        self.hosts = {f"{host}:{port}".encode() for host in HOSTS}
        self.origins = {b"http://" + host for host in self.hosts}
        self.headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    def _is_ours(self, scope: Scope) -> bool:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        origins = [value for name, value in scope["headers"] if name == b"origin"]
        if len(hosts) != 1 or hosts[0] not in self.hosts:
            return False
        if scope["type"] == "websocket" and not origins:
            return False
        return not origins or origins == [b"http://" + hosts[0]]

    async def __call__(self, scope: Scope, receive: Receive, send: Deliver) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return

        async def guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in self.headers}
                message["headers"] = [*(h for h in message["headers"] if h[0] not in own), *self.headers]
            await send(message)

        if self._is_ours(scope):
            if "\0" in scope["path"]:  # no file has such a name, and looking for it raises
                scope = {**scope, "path": "/none"}
            await self.app(scope, receive, guarded)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: 403
        else:
            await PlainTextResponse("this address is not the lab's\n", 403)(scope, receive, guarded)


def application(port: int, token: str, key: bytes | None = None) -> Any:
    """Return the ASGI application of a lab on this port, for this token."""
    tickets = Tickets(signing_key() if key is None else key, port, token)
    pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="koubai-lab")
    clients: set[WebSocket] = set()

    async def page(request: Request) -> Response:
        if "token" in request.query_params and tickets.admits(request):
            rest = [(name, value) for name, value in request.query_params.multi_items() if name != "token"]
            away = RedirectResponse(f"/?{urlencode(rest)}" if rest else "/", 303)
            ticket = tickets.issue()
            away.set_cookie(tickets.cookie, ticket, max_age=LIFETIME, path="/", httponly=True, samesite="strict")
            return away
        if not tickets.admits(request):
            return HTMLResponse(NO_TICKET, 403)
        return FileResponse(STATIC / "index.html", media_type="text/html")

    async def socket(websocket: WebSocket) -> None:
        if not tickets.admits(websocket):
            await websocket.close(1008)  # before it is accepted: 403
            return
        if len(clients) >= MOST_CLIENTS:
            await websocket.close(1013)
            return
        clients.add(websocket)
        try:
            await websocket.accept()
            await _converse(websocket, pool)
        finally:
            clients.discard(websocket)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        warm()
        yield
        pool.shutdown(wait=False, cancel_futures=True)

    routes = [
        Route("/", page, methods=["GET"]),
        WebSocketRoute("/ws", socket),
        Mount("/static", StaticFiles(directory=STATIC, follow_symlink=False)),
    ]
    return Gates(Starlette(routes=routes, lifespan=lifespan), port)


async def _converse(websocket: WebSocket, pool: ThreadPoolExecutor) -> None:
    """Answer one page until it is gone, or reads nothing for too long."""
    from koubai.lab.session import Session  # heavy: it brings the library in

    sending = asyncio.Lock()

    async def send(answer: bytes) -> None:
        async with sending:
            await asyncio.wait_for(websocket.send_bytes(answer), SLOW)

    session = Session(send, pool)
    reading = asyncio.ensure_future(_read(websocket, session))
    try:
        await asyncio.wait({reading, session.lost}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        session.close()
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await reading
        with contextlib.suppress(Exception):  # it may be closed already, or read nothing any more
            await asyncio.wait_for(websocket.close(1011), 1.0)


async def _read(websocket: WebSocket, session: Session) -> None:
    """Hand on one message after the other, until the page is gone."""
    with contextlib.suppress(WebSocketDisconnect, TimeoutError, RuntimeError, OSError):
        while (message := await websocket.receive())["type"] != "websocket.disconnect":
            text = message.get("text")
            await session.receive(message.get("bytes") if text is None else text)


# a message longer than this ends the connection before it is read
MOST_MESSAGE = MOST_BYTES
