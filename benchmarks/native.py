"""Whole descents, gradients, many descents at once and optimizer steps: koubai beside its peers, in one run.

    python benchmarks/native.py                    needs jax, numba, optax and torch
    python benchmarks/native.py --only many step   some tables; the file of results is left alone
    python benchmarks/native.py --quick            smaller sizes and fewer rounds, to try the program itself

Every contender does the same work in the same precision on the same data, and the answers are compared before anything
is timed. Peers are compiled and warm, but for the table of cold starts. Contenders take turns within every round, on
two cores. A row shows whether it holds what koubai promises, the ratio to the peer (above 1: koubai is faster) with its
quartiles over the rounds, the promise, and the medians. Times are those of the clock on the wall, but where the table
says otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from report import Row, about, draw_chart, headline, save, take_turns, use_two_cores

use_two_cores()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numba  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
import torch  # noqa: E402
from peers import (  # noqa: E402
    FUNCTIONS,
    GTOL,
    MAX_STEPS,
    RATES,
    STARTS,
    himmelblau,
    jax_descent,
    numba_descent,
)

import koubai as kb  # noqa: E402
from koubai.descent import loop  # noqa: E402
from koubai.descent.arguments import prepared  # noqa: E402
from koubai.descent.compiled_stepper import CompiledLoops  # noqa: E402
from koubai.descent.many import minimize_many  # noqa: E402
from koubai.execute.abi import ROWS, SegmentState, T  # noqa: E402
from koubai.execute.native import Descent  # noqa: E402

jax.config.update("jax_enable_x64", True)
two_torch_threads = partial(torch.set_num_threads, 2)

FREELY = {"reassoc", "contract", "nsz"}  # what lets LLVM vectorise a sum: the hand-written peer may reorder it too
ROUNDS = 15
LONGER = 10_000, 90_000  # steps; their difference tells what one step takes, without what comes before


def same(name: str, own: Any, peers: dict[str, Any], rtol: float, atol: float = 0.0) -> None:
    """Exit unless every peer's answer is koubai's."""
    for who, answer in peers.items():
        for a, b in zip(own, answer, strict=True):
            if not np.allclose(a, b, rtol=rtol, atol=atol):
                raise SystemExit(f"{name}: {who} and koubai disagree:\n{a}\n{b}")


# -- 1: a descent of 1000 steps, warm --------------------------------------------------------------------------------


def compiled_descent(f: Callable[[Any], Any], x0: np.ndarray, optimizer: Any, steps: int) -> Callable[[], SegmentState]:
    """Return the machine code that `kb.minimize` runs, as it runs it, for ``steps`` steps from the start: every test
    for stopping is asked, every row is written, the best point kept. The answer is the memory that it leaves.
    """
    stepper = prepared(f, x0, optimizer, **loop.DEFAULTS | {"max_steps": steps, "gtol": GTOL})
    stepper.begin()
    descent = stepper.descent
    path = descent.objective.path(descent.point.x)
    assert path is not None
    segment = CompiledLoops.of(descent, path).segment(descent, path)
    code = Descent(segment.graphs, segment.loops.tolerances)
    end, mask, rows = descent.recorder.reserve(0, steps)
    segment._load(end, float(descent.lr), rows, mask)
    changed = segment.memory.x, segment.memory.g, segment.memory.numbers, segment.memory.counts
    at_start = [part.copy() for part in changed]

    def call():
        for part, before in zip(changed, at_start, strict=True):
            part[:] = before
        code.run(segment.memory)
        return segment.memory

    return call


def descents(quick: bool) -> Iterator[Row]:
    """The promise is the compiled descent's, as the peers' is: traced and compiled before, history and tests for
    stopping included, which JAX's goes without. Beside it stand, in full, what `kb.minimize` takes with all that Python
    does around: for each of many steps, and for a whole call of 1000, which a loop of Python numbers makes.
    """
    table = "1000 steps, 2-D, in the calling thread's processor time"
    whole = "the whole call of kb.minimize, with every check and the record: shown, nothing is promised"
    rounds = 5 if quick else ROUNDS
    for name in ("quad", "rosenbrock"):
        f, x0, lr = FUNCTIONS[name], np.array(STARTS[name]), RATES[name]
        by_numba, optimizer = numba_descent(name), kb.SGD(lr=lr)
        on_device = jnp.asarray(x0)

        def peers(steps, x0=x0, lr=lr, name=name, by_numba=by_numba, on_device=on_device):
            by_jax = jax_descent(name, steps)
            return {"jax": lambda: by_jax(on_device), "numba": lambda: by_numba(x0, lr, steps, GTOL)}

        calls = {"koubai": compiled_descent(f, x0, optimizer, MAX_STEPS), **peers(MAX_STEPS)}
        memory, (path, values, norms) = calls["koubai"](), calls["numba"]()
        if memory.counts[T] != MAX_STEPS or memory.counts[ROWS] != MAX_STEPS:
            raise SystemExit(f"{name}: machine code made {memory.counts[T]} of {MAX_STEPS} steps")
        same(name, [memory.x], {"jax": [calls["jax"]()]}, rtol=1e-9)
        own = (memory.rows[column][:MAX_STEPS] for column in ("x", "fun", "grad_norm"))
        same(name, [*own], {"numba": [path[1:], values[1:], norms[1:]]}, rtol=1e-9)
        row = take_turns(calls, rounds, burst=0.05, clock=time.thread_time)
        yield Row.of(table, f"{name}, compiled", row, ["jax"], 2.0, "koubai: native")

        taken, executor = {}, {}
        for steps in (MAX_STEPS, *LONGER):
            calls = {
                "koubai": lambda f=f, x0=x0, steps=steps, by=optimizer: kb.minimize(
                    f, x0, by, max_steps=steps, gtol=GTOL
                ),
                **peers(steps),
            }
            run, (path, values, _) = calls["koubai"](), calls["numba"]()
            if run.nit != steps or len(run.history.t) != steps + 1:
                raise SystemExit(f"{name}: koubai made {run.nit} of {steps} steps: {run.message}")
            same(name, [run.x], {"jax": [calls["jax"]()]}, rtol=1e-9)
            same(name, (run.history.x, run.history.fun), {"numba": [path, values]}, rtol=1e-9)
            taken[steps] = take_turns(calls, rounds, burst=0.05, clock=time.thread_time)
            executor[steps] = f"koubai: {run.executor}"
        short, long = LONGER
        step = {
            who: [(b - a) / (long - short) for a, b in zip(taken[short][who], taken[long][who], strict=True)]
            for who in calls
        }
        yield Row.of(table, f"{name}, a later step of minimize", step, ["jax"], 1.0, executor[long])
        note = f"{executor[MAX_STEPS]}; {whole}"
        yield Row.of(table, f"{name}, a whole minimize", taken[MAX_STEPS], ["jax"], None, note)


# -- 2 and 3: from cold ----------------------------------------------------------------------------------------------


def in_fresh_process(cache: str, *arguments: str) -> Any:
    """Run `cold.py` with koubai's cache in the folder ``cache``; return what it says."""
    program = Path(__file__).with_name("cold.py")
    answer = subprocess.run(
        [sys.executable, program, *arguments], env={**os.environ, "KOUBAI_CACHE": cache}, capture_output=True, text=True
    )
    if answer.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {answer.stderr}")
    return json.loads(answer.stdout)


def cold_starts(quick: bool) -> Iterator[Row]:
    table = "1000 steps, 2-D, from a cold function"
    names = ["quad", "rosenbrock"]
    taken: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    for r in range(2 if quick else 7):
        whos = ["koubai", "jax", "numba"]
        ends: dict[str, dict[str, Any]] = {name: {} for name in names}
        for who in whos[r % 3 :] + whos[: r % 3]:
            with tempfile.TemporaryDirectory() as cache:
                for name, answer in in_fresh_process(cache, who, *names).items():
                    taken[name].setdefault(who, []).append(answer["seconds"])
                    ends[name][who] = answer
        for name in names:
            own = ends[name]["koubai"]
            same(name, [own["x"]], {who: [ends[name][who]["x"]] for who in ("jax", "numba")}, rtol=1e-9)
    for name in names:
        how = f"koubai: {ends[name]['koubai']['how']}"
        yield Row.of(table, name, taken[name], ["jax"], 2.0, how)
        yield Row.of(table, name, taken[name], ["numba"], 8.0, how)


def latencies(quick: bool) -> Iterator[Row]:
    # A bound in milliseconds is asked of the processor's time: the clock on the wall would tell of the other load of a
    # shared machine. It stands beside.
    table = "compile latency, Rosenbrock 2-D: what the first call takes more than later ones, in processor time"
    bounds = {"cold": 30e-3, "from disk": 3e-3}
    taken: dict[tuple[str, str], list[list[float]]] = {}
    how = {}
    for _ in range(1 if quick else 5):
        with tempfile.TemporaryDirectory() as cache:
            for which in bounds:  # the second process finds what the first has left on disk
                for row in in_fresh_process(cache, "latency"):
                    taken.setdefault((row["optimizer"], which), []).append(row["more"])
                    how[row["optimizer"]] = row["executor"]
    worst = dict.fromkeys(bounds, 0.0)
    for (name, which), rounds in taken.items():
        wall, processor = (statistics.median(values) for values in zip(*rounds, strict=True))
        worst[which] = max(worst[which], processor)
        figures = {"koubai": processor, "on the wall": wall}
        row = Row(table, f"{name}, {which}", figures, required=bounds[which], note=f"koubai: {how[name]}")
        row.holds = row.holds and how[name] == "native"  # nothing compiled is no latency
        yield row
    for which, bound in bounds.items():
        yield Row(table, f"the slowest of them, {which}", {"koubai": worst[which]}, required=bound)


# -- 4: value and gradient, NumPy in and NumPy out -------------------------------------------------------------------


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def jax_rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@numba.njit(fastmath=FREELY)
def numba_rosenbrock(x):
    """Gather form: one pass, every component of the gradient written once."""
    n = x.size
    g = np.empty(n)
    r, s = x[1] - x[0] * x[0], 1 - x[0]
    total = 100 * r * r + s * s
    g[0] = -400 * x[0] * r - 2 * s
    for i in range(1, n - 1):
        before = x[i] - x[i - 1] * x[i - 1]
        r, s = x[i + 1] - x[i] * x[i], 1 - x[i]
        total += 100 * r * r + s * s
        g[i] = 200 * before - 400 * x[i] * r - 2 * s
    g[n - 1] = 200 * (x[n - 1] - x[n - 2] * x[n - 2])
    return total, g


def log_sum_exp(x):
    top = np.max(x)
    return np.log(np.sum(np.exp(x - top))) + top


def jax_log_sum_exp(x):
    top = jnp.max(x)
    return jnp.log(jnp.sum(jnp.exp(x - top))) + top


@numba.njit(fastmath=FREELY)
def numba_log_sum_exp(x):
    top = x[0]
    for i in range(x.size):
        top = max(top, x[i])
    g = np.empty(x.size)
    total = 0.0
    for i in range(x.size):
        g[i] = np.exp(x[i] - top)
        total += g[i]
    for i in range(x.size):
        g[i] /= total
    return np.log(total) + top, g


def by_jax(f: Callable[[Any], Any], x: np.ndarray) -> Callable[[], Any]:
    compiled = jax.jit(jax.value_and_grad(f))

    def call():
        value, gradient = compiled(x)
        return float(value), np.asarray(gradient)

    return call


def gradients(quick: bool) -> Iterator[Row]:
    table = "value and gradient, NumPy in and out"
    rng = np.random.default_rng(0)
    rounds = 5 if quick else 2 * ROUNDS
    for n, at_least in ((10_000, 5.0), (1_000_000, 2.0)):
        x = rng.uniform(-2, 2, n)
        f = kb.value_and_grad(rosenbrock)
        calls = {
            "koubai": lambda f=f, x=x: f(x),
            "jax": by_jax(jax_rosenbrock, x),
            "numba": lambda x=x: numba_rosenbrock(x),
        }
        same(f"Rosenbrock {n}", calls["koubai"](), {who: calls[who]() for who in ("jax", "numba")}, 1e-9, 1e-9)
        taken = take_turns(calls, rounds)
        how = f"koubai: {f.executor}"
        yield Row.of(table, f"Rosenbrock n={n:g}", taken, ["jax"], at_least, how)
        yield Row.of(table, f"Rosenbrock n={n:g}", taken, ["numba"], 1 / 1.5, how)
    x = 3 * rng.standard_normal(10_000)
    f = kb.value_and_grad(log_sum_exp)
    calls = {
        "koubai": lambda: f(x),
        "jax": by_jax(jax_log_sum_exp, x),
        "jax's own logsumexp": by_jax(jax.scipy.special.logsumexp, x),
        "numba": lambda: numba_log_sum_exp(x),
    }
    same("log-sum-exp", calls["koubai"](), {who: call() for who, call in calls.items() if who != "koubai"}, 1e-9, 1e-15)
    taken = take_turns(calls, rounds)
    yield Row.of(table, "log-sum-exp n=10000", taken, ["jax", "jax's own logsumexp"], 2.0, f"koubai: {f.executor}")


# -- 5: many descents at once ----------------------------------------------------------------------------------------


def jax_many(lr: float, steps: int, adam: bool) -> Callable[[Any], Any]:
    gradient = jax.grad(himmelblau)

    def plain(x):
        return jax.lax.fori_loop(0, steps, lambda _, x: x - lr * gradient(x), x)

    def by_adam(x):
        def update(t, carried):
            x, m, v = carried
            g = gradient(x)
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            m_hat, v_hat = m / (1 - 0.9 ** (t + 1.0)), v / (1 - 0.999 ** (t + 1.0))
            return x - lr * m_hat / (jnp.sqrt(v_hat) + 1e-8), m, v

        return jax.lax.fori_loop(0, steps, update, (x, jnp.zeros_like(x), jnp.zeros_like(x)))[0]

    compiled = jax.jit(jax.vmap(by_adam if adam else plain))
    return lambda starts: compiled(starts).block_until_ready()


@numba.njit(parallel=True, fastmath={"contract"})
def numba_many(starts, lr, steps):
    """Plain descents on Himmelblau's function, 64 starts a block, so that LLVM vectorises across starts."""
    k = starts.shape[0]
    ends = np.empty_like(starts)
    for block in numba.prange((k + 63) // 64):
        first = 64 * block
        size = min(64, k - first)
        x, y = np.empty(64), np.empty(64)
        for j in range(size):
            x[j], y[j] = starts[first + j, 0], starts[first + j, 1]
        for _ in range(steps):
            for j in range(size):
                a, b = x[j] * x[j] + y[j] - 11, x[j] + y[j] * y[j] - 7
                gx, gy = 4 * x[j] * a + 2 * b, 2 * a + 4 * y[j] * b
                x[j] -= lr * gx
                y[j] -= lr * gy
        for j in range(size):
            ends[first + j, 0], ends[first + j, 1] = x[j], y[j]
    return ends


def many(quick: bool) -> Iterator[Row]:
    """koubai does not step a block of 32 starts further in which every bit of x is what it was eight steps before; what
    comes out has the bits that all steps give. With the smaller rate none comes to rest, and all steps are made.
    """
    table = "many descents on Himmelblau's function, 200 steps each, 2 threads"
    k, steps = (10_000 if quick else 1_000_000), 200
    starts = np.random.default_rng(0).uniform(-5, 5, (k, 2))
    on_device = jnp.asarray(starts)
    for name, optimizer, at_least in (
        ("plain", kb.SGD(lr=0.01), 4.0),
        ("plain, none at rest", kb.SGD(lr=0.001), None),
        ("Adam", kb.Adam(lr=0.01), 2.0),
    ):
        by_jax_many = jax_many(optimizer.lr, steps, name == "Adam")
        calls: dict[str, Callable[[], Any]] = {
            "koubai": lambda o=optimizer: minimize_many(himmelblau, starts, o, max_steps=steps, threads=2).x,
            "jax": lambda call=by_jax_many: call(on_device),
        }
        if name != "Adam":
            calls["numba, in blocks"] = lambda lr=optimizer.lr: numba_many(starts, lr, steps)
        own = calls["koubai"]()
        for who in list(calls)[1:]:
            off = np.abs(own - np.asarray(calls[who]())).max(axis=1)
            # Near the border of two basins, one bit decides where a descent ends.
            if not np.isfinite(own).all() or not np.mean(off <= 1e-6) >= 0.9999:
                raise SystemExit(f"{name}: {who} and koubai disagree on {np.mean(~(off <= 1e-6)):.2%} of the starts")
        taken = take_turns(calls, 3 if quick else 7, burst=0.4)
        yield Row.of(table, f"{name}, {k:g} starts", taken, ["jax"], at_least)


# -- 6: one optimizer step -------------------------------------------------------------------------------------------


class TorchLion(torch.optim.Optimizer):
    """Lion by PyTorch's in-place calls, as its users write it: PyTorch has none of its own."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["m"] = torch.zeros_like(p)
                m = state["m"]
                p.add_(torch.lerp(p.grad, m, 0.9).sign_(), alpha=-group["lr"])
                m.lerp_(p.grad, 0.01)


@dataclass
class Way:
    """One way to make a step: the call, what it has made of x, and what sets its threads."""

    call: Callable[[], Any]
    read: Callable[[], np.ndarray]
    before: Callable[[], Any] = lambda: None


def torch_ways(name: str, x: np.ndarray, g: np.ndarray) -> dict[str, Way]:
    """Return the fastest ways that PyTorch has, each with one thread (×1) and with two (×2)."""
    make = {
        "Adam": {"fused": lambda p: torch.optim.Adam([p], fused=True)},
        "AdamW": {"fused": lambda p: torch.optim.AdamW([p], fused=True)},
        "RMSprop": {
            "foreach": lambda p: torch.optim.RMSprop([p], foreach=True),
            "single": lambda p: torch.optim.RMSprop([p], foreach=False),
        },
        "Lion": {"by hand": lambda p: TorchLion([p], lr=1e-3)},
    }[name]
    ways = {}
    for how, optimizer_of in make.items():
        for threads in (1, 2):
            p = torch.from_numpy(x.copy()).requires_grad_()
            p.grad = torch.from_numpy(g)
            ways[f"torch {how} ×{threads}"] = Way(
                optimizer_of(p).step, lambda p=p: p.detach().numpy(), partial(torch.set_num_threads, threads)
            )
    return ways


def optax_lion(x: np.ndarray, g: np.ndarray) -> Way:
    rule = optax.lion(1e-3, b1=0.9, b2=0.99, weight_decay=0.0)
    held = [jnp.array(x), rule.init(jnp.array(x))]
    gradient = jnp.asarray(g)

    def step(x, state, g):
        change, state = rule.update(g, state, x)
        return optax.apply_updates(x, change), state

    compiled = jax.jit(step, donate_argnums=(0, 1))

    def call():
        held[:] = compiled(held[0], held[1], gradient)
        held[0].block_until_ready()

    return Way(call, lambda: np.asarray(held[0]))


def triad(a, b, s, c):
    for i in numba.prange(a.size):
        a[i] = b[i] + s * c[i]


triad_by_one, triad_by_two = numba.njit(fastmath=FREELY)(triad), numba.njit(parallel=True, fastmath=FREELY)(triad)


def triads(n: int) -> dict[str, Callable[[], Any]]:
    """Return a = b + s * c in every way that might be the fastest; it moves 12 bytes an element."""
    b, c = np.random.default_rng(0).standard_normal((2, n), dtype=np.float32)
    a, s = np.zeros(n, np.float32), np.float32(1.5)
    ta, tb, tc = map(torch.from_numpy, (a, b, c))
    return {
        "triad by numba ×1": lambda: triad_by_one(a, b, s, c),
        "triad by numba ×2": lambda: triad_by_two(a, b, s, c),
        "triad by torch ×2": lambda: torch.add(tb, tc, alpha=1.5, out=ta),
    }


BYTES = {
    "Adam": 28,
    "AdamW": 28,
    "Lion": 20,
    "RMSprop": 20,
}  # an element: x, g and the state read, x and the state written


def optimizer_steps(quick: bool) -> Iterator[Row]:
    """PyTorch's step takes gradients as they are. koubai looks at all of them before it writes anything, which reads 4
    bytes an element on top of 28 or 20; with check_finite=False it does the same work as PyTorch's, and still tells of
    what is not finite. From a million numbers on, where memory sets the pace, both are shown.
    """
    table = "one optimizer step, float32, on two cores"
    own = {"Adam": kb.Adam, "AdamW": kb.AdamW, "Lion": lambda: kb.Lion(lr=1e-3), "RMSprop": kb.RMSprop}
    for n in (2, 1000, 100_000) if quick else (2, 1000, 100_000, 1_000_000, 10_000_000):
        x, g = np.random.default_rng(n).standard_normal((2, n), dtype=np.float32)
        for look, (name, optimizer_of) in product([True] if n < 1_000_000 else [True, False], own.items()):
            mine, optimizer = x.copy(), optimizer_of()
            ways = {"koubai": Way(partial(optimizer.update, mine, g, check_finite=look), lambda mine=mine: mine)}
            ways |= torch_ways(name, x, g)
            if name == "Lion":
                ways["optax"] = optax_lion(x, g)
            warm = 300 if n <= 100_000 else 4  # koubai compiles once a few million numbers have been updated
            for way in ways.values():
                way.before()
                for _ in range(warm):
                    way.call()
            if mine.dtype != np.float32:
                raise SystemExit(f"{name}: koubai's parameters are {mine.dtype}")
            peers = [who for who in ways if who != "koubai"]
            same(f"{name} {n}", [mine], {who: [ways[who].read()] for who in peers}, rtol=1e-4, atol=1e-5)
            references = triads(n) if n == 10_000_000 else {}
            calls = {who: way.call for who, way in ways.items()} | references
            before = {who: way.before for who, way in ways.items()}
            burst = 0.06 if n >= 1_000_000 else 0.01  # of some calls, so that threads of the one before are asleep
            before |= dict.fromkeys(references, two_torch_threads)
            taken = take_turns(calls, 5 if quick else 9, burst, before)
            at_least = 5.0 if n <= 1000 else 0.95
            work = f"{name} n={n:g}" + ("" if look else ", check_finite=False")
            yield Row.of(table, work, {who: taken[who] for who in ways}, peers, at_least)
            if references:
                speeds = {who: 12e-9 * n / statistics.median(taken[who]) for who in references}
                speeds["koubai"] = BYTES[name] * 1e-9 * n / statistics.median(taken["koubai"])
                best = max(references, key=speeds.__getitem__)
                yield Row(table, f"{work}, memory", speeds, (best,), 0.85, unit="GB/s")


# -- all of it -------------------------------------------------------------------------------------------------------

TABLES: dict[str, Callable[[bool], Iterator[Row]]] = {
    "descents": descents,
    "cold": cold_starts,
    "latency": latencies,
    "gradients": gradients,
    "many": many,
    "step": optimizer_steps,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    where, start, rows = about(), time.perf_counter(), []
    print(headline(where))
    for table in arguments.only:
        for row in TABLES[table](arguments.quick):
            if not rows or rows[-1].table != row.table:
                print(f"\n{row.table}", flush=True)
            print(row, flush=True)
            rows.append(row)
    asked = [row for row in rows if row.holds is not None]
    short = sum(not row.holds for row in asked)
    print(f"\n{len(asked) - short} of {len(asked)} hold, {short} short; {time.perf_counter() - start:.0f} s")
    if len(arguments.only) == len(TABLES) and not arguments.quick:
        save("native", where, rows)
        draw_chart()


if __name__ == "__main__":
    main()
