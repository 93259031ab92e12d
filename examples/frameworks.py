"""KERAS_BACKEND=torch python examples/frameworks.py: one fit, by optimizer name, in koubai, PyTorch and Keras."""

import importlib

import numpy as np

import koubai as kb

RATES = {"SGD": 0.1, "Adagrad": 0.5, "RMSprop": 0.05, "Adam": 0.1, "Adamax": 0.1}
X = np.random.default_rng(0).standard_normal((50, 3))
Y = X @ [1.0, -2.0, 0.5] + 2


def in_koubai(name, semantics):
    optimizer, data = getattr(kb, name)(RATES[name], semantics=semantics), kb.nn.batches(X, Y, 10, seed=None)
    return kb.fit(lambda w, x, y: np.mean((x @ w[:3] + w[3] - y) ** 2), np.zeros(4), data, optimizer, epochs=20).fun


def in_torch(torch, name):
    x, y, w = map(torch.tensor, (X, Y, np.zeros(4)))
    optimizer = getattr(torch.optim, name)([w.requires_grad_()], RATES[name])
    for rows in [*torch.arange(50).split(10)] * 20:
        (w.grad,) = torch.autograd.grad(torch.mean((x[rows] @ w[:3] + w[3] - y[rows]) ** 2), w)
        optimizer.step()
    return torch.mean((x @ w[:3] + w[3] - y) ** 2).item()


def in_keras(keras, name):
    model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="zeros", dtype="float64")])
    model.compile(getattr(keras.optimizers, name)(RATES[name]), "mse")
    model.fit(X, Y[:, None], 10, 20, verbose=0, shuffle=False)
    return model.evaluate(X, Y[:, None], verbose=0)


for package, train in (("torch", in_torch), ("keras", in_keras)):
    print("koubai:", *(f"{name} {in_koubai(name, package):.3e} " for name in RATES))
    try:
        print(f" {package}:", *(f"{name} {train(importlib.import_module(package), name):.3e} " for name in RATES))
    except ImportError as error:
        print(f" {package} is left out: {error}")
