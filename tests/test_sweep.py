"""Sweeps: the same table from any workers, a journal that loses nothing, failures as rows, clear refusals."""

import errno
import json
import math
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from shared import same_table

import koubai as kb
from koubai import nn
from koubai.errors import CheckpointWarning

DRAWN = {"lr": {"low": 1e-3, "high": 0.3, "log": True}, "momentum": [0.0, 0.9]}


def bowl(x):
    return (x[0] - 1) ** 2 + 10 * (x[1] + 2) ** 2


def moody(lr):  # fails in each way that a function can
    if lr == 1:
        raise RuntimeError("no such rate\nsecond line")
    if lr == 2:
        return math.nan
    if lr == 3:
        return "text"
    if lr == 4:
        sys.exit(5)
    return {"fun": lr, "time": 2 * lr}


def deadly(lr):
    if lr == 2:
        os._exit(9)
    return lr


def lines(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()[1:]]


# -- the table --------------------------------------------------------------------------------------------------------


def test_threads_and_processes_give_the_serial_table_bit_for_bit(tmp_path):
    how = {"x0": [0.0, 0.0], "trials": 12, "max_steps": 50, "optimizer": "momentum"}
    serial = kb.sweep(bowl, DRAWN, **how)
    with ThreadPoolExecutor(4) as threads:
        assert same_table(kb.sweep(bowl, DRAWN, **how, executor=threads).table, serial.table)
    journal = tmp_path / "j"
    assert same_table(kb.sweep(bowl, DRAWN, **how, executor=2, journal=journal).table, serial.table)
    assert same_table(kb.sweep(bowl, DRAWN, **how, journal=journal).table, serial.table)  # all of it from the file
    longer = kb.sweep(bowl, DRAWN, **(how | {"trials": 15})).table
    assert all(np.array_equal(longer[name][:12], column) for name, column in serial.table.items())
    best = serial.run()
    assert best.fun == serial.best["fun"] == np.nanmin(serial.table["fun"])
    assert best.nit == serial.best["nit"]


def test_a_grid_has_every_combination_and_f_sees_what_it_is_given():
    seen = []

    def f(a, b, c):
        seen.append((a, b, c))
        return a + len(b)

    sweep = kb.sweep(f, {"a": [1, 2], "b": ["x", "yy"]}, c=3)
    assert seen == [(1, "x", 3), (1, "yy", 3), (2, "x", 3), (2, "yy", 3)]
    assert sweep.best == {"trial": 0, "a": 1, "b": "x", "status": "finished", "fun": 2.0, "message": ""}
    drawn = kb.sweep(f, {"a": list(range(9)), "b": ["x", "yy"]}, c=3, trials=18, seed=4).table
    assert len(set(zip(drawn["a"].tolist(), drawn["b"].tolist(), strict=True))) == 18  # none twice


def test_draws_stay_in_their_range():
    space = {"u": {"low": -1, "high": 2}, "k": {"low": 1, "high": 3, "integer": True}, "lr": DRAWN["lr"]}
    table = kb.sweep(lambda u, k, lr: u, space, trials=200).table
    assert ((table["u"] >= -1) & (table["u"] <= 2)).all()
    assert set(table["k"].tolist()) == {1, 2, 3}
    assert (np.log10(table["lr"]).min() < -2.5) & (np.log10(table["lr"]).max() > -1)  # of every decade


def test_trainings_are_ranked_by_the_data_held_back_and_leave_the_network_alone():
    X, y = nn.moons(60, seed=0)
    network = nn.Network([nn.Dense(4), nn.Tanh(), nn.Dense(2)], nn.CrossEntropy(), seed=0)
    sweep = kb.sweep(network, {"lr": [0.01, 0.1], "seed": [0, 1]}, data=(X, y), validation=0.25, epochs=3)
    assert network.input_shape is None
    run = sweep.run()
    assert sweep.best["fun"] == run.history.epochs.validation_fun[-1]
    assert sweep.best["training_fun"] == run.fun
    assert len(set(sweep.table["fun"].tolist())) == 4  # each seed has weights of its own


# -- failures ---------------------------------------------------------------------------------------------------------


def test_what_fails_is_a_row():
    table = kb.sweep(moody, {"lr": [1, 2, 3, 4, 5]}).table
    assert table["status"].tolist() == ["failed", "nonfinite", "failed", "failed", "finished"]
    assert table["message"][0] == "RuntimeError: no such rate"
    assert "fun is 'text'" in table["message"][2]
    assert np.isnan(table["fun"][:4]).all()
    assert table["time"][4] == 10
    assert kb.sweep(moody, {"lr": [1, 5, 6]}).best["lr"] == 5
    assert kb.sweep(moody, {"lr": [1, 2]}).best is None
    rates = kb.sweep(bowl, {"lr": [0.01, 0.2, 1e300]}, x0=[0.0, 0.0], max_steps=2000)
    assert rates.table["status"].tolist()[:2] == ["converged", "diverged"]
    assert rates.best["lr"] == 0.01


@pytest.mark.slow
def test_a_trial_that_ends_its_process_is_a_row_and_the_others_go_on(tmp_path):
    journal = tmp_path / "j"
    table = kb.sweep(deadly, {"lr": [1, 2, 3, 4]}, executor=2, journal=journal).table
    assert table["status"].tolist() == ["finished", "crashed", "finished", "finished"]
    assert sorted(line["trial"] for line in lines(journal)) == [0, 2, 3]  # it is tried again by the next call


# -- the journal ------------------------------------------------------------------------------------------------------

KILLED = """
import os, signal
import koubai as kb

def f(lr):
    with open("calls", "a") as file:
        file.write(f"{lr}\\n")
    if lr == 7 and os.path.exists("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    return 1 / lr

SPACE = {"lr": [1, 2, 3, 4, 5, 6, 7, 8, 9]}
if __name__ == "__main__":
    kb.sweep(f, SPACE, journal="journal")
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_sweep_goes_on_and_neither_repeats_nor_loses_a_trial(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kill").touch()
    (tmp_path / "driver.py").write_text(KILLED)
    assert subprocess.run([sys.executable, "driver.py"], check=False).returncode == -signal.SIGKILL
    assert [line["trial"] for line in lines(tmp_path / "journal")] == [0, 1, 2, 3, 4, 5]
    (tmp_path / "kill").unlink()
    space = {"__name__": "driver"}
    exec(compile(KILLED, "driver.py", "exec"), space)
    table = kb.sweep(space["f"], space["SPACE"], journal="journal").table
    assert (tmp_path / "calls").read_text().split() == ["1", "2", "3", "4", "5", "6", "7", "7", "8", "9"]
    assert same_table(table, kb.sweep(space["f"], space["SPACE"]).table)


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "journal"
    kb.sweep(moody, {"lr": [1, 2, 6, 7]}, journal=path)
    return path


@pytest.mark.parametrize("cut", [1, 3, 40])
def test_a_torn_last_line_is_cut_and_its_trial_made_again(journal, cut):
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-cut])
    table = kb.sweep(moody, {"lr": [1, 2, 6, 7]}, journal=journal).table
    assert journal.read_bytes() == whole
    assert same_table(table, kb.sweep(moody, {"lr": [1, 2, 6, 7]}).table)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda data: data, "of another sweep: sweep.space.lr"),
        (lambda data: b"my letters\n", "not a sweep's journal"),
        (lambda data: b"my letters, without an end", "not a sweep's journal"),
        (lambda data: data.replace(b'"trial": 1', b'"trial": 3'), "line 3: it is damaged"),
    ],
)
def test_a_file_that_is_not_the_sweeps_is_refused_and_left_as_it_is(journal, change, text):
    data = change(journal.read_bytes())
    journal.write_bytes(data)
    space = {"lr": [1, 2, 6, 8 if "another" in text else 7]}
    with pytest.raises(ValueError, match=text):
        kb.sweep(moody, space, journal=journal)
    assert journal.read_bytes() == data


def test_another_function_of_the_same_name_is_another_sweep(tmp_path):
    def sweep_of(text):
        scope = {}
        exec(f"def f(lr):\n    return {text}", scope)
        return kb.sweep(scope["f"], {"lr": [1, 2]}, journal=tmp_path / "journal").table["fun"].tolist()

    assert sweep_of("lr + 1") == sweep_of("lr + 1") == [2, 3]
    with pytest.raises(ValueError, match=r"of another sweep: sweep\.f\.code"):
        sweep_of("lr + 2")


@pytest.mark.parametrize("recovers", [True, False])
def test_a_full_disk_is_told_and_nothing_is_lost(tmp_path, monkeypatch, recovers):
    """Half of a line is written, and no more: the sweep goes on, and catches up as soon as there is room."""
    path, write, tries = tmp_path / "journal", os.write, []

    def full(file, data):
        tries.append(len(data))
        if len(tries) > 3 and not (recovers and len(tries) > 8):
            write(file, bytes(data)[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data)

    expected = kb.sweep(moody, {"lr": list(range(5, 15))}).table
    monkeypatch.setattr(os, "write", full)
    with pytest.warns(CheckpointWarning) as told:
        table = kb.sweep(moody, {"lr": list(range(5, 15))}, journal=path).table
    monkeypatch.undo()
    assert same_table(table, expected)
    assert "No space left on device" in str(told[0].message)
    assert len(told) == (1 if recovers else 2)
    assert [line["trial"] for line in lines(path)] == list(range(10 if recovers else 2))
    assert same_table(kb.sweep(moody, {"lr": list(range(5, 15))}, journal=path).table, expected)
    assert [line["trial"] for line in lines(path)] == list(range(10))


APPENDS = """
import os, sys
from koubai.search.journal import Journal

go, children = os.pipe(), []
for k in range(16):
    if not (pid := os.fork()):
        os.close(go[1])
        os.read(go[0], 1)  # until all are there
        with Journal(sys.argv[1], {"f": 1}, lambda trial: None) as journal:
            for i in range(25):
                for trial in (16 * i + k, 1000 + i):  # one of its own, and one that all have
                    journal.append({"trial": trial, "params": {}, "status": "finished", "message": "",
                                    "values": {"fun": float(k)}})
        os._exit(0)
    children.append(pid)
os.close(go[0])
os.close(go[1])
sys.exit(any(os.waitpid(pid, 0)[1] for pid in children))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_16_processes_append_to_one_journal_and_lose_nothing(tmp_path):
    path = tmp_path / "journal"
    assert subprocess.run([sys.executable, "-c", APPENDS, path], check=False).returncode == 0
    assert sorted(line["trial"] for line in lines(path)) == [*range(400), *range(1000, 1025)]


# -- what can't be used -----------------------------------------------------------------------------------------------


def test_what_can_not_be_sent_to_a_process_is_named_before_any_is_started(monkeypatch):
    lock = threading.Lock()

    def f(lr):
        with lock:
            return lr

    with pytest.raises(ValueError, match=r"f can't be sent .* uses lock, a lock"):
        kb.sweep(f, {"lr": [1]}, executor=2)
    with pytest.raises(ValueError, match=r"space\['lr'\] can't be sent .* lock"):
        kb.sweep(moody, {"lr": [1, lock]}, executor=2)
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(ValueError, match=r"is a lambda; define it with def at the top of a module"):
        kb.sweep(lambda lr: lr, {"lr": [1]}, executor=2)


@pytest.mark.parametrize(
    ("space", "options", "text"),
    [
        ({}, {}, "space must be a dict"),
        ([0.1], {}, "space must be a dict"),
        ({"lr": 0.1}, {}, "write lr=0.1 as an argument"),
        ({"lr": []}, {}, "has no values"),
        ({"lr": "sgd"}, {}, "must be a list"),
        ({3: [1]}, {}, "names of hyperparameters"),
        ({"fun": [1]}, {}, "column"),
        ({"lr": {"low": 1, "high": 0}}, {"trials": 2}, "low must be below high, got 1 and 0"),
        ({"lr": {"low": 0, "high": 1, "log": True}}, {"trials": 2}, "low must be above 0"),
        ({"lr": {"low": 0, "high": math.inf}}, {"trials": 2}, "high must be a finite number, got inf"),
        ({"lr": {"low": 0.5, "high": 2, "integer": True}}, {"trials": 2}, "low must be a whole number, got 0.5"),
        ({"lr": {"low": 0, "high": 1, "step": 1}}, {"trials": 2}, "must be a list of values or"),
        ({"lr": {"low": 0, "high": 1}}, {}, "say how often, trials=100"),
        ({"lr": [1]}, {"trials": 0}, "trials must be a whole number ≥ 1, got 0"),
        ({"lr": [1]}, {"seed": -1}, "seed must be a whole number ≥ 0"),
        ({"lr": [1]}, {"lr": 2}, "lr is in the space, and given as an argument too"),
        ({"rate": [1]}, {}, "f is called with the hyperparameters by name"),
        ({"lr": [1]}, {"executor": 0}, "must be ≥ 1, got 0"),
        ({"lr": [1]}, {"executor": "dask"}, "executor must be None"),
        ({"lr": [1]}, {"optimizer": "sgd"}, "needs a start"),
        ({"lr": [1]}, {"data": (1, 2)}, "needs a start"),
        ({"lrate": [0.1]}, {"x0": [0.0, 0.0]}, "lrate"),
        ({"optimizer": ["sgd", "adamm"]}, {"x0": [0.0, 0.0]}, "adamm"),
        ({"lr": [0.1]}, {"x0": [0.0, 0.0], "on_step": print}, "on_step can't be given"),
    ],
)
def test_what_can_not_be_used_is_said_before_a_trial_runs(space, options, text):
    with pytest.raises(ValueError, match=text):
        kb.sweep(bowl if "x0" in options else moody, space, **options)


def test_an_interrupt_says_what_is_on_record(tmp_path):
    def f(lr):
        if lr == 3:
            raise KeyboardInterrupt
        return lr

    with pytest.raises(KeyboardInterrupt) as stopped:
        kb.sweep(f, {"lr": [1, 2, 3]}, journal=tmp_path / "journal")
    assert stopped.value.__notes__ == ["2 trials are on record; the same call goes on from there"]


def test_a_picture_of_a_sweep_and_of_a_surface():
    from matplotlib.figure import Figure

    sweep = kb.sweep(bowl, {"lr": [0.001, 0.01, 0.2], "momentum": [0.0, 0.9]}, x0=[0.0, 0.0], optimizer="momentum")
    ax = sweep.plot(ax=Figure().subplots())
    assert (ax.get_xlabel(), ax.get_xscale()) == ("lr", "log")
    with pytest.raises(ValueError, match="lrr"):
        sweep.plot("lrr", ax=Figure().subplots())
    run = kb.minimize(bowl, [0.0, 0.0], lr=0.05)
    drawn = kb.plot.surface(run, minima=[[1.0, -2.0]], ax=Figure().add_subplot(projection="3d"))
    assert drawn.get_zlim()[0] < drawn.get_zlim()[1]
    with pytest.raises(ValueError, match="three dimensions"):
        kb.plot.surface(run, ax=Figure().subplots())
