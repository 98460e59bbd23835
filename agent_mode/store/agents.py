"""Agents in the database, and those that are enabled in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_mode.errors import StoreError
from agent_mode.store import agent_rows as rows
from agent_mode.store import agent_versions as versions
from agent_mode.store import names, revisions
from agent_mode.store.agent_forms import RESERVED_IDS, Access, AgentForm, content, content_hash, searched
from agent_mode.store.agent_rows import Agent
from agent_mode.store.agent_versions import DELETED, AgentVersion
from agent_mode.store.db import Database
from agent_mode.store.forms import json_hash
from agent_mode.store.session_records import storable
from agent_mode.store.tables import AGENTS_REVISION
from agent_mode.store.tables import agent as table
from agent_mode.store.versions import Note, label_of, one_line

__all__ = [
    "RESERVED_IDS",
    "Access",
    "Agent",
    "AgentBook",
    "AgentForm",
    "AgentStore",
    "AgentVersion",
    "content",
    "content_hash",
]

_CHUNK = 500
"""How many agents are read at once: other work of the event loop goes on between."""


class AgentStore:
    """Reads and writes agents and their versions. All methods raise `StoreError` when the database fails.

    Every write takes one transaction, in which the row, its version and the revision change together.

    Args:
        db: the database.
        history_limit: how many versions of each agent are kept, the newest.
    """

    def __init__(self, db: Database, *, history_limit: int = 200) -> None:
        if history_limit < 1:
            raise ValueError("history_limit must be at least 1")
        self._db = db
        self._history_limit = history_limit

    async def all(self) -> list[Agent]:
        """All agents, the disabled ones too, by name."""
        async with self._db.read() as connection:
            ids = (await connection.execute(select(table.c.id))).scalars().all()
        return sorted(await self.some(ids), key=_by_name)

    async def some(self, ids: Sequence[str]) -> list[Agent]:
        """Those agents of the ids that there are, in no certain order."""
        found: list[Agent] = []
        async with self._db.read() as connection:
            for start in range(0, len(ids), _CHUNK):
                found += await rows.find_all(connection, ids[start : start + _CHUNK])
        return found

    async def get(self, agent_id: str) -> Agent | None:
        """The agent with this id, enabled or not."""
        if not storable(agent_id):
            return None
        async with self._db.read() as connection:
            return await rows.find(connection, agent_id)

    async def page(
        self,
        offset: int,
        limit: int,
        agent_type: str | None = None,
        enabled: bool | None = None,
        tag: str | None = None,
        text: str | None = None,
    ) -> tuple[list[Agent], int]:
        """A part of the agents that fit, by id, and how many fit in all.

        Args:
            offset: how many to leave out, at least 0.
            limit: how many to return at most.
            agent_type: only of this type.
            enabled: only those that are, or are not.
            tag: only those with this very tag.
            text: only those with it in their id, name or description, in whichever case.
        """
        if not all(storable(word) for word in (agent_type, tag) if word):
            return [], 0
        wanted = rows.Filter(agent_type, enabled, tag, one_line(text or "", 200))
        async with self._db.read() as connection:
            total = await rows.count(connection, wanted)
            query = rows.query(wanted, connection.dialect).offset(offset).limit(limit)
            found = [Agent.from_row(row) for row in await connection.execute(query)]
        return found, total

    async def revision(self) -> int:
        """A number that grows with every write of agents, by whichever process."""
        async with self._db.read() as connection:
            return await revisions.number(connection, AGENTS_REVISION)

    async def enabled(self) -> dict[str, int]:
        """Ids of the enabled agents, each with the number of its newest version."""
        async with self._db.read() as connection:
            query = select(table.c.id, table.c.version).where(table.c.enabled)
            return {row.id: row.version for row in await connection.execute(query)}

    async def create(self, form: AgentForm, author: str, message: str = "") -> Agent:
        """Insert an agent. Where there once was one with its id, the history goes on.

        Raises:
            StoreError: code `agent_exists`; of every write that enables an agent, `persona_exists`.
        """
        async with self._db.begin(lasting=True) as connection:
            await names.lock(connection)
            if await rows.find(connection, form.id) is not None:
                raise StoreError(
                    f"There is an agent {form.id} already.",
                    code="agent_exists",
                    status=409,
                    hint="Choose another id, or update the one that is there.",
                    field="id",
                )
            return await self._put(connection, form.id, content(form), None, Note(author, message))

    async def update(
        self, form: AgentForm, author: str, message: str = "", expected: int | None = None
    ) -> Agent:
        """Replace the content of an agent; the same content again writes nothing.

        Args:
            form: the agent.
            author: who saves it, for the history.
            message: why, for the history.
            expected: number of the newest version that the author has seen; None: overwrite any.

        Raises:
            StoreError: code `agent_not_found`, or `stale_version`: somebody else was faster, or
                `unknown_version`: there is none of that number yet.
        """
        return await self._change(form.id, lambda _: content(form), Note(author, message), expected)

    async def set_enabled(self, agent_id: str, enabled: bool, author: str) -> Agent:
        """Offer the agent, or do not.

        Raises:
            StoreError: code `agent_not_found`.
        """
        note = Note(author, "enabled" if enabled else "disabled")
        return await self._change(agent_id, lambda known: content(known) | {"enabled": enabled}, note)

    async def set_valves(self, agent_id: str, valves: Mapping[str, Any], author: str) -> Agent:
        """Replace the valves of the agent.

        Raises:
            StoreError: code `agent_not_found`.
            DefinitionError: what is wrong with the valves.
        """

        def change(known: Agent) -> dict[str, Any]:
            return content(AgentForm.parse({**content(known), "id": agent_id, "valves": valves}))

        return await self._change(agent_id, change, Note(author, "valves changed"))

    async def delete(self, agent_id: str, author: str) -> None:
        """Remove the agent. Its versions stay, and one more says who deleted what.

        Raises:
            StoreError: code `agent_not_found`.
        """
        async with self._db.begin(lasting=True) as connection:
            known = await self._known(connection, agent_id)
            await self._record(connection, agent_id, content(known), DELETED, Note(author, "deleted"))
            await rows.remove(connection, agent_id)
            await revisions.bump(connection, AGENTS_REVISION)

    async def history(self, agent_id: str, limit: int | None = None) -> list[AgentVersion]:
        """The versions of an agent, the newest first; those of a deleted one too."""
        if not storable(agent_id):
            return []
        async with self._db.read() as connection:
            found = await connection.execute(versions.history(agent_id).limit(limit))
            return [AgentVersion(**row._mapping) for row in found]

    async def version(self, agent_id: str, number: int) -> AgentVersion:
        """One version.

        Raises:
            StoreError: code `unknown_version`.
        """
        async with self._db.read() as connection:
            return await versions.find(connection, agent_id, number)

    async def diff(self, agent_id: str, old: int, new: int) -> str:
        """What changed between two versions, as a unified diff; empty when nothing did.

        Raises:
            StoreError: code `unknown_version`.
        """
        before, after = await self.version(agent_id, old), await self.version(agent_id, new)
        # In a thread, because very long texts that have little in common take their time.
        return await asyncio.to_thread(versions.unified_diff, before, after)

    async def rollback(self, agent_id: str, number: int, author: str) -> Agent:
        """Make the content of an old version the newest one; brings a deleted agent back.

        Raises:
            StoreError: code `unknown_version` or `version_refused`.
        """
        async with self._db.begin(lasting=True) as connection:
            await names.lock(connection)
            form = (await versions.find(connection, agent_id, number)).form()
            known = await rows.find(connection, agent_id)
            note = Note(author, f"rolled back to {label_of(number)}")
            return await self._put(connection, agent_id, content(form), known, note)

    async def _known(self, connection: AsyncConnection, agent_id: str) -> Agent:
        """The agent, which nobody else changes until the end of the transaction."""
        await names.lock(connection)
        known = await rows.find(connection, agent_id) if storable(agent_id) else None
        if known is None:
            raise StoreError(
                f"There is no agent {one_line(agent_id, 64)!r}.",
                code="agent_not_found",
                status=404,
                hint="If it was deleted, its history can bring it back.",
            )
        return known

    async def _change(
        self,
        agent_id: str,
        change: Callable[[Agent], Mapping[str, Any]],
        note: Note,
        expected: int | None = None,
    ) -> Agent:
        async with self._db.begin(lasting=True) as connection:
            known = await self._known(connection, agent_id)
            if expected is not None and expected != known.version:
                raise await versions.stale(connection, agent_id, expected)
            return await self._put(connection, agent_id, change(known), known, note)

    async def _put(
        self,
        connection: AsyncConnection,
        agent_id: str,
        values: Mapping[str, Any],
        known: Agent | None,
        note: Note,
    ) -> Agent:
        digest = json_hash(values)
        if known is not None and known.content_hash == digest:
            return known
        if values["enabled"] and not (known and known.enabled):
            await names.refuse_persona(connection, agent_id)
        number = await self._record(connection, agent_id, values, digest, note)
        derived = {"search": searched(agent_id, values), "version": number, "content_hash": digest}
        await rows.put(connection, known, agent_id, **values, **derived)
        await revisions.bump(connection, AGENTS_REVISION)
        saved = await rows.find(connection, agent_id)
        assert saved is not None
        return saved

    async def _record(
        self,
        connection: AsyncConnection,
        agent_id: str,
        values: Mapping[str, Any],
        digest: str,
        note: Note,
    ) -> int:
        return await versions.record(
            connection, agent_id, values, digest, note, history_limit=self._history_limit
        )


@dataclass(frozen=True, slots=True)
class _Page:
    version: int = 0
    ordered: tuple[Agent, ...] = ()
    by_id: dict[str, Agent] = field(default_factory=dict)


class AgentBook:
    """The enabled agents as of the last `load` or `refresh`, for the path of every turn; empty before.

    Reading is synchronous, without IO, and safe from any thread: a reload puts a whole new page in place.
    """

    def __init__(self) -> None:
        self._page = _Page()
        self._refreshing = asyncio.Lock()  # of two at a time, the slower one would bring the older page

    def get(self, agent_id: str) -> Agent | None:
        """The enabled agent with this id."""
        return self._page.by_id.get(agent_id)

    def all(self) -> tuple[Agent, ...]:
        """The enabled agents by name."""
        return self._page.ordered

    @property
    def version(self) -> int:
        """Revision of the store that the book shows; usable as a key of caches."""
        return self._page.version

    async def load(self, store: AgentStore) -> None:
        """Read what the book does not know yet.

        Raises:
            StoreError: the database failed; the book stays as it was.
        """
        # The number first: a write in between leaves the book marked older than it is, never newer.
        revision = await store.revision()
        numbers = await store.enabled()
        by_id = {
            agent_id: agent
            for agent_id, agent in self._page.by_id.items()
            if numbers.get(agent_id) == agent.version
        }
        new = await store.some([agent_id for agent_id in numbers if agent_id not in by_id])
        by_id |= {agent.id: agent for agent in new if agent.enabled}
        self._page = _Page(revision, tuple(sorted(by_id.values(), key=_by_name)), by_id)

    async def refresh(self, store: AgentStore) -> bool:
        """Load if the store changed since; True if it did.

        Raises:
            StoreError: the database failed; the book stays as it was.
        """
        async with self._refreshing:
            if await store.revision() == self.version:
                return False
            await self.load(store)
        return True


def _by_name(agent: Agent) -> tuple[str, str]:
    return agent.name.casefold(), agent.id
