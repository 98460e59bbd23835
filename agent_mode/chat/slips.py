"""What we say to a command that is nearly right.

Where a command must stand, at the very start, nothing is sent to the model then. Further down the word may
well be what the message is about, so it stays text, and a line above the answer asks.
"""

from __future__ import annotations

import difflib
import re
from functools import lru_cache
from typing import Any

from agent_mode.chat.commands import AGENT_WORDS, RESET_WORDS, Grammar
from agent_mode.chat.console import help_text
from agent_mode.chat.parsed import Parsed, Slip

SUGGESTION_CUTOFF = 0.72
"""How alike (0 to 1, difflib's ratio) an unknown word must be to a key to be taken for a typing error."""
NOTHING_SENT = "Nothing was sent to the model."
_BEGINS = "I don't know "

_BIND = re.compile(r"persona(\d*)", re.IGNORECASE | re.ASCII)


def answer(said: Parsed, grammar: Grammar) -> str | None:
    """The answer to a message with a typing error; None where it may well be what it says."""
    answers = (_answer(slip, grammar) for slip in said.slips)
    return next((words for words in answers if words), None)


def hint(said: Parsed, grammar: Grammar) -> str | None:
    """A line about a word of a sequence that was left as text and is nearly a command; None without one."""
    called = {command.key for command in said.commands}
    for slip in said.slips:
        meant = _nearly(slip, grammar) if slip.where in ("later", "assigning") else None
        if meant and meant not in called:
            typed = " ".join([slip.word, _first_word(slip.rest)] if " " in meant else [slip.word])
            return f"{grammar.prefix}{typed} was sent as text: did you mean {grammar.prefix}{meant}?"
    return None


def is_answer(content: Any) -> bool:
    """Whether an assistant's message is such an answer of ours."""
    return isinstance(content, str) and content.startswith(_BEGINS) and NOTHING_SENT in content


def suggest(word: str, grammar: Grammar) -> str | None:
    """The word that an unknown one was probably meant to be: a key open to the user, or one of ours."""
    return closest(word, grammar.offered | {"agent", "multi"} | RESET_WORDS)


@lru_cache(maxsize=256)  # a turn asks twice: what might be meant, and whether it is open to the user
def closest(word: str, known: frozenset[str]) -> str | None:
    """The known word that this one was probably meant to be, or None."""
    close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=SUGGESTION_CUTOFF)
    return close[0] if close else None


def did_you_mean(word: str, meant: str, prefix: str) -> str:
    """The answer to `!codr`."""
    return (
        f"{_BEGINS}`{prefix}{word}` — did you mean `{prefix}{meant}`? "
        f"{NOTHING_SENT} `{prefix}agent list` shows everyone; "
        f"write `\\{prefix}{word}` if you meant the word itself."
    )


def _answer(slip: Slip, grammar: Grammar) -> str | None:
    prefix = grammar.prefix
    if slip.where == "apart":
        key = grammar.lookup(slip.word)
        return did_you_mean(f" {slip.word}", key, prefix) if key in grammar.offered else None
    word = grammar.folded(slip.word)
    number = _BIND.fullmatch(word)
    if slip.where == "later" or (slip.where == "assigning" and number is None):
        return None
    if word == "agent":
        return _agent(slip, grammar)
    if number is not None:
        return _bind(slip, number[1], grammar)
    meant = suggest(slip.word, grammar)
    return did_you_mean(slip.word, meant, prefix) if meant else None


def _nearly(slip: Slip, grammar: Grammar) -> str | None:
    """What a word of a sequence may have been meant to be."""
    word = grammar.folded(slip.word)
    if word == "agent":
        name = _first_word(slip.rest).lower()
        meant = None if name in AGENT_WORDS else closest(name, AGENT_WORDS)
        return f"agent {meant}" if meant else None
    return None if _BIND.fullmatch(word) else suggest(slip.word, grammar)


def _agent(slip: Slip, grammar: Grammar) -> str:
    """`!agent lst`."""
    prefix, name = grammar.prefix, _first_word(slip.rest)
    if name.lower() in AGENT_WORDS:
        wrong, meant = _code(slip.rest), f"{prefix}agent {name.lower()}"
    else:
        wrong, word = name, closest(name, AGENT_WORDS)
        key = grammar.lookup(name)
        meant = f"{prefix}agent {word}" if word else f"{prefix}{key}" if key in grammar.offered else ""
    question = f" — did you mean `{meant}`?" if meant else "."
    return f"{_BEGINS}`{prefix}agent {wrong}`{question} {NOTHING_SENT}\n\n{help_text(prefix)}"


def _bind(slip: Slip, number: str, grammar: Grammar) -> str:
    """`!persona`, `!persona10 coder`, `!persona1`, `!persona1 foo`."""
    prefix, typed = grammar.prefix, f"{grammar.prefix}{slip.word}"
    if not re.fullmatch(r"[1-9]", number):
        return (
            f"{_BEGINS}`{typed}`: a model of the chat has a number from 1 to 9, as in "
            f"`{prefix}persona1 coder`. {NOTHING_SENT}"
        )
    name = _first_word(slip.rest.removeprefix(prefix))
    if not name:
        return f"{_BEGINS}whom `{typed}` is to be: write `{typed} coder`. {NOTHING_SENT}"
    meant = closest(name, grammar.offered)
    question = f" — did you mean `{typed} {meant}`?" if meant else "."
    return f"{_BEGINS}`{name}`{question} {NOTHING_SENT} `{prefix}agent list` shows everyone."


def _first_word(text: str) -> str:
    word = _code(text).partition(" ")[0]
    return word.strip("!?.;:,") or word


def _code(text: str) -> str:
    """The text as it can stand in code: one short line without a backtick."""
    return " ".join(text.replace("`", "'").split())[:40]
