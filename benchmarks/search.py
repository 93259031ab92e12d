"""Descents from many starts, beside JAX on a batch and SciPy's global optimizers, in one run.

    python benchmarks/search.py            ten minutes; writes its section of benchmarks/results.json
    python benchmarks/search.py --dry      prints only; --maps leaves the global minima out

A map is 1000 × 1000 starts of at most 200 steps. JAX makes all steps of all starts, as a fori_loop under vmap and jit
in float64; koubai is measured at the same ("all steps"), and as `kb.basins`, which leaves a start that has come to rest
and tells the minima apart besides.
"""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from report import Row, about, headline, save, take_turns, use_two_cores

SIDE, STEPS = 1000, 200
BOX = [(-5.0, 5.0), (-5.0, 5.0)]
COLD = """
import time
import koubai as kb
start = time.perf_counter()
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
    """A map of 400 × 400 in a new process that has imported koubai; parsing and compiling are included."""
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


# -- global minima ----------------------------------------------------------------------------------------------------


def rastrigin(x: Any) -> Any:
    return 10 * len(x) + np.sum(x**2 - 10 * np.cos(2 * np.pi * x))


def ackley(x: Any) -> Any:
    return 20 + np.e - 20 * np.exp(-0.2 * np.sqrt(np.mean(x**2))) - np.exp(np.mean(np.cos(2 * np.pi * x)))


def levy(x: Any) -> Any:
    w = 1 + (x - 1) / 4
    middle = (w[:-1] - 1) ** 2 * (1 + 10 * np.sin(np.pi * w[:-1] + 1) ** 2)
    end = (w[-1] - 1) ** 2 * (1 + np.sin(2 * np.pi * w[-1]) ** 2)
    return np.sin(np.pi * w[0]) ** 2 + np.sum(middle) + end


def griewank(x: Any) -> Any:
    return 1 + np.sum(x**2) / 4000 - np.prod(np.cos(x / np.sqrt(np.arange(1, len(x) + 1))))


def styblinski_tang(x: Any) -> Any:
    return np.sum(x**4 - 16 * x**2 + 5 * x) / 2 + 39.16616570377142 * len(x)


def schwefel(x: Any) -> Any:
    return 418.9828872724339 * len(x) - np.sum(x * np.sin(np.sqrt(np.abs(x))))


def six_hump_camel(x: Any) -> Any:
    a, b = x[0] ** 2, x[1] ** 2
    return (4 - 2.1 * a + a**2 / 3) * a + x[0] * x[1] + (4 * b - 4) * b + 1.0316284534898774


def branin(x: Any) -> Any:
    bent = x[1] - 5.1 / (4 * np.pi**2) * x[0] ** 2 + 5 / np.pi * x[0] - 6
    return bent**2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x[0]) + 10 - 0.39788735772973816


# The least f is 0. Boxes whose middle is the minimum are cut, or a search that begins in the middle need not search.
CLASSICS: tuple[tuple[Callable[[Any], Any], tuple[int, ...], Any], ...] = (
    (rastrigin, (2, 5, 10), (-5.12, 4.9)),
    (ackley, (2, 5, 10), (-32, 30)),
    (levy, (2, 5, 10), (-10, 9.5)),
    (griewank, (2, 5, 10), (-600, 590)),
    (styblinski_tang, (2, 5, 10), (-5, 5)),
    (schwefel, (2, 5, 10), (-500, 500)),
    (six_hump_camel, (2,), [(-3, 3), (-2, 2)]),
    (branin, (2,), [(-5, 10), (0, 15)]),
)
HOPS = {2: 20, 5: 100, 10: 200}  # after 1,000 starts
CLOSE = 1e-6


class _Spent(Exception):
    pass


class _Counted:
    """f, with a budget of calls; the least value is kept."""

    def __init__(self, f: Callable[[Any], Any], budget: int) -> None:
        self.f, self.left, self.least = f, budget, np.inf

    def __call__(self, x: Any, *_: Any) -> float:
        if self.left <= 0:
            raise _Spent
        self.left -= 1
        value = float(self.f(x))
        self.least = min(self.least, value)
        return value


def _with_gradient(f: _Counted, gradient: Callable[[Any], Any]) -> dict[str, Any]:
    return {"method": "L-BFGS-B", "jac": lambda x, *_: gradient(x)[1]}


def peers(gradient: Callable[[Any], Any], box: Any) -> dict[str, Callable[[_Counted, int], Any]]:
    """Return SciPy's searches; those that descend get the gradient, whose evaluations are not counted."""
    import scipy.optimize as so

    low, high = np.array(box, float).T

    def hopping(f: _Counted, seed: int) -> Any:
        start = np.random.default_rng(seed).uniform(low, high)
        local = _with_gradient(f, gradient) | {"bounds": box}
        return so.basinhopping(
            f, start, niter=10**6, minimizer_kwargs=local, stepsize=0.1 * (high - low).max(), rng=seed
        )

    def annealing(f: _Counted, seed: int) -> Any:
        local = _with_gradient(f, gradient) | {"bounds": box}
        return so.dual_annealing(f, box, maxiter=10**6, maxfun=10**9, minimizer_kwargs=local, rng=seed)

    def covering(f: _Counted, seed: int) -> Any:
        if (turn := seed % 100) > 2:  # the triangulation of more points in five dimensions takes minutes
            return None
        local = _with_gradient(f, gradient)
        return so.shgo(f, box, n=64 << turn, sampling_method="sobol", minimizer_kwargs=local)

    return {
        "basinhopping": hopping,
        "dual_annealing": annealing,
        "differential_evolution": lambda f, seed: so.differential_evolution(f, box, rng=seed),
        "shgo": covering,
    }


def classics(seeds: int = 20) -> list[dict[str, Any]]:
    """Print and return how often each finds the global minimum, and in what time, for as many evaluations.

    SciPy's searches take minutes for as many: three seeds in two variables, one in five, none in ten. They run with
    their defaults; one that ends before its evaluations are spent begins again with another
    seed (shgo, which has none and always does the same, with twice the points, up to 256), and its best value counts.
    """
    import koubai as kb

    rows: list[dict[str, Any]] = []
    for f, sizes, bounds in CLASSICS:
        for n in sizes:
            box = bounds if isinstance(bounds, list) else [bounds] * n
            rows += _one_classic(kb, f, n, box, seeds, {2: 3, 5: 1, 10: 0}[n])
    shown = [row for row in rows if row["who"] != "koubai" and row["n"] < 10]
    better = sum(row["found"] / row["of"] <= row["koubai found"] for row in shown)
    quicker = sum(row["seconds"] >= 10 * row["koubai seconds"] for row in shown)
    print(f"  of {len(shown)} rows with n = 2 and 5: success no less in {better}, a tenth of the time in {quicker}")
    return rows


def _one_classic(kb: Any, f: Any, n: int, box: Any, seeds: int, peer_seeds: int) -> list[dict[str, Any]]:
    own, found, spent = [], 0, []
    kb.multistart(f, box, starts=64, hops=2)  # compiled before, as the peers' gradient is
    for seed in range(seeds):
        start = time.perf_counter()
        result = kb.multistart(f, box, hops=HOPS[n], seed=seed)
        own.append(time.perf_counter() - start)
        found += result.best.fun < CLOSE
        spent.append(result.nfev)
    seconds = float(np.median(own))
    facts = {"work": f"{f.__name__}, n = {n}", "n": n, "evaluations": int(np.median(spent))}
    rows = [facts | {"who": "koubai", "found": found, "of": seeds, "seconds": seconds}]
    gradient = kb.value_and_grad(f)
    gradient(np.array(box, float).mean(axis=1) + 0.1)
    for who, search in peers(gradient, box).items() if peer_seeds else ():
        hits, taken = 0, []
        for seed in range(1 if who == "shgo" else peer_seeds):
            counted, start, turn = _Counted(f, spent[seed]), time.perf_counter(), 0
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                try:
                    while True:
                        before = counted.left
                        search(counted, 100 * seed + turn)
                        turn += 1
                        if counted.left == before:
                            break
                except _Spent:
                    pass
            taken.append(time.perf_counter() - start)
            hits += counted.least < CLOSE
        rows.append(facts | {"who": who, "found": hits, "of": len(taken), "seconds": float(np.median(taken)),
                             "koubai found": found / seeds, "koubai seconds": seconds})  # fmt: skip
    for row in rows:
        print(
            f"  {row['work']:>24}  {row['who']:24} {row['found']:3} of {row['of']:2}  {row['seconds']:.3g} s",
            flush=True,
        )
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
    if "--maps" not in sys.argv[1:]:
        rows += classics()
    if "--dry" not in sys.argv[1:]:
        save("search", where, rows)


if __name__ == "__main__":
    main()
