"""Every problem of the catalogue against its definition, its own minima, and derivatives found another way."""

import itertools
import pickle

import mpmath as mp
import numpy as np
import pytest
from scipy.optimize import minimize

from koubai.errors import InputError, UnknownNameError
from koubai.functions.problems import Problem, problems

FAMILIES = [name for name in problems if problems[name].minima_in]
CASES = [problems[name] for name in problems] + [
    problems[name].in_dimension(n) for name in FAMILIES for n in (1, 3, 7) if n >= problems[name].least_ndim
]
UNBOUNDED = {"monkey_saddle"}
KINKED = {"ackley"}  # no derivative at the minimum

# The formulas once more, from the literature, in mpmath and for one point.
DEFINITIONS = {
    "parabola": lambda x: (x - 1) ** 2,
    "sphere": lambda *x: sum(a**2 for a in x),
    "shifted_bowl": lambda a, b: (a - 1) ** 2 + (b - 2) ** 2,
    "elongated_bowl": lambda a, b: a**2 / 20 + b**2,
    "ill_conditioned": lambda *x: sum(
        mp.mpf(1000) ** (mp.mpf(i) / max(len(x) - 1, 1)) * a**2 / 2 for i, a in enumerate(x)
    ),
    "matyas": lambda a, b: mp.mpf("0.26") * (a**2 + b**2) - mp.mpf("0.48") * a * b,
    "booth": lambda a, b: (a + 2 * b - 7) ** 2 + (2 * a + b - 5) ** 2,
    "zakharov": lambda *x: (
        sum(a**2 for a in x)
        + sum(mp.mpf(i) / 2 * a for i, a in enumerate(x, 1)) ** 2
        + sum(mp.mpf(i) / 2 * a for i, a in enumerate(x, 1)) ** 4
    ),
    "rosenbrock": lambda *x: sum(100 * (b - a**2) ** 2 + (1 - a) ** 2 for a, b in itertools.pairwise(x)),
    "dixon_price": lambda *x: (
        (x[0] - 1) ** 2 + sum(i * (2 * b**2 - a) ** 2 for i, (a, b) in enumerate(itertools.pairwise(x), 2))
    ),
    "beale": lambda a, b: (
        (mp.mpf("1.5") - a + a * b) ** 2 + (mp.mpf("2.25") - a + a * b**2) ** 2 + (mp.mpf("2.625") - a + a * b**3) ** 2
    ),
    "powell_singular": lambda a, b, c, d: (a + 10 * b) ** 2 + 5 * (c - d) ** 2 + (b - 2 * c) ** 4 + 10 * (a - d) ** 4,
    "saddle": lambda a, b: a**2 / 2 + b**4 / 4 - b**2 / 2,
    "monkey_saddle": lambda a, b: a**3 - 3 * a * b**2,
    "plateau": lambda w, b: (
        (1 / (1 + mp.exp(-b - w)) - mp.mpf("0.8")) ** 2 / 2 + (1 / (1 + mp.exp(w - b)) - mp.mpf("0.2")) ** 2 / 2
    ),
    "easom": lambda a, b: -mp.cos(a) * mp.cos(b) * mp.exp(-((a - mp.pi) ** 2) - (b - mp.pi) ** 2),
    "double_well": lambda x: x**4 - 2 * x**2 + x / 2,
    "two_sines": lambda x: mp.sin(x) + mp.sin(10 * x / 3),
    "forrester": lambda x: (6 * x - 2) ** 2 * mp.sin(12 * x - 4),
    "himmelblau": lambda a, b: (a**2 + b - 11) ** 2 + (a + b**2 - 7) ** 2,
    "three_hump_camel": lambda a, b: 2 * a**2 - mp.mpf("1.05") * a**4 + a**6 / 6 + a * b + b**2,
    "six_hump_camel": lambda a, b: (4 - mp.mpf("2.1") * a**2 + a**4 / 3) * a**2 + a * b - 4 * b**2 + 4 * b**4,
    "branin": lambda a, b: (
        (b - mp.mpf("5.1") / (4 * mp.pi**2) * a**2 + 5 / mp.pi * a - 6) ** 2
        + 10 * (1 - 1 / (8 * mp.pi)) * mp.cos(a)
        + 10
    ),
    "goldstein_price": lambda a, b: (
        (1 + (a + b + 1) ** 2 * (19 - 14 * a + 3 * a**2 - 14 * b + 6 * a * b + 3 * b**2))
        * (30 + (2 * a - 3 * b) ** 2 * (18 - 32 * a + 12 * a**2 + 48 * b - 36 * a * b + 27 * b**2))
    ),
    "mccormick": lambda a, b: mp.sin(a + b) + (a - b) ** 2 - mp.mpf("1.5") * a + mp.mpf("2.5") * b + 1,
    "freudenstein_roth": lambda a, b: (-13 + a + ((5 - b) * b - 2) * b) ** 2 + (-29 + a + ((b + 1) * b - 14) * b) ** 2,
    "peaks": lambda a, b: (
        3 * (1 - a) ** 2 * mp.exp(-(a**2) - (b + 1) ** 2)
        - 10 * (a / 5 - a**3 - b**5) * mp.exp(-(a**2) - b**2)
        - mp.exp(-((a + 1) ** 2) - b**2) / 3
    ),
    "egg_crate": lambda a, b: a**2 + b**2 + 25 * (mp.sin(a) ** 2 + mp.sin(b) ** 2),
    "styblinski_tang": lambda *x: sum(a**4 - 16 * a**2 + 5 * a for a in x) / 2,
    "rastrigin": lambda *x: 10 * len(x) + sum(a**2 - 10 * mp.cos(2 * mp.pi * a) for a in x),
    "ackley": lambda *x: (
        -20 * mp.exp(-mp.mpf("0.2") * mp.sqrt(sum(a**2 for a in x) / len(x)))
        - mp.exp(sum(mp.cos(2 * mp.pi * a) for a in x) / len(x))
        + 20
        + mp.e
    ),
    "levy": lambda *x: (
        mp.sin(mp.pi * (3 + x[0]) / 4) ** 2
        + sum(((a - 1) / 4) ** 2 * (1 + 10 * mp.sin(mp.pi * (3 + a) / 4 + 1) ** 2) for a in x[:-1])
        + ((x[-1] - 1) / 4) ** 2 * (1 + mp.sin(2 * mp.pi * (3 + x[-1]) / 4) ** 2)
    ),
    "griewank": lambda *x: (
        1 + sum(a**2 for a in x) / 4000 - mp.fprod(mp.cos(a / mp.sqrt(i)) for i, a in enumerate(x, 1))
    ),
}


def label(problem: Problem) -> str:
    return f"{problem.name}-{problem.ndim}d"


each_problem = pytest.mark.parametrize("problem", CASES, ids=label)


def points(problem: Problem, count: int) -> np.ndarray:
    """Seeded points within the bounds, in the shape that f takes: (n, count), or (count,) for one plain variable."""
    low, high = np.array(problem.bounds, dtype=float).T[..., np.newaxis]
    sample = np.random.default_rng(20).uniform(low, high, (problem.ndim, count))
    return sample[0] if isinstance(problem.x0, float) else sample


def rows(problem: Problem, sample: np.ndarray) -> list:
    """The points of a sample one by one, in the form of x0."""
    return [float(x) for x in sample] if isinstance(problem.x0, float) else list(np.ascontiguousarray(sample.T))


def test_the_catalogue_is_large_and_complete():
    assert len(problems) >= 20
    assert set(DEFINITIONS) == set(problems)
    assert problems.names() == tuple(problems)
    assert sum(problem.ndim == 1 for problem in map(problems.__getitem__, problems)) >= 4


@each_problem
def test_the_record_is_whole(problem):
    n = problem.ndim
    x0 = np.asarray(problem.x0)
    assert x0.dtype == np.float64
    assert x0.shape == ((n,) if not isinstance(problem.x0, float) else ())
    assert np.isfinite(x0).all()
    low, high = np.array(problem.bounds, dtype=float).T
    assert (low < high).all()
    assert (low <= x0).all()
    assert (x0 <= high).all()
    for minimum in problem.minima:
        assert np.shape(minimum.x) == x0.shape
        assert (low <= minimum.x).all()
        assert (minimum.x <= high).all()
    flags = [minimum.is_global for minimum in problem.minima]
    assert flags == sorted(flags, reverse=True)  # global ones first
    assert any(flags) != (problem.name in UNBOUNDED)
    for text in (problem.name, problem.formula, problem.source):
        assert text
        assert text.isprintable()
    assert "f(" in problem.formula
    assert any(year in problem.source for year in map(str, range(1930, 2026)))
    assert problem.name in repr(problem)


def test_arrays_of_a_record_are_read_only():
    problem = problems["rosenbrock"]
    with pytest.raises(ValueError, match="read-only"):
        problem.x0[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        problem.minima[0].x[0] = 2


@each_problem
def test_f_is_its_definition(problem):
    sample = points(problem, 5)
    definition = DEFINITIONS[problem.name]
    for x in rows(problem, sample):
        with mp.workdps(40):
            exact = definition(*(mp.mpf(float(value)) for value in np.atleast_1d(x)))
        # Terms cancel by at most about 1e3 in these regions.
        assert float(problem.f(x)) == pytest.approx(float(exact), rel=1e-12, abs=1e-13)


@each_problem
def test_the_gradient_against_differences_of_the_definition(problem):
    """Central differences in 50 digits: their own error is near 1e-24, far under float64."""
    definition = DEFINITIONS[problem.name]
    for x in rows(problem, points(problem, 4)):
        with mp.workdps(50):
            at, h = [mp.mpf(float(value)) for value in np.atleast_1d(x)], mp.mpf(10) ** -14
            exact = []
            for i in range(problem.ndim):
                up, down = list(at), list(at)
                up[i] += h
                down[i] -= h
                exact.append(float((definition(*up) - definition(*down)) / (2 * h)))
        gradient = problem.grad(x)
        assert np.shape(gradient) == np.shape(x)
        np.testing.assert_allclose(np.atleast_1d(gradient), exact, rtol=1e-11, atol=1e-11 * np.max(np.abs(exact)))


@each_problem
def test_the_gradient_against_the_complex_step(problem):
    """Im f(x + ih)/h with h = 1e-30 has no rounding of differences at all: many points are cheap."""
    sample = points(problem, 300)
    gradient = problem.grad(sample)
    assert gradient.shape == sample.shape
    components = range(problem.ndim)
    directions = [1j] if sample.ndim == 1 else [1j * np.eye(problem.ndim)[:, [i]] for i in components]
    exact = np.array([problem.f(sample + 1e-30 * direction).imag / 1e-30 for direction in directions])
    scale = np.max(np.abs(exact), axis=0)
    assert np.all(np.abs(gradient - exact.reshape(sample.shape)) <= 1e-12 * scale + 1e-12)


@each_problem
def test_known_minima(problem):
    least = min((minimum.fun for minimum in problem.minima), default=None)
    for minimum in problem.minima:
        assert float(problem.f(minimum.x)) == pytest.approx(minimum.fun, rel=1e-14, abs=1e-14 * problem.ndim)
        # x is known to half an ulp; the curvature here makes of that a gradient of at most about 1e-10.
        np.testing.assert_allclose(problem.grad(minimum.x), 0, atol=1e-10)
        assert minimum.is_global == (minimum.fun == least)
        around = np.random.default_rng(3).normal(scale=1e-3, size=(200, *np.shape(minimum.x)))
        for d in around:
            assert problem.f(minimum.x + d) >= minimum.fun


@pytest.mark.parametrize("name", sorted(KINKED))
def test_the_gradient_at_a_kink_is_the_zero_subgradient(name):
    minimum = problems[name].minima[0]
    assert np.array_equal(problems[name].grad(minimum.x), np.zeros(2))
    assert np.linalg.norm(problems[name].grad(minimum.x + 1e-9)) > 1  # and it is a kink indeed


@each_problem
def test_nothing_lies_below_the_global_minimum(problem):
    """A seeded search: a cloud of points, then a bounded descent from the best of them.

    In two variables or fewer it must also end in no global minimum that is not listed.
    """
    sample = points(problem, 10_000)
    values = problem.f(sample)
    found = []
    for x in np.atleast_2d(sample)[:, np.argsort(values)[:8]].T:
        shaped = (lambda v: v[0]) if sample.ndim == 1 else (lambda v: v)
        leg = minimize(
            lambda v, shaped=shaped: problem.f(shaped(v)),
            x,
            jac=lambda v, shaped=shaped: np.atleast_1d(problem.grad(shaped(v))),
            bounds=problem.bounds,
            method="L-BFGS-B",
        )
        found.append((leg.fun, leg.x))
    if problem.name in UNBOUNDED:
        best = min(found, key=lambda row: row[0])[1]
        assert np.isclose(np.abs(best), np.max(problem.bounds)).any()  # only the box stops it
        return
    least = problem.minima[0].fun
    tolerance = 1e-9 * max(1, abs(least))
    assert values.min() >= least - tolerance
    assert min(fun for fun, _ in found) >= least - tolerance
    if problem.ndim <= 2:
        known = [np.atleast_1d(minimum.x) for minimum in problem.minima if minimum.is_global]
        for fun, x in found:
            if fun <= least + tolerance:
                assert min(np.max(np.abs(x - k)) for k in known) < 1e-2


@each_problem
def test_a_grid_in_one_call_equals_its_points(problem):
    sample = points(problem, 12)
    flat_f = np.array([problem.f(x) for x in rows(problem, sample)])
    flat_g = np.array([problem.grad(x) for x in rows(problem, sample)]).T
    grid = sample.reshape(*sample.shape[:-1], 3, 4)
    before = grid.copy()
    assert problem.f(grid).shape == (3, 4)
    np.testing.assert_allclose(problem.f(grid).ravel(), flat_f, rtol=1e-13, atol=1e-13)
    scale = 1e-13 * np.max(np.abs(flat_g))
    np.testing.assert_allclose(problem.grad(grid).reshape(sample.shape), flat_g, rtol=1e-13, atol=scale)
    assert np.array_equal(grid, before)


@each_problem
def test_one_point_gives_one_number_and_stays_unchanged(problem):
    x = problem.x0 if isinstance(problem.x0, float) else problem.x0.copy()
    value = problem.f(x)
    problem.grad(x)
    assert isinstance(value, float)  # np.float64 is one
    assert np.array_equal(x, problem.x0)


@pytest.mark.parametrize("name", FAMILIES)
def test_families_in_other_dimensions(name):
    problem = problems[name]
    five = problem.in_dimension(np.int64(5))
    assert five.ndim == 5
    assert five.x0.shape == (5,)
    assert np.array_equal(five.x0[:2], problem.x0)
    assert not five.x0.flags.writeable
    assert five.f is problem.f
    assert problem.ndim == 2  # the catalogue's own entry is untouched
    with pytest.raises(InputError, match=r"needs at least \d variable\(s\), got n = 0"):
        problem.in_dimension(0)
    with pytest.raises(InputError, match=r"whole number, got 2\.5"):
        problem.in_dimension(2.5)


def test_a_fixed_problem_has_no_other_dimension():
    with pytest.raises(InputError, match=r"beale has 2 variable\(s\) and no n-dimensional form; got n = 3"):
        problems["beale"].in_dimension(3)
    with pytest.raises(InputError, match="rosenbrock needs at least 2"):
        problems["rosenbrock"].in_dimension(1)


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown problem 'rosenbrok': did you mean 'rosenbrock'") as caught:
        problems["rosenbrok"]
    assert caught.value.suggestion == "rosenbrock"
    assert "rosenbrock" in problems
    assert "rosenbrok" not in problems
    assert 3 not in problems
    with pytest.raises(UnknownNameError, match="unknown problem 3"):
        problems[3]


@each_problem
def test_problems_survive_pickling(problem):
    """Worker processes receive them."""
    twin = pickle.loads(pickle.dumps(problem))
    assert twin.name == problem.name
    assert twin.f(twin.x0) == problem.f(problem.x0)
