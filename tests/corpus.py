"""Random compositions of the idioms in tests/support, examined: nothing may be silently wrong.

    python tests/corpus.py --programs 20000 --seed 0 --jobs 2

``--corpus`` examines every variant of every idiom instead, ``--idiom WORD`` those whose names hold the word, ``--show
NUMBER`` prints one composition and everything that was found. Prints a table and the source of each program that is
wrong or broken (see `support.examination.Finding`); the exit status says whether there was one.
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import re
import sys
import time
from collections.abc import Callable, Sequence

from support.composition import compose
from support.examination import Outcome, examine
from support.idioms import IDIOMS
from support.programs import Program
from support.writing import write


def composed(seed: int) -> Outcome:
    return examine(compose(seed))


def written(which: tuple[str, int]) -> Outcome:
    name, number = which
    return examine(write(IDIOMS[name], number))


def table(outcomes: Sequence[Outcome]) -> str:
    """Return what became of the programs, and why."""
    lines = [f"{len(outcomes)} programs, {sum(o.compared for o in outcomes)} comparisons, of which"
             f" {sum(o.skipped for o in outcomes)} had no truth to be compared with"]  # fmt: skip
    for what in ("right", "refused", "broken", "wrong"):
        found = [o for o in outcomes if o.what == what]
        lines.append(f"  {what:8} {len(found):6}  {len(found) / max(1, len(outcomes)):7.2%}")
        if what == "refused":
            followed = sum(o.program.expect == "right" for o in found)
            lines[-1] += f"  ({followed} of them could have been traced)"
        if what != "right":
            reasons = collections.Counter(re.sub(r"<[^>]*>|-?\d[\d.e+-]*", "#", o.reason)[:150] for o in found)
            lines += [f"      {n:5}  {reason}" for reason, n in reasons.most_common(25)]
    return "\n".join(lines)


def every(look: Callable[..., Outcome], which: Sequence[object], jobs: int) -> list[Outcome]:
    """Examine all of these; print the wrong and the broken ones as they come."""
    outcomes: list[Outcome] = []
    started = time.perf_counter()
    with multiprocessing.Pool(jobs) as pool:
        for outcome in pool.imap_unordered(look, which, chunksize=5):
            outcomes.append(outcome)
            if outcome.what in ("wrong", "broken"):
                print(f"{outcome.what}: {shown(outcome)}\n", flush=True)
            if len(outcomes) % 500 == 0:
                passed = time.perf_counter() - started
                print(f"[{len(outcomes)}/{len(which)} {passed:.0f} s]", file=sys.stderr, flush=True)
    return outcomes


def shown(outcome: Outcome) -> str:
    program: Program = outcome.program
    findings = "\n".join(f"# {finding.what}, {finding.check}: {finding.reason}" for finding in outcome.findings[:12])
    return f"{program.name} ({program.layout}, {program.expect})\n{program.text}\n# at {program.points}\n{findings}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Examine koubai on programs as people write them.")
    parser.add_argument("--programs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0, help="the first program is number seed * 1,000,000")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--corpus", action="store_true", help="every variant of every idiom, instead of compositions")
    parser.add_argument("--idiom", metavar="WORD", help="the variants of the idioms whose names hold this")
    parser.add_argument("--show", type=int, metavar="NUMBER", help="print one composition and what becomes of it")
    given = parser.parse_args(arguments)
    if given.show is not None:
        outcome = composed(given.show)
        print(f"{outcome.what}: {shown(outcome)}")
        return int(outcome.what in ("wrong", "broken"))
    if given.corpus or given.idiom is not None:
        word = given.idiom or ""
        which = [(name, i) for name, idiom in IDIOMS.items() if word in name for i in range(idiom.variants)]
        outcomes = every(written, which, given.jobs)
    else:
        first = given.seed * 1_000_000
        outcomes = every(composed, range(first, first + given.programs), given.jobs)
    print(table(outcomes))
    return int(any(outcome.what in ("wrong", "broken") for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
