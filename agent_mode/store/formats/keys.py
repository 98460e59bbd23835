"""Keys for personas that come without one."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from agent_mode.store.forms import RESERVED_KEYS

_LENGTH = 32
_KEY = re.compile(r"[a-z][a-z0-9_-]{1,31}")
_OTHER = re.compile(r"[^a-z0-9_-]+")
_SPELLED = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"}
)


def slug(text: str) -> str:
    """The text as a key: "💻 Code Assistant" becomes `code-assistant`; "" if no letter of it fits."""
    if _KEY.fullmatch(text):
        return text
    # Beyond this nothing can matter, and a hostile name may be megabytes long.
    plain = unicodedata.normalize("NFKD", text[:400]).lower().translate(_SPELLED)
    plain = "".join(character for character in plain if not unicodedata.combining(character))
    key = _OTHER.sub("-", plain).strip("-_")
    if key[:1].isdigit():
        key = f"persona-{key}"
    key = key[:_LENGTH].rstrip("-_")
    return key if len(key) > 1 else ""


class Keys:
    """Hands out the keys of one file: each once, and none that is reserved."""

    def __init__(self) -> None:
        self._taken = set(RESERVED_KEYS)
        self._last: dict[str, int] = {}

    def take(self, *sources: str) -> str:
        """A free key from the first source that yields one; `-2`, `-3` … where it is taken.

        If none does (a name in Chinese, say) the key is made of a hash, so that the same name gets the same
        key from every file.
        """
        found = next(filter(None, map(slug, sources)), "")
        base = found or f"persona-{hashlib.sha256(_identity(sources)).hexdigest()[:8]}"
        key, number = base, self._last.get(base, 1)
        while key in self._taken:
            number += 1
            suffix = f"-{number}"
            key = base[: _LENGTH - len(suffix)].rstrip("-_") + suffix
        self._last[base] = number
        self._taken.add(key)
        return key


def _identity(sources: tuple[str, ...]) -> bytes:
    return next(filter(None, sources), "").encode(errors="replace")
