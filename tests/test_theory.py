"""Theory: bounds by bisection of real runs, predicted beside measured rates, the descent lemma, and what it costs."""

import math
import re
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
from matplotlib import pyplot as plt

import koubai as kb
from koubai.derivatives.curvature import curvature
from koubai.descent.stability import preconditioner, predicted_rate, stability_bound
from koubai.diagnosis.theory import measured_rate, sharpness, theory
from koubai.errors import FunctionError, InputError


class Quadratic:
    """x·H x / 2 about a minimum, in a random basis: curvatures apart from one another, all of them met by the start."""

    def __init__(self, seed, n=None):
        random = np.random.default_rng(seed)
        n = int(random.integers(2, 51)) if n is None else n
        kappa = 10 ** random.uniform(0.5, 2.3)
        values = np.exp(random.uniform(0.25, math.log(kappa) - 0.25, n))
        values[:2] = 1, kappa
        values *= 10 ** random.uniform(-2, 2)
        basis = np.linalg.qr(random.normal(size=(n, n)))[0]
        self.hessian = basis * values @ basis.T
        self.hessian = (self.hessian + self.hessian.T) / 2
        self.minimum = random.normal(size=n)
        self.x0 = self.minimum + basis @ (random.choice([-1, 1], n) * random.uniform(1, 3, n))
        self.mu, self.L, self.random, self.n = values.min(), values.max(), random, n

    def __call__(self, x):
        return (x - self.minimum) @ self.hessian @ (x - self.minimum) / 2

    def gradient(self, x):
        return self.hessian @ (x - self.minimum)


# -- bounds by experiment ---------------------------------------------------------------------------------------------


def bisected(grows, about):
    low, high = about / 3, about * 3
    assert not grows(low)
    assert grows(high)
    while high / low > 1.005:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if grows(middle) else (middle, high)
    return math.sqrt(low * high)


LINEAR = {
    "sgd": lambda lr: kb.SGD(lr),
    "heavy ball": lambda lr: kb.Momentum(lr, momentum=0.9),
    "dampened": lambda lr: kb.SGD(lr, momentum=0.7, dampening=0.5),
    "nesterov": lambda lr: kb.Nesterov(lr, momentum=0.8),
    "keras": lambda lr: kb.SGD(lr, momentum=0.6, semantics="keras"),
    "decayed": lambda lr: kb.SGD(lr, momentum=0.5, weight_decay=0.3),
    "decoupled": lambda lr: kb.SGD(lr, momentum=0.5, weight_decay=0.2, decoupled_weight_decay=True),
}
RESTING = {  # near a minimum their divisor is eps
    "rmsprop": lambda lr: kb.RMSprop(lr, eps=1e-2),
    "rmsprop with momentum": lambda lr: kb.RMSprop(lr, eps=1e-2, momentum=0.7),
    "centered": lambda lr: kb.RMSprop(lr, eps=1e-2, centered=True),
    "adam": lambda lr: kb.Adam(lr, eps=1e-2),
    "nadam": lambda lr: kb.NAdam(lr, eps=1e-2, momentum_decay=math.inf),  # else its momentum warms up for long
    "amsgrad": lambda lr: kb.AMSGrad(lr, eps=1e-2),
}


@pytest.mark.sampled(17)
@pytest.mark.parametrize("n", [2, 3, 7, 20, 50])
@pytest.mark.parametrize("name", [*LINEAR, *RESTING])
def test_the_largest_stable_rate_is_where_real_runs_begin_to_grow(name, n):
    f = Quadratic(n, n)
    f.x0, f.minimum = f.x0 - f.minimum, np.zeros(n)
    make, divisor, start = LINEAR.get(name), 1.0, f.x0
    if make is None:
        make, divisor = RESTING[name], 1e-2
        start = 1e-60 * f.x0 / f.L  # squares of gradients are nothing beside eps, whatever Adam's first steps do
    bound = stability_bound(make(1.0), f.L / divisor)

    def grows(lr):
        run = kb.minimize(f, start, make(lr), grad=f.gradient, gtol=0, max_steps=700 if name in LINEAR else 1200)
        return run.history.grad_norm[-50:].max() > run.history.grad_norm[0]

    assert bisected(grows, bound) == pytest.approx(bound, rel=0.02)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("n", [2, 7, 20, 50])
@pytest.mark.parametrize("make", [kb.RMSprop, kb.Adam, kb.AMSGrad], ids=lambda make: make.__name__)
def test_the_bound_of_a_divided_rule_is_that_of_the_preconditioned_hessian(make, n):
    f = Quadratic(100 + n, n)
    optimizer = make(1e-3)
    x, state = f.x0, optimizer.init(f.x0)
    for t in range(1, 3001):
        x, state = optimizer.step(x, f.gradient(f.x0) * (1 + 0.5 * math.sin(t)), state, t, 1e-9)
    scale = preconditioner(optimizer, state, 3000)
    assert scale.max() > 1.5 * scale.min()
    preconditioned = curvature(f, f.x0, scale=scale).largest
    np.testing.assert_allclose(
        preconditioned, np.linalg.eigvalsh(np.sqrt(scale)[:, None] * f.hessian * np.sqrt(scale))[-1], rtol=1e-3
    )
    bound = stability_bound(optimizer, preconditioned)

    def grows(lr):
        x, names = f.minimum + 1e-6 * (f.x0 - f.minimum), optimizer.rule.state
        after = tuple(np.zeros_like(a) if name == "m" else a for name, a in zip(names, state, strict=True))
        norms = []
        for t in range(3001, 3101):
            g = f.gradient(x)
            norms.append(np.abs(g).max())
            x, after = optimizer.step(x, g, after, t, lr)
            if make is kb.RMSprop:  # it forgets a hundredth a step: hold it
                after = tuple(state[0] if name == "v" else a for name, a in zip(names, after, strict=True))
        return max(norms[-10:]) > norms[0]

    assert bisected(grows, bound) == pytest.approx(bound, rel=0.02 if make is kb.RMSprop else 0.1)


@pytest.mark.parametrize(
    ("settings", "limit"),
    [({}, 2.0), ({"momentum": 0.9}, 3.8), ({"momentum": 0.6, "nesterov": True}, 3.2 / 2.2),
     ({"momentum": 0.5, "dampening": 0.3}, 3.0 / 0.7), ({"weight_decay": 2.0}, 2.0 * 3 / 5)],
)  # fmt: skip
def test_the_bound_is_the_closed_form_where_there_is_one(settings, limit):
    """Both roots of z² - (1 + μ - λ(1-τ)) z + μ lie in the unit circle; Nesterov: z² - (1+μ)(1 - λ) z + μ(1 - λ)."""
    assert stability_bound(kb.SGD(0.1, **settings), 3.0) == pytest.approx(limit / 3, rel=1e-8)


def test_the_best_rates_of_the_textbook():
    mu, L = 2.0, 50.0
    kappa = L / mu
    assert predicted_rate(kb.SGD(1 / L), mu, L) == pytest.approx((1 - 1 / kappa) ** 2)
    assert predicted_rate(kb.SGD(2 / (L + mu)), mu, L) == pytest.approx(((kappa - 1) / (kappa + 1)) ** 2)
    root = (math.sqrt(kappa) - 1) / (math.sqrt(kappa) + 1)
    polyak = kb.Momentum(4 / (math.sqrt(L) + math.sqrt(mu)) ** 2, momentum=root**2)
    assert predicted_rate(polyak, mu, L) == pytest.approx(root**2, rel=1e-6)
    nesterov = kb.Nesterov(1 / L, momentum=root)
    assert predicted_rate(nesterov, mu, L) == pytest.approx((1 - 1 / math.sqrt(kappa)) ** 2, rel=1e-6)


def test_rules_without_a_bound_have_none():
    for optimizer in (kb.LBFGS(), kb.Lion(), kb.Lars(), kb.Rprop(), kb.ASGD(), kb.RMSprop(alpha=0.0), kb.DoG()):
        assert stability_bound(optimizer, 1.0) is None
        assert predicted_rate(optimizer, 0.5, 1.0) is None


# -- rates ------------------------------------------------------------------------------------------------------------


def optimizer_for(f, kind):
    random, share = f.random, f.random.uniform(0.1, 0.9)
    if kind == 0:
        return kb.SGD(2 * share / f.L)
    if kind == 1:
        return kb.SGD(2 / (f.L + f.mu))
    make = kb.Momentum if kind == 2 else kb.Nesterov
    while True:  # near a double root f falls as t² ρ^2t, which is no rate yet
        beta = random.uniform(0.5, 0.95)
        optimizer = make(1.0, momentum=beta)
        optimizer.lr = share * stability_bound(optimizer, f.L)
        slow = optimizer.lr * f.mu
        trace, product = (1 + beta - slow, beta) if kind == 2 else ((1 + beta) * (1 - slow), beta * (1 - slow))
        if abs(trace**2 - 4 * product) > 0.02:
            return optimizer


@pytest.mark.sampled(17)
@pytest.mark.parametrize("seed", range(100))
def test_predicted_and_measured_rate_of_a_quadratic_agree(seed):
    f = Quadratic(seed)
    run = kb.minimize(f, f.x0, optimizer_for(f, seed % 4), gtol=0, max_steps=5000)
    found = theory(run)
    assert found.predicted == pytest.approx(predicted_rate(run.optimizer, f.mu, f.L), rel=0.01)
    assert found.measured.value == pytest.approx(found.predicted, rel=0.02)
    # rates near 1 are all near one another: how many steps a digit takes says more
    assert math.log(found.measured.value) == pytest.approx(math.log(found.predicted), rel=0.01)
    assert found.measured.is_linear
    assert found.power is None
    assert found.evaluations <= max(60, run.njev // 5)
    assert found.lemma is None or found.lemma.holds
    if found.closed_form is not None:
        assert found.error < 1e-9


DEGENERATE = {"powell_singular": 2.0, "forrester": 3.0}  # flat as d^4 at its minimum, as d^3 on the shelf where it ends


@pytest.mark.sampled(7)
@pytest.mark.parametrize("name", [name for name in kb.problems.names() if name != "monkey_saddle"])
def test_predicted_and_measured_rate_agree_at_the_end_of_runs_on_the_catalogue(name):
    problem = kb.problems[name]
    end = kb.minimize(problem.f, problem.x0, max_steps=3000)
    points = [problem.x0, end.x]
    L = max(abs(v) for x in points for v in np.linalg.eigvalsh(np.atleast_2d(kb.hessian(problem.f)(x))))
    lr = 0.8 / L
    run = kb.minimize(problem.f, problem.x0, lr=lr, gtol=1e-11, max_steps=60_000)
    while run.status in (kb.Status.diverged, kb.Status.nonfinite):
        lr /= 4
        run = kb.minimize(problem.f, problem.x0, lr=lr, gtol=1e-11, max_steps=60_000)
    found = theory(run)
    assert found.evaluations <= max(60, run.njev // 5)
    if name in DEGENERATE:
        assert [found.power, found.measured.power] == pytest.approx([DEGENERATE[name]] * 2, rel=0.03)
        assert found.predicted == 1
        assert not found.measured.is_linear
        return
    assert found.curvatures[-1].smallest > 0
    assert found.power is None
    assert found.measured.is_linear or found.measured.last - found.measured.first < 20  # a few steps show no more
    assert math.log(found.measured.value) == pytest.approx(math.log(found.predicted), rel=0.1)


def test_where_there_is_no_minimum_f_does_not_shrink():
    problem = kb.problems["monkey_saddle"]
    found = theory(kb.minimize(problem.f, problem.x0, lr=0.05, max_steps=60))
    assert found.mu < 0 < 1 < found.predicted
    assert not found.measured.value < 1
    assert found.power is None


def test_a_direction_that_the_start_has_no_part_in_has_no_part_in_the_rate():
    def f(x):
        return 9 * (x[0] + x[1] - 4) ** 2 / 4 + (x[0] - x[1] + 2) ** 2 / 4

    run = kb.minimize(f, [-6.0, -4.0], lr=0.8 / 9, gtol=0, max_steps=60)
    found = theory(run)
    assert found.predicted == pytest.approx((1 - 0.8) ** 2)
    assert found.measured.value == pytest.approx(found.predicted, rel=1e-3)
    assert (found.mu, found.curvatures[-1].smallest) == pytest.approx((1, 1))
    assert "no part in 1 of 2 directions" in repr(found)
    found = theory(kb.minimize(f, [-6.0, -4.1], lr=0.8 / 9, gtol=0, max_steps=600))
    assert found.predicted == pytest.approx((1 - 0.8 / 9) ** 2)
    assert found.measured.value == pytest.approx(found.predicted, rel=1e-3)


FLAT = {
    "x^4": (lambda x: x**4, 1.0, kb.SGD(0.1), 2.0),
    "x^4 with momentum": (lambda x: x**4, 1.0, kb.Momentum(0.01), 2.0),
    "x^6": (lambda x: x**6, 1.0, kb.SGD(0.05), 1.5),
    "|x|^3": (lambda x: np.abs(x) ** 3, 1.0, kb.SGD(0.1), 3.0),
    "flat in one direction": (lambda x: x[0] ** 2 / 2 + x[1] ** 4 / 12, [1.0, 1.0], kb.SGD(1.0), 2.0),
    "flat in a slanted one": (lambda x: (x[0] + x[1] - 1) ** 2 + (x[0] - x[1]) ** 4, [2.0, 1.0], kb.SGD(0.03), 2.0),
}


@pytest.mark.parametrize("name", FLAT)
def test_a_degenerate_minimum_has_no_linear_rate(name):
    f, x0, optimizer, power = FLAT[name]
    found = theory(kb.minimize(f, x0, optimizer, max_steps=20_000, gtol=0))
    assert [found.power, found.measured.power] == pytest.approx([power, power], rel=0.05)
    assert found.predicted == 1
    assert found.measured.value == pytest.approx(1, abs=1e-3)
    assert not found.measured.is_linear
    assert f"f - f* as t^-{found.power:.3g}, sublinear" in repr(found)
    assert "degenerate" in found.notes[-1]
    assert found.least == pytest.approx(0, abs=0.2 * found.run.fun)  # of a power, not of a parabola


@pytest.mark.parametrize(("f", "x0", "steps"), [
    (lambda x: x**4, 1e-2, 200),  # the start is so near that it hardly moves
    (lambda x: x[0] ** 2 / 200 + x[1] ** 2 / 2, [1.0, 1.0], 300),  # first along one direction, then the other
    (kb.problems["rosenbrock"].f, [-1.2, 1.0], 3000),
    (lambda x: np.sqrt(1 + x**2), 30.0, 400),  # from a cone into a bowl
    (lambda x: np.exp(-x), 0.0, 1000),  # never arrives: mu falls with the gradient, as of no power d^k
])  # fmt: skip
def test_a_power_is_told_only_where_it_shows(f, x0, steps):
    found = theory(kb.minimize(f, x0, lr=1e-3 if steps == 3000 else 0.9, max_steps=steps, gtol=0))
    assert found.power is None


def test_the_floor_of_a_noisy_gradient_is_no_rate():
    random = np.random.default_rng(0)
    run = kb.minimize(lambda x: x @ x / 2, np.ones(3), lr=0.1, grad=lambda x: x + 1e-7 * random.normal(size=3),
                      max_steps=2000, gtol=0)  # fmt: skip
    assert measured_rate(run.history).value == pytest.approx(0.81, rel=0.02)


# -- the exact solution -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer",
    [kb.SGD(0.03), kb.Momentum(0.02), kb.Nesterov(0.02), kb.SGD(0.11), kb.SGD(0.03, momentum=0.5, semantics="keras")],
    ids=repr,
)
def test_a_run_on_a_parabola_is_its_exact_solution_step_by_step(optimizer):
    run = kb.minimize(lambda x: x[0] ** 2 + 9 * (x[1] - x[0]) ** 2 + x[0], [3.0, 1.0], optimizer, max_steps=200)
    found = theory(run)
    np.testing.assert_allclose(found.closed_form, run.history.x, rtol=0, atol=1e-7 * np.abs(run.history.x).max())
    assert found.error < 1e-7


def test_what_is_no_parabola_has_no_exact_solution():
    run = kb.minimize(lambda x: np.cosh(x[0]) + x[1] ** 2, [2.0, 1.0], lr=0.1)
    assert theory(run).closed_form is None
    assert theory(kb.minimize(kb.problems["rosenbrock"].f, [-1.2, 1.0], lr=1e-3, max_steps=50)).closed_form is None


# -- the descent lemma ------------------------------------------------------------------------------------------------


def test_the_lemma_is_checked_at_every_step():
    run = kb.minimize(lambda x: x[0] ** 2 + 5 * x[1] ** 2, [3.0, 1.0], lr=0.05, max_steps=40, gtol=0)
    lemma = theory(run).lemma
    g = run.history.x * [2, 10]
    np.testing.assert_array_equal(lemma.t, np.arange(40))
    np.testing.assert_allclose(lemma.promised, 0.05 * (1 - 0.05 * 10 / 2) * (g**2).sum(axis=1)[:-1], rtol=1e-9)
    assert lemma.holds
    assert (lemma.fall >= lemma.promised * (1 - 1e-9)).all()
    assert not lemma.excess.any()


def test_steps_that_break_the_lemma_are_named():
    def f(x):  # a ridge that no measured point sees
        return x**2 / 2 + 0.5 * np.exp(-(((x - 0.55) / 0.02) ** 2))

    run = kb.minimize(f, 1.0, lr=0.45, grad=lambda x: x, max_steps=30, record="all")
    lemma = theory(run, grad=lambda x: x).lemma
    assert lemma.t[lemma.broken].tolist() == [0]
    assert lemma.excess[0] == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize(("lr", "side"), [(0.19, "below"), (0.21, "above")])
def test_the_bound_is_told(lr, side):
    run = kb.minimize(lambda x: x[0] ** 2 + 5 * x[1] ** 2, [3.0, 1.0], lr=lr, max_steps=60)
    found = run.theory()
    assert f"lr = {lr} is {side} the largest stable rate 0.2" in repr(found)
    assert found.ratio == pytest.approx(lr / 0.2)
    assert (found.measured.value < 1) == (lr < 0.2) == (found.predicted < 1)


# -- other runs -------------------------------------------------------------------------------------------------------


def test_adam_is_measured_with_its_own_divisor():
    f = Quadratic(5, 6)
    run = kb.minimize(f, f.x0, kb.Adam(0.05), max_steps=400)
    optimizer = kb.Adam(0.05)
    state, x = optimizer.init(f.x0), f.x0
    for t in range(1, 402):
        x, state = optimizer.step(x, f.gradient(x), state, t, 0.05)
    scale = preconditioner(optimizer, state, 401)
    root = np.sqrt(scale)
    end = theory(run).curvatures[-1]
    assert end.largest == pytest.approx(np.linalg.eigvalsh(root[:, None] * f.hessian * root)[-1], rel=0.15)
    assert end.ratio == pytest.approx(0.05 * end.largest / 38)


def test_nothing_of_the_run_changes_and_the_cost_is_stated():
    f = Quadratic(3, 4)
    calls = [0]

    def gradient(x):
        calls[0] += 1
        return f.gradient(x)

    for optimizer in (kb.SGD(0.5 / f.L), kb.Adam(0.1)):
        run = kb.minimize(f, f.x0, optimizer, grad=gradient, max_steps=300)
        before = run.x.copy(), run.history.x.copy(), run.njev, repr(optimizer)
        calls[0] = 0
        found = theory(run, grad=gradient)
        assert calls[0] <= found.evaluations <= found.budget == 60
        np.testing.assert_array_equal(before[0], run.x)
        np.testing.assert_array_equal(before[1], run.history.x)
        assert before[2:] == (run.njev, repr(optimizer))


def test_every_kind_of_run_has_its_theory():
    bowl = kb.problems["elongated_bowl"]
    runs = [
        kb.minimize(bowl.f, bowl.x0, "lbfgs"),
        kb.minimize(bowl.f, bowl.x0, kb.SGD(kb.schedules.cosine(0.5, 100))),
        kb.minimize(bowl.f, bowl.x0, lr=0.1, bounds=[(-8, -1), (1, 3)]),
        kb.minimize(bowl.f, bowl.x0, lr=0.1, grad="central"),
        kb.minimize(bowl.f, bowl.x0, lr=0.1, record="off"),
        kb.minimize(bowl.f, bowl.x0, kb.SGD(0.1, clipnorm=0.1), max_steps=20),
        kb.minimize(lambda p: p["a"] ** 2 + np.sum(p["b"] ** 2), {"a": 1.0, "b": np.ones(2)}, lr=0.1),
        kb.minimize(lambda x: np.float32(1) * x @ x, np.ones(3, np.float32), lr=0.1),
        kb.minimize(bowl.f, bowl.x0, lr=0.1, max_steps=0),
        kb.minimize(lambda x: x * 0.0 + x, 1.0, lr=0.1, max_steps=10),
        kb.minimize(bowl.f, bowl.x0, lr=1e200, max_steps=3),
    ]
    for run in runs:
        found = theory(run)
        assert found.evaluations <= found.budget
        assert "curvature" in repr(found)
    assert theory(runs[2]).mu == 0.0  # both parameters are held by their bounds


def test_what_could_not_be_said_is_said(tmp_path):
    samples = kb.nn.batches(np.arange(8.0), size=4)
    run = kb.minimize(lambda x, a: np.mean((x - a) ** 2), 1.0, kb.SGD(0.1), batches=samples, max_steps=40)
    found = theory(run, f=lambda x: np.mean((x - np.arange(8.0)) ** 2))
    assert (found.L, found.bound, found.lemma) == (2, 1, None)
    assert "mini-batches" in found.notes[0]

    found = theory(kb.minimize(lambda x: x @ x, np.ones(3), kb.AdaBelief(0.1), max_steps=300))
    assert found.bound is None  # without P, its bound would be that of another matrix
    assert math.isnan(found.ratio)
    assert "AdaBelief depends on every gradient" in found.notes[0]

    found = theory(kb.minimize(lambda x: np.arange(1, 2001) @ x**2, np.ones(2000), lr=2e-4, max_steps=50))
    assert math.isclose(found.L, 4000, rel_tol=0.01)
    assert "mu may be smaller" in found.notes[0]

    run = kb.minimize(lambda x: x @ x, np.ones(3), lr=0.1)
    run.save(tmp_path / "run.npz")
    with pytest.raises(FunctionError, match="loaded without its function"):
        kb.load(tmp_path / "run.npz").theory()
    assert kb.load(tmp_path / "run.npz").theory(f=lambda x: x @ x).lemma.holds


def test_networks_train_at_the_edge_of_stability():
    X, y = kb.nn.moons(100, seed=0)
    network = kb.nn.Network([kb.nn.Dense(16), kb.nn.Tanh(), kb.nn.Dense(2)], kb.nn.CrossEntropy(), seed=0,
                            dtype=np.float64)  # fmt: skip
    network.build((2,))
    before = network.vector.copy()
    found = sharpness(network, X, y)
    np.testing.assert_array_equal(before, network.vector)

    def loss(v):
        twin.vector[...] = v
        return twin.layout.match(twin.gradient(X, y), "g")

    import copy

    twin = copy.deepcopy(network)
    columns = [(loss(before + 1e-5 * e) - loss(before - 1e-5 * e)) / 2e-5 for e in np.eye(before.size)]
    assert found.largest == pytest.approx(
        np.linalg.eigvalsh((np.array(columns) + np.transpose(columns)) / 2)[-1], rel=1e-3
    )


@pytest.mark.parametrize(("call", "said"), [
    (lambda: theory("run"), "run must be the result of koubai.minimize"),
    (lambda: stability_bound(kb.SGD(1.0), -2.0), "curvature must be positive"),
    (lambda: stability_bound("sgd", 2.0), "optimizer must be"),
    (lambda: predicted_rate(kb.SGD(1.0), 3.0, 2.0), "mu ≤ L"),
    (lambda: measured_rate([1, 2]), "history must be"),
    (lambda: theory(kb.minimize(lambda x, a: np.mean((x - a) ** 2), 1.0, "sgd",
                                batches=kb.nn.batches(np.arange(8.0), size=4), max_steps=4)), "mini-batches"),
])  # fmt: skip
def test_what_can_not_be_used_is_refused(call, said):
    with pytest.raises(InputError, match=said):
        call()


# -- the pages --------------------------------------------------------------------------------------------------------

DOCS = Path(__file__).parent.parent / "docs"


def blocks(name):
    return re.findall(r"^```python\n(.*?)^```", (DOCS / name).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_every_claim_of_the_page_runs_as_it_stands():
    space = {}
    for text in blocks("theory.md"):
        exec(compile(text, "theory.md", "exec"), space)
    plt.close("all")


def test_both_languages_show_the_same_code():
    one, other = ([re.sub(r" *#.*", "", text) for text in blocks(name)] for name in ("theory.md", "theory.ja.md"))
    assert one == other
