"""scipy.special: loaded when it is met, and only then; every way of importing it is understood."""

import subprocess
import sys

import numpy as np
import pytest
import scipy
import scipy.special
import scipy.special as sc
from scipy import special
from scipy.special import expit, logsumexp

import koubai as kb
from koubai.errors import TraceError

X = np.array([0.3, -0.5, 1.2, 0.7])


@pytest.mark.parametrize(
    "f",
    [
        lambda x: logsumexp(x * x),
        lambda x: np.sum(expit(x)),
        lambda x: np.sum(sc.softmax(x) * x),
        lambda x: np.sum(special.log_softmax(x) ** 2),
        lambda x: np.sum(scipy.special.jv(2, x)) + scipy.special.logsumexp(x),
        lambda x: logsumexp([x[0], x[1]]),
    ],
)
def test_every_way_of_importing_it(f):
    np.testing.assert_allclose(kb.grad(f, method="backprop")(X), kb.numerical_gradient(f, X).value, atol=1e-11)


def test_zero_times_log_zero():
    labels = np.array([0.0, 1.0, 0.0])
    g = kb.grad(lambda p: np.sum(sc.xlogy(labels, p)), method="backprop")(np.array([0.0, 0.5, 0.5]))
    np.testing.assert_array_equal(g, [0.0, 2.0, 0.0])


def test_powers_at_the_ends_of_the_domain():
    assert kb.grad(lambda x: sc.gammainc(1.0, x), method="backprop")(0.0) == 1.0
    np.testing.assert_array_equal(
        kb.grad(lambda x: np.sum(sc.betainc(1, 1, x)), method="backprop")(np.array([0.0, 1.0])), [1.0, 1.0]
    )


def test_orders_are_not_differentiated():
    with pytest.raises(TraceError, match="order or shape"):
        kb.grad(lambda v: sc.jv(v, 1.0), method="backprop")(2.0)
    with pytest.raises(TraceError, match="order or shape"):
        kb.grad(lambda a: sc.gammainc(a, 1.0), method="backprop")(2.0)


def test_signed_logsumexp_is_refused():
    with pytest.raises(TraceError, match="return_sign"):
        kb.grad(lambda x: logsumexp(x, return_sign=True)[0], method="backprop")(X)
    with pytest.raises(TraceError, match="negative weights"):
        kb.grad(lambda x: logsumexp(x, b=[1.0, -0.5, 1.0, 1.0]), method="backprop")(X)


def test_koubai_does_not_load_scipy_and_needs_none():
    program = (
        "import sys; import numpy as np; import koubai as kb; "
        "print(kb.grad(lambda x: np.sum(np.tanh(x) ** 2))(np.ones(2)).shape, "
        "[m for m in sys.modules if m.partition('.')[0] == 'scipy'])"
    )
    blocked = "import sys; sys.modules['scipy'] = None; " + program.replace(
        "== 'scipy'", "== 'scipy' and sys.modules[m]"
    )
    for text in (program, blocked):
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "(2,) []"
