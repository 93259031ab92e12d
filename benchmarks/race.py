"""The catalogue's reference table: ten optimizers on every known function, with one budget each.

    python benchmarks/race.py             docs/race.md is written anew
    python benchmarks/race.py NAME …      only these functions, printed

Each has 1000 evaluations of f and its gradient from the function's own start (what its gradient check takes is among
them), and if it takes a rate, the one that kb.find_lr finds there. A cell is the evaluations after which no more than
0.1% of the way from the start down to the lowest point that any of the ten found is left; – says that it never was,
✗ that the descent diverged. The numbers are deterministic on one machine, and may differ by a few between machines.
"""

from __future__ import annotations

import math
import sys
import warnings
from pathlib import Path

import koubai as kb

PAGE = Path(__file__).parents[1] / "docs" / "race.md"
OPTIMIZERS = (
    "sgd",
    "momentum",
    "nesterov",
    "adagrad",
    "rmsprop",
    "adam",
    "nadam",
    "lion",
    "conjugategradient",
    "lbfgs",
)
BUDGET = 1000


def raced(name):
    """Return the row of a function: the text of a cell for each optimizer, and who came first."""
    problem = kb.problems[name]
    found = kb.race(problem.f, problem.x0, {o: o for o in OPTIMIZERS}, budget=BUDGET)
    table = found.table
    at = {o: table["name"].index(o) for o in OPTIMIZERS}
    cells = {}
    for o, i in at.items():
        evaluations = table["evaluations"][i]
        bad = table["diverged"][i] or table["failed"][i]
        cells[o] = f"{evaluations:.0f}" if math.isfinite(evaluations) else "✗" if bad else "–"
    return cells, found.tied


def page(rows):
    names = kb.optimizers.names()
    assert set(OPTIMIZERS) <= set(names), names
    doc = (__doc__ or "").split("\n\n", 2)[2].strip()
    head = f"| function | {' | '.join(OPTIMIZERS)} |\n|---|{'---|' * len(OPTIMIZERS)}\n"
    body = "".join(
        f"| {name} | {' | '.join(f'**{cells[o]}**' if o in tied else cells[o] for o in OPTIMIZERS)} |\n"
        for name, (cells, tied) in rows.items()
    )
    reached = [sum(cells[o].isdigit() for cells, _ in rows.values()) for o in OPTIMIZERS]
    total = f"| reached | {' | '.join(f'{n} of {len(rows)}' for n in reached)} |\n"
    return (
        "# Ten optimizers on the catalogue\n\n"
        "Written by `python benchmarks/race.py`; the first of each row is bold.\n\n"
        f"{doc}\n\n{head}{body}{total}"
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    rows = {}
    for name in sys.argv[1:] or kb.problems.names():
        rows[name] = raced(name)
        print(name, *(f"{o} {cell}" for o, cell in rows[name][0].items()), flush=True)
    if not sys.argv[1:]:
        PAGE.write_text(page(rows), encoding="utf-8")
