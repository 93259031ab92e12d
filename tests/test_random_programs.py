"""A slice of the random programs of programs.py; ``python tests/programs.py`` runs as many as asked for."""

import functools

import pytest
from programs import check, examine, examine_all, shrink, write

from koubai.graph.ops import OPS

PARTS, EACH = 8, 60
FIRST = 900_000_000  # seeds of their own


@pytest.mark.sampled(8)
@pytest.mark.parametrize("part", range(PARTS))
def test_backpropagation_agrees_or_refuses(part):
    first = FIRST + part * EACH
    statistics = examine_all(range(first, first + EACH), look=functools.partial(examine, machine=()))
    assert not statistics.failures, "\n".join(f"{o.seed}: {o.reason}" for o in statistics.failures)
    assert statistics.share("refused") < 0.06, statistics
    assert statistics.share("discarded") < 0.05, statistics


def test_a_program_is_the_same_for_the_same_seed():
    assert [write(seed) for seed in range(20)] == [write(seed) for seed in range(20)]
    assert len({write(seed).source for seed in range(20)}) == 20


@pytest.fixture
def wrong_tanh():
    op = OPS["tanh"]
    right = op.vjp
    object.__setattr__(op, "vjp", (lambda g, y, x: g * (1.0 - y * y) * 1.001,))
    yield
    object.__setattr__(op, "vjp", right)


@pytest.mark.slow
def test_a_wrong_derivative_does_not_pass(wrong_tanh):
    failed = [seed for seed in range(60) if check(write(seed), machine=()).what == "failed"]
    assert len(failed) >= 5
    longest = max((write(seed) for seed in failed), key=lambda program: len(program.body))
    short = shrink(longest)
    assert check(short).what == "failed"
    assert "tanh" in short.source
    assert len(short.body) < len(longest.body)
