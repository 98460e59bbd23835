"""What a message says, once its commands are read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

Kind = Literal["persona", "reset", "bind", "multi", "help", "list", "settings", "history", "rollback"]

CONSOLE_KINDS = frozenset({"help", "list", "settings", "history", "rollback"})
"""What is answered by us alone."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command and the text that belongs to it: all up to the next command.

    Attributes:
        kind: what it does.
        key: the persona; of `multi` the mode (`turns`, `collab`, `debate`); of `settings`, `history` and
            `rollback` the rest of the line.
        text: what follows.
        slot: of `bind`, the number of the model, from 1.
        unsent: of `Parsed.console`, the words of the message that nobody is to answer.
    """

    kind: Kind
    key: str | None = None
    text: str = ""
    slot: int = 0
    unsent: str = ""


class Slip(NamedTuple):
    """What looks like a command and is none: a word behind the prefix, and the rest of its line."""

    word: str
    rest: str = ""
    where: Literal["start", "apart", "assigning", "later"] = "start"
    """At the very start; there, but with a blank behind the prefix; right behind an assignment; further down
    in a sequence."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a message says.

    Attributes:
        text: the message without its commands; escapes resolved.
        commands: in order of appearance.
        slips: what looks like a command and is none, at the very start or in a sequence.
        begins: whether the message itself begins with a command.
        head: the text before the first command.
    """

    text: str
    commands: tuple[Command, ...] = ()
    slips: tuple[Slip, ...] = ()
    begins: bool = False
    head: str = ""

    @property
    def unknown(self) -> str | None:
        """A word that looks like a command, stands at the very start and names nothing we know."""
        first = self.slips[0] if self.slips else None
        return first.word if first and first.where == "start" else None

    @property
    def console(self) -> Command | None:
        """The command that is answered by us alone, if the first one is such and nobody else is to speak."""
        first = self.commands[0] if self.commands and not self.several else None
        if first is None or first.kind not in CONSOLE_KINDS:
            return None
        return replace(first, unsent=self.text) if self.text else first

    def is_ours(self, *, attached: bool) -> bool:
        """Whether we alone answer the message; `attached`: something beside text came with it."""
        if self.console is not None:
            return True
        return bool(self.commands) and not self.text and not attached

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
