"""Mission row O11: one experiment, the optimizer picked by name, the list of losses; here as PyTorch runs it.

    python tests/reference/losses.py      writes losses.json; needs torch

A linear fit y = w·x + 2 by mean squared error, mini-batches of 10 in a fixed order, 20 epochs; the loss of an epoch is
the mean over its samples, each by the parameters that its batch met.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

STORED = Path(__file__).with_name("losses.json")
EPOCHS, SIZE = 20, 10
SETTINGS = {
    "sgd": {"lr": 0.1},
    "momentum": {"lr": 0.1, "momentum": 0.9},
    "adadelta": {"rho": 0.95, "eps": 1e-4},
    "adagrad": {},
    "adam": {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-9},
    "rmsprop": {},
}


def data(dtype):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((55, 3))  # the last batch is a short one
    return x.astype(dtype), (x @ np.array([1.0, -2.0, 0.5]) + 2).astype(dtype)


def by_torch(name, dtype):
    import torch

    x, y = (torch.from_numpy(a) for a in data(dtype))
    w, b = torch.zeros(3, dtype=x.dtype, requires_grad=True), torch.zeros((), dtype=x.dtype, requires_grad=True)
    settings = dict(SETTINGS[name])
    if "beta1" in settings:
        settings["betas"] = (settings.pop("beta1"), settings.pop("beta2"))
    names = {"sgd": "SGD", "momentum": "SGD", "rmsprop": "RMSprop"}
    optimizer = getattr(torch.optim, names.get(name, name.capitalize()))([w, b], **settings)
    losses = []
    for _ in range(EPOCHS):
        total = 0.0
        for start in range(0, len(x), SIZE):
            rows = slice(start, start + SIZE)
            optimizer.zero_grad()
            loss = torch.mean((x[rows] @ w + b - y[rows]) ** 2)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x[rows])
        losses.append(total / len(x))
    return losses


if __name__ == "__main__":
    found = {dtype: {name: by_torch(name, dtype) for name in SETTINGS} for dtype in ("float64", "float32")}
    STORED.write_text(json.dumps(found, indent=1) + "\n")
