"""The specification of a descent: what the lab, a page's address, the command line and `koubai.minimize` share.

    {"koubai": 1, "function": {"expression": "x**2/20 + y**2"}, "x0": [-7, 2],
     "optimizer": {"name": "Adam", "lr": 0.1}, "options": {"max_steps": 500}, "seed": 0}

It is plain JSON. ``run.spec`` gives it, `koubai.minimize` takes it in the place of f and x0, and makes the same descent
again, bit for bit. It is read field by field, by a description of each; what is not described is refused. Numbers that
are not finite, which JSON hasn't got, are the strings "Infinity", "-Infinity" and "NaN".
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from koubai.derivatives.differences import METHODS
from koubai.descent.files import (
    Check,
    a_list,
    a_mapping,
    a_number,
    a_rate,
    a_record,
    a_row,
    a_setting,
    a_text,
    a_whole,
    describe_function,
    describe_optimizer,
    one_of,
    open_regular,
    optional,
    restore_optimizer,
    schedule_schema,
    schema_of,
    shown,
    stated,
)
from koubai.descent.optimizers import Optimizer, resolve
from koubai.errors import InputError
from koubai.functions.expression import parse
from koubai.functions.problems import problems
from koubai.parameters import Parameters

__all__ = [
    "FORMAT",
    "NOT_FINITE",
    "Specification",
    "json_number",
    "read",
    "read_file",
    "read_function",
    "read_optimizer",
    "schema",
    "written",
]

FORMAT = 1
MOST_NUMBERS = 10_000  # of a start
MOST_BYTES = 2**20  # of a file
NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(frozen=True, eq=False)
class Specification:
    """A descent, ready to be made: `koubai.minimize(f, x0, optimizer, **options)`.

    Attributes
    ----------
    f : callable
        The function.
    x0 : number, array or dict of arrays
        The start.
    optimizer : Optimizer or str
        An object, or "auto".
    options : dict
        The other arguments of `minimize`, the seed among them.
    fields : dict
        The specification as it was given, checked.
    """

    f: Callable[[Any], Any]
    x0: Parameters
    optimizer: Optimizer | str
    options: dict[str, Any]
    fields: dict[str, Any]


def _finite_or_not(check: Check) -> Check:
    """Accept the strings that stand for numbers that are not finite, too."""

    @stated({"anyOf": [{"enum": [*NOT_FINITE]}, schema_of(check)]})
    def checked(value: Any, name: str) -> Any:
        return check(NOT_FINITE[value] if isinstance(value, str) and value in NOT_FINITE else value, name)

    return checked


_COORDINATE = a_number()
_DEFINITIONS: dict[str, Any] = {
    "schedule": schedule_schema(),
    "setting": {
        "anyOf": [
            {"type": ["null", "boolean", "string", "number"]},
            {
                "type": "object",
                "additionalProperties": {"type": "object", "additionalProperties": {"$ref": "#/$defs/setting"}},
            },
        ]
    },
    "array": {
        "type": "array",
        "minItems": 1,
        "items": {"anyOf": [schema_of(_COORDINATE), {"$ref": "#/$defs/array"}]},
    },
    "point": {
        "anyOf": [
            schema_of(_COORDINATE),
            {"$ref": "#/$defs/array"},
            {"type": "object", "additionalProperties": {"$ref": "#/$defs/point"}},
        ]
    },
}  # what refers to itself, by its name in the schema


@stated({"$ref": "#/$defs/point"})
def _a_finite_point(value: Any, name: str) -> Any:
    """A number, an array as lists of numbers, or an object of these; at most 10,000 numbers."""
    if type(value) is dict:
        return {a_text(key, name): _a_finite_point(part, f"{name}.{key[:40]}") for key, part in value.items()}
    if type(value) is not list:
        return float(_COORDINATE(value, name))
    flat: list[Any] = []
    _flatten(value, name, flat)
    try:
        array = np.array(value, np.float64)
    except ValueError:
        raise InputError(f"{name} must be an array: all its rows as long as one another") from None
    if not array.size:
        raise InputError(f"{name} is empty: give a number for each variable")
    return array


def _flatten(value: Any, name: str, into: list[Any], depth: int = 0) -> None:
    """Check all the numbers of nested lists."""
    if type(value) is not list:
        into.append(_COORDINATE(value, name))
        return
    if depth > 8 or len(into) + len(value) > MOST_NUMBERS:
        raise InputError(f"{name} has more than {MOST_NUMBERS} numbers, or is nested too deeply")
    for part in value:
        _flatten(part, name, into, depth + 1)


@stated({"enum": [*problems]})
def _a_problem(value: Any, name: str) -> str:
    return problems[a_text(value, name)].name


_FUNCTION: dict[str, Check] = {"problem": _a_problem, "expression": a_text}


@stated({"oneOf": [schema_of(a_record({name: check})) for name, check in _FUNCTION.items()]})
def _a_function(value: Any, name: str) -> dict[str, str]:
    given: dict[str, str] = a_record({}, may=dict.fromkeys((*_FUNCTION, "name"), a_text))(value, name)
    if len(given) != 1:
        raise InputError(f'{name} must be {{"problem": NAME}} or {{"expression": TEXT}}, got {shown(value)}')
    if "name" in given:
        raise InputError(f"{name} {given['name']!r} is only named in the specification: give the function to minimize")
    return {kind: _FUNCTION[kind](text, f"{name}.{kind}") for kind, text in given.items()}


def read_function(value: Any, name: str = "function") -> Callable[[Any], Any]:
    """Return the function of {"problem": …} or {"expression": …}. Raises InputError, with the fix, for others.

    The same text gives the same object, so that what was traced of it serves again.
    """
    given = _a_function(value, name)
    return problems[given["problem"]].f if "problem" in given else _parsed(given["expression"])


@functools.lru_cache(maxsize=64)
def _parsed(text: str) -> Callable[[Any], Any]:
    return parse(text)


@_finite_or_not
@stated({"$ref": "#/$defs/setting"})
def _a_value(value: Any, name: str) -> Any:
    """A setting of an optimizer: a number, a word, true, false, nothing, or groups of these."""
    return _GROUPS(value, name) if type(value) is dict else a_setting(value, name)


_GROUPS = a_mapping(a_mapping(_a_value))
_RECORD = a_record(
    {"name": a_text},
    may={"semantics": optional(a_text), "lr": optional(a_rate), "hyperparameters": a_mapping(_a_value)},
    rest=_a_value,
)


@stated({"anyOf": [schema_of(a_text), schema_of(_RECORD)]})
def _an_optimizer(value: Any, name: str) -> Any:
    """A name, or a record of the name and the settings; it stays as it is written, and is checked when it is made."""
    if type(value) not in (str, dict):
        raise InputError(f'{name} must be a name, or an object such as {{"name": "Adam", "lr": 0.1}}')
    return value


def read_optimizer(value: Any, name: str = "optimizer") -> Optimizer | str:
    """Return the optimizer of {"name": …, "lr": …, "beta1": …, "semantics": …}, or of a name alone.

    What is left out has the framework's default. Raises InputError for what can't be used.
    """
    if type(_an_optimizer(value, name)) is str:
        return value if value.lower() == "auto" else resolve(value)
    given = _RECORD(value, name)
    kind, semantics, lr = given.pop("name"), given.pop("semantics", None), given.pop("lr", None)
    hyper = given.pop("hyperparameters", {}) | given
    if type(lr) is dict:
        record = {"name": kind, "lr": lr, "semantics": semantics or resolve(kind).semantics, "hyperparameters": {}}
        lr = restore_optimizer(record, name).lr  # type: ignore[union-attr]
    framework = {} if semantics is None else {"semantics": semantics}
    return resolve(kind, lr=lr, **framework, **hyper)


_OPTIONS: dict[str, Check] = {
    "max_steps": a_whole(),
    **dict.fromkeys(("gtol", "ftol", "xtol"), optional(a_number(0))),
    "target": optional(_finite_or_not(a_number(finite=False))),
    "bounds": optional(a_list(a_row(optional(a_number()), optional(a_number())))),
    "grad": one_of("auto", "backprop", *METHODS),
    "record": one_of("auto", "all", "off"),
}

_SPECIFICATION = a_record(
    {"koubai": one_of(FORMAT), "function": _a_function},
    may={
        "x0": _a_finite_point,
        "optimizer": _an_optimizer,
        "options": a_record({}, may=_OPTIONS),
        "seed": optional(a_whole(-(2**255), 2**255)),
    },
)


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a specification, made of the descriptions by which it is read.

    It accepts all that is read. What it can't say (that an expression can be parsed, which settings an optimizer has,
    that rows are as long as one another) only reading finds out.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A descent, as koubai.minimize and the lab take it",
        **schema_of(_SPECIFICATION),
        "$defs": _DEFINITIONS,
    }


def read(given: Mapping[str, Any]) -> Specification:
    """Read a specification: every field checked.

    x0 may be left out for a function of the catalogue, which has its own.

    Raises
    ------
    InputError
        For a field that is missing, unknown or can't be used, by its name; for an expression, ExpressionError.
    """
    if not isinstance(given, Mapping):
        raise InputError(f"a specification must be a JSON object, got {type(given).__name__}")
    version = given.get("koubai")
    if type(version) is not int or version != FORMAT:
        raise InputError(f'"koubai" must be {FORMAT}, the version of the specification, got {shown(version)}')
    fields = _SPECIFICATION(dict(given), "")
    f = read_function(fields["function"])
    x0 = fields.get("x0")
    if x0 is None:
        if "problem" not in fields["function"]:
            raise InputError("x0 is missing: a number for each variable")
        x0 = problems[fields["function"]["problem"]].x0
    options = dict(fields.get("options", {}))
    if "seed" in fields:
        options["seed"] = fields["seed"]
    if options.get("bounds") is not None:
        options["bounds"] = [tuple(pair) for pair in options["bounds"]]
    return Specification(f, x0, read_optimizer(fields.get("optimizer", "auto")), options, dict(given))


def read_file(path: Any) -> dict[str, Any]:
    """Return the JSON object in a file. Raises InputError if it is none; `read` checks what is in it."""
    with open_regular(path) as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise InputError(f"{str(path)!r} is larger than a specification may be, {MOST_BYTES} bytes")
    try:
        given = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{str(path)!r} is no JSON: {error}") from None
    if not isinstance(given, dict):
        raise InputError(f"{str(path)!r} holds no JSON object")
    return given


def written(
    f: Callable[..., Any], x0: Any, optimizer: Optimizer | str, options: Mapping[str, Any], seed: int | None
) -> dict[str, Any]:
    """Return the specification of a descent, in JSON's types; a function that can't be written down is only named."""
    return {
        "koubai": FORMAT,
        "function": describe_function(f),
        "x0": x0,
        "optimizer": _finite(describe_optimizer(optimizer)),
        "options": _finite(dict(options)),
        "seed": seed,
    }


def json_number(value: float) -> float | str:
    """Return a number, or the string for one that JSON hasn't got."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _finite(value: Any) -> Any:
    """Return a value with strings for the numbers that JSON hasn't got."""
    if isinstance(value, float):
        return json_number(value)
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value
