"""The network room: a training is its specification and an epoch, to the bit, however it is cut into frames."""

import json
import subprocess
import sys
import threading

import numpy as np
import pytest

import koubai as kb
from koubai import nn
from koubai.errors import InputError
from koubai.lab import networks
from koubai.lab.networks import ASKS, LIMITS, REPLAYS, Specification, tables

SPEC = {
    "data": {"name": "spirals", "n": 90, "seed": 1},
    "layers": [6, 4],
    "optimizer": {"name": "Adam", "lr": 0.03},
    "batch_size": 16,
    "validation": 0.2,
    "seed": 3,
}


@pytest.fixture(autouse=True)
def _no_trainings_from_before():
    networks.POOL.clear()


def ask(name, **arguments):
    return ASKS[name](arguments, lambda: None)


def trained(spec, epoch, seconds=0.25, **more):
    """Pull frames until the epoch is there, as the page does."""
    since, frames = 0, []
    while True:
        found = ask("train", spec=spec, epoch=epoch, since=since, seconds=seconds, **more)
        frames.append(found)
        since = found["epoch"]
        if found["done"]:
            return found, frames


def network_of(spec, epochs):
    """Train in one stretch, by the library alone."""
    X, y = nn.spirals(90, seed=1)
    network = nn.Network(
        [nn.Dense(6), nn.Tanh(), nn.Dense(4), nn.Tanh(), nn.Dense(3)], nn.CrossEntropy(), seed=spec["seed"]
    )
    return network, network.fit(X, y, kb.Adam(0.03), epochs=epochs, batch_size=16, validation=0.2)


def digest(network):
    import hashlib

    return hashlib.sha256(network.vector.tobytes()).hexdigest()[:16]


def test_frames_end_at_the_weights_of_one_stretch():
    found, frames = trained(SPEC, 40, seconds=0.0)  # one epoch a frame
    network, run = network_of(SPEC, 40)
    assert len(frames) == 40
    assert found["weights"] == digest(network)
    assert found["fun"] == run.fun
    assert found["nit"] == run.nit
    losses = np.concatenate([frame["arrays"]["loss"] for frame in frames])
    np.testing.assert_array_equal(losses, run.history.epochs.fun.astype(np.float32))
    held = np.concatenate([frame["arrays"]["validation"] for frame in frames])
    np.testing.assert_array_equal(held, run.history.epochs.validation_fun.astype(np.float32))
    assert frames[0]["arrays"]["grad_norm"].shape == (1, 3)


def test_a_training_that_is_not_there_is_made_anew():
    there, _ = trained(SPEC, 12)
    networks.POOL.clear()  # as after a restart of the server
    again = ask("train", spec=SPEC, epoch=12, since=10, seconds=0.25)
    assert again["weights"] == there["weights"]
    assert len(again["arrays"]["loss"]) == 2


def test_back_and_on_again():
    late, _ = trained(SPEC, 20)
    early, _ = trained(SPEC, 5)
    assert early["epoch"] == 5
    assert early["weights"] != late["weights"]
    again, _ = trained(SPEC, 20)
    assert again["weights"] == late["weights"]


@pytest.mark.parametrize("schedule", [{"name": "cosine", "steps": 60, "warmup": 5}, {"name": "plateau", "patience": 1}])
def test_schedules_go_on_between_frames(schedule):
    spec = SPEC | {"schedule": schedule, "optimizer": {"name": "SGD", "lr": 0.3, "momentum": 0.9}}
    by_frames, _ = trained(spec, 15, seconds=0.0)
    networks.POOL.clear()
    at_once, _frames = trained(spec, 15)
    assert by_frames["weights"] == at_once["weights"]
    assert at_once["lr"] < 0.3


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        SPEC | {"loss": "mse", "validation": 0.0, "optimizer": {"name": "Lion", "lr": 0.01}},
        SPEC
        | {
            "data": {"points": [[0.1, 0.2, 0], [1.0, -0.3, 1], [-0.5, 0.25, 1], [0.7, 0.9, 0]]},
            "loss": "binarycrossentropy", "validation": 0.0, "layers": [{"units": 5, "activation": "relu"}],
            "schedule": {"name": "one_cycle", "steps": 30, "warmup": 3}, "init": "he",
        },
        SPEC | {"data": {"csv": "height,weight,kind\n150,50,a\n160,61,a\n172,80,b\n181,88,b\n"}, "validation": 0.0},
    ],
    ids=["spirals", "mse", "points", "csv"],
)  # fmt: skip
def test_the_script_ends_at_the_same_weights(spec):
    found, _ = trained(spec, 9)
    script = REPLAYS["python"]({"spec": spec, "epoch": 9})
    script += "import hashlib; print(repr(float(run.fun)), hashlib.sha256(network.vector.tobytes()).hexdigest()[:16])\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines()[-1] == f"{found['fun']!r} {found['weights']}"


def test_the_command_ends_at_the_same_weights(tmp_path):
    spec = SPEC | {"optimizer": {"name": "SGD", "lr": 0.1, "momentum": 0.9, "nesterov": True}}
    found, _ = trained(spec, 6)
    script = REPLAYS["command"]({"spec": spec, "epoch": 6}).rstrip()
    assert script.splitlines()[0] == "cat > points.csv <<'END'"
    *points, command = script.splitlines()[1:]
    (tmp_path / "points.csv").write_text("\n".join(points[:-1]))
    from typer.testing import CliRunner

    from koubai.cli import app

    for file in ("points.csv", "network.npz"):
        command = command.replace(file, str(tmp_path / file))
    done = CliRunner().invoke(app, command.split()[1:])
    assert done.exit_code == 0, done.output
    assert digest(nn.Network.load(tmp_path / "network.npz")) == found["weights"]
    assert json.loads(done.stdout)["fun"] == found["fun"]


def test_what_the_command_line_can_not_say_is_said():
    with pytest.raises(InputError, match="schedules"):
        REPLAYS["command"]({"spec": SPEC | {"schedule": {"name": "inverse_sqrt"}}, "epoch": 1})


def test_threads_that_train_the_same_end_at_the_same():
    found = []
    threads = [threading.Thread(target=lambda: found.append(trained(SPEC, 12, 0.005)[0]["weights"])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


def test_pictures():
    want = {"boundary": [20, 16], "units": [8, 8], "window": {"x": [-1, 1], "y": [-1, 1]}}
    found, _ = trained(SPEC, 2, want=want)
    arrays = found["arrays"]
    assert arrays["boundary"].shape == (3, 16, 20)
    assert np.abs(arrays["boundary"].astype(int).sum(axis=0) - 65535).max() <= 2
    assert [arrays[f"units.{i}"].shape for i in range(3)] == [(6, 8, 8), (4, 8, 8), (3, 8, 8)]
    assert arrays["weights.1"].shape == (6, 4)
    assert len(found["peaks"]) == 3
    one = ask("train", spec=SPEC, epoch=2, want=want | {"unit": [1, 3]})
    assert one["arrays"]["unit"].shape == (16, 20)
    assert np.ptp(one["arrays"]["unit"].astype(int)) > 10
    assert "units.0" not in ask("train", spec=SPEC, epoch=500, seconds=0.0, want=want | {"when_done": True})["arrays"]
    # the lowest row first: that of a network which looks at y alone rises
    one = {"data": {"points": [[0, -1, 0], [0, 1, 1]]}, "layers": [], "optimizer": {"name": "SGD", "lr": 1.0}}
    found, _ = trained(one, 30, want=want)
    assert found["arrays"]["boundary"][1, 0].mean() < 15_000 < 50_000 < found["arrays"]["boundary"][1, -1].mean()


def test_points_that_are_held_back_are_marked():
    found = ask("train", spec=SPEC, epoch=0)
    assert found["arrays"]["held"].sum() == 18
    assert found["epoch"] == 0
    assert found["loss"] is None
    assert found["done"]
    assert found["fun"] == network_of(SPEC, 0)[1].fun  # of the points that are trained on


def test_a_training_that_diverges_says_so_and_keeps_its_last_good_weights():
    spec = SPEC | {"loss": "mse", "optimizer": {"name": "SGD", "lr": 1e6}, "activation": "relu"}
    found, _ = trained(spec, 50)
    assert found["ended"]
    assert found["epoch"] < 50
    again, _ = trained(spec, 50, seconds=0.0)
    assert again["ended"]
    assert again["weights"] == found["weights"]


def test_what_is_superseded_stays_to_be_gone_on_with():
    seen = []

    def cancelled():
        seen.append(1)
        if len(seen) == 3:
            raise RuntimeError("superseded")

    with pytest.raises(RuntimeError, match="superseded"):
        ASKS["train"]({"spec": SPEC, "epoch": 50, "seconds": 0.25}, cancelled)
    (live,) = networks.POOL.kept.values()
    assert live.epoch == 3
    found, _ = trained(SPEC, 50)
    assert found["weights"] == digest(network_of(SPEC, 50)[0])


def test_the_pool_is_bounded():
    for seed in range(networks.KEPT + 5):
        ask("train", spec=SPEC | {"seed": seed}, epoch=0)
    assert len(networks.POOL.kept) == networks.KEPT


@pytest.mark.parametrize("loss", ["crossentropy", "mse"])
def test_backpropagation_agrees_with_differences(loss):
    found = ask("check", spec=SPEC | {"loss": loss}, epoch=3)
    assert found["agrees"]
    assert found["largest"] < 1e-8
    assert found["backprop"]["evaluations"] == 1 < found["parameters"] < found["numerical"]["evaluations"]
    name, own, other = found["components"][0]
    assert name.startswith(("0.", "2.", "4."))
    assert own == pytest.approx(other, abs=1e-8)


def test_the_net_of_the_article():
    spec = {"data": {"points": [[0.6, 0.9, 2]], "classes": 3}, "layers": [], "optimizer": {"name": "SGD", "lr": 0.1}}
    found = ask("check", spec=spec, epoch=0)
    assert found["parameters"] == 9
    assert found["agrees"]
    assert len(found["components"]) == 9


def test_a_large_network_is_checked_in_part():
    found = ask("check", spec=SPEC | {"layers": [64, 64]}, epoch=0)
    assert found["checked"] == 300 < found["parameters"]
    assert found["agrees"]


def test_diagnosis():
    found = ask("diagnose_training", spec=SPEC | {"optimizer": {"name": "SGD", "lr": 1e-5}}, epoch=10, lang="ja")
    assert found["code"] == "lr_too_small"
    assert found["explanation"]


def test_data():
    found = ask("data", dataset={"csv": "a,b,kind\n1,2,x\n3,4,y\n5,9,x\n"})
    assert found["classes"] == ["x", "y"]
    assert found["axes"] == ["a", "b"]
    np.testing.assert_allclose(found["arrays"]["points"].mean(axis=0), 0, atol=1e-6)
    assert found["mean"] == [3.0, 5.0]
    for dataset in tables()["datasets"]:
        assert len(ask("data", dataset={"name": dataset["name"], "n": 30})["classes"]) == dataset["classes"]


def test_columns_and_label_of_a_csv():
    text = "k,a,b,c\nu,1,2,3\nv,2,5,9\n"
    found = ask("data", dataset={"csv": text, "label": "k", "columns": ["c", "a"]})
    assert found["axes"] == ["c", "a"]
    assert found["mean"] == [6.0, 1.5]


def test_a_csv_by_numbers_of_columns_with_another_delimiter():
    text = "7;one;1,5;2;u\n8;two;2;5;v\n"
    dataset = {"csv": text.replace(",", "."), "delimiter": ";", "columns": ["3", "4"], "label": "5"}
    found = ask("data", dataset=dataset)
    assert found["classes"] == ["u", "v"]
    assert found["mean"] == [1.75, 3.5]
    assert found["axes"] == ["x", "y"]
    del dataset["columns"], dataset["label"]
    assert ask("csv_columns", dataset=dataset)["columns"] == ["1", "2", "3", "4", "5"]
    # what is not chosen is not read: the second column is text
    assert ask("data", dataset=dataset | {"columns": ["1", "4"]})["mean"] == [7.5, 3.5]
    headed = {"csv": "1,2,k\n3,4,a\n5,6,b\n", "header": True}
    assert ask("csv_columns", dataset=headed)["columns"] == ["1", "2", "k"]
    assert ask("data", dataset=headed)["mean"] == [4.0, 5.0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": {"name": "spiral"}}, "spirals"),
        ({"data": {"name": "spirals", "n": 2001}}, "spec.data.n"),
        ({"data": {"name": "moons", "classes": 3}}, "spec.data.classes"),
        ({"data": {"name": "moons", "points": []}}, "one of name, points and csv"),
        ({"data": {"points": []}}, "empty"),
        ({"data": {"points": [[0, 0, 0]] * 2001}}, "2,001"),
        ({"data": {"points": [[0, "NaN", 0]]}}, r"spec.data.points\[0\].y"),
        ({"data": {"points": [[0, 0, 8]]}}, r"points\[0\].class"),
        ({"data": {"points": [[0, 0]]}}, r"points\[0\]"),
        ({"data": {"csv": "x" * 200_001}}, "200,001"),
        ({"data": {"csv": "a,b\n1,2\n"}}, "two columns"),
        ({"data": {"csv": "a,b,c\n1,2,0.5\n1,2,0.7\n"}}, "class"),
        ({"data": {"csv": "a,b,c\n1,2,x\n1,2,x\n"}}, "one class only, x"),
        ({"data": {"csv": "a,b,c\n1,oops,x\n"}}, "oops"),
        ({"data": {"csv": 'a,b,c\n1,"2,x\n'}}, "the CSV, line 2"),
        ({"data": {"csv": "a,b,c\n1,2,x\n3,4,y\n", "delimiter": ";"}}, "one column; .* another delimiter"),
        ({"data": {"csv": "a;b;c\n1;2;x\n3;4;y\n", "delimiter": "|"}}, "delimiter"),
        ({"data": {"csv": "a,b,c\n1,2,x\n3,4,y\n", "header": False}}, "line 1, column 1 is 'a', not a number"),
        ({"data": {"csv": "a,b,c\n1,2,x\n3,4,y\n", "columns": ["a", "d"]}}, "no column 'd'; it has: a, b, c"),
        ({"data": {"csv": "a,b,c\n1,2,x\n3,4,y\n", "columns": ["a", "c"]}}, "three different"),
        ({"data": {"csv": "a,b,c\n1,2,x\n3,4,y\n", "label": "k"}}, "no column 'k'"),
        ({"data": {"csv": "a,b,c\n" + "1,2,x\n3,4,y\n" * 1001}}, "2,002 rows; at most 2,000"),
        ({"data": {"csv": "a,b,c\n" + "".join(f"1,2,k{i}\n" for i in range(9))}}, "9 classes in column c"),
        ({"layers": [8] * 7}, "spec.layers"),
        ({"layers": [65]}, r"spec.layers\[0\].units"),
        ({"layers": [{"units": 3, "activation": "rule"}]}, "relu"),
        ({"layers": "8"}, "spec.layers"),
        ({"activation": 3}, "spec.activation"),
        ({"loss": "binarycrossentropy"}, "two classes"),
        ({"optimizer": {"name": "LBFGS"}}, "spec.optimizer"),
        ({"optimizer": {"name": "Adam", "lr": -1}}, "lr"),
        ({"optimizer": {"name": "Adam", "lr": "auto"}}, "lr"),
        ({"optimizer": {"name": "Adam", "momentum": 1}}, "momentum"),
        ({"schedule": {"name": "cosine"}}, "spec.schedule needs steps"),
        ({"schedule": {"name": "cosine", "steps": -1}}, "steps"),
        ({"schedule": {"name": "sine"}}, "cosine"),
        ({"batch_size": 0}, "spec.batch_size"),
        ({"validation": 1}, "spec.validation"),
        ({"seed": -1}, "spec.seed"),
        ({"seeds": 1}, "seed"),
        ({"koubai": 2}, "koubai"),
    ],
)
def test_what_can_not_be_used_is_named(change, said):
    with pytest.raises(InputError, match=said):
        Specification.read(SPEC | change)


@pytest.mark.parametrize(
    "arguments",
    [
        {"spec": SPEC, "epoch": LIMITS["epochs"] + 1},
        {"spec": SPEC, "epoch": 1, "seconds": 100},
        {"spec": SPEC, "epoch": 0, "want": {"boundary": [1000, 1000]}},
        {"spec": SPEC, "epoch": 0, "want": {"boundary": 3}},
        {"spec": SPEC, "epoch": 0, "want": {"boundary": [8, 8], "unit": [3, 0]}},
        {"spec": SPEC, "epoch": 0, "want": {"boundary": [8, 8], "unit": []}},
        {"spec": SPEC, "epoch": 0, "want": {"units": [8, 8], "window": {"x": [1, 0], "y": [0, 1]}}},
        {"spec": []},
        {},
    ],
)
def test_a_frame_is_bounded(arguments):
    with pytest.raises(InputError):
        ASKS["train"](arguments, lambda: None)


@pytest.mark.parametrize("kind", ["csv", "svg", "png", "gif"])
@pytest.mark.parametrize("loss", ["crossentropy", "mse"])
def test_the_training_is_saved(kind, loss):
    from koubai.lab.export import ASKS as EXPORTS

    state = {"spec": SPEC | {"loss": loss}, "epoch": 8}
    found = EXPORTS["export"]({"kind": kind, "state": {"room": "network", "network": state}}, lambda: None)
    data = found["arrays"]["bytes"].tobytes()
    begins = {"csv": b"epoch,loss,", "svg": b"<?xml", "png": b"\x89PNG", "gif": b"GIF8"}
    assert data.startswith(begins[kind])
    if kind == "csv" and loss == "crossentropy":
        _, run = network_of(SPEC, 8)
        assert float(data.splitlines()[-1].split(b",")[1]) == run.history.epochs.fun[-1]
