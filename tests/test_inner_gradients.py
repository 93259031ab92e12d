"""Gradients taken inside functions that are differentiated themselves, in every spelling, as deep as one likes."""

import array
import warnings

import numpy as np
import pytest

import koubai as kb
from koubai.errors import GradientWarning, TraceError

X = np.array([0.3, -0.7, 1.2])
ONES = np.ones(3)


def f(x):
    return np.sum(np.sin(x) * x**2)


def slopes(x):
    return kb.grad(f)(x)


def scalar(x):
    return np.sin(x) * x**3


def newton(x):
    for _ in range(3):
        g, h = kb.grad(lambda z: (z**2 - 2.0) ** 2)(x), kb.hessian(lambda z: (z**2 - 2.0) ** 2)(x)
        x = x - g / h
    return x


def written(x):
    def inner(y):
        z = np.zeros(3)
        z[0] = x[0] * y
        z[1:] = x[1:]
        z += x
        return np.sum(z**2)

    return kb.grad(inner)(2.0)


def of_structures(x):
    g = kb.grad(lambda p: np.sum(p["W"] ** 2 * x) + p["b"][0] ** 3)({"W": np.ones(2), "b": (x, 1.0)})
    return np.sum(g["W"]) + g["b"][0]


def branching(x):
    return kb.grad(lambda y: y**2 * x if y * x > 0 else y)(x)


def value_and_slope(x):
    value, g = kb.value_and_grad(f)(x)
    return value * np.sum(g)


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("function", "x"),
    [
        (lambda x: kb.grad(scalar)(x), 0.7),
        (lambda x: kb.grad(kb.grad(scalar))(x), 0.7),
        (lambda x: kb.grad(f)(x)[0], X),
        (lambda x: np.sum(kb.grad(f)(x) ** 2), X),
        (lambda x: np.sum(kb.hessian(f)(x) ** 2), X),
        (lambda x: np.sum(kb.hvp(f)(x, ONES)), X),
        (lambda x: np.sum(kb.hvp(f)(np.array([0.1, 0.2, 0.3]), x) ** 2), X),
        (lambda x: np.sum(kb.jacobian(lambda z: np.outer(z, z))(x) ** 2 * x), X),
        (lambda x: kb.grad(lambda y: x * y**2)(3.0), 2.0),
        (lambda x: kb.grad(lambda y: x * y**2)(x), 2.0),
        (lambda x: np.sum(kb.grad(lambda y: np.sum(x * y**2))(np.arange(3.0)) ** 2), X),
        (lambda x: kb.grad(lambda y: kb.grad(lambda z: x * y**2 * z**3)(2.0))(3.0), 1.0),
        (lambda x: x * kb.grad(lambda y: y * kb.grad(lambda z: x * y * z**2)(y))(x), 1.5),
        (lambda x: np.sum(kb.jacobian(lambda y: x * y**2)(ONES) * np.arange(9.0).reshape(3, 3)), X),
        (lambda a: np.sum(kb.hessian(lambda y: a * np.sum(y**3))(X)), 2.0),
        (newton, 1.5),
        (written, X),
        (of_structures, 2.0),
        (branching, 2.0),
        (value_and_slope, X),
    ],
)
def test_the_outer_gradient_is_right(function, x):
    G = kb.grad(function, method="backprop")
    g = G(x)
    estimate = kb.numerical_gradient(function, x)
    size = np.max(np.abs(g)) + 1.0
    assert np.all(np.abs(g - estimate.value) <= estimate.error + 1e-9 * size)
    product = kb.hvp(function, method="backprop")(x, np.cos(x))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GradientWarning)  # the gradient of a linear function is constant indeed
        along = kb.numerical_gradient(lambda t: np.sum(G(x + t * np.cos(x)) * np.cos(x)), 0.0)
    assert abs(np.sum(product * np.cos(x)) - along.value) <= along.error + 1e-7 * (size + np.max(np.abs(product)))


def test_known_values():
    assert kb.grad(lambda x: kb.grad(lambda y: x * y**2)(3.0))(2.0) == pytest.approx(6.0, rel=1e-14)
    assert kb.grad(kb.grad(kb.grad(lambda x: x**5)))(2.0) == pytest.approx(240.0, rel=1e-13)
    np.testing.assert_allclose(kb.jacobian(kb.grad(f))(X), kb.hessian(f)(X), rtol=1e-12, atol=1e-14)
    expected = np.einsum("i,ij,ik->ijk", 6 * X, np.eye(3), np.eye(3))
    np.testing.assert_allclose(kb.jacobian(kb.jacobian(lambda x: x**3))(X), expected, rtol=1e-12, atol=1e-14)
    third = kb.jacobian(kb.jacobian(kb.jacobian(lambda x: np.array([x[0] * x[1] * x[2]]))))(X)
    assert third.shape == (1, 3, 3, 3)
    assert third[0, 0, 1, 2] == third[0, 2, 1, 0] == 1.0


MU = [1.0]


def test_what_an_inner_gradient_reads_is_watched_too():
    inner = kb.grad(lambda y: MU[0] * y**2)
    outer = kb.grad(lambda x: x * inner(3.0))
    assert outer(1.0) == 6.0
    MU[0] = 2.0
    try:
        assert outer(1.0) == 12.0
    finally:
        MU[0] = 1.0


def test_a_gradient_by_differences_inside_is_refused_aloud():
    def outer(x):
        return kb.grad(lambda y: x * y**2, method="central")(3.0)

    with pytest.raises(TraceError, match="out of the traced value"):
        kb.grad(outer, method="backprop")(2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert kb.grad(outer)(2.0) == pytest.approx(6.0, abs=1e-6)


def test_an_outer_array_is_not_written_by_an_inner_function():
    def outer(x):
        held = x * 1.0

        def inner(y):
            held[0] = y * y
            return np.sum(held) * y

        return kb.grad(inner)(2.0)

    with pytest.raises(TraceError, match="two different traces"):
        kb.grad(outer, method="backprop")(X)


def test_a_number_of_the_outer_function_is_not_taken_inside():
    kept = array.array("d", [0.0])

    def outer(x):
        def inner(y):
            kept[0] = x + 0 * y
            return y**2 * kept[0]

        return kb.grad(inner)(1.0)

    with pytest.raises(TraceError):
        kb.grad(outer, method="backprop")(1.5)


def test_a_descent_on_the_length_of_a_gradient():
    run = kb.minimize(lambda x: np.sum(kb.grad(f)(x) ** 2), X, kb.LBFGS())
    assert run.gradient_source == "backprop"
    assert run.fun < 1e-8
