"""Copy as Python, copy as command: what a room shows as a text that computes the same numbers again, to the bit.

The state of a room is the arguments of its asks; ``room`` names it, and the state may stand in a field of that name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from koubai.descent.optimizers import Optimizer
from koubai.descent.spec import read_optimizer
from koubai.lab.descents import LIMITS, Point, read_bounds, read_rule, read_size, read_window
from koubai.lab.fields import Fields
from koubai.lab.writing import bounds_words, function_text, function_word, optimizer_text, optimizer_words
from koubai.messages import refused

__all__ = [
    "ASKS",
    "KINDS",
    "own_state",
    "replay",
]

State: TypeAlias = Mapping[str, Any]
KINDS = ("python", "command")
ROOMS = ("descent", "basins", "derivative", "network")


def own_state(arguments: State) -> tuple[str, State]:
    """Return the room of a request and the room's state in it."""
    state = Fields(arguments).fields("state")
    room = state.word("room", ROOMS, "descent")
    own = state.given.get(room, state.given)
    return room, Fields(own, f"state.{room}").given


def replay(arguments: State, cancelled: Callable[[], None]) -> dict[str, Any]:
    """Return the text of a state, as a Python script or as a command line."""
    kind = Fields(arguments).word("kind", KINDS)
    room, state = own_state(arguments)
    return {"text": _replays(room)[kind](state), "kind": kind, "room": room}


def _replays(room: str) -> Mapping[str, Callable[[State], str]]:
    if room == "derivative":
        from koubai.lab import derivatives

        return derivatives.REPLAYS
    if room == "network":
        from koubai.lab import networks

        return networks.REPLAYS
    return REPLAYS[room]


# -- a descent --------------------------------------------------------------------------------------------------------


def _descent_as_python(state: State) -> str:
    """Return a script that makes the descents of the room, and prints where each ends."""
    fields = Fields(state)
    point, rules = Point(fields), _rules(fields)
    lines = ["import koubai as kb", "", f"f = {function_text(point.given)}", f"x0 = {_start_text(point)}", ""]
    options = _options_text(fields)
    if len(rules) == 1:
        lines += [f"run = kb.minimize(f, x0, {optimizer_text(rules[0])}, {options})", "print(run)"]
        lines += ["print(run.x.tolist())" if point.ndim > 1 else "print(run.x)"]
        return "\n".join([*lines, ""])
    lines += ["for optimizer in [", *(f"    {optimizer_text(rule)}," for rule in rules), "]:"]
    shown = "run.x.tolist()" if point.ndim > 1 else "run.x"
    lines += [f"    run = kb.minimize(f, x0, optimizer, {options})", f"    print(optimizer, run.fun, {shown})"]
    return "\n".join([*lines, ""])


def _descent_as_command(state: State) -> str:
    """Return a command for each descent of the room; --json prints every digit."""
    fields = Fields(state)
    point = Point(fields)
    start = ",".join(map(repr, point.numbers)) + "," * (point.ndim == 1 and np.ndim(point.x0) == 1)
    head = f"koubai minimize {function_word(point.given)} --start={start}"
    given = fields.given.get("options", fields.given)
    own = Fields(given)
    steps, seed = own.whole("max_steps", 500, 0, LIMITS["steps"]), fields.whole("seed", 0)
    tail = "--grad auto " + "".join(f"{words} " for words in bounds_words(read_bounds(own)))
    tail += f"--max-steps {steps} --gtol {_gtol(own)!r} " + (f"--seed {seed} " if seed else "") + "--json"
    return "\n".join([*(f"{head} {optimizer_words(rule)} {tail}" for rule in _rules(fields)), ""])


def _rules(fields: Fields) -> list[Optimizer | str]:
    """Return the optimizers of a state: a list of several, or the one of a specification."""
    if fields.has("optimizers"):
        given = fields.list("optimizers", most=LIMITS["optimizers"])
        if not given:
            raise refused("choose an optimizer first: there is no descent to copy")
        return [read_optimizer(one, f"optimizers[{i}]") for i, one in enumerate(given)]
    return [read_optimizer(fields.value("optimizer"))]


def _gtol(fields: Fields) -> float:
    return fields.number("gtol", 0.0, low=0.0)


def _options_text(fields: Fields) -> str:
    own = Fields(fields.given.get("options", fields.given))
    seed = fields.whole("seed", 0)
    steps = own.whole("max_steps", 500, 0, LIMITS["steps"])
    box = read_bounds(own)
    within = "" if box is None else f", bounds={box!r}"
    return f"max_steps={steps}, gtol={_gtol(own)!r}{within}" + (f", seed={seed}" if seed else "")


def _start_text(point: Point) -> str:
    return repr(point.x0 if isinstance(point.x0, float) else point.numbers)


# -- basins -----------------------------------------------------------------------------------------------------------


def _basins_as_python(state: State) -> str:
    """Return a script that makes the map of the room."""
    fields = Fields(state)
    width, height = read_size(fields, "resolution", (200, 200), LIMITS["side"])
    steps = fields.whole("steps", 200, 1, LIMITS["steps"])
    return "\n".join([
        "import koubai as kb",
        "",
        f"f = {function_text(fields.value('function'))}",
        f"found = kb.basins(f, {list(read_window(fields))!r}, optimizer={optimizer_text(read_rule(fields))},",
        f"                  resolution=({width}, {height}), steps={steps})",
        "for minimum in found.minima:",
        "    print(minimum.x.tolist(), minimum.fun, minimum.share)",
        "",
    ])  # fmt: skip


def _basins_as_command(state: State) -> str:
    """Return the command that makes the map of the room, as a picture and as numbers."""
    fields = Fields(state)
    width, height = read_size(fields, "resolution", (200, 200), LIMITS["side"])
    bounds = " ".join(bounds_words(read_window(fields)))
    return (
        f"koubai basins {function_word(fields.value('function'))} {bounds} {optimizer_words(read_rule(fields))} "
        f"--resolution {width},{height} --steps {fields.whole('steps', 200, 1, LIMITS['steps'])} "
        "-o basins.png --json > basins.json\n"
    )


REPLAYS: dict[str, Mapping[str, Callable[[State], str]]] = {
    "descent": {"python": _descent_as_python, "command": _descent_as_command},
    "basins": {"python": _basins_as_python, "command": _basins_as_command},
}
ASKS = {"replay": replay}
