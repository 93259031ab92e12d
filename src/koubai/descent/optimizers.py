"""The public optimizer objects, made from the rules: ``kb.Adam(lr=0.1)``, ``kb.Adam(lr=0.1, semantics="keras")``.

`SEMANTICS` is the one table of what each framework does differently; `compare` shows what that amounts to.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from numbers import Real
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

import numpy as np

from koubai.descent.hyperparameters import Docstring, documented
from koubai.descent.rules import CHOICES, INTERVALS, RULES, Rule
from koubai.descent.schedules import Memory, Schedule
from koubai.errors import CompileWarning, FunctionError, InputError, TraceError, UnknownNameError, warn
from koubai.execute.choose import choose_fused
from koubai.parameters import FloatArray, Layout, Parameters, check_flag, flatten, is_structure, members, real_array
from koubai.synonyms import no_attribute

if TYPE_CHECKING:
    from koubai.descent.fused import Fused

Rate: TypeAlias = float | Literal["auto"] | Schedule | Callable[[int], float]
State: TypeAlias = tuple[Any, ...]
Evaluate: TypeAlias = Callable[[FloatArray], tuple[float, FloatArray]]  # a flat x -> f and the flat gradient there
Residuals: TypeAlias = Callable[[FloatArray], tuple[FloatArray, FloatArray]]  # a flat x -> r and its Jacobian there

AUTO_RATE = "auto"  # an lr that `koubai.find_lr` finds when a descent begins

_UNCHECKED = "params and state were updated with it, as check_finite=False allows"
FUSIONS = 3  # times that an optimizer is fused; if its arrays still don't suit machine code, it stays in NumPy

# What every optimizer takes besides its rule's hyperparameters. A rule that names weight_decay itself decays by its own
# formula, and then there is nothing to choose. A gradient is clipped first and decayed after, but for the rules that
# evaluate f themselves: there weight decay is weight_decay / 2 * |x|**2 added to f, and the gradient of that sum is
# clipped, since minus a clipped gradient goes down, but minus a clipped gradient and a decay need not. Such a rule goes
# along the clipped gradient and takes slopes and curvatures from the unclipped one: those of clipped gradients are no
# function's, and lead a search and a quasi-Newton matrix astray.
OPTIONS: dict[str, Any] = {
    "weight_decay": 0.0,
    "decoupled_weight_decay": False,
    "clipvalue": None,
    "clipnorm": None,
    "groups": None,
}

# What a framework does to every optimizer: whether weight decay is apart from the gradient, and how clipnorm clips: to
# the norm of each array or of all parameters at once, and what is added to that norm.
FRAMEWORKS: dict[str, dict[str, Any]] = {
    "torch": {"decoupled_weight_decay": False, "clip_each_array": False, "clip_eps": 1e-6},
    "keras": {"decoupled_weight_decay": True, "clip_each_array": True, "clip_eps": 0.0},
    "optax": {"decoupled_weight_decay": False, "clip_each_array": False, "clip_eps": 0.0},
    "paper": {"decoupled_weight_decay": False, "clip_each_array": False, "clip_eps": 0.0},
}

# Who has which optimizer, and what differs from the rule's own defaults there. The first one is the default. Read from
# the sources of torch 2.13, Keras 3.15 and optax 0.2.8; optax has no default lr, so the rule's own is used. What no
# framework has is the paper's.
SEMANTICS: dict[str, dict[str, dict[str, Any]]] = {
    "sgd": {"torch": {}, "keras": {"lr": 1e-2, "lr_inside": True}, "optax": {}},
    "asgd": {"torch": {}},
    "rprop": {"torch": {}, "optax": {"one_late": True}},
    "lion": {"keras": {}, "optax": {"weight_decay": 1e-3, "decoupled_weight_decay": True}},
    "adagrad": {
        "torch": {},
        "keras": {"lr": 1e-3, "initial_accumulator_value": 0.1, "eps": 1e-7, "eps_in_sqrt": True},
        "optax": {"initial_accumulator_value": 0.1, "eps": 1e-7, "eps_in_sqrt": True},
    },
    "rmsprop": {
        "torch": {},
        "keras": {"lr": 1e-3, "alpha": 0.9, "eps": 1e-7, "eps_in_sqrt": True, "lr_inside": True},
        "optax": {"alpha": 0.9, "eps_in_sqrt": True, "lr_inside": True},
    },
    "adadelta": {"torch": {}, "keras": {"lr": 1e-3, "rho": 0.95, "eps": 1e-7}, "optax": {}},
    "ftrl": {"keras": {}},
    "adam": {"torch": {}, "keras": {"eps": 1e-7, "eps_in": "raw"}, "optax": {"max_of": "corrected"}},
    "adamax": {"torch": {}, "keras": {"lr": 1e-3, "eps": 1e-7, "eps_in": "denominator"}, "optax": {}},
    "nadam": {
        "torch": {},
        "keras": {"lr": 1e-3, "eps": 1e-7, "momentum_decay": 1.0},
        "optax": {"momentum_decay": math.inf},
    },
    "radam": {"torch": {}, "optax": {"eps_in": "corrected"}},
    "adabelief": {"optax": {}},
    "adan": {"optax": {"decoupled_weight_decay": True}},
    "yogi": {"optax": {}},
    "lars": {"optax": {}},
    "lamb": {"keras": {}, "optax": {"eps": 1e-6, "decay_in": "ratio"}},
    "novograd": {"optax": {}},
    "adafactor": {
        "torch": {},
        "keras": {"lr": 1e-3, "eps1": 1e-30, "eps1_in": "square", "decay_in": "first"},
        "optax": {
            "eps1": 1e-30,
            "eps1_in": "square",
            "decay_in": "unscaled",
            "relative_step": False,
            "factor_from": 128,
        },
    },
    "muon": {
        "torch": {},
        "keras": {
            "weight_decay": 4e-3,
            "eps_in": "sum",
            "average": "sum",
            "adjust_lr_fn": "match_rms_adamw",
            "adam_eps": 1e-7,
            "adam_weight_decay": 4e-3,
        },
        "optax": {
            "weight_decay": 0.0,
            "eps": 1e-8,
            "eps_in": "sum",
            "average": "corrected",
            "adjust_lr_fn": "width_transfer",
            "rest": "nadam",
            "adam_weight_decay": 0.0,
        },
    },
    "schedule_free_sgd": {"optax": {}},
    "schedule_free_adamw": {"keras": {"weight_lr_power": 0.0, "decay_in": "y"}, "optax": {}},
    "dog": {"optax": {}},
    "dowg": {"optax": {}},
    "dadapt_adamw": {"optax": {}},
    "prodigy": {"optax": {}},
    "momo": {"optax": {}},
    "polyak_sgd": {"paper": {}, "optax": {"positive_gap": False}},
    "cocob": {"optax": {}},
    "lbfgs": {"paper": {}, "torch": {"history_size": 100, "line_search": "none", "curvature_test": "absolute"}},
}
SEMANTICS |= {name: {"paper": {}} for name in RULES if name not in SEMANTICS}

# Optimizers that are another rule under their own name: the rule, what is set, and what frameworks set besides.
PRESETS: dict[str, tuple[str, dict[str, Any], dict[str, dict[str, Any]]]] = {
    "momentum": ("sgd", {"momentum": 0.9}, {}),
    "nesterov": ("sgd", {"momentum": 0.9, "nesterov": True}, {}),
    "amsgrad": ("adam", {"amsgrad": True}, {}),
    "adamw": (
        "adam",
        {"decoupled_weight_decay": True},
        {"torch": {"weight_decay": 1e-2}, "keras": {"weight_decay": 4e-3}, "optax": {"weight_decay": 1e-4}},
    ),
}


def _defaults(name: str, semantics: str) -> dict[str, Any]:
    """Return every hyperparameter and option of an optimizer with its default under one framework's semantics."""
    return dict(_defaults_of(name, semantics))


@functools.cache
def _defaults_of(name: str, semantics: str) -> dict[str, Any]:
    rule_name, preset, framework = PRESETS.get(name, (name, {}, {}))
    rule = RULES[rule_name]
    own = rule.defaults
    options = OPTIONS | {"decoupled_weight_decay": FRAMEWORKS[semantics]["decoupled_weight_decay"]}
    if "weight_decay" in own:
        options = {name: value for name, value in options.items() if "weight_decay" not in name}
    elif "evaluate" in rule.uses:
        del options["decoupled_weight_decay"], options["groups"]
    return own | options | SEMANTICS[rule_name][semantics] | preset | framework.get(semantics, {})


@dataclass(frozen=True, eq=False)
class _Group:
    """Parameters that are updated with the same settings.

    optimizer: what updates them, None if they are frozen; lr: their own rate, None for that of the others; slices:
    where they are in the flat vector; layout: of their arrays, None if it isn't needed.
    """

    optimizer: Optimizer | None
    lr: float | None
    slices: tuple[slice, ...]
    layout: Layout | None

    def of(self, vector: Any) -> Any:
        """Return the group's part of the flat ``vector``."""
        parts = [vector[part] for part in self.slices]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def spread(self, values: Any) -> Iterator[tuple[int, Any]]:
        """Yield the group's values with where they begin in the flat vector."""
        begin = 0
        for part in self.slices:
            size = part.stop - part.start
            yield part.start, values[begin : begin + size]
            begin += size


class Optimizer:
    """An update rule with its hyperparameters.

    A descent keeps its own state, so one object serves many runs; only `update` uses the state inside the object. lr
    and every hyperparameter can be read and set by its name, as in ``optimizer.momentum = 0.9``.

    Parameters
    ----------
    lr : float, "auto", schedule or callable of the step
        A positive rate; lr(0) is that of the first update. "auto": `koubai.find_lr` finds it when a descent begins; the
        run's optimizer has the number.
    semantics : {"torch", "keras", "optax", "paper"}
        Whose formula and defaults.
    **hyperparameters
        The rule's own, and these, which all optimizers share: weight_decay is added to the gradient, or with
        decoupled_weight_decay taken off x before the step (x -= lr * weight_decay * x); clipvalue and clipnorm are the
        largest |component| and the largest norm of a gradient; groups are settings of their own for the parameters
        whose names a pattern matches, as in ``groups={"*.b": dict(weight_decay=0), "0.*": dict(lr=0)}``: * stands for
        any text, ? for one character; if several match, all count, the later ones first. lr=0 freezes; an lr beside a
        schedule follows it in proportion. Names are the keys of a dict, of a network "0.W", "0.b", …; an array alone is
        called "x". For rules that evaluate f themselves (line searches, L-BFGS), there are no groups, and weight decay
        adds weight_decay / 2 * |x|**2 to f, and the clipped gradient of that sum gives the direction; the slopes and
        curvatures that they use are never clipped.

    Raises
    ------
    InputError
        For an unknown hyperparameter or a value outside its range.

    Examples
    --------
    >>> params = {"w": np.array([1.0, 2.0])}
    >>> optimizer = kb.SGD(lr=0.1, momentum=0.9)
    >>> optimizer.update(params, {"w": np.array([1.0, 1.0])})
    >>> params["w"]
    array([0.9, 1.9])
    """

    name: ClassVar[str]
    rule: ClassVar[Rule]
    _made: ClassVar[dict[str, Any] | None] = None  # the settings of an object of this class that was given none

    # of the object's own updates
    _layout: Layout | None
    _state: State
    _each: list[tuple[int, State]] | None  # per array: its updates and state, if they differ
    _alone: tuple[weakref.ref[Any], ...]  # arrays that were seen to share no memory
    _seen: tuple[weakref.ref[Any], ...]  # the arrays of the last update, whose state this is
    _fused: Fused | None  # the update in machine code
    _fusions: int  # how often it was made: arrays that do not suit it end it
    _memory: Memory | None
    _t: int

    def __new__(cls, *args: Any, **options: Any) -> Self:
        if args and "lr" in options:  # as PyTorch's, which hold the parameters
            fix = f"{cls.__name__}(lr={options['lr']!r})"
            raise InputError(f"write {fix}: the parameters go to update(params, grads), or to minimize")
        return object.__new__(cls)

    def __init__(self, lr: Rate | None = None, *, semantics: str | None = None, **hyperparameters: Any) -> None:
        if lr is None and semantics is None and not hyperparameters:
            made = type(self).__dict__.get("_made")  # the class's own, not one that it inherits
            self.__dict__.update(self._defaults_made() if made is None else made)
            return
        frameworks = SEMANTICS[self.rule.name]
        self._semantics = next(iter(frameworks)) if semantics is None else semantics
        if self._semantics not in frameworks:
            if self._semantics in FRAMEWORKS:
                there = " or ".join(map(repr, frameworks))
                raise InputError(f"{self._semantics} has no {type(self).__name__}; use semantics={there}")
            raise UnknownNameError("semantics", self._semantics, frameworks)
        self._configure(_defaults(self.name, self._semantics)["lr"] if lr is None else lr, hyperparameters)
        self._forget()

    def _defaults_made(self) -> dict[str, Any]:
        """Return what an object that was given nothing holds, which is checked once for all."""
        kind, own = type(self), self.__dict__
        before = set(own)
        self._semantics = next(iter(SEMANTICS[self.rule.name]))
        self._configure(_defaults(self.name, self._semantics)["lr"], {})
        self._forget()
        kind._made = {name: value for name, value in own.items() if name not in before}
        return kind._made

    def _configure(self, lr: Rate, hyperparameters: Mapping[str, Any]) -> None:
        """Check every hyperparameter, then set them all."""
        owner, defaults = type(self).__name__, _defaults(self.name, self._semantics)
        for name in hyperparameters:
            if name not in defaults or name == "lr":
                raise UnknownNameError(f"{owner} hyperparameter", name, defaults)
        values = {name: value for name, value in (defaults | dict(hyperparameters)).items() if name != "lr"}
        rate: Rate
        if isinstance(lr, str) and lr == AUTO_RATE:
            if self.rule.searches:
                raise InputError(f"{owner} finds its own steps by searching along them: leave lr='auto' out")
            rate = lr
        else:
            rate = lr if callable(lr) else _checked(self.rule.name, "lr", lr, owner)
        hyper = {
            name: _checked(self.rule.name, name, value, owner, like=defaults[name])
            for name, value in values.items()
            if name != "groups"
        }
        if hyper["clipvalue"] is not None and hyper["clipnorm"] is not None:
            raise InputError(f"{owner}: give clipvalue or clipnorm, not both")
        low, high = hyper.get("step_min"), hyper.get("step_max")
        if low is not None and high is not None and not low < high:
            raise InputError(f"{owner}: step_min {low!r} must be below step_max {high!r}")
        if "groups" in values:
            hyper["groups"] = self._checked_groups(values["groups"], defaults)
        self._lr, self._hyper = rate, hyper
        self._looks_at_f = "fun" in self.rule.uses or (isinstance(rate, Schedule) and rate.start() != ())
        self._evaluates = "evaluate" in self.rule.uses
        self._clips = hyper["clipvalue"] is not None or hyper["clipnorm"] is not None
        self._own = {name: value for name, value in hyper.items() if name in self.rule.defaults}
        self._plans: dict[Any, Any] = {}  # the groups by the layout of the parameters, and what others derive
        self._settings = ""

    def _checked_groups(self, groups: Any, defaults: Mapping[str, Any]) -> dict[str, dict[str, Any]] | None:
        """Return the settings by pattern as plain Python values. Raises InputError if they can't be used."""
        if groups is None:
            return None
        owner = type(self).__name__
        if not isinstance(groups, Mapping) or not all(
            isinstance(pattern, str) and isinstance(own, Mapping) for pattern, own in groups.items()
        ):
            raise InputError(
                f"{owner}: groups must be a dict of name pattern → settings, as in {{'*.b': dict(weight_decay=0)}}, "
                f"got {groups!r}"
            )
        known = [name for name in defaults if name not in ("groups", "clipvalue", "clipnorm")]
        checked: dict[str, dict[str, Any]] = {}
        for pattern, settings in groups.items():
            checked[pattern] = {}
            for name, value in settings.items():
                where = f"{owner}: groups[{pattern!r}]"
                if name not in known:
                    raise UnknownNameError(f"setting of {where}", name, known)
                if name != "lr":
                    value = _checked(self.rule.name, name, value, where, like=defaults[name])
                elif isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < math.inf:
                    raise InputError(
                        f"{where}: lr must be a finite number ≥ 0, got {value!r}; beside a schedule it follows it in "
                        "proportion"
                    )
                checked[pattern][name] = float(value) if name == "lr" else value
        return checked or None

    # -- attributes ---------------------------------------------------------------------------------------------------

    @property
    def semantics(self) -> str:
        return self._semantics

    @property
    def lr(self) -> Rate:
        return self._lr

    @lr.setter
    def lr(self, lr: Rate) -> None:
        self._configure(lr, self._hyper)

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """Every hyperparameter but lr, to be read; set them by name."""
        return MappingProxyType(self._hyper)

    @property
    def settings(self) -> str:
        """The hyperparameters as text, to tell updates apart."""
        if not self._settings:
            self._settings = repr(self._hyper)
        return self._settings

    @property
    def derived(self) -> dict[Any, Any]:
        """A cache of what is derived from the hyperparameters, until one is set."""
        return self._plans

    def __getattr__(self, name: str) -> Any:
        hyper = self.__dict__.get("_hyper", {})
        if name in hyper:
            return hyper[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        """Set lr or a hyperparameter, checked; nothing else can be set. The state stays."""
        if name.startswith("_") or name == "lr":
            object.__setattr__(self, name, value)
        elif name in self._hyper:
            before = self._lr, self._hyper
            self._configure(self._lr, self._hyper | {name: value})
            try:
                self._refit()
            except InputError:  # groups that the parameters don't have
                self._configure(*before)
                raise
        elif type(self).__module__ != Optimizer.__module__ and hasattr(type(self), name):
            object.__setattr__(self, name, value)  # of a class of one's own
        elif name in ("semantics", "hyperparameters", "rule", "name"):
            raise InputError(f"{type(self).__name__}: {name} can't be changed; make another optimizer")
        else:
            raise UnknownNameError(f"{type(self).__name__} hyperparameter", name, ["lr", *self._hyper])

    # -- the rate -----------------------------------------------------------------------------------------------------

    def lr_at(self, t: int) -> float:
        """Return the rate of the update that follows step ``t`` = 0, 1, … Raises InputError if it isn't a rate."""
        return self.rate(t, self._lr.start() if isinstance(self._lr, Schedule) else ())

    def rate(self, t: int, memory: Memory) -> float:
        """Return the rate of the update that follows step ``t``; memory: what `observe` returned there."""
        if type(self._lr) is float:
            return self._lr
        if isinstance(self._lr, str):
            raise InputError(
                f"{type(self).__name__}(lr='auto') has no rate yet: minimize, fit and Network.fit find it when a "
                "descent begins; koubai.find_lr finds it in advance"
            )
        if not callable(self._lr):
            return float(self._lr)
        lr: Any = self._lr.rate(t, memory) if isinstance(self._lr, Schedule) else self._lr(t)
        if isinstance(lr, bool) or not isinstance(lr, Real) or not (math.isfinite(lr) and float(lr) >= 0):
            raise InputError(f"the learning rate schedule gave {lr!r} at step {t}; it must give a finite number ≥ 0")
        return float(lr)

    def observe(self, memory: Memory | None, t: int, fun: float) -> Memory:
        """Return what the schedule remembers after f was ``fun`` at step ``t``; memory None: nothing yet."""
        if not isinstance(self._lr, Schedule):
            return ()
        return self._lr.observe(self._lr.start() if memory is None else memory, t, fun)

    # -- one descent's updates: pure, with the state outside ----------------------------------------------------------

    def init(self, x: FloatArray, layout: Layout | None = None) -> State:
        """Return the state before the first update at the flat ``x``, whose arrays are arranged as ``layout`` says."""
        if self._groups:
            return tuple(
                array
                for group in self._grouped(layout, x.size)
                if group.optimizer is not None
                for array in group.optimizer.init(group.of(x), group.layout)
            )
        if not self.rule.state:
            return ()
        hyper = {"lr": self.lr_at(0), **self._own}
        if self.rule.scope != "tensor":
            return self.rule.start(x, hyper)
        return tuple(array for part in _parts(x, layout) for array in self.rule.start(part, hyper))

    @property
    def begins_with_zeros(self) -> bool:
        """Whether the state before the first update is known without x: all of it is 0."""
        return not (self.rule.begin or self._groups)

    def state_names(self, layout: Layout | None = None) -> tuple[str, ...]:
        """Return a name for each array of the state: "m", or "W.m" if each array or group of a dict has its own."""
        if self._groups:
            size = 1 if layout is None else layout.size
            return tuple(
                name if "." in name or group.layout is None else f"{'+'.join(group.layout.names or ('x',))}.{name}"
                for group in self._grouped(layout, size)
                if group.optimizer is not None
                for name in group.optimizer.state_names(group.layout)
            )
        if self.rule.scope != "tensor" or layout is None or layout.names is None:
            return self.rule.state
        return tuple(f"{name}.{array}" for name in layout.names for array in self.rule.state)

    def step(
        self,
        x: FloatArray,
        g: FloatArray,
        state: State,
        t: int,
        lr: float,
        *,
        fun: float = math.nan,
        evaluate: Evaluate | None = None,
        box: tuple[FloatArray, FloatArray] | None = None,
        residuals: Residuals | None = None,
        layout: Layout | None = None,
    ) -> tuple[FloatArray, State]:
        """Return the new x and state of update ``t`` = 1, 2, … Nothing passed in is changed.

        x, g: flat. fun: f(x), for the rules that need it. evaluate: a function of a flat x that returns f and the flat
        gradient, for line searches; box: the bounds that they keep, low and high. residuals: a function of a flat x
        that returns the residuals and their Jacobian, for least squares. layout: the arrays in x, for rules
        that need whole arrays.
        """
        if self._groups:
            return self._grouped_step(x, g, state, t, lr, fun, layout)
        decay = 0.0 if "weight_decay" in self._own else self._hyper["weight_decay"]
        if decay and self._evaluates:
            fun, g = fun + decay / 2 * float(np.sum(x * x)), g + decay * x
            evaluate = evaluate and _decayed(evaluate, decay)
            residuals = residuals and _shrunk(residuals, decay)
        unclipped = g
        if self._clips:
            g = self._clipped(g, layout)
        if decay and not self._evaluates:
            if self._hyper["decoupled_weight_decay"]:
                x = x * (1 - lr * decay)
            else:
                g = g + decay * x
        rule, hyper = self.rule, self._own
        if rule.uses:
            needed = {"fun": fun, "evaluate": evaluate, "unclipped": unclipped, "box": box, "residuals": residuals}
            hyper = hyper | {name: needed[name] for name in rule.uses}
        if rule.scope != "tensor":
            return rule.formula(x, g, state, t, lr=lr, **hyper)
        k, steps = len(rule.state), []
        for i, (xi, gi) in enumerate(zip(_parts(x, layout), _parts(g, layout), strict=True)):
            steps.append(rule.formula(xi, gi, state[k * i : k * i + k], t, lr=lr, **hyper))
        return np.concatenate([xi.ravel() for xi, _ in steps]), tuple(a for _, after in steps for a in after)

    # -- groups of parameters -----------------------------------------------------------------------------------------

    @property
    def _groups(self) -> dict[str, dict[str, Any]] | None:
        return self._hyper.get("groups")

    def _grouped(self, layout: Layout | None, size: int) -> list[_Group]:
        """Return the groups of the parameters. Raises InputError for a pattern that matches none of them.

        Neighbours with the same settings are one group. If a rule depends on all parameters at once, all with the same
        settings are.
        """
        key = size if layout is None else layout
        if key not in self._plans:
            self._plans[key] = self._planned(layout, size)
        return self._plans[key]  # type: ignore[no-any-return]

    def _planned(self, layout: Layout | None, size: int) -> list[_Group]:
        each = self._variants(layout)
        runs: list[tuple[Any, list[int]]] = []
        for i, variant in enumerate(each):
            known = next((members for one, members in runs if one is variant), None)
            if runs and runs[-1][0] is variant:
                runs[-1][1].append(i)
            elif known is not None and self.rule.scope == "vector":
                known.append(i)
            else:
                runs.append((variant, [i]))
        slices = (slice(0, size),) if layout is None else layout.slices
        return [
            _Group(
                variant[0],
                variant[1],
                _joined([slices[i] for i in members]),
                None if layout is None else layout.only(members),
            )
            for variant, members in runs
        ]

    def _variants(self, layout: Layout | None) -> list[tuple[Optimizer | None, float | None]]:
        """Return for every array what updates it, None: it is frozen, and its own rate; equal ones are the same."""
        names = ("x",) if layout is None or layout.names is None else layout.names
        groups, made, each = self._groups or {}, {}, []
        found = {pattern: re.compile(_regular(pattern)) for pattern in groups}
        unused = set(groups)
        for name in names:
            settings: dict[str, Any] = {}
            for pattern, own in groups.items():
                if found[pattern].fullmatch(name):
                    settings |= own
                    unused.discard(pattern)
            key = repr(sorted(settings.items()))
            if key not in made:
                lr = settings.pop("lr", None)
                plain = self._hyper | settings | {"clipvalue": None, "clipnorm": None, "groups": None}
                made[key] = (None if lr == 0 else type(self)(lr or self._lr, semantics=self._semantics, **plain), lr)
            each.append(made[key])
        for pattern in groups:
            if pattern in unused:
                raise InputError(
                    f"{type(self).__name__}: groups[{pattern!r}] matches none of the parameters {', '.join(names)}"
                )
        if all(optimizer is None for optimizer, _ in each):
            raise InputError(f"{type(self).__name__}: groups freeze every parameter, so there is nothing to update")
        return each

    def _own_rate(self, own: float | None, lr: Any) -> Any:
        """Return the rate of a group if that of the others is ``lr``."""
        if own is None:
            return lr
        return lr * (own / _full_rate(self._lr)) if callable(self._lr) else own

    def _grouped_step(
        self, x: Any, g: Any, state: State, t: Any, lr: Any, fun: Any, layout: Layout | None
    ) -> tuple[Any, State]:
        groups = self._grouped(layout, x.size)
        if self._clips:
            g = self._clipped(self._counted(g, layout), layout)
        pieces: dict[int, Any] = {}
        states: list[Any] = []
        begin = 0
        for group in groups:
            after = group.of(x)
            if group.optimizer is not None:
                k = len(group.optimizer.state_names(group.layout))
                after, own = group.optimizer.step(
                    after, group.of(g), state[begin : begin + k], t, self._own_rate(group.lr, lr), fun=fun,
                    layout=group.layout,
                )  # fmt: skip
                begin += k
                states += own
            pieces.update(group.spread(after))
        return np.concatenate([pieces[start] for start in sorted(pieces)]), tuple(states)

    def _counted(self, g: Any, layout: Layout | None) -> Any:
        """Return the gradient, 0 where parameters are frozen: what is not updated has no part in the norm."""
        if not self._groups:
            return g
        pieces: dict[int, Any] = {}
        for group in self._grouped(layout, g.size):
            part = group.of(g)
            pieces.update(group.spread(np.zeros_like(part) if group.optimizer is None else part))
        return np.concatenate([pieces[start] for start in sorted(pieces)])

    def clips(self, x: FloatArray, g: FloatArray, layout: Layout | None = None) -> Any:
        """Return whether an update from the flat ``x`` by the gradient ``g`` would clip it."""
        if not self._clips:
            return False
        g = self._counted(g, layout)
        if self._evaluates:
            g = g + self._hyper["weight_decay"] * x
        return np.any(self._clipped(g, layout) != g)

    def _clipped(self, g: FloatArray, layout: Layout | None) -> FloatArray:
        """Return the gradient clipped by value, or by norm as the framework does."""
        value, norm = self._hyper["clipvalue"], self._hyper["clipnorm"]
        if value is not None:
            return np.clip(g, -value, value)
        how = FRAMEWORKS[self._semantics]
        scaled = []
        with np.errstate(all="ignore"):
            for part in _parts(g, layout) if how["clip_each_array"] else [g]:
                size, largest = np.sqrt(np.sum(part * part)), np.max(np.abs(part))
                scaled_down = largest * np.sqrt(np.sum(np.square(part / largest)))
                # squares overflow long before the norm does
                size = np.where(np.isfinite(size), size, scaled_down) + how["clip_eps"]
                scaled.append(np.where(size > norm, part * (norm / np.where(size > norm, size, 1.0)), part).ravel())
        return np.concatenate(scaled).astype(g.dtype, copy=False)

    def advice(self, state: State, t: int) -> str | None:
        """Return what the user should know about the state after ``t`` updates: an estimate that is stuck, say."""
        if self.rule.advise is None or t == 0 or self._groups:
            return None
        return self.rule.advise(state, t, {"lr": self.lr_at(t), **self._own})

    def promise(self, state: State) -> float | None:
        """Return by how much the last update was to lower f; inf before the first; None: the rule does not tell."""
        return float(state[self.rule.state.index("promise")]) if self.rule.promises else None

    @property
    def is_clipping(self) -> bool:
        """Whether clipvalue or clipnorm is set."""
        return bool(self._clips)

    # -- the object's own state: update in place ----------------------------------------------------------------------

    def _forget(self) -> None:
        self.__dict__.update(
            _layout=None, _state=(), _each=None, _alone=(), _seen=(), _fused=None, _fusions=0, _memory=None, _t=0
        )

    def update(self, params: Any, grads: Any, fun: float | None = None, *, check_finite: bool = True) -> None:
        """Update ``params`` in place: a float array, or a dict, list or tuple of float arrays, also nested.

        A number in a dict or a list is replaced; in a tuple it can't be, and is refused. An array that occurs
        twice is one parameter, whose gradient is the sum of both.

        grads: the gradient in the same form. What is left out of a dict, or None, is not updated, and its state stays
        as it is, as PyTorch does. fun: f at params, for the rules and schedules that look at it.
        check_finite: check every gradient before the first parameter is written. False, if they are known to be
        finite, say from their norm, spares a pass over them: what is not finite is then found on the way and raised
        when params and state have been updated with it.
        Raises FunctionError if a gradient is not finite, with nothing changed unless check_finite=False. Raises
        InputError, with nothing changed, if an array can't be written (integers, read-only), arrays overlap, the
        form differs from the first update's, these are other parameters than before (the moments belong to those; plain
        SGD has none and serves any), or the rule needs more than this.
        """
        if check_finite is not True and check_finite is not False:
            check_finite = check_flag(check_finite, "check_finite")
        if self._fused is not None and self._fused_update(params, grads, fun, check_finite):
            return
        if self._evaluates:
            raise InputError(f"{type(self).__name__} evaluates f itself: use minimize, update has no f to evaluate")
        if fun is None and self._looks_at_f:
            raise InputError(f"{type(self).__name__} looks at f: call update(params, grads, fun=f(params))")
        places = _writable(params)
        self._claim([holder[key] for holder, key, _ in places])
        ties = self._ties(places)
        if ties:
            params, grads, places = _united(params, grads, places, ties)
        layout, x, state = self._taken_up(params)
        given = list(_paired(params, grads, "grads")) if _is_partial(params, grads) else None
        number = math.nan if fun is None else float(fun)
        memory = self.observe(self._memory, self._t, number)
        lr = self.rate(self._t, memory)
        if self.rule.scope != "vector" and (given is not None or self._groups or self._each is not None):
            parts = layout.parts(layout.view(_gathered(layout, grads, "grads"))) if given is None else given
            x, each, wrong = self._stepped_each(layout, x, parts, lr, number, check_finite)
            self._layout, self._state, self._each, self._fused = layout, (), each, None
        else:
            if given is not None:
                raise InputError(f"{type(self).__name__} looks at all parameters at once: give the gradient of each")
            g = _gathered(layout, grads, "grads")
            wrong = None if np.isfinite(g).all() else _not_finite(layout, g, _UNCHECKED)
            if wrong is not None and check_finite:
                raise _not_finite(layout, g, "nothing was updated")
            with np.errstate(all="ignore"):
                x, state = self.step(x, g, state, self._t + 1, lr, fun=number, layout=layout)
            self._layout, self._state, self._fused = layout, state, None
        self._memory, self._t = memory, self._t + 1
        if (
            wrong is None
            and not ties
            and self._each is None
            and self.rule.scope == "element"
            and self._fusions < FUSIONS
            and choose_fused(layout.size, self._t)
        ):
            self._fuse(layout, x)
        if isinstance(params, np.ndarray):
            params[...] = layout.view(x)
        else:
            for (holder, key, _), value in zip(places, _parts(x, layout), strict=True):
                if isinstance(holder[key], np.ndarray):
                    holder[key][...] = value
                else:
                    holder[key] = float(value) if value.ndim == 0 else value
        if wrong is not None:
            raise wrong

    def _taken_up(self, params: Any) -> tuple[Layout, FloatArray, State]:
        """Return the form of the parameters, the flat vector of them, and the state of a whole update."""
        if self._layout is not None:
            try:
                return self._layout, _gathered(self._layout, params, "params"), self._state
            except InputError as error:
                unused = self.rule.only_if
                if self._each is not None or not all(
                    name in unused and not self._hyper[unused[name]] for name in self.rule.state
                ):
                    raise InputError(
                        f"{error}; this {type(self).__name__} keeps the state of the parameters that it updated "
                        "before: make one for each set of them, or give both in one dict, {'a': …, 'b': …}, where the "
                        "gradients of either may be left out"
                    ) from None
        layout, x = flatten(params, "params")  # the first ones, or others, which plain descent does not mind
        whole = self.rule.scope == "vector" or not self._groups
        return layout, x, self.init(x, layout) if whole else ()

    def _claim(self, arrays: Sequence[Any]) -> None:
        """Make sure that these are the arrays of the last update, or their successors. Raises InputError if not.

        They are not if none of them is one of the last update, and one that was still exists and holds other numbers:
        a copy goes on, and so does what took the place of arrays that are gone.
        """
        arrays = [array for array in arrays if isinstance(array, np.ndarray)]
        before = [seen() for seen in self._seen]
        if len(before) == len(arrays) and all(a is b for a, b in zip(before, arrays, strict=True)):
            return
        if (
            self._keeps()
            and len(before) == len(arrays)
            and not any(a is b for a, b in zip(before, arrays, strict=True))
        ):
            for old, array in zip(before, arrays, strict=True):
                if old is not None and old.shape == array.shape and not np.array_equal(old, array, equal_nan=True):
                    raise InputError(
                        f"these are other arrays than this {type(self).__name__} updated before, which are still "
                        "there: the state that it keeps is theirs. Make one for each set of parameters, or give both "
                        "in one dict, {'a': …, 'b': …}, where the gradients of either may be left out; new numbers "
                        "for the same parameters are set in place, as in params[...] = x"
                    )
        self._seen = tuple(map(weakref.ref, arrays))

    def _keeps(self) -> bool:
        """Return whether an update depends on those before it by more than their number."""
        settings = [self._hyper, *(self._hyper | own for own in (self._groups or {}).values())]
        unused = self.rule.only_if
        return any(name not in unused or any(own[unused[name]] for own in settings) for name in self.rule.state)

    def _ties(self, places: Sequence[tuple[Any, Any, str]]) -> dict[int, int]:
        """Return which arrays are the same as an earlier one. Raises InputError if others overlap."""
        arrays = [holder[key] for holder, key, _ in places]
        if len(arrays) == len(self._alone) and all(
            seen() is array for seen, array in zip(self._alone, arrays, strict=True)
        ):
            return {}
        ties = _overlaps([(name, array) for (*_, name), array in zip(places, arrays, strict=True)])
        self._alone = ()
        if not ties and all(isinstance(array, np.ndarray) for array in arrays):
            self._alone = tuple(map(weakref.ref, arrays))
        return ties

    # -- array by array: groups, and gradients of some of the arrays only ---------------------------------------------

    def _stepped_each(
        self, layout: Layout, x: FloatArray, given: Sequence[Any], lr: float, fun: float, check_finite: bool
    ) -> tuple[FloatArray, list[tuple[int, State]], FunctionError | None]:
        """Return the flat x after an update of the arrays that have a gradient, their updates and states, and what is
        to be raised then."""
        variants, singles = self._by_array(layout)
        active = [i for i, (optimizer, _) in enumerate(variants) if optimizer is not None and given[i] is not None]
        if not active:
            if all(part is None for part in given):
                raise InputError("grads has no gradient: give that of one array at least")
            return x, self._each or self._apart(layout), None
        gs = [_gathered(singles[i], [given[i]], f"grads[{_name(layout, i)!r}]") for i in active]
        wrong = None
        for i, g in zip(active, gs, strict=True):
            if wrong is None and not np.isfinite(g).all():
                wrong = _not_finite(singles[i], g, _UNCHECKED)
                if check_finite:
                    raise _not_finite(singles[i], g, "nothing was updated")
        parts, each = [part.ravel() for part in _parts(x, layout)], list(self._each or self._apart(layout))
        with np.errstate(all="ignore"):
            if self._clips:
                clipped = self._clipped(np.concatenate(gs), layout.only(active))
                gs = np.split(clipped, np.cumsum([g.size for g in gs])[:-1])
            for i, g in zip(active, gs, strict=True):
                optimizer, own = variants[i]
                assert optimizer is not None
                t, state = each[i]
                if not t:
                    state = optimizer.init(parts[i], singles[i])
                parts[i], state = optimizer.step(
                    parts[i], g, state, t + 1, self._own_rate(own, lr), fun=fun, layout=singles[i]
                )
                each[i] = t + 1, state
        return np.concatenate(parts), each, wrong

    def _by_array(self, layout: Layout) -> tuple[list[tuple[Optimizer | None, float | None]], list[Layout]]:
        """Return what updates each array, and its own layout."""
        if ("each", layout) not in self._plans:
            singles = [
                Layout((_name(layout, i),), (shape,), False, layout.dtype, (list, ((0, None),)))
                for i, shape in enumerate(layout.shapes)
            ]
            self._plans["each", layout] = self._variants(layout), singles
        return self._plans["each", layout]  # type: ignore[no-any-return]

    def _apart(self, layout: Layout) -> list[tuple[int, State]]:
        """Return the updates and the state of each array, if so far all were updated together."""
        if not self._t or self._layout is None:
            return [(0, ())] * len(layout.shapes)
        k, n = len(self.rule.state), len(layout.shapes)
        if self.rule.scope == "tensor":
            return [(self._t, tuple(map(np.array, self._state[k * i : k * i + k]))) for i in range(n)]
        by_state = [
            [part.ravel() for part in _parts(array, layout)] if np.ndim(array) else [array] * n for array in self._state
        ]
        return [(self._t, tuple(np.array(parts[i]) for parts in by_state)) for i in range(n)]

    def _refit(self) -> None:
        """Adapt the state to hyperparameters that were changed: an array that was not used before begins."""
        self._fused, self._fusions, layout = None, 0, self._layout
        if layout is None:
            return
        if self._each is None and self._groups and self.rule.scope != "vector":
            self._each, self._state = self._apart(layout), ()
        if self._each is None:
            self._state = _suited(self._state, self.init(np.zeros(layout.size, layout.dtype), layout))
            return
        for i, (optimizer, _) in enumerate(self._by_array(layout)[0]):
            t, state = self._each[i]
            if t and optimizer is not None:
                zeros = np.zeros(math.prod(layout.shapes[i]), layout.dtype)
                self._each[i] = t, _suited(state, optimizer.init(zeros, self._by_array(layout)[1][i]))

    def _fuse(self, layout: Layout, x: FloatArray) -> None:
        """Make the update in machine code, if the rule is elementwise, and check that it does what NumPy does."""
        from koubai.descent.fused import Fused
        from koubai.execute.elements import NotLowerable

        self._fusions += 1
        if self._hyper["clipnorm"] is not None:
            return
        try:
            fused = Fused(self.step, self.init, layout, self._state, weakref.WeakMethod(self._claim))
        except (TraceError, NotLowerable):
            self._fusions = FUSIONS
            return
        if fused.code.library.origin != "memory" and (problem := fused.check(self.step, x, self._t + 1, self.lr_at(0))):
            self._fusions = FUSIONS
            warn(CompileWarning(problem))
            return
        self._fused, self._state = fused, fused.state

    def _fused_update(self, params: Any, grads: Any, fun: float | None, check_finite: bool) -> bool:
        """Update in machine code; False: nothing was done, the ordinary way has to do it or to say what is wrong."""
        if fun is None and self._looks_at_f:
            return False
        number = math.nan if fun is None else float(fun)
        memory, lr = self._memory, self._lr
        if callable(lr):
            memory = self.observe(memory, self._t, number)
            lr = self.rate(self._t, memory)
        is_finite = self._fused.run(params, grads, self._t + 1, lr, number, check_finite)  # type: ignore[union-attr, arg-type]
        if not is_finite and (check_finite or is_finite is None):
            return False
        self._memory, self._t = memory, self._t + 1
        if not is_finite:
            layout: Layout = self._layout  # type: ignore[assignment]
            raise _not_finite(layout, _gathered(layout, grads, "grads"), _UNCHECKED)
        return True

    def __getstate__(self) -> dict[str, Any]:
        """A copy's state is its own: machine code writes into it."""
        state = tuple(np.copy(array) for array in self._state)
        return self.__dict__ | {"_fused": None, "_state": state, "_alone": (), "_seen": (), "_plans": {}}

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on exactly here: hyperparameters, lr, step and state, copied.

        counts: None, or the updates of each array, whose state then follows that of the array before.
        """
        state = self._state if self._each is None else [array for _, part in self._each for array in part]
        return {
            "optimizer": self.rule.name,
            "semantics": self.semantics,
            "lr": self.lr,
            "hyperparameters": dict(self.hyperparameters),
            "t": self._t,
            "memory": self._memory,
            "layout": self._layout,
            "counts": None if self._each is None else tuple(t for t, _ in self._each),
            "state": tuple(np.copy(array) for array in state),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned, lr and hyperparameters included.

        Raises InputError if it is not the state of such an optimizer; then nothing is changed.
        """
        wanted = {"optimizer", "semantics", "lr", "hyperparameters", "t", "memory", "layout", "counts", "state"}
        if not isinstance(saved, Mapping) or set(saved) != wanted:
            raise InputError(f"load_state_dict needs what state_dict returns: a dict with the keys {sorted(wanted)}")
        if saved["optimizer"] != self.rule.name:
            raise InputError(f"this is the state of a {saved['optimizer']}, not of a {self.rule.name}")
        fresh = type(self)(saved["lr"], semantics=saved["semantics"], **saved["hyperparameters"])
        layout, state = saved["layout"], tuple(np.copy(array) for array in saved["state"])
        counts, each = saved["counts"], None
        if layout is not None:
            if counts is None:
                like = fresh.init(np.zeros(layout.size, layout.dtype), layout)
            else:
                begun = [
                    (optimizer, single) if t and optimizer is not None else None
                    for t, (optimizer, _), single in zip(counts, *fresh._by_array(layout), strict=True)
                ]
                states = [
                    () if pair is None else pair[0].init(np.zeros(pair[1].size, layout.dtype), pair[1])
                    for pair in begun
                ]
                like = tuple(array for part in states for array in part)
            if [np.shape(a) for a in like] != [np.shape(a) for a in state]:
                raise InputError(
                    f"the state has arrays of the shapes {[np.shape(a) for a in state]}, "
                    f"but {type(self).__name__} keeps {[np.shape(a) for a in like]} for these parameters"
                )
            if counts is not None:
                rest = iter(state)
                each = [(int(t), tuple(next(rest) for _ in part)) for t, part in zip(counts, states, strict=True)]
        self._semantics = fresh.semantics
        self._configure(saved["lr"], saved["hyperparameters"])
        self._forget()
        self._layout, self._state, self._each = layout, state if each is None else (), each
        self._memory, self._t = saved["memory"], int(saved["t"])

    # -- a value ------------------------------------------------------------------------------------------------------

    def _value(self) -> tuple[Any, ...]:
        return (self.rule.name, self._semantics, self._lr, self._hyper)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Optimizer) and self._value() == other._value()

    def __hash__(self) -> int:
        return hash((self.rule.name, self._semantics, self._lr, repr(self._hyper)))

    def __repr__(self) -> str:
        lr = self.lr if not callable(self.lr) or isinstance(self.lr, Schedule) else _function_name(self.lr)
        defaults = _defaults(self.name, self.semantics)
        changed = [f"{k}={v!r}" for k, v in self.hyperparameters.items() if v != defaults[k]]
        if self.semantics != next(iter(SEMANTICS[self.rule.name])):
            changed.append(f"semantics={self.semantics!r}")
        return f"{type(self).__name__}({', '.join([f'lr={lr}', *changed])})"


def _decayed(evaluate: Evaluate, decay: float) -> Evaluate:
    """Return f and its gradient with decay / 2 * |x|**2 added."""

    def added(x: FloatArray) -> tuple[float, FloatArray]:
        fun, g = evaluate(x)
        return fun + decay / 2 * float(np.sum(x * x)), g + decay * x

    return added


def _shrunk(residuals: Residuals, decay: float) -> Residuals:
    """Return the residuals and their Jacobian with those of decay / 2 * |x|**2 added."""

    def added(x: FloatArray) -> tuple[FloatArray, FloatArray]:
        r, jacobian = residuals(x)
        root = math.sqrt(decay / 2)
        return np.concatenate([r, root * x]), np.concatenate([jacobian, root * np.eye(x.size, dtype=x.dtype)])

    return added


def _joined(slices: Sequence[slice]) -> tuple[slice, ...]:
    """Return the slices with neighbours joined."""
    joined: list[slice] = []
    for part in slices:
        if joined and joined[-1].stop == part.start:
            part = slice(joined.pop().start, part.stop)
        joined.append(part)
    return tuple(joined)


def _regular(pattern: str) -> str:
    """Return a name pattern as a regular expression: brackets, which names of nested arrays contain, are plain."""
    return re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")


def _full_rate(lr: Any) -> float:
    """Return the rate on which a schedule is based: its lr, or the first one if it is a function."""
    while hasattr(lr, "after"):
        lr = lr.after
    full = float(lr.lr if hasattr(lr, "lr") else lr(0))
    if not full > 0:
        raise InputError("a group's lr follows the schedule in proportion to its first rate, which must be above 0")
    return full


def _function_name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _parts(vector: FloatArray, layout: Layout | None) -> list[FloatArray]:
    """Return the arrays in the flat ``vector``, as views of it in their own shapes."""
    if layout is None:
        return [vector]
    return [vector[part].reshape(shape) for part, shape in zip(layout.slices, layout.shapes, strict=True)]


def _gathered(layout: Layout, values: Any, argument: str) -> FloatArray:
    """Return what `Layout.match` does, without its checks if the arrays are plainly the ones expected."""
    if layout.names is not None and isinstance(values, dict | list | tuple):
        try:
            parts = layout.parts(values)
        except (KeyError, IndexError, TypeError):
            return layout.match(values, argument)  # which says what is wrong
        if (layout.form is not None or len(values) == len(parts)) and all(
            type(part) is np.ndarray and part.dtype == layout.dtype and part.shape == shape
            for part, shape in zip(parts, layout.shapes, strict=True)
        ):
            return np.concatenate([part.ravel() for part in parts])
    return layout.match(values, argument)


def _not_finite(layout: Layout, g: FloatArray, state: str) -> FunctionError:
    i = int(np.flatnonzero(~np.isfinite(g))[0])
    return FunctionError(f"the gradient's component {layout.label(i)} is {g[i]}; {state}")


def _writable(params: Any) -> list[tuple[Any, Any, str]]:
    """Return (holder, key, name) of every array. Raises InputError unless ``params`` can be updated in place."""
    if isinstance(params, np.ndarray):
        places: list[tuple[Any, Any, str]] = [((params,), 0, "params")]
    elif is_structure(params):
        places = list(_places(params, "params"))
    else:
        raise InputError(
            f"params must be an array or a dict of arrays (or a list or tuple of them) to be updated in place, "
            f"got {params!r}"
        )
    for holder, key, name in places:
        value = holder[key]
        if isinstance(value, np.ndarray):
            if value.dtype.kind != "f":
                raise InputError(f"{name} is of dtype {value.dtype}, which would cut off every update: make it float64")
            if not value.flags.writeable:
                raise InputError(f"{name} is read-only and can't be updated in place; copy it first")
        elif isinstance(holder, tuple):
            raise InputError(f"{name} is a number in a tuple, which can't be replaced: make it an array")
    return places


def _overlaps(named: Sequence[tuple[str, Any]]) -> dict[int, int]:
    """Return which arrays are the same as an earlier one, by their places. Raises InputError if others overlap."""
    ends = []
    for i, (name, array) in enumerate(named):
        if isinstance(array, np.ndarray) and array.size:
            if any(stride == 0 and n > 1 for stride, n in zip(array.strides, array.shape, strict=True)):
                raise InputError(f"{name} has elements that share memory, so that each can't be updated: copy it first")
            ends.append((*np.lib.array_utils.byte_bounds(array), i))
    ties: dict[int, int] = {}
    open_: list[tuple[int, int]] = []  # (end, place) of the arrays that reach beyond the present one's begin
    for begin, end, i in sorted(ends):
        open_ = [(stop, j) for stop, j in open_ if stop > begin]
        for _, j in open_:
            a, b = named[j][1], named[i][1]
            if (a.ctypes.data, a.shape, a.strides, a.dtype) == (b.ctypes.data, b.shape, b.strides, b.dtype):
                ties[max(i, j)] = min(i, j)
            elif np.shares_memory(a, b):
                first, second = named[min(i, j)][0], named[max(i, j)][0]
                raise InputError(
                    f"{first} and {second} overlap in memory but are not the same array, so that the update of one "
                    "would change the other: copy one of them, or give the array that holds both"
                )
        open_.append((end, i))
    return {i: ties.get(j, j) for i, j in ties.items()}


def _united(
    params: Any, grads: Any, places: Sequence[tuple[Any, Any, str]], ties: Mapping[int, int]
) -> tuple[dict[str, Any], dict[str, Any], list[tuple[Any, Any, str]]]:
    """Return params and grads as dicts in which every array occurs once, with the sum of its gradients."""
    arrays, sums = {}, dict[str, Any]()
    for i, g in enumerate(_paired(params, grads, "grads")):
        holder, key, _ = places[ties.get(i, i)]
        name = places[ties.get(i, i)][2]
        arrays[name] = holder[key]
        if g is not None:
            g = real_array(g, f"grads of {places[i][2]}")
            if g.shape != np.shape(holder[key]):
                raise InputError(f"the gradient of {places[i][2]} has shape {g.shape}, not {np.shape(holder[key])}")
            sums[name] = sums[name] + g if name in sums else g
    return arrays, sums, [place for i, place in enumerate(places) if i not in ties]


def _is_partial(params: Any, grads: Any) -> bool:
    """Return whether ``grads`` lacks some of the arrays of ``params``."""
    if isinstance(params, Mapping) and isinstance(grads, Mapping):
        if len(grads) < len(params):
            return True
        return any(g is None or (is_structure(g) and _is_partial(params.get(key), g)) for key, g in grads.items())
    if is_structure(params) and isinstance(grads, list | tuple) and len(grads) == len(params):
        return any(g is None or (is_structure(g) and _is_partial(p, g)) for p, g in zip(params, grads, strict=True))
    return False


def _paired(params: Any, grads: Any, name: str) -> Iterator[Any]:
    """Yield the gradient of every array of ``params``, None if it is left out. Raises InputError for other forms."""
    if not is_structure(params) or grads is None:
        yield from [grads] if not is_structure(params) else [None for _ in _places(params, name)]
        return
    if isinstance(params, Mapping):
        if not isinstance(grads, Mapping):
            raise InputError(f"{name} must be a dict with the keys {sorted(params)}, got {type(grads).__name__}")
        if unknown := [key for key in grads if key not in params]:
            raise InputError(f"{name} has {unknown[0]!r}, which params has not: its keys are {sorted(params)}")
        for key, part in params.items():
            yield from _paired(part, grads.get(key), f"{name}[{key!r}]")
        return
    if not isinstance(grads, list | tuple) or len(grads) != len(params):
        raise InputError(f"{name} must have {len(params)} parts, as params has; None stands for one that is left out")
    for i, (part, g) in enumerate(zip(params, grads, strict=True)):
        yield from _paired(part, g, f"{name}[{i}]")


def _name(layout: Layout, i: int) -> str:
    return "x" if layout.names is None else layout.names[i]


def _suited(state: State, like: State) -> State:
    """Return the arrays of the state, those of ``like`` if the shape is another one."""
    return tuple(a if np.shape(a) == np.shape(b) else b for a, b in zip(state, like, strict=True))


def _places(params: Any, name: str) -> Iterator[tuple[Any, Any, str]]:
    """Yield (holder, key, name) of every array of a structure, in the order of its layout."""
    keys = list(params) if isinstance(params, Mapping) else range(len(params))
    for key, (label, part) in zip(keys, members(params, name), strict=True):
        if name == "params" and isinstance(params, Mapping):
            label = str(key)  # as the caller calls it
        if is_structure(part):
            yield from _places(part, label)
        else:
            yield params, key, label


def _checked(rule: str, name: str, value: Any, owner: str, like: Any = 0.0) -> Any:
    """Return ``value`` as a plain Python value; raise InputError unless it may stand for hyperparameter ``name``."""
    if value is None and like is None:
        return None
    if isinstance(like, bool):
        return check_flag(value, f"{owner}: {name}")
    if isinstance(like, str):
        words = CHOICES[f"{rule}.{name}"]
        if value not in words:
            raise InputError(f"{owner}: {name} must be {' or '.join(map(repr, words))}, got {value!r}")
        return value
    low, high, low_allowed, high_allowed = INTERVALS.get(f"{rule}.{name}") or INTERVALS[name]
    if isinstance(value, bool) or not isinstance(value, Real) or math.isnan(value):
        raise InputError(f"{owner}: {name} must be a real number, got {value!r}")
    if isinstance(like, int) and not float(value).is_integer():
        raise InputError(f"{owner}: {name} must be a whole number, got {value!r}")
    number = int(float(value)) if isinstance(like, int) else float(value) + 0.0  # -0.0 is 0.0
    if not (low < number or (low_allowed and number == low)) or not (
        number < high or (high_allowed and number == high)
    ):
        interval = f"{'[' if low_allowed else '('}{low:g}, {high:g}{']' if high_allowed else ')'}"
        raise InputError(f"{owner}: {name} must lie in {interval}, got {number!r}")
    return number


# -- the optimizers by name -------------------------------------------------------------------------------------------

CLASSES: dict[str, type[Optimizer]] = {}


def _public(name: str) -> type[Optimizer]:
    """Make the public class of a rule or preset: the signature and the docstring are the rule's own."""
    key = name.lower()
    of_this_name = next((rule for rule in RULES if rule.replace("_", "") == key), key)
    rule_name, preset, _ = PRESETS.get(key, (of_this_name, {}, {}))
    rule = RULES[rule_name]

    def doc() -> str:
        each = {framework: _defaults(cls.name, framework) for framework in SEMANTICS[rule_name]}
        settings = ", ".join(f"{k}={v!r}" for k, v in preset.items())
        about = [f"{name}: {rule_name} with {settings}."] if preset else []
        return "\n\n".join([*about, inspect.cleandoc(rule.formula.__doc__ or ""), documented(rule, name, each)])

    body = {"rule": rule, "name": key if preset else rule_name, "__doc__": Docstring(doc), "__module__": __name__}
    cls: type[Optimizer] = type(name, (Optimizer,), body)
    first = next(iter(SEMANTICS[rule_name]))
    keyword, either = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    cls.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(n, either if n == "lr" else keyword, default=default)
            for n, default in (_defaults(cls.name, first) | {"semantics": first}).items()
        ]
    )
    CLASSES[key] = cls
    return cls


SGD = _public("SGD")
Momentum = _public("Momentum")
Nesterov = _public("Nesterov")
Adagrad = _public("Adagrad")
RMSprop = _public("RMSprop")
Adadelta = _public("Adadelta")
Adam = _public("Adam")
AMSGrad = _public("AMSGrad")
AdamW = _public("AdamW")
Adamax = _public("Adamax")
NAdam = _public("NAdam")
RAdam = _public("RAdam")
Rprop = _public("Rprop")
ASGD = _public("ASGD")
Ftrl = _public("Ftrl")
Lion = _public("Lion")
AdaBelief = _public("AdaBelief")
Adan = _public("Adan")
Yogi = _public("Yogi")
Lars = _public("Lars")
Lamb = _public("Lamb")
NovoGrad = _public("NovoGrad")
Adafactor = _public("Adafactor")
Muon = _public("Muon")
ScheduleFreeSGD = _public("ScheduleFreeSGD")
ScheduleFreeAdamW = _public("ScheduleFreeAdamW")
DoG = _public("DoG")
DoWG = _public("DoWG")
DAdaptAdamW = _public("DAdaptAdamW")
Prodigy = _public("Prodigy")
MoMo = _public("MoMo")
PolyakSGD = _public("PolyakSGD")
COCOB = _public("COCOB")
GradientDescent = _public("GradientDescent")
BarzilaiBorwein = _public("BarzilaiBorwein")
ConjugateGradient = _public("ConjugateGradient")
LBFGS = _public("LBFGS")
LevenbergMarquardt = _public("LevenbergMarquardt")


def names() -> tuple[str, ...]:
    """Return the names by which `minimize` and the command line know the optimizers.

    Returns
    -------
    tuple of str
        In alphabetical order.

    Examples
    --------
    >>> "adam" in kb.optimizers.names()
    True
    """
    return tuple(sorted(CLASSES))


def resolve(optimizer: Any, **hyperparameters: Any) -> Optimizer:
    """Return ``optimizer`` itself, or make the one that a name stands for.

    Parameters
    ----------
    optimizer : Optimizer or str
        An object or a name, upper or lower case.
    **hyperparameters
        Of the one that is made.

    Returns
    -------
    Optimizer
        The object.

    Raises
    ------
    InputError
        For anything else.

    Examples
    --------
    >>> kb.optimizers.resolve("sgd", lr=0.5)
    SGD(lr=0.5)
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, str):
        return _named(optimizer)(**hyperparameters)
    if isinstance(optimizer, type) and issubclass(optimizer, Optimizer):
        raise InputError(f"optimizer must be an object: write {optimizer.__name__}(lr=…), not {optimizer.__name__}")
    raise InputError(f"optimizer must be an optimizer object or a name such as 'sgd', got {optimizer!r}")


def _named(name: str) -> type[Optimizer]:
    if name.lower() not in CLASSES:
        raise UnknownNameError("optimizer", name, names())
    return CLASSES[name.lower()]


# -- comparing the frameworks -----------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Comparison:
    """The meanings of one optimizer's name in each framework. Showing it gives a table.

    Attributes
    ----------
    optimizer : str
        Its class.
    differences : dict
        hyperparameter → {framework: its default or variant}, if they are not all the same.
    paths, default_paths : dict
        framework → (steps + 1, n) points: with equal numbers, so that only the formulas differ; with each framework's
        own defaults.
    largest, default_largest : dict
        (framework, framework) → the largest |difference| of any component along the two paths.
    """

    optimizer: str
    differences: dict[str, dict[str, Any]]
    paths: dict[str, FloatArray]
    default_paths: dict[str, FloatArray]

    @property
    def largest(self) -> dict[tuple[str, str], float]:
        return _largest(self.paths)

    @property
    def default_largest(self) -> dict[tuple[str, str], float]:
        return _largest(self.default_paths)

    def __repr__(self) -> str:
        frameworks = list(self.paths)
        rows = [["", *frameworks]]
        rows += [[name, *(str(values[f]) for f in frameworks)] for name, values in self.differences.items()]
        width = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, width, strict=True)).rstrip() for row in rows]
        if not self.differences:
            lines = [f"{self.optimizer} has the same formula and defaults in {', '.join(frameworks)}"]
        for (a, b), difference in self.largest.items():
            lines.append(
                f"{a}-{b}: paths differ by up to {difference:.2g} with equal numbers, "
                f"{self.default_largest[a, b]:.2g} with each one's defaults"
            )
        return "\n".join(lines)


def _largest(paths: Mapping[str, FloatArray]) -> dict[tuple[str, str], float]:
    return {(a, b): float(np.abs(paths[a] - paths[b]).max()) for a, b in combinations(paths, 2)}


def _valley_gradient(x: FloatArray) -> FloatArray:
    """The gradient of x0²/20 + x1², whose two curvatures are a factor of 20 apart."""
    return np.array([0.1, 2.0]) * x


def compare(
    name: str,
    grad: Callable[[Any], Any] = _valley_gradient,
    x0: Parameters = (-7.0, 2.0),
    *,
    steps: int = 50,
    **hyperparameters: Any,
) -> Comparison:
    """Compare: run one optimizer under every framework's semantics, and show where and how far they part.

    Parameters
    ----------
    name : str
        Of the optimizer.
    grad : callable, default that of x0**2/20 + x1**2
        The gradient as a function of x, in the form of x0.
    x0 : number, array or structure, default (-7, 2)
        The start.
    steps : int, default 50
        Updates made.
    **hyperparameters
        Set equally in all of them; in `paths`, numbers that are not given have the first framework's value, and what a
        framework has no argument for keeps its own.

    Returns
    -------
    Comparison
        The paths and their differences.

    Raises
    ------
    UnknownNameError
        For an unknown optimizer.

    Examples
    --------
    >>> kb.optimizers.compare("adam", steps=3).differences["eps"]
    {'torch': 1e-08, 'keras': 1e-07, 'optax': 1e-08}
    """
    cls = _named(name)
    frameworks = [f for f in SEMANTICS[cls.rule.name] if f != "paper"]
    own = {f: _defaults(cls.name, f) for f in frameworks}
    first = own[frameworks[0]]
    # Words, flags and a warm-up that a framework has built in are its formula; other numbers can be made equal.
    numbers = {n: v for n, v in first.items() if isinstance(v, float) and n != "momentum_decay"}
    layout, start = flatten(x0)

    def path(optimizer: Optimizer) -> FloatArray:
        x, state = start, optimizer.init(start, layout)
        points = [x]
        for t in range(steps):
            g = layout.match(grad(layout.copy(x)), "the gradient that grad returned")
            x, state = optimizer.step(x, g, state, t + 1, optimizer.lr_at(t), layout=layout)
            points.append(x)
        return np.array(points)

    return Comparison(
        cls.__name__,
        {n: {f: own[f][n] for f in frameworks} for n in first if any(own[f][n] != first[n] for f in frameworks)},
        {f: path(cls(semantics=f, **(numbers | hyperparameters))) for f in frameworks},
        {f: path(cls(semantics=f, **hyperparameters)) for f in frameworks},
    )


__all__ = [
    "AUTO_RATE",
    "CLASSES",
    "Comparison",
    "Optimizer",
    "compare",
    "names",
    "resolve",
    *(cls.__name__ for cls in CLASSES.values()),
]


def __getattr__(name: str) -> Any:
    raise no_attribute(__name__, name, __all__)
