"""Keeps the text of a persona from posing as something else: as our marks, or as a model's role tokens."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

NAME_CHARS = 80
NAMELESS = "assistant"

_INVISIBLE = "\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"
_OUR_TAGS = (
    "agent_mode|agent_switch|agent_instructions|base_instructions|new_identity|previous_agent|system_reset"
)
_WORDS = "system|developer|user|assistant|tool|end|endoftext"

# Only the first character of a forged token is matched; the rest is looked at. So neighbours cannot hide
# one another, and what is already changed is never changed again. The possessive `*+` stays linear: what it
# runs over holds no other `<`.
_FORGED = re.compile(
    rf"<(?=[\s/{_INVISIBLE}]*+(?i:{_OUR_TAGS}))"
    # <|im_start|>, <|start_header_id|>, <｜User｜>; with inner spaces only what is no F# pipe
    rf"|<(?=[|｜](?:[^\s<>‹|｜]{{1,64}}|\s{{0,8}}(?:\w{{0,32}}[_▁]\w{{0,32}}|(?i:{_WORDS}))\s{{0,8}})[|｜]>)"
    # Gemma 4 has lopsided ones: <|turn>, <turn|>
    r"|<(?=\|[a-z_]{1,32}>|[a-z_]{1,32}\|>)"
    r"|<(?=</?SYS>>)"
    r"|<(?=/?s>|/?(?:start|end)_of_(?:turn|image)>|(?:bos|eos)>)"
    r"|\[(?=\s{0,8}/?\s{0,8}(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\s{0,8}\])"
)
_HARMLESS = {"<": "‹", "[": "⟦"}

_ALL_OF = r"(?:(?:all|any|every|everything|the|your|my|of|these|those) ){0,4}"
_OVERRIDES = re.compile(
    r"system[ _-]{0,2}reset"
    r"|(?:(?:ignore|disregard|override) |forget (?=all|every))"
    rf"{_ALL_OF}(?:previous|prior|earlier|preceding|above)\b"
    r"|(?:ignore|disregard|override) (?:[^ .!?;:]{1,40} ){0,4}?instructions?\b",
    re.IGNORECASE,
)
_UNSEEN = re.compile(f"[{_INVISIBLE}]+")


def clean_name(name: str) -> str:
    """A display name that fits on one line of a prompt.

    Args:
        name: as a person typed it.

    Returns:
        at most 80 characters without `<>{}`, control, zero-width and direction characters; "assistant" if
        nothing is left.
    """
    line = " ".join(name.split())
    kept = "".join(c for c in line if c not in "<>{}" and unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    short = " ".join(kept.split())[:NAME_CHARS].rstrip()
    return clean_instructions(short) or NAMELESS


def clean_instructions(text: str) -> str:
    """Persona text that cannot close our tags or open a role of the model.

    `<` and `[` at the start of a forged token become `‹` and `⟦`: it stays readable, no word is lost, and
    ordinary code is left alone. Cleaning twice changes nothing more.

    Args:
        text: the instructions as stored.
    """
    if "<" not in text and "[" not in text:
        return text
    return _FORGED.sub(lambda match: _HARMLESS[match[0]], text)


def unclosable(text: str, *names: str) -> str:
    """Text that stands between tags of ours and can neither end nor begin one of them.

    `<` becomes `‹` where one of the tags is opened or closed, in whatever case and with whatever white space
    or invisible characters; a longer name (`<Answers>`, `<Context.Provider>`) is another tag.

    Args:
        text: whatever is quoted.
        names: of the tags that stand around it, in lower case.
    """
    return _tags(names).sub("‹", text) if "<" in text else text


@lru_cache(maxsize=32)
def _tags(names: tuple[str, ...]) -> re.Pattern[str]:
    gap = f"[{_INVISIBLE}]*+"
    spelled = "|".join(gap.join(map(re.escape, name)) for name in names)
    return re.compile(rf"<(?=[\s/{_INVISIBLE}]*+(?i:{spelled})(?![\w.:-]))")


def override_phrases(text: str) -> list[str]:
    """Phrases that order a model to drop its instructions, such as "ignore all previous".

    They are noise in a good prompt and a sign of a bad one: tell the admin, but do not take them for all.

    Args:
        text: the instructions as stored.

    Returns:
        each phrase once, in order, in lower case and with single spaces.
    """
    plain = " ".join(_UNSEEN.sub("", text).split())
    return list(dict.fromkeys(match[0].lower() for match in _OVERRIDES.finditer(plain)))
