"""grad, value_and_grad, hessian, hvp, jacobian: their forms, their caches, their refusals."""

import threading
import tracemalloc
import warnings
from typing import ClassVar

import numpy as np
import pytest

from koubai.derivatives.differences import numerical_gradient
from koubai.derivatives.gradient import grad, hessian, hvp, jacobian, value_and_grad
from koubai.errors import (
    FallbackWarning,
    FunctionError,
    GradientError,
    GradientWarning,
    InputError,
    TraceError,
    UnknownNameError,
)
from koubai.graph.ops import OPS, UFUNCS, Op

X = np.array([1.0, -2.0, 3.0])


def square_sum(x):
    return np.sum(x**2)


# --- forms
def test_a_number_gives_a_number():
    value, gradient = value_and_grad(lambda x: x**3)(2)
    assert (value, gradient) == (8.0, 12.0)
    assert isinstance(gradient, float)
    assert grad(lambda x: x**3)(2.0) == 12.0
    assert grad(lambda x: x**3)(np.float32(2.0)).dtype == np.float32


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 1, 2)])
def test_an_array_gives_its_shape(shape):
    x = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(grad(square_sum)(x), 2 * x)


def test_integers_become_float64():
    x = np.array([1, 2, 3])
    gradient = grad(square_sum)(x)
    assert gradient.dtype == np.float64
    np.testing.assert_array_equal(gradient, [2.0, 4.0, 6.0])
    np.testing.assert_array_equal(grad(square_sum)([1, 2, 3]), [2.0, 4.0, 6.0])
    assert x.dtype.kind == "i"


def test_a_dict_gives_a_dict():
    params = {"W": np.ones((2, 3)), "b": np.arange(3.0)}
    gradient = grad(lambda p: np.sum((p["W"] + p["b"]) ** 2))(params)
    assert list(gradient) == ["W", "b"]
    np.testing.assert_array_equal(gradient["W"], 2 * (params["W"] + params["b"]))
    np.testing.assert_array_equal(gradient["b"], 4 * (1 + params["b"]))


def test_argnums_choose_the_arguments():
    def f(a, b, c):
        return np.sum(a * b**2) + c

    a, b = np.arange(3.0), np.arange(3.0) + 1
    np.testing.assert_array_equal(grad(f)(a, b, 1.0), b**2)
    np.testing.assert_array_equal(grad(f, 1)(a, b, 1.0), 2 * a * b)
    for numbers in ((0, 1), (1, 0), (-2, 0)):
        parts = grad(f, numbers)(a, b, 1.0)
        expected = {0: b**2, 1: 2 * a * b, -2: 2 * a * b}
        for part, n in zip(parts, numbers, strict=True):
            np.testing.assert_array_equal(part, expected[n])
    assert grad(f, 2)(a, b, 1.0) == 1.0


def test_data_and_keywords_pass_through():
    def f(x, data, *, power=2, scale=None):
        return np.sum(np.abs(x - data) ** power) * (1.0 if scale is None else scale["s"])

    g = grad(f)
    for data in (np.zeros(3), np.ones(3), np.zeros(3)):
        np.testing.assert_allclose(g(X, data), 2 * (X - data))
        np.testing.assert_allclose(g(X, data, power=3), 3 * (X - data) ** 2 * np.sign(X - data))
        np.testing.assert_allclose(g(X, data, scale={"s": np.float64(3.0)}), 6 * (X - data))


def test_labels_are_read_anew():
    def f(x, labels):
        return np.sum(x[labels] * np.arange(1.0, 4.0))

    g = grad(f)
    np.testing.assert_array_equal(g(X, np.array([0, 1, 2])), [1, 2, 3])
    np.testing.assert_array_equal(g(X, np.array([2, 2, 0])), [3, 0, 3])


# --- a stale graph is never used
SCALE = 3.0
TABLE = np.array([1.0, 2.0, 3.0])


def test_rebinding_a_global():
    g = grad(lambda x: SCALE * np.sum(x))
    global_names = globals()
    try:
        for value in (3.0, 4.0, 3.0):
            global_names["SCALE"] = value
            np.testing.assert_array_equal(g(X), np.full(3, value))
    finally:
        global_names["SCALE"] = 3.0


def test_rebinding_a_closure_variable():
    a = 2.0

    def f(x):
        return a * np.sum(x)

    g = grad(f)
    np.testing.assert_array_equal(g(X), np.full(3, 2.0))
    a = 5.0
    np.testing.assert_array_equal(g(X), np.full(3, 5.0))


def test_changing_a_global_array_in_place():
    g = grad(lambda x: np.sum((x - TABLE * 2) ** 2) if TABLE[0] < 5 else np.sum(x))
    before = TABLE.copy()
    try:
        for factor in (1.0, 2.0, 10.0):
            TABLE[:] = before * factor
            expected = 2 * (X - TABLE * 2) if TABLE[0] < 5 else np.ones(3)
            np.testing.assert_allclose(g(X), expected)
    finally:
        TABLE[:] = before


def test_changing_what_a_list_a_dict_or_an_object_holds():
    class Model:
        def __init__(self):
            self.scale = 1.0
            self.table = np.ones(3)

        def loss(self, x):
            return self.scale * np.sum(self.table * 2 * x)

        def __call__(self, x):
            return self.loss(x)

    model, settings, weights = Model(), {"deep": {"a": 1.0}}, [1.0, 2.0, 3.0]
    functions = [model.loss, model, lambda x: settings["deep"]["a"] * np.sum(np.array(weights) * 2 * x), model.__call__]
    gradients = [grad(f) for f in functions]

    def expected(f):
        return np.array([f(row) for row in np.eye(3)])

    for change in (
        lambda: None,
        lambda: setattr(model, "scale", 3.0),
        lambda: model.table.__imul__(2),
        lambda: setattr(model, "table", np.arange(3.0)),
        lambda: settings["deep"].update(a=4.0),
        lambda: weights.__setitem__(1, 9.0),
        lambda: weights.__setitem__(slice(None), [0.5, 0.5, 0.5]),
    ):
        change()
        for g, f in zip(gradients, functions, strict=True):
            np.testing.assert_allclose(g(X), expected(f))


def test_rebinding_a_default():
    def f(x, a=2.0):
        return a * np.sum(x)

    g = grad(f)
    np.testing.assert_array_equal(g(X), np.full(3, 2.0))
    f.__defaults__ = (7.0,)
    np.testing.assert_array_equal(g(X), np.full(3, 7.0))


def test_changing_a_class_or_the_one_that_it_comes_from():
    class Origin:
        scale = 1.0
        weights: ClassVar = [1.0, 2.0, 3.0]

        @staticmethod
        def helper(x):
            return np.sum(x)

    class Settings(Origin):
        pass

    instance = Settings()
    functions = [
        lambda x: Settings.scale * np.sum(x),
        lambda x: instance.scale * np.sum(x),
        lambda x: np.sum(np.array(Origin.weights) * x),
        lambda x: Settings.helper(x),
    ]
    gradients = [grad(f) for f in functions]
    for change in (
        lambda: None,
        lambda: setattr(Origin, "scale", 3.0),
        lambda: setattr(Settings, "scale", 4.0),
        lambda: Origin.weights.__setitem__(1, 9.0),
        lambda: setattr(Origin, "helper", staticmethod(lambda x: np.sum(x * x))),
    ):
        change()
        for g, f in zip(gradients, functions, strict=True):
            np.testing.assert_allclose(g(X), grad(f)(X))
    assert gradients[0](X)[0] == gradients[1](X)[0] == 4.0
    assert gradients[2](X)[1] == 9.0
    np.testing.assert_allclose(gradients[3](X), 2 * X)


def test_functions_edited_in_place():  # as IPython's autoreload does
    def inner(x):
        return np.sum(x)

    def f(x):
        return inner(x)

    def alone(x):
        return np.sum(x)

    def cubes(x):
        return np.sum(x**3)

    through, directly = grad(f), grad(alone)
    for g in (through, directly):
        np.testing.assert_array_equal(g(X), np.ones(3))
    inner.__code__ = alone.__code__ = cubes.__code__
    for g in (through, directly):
        np.testing.assert_allclose(g(X), 3 * X**2)


def test_paths_are_traced_anew_and_kept():
    calls = []

    def f(x):
        calls.append(None)
        return np.sum(x**2) if x[0] > 0 else np.sum(x)

    g = grad(lambda x: f(x))
    for x in (X, -X, X, -X, X):
        np.testing.assert_array_equal(g(x), 2 * x if x[0] > 0 else np.ones(3))


def test_a_loop_whose_length_depends_on_x():
    def f(x):
        y = x[0]
        for _ in range(int(x[1])):
            y = y * x[0]
        return y

    g = grad(f)
    for n in (1, 2, 3, 2, 1):
        assert g(np.array([2.0, float(n)]))[0] == (n + 1) * 2.0**n


def test_results_belong_to_the_caller():
    g = value_and_grad(square_sum)
    first = g(np.ones(100))
    second = g(np.full(100, 2.0))
    np.testing.assert_array_equal(first[1], np.full(100, 2.0))
    first[1][:] = 0
    np.testing.assert_array_equal(second[1], np.full(100, 4.0))
    np.testing.assert_array_equal(g(np.ones(100))[1], np.full(100, 2.0))


def test_the_gradient_of_a_sum_is_writeable_and_independent():
    g = grad(np.sum)
    x = np.ones(4)
    g(x)[0] = 9.0
    np.testing.assert_array_equal(g(x), np.ones(4))
    np.testing.assert_array_equal(x, np.ones(4))


# --- methods and refusals
def test_numerical_methods():
    for method in ("central", "adaptive"):
        source = value_and_grad(square_sum, method=method)
        np.testing.assert_allclose(source(X)[1], 2 * X, rtol=1e-6)
        assert source.gradient_source == method
        assert source.nfev > 3


def test_auto_falls_back_aloud_once():
    square = np.frompyfunc(lambda v: v * v, 1, 1)

    def f(x):
        return np.sum(square(x))

    source = value_and_grad(f)
    with pytest.warns(FallbackWarning, match=r"test_gradient\.py:\d+: .*vectorized"):
        gradient = source(X)[1]
    np.testing.assert_allclose(gradient, 2 * X, rtol=1e-6)
    assert source.gradient_source == "adaptive"
    source(X)
    with pytest.raises(TraceError):
        grad(f, method="backprop")(X)


def test_randomness_is_told():
    random = np.random.default_rng(0)
    for method in ("auto", "backprop"):
        with pytest.raises(FunctionError, match="two calls"):
            grad(lambda x: np.sum(x) * random.uniform(), method=method)(X)


def test_a_wrong_primitive_can_not_stay_silent(monkeypatch):
    right = OPS["sin"]
    wrong = Op(
        **{name: getattr(right, name) for name in Op.__slots__} | {"vjp": (lambda g, y, x: g * 1.001 * np.cos(x),)}
    )
    monkeypatch.setitem(UFUNCS, np.sin, wrong)
    with pytest.raises(GradientError, match="difference gives"):
        grad(lambda x: np.sum(np.sin(x)), method="backprop")(X)
    with pytest.warns(FallbackWarning, match="difference gives"):
        np.testing.assert_allclose(grad(lambda x: np.sum(np.sin(x)))(X), np.cos(X), rtol=1e-9)


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda x: np.sum(np.abs(x)), np.array([0.0, 1.0])),
        (lambda x: np.max(x), np.ones(3)),
        (lambda x: np.sum(np.maximum(x, 0)), np.zeros(3)),
        (lambda x: np.sqrt(x[0]), np.array([0.0])),
        (lambda x: np.sum(np.sin(x * 1e4)), X),
        (lambda x: 1e8 + np.sum(np.sin(x)), X),
        (lambda x: np.sum(np.exp(x.astype(np.float32)) ** 2).astype(float), X),
        (lambda x: np.sum(x**2), np.array([1e-200, 1e200])),
        (lambda x: np.sum(x**2), np.array([1e-12, 3e-9])),
        (lambda x: np.sum(np.log(x)), np.array([1e-300, 1.0])),
        (lambda x: np.sum(np.round(x * 10) / 10), X),
        (lambda x: np.sum(np.floor(x)), X),
        (lambda x: x[0] * 0.0, X),
        (lambda x: np.sum(np.arctan(1e6 * x)), np.array([1e-7, 0.5])),
        (lambda x: np.linalg.norm(x) if False else np.sqrt(x @ x), np.zeros(2)),
    ],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_cross_check_raises_no_false_alarm(f, x, dtype):
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", GradientWarning)  # of the roots at 0
        grad(f, method="backprop")(x.astype(dtype))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.array([1j]), "complex"),
        (np.array([None, 1.0]), "object"),
        (np.array([]), "empty"),
        ({}, "empty"),
        ("text", "dtype|number"),
        (np.array([True]), "bool"),
    ],
)
def test_bad_x(x, message):
    with pytest.raises(InputError, match=message):
        grad(lambda x: 1.0)(x)


def test_bad_arguments():
    with pytest.raises(InputError, match="function"):
        grad(3)
    with pytest.raises(UnknownNameError, match="backprop"):
        grad(square_sum, method="backpro")
    with pytest.raises(InputError, match="argnums"):
        grad(square_sum, ())
    with pytest.raises(InputError, match="argnums"):
        grad(square_sum, 1)(X)
    with pytest.raises(FunctionError, match="jacobian"):
        grad(lambda x: x)(X)
    with pytest.raises(FunctionError, match="None"):
        grad(lambda x: None)(X)
    with pytest.raises(InputError, match="shape"):
        hvp(square_sum)(X, np.ones(2))


def test_a_function_that_changes_its_input():
    def f(x):
        x *= 2
        return np.sum(x**2)

    x = X.copy()
    np.testing.assert_array_equal(grad(f)(x), 8 * X)
    np.testing.assert_array_equal(x, X)


def test_recursion():
    def f(x, n=4):
        return np.sum(x) if n == 0 else f(x, n - 1) * x[0]

    np.testing.assert_allclose(grad(f)(X), [1.0 + 4 * 2.0, 1.0, 1.0])


def test_threads_call_one_gradient_at_once():
    def f(x):
        return np.sum(x**2) if x[0] > 0 else np.sum(x**3)

    g = grad(f)
    wrong = []

    def work(k):
        random = np.random.default_rng(k)
        for _ in range(100):
            x = random.uniform(-1, 1, int(random.integers(1, 12)))
            if not np.allclose(g(x), 2 * x if x[0] > 0 else 3 * x**2, rtol=1e-12):
                wrong.append(x)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- second derivatives and Jacobians
def rosenbrock(x):
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def test_hessian_of_rosenbrock():
    a, b = 1.2, -0.3
    expected = [[1200 * a * a - 400 * b + 2, -400 * a], [-400 * a, 200.0]]
    np.testing.assert_allclose(hessian(rosenbrock)(np.array([a, b])), expected, rtol=1e-14)


def test_hessian_forms():
    assert hessian(lambda x: x**3)(2.0) == 12.0
    x = np.arange(1.0, 5.0).reshape(2, 2)
    h = hessian(lambda x: np.sum(x**3))(x)
    assert h.shape == (2, 2, 2, 2)
    np.testing.assert_allclose(h.reshape(4, 4), np.diag(6 * x.ravel()))
    blocks = hessian(lambda p: p["a"] ** 2 * np.sum(p["b"]))({"a": 3.0, "b": np.ones(2)})
    assert blocks["a"]["a"] == 4.0
    np.testing.assert_array_equal(blocks["a"]["b"], [6.0, 6.0])
    np.testing.assert_array_equal(blocks["b"]["b"], np.zeros((2, 2)))


def test_hvp_is_hessian_times_vector():
    random = np.random.default_rng(3)
    x, v = random.normal(size=6), random.normal(size=6)
    np.testing.assert_allclose(hvp(rosenbrock)(x, v), hessian(rosenbrock)(x) @ v, rtol=1e-12)
    data = np.arange(6.0)
    np.testing.assert_allclose(hvp(lambda x, d: np.sum(d * x**3))(x, v, data), 6 * data * x * v, rtol=1e-13)


def test_jacobian():
    j = jacobian(lambda x: np.array([x[0] * x[1], np.sin(x[2]), 1.0]))(X)
    np.testing.assert_allclose(j, [[-2.0, 1.0, 0.0], [0.0, 0.0, np.cos(3.0)], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(jacobian(lambda x: np.outer(x, x))(X).shape, (3, 3, 3))
    np.testing.assert_allclose(jacobian(np.sum)(X), np.ones(3))


def test_a_gradient_inside_a_traced_function():
    def f(x):
        inner = grad(lambda y: np.sum(y**3), method="backprop")(x)
        return np.sum(inner**2)

    np.testing.assert_allclose(grad(f)(X), 36 * X**3, rtol=1e-9)


@pytest.mark.parametrize(
    ("f", "x", "slope"),
    [
        (lambda x: np.log(1 - x), 1 - 1e-10, -1e10),
        (lambda x: np.sqrt(1 - x), 1 - 1e-9, -0.5 / np.sqrt(1e-9)),
        (lambda x: 1 / (1 - x), 1 - 1e-8, 1e16),
        (np.tan, np.pi / 2 - 1e-9, 1e18),
    ],
)
def test_no_false_alarm_of_the_cross_check_beside_a_singularity(f, x, slope):
    np.testing.assert_allclose(grad(f, method="backprop")(x), slope, rtol=1e-5)


def test_the_first_call_needs_no_more_memory_than_the_next():
    x = np.random.default_rng(0).uniform(-2, 2, 1_000_000)
    call = value_and_grad(lambda x: np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2), method="backprop")
    call(np.ones(7))  # what is imported and remembered for good is not counted
    value_and_grad(lambda x: np.sum(x * x * x), method="backprop")(x)
    tracemalloc.start()
    try:
        for _ in range(2):
            tracemalloc.reset_peak()
            call(x)
            peak = tracemalloc.get_traced_memory()[1]
            assert peak <= 7 * x.nbytes  # six arrays beyond x and the gradient
    finally:
        tracemalloc.stop()


# --- black boxes
def black_box(f):
    """f of numbers that went through a text: it can't be traced."""
    return lambda x: f(np.array([float("%.17g" % v) for v in np.ravel(x)]).reshape(np.shape(x)))  # noqa: UP031


SECOND = {"forward": 1e-1, "backward": 1e-1, "central": 1e-4, "adaptive": 1e-7, "auto": 1e-7}


@pytest.mark.parametrize("method", SECOND)
@pytest.mark.parametrize("f", [rosenbrock, black_box(rosenbrock)])
def test_second_derivatives_by_every_method(f, method):
    x, v = np.array([1.2, -0.3, 0.7]), np.array([1.0, 2.0, -1.0])
    expected = hessian(rosenbrock)(x)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        matrix, product = hessian(f, method=method)(x), hvp(f, method=method)(x, v)
    np.testing.assert_allclose(matrix, expected, atol=SECOND[method])
    np.testing.assert_allclose(product, expected @ v, atol=SECOND[method])
    np.testing.assert_array_equal(matrix, matrix.T)
    falls = method == "auto" and f is not rosenbrock
    assert [(each.category, each.filename) for each in said] == [(FallbackWarning, __file__)] * (2 * falls)


def test_the_complex_step_gives_second_derivatives():
    x, v = np.array([1.2, -0.3, 0.7]), np.array([1.0, 2.0, -1.0])
    expected = hessian(rosenbrock)(x)
    np.testing.assert_allclose(hessian(rosenbrock, method="complex")(x), expected, rtol=1e-11)
    np.testing.assert_allclose(hvp(rosenbrock, method="complex")(x, v), expected @ v, rtol=1e-11)


@pytest.mark.parametrize("method", ["auto", "forward", "backward", "central", "adaptive"])
def test_jacobians_of_black_boxes(method):
    def f(x):
        return np.array([[x[0] * x[1], np.sin(x[2])], [1.0, np.exp(x[1])]])

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = jacobian(black_box(f), method=method)(X)
    np.testing.assert_allclose(found, jacobian(f)(X), atol=1e-6)
    assert [each.category for each in said] == [FallbackWarning] * (method == "auto")
    np.testing.assert_allclose(jacobian(f, method="complex")(X), jacobian(f)(X), rtol=1e-14)


def test_forms_of_what_differences_give():
    def f(p, scale, power=2):
        return scale * float(f"{float(p['a']):.17g}") ** power * p["b"][0] + p["b"][1] ** 3

    p, v = {"a": 2.0, "b": np.array([3.0, 4.0])}, {"a": 1.0, "b": np.array([0.0, 1.0])}
    with pytest.warns(FallbackWarning, match="evaluations"):
        H = hessian(f)(p, 2.0)
    assert {a: {b: np.shape(block) for b, block in row.items()} for a, row in H.items()} == {
        "a": {"a": (), "b": (2,)},
        "b": {"a": (2,), "b": (2, 2)},
    }
    np.testing.assert_allclose(H["a"]["b"], [8.0, 0.0], atol=1e-7)
    np.testing.assert_allclose(H["b"]["b"], [[0, 0], [0, 24.0]], atol=1e-7)
    with pytest.warns(FallbackWarning):
        product = hvp(f)(p, v, 2.0)
    np.testing.assert_allclose(product["b"], [8.0, 24.0], atol=1e-7)
    with pytest.warns(FallbackWarning):
        J = jacobian(lambda p: f(p, 1.0) * np.ones((2, 1)))(p)
    assert (J["a"].shape, J["b"].shape) == ((2, 1), (2, 1, 2))
    cube = black_box(lambda x: x**3)
    with pytest.warns(FallbackWarning):
        assert hessian(cube)(2.0) == pytest.approx(12.0, rel=1e-8)
    with pytest.warns(FallbackWarning):
        assert hvp(cube)(2.0, 1.0) == pytest.approx(12.0, rel=1e-8)
    with pytest.warns(FallbackWarning):
        assert jacobian(cube)(2.0) == pytest.approx(12.0, rel=1e-8)
    assert hessian(cube, method="central")(np.float32(2.0)) == pytest.approx(12.0, rel=1e-4)


def test_a_fallback_is_told_once_and_stays():
    derivatives = [(hessian, ()), (hvp, (X,)), (jacobian, ())]
    for derivative, extra in derivatives:
        run = derivative(black_box(square_sum))
        with pytest.warns(FallbackWarning, match=r"test_gradient\.py:\d+: the text of a traced value"):
            first = run(X, *extra)
        np.testing.assert_array_equal(run(X, *extra), first)  # warnings are errors
        with pytest.raises(TraceError):
            derivative(black_box(square_sum), method="backprop")(X, *extra)
        with pytest.raises(UnknownNameError, match="backprop"):
            derivative(square_sum, method="backpro")


def test_differences_of_the_gradient_take_over_where_second_derivatives_are_refused(monkeypatch):
    def refuse(*args):
        raise GradientError("refused")

    monkeypatch.setattr("koubai.derivatives.paths.Paths._verify_second", refuse)
    x, v = np.array([1.2, -0.3, 0.7]), np.array([1.0, 2.0, -1.0])
    expected = rosenbrock_hessian(x)
    with pytest.warns(FallbackWarning, match="refused"):
        np.testing.assert_allclose(hessian(rosenbrock)(x), expected, rtol=1e-11)
    with pytest.warns(FallbackWarning, match="refused"):
        np.testing.assert_allclose(hvp(rosenbrock)(x, v), expected @ v, rtol=1e-11)


def rosenbrock_hessian(x):
    H = np.diag(np.r_[1200 * x[:-1] ** 2 - 400 * x[1:] + 2, 0.0]) + np.diag([0, *[200.0] * (x.size - 1)])
    return H + np.diag(-400 * x[:-1], 1) + np.diag(-400 * x[:-1], -1)


def test_what_differences_say_of_themselves_is_passed_on():
    f = black_box(lambda x: np.abs(x[0]) + x[1] ** 2)
    for derivative, extra in ((hessian, ()), (hvp, (np.ones(2),)), (jacobian, ())):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            derivative(f, method="adaptive")(np.array([0.0, 1.0]), *extra)
        assert {(each.category, each.filename) for each in said} == {(GradientWarning, __file__)}
        what = f"the {derivative.__name__} of <lambda> by differences: "
        assert any(str(each.message).startswith(what) and "f has a kink at x" in str(each.message) for each in said)


def test_pairwise_distances_have_a_jacobian():
    def distances(x):
        return np.linalg.norm(x[:, None] - x[None], axis=-1)[np.triu_indices(3, 1)]

    x = np.array([[0.3, 1.0], [-0.7, 0.4], [2.0, -1.1]])
    expected = jacobian(distances, method="adaptive")(x)
    np.testing.assert_allclose(jacobian(distances)(x), expected, rtol=1e-9, atol=1e-12)


def test_an_output_that_is_infinite_stays_a_number():
    np.testing.assert_array_equal(
        jacobian(lambda x: np.array([x[0] ** 2, np.inf, x[1]]))(X[:2]), [[2, 0], [0, 0], [0, 1]]
    )


# --- complex numbers on the way
C = np.array([[1 + 1j, 2 - 1j], [0.5j, 1.0]])


def complex_array(x):
    z = np.zeros(2, complex)
    z[0], z[1] = x[0], 1j * x[1] * x[0]
    z *= C[0]
    return np.sum(np.abs(z + 1j) ** 2)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.real((1 + 2j) * x[0]),
        lambda x: ((1 + 2j) * x[0] + 1).imag,
        lambda x: abs((1 + 2j) - x[0]) + abs(x[1] - 1j),
        lambda x: np.real((1 + 2j) / x[0] + x[1] / (1 + 2j)),
        lambda x: np.real(1 / (1 + 1j * x[0])),
        lambda x: np.real((1 + 2j) ** x[0] + x[1] ** (1 + 2j)),
        lambda x: np.real((1 + 1j * x[0]) ** 2 + (1 + 1j * x[1]) ** 0.5 + (1 + 1j * x[1]) ** x[0]),
        lambda x: np.imag(np.exp((1 + 2j) * x[0])) + np.abs(np.exp(1j * x[1]) + 1),
        lambda x: np.angle(1 + 1j * x[0]) + np.angle(np.exp(1j * x[1] ** 2)),
        lambda x: ((1 + 2j) * x[0] * np.conj((1 + 2j) * x[1])).real,
        lambda x: np.real(np.sqrt(-1 + 1j * x[0]) + np.log(1 + 1j * x[1])),
        lambda x: np.abs(np.sin(1j * x[0] + 1) * np.cos(x[1] + 1j) + np.tanh(1j * x[0])),
        lambda x: np.real(np.complex64(1 + 2j) * x[0] + np.array(1 + 2j) * x[1]),
        lambda x: np.real((1 + 2j) * x[0]) if x[0] > 0 else 0.0,
        lambda x: np.sum(np.abs(C @ x) ** 2) + np.sum(np.abs(x @ C)),
        lambda x: np.abs(np.vdot(C[0], x)) + np.real((C[0] * x).conj() @ C @ (C[0] * x)),
        lambda x: np.sum(np.abs(np.fft.fft(x) * C[0]) ** 2) + np.sum(np.abs(np.fft.rfft(x) * (1 + 1j)) ** 2),
        lambda x: np.sum(np.real(np.fft.ifft(np.fft.fft(x) * C[1]))) + np.abs(np.einsum("ij,j->", C, x)),
        lambda x: np.abs(np.linalg.det(C * x[0] + x[1])) + np.linalg.norm(C @ x),
        lambda x: np.real(np.prod(x + 1j)) + np.std(x * C[0]) + np.abs(np.mean(x * C[0])),
        lambda x: np.sum(np.abs(np.where(x > 0.35, x * 1j, x)) ** 2) + np.abs(np.polyval([1, 2j, x[0]], 1 + 1j)),
        complex_array,
    ],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_complex_constants(f, dtype):
    x = np.array([0.3, 0.4])
    gradient = grad(f, method="backprop")(x.astype(dtype))
    assert gradient.dtype == dtype
    np.testing.assert_allclose(gradient, numerical_gradient(f, x).value, rtol=1e-8 if dtype == np.float64 else 2e-5)
