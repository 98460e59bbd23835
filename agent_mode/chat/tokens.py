"""What finds the words behind a prefix in a text, in linear time."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

WORD_ENDS = r"(?:[:,](?=\s|\Z)|(?=\s|\Z))"
_FIRST_ENDS = r"(?:[!?.;:,]{1,3}(?=\s|\Z)|[，：、。！？；]|(?=\s|\Z))"
_UNSEEN = "\u200b-\u200f\u2060\ufeff"
"""Characters of no width, among them the byte order mark; what is copied from a page may begin with them."""
_INDENT = re.compile(rf"[{_UNSEEN}]* {{0,3}}[{_UNSEEN}]*")


class Tokens(NamedTuple):
    """What finds them at the start of the text, of a line, and behind any white space.

    `apart` finds one at the start of the text with a blank before it. `\n` in front instead of `^` lets the
    search jump from line to line.
    """

    first: re.Pattern[str]
    of_line: re.Pattern[str]
    anywhere: re.Pattern[str]
    apart: re.Pattern[str]


@lru_cache(maxsize=32)
def tokens_of(prefix: str) -> Tokens:
    """The patterns for a prefix, each with the groups `escape` and `word`."""
    mark = "[!！]" if prefix == "!" else re.escape(prefix)
    word = r"(?P<word>[^\W_][\w-]{0,63}+)"
    begins = rf"[\s{_UNSEEN}]*+(?P<escape>\\?){mark}"
    behind = rf"(?P<escape>\\?){mark}{word}{WORD_ENDS}"
    return Tokens(
        re.compile(f"{begins}{word}{_FIRST_ENDS}"),
        re.compile(rf"\n {{0,3}}{behind}"),
        re.compile(rf"\s{behind}"),
        re.compile(rf"{begins}[ \t]{{1,3}}{word}{_FIRST_ENDS}"),
    )


def marks_of(prefix: str) -> tuple[str, ...]:
    """What is read as the prefix: `！` of an Asian keyboard is `!`."""
    return ("!", "！") if prefix == "!" else (prefix,)


def mentions(text: str, prefix: str) -> bool:
    """Whether the prefix is in the text at all."""
    return prefix in text or (prefix == "!" and "！" in text)


def begins_line(text: str, at: int) -> bool:
    """Whether nothing but up to three spaces, or what nobody sees, is before the place on its line."""
    return at == 0 or _INDENT.fullmatch(text, text.rfind("\n", 0, at) + 1, at) is not None
