"""Regions in machine code against `evaluate`: rows, columns, reductions, picks, remainders, both precisions."""

import numpy as np
import pytest

from koubai import nn  # its primitives enter the table
from koubai.execute import library, regions
from koubai.execute.arrays import compile_bound
from koubai.graph.call import trace
from koubai.graph.graph import evaluate
from koubai.graph.ops import apply

pytestmark = pytest.mark.skipif(not library.available(), reason="llvmlite can't be loaded")
assert nn.Sigmoid


def kernels(source):
    """Count the kernels of a program, whether it calls them one by one or as a chain."""
    return source.count("chain.kernel(") or source.count("if not kernel")


def fused(f, *args, regions_wanted=None):
    """Compare a bound program with regions, called twice, with what the graph means; return its source."""
    graph = trace(f, *args)
    expected = evaluate(graph, *args)
    into = [k for k, value in enumerate(expected) if np.ndim(value)]
    results = [np.full_like(expected[k], 7, order="C") for k in into]
    bind = compile_bound(graph, [], into, fusion=regions)
    if regions_wanted is not None:
        assert kernels(bind.source) == regions_wanted, bind.source
    run = bind([], results)
    for _ in range(2):
        rest = run(*args)
    got = dict(zip(into, results, strict=True)) | dict(
        zip((k for k in range(len(expected)) if k not in into), rest, strict=True)
    )
    single = any(np.asarray(a).dtype == np.float32 for a in args)
    tolerance = {"rtol": 2e-5, "atol": 2e-6} if single else {"rtol": 1e-13, "atol": 1e-14}
    for k, value in enumerate(expected):
        assert got[k].dtype == value.dtype
        np.testing.assert_allclose(got[k], value, **tolerance)
    return bind.source


SHAPES = [(100, 100), (100, 10), (7, 16), (3, 33), (40, 3), (2, 70)]
DTYPES = [np.float32, np.float64]


def arrays(shape, dtype):
    rng = np.random.default_rng(shape[1])
    rows, columns = shape
    return (
        rng.normal(size=shape).astype(dtype), rng.normal(size=columns).astype(dtype),
        rng.normal(size=(rows, 1)).astype(dtype), rng.integers(0, columns, rows),
    )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_bias_and_sigmoid_and_the_sum_of_columns(shape, dtype):
    x, b, r, _ = arrays(shape, dtype)

    def f(x, b, r):
        s = apply("sigmoid", x + b)
        d = x * (s * (1 - s)) * r
        return s, d, np.sum(d, axis=0)

    fused(f, x, b, r, regions_wanted=1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_softmax_and_cross_entropy(shape, dtype):
    x, b, _, y = arrays(shape, dtype)

    def f(x, b, y):
        z = x + b
        shifted = z - apply("largest", z, axis=(1,), keepdims=True)
        raised = np.exp(shifted)
        total = np.sum(raised, axis=1)
        losses = np.log(total) - shifted[np.arange(len(y)), y]
        p = raised * (1 / total).reshape(-1, 1)
        return p, np.mean(losses), np.sum(p, axis=0), losses

    fused(f, x, b, y, regions_wanted=1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(100, 10), (5, 40)])
def test_the_gradient_of_cross_entropy_writes_one_place_a_row(shape, dtype):
    x, b, _, y = arrays(shape, dtype)
    loss = nn.CrossEntropy()
    graph = trace(lambda x, b, y: loss(x + b, y), x, b, y).gradient((0, 1))
    expected = evaluate(graph, x, b, y)
    gx, gb = np.empty_like(x), np.empty_like(b)
    run = compile_bound(graph, [], [1, 2], fusion=regions)([], [gx, gb])
    for labels in (y, y - shape[1]):  # from the end, as NumPy counts
        (value,) = run(x, b, labels)
        assert value == pytest.approx(expected[0], rel=1e-6)
        np.testing.assert_allclose(gx, expected[1], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(gb, expected[2], rtol=1e-5, atol=1e-6)
    with pytest.raises(IndexError, match="out of range"):
        run(x, b, y + shape[1])
    (value,) = run(x, b, np.repeat(y, 2)[::2])  # labels with gaps between them
    assert value == pytest.approx(expected[0], rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [2047, 2048, 2064, 4099, 40_000])
def test_long_rows_are_added_stretch_by_stretch(columns, dtype):
    x = np.random.default_rng(columns).normal(size=(3, columns)).astype(dtype) + dtype(0.7)

    def f(x):
        y = x * x
        return (
            np.sum(y, axis=1),
            np.max(x, axis=1),
            np.argmax(x * 1, axis=1) * 1.0,
            y,
            np.exp(x - np.sum(y, axis=1, keepdims=True)),
        )

    fused(f, x)
    rows = np.full((2, 300_000), 0.1, dtype)
    results = [np.empty(2, dtype), np.empty_like(rows)]
    run = compile_bound(trace(lambda x: (np.sum(x * 3, axis=1), x * 3), rows), [], [0, 1], regions)([], results)
    run(rows)
    exact = 300_000 * float(dtype(dtype(0.1) * dtype(3)))
    np.testing.assert_allclose(results[0], exact, rtol=3e-4 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
def test_flat_updates_with_numbers(dtype):
    rng = np.random.default_rng(0)
    x, g, m = (rng.normal(size=1003).astype(dtype) for _ in range(3))

    def f(x, g, m, t, lr):
        m = np.where(t == 1, g, 0.9 * m + g)
        v = np.sqrt(np.abs(m)) + 1e-8
        return x - lr * m / v, m, x > 0

    for t in (1.0, 2.0):
        fused(f, x, g, m, np.float64(t), dtype(0.1), regions_wanted=1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_count_of_right_answers_is_part_of_the_region(shape, dtype):
    x, b, _, y = arrays(shape, dtype)

    def f(x, b, y):
        z = x + b
        largest, least = np.argmax(z, axis=1), np.argmin(z, axis=1)
        return z, np.sum(largest == y), np.sum(least == y), largest, np.sum(np.sum(z, axis=1)), least

    fused(f, x, b, y, regions_wanted=1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ["argmax", "argmin"])
def test_the_first_of_equals_and_the_first_nan_are_found(op, dtype):
    rows = np.zeros((8, 40), dtype)
    rows[1:3, 37] = 1, -1
    rows[3, [35, 3, 20]] = np.inf, np.inf, -np.inf
    rows[4, [36, 18, 2]] = np.nan, np.nan, -np.inf
    rows[5] = -np.inf
    rows[6] = np.nan
    rows[7, ::2] = -0.0
    for x in (rows, rows[:, -9:].copy()):
        fused(lambda x: (x * 2, getattr(np, op)(x * 2, axis=1)), x, regions_wanted=1)


def test_long_sums_are_taken_on_the_way():
    """A sum over all in double precision is part of its region; one in single precision is NumPy's, which pairs."""
    g = np.random.default_rng(0).normal(size=5003).astype(np.float32)
    source = fused(lambda g: (g * 2, np.sum(np.square(g.astype(np.float64)))), g, regions_wanted=1)
    assert "reduce(" not in source
    assert "reduce(" in fused(lambda g: (g * 2, np.sum(np.square(g))), g)
    fused(lambda g: (g * 2, np.exp(g / np.sum(np.square(g.astype(np.float64))).astype(g.dtype))), g, regions_wanted=2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_result_lies_where_an_operand_lay_that_is_read_no_more(dtype):
    rng = np.random.default_rng(0)
    x, w, b = (rng.normal(size=shape).astype(dtype) for shape in ((30, 40), (40, 32), 32))

    def f(x, w, b):
        return (np.tanh(x @ w + b) @ w.T,)

    source = fused(f, x, w, b, regions_wanted=1)
    assert "table(b0, None, b0)" in source or "table(b0, v2, b0)" in source, source
    # but not where the last vector of a row reaches into the next one
    source = fused(f, x, w[:, :20], b[:20], regions_wanted=1)
    assert "table(b0, None, b1)" in source or "table(b0, v2, b1)" in source, source

    def read_again(x, w, b):
        h = x @ w
        return np.tanh(h + b) @ w.T, h @ w.T, np.exp(h - np.max(h + b, axis=1, keepdims=True)) @ w.T

    fused(read_again, x, w, b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sum_may_be_added_to_in_place(dtype):
    rng = np.random.default_rng(0)
    x, g, total = (rng.normal(size=1003).astype(dtype) for _ in range(3))
    graph = trace(lambda x, g, total: (x - 2 * g, total + 3 * g), x, g, total)
    for fusion in (None, regions):
        after, sums = np.empty_like(x), total.copy()
        run = compile_bound(graph, [0, 1, 2], [0, 1], fusion)([x, g, sums], [after, sums])
        for k in range(1, 4):
            run()
            np.testing.assert_array_equal(after, x - 2 * g)
            np.testing.assert_allclose(sums, total + 3 * k * g, rtol=1e-5, atol=1e-6)


def replaceable(f, *args):
    """Return which of the results may lie where which of the arguments does; compare what comes of it."""
    graph = trace(f, *args)
    expected = evaluate(graph, *args)
    into = range(len(expected))
    bind = compile_bound(graph, range(len(args)), into, regions)
    for a, b in bind.replaceable:
        memory = [x.copy() for x in args]
        results = [np.full_like(value, np.nan) for value in expected]
        results[b] = memory[a]
        bind(memory, results)()
        for got, value in zip(results, expected, strict=True):
            np.testing.assert_allclose(got, value, rtol=1e-12)
    return bind.replaceable


def test_a_result_may_lie_in_an_argument_that_is_read_no_more():
    x, g, v = np.random.default_rng(0).normal(size=(3, 1003))

    def momentum(x, g, v):
        v = 0.9 * v + g
        return x - 0.1 * v, v

    both = {(k, m) for k in range(3) for m in range(2)}
    assert replaceable(momentum, x, g, v) == both
    assert replaceable(lambda x, g, v: (v + g, x - v), x, g, v) == both

    # another region reads it again, after what NumPy does, or after a sum
    def sorts(x, g, v):
        first = x + 0.9 * v
        return first, np.exp(v * np.sort(first) * 1e-3)

    assert replaceable(sorts, x, g, v) == {(0, 0), (2, 1)}
    later = replaceable(lambda x, g, v: (0.9 * v + g, x * 2 + v / np.sum(np.square(v * g))), x, g, v)
    assert (2, 0) not in later
    assert (2, 1) in later

    # a row's maximum is known when the row has been read, and it is read again then
    def less_the_top(a, b):
        return a * 2 + b, b - np.max(a + b, axis=1, keepdims=True)

    rows = x[:960].reshape(20, 48)
    assert replaceable(less_the_top, rows, rows + 1) == {(0, 1), (1, 1), (0, 0)}
    rows = x[:1000].reshape(20, 50)  # the last vector of a row reaches into the next one
    assert not replaceable(less_the_top, rows, rows + 1)


def random_step(rng, inputs, by_rows):
    """Return a function of arrays of one shape that mixes regions, their sums, NumPy's work and guards."""
    along = {"axis": 1, "keepdims": True} if by_rows else {}
    kinds = {
        "add": lambda a, b, c: a + c * b,
        "subtract": lambda a, b, c: a - b * c,
        "multiply": lambda a, b, c: a * b * c,
        "tanh": lambda a, b, c: np.tanh(a),
        "divide": lambda a, b, c: a / (1 + np.sum(np.square(b), **along)),
        "maximum": lambda a, b, c: a - np.max(b, **along),
        "columns": lambda a, b, c: a + c * np.sum(b, axis=0) if by_rows else a * c + b,
        "sort": lambda a, b, c: np.sort(a),
        "where": lambda a, b, c: np.where(a > b, a, b * c),
        "guard": lambda a, b, c: a * c if np.max(b) > -1e9 else a,
    }
    steps = [
        (kinds[str(rng.choice(list(kinds)))], *rng.integers(inputs + k, size=2), rng.uniform(0.2, 0.9))
        for k in range(rng.integers(3, 14))
    ]
    results = rng.integers(inputs + len(steps), size=rng.integers(1, 5))

    def f(*arrays):
        values = list(arrays)
        for work, i, j, c in steps:
            values.append(work(values[i], values[j], float(c)))
        return tuple(values[i] for i in results)

    return f, len(results)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("shape", [(150,), (1003,), (20, 33), (7, 48)])
def test_random_programs_overwrite_their_arguments(shape):
    """Several results at once, each where an argument lies, make what the graph means."""
    several = 0
    for seed in range(100):
        rng = np.random.default_rng([seed, *shape])
        args = rng.normal(size=(rng.integers(1, 5), *shape))
        f, count = random_step(rng, len(args), len(shape) == 2)
        graph = trace(f, *args)
        expected = evaluate(graph, *args)
        bind = compile_bound(graph, range(len(args)), range(count), regions)
        pairs = sorted(bind.replaceable)
        for _ in range(3):
            memory, results, taken = [a.copy() for a in args], [np.full(shape, np.nan) for _ in expected], {}
            for k in rng.permutation(len(pairs)):
                a, b = pairs[k]
                if a not in taken and b not in taken.values():
                    taken[a], results[b] = b, memory[a]
            several += len(taken) > 1
            bind(memory, results)()
            for got, value in zip(results, expected, strict=True):
                np.testing.assert_allclose(got, value, rtol=1e-10, atol=1e-12, err_msg=f"seed {seed}, {taken}")
    whole_vectors = len(shape) == 1 or shape[1] % regions.LANES == 0  # else each result has memory of its own
    assert several > 10 if whole_vectors else several == 0


def test_no_result_lies_in_an_argument_where_the_program_may_still_refuse():
    x, v = np.random.default_rng(0).normal(size=(2, 1003)) + 9

    def early(x, v):
        return (x + 0.9 * v, v * 2 + x) if v[0] > 0 else (x, v)

    def late(x, v):
        after = x + 0.9 * v
        return (after, v * 2 + x) if np.max(after) > 0 else (x, v)

    def captures(x, v):
        return x + 0.9 * v, v * 2 + x + KEPT

    assert len(replaceable(early, x, v)) == 4
    assert replaceable(late, x, v) == {(0, 1), (1, 1)}
    assert len(replaceable(captures, x, v)) == 4


KEPT = np.arange(1003.0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_finite_stays_so(dtype):
    x = np.array([[np.nan, 1.0, -np.inf] * 30, [np.inf, -1e30, 0.0] * 30]).astype(dtype)

    def f(x):
        top = np.max(x, axis=1, keepdims=True)
        return top, apply("relu", x), np.maximum(x, 0) * 2, np.exp(x - 1), np.sum(x, axis=1)

    fused(f, x)


def test_rows_and_columns_are_told_apart_where_they_are_equally_many():
    """A vector from a row's sum that meets the columns is not the row's number."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(20, 20)), rng.normal(size=20)

    def f(x, w):
        s = np.sum(np.exp(x), axis=1)
        return x * w + s, x * w[:, None] - s[:, None], np.sum(x * s, axis=0)

    fused(f, x, w)


def test_regions_around_products_and_what_has_no_code():
    rng = np.random.default_rng(0)
    x, a = rng.normal(size=(30, 40)), rng.normal(size=(40, 20))

    def f(x, a):
        h = np.tanh(x * 2 + 1) @ a
        order = np.sort(h, axis=1)
        k = np.exp(h - order[:, -1:])
        return (
            np.concatenate([np.ravel(k.T @ k), np.sum(k * 2, axis=0)]),
            np.argmax(h, axis=1) * 1.0,
            np.mean(k, axis=1),
        )

    source = fused(f, x, a)
    assert kernels(source) >= 2


def test_a_kernel_of_a_chain_reads_a_view_of_an_argument():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 30)), rng.normal(size=(60, 10))

    def f(x, y):
        flat = np.reshape(x, (1800,))
        part = np.sin(y)
        return np.arctan2(np.absolute(flat) + 0.1, flat), part - np.floor(part)

    assert "chain.kernel(" in fused(f, x, y, regions_wanted=2)


def test_small_things_stay_with_numpy():
    source = fused(lambda x: (np.exp(x) + 1, x * 2), np.arange(5.0))
    assert "kernel" not in source


def test_images_are_one_long_row():
    rng = np.random.default_rng(0)
    x, g = rng.normal(size=(2, 3, 4, 9)).astype(np.float32), rng.normal(size=(2, 3, 4, 9)).astype(np.float32)
    fused(lambda x, g: (apply("relu", x) * 2, g * (x > 0)), x, g, regions_wanted=1)


def test_a_partition_keeps_the_meaning():
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(12, 6)), rng.integers(0, 3, 12)
    network = nn.Network(
        [nn.Dense(8), nn.BatchNorm(), nn.ReLU(), nn.LayerNorm(), nn.Dense(3)], nn.CrossEntropy(), dtype=np.float64
    ).build((6,))

    def loss(p, X, y, state):
        return network._loss(network.apply(p, X, state, train=True)[0], y)

    graph = trace(loss, network.params, X, y, network.state).gradient(range(len(network.params)))
    again, found = regions.partition(graph)
    assert found
    values = [*network.params.values(), X, y, *network.state.values()]
    for a, b in zip(evaluate(graph, *values), evaluate(again, *values), strict=True):
        np.testing.assert_array_equal(a, b)
    for region in found:
        assert region.members == list(range(region.members[0], region.members[-1] + 1))
