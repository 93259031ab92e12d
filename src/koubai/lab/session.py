"""One connection: its requests are checked, computed beside the event loop, and answered; of each view the newest wins.

A view, a part of a page that shows one thing, has at most one request that is computed and one that waits. A newer
request takes the place of the one that waits and stops the one that is computed, which are answered with the code
"superseded". So a connection holds a bounded number of requests and answers, however fast it asks and however slowly
it reads: while nothing can be sent, nothing more is read.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from koubai.errors import ExpressionError, InputError, KoubaiError
from koubai.lab.messages import SupersededError, TooLongError, packed, read_request
from koubai.messages import LANGUAGES, speaking, told, worded

__all__ = ["MOST_VIEWS", "SECONDS", "Ask", "Request", "Session", "View", "answered", "table"]

# what an ask is: a function of the request's arguments, and of a call that raises when the request is not wanted any
# more; it returns the values of the answer, and its "arrays"
Ask: TypeAlias = Callable[[Mapping[str, Any], Callable[[], None]], Mapping[str, Any]]
Send: TypeAlias = Callable[[bytes], Awaitable[None]]

MOST_VIEWS = 16
AT_ONCE = 3  # requests of a page that are computed or wait to be sent: what is held for one that reads nothing
SECONDS = 10.0  # that a request may be computed
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}")
MOST_ID = 2**53 - 1
OF_THE_ENVELOPE = ("view", "id", "ask")


_table: dict[str, Ask] = {}
_filling = threading.Lock()


def table() -> Mapping[str, Ask]:
    """Return every ask by its name. The rooms are imported by the first call, which takes a while."""
    with _filling:
        if not _table:
            from koubai.lab import derivatives, descents, export, networks, replay

            for room in (descents, derivatives, networks, replay, export):
                _table.update(room.ASKS)
    return _table


@dataclass(eq=False)
class Request:
    """One request on its way. superseded: a newer one of its view has come, or the page is gone."""

    view: str
    id: int
    ask: str
    arguments: Mapping[str, Any]
    superseded: bool = False
    until: float = field(default=0.0)

    def cancelled(self) -> None:
        """Raise if the request is not wanted any more, or was computed for long enough."""
        if self.superseded:
            raise SupersededError
        if self.until and time.monotonic() > self.until:
            raise TooLongError


def answered(request: Request) -> bytes:
    """Compute a request and return its answer; whatever happens, there is one."""
    envelope = {"view": request.view, "id": request.id}
    try:
        request.cancelled()
        request.until = time.monotonic() + SECONDS
        asks = table()
        if request.ask not in asks:
            raise InputError(f"there is no ask {request.ask[:40]!r}; known: {', '.join(sorted(asks))}")
        with speaking(_language_of(request.arguments)):
            found = asks[request.ask](request.arguments, request.cancelled)
        request.cancelled()
        values = {name: value for name, value in found.items() if name != "arrays"}
        return packed({**values, **envelope, "ok": True}, found.get("arrays"))
    except Exception as error:
        return packed({**envelope, **_refusal(error, _language_of(request.arguments))})


def _language_of(arguments: Mapping[str, Any]) -> str:
    lang = arguments.get("lang")
    return lang if lang in LANGUAGES else LANGUAGES[0]


def _refusal(error: Exception, lang: str = LANGUAGES[0]) -> dict[str, Any]:
    """Return what an answer says of an error: a code for the page, and koubai's own sentence for people."""
    if isinstance(error, SupersededError):
        return {"ok": False, "code": "superseded", "message": "a newer request took its place"}
    if isinstance(error, TooLongError):
        message = worded("it takes longer than {seconds:g} seconds: take fewer steps, or fewer points", seconds=SECONDS)
        return {"ok": False, "code": "limit", "message": told(message, lang)}
    if isinstance(error, ExpressionError):
        position = getattr(error, "position", None)
        return {"ok": False, "code": "expression", "message": told(error, lang), "position": position}
    if isinstance(error, KoubaiError | ArithmeticError):
        return {"ok": False, "code": "input", "message": told(error, lang)}
    if isinstance(error, MemoryError | RecursionError):
        message = worded("it takes more memory than there is: make it smaller")
        return {"ok": False, "code": "limit", "message": told(message, lang)}
    traceback.print_exception(error)  # the lab's own fault: shown to the user who started it
    return {"ok": False, "code": "internal", "message": f"{type(error).__name__}: {error}"[:500]}


@dataclass(eq=False)
class View:
    """What a view has on its way: one request that is computed, and the newest of those that came since."""

    running: Request | None = None
    waiting: Request | None = None


class Session:
    """The requests of one connection.

    send: sends one answer, and returns when the connection has room for more. pool: where requests are computed. lost:
    done when nothing can be sent any more.
    """

    def __init__(self, send: Send, pool: ThreadPoolExecutor) -> None:
        self.send, self.pool = send, pool
        self.views: dict[str, View] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.room = asyncio.Semaphore(AT_ONCE)
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def receive(self, text: Any) -> None:
        """Take up one message. What can't be used is answered at once; nothing of it raises but a lost connection."""
        try:
            request = self._read(text)
        except InputError as error:
            sender, number = _sender(text)
            await self.send(packed({"view": sender, "id": number, **_refusal(error)}))
            return
        view = self.views.setdefault(request.view, View())
        if view.running is None:
            view.running = request
            task = asyncio.get_running_loop().create_task(self._run(request.view, view))
            self.tasks.add(task)
            task.add_done_callback(self._done)
            return
        view.running.superseded = True
        before, view.waiting = view.waiting, request
        if before is not None:
            await self.send(packed({"view": before.view, "id": before.id, **_refusal(SupersededError())}))

    def _read(self, text: Any) -> Request:
        given = read_request(text)
        view, number, ask = (given.get(name) for name in OF_THE_ENVELOPE)
        if not isinstance(view, str) or not NAME.fullmatch(view):
            raise InputError("view must be a short name, such as descent.paths")
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= MOST_ID:
            raise InputError("id must be a whole number")
        if not isinstance(ask, str) or not NAME.fullmatch(ask):
            raise InputError("ask must be the name of what is asked, such as descend")
        if given.get("lang", "en") not in LANGUAGES:
            raise InputError(f"lang must be one of {', '.join(LANGUAGES)}")
        if view not in self.views and len(self.views) >= MOST_VIEWS:
            raise InputError(f"a page has at most {MOST_VIEWS} views, and {view} would be one more")
        return Request(view, number, ask, {k: v for k, v in given.items() if k not in OF_THE_ENVELOPE})

    async def _run(self, name: str, view: View) -> None:
        """Compute and answer the requests of one view until none is left."""
        loop = asyncio.get_running_loop()
        try:
            while view.running is not None:
                async with self.room:
                    await self.send(await loop.run_in_executor(self.pool, answered, view.running))
                view.running, view.waiting = view.waiting, None
        finally:
            self.views.pop(name, None)

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and not self.lost.done():
            self.lost.set_result(None)

    def close(self) -> None:
        """The page is gone: stop what is computed for it."""
        for view in self.views.values():
            for request in (view.running, view.waiting):
                if request is not None:
                    request.superseded = True
        for task in list(self.tasks):
            task.cancel()


def _sender(text: Any) -> tuple[str | None, int | None]:
    """Return the view and the number of a request that can't be used, as far as they can be told."""
    try:
        given = read_request(text)
    except InputError:
        return None, None
    view, number = given.get("view"), given.get("id")
    known = isinstance(view, str) and NAME.fullmatch(view) is not None
    is_number = isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= MOST_ID
    return view if known else None, number if is_number else None
