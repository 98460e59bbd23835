"""The files that Open WebUI names in front of a user's words: `<attached_files>…</attached_files>`.

They are no words of the user: no command is looked for there, and one behind them begins the message.
"""

from __future__ import annotations

import re

_OPENS = "<attached_files>\n"
# Two line breaks; one more where the files are a part of their own, as with an image.
_FILES = re.compile(rf"{_OPENS}(?:<file [^\n]*/>\n)++</attached_files>\n{{2,3}}")


def split_files(text: str) -> tuple[str, str]:
    """A message's text as the files in front of it, which may be none, and the user's own words."""
    if not text.startswith(_OPENS):
        return "", text
    files = _FILES.match(text)
    return (files[0], text[files.end() :]) if files else ("", text)
