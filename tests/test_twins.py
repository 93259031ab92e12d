"""What stands in for functions that don't ask their arguments: complete, exact, and loud where it gives up."""

import importlib
import inspect
import warnings

import numpy as np
import pytest
import scipy
import scipy.integrate
import scipy.linalg
import scipy.ndimage
import scipy.optimize
import scipy.signal
import scipy.stats
from numpy.polynomial import Polynomial
from scipy import integrate, stats
from scipy.integrate import simpson
from scipy.interpolate import CubicSpline, RegularGridInterpolator
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial.distance import cdist
from scipy.stats import norm
from supported import ROWS, resolved

import koubai as kb
from koubai.errors import FallbackWarning, TraceError
from koubai.graph.twins import Twins

SCIPY = ("special", "stats", "linalg", "integrate", "spatial", "signal", "interpolate")
FILES = (*(f"scipy.{part}" for part in SCIPY), "numpy.polynomial_bases")
X = np.array([0.3, 1.2, 0.7])
DATA = np.array([0.4, 1.9, 2.2])
NODES = np.array([-1.0, 0.0, 0.5, 2.0, 3.0])
SPLINE = CubicSpline(NODES, np.sin(NODES))
PRIOR = norm(0.5, 2.0)
SERIES = Polynomial([1.0, 2.0, 3.0])
NAMELESS = {"convolve", "correlate", "kron"}  # refused as a whole, or gone from newer SciPy


def registries():
    for file in FILES:
        found = vars(importlib.import_module(f"koubai.graph.{file}"))
        yield from [value for value in found.values() if isinstance(value, Twins)] + list(found.get("_twins", ()))


TWINS = [(original, twin) for registry in registries() for original, twin in registry.written.items()]


def test_every_twin_has_a_row_in_the_table_of_supported_names():
    named = {id(resolved(row.name)) for row in ROWS if row.name.startswith(("np.", "scipy."))}
    missing = {original.__name__ for original, _ in TWINS if id(original) not in named}
    assert len(TWINS) > 90
    assert missing <= NAMELESS


@pytest.mark.parametrize(("original", "twin"), TWINS, ids=lambda f: f.__name__)
def test_a_twin_takes_what_its_original_takes(original, twin):
    given = inspect.signature(twin).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in given):
        return
    names = {p.name for p in given}
    wanted = [p for p in inspect.signature(original).parameters.values() if p.kind is not p.VAR_KEYWORD]
    anything = any(p.kind is p.VAR_KEYWORD for p in given)
    assert anything or {p.name for p in wanted} - names <= {"disp", "blocksize", "out", "n"} & {p.name for p in wanted}


def simple_module(x):
    return scipy.stats.norm.logpdf(x[0]) + scipy.linalg.norm(x)


def simple_part(x):
    return np.sum(stats.gamma.logpdf(DATA, x[0], scale=x[1])) + integrate.trapezoid(x**2)


def simple_name(x):
    A = np.outer(x, x) + np.eye(3)
    return np.sum(norm.cdf(x)) + simpson(x * x, x=DATA) + cho_solve(cho_factor(A), x) @ DATA + np.sum(cdist(A, A) ** 2)


def made_before(x):
    return PRIOR.logpdf(x[0]) + np.sum(SPLINE(x)) + np.sum(SPLINE(x, 1)) + np.sum(SERIES(x))


def made_inside(x):
    frozen = norm(loc=x[0], scale=np.exp(x[1]))
    return np.sum(frozen.logpdf(DATA)) + np.sum(CubicSpline(DATA, x)([0.5, 1.0])) + Polynomial(x)(0.3)


def bound_method(x):
    logpdf = stats.t.logpdf
    return np.sum(logpdf(DATA, x[0] + 1.0, loc=x[1]))


@pytest.mark.parametrize("f", [simple_module, simple_part, simple_name, made_before, made_inside, bound_method])
def test_every_way_of_reaching_it(f):
    value, g = kb.value_and_grad(f, method="backprop")(X)
    np.testing.assert_allclose(value, f(X), rtol=1e-13)
    estimate = kb.numerical_gradient(f, X)
    np.testing.assert_array_less(np.abs(g - estimate.value), estimate.error + 1e-10)


def test_a_method_of_scipys_is_a_function_to_differentiate():
    assert kb.grad(norm.logpdf, method="backprop")(0.7) == -0.7
    np.testing.assert_allclose(kb.grad(SPLINE, method="backprop")(0.7), SPLINE(0.7, 1), rtol=1e-13)


def test_an_object_of_scipys_is_watched():
    spline = CubicSpline(NODES, NODES**2)
    G = kb.grad(lambda x: spline(x), method="backprop")
    first = G(0.7)
    spline.c *= 2.0
    assert G(0.7) == pytest.approx(2.0 * first, rel=1e-14)


def quadrature(x):
    return integrate.quad(lambda t: x[0] * t * t, 0.0, 1.0)[0]


def equation(x):
    return integrate.solve_ivp(lambda t, y: -x[0] * y, (0.0, 1.0), [1.0], rtol=1e-10, atol=1e-10).y[0, -1]


def search(x):
    return scipy.optimize.brentq(lambda t: t * t - x[0], 0.0, 9.0)


def schur(x):
    return np.sum(scipy.linalg.schur(np.outer(x, x))[0])


def grid(x):
    return np.sum(RegularGridInterpolator((NODES,), NODES)(x))


def skew(x):
    return stats.skewnorm.logpdf(x[0], 2.0)


def shape(x):
    return stats.gamma.cdf(1.0, x[0])


def counts(x):
    return stats.poisson.logpmf(x[0], 2.0)


def metric(x):
    return np.sum(cdist(x[:, None], x[:, None], "hamming"))


def pivots(x):
    return scipy.linalg.qr(np.outer(x, x), pivoting=True)[1][0, 0]


def border(x):
    return np.sum(scipy.signal.convolve2d(np.outer(x, x), np.eye(2), boundary="symm"))


@pytest.mark.parametrize(
    ("f", "called"),
    [
        (quadrature, "scipy.integrate.quad"),
        (equation, "scipy.integrate.solve_ivp"),
        (search, "scipy.optimize.brentq"),
        (schur, "scipy.linalg.schur"),
        (grid, "scipy.interpolate.RegularGridInterpolator"),
        (skew, "scipy.stats.skewnorm.logpdf"),
        (shape, "order or shape"),
        (counts, "scipy.stats.poisson.logpmf"),
        (metric, "metric='hamming'"),
        (pivots, "pivoting=True"),
        (border, "boundary"),
    ],
)
def test_what_is_not_traced_names_the_users_line_and_what_it_called(f, called):
    with pytest.raises(TraceError) as caught:
        kb.grad(f, method="backprop")(X)
    assert called in caught.value.reason
    assert caught.value.file == __file__
    lines, start = inspect.getsourcelines(f)
    assert start < caught.value.line < start + len(lines)
    assert "method='central'" in caught.value.fix or "method='adaptive'" in caught.value.fix


def test_the_fallback_tells_the_cost_and_the_cheaper_choice():
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        g = kb.grad(quadrature)(X)
    np.testing.assert_allclose(g, [1 / 3, 0.0, 0.0], atol=1e-9)
    text = " ".join(str(one.message) for one in told if issubclass(one.category, FallbackWarning))
    assert "scipy.integrate.quad takes the number" in text
    assert "evaluations of f a gradient" in text
    assert "two evaluations of f an element" in text
    assert told[0].filename == __file__


def test_data_that_is_not_differentiated_may_go_anywhere():
    def f(x):
        return x[0] * np.sum(stats.gamma.ppf(DATA / 5.0, 2.0)) + x[1] * scipy.ndimage.median_filter(DATA, 3)[1]

    np.testing.assert_allclose(
        kb.grad(f, method="backprop")(X)[0], np.sum(stats.gamma.ppf(DATA / 5.0, 2.0)), rtol=1e-13
    )


def test_what_scipy_refuses_is_refused_at_every_call():
    G = kb.grad(lambda x: np.sum(scipy.linalg.solve(np.eye(3) * x, DATA)), method="backprop")
    assert np.all(np.isfinite(G(X)))
    with pytest.raises(ValueError, match="infs or NaNs"):
        G(np.array([0.3, np.nan, 0.7]))
