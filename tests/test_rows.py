"""A row that is registered while this runs is fast everywhere: no executor has to be told of a new primitive."""

import contextlib
import functools
import re
from pathlib import Path

import numpy as np
import pytest
from support.native import compile_native

import koubai as kb
from koubai.descent import compiled_stepper
from koubai.descent.many import minimize_many
from koubai.execute import choose, library, loops, replay
from koubai.execute.arrays import compile_arrays
from koubai.execute.elements import NotLowerable
from koubai.execute.floats import compile_floats
from koubai.execute.interpreter import interpret
from koubai.execute.update import Update, Workspace
from koubai.graph.call import trace
from koubai.graph.formula import traced
from koubai.graph.graph import evaluate
from koubai.graph.ops import OPS, Index, Monoid, Op, add_row, apply, expand, reduced_shape, zeros
from koubai.graph.standins import STANDINS

machine = pytest.mark.skipif(not library.available(), reason="llvmlite can't be loaded")


# -- the rows, each in one place --------------------------------------------------------------------------------------


def soft_sign(x):
    return x / (1.0 + np.absolute(x))


def log_cosh(x):
    size = np.absolute(x)
    return size + np.log1p(np.exp(-2.0 * size)) - np.log(2.0)


def squares(x, *, axis, keepdims):
    return apply("sum", x * x, axis=axis, keepdims=keepdims)


def either(a, b):
    """The probability of either of two events that know nothing of each other."""
    return a + b - a * b


def any_of(x, *, axis, keepdims):
    return -np.expm1(np.sum(np.log1p(-x), axis=axis, keepdims=keepdims))


def any_of_vjp(g, y, x, *, axis, keepdims):
    return expand(g, x.shape, axis, keepdims) * (1.0 - expand(y, x.shape, axis, keepdims)) / (1.0 - x)


def picked(x, *arrays, index):
    return x[index.fill(arrays)]


def picked_vjp(i, g, y, x, *arrays, index):
    return apply("add_at", zeros(g, x.shape, g.dtype), g, *arrays, index=index) if i == 0 else None


SLOPE = (lambda g, y, x: g / np.square(1.0 + np.absolute(x)),)
ROWS = (
    Op("soft_sign", soft_sign, SLOPE, elementwise=True, lower=soft_sign),
    Op("log_cosh", log_cosh, (lambda g, y, x: g * np.tanh(x),), elementwise=True, lower=log_cosh),
    Op(
        "squares",
        squares,
        (lambda g, y, x, *, axis, keepdims: 2.0 * expand(g, x.shape, axis, keepdims) * x,),
        shape=reduced_shape,
        lower=squares,
    ),
    Op("either", either, (lambda g, y, a, b: g - g * b, lambda g, y, a, b: g - g * a), elementwise=True, lower=either),
    Op("any_of", any_of, (any_of_vjp,), shape=reduced_shape, reduces=Monoid("either", 0.0)),
    Op("picked", picked, picked_vjp, index="reads", moves=True, exact=True),
    Op("halves", lambda x: np.full_like(x, 0.5), shape=lambda x: x, fills=0.5, moves=True, exact=True),
)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    for function in (apply, flipped, of_each_row):  # as NumPy's functions are, they may be called by what is traced
        monkeypatch.setitem(STANDINS, function, function)
    before = dict(OPS)
    for row in ROWS:
        add_row(row)
    yield
    OPS.clear()
    OPS.update(before)


def flipped(x):
    """Return the elements from the last one to the first."""
    return apply("picked", x, index=Index((slice(None, None, -1),)))


def of_each_row(x, columns):
    """Return one element of each row, as a column."""
    index = Index((Index.HOLE, Index.HOLE))
    return apply("picked", x, np.arange(len(x)), columns, index=index).reshape(-1, 1)


def reduction(name, x, axis=None, keepdims=False):
    return apply(name, x, axis=axis, keepdims=keepdims)


# Functions of a vector, and of a matrix, that have each row somewhere
VECTORS = {
    "soft_sign": lambda x: np.sum(apply("soft_sign", x * 1.5) ** 2),
    "log_cosh": lambda x: np.sum(apply("log_cosh", x * 1.5)),
    "squares": lambda x: reduction("squares", x * 1.5 - 0.25),
    "any_of": lambda x: reduction("any_of", x * x * 1e-6),
    "picked": lambda x: np.sum((x + 0.25 * flipped(x * x)) ** 2),
    "halves": lambda x: np.sum((x - apply("halves", x)) ** 2 * 1.5),
}
MATRICES = {
    "soft_sign": lambda x, labels: x * np.sum(apply("soft_sign", x), axis=1, keepdims=True),
    "log_cosh": lambda x, labels: x * np.sum(apply("log_cosh", x), axis=1, keepdims=True),
    "squares": lambda x, labels: x * reduction("squares", x + 1.0, (1,), True),
    "any_of": lambda x, labels: x * reduction("any_of", x * x * 1e-3, (1,), True),
    "picked": lambda x, labels: x - of_each_row(np.exp(x), labels),
    "halves": lambda x, labels: x * np.sum(np.tanh(np.exp(x) - apply("halves", x)), axis=1, keepdims=True),
}
each = pytest.mark.parametrize("name", VECTORS)


def agree(found, expected, dtype=np.float64):
    for a, b in zip(found, expected, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=200 * np.finfo(dtype).eps, atol=200 * np.finfo(dtype).eps)


def graphs(f, x):
    """Return the graph of f, and of its value and gradient, which differences confirm."""
    graph = trace(f, x)
    gradient = graph.gradient() if not graph.nodes[graph.outputs[0]].shape else graph
    return graph, gradient


def test_executors_ask_rows():
    """What an executor must know of an operation, its row says: it asks for few of them by name."""
    named = re.compile(r"\bop(?:\.name)? (?:is|is not|==|!=|in|not in) (?:_[A-Z]|\(_[A-Z]|[\"'])")
    sources = Path(choose.__file__).parent.glob("*.py")
    tables = ("_OWN_LOOPS", "_FACTORED", "_EMIT", "_SPECIAL")  # of code, by row
    found = [line.strip() for path in sources for line in path.read_text().splitlines() if named.search(line)]
    found = [line for line in found if not any(table in line for table in tables)]
    assert 0 < len(found) <= 10, "\n".join(found)


@each
def test_the_gradient_is_right(name):
    assert kb.check_gradient(VECTORS[name], kb.grad(VECTORS[name]), np.linspace(-0.9, 0.8, 5))


# -- graphs -----------------------------------------------------------------------------------------------------------


@each
@pytest.mark.parametrize("executor", [functools.partial(compile_floats, otherwise=None), interpret, compile_arrays])
def test_a_few_numbers(name, executor):
    x = np.linspace(-0.9, 0.8, 5)
    for graph in graphs(VECTORS[name], x):
        run = executor(graph)
        for point in (x, -2.0 * x):
            agree(run(point), evaluate(graph, point))


@machine
@each
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_registers(name, dtype):
    x = np.linspace(-0.9, 0.8, 13).astype(dtype)
    for graph in graphs(VECTORS[name], x):
        agree(compile_native(graph)(x), evaluate(graph, x), dtype)


@machine
@each
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_large_arrays_leave_nothing_to_numpy(name, dtype):
    x = np.linspace(-0.9, 0.8, 60_003).astype(dtype)
    for graph in graphs(VECTORS[name], x):
        run = loops.compile_loops(graph)
        assert run.left() == []
        expected = evaluate(graph, x)
        for found, right in zip(run(x), expected, strict=True):
            np.testing.assert_allclose(found, right, rtol=3000 * np.finfo(dtype).eps, atol=3000 * np.finfo(dtype).eps)
        assert choose.Program(graph).executor == "native"


@machine
@each
def test_rows_of_a_matrix_leave_nothing_to_numpy(name):
    given = np.linspace(-0.9, 0.8, 300 * 210).reshape(300, 210), np.arange(300) % 210
    graph = trace(MATRICES[name], *given)
    run = choose._compile_rows(graph)
    assert [node for node in run.left() if node.op.fills is None] == []  # NumPy fills arrays
    for found, right in zip(run(*given), evaluate(graph, *given), strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-12, atol=1e-14)
    assert choose.Program(graph).executor == "native"


# -- descents ---------------------------------------------------------------------------------------------------------


def bowl(name):
    f = VECTORS[name]
    return lambda x: f(x - 0.3) + 0.5 * np.sum(x * x)


@pytest.fixture
def from_the_first_step_on(monkeypatch):
    monkeypatch.setattr(compiled_stepper, "NATIVE_FROM", 0)
    monkeypatch.setattr(choose, "NATIVE_FROM", 0)


@machine
@each
def test_a_descent_in_machine_code(name, from_the_first_step_on):
    run = kb.minimize(bowl(name), np.array([0.7, -0.4]), "adam", lr=0.01, max_steps=3000, gtol=0)
    assert run.executor == "native", run.executor_reason
    plain = kb.minimize(bowl(name), np.array([0.7, -0.4]), "adam", lr=0.01, max_steps=60, gtol=0, record="all")
    np.testing.assert_allclose(run.history.x[1], plain.history.x[1], rtol=1e-12)
    np.testing.assert_allclose(kb.grad(bowl(name))(run.x), 0.0, atol=1e-6)


@each
def test_a_descent_of_python_numbers(name):
    run = kb.minimize(bowl(name), np.array([0.7, -0.4]), "adam", lr=0.01, max_steps=200, gtol=0)
    assert run.executor == "floats", run.executor_reason


@machine
@each
def test_many_descents(name):
    starts = np.random.default_rng(0).uniform(-0.8, 0.8, (40, 2))
    ends = minimize_many(bowl(name), starts, kb.SGD(lr=0.05), max_steps=3000)
    assert ends.executor == "native", ends.executor_reason
    for row in ends.x:
        np.testing.assert_allclose(kb.grad(bowl(name))(row), 0.0, atol=1e-3)


@machine
@pytest.mark.parametrize("name", ["soft_sign", "log_cosh", "halves"])
def test_an_update_in_machine_code(name):
    one = np.ones(1)
    scalars = [(word, np.float64(1.0), True) for word in ("t", "lr", "fun")]
    graph = traced(
        "update",
        [("x", one, False), ("g", one, False), *scalars],
        lambda x, g, t, lr, fun: [x - lr * apply(name, g)],
    )
    code = Update(graph)
    x, g = np.linspace(-1.0, 1.0, 1001), np.linspace(-3.0, 2.0, 1001)
    expected = x - 0.5 * OPS[name].call(g)
    workspace = Workspace(code, np.array([[x.ctypes.data, g.ctypes.data, 0, x.size]]), 0, np.zeros(1))
    workspace.numbers[0], workspace.numbers[1], workspace.numbers[2] = 1.0, 0.5, 0.0
    assert code.run(workspace)
    np.testing.assert_allclose(x, expected, rtol=1e-14, atol=1e-15)


@machine
@each
@pytest.mark.parametrize("floats", [True, False])
def test_a_table_of_numpys_loops(name, floats):
    x = np.linspace(-0.9, 0.8, 5)
    _, gradient = graphs(VECTORS[name], x)
    if name == "any_of":  # NumPy has no loop that folds with what is no ufunc, and Python's numbers none for others
        with pytest.raises(NotLowerable):
            replay.Replay(gradient, floats)
        return
    with contextlib.suppress(NotLowerable) if floats and name == "log_cosh" else contextlib.nullcontext():
        found = replay.Replay(gradient, floats)(x)
        assert found is not None
        program = compile_floats(gradient, compile_arrays(gradient)) if floats else compile_arrays(gradient)
        value, slope = program(x)
        assert found[0] == value
        np.testing.assert_array_equal(found[1], slope)
