"""Every name in the table of supported names, at order 1 and 2, in float64 and float32; and the page made from it."""

import warnings

import numpy as np
import pytest
from supported import ALIASES, PAGE, REFUSED, ROWS, Row, available, counts, function, page, refusal, resolved, sample

from koubai.derivatives.differences import derivative, numerical_gradient
from koubai.derivatives.gradient import hvp, value_and_grad
from koubai.errors import GradientWarning
from koubai.graph.call import trace
from koubai.graph.ops import OPS, UFUNCS
from koubai.graph.traced import FUNCTIONS


def direction(x):
    return np.random.default_rng(5).choice([-1.0, 1.0], x.shape) * np.random.default_rng(6).uniform(0.5, 1.0, x.shape)


def run(row: Row, code: str, shape: tuple[int, ...]) -> None:
    x = sample(row, shape)
    f = function(code, len(row.domains))
    both = value_and_grad(f, method="backprop")
    value, gradient = both(x)
    plain = f(x.copy())
    np.testing.assert_allclose(value, plain, rtol=1e-12, atol=1e-13)
    size = float(np.max(np.abs(gradient), initial=0.0)) + abs(float(value)) + 1e-2

    # order 1: every component
    estimate = numerical_gradient(f, x)
    assert np.all(estimate.error <= 1e-7 * size), f"no sharp difference: {estimate.error!r}"
    wrong = np.abs(gradient - estimate.value) > estimate.error + 1e-11 * size
    assert not np.any(wrong), f"gradient {gradient!r}, difference {estimate.value!r} ± {estimate.error!r}"

    # order 2: along one direction, weighted by another
    v = direction(x)
    w = v[::-1] if x.ndim else v
    product = hvp(f)(x, v)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GradientWarning)  # the gradient of a linear function is constant indeed
        along = derivative(lambda t: np.sum(both(x + t * v)[1] * w), 0.0)
    curvature = float(np.max(np.abs(product), initial=0.0))
    off = abs(float(np.sum(product * w)) - float(along.value))
    assert float(along.error) <= 1e-6 * (size + curvature), f"no sharp difference: {along}"
    assert off <= float(along.error) + 1e-10 * (size + curvature), f"{np.sum(product * w)} against {along}"

    # what is printed can be pasted and run
    if shape == row.shapes[0]:
        graph = trace(f, x).gradient()
        namespace: dict = {}
        exec(graph.source(), namespace)
        with np.errstate(all="ignore"):
            pasted = namespace[graph.name](x)
        np.testing.assert_allclose(pasted[0], value, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(pasted[1], gradient, rtol=1e-10, atol=1e-11 * size)

    # float32
    narrow = sample(row, shape, np.float32)
    value32, g32 = both(narrow)
    exact = both(np.asarray(narrow, np.float64)[()])[1]
    assert g32.dtype == np.float32
    kind = np.result_type(f(narrow.copy()))
    assert value32.dtype == kind or ("scipy." in code and value32.dtype == np.float64)  # some SciPys answer in float32
    tolerance = 2e-6 * row.loose * (size + curvature)
    assert np.max(np.abs(g32 - exact), initial=0.0) <= tolerance, f"float32 {g32!r}, float64 {exact!r}"


@pytest.mark.sampled(11)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_value_gradient_and_curvature(row):
    if not available(row):
        pytest.skip(f"the installed NumPy or SciPy has no {row.name}")
    for code in row.code:
        for shape in row.shapes:
            try:
                run(row, code, shape)
            except Exception as error:
                error.add_note(f"{code} at shape {shape}")
                raise


def test_names_are_counted_once():
    numpy, methods, _, from_scipy = counts()
    assert len(numpy) >= 300
    assert methods
    seen = {}
    for name in sorted(numpy | from_scipy):
        thing = resolved(name)
        assert thing is None or id(thing) not in seen, f"{name} is {seen[id(thing)]}"
        seen[id(thing)] = name
    assert not set(ALIASES) & (numpy | from_scipy)
    assert set(ALIASES.values()) <= numpy | from_scipy


def test_each_row_calls_what_it_names():
    for row in ROWS:
        if row.name.startswith("np."):
            assert any(row.name in code for code in row.code), row.name
        elif row.name.startswith("ndarray.") and "__" not in row.name:
            assert any(f".{row.name[8:]}" in code for code in row.code), row.name


def test_every_function_known_to_the_tracer_has_a_row():
    names = [*(row.name for row in ROWS if row.name.startswith(("np.", "scipy."))), *ALIASES]
    named = {id(resolved(name)) for name in names}
    shown = ["reduce", "accumulate", "outer", "at"]
    missing = [
        getattr(key, "__name__", str(key))
        for key in (*FUNCTIONS, *UFUNCS)
        if not isinstance(key, str | tuple) and id(key) not in named
    ]
    # text, and integers only: nothing to differentiate, and nothing to weigh
    text = ["array2string", "array_repr", "array_str"]
    assert sorted(set(missing)) == [*text, "gcd", "lcm", "left_shift", "right_shift"]
    assert all(isinstance(key[0], np.ufunc) and key[1] in shown for key in FUNCTIONS if isinstance(key, tuple))
    assert all(op.name == name for name, op in OPS.items())


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what):
    code, part = REFUSED[what]
    assert part in refusal(code)


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python tests/supported.py"
