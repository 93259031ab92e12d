"""The asks of the descent room and the basin room. Every number comes from the library; here it is only bounded."""

from __future__ import annotations

import functools
import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from koubai.descent import optimizers
from koubai.descent.arguments import prepared
from koubai.descent.hyperparameters import MEANINGS, SHARED
from koubai.descent.loop import DEFAULTS, minimize, points
from koubai.descent.objective import Bounds
from koubai.descent.optimizers import SEMANTICS, SGD, Optimizer
from koubai.descent.record import Call, Run, Status, rows_of
from koubai.descent.rules import CHOICES, INTERVALS
from koubai.descent.spec import Specification, read, read_function, read_optimizer
from koubai.descent.stability import fixed_bound
from koubai.errors import FunctionError, GradientError, InputError, KoubaiError, quiet
from koubai.functions.expression import CONSTANTS, FUNCTIONS, Expression, parse
from koubai.functions.problems import Problem, problems
from koubai.lab.fields import Fields
from koubai.lab.messages import plain, single
from koubai.lab.writing import flat_optimizer
from koubai.messages import LANGUAGES, refused, told, worded
from koubai.parameters import FloatArray, flatten

if TYPE_CHECKING:
    from koubai.descent.many import Many

__all__ = [
    "ASKS",
    "LIMITS",
    "Point",
    "arrows",
    "basins",
    "catalogue",
    "check_map",
    "descend",
    "diagnose",
    "dimension",
    "field",
    "find_rate",
    "fix",
    "made",
    "partials",
    "race",
    "rates",
    "read_bounds",
    "read_plane",
    "read_rule",
    "read_rules",
    "read_size",
    "read_window",
    "step",
    "summary",
    "theory",
]

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
    "budget": 5_000,
    "basin_updates": 1024 * 1024 * 200,
    "history": 1000,
    "slice": 1024,
    "characters": 2000,
    "seconds": 10,
}
LOST = (Status.diverged, Status.nonfinite)
ALL_ROWS = 5_000  # steps up to which a path has a row for each


# -- reading ----------------------------------------------------------------------------------------------------------


class Point:
    """A function and the point where something begins on it, as `koubai.minimize` takes them."""

    def __init__(self, fields: Fields) -> None:
        self.given, self.f = _read_bounded(fields)
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


def _read_bounded(fields: Fields) -> tuple[Mapping[str, Any], Any]:
    """Return a function as it is given, and itself. Raises InputError for a text that no page would send."""
    given = fields.fields("function")
    if given.has("expression"):
        given.text("expression", most=LIMITS["characters"])
    return given.given, read_function(given.given)


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


def read_plane(fields: Fields) -> Any:
    """Return a function of two variables."""
    given, f = _read_bounded(fields)
    count = dimension(f, problems[given["problem"]] if "problem" in given else None)
    if count != 2:
        raise refused("a plane has 2 variables, this function has {count}", count=count)
    return f


def read_rule(fields: Fields, name: str = "optimizer") -> Optimizer:
    """Return one optimizer, which has a rate of its own."""
    found = _read_any_rule(fields.value(name), name)
    if isinstance(found, str):
        raise InputError("optimizer must be named: auto is what minimize chooses, and here one is chosen")
    return found


def _read_any_rule(given: Any, name: str) -> Optimizer | str:
    """Return an optimizer, or "auto". Raises InputError where it would remember more steps than there is room for."""
    found = read_optimizer(given, name)
    if isinstance(found, Optimizer):
        for kept in ("history_size", "memory"):
            if found.hyperparameters.get(kept, 0) > LIMITS["history"]:
                raise InputError(f"{name}.{kept} must be at most {LIMITS['history']} here")
    return found


def read_rules(fields: Fields) -> list[Optimizer | str]:
    """Return the optimizers of a request."""
    given = fields.list("optimizers", most=LIMITS["optimizers"])
    return [_read_any_rule(one, f"optimizers[{i}]") for i, one in enumerate(given)]


def check_map(fields: Fields, points: int, steps: int) -> None:
    """Raise InputError if so many descents are too much work; those on a long expression are more."""
    text = fields.value("function").get("expression", "")
    if points * steps * (1 + len(text) // 100) > LIMITS["basin_updates"]:
        raise refused(
            "{points} starts of {steps} steps each are too many here: make fewer, or a smaller map",
            points=points,
            steps=steps,
        )


def _read_descent(arguments: Arguments) -> Specification:
    """Return the descent of a request: function, x0, optimizer, max_steps, gtol, bounds and seed."""
    fields = Fields(arguments)
    Point(fields)
    options = _options(fields)
    seed = options.pop("seed")
    _read_any_rule(fields.value("optimizer"), "optimizer")
    given = {"koubai": 1, "function": fields.value("function"), "optimizer": fields.value("optimizer"), "seed": seed}
    if options["bounds"] is not None:
        options["bounds"] = [list(pair) for pair in options["bounds"]]
    return read({**given, "x0": _start(fields), "options": options})


def _start(fields: Fields) -> Any:
    x0 = Point(fields).x0
    return x0.tolist() if isinstance(x0, np.ndarray) else x0


def _options(fields: Fields) -> dict[str, Any]:
    steps = fields.whole("max_steps", 500, 0, LIMITS["steps"])
    gtol = fields.number("gtol", 0.0, low=0.0)
    return {"max_steps": steps, "gtol": gtol, "bounds": read_bounds(fields), "seed": fields.whole("seed", 0)}


def read_bounds(fields: Fields) -> list[tuple[float | None, float | None]] | None:
    """Return the range of each variable; null is no limit. None if nothing is said."""
    if not fields.has("bounds"):
        return None
    found = []
    for i, pair in enumerate(fields.list("bounds", most=LIMITS["side"])):
        name = f"{fields.name('bounds')}[{i}]"
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise InputError(f"{name} must be [low, high], null for no limit")
        ends = Fields(dict(zip(("low", "high"), pair, strict=True)), name)
        low, high = (ends.number(end) if ends.has(end) else None for end in ("low", "high"))
        found.append((low, high))
    return found


# -- what there is ----------------------------------------------------------------------------------------------------


def catalogue(arguments: Arguments, cancelled: Cancelled) -> Answer:
    """Return what can be chosen: functions, optimizers with their hyperparameters, and what the other rooms have."""
    return dict(_catalogue())


@functools.cache
def _catalogue() -> Answer:
    from koubai.descent.files import version
    from koubai.lab.networks import tables

    return {
        **tables(),
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


def _read_expression(arguments: Arguments, cancelled: Cancelled) -> Answer:
    """Return what a typed text means. dimension: how many variables it must have."""
    fields = Fields(arguments)
    f = parse(fields.text("expression", most=LIMITS["characters"]))
    if fields.has("dimension") and len(f.variables) != (wanted := fields.whole("dimension", low=1, high=10_000)):
        names = ", ".join(f.variables)
        needed = worded("1 variable") if wanted == 1 else worded("{count} variables", count=wanted)
        raise refused(
            "the function must have {needed} here; this one has {count}: {names}",
            needed=needed,
            count=len(f.variables),
            names=names,
        )
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
    with quiet(), warnings.catch_warnings(action="ignore"):
        for i, point in enumerate(points):
            if i % 64 == 0:
                cancelled()
            try:
                found[i] = slope(point)
            except (FunctionError, GradientError, ArithmeticError):
                continue
    return {"arrays": {"x": single(points), "g": single(found)}}


def partials(arguments: Arguments, cancelled: Cancelled) -> Answer:
    """Return the gradient of a function of two variables at x, and f along each of them while the other is held.

    f, g: at x, by the method that source names; numerical: g by central differences with the step h = 1e-4; arrays
    at.K and f.K: f as variable K runs through the window.
    """
    from koubai.derivatives.differences import numerical_gradient
    from koubai.derivatives.gradient import value_and_grad

    fields = Fields(arguments)
    f, window = read_plane(fields), read_window(fields)
    x = [
        Fields({"x": number}, "").number("x", low=-1e150, high=1e150) for number in fields.list("x", most=2)
    ]  # as of a start
    if len(x) != 2:
        raise InputError(f"x has {len(x)} numbers, but the function has 2 variables")
    count = fields.whole("count", 160, 2, LIMITS["slice"])
    at = np.array(x)
    with quiet(), warnings.catch_warnings(action="ignore"):
        value, g = value_and_grad(f)(at)
        numerical = numerical_gradient(f, at, method="central", h=1e-4)
        arrays: dict[str, Any] = {}
        for k, (low, high) in enumerate(window):
            cancelled()
            line = np.linspace(low, high, count)
            points = np.broadcast_to(at[:, None, None], (2, 1, count)).copy()
            points[k, 0] = line
            arrays |= {f"at.{k}": single(line), f"f.{k}": single(_values(f, points)[0])}
    return {"x": x, "f": float(value), "g": np.asarray(g), "numerical": np.asarray(numerical), "arrays": arrays}


# -- descents ---------------------------------------------------------------------------------------------------------


def descend(arguments: Arguments, cancelled: Cancelled) -> Answer:
    """Return the descents of several optimizers from one start, every step of them.

    runs: a summary of each, x in float64; arrays path.K, fun.K, grad_norm.K, t.K of the K-th.
    """
    fields = Fields(arguments)
    point, options = Point(fields), _options(fields)
    rules = read_rules(fields)
    layout, start = flatten(point.x0)
    Bounds.read(options["bounds"], layout, start)  # what is wrong with them is no fault of one optimizer
    record = "all" if options["max_steps"] <= ALL_ROWS else "auto"
    runs: list[dict[str, Any]] = []
    arrays: dict[str, Any] = {}
    for k, rule in enumerate(rules):
        cancelled()
        try:
            run = made(point.f, point.x0, rule, cancelled, **options, record=record)
        except (KoubaiError, ArithmeticError) as error:  # of this one alone: least squares of what is no sum of them
            runs.append({"name": _name(rule), "status": "failed", "success": False, "message": told(error)})
            continue
        runs.append(summary(run))
        arrays |= _path_arrays(run, k)
    return {"runs": runs, "arrays": arrays}


def made(f: Any, x0: Any, optimizer: Any, cancelled: Cancelled, **options: Any) -> Run:
    """Make the descent of `koubai.minimize`, asking between its legs whether it is still wanted.

    The warnings that a page could not show are left out: what they say is in the run.
    """
    with warnings.catch_warnings(action="ignore"), quiet():
        given = DEFAULTS | options
        stepper = prepared(f, x0, optimizer, **given)
        descent = stepper.descent
        descent.call = Call(minimize, f, descent.start, descent.layout, {**given, "optimizer": optimizer})
        for _ in points(stepper, many=True):
            cancelled()
        return stepper.run(skip_final_pass=False)


def _name(rule: Optimizer | str) -> str:
    return rule if isinstance(rule, str) else type(rule).__name__


def summary(run: Run) -> dict[str, Any]:
    """Return how a descent ended, in JSON's types."""
    return {
        "name": _name(run.optimizer),
        "lr": run.optimizer.lr if isinstance(run.optimizer, Optimizer) and not callable(run.optimizer.lr) else None,
        "status": run.status.name,
        "success": run.success,
        "message": told(run.message),
        "x": np.atleast_1d(run.x).tolist(),
        "fun": run.fun,
        "best_x": np.atleast_1d(run.best_x).tolist(),
        "best_fun": run.best_fun,
        "grad_norm": float(run.history.grad_norm[-1]),
        **{name: getattr(run, name) for name in ("nit", "nfev", "njev", "gradient_source", "executor")},
    }


def _path_arrays(run: Run, k: int) -> dict[str, Any]:
    """Return the rows of a descent by the names that they have in an answer."""
    layout, _ = flatten(run.x)
    history = run.history
    return {
        f"path.{k}": single(rows_of(history.x, layout)),
        f"fun.{k}": single(history.fun),
        f"grad_norm.{k}": single(history.grad_norm),
        f"t.{k}": np.asarray(history.t).astype(np.int32),
    }


# -- one descent, looked at closely -----------------------------------------------------------------------------------


def step(arguments: Arguments, cancelled: Cancelled) -> Answer:
    """Return one update of a descent, from step t to t + 1, told line by line; see `koubai.lab.narration`."""
    from koubai.lab.narration import narrated_step

    fields = Fields(arguments)
    point = Point(fields)
    t = fields.whole("t", 0, 0, LIMITS["steps"] - 1)
    found = narrated_step(point.f, point.x0, read_rule(fields), t, read_bounds(fields))
    names = point.f.variables if isinstance(point.f, Expression) else [f"x{i}" for i in range(point.ndim)]
    return {**found, "variables": names if point.ndim > 1 else names[:1]}


def diagnose(arguments: Arguments, cancelled: Cancelled) -> Answer:
    """Return the verdict on a descent, with what was measured and what would help, in the language asked for."""
    found, _ = _diagnosed(arguments, cancelled)
    return found


def _diagnosed(arguments: Arguments, cancelled: Cancelled) -> tuple[Answer, Any]:
    from koubai.diagnosis import diagnose as judge
    from koubai.diagnosis.diagnosis import shown
    from koubai.messages import text

    descent = _read_descent(arguments)
    lang = Fields(arguments).word("lang", LANGUAGES, "en")
    run = made(descent.f, descent.x0, descent.optimizer, cancelled, **descent.options)
    cancelled()
    with warnings.catch_warnings(action="ignore"):
        found = judge(run, lang=lang)
    evidence = [
        {
            "name": name,
            "label": text(f"name.{name}", lang),
            "value": found.to_dict()["evidence"][name]["value"],
            "shown": shown(one.value, lang),
            "bound": None if one.bound is None else shown(one.bound),
            "source": text(f"source.{one.source}", lang),
        }
        for name, one in found.evidence.items()
    ]
    remedy = found.remedy
    changes = None if remedy is None else {"text": remedy.text, "changes": _changes(run, remedy.change)}
    answer = {
        "code": found.code,
        "verdict": found.title,
        "explanation": found.explanation,
        "summary": found.summary,
        "is_fault": found.is_fault,
        "evidence": evidence,
        "remedy": changes,
        "run": summary(run),
    }
    return answer, found


def _changes(run: Run, change: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a remedy changes, as it is written in a specification."""
    changed: dict[str, Any] = {}
    for name, value in change.items():
        if name == "lr" and isinstance(run.optimizer, Optimizer):
            changed["optimizer"] = flat_optimizer(run.optimizer) | {"lr": float(value)}
        elif name == "optimizer":
            changed["optimizer"] = flat_optimizer(value)
        elif name == "bounds":
            size = np.size(run.x)
            changed["bounds"] = [list(pair) for pair in value] if np.ndim(value) == 2 else [list(value)] * size
        else:
            changed[name] = np.atleast_1d(value).tolist() if name == "x0" else value
    return changed


def fix(arguments: Arguments, cancelled: Cancelled) -> Answer:
    """Try the remedies of a verdict until one helps: what it was before and after, and what the page has to change."""
    _, found = _diagnosed(arguments, cancelled)
    cancelled()
    tried = found.verify()
    remedy = None if tried.remedy is None else tried.remedy.change
    return {
        "code": found.code,
        "helped": tried.helped,
        "before": summary(tried.before),
        "after": summary(tried.after),
        "changes": {} if remedy is None else _changes(found.run, remedy),
        "remedy": None if tried.remedy is None else found.told(tried.remedy),
    }


def theory(arguments: Arguments, cancelled: Cancelled) -> Answer:
    """Return what theory says of a descent beside what it did; see `koubai.diagnosis.theory`.

    arrays t, fall, promised: by how much f fell in step t, and by how much it falls at least; limit: for every step
    the most that f may be by then, (f - least) times factor a step, where mu is above 0.
    """
    from koubai.diagnosis.theory import theory as told

    descent = _read_descent(arguments)
    run = made(descent.f, descent.x0, descent.optimizer, cancelled, **descent.options, record="all")
    cancelled()
    with warnings.catch_warnings(action="ignore"):
        found = told(run)
    lr = float(found.curvatures[-1].lr)
    plain = isinstance(run.optimizer, SGD) and found.lemma is not None
    # of plain descent: f falls by lr (1 - lr L / 2) |g|^2 at least, and |g|^2 is at least 2 mu (f - f*)
    gain = lr * (1 - lr * found.L / 2)
    factor = 1 - 2 * found.mu * gain if plain and found.mu > 0 else None
    arrays: dict[str, Any] = {}
    if found.lemma is not None:
        lemma = found.lemma
        arrays = {"t": lemma.t.astype(np.int32), "fall": single(lemma.fall), "promised": single(lemma.promised)}
    if factor is not None and 0 <= factor < 1:
        with quiet():
            arrays["limit"] = single(found.least + (float(run.history.fun[0]) - found.least) * factor**run.history.t)
    return {
        "L": found.L,
        "mu": found.mu,
        "lr": lr,
        "bound": found.bound,
        "best_lr": found.best_lr,
        "gain": gain if plain else None,
        "factor": factor,
        "classic": 1 - found.mu / found.L if found.L > 0 and found.mu > 0 else None,
        "predicted": found.predicted,
        "measured": found.measured.value,
        "is_linear": found.measured.is_linear,
        "least": found.least,
        "holds": None if found.lemma is None else found.lemma.holds,
        "notes": list(found.notes),
        "run": summary(run),
        "arrays": arrays,
    }


# -- rates ------------------------------------------------------------------------------------------------------------

NO_PROGRESS, SLOW, GOOD, OTHER_VALLEY, DIVERGING = range(5)
ARRIVED = 1e-3  # of the gradient at the start: a descent with one as small has arrived
FALLEN = 1e-2  # of the way down: one that has gone no more has made no progress
SAME = 1e-2  # of the way from the start: minima that are no further apart are one
PIECE = 64  # descents between two looks at whether they are wanted


def rates(arguments: Arguments, cancelled: Cancelled) -> Answer:
    """Return how a descent fares at each of many rates: arrays lr, fun (where it ended) and kind.

    kind: 0 no progress, 1 slow, 2 arrived, 3 arrived in another valley than the smallest rate that arrives, 4 diverging
    or ending no lower than it began. bound: the largest stable rate, by the curvature where descents arrive.
    """
    fields = Fields(arguments)
    point, rule, options = Point(fields), read_rule(fields), _options(fields)
    if rule.rule.searches:
        name = type(rule).__name__
        raise refused("{name} finds its own steps by searching: there is no rate to sweep", name=name)
    low, high = fields.number("low", 1e-5, above=0.0), fields.number("high", 10.0, above=0.0)
    if not low < high:
        raise InputError(f"low must be below high, got {low!r} and {high!r}")
    lr = np.geomspace(low, high, fields.whole("count", 96, 2, LIMITS["rates"]))
    x0, parts, box = np.asarray(point.x0, np.float64), [], options["bounds"]
    for first in range(0, len(lr), PIECE):
        cancelled()
        own = lr[first : first + PIECE]
        starts = np.broadcast_to(x0, (len(own), *x0.shape)).copy()
        parts.append(_many(point.f, starts, rule, max_steps=options["max_steps"], gtol=0.0, lr=own, bounds=box))
    x = np.concatenate([part.x for part in parts])
    fun, norm = (np.concatenate([getattr(part, name) for part in parts]) for name in ("fun", "grad_norm"))
    codes = np.concatenate([part.codes for part in parts])
    start = _many(point.f, x0[None], rule, max_steps=0, bounds=box)
    lost = np.isin(codes, [parts[0].code_of(status) for status in LOST]) | ~np.isfinite(fun) | (fun > start.fun[0])
    kind = np.full(len(lr), SLOW)
    with quiet():
        gone = (start.fun[0] - fun) / max(float(start.fun[0] - np.min(fun[~lost], initial=start.fun[0])), 1e-300)
    kind[~(gone > FALLEN)] = NO_PROGRESS
    arrived = np.flatnonzero(~lost & (norm <= ARRIVED * start.grad_norm[0]))
    kind[arrived] = GOOD
    kind[lost] = DIVERGING
    bound = None
    if arrived.size:
        cancelled()
        near = x[arrived].reshape(len(arrived), -1)
        curved = _largest_curvature(point, near[0])
        bound = None if curved is None else fixed_bound(rule, curved)
        # a gentle descent from each end: of two that lead to one place, one only was not quite there yet
        gentle = SGD(0.5 / curved) if curved else rule
        ends = _many(point.f, x[arrived], gentle, max_steps=options["max_steps"], bounds=box).x.reshape(near.shape)
        way = SAME * max(1e-300, float(np.abs(near[0] - x0.ravel()).max()))
        with quiet():
            apart = np.minimum(*(np.abs(each - each[0]).max(axis=1) for each in (near, ends))) > way
        kind[arrived[apart]] = OTHER_VALLEY
    arrays = {"lr": single(lr), "fun": single(fun), "kind": kind.astype(np.uint8), "x": single(x.reshape(len(x), -1))}
    return {"arrays": arrays, "bound": bound, "start": float(start.fun[0])}


def _many(f: Any, starts: Any, rule: Any, **options: Any) -> Many:
    from koubai.descent.many import minimize_many

    with warnings.catch_warnings(action="ignore"):
        return minimize_many(f, starts, rule, **options)


def _largest_curvature(point: Point, x: FloatArray) -> float | None:
    """Return the largest curvature at x, if there is one above 0."""
    from koubai.derivatives.curvature import curvature

    at: Any = float(x[0]) if np.ndim(point.x0) == 0 else x
    with warnings.catch_warnings(action="ignore"), quiet():
        try:
            found = curvature(point.f, at).largest
        except (FunctionError, GradientError, ArithmeticError):
            return None
    return found if found > 0 else None


def find_rate(arguments: Arguments, cancelled: Cancelled) -> Answer:
    """Return the rate with which the optimizer descends fastest, as `koubai.find_lr` finds it, and what it tried."""
    from koubai.search.learning_rate import find_lr

    fields = Fields(arguments)
    point, rule = Point(fields), read_rule(fields)
    with warnings.catch_warnings(action="ignore"):
        found = find_lr(point.f, point.x0, rule, bounds=read_bounds(fields), seed=fields.whole("seed", 0))
    curve = found.curve
    return {
        **{name: getattr(found, name) for name in ("lr", "low", "high", "bound", "bound_reason", "nfev")},
        "arrays": {
            "curve.lr": single(curve.lr),
            "curve.fun": single(curve.fun),
            "curve.steps": np.asarray(curve.steps).astype(np.int32),
            "curve.diverged": np.asarray(curve.diverged).astype(np.uint8),
        },
    }


def race(arguments: Arguments, cancelled: Cancelled) -> Answer:
    """Return a race with one budget for each: the table, the best first, and the paths as `descend` gives them."""
    from koubai.search.race import race as held

    fields = Fields(arguments)
    point = Point(fields)
    entrants: dict[str, Any] = {}
    for i, rule in enumerate(read_rules(fields)):
        name = _name(rule)
        label = name if name not in entrants else f"{name} {i + 1}"
        entrants[label] = rule
    lr: Any = fields.value("lr", "given")
    if not isinstance(lr, str):
        lr = fields.number("lr", above=0.0)
    with warnings.catch_warnings(action="ignore"):
        found = held(
            point.f, point.x0, entrants, budget=fields.whole("budget", 1000, 1, LIMITS["budget"]), lr=lr,
            bounds=read_bounds(fields), seed=fields.whole("seed", 0), progress=lambda _: cancelled(),
        )  # fmt: skip
    count = range(len(found.table["name"]))
    arrays: dict[str, Any] = {}
    slots = list(entrants)
    for name, run in found.runs.items():
        arrays |= _path_arrays(run, slots.index(name))
    return {
        "table": [{key: plain(column[i]) for key, column in found.table.items()} for i in count],
        "slots": slots,
        "runs": [summary(found.runs[name]) | {"name": name} if name in found.runs else None for name in slots],
        **{name: getattr(found, name) for name in ("winner", "tied", "budget", "rules")},
        "target": float(found.targets[0]),
        "arrays": arrays,
    }


# -- basins -----------------------------------------------------------------------------------------------------------


def basins(arguments: Arguments, cancelled: Cancelled) -> Answer:
    """Return which minimum each start of a window leads to: arrays label and steps, (height, width), row 0 the lowest.

    label: the number in minima, or -1 unfinished, -2 diverged, -3 not finite.
    """
    from koubai.search.basins import basins as mapped

    fields = Fields(arguments)
    f, window, rule = read_plane(fields), read_window(fields), read_rule(fields)
    width, height = read_size(fields, "resolution", (200, 200), LIMITS["side"])
    steps = fields.whole("steps", 200, 1, LIMITS["steps"])
    check_map(fields, width * height, steps)
    with warnings.catch_warnings(action="ignore"):
        found = mapped(
            f, window, optimizer=rule, resolution=(width, height), steps=steps, progress=lambda *_: cancelled()
        )
    return {
        "arrays": {"label": found.label.astype(np.int32), "steps": found.steps.astype(np.int32)},
        "minima": [
            {"x": np.atleast_1d(m.x), "fun": m.fun, "share": m.share, "count": m.count, "signature": m.signature}
            for m in found.minima
        ],
        "shares": found.shares,
        "executor": found.executor,
    }


ASKS: dict[str, Callable[[Arguments, Cancelled], Answer]] = {
    "catalogue": catalogue,
    "parse": _read_expression,
    "field": field,
    "arrows": arrows,
    "partials": partials,
    "descend": descend,
    "step": step,
    "diagnose": diagnose,
    "fix": fix,
    "theory": theory,
    "rates": rates,
    "find_lr": find_rate,
    "race": race,
    "basins": basins,
}
