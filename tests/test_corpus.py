"""The corpus of programs as people write them; ``python tests/corpus.py`` runs random compositions of its idioms."""

import functools

import numpy as np
import pytest
from support.examination import Outcome, ask, examine
from support.idioms import corpus
from support.truth import argument, slope

PARTS = 24
PROGRAMS = [program for programs in corpus().values() for program in programs]
REFUSED = 0.03  # the largest share


@functools.cache
def outcomes(part: int) -> list[Outcome]:
    return [examine(program) for program in PROGRAMS[part::PARTS]]


def report(found: list[Outcome]) -> str:
    return "\n".join(f"{o.what} {o.program.name}: {o.reason}" for o in found)


def test_there_are_enough_programs():
    assert len(corpus()) >= 40
    assert len(PROGRAMS) >= 600
    assert len({program.text for program in PROGRAMS}) == len(PROGRAMS)


@pytest.mark.parametrize("part", range(PARTS))
def test_no_program_is_silently_wrong(part):
    found = outcomes(part)
    bad = [o for o in found if o.what in ("wrong", "broken")]
    assert not bad, report(bad)
    refused = [o for o in found if o.what == "refused" and o.program.expect == "right"]
    assert len(refused) <= REFUSED * len(found) + 1, report(refused)
    assert sum(o.skipped for o in found) <= 0.05 * sum(o.compared for o in found)


@pytest.mark.parametrize("part", range(PARTS))
def test_the_programs_are_what_they_say(part):
    """Their derivatives exist, by differences at two steps, and ``change`` changes what f returns."""
    for program in PROGRAMS[part::PARTS]:
        with program.instance() as one:
            for point in program.points:
                answer = ask(lambda one=one, point=point: one.f(argument(point)))
                if answer.error is not None or program.expect in ("aloud", "flat"):
                    continue
                truth, error = slope(one.f, point)
                again, _ = slope(one.f, point, 0.013)
                assert error <= program.tolerance * (1 + np.abs(truth).max()), program.name
                np.testing.assert_allclose(again, truth, atol=3 * program.tolerance, rtol=3 * program.tolerance)
            if one.change is not None:
                before = float(one.f(argument(program.points[0])))
                one.change()
                after = float(one.f(argument(program.points[0])))
                assert abs(after - before) > 1e-4 * (1 + abs(before)), f"{program.name}: change() changes nothing"
