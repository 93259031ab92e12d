"""Machine code against `evaluate`, which is what a graph means: graphs in registers and whole descents."""

import math
import threading

import numpy as np
import pytest
from support.native import compile_native
from test_execute import agree, random_program

import koubai as kb
from koubai.derivatives import paths
from koubai.descent import compiled_stepper
from koubai.descent.record import Recorder
from koubai.errors import CompileWarning, Interrupted
from koubai.execute import choose, library, native
from koubai.execute.abi import operations
from koubai.execute.elements import NotLowerable
from koubai.graph.call import trace
from koubai.graph.graph import evaluate

pytestmark = pytest.mark.skipif(not library.available(), reason="llvmlite can't be loaded")


@pytest.fixture(autouse=True)
def from_the_first_step_on(monkeypatch):
    """Let machine code take over from the loop of Python numbers at once."""
    monkeypatch.setattr(compiled_stepper, "NATIVE_FROM", 0)
    monkeypatch.setattr(choose, "NATIVE_FROM", 0)


def rosenbrock(x):
    return (1 - x[0]) * (1 - x[0]) + 100.0 * (x[1] - x[0] * x[0]) * (x[1] - x[0] * x[0])


def same_run(a, b):
    """Are two runs the same to the bit, but for what executed them?"""
    for name in ("fun", "nit", "nfev", "njev", "status", "message", "best_fun"):
        assert getattr(a, name) == getattr(b, name), name
    for name in ("x", "jac", "best_x"):
        np.testing.assert_equal(getattr(a, name), getattr(b, name))
    for name in ("t", "x", "fun", "grad_norm", "lr", "clipped", "projected"):
        np.testing.assert_equal(getattr(a.history, name), getattr(b.history, name))


# -- graphs in registers ----------------------------------------------------------------------------------------------


@pytest.mark.sampled(5)
@pytest.mark.parametrize("exact", [True, False], ids=["arithmetic", "functions"])
@pytest.mark.parametrize("n", [2, 7, 8, 19])
def test_random_graphs_mean_the_same_in_machine_code(n, exact):
    checked = 0
    for seed in range(25):
        x = np.random.default_rng(seed + 1000).uniform(-1.5, 1.5, n)
        graph = trace(random_program(seed, exact), x)
        for g in (graph, graph.gradient()):
            try:
                run = compile_native(g)
            except NotLowerable:
                continue
            checked += 1
            for point in (x, x * 3.0, np.where(np.arange(n) == 1, np.nan, x), np.where(np.arange(n) == 0, np.inf, x)):
                expected, got = evaluate(g, point), run(point)
                if got is not None:
                    agree(got, expected, exact)
    assert checked > 20


def test_sums_are_added_in_numpys_order():
    rng = np.random.default_rng(0)
    for shape, axis in (((7,), None), ((8,), None), ((9,), None), ((130,), None), ((300,), None), ((4, 20), 1),
                        ((20, 4), 0), ((5, 30), None), ((2, 3, 4), (0, 2))):  # fmt: skip
        x = rng.standard_normal(shape) * 10.0 ** rng.integers(-8, 8, shape)
        g = trace(lambda x, axis=axis: np.sum(x, axis=axis) * 1.0, x)
        agree(compile_native(g)(x), evaluate(g, x), True)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("running", "backwards"),  # whose gradient runs, too
    [
        (np.cumsum, lambda x, axis: np.sum(x * np.cumsum(x, axis))),
        (np.cumprod, lambda x, axis: np.sum(np.prod(x, axis))),
    ],
)
def test_running_sums_and_products_have_numpys_bits(running, backwards, dtype):
    rng = np.random.default_rng(0)
    for shape, axis in (((1,), 0), ((9,), 0), ((20,), -1), ((4, 5), 0), ((4, 5), 1), ((2, 3, 4), 1)):
        x = (rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 3, shape)).astype(dtype)
        x[np.unravel_index(0, shape)] = -0.0
        for g in (
            trace(lambda x, axis=axis: running(x, axis=axis), x),
            trace(lambda x, axis=axis: backwards(x, axis), x).gradient(),
        ):
            run = compile_native(g)
            for point in (x, np.where(x > 1, np.nan, x), np.where(x > 0, -0.0, x), x * dtype(1e18)):
                agree(run(point), evaluate(g, point), True)


def test_whole_numbers_that_are_only_moved_are_no_hindrance():
    x = np.array([1.5, -2.0])
    for f in (lambda x: np.arange(1, 3) @ x, lambda x: (np.array([[2]]) @ x[None, :1]).sum() * x[1]):
        for g in (trace(f, x), trace(f, x).gradient()):
            agree(compile_native(g)(x), evaluate(g, x), True)


def test_a_guard_that_fails_gives_no_answer():
    graph = trace(lambda x: x[0] ** 2 if x[0] > 0 else -x[0], np.array([1.0]))
    run = compile_native(graph)
    assert run(np.array([2.0]))[0] == 4.0
    assert run(np.array([-2.0])) is None
    assert run(np.array([np.nan])) is None


def test_an_array_from_outside_is_read_anew():
    data = np.array([1.0, 2.0, 3.0])
    graph = trace(lambda x: np.sum((x - data) * (x - data)), np.zeros(3))
    run = compile_native(graph)
    assert run(np.zeros(3))[0] == 14.0
    data[0] = 5.0
    assert run(np.zeros(3))[0] == 38.0


def test_float32_stays_float32():
    x = np.array([0.1, 0.7, -1.3], np.float32)
    for g in (trace(lambda x: np.sum(x * x * 3.0 + x / 7.0), x), trace(lambda x: np.sqrt(np.sum(x * x)), x).gradient()):
        agree(compile_native(g)(x), evaluate(g, x), True)


def test_what_has_no_code_is_refused():
    for f, x in (
        (lambda x: np.sum(np.sort(x)), np.arange(3.0)),
        (lambda x: np.linalg.det(x), np.eye(3)),
        (lambda x: np.sum(x * 2.0), np.arange(5000.0)),
    ):
        with pytest.raises(NotLowerable):
            compile_native(trace(f, x))


def test_the_fingerprint_tells_graphs_apart():
    x = np.array([1.0, 2.0])
    graphs = [
        trace(lambda x: x[0] * 2.0 + x[1], x),
        trace(lambda x: x[0] * 3.0 + x[1], x),
        trace(lambda x: x[1] * 2.0 + x[0], x),
        trace(lambda x: x[0] * 2.0 + x[1], x.astype(np.float32)),
        trace(lambda x: x[0] * 2.0 - x[1], x),
        trace(lambda x: x[0] * 2.0 + x[1] if x[0] > 0 else x[1], x),
    ]
    prints = [native.fingerprint(g) for g in graphs]
    assert len(set(prints)) == len(graphs)
    assert native.fingerprint(trace(lambda x: x[0] * 2.0 + x[1], x * 5)) == prints[0]


# -- whole descents ---------------------------------------------------------------------------------------------------

DESCENTS = {
    "converges": (rosenbrock, [-1.2, 1.0], kb.Momentum(lr=1e-3), {}),
    "step limit": (rosenbrock, [-1.2, 1.0], kb.SGD(lr=1e-3), {"max_steps": 3000}),
    "diverges": (rosenbrock, [-1.2, 1.0], kb.SGD(lr=1e-2), {}),
    "ftol": (rosenbrock, [-1.2, 1.0], kb.Momentum(lr=1e-3), {"ftol": 1e-10}),
    "xtol": (rosenbrock, [-1.2, 1.0], kb.Momentum(lr=1e-3), {"xtol": 1e-8, "gtol": 0.0}),
    "target": (rosenbrock, [-1.2, 1.0], kb.Adam(lr=1e-2), {"target": 0.5}),
    "stalls": (lambda x: (x[0] - 1) * (x[0] - 1), [3.0], kb.SGD(lr=0.1), {"gtol": 0.0}),
    "bounds": (rosenbrock, [-1.2, 0.4], kb.Adam(lr=1e-2), {"bounds": [(-2.0, 0.5), (None, None)]}),
    "clipnorm": (rosenbrock, [-1.2, 1.0], kb.Adam(lr=1e-2, clipnorm=1.0), {}),
    "clipvalue": (rosenbrock, [-1.2, 1.0], kb.Momentum(lr=1e-3, clipvalue=5.0), {}),
    "schedule": (rosenbrock, [-1.2, 1.0], kb.Adam(lr=kb.schedules.exponential(1e-2, 0.999)), {"max_steps": 3000}),
    "function as rate": (rosenbrock, [-1.2, 1.0], kb.SGD(lr=lambda t: 1e-3 / (1 + t / 500)), {"max_steps": 2000}),
    "weight decay": (rosenbrock, [-1.2, 1.0], kb.AdamW(lr=1e-2, weight_decay=0.1), {}),
    "f below zero": (lambda x: x[0] * x[0] * x[0], [1.0], kb.SGD(lr=0.1), {}),
    "nan ahead": (lambda x: np.sqrt(x[0]) + x[0], [0.5], kb.SGD(lr=0.01), {}),
    "branches": (lambda x: abs(x[0]) + (x[1] if x[1] > 0 else -2 * x[1]), [-1.2, 1.0], kb.SGD(lr=1e-2), {}),
    "dict": (lambda p: np.sum(p["W"] * p["W"]) + (p["b"] - 2) * (p["b"] - 2), {"W": np.eye(2), "b": 0.5},
             kb.Adam(lr=1e-2), {}),
    "number": (lambda x: (x - 2.0) * (x - 2.0), 5.0, kb.Nesterov(lr=0.05), {}),
    "record off": (rosenbrock, [-1.2, 1.0], kb.Momentum(lr=1e-3), {"record": "off"}),
    "float32": (rosenbrock, np.array([-1.2, 1.0], np.float32), kb.Momentum(lr=1e-3), {"max_steps": 3000}),
}  # fmt: skip


@pytest.mark.sampled(11)
@pytest.mark.parametrize("kind", ["machine code", "Python numbers"])
@pytest.mark.parametrize("name", DESCENTS)
def test_a_descent_in_a_loop_is_the_one_step_by_step_to_the_bit(name, kind, monkeypatch):
    f, x0, optimizer, options = DESCENTS[name]
    if kind == "Python numbers":
        if name in ("float32", "dict"):  # float64 only, and no more than eight elements side by side
            pytest.skip("not of this kind")
        monkeypatch.setattr(compiled_stepper, "NATIVE_FROM", 10**9)
        monkeypatch.setattr(choose, "NATIVE_FROM", 10**9)
        monkeypatch.setattr(paths, "_trace_cache", paths._TraceCache())  # or machine code may be there already
        run = kb.minimize(f, x0, optimizer, **options)
        assert run.executor == "floats"
        assert "Python numbers" in run.executor_reason
        same_run(run, kb.minimize(f, x0, optimizer, on_step=lambda step: None, **options))
        return
    in_python = kb.minimize(f, x0, optimizer, on_step=lambda step: None, **options)
    run = kb.minimize(f, x0, optimizer, **options)
    assert in_python.executor in ("floats", "numpy")
    assert in_python.nit < 20 or run.executor == "native", run.executor_reason
    if isinstance(run.x, dict):
        for part in run.x:
            np.testing.assert_array_equal(run.x[part], in_python.x[part])
            np.testing.assert_array_equal(run.history.x[part], in_python.history.x[part])
        assert (run.fun, run.message, run.nit) == (in_python.fun, in_python.message, in_python.nit)
    else:
        same_run(run, in_python)


ELEMENTWISE = [name for name in kb.optimizers.names() if "evaluate" not in kb.optimizers.resolve(name).rule.uses]


@pytest.mark.sampled(7)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_every_optimizer_without_a_line_search_descends_in_machine_code(name):
    optimizer = kb.optimizers.resolve(name)
    options = {"max_steps": 2000, "gtol": 0.0}
    run = kb.minimize(rosenbrock, [-1.2, 1.0], optimizer, **options)
    in_python = kb.minimize(rosenbrock, [-1.2, 1.0], optimizer, on_step=lambda step: None, **options)
    assert run.executor == "native" or in_python.nit < 20, run.executor_reason
    assert run.status == in_python.status
    np.testing.assert_allclose(run.x, in_python.x, rtol=1e-9, atol=1e-12)


def test_the_choice_is_on_the_run_with_its_reason(monkeypatch):
    monkeypatch.setattr(paths, "_trace_cache", paths._TraceCache())  # whatever has descended here before
    long = kb.minimize(rosenbrock, [-1.2, 1.0], kb.Momentum(lr=1e-3))
    assert long.executor == "native"
    assert "10000 steps" in long.executor_reason
    short = kb.minimize(rosenbrock, [-1.2, 1.0], max_steps=20, optimizer=kb.SGD(lr=1e-3))
    assert short.executor == "floats"
    assert "fewer than" in short.executor_reason
    looked_at = kb.minimize(rosenbrock, [-1.2, 1.0], kb.SGD(lr=1e-3), max_steps=1000, on_step=lambda step: None)
    assert "every step" in looked_at.executor_reason
    searched = kb.minimize(rosenbrock, [-1.2, 1.0], kb.LBFGS())
    assert "evaluates f itself" in searched.executor_reason
    own = kb.minimize(rosenbrock, [-1.2, 1.0], kb.SGD(lr=1e-3), grad=kb.grad(rosenbrock), max_steps=1000)
    assert "backpropagation" in own.executor_reason


def test_the_rule_of_choice_reads_no_clock():
    size = operations(trace(rosenbrock, np.zeros(2)).gradient())
    least = choose.STEPS + choose.STEPS_AN_ELEMENT * size
    assert not choose.choose_native(size, least - 1, None)[0]
    assert choose.choose_native(size, least, None)[0]
    assert not choose.choose_native(size, 10**6, choose.NATIVE_FROM - 1)[0]
    assert choose.choose_native(size, 10**6, choose.NATIVE_FROM)[0]
    assert not choose.choose_native(native.OPERATIONS + 1, 10**6, None)[0]


def test_a_loop_of_python_numbers_makes_the_first_steps_and_machine_code_the_rest(monkeypatch):
    monkeypatch.setattr(compiled_stepper, "NATIVE_FROM", 2000)
    monkeypatch.setattr(choose, "NATIVE_FROM", 2000)
    monkeypatch.setattr(paths, "_trace_cache", paths._TraceCache())
    short = kb.minimize(rosenbrock, [-1.2, 1.0], kb.SGD(lr=1e-3), max_steps=1900)
    assert short.executor == "floats"
    assert "Python numbers" in short.executor_reason
    run = kb.minimize(rosenbrock, [-1.2, 1.0], kb.SGD(lr=1e-3), max_steps=2500)
    assert run.executor == "native"
    same_run(run, kb.minimize(rosenbrock, [-1.2, 1.0], kb.SGD(lr=1e-3), max_steps=2500, on_step=lambda step: None))


def test_machine_code_that_is_there_makes_every_step_where_its_bits_are_those_of_python(monkeypatch):
    """Which steps it makes may then depend on what ran before; with functions that round otherwise it may not."""
    monkeypatch.setattr(compiled_stepper, "NATIVE_FROM", 2000)
    monkeypatch.setattr(choose, "NATIVE_FROM", 2000)
    monkeypatch.setattr(paths, "_trace_cache", paths._TraceCache())
    for f, by in (
        (lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2 + x[0] ** 4 / 8 - x[1] ** 3 / 9, "native"),
        (lambda x: np.sqrt(1 + x[0] * x[0]) + x[1] / (2 + x[1] * x[1]) + abs(x[1] - 3), "native"),
        (lambda x: np.exp(x[0] * x[0]) + x[1] * x[1], "floats"),
        (lambda x: (x[0] * x[0] + 1.0) ** 1.5 + x[1] * x[1], "floats"),
    ):
        options = {"max_steps": 900, "gtol": 0.0}
        for optimizer in (kb.SGD(lr=1e-4), kb.Adam(lr=1e-3)):
            runs = [kb.minimize(f, [-1.2, 1.0], optimizer, **options) for _ in range(4)]
            assert [run.executor for run in runs] == ["floats", "floats", by, by]
            assert {run.nit for run in runs} == {900}
            slow = kb.minimize(f, [-1.2, 1.0], optimizer, on_step=lambda step: None, **options)
            for run in runs if by == "native" else runs[1:]:
                same_run(runs[0], run)
            if by == "native":
                same_run(runs[0], slow)

    def f(x):
        return np.exp(x[0] * x[0] / 9) + x[1] * x[1]

    long = [kb.minimize(f, [-1.2, 1.0], kb.SGD(lr=1e-4), max_steps=5000, gtol=0.0) for _ in range(2)]
    assert [run.executor for run in long] == ["native"] * 2
    same_run(*long)
    assert kb.minimize(f, [-1.2, 1.0], kb.SGD(lr=1e-4), max_steps=900, gtol=0.0).executor == "floats"


def test_a_path_that_is_left_is_traced_anew_and_the_descent_goes_on():
    def f(x):
        return x[0] * x[0] + (3.0 * x[1] if x[1] > 2.0 else x[1] * x[1] * 0.75 + 1.5)

    run = kb.minimize(f, [1.0, 5.0], kb.SGD(lr=0.01))
    assert run.executor == "native"
    assert run.success
    assert abs(run.x[1]) < 1e-5


def test_a_function_that_changes_under_way_is_noticed():
    scale = [1.0]

    def f(x):
        return scale[0] * (x[0] - 1.0) * (x[0] - 1.0)

    first = kb.minimize(f, [3.0], kb.SGD(lr=0.01))
    scale[0] = 2.0
    second = kb.minimize(f, [3.0], kb.SGD(lr=0.01))
    assert first.executor == second.executor == "native"
    assert second.nit < first.nit


def test_history_is_thinned_as_in_python():
    options = {"max_steps": 120_000, "gtol": 0.0}
    run = kb.minimize(rosenbrock, [-1.2, 1.0], kb.SGD(lr=1e-4), **options)
    assert run.executor == "native"
    assert run.nit == 120_000
    assert len(run.history) <= 100_001
    strides = np.diff(run.history.t[:-1])
    assert strides.min() == strides.max() == 2
    assert run.history.t[-1] == 120_000
    for t in (2, 50_000, 99_998):
        k = int(np.searchsorted(run.history.t, t))
        assert run.history.fun[k] == rosenbrock(run.history.x[k])


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", ["converges", "bounds", "clipnorm", "schedule", "float32", "branches", "diverges"])
def test_a_thinned_history_is_the_one_step_by_step(name, monkeypatch):
    monkeypatch.setattr(Recorder, "ROWS", 100)
    f, x0, optimizer, options = DESCENTS[name]
    run = kb.minimize(f, x0, optimizer, **options)
    same_run(run, kb.minimize(f, x0, optimizer, on_step=lambda step: None, **options))
    assert len(run.history) <= 101


def test_progress_and_checkpoints_come_between_segments(tmp_path, capsys):
    path = tmp_path / "descent.npz"
    whole = kb.minimize(rosenbrock, [-1.2, 1.0], kb.Adam(lr=1e-3), max_steps=5000, progress=True)
    capsys.readouterr()
    options = {"max_steps": 2100, "checkpoint": (str(path), 700)}
    kb.minimize(rosenbrock, [-1.2, 1.0], kb.Adam(lr=1e-3), **options)
    resumed = kb.resume(str(path), rosenbrock, max_steps=5000)
    assert whole.executor == resumed.executor == "native"
    same_run(whole, resumed)


def test_ctrl_c_is_answered_between_segments_and_keeps_the_path(monkeypatch):
    calls = []
    step = compiled_stepper.Segment.run

    def interrupted(self, end):
        calls.append(end)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return step(self, end)

    monkeypatch.setattr(compiled_stepper.Segment, "run", interrupted)
    with pytest.raises(Interrupted) as caught:
        kb.minimize(rosenbrock, [-1.2, 1.0], kb.SGD(lr=1e-4), max_steps=10**9, gtol=0.0)
    run = caught.value.run
    assert run.status is kb.Status.stopped
    assert run.nit == calls[1]
    assert run.fun == rosenbrock(run.x)


def test_wrong_code_is_found_by_the_self_check_and_not_used(monkeypatch):
    good = native.Descent.run

    def wrong(self, leg):
        why = good(self, leg)
        leg.x[0] += 1e-3
        return why

    def f(x):
        return (x[0] - 0.123) * (x[0] - 0.123) + x[1] * x[1]

    monkeypatch.setenv("KOUBAI_CACHE", "off")
    library.clear()
    monkeypatch.setattr(native.Descent, "run", wrong)
    with pytest.warns(CompileWarning, match="machine code gives x"):
        run = kb.minimize(f, [1.0, 1.0], kb.SGD(lr=0.01))
    assert run.executor != "native"
    assert run.success


def test_many_threads_compile_one_graph_once_and_are_right(monkeypatch, tmp_path):
    monkeypatch.setenv("KOUBAI_CACHE", str(tmp_path))
    library.clear()
    compiled = []
    original = library._compile
    monkeypatch.setattr(library, "_compile", lambda *args: compiled.append(1) or original(*args))
    results: list[float] = []
    barrier = threading.Barrier(200)

    def descend():
        barrier.wait()
        run = kb.minimize(lambda x: (x[0] - 3.5) * (x[0] - 3.5) * 0.5 + x[1] * x[1], [0.0, 1.0], kb.SGD(lr=0.02))
        results.append(run.fun if run.executor == "native" else math.nan)

    threads = [threading.Thread(target=descend) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 200
    assert len(set(results)) == 1
    assert len(compiled) == 1
