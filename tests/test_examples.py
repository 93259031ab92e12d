"""The examples: each is a script of a page that prints what it found and writes its picture."""

import runpy
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import pytest
from matplotlib import pyplot as plt

EXAMPLES = Path(__file__).parent.parent / "examples"
PRINTED = {  # what a reader is to find, in this order
    "check_a_gradient": ["1 of 3 components are wrong", "component 2: given 1.18", "ok, no wrong", "def loss(w):"],
    "compare_optimizers": ["LBFGS", "converged\n", "Momentum", "max_steps\n", "SGD"],
    "digits": ["before: ", "after 15 epochs: 9", "ok, no wrong component among 4810"],
    "fit_with_errors": ["converged", "amplitude = 2.026 ± 0.060", "decay = 0.398 ± 0.019", "frequency = 2.995 ± 0.013"],
    "frameworks": ["koubai: SGD 9.373e-10", "torch is left out: ", "koubai: SGD", "keras is left out: "],
    "gradient_loop": ["f'(x) =  0.437500 ± ", "after 32 steps: x = -1.8605, f = -1.0335"],
    "learning_rates": [
        "too small",
        "To try: take the rate",
        "≤ gtol",
        "f rose from 196",
        "the largest stable rate 0.1",
    ],
    "rope_over_a_hill": [" 20 N: on the ground at 18 of 81", "200 N: on the ground at  5 of 81", "converged"],
}
NO_PICTURE = {"check_a_gradient", "frameworks"}


def lines(name):
    return (EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()


def printed(name, arguments, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    for framework in ("torch", "keras") if name == "frameworks" else ():  # tests/bridges runs them
        monkeypatch.setitem(sys.modules, framework, None)
    try:
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    finally:
        plt.close("all")
    return capsys.readouterr().out


def test_every_example_is_here_and_short():
    assert sorted(PRINTED) == sorted(path.stem for path in EXAMPLES.glob("*.py"))
    assert [name for name in PRINTED if len(lines(name)) > 40] == []


@pytest.mark.parametrize("name", PRINTED)
def test_an_example_prints_what_it_found(name, tmp_path, monkeypatch, capsys):
    text = printed(name, ["picture.png"], tmp_path, monkeypatch, capsys)
    rest = text
    for part in PRINTED[name]:
        assert part in rest, text
        rest = rest.partition(part)[2]
    drawn = [path.name for path in tmp_path.iterdir()]
    assert drawn == ([] if name in NO_PICTURE else ["picture.png"])


def test_a_picture_goes_to_out_unless_a_path_is_given(tmp_path, monkeypatch, capsys):
    text = printed("gradient_loop", [], tmp_path, monkeypatch, capsys)
    path = Path("out", "gradient_loop.png")
    assert f"wrote {path}" in text
    assert (tmp_path / path).read_bytes().startswith(b"\x89PNG")


def test_without_scikit_learn_spirals_take_the_place_of_digits(tmp_path, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    text = printed("digits", ["picture.png"], tmp_path, monkeypatch, capsys)
    assert "three spirals take their place" in text
    assert "after 60 epochs: 9" in text
