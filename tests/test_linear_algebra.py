"""Linear algebra and Fourier transforms where a derivative is ill defined: exact or loudly nan, never wrong."""

import numpy as np
import pytest

import koubai as kb
from koubai.errors import GradientWarning

TWICE = 2.0 * np.eye(3)  # every eigenvalue repeated
RANK_ONE = np.array([[1.0, 2.0], [2.0, 4.0]])


def kinks(f, x):
    return {kink.op for kink in kb.trace(f, x).kinks}


def gradient(f, x):
    return kb.grad(f, method="backprop")(x)


def test_det_of_a_singular_matrix_has_its_cofactors():
    np.testing.assert_allclose(gradient(np.linalg.det, RANK_ONE), [[4.0, -2.0], [-2.0, 1.0]], atol=1e-14)
    assert np.all(gradient(np.linalg.det, np.zeros((3, 3))) == 0)
    stack = np.stack([RANK_ONE, np.eye(2)])
    by_hand = [[[4.0, -2.0], [-2.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]]
    np.testing.assert_allclose(gradient(lambda a: np.sum(np.linalg.det(a)), stack), by_hand, atol=1e-14)


def test_second_derivative_of_det_at_a_singular_matrix():
    turned = np.array([[1.0, -1.0], [-1.0, 1.0]])  # det is bilinear in the rows
    np.testing.assert_allclose(kb.hvp(np.linalg.det)(RANK_ONE, np.ones((2, 2))), turned, atol=1e-9)
    assert np.all(np.isnan(gradient(lambda a: np.linalg.slogdet(a)[1], RANK_ONE)))


ONE_TRIANGLE = np.eye(3) + 2.0 * np.tri(3, k=-1)  # what a symmetric matrix of ones counts for, where one is read


@pytest.mark.parametrize(
    ("values", "direction"),
    [
        (np.linalg.eigvalsh, ONE_TRIANGLE),
        (lambda a: np.linalg.eigh(a)[0], ONE_TRIANGLE),
        (np.linalg.svdvals, np.ones((3, 3))),
        (lambda a: np.linalg.svd(a)[1], np.ones((3, 3))),
    ],
    ids=["eigvalsh", "eigh", "svdvals", "svd"],
)
def test_repeated_values_have_derivatives_in_a_sum(values, direction):
    def f(a):
        return np.sum(values(a) ** 3)

    np.testing.assert_allclose(gradient(f, TWICE), 12.0 * np.eye(3), atol=1e-14)
    assert kinks(f, TWICE)
    # not by these formulas, but as a limit
    np.testing.assert_allclose(kb.hvp(f)(TWICE, np.ones((3, 3))), 12.0 * direction, rtol=1e-8, atol=1e-8)


def test_vectors_of_repeated_values_are_not_numbers():
    for f in (lambda a: np.sum(np.linalg.eigh(a)[1] ** 3), lambda a: np.sum(np.linalg.svd(a)[0] ** 3)):
        with pytest.warns(GradientWarning, match=r"test_linear_algebra\.py:\d+: the derivative of (eigh|svd) is not"):
            assert not np.any(np.isfinite(gradient(f, TWICE)))
        assert kinks(f, TWICE)


def test_only_one_triangle_is_read():
    lower = np.array([[4.0, 99.0], [1.0, 3.0]])
    for f in (
        lambda a: np.sum(np.linalg.cholesky(a)),
        lambda a: np.sum(np.linalg.eigvalsh(a) ** 2),
        lambda a: np.linalg.eigh(a)[1][0, 0] ** 2,
    ):
        g = gradient(f, lower)
        assert g[0, 1] == 0
        np.testing.assert_allclose(g, kb.numerical_gradient(f, lower).value, atol=1e-9)


def test_norm_at_zero_is_a_kink_with_subgradient_zero():
    for f in (np.linalg.norm, lambda x: np.linalg.norm(x, 3), lambda x: np.linalg.norm(x, 1)):
        assert np.all(gradient(f, np.zeros(3)) == 0)
        assert kinks(f, np.zeros(3))
    np.testing.assert_allclose(kb.hvp(lambda x: np.linalg.norm(x) ** 2)(np.zeros(3), np.ones(3)), 2 * np.ones(3))


def test_nuclear_norm_of_a_singular_matrix_gives_a_subgradient():
    def nuclear(a):
        return np.linalg.norm(a, "nuc")

    g = gradient(nuclear, RANK_ONE)
    assert kinks(nuclear, RANK_ONE) == {"svdvals"}
    assert np.linalg.norm(g, 2) <= 1 + 1e-14
    np.testing.assert_allclose(np.sum(g * RANK_ONE), nuclear(RANK_ONE))
    for step in np.random.default_rng(0).normal(size=(50, 2, 2)):
        assert nuclear(RANK_ONE + step) >= nuclear(RANK_ONE) + np.sum(g * step) - 1e-12


def test_rank_deficient_pinv_and_qr_are_kinks():
    assert kinks(lambda a: np.sum(np.linalg.pinv(a)), RANK_ONE) == {"pinv"}
    assert kinks(lambda a: np.sum(np.linalg.qr(a)[1]), RANK_ONE) == {"qr"}
    assert not kinks(lambda a: np.sum(np.linalg.pinv(a)), RANK_ONE[:, :1])


def test_lapack_errors_pass_through():
    for f in (lambda a: np.sum(np.linalg.inv(a)), lambda a: np.sum(np.linalg.cholesky(a - 9 * np.eye(2)))):
        with pytest.raises(np.linalg.LinAlgError):
            kb.grad(f)(RANK_ONE)


def test_a_caught_lapack_error_leads_where_it_leads():
    def f(a):
        try:
            return np.sum(np.linalg.inv(a))
        except np.linalg.LinAlgError:
            return np.sum(a**2)

    gradient = kb.grad(f, method="backprop")
    for _ in range(2):  # the branch that an exception leads to is traced where it is taken, and nowhere else
        np.testing.assert_allclose(gradient(RANK_ONE), 2 * RANK_ONE)
        np.testing.assert_allclose(gradient(np.eye(2)), -np.ones((2, 2)))


def test_vanishing_frequencies():
    x = np.ones(4)  # every frequency but the first is exactly zero
    spectrum = lambda x: np.sum(np.abs(np.fft.rfft(x)) ** 2)  # noqa: E731
    np.testing.assert_allclose(gradient(spectrum, x), [8.0] * 4)
    assert kinks(spectrum, x) == {"absolute"}
    np.testing.assert_allclose(kb.hvp(spectrum)(x, x), [8.0] * 4)
    squares = lambda x: np.sum(np.fft.rfft(x).real ** 2 + np.fft.rfft(x).imag ** 2)  # noqa: E731
    np.testing.assert_allclose(kb.hvp(squares)(x, x), [8.0] * 4)
    assert not kinks(squares, x)


def test_a_filter_with_complex_weights():
    response = np.exp(1j * np.linspace(0.0, 2.0, 5)) * np.linspace(1.0, 0.2, 5)
    x = np.random.default_rng(3).normal(size=8)

    def f(x):
        return np.sum(np.tanh(np.fft.irfft(np.fft.rfft(x) * response, 8)))

    np.testing.assert_allclose(gradient(f, x), kb.numerical_gradient(f, x).value, atol=1e-11)
    assert gradient(f, x.astype(np.float32)).dtype == np.float32


def test_complex_data_may_change_between_calls():
    response = np.array([1.0, 1j, -1.0])
    outside = kb.grad(lambda x: np.sum(np.abs(np.fft.rfft(x) * response + 1.0) ** 2), method="backprop")
    given = kb.grad(lambda x, h: np.sum(np.abs(np.fft.rfft(x) * h + 1.0) ** 2), method="backprop")
    x = np.array([0.3, -1.0, 0.4, 0.8])
    first = outside(x)
    np.testing.assert_array_equal(first, given(x, response))
    response[1] = 3.0
    assert not np.array_equal(outside(x), first)
    np.testing.assert_array_equal(outside(x), given(x, response))

    def built(x):
        z = np.array([1j, 2.0, 0.5])
        z[0] = x[0] * 1j
        z[1:] *= x[1:3]
        return np.sum(np.abs(z) ** 2)

    np.testing.assert_allclose(kb.grad(built, method="backprop")(x), [0.6, -8.0, 0.2, 0.0])


def test_a_convolution_network_written_with_windows():
    random = np.random.default_rng(4)
    images, labels = random.normal(size=(2, 1, 6, 6)), np.array([0, 2])
    params = {"K": random.normal(size=(3, 1, 3, 3)), "W": random.normal(size=(12, 3))}

    def loss(params):
        windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(2, 3))
        maps = np.tanh(np.einsum("nchwij,fcij->nfhw", windows, params["K"]))
        pooled = np.lib.stride_tricks.sliding_window_view(maps, (2, 2), axis=(2, 3))[:, :, ::2, ::2].max(axis=(-2, -1))
        scores = pooled.reshape(2, -1) @ params["W"]
        return np.mean(np.logaddexp.reduce(scores, axis=1) - scores[np.arange(2), labels])

    g = kb.grad(loss, method="backprop")(params)
    for name in params:

        def along(value, name=name):
            return loss({**params, name: value})

        np.testing.assert_allclose(g[name], kb.numerical_gradient(along, params[name]).value, atol=1e-10)


def test_lists_of_traced_values_reach_linear_algebra():
    f = lambda x: np.linalg.det([[x[0], x[1]], [1.0, x[0]]]) + np.linalg.norm([x[0], x[1]])  # noqa: E731
    np.testing.assert_allclose(gradient(f, np.array([3.0, 4.0])), [6.6, -0.2])


def test_one_decomposition_serves_value_and_gradient():
    graph = kb.trace(lambda a: np.sum(np.linalg.eigh(a)[0] ** 2), np.diag([1.0, 2.0])).gradient()
    assert sum(node.op.name == "eigh" for node in graph.nodes) == 1
    graph = kb.trace(lambda a: np.linalg.slogdet(a)[1] + np.sum(np.linalg.inv(a)), np.diag([1.0, 2.0])).gradient()
    assert sum(node.op.name == "inv" for node in graph.nodes) == 1
