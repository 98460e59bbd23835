"""Which persona a question clearly belongs to, judged by its words alone: no LLM, a millisecond at most.

Words of a persona's key, name and tags count most, those of its capabilities less, those of its description
least; a word that many personas share says little. Only a clear lead is worth a line to the user.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import lru_cache

from agent_mode.store.personas import Persona

QUESTION_LIMIT = 600
"""So many first characters of a question are looked at: of a pasted text, what it is about."""
ENOUGH = 4.0
"""What the words must weigh together."""
LEAD = 1.4
"""How many times the runner-up's weight the best one needs."""
OWN_LEAD = 2.0
"""The same, towards the one who answers."""
COMMON = 0.15
"""Words that a larger share of the personas has are not counted."""

_NAMED, _TAGGED, _ABLE, _DESCRIBED = 4.0, 3.0, 2.0, 1.0
_WORD = re.compile(r"[^\W\d_]{2,}")
_ENDINGS = (("ies", "y"), ("ing", ""), ("ed", ""), ("es", ""), ("s", ""), ("e", ""))
_FILLERS = frozenset(
    _WORD.findall("""
    am an as at be by do go he if in is it me my no of on or so to up us we about after all also and
    any are ask because been before between both but can could did does each every few first for
    from get give good had has have help her here his how into its just know like make many may more
    most much need new not now one only other our out over own please same should some such tell
    than that the their them then there these they this those time under use very want was way well
    were what when where which while who why will with without work would write written writes you
    your
    """)
)
_TIP_BEGINS = "> 💡 Tip: `"
_TIP_ENDS = "` knows more about this."
_TIP = re.compile(f"^{re.escape(_TIP_BEGINS)}[^`\\n]{{1,80}}{re.escape(_TIP_ENDS)}$", re.MULTILINE)


def tip(key: str, prefix: str) -> str:
    """The line that offers a persona."""
    return f"\n\n{_TIP_BEGINS}{prefix}{key}{_TIP_ENDS}"


def without_tip(text: str) -> str:
    """A text without our line: no model said that, and none is to see it.

    It stands at the end of an answer, further up in one that went on, and in the prompts of background tasks.
    """
    if _TIP_ENDS not in text:
        return text
    kept, at = "", 0
    for line in _TIP.finditer(text):
        kept, at = (kept + text[at : line.start()]).rstrip(), line.end()
    return kept + text[at:].rstrip() if at else text


def better_suited(question: str, personas: Iterable[Persona], current: str) -> Persona | None:
    """The persona that the question clearly belongs to, if that is not the one who answers.

    Args:
        question: what the user wrote.
        personas: everyone who can be called.
        current: key of who answers.

    Returns:
        None unless at least two words of the question speak for one persona, one of them in its name or
        tags, with a clear lead over all others.
    """
    everyone = tuple(personas)
    index = _index(everyone)
    scores: dict[str, float] = {}
    words: dict[str, int] = {}
    known: set[str] = set()
    for word in _stems(question[:QUESTION_LIMIT]):
        for key, weight, named in index.get(word, ()):
            scores[key] = scores.get(key, 0.0) + weight
            words[key] = words.get(key, 0) + 1
            if named:
                known.add(key)
    best, *others = sorted(scores, key=lambda key: -scores[key])[:3] or [current]
    if best == current or scores[best] < ENOUGH or words[best] < 2 or best not in known:
        return None
    rest = max((scores[key] for key in others if key != current), default=0.0)
    if scores[best] < LEAD * rest or scores[best] < OWN_LEAD * scores.get(current, 0.0):
        return None
    return next(persona for persona in everyone if persona.key == best)


@lru_cache(maxsize=8)
def _index(personas: tuple[Persona, ...]) -> dict[str, list[tuple[str, float, bool]]]:
    """For each word, whom it speaks for: key, weight, and whether it is in the name or tags."""
    found: dict[str, dict[str, float]] = {}
    for persona in personas:
        parts = (
            (_DESCRIBED, persona.description),
            (_ABLE, " ".join(persona.capabilities)),
            (_TAGGED, " ".join(persona.tags)),
            (_NAMED, f"{persona.key} {persona.name}"),
        )
        for weight, text in parts:  # the heaviest last
            for word in _stems(text):
                found.setdefault(word, {})[persona.key] = weight
    limit = max(2.0, COMMON * len(personas))
    return {
        word: [
            (key, weight * _rarity(len(owners), len(personas)), weight >= _TAGGED)
            for key, weight in owners.items()
        ]
        for word, owners in found.items()
        if len(owners) <= limit
    }


def _rarity(owners: int, everyone: int) -> float:
    """1 for a word that one persona has, less for each more."""
    return math.log(1 + everyone / owners) / math.log(1 + everyone)


def _stems(text: str) -> set[str]:
    """The words that mean something, without endings: `queries` and `query` are one."""
    return {_stem(word) for word in _WORD.findall(text.lower()) if word not in _FILLERS}


def _stem(word: str) -> str:
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            return word[: len(word) - len(ending)] + instead
    return word
