"""The asks of the descent and basin rooms: what the page shows is what the library gives, to the bit."""

import contextlib
import io
import json
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import koubai as kb
from koubai.cli import main
from koubai.derivatives import paths
from koubai.descent.spec import read_optimizer
from koubai.errors import ExpressionError, InputError
from koubai.lab import descents
from koubai.lab.descents import LIMITS
from koubai.lab.export import ASKS as EXPORT
from koubai.lab.messages import SupersededError, as_json, packed
from koubai.lab.replay import ASKS as REPLAY
from koubai.lab.session import table
from koubai.lab.warming import AT_ONCE, LATER
from koubai.lab.writing import flat_optimizer

pytestmark = pytest.mark.filterwarnings("ignore::koubai.errors.GradientWarning")

TEXT = "x**2/20 + y**2 + 0.3*sin(x*y)"
TYPED, HIMMELBLAU = {"expression": TEXT}, {"problem": "himmelblau"}
EIGHT = [
    {"name": "SGD", "lr": 0.05}, {"name": "Momentum", "lr": 0.01}, {"name": "Nesterov", "lr": 0.01, "momentum": 0.8},
    {"name": "Adagrad", "lr": 0.5}, {"name": "RMSprop", "lr": 0.02, "semantics": "keras"}, {"name": "Adam", "lr": 0.1},
    {"name": "AdamW", "lr": 0.1, "weight_decay": 0.1}, {"name": "LBFGS"},
]  # fmt: skip


def wanted():
    """Called between pieces of work: go on."""


def ask(name, **arguments):
    return descents.ASKS[name](arguments, wanted)


def optimizer(given):
    rest = dict(given)
    return kb.optimizers.resolve(rest.pop("name"), **rest)


# -- what there is ----------------------------------------------------------------------------------------------------


def test_the_catalogue_has_everything_and_is_json():
    found = json.loads(as_json(ask("catalogue")))
    assert {one["key"] for one in found["optimizers"]} == set(kb.optimizers.names())
    assert [one["name"] for one in found["problems"]] == list(kb.problems)
    assert found["limits"] == LIMITS
    assert {"datasets", "losses", "schedules"} <= found.keys()
    adam = next(one for one in found["optimizers"] if one["name"] == "Adam")
    assert adam["lr"] == 1e-3
    assert "m = beta1 * m + (1 - beta1) * g" in adam["formula"]
    assert adam["semantics"] == ["torch", "keras", "optax"]
    assert adam["defaults"]["keras"]["eps"] == 1e-7
    beta1 = next(one for one in adam["hyperparameters"] if one["name"] == "beta1")
    assert (beta1["default"], beta1["low"], beta1["high"], beta1["kind"], beta1["log"]) == (0.9, 0, 1, "number", False)


def test_every_ask_of_the_page_is_there():
    assert {
        "catalogue", "parse", "field", "arrows", "descend", "step", "diagnose", "fix", "rates", "find_lr", "race",
        "basins",        "curve", "difference", "errors", "data", "train", "check", "export", "replay",
    } <= table().keys()  # fmt: skip


def test_a_typed_function_is_read_and_a_wrong_one_refused():
    assert ask("parse", expression="x1*x2") == {"variables": ("x1", "x2"), "dimension": 2, "formula": "x1*x2"}
    with pytest.raises(InputError, match="must have 2 variables here; this one has 1: x"):
        ask("parse", expression="x**2", dimension=2)
    with pytest.raises(ExpressionError):
        ask("parse", expression="x^2")
    with pytest.raises(InputError, match="at most 2,000"):
        ask("parse", expression="x" * 3000)


# -- the ground -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [TYPED, HIMMELBLAU, {"expression": "log(x) + 0*y"}])
def test_the_field_is_f_with_the_lowest_row_first(function):
    found = ask("field", function=function, window=[[-3, 2], [0, 4]], resolution=[31, 21])
    f = kb.parse(function["expression"]) if "expression" in function else kb.problems["himmelblau"].f
    x, y = np.linspace(-3, 2, 31), np.linspace(0, 4, 21)
    z = found["arrays"]["z"]
    with np.errstate(all="ignore"):
        expected = np.array([[f(np.array([a, b])) for a in x] for b in y])
    assert (z.shape, z.dtype) == ((21, 31), np.float32)
    np.testing.assert_allclose(z, expected, rtol=1e-6, equal_nan=True)
    finite = expected[np.isfinite(expected)]
    np.testing.assert_allclose([found["low"], found["high"]], [finite.min(), finite.max()])


def test_a_function_that_is_nowhere_finite_has_no_range():
    found = ask("field", function={"expression": "log(-1 - x**2) + y"}, window=[[0, 1], [0, 1]], resolution=[8, 8])
    assert (found["low"], found["high"]) == (None, None)


def test_arrows_are_gradients():
    found = ask("arrows", function=HIMMELBLAU, window=[[-3, 2], [0, 4]], counts=[5, 4])["arrays"]
    expected = [kb.problems["himmelblau"].grad(x) for x in found["x"].astype(float)]
    np.testing.assert_allclose(found["g"], expected, rtol=1e-4, atol=1e-3)


# -- descents ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [TYPED, HIMMELBLAU])
@pytest.mark.parametrize("steps", [0, 1, 60, 500, 4000])
def test_the_paths_are_those_of_minimize(function, steps):
    f = kb.parse(TEXT) if function is TYPED else kb.problems["himmelblau"].f
    rules = [{**one, "lr": one.get("lr", 1.0) * (1 if function is TYPED else 0.1)} for one in EIGHT]
    found = ask("descend", function=function, x0=[-3, 2], optimizers=rules, max_steps=steps, gtol=0.0)
    for k, (told, rule) in enumerate(zip(found["runs"], rules, strict=True)):
        run = kb.minimize(f, [-3.0, 2.0], optimizer(rule), max_steps=steps, gtol=0.0, record="all")
        assert (told["x"], told["fun"], told["nit"]) == (run.x.tolist(), run.fun, run.nit)
        assert (told["status"], told["message"]) == (run.status.name, run.message)
        np.testing.assert_array_equal(found["arrays"][f"path.{k}"], run.history.x.astype(np.float32))
        np.testing.assert_array_equal(found["arrays"][f"t.{k}"], run.history.t)


def test_a_descent_that_can_not_start_does_not_stop_the_others():
    function = {"expression": "log(x) + y**2"}
    found = ask("descend", function=function, x0=[-1, 2], optimizers=[{"name": "SGD", "lr": 0.1}], max_steps=9)
    assert found["runs"][0]["status"] == "failed"
    assert "not finite" in found["runs"][0]["message"] or "nan" in found["runs"][0]["message"]
    assert found["arrays"] == {}


def test_an_optimizer_that_does_not_suit_the_function_fails_alone():
    rules = [{"name": "LevenbergMarquardt"}, {"name": "SGD", "lr": 0.1}]
    found = ask("descend", function={"expression": "x - y + sin(x)"}, x0=[1, 2], optimizers=rules, max_steps=9)
    assert [run["status"] for run in found["runs"]] == ["failed", "max_steps"]
    assert "no sum of squares" in found["runs"][0]["message"]
    assert "path.1" in found["arrays"]


def test_one_variable_is_a_number():
    found = ask("descend", function={"expression": "x**4 - 3*x**2 + x"}, x0=[2], optimizers=[EIGHT[0]], max_steps=80)
    assert found["arrays"]["path.0"].shape == (found["runs"][0]["nit"] + 1, 1)
    run = kb.minimize(kb.parse("x**4 - 3*x**2 + x"), 2.0, kb.SGD(0.05), max_steps=80, gtol=0.0)
    assert found["runs"][0]["x"] == [float(run.x)]


def test_a_warm_descent_is_not_traced_again(monkeypatch):
    """What a drag does many times a second: the same typed text, another start."""
    text = "x**2/7 + 2*y**2 + 0.25*cos(x*y)"
    arguments = {"function": {"expression": text}, "optimizers": EIGHT[:7], "max_steps": 100}
    first = ask("descend", x0=[-3, 2], **arguments)
    monkeypatch.setattr(paths, "record_call", lambda *_, **__: pytest.fail("it was traced again"))
    again = ask("descend", x0=[-3, 2], **arguments)
    assert [run["x"] for run in first["runs"]] == [run["x"] for run in again["runs"]]
    ask("descend", x0=[-2, 2.5], **arguments)
    kb.minimize(kb.parse(text), [1.0, 1.0], lr=0.1, max_steps=100)


def test_a_newer_request_stops_a_long_one():
    asked = []

    def superseded():
        asked.append(1)
        if len(asked) > 3:
            raise SupersededError

    arguments = {"function": TYPED, "x0": [-3, 2], "max_steps": 20_000, "gtol": 0.0}
    with pytest.raises(SupersededError):
        descents.ASKS["descend"]({**arguments, "optimizers": [{"name": "MoMo"}] * 12}, superseded)
    assert len(asked) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizers": [EIGHT[0]] * 13}, "at most 12"),
        ({"max_steps": 20_001}, "from 0 to 20000"),
        ({"x0": [1, 2, 3]}, "x0 has 3 numbers, but the function has 2 variables"),
        ({"x0": [1, "NaN"]}, "x0 must be a number"),
        ({"gtol": -1}, "gtol"),
        ({"function": {"expression": "x*y" + "*x" * 2000}}, "at most 2,000"),
        ({"optimizers": [{"name": "LBFGS", "history_size": 10**8}]}, "history_size must be at most 1000"),
        ({"optimizers": [{"name": "Adamm"}]}, "did you mean"),
    ],
)
def test_requests_are_bounded(change, message):
    arguments = {"function": TYPED, "x0": [1, 2], "optimizers": [EIGHT[0]], "max_steps": 10}
    with pytest.raises(InputError, match=message):
        ask("descend", **{**arguments, **change})


# -- one step ---------------------------------------------------------------------------------------------------------

SQUARES = (
    "(x - 1)**2/20 + y**2 + (x*y - 1)**2/9"  # least squares too; arithmetic alone, so that every way has the same bits
)


@pytest.mark.parametrize("name", kb.optimizers.names())
@pytest.mark.parametrize("t", [0, 3])
def test_the_narrated_step_is_the_step_of_minimize(name, t):
    f, rule = kb.parse(SQUARES), kb.optimizers.resolve(name)
    function = {"expression": SQUARES}
    found = ask("step", function=function, x0=[-3, 2], optimizer={"name": name}, t=t)
    run = kb.minimize(f, [-3.0, 2.0], rule, max_steps=t + 1, gtol=0.0, record="all")
    close = {"rtol": 1e-12, "atol": 1e-14}  # a search's loop sums in another order than its rule
    np.testing.assert_allclose(found["x"], run.history.x[t], **close)
    np.testing.assert_allclose(found["x_next"], run.history.x[t + 1], **close)
    if not rule.rule.searches:
        np.testing.assert_array_equal(found["x_next"], run.history.x[t + 1])
        np.testing.assert_array_equal(found["terms"][-1]["value"], found["x_next"])
    np.testing.assert_array_equal(found["step"], found["x_next"] - found["x"])
    assert found["before"].keys() == found["after"].keys() == set(rule.state_names())
    json.loads(as_json(found))


def test_the_terms_are_the_rules_own_lines_with_its_branches_chosen():
    found = ask("step", function=TYPED, x0=[-7, 2], optimizer={"name": "Adam", "lr": 0.1}, t=5)
    told = {term["name"]: term["formula"] for term in found["terms"]}
    assert told == {
        "m": "beta1 * m + (1 - beta1) * g",
        "v": "beta2 * v + (1 - beta2) * (g * g)",
        "correction": "1 - beta2 ** t",
        "v_hat": "v / correction",
        "m_hat": "m / (1 - beta1 ** t)",
        "x": "x - lr * (m_hat / (sqrt(v_hat + eps_root) + eps))",
    }
    values = {term["name"]: np.array(term["value"]) for term in found["terms"]}
    g, before = found["g"], {name: np.array(value) for name, value in found["before"].items()}
    np.testing.assert_array_equal(values["m"], 0.9 * before["m"] + (1 - 0.9) * g)
    np.testing.assert_array_equal(values["v"], found["after"]["v"])
    plain = ask("step", function=TYPED, x0=[-7, 2], optimizer={"name": "SGD", "lr": 0.1}, t=0)["terms"]
    assert [(term["name"], term["formula"]) for term in plain] == [("x", "x - lr * g")]
    decayed = ask("step", function=TYPED, x0=[-7, 2], optimizer={"name": "SGD", "weight_decay": 0.1}, t=0)["terms"]
    assert [(term["name"], term["formula"]) for term in decayed] == [("g", "g + weight_decay * x"), ("x", "x - lr * g")]


def test_a_step_beyond_the_end_is_refused():
    with pytest.raises(InputError, match="there is no step 400: the descent ended after"):
        ask("step", function=TYPED, x0=[-7, 2], optimizer={"name": "SGD", "lr": 3.0}, t=400)


# -- verdicts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lr", [1e-6, 0.05, 1.2])
@pytest.mark.parametrize("lang", ["en", "ja"])
def test_the_verdict_is_the_librarys(lr, lang):
    arguments = {"function": TYPED, "x0": [-7, 2], "optimizer": {"name": "SGD", "lr": lr}, "max_steps": 300}
    found = ask("diagnose", lang=lang, **arguments)
    run = kb.minimize(kb.parse(TEXT), [-7.0, 2.0], kb.SGD(lr), max_steps=300, gtol=0.0)
    expected = run.diagnose(lang=lang)
    assert (found["code"], found["verdict"], found["explanation"]) == (
        expected.code,
        expected.title,
        expected.explanation,
    )
    assert [one["name"] for one in found["evidence"]] == list(expected.evidence)
    assert (found["remedy"] is None) == (expected.remedy is None)
    json.loads(as_json(found))


def test_the_fix_is_applied_by_what_it_changes():
    arguments = {"function": TYPED, "x0": [-7, 2], "optimizer": {"name": "SGD", "lr": 1.2}, "max_steps": 300}
    found = ask("fix", **arguments)
    assert found["helped"]
    assert found["before"]["status"] == "diverged"
    changed = arguments | found["changes"]
    again = ask("descend", **changed, optimizers=[changed["optimizer"]])
    assert again["runs"][0]["x"] == found["after"]["x"]


def test_a_flat_optimizer_is_read_back():
    for given in EIGHT:
        made = optimizer(given)
        assert optimizer(flat_optimizer(made)) == made


# -- rates and races --------------------------------------------------------------------------------------------------


def test_rates_tell_slow_from_good_from_diverging_and_the_bound_is_two_over_the_curvature():
    bowl = {"expression": "x**2 + y**2"}
    found = ask(
        "rates", function=bowl, x0=[-3, 4], optimizer={"name": "SGD"}, low=1e-6, high=10, count=64, max_steps=100
    )
    lr, kind = found["arrays"]["lr"], found["arrays"]["kind"]
    assert found["bound"] == pytest.approx(1.0)
    assert (kind[lr > 1.05] == 4).all()
    assert (kind[lr < 1e-5] == 0).all()
    assert (kind[(lr > 0.05) & (lr < 0.9)] == 2).all()
    order = [k for i, k in enumerate(kind.tolist()) if i == 0 or kind[i - 1] != k]
    assert order[:4] == [0, 1, 2, 1] or order[:3] == [0, 1, 2]


def test_rates_see_a_jump_to_another_valley():
    double = {"expression": "(x**2 - 1)**2 + 0.3*x + 0.5*y**2"}
    found = ask(
        "rates", function=double, x0=[2, 1], optimizer={"name": "SGD"}, low=1e-3, high=1, count=128, max_steps=400
    )
    kind, x = found["arrays"]["kind"], found["arrays"]["x"]
    assert (kind == 3).any()
    assert (x[kind == 3, 0] < 0).all()
    assert (x[kind == 2, 0] > 0).all()


def test_rates_are_not_for_searches():
    with pytest.raises(InputError, match="finds its own steps"):
        ask("rates", function=TYPED, x0=[1, 2], optimizer={"name": "LBFGS"})


def test_the_rate_that_is_found_is_find_lrs():
    found = ask("find_lr", function=HIMMELBLAU, x0=[-1, 1], optimizer={"name": "Adam"})
    expected = kb.find_lr(kb.problems["himmelblau"].f, [-1.0, 1.0], "adam")
    assert (found["lr"], found["low"], found["high"], found["nfev"]) == (
        expected.lr, expected.low, expected.high, expected.nfev,
    )  # fmt: skip


def test_the_race_is_the_librarys():
    rules = [EIGHT[0], EIGHT[5], EIGHT[7], EIGHT[5]]
    found = ask("race", function=TYPED, x0=[-7, 2], optimizers=rules, budget=200)
    named = dict(zip(("SGD", "Adam", "LBFGS", "Adam 4"), map(optimizer, rules), strict=True))
    expected = kb.race(kb.parse(TEXT), [-7.0, 2.0], named, budget=200, lr="given")
    assert found["winner"] == expected.winner
    assert [row["name"] for row in found["table"]] == expected.table["name"]
    assert [row["fun"] for row in found["table"]] == expected.table["fun"]
    assert found["slots"] == list(named)
    np.testing.assert_array_equal(found["arrays"]["path.1"], expected.runs["Adam"].history.x.astype(np.float32))
    json.loads(as_json({name: value for name, value in found.items() if name != "arrays"}))


# -- basins -----------------------------------------------------------------------------------------------------------


def test_the_map_is_the_librarys():
    window = [[-5, 5], [-4, 4]]
    arguments = {"function": HIMMELBLAU, "window": window, "optimizer": {"name": "Momentum", "lr": 0.005}}
    found = ask("basins", **arguments, resolution=[60, 40], steps=150)
    expected = kb.basins(
        kb.problems["himmelblau"].f, window, optimizer=kb.Momentum(0.005), resolution=(60, 40), steps=150
    )
    np.testing.assert_array_equal(found["arrays"]["label"], expected.label)
    np.testing.assert_array_equal(found["arrays"]["steps"], expected.steps)
    assert [one["share"] for one in found["minima"]] == [one.share for one in expected.minima]
    assert found["shares"] == expected.shares


def test_maps_are_bounded_and_a_longer_function_more_so():
    arguments = {"window": [[0, 1], [0, 1]], "optimizer": {"name": "SGD"}, "resolution": [1024, 1024]}
    with pytest.raises(InputError, match="too many here"):
        ask("basins", function=HIMMELBLAU, steps=201, **arguments)
    with pytest.raises(InputError, match="too many here"):
        ask("basins", function={"expression": "x*y + " + "+".join(["x"] * 60)}, steps=200, **arguments)


# -- copies -----------------------------------------------------------------------------------------------------------

STATES = [
    {"function": TYPED, "x0": [-7, 2], "optimizers": EIGHT, "max_steps": 500, "gtol": 0.0},
    {
        "function": HIMMELBLAU,
        "x0": [-1.3, 0.7],
        "optimizers": [{"name": "SGD", "lr": 0.01}],
        "max_steps": 3000,
        "gtol": 1e-6,
    },
    {"function": {"expression": "x**4 - 3*x**2 + x"}, "x0": [2], "optimizers": EIGHT[:2], "max_steps": 90, "seed": 3},
    {
        "function": {"expression": "x**2 + 'y'*0".replace("'", "") + " - exp(-(x - y)**2)"},
        "x0": [0.1, 1 / 3],
        "optimizers": [
            {"name": "NAdam", "lr": 0.1, "momentum_decay": "Infinity", "semantics": "keras", "clipnorm": 1.5}
        ],
        "max_steps": 2500,
    },
    {
        "function": TYPED, "x0": [-7, 2], "optimizers": EIGHT, "max_steps": 60, "gtol": 1e-6, "seed": 5,
        "bounds": [[-7.5, -0.25], [None, 2]],
    },
]  # fmt: skip


def replayed(kind, state):
    return REPLAY["replay"]({"kind": kind, "state": {"room": "descent", "descent": state}}, wanted)["text"]


@pytest.mark.parametrize("state", STATES)
def test_copy_as_python_prints_the_same_bits_in_a_fresh_interpreter(state):
    ends = [run["x"] for run in ask("descend", **state)["runs"]]
    script = replayed("python", state)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, check=True)
    lines = made.stdout.strip().splitlines()[-len(ends) :]
    printed = [json.loads(line[line.rindex("[") :]) if "[" in line else [float(line.split()[-1])] for line in lines]
    assert printed == ends


FUNCTIONS = [
    ({"expression": "x**2/20 + y**2 + 0.3*sin(x*y)**2"}, [-7, 2]),
    ({"expression": "(1-x)**2 + 100*(y-x**2)**2"}, [-1.2, 1]),
    ({"problem": "himmelblau"}, [-1, 0.3]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("function", "x0"), FUNCTIONS)
def test_every_optimizer_long_in_use_is_copied_with_its_bits(function, x0):
    """What a lab has compiled in the meantime changes no bit of what a fresh interpreter computes."""
    rules = [{"name": name} for name in kb.optimizers.names()]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for first in range(0, len(rules), 10):
        state = {"function": function, "x0": x0, "optimizers": rules[first : first + 10], "max_steps": 700}
        for i in range(6):
            ask("descend", **{**state, "x0": [x0[0] + i / 50, x0[1]]})
        ends = [run["x"] for run in ask("descend", **state)["runs"]]
        made = subprocess.run(
            [sys.executable, "-c", replayed("python", state)], capture_output=True, text=True, env=env, check=True
        )
        assert [json.loads(line[line.rindex("[") :]) for line in made.stdout.splitlines()] == ends


@pytest.mark.parametrize("state", STATES)
def test_copy_as_command_prints_the_same_bits(state, monkeypatch):
    ends = [run["x"] for run in ask("descend", **state)["runs"]]
    found = []
    for line in replayed("command", state).splitlines():
        monkeypatch.setattr(sys, "argv", shlex.split(line))
        with contextlib.redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit):
            main()
        found.append(np.atleast_1d(json.loads(out.getvalue())["x"]).tolist())
    assert found == ends


def test_a_map_is_copied_as_python_and_as_a_command(tmp_path, monkeypatch, capsys):
    state = {
        "function": HIMMELBLAU, "window": [[-5, 5], [-5, 5]], "optimizer": {"name": "SGD", "lr": 0.01},
        "resolution": [60, 50], "steps": 100,
    }  # fmt: skip
    found = ask("basins", **state)
    script = REPLAY["replay"]({"kind": "python", "state": {"room": "basins", **state}}, wanted)["text"]
    exec(compile(script, "<copied>", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert [float(line.split()[-1]) for line in printed] == [one["share"] for one in found["minima"]]
    command = REPLAY["replay"]({"kind": "command", "state": {"room": "basins", **state}}, wanted)["text"]
    monkeypatch.chdir(tmp_path)
    *words, to, file = shlex.split(command)
    assert (to, file) == (">", "basins.json")
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None)
    assert (tmp_path / "basins.png").exists()
    made = json.loads(capsys.readouterr().out)
    assert [(one["x"], one["share"]) for one in made["minima"]] == [
        (one["x"].tolist(), one["share"]) for one in found["minima"]
    ]
    np.testing.assert_array_equal(made["label"], found["arrays"]["label"])


# -- bounds -----------------------------------------------------------------------------------------------------------

SGD_SLOW = {"name": "SGD", "lr": 0.05}
FALLING = {"function": {"expression": "x**3 + y**2"}, "x0": [-0.2, 1], "optimizer": SGD_SLOW, "max_steps": 400}


def test_a_fix_by_bounds_is_what_the_page_can_apply():
    falling = FALLING | {"gtol": 1e-6}
    found = ask("fix", **falling)
    assert found["helped"]
    box = found["changes"]["bounds"]
    assert np.shape(box) == (2, 2)
    after = ask("diagnose", **{**falling, **found["changes"]})
    assert after["code"] == "converged"
    run = kb.minimize(
        kb.parse("x**3 + y**2"), [-0.2, 1.0], read_optimizer(found["changes"].get("optimizer", SGD_SLOW)),
        bounds=[tuple(pair) for pair in box], max_steps=400, gtol=1e-6,
    )  # fmt: skip
    assert after["run"]["x"] == run.x.tolist()


def test_every_ask_of_a_descent_stays_within_the_bounds():
    box = [[-0.5, 2], [None, 3]]
    state = {**FALLING, "bounds": box}
    run = kb.minimize(
        kb.parse("x**3 + y**2"), [-0.2, 1.0], kb.SGD(0.05), bounds=[(-0.5, 2), (None, 3)], max_steps=400, gtol=0.0,
        record="all",
    )  # fmt: skip
    paths = ask("descend", **{**state, "optimizers": [SGD_SLOW]})
    assert paths["runs"][0]["x"] == run.x.tolist()
    assert run.x[0] == -0.5
    assert ask("theory", **state)["run"]["x"] == run.x.tolist()
    t = int(np.argmax(run.history.x[:, 0] == -0.5)) - 1  # the step that is put back into the box
    told = ask("step", **{**state, "t": t})
    assert told["x_next"].tolist() == run.history.x[t + 1].tolist()
    assert told["terms"][-1]["formula"] == "project(x, bounds)"
    assert ask("step", **{**state, "t": 0})["terms"][-1]["formula"] != "project(x, bounds)"
    swept = ask("rates", **{**state, "low": 0.01, "high": 0.1, "count": 8})
    assert (swept["arrays"]["x"][:, 0] >= -0.5).all()
    raced = ask("race", **{**state, "optimizers": [SGD_SLOW, {"name": "Adam", "lr": 0.1}], "budget": 100})
    assert all(one["x"][0] >= -0.5 for one in raced["runs"])
    assert ask("find_lr", **state)["lr"] == kb.find_lr(
        kb.parse("x**3 + y**2"), np.array([-0.2, 1.0]), kb.SGD(0.05), bounds=[(-0.5, 2), (None, 3)]
    ).lr  # fmt: skip


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ([[-1, 2]] * 3, "bounds"), ([[1, 0], [0, 2]], "bounds"), ([[0], [1]], r"bounds\[0\]"), ("wide", "bounds"),
        ([[0, "a"], [0, 2]], "high"), ([[2, 3], [0, 2]], "bounds"),
    ],
)  # fmt: skip
def test_bounds_that_can_not_be_used_are_named(box, said):
    with pytest.raises(InputError, match=said):
        ask("descend", **{**FALLING, "optimizers": [SGD_SLOW], "bounds": box})


# -- files ------------------------------------------------------------------------------------------------------------

BEGINNINGS = {"csv": b"optimizer,t,x,y,f,grad_norm,lr\n", "svg": b"<?xml", "png": b"\x89PNG", "gif": b"GIF8"}


@pytest.mark.parametrize("kind", BEGINNINGS)
def test_descents_are_saved(kind):
    state = {**STATES[0], "optimizers": EIGHT[:3], "max_steps": 30}
    found = EXPORT["export"]({"kind": kind, "state": state, "slot": 1}, wanted)
    data = found["arrays"]["bytes"].tobytes()
    assert data.startswith(BEGINNINGS[kind])
    assert found["name"] == f"koubai-descent.{kind}"
    if kind == "csv":
        rows = data.decode().splitlines()
        assert len(rows) == 1 + 3 * 31
        end = ask("descend", **state)["runs"][2]
        assert rows[-1].split(",")[-5:-3] == [repr(number) for number in end["x"]]


def test_maps_are_saved():
    state = {
        "room": "basins", "function": HIMMELBLAU, "window": [[-5, 5], [-5, 5]], "resolution": [20, 30], "steps": 60,
        "optimizer": {"name": "SGD", "lr": 0.01},
    }  # fmt: skip
    table_of = EXPORT["export"]({"kind": "csv", "state": state}, wanted)["arrays"]["bytes"].tobytes().decode()
    assert len(table_of.splitlines()) == 601
    assert EXPORT["export"]({"kind": "png", "state": state}, wanted)["arrays"]["bytes"].tobytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="does not move"):
        EXPORT["export"]({"kind": "gif", "state": state}, wanted)


# -- messages ---------------------------------------------------------------------------------------------------------


def test_an_answer_is_aligned_and_strict_json():
    arrays = {"a": np.arange(3, dtype=np.uint8), "b": np.ones((2, 3), np.float32), "c": np.zeros((0, 2), np.int32)}
    data = packed({"text": "勾配", "bad": [np.nan, np.inf, -np.inf], "number": np.float64(0.1)}, arrays)
    length = int.from_bytes(data[:4], "little")
    assert (4 + length) % 8 == 0
    header = json.loads(data[4 : 4 + length], parse_constant=pytest.fail)
    assert (header["text"], header["bad"], header["number"]) == ("勾配", ["NaN", "Infinity", "-Infinity"], 0.1)
    for name, array in arrays.items():
        told = header["arrays"][name]
        assert told["offset"] % 8 == 0
        found = np.frombuffer(data, told["dtype"], array.size, 4 + length + told["offset"]).reshape(told["shape"])
        np.testing.assert_array_equal(found, array)


def test_asks_from_many_threads_have_the_same_bits():
    arguments = {"function": TYPED, "optimizers": EIGHT, "max_steps": 300}
    starts = [[-7 + 0.5 * i, 2 - 0.1 * i] for i in range(12)]
    alone = [ask("descend", x0=x0, **arguments)["runs"] for x0 in starts]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda x0: ask("descend", x0=x0, **arguments)["runs"], starts * 3))
    for runs, expected in zip(together, alone * 3, strict=True):
        for run, one in zip(runs, expected, strict=True):
            assert run == one | {"executor": run["executor"]}  # compiled when it was long in use


@pytest.mark.parametrize(("name", "arguments"), [*AT_ONCE.items(), *LATER.items()])
def test_what_is_asked_to_warm_up_is_answered(name, arguments):
    assert table()[name](arguments, wanted)
