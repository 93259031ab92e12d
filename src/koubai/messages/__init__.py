"""The texts that koubai shows in two languages: looked up by name in one catalogue each, equal in names and places.

What is raised or noted deep inside (why a descent stopped, why a text can't be parsed) is English and stands where it
is `worded`; its translation is in a table a language, worded.ja.toml, by the English text. Whoever shows it has it
`told` in the language of those who read: an exception's own text and `Run.message` are English wherever they are.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from koubai.errors import InputError

__all__ = [
    "LANGUAGES",
    "Worded",
    "catalogue",
    "counted",
    "language",
    "reason",
    "refused",
    "speaking",
    "table",
    "text",
    "told",
    "translations",
    "worded",
]

LANGUAGES = ("en", "ja")

_spoken: ContextVar[str | None] = ContextVar("koubai.messages", default=None)


def language(lang: str | None = None) -> str:
    """Return ``lang``, or the one that is spoken, or the locale's; English if koubai doesn't speak that.

    Raises InputError for a language that was asked for and that there is no catalogue of.
    """
    if lang is None:
        if (spoken := _spoken.get()) is not None:
            return spoken
        for name in ("LC_ALL", "LC_MESSAGES", "LANG"):  # as gettext asks
            if found := os.environ.get(name):
                return found[:2] if found[:2] in LANGUAGES else LANGUAGES[0]
        return LANGUAGES[0]
    if lang not in LANGUAGES:
        raise InputError(
            f"lang must be one of {', '.join(map(repr, LANGUAGES))}, or None for the locale's; got {lang!r}"
        )
    return lang


@contextlib.contextmanager
def speaking(lang: str | None) -> Iterator[str]:
    """Speak ``lang`` inside the with statement, wherever no language is asked for; None is the locale's.

    Raises InputError for a language that there is no catalogue of.
    """
    before = _spoken.set(None if lang is None else language(lang))
    try:
        yield language()
    finally:
        _spoken.reset(before)


def table(name: str) -> dict[str, Any]:
    """Return the entries of a file of this room, by table."""
    import tomllib  # not at the top: a descent in English needs neither
    from importlib.resources import files

    return tomllib.loads(files(__name__).joinpath(name).read_text(encoding="utf-8"))


@functools.cache
def catalogue(lang: str) -> dict[str, str]:
    """Return the texts of a language by name, as "remedy.lr"."""
    groups = table(f"{lang}.toml")
    return {f"{group}.{name}": text for group, texts in groups.items() for name, text in texts.items()}


def text(name: str, lang: str, /, **values: Any) -> str:
    """Return a text with these values in their places."""
    return catalogue(lang)[name].format(**values)


def counted(name: str, lang: str, /, count: int, **values: Any) -> str:
    """Return a text with a number in it: "name.one" is that for one, "name" that for all others."""
    return text(f"{name}.one" if count == 1 else name, lang, count=count, **values)


class Worded(str):
    """An English sentence that knows what it was made of: a template, and the values in its places."""

    template: str
    values: dict[str, Any]


def worded(template: str, /, **values: Any) -> Worded:
    """Return a sentence with these values in its places; they may be sentences, too."""
    made = Worded(template.format(**values))
    made.template, made.values = template, values
    return made


def refused(template: str, /, **values: Any) -> InputError:
    """Return the error with the sentence that `worded` makes of this."""
    return InputError(worded(template, **values))


@functools.cache
def translations(lang: str) -> dict[str, str]:
    """Return the sentences of a language by their English templates."""
    return {en: own for group in table(f"worded.{lang}.toml").values() for en, own in group.items()}


def told(sentence: object, lang: str | None = None) -> str:
    """Return a sentence that was `worded`, or what an exception says, in ``lang`` or the language that is spoken.

    Of what has no translation it is the English text.
    """
    if isinstance(sentence, BaseException):
        sentence = sentence.args[0] if sentence.args and str(sentence) == sentence.args[0] else str(sentence)
    lang = language(lang)
    if lang == LANGUAGES[0] or not isinstance(sentence, Worded):
        return str(sentence)
    template = translations(lang).get(sentence.template)
    if template is None:
        return str(sentence)
    own = {name: told(value, lang) if isinstance(value, Worded) else value for name, value in sentence.values.items()}
    return template.format(**own)


def reason(status: str, message: str, lang: str | None = None) -> str:
    """Return why a descent stopped: its message, or in a language that it isn't in what the status means."""
    lang = language(lang)
    if lang == LANGUAGES[0] or isinstance(message, Worded):
        return told(message, lang)
    return text(f"meaning.{status}", lang)
