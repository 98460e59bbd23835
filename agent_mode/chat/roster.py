"""Which personas a pipeline offers: all enabled ones, narrowed by its valve."""

from __future__ import annotations

from dataclasses import dataclass

from agent_mode.store.book import PersonaBook
from agent_mode.store.personas import Persona


@dataclass(frozen=True, slots=True)
class Roster:
    """The offered personas, by key and in order of category and name."""

    by_key: dict[str, Persona]
    keys: frozenset[str]

    def get(self, key: str) -> Persona | None:
        return self.by_key.get(key)


class Rosters:
    """Makes rosters and keeps each until the personas change."""

    def __init__(self, book: PersonaBook) -> None:
        self._book = book
        self._version = -1
        self._made: dict[str | None, Roster] = {}

    def offered(self, wanted: str | None) -> Roster:
        """The roster for the valve `models`: keys, tags or categories, comma separated; None: all."""
        if self._version != self._book.version or len(self._made) > 100:
            self._made = {}
            self._version = self._book.version
        roster = self._made.get(wanted)
        if roster is None:
            words = {word.strip().lower() for word in (wanted or "").split(",")} - {""}
            chosen = {p.key: p for p in self._book.all() if not words or words & _words(p)}
            roster = self._made[wanted] = Roster(chosen, frozenset(chosen))
        return roster


def _words(persona: Persona) -> set[str]:
    return {persona.key, persona.category.lower(), *(tag.lower() for tag in persona.tags)}
