"""Long loops: recurrences of thousands of steps, as people write them, are linear in their steps in every respect."""

import gc
import math
import tracemalloc

import numpy as np
import pytest
from executors import same_bits

from koubai.derivatives import agreement
from koubai.derivatives.gradient import value_and_grad
from koubai.execute import choose
from koubai.execute.arrays import compile_arrays
from koubai.execute.interpreter import interpret
from koubai.execute.memory import MemoryPlan, sweep
from koubai.execute.regions import partition
from koubai.graph import infer
from koubai.graph.call import trace
from koubai.graph.graph import evaluate

R = np.random.default_rng(0).standard_normal(20_000)
A = np.array([[0.0, 1.0], [-1.0, -0.1]])


def garch(n):
    def f(p):
        h, total = 1.0, 0.0
        for t in range(n):
            h = p[0] + p[1] * R[t] ** 2 + p[2] * h
            total = total + np.log(h) + R[t] ** 2 / h
        return 0.5 * total

    return f, [0.1, 0.1, 0.8]


def plain_numbers(n):
    squares = (R[:n] ** 2).tolist()

    def f(p):
        w, a, b = p.tolist()
        h, total = 1.0, 0.0
        for square in squares:
            h = w + a * square + b * h
            total += math.log(h) + square / h
        return 0.5 * total

    return f, [0.1, 0.1, 0.8]


def table(n):
    def f(p):
        h = np.zeros(n)
        h[0] = 1.0
        for t in range(1, n):
            h[t] = p[0] + p[1] * R[t - 1] ** 2 + p[2] * h[t - 1]
        return np.sum(np.log(h))

    return f, [0.1, 0.1, 0.8]


def rows(n):
    def f(p):
        y = np.zeros((n, 2))
        y[0] = [1.0, 0.5]
        for i in range(n - 1):
            y[i + 1] = y[i] + p / n * np.sin(y[i])  # the row is read again on the way back
        return np.sum(y[-1])

    return f, [-0.5, 0.3]


def added_to(n):
    def f(p):
        y = np.zeros(n)
        for i in range(1, n):
            y[i] += 0.9 * y[i - 1] + p[0]
            y[[i]] *= p[1]
        return y[-1] + y[n // 2]

    return f, [0.1, 0.5]


def collected(n):
    def f(p):
        h = [1.0]
        for t in range(1, n):
            h.append(p[0] + p[1] * np.tanh(h[t - 1]))
        return np.mean(np.array(h) ** 2) + np.sum(np.concatenate([np.atleast_1d(v) for v in h[-9:]]))

    return f, [0.1, 0.9]


def branches(n):
    def f(p):
        h, total, t = 1.0, 0.0, 0
        while t < n:
            h = p[0] + p[1] * h
            if h > 1.2:
                h = 1.2 * p[2]
            total = total + h * R[t]
            t += 1
        return total

    return f, [0.3, 0.9, 0.3]


def runge_kutta(n):
    def slope(y, p):
        return np.array([p[0] * y[0] - y[0] * y[1], y[0] * y[1] - p[1] * y[1]])

    def f(p):
        y, dt = np.array([1.0, 0.5]), 0.001
        for _ in range(n // 8):
            k1 = slope(y, p)
            k2 = slope(y + dt / 2 * k1, p)
            k3 = slope(y + dt / 2 * k2, p)
            y = y + dt / 6 * (k1 + 2 * k2 + 2 * k3 + slope(y + dt * k3, p))
        return np.sum((y - 1) ** 2)

    return f, [1.1, 0.4]


def in_place(n):
    def f(p):
        y, total = p.copy(), 0.0
        for _ in range(n):
            y += 0.01 * (A @ y)
            total += y[0] ** 2
        return total

    return f, [1.0, 0.5]


def views_of_views(n):
    def f(x):
        total, left = 0.0, x
        for _ in range(n):
            total = total + left[0] * left[-1]
            left = left[1:] if len(left) > 3 else left.reshape(-1)[::-1]
        return total

    return f, [1.0, -2.0, 0.5, 0.25, 3.0]


CASES = [
    *(garch, plain_numbers, table, rows, added_to, collected, branches, runge_kutta, in_place, views_of_views),
]


@pytest.mark.sampled(5)
@pytest.mark.parametrize(("case", "n"), [*((case, 2_000) for case in CASES), (table, 8_000), (garch, 20_000)])
def test_very_many_steps(case, n):
    """No step deepens a recursion, and what comes out is the derivative along a direction."""
    f, start = case(n)
    x = np.array(start)
    value, gradient = value_and_grad(f, method="backprop")(x)
    assert value == pytest.approx(f(x), rel=1e-12)
    along, h = np.array(start) * np.resize([1.0, -0.5], len(start)), 1e-6
    difference = (f(x + h * along) - f(x - h * along)) / (2 * h)
    if case is not branches:  # it jumps within every step
        assert gradient @ along == pytest.approx(difference, rel=1e-4, abs=1e-6 * abs(value))


def elements_moved(graph):
    """Return how many elements a run of the graph makes or copies."""
    memory = MemoryPlan(graph.nodes, graph.outputs)
    total = 0
    for i, node in enumerate(graph.nodes):
        if i in memory.in_place:
            total += math.prod(graph.nodes[node.inputs[1]].shape)
        elif memory.roots[i] == i:
            total += math.prod(node.shape)
    return total


@pytest.mark.sampled(3)
@pytest.mark.parametrize("case", CASES)
def test_nodes_and_elements_moved_grow_with_the_steps(case):
    counts = []
    for n in (256, 512, 1024):
        f, start = case(n)
        graph = trace(f, np.array(start))
        both = graph.gradient()
        counts.append((len(graph.nodes), len(both.nodes), elements_moved(graph), elements_moved(both)))
    for small, middle, large in zip(*counts, strict=True):
        assert large - middle <= 2.1 * (middle - small)
        assert large <= 60 * 1024


@pytest.mark.sampled(4)
@pytest.mark.parametrize("case", [collected, garch, table, rows])
def test_the_first_gradient_takes_memory_in_proportion_to_the_steps(case):
    peaks = []
    for n in (100, 300, 900):  # the first for what is loaded late
        f, start = case(n)
        tracemalloc.start(1)
        try:
            value_and_grad(f, method="backprop")(np.array(start))
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[2] - peaks[1] <= 10_000 * 600


@pytest.mark.parametrize("case", CASES)
def test_one_by_one_and_written_out_give_the_same_bits(case):
    f, start = case(60)
    x = np.array(start)
    graph = trace(f, x).gradient()
    expected = evaluate(graph, x)
    for run in (interpret(graph), compile_arrays(graph)):
        for _ in range(2):  # what was written in place must not show in the next run
            for found, wanted in zip(run(x), expected, strict=True):
                assert same_bits(np.asarray(found), np.asarray(wanted)).all()


def test_results_are_memory_of_their_own():
    def f(x):
        y = x * 2.0
        for i in range(3):
            y[i] = y[i] * x[i]
        return y, y[1:], x, np.ones(2)

    x = np.arange(1.0, 4.0)
    graph = trace(f, x)
    run = interpret(graph)
    first = run(x)
    kept = [np.copy(part) for part in first]
    for part in first:
        part[...] = -1.0
    assert not np.any(x == -1.0)
    for found, wanted in zip(run(x), kept, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_slice_that_lives_on_is_copied_and_not_its_table():
    f, start = rows(40)
    graph = trace(f, np.array(start)).gradient()
    memory = MemoryPlan(graph.nodes, graph.outputs)
    writes = [i for i, node in enumerate(graph.nodes) if node.op.name == "setitem" and len(node.shape) == 2]
    assert len(memory.in_place.intersection(writes)) >= len(writes) - 1
    assert len(memory.copied) >= 39
    source = compile_arrays(graph).source
    assert source.count("copyto") < 2.5 * 40  # a slice, and no table, a step


def test_guards_and_changed_arrays_stop_the_interpreter():
    data = np.ones(3)
    run = interpret(trace(lambda x: np.sum(x * data) if x[0] > 0 else x[0], np.ones(3)))
    assert run(np.full(3, 2.0)) == (6.0,)
    assert run(-np.ones(3)) is None
    data.shape = (3, 1)
    assert run(np.ones(3)) is None


def test_a_program_is_written_only_after_many_runs_and_then_gives_the_same(monkeypatch):
    f, start = garch(200)
    x = np.array(start)
    graph = trace(f, x).gradient()
    assert len(graph.nodes) > choose.MANY
    program = choose.Program(graph)
    first = program.run(x)
    assert (program.executor, program.source) == ("numpy", "")
    for _ in range(choose.RUNS_OF_MANY):
        last = program.run(x)
    assert program.source.startswith("def run")
    assert last[0] == first[0]
    np.testing.assert_array_equal(last[1], first[1])
    monkeypatch.setattr(choose, "TOO_MANY", 100)
    program = choose.Program(graph)
    for _ in range(choose.RUNS_OF_MANY + 1):
        program.run(x)
    assert program.source == ""


def test_large_arrays_are_no_matter_for_the_interpreter():
    def f(x):
        for _ in range(choose.MANY):
            x = x * 0.999
        return x.sum()

    few, many = (trace(f, np.ones(n)) for n in (10, 2 * choose.SMALL))
    assert choose.Program(few).source == ""
    assert choose.Program(many).source


def test_a_long_chain_of_products_beside_loops_is_no_recursion():
    def f(x):
        y = np.tanh(2.0 * x + 1.0)
        for _ in range(3000):
            y = A @ y
        return np.sum(y * y)

    graph, _ = partition(trace(f, np.ones((2, 40))))
    assert len(graph.nodes) > 3000


def test_the_witness_goes_through_a_long_loop_once_a_way(monkeypatch):
    """Slopes of numbers are found together: no call for each of them."""
    calls = []
    pushed = agreement._pushed_forward
    monkeypatch.setattr(agreement, "_pushed_forward", lambda *args: calls.append(args[0].shape) or pushed(*args))
    f, start = branches(500)
    x = np.array(start)
    value_and_grad(f, method="backprop")(x)
    assert 0 < len(calls) < 200
    assert max(math.prod(shape) for shape in calls) >= 400


def test_a_sweep_gives_what_the_graph_means():
    for case in CASES:
        f, start = case(50)
        graph = trace(f, np.array(start))
        found = sweep(graph, [np.array(start)], lambda i, node, held, memory: memory.perform(i, node, held))
        assert found[graph.outputs[0]] == evaluate(graph, np.array(start))[0]


def test_a_sweep_returns_what_guards_look_at_as_it_was():
    def f(x):
        index = np.floor(x).astype(int) - 1
        seen = index.__array__()  # looked at as a whole
        index[1] = 2
        return np.sum(x[index]) * seen[1]

    x = np.array([1.5, 2.0, 3.0])
    graph = trace(f, x)
    assert graph.guards
    found = sweep(graph, [x], lambda i, node, held, memory: memory.perform(i, node, held))
    assert all(guard.holds(found[guard.node]) for guard in graph.guards)


def test_places_in_an_array_do_not_crowd_out_what_is_known_of_forms():
    f, start = table(400)
    before = len(infer._inferred)
    trace(f, np.array(start)).gradient()
    assert len(infer._inferred) <= before + 40


def test_the_garbage_collector_looks_as_often_as_before_once_a_function_is_traced():
    before, meanwhile = gc.get_threshold(), []

    def f(x):
        meanwhile.append(gc.get_threshold()[0])
        trace(lambda y: y * 2.0, x.item())
        meanwhile.append(gc.get_threshold()[0])
        if x > 2:
            raise ValueError("too large")
        return x * x

    trace(f, 1.0)
    with pytest.raises(ValueError, match="too large"):
        trace(f, 3.0)
    assert gc.get_threshold() == before
    assert meanwhile[0] >= before[0]
