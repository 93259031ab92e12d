import sys

import numpy as np
import pytest

import koubai as kb
from koubai.descent.record import COLUMNS, Recorder
from koubai.errors import InputError, MissingPackageError
from koubai.parameters import flatten, leaves


def fill(recorder, rows, n):
    for t in range(rows):
        recorder.add(t, np.full(n, float(t)), -float(t), 1.0 / (t + 1), 0.1)
    return recorder.history()


def test_a_long_history_is_thinned_and_its_rows_stay_consistent():
    layout, _ = flatten(np.zeros(100_000))
    recorder = Recorder(layout, "auto")
    history = fill(recorder, 400, 100_000)
    assert recorder.count <= recorder.limit + 1 < 400
    assert history.t[0] == 0
    assert history.t[-1] == 399
    assert len(set(np.diff(history.t[:-1]))) == 1
    assert np.array_equal(history.x[:, 5], history.t)
    assert np.array_equal(history.fun, -history.t.astype(float))
    assert np.array_equal(history.grad_norm, 1.0 / (history.t + 1))


@pytest.mark.slow
def test_a_history_of_many_parameters_takes_200_mb_and_says_how_it_was_thinned():
    x0 = np.linspace(-1.0, 1.0, 1_000_000)
    run = kb.minimize(lambda x: x @ x / 2, x0, kb.SGD(lr=1e-3), max_steps=50, gtol=0)
    history = run.history
    names = ("t", "x", "fun", "grad_norm", "lr", "clipped", "projected")
    assert 80e6 < sum(getattr(history, name).nbytes for name in names) <= 200e6
    assert history.stride in (4, 8)
    assert set(np.diff(history.t[:-1])) == {history.stride}
    assert (history.t[0], history.t[-1]) == (0, 50)
    assert f"thinned to every {history.stride} steps" in repr(run)
    assert f"thinned to every {history.stride} steps" in repr(history)
    whole = kb.minimize(lambda x: x @ x / 2, x0[:10], kb.SGD(lr=1e-3), max_steps=50, gtol=0)
    assert whole.history.stride == 1
    assert "thinned" not in repr(whole) + repr(whole.history)


@pytest.mark.parametrize(("record", "rows"), [("all", 400), ("off", 2)])
def test_record_all_and_off(record, rows):
    layout, _ = flatten(np.zeros(100_000))
    history = fill(Recorder(layout, record), 400, 100_000)
    assert len(history) == rows
    assert (history.t[0], history.t[-1]) == (0, 399)


def test_a_run_of_no_steps_has_one_row():
    run = kb.minimize(lambda x: x**2, 0.0)
    assert len(run.history) == 1
    assert run.nit == 0


def test_the_history_of_a_dict_is_a_dict():
    run = kb.minimize(lambda p: (p["a"] ** 2).sum() + p["b"] ** 2, {"a": np.ones((2, 3)), "b": 1.0})
    assert run.history.x["a"].shape == (len(run.history), 2, 3)
    assert run.history.x["b"].shape == (len(run.history),)
    assert np.array_equal(run.history.x["a"][-1], run.x["a"])


def test_repr_says_how_it_ended():
    run = kb.minimize(lambda x: x**2, 3.0, lr=0.1)
    assert repr(run).startswith("Run: converged — largest |gradient|")
    assert "SGD(lr=0.1) (lr alone means plain gradient descent)" in repr(run)


@pytest.mark.parametrize("record", ["auto", "all", "off"])
def test_rows_that_a_loop_writes_are_those_that_are_added(record, monkeypatch):
    monkeypatch.setattr(Recorder, "ROWS", 70)
    layout, _ = flatten(np.zeros(3))
    rng = np.random.default_rng(0)
    for steps in (0, 10_000):
        one, many = Recorder(layout, record), Recorder(layout, record, steps=steps)
        rows = [(t, rng.normal(size=3), *rng.normal(size=3), bool(t % 3), bool(t % 5)) for t in range(3000)]
        many.add(*rows[0])
        at = 0
        while at < len(rows) - 1:
            end, mask, columns = many.reserve(at, min(len(rows) - 1, at + int(rng.integers(1, 400))))
            assert end > at
            k = 0
            for t, x, fun, grad_norm, _, clipped, projected in rows[at + 1 : end + 1]:
                written = {"x": x, "fun": fun, "grad_norm": grad_norm, "clipped": clipped, "projected": projected}
                for name, value in written.items():
                    columns[name][k] = value
                k += not t & mask
            many.take(at, np.array([row[4] for row in rows[at : end + 1]]), rows[end])
            at = end
        for row in rows:
            one.add(*row)
        assert many.count <= many.limit or record == "all"
        for name in ("t", "x", *COLUMNS, "epochs"):
            column = getattr(one.history(), name)
            np.testing.assert_array_equal(column, getattr(many.history(), name))


@pytest.mark.parametrize("n", [2, 2000])
def test_a_training_may_overwrite_the_x_of_the_row_before_the_last(n):
    layout, _ = flatten(np.zeros(n))
    recorder, slots = Recorder(layout, "auto", 10_000_000), np.zeros((2, n))
    for t in range(40):
        x = slots[t % 2] if t else np.zeros(n)
        x[:] = t
        recorder.add(t, x, float(t), 1.0, 0.1)
    history = recorder.history()
    assert (history.x[:, 0] == history.t).all()


def test_rows_wait_for_a_reader_in_bounded_memory():
    small, large = (Recorder(flatten(np.zeros(n))[0], "auto") for n in (2, 5000))
    for recorder in (small, large):
        for t in range(100):
            recorder.add(t, np.full(recorder.layout.size, float(t)), float(t), 1.0, 0.1)
            assert recorder._columns.waiting <= (Recorder.WAITING if recorder is small else 1)
        history = recorder.history()
        assert (history.x[:, -1] == history.t).all()


def test_a_history_given_away_stays_as_it_is():
    layout, _ = flatten(np.zeros(2))
    recorder = Recorder(layout, "auto", steps=100)
    for t in range(90):
        recorder.add(t, np.full(2, float(t)), float(t), 1.0, 0.1)
        if t == 60:
            given = recorder.history()
    assert len(given) == 61
    np.testing.assert_array_equal(given.fun, np.arange(61.0))
    recorder.history().fun[:] = -1.0
    np.testing.assert_array_equal(given.fun, np.arange(61.0))


# -- reading a history ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "x0", [3.0, [3.0, 4.0], np.ones((2, 3)), {"a": np.ones((2, 2)), "b": 1.0}, [(np.ones(2), np.ones(1)), np.ones(2)]]
)
def test_a_history_gives_its_rows(x0):
    seen = []
    run = kb.minimize(lambda x: np.sum(flat(x) ** 2), x0, lr=0.1, max_steps=20, on_step=seen.append)
    rows = list(run.history)
    assert len(rows) == len(run.history) == 21
    for row, step, grad_norm in zip(rows, seen, run.history.grad_norm, strict=True):
        assert (row.t, row.f, row.fun, row.lr, row.grad_norm) == (step.t, step.f, step.f, step.lr, grad_norm)
        np.testing.assert_array_equal(flat(row.x), flat(step.x))
        assert type(row.x) is type(step.x)
    t, x, fun, *_ = run.history[-1]
    assert (t, fun) == (run.nit, run.fun)
    np.testing.assert_array_equal(flat(x), flat(run.x))
    assert [row.t for row in run.history[2:9:3]] == [2, 5, 8]
    with pytest.raises(IndexError):
        run.history[21]
    with pytest.raises(InputError, match="columns are attributes, t, x, fun, grad_norm, lr"):
        run.history["loss"]


def flat(x):
    return np.concatenate([np.ravel(part) for part in leaves(x)])


def test_a_row_is_a_copy():
    run = kb.minimize(lambda x: np.sum(x**2), [3.0, 4.0], lr=0.1, max_steps=3)
    run.history[0].x[:] = 7.0
    assert run.history.x[0].tolist() == [3.0, 4.0]


def test_a_history_prints_as_a_table():
    run = kb.minimize(lambda x: np.sum(x**2), [3.0, 4.0], lr=0.1, max_steps=30)
    lines = str(run.history).splitlines()
    assert lines[0] == "History: 31 rows"
    assert lines[1].split() == ["t", "x[0]", "x[1]", "fun", "grad_norm", "lr"]
    assert lines[2].split() == ["0", "3", "4", "25", "8", "0.1"]
    assert lines[8].split() == ["…"] * 6
    assert lines[-1].split()[0] == "30"
    assert len(lines) == 14
    short = kb.minimize(lambda x: np.sum(x**2), np.ones(100), lr=0.1, max_steps=3).history
    assert str(short).splitlines()[1].split() == [
        "t", "x[0]", "x[1]", "x[2]", "…", "x[98]", "x[99]", "fun", "grad_norm", "lr"
    ]  # fmt: skip
    assert "…" not in str(kb.minimize(lambda x: x**2, 1.0, lr=0.1, max_steps=3).history)
    assert short._repr_html_().count("<tr>") == 5


def test_a_data_frame_says_what_it_needs(monkeypatch):
    run = kb.minimize(lambda x: np.sum(x**2), [3.0, 4.0], lr=0.1, max_steps=30)
    assert run.to_dataframe().equals(run.history.to_dataframe())
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingPackageError, match="needs pandas, which is not installed: pip install pandas"):
        run.to_dataframe()
