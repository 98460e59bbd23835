"""Takes secrets out of what others say: texts of exceptions hold whole addresses, and keys in them."""

from __future__ import annotations

import re

GONE = "[secret]"
_READ = 10_000
"""How much of a text is looked at, in characters: what is shown is a line."""

# Each begins where a run of its characters begins, or is bounded, so that the time grows with the text alone.
_ADDRESS = re.compile(r"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]{0,30}://[^\s\"'<>`|]+", re.IGNORECASE)
_QUERY = re.compile(r"[?#](?=[\w.~%\[\]-]{1,80}=)[^\s\"'<>`|)]*")
_SCHEME = re.compile(
    r"\b(bearer|basic|digest)\s{1,3}(?!(?:auth\w*|tokens?|realm|schemes?|keys?)\b|\[secret\])[^\s\"',;)]+",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"""
    ( (?: api[-_\s]?key | (?:access|secret|private|signing|encryption)[-_]?key | [-_]key
        | \bkey (?=["']?\s{0,3}=) | token | secret | passw(?:or)?d | passwd | passphrase | \bpwd
        | authorization | credentials? | cookie | signature | session(?:[-_]?id)? )
      ["']? \s{0,3} [:=] \s{0,3} )
    (?: \[(?:secret|key)\]
      | (?: b (?=["']) )? (?P<quote>["']) [^"'\n]* (?P=quote)?
      | (?: (?:bearer|basic|digest|token)\s{1,3} )? [^\s"',;&)}\]]+ )
    """,
    re.IGNORECASE | re.VERBOSE,
)
_LOOKS_SO = re.compile(
    r"""
    (?<![\w-])
    (?: (?: sk | rk | whsec | gh[opsu] | github_pat | glpat | hf | xox[abeprs] ) [-_] [\w-]{8,}
      | AKIA[0-9A-Z]{12,} | AIza[\w-]{30,} | eyJ[\w-]{8,} (?: \.[\w-]+ ){1,4} )
    """,
    re.VERBOSE,
)


def without_secrets(text: str) -> str:
    """The text without what may be a secret in it.

    Addresses lose user, password, query and fragment. Values of names such as `api_key`, `token` and
    `Authorization`, what follows `Bearer`, and what looks like a key become `[secret]`. What a secret looks
    like is guessed: too much may go, and a secret without a name or a known form stays.
    """
    text = _ADDRESS.sub(_address, text)
    text = _QUERY.sub(lambda found: f"{found[0][0]}…", text)
    text = _NAMED.sub(lambda found: f"{found[1]}{GONE}", text)
    text = _SCHEME.sub(lambda found: f"{found[1]} {GONE}", text)
    return _LOOKS_SO.sub(GONE, text)


def said(error: BaseException, limit: int = 300) -> str:
    """What a foreign exception says, in one line that may be shown and logged.

    Args:
        error: of code that is not ours: its text may hold anything, and having it may fail.
        limit: the longest line in characters.
    """
    try:
        text = str(error)[:_READ]
    except Exception:  # noqa: BLE001  an agent's own exception may be broken in any way
        return ""
    return without_secrets(" ".join(text.split()))[:limit]


def _address(found: re.Match[str]) -> str:
    scheme, _, rest = found[0].partition("://")
    end = re.search(r"[?#]", rest)
    rest, cut = (rest[: end.start()], rest[end.start()]) if end else (rest, "")
    place, slash, path = rest.partition("/")
    if "@" in place:
        place = place.rpartition("@")[2]
    elif ":" in place and "@" in path and not place.rpartition(":")[2].isdigit():  # a password with a slash
        place, slash, path = path.rpartition("@")[2].partition("/")
    return f"{scheme}://{place}{slash}{path}{cut and f'{cut}…'}"
