"""Stochastic descent: mini-batches in, every sample once an epoch, and success only over all the data."""

import numpy as np
import pytest
from test_saving import assert_same_run

import koubai as kb
from koubai import Status
from koubai.errors import InputError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((103, 4))
W = np.array([1.0, -2.0, 0.5, 3.0])
Y = X @ W + 2


def loss(p, x, y):
    return np.mean((x @ p["w"] + p["b"] - y) ** 2)


def start():
    return {"w": np.zeros(4), "b": 0.0}


def whole(p):
    return loss(p, X, Y)


@pytest.mark.parametrize("size", [1, 7, 32, 103, 500])
def test_an_epoch_takes_every_sample_once_in_a_seeded_order(size):
    data = kb.nn.batches(np.arange(103), size=size, seed=3)
    epochs = [np.concatenate([b[0] for b in data.epoch(k)]) for k in (0, 1, 0)]
    for rows in epochs:
        assert sorted(rows) == list(range(103))
    assert np.array_equal(epochs[0], epochs[2])
    assert not np.array_equal(epochs[0], epochs[1])
    sizes = [len(b[0]) for b in data.epoch(0)]
    assert len(sizes) == len(data)
    assert all(s == size for s in sizes[:-1])
    assert sum(sizes) == 103


def test_without_a_seed_the_rows_stay_as_they_are():
    assert np.concatenate([b[0] for b in kb.nn.batches(X, size=10, seed=None)]).tolist() == X.tolist()


def test_x_and_y_stay_together():
    for x, y in kb.nn.batches(X, Y, 10, seed=1):
        np.testing.assert_allclose(x @ W + 2, y)


def test_a_memmap_is_read_a_batch_at_a_time(tmp_path):
    stored = np.memmap(tmp_path / "x", dtype=np.float64, mode="w+", shape=X.shape)
    stored[:] = X
    batch = next(iter(kb.nn.batches(stored, Y, 10)))
    assert batch[0].shape == (10, 4)
    run = kb.minimize(loss, start(), kb.SGD(lr=0.05), batches=kb.nn.batches(stored, Y, 10), max_steps=200)
    np.testing.assert_allclose(run.x["w"], W, atol=1e-2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X, Y[:5]), "X has 103 samples, y has 5"),
        ((X[:0],), "no samples"),
        ((3.0,), "X must be an array"),
        ((X, Y, 0), "size must be"),
        ((X, Y, 2.5), "size must be"),
        ((X, Y, 2, -1), "seed must be"),
    ],
)
def test_batches_refuses_by_name(arguments, message):
    with pytest.raises(InputError, match=message):
        kb.nn.batches(*arguments)


def test_the_path_is_that_of_the_loop_written_out():
    data = kb.nn.batches(X, Y, 10, seed=5)
    run = kb.minimize(loss, start(), kb.SGD(lr=0.05, momentum=0.5), batches=data, max_steps=3 * len(data))
    gradient = kb.grad(loss)
    p, optimizer, losses = start(), kb.SGD(lr=0.05, momentum=0.5), []
    for epoch in range(3):
        for x, y in data.epoch(epoch):
            losses.append(loss(p, x, y))
            optimizer.update(p, gradient(p, x, y))
    np.testing.assert_allclose(run.x["w"], p["w"], rtol=1e-13)
    np.testing.assert_allclose(run.history.fun[:-1], losses, rtol=1e-12)
    assert run.nit == 3 * len(data)


def test_epochs_sum_up_with_every_sample_weighing_the_same():
    data = kb.nn.batches(X, Y, 10, seed=5)  # 103 samples: the last batch has three
    run = kb.minimize(loss, start(), kb.SGD(lr=1e-12), batches=data, max_steps=2 * len(data))
    assert run.history.epochs.t.tolist() == [len(data), 2 * len(data)]
    np.testing.assert_allclose(run.history.epochs.fun, whole(start()), rtol=1e-6)
    _, g = kb.value_and_grad(whole)(start())
    np.testing.assert_allclose(run.history.epochs.grad_norm, max(np.abs(g["w"]).max(), abs(g["b"])), rtol=1e-6)
    batches = list(data.epoch(0))
    gradients = [kb.grad(loss)(start(), x, y) for x, y in batches]
    flat = np.array([[*g["w"], g["b"]] for g in gradients])
    weights = np.array([len(x) for x, _ in batches]) / 103
    mean = weights @ flat
    noise = np.sqrt(weights @ ((flat - mean) ** 2).sum(axis=1))
    np.testing.assert_allclose(run.history.epochs.noise[0], noise, rtol=1e-6)


def test_fun_and_jac_are_over_all_the_data():
    run = kb.minimize(loss, start(), kb.SGD(lr=0.02), batches=kb.nn.batches(X, Y, 10), max_steps=25)
    assert run.status is Status.max_steps
    assert not run.success
    value, g = kb.value_and_grad(whole)(run.x)
    assert run.fun == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(run.jac["w"], g["w"], rtol=1e-10)
    assert run.best_fun == pytest.approx(whole(run.best_x), rel=1e-12)
    assert run.best_fun <= run.fun


def test_success_needs_all_the_data():
    """One batch's gradient is zero at x = 0; that of the others is not."""
    batches = [(np.zeros(3),), (np.full(3, 4.0),)]

    def f(x, data):
        return np.mean((x - data) ** 2)

    run = kb.minimize(f, 0.0, kb.SGD(lr=1e-3), batches=batches, max_steps=10)
    assert run.status is Status.max_steps
    done = kb.minimize(loss, start(), kb.SGD(lr=0.1), batches=kb.nn.batches(X, Y, 10), max_steps=20_000, gtol=1e-9)
    assert done.status is Status.converged
    _, g = kb.value_and_grad(whole)(done.x)
    assert max(np.abs(g["w"]).max(), abs(g["b"])) <= 1e-9
    aimed = kb.minimize(loss, start(), kb.SGD(lr=0.1), batches=kb.nn.batches(X, Y, 10), max_steps=20_000, target=1e-3)
    assert aimed.status is Status.target_reached
    assert whole(aimed.x) <= 1e-3


@pytest.mark.parametrize("grad", ["auto", "central", "user"])
def test_every_gradient_source_takes_batches(grad):
    source = kb.grad(loss) if grad == "user" else grad
    run = kb.minimize(loss, start(), kb.SGD(lr=0.05), batches=kb.nn.batches(X, Y, 25), max_steps=300, grad=source)
    np.testing.assert_allclose(run.x["w"], W, atol=1e-2)


def test_a_rate_too_large_diverges_and_nan_stops():
    run = kb.minimize(loss, start(), kb.SGD(lr=5.0), batches=kb.nn.batches(X, Y, 10), max_steps=500)
    assert run.status is Status.diverged
    spoilt = Y.copy()
    spoilt[17] = np.nan
    run = kb.minimize(loss, start(), kb.SGD(lr=0.01), batches=kb.nn.batches(X, spoilt, 10, seed=1), max_steps=500)
    assert run.status is Status.nonfinite
    assert np.isfinite(run.x["w"]).all()


@pytest.mark.parametrize("stop", [1, 10, 11, 12, 29])
@pytest.mark.parametrize("optimizer", [kb.SGD(lr=0.05, momentum=0.9), kb.optimizers.resolve("adam", lr=0.01)])
def test_a_stochastic_descent_resumes_bit_for_bit_with_its_data_order(tmp_path, stop, optimizer):
    path = tmp_path / "run.npz"
    data = kb.nn.batches(X, Y, 10, seed=2)
    full = kb.minimize(loss, start(), optimizer, batches=data, max_steps=40)
    kb.minimize(
        loss, start(), optimizer, batches=data, max_steps=40, checkpoint=(path, 3), on_step=lambda s: s.t == stop
    )  # fmt: skip
    resumed = kb.resume(path, loss, batches=data)
    # after the pause each shape of batch is traced, and so evaluated, anew
    assert_same_run(full, resumed, but=("nfev",))
    for name in ("t", "fun", "grad_norm", "noise"):
        assert np.array_equal(getattr(full.history.epochs, name), getattr(resumed.history.epochs, name))
    with pytest.raises(InputError, match="had mini-batches: give batches="):
        kb.resume(path, loss)
    with pytest.raises(InputError, match="or batches its data"):
        kb.resume(path, loss, batches=kb.nn.batches(X, Y, 10, seed=3))


def test_a_saved_stochastic_run_keeps_its_epochs(tmp_path):
    run = kb.minimize(loss, start(), kb.SGD(lr=0.05), batches=kb.nn.batches(X, Y, 10), max_steps=40)
    run.save(tmp_path / "run.npz")
    back = kb.load(tmp_path / "run.npz", loss)
    assert np.array_equal(back.history.epochs.noise, run.history.epochs.noise)


@pytest.mark.parametrize("batches", [iter([(X, Y)]), (b for b in [(X, Y)]), 5, []])
def test_batches_that_can_be_read_only_once_are_refused(batches):
    with pytest.raises(InputError, match="batches"):
        kb.minimize(loss, start(), batches=batches)


def test_a_function_of_the_epoch_gives_the_batches():
    asked = []

    def factory(epoch):
        asked.append(epoch)
        yield X[:50], Y[:50]
        yield X[50:], Y[50:]

    run = kb.minimize(loss, start(), kb.SGD(lr=0.1), batches=factory, max_steps=6, gtol=0)
    assert sorted(set(asked)) == [0, 1, 2, 3]
    assert len(run.history.epochs.t) == 3


def test_ftol_says_nothing_of_batches():
    with pytest.raises(InputError, match="ftol and xtol"):
        kb.minimize(loss, start(), batches=kb.nn.batches(X, Y), ftol=1e-3)
