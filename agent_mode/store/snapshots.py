"""Snapshots of suspended runs: what a run needs to go on in another process."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, select

from agent_mode.errors import StoreError
from agent_mode.store.db import Database
from agent_mode.store.failures import DATA_REFUSED
from agent_mode.store.session_records import storable
from agent_mode.store.tables import snapshot as table

SIZE_LIMIT = 4 * 1024 * 1024
"""Largest state in bytes of JSON."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run as it was when it was suspended."""

    run_id: str
    agent: str
    user_id: str | None
    chat_id: str | None
    created_at: datetime
    """Aware, in UTC."""
    state: dict[str, Any] = field(hash=False, repr=False)


class SnapshotStore:
    """Reads and writes snapshots. All methods raise `StoreError` when the database fails."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def put(
        self, run_id: str, agent: str, user_id: str | None, chat_id: str | None, state: dict[str, Any]
    ) -> None:
        """Keep the state, in place of an earlier one of this run; it is in the database on return.

        Raises:
            StoreError: code `snapshot_refused`: the state is no JSON, or too large.
        """
        if not all(storable(text) for text in (run_id, agent, user_id, chat_id) if text is not None):
            raise StoreError("An id of the run cannot be stored.", code=DATA_REFUSED)
        await asyncio.to_thread(_check, state)
        row = Snapshot(run_id, agent, user_id, chat_id, datetime.now(UTC), state)
        values = {name: getattr(row, name) for name in Snapshot.__slots__}
        statement = self._db.insert(table).values(values)
        changes = {name: statement.excluded[name] for name in values if name != "run_id"}
        async with self._db.begin() as connection:
            await connection.execute(statement.on_conflict_do_update(index_elements=["run_id"], set_=changes))

    async def take(self, run_id: str) -> Snapshot | None:
        """The snapshot of the run. It stays until it is dropped: whoever resumes may die before the end."""
        if not storable(run_id):
            return None
        async with self._db.read() as connection:
            row = (await connection.execute(select(table).where(table.c.run_id == run_id))).one_or_none()
        return None if row is None else Snapshot(**row._mapping)

    async def drop(self, run_id: str) -> None:
        """Forget the snapshot, if there is one."""
        if storable(run_id):
            async with self._db.begin() as connection:
                await connection.execute(delete(table).where(table.c.run_id == run_id))

    async def prune(self, hours: float) -> int:
        """Forget the snapshots that are older than so many hours; returns how many went.

        Raises:
            ValueError: `hours` is negative.
        """
        if hours < 0:
            raise ValueError("hours must not be negative")
        oldest = datetime.now(UTC) - timedelta(hours=hours)
        async with self._db.begin() as connection:
            return (await connection.execute(delete(table).where(table.c.created_at < oldest))).rowcount


def _check(state: dict[str, Any]) -> None:
    try:
        size = len(json.dumps(state, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(
            f"The state of the run cannot be stored: {error}.",
            code="snapshot_refused",
            hint="Keep nothing but JSON in it: objects, lists, texts, finite numbers, true, false, null.",
        ) from error
    if size > SIZE_LIMIT:
        raise StoreError(
            f"The state of the run takes {size / 1024 / 1024:.1f} MiB, more than the "
            f"{SIZE_LIMIT // 1024 // 1024} MiB that can be stored.",
            code="snapshot_refused",
            hint="Keep less in the agent's context, such as ids in place of documents.",
        )
