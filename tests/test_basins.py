"""Basins: each start of the window has the end that a descent alone has from there."""

import math
import warnings

import numpy as np
import pytest
from matplotlib.text import Text

import koubai as kb
from koubai.errors import InputError, UnknownNameError
from koubai.search.basins import DIVERGED, NONFINITE, UNFINISHED


def himmelblau(x):
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


def wave(x):
    return x**4 - 3 * x**2 + x


def saddle(x):
    return x[0] ** 2 + x[1] ** 4 / 4 - x[1] ** 2 / 2


WINDOW = [(-5.0, 5.0), (-5.0, 5.0)]


def agree(found, optimizer, rows, gtol=1e-6):
    """Compare the labels at these starts with those of `minimize` from there; return how many are minima."""
    width = found.label.shape[1]
    minima = np.array([m.x for m in found.minima])
    compared = 0
    for row in rows:
        i, j = divmod(int(row), width)
        start = [found.x[0][j], found.x[1][i]]
        run = kb.minimize(found.f, start, optimizer, max_steps=found.max_steps, gtol=gtol, record="off")
        label = found.label[i, j]
        if label >= 0:
            assert np.abs(minima - run.x).max(axis=1).argmin() == label, start
            assert run.status in (kb.Status.converged, kb.Status.stalled, kb.Status.max_steps)
            compared += 1
        else:
            wanted = {DIVERGED: "diverged", NONFINITE: "nonfinite", UNFINISHED: "max_steps"}[label]
            assert run.status.name == wanted, start
    return compared


OPTIMIZERS = {"sgd": kb.SGD(0.01), "momentum": kb.Momentum(0.005), "adam": kb.Adam(0.05), "lbfgs": kb.LBFGS()}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_labels_are_those_of_single_descents(name):
    found = kb.basins(himmelblau, WINDOW, optimizer=OPTIMIZERS[name], resolution=(60, 50))
    assert found.label.shape == found.steps.shape == (50, 60)
    assert len(found.minima) == 4 or name == "lbfgs"  # which may also rest at a saddle
    rows = np.random.default_rng(0).choice(3000, 12, replace=False)
    assert agree(found, OPTIMIZERS[name], rows) == 12
    counted = np.bincount(found.label[found.label >= 0], minlength=len(found.minima)).tolist()
    assert [m.count for m in found.minima] == counted


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_two_thousand_labels_are_those_of_single_descents(name):
    found = kb.basins(himmelblau, WINDOW, optimizer=OPTIMIZERS[name], resolution=1000)
    rows = np.random.default_rng(1).choice(10**6, 2000, replace=False)
    assert agree(found, OPTIMIZERS[name], rows) > 1900


def test_threads_change_no_bit():
    one, three = (kb.basins(himmelblau, WINDOW, optimizer=kb.Adam(0.05), resolution=150, threads=n) for n in (1, 3))
    np.testing.assert_array_equal(one.label, three.label)
    np.testing.assert_array_equal(one.steps, three.steps)


def test_steps_are_fewer_near_the_minimum():
    found = kb.basins(himmelblau, WINDOW, optimizer=kb.SGD(0.01), resolution=101)
    best = found.minima[0]
    i, j = (np.abs(found.x[axis] - best.x[axis]).argmin() for axis in (1, 0))
    own = found.label == 0
    assert found.steps[i, j] < np.median(found.steps[own])


def test_a_strip_of_one_variable():
    found = kb.basins(wave, (-2, 2), optimizer=kb.SGD(0.02), resolution=101)
    assert [type(m.x) for m in found.minima] == [float, float]
    np.testing.assert_allclose([m.x for m in found.minima], [-1.300839567, 1.130901123], atol=1e-5)
    top = 0.169938444  # the maximum between them
    np.testing.assert_array_equal(found.label, np.where(found.x[0] < top, 0, 1))
    vector = kb.basins(lambda x: wave(x[0]), [(-2, 2)], optimizer=kb.SGD(0.02), resolution=101)
    np.testing.assert_array_equal(vector.label, found.label)


def test_a_slice_descends_in_all_variables():
    def f(x):
        return himmelblau(x[1:3]) + (x[0] - 1) ** 2 + (x[3] + 2) ** 2

    found = kb.basins(f, WINDOW, optimizer=kb.SGD(0.01), resolution=40, at=[0, 0, 0, 0], axes=(1, 2))
    plane = kb.basins(himmelblau, WINDOW, optimizer=kb.SGD(0.01), resolution=40)
    assert [m.x.shape for m in found.minima] == [(4,)] * 4
    for i, j in np.random.default_rng(0).integers(40, size=(20, 2)):
        own, other = found.minima[found.label[i, j]], plane.minima[plane.label[i, j]]
        np.testing.assert_allclose(own.x, [1, *other.x, -2], atol=1e-3)


@pytest.mark.parametrize(
    ("f", "optimizer", "steps", "code", "name"),
    [
        (himmelblau, kb.SGD(1e-5), 5, UNFINISHED, "unfinished"),
        (lambda x: -np.sum(x**2), kb.SGD(0.5), 300, DIVERGED, "diverged"),
        (lambda x: np.sum(np.log(x - 9)), kb.SGD(0.1), 50, NONFINITE, "nonfinite"),
    ],
)
def test_starts_that_lead_nowhere(f, optimizer, steps, code, name):
    found = kb.basins(f, WINDOW, optimizer=optimizer, resolution=20, steps=steps)
    assert (found.label == code).all()
    assert found.minima == []
    assert found.shares[name] == 1.0
    assert f"100.00% {name}" in repr(found)


def test_part_of_the_window_is_not_finite():
    found = kb.basins(lambda x: np.log(x[0]) ** 2 + x[1] ** 2, WINDOW, optimizer=kb.SGD(0.01), resolution=20)
    assert (found.label[:, found.x[0] < 0] == NONFINITE).all()
    assert (found.label[:, found.x[0] > 1] == 0).all()


def raises_on_the_left(x):
    if x[0] < 0:
        raise ValueError("no such place")
    return float((x[0] - 1) ** 2 + x[1] ** 2)


@pytest.mark.filterwarnings("ignore::koubai.errors.FallbackWarning")
def test_starts_where_f_raises_are_not_finite():
    found = kb.basins(raises_on_the_left, [(-1, 3), (-1, 1)], optimizer=kb.SGD(0.2), resolution=(8, 4), steps=100)
    assert (found.label[:, found.x[0] < 0] == NONFINITE).all()
    assert (found.label[:, found.x[0] > 0] == 0).all()
    assert any("no such place" in text for text in found.raised.values())


def test_searches_tell_at_which_starts_f_raised():
    def f(x):
        if x[0] < 0:
            raise ValueError("no such place")
        return (x[0] - 1) ** 2 + x[1] ** 2

    found = kb.basins(f, [(-1, 3), (-1, 1)], optimizer="lbfgs", resolution=(8, 4))
    assert {row for row in found.raised if row >= 0} == set(np.flatnonzero(found.label.ravel() == NONFINITE))
    assert set(found.raised.values()) == {"ValueError: no such place"}


def test_saddles_are_told():
    """Along the line between two valleys descents come to rest at the saddle."""
    found = kb.basins(saddle, [(-2, 2), (-2, 2)], optimizer=kb.SGD(0.1), resolution=41)
    assert sorted(m.signature for m in found.minima) == ["minimum", "minimum", "saddle"]
    assert (found.label[found.x[1] == 0] == 2).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bounds": [(1, -1), (0, 1)]}, r"bounds\[0\] is crossed or empty"),
        ({"bounds": [(-math.inf, 1), (0, 1)]}, r"bounds\[0\] must be finite"),
        ({"bounds": [(0, 1)] * 3}, "give two pairs, at="),
        ({"resolution": 0}, "resolution must be"),
        ({"resolution": (5, 5, 5)}, "resolution must be"),
        ({"resolution": 10**5}, "take fewer"),
        ({"resolution": "big"}, "resolution must be"),
        ({"steps": 0}, "steps must be"),
        ({"gtol": 0.0}, "gtol must be"),
        ({"at": [0.0, math.nan, 0.0]}, "at must be a vector of finite numbers"),
        ({"at": [0.0, 0.0, 0.0], "axes": (0, 3)}, "axes must be 2 different components"),
        ({"at": [0.0, 0.0, 0.0], "axes": (1, 1)}, "axes must be 2 different components"),
        ({"optimizer": "sdg"}, "did you mean 'sgd'"),
        ({"threads": 0}, "threads must be"),
    ],
)
def test_wrong_input(options, message):
    arguments = {"bounds": WINDOW, "optimizer": kb.SGD(0.01), "resolution": 20} | options
    with pytest.raises((InputError, UnknownNameError), match=message):
        kb.basins(himmelblau, arguments.pop("bounds"), **arguments)


def test_the_map_names_its_minima_and_what_is_none():
    ax = kb.basins(himmelblau, WINDOW, optimizer=kb.SGD(0.01), resolution=30).plot()
    assert [text.get_text() for text in ax.texts] == ["A", "B", "C", "D"]
    log = kb.basins(lambda x: np.log(x[0]) ** 2 + x[1] ** 2, WINDOW, optimizer=kb.SGD(0.01), resolution=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = log.plot()
    names = [text.get_text() for text in drawn.figure.findobj(Text)]
    assert any(name.startswith("not finite") for name in names)
    with pytest.raises(InputError, match="found must be a Basins"):
        kb.plot.basins(log.label)
