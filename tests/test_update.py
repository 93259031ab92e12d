"""The fused update: for every elementwise rule the bits of NumPy, whatever the sizes, dtypes and threads."""

import copy
import os
import pickle
import threading

import numpy as np
import pytest
from compiled import PAGE, page

import koubai as kb
from koubai.descent import fused, optimizers
from koubai.errors import CompileWarning, FunctionError, InputError
from koubai.execute import choose, library, update

pytestmark = pytest.mark.skipif(not library.available(), reason="llvmlite can't be loaded")

FUSED = [name for name in kb.optimizers.names() if kb.optimizers.resolve(name).rule.scope == "element"]
OPTIONS = {
    "sgd": [{"momentum": 0.9, "dampening": 0.1}, {"momentum": 0.9, "semantics": "keras"}],
    "adam": [{"amsgrad": True}, {"semantics": "keras"}, {"clipvalue": 0.5}, {"weight_decay": 0.1}],
    "adamw": [{"weight_decay": 0.1}],
    "rmsprop": [{"centered": True, "momentum": 0.5}],
    "lion": [{"semantics": "optax"}],
}
CASES = [(name, {}) for name in FUSED] + [(name, options) for name, all in OPTIONS.items() for options in all]


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Make machine code from the first update on, so that every step meets both."""
    monkeypatch.setattr(choose, "UPDATED", 0)


def in_numpy(name, options):
    optimizer = kb.optimizers.resolve(name, **options)
    optimizer._fusions = optimizers.FUSIONS
    return optimizer


def arrays(sizes, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return {f"p{k}": rng.standard_normal(size).astype(dtype) for k, size in enumerate(sizes)}


def same(a, b, exact):
    if exact:
        np.testing.assert_array_equal(a, b)
    else:  # ftrl's power of an array comes from vectormath
        np.testing.assert_allclose(a, b, rtol=32 * np.finfo(a.dtype).eps, atol=1e-6 if a.dtype == np.float32 else 1e-13)


@pytest.mark.sampled(7)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_fused_update_has_numpys_bits(name, options, dtype):
    optimizer, plain = kb.optimizers.resolve(name, **options), in_numpy(name, options)
    params = arrays([(), (1,), (7,), (3, 5), (16,), (33,), (100,)], dtype)
    params = {key: np.atleast_1d(value) for key, value in params.items()}
    expected = {key: value.copy() for key, value in params.items()}
    for t in range(8):
        grads = arrays([value.shape for value in params.values()], dtype, seed=t)
        optimizer.update(params, grads, fun=1.0)
        plain.update(expected, grads, fun=1.0)
        assert optimizer._fused is not None
        assert plain._fused is None
    for key, value in params.items():
        same(value, expected[key], name != "ftrl")
    for a, b in zip(optimizer.state_dict()["state"], plain.state_dict()["state"], strict=True):
        assert a.shape == b.shape
        same(a, b, name != "ftrl")


@pytest.mark.slow
def test_the_page_says_which_rules_compile_and_why_not_the_others():
    assert PAGE.read_text(encoding="utf-8") == page(), "run python tests/compiled.py"


@pytest.mark.parametrize("size", [update.THREADED - 1, update.THREADED, 2 * update.THREADED + 5])
def test_threads_change_no_bit(size, monkeypatch):
    monkeypatch.setattr(library, "processors", lambda: 3)
    optimizer, plain = kb.Adam(lr=0.1), in_numpy("adam", {"lr": 0.1})
    params = arrays([(size - 100,), (100,)], np.float32)
    expected = {key: value.copy() for key, value in params.items()}
    for t in range(3):
        grads = arrays([(size - 100,), (100,)], np.float32, seed=t)
        optimizer.update(params, grads)
        plain.update(expected, grads)
    for key, value in params.items():
        np.testing.assert_array_equal(value, expected[key])


def test_where_the_system_does_not_tell_which_cpus_are_ours(monkeypatch):
    """macOS and Windows have no os.sched_getaffinity."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    asked = []
    monkeypatch.setattr(update, "_workers", lambda count: asked.append(count) or [])
    for cpus in (3, None):  # None: Python can't tell
        monkeypatch.setattr(os, "cpu_count", lambda cpus=cpus: cpus)
        optimizer, plain = kb.Adam(lr=0.1), in_numpy("adam", {"lr": 0.1})
        x, y = np.ones((2, update.THREADED), np.float32)
        for t in range(3):
            g = np.linspace(-1, t, x.size, dtype=np.float32)
            optimizer.update(x, g)
            plain.update(y, g)
        np.testing.assert_array_equal(x, y)
    assert set(asked) == {2}


@pytest.mark.parametrize("comes", [True, False])
def test_nobody_waits_for_a_worker_that_has_not_come(comes, monkeypatch):
    class Worker:
        def call(self, share, task, kept):
            if comes:  # when all is done already
                assert kept[0]._share(*task)

        def dismiss(self):
            pass

    monkeypatch.setattr(library, "processors", lambda: 2)
    monkeypatch.setattr(update, "_workers", lambda count: [Worker()] * count)
    optimizer, plain = kb.Adam(lr=0.1), in_numpy("adam", {"lr": 0.1})
    x, y = np.ones((2, update.THREADED + 1), np.float32)
    for t in range(3):
        g = np.linspace(-1, t, x.size, dtype=np.float32)
        optimizer.update(x, g)
        plain.update(y, g)
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_correction_that_has_become_one_changes_no_bit(dtype):
    options = {"lr": 0.1, "beta1": 0.25, "beta2": 0.5}  # 1 - beta**t is 1 from t = 12 and 25 on, or 27 and 54
    optimizer, plain = kb.Adam(**options), in_numpy("adam", options)
    x, y = np.ones((2, 40), dtype)
    for t in range(70):
        g = np.linspace(-1, 1, 40).astype(dtype) * dtype(1 + t % 3)
        g[0] = -0.0
        optimizer.update(x, g)
        plain.update(y, g)
        np.testing.assert_array_equal(x, y)
    for a, b in zip(optimizer.state_dict()["state"], plain.state_dict()["state"], strict=True):
        np.testing.assert_array_equal(a, b)


def test_several_optimizers_at_once_wait_for_nobody(monkeypatch):
    monkeypatch.setattr(library, "processors", lambda: 3)
    size = update.THREADED + 7
    results = {}

    def work(k):
        optimizer, x, g = kb.Adam(lr=0.1), np.ones(size, np.float32), np.linspace(-1, 1, size, dtype=np.float32)
        for _ in range(6):
            optimizer.update(x, g)
        results[k] = x

    threads = [threading.Thread(target=work, args=(k,)) for k in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(1, 5):
        np.testing.assert_array_equal(results[k], results[0])


@pytest.mark.parametrize("size", [5, update.THREADED + 3])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(size, bad):
    optimizer = kb.Adam(lr=0.1)
    params = arrays([(size,), (4,)], np.float64)
    for t in range(3):
        optimizer.update(params, arrays([(size,), (4,)], np.float64, seed=t))
    before, state = {key: value.copy() for key, value in params.items()}, optimizer.state_dict()
    for key, at in (("p0", 0), ("p0", size - 1), ("p1", 2)):
        grads = arrays([(size,), (4,)], np.float64, seed=9)
        grads[key][at] = bad
        with pytest.raises(FunctionError, match=rf"{key}\[{at}\] is"):
            optimizer.update(params, grads)
    after = optimizer.state_dict()
    assert after["t"] == state["t"]
    for a, b in zip((*after["state"], *params.values()), (*state["state"], *before.values()), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("size", [5, 100, update.THREADED + 1])
@pytest.mark.parametrize("name", ["adam", "lion", "nadam"])  # nadam's product of momenta is one number for all elements
def test_gradients_that_the_caller_answers_for_are_looked_at_on_the_way(name, size, monkeypatch):
    monkeypatch.setattr(library, "processors", lambda: 2)
    optimizer, plain = kb.optimizers.resolve(name, lr=0.1), in_numpy(name, {"lr": 0.1})
    params = arrays([(size,), (4,)], np.float32)
    expected = {key: value.copy() for key, value in params.items()}
    for t in range(6):
        grads = arrays([(size,), (4,)], np.float32, seed=t)
        at = {3: ("p0", size - 1, np.nan), 4: ("p1", 2, -np.inf)}.get(t)
        for way, x in ((optimizer, params), (plain, expected)):
            if at is None:
                way.update(x, grads, check_finite=False)
                continue
            key, i, bad = at
            grads[key][i] = bad
            with pytest.raises(FunctionError, match=rf"{key}\[{i}\] is .*were updated with it, as check_finite=False"):
                way.update(x, grads, check_finite=False)
        assert optimizer._fused is not None
    assert np.isnan(params["p0"][size - 1])
    for a, b in zip(
        (*optimizer.state_dict()["state"], *params.values()),
        (*plain.state_dict()["state"], *expected.values()),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    assert optimizer.state_dict()["t"] == 6
    with pytest.raises(FunctionError, match="nothing was updated"):
        optimizer.update(params, {key: value * np.float32(np.nan) for key, value in grads.items()})
    with pytest.raises(InputError, match="check_finite must be True or False, got 'no'"):
        optimizer.update(params, grads, check_finite="no")
    optimizer.update(params, grads, check_finite=np.linalg.norm(grads["p1"]) > 1e9)


def test_arrays_of_another_kind_go_the_ordinary_way():
    optimizer, plain = kb.Adam(lr=0.1), in_numpy("adam", {"lr": 0.1})
    params = {"W": np.ones((4, 4)).T.copy(), "b": np.ones(3)}
    expected = {key: value.copy() for key, value in params.items()}
    grads = {"W": np.arange(16.0).reshape(4, 4), "b": np.ones(3)}
    for k in range(6):
        if k == 2:
            grads["W"] = np.arange(16.0).reshape(4, 4).T  # not contiguous
        if k == 3:
            grads["b"] = np.ones(3, np.float32)
        if k == 4:
            params["W"], expected["W"] = params["W"].copy(), expected["W"].copy()  # another array of the same name
        optimizer.update(params, grads)
        plain.update(expected, grads)
        for key in params:
            np.testing.assert_array_equal(params[key], expected[key])
    params["b"].flags.writeable = False
    with pytest.raises(InputError, match="read-only"):
        optimizer.update(params, grads)
    params["b"].flags.writeable = True
    with pytest.raises(InputError, match="which params has not"):
        optimizer.update(params, {"w": grads["W"]})
    optimizer = kb.Adam(lr=0.1)
    optimizer.update(np.ones(3), np.ones(3))
    with pytest.raises(InputError, match="params"):
        optimizer.update(None, None)


@pytest.mark.parametrize("size", [3, update.THREADED])
def test_gradients_that_are_parameters_are_read_before_they_are_written(size):
    optimizer, plain = kb.SGD(lr=0.25), in_numpy("sgd", {"lr": 0.25})
    mine, its = ({"a": np.full(size, 2.0), "b": np.full(size, 3.0)} for _ in range(2))
    for way, x in ((optimizer, mine), (plain, its)):
        for _ in range(3):
            way.update(x, {"a": np.ones(size), "b": np.ones(size)})
        way.update(x, {"a": x["b"], "b": x["a"]})  # of a · b
        way.update(x, {"a": x["a"], "b": x["b"]})  # of (a² + b²) / 2
        way.update(x, {"a": np.ones(size), "b": x["a"]})
    for key in mine:
        np.testing.assert_array_equal(mine[key], its[key])
    whole = np.arange(2.0 * size)
    other = whole.copy()
    for way, x in ((kb.SGD(lr=0.25), whole), (in_numpy("sgd", {"lr": 0.25}), other)):
        for _ in range(3):
            way.update(x[:size], x[1 : size + 1])
    np.testing.assert_array_equal(whole, other)


def test_parameters_that_share_memory_are_refused():
    """Also where the first updates were made in machine code."""
    whole = np.ones(6)
    optimizer = kb.SGD(lr=0.5)
    apart = {"a": np.ones(4), "b": np.ones(4)}
    grads = {"a": np.ones(4), "b": np.ones(4)}
    for _ in range(3):
        optimizer.update(apart, grads)
    with pytest.raises(InputError, match="a and b overlap in memory"):
        optimizer.update({"a": whole[:4], "b": whole[2:]}, grads)
    np.testing.assert_array_equal(whole, 1.0)
    tied = {"a": whole[:4], "b": whole[:4]}
    optimizer.update(tied, grads)
    np.testing.assert_array_equal(whole, [0, 0, 0, 0, 1, 1])


def test_one_array_and_a_gradient_made_anew_each_time():
    optimizer, plain = kb.RMSprop(lr=0.1), in_numpy("rmsprop", {"lr": 0.1})
    x, y = np.ones(5), np.ones(5)
    for _ in range(20):
        optimizer.update(x, 2 * x)
        plain.update(y, 2 * y)
    assert optimizer._fused is not None
    np.testing.assert_array_equal(x, y)


def test_a_copy_has_a_state_of_its_own():
    optimizer = kb.Adam(lr=0.1)
    x, g = np.ones(4), np.arange(4.0)
    for _ in range(3):
        optimizer.update(x, g)
    for twin in (copy.copy(optimizer), copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        mine, its = x.copy(), x.copy()
        kept = optimizer.state_dict()
        for _ in range(3):
            twin.update(its, g)
        for a, b in zip(optimizer.state_dict()["state"], kept["state"], strict=True):
            np.testing.assert_array_equal(a, b)
        optimizer.update(mine, g)
        optimizer.load_state_dict(kept)


def test_a_changed_rate_needs_no_new_code(monkeypatch):
    made = []
    original = library.load
    monkeypatch.setattr(update.library, "load", lambda key, make: made.append(key) or original(key, make))
    rates = iter(np.linspace(0.1, 0.2, 30))
    optimizer = kb.Adam(lr=lambda t: float(next(rates)))
    x = np.ones(4)
    for _ in range(20):
        optimizer.update(x, np.arange(4.0))
    optimizer.lr = 0.05
    optimizer.update(x, np.arange(4.0))
    assert len(made) == 1


def test_wrong_code_is_found_and_not_used(monkeypatch):
    monkeypatch.setattr(fused.Fused, "check", lambda self, *args: "an update in machine code gives 1.0, NumPy 2.0")
    monkeypatch.setenv("KOUBAI_CACHE", "off")
    library.clear()
    optimizer, plain = kb.Adam(lr=0.125, beta1=0.875), in_numpy("adam", {"lr": 0.125, "beta1": 0.875})
    x, y = np.ones(4), np.ones(4)
    with pytest.warns(CompileWarning, match="machine code gives"):
        optimizer.update(x, np.arange(4.0))
    plain.update(y, np.arange(4.0))
    for _ in range(3):
        optimizer.update(x, np.arange(4.0))
        plain.update(y, np.arange(4.0))
    assert optimizer._fused is None
    np.testing.assert_array_equal(x, y)


def test_the_rule_of_choice_counts_updates_and_elements(monkeypatch):
    monkeypatch.setattr(choose, "UPDATED", 2_000_000)
    assert not choose.choose_fused(2, 199)
    assert choose.choose_fused(2, 200)
    assert choose.choose_fused(10**7, 1)
