"""The bits of all results and every text that is generated, written down to see what a change has moved.

    cd tests; python -m support.replayed write before.json --programs 2000 --jobs 2
    cd tests; python -m support.replayed compare before.json after.json

``write`` runs random programs and graphs through every executor, where they were traced and at odd numbers, and every
optimizer in its updates, its descents, many descents at once, the searches and trainings. ``--texts FOLDER`` keeps the
texts too, a file each. ``compare`` prints each case whose bits or texts differ, by its name, and counts them; the exit
status says whether there was one.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("KOUBAI_CACHE", "off")  # of a text that is on disk nothing is written

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import executors
import programs

import koubai as kb
from koubai.descent import optimizers, search_stepper
from koubai.descent.many import minimize_many
from koubai.errors import KoubaiError
from koubai.execute import library, replay
from koubai.graph.call import Leaves, record_call
from koubai.graph.reverse import reverse

ODD_POINTS = 2
VECTORS = 300  # graphs of each kind
SEARCHES = ("lbfgs", "conjugategradient", "barzilaiborwein", "gradientdescent", "levenbergmarquardt")
MANY = ("sgd", "momentum", "nesterov", "adam", "rmsprop", "adagrad")


class Kept:
    """What is written down of one case: the results' bits and the texts made on the way."""

    def __init__(self) -> None:
        self.bits, self.texts = hashlib.sha1(), []

    def keep(self, value: Any) -> None:
        """Take in a result: its kind, its form and its bits; one NaN is as good as another."""
        if isinstance(value, str | int | type(None)):
            self.bits.update(repr(value).encode())
        elif isinstance(value, dict):
            for name, part in value.items():
                self.bits.update(str(name).encode())
                self.keep(part)
        elif isinstance(value, tuple | list):
            self.bits.update(str(len(value)).encode())
            for part in value:
                self.keep(part)
        else:
            array = np.array(value)
            if array.dtype.kind in "fc":
                array = np.where(np.isnan(array), np.nan, array)
            self.bits.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())

    def row(self) -> list[str]:
        return [self.bits.hexdigest(), hashlib.sha1("\n".join(self.texts).encode()).hexdigest()]


def program(kept: Kept, seed: int) -> None:
    """Run a random program's value and gradient through every executor."""
    written = programs.write(seed)
    f, (first, _), data, _ = written.load()
    leaves = Leaves.of(f, (first, *data), {}, (0,))
    graph = record_call(f, leaves, scalar=True).graph
    graphs(kept, reverse(graph, leaves.active), leaves.values, seed, tuple(executors.MACHINE))


def vectors(kept: Kept, kind: str, seed: int) -> None:
    """Run graphs that machine code takes through every executor."""
    found = executors.Vectors(seed, kind)
    for graph in found.graphs():
        graphs(kept, graph, found.given, seed, ("native",) if kind == "few" else tuple(executors.MACHINE))


def graphs(kept: Kept, graph: Any, given: Sequence[Any], seed: int, machine: Sequence[str]) -> None:
    for name, run in executors.compiled(graph, machine):
        kept.keep(name)
        kept.texts.append(getattr(run, "source", ""))
        for point in (given, *executors.odd_points(given, ODD_POINTS, seed)):
            try:
                kept.keep(run(*point))
            except (ArithmeticError, ValueError, IndexError) as error:
                kept.keep(type(error).__name__)


def rosenbrock(x: Any) -> Any:
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def updates(kept: Kept, name: str) -> None:
    """Make updates of arrays, and a descent long enough for machine code."""
    random = np.random.default_rng(0)
    for shapes in (((5,),), ((3000,), (70, 4), ())):
        optimizer = optimizers.resolve(name)
        params = {f"p{k}": np.array(random.standard_normal(shape)) for k, shape in enumerate(shapes)}
        try:
            for t in range(6):
                grads = {k: np.array(random.standard_normal(p.shape)) for k, p in params.items()}
                optimizer.update(params, grads, fun=1.0 / (t + 1))
        except KoubaiError as error:  # rules that evaluate f themselves
            kept.keep(str(error))
        kept.keep(params)
    ended(kept, kb.minimize(rosenbrock, np.array([-1.2, 1.0]), optimizers.resolve(name), max_steps=4000, gtol=0))


def ended(kept: Kept, run: Any) -> None:
    kept.keep([run.x, run.fun, run.jac, run.nit, run.nfev, run.njev, run.status.name, run.message, run.best_x])
    kept.keep([run.history.t, run.history.x, run.history.fun, run.history.grad_norm, run.history.lr])


def searched(kept: Kept, optimizer: str, problem: str) -> None:
    """Descend by a search, again and again, so that machine code takes over."""
    found = kb.problems[problem]
    f = sums_of_squares if optimizer == "levenbergmarquardt" else found.f
    with mock.patch.object(
        search_stepper, "_code", search_stepper._Code()
    ):  # as in a process that has made no step yet
        for _ in range(4):
            ended(kept, kb.minimize(f, found.x0, optimizer, max_steps=60))


def sums_of_squares(x: Any) -> Any:
    x = np.atleast_1d(x)
    return np.sum((np.exp(-0.3 * np.arange(12.0) * x[0]) - 0.5 + 0.1 * np.sum(x)) ** 2)


def many(kept: Kept, optimizer: str, problem: str) -> None:
    """Descend from many starts at once."""
    found = kb.problems[problem]
    starts = found.x0 + np.random.default_rng(0).uniform(-1, 1, (33, *np.shape(found.x0)))
    ends = minimize_many(found.f, starts, optimizer, max_steps=120)
    kept.keep([ends.x, ends.fun, ends.grad_norm, ends.steps, ends.codes, ends.executor])


def trained(kept: Kept, kind: str) -> None:
    """Train a network."""
    random = np.random.default_rng(0)
    X, y = random.standard_normal((150, 64)), np.arange(150) % 10
    nn = kb.nn
    layers: dict[str, Callable[[], list[Any]]] = {
        "dense": lambda: [nn.Dense(30), nn.ReLU(), nn.Dense(10)],
        "normalised": lambda: [nn.Dense(20), nn.BatchNorm(), nn.Tanh(), nn.Dropout(0.3), nn.Dense(10)],
        "convolution": lambda: [nn.Conv2D(3, 3), nn.ReLU(), nn.MaxPool2D(2), nn.Flatten(), nn.Dense(10)],
    }
    X = X.reshape(-1, 1, 8, 8) if kind == "convolution" else X
    for optimizer in ("sgd", "adam"):
        network = nn.Network(layers[kind](), nn.CrossEntropy(), seed=0)
        run = network.fit(X, y, optimizer, epochs=3)
        kept.keep([run.fun, run.nit, run.status.name, dict(network.params), dict(network.state)])


KINDS: dict[str, Callable[..., None]] = {
    "program": program, "vectors": vectors, "updates": updates, "searched": searched, "many": many, "trained": trained,
}  # fmt: skip


def cases(count: int) -> Iterator[tuple[Any, ...]]:
    """Return every case: its kind and what that is told."""
    yield from (("program", seed) for seed in range(count))
    yield from (("vectors", kind, seed) for kind in ("vectors", "few", "rows") for seed in range(min(count, VECTORS)))
    yield from (("updates", name) for name in optimizers.names())
    yield from (("searched", name, problem) for name in SEARCHES for problem in kb.problems)
    flat = [name for name in kb.problems if np.ndim(kb.problems[name].x0) == 1]
    yield from (("many", name, problem) for name in MANY for problem in flat)
    yield from (("trained", kind) for kind in ("dense", "normalised", "convolution"))


def written(case: tuple[Any, ...]) -> tuple[str, list[str], list[str]]:
    """Return a case's name, its row and its texts."""
    kept = Kept()
    library.clear()
    with warnings.catch_warnings(), np.errstate(all="ignore"), library.texts() as texts:
        warnings.simplefilter("ignore")
        try:
            KINDS[case[0]](kept, *case[1:])
        except (KoubaiError, ArithmeticError, ValueError, IndexError) as error:
            kept.keep(f"{type(error).__name__}: {error}".splitlines()[0])
    kept.texts += texts
    return " ".join(map(str, case)), kept.row(), kept.texts


def begin() -> None:
    """Let a process load what each needs once, whichever cases it gets."""
    while library.available() and not replay.is_loaded():
        kb.minimize(rosenbrock, np.array([-1.2, 1.0]), "lbfgs")


def write(path: Path, count: int, jobs: int, texts: Path | None) -> None:
    rows = {}
    with multiprocessing.get_context("spawn").Pool(jobs, begin) as pool:  # a fork would know what was done before it
        for name, row, found in pool.imap_unordered(written, list(cases(count)), chunksize=8):
            rows[name] = row
            if texts is not None:
                texts.mkdir(parents=True, exist_ok=True)
                (texts / f"{name}.txt").write_text("\n".join(found))
    path.write_text(json.dumps(dict(sorted(rows.items())), indent=0))
    print(f"{len(rows)} cases")


def compare(before: Path, after: Path) -> int:
    """Print what differs; return how many cases do."""
    first, second = json.loads(before.read_text()), json.loads(after.read_text())
    counts: collections.Counter[str] = collections.Counter()
    for name in sorted(first.keys() | second.keys()):
        if name not in first or name not in second:
            what = "only before" if name in first else "only after"
        else:
            pairs = zip(("bits", "texts"), first[name], second[name], strict=True)
            what = " and ".join(part for part, a, b in pairs if a != b)
        if what:
            counts[what] += 1
            print(f"{what}: {name}")
    print(
        f"{len(first)} cases before, {len(second)} after; "
        + (", ".join(f"{n} {w}" for w, n in counts.items()) or "equal")
    )
    return sum(counts.values())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write down bits and texts, or compare what was written.")
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("write")
    writing.add_argument("path", type=Path)
    writing.add_argument("--programs", type=int, default=2000)
    writing.add_argument("--jobs", type=int, default=2)
    writing.add_argument("--texts", type=Path)
    comparing = commands.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    given = parser.parse_args(arguments)
    if given.command == "compare":
        return min(1, compare(given.before, given.after))
    write(given.path, given.programs, given.jobs, given.texts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
