"""Text in pictures: how wide it is, where its lines break, and which font has its characters."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text
from matplotlib.textpath import text_to_path

from koubai.errors import warn
from koubai.messages import counted as counted_text
from koubai.messages import language
from koubai.messages import text as message

__all__ = ["LINE", "counted", "find_fonts", "place_name", "said", "spoken", "status_name", "text_width", "wrap"]

LINE = 1.25  # the height of a line of text, in font sizes

# Fonts that have the characters of Japanese, or of other scripts, or koubai's own signs: those that systems bring along
# and people install. The first that has them all is taken.
FONTS = (
    "DejaVu Sans",
    *("IPAexGothic", "Noto Sans CJK JP", "Noto Sans JP", "Source Han Sans JP", "BIZ UDGothic", "Hiragino Sans"),
    *("Hiragino Maru Gothic Pro", "Yu Gothic", "Meiryo", "MS Gothic", "TakaoPGothic", "TakaoGothic", "IPAPGothic"),
    *("IPAGothic", "VL Gothic", "Droid Sans Fallback", "Noto Sans CJK KR", "Malgun Gothic", "Apple SD Gothic Neo"),
    *("Noto Sans CJK SC", "Microsoft YaHei", "PingFang SC", "WenQuanYi Zen Hei", "Arial Unicode MS"),
)
PACKAGES = (
    "matplotlib_fontja",
    "japanize_matplotlib",
)  # bring IPAexGothic as a file; both are looked into, not imported

CHARACTERS = {"ja": "あア勾"}  # that a font must have if labels are to be in the language

_IDEOGRAPHS = r"\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef"  # a line may break beside each of them
_PIECES = re.compile(rf"\s+|[{_IDEOGRAPHS}]|[^\s{_IDEOGRAPHS}]+")


def spoken() -> str:
    """Return the language of labels: that of `koubai.messages.language`, English if no font has its characters."""
    lang = language()
    return lang if all(any(_has([name], c) for name in _candidates()) for c in CHARACTERS.get(lang, "")) else "en"


def said(name: str, /, **values: Any) -> str:
    """Return a text of pictures from the catalogue."""
    return message(f"plot.{name}", spoken(), **values)


def counted(name: str, count: int, /, **values: Any) -> str:
    """Return a text of pictures with a number in it from the catalogue."""
    return counted_text(f"plot.{name}", spoken(), count, **values)


def status_name(name: str) -> str:
    """Return what a picture calls a way to end."""
    return message(f"status.{name}", spoken())


def place_name(signature: str) -> str:
    """Return what a picture calls a place where descents end."""
    return message(f"place.{signature}", spoken())


def text_width(text: str, font: FontProperties) -> float:
    """Return the width of one line of text in points."""
    return _width(text, font.get_size_in_points(), tuple(font.get_family()), str(font.get_weight()))


@lru_cache(4096)
def _width(text: str, size: float, family: tuple[str, ...], weight: str) -> float:
    missing = "" if text.isascii() else "".join(c for c in text if not c.isspace() and not _has(family, c))
    for character in missing:  # another font will have it, and it is as wide as it is high
        text = text.replace(character, "", 1)
    font = FontProperties(family=list(family), size=size, weight=weight)
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0]) + size * len(missing)


def wrap(text: str, width: float, font: FontProperties) -> list[str]:
    """Return the lines of ``text``, none of them wider than ``width`` points if it can be broken at all.

    It breaks between words and between the characters of scripts without spaces; a word that is too wide for a line
    breaks anywhere.
    """
    lines, line = [], ""
    for piece in _PIECES.findall(text):
        if text_width(line + piece.rstrip(), font) <= width or piece.isspace():
            line += piece
            continue
        if line.strip():
            lines.append(line.strip())
        line = piece
        while text_width(line, font) > width and len(line) > 1:
            fits = next((k for k in range(len(line) - 1, 1, -1) if text_width(line[:k], font) <= width), 1)
            lines.append(line[:fits])
            line = line[fits:]
    return [*lines, line.strip()] if line.strip() else lines


def find_fonts(texts: Iterable[Text], tell: bool = False) -> bool:
    """Give every text with characters that its font lacks further fonts that have them; return whether all were found.

    tell: warn, once for all of them, if no installed font has them, and say which package brings one.
    """
    lost: set[str] = set()
    for text in texts:
        said = text.get_text()
        if said.isascii():
            continue
        family = list(text.get_fontfamily())
        missing = {character for character in said if not character.isspace() and not _has(family, character)}
        if not missing:
            continue
        for name in _candidates():
            has = {character for character in missing if _has([name], character)}
            if has:
                family.append(name)
                missing -= has
            if not missing:
                break
        text.set_fontfamily(family)
        lost |= missing
    if lost and tell:
        warn(
            UserWarning(
                f"no font that matplotlib knows has {''.join(sorted(lost))}: the picture shows boxes there; "
                "pip install matplotlib-fontja, which brings a Japanese font"
            )
        )
    return not lost


def _has(family: Iterable[str], character: str) -> bool:
    """Return whether a font of these names is installed and has the character."""
    return any(_font_has(name, character, len(fontManager.ttflist)) for name in family)


@lru_cache(4096)
def _font_has(name: str, character: str, fonts: int) -> bool:
    """Tell it of one name; fonts: how many are installed, with which the answer may change."""
    try:
        path = findfont(FontProperties(family=[name]), fallback_to_default=False)
    except ValueError:
        return False
    return bool(get_font(path).get_char_index(ord(character)))


def _candidates() -> Iterable[str]:
    """Return the names of the fonts to try: the installed ones, then those that installed packages bring as files."""
    installed = {entry.name for entry in fontManager.ttflist}
    yield from (name for name in FONTS if name in installed)
    for package in PACKAGES:
        spec = find_spec(package)  # looks for it, and does not run it: it would change matplotlib's settings
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            for file in sorted((Path(folder) / "fonts").glob("*.[to]tf")):
                name = FontProperties(fname=str(file)).get_name()
                if name not in installed:
                    fontManager.addfont(str(file))
                yield name
