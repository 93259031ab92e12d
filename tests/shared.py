"""Yardsticks that lie beside the checkout, in ../shared, and are no part of it; without them, tests are skipped."""

import importlib.util
import pickle
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "shared"


def yardstick(name):
    """Return the module ../shared/<name>.py."""
    path = FOLDER / f"{name}.py"
    if not path.is_file():
        pytest.skip(f"{path} is not there", allow_module_level=True)
    spec = importlib.util.spec_from_file_location(f"shared_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def same_table(one, other):
    """Return whether two tables of sweeps have the same columns, bit for bit."""
    return [*one] == [*other] and all(
        one[name].dtype == other[name].dtype and pickle.dumps(one[name].tolist()) == pickle.dumps(other[name].tolist())
        for name in one
    )
