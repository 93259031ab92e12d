"""The asks of the descent room and the basin room. Every number comes from the library; here it is only bounded."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from koubai.descent import optimizers
from koubai.descent.files import describe_optimizer
from koubai.descent.hyperparameters import MEANINGS, SHARED
from koubai.descent.loop import minimize
from koubai.descent.optimizers import SEMANTICS, Optimizer
from koubai.descent.record import Run, rows_of
from koubai.descent.rules import CHOICES, INTERVALS
from koubai.descent.spec import Specification, read, read_function, read_optimizer
from koubai.errors import FunctionError, GradientError, InputError, quiet
from koubai.functions.expression import CONSTANTS, FUNCTIONS, Expression, parse
from koubai.functions.problems import Problem, problems
from koubai.lab.fields import Fields
from koubai.parameters import FloatArray, flatten

__all__ = ["ASKS", "LIMITS", "Point", "read_descent", "read_window"]

Arguments: TypeAlias = Mapping[str, Any]
Cancelled: TypeAlias = Callable[[], None]  # raises if the request is not wanted any more
Answer: TypeAlias = dict[str, Any]
Window: TypeAlias = tuple[tuple[float, float], tuple[float, float]]

LIMITS = {
    "steps": 20_000,
    "optimizers": 12,
    "side": 1024,
    "arrows": 4096,
    "rates": 512,
    "budget": 20_000,
    "basin_updates": 1024 * 1024 * 200,
    "seconds": 10,
}
ALL_ROWS = 5_000  # steps up to which a path has a row for each


# -- reading ----------------------------------------------------------------------------------------------------------


class Point:
    """A function and the point where something begins on it, as `koubai.minimize` takes them."""

    def __init__(self, fields: Fields) -> None:
        self.given = fields.value("function")
        self.f = read_function(self.given)
        self.problem: Problem | None = problems[self.given["problem"]] if "problem" in self.given else None
        self.ndim = dimension(self.f, self.problem)
        numbers = [
            Fields({"x0": number}, "").number("x0", low=-1e150, high=1e150)
            for number in fields.list("x0", most=LIMITS["side"])
        ]
        if len(numbers) != self.ndim:
            raise InputError(f"x0 has {len(numbers)} numbers, but the function has {self.ndim} variables")
        self.numbers = numbers

    @property
    def x0(self) -> Any:
        """The start in the form that the function takes: a function of one variable takes a number."""
        is_number = self.ndim == 1 if self.problem is None else np.ndim(self.problem.x0) == 0
        return self.numbers[0] if is_number else np.array(self.numbers)


def dimension(f: Any, problem: Problem | None) -> int:
    """Return how many variables a function has."""
    return problem.ndim if problem is not None else len(f.variables)


def read_window(fields: Fields) -> Window:
    """Return the two ranges of a plane."""
    pairs = fields.list("window", most=2)
    if len(pairs) != 2:
        raise InputError("window must be [[xlow, xhigh], [ylow, yhigh]]")
    x, y = (Fields({"window": pair}, "").window() for pair in pairs)
    return x, y


def read_size(fields: Fields, name: str, default: tuple[int, int], most: int, least: int = 2) -> tuple[int, int]:
    """Return a width and a height in points."""
    pair = fields.list(name, default, most=2)
    if len(pair) != 2:
        raise InputError(f"{name} must be [width, height]")
    width, height = (Fields({name: side}, "").whole(name, low=least, high=most) for side in pair)
    return width, height


def read_plane(fields: Fields) -> Callable[[Any], Any]:
    """Return a function of two variables."""
    given = fields.value("function")
    f = read_function(given)
    count = dimension(f, problems[given["problem"]] if "problem" in given else None)
    if count != 2:
        raise InputError(f"a plane has 2 variables, this function has {count}")
    return f


def read_rule(fields: Fields, name: str = "optimizer") -> Optimizer:
    """Return one optimizer, which has a rate of its own."""
    found = read_optimizer(fields.value(name), name)
    if isinstance(found, str):
        raise InputError("optimizer must be named: auto is what minimize chooses, and here one is chosen")
    return found


def read_descent(arguments: Arguments) -> Specification:
    """Return the descent of a request: function, x0, optimizer, max_steps, gtol and seed."""
    fields = Fields(arguments)
    Point(fields)
    options = _options(fields)
    seed = options.pop("seed")
    given = {"koubai": 1, "function": fields.value("function"), "optimizer": fields.value("optimizer"), "seed": seed}
    return read({**given, "x0": _start(fields), "options": options})


def _start(fields: Fields) -> Any:
    x0 = Point(fields).x0
    return x0.tolist() if isinstance(x0, np.ndarray) else x0


def _options(fields: Fields) -> dict[str, Any]:
    steps = fields.whole("max_steps", 500, 0, LIMITS["steps"])
    gtol = fields.number("gtol", 0.0, low=0.0)
    return {"max_steps": steps, "gtol": gtol, "seed": fields.whole("seed", 0)}


def single(values: Any) -> Any:
    """Return numbers as they are drawn: in float32, whose largest is far outside any picture."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values).astype(np.float32)


# -- what there is ----------------------------------------------------------------------------------------------------


def catalogue(arguments: Arguments, cancelled: Cancelled) -> Answer:
    """Return what can be chosen: functions, optimizers with their hyperparameters, and what the other rooms have."""
    return dict(_catalogue())


@functools.cache
def _catalogue() -> Answer:
    from koubai.descent.files import version

    return {
        "problems": [_problem(problems[name]) for name in problems],
        "optimizers": [_optimizer(name) for name in optimizers.names()],
        "functions": sorted(FUNCTIONS),
        "constants": CONSTANTS,
        "limits": LIMITS,
        "version": version(),
    }


def _problem(problem: Problem) -> dict[str, Any]:
    return {
        "name": problem.name,
        "formula": problem.formula,
        "source": problem.source,
        "dimension": problem.ndim,
        "x0": np.atleast_1d(problem.x0),
        "window": problem.bounds,
        "minima": [{"x": np.atleast_1d(m.x), "fun": m.fun, "is_global": m.is_global} for m in problem.minima],
    }


def _optimizer(name: str) -> dict[str, Any]:
    first = optimizers.resolve(name)
    title, _, rest = inspect.cleandoc(type(first).__doc__ or name).partition("\n")
    rule, frameworks = first.rule, list(SEMANTICS[first.rule.name])
    each = {framework: optimizers.resolve(name, semantics=framework) for framework in frameworks}
    return {
        "name": type(first).__name__,
        "key": name,
        "title": title,
        "formula": _formula(rest),
        "lr": first.lr,
        "searches": rule.searches,
        "semantics": frameworks,
        "hyperparameters": [_hyperparameter(rule, key, first) for key in first.hyperparameters if key != "groups"],
        "defaults": {
            framework: {"lr": own.lr, **{k: v for k, v in own.hyperparameters.items() if k != "groups"}}
            for framework, own in each.items()
        },
    }


def _formula(text: str) -> str:
    """Return the first indented lines of a docstring, which are the formula."""
    lines: list[str] = []
    for line in text.split("\n"):
        if line.startswith("    "):
            lines.append(line[4:].rstrip())
        elif lines:
            break
    return "\n".join(lines)


def _hyperparameter(rule: Any, key: str, first: Optimizer) -> dict[str, Any]:
    """Return what a control needs: the kind, the range, and whether its slider is logarithmic."""
    default = first.hyperparameters[key]
    shared = key in SHARED and key not in rule.defaults
    meaning = SHARED[key]["evaluate" in rule.uses] if shared else MEANINGS.get(f"{rule.name}.{key}") or MEANINGS[key]
    found: dict[str, Any] = {"name": key, "default": default, "meaning": meaning, "shared": shared}
    if isinstance(default, bool):
        return {**found, "kind": "flag"}
    if isinstance(default, str):
        return {**found, "kind": "word", "words": CHOICES[f"{rule.name}.{key}"]}
    low, high, low_allowed, high_allowed = INTERVALS.get(f"{rule.name}.{key}") or INTERVALS[key]
    is_rate = low == 0.0 and math.isinf(high)
    kind = "whole" if isinstance(default, int) else "number"
    return {
        **found,
        "kind": kind,
        "low": low,
        "high": high,
        "low_allowed": low_allowed,
        "high_allowed": high_allowed,
        "log": is_rate and kind == "number",
        "may_be_none": default is None,
    }


def read_expression(arguments: Arguments, cancelled: Cancelled) -> Answer:
    """Return what a typed text means. dimension: how many variables it must have."""
    fields = Fields(arguments)
    f = parse(fields.text("expression", most=20_000))
    if fields.has("dimension") and len(f.variables) != (wanted := fields.whole("dimension", low=1, high=10_000)):
        names = ", ".join(f.variables)
        raise InputError(f"the function must have {wanted} variables here; this one has {len(f.variables)}: {names}")
    return {"variables": f.variables, "dimension": len(f.variables), "formula": f.text}


# -- the ground -------------------------------------------------------------------------------------------------------


def field(arguments: Arguments, cancelled: Cancelled) -> Answer:
    """Return f over a window: array z, (height, width), the lowest y first; and its least and largest finite value."""
    fields = Fields(arguments)
    f, window = read_plane(fields), read_window(fields)
    width, height = read_size(fields, "resolution", (160, 120), LIMITS["side"])
    x = np.linspace(*window[0], width)
    z = np.empty((height, width), np.float32)
    rows = max(1, 65_536 // width)
    low, high = math.inf, -math.inf
    for first, y in _pieces(np.linspace(*window[1], height), rows):
        cancelled()
        with quiet():
            values = _values(f, np.stack(np.meshgrid(x, y)))
        finite = values[np.isfinite(values)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
        z[first : first + len(y)] = single(values)
    nothing = not math.isfinite(low)
    return {"arrays": {"z": z}, "low": None if nothing else low, "high": None if nothing else high}


def _pieces(line: FloatArray, size: int) -> Any:
    for first in range(0, len(line), size):
        yield first, line[first : first + size]


def _values(f: Callable[[Any], Any], points: FloatArray) -> FloatArray:
    """Return f at points (2, height, width), all at once as the catalogue's and typed functions can."""
    return np.broadcast_to(np.asarray(f(points), np.float64), points.shape[1:])


def arrows(arguments: Arguments, cancelled: Cancelled) -> Answer:
    """Return the gradient on a coarse grid: arrays x and g, (height · width, 2); NaN where there is none."""
    from koubai.derivatives.gradient import grad

    fields = Fields(arguments)
    f, window = read_plane(fields), read_window(fields)
    width, height = read_size(fields, "counts", (17, 13), 64)
    points = np.stack(np.meshgrid(np.linspace(*window[0], width), np.linspace(*window[1], height)), -1).reshape(-1, 2)
    slope, found = grad(f), np.full_like(points, np.nan)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i, point in enumerate(points):
            if i % 64 == 0:
                cancelled()
            try:
                found[i] = slope(point)
            except (FunctionError, GradientError, ArithmeticError):
                continue
    return {"arrays": {"x": single(points), "g": single(found)}}


# -- descents ---------------------------------------------------------------------------------------------------------


def descend(arguments: Arguments, cancelled: Cancelled) -> Answer:
    """Return the descents of several optimizers from one start, every step of them.

    runs: a summary of each, x in float64; arrays path.K, fun.K, grad_norm.K, t.K of the K-th.
    """
    fields = Fields(arguments)
    point, options = Point(fields), _options(fields)
    given = fields.list("optimizers", most=LIMITS["optimizers"])
    rules = [read_optimizer(one, f"optimizers[{i}]") for i, one in enumerate(given)]
    record = "all" if options["max_steps"] <= ALL_ROWS else "auto"
    runs, arrays = [], {}
    for k, rule in enumerate(rules):
        cancelled()
        try:
            run = made(point.f, point.x0, rule, **options, record=record)
        except (FunctionError, GradientError, ArithmeticError) as error:
            runs.append({"name": _name(rule), "status": "failed", "success": False, "message": str(error)})
            continue
        runs.append(summary(run))
        arrays |= path_arrays(run, k)
    return {"runs": runs, "arrays": arrays}


def made(f: Any, x0: Any, optimizer: Any, **options: Any) -> Run:
    """Make a descent, without the warnings that a page could not show: what they say is in the run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return minimize(f, x0, optimizer, **options)


def _name(rule: Optimizer | str) -> str:
    return rule if isinstance(rule, str) else type(rule).__name__


def summary(run: Run) -> dict[str, Any]:
    """Return how a descent ended, in JSON's types."""
    return {
        "name": _name(run.optimizer),
        "lr": run.optimizer.lr if isinstance(run.optimizer, Optimizer) and not callable(run.optimizer.lr) else None,
        "status": run.status.name,
        "success": run.success,
        "message": run.message,
        "x": np.atleast_1d(run.x).tolist(),
        "fun": run.fun,
        "best_x": np.atleast_1d(run.best_x).tolist(),
        "best_fun": run.best_fun,
        "grad_norm": float(run.history.grad_norm[-1]),
        "nit": run.nit,
        "nfev": run.nfev,
        "njev": run.njev,
        "gradient_source": run.gradient_source,
        "executor": run.executor,
    }


def path_arrays(run: Run, k: int) -> dict[str, Any]:
    """Return the rows of a descent by the names that they have in an answer."""
    layout, _ = flatten(run.x)
    history = run.history
    return {
        f"path.{k}": single(rows_of(history.x, layout)),
        f"fun.{k}": single(history.fun),
        f"grad_norm.{k}": single(history.grad_norm),
        f"t.{k}": np.asarray(history.t).astype(np.int32),
    }


ASKS: dict[str, Callable[[Arguments, Cancelled], Answer]] = {
    "catalogue": catalogue,
    "parse": read_expression,
    "field": field,
    "arrows": arrows,
    "descend": descend,
}

_ = dataclasses, describe_optimizer, Expression
