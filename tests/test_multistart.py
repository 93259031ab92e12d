"""Multistart: the global minima of the classics, the minima told apart, and every start accounted for."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import koubai as kb
from koubai.errors import FallbackWarning, InputError, UnknownNameError
from koubai.search.minima import chance_of_lower


def rastrigin(x):
    return 10 * len(x) + np.sum(x**2 - 10 * np.cos(2 * np.pi * x))


def ackley(x):
    return 20 + np.e - 20 * np.exp(-0.2 * np.sqrt(np.mean(x**2))) - np.exp(np.mean(np.cos(2 * np.pi * x)))


def levy(x):
    w = 1 + (x - 1) / 4
    middle = np.sum((w[:-1] - 1) ** 2 * (1 + 10 * np.sin(np.pi * w[:-1] + 1) ** 2))
    return np.sin(np.pi * w[0]) ** 2 + middle + (w[-1] - 1) ** 2 * (1 + np.sin(2 * np.pi * w[-1]) ** 2)


def griewank(x):
    return 1 + np.sum(x**2) / 4000 - np.prod(np.cos(x / np.sqrt(np.arange(1, len(x) + 1))))


def styblinski_tang(x):
    return np.sum(x**4 - 16 * x**2 + 5 * x) / 2 + 39.16616570377142 * len(x)


def schwefel(x):
    return 418.9828872724339 * len(x) - np.sum(x * np.sin(np.sqrt(np.abs(x))))


def camel(x):
    return (4 - 2.1 * x[0] ** 2 + x[0] ** 4 / 3) * x[0] ** 2 + x[0] * x[1] + (4 * x[1] ** 2 - 4) * x[1] ** 2


def branin(x):
    a = x[1] - 5.1 / (4 * np.pi**2) * x[0] ** 2 + 5 / np.pi * x[0] - 6
    return a**2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x[0]) + 10


def himmelblau(x):
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


def wave(x):
    return x**4 - 3 * x**2 + x


# f, the box of each component, hops in 2 and in 5 dimensions; the least f is 0 for all
CLASSICS = {
    "rastrigin": (rastrigin, (-5.12, 4.9), 0, 100),
    "ackley": (ackley, (-32.0, 30.0), 20, 100),
    "levy": (levy, (-10.0, 9.0), 0, 30),
    "griewank": (griewank, (-600.0, 590.0), 20, 100),
    "styblinski_tang": (styblinski_tang, (-5.0, 4.9), 0, 0),
    "schwefel": (schwefel, (-500.0, 490.0), 0, 100),
}


@pytest.mark.parametrize("name", CLASSICS)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_global_minimum_of_two_variables(name, seed):
    f, box, hops, _ = CLASSICS[name]
    assert kb.multistart(f, [box] * 2, starts=512, hops=hops, seed=seed).best.fun < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSICS)
@pytest.mark.parametrize("seed", range(5))
def test_the_global_minimum_of_five_variables(name, seed):
    f, box, _, hops = CLASSICS[name]
    assert kb.multistart(f, [box] * 5, hops=hops, seed=seed).best.fun < 1e-9


@pytest.mark.parametrize(
    ("f", "box", "minima"),
    [
        (himmelblau, [(-5, 5), (-5, 5)], [0.0] * 4),
        (camel, [(-3, 3), (-2, 2)], [-1.031628453] * 2 + [-0.215463824] * 2 + [2.104250310] * 2),
        (branin, [(-5, 10), (0, 15)], [0.397887358] * 3),
        (wave, (-2, 2), [-3.513905077, -1.070229846]),
        (lambda x: np.sum(x**2), [(1, 2), (-1, 1)], [1.0]),  # on a bound
        (lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2, [(-2, 2)] * 2, [0.0]),  # one bent valley
    ],
)
def test_every_minimum_is_found_once(f, box, minima):
    found = kb.multistart(f, box, starts=256)
    np.testing.assert_allclose([m.fun for m in found.minima], minima, rtol=1e-6, atol=1e-9)
    assert {m.signature for m in found.minima} == {"minimum"}
    assert sum(m.share for m in found.minima) == pytest.approx(1.0)
    assert found.chance_of_lower == (len(minima) + 1) / 255
    assert type(found.best.x) is (float if f is wave else np.ndarray)


def test_minima_side_by_side_are_told_apart_however_many_lie_between():
    """190 of them, and one on a bound; two ends mostly have others on the way between them."""
    found = kb.multistart(lambda x: 1 + x**2 / 4000 - np.cos(x), (-600, 590), starts=2000)
    assert 189 <= len(found.minima) <= 191
    centres = np.array([m.x for m in found.minima if m.x < 589])  # without the bound
    assert np.diff(np.sort(centres)).min() > 6


def test_the_ends_are_those_of_minimize_many_and_a_seed_repeats_them():
    first, again, other = (kb.multistart(himmelblau, [(-5, 5)] * 2, starts=64, hops=3, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.ends.x, again.ends.x)
    assert [m.fun for m in first.minima] == [m.fun for m in again.minima]
    assert not np.array_equal(first.ends.x, other.ends.x)
    starts = np.random.default_rng(0).uniform(-5, 5, (40, 2))
    kept = starts.copy()
    ends = kb.multistart(himmelblau, [(-5, 5)] * 2, starts=starts).ends
    np.testing.assert_array_equal(ends.x, kb.minimize_many(himmelblau, starts, "lbfgs", bounds=[(-5, 5)] * 2).x)
    np.testing.assert_array_equal(starts, kept)


def test_what_did_not_converge_is_counted_and_no_minimum():
    found = kb.multistart(himmelblau, [(-5, 5)] * 2, starts=64, optimizer=kb.SGD(1e-4), max_steps=3)
    assert (found.status, found.minima, found.chance_of_lower) == ({kb.Status.max_steps: 64}, [], 1.0)
    assert found.best.fun == found.ends.fun.min()
    assert found.best.signature == "unfinished: max_steps"
    assert "64 max_steps" in repr(found)


def raises_on_the_left(x):
    if x[0] < -2:
        raise ValueError("no such place")
    return float(np.sum((np.asarray(x) - 1) ** 2))


def untraceable(x):
    return float(f"{(x[0] - 1) ** 2 + x[1] ** 2:.17g}")


def test_starts_where_f_raises_are_counted():
    found = kb.multistart(raises_on_the_left, [(-4, 4)] * 2, starts=16)
    raised = [i for i in found.raised if i >= 0]
    assert 1 <= len(raised) <= 8
    assert all("no such place" in found.raised[i] for i in raised)
    assert found.status[kb.Status.nonfinite] >= len(raised)
    assert found.best.fun < 1e-9


@pytest.mark.filterwarnings("ignore::koubai.errors.GradientWarning")
def test_what_can_not_be_traced_runs_on_an_executor():
    with ThreadPoolExecutor(2) as pool, pytest.warns(FallbackWarning):
        found = kb.multistart(untraceable, [(-4, 4)] * 2, starts=8, executor=pool)
    assert len(found.ends) == 8
    np.testing.assert_allclose(found.best.x, [1, 0], atol=1e-3)


def test_progress_can_end_it():
    class Enough(Exception):
        pass

    def progress(done, total):
        raise Enough

    with pytest.raises(Enough):
        kb.multistart(himmelblau, [(-5, 5)] * 2, progress=progress)


def test_the_chance_that_a_lower_minimum_is_left():
    assert (chance_of_lower(100, 4), chance_of_lower(6, 4), chance_of_lower(1, 0)) == (5 / 99, 1.0, 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bounds": [(1, -1), (0, 1)]}, r"bounds\[0\] is crossed or empty"),
        ({"bounds": [(0, 1), (2, 2)]}, r"bounds\[1\] is crossed or empty"),
        ({"bounds": [(0, math.inf), (0, 1)]}, r"bounds\[0\] must be finite"),
        ({"bounds": [(0, math.nan), (0, 1)]}, r"bounds\[0\] must be finite"),
        ({"bounds": [(-1e308, 1e308), (0, 1)]}, "too wide"),
        ({"bounds": [1, 2, 3]}, r"bounds must be pairs \(low, high\)"),
        ({"bounds": None}, r"bounds must be pairs \(low, high\)"),
        ({"starts": 0}, "starts must be a whole number ≥ 1"),
        ({"starts": 2.5}, "starts must be a whole number ≥ 1"),
        ({"starts": np.zeros((0, 2))}, "starts must be an array"),
        ({"starts": [[0.0, 0.0, 0.0]]}, "starts have 3 components, but bounds are given for 2"),
        ({"starts": [[0.0, 0.0], [9.0, 0.0]]}, "start 1 lies outside its bounds"),
        ({"starts": [[0.0, math.nan]]}, "must be finite"),
        ({"sampling": "grid"}, "sampling must be one of"),
        ({"hops": -1}, "hops must be"),
        ({"seed": -1}, "seed must be"),
        ({"max_steps": -1}, "max_steps must be"),
        ({"gtol": -1.0}, "gtol must be"),
        ({"threads": 0}, "threads must be"),
        ({"optimizer": "lbgfs"}, "did you mean 'lbfgs'"),
        ({"f": lambda x: np.sum(x) * np.nan}, "no descent led to a finite f"),
    ],
)
def test_wrong_input(options, message):
    arguments = {"f": himmelblau, "bounds": [(-5, 5), (-5, 5)], "starts": 16} | options
    with pytest.raises((InputError, UnknownNameError), match=message):
        kb.multistart(arguments.pop("f"), arguments.pop("bounds"), **arguments)


def test_a_ring_of_minima_is_one_place_and_flat():
    for seed in range(3):
        found = kb.multistart(lambda x: (x[0] ** 2 + x[1] ** 2 - 1) ** 2, [(-5, 4.9)] * 2, starts=256, seed=seed)
        assert [m.signature for m in found.minima] == ["flat"]


def test_the_picture_of_shares_has_a_bar_for_each_place_and_for_what_is_left():
    found = kb.multistart(himmelblau, [(-5, 5)] * 2, starts=64)
    assert len(found.plot().patches) == 4
    short = kb.multistart(himmelblau, [(-5, 5)] * 2, starts=8, optimizer=kb.SGD(1e-4), max_steps=3)
    assert [label.get_text() for label in kb.plot.shares(short).get_yticklabels()] == ["unfinished"]
    with pytest.raises(InputError, match="found must be a MultiStart"):
        kb.plot.shares(short.ends)
