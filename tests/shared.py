"""Yardsticks that lie beside the checkout, in ../shared, and are no part of it; without them, tests are skipped."""

import importlib.util
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
