"""Fused loops against `evaluate`, which is what a graph means: sizes around the blocks' borders, edges, threads."""

import contextlib
import functools
import gc
import threading
import tracemalloc
import warnings

import numpy as np
import pytest
from programs import write
from test_execute import random_program

from koubai.errors import CompileError, CompileWarning, TraceError
from koubai.execute import choose, library, llvm
from koubai.execute.arrays import compile_arrays
from koubai.execute.choose import Program
from koubai.execute.elements import NotLowerable
from koubai.execute.loops import BLOCK, CHUNK, compile_loops
from koubai.graph.call import Leaves, record_call, trace
from koubai.graph.graph import evaluate
from koubai.graph.reverse import reverse

pytestmark = pytest.mark.skipif(not library.available(), reason="llvmlite can't be loaded")

SIZES = (5, 7, 8, 9, 31, 32, 33, 63, 64, 65, 100, 1023, 1024, 1025, 4095, 4096, 4097)


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def log_sum_exp(x):
    top = np.max(x)
    return np.log(np.sum(np.exp(x - top))) + top


def laplacian(x):
    y = np.zeros_like(x)
    y[1:-1] = x[2:] - 2 * x[1:-1] + x[:-2]
    y[0] = x[1] - x[0]
    y[-1] += x[-2] - x[-1]
    return np.sum(y * y) + np.max(np.abs(y))


def joined(x):
    k = len(x) // 2
    y = np.concatenate([x[k:] * 2, np.sin(x[:k]), x[:1]])
    return np.sum(y[1:] * y[:-1]) + np.prod(1 + 0.001 * y)


def turned_round(x):
    y = np.exp(-x * x)
    z = y[::-1] * x + y
    return np.sum(z[1:] * z[:-1]) - np.min(z)


def several_passes(x):
    p = np.exp(x - np.max(x))
    p = p / np.sum(p)
    centred = x - np.sum(p * x)
    return np.sum(p * centred**2) + np.sum(np.tanh(centred)[1:] * p[:-1])


def assigned(x):
    y = x.copy()
    y[1:] *= x[:-1]
    y[:-1] += y[1:]
    y *= np.where(y > 0.5, 0.5, y)
    if np.any(y > 1e6):
        y = y * 2
    return np.sum(np.sqrt(np.abs(y) + 1)) + y[0] * y[-1]


def flat_matrix(x):
    m = (x[: len(x) // 2 * 2] * 1.5).reshape(2, -1)
    n = np.cos(m) * m + m[::-1].ravel().reshape(m.shape)
    return np.sum(n**2) + n[1, 0] + np.sum(n[0] * n[1])


def every_second(x):
    """The extended Rosenbrock function."""
    k = len(x) // 2 * 2
    a, b = x[:k:2], x[1:k:2]
    return np.sum(100 * (b - a**2) ** 2 + (1 - a) ** 2)


def with_gaps(x):
    y = np.zeros_like(x)
    y[::3] = np.tanh(x[::3])
    y[1::2] += x[1::2] * x[: len(x) // 2]
    y[::-2] *= 1.5
    z = np.cos(y)[::-1] + y
    return np.sum(z[::2]) * np.sum(y * x) + np.sum(z[:1] * y[-1:]) + np.sum(y[2::2][1:] * y[2::2][:-1])


PROGRAMS = (
    every_second,
    with_gaps,
    rosenbrock,
    log_sum_exp,
    laplacian,
    joined,
    turned_round,
    several_passes,
    assigned,
    flat_matrix,
)


def point(n, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).uniform(-1.5, 1.5, n).astype(dtype)


@functools.lru_cache(maxsize=256)
def gradient(f, n, dtype=np.float64):
    return trace(f, point(n, dtype)).gradient()


def agree(got, expected, rtol=1e-11):
    """Are they the same but for the order of sums and the rounding of functions?"""
    for a, b in zip(got, expected, strict=True):
        assert np.shape(a) == np.shape(b)
        assert a.dtype == b.dtype
        finite = np.isfinite(b)
        scale = np.max(np.abs(np.asarray(b)[finite]), initial=1e-3)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale)


def same_bits(a, b):
    return all(np.asarray(p).tobytes() == np.asarray(q).tobytes() for p, q in zip(a, b, strict=True))


def added(values):
    """Add in the documented order, in plain NumPy."""
    totals = []
    for start in range(0, len(values), CHUNK):
        chunk = values[start : start + CHUNK]
        sums = np.zeros(BLOCK, values.dtype)
        for k in range(0, len(chunk), BLOCK):
            part = chunk[k : k + BLOCK]
            sums[: len(part)] += part
        sums = sums.reshape(4, 8)
        sums = (sums[0] + sums[1]) + (sums[2] + sums[3])
        while len(sums) > 1:
            sums = sums[: len(sums) // 2] + sums[len(sums) // 2 :]
        totals.append(sums[0])
    while len(totals) > 1:
        odd = totals[-1:] if len(totals) % 2 else []
        totals = [a + b for a, b in zip(totals[::2], totals[1::2], strict=False)] + odd
    return totals[0]


@pytest.mark.sampled(11)
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("f", PROGRAMS)
def test_value_and_gradient(f, n):
    graph = gradient(f, n)
    run = compile_loops(graph)
    for seed in range(3):
        x = point(n, seed=seed) if seed < 2 else point(n) * 40
        expected, got = evaluate(graph, x), run(x)
        if got is None:
            assert compile_arrays(graph)(x) is None
            continue
        agree(got, expected)
        assert same_bits(got, run(x))


@pytest.mark.sampled(7)
@pytest.mark.parametrize("n", [5, 33, 1025, 5000])
@pytest.mark.parametrize("f", PROGRAMS)
def test_single_precision(f, n):
    graph = gradient(f, n, np.float32)
    x = point(n, np.float32)
    agree(compile_loops(graph)(x), evaluate(graph, x), 1e-3 if f is several_passes else 2e-5)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("exact", [True, False], ids=["arithmetic", "functions"])
@pytest.mark.parametrize("n", [3, 33, 64, 1030])
def test_random_graphs(n, exact):
    checked = 0
    for seed in range(12):
        x = point(n, seed=seed)
        graph = trace(random_program(seed, exact), x)
        for g in (graph, graph.gradient()):
            try:
                run = compile_loops(g)
            except NotLowerable:
                continue
            checked += 1
            first = run(x)
            agree(first, evaluate(g, x))
            kept = [np.array(v) for v in first]
            run(x + 1.0)  # must not write into what the caller already has
            assert same_bits(first, kept)
    assert checked > 12


@pytest.mark.slow
def test_random_programs():
    checked = 0
    for seed in range(700_000_000, 700_000_060):
        program = write(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            f, points, data, _ = program.load()
            leaves = Leaves.of(f, (points[0], *data), {}, (0,))
            try:
                graph = reverse(record_call(f, leaves, scalar=True).graph, leaves.active)
                run = compile_loops(graph)
            except (TraceError, NotLowerable):
                continue
            agree(run(*leaves.values), evaluate(graph, *leaves.values), 1e-3 if program.single else 1e-9)
        checked += 1
    assert checked > 40


# -- bits -------------------------------------------------------------------------------------------------------------


def test_arithmetic_has_numpys_bits():
    def f(x):
        y = x[1:] * x[:-1] - np.sqrt(np.abs(x[1:])) / (1 + x[:-1] ** 2)
        z = np.zeros_like(x)
        z[:-1] = np.maximum(y, 0.25) ** 2
        z[1:] += np.minimum(y, x[1:])
        return np.where(z > x, z, -x)

    for n in SIZES:
        x = point(n)
        graph = trace(f, x)
        assert same_bits(compile_loops(graph)(x), evaluate(graph, x))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n", [*SIZES, 50_000])
def test_a_sum_is_added_in_the_documented_order(n, dtype):
    x = point(n, dtype)
    graph = trace(lambda x: np.sum(x * x - x), x)
    assert compile_loops(graph)(x)[0] == added(x * x - x)

    def beside_others(x):
        y = np.zeros(len(x) + 40, dtype)
        y[7:-33] = np.exp(x)
        return np.sum(x[1:]) + np.max(y), np.sum(x * x - x), y[3:] * y[:-3]

    graph = trace(beside_others, x)
    assert compile_loops(graph)(x)[1] == added(x * x - x)


def test_sums_are_at_least_as_exact_as_numpys():
    from math import fsum

    for seed in range(20):
        x = np.random.default_rng(seed).standard_normal(100_000) * 1e3 + seed
        graph = trace(lambda x: np.sum(x * 1.0 + 0.0 - 0.0), x)
        exact, scale = fsum(x), fsum(np.abs(x))
        assert abs(compile_loops(graph)(x)[0] - exact) <= 2e-16 * scale


def test_nothing_depends_on_what_is_fused():
    x = point(5001)
    e = np.exp(x)
    alone = trace(lambda e: np.sum(e * 1.0 - 0.0), e)
    both = trace(lambda x, e: (np.sum(e * 1.0 - 0.0), np.sum(x * e), x[3:] * 2, e[::-1] + 1), x, e)
    assert compile_loops(alone)(e)[0] == compile_loops(both)(x, e)[0]


# -- what is not finite -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("f", [rosenbrock, laplacian, log_sum_exp, assigned, joined])
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_one_element_that_is_not_finite(f, odd):
    n = 70
    graph = gradient(f, n)
    run = compile_loops(graph)
    for place in (0, 1, 2, 31, 32, 33, 34, 35, 63, 64, 65, 67, 68, 69):
        x = point(n)
        x[place] = odd
        expected, got = evaluate(graph, x), run(x)
        if got is None:
            assert compile_arrays(graph)(x) is None
            continue
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
        agree(got, expected)


def test_signed_zeros():
    def f(x):
        y = np.zeros_like(x)
        y[2:] += x[:-2]
        return -x, x * 0.0, x + 0.0, y, np.sum(x[:3] * 1.0), np.copysign(1.0, x)

    x = np.where(np.arange(77) % 2 == 0, -0.0, 0.0)
    x[:3] = -0.0
    graph = trace(f, x)
    for a, b in zip(compile_loops(graph)(x), evaluate(graph, x), strict=True):
        np.testing.assert_array_equal(np.signbit(a), np.signbit(b))


def test_reductions_of_what_is_not_finite():
    def f(x):
        y = x * 1.0
        return np.max(y), np.min(y), np.any(y > 2), np.all(y > -2), np.sum(y), np.any(y)

    graph = trace(f, point(70))
    run = compile_loops(graph)
    for odd in (np.nan, np.inf, -np.inf, 3.0):
        for place in (0, 31, 40, 64, 69):
            x = point(70)
            x[place] = odd
            agree(run(x), evaluate(graph, x))


# -- the check of the first answer ------------------------------------------------------------------------------------


def smooth(x):
    return np.sum(np.exp(x[1:] - x[:-1]) * x[1:] ** 2 + np.where(x[1:] > 0.3, x[:-1], 2.0))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_right_loops_pass_the_check_of_their_first_answer(dtype):
    for seed in range(3):
        x = point(60_000, dtype, seed) * 10.0**seed
        if seed == 2:
            x[::1000] = np.nan, np.inf, -np.inf, 0.0, 1e30, -1.0, *([1e-30] * 54)
        program = Program(trace(smooth, x).gradient())
        assert program.executor == "native"
        first, second = program.run(x), program.run(x)
        assert program.executor == "native"
        assert same_bits(first, second)


@pytest.mark.parametrize("name", ["subtract", "multiply", "maximum"])
def test_wrong_loops_are_found_at_their_first_answer_and_not_used(monkeypatch, name):
    right = llvm._EMIT[name]
    library.clear()
    monkeypatch.setenv("KOUBAI_CACHE", "off")
    monkeypatch.setitem(
        llvm._EMIT, name, lambda code, a, b: code.binary("fadd", right(code, a, b), code.constant(1e-3, a.kind))
    )
    f = np.maximum if name == "maximum" else smooth
    x = point(70_000)
    graph = trace(lambda x: f(x * 2.0, 1.0) - x * 3.0 + x * x, x) if name == "maximum" else trace(f, x).gradient()
    expected = evaluate(graph, x)
    run = compile_loops(graph)
    with pytest.raises(CompileError, match=r"machine code gives output \d = .*, NumPy .* differ by"):
        choose._check(graph, [x], run(x))
    library.clear()
    program = Program(graph)
    assert program.executor == "native"
    with pytest.warns(CompileWarning, match="machine code gives output"):
        found = program.run(x)
    assert program.executor == "numpy"
    assert same_bits(found, expected)
    assert same_bits(program.run(x), expected)
    program.release()


def test_a_guard_that_fails_at_first_leaves_the_check_to_the_next_answer():
    def f(x):
        y = x * x + x - 1.0
        return np.sum(y * y) if np.sum(y) > 0.0 else np.sum(y)

    x = np.ones(60_000)
    library.clear()
    program = Program(trace(f, x))
    assert program.run(x * 0.0) is None
    assert program.run == program._compared
    agree(program.run(x), evaluate(trace(f, x), x))
    assert program.run != program._compared


def test_the_check_holds_no_more_arrays_than_a_step_needs():
    def f(x):
        for _ in range(12):
            x = np.sin(x) * x + 0.5
        return np.sum(x)

    x = point(300_000)
    graph = trace(f, x)
    results = compile_loops(graph)(x)
    tracemalloc.start()
    try:
        choose._check(graph, [x], results)
        assert tracemalloc.get_traced_memory()[1] < 5.5 * x.nbytes
    finally:
        tracemalloc.stop()


# -- the call ---------------------------------------------------------------------------------------------------------


def test_inputs_of_other_forms():
    graph = gradient(rosenbrock, 100)
    run = compile_loops(graph)
    wide = np.zeros((100, 3))
    wide[:, 1] = point(100)
    expected = run(point(100))
    unaligned = np.frombuffer(b"x" + point(100).tobytes(), np.float64, 100, 1)
    for x in (wide[:, 1], point(100)[::-1].copy()[::-1], unaligned, point(100).tolist(), point(100).astype(">f8")):
        assert same_bits(run(x), expected)
    with pytest.raises(CompileError):
        run(point(99))


def test_the_input_is_never_changed_nor_returned():
    def f(x):
        return x[:], x * 2 + 1 - x, x[::-1], x

    x = point(50)
    graph = trace(f, x)
    results = compile_loops(graph)(x)
    for a, b in zip(results, evaluate(graph, x), strict=True):
        np.testing.assert_array_equal(a, b)
        a[...] = 7.0
    np.testing.assert_array_equal(x, point(50))


def test_the_same_output_twice():
    def f(x):
        y = x * x + x - 1
        return y, y

    first, second = compile_loops(trace(f, point(40)))(point(40))
    first[0] = 99.0
    assert second[0] != 99.0


def test_a_guard_that_fails():
    def f(x):
        return np.sum(x * x + x) if np.sum(x) > 0 else np.sum(x * 2 - x * x)

    graph = trace(f, np.ones(50)).gradient()
    run = compile_loops(graph)
    agree(run(np.full(50, 2.0)), evaluate(graph, np.full(50, 2.0)))
    assert run(-np.ones(50)) is None
    agree(run(np.ones(50)), evaluate(graph, np.ones(50)))


def test_a_guard_on_a_number_and_on_an_array():
    def f(x):
        k = int(np.sum(x * 2) / 10)
        order = np.argsort(x * 1.0)
        return np.sum(x[k:] ** 2 + x[k:]) + (x * x)[int(order[0])]

    x = np.linspace(1.0, 2.0, 40)
    graph = trace(f, x)
    run = compile_loops(graph)
    agree(run(x), evaluate(graph, x))
    assert run(x * 3) is None
    assert run(x[::-1]) is None


def test_an_array_from_outside_is_read_anew():
    data = point(60, seed=5)

    def f(x):
        return np.sum((x - data) ** 2 * np.exp(-data)) + data[3]

    x = point(60)
    leaves = Leaves.of(f, (x,), {}, (0,))
    graph = record_call(f, leaves, scalar=True).graph.gradient()
    run = compile_loops(graph)
    agree(run(x), evaluate(graph, x))
    before = run(x)[0]
    data *= 2.0
    agree(run(x), evaluate(graph, x))
    assert run(x)[0] != before
    data.resize(30, refcheck=False)
    assert run(x) is None


def test_what_numpy_does_between_kernels():
    a = np.random.default_rng(3).standard_normal((40, 30))

    def f(x):
        residual = np.tanh(a @ x) * 2 - 1
        for _ in range(4):
            residual = np.cos(residual) * residual - 0.25 / (1 + residual**2)
        order = np.sort(residual * residual)
        return np.sum(np.exp(order[1:]) * order[:-1]) + np.sum(np.cumsum(x * 0.5) ** 2)

    x = point(30)
    graph = trace(f, x).gradient()
    run = compile_loops(graph)
    first = run(x)
    kept = [np.array(v) for v in first]
    agree(first, evaluate(graph, x))
    agree(run(-x), evaluate(graph, -x))
    assert same_bits(first, kept)
    assert "plain" in run.source
    assert "kernel1" in run.source


def test_constants_of_every_kind():
    weights = np.arange(50)

    def f(x):
        y = x * np.arange(50) + np.array([1, 2] * 25) - np.float64(2.0) * x
        return np.sum(np.where(np.arange(50) % 2 == 0, y, -y) * weights) + np.sum(y * np.linspace(0, 1, 50))

    for dtype in (np.float64, np.float32):
        x = point(50, dtype)
        graph = trace(f, x).gradient()
        agree(compile_loops(graph)(x), evaluate(graph, x), 1e-5 if dtype == np.float32 else 1e-11)


def test_empty_and_single_elements():
    def f(x):
        empty = x[3:3] * 2 + 1
        one = x[:1] * 3 + x[1:2]
        return np.sum(np.concatenate([empty, one, x * 2, empty])) + np.sum(empty) + one[0]

    x = point(40)
    graph = trace(f, x).gradient()
    agree(compile_loops(graph)(x), evaluate(graph, x))
    single = point(1)
    graph = trace(lambda x: np.sum(x * x + np.exp(x)) + x[0], single).gradient()
    with contextlib.suppress(NotLowerable):
        agree(compile_loops(graph)(single), evaluate(graph, single))
    with pytest.raises(NotLowerable):
        compile_loops(trace(lambda x: np.sum(x * x * 2 + 1), np.zeros(0)))


def test_where_nothing_is_gained():
    for f in (lambda x: np.sort(x), lambda x: x * 2, lambda x: x.reshape(5, 10) @ x[:10], lambda x: x[1:]):
        with pytest.raises(NotLowerable):
            compile_loops(trace(f, point(50)))
    with pytest.raises(NotLowerable):
        compile_loops(trace(lambda x: np.real(np.sum(x * x + x * 2j - 1)), point(50) + 1j))


def test_expensive_functions_are_computed_once():
    def f(x):
        y = np.exp(x)
        return np.sum(y[1:] * y[:-1])

    run = compile_loops(trace(f, point(500)).gradient())
    assert run.passes == [2]
    assert compile_loops(gradient(rosenbrock, 500)).passes == [1]
    assert compile_loops(gradient(every_second, 500)).passes == [1]
    assert compile_loops(gradient(log_sum_exp, 500)).passes == [4]


def test_many_cuts():
    def shifted(count):
        def f(x):
            y = x * 2
            for k in range(count):
                y[5 * k : 5 * k + 3] += x[k] * y[7 * k : 7 * k + 3]
            return np.sum(y * x)

        return f

    x = point(400)
    graph = trace(shifted(5), x).gradient()
    agree(compile_loops(graph)(x), evaluate(graph, x))
    with pytest.raises(NotLowerable):  # soon, too
        compile_loops(trace(shifted(40), x).gradient())


def test_long_chains_of_shifts():
    def f(x):
        y = x
        for _ in range(5):
            y = y[1:] * 0.5 + np.tanh(y[:-1]) * 0.25
        for _ in range(8):
            y = y[1:] - 0.5 * y[:-1]
        return np.sum(y * y)

    x = point(300)
    graph = trace(f, x).gradient()
    agree(compile_loops(graph)(x), evaluate(graph, x))


def test_threads():
    graph = gradient(several_passes, 3000)
    run = compile_loops(graph)
    points = [point(3000, seed=seed) for seed in range(8)]
    expected = [run(x) for x in points]
    wrong = []

    def work(k):
        for _ in range(30):
            if not same_bits(run(points[k]), expected[k]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_memory():
    x = np.random.default_rng(0).standard_normal(1_000_000)
    run = compile_loops(trace(rosenbrock, x).gradient())
    gc.collect()
    tracemalloc.start()
    try:
        run(x)
        assert tracemalloc.get_traced_memory()[1] < 1.1 * x.nbytes  # the gradient, and next to nothing beside it
    finally:
        tracemalloc.stop()
    run.release()

    def many_passes(x):
        for _ in range(8):
            x = np.exp(x - np.max(x))
            x = x[1:] * x[:-1] / np.sum(x)
        return x

    graph = trace(many_passes, x)
    run = compile_loops(graph)
    tracemalloc.start()
    try:
        result = run(x)[0]
        assert run.passes[0] > 8
        assert tracemalloc.get_traced_memory()[1] < 4.1 * x.nbytes
    finally:
        tracemalloc.stop()
    agree([result], evaluate(graph, x))
    run.release()
    run = compile_loops(trace(rosenbrock, x).gradient())
    agree(run(x), evaluate(trace(rosenbrock, x).gradient(), x))


def test_arguments_of_other_kinds():
    def f(x, scale, mask, counts, matrix):
        y = np.where(mask, x * scale, np.cos(x)) + counts * x
        z = matrix * 2.0 - np.sqrt(np.abs(matrix))
        return np.sum(y * y) + np.sum(z[1] * x[: z.shape[1]]) + np.max(z.T)

    x = point(60)
    data = (np.float32(1.5), x > 0.3, np.arange(60), np.asfortranarray(point(60).reshape(6, 10)))
    leaves = Leaves.of(f, (x, *data), {}, (0,))
    graph = reverse(record_call(f, leaves, scalar=True).graph, leaves.active)
    run = compile_loops(graph)
    for scale in (np.float32(1.5), np.float32(-0.25), np.array(2.0, np.float32)):
        values = (x, scale, *data[1:])
        agree(run(*values), evaluate(graph, *values))


def test_results_are_numpys_types():
    def f(x):
        y = x * 2 + 1
        return np.sum(y), np.sum(y, keepdims=True), np.any(y > 0), y > 0, np.sum(y.astype(np.float32)), y[3], y[:1]

    graph = trace(f, point(50))
    for a, b in zip(compile_loops(graph)(point(50)), evaluate(graph, point(50)), strict=True):
        assert type(a) is type(b)
        assert a.dtype == b.dtype
        assert np.shape(a) == np.shape(b)


def test_code_is_found_again_for_the_same_loops():
    one, other = (compile_loops(trace(rosenbrock, x).gradient()) for x in (point(200), point(200, seed=1)))
    assert one.source == other.source
    assert same_bits(one(point(200)), other(point(200)))
