"""find_lr beside an exhaustive grid of 60 rates: the steps to the target, and what either costs.

    python benchmarks/learning_rates.py             the table; docs/learning-rates.md is written anew
    python benchmarks/learning_rates.py NAME …      only these functions, printed

For each function of the catalogue, each fit in ../shared/fits.py (if it is there) and each network, with SGD, Momentum,
RMSprop and Adam, and for the functions of benchmarks/unseen.py, which are neither, with Nesterov, AdamW and Adagrad
too: every rate of the grid descends for 1000 steps (networks: 5 to 30 epochs). The target is the f at which 0.1% of the
way from the start to the lowest point that any rate of the grid reaches is left (networks: 5%, in the mean loss over 6
updates). A case is good if find_lr's rate reaches the target in at most twice the steps of the grid's
best, and doesn't diverge. Cost is the evaluations of find_lr by those of the 60 runs, each of which ends at the target.
"""

from __future__ import annotations

import copy
import importlib.util
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from unseen import UNSEEN

import koubai as kb
from koubai import nn

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "learning-rates.md"
OPTIMIZERS = ("SGD", "Momentum", "RMSprop", "Adam")
MORE_OPTIMIZERS = ("Nesterov", "AdamW", "Adagrad")  # for the unseen functions
STEPS, POINTS = 1000, 60
TARGET, NETWORK_TARGET, WINDOW = 1e-3, 5e-2, 6
EPOCHS = {"digits, dense": 5, "digits, CNN": 10, "regression": 30}


def functions():
    cases = {name: (kb.problems[name].f, kb.problems[name].x0) for name in kb.problems.names()}
    file = ROOT.parent / "shared" / "fits.py"
    if file.is_file():
        spec = importlib.util.spec_from_file_location("fits", file)
        fits = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(fits)
        return cases | fits.FITS
    return cases


def networks():
    X, y = nn.datasets.digits()
    images, _ = nn.datasets.digits(images=True)
    rng = np.random.default_rng(0)
    inputs = rng.uniform(-2, 2, (400, 3))
    outputs = np.sin(inputs[:, :1]) * inputs[:, 1:2] + 0.1 * rng.normal(size=(400, 1))
    dense = [nn.Dense(64), nn.ReLU(), nn.Dense(10)]
    cnn = [nn.Conv2D(8, 3), nn.ReLU(), nn.MaxPool2D(2), nn.Flatten(), nn.Dense(10)]
    return {
        "digits, dense": (nn.Network(dense, nn.CrossEntropy(), seed=0), X, y),
        "digits, CNN": (nn.Network(cnn, nn.CrossEntropy(), seed=0), images[:600], y[:600]),
        "regression": (nn.Network([nn.Dense(32), nn.Tanh(), nn.Dense(1)], nn.MSE(), seed=0), inputs, outputs),
    }


def path(f, x0, optimizer, lr):
    """Return f along a descent, and whether it diverged."""
    rate = kb.schedules.constant(lr)  # koubai looks for no better one
    try:
        run = kb.minimize(f, x0, getattr(kb, optimizer)(rate), max_steps=STEPS, gtol=1e-11, record="all")
    except (ValueError, ArithmeticError):  # f raises where this rate leads
        return np.array([np.inf]), True
    return run.history.fun, run.status in (kb.Status.diverged, kb.Status.nonfinite)


def trained(network, X, y, optimizer, epochs, lr):
    twin = copy.deepcopy(network)
    source = nn.batches(X, y, size=32, seed=0)
    flat = [batch for k in range(epochs) for batch in source.epoch(k)]
    chunks = [flat[i : i + WINDOW] for i in range(0, len(flat) - WINDOW + 1, WINDOW)]
    try:
        run = twin.fit(
            lambda k: chunks[k],
            None,
            getattr(kb, optimizer)(kb.schedules.constant(lr)),
            epochs=len(chunks),
            record="off",
        )
    except ValueError:
        return np.array([np.inf]), True
    rows = np.repeat(run.history.epochs.fun, WINDOW)
    return rows if len(rows) else np.array([np.inf]), run.status in (kb.Status.diverged, kb.Status.nonfinite)


def steps_to(fun, level):
    hits = np.flatnonzero(fun <= level)
    return float(hits[0]) if hits.size else np.inf


def compared(name, optimizer, follow, found, share, rates, limit):
    """Return one row of the table."""
    paths = [follow(lr) for lr in rates]
    start = next(fun[0] for fun, _ in paths if np.isfinite(fun[0]))
    lowest = min(float(np.min(fun)) for fun, diverged in paths if not diverged)
    level = lowest + share * (start - lowest)
    times = np.array([np.inf if diverged else steps_to(fun, level) for fun, diverged in paths])
    spent = sum(min(time, len(fun) - 1, limit) for time, (fun, _) in zip(times, paths, strict=True))
    fun, diverged = follow(found.lr)
    mine = np.inf if diverged else steps_to(fun, level)
    best = int(np.argmin(times))
    good = mine <= max(2 * times[best], times[best] + 1)
    return {
        "case": name, "optimizer": optimizer, "lr": found.lr, "steps": mine, "grid": rates[best], "fewest": times[best],
        "good": bool(good), "diverged": bool(diverged), "cost": found.nfev / max(spent, 1), "nfev": found.nfev,
        "grid_nfev": spent,
    }  # fmt: skip


def table(names):
    rows = []
    cases = [(name, *case, optimizer) for name, case in functions().items() for optimizer in OPTIMIZERS]
    cases += [(name, *case, optimizer) for name, case in UNSEEN.items() for optimizer in OPTIMIZERS + MORE_OPTIMIZERS]
    for name, f, x0, optimizer in cases:
        if not names or name in names:
            found = kb.find_lr(f, x0, optimizer)
            middle = -2 if 1e-6 < found.lr < 1e5 else np.log10(found.lr)
            rates = np.logspace(middle - 6, middle + 4, POINTS)
            rows.append(compared(name, optimizer, partial(path, f, x0, optimizer), found, TARGET, rates, STEPS))
            print(line(rows[-1]), flush=True)
    for name, (network, X, y) in networks().items():
        for optimizer in OPTIMIZERS if not names or name in names else ():
            found = kb.find_lr(network, (X, y), optimizer)
            rates = np.logspace(-6, 2, POINTS)
            follow = partial(trained, network, X, y, optimizer, EPOCHS[name])
            steps = EPOCHS[name] * -(-len(X) // 32)
            rows.append(compared(name, optimizer, follow, found, NETWORK_TARGET, rates, steps))
            print(line(rows[-1]), flush=True)
    return rows


def line(row):
    mark = "good" if row["good"] else "DIVERGED" if row["diverged"] else "slower"
    return (
        f"{row['case']:<20} {row['optimizer']:<9} lr {row['lr']:<9.3g} {row['steps']:>5.0f} steps | best of 60: "
        f"{row['grid']:<9.3g} {row['fewest']:>5.0f} | cost {row['cost']:.0%} | {mark}"
    )


def summary(rows):
    nets = set(networks())
    lines = []
    for what, some in (
        ("functions", [row for row in rows if row["case"] not in nets and row["case"] not in UNSEEN]),
        ("unseen functions", [row for row in rows if row["case"] in UNSEEN]),
        ("networks", [row for row in rows if row["case"] in nets]),
    ):
        if some:
            good = sum(row["good"] for row in some)
            cost = sum(row["nfev"] for row in some) / sum(row["grid_nfev"] for row in some)
            lines.append(
                f"{what}: {good} of {len(some)} within twice the steps of the grid's best "
                f"({good / len(some):.1%}), {sum(row['diverged'] for row in some)} diverged, at {cost:.1%} of the "
                f"evaluations of the grid's 60 runs; {sum(row['cost'] > 0.25 for row in some)} cost more than 25%, at "
                f"most {max(row['cost'] for row in some):.0%}"
            )
    return lines


def page(rows):
    head = "| case | optimizer | lr | steps | best of 60 rates | steps | cost |\n|---|---|---|---|---|---|---|\n"
    body = "".join(
        f"| {r['case']} | {r['optimizer']} | {r['lr']:.3g} | {r['steps']:.0f}{'' if r['good'] else ' ✗'} | "
        f"{r['grid']:.3g} | {r['fewest']:.0f} | {r['cost']:.0%} |\n"
        for r in rows
    )
    doc = (__doc__ or "").split("\n\n", 2)[2].strip()
    return (
        "# find_lr beside 60 rates\n\nWritten by `python benchmarks/learning_rates.py`; ✗ marks what took more than "
        f"twice the steps.\n\n{doc}\n\n" + "".join(f"**{text}**\n\n" for text in summary(rows)) + head + body
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    begun = time.perf_counter()
    found = table(sys.argv[1:])
    print("\n".join(summary(found)))
    print(f"{time.perf_counter() - begun:.0f} s")
    if not sys.argv[1:]:
        PAGE.write_text(page(found), encoding="utf-8")
