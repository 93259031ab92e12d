"""Functions that put the check of a derivative to the test: what backpropagation loses, and what only looks like it.

python tests/support/doubtful.py 10000     so many points beside the minima of `CANCELLING`, and Hessians at minima
"""

from __future__ import annotations

import ast
import io
import itertools
import json
import math
import sys
import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np

import koubai as kb

X = np.array([1.3, -0.7])
FINE, COARSE = np.linspace(-5, 5, 100001), np.linspace(-5, 5, 10001)
SINES = np.sin(FINE)


def bisected(tolerance):
    """The cube root of x[0], squared: by branches alone."""

    def f(x):
        low, high = 0.0, 10.0
        while high - low > tolerance:
            middle = (low + high) / 2
            if middle**3 > x[0]:
                high = middle
            else:
                low = middle
        return ((low + high) / 2) ** 2

    return f


def halved(times):
    def f(x):
        low, high = 0.0, 10.0
        for _ in range(times):
            middle = (low + high) / 2
            if middle**3 > x[0]:
                high = middle
            else:
                low = middle
        return low**2

    return f


def golden(tolerance):
    """The square of the place nearest to x[0], found by golden sections."""

    def f(x):
        share = (math.sqrt(5) - 1) / 2
        low, high = -4.0, 4.0
        while high - low > tolerance:
            left, right = high - share * (high - low), low + share * (high - low)
            if (left - x[0]) ** 2 < (right - x[0]) ** 2:
                high = right
            else:
                low = left
        return ((low + high) / 2) ** 2

    return f


def climbed(x):
    k = 0
    while k * 1e-3 < x[0]:
        k += 1
    return (k * 1e-3) ** 2


def squares(x):
    return np.sum(x**2)


def first_square(x):
    return x[0] ** 2


def root(x):
    return x[0] ** (2 / 3)


# name: (f, what it follows in steps or behind a text, the width of its steps)
LOST = {
    "searchsorted": (lambda x: np.sum(FINE[np.searchsorted(FINE, x)] ** 2), squares, 1e-4),
    "searchsorted, coarse": (lambda x: np.sum(COARSE[np.searchsorted(COARSE, x)] ** 2), squares, 1e-3),
    "digitize": (lambda x: np.sum(FINE[np.digitize(x, FINE)] ** 2), squares, 1e-4),
    "table of sines": (lambda x: np.sum(SINES[np.searchsorted(FINE, x)]), lambda x: np.sum(np.sin(x)), 1e-4),
    "table by int()": (lambda x: sum(SINES[int((v + 5) / 1e-4)] for v in x), lambda x: np.sum(np.sin(x)), 1e-4),
    "table by rint": (
        lambda x: np.sum(SINES[((x + 5) * 1e4).round().astype(int)]),
        lambda x: np.sum(np.sin(x)),
        1e-4,
    ),
    "nearest": (lambda x: sum(COARSE[np.argmin(np.abs(COARSE - v))] ** 2 for v in x), squares, 1e-3),
    "counted": (lambda x: sum((np.sum(v > FINE) * 1e-4 - 5) ** 2 for v in x), squares, 1e-4),
    "share below": (lambda x: sum((np.mean(v > FINE) * 10 - 5) ** 2 for v in x), squares, 1e-4),
    "where counted": (lambda x: sum((np.sum(np.where(v > FINE, 1e-4, 0.0)) - 5) ** 2 for v in x), squares, 1e-4),
    "heaviside": (lambda x: np.sum(np.heaviside(x[0] - FINE, 0.5)) * 1e-4, lambda x: x[0], 1e-4),
    "sign": (lambda x: np.sum(np.sign(x[0] - FINE)) * 1e-4, lambda x: 2 * x[0], 1e-4),
    "int64": (lambda x: np.sum(((x * 1e6).astype(np.int64) / 1e6) ** 2), squares, 1e-6),
    "int64, in part": (
        lambda x: np.sum(x**2) + np.sum((x * 1e6).astype(np.int64) / 1e6 * 3),
        lambda x: np.sum(x**2 + 3 * x),
        1e-6,
    ),
    "int32": (lambda x: np.sum(((x * 1e4).astype(np.int32) / 1e4) ** 2), squares, 1e-4),
    "round to 3": (lambda x: np.sum(np.round(x, 3) ** 2), squares, 1e-3),
    "round to 6": (lambda x: np.sum(np.round(x, 6) ** 2), squares, 1e-6),
    "round to 10": (lambda x: np.sum(np.round(x, 10) ** 2), squares, 1e-10),
    "round of f": (lambda x: np.round(np.sum(x**2), 6), squares, 1e-6),
    "round of float of f": (lambda x: round(float(np.sum(x**2)), 4), squares, 1e-4),
    "Python's round": (lambda x: sum(round(float(v), 5) ** 2 for v in x), squares, 1e-5),
    "floor": (lambda x: np.sum((np.floor(x * 1e5) / 1e5) ** 2), squares, 1e-5),
    "math.floor": (lambda x: sum((math.floor(v * 1e5) / 1e5) ** 2 for v in x), squares, 1e-5),
    "math.ceil": (lambda x: sum((math.ceil(v * 1e4) / 1e4) ** 2 for v in x), squares, 1e-4),
    "int()": (lambda x: sum((int(v * 1e5) / 1e5) ** 2 for v in x), squares, 1e-5),
    "ceil": (lambda x: np.sum((np.ceil(x * 1e4) / 1e4) ** 2), squares, 1e-4),
    "trunc": (lambda x: np.sum((np.trunc(x * 1e7) / 1e7) ** 2), squares, 1e-7),
    "//": (lambda x: np.sum((x // 1e-5 * 1e-5) ** 2), squares, 1e-5),
    "x - x % h": (lambda x: np.sum((x - x % 1e-4) ** 2), squares, 1e-4),
    "x - fmod": (lambda x: np.sum((x - np.fmod(x, 1e-4)) ** 2), squares, 1e-4),
    "modf": (lambda x: np.sum((np.modf(x * 1e5)[1] / 1e5) ** 2), squares, 1e-5),
    "divmod": (lambda x: sum((divmod(v, 1e-5)[0] * 1e-5) ** 2 for v in x), squares, 1e-5),
    "in part": (lambda x: np.sum(x**2) + np.sum(np.round(x * 3, 5)), lambda x: np.sum(x**2 + 3 * x), 1e-5),
    "in part, against": (lambda x: np.sum(x**2) - np.sum(np.round(x * 3, 5)), lambda x: np.sum(x**2 - 3 * x), 1e-5),
    "in part, beside float32": (
        lambda x: np.sum(x**2) + np.sum(np.round(x * 3, 5)) + 1e-9 * np.sum(x.astype(np.float32)),
        lambda x: np.sum(x**2 + 3 * x),
        1e-5,
    ),
    "a table, x on its stair, in part": (
        lambda x: np.sum(x**2) + np.sum(COARSE[np.searchsorted(COARSE, x)] * 3),
        lambda x: np.sum(x**2 + 3 * x),
        1e-3,
    ),
    "7 digits of a small part": (
        lambda x: float(f"{1e-2 * x[0]:e}") + np.sum(np.exp(x)),
        lambda x: 1e-2 * x[0] + np.sum(np.exp(x)),
        1e-6,
    ),
    "bisection to 1e-4": (bisected(1e-4), root, 1e-4),
    "bisection to 1e-10": (bisected(1e-10), root, 1e-10),
    "bisection to 1e-14": (bisected(1e-14), root, 1e-14),
    "bisection and more": (lambda x: bisected(1e-9)(x) + np.sum(x**2), lambda x: root(x) + squares(x), 1e-9),
    "20 halves": (halved(20), root, 1e-5),
    "40 halves": (halved(40), root, 1e-11),
    "60 halves": (halved(60), root, 1e-15),
    "golden section to 1e-3": (golden(1e-3), first_square, 1e-3),
    "golden section to 1e-5": (golden(1e-5), first_square, 1e-5),
    "golden section to 1e-8": (golden(1e-8), first_square, 1e-8),
    "climbed": (climbed, first_square, 1e-3),
    "counted in Python": (lambda x: (sum(1.0 for t in COARSE if t < x[0]) * 1e-3 - 5) ** 2, first_square, 1e-3),
    "Decimal of str": (lambda x: sum(float(Decimal(str(v))) ** 2 for v in x), squares, 0.0),
    "Decimal of repr": (lambda x: sum(float(Decimal(repr(float(v)))) ** 2 for v in x), squares, 0.0),
    "f'{:.17g}'": (lambda x: float(f"{x[0]:.17g}") ** 2 + x[1] ** 2, squares, 0.0),
    "f'{:e}'": (lambda x: float(f"{x[0]:e}") ** 2 + x[1] ** 2, squares, 1e-6),
    "%.17g": (lambda x: float("%.17g" % x[0]) ** 2 + x[1] ** 2, squares, 0.0),  # noqa: UP031
    "repr": (lambda x: float(repr(float(x[0]))) ** 2 + x[1] ** 2, squares, 0.0),
    "hex": (lambda x: float.fromhex(float(x[0]).hex()) ** 2, first_square, 0.0),
    "loadtxt": (lambda x: np.sum(np.loadtxt(io.StringIO("\n".join(str(float(v)) for v in x))) ** 2), squares, 0.0),
    "literal_eval": (lambda x: sum(v**2 for v in ast.literal_eval(str([float(v) for v in x]))), squares, 0.0),
    "json": (lambda x: sum(v**2 for v in json.loads(json.dumps([float(v) for v in x]))), squares, 0.0),
    "Fraction of str": (lambda x: float(Fraction(str(float(x[0])))) ** 2, first_square, 0.0),
    "Fraction": (lambda x: float(Fraction(float(x[0]))) ** 2, first_square, 0.0),
    "array of texts": (lambda x: np.sum(np.array([str(v) for v in x]).astype(float) ** 2), squares, 0.0),
}


def newton(tolerance):
    """The square root of x[0], by iterations whose number depends on x, but hardly the result."""

    def f(x):
        u = 1.0
        while abs(u * u - x[0]) > tolerance:
            u = u - (u * u - x[0]) / (2 * u)
        return u

    return f


def settled(x):
    u = x[0] * 0
    for _ in range(500):
        v = np.cos(u * x[0] + x[1] * 0.1)
        if abs(v - u) < 1e-12:
            break
        u = v
    return u


def bent(x):
    total = 0.0
    for v in x:
        total = total + (3 * v if v > 1.3 - 1e-9 else v / 2)
    return total


def written(x):
    value = np.sum(x**2)
    f"step {value:.3f} at {x}, {np.round(x, 3)}"
    return value


def between(x):
    """Linear interpolation in a table, its cell found by searchsorted."""
    i = np.searchsorted(COARSE, x)
    low = np.sin(COARSE)[i - 1]
    return np.sum(low + (x - COARSE[i - 1]) * 1e3 * (np.sin(COARSE)[i] - low))


# name: (f, x), with the derivatives that backpropagation gives
FOLLOWED = {
    "a saw": (lambda x: np.sum(x - np.floor(x)), X),
    "a fine saw": (lambda x: np.sum(1e4 * x - np.floor(1e4 * x)), X + 3e-5),
    "angles wrapped": (lambda x: np.sum(((x + np.pi) % (2 * np.pi) - np.pi) ** 2), X * 5),
    "distance to whole numbers": (lambda x: np.sum((x * 10 - np.round(x * 10)) ** 2), X + 0.01),
    "what rounding leaves": (lambda x: np.sum((x - FINE[np.searchsorted(FINE, x)]) ** 2), X),
    "argmax": (lambda x: x[np.argmax(x)] ** 2, X),
    "argsort": (lambda x: np.sum(x[np.argsort(x)] * np.arange(2)), X),
    "sort": (lambda x: np.sum(np.sort(x) * np.arange(2)), X),
    "median": (lambda x: np.median(x), np.array([1.0, 2.0, 5.0])),
    "mask": (lambda x: np.sum(x * (x > 0)), X),
    "mask as index": (lambda x: np.sum(x[x > 0] ** 2), X),
    "where": (lambda x: np.sum(np.where(x > 0, x**2, -x)), X),
    "beside a kink of maximum": (lambda x: np.sum(np.maximum(x - 1.3 + 1e-9, 0)), X),
    "beside a kink of where": (lambda x: np.sum(np.where(x > 1.3 - 1e-9, x - 1.3 + 1e-9, 0)), X),
    "beside a kink of a mask": (lambda x: np.sum((x - 1.3 + 1e-9) * (x > 1.3 - 1e-9)), X),
    "beside a kink of if": (bent, X + 1e-3),
    "Newton": (newton(1e-10), X),
    "Newton, loosely": (newton(1e-3), X),
    "a fixed point": (settled, X),
    "written in a log": (written, X),
    "a number of factors": (lambda x: np.prod([x[0]] * int(x[1])), np.array([1.1, 3.5])),
    "interp": (lambda x: np.sum(np.interp(x, COARSE[::100], np.sin(COARSE[::100]))), X),
    "interpolation by hand": (between, X + 2e-4),
    "a thousand kinks": (lambda x: np.sum(np.abs(x[0] - np.linspace(0, 2, 2001))) * 1e-3, X),
    "hinges": (lambda x: np.mean(np.maximum(0, 1 - np.linspace(-1, 1, 1001) * x[0])), X),
    "a penalty beyond 5": (lambda x: np.sum(x**2) + 10 * (x[0] > 5), X),
    "coarse stairs": (lambda x: np.sum(np.round(x * 10) / 10), np.array([1.0, -2.0, 3.0])),
    "whole days": (lambda x: np.sum(np.sin(x) * (np.floor(x) % 7)), np.array([1.3, 2.4, 3.5])),
    "Huber": (lambda x: np.sum(np.where(np.abs(x) < 1, x * x / 2, np.abs(x) - 0.5)), X),
    "finite?": (lambda x: np.sum(x**2) if np.all(np.isfinite(x)) else 0.0, X),
    "a plateau": (lambda x: np.sum(np.maximum(x - 10, 0)), X),
    "times 0": (lambda x: x[0] * 0.0, X),
    "clusters": (lambda x: sum(np.min((v - np.arange(3.0)) ** 2) for v in x), X),
    "the nearest centre": (
        lambda x: sum((v - np.arange(3.0)[np.argmin((v - np.arange(3.0)) ** 2)]) ** 2 for v in x),
        X,
    ),
}


def expanded(x):
    A = np.array([[2.0, 1, 0], [1, 3, 1], [0, 1, 2]])[: x.size, : x.size]
    one = np.ones(x.size)
    return (x + 1) @ A @ (x + 1) - 2 * one @ A @ (x + 1) + one @ A @ one


# name: (f, its minimum), where f is small because its terms cancel
CANCELLING = {
    "cosh - 1": (lambda x: np.sum(np.cosh(x) - 1), 0),
    "1 - cos": (lambda x: np.sum(1 - np.cos(x)), 0),
    "exp - 1 - x": (lambda x: np.sum(np.exp(x) - 1 - x), 0),
    "Ackley": (
        lambda x: -20 * np.exp(-0.2 * np.sqrt(np.mean(x**2))) - np.exp(np.mean(np.cos(2 * np.pi * x))) + 20 + np.e,
        0,
    ),
    "Rastrigin": (lambda x: 10 * x.size + np.sum(x**2 - 10 * np.cos(2 * np.pi * x)), 0),
    "Griewank": (lambda x: 1 + np.sum(x**2) / 4000 - np.prod(np.cos(x / np.sqrt(np.arange(1, x.size + 1)))), 0),
    "x - log(1 + x)": (lambda x: np.sum(x - np.log(1 + x)), 0),
    "sqrt(1 + x²) - 1": (lambda x: np.sum(np.sqrt(1 + x**2) - 1), 0),
    "log cosh": (lambda x: np.sum(np.log(np.cosh(x))), 0),
    "1 - exp(-x²)": (lambda x: 1 - np.exp(-np.sum(x**2)), 0),
    "softplus": (lambda x: np.sum(np.log(1 + np.exp(x)) - x / 2) - x.size * np.log(2), 0),
    "divergence": (lambda x: np.sum((1 + x) * np.log(1 + x) - x), 0),
    "Morse": (lambda x: np.sum(np.exp(-2 * x) - 2 * np.exp(-x)) + x.size, 0),
    "Lennard-Jones": (lambda x: np.sum((1 + x) ** -12 - 2 * (1 + x) ** -6) + x.size, 0),
    "an expanded square": (lambda x: np.sum(x**2 - 2 * x * 3 + 9), 3),
    "an expanded form": (expanded, 0),
    "Rosenbrock, expanded": (
        lambda x: 100 * (x[1] ** 2 - 2 * x[1] * x[0] ** 2 + x[0] ** 4) + 1 - 2 * x[0] + x[0] ** 2,
        1,
    ),
    "log sum exp": (lambda x: np.log(np.sum(np.exp(x)) + np.sum(np.exp(-x))) - np.log(2 * x.size), 0),
    "1 - sinc": (lambda x: np.sum(1 - np.sinc(x)), 0),
    "variance": (lambda x: np.mean((x + 5) ** 2) - np.mean(x + 5) ** 2, 0),
    "1e6 (cosh - 1)": (lambda x: np.sum(np.cosh(x)) * 1e6 - 1e6 * x.size, 0),
    "determinant": (
        lambda x: 1 - np.linalg.det(np.eye(x.size) + np.outer(x, np.ones(x.size))) + np.sum(x) + 3 * np.sum(x**2),
        0,
    ),
}


def beside_minima(count, seed):
    """Yield (name, f, x), in turn, x at a distance of 1 to 1e-12 from the minimum."""
    random = np.random.default_rng(seed)
    for name in itertools.islice(itertools.cycle(CANCELLING), count):
        f, minimum = CANCELLING[name]
        size = 2 if "Rosenbrock" in name else int(random.integers(1, 4))
        yield name, f, minimum + random.standard_normal(size) * 0.5 * 10 ** random.uniform(-12, 0)


def whitley(x):
    terms = [100 * (x[i] ** 2 - x[j]) ** 2 + (1 - x[j]) ** 2 for i in range(2) for j in range(2)]
    return sum(t**2 / 4000 - np.cos(t) + 1 for t in terms)


def katsuura(x):
    rest = np.sum([np.abs(2.0**k * x - np.round(2.0**k * x)) / 2.0**k for k in range(1, 33)], axis=0)
    return np.prod(1 + np.arange(1, x.size + 1) * rest)


OSCILLATING = {
    "Schaffer 2": lambda x: (
        0.5 + (np.sin(x[0] ** 2 - x[1] ** 2) ** 2 - 0.5) / (1 + 0.001 * (x[0] ** 2 + x[1] ** 2)) ** 2
    ),
    "Branin 2": lambda x: (
        (-1.275 * x[0] ** 2 / np.pi**2 + 5 * x[0] / np.pi + x[1] - 6) ** 2
        + (10 - 5 / (4 * np.pi)) * np.cos(x[0]) * np.cos(x[1])
        + np.log(x[0] ** 2 + x[1] ** 2 + 1)
        + 10
    ),
    "Ripple": lambda x: np.sum(
        -np.exp(-2 * np.log(2) * ((x - 0.1) / 0.8) ** 2)
        * (np.sin(5 * np.pi * x) ** 6 + 0.1 * np.cos(500 * np.pi * x) ** 2)
    ),
    "Weierstrass": lambda x: sum(np.sum(0.5**k * np.cos(2 * np.pi * 3**k * (x + 0.5))) for k in range(21)),
    "Katsuura": katsuura,
    "Whitley": whitley,
    "sin(1e4 x)": lambda x: np.sum(np.sin(1e4 * x)),
    "sin(1e7 x)": lambda x: np.sum(np.sin(1e7 * x)),
    "a chirp": lambda x: np.sum(np.sin(x**4 * 10)),
    "x and ripples": lambda x: np.sum(x + 1e-3 * np.sin(1e5 * x)),
    "x² and ripples": lambda x: np.sum(x**2 + 1e-5 * np.cos(1e6 * x)),
    "x sin(1/x)": lambda x: np.sum(x * np.sin(1 / x)),
    "triangles": lambda x: np.sum(np.arcsin(np.sin(1e3 * x))),
}


def oscillating(count, seed):
    """Yield (name, f, x), in turn."""
    random = np.random.default_rng(seed)
    for k, name in enumerate(itertools.islice(itertools.cycle(OSCILLATING), count)):
        wide = random.uniform(-100, 100, 2) * 10 ** random.uniform(-3, 0)
        yield name, OSCILLATING[name], wide if k % 2 else random.uniform(-2, 2, 2)


def minima():
    """Yield (name, f, x), x where L-BFGS ends: on the catalogue of problems, and on `CANCELLING`."""
    random = np.random.default_rng(1)
    starts = [(name, kb.problems[name].f, np.asarray(kb.problems[name].x0, float)) for name in kb.problems.names()]
    starts += [(name, f, x0 + 0.1 * random.standard_normal(x0.shape)) for name, f, x0 in starts]
    for name, (f, minimum) in CANCELLING.items():
        sizes = (2,) if "Rosenbrock" in name else (1, 2, 3)
        starts += [(name, f, minimum + random.uniform(-0.4, 0.45, size)) for size in sizes]
    for name, f, x0 in starts:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            x = kb.minimize(f, x0, kb.LBFGS()).x
        yield name, f, x


def alarms(points, *derivatives):
    """Return what is said, as text, where derivatives at these points are refused or warned of; and their number."""
    said, count = [], 0
    for name, f, x in points:
        for derivative in derivatives:
            count += 1
            try:
                with warnings.catch_warnings(), np.errstate(all="ignore"):
                    warnings.simplefilter("error")
                    derivative(f, x)
            except Exception as error:
                said.append(f"{name} at {x!r}: {error}")
    return said, count


DERIVATIVES = (
    lambda f, x: kb.grad(f, method="backprop")(x),
    lambda f, x: kb.hessian(f, method="backprop")(x),
    lambda f, x: kb.hvp(f, method="backprop")(x, np.ones_like(x)),
    lambda f, x: kb.jacobian(f, method="backprop")(x),
)


def main(count):
    for title, points, derivatives in (
        ("beside minima", beside_minima(count, seed=5), DERIVATIVES[:1]),
        ("second derivatives beside minima", beside_minima(count // 10, seed=6), DERIVATIVES[1:]),
        ("oscillating", oscillating(count // 5, seed=7), DERIVATIVES[:1]),
        ("Hessians at minima", minima(), DERIVATIVES[1:2]),
    ):
        said, asked = alarms(points, *derivatives)
        print(f"{title}: {len(said)} alarms in {asked}", *said[:5], sep="\n  ")


if __name__ == "__main__":
    main(int(sys.argv[1]))
