"""Functions that are neither in koubai's catalogue nor in ../shared/fits.py: name -> (f, start).

The constants of the search for learning rates were not fitted to single ones, but variants were compared on
all of them.
"""

import numpy as np

__all__ = ["UNSEEN"]


def trid(x):
    return np.sum((x - 1) ** 2) - np.sum(x[1:] * x[:-1])


def brown(x):
    a, b = x[:-1] ** 2, x[1:] ** 2
    return np.sum(a ** (b + 1) + b ** (a + 1))


def wood(x):
    valleys = 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2 + 90 * (x[3] - x[2] ** 2) ** 2 + (1 - x[2]) ** 2
    return valleys + 10.1 * ((x[1] - 1) ** 2 + (x[3] - 1) ** 2) + 19.8 * (x[1] - 1) * (x[3] - 1)


def long_rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def quadratic(scale, n, spread):
    curvatures = np.logspace(-spread, 0, n)
    Q = np.linalg.qr(np.random.default_rng(n).normal(size=(n, n)))[0]
    A = Q * curvatures @ Q.T
    return lambda x: 0.5 * scale * (x @ A @ x)


def logistic(n, d, ridge):
    rng = np.random.default_rng(n)
    X = rng.normal(size=(n, d)) * np.logspace(0, 1, d)
    s = np.sign(X @ rng.normal(size=d) + rng.normal(size=n))
    return lambda w: np.mean(np.logaddexp(0, -s * (X @ w))) + ridge * np.sum(w**2)


def huber(n, d):
    rng = np.random.default_rng(n + 1)
    X = np.column_stack([np.ones(n), rng.normal(size=(n, d)) * 3 + 5])
    y = X @ rng.normal(size=d + 1) + rng.standard_t(2, size=n)
    return lambda w: np.sum(np.sqrt(1 + (X @ w - y) ** 2) - 1)


def small_network(n, hidden):
    rng = np.random.default_rng(n + 2)
    X = rng.uniform(-2, 2, (n, 2))
    y = np.sin(2 * X[:, 0]) + X[:, 1] ** 2

    def loss(p):
        A, b = p[: 2 * hidden].reshape(2, hidden), p[2 * hidden : 3 * hidden]
        return np.mean((np.tanh(X @ A + b) @ p[3 * hidden : 4 * hidden] + p[-1] - y) ** 2)

    return loss, rng.normal(size=4 * hidden + 1) * 0.5


def barrier(x):
    return x[0] + 2 * x[1] - 0.1 * (np.log(x[0]) + np.log(x[1]) + np.log(4 - x[0] - x[1]))


def softplus_valley(x):
    return np.logaddexp(0, 5 * (x[0] - x[1])) + np.logaddexp(0, -5 * (x[0] - x[1])) + 0.01 * (x[0] + x[1] - 3) ** 2


def bananas(x):
    return np.log1p((1 - x[0]) ** 2 + 50 * (x[1] - x[0] ** 2) ** 2)


def poisson(n):
    rng = np.random.default_rng(n)
    t = np.linspace(0, 3, n)
    y = rng.poisson(np.exp(0.3 + 0.8 * t)) * 1.0
    return lambda b: np.sum(np.exp(b[0] + b[1] * t) - y * (b[0] + b[1] * t))


def factorization(p):
    U, V = p[:12].reshape(6, 2), p[12:].reshape(2, 4)
    M = np.outer(np.arange(6.0), [1.0, -1.0, 0.5, 2.0]) / 3 + np.outer(np.ones(6), [0.0, 1.0, 1.0, -1.0])
    return np.sum((U @ V - M) ** 2)


def ripples(x):
    return 0.1 * np.sum(x**2) + np.sum(np.cos(4 * x[:-1] + x[1:]))


def schaffer(x):
    r = x[0] ** 2 + x[1] ** 2
    return 0.5 + (np.sin(np.sqrt(r)) ** 2 - 0.5) / (1 + 0.001 * r) ** 2


def helix(x):
    theta = np.arctan2(x[1], x[0]) / (2 * np.pi)
    return 100 * (x[2] - 10 * theta) ** 2 + 100 * (np.sqrt(x[0] ** 2 + x[1] ** 2) - 1) ** 2 + x[2] ** 2


def mixture(n):
    rng = np.random.default_rng(n)
    d = np.concatenate([rng.normal(-1, 0.5, n), rng.normal(2, 1.0, n)])

    def nll(p):
        a = -0.5 * ((d - p[0]) / np.exp(p[2])) ** 2 - p[2]
        b = -0.5 * ((d - p[1]) / np.exp(p[3])) ** 2 - p[3]
        return -np.mean(np.logaddexp(a, b))

    return nll


def sines(n):
    t = np.linspace(0, 4, n)
    y = 1.5 * np.sin(2.2 * t + 0.4) + 0.1 * np.random.default_rng(n).normal(size=n)
    return lambda p: np.mean((p[0] * np.sin(p[1] * t + p[2]) - y) ** 2)


UNSEEN = {
    "trid": (trid, np.zeros(8)),
    "brown": (brown, np.tile([-1.0, 1.0], 3)),
    "wood": (wood, np.array([-3.0, -1.0, -3.0, -1.0])),
    "long rosenbrock": (long_rosenbrock, np.tile([-1.2, 1.0], 5)),
    "quadratic, 1e6": (quadratic(1e6, 20, 2), np.ones(20)),
    "quadratic, 1e-6": (quadratic(1e-6, 20, 2), np.ones(20)),
    "quadratic, 1e4 to 1": (quadratic(1.0, 30, 4), np.ones(30)),
    "logistic": (logistic(120, 6, 1e-3), np.zeros(6)),
    "pseudo-Huber": (huber(80, 3), np.zeros(4)),
    "small network": small_network(60, 6),
    "barrier": (barrier, np.array([1.0, 1.5])),
    "softplus valley": (softplus_valley, np.array([-1.0, 1.0])),
    "log of bananas": (bananas, np.array([-1.0, 2.0])),
    "poisson": (poisson(40), np.zeros(2)),
    "factorization": (factorization, np.random.default_rng(5).normal(size=20) * 0.5),
    "ripples": (ripples, np.array([2.0, -1.5, 1.0])),
    "schaffer": (schaffer, np.array([4.0, 3.0])),
    "helix": (helix, np.array([-1.0, 0.1, 0.0])),
    "mixture": (mixture(50), np.array([-0.5, 0.5, 0.0, 0.0])),
    "sines": (sines(50), np.array([1.0, 1.5, 0.0])),
}
