"""The texts that koubai shows in two languages: looked up by name in one catalogue each, equal in names and places."""

from __future__ import annotations

import contextlib
import functools
import os
import tomllib
from collections.abc import Iterator
from contextvars import ContextVar
from importlib.resources import files
from typing import Any

from koubai.errors import InputError

__all__ = ["LANGUAGES", "catalogue", "counted", "language", "speaking", "text"]

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


@functools.cache
def catalogue(lang: str) -> dict[str, str]:
    """Return the texts of a language by name, as "remedy.lr"."""
    table = tomllib.loads(files(__name__).joinpath(f"{lang}.toml").read_text(encoding="utf-8"))
    return {f"{group}.{name}": text for group, texts in table.items() for name, text in texts.items()}


def text(name: str, lang: str, /, **values: Any) -> str:
    """Return a text with these values in their places."""
    return catalogue(lang)[name].format(**values)


def counted(name: str, lang: str, /, count: int, **values: Any) -> str:
    """Return a text with a number in it: "name.one" is that for one, "name" that for all others."""
    return text(f"{name}.one" if count == 1 else name, lang, count=count, **values)
