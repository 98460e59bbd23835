"""Markdown as Open WebUI renders it: names that stay names, and code blocks that end."""

from __future__ import annotations

import re

_ENTITIES = {"[": "&#91;", "]": "&#93;", "$": "&#36;"}
"""Behind a backslash, Open WebUI takes these for the begin and end of a formula."""
_SPECIAL = re.compile(r"[\\`*_<>|~\[\]$]|&(?=#?\w+;)")
_FENCE = re.compile(r"(?P<indent> {0,3})(?P<fence>`{3,}(?=[^`]*$)|~{3,})(?P<info>.*)")


def escaped(text: str) -> str:
    """Somebody's words as text of Markdown: one line, no table border, no markup of its own."""
    return _SPECIAL.sub(_as_text, " ".join(text.split()))


def _as_text(found: re.Match[str]) -> str:
    char = found[0]
    return "&amp;" if char == "&" else _ENTITIES.get(char, f"\\{char}")


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
