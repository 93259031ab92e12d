"""Every executor against `evaluate`: a slice of the graphs of programs.py, and what one of them once got wrong."""

import functools

import numpy as np
import pytest
from executors import Agreement, odd_points
from programs import examine, examine_all, examine_vectors

from koubai.execute import library, llvm
from koubai.execute.arrays import compile_arrays
from koubai.graph.call import Leaves, record_call, trace

FIRST = 800_000_000  # seeds of their own


def compare(graph, *points):
    """Compare all executors at these points, and at odd ones near the first; return the names of those that ran."""
    agreement = Agreement(graph)
    for given in [*points, *odd_points(points[0], 3, 0)]:
        assert not agreement.look(given)
    return set(agreement.executors)


FEW = functools.partial(examine_vectors, kind="few")
ROWS = functools.partial(examine_vectors, kind="rows")


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("look", "count"),
    [(FEW, 60), (examine_vectors, 20), (ROWS, 15), (examine, 25)],
    ids=["few numbers", "vectors", "rows", "programs"],
)
def test_random_graphs_mean_the_same_in_every_executor(look, count):
    statistics = examine_all(range(FIRST, FIRST + count), look=look)
    assert not statistics.failures, "\n".join(f"{o.seed}: {o.reason}" for o in statistics.failures)
    graphs = sum((o.graphs for o in statistics.outcomes), start=type(statistics.outcomes[0].graphs)())
    machine = {"native"} if look is FEW else {"native", "loops", "regions"}
    wanted = {"numpy", "interpreter", "floats", *(machine if library.available() else ())}
    assert set(graphs) - {"floats"} == wanted - {"floats"}


@pytest.mark.skipif(not library.available(), reason="llvmlite can't be loaded")
@pytest.mark.slow
def test_a_wrong_emitter_does_not_pass(monkeypatch):
    monkeypatch.setitem(llvm._EMIT, "subtract", lambda code, a, b: code.binary("fsub", b, a))
    failed = examine_all(range(FIRST + 1000, FIRST + 1006), look=examine_vectors).failures
    assert len(failed) >= 2
    assert all(" - " in outcome.reason for outcome in failed)  # it is told which node it is


# -- what they once got wrong -----------------------------------------------------------------------------------------


def test_degrees_of_float32_are_rounded_as_numpys():
    x = np.linspace(-3.0, 3.0, 200).astype(np.float32)
    compare(trace(lambda x: (np.degrees(x), np.radians(x) * 1 + x), x), [x])


def test_a_sum_of_negative_zeros_is_zero():
    zeros = np.full(6, -0.0)
    compare(trace(lambda x: (np.sum(x), np.sum(x * 1.0), np.sum(x.reshape(2, 3), axis=0)), zeros), [zeros])
    compare(trace(lambda x: x[1:] * np.sum(x[:1] * 1.0) - np.sum(x[1:2]), zeros), [zeros])
    m = np.full((4, 5), -0.0)
    compare(trace(lambda m: (np.sum(m * 1.0 + m, axis=1), np.sum(m + m, axis=0), m @ m[0]), m), [m])


def test_a_negative_zero_added_to_zeros_is_zero():
    def f(x):
        y = np.zeros_like(x)
        y[1:] = x[:-1]
        y[0] += x[-1]
        return np.sum(y * y)

    x = np.full(5, -0.0)
    compare(trace(f, np.ones(5)).gradient(), [x])


def test_of_two_zeros_all_machine_code_and_python_numbers_choose_the_same():
    x, y = np.array([0.0, -0.0, 0.0, -0.0]), np.array([-0.0, 0.0, 0.0, -0.0])
    graph = trace(lambda x, y: (np.maximum(x, y) * 1.0 * 1.0, np.minimum(x, y) * 1.0 * 1.0), x, y)
    results = [run(x, y) for name, run in Agreement(graph).executors.items() if name != "numpy"]
    for found in results[1:]:
        np.testing.assert_array_equal(np.signbit(found), np.signbit(results[0]))


def test_a_number_whose_square_overflows_is_inf():
    for f in (lambda s: s**2 + 1.0, lambda s: np.exp(s) * s):
        compare(trace(f, 1.5), [1.5], [1e200], [-1e200])


def test_regions_read_arrays_that_the_function_holds_and_numbers_of_any_form():
    data = np.linspace(0.0, 1.0, 12).reshape(4, 3)[:, ::-1]
    weights = np.arange(3.0)

    def f(x):
        total = np.sum(x, keepdims=True)
        y = np.tanh(x * data + weights) * total + np.any(x > 0)
        return np.sum(y * np.array([0.5, 2.0, 1.0])), y * np.float32(0.5)

    x = np.ones((4, 3))
    assert "regions" in compare(trace(f, x), [x])


def test_results_of_regions_are_returned_joined_shown_and_written_on():
    def f(x):
        y = np.exp(x) + 1.0
        norm = np.sum(y * y, axis=1)
        rows = np.sqrt(norm) + norm
        rows[0] += 2.0
        flat = (y * 2.0 - x).ravel()
        return flat[::-1], rows.reshape(2, -1), np.concatenate([flat, rows]), y, y.T

    x = np.linspace(-1.0, 1.0, 24).reshape(4, 6)
    assert "regions" in compare(trace(f, x), [x])


def test_regions_keep_guards_and_what_comes_after_them():
    def f(x):
        y = x * 2.0 + 1.0
        large = np.exp(y[y > 0.5]) * 2.0  # as many elements as the guard on y > 0.5 says
        return np.sum(large * np.arange(1.0, 1.0 + len(large))) + np.sum(large[1:] * large[:-1])

    x = np.linspace(-1.0, 1.0, 20)
    assert "regions" in compare(trace(f, x), [x], [-x], [x + 1.0], [np.roll(x, 3)])
    x = x.reshape(4, 5)
    compare(trace(lambda x: f(x.ravel()) + np.sum(np.sum(x * x, axis=1)), x), [x], [-x], [x - 3.0])


def test_a_sum_goes_the_way_its_rows_lie():
    x = np.random.default_rng(0).uniform(-700.0, 700.0, (3, 4))
    graph = trace(lambda x: np.sum(x[:, np.array([0, 0, 1, 1])] * -0.22), x)
    compare(graph, [x])
    assert compile_arrays(graph)(x)[0] == pytest.approx(np.sum(x[:, [0, 0, 1, 1]] * -0.22), rel=1e-13)


def test_guards_on_an_argument_itself():
    def sorted_by(x, data):
        return np.sum(x * data[np.lexsort((data,))])

    x, data = np.array([1.0, 2.0, 3.0]), np.array([0.5, -1.0, 2.0])
    graph = record_call(sorted_by, Leaves.of(sorted_by, (x, data), {}, (0,)), scalar=True).graph
    compare(graph, [x, data], [x, -data], [x, data * 2])
    compare(trace(lambda s: s * 2.0 + 1.0 - s * s if s else s, 1.5), [1.5], [0.0], [-1.0])


def test_a_number_of_a_region_is_spread_over_an_array():
    def f(x):
        y = x * x + 1.0
        total = np.sum(y * np.exp(x))
        return np.sum(np.full((3, 2), total) * 2.0) + np.sum(np.broadcast_to(total, (4,))[1:])

    x = np.linspace(0.0, 1.0, 12)
    assert "regions" in compare(trace(f, x).gradient(), [x])
