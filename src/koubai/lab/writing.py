"""How what a room shows is written: functions and optimizers as fields of a specification, as Python, as a command."""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from koubai.descent.files import describe_optimizer
from koubai.descent.optimizers import SEMANTICS, Optimizer
from koubai.descent.schedules import Schedule
from koubai.messages import refused

__all__ = [
    "bounds_words",
    "flat_optimizer",
    "function_text",
    "function_word",
    "optimizer_text",
    "optimizer_words",
]


def flat_optimizer(optimizer: Optimizer) -> dict[str, Any]:
    """Return an optimizer as it is written in a specification: what differs from the framework's defaults."""
    described = describe_optimizer(optimizer)
    if isinstance(described, str):
        return {"name": type(optimizer).__name__}
    plain = type(optimizer)(semantics=optimizer.semantics).hyperparameters
    own = {name: value for name, value in described["hyperparameters"].items() if value != plain[name]}
    first = next(iter(SEMANTICS[optimizer.rule.name]))
    framework = {} if optimizer.semantics == first else {"semantics": optimizer.semantics}
    return {"name": described["name"], "lr": described["lr"], **framework, **own}


def function_text(given: Mapping[str, Any]) -> str:
    """Return how a function is written in Python."""
    if "problem" in given:
        return f"kb.problems[{given['problem']!r}].f"
    return f"kb.parse({given['expression']!r})"


def function_word(given: Mapping[str, Any]) -> str:
    """Return how a function is named on the command line."""
    return shlex.quote(given.get("problem") or " ".join(given["expression"].split()))


def _number_text(value: Any) -> str:
    """Return how a setting is written in Python."""
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    return _schedule_text(value) if isinstance(value, Schedule) else repr(value)


def _schedule_text(schedule: Schedule) -> str:
    """Return how a schedule is written in Python."""
    found = [(f.name, getattr(schedule, f.name)) for f in dataclasses.fields(schedule)]
    given = ", ".join(f"{name}={_number_text(value)}" for name, value in found if value is not None)
    return f"kb.schedules.{type(schedule).__name__}({given})"


def _settings(rule: Optimizer) -> dict[str, Any]:
    """Return what differs from the defaults of the optimizer's framework, lr apart."""
    return {name: rule.hyperparameters[name] for name in flat_optimizer(rule) if name in rule.hyperparameters}


def bounds_words(bounds: Sequence[tuple[float | None, float | None]] | None) -> list[str]:
    """Return how bounds are given on the command line."""
    ends = [(-math.inf if low is None else low, math.inf if high is None else high) for low, high in bounds or ()]
    return [f"--bounds={low!r},{high!r}" for low, high in ends]


def optimizer_text(rule: Optimizer | str) -> str:
    """Return how an optimizer is written in Python."""
    if isinstance(rule, str):
        return repr(rule)
    framework = [f"semantics={rule.semantics!r}"] * ("semantics" in flat_optimizer(rule))
    own = [f"{name}={_number_text(value)}" for name, value in _settings(rule).items()]
    return f"kb.{type(rule).__name__}({', '.join([f'lr={_number_text(rule.lr)}', *own, *framework])})"


def optimizer_words(rule: Optimizer | str) -> str:
    """Return how an optimizer is named on the command line. Raises InputError for a schedule, which it can't say."""
    if isinstance(rule, str):
        return f"--optimizer {rule}"
    if callable(rule.lr) or isinstance(rule.lr, str):
        raise refused("the command line has no schedules: copy it as Python")
    words = [f"--optimizer {rule.name}", f"--lr {rule.lr!r}"]
    words += [f"--semantics {rule.semantics}"] * ("semantics" in flat_optimizer(rule))
    for name, value in _settings(rule).items():
        shown = str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)
        words.append(shlex.join(["--set", f"{name}={shown}"]))
    return " ".join(words)
