"""Markdown as Open WebUI renders it: names that stay names, and code blocks that end."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"[\\`*_<>|~$]|(?<=\])\(")
"""A bracket is left alone, and what would make a link of it taken away: Open WebUI takes `\\[…\\]` for a
formula, begins a line at a lone `\\[`, and shows entities as they are written."""
_FENCE = re.compile(r"(?P<indent> {0,3})(?P<fence>`{3,}(?=[^`]*$)|~{3,})(?P<info>.*)")


def escaped(text: str) -> str:
    """Somebody's words as text of Markdown: one line, no table border, no markup of its own."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))


def closing_fence(text: str) -> str:
    """The line that ends the code block in which the text breaks off; empty if it does not."""
    opening: re.Match[str] | None = None
    for line in text.split("\n"):
        found = _FENCE.fullmatch(line.rstrip())
        if found is None:
            continue
        if opening is None:
            opening = found
        elif not found["info"] and found["fence"].startswith(opening["fence"]):
            opening = None
    # As far to the right as it began: one of a list would leave the list, and begin another block.
    return f"{opening['indent']}{opening['fence']}" if opening is not None else ""
