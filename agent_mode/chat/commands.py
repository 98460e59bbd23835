"""The `!commands` of a user's message: a pure parser.

A message or a line must *begin* with a known command; only when the message itself begins with one do
further known keys after white space count too (a sequence). Nothing inside code or a link is a command,
an unknown `!word` is left alone, and a backslash before the prefix takes the meaning away.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Set
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from agent_mode.chat.code_spans import Code

Kind = Literal["persona", "reset", "bind", "multi", "help", "list", "settings", "history", "rollback"]

CONSOLE_KINDS = frozenset({"help", "list", "settings", "history", "rollback"})
"""What is answered by us alone."""

RESET_WORDS = frozenset({"reset", "default", "normal"})
SCAN_LIMIT = 20_000
"""Commands are looked for in so many first characters of a message; what follows is text. The limit keeps
the worst message that a user can paste from costing more than milliseconds."""
COMMAND_LIMIT = 50
"""So many commands of a message count, those that are escaped or in code included; what follows is text."""

SUGGESTION_CUTOFF = 0.72
"""How alike (0 to 1, difflib's ratio) an unknown word must be to a key to be taken for a typing error."""

_BLANKS = re.compile(r"[ \t]*")
_AGENT_WORD = re.compile(
    r"(?:(?:list|help)?|(?:settings|history|rollback)(?:[^\S\n][^\n]*)?)[^\S\n]*(?=\n|\Z)", re.IGNORECASE
)
_BIND_WORD = re.compile(r"persona([1-9])", re.IGNORECASE)
_WORD_ENDS = r"(?:[:,](?=\s|\Z)|(?=\s|\Z))"
_KEY_WORD = re.compile(rf"[ \t]*(?P<mark>[^\w\s]{{0,3}})(?P<key>[\w-]{{1,64}}+){_WORD_ENDS}[ \t]*")
_MODE_WORD = re.compile(rf"(?P<mode>collab|debate){_WORD_ENDS}[ \t]*", re.IGNORECASE)
_OWN_WORDS = frozenset({"agent", "multi", *RESET_WORDS, *(f"persona{number}" for number in range(1, 10))})


@dataclass(frozen=True, slots=True)
class Grammar:
    """What counts as a command.

    Args:
        keys: the persona keys that may be called.
        prefix: what a command begins with; `!` unless the valve says otherwise.
        case_sensitive: whether `!Coder` differs from `!coder`.

    One is made for each turn, so it also remembers what was read with it: a turn reads its transcript several
    times.
    """

    keys: Set[str]
    prefix: str = "!"
    case_sensitive: bool = False
    _read: dict[str, Parsed] = field(default_factory=dict, init=False, repr=False, compare=False)

    def lookup(self, word: str) -> str | None:
        """The persona key that the word names, or None."""
        if word in self.keys:
            return word
        folded = word if self.case_sensitive else word.lower()
        return folded if folded in self.keys else None

    def knows(self, word: str) -> bool:
        """Whether the word can be a command, alone or with what follows it."""
        if word in self.keys:
            return True
        folded = word if self.case_sensitive else word.lower()
        return folded in self.keys or folded in _OWN_WORDS

    def read(self, text: str) -> Parsed:
        """What `parse` says of the text, which is parsed once."""
        parsed = self._read.get(text)
        if parsed is None:
            parsed = self._read[text] = parse(text, self)
        return parsed

    def folded(self, word: str) -> str:
        return word if self.case_sensitive else word.lower()


@dataclass(frozen=True, slots=True)
class Command:
    """One command and the text that belongs to it: all up to the next command.

    Attributes:
        kind: what it does.
        key: the persona; of `multi` the mode (`turns`, `collab`, `debate`); of `settings`, `history` and
            `rollback` the rest of the line.
        text: what follows.
        slot: of `bind`, the number of the model, from 1.
    """

    kind: Kind
    key: str | None = None
    text: str = ""
    slot: int = 0


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a message says.

    Attributes:
        text: the message without its commands; escapes resolved.
        commands: in order of appearance.
        unknown: a word that looks like a command, stands at the very start and names nothing we know.
        begins: whether the message itself begins with a command.
        head: the text before the first command.
    """

    text: str
    commands: tuple[Command, ...] = ()
    unknown: str | None = None
    begins: bool = False
    head: str = ""

    @property
    def console(self) -> Command | None:
        """The command that is answered by us alone, if the first one is such and nobody else is to speak."""
        first = self.commands[0] if self.commands and not self.several else None
        return first if first and first.kind in CONSOLE_KINDS else None

    @property
    def resets(self) -> bool:
        """Whether the message goes back to the picked model."""
        return self.switch is not None and self.switch.kind == "reset"

    @property
    def several(self) -> bool:
        """Whether several are to speak in this one message, or one of them beside us."""
        kinds = [command.kind for command in self.commands if command.kind != "bind"]
        speaks = any(kind in ("persona", "reset") for kind in kinds)
        return "multi" in kinds or (self.begins and speaks and len(kinds) > 1)

    @property
    def switch(self) -> Command | None:
        """The last command that changes who answers."""
        return next((c for c in reversed(self.commands) if c.kind in ("persona", "reset")), None)


class _Hit(NamedTuple):
    kind: Kind
    key: str | None
    start: int
    end: int
    slot: int = 0


class _Tokens(NamedTuple):
    """What finds the words behind a prefix: at the start of the text, of a line, and behind any white space.

    `\n` in front instead of `^` lets the search jump from line to line.
    """

    first: re.Pattern[str]
    of_line: re.Pattern[str]
    anywhere: re.Pattern[str]


@lru_cache(maxsize=32)
def _tokens(prefix: str) -> _Tokens:
    word = rf"(?P<escape>\\?){re.escape(prefix)}(?P<word>[^\W\d_][\w-]{{0,63}}+){_WORD_ENDS}"
    return _Tokens(*(re.compile(before + word) for before in (r"\s*+", r"\n {0,3}", r"\s")))


def may_hold_commands(text: str, grammar: Grammar) -> bool:
    """Whether a word behind the prefix begins the text or a line: without one, no command counts."""
    if grammar.prefix not in text:
        return False
    first, of_line, _ = _tokens(grammar.prefix)
    end = min(len(text), SCAN_LIMIT)
    return (first.match(text, 0, end) or of_line.search(text, 0, end)) is not None


def _begins_line(text: str, at: int) -> bool:
    before = text[max(0, at - 4) : at]
    spaces = len(before) - len(before.rstrip(" "))
    return spaces == at or (spaces < 4 and before[: len(before) - spaces].endswith("\n"))


def parse(text: str, grammar: Grammar) -> Parsed:
    """Reads the commands of one user message.

    >>> parse("!coder fix it", Grammar({"coder"})).commands
    (Command(kind='persona', key='coder', text='fix it'),)
    >>> parse("color: red !important", Grammar({"important"})).commands
    ()
    """
    if grammar.prefix not in text:
        return Parsed(text)
    tokens, code = _tokens(grammar.prefix), Code(text[:SCAN_LIMIT])
    limit = min(len(text), SCAN_LIMIT)
    found: list[_Hit] = []
    escapes: list[int] = []
    unknown: str | None = None
    at = 0
    first = tokens.first.match(text, 0, limit)
    if first is not None and _begins_line(text, first.start("escape")) and not _is_cut(first, text):
        if not code.holds(first.start("escape")):
            hit = _meaning(text, first, grammar)
            if hit is None:
                unknown = None if first["escape"] else first["word"]
            elif first["escape"]:
                escapes.append(hit.start)
            else:
                found.append(hit)
        at = first.end()
    begins = bool(found)
    known = len(found) + len(escapes)
    for match in (tokens.anywhere if begins else tokens.of_line).finditer(text, at, limit):
        start = match.start("escape")
        if (found and start < found[-1].end) or not grammar.knows(match["word"]):
            continue  # inside what a command took, or any word
        known += 1
        if known > COMMAND_LIMIT or _is_cut(match, text):
            break
        hit = None if code.holds(start) else _meaning(text, match, grammar)
        if hit is not None and match["escape"]:
            escapes.append(start)
        elif hit is not None:
            found.append(hit)
    if not found and not escapes:
        return Parsed(text, unknown=unknown)
    return _assemble(text, found, escapes, unknown, begins)


def _is_cut(match: re.Match[str], text: str) -> bool:
    """Whether the scan's limit may have cut the word."""
    return match.end() == SCAN_LIMIT < len(text)


def _skip_blanks(text: str, at: int) -> int:
    blanks = _BLANKS.match(text, at)
    return blanks.end() if blanks else at


def _meaning(text: str, match: re.Match[str], grammar: Grammar) -> _Hit | None:
    word, start = grammar.folded(match["word"]), match.start("escape")
    end = _skip_blanks(text, match.end())
    if key := grammar.lookup(match["word"]):
        return _Hit("persona", key, start, end)
    if word in RESET_WORDS:
        return _Hit("reset", None, start, end)
    if word == "agent":
        return _agent_command(text, start, end)
    if word == "multi":
        mode = _MODE_WORD.match(text, end)
        return _Hit("multi", mode["mode"].lower() if mode else "turns", start, mode.end() if mode else end)
    if number := _BIND_WORD.fullmatch(word):
        bound = _KEY_WORD.match(text, end)
        known = bound is not None and bound["mark"] in ("", grammar.prefix)
        key = grammar.lookup(bound["key"]) if bound and known else None
        return _Hit("bind", key, start, bound.end(), int(number[1])) if bound and key else None
    return None


def _agent_command(text: str, start: int, end: int) -> _Hit | None:
    """`!agent` and its words fill their line; with other words behind it, it is no command."""
    rest = _AGENT_WORD.match(text, end)
    if rest is None:
        return None
    word, argument = [*rest[0].split(None, 1), "", ""][:2]
    kinds: dict[str, Kind] = {"list": "list", "settings": "settings", "history": "history"}
    kind = "rollback" if word.lower() == "rollback" else kinds.get(word.lower(), "help")
    return _Hit(kind, argument.strip() or None, start, rest.end())


def _assemble(
    text: str,
    found: list[_Hit],
    escapes: list[int],
    unknown: str | None,
    begins: bool,
) -> Parsed:
    def piece(start: int, end: int) -> str:
        kept, at = [], start
        for escape in escapes:
            if start <= escape < end:
                kept.append(text[at:escape])
                at = escape + 1
        return "".join(kept) + text[at:end]

    starts = [hit.start for hit in found] + [len(text)]
    head = piece(0, starts[0])
    head = "" if head.isspace() else head
    bodies = [piece(hit.end, end) for hit, end in zip(found, starts[1:], strict=True)]
    commands = tuple(
        Command(hit.kind, hit.key, _trim(body), hit.slot) for hit, body in zip(found, bodies, strict=True)
    )
    return Parsed(_trim("".join([head, *bodies])), commands, unknown, begins, _trim(head))


def _trim(text: str) -> str:
    """Without white space around it, but a line of its own keeps its indentation: it may be code."""
    rest = text.lstrip()
    lead = text[: len(text) - len(rest)]
    return (lead.rpartition("\n")[2] if "\n" in lead else "") + rest.rstrip()


def suggest(word: str, grammar: Grammar) -> str | None:
    """The known key that an unknown word was probably meant to be, or None."""
    return _closest(word.lower(), frozenset(grammar.keys))


@lru_cache(maxsize=1024)  # a chat brings the same typing error again with every turn
def _closest(word: str, keys: frozenset[str]) -> str | None:
    known = [*keys, "agent", "multi", *RESET_WORDS]
    close = difflib.get_close_matches(word, known, n=1, cutoff=SUGGESTION_CUTOFF)
    return close[0] if close else None


def message_text(message: dict[str, Any]) -> str:
    """The text of a message, whose content is a string, a list of parts, or null."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(
            part["text"]
            for part in content
            if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
        )
    return ""


def last_text(messages: list[dict[str, Any]]) -> str:
    """What the user wrote last."""
    last = next((message for message in reversed(messages) if message.get("role") == "user"), None)
    return message_text(last) if last else ""


def with_text(message: dict[str, Any], text: str) -> dict[str, Any]:
    """A copy of the message that says `text`; images and other parts stay where they are."""
    content = message.get("content")
    if not isinstance(content, list):
        return {**message, "content": text}
    parts: list[Any] = [
        part for part in content if not (isinstance(part, dict) and part.get("type") == "text")
    ]
    return {**message, "content": [{"type": "text", "text": text}, *parts] if text else parts}


def has_attachment(message: dict[str, Any]) -> bool:
    """Whether the message holds an image or another part that is not text."""
    content = message.get("content")
    return isinstance(content, list) and any(
        isinstance(part, dict) and part.get("type") != "text" for part in content
    )


def comes_with_attachment(messages: list[dict[str, Any]]) -> bool:
    """Whether the last user message carries more than text."""
    last = next((m for m in reversed(messages) if isinstance(m, dict) and m.get("role") == "user"), None)
    return last is not None and has_attachment(last)
