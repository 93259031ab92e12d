"""The asks of the derivative bench: a curve, its secants, the errors of differences, and where starts on it end."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from koubai.derivatives.differences import Estimate, derivative
from koubai.derivatives.gradient import grad
from koubai.descent.loop import minimize
from koubai.descent.optimizers import Optimizer
from koubai.descent.record import Run
from koubai.descent.spec import read_function, read_optimizer
from koubai.errors import GradientWarning, InputError, KoubaiError
from koubai.functions.expression import Expression
from koubai.functions.problems import problems
from koubai.lab.fields import Fields
from koubai.lab.messages import single
from koubai.lab.writing import function_text, function_word, optimizer_text, optimizer_words
from koubai.messages import refused
from koubai.parameters import FloatArray

__all__ = [
    "ASKS",
    "REPLAYS",
    "as_command",
    "as_python",
    "curve",
    "difference",
    "errors",
    "table_of_differences",
    "valleys",
    "walk",
]

Function: TypeAlias = Callable[[Any], Any]
Cancelled: TypeAlias = Callable[[], None]  # raises if a newer request has come

METHODS = ("forward", "backward", "central")
MOST_POINTS, MOST_ERRORS, MOST_STARTS, MOST_STEPS = 4096, 400, 2000, 2000
EPS = float(np.finfo(np.float64).eps)
PIECE = 16  # steps h between two looks at whether the request still stands


def curve(arguments: Mapping[str, Any], cancelled: Cancelled) -> dict[str, Any]:
    """Return f on a stretch of the line: arrays x and f, not finite where f is not; low and high of f there."""
    fields = Fields(arguments)
    f = _function(fields)
    low, high = fields.window()
    count = fields.whole("count", 512, 2, MOST_POINTS)
    x = np.linspace(low, high, count)
    values = _values(f, x)
    finite = values[np.isfinite(values)]
    return {
        "arrays": {"x": x.astype(np.float32), "f": single(values)},
        "low": float(finite.min()) if finite.size else None,
        "high": float(finite.max()) if finite.size else None,
    }


def difference(arguments: Mapping[str, Any], cancelled: Cancelled) -> dict[str, Any]:
    """Return the difference quotients at x with the step h as `koubai.derivative` gives them, and the points they use.

    forward, backward, central: {value, error, warnings}; exact: by backpropagation; adaptive: {value, error, h, nfev};
    points: [[x−h, f], [x, f], [x+h, f]]; rounds: whether x + h or x − h is x.
    """
    fields = Fields(arguments)
    f = _function(fields)
    x, h = fields.number("x"), fields.number("h", above=0.0)
    found: dict[str, Any] = {}
    for method in METHODS:
        estimate = _derivative(f, x, method=method, h=h)
        found[method] = {"value": estimate.value, "error": estimate.error, "warnings": list(estimate.warnings)}
    exact, source = _exact(f, x)
    ends = [x - h, x, x + h]
    return {
        **found,
        "adaptive": _told(_derivative(f, x)),
        "exact": exact,
        "exact_source": source,
        "points": [[end, float(value)] for end, value in zip(ends, _values(f, np.array(ends)), strict=True)],
        "rounds": x + h == x or x - h == x,
        "spacing": float(np.spacing(abs(x))),
    }


def errors(arguments: Mapping[str, Any], cancelled: Cancelled) -> dict[str, Any]:
    """Return how far forward, backward and central differences are off, for h from 1e-17 to 1 times the size of x.

    arrays h, forward, backward, central: absolute errors; best: for each method the step that it takes by itself and
    its error there; adaptive: the value with the error it states and the error it has; stuck: below it x + h is x.
    """
    fields = Fields(arguments)
    f = _function(fields)
    x, count = fields.number("x"), fields.whole("count", 120, 2, MOST_ERRORS)
    exact, source = _exact(f, x)
    scale = max(abs(x), 1.0)
    steps = scale * np.logspace(-17, 0, count)
    adaptive = _derivative(f, x)
    if source != "backprop" and not math.isfinite(float(adaptive)):
        why = "; ".join(adaptive.warnings)
        raise refused("f'({x!r}) can't be found: {why}; take another x", x=x, why=why)
    found = {method: np.empty(count) for method in METHODS}
    for i, h in enumerate(steps.tolist()):
        if i % PIECE == 0:
            cancelled()
        for method, row in found.items():
            row[i] = abs(_derivative(f, x, method=method, h=h).value - exact)
    best: dict[str, Any] = {}
    for method in METHODS:
        own = _derivative(f, x, method=method)
        best[method] = {"h": own.h, "value": own.value, "error": abs(own.value - exact)}
    return {
        "arrays": {"h": steps.astype(np.float32), **{method: single(row) for method, row in found.items()}},
        "exact": exact,
        "exact_source": source,
        "adaptive": {**_told(adaptive), "off": abs(adaptive.value - exact)},
        "best": best,
        "stuck": float(np.spacing(abs(x))) / 2,
        "floor": EPS * abs(exact),
    }


def valleys(arguments: Mapping[str, Any], cancelled: Cancelled) -> dict[str, Any]:
    """Return where a descent from each of many starts on the line ends: `koubai.basins` in one dimension.

    arrays x (the starts), label (the minimum, or −1 unfinished, −2 diverged, −3 not finite), steps; minima: [{x, fun,
    share, signature}], the lowest first; lowest: the share of starts that end in the lowest; shares of what does not.
    """
    from koubai.search.basins import basins

    fields = Fields(arguments)
    f = _function(fields)
    window, optimizer = fields.window(), _optimizer(fields)
    count = fields.whole("count", 400, 2, MOST_STARTS)
    steps = fields.whole("steps", 300, 1, MOST_STEPS)
    with warnings.catch_warnings(action="ignore"):
        found = basins(
            f, window, optimizer=optimizer, resolution=count, steps=steps, threads=1, progress=lambda *_: cancelled()
        )
    return {
        "arrays": {
            "x": np.linspace(*window, count).astype(np.float32),
            "label": found.label.astype(np.int32),
            "steps": found.steps.astype(np.int32),
        },
        "minima": [{"x": float(m.x), "fun": m.fun, "share": m.share, "signature": m.signature} for m in found.minima],
        "lowest": found.minima[0].share if found.minima else 0.0,
        "shares": found.shares,
    }


def walk(fields: Fields) -> Run:
    """Return the descent of the bench, with every step kept."""
    f = _function(fields)
    steps, gtol = fields.whole("max_steps", 500, 0, 5000), fields.number("gtol", 0.0, low=0.0)
    with warnings.catch_warnings(action="ignore"):
        return minimize(f, fields.number("x0"), _optimizer(fields), max_steps=steps, gtol=gtol, record="all")


def table_of_differences(fields: Fields, cancelled: Cancelled) -> str:
    """Return the differences at x for many steps h as CSV, in full precision."""
    f = _function(fields)
    x = fields.number("x")
    exact, source = _exact(f, x)
    lines = [f"h,forward,backward,central,{source}"]
    for i, h in enumerate((max(abs(x), 1.0) * np.logspace(-17, 0, 171)).tolist()):
        if i % PIECE == 0:
            cancelled()
        values = [_derivative(f, x, method=method, h=h).value for method in METHODS]
        lines.append(",".join(map(repr, [h, *map(float, values), exact])))
    return "\n".join([*lines, ""])


# -- as text ----------------------------------------------------------------------------------------------------------


def as_python(state: Mapping[str, Any]) -> str:
    """Return a script that prints the numbers of the bench: the differences, the adaptive slope, the descent's end."""
    fields = Fields(state, "state")
    _function(fields)
    lines = ["import koubai as kb", "", f"f = {function_text(fields.value('function'))}"]
    if fields.has("x"):
        x, h = fields.number("x"), fields.number("h", above=0.0)
        lines += [
            f"x, h = {x!r}, {h!r}",
            f"for method in {METHODS!r}:",
            "    print(method, kb.derivative(f, x, method=method, h=h).value)",
            'print("adaptive", kb.derivative(f, x))',
        ]
    if fields.has("x0"):
        given = ", ".join([repr(fields.number("x0")), optimizer_text(_optimizer(fields)), *_options(fields)])
        lines += [f"run = kb.minimize(f, {given})", "print(run.x, run.fun, run.message)"]
    return "\n".join(lines) + "\n"


def as_command(state: Mapping[str, Any]) -> str:
    """Return the commands that print the same; --json has every digit of the descent."""
    fields = Fields(state, "state")
    _function(fields)
    f = function_word(fields.value("function"))
    lines = []
    if fields.has("x"):
        x, h = fields.number("x"), fields.number("h", above=0.0)
        lines = [f"koubai derivative {f} --at {x!r} --method {method} --h {h!r}" for method in METHODS]
        lines.append(f"koubai derivative {f} --at {x!r}")
    if fields.has("x0"):
        start, options = fields.number("x0"), " ".join(_words(fields))
        lines.append(f"koubai minimize {f} --start={start!r} {optimizer_words(_optimizer(fields))} {options}")
    return "\n".join(lines) + "\n"


def _options(fields: Fields) -> list[str]:
    steps = fields.whole("max_steps", 500, 0, 20_000)
    return [f"max_steps={steps}", f"gtol={fields.number('gtol', 0.0, low=0.0)!r}"]


def _words(fields: Fields) -> list[str]:
    words = (f"--{option.replace('_', '-').replace('=', ' ')}" for option in _options(fields))
    return ["--grad auto", *words, "--json"]


# -- the function -----------------------------------------------------------------------------------------------------


def _function(fields: Fields) -> Function:
    """Return a function of one number. Raises InputError for one of more numbers."""
    given = fields.value("function")
    f = read_function(given)
    if isinstance(f, Expression):
        if len(f.variables) != 1:
            raise refused(
                "this room is for functions of one variable; {text!r} has {count}: {names}",
                text=f.text,
                count=len(f.variables),
                names=", ".join(f.variables),
            )
        return f
    problem = problems[given["problem"]]
    if np.ndim(problem.x0) != 0:
        raise refused(
            "this room is for functions of one variable; {name} has {count}", name=problem.name, count=problem.ndim
        )
    return problem.f


def _optimizer(fields: Fields) -> Optimizer:
    found = read_optimizer(fields.value("optimizer", {"name": "SGD", "lr": 0.1}))
    if isinstance(found, str):
        raise InputError("optimizer must be named, as in {'name': 'SGD', 'lr': 0.1}")
    return found


def _values(f: Function, x: FloatArray) -> FloatArray:
    """Return f at each of these points, called with numbers as a descent calls it; NaN where f raises."""
    values = np.empty(len(x))
    with np.errstate(all="ignore"):
        for i, point in enumerate(x):
            try:
                values[i] = float(f(point))
            except (ArithmeticError, ValueError):  # outside its domain
                values[i] = math.nan
    return values


def _derivative(f: Function, x: float, **options: Any) -> Estimate:
    with warnings.catch_warnings(action="ignore", category=GradientWarning):  # what they say is on the estimate
        return derivative(f, x, **options)


def _exact(f: Function, x: float) -> tuple[float, str]:
    """Return f'(x) by backpropagation, or, where that says nothing, by adaptive differences; and which of them."""
    with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
        try:
            slope = float(grad(f, method="backprop")(x))
            if math.isfinite(slope):
                return slope, "backprop"
        except (KoubaiError, ArithmeticError):
            pass
    return float(_derivative(f, x)), "adaptive"


def _told(estimate: Estimate) -> dict[str, Any]:
    fields = {name: getattr(estimate, name) for name in ("value", "error", "h", "nfev")}
    return {**fields, "warnings": list(estimate.warnings)}


ASKS = {"curve": curve, "difference": difference, "errors": errors, "valleys": valleys}
REPLAYS = {"python": as_python, "command": as_command}
