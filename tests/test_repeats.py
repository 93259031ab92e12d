"""The turns of a loop: what a derivative makes of them by repetition is what it makes of them one by one."""

import numpy as np
import pytest

from koubai.graph import repeats
from koubai.graph.call import trace
from koubai.graph.forward import pushforward
from koubai.graph.graph import Graph, evaluate
from koubai.graph.reverse import pullback, reverse

R = np.random.default_rng(0).normal(size=(200, 3))
U = np.full((4, 3), 0.1)
A = np.array([[0.9, 0.1], [-0.2, 0.8]])
X = np.array([0.3, 0.9, 0.05])


def garch(p):
    v, total = p[0] / (1 - p[2]), 0.0
    for t in range(60):
        v = p[0] + p[2] * R[t, 0] ** 2 + 0.9 * v
        total = total + 0.5 * (np.log(v) + R[t, 0] ** 2 / v)
    return total


def recurrent(p):
    W, h = np.outer(p, p), np.zeros(3)
    for t in range(60):
        h = np.tanh(W @ h + R[t])
    return np.sum(h**2)


def collected(p):
    h, out = p[0], []
    for t in range(60):
        h = np.sin(h * p[1]) + R[t, 0]
        out.append(h * h)
    return np.mean(np.array(out) ** 2)


def added(p):
    h, out = p[0], []
    for t in range(60):
        h = np.sin(h * p[1]) + R[t, 0]
        out.append(h * h)
    return sum(out)


def sampled(p):
    """One in four turns is read from behind the loop."""
    s, i, out = 0.99, 0.01, []
    for _ in range(30):
        out.append(i)
        for _ in range(4):
            s, i = s - p[0] * s * i, i + p[1] * (p[0] * s * i - 0.2 * i)
    return np.sum((np.array(out) - R[:30, 0]) ** 2)


def now_and_then(p):
    s, total = p[0], 0.0
    for t in range(140):
        s = s * p[1] + 0.1
        if t % 7 == 3:
            total = total + np.exp(-s)
    return total + s


def two_loops(p):
    a, b = p[0], p[1]
    for _ in range(50):
        a = a * 0.9 + b * np.exp(-a)
    for _ in range(40):
        b = np.tanh(b + a) * p[1]
    return a * b


def vectors(p):
    v = p[:2]
    for _ in range(50):
        v = A @ v + np.sin(v) * p[2]
    return v @ v


def sums_alone(p):
    s = p[0]
    for t in range(60):
        s = s + R[t, 1]
    return s * p[1]


def two_turns_back(p):
    """A recurrence of the second order: the operands of a turn come of the two before it."""
    a, b, total = p[0], p[1], 0.0
    for t in range(60):
        a, b = b, np.cos(a) * p[2] + b * R[t, 0]
        total = total + a * b
    return total


def three_turns_back(p):
    a = [p[0], p[1], p[2], p[0] * p[1]]
    for t in range(60):
        a.append(np.cos(a[t]) * p[2] + a[t + 3] * 0.5)
    return a[-1] * a[-2]


def other_constants(p):
    s = p[0]
    for t in range(60):
        s = s * p[1] + 0.1 * t
    return s


def written(p):
    y = np.zeros(40)
    y[0] = p[0]
    for t in range(1, 40):
        y[t] = np.cos(y[t - 1] * p[1])
    return np.sum(y**2)


def branching(p):
    s = p[0]
    for _ in range(60):
        s = 3.6 * s * (1 - s) if s < p[1] else s * p[2]
    return s


def settling(p):
    """Newton's method, which multiplies by numbers at first."""
    x, step = 1.0, 1.0
    for _ in range(40):
        x = x - step * (x * x - p[1]) / (2 * x)
        step = step * p[1] / p[1]
    return x * p[0]


def helped(p):
    def half(s, k):
        return np.sqrt(s * s + p[k])

    s = p[0]
    for _ in range(40):
        s = half(half(s, 1), 2) * 0.9
    return s


LOOPS = [
    *(garch, recurrent, collected, added, sampled, now_and_then, two_loops, vectors, sums_alone, two_turns_back),
    *(three_turns_back, other_constants, written, branching, settling, helped),
]
REPEATED = {garch, recurrent, collected, added, sampled, now_and_then, two_loops, vectors, two_turns_back, helped}


def made(derive, graph, monkeypatch):
    """Return the derived graph, the same one without any repetition, and how many turns were repeated."""
    turns = []
    for kind in (repeats.Backwards, repeats.Forwards):

        def counted(self, i, count, repeat=kind._repeats):
            done = repeat(self, i, count)
            turns.append(count * done)
            return done

        monkeypatch.setattr(kind, "_repeats", counted)
    repeated = derive(graph)
    monkeypatch.setattr(repeats, "_LEAST", 10**9)
    one_by_one = derive(graph)
    monkeypatch.undo()
    return repeated, one_by_one, sum(turns)


@pytest.mark.parametrize("f", LOOPS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("way", ["reverse", "pullback", "second", "forward"])
def test_repeated_turns_are_those_made_one_by_one(f, way, monkeypatch):
    graph = trace(f, X)
    derive = {
        "reverse": lambda g: reverse(g, [0]),
        "pullback": lambda g: pullback(g, [0]),
        "second": lambda g: pullback(Graph((h := reverse(g, [0])).nodes, h.inputs, h.outputs[1:], h.guards), [0]),
        "forward": lambda g: pushforward(g, [0]),
    }[way]
    repeated, one_by_one, count = made(derive, graph, monkeypatch)
    assert abs(len(repeated.nodes) - len(one_by_one.nodes)) <= len(one_by_one.nodes) // 100 + 3
    extra = {"reverse": (), "pullback": (np.float64(1.5),)}.get(way, (np.array([0.5, -2.0, 1.0]),))
    for x in (X, 1.1 * X):
        for got, expected in zip(evaluate(repeated, x, *extra), evaluate(one_by_one, x, *extra), strict=True):
            np.testing.assert_array_equal(got, expected)
    if f in REPEATED:
        assert count >= 20 or f is now_and_then
        assert count > 0


def test_a_turn_that_reads_another_array_is_no_repetition():
    """What is the same but for a number that the rules look at is another turn: each factor counts."""

    def f(p):
        s = p[0]
        for t in range(60):
            s = s * (2.0 if t % 2 else 0.5) * p[1]
        return s

    gradient = reverse(trace(f, X), [0])
    value, g = evaluate(gradient, X)
    assert value == pytest.approx(X[0] * X[1] ** 60)
    np.testing.assert_allclose(g, [X[1] ** 60, 60 * X[0] * X[1] ** 59, 0.0], rtol=1e-12)
