"""Descents from many starts, beside JAX on a batch and SciPy's global optimizers, in one run.

    python benchmarks/search.py            a minute or two; writes its section of benchmarks/results.json
    python benchmarks/search.py --dry      prints only

A map is 1000 × 1000 starts of at most 200 steps. JAX makes all steps of all starts, as a fori_loop under vmap and jit
in float64; koubai is measured at the same ("all steps"), and as `kb.basins`, which leaves a start that has come to rest
and tells the minima apart besides.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from report import Row, about, headline, save, take_turns, use_two_cores

SIDE, STEPS = 1000, 200
BOX = [(-5.0, 5.0), (-5.0, 5.0)]
COLD = """
import time
start = time.perf_counter()
import koubai as kb
f = kb.parse("(x**2 + y - 11)**2 + (x + y**2 - 7)**2")
found = kb.basins(f, [(-5, 5), (-5, 5)], optimizer=kb.SGD(0.01))
assert len(found.minima) == 4
print(time.perf_counter() - start)
"""


def himmelblau(x: Any) -> Any:
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


def grid() -> Any:
    line = np.linspace(-5.0, 5.0, SIDE)
    return np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)


def jax_maps(lr: float) -> dict[str, Callable[[Any], Any]]:
    """Return the end of each start by plain descent and by Adam; the answers are awaited."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def plain(x):
        return jax.lax.fori_loop(0, STEPS, lambda _, x: x - lr * jax.grad(himmelblau)(x), x)

    def adam(x):
        def step(t, state):
            x, m, v = state
            g = jax.grad(himmelblau)(x)
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            t = t + 1.0
            return x - 0.05 * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8), m, v

        return jax.lax.fori_loop(0, STEPS, step, (x, jnp.zeros(2), jnp.zeros(2)))[0]

    maps = {"sgd": jax.jit(jax.vmap(plain)), "adam": jax.jit(jax.vmap(adam))}
    return {name: lambda x, call=call: call(x).block_until_ready() for name, call in maps.items()}


def basins(rounds: int = 5) -> list[Row]:
    import koubai as kb

    rows, starts, maps = [], grid(), jax_maps(0.01)
    for name, optimizer in (("sgd", kb.SGD(0.01)), ("adam", kb.Adam(0.05))):
        own = kb.minimize_many(himmelblau, starts, optimizer, max_steps=STEPS).x
        np.testing.assert_allclose(own[::997], np.asarray(maps[name](starts))[::997], rtol=1e-6, atol=1e-6)
        peer = {"jax": lambda name=name: maps[name](starts)}
        work = {
            f"basins, {name}": lambda optimizer=optimizer: kb.basins(
                himmelblau, BOX, optimizer=optimizer, resolution=SIDE, steps=STEPS
            ),
            f"all steps, {name}": lambda optimizer=optimizer: kb.minimize_many(
                himmelblau, starts, optimizer, max_steps=STEPS
            ),
        }
        for title, call in work.items():
            rows.append(Row.of("basins", title, take_turns({"koubai": call} | peer, rounds), ["jax"]))
    return rows


def cold(rounds: int = 5) -> Row:
    """A map of 400 × 400 in a new process, import and parsing included."""
    taken = []
    for _ in range(rounds):
        done = subprocess.run([sys.executable, "-c", COLD], capture_output=True, text=True, check=True)
        taken.append(float(done.stdout))
    return Row.of("basins", "400 × 400 from kb.parse, cold", {"koubai": taken})


def lbfgs(rounds: int = 5) -> Row:
    """The peer is SciPy's L-BFGS-B, a thousandth of the starts, times a thousand."""
    import scipy.optimize

    import koubai as kb

    starts = np.random.default_rng(0).uniform(-5, 5, (100_000, 2))

    def gradient(x):
        a, b = x[0] ** 2 + x[1] - 11, x[0] + x[1] ** 2 - 7
        return np.array([4 * x[0] * a + 2 * b, 2 * a + 4 * x[1] * b])

    def peer():
        for x in starts[::1000]:
            scipy.optimize.minimize(himmelblau, x, jac=gradient, method="L-BFGS-B", options={"gtol": 1e-6})

    taken = take_turns({"koubai": lambda: kb.minimize_many(himmelblau, starts, "lbfgs"), "scipy": peer}, rounds)
    taken["scipy"] = [1000 * value for value in taken["scipy"]]
    return Row.of("multistart", "100,000 starts, L-BFGS", taken, ["scipy"])


def rastrigin(x: Any) -> Any:
    return 10 * len(x) + np.sum(x**2 - 10 * np.cos(2 * np.pi * x))


def ackley(x: Any) -> Any:
    return 20 + np.e - 20 * np.exp(-0.2 * np.sqrt(np.mean(x**2))) - np.exp(np.mean(np.cos(2 * np.pi * x)))


def griewank(x: Any) -> Any:
    return 1 + np.sum(x**2) / 4000 - np.prod(np.cos(x / np.sqrt(np.arange(1, len(x) + 1))))


def schwefel(x: Any) -> Any:
    return 418.9828872724339 * len(x) - np.sum(x * np.sin(np.sqrt(np.abs(x))))


def classics(n: int = 5, seeds: int = 5) -> list[dict[str, Any]]:
    """Print and return how often each finds the least f, 0, to 1e-6, and in what time."""
    import scipy.optimize

    import koubai as kb

    contenders: dict[str, Callable[[Any, Any, int], float]] = {
        "koubai": lambda f, box, seed: kb.multistart(f, box, hops=100, seed=seed).best.fun,
        "dual annealing": lambda f, box, seed: float(scipy.optimize.dual_annealing(f, box, rng=seed).fun),
        "differential evolution": lambda f, box, seed: float(
            scipy.optimize.differential_evolution(f, box, rng=seed, tol=1e-8).fun
        ),
        "shgo": lambda f, box, _: float(scipy.optimize.shgo(f, box, n=256, sampling_method="sobol").fun),
    }
    rows = []
    for f, low, high in (
        (rastrigin, -5.12, 4.9), (ackley, -32, 30), (griewank, -600, 590), (schwefel, -500, 490),
    ):  # fmt: skip
        for who, call in contenders.items():
            found, start = 0, time.perf_counter()
            for seed in range(seeds):
                found += call(f, [(low, high)] * n, seed) < 1e-6
            taken = (time.perf_counter() - start) / seeds
            rows.append({"work": f"{f.__name__}, n = {n}", "who": who, "found": found, "of": seeds, "seconds": taken})
            print(f"  {f.__name__:>10}, n = {n}  {who:24} {found} of {seeds}  {taken:.3g} s each", flush=True)
    return rows


def main() -> None:
    use_two_cores()
    where = about()
    print(headline(where))
    rows: list[Any] = []
    for part in (basins(), [cold()], [lbfgs()]):
        for row in part:
            print(row, flush=True)
        rows += part
    rows += classics()
    if "--dry" not in sys.argv[1:]:
        save("search", where, rows)


if __name__ == "__main__":
    main()
