"""The first use of a graph: no false alarm among kinks, and no wrong rule that stays silent, there or elsewhere."""

import itertools

import numpy as np
import pytest
from test_ops import cases, recorded, sample

import koubai as kb
from koubai.derivatives import agreement
from koubai.derivatives.agreement import cross_check
from koubai.derivatives.gradient import grad, value_and_grad
from koubai.errors import GradientError
from koubai.graph.call import Leaves, record_call
from koubai.graph.ops import OPS, apply
from koubai.graph.reverse import reverse
from koubai.graph.trace import evaluate

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


def test_differences_of_the_whole_are_misled_by_those_kinks():
    p, (X, y) = weights(), next(iter(batches()))
    loss = network()
    leaves = Leaves.of(loss, (p, X, y), {}, (0,))
    graph = record_call(loss, leaves, scalar=True).graph
    value, *g = evaluate(reverse(graph, leaves.active), *leaves.values)
    arguments = (lambda *v: float(evaluate(graph, *v)[0])), leaves.values, leaves.active, float(value), g, "loss"
    with pytest.raises(GradientError, match="a difference gives"):
        cross_check(*arguments)
    cross_check(*arguments, graph=graph)


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


@pytest.mark.parametrize(("op", "shapes", "params"), list(cases()))
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_nodes_say_what_every_rule_says(op, shapes, params, dtype):
    if op.name == "where":
        return  # its condition is no number, see the networks above
    values = sample(op, shapes, dtype)
    graph = recorded(op, values, params)
    _, *g = evaluate(reverse(graph), *values)
    random = np.random.default_rng(7)
    directions = [random.uniform(0.5, 1.5, np.shape(v)) for v in values]
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
