"""The pictures of networks: what is drawn is what the run, the network and the data say. Checked on the artists."""

import dataclasses

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure

import koubai as kb
from koubai import plot
from koubai.descent.record import Epochs
from koubai.errors import InputError
from koubai.plot.network import GRID, TILES

RNG = np.random.default_rng(0)
LAYERS = ("0 Dense(5)", "2 Dense(4)", "4 Dense(3)")


@pytest.fixture(autouse=True)
def _clean():
    before = dict(matplotlib.rcParams)
    yield
    plt.close("all")
    assert dict(matplotlib.rcParams) == before, "a picture changed matplotlib's settings"


def descent():
    """A stochastic descent of three epochs that is not a network's."""
    data = kb.nn.batches(np.arange(12.0), size=4)
    return kb.minimize(lambda w, x: np.mean((w - x) ** 2), 0.0, kb.SGD(lr=0.1), batches=data, max_steps=9)


def trained(**columns):
    """The run of a network with these columns by epoch, in place of those of a real one."""
    count = len(next(iter(columns.values())))
    rows = [(3 * (k + 1), 1.0, 1.0, 0.1) for k in range(count)]
    more = {name: np.array(values, dtype=float) for name, values in columns.items()}
    epochs = dataclasses.replace(Epochs.of(rows), layers=LAYERS, **more)
    run = descent()
    return dataclasses.replace(run, history=dataclasses.replace(run.history, epochs=epochs))


CURVES = {
    "fun": [2.0, 0.5, 0.1, 0.05],
    "validation_fun": [1.9, 0.7, 0.3, 0.4],
    "accuracy": [0.4, 0.8, 0.9, 0.95],
    "validation_accuracy": [0.5, 0.7, 0.9, 0.8],
    "layer_grad_norm": [[1e-4, 1e-2, 1.0], [2e-4, 2e-2, 0.9], [1e-4, 1e-2, 0.8], [0.0, 1e-2, 0.7]],
}


class Net:
    """A network of the plane: class 1 where x0 > 0, sure of it far from there."""

    params = {  # noqa: RUF012
        "0.W": RNG.standard_normal((2, 5)), "0.b": np.zeros(5), "2.W": 3 * RNG.standard_normal((5, 2)),
    }  # fmt: skip
    names = ("0 Dense(5)", "1 ReLU", "2 Dense(2)")

    def predict_proba(self, X):
        p = 1 / (1 + np.exp(-20 * X[:, 0]))
        return np.column_stack([1 - p, p])

    def predict(self, X):
        return (np.asarray(X)[:, 0] > 0).astype(int)

    def activations(self, X):
        h = X @ self.params["0.W"]
        h[:, 3] = -1.0
        return {"0 Dense(5)": h, "1 ReLU": np.maximum(h, 0), "2 Dense(2)": np.maximum(h, 0) @ self.params["2.W"]}


X = RNG.uniform(-1, 1, (60, 2))
Y = (X[:, 0] > 0).astype(int)


def lines(ax):
    return {str(line.get_label()).split(":")[0]: line for line in ax.get_lines()}


# -- curves -----------------------------------------------------------------------------------------------------------


def test_the_curves_are_the_columns_and_the_best_epoch_is_marked():
    run = trained(**CURVES)
    found = lines(plot.training_curves(run))
    assert found["training"].get_xdata().tolist() == [1, 2, 3, 4]
    assert found["training"].get_ydata().tolist() == CURVES["fun"]
    assert found["validation"].get_ydata().tolist() == CURVES["validation_fun"]
    assert found["best"].get_label() == "best: 0.3, epoch 3"
    found = lines(plot.training_curves(run, curve="accuracy"))
    assert found["validation"].get_ydata().tolist() == CURVES["validation_accuracy"]
    assert found["best"].get_label() == "best: 90.00%, epoch 3"


def test_without_validation_the_training_curve_is_judged():
    run = trained(fun=CURVES["fun"])
    ax = plot.training_curves(run)
    assert set(lines(ax)) == {"training", "best"}
    assert ax.get_yscale() == "log"
    assert plot.training_curves(trained(fun=[1.0, 0.9])).get_yscale() == "linear"
    assert plot.training_curves(trained(fun=[0.0, 0.9])).get_yscale() == "linear"


@pytest.mark.sampled(3)
@pytest.mark.parametrize("length", [1, 2, 100])
def test_curves_of_any_length_are_drawn(length):
    run = trained(**{name: [values[k % 4] for k in range(length)] for name, values in CURVES.items()})
    for draw in (plot.training_curves, plot.gradient_norms, plot.run):
        draw(run).get_figure().canvas.draw()  # warnings are errors, those of the layout and the scales too


def test_a_loss_that_was_lost_leaves_a_gap():
    run = trained(fun=[1.0, 0.5, 0.2], validation_fun=[2.0, np.inf, np.nan])
    found = lines(plot.training_curves(run))
    np.testing.assert_array_equal(found["validation"].get_ydata(), [2, np.nan, np.nan])
    assert found["best"].get_label() == "best: 2, epoch 1"
    ax = plot.training_curves(trained(fun=[np.nan, np.nan]))
    assert "best" not in lines(ax)
    for drawn in (ax, plot.training_curves(trained(fun=[1e-3, 1e250]))):
        drawn.get_figure().canvas.draw()


def test_a_training_without_a_finished_epoch_is_drawn_step_by_step():
    run = kb.nn.Network([kb.nn.Dense(1)], kb.nn.MSE()).fit(X, Y, kb.SGD(lr=1e6), epochs=3)
    assert run.status is kb.Status.diverged
    plot.run(run).get_figure().canvas.draw()
    assert "diverged" in run._repr_html_()
    ax = plot.training_curves(run)
    np.testing.assert_array_equal(lines(ax)["mini-batches"].get_ydata(), run.history.fun)
    assert "diverged" in ax.get_title()
    for loss, y in ((kb.nn.MSE(), Y), (kb.nn.BinaryCrossEntropy(), (Y > 0).astype(int))):
        network = kb.nn.Network([kb.nn.Dense(1)], loss, l2=1.0)
        run = network.fit(X, y, kb.SGD(lr=1e9), epochs=3)
        assert not len(run.history.epochs)
        plot.training(network, run, X, y).canvas.draw()


@pytest.mark.slow
def test_pictures_of_a_real_training():
    X, y = kb.nn.digits(images=True)
    layers = "conv4x3,relu,pool2,flatten,16,batchnorm,tanh,10"
    network = kb.nn.Network(kb.nn.parse_layers(layers), kb.nn.CrossEntropy())
    run = network.fit(X[:300], y[:300], epochs=2, validation=0.2)
    weighty = ("0 Conv2D(4, 3×3)", "4 Dense(16)", "5 BatchNorm()", "7 Dense(10)")
    assert tuple(lines(plot.gradient_norms(run))) == run.history.epochs.layers == weighty
    assert lines(plot.gradient_by_depth({"cnn": run}))["cnn"].get_ydata().shape == (4,)
    assert tuple(insets(plot.weights(network))) == (weighty[0], weighty[1], weighty[3])
    assert tuple(insets(plot.activations(network, X[:50]))) == network.names
    assert plot.filters(network.params["0.W"]).get_images()
    assert "Loss in training and validation" in run.plot().get_title()
    plot.training(network, run, X[:300], y[:300]).canvas.draw()


def test_what_a_run_lacks_is_said():
    with pytest.raises(InputError, match="no finished epoch"):
        plot.training_curves(kb.minimize(lambda x: x**2, 1.0))
    with pytest.raises(InputError, match="no accuracy"):
        plot.training_curves(descent(), curve="accuracy")
    with pytest.raises(InputError, match="curve must be 'loss' or 'accuracy'"):
        plot.training_curves(descent(), curve="los")
    with pytest.raises(InputError, match="not that of a network"):
        plot.gradient_norms(descent())
    with pytest.raises(InputError, match="run must be a Run"):
        plot.training_curves(3)


def test_gradient_norms_have_a_line_a_layer():
    run = trained(**CURVES)
    ax = plot.gradient_norms(run)
    found = lines(ax)
    assert tuple(found) == LAYERS
    norms = np.array(CURVES["layer_grad_norm"])
    np.testing.assert_array_equal(found["2 Dense(4)"].get_ydata(), norms[:, 1])
    assert np.isnan(found["0 Dense(5)"].get_ydata()[3])  # zero: no logarithm
    assert ax.get_yscale() == "log"


def test_gradient_by_depth_has_a_line_a_network():
    run = trained(**CURVES)
    found = lines(plot.gradient_by_depth({"a": run, "b": trained(fun=[1.0], layer_grad_norm=[[1.0, 2.0, 3.0]])}))
    assert found["a"].get_xdata().tolist() == [1, 2, 3]
    assert found["a"].get_ydata().tolist() == CURVES["layer_grad_norm"][0]
    assert found["b"].get_ydata().tolist() == [1, 2, 3]
    ax = plot.gradient_by_depth({"a": run}, epoch=-2)
    assert lines(ax)["a"].get_ydata().tolist() == CURVES["layer_grad_norm"][2]
    with pytest.raises(InputError, match="epoch 4 is not in run 'a', which has 4"):
        plot.gradient_by_depth({"a": run}, epoch=4)
    with pytest.raises(InputError, match="must be a dict of named runs"):
        plot.gradient_by_depth([run])


# -- decisions --------------------------------------------------------------------------------------------------------


def test_the_decision_is_that_of_the_network():
    wrong = Y.copy()
    wrong[:3] = 1 - wrong[:3]
    ax = plot.decision(Net(), X, wrong, bounds=((-2, 1), (-1, 1)))
    (image,) = ax.get_images()
    rgb = image.get_array()
    assert rgb.shape == (GRID, GRID, 3)
    left, right = rgb[GRID // 2, 10], rgb[GRID // 2, -10]
    assert left[2] > left[0]  # blue: class 0
    assert right[0] > right[2]  # orange: class 1
    boundary = [
        path.vertices for c in ax.get_children() if isinstance(c, QuadContourSet) for path in c.get_paths()
        if len(path.vertices)
    ]  # fmt: skip
    assert boundary
    np.testing.assert_allclose(np.vstack(boundary)[:, 0], 0, atol=0.01)
    assert "57 of 60 right" in ax.get_title()
    sizes = {
        c.get_sizes()[0]: len(c.get_offsets()) for c in ax.collections if hasattr(c, "get_sizes") and c.get_label()
    }
    assert max(sizes) > 2 * min(sizes)
    assert sum(len(c.get_offsets()) for c in ax.collections if not isinstance(c, QuadContourSet)) == 60


def test_a_function_of_one_probability_is_drawn_too():
    names = {"classes": ["left", "right"], "features": ["width", "height"]}
    ax = plot.decision(lambda X: 1 / (1 + np.exp(-20 * X[:, 0])), X, Y, **names)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("width", "height")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["left", "right"]
    assert "all 60 right" in ax.get_title()
    ax.get_figure().canvas.draw()


def test_a_network_that_sees_one_class_has_no_boundary():
    ax = plot.decision(lambda X: np.tile([0.9, 0.1, 0.0], (len(X), 1)), X, Y)
    assert not any(isinstance(c, QuadContourSet) for c in ax.get_children())
    assert f"{np.sum(Y == 0)} of 60 right" in ax.get_title()


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((RNG.standard_normal((5, 3)), np.zeros(5, int)), {}, "two features"),
        ((X, Y[:5]), {}, "X has 60 samples, y has 5"),
        ((X, Y - 1), {}, "y must hold labels"),
        ((X, Y + 0.5), {}, "y must hold labels"),
        ((X, Y), {"classes": ["one"]}, "1 names for 2 classes"),
        ((X, Y), {"bounds": (0, 1)}, "bounds must be"),
        ((X, Y), {"features": ["width"]}, "features must be two names"),
    ],
)
def test_decision_refuses_by_name(arguments, options, message):
    with pytest.raises(InputError, match=message):
        plot.decision(Net(), *arguments, **options)


def test_confusion_counts():
    y, predicted = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 1, 1, 1, 0, 2])
    ax = plot.confusion(y, predicted, classes=["cat", "dog", "wolf"])
    cells = {t.get_position(): t.get_text() for t in ax.texts}
    assert cells == {(0, 0): "1", (1, 0): "1", (1, 1): "2", (0, 1): "1", (2, 2): "1"}  # (column, row)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["cat", "dog", "wolf"]
    assert "4 of 6 right, 66.67%" in ax.get_title()
    assert "4 of 6" in plot.confusion(np.eye(3)[y], predicted).get_title()
    many = plot.confusion(np.arange(100), np.arange(100))
    assert not many.texts
    many.get_figure().canvas.draw()


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([0, 1], [0]), {}, "y has 2 labels, predicted has 1"),
        (([0, -1], [0, 1]), {}, "y must hold labels"),
        (([0, 1], ["a", "b"]), {}, "predicted must hold labels"),
        (([0, 2], [0, 1]), {"classes": ["a", "b"]}, "a label 2"),
        (([], []), {}, "y must hold labels"),
    ],
)
def test_confusion_refuses_by_name(arguments, options, message):
    with pytest.raises(InputError, match=message):
        plot.confusion(*arguments, **options)


# -- layers -----------------------------------------------------------------------------------------------------------


def insets(ax):
    return {child.get_ylabel(): child for child in ax.child_axes}


def notes(inset):
    return inset.texts[0].get_text()


def test_weights_are_counted_on_one_scale():
    net = Net()
    found = insets(plot.weights(net))
    assert tuple(found) == ("0 Dense(5)", "2 Dense(2)")  # biases are left out
    for (name, inset), key in zip(found.items(), ("0.W", "2.W"), strict=True):
        counts, _, _ = inset.patches[0].get_data()
        assert counts.sum() == net.params[key].size, name
        assert notes(inset).startswith(f"{net.params[key].size} weights")
    assert found["0 Dense(5)"].get_xlim() == found["2 Dense(2)"].get_xlim()
    assert tuple(insets(plot.weights(net.params))) == ("0.W", "2.W")
    plot.weights({"W": np.zeros((3, 3))}).get_figure().canvas.draw()
    with pytest.raises(InputError, match="no weights yet"):
        plot.weights({"b": np.zeros(3)})
    with pytest.raises(InputError, match="must have params"):
        plot.weights(3)


def test_activations_tell_zeros_and_dead_units():
    net = Net()
    ax = plot.activations(net, X)
    found = insets(ax)
    assert tuple(found) == net.names
    values = net.activations(X)["1 ReLU"]
    counts, _, _ = found["1 ReLU"].patches[0].get_data()
    assert counts.sum() == np.sum(values > 0)
    assert f"{np.mean(values == 0):.0%} zero, 1 of 5 dead" in notes(found["1 ReLU"])
    assert "zero" not in notes(found["0 Dense(5)"])
    ax.get_figure().canvas.draw()
    images = np.maximum(RNG.standard_normal((4, 6, 3, 3)), 0)
    images[:, 2] = 0
    assert "1 of 6 dead" in notes(insets(plot.activations({"conv": images}))["conv"])
    plot.activations({"all zero": np.zeros((4, 3))}).get_figure().canvas.draw()
    with pytest.raises(InputError, match="a network or a dict"):
        plot.activations({})


def test_filters_are_the_weights_of_each_unit():
    W = RNG.standard_normal((6, 4))
    (image,) = plot.filters(W, shape=(2, 3)).get_images()
    mosaic = image.get_array()
    tile = mosaic[:2, :3]
    np.testing.assert_allclose(tile, W[:, 0].reshape(2, 3) / np.abs(W[:, 0]).max())
    kernels = RNG.standard_normal((5, 2, 3, 3))
    mosaic = plot.filters(kernels).get_images()[0].get_array()
    mean = kernels[0].mean(axis=0)
    np.testing.assert_allclose(mosaic[:3, :3], mean / np.abs(mean).max())
    assert np.ma.masked_invalid(mosaic).count() == 5 * 9
    assert f"the first {TILES} of 130" in plot.filters(RNG.standard_normal((4, 130)), shape=(2, 2)).get_title()
    plot.filters(np.zeros((4, 3)), shape=(2, 2)).get_figure().canvas.draw()
    for shape in (None, (2, 2), (6,)):
        with pytest.raises(InputError, match="W must have shape"):
            plot.filters(W, shape=shape)


# -- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_shows_what_suits_the_data():
    run, net = trained(**CURVES), Net()
    page = plot.training(net, run, X, Y)
    assert any("Decision" in ax.get_title() for ax in page.axes)
    assert len(page.axes) == 3
    page.canvas.draw()
    wide = np.column_stack([X, X])
    page = plot.training(net, run, wide, Y, classes=["no", "yes"], figure=Figure())
    assert any("Confusion" in ax.get_title() for ax in page.axes)
    answers = np.column_stack([Y, 1 - Y])  # two questions a sample, the second one answered wrongly throughout
    net.predict = lambda X: np.column_stack([Y, Y])
    page = plot.training(net, run, X, answers, figure=Figure())
    assert any("Confusion: 60 of 120 right" in ax.get_title() for ax in page.axes)
    del net.predict
    page = plot.training(net, trained(fun=CURVES["fun"]), wide, Y + 0.5, figure=Figure())
    (found,) = [ax for ax in page.axes if "Prediction" in ax.get_title()]
    expected = 1 - np.mean((net.predict(wide) - Y - 0.5) ** 2) / np.var(Y)
    assert found.get_title().split()[-1] == plot.style.number(expected)


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: plot.training_curves(trained(**CURVES), ax=ax),
        lambda ax: plot.gradient_norms(trained(**CURVES), ax=ax),
        lambda ax: plot.gradient_by_depth({"a": trained(**CURVES)}, ax=ax),
        lambda ax: plot.decision(Net(), X, Y, ax=ax),
        lambda ax: plot.confusion(Y, Y, ax=ax),
        lambda ax: plot.weights(Net(), ax=ax),
        lambda ax: plot.activations(Net(), X, ax=ax),
        lambda ax: plot.filters(np.eye(4), shape=(2, 2), ax=ax),
    ],
)
def test_ax_is_drawn_on_and_pyplot_not_touched(draw):
    mine = Figure().add_subplot()
    assert draw(mine) is mine
    assert mine.get_title()
    assert plt.get_fignums() == []
    with pytest.raises(InputError, match="ax must be a matplotlib Axes"):
        draw(Figure())
