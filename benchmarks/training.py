"""Training a network: koubai beside PyTorch (eager), JAX (jit, a scan over the epoch) and scikit-learn, in one run.

    python benchmarks/training.py [rounds]

Every contender trains the same network from the same weights on the same batches in the same order, float32, with two
threads (scikit-learn from its own weights, in its own order); the losses are compared before anything is timed. The
figure is the time of a step: gathering the batch, forward, loss, backward, update. koubai's also records the step, asks
the rules for stopping, and keeps the mean gradient of the epoch and the norms of the layers'; the row with
record='off' leaves out what JAX's scan does not do either. Tracing and compiling stand apart, in the note.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

from report import Row, about, headline, save, take_turns, use_two_cores

use_two_cores()

import numpy as np  # noqa: E402

import koubai as kb  # noqa: E402
from koubai import nn  # noqa: E402

EPOCHS = 16  # of one call: so many steps are a multiple of the 16 after which a training looks up
LR, MOMENTUM = 0.05, 0.9


def dense(*units: int, activation: type[nn.Layer]) -> list[nn.Layer]:
    layers = [part for n in units[:-1] for part in (nn.Dense(n), activation())]
    return [*layers, nn.Dense(units[-1])]


def convolutional() -> list[nn.Layer]:
    return [
        *(nn.Conv2D(8, 3, padding=1), nn.ReLU(), nn.MaxPool2D(2)),
        *(nn.Conv2D(16, 3, padding=1), nn.ReLU(), nn.MaxPool2D(2)),
        *(nn.Flatten(), nn.Dense(10)),
    ]


# -- the contenders: each returns a function that trains for EPOCHS epochs and returns the losses of its steps --------


class Koubai:
    def __init__(self, layers: list[nn.Layer], X: Any, y: Any, size: int, record: str) -> None:
        self.network = nn.Network(layers, nn.CrossEntropy(), seed=0).build(X.shape[1:])
        self.start = {name: value.copy() for name, value in self.network.params.items()}
        self.steps = EPOCHS * (len(X) // size)
        start = time.perf_counter()
        optimizer = kb.SGD(lr=LR, momentum=MOMENTUM)
        self.training = self.network.training(X, y, optimizer, epochs=10**9, batch_size=size, record=record)
        self.training.begin()
        losses = [self.training.descent.point.fun]
        self.first = time.perf_counter() - start
        self.goal = self.steps
        while self.training.last_step < self.goal:
            self.training.advance(many=False)
            losses.append(self.training.descent.point.fun)
        self.losses = losses[: self.steps]

    def __call__(self) -> list[float]:
        self.goal += self.steps
        while self.training.last_step < self.goal:
            self.training.advance(many=True)  # as `fit` asks for them
        return self.losses


def torch_eager(ours: Koubai, X: Any, y: Any, size: int) -> Callable[[], list[float]]:
    import torch

    torch.set_num_threads(2)
    modules: list[Any] = []
    for layer, shape in zip(ours.network.layers, [X.shape[1:], *ours.network.output_shapes], strict=False):
        weights = [torch.from_numpy(ours.start[f"{len(modules)}.{name}"]) for name in layer.params]
        if isinstance(layer, nn.Dense):
            module = torch.nn.Linear(shape[0], layer.units)
            weights[0] = weights[0].T
        elif isinstance(layer, nn.Conv2D):
            module = torch.nn.Conv2d(shape[0], layer.filters, layer.kernel, padding=layer.padding)
        else:
            module = {
                nn.Sigmoid: torch.nn.Sigmoid(), nn.ReLU: torch.nn.ReLU(), nn.MaxPool2D: torch.nn.MaxPool2d(2),
                nn.Flatten: torch.nn.Flatten(),
            }[type(layer)]  # fmt: skip
        with torch.no_grad():
            for parameter, value in zip(module.parameters(), weights, strict=True):
                parameter.copy_(value)
        modules.append(module)
    net = torch.nn.Sequential(*modules)
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM)
    criterion = torch.nn.CrossEntropyLoss()
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    order = epochs(len(X), size)

    def train() -> list[float]:
        losses = []
        for _ in range(EPOCHS):
            for rows in next(order):
                rows = torch.from_numpy(rows)
                optimizer.zero_grad()
                loss = criterion(net(X[rows]), y[rows])
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
        return [float(loss) for loss in losses]

    return train


def jax_scan(ours: Koubai, X: Any, y: Any, size: int) -> Callable[[], list[float]]:
    import jax
    import jax.numpy as jnp

    layers = ours.network.layers
    activation = {nn.Sigmoid: jax.nn.sigmoid, nn.ReLU: jax.nn.relu}
    params = {name: jnp.asarray(value) for name, value in ours.start.items()}
    data, labels = jnp.asarray(X), jnp.asarray(y)

    def loss(params: Any, x: Any, y: Any) -> Any:
        for i, layer in enumerate(layers):
            x = x @ params[f"{i}.W"] + params[f"{i}.b"] if layer.params else activation[type(layer)](x)
        return -jnp.mean(jax.nn.log_softmax(x)[jnp.arange(len(y)), y])

    def step(carry: Any, rows: Any) -> Any:
        params, velocity = carry
        value, g = jax.value_and_grad(loss)(params, data[rows], labels[rows])
        velocity = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocity, g)
        return (jax.tree.map(lambda p, v: p - LR * v, params, velocity), velocity), value

    epoch = jax.jit(lambda carry, rows: jax.lax.scan(step, carry, rows))
    state = [(params, jax.tree.map(jnp.zeros_like, params))]
    order = epochs(len(X), size)

    def train() -> list[float]:
        losses: list[float] = []
        for _ in range(EPOCHS):
            state[0], values = epoch(state[0], jnp.asarray(np.stack(list(next(order)))))
            losses += np.asarray(values).tolist()
        return losses

    return train


def scikit_learn(units: int, X: Any, y: Any, size: int) -> Callable[[], list[float]]:
    from sklearn.neural_network import MLPClassifier

    warnings.simplefilter("ignore")
    net = MLPClassifier(
        (units,), activation="logistic", solver="sgd", alpha=0.0, batch_size=size, learning_rate_init=LR,
        momentum=MOMENTUM, nesterovs_momentum=False, max_iter=EPOCHS, tol=0.0, n_iter_no_change=10**6, warm_start=True,
        random_state=0,
    )  # fmt: skip

    def train() -> list[float]:
        net.fit(X, y)
        return net.loss_curve_

    return train


def epochs(samples: int, size: int) -> Any:
    """Yield the rows of each batch, epoch by epoch, in koubai's order."""
    order = nn.batches(np.arange(samples), size=size, seed=0)
    k = 0
    while True:
        yield order.rows(k)
        k += 1


# -- the works --------------------------------------------------------------------------------------------------------


def products(ours: Koubai, size: int) -> Callable[[], None]:
    """Return the matrix products of EPOCHS epochs of a dense network alone, the least that any contender must do."""
    shapes = [layer.params["W"].shape for layer in ours.network.layers if layer.params]
    rng = np.random.default_rng(0)
    calls = []
    for i, (n, m) in enumerate(shapes):
        x, w, d = (rng.random(shape, np.float32) for shape in ((size, n), (n, m), (size, m)))
        calls += [(x, w, np.empty((size, m), np.float32)), (x.T, d, np.empty((n, m), np.float32))]
        if i:
            calls.append((d, w.T, np.empty((size, n), np.float32)))

    def multiply() -> None:
        for _ in range(ours.steps):
            for a, b, out in calls:
                np.matmul(a, b, out)

    return multiply


def compare(
    work: str,
    layers: list[nn.Layer],
    X: Any,
    y: Any,
    size: int,
    peers: dict[str, float],
    rounds: int,
    record: str = "auto",
) -> list[Row]:
    """Return a row a peer. peers: whom to be measured beside, and how many times as fast koubai has to be."""
    X, y = X[: len(X) // size * size], y[: len(X) // size * size]
    ours = Koubai(layers, X, y, size, record)
    make = {
        "torch eager": lambda: torch_eager(ours, X, y, size),
        "jax scan": lambda: jax_scan(ours, X, y, size),
        "scikit-learn": lambda: scikit_learn(layers[0].units, X, y, size),
    }
    calls: dict[str, Callable[[], Any]] = {"koubai": ours}
    for peer in peers:
        calls[peer] = make[peer]()
    losses = {who: call() for who, call in calls.items()}
    for peer in peers:
        if peer != "scikit-learn" and not np.allclose(losses[peer], losses["koubai"], atol=2e-3):
            raise SystemExit(f"{work}: {peer} and koubai disagree: {losses[peer][-1]} and {losses['koubai'][-1]}")
    if not any(isinstance(layer, nn.Conv2D) for layer in layers):
        calls["products alone"] = products(ours, size)
    taken = take_turns(calls, rounds, burst=0.2)
    steps = {who: [value / ours.steps for value in values] for who, values in taken.items()}
    table = f"training, batch {size}, a step"
    rows = []
    for peer, least in peers.items():
        shown = {who: steps[who] for who in ("koubai", peer, "products alone") if who in steps}
        note = f"first step with tracing and compiling {ours.first * 1e3:.0f} ms"
        rows.append(Row.of(table, work, shown, [peer], least, note))
        print(rows[-1])
    return rows


def whole(rounds: int) -> list[Row]:
    """Return the rows of a whole `network.fit`, the second one of its shape: data checked, weights made, every epoch
    recorded, the loss over all the data at the end. The peers' networks and programs are there already.
    """
    X, y = nn.digits()
    X, y, size = X[: len(X) // 100 * 100], y[: len(X) // 100 * 100], 100
    ours = Koubai(dense(100, 10, activation=nn.Sigmoid), X, y, size, "auto")
    peers = {"torch eager": torch_eager(ours, X, y, size), "jax scan": jax_scan(ours, X, y, size)}
    times = []

    def fit() -> None:
        network = nn.Network(dense(100, 10, activation=nn.Sigmoid), nn.CrossEntropy(), seed=0)
        network.fit(X, y, kb.SGD(lr=LR, momentum=MOMENTUM), epochs=EPOCHS, batch_size=size)

    for _ in range(2):
        start = time.perf_counter()
        fit()
        times.append(time.perf_counter() - start)
    taken = take_turns({"koubai": fit} | peers, rounds, burst=0.2)
    rows = []
    for peer, least in {"torch eager": 3.0, "jax scan": 0.9}.items():
        shown = {who: taken[who] for who in ("koubai", peer)}
        note = f"the first of its shape {(times[0] - times[1]) * 1e3:.0f} ms more"
        rows.append(Row.of(f"a whole fit of {EPOCHS} epochs", "digits 64-100-10, sigmoid", shown, [peer], least, note))
        print(rows[-1])
    return rows


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    where = about()
    print(headline(where))
    rng = np.random.default_rng(0)
    X, y = nn.digits()
    rows = compare(
        "digits 64-100-10, sigmoid", dense(100, 10, activation=nn.Sigmoid), X, y, 100,
        {"torch eager": 3.0, "scikit-learn": 3.0, "jax scan": 1.0}, rounds,
    )  # fmt: skip
    blobs = rng.integers(0, 10, 2560)
    centres = rng.random((10, 784), np.float32)
    images = (0.5 * centres[blobs] + 0.5 * rng.random((2560, 784), np.float32)).astype(np.float32)
    rows += compare(
        "784-256-128-10, ReLU", dense(256, 128, 10, activation=nn.ReLU), images, blobs, 128,
        {"torch eager": 1.0, "jax scan": 1.0}, rounds,
    )  # fmt: skip
    rows += compare(
        "784-256-128-10, record='off'", dense(256, 128, 10, activation=nn.ReLU), images, blobs, 128,
        {"jax scan": 1.0}, rounds, "off",
    )  # fmt: skip
    X, y = nn.digits(images=True)
    rows += compare("digits, convolutional 8-16", convolutional(), X, y, 32, {"torch eager": 0.7}, rounds)
    rows += whole(rounds)
    save("training", where, rows)


if __name__ == "__main__":
    main()
