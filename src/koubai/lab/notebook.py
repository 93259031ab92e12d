"""The lab in a notebook: the descent and the basin room as widgets, with the kernel as their engine.

    koubai.lab.descent("himmelblau", x0=[-0.5, -0.5], optimizers=["sgd", "adam"])

The modules of the page are the widget's too. A notebook serves no files, so they travel as texts, in the order in which
they import each other. What a widget asks goes, as on the page, through a `Session`: the same table of asks, the newest
of a view wins, bounded and cancelled. It is computed beside the kernel's own thread; while a cell runs the kernel hears
nothing, and the widget says so.
"""

from __future__ import annotations

import asyncio
import functools
import json
import re
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import anywidget
import numpy as np
import traitlets

from koubai.descent.loop import minimize
from koubai.descent.optimizers import Optimizer
from koubai.descent.record import Run
from koubai.descent.spec import NOT_FINITE, read_optimizer
from koubai.errors import InputError
from koubai.functions.expression import Expression, parse
from koubai.functions.problems import Problem, problems
from koubai.lab.descents import LIMITS, Point, read_bounds, read_plane, read_window
from koubai.lab.fields import Fields
from koubai.lab.session import Session
from koubai.lab.writing import flat_optimizer
from koubai.messages import LANGUAGES

__all__ = [
    "Basins",
    "Descent",
    "Room",
    "basins_of",
    "descent_of",
    "modules",
]

STATIC = Path(__file__).parent / "static"
ENTRY = "notebook/notebook.js"
TEXTS = ("shell", "descent", "basins", "notebook")  # of the catalogues' groups
DESCENT = ("function", "x0", "optimizers", "max_steps", "gtol", "bounds", "seed")  # what the descents follow from
MOST_CHANNELS = 8  # views of one widget that are served; the oldest gives way
WORKERS = 2
IMPORT = re.compile(r'\bfrom\s*"(\.[^"]+)"')
NARROW = "700px"  # a cell is narrower than a window: there the page's own 900 would leave nothing beside the field

FunctionLike: TypeAlias = "str | Expression | Problem | Mapping[str, Any]"
OptimizerLike: TypeAlias = "str | Optimizer | Mapping[str, Any]"


# -- what is sent once ------------------------------------------------------------------------------------------------


def modules(entry: str = ENTRY) -> list[tuple[str, str]]:
    """Return path and text of a module and all that it imports, each after those that it imports itself."""
    found: dict[str, str] = {}

    def visit(path: Path, trail: tuple[Path, ...]) -> None:
        name = path.relative_to(STATIC).as_posix()
        if path in trail:
            raise ValueError(f"{name} imports itself by way of {trail[-1].name}")
        if name in found:
            return
        source = path.read_text("utf-8")
        for imported in IMPORT.findall(source):
            visit((path.parent / imported).resolve(), (*trail, path))
        found[name] = source

    visit((STATIC / entry).resolve(), ())
    return list(found.items())


def _style() -> str:
    """Return the page's styles for a shadow root: of its own element instead of the page, by its own width."""
    page = "\n".join((STATIC / name).read_text("utf-8") for name in ("style.css", "plane.css"))
    page = page.replace(":root", ".koubai-lab").replace("\nbody {", "\n.koubai-lab {")
    page = page.replace("@media (max-width: 900px)", f"@container (max-width: {NARROW})")
    page = page.replace("@media (max-width", "@container (max-width")
    return page + (STATIC / "notebook/notebook.css").read_text("utf-8")


@functools.cache
def _module() -> str:
    """Return the one module that the notebook imports."""
    texts = {lang: json.loads((STATIC / f"text/{lang}.json").read_text("utf-8")) for lang in LANGUAGES}
    given = {
        "modules": modules(),
        "catalogues": {lang: {group: text[group] for group in TEXTS} for lang, text in texts.items()},
        "style": _style(),
    }
    loader = (STATIC / "notebook/loader.js").read_text("utf-8")
    before, mark, after = loader.partition("const GIVEN = null;")
    if not mark:
        raise ValueError("the loader has no place for the modules")
    return f"{before}const GIVEN = {json.dumps(given, ensure_ascii=False)};{after}"


# -- the engine -------------------------------------------------------------------------------------------------------


@functools.cache
def _engine() -> tuple[asyncio.AbstractEventLoop, ThreadPoolExecutor]:
    """Return the loop and the threads of all widgets, which are made by the first request."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="koubai-lab-notebook", daemon=True).start()
    return loop, ThreadPoolExecutor(WORKERS, thread_name_prefix="koubai-lab-notebook")


def _in_loop(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run_coroutine_threadsafe(work, _engine()[0])


class Room(anywidget.AnyWidget):  # type: ignore[misc,unused-ignore]
    """A room of the lab as a widget. Made by `koubai.lab.descent` and `koubai.lab.basins`.

    Attributes
    ----------
    language : str or None
        "en" or "ja"; None is the browser's.
    theme : str or None
        "light" or "dark"; None is the notebook's.
    height : int
        In pixels.
    """

    _esm = ""
    _room = traitlets.Unicode("").tag(sync=True)
    _setting = traitlets.Dict().tag(sync=True)
    _shown = traitlets.Dict().tag(sync=True)
    language = traitlets.Enum([None, *LANGUAGES], default_value=None, allow_none=True).tag(sync=True)
    theme = traitlets.Enum([None, "light", "dark"], default_value=None, allow_none=True).tag(sync=True)
    height = traitlets.Int(640, min=320, max=4000).tag(sync=True)

    def __init__(self, setting: Mapping[str, Any], **look: Any) -> None:
        self._sessions: dict[str, Session] = {}  # first, since a widget that can't be made is closed nevertheless
        try:
            super().__init__(_esm=_module(), _setting=dict(setting), **look)
        except traitlets.TraitError as error:
            raise InputError(str(error)) from None
        self.on_msg(self._hear)

    # -- messages --

    def _hear(self, _: Any, content: Any, buffers: Any = None) -> None:
        """Take up a message of the page's. Whatever it is, nothing raises here: the kernel would print it in a cell."""
        channel = content.get("channel") if isinstance(content, Mapping) else None
        if not isinstance(channel, str) or len(channel) > 40:
            return
        if content.get("closed"):
            _in_loop(self._forget(channel))
        else:
            _in_loop(self._receive(channel, content.get("request")))

    async def _receive(self, channel: str, request: Any) -> None:
        session = self._sessions.get(channel)
        if session is None:
            while len(self._sessions) >= MOST_CHANNELS:
                await self._forget(next(iter(self._sessions)))

            async def send(answer: bytes) -> None:
                self.send({"channel": channel}, buffers=[answer])

            session = self._sessions[channel] = Session(send, _engine()[1])
        await session.receive(request)

    async def _forget(self, channel: str) -> None:
        if (session := self._sessions.pop(channel, None)) is not None:
            session.close()

    async def _forget_all(self) -> None:
        for channel in list(self._sessions):
            await self._forget(channel)

    def close(self) -> None:
        """Take the widget away, and stop what is computed for it."""
        if self._sessions:
            _in_loop(self._forget_all())
        super().close()

    # -- what it is set to --

    @property
    def state(self) -> dict[str, Any]:
        """What the room is set to, and what it shows: plain values, kept current with the page."""
        return {**_copied(self._setting), **_as_numbers(_copied(self._shown))}

    def set(self, **changes: Any) -> None:
        """Change what the room is set to, here and on every view, by the names of `state`."""
        self._setting = {**self._setting, **self._checked(changes)}

    def __repr__(self) -> str:
        own = self._setting
        rules = own["optimizers"] if "optimizers" in own else [own["optimizer"]]
        function, names = next(iter(own["function"].values())), ", ".join(rule["name"] for rule in rules)
        return f"the lab's {self._room} room: {function}, {names}"

    def _checked(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        raise NotImplementedError


class Descent(Room):
    """The descent room as a widget. Made by `koubai.lab.descent`."""

    _room = traitlets.Unicode("descent").tag(sync=True)

    def _checked(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        return _descent_setting(changes, self._setting.get("function"))

    @property
    def state(self) -> dict[str, Any]:
        """What the room is set to and what it shows. "runs" are the descents of now, as `runs` makes them."""
        runs = [
            {
                "name": type(run.optimizer).__name__,
                "x": run.x.tolist(),
                "fun": float(run.fun),
                "nit": run.nit,
                "status": run.status.name,
            }
            for run in self.runs()
        ]
        return {**super().state, "runs": runs}

    def specs(self) -> list[dict[str, Any]]:
        """Return the specification of each descent that is shown, as `koubai.minimize` takes it."""
        own = self._setting
        options = {"max_steps": own.get("max_steps", 200), "gtol": own.get("gtol", 1e-6)}
        if own.get("bounds") is not None:
            options["bounds"] = [list(pair) for pair in own["bounds"]]
        return [
            {
                "koubai": 1,
                "function": dict(own["function"]),
                "x0": list(own["x0"]),
                "optimizer": {name: value for name, value in optimizer.items() if name != "off"},
                "options": options,
                "seed": own.get("seed", 0),
            }
            for optimizer in own["optimizers"]
            if not optimizer.get("off")
        ]

    def runs(self) -> list[Run]:
        """Return the descents that are shown, made again with the same bits: with `.x`, `.plot()`, `.diagnose()`."""
        return [minimize(spec) for spec in self.specs()]


class Basins(Room):
    """The basin room as a widget. Made by `koubai.lab.basins`."""

    _room = traitlets.Unicode("basins").tag(sync=True)

    def _checked(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        return _basins_setting(changes, self._setting.get("function"))


def _copied(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _as_numbers(value: Any) -> Any:
    """Return a value in which the strings that stand for numbers without JSON are these numbers."""
    if isinstance(value, str):
        return NOT_FINITE.get(value, value)
    if isinstance(value, list):
        return [_as_numbers(item) for item in value]
    if isinstance(value, dict):
        return {key: _as_numbers(item) for key, item in value.items()}
    return value


# -- what is given ----------------------------------------------------------------------------------------------------


def _given_function(given: FunctionLike) -> dict[str, str]:
    """Return a function as the page names it. Raises InputError for one that is neither typed nor of the catalogue."""
    if isinstance(given, Problem):
        given = {"problem": given.name}
    elif isinstance(given, Expression):
        given = {"expression": given.text}
    elif isinstance(given, str):
        given = {"problem": given} if given in problems else {"expression": given}
    elif not isinstance(given, Mapping):
        raise InputError(
            "the lab takes a function of the catalogue by its name, or a text such as 'x**2/20 + y**2'; "
            f"got {given!r}. For a function of Python, kb.minimize(f, x0).plot() draws the path"
        )
    if "expression" in given:
        parse(given["expression"])
    read_plane(Fields({"function": given}))
    return dict(given)


def _given_optimizer(given: OptimizerLike, name: str) -> dict[str, Any]:
    given = dict(given) if isinstance(given, Mapping) else given
    rule = given if isinstance(given, Optimizer) else read_optimizer(given, name)
    if isinstance(rule, str):
        raise InputError(f"{name} must be named: auto is what minimize chooses, and here one is chosen")
    flat = flat_optimizer(rule)
    if not isinstance(flat.get("lr", 0.0), int | float) or callable(getattr(rule, "lr", None)):
        raise InputError(f"{name}.lr must be a number here: the page has a slider for it, and no schedule")
    return flat


def _given_start(x0: Any, function: Mapping[str, Any]) -> list[float]:
    if hasattr(x0, "tolist"):
        x0 = x0.tolist()
    return list(Point(Fields({"function": function, "x0": list(x0) if isinstance(x0, tuple) else x0})).numbers)


def _home(function: Mapping[str, Any]) -> list[float]:
    """Return where a descent on a function begins if nobody says."""
    return [float(v) for v in np.atleast_1d(problems[function["problem"]].x0)] if "problem" in function else [-7.0, 2.0]


def _only(changes: Mapping[str, Any], known: tuple[str, ...]) -> Fields:
    fields = Fields(changes)
    fields.only(known)
    return fields


def _shared(fields: Fields, function: Mapping[str, Any] | None) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Return what both rooms take of what is given, and the function that it is for."""
    setting: dict[str, Any] = {}
    if fields.has("function"):
        function = setting["function"] = _given_function(fields.value("function"))
        setting["window"], setting["x0"] = None, _home(function)
    if function is None:
        raise InputError("function is missing")
    if fields.has("x0"):
        setting["x0"] = _given_start(fields.value("x0"), function)
    if fields.has("window"):
        window = [list(map(float, pair)) for pair in fields.value("window")]
        setting["window"] = [list(pair) for pair in read_window(Fields({"window": window}))]
    return setting, function


def _descent_setting(changes: Mapping[str, Any], function: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what is given for the descent room as the page keeps it. Raises InputError for what can't be used."""
    fields = _only(changes, (*DESCENT, "window", "view", "panel"))
    setting, _ = _shared(fields, function)
    if fields.has("optimizers"):
        given = fields.value("optimizers")
        if isinstance(given, str | Optimizer | Mapping):
            given = [given]
        given = list(given)
        if not 1 <= len(given) <= LIMITS["optimizers"]:
            raise InputError(f"optimizers must be 1 to {LIMITS['optimizers']}, got {len(given)}")
        setting["optimizers"] = [_given_optimizer(one, f"optimizers[{i}]") for i, one in enumerate(given)]
        setting["chosen"] = 0
    if fields.has("max_steps"):
        setting["max_steps"] = fields.whole("max_steps", low=0, high=LIMITS["steps"])
    if fields.has("gtol"):
        setting["gtol"] = fields.number("gtol", low=0.0, high=1e12)
    if fields.has("bounds"):
        setting["bounds"] = [list(pair) for pair in read_bounds(fields) or ()]
        if len(setting["bounds"]) != 2:
            raise InputError("bounds must be [[low, high], [low, high]], null for no limit")
    if fields.has("seed"):
        setting["seed"] = fields.whole("seed", low=0, high=2**31 - 1)
    if fields.has("view"):
        setting["view"] = fields.word("view", ("contours", "surface"))
    if fields.has("panel"):
        setting["panel"] = fields.word("panel", ("curves", "step", "race", "share"))
    return setting


def _basins_setting(changes: Mapping[str, Any], function: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what is given for the basin room as the page keeps it. Raises InputError for what can't be used."""
    fields = _only(changes, ("function", "optimizer", "window", "steps", "x0"))
    setting, _ = _shared(fields, function)
    if fields.has("optimizer"):
        setting["optimizer"] = _given_optimizer(fields.value("optimizer"), "optimizer")
    if fields.has("steps"):
        setting["steps"] = fields.whole("steps", low=1, high=2000)
    return setting


def descent_of(given: FunctionLike, changes: Mapping[str, Any], look: Mapping[str, Any]) -> Descent:
    """Return the widget of a descent: of a function, or of a specification as `run.spec` gives it."""
    told = {name: value for name, value in changes.items() if value is not None}
    if isinstance(given, Mapping) and "koubai" in given:
        options = Fields(given).fields("options") if given.get("options") else Fields({})
        spec: dict[str, Any] = {name: given[name] for name in ("function", "x0", "seed") if name in given}
        spec |= {"optimizers": [given["optimizer"]]} if "optimizer" in given else {}
        spec |= {name: options.given[name] for name in ("max_steps", "gtol", "bounds") if options.has(name)}
        told = {**spec, **told}
    else:
        told["function"] = given
    defaults = {
        "optimizers": [{"name": "SGD", "lr": 0.01}, {"name": "Momentum", "lr": 0.005}, {"name": "Adam", "lr": 0.2}],
        "max_steps": 200, "gtol": 1e-6, "seed": 0,
    }  # fmt: skip
    return Descent(_descent_setting({**defaults, **told}), **look)


def basins_of(given: FunctionLike, changes: Mapping[str, Any], look: Mapping[str, Any]) -> Basins:
    """Return the widget of a map of basins."""
    told = {name: value for name, value in changes.items() if value is not None}
    defaults = {"optimizer": {"name": "SGD", "lr": 0.01}, "steps": 200}
    return Basins(_basins_setting({**defaults, **told, "function": given}), **look)
