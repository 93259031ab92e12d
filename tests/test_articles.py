"""The articles' own code, line by line, with koubai's functions in place of theirs.

What can't work as it stands is answered with a sentence that leads on; it is a test as well.
"""

from collections import OrderedDict

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
from matplotlib import pyplot as plt

import koubai as kb
from koubai import nn
from koubai.errors import FunctionError, GradientWarning, InputError

numerical_diff = kb.derivative
numerical_gradient = kb.numerical_gradient


# -- numerical differentiation ----------------------------------------------------------------------------------------


def function_1(x):
    return 0.01 * x**2 + 0.1 * x


def function_2(x):
    return x[0] ** 2 + x[1] ** 2


def test_numerical_differentiation(capsys):
    print(numerical_diff(function_1, 5, method="central", h=1e-4))
    assert capsys.readouterr().out.startswith("Estimate: 0.19999999999")
    print("%.6f" % numerical_diff(function_1, 10))  # noqa: UP031 as it is written there
    assert capsys.readouterr().out == "0.300000\n"
    assert f"{numerical_diff(function_1, 10):.3f}" == "0.300"
    assert numerical_diff(lambda x: x**3, 10, method="central", h=1e-4) == 300.00000000939053

    def function_tmp1(x0):
        return x0 * x0 + 4.0**2.0

    assert abs(numerical_diff(function_tmp1, 3.0) - 6) < 1e-9
    assert np.isclose(numerical_diff(function_tmp1, 3.0), 6.0)


def test_tangent_line():
    def tangent_line(f, x):
        d = numerical_diff(f, x)
        y = f(x) - d * x
        return lambda t: d * t + y

    x = np.arange(0.0, 20.0, 0.1)
    tf = tangent_line(function_1, 5)
    y2 = tf(x)
    assert type(y2) is np.ndarray
    np.testing.assert_allclose(y2, 0.2 * x - 0.25, rtol=1e-9)
    plt.plot(x, function_1(x))
    plt.plot(x, y2)
    plt.close("all")


def test_three_differences_side_by_side():
    x, h = 2, 1e-4
    forward, backward, central = (
        numerical_diff(lambda x: x**2, x, method=method, h=h) for method in ("forward", "backward", "central")
    )
    assert (forward, backward, central) == (4.0001000000078335, 3.999900000000167, 4.000000000004)
    assert max(forward, backward, central) == forward
    assert abs(central - 4) < abs(forward - 4)
    print([float(d) for d in (forward, backward, central)])


@pytest.mark.parametrize("word", ["dx", "eps", "epsilon", "delta"])
def test_another_name_of_the_step_is_answered(word):
    with pytest.raises(InputError, match="koubai's word is 'h'"):
        numerical_diff(function_1, 5, **{word: 1e-4})


# -- the gradient, and the loop down it -------------------------------------------------------------------------------


def test_numerical_gradient():
    np.testing.assert_allclose(numerical_gradient(function_2, np.array([3.0, 4.0])), [6, 8], rtol=1e-9)
    np.testing.assert_allclose(numerical_gradient(function_2, np.array([3, 4])), [6, 8], rtol=1e-9)
    grad = np.zeros(2)
    grad += numerical_gradient(function_2, np.array([0.0, 2.0]))
    grad[0], grad[1] = numerical_gradient(function_2, np.array([3.0, 0.0]))
    np.testing.assert_allclose(grad, [6, 0], atol=1e-9)


def test_a_function_of_many_points_is_answered():
    def function_of_rows(x):
        return np.sum(x**2) if x.ndim == 1 else np.sum(x**2, axis=1)

    X, Y = (grid.flatten() for grid in np.meshgrid(np.arange(-2, 2.5, 0.5), np.arange(-2, 2.5, 0.5)))
    with pytest.raises(FunctionError, match="must return one number: sum it"):
        numerical_gradient(function_of_rows, np.array([X, Y]).T)
    grad = numerical_gradient(lambda x: np.sum(function_of_rows(x)), np.array([X, Y]).T).T
    np.testing.assert_allclose(grad, [2 * X, 2 * Y], atol=1e-9)
    plt.quiver(X, Y, -grad[0], -grad[1], angles="xy")
    plt.close("all")


def test_gradient_descent_with_its_history():
    def gradient_descent(f, init_x, lr=0.01, step_num=100):
        x = init_x
        x_history = []
        for _ in range(step_num):
            x_history.append(x.copy())
            grad = numerical_gradient(f, x, method="central", h=1e-4)
            x -= lr * grad
        return x, np.array(x_history)

    x, x_history = gradient_descent(function_2, np.array([-3.0, 4.0]), lr=0.1, step_num=20)
    assert type(x) is np.ndarray
    assert x_history.shape == (20, 2)
    run = kb.minimize(function_2, [-3.0, 4.0], lr=0.1, max_steps=20, gtol=0)
    np.testing.assert_allclose(run.history.x[:-1], x_history, rtol=1e-6)
    np.testing.assert_allclose(run.x, x, rtol=1e-6)
    plt.plot(x_history[:, 0], x_history[:, 1], "o")
    plt.close("all")
    x, _ = gradient_descent(function_2, np.array([-3.0, 4.0]), lr=0.1, step_num=100)
    np.testing.assert_allclose(x, [-6.11110793e-10, 8.14814391e-10], rtol=1e-6)


def test_the_loop_with_a_stopping_rule():
    x, gradients = -1.4761195622774732, []
    gradient = numerical_diff(lambda x: (x - 1) ** 2, x)
    while abs(gradient) > 0.1:
        x = x - 0.1 * gradient
        gradient = numerical_diff(lambda x: (x - 1) ** 2, x)
        gradients.append(gradient)
    assert len(gradients) == 18
    assert x == pytest.approx(0.9553941954480096, rel=1e-9)
    assert np.array(gradients).shape == (18,)
    assert f"gradient: {gradient:.4f}" == "gradient: -0.0892"
    g = numerical_gradient(function_2, np.array([3.0, 4.0]))
    if np.linalg.norm(g) > 5:
        g *= 5 / np.linalg.norm(g)
    np.testing.assert_allclose(g, [3, 4], rtol=1e-9)


def test_their_own_functions_are_named():
    for name, word in {"gradient_descent": "'minimize'", "numerical_diff": "'derivative'", "softmax": "nn.Softmax",
                       "sigmoid": "nn.Sigmoid", "cross_entropy_error": "nn.CrossEntropy"}.items():  # fmt: skip
        with pytest.raises(AttributeError, match=name) as raised:
            getattr(kb, name)
        assert word in str(raised.value)
    for words in ({"step_num": 20}, {"init_x": 1.0}, {"eta": 0.1}, {"learning_rate": 0.1}):
        with pytest.raises(InputError, match="koubai's word is"):
            kb.minimize(function_2, [1.0, 2.0], **words)


# -- simpleNet --------------------------------------------------------------------------------------------------------


def softmax(x):
    x = x - np.max(x, axis=-1, keepdims=True)
    return np.exp(x) / np.sum(np.exp(x), axis=-1, keepdims=True)


def cross_entropy_error(y, t):
    y, t = np.atleast_2d(y), np.atleast_2d(t)
    return -np.sum(t * np.log(y + 1e-7)) / y.shape[0]


class simpleNet:
    def __init__(self):
        self.W = np.array([[0.47355232, 0.9977393, 0.84668094], [0.85557411, 0.03563661, 0.69422093]])

    def predict(self, x):
        return np.dot(x, self.W)

    def loss(self, x, t):
        z = self.predict(x)
        y = softmax(z)
        return cross_entropy_error(y, t)


X, T = np.array([0.6, 0.9]), np.array([0, 0, 1])
DW = [[0.21924763, 0.14356247, -0.36281009], [0.32887144, 0.2153437, -0.54421514]]


@pytest.mark.parametrize("differentiate", [numerical_gradient, lambda f, W: kb.grad(f)(W), kb.minimize])
def test_simplenet_with_a_function_of_nothing_is_answered(differentiate):
    net = simpleNet()
    f = lambda w: net.loss(X, T)  # noqa: E731 as it is written there
    with pytest.warns(GradientWarning, match="does not depend on its argument: .* as in lambda W: loss"):
        answer = differentiate(f, net.W)
    assert not getattr(answer, "success", False)


@pytest.mark.parametrize("differentiate", [numerical_gradient, lambda f, W: kb.grad(f, method="backprop")(W)])
def test_simplenet_with_its_weights_as_the_argument(differentiate):
    net = simpleNet()

    def f(w):
        net.W = w
        return net.loss(X, T)

    dW = differentiate(f, net.W)
    np.testing.assert_allclose(dW, DW, atol=1e-6)
    assert type(net.W) is np.ndarray
    net.W = net.W - 0.1 * dW
    assert net.loss(X, T) < 0.93
    run = kb.minimize(f, net.W, lr=0.5, max_steps=30)
    assert run.fun < 0.4


# -- layers, optimizers, networks -------------------------------------------------------------------------------------


def test_the_sigmoid_layer():
    layer, x = nn.Sigmoid(), np.array([[1.0, -0.5], [-2.0, 3.0]])
    out = layer.forward(x)
    np.testing.assert_allclose(out, 1 / (1 + np.exp(-x)), rtol=1e-12)
    dout = np.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_allclose(layer.backward(dout), dout * (1.0 - out) * out, rtol=1e-12)


def test_the_affine_layer_with_given_weights():
    rng = np.random.default_rng(0)
    W, b, x = rng.normal(size=(3, 2)), rng.normal(size=2), rng.normal(size=(4, 3))
    with pytest.raises(AttributeError, match="koubai's word is 'Dense'"):
        nn.Affine  # noqa: B018
    layer = nn.Dense(W, b)
    np.testing.assert_allclose(layer.forward(x), np.dot(x, W) + b, rtol=1e-12)
    dout = rng.normal(size=(4, 2))
    np.testing.assert_allclose(layer.backward(dout), np.dot(dout, W.T), rtol=1e-12)


def test_sgd_update():
    params = {"W1": np.array([[1.0, 2.0]]), "b1": np.zeros(2)}
    grads = {"W1": np.array([[10.0, -10.0]]), "b1": np.ones(2)}
    W1 = params["W1"]
    optimizer = kb.SGD(lr=0.01)
    optimizer.update(params, grads)
    for key in params:
        assert params[key] is not grads[key]
    assert params["W1"] is W1
    np.testing.assert_allclose(params["W1"], [[0.9, 2.1]], rtol=1e-12)
    np.testing.assert_allclose(params["b1"], -0.01, rtol=1e-12)


def test_the_experiment_by_the_optimizers_name():
    def f(x, y):
        return x**2 / 20.0 + y**2

    def df(x, y):
        return x / 10.0, 2.0 * y

    init_pos = (-7.0, 2.0)
    params = {}
    params["x"], params["y"] = init_pos[0], init_pos[1]
    grads = {}
    grads["x"], grads["y"] = 0, 0

    with pytest.raises(AttributeError, match="'Adagrad'"):
        kb.AdaGrad  # noqa: B018
    optimizers = OrderedDict()
    optimizers["SGD"] = kb.SGD(lr=0.95)
    optimizers["Momentum"] = kb.Momentum(lr=0.1)
    optimizers["AdaGrad"] = kb.Adagrad(lr=1.5)
    optimizers["Adam"] = kb.Adam(lr=0.3)

    for idx, key in enumerate(optimizers, 1):
        optimizer = optimizers[key]
        x_history = []
        y_history = []
        params["x"], params["y"] = init_pos[0], init_pos[1]
        for _ in range(30):
            x_history.append(params["x"])
            y_history.append(params["y"])
            grads["x"], grads["y"] = df(params["x"], params["y"])
            optimizer.update(params, grads)
        assert f(params["x"], params["y"]) < 0.1 * f(*init_pos), key
        assert len(set(x_history)) == 30
        run = kb.minimize(lambda p: f(p["x"], p["y"]), {"x": -7.0, "y": 2.0}, type(optimizer)(lr=optimizer.lr),
                          max_steps=30, gtol=0)  # fmt: skip
        np.testing.assert_allclose([*x_history, params["x"]], run.history.x["x"], rtol=1e-9)
        plt.subplot(2, 2, idx)
        plt.plot(x_history, y_history, "o-", color="red")
        plt.title(key)
    plt.close("all")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class TwoLayerNet:
    def __init__(self, input_size, hidden_size, output_size, weight_init_std=0.5):
        rng = np.random.default_rng(1)
        self.params = {}
        self.params["W1"] = weight_init_std * rng.normal(size=(input_size, hidden_size))
        self.params["b1"] = np.zeros(hidden_size)
        self.params["W2"] = weight_init_std * rng.normal(size=(hidden_size, output_size))
        self.params["b2"] = np.zeros(output_size)

    def predict(self, x):
        W1, W2 = self.params["W1"], self.params["W2"]
        b1, b2 = self.params["b1"], self.params["b2"]
        z1 = sigmoid(np.dot(x, W1) + b1)
        return softmax(np.dot(z1, W2) + b2)

    def loss(self, x, t):
        return cross_entropy_error(self.predict(x), t)

    def numerical_gradient(self, x, t):
        grads = {}
        for key in self.params:
            grads[key] = numerical_gradient(self.loss_of(key, x, t), self.params[key])
        return grads

    def gradient(self, x, t):
        return {key: kb.grad(self.loss_of(key, x, t), method="backprop")(self.params[key]) for key in self.params}

    def loss_of(self, key, x, t):
        def loss_W(W):
            before, self.params[key] = self.params[key], W
            try:
                return self.loss(x, t)
            finally:
                self.params[key] = before

        return loss_W


def samples():
    rng = np.random.default_rng(2)
    return rng.normal(size=(8, 4)), np.eye(3)[rng.integers(0, 3, 8)]


def test_the_gradient_check_of_the_two_layer_net():
    network = TwoLayerNet(4, 5, 3)
    x, t = samples()
    grad_numerical = network.numerical_gradient(x, t)
    grad_backprop = network.gradient(x, t)
    for key in grad_numerical:
        diff = np.average(np.abs(grad_backprop[key] - grad_numerical[key]))
        assert diff < 1e-9, key
    assert all(type(value) is np.ndarray for value in network.params.values())
    own = nn.Network([nn.Dense(5), nn.Sigmoid(), nn.Dense(3)], nn.CrossEntropy(), seed=0)
    own.build(x.shape[1:])
    assert own.check_gradient(x, t.argmax(axis=1)).ok


@pytest.mark.parametrize("method", ["gradient", "numerical_gradient"])
def test_the_training_loop_of_the_two_layer_net(method):
    network, optimizer = TwoLayerNet(4, 5, 3), kb.SGD(lr=0.5)
    x, t = samples()
    train_loss_list = [network.loss(x, t)]
    for _ in range(20 if method == "gradient" else 3):
        batch_mask = np.random.default_rng(3).choice(len(x), 8)
        grad = getattr(network, method)(x[batch_mask], t[batch_mask])
        for key in ("W1", "b1", "W2", "b2"):
            network.params[key] -= 0.1 * grad[key]
        optimizer.update(network.params, grad)
        train_loss_list.append(network.loss(x, t))
    assert train_loss_list[-1] < train_loss_list[0]


def test_the_loss_of_the_net_as_a_function_of_nothing_is_answered():
    network = TwoLayerNet(4, 5, 3)
    x, t = samples()
    loss_W = lambda W: network.loss(x, t)  # noqa: E731 as it is written there
    with pytest.warns(GradientWarning, match="does not depend on its argument"):
        grad = numerical_gradient(loss_W, network.params["W1"])
    assert not np.any(grad)
