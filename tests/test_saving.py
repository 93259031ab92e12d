"""Runs in files, and descents that go on from a file, bit for bit."""

import json
import os
import re
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest

import koubai as kb
from koubai import Status
from koubai.errors import FunctionError, InputError, Interrupted


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def two_arrays(p):
    return np.sum(np.cosh(p["W"]) - 1) + (p["b"] - 2) ** 2


def same_bits(a, b):
    if isinstance(a, dict):
        return set(a) == set(b) and all(same_bits(a[k], b[k]) for k in a)
    a, b = (np.asarray(v if v is not None else np.nan) for v in (a, b))
    return np.array_equal(a, b, equal_nan=True) and a.dtype == b.dtype


def assert_same_run(a, b, but=()):
    for name in {"x", "fun", "jac", "nit", "nfev", "njev", "best_x", "best_fun", "seed"} - set(but):
        assert same_bits(getattr(a, name), getattr(b, name)), name
    for name in ("status", "message", "executor", "gradient_source", "optimizer", "options"):
        assert getattr(a, name) == getattr(b, name), name
    for name in ("t", "x", "fun", "grad_norm", "lr", "clipped", "projected"):
        assert same_bits(getattr(a.history, name), getattr(b.history, name)), name


SCHEDULE = kb.schedules.warmup(kb.schedules.cosine(1e-3, steps=80), steps=10)
RUNS = {
    "number": lambda **k: kb.minimize(lambda x: (x - 1) ** 2, 3.0, **k),
    "array": lambda **k: kb.minimize(rosenbrock, np.array([-1.2, 1.0, 0.5]), kb.SGD(lr=1e-3), max_steps=300, **k),
    "matrix": lambda **k: kb.minimize(lambda W: np.sum(W**2), np.ones((2, 3)), **k),
    "dict": lambda **k: kb.minimize(two_arrays, {"W": np.ones((2, 2)), "b": 0.0}, kb.SGD(lr=0.1, momentum=0.5), **k),
    "float32": lambda **k: kb.minimize(lambda x: np.sum(x**2), np.ones(3, np.float32), gtol=1e-3, **k),
    "diverged": lambda **k: kb.minimize(lambda x: np.sum(x**2), np.ones(2), kb.SGD(lr=10.0), **k),
    "schedule": lambda **k: kb.minimize(rosenbrock, np.zeros(2), kb.SGD(lr=SCHEDULE), max_steps=90, **k),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_saved_run_comes_back_bit_for_bit(name, tmp_path):
    run = RUNS[name]()
    path = tmp_path / "run.npz"
    run.save(path)
    back = kb.load(path, run.function)
    assert_same_run(run, back)
    assert back.function is run.function
    assert list(tmp_path.iterdir()) == [path]
    with np.load(path, allow_pickle=False) as file:  # nothing in it needs pickle
        assert json.loads(str(file["header"][()]))["kind"] == "run"
        assert all(file[key].dtype != object for key in file.files)


def test_expressions_and_problems_come_back_with_their_function(tmp_path):
    for f, x0 in ((kb.parse("(x-1)**2 + y**2"), [2.0, 2.0]), (kb.problems["himmelblau"].f, [0.5, 0.5])):
        run = kb.minimize(f, x0, kb.SGD(lr=0.01))
        run.save(tmp_path / "run.npz")
        back = kb.load(tmp_path / "run.npz")
        assert back.function(back.x) == back.fun
    run = RUNS["number"]()
    run.save(tmp_path / "run.npz")
    back = kb.load(tmp_path / "run.npz")
    with pytest.raises(FunctionError, match=r"koubai.load\(path, f\)"):
        back.function(back.x)
    assert "test_saving" in back.spec["function"]["name"]


def test_files_that_are_no_runs_are_refused(tmp_path):
    path = tmp_path / "run.npz"
    with pytest.raises(InputError, match="there is no file"):
        kb.load(path)
    path.write_text("not an archive")
    with pytest.raises(InputError, match="is not a run that koubai saved"):
        kb.load(path)
    np.savez(path, x=np.ones(3))
    with pytest.raises(InputError, match="is not a run that koubai saved"):
        kb.load(path)
    np.savez(path, header=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="is not a run that koubai saved"):
        kb.load(path)
    kb.minimize(rosenbrock, np.zeros(2), max_steps=3, checkpoint=path)
    with pytest.raises(InputError, match="it is a checkpoint"):
        kb.load(path)
    RUNS["number"]().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="is not a run that koubai saved"):
        kb.load(path)
    path.write_bytes(whole)
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(str(arrays.pop("header")[()])) | {"format": 99}
    np.savez(path, header=np.array(json.dumps(header)), **arrays)
    with pytest.raises(InputError, match="has format 99"):
        kb.load(path)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "run.npz"
    RUNS["number"]().save(path)
    before = path.read_bytes()
    monkeypatch.setattr(np, "savez", lambda file, **arrays: (file.write(b"half"), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        RUNS["array"]().save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_spec_is_json_and_makes_the_run_again():
    run = kb.minimize(
        kb.parse("(x-1)**2 + 3*y**2"), [2.0, 2.0], kb.SGD(lr=0.05, momentum=0.5), bounds=[(0, None), (-1, 5)]
    )
    spec = json.loads(json.dumps(run.spec))
    hyper = spec["optimizer"]["hyperparameters"]
    optimizer = kb.optimizers.resolve(spec["optimizer"]["name"], lr=spec["optimizer"]["lr"], **hyper)
    again = kb.minimize(
        kb.parse(spec["function"]["expression"]), spec["x0"], optimizer, seed=spec["seed"], **spec["options"]
    )  # fmt: skip
    assert_same_run(run, again)


def test_to_dataframe():
    frame = RUNS["dict"]().to_dataframe()
    run = RUNS["dict"]()
    assert list(frame.columns) == [
        "t",
        "fun",
        "grad_norm",
        "lr",
        "clipped",
        "projected",
        "W[0, 0]",
        "W[0, 1]",
        "W[1, 0]",
        "W[1, 1]",
        "b",
    ]
    assert frame["fun"].tolist() == run.history.fun.tolist()
    assert frame["b"].tolist() == run.history.x["b"].tolist()


@pytest.mark.parametrize("name", RUNS)
def test_the_notebook_card(name, tmp_path):
    run = RUNS[name]()
    card = run._repr_html_()
    assert ("✓" in card) is run.success
    assert run.status.name in card
    assert re.search(r"data:image/png;base64,[A-Za-z0-9+/=]{1000,}", card)
    assert "<lambda>" not in card
    run.save(tmp_path / "run.npz")
    assert "data:image/png" in kb.load(tmp_path / "run.npz")._repr_html_()


# -- going on from a checkpoint ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("clipping", [{}, {"clipvalue": 1.0}, {"clipnorm": 1.0}], ids=str)
@pytest.mark.parametrize("name", kb.optimizers.names())
def test_a_descent_stopped_anywhere_goes_on_bit_for_bit(name, clipping, tmp_path):
    """Stopped at step 17 of 60 and resumed from the file: every row, count and bit as if it had never stopped."""
    path, at = tmp_path / "run.npz", 17
    start = {"W": np.array([[0.3, -0.8], [1.2, 0.4]]), "b": np.array([0.5, -1.0])}

    def f(p):
        return np.sum(np.cosh(p["W"]) * np.array([[1.0, 3.0], [0.5, 2.0]])) + np.sum((p["b"] - 2) ** 4)

    if name == "levenbergmarquardt":  # it needs squares, and few steps

        def f(p):
            return np.sum((np.cosh(p["W"]) * np.array([[1.0, 3.0], [0.5, 2.0]])) ** 2) + np.sum((p["b"] ** 2 - 2) ** 2)

        at = 2

    def optimizer():
        return kb.optimizers.resolve(name, **clipping)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = kb.minimize(f, start, optimizer(), max_steps=60)
        kb.minimize(f, start, optimizer(), max_steps=60, checkpoint=(path, 5), on_step=lambda s: s.t == at)
        resumed = kb.resume(path, f)
    assert_same_run(whole, resumed)


KILLED = """
import os, random, signal, sys, warnings
import numpy as np
import koubai as kb

warnings.simplefilter("ignore")
random.seed(5)
X = np.random.default_rng(0).standard_normal((43, 4))
Y = X @ np.array([1.0, -2.0, 0.5, 3.0]) + np.sin(np.arange(43))
start = {"w": np.zeros(4), "b": np.zeros(())}

def f(p, x=X, y=Y):
    return np.mean(np.cosh(x @ p["w"] + p["b"] - y))

plateau = kb.schedules.warmup(kb.schedules.plateau(0.05, patience=3), steps=20)
runs = [
    (kb.optimizers.Adam(lr=plateau, clipnorm=2.0), kb.nn.batches(X, Y, size=10, seed=5)),
    (kb.SGD(lr=0.01, momentum=0.9), None),
    (kb.optimizers.GradientDescent(clipvalue=0.1), None),
]

def descend(path, optimizer, batches, **checkpoint):
    if path is not None and os.path.exists(path):
        return kb.resume(path, f, batches=batches)
    return kb.minimize(f, start, optimizer, batches=batches, max_steps=150, gtol=0, **checkpoint)

def bits(run):
    epochs = run.history.epochs
    arrays = [*run.x.values(), *run.jac.values(), *run.best_x.values(), *map(np.asarray, vars(run.history).values())]
    arrays = [a for a in arrays if a.dtype != object] + ([] if epochs is None else [epochs.fun, epochs.noise])
    return [a.tobytes() for a in arrays] + [run.fun, run.nit, run.njev, run.message]

whole = [bits(descend(None, *run)) for run in runs]
kills = inside = ended = 0
while kills < 100 or ended < len(runs):
    which, path = ended % len(runs), f"{sys.argv[1]}/{ended}.npz"
    child = os.fork()
    if child == 0:
        if kills < 100:  # of the child's own time, so that a busy machine kills no sooner
            signal.setitimer(signal.ITIMER_VIRTUAL, random.uniform(1e-4, 0.05))
        run = descend(path, *runs[which], checkpoint=(path, 3))
        os._exit(0 if bits(run) == whole[which] else 1)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGVTALRM, status
        kills += 1
        if os.path.exists(path):
            inside += 1
            with np.load(path, allow_pickle=False) as file:
                assert all(file[name] is not None for name in file.files)
    else:
        assert status == 0, f"resumed otherwise than uninterrupted: {path}"
        ended += 1
print(kills, inside, ended)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_descent_killed_at_a_hundred_random_moments_ends_as_if_it_never_was(tmp_path):
    """The signal ends the process at once, at any instruction, while it writes too; no half-written file is seen."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    kills, inside, ended = map(int, done.stdout.split())
    assert kills == 100
    assert inside > 50  # most of them after a first checkpoint
    assert ended >= 3


@pytest.mark.parametrize("grad", ["auto", "central", "adaptive"])
def test_every_gradient_source_resumes(grad, tmp_path):
    path = tmp_path / "run.npz"
    options = {"grad": grad, "max_steps": 40, "bounds": [(-2, 2), (None, 0.9)], "ftol": 1e-12}
    whole = kb.minimize(rosenbrock, [-1.2, 0.5], kb.SGD(lr=1e-3), **options)
    kb.minimize(rosenbrock, [-1.2, 0.5], kb.SGD(lr=1e-3), checkpoint=path, on_step=lambda s: s.t == 11, **options)
    assert_same_run(whole, kb.resume(path, rosenbrock))


def test_a_plateau_schedule_remembers(tmp_path):
    path = tmp_path / "run.npz"
    optimizer = kb.SGD(lr=kb.schedules.plateau(0.0019, patience=2, gamma=0.5), momentum=0.9)
    whole = kb.minimize(rosenbrock, [-1.2, 1.0], optimizer, max_steps=200)
    assert len(set(whole.history.lr)) > 2
    kb.minimize(rosenbrock, [-1.2, 1.0], optimizer, max_steps=200, checkpoint=path, on_step=lambda s: s.t == 31)
    assert_same_run(whole, kb.resume(path, rosenbrock))


def test_functions_of_ones_own_are_given_again(tmp_path):
    path = tmp_path / "run.npz"

    def grad(x):
        return 2 * x

    def lr(t):
        return 0.1 / (1 + t)

    options = {"grad": grad, "max_steps": 30}
    whole = kb.minimize(lambda x: np.sum(x**2), [1.0, 2.0], kb.SGD(lr=lr), **options)
    kb.minimize(
        lambda x: np.sum(x**2), [1.0, 2.0], kb.SGD(lr=lr), checkpoint=path, on_step=lambda s: s.t == 7, **options
    )
    with pytest.raises(InputError, match=r"lr of .* is a function"):
        kb.resume(path, lambda x: np.sum(x**2), grad=grad)
    with pytest.raises(InputError, match="give grad="):
        kb.resume(path, lambda x: np.sum(x**2), optimizer=kb.SGD(lr=lr))
    with pytest.raises(InputError, match="optimizer is SGD"):
        kb.resume(path, lambda x: np.sum(x**2), optimizer=kb.SGD(lr=0.1), grad=grad)
    assert_same_run(whole, kb.resume(path, lambda x: np.sum(x**2), optimizer=kb.SGD(lr=lr), grad=grad))


def test_a_thinned_history_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr("koubai.descent.record.Recorder.ROWS", 64)
    path = tmp_path / "run.npz"
    whole = kb.minimize(rosenbrock, [-1.2, 1.0], kb.SGD(lr=1e-3), max_steps=700)
    assert len(whole.history) < 100
    kb.minimize(rosenbrock, [-1.2, 1.0], kb.SGD(lr=1e-3), max_steps=700, checkpoint=path, on_step=lambda s: s.t == 401)
    assert_same_run(whole, kb.resume(path, rosenbrock))


def test_a_finished_run_stays_finished_and_a_step_limit_can_be_raised(tmp_path):
    path = tmp_path / "run.npz"
    done = kb.minimize(two_arrays, {"W": np.ones((2, 2)), "b": 0.0}, checkpoint=path)
    again = kb.resume(path, two_arrays)
    assert (again.status, again.nit) == (done.status, done.nit) == (Status.converged, done.nit)
    kb.minimize(rosenbrock, [-1.2, 1.0], kb.SGD(lr=1e-3), max_steps=50, checkpoint=path)
    assert kb.resume(path, rosenbrock).nit == 50
    longer = kb.resume(path, rosenbrock, max_steps=80)
    whole = kb.minimize(rosenbrock, [-1.2, 1.0], kb.SGD(lr=1e-3), max_steps=80)
    assert same_bits(longer.history.x, whole.history.x)
    assert longer.status is Status.max_steps


def test_ctrl_c_writes_the_checkpoint(tmp_path):
    path = tmp_path / "run.npz"

    def on_step(step):
        if step.t == 13:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        kb.minimize(rosenbrock, [-1.2, 1.0], kb.SGD(lr=1e-3), max_steps=40, checkpoint=(path, 1000), on_step=on_step)
    whole = kb.minimize(rosenbrock, [-1.2, 1.0], kb.SGD(lr=1e-3), max_steps=40)
    assert_same_run(whole, kb.resume(path, rosenbrock))


def test_another_function_or_version_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "run.npz"
    kb.minimize(rosenbrock, [-1.2, 1.0], kb.SGD(lr=1e-3), max_steps=20, checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"f is not the function of the checkpoint.* now f\(x\)"):
        kb.resume(path, lambda x: rosenbrock(x) + 1e-9)
    with pytest.raises(InputError, match="f does not take the x of the checkpoint"):
        kb.resume(path, lambda x: x[2] ** 2)
    with pytest.raises(InputError, match="leave grad out"):
        kb.resume(path, rosenbrock, grad=lambda x: x)
    RUNS["number"]().save(tmp_path / "other.npz")
    with pytest.raises(InputError, match="it is a run"):
        kb.resume(tmp_path / "other.npz", rosenbrock)
    monkeypatch.setattr("koubai.descent.loop.version", lambda: "9.9.9")
    with pytest.raises(InputError, match=r"was written by koubai .*; this is 9.9.9"):
        kb.resume(path, rosenbrock)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        (3, "checkpoint must be"),
        (("run.npz", 0), "every must be"),
        (("run.npz", True), "every"),
        ("no/dir/run.npz", "folder"),
    ],
)
def test_checkpoints_that_can_not_be_used(checkpoint, message):
    with pytest.raises(InputError, match=message):
        kb.minimize(rosenbrock, [-1.2, 1.0], checkpoint=checkpoint)
