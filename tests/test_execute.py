"""Every executor against `evaluate`, which is what a graph means: random graphs, edges, many threads."""

import math
import threading
import tracemalloc

import numpy as np
import pytest

from koubai.errors import CompileError, CompileWarning
from koubai.execute import choose, library, llvm
from koubai.execute.abi import address, offset_arrays
from koubai.execute.arrays import compile_arrays, compile_bound
from koubai.execute.choose import Program
from koubai.execute.floats import compile_floats
from koubai.graph.call import Leaves, record_call, trace
from koubai.graph.graph import evaluate

EXACT = ("add", "subtract", "multiply", "square", "maximum", "minimum", "absolute", "negative", "sqrt")
SMOOTH = ("exp", "sin", "cos", "tanh", "log1p", "arctan", "expm1", "arcsinh")


def random_program(seed, exact):
    """A random straight-line function of a vector, with slices, writes, reductions and sharing."""

    def f(x):
        random = np.random.default_rng(seed)
        values = [x, x[::-1], x * 0.5]
        for _ in range(int(random.integers(3, 25))):
            a = values[int(random.integers(len(values)))]
            b = values[int(random.integers(len(values)))]
            kind = int(random.integers(9))
            if kind < 4:
                name = str(random.choice(EXACT if exact or kind < 2 else SMOOTH))
                ufunc = getattr(np, name)
                c = ufunc(np.abs(a)) if name in ("sqrt", "log1p") else ufunc(a) if ufunc.nin == 1 else ufunc(a, b)
                c = c * 0.25
            elif kind == 4:
                c = np.zeros_like(a)
                k = int(random.integers(1, len(x)))
                c[k:] = b[:-k]
                c[0] += a[-1]
            elif kind == 5:
                c = a.copy()
                c[::2] *= b[::2]
                c += 1
            elif kind == 6:
                c = np.where(a > b, a, b * 0.5)
            elif kind == 7:
                c = np.concatenate([a[1:], b[:1]]) / 2
            else:
                c = a - np.sum(b) * 0.125
            values.append(c)
        return np.sum(values[-1] * values[-2] + values[int(random.integers(len(values)))])

    return f


def agree(got, expected, exact):
    for a, b in zip(got, expected, strict=True):
        assert np.shape(a) == np.shape(b)
        assert a.dtype == b.dtype
        if exact:
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("exact", [True, False], ids=["arithmetic", "functions"])
@pytest.mark.parametrize("n", [2, 3, 7, 40])
def test_random_graphs_mean_the_same_in_every_executor(n, exact):
    checked = 0
    for seed in range(60):
        x = np.random.default_rng(seed + 1000).uniform(-1.5, 1.5, n)
        graph = trace(random_program(seed, exact), x)
        for g in (graph, graph.gradient()):
            expected = evaluate(g, x)
            run = compile_arrays(g)
            first = run(x)
            agree(first, expected, True)
            kept = [np.array(v) for v in first]
            run(x + 1.0)  # must not write into what the caller already has
            agree(first, kept, True)
            agree(run(x), expected, True)
            floats = compile_floats(g, run)
            if floats is not None:
                checked += 1
                agree(floats(x), expected, exact)
    assert checked > 20 or n == 40


def test_the_input_is_never_changed_nor_returned():
    graph = trace(lambda x: x * 1.0 + 0.0, np.ones(3))
    x = np.ones(3)
    Program(graph).run(x)
    np.testing.assert_array_equal(x, np.ones(3))
    same = Program(trace(lambda x: x[:], np.arange(3.0)))
    (y,) = same.run(x)
    y[0] = 7.0
    np.testing.assert_array_equal(x, np.ones(3))


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda x: np.exp(x[0]) + x[1], [1000.0, 1.0]),
        (lambda x: np.log(x[0]) + x[1], [0.0, 1.0]),
        (lambda x: np.log(x[0]), [-1.0, 1.0]),
        (lambda x: x[0] / x[1], [1.0, 0.0]),
        (lambda x: x[0] / x[1], [0.0, 0.0]),
        (lambda x: np.sqrt(x[0]), [-1.0, 0.0]),
        (lambda x: x[0] ** -2, [0.0, 1.0]),
        (lambda x: x[0] ** 1.5, [-2.0, 1.0]),
        (lambda x: x[0] ** 3, [1e200, 1.0]),
        (lambda x: np.sin(x[0]), [np.inf, 1.0]),
        (lambda x: np.sum(x * x), [np.nan, 1.0]),
        (lambda x: np.arcsin(x[0]), [2.0, 1.0]),
        (lambda x: np.maximum(x[0], x[1]), [np.nan, 1.0]),
        (lambda x: np.maximum(x[0], x[1]), [1.0, np.nan]),
        (lambda x: np.minimum(x[0], x[1]), [1.0, np.nan]),
        (lambda x: np.sign(x[0]) * x[1], [np.nan, 1.0]),
    ],
)
def test_floats_give_numpys_inf_and_nan(f, x):
    graph = trace(f, np.array([0.5, 0.75]))
    for g in (graph, graph.gradient()):
        program = Program(g)
        assert program.executor == "floats"
        agree(program.run(np.array(x)), evaluate(g, np.array(x)), True)


def test_choice_is_a_rule_of_the_graph_alone():
    small = trace(lambda x: np.sum(x**2), np.ones(3))
    large = trace(lambda x: np.sum(x**2), np.ones(300))
    assert [Program(small).executor, Program(small).executor, Program(large).executor] == ["floats", "floats", "numpy"]


def test_guards_stop_the_program():
    graph = trace(lambda x: x[0] ** 2 if x[0] > 0 else -x[0], np.array([1.0]))
    for run in (Program(graph).run, compile_arrays(graph)):
        assert run(np.array([2.0]))[0] == 4.0
        assert run(np.array([-2.0])) is None


def test_captured_arrays_are_read_anew_and_must_keep_their_shape():
    data = np.ones(20)

    def f(x):
        return np.sum((x - data * 2) ** 2)

    program = Program(trace(f, np.zeros(20)))
    assert program.run(np.zeros(20))[0] == 80.0
    data *= 2
    assert program.run(np.zeros(20))[0] == 320.0


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.sum(np.sin(np.sum(np.exp(x.reshape(4, 5, 6).transpose(2, 1, 0)), axis=1)) ** 3),
        lambda x: np.mean(np.exp(x.reshape(10, 12).T)) + np.std(np.tanh(x.reshape(12, 10).T)),
        lambda x: np.sum((np.asfortranarray(np.arange(120.0).reshape(12, 10)) * 0.01 * x.reshape(12, 10)) ** 2),
        lambda x: np.sum(np.where(x.reshape(10, 12).T > 0, x.reshape(12, 10) ** 2, 0.1) @ np.ones((10, 3))),
    ],
)
def test_a_program_written_late_has_the_bits_of_the_runs_node_by_node(f):
    graph = trace(f, np.ones(120)).gradient()
    x = np.random.default_rng(4).normal(size=120)
    program, written = Program(graph), compile_arrays(graph)
    assert program.source == ""
    by_node = program.run(x)
    for _ in range(choose.RUNS):
        program.run(x)
    assert program.source
    for results in (program.run(x), written(x)):
        for one, other in zip(by_node, results, strict=True):
            np.testing.assert_array_equal(one, other)


def test_buffers_are_reused():
    def rosenbrock(x):
        a = x[1:] - x[:-1] ** 2
        return np.sum(100.0 * a**2 + (1 - x[:-1]) ** 2)

    source = compile_arrays(trace(rosenbrock, np.ones(50)).gradient()).source
    unpacked = source.splitlines()[1]
    assert unpacked.count("b") - 1 <= 5, source  # "buffers" and at most four of them


def test_threads_do_not_share_buffers():
    def f(x):
        y = np.sin(x) * np.exp(x)
        return np.sum(y * np.cos(y) + x)

    graph = trace(f, np.ones(2000)).gradient()
    run = compile_arrays(graph)
    points = [np.random.default_rng(k).uniform(-1, 1, 2000) for k in range(8)]
    expected = [evaluate(graph, x) for x in points]
    wrong = []

    def work(k):
        for _ in range(50):
            value, gradient = run(points[k])
            if value != expected[k][0] or not np.array_equal(gradient, expected[k][1]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_overflow_gives_no_warning_and_leaves_numpys_settings_alone():
    before = np.geterr()
    program = Program(trace(lambda x: np.sum(np.exp(x)), np.ones(50)).gradient())
    value, gradient = program.run(np.full(50, 1000.0))
    assert math.isinf(value)
    assert np.isinf(gradient).all()
    assert np.geterr() == before


def test_generated_functions_agree_with_numpy_to_two_ulp():
    random = np.random.default_rng(5)
    for name in ("exp", "log", "sin", "cos", "tan", "tanh", "sinh", "cosh", "arctan", "log1p", "expm1", "arcsinh"):
        graph = trace(lambda x, name=name: getattr(np, name)(x[0]), np.array([0.5]))
        program = Program(graph)
        assert program.executor == "floats"
        for x in random.uniform(0.01, 5.0, 200):
            (expected,) = evaluate(graph, np.array([x]))
            assert abs(program.run(np.array([x]))[0] - expected) <= 2 * np.spacing(abs(expected))


@pytest.mark.parametrize(
    "f",
    [
        lambda a, b, x: x + -a / b * a,
        lambda a, b, x: -(a * b) * -x + (-a / -b + x),
        lambda a, b, x: (x + b * -a) * (-x + a),
        lambda a, b, x: -np.sum(a, axis=1, keepdims=True) / b[:, :1] * a + x,
    ],
)
def test_signs_are_folded_bit_for_bit(f):
    random = np.random.default_rng(3)
    a, b, x = (random.standard_normal((6, 4)) for _ in range(3))
    a[0], x[0], b[1] = 0.0, -0.0, [np.inf, -np.inf, np.nan, 0.0]
    graph = trace(f, a, b, x)
    run = compile_arrays(graph)
    assert run.source.count("negative(") < sum(node.op.name == "negative" for node in graph.nodes)
    for got, expected in zip(run(a, b, x), evaluate(graph, a, b, x), strict=True):
        number = ~np.isnan(expected)  # the sign of nan means nothing
        np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(np.signbit(got[number]), np.signbit(expected[number]))


def test_a_negation_that_is_needed_stays():
    def f(x):
        y = -x
        z = y * 2.0
        return np.sum(z + x) + np.sum(z * z), y

    x = np.linspace(-1.0, 2.0, 20)
    graph = trace(f, x)
    agree(compile_arrays(graph)(x), evaluate(graph, x), exact=True)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("number", [3, 0.1, -0.0, 1e300, 2**70, True, np.float64(0.1)])
def test_constants_mean_what_python_numbers_mean(number, dtype):
    def f(x):
        return x * number, number - x, np.maximum(x, number) / 7

    x = np.linspace(-1.0, 2.0, 20).astype(dtype)
    with np.errstate(all="ignore"):
        graph = trace(f, x)
        agree(compile_arrays(graph)(x), f(x), exact=True)


def test_released_buffers_are_made_anew():
    x = np.linspace(-1.0, 2.0, 20)
    program = Program(trace(lambda x: np.sum(np.sin(x * 3.0) ** 2), x))
    before = program.run(x)
    program.release()
    agree(program.run(x), before, exact=True)


# -- programs on memory that stays


@pytest.mark.parametrize("n", [1, 7, 64])
def test_a_bound_program_writes_the_same_bits_into_the_callers_memory(n):
    for seed in range(40):
        f = random_program(seed, exact=True)
        x = np.random.default_rng([seed, n]).normal(size=n + 2)
        graph = trace(f, x).gradient()
        expected = compile_arrays(graph)(x)
        memory, result = x.copy(), np.full_like(x, np.nan)
        run = compile_bound(graph, [0], [1])([memory], [result])
        for _ in range(2):  # what the first call left behind does not matter to the second
            (value,) = run()
            assert value == expected[0]
            np.testing.assert_array_equal(result, expected[1])
            np.testing.assert_array_equal(memory, x)


def forms_of_results(x, a):
    joined = np.concatenate([np.ravel(a @ a), x * 2, np.sum(a, axis=0), x])
    chosen = np.where(x > 0, x, a[0])
    whole = np.where(x[0] > 0, x * 3, x)
    late = np.zeros(2 * len(x))
    late[: len(x)] = np.exp(x)
    late[0] += 1
    small = x.astype(np.float32)
    return joined, chosen, whole, late, small, a.T, x, np.max(a, axis=1, keepdims=True), joined


@pytest.mark.parametrize("sign", [1, -1])
def test_every_form_of_result_can_be_written_into_given_memory(sign):
    x = sign * np.array([1.5, -2.0, 0.25])
    a = np.arange(9.0).reshape(3, 3)
    graph = trace(forms_of_results, x, a)
    expected = evaluate(graph, x, a)
    for into in [range(9), (0, 2, 4), (3,), ()]:
        results = [np.full_like(expected[k], 9, order="C") for k in into]
        rest = compile_bound(graph, [0], into)([x], results)(a)
        assert len(rest) == 9 - len(into)
        left = [k for k in range(9) if k not in into]
        for k, got in [*zip(into, results, strict=True), *zip(left, rest, strict=True)]:
            np.testing.assert_array_equal(got, expected[k])
            assert got.dtype == expected[k].dtype
            assert not any(np.shares_memory(got, given) for given in (x, a))


def test_a_bound_program_allocates_nothing_large():
    def step(x, a, t):
        g = np.concatenate([np.ravel(a.T @ a), x[10_000:] * np.sum(a, axis=0)])
        m = np.where(t == 1, g, 0.5 * x + g)
        return x - 0.1 * m, m

    x, a = np.ones(10_100), np.ones((100, 100)) / 100
    results = [np.empty_like(x), np.empty_like(x)]
    run = compile_bound(trace(step, x, a, 1.0), [0], [0, 1])([x], results)
    run(a, 2.0)
    tracemalloc.start()
    try:
        run(a, 2.0)
        assert tracemalloc.get_traced_memory()[1] < 16_384  # x takes 80 kB; NumPy before 2.3 buffers a sum in 8 KiB
    finally:
        tracemalloc.stop()


def test_arrays_of_one_block_begin_at_different_places_of_a_page():
    forms = [((300, 300), np.float32), ((), np.float64), ((90_000,), np.float32), ((0,), np.int64), ((7,), np.bool_)]
    forms += [((45_000,), np.float64)] * 14
    parts = offset_arrays(forms)
    assert [(a.shape, a.dtype) for a in parts] == forms
    assert all(a.flags.c_contiguous and a.flags.aligned and a.flags.writeable for a in parts)
    parts = [a for a in parts if a.size]
    begin = [address(a) for a in parts]
    assert all(b % 64 == 0 for b in begin)
    assert all(b + a.nbytes <= c for a, b, c in zip(parts, begin, begin[1:], strict=False))
    places = [b % 4096 for a, b in zip(parts, begin, strict=True) if a.nbytes > 4096]
    assert len(set(places)) == len(places) == 16
    assert begin[-1] + parts[-1].nbytes - begin[0] < sum(a.nbytes for a in parts) + 4096 * len(parts)
    for k, a in enumerate(parts):
        a[...] = k
    assert all(np.all(a == np.asarray(k).astype(a.dtype)) for k, a in enumerate(parts))


def test_a_program_is_bound_to_memory_of_the_right_form_only():
    graph = trace(lambda x: x * 2, np.ones(3))
    bind = compile_bound(graph, [0], [0])
    for wrong in (np.ones(4), np.ones(3, np.float32), np.ones(6)[::2]):
        with pytest.raises(CompileError, match="wants float64"):
            bind([wrong], [np.ones(3)])
        with pytest.raises(CompileError, match="wants float64"):
            bind([np.ones(3)], [wrong])


def test_a_bound_program_says_where_a_guard_fails():
    graph = trace(lambda x: x * 2 if x[0] > 0 else x, np.ones(3))
    x, result = np.ones(3), np.zeros(3)
    run = compile_bound(graph, [0], [0])([x], [result])
    assert run() == ()
    np.testing.assert_array_equal(result, 2.0)
    x[0] = -1
    assert run() is None


# -- large arrays row by row

needs_llvm = pytest.mark.skipif(not library.available(), reason="llvmlite can't be loaded")


def pairs(x):
    d = x[:, None] - x[None, :]
    return np.sum(np.exp(-d * d))


def softmax(z):
    e = np.exp(z - np.max(z, axis=1, keepdims=True))
    p = e / np.sum(e, axis=1, keepdims=True)
    return np.sum(p * p)


def standardised(x):
    y = (x - x.mean(axis=0)) / x.std(axis=0)
    return np.sum(np.tanh(y) * y)


def in_layers(w):
    hidden = np.tanh(np.ones((300, w.shape[0])) @ w + w[0])
    return np.sum(np.maximum(hidden, 0.1) * hidden) if np.sum(w) > 0 else np.sum(hidden)


ROWS = [(pairs, (260,)), (softmax, (700, 30)), (standardised, (900, 17)), (in_layers, (5, 90))]


@needs_llvm
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("f", "shape"), ROWS)
def test_rows_and_columns_are_fused_where_arrays_are_large(f, shape, dtype):
    x = np.random.default_rng(0).uniform(0.1, 1.0, shape).astype(dtype)
    graph = trace(f, x).gradient()
    program = Program(graph)
    assert program.executor == "native"
    assert "kernel" in program.source
    expected, first = evaluate(graph, x), program.run(x)
    tolerance = 2e-4 if dtype == np.float32 else 1e-11
    for a, b in zip(first, expected, strict=True):
        assert (np.shape(a), a.dtype, type(a)) == (np.shape(b), b.dtype, type(b))
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())
    kept = [np.array(v) for v in first]
    other = program.run(x[::-1] * 1.5)
    agree(first, kept, True)  # a later call does not write into it
    program.release()
    agree(program.run(x), kept, True)
    strided = np.repeat(x, 2, axis=-1)[..., ::2]
    for again in (strided, np.asfortranarray(x), x.astype(x.dtype.newbyteorder()), x.tolist()):
        agree(program.run(again), kept, True)
    assert not np.array_equal(other[1], first[1])
    with pytest.raises(CompileError, match="wants float"):
        program.run(x[:-1])


@needs_llvm
def test_the_way_that_leaves_less_to_numpy_is_taken():
    line = np.linspace(0.0, 1.0, 60_000)
    for f, x, rows in ((pairs, line[:300], True), (lambda x: np.sum(np.exp(x[1:] - x[:-1]) * x[1:]), line, False)):
        source = Program(trace(f, x).gradient()).source
        assert ("table0" in source) is rows
    assert (
        Program(trace(lambda x: np.sum(np.cumsum(np.sort(x, axis=1), axis=1)), line.reshape(-1, 2))).executor == "numpy"
    )


@needs_llvm
def test_a_guard_and_an_array_from_outside_stop_rows_too():
    data = np.random.default_rng(1).uniform(size=(400, 30))[:, ::-1]

    def f(x):
        y = np.exp(data * x) + x
        return np.sum(y / np.sum(y, axis=1, keepdims=True)) if x[0] > 0 else np.sum(x)

    x = np.linspace(0.5, 1.0, 30)
    graph = record_call(f, Leaves.of(f, (x,), {}, (0,)), scalar=True).graph.gradient()
    program = Program(graph)
    assert program.executor == "native"
    agree(program.run(x), evaluate(graph, x), False)
    assert program.run(-x) is None
    before = program.run(x)[1]
    data *= 0.5
    agree(program.run(x), evaluate(graph, x), False)
    assert not np.array_equal(program.run(x)[1], before)


@needs_llvm
def test_threads_have_rows_of_their_own():
    graph = trace(softmax, np.ones((500, 40))).gradient()
    program = Program(graph)
    points = [np.random.default_rng(k).uniform(size=(500, 40)) for k in range(6)]
    expected = [program.run(x) for x in points]
    wrong = []

    def work(k):
        for _ in range(20):
            value, gradient = program.run(points[k])
            if value != expected[k][0] or not np.array_equal(gradient, expected[k][1]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@needs_llvm
def test_wrong_code_for_rows_is_found_at_its_first_answer_and_not_used(monkeypatch):
    library.clear()
    monkeypatch.setenv("KOUBAI_CACHE", "off")
    monkeypatch.setitem(llvm._EMIT, "subtract", lambda code, a, b: code.binary("fsub", b, a))
    x = np.random.default_rng(2).uniform(size=(600, 31))
    program = Program(trace(softmax, x).gradient())
    assert program.executor == "native"
    with pytest.warns(CompileWarning, match="machine code gives output"):
        found = program.run(x)
    assert program.executor == "numpy"
    agree(found, evaluate(trace(softmax, x).gradient(), x), True)
    library.clear()


@needs_llvm
def test_results_beyond_the_bound_raise_with_both_numbers():
    choose.check_result("x", [1.0, np.nan, np.inf, 2.0], [1.0, np.nan, np.inf, 2.0 + 1e-9], 1e-8)
    for found in ([1.0, 2.1], [1.0, np.nan], [np.inf, 2.0]):
        with pytest.raises(
            CompileError, match=r"machine code gives x = .*(2\.1|nan|inf).*, NumPy .*(2\.0|1\.0).* 1e-08"
        ):
            choose.check_result("x", found, [1.0, 2.0], 1e-8)
