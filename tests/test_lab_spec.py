"""The specification of a descent: written by a run, read by minimize, lab and command line, refused if wrong."""

import inspect
import json
import math

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import koubai as kb
from koubai.cli import app
from koubai.descent.optimizers import SEMANTICS
from koubai.descent.spec import FORMAT, read, read_optimizer, schema
from koubai.errors import ExpressionError, InputError, UnknownNameError

TEXT = "(x - 1)**2/20 + y**2 + 0.3*sin(x*y)**2"
SPEC = {
    "koubai": 1, "function": {"expression": TEXT}, "x0": [-7, 2],
    "optimizer": {"name": "Adam", "lr": 0.1, "beta1": 0.8}, "options": {"max_steps": 60, "gtol": 0.0}, "seed": 3,
}  # fmt: skip
EACH = [
    (name, semantics)
    for name in kb.optimizers.names()
    for semantics in SEMANTICS[kb.optimizers.resolve(name).rule.name]
]


def json_of(spec):
    return json.loads(json.dumps(spec, allow_nan=False))


@pytest.mark.parametrize(("name", "semantics"), EACH)
def test_every_optimizers_run_is_made_again_from_its_spec(name, semantics):
    optimizer = kb.optimizers.resolve(name, semantics=semantics)
    run = kb.minimize(kb.parse(TEXT), [-7.0, 2.0], optimizer, max_steps=40, gtol=0.0, seed=5)
    again = kb.minimize(json_of(run.spec))
    np.testing.assert_array_equal(again.x, run.x)
    np.testing.assert_array_equal(again.history.x, run.history.x)
    assert (again.optimizer, again.nit, again.status, again.seed) == (run.optimizer, run.nit, run.status, 5)
    assert again.spec == run.spec


@pytest.mark.parametrize(
    ("f", "x0", "options"),
    [
        (kb.problems["himmelblau"].f, [-1.0, 1.0], {"lr": 0.01, "bounds": [(-2, None), (None, 5)]}),
        (kb.parse("x**4 - 3*x**2 + x"), 2.0, {"lr": 0.02}),
        (kb.problems["sphere"].f, np.arange(6.0), {"optimizer": "lbfgs", "target": 1e-9, "ftol": 1e-12, "xtol": 0.0}),
        (kb.parse("x**2 + y**2"), [3.0, 4.0], {"optimizer": "auto"}),
        (kb.parse("x**2 + y**2"), [3.0, 4.0], {"optimizer": kb.SGD(kb.schedules.cosine(0.1, 50)), "max_steps": 50}),
        (kb.parse("x**2 + y**2"), [3.0, 4.0], {"lr": 0.1, "grad": "central", "record": "all"}),
    ],
)
def test_forms_bounds_tolerances_and_schedules_are_kept(f, x0, options):
    run = kb.minimize(f, x0, **options)
    again = kb.minimize(json_of(run.spec))
    np.testing.assert_array_equal(again.x, run.x)
    assert type(again.x) is type(run.x)
    assert (again.nit, again.message, again.options) == (run.nit, run.message, run.options)


def test_a_problem_brings_its_own_start_and_defaults_stand():
    run = kb.minimize({"koubai": 1, "function": {"problem": "rosenbrock"}})
    np.testing.assert_array_equal(run.x, kb.minimize(kb.problems["rosenbrock"].f, [-1.2, 1.0]).x)


def test_numbers_that_are_not_finite_are_words():
    optimizer = kb.NAdam(lr=0.1, momentum_decay=math.inf)
    spec = kb.minimize(kb.parse(TEXT), [-7.0, 2.0], optimizer, max_steps=5, gtol=0.0).spec
    assert spec["optimizer"]["hyperparameters"]["momentum_decay"] == "Infinity"
    assert read(json_of(spec)).optimizer == optimizer


def test_an_optimizer_is_written_flat_or_nested_and_has_its_frameworks_defaults():
    flat = read_optimizer({"name": "adam", "lr": 0.1, "semantics": "keras", "beta1": 0.5})
    assert flat == kb.Adam(0.1, semantics="keras", beta1=0.5)
    assert read_optimizer({"name": "Adam", "lr": 0.1, "hyperparameters": {"beta1": 0.5}}) == kb.Adam(0.1, beta1=0.5)
    assert read_optimizer("sgd") == kb.SGD()
    assert read_optimizer("auto") == "auto"


def test_nothing_that_the_specification_says_is_given_beside_it():
    for name, value in {"lr": 0.1, "max_steps": 5, "gtol": 0.0, "seed": 1, "args": (1,), "bounds": (0, 1)}.items():
        with pytest.raises(InputError, match=f"{name} is given beside a specification"):
            kb.minimize(SPEC, **{name: value})
    with pytest.raises(InputError, match="x0 is given beside"):
        kb.minimize(SPEC, [1.0, 2.0])
    with pytest.raises(InputError, match="optimizer is given beside"):
        kb.minimize(SPEC, optimizer="adam")
    steps = []
    run = kb.minimize(SPEC, record="all", on_step=lambda step: steps.append(step.t))
    assert (len(run.history), steps) == (61, list(range(61)))


def test_a_start_is_asked_for():
    with pytest.raises(InputError, match="give the start"):
        kb.minimize(kb.parse("x**2"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"koubai": 2}, '"koubai" must be 1'),
        ({"koubai": True}, '"koubai" must be 1'),
        ({"koubai": "1"}, '"koubai" must be 1'),
        ({"function": {}}, "function must be"),
        ({"function": {"problem": "x", "expression": "x"}}, "function must be"),
        ({"function": {"name": "m.f"}}, "only named"),
        ({"function": "x**2"}, "function must be"),
        ({"function": {"problem": 1}}, "function.problem must be text"),
        ({"x0": []}, "x0 is empty"),
        ({"x0": [[1], [2, 3]]}, "rows"),
        ({"x0": [1, "2"]}, "x0 must be a number"),
        ({"x0": [1, True]}, "x0 must be a number"),
        ({"x0": [1e999, 0]}, "finite"),
        ({"x0": "origin"}, "x0 must be a number"),
        ({"x0": [0.0] * 20_000}, "more than 10000"),
        ({"optimizer": {"lr": 0.1}}, "no 'name' in optimizer"),
        ({"optimizer": {"name": "Adam", "lr": -1}}, "optimizer.lr must be a number ≥ 0"),
        ({"optimizer": {"name": "Adam", "lr": "auto"}}, "optimizer.lr must be a number"),
        ({"optimizer": {"name": "Adam", "beta": 0.1}}, "beta"),
        ({"optimizer": {"name": "Adam", "beta1": 2}}, "beta1"),
        ({"optimizer": {"name": "Adam", "lr": {"schedule": "none"}}}, "schedules"),
        ({"optimizer": {"name": "Adam", "semantics": "jax"}}, "semantics"),
        ({"optimizer": 5}, "optimizer must be a name"),
        ({"options": {"max_step": 5}}, "no 'max_step' in options"),
        ({"options": {"max_steps": 1.5}}, "options.max_steps must be a whole number"),
        ({"options": {"gtol": -1}}, "options.gtol must be a number ≥ 0"),
        ({"options": {"grad": "user"}}, "options.grad must be one of"),
        ({"options": {"bounds": [[1, 2, 3]]}}, "options.bounds"),
        ({"seed": 0.5}, "seed must be a whole number"),
        ({"extra": 1}, "no 'extra'"),
    ],
)
def test_what_can_not_be_used_is_named(change, message):
    with pytest.raises(InputError, match=message.replace("[", r"\[")):
        kb.minimize({**SPEC, **change})


def test_known_errors_pass_through():
    with pytest.raises(UnknownNameError, match="did you mean 'himmelblau'"):
        read({**SPEC, "function": {"problem": "himmelblaw"}})
    with pytest.raises(ExpressionError, match=r"write \*\* for a power"):
        read({**SPEC, "function": {"expression": "x^2"}})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = ["koubai", "function", "x0", "optimizer", "options", "seed"]


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=3))
def test_whatever_json_is_read_the_answer_is_a_specification_or_an_input_error(change):
    try:
        found = read({**SPEC, **change})
    except InputError:
        return
    assert callable(found.f)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["name", "lr", "beta1", "eps", "semantics", "groups", "hyperparameters"]), JSON))
def test_whatever_an_optimizer_is_the_answer_is_an_optimizer_or_an_input_error(change):
    try:
        found = read_optimizer({"name": "Adam", **change})
    except InputError:
        return
    assert isinstance(found, kb.optimizers.Optimizer)


# -- the schema -------------------------------------------------------------------------------------------------------

SCHEDULES = [one["properties"]["schedule"]["enum"][0] for one in schema()["$defs"]["schedule"]["oneOf"]]
VALIDATOR = jsonschema.Draft202012Validator(schema())
# what reading finds out, and a schema can't say: texts of a grammar, names, and one part that depends on another
ONLY_READ = {
    "only a whole": [{"options": {"max_steps": 1.0}}],  # a float, which JSON Schema takes for a whole number
    "names": [{"optimizer": "nothing"}, {"optimizer": {"name": "Adam", "beta": 0.1}}],
    "ranges of settings": [{"optimizer": {"name": "Adam", "beta1": 2}}],
    "frameworks": [{"optimizer": {"name": "Adam", "semantics": "jax"}}],
    "rows": [{"x0": [[1], [2, 3]]}],
    "sizes": [{"x0": [0.0] * 20_000}, {"x0": [1e999, 0]}],
    "expressions": [{"function": {"expression": "x^2"}}],
}


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(schema())
    assert json.loads(json.dumps(schema(), allow_nan=False)) == schema()
    # every field that is read is in it, by the same names: both are made of the same descriptions
    assert set(schema()["properties"]) == {"koubai", "function", "x0", "optimizer", "options", "seed"}
    options = set(schema()["properties"]["options"]["properties"])
    assert options <= set(inspect.signature(kb.minimize).parameters)


@pytest.mark.parametrize(("name", "semantics"), EACH)
def test_the_schema_accepts_what_a_run_writes(name, semantics):
    optimizer = kb.optimizers.resolve(name, semantics=semantics)
    VALIDATOR.validate(json_of(kb.minimize(kb.parse(TEXT), [-7.0, 2.0], optimizer, max_steps=1, seed=5).spec))


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_schema_knows_the_schedules(name):
    given = {key: {"steps": 50} for key in ("cosine", "linear", "one_cycle", "warmup")}
    given |= {"step": {"every": (3, 7)}, "exponential": {"gamma": 0.9}}
    base = kb.schedules.constant(0.1)
    schedule = getattr(kb.schedules, name)(base if name == "warmup" else 0.1, **given.get(name, {}))
    spec = json_of(kb.minimize(kb.parse(TEXT), [-7.0, 2.0], kb.SGD(schedule), max_steps=1).spec)
    VALIDATOR.validate(spec)
    assert read(spec).optimizer == kb.SGD(schedule)
    spec["optimizer"]["lr"]["more"] = 1
    assert not VALIDATOR.is_valid(spec)
    with pytest.raises(InputError, match="no 'more'"):
        read(spec)


@pytest.mark.parametrize(
    "change",
    [
        {"koubai": 2}, {"koubai": "1"}, {"koubai": True}, {"extra": 1}, {"seed": 0.5}, {"seed": True},
        {"function": {}}, {"function": "x**2"}, {"function": {"problem": "x", "expression": "x"}},
        {"function": {"name": "m.f"}}, {"function": {"problem": "none"}}, {"function": {"expression": 1}},
        {"x0": []}, {"x0": [[]]}, {"x0": [1, "2"]}, {"x0": [1, True]}, {"x0": "origin"}, {"x0": None},
        {"x0": {"a": [None]}}, {"optimizer": 5}, {"optimizer": {"lr": 0.1}}, {"optimizer": {"name": 1}},
        {"optimizer": {"name": "Adam", "lr": -1}}, {"optimizer": {"name": "Adam", "lr": "auto"}},
        {"optimizer": {"name": "Adam", "lr": {"schedule": "none"}}}, {"optimizer": {"name": "Adam", "beta1": [1]}},
        {"optimizer": {"name": "Adam", "hyperparameters": []}}, {"optimizer": {"name": "Adam", "semantics": 2}},
        {"options": {"max_step": 5}}, {"options": {"max_steps": 1.5}}, {"options": {"max_steps": -1}},
        {"options": {"gtol": -1}}, {"options": {"gtol": "0"}}, {"options": {"grad": "user"}},
        {"options": {"record": True}}, {"options": {"target": "big"}}, {"options": {"bounds": [[1, 2, 3]]}},
        {"options": {"bounds": [[1]]}}, {"options": {"bounds": [1, 2]}}, {"options": []},
    ],
)  # fmt: skip
def test_the_schema_refuses_what_reading_refuses(change):
    assert not VALIDATOR.is_valid({**SPEC, **change})
    with pytest.raises(InputError):
        read({**SPEC, **change})


@pytest.mark.parametrize("field", ["koubai", "function"])
def test_the_schema_asks_for_what_is_needed(field):
    spec = {key: value for key, value in SPEC.items() if key != field}
    assert not VALIDATOR.is_valid(spec)
    with pytest.raises(InputError):
        read(spec)


@pytest.mark.parametrize("why", ONLY_READ)
def test_what_only_reading_finds_out(why):
    for change in ONLY_READ[why]:
        assert VALIDATOR.is_valid({**SPEC, **change})
        with pytest.raises(InputError):
            read({**SPEC, **change})


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.sampled_from(NAMES), JSON, max_size=2), st.dictionaries(st.text(max_size=4), JSON, max_size=2)
)
def test_the_schema_refuses_nothing_that_is_read(change, of_the_optimizer):
    spec = {**SPEC, "optimizer": {"name": "Adam", **of_the_optimizer}, **change}
    try:
        read(spec)
    except InputError:
        return
    assert VALIDATOR.is_valid(spec)


# -- where an expression is wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("x**2 + y^2", (8, 9)), ("  x $ y", (4, 5)), ("sin x", (0, 3)), ("x + (y", (4, 5)), ("x +", (2, 3)),
        ("foo(x)", (0, 6)), ("x + where(x, 1, 2)", (10, 11)), ("", None), ("3", None),
    ],
)  # fmt: skip
def test_an_expressions_error_says_where(text, position):
    with pytest.raises(ExpressionError) as caught:
        kb.parse(text)
    assert caught.value.position == position


# -- the command line -------------------------------------------------------------------------------------------------


def called(*words):
    return CliRunner().invoke(app, list(map(str, words)), catch_exceptions=True)


def test_the_command_line_makes_the_descent_of_a_file(tmp_path):
    path = tmp_path / "run.json"
    run = kb.minimize(SPEC)
    path.write_text(json.dumps(SPEC))
    shown = json.loads(called("minimize", "--spec", path, "--json").stdout)
    assert shown["x"] == run.x.tolist()
    assert shown["function"] == TEXT
    path.write_text(json.dumps(run.spec))
    assert json.loads(called("minimize", "--spec", path, "--json").stdout)["x"] == run.x.tolist()
    assert TEXT in called("minimize", "--spec", path, "-o", tmp_path / "path.png").stdout
    assert (tmp_path / "path.png").exists()


def test_the_command_line_takes_nothing_that_the_file_says(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(SPEC))
    for words, told in ((("x**2",), "FUNCTION"), (("--lr", 1), "--lr"), (("--max-steps", 5), "--max-steps")):
        error = called("minimize", *words, "--spec", path).exception
        assert isinstance(error, InputError)
        assert str(error).startswith(f"{told} is given beside --spec")
    assert "give the function" in str(called("minimize").exception)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"koubai": 1}', "x" * 2_000_000])
def test_a_file_that_is_no_specification_is_refused(tmp_path, text):
    path = tmp_path / "run.json"
    path.write_text(text)
    assert isinstance(called("minimize", "--spec", path).exception, InputError)
    assert isinstance(called("minimize", "--spec", tmp_path).exception, InputError)


def test_the_command_line_prints_the_schema():
    printed = called("minimize", "--spec-schema")
    assert printed.exit_code == 0
    assert json.loads(printed.stdout) == schema()


def test_the_format_is_one():
    assert FORMAT == 1
