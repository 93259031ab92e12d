import math
import pickle

import numpy as np
import pytest

import koubai as kb
from koubai.descent import schedules
from koubai.errors import InputError

ALL = schedules.Schedule.__subclasses__()
EXAMPLES = {
    "constant": schedules.constant(0.1),
    "step": schedules.step(0.1, every=30),
    "exponential": schedules.exponential(0.1, 0.99),
    "cosine": schedules.cosine(0.1, steps=100, min_lr=0.01),
    "linear": schedules.linear(0.1, steps=100),
    "one_cycle": schedules.one_cycle(0.1, steps=100),
    "inverse_sqrt": schedules.inverse_sqrt(0.1, steps=10),
    "plateau": schedules.plateau(0.1, gamma=0.5, patience=2),
    "warmup": schedules.warmup(schedules.cosine(0.1, steps=50), steps=5),
}


def test_every_schedule_has_an_example_here():
    assert {cls.__name__ for cls in ALL} == set(EXAMPLES) == set(schedules.__all__) - {"Schedule", "plot"}


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (schedules.constant(0.1), {0: 0.1, 1000: 0.1}),
        (schedules.step(0.1, 30), {0: 0.1, 29: 0.1, 30: 0.01, 60: 0.001}),
        (schedules.step(0.8, (2, 5), gamma=0.5), {1: 0.8, 2: 0.4, 4: 0.4, 5: 0.2, 99: 0.2}),
        (schedules.exponential(0.1, 0.5), {0: 0.1, 1: 0.05, 3: 0.0125}),
        (schedules.exponential(0.1, 0.25, steps=2), {0: 0.1, 1: 0.05, 2: 0.025}),
        (schedules.cosine(0.2, 10), {0: 0.2, 5: 0.1, 10: 0.0, 20: 0.0}),
        (schedules.cosine(0.2, 12, min_lr=0.1), {0: 0.2, 4: 0.175, 6: 0.15, 8: 0.125, 12: 0.1}),
        (schedules.linear(0.2, 10), {0: 0.2, 5: 0.1, 10: 0.0, 20: 0.0}),
        (schedules.linear(0.1, 4, end_lr=0.3), {0: 0.1, 1: 0.15, 4: 0.3}),
        # 0.3 · 11 - 1 = 2.3 steps up, from 0.1 / 25, and down to 0.1 / 25e4 at step 10
        (schedules.one_cycle(0.1, 11, shape="linear"), {0: 0.004, 10: 4e-7, 99: 4e-7}),
        (schedules.one_cycle(0.1, 20, warm=0.25), {0: 0.004, 2: 0.052, 4: 0.1, 19: 4e-7}),
        (schedules.inverse_sqrt(0.1), {0: 0.1, 3: 0.05, 8: 0.1 / 3}),
        (schedules.inverse_sqrt(0.1, steps=10), {0: 0.1, 30: 0.05}),
        (schedules.warmup(0.1, steps=4, start_factor=0.2), {0: 0.02, 1: 0.04, 2: 0.06, 4: 0.1, 99: 0.1}),
        (schedules.warmup(schedules.linear(0.2, 10), 5, 0.5), {0: 0.1, 5: 0.2, 10: 0.1, 15: 0.0}),
        (schedules.plateau(0.1), {0: 0.1, 99: 0.1}),
    ],
)
def test_rates_by_hand(schedule, rates):
    for t, rate in rates.items():
        assert schedule(t) == pytest.approx(rate, rel=1e-12, abs=1e-17), t


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_schedule_is_a_value(name):
    schedule = EXAMPLES[name]
    assert eval(repr(schedule), vars(schedules)) == schedule
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert hash(pickle.loads(pickle.dumps(schedule))) == hash(schedule)
    assert all(schedule != other for key, other in EXAMPLES.items() if key != name)
    with pytest.raises(AttributeError):
        schedule.steps = 3
    rates = [schedule(t) for t in range(300)]
    assert all(isinstance(rate, float) and 0 <= rate <= 0.1 * (1 + 1e-15) for rate in rates)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.constant(0), "constant: lr must be a positive number, got 0"),
        (lambda: schedules.constant("0.1"), "lr must be a positive number"),
        (lambda: schedules.cosine(0.1, steps=0), "cosine: steps must be a whole number ≥ 1, got 0"),
        (lambda: schedules.cosine(0.1, steps=1.5), "steps must be a whole number"),
        (lambda: schedules.cosine(math.nan, steps=1), "lr must be a positive number"),
        (lambda: schedules.linear(0.1, 5, end_lr=-1), "end_lr must be a number ≥ 0"),
        (lambda: schedules.exponential(0.1, 1.5), r"gamma must be a number in \(0, 1\]"),
        (lambda: schedules.step(0.1, every=0), "every must be a whole number ≥ 1"),
        (lambda: schedules.step(0.1, every=()), "step: every must be a whole number or a tuple"),
        (lambda: schedules.step(0.1, every=(3, "x")), "step: every"),
        (lambda: schedules.one_cycle(0.1, 10, shape="round"), "shape must be 'cos' or 'linear'"),
        (lambda: schedules.one_cycle(0.1, 3), "must take more than 1"),
        (lambda: schedules.warmup("cosine", 5), "after must be a schedule or a number"),
        (lambda: schedules.warmup(0.1, 5, start_factor=0), r"start_factor must be a number in \(0, 1\]"),
        (lambda: schedules.plateau(0.1, gamma=1.0), r"gamma must be a number in \(0, 1\)"),
        (lambda: schedules.plateau(0.1, patience=-1), "patience must be a whole number ≥ 0"),
    ],
)
def test_numbers_that_can_not_be_used_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def rates(schedule, values):
    memory, out = schedule.start(), []
    for t, fun in enumerate(values):
        memory = schedule.observe(memory, t, fun)
        out.append(schedule.rate(t, memory))
    return out


def test_plateau_waits_then_falls_then_cools_down():
    schedule = schedules.plateau(1.0, gamma=0.5, patience=1, threshold=0.1, cooldown=2)
    #   falls  falls  a little  again: more than 1 wait   cooldown  cooldown   wait  wait
    values = [10.0, 8.0, 7.5, 7.5, 7.5, 7.5, 7.5, 7.5]
    assert rates(schedule, values) == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25]
    assert rates(schedules.plateau(1.0, gamma=0.1, patience=0, min_lr=0.05), [1.0] * 5) == [1, 0.1, 0.05, 0.05, 0.05]
    assert rates(schedules.plateau(1.0, patience=0), [-1.0, -1.0]) == [1, 0.1]  # a negative f that stands still
    assert rates(schedules.plateau(1.0, patience=0), [1.0, math.nan]) == [1, 0.1]


def test_plateau_remembers_outside_itself():
    schedule = schedules.plateau(1.0, gamma=0.5, patience=0)
    memory = schedule.observe(schedule.start(), 0, 1.0)
    kept = tuple(memory)
    after = [schedule.observe(memory, 1, 1.0) for _ in range(2)]
    assert memory == kept
    assert after[0] == after[1]
    assert all(isinstance(v, float) for v in after[0])  # so that a checkpoint can hold it


def test_plateau_in_a_descent_reads_the_runs_own_f():
    optimizer = kb.SGD(lr=schedules.plateau(0.9, gamma=0.5, patience=3))
    run = kb.minimize(lambda x: abs(x) ** 1.1, 1.0, optimizer, grad=lambda x: 1.1 * np.sign(x) * abs(x) ** 0.1,
                      max_steps=60)  # fmt: skip
    assert run.history.lr.tolist() == rates(optimizer.lr, run.history.fun)
    assert run.history.lr[-1] < 0.1
    again = kb.minimize(run.function, 1.0, optimizer, grad=lambda x: 1.1 * np.sign(x) * abs(x) ** 0.1, max_steps=60)
    assert np.array_equal(run.history.x, again.history.x)


def test_warmup_passes_the_memory_on():
    schedule = schedules.warmup(schedules.plateau(1.0, gamma=0.5, patience=0), steps=3, start_factor=0.5)
    assert rates(schedule, [1.0] * 6) == pytest.approx([0.5, 2 / 3, 5 / 6, 1.0, 0.5, 0.25])


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_descent_follows_its_schedule(name):
    run = kb.minimize(lambda x: x**2, 1.0, kb.SGD(lr=EXAMPLES[name]), max_steps=20, gtol=0)
    assert run.history.lr.tolist() == rates(EXAMPLES[name], run.history.fun)
    assert eval(repr(run.optimizer), {"SGD": kb.SGD, **vars(schedules)}) == run.optimizer
