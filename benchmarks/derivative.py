"""How far the adaptive derivative's error estimate can be trusted, and what it costs, beside numdifftools.

    python benchmarks/derivative.py            needs mpmath and numdifftools
    python benchmarks/derivative.py --worst    also lists every estimate that does not cover its error

Truth comes from mpmath with 60 digits. ``TUNED`` is the table that the constants of `koubai.derivatives.differences`
were chosen on; ``UNSEEN`` was written afterwards, and nothing was changed for it. The random programs come from a seed
that no constant was chosen on.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath as mp
import numpy as np

import koubai.derivatives.differences as differences

mp.mp.dps = 60


@dataclass(frozen=True)
class Case:
    """f(m, x) with m = numpy or mpmath; ``seen``, where given, is what the float program really computes."""

    name: str
    f: Callable[[Any, Any], Any]
    points: np.ndarray
    seen: Callable[[Any], Any] | None = None

    def program(self) -> Callable[[Any], Any]:
        return self.seen or (lambda x: self.f(np, x))

    def truth(self, x: float) -> float:
        return float(mp.diff(lambda t: self.f(mp, t), mp.mpf(float(x))))


def line(low: float, high: float) -> np.ndarray:
    return np.linspace(low, high, 20)


def decades(low: float, high: float) -> np.ndarray:
    return np.geomspace(low, high, 20)


def scattered(f: Callable[[Any], Any], sigma: float) -> Callable[[Any], Any]:
    """f with repeatable noise: a hash of the bits of x decides it."""

    def noisy(x: Any) -> Any:
        bits = np.float64(x).view(np.uint64)
        return f(x) + sigma * np.random.default_rng(int(bits)).standard_normal()

    return noisy


def f32(f: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    return lambda x: f(np, np.float32(x))


def hidden_f32(f: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    return lambda x: float(f(np, np.float32(x)))


def sine(m: Any, x: Any) -> Any:
    return m.sin(x)


def logistic(m: Any, x: Any) -> Any:
    return 1 / (1 + m.exp(-x))


def bump(m: Any, x: Any) -> Any:
    return m.exp(-x * x) * m.cos(3 * x)


TUNED = [
    Case("x**2", lambda m, x: x**2, line(-5, 5)),
    Case("x**3 - 2x", lambda m, x: x**3 - 2 * x, line(-10, 10)),
    Case("x**10", lambda m, x: x**10, line(-3, 3)),
    Case("quartic valley", lambda m, x: (x * x - 4) ** 2 / 8 + x / 2, line(-4, 4)),
    Case("sin", sine, line(-8, 8)),
    Case("cos near 1e6", lambda m, x: m.cos(x), 1e6 + line(0, 6)),
    Case("sin(1e3 x)", lambda m, x: m.sin(1e3 * x), line(-2, 2)),
    Case("sin(1e5 x)", lambda m, x: m.sin(1e5 * x), line(0.1, 2)),
    Case("exp", lambda m, x: m.exp(x), line(-20, 20)),
    Case("exp(10x)", lambda m, x: m.exp(10 * x), line(-3, 3)),
    Case("exp(-x**2)", lambda m, x: m.exp(-x * x), line(-5, 5)),
    Case("exp(sin)", lambda m, x: m.exp(m.sin(x)), line(-4, 4)),
    Case("log", lambda m, x: m.log(x), decades(1e-12, 1e8)),
    Case("sqrt", lambda m, x: m.sqrt(x), decades(1e-12, 1e8)),
    Case("1/x", lambda m, x: 1 / x, decades(1e-8, 1e6)),
    Case("x**-2.5", lambda m, x: x**-2.5, decades(1e-3, 1e3)),
    Case("x**(1/3)", lambda m, x: x ** (mp.mpf(1) / 3 if m is mp else 1 / 3), decades(1e-6, 1e6)),
    Case("x log x", lambda m, x: x * m.log(x), decades(1e-6, 1e3)),
    Case("tanh", lambda m, x: m.tanh(x), line(-12, 12)),
    Case("tanh(100x)", lambda m, x: m.tanh(100 * x), line(-0.2, 0.2)),
    Case("logistic", logistic, line(-30, 30)),
    Case("softplus", lambda m, x: m.log(1 + m.exp(x)), line(-20, 20)),
    Case("atan", lambda m, x: m.atan(x), line(-50, 50)),
    Case("asin", lambda m, x: m.asin(x), line(-0.999, 0.999)),
    Case("atanh", lambda m, x: m.atanh(x), line(-0.9999, 0.9999)),
    Case("tan", lambda m, x: m.tan(x), line(-1.5, 1.5)),
    Case("Runge", lambda m, x: 1 / (1 + 25 * x * x), line(-1, 1)),
    Case("narrow Lorentz", lambda m, x: 1 / (1e-6 + x * x), line(-0.01, 0.01)),
    Case("sinh", lambda m, x: m.sinh(x), line(-30, 30)),
    Case("x sin(1/x)", lambda m, x: x * m.sin(1 / x), decades(0.005, 10)),
    Case("sin(x)/x", lambda m, x: m.sin(x) / x, decades(1e-6, 30)),
    Case("1e8 + sin", lambda m, x: 1e8 + m.sin(x), line(-3, 3)),
    Case("1e-12 exp", lambda m, x: 1e-12 * m.exp(x), line(-3, 3)),
    Case("1e200 x**2", lambda m, x: 1e200 * x * x, line(-3, 3)),
    Case("sin(1e-6 x)", lambda m, x: m.sin(1e-6 * x), line(-1e7, 1e7)),
    Case("exp(1e9 x) near 0", lambda m, x: m.exp(1e9 * x), line(-1e-9, 1e-9)),
    Case("sin(1e12 x) near 0", lambda m, x: m.sin(1e12 * x), line(1e-13, 3e-12)),
    Case("cos(x) / (1 + x**2)", lambda m, x: m.cos(x) / (1 + x * x), line(-6, 6)),
    Case("x + ripple", lambda m, x: x + 1e-3 * m.sin(1e3 * x), line(-1, 1)),
    Case("(1 - cos x) / x**2", lambda m, x: (1 - m.cos(x)) / x**2, decades(1e-4, 10)),
    Case("(exp(x) - 1) / x", lambda m, x: (m.exp(x) - 1) / x, decades(1e-8, 10)),
    Case("x abs(x)", lambda m, x: x * abs(x), line(-2, 2)),
    Case("abs", lambda m, x: abs(x), line(-1, 1)),
    Case("relu", lambda m, x: x if x > 0 else 0 * x, line(-1, 1.1)),
    Case("huber", lambda m, x: x * x / 2 if abs(x) < 1 else abs(x) - mp.mpf(1) / 2 if m is mp else abs(x) - 0.5,
         line(-3, 3.1)),
    Case("constant", lambda m, x: 3 + 0 * x, line(-3, 3)),
    Case("Rosenbrock slice", lambda m, x: (1 - x) ** 2 + 100 * (2 - x * x) ** 2, line(-2, 2)),
    Case("Rastrigin slice", lambda m, x: 10 + x * x - 10 * m.cos(2 * m.pi * x), line(-5, 5.3)),
    Case("bump", bump, line(-3, 3)),
    Case("sin, float32 out", sine, line(-8, 8), f32(sine)),
    Case("logistic, float32 out", logistic, line(-8, 8), f32(logistic)),
    Case("bump, float32 inside", bump, line(-2, 2), hidden_f32(bump)),
    Case("sin + noise 1e-6", sine, line(-3, 3), scattered(np.sin, 1e-6)),
    Case("bump + noise 1e-3", bump, line(-2, 2), scattered(lambda x: bump(np, x), 1e-3)),
    Case("sin, 6 decimals", sine, line(-3, 3), lambda x: np.round(np.sin(x), 6)),
    Case("exp, 4 decimals", lambda m, x: m.exp(x), line(-2, 2), lambda x: np.round(np.exp(x), 4)),
]  # fmt: skip


def weierstrass(m: Any, x: Any) -> Any:
    return sum(m.cos(7**k * x) / 2**k for k in range(6))


def euler(m: Any, x: Any) -> Any:
    """y' = −x y² from 1, 200 Euler steps to t = 1."""
    y = 1 + 0 * x
    for _ in range(200):
        y = y - x * y * y / 200
    return y


def wilkinson(m: Any, x: Any) -> Any:
    y = 1 + 0 * x
    for k in range(1, 9):
        y = y * (x - k)
    return y


def gelu(m: Any, x: Any) -> Any:
    return x / 2 * (1 + m.tanh(m.sqrt(2 / m.pi) * (x + 0.044715 * x**3)))


UNSEEN = [
    Case("softsign", lambda m, x: x / (1 + abs(x)), line(-4, 4)),
    Case("sin(x**2)", lambda m, x: m.sin(x * x), line(0, 12)),
    Case("x**3 log x", lambda m, x: x**3 * m.log(x), decades(1e-4, 1e3)),
    Case("Ackley slice", lambda m, x: -20 * m.exp(-abs(x) / 5) - m.exp(m.cos(2 * m.pi * x)), line(-4.1, 4)),
    Case("swish", lambda m, x: x / (1 + m.exp(-x)), line(-25, 25)),
    Case("GELU", gelu, line(-6, 6)),
    Case("log-sum-exp of x, 2x, 1-x", lambda m, x: m.log(m.exp(x) + m.exp(2 * x) + m.exp(1 - x)), line(-9, 9)),
    Case("step of width 1e-7", lambda m, x: x + m.tanh((x - 0.3) / 1e-7), 0.3 + line(-3e-7, 4e-7)),
    Case("sqrt(x**2 + 1e-16)", lambda m, x: m.sqrt(x * x + 1e-16), line(-1e-7, 1.1e-7)),
    Case("(1e6 + x)**2 - 1e12", lambda m, x: (1e6 + x) ** 2 - 1e12, line(-3, 4)),
    Case("cos(20 log x)", lambda m, x: m.cos(20 * m.log(x)), decades(1e-5, 1e5)),
    Case("Weierstrass, 6 terms", weierstrass, line(-2, 2.3)),
    Case("Planck", lambda m, x: x**3 / (m.exp(x) - 1), decades(1e-3, 50)),
    Case("Morse", lambda m, x: 5 * (1 - m.exp(-1.2 * (x - 1.4))) ** 2, line(0.2, 8)),
    Case("x**x", lambda m, x: x**x, decades(1e-5, 20)),
    Case("triangle wave", lambda m, x: m.asin(m.sin(x)), line(-6.1, 6.2)),
    Case("leaky relu", lambda m, x: x if x > 0 else x / 10, line(-1, 1.1)),
    Case("ELU", lambda m, x: x if x > 0 else m.expm1(x), line(-2, 2.2)),
    Case("Wilkinson, 8 roots", wilkinson, line(0.5, 8.7)),
    Case("Euler, 200 steps", euler, line(-0.5, 3)),
    Case("atan(x / 1e-3)", lambda m, x: m.atan(x / 1e-3), line(-0.01, 0.012)),
    Case("exp(-1/x**2)", lambda m, x: m.exp(-1 / (x * x)), line(0.05, 3)),
    Case("softplus, float32 inside", lambda m, x: m.log1p(m.exp(x)), line(-5, 5),
         hidden_f32(lambda m, x: m.log1p(m.exp(x)))),
    Case("Morse, float32 out", lambda m, x: 5 * (1 - m.exp(-1.2 * (x - 1.4))) ** 2, line(0.4, 6),
         lambda x: (np.float32(5) * (1 - np.exp(np.float32(-1.2) * (np.float32(x) - np.float32(1.4)))) ** 2)),
    Case("log + noise 1e-9", lambda m, x: m.log(x), line(0.5, 5), scattered(np.log, 1e-9)),
    Case("cubic, 3 decimals", lambda m, x: x**3 - 2 * x, line(-2, 2.1), lambda x: np.round(x**3 - 2 * x, 3)),
]  # fmt: skip


UNARY = {
    "sin": lambda m, a: m.sin(a),
    "cos": lambda m, a: m.cos(a),
    "exp": lambda m, a: m.exp(a),
    "log": lambda m, a: m.log(abs(a) + 1e-3),
    "sqrt": lambda m, a: m.sqrt(abs(a)),
    "tanh": lambda m, a: m.tanh(a),
    "atan": lambda m, a: m.atan(a),
    "abs": lambda m, a: abs(a),
    "inv": lambda m, a: 1 / (a + 0.1),
    "square": lambda m, a: a * a,
    "1e3 *": lambda m, a: 1e3 * a,
    "1e-3 *": lambda m, a: 1e-3 * a,
    "1e3 +": lambda m, a: 1e3 + a,
}
BINARY = {
    "+": lambda m, a, b: a + b,
    "-": lambda m, a, b: a - b,
    "*": lambda m, a, b: a * b,
    "/": lambda m, a, b: a / (b * b + 0.01),
    "max": lambda m, a, b: a if a > b else b,
}


def program(rng: np.random.Generator, depth: int) -> tuple[str, Callable[[Any, Any], Any]]:
    """Compose a random function; kinks, poles and cancellation come by themselves."""
    if depth == 0 and rng.random() < 0.8:
        return "x", lambda m, x: x
    if depth == 0:
        constant = float(rng.standard_normal())
        return f"{constant:.3g}", lambda m, x: constant + 0 * x
    left, f = program(rng, depth - 1)
    if rng.random() < 0.55:
        name = str(rng.choice(list(UNARY)))
        return f"{name}({left})", lambda m, x: UNARY[name](m, f(m, x))
    name = str(rng.choice(list(BINARY)))
    right, g = program(rng, depth - 1)
    return f"({left} {name} {right})", lambda m, x: BINARY[name](m, f(m, x), g(m, x))


def programs(count: int, seed: int) -> list[Case]:
    """Return random functions, each at one point where it is finite and mpmath is sure of its slope."""
    rng = np.random.default_rng(seed)
    cases: list[Case] = []
    while len(cases) < count:
        name, f = program(rng, int(rng.integers(1, 6)))
        x = float(rng.standard_normal() * 10 ** rng.uniform(-6, 4))
        case = Case(name, f, np.array([x]))
        with np.errstate(all="ignore"):
            try:
                slope = case.truth(x)
                other = float(mp.diff(lambda t, f=f: f(mp, t), mp.mpf(x), h=mp.mpf(10) ** -25))
                value = float(f(np, np.float64(x)))
            except (ArithmeticError, ValueError, TypeError):
                continue
        if np.isfinite([value, slope]).all() and abs(slope - other) <= 1e-9 * abs(slope):
            cases.append(case)
    return cases


@dataclass
class Row:
    """One derivative: what was said and what is true."""

    case: str
    x: float
    value: float
    error: float
    true: float
    nfev: float
    seconds: float

    @property
    def off(self) -> float:
        return abs(self.value - self.true) if np.isfinite(self.value) else np.inf

    @property
    def relative(self) -> float:
        return self.off / abs(self.true) if self.true else (np.inf if self.off else 0.0)

    @property
    def covers(self) -> bool:
        return bool(self.off <= self.error)

    @property
    def lies(self) -> bool:
        return bool(self.off > 100 * self.error and self.relative > 1e-6)


def koubai(f: Callable[[Any], Any], x: float) -> tuple[float, float, int]:
    estimate = differences.derivative(f, x)
    return estimate.value, estimate.error, estimate.nfev


def numdifftools(f: Callable[[Any], Any], x: float) -> tuple[float, float, int]:
    import numdifftools as nd

    calls = 0

    def counted(t: Any) -> Any:
        nonlocal calls
        calls += np.size(t)
        return f(t)

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        result = nd.Derivative(counted, full_output=True)(x)
    return float(result.estimate), float(result.error_estimate), calls


def measure(cases: list[Case], tool: Callable[..., tuple[float, float, int]]) -> list[Row]:
    rows = []
    for case in cases:
        f = case.program()
        for x in case.points.tolist():
            start = time.perf_counter()
            try:
                value, error, nfev = tool(f, x)
            except (ArithmeticError, ValueError, IndexError):
                value, error, nfev = np.nan, 0.0, 0
            seconds = time.perf_counter() - start
            rows.append(Row(case.name, x, value, error, case.truth(x), nfev, seconds))
    return rows


def summary(rows: list[Row]) -> dict[str, float]:
    return {
        "cases": len(rows),
        "cover": float(np.mean([row.covers for row in rows])),
        "lies": float(np.mean([row.lies for row in rows])),
        "median rel. error": float(np.median([row.relative for row in rows])),
        "rel > 1e-3": float(np.mean([row.relative > 1e-3 for row in rows])),
        "median nfev": float(np.median([row.nfev for row in rows])),
        "median µs": float(np.median([row.seconds for row in rows]) * 1e6),
    }


def main() -> None:
    from report import about, headline, save  # only here: the tests read the tables of this file by its path

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worst", action="store_true", help="list every estimate that does not cover its error")
    arguments = parser.parse_args()
    where, found = about(), []
    print(headline(where))
    heads = ["cases", "cover", "lies", "median rel. error", "rel > 1e-3", "median nfev", "median µs"]
    print(f"{'':30}" + "".join(f"{head:>19}" for head in heads))
    for title, cases in (("tuned", TUNED), ("unseen", UNSEEN), ("random programs", programs(2000, seed=2026))):
        for tool in (koubai, numdifftools):
            rows = measure(cases, tool)
            figures = summary(rows)
            found.append({"work": title, "tool": tool.__name__, **figures})
            print(f"{title + ', ' + tool.__name__:30}" + "".join(f"{figures[head]:>19.4g}" for head in heads))
            if arguments.worst and tool is koubai:
                for row in rows:
                    if not row.covers:
                        print(f"    {row.case} at {row.x!r}: {row.value!r} ± {row.error:.1e}, off by {row.off:.1e}")
    save("derivative", where, found)


if __name__ == "__main__":
    main()
