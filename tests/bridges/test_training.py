"""Fifty training steps beside PyTorch's: same weights, same batches, same optimizer; every loss to 1e-4, in float32."""

import numpy as np
import pytest
import torch

import koubai as kb
from koubai import nn

STEPS, SIZE = 50, 20


def dense():
    ours = [nn.Dense(32), nn.Sigmoid(), nn.Dense(16), nn.BatchNorm(), nn.ReLU(), nn.Dense(5)]
    theirs = torch.nn.Sequential(
        torch.nn.Linear(12, 32), torch.nn.Sigmoid(), torch.nn.Linear(32, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(),
        torch.nn.Linear(16, 5),
    )  # fmt: skip
    return ours, theirs, (12,)


def convolutional():
    ours = [
        nn.Conv2D(6, 3, padding=1), nn.BatchNorm(), nn.ReLU(), nn.MaxPool2D(2), nn.Conv2D(8, 3), nn.Tanh(),
        nn.Flatten(), nn.Dense(5),
    ]  # fmt: skip
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 3, padding=1), torch.nn.BatchNorm2d(6), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(6, 8, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(8 * 2 * 2, 5),
    )  # fmt: skip
    return ours, theirs, (1, 8, 8)


OPTIMIZERS = {
    "sgd": (kb.SGD(lr=0.1, momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
    "adam": (kb.Adam(lr=0.01), lambda p: torch.optim.Adam(p, lr=0.01)),
    "adamw": (kb.AdamW(lr=0.01, weight_decay=0.1), lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1)),
    "rmsprop": (kb.RMSprop(lr=0.003), lambda p: torch.optim.RMSprop(p, lr=0.003)),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("make", [dense, convolutional])
def test_fifty_steps_as_pytorch(make, optimizer):
    layers, theirs, shape = make()
    rng = np.random.default_rng(0)
    X = rng.normal(size=(STEPS * SIZE // 2, *shape)).astype(np.float32)
    y = rng.integers(0, 5, len(X))
    network = nn.Network(layers, nn.CrossEntropy(), seed=1).build(shape)
    modules = [module for module in theirs if list(module.parameters())]
    learning = [layer for layer in network.layers if layer.params]
    with torch.no_grad():
        for layer, module in zip(learning, modules, strict=True):
            for (name, ours), parameter in zip(layer.params.items(), module.parameters(), strict=True):
                parameter.copy_(
                    torch.from_numpy(ours.T.copy() if isinstance(layer, nn.Dense) and name == "W" else ours)
                )
    own, make_optimizer = OPTIMIZERS[optimizer]
    step = make_optimizer(theirs.parameters())
    expected = []
    for epoch in range(2):
        for xs, ys in nn.batches(X, y, size=SIZE, seed=1).epoch(epoch):
            step.zero_grad()
            loss = torch.nn.functional.cross_entropy(theirs(torch.from_numpy(xs)), torch.from_numpy(ys))
            loss.backward()
            step.step()
            expected.append(loss.item())
    run = network.fit(X, y, own, epochs=2, batch_size=SIZE)
    assert len(expected) == STEPS
    np.testing.assert_allclose(run.history.fun[:STEPS], expected, rtol=0, atol=1e-4)
    if optimizer == "sgd":  # the others blow the rounding of b before BatchNorm, which nothing depends on, up to steps
        theirs.eval()
        outputs = theirs(torch.from_numpy(X[:50])).detach().numpy()
        np.testing.assert_allclose(network.outputs(X[:50]), outputs, atol=1e-3)
