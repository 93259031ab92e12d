import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import koubai as kb
from koubai import cli


@pytest.fixture
def koubai(capsys, monkeypatch):
    """Run the command line in this process; return (exit code, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["koubai", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG")


def test_minimize_says_where_it_ended_why_and_at_what_cost(koubai, tmp_path):
    picture = tmp_path / "path.png"
    code, out, err = koubai("minimize", "(x-1)**2 + (y-2)**2", "--start=-3,4", "--lr", "0.1", "-o", str(picture))
    run = kb.minimize(kb.parse("(x-1)**2 + (y-2)**2"), [-3, 4], kb.SGD(lr=0.1))
    assert (code, err) == (0, "")
    assert "f(x, y) = (x-1)**2 + (y-2)**2" in out
    assert f"converged: {run.message}" in out
    assert f"{run.nit} steps, {run.nfev} evaluations of f" in out
    assert str(picture) in out
    assert is_png(picture)
    assert list(tmp_path.iterdir()) == [picture]


def test_minimize_as_json_holds_the_run(koubai):
    code, out, _ = koubai("minimize", "(x-1)**2 + (y-2)**2", "--start", "-3,4", "--lr", "0.1", "--json")
    fields = json.loads(out)
    run = kb.minimize(kb.parse("(x-1)**2 + (y-2)**2"), [-3, 4], kb.SGD(lr=0.1))
    assert code == 0
    assert fields["x"] == run.x.tolist()
    assert fields["jac"] == run.jac.tolist()
    assert (fields["status"], fields["success"], fields["nit"]) == ("converged", True, run.nit)


def test_a_known_function_brings_its_start_and_its_exact_gradient(koubai):
    code, out, _ = koubai("minimize", "himmelblau", "--lr", "0.01", "--json")
    problem = kb.problems["himmelblau"]
    run = kb.minimize(problem.f, problem.x0, kb.SGD(lr=0.01), grad=problem.grad)
    assert code == 0
    assert json.loads(out)["x"] == run.x.tolist()
    assert json.loads(out)["njev"] == run.njev > 0


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("x**2", "--start", "3", "--lr", "10"), "diverged"),
        (("x**2", "--start", "3", "--lr", "1e-10", "--max-steps", "10"), "max_steps"),
        (("log(x)", "--start", "1", "--lr", "2"), "nonfinite"),
    ],
)
def test_a_descent_without_success_exits_with_3(koubai, arguments, status):
    code, out, err = koubai("minimize", *arguments)
    assert code == 3
    assert f"{status}: " in out
    assert err == ""


def test_json_of_a_run_holds_no_nan(koubai):
    code, out, _ = koubai("minimize", "log(x)", "--start", "1", "--lr", "2", "--json")
    assert code == 3
    json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_options_reach_the_descent(koubai):
    arguments = ("--set", "momentum=0.9", "--set", "nesterov=true", "--bounds", "0.5,3", "--target", "0.3", "--json")
    code, out, _ = koubai("minimize", "x**2 + y**2", "--start", "2,2.5", "--lr", "0.05", *arguments)
    fields = json.loads(out)
    run = kb.minimize(
        lambda x: x[0] ** 2 + x[1] ** 2, [2, 2.5], kb.SGD(lr=0.05, momentum=0.9, nesterov=True),
        bounds=(0.5, 3), target=0.3,
    )  # fmt: skip
    assert (code, fields["status"]) == (0, run.status.name)
    assert fields["x"] == pytest.approx(run.x.tolist())
    assert fields["optimizer"] == "SGD(lr=0.05, momentum=0.9, nesterov=True)"
    code, out, _ = koubai(
        "minimize", "x**2 + y**2", "--start", "2,2.5", "--bounds", "1,3", "--bounds", "-1,3", "--json"
    )
    assert code == 0
    assert json.loads(out)["x"] == pytest.approx([1, 0], abs=1e-6)


def test_derivative(koubai, tmp_path):
    code, out, _ = koubai("derivative", "x**2", "--at", "2", "--method", "forward", "--h", "1e-4")
    assert code == 0
    assert "4.0001000000078335" in out
    code, out, _ = koubai("derivative", "x**3", "--at", "10", "--json", "-o", str(tmp_path / "t.svg"))
    assert json.loads(out)["value"] == pytest.approx(300, rel=1e-12)
    assert b"<svg" in (tmp_path / "t.svg").read_bytes()


def test_the_warnings_of_an_estimate_go_to_stderr(koubai):
    code, out, err = koubai("derivative", "x**2", "--at", "2", "--method", "forward", "--h", "1e-50")
    assert code == 0
    assert "x+h == x" in err
    assert "x+h" not in out


def test_gradient(koubai, tmp_path):
    code, out, _ = koubai("gradient", "x**2 + y**2", "--at", "3,4", "--json", "-o", str(tmp_path / "field.png"))
    assert code == 0
    np.testing.assert_allclose(json.loads(out)["value"], [6, 8], rtol=1e-12)
    assert is_png(tmp_path / "field.png")
    code, out, _ = koubai("gradient", "rosenbrock")
    assert code == 0
    assert "d/dx0" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("derivative", "parabola", "--at", "2"), ""),
        (("derivative", "parabol", "--at", "2"), "unknown function 'parabol': did you mean 'parabola'?"),
        (("derivative", "Parabola", "--at", "2"), "did you mean 'parabola'?"),
        (("derivative", "sphere", "--at", "2"), "needs one variable, 'sphere' has x0, x1"),
        (("derivative", "parabola**2", "--at", "2"), "parabola is a known function, and no variable"),
        (("gradient", "sphere + x", "--at", "1,2"), "sphere is a known function"),
        (("minimize", "sphere + x", "--start", "1,2"), "sphere is a known function"),
        (("minimize", "rosenbrok", "--start", "1,2"), "did you mean 'rosenbrock'?"),
        (("derivative", "sin", "--at", "2"), "this is a function; write sin(…)"),
        (("derivative", "pi", "--at", "2"), "'pi' has no variable"),
        (("derivative", "theta**2", "--at", "2"), ""),
        (("derivative", "x", "--at", "2"), ""),
    ],
)
def test_the_name_of_a_function_is_no_variable(koubai, arguments, message):
    code, out, err = koubai(*arguments)
    assert (code, err[:8]) == ((2, "koubai: ") if message else (0, ""))
    assert message in err
    if arguments[1] == "parabola":
        assert "d/dx parabola: f(x) = (x − 1)² at 2\n  2.0" in out


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of the user's in the current folder."""
    (tmp_path / "my_losses.py").write_text(
        "import numpy as np\n"
        "def f(x):\n    return np.log(np.exp(x).sum())\n"
        "def right(x):\n    return np.exp(x) / np.exp(x).sum()\n"
        "def wrong(x):\n    g = right(x)\n    g[1] *= 1.001\n    return g\n"
        "def bowl(x):\n    return np.sum((x - 3) ** 2)\n"
        "def bowl_gradient(x):\n    return 2 * (x - 3)\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    yield "my_losses"
    sys.modules.pop("my_losses", None)


def test_check_names_the_wrong_component(koubai, module):
    code, out, _ = koubai("check", "my_losses:f", "my_losses:right", "--at", "0.1,0.2,0.3")
    assert code == 0
    assert "ok, no wrong component among 3" in out
    code, out, _ = koubai("check", "my_losses:f", "my_losses:wrong", "--at", "0.1,0.2,0.3")
    assert code == 1
    assert "x[1]: given" in out
    code, out, _ = koubai("check", "my_losses:f", "my_losses:wrong", "--at", "0.1,0.2,0.3", "--json")
    assert [one["index"] for one in json.loads(out)["wrong"]] == [1]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("my_losses.f", "write MODULE:FUNCTION"),
        ("my_loses:f", "there is no module 'my_loses'"),
        ("my_losses:rigth", "did you mean 'right'"),
        ("my_losses:number", "is int, not a function"),
    ],
)
def test_check_refuses_what_it_can_not_import(koubai, module, function, message):
    code, _, err = koubai("check", "my_losses:f", function, "--at", "1,2")
    assert code == 2
    assert message in err


@pytest.mark.parametrize("place", ["my_losses", "my_losses.py", "./my_losses.py", "folder/my_losses.py"])
def test_a_function_of_the_users_in_every_command(koubai, module, place, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "my_losses.py").write_text((tmp_path / "my_losses.py").read_text())
    code, out, _ = koubai("minimize", f"{place}:bowl", "--start", "1,2", "--lr", "0.1", "--json")
    run = kb.minimize(lambda x: ((x - 3) ** 2).sum(), [1.0, 2.0], lr=0.1)
    assert (code, json.loads(out)["x"], json.loads(out)["nit"]) == (0, run.x.tolist(), run.nit)
    options = ("--start", "1,2", "--grad", f"{place}:bowl_gradient", "--json")
    code, out, _ = koubai("minimize", f"{place}:bowl", *options)
    assert (code, json.loads(out)["gradient_source"]) == (0, "user")
    assert koubai("gradient", f"{place}:bowl", "--at", "1,2")[1].count("d/dx") == 2
    assert f"d/dx {place}:bowl at 2" in koubai("derivative", f"{place}:bowl", "--at", "2")[1]
    assert koubai("check", f"{place}:bowl", f"{place}:bowl_gradient", "--at", "1,2")[0] == 0
    code, out, _ = koubai("minimize", f"{place}:bowl", "--start", "1,", "--json")
    assert (code, json.loads(out)["x"]) == (0, [pytest.approx(3)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("minimize", "nowhere.py:f", "--start", "1"), "there is no file 'nowhere.py'"),
        (("minimize", "my_losses.py:bowls", "--start", "1"), "did you mean 'bowl'?"),
        (("minimize", "my_losses.py:number", "--start", "1"), "is int, not a function"),
        (("minimize", "my_losses.py:bowl"), "give the start: --start with numbers"),
        (("minimize", "my_losses.py:bowl", "--start", "1,2", "--grad", "exact"), "'my_losses.py:bowl' is none"),
        (("minimize", ":bowl", "--start", "1"), "write MODULE:FUNCTION or FILE.py:FUNCTION"),
        (("minimize", "x**2", "--start", "1", "--history", "--json"), "--json holds the path already"),
    ],
)
def test_a_function_of_the_users_that_is_not_there(koubai, module, arguments, message):
    code, out, err = koubai(*arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_a_file_is_read_whatever_module_has_its_name(koubai, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "json.py").write_text("def f(x):\n    return (x - 3) ** 2\n")
    code, out, _ = koubai("minimize", "json.py:f", "--start", "1", "--json")
    assert (code, json.loads(out)["x"]) == (0, pytest.approx(3))


def test_the_path_as_csv_and_in_json(koubai):
    arguments = ("minimize", "x**2 + 3*y**2", "--start", "1,2", "--lr", "0.1", "--max-steps", "5")
    run = kb.minimize(kb.parse("x**2 + 3*y**2"), [1, 2], kb.SGD(lr=0.1), max_steps=5)
    code, out, err = koubai(*arguments, "--history")
    assert code == 3
    assert "max_steps: " in err
    head, *rows = out.splitlines()
    assert head == "t,x,y,f,grad_norm,lr"
    table = np.array([[float(cell) for cell in row.split(",")] for row in rows])
    history = run.history
    expected = np.column_stack([history.t, history.x, history.fun, history.grad_norm, history.lr])
    np.testing.assert_array_equal(table, expected)
    fields = json.loads(koubai(*arguments, "--json")[1])["history"]
    assert fields == {name: getattr(history, name).tolist() for name in ("t", "x", "fun", "grad_norm", "lr")}
    out = koubai("minimize", "(x-1)**2", "--start", "3", "--history")[1]
    assert out.startswith("t,x,f,grad_norm,lr\n0,3.0,4.0,4.0")


def test_minimize_writes_a_moving_picture(koubai, tmp_path):
    picture = tmp_path / "path.gif"
    code, _, _ = koubai("minimize", "(x-1)**2 + (y-2)**2", "--start=-3,4", "--lr", "0.3", "-o", str(picture))
    assert code == 0
    assert picture.read_bytes().startswith(b"GIF8")
    code, _, err = koubai("minimize", "x**2 + y**2 + z**2", "--start=-3,4,1", "-o", str(picture))
    assert code == 2
    assert "1 or 2 variables, this one has 3" in err


def test_every_optimizer_is_there_by_name(koubai):
    code, out, _ = koubai("optimizers")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(kb.optimizers.names())
    code, out, _ = koubai("optimizers", "adam")
    assert code == 0
    assert "beta1=0.9" in out
    assert "Kingma" in out
    assert "keras" in out
    arguments = ("--optimizer", "gradientdescent", "--set", "line_search=wolfe", "--json")
    code, out, _ = koubai("minimize", "x**2 + 20*y**2", "--start", "1,1", *arguments)
    assert (code, json.loads(out)["status"]) == (0, "converged")


@pytest.mark.parametrize("semantics", ["torch", "keras", "optax"])
def test_a_frameworks_semantics_from_the_command_line(koubai, semantics):
    arguments = ("--optimizer", "adam", "--semantics", semantics, "--lr", "0.1", "--set", "clipnorm=5", "--json")
    code, out, _ = koubai("minimize", "rosenbrock", *arguments, "--max-steps", "30")
    problem = kb.problems["rosenbrock"]
    optimizer = kb.Adam(lr=0.1, semantics=semantics, clipnorm=5)
    run = kb.minimize(problem.f, problem.x0, optimizer, grad=problem.grad, max_steps=30)
    fields = json.loads(out)
    assert (code, fields["x"], fields["optimizer"]) == (3, run.x.tolist(), repr(optimizer))


def test_train_says_how_well_the_network_does_on_what_it_has_not_seen(koubai, tmp_path):
    picture, saved = tmp_path / "moons.png", tmp_path / "moons.npz"
    options = ("--layers", "16,tanh,2", "--lr", "0.02", "--epochs", "20", "--batch-size", "50", "--seed", "3")
    code, out, err = koubai("train", "moons", *options, "-o", str(picture), "--save", str(saved))
    train, held = kb.nn.split(*kb.nn.moons(), 0.2, 3, stratified=True)
    network = kb.nn.Network([kb.nn.Dense(16), kb.nn.Tanh(), kb.nn.Dense(2)], kb.nn.CrossEntropy(), seed=3)
    network.fit(*train, kb.Adam(lr=0.02), epochs=20, batch_size=50, validation=held)
    assert (code, err) == (0, "")
    assert f"accuracy {network.score(*held):.2%}, 100 samples" in out
    assert network.summary() in out
    assert is_png(picture)
    again = kb.nn.Network.load(saved)
    assert np.array_equal(again.predict_proba(held[0]), network.predict_proba(held[0]))
    assert sorted(tmp_path.iterdir()) == [saved, picture]


def test_train_as_json_holds_results_and_curves(koubai):
    options = ("--layers", "8,relu,3", "--epochs", "3", "--set", "beta1=0.8", "--optimizer", "adam", "--json")
    code, out, _ = koubai("train", "spirals", *options)
    fields = json.loads(out)
    assert code == 0
    assert fields["classes"] == ["0", "1", "2"]
    assert len(fields["epochs"]["fun"]) == len(fields["epochs"]["validation_accuracy"]) == 3
    assert (
        fields["validation"]["accuracy"] == fields["validation"]["score"] == fields["epochs"]["validation_accuracy"][-1]
    )
    assert fields["parameters"] == 2 * 8 + 8 + 8 * 3 + 3
    assert fields["optimizer"] == "Adam(lr=0.001, beta1=0.8)"
    assert koubai("train", "spirals", *options)[1] == out  # the same bits


def test_train_on_images_and_without_validation(koubai, tmp_path):
    layers = "conv4x3s2p1,relu,pool2,flatten,10"
    picture = tmp_path / "digits.svg"
    code, out, err = koubai(
        "train", "digits", "--layers", layers, "--epochs", "2", "--validation", "0", "-o", str(picture)
    )
    assert (code, err) == (0, "")
    assert "1797 samples of 1×8×8 numbers, 10 classes" in out
    assert "validation" not in out
    assert b"<svg" in picture.read_bytes()


@pytest.fixture
def table(tmp_path, monkeypatch):
    """CSV files in the current folder: text labels, whole numbers as labels, numbers to predict."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 2))
    k = np.arange(60) % 2
    X[:, 0] += 4 * k
    for name, last in (
        ("text", [("cat", "dog")[i] for i in k]), ("numbers", k), ("prices", X @ [2.0, -1.0]), ("ages", 20 + 3 * k),
    ):  # fmt: skip
        rows = [f"{a},{y},{b}" for (a, b), y in zip(X, last, strict=True)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["width,label,height", *rows]))
    monkeypatch.chdir(tmp_path)


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("arguments", "classes", "loss", "units"),
    [
        (("text.csv",), ["cat", "dog"], "CrossEntropy()", 2),
        (("numbers.csv",), ["0", "1"], "CrossEntropy()", 2),
        (("numbers.csv", "--layers", "4,relu,1"), ["0", "1"], "BinaryCrossEntropy()", 1),
        (("numbers.csv", "--layers", "4,relu,1", "--loss", "mse"), None, "MSE()", 1),
        (("prices.csv",), None, "MSE()", 1),
        (("ages.csv",), None, "MSE()", 1),
    ],
)
def test_train_reads_from_a_file_what_its_labels_are(koubai, table, arguments, classes, loss, units):
    options = ("--label", "label", "--optimizer", "sgd", "--lr", "0.01", "--epochs", "40", "--json", "-o", "t.png")
    code, out, err = koubai("train", *arguments, *options)
    fields = json.loads(out)
    assert (code, err) == (0, "")
    assert (fields["classes"], fields["loss"]) == (classes, loss)
    assert f"Dense({units})" in fields["layers"][-1]
    assert fields["epochs"]["fun"][-1] < 0.9 * fields["epochs"]["fun"][0]
    assert (fields["validation"]["accuracy"] is None) == (classes is None)
    assert is_png(Path("t.png"))


def test_a_training_that_diverges_exits_with_3(koubai, tmp_path):
    arguments = ("--layers", "3,relu,1", "--loss", "mse", "--optimizer", "sgd", "--lr", "1e6")
    picture = tmp_path / "moons.png"
    code, out, err = koubai("train", "moons", *arguments, "-o", str(picture))
    assert code == 3
    assert "diverged: " in out
    assert err == "no picture: training ended before its first epoch did\n"
    assert not picture.exists()


def test_ctrl_c_keeps_the_network_trained_so_far(koubai, monkeypatch, tmp_path):
    real = kb.nn.Network.fit

    def interrupted(network, *arguments, **options):
        def on_epoch(epoch):
            if epoch.number == 2:
                signal.raise_signal(signal.SIGINT)

        return real(network, *arguments, on_epoch=on_epoch, **options)

    monkeypatch.setattr(kb.nn.Network, "fit", interrupted)
    code, out, _ = koubai(
        "train", "blobs", "--epochs", "9", "-o", str(tmp_path / "b.png"), "--save", str(tmp_path / "b.npz")
    )
    assert code == 130
    assert "interrupted" in out
    assert is_png(tmp_path / "b.png")
    assert kb.nn.Network.load(tmp_path / "b.npz").params


def test_the_help_of_train_names_every_item(koubai):
    from koubai.nn.notation import NOTATION

    _, out, _ = koubai("train", "--help")
    for example in NOTATION:
        assert example.replace("s1p1", "") in out


def test_multistart_and_basins_tell_every_minimum(koubai, tmp_path):
    pictures = tmp_path / "shares.png", tmp_path / "map.png"
    code, out, err = koubai("multistart", "himmelblau", "--starts", "64", "-o", str(pictures[0]))
    assert (code, err) == (0, "")
    assert "4 places reached from 64 starts" in out
    assert out.count("minimum f = ") == 4
    sizes = ("--resolution", "40,30", "--lr", "0.01")
    code, out, err = koubai("basins", "himmelblau", *sizes, "-o", str(pictures[1]))
    assert (code, err) == (0, "")
    assert "4 places where descents from 40 × 30 starts end" in out
    assert all(map(is_png, pictures))


def test_what_raised_is_json_too(koubai, tmp_path):
    (tmp_path / "raising.py").write_text(
        "def loss(x):\n    if x[0] > 1:\n        raise ValueError('no such place')\n    return (x**2).sum()\n"
    )
    given = (f"{tmp_path / 'raising.py'}:loss", "--bounds=-2,2", "--json")
    for arguments in (
        ("multistart", *given, "--variables", "2", "--starts", "8"),
        ("basins", *given, "--bounds=-2,2", "--resolution", "4"),
    ):
        code, out, err = koubai(*arguments)
        assert code in (0, 3), err
        raised = json.loads(out)["raised"]
        assert raised
        assert set(raised.values()) == {"ValueError: no such place"}
        assert all(int(start) >= -1 for start in raised)


def test_multistart_and_basins_as_json(koubai):
    code, out, _ = koubai(
        "multistart", "x**2 + y**2 + z**2", "--bounds=-1,2", "--starts", "16", "--seed", "3", "--json"
    )
    found = kb.multistart(kb.parse("x**2 + y**2 + z**2"), [(-1, 2)] * 3, starts=16, seed=3)
    fields = json.loads(out)
    assert code == 0
    assert fields["best"]["x"] == found.best.x.tolist()
    assert (fields["nfev"], fields["status"]) == (found.nfev, {"converged": 16})
    sizes = ("--lr", "0.02", "--resolution", "31")
    code, out, _ = koubai("basins", "x**4 - 3*x**2 + x", "--bounds=-2,2", *sizes, "--json")
    assert json.loads(out)["label"] == [0] * 17 + [1] * 14
    at = ("--at", "5,0,0", "--axes", "1,2", "--bounds=-1,1")
    code, out, _ = koubai("basins", "x**2 + y**2 + z**2", *at, "--resolution", "8", "--lr", "0.1", "--json")
    np.testing.assert_allclose(json.loads(out)["minima"][0]["x"], [0, 0, 0], atol=1e-5)
    code, out, _ = koubai("multistart", "himmelblau", "--lr", "1e-5", "--max-steps", "2", "--starts", "8")
    assert code == 3
    assert "8 max_steps" in out


def test_functions(koubai):
    code, out, _ = koubai("functions")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(kb.problems.names())
    code, out, _ = koubai("functions", "himmelblau", "--json")
    fields = json.loads(out)
    assert fields["minima"][0] == {"x": [3.0, 2.0], "fun": 0.0}
    code, out, _ = koubai("functions", "beale")
    assert "minimum (3, 0.5), f = 0" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("minimize", "x**2"), "give the start: --start with 1 number, for x"),
        (("minimize", "x**2 + y", "--start", "1"), "wants 2 numbers, for x, y"),
        (("minimize", "x**2", "--start", "one"), "--start must be numbers"),
        (("minimize", "rosenbrok"), "did you mean 'rosenbrock'"),
        (("functions", "himelblau"), "did you mean 'himmelblau'"),
        (("minimize", "x**2 + sn(x)", "--start", "1"), "did you mean"),
        (("minimize", "__import__('os')", "--start", "1"), "__import__"),
        (("minimize", "x**2", "--start", "1", "--optimizer", "sdg"), "did you mean 'sgd'"),
        (("minimize", "x**2", "--start", "1", "--lr", "-1"), "lr must lie in (0, inf"),
        (("minimize", "x**2", "--start", "1", "--semantics", "kears"), "did you mean 'keras'"),
        (("minimize", "x**2", "--start", "1", "--optimizer", "ftrl", "--semantics", "torch"), "torch has no Ftrl"),
        (("minimize", "x**2", "--start", "nan"), "x0 must be finite"),
        (("minimize", "x**2", "--start", "1", "--set", "momentum"), "--set wants NAME=VALUE"),
        (("minimize", "x**2", "--start", "1", "--bounds", "a,b"), "--bounds wants LOW,HIGH"),
        (("minimize", "x**2", "--start", "1", "--grad", "exact"), "--grad exact is for known functions"),
        (("minimize", "x**2", "--start", "1", "-o", "path.bmp"), "-o must end in .png"),
        (("minimize", "x**2", "--start", "1", "-o", "no/such/folder/path.png"), "does not exist"),
        (("multistart", "x**2 + y"), "give the box: --bounds LOW,HIGH, once for each of 2 numbers, for x, y"),
        (("multistart", "x**2", "--bounds", "2,1"), "bounds is crossed or empty"),
        (("multistart", "himmelblau", "--starts", "0"), "starts must be a whole number"),
        (("multistart", "himmelblau", "--bounds=-5,inf"), "bounds[0] must be finite"),
        (("multistart", "himmelblau", "--variables", "0", "--bounds", "0,1"), "--variables must be at least 1"),
        (("basins", "himmelblau", "--resolution", "big"), "--resolution must be whole numbers"),
        (("basins", "x*y*z", "--bounds=-1,1"), "give two pairs, at="),
        (("basins", "himmelblau", "--lr", "0.01", "-o", "map.gif"), "-o must end in .png"),
        (("derivative", "x*y", "--at", "1"), "koubai gradient"),
        (("derivative", "x**2", "--at", "1", "--method", "centrl"), "did you mean 'central'"),
        (("derivative", "x**2", "--at", "1", "--h", "-1"), "h must be"),
        (("train", "digit"), "did you mean 'digits'"),
        (("train", "none.csv"), "there is no file"),
        (("train", "moons", "--layers", "64,rel,2"), "item 2 of layers: 'rel': did you mean 'relu'"),
        (("train", "moons", "--layers", "pool2,2"), "want images, as digits has"),
        (("train", "digits", "--layers", "conv8x3,10"), "put Flatten() before it"),
        (("train", "moons", "--layers", "relu"), "no parameters"),
        (("train", "moons", "--layers", "8,relu,2,softmax"), "leave the last layer out"),
        (("train", "moons", "--layers", "8,relu,1", "--loss", "crossentropy"), "needs one output a class"),
        (("train", "moons", "--loss", "crossentrpy"), "did you mean 'crossentropy'"),
        (("train", "moons", "--label", "y"), "--label is for CSV files"),
        (("train", "moons", "--validation", "1"), "--validation must be a share"),
        (("train", "moons", "--epochs", "-1"), "epochs must be"),
        (("train", "moons", "--batch-size", "0"), "size must be"),
        (("train", "moons", "--patience", "-1"), "patience must be"),
        (("train", "moons", "--seed", "-1"), "seed must be"),
        (("train", "moons", "--optimizer", "adm"), "did you mean 'adam'"),
        (("train", "moons", "--save", "no/such/net.npz"), "--save: the folder"),
        (("train", "moons", "-o", "moons.gif"), "-o must end in .png"),
        (("gradient", "x*y"), "give the point: --at with 2 numbers"),
        (("gradient", "x*y*z", "--at", "1,2,3", "-o", "f.png"), "drawn for 2 variables"),
    ],
)
def test_wrong_usage_is_one_line_on_stderr_and_exit_2(koubai, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = koubai(*arguments)
    assert code == 2, err
    assert out == ""
    assert message in err
    assert err.startswith("koubai: ")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_from_a_file_shows_the_best_and_goes_on_from_its_journal(koubai, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = 'function = "rosenbrock"\njournal = "j"\n[space]\nlr = [1e-4, 1e-3, 1.0]\n[options]\nmax_steps = 100\n'
    Path("sweep.toml").write_text(text)
    problem = kb.problems["rosenbrock"]
    sweep = kb.sweep(problem.f, {"lr": [1e-4, 1e-3, 1.0]}, x0=problem.x0, grad=problem.grad, max_steps=100)
    code, out, err = koubai("sweep", "sweep.toml", "-o", "sweep.png")
    assert (code, err, is_png(Path("sweep.png"))) == (0, "", True)
    assert out.startswith(repr(sweep))
    assert "diverged: " in out
    code, out, _ = koubai("sweep", "sweep.toml", "--json")
    assert (code, json.loads(out)["best"]) == (0, sweep.best)
    assert len(json.loads(out)["trials"]) == len(Path("j").read_text().splitlines()) - 1 == 3
    Path("moons.toml").write_text(
        'data = "moons"\nlayers = "4,relu,2"\n[space]\nlr = [0.01, 0.1]\n[options]\nepochs = 2'
    )
    assert koubai("sweep", "moons.toml")[0] == 0
    Path("bad.toml").write_text('function = "x**2"\nstart = 3\n[space]\nlr = [10]\n')
    code, out, err = koubai("sweep", "bad.toml")
    assert (code, "none ended well" in out) == (3, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no file"),
        ("function = ", "is not TOML"),
        ('functin = "x"', "did you mean 'function'"),
        ("[space]\nlr = [1]", "must have one of function and data"),
        ("function = 3", "function must be text in quotes"),
        ('function = "rosenbrok"\n[space]\nlr = [1]', "did you mean 'rosenbrock'"),
        ('function = "x**2"\n[space]\nlr = [1]', "give the start in sweep.toml"),
        ('function = "x**2"\nstart = "3"\n[space]\nlr = [1]', "start must be a number"),
        ('function = "x**2"\nstart = [1, 2]\n[space]\nlr = [1]', "has 2 number(s)"),
        ('function = "x**2"\nlayers = "3"\n[space]\nlr = [1]', "layers in sweep.toml is for data"),
        ('function = "x**2"\nstart = 3\nworkers = 0\n[space]\nlr = [1]', "must be ≥ 1, got 0"),
        ('function = "x**2"\nstart = 3', "space must be a dict"),
        ('function = "x**2"\nstart = 3\n[space]\nlr = [1]\n[options]\nseed = 1', "can't stand below [options]"),
    ],
)
def test_a_sweeps_file_that_can_not_be_used(koubai, tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("sweep.toml").write_text(text)
    code, out, err = koubai("sweep", "sweep.toml")
    assert (code, out) == (2, "")
    assert message in err


@pytest.mark.parametrize("arguments", [("minimise", "x"), ("minimize",), ("minimize", "x", "--lr", "fast")])
def test_words_that_are_no_command_exit_with_2(koubai, arguments):
    code, out, err = koubai(*arguments)
    assert (code, out) == (2, "")
    assert err


def test_a_function_that_fails_at_the_start_exits_with_1(koubai):
    code, _, err = koubai("minimize", "log(x)", "--start=-1")
    assert code == 1
    assert "f(x0) = nan" in err


def test_ctrl_c_prints_the_best_point_so_far_and_exits_with_130(koubai, monkeypatch, tmp_path):
    def interrupted(f, *arguments, **options):
        def on_step(step):
            if step.t == 40:
                signal.raise_signal(signal.SIGINT)

        return kb.minimize(f, *arguments, on_step=on_step, **options)

    monkeypatch.setattr(cli, "minimize", interrupted)
    picture = tmp_path / "path.png"
    code, out, _ = koubai("minimize", "x**2", "--start", "3", "--lr", "0.001", "-o", str(picture))
    assert code == 130
    assert "stopped: interrupted after step 40" in out
    assert "f(x)" in out
    assert is_png(picture)


def test_help_leads_with_examples(koubai):
    for command in (
        "minimize",
        "multistart",
        "basins",
        "derivative",
        "gradient",
        "check",
        "train",
        "functions",
        "optimizers",
    ):
        code, out, _ = koubai(command, "--help")
        assert code == 0
        assert out.index(f"koubai {command} ") < out.index("--help")
        lines = [line.strip() for line in out.splitlines() if line.strip().startswith(f"koubai {command}")]
        assert lines, "the examples stand on lines of their own"


def test_the_installed_command_runs():
    done = subprocess.run(
        [Path(sys.executable).with_name("koubai"), "--version"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stdout == f"koubai {kb.__version__}\n"


def test_lr_says_the_rate_its_range_and_its_bound(koubai, tmp_path):
    picture = tmp_path / "rates.png"
    code, out, _ = koubai("lr", "x**2 + 10*y**2", "--start", "3,1", "-o", str(picture))
    found = kb.find_lr(kb.parse("x**2 + 10*y**2"), [3.0, 1.0], "sgd")
    assert code == 0
    assert f"{found.lr:.4g} for SGD" in out
    assert f"{found.bound:.6g}: the rule's condition" in out
    assert is_png(picture)
    code, out, _ = koubai("lr", "x**2 + 10*y**2", "--start", "3,1", "--json")
    fields = json.loads(out)
    assert (code, fields["lr"], fields["nfev"]) == (0, found.lr, found.nfev)
    assert fields["curve"]["diverged"] == found.curve.diverged.tolist()


def test_race_prints_the_table_of_the_race(koubai, tmp_path):
    picture = tmp_path / "race.png"
    options = ("--optimizers", "sgd,lbfgs,scipy:BFGS", "--budget", "100", "--lr", "0.01", "--starts", "2")
    code, out, _ = koubai("race", "himmelblau", *options, "-o", str(picture))
    problem = kb.problems["himmelblau"]
    found = kb.race(problem.f, problem.x0, ["sgd", "lbfgs", "scipy:BFGS"], budget=100, lr=0.01, starts=2)
    assert code == 0
    assert found.rules in out
    assert is_png(picture)
    code, out, _ = koubai("race", "himmelblau", *options, "--json")
    fields = json.loads(out)
    assert (code, fields["winner"], fields["targets"]) == (0, found.winner, found.targets.tolist())
    assert [row["name"] for row in fields["table"]] == found.table["name"]
    assert koubai("race", "himmelblau", "-o", str(tmp_path / "race.gif"), *options)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("lr", "x**2 + y**2"), "give the start: --start"),
        (("lr", "x**2", "--start", "1", "--optimizer", "lbfgs"), "it has no rate to find"),
        (("race", "x**2", "--start", "1", "--budget", "0"), "budget"),
        (("race", "x**2", "--start", "1", "--lr", "fast"), "--lr must be tuned, given, same or a number"),
        (("race", "x**2", "--start", "1", "--optimizers", "sdg"), "did you mean 'sgd'"),
    ],
)
def test_lr_and_race_refuse_what_they_cannot_do(koubai, arguments, says):
    code, out, err = koubai(*arguments)
    assert (code, out) == (2, "")
    assert says in err
