"""Value and gradient, a call: koubai beside hand-written NumPy, autograd, JAX and PyTorch, in one run.

    python benchmarks/gradient.py              needs autograd, jax and torch
    python benchmarks/gradient.py --rounds 31

Every contender does the same work on the same data in float64, NumPy in and NumPy out, and its value and gradient are
compared with koubai's first. The contenders take turns within every round, PyTorch with one
thread and with two. The table shows medians over the rounds: µs a call, and the ratio to koubai (above 1: koubai is
faster). The first call (trace, reverse, compile) is shown apart, as are tracing and reversing alone and the memory that
the first call and a later one need beyond the input and the answer.

Long loops are a matter of the first call. Of them it is timed whole, check included, beside autograd's, in turns; what
autograd can't do, writes into arrays, stands alone. The longest loop is run once, in a process of its own.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import autograd
import autograd.numpy as anp
import jax
import jax.numpy as jnp
import numpy as np
import torch
from report import about, headline, save, take_turns

import koubai as kb

jax.config.update("jax_enable_x64", True)
torch.set_default_dtype(torch.float64)

Call = Callable[[], tuple[Any, Any]]
THREADS = {f"torch ×{k}": partial(torch.set_num_threads, k) for k in (1, 2)}


# -- the functions, as their users write them in each library --------------------------------------------------------


def quad(x):
    return (x[0] - 1) ** 2 + (x[1] - 2) ** 2


def rosenbrock(np):
    def f(x):
        return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    return f


def mlp(np):
    def f(p, X, Y):
        h = np.tanh(X @ p["W1"] + p["b1"])
        z = h @ p["W2"] + p["b2"]
        z = z - np.max(z, axis=1, keepdims=True)
        log_p = z - np.log(np.sum(np.exp(z), axis=1, keepdims=True))
        return -np.mean(np.sum(Y * log_p, axis=1))

    return f


def torch_rosenbrock(x):
    return torch.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def torch_mlp(p, X, Y):
    h = torch.tanh(X @ p["W1"] + p["b1"])
    return -torch.mean(torch.sum(Y * torch.log_softmax(h @ p["W2"] + p["b2"], dim=1), dim=1))


# -- by hand, in NumPy with buffers kept from call to call -----------------------------------------------------------


def quad_by_hand(x):
    a, b = x[0] - 1, x[1] - 2
    return a**2 + b**2, np.array([2 * a, 2 * b])


def rosenbrock_by_hand(n):
    r, s, t, u = (np.empty(n - 1) for _ in range(4))

    def call(x):
        left, right = x[:-1], x[1:]
        np.multiply(left, left, out=r)
        np.subtract(right, r, out=r)
        np.subtract(1, left, out=s)
        np.multiply(r, r, out=t)
        np.multiply(t, 100, out=t)
        np.multiply(s, s, out=u)
        np.add(t, u, out=t)
        value = t.sum()
        g = np.empty(n)
        np.multiply(r, 200, out=r)
        g[0] = 0
        g[1:] = r
        np.multiply(r, left, out=t)
        np.add(t, s, out=t)
        np.multiply(t, 2, out=t)
        g[:-1] -= t
        return value, g

    return call


def mlp_by_hand(p, X, Y):
    rows = len(X)
    h, dh = np.empty((rows, p["W1"].shape[1])), np.empty((rows, p["W1"].shape[1]))
    z, e = np.empty((rows, p["W2"].shape[1])), np.empty((rows, p["W2"].shape[1]))

    def call(p):
        np.matmul(X, p["W1"], out=h)
        np.add(h, p["b1"], out=h)
        np.tanh(h, out=h)
        np.matmul(h, p["W2"], out=z)
        np.add(z, p["b2"], out=z)
        np.subtract(z, z.max(axis=1, keepdims=True), out=z)
        np.exp(z, out=e)
        total = e.sum(axis=1, keepdims=True)
        np.subtract(z, np.log(total), out=z)
        np.multiply(z, Y, out=z)
        value = -z.sum(axis=1).mean()
        np.divide(e, total, out=e)
        np.subtract(e, Y, out=e)
        np.divide(e, rows, out=e)
        gradient = {"W2": h.T @ e, "b2": e.sum(axis=0)}
        np.matmul(e, p["W2"].T, out=dh)
        np.multiply(h, h, out=h)
        np.subtract(1, h, out=h)
        np.multiply(dh, h, out=dh)
        gradient |= {"W1": X.T @ dh, "b1": dh.sum(axis=0)}
        return value, {name: gradient[name] for name in p}

    return call


# -- the peers, NumPy in and NumPy out -------------------------------------------------------------------------------


def by_autograd(f, x, *data) -> Call:
    call = autograd.value_and_grad(f)
    return lambda: call(x, *data)


def by_jax(f, x, *data) -> Call:
    call = jax.jit(jax.value_and_grad(f))

    def run():
        value, gradient = call(x, *data)
        return float(value), jax.tree.map(np.asarray, gradient)

    return run


def by_torch(f, x, *data) -> Call:
    data = [torch.from_numpy(d) for d in data]
    is_dict = isinstance(x, dict)

    def run():
        leaves = {k: torch.from_numpy(v).requires_grad_() for k, v in (x if is_dict else {"x": x}).items()}
        value = f(leaves, *data) if is_dict else f(leaves["x"])
        gradients = torch.autograd.grad(value, list(leaves.values()))
        return value.item(), dict(zip(leaves, (g.numpy() for g in gradients), strict=True)) if is_dict else gradients[
            0
        ].numpy()

    return run


def cases() -> Iterator[tuple[str, dict[str, Callable[[], Call]]]]:
    """Yield (name, contender -> a function that makes a fresh call)."""
    rng = np.random.default_rng(0)
    x2 = np.array([-3.0, 4.0])
    yield (
        "quad 2-D",
        {
            "koubai": lambda: (lambda call: lambda: call(x2))(kb.value_and_grad(quad, method="backprop")),
            "by hand": lambda: lambda: quad_by_hand(x2),
            "autograd": lambda: by_autograd(quad, x2),
            "jax jit": lambda: by_jax(quad, x2),
            "torch ×1": lambda: by_torch(quad, x2),
            "torch ×2": lambda: by_torch(quad, x2),
        },
    )
    for n in (2, 100, 10_000, 1_000_000):
        x = rng.uniform(-2, 2, n)
        hand = rosenbrock_by_hand(n)
        yield (
            f"Rosenbrock {n:g}",
            {
                "koubai": lambda x=x: (lambda call: lambda: call(x))(
                    kb.value_and_grad(rosenbrock(np), method="backprop")
                ),
                "by hand": lambda x=x, hand=hand: lambda: hand(x),
                "autograd": lambda x=x: by_autograd(rosenbrock(anp), x),
                "jax jit": lambda x=x: by_jax(rosenbrock(jnp), x),
                "torch ×1": lambda x=x: by_torch(torch_rosenbrock, x),
                "torch ×2": lambda x=x: by_torch(torch_rosenbrock, x),
            },
        )
    p, X, Y = mlp_data(rng)
    hand = mlp_by_hand(p, X, Y)
    yield (
        "MLP 64-64-10",
        {
            "koubai": lambda: (lambda call: lambda: call(p, X, Y))(kb.value_and_grad(mlp(np), method="backprop")),
            "by hand": lambda: lambda: hand(p),
            "autograd": lambda: by_autograd(mlp(anp), p, X, Y),
            "jax jit": lambda: by_jax(mlp(jnp), p, X, Y),
            "torch ×1": lambda: by_torch(torch_mlp, p, X, Y),
            "torch ×2": lambda: by_torch(torch_mlp, p, X, Y),
        },
    )


def mlp_data(rng: np.random.Generator) -> tuple[dict[str, Any], Any, Any]:
    X = rng.standard_normal((64, 64))
    Y = np.eye(10)[rng.integers(0, 10, 64)]
    p = {
        "W1": rng.standard_normal((64, 64)) / 8, "b1": rng.standard_normal(64),
        "W2": rng.standard_normal((64, 10)) / 8, "b2": rng.standard_normal(10),
    }  # fmt: skip
    return p, X, Y


# -- recurrences: a step after the other, as their users write them ---------------------------------------------------

STEPS, MOST_STEPS = 4_000, 100_000


def returns(n: int) -> Any:
    return np.random.default_rng(0).standard_normal(n)


def garch(np, n):
    squares = returns(n) ** 2

    def f(p):
        h, total = 1.0, 0.0
        for t in range(n):
            h = p[0] + p[1] * squares[t] + p[2] * h
            total = total + np.log(h) + squares[t] / h
        return 0.5 * total

    return f, [0.1, 0.1, 0.8]


def garch_in_a_table(np, n):
    squares = returns(n) ** 2

    def f(p):
        h = np.zeros(n)
        h[0] = 1.0
        for t in range(1, n):
            h[t] = p[0] + p[1] * squares[t - 1] + p[2] * h[t - 1]
        return 0.5 * np.sum(np.log(h) + squares / h)

    return f, [0.1, 0.1, 0.8]


def garch_in_a_list(np, n):
    squares = returns(n) ** 2

    def f(p):
        h = [1.0]
        for t in range(1, n):
            h.append(p[0] + p[1] * squares[t - 1] + p[2] * h[t - 1])
        h = np.array(h)
        return 0.5 * np.sum(np.log(h) + squares / h)

    return f, [0.1, 0.1, 0.8]


def with_branches(np, n):
    shocks = returns(n)

    def f(p):
        h, total, t = 1.0, 0.0, 0
        while t < n:
            h = p[0] + p[1] * h
            if h > 1.2:
                h = 1.2 * p[2]
            total = total + h * shocks[t]
            t += 1
        return total

    return f, [0.3, 0.9, 0.3]


def runge_kutta(np, n):
    def slope(y, p):
        return np.array([p[0] * y[0] - p[1] * y[0] * y[1], p[2] * y[0] * y[1] - p[3] * y[1]])

    def f(p):
        y, dt = np.array([1.0, 0.5]), 0.01
        for _ in range(n // 8):  # eight times as much is done in a step
            k1 = slope(y, p)
            k2 = slope(y + dt / 2 * k1, p)
            k3 = slope(y + dt / 2 * k2, p)
            k4 = slope(y + dt * k3, p)
            y = y + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return np.sum((y - 1.0) ** 2)

    return f, [1.1, 0.4, 0.1, 0.4]


def network(np, n):
    X = np.array(returns(16 * n).reshape(n, 16))

    def f(p):
        W, U = p[:256].reshape((16, 16)), p[256:].reshape((16, 16))
        h, total = np.zeros(16), 0.0
        for t in range(n):
            h = np.tanh(W @ h + U @ X[t])
            total = total + h[0]
        return total

    return f, returns(512) / 16


RECURRENCES = {  # and whether autograd can differentiate them
    "GARCH": (garch, True),
    "GARCH, h[t] = …": (garch_in_a_table, False),
    "GARCH, h.append": (garch_in_a_list, True),
    "while and if": (with_branches, True),
    "RK4, 2-D": (runge_kutta, True),
    "RNN, 16 units": (network, True),
}


def recurrences(rounds: int) -> list[dict[str, Any]]:
    """Print and return what the first gradient of long loops takes, all of it, beside autograd's."""
    rows = []
    for name, (recurrence, both) in RECURRENCES.items():
        (f, start), (g, _) = recurrence(np, STEPS), recurrence(anp, STEPS)
        x = np.array(start)
        calls = {"koubai": lambda f=f, x=x: kb.value_and_grad(f, method="backprop")(x)}
        if both:
            calls["autograd"] = lambda g=g, x=x: autograd.value_and_grad(g)(x)
            if not all(agree(a, b) for a, b in zip(calls["koubai"](), calls["autograd"](), strict=True)):
                raise SystemExit(f"{name}: autograd and koubai disagree")
        taken = take_turns(calls, rounds)
        median = {who: statistics.median(values) for who, values in taken.items()}
        row = "  ".join(f"{who} {median[who] * 1e3:.4g} ms ({median[who] / median['koubai']:.2f}×)" for who in calls)
        print(f"{name:>18}  first gradient, {STEPS} steps: {row}")
        rows.append({"work": f"{name}, {STEPS} steps, first gradient", "seconds": median})
    for name in ("GARCH", "GARCH, h[t] = …"):
        told = subprocess.run(
            [sys.executable, __file__, "--longest", name], check=True, capture_output=True, text=True
        ).stdout
        taken, peak = map(float, told.split())
        print(f"{name:>18}  first gradient, {MOST_STEPS} steps: koubai {taken:.3g} s, {peak:.3g} GB")
        rows.append(
            {"work": f"{name}, {MOST_STEPS} steps, first gradient", "seconds": {"koubai": taken}, "peak GB": peak}
        )
    return rows


def longest(name: str) -> None:
    """Print what the first gradient of the longest loop takes, and what memory besides that of the peers here."""

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6

    f, start = RECURRENCES[name][0](np, MOST_STEPS)
    taken, before = peak(), time.perf_counter()
    kb.value_and_grad(f, method="backprop")(np.array(start))
    print(time.perf_counter() - before, peak() - taken)


# -- measuring -------------------------------------------------------------------------------------------------------


def agree(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return set(a) == set(b) and all(agree(a[k], b[k]) for k in a)
    return bool(np.allclose(a, b, rtol=1e-9, atol=1e-11))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--longest", choices=RECURRENCES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.longest:
        longest(options.longest)
        return
    rounds = options.rounds
    warnings.simplefilter("ignore")
    where, rows = about(), []
    print(headline(where))
    print(f"{'':>18}{'µs a call (median)':<66}first call, ms")
    for name, makers in cases():
        first, calls = {}, {}
        for who, make in makers.items():
            call = make()
            start = time.perf_counter()
            answer = call()
            first[who] = time.perf_counter() - start
            calls[who] = call
            if who != "koubai" and not all(agree(a, b) for a, b in zip(answer, calls["koubai"](), strict=True)):
                raise SystemExit(f"{name}: {who} and koubai disagree")
        taken = take_turns(calls, rounds, before=THREADS)
        median = {who: statistics.median(values) for who, values in taken.items()}
        row = "  ".join(f"{who} {median[who] * 1e6:.4g} ({median[who] / median['koubai']:.2f}×)" for who in calls)
        print(f"{name:>18}  {row}   first: {'  '.join(f'{who} {first[who] * 1e3:.3g}' for who in calls)}")
        rows.append({"work": name, "seconds": median, "first call": first})
    rows += recurrences(min(rounds, 5))
    rows += tracing()
    rows += memory()
    save("gradient", where, rows)


def tracing(repeats: int = 501) -> list[dict[str, Any]]:
    """Print and return what tracing and reversing take, without the check and the compilation of a first call.

    The minimum is what the work takes; what the median has more is the other load of the machine.
    """
    rows = []
    x = np.random.default_rng(0).uniform(-2, 2, 10_000)
    p, X, Y = mlp_data(np.random.default_rng(0))
    for name, f, args, wrt in (
        ("quad 2-D", quad, (x[:2],), None),
        ("Rosenbrock 100", rosenbrock(np), (x[:100],), None),
        ("Rosenbrock 1e4", rosenbrock(np), (x,), None),
        ("MLP 64-64-10", mlp(np), (p, X, Y), range(len(p))),
    ):
        taken = []
        for _ in range(repeats):
            start = time.perf_counter()
            kb.trace(f, *args).gradient(wrt)
            taken.append(time.perf_counter() - start)
        median, least = statistics.median(taken), min(taken)
        print(f"{name:>18}  trace and reverse: median {median * 1e6:.0f} µs, minimum {least * 1e6:.0f} µs")
        rows.append({"work": f"{name}, trace and reverse", "seconds": {"koubai": median}, "minimum": least})
    return rows


def memory(n: int = 1_000_000) -> list[dict[str, Any]]:
    """Print and return the peak of the first and of a steady call on Rosenbrock, in arrays of x's size beyond x and the
    gradient.
    """
    rows = []
    x = np.random.default_rng(0).uniform(-2, 2, n)
    tracemalloc.start()
    call = kb.value_and_grad(rosenbrock(np), method="backprop")
    for which in ("the first", "a steady"):
        tracemalloc.reset_peak()
        call(x)
        peak = (tracemalloc.get_traced_memory()[1] - x.nbytes) / x.nbytes
        print(f"{'Rosenbrock 1e6':>18}  peak memory of {which} call: {peak:.2f} arrays beyond x and gradient")
        rows.append({"work": f"Rosenbrock 1000000, {which} call", "peak memory, arrays beyond x and gradient": peak})
    tracemalloc.stop()
    return rows


if __name__ == "__main__":
    main()
