"""Distributions of scipy.stats: SciPy's values everywhere, outside the support and for wrong parameters too."""

import numpy as np
import pytest
from scipy import stats

import koubai as kb
from koubai.errors import TraceError
from koubai.graph.call import trace

CONTINUOUS = {
    **dict.fromkeys(("norm", "expon", "uniform", "cauchy", "laplace", "logistic", "halfnorm", "halfcauchy"), ()),
    **dict.fromkeys(("gumbel_r", "gumbel_l", "rayleigh"), ()),
    "gamma": (2.3,),
    "beta": (2.1, 3.2),
    "t": (4.2,),
    "lognorm": (0.7,),
    "chi2": (3.3,),
    "weibull_min": (1.7,),
    "pareto": (2.2,),
    "invgamma": (2.5,),
    "truncnorm": (-1.2, 1.9),
}
COUNTS = {"poisson": (2.2,), "binom": (7, 0.3), "bernoulli": (0.3,), "geom": (0.3,), "nbinom": (3.5, 0.4)}
POINTS = np.array([-np.inf, -5.0, -1.2, 0.0, 0.3, 1.0, 1.9, 30.0, np.inf, np.nan])
NUMBERS = np.array([-1.0, 0.0, 1.0, 2.0, 2.5, 7.0, 8.0, np.nan])
CHANCES = np.array([-0.1, 0.0, 0.3, 1.0, 1.2, np.nan])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # SciPy's own, at a scale of 0
@pytest.mark.parametrize("method", ["logpdf", "pdf", "cdf", "logcdf", "sf", "logsf", "ppf", "isf"])
@pytest.mark.parametrize("name", CONTINUOUS)
def test_a_continuous_distribution_has_scipys_values(name, method):
    distribution, shapes = getattr(stats, name), CONTINUOUS[name]
    points = CHANCES if method in ("ppf", "isf") else POINTS

    def f(scale):
        return getattr(distribution, method)(points, *shapes, loc=0.1, scale=scale)

    try:
        traced = [trace(f, scale)(np.float64(scale)) for scale in (1.0, 1.5, 0.0, -1.0)]
    except TraceError as error:
        assert f"scipy.stats.{name}.{method}" in error.reason  # noqa: PT017 either outcome is right
        assert (method in ("ppf", "isf") and name not in ("norm", "expon", "uniform", "lognorm")) or name == "truncnorm"
        return
    expected = [f(scale) for scale in (1.0, 1.5, 0.0, -1.0)]
    np.testing.assert_allclose(traced, expected, rtol=1e-12, atol=1e-300)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("method", ["logpmf", "pmf", "cdf", "logcdf", "sf", "logsf"])
@pytest.mark.parametrize("name", COUNTS)
def test_a_distribution_of_counts_has_scipys_values(name, method):
    distribution, shapes = getattr(stats, name), COUNTS[name]

    def f(p):
        return getattr(distribution, method)(NUMBERS, *shapes[:-1], p)

    # of parameters that are not allowed SciPy's logarithms know the ends still
    for p in (shapes[-1], -0.5) if method not in ("logcdf", "logsf") else shapes[-1:]:
        np.testing.assert_allclose(trace(f, p)(np.float64(p)), f(p), rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("name", CONTINUOUS | COUNTS)
def test_moments(name):
    distribution, shapes = getattr(stats, name), (CONTINUOUS | COUNTS)[name]
    for method in ("mean", "var", "std"):

        def f(loc, method=method):
            return getattr(distribution, method)(*shapes, loc=loc)

        try:
            found = trace(f, 0.5)(np.float64(0.5))
        except TraceError as error:
            assert f"scipy.stats.{name}.{method}" in error.reason  # noqa: PT017 either outcome is right
            continue
        np.testing.assert_allclose(found, f(0.5), rtol=1e-12)


def test_outside_the_support_nothing_is_learned():
    g = kb.grad(lambda x: np.sum(np.exp(stats.expon.logpdf(x))), method="backprop")(np.array([-1.0, 0.5]))
    np.testing.assert_allclose(g, [0.0, -np.exp(-0.5)], rtol=1e-14)


def test_parameters_by_name_and_by_place():
    def f(x):
        one = stats.gamma.logpdf(x[0], x[1], 0.1, x[2]) + stats.gamma(x[1], scale=x[2]).logpdf(x=x[0])
        return one + stats.gamma.logpdf(x=x[0], a=x[1], loc=0.0, scale=1.0)

    x = np.array([0.9, 1.3, 0.7])
    estimate = kb.numerical_gradient(f, x)
    g = kb.grad(f, method="backprop")(x)
    np.testing.assert_array_less(np.abs(g - estimate.value), estimate.error + 1e-10)
    with pytest.raises(TypeError):
        kb.grad(lambda x: stats.norm.logpdf(x, mu=1.0), method="backprop")(0.5)


ROWS = np.random.default_rng(0).normal(size=(5, 3))
COV = ROWS.T @ ROWS + np.eye(3)


@pytest.mark.parametrize(
    "arguments",
    [
        (ROWS, [0.1, 0.2, 0.3], 2.0),
        (ROWS, None, COV),
        (ROWS[0], [0.1, 0.2, 0.3], [1.0, 2.0, 3.0]),
        (ROWS[:, 0], 0.3, 2.0),
        (ROWS[0, 0],),
        (ROWS.reshape(5, 1, 3), [0.0, 0.0, 0.0]),
    ],
)
@pytest.mark.parametrize("method", ["logpdf", "pdf"])
def test_normal_vectors_have_scipys_values(arguments, method):
    def f(x):
        return getattr(stats.multivariate_normal, method)(x, *arguments[1:])

    def frozen(x):
        return getattr(stats.multivariate_normal(*arguments[1:]), method)(x)

    for one in (f, frozen):
        found = trace(one, arguments[0])(arguments[0])
        assert np.shape(found) == np.shape(f(arguments[0]))
        np.testing.assert_allclose(found, f(arguments[0]), rtol=1e-12)


def test_a_covariance_that_is_none_is_refused_as_scipy_refuses_it():
    with pytest.raises(ValueError, match="positive semidefinite"):
        kb.grad(lambda x: stats.multivariate_normal.logpdf(np.ones(2), np.zeros(2), np.eye(2) * x), method="backprop")(
            -1.0
        )
    with pytest.raises(TraceError, match="allow_singular"):
        kb.grad(lambda x: stats.multivariate_normal.logpdf(x, allow_singular=True), method="backprop")(0.3)


def test_drawing_makes_the_function_one_that_is_traced_at_every_call():
    def f(x):
        return x * stats.norm.rvs(random_state=3)

    assert kb.grad(f)(0.5) == stats.norm.rvs(random_state=3)
