"""Finding `<opening> … <closing>` in text that anybody may have written, in linear time.

A lazy `.*?` between the two is quadratic when the closing is missing, and one message could stop the server.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_SPACE = re.compile(r"\s*")


def enclosed(
    text: str, opening: re.Pattern[str], closing: Callable[[re.Match[str]], str]
) -> Iterator[tuple[re.Match[str], int, int]]:
    """Every opening that has its closing.

    Args:
        text: any text.
        opening: pattern without unbounded repetition.
        closing: the closing that belongs to an opening.

    Yields:
        the opening's match, and where the closing begins and ends.
    """
    missing: set[str] = set()
    at = 0
    while match := opening.search(text, at):
        at = match.end()
        close = closing(match)
        begin = -1 if close in missing else text.find(close, at)
        if begin < 0:
            missing.add(close)  # none ahead, so none for any later opening either
            continue
        at = begin + len(close)
        yield match, begin, at


def without(text: str, spans: list[tuple[int, int]]) -> str:
    """The text without the spans, which are in order and do not overlap."""
    kept: list[str] = []
    at = 0
    for begin, end in spans:
        kept.append(text[at:begin])
        at = end
    return "".join(kept) + text[at:]


def skip_space(text: str, at: int) -> int:
    """The place of the next character that is no white space."""
    space = _SPACE.match(text, at)
    return space.end() if space else at
