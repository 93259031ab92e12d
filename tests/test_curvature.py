"""koubai.derivatives.curvature: extreme eigenvalues beside numpy.linalg.eigvalsh, by products and by differences."""

import numpy as np
import pytest

from koubai.derivatives.curvature import DENSE, MOST, curvature, extreme_eigenvalues
from koubai.errors import FunctionError, InputError


def symmetric(n, seed, condition=1e3):
    """Return a symmetric matrix with eigenvalues of both signs, and the eigenvalues."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    values = np.sort(rng.uniform(-1, 1, n) * np.geomspace(1, condition, n))
    return (q * values) @ q.T, values


def quadratic(matrix):
    return lambda x: 0.5 * x @ matrix @ x


@pytest.mark.parametrize("n", [1, 2, DENSE, DENSE + 1, 40, 200])
def test_of_quadratics_it_is_the_matrix_that_tells(n):
    matrix, values = symmetric(n, seed=n)
    found = curvature(quadratic(matrix), np.random.default_rng(1).normal(size=n))
    size = np.abs(values).max()
    np.testing.assert_allclose([found.smallest, found.largest], values[[0, -1]], atol=2e-3 * size)
    assert found.products <= max(n, MOST)
    for value, v in ((found.smallest, found.lowest), (found.largest, found.highest)):
        assert np.linalg.norm(v) == pytest.approx(1)
        assert np.linalg.norm(matrix @ v - value * v) <= found.error * (1 + 1e-9) + 1e-12 * size
        assert np.abs(values - value).min() <= found.error + 1e-12 * size  # as the residual promises


@pytest.mark.parametrize("n", [3, 30])
def test_differences_of_a_gradient_tell_as_much(n):
    matrix, values = symmetric(n, seed=5, condition=10)
    found = curvature(None, np.ones(n), gradient=lambda x: matrix @ x)
    np.testing.assert_allclose([found.smallest, found.largest], values[[0, -1]], rtol=1e-3, atol=1e-6)


def test_where_it_bends_it_is_the_hessian_there():
    def f(x):
        return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2

    found = curvature(f, np.array([1.0, 1.0]))
    exact = np.linalg.eigvalsh([[802.0, -400.0], [-400.0, 200.0]])
    np.testing.assert_allclose([found.smallest, found.largest], exact, rtol=1e-9)


def test_a_preconditioner_scales_both_sides():
    matrix, _ = symmetric(6, seed=2)
    p = np.linspace(0, 2, 6)
    found = curvature(quadratic(matrix), np.ones(6), scale=p)
    exact = np.linalg.eigvalsh(np.sqrt(p)[:, None] * matrix * np.sqrt(p))
    np.testing.assert_allclose([found.smallest, found.largest], exact[[0, -1]], rtol=1e-9, atol=1e-9)


def test_parameters_in_a_dict_and_other_arguments():
    def f(p, k):
        return k * (np.sum(p["w"] ** 2) + 3 * p["b"] ** 2)

    found = curvature(f, {"w": np.ones((2, 2)), "b": 1.0}, args=(0.5,))
    assert (found.smallest, found.largest) == pytest.approx((1.0, 3.0))


def test_the_seed_decides_and_nothing_else():
    matrix, _ = symmetric(50, seed=3)
    x = np.ones(50)
    once, again = (curvature(quadratic(matrix), x, seed=4) for _ in range(2))
    assert (once.smallest, once.largest, once.products) == (again.smallest, again.largest, again.products)
    np.testing.assert_array_equal(once.highest, again.highest)
    np.testing.assert_array_equal(x, np.ones(50))


@pytest.mark.parametrize("matrix", [np.zeros((40, 40)), 3 * np.eye(40)], ids=["0", "3"])
def test_one_eigenvalue_is_found_at_once(matrix):
    found = extreme_eigenvalues(lambda v: matrix @ v, 40)
    assert (found.smallest, found.largest) == pytest.approx((matrix[0, 0], matrix[0, 0]))
    assert found.products <= 3


def test_no_more_products_than_allowed():
    matrix, values = symmetric(300, seed=8, condition=1e6)
    found = extreme_eigenvalues(lambda v: matrix @ v, 300, most=7)
    assert found.products <= 7
    assert values[0] <= found.smallest <= found.largest <= values[-1]  # Ritz values lie within


def test_what_is_no_curvature_is_refused():
    with pytest.raises(InputError, match="scale must be finite and ≥ 0"):
        curvature(quadratic(np.eye(2)), np.ones(2), scale=[-1.0, 1.0])
    with pytest.raises(FunctionError):
        extreme_eigenvalues(lambda v: np.full(30, np.nan), 30)
