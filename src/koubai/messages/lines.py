"""Lines of scripts without spaces in the terminal, which Rich would cut off: they break between any two characters."""

from __future__ import annotations

import re
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.containers import Lines
from rich.highlighter import Highlighter
from rich.measure import Measurement
from rich.text import Text

__all__ = ["Breaking", "breaks"]

_WIDE = "\u2e80-\u9fff\uff00-\uffef"
_OPENING, _CLOSING = "（「『", "、。）」』ー々っゃゅょァィゥェォッャュョ"
# what stays in one line: a character or a word, with brackets before it, and stops and small letters behind it
_PIECES = re.compile(rf"\s+|[{_OPENING}]*(?:[{_WIDE}]|[^\s{_WIDE}]+)?[{_CLOSING}]*\s*")


class Breaking(Highlighter):
    """Highlights as another does, and gives texts that also break between characters of scripts without spaces."""

    def __init__(self, other: Highlighter) -> None:
        self.other = other

    def highlight(self, text: Text) -> None:
        self.other.highlight(text)

    def __call__(self, text: str | Text) -> Text:
        made = super().__call__(text)
        return _BreakingText(made.plain, made.style, end=made.end, spans=made.spans)


class _BreakingText(Text):
    """A text that Rich alone would cut off: it takes what is between two spaces for a word."""

    def wrap(self, console: Console, width: int, **how: Any) -> Lines:
        lines = Lines()
        for line in self.split(allow_blank=True):
            broken = line.divide(breaks(line.plain, width))
            for part in broken:
                part.rstrip_end(width)
            lines.extend(broken)
        return lines

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        widest = max((cell_len(line) for line in self.plain.splitlines()), default=0)
        return Measurement(min(widest, 12), widest)


def breaks(line: str, width: int) -> list[int]:
    """Return where a line breaks if no part is to be wider than so many cells; a longer word breaks anywhere."""
    places, used, at = [], 0, 0
    for piece in filter(None, _PIECES.findall(line)):
        wide = cell_len(piece.rstrip())
        if used + wide > width and used:
            places.append(at)
            used = 0
        while wide > width and len(piece) > 1:
            count = next(k for k in range(len(piece) - 1, 0, -1) if cell_len(piece[:k]) <= width or k == 1)
            at += count
            places.append(at)
            piece = piece[count:]
            wide = cell_len(piece.rstrip())
        used += cell_len(piece)
        at += len(piece)
    return places
