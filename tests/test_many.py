"""Many descents at once: each has the bits and the verdict that it has alone, however many run beside it."""

import gc
import os
import weakref

import numpy as np
import pytest

import koubai as kb
from koubai.descent.many import minimize_many
from koubai.errors import InputError
from koubai.execute import batched, library

pytestmark = pytest.mark.skipif(not library.available(), reason="llvmlite can't be loaded")


def himmelblau(x):
    a, b = x[0] * x[0] + x[1] - 11, x[0] + x[1] * x[1] - 7
    return a * a + b * b


def alone(f, start, optimizer, **options):
    return kb.minimize(f, start, optimizer, on_step=lambda step: None, record="off", **options)


def random_starts(count, scale=5.0, n=2):
    return np.random.default_rng(7).uniform(-scale, scale, (count, n))


NAMES = [name for name in kb.optimizers.names() if not kb.optimizers.resolve(name).rule.uses]


@pytest.mark.sampled(7)
@pytest.mark.parametrize("name", NAMES)
def test_each_descent_is_the_one_that_it_is_alone(name):
    optimizer = kb.optimizers.resolve(name)
    starts = random_starts(batched.LANES + 3)
    many = minimize_many(himmelblau, starts, optimizer, max_steps=130)
    assert many.executor == "native", many.executor_reason
    for i in (0, 5, batched.LANES + 2):
        run = alone(himmelblau, starts[i], optimizer, max_steps=130, gtol=0.0)
        if (
            run.status is kb.Status.stalled or "to the rounding of f" in run.message
        ):  # many descents do not look for that: x stays where it is
            np.testing.assert_array_equal(many.x[i], run.x)
            continue
        assert many.status[i] is run.status
        assert many.steps[i] == run.nit
        np.testing.assert_allclose(many.x[i], run.x, rtol=1e-9, atol=1e-12)
        if name in ("sgd", "momentum", "adam", "rmsprop", "lion"):  # arithmetic and roots alone
            np.testing.assert_array_equal(many.x[i], run.x)
            assert many.fun[i] == run.fun


@pytest.mark.parametrize("count", [1, batched.LANES - 1, batched.LANES, batched.LANES + 1, 5 * batched.LANES])
def test_neighbours_and_threads_change_no_bit(count, monkeypatch):
    monkeypatch.setattr("koubai.descent.many.PIECE", 2 * batched.LANES)
    starts = random_starts(5 * batched.LANES)
    whole = minimize_many(himmelblau, starts, kb.SGD(lr=0.01), max_steps=100, threads=1)
    some = minimize_many(himmelblau, starts[:count], kb.SGD(lr=0.01), max_steps=100, threads=3)
    for name in ("x", "fun", "grad_norm", "steps", "codes"):
        np.testing.assert_array_equal(getattr(some, name), getattr(whole, name)[:count])


def test_where_the_system_does_not_tell_which_cpus_are_ours(monkeypatch):
    """macOS and Windows have no os.sched_getaffinity."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    starts = random_starts(2 * batched.LANES)
    many, one = (minimize_many(himmelblau, starts, kb.SGD(lr=0.01), max_steps=100, threads=n) for n in (None, 1))
    np.testing.assert_array_equal(many.x, one.x)


@pytest.mark.sampled(7)
@pytest.mark.parametrize("name", kb.problems.names())
def test_every_problem_of_the_catalogue_descends_as_it_does_alone(name):
    problem = kb.problems[name]
    x0 = np.asarray(problem.x0, np.float64)
    starts = x0 + random_starts(3, 0.01, x0.size).reshape(3, *x0.shape)
    many = minimize_many(problem.f, starts, kb.Adam(lr=0.01), max_steps=70)
    assert many.executor == "native", many.executor_reason
    for x, start in zip(many.x, starts, strict=True):
        run = alone(problem.f, start, kb.Adam(lr=0.01), max_steps=70, gtol=0.0)
        np.testing.assert_allclose(x, run.x, rtol=1e-9, atol=1e-12)


SIGNED = {
    "himmelblau": himmelblau,
    "product": lambda x: x[0] * x[1],
    "difference": lambda x: (x[0] - x[1]) ** 2,
    "other difference": lambda x: (x[1] - x[0]) ** 2,
    "twice": lambda x: x[0] * (2.0 * x[1] + x[0] * x[1]),
    "halves": lambda x: (0.5 * x[0] + x[1]) * (4.0 * x[0] + 0.5 * x[1]),
    "shifted": lambda x: (x[0] - 3.0) * (x[1] + 1e-60) + 2.0 * (1.0 - x[0]) ** 2,
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", SIGNED)
def test_zeros_keep_their_sign_and_the_smallest_numbers_their_bits(name, dtype):
    f, tiny = SIGNED[name], np.finfo(dtype).smallest_subnormal
    numbers = np.array([0.0, -0.0, tiny, -tiny, 3 * tiny, -1e-30, 1.0, 3.0, -7.5], dtype)
    starts = np.stack(np.meshgrid(numbers, numbers), -1).reshape(-1, 2)
    many = minimize_many(f, starts, kb.SGD(lr=1.0), max_steps=3)
    assert many.steps.max() == 3
    assert many.executor == "native", many.executor_reason
    derivative = kb.grad(f)
    for i, start in enumerate(starts):
        x = start
        for _ in range(many.steps[i]):
            x = x - derivative(x)
        assert many.x[i].tobytes() == x.tobytes()


def _switched(t):
    return 0.5 if t < 151 else 0.75


# What comes to rest or goes round in a circle: f, its derivative, the rate, and starts in which all steps are exact.
REPEATING = {
    "at rest": (lambda x: (x - 3.0) ** 2, lambda x: 2.0 * (x - 3.0), 0.375, [1.0, 2.0, -5.0, 7.0, 0.0, -0.0]),
    "to and fro": (lambda x: x * x, lambda x: x + x, 1.0, [1.0, -2.0, 1e-45, 0.0, -0.0]),
    "until the rate changes": (abs, np.sign, _switched, [0.25, 1.0, -0.125]),
    "until the rate is -0": (lambda x: x * x * x, lambda x: 3 * x * x, lambda t: 0.0 if t < 100 else -0.0, [-0.0, 1.0]),
    "in circles of three": (
        lambda x: 0.5 * x * x * x + 0.75 * x * x - x, lambda x: 1.5 * x * x + 1.5 * x - 1.0, 1.0, [0.0, 1.0, -1.0],
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("name", "neighbour"),  # a rate for one beside them that still moves, or diverges; it is none that changes
    [(name, rate) for name in REPEATING for rate in (None, 1e-3, 1e9) if rate is None or "until" not in name],
)
def test_what_repeats_itself_ends_as_if_every_step_were_made(name, neighbour, dtype):
    f, derivative, lr, numbers = REPEATING[name]
    starts, rates = np.array(numbers, dtype), None
    if neighbour is not None:
        starts, rates = np.append(starts, dtype(1.7)), np.append(np.full(len(starts), lr), neighbour)
    for max_steps in (7, 8, 64, 190, 191, 192, 193, 300, 301, 10_001):
        many = minimize_many(f, starts, kb.SGD(lr=lr), max_steps=max_steps, lr=rates)
        assert many.executor == "native", many.executor_reason
        for i, x in enumerate(starts[: len(numbers)]):
            for t in range(max_steps):
                x -= dtype(lr(t) if callable(lr) else lr) * derivative(x)
            assert (float(many.x[i]).hex(), many.steps[i]) == (float(x).hex(), max_steps)
            assert many.fun[i] == f(x)


def first_rests(x):
    return (x[0] - 3.0) ** 2 + 1e-4 * (x[1] - 1.0) ** 2


STATES = {  # what comes back to the same x in another state, or in a state that t tells
    "rprop": (kb.Rprop(lr=0.01), lambda x: x, np.array([1.5 * 2.0**54]), 300),
    "adagrad": (
        kb.Adagrad(lr=0.5e16, lr_decay=1e-17, initial_accumulator_value=1e32, eps=0.0), np.abs, np.array([0.25]), 200,
    ),
    "momentum": (kb.SGD(lr=0.1, momentum=0.5), lambda x: (x - 3.0) ** 2, np.array([0.0, 2.5]), 700),
    "adam": (kb.Adam(lr=0.5, beta1=0.25, beta2=0.5), lambda x: (x - 3.0) ** 2, np.array([0.0, 2.5]), 700),
    "one component": (kb.SGD(lr=0.3), first_rests, np.array([[0.0, 5.0], [4.0, -2.0]]), 500),
}  # fmt: skip


@pytest.mark.parametrize("own_rates", [False, True])
@pytest.mark.parametrize("name", STATES)
def test_the_state_and_every_component_must_be_what_they_were(name, own_rates):
    optimizer, f, starts, max_steps = STATES[name]
    rates = np.full(len(starts), optimizer.lr) if own_rates else None
    many = minimize_many(f, starts, optimizer, max_steps=max_steps, lr=rates)
    assert many.executor == "native", many.executor_reason
    derivative = kb.grad(f)
    for i, x in enumerate(starts):
        layout, x = kb.parameters.flatten(x, "x")
        state = optimizer.init(x, layout)
        for t in range(max_steps):
            g = np.atleast_1d(derivative(layout.view(x)))
            x, state = optimizer.step(x, g, state, t + 1, optimizer.lr_at(t), layout=layout)
        assert np.ravel(many.x[i]).tobytes() == x.tobytes()
        assert many.steps[i] == max_steps


def test_what_is_at_rest_costs_no_more_steps():
    most = 2**31 - 1  # all made, these would take minutes
    many = minimize_many(lambda x: (x - 3.0) ** 2, np.array([1.0, 7.0]), kb.SGD(), lr=[0.3, 0.4], max_steps=most)
    np.testing.assert_allclose(many.x, 3.0)
    assert many.steps.tolist() == [most, most]
    with pytest.raises(InputError, match="max_steps must be at most 2147483647, got 2147483648"):
        minimize_many(lambda x: x * x, np.ones(2), kb.SGD(lr=0.1), max_steps=most + 1)


@pytest.mark.parametrize(("count", "threads"), [(1, 2), (1000, 2), (4096, 2), (65_536, 16), (100_000, 1)])
def test_every_thread_has_something_to_do(count, threads, monkeypatch):
    pieces, bound = [], batched.BatchedDescents.bound

    def counted(self, memory, count):
        descend = bound(self, memory, count)
        return lambda first, last: pieces.append((first, last)) or descend(first, last)

    monkeypatch.setattr(batched.BatchedDescents, "bound", counted)
    minimize_many(lambda x: x * x, np.ones(count), kb.SGD(lr=0.1), max_steps=1, threads=threads)
    assert len(pieces) >= min(threads, -(-count // batched.LANES))
    ends = sorted(pieces)
    assert [first for first, _ in ends] == [0, *(last for _, last in ends[:-1])]
    assert ends[-1][1] == count


def test_what_a_thread_writes_lives_as_long_as_it_may_write(monkeypatch):
    kept, bound = [], batched.BatchedDescents.bound

    def held(self, memory, count):
        kept.extend([weakref.ref(self), *map(weakref.ref, memory), bound(self, memory, count)])
        return kept[-1]

    monkeypatch.setattr(batched.BatchedDescents, "bound", held)
    minimize_many(lambda x: x * x, np.ones(40), kb.SGD(lr=0.1), max_steps=3)
    gc.collect()
    assert all(known() is not None for known in kept[:-1])


def test_a_tolerance_stops_each_where_it_is_met():
    starts = random_starts(50)
    many = minimize_many(himmelblau, starts, kb.SGD(lr=0.01), max_steps=500, gtol=1e-6)
    assert {status.name for status in many.status} == {"converged"}
    assert (many.grad_norm <= 1e-6).all()
    assert len(set(many.steps.tolist())) > 10
    for i in range(0, 50, 7):
        run = alone(himmelblau, starts[i], kb.SGD(lr=0.01), max_steps=500)
        assert (many.steps[i], many.status[i]) == (run.nit, run.status)
        np.testing.assert_array_equal(many.x[i], run.x)


@pytest.mark.parametrize("gtol", [0.0, 1e-6])
def test_divergence_ends_one_and_leaves_the_others(gtol):
    starts = random_starts(100, scale=30.0)
    many = minimize_many(himmelblau, starts, kb.SGD(lr=0.01), max_steps=200, gtol=gtol)
    names = {status.name for status in many.status}
    assert "diverged" in names
    assert len(names) > 1
    assert np.isfinite(many.x).all()
    for i in range(0, 100, 9):
        run = alone(himmelblau, starts[i], kb.SGD(lr=0.01), max_steps=200, gtol=gtol)
        if run.status is not kb.Status.stalled:
            assert (many.steps[i], many.status[i]) == (run.nit, run.status)
        np.testing.assert_array_equal(many.x[i], run.x)


def test_what_is_not_finite_is_never_taken():
    def f(x):
        return np.sqrt(x[0]) + x[0] * x[0]

    starts = np.array([[0.5], [0.3], [-1.0], [2.0]])
    many = minimize_many(f, starts, kb.SGD(lr=0.3), max_steps=50)
    assert many.status[2] is kb.Status.nonfinite
    assert many.steps[2] == 0
    assert many.x[2] == -1.0
    for i in (0, 1, 3):
        run = alone(f, starts[i], kb.SGD(lr=0.3), max_steps=50, gtol=0.0)
        assert (many.status[i], many.steps[i]) == (run.status, run.nit)
        np.testing.assert_array_equal(many.x[i], run.x)
        assert np.isfinite(many.fun[i])


@pytest.mark.parametrize("known", [True, False])  # is there a box in which f stays small?
def test_x_that_has_been_too_far_and_is_back_has_diverged(known):
    def f(x):
        return 1e-25 * x * x + (0.0 if known else 0.0 * np.sqrt(x * x + 1.0))

    def lr(t):
        return 6e25 if t < 12 else 0.5e25  # times -11 twelve times, then times 0

    optimizer, starts = kb.SGD(lr=lr), np.array([1.0, 0.0, -2.0])
    many = minimize_many(f, starts, optimizer, max_steps=60)
    assert [status.name for status in many.status] == ["diverged", "max_steps", "diverged"]
    for i, start in enumerate(starts):
        run = alone(f, start, optimizer, max_steps=60, gtol=0.0)
        np.testing.assert_array_equal(many.x[i], run.x)
        if i != 1:
            assert (many.status[i], many.steps[i]) == (run.status, run.nit)


def test_a_gradient_that_was_not_finite_for_one_step_ends_a_descent():
    def f(x):
        return 8 * x[1] - np.sqrt(x[0] + 2 * x[1])

    starts, optimizer = np.array([[0.0, 0.5], [1.0, 3.0]]), kb.Lion(lr=0.25)
    many = minimize_many(f, starts, optimizer, max_steps=20)
    assert many.status[0] is kb.Status.nonfinite  # where the root's slope is infinite; the sign of it would lead on
    for i in range(2):
        run = alone(f, starts[i], optimizer, max_steps=20, gtol=0.0)
        assert (many.status[i], many.steps[i]) == (run.status, run.nit)
        np.testing.assert_array_equal(many.x[i], run.x)


BOUNDED = {
    "himmelblau": himmelblau,
    "rosenbrock": lambda x: np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2),
    "waves": lambda x: np.sum(x**4 / 16.0 - 10 * np.cos(2 * np.pi * x)) + np.exp(np.sin(x[0])),
    "kinks": lambda x: np.sum(np.abs(x) + np.where(x > 0, np.tanh(x), x * x) - np.minimum(x, 0.5)),
    "matrix": lambda x: (np.outer(x, x) @ x).sum() ** 2,
    "data": lambda x: np.sum((np.array([[1.0, 2.0], [3.0, -4.0]]) @ x[:2] - 5.0) ** 2),
    "whole numbers": lambda x: np.sum(x**4 / np.array([1, 2, 3])) + np.mean(x**2) / 3,
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", BOUNDED)
def test_in_its_box_f_stays_small_and_the_gradient_finite(name, dtype):
    graph = kb.trace(BOUNDED[name], np.ones(3, dtype)).gradient()
    reach = batched.safe_interval(graph, 1e10)
    assert reach > 1.0
    corners = np.stack(np.meshgrid(*[[-reach, -0.3 * reach, 0.7, reach]] * 3), -1).reshape(-1, 3).astype(dtype)
    largest = 0.0
    for x in corners:
        f, g = kb.value_and_grad(BOUNDED[name])(x)
        largest = max(largest, abs(float(f)))
        assert np.isfinite(g).all()
    assert largest <= 0.8e10
    assert largest > 1e4  # the box is no smaller than it need be


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.log(x[0]) + x[1],
        lambda x: 1.0 / x[0],
        lambda x: x[0] * 1e40,
        lambda x: np.sin(x[0] * 1e200) + 1e11,
        lambda x: x[0] ** 0.5,
    ],
)
def test_where_f_may_be_anything_there_is_no_box(f):
    assert batched.safe_interval(kb.trace(f, np.ones(2)).gradient(), 1e10) == 0.0


def test_bounds_rates_schedules_and_shapes():
    starts = random_starts(20)
    low = np.minimum(np.maximum(starts, [-1.0, -9.0]), [2.0, 0.5])
    inside = minimize_many(himmelblau, low, kb.Adam(lr=0.05), max_steps=100, bounds=[(-1.0, 2.0), (None, 0.5)])
    assert (inside.x[:, 0] <= 2.0).all()
    assert (inside.x[:, 0] >= -1.0).all()
    assert (inside.x[:, 1] <= 0.5).all()
    rates = np.linspace(0.001, 0.012, 20)
    swept = minimize_many(himmelblau, np.tile([1.0, 1.0], (20, 1)), kb.SGD(), lr=rates, max_steps=100)
    for i in (0, 10, 19):
        run = alone(himmelblau, [1.0, 1.0], kb.SGD(lr=float(rates[i])), max_steps=100, gtol=0.0)
        np.testing.assert_array_equal(swept.x[i], run.x)
    falling = kb.SGD(lr=kb.schedules.cosine(0.01, 100))
    scheduled = minimize_many(himmelblau, starts, falling, max_steps=100)
    np.testing.assert_array_equal(scheduled.x[3], alone(himmelblau, starts[3], falling, max_steps=100, gtol=0.0).x)
    numbers = minimize_many(lambda x: (x - 1.0) * (x - 1.0), np.linspace(-3, 3, 40), kb.SGD(lr=0.1), max_steps=400)
    assert numbers.x.shape == (40,)
    np.testing.assert_allclose(numbers.x, 1.0)
    matrices = minimize_many(lambda W: np.sum(W * W), np.ones((7, 2, 3)), kb.SGD(lr=0.1), max_steps=10)
    assert matrices.x.shape == (7, 2, 3)


def test_starts_on_another_path_run_one_by_one():
    def f(x):
        return x[0] * x[0] if x[0] > 0 else 3.0 * x[0] * x[0]

    starts = np.array([[1.0], [-1.0], [2.0], [-2.0]])
    many = minimize_many(f, starts, kb.SGD(lr=0.1), max_steps=300, gtol=1e-8)
    assert "another path" in many.executor_reason
    assert {status.name for status in many.status} == {"converged"}
    for i in range(4):
        np.testing.assert_array_equal(many.x[i], alone(f, starts[i], kb.SGD(lr=0.1), max_steps=300, gtol=1e-8).x)


def test_a_search_takes_differences_where_f_can_not_be_traced():
    def f(x):
        if x[0] > 3:
            return float(str(float(x[0] ** 2 + x[1] ** 2)))
        return (x[0] - 1) ** 2 + 2 * x[1] ** 2

    many = minimize_many(f, random_starts(40), "lbfgs")
    assert many.success.all()
    assert not many.raised
    assert "differences" in many.executor_reason
    np.testing.assert_allclose(many.x, np.tile([1.0, 0.0], (40, 1)), atol=1e-5)


def test_without_machine_code_it_is_slower_and_right():
    starts = random_starts(3, n=3)
    many = minimize_many(lambda x: np.sum(np.sort(x) ** 2), starts, kb.SGD(lr=0.1), max_steps=40)
    assert many.executor == "python"
    assert many.executor_reason
    np.testing.assert_allclose(many.x, starts * 0.8**40, rtol=1e-12)


def test_float32_stays_float32():
    many = minimize_many(himmelblau, random_starts(40).astype(np.float32), kb.Adam(lr=0.05), max_steps=60)
    assert many.x.dtype == many.fun.dtype == np.float32
    assert np.isfinite(many.x).all()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"starts": 3.0}, "array of starts"),
        ({"starts": [[1.0, np.nan]]}, "start 0"),
        ({"starts": np.zeros((0, 2))}, "shape"),
        ({"max_steps": -1}, "max_steps"),
        ({"gtol": -1.0}, "gtol"),
        ({"threads": 0}, "threads"),
        ({"lr": [0.1]}, "one a start"),
        ({"lr": [0.1, np.inf]}, "finite"),
        ({"bounds": (2.0, 3.0)}, "outside its bounds"),
        ({"starts": [[2.5, 2.5], [2.5, 3.5]], "bounds": (2.0, 3.0)}, "start 1 lies outside"),
    ],
)
def test_bad_arguments_are_named(options, text):
    given = {"starts": np.ones((2, 2)), "max_steps": 5} | options
    with pytest.raises(InputError, match=text):
        minimize_many(himmelblau, given.pop("starts"), kb.SGD(lr=0.01), **given)
