"""The `!commands` of a user's message: a pure parser.

A message or a line must *begin* with a known command; only when the message itself begins with one do
further known keys after white space count too (a sequence). Nothing inside code or a link is a command,
an unknown `!word` is left alone, and a backslash before the prefix takes the meaning away.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Set
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from agent_mode.chat.suggestion import without_tip

Kind = Literal["persona", "reset", "bind", "multi", "help", "list", "settings", "history", "rollback"]

CONSOLE_KINDS = frozenset({"help", "list", "settings", "history", "rollback"})
"""What is answered by us alone."""

RESET_WORDS = frozenset({"reset", "default", "normal"})
SCAN_LIMIT = 20_000
"""Commands are looked for in so many first characters of a message; what follows is text. The limit keeps
the worst message that a user can paste from costing more than milliseconds."""

SUGGESTION_CUTOFF = 0.72
"""How alike (0 to 1, difflib's ratio) an unknown word must be to a key to be taken for a typing error."""

_CODE = re.compile(
    r"^ {0,3}(?P<fence>`{3,}(?=[^`\n]*$)|~{3,})[^\n]*(?:\n|\Z)"  # fenced block
    r"(?:.*?^ {0,3}(?P=fence)[`~]*[ \t]*$|.*\Z)"
    r"|^(?: {4}|\t)[^\n]*$"  # indented code
    r"|(?<!`)(?P<ticks>`+)(?!`)[^\n]*?(?<!`)(?P=ticks)(?!`)",  # inline code
    re.MULTILINE | re.DOTALL,
)
_AGENT_WORD = re.compile(
    r"(?:(?:list|help)?|(?:settings|history|rollback)(?:[^\S\n][^\n]*)?)[^\S\n]*(?=\n|\Z)", re.IGNORECASE
)
_BIND_WORD = re.compile(r"persona([1-9])", re.IGNORECASE)
_KEY_WORD = re.compile(r"[ \t]*(?P<mark>[^\w\s]{0,3})(?P<key>[\w-]+)(?:[:,](?=\s|\Z)|(?=\s|\Z))[ \t]*")
_MODE_WORD = re.compile(r"(?P<mode>collab|debate)(?:[:,](?=\s|\Z)|(?=\s|\Z))[ \t]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Grammar:
    """What counts as a command.

    Args:
        keys: the persona keys that may be called.
        prefix: what a command begins with; `!` unless the valve says otherwise.
        case_sensitive: whether `!Coder` differs from `!coder`.
    """

    keys: Set[str]
    prefix: str = "!"
    case_sensitive: bool = False

    def lookup(self, word: str) -> str | None:
        """The persona key that the word names, or None."""
        if word in self.keys:
            return word
        folded = word if self.case_sensitive else word.lower()
        return folded if folded in self.keys else None

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


@lru_cache(maxsize=32)
def _token(prefix: str) -> re.Pattern[str]:
    return re.compile(
        rf"(?P<escape>\\?){re.escape(prefix)}(?P<word>[^\W\d_][\w-]*)(?:[:,](?=\s|\Z)|(?=\s|\Z))"
        r"(?P<space>[ \t]*)"
    )


def _code_spans(text: str) -> list[tuple[int, int]]:
    if not any(mark in text for mark in ("`", "~~~", "    ", "\t")):
        return []
    return [match.span() for match in _CODE.finditer(text)]


def _candidates(text: str, grammar: Grammar) -> Iterator[tuple[re.Match[str], bool]]:
    """Every token outside code that follows white space, with whether it begins a line."""
    spans = iter(_code_spans(text[:SCAN_LIMIT]))
    span = next(spans, None)
    for match in _token(grammar.prefix).finditer(text, 0, SCAN_LIMIT):
        start = match.start()
        if match.end() == SCAN_LIMIT < len(text):
            return  # the limit may have cut the word
        while span and span[1] <= start:
            span = next(spans, None)
        if span and span[0] <= start:
            continue
        before = text[max(0, start - 4) : start]
        indent = len(before) - len(before.rstrip(" "))
        if indent == start or (indent < 4 and before[: len(before) - indent].endswith("\n")):
            yield match, True
        elif before[-1:].isspace():
            yield match, False


def parse(text: str, grammar: Grammar) -> Parsed:
    """Reads the commands of one user message.

    >>> parse("!coder fix it", Grammar({"coder"})).commands
    (Command(kind='persona', key='coder', text='fix it'),)
    >>> parse("color: red !important", Grammar({"important"})).commands
    ()
    """
    if grammar.prefix not in text:
        return Parsed(text)
    found: list[_Hit] = []
    escapes: list[int] = []
    unknown: str | None = None
    begins = False
    text_begins = len(text) - len(text.lstrip())
    for match, at_line_start in _candidates(text, grammar):
        first = match.start() == text_begins
        if found and match.start() < found[-1].end:
            continue  # inside what a command took
        if not (at_line_start or begins):
            continue
        hit = _meaning(text, match, grammar)
        if match["escape"]:
            if hit:
                escapes.append(match.start())
            continue
        if hit:
            begins = begins or first
            found.append(hit)
        elif first:
            unknown = match["word"]
    if not found and not escapes:
        return Parsed(text, unknown=unknown)
    return _assemble(text, found, escapes, unknown, begins)


def _meaning(text: str, match: re.Match[str], grammar: Grammar) -> _Hit | None:
    word, start, end = grammar.folded(match["word"]), match.start(), match.end()
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


def strip_commands(
    messages: list[dict[str, Any]], grammar: Grammar, *, last_is_clean: bool = False
) -> list[dict[str, Any]]:
    """The transcript as the LLM should see it: without commands and without what we ourselves answered.

    A user message that was nothing but commands (`!agent list`, a lone `!coder`) goes, together with the
    confirmation that followed it. The last user message always stays.

    Args:
        messages: the transcript.
        grammar: which words are commands.
        last_is_clean: whether the last user message holds no commands any more, whatever it looks like.
    """
    prefix = grammar.prefix
    last = max((i for i, m in enumerate(messages) if m.get("role") == "user"), default=-1)
    kept: list[dict[str, Any]] = []
    skip_answer = False
    for index, message in enumerate(messages):
        role = message.get("role")
        if role == "user":
            skip_answer = False
            text = message_text(message)
            if prefix in text and not (last_is_clean and index == last):
                parsed = parse(text, grammar)
                ours = parsed.commands and not parsed.text and not has_attachment(message)
                if index != last and (ours or (parsed.unknown and suggest(parsed.unknown, grammar))):
                    skip_answer = True
                    continue
                if parsed.text != text:
                    message = with_text(message, parsed.text)  # noqa: PLW2901
        elif role == "assistant":
            if skip_answer:
                continue
            message = _own_part(message)  # noqa: PLW2901
        kept.append(message)
    return kept


def _own_part(message: dict[str, Any]) -> dict[str, Any]:
    """An answer without what we wrote below it."""
    content = message.get("content")
    if not isinstance(content, str) or (words := without_tip(content)) == content:
        return message
    return {**message, "content": words}


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
