"""The command line in Japanese: every command and option is told of, and what stands in the help stays what it is."""

import re
import sys

import pytest
import typer

from koubai import cli
from koubai.derivatives.differences import METHODS
from koubai.errors import InputError
from koubai.messages import command_line, language, speaking
from koubai.messages.lines import breaks

TEXTS = command_line.help_texts("ja")
# what is the same in every language: code, options, names in capitals, endings of files, numbers
UNTRANSLATED = re.compile(r"`[^`]+`|--[a-z-]+|\.[a-z]{3}\b|\b[A-Z]{2,}[A-Z:.,]*\b|\d+(?:\.\d+)?|\bkb\.\w+|\w+:\w+")


def commands():
    """Return every command by name, with the help as it stands in cli.py."""
    group = typer.main.get_command(cli.app)
    return {"koubai": group, **group.commands}


def parameters(command):
    """Return every option and argument by name."""
    context = command.context_class(command, help_option_names=["-h", "--help"])
    return {**{parameter.name: parameter for parameter in command.params}, "help": command.get_help_option(context)}


def run(capsys, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["koubai", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    return ended.value.code or 0, out, err


def japanese_of(name, parameter):
    return TEXTS[name].get(parameter) or TEXTS["every"].get(parameter)


@pytest.mark.parametrize("name", commands())
def test_every_command_and_option_has_its_japanese_text(name):
    command = commands()[name]
    assert "about" in TEXTS[name]
    for parameter, told in parameters(command).items():
        text = japanese_of(name, parameter)
        assert text, f"{name}: {parameter}"
        assert re.search("[ぁ-ん]|[一-龠]", text)
        for kept in UNTRANSLATED.findall(told.help or ""):
            assert kept in text, f"{name}: {parameter}: {kept}"


def test_no_japanese_text_is_left_over():
    known = {name: set(parameters(command)) for name, command in commands().items()}
    assert set(TEXTS) == {"words", "every", *known}
    for name, names in known.items():
        assert set(TEXTS[name]) <= {"about", *names}, name
    shared = set.union(*known.values())
    assert set(TEXTS["every"]) <= shared


def test_a_shared_text_is_that_of_one_english_text():
    english = {}
    for name, command in commands().items():
        for parameter, told in parameters(command).items():
            if parameter not in TEXTS[name]:
                english.setdefault(parameter, set()).add(told.help)
    assert {name: texts for name, texts in english.items() if len(texts) > 1} == {}
    assert all(method in TEXTS["every"]["method"] for method in METHODS)


@pytest.mark.parametrize("name", commands())
def test_examples_and_blocks_stay_as_they_are(name):
    english, japanese = commands()[name].help, TEXTS[name]["about"]
    assert english.count("\b") == japanese.count("\b")
    for line in english.splitlines():
        kept = line.partition("#")[0].rstrip()
        if line.startswith("  koubai ") or (line.startswith("  ") and " = " in kept):
            assert any(kept == other.partition("#")[0].rstrip() for other in japanese.splitlines()), line
        elif line.startswith("  "):  # an item of a list
            assert re.search(rf"^  {re.escape(line.split()[0])}( |$)", japanese, re.MULTILINE), line


def test_help_is_japanese_wherever_lang_stands_and_in_the_locale(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for arguments in (("--lang", "ja", "--help"), ("--lang=ja", "-h")):
        _, out, _ = run(capsys, monkeypatch, *arguments)
        assert "使い方: " in out
        assert "コマンド" in out
        assert "この説明を表示します。" in out
    pages = []
    for arguments in (("minimize", "--help", "--lang", "ja"), ("minimize", "--lang=ja", "-h")):
        pages.append(run(capsys, monkeypatch, *arguments)[1])
    monkeypatch.setenv("LC_ALL", "ja_JP.UTF-8")
    pages.append(run(capsys, monkeypatch, "minimize", "--help")[1])
    assert pages[0] == pages[1] == pages[2]
    assert "勾配に沿って降下し" in pages[0]
    assert "[既定値: 10000]" in pages[0]
    assert "…" not in pages[0].replace("X,Y,…", "")  # nothing is cut off
    assert not re.search("Usage|Options|Arguments|default|required|Show this", pages[0])
    assert "Usage: " in run(capsys, monkeypatch, "minimize", "--help", "--lang", "en")[1]


@pytest.mark.parametrize("name", [name for name in commands() if name != "koubai"])
def test_every_command_takes_lang_and_nothing_of_its_help_is_cut_off(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = run(capsys, monkeypatch, name, "--lang", "ja", "--help")
    assert (code, err) == (0, "")
    assert "--lang" in out
    assert "…" not in re.sub("(X,Y|ITEM|A,B),…", "", out)
    _, english, _ = run(capsys, monkeypatch, name, "--help")
    assert "--lang" in english
    assert "Usage: " in english
    assert not re.search("[ぁ-ん]", english)


def test_errors_of_usage_are_headed_in_the_language(capsys, monkeypatch):
    code, _, err = run(capsys, monkeypatch, "race", "--lang", "ja")
    assert code == 2
    assert "エラー" in err
    assert "使い方は" in err
    code, _, err = run(capsys, monkeypatch, "minimize", "x**2", "--start", "1", "--lang", "fr")
    assert code == 2
    assert "lang must be one of 'en', 'ja'" in err
    code, _, err = run(capsys, monkeypatch, "functions", "--lang")
    assert code == 2


def test_a_language_is_spoken_inside_the_with_statement(monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")
    with speaking("ja") as lang:
        assert lang == language() == "ja"
        assert language("en") == "en"
        with speaking(None):
            assert language() == "en"
        assert language() == "ja"
    assert language() == "en"
    with pytest.raises(InputError, match="lang must be one of"), speaking("fr"):
        pass


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], None), (["--lang", "ja"], "ja"), (["lr", "x", "--lang=ja"], "ja"), (["--lang"], None),
        (["check", "--", "--lang", "ja"], None), (["--language", "ja"], None),
    ],
)  # fmt: skip
def test_the_language_that_is_asked_for_is_found(arguments, expected):
    assert command_line.asked_language(arguments) == expected


def test_lines_break_between_characters_but_not_before_stops():
    line = "学習率。省略すると sgd は 0.1、ほかは"
    parts = [line[a:b] for a, b in zip([0, *breaks(line, 8)], [*breaks(line, 8), None], strict=True)]
    assert "".join(parts) == line
    assert parts[0] == "学習率。"
    assert not any(part.startswith(("。", "、")) for part in parts)
    assert breaks("one two three", 8) == [8]
    assert breaks("x" * 10, 4) == [4, 8]


LOSSES = """
import numpy as np
def loss(x):
    return np.sum(x**2)
def half(x):
    return x
def nothing(x):
    return 2 * x
"""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("minimize", "x**2", "--start", "1", "--lr", "0.1"), "収束: ステップ "),
        (("minimize", "x**2", "--start", "1", "--lr", "10"), "学習率が大きすぎます"),
        (("minimize", "x**2", "--start", "1", "--lr", "0.1"), "ステップ、f の評価"),
        (("derivative", "x**3", "--at", "10"), "差分の方法 adaptive"),
        (("gradient", "x**2 + y**2", "--at", "3,4"), "(3, 4) での勾配"),
        (("check", "losses.py:loss", "losses.py:half", "--at", "1,2"), "2 個の成分のうち 2 個が間違っています"),
        (("check", "losses.py:loss", "losses.py:nothing", "--at", "1,2"), "勾配の検査: 合格"),
        (("multistart", "himmelblau", "--starts", "20"), "20 個の始点から 4 か所に到達"),
        (("basins", "himmelblau", "--lr", "0.03", "--resolution", "20"), "行き先は"),
        (("basins", "himmelblau", "--lr", "0.01", "--resolution", "9", "--steps", "2"), "未到達"),
        (("lr", "x**2", "--start", "1"), "使える範囲"),
        (("train", "moons", "--epochs", "1", "--layers", "4,relu,2"), "検証  損失"),
        (("sweep", "sweep.toml"), "試行 2 回（収束 2）。最良は試行 "),
        (("functions", "himmelblau"), "定義域  [-5, 5]"),
        (("optimizers", "sgd"), "既定値: lr="),
    ],
)
def test_commands_print_in_japanese(arguments, said, capsys, monkeypatch, tmp_path):
    (tmp_path / "losses.py").write_text(LOSSES)
    sweep = 'function = "x**2"\nstart = 1.0\nspace = {lr = [0.1, 0.2]}\n'
    (tmp_path / "sweep.toml").write_text(sweep)
    monkeypatch.chdir(tmp_path)
    _, out, _ = run(capsys, monkeypatch, *arguments, "--lang", "ja")
    assert said in out
    _, english, _ = run(capsys, monkeypatch, *arguments)
    assert not re.search("[ぁ-んァ-ヴ一-龠]", english)
    if arguments[0] != "optimizers":
        untouched, japanese = (text.count("\n") for text in (english, out))
        assert 0 <= japanese - untouched <= 1  # the message of a run in English, under what its status means


def test_a_check_prints_in_english_what_it_is(capsys, monkeypatch, tmp_path):
    from koubai import check_gradient

    (tmp_path / "losses.py").write_text(LOSSES)
    monkeypatch.chdir(tmp_path)
    at = ",".join(map(str, range(1, 13)))
    _, out, _ = run(capsys, monkeypatch, "check", "losses.py:loss", "losses.py:half", "--at", at)
    found = check_gradient(lambda x: (x**2).sum(), lambda x: x, [float(k) for k in range(1, 13)])
    assert len(out.splitlines()) == len(repr(found).splitlines())
    assert out.splitlines()[-1] == repr(found).splitlines()[-1] == "  … and 2 more in .wrong"
    assert "12 of 12 components are wrong" in out
