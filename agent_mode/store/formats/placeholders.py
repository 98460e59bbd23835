"""The placeholders of character cards."""

from __future__ import annotations

import re

_PLACEHOLDER = re.compile(r"\{\{\s*(char|user|original)\s*\}\}|<(bot|char|user)>", re.IGNORECASE)
_USER = "the user"


def fill(text: str, name: str) -> str:
    """The text with `{{char}}` as the name and `{{user}}` as "the user"; `{{original}}` says nothing here."""

    def word(match: re.Match[str]) -> str:
        kind = (match[1] or match[2]).lower()
        return {"user": _USER, "original": ""}.get(kind, name)

    return _PLACEHOLDER.sub(word, text)
