"""The stored losses of mission row O11 are what PyTorch gives today. `make test-bridges` runs it."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from reference import losses


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-13), ("float32", 1e-6)])
@pytest.mark.parametrize("name", losses.SETTINGS)
def test_the_stored_losses_are_pytorchs(name, dtype, tolerance):
    stored = json.loads(losses.STORED.read_text())[dtype][name]
    # a loss that falls to 1e-9 of the first one keeps the rounding of that, which differs between processors
    np.testing.assert_allclose(losses.by_torch(name, dtype), stored, rtol=tolerance, atol=tolerance * stored[0])
