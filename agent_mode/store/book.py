"""The personas in memory, for the path of every chat turn: synchronous, no IO."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from agent_mode.observe.hooks import PersonaChanged, hooks
from agent_mode.store.personas import Persona, PersonaStore


@dataclass(frozen=True, slots=True)
class _Page:
    version: int = 0
    ordered: tuple[Persona, ...] = ()
    by_key: dict[str, Persona] = field(default_factory=dict)
    keys: frozenset[str] = frozenset()


class PersonaBook:
    """The enabled personas as of the last `load` or `refresh`; empty before the first.

    Reading is safe from any thread: a reload puts one whole new page in place of the old.
    """

    def __init__(self) -> None:
        self._page = _Page()
        self._refreshing = asyncio.Lock()  # of two at a time, the slower one would bring the older page

    def get(self, key: str) -> Persona | None:
        """The enabled persona with this key."""
        return self._page.by_key.get(key)

    def all(self) -> tuple[Persona, ...]:
        """The enabled personas by category, then by name."""
        return self._page.ordered

    @property
    def keys(self) -> frozenset[str]:
        """Keys of the enabled personas."""
        return self._page.keys

    @property
    def version(self) -> int:
        """Revision of the store that the book shows; usable as a key of caches."""
        return self._page.version

    async def load(self, store: PersonaStore) -> None:
        """Read all personas.

        Raises:
            StoreError: the database failed; the book stays as it was.
        """
        # The number first: a write in between leaves the book marked older than it is, never newer.
        version = await store.revision()
        enabled = tuple(persona for persona in await store.all() if persona.enabled)
        by_key = {persona.key: persona for persona in enabled}
        self._page = _Page(version, enabled, by_key, frozenset(by_key))

    async def refresh(self, store: PersonaStore) -> bool:
        """Reload if the store changed since; True if it did.

        Raises:
            StoreError: the database failed; the book stays as it was.
        """
        async with self._refreshing:
            if await store.revision() == self.version:
                return False
            before = self._page.by_key
            await self.load(store)
            _tell(before, self._page.by_key)
        return True


def _tell(before: dict[str, Persona], after: dict[str, Persona]) -> None:
    """Tells other plug-ins what changed, whichever process changed it."""
    for key in {*before, *after}:
        old, new = before.get(key), after.get(key)
        if old is None:
            hooks.emit(PersonaChanged(persona=key, reason="created"))
        elif new is None:
            hooks.emit(PersonaChanged(persona=key, reason="deleted"))
        elif old.content_hash != new.content_hash:
            hooks.emit(PersonaChanged(persona=key, reason="updated"))
