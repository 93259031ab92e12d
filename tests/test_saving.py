"""Runs in files, and descents that go on from a file, bit for bit."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings

import numpy as np
import numpy.lib.format as npy
import pytest
from support import hostile

import koubai as kb
from koubai import Status
from koubai.descent import checkpoint, files
from koubai.errors import CheckpointWarning, FunctionError, InputError, Interrupted


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
    for name in {"status", "message", "executor", "gradient_source", "optimizer", "options"} - set(but):
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
    monkeypatch.setattr(npy, "write_array", lambda file, *rest, **how: (file.write(b"half"), 1 / 0))
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


@pytest.mark.sampled(4)
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


@pytest.mark.sampled(11)
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
    assert_same_run(whole, resumed, but=["executor"])  # what is compiled by now serves the same bits


DESCENTS = """
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

def descend(run, path, **checkpoint):
    optimizer, batches = run
    if path is not None and os.path.exists(path):
        return kb.resume(path, f, batches=batches)
    return kb.minimize(f, start, optimizer, batches=batches, max_steps=150, gtol=0, **checkpoint)

def carried(run):
    return []
"""

# Trainings: two forms of batch, paths of a branch, differences, what a network carries, machine code.
TRAININGS = """
nn = kb.nn
X, y = nn.moons(70, noise=0.2, seed=1)
wide = np.random.default_rng(0).standard_normal((70, 40))
start = {"w": np.array([0.2, -0.1]), "b": 0.0}

def plain(p, X, y):
    return np.mean((np.tanh(X @ p["w"]) + p["b"] - y) ** 2)

def branching(p, X, y):
    r = X @ p["w"] + p["b"] - y
    return np.mean(np.abs(r)) if np.sum(y) > len(y) / 2 or p["b"] > 0.3 else np.mean(r**2)

def untraced(p, X, y):
    return float(f"{np.mean((X @ p['w'] + p['b'] - y) ** 2):.17g}")

def of_function(loss, optimizer, **options):
    return lambda **more: kb.fit(loss, start, (X, y), optimizer, batch_size=16, **options, **more)

def of_network(layers, loss, data, optimizer, **options):
    return lambda **more: nn.Network(layers(), loss).fit(*data, optimizer, batch_size=16, **options, **more)

noisy = lambda: [nn.Dense(8), nn.BatchNorm(), nn.Tanh(), nn.Dropout(0.3), nn.Dense(2)]
cosine = kb.schedules.cosine(0.1, steps=40)
plateau = kb.schedules.plateau(0.05, patience=2)
held = (X[:10], y[:10])
runs = [
    of_function(plain, kb.Adam(lr=0.05, clipnorm=0.5), epochs=12),
    of_function(branching, kb.SGD(lr=cosine, momentum=0.9), epochs=10, validation=held),
    of_function(untraced, kb.Adam(lr=0.05), epochs=3),
    of_network(noisy, nn.CrossEntropy(), (X, y), kb.Adam(lr=plateau), epochs=10, validation=0.2, patience=20),
    of_network(
        lambda: [nn.Dense(100), nn.ReLU(), nn.Dense(1)], nn.MSE(), (wide, np.tanh(wide[:, 0])), kb.SGD(lr=1e-3),
        epochs=10, sample_weight=np.linspace(0.0, 3.0, 70),
    ),
]

def descend(run, path, **checkpoint):
    if path is not None and os.path.exists(path):
        checkpoint["resume"] = path
    return run(**checkpoint)

def carried(run):
    return [run.function.vector, *run.function.state.values()] if isinstance(run.function, nn.Network) else []
"""

KILLED = """
import os, random, signal, sys, warnings
import numpy as np
import koubai as kb

warnings.simplefilter("ignore")
random.seed(5)

{defined}

def bits(run):
    history = dict(vars(run.history))
    epochs = history.pop("epochs")
    arrays = [*run.x.values(), *run.jac.values(), *run.best_x.values(), *carried(run)]
    arrays += [part for value in history.values() for part in (value.values() if isinstance(value, dict) else [value])]
    arrays += [] if epochs is None else list(epochs.arrays().values())
    told = [run.fun, run.best_fun, run.nit, run.nfev, run.njev, run.message, run.status.name]
    return [np.asarray(a).tobytes() for a in arrays if np.asarray(a).dtype != object], told

whole = [bits(descend(run, None)) for run in runs]
assert bits(descend(runs[0], None)) == whole[0]
kills, inside, ended = 0, [0] * len(runs), [0] * len(runs)
lives = [(which, 0) for which in range(len(runs))]  # each is killed in turn, so that none has all the kills
while lives:
    which, life = lives.pop(0)
    path = f"{{sys.argv[1]}}/{{which}}.{{life}}.npz"
    moment = random.uniform(1e-4, 0.05)
    child = os.fork()
    if child == 0:
        if kills < 100:  # of the child's own time, so that a busy machine kills no sooner
            signal.setitimer(signal.ITIMER_VIRTUAL, moment)
        run = descend(runs[which], path, checkpoint=(path, 3))
        os._exit(0 if bits(run) == whole[which] else 1)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGVTALRM, status
        kills += 1
        lives.append((which, life))
        if os.path.exists(path):
            inside[which] += 1
            with np.load(path, allow_pickle=False) as file:
                assert all(file[name] is not None for name in file.files)
    else:
        assert status == 0, f"run {{which}} was resumed otherwise than uninterrupted: {{path}}"
        ended[which] += 1
        if kills < 100:
            lives.append((which, life + 1))
print(kills, min(inside), min(ended))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("defined", [DESCENTS, TRAININGS], ids=["descents", "trainings"])
def test_what_is_killed_at_a_hundred_random_moments_ends_as_if_it_never_was(defined, tmp_path):
    """The signal ends the process at once, at any instruction, while it writes too; no half-written file is seen."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    program = KILLED.format(defined=defined)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    kills, inside, ended = map(int, done.stdout.split())
    assert kills == 100
    assert inside > 5  # of each, after a first checkpoint
    assert ended > 0


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
    monkeypatch.setattr("koubai.descent.saving.version", lambda: "9.9.9")
    with pytest.raises(InputError, match=r"was written by koubai .*; this is 9.9.9"):
        kb.resume(path, rosenbrock)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "checkpoint must be"),
        (("run.npz", 0), "every must be"),
        (("run.npz", True), "every"),
        ("no/dir/run.npz", "folder"),
    ],
)
def test_checkpoints_that_can_not_be_used(given, message):
    with pytest.raises(InputError, match=message):
        kb.minimize(rosenbrock, [-1.2, 1.0], checkpoint=given)


# -- checkpoints that can't be written --------------------------------------------------------------------------------


def folder_gone(path, monkeypatch):
    shutil.rmtree(path.parent)


def something_else_there(path, monkeypatch):
    path.unlink()
    path.mkdir()


def file_too_large(path, monkeypatch):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.callback(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))  # the file is larger: writing fails half-way


def failing_call(owner, name, error):
    def change(path, monkeypatch):
        def fail(*args, **kwargs):
            raise error

        monkeypatch.setattr(owner, name, fail)

    return change


FAILURES = {
    "the folder is gone": (folder_gone, "does not exist"),
    "a folder in its place": (something_else_there, "is a folder"),
    "a limit of size": (file_too_large, "File too large"),
    "a full disk": (
        failing_call(npy, "write_array", OSError(28, "No space left on device")),
        "No space left on device",
    ),
    "not to be replaced": (failing_call(os, "replace", PermissionError(13, "Permission denied")), "Permission denied"),
    "no memory": (failing_call(npy, "write_array", MemoryError("16 GiB")), "16 GiB"),
}


class Undone(contextlib.ExitStack):
    """What a failure changes, until the test is over."""

    def setattr(self, owner, name, value):
        before = getattr(owner, name)
        self.callback(lambda: setattr(owner, name, before))
        setattr(owner, name, value)


@pytest.mark.parametrize("training", [False, True], ids=["minimize", "fit"])
@pytest.mark.parametrize("failure", FAILURES)
def test_a_checkpoint_that_can_not_be_written_is_not_worth_the_descent(failure, training, tmp_path):
    fail, why = FAILURES[failure]
    path = tmp_path / "folder" / "run.npz"
    path.parent.mkdir()
    X = np.random.default_rng(0).standard_normal((60, 2))

    def descend(**more):
        if training:
            f = lambda x, row: np.mean((row @ x - 1) ** 2)  # noqa: E731
            return kb.fit(f, np.ones(2), X, kb.Adam(lr=0.01), epochs=6, batch_size=2, **more)
        return kb.minimize(rosenbrock, [-1.2, 1.0], kb.SGD(lr=1e-3), max_steps=150, **more)

    whole, written = descend(), []
    write = files.write_archive
    with Undone() as undone:

        def write_five(*args):
            if len(written) == 5:
                written.append(path.read_bytes())
                fail(path, undone)
            write(*args)
            written.append(None)

        undone.setattr(checkpoint, "write_archive", write_five)
        with pytest.warns(CheckpointWarning) as told:
            run = descend(checkpoint=(path, 7))
    assert_same_run(whole, run, but=["executor"])  # what is compiled by now serves the same bits
    first, last = (str(warning.message) for warning in told)
    assert why in first
    assert "the descent goes on, and will try again" in first
    assert "the file is still that of step" in last
    if failure not in ("the folder is gone", "a folder in its place"):
        assert path.read_bytes() == written[5]
        assert os.listdir(path.parent) == ["run.npz"]
        if not training:
            assert_same_run(whole, kb.resume(path, rosenbrock), but=["executor"])


def test_a_checkpoint_that_can_be_written_again_is(tmp_path, monkeypatch):
    path, calls = tmp_path / "run.npz", []
    write = files.write_archive

    def write_sometimes(*args):
        calls.append(None)
        if len(calls) in (3, 4, 7):
            raise OSError(28, "No space left on device")
        write(*args)

    monkeypatch.setattr(checkpoint, "write_archive", write_sometimes)
    with pytest.warns(CheckpointWarning, match="the file is still that of step") as told:
        kb.minimize(rosenbrock, [-1.2, 1.0], kb.SGD(lr=1e-3), max_steps=150, checkpoint=(path, 7))
    assert len(told) == 2  # each time that it begins to fail
    monkeypatch.undo()
    assert kb.resume(path, rosenbrock).nit == 150


def test_a_checkpoint_at_a_place_that_can_not_be_written_is_refused_at_once(tmp_path, monkeypatch):
    def descend(path):
        return kb.minimize(lambda x: 1 / 0, [1.0], checkpoint=path)

    with pytest.raises(InputError, match="is a folder, and no file"):
        descend(tmp_path)
    if os.path.exists("/dev/full"):
        with pytest.raises(InputError, match="is a device, and no file"):
            descend("/dev/full")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="nothing can be written into the folder"):
        descend(tmp_path / "run.npz")


# -- files beside the file --------------------------------------------------------------------------------------------

DYING = """
import os, sys, time
from koubai.descent.files import replacing

with replacing(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    print("written", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path, monkeypatch):
    """The name can't be guessed, what is still being written stays, and so does what is not koubai's."""
    path = tmp_path / "run.npz"
    monkeypatch.setattr(files, "_cleared", set())
    others = {".run.npz.123", ".koubai-0.part", ".koubai-0123456789abcdef.part.txt"}
    for name in others:
        (tmp_path / name).write_text("mine")
    processes = [subprocess.Popen([sys.executable, "-c", DYING, path], stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for process in processes:
            assert process.stdout.readline() == b"written\n"
        names = {p.name for p in tmp_path.iterdir()} - others
        assert len(names) == 2
        assert all(re.fullmatch(r"\.koubai-[0-9a-f]{16}\.part", name) for name in names)
        processes[0].kill()
        processes[0].wait()
        RUNS["number"]().save(path)
        assert len({p.name for p in tmp_path.iterdir()} - others - {"run.npz"}) == 1
        processes[1].kill()
        processes[1].wait()
        RUNS["number"]().save(path)  # this process has looked already
        assert len({p.name for p in tmp_path.iterdir()} - others - {"run.npz"}) == 1
        monkeypatch.setattr(files, "_cleared", set())
        RUNS["number"]().save(path)
        assert {p.name for p in tmp_path.iterdir()} == others | {"run.npz"}
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.mark.skipif(os.name != "posix", reason="links and rights")
def test_links_and_rights_stay(tmp_path):
    run, real, link = RUNS["number"](), tmp_path / "real.npz", tmp_path / "link.npz"
    run.save(real)
    real.chmod(0o600)
    link.symlink_to(real)
    run.save(link)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    assert kb.load(link).fun == run.fun


def test_a_name_that_another_process_took_is_not_opened(tmp_path, monkeypatch):
    """Exclusive creation: a link that waits under the very name is never followed."""
    target = tmp_path / "victim"
    target.write_text("mine")
    monkeypatch.setattr(os, "urandom", lambda n: bytes(n))
    (tmp_path / f".koubai-{'0' * 16}.part").symlink_to(target)
    with pytest.raises(FileExistsError):
        RUNS["number"]().save(tmp_path / "run.npz")
    assert target.read_text() == "mine"


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("no/such/folder/run.npz", InputError, "the folder .* does not exist; make it first"),
        (".", InputError, "is a folder"),
        (3, InputError, "must be the path of a file"),
        ("a\0b", InputError, "must be the path of a file"),
        ("x" * 300, OSError, "File name too long.*xxx"),
    ],
)
def test_places_where_no_run_can_be_saved(path, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        RUNS["number"]().save(path)
    assert not list(tmp_path.iterdir())


def test_only_what_can_be_read_is_written(tmp_path):
    for array in (np.array([None]), np.zeros(2, np.float16), np.array(["a"])):
        with pytest.raises(InputError, match=r"only arrays of float32, .* can be saved, but 'a' is of"):
            files.write_archive(tmp_path / "a.npz", "run", {}, {"a": array})
    assert not list(tmp_path.iterdir())


# -- hostile files ----------------------------------------------------------------------------------------------------


@pytest.mark.sampled(4)
@pytest.mark.parametrize("reader", hostile.READERS)
def test_hostile_files_are_read_or_refused(reader, tmp_path):
    """A sample; all of them, and what each took: python -m support.hostile."""
    read = refused = 0
    for path, ask in hostile.hostile_files(reader, 250, tmp_path, seed=7):
        try:
            ask(path)
            read += 1
        except InputError:
            refused += 1
    assert read > 5
    assert refused > 150


READ = {
    "load": kb.load,
    "resume": lambda path: kb.resume(path, rosenbrock),
    "fit": lambda path: kb.fit(lambda x, row: np.mean(x * row), 1.0, (np.ones(3),), resume=path),
    "Network.load": kb.nn.Network.load,
    "read_csv": kb.nn.read_csv,
}


@pytest.mark.parametrize("read", READ)
def test_what_is_no_file_is_not_opened(read, tmp_path):
    """A pipe would be waited for, a device has no end."""
    places = {str(tmp_path): "is a folder", "/dev/zero": "is a device", "a\0b": "can't be read", 3: "must be the path"}
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        places[str(tmp_path / "pipe")] = "is a pipe"
    places[str(tmp_path / "none")] = "there is no file"
    for path, message in places.items():
        if path != "/dev/zero" or os.path.exists(path):
            with pytest.raises(InputError, match=message):
                READ[read](path)


def changed(path, header=(), arrays=(), save=np.savez):
    """Write a file again with fields of its header, and arrays, changed."""
    with np.load(path, allow_pickle=False) as file:
        parts = dict(file)
    fields = json.loads(str(parts.pop("header")[()]))
    for place, value in dict(header).items():
        *way, last = place.split(".")
        inside = fields
        for key in way:
            inside = inside[int(key) if isinstance(inside, list) else key]
        inside[int(last) if isinstance(inside, list) else last] = value
    parts |= dict(arrays)
    save(path, header=np.array(json.dumps(fields)), **{k: v for k, v in parts.items() if v is not None})


REFUSED_RUNS = [
    ({"fun": None}, {}, "fun must be a number, got None"),
    ({"fun": "1.0"}, {}, "fun must be a number, got '1.0'"),
    ({"fun": float("nan")}, {}, "fun must be a finite number"),
    ({"nit": -1}, {}, "nit must be a whole number ≥ 0, got -1"),
    ({"nfev": True}, {}, "nfev must be a whole number"),
    ({"nit": 10**100}, {}, "is too large"),
    ({"status": "hacked"}, {}, "status must be one of 'converged'"),
    ({"message": ["x"]}, {}, "message must be text"),
    ({"seed": "0"}, {}, "seed must be a whole number"),
    ({"extra": 1}, {}, "there should be no 'extra' in the header"),
    ({"layout.shapes": [[4_000_000_000, 4_000_000_000]]}, {}, "must have the shape"),
    ({"layout.shapes": [[-1]]}, {}, r"layout.shapes\[0\]\[0\] must be a whole number ≥ 0"),
    ({"layout.dtype": "object"}, {}, "layout.dtype must be one of 'float32', 'float64'"),
    ({"layout.is_number": True}, {}, "a number has no shape"),
    ({"layout.form": [["os"], [[0, None]]]}, {}, "is not a run"),
    ({"optimizer.lr": float("nan")}, {}, "optimizer.lr must be a finite number"),
    ({"optimizer.lr": {"schedule": "Schedule"}}, {}, "must be one of the schedules"),
    ({"optimizer.lr": {"schedule": "Any"}}, {}, "must be one of the schedules"),
    ({"optimizer.lr": {"schedule": "plot", "steps": 3}}, {}, "must be one of the schedules"),
    ({"optimizer.lr": {"schedule": "constant", "lr": 0.1, "x": 1}}, {}, "there should be no 'x'"),
    ({"optimizer.lr": {"schedule": "cosine", "lr": 0.1, "steps": 10**70, "min_lr": 0}}, {}, "is not a run"),
    ({"optimizer.hyperparameters.momentum": [1]}, {}, "momentum must be a number"),
    ({"optimizer.hyperparameters.semantics": "torch"}, {}, "is not a run"),
    ({"optimizer.name": "__class__"}, {}, "unknown optimizer"),
    ({"function": {"expression": "__import__('os')"}}, {}, "is not a run"),
    ({"function": {"problem": "none", "name": "x"}}, {}, "must be an expression, a problem or a name"),
    ({"options.max_steps": "all"}, {}, "options.max_steps must be a whole number"),
    ({"options.record": "some"}, {}, "options.record must be one of"),
    ({}, {"x": np.array([np.nan] * 3)}, "the array 'x' must be finite"),
    ({}, {"x": np.zeros(3, np.float32)}, "the array 'x' must be of float64, not of float32"),
    ({}, {"x": np.zeros(3, complex)}, "is no array of numbers"),
    ({}, {"x": None}, "there is no array 'x'"),
    ({}, {"more": np.zeros(2)}, "there should be no array 'more'"),
    ({}, {"history.fun": np.zeros(7)}, "the array 'history.fun' must have the shape"),
    ({}, {"history.t": np.array([0, 5, 2])}, "must have the shape|follow one another"),
    ({}, {"history.clipped": np.zeros(301, np.uint8)}, "no array of numbers"),
]


@pytest.mark.parametrize(("header", "arrays", "message"), REFUSED_RUNS, ids=[m for *_, m in REFUSED_RUNS])
def test_every_field_of_a_run_is_checked(header, arrays, message, tmp_path):
    path = tmp_path / "run.npz"
    RUNS["array"]().save(path)
    changed(path, header, arrays)
    with pytest.raises(InputError, match=f"(?s)is not a run that koubai saved: .*({message})|{message}") as raised:
        kb.load(path)
    assert str(path) in str(raised.value)


REFUSED_CHECKPOINTS = [
    ({"stride": -1}, {}, "stride must be a whole number ≥ 1"),
    ({"stride": 8}, {}, "don't end at step"),
    ({"stride": 7}, {}, "stride must be a power of 2, got 7"),
    ({"last_row.0": 3}, {}, "don't end at step"),
    ({"points.last.0": 99}, {}, "don't end at step"),
    ({"points.last.1": None}, {}, r"points.last\[1\] must be a number"),
    ({"points.last.4": [5]}, {}, "components beyond 2"),
    ({"states": 7}, {}, "arrays of the optimizer's state"),
    ({"optimizer.hyperparameters.history_size": 10**9}, {}, "fewer numbers than its header says"),
    ({"optimizer.hyperparameters.history_size": 3}, {}, "the array 'state"),
    ({"memory": [1.0]}, {}, "what its schedule remembers"),
    ({"counts": [1]}, {}, "counts must be a list of 2"),
    ({"lr": -0.1}, {}, "lr must be a number ≥ 0"),
    ({"options.grad": "os.system"}, {}, "options.grad must be one of"),
    ({"verdict": ["won", "x"]}, {}, "verdict.0. must be one of"),
    ({}, {"state.0": np.zeros(5)}, "the array 'state.0' must have the shape"),
    ({}, {"last.g": np.array([np.inf, 0])}, "the array 'last.g' must be finite"),
    ({}, {"rows.lr": np.zeros(5)}, "the array 'rows.lr' must have the shape"),
    ({}, {"bounds": np.array([[3.0, 3], [2, 2]])}, "its bounds are crossed"),
    ({}, {"bounds": np.array([[np.nan, 3], [2, 2]])}, "its bounds are crossed"),
]


@pytest.mark.parametrize(("header", "arrays", "message"), REFUSED_CHECKPOINTS, ids=[m for *_, m in REFUSED_CHECKPOINTS])
def test_every_field_of_a_checkpoint_is_checked(header, arrays, message, tmp_path):
    path = tmp_path / "run.npz"
    kb.minimize(rosenbrock, [-1.2, 1.0], "lbfgs", bounds=(-2, 2), max_steps=20, checkpoint=path)
    changed(path, header, arrays)
    before = path.read_bytes()
    with pytest.raises(InputError, match=f"is not a checkpoint that koubai saved: .*{message}"):
        kb.resume(path, rosenbrock)
    assert path.read_bytes() == before


REFUSED_NETWORKS = [
    ({"layers.0.given.units": 40_000_000}, {}, "the layers do not fit"),
    ({"layers.0.given.units": 2.0}, {}, "units must be a whole number ≥ 1"),
    ({"layers.0.given.units": [[1.0, 2.0]]}, {}, "units must be a whole number ≥ 1"),
    ({"layers.0.given.init": "he"}, {}, "there should be no 'init'"),
    ({"layers.1.class": "Weights"}, {}, "is a class of your own"),
    ({"layers.1.class": "fitting"}, {}, "is a class of your own"),
    ({"layers.3.given.stride": -1}, {}, "stride must be a whole number"),
    ({"input_shape": [40_000_000]}, {}, "takes images of shape"),
    ({"input_shape": [1, -4, 4]}, {}, "input_shape.1. must be a whole number ≥ 1"),
    ({"loss.class": "Huber", "loss.given": {"delta": None}}, {}, "delta must be a number"),
    ({"l2": float("inf")}, {}, "l2 must be a finite number"),
    ({}, {"params.0.W": np.full((2, 1, 3, 3), np.nan, np.float32)}, "must be finite"),
    ({}, {"params.0.W": np.zeros((2, 1, 3, 3))}, "must be of float32, not of float64"),
    ({}, {"state.1.var": np.full(2, -1.0, np.float32)}, "must not lie below 0"),
    ({}, {"params.0.b": None}, "the layers do not fit"),
]


@pytest.mark.parametrize(("header", "arrays", "message"), REFUSED_NETWORKS, ids=[m for *_, m in REFUSED_NETWORKS])
def test_every_field_of_a_network_is_checked(header, arrays, message, tmp_path):
    path, nn = tmp_path / "net.npz", kb.nn
    layers = [nn.Conv2D(2, 3), nn.BatchNorm(), nn.Sigmoid(), nn.MaxPool2D(2), nn.Flatten(), nn.Dense(2)]
    nn.Network(layers, nn.MSE()).build((1, 4, 4)).save(path)
    nn.Network.load(path)
    if "layers.0.given.units" in header or "layers.0.given.init" in header:
        nn.Network([nn.Dense(4), nn.Sigmoid()], nn.MSE()).build((3,)).save(path)
    changed(path, header, arrays)
    with pytest.raises(InputError, match=f"(?s){message}"):
        nn.Network.load(path)


def test_a_compressed_or_too_large_part_is_never_unpacked(tmp_path):
    path = tmp_path / "run.npz"
    RUNS["array"]().save(path)
    changed(path, arrays={"x": np.zeros(10**6)}, save=np.savez_compressed)
    with pytest.raises(InputError, match="is compressed, which koubai's are not"):
        kb.load(path)
    RUNS["array"]().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"'shape': (3,), }" + b" " * 20, b"'shape': (1000000000000,), }" + b" " * 8))
    with pytest.raises(InputError, match="is not a run that koubai saved"):
        kb.load(path)


@pytest.mark.parametrize("numbers", [[np.nan, 3], [11, 2], [2, -1], [1.5, 2], [np.inf, 0], [1e9, 1e9]], ids=str)
def test_rows_of_a_state_that_are_not_there_are_refused(numbers, tmp_path):
    """Machine code would read and write beyond its memory."""
    path = tmp_path / "run.npz"
    kb.minimize(rosenbrock, [-1.2, 1.0], kb.LBFGS(), max_steps=5, checkpoint=path)
    place = kb.LBFGS().rule.state.index("ends")
    changed(path, arrays={f"state.{place}": np.array(numbers, float)})
    with pytest.raises(InputError, match=r"ends of the optimizer's state must be whole numbers from 0 to its history"):
        kb.resume(path, rosenbrock, max_steps=20)
