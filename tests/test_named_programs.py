"""Programs on which backpropagation was once wrong, or refused without need, each named after what it was.

Most were found by programs.py and are kept as it shrank them; each runs through every check that a random one does.
"""

import math

import numpy as np
import pytest
from programs import Program, check

from koubai.derivatives.gradient import value_and_grad
from koubai.errors import TraceError
from koubai.graph.call import trace

THREE = "np.array([0.7, -1.2, 1.6])"
THREE_ELSEWHERE = "np.array([-0.4, 0.9, -1.3])"
SIX = "np.array([[0.1769, -0.2911], [-1.4391, 1.3465], [1.7574, 0.7124]])"
SIX_ELSEWHERE = "np.array([[0.5207, 0.6796], [0.4358, -0.3615], [-0.4277, 1.1]])"
CUBE = "np.array([[[1.0872, 1.404]], [[0.5472, 0.5983]]])"
CUBE_ELSEWHERE = "np.array([[[-1.1458, 0.1777]], [[0.8658, -1.1631]]])"
SINGLE = "np.array([1.0537, -1.1552, 1.004, -1.7829], np.float32)"

PROGRAMS = {
    "a number read from a buffer that is then used again": (
        """
B = np.array([2])
W = np.array([[-2]])


def f(x):
    p = x[-1, -1]
    total = B * p + -1.28
    force = (W * (p * 0.2 - 0.49) + 0.45).T @ total
    delta = np.logaddexp2(total, p)
    rate = np.inner(delta, total)
    return np.sum(np.sin(force)) + -1.26 * rate
""",
        SIX,
        SIX_ELSEWHERE,
    ),
    "positions beside a slice": (
        "\ndef f(x):\n    return np.sum(x[[0, -1, 0], :] ** 2) + np.sum(x[:, [1, 1]] ** 3)\n",
        SIX,
        SIX_ELSEWHERE,
    ),
    "positions on both sides of a slice": (
        "\ndef f(x):\n    return np.sum(x[[0, -1], :, [0, 0]] ** 2)\n",
        CUBE,
        CUBE_ELSEWHERE,
    ),
    "padding that wraps": (
        "\ndef f(x):\n    return np.sum(np.sin(np.pad(x, 1, mode='wrap')) * np.arange(20).reshape(5, 4))\n",
        SIX,
        SIX_ELSEWHERE,
    ),
    "columns chosen by a mask": (
        "\ndef f(x):\n    return np.sum(x[:, x[0] > 0] ** 2)\n",
        SIX,
        SIX_ELSEWHERE,
    ),
    "the value of a step at its edge": (
        """
def f(x):
    z = np.heaviside(x, 0.0) * x
    p = np.heaviside(z, x) * x
    return np.sum(p ** 2)
""",
        THREE,
        THREE_ELSEWHERE,
    ),
    "a write through flat of a transposed array": (
        """
def f(x):
    a = np.ones((2, 3))
    a[0] = x
    a.T.flat[1] = x[0] * x[1]
    return np.sum(a * -0.92) + sum(a.T.flat) + a.T.flat[2] * len(a.T.flat)
""",
        THREE,
        THREE_ELSEWHERE,
    ),
    "a mask put into data": (
        """
def f(x, data):
    a = np.empty_like(data)
    a[:] = data
    np.putmask(a, data > 0, 0.2)
    return np.sum(a) * np.sum(x)
""",
        THREE,
        THREE_ELSEWHERE,
        "np.array([-0.65, 0.3641, 1.5555, 0.6669])",
    ),
    "weights of single precision": (
        """
M = np.array([[-1.0527, 1.7057], [1.3472, 1.2285], [0.3, 0.9]], np.float32)


def f(x):
    return np.sum(np.average(x, weights=np.abs(M), axis=0)) + np.average(x, weights=np.abs(M))
""",
        SIX,
        SIX_ELSEWHERE,
    ),
    "a line that ends in single precision": (
        "\ndef f(x, data):\n    return np.sum(np.linspace(np.mean(data), 0.28, 4)) * x[0]\n",
        THREE,
        THREE_ELSEWHERE,
        SINGLE,
    ),
    "a reduction over every axis by name": (
        """
def f(x):
    return np.logaddexp.reduce(x, axis=None) + np.add.reduce(x, axis=None) ** 2 + np.maximum.reduce(x, axis=None)
""",
        SIX,
        SIX_ELSEWHERE,
    ),
    "a number of double precision among single ones": (
        """
def f(x):
    s = np.sum(x.astype(np.float32) * -1.2)
    return np.sum(np.float64(0.3) * x.astype(np.float32)) + s.astype(np.float64) ** 2
""",
        THREE,
        THREE_ELSEWHERE,
    ),
    "math gives a Python number, which gives way to single precision": (
        """
B = np.array([0.5555, -0.1545], np.float32)


def f(x):
    pulse = math.exp(-(math.log10(x[0] ** 2 + 0.63) ** 2))
    return np.float64(np.sum(B * pulse + -1.12)) + np.sum(np.maximum(B, -pulse)) + (B * float(x[1])).sum()
""",
        THREE,
        THREE_ELSEWHERE,
    ),
    "math computes in double precision": (
        "\ndef f(x, data):\n    return math.sqrt(data[0] * data[0] + 0.72) * math.cos(data[1]) * x[0]\n",
        THREE,
        THREE_ELSEWHERE,
        SINGLE,
    ),
    "item and tolist give Python numbers": (
        """
def f(x, data):
    first, *rest = data.tolist()
    small = x.astype(np.float32).tolist()
    return first * rest[-1] * x[0] + small[0] * small[-1] + data.item(1) * x.item(1) + data[:1].item() * x[1:2].item()
""",
        THREE,
        THREE_ELSEWHERE,
        SINGLE,
    ),
    "lists of traced numbers": (
        """
def f(x):
    total = np.sum([p * q for p in x for q in x]) + np.mean([np.sin(v) for v in x]) + np.max([v ** 2 for v in x])
    y = np.zeros(3)
    y[:] = [x[1], 2.0, x[0] * x[2]]
    return total + np.dot([x[0], 1.0], [x[1], x[2]]) + np.sum(y * [x[0], x[1], 1.0])
""",
        THREE,
        THREE_ELSEWHERE,
    ),
    "float64 of a traced number, and of an array, which is the array itself": (
        """
def f(x):
    w = np.zeros(3)
    w[:] = x
    same = np.float64(np.flip(w))
    same += -0.69
    return np.float64(np.sum(w ** 2)) + np.float32(0.5) * np.float64(x[0])
""",
        THREE,
        THREE_ELSEWHERE,
    ),
    "rows and columns joined by r_ and c_": (
        """
A = np.array([0.3, 0.1, -2.0])


def f(x):
    return np.sum(np.r_[x, A, x[0]] ** 2 * np.arange(7)) + np.sum(np.c_[x, A] @ np.c_[A, x].T)
""",
        THREE,
        THREE_ELSEWHERE,
    ),
    "vectorized outside the function": (
        """
gate = np.vectorize(lambda v: v * 0.7 if v > 0 else math.sin(v))


def f(x):
    return np.sum(gate(x) ** 2)
""",
        THREE,
        THREE_ELSEWHERE,
    ),
    "functions of math that NumPy has not": (
        """
def f(x):
    return math.erf(x[0]) + math.erfc(x[1]) + math.gamma(2 + x[2] ** 2) + math.lgamma(3 + x[0])
""",
        THREE,
        THREE_ELSEWHERE,
    ),
    "an array without axes, written in place under two names": (
        """
def f(x):
    number = np.zeros(())
    alias = number
    number += x[0]
    other = np.array(0.4)
    other[...] = x[1]
    return alias * number * x[2] + other
""",
        THREE,
        THREE_ELSEWHERE,
    ),
    "the derivative vanishes in the noise of single precision": (
        """
def f(x):
    state = np.tanh(np.mean(x) * 1e-3).astype(np.float32)
    return np.sin(np.sin(state.astype(np.float64)))
""",
        THREE,
        THREE_ELSEWHERE,
    ),
    "a Python number chosen among single ones": (
        """
def f(x):
    s = x.astype(np.float32)
    return np.sum(np.choose([0, 1, 0], [s[0], 0.92])) + np.sum(np.choose([1, 0, 1], [s, s * 2]))
""",
        THREE,
        THREE_ELSEWHERE,
    ),
    "an array like a transposed one": (
        """
def f(x):
    y = np.zeros_like(np.transpose(np.outer(x, [1.0, 2.0])))
    y[:] = np.outer([1.0, -0.5], x)
    line = y.T.ravel()
    line[0] = 0.29
    return np.sum(y * line[1]) + line[0]
""",
        THREE,
        THREE_ELSEWHERE,
    ),
    "two elements exchanged": (
        """
def f(x):
    y = np.zeros(3)
    y[:] = x
    y[0], y[-1] = y[-1], y[0]
    y[[0, 1]] = y[[1, 0]]
    y[1:] += y[:-1]
    return np.sum(y * np.array([1.0, 2.0, 5.0]))
""",
        THREE,
        THREE_ELSEWHERE,
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name):
    text, x, elsewhere, *data = PROGRAMS[name]
    for seed in (0, 1):  # the seed decides which of the rarer checks are made
        outcome = check(Program.pasted(text, x, elsewhere, *data, seed=seed * 15))
        assert outcome.what == "agreed", outcome.reason


def test_text_made_of_a_number_does_not_come_back_as_a_number():
    def f(x):
        return x[0] * float(str(x[1]))

    with pytest.raises(TraceError, match="text of a traced value"):
        value_and_grad(f, method="backprop")(np.array([0.3, 0.7]))


def test_a_function_that_fails_near_x_has_a_gradient_at_x():
    def f(x):
        if x < 0.999:
            raise RuntimeError("outside")
        return np.log(x)

    value, slope = value_and_grad(f, method="backprop")(1.0)
    assert (value, slope) == (0.0, 1.0)


def test_the_origin_is_a_kink_of_the_angle():
    def f(x):
        return np.arctan2(x[0], x[1])

    assert [kink.op for kink in trace(f, np.zeros(2)).kinks] == ["arctan2"]


def test_an_unknown_function_that_writes_is_refused():
    def f(x, data):
        a = data * 2.0
        np.random.default_rng(0).shuffle(a)
        return a[0] * x[0]

    with pytest.raises(TraceError):
        value_and_grad(f, method="backprop")(np.array([0.3, 0.7]), np.arange(6.0))


def test_round_of_a_python_number_is_one_still():
    single = np.array([-0.5, 0.25], np.float32)

    def f(x):
        return np.sum(np.sin(single + round(math.acos(0.8 * math.sin(np.sum(x))), 1)) * np.sum(x))

    x = np.array([0.3, 0.4])
    value, _ = value_and_grad(f, method="backprop")(x)
    assert value == f(x)
