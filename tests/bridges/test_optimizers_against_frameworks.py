"""Every optimizer beside the framework's own, live. Needs koubai[bridges]; `make test-bridges` runs it."""

import inspect
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from reference import frameworks
from reference.cases import CASES, KEPT, STORED, difference, path

import koubai as kb
from koubai.descent import schedules

PRECISION = torch.float64  # of tests/reference/frameworks.py, which the frameworks are run by

# Keras reads its own variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_path_is_the_frameworks_own(case):
    theirs = frameworks.reference(case)
    assert difference(path(case), theirs) <= case.tolerance
    with np.load(STORED) as stored:  # what the default tests compare with is what the framework does today
        assert difference(stored[str(case)], theirs[KEPT]) <= case.tolerance


TORCH_SPLIT = {"betas": ("beta1", "beta2"), "etas": ("eta_minus", "eta_plus"), "step_sizes": ("step_min", "step_max")}


# Compared along the paths alone: their arguments are not a plain list of numbers.
BY_PATH = ("lbfgs", "adafactor", "muon", "amsgrad")


@pytest.mark.parametrize("name", [n for n in frameworks.TORCH_NAMES if n not in BY_PATH])
def test_defaults_are_pytorchs(name):
    theirs = inspect.signature(getattr(frameworks.torch.optim, frameworks.TORCH_NAMES[name])).parameters
    ours = kb.optimizers.resolve(name, semantics="torch")
    compared = 0
    for argument, parameter in theirs.items():
        if argument in TORCH_SPLIT:
            pairs = zip(TORCH_SPLIT[argument], parameter.default, strict=True)
        else:
            pairs = [(argument, parameter.default)]
        for own, default in pairs:
            if own == "lr" or own in ours.hyperparameters:
                assert (ours.lr if own == "lr" else ours.hyperparameters[own]) == default, own
                compared += 1
    assert compared >= 3


@pytest.mark.parametrize("name", [n for n in frameworks.KERAS_NAMES if n in kb.optimizers.names()])
def test_defaults_are_kerass(name):
    theirs = inspect.signature(getattr(frameworks.keras.optimizers, frameworks.KERAS_NAMES[name])).parameters
    ours = kb.optimizers.resolve(name, semantics="keras")
    compared = 0
    for own, value in {"lr": ours.lr, **ours.hyperparameters}.items():
        for argument in (frameworks.KERAS_SETTINGS.get(own, own), own, "rho" if own == "rho" else ""):
            if argument in theirs and theirs[argument].default is not None and own != "amsgrad":
                assert value == theirs[argument].default, own
                compared += 1
                break
    assert compared >= 2


# -- schedules --------------------------------------------------------------------------------------------------------

TORCH_SCHEDULES = {
    "StepLR": (schedules.step(0.1, 30), lambda o, s: s.StepLR(o, 30)),
    "MultiStepLR": (schedules.step(0.1, (20, 50), gamma=0.3), lambda o, s: s.MultiStepLR(o, [20, 50], gamma=0.3)),
    "ExponentialLR": (schedules.exponential(0.1, 0.98), lambda o, s: s.ExponentialLR(o, 0.98)),
    "CosineAnnealingLR": (schedules.cosine(0.1, 99, 0.01), lambda o, s: s.CosineAnnealingLR(o, 99, eta_min=0.01)),
    "LinearLR": (
        schedules.linear(0.1, 40, end_lr=0.02),
        lambda o, s: s.LinearLR(o, start_factor=1.0, end_factor=0.2, total_iters=40),
    ),
    "OneCycleLR": (schedules.one_cycle(0.1, 100), lambda o, s: s.OneCycleLR(o, 0.1, total_steps=100)),
    "OneCycleLR linear": (
        schedules.one_cycle(0.1, 100, warm=0.4, shape="linear"),
        lambda o, s: s.OneCycleLR(o, 0.1, total_steps=100, pct_start=0.4, anneal_strategy="linear"),
    ),
    "SequentialLR": (
        schedules.warmup(schedules.exponential(0.1, 0.9), 10, start_factor=0.25),
        lambda o, s: s.SequentialLR(
            o, [s.LinearLR(o, start_factor=0.25, total_iters=10), s.ExponentialLR(o, 0.9)], milestones=[10]
        ),
    ),
}


@pytest.mark.parametrize("name", TORCH_SCHEDULES)
@pytest.mark.filterwarnings("ignore::UserWarning")  # SequentialLR warns of its own call order
def test_schedules_are_pytorchs(name):
    torch = frameworks.torch
    ours, make = TORCH_SCHEDULES[name]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    theirs = make(optimizer, torch.optim.lr_scheduler)
    for t in range(100):
        assert ours(t) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12), t
        optimizer.step()
        if t < 99:
            theirs.step()


SCHEDULED = [n for n in frameworks.TORCH_NAMES if n not in (*BY_PATH, "rprop")]


@pytest.mark.parametrize("name", SCHEDULED)
def test_a_scheduled_path_is_pytorchs(name):
    """The rate of a step acts where PyTorch lets it act: ASGD's one step later."""
    torch, curvatures = frameworks.torch, np.array([1.0, 0.3, 3.0])
    ours = kb.optimizers.resolve(name, lr=schedules.step(0.1, 3, gamma=0.5), semantics="torch")
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64, requires_grad=True)
    theirs = getattr(torch.optim, frameworks.TORCH_NAMES[name])([weights], lr=0.1)
    falling = torch.optim.lr_scheduler.StepLR(theirs, 3, gamma=0.5)
    x = np.array([1.0, -2.0, 0.5])
    for _ in range(20):
        ours.update(x, curvatures * x)
        weights.grad = torch.as_tensor(curvatures) * weights.detach()
        theirs.step()
        falling.step()
        np.testing.assert_allclose(x, weights.detach().numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    "settings", [{"patience": 4}, {"patience": 2, "cooldown": 3}, {"patience": 0, "threshold": 0.05}]
)
def test_plateau_is_pytorchs(settings):
    torch = frameworks.torch
    values = 1 + 5 * 0.7 ** np.arange(80) + np.random.default_rng(0).normal(scale=0.02, size=80)
    ours = schedules.plateau(0.1, gamma=0.5, min_lr=1e-4, **settings)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, min_lr=1e-4, **settings)
    memory, seen = ours.start(), set()
    for t, value in enumerate(values):
        memory = ours.observe(memory, t, value)
        theirs.step(value)
        assert ours.rate(t, memory) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12), t
        seen.add(ours.rate(t, memory))
    assert len(seen) > 2


KERAS_SCHEDULES = {
    "CosineDecay": (schedules.cosine(0.1, 40, min_lr=0.01), lambda s: s.CosineDecay(0.1, 40, alpha=0.1)),
    "ExponentialDecay": (schedules.exponential(0.1, 0.5, steps=20), lambda s: s.ExponentialDecay(0.1, 20, 0.5)),
    "staircase": (schedules.step(0.1, 20, 0.5), lambda s: s.ExponentialDecay(0.1, 20, 0.5, staircase=True)),
    "PolynomialDecay": (schedules.linear(0.1, 40, 0.02), lambda s: s.PolynomialDecay(0.1, 40, 0.02)),
}


@pytest.mark.parametrize("name", KERAS_SCHEDULES)
def test_schedules_are_kerass(name):
    keras = frameworks.keras
    ours, make = KERAS_SCHEDULES[name]
    theirs = make(keras.optimizers.schedules)
    for t in range(60):
        # Keras computes its schedules in float32
        assert ours(t) == pytest.approx(float(keras.ops.convert_to_numpy(theirs(t))), rel=2e-6), t
