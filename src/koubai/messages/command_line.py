"""The command line in another language: the language that is asked for, and the help of the commands in it.

The English help stands with the commands. Its translation is in a table a language, help.ja.toml, by the names of the
commands and their parameters; what is not in the table stays English.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import typer

from koubai.messages import LANGUAGES, table

__all__ = ["asked_language", "help_texts", "run", "translate"]

ROOT = "koubai"  # the table of the commands as a whole
SHARED = "every"  # the table of the parameters that are alike in several commands
OWN = "about"  # the entry with the text of the command itself


def asked_language(arguments: Sequence[str]) -> str | None:
    """Return the language that --lang asks for, wherever it stands; None if it does not."""
    for here, following in zip(arguments, [*arguments, ""][1:], strict=True):
        if here == "--":
            break
        if here == "--lang":
            return following or None  # Typer says that it is missing
        if here.startswith("--lang="):
            return here.removeprefix("--lang=")
    return None


@functools.cache
def help_texts(lang: str) -> dict[str, dict[str, str]]:
    """Return the help in a language, by command and parameter; empty for English, which stands with the commands."""
    return {} if lang == LANGUAGES[0] else table(f"help.{lang}.toml")


def translate(command: Any, lang: str) -> None:
    """Give a command of Typer and all below it the option --lang, and their help in this language."""
    option = next(parameter for parameter in command.params if parameter.name == "lang")
    _translate(command, lang, option, command.context_class(command, **command.context_settings))


def _translate(command: Any, lang: str, option: Any, context: Any) -> None:
    texts = help_texts(lang)
    own, shared = texts.get(command.name or ROOT, {}), texts.get(SHARED, {})
    if all(parameter.name != "lang" for parameter in command.params):
        known = copy.copy(option)
        known.expose_value = False  # it was read already
        command.params.append(known)
    command.help = own.get(OWN, command.help)
    asks_help = command.get_help_option(context)
    for parameter in (*command.params, asks_help):
        if parameter is not None:
            name = "help" if parameter is asks_help else parameter.name  # Click has other names for it
            parameter.help = own.get(name, shared.get(name, parameter.help))
    if usage := texts.get("words", {}).get("USAGE"):
        _name_usage(command, usage)
    for name, below in getattr(command, "commands", {}).items():
        _translate(below, lang, option, command.context_class(below, info_name=name, parent=context))


def _name_usage(command: Any, usage: str) -> None:
    """Begin the line that shows how a command is called with this word."""
    context: Any = command.context_class

    class Formatter(context.formatter_class):  # type: ignore[misc]
        def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
            super().write_usage(prog, args, usage if prefix is None else prefix)

    class Context(context):  # type: ignore[misc]
        formatter_class = Formatter

    command.context_class = Context


@contextlib.contextmanager
def _typers_words(lang: str) -> Iterator[None]:
    """Put the words that Typer itself writes into this language inside the with statement, as far as it has them."""
    new: dict[str, Any] = dict(help_texts(lang).get("words", {}))
    if not new:
        yield
        return
    from typer import rich_utils

    from koubai.messages.lines import Breaking

    new["highlighter"] = Breaking(rich_utils.highlighter)
    before = {name: getattr(rich_utils, name) for name in new if hasattr(rich_utils, name)}
    try:
        for name in before:
            setattr(rich_utils, name, new[name])
        yield
    finally:
        for name, word in before.items():
            setattr(rich_utils, name, word)


def run(app: typer.Typer, lang: str) -> None:
    """Run the commands, with their help in this language."""
    command = typer.main.get_command(app)
    translate(command, lang)
    with _typers_words(lang):
        command()
