"""Who can be called: the personas, narrowed by a valve, and the agents that are pipelines of their own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from agent_mode.agents.directory import Directory
from agent_mode.agents.spec import AgentSpec
from agent_mode.store.book import PersonaBook
from agent_mode.store.personas import Persona

AGENTS = "agents"
"""The category under which agents are listed."""


@dataclass(frozen=True, slots=True)
class Roster:
    """The offered personas in order of category and name, and the agents, by key."""

    by_key: dict[str, Persona]
    keys: frozenset[str]
    agents: frozenset[str] = frozenset()

    def get(self, key: str) -> Persona | None:
        return self.by_key.get(key)

    @property
    def personas(self) -> list[Persona]:
        """Those that are no pipelines of their own."""
        return [persona for key, persona in self.by_key.items() if key not in self.agents]


class Rosters:
    """Makes rosters and keeps each until somebody in them changes."""

    def __init__(self, book: PersonaBook, directory: Directory) -> None:
        self._book = book
        self._directory = directory
        self._version = (-1, -1)
        self._made: dict[str | None, Roster] = {}

    def offered(self, wanted: str | None) -> Roster:
        """The roster for the valve `models`: keys, tags or categories, comma separated; None: all.

        Agents are in each, since an admin made each a model of its own.
        """
        version = (self._book.version, self._directory.version)
        if self._version != version or len(self._made) > 100:
            self._made = {}
            self._version = version
        roster = self._made.get(wanted)
        if roster is None:
            words = {word.strip().lower() for word in (wanted or "").split(",")} - {""}
            chosen = {p.key: p for p in self._book.all() if not words or words & _words(p)}
            agents = {spec.id: _entry(spec) for spec in self._directory.pipelines()}
            everyone = chosen | agents
            roster = self._made[wanted] = Roster(everyone, frozenset(everyone), frozenset(agents))
        return roster


def _words(persona: Persona) -> set[str]:
    return {persona.key, persona.category.lower(), *(tag.lower() for tag in persona.tags)}


_LONG_AGO = datetime.fromtimestamp(0, UTC)


def _entry(spec: AgentSpec) -> Persona:
    """An agent as lists and prompts see it; nothing of this is stored."""
    return Persona(
        key=spec.id,
        name=spec.name,
        emoji="",
        category=AGENTS,
        prompt=spec.instructions,
        description=spec.description,
        capabilities=(),
        tags=("agent",),
        model=None,
        enabled=True,
        origin="custom",
        content_hash="",
        shipped_hash=None,
        created_at=_LONG_AGO,
        updated_at=_LONG_AGO,
    )
