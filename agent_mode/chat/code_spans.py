"""What stands in code in a user's message, in linear time: nothing there is a command."""

from __future__ import annotations

import re
from collections.abc import Iterator

_BLOCK = re.compile(
    r"^ {0,3}(?P<fence>`{3,}(?=[^`\n]*$)|~{3,})[^\n]*(?:\n|\Z)"  # fenced block
    r"(?:.*?^ {0,3}(?P=fence)[`~]*[ \t]*$|.*\Z)"
    r"|(?:^(?: {4}|\t)[^\n]*(?:\n|\Z))++"  # indented code
    # A fence behind words, at the end of its line: up to the next one, wherever that stands.
    r"|^(?:[^`\n]++|`[^`\n]++`(?!`))++(?P<behind>`{3,})[^`\s]*[ \t]*\n(?:.*?(?P=behind)`*|.*\Z)",
    re.MULTILINE | re.DOTALL,
)
_TICKS = re.compile("`+")


class Code:
    """Tells what stands in code. Asked for ever later places; nothing behind them is looked at."""

    def __init__(self, text: str) -> None:
        self._text = text
        marked = any(mark in text for mark in ("```", "~~~", "    ", "\t"))
        self._blocks = _blocks(text) if marked else iter(())
        self._block = next(self._blocks, None)
        self._ticks = "`" in text
        self._line_ends = -1
        self._inline: Iterator[tuple[int, int]] = iter(())
        self._span: tuple[int, int] | None = None

    def holds(self, at: int) -> bool:
        """Whether the place is inside code."""
        while self._block and self._block[1] <= at:
            self._block = next(self._blocks, None)
        if self._block and self._block[0] <= at:
            return True
        if not self._ticks:
            return False
        if at > self._line_ends:
            begins = self._text.rfind("\n", 0, at) + 1
            if self._text.find("`", begins, at) < 0:
                return False
            ends = self._text.find("\n", at)
            self._line_ends = len(self._text) if ends < 0 else ends
            self._inline = iter(_inline_code(self._text, begins, self._line_ends))
            self._span = next(self._inline, None)
        while self._span and self._span[1] <= at:
            self._span = next(self._inline, None)
        return self._span is not None and self._span[0] <= at


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    for match in _BLOCK.finditer(text):
        yield match.start("behind" if match["behind"] else 0), match.end()


def _inline_code(text: str, begins: int, ends: int) -> list[tuple[int, int]]:
    """What stands between two equal rows of backticks on a line."""
    rows = [match.span() for match in _TICKS.finditer(text, begins, ends)]
    partner: list[int | None] = [None] * len(rows)
    nearest: dict[int, int] = {}
    for number in range(len(rows) - 1, -1, -1):
        length = rows[number][1] - rows[number][0]
        partner[number] = nearest.get(length)
        nearest[length] = number
    spans: list[tuple[int, int]] = []
    number = 0
    while number < len(rows):
        closing = partner[number]
        if closing is not None:
            spans.append((rows[number][0], rows[closing][1]))
            number = closing
        number += 1
    return spans
