"""The frameworks' own paths, and one command that stores them and writes the table of docs/optimizers.md.

    python tests/reference/frameworks.py

needs koubai[bridges]: torch, keras and optax. Every framework updates its own parameters; the gradients are computed by
NumPy from those, in float64, so that only the update rules are compared.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"
sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import torch
from keras.src.backend.common import dtypes as keras_dtypes
from reference.cases import CASES, KEPT, STEPS, STORED, Case, difference, path
from reference.table import TABLE, table

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
keras.config.set_floatx("float64")
jax.config.update("jax_enable_x64", True)

# Keras 3.15 takes the result of maximum, minimum and norm to be float32 whatever goes in (clipnorm, Adafactor, Muon);
# without this its paths would carry float32's rounding.
_result_type = keras_dtypes.result_type
keras_dtypes.result_type = lambda *types: "float64" if "float64" in map(_dtype_name, types) else _result_type(*types)

# PyTorch rounds Muon's matrix to bfloat16 (three digits); here it keeps its float64, the polynomial stays PyTorch's.
torch.Tensor.bfloat16 = torch.Tensor.clone

# On its torch backend Keras 3.15 overwrites z before schedule-free AdamW has read the old one, which its other backends
# do not: let the update make a new tensor.
keras.optimizers.ScheduleFreeAdamW.assign_sub = lambda self, variable, value: setattr(
    variable, "_value", variable.value - value
)

VERSIONS = {name: version(name) for name in ("torch", "keras", "optax")}


def _dtype_name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


TORCH_NAMES = {
    "sgd": "SGD", "adagrad": "Adagrad", "rmsprop": "RMSprop", "adadelta": "Adadelta", "adam": "Adam", "adamw": "AdamW",
    "adamax": "Adamax", "nadam": "NAdam", "radam": "RAdam", "rprop": "Rprop", "asgd": "ASGD", "adafactor": "Adafactor",
    "muon": "Muon", "lbfgs": "LBFGS", "amsgrad": "Adam",
}  # fmt: skip
KERAS_NAMES = {
    "sgd": "SGD", "adagrad": "Adagrad", "rmsprop": "RMSprop", "adadelta": "Adadelta", "adam": "Adam", "adamw": "AdamW",
    "adamax": "Adamax", "nadam": "Nadam", "ftrl": "Ftrl", "lion": "Lion", "lamb": "Lamb", "adafactor": "Adafactor",
    "muon": "Muon", "schedulefreeadamw": "ScheduleFreeAdamW", "amsgrad": "Adam",
}  # fmt: skip
KERAS_SETTINGS = {
    "lr": "learning_rate", "beta1": "beta_1", "beta2": "beta_2", "eps": "epsilon", "alpha": "rho",
    "initial_accumulator": "initial_accumulator_value", "l1": "l1_regularization_strength",
    "l2": "l2_regularization_strength", "l2_shrinkage": "l2_shrinkage_regularization_strength",
    "lr_power": "learning_rate_power", "beta2_decay": "beta_2_decay", "eps1": "epsilon_1", "eps2": "epsilon_2",
    "d": "clip_threshold", "adam_beta1": "adam_beta_1", "adam_beta2": "adam_beta_2",
}  # fmt: skip
OPTAX_NAMES = {
    "muon": "contrib.muon", "schedulefreesgd": "contrib.schedule_free_sgd", "dog": "contrib.dog",
    "schedulefreeadamw": "contrib.schedule_free_adamw", "dowg": "contrib.dowg", "momo": "contrib.momo",
    "dadaptadamw": "contrib.dadapt_adamw", "prodigy": "contrib.prodigy", "cocob": "contrib.cocob",
    "polyaksgd": "polyak_sgd",
}  # fmt: skip
OPTAX_SETTINGS = {
    "lr": "learning_rate", "beta1": "b1", "beta2": "b2", "beta3": "b3", "alpha": "decay", "step_min": "min_step_size",
    "step_max": "max_step_size",
}  # fmt: skip


def torch_path(case: Case) -> np.ndarray:
    """Return PyTorch's path: (STEPS + 1, n)."""
    settings, on = dict(case.settings), case.on
    clipvalue, clipnorm, lr = settings.pop("clipvalue", None), settings.pop("clipnorm", None), settings["lr"]
    for pair in (("beta1", "beta2"), ("eta_minus", "eta_plus"), ("step_min", "step_max"), ("eps1", "eps2")):
        if set(pair) & set(settings):
            defaults = {"beta1": 0.9, "beta2": 0.999, "eta_minus": 0.5, "eta_plus": 1.2, "step_min": 1e-6,
                        "step_max": 50, "eps1": None, "eps2": 1e-3}  # fmt: skip
            name = {"beta1": "betas", "eta_minus": "etas", "step_min": "step_sizes", "eps1": "eps"}[pair[0]]
            settings[name] = tuple(settings.pop(n, defaults[n]) for n in pair)
    if case.optimizer == "amsgrad":
        settings["amsgrad"] = True
    if case.optimizer == "lbfgs":  # one iteration a step, until the gradient is small
        settings |= {"max_iter": 1, "max_eval": 100, "tolerance_change": 0.0}
        settings["line_search_fn"] = "strong_wolfe" if settings.pop("line_search", "none") == "wolfe" else None
    params = {name: torch.tensor(value) for name, value in on.start.items()}
    make = getattr(torch.optim, TORCH_NAMES[case.optimizer])
    optimizer = make(list(params.values()), **settings | {"lr": lr(0) if callable(lr) else lr})

    def closure() -> float:
        values = {name: p.numpy().copy() for name, p in params.items()}
        for name, g in on.grad(values).items():
            params[name].grad = torch.tensor(g)
        return on.fun(values)

    points = [np.concatenate([p.numpy().ravel() for p in params.values()])]
    for t in range(STEPS):
        if callable(lr):
            optimizer.param_groups[0]["lr"] = lr(t)
        if case.optimizer == "lbfgs":
            optimizer.step(closure)
        else:
            closure()
            if clipnorm is not None:
                torch.nn.utils.clip_grad_norm_(params.values(), clipnorm)
            if clipvalue is not None:
                torch.nn.utils.clip_grad_value_(params.values(), clipvalue)
            optimizer.step()
        points.append(np.concatenate([p.numpy().ravel() for p in params.values()]))
    return np.array(points)


def keras_path(case: Case) -> np.ndarray:
    """Return Keras's path, on its torch backend."""
    settings, on = {KERAS_SETTINGS.get(n, n): v for n, v in case.settings.items()}, case.on
    lr = settings["learning_rate"]
    if case.optimizer == "amsgrad":
        settings["amsgrad"] = True
    if case.optimizer == "adadelta":
        settings = {("rho" if n == "alpha" else n): v for n, v in settings.items()}
    if case.optimizer == "muon":
        settings = {("epsilon" if n == "adam_eps" else n): v for n, v in settings.items()}
    variables = {name: keras.Variable(value, dtype="float64", name=name) for name, value in on.start.items()}
    make = getattr(keras.optimizers, KERAS_NAMES[case.optimizer])
    optimizer = make(**settings | {"learning_rate": lr(0) if callable(lr) else lr})
    points = [np.concatenate([v.value.numpy(force=True).ravel() for v in variables.values()])]
    for t in range(STEPS):
        if callable(lr):
            optimizer.learning_rate = lr(t)
        grads = on.grad({name: v.value.numpy(force=True).copy() for name, v in variables.items()})
        optimizer.apply([torch.tensor(g) for g in grads.values()], list(variables.values()))
        points.append(np.concatenate([v.value.numpy(force=True).ravel() for v in variables.values()]))
    return np.array(points)


def optax_adafactor(
    lr: float, d: float = 1.0, weight_decay: float = 0.0, eps1: float = 1e-30, factor_from: int = 128
) -> Any:
    """Return optax's Adafactor with its decay in float64: optax computes that one number in float32."""
    return optax.chain(
        optax.scale_by_factored_rms(
            min_dim_size_to_factor=factor_from,
            epsilon=eps1,
            decay_rate_fn=lambda i, exponent: 1 - (i + 1.0) ** -exponent,
        ),
        optax.clip_by_block_rms(d),
        optax.scale_by_learning_rate(lr, flip_sign=False),
        optax.scale_by_param_block_rms(),
        optax.add_decayed_weights(weight_decay),
        optax.scale(-1),
    )


def optax_optimizer(case: Case) -> Any:
    if case.optimizer == "adafactor":
        return optax.with_extra_args_support(optax_adafactor(**case.settings))
    settings = {OPTAX_SETTINGS.get(n, n): v for n, v in case.settings.items()}
    clipvalue, clipnorm = settings.pop("clipvalue", None), settings.pop("clipnorm", None)
    lr = settings["learning_rate"]
    if callable(lr):  # schedule-free counts from 1
        settings["learning_rate"] = lambda count: lr.lr * lr.gamma**count
    if case.optimizer in ("dadaptadamw", "prodigy"):
        settings["betas"] = (settings.pop("b1", 0.9), settings.pop("b2", 0.999))
    if case.optimizer == "prodigy" and "b3" in settings:
        settings["beta3"] = settings.pop("b3")
    if case.optimizer == "muon" and "b1" in settings:
        settings["beta"] = settings.pop("b1")
    if case.optimizer == "dog" and "reps_rel" in settings:
        settings["init_step"] = ("heuristic", settings.pop("reps_rel"))
    if case.optimizer == "cocob" and "decay" in settings:
        settings["alpha"] = settings.pop("decay")
    if case.optimizer == "polyaksgd":
        settings["max_learning_rate"] = settings.pop("learning_rate")
    name = OPTAX_NAMES.get(case.optimizer, case.optimizer)
    make: Any = optax
    for part in name.split("."):
        make = getattr(make, part)
    transform = make(**settings)
    if clipvalue is not None:
        transform = optax.chain(optax.clip(clipvalue), transform)
    if clipnorm is not None:
        transform = optax.chain(optax.clip_by_global_norm(clipnorm), transform)
    return optax.with_extra_args_support(transform)


def optax_path(case: Case) -> np.ndarray:
    """Return optax's path."""
    on = case.on
    transform = optax_optimizer(case)
    params = {name: jnp.asarray(value) for name, value in on.start.items()}
    names = list(params)
    state = transform.init(params)

    @jax.jit
    def advance(params, grads, state, value):
        updates, state = transform.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    points = [np.concatenate([np.asarray(params[n]).ravel() for n in names])]
    for _ in range(STEPS):
        values = {n: np.array(params[n]) for n in names}
        params, state = advance(params, on.grad(values), state, on.fun(values))
        points.append(np.concatenate([np.asarray(params[n]).ravel() for n in names]))
    return np.array(points)


PATHS = {"torch": torch_path, "keras": keras_path, "optax": optax_path}


def reference(case: Case) -> np.ndarray:
    """Return the path that the framework itself takes."""
    return PATHS[case.framework](case)


def main() -> None:
    stored, worst = {}, {}
    for case in CASES:
        theirs = reference(case)
        worst[case] = difference(path(case), theirs)
        stored[str(case)] = theirs[KEPT]
        if worst[case] > case.tolerance:
            print(f"{case}: {worst[case]:.2e} > {case.tolerance:.0e}  {case.settings}", file=sys.stderr)
    np.savez_compressed(STORED, **stored)
    TABLE.write_text(table(worst, VERSIONS), encoding="utf-8")


if __name__ == "__main__":
    main()
