"""Every rule: first steps worked out by hand, nothing written in place, and all that is said of it holds."""

import inspect
from math import inf, sqrt

import numpy as np
import pytest
from reference.cases import CASES, KEPT, PROBLEMS, SETTINGS, STORED, difference, path
from reference.table import TABLE, semantics_and_formulas

import koubai as kb
from koubai.descent.rules import INTERVALS, RULES
from koubai.parameters import flatten

# -- by hand: x after the first updates on f = x², from 1, with g = 2x ------------------------------------------------

MU1, MU2 = (0.9 * (1 - 0.5 * 0.96 ** (t * 0.004)) for t in (1, 2))
ROOT = sqrt(0.001) / 0.1  # Adam's correction at t = 1: sqrt(1 - beta2) / (1 - beta1)


def newton_schulz(o, times):
    for _ in range(times):
        o = 3.4445 * o - 4.7750 * o**3 + 2.0315 * o**5
    return o


BY_HAND = {
    "sgd": [
        ({"lr": 0.1}, [0.8, 0.64]),
        ({"lr": 0.1, "momentum": 0.9}, [0.8, 0.46]),  # b: 2, 1.8 + 1.6
        ({"lr": 0.1, "momentum": 0.9, "dampening": 0.5}, [0.8, 0.54]),  # b: 2, 1.8 + 0.8
        ({"lr": 0.1, "momentum": 0.9, "nesterov": True}, [0.62, 0.2224]),  # 2 + 1.8; 1.24 + 0.9 * 3.04
        ({"lr": 0.1, "momentum": 0.9, "lr_inside": True}, [0.8, 0.46]),
    ],
    "asgd": [
        ({"lr": 0.1, "lambd": 0.5}, [0.95 - 0.2]),
        # eta: 0.1, then 0.1 / 1.05
        ({"lr": 0.1, "lambd": 0.5, "alpha": 1.0}, [0.75, 0.75 * (1 - 0.05 / 1.05) - 0.15 / 1.05]),
    ],
    "rprop": [
        ({"lr": 0.1}, [0.9, 0.78, 0.636]),  # 0.1, 0.12, 0.144
        ({"lr": 0.7}, [0.3, -0.54, -0.54]),  # 0.7, 0.84, then the sign turns: no step
        ({"lr": 0.1, "one_late": True}, [1.0, 0.9]),
    ],
    "lion": [({"lr": 0.1}, [0.9, 0.8])],
    "adagrad": [
        ({"lr": 0.1, "eps": 0.0}, [0.9, 0.9 - 0.18 / sqrt(4 + 1.8**2)]),
        ({"lr": 0.1, "eps": 1.0}, [1 - 0.2 / 3]),
        ({"lr": 0.1, "eps": 1.0, "eps_in_sqrt": True}, [1 - 0.2 / sqrt(5)]),
        ({"lr": 0.1, "initial_accumulator_value": 5.0, "eps": 0.0}, [1 - 0.2 / 3]),
    ],
    "rmsprop": [
        ({"lr": 0.1, "eps": 0.0}, [0.0]),  # v = 0.04
        ({"lr": 0.1, "eps": 0.2}, [0.5]),
        ({"lr": 0.1, "eps": 0.05, "eps_in_sqrt": True}, [1 - 0.2 / 0.3]),
        ({"lr": 0.1, "eps": 0.0, "centered": True, "alpha": 0.9}, [1 - 0.2 / 0.6]),  # 0.4 - 0.2²
    ],
    "adadelta": [({}, [1 - 2 * sqrt(1e-6 / (0.4 + 1e-6))])],
    "ftrl": [
        ({"lr": 0.1}, [-(2 - (sqrt(4.1) - sqrt(0.1)) / 0.1) / (sqrt(4.1) / 0.1)]),
        ({"lr": 0.1, "l1": 50.0}, [0.0]),
    ],
    "adam": [
        ({"lr": 0.1, "eps": 0.0}, [0.9]),  # m_hat = 2, v_hat = 4
        ({"lr": 0.1, "eps": 2.0}, [0.95]),
        ({"lr": 0.1, "eps": 2 * sqrt(0.001), "eps_in": "raw"}, [0.95]),
        ({"lr": 0.1, "eps": 0.0, "beta1": 0.0, "beta2": 0.5, "amsgrad": True}, [0.9]),
    ],
    "adamax": [({"lr": 0.1, "eps": 0.0}, [0.9]), ({"lr": 0.1, "eps": 2.0, "eps_in": "denominator"}, [0.95])],
    "nadam": [({"lr": 0.1, "eps": 0.0}, [1 - 0.1 * (MU2 * 0.2 / (1 - MU1 * MU2) + 2) / 2])],
    "radam": [({"lr": 0.1}, [0.8]), ({"lr": 0.1, "beta2": 0.5}, [0.8])],
    "adabelief": [({"lr": 0.1, "eps": 0.0, "eps_root": 0.0}, [1 - 0.2 / 1.8])],
    "adan": [({"lr": 0.1, "eps": 0.0, "eps_root": 0.0}, [0.9])],
    "yogi": [({"lr": 0.1, "eps": 0.0, "initial_accumulator": 0.0}, [0.9])],
    "lars": [({"trust_coefficient": 0.1}, [0.9]), ({"trust_coefficient": 0.1, "eps": 2.0}, [0.95])],
    "lamb": [
        ({"lr": 0.1, "eps": 0.0}, [0.9]),
        ({"lr": 0.1, "eps": 0.0, "weight_decay": 0.5}, [0.95 - 0.1 * 0.95]),
        ({"lr": 0.1, "eps": 0.0, "weight_decay": 0.5, "decay_in": "ratio"}, [0.9]),  # u = 1.5, ratio 1 / 1.5
    ],
    "novograd": [({"lr": 0.1, "eps": 0.0}, [0.9]), ({"lr": 0.1, "eps": 2.0, "weight_decay": 1.0}, [0.85])],
    "adafactor": [
        ({"lr": 0.1}, [0.9]),
        ({"lr": 0.1, "weight_decay": 0.5}, [0.95 - 0.1]),
        ({"lr": 0.1, "weight_decay": 0.5, "decay_in": "first"}, [0.95 - 0.095]),
        ({"lr": 0.1, "eps1": 12.0, "eps1_in": "square"}, [0.95]),  # g² + 12 = 4²
    ],
    "muon": [({"lr": 0.1, "adam_eps": 0.0, "adam_weight_decay": 0.5}, [0.95 - 0.1])],
    "schedule_free_sgd": [({"lr": 0.1, "beta1": 0.5}, [0.8, 0.8 - 0.16 * 0.75])],  # z 0.64, average 0.72
    "schedule_free_adamw": [({"lr": 0.1, "eps": 0.0}, [0.9]), ({"lr": 0.1, "eps": 0.0, "weight_decay": 0.5}, [0.85])],
    "dog": [({"reps_rel": 0.1, "eps": 0.0}, [1 - 0.2])],  # 0.1 * (1 + 1) / 2 * 2
    "dowg": [({"init_estim_sq_dist": 0.04, "eps": 0.0}, [1 - 0.2])],  # 0.04 / sqrt(0.16) * 2
    "dadapt_adamw": [({"estim_lr0": 0.1, "eps": 0.0}, [1 - 0.1 * ROOT * 0.1 * 2 / sqrt(0.004)])],
    "prodigy": [({"estim_lr0": 0.1, "eps": 0.0}, [1 - 0.1 * ROOT * 0.1 * 0.2 / (0.1 * sqrt(0.004))])],
    "momo": [({"lr": 0.1}, [0.8]), ({"lr": 1.0}, [0.5]), ({"lr": 1.0, "lower_bound": 0.6}, [0.8])],
    "polyak_sgd": [({"lr": 0.1}, [0.8]), ({"lr": 1.0}, [0.5, 0.25]), ({"lr": 1.0, "f_min": 2.0}, [1.0])],
    "cocob": [({}, [0.99]), ({"alpha": 1.0}, [1 - 2 / 8 * 2])],
    "gradient_descent": [
        ({"lr": 1.0}, [0.0]),
        ({"lr": 0.1, "c1": 0.4}, [0.8, 0.48]),
        ({"line_search": "wolfe"}, [0.0]),
    ],
    "barzilai_borwein": [({"lr": 0.1}, [0.8, 0.0]), ({"lr": 0.1, "variant": "short"}, [0.8, 0.0])],
    "conjugate_gradient": [({}, [0.0]), ({"variant": "fr"}, [0.0])],
    "levenberg_marquardt": [({}, [0.0]), ({"lr": 0.1}, [0.9, 0.7])],  # by the radius, then by twice as much
    "lbfgs": [({}, [0.0]), ({"lr": 0.1, "line_search": "none"}, [0.9, 0.9 - 0.09])],  # then 0.1 of Newton's step
}  # fmt: skip


def squares_of(g):
    """Return the residuals and the Jacobian of a sum of squares of multiples of x, from its gradient g = 2 c x."""

    def residuals(x):
        root = np.sqrt(g(np.ones_like(x)) / 2).astype(x.dtype)
        return root * x, np.diag(root)

    return residuals


def steps(rule, x, g, count, f=lambda x: float(np.sum(x * x)), clip=lambda g: g, **settings):
    """Return the points after each update, and the states."""
    hyper = rule.defaults | settings
    state, points, states = rule.start(x, hyper), [], []
    for t in range(1, count + 1):
        extra = {
            "fun": f(x),
            "evaluate": lambda x: (f(x), g(x)),
            "unclipped": g(x),
            "box": None,
            "residuals": squares_of(g),
        }
        x, state = rule(x, clip(g(x)), state, t, **hyper, **{n: extra[n] for n in rule.uses})
        points.append(x)
        states.append(state)
    return points, states


def test_every_rule_is_worked_out_by_hand():
    assert set(BY_HAND) == set(RULES)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [(name, settings, expected) for name, rows in BY_HAND.items() for settings, expected in rows],
)
def test_first_steps_by_hand(name, settings, expected):
    points, _ = steps(RULES[name], np.array([1.0]), lambda x: 2 * x, len(expected), **settings)
    np.testing.assert_allclose(np.concatenate(points), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("gradient_descent", {}, [0.5, 0.0]),  # then 2 * 0.5 does not go down, and 1 * 0.5 does
        ("gradient_descent", {"lr": 3.0, "c1": 0.49}, [0.25]),  # at -0.5, f = 0.25 > 1 - 0.49 * 3 * 0.5 * 2
        ("gradient_descent", {"line_search": "wolfe", "c2": 0.1}, [0.0]),
        ("barzilai_borwein", {"lr": 0.1}, [0.95, 0.7]),  # s, y = -0.05, -0.1: a = 0.5
        ("barzilai_borwein", {"lr": 0.1, "variant": "short"}, [0.95, 0.7]),
        ("barzilai_borwein", {"lr": 3.0, "c1": 0.49}, [0.25]),
        ("conjugate_gradient", {}, [0.0]),
        ("conjugate_gradient", {"c2": 0.9}, [0.5]),  # the slope there is 0.5, at the start 1
        ("lbfgs", {}, [0.5]),
        ("conjugate_gradient", {"variant": "fr"}, [0.0]),
        ("lbfgs", {"lr": 0.1, "line_search": "none"}, [0.95, 0.925]),  # H = 0.5, a tenth of 0.5 * 0.5
    ],
)
def test_first_steps_by_hand_with_the_gradient_clipped_at_one_half(name, settings, expected):
    """The clipped gradient says where to go; slopes and curvatures are those of f."""
    points, _ = steps(
        RULES[name], np.array([1.0]), lambda x: 2 * x, len(expected), clip=lambda g: np.clip(g, -0.5, 0.5), **settings
    )
    np.testing.assert_allclose(np.concatenate(points), expected, rtol=1e-14, atol=1e-14)


def test_a_direction_that_only_the_clipped_gradient_calls_down_is_not_taken():
    """Clipped by value, (1, 20) is (1, 1): of a direction with another sign in each component the two may disagree."""
    gradient, g, x = np.array([1.0, 20.0]), np.array([1.0, 1.0]), np.array([0.0, 0.0])
    given = {"fun": 0.0, "evaluate": lambda x: (float(gradient @ x + 25 * x @ x), gradient + 50 * x), "box": None}
    s, y = np.array([[-4.0, 0.0], [0, 0]]), np.array([[-2.0, -4.0], [0, 0]])  # L-BFGS's direction is (-2.8, 0.4) by it
    rows = {
        "conjugate_gradient": (np.zeros(2), np.asarray(21.0), np.array([-1.8, 1.4]), np.asarray(1.0), np.zeros(2)),
        "lbfgs": (s, y, np.array([1.0, 0.0]), np.array([[1 / 8]]), s[:1] @ gradient, x, gradient, np.zeros(2)),
    }
    for name, state in rows.items():
        settings = RULES[name].defaults | {"conjugate_gradient": {"variant": "fr"}, "lbfgs": {"history_size": 1}}[name]
        end, _ = RULES[name](x, g, state, 2, unclipped=gradient, **given, **settings)
        assert given["evaluate"](end)[0] < 0
        assert end[0] == end[1] < 0, name  # along -g


@pytest.mark.parametrize("variant", ["pr+", "fr"])
def test_clipping_is_preconditioning_to_conjugate_gradients(variant):
    """A g that is P times the gradient, P constant and diagonal, goes the way of the plain rule in x / sqrt(P)."""
    P = np.array([0.25, 1.0, 0.01])
    A = np.array([[3.0, 1.0, 0.0], [1.0, 2.0, 5.0], [0.0, 5.0, 50.0]])
    x, rule, settings = np.array([1.0, -2.0, 3.0]), RULES["conjugate_gradient"], {"variant": variant, "c2": 1e-8}
    clipped, _ = steps(rule, x, lambda x: A @ x, 3, lambda x: float(x @ A @ x) / 2, clip=lambda g: P * g, **settings)
    B = np.sqrt(P)[:, None] * A * np.sqrt(P)
    plain, _ = steps(rule, x / np.sqrt(P), lambda z: B @ z, 3, lambda z: float(z @ B @ z) / 2, **settings)
    for a, b in zip(clipped, plain, strict=True):
        np.testing.assert_allclose(a, np.sqrt(P) * b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(clipped[-1], 0, atol=1e-5)  # three dimensions, three exact steps


def two_loops(g, pairs):
    """Nocedal's recursion, as it stands in the book."""
    q, parts = g.copy(), []
    for s, y in reversed(pairs):
        parts.append(s @ q / (y @ s))
        q -= parts[-1] * y
    s, y = pairs[-1]
    r = s @ y / (y @ y) * q
    for (s, y), part in zip(pairs, reversed(parts), strict=True):
        r += s * (part - y @ r / (y @ s))
    return r


@pytest.mark.parametrize("n", [2, 5, 20_000])  # products of vectors in one piece, and in several
@pytest.mark.parametrize("history_size", [1, 3, 40])
def test_lbfgs_goes_where_the_two_loop_recursion_does(n, history_size):
    rng, rule = np.random.default_rng(2), RULES["lbfgs"]
    curvature = rng.uniform(0.5, 4.0, n)

    def gradient(x):
        return curvature * x + np.sin(x)

    hyper = rule.defaults | {"history_size": history_size, "line_search": "none", "lr": 0.7}
    x = rng.normal(size=n)
    state, pairs, g = rule.start(x, hyper), [], gradient(x)
    for t in range(1, 13):
        before, (x, state) = x, rule(x, g, state, t, fun=0.0, evaluate=None, unclipped=g, box=None, **hyper)
        if t > 1:
            np.testing.assert_allclose(x, before - 0.7 * two_loops(g, pairs), rtol=1e-9, atol=1e-10)
        g_last, g = g, gradient(x)
        pairs = [*pairs, (x - before, g - g_last)][-history_size:]


def test_a_step_of_lbfgs_that_is_broken_off_can_be_made_again():
    """What it writes into the memory of the pairs harms none that is in use: a checkpoint may hold that state."""
    rule, hyper = RULES["lbfgs"], RULES["lbfgs"].defaults | {"history_size": 2}
    x = beginning(rule)
    state = rule.start(x, hyper)

    def asked(x):
        return bowl(x) + float(np.sum(x**4)), bowl_gradient(x) + 4 * x**3

    def interrupted(x):
        raise KeyboardInterrupt

    for t in range(1, 9):
        fun, g = asked(x)
        given = {"fun": fun, "unclipped": g, "box": None} | hyper
        saved = [np.copy(part) for part in state]
        with pytest.raises(KeyboardInterrupt):
            rule(x, g, state, t, evaluate=interrupted, **given)
        again, _ = rule(x, g, tuple(saved), t, evaluate=asked, **given)
        x, state = rule(x, g, state, t, evaluate=asked, **given)
        np.testing.assert_array_equal(x, again)


def test_muon_by_hand_makes_a_diagonal_matrix_nearly_orthogonal():
    g = np.diag([3.0, 4.0])
    (x,), _ = steps(RULES["muon"], np.eye(2), lambda x: g, 1, lr=0.1, weight_decay=0.5)
    np.testing.assert_allclose(x, 0.95 * np.eye(2) - 0.1 * np.diag(newton_schulz(np.array([0.6, 0.8]), 5)), rtol=1e-12)


def test_adafactor_by_hand_keeps_rows_and_columns():
    g = np.array([[1.0, 2.0], [3.0, 4.0]])
    (x,), ((row, col, _),) = steps(RULES["adafactor"], np.ones((2, 2)), lambda x: g, 1, lr=0.1)
    np.testing.assert_allclose(row, [[2.5], [12.5]])
    np.testing.assert_allclose(col, [[5.0, 10.0]])
    u = g / np.sqrt(row * col / 7.5)
    np.testing.assert_allclose(x, 1 - 0.1 * u / max(1.0, sqrt((u**2).mean())), rtol=1e-14)


# -- what is said of every rule ---------------------------------------------------------------------------------------

SHAPES = {"element": (5,), "vector": (5,), "tensor": (3, 2)}


def bowl_gradient(x):
    return np.linspace(0.5, 3.0, x.size).reshape(x.shape).astype(x.dtype) * x


def bowl(x):
    return float(np.sum(bowl_gradient(x) * x) / 2)


def beginning(rule, dtype=np.float64):
    return (np.random.default_rng(3).normal(size=SHAPES[rule.scope]) + 0.1).astype(dtype)


@pytest.mark.parametrize("name", RULES)
def test_nothing_is_written_in_place(name):
    rule = RULES[name]
    x, hyper = beginning(rule), rule.defaults
    state = rule.start(x, hyper)
    for t in range(1, 6):
        g = bowl_gradient(x)
        for array in (x, g, *state):
            if isinstance(array, np.ndarray):
                array.flags.writeable = False
        extra = {
            "fun": bowl(x),
            "evaluate": lambda x: (bowl(x), bowl_gradient(x)),
            "unclipped": g,
            "box": None,
            "residuals": squares_of(bowl_gradient),
        }
        kept = [np.copy(a) for a in (x, g, *state)]
        after, state_after = rule(x, g, state, t, **hyper, **{n: extra[n] for n in rule.uses})
        assert all(np.array_equal(a, b) for a, b in zip((x, g, *state), kept, strict=True))
        assert [np.shape(a) for a in state_after] == [np.shape(a) for a in state]
        x, state = after, state_after


@pytest.mark.parametrize("name", RULES)
def test_float32_stays_float32_and_agrees(name):
    rule = RULES[name]
    (single, *_), (states, *_) = steps(rule, beginning(rule, np.float32), bowl_gradient, 3, f=bowl)
    (double, *_), _ = steps(rule, beginning(rule), bowl_gradient, 3, f=bowl)
    assert single.dtype == np.float32
    assert {np.asarray(a).dtype for a in states} <= {np.dtype(np.float32)}
    np.testing.assert_allclose(single, double, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [n for n, r in RULES.items() if r.scope == "element"])
def test_an_elementwise_rule_sees_each_element_alone(name):
    rule = RULES[name]
    x = beginning(rule)
    together, _ = steps(rule, x, bowl_gradient, 6)
    weights = np.linspace(0.5, 3.0, x.size)
    for i in range(x.size):
        alone, _ = steps(rule, x[i : i + 1], lambda x, w=weights[i]: w * x, 6)
        assert [p[i] for p in together] == [p[0] for p in alone]


# one step of Levenberg and Marquardt is all that a bowl takes, in each element
@pytest.mark.parametrize("name", [n for n, r in RULES.items() if r.scope != "element" and n != "levenberg_marquardt"])
def test_a_rule_that_is_not_elementwise_sees_more(name):
    rule = RULES[name]
    x = beginning(rule)
    together, _ = steps(rule, x, bowl_gradient, 30, f=bowl)
    part = (slice(0, 1),) * x.ndim
    weight = float(np.linspace(0.5, 3.0, x.size)[0])
    alone, _ = steps(rule, x[part], lambda x: weight * x, 30, f=lambda x: float(weight * np.sum(x * x) / 2))
    assert any(not np.allclose(a[part], b, rtol=1e-9, atol=1e-12) for a, b in zip(together, alone, strict=True))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("where", ["zero gradient", "zero x"])
def test_zeros_never_make_nan(name, where):
    rule = RULES[name]
    x = np.zeros(SHAPES[rule.scope]) if where == "zero x" else beginning(rule)
    settings = {n: 0.0 for n in ("eps", "eps_root", "adam_eps", "initial_accumulator") if n in rule.defaults}
    with np.errstate(all="raise", under="ignore"):
        points, states = steps(rule, x, lambda x: np.zeros_like(x), 3, **settings)
    for array in (*points, *(a for state in states for a in state)):
        assert not np.isnan(array).any()
    if not any("weight_decay" in n for n in rule.defaults) and name not in ("ftrl", "asgd", "yogi"):
        np.testing.assert_allclose(points[-1], x, rtol=1e-14)  # no gradient, no step


@pytest.mark.parametrize("name", [n for n, r in RULES.items() if "evaluate" not in r.uses])
def test_a_rule_can_be_traced_and_looks_at_no_number(name):
    """The same body becomes a graph: no guard, so it holds for every x, g and state of this shape."""
    rule = RULES[name]
    x = beginning(rule)
    _, states = steps(rule, x, bowl_gradient, 3, f=bowl)
    state = states[-1]

    def total(x, state=state):
        after, state = rule(
            x, bowl_gradient(x), state, 4, **rule.defaults, **({"fun": np.sum(x * x)} if rule.uses else {})
        )
        return np.sum(after) + sum(np.sum(array) for array in state)

    graph = kb.trace(total, x)
    assert not graph.guards
    for point in (x, 2 * x + 0.3):
        assert kb.graph.graph.evaluate(graph, point)[0] == pytest.approx(total(point), rel=1e-13)


@pytest.mark.parametrize("name", RULES)
def test_docstrings_have_formula_and_paper(name):
    lines = inspect.cleandoc(RULES[name].formula.__doc__).splitlines()  # Python 3.13 cleans it by itself
    assert any(line.startswith("    x = ") for line in lines)
    assert lines[0].count(":") or lines[0].startswith("Gradient descent,")
    assert any(char.isdigit() for char in lines[-1])  # a year


@pytest.mark.parametrize("name", RULES)
def test_what_a_hyperparameter_does_can_be_changed_between_steps(name):
    """lr is an argument of every step: nothing is bound to the first one's."""
    rule = RULES[name]
    x, hyper = beginning(rule), dict(rule.defaults)
    state = rule.start(x, hyper)
    extra = {
        "fun": bowl(x),
        "evaluate": lambda x: (bowl(x), bowl_gradient(x)),
        "unclipped": bowl_gradient(x),
        "box": None,
        "residuals": squares_of(bowl_gradient),
    }
    needed = {n: extra[n] for n in rule.uses}
    ends = [
        rule(x, bowl_gradient(x), state, 1, **(hyper | {"lr": hyper["lr"] * factor}), **needed)[0]
        for factor in (1e-3, 1.0)
    ]
    same = name in ("rprop", "cocob")  # lr is the first size, in the state; COCOB's first step has no scale
    assert np.array_equal(*ends) == same


# -- the catalogue ----------------------------------------------------------------------------------------------------

SEARCHES = [
    ("gradientdescent", {}),
    ("gradientdescent", {"line_search": "wolfe"}),
    ("barzilaiborwein", {}),
    ("barzilaiborwein", {"variant": "short"}),
    ("conjugategradient", {}),
    ("conjugategradient", {"variant": "fr"}),
    ("lbfgs", {}),
    ("lbfgs", {"semantics": "torch", "line_search": "wolfe"}),
    ("lbfgs", {"semantics": "torch"}),  # no line search
]


SUMS_OF_SQUARES = (
    *("parabola", "sphere", "shifted_bowl", "elongated_bowl", "booth", "rosenbrock", "beale", "plateau"),
    *("himmelblau", "freudenstein_roth", "egg_crate"),
)


@pytest.mark.sampled(7)
@pytest.mark.parametrize("name", kb.optimizers.names())
def test_every_rule_on_the_whole_catalogue(name):
    """At its own rate, as at others in test_honesty.py: no exception, no warning, a best point that is finite and no
    worse than the start, and no false success."""
    optimizer = kb.optimizers.resolve(name)
    suitable = [p for p in kb.problems.names() if name != "levenbergmarquardt" or p in SUMS_OF_SQUARES]
    for problem in map(kb.problems.__getitem__, suitable):
        run = kb.minimize(problem.f, problem.x0, optimizer, grad=problem.grad, max_steps=30)
        assert np.isfinite(run.best_fun), problem.name
        assert np.isfinite(run.best_x).all()
        assert run.best_fun <= problem.f(problem.x0)
        assert run.best_fun == problem.f(run.best_x)
        assert np.isfinite(run.x).all()
        assert not run.success or np.abs(problem.grad(run.x)).max() <= small(run)


def small(run):
    """The gradient that the end of a search may have: where the rounding of a large f is the end, more than 1e-6."""
    return 1e-5 * max(1.0, abs(run.fun)) if "to the rounding of f" in run.message else 1e-6


@pytest.mark.sampled(11)
@pytest.mark.parametrize("settings", SEARCHES[::2], ids=str)
@pytest.mark.parametrize("option", ["clipvalue", "clipnorm"])
def test_line_searches_with_clipped_gradients_on_the_whole_catalogue(settings, option):
    """No exception, no warning, a search that never ends above where it began, and no false success."""
    name, hyper = settings
    for problem in map(kb.problems.__getitem__, kb.problems.names()):
        for limit, lr in ((1e-3, 1.0), (1.0, 1.0), (1e-300, 1.0), (1.0, 1e-8), (1e-3, 1e4)):
            optimizer = kb.optimizers.resolve(name, **hyper, **{option: limit}, lr=lr)
            falls = name != "barzilaiborwein" and optimizer.hyperparameters.get("line_search") != "none"
            run = kb.minimize(problem.f, problem.x0, optimizer, grad=problem.grad, max_steps=25)
            where = f"{problem.name}, {option} {limit}, lr {lr}: {run.message}"
            assert np.isfinite(run.x).all(), where
            assert run.best_fun == problem.f(run.best_x) <= problem.f(problem.x0), where
            assert not falls or (np.diff(run.history.fun) <= 0).all(), where
            assert not run.success or np.abs(problem.grad(run.x)).max() <= small(run), where
            size = np.linalg.norm(np.ravel(problem.grad(problem.x0)), np.inf if option == "clipvalue" else 2)
            assert run.history.clipped[0] == (size > limit), where


@pytest.mark.parametrize("name", ["gradientdescent", "barzilaiborwein", "conjugategradient", "lbfgs"])
def test_line_searches_reach_the_minima(name):
    for problem, limit in (("rosenbrock", 3000), ("booth", 60), ("beale", 1000)):
        p = kb.problems[problem]
        run = kb.minimize(p.f, p.x0, kb.optimizers.resolve(name), grad=p.grad, max_steps=limit)
        slow = name == "gradientdescent" and problem == "rosenbrock"
        assert run.success or slow, (problem, run.message)
        assert run.best_fun < 1e-2 if slow else run.best_fun < 1e-9


@pytest.mark.parametrize("name", ["gradientdescent", "barzilaiborwein", "conjugategradient", "lbfgs"])
def test_every_evaluation_of_a_line_search_is_counted_and_the_best_is_kept(name):
    seen = []

    def f(x):
        value = float(100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2)
        seen.append(value)
        return value

    grad = kb.problems["rosenbrock"].grad
    run = kb.minimize(f, [-1.2, 1.0], kb.optimizers.resolve(name), grad=grad, max_steps=25)
    assert run.nfev == len(seen) > run.nit
    assert run.best_fun == min(seen)


def test_lbfgs_survives_what_breaks_its_curvature():
    """A concave start, a kink, a plateau: never NaN, never worse than the start."""
    rows = {
        "concave": (lambda x: float(np.cos(x).sum()), lambda x: -np.sin(x), [0.1, -0.2]),
        "kink": (lambda x: float(np.abs(x).sum()), np.sign, [1.0, -0.7]),
        "plateau": (lambda x: float(np.tanh(x**2).sum()), lambda x: 2 * x / np.cosh(x**2) ** 2, [4.0, 3.0]),
        "steep": (lambda x: float(np.exp(30 * x).sum()), lambda x: 30 * np.exp(30 * x), [1.0, 2.0]),
    }
    for what, (f, grad, x0) in rows.items():
        run = kb.minimize(f, x0, kb.optimizers.LBFGS(), grad=grad, max_steps=100)
        assert np.isfinite(run.x).all(), what
        assert run.best_fun <= f(np.array(x0)), what
        assert run.best_fun == f(run.best_x)


def test_a_search_within_bounds_evaluates_within_them():
    seen = []

    def f(x):
        seen.append(x.copy())
        return float(np.sum((x - 2) ** 2))

    run = kb.minimize(f, [0.0, 0.5], kb.optimizers.LBFGS(), grad=lambda x: 2 * (x - 2), bounds=(0, 1))
    assert run.success
    np.testing.assert_allclose(run.x, 1)
    assert all((x >= 0).all() and (x <= 1).all() for x in seen)


# -- estimates that are stuck -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dog", "dowg", "dadaptadamw", "prodigy", "cocob"])
def test_a_stuck_estimate_is_said_aloud(name):
    """A gradient that turns at every step teaches them nothing."""
    optimizer, x = kb.optimizers.resolve(name), np.array([1.0, 2.0])
    state, said = optimizer.init(x), []
    for t in range(20):
        g = np.array([1.0, -1.0]) * (-1) ** t
        x, state = optimizer.step(x, g, state, t + 1, 1.0)
        said.append(optimizer.advice(state, t + 1))
    assert said[0] is None
    assert "in 20 updates" in said[-1]
    assert any(hint in said[-1] for hint in ("reps_rel", "init_estim_sq_dist", "estim_lr0", "lr"))


def test_what_is_stuck_stands_in_the_message_of_the_run():
    run = kb.minimize(
        lambda x: float(x @ x), [1e8, 1e8], kb.optimizers.DoG(reps_rel=1e-20), grad=lambda x: 2 * x, max_steps=12
    )
    assert "hardly left its first value 1.41e-12 in 10 updates" in run.message
    assert not run.success


def test_a_bound_that_f_falls_below_is_said_aloud():
    for name in ("polyaksgd", "momo"):
        run = kb.minimize(lambda x: float(x @ x) - 5, [1.0], kb.optimizers.resolve(name, lr=0.1),
                          grad=lambda x: 2 * x, max_steps=20)  # fmt: skip
        assert "5 below" in run.message or "below" in run.message
        assert "lower it" in run.message


def test_an_estimate_that_grows_says_nothing():
    run = kb.minimize(lambda x: float(x @ x), [1.0], kb.optimizers.DoG(), grad=lambda x: 2 * x, max_steps=400, gtol=0)
    assert "hardly" not in run.message


# -- the frameworks, as stored ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored():
    with np.load(STORED) as file:
        return dict(file)


@pytest.mark.sampled(11)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_paths_are_the_frameworks_own(case, stored):
    """Stored by tests/reference/frameworks.py, and compared at every step by make test-bridges."""
    assert difference(path(case)[KEPT], stored[str(case)]) <= case.tolerance


def test_every_optimizer_of_a_framework_is_compared_with_it():
    table = kb.optimizers.SEMANTICS
    for rule, frameworks in table.items():
        rows = {f for name, s in SETTINGS.items() if kb.optimizers.resolve(name).rule.name == rule for f in s}
        assert set(frameworks) - {"paper"} == rows, rule
    assert all(len(settings) >= 3 for frameworks in SETTINGS.values() for settings in frameworks.values())
    assert len(CASES) == len(PROBLEMS) * sum(len(s) for f in SETTINGS.values() for s in f.values())


def test_the_page_of_the_optimizers_is_up_to_date():
    """docs/optimizers.md is written by tests/reference/frameworks.py; its second half needs no framework."""
    assert TABLE.read_text(encoding="utf-8").endswith(semantics_and_formulas())


def test_the_variants_are_told_apart_by_the_settings():
    """A comparison that every framework's formula would pass proves nothing: other semantics must fail it."""
    for optimizer, a, b in (("adam", "torch", "keras"), ("adagrad", "torch", "keras"), ("nadam", "torch", "optax"),
                            ("rmsprop", "torch", "keras"), ("adamax", "torch", "keras"), ("radam", "torch", "optax"),
                            ("amsgrad", "torch", "optax"), ("lamb", "keras", "optax")):  # fmt: skip
        apart = []
        for case in (c for c in CASES if (c.optimizer, c.framework) == (optimizer, a) and c.problem == "logistic"):
            layout, x0 = flatten(case.on.start)
            ends = []
            for semantics in (a, b):
                settings = kb.optimizers.resolve(optimizer, semantics=a, **case.settings)
                numbers = {
                    n: v for n, v in settings.hyperparameters.items()
                    if isinstance(v, float) and n != "momentum_decay" and v not in (inf,)
                }  # fmt: skip
                chosen = kb.optimizers.resolve(optimizer, semantics=semantics, lr=settings.lr, **numbers)
                x, state = x0, chosen.init(x0, layout)
                for t in range(50):
                    g = layout.match(case.on.grad(layout.view(x)), "g")
                    x, state = chosen.step(x, g, state, t + 1, chosen.lr_at(t), layout=layout)
                ends.append(x)
            apart.append(np.abs(ends[0] - ends[1]).max())
        assert max(apart) > 1e-5, optimizer


def test_every_interval_is_used():
    used = {n for rule in RULES.values() for n in rule.defaults} | {"weight_decay", "clipvalue", "clipnorm"}
    assert {n.rpartition(".")[2] for n in INTERVALS} == used - {
        n for rule in RULES.values() for n, v in rule.defaults.items() if isinstance(v, bool | str)
    }
