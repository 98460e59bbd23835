"""The `!commands` of a user's message: a pure parser.

A message or a line must *begin* with a known command; only when the message itself begins with one do
further known keys after white space count too (a sequence). Nothing inside code or a link is a command,
an unknown `!word` is left alone, and a backslash before the prefix takes the meaning away. At the very start
of the message more is forgiven: `!coder!`, `！coder`, characters that nobody sees.
"""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from agent_mode.chat.code_spans import Code
from agent_mode.chat.parsed import Command, Kind, Parsed, Slip
from agent_mode.chat.tokens import WORD_ENDS, begins_line, marks_of, mentions, tokens_of

RESET_WORDS = frozenset({"reset", "default", "normal"})
SCAN_LIMIT = 20_000
"""Commands are looked for in so many first characters of a message; what follows is text. The limit keeps
the worst message that a user can paste from costing more than milliseconds."""
COMMAND_LIMIT = 50
"""So many commands of a message count, those that are escaped or in code included; what follows is text."""
STRANGERS = 8
"""So many unknown words of a sequence are looked at, whether they may be typing errors."""
AGENT_WORDS = frozenset({"list", "help", "settings", "history", "rollback"})
"""What can stand behind `!agent`."""

_BLANKS = re.compile(r"[ \t]*")
_AGENT_WORD = re.compile(
    r"(?:(?:list|help)?|(?:settings|history|rollback)(?:[^\S\n][^\n]*)?)[^\S\n]*(?=\n|\Z)", re.IGNORECASE
)
_BIND_WORD = re.compile(r"persona([1-9])", re.IGNORECASE)
_MARKDOWN_MARKS = frozenset("-+*#>")
"""With white space behind them, these begin a list, a heading or a quotation, and no command."""
_KEY_WORD = re.compile(rf"[ \t]*(?P<mark>[^\w\s]{{0,3}})(?P<key>[\w-]{{1,64}}+){WORD_ENDS}[ \t]*")
_MODE_WORD = re.compile(rf"(?P<mode>collab|debate){WORD_ENDS}[ \t]*", re.IGNORECASE)
_OWN_WORDS = frozenset({"agent", "multi", *RESET_WORDS, *(f"persona{number}" for number in range(1, 10))})


@dataclass(frozen=True, slots=True)
class Grammar:
    """What counts as a command.

    Args:
        keys: the persona keys that may be called.
        prefix: what a command begins with; `!` unless the valve or the user says otherwise.
        case_sensitive: whether `!Coder` differs from `!coder`.
        usual: the grammar with the admin's prefix, where the user has another. `!agent` counts by it too, so
            that nobody is locked out, and so do the commands of earlier messages.
        open: the keys that the user may call, as far as that was found out; None: all. The others are never
            suggested.

    One is made for each turn, so it also remembers what was read with it: a turn reads its transcript several
    times.
    """

    keys: Set[str]
    prefix: str = "!"
    case_sensitive: bool = False
    usual: Grammar | None = None
    open: Set[str] | None = None
    _read: dict[str, Parsed] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def marks(self) -> tuple[str, ...]:
        """Without one of these a message holds no commands."""
        return marks_of(self.prefix) + (self.usual.marks if self.usual else ())

    @property
    def offered(self) -> frozenset[str]:
        """The keys that may be suggested."""
        return frozenset(self.keys if self.open is None else self.open)

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
            parsed = parse(text, self)
            if self.usual is not None and not parsed.commands and self.usual.read(text).console is not None:
                parsed = self.usual.read(text)
            self._read[text] = parsed
        return parsed

    def recall(self, text: str) -> Parsed:
        """What an earlier message said, which may have been typed before the user chose a prefix."""
        parsed = self.read(text)
        if self.usual is None or parsed.commands:
            return parsed
        usual = self.usual.read(text)
        return usual if usual.commands else parsed

    def folded(self, word: str) -> str:
        return word if self.case_sensitive else word.lower()


class _Hit(NamedTuple):
    kind: Kind
    key: str | None
    start: int
    end: int
    slot: int = 0


def may_hold_commands(text: str, grammar: Grammar) -> bool:
    """Whether a word behind the prefix begins the text or a line; without one no command counts."""
    if grammar.usual is not None and may_hold_commands(text, grammar.usual):
        return True
    first, of_line, _, apart = tokens_of(grammar.prefix)
    end = min(len(text), SCAN_LIMIT)
    found = first.match(text, 0, end) or of_line.search(text, 0, end) or apart.match(text, 0, end)
    return found is not None


def parse(text: str, grammar: Grammar) -> Parsed:
    """Reads the commands of one user message.

    >>> parse("!coder fix it", Grammar({"coder"})).commands
    (Command(kind='persona', key='coder', text='fix it'),)
    >>> parse("color: red !important", Grammar({"important"})).commands
    ()
    """
    if not mentions(text, grammar.prefix):
        return Parsed(text)
    scan = _Scan(text, grammar)
    at = scan.start()
    begins = bool(scan.found)
    scan.go_on(at)
    if not scan.found and not scan.escapes:
        return Parsed(text, slips=tuple(scan.slips))
    return _assemble(text, scan.found, scan.escapes, tuple(scan.slips), begins)


class _Scan:
    """One way through a text: what was found so far."""

    def __init__(self, text: str, grammar: Grammar) -> None:
        self.text = text
        self.grammar = grammar
        self.limit = min(len(text), SCAN_LIMIT)
        self.code = Code(text[:SCAN_LIMIT])
        self.tokens = tokens_of(grammar.prefix)
        self.found: list[_Hit] = []
        self.escapes: list[int] = []
        self.slips: list[Slip] = []

    def start(self) -> int:
        """Reads the very start of the text; returns where to go on."""
        text = self.text
        first = self.tokens.first.match(text, 0, self.limit)
        if first is None:
            self._start_apart()
            return 0
        start = first.start("escape")
        if not begins_line(text, start) or self._is_cut(first):
            return 0
        if not self.code.holds(start):
            self._take(first, "start")
        return first.end()

    def _start_apart(self) -> None:
        apart = self.tokens.apart.match(self.text, 0, self.limit)
        if apart is None or apart["escape"] or self.grammar.prefix in _MARKDOWN_MARKS:
            return
        if begins_line(self.text, apart.end("escape")) and self.grammar.lookup(apart["word"]):
            self.slips.append(Slip(apart["word"], where="apart"))

    def go_on(self, at: int) -> None:
        """Reads the rest: all words if the text begins with a command, else those that begin a line."""
        begins = bool(self.found)
        known, strangers = len(self.found) + len(self.escapes), 0
        for match in (self.tokens.anywhere if begins else self.tokens.of_line).finditer(
            self.text, at, self.limit
        ):
            start = match.start("escape")
            if self.found and start < self.found[-1].end:
                continue  # inside what a command took
            if self.grammar.knows(match["word"]):
                known += 1
                if known > COMMAND_LIMIT or self._is_cut(match):
                    break
            else:
                strangers += 1
                if not begins or strangers > STRANGERS:
                    continue
            if not self.code.holds(start):
                self._take(match, "later" if begins else None)

    def _take(self, match: re.Match[str], where: Literal["start", "later"] | None) -> None:
        """Notes what the word is; `where`: what is none is a slip there."""
        hit = _meaning(self.text, match, self.grammar)
        if hit is not None and match["escape"]:
            self.escapes.append(hit.start)
        elif hit is not None:
            self.found.append(hit)
        elif where is not None and not match["escape"]:
            place = (
                "assigning" if where == "later" and self._follows_assignment(match.start("escape")) else where
            )
            self.slips.append(Slip(match["word"], _rest_of_line(self.text, match.end()), place))

    def _follows_assignment(self, at: int) -> bool:
        last = self.found[-1]
        return last.kind == "bind" and not self.text[last.end : at].strip()

    def _is_cut(self, match: re.Match[str]) -> bool:
        """Whether the scan's limit may have cut the word."""
        return match.end() == SCAN_LIMIT < len(self.text)


def _rest_of_line(text: str, at: int) -> str:
    return text[at : at + 100].partition("\n")[0].strip()


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
        known = bound is not None and bound["mark"] in ("", *marks_of(grammar.prefix))
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
    slips: tuple[Slip, ...],
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
    head = "" if begins or head.isspace() else head
    bodies = [piece(hit.end, end) for hit, end in zip(found, starts[1:], strict=True)]
    commands = tuple(
        Command(hit.kind, hit.key, _trim(body), hit.slot) for hit, body in zip(found, bodies, strict=True)
    )
    return Parsed(_trim("".join([head, *bodies])), commands, slips, begins, _trim(head))


def _trim(text: str) -> str:
    """Without white space around it, but a line of its own keeps its indentation: it may be code."""
    rest = text.lstrip()
    lead = text[: len(text) - len(rest)]
    return (lead.rpartition("\n")[2] if "\n" in lead else "") + rest.rstrip()
