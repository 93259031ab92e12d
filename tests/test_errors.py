import inspect
import re
import warnings

import numpy as np
import pytest

import koubai as kb
import koubai.errors as errors
from koubai.errors import FallbackWarning


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes():
    for name in (name for name in errors.__all__ if name not in ("called", "is_told_to_raise", "quiet", "warn")):
        assert f"{name} " in errors.__doc__ or f"{name}\n" in errors.__doc__
        cls = getattr(errors, name)
        assert inspect.getdoc(cls)
        assert issubclass(cls, errors.KoubaiError | KeyboardInterrupt | UserWarning)


@pytest.mark.parametrize(("name", "near"), [("rosenbrok", "rosenbrock"), ("Himmelblau", "himmelblau"), ("zzz", None)])
def test_unknown_names_suggest_the_nearest(name, near):
    error = errors.UnknownNameError("problem", name, ["rosenbrock", "himmelblau", "beale"])
    assert error.suggestion == near
    assert ("did you mean" in str(error)) is (near is not None)
    assert "known: beale, himmelblau, rosenbrock" in str(error)


# --- where warnings point
def untraceable(x):
    return np.sum(np.histogram(x, bins="auto")[0]) + np.sum(x**2)


def lossy(p, X, y):
    return np.mean(X * y) * untraceable(p["w"])


def root(x):
    with np.errstate(all="ignore"):
        return np.sqrt(x)[0]


X, W = np.array([1.0, 2.0]), {"w": np.ones(2)}
CALLS = {
    "grad": lambda: kb.grad(untraceable)(X),
    "value_and_grad": lambda: kb.value_and_grad(untraceable)(X),
    "differences": lambda: kb.grad(lambda x: np.abs(x[0]), method="adaptive")(np.zeros(1)),
    "not finite": lambda: kb.grad(root)(np.zeros(1)),
    "jacobian": lambda: kb.jacobian(root)(np.zeros(1)),
    "hessian": lambda: kb.hessian(lambda x: x[0] ** 1.5)(np.zeros(1)),
    "hvp": lambda: kb.hvp(lambda x: x[0] ** 1.5)(np.zeros(1), np.ones(1)),
    "minimize": lambda: kb.minimize(untraceable, X, max_steps=3),
    "iterate": lambda: list(kb.iterate(untraceable, X, max_steps=3)),
    "fit": lambda: kb.fit(lossy, W, kb.nn.batches(X, X, 2), epochs=1),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_warning_points_at_the_users_line(call):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        call()
    assert seen
    line = call.__code__.co_firstlineno
    assert {(w.filename, w.lineno) for w in seen} == {(__file__, line)}


def test_a_fallback_says_what_a_gradient_costs():
    gradient = kb.value_and_grad(untraceable)
    with pytest.warns(FallbackWarning, match=r"test_errors\.py:\d+: .* (\d+) evaluations of f a gradient") as seen:
        gradient(X)
    told = int(re.search(r"(\d+) evaluations", str(seen[0].message)).group(1))
    before = gradient.nfev
    gradient(X)
    assert gradient.nfev - before == told
