"""Small descents: one optimizer step, 1000 steps of a cold function, whole warm calls, and the time to a target on the
catalogue; and L-BFGS up to a million parameters.

    python benchmarks/descent.py               needs jax, optax, scipy and torch

Everything is float64, from the same starts, in one run. Of the catalogue every problem of two variables or more whose
minimum is known takes part, and every family once more in ten variables. The target is f* + 1e-6 (f(x0) - f*), f* the
global minimum: who ends in another valley has failed. A cost is the calls of f plus the calls of its gradient up to the
target, or the time on the wall, the median of several runs after one that is not counted (compilation is in that one).
Budget: 10,000 calls. Adam's lr is a hundredth of the mean width of the problem's bounds; nothing else has a setting.
A problem that nobody solves, since its start lies in another valley, stays in the count.

The performance profile is that of E. Dolan and J. Moré, "Benchmarking optimization software with performance profiles",
Math. Program. 2002: the fraction of all problems that a solver brings to the target at no more than τ times the cost of
the best solver of that panel.
"""

from __future__ import annotations

import gc
import math
import os
import statistics
import time
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ["KOUBAI_CACHE"] = "off"  # machine code of an earlier run would make a cold function warm
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # two threads that wait for each other make SciPy's L-BFGS-B 100 times as slow

from report import Row, about, headline, save, shown, take_turns, use_two_cores

use_two_cores()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
import scipy.optimize  # noqa: E402
import torch  # noqa: E402
from peers import FUNCTIONS, GTOL, MAX_STEPS, RATES, STARTS, jax_descent  # noqa: E402

import koubai as kb  # noqa: E402
from koubai.descent.search_stepper import SearchStepper  # noqa: E402

jax.config.update("jax_enable_x64", True)
torch.set_default_dtype(torch.float64)

PICTURE = Path(__file__).parents[1] / "docs" / "profile.png"
COLD = 10  # fresh functions
BUDGET = 10_000  # calls of f and of its gradient together
REPEATS, PATIENCE = 5, 0.1  # timed runs of a solver on a problem; fewer once they have taken so many seconds


def check(work: str, own: Any, peers: Mapping[str, Any], rtol: float) -> None:
    """Exit unless every peer's answer is koubai's."""
    for who, answer in peers.items():
        if not np.allclose(own, answer, rtol=rtol, atol=1e-12):
            raise SystemExit(f"{work}: {who} and koubai disagree:\n{own}\n{answer}")


# -- 1: one optimizer step -------------------------------------------------------------------------------------------


def updates() -> Iterator[Row]:
    """Time Adam's step on a dict of two arrays with one number each, after 1000 steps that must agree."""
    x, g = {"w": 1.0, "b": -2.0}, {"w": 0.3, "b": -0.7}
    params, grads = ({k: np.array([v]) for k, v in d.items()} for d in (x, g))
    own = partial(kb.Adam().update, params, grads)

    def by_torch(**options: Any) -> tuple[Callable[[], Any], Callable[[], list[float]]]:
        leaves = {k: torch.tensor([v], requires_grad=True) for k, v in x.items()}
        for k, leaf in leaves.items():
            leaf.grad = torch.tensor([g[k]])
        return torch.optim.Adam(leaves.values(), **options).step, lambda: [leaves[k].item() for k in x]

    adam = optax.adam(1e-3)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(x: Any, state: Any, g: Any) -> Any:
        change, state = adam.update(g, state)
        return optax.apply_updates(x, change), state

    on_device = {k: jnp.array([v]) for k, v in g.items()}
    held = [{k: jnp.array([v]) for k, v in x.items()}]
    held.append(adam.init(held[0]))

    def by_optax() -> None:
        held[:] = step(*held, on_device)
        jax.block_until_ready(held[0])

    torch_steps = {"torch": by_torch(), "torch fused": by_torch(fused=True)}
    calls = {"koubai": own, **{who: call for who, (call, _) in torch_steps.items()}, "optax jit": by_optax}
    for call in calls.values():
        for _ in range(1000):
            call()
    answers = {who: read() for who, (_, read) in torch_steps.items()} | {"optax jit": [float(held[0][k][0]) for k in x]}
    check("Adam's step", [params[k][0] for k in x], answers, rtol=1e-9)
    taken = take_turns(calls, 15)
    yield Row.of("Adam().update on a dict of two numbers", "one step", taken, required=6e-6)


# -- 2: 1000 steps of a cold function --------------------------------------------------------------------------------

TEXTS = {
    "quad": "{a} * ((x[0] - 1) ** 2 + (x[1] - 2) ** 2)",
    "rosenbrock": "{a} * (100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2)",
}


def cold_function(name: str, k: int) -> Callable[[Any], Any]:
    """Return a new function, with a constant of its own: no cache can know it, whatever it asks for."""
    space: dict[str, Any] = {}
    exec(f"def f(x):\n    return {TEXTS[name].format(a=1 + 1e-3 * k)}\n", space)
    return space["f"]


def koubai_loop(f: Any, x0: Any, lr: float) -> Any:
    run = kb.minimize(f, x0, kb.SGD(lr=lr), max_steps=MAX_STEPS, gtol=0)
    if run.nit != MAX_STEPS or len(run.history.t) != MAX_STEPS + 1:
        raise SystemExit(f"koubai made {run.nit} of {MAX_STEPS} steps: {run.message}")
    return run


def torch_loop(f: Any, x0: Any, lr: float) -> Any:
    x = torch.tensor(x0, requires_grad=True)
    optimizer = torch.optim.SGD([x], lr=lr)
    for _ in range(MAX_STEPS):
        optimizer.zero_grad()
        f(x).backward()
        optimizer.step()
    return x.detach().numpy()


def optax_loop(f: Any, x0: Any, lr: float) -> Callable[[], Any]:
    """Return the loop over a compiled step; the first call compiles it."""
    sgd = optax.sgd(lr)

    @jax.jit
    def step(x: Any, state: Any) -> Any:
        change, state = sgd.update(jax.grad(f)(x), state)
        return optax.apply_updates(x, change), state

    def loop() -> Any:
        x = jnp.asarray(x0)
        state = sgd.init(x)
        for _ in range(MAX_STEPS):
            x, state = step(x, state)
        return np.asarray(x)

    return loop


def clocked(call: Callable[[], Any]) -> tuple[tuple[float, float], Any]:
    """Return the seconds on the wall and of this thread, and the answer."""
    wall, own = time.perf_counter(), time.thread_time()
    answer = call()
    return (time.perf_counter() - wall, time.thread_time() - own), answer


def cold_starts() -> Iterator[Row]:
    """Time 1000 steps of functions never seen; each contender has made one descent on another function before."""
    table = f"{MAX_STEPS} steps, 2-D, of a cold function, history kept by koubai"
    f, x0 = FUNCTIONS["other"], np.array(STARTS["other"])
    koubai_loop(f, x0, RATES["other"]), torch_loop(f, x0, RATES["other"]), optax_loop(f, x0, RATES["other"])()
    for name in TEXTS:
        x0, lr = np.array(STARTS[name]), RATES[name]
        taken: dict[str, list[tuple[float, float]]] = {}
        executor = ""
        for k in range(COLD):
            f = cold_function(name, k)
            gc.collect()  # or one contender pays for the one before it
            seconds, run = clocked(partial(koubai_loop, f, x0, lr))
            taken.setdefault("koubai", []).append(seconds)
            executor = run.executor
            if k % 3:
                continue
            loop = optax_loop(f, x0, lr)
            first, by_optax = clocked(loop)
            later = clocked(loop)[0]
            seconds, by_torch = clocked(partial(torch_loop, f, x0, lr))
            taken.setdefault("torch eager", []).append(seconds)
            taken.setdefault("optax, compiled", []).append(later)
            taken.setdefault("optax, its first", []).append(first)
            check(name, run.x, {"torch": by_torch, "optax": by_optax}, rtol=1e-9)
        for i, clock in enumerate(("on the wall", "of the thread")):
            medians = {who: statistics.median(pair[i] for pair in pairs) for who, pairs in taken.items()}
            own = [pair[i] for pair in taken["koubai"]]
            note = f"koubai: {executor}, {shown(min(own), 's')} … {shown(max(own), 's')}"
            yield Row(table, f"{name}, {clock}", medians, required=5e-3, note=note)


# -- 3: whole calls, warm ---------------------------------------------------------------------------------------------


def warm_calls() -> Iterator[Row]:
    """Time the whole of `kb.minimize`, history, every test for stopping and the Run included, when it has been called
    before; JAX's loop has no more to do than to make the steps.
    """
    table = "whole calls of minimize, warm, Rosenbrock 2-D, history kept by koubai, in the thread's processor time"
    name = "rosenbrock"
    f, x0, optimizer = FUNCTIONS[name], np.array(STARTS[name]), kb.SGD(lr=RATES[name])
    on_device = jnp.asarray(x0)
    for steps, required in ((1, None), (MAX_STEPS, 1 / 5), (100_000, 1.0)):
        own = partial(kb.minimize, f, x0, optimizer, max_steps=steps, gtol=GTOL)
        for _ in range(4):
            run = own()
        if run.nit != steps or len(run.history) != steps + 1:
            raise SystemExit(f"koubai made {run.nit} of {steps} steps, and kept {len(run.history)} rows: {run.message}")
        calls = {"koubai": own, "jax": partial(jax_descent(name, steps), on_device)}
        check(f"{steps} steps", run.x, {"jax": np.asarray(calls["jax"]())}, rtol=1e-9)
        taken = take_turns(calls, 9, burst=0.05, clock=time.thread_time)
        if required is None:
            figures = {"koubai": statistics.median(taken["koubai"])}
            yield Row(table, "1 step", figures, required=60e-6, note=f"koubai: {run.executor}")
        else:
            yield Row.of(table, f"{steps} steps", taken, ["jax"], required, f"koubai: {run.executor}")


# -- 4: fits, beside SciPy --------------------------------------------------------------------------------------------

FITS = Path(__file__).resolve().parents[2] / "shared" / "fits.py"  # eight fits as people write them, if they are there


def in_the_loop() -> Iterator[Row]:
    """Time what machine code does of a warm descent: all steps of L-BFGS, searches and f included."""
    table, f, x0 = "a descent by L-BFGS in its loop", FUNCTIONS["rosenbrock"], np.array(STARTS["rosenbrock"])
    taken: list[float] = []
    run_loop = SearchStepper._run

    def timed(self: SearchStepper) -> int:
        start = time.perf_counter()
        why = run_loop(self)
        taken.append(time.perf_counter() - start)
        return why

    optimizer = kb.LBFGS()
    for _ in range(40):  # machine code makes the steps when Python has made some hundreds
        run = kb.minimize(f, x0, optimizer)
    SearchStepper._run = timed  # type: ignore[method-assign]
    sums = []
    for _ in range(300):
        taken.clear()
        run = kb.minimize(f, x0, optimizer)
        sums.append(sum(taken))
    SearchStepper._run = run_loop  # type: ignore[method-assign]
    note = f"koubai: {run.executor}, {run.nit} steps, {run.njev} evaluations"
    yield Row(table, "rosenbrock, 2-D", {"koubai": statistics.median(sums)}, required=25e-6, note=note)


def fits() -> Iterator[Row]:
    """Time whole calls on the eight fits: warm, with koubai's gradient in both; cold, with SciPy's own differences."""
    if not FITS.is_file():
        return
    space: dict[str, Any] = {"__name__": "fits"}
    exec(FITS.read_text(), space)
    own, theirs = "koubai", "SciPy L-BFGS-B"
    for optimizer, by in (("auto", "the default"), ("lbfgs", "L-BFGS")):
        for name, (f, start, *_) in space["FITS"].items():
            x0, gradient = np.array(start, float), kb.value_and_grad(f)
            calls = {
                own: partial(kb.minimize, f, x0, optimizer),
                theirs: partial(scipy.optimize.minimize, gradient, x0, jac=True, method="L-BFGS-B"),
            }
            for _ in range(40):
                run = calls[own]()
            which = type(run.optimizer).__name__
            note = f"koubai: {which}, {run.executor}, {run.njev} gradients, SciPy {calls[theirs]().njev}"
            taken = take_turns(calls, 9, burst=0.05, clock=time.thread_time)
            yield Row.of(f"fits by {by}, warm, koubai's gradient in both", name, taken, [theirs], 3.0, note)
            cold: dict[str, list[float]] = {own: [], theirs: []}
            for _ in range(COLD):
                fresh = types.FunctionType(f.__code__, f.__globals__, f.__name__, f.__defaults__, f.__closure__)
                gc.collect()
                cold[own].append(clocked(partial(kb.minimize, fresh, x0, optimizer))[0][1])
                gc.collect()  # which goes through all of the memory: both begin with the caches as it leaves them
                cold[theirs].append(clocked(partial(scipy.optimize.minimize, f, x0, method="L-BFGS-B"))[0][1])
            yield Row.of(f"fits by {by}, cold, SciPy's own differences", name, cold, [theirs], 1.0, note)


# -- 5: many parameters -----------------------------------------------------------------------------------------------


def chained(x: Any) -> Any:
    """Rosenbrock's function in n variables, as a chain."""
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def many_parameters() -> Iterator[Row]:
    """Time an iteration of L-BFGS with ten pairs; both take f and its gradient from the same program of koubai's."""
    table = "L-BFGS on chained Rosenbrock, an iteration, all evaluations included, in the thread's processor time"
    gradient = kb.value_and_grad(chained)
    for n, iterations in ((100, 150), (1000, 150), (10_000, 100), (100_000, 60), (1_000_000, 60)):
        x0 = np.tile([-1.2, 1.0], n // 2) + 0.1 * np.random.default_rng(0).standard_normal(n)
        options = {"maxiter": iterations, "maxfun": 10**9, "gtol": 0, "ftol": 0, "maxcor": 10}
        made: dict[str, int] = {}

        def own(x0: Any = x0, iterations: int = iterations, made: dict[str, int] = made) -> None:
            made["koubai"] = kb.minimize(chained, x0, kb.LBFGS(), max_steps=iterations, gtol=0).nit

        def scipys(x0: Any = x0, options: Any = options, made: dict[str, int] = made) -> None:
            found = scipy.optimize.minimize(gradient, x0, jac=True, method="L-BFGS-B", options=options)
            made["SciPy"] = found.nit

        taken = take_turns({"koubai": own, "SciPy": scipys}, 3 if n > 10_000 else 7, 0.1, clock=time.thread_time)
        each = {who: [seconds / made[who] for seconds in values] for who, values in taken.items()}
        yield Row.of(table, f"n = {n:g}", each, ["SciPy"], 1 / 0.8)


def history_of_many() -> Iterator[Row]:
    """Weigh what a descent of a million parameters keeps of its path."""
    x0 = np.random.default_rng(0).standard_normal(1_000_000)
    for steps in (20, 300):
        history = kb.minimize(lambda x: x @ x / 2, x0, kb.SGD(lr=1e-3), max_steps=steps, gtol=0).history
        arrays = (getattr(history, name) for name in ("t", "x", "fun", "grad_norm", "lr", "clipped", "projected"))
        size = sum(array.nbytes for array in arrays) / 1e6
        table = "history of 1e6 parameters with record='auto'"
        yield Row(table, f"{steps} steps", {"koubai": size}, required=200.0, unit="MB", note=f"{len(history)} rows")


# -- 6: time to target -----------------------------------------------------------------------------------------------


class Reached(Exception):
    """The target is met."""


class Spent(Exception):
    """The budget is."""


@dataclass
class Task:
    """A problem with its target. lr: for optimizers that need one, the same rule for all problems."""

    name: str
    problem: Any
    target: float
    lr: float


def tasks() -> list[Task]:
    """Return every problem of two variables or more with a known minimum; families in ten variables, too."""
    problems = {}
    for name in kb.problems:
        problem = kb.problems[name]
        if problem.ndim >= 2 and problem.minima:
            problems[name] = problem
    for name in list(problems):
        if problems[name].minima_in is not None:
            problems[f"{name} 10-D"] = problems[name].in_dimension(10)
    answer = []
    for name, problem in problems.items():
        least = min(minimum.fun for minimum in problem.minima)
        start = float(problem.f(problem.x0))
        width = statistics.mean(high - low for low, high in problem.bounds)
        answer.append(Task(name, problem, least + 1e-6 * (start - least), lr=width / 100))
    return answer


class Oracle:
    """f and its gradient as every solver is given them: counted, and ended at the target or the budget."""

    def __init__(self, task: Task) -> None:
        self.task, self.calls, self.best = task, 0, math.inf

    def count(self) -> None:
        if self.calls == BUDGET:
            raise Spent
        self.calls += 1

    def f(self, x: Any) -> Any:
        self.count()
        value = self.task.problem.f(x)
        if value < self.best:
            self.best = float(value)
        if value <= self.task.target:
            raise Reached
        return value

    def grad(self, x: Any) -> Any:
        self.count()
        return self.task.problem.grad(x)


Solver = Callable[[Task], tuple[str, int, float]]  # -> "reached" or why not, calls, the least value seen
OPTIMIZERS: dict[str, Callable[[Task], Any]] = {
    "koubai LBFGS": lambda task: kb.LBFGS(),
    "koubai CG": lambda task: kb.ConjugateGradient(),
    "koubai GD, Armijo": lambda task: kb.GradientDescent(),
    "koubai Adam": lambda task: kb.Adam(lr=task.lr),
}


def asked(solve: Callable[[Oracle], Any], task: Task) -> tuple[str, int, float]:
    """Let a solver ask the oracle until it is ended, or gives up."""
    oracle = Oracle(task)
    outcome = "ended"
    try:
        solve(oracle)
    except Reached:
        outcome = "reached"
    except Spent:
        outcome = "budget"
    return outcome, oracle.calls, oracle.best


def koubai_given(optimizer: Callable[[Task], Any], oracle: Oracle) -> None:
    task = oracle.task
    kb.minimize(oracle.f, task.problem.x0, optimizer(task), grad=oracle.grad, max_steps=BUDGET, gtol=0)


def koubai_own(optimizer: Callable[[Task], Any], task: Task) -> tuple[str, int, float]:
    """Descend by backpropagation on the plain function, up to the target as `minimize` knows it."""
    run = kb.minimize(
        task.problem.f, task.problem.x0, optimizer(task), max_steps=BUDGET // 2, gtol=0, target=task.target
    )
    calls = run.nfev + run.njev
    within = calls <= BUDGET
    outcome = "reached" if run.success and within else "ended" if within and run.status != "max_steps" else "budget"
    return outcome, calls, float(run.best_fun)


def by_scipy(method: str, options: dict[str, Any], own: bool, oracle: Oracle) -> None:
    scipy.optimize.minimize(
        oracle.f, oracle.task.problem.x0, method=method, jac=None if own else oracle.grad, options=options
    )


SCIPY: dict[str, tuple[str, dict[str, Any]]] = {
    "SciPy BFGS": ("BFGS", {"gtol": 0, "maxiter": BUDGET}),
    "SciPy L-BFGS-B": ("L-BFGS-B", {"gtol": 0, "ftol": 0, "maxiter": BUDGET, "maxfun": BUDGET}),
}


def by_torch(oracle: Oracle) -> None:
    x = torch.tensor(oracle.task.problem.x0, requires_grad=True)
    point = x.detach().numpy()  # the same memory

    def closure() -> float:
        value = oracle.f(point)
        x.grad = torch.from_numpy(oracle.grad(point))
        return float(value)

    torch.optim.LBFGS(
        [x], lr=1, max_iter=BUDGET, max_eval=BUDGET, tolerance_grad=0, tolerance_change=0, history_size=10,
        line_search_fn="strong_wolfe",
    ).step(closure)  # fmt: skip


def with_jax(f: Any) -> Callable[[Any], Any]:
    """Return the same text with jax.numpy for numpy."""
    return types.FunctionType(f.__code__, f.__globals__ | {"np": jnp}, f.__name__, f.__defaults__, f.__closure__)


def optax_solver(task: Task) -> Solver:
    """Return optax.lbfgs as its documentation runs it, each step compiled; it raises where jax can't trace f."""
    f, lbfgs = with_jax(task.problem.f), optax.lbfgs(memory_size=10)
    value_and_grad = optax.value_and_grad_from_state(f)

    @jax.jit
    def step(x: Any, state: Any) -> Any:
        value, g = value_and_grad(x, state=state)
        change, state = lbfgs.update(g, state, x, value=value, grad=g, value_fn=f)
        trials = optax.tree_utils.tree_get(state, "num_linesearch_steps")
        return optax.apply_updates(x, change), state, optax.tree_utils.tree_get(state, "value"), trials

    def solve(task: Task) -> tuple[str, int, float]:
        x = jnp.asarray(task.problem.x0)
        state = lbfgs.init(x)
        evaluations, best = 1, math.inf  # the line search keeps value and gradient for the next step
        while 2 * evaluations < BUDGET:
            before = x
            x, state, value, trials = step(x, state)
            evaluations += int(trials)
            best = min(best, float(value))
            if best <= task.target:
                return "reached", 2 * evaluations, best
            if bool((x == before).all()) or not math.isfinite(value):
                return "ended", 2 * evaluations, best
        return "budget", 2 * evaluations, best

    return solve


GIVEN, OWN = "with the catalogue's gradient", "with each library's own derivative"
PANELS: dict[str, dict[str, Callable[[Task], Solver]]] = {
    GIVEN: {
        **{who: (lambda _, o=o: partial(asked, partial(koubai_given, o))) for who, o in OPTIMIZERS.items()},
        **{who: (lambda _, s=s: partial(asked, partial(by_scipy, *s, False))) for who, s in SCIPY.items()},
        "torch LBFGS": lambda _: partial(asked, by_torch),
    },
    OWN: {
        **{who: (lambda _, o=o: partial(koubai_own, o)) for who, o in OPTIMIZERS.items()},
        **{f"{who}, 2-point": (lambda _, s=s: partial(asked, partial(by_scipy, *s, True))) for who, s in SCIPY.items()},
        "optax lbfgs, jit": optax_solver,
    },
}


def measured(task: Task, make: Callable[[Task], Solver]) -> dict[str, Any]:
    """Run a solver on a problem once, and, where it reaches the target, some more times by the clock."""
    try:
        solve = make(task)
        outcome, calls, best = solve(task)
    except Exception as error:  # a solver that fails is a result, not the end of the others
        return {"outcome": "error", "error": f"{type(error).__name__}: {error}".splitlines()[0][:120]}
    row: dict[str, Any] = {"outcome": outcome, "calls": calls, "f": best}
    if outcome == "reached":
        taken: list[float] = []
        while len(taken) < REPEATS and sum(taken) < PATIENCE:
            taken.append(clocked(partial(solve, task))[0][0])
        row["seconds"] = statistics.median(taken)
    return row


def cell(row: Mapping[str, Any]) -> str:
    return f"{row['calls']} {shown(row['seconds'], 's')}" if row["outcome"] == "reached" else f"✗ {row['outcome']}"


def to_target() -> list[dict[str, Any]]:
    """Print and return what every solver needs on every problem."""
    rows = []
    todo = tasks()
    for panel, solvers in PANELS.items():
        print(f"\ntime to target, {panel}: calls of f and gradient, time; ✗ the target was not reached", flush=True)
        print(f"{'':23}" + "".join(f"{who:>24}" for who in solvers))
        for task in todo:
            line = {who: measured(task, make) for who, make in solvers.items()}
            print(f"{task.name:23}" + "".join(f"{cell(row):>24}" for row in line.values()), flush=True)
            rows.append({"table": panel, "work": task.name, "target": task.target, "solvers": line})
        for who in solvers:
            errors = [row for row in rows if row["table"] == panel and row["solvers"][who]["outcome"] == "error"]
            for row in errors:
                print(f"  {who}, {row['work']}: {row['solvers'][who]['error']}")
    return rows


# -- 7: performance profiles -----------------------------------------------------------------------------------------


def ratios(rows: list[dict[str, Any]], panel: str, cost: str) -> dict[str, np.ndarray]:
    """Return every solver's cost by that of the best, a problem each; inf where it failed."""
    ours = [row["solvers"] for row in rows if row["table"] == panel]
    costs = {who: np.array([line[who].get(cost, np.inf) if line[who]["outcome"] == "reached" else np.inf
                            for line in ours], dtype=float) for who in ours[0]}  # fmt: skip
    best = np.min(list(costs.values()), axis=0)
    solved = np.isfinite(best)
    return {who: np.where(solved, values / np.where(solved, best, 1), np.inf) for who, values in costs.items()}


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Print and return, for each solver, the problems solved and its profile at 1, 2 and 10."""
    answer = []
    for panel in PANELS:
        print(
            f"\nperformance profile, {panel}: the fraction of the problems solved within 1×, 2×, 10× of the best's cost"
        )
        by = {cost: ratios(rows, panel, cost) for cost in ("calls", "seconds")}
        unsolved = int(np.isinf(list(by["calls"].values())).all(axis=0).sum())
        print(f"  (nobody solves {unsolved})")
        for who in PANELS[panel]:
            r = by["calls"][who]
            row = {"table": f"profile, {panel}", "work": who, "solved": int(np.isfinite(r).sum()), "of": len(r)}
            for cost, values in by.items():
                row[cost] = [float(np.mean(values[who] <= tau)) for tau in (1, 2, 10)]
            texts = ("  ".join(f"{part:4.0%}" for part in row[cost]) for cost in by)
            print(f"  {who:26}  {row['solved']:3} of {row['of']}   calls {next(texts)}   time {next(texts)}")
            answer.append(row)
    return answer


def draw_profiles(rows: list[dict[str, Any]], where: Mapping[str, Any]) -> None:
    """Draw both profiles of both panels into `PICTURE`: koubai's lines drawn through, the peers' dashed."""
    from matplotlib.figure import Figure

    from koubai.plot import style

    looks = {
        "koubai LBFGS": (style.END, "-"), "koubai CG": (style.PATH, "-"), "koubai GD, Armijo": (style.THIRD, "-"),
        "koubai Adam": (style.BEST, "-"), "SciPy BFGS": (style.DARK, "--"), "SciPy L-BFGS-B": (style.CURVE, "--"),
        "torch LBFGS": ("#777777", "-."), "optax lbfgs": ("#0072B2", "-."),
    }  # fmt: skip
    figure = Figure(figsize=(11, 8), layout="constrained")
    grid = figure.subplots(2, 2, sharey=True)
    for line, panel in zip(grid, PANELS, strict=True):
        for ax, (cost, name) in zip(line, (("calls", "calls of f and gradient"), ("seconds", "time")), strict=True):
            by_solver = ratios(rows, panel, cost)
            finite = np.concatenate([r[np.isfinite(r)] for r in by_solver.values()])
            end = 1.15 * finite.max()
            for who, r in by_solver.items():
                colour, dashes = looks[who.partition(",")[0] if who not in looks else who]
                x = np.concatenate([[1], np.sort(r[np.isfinite(r)]), [end]])
                y = np.concatenate([[np.mean(r <= 1)], np.arange(1, len(x) - 1) / len(r), [np.isfinite(r).mean()]])
                ax.step(
                    x, np.maximum.accumulate(y), where="post", color=colour, linestyle=dashes, linewidth=2, label=who
                )
            ax.set_xscale("log")
            ax.set_xlim(1, end)
            ax.set_ylim(0, 1)
            ax.grid(color="#E0E0E0", linewidth=0.8)
            ax.set_axisbelow(True)
            ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
            ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
            for side in ("top", "right"):
                ax.spines[side].set_visible(False)
            ax.set_title(f"{name}, {panel}", fontsize="medium")
        line[0].set_ylabel(f"of {sum(row['table'] == panel for row in rows)} problems")
        line[1].legend(loc="lower right", fontsize="small", framealpha=0.9)
    for ax in grid[1]:
        ax.set_xlabel("within so many times the cost of the best (log scale)")
    versions = ", ".join(f"{name} {where['versions'][name]}" for name in ("numpy", "scipy", "torch", "optax", "jax"))
    figure.suptitle("Who reaches f* + 1e-6 (f(x0) − f*), and at what cost: higher is better", fontsize="large")
    figure.supxlabel(
        f"{where['machine']['processor']}; {versions}; {where['date'][:10]}; make bench",
        fontsize="x-small", color="#555555", parse_math=False,
    )  # fmt: skip
    figure.savefig(PICTURE, dpi=120, metadata={"Software": None})


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    where, start = about(), time.perf_counter()
    where["versions"]["scipy"] = metadata.version("scipy")
    print(headline(where))
    rows: list[Row | Mapping[str, Any]] = []
    for table in (updates, cold_starts, warm_calls, in_the_loop, fits, many_parameters, history_of_many):
        for row in table():
            if not rows or rows[-1].table != row.table:
                print(f"\n{row.table}", flush=True)
            print(row, flush=True)
            rows.append(row)
    on_problems = to_target()
    rows += on_problems + summary(on_problems)
    save("descent", where, rows)
    draw_profiles(on_problems, where)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
