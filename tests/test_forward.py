"""Forward mode against reverse mode on whole functions; tests/test_ops.py does it for each primitive."""

import numpy as np
import pytest

from koubai.graph.call import trace
from koubai.graph.forward import pushforward
from koubai.graph.graph import evaluate
from koubai.graph.reverse import pullback

X = np.array([0.7, -1.2, 1.9, 0.4])


def filled(x):
    y = np.zeros((3, 4))
    y[1] = x
    y[[0, 2], 1] = x[2] * x[1]
    y[:, 3] += x[0]
    return y[::-1].T


def repeated(x):
    return x[[0, 2, 2, 3]] * np.array([x[0], 2.0, x[1] * 3, 1])


def spectrum(x):
    z = np.fft.fft(x * np.exp(1j * x[0]))
    return np.abs(z) + np.real(z * np.conj(z)) - np.imag(z[1])


def smoothed(x):
    return np.fft.irfft(np.fft.rfft(x**2) * (1 - 0.5j), 4)


def solved(x):
    A = np.outer(x, x) + np.diag(2 + np.cos(x))
    return np.linalg.solve(A, x) @ np.linalg.cholesky(A) + np.linalg.eigvalsh(A) / np.linalg.det(A)


def spread(x):
    return (x[:, None] - x / 2) ** 2 + np.where(x > 0, x, x[0]) - (1.0 - x[1])


def reduced(x):
    return np.stack([np.max(x), np.prod(x), np.linalg.norm(x), np.sum(np.cumsum(x) * np.cumprod(x))])


def untouched(x):
    return np.array([x[0], 1.0, np.sign(x[1]), 2 * x[3]])


def stepped(x):
    return np.floor(x)


FUNCTIONS = [filled, repeated, spectrum, smoothed, solved, spread, reduced, untouched, stepped]


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_forward_mode_gives_the_jacobian_of_reverse_mode(f, dtype):
    if dtype == np.float32 and f in (spectrum, smoothed):
        pytest.skip("the rows for complex numbers are tested in double precision")
    x = X.astype(dtype)
    graph = trace(f, x)
    along, back = pushforward(graph, [0]), pullback(graph, [0])
    assert len(along.inputs) == 2
    y = f(x)
    columns = np.stack([evaluate(along, x, e)[0] for e in np.eye(4, dtype=dtype)], axis=-1)
    assert columns.dtype == y.dtype
    rows = np.empty((*y.shape, 4), dtype)
    for at in np.ndindex(y.shape):
        seed = np.zeros_like(y)
        seed[at] = 1.0
        rows[at] = evaluate(back, x, seed[()])[0]
    scale = np.max(np.abs(rows), initial=1.0)
    np.testing.assert_allclose(columns, rows, rtol=0, atol=(1e-12 if dtype == np.float64 else 3e-5) * scale)


def test_several_inputs_and_outputs():
    graph = trace(lambda a, b, c: (a * b, np.sum(b) * c, c + 1.0), np.ones(3), np.arange(3.0), 2.0)
    da, dc = np.array([1.0, 2.0, 3.0]), 0.5
    first, second, third = evaluate(pushforward(graph, [0, 2]), np.ones(3), np.arange(3.0), 2.0, da, dc)
    np.testing.assert_array_equal(first, da * np.arange(3.0))
    assert (second, third) == (3.0 * dc, dc)
