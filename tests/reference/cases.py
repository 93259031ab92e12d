"""Which optimizers are compared with which framework: problems, settings, tolerances. Needs koubai alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import koubai as kb
from koubai.descent import schedules
from koubai.parameters import flatten

STEPS = 200
KEPT = [0, 1, 2, 3, 5, 10, 20, 40, 60, 80, 100, 125, 150, 175, 200]  # the rows of a path that are stored
STORED = Path(__file__).with_name("optimizers.npz")


@dataclass(frozen=True)
class Problem:
    """f and its gradient over a list of arrays, as the frameworks hold parameters; here a dict of arrays."""

    fun: Callable[[dict], float]
    grad: Callable[[dict], dict]
    start: dict = field(hash=False)


def _over_vector(f, g, start, shapes) -> Problem:
    """Cut the vector of f and g into named arrays."""
    layout, x0 = flatten({name: np.zeros(shape) for name, shape in shapes.items()})
    x0 = x0 + start
    return Problem(
        lambda p: float(f(layout.match(p, "p"))),
        lambda p: layout.copy(g(layout.match(p, "p"))),
        layout.copy(x0),
    )


def _quadratic(shapes) -> Problem:
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.normal(size=(12, 12)))
    a = q @ np.diag(np.logspace(-1, 2, 12)) @ q.T
    centre = rng.normal(size=12)
    return _over_vector(
        lambda x: 0.5 * (x - centre) @ a @ (x - centre), lambda x: a @ (x - centre), rng.normal(size=12), shapes
    )


def _rosenbrock(shapes) -> Problem:
    def f(x):
        return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2

    def g(x):
        return np.array([-2 * (1 - x[0]) - 400 * x[0] * (x[1] - x[0] ** 2), 200 * (x[1] - x[0] ** 2)])

    return _over_vector(f, g, np.array([-1.2, 1.0]), shapes)


def _logistic(shapes) -> Problem:
    rng = np.random.default_rng(1)
    a = np.column_stack([rng.normal(size=(40, 5)) * [0.1, 0.3, 1.0, 2.0, 5.0], np.ones(40)])
    y = np.where(a @ rng.normal(size=6) + 0.5 * rng.normal(size=40) > 0, 1.0, -1.0)

    def f(x):
        return np.mean(np.logaddexp(0, -y * (a @ x))) + 0.005 * x @ x

    def g(x):
        return a.T @ (-y / (1 + np.exp(y * (a @ x)))) / len(y) + 0.01 * x

    return _over_vector(f, g, 0.5 * rng.normal(size=6), shapes)


@cache
def problem(name: str, matrices: bool = False) -> Problem:
    """Return a problem over several arrays, or over one matrix for a framework that takes nothing else."""
    make, several, matrix = {
        "quadratic": (_quadratic, {"w": (4, 2), "b": (4,)}, {"w": (4, 3)}),
        "rosenbrock": (_rosenbrock, {"x": (2,)}, {"x": (1, 2)}),
        "logistic": (_logistic, {"w": (5,), "b": (1,)}, {"w": (2, 3)}),
    }[name]
    return make(matrix if matrices else several)


PROBLEMS = ("quadratic", "rosenbrock", "logistic")

FALLING = schedules.exponential(1e-3, 0.99)

# optimizer -> framework -> three settings. What is not set has the framework's own default, in koubai as there.
SETTINGS: dict[str, dict[str, list[dict[str, Any]]]] = {
    "sgd": {
        "torch": [
            {"lr": 1e-3, "clipnorm": 1.0},
            {"lr": 1e-3, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
            {"lr": FALLING, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
        ],
        "keras": [
            {"lr": 1e-3, "clipnorm": 1.0},
            {"lr": FALLING, "momentum": 0.9, "weight_decay": 0.1},
            {"lr": 1e-3, "momentum": 0.8, "nesterov": True, "clipvalue": 2.0},
        ],
        "optax": [
            {"lr": 1e-3, "clipnorm": 1.0},
            {"lr": FALLING, "momentum": 0.9},
            {"lr": 1e-3, "momentum": 0.8, "nesterov": True, "clipvalue": 2.0},
        ],
    },
    "adagrad": {
        "torch": [
            {"lr": 0.1},
            {"lr": 0.1, "lr_decay": 0.01, "eps": 1e-2, "weight_decay": 0.1},
            {"lr": 0.2, "initial_accumulator_value": 0.5, "eps": 0.1},
        ],
        "keras": [
            {"lr": 0.1},
            {"lr": 0.1, "eps": 1e-2, "weight_decay": 0.1},
            {"lr": 0.2, "initial_accumulator_value": 0.5, "eps": 0.1},
        ],
        "optax": [
            {"lr": 0.1},
            {"lr": 0.1, "eps": 1e-2, "initial_accumulator_value": 0.0},
            {"lr": 0.2, "initial_accumulator_value": 0.5, "eps": 0.1},
        ],
    },
    "rmsprop": {
        "torch": [
            {"lr": 1e-3},
            {"lr": 1e-3, "alpha": 0.95, "eps": 1e-2, "weight_decay": 0.1, "centered": True},
            {"lr": FALLING, "momentum": 0.9, "eps": 1e-3},
        ],
        "keras": [
            {"lr": 1e-3},
            {"lr": 1e-3, "alpha": 0.95, "eps": 1e-2, "weight_decay": 0.1, "centered": True},
            {"lr": FALLING, "momentum": 0.9, "eps": 1e-3},
        ],
        "optax": [
            {"lr": 1e-3, "eps_in_sqrt": False},
            {"lr": 1e-3, "alpha": 0.95, "eps": 1e-2, "centered": True, "momentum": 0.5, "nesterov": True},
            {"lr": FALLING, "momentum": 0.9, "eps": 1e-3},
        ],
    },
    # Adadelta grows out of rounding errors at most other settings: one ulp in the start moves the path by 1e-3.
    "adadelta": {
        "torch": [{"lr": 0.5}, {"lr": 0.5, "rho": 0.95, "eps": 1e-2, "weight_decay": 0.1}, {"lr": 1.0, "rho": 0.95}],
        "keras": [
            {"lr": 1.0},
            {"lr": 0.5, "rho": 0.95, "eps": 1e-2},
            {"lr": 2.0, "weight_decay": 0.1},
        ],
        "optax": [{"lr": 0.5}, {"lr": 0.5, "rho": 0.95, "eps": 1e-2, "weight_decay": 0.1}, {"lr": 1.0, "rho": 0.95}],
    },
    "adam": {
        "torch": [
            {"lr": 1e-2},
            {"lr": 1e-2, "beta1": 0.8, "beta2": 0.99, "eps": 1e-2, "weight_decay": 0.1},
            {"lr": 1e-2, "amsgrad": True, "eps": 0.1, "clipnorm": 1.0},
        ],
        "keras": [
            {"lr": 1e-2},
            {"lr": 1e-2, "beta1": 0.8, "beta2": 0.99, "eps": 1e-2, "weight_decay": 0.1},
            {"lr": 1e-2, "amsgrad": True, "eps": 0.1, "clipnorm": 1.0},
        ],
        "optax": [
            {"lr": 1e-2},
            {"lr": 1e-2, "beta1": 0.8, "beta2": 0.99, "eps": 1e-2, "eps_root": 1e-2},
            {"lr": 1e-2, "eps": 0.1, "clipnorm": 1.0},
        ],
    },
    "amsgrad": {
        "torch": [{"lr": 1e-2}, {"lr": 0.05, "beta2": 0.9}, {"lr": 1e-2, "eps": 0.1}],
        "keras": [{"lr": 1e-2}, {"lr": 0.05, "beta2": 0.9}, {"lr": 1e-2, "eps": 0.1}],
        "optax": [{"lr": 1e-2}, {"lr": 0.05, "beta2": 0.9}, {"lr": 1e-2, "eps": 0.1, "eps_root": 1e-3}],
    },
    "adamw": {
        "torch": [{"lr": 1e-2}, {"lr": 1e-2, "weight_decay": 0.5, "eps": 1e-2}, {"lr": 1e-2, "amsgrad": True}],
        "keras": [{"lr": 1e-2}, {"lr": 1e-2, "weight_decay": 0.5, "eps": 1e-2}, {"lr": 1e-2, "amsgrad": True}],
        "optax": [{"lr": 1e-2}, {"lr": 1e-2, "weight_decay": 0.5, "eps": 1e-2}, {"lr": 2e-2, "beta1": 0.8}],
    },
    "adamax": {
        "torch": [
            {"lr": 1e-2},
            {"lr": 1e-2, "beta2": 0.9, "eps": 0.1, "weight_decay": 0.1},
            {"lr": 0.02, "beta1": 0.8},
        ],
        "keras": [
            {"lr": 1e-2},
            {"lr": 1e-2, "beta2": 0.9, "eps": 0.1, "weight_decay": 0.1},
            {"lr": 0.02, "beta1": 0.8},
        ],
        "optax": [{"lr": 1e-2}, {"lr": 1e-2, "beta2": 0.9, "eps": 0.1}, {"lr": 0.02, "beta1": 0.8}],
    },
    "nadam": {
        "torch": [
            {"lr": 1e-2},
            {"lr": 1e-2, "momentum_decay": 0.1, "eps": 1e-2, "weight_decay": 0.1},
            {"lr": 1e-2, "beta1": 0.8, "weight_decay": 0.1, "decoupled_weight_decay": True},
        ],
        "keras": [{"lr": 1e-2}, {"lr": 1e-2, "eps": 1e-2, "weight_decay": 0.1}, {"lr": 1e-2, "beta1": 0.8}],
        "optax": [{"lr": 1e-2}, {"lr": 1e-2, "eps": 1e-2, "eps_root": 1e-2}, {"lr": 1e-2, "beta1": 0.8}],
    },
    "radam": {
        "torch": [
            {"lr": 1e-2},
            {"lr": 1e-2, "eps": 1e-2, "weight_decay": 0.1},
            {"lr": 1e-3, "beta2": 0.9, "weight_decay": 0.1, "decoupled_weight_decay": True},
        ],
        "optax": [{"lr": 1e-2}, {"lr": 1e-2, "eps": 1e-2, "eps_root": 1e-2}, {"lr": 1e-3, "beta2": 0.9}],
    },
    "rprop": {
        "torch": [{"lr": 1e-3}, {"lr": 1e-2, "eta_minus": 0.4, "eta_plus": 1.1}, {"lr": 1e-3, "step_max": 0.01}],
        "optax": [{"lr": 1e-3}, {"lr": 1e-2, "eta_minus": 0.4, "eta_plus": 1.1}, {"lr": 1e-3, "step_max": 0.01}],
    },
    "asgd": {
        "torch": [{"lr": 1e-3}, {"lr": 1e-3, "lambd": 0.5, "alpha": 0.5, "weight_decay": 0.1}, {"lr": 1e-3, "t0": 20}]
    },
    "ftrl": {
        "keras": [
            {"lr": 0.1},
            {"lr": 0.05, "l1": 0.1, "l2": 0.1, "l2_shrinkage": 0.01, "beta": 0.1},
            {"lr": 0.1, "lr_power": -0.4, "initial_accumulator": 1.0, "weight_decay": 0.1},
        ]
    },
    "lion": {
        "keras": [{"lr": 1e-3}, {"lr": 1e-3, "beta1": 0.8, "weight_decay": 0.1}, {"lr": 1e-2, "clipnorm": 1.0}],
        "optax": [{"lr": 1e-3}, {"lr": 1e-3, "beta1": 0.8, "weight_decay": 0.1}, {"lr": 1e-2, "beta2": 0.9}],
    },
    "adabelief": {"optax": [{"lr": 1e-2}, {"lr": 1e-2, "eps": 1e-2, "eps_root": 1e-4}, {"lr": 1e-2, "beta2": 0.99}]},
    "adan": {"optax": [{"lr": 1e-2}, {"lr": 1e-2, "eps": 1e-2, "weight_decay": 0.1}, {"lr": 1e-2, "beta3": 0.9}]},
    "lars": {
        "optax": [
            {"lr": 1.0},
            {"lr": 1.0, "momentum": 0.5, "nesterov": True, "weight_decay": 0.1},
            {"lr": 0.1, "trust_coefficient": 0.02, "eps": 0.1},
        ]
    },
    "lamb": {
        "keras": [{"lr": 3e-3}, {"lr": 3e-3, "weight_decay": 0.1, "eps": 1e-2}, {"lr": 3e-3, "beta2": 0.9}],
        "optax": [{"lr": 3e-3}, {"lr": 3e-3, "weight_decay": 0.1, "eps": 1e-2}, {"lr": 3e-3, "beta2": 0.9}],
    },
    "novograd": {"optax": [{"lr": 1e-4}, {"lr": 1e-3, "weight_decay": 0.1, "eps": 1e-2}, {"lr": 1e-2, "beta2": 0.9}]},
    "adafactor": {
        "torch": [{"lr": 1e-2}, {"lr": 1e-2, "weight_decay": 0.1, "eps1": 1e-2, "eps2": 0.1}, {"lr": 1e-2, "d": 2.0}],
        "keras": [{"lr": 1e-2}, {"lr": 1e-2, "weight_decay": 0.1, "eps1": 1e-2, "eps2": 0.1}, {"lr": 1e-2, "d": 2.0}],
        "optax": [
            {"lr": 3e-3},
            {"lr": 1e-3, "weight_decay": 1e-3, "eps1": 1e-2},
            {"lr": 3e-3, "factor_from": 1, "d": 2.0},
        ],
    },
    "muon": {
        "torch": [
            {"lr": 3e-3},
            {"lr": 3e-3, "nesterov": False, "weight_decay": 0.0},
            {"lr": 1e-2, "ns_steps": 3, "eps": 1.0},
        ],
        "keras": [{"lr": 3e-3}, {"lr": 3e-3, "nesterov": False, "weight_decay": 0.1}, {"lr": 1e-2, "ns_steps": 3}],
        "optax": [{"lr": 3e-3}, {"lr": 3e-3, "nesterov": False, "weight_decay": 0.1}, {"lr": 1e-2, "ns_steps": 3}],
    },
    "schedulefreesgd": {
        "optax": [
            {"lr": 1e-3},
            {"lr": 1e-3, "beta1": 0.5, "weight_decay": 0.1},
            {"lr": FALLING, "weight_lr_power": 1.0},
        ]
    },
    "schedulefreeadamw": {
        "keras": [{"lr": 1e-2}, {"lr": 1e-2, "weight_decay": 0.1, "eps": 1e-2}, {"lr": 1e-2, "beta1": 0.5}],
        "optax": [{"lr": 1e-2}, {"lr": 1e-2, "weight_decay": 0.1, "eps": 1e-2}, {"lr": 1e-2, "weight_lr_power": 1.0}],
    },
    "dog": {"optax": [{"lr": 1.0}, {"lr": 0.5, "reps_rel": 1e-3}, {"lr": 1.0, "eps": 0.1, "weight_decay": 0.1}]},
    "dowg": {
        "optax": [{"lr": 0.1}, {"lr": 0.05, "init_estim_sq_dist": 1e-6}, {"lr": 0.02, "weight_decay": 0.1, "eps": 1e-2}]
    },
    "dadaptadamw": {
        "optax": [{"lr": 0.3}, {"lr": 0.5, "estim_lr0": 1e-4, "eps": 1e-2}, {"lr": 0.1, "weight_decay": 0.1}]
    },
    "prodigy": {
        "optax": [
            {"lr": 0.3},
            {"lr": 0.5, "estim_lr0": 1e-4, "eps": 1e-2, "safeguard_warmup": True},
            {"lr": 0.05, "weight_decay": 0.1, "estim_lr_coef": 0.5, "beta3": 0.9},
        ]
    },
    "momo": {
        "optax": [
            {"lr": 1e-3},
            {"lr": 1e-3, "beta": 0.5, "weight_decay": 0.1, "lower_bound": -1.0},
            {"lr": 1e-2, "adapt_lower_bound": True},
        ]
    },
    "polyaksgd": {
        "optax": [{"lr": 1.0, "eps": 1e3}, {"lr": 1e-3, "f_min": 5.0}, {"lr": 1.0, "eps": 1e4, "f_min": -1.0}]
    },
    "cocob": {"optax": [{"lr": 1.0}, {"lr": 1.0, "alpha": 10.0}, {"lr": 0.5, "weight_decay": 0.1}]},
    "lbfgs": {
        "torch": [
            {"lr": 0.72, "line_search": "wolfe"},
            {"lr": 0.79, "line_search": "wolfe"},
            {"lr": 0.8, "line_search": "wolfe", "history_size": 30},
            {"lr": 0.1},
        ]
    },
    "yogi": {"optax": [{"lr": 1e-2}, {"lr": 1e-2, "eps": 1e-1}, {"lr": 1e-2, "beta2": 0.9}]},
}

TOLERANCE = 1e-12
# Without a line search L-BFGS is chaotic: one ulp in the start moves koubai's own path by 1e-8.
TOLERANCES: dict[tuple[str, str, int], float] = {("torch", "lbfgs", 3): 1e-6}
TOLERANCE_GRAD = 1e-7  # PyTorch's L-BFGS stays where no component of the gradient is larger


@dataclass(frozen=True)
class Case:
    """One optimizer with one setting on one problem, in one framework."""

    framework: str
    optimizer: str
    setting: int
    problem: str

    @property
    def settings(self) -> dict[str, Any]:
        return SETTINGS[self.optimizer][self.framework][self.setting]

    @property
    def tolerance(self) -> float:
        return TOLERANCES.get((self.framework, self.optimizer, self.setting), TOLERANCE)

    @property
    def on(self) -> Problem:
        return problem(self.problem, matrices=(self.framework, self.optimizer) == ("torch", "muon"))

    def __str__(self) -> str:
        return f"{self.framework}-{self.optimizer}-{self.setting}-{self.problem}"


CASES = [
    Case(framework, optimizer, setting, name)
    for optimizer, frameworks in SETTINGS.items()
    for framework, settings in frameworks.items()
    for setting in range(len(settings))
    for name in PROBLEMS
]


def path(case: Case) -> np.ndarray:
    """Return koubai's own path: (STEPS + 1, n)."""
    optimizer = kb.optimizers.resolve(case.optimizer, semantics=case.framework, **case.settings)
    on = case.on
    layout, x = flatten(on.start)

    def evaluate(x):
        return on.fun(layout.view(x)), layout.match(on.grad(layout.view(x)), "g")

    state, points = optimizer.init(x, layout), [x]
    for t in range(STEPS):
        fun, g = evaluate(x)
        if case.optimizer != "lbfgs" or np.abs(g).max() > TOLERANCE_GRAD:
            x, state = optimizer.step(x, g, state, t + 1, optimizer.lr_at(t), fun=fun, evaluate=evaluate, layout=layout)
        points.append(x)
    return np.array(points)


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the largest difference along the path, relative to the largest |component| on it."""
    if not np.isfinite(theirs).all():
        raise ValueError("the reference path is not finite: choose another setting")
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())
