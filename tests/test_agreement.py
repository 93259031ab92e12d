"""The first use of a graph: no false alarm among kinks, and no wrong rule that stays silent, there or elsewhere."""

import dataclasses
import itertools
import math
import warnings
from decimal import Decimal

import numpy as np
import pytest
from support import doubtful
from support.doubtful import (
    CANCELLING,
    DERIVATIVES,
    FINE,
    FOLLOWED,
    LOST,
    alarms,
    beside_minima,
    oscillating,
)
from test_ops import cases, recorded, sample

import koubai as kb
from koubai.derivatives import agreement
from koubai.derivatives import gradient as gradient_module
from koubai.derivatives.agreement import cross_check
from koubai.derivatives.gradient import grad, hessian, hvp, jacobian, value_and_grad
from koubai.derivatives.nonfinite import HESSIAN_VECTOR
from koubai.errors import FallbackWarning, FunctionError, GradientError, GradientWarning, TraceError
from koubai.graph.call import Leaves, record_call
from koubai.graph.graph import evaluate
from koubai.graph.ops import OPS, apply
from koubai.graph.reverse import reverse

SIZES = (64, 32, 32, 32, 32, 32, 32, 10)
RECTIFIERS = {
    "maximum": lambda h: np.maximum(h, 0),
    "relu": lambda h: apply("relu", h),
    "where": lambda h: np.where(h > 0, h, 0),
    "absolute": lambda h: (h + np.abs(h)) / 2,
    "assigned": lambda h: h * (h > 0),
}


def network(rectifier="maximum"):
    """Cross-entropy of six hidden layers of 32 rectifiers: 6,144 kinks for a batch of 32."""
    rectify = RECTIFIERS[rectifier]

    def loss(p, X, y):
        h = X
        for i in range(7):
            h = h @ p[f"{i}.W"] + p[f"{i}.b"]
            if i < 6:
                h = rectify(h)
        z = h - np.max(h, axis=1, keepdims=True)
        return np.mean(np.log(np.sum(np.exp(z), axis=1)) - z[np.arange(len(y)), y])

    return loss


def batches(dtype=np.float64):
    X, y = kb.nn.digits()
    (X, y), _ = kb.nn.split(X.astype(dtype), y)
    return kb.nn.batches(X, y, 32, seed=1).epoch(0)


def weights(deviation=lambda a, b: 0.01, seed=0, dtype=np.float64):
    random = np.random.default_rng(seed)
    p = {}
    for i, (a, b) in enumerate(itertools.pairwise(SIZES)):
        p[f"{i}.W"] = (random.standard_normal((a, b)) * deviation(a, b)).astype(dtype)
        p[f"{i}.b"] = np.zeros(b, dtype)
    return p


def asked(monkeypatch):
    """Return a list that receives what the nodes of the graph say, each time they are asked."""
    answers = []
    ask = agreement._slopes_of_nodes

    def watched(*args):
        answers.append(ask(*args))
        return answers[-1]

    monkeypatch.setattr(agreement, "_slopes_of_nodes", watched)
    return answers


@pytest.fixture
def wrong(request):
    """Give an op other derivative rules for one test: ``wrong(name, change)``, change(rule) -> rule."""
    right = {}

    def spoil(name, change):
        op = OPS[name]
        right[op] = op.vjp
        object.__setattr__(op, "vjp", tuple(rule and change(rule) for rule in op.vjp))

    yield spoil
    for op, rules in right.items():
        object.__setattr__(op, "vjp", rules)


def scaled(by):
    return lambda rule: lambda g, *args, **params: rule(g, *args, **params) * by


# --- no false alarm
@pytest.mark.parametrize("rectifier", RECTIFIERS)
def test_kinks_closer_than_any_step_raise_no_alarm(rectifier, monkeypatch):
    answers = asked(monkeypatch)
    p, (X, y) = weights(), next(iter(batches()))
    value_and_grad(network(rectifier), method="backprop")(p, X, y)
    [slopes] = answers  # no difference of the whole could tell
    assert max(slopes) - min(slopes) <= 1e-6 * abs(slopes[0])


def test_differences_of_the_whole_tell_nothing_among_those_kinks():
    p, (X, y) = weights(), next(iter(batches()))
    loss = network()
    leaves = Leaves.of(loss, (p, X, y), {}, (0,))
    graph = record_call(loss, leaves, scalar=True).graph
    value, *g = evaluate(reverse(graph, leaves.active), *leaves.values)
    arguments = (lambda *v: float(evaluate(graph, *v)[0])), leaves.values, leaves.active, float(value)
    wrong = [part * 1.1 for part in g]
    cross_check(*arguments, g, "loss", graph=graph)
    cross_check(*arguments, wrong, "loss")
    with pytest.raises(GradientError, match="one by one"):
        cross_check(*arguments, wrong, "loss", graph=graph)


def test_the_gradient_among_kinks_is_that_of_the_smallest_steps():
    p, (X, y) = weights(), next(iter(batches()))
    loss = network()
    g = grad(loss, method="backprop")(p, X, y)
    random = np.random.default_rng(3)
    d = {name: random.standard_normal(a.shape) for name, a in p.items()}
    ahead, behind = ({name: p[name] + h * d[name] for name in p} for h in (1e-11, -1e-11))
    difference = (loss(ahead, X, y) - loss(behind, X, y)) / 2e-11
    np.testing.assert_allclose(sum(np.sum(g[name] * d[name]) for name in p), difference, rtol=1e-3)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("start", ["small", "xavier"])
def test_no_alarm_along_a_training(start, dtype):
    deviation = (lambda a, b: 0.01) if start == "small" else (lambda a, b: np.sqrt(2 / (a + b)))
    p = weights(deviation, dtype=dtype)
    loss = network()
    run = value_and_grad(loss, method="backprop")
    for k, (X, y) in enumerate(batches(dtype)):
        if k % 15 == 0:
            run = value_and_grad(loss, method="backprop")  # checked anew
        _, g = run(p, X, y)
        p = {name: p[name] - p[name].dtype.type(0.05) * g[name] for name in p}
    assert k == 44
    value_and_grad(loss, method="backprop")(p, X, y)


def test_exact_ties_raise_no_alarm():
    p, (X, y) = weights(), next(iter(batches()))
    X[::3] = 0.0  # every unit of these rows sits on its kink, all ten outputs tie
    value_and_grad(network(), method="backprop")(p, X, y)
    value_and_grad(network("relu"), method="backprop")(p, X, y)


def test_a_training_by_hand_stays_with_backpropagation():
    loss, p, opt = network(), weights(), kb.Adam(lr=0.01)
    run = value_and_grad(loss)
    for X, y in batches():
        _, g = run(p, X, y)
        opt.update(p, g)
    assert run.gradient_source == "backprop"


@pytest.mark.sampled(11)
@pytest.mark.parametrize(("op", "shapes", "params"), list(cases()))
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_nodes_say_what_every_rule_says(op, shapes, params, dtype):
    if op.name == "where":
        return  # its condition is no number, see the networks above
    values = sample(op, shapes, dtype)
    graph = recorded(op, values, params)
    _, *g = evaluate(reverse(graph), *values)
    random = np.random.default_rng(7)
    directions = [random.uniform(0.5, 1.5, np.shape(v)) * (op.rule(k) is not None) for k, v in enumerate(values)]
    along = sum(np.sum(a * b) for a, b in zip(g, directions, strict=True))
    size = sum(np.sum(np.abs(a * b)) for a, b in zip(g, directions, strict=True))
    with np.errstate(all="ignore"):
        slopes = agreement._slopes_of_nodes(graph, lambda h: values, range(len(values)), directions, 0.0)
    np.testing.assert_allclose(slopes, along, rtol=0, atol=(1e-6 if dtype is np.float64 else 1e-3) * size)


# --- no wrong rule stays silent
SMOOTH = {
    "exp": lambda x: np.sum(np.exp(x)),
    "maximum": lambda x: np.sum(np.maximum(x, 0) ** 2),
    "matmul": lambda x: np.sum((x.reshape(2, 3) @ x.reshape(3, 2)) ** 2),
    "where": lambda x: np.sum(np.where(x > 0, x**2, np.sin(x))),
    "relu": lambda x: np.sum(apply("relu", x) ** 3),
    "log": lambda x: np.sum(np.log(1 + x**2)),
    "max": lambda x: np.max(x.reshape(2, 3), axis=1) @ np.array([2.0, 1.0]),
}
X = np.array([0.7, -1.3, 0.4, 1.9, -0.6, 1.1])


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("by", [1.001, -1.0, 0.0])
def test_a_wrong_rule_is_found_on_a_smooth_function(name, by, wrong):
    grad(SMOOTH[name], method="backprop")(X)
    wrong(name, scaled(by))
    with pytest.raises(GradientError, match="gives"):
        grad(SMOOTH[name], method="backprop")(X)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", ["exp", "log", "maximum", "relu", "where", "absolute", "matmul"])
@pytest.mark.parametrize("by", [1.001, -1.0, 0.0])
def test_a_wrong_rule_is_found_among_kinks(name, by, wrong):
    loss = network(name if name in RECTIFIERS else "maximum")
    p, (X, y) = weights(), next(iter(batches()))
    value_and_grad(loss, method="backprop")(p, X, y)
    wrong(name, scaled(by))
    with pytest.raises(GradientError, match="gives"):
        value_and_grad(loss, method="backprop")(p, X, y)


@pytest.mark.parametrize("start", [0.01, 0.3])
def test_a_wrong_branch_is_found_among_kinks(start, wrong):
    p, (X, y) = weights(lambda a, b: start), next(iter(batches()))
    loss = network("where")
    value_and_grad(loss, method="backprop")(p, X, y)
    wrong("where", lambda rule: lambda g, y, c, a, b: rule(g, y, np.logical_not(c), b, a))
    with pytest.raises(GradientError, match="gives"):
        value_and_grad(loss, method="backprop")(p, X, y)


@pytest.mark.parametrize("by", [1.3, -1.0, 0.0])
def test_a_wrong_rule_is_found_among_kinks_in_float32(by, wrong):
    p, (X, y) = weights(lambda a, b: np.sqrt(2 / (a + b)), dtype=np.float32), next(iter(batches(np.float32)))
    wrong("exp", scaled(np.float32(by)))
    with pytest.raises(GradientError, match="gives"):
        value_and_grad(network(), method="backprop")(p, X, y)


@pytest.mark.parametrize("start", [0.01, 0.3])
def test_a_gradient_that_lost_a_part_is_found_though_every_rule_is_right(start):
    p, (X, y) = weights(lambda a, b: start), next(iter(batches()))
    loss = network()
    leaves = Leaves.of(loss, (p, X, y), {}, (0,))
    graph = record_call(loss, leaves, scalar=True).graph
    value, *g = evaluate(reverse(graph, leaves.active), *leaves.values)
    arguments = (lambda *v: float(evaluate(graph, *v)[0])), leaves.values, leaves.active, float(value)
    cross_check(*arguments, g, "loss", graph=graph)
    g[-1] = g[-1] * 0.5  # of the last layer's bias
    with pytest.raises(GradientError, match="gives"):
        cross_check(*arguments, g, "loss", graph=graph)


def test_a_graph_that_is_not_the_function_is_found_though_its_own_gradient_is_right():
    def f(x):
        return np.sum(x**2) + np.sum(np.sin(x))

    held = np.sum(np.sin(X))
    leaves = Leaves.of(f, (X,), {}, (0,))
    graph = record_call(lambda x: np.sum(x**2) + held, leaves, scalar=True).graph  # sin(x) taken for a constant
    value, g = evaluate(reverse(graph), X)
    with pytest.raises(GradientError, match="a difference gives"):
        cross_check(f, [X], [0], float(value), [g], "f", graph=graph)


def test_a_gradient_that_differences_confirm_asks_no_node(monkeypatch):
    answers = asked(monkeypatch)
    for f in SMOOTH.values():
        grad(f, method="backprop")(X)
        grad(f, method="backprop")(X.astype(np.float32))
    assert answers == []


# --- graphs that follow f at their own point alone
BESIDE = np.array([1.3, -0.7])


@pytest.mark.sampled(7)
@pytest.mark.parametrize("name", LOST)
def test_a_graph_that_does_not_follow_f_is_refused(name):
    f, followed, width = LOST[name]
    with pytest.raises(TraceError) as refused:
        grad(f, method="backprop")(BESIDE)
    assert refused.value.file == doubtful.__file__ or "json" in name or "Fraction" in name or "eval" in name
    source = value_and_grad(f)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        gradient = source(BESIDE)[1]
    assert FallbackWarning in {each.category for each in said}
    assert source.gradient_source == "adaptive"
    np.testing.assert_allclose(gradient, grad(followed)(BESIDE), rtol=1e-6 + 30 * width, atol=1e-6 + 30 * width)


@pytest.mark.parametrize("name", ["searchsorted", "round to 6", "bisection to 1e-10", "Decimal of str", "in part"])
def test_so_are_its_jacobian_and_its_hessian(name):
    f, followed, width = LOST[name]
    for derivative, extra in ((hessian, ()), (hvp, (np.ones(2),)), (jacobian, ())):
        with pytest.raises(TraceError):
            derivative(f, method="backprop")(BESIDE, *extra)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = derivative(f)(BESIDE, *extra)
        assert FallbackWarning in {each.category for each in said}
        if width < 1e-9 or derivative is jacobian:
            right = derivative(followed)(BESIDE, *extra)
            np.testing.assert_allclose(found, right, rtol=1e-5 + 30 * width, atol=1e-5 + 30 * width)


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda x: (float(Decimal(str(x[0]))) - 1) ** 2 + x[1] ** 2, np.array([1.0, 2.0])),
        (lambda x: (float(f"{x[0]:.17g}") - 1) ** 2 * x[1], np.array([1.0, 2.0])),
        (lambda x: np.sum((np.round(x, 6) - 1) ** 2), np.ones(2)),
        (lambda x: np.sum((FINE[np.searchsorted(FINE, x)] - 1) ** 2), np.ones(2)),
    ],
)
def test_a_graph_that_is_flat_to_first_order_only_is_refused_by_the_hessian(f, x):
    for derivative, extra in ((hessian, ()), (hvp, (x,))):
        with pytest.raises(TraceError, match="the derivative is lost"):
            derivative(f, method="backprop")(x, *extra)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.4, 1.0, 2.0])
def test_second_derivatives_that_a_search_loses_are_refused_and_taken_from_f(share):
    def least(c):  # by golden sections: its slope is right where the place is taken for a constant, its bend is not
        phi = lambda t: (t - c) ** 2 + 0.2 * t**2  # noqa: E731
        low, high, part = -9.0, 9.0, (math.sqrt(5) - 1) / 2
        for _ in range(40):
            left, right = high - part * (high - low), low + part * (high - low)
            low, high = (low, right) if phi(left) < phi(right) else (left, high)
        return phi((low + high) / 2)

    f = lambda x: np.sum(np.exp(x)) + share * least(np.sum(x))  # noqa: E731
    x = np.array([1.07, 1.306])
    grad(f, method="backprop")(x)
    for derivative, extra in ((hessian, ()), (hvp, (np.ones(2),))):
        with pytest.raises(TraceError, match="the derivative is lost"):
            derivative(f, method="backprop")(x, *extra)
        with pytest.warns(FallbackWarning):
            found = derivative(f)(x, *extra)
        right = np.diag(np.exp(x)) + share / 3
        np.testing.assert_allclose(found, right @ extra[0] if extra else right, rtol=1e-6)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", FOLLOWED)
def test_what_only_looks_like_it_raises_no_alarm(name):
    said, count = alarms([(name, *FOLLOWED[name])], *DERIVATIVES)
    assert (said, count) == ([], 4)


@pytest.mark.slow
def test_no_alarm_where_f_cancels_beside_its_minimum():
    said, count = alarms(beside_minima(400, seed=3), *DERIVATIVES[:1])
    assert (said, count) == ([], 400)
    said, count = alarms(beside_minima(44, seed=4), *DERIVATIVES[1:])
    assert (said, count) == ([], 132)


def test_no_alarm_of_a_hessian_where_a_descent_ends():
    points = [(name, f, kb.minimize(f, minimum + np.array([0.15, 0.35]), kb.LBFGS()).x)
              for name, (f, minimum) in CANCELLING.items()]  # fmt: skip
    said, count = alarms(points, *DERIVATIVES[1:2])
    assert (said, count) == ([], len(CANCELLING))


@pytest.mark.slow
def test_no_alarm_where_f_oscillates():
    said, count = alarms(oscillating(260, seed=2), *DERIVATIVES[:1])
    assert (said, count) == ([], 260)


# --- Jacobians and second derivatives
@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("by", [1.001, -1.0, 0.0])
def test_a_wrong_rule_is_found_by_jacobian_and_hessian(name, by, wrong):
    wrong(name, scaled(by))
    for derivative, extra in ((jacobian, ()), (hessian, ()), (hvp, (X,))):
        with pytest.raises(GradientError, match="gives"):
            derivative(SMOOTH[name], method="backprop")(X, *extra)


def test_a_wrong_second_derivative_is_found_though_the_first_is_right(monkeypatch):
    right = HESSIAN_VECTOR.of

    def wrong(graph, active, careful):
        base = right(graph, active, careful)
        return record_call(lambda x: 1.001 * evaluate(base, x)[0], Leaves.of(base, (X,), {}, (0,)), scalar=False).graph

    spoiled = dataclasses.replace(HESSIAN_VECTOR, of=wrong)
    monkeypatch.setattr(gradient_module, "HESSIAN_VECTOR", spoiled)
    f = lambda x: np.sum(np.exp(x))  # noqa: E731
    for derivative, extra in ((hessian, ()), (hvp, (X,))):
        with pytest.raises(GradientError, match="the gradient of"):
            derivative(f, method="backprop")(X, *extra)


def test_outputs_of_all_sizes_count_in_the_check_of_a_jacobian(wrong):
    def f(x):
        return np.array([1e9 * np.sum(x**2), 1e-6 * np.sum(np.sin(x))])

    jacobian(f, method="backprop")(X)
    wrong("sin", scaled(1.01))
    with pytest.raises(GradientError, match="gives"):
        jacobian(f, method="backprop")(X)


def test_the_check_of_a_jacobian_leaves_out_what_is_not_finite():
    with np.errstate(all="ignore"):
        found = jacobian(lambda x: np.array([x[0] ** 2, np.inf, x[1]]), method="backprop")(X[:2])
    np.testing.assert_array_equal(found, [[2 * X[0], 0], [0, 0], [0, 1]])


# --- what f does not depend on, and chance
def independent(x):
    return np.sum(WEIGHTS @ WEIGHTS.T)


WEIGHTS = np.arange(6.0).reshape(2, 3)
LOOKS = {
    "grad": lambda f, m: grad(f, method=m)(X),
    "value_and_grad": lambda f, m: value_and_grad(f, method=m)(X),
    "jacobian": lambda f, m: jacobian(f, method=m)(X),
    "hessian": lambda f, m: hessian(f, method=m)(X),
    "hvp": lambda f, m: hvp(f, method=m)(X, X),
}


@pytest.mark.parametrize("name", LOOKS)
@pytest.mark.parametrize("f", [independent, lambda x: 3.0, lambda x: np.zeros_like(x)[0]])
@pytest.mark.parametrize("method", ["auto", "backprop", "forward", "central", "complex", "adaptive"])
def test_a_function_that_does_not_depend_on_its_argument_is_named(name, f, method):
    with pytest.warns(GradientWarning, match="does not depend on its argument.*lambda W") as said:
        LOOKS[name](f, method)
    assert [each.filename for each in said] == [__file__]


@pytest.mark.parametrize("name", LOOKS)
@pytest.mark.parametrize("method", ["auto", "central", "adaptive"])
@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.sum(np.maximum(x - 10, 0)),  # a plateau
        lambda x: x[0] * 0.0 + np.sum(x),
        lambda x: 1.0 if x[0] < 9 else x[1],
        np.sum,
    ],
)
def test_a_function_that_is_flat_here_depends_on_its_argument(name, method, f):
    LOOKS[name](f, method)  # warnings are errors


@pytest.mark.parametrize("name", LOOKS)
@pytest.mark.parametrize("trace", ["", "text"])
def test_chance_is_refused_unless_differences_are_asked_for(name, trace):
    random = np.random.default_rng(5)

    def f(x):
        first = float(f"{x[0]}") if trace else x[0]
        return first**2 + np.sum(x) + 1e-3 * random.standard_normal()

    for method in ("auto", "backprop"):
        with pytest.raises(TraceError if trace and method == "backprop" else FunctionError, match=r"two calls|text"):
            LOOKS[name](f, method)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        LOOKS[name](f, "central")


@pytest.mark.parametrize("digits", [5, 7])
def test_what_looks_like_a_saw_along_two_directions_is_seen_along_others(digits):
    """The part that the graph knows and the one that rounding loses cancel along the first two; a saw has no slope."""
    x, kept = np.array([1.3, -0.7, 2.1]), np.array([1.0, 2.0, -1.5])
    hidden = np.cross(*[agreement.directions_of([x], [0], seed)[0] for seed in (0, 1)])
    lost = hidden / np.max(np.abs(hidden)) - kept
    f = grad(lambda x: np.sum(kept * x) + np.round(np.sum(lost * x), digits), method="backprop")
    with pytest.raises(TraceError, match="in the steps of rint"):
        f(x)
    sawtooth = grad(lambda x: np.sum(kept * x) - np.round(np.sum(kept * x), digits))
    np.testing.assert_array_equal(sawtooth(x), kept)
