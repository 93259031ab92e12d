"""Networks as a textbook writes them, with classes that keep their inputs, masks and running means, through `grad`."""

import warnings
from collections import OrderedDict

import numpy as np
import pytest

import koubai as kb

random = np.random.default_rng(5)


class Affine:
    def __init__(self, W, b):
        self.W, self.b = W, b
        self.x = self.original_shape = None

    def forward(self, x):
        self.original_shape = x.shape
        x = x.reshape(x.shape[0], -1)
        self.x = x
        return np.dot(self.x, self.W) + self.b


class Sigmoid:
    def forward(self, x):
        out = 1 / (1 + np.exp(-x))
        self.out = out
        return out


class Relu:
    def __init__(self):
        self.mask = None

    def forward(self, x):
        self.mask = x <= 0
        out = x.copy()
        out[self.mask] = 0
        return out


class Dropout:
    def __init__(self, ratio, mask):
        self.ratio, self.mask = ratio, mask

    def forward(self, x, train=True):
        return x * self.mask if train else x * (1.0 - self.ratio)


class BatchNormalization:
    def __init__(self, gamma, beta, momentum=0.9):
        self.gamma, self.beta, self.momentum = gamma, beta, momentum
        self.running_mean = self.running_var = None
        self.batch_size = self.xc = self.std = None

    def forward(self, x, train=True):
        if self.running_mean is None:
            self.running_mean, self.running_var = np.zeros(x.shape[1]), np.zeros(x.shape[1])
        if train:
            mu = x.mean(axis=0)
            xc = x - mu
            var = np.mean(xc**2, axis=0)
            std = np.sqrt(var + 10e-7)
            xn = xc / std
            self.batch_size, self.xc, self.xn, self.std = x.shape[0], xc, xn, std
            self.running_mean = self.momentum * self.running_mean + (1 - self.momentum) * mu
            self.running_var = self.momentum * self.running_var + (1 - self.momentum) * var
        else:
            xn = (x - self.running_mean) / np.sqrt(self.running_var + 10e-7)
        return self.gamma * xn + self.beta


def im2col(images, height, width, stride=1, pad=0):
    n, c, h, w = images.shape
    out_h, out_w = (h + 2 * pad - height) // stride + 1, (w + 2 * pad - width) // stride + 1
    img = np.pad(images, [(0, 0), (0, 0), (pad, pad), (pad, pad)], "constant")
    col = np.zeros((n, c, height, width, out_h, out_w))
    for y in range(height):
        for x in range(width):
            col[:, :, y, x, :, :] = img[:, :, y : y + stride * out_h : stride, x : x + stride * out_w : stride]
    return col.transpose(0, 4, 5, 1, 2, 3).reshape(n * out_h * out_w, -1)


class Convolution:
    def __init__(self, W, b, stride=1, pad=0):
        self.W, self.b, self.stride, self.pad = W, b, stride, pad

    def forward(self, x):
        fn, _, fh, fw = self.W.shape
        n, _, h, w = x.shape
        out_h, out_w = 1 + (h + 2 * self.pad - fh) // self.stride, 1 + (w + 2 * self.pad - fw) // self.stride
        col = im2col(x, fh, fw, self.stride, self.pad)
        col_w = self.W.reshape(fn, -1).T
        out = np.dot(col, col_w) + self.b
        self.x, self.col, self.col_w = x, col, col_w
        return out.reshape(n, out_h, out_w, -1).transpose(0, 3, 1, 2)


class Pooling:
    def __init__(self, size, stride):
        self.size, self.stride = size, stride

    def forward(self, x):
        n, c, h, w = x.shape
        out_h, out_w = 1 + (h - self.size) // self.stride, 1 + (w - self.size) // self.stride
        col = im2col(x, self.size, self.size, self.stride).reshape(-1, self.size * self.size)
        self.arg_max = np.argmax(col, axis=1)
        self.x = x
        return np.max(col, axis=1).reshape(n, out_h, out_w, c).transpose(0, 3, 1, 2)


class SoftmaxWithLoss:
    def __init__(self):
        self.loss = self.y = self.t = None

    def forward(self, x, t):
        self.t = t
        x = x - np.max(x, axis=-1, keepdims=True)
        self.y = np.exp(x) / np.sum(np.exp(x), axis=-1, keepdims=True)
        if self.t.size == self.y.size:
            self.t = self.t.argmax(axis=1)
        batch_size = self.y.shape[0]
        self.loss = -np.sum(np.log(self.y[np.arange(batch_size), self.t] + 1e-7)) / batch_size
        return self.loss


class Network:
    """Layers in an OrderedDict; ``params`` are shared with the layers by name."""

    def __init__(self):
        self.params, self.layers, self.last_layer = {}, OrderedDict(), SoftmaxWithLoss()
        self.weight_decay_lambda = 0.1
        self.build()

    def add(self, name, layer, **params):
        self.layers[name] = layer
        self.params |= {f"{name}.{key}": value for key, value in params.items()}

    def predict(self, x, train=False):
        for layer in self.layers.values():
            x = layer.forward(x, train) if isinstance(layer, Dropout | BatchNormalization) else layer.forward(x)
        return x

    def loss(self, x, t, train=True):
        decay = 0
        for name, value in self.params.items():
            if name.endswith("W"):
                decay += 0.5 * self.weight_decay_lambda * np.sum(value**2)
        return self.last_layer.forward(self.predict(x, train), t) + decay

    def loss_at(self, params, x, t):
        for name, value in params.items():
            layer, key = name.split(".")
            setattr(self.layers[layer], key, value)
            self.params[name] = value
        return self.loss(x, t)


class MultiLayerNet(Network):
    def build(self):
        sizes = [6, 5, 4, 3]
        for i in range(3):
            W, b = random.normal(size=sizes[i : i + 2]) / 2, random.normal(size=sizes[i + 1]) / 5
            self.add(f"Affine{i}", Affine(W, b), W=W, b=b)
            if i < 2:
                gamma, beta = random.uniform(0.5, 1.5, sizes[i + 1]), random.normal(size=sizes[i + 1])
                self.add(f"BatchNorm{i}", BatchNormalization(gamma, beta), gamma=gamma, beta=beta)
                self.add(f"Activation{i}", (Relu, Sigmoid)[i]())


class DropoutNet(Network):
    def build(self):
        W1, b1, W2, b2 = random.normal(size=(6, 8)), np.zeros(8), random.normal(size=(8, 3)), np.zeros(3)
        self.add("Affine1", Affine(W1, b1), W=W1, b=b1)
        self.add("Relu1", Relu())
        self.add("Dropout1", Dropout(0.4, random.uniform(size=(7, 8)) > 0.4))
        self.add("Affine2", Affine(W2, b2), W=W2, b=b2)


class SimpleConvNet(Network):
    def build(self):
        W1, b1 = random.normal(size=(2, 1, 3, 3)) / 2, np.zeros(2)
        W2, b2, W3, b3 = random.normal(size=(8, 4)) / 2, np.zeros(4), random.normal(size=(4, 3)) / 2, np.zeros(3)
        self.add("Conv1", Convolution(W1, b1), W=W1, b=b1)
        self.add("Relu1", Relu())
        self.add("Pool1", Pooling(2, 2))
        self.add("Affine1", Affine(W2, b2), W=W2, b=b2)
        self.add("Relu2", Relu())
        self.add("Affine2", Affine(W3, b3), W=W3, b=b3)


FLAT, IMAGES = random.normal(size=(7, 6)), random.normal(size=(7, 1, 6, 6))
CLASSES = random.integers(0, 3, 7)
ONE_HOT = np.eye(3)[CLASSES]


@pytest.mark.parametrize(("network", "x", "t"), [
    (MultiLayerNet, FLAT, ONE_HOT), (DropoutNet, FLAT, CLASSES), (SimpleConvNet, IMAGES, ONE_HOT),
])  # fmt: skip
def test_the_networks_of_a_textbook_are_differentiated(network, x, t):
    net = network()
    params = {name: value.copy() for name, value in net.params.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a fallback would be one
        both = kb.value_and_grad(lambda params: net.loss_at(params, x, t))
        value, gradient = both(params)
    assert both.gradient_source == "backprop"
    expected = kb.numerical_gradient(lambda params: net.loss_at(params, x, t), params, method="central")
    for name, part in gradient.items():
        np.testing.assert_allclose(part, expected.value[name], rtol=1e-5, atol=1e-7, err_msg=name)
    assert value == pytest.approx(net.loss_at(params, x, t), rel=1e-14)
    # the network is as a plain call leaves it
    assert {type(part) for layer in net.layers.values() for part in vars(layer).values()} <= {
        np.ndarray, np.float64, float, int, tuple, type(None)
    }  # fmt: skip
    # and so is it by one parameter, and by its own loop of updates
    W = kb.grad(lambda W: net.loss_at({**params, next(iter(params)): W}, x, t))(params[next(iter(params))])
    np.testing.assert_allclose(W, gradient[next(iter(params))], rtol=1e-10, atol=1e-12)
    optimizer = kb.SGD(lr=0.1)
    for _ in range(5):
        optimizer.update(params, both(params)[1])
    assert net.loss_at(params, x, t) < value
