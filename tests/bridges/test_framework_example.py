"""The example that puts koubai, PyTorch and Keras side by side: their losses are the same."""

import os
import re
import runpy
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "frameworks.py"


@pytest.mark.filterwarnings("ignore")
def test_the_frameworks_end_with_koubais_losses(capsys):
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].strip() for line in lines] == ["koubai", "torch", "koubai", "keras"]
    numbers = [[float(number) for number in re.findall(r"\d\.\d+e-\d+", line)] for line in lines]
    ours, torchs, keras_like, keras = numbers
    assert len(ours) == 5
    assert torchs == pytest.approx(ours, rel=2e-3)  # as printed
    assert keras == pytest.approx(keras_like, rel=1e-2)  # its rates are float32
