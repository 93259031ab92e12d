"""Descents whose fault is known, made at random from a seed: what `koubai.diagnose` has to say of each.

A label is the code, or the codes between which nobody could choose. ``python -m support.labelled [seed …]`` from tests/
prints the table of what was said of what.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import koubai as kb


@dataclass(frozen=True)
class Labelled:
    """A descent: its name, the codes that are right, and the call that makes it."""

    name: str
    codes: tuple[str, ...]
    make: Callable[[], Any]

    def run(self) -> Any:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return self.make()


def quadratic(random: np.random.Generator, n: int, low: float, high: float) -> tuple[Any, Any, float, float]:
    """Return f, its minimum and the extreme eigenvalues of its Hessian, between low and high."""
    q, _ = np.linalg.qr(random.normal(size=(n, n)))
    values = np.exp(random.uniform(np.log(low), np.log(high), n))
    values[0], values[-1] = low, high
    A, centre = (q * values) @ q.T, random.normal(size=n)
    A = (A + A.T) / 2

    def f(x):
        return 0.5 * (x - centre) @ A @ (x - centre)

    return f, centre, low, high


def log_cosh(random: np.random.Generator, n: int) -> tuple[Any, float]:
    """Return Σ a log cosh(x - c), whose steps stay bounded, and its largest curvature."""
    a, c = np.exp(random.uniform(-1, 1, n)), random.normal(size=n)
    return (lambda x: np.sum(a * (np.abs(x - c) + np.log1p(np.exp(-2 * np.abs(x - c)))))), float(a.max())


def valleys(random: np.random.Generator) -> Any:
    """Return a function of one variable with two valleys, the right one lower, and where they are."""
    tilt = random.uniform(0.15, 0.6)
    return lambda x: x**4 - 3 * x**2 - tilt * x


def each(seed: int) -> Iterator[Labelled]:
    """Yield about 190 labelled descents, at least 10 a code."""
    random = np.random.default_rng(seed)
    uniform = random.uniform
    rules: list[tuple[str, Callable[[float], Any], float]] = [
        ("sgd", lambda lr: kb.SGD(lr=lr), 2.0),
        ("momentum", lambda lr: kb.Momentum(lr=lr, momentum=0.9), 3.8),
        ("nesterov", lambda lr: kb.Nesterov(lr=lr, momentum=0.5), 2 * 1.5 / 2.0),
    ]

    def minimize(f, x0, optimizer, **options):
        return lambda: kb.minimize(f, x0, optimizer, **options)

    # the rate is too large
    for i in range(6):
        f, c, _, L = quadratic(random, int(random.integers(1, 12)), 0.5, np.exp(uniform(0.5, 4)))
        name, rule, bound = rules[i % 3]
        lr = bound / L * uniform(1.2, 8)
        yield Labelled(
            f"{name} beyond its bound",
            ("lr_too_large",),
            minimize(f, c + random.normal(size=len(c)), rule(lr), max_steps=int(uniform(30, 400))),
        )
    for _ in range(6):
        n = int(random.integers(1, 6))
        f, L = log_cosh(random, n)
        yield Labelled(
            "to and fro, bounded",
            ("lr_too_large",),
            minimize(
                f, random.normal(size=n) * 3, kb.SGD(lr=2.0 / L * uniform(1.3, 5)), max_steps=int(uniform(60, 500))
            ),
        )
    for name in ("rosenbrock", "himmelblau", "beale", "booth"):
        p = kb.problems[name]
        yield Labelled(
            f"{name} with a wild rate",
            ("lr_too_large",),
            minimize(p.f, p.x0, kb.SGD(lr=uniform(0.1, 2.0) if name != "booth" else uniform(0.3, 1)), max_steps=300),
        )
    for _ in range(2):
        f, c, _, L = quadratic(random, 4, 1.0, 30.0)
        yield Labelled(
            "adam with a huge rate",
            ("lr_too_large",),
            minimize(f, c + random.normal(size=4), kb.Adam(lr=uniform(20, 200)), max_steps=100),
        )

    # too small
    for i in range(7):
        f, c, _, L = quadratic(random, int(random.integers(1, 12)), 0.5, np.exp(uniform(0.0, 3)))
        name, rule, bound = rules[i % 3]
        yield Labelled(
            f"{name} far below its bound",
            ("lr_too_small",),
            minimize(
                f,
                c + random.normal(size=len(c)) * 3,
                rule(bound / L * 10 ** uniform(-6, -3)),
                max_steps=int(uniform(50, 300)),
            ),
        )
    for name, lr in (("himmelblau", 1e-6), ("booth", 1e-5), ("sphere", 1e-10), ("beale", 1e-6), ("branin", 1e-6)):
        p = kb.problems[name]
        yield Labelled(
            f"{name} with a tiny rate",
            ("lr_too_small",),
            minimize(p.f, p.x0, kb.SGD(lr=lr * uniform(0.2, 2)), max_steps=int(uniform(60, 400))),
        )
    for rule in (kb.Adam, kb.RMSprop, kb.Adagrad, kb.AdamW):
        f, c, _, L = quadratic(random, 3, 1.0, 8.0)
        yield Labelled(
            f"{rule.__name__} with a tiny rate",
            ("lr_too_small",),
            minimize(f, c + 3 + random.normal(size=3), rule(lr=uniform(1e-6, 1e-4)), max_steps=int(uniform(60, 300))),
        )

    # badly conditioned
    for _ in range(8):
        kappa = 10 ** uniform(3, 5.5)
        f, c, _, L = quadratic(random, int(random.integers(2, 14)), 1.0, kappa)
        lr = uniform(0.5, 0.95) * 2 / L
        yield Labelled(
            "a long valley",
            ("ill_conditioned",),
            minimize(f, c + random.normal(size=len(c)), kb.SGD(lr=lr), max_steps=int(uniform(100, 500))),
        )
    for _ in range(2):
        p = kb.problems["rosenbrock"]
        yield Labelled(
            "rosenbrock",
            ("ill_conditioned",),
            minimize(p.f, p.x0, kb.SGD(lr=uniform(6e-4, 1.5e-3)), max_steps=int(uniform(300, 1500))),
        )
    for _ in range(3):
        X = np.column_stack([np.ones(60), uniform(20, 120, (60, 2))])
        y = X @ random.normal(size=3) + 0.1 * random.normal(size=60)
        L = np.linalg.eigvalsh(2 * X.T @ X / 60)[-1]
        yield Labelled(
            "a regression, not scaled",
            ("ill_conditioned",),
            minimize(
                lambda w, X=X, y=y: np.mean((X @ w - y) ** 2),
                np.zeros(3),
                kb.SGD(lr=uniform(0.3, 0.9) * 2 / L),
                max_steps=int(uniform(200, 1000)),
            ),
        )

    # flat, though unsolved
    for _ in range(4):
        w, c = uniform(0.5, 1.5), random.normal(size=2)
        yield Labelled(
            "far out on a bell",
            ("plateau",),
            minimize(
                lambda x, w=w, c=c: -np.exp(-np.sum((x - c) ** 2) / w),
                c + uniform(5, 7) * np.array([0.8, 0.6]),
                kb.SGD(lr=uniform(0.05, 0.5)),
                max_steps=200,
            ),
        )
    for _ in range(3):
        s = uniform(1, 3)
        yield Labelled(
            "a saturated sigmoid",
            ("plateau",),
            minimize(
                lambda x, s=s: (1 / (1 + np.exp(-s * x[0])) - 0.2) ** 2 + x[1] ** 2,
                [uniform(9, 14) / s * 1.5, 1.0],
                kb.SGD(lr=uniform(0.2, 0.8)),
                max_steps=int(uniform(100, 400)),
            ),
        )
    for _ in range(2):
        p = kb.problems["plateau"]
        yield Labelled(
            "the catalogue's plateau",
            ("plateau",),
            minimize(p.f, [uniform(-14, -9), 1.0], kb.SGD(lr=0.5), max_steps=300),
        )
    for _ in range(2):
        yield Labelled(
            "easom from afar",
            ("plateau",),
            minimize(kb.problems["easom"].f, random.uniform(-4, -2, 2), kb.SGD(lr=0.1), max_steps=100),
        )

    # saddles and maxima
    for _ in range(4):
        a, b = uniform(0.5, 3), uniform(0.2, 2)
        yield Labelled(
            "along the ridge to a saddle",
            ("saddle",),
            minimize(
                lambda x, a=a, b=b: a * x[0] ** 2 - b * x[1] ** 2 + 0.1 * x[1] ** 4,
                [uniform(1, 3), 0.0],
                kb.SGD(lr=0.1),
                max_steps=1000,
            ),
        )
    for optimizer in (kb.LBFGS(), kb.Adam(lr=0.05), kb.GradientDescent()):
        yield Labelled(
            "another way to a saddle",
            ("saddle",),
            minimize(lambda x: (x[0] - 1) ** 2 + (x[1] ** 2 - 1) ** 2 / 4, [uniform(-2, 0), 0.0], optimizer),
        )
    for _ in range(3):
        c = random.normal(size=2)
        yield Labelled(
            "at a maximum",
            ("saddle",),
            minimize(lambda x, c=c: np.cos(x[0] - c[0]) + np.cos(x[1] - c[1]), c, kb.SGD(lr=0.1)),
        )

    # a lower minimum elsewhere
    for _ in range(4):
        f = valleys(random)
        yield Labelled(
            "the wrong one of two valleys", ("local_minimum",), minimize(f, uniform(-2.0, -0.8), kb.SGD(lr=0.02))
        )
    for name, start in (
        ("six_hump_camel", [-1.7, 0.7]),
        ("rastrigin", None),
        ("styblinski_tang", None),
        ("double_well", 1.5),
        ("levy", None),
        ("mccormick", [3.0, 3.4]),
    ):
        p = kb.problems[name]
        yield Labelled(
            f"{name} by L-BFGS",
            ("local_minimum",),
            minimize(p.f, p.x0 if start is None else start, kb.SGD(lr=0.002) if name in ("rastrigin",) else "lbfgs"),
        )

    # noise
    for i in range(5):
        rng, sigma = np.random.default_rng(seed + i), 10 ** uniform(-4, -2)
        yield Labelled(
            "a random f",
            ("noisy_gradient",),
            minimize(
                lambda x, rng=rng, sigma=sigma: np.sum((x - 1) ** 2) + sigma * rng.normal(),
                random.normal(size=2) * 3,
                kb.SGD(lr=0.1),
                grad="central",
                max_steps=int(uniform(50, 300)),
            ),
        )
    for _ in range(5):
        sigma = 10 ** uniform(-4, -3)
        yield Labelled(
            "a rough f",
            ("noisy_gradient",),
            minimize(
                lambda x, sigma=sigma: np.sum((x - 1) ** 2) + sigma * np.sin(1e7 * np.sum(x)),
                random.normal(size=2) * 3,
                kb.SGD(lr=0.1),
                grad="central",
                max_steps=int(uniform(50, 300)),
            ),
        )
    for i in range(4):
        n = int(uniform(60, 200))
        X = random.normal(size=(n, 2))
        y = X @ [1.0, -2.0] + uniform(0.5, 1.5) * random.normal(size=n)
        yield Labelled(
            "mini-batches at a constant rate",
            ("noisy_gradient",),
            minimize(
                lambda w, X, y: np.mean((X @ w - y) ** 2),
                np.zeros(2),
                kb.SGD(lr=uniform(0.1, 0.3)),
                batches=kb.nn.batches(X, y, size=2, seed=i),
                max_steps=n * 30,
            ),
        )

    for i in range(3):
        X, y = random.normal(size=(120, 3)), random.normal(size=120) + 1
        yield Labelled(
            "a fit at a constant rate",
            ("noisy_gradient", "lr_too_large") if i % 3 == 1 else ("noisy_gradient",),
            lambda X=X, y=y, i=i: kb.fit(
                lambda w, X, y: np.mean((X @ w[:3] + w[3] - y) ** 2),
                np.zeros(4),
                (X, y),
                [kb.SGD(lr=0.2), kb.Momentum(lr=0.05), kb.Adam(lr=0.3)][i % 3],
                epochs=30,
                batch_size=2,
            ),
        )

    # trainings of networks
    nn = kb.nn
    for i in range(10):
        X, y = [nn.blobs, nn.moons][i % 2](200, seed=int(random.integers(100)))
        activation, init = [(nn.Sigmoid, "xavier"), (nn.Sigmoid, "xavier"), (nn.Tanh, "normal")][i % 3]
        net = nn.Network(
            [part for _ in range(int(uniform(10, 14))) for part in (nn.Dense(6, init=init), activation())]
            + [nn.Dense(len(np.unique(y)))],
            nn.CrossEntropy(),
            seed=i,
        )
        yield Labelled(
            "deep, and saturated or tiny",
            ("vanishing_gradient",),
            lambda n=net, X=X, y=y: n.fit(X, y, kb.SGD(lr=0.1), epochs=6),
        )
    for i in range(10):
        X, y = [nn.blobs, nn.moons][i % 2](200, seed=int(random.integers(100)))
        hidden = [nn.Dense(16), nn.ReLU()] if i % 3 else [nn.Dense(12), nn.ReLU(), nn.Dense(16), nn.ReLU()]
        net = nn.Network([*hidden, nn.Dense(len(np.unique(y)))], nn.CrossEntropy(), seed=i).build(X.shape[1:])
        net.params = {f"{len(hidden) - 2}.b": np.full(16, -uniform(30, 100))}
        yield Labelled("dead units", ("dead_relu",), lambda n=net, X=X, y=y: n.fit(X, y, kb.SGD(lr=0.05), epochs=6))
    for i in range(10):
        X = random.normal(size=(40, 20))
        y = (X[:, 0] + 1.5 * random.normal(size=40) > 0).astype(int)
        net = nn.Network([nn.Dense([64, 96][i % 2]), nn.ReLU(), nn.Dense(2)], nn.CrossEntropy(), seed=i)
        yield Labelled(
            "by heart",
            ("overfitting",),
            lambda n=net, X=X, y=y: n.fit(X, y, kb.Adam(lr=0.01), epochs=60, batch_size=8, validation=0.5),
        )
    for i in range(4):
        X, y = nn.blobs(200, seed=int(random.integers(100)))
        net = nn.Network([nn.Dense(16), nn.Tanh(), nn.Dense(len(np.unique(y)))], nn.CrossEntropy(), seed=i)
        yield Labelled(
            "a network with a wild rate",
            ("lr_too_large",),
            lambda n=net, X=X, y=y: n.fit(100 * X, y, kb.SGD(lr=uniform(50, 500)), epochs=6),
        )
    for i in range(4):
        X, y = nn.blobs(200, seed=int(random.integers(100)))
        net = nn.Network([nn.Dense(16), nn.Tanh(), nn.Dense(len(np.unique(y)))], nn.CrossEntropy(), seed=i)
        yield Labelled(
            "a network with a tiny rate",
            ("lr_too_small",),
            lambda n=net, X=X, y=y, i=i: n.fit(X, y, [kb.SGD(lr=1e-5), kb.Adam(lr=1e-6)][i % 2], epochs=6),
        )

    # a wrong gradient
    for i in range(11):
        n = int(random.integers(2, 8))
        f, c, _mu, L = quadratic(random, n, 1.0, 10.0)
        exact, k = kb.grad(f), int(random.integers(n))
        spoil = [lambda g, k: g[k] * 1.1, lambda g, k: -g[k], lambda g, k: g[k] + 0.3, lambda g, k: 0.0][i % 4]

        def wrong(x, exact=exact, k=k, spoil=spoil):
            g = np.array(exact(x))
            g[k] = spoil(g, k)
            return g

        yield Labelled(
            "one component is wrong",
            ("wrong_gradient",),
            minimize(f, c + random.normal(size=n), kb.SGD(lr=1 / L), grad=wrong, max_steps=200),
        )

    # not finite
    for _ in range(4):
        a = uniform(0.5, 2)
        yield Labelled(
            "a logarithm's end",
            ("nonfinite",),
            minimize(
                lambda x, a=a: np.sum(a * x) + np.log(np.prod(x)),
                np.array([uniform(0.2, 0.6), 2.0]),
                kb.SGD(lr=uniform(0.05, 0.2)),
                max_steps=500,
            ),
        )
    for _ in range(3):
        yield Labelled(
            "a root's end",
            ("nonfinite",),
            minimize(
                lambda x: np.sqrt(x[0]) + x[1] ** 2,
                [uniform(0.5, 2), 1.0],
                kb.SGD(lr=uniform(0.05, 0.3)),
                max_steps=500,
            ),
        )
    for _ in range(3):
        yield Labelled(
            "an inverse sine",
            ("nonfinite",),
            minimize(lambda x: np.arcsin(x) - x, uniform(-0.9, -0.6), kb.SGD(lr=uniform(0.5, 1.0)), max_steps=500),
        )

    # lost in rounding
    for i in range(10):
        big = 10 ** uniform(7, 9)
        yield Labelled(
            "a large constant",
            ("noise_floor", "converged") if i % 3 == 1 else ("noise_floor",),
            minimize(
                lambda x, big=big: big + np.sum((x - 1) ** 2),
                random.normal(size=2),
                kb.SGD(lr=0.1),
                grad=["central", "adaptive", "forward"][i % 3],
                max_steps=2000,
            ),
        )

    # kinks
    for _ in range(4):
        c = random.normal(size=2)
        yield Labelled(
            "absolute values",
            ("kink",),
            minimize(
                lambda x, c=c: np.sum(np.abs(x - c) * [1.0, 2.0]),
                c + random.normal(size=2) * 2,
                kb.SGD(lr=uniform(0.01, 0.1)),
                max_steps=int(uniform(200, 600)),
            ),
        )
    for _ in range(4):
        a = uniform(1, 4)
        yield Labelled(
            "a maximum of two",
            ("kink",),
            minimize(
                lambda x, a=a: np.maximum(a * (x - 1), 2 - 2 * x) + 0.05 * x**2,
                uniform(-3, 3),
                kb.SGD(lr=uniform(0.01, 0.05)),
                max_steps=600,
            ),
        )
    for i in range(3):
        X, y = random.normal(size=(31, 2)), random.normal(size=31)
        yield Labelled(
            "least absolute deviations",
            ("kink",),
            minimize(
                lambda w, X=X, y=y: np.mean(np.abs(X @ w - y)),
                random.normal(size=2) * 2,
                [kb.SGD(lr=0.2), kb.Momentum(lr=0.1)][i % 2],
                max_steps=600,
            ),
        )

    # without end
    for _ in range(4):
        a = random.normal(size=3)
        yield Labelled(
            "a plane",
            ("unbounded",),
            minimize(lambda x, a=a: a @ x, random.normal(size=3), kb.SGD(lr=10 ** uniform(7, 9)), max_steps=2000),
        )
    for _ in range(4):
        yield Labelled(
            "a saddle, left",
            ("unbounded",),
            minimize(
                lambda x: x[0] ** 2 - x[1] ** 2, random.normal(size=2), kb.SGD(lr=uniform(0.05, 0.3)), max_steps=2000
            ),
        )
    for i in range(2):
        yield Labelled(
            "the monkey saddle",
            ("unbounded",),
            minimize(
                kb.problems["monkey_saddle"].f, [1.0, uniform(0.1, 0.5)], ["lbfgs", kb.SGD(lr=0.05)][i], max_steps=2000
            ),
        )
    for i in range(4):
        a, b = uniform(0.5, 2, 2)
        fall = [
            lambda x, a=a, b=b: a * x[0] + b * x[1],
            lambda x, a=a, b=b: np.maximum(a * x[0], b * x[1]),
            lambda x, a=a, b=b: a * x[0] + b * x[1] ** 2,
            lambda x, a=a, b=b: a * x[0] + b * np.abs(x[1]),
        ][i]
        yield Labelled(
            "falls on at a steady pace",
            ("unbounded",),
            minimize(fall, random.normal(size=2) + 2, kb.SGD(lr=uniform(0.05, 0.4)), max_steps=int(uniform(60, 300))),
        )


def healthy(seed: int) -> Iterator[Labelled]:
    """Yield about 150 descents that nothing is wrong with."""
    random = np.random.default_rng(seed)
    uniform, fine = random.uniform, ("converged", "unfinished")
    for i in range(60):
        n = int(random.integers(1, 15))
        f, c, _mu, L = quadratic(random, n, 1.0, np.exp(uniform(0.1, 3)))
        optimizer = [
            kb.SGD(lr=uniform(0.3, 1.5) / L),
            kb.Momentum(lr=0.5 / L),
            kb.LBFGS(),
            kb.Adam(lr=uniform(0.01, 0.1)),
            kb.Nesterov(lr=0.5 / L),
            "auto",
        ][i % 6]
        yield Labelled(f"quadratic {i}", fine, partial(kb.minimize, f, c + random.normal(size=n), optimizer))
    for name in (
        "parabola",
        "sphere",
        "shifted_bowl",
        "elongated_bowl",
        "matyas",
        "booth",
        "rosenbrock",
        "beale",
        "himmelblau",
        "zakharov",
        "branin",
    ):
        p = kb.problems[name]
        for optimizer in ("auto", "lbfgs", kb.ConjugateGradient(), kb.BarzilaiBorwein()):
            yield Labelled(
                f"{name} by {optimizer}",
                fine,
                partial(kb.minimize, p.f, p.x0 + 0.1 * random.normal(size=np.shape(p.x0)), optimizer),
            )
    for i in range(20):
        X = random.normal(size=(80, 3))
        y = X @ random.normal(size=3) + 0.1 * random.normal(size=80)
        optimizer = ["auto", kb.SGD(lr=0.1), kb.Adam(lr=0.05), kb.LevenbergMarquardt()][i % 4]
        yield Labelled(
            "a regression",
            fine,
            lambda X=X, y=y, o=optimizer: kb.minimize(lambda w: np.mean((X @ w - y) ** 2), np.zeros(3), o),
        )
    for i in range(20):
        X = random.normal(size=(80, 2))
        y = (X @ [1.0, -1.0] + random.normal(size=80) > 0) * 1.0
        yield Labelled(
            "logistic",
            fine,
            lambda X=X, y=y, i=i: kb.minimize(
                lambda w: np.mean(np.logaddexp(0, X @ w) - y * (X @ w)) + 0.01 * w @ w,
                np.zeros(2),
                ["auto", kb.SGD(lr=2.0), kb.Adam(lr=0.1), kb.RMSprop(lr=kb.schedules.cosine(0.05, 2000))][i % 4],
            ),
        )
    for _ in range(4):
        yield Labelled(
            "from far away",
            ("unfinished",),
            partial(
                kb.minimize, lambda x: x[0] ** 2 / 20 + x[1] ** 2, [10 ** uniform(10, 13), 1.0],
                kb.SGD(lr=uniform(0.6, 0.9)), max_steps=int(uniform(60, 120)),
            ),
        )  # fmt: skip


def healthy_trainings(seed: int) -> Iterator[Labelled]:
    """Yield 24 trainings that nothing is wrong with."""
    random, nn, fine = np.random.default_rng(seed), kb.nn, ("converged", "unfinished")
    for i in range(24):
        data = [nn.blobs, nn.spirals, nn.moons, nn.circles][i % 4] if hasattr(nn, "moons") else nn.blobs
        X, y = data(240, seed=int(random.integers(100)))
        net = nn.Network(
            [nn.Dense(16), [nn.Tanh(), nn.ReLU(), nn.Sigmoid()][i % 3], nn.Dense(len(np.unique(y)))],
            nn.CrossEntropy(),
            seed=i,
        )
        optimizer = [kb.SGD(lr=0.1, momentum=0.9), kb.Adam(lr=0.01), "adam", kb.RMSprop(lr=0.005)][i % 4]
        yield Labelled(
            f"training {i}",
            fine,
            lambda n=net, X=X, y=y, o=optimizer, i=i: n.fit(X, y, o, epochs=20, validation=0.25 if i % 2 else None),
        )


def table(found: list[tuple[Labelled, str]]) -> str:
    """Return what was said of what, as text."""
    counts = Counter((labelled.codes[0], code) for labelled, code in found)
    rows = sorted({right for right, _ in counts})
    columns = sorted({said for _, said in counts})
    width = max(map(len, rows), default=0)
    lines = [" " * width + "  " + "  ".join(columns)]
    lines += [f"{row:>{width}}  " + "  ".join(f"{counts[row, c] or '':>{len(c)}}" for c in columns) for row in rows]
    right = sum(code in labelled.codes for labelled, code in found)
    return "\n".join([*lines, f"{right} of {len(found)} right, {right / max(1, len(found)):.1%}"])


def diagnosed(labelled: Labelled) -> str:
    run = labelled.run()
    return run.diagnose().code


def main() -> None:
    verbose = "-v" in sys.argv
    seeds = [int(a) for a in sys.argv[1:] if a != "-v"] or [0]
    for kind in (each, healthy, healthy_trainings):
        found = []
        for seed in seeds:
            for labelled in kind(seed):
                code = diagnosed(labelled)
                found.append((labelled, code))
                if verbose and code not in labelled.codes:
                    print(f"seed {seed}: {labelled.name}: {code}, not {labelled.codes}", flush=True)
        print(table(found))


if __name__ == "__main__":
    main()
