"""One fresh process of the cold start tables; `native.py` starts it and reads the JSON that it prints.

    python benchmarks/cold.py koubai           the first 1000-step descent of each function, in seconds
    python benchmarks/cold.py jax              the same by a fresh jit
    python benchmarks/cold.py numba            the same by a fresh njit
    python benchmarks/cold.py latency          koubai: every elementwise optimizer's first call and a later one

Imports and one descent on another function come first and are not counted.
"""

from __future__ import annotations

import gc
import json
import sys
import time
import warnings
from typing import Any

import numpy as np
from peers import FUNCTIONS, GTOL, MAX_STEPS, RATES, STARTS, jax_descent, numba_descent
from report import use_two_cores

LONG = 2100  # steps: machine code takes over after 2000, and its making stands out of what else such a descent takes


def clocked(call: Any, clock: Any = time.perf_counter) -> tuple[float, Any]:
    start = clock()
    answer = call()
    return clock() - start, answer


def both_clocks() -> np.ndarray:
    """The time on the wall, and the processor's time, which the other load of the machine leaves alone."""
    return np.array([time.perf_counter(), time.process_time()])


def koubai(name: str) -> tuple[float, Any, str]:
    import koubai as kb

    def run() -> Any:
        f, x0 = FUNCTIONS[name], np.array(STARTS[name])
        return kb.minimize(lambda x: f(x), x0, kb.SGD(lr=RATES[name]), max_steps=MAX_STEPS, gtol=GTOL)

    taken, run_ = clocked(run)
    return taken, run_.x, run_.executor


def jax(name: str) -> tuple[float, Any, str]:
    import jax

    jax.config.update("jax_enable_x64", True)
    jax.clear_caches()
    x0 = np.array(STARTS[name])
    return *clocked(lambda: np.asarray(jax_descent(name)(x0))), "fori_loop"


def numba(name: str) -> tuple[float, Any, str]:
    x0 = np.array(STARTS[name])
    taken, (path, _, _) = clocked(lambda: numba_descent(name)(x0, RATES[name], MAX_STEPS, GTOL))
    return taken, path[-1], "njit"


def latency() -> list[dict[str, Any]]:
    """Time every elementwise optimizer on Rosenbrock 2-D: the first call, which makes the machine code, and later ones.

    Each call has a function of its own, which is traced and checked anew: what differs is the machine code alone.
    """
    import koubai as kb

    kb.minimize(FUNCTIONS["other"], np.array(STARTS["other"]), kb.SGD(lr=RATES["other"]), max_steps=LONG)
    f, x0 = FUNCTIONS["rosenbrock"], np.array(STARTS["rosenbrock"])
    rows = []
    for name in kb.optimizers.names():
        optimizer = kb.optimizers.resolve(name, lr=1e-4)  # with which none of them ends early
        if optimizer.rule.scope != "element":
            continue

        def descend(optimizer: Any = optimizer) -> Any:
            return kb.minimize(lambda x: f(x), x0, optimizer, max_steps=LONG, gtol=GTOL)

        gc.collect()  # or one optimizer pays for all before it
        first, run = clocked(descend, both_clocks)
        if run.nit != LONG:
            raise SystemExit(f"{name} made {run.nit} of {LONG} steps: {run.message}")
        later = np.median([clocked(descend, both_clocks)[0] for _ in range(5)], axis=0)
        rows.append({"optimizer": name, "more": (first - later).tolist(), "executor": run.executor})
    return rows


def main() -> None:
    use_two_cores()
    warnings.simplefilter("ignore")
    who, *names = sys.argv[1:]
    if who == "latency":
        print(json.dumps(latency()))
        return
    first_descent = {"koubai": koubai, "jax": jax, "numba": numba}[who]
    first_descent("other")
    rows = {}
    for name in names:
        gc.collect()
        taken, x, how = first_descent(name)
        rows[name] = {"seconds": taken, "x": [float(part) for part in x], "how": how}
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
