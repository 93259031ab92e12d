"""The derivative bench: its numbers are those of `koubai.derivative`, and what can't be used is named."""

import contextlib
import io
import json
import math
import shlex
import subprocess
import sys

import numpy as np
import pytest

import koubai as kb
from koubai.cli import main
from koubai.errors import ExpressionError, InputError
from koubai.lab.derivatives import ASKS, REPLAYS, walk
from koubai.lab.fields import Fields

CUBE = {"expression": "x**3"}
SQUARE = {"expression": "x**2"}


def ask(name, **arguments):
    return ASKS[name](arguments, lambda: None)


def test_the_numbers_of_the_lessons_are_exact():
    found = ask("difference", function=SQUARE, x=2, h=1e-4)
    assert [found[m]["value"] for m in ("forward", "backward", "central")] == [
        4.0001000000078335,
        3.999900000000167,
        4.000000000004,
    ]
    assert ask("difference", function=CUBE, x=10, h=1e-4)["central"]["value"] == 300.00000000939053


@pytest.mark.parametrize("h", [5.0, 0.01, 1e-8, 1e-13])
@pytest.mark.parametrize("text", ["x**3", "sin(x) + exp(x/5)", "where(x < 1, x, x**2)"])
def test_differences_are_those_of_the_library(text, h):
    f = kb.parse(text)
    found = ask("difference", function={"expression": text}, x=1.7, h=h)
    for method in ("forward", "backward", "central"):
        assert found[method]["value"] == kb.derivative(f, 1.7, method=method, h=h).value
    assert found["exact"] == kb.grad(f)(1.7)
    assert found["exact_source"] == "backprop"
    assert found["points"] == [[x, float(f(x))] for x in (1.7 - h, 1.7, 1.7 + h)]


def test_a_step_below_the_spacing_of_numbers_gives_zero_and_says_so():
    found = ask("difference", function=SQUARE, x=2, h=1e-50)
    assert found["forward"]["value"] == 0.0
    assert found["rounds"]
    assert "x+h == x" in found["forward"]["warnings"][0]


def test_curve():
    found = ask("curve", function=CUBE, window=[-2, 2], count=5)
    assert found["arrays"]["f"].tolist() == [-8, -1, 0, 1, 8]
    assert (found["low"], found["high"]) == (-8.0, 8.0)


def test_a_curve_with_a_gap():
    found = ask("curve", function={"expression": "log(x)"}, window=[-1, 1], count=101)
    f = found["arrays"]["f"]
    assert np.isnan(f[:50]).all()
    assert np.isfinite(f[51:]).all()
    assert math.isfinite(found["low"])
    empty = ask("curve", function={"expression": "log(x)"}, window=[-2, -1], count=11)
    assert empty["low"] is None


def test_the_errors_make_a_v():
    found = ask("errors", function={"expression": "sin(x)"}, x=1.0, count=69)
    h, forward, central = (found["arrays"][name] for name in ("h", "forward", "central"))
    assert h[0] < found["stuck"] < h[-1]
    least = h[np.argmin(forward)]
    assert 1e-10 < least < 1e-6 < h[np.argmin(central)] < 1e-3
    assert forward[-1] > 1e-2
    assert forward[0] == pytest.approx(math.cos(1.0))
    assert found["best"]["central"]["error"] < 1e-9
    adaptive = found["adaptive"]
    assert adaptive["off"] <= adaptive["error"] < 1e-10
    assert adaptive["value"] == kb.derivative(kb.parse("sin(x)"), 1.0).value


def test_valleys_tell_where_starts_end():
    function = {"problem": "two_sines"}
    low, high = kb.problems["two_sines"].bounds[0]
    found = ask("valleys", function=function, window=[low, high], optimizer={"name": "SGD", "lr": 0.01}, count=200)
    minima = found["minima"]
    assert minima[0]["fun"] == pytest.approx(kb.problems["two_sines"].minima[0].fun, abs=1e-6)
    assert len(minima) >= 2
    assert found["lowest"] == minima[0]["share"] < 1
    label = found["arrays"]["label"]
    assert np.mean(label == 0) == pytest.approx(found["lowest"])
    assert sum(m["share"] for m in minima) + sum(found["shares"].values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("curve", {"function": {"expression": "x + y"}, "window": [0, 1]}, "one variable"),
        ("curve", {"function": {"problem": "himmelblau"}, "window": [0, 1]}, "one variable"),
        ("curve", {"function": CUBE, "window": [1, 0]}, "low < high"),
        ("curve", {"function": CUBE, "window": [0, 1], "count": 10**9}, "count"),
        ("curve", {"function": CUBE}, "window is missing"),
        ("curve", {"window": [0, 1]}, "function"),
        ("difference", {"function": CUBE, "x": 1, "h": 0}, "h must be > 0"),
        ("difference", {"function": CUBE, "x": "1", "h": 1}, "x must be a number"),
        ("difference", {"function": CUBE, "x": 10**400, "h": 1}, "x must be a finite number"),
        ("errors", {"function": CUBE, "x": 1, "count": 1}, "count"),
        ("valleys", {"function": CUBE, "window": [0, 1], "optimizer": {"name": "Adm"}}, "Adm"),
        ("valleys", {"function": CUBE, "window": [0, 1], "optimizer": "auto"}, "optimizer"),
        ("valleys", {"function": CUBE, "window": [0, 1], "steps": 10**6}, "steps"),
    ],
)
def test_what_can_not_be_used_is_named(name, arguments, said):
    with pytest.raises(InputError, match=said):
        ASKS[name](arguments, lambda: None)


def test_a_wrong_expression_is_refused_as_one():
    with pytest.raises(ExpressionError):
        ask("curve", function={"expression": "x +* 2"}, window=[0, 1])


def test_an_ask_that_is_not_wanted_any_more_ends():
    def cancelled():
        raise RuntimeError("superseded")

    with pytest.raises(RuntimeError, match="superseded"):
        ASKS["errors"]({"function": CUBE, "x": 1}, cancelled)


def test_the_script_prints_the_numbers_of_the_page():
    state = {"function": CUBE, "x": 10, "h": 1e-4, "x0": 1.5, "optimizer": {"name": "SGD", "lr": 0.01}, "max_steps": 20}
    done = subprocess.run(
        [sys.executable, "-c", REPLAYS["python"](state)], capture_output=True, text=True, check=True, timeout=60
    )
    assert "central 300.00000000939053" in done.stdout
    run = kb.minimize(kb.parse("x**3"), 1.5, kb.SGD(0.01), max_steps=20, gtol=0.0)
    assert repr(float(run.x)) in done.stdout


@pytest.mark.parametrize(
    "own",
    [
        {"function": CUBE, "x": 10, "h": 1e-4, "x0": 1.5, "optimizer": {"name": "SGD", "lr": 0.01}, "gtol": 1e-3},
        {"function": {"problem": "two_sines"}, "x": -1.5, "h": 0.25, "x0": -2.25, "optimizer": {"name": "Adam"}},
        {"function": CUBE, "x": 2, "h": 3, "x0": 0.75, "optimizer": {"name": "RMSprop", "semantics": "keras"}},
    ],
)
def test_the_commands_print_the_numbers_of_the_page(own, monkeypatch):
    state = {**own, "max_steps": 20}
    shown = ask("difference", **{name: own[name] for name in ("function", "x", "h")})
    *differences, adaptive, descent = REPLAYS["command"](state).splitlines()
    printed = []
    for line in (*differences, adaptive, descent):
        monkeypatch.setattr(sys, "argv", shlex.split(line))
        with contextlib.redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit):
            main()
        printed.append(out.getvalue())
    wanted = [shown[method]["value"] for method in ("forward", "backward", "central")] + [shown["adaptive"]["value"]]
    assert [float(text.splitlines()[1].split()[0]) for text in printed[:-1]] == wanted
    run = walk(Fields(state))
    made = json.loads(printed[-1])
    assert (made["x"], made["fun"], made["nit"]) == (run.x, run.fun, run.nit)


@pytest.mark.parametrize("kind", ["csv", "svg", "png", "gif"])
def test_the_bench_is_saved(kind):
    from koubai.lab.export import ASKS as EXPORTS

    state = {"function": SQUARE, "x": 1, "h": 1e-3, "x0": 2, "max_steps": 5}
    found = EXPORTS["export"]({"kind": kind, "state": {"room": "derivative", "derivative": state}}, lambda: None)
    data = found["arrays"]["bytes"].tobytes()
    begins = {"csv": b"h,forward,backward,central,backprop\n", "svg": b"<?xml", "png": b"\x89PNG", "gif": b"GIF8"}
    assert data.startswith(begins[kind])
    if kind == "csv":
        h, forward, *_, exact = map(float, data.splitlines()[120].split(b","))
        assert forward == kb.derivative(kb.parse("x**2"), 1.0, method="forward", h=h).value
        assert exact == 2.0
