"""Every optimizer beside the framework's own, live. Needs koubai[bridges]; `make test-bridges` runs it."""

import inspect
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from reference import frameworks
from reference.cases import CASES, KEPT, STORED, difference, path

import koubai as kb


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_path_is_the_frameworks_own(case):
    theirs = frameworks.reference(case)
    assert difference(path(case), theirs) <= case.tolerance
    with np.load(STORED) as stored:  # what the default tests compare with is what the framework does today
        assert difference(stored[str(case)], theirs[KEPT]) <= case.tolerance


TORCH_SPLIT = {"betas": ("beta1", "beta2"), "etas": ("eta_minus", "eta_plus"), "step_sizes": ("step_min", "step_max")}


@pytest.mark.parametrize("name", [n for n in frameworks.TORCH_NAMES if n in kb.optimizers.names()])
def test_defaults_are_pytorchs(name):
    if name in ("lbfgs", "adafactor", "muon", "amsgrad"):
        pytest.skip("compared along the paths; their arguments are not a plain list of numbers")
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
