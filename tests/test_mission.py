"""The mission, a test a row, named after it, through the public interface, with the numbers that the articles print."""

import json

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from reference import cases, losses

import koubai as kb

mpl.use("Agg")


def bowl(x):
    return x[0] ** 2 + x[1] ** 2


def central(f):
    """The articles' gradient: central differences with h = 1e-4."""
    return lambda x: kb.numerical_gradient(f, x, method="central", h=1e-4)


@pytest.fixture
def ax():
    return Figure().add_subplot()


def test_d1_three_differences_side_by_side():
    slopes = [float(kb.derivative(lambda x: x**2, 2, method=m, h=1e-4)) for m in ("forward", "backward", "central")]
    assert slopes == [4.0001000000078335, 3.999900000000167, 4.000000000004]


def test_d2_central_difference_of_a_cube():
    assert float(kb.derivative(lambda x: x**3, 10, method="central", h=1e-4)) == 300.00000000939053


def test_d3_a_step_below_rounding_says_so(ax):
    estimate = kb.derivative(lambda x: x**2, 2, method="forward", h=1e-50)
    assert float(estimate) == 0.0
    assert any("x+h == x" in warning for warning in estimate.warnings)
    assert estimate.error > 4
    kb.plot.difference_error(lambda x: x**2, 2, exact=4.0, ax=ax)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    curves = [line for line in ax.lines if len(line.get_xdata()) > 20]
    assert len(curves) == 3
    for curve in curves:
        h, error = (np.asarray(d, dtype=float) for d in curve.get_data())
        error = error[np.argsort(h)]
        least = error[error > 0].min()
        assert error[0] > 100 * least, "rounding error must grow to the left"
        assert error[-1] >= 100 * least or "central" in curve.get_label(), "truncation error must grow to the right"


def test_d4_the_tangent_line(ax):
    kb.plot.tangent(lambda x: x**3, 10, ax=ax)
    lines = [line for line in ax.lines if "tangent" in str(line.get_label())]
    assert len(lines) == 1
    x, y = (np.asarray(d, dtype=float) for d in lines[0].get_data())
    slope, intercept = np.polyfit(x, y, 1)
    assert slope == pytest.approx(300, rel=1e-9)
    assert intercept == pytest.approx(-2000, rel=1e-9)
    assert lines[0].get_label() == "tangent: slope 300, intercept −2000"


def test_d5_partial_derivatives():
    estimate = kb.numerical_gradient(bowl, np.array([3.0, 4.0]), method="central", h=1e-4)
    np.testing.assert_allclose(estimate.value, [6, 8], rtol=1e-11)
    assert (np.abs(estimate.value - [6, 8]) <= estimate.error).all()


def simple_net(W):
    """The slides' 2×3 net: x (2) times W (2×3), softmax, cross-entropy with the label t."""
    x, t = np.array([0.6, 0.9]), np.array([0.0, 0.0, 1.0])
    z = x @ W
    y = np.exp(z - np.max(z))
    return -np.sum(t * np.log(y / np.sum(y)))


@pytest.mark.parametrize("method", ["central", "adaptive"])
def test_d6_the_gradient_of_a_matrix_by_differences(method):
    W = np.array([[0.47355232, 0.9977393, 0.84668094], [0.85557411, 0.03563661, 0.69422093]])
    x, t = np.array([0.6, 0.9]), np.array([0.0, 0.0, 1.0])
    y = np.exp(x @ W) / np.exp(x @ W).sum()
    kept = W.copy()
    estimate = kb.numerical_gradient(simple_net, W, method=method)
    assert estimate.value.shape == (2, 3)
    np.testing.assert_allclose(estimate.value, np.outer(x, y - t), atol=1e-9)
    np.testing.assert_allclose(estimate.value.sum(axis=1), 0, atol=1e-9)
    assert np.array_equal(W, kept)


def test_d7_a_gradient_field_as_arrows(ax):
    kb.plot.gradient_field(bowl, [(-2, 2), (-2, 2)], ax=ax)
    (arrows,) = [c for c in ax.collections if type(c).__name__ == "Quiver"]
    along = np.stack([arrows.U, arrows.V])
    where = np.stack([arrows.X, arrows.Y])
    moving = np.hypot(*where) > 1e-9
    cosine = (along * where).sum(axis=0)[moving] / (np.hypot(*along) * np.hypot(*where))[moving]
    np.testing.assert_allclose(np.abs(cosine), 1, atol=1e-6)
    assert len(set(np.sign(cosine))) == 1


def test_g1_gradient_descent_until_the_gradient_is_small():
    run = kb.minimize(lambda x: (x - 1) ** 2, -1.4761195622774732, kb.SGD(lr=0.1), grad=lambda x: 2 * (x - 1), gtol=0.1)
    steps = kb.iterate(
        lambda x: (x - 1) ** 2, -1.4761195622774732, kb.SGD(lr=0.1), grad=lambda x: 2 * (x - 1), gtol=0.1
    )
    assert [step.g for step in steps][:3] == [-4.952239124554946, -3.961791299643957, -3.1694330397151655]
    assert run.nit == 18
    assert run.x == 0.9553941954480096
    assert run.jac == -0.08921160910398074
    assert run.status is kb.Status.converged


def test_g2_gradient_descent_with_history():
    start = np.array([0.0, 0.0])
    run = kb.minimize(
        lambda x: (x[0] - 1) ** 2 + (x[1] - 2) ** 2, start, kb.SGD(lr=0.1), max_steps=20,
        grad=central(lambda x: (x[0] - 1) ** 2 + (x[1] - 2) ** 2),
    )  # fmt: skip
    assert [f"{v:.8f}" for v in run.x] == ["0.98847078", "1.97694157"]
    assert len(run.history) == 21  # the start and all 20 points
    assert len(np.unique(run.history.x, axis=0)) == 21
    assert start.tolist() == [0.0, 0.0]


def test_g3_a_hundred_steps():
    run = kb.minimize(bowl, [-3.0, 4.0], kb.SGD(lr=0.1), grad=central(bowl), gtol=0, max_steps=100)
    assert [f"{v:.8e}" for v in run.x] == ["-6.11110793e-10", "8.14814391e-10"]


@pytest.mark.parametrize("grad", ["auto", "central", central(bowl), lambda x: 2 * x])
@pytest.mark.parametrize("max_steps", [100, 10_000])
def test_g4_a_learning_rate_too_large_has_diverged(grad, max_steps):
    run = kb.minimize(bowl, [-3.0, 4.0], kb.SGD(lr=10), grad=grad, max_steps=max_steps)
    assert run.status is kb.Status.diverged
    assert not run.success
    found = run.diagnose(lang="en")
    assert found.code == "lr_too_large"
    assert found.evidence["stable_lr"].value == pytest.approx(1.0, rel=1e-6)
    assert "above the largest stable rate 1," in found.explanation
    assert found.verify().after.success


def test_g4_the_naive_loop_does_freeze():
    """What the articles' loop ends in, so that the row above is about a real failure."""
    x = np.array([-3.0, 4.0])
    for _ in range(100):
        x = x - 10 * central(bowl)(x).value
    assert abs(x[0]) == pytest.approx(2.59e13, rel=0.01)
    assert np.array_equal(central(bowl)(x).value, [0, 0])


@pytest.mark.parametrize("grad", ["auto", central(bowl), lambda x: 2 * x])
def test_g5_a_learning_rate_too_small(grad):
    run = kb.minimize(bowl, [-3.0, 4.0], kb.SGD(lr=1e-10), grad=grad, max_steps=100)
    assert [f"{v:.8f}" for v in run.x] == ["-2.99999994", "3.99999992"]
    assert run.status is kb.Status.max_steps
    assert not run.success
    assert "step limit 100 came first" in run.message
    found = run.diagnose(lang="en")
    assert found.code == "lr_too_small"
    assert str(found.remedy) == "take the rate 0.5"
    assert found.verify().after.success


def test_g6_the_path_is_drawn(ax):
    run = kb.minimize(lambda x: (x[0] - 1) ** 2 + (x[1] - 2) ** 2, [0.0, 0.0], kb.SGD(lr=0.1), max_steps=20)
    run.plot(ax=ax)
    (arrows,) = [c for c in ax.collections if type(c).__name__ == "Quiver"]
    tails, steps = np.column_stack([arrows.X, arrows.Y]), np.column_stack([arrows.U, arrows.V])
    np.testing.assert_allclose(tails, run.history.x[:-1])
    np.testing.assert_allclose(tails + steps, run.history.x[1:])
    assert any("Contour" in type(c).__name__ for c in ax.collections)


def test_g6_the_1d_path_is_arrows_on_the_curve(ax):
    run = kb.minimize(lambda x: (x - 1) ** 2, -1.4761195622774732, kb.SGD(lr=0.1), gtol=0.1)
    run.plot(ax=ax)
    (arrows,) = [c for c in ax.collections if type(c).__name__ == "Quiver"]
    np.testing.assert_allclose(arrows.X, run.history.x[:-1])
    np.testing.assert_allclose(arrows.Y, run.history.fun[:-1])
    np.testing.assert_allclose(arrows.X + arrows.U, run.history.x[1:])
    np.testing.assert_allclose(arrows.Y + arrows.V, run.history.fun[1:], atol=1e-12)


@pytest.mark.parametrize("grad", ["auto", central(bowl), lambda x: 2 * x])
@pytest.mark.parametrize("lr", [0.1, 0.9, 0.99, 1.01, 10])
def test_g7_it_converges_below_2_over_L_at_the_predicted_rate(grad, lr):
    run = kb.minimize(bowl, [-3.0, 4.0], kb.SGD(lr=lr), grad=grad, gtol=0, max_steps=60)
    theory = run.theory()
    assert [theory.L, theory.mu] == pytest.approx([2, 2], rel=1e-6)
    assert [theory.bound, theory.ratio] == pytest.approx([2 / theory.L, lr])
    assert theory.predicted == pytest.approx((1 - 2 * lr) ** 2)
    assert (theory.predicted < 1) == (lr < 2 / theory.L) == (run.fun < bowl([-3.0, 4.0]))
    if lr < 10:  # else it has left within a few steps, to where differences are 0
        assert theory.error < 1e-6  # of every point, to the exact solution
        assert theory.measured.value == pytest.approx(theory.predicted, rel=0.02)


def test_g7_each_step_falls_as_far_as_the_lemma_promises(ax):
    run = kb.minimize(lambda x: x[0] ** 2 / 20 + x[1] ** 2, [-7.0, 2.0], kb.SGD(lr=0.95), max_steps=100)
    theory = run.theory()
    g = run.history.x[:-1] * [0.1, 2.0]
    np.testing.assert_allclose(theory.lemma.promised, 0.95 * (1 - 0.95 * 2.0 / 2) * (g**2).sum(axis=1), rtol=1e-6)
    assert len(theory.lemma.t) == 100
    assert theory.lemma.holds
    assert (theory.lemma.fall > 0).all()
    theory.plot(ax=ax)
    labels = ax.get_legend_handles_labels()[1]
    assert [label.partition(":")[0] for label in labels] == [
        "f − f* of the run", "most that the descent lemma allows", "measured", "predicted",
    ]  # fmt: skip
    assert "lr 0.95 < largest stable rate 1" in ax.get_title()


def two_valleys(x):
    return x**4 - 3 * x**2 + x


def four_valleys(x):
    return two_valleys(x[0]) + two_valleys(x[1])


LEFT, HILL, RIGHT = np.sort(np.roots([4, 0, -6, 1]).real)  # where the slope of two_valleys is 0


def test_g8_which_start_ends_where_and_a_larger_rate_jumps_a_valley(ax):
    run = kb.minimize(two_valleys, 2.0, lr=0.02)
    assert run.x == pytest.approx(RIGHT, abs=1e-6)
    found = run.diagnose(lang="en")
    assert found.code == "local_minimum"
    assert found.verify().after.x == pytest.approx(LEFT, abs=1e-5)
    jumped = kb.minimize(two_valleys, 2.0, lr=0.1)  # over the hill, into the deeper one
    assert jumped.history.x[1] < HILL < jumped.history.x[0]
    assert jumped.x == pytest.approx(LEFT, abs=1e-6)
    assert jumped.diagnose().code == "converged"

    found = kb.basins(two_valleys, (-2.0, 2.0), optimizer=kb.SGD(0.02), resolution=401)
    ends = np.array([found.minima[k].x for k in found.label.ravel()]).ravel()
    starts = np.linspace(-2, 2, 401) if found.x[0].shape != ends.shape else found.x[0]
    np.testing.assert_allclose(ends, np.where(starts < HILL, LEFT, RIGHT), atol=1e-4)
    found.plot(ax=ax)


def test_g8_in_the_plane_with_the_share_of_starts_that_reach_the_global_minimum(ax):
    found = kb.basins(four_valleys, [(-2, 2), (-2, 2)], optimizer=kb.SGD(0.02), resolution=200)
    best = min(found.minima, key=lambda minimum: minimum.fun)
    np.testing.assert_allclose(best.x, [LEFT, LEFT], atol=1e-4)
    share = ((HILL + 2) / 4) ** 2
    assert best.share == pytest.approx(share, abs=0.01)
    assert len(found.minima) == 4
    found.plot(ax=ax)
    many = kb.multistart(four_valleys, [(-2, 2), (-2, 2)], starts=1024, optimizer=kb.SGD(0.02))
    assert many.best.fun == pytest.approx(2 * two_valleys(LEFT))
    assert min(many.minima, key=lambda minimum: minimum.fun).share == pytest.approx(share, abs=0.05)


NINE = ("sgd", "adagrad", "rmsprop", "adadelta", "adam", "adamax", "nadam", "ftrl")
NINE_CASES = [c for c in cases.CASES if c.optimizer in NINE and c.framework in ("torch", "keras")]


@pytest.mark.parametrize("case", NINE_CASES, ids=str)
def test_o1_to_o9_paths_are_pytorchs_and_kerass(case):
    """200 steps with the framework's own semantics; the stored paths are the frameworks', live in make test-bridges."""
    assert case.tolerance <= 1e-12
    with np.load(cases.STORED) as stored:
        assert cases.difference(cases.path(case)[cases.KEPT], stored[str(case)]) <= 1e-12


def test_o1_to_o9_every_one_is_compared_with_every_framework_that_has_it():
    compared = {(c.optimizer, c.framework) for c in NINE_CASES}
    keras = {(name, "keras") for name in NINE}
    torch = {(name, "torch") for name in NINE if name != "ftrl"}
    assert compared == keras | torch
    sgd = [c.settings for c in NINE_CASES if c.optimizer == "sgd"]
    assert any(s.get("momentum") and not s.get("nesterov") for s in sgd), "Momentum is SGD with momentum"
    assert any(s.get("momentum") and s.get("nesterov") for s in sgd), "Nesterov is SGD with momentum and nesterov"


def test_o10_an_optimizer_updates_dictionaries_in_place():
    params = {"w": np.array([[1.0, -2.0], [0.5, 3.0]]), "b": np.zeros(2)}
    w, b = params["w"], params["b"]
    optimizer = kb.Adam(lr=0.05)
    for _ in range(300):
        optimizer.update(params, {"w": 2 * (params["w"] - 1), "b": 2 * (params["b"] + 2)})
    assert params["w"] is w
    assert params["b"] is b
    np.testing.assert_allclose(w, 1, atol=1e-3)
    np.testing.assert_allclose(b, -2, atol=1e-3)


def losses_of(name, dtype):
    """One experiment, the optimizer picked by name: the mean loss of each of 20 epochs."""
    x, y = losses.data(dtype)

    def loss(p, x, y):
        return np.mean((x @ p["w"] + p["b"] - y) ** 2)

    data = kb.nn.batches(x, y, losses.SIZE, seed=None)
    start = {"w": np.zeros(3, dtype), "b": np.zeros((), dtype)}
    optimizer = kb.optimizers.resolve(name, **losses.SETTINGS[name])
    run = kb.minimize(loss, start, optimizer, batches=data, max_steps=losses.EPOCHS * len(data), gtol=0)
    return run.history.epochs.fun


def assert_pytorchs(ours, name, dtype, tolerance):
    """To the tolerance; in single precision, or as near as PyTorch's own losses lie to those in double precision.

    That is further for momentum alone, which swings at this rate and enlarges how a machine's BLAS adds up.
    """
    stored = json.loads(losses.STORED.read_text())
    theirs = np.array(stored[dtype][name])
    rounding = np.max(np.abs(theirs - stored["float64"][name]))
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=max(tolerance, rounding))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-6)])
@pytest.mark.parametrize("name", losses.SETTINGS)
def test_o11_the_losses_are_pytorchs(name, dtype, tolerance):
    ours = losses_of(name, dtype)
    assert len(ours) == 20
    assert_pytorchs(ours, name, dtype, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-6)])
@pytest.mark.parametrize("name", losses.SETTINGS)
def test_o11_so_are_those_of_a_training(name, dtype, tolerance):
    """The same experiment in one line: `kb.fit` with the optimizer picked by name."""
    x, y = losses.data(dtype)
    run = kb.fit(
        lambda p, x, y: np.mean((x @ p["w"] + p["b"] - y) ** 2),
        {"w": np.zeros(3, dtype), "b": np.zeros((), dtype)},
        kb.nn.batches(x, y, losses.SIZE, seed=None),
        kb.optimizers.resolve(name, **losses.SETTINGS[name]),
        epochs=losses.EPOCHS,
    )
    assert_pytorchs(run.history.epochs.fun, name, dtype, tolerance)


def test_o12_stochastic_descent_takes_each_sample_once_an_epoch():
    seen = []

    def loss(w, rows):
        seen.append(tuple(rows))
        return np.mean((w - rows) ** 2)

    data = kb.nn.batches(np.arange(25.0), size=4, seed=7)
    for run in (0, 1):
        del seen[run * 21 :]
        kb.minimize(
            loss, 0.0, kb.SGD(lr=0.01), grad=lambda w, rows: np.mean(2 * (w - rows)), batches=data, max_steps=20
        )
        drawn = seen[run * 21 : run * 21 + 21]  # three epochs of seven batches
        for epoch in range(3):
            assert sorted(v for batch in drawn[7 * epoch : 7 * epoch + 7] for v in batch) == list(range(25))
        assert len(set(drawn)) == 21
    assert seen[:21] == seen[21:42]


def test_o12_a_training_takes_each_sample_once_an_epoch():
    X = np.arange(25.0)[:, None]
    seen = []

    for _ in range(2):
        rows = kb.nn.batches(X, size=4, seed=7)
        seen.append([batch.ravel() for epoch in range(3) for (batch,) in rows.epoch(epoch)])
        network = kb.nn.Network([kb.nn.Dense(1)], kb.nn.MSE(), seed=7, dtype=np.float64).build((1,))
        network.vector[:] = 0
        run = network.fit(
            X, X[:, 0], kb.SGD(lr=1e-300), epochs=3, batch_size=4
        )  # stands still: each loss is its batch's
        expected = [np.mean(batch**2) for batch in seen[-1]]
        np.testing.assert_allclose(run.history.fun[:-1], expected, rtol=1e-12)
    assert all(np.array_equal(a, b) for a, b in zip(*seen, strict=True))
    for epoch in range(3):
        assert sorted(np.concatenate(seen[0][7 * epoch : 7 * epoch + 7])) == list(range(25))


def test_n1_the_chain_rule():
    """z = (x + y)²: dz/dx = dz/dy = 2 (x + y), by backpropagation and by differences."""

    def z(x, y):
        t = x + y
        return t**2

    assert kb.grad(z, argnums=(0, 1), method="backprop")(3.0, 4.0) == (14.0, 14.0)
    for argnum in (0, 1):
        by_differences = kb.grad(z, argnums=argnum, method="adaptive")(3.0, 4.0)
        assert by_differences == pytest.approx(14, rel=1e-12)
    assert "2" in kb.trace(z, 3.0, 4.0).gradient().source()


@pytest.mark.parametrize("layer", [kb.nn.Sigmoid(), kb.nn.Dense(4)], ids=["sigmoid", "dense"])
def test_n1_layers_go_forward_and_backward(layer):
    """layer.forward(x), layer.backward(dout) as the articles write them, against differences."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 3))
    out = layer.forward(x)
    dout = rng.normal(size=out.shape)
    dx = layer.backward(dout)
    by_differences = kb.numerical_gradient(lambda x: np.sum(layer.forward(x) * dout), x).value
    np.testing.assert_allclose(dx, by_differences, rtol=1e-8, atol=1e-10)
    if isinstance(layer, kb.nn.Dense):
        layer.forward(x)
        layer.backward(dout)
        np.testing.assert_allclose(layer.gradients["W"], x.T @ dout)
        np.testing.assert_allclose(layer.gradients["b"], dout.sum(axis=0))
    else:
        np.testing.assert_allclose(out, 1 / (1 + np.exp(-x)))


def test_n2_the_simple_net_as_a_network():
    x, t = np.array([[0.6, 0.9]]), np.array([2])
    network = kb.nn.Network([kb.nn.Dense(3, bias=False)], kb.nn.CrossEntropy(), dtype=np.float64).build((2,))
    W = network.params["0.W"]
    y = network.predict_proba(x)
    by_backprop = network.gradient(x, t)["0.W"]
    np.testing.assert_allclose(by_backprop, np.outer(x, y - np.eye(3)[t]), rtol=1e-12)

    def loss(new):
        W[...] = new
        return network.loss(x, t)

    by_differences = kb.numerical_gradient(loss, W.copy()).value
    np.testing.assert_allclose(by_backprop, by_differences, rtol=0, atol=1e-8)
    assert network.check_gradient(x, t).ok


def test_n2_backpropagation_and_differences_agree_on_the_simple_net():
    W = np.random.default_rng(0).standard_normal((2, 3))
    by_backprop = kb.grad(simple_net, method="backprop")(W)
    by_differences = kb.numerical_gradient(simple_net, W).value
    np.testing.assert_allclose(by_backprop, by_differences, rtol=0, atol=1e-8)


def digits(images):
    X, y = kb.nn.digits(images=images)
    return kb.nn.split(X, y, 0.2, seed=0, stratified=True)


def test_n3_a_dense_network_reads_digits():
    """Forward, error, loss, backward, update, until the loss is least: over 97% on a held-out fifth, the same bits
    every time."""
    train, held_out = digits(images=False)
    weights = []
    for _ in range(2):
        network = kb.nn.Network([kb.nn.Dense(64), kb.nn.ReLU(), kb.nn.Dense(10)], kb.nn.CrossEntropy(), seed=0)
        run = network.fit(*train, kb.Adam(lr=3e-3), epochs=20, batch_size=32, validation=held_out)
        weights.append(network.vector.copy())
    assert network.score(*held_out) > 0.97
    assert run.history.epochs.validation_accuracy[-1] == network.score(*held_out)
    np.testing.assert_array_equal(*weights)


def test_n3_a_small_convolutional_network_reads_them_better():
    nn = kb.nn
    train, held_out = digits(images=True)
    layers = [
        *(nn.Conv2D(16, 3, padding=1), nn.ReLU(), nn.MaxPool2D(2)),
        *(nn.Conv2D(32, 3, padding=1), nn.ReLU(), nn.MaxPool2D(2)),
        *(nn.Flatten(), nn.Dropout(0.3), nn.Dense(10)),
    ]
    network = nn.Network(layers, nn.CrossEntropy(), seed=0)
    epochs, batch_size = 15, 32
    steps = epochs * -(-len(train[0]) // batch_size)
    network.fit(*train, kb.Adam(lr=kb.schedules.cosine(4e-3, steps)), epochs=epochs, batch_size=batch_size)
    assert network.score(*held_out) > 0.985


def test_n4_a_networks_gradient_by_backpropagation_and_by_differences():
    X, y = kb.nn.digits()
    network = kb.nn.Network([kb.nn.Dense(4), kb.nn.Sigmoid(), kb.nn.Dense(10)], kb.nn.CrossEntropy(), dtype=np.float64)
    network.build((64,))
    by_backprop = network.gradient(X[:20], y[:20])
    vector = network.vector.copy()

    def loss(v):
        network.vector[...] = v
        return network.loss(X[:20], y[:20])

    estimate = kb.numerical_gradient(loss, vector, method="central")
    network.vector[...] = vector
    np.testing.assert_allclose(network.layout.match(by_backprop, "g"), estimate.value, rtol=1e-6, atol=1e-9)
    assert estimate.nfev >= 2 * network.layout.size  # where backpropagation takes one pass


def test_n4_backpropagation_gives_the_same_numbers_for_one_evaluation_in_place_of_thousands():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((20, 8)), np.eye(3)[rng.integers(0, 3, 20)]
    p = {"W1": rng.standard_normal((8, 16)), "b1": np.zeros(16), "W2": rng.standard_normal((16, 3)), "b2": np.zeros(3)}

    def loss(p):
        z = np.tanh(X @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"]
        return np.mean(np.log(np.sum(np.exp(z), axis=1)) - np.sum(Y * z, axis=1))

    estimate = kb.numerical_gradient(loss, p, method="central")
    gradient = kb.value_and_grad(loss, method="backprop")
    _, by_backprop = gradient(p)
    for name in p:
        np.testing.assert_allclose(by_backprop[name], estimate.value[name], rtol=1e-6, atol=1e-8)
    n = sum(part.size for part in p.values())
    assert estimate.nfev >= 2 * n
    used = gradient.nfev
    gradient(p)
    assert gradient.nfev == used  # once traced, the user's function is not called again
