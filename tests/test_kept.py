"""What one descent leaves for the next on the same function: it is quicker for it, and the same to the bit."""

import gc
import sys
import threading
import types
import weakref
from dataclasses import dataclass

import numpy as np
import pytest
from test_native import same_run

import koubai as kb
from koubai import nn
from koubai.derivatives import paths
from koubai.derivatives.paths import record_call
from koubai.descent import compiled_stepper
from koubai.descent.arguments import prepared
from koubai.descent.compiled_stepper import REPEATED
from koubai.descent.loop import DEFAULTS, drive
from koubai.execute import library
from koubai.graph import infer
from koubai.nn import model

scale = 2.0
data = np.array([1.0, 2.0])


@pytest.fixture
def traced(monkeypatch):
    """Return the list that grows by one with every function traced, after all that was kept is forgotten."""
    monkeypatch.setattr(paths, "_trace_cache", paths._TraceCache())
    calls: list[str] = []

    def recorded(f, *args, **options):
        calls.append(f.__name__)
        return record_call(f, *args, **options)

    monkeypatch.setattr(paths, "record_call", recorded)
    return calls


def anew(f):
    """Return a function like ``f`` that nobody has seen."""
    copy = types.FunctionType(f.__code__, f.__globals__, f.__name__, f.__defaults__, f.__closure__)
    copy.__module__ = f.__module__
    return copy


def both(f, x0, optimizer, **options):
    """Descend on ``f`` and on a copy of it; both runs must be the same to the bit. Return the one on ``f``.

    Machine code that an earlier descent has left may make the steps of a loop of Python numbers.
    """
    run, cold = kb.minimize(f, x0, optimizer, **options), kb.minimize(anew(f), x0, optimizer, **options)
    same_run(run, cold)
    if run.executor_reason != REPEATED:
        assert (run.executor, run.executor_reason) == (cold.executor, cold.executor_reason)
    return run


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def with_branches(x):
    return abs(x[0]) + (x[1] if x[1] > 0 else -2 * x[1])


@pytest.mark.sampled(4)
@pytest.mark.parametrize("steps", [30, 900, 2600])
@pytest.mark.parametrize("f", [rosenbrock, with_branches, lambda x: np.sum(np.exp(x) - x * data)])
def test_a_warm_run_is_the_cold_one_to_the_bit(f, steps, traced):
    f = anew(f)
    for x0 in ([-1.2, 1.0], [-1.2, 1.0], [0.4, 1.7], [-1.2, 1.0]):
        for optimizer in (kb.SGD(lr=1e-3), kb.Adam(lr=1e-2), kb.SGD(lr=1e-3), kb.SGD(lr=1e-3, momentum=0.5)):
            both(f, x0, optimizer, max_steps=steps, gtol=1e-9)
    assert sum(name == f.__name__ for name in traced) > 16  # the copies, and f once a path
    del traced[:]
    kb.minimize(f, [-1.2, 1.0], kb.SGD(lr=1e-3), max_steps=steps)
    assert not traced


@pytest.mark.parametrize("options", [
    {"bounds": (-1.3, 0.7)}, {"bounds": (-1.5, 0.9)}, {"ftol": 1e-9}, {"xtol": 1e-7}, {"target": 0.5}, {},
    {"max_steps": 40}, {"record": "off"},
])  # fmt: skip
def test_every_kind_of_descent_has_loops_of_its_own(options):
    for optimizer in (kb.Adam(lr=1e-2), kb.Adam(lr=1e-2, beta1=0.5), kb.Adam(lr=1e-2, semantics="keras")):
        both(rosenbrock, [-1.2, 0.5], optimizer, **options)
    for x0 in (np.array([-1.2, 0.5], np.float32), np.array([-1.2, 0.5, 0.3]), (-1.2, 0.5)):
        both(rosenbrock, x0, kb.Momentum(lr=1e-4), **{"max_steps": 2500} | options)


def test_dicts_and_mini_batches_are_kept_too(traced):
    def f(p, rows=None):
        a = data if rows is None else rows
        return np.mean((p["w"] * a - p["b"]) ** 2) + p["b"] ** 2

    batches = [(np.array([1.0, 2.0]),), (np.array([3.0, 4.0]),)]
    for options in ({"max_steps": 300}, {"max_steps": 40, "batches": batches}) * 2:
        both(f, {"w": np.array([1.0, -1.0]), "b": 0.5}, kb.Adam(lr=1e-2), **options)
    assert len(traced) == 6  # f with and without a batch, and four copies


def test_what_f_raises_comes_from_f(traced):
    def f(x):
        return x[0] + np.linalg.slogdet(np.eye(2) * x[0])[1] + (1 / 0 if x[0] > 9 else 0)

    kb.minimize(f, [2.0], max_steps=3)
    for call in (f, anew(f)):
        with pytest.raises(ZeroDivisionError) as caught:
            kb.minimize(call, [10.0], max_steps=3)
        assert caught.traceback[-1].name == "f"


def test_an_optimizer_of_ones_own_keeps_no_loops(traced):
    class Wilful(kb.SGD):
        sign = 1.0

        def step(self, x, g, state, t, lr, **more):
            return super().step(x, self.sign * g, state, t, lr, **more)

    optimizer = Wilful(lr=0.1)
    f = anew(lambda x: x[0] ** 2)
    assert kb.minimize(f, [1.0], optimizer, max_steps=100).success
    optimizer.sign = -1.0
    assert kb.minimize(f, [1.0], optimizer, max_steps=100).fun > 1.0


# -- what may change between two runs ---------------------------------------------------------------------------------


@dataclass
class Model:
    slope: float = 3.0
    rate = 1.0

    def loss(self, x):
        return self.slope * (x[0] - self.rate) ** 2

    def __call__(self, x):
        return self.loss(x)


class Settings:
    slope = 3.0


def helper(x):
    return (x[0] - 1.0) ** 2


def steeper_helper(x):
    return 5.0 * (x[0] - 4.0) ** 2


def changed_closure():
    slope, at = 3.0, [1.0]

    def f(x):
        return slope * (x[0] - at[0]) ** 2

    def change():
        nonlocal slope
        slope = 5.0
        at[0] = 2.0

    return f, change


def changed_default():
    known = np.array([1.0])

    def f(x, at=known):
        return (x[0] - at[0]) ** 2

    return f, lambda: f.__defaults__[0].fill(2.0)


def other_default():
    def f(x, at=1.0):
        return (x[0] - at) ** 2

    return f, lambda: setattr(f, "__defaults__", (2.0,))


def changed_array():
    at = np.array([1.0, 5.0])

    def f(x):
        return np.sum((x - at) ** 2) if at[1] > 0 else 2 * np.sum((x - at) ** 2)

    return f, lambda: at.__setitem__(1, -2.0)


def changed_attribute():
    model = Model()
    return (lambda x: model.loss(x)), lambda: setattr(model, "slope", 7.0)


def changed_class():
    return (lambda x: Settings.slope * (x[0] - 1) ** 2), lambda: setattr(Settings, "slope", Settings.slope + 2)


def changed_class_of_an_object():
    model = Model()
    return (lambda x: model(x)), lambda: setattr(Model, "rate", Model.rate + 1)


def changed_dict():
    settings = {"at": [1.0, {"deep": 2.0}]}
    return (lambda x: settings["at"][1]["deep"] * x[0] ** 2), lambda: settings["at"][1].update(deep=4.0)


def edited_in_place():
    inner = types.FunctionType(helper.__code__, globals(), "inner")

    def f(x):
        return inner(x) + 1.0

    return f, lambda: setattr(inner, "__code__", steeper_helper.__code__)


def changed_where_the_start_does_not_tell():
    slope = [0.0]
    return (lambda x: x[0] ** 2 + slope[0] * (x[0] - 3.0) ** 2), lambda: slope.__setitem__(0, 1.0)


def read_from_a_file():
    import tempfile

    path = tempfile.mktemp(suffix=".npy")
    np.save(path, 1.0)
    return (lambda x: (x[0] - np.load(path)) ** 2), lambda: np.save(path, 2.0)


def imported_inside():
    Settings.slope = 3.0

    def f(x):
        from test_kept import Settings as there

        return there.slope * x[0] ** 2

    return f, lambda: setattr(Settings, "slope", 6.0)


CHANGES = [
    changed_closure, changed_default, other_default, changed_array, changed_attribute, changed_class,
    changed_class_of_an_object, changed_dict, edited_in_place, changed_where_the_start_does_not_tell, read_from_a_file,
    imported_inside,
]  # fmt: skip


@pytest.mark.parametrize("make", CHANGES, ids=lambda make: make.__name__)
def test_what_f_reads_may_change_between_two_runs(make):
    f, change = make()
    x0 = [3.0, 0.5] if make is changed_array else [3.0]
    before = both(f, x0, kb.SGD(lr=0.01), max_steps=600)
    change()
    after = both(f, x0, kb.SGD(lr=0.01), max_steps=600)
    assert after.history.fun[-1] != before.history.fun[-1]
    assert after.fun == f(after.x)


def test_globals_may_change_between_two_runs(monkeypatch, traced):
    def f(x):
        return scale * np.sum(x**2) + sum((x - 1.0) ** 2)

    both(f, [1.0, 2.0], kb.SGD(lr=0.01), max_steps=600)
    monkeypatch.setitem(globals(), "scale", 3.0)
    both(f, [1.0, 2.0], kb.SGD(lr=0.01), max_steps=600)
    monkeypatch.setitem(globals(), "sum", np.prod)  # in place of the builtin one
    both(f, [1.0, 2.0], kb.SGD(lr=0.01), max_steps=600)
    assert len(traced) == 6


def test_data_changed_in_place_are_read_and_checked_anew(traced):
    f, change = changed_array()
    first = both(f, [3.0, 0.5], kb.SGD(lr=0.01), max_steps=600)
    del traced[:]
    change()
    second = both(f, [3.0, 0.5], kb.SGD(lr=0.01), max_steps=600)
    assert second.x[1] < 0 < first.x[1]
    assert len(traced) == 2  # f looks at them, and takes another path; and so does its copy


def test_a_function_that_tells_two_calls_apart_is_not_kept(traced):
    count = [0]

    def f(x):
        count[0] += 1
        return x[0] ** 2

    kb.minimize(f, [1.0], max_steps=100)
    del traced[:]
    kb.minimize(f, [1.0], max_steps=100)
    assert traced


# -- what is kept, and for how long -----------------------------------------------------------------------------------


def test_a_function_that_is_garbage_is_let_go(traced):
    def made(slope):
        def f(x):
            return slope * x[0] ** 2

        def recursive(x, depth=2):
            return recursive(x * 2, depth - 1) if depth else x[0] ** 2

        return f, recursive, lambda x, slope=slope: slope * x[0] ** 2 + scale

    functions = made(2.0)
    known = [weakref.ref(f) for f in functions]
    for f in functions:
        kb.minimize(f, [1.0], max_steps=1000)
    assert len(paths._trace_cache._paths) >= 2
    del f, functions
    gc.collect()
    assert [ref() for ref in known] == [None] * 3
    assert not paths._trace_cache._paths


X = np.linspace(-1.0, 1.0, 40).reshape(20, 2)


def train(k):
    layers = [nn.Dense(60 + k), nn.Tanh(), nn.Dense(30), nn.Dense(2)]
    return nn.Network(layers, nn.CrossEntropy()).fit(X, np.arange(20) % 2, epochs=1)


def update(k):
    params = {"W": np.ones((k + 1, 40)), "b": np.zeros(k + 1)}
    kb.Adam().update(params, {name: np.ones_like(value) for name, value in params.items()})


# What a process may do 10,000 times with as many functions or shapes, each of its own.
OFTEN = {
    "grad": lambda f, k: (kb.grad(f)(np.ones(3)), kb.hessian(f)(np.ones(3))),
    "grad of many": lambda f, k: kb.grad(f)(np.ones(2000)),
    "descent": lambda f, k: kb.minimize(f, np.ones(3), kb.SGD(lr=1e-3), max_steps=3000, gtol=0),
    "search": lambda f, k: kb.minimize(f, np.ones(3), kb.LBFGS(), max_steps=20),
    "least squares": lambda f, k: kb.minimize(f, np.ones(3)),
    "differences": lambda f, k: kb.minimize(lambda x: f(np.array(x.tolist())), [2.0], grad="central", max_steps=20),
    "steps": lambda f, k: list(kb.iterate(f, np.ones(3), kb.Adam(), max_steps=5)),
    "fit": lambda f, k: kb.fit(lambda p, x: f(p * np.mean(x)), np.ones(2), X, epochs=2),
    "network": lambda f, k: train(k),
    "update": lambda f, k: update(k),
}


@pytest.mark.sampled(9)
@pytest.mark.parametrize("case", OFTEN)
def test_memory_is_bounded_however_many_functions_and_shapes_come(case, monkeypatch):
    """What is kept for the next call takes as much as the caches hold, and nothing besides is left of a function."""
    monkeypatch.setenv("KOUBAI_CACHE", "off")
    monkeypatch.setattr(library, "MEMORY_LIMIT", 4)
    monkeypatch.setattr(model, "CACHED", 4)
    monkeypatch.setattr(infer, "_INFERRED", 50)
    monkeypatch.setattr(paths, "_FUNCTIONS", 4)
    library.clear()
    counts = []
    for k in range(40):
        f = eval(f"lambda x: np.sum((x - {k}.25) ** 2)", {"np": np, "__name__": "often"})
        OFTEN[case](f, k)
        del f
        if k >= 15:
            gc.collect()
            counts.append((len(gc.get_objects()), sys.getallocatedblocks()))
    # the least of each ten, since what the caches hold comes and goes; NumPy keeps small blocks of its own
    objects, blocks = np.min(counts[-10:], axis=0) - np.min(counts[:10], axis=0)
    assert objects < 15
    assert blocks < 15 * 15


def test_few_functions_and_few_paths_are_kept(traced):
    functions = [(lambda x, k=k: x[0] ** 2 + k) for k in range(paths._FUNCTIONS + 5)]
    for f in functions:
        kb.minimize(f, [1.0], max_steps=3)
    assert len(paths._trace_cache._paths) == paths._FUNCTIONS
    assert functions[0] not in paths._trace_cache._paths
    assert functions[-1] in paths._trace_cache._paths
    for n in range(1, paths._PATHS + 5):
        kb.minimize(functions[-1], np.ones(n), max_steps=3)
    assert len(paths._trace_cache._paths[functions[-1]]) == paths._PATHS
    for rate in range(compiled_stepper.CompiledLoops.KINDS + 3):
        kb.minimize(functions[-1], [1.0], kb.SGD(lr=0.1, momentum=rate / 100), max_steps=100)
    (path,) = [p for p in paths._trace_cache._paths[functions[-1]] if p.recorded.leaves.form[0][0].shape == (1,)]
    assert len(path.specializations) == compiled_stepper.CompiledLoops.KINDS


def test_large_functions_are_not_kept(traced):
    large, small = np.ones(200_000), np.ones(20)

    def f(x):
        return np.sum((x - large) ** 2) if len(x) > 100 else np.sum(x**2)

    for x0 in (np.zeros(200_000), small):
        for _ in range(2):
            kb.minimize(f, x0, max_steps=5)
    assert len(traced) == 3


def test_memory_of_a_record_is_used_again_only_when_nobody_has_it():
    runs = [kb.minimize(rosenbrock, [-1.2, 1.0], kb.SGD(lr=1e-4), max_steps=m, gtol=0.0) for m in (3000, 3000, 2990)]
    parts = [run.history.x[5:9, 0] for run in runs]
    expected = [part.copy() for part in parts]
    del runs
    for _ in range(4):
        later = kb.minimize(rosenbrock, [1.2, -1.0], kb.SGD(lr=1e-4), max_steps=3000, gtol=0.0)
    assert later.history.x[5, 0] != expected[0][0]
    for part, before in zip(parts, expected, strict=True):
        np.testing.assert_array_equal(part, before)


def test_threads_share_what_is_kept(traced):
    def f(x):
        return scale * (x[0] - 1) ** 2 + np.sum((x - data) ** 4)

    starts = [[-1.0, 0.5 * k] for k in range(4)] * 4
    barrier, runs = threading.Barrier(len(starts)), {}

    def descend(i):
        barrier.wait()
        for steps in (100, 2500):
            runs[i, steps] = kb.minimize(f, starts[i], kb.Adam(lr=1e-3), max_steps=steps, gtol=0.0)

    threads = [threading.Thread(target=descend, args=(i,)) for i in range(len(starts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for (i, steps), run in runs.items():
        same_run(run, kb.minimize(anew(f), starts[i], kb.Adam(lr=1e-3), max_steps=steps, gtol=0.0))
    assert len(runs) == 2 * len(starts)


def test_a_function_made_inside_the_function_is_no_hindrance(traced):
    def f(x):
        def square(x, by=2.0):
            return x * x * by

        return np.sum(np.vectorize(square)(x)) + sum(square(x))

    for _ in range(3):
        both(f, [1.0, 2.0], kb.SGD(lr=0.01), max_steps=200)
    assert traced.count("f") == 4  # f once, and its copies


def test_a_namespace_that_is_dropped_takes_its_functions_along(traced):
    space = {"slope": 3.0}
    exec("def f(x):\n    return slope * x[0] ** 2", space)
    known = weakref.ref(space["f"])
    kb.minimize(space["f"], [1.0], max_steps=200)
    del space
    gc.collect()
    assert known() is None


@pytest.mark.parametrize("optimizer", ["auto", "lbfgs", "sgd"])
def test_a_descent_is_let_go_when_it_ends(optimizer):
    def f(x):
        return np.sum((x - 1) ** 2)

    for _ in range(2):
        kb.minimize(f, np.zeros(2), optimizer)
    gc.collect()
    gc.disable()
    try:
        kb.minimize(f, np.zeros(2), optimizer)
        assert not gc.collect()  # nothing waits for the collector
    finally:
        gc.enable()


def alike(f, x0, optimizer, **options):
    """As `both`, whoever makes the steps: of a search, tables of f do once there are some."""
    run = kb.minimize(f, x0, optimizer, **options)
    same_run(run, kb.minimize(anew(f), x0, optimizer, **options))
    return run


@pytest.mark.parametrize("optimizer", [kb.SGD(lr=0.01), kb.LBFGS(), "auto"], ids=["SGD", "LBFGS", "auto"])
def test_the_gradient_of_the_start_serves_again_only_where_it_holds(optimizer):
    weights = np.array([1.0, 2.0, 3.0, 4.0])

    def f(x):
        return np.sum((weights.reshape(x.shape) * (x - scale)) ** 2)

    x0, options = np.array([1.0, -2.0, 0.5, 3.0]), {"max_steps": 60}
    first = alike(f, x0, optimizer, **options)
    for _ in range(12):
        again = alike(f, x0, optimizer, **options)
        same_run(again, first)
        again.jac[:] = again.x[:] = np.nan  # they are the caller's
    square = alike(f, x0.reshape(2, 2), optimizer, **options)  # the same bytes in another form
    assert square.jac.shape == square.x.shape == (2, 2)
    same_run(alike(f, x0, optimizer, **options), first)
    weights[0] = 5.0
    other = alike(f, x0, optimizer, **options)
    assert other.history.fun[0] != first.history.fun[0]
    assert other.history.grad_norm[0] == np.max(np.abs(2 * weights**2 * (x0 - scale)))
    weights[0] = 1.0
    same_run(alike(f, x0, optimizer, **options), first)


@pytest.mark.parametrize("optimizer", [kb.SGD(lr=0.001), "auto"], ids=["SGD", "auto"])
def test_a_start_is_evaluated_anew_if_a_name_has_changed(optimizer, monkeypatch):
    def f(x):
        return np.sum((scale * x - data) ** 2)

    runs = [alike(f, [1.0, -2.0], optimizer, max_steps=60) for _ in range(3)]
    monkeypatch.setitem(globals(), "scale", 3.0)
    changed = alike(f, [1.0, -2.0], optimizer, max_steps=60)
    assert changed.history.grad_norm[0] == np.max(np.abs(6 * (3 * np.array([1.0, -2.0]) - data)))
    assert changed.history.grad_norm[0] != runs[-1].history.grad_norm[0]


def test_the_state_after_a_search_is_kept_for_who_asks():
    def f(x):
        return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2

    for optimizer in (kb.LBFGS(), kb.LevenbergMarquardt(), kb.ConjugateGradient()):
        states = []
        for _ in range(12):
            options = DEFAULTS | {"max_steps": 4, "gtol": 0.0}
            stepper = prepared(f, np.array([-1.2, 1.0]), optimizer, **options)
            drive(stepper, None, False)
            kb.minimize(f, np.array([3.0, -1.0]), optimizer)  # in the same memory
            states.append(stepper.descent.state)
        names = optimizer.state_names(stepper.descent.layout)
        assert len(names) == len(states[0])
        for state in states[1:]:
            for name, one, other in zip(names, states[0], state, strict=True):
                np.testing.assert_array_equal(one, other, name)
