"""Sweeps on a Dask cluster whose workers and driver are killed, and with Optuna's studies."""

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest
from shared import same_table

import koubai as kb

distributed = pytest.importorskip("distributed")
optuna = pytest.importorskip("optuna")

pytestmark = pytest.mark.filterwarnings("default")  # what Dask's and Optuna's own packages warn about is not ours

DRIVER = """
import sys
import numpy as np
import koubai as kb

def f(x):  # its branches let no machine code serve all steps, so that a trial lasts some milliseconds
    return sum(abs(float(repr(float(v)))) ** 1.5 * (i + 1) for i, v in enumerate(x))

SWEEP = dict(
    space={"lr": dict(low=1e-3, high=1.0, log=True), "momentum": [0.0, 0.5, 0.9]}, x0=np.linspace(-2, 2, 4),
    trials=500, grad="central", max_steps=25,
)
if __name__ == "__main__":
    import pickle
    from distributed import Client

    address, journal, out = sys.argv[1:]
    with Client(address) as client:
        sweep = kb.sweep(f, executor=client.get_executor(), journal=journal, **SWEEP)
    with open(out, "wb") as file:
        pickle.dump(sweep.table, file)
"""
KILLS = ((50, "worker"), (120, "driver"), (200, "worker"), (280, "driver"), (360, "worker"))  # after so many trials


def lines(path):
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes().splitlines()[1:]
    return []


def test_kills_lose_no_trial_and_repeat_none(tmp_path):
    """Three workers and two drivers are killed amid 500 trials: the journal has each once, and no bit differs."""
    script, journal, out = tmp_path / "driver.py", tmp_path / "journal.jsonl", tmp_path / "table"
    script.write_text(DRIVER)
    scope = {"__name__": "driver"}
    exec(compile(DRIVER, str(script), "exec"), scope)
    expected = kb.sweep(scope["f"], **scope["SWEEP"]).table
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:

        def start():
            arguments = [sys.executable, script, cluster.scheduler_address, journal, out]
            return subprocess.Popen(arguments, stderr=subprocess.PIPE)

        done, driver = [], start()
        while (code := poll(driver)) is None:
            if len(done) < len(KILLS) and len(lines(journal)) >= KILLS[len(done)][0]:
                kind = KILLS[len(done)][1]
                if kind == "worker":
                    pids = [nanny.pid for nanny in cluster.workers.values() if nanny.pid]
                    if not pids:
                        continue  # it is being started again
                    os.kill(pids[len(done) % len(pids)], signal.SIGKILL)
                else:
                    driver.kill()
                    driver.communicate()
                    driver = start()
                done.append(kind)
        assert code == 0, driver.communicate()[1].decode()
        driver.communicate()
    assert done == [kind for _, kind in KILLS]
    assert sorted(json.loads(line)["trial"] for line in lines(journal)) == list(range(500))
    assert same_table(pickle.loads(out.read_bytes()), expected)
    # the same journal here, with nothing left to do
    assert same_table(kb.sweep(scope["f"], journal=journal, **scope["SWEEP"]).table, expected)


def a_study(storage=None, **how):
    return optuna.create_study(
        storage=storage, study_name="s", load_if_exists=True, sampler=optuna.samplers.TPESampler(seed=0), **how
    )


def parabola(x):
    return (x[0] - 1) ** 2 + 10 * (x[1] + 2) ** 2


SPACE = {"lr": {"low": 1e-4, "high": 0.5, "log": True}, "optimizer": ["sgd", kb.Adam(0.1)]}


def test_a_study_chooses_prunes_and_goes_on(tmp_path):
    """Its storage is the record: what is there is not run again; failures are rows; workers report to its pruner."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    pruner = optuna.pruners.MedianPruner(n_startup_trials=2)
    first = kb.sweep(parabola, SPACE, x0=[0.0, 0.0], trials=6, study=a_study(storage, pruner=pruner))
    whole = kb.sweep(parabola, SPACE, x0=[0.0, 0.0], trials=14, study=a_study(storage, pruner=pruner), executor=2)
    assert len(first) == 6
    assert len(whole) == 14
    assert all(
        np.array_equal(whole.table[name][:6], first.table[name]) for name in ("lr", "status", "fun", "optimizer")
    )
    assert {"pruned", "converged"} <= set(whole.table["status"])
    assert whole.best["status"] == "converged"
    states = [trial.state.name for trial in a_study(storage).trials]
    assert states.count("PRUNED") == np.count_nonzero(whole.table["status"] == "pruned") > 0
    assert whole.run().fun == whole.best["fun"]
    with pytest.raises(ValueError, match="of another sweep"):
        kb.sweep(parabola, {"lr": [0.1]}, x0=[0.0, 0.0], trials=3, study=a_study(storage))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"study": 3}, "study must be an Optuna study"),
        ({"study": a_study(), "trials": None}, "say how many trials"),
        ({"study": a_study(), "journal": "j"}, "leave journal out"),
        ({"study": a_study(direction="maximize")}, "minimize"),
        ({"study": a_study(), "executor": 2}, "storage is in this process's memory"),
    ],
)
def test_what_a_study_can_not_do_is_said(arguments, text):
    with pytest.raises(ValueError, match=text):
        kb.sweep(parabola, SPACE, x0=[0.0, 0.0], **{"trials": 3, **arguments})


def poll(process):
    try:
        return process.wait(timeout=0.02)
    except subprocess.TimeoutExpired:
        return None
