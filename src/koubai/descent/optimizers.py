"""The public optimizer objects, made from the rules: ``kb.Adam(lr=0.1)``, ``kb.Adam(lr=0.1, semantics="keras")``.

`SEMANTICS` is the one table of what each framework does differently; `compare` shows what that amounts to.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from koubai.descent.rules import CHOICES, INTERVALS, RULES, Rule
from koubai.descent.schedules import Memory, Schedule
from koubai.errors import CompileWarning, FunctionError, InputError, TraceError, UnknownNameError, warn
from koubai.execute.choose import choose_fused
from koubai.parameters import FloatArray, Layout, Parameters, flatten, is_structure, members
from koubai.synonyms import no_attribute

if TYPE_CHECKING:
    from koubai.descent.fused import Fused

Rate: TypeAlias = float | Schedule | Callable[[int], float]
State: TypeAlias = tuple[Any, ...]
Evaluate: TypeAlias = Callable[[FloatArray], tuple[float, FloatArray]]  # a flat x -> f and the flat gradient there
Residuals: TypeAlias = Callable[[FloatArray], tuple[FloatArray, FloatArray]]  # a flat x -> r and its Jacobian there

_UNCHECKED = "params and state were updated with it, as check_finite=False allows"
FUSIONS = 3  # times that an optimizer is fused anew; where its arrays do not suit machine code, it stays in NumPy

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
# the sources of torch 2.13, Keras 3.15 and optax 0.2.8; optax has no default lr, so the rule's stands in.
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
    "gradient_descent": {"paper": {}},
    "barzilai_borwein": {"paper": {}},
    "conjugate_gradient": {"paper": {}},
    "levenberg_marquardt": {"paper": {}},
    "lbfgs": {"paper": {}, "torch": {"history_size": 100, "line_search": "none", "curvature_test": "absolute"}},
}

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
        del options["decoupled_weight_decay"]
    return own | options | SEMANTICS[rule_name][semantics] | preset | framework.get(semantics, {})


class Optimizer:
    """An update rule with its hyperparameters.

    lr: a positive number, a schedule, or a function of the step: lr(0) is the rate of the first update.
    semantics: whose formula and defaults: "torch", "keras" or "optax". The other hyperparameters are the rule's, by
    keyword, and these: weight_decay, added to the gradient, or with decoupled_weight_decay taken off x before the step
    (x -= lr * weight_decay * x); clipvalue and clipnorm, the largest |component| and the largest norm of a gradient.
    For rules that evaluate f themselves (line searches, L-BFGS), weight decay adds weight_decay / 2 * |x|**2 to f, and
    the clipped gradient of that sum gives the direction; the slopes and curvatures that they use are never clipped.

    A descent keeps its own state, so one object serves many runs; only `update` uses the state inside the object.
    Raises InputError for an unknown hyperparameter or a value outside its range.
    """

    name: ClassVar[str]
    rule: ClassVar[Rule]

    def __init__(self, lr: Rate | None = None, *, semantics: str | None = None, **hyperparameters: Any) -> None:
        frameworks = SEMANTICS[self.rule.name]
        self.semantics = next(iter(frameworks)) if semantics is None else semantics
        if self.semantics not in frameworks:
            if self.semantics in FRAMEWORKS:
                raise InputError(
                    f"{self.semantics} has no {type(self).__name__}; use semantics={' or '.join(map(repr, frameworks))}"
                )
            raise UnknownNameError("semantics", self.semantics, frameworks)
        self._configure(_defaults(self.name, self.semantics)["lr"] if lr is None else lr, hyperparameters)
        self._forget()

    def _configure(self, lr: Rate, hyperparameters: Mapping[str, Any]) -> None:
        """Check and set every hyperparameter."""
        owner, defaults = type(self).__name__, _defaults(self.name, self.semantics)
        for name in hyperparameters:
            if name not in defaults or name == "lr":
                raise UnknownNameError(f"{owner} hyperparameter", name, defaults)
        values = {name: value for name, value in (defaults | dict(hyperparameters)).items() if name != "lr"}
        self.lr: Rate = lr if callable(lr) else _checked(self.rule.name, "lr", lr, owner)
        self.hyperparameters = {
            name: _checked(self.rule.name, name, value, owner, like=defaults[name]) for name, value in values.items()
        }
        if values["clipvalue"] is not None and values["clipnorm"] is not None:
            raise InputError(f"{owner}: give clipvalue or clipnorm, not both")
        low, high = values.get("step_min"), values.get("step_max")
        if low is not None and high is not None and not low < high:
            raise InputError(f"{owner}: step_min {low!r} must be below step_max {high!r}")
        self._looks_at_f = "fun" in self.rule.uses or (isinstance(lr, Schedule) and lr.start() != ())
        self._evaluates = "evaluate" in self.rule.uses
        self._clips = self.hyperparameters["clipvalue"] is not None or self.hyperparameters["clipnorm"] is not None
        self._own = {name: value for name, value in self.hyperparameters.items() if name in self.rule.defaults}

    # -- the rate -----------------------------------------------------------------------------------------------------

    def lr_at(self, t: int) -> float:
        """Return the rate of the update that follows step ``t`` = 0, 1, … Raises InputError if it is no rate."""
        return self.rate(t, self.lr.start() if isinstance(self.lr, Schedule) else ())

    def rate(self, t: int, memory: Memory) -> float:
        """Return the rate of the update that follows step ``t``; memory: what `observe` returned there."""
        if not callable(self.lr):
            return self.lr
        lr = self.lr.rate(t, memory) if isinstance(self.lr, Schedule) else self.lr(t)
        if isinstance(lr, bool) or not isinstance(lr, Real) or not (math.isfinite(lr) and lr >= 0):
            raise InputError(f"the learning rate schedule gave {lr!r} at step {t}; it must give a finite number ≥ 0")
        return float(lr)

    def observe(self, memory: Memory | None, t: int, fun: float) -> Memory:
        """Return what the schedule remembers after f was ``fun`` at step ``t``; memory None: nothing yet."""
        if not isinstance(self.lr, Schedule):
            return ()
        return self.lr.observe(self.lr.start() if memory is None else memory, t, fun)

    # -- one descent's updates: pure, with the state outside ----------------------------------------------------------

    def init(self, x: FloatArray, layout: Layout | None = None) -> State:
        """Return the state before the first update at the flat ``x``, whose arrays lie as ``layout`` says."""
        hyper = {"lr": self.lr_at(0), **self._own}
        parts = _parts(x, layout) if self.rule.scope == "tensor" else [x]
        return tuple(array for part in parts for array in self.rule.start(part, hyper))

    def state_names(self, layout: Layout | None = None) -> tuple[str, ...]:
        """Return a name for each array of the state: "m", or "W.m" where each array of a dict has its own."""
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
        that returns the residuals and their Jacobian, for least squares. layout: the arrays that lie in x, for rules
        that look at whole arrays.
        """
        decay = 0.0 if "weight_decay" in self._own else self.hyperparameters["weight_decay"]
        if decay and self._evaluates:
            fun, g = fun + decay / 2 * float(np.sum(x * x)), g + decay * x
            evaluate = evaluate and _decayed(evaluate, decay)
            residuals = residuals and _shrunk(residuals, decay)
        unclipped = g
        if self._clips:
            g = self._clipped(g, layout)
        if decay and not self._evaluates:
            if self.hyperparameters["decoupled_weight_decay"]:
                x = x * (1 - lr * decay)
            else:
                g = g + decay * x
        needed = {"fun": fun, "evaluate": evaluate, "unclipped": unclipped, "box": box, "residuals": residuals}
        extra = {name: needed[name] for name in self.rule.uses}
        if self.rule.scope != "tensor":
            return self.rule(x, g, state, t, lr=lr, **self._own, **extra)
        k, steps = len(self.rule.state), []
        for i, (xi, gi) in enumerate(zip(_parts(x, layout), _parts(g, layout), strict=True)):
            steps.append(self.rule(xi, gi, state[k * i : k * i + k], t, lr=lr, **self._own, **extra))
        return np.concatenate([xi.ravel() for xi, _ in steps]), tuple(a for _, after in steps for a in after)

    def clips(self, x: FloatArray, g: FloatArray, layout: Layout | None = None) -> Any:
        """Tell whether an update from the flat ``x`` by the gradient ``g`` would clip it."""
        if not self._clips:
            return False
        if self._evaluates:
            g = g + self.hyperparameters["weight_decay"] * x
        return np.any(self._clipped(g, layout) != g)

    def _clipped(self, g: FloatArray, layout: Layout | None) -> FloatArray:
        """Return the gradient clipped by value, or by norm as the framework does."""
        value, norm = self.hyperparameters["clipvalue"], self.hyperparameters["clipnorm"]
        if value is not None:
            return np.clip(g, -value, value)
        how = FRAMEWORKS[self.semantics]
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
        """Return what the user should know of the state after ``t`` updates: an estimate that is stuck, say."""
        if self.rule.advise is None or t == 0:
            return None
        return self.rule.advise(state, t, {"lr": self.lr_at(t), **self._own})

    def promise(self, state: State) -> float | None:
        """Return by how much the last update was to lower f; inf before the first; None: the rule does not tell."""
        names = self.rule.state
        return float(state[names.index("promise")]) if "promise" in names else None

    def largest_stable_lr(self, curvature: float) -> float | None:
        """Return the lr above which the rule diverges on a quadratic of this largest curvature; None: not known.

        Coupled weight decay adds to the curvature. Decoupled decay and clipping leave no such number.
        """
        hyper = self.hyperparameters
        if self.rule.stability is None or not curvature > 0 or self._clips:
            return None
        if hyper["weight_decay"] and hyper["decoupled_weight_decay"]:
            return None
        return float(self.rule.stability(**self._own) / (curvature + hyper["weight_decay"]))

    # -- the object's own state: update in place ----------------------------------------------------------------------

    def _forget(self) -> None:
        self._layout: Layout | None = None
        self._state: State = ()
        self._fused: Fused | None = None  # the update in machine code
        self._fusions = 0  # how often it was made: arrays that do not suit it end it
        self._memory: Memory | None = None
        self._t = 0

    def update(self, params: Any, grads: Any, fun: float | None = None, *, check_finite: bool = True) -> None:
        """Update ``params`` in place: a float array, or a dict, list or tuple of float arrays, also nested.

        A number in a dict or a list is replaced; in a tuple it can't be, and is refused.

        grads: the gradient in the same form. fun: f at params, for the rules and schedules that look at it.
        check_finite: look at every gradient before the first parameter is written. False, where they are known to be
        finite, say from their norm, spares a pass over them: what is not finite is then found on the way and raised
        when params and state have been updated with it.
        Raises FunctionError where a gradient is not finite, with nothing changed but for check_finite=False. Raises
        InputError, with nothing changed, where an array can't be written (integers, read-only), the form differs from
        the first update's, or the rule needs more than this.
        """
        if check_finite is not True and check_finite is not False:
            if not isinstance(check_finite, np.bool_):
                raise InputError(f"check_finite must be True or False, got {check_finite!r}")
            check_finite = bool(check_finite)
        if self._fused is not None and self._fused_update(params, grads, fun, check_finite):
            return
        if self._evaluates:
            raise InputError(f"{type(self).__name__} evaluates f itself: use minimize, update has no f to evaluate")
        if fun is None and self._looks_at_f:
            raise InputError(f"{type(self).__name__} looks at f: call update(params, grads, fun=f(params))")
        _check_writable(params)
        if self._layout is None:
            layout, x = flatten(params, "params")
            state = self.init(x, layout)
        else:
            layout, state = self._layout, self._state
            x = _gathered(layout, params, "params")
        g = _gathered(layout, grads, "grads")
        is_finite = bool(np.isfinite(g).all())
        if not is_finite and check_finite:
            raise _not_finite(layout, g, "nothing was updated")
        memory = self.observe(self._memory, self._t, math.nan if fun is None else float(fun))
        lr = self.rate(self._t, memory)
        with np.errstate(all="ignore"):
            x, state = self.step(
                x, g, state, self._t + 1, lr, fun=math.nan if fun is None else float(fun), layout=layout
            )
        self._layout, self._state, self._memory, self._t = layout, state, memory, self._t + 1
        self._fused = None
        if (
            is_finite
            and self.rule.scope == "element"
            and self._fusions < FUSIONS
            and choose_fused(layout.size, self._t)
        ):
            self._fuse(layout, x)
        if isinstance(params, np.ndarray):
            params[...] = layout.view(x)
        else:
            for (holder, key, _), value in zip(_places(params, "params"), _parts(x, layout), strict=True):
                if isinstance(holder[key], np.ndarray):
                    holder[key][...] = value
                else:
                    holder[key] = float(value) if value.ndim == 0 else value
        if not is_finite:
            raise _not_finite(layout, g, _UNCHECKED)

    def _fuse(self, layout: Layout, x: FloatArray) -> None:
        """Make the update in machine code, where the rule is elementwise, and see that it does what NumPy does."""
        from koubai.descent.fused import Fused
        from koubai.execute.elements import Unsuitable

        self._fusions += 1
        if self.hyperparameters["clipnorm"] is not None:
            return
        try:
            fused = Fused(self.step, self.init, layout, self._state)
        except (TraceError, Unsuitable):
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
        memory, lr = self._memory, self.lr
        if callable(lr):
            memory = self.observe(memory, self._t, number)
            lr = self.rate(self._t, memory)
        is_finite = self._fused.run(params, grads, self._t + 1, lr, number, check_finite)  # type: ignore[union-attr]
        if not is_finite and (check_finite or is_finite is None):
            return False
        self._memory, self._t = memory, self._t + 1
        if not is_finite:
            layout: Layout = self._layout  # type: ignore[assignment]
            raise _not_finite(layout, _gathered(layout, grads, "grads"), _UNCHECKED)
        return True

    def __getstate__(self) -> dict[str, Any]:
        """A copy's state is its own: machine code writes into it."""
        return self.__dict__ | {"_fused": None, "_state": tuple(np.copy(array) for array in self._state)}

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on exactly here: hyperparameters, lr, step and state, copied."""
        return {
            "optimizer": self.rule.name,
            "semantics": self.semantics,
            "lr": self.lr,
            "hyperparameters": dict(self.hyperparameters),
            "t": self._t,
            "memory": self._memory,
            "layout": self._layout,
            "state": tuple(np.copy(array) for array in self._state),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned, lr and hyperparameters included.

        Raises InputError where it is not the state of such an optimizer; then nothing is changed.
        """
        wanted = {"optimizer", "semantics", "lr", "hyperparameters", "t", "memory", "layout", "state"}
        if not isinstance(saved, Mapping) or set(saved) != wanted:
            raise InputError(f"load_state_dict needs what state_dict returns: a dict with the keys {sorted(wanted)}")
        if saved["optimizer"] != self.rule.name:
            raise InputError(f"this is the state of a {saved['optimizer']}, not of a {self.rule.name}")
        fresh = type(self)(saved["lr"], semantics=saved["semantics"], **saved["hyperparameters"])
        layout, state = saved["layout"], tuple(np.copy(array) for array in saved["state"])
        if layout is not None:
            like = fresh.init(np.zeros(layout.size, layout.dtype), layout)
            if [np.shape(a) for a in like] != [np.shape(a) for a in state]:
                raise InputError(
                    f"the state has arrays of the shapes {[np.shape(a) for a in state]}, "
                    f"but {type(self).__name__} keeps {[np.shape(a) for a in like]} for these parameters"
                )
        self.semantics = fresh.semantics
        self._configure(saved["lr"], saved["hyperparameters"])
        self._fused = None
        self._layout, self._state, self._memory, self._t = layout, state, saved["memory"], int(saved["t"])

    # -- a value ------------------------------------------------------------------------------------------------------

    def _value(self) -> tuple[Any, ...]:
        return (self.rule.name, self.semantics, self.lr, self.hyperparameters)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Optimizer) and self._value() == other._value()

    def __hash__(self) -> int:
        return hash((self.rule.name, self.semantics, self.lr, *self.hyperparameters.items()))

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


def _function_name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _parts(vector: FloatArray, layout: Layout | None) -> list[FloatArray]:
    """Return the arrays that lie in the flat ``vector``, as views of it in their own shapes."""
    if layout is None:
        return [vector]
    parts, start = [], 0
    for shape in layout.shapes:
        stop = start + math.prod(shape)
        parts.append(vector[start:stop].reshape(shape))
        start = stop
    return parts


def _gathered(layout: Layout, values: Any, argument: str) -> FloatArray:
    """Return what `Layout.match` does, without its questions where the arrays are plainly the ones expected."""
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


def _not_finite(layout: Layout, g: FloatArray, told: str) -> FunctionError:
    i = int(np.flatnonzero(~np.isfinite(g))[0])
    return FunctionError(f"the gradient's component {layout.label(i)} is {g[i]}; {told}")


def _check_writable(params: Any) -> None:
    """Raise InputError unless ``params`` can be updated in place."""
    if isinstance(params, np.ndarray):
        places: Iterable[tuple[Any, Any, str]] = [((params,), 0, "params")]
    elif is_structure(params):
        places = _places(params, "params")
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
        if not isinstance(value, bool | np.bool_):
            raise InputError(f"{owner}: {name} must be True or False, got {value!r}")
        return bool(value)
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

_CLASSES: dict[str, type[Optimizer]] = {}


def _public(name: str) -> type[Optimizer]:
    """Make the public class of a rule or preset: the signature and the docstring are the rule's own."""
    key = name.lower()
    rule_name, preset, _ = PRESETS.get(key, (_RULE_NAMES.get(name, key), {}, {}))
    rule = RULES[rule_name]
    doc = inspect.cleandoc(rule.formula.__doc__ or "")
    if preset:
        settings = ", ".join(f"{k}={v!r}" for k, v in preset.items())
        doc = f"{name}: {rule_name} with {settings}.\n\n{doc}"
    body = {"rule": rule, "name": key if preset else rule_name, "__doc__": doc, "__module__": __name__}
    cls: type[Optimizer] = type(name, (Optimizer,), body)
    first = next(iter(SEMANTICS[rule_name]))
    keyword, either = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    cls.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(n, either if n == "lr" else keyword, default=default)
            for n, default in (_defaults(cls.name, first) | {"semantics": first}).items()
        ]
    )
    _CLASSES[key] = cls
    return cls


# Rules of more than one word.
_RULE_NAMES = {
    "ScheduleFreeSGD": "schedule_free_sgd",
    "ScheduleFreeAdamW": "schedule_free_adamw",
    "DAdaptAdamW": "dadapt_adamw",
    "PolyakSGD": "polyak_sgd",
    "GradientDescent": "gradient_descent",
    "BarzilaiBorwein": "barzilai_borwein",
    "ConjugateGradient": "conjugate_gradient",
    "LevenbergMarquardt": "levenberg_marquardt",
}

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
    """Return the names by which `minimize` and the command line know the optimizers."""
    return tuple(sorted(_CLASSES))


def resolve(optimizer: Any, **hyperparameters: Any) -> Optimizer:
    """Return ``optimizer`` itself, or make the one that a name stands for. Raises InputError for anything else."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, str):
        return _named(optimizer)(**hyperparameters)
    if isinstance(optimizer, type) and issubclass(optimizer, Optimizer):
        raise InputError(f"optimizer must be an object: write {optimizer.__name__}(lr=…), not {optimizer.__name__}")
    raise InputError(f"optimizer must be an optimizer object or a name such as 'sgd', got {optimizer!r}")


def _named(name: str) -> type[Optimizer]:
    if name.lower() not in _CLASSES:
        raise UnknownNameError("optimizer", name, names())
    return _CLASSES[name.lower()]


# -- comparing the frameworks -----------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Comparison:
    """What one optimizer's name means in each framework. Showing it gives a table.

    differences: hyperparameter -> {framework: its default or variant}, where they are not all the same.
    paths: framework -> (steps + 1, n) points with equal numbers, so that only the formulas differ; default_paths: with
    each framework's own defaults. largest, default_largest: (framework, framework) -> largest |difference| of any
    component along the two paths.
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
    """The gradient of x0²/20 + x1², whose two curvatures lie a factor of 20 apart."""
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

    name: of the optimizer. grad: the gradient as a function of x, in the form of x0; x0**2/20 + x1**2 by default.
    hyperparameters: set equally in all of them; in `paths`, numbers that are not given have the first framework's
    value, and what a framework has no argument for keeps its own.
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
    "Comparison",
    "Optimizer",
    "compare",
    "names",
    "resolve",
    *(cls.__name__ for cls in _CLASSES.values()),
]


def __getattr__(name: str) -> Any:
    raise no_attribute(__name__, name, __all__)
