"""The emoji at the start of a name."""

from __future__ import annotations

import re

_PICTURE = (
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u27bf\u2934\u2935"
    "\u2b05-\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
)
_STYLED = f"{_PICTURE}[\ufe0f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]*"
_LEADING = re.compile(rf"(?:[\U0001f1e6-\U0001f1ff]{{2}}|[0-9#*]\ufe0f?\u20e3|{_STYLED}(?:\u200d{_STYLED})*)")
_LENGTH = 16


def split_emoji(name: str) -> tuple[str, str]:
    """The emoji that a name begins with, and the rest: "💻 Coder" is ("💻", "Coder").

    The emoji is "" if there is none, or if nothing else is left of the name.
    """
    match = _LEADING.match(name)
    if match is None or len(match[0]) > _LENGTH:
        return "", name
    rest = name[match.end() :].strip()
    return (match[0], rest) if rest else ("", name)
