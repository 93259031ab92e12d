"""What expressions mean, and that hostile text can do nothing."""

import ast
import builtins
import copy
import gc
import pickle
import random
import string
import sys
import threading
import time

import numpy as np
import pytest
from support.hostile import hostile_texts, random_text

from koubai.errors import ExpressionError, InputError
from koubai.functions.expression import (
    CONSTANTS,
    FUNCTIONS,
    MAX_BRACKETS,
    MAX_DEPTH,
    MAX_EXPONENT,
    MAX_LENGTH,
    MAX_TOKENS,
    Expression,
    parse,
)

# ---- meaning


NAMESPACE = {
    **{name: function for name, (_, function) in FUNCTIONS.items()},
    **CONSTANTS,
    "where": lambda condition, a, b: np.float64(a if condition else b),
}


class WholeNumbersAreFloats(ast.NodeTransformer):
    def visit_Constant(self, node):
        return ast.copy_location(ast.Constant(float(node.value)), node)


def test_random_expressions_mean_what_python_and_numpy_say():
    """The oracle is Python's own `eval` on the same (trusted) text, one point at a time."""
    rng = random.Random(1)
    points = np.random.default_rng(1).uniform(-3, 3, (3, 4))
    compared = finite = 0
    refusals = []
    for _ in range(2000):
        text = random_text(rng, 4)
        try:
            f = parse(text)
        except ExpressionError as error:
            refusals.append(str(error))
            continue
        code = compile(WholeNumbersAreFloats().visit(ast.parse(text.strip(), mode="eval")), "<trusted>", "eval")
        for point in points.T:
            scope = dict(zip("xyz", point, strict=True))
            x = point[["xyz".index(name) for name in f.variables]]
            with np.errstate(all="ignore"):
                # where chooses in the oracle and evaluates both here: the chosen one must be the same
                expected = eval(code, {"__builtins__": {}}, {**NAMESPACE, **scope})
                got = f(x if len(f.variables) > 1 else x[0])
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=0, err_msg=text)
            compared += 1
            finite += bool(np.isfinite(got))
    assert compared > 5000
    assert finite > 3500
    # Well-formed text is refused for its values only: a constant 1/0, or no variable at all.
    assert all("constant part" in message or "no variable" in message for message in refusals)


@pytest.mark.parametrize(
    ("text", "x", "expected"),
    [
        ("-x**2", 3.0, -9.0),
        ("2**-x", 1.0, 0.5),
        ("x**y**z", [2.0, 3.0, 2.0], 512.0),
        ("x - y - z", [1.0, 2.0, 3.0], -4.0),
        ("x / y * z", [8.0, 2.0, 4.0], 16.0),
        ("x % 3", -1.0, 2.0),
        ("7 // 2 * x", 1.0, 3.0),
        ("1/3*x", 3.0, 1.0),
        ("x // -2", 3.0, -2.0),
        ("where(0 < x < 1, 10, 20) + 0*x", 0.5, 10.0),
        ("where(0 < x < 1, 10, 20)", 1.5, 20.0),
        ("where(1 < 2, x, -x)", 5.0, 5.0),
        ("clip(x, -1, 1)", 7.0, 1.0),
        ("hypot(x, y)", [3.0, 4.0], 5.0),
        ("atan2(y, x)", [0.0, 2.0], np.pi / 2),
        ("sin(pi) + x*e", 1.0, np.sin(np.pi) + np.e),
        ("(x-1)**2 + (y-2)**2", [-3.0, 4.0], 20.0),
        ("\n  x\t*\ny \r", [2.0, 3.0], 6.0),
        ("max(min(x, 2), 1)", 9.0, 2.0),
    ],
)
def test_meaning(text, x, expected):
    assert parse(text)(x) == expected
    assert parse(text)(np.array(x)) == expected


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_function_is_numpys(name):
    count, function = FUNCTIONS[name]
    x = np.random.default_rng(2).uniform(0.1, 0.9, (count, 50))
    if name in ("acosh", "arccosh"):
        x += 1
    if name == "where":
        f, expected = parse("where(x < 0.5, y, z)"), np.where(x[0] < 0.5, x[1], x[2])
    else:
        f, expected = parse(f"{name}({', '.join('xyz'[:count])})"), function(*x)
    assert np.array_equal(f(x if count > 1 else x[0]), expected)
    with pytest.raises(ExpressionError, match=f"{name} takes {count} argument"):
        parse(f"{name}(x{', x' * count})")
    with pytest.raises(ExpressionError, match=f"this is a function; write {name}"):
        parse(f"x + {name}")


@pytest.mark.parametrize("comparison", ["<", "<=", ">", ">=", "==", "!="])
def test_comparisons(comparison):
    f = parse(f"where(x {comparison} 1, 10, 20)")
    x = np.array([0.0, 1.0, 2.0])
    assert np.array_equal(f(x), np.where(eval(f"x {comparison} 1"), 10, 20))


def test_an_array_in_one_call_equals_its_points():
    f = parse("x**2 + 3*sin(y) - exp(-x*y)/2")
    grid = np.random.default_rng(3).uniform(-2, 2, (2, 3, 4))
    before = grid.copy()
    values = f(grid)
    assert values.shape == (3, 4)
    assert values.dtype == np.float64
    expected = [f(point) for point in grid.reshape(2, -1).T]
    np.testing.assert_allclose(values.ravel(), expected, rtol=1e-14)
    assert np.array_equal(grid, before)


@pytest.mark.parametrize("text", ["x", "+x", "(x)", "-x", "x**2", "where(x > 0, x, -x)", "abs(x)", "maximum(x, 0)"])
def test_one_variable_keeps_the_shape_and_shares_no_memory(text):
    f = parse(text)
    for x in (2.5, 2, np.float32(2.5), np.array(2.5)):
        assert type(f(x)) is np.float64
    for shape in ((1,), (4,), (1, 3), (2, 3)):
        x = np.full(shape, 2.5)
        assert f(x).shape == shape
        assert f(x).dtype == np.float64
        assert not np.shares_memory(f(x), x)
    assert f([1, 2, 3]).dtype == np.float64


def test_two_variables_give_one_number_at_one_point():
    f = parse("where(x > y, x, y)")
    assert type(f([1, 2])) is np.float64
    assert type(f(np.array([1.0, 2.0]))) is np.float64
    assert f(np.array([[1, 5], [2, 3]], dtype=np.int32)).tolist() == [2.0, 5.0]
    assert f(np.ones((2, 1), dtype=np.float32)).dtype == np.float64


@pytest.mark.parametrize("x", [3.0, [1.0], [1.0, 2.0, 3.0], np.ones((3, 2))])
def test_wrong_shapes_name_the_variables(x):
    with pytest.raises(InputError, match=r"x must have shape \(2, …\).*variables x, y; got shape"):
        parse("x + y")(x)


@pytest.mark.parametrize("x", ["1", None, [1 + 2j, 3], [[1], [1, 2]], np.array([object(), 1]), [True, False]])
def test_what_is_not_real_numbers_is_refused(x):
    for text in ("x**2", "x + y"):
        with pytest.raises(InputError, match="x is"):
            parse(text)(x)


def test_float_warnings_follow_numpy():
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        assert parse("1/x")(0.0) == np.inf
    with pytest.warns(RuntimeWarning, match="invalid value"):
        assert np.isnan(parse("log(x)")(np.array([-1.0]))[0])


def test_every_step_is_a_numpy_operation_on_the_input():
    """Array types of other kinds see each operation: that is how a function is traced."""

    class Watched(np.lib.mixins.NDArrayOperatorsMixin):
        def __init__(self, value, seen):
            self.value, self.seen, self.shape = value, seen, np.shape(value)

        def __getitem__(self, i):
            return Watched(self.value[i], self.seen)

        def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
            self.seen.append(ufunc.__name__)
            plain = [i.value if isinstance(i, Watched) else i for i in inputs]
            return Watched(getattr(ufunc, method)(*plain, **kwargs), self.seen)

        def __array_function__(self, function, types, args, kwargs):
            self.seen.append(function.__name__)
            return Watched(function(*[a.value if isinstance(a, Watched) else a for a in args], **kwargs), self.seen)

    seen = []
    result = parse("where(x > 0, x**2 + 3*sin(y), -x) / 2")(Watched(np.array([1.0, 2.0]), seen))
    assert isinstance(result, Watched)
    assert result.value == (1 + 3 * np.sin(2.0)) / 2
    assert sorted(seen) == sorted(["greater", "power", "sin", "multiply", "add", "negative", "where", "divide"])


def test_whole_exponents_stay_whole():
    """x**2 as people write it: exact squares, and negative bases keep their powers."""
    x = np.array([-1.1, 1.3, 2.7])
    assert np.array_equal(parse("x**2")(x), x**2)
    assert np.array_equal(parse("x**(4/2)")(x), x**2)
    assert np.array_equal(parse("x**-3")(x), x**-3)


# ---- variables and the object


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("y + x", ("x", "y")),
        ("x10 + x2 + x0 + x1 + x3 + x4 + x5 + x6 + x7 + x8 + x9", tuple(f"x{i}" for i in range(11))),
        ("x1 * x2", ("x1", "x2")),
        ("w10 + w9 + b", ("b", "w9", "w10")),
        ("x2 + y", ("x2", "y")),
        ("a_1 + match + Z", ("Z", "a_1", "match")),
        ("x0 + 0*x1 + x2", ("x0", "x1", "x2")),
        ("sinx + pie", ("pie", "sinx")),
    ],
)
def test_order_of_variables(text, variables):
    f = parse(text)
    assert f.variables == variables
    unit = np.eye(len(variables))
    for k, name in enumerate(variables):  # entry k is variable k
        assert f(unit[k]) == eval(text, {}, {v: float(v == name) for v in variables})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x0 + x2", "x2 occurs in .* but x1 does not"),
        ("x2 + x3", "x3 occurs in .* but x1 does not"),
        ("x30445166+x1", "x30445166 occurs in .* but x2 does not"),  # not by looking at every number between
        (f"x{10**30} + x0 + x1", "but x2 does not"),
        ("+".join(f"x{i}" for i in range(190)) + "+x99999999999999999999", "but x190 does not"),
        ("x + x0", "x and x0 both occur"),
        ("x + x7*y", "x and x7 both occur"),
        ("x01 + x0", "leading 0"),
        ("x00", "leading 0"),
        ("x1 + x01", "leading 0"),
    ],
)
def test_doubtful_numbering_is_refused(text, message):
    with pytest.raises(ExpressionError, match=message):
        parse(text)


def test_the_object():
    f = parse("  x**2 + 3*sin(y) ")
    assert isinstance(f, Expression)
    assert f.text == str(f) == "x**2 + 3*sin(y)"
    assert repr(f) == "<Expression x**2 + 3*sin(y) of x, y>"
    assert f == parse("x**2 + 3*sin(y)")
    assert hash(f) == hash(parse("x**2 + 3*sin(y)"))
    assert f != parse("x**2 + 3*sin(y) + 0")
    for twin in (pickle.loads(pickle.dumps(f)), copy.copy(f), copy.deepcopy(f)):
        assert twin == f
        assert twin.variables == ("x", "y")
        assert twin([2, 0]) == 4
    with pytest.raises(AttributeError):
        f.text = "x"


# ---- refusals


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("3", "no variable"),
        ("pi*2", "no variable"),
        ("where(1 < 2, 3, 4)", "no variable"),
        ("x^2", r"'\^' at position 2 of 'x\^2'.*write \*\* for a power"),
        ("x² + 1", r"'²' at position 2.*write \*\*2"),
        ("2×x", r"write \*"),
        ("x − 1", "write - "),
        ("π*x", "write pi"),
        ("ｓin(x)", r"'ｓ' at position 1.*write the plain ASCII 's'"),
        ("𝓍 + 1", r"U\+1D4CD.*write the plain ASCII 'x'"),
        ("x＋1", "write the plain ASCII '\\+'"),
        ("ѕin(x)", r"U\+0455"),
        ("np.sin(x)", "by their name alone, as in sin"),
        ("x[0] + x[1]", r"write x0 for x\[0\]"),
        ("2x", r"no operator between '2' and it; write \* for a product"),
        ("2(x + 1)", "no operator between '2' and it"),
        ("(x)(y)", "no operator between '\\)' and it"),
        ("x y", "no operator between 'x' and it"),
        ("1j*x", "no operator between '1' and it"),
        ("0x10*x", "no operator between '0' and it"),
        ("1_000*x", "start with an underscore"),
        ("snh(x)", "unknown function 'snh'; did you mean 'sinh'"),
        ("ln(x)", "the natural logarithm"),
        ("pow(x, 2)", r"write a\*\*b"),
        ("x(y + 1)", r"unknown function 'x'; for a product write x\*"),
        ("sin x", r"write sin\("),
        ("sin(x, y)", r"'sin\(x, y\)' at position 1.*takes 1 argument\(s\), not 2"),
        ("sin()", "takes 1 argument"),
        ("x if y else z", "'if' at position 3.*write where"),
        ("x < 1", "only as the first argument of where"),
        ("(x < 1) * x", "only as the first argument of where"),
        ("where(x, 1, 2)", "must be a comparison"),
        ("where(x < 1 and x > 0, 1, 2)", "comparisons chain"),
        ("lambda: x", "word of Python's"),
        ("True*x", "word of Python's"),
        ("None", "word of Python's"),
        ("x, y", "comma outside"),
        ("()", "ends with|comma outside|can't stand"),
        ("sin(x=1)", "arguments go by position"),
        ("sin(*x)", r"'\*x' at position 5"),
        ("sin(**x)", "is not part of an expression"),
        ("x +", r"'\+' at position 3.*ends with it"),
        ("(x", "never closed"),
        ("x)", "no bracket is open"),
        ("x +* y", r"'\* y' at position 4.*can't stand here"),
        ("x <> y", "can't stand here"),
        ("__import__('os')", "underscore"),
        ("_x", "underscore"),
        ("x\0", r"U\+0000"),
        ("\ud800*x", r"U\+D800"),
        ("1e999*x", "too large for float64"),
        ("1e-999*x", "too small for float64"),
        ("1" * 60 + "*x", "longer than 50 characters"),
        ("007*x", "can't start with 0; write 7"),
        ("1/0*x", "constant part is inf"),
        ("log(0) + x", "constant part is -inf"),
        ("sqrt(-1)*x", "constant part is nan"),
        ("9**9**9**9", "exponent 3.8742e\\+08 is beyond"),
        ("x**9**9**9", "is beyond"),
        ("x**1e300", "is beyond"),
        ("10.0**999*x", "constant part is inf"),
        ("a" * 33, "longer than 32 characters"),
    ],
)
def test_each_refusal_names_the_piece_and_the_fix(text, message):
    with pytest.raises(ExpressionError, match=message):
        parse(text)


@pytest.mark.parametrize("value", [None, 3, b"x", ["x"], np.float64(1)])
def test_only_text_is_parsed(value):
    with pytest.raises(ExpressionError, match="must be text"):
        parse(value)


@pytest.mark.parametrize(
    ("fits", "too_much", "message"),
    [
        ("x" + " " * (MAX_LENGTH - 3) + "+x", "x" + " " * (MAX_LENGTH - 2) + "+x", "characters"),
        (
            "+".join(["(x" + "+x" * 99 + ")"] * (MAX_TOKENS // 202)),
            "+".join(["(x" + "+x" * 99 + ")"] * (MAX_TOKENS // 202 + 1)),
            "numbers, names and operators",
        ),
        ("x" + "+x" * (MAX_DEPTH - 1), "x" + "+x" * MAX_DEPTH, "deep"),
        ("-" * (MAX_DEPTH - 1) + "x", "-" * MAX_DEPTH + "x", "deep"),
        ("(" * MAX_BRACKETS + "x" + ")" * MAX_BRACKETS, "(" * (MAX_BRACKETS + 1) + "x", "brackets are open"),
        (f"x**{MAX_EXPONENT}", f"x**{MAX_EXPONENT + 1}", "is beyond"),
        (f"x**-{MAX_EXPONENT}", f"x**-{MAX_EXPONENT}.5", "is beyond"),
        ("x*" + "1" * 50, "x*" + "1" * 51, "longer than 50"),
        ("a" * 32, "a" * 33, "longer than 32"),
    ],
)
def test_limits(fits, too_much, message):
    f = parse(fits)
    assert np.isfinite(f(1.0))
    with pytest.raises(ExpressionError, match=message):
        parse(too_much)


# ---- hostile text

watched: list[str] | None = None


def _watch(event: str, args: object) -> None:
    if watched is not None:
        watched.append(event)


sys.addaudithook(_watch)  # it can't be removed again, and costs nothing while `watched` is None


def test_hostile_text_is_refused_and_nothing_runs(monkeypatch):
    """Whatever Python would do beyond parsing (import, open, run code, start a process) raises an audit event."""
    global watched
    real_compile, calls = builtins.compile, []

    def compile_to_tree_only(source, filename, mode, flags=0, *args, **kwargs):
        calls.append(flags)
        return real_compile(source, filename, mode, flags, *args, **kwargs)

    def forbidden(*args, **kwargs):
        raise AssertionError("text was run")

    texts = list(hostile_texts(5000))
    x = {n: np.linspace(0.1, 0.9, n) for n in range(2, 40)}
    accepted, refusals = [], []
    monkeypatch.setattr(builtins, "compile", compile_to_tree_only)
    monkeypatch.setattr(builtins, "eval", forbidden)
    monkeypatch.setattr(builtins, "exec", forbidden)
    monkeypatch.setattr(builtins, "open", forbidden)
    watched = events = []
    try:
        for text in texts:
            try:
                f = parse(text)
            except ExpressionError as error:
                refusals.append(str(error))
                continue
            with np.errstate(all="ignore"):
                value = f(0.7 if len(f.variables) == 1 else x[len(f.variables)])
            accepted.append((text, value))
    finally:
        watched = None
        monkeypatch.undo()
    assert set(events) <= {"compile"}, set(events)
    assert all(flags & ast.PyCF_ONLY_AST for flags in calls)
    assert len(calls) > 500  # many got as far as the parser
    assert len(refusals) > 3500
    assert len(accepted) > 300  # random soup is well-formed now and then
    assert all(type(value) is np.float64 for _, value in accepted)
    plain = set(string.ascii_letters + string.digits + "_.+-*/%(),<>=! \t\r\n")
    assert all(set(text) <= plain for text, _ in accepted)
    assert not any(name.startswith("_") for text, _ in accepted for name in parse(text).variables)
    for message in refusals:
        assert message.isprintable()
        assert len(message) < 700


def test_the_watch_would_see_code_run():
    """The hostile test can fail: the same watch catches an import, a file and an eval."""
    global watched
    watched = events = []
    try:
        eval("1 + 1")
        with open(__file__):
            pass
    finally:
        watched = None
    assert {"compile", "exec", "open"} <= set(events)


def test_threads_that_parse_at_once_do_not_disturb_each_other():
    """Python before 3.11.8 counts the depth of all threads' trees together, and takes a switch for an error."""
    refused, before = [], gc.get_threshold()

    def work(k):
        for n in range(100):
            try:
                parse("+".join(f"sin(x*{k}.{n})**{j}" for j in range(1, 8)))
            except BaseException as error:
                refused.append(error)

    def switch(*_):
        time.sleep(0)

    gc.callbacks.append(switch)
    gc.set_threshold(50)
    try:
        threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(switch)
    assert not refused
