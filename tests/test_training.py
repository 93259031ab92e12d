"""A training step as one program: what it tells of the epoch on the way, with machine code and without."""

import gc
import weakref

import numpy as np
import pytest

import koubai as kb
from koubai import nn
from koubai.descent import training as lane
from koubai.descent import training_step
from koubai.descent.batch_iterator import EpochSums
from koubai.errors import FallbackWarning, GradientError, InputError, Interrupted
from koubai.execute import library
from koubai.graph.graph import evaluate
from koubai.nn.model import NetworkModel, program_cache

SIZES = [4, 120]  # units: with NumPy alone, and with machine code around the products
SAMPLES, SIZE = 40, 16


def network(units, dtype=np.float64):
    layers = [nn.Dense(units), nn.Tanh(), nn.Dense(units), nn.ReLU(), nn.Dense(3)]
    return nn.Network(layers, nn.CrossEntropy(), seed=1, dtype=dtype)


@pytest.fixture(autouse=True)
def _nothing_is_kept():
    """Every test traces and compiles for itself."""
    program_cache.clear()


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(SAMPLES, 5)), rng.integers(0, 3, SAMPLES)


@pytest.mark.parametrize("units", SIZES)
def test_an_epoch_is_summed_up_as_by_hand(units, data):
    X, y = data
    net = network(units)
    run = net.fit(X, y, kb.SGD(lr=1e-14), epochs=2, batch_size=SIZE)  # the weights stay where they are
    assert run.executor == ("native" if units > 100 and library.available() else "numpy")

    def gradient(rows):
        return np.concatenate([part.ravel() for part in net.gradient(X[rows], y[rows]).values()])

    mean = gradient(np.arange(SAMPLES))
    epochs = run.history.epochs
    order = nn.batches(X, y, size=SIZE, seed=1)
    for k in range(2):
        parts = [(len(rows), gradient(rows)) for rows in order.rows(k)]
        assert [n for n, _ in parts] == [16, 16, 8]
        square = sum(n * float(g @ g) for n, g in parts) / SAMPLES
        assert epochs.noise[k] == pytest.approx(np.sqrt(square - float(mean @ mean)), rel=1e-9)
        assert epochs.grad_norm[k] == pytest.approx(np.abs(mean).max(), rel=1e-9)
        assert epochs.fun[k] == pytest.approx(net.loss(X, y), rel=1e-9)
        assert epochs.accuracy[k] == net.score(X, y)
        first = net.layout.view(parts[0][1])
        norms = [np.sqrt(sum(float(np.sum(first[f"{i}.{name}"] ** 2)) for name in "Wb")) for i in (0, 2, 4)]
        np.testing.assert_allclose(epochs.layer_grad_norm[k], norms, rtol=1e-9)


@pytest.mark.parametrize("units", SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_epoch_that_was_interrupted_is_summed_up_to_the_same_bits(units, dtype, data, tmp_path, monkeypatch):
    X, y = data
    file = tmp_path / "training.npz"
    options = {"epochs": 3, "batch_size": SIZE}
    straight = network(units, dtype).fit(X, y, "adam", **options)
    for stop in range(2, 8):
        give = NetworkModel.data

        def press(self, batch, t, stop=stop, give=give):
            if t == stop:
                raise KeyboardInterrupt
            return give(self, batch, t)

        with monkeypatch.context() as patch:
            patch.setattr(NetworkModel, "data", press)
            with pytest.raises(Interrupted):
                network(units, dtype).fit(X, y, "adam", checkpoint=(file, 1), **options)
        run = network(units, dtype).fit(X, y, "adam", resume=file, **options)
        for name in ("fun", "grad_norm", "noise", "accuracy"):
            np.testing.assert_array_equal(
                getattr(run.history.epochs, name), getattr(straight.history.epochs, name), err_msg=f"{name}, {stop}"
            )
        for name, value in straight.x.items():
            np.testing.assert_array_equal(run.x[name], value)


@pytest.mark.parametrize("units", SIZES)
@pytest.mark.parametrize(
    ("bad", "momentum", "what"),
    [
        *[(np.inf, 0.0, "the loss is nan"), (np.inf, 0.9, "the loss is inf")],
        *[(0.0, momentum, "the gradient's component w") for momentum in (0.0, 0.9)],
    ],
)
def test_a_step_that_is_not_finite_is_not_taken(units, bad, momentum, what, data):
    X, _ = data
    X = np.abs(X)

    def source(k):
        for i in range(3):
            yield (X[16 * i :][:16] * (bad if (k, i) == (1, 1) else 1.0),)

    def loss(params, X):
        return np.mean(np.sqrt(np.abs(X @ params["w"]))) + np.mean(np.square(params["v"] - 1.0))

    start, optimizer = {"w": np.full(5, 0.1), "v": np.zeros(units * 40)}, kb.SGD(lr=0.1, momentum=momentum)
    run = kb.fit(loss, start, source, optimizer, epochs=3)
    assert run.status.name == "nonfinite"
    assert run.nit == 3
    assert what in run.message
    assert "at step 4 (epoch 2, batch 2)" in run.message
    assert run.njev == 5
    before = kb.fit(loss, start, source, optimizer, epochs=1)
    for name, value in before.x.items():  # the weights after the first epoch are those of step 3
        np.testing.assert_array_equal(run.x[name], value)


@pytest.mark.parametrize("units", SIZES)
def test_a_batch_counts_once_whatever_path_it_takes(units, data):
    """The path of the batch before is tried first, and given up where its guard fails."""
    X, _ = data

    def loss(params, X):
        w = params["w"] + np.mean(params["v"])
        return np.mean((X @ w) ** 2) if X[0, 0] > 0 else 3 * np.mean(np.abs(X @ w))

    X[[0, 16, 32], 0] = 1.0, -1.0, 1.0
    parts = [(X[16 * i :][:16],) for i in range(3)]
    start = {"w": np.full(5, 0.1), "v": np.zeros(units * 40)}
    run = kb.fit(loss, start, lambda k: iter(parts), kb.SGD(lr=1e-14), epochs=3)
    slopes = [(len(part), kb.grad(loss)(start, part)) for (part,) in parts]
    flat = [(n, np.concatenate([g["w"], g["v"]])) for n, g in slopes]
    mean = sum(n * g for n, g in flat) / SAMPLES
    square = sum(n * float(g @ g) for n, g in flat) / SAMPLES
    np.testing.assert_allclose(run.history.epochs.grad_norm, np.abs(mean).max(), rtol=1e-9)
    np.testing.assert_allclose(run.history.epochs.noise, np.sqrt(square - float(mean @ mean)), rtol=1e-9)


def spied(monkeypatch):
    """Return the list of the programs of all trainings that follow."""
    seen, begin = [], training_step.StepPrograms.__init__

    def noted(self, *args):
        begin(self, *args)
        seen.append(self)

    monkeypatch.setattr(training_step.StepPrograms, "__init__", noted)
    return seen


def branching(params, X):
    w = params["w"] + np.mean(params["v"])
    return np.mean((X @ w) ** 2) if X[0, 0] > 0 else 3 * np.mean(np.abs(X @ w - 1.0))


@pytest.mark.skipif(not library.available(), reason="llvmlite can't be loaded")
@pytest.mark.parametrize("name", ["adam", "momentum", "adan", "nadam", "lamb", "muon"])
def test_the_state_is_updated_where_it_lies_unless_a_checkpoint_wants_it(name, data, tmp_path, monkeypatch):
    """The bits are the same, over two paths and a short batch; a rule that needs it again keeps it apart."""
    X, _ = data
    X[[0, 16, 32], 0] = 1.0, -1.0, 1.0
    parts = [(X[16 * i :][:16],) for i in range(3)]
    start = {"w": np.full(5, 0.1), "v": np.linspace(0.0, 1.0, 4800)}
    programs = spied(monkeypatch)
    runs = [
        kb.fit(branching, start, lambda k: iter(parts), name, epochs=4, **more)
        for more in ({}, {"checkpoint": tmp_path / "training.npz"})
    ]
    for key, value in runs[0].x.items():
        np.testing.assert_array_equal(value, runs[1].x[key])
    np.testing.assert_array_equal(runs[0].history.fun, runs[1].history.fun)
    assert runs[0].njev == runs[1].njev == 12
    assert runs[0].nfev == runs[1].nfev
    here, apart = programs
    assert here.fused
    assert apart.in_place is False
    assert bool(here.in_place) is (name in ("adam", "momentum", "nadam"))
    for slots, shared in ((here.slots, bool(here.in_place)), (apart.slots, False)):
        assert all(np.shares_memory(slots[0].state[0], slot.state[0]) for slot in slots[1:]) is shared
        x, buffers = [slot.x for slot in slots], training_step.POINT_BUFFERS
        assert all(np.shares_memory(x[i], x[j]) == ((i - j) % buffers == 0) for i in range(6) for j in range(6))


@pytest.mark.skipif(not library.available(), reason="llvmlite can't be loaded")
def test_a_program_that_can_not_write_the_state_where_it_lies_has_it_copied(data, monkeypatch):
    X, y = data  # 16, 16 and 8 samples: two programs, of which the second is told that it can't

    def train():
        net = network(120, np.float32)
        net.fit(X, y, "adam", epochs=5, batch_size=SIZE)
        return net.vector

    expected = train()
    program_cache.clear()
    compiled, calls = training_step.compile_bound, []

    def compile_bound(*args):
        bind = compiled(*args)
        calls.append(bind.replaceable)
        if len(calls) > 1:
            bind.replaceable = set()
        return bind

    monkeypatch.setattr(training_step, "compile_bound", compile_bound)
    programs = spied(monkeypatch)
    np.testing.assert_array_equal(train(), expected)
    assert len(calls) == 2
    assert all(calls)
    assert programs[0].in_place
    assert sorted(len(bound.copies) for (bound,) in programs[0]._forms.values()) == [0, 2]


@pytest.mark.skipif(not library.available(), reason="llvmlite can't be loaded")
@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_a_state_that_the_first_program_keeps_apart_stays_so(name, tmp_path, monkeypatch):
    """Turned round, the parameters have gaps, and the update with them is NumPy's; the other path would be fused."""

    def loss(w, X):
        return np.mean(w[::-1] * X) if X[0] > 0 else np.mean((w - X) ** 2)

    parts = [(np.array([s]),) for s in (1.0, -1.0, 1.5, 0.7, -2.0, -1.0, 1.0)]
    programs = spied(monkeypatch)
    runs = [
        kb.fit(loss, np.linspace(0, 1, 5000), lambda k: iter(parts), name, epochs=3, **more)
        for more in ({}, {"checkpoint": tmp_path / "training.npz"})
    ]
    np.testing.assert_array_equal(runs[0].x, runs[1].x)
    assert [p.in_place for p in programs] == [False, False]
    assert programs[0].fused


@pytest.mark.parametrize("record", ["auto", "off"])
@pytest.mark.parametrize(("width", "lr"), [(5, 1.0), (500, 0.05)])
def test_a_diverging_training_is_stopped_at_once(record, width, lr, tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(64, width))
    y = X @ rng.normal(size=width)
    runs = [
        kb.fit(
            lambda p, X, y: np.mean((X @ p - y) ** 2), np.zeros(width), (X, y), kb.SGD(lr=lr), epochs=400,
            batch_size=16, **more,
        )
        for more in ({"record": record}, {"checkpoint": tmp_path / "training.npz"})
    ]  # fmt: skip
    assert runs[0].status is runs[1].status is kb.Status.diverged
    assert runs[0].nit == runs[1].nit
    assert runs[0].nit % lane.ASKED
    assert runs[0].message == runs[1].message
    np.testing.assert_array_equal(runs[0].x, runs[1].x)


@pytest.mark.parametrize("record", ["auto", "off"])
def test_the_record_says_how_the_last_steps_were_made(record, data):
    X, _ = data

    def loss(params, X):
        slope = X @ params["w"] + np.mean(params["v"])
        known = float(str(params["w"][0])) / params["w"][0] if len(X) == 8 else 1.0
        return np.mean(slope**2) * known

    start = {"w": np.full(5, 0.1), "v": np.zeros(3)}
    with pytest.warns(FallbackWarning):
        run = kb.fit(loss, start, (X,), "adam", epochs=2, batch_size=SIZE, record=record)
    assert (run.gradient_source, run.executor, run.nit) == ("adaptive differences", "python", 6)
    assert run.executor_reason == "the gradient does not come from backpropagation"
    assert run.njev == 2


def test_an_interrupt_while_all_the_data_are_read_leaves_the_last_good_point(data, monkeypatch):
    X, y = data
    net = network(4)
    path = network(4).fit(X, y, "adam", epochs=3, batch_size=SIZE, record="all").history.x["0.W"]

    def press(self, *args):
        raise KeyboardInterrupt

    monkeypatch.setattr(NetworkModel, "full_loss_and_gradient", press)
    with pytest.raises(Interrupted) as caught:
        net.fit(X, y, "adam", epochs=3, batch_size=SIZE)
    run = caught.value.run
    assert run.nit == 8
    for x in (run.x["0.W"], run.history.x["0.W"][-1], net.params["0.W"]):
        np.testing.assert_array_equal(x, path[8])


def test_without_a_record_no_epoch_tells_of_its_gradient(data):
    X, y = data
    for epochs in (0, 2):
        run = network(4).fit(X, y, "adam", epochs=epochs, record="off", gtol=1e-9)
        assert set(run.history.epochs.arrays()) == {"t", "fun", "lr", "accuracy"}


@pytest.mark.parametrize("units", SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_training_without_a_record_takes_the_same_steps(units, dtype, data, tmp_path):
    X, y = data
    options = {"epochs": 12, "batch_size": SIZE, "validation": 0.2}
    nets = [network(units, dtype) for _ in range(4)]
    told = nets[0].fit(X, y, "adam", **options)
    run = nets[1].fit(X, y, "adam", record="off", **options)
    np.testing.assert_array_equal(nets[1].vector, nets[0].vector)
    np.testing.assert_array_equal(run.jac["0.W"], told.jac["0.W"])
    assert (run.fun, run.best_fun, run.nit, run.status) == (told.fun, told.best_fun, told.nit, told.status)
    assert run.njev == told.njev == run.nit == 12 * 2
    assert run.nfev == told.nfev
    assert run.history.t.tolist() == [0, run.nit]
    epochs = run.history.epochs
    for name in ("t", "fun", "accuracy", "validation_fun", "validation_accuracy", "lr"):
        np.testing.assert_array_equal(getattr(epochs, name), getattr(told.history.epochs, name))
    for name in ("grad_norm", "noise", "layer_grad_norm", "layer_update_ratio"):
        assert getattr(epochs, name) is None
        assert getattr(told.history.epochs, name) is not None
    assert set(epochs.arrays()) == {"t", "fun", "accuracy", "validation_fun", "validation_accuracy", "lr"}
    run.save(tmp_path / "run.npz")
    back = kb.load(tmp_path / "run.npz").history.epochs
    assert back.noise is None
    np.testing.assert_array_equal(back.fun, epochs.fun)
    with pytest.raises(InputError, match="record='off'"):
        kb.plot.gradient_norms(run)
    file = tmp_path / "training.npz"
    nets[2].fit(X, y, "adam", record="off", checkpoint=file, **options | {"epochs": 5})
    nets[3].fit(X, y, "adam", record="off", resume=file, **options)
    np.testing.assert_array_equal(nets[3].vector, nets[0].vector)


@pytest.mark.parametrize("units", SIZES)
def test_a_training_without_a_record_still_sees_its_gradient_vanish(units, data):
    """gtol is compared with the mean gradient of an epoch, which is added up for it."""
    X, _ = data
    start = {"w": np.full(5, 0.1), "v": np.zeros(units * 40)}

    def loss(params, X):
        return np.mean(np.square(X @ params["w"] - 1.0)) + 0.5 * np.sum(np.square(params["v"] - 1.0))

    runs = [
        kb.fit(loss, start, (X,), kb.SGD(lr=0.05), epochs=2000, batch_size=SAMPLES, gtol=1e-3, record=record)
        for record in ("auto", "off")
    ]
    assert runs[0].status is runs[1].status is kb.Status.converged
    assert runs[0].nit == runs[1].nit < 2000
    assert runs[0].history.epochs.grad_norm[-1] <= 1e-3
    assert runs[1].history.epochs.grad_norm is None


def test_noise_is_told_where_the_sum_of_gradients_overflows():
    epoch = EpochSums()
    for sign in (1.0, 3.0):
        epoch.add(1e4, 0.0, np.full(100, sign * 2e15, np.float32))
    with np.errstate(over="ignore"):
        assert not np.isfinite(np.dot(epoch.g, epoch.g))
    assert epoch.noise == pytest.approx(2e15 * np.sqrt(100), rel=1e-3)


@pytest.mark.parametrize("units", SIZES)
def test_the_check_of_the_gradient_has_the_graph_of_the_loss(units, data, monkeypatch):
    """Near the kinks of many units differences tell nothing; the graph's own nodes do."""
    X, y = data
    seen = []

    def check(f, leaves, active, value, gradients, where, single, graph):
        (of_graph,) = evaluate(graph, *leaves)
        assert float(of_graph) == pytest.approx(f(*leaves), rel=1e-12)
        assert float(of_graph) == pytest.approx(value, rel=1e-12)
        seen.append((leaves[active[0]].size, gradients[0].size))
        return True

    monkeypatch.setattr(training_step, "cross_check", check)
    net = network(units)
    net.fit(X, y, epochs=1, batch_size=SIZE)
    assert seen == [(net.layout.size, net.layout.size)]


def test_a_wrong_gradient_stops_the_training(data, monkeypatch):
    X, y = data
    right = training_step.reverse

    def wrong(graph, active, auxiliary, careful):
        # the gradients of two weights of equal shape change places
        gradient = right(graph, active, auxiliary=auxiliary, careful=careful)
        outputs = list(gradient.outputs)
        shapes = [gradient.nodes[i].shape for i in outputs]
        k = shapes.index((4,))
        m = shapes.index((4,), k + 1)
        outputs[k], outputs[m] = outputs[m], outputs[k]
        return type(gradient)(gradient.nodes, gradient.inputs, outputs, gradient.guards, gradient.kinks, gradient.name)

    monkeypatch.setattr(training_step, "reverse", wrong)
    with pytest.raises(GradientError, match="backpropagation"):
        network(4).fit(X, y, epochs=1, batch_size=SIZE)


# -- steps that machine code makes alone ------------------------------------------------------------------------------

ROW = {  # optimizer; options of fit; of the data
    "momentum": (lambda: kb.SGD(lr=0.05, momentum=0.9), {}, {}),
    "adam": (lambda: kb.Adam(lr=0.01), {"record": "off"}, {}),
    "every row": (lambda: kb.Adam(lr=0.01), {"record": "all"}, {"dtype": np.float64}),
    "a schedule": (lambda: kb.AdamW(lr=kb.schedules.cosine(0.02, 100)), {"batch_size": 25}, {}),
    "a function": (lambda: kb.SGD(lr=lambda t: 0.1 / (1 + t)), {"patience": 3}, {}),
    "weights": (lambda: kb.SGD(lr=0.05), {"class_weight": "balanced", "validation": 0.2}, {}),
    "numbers": (lambda: kb.RMSprop(lr=0.003), {"target": 0.02}, {"loss": "mse", "dtype": np.float64}),
    "clipped": (lambda: kb.SGD(lr=0.1, clipnorm=0.5), {}, {}),
}

ONE_BY_ONE = ("weights", "numbers", "clipped")  # NumPy or Python has a part in each of these steps


def many_rows(loss="", dtype=np.float32):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(300, 30))
    y = (X[:, :4] @ rng.normal(size=(4, 3))).argmax(axis=1)
    last, criterion = (4, nn.MSE()) if loss == "mse" else (3, nn.CrossEntropy())
    layers = [nn.Dense(70), nn.Tanh(), nn.Dense(33), nn.Sigmoid(), nn.Dense(last)]
    return nn.Network(layers, criterion, seed=1, dtype=dtype), X, X[:, :4] ** 2 if loss == "mse" else y


def both_ways(monkeypatch, train):
    """Return (what ``train`` returns, the steps that machine code made alone): with such steps, and without."""
    found, call = [], lane.Consecutive.__call__
    for alone in (lane.ALONE, 0):
        alone_steps = []

        def counted(self, *args, made=alone_steps):
            result = call(self, *args)
            made.append(self.made)
            return result

        with monkeypatch.context() as patch:
            patch.setattr(lane, "ALONE", alone)
            patch.setattr(lane.Consecutive, "__call__", counted)
            found.append((train(), sum(alone_steps)))
    return found


def assert_same(run, other):
    assert (run.message, run.nit, run.nfev, run.njev, run.fun, run.best_fun) == (
        other.message, other.nit, other.nfev, other.njev, other.fun, other.best_fun,
    )  # fmt: skip
    for name in ("t", "fun", "grad_norm", "lr", "clipped"):
        np.testing.assert_array_equal(getattr(run.history, name), getattr(other.history, name))
    np.testing.assert_array_equal(run.history.x["2.W"], other.history.x["2.W"])
    for name in ("fun", "noise", "grad_norm", "accuracy", "validation_fun", "layer_grad_norm", "layer_update_ratio"):
        np.testing.assert_array_equal(getattr(run.history.epochs, name), getattr(other.history.epochs, name))


@pytest.mark.skipif(not library.available(), reason="llvmlite can't be loaded")
@pytest.mark.parametrize("case", ROW)
@pytest.mark.parametrize("numbers", [lane.NUMBERS, 2**16])
def test_steps_made_alone_have_the_bits_of_those_made_one_by_one(case, numbers, monkeypatch):
    optimizer, options, of_data = ROW[case]
    monkeypatch.setattr(lane, "NUMBERS", numbers)  # few: the record is thinned on the way

    def train():
        net, X, y = many_rows(**of_data)
        return net.fit(X, y, optimizer(), **{"epochs": 12, "batch_size": 24, **options}), net.vector.copy()

    ((run, x), made), ((other, expected), none) = both_ways(monkeypatch, train)
    assert made > 100 if case not in ONE_BY_ONE else made == 0
    assert none == 0
    np.testing.assert_array_equal(x, expected)
    assert_same(run, other)


@pytest.mark.skipif(not library.available(), reason="llvmlite can't be loaded")
@pytest.mark.parametrize("record", ["auto", "off"])
@pytest.mark.parametrize(("lr", "what"), [(3e13, "diverged"), (3e38, "nonfinite")])
def test_a_step_made_alone_that_goes_wrong_is_the_last(record, lr, what, monkeypatch):
    def train():
        net, X, y = many_rows()
        rates = kb.SGD(lr=lambda t: lr if t == 40 else 1e-3)
        run = net.fit(X, y, rates, epochs=6, batch_size=24, record=record)
        return run, net.vector.copy()

    ((run, x), made), ((other, expected), _) = both_ways(monkeypatch, train)
    assert made > 30
    assert run.status.name == what
    assert run.nit in (40, 41)
    np.testing.assert_array_equal(x, expected)
    assert_same(run, other)


@pytest.mark.skipif(not library.available(), reason="llvmlite can't be loaded")
@pytest.mark.parametrize("step", [3, 9, 14])
@pytest.mark.parametrize("place", ["_made", "_settle"])
def test_ctrl_c_among_steps_made_alone_leaves_a_point_that_was_there(step, place, monkeypatch):
    net, X, y = many_rows()
    whole = net.fit(X, y, kb.Adam(lr=0.01), epochs=2, batch_size=24, record="all")
    original = getattr(lane.Training, place)
    pressed = []

    def press(self, *args):
        if not pressed and self.last_step >= step and self.ahead is not None:
            pressed.append(self.last_step)
            raise KeyboardInterrupt
        return original(self, *args)

    monkeypatch.setattr(lane.Training, place, press)
    with pytest.raises(Interrupted) as caught:
        many_rows()[0].fit(X, y, kb.Adam(lr=0.01), epochs=2, batch_size=24)
    run = caught.value.run
    assert pressed
    assert run.nit >= step
    np.testing.assert_array_equal(run.x["2.W"], whole.history.x["2.W"][run.nit])
    np.testing.assert_array_equal(run.history.t, np.arange(run.nit + 1))
    for name in ("fun", "grad_norm", "lr"):
        np.testing.assert_array_equal(getattr(run.history, name), getattr(whole.history, name)[: run.nit + 1])
    np.testing.assert_array_equal(run.history.x["2.W"], whole.history.x["2.W"][: run.nit + 1])


def test_a_training_is_freed_with_its_last_reference(data):
    """Not when the collector comes: the next training takes over its memory, which new pages cost more than a step."""
    X, y = data
    net = network(120)
    net.fit(X, y, kb.SGD(lr=0.01), epochs=2, batch_size=SIZE)  # what is kept for the next one is made
    seen = []
    original = lane.Training.__post_init__
    gc.collect()
    gc.disable()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lane.Training, "__post_init__", lambda t: (original(t), seen.append(weakref.ref(t)))[0])
            net.fit(X, y, kb.SGD(lr=0.01), epochs=2, batch_size=SIZE)
        assert [one() for one in seen] == [None]
    finally:
        gc.enable()
