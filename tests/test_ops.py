"""Every row of OPS, over its domain and shapes, against differences at order 1 and 2, in float64 and float32."""

import itertools
import math
import zlib

import numpy as np
import pytest

import koubai.graph.activations
import koubai.graph.scipy.special
import koubai.graph.windows  # noqa: F401 their rows stand in OPS once they are loaded
from koubai.graph.forward import pushforward
from koubai.graph.graph import Graph, evaluate
from koubai.graph.ops import OPS, Index
from koubai.graph.reverse import pullback, reverse
from koubai.graph.traced import Traced, current_node, record
from koubai.graph.tracer import Trace

SHAPES = {
    1: (((),), ((3,),), ((2, 3),), ((1, 1),)),
    2: (((), ()), ((3,), ()), ((2, 3), (3,)), ((2, 1), (1, 3)), ((2, 3), (2, 3))),
    3: (((3,), (), ()), ((2, 3), (3,), (2, 1)), ((), (3,), (3,))),
}
DIFFERENTIABLE = [op for op in OPS.values() if op.differentiable]


def cases():
    for op in DIFFERENTIABLE:
        assert op.domain, f"{op.name} has derivative rules but no domain to test them on"
        if op.elementwise and not op.examples:
            for shapes in SHAPES[len(op.domain)]:
                yield pytest.param(op, shapes, {}, id=f"{op.name}-{'·'.join(map(str, shapes))}")
        else:
            for k, (shapes, params) in enumerate(op.examples):
                yield pytest.param(op, shapes, params, id=f"{op.name}-{k}")


def sample(op, shapes, dtype):
    random = np.random.default_rng(zlib.crc32(op.name.encode()))
    values = []
    for k, shape in enumerate(shapes):
        low, high = op.domain[min(k, len(op.domain) - 1)]
        value = random.uniform(low, high, shape).astype(dtype)
        values.append(value if shape else value[()])
    return values


def recorded(op, values, params, wrap=lambda y: y):
    """The graph of a weighted sum of the op's result."""
    tape = Trace(concrete=True, name=op.name)
    inputs = [tape.input(v.copy(), f"x{k}") for k, v in enumerate(values)]
    if op.name == "where":
        inputs[0] = inputs[0] > 0.0
    with tape.running():
        y = record(op, inputs, params)
        weights = np.cos(np.arange(y.size, dtype=y.dtype) + 1).reshape(y.shape)
        total = record(OPS["sum"], (y * weights,), {"axis": None, "keepdims": False}) if y.shape else y * weights[()]
    return tape.graph([current_node(total)])


def difference(f, x, direction):
    """The derivative of f along a direction by central differences, extrapolated four times."""
    steps = [2.0**-k for k in range(5, 10)]
    table = [(np.asarray(f(x, h, direction)) - np.asarray(f(x, -h, direction))) / (2 * h) for h in steps]
    for order in range(1, len(table)):
        table = [(4**order * b - a) / (4**order - 1) for a, b in itertools.pairwise(table)]
    return table[0]


def moved(graph, output):
    def f(values, h, direction):
        return evaluate(graph, *[v + h * d for v, d in zip(values, direction, strict=True)])[output]

    return f


def directions(op, values):
    """Return a direction; along an argument that the row has no rule for, nothing moves."""
    random = np.random.default_rng(7)
    ruled = ruled_arguments(op, values)
    return [random.uniform(-0.02, 0.02, np.shape(v)) * (k in ruled) for k, v in enumerate(values)]


def ruled_arguments(op, values):
    """Return the positions of the arguments that the row has derivative rules for."""
    return [k for k in range(len(values)) if op.rule(k) is not None]


@pytest.mark.parametrize(
    ("op", "shapes", "params"), [case for case in cases() if case.values[0].into is not None and any(case.values[1])]
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_result_is_written_into_an_array(op, shapes, params, dtype):
    values = sample(op, shapes, dtype)
    if op.name == "where":
        values[0] = values[0] > 0.0
    expected = op.call(*values, **params)
    result = np.full(expected.shape, 77, expected.dtype)
    op.into(result, *values, **params)
    np.testing.assert_allclose(result, expected, rtol=8 * np.finfo(dtype).eps)
    if op.elementwise and not op.conditions and (values[0].shape, values[0].dtype) == (result.shape, result.dtype):
        op.into(values[0], *values, **params)
        np.testing.assert_array_equal(values[0], result)


@pytest.mark.parametrize(("op", "shapes", "params"), list(cases()))
def test_first_and_second_derivative(op, shapes, params):
    values = sample(op, shapes, np.float64)
    graph = recorded(op, values, params)
    ruled = ruled_arguments(op, values)
    gradient = reverse(graph, ruled)
    value, *g = evaluate(gradient, *values)
    np.testing.assert_array_equal(value, evaluate(graph, *values)[0])
    v = directions(op, values)
    scale = 0.02
    along = sum(np.sum(a * v[k]) for a, k in zip(g, ruled, strict=True))
    expected = difference(moved(graph, 0), values, v)
    np.testing.assert_allclose(along, expected, rtol=1e-8, atol=1e-9 * scale)
    for part, k in zip(g, ruled, strict=True):
        assert np.shape(part) == np.shape(values[k])
        assert part.dtype == values[k].dtype
    alone = Graph(gradient.nodes, gradient.inputs, gradient.outputs[1:])
    second = evaluate(pullback(alone, ruled), *values, *[v[k] for k in ruled])
    for k, row in enumerate(second):
        expected = difference(moved(gradient, 1 + k), values, v)
        np.testing.assert_allclose(row, expected, rtol=1e-7, atol=1e-8 * scale)


@pytest.mark.parametrize(("op", "shapes", "params"), list(cases()))
def test_forward_mode_is_reverse_mode_transposed(op, shapes, params):
    values = sample(op, shapes, np.float64)
    tape = Trace(concrete=True, name=op.name)
    inputs = [tape.input(v.copy(), f"x{k}") for k, v in enumerate(values)]
    if op.name == "where":
        inputs[0] = inputs[0] > 0.0
    with tape.running():
        y = record(op, inputs, params)
    graph = tape.graph([current_node(y)])
    random = np.random.default_rng(5)
    for moving in (ruled_arguments(op, values), *([k] for k in ruled_arguments(op, values))):
        v = [random.normal(size=np.shape(values[k]))[()] for k in moving]
        (along,) = evaluate(pushforward(graph, moving), *values, *v)
        assert np.shape(along) == y.shape
        assert along.dtype == y.dtype
        back = pullback(graph, moving)
        for at in np.ndindex(y.shape):
            seed = np.zeros(y.shape)
            seed[at] = 1.0
            rows = evaluate(back, *values, seed[()])
            size = sum(np.sum(np.abs(g * d)) for g, d in zip(rows, v, strict=True))
            expected = sum(np.sum(g * d) for g, d in zip(rows, v, strict=True))
            assert abs(along[at] - expected) <= 1e-12 * size


@pytest.mark.parametrize(("op", "shapes", "params"), list(cases()))
def test_float32_keeps_its_dtype_and_agrees(op, shapes, params):
    if op.name == "astype":
        return  # its row says float64
    values = sample(op, shapes, np.float32)
    ruled = ruled_arguments(op, values)
    gradient = reverse(recorded(op, values, params), ruled)
    exact = [np.asarray(v, np.float64)[()] for v in values]
    wide = reverse(recorded(op, exact, params), ruled)
    for got, expected in zip(evaluate(gradient, *values), evaluate(wide, *exact), strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-5)
    for node in gradient.nodes:
        assert node.dtype is None or node.dtype != np.float64 or not node.inputs, f"{node.op.name} went to float64"


@pytest.mark.parametrize("op", [op for op in OPS.values() if op.elementwise and op.scalar], ids=lambda op: op.name)
def test_scalar_code_means_the_same(op):
    count = len(op.domain) or getattr(op.call, "nin", 2)
    domain = op.domain or ((-3.0, 3.0),) * count
    random = np.random.default_rng(11)
    for _ in range(200):
        values = [float(random.uniform(*domain[k])) for k in range(count)]
        if op.name == "where":
            values[0] = values[0] > 0
        got = eval(op.scalar.format(*(f"({v!r})" for v in values)), {"math": math, "power": math.pow})
        assert type(got) in (float, bool)
        expected = op.call(*[np.float64(v) if isinstance(v, float) else np.bool_(v) for v in values])
        if type(got) is float and "math." in op.scalar and "sqrt" not in op.scalar:
            assert abs(got - expected) <= 2 * np.spacing(abs(expected))
        else:
            assert got == expected


@pytest.mark.parametrize(("op", "shapes", "params"), list(cases()))
def test_inferred_shape_and_dtype(op, shapes, params):
    for dtype in (np.float64, np.float32):
        values = sample(op, shapes, dtype)
        if op.name == "where":
            values[0] = values[0] > 0
        result = op.call(*values, **params)
        tape = Trace(concrete=False)
        inputs = [tape.input(np.asarray(v), "x") for v in values]
        traced = record(op, inputs, params)
        assert isinstance(current_node(traced), int)
        assert traced.shape == np.shape(result)
        assert traced.dtype == result.dtype


def test_index_compares_slices_by_value():
    assert Index((slice(1, None), 2)) == Index((slice(1, None), 2))
    assert hash(Index((slice(1, 3),))) == hash(Index((slice(1, 3),)))
    assert Index((slice(1, None),)) != Index((slice(2, None),))


def test_every_name_is_its_key():
    assert all(op.name == name for name, op in OPS.items())
    assert type(Traced).__name__ == "type"
