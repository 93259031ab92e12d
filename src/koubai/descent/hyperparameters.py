"""The meaning of each hyperparameter, once for all rules; the optimizers' docstrings are made from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from koubai.descent.rules import CHOICES, INTERVALS, Rule

__all__ = ["MEANINGS", "Docstring", "documented"]

# By name, or by "rule.name" for a rule that means something else by it. The formulas say the rest.
MEANINGS: dict[str, str] = {
    "lr": "The learning rate.",
    "rprop.lr": "The first size of each component's step.",
    "cocob.lr": "A factor on the gradient.",
    "dog.lr": "A factor on the rate that is found, 1 in the paper.",
    "dowg.lr": "A factor on the rate that is found, 1 in the paper.",
    "dadapt_adamw.lr": "A factor on the rate that is found, 1 in the paper.",
    "prodigy.lr": "A factor on the rate that is found, 1 in the paper.",
    "momo.lr": "The largest rate.",
    "polyak_sgd.lr": "The largest rate.",
    "gradient_descent.lr": "The rate that a search tries first.",
    "barzilai_borwein.lr": "The rate of the first step, and of those along which the curvature is not positive.",
    "conjugate_gradient.lr": "The rate that the first search tries first.",
    "lbfgs.lr": "The step along the direction that a search tries first; without a search, the step.",
    "levenberg_marquardt.lr": "The first radius, in units of the size of x.",
    "momentum": "The weight of the past in the running mean of gradients or steps.",
    "dampening": "How much of the new gradient is left out of the momentum.",
    "nesterov": "Look ahead: step from where the momentum leads.",
    "lr_inside": "Keep the rate inside the momentum, as Keras does, so that a schedule acts on new gradients only.",
    "lambd": "How fast x decays.",
    "asgd.alpha": "The power with which the rate decays.",
    "t0": "The step from which the points are averaged.",
    "eta_minus": "The factor on a step's size after the gradient's sign has changed.",
    "eta_plus": "The factor on a step's size after the gradient's sign has stayed.",
    "step_min": "The least size of a step.",
    "step_max": "The largest size of a step.",
    "one_late": "Make each step one update late, as optax does.",
    "beta1": "The weight of the past in the mean of the gradients.",
    "beta2": "The weight of the past in the mean of their squares.",
    "lion.beta1": "The weight of the momentum in the direction.",
    "lion.beta2": "The weight of the past in the momentum.",
    "adamax.beta2": "How slowly the largest gradient is forgotten.",
    "adabelief.beta2": "The weight of the past in the mean of the squares of g - m.",
    "schedule_free_sgd.beta1": "Where x is between z (0) and the average (1).",
    "schedule_free_adamw.beta1": "Where x is between z (0) and the average (1).",
    "adan.beta2": "The weight of the past in the mean of the gradients' differences.",
    "beta3": "The weight of the past in the mean of the squares.",
    "prodigy.beta3": "The weight of the past in what the rate is found from; None is sqrt(beta2).",
    "lr_decay": "How fast the rate falls with the steps.",
    "initial_accumulator_value": "Where the sum of squares begins.",
    "initial_accumulator": "Where the sum of squares begins.",
    "yogi.initial_accumulator": "Where both means begin.",
    "eps": "Keeps the denominator from 0.",
    "eps_in_sqrt": "Add eps under the root instead of to the root.",
    "alpha": "The weight of the past in the mean of the squares.",
    "cocob.alpha": "The least share of the bets that counts, so that early steps stay small.",
    "centered": "Take the square of the mean off the mean of the squares.",
    "rho": "The weight of the past in both means of squares.",
    "lr_power": "The power of the sum of squares in the rate.",
    "l1": "The penalty on |x|, which makes components exactly 0.",
    "l2": "The penalty on x**2.",
    "l2_shrinkage": "A penalty on x**2 that is added to the gradient but not to its sum of squares.",
    "beta": "Added to l2 as beta / (2 * lr).",
    "momo.beta": "The weight of the past in the means.",
    "amsgrad": "Divide by the largest mean square so far.",
    "eps_in": "Which of the formulas above eps belongs to.",
    "max_of": "What amsgrad takes the largest of.",
    "eps_root": "Added under the root.",
    "momentum_decay": "How fast beta1 warms up; inf not at all.",
    "trust_coefficient": "The step's size as a share of that of the array.",
    "weight_decay": "Weight decay, as in the formula above.",
    "decay_in": "Where the formula takes the decay off.",
    "beta2_decay": "The power of the step with which the weight of the past grows.",
    "eps1": "Keeps the squares from 0; None is the rounding of the gradient's dtype.",
    "eps2": "The least size of an array that scales its rate.",
    "d": "The largest root mean square of an update.",
    "eps1_in": "Which of the formulas above eps1 belongs to.",
    "relative_step": "Let the rate be at most 1 / sqrt(t).",
    "factor_from": "The least length of both axes from which on a matrix's squares are kept as rows and columns.",
    "ns_a": "A coefficient of the polynomial that makes a matrix orthogonal.",
    "ns_b": "Another one.",
    "ns_c": "Another one.",
    "ns_steps": "How often the polynomial is applied.",
    "average": "How the momentum averages gradients.",
    "adjust_lr_fn": "How the rate follows from a matrix's shape.",
    "rest": "The optimizer of arrays that aren't matrices.",
    "adam_lr_ratio": "The rate of these, as a factor on lr.",
    "adam_beta1": "beta1 of these.",
    "adam_beta2": "beta2 of these.",
    "adam_eps": "eps of these.",
    "adam_weight_decay": "Weight decay of these.",
    "weight_lr_power": "The power of the rate in the weight that a point has in the average.",
    "reps_rel": "The first distance, in units of 1 + |x0|.",
    "init_estim_sq_dist": "The square of the first distance; None is eps.",
    "estim_lr0": "The first estimate of the rate, far below the right one.",
    "estim_lr_coef": "A factor on the rate that is found.",
    "safeguard_warmup": "Leave the rate out of its own estimate while a schedule warms up.",
    "lower_bound": "A number that f never falls below.",
    "adapt_lower_bound": "Learn a better one.",
    "f_min": "The least f.",
    "positive_gap": "Make no step, rather than one uphill, if f is below f_min.",
    "line_search": "How the step along a direction is found.",
    "c1": "The share of the expected fall of f that a step must bring.",
    "c2": "The share of the first slope that may be left after a step.",
    "variant": "Which of the formulas above.",
    "memory": "A step is good enough that brings f below the largest of so many before it.",
    "lr_min": "The least rate.",
    "lr_max": "The largest rate.",
    "history_size": "How many pairs of steps and gradient changes are kept.",
    "curvature_test": "Which pairs are kept.",
}

# What every optimizer takes besides; the second text is for rules that evaluate f themselves.
SHARED: dict[str, tuple[str, str]] = {
    "weight_decay": (
        "Added to the gradient, times x; or with decoupled_weight_decay taken off x before the step.",
        "weight_decay / 2 * |x|**2 is added to f.",
    ),
    "decoupled_weight_decay": ("x -= lr * weight_decay * x before the step, instead of adding it to the gradient.", ""),
    "clipvalue": (
        "The largest |component| of a gradient; those beyond it are cut off.",
        "The largest |component| of a gradient that gives a direction; slopes and curvatures are never clipped.",
    ),
    "clipnorm": (
        "The largest norm of a gradient, which is scaled down to it; not together with clipvalue.",
        "The largest norm of a gradient that gives a direction; not together with clipvalue.",
    ),
    "groups": (
        'Settings of their own by name pattern: {"*.b": dict(weight_decay=0), "0.*": dict(lr=0)}; lr=0 freezes.',
        "",
    ),
}


class Docstring:
    """A class's docstring that is made when somebody reads it: all of them take longer than the rest of the import."""

    def __init__(self, make: Callable[[], str]) -> None:
        self.make = make

    def __get__(self, thing: object, kind: type) -> str:
        return self.make()


def documented(rule: Rule, name: str, defaults: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the sections of an optimizer's docstring: its parameters with defaults and ranges, and an example.

    name: of the class; defaults: framework → every hyperparameter with its default there, the first one's own first.
    """
    import textwrap

    first = next(iter(defaults))
    lines = ["Parameters", "----------"]
    for key, default in defaults[first].items():
        kind = "float, schedule or callable of the step" if key == "lr" else _kind(rule, key, default)
        others = ", ".join(f"{there}: {own[key]!r}" for there, own in defaults.items() if own[key] != default)
        lines.append(f"{key} : {kind}, default {default!r}{others and f' ({others})'}")
        if key in SHARED and key not in rule.defaults:
            meaning = SHARED[key]["evaluate" in rule.uses]
        else:
            meaning = MEANINGS.get(f"{rule.name}.{key}") or MEANINGS[key]
        lines += textwrap.wrap(meaning, 116, initial_indent="    ", subsequent_indent="    ")
    lines.append(f"semantics : {_listed(defaults)}, default {first!r}")
    lines.append("    Whose formula and defaults.")
    lines += ["", "Examples", "--------"]
    lines.append(f">>> run = kb.minimize(lambda x: np.sum(x**2), [1.0, 2.0], kb.{name}(), max_steps=50)")
    lines += [">>> bool(run.best_fun < 5.0)", "True"]
    return "\n".join(lines)


def _kind(rule: Rule, key: str, default: Any) -> str:
    if key == "groups":
        return "dict of name pattern → dict"
    if isinstance(default, bool):
        return "bool"
    if isinstance(default, str):
        return _listed(CHOICES[f"{rule.name}.{key}"])
    low, high, low_allowed, high_allowed = INTERVALS.get(f"{rule.name}.{key}") or INTERVALS[key]
    kind = "int" if isinstance(default, int) else "float"
    if low == -math.inf and high == math.inf:
        return kind
    if high == math.inf:
        return f"{kind} {'≥' if low_allowed else '>'} {low:g}"
    return f"{kind} in {'[' if low_allowed else '('}{low:g}, {high:g}{']' if high_allowed else ')'}"


def _listed(words: Any) -> str:
    return "{" + ", ".join(f'"{word}"' for word in words) + "}"
