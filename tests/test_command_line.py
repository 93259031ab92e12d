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
    context = command.context_class(command, help_option_names=["-h", "--help"])
    return [*command.params, command.get_help_option(context)]


def run(capsys, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["koubai", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    return ended.value.code or 0, out, err


def japanese_of(name, parameter):
    return TEXTS[name].get(parameter.name) or TEXTS["every"].get(parameter.name)


@pytest.mark.parametrize("name", commands())
def test_every_command_and_option_has_its_japanese_text(name):
    command = commands()[name]
    assert "about" in TEXTS[name]
    for parameter in parameters(command):
        text = japanese_of(name, parameter)
        assert text, f"{name}: {parameter.name}"
        assert re.search("[ぁ-ん]|[一-龠]", text)
        for kept in UNTRANSLATED.findall(parameter.help):
            assert kept in text, f"{name}: {parameter.name}: {kept}"


def test_no_japanese_text_is_left_over():
    known = {name: {parameter.name for parameter in parameters(command)} for name, command in commands().items()}
    assert set(TEXTS) == {"words", "every", *known}
    for name, names in known.items():
        assert set(TEXTS[name]) <= {"about", *names}, name
    shared = set.union(*known.values())
    assert set(TEXTS["every"]) <= shared


def test_a_shared_text_is_that_of_one_english_text():
    english = {}
    for name, command in commands().items():
        for parameter in parameters(command):
            if parameter.name not in TEXTS[name]:
                english.setdefault(parameter.name, set()).add(parameter.help)
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
    code, _, err = run(capsys, monkeypatch, "minimize", "--lang", "ja")
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
