"""The README in both languages: its code and its commands run on a plain install, and it leads to every door."""

import inspect
import json
import re
import shlex
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import pytest
from matplotlib import pyplot as plt

import koubai as kb
from koubai import cli

ROOT = Path(__file__).parent.parent
READMES = ["README.md", "README.ja.md"]
EXTRAS = ("pandas", "sklearn")  # what a plain install lacks


def blocks(name, language):
    return re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def plain_install(monkeypatch):
    for package in EXTRAS:
        for loaded in [m for m in sys.modules if m == package or m.startswith(f"{package}.")]:
            monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.setitem(sys.modules, package, None)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder of a newcomer: the file that the README writes, and a table."""
    monkeypatch.chdir(tmp_path)
    (written,) = [text for text in blocks("README.md", "python") if text.startswith("# losses.py\n")]
    Path("losses.py").write_text(written)
    Path("sweep.toml").write_text(*blocks("README.md", "toml"))
    rows = [f"{i % 7},{i % 5},{('setosa', 'virginica', 'versicolor')[i % 3]}" for i in range(60)]
    Path("iris.csv").write_text("\n".join(["width,height,species", *rows]))
    made = kb.minimize(kb.problems["rosenbrock"].f, [-1.2, 1.0], lr=0.001, max_steps=100)
    made.save("run.npz")
    Path("run.json").write_text(json.dumps({**made.spec, "optimizer": "lbfgs", "options": {}}))
    yield tmp_path
    sys.modules.pop("losses", None)


def commands(text):
    return [line.split("  #")[0].strip().removeprefix("$ ") for line in text.splitlines() if "koubai " in line[:12]]


@pytest.mark.parametrize("name", READMES)
def test_its_code_runs_as_it_stands(name, folder, monkeypatch):
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    space = {}
    for text in blocks(name, "python"):
        with monkeypatch.context() as patch:
            if "pip install" not in text:
                plain_install(patch)
            exec(compile(text, name, "exec"), space)
    plt.close("all")


def test_both_languages_show_the_same_code():
    one, other = (
        [re.sub(r" *#.*", "", text) for language in ("python", "console") for text in blocks(name, language)]
        for name in READMES
    )
    assert one == other


def run(command, monkeypatch, capsys):
    """Run a line of the shell in this process; return the exit code and stdout."""
    arguments = shlex.split(command.split(" > ")[0])
    if arguments[1] == "lab":  # up to where it would wait for a browser
        monkeypatch.setattr("koubai.lab.run_server", lambda *_: None)
        monkeypatch.setattr("webbrowser.open", lambda _: True)
    if arguments[1] == "train":
        arguments += ["--epochs", "1"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    assert (err == "") is (" > " not in command), err
    return ended.value.code or 0, out


@pytest.mark.parametrize("command", [line for text in blocks("README.md", "console") for line in commands(text)])
def test_its_commands_run_as_they_stand(command, folder, monkeypatch, capsys):
    plain_install(monkeypatch)
    code, out = run(command, monkeypatch, capsys)
    assert code == (3 if "--lr 10" in command else 0)
    shown = next((text for text in blocks("README.md", "console") if text.startswith(f"$ {command}\n")), None)
    if shown is not None:
        assert out.startswith(shown.partition("\n")[2])


COMMANDS = [command.callback for command in cli.app.registered_commands]


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    "command", [line for f in [cli.koubai, *COMMANDS] for line in commands(inspect.getdoc(f).replace("\b", ""))]
)
def test_the_examples_of_the_help_run_as_they_stand(command, folder, monkeypatch, capsys):
    if "digits" not in command:
        plain_install(monkeypatch)
    code, _ = run(command, monkeypatch, capsys)
    assert code == 0


@pytest.mark.parametrize("name", READMES)
def test_it_leads_to_every_door(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    doors = [door for door in kb.__all__ if door.islower() and door not in ("nn", "plot", "optimizers")]
    for door in [*doors, "optimizers.names", "nn.", "on_step", "bounds", "args=", "grad=True", "plt.show"]:
        assert re.search(rf"\b(kb\.)?{re.escape(door)}", text), door
    for door in kb.plot.__all__:
        assert re.search(rf"`{door}`|\b(kb\.plot|run)\.{door}\b", text), door


def test_no_advice_names_an_extra_of_a_package_that_no_index_has():
    files = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *(ROOT / "src").rglob("*.py")]
    assert [str(file) for file in files if "koubai[" in file.read_text(encoding="utf-8")] == []
