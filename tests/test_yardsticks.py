"""The default against real fits and NIST's certified regressions, which lie beside the checkout: with success."""

import itertools

import numpy as np
import pytest
from scipy import optimize
from shared import yardstick

import koubai as kb

FITS = yardstick("fits").FITS
NIST = yardstick("strd").PROBLEMS


@pytest.mark.parametrize("name", FITS)
def test_the_default_solves_a_fit(name):
    f, start = FITS[name]
    run = kb.minimize(f, start)
    with np.errstate(all="ignore"):
        peers = [optimize.minimize(f, start, method=m, options={"maxiter": 5000}).fun for m in ("BFGS", "Nelder-Mead")]
    assert run.success, run.message
    assert run.fun - min(peers) <= 1e-6 * max(abs(min(peers)), 1e-6)


@pytest.mark.parametrize("name", NIST)
@pytest.mark.parametrize("which", [0, 1])
def test_a_certified_regression(name, which):
    """Six digits of the parameters, and four of their standard deviations (those of Lanczos1 are rounding)."""
    problem = NIST[name]
    run = kb.minimize(lambda b: np.sum(problem.residuals(b) ** 2), problem.starts[which])
    assert run.success, run.message
    np.testing.assert_allclose(run.x, problem.certified, rtol=1e-6)
    if name != "Lanczos1":
        np.testing.assert_allclose(run.stderr, problem.deviations, rtol=1e-4)


def test_plain_lbfgs_on_the_certified_regressions():
    """It knows nothing of squares, and reaches 46 to 48 of the 52 all the same. Which of the narrow valleys it follows
    to their end hangs on the last bits of f, and these on the processor.
    """
    reached, elsewhere = [], []
    for (name, problem), which in itertools.product(NIST.items(), (0, 1)):
        run = kb.minimize(lambda b, p=problem: np.sum(p.residuals(b) ** 2), problem.starts[which], "lbfgs")
        is_there = name == "Lanczos1" or (
            abs(run.fun - problem.rss) <= 1e-8 * problem.rss and np.allclose(run.x, problem.certified, 1e-4, 0)
        )
        if run.success:
            (reached if is_there else elsewhere).append((name, which))
    assert len(reached) >= 45, elsewhere
    assert len(elsewhere) <= 4, elsewhere
