"""Layers and losses beside PyTorch's: same weights, same batch; forward and every gradient to 1e-6 in float32."""

import copy

import numpy as np
import pytest
import torch

from koubai import nn

RANDOM = np.random.default_rng(3)
FRESH = RANDOM.bit_generator.state


@pytest.fixture(autouse=True)
def same_numbers_in_any_order():
    """Each test draws the same numbers, whichever other tests its process ran before it."""
    RANDOM.bit_generator.state = FRESH
    torch.manual_seed(3)


def array(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def close(got, tensor):
    expected = tensor.detach().numpy()
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6 * max(1.0, np.abs(expected).max()))


def dense_weights(layer, module):
    return [("W", module.weight, lambda w: w.T), ("b", module.bias, lambda w: w)]


def same_weights(layer, module):
    return [("W", module.weight, lambda w: w), ("b", module.bias, lambda w: w)]


def norm_weights(layer, module):
    return [("gamma", module.weight, lambda w: w), ("beta", module.bias, lambda w: w)]


def no_weights(layer, module):
    return []


FLAT, IMAGES = (7, 12), (5, 3, 9, 8)
LAYERS = {
    "Dense": (nn.Dense(6), torch.nn.Linear(12, 6), FLAT, dense_weights),
    "Dense over sequences": (nn.Dense(4), torch.nn.Linear(5, 4), (3, 6, 5), dense_weights),
    "Dense without b": (nn.Dense(6, bias=False), torch.nn.Linear(12, 6, bias=False), FLAT, dense_weights),
    "Conv2D": (nn.Conv2D(4, 3), torch.nn.Conv2d(3, 4, 3), IMAGES, same_weights),
    "Conv2D same": (nn.Conv2D(4, 3, padding="same"), torch.nn.Conv2d(3, 4, 3, padding="same"), IMAGES, same_weights),
    "Conv2D stride": (
        nn.Conv2D(2, (3, 2), stride=(2, 3), padding=(1, 0)),
        torch.nn.Conv2d(3, 2, (3, 2), stride=(2, 3), padding=(1, 0)),
        IMAGES,
        same_weights,
    ),
    "Conv2D without b": (nn.Conv2D(2, 5, bias=False), torch.nn.Conv2d(3, 2, 5, bias=False), IMAGES, same_weights),
    "MaxPool2D": (nn.MaxPool2D(2), torch.nn.MaxPool2d(2), IMAGES, no_weights),
    "MaxPool2D overlapping": (nn.MaxPool2D(3, stride=(2, 1)), torch.nn.MaxPool2d(3, (2, 1)), IMAGES, no_weights),
    "AvgPool2D": (nn.AvgPool2D(2), torch.nn.AvgPool2d(2), IMAGES, no_weights),
    "AvgPool2D overlapping": (nn.AvgPool2D((3, 2), stride=1), torch.nn.AvgPool2d((3, 2), 1), IMAGES, no_weights),
    "Flatten": (nn.Flatten(), torch.nn.Flatten(), IMAGES, no_weights),
    "Sigmoid": (nn.Sigmoid(), torch.nn.Sigmoid(), FLAT, no_weights),
    "Tanh": (nn.Tanh(), torch.nn.Tanh(), IMAGES, no_weights),
    "ReLU": (nn.ReLU(), torch.nn.ReLU(), FLAT, no_weights),
    "ReLU of images": (nn.ReLU(), torch.nn.ReLU(), IMAGES, no_weights),
    "LeakyReLU": (nn.LeakyReLU(), torch.nn.LeakyReLU(), FLAT, no_weights),
    "LeakyReLU 0.3": (nn.LeakyReLU(0.3), torch.nn.LeakyReLU(0.3), IMAGES, no_weights),
    "GELU": (nn.GELU(), torch.nn.GELU(), FLAT, no_weights),
    "GELU approximate": (nn.GELU(approximate=True), torch.nn.GELU(approximate="tanh"), IMAGES, no_weights),
    "Softmax": (nn.Softmax(), torch.nn.Softmax(dim=-1), FLAT, no_weights),
    "Softmax of images": (nn.Softmax(), torch.nn.Softmax(dim=1), IMAGES, no_weights),
    "BatchNorm": (nn.BatchNorm(), torch.nn.BatchNorm1d(12), FLAT, norm_weights),
    "BatchNorm of images": (
        nn.BatchNorm(momentum=0.3, eps=1e-3),
        torch.nn.BatchNorm2d(3, momentum=0.3, eps=1e-3),
        IMAGES,
        norm_weights,
    ),
    "LayerNorm": (nn.LayerNorm(), torch.nn.LayerNorm(12), FLAT, norm_weights),
    "LayerNorm of images": (nn.LayerNorm(), torch.nn.LayerNorm(IMAGES[1:]), IMAGES, norm_weights),
    "LayerNorm of two axes": (nn.LayerNorm(2), torch.nn.LayerNorm(IMAGES[2:]), IMAGES, norm_weights),
    "LayerNorm of sequences": (nn.LayerNorm(1), torch.nn.LayerNorm(5), (3, 6, 5), norm_weights),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("train", [True, False])
def test_layer(name, train):
    layer, module, shape, weights = copy.deepcopy(LAYERS[name])
    module.train(train)
    layer.build(shape[1:], np.random.default_rng(0), np.float32)
    for own, value in layer.state.items():  # running statistics that are not those of the first batch
        layer.state[own] = np.abs(array(*value.shape)) + np.float32(0.5)
        getattr(module, f"running_{own}").copy_(torch.from_numpy(layer.state[own]))
    with torch.no_grad():
        for own, tensor, turned in weights(layer, module):
            if tensor is not None:
                value = array(*tensor.shape)
                tensor.copy_(torch.from_numpy(value))
                layer.params[own] = turned(value)
    for _ in range(2):  # running statistics are followed from batch to batch
        x = array(*shape) * 2 + 1
        tensor = torch.from_numpy(x).requires_grad_()
        module.zero_grad()
        expected = module(tensor)
        y = layer.forward(x, train=train)
        close(y, expected)
        dout = array(*expected.shape)
        expected.backward(torch.from_numpy(dout))
        close(layer.backward(dout), tensor.grad)
        for own, parameter, turned in weights(layer, module):
            if parameter is not None:
                close(layer.gradients[own], turned(parameter.grad))
        if layer.state:
            close(layer.state["mean"], module.running_mean)
            close(layer.state["var"], module.running_var)


def test_embedding():
    layer, module = nn.Embedding(9, 4), torch.nn.Embedding(9, 4)
    x = RANDOM.integers(0, 9, (5, 6))
    layer.build((6,), np.random.default_rng(0), np.float32)
    layer.params["W"] = module.weight.detach().numpy().copy()
    expected = module(torch.from_numpy(x))
    close(layer.forward(x), expected)
    dout = array(5, 6, 4)
    expected.backward(torch.from_numpy(dout))
    assert layer.backward(dout) is None
    close(layer.gradients["W"], module.weight.grad)


LABELS, TARGETS = RANDOM.integers(0, 5, 8), array(8, 5)
ROWS = RANDOM.dirichlet(np.ones(5), 8).astype(np.float32)
YES = RANDOM.integers(0, 2, (8, 5)).astype(np.float32)
WEIGHTS = np.array([0.5, 1.0, 2.0, 0.2, 1.5], np.float32)


def cross_entropy(**options):
    return lambda z, y: torch.nn.functional.cross_entropy(z, y, **options)


def binary(**options):
    return lambda z, y: torch.nn.functional.binary_cross_entropy_with_logits(z, y, **options)


LOSSES = {
    "MSE": (nn.MSE(), torch.nn.functional.mse_loss, TARGETS),
    "MAE": (nn.MAE(), torch.nn.functional.l1_loss, TARGETS),
    "Huber": (nn.Huber(), torch.nn.functional.huber_loss, TARGETS),
    "Huber 0.3": (nn.Huber(0.3), lambda z, y: torch.nn.functional.huber_loss(z, y, delta=0.3), TARGETS),
    "CrossEntropy": (nn.CrossEntropy(), cross_entropy(), LABELS),
    "CrossEntropy smoothed": (nn.CrossEntropy(label_smoothing=0.1), cross_entropy(label_smoothing=0.1), LABELS),
    "CrossEntropy weighted": (
        nn.CrossEntropy(class_weight=WEIGHTS),
        cross_entropy(weight=torch.from_numpy(WEIGHTS)),
        LABELS,
    ),
    "CrossEntropy weighted, smoothed": (
        nn.CrossEntropy(class_weight=WEIGHTS, label_smoothing=0.2),
        cross_entropy(weight=torch.from_numpy(WEIGHTS), label_smoothing=0.2),
        LABELS,
    ),
    "CrossEntropy of rows": (nn.CrossEntropy(), cross_entropy(), ROWS),
    "CrossEntropy of rows, weighted, smoothed": (
        nn.CrossEntropy(class_weight=WEIGHTS, label_smoothing=0.2),
        cross_entropy(weight=torch.from_numpy(WEIGHTS), label_smoothing=0.2),
        ROWS,
    ),
    "BinaryCrossEntropy": (nn.BinaryCrossEntropy(), binary(), YES),
    "BinaryCrossEntropy of shares": (nn.BinaryCrossEntropy(), binary(), ROWS),
    "BinaryCrossEntropy weighted": (
        nn.BinaryCrossEntropy(class_weight=(1.0, 3.0)),
        lambda z, y: binary(pos_weight=torch.tensor(3.0))(z, y) * y.numel() / (1 + 2 * y).sum(),
        YES,
    ),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_loss(name, scale):
    loss, function, y = LOSSES[name]
    z = array(8, 5) * np.float32(scale)
    tensor = torch.from_numpy(z).requires_grad_()
    expected = function(tensor, torch.from_numpy(y))
    expected.backward()
    value = loss.forward(z, y)
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, expected.item(), rtol=1e-6)
    close(loss.backward(), tensor.grad)


def test_a_small_convolutional_network():
    """Images with empty borders, as digits are: ReLU at 0 and tied windows are met.

    The convolution before BatchNorm has no b: its gradient is 0, and all that would be compared is rounding.
    """
    layers = [nn.Conv2D(8, 3, padding="same", bias=False), nn.BatchNorm(), nn.ReLU(), nn.MaxPool2D()]
    layers += [nn.Conv2D(16, 3), nn.ReLU(), nn.Flatten(), nn.Dense(10)]
    T = torch.nn
    modules = [T.Conv2d(1, 8, 3, padding="same", bias=False), T.BatchNorm2d(8), T.ReLU(), T.MaxPool2d(2)]
    modules += [T.Conv2d(8, 16, 3), T.ReLU(), T.Flatten(), T.Linear(64, 10)]
    x = np.zeros((30, 1, 8, 8), np.float32)
    x[..., 2:6, 2:6] = np.abs(array(30, 1, 4, 4))
    y = RANDOM.integers(0, 10, 30)
    turned = {nn.Dense: dense_weights, nn.Conv2D: same_weights, nn.BatchNorm: norm_weights}

    def given(layer, module):
        weights = turned.get(type(layer), no_weights)(layer, module)
        return [weight for weight in weights if weight[1] is not None]

    shape = x.shape[1:]
    for layer, module in zip(layers, modules, strict=True):
        layer.build(shape, np.random.default_rng(0), np.float32)
        shape = layer.output_shape(shape)
        for own, tensor, turn in given(layer, module):
            layer.params[own] = turn(tensor.detach().numpy()).copy()
    expected = torch.nn.functional.cross_entropy(T.Sequential(*modules)(torch.from_numpy(x)), torch.from_numpy(y))
    expected.backward()
    out, loss = x, nn.CrossEntropy()
    for layer in layers:
        out = layer.forward(out, train=True)
    assert float(loss.forward(out, y)) == pytest.approx(expected.item(), rel=1e-6)
    dout = loss.backward()
    for layer, module in zip(layers[::-1], modules[::-1], strict=True):
        dout = layer.backward(dout)
        for own, tensor, turn in given(layer, module):
            close(layer.gradients[own], turn(tensor.grad))
