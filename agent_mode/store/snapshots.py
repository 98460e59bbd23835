"""Snapshots of suspended runs: what a run needs to go on in another process."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, or_, select, update

from agent_mode.errors import StoreError
from agent_mode.store.db import Database
from agent_mode.store.failures import DATA_REFUSED
from agent_mode.store.session_records import storable
from agent_mode.store.tables import snapshot as table

SIZE_LIMIT = 4 * 1024 * 1024
"""Largest state in bytes of JSON."""
CLAIM_SECONDS = 30.0
"""How long a claim holds that is not renewed: its process has died."""


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
        self._claimed: set[str] = set()

    async def put(
        self, run_id: str, agent: str, user_id: str | None, chat_id: str | None, state: dict[str, Any]
    ) -> None:
        """Keep the state, in place of an earlier one of this run, for whoever resumes it next.

        It is in the database on return.

        Raises:
            StoreError: code `snapshot_refused`: the state is no JSON or too large, or the run another user's.
        """
        if not all(storable(text) for text in (run_id, agent, user_id, chat_id) if text is not None):
            raise StoreError("An id of the run cannot be stored.", code=DATA_REFUSED)
        await asyncio.to_thread(_check, state)
        self._claimed.discard(run_id)
        row = Snapshot(run_id, agent, user_id, chat_id, datetime.now(UTC), state)
        values = {name: getattr(row, name) for name in Snapshot.__slots__}
        statement = self._db.insert(table).values(values)
        changes = {name: statement.excluded[name] for name in values if name != "run_id"}
        changes["claimed_until"] = None
        same_user = table.c.user_id.is_not_distinct_from(statement.excluded.user_id)
        statement = statement.on_conflict_do_update(index_elements=["run_id"], set_=changes, where=same_user)
        async with self._db.begin() as connection:
            kept = (await connection.execute(statement)).rowcount
        if not kept:
            raise StoreError(
                "The state of a run of another user is not written over.",
                code="snapshot_refused",
                hint="Ask again; that begins a run of its own.",
            )

    async def take(self, run_id: str) -> Snapshot | None:
        """The snapshot of the run. It stays until it is dropped: whoever resumes may die before the end."""
        if not storable(run_id):
            return None
        async with self._db.read() as connection:
            columns = [table.c[name] for name in Snapshot.__slots__]
            query = select(*columns).where(table.c.run_id == run_id)
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else Snapshot(**row._mapping)

    async def claim(self, run_id: str) -> bool:
        """Be the only one who resumes the run, until `put`, `release` or `drop`; False if another is.

        A claim is to be renewed, so that it ends with its process.
        """
        now = datetime.now(UTC)
        free = or_(table.c.claimed_until.is_(None), table.c.claimed_until < now)
        change = update(table).where(table.c.run_id == run_id, free)
        until = now + timedelta(seconds=CLAIM_SECONDS)
        async with self._db.begin() as connection:
            claimed = (await connection.execute(change.values(claimed_until=until))).rowcount == 1
        if claimed:
            self._claimed.add(run_id)
        return claimed

    async def renew(self) -> None:
        """Renew all claims of this process."""
        if not self._claimed:
            return
        until = datetime.now(UTC) + timedelta(seconds=CLAIM_SECONDS)
        change = update(table).where(table.c.run_id.in_(sorted(self._claimed)))
        async with self._db.begin() as connection:
            await connection.execute(change.values(claimed_until=until))

    async def release(self, run_id: str) -> None:
        """Let others resume the run from what is stored."""
        self._claimed.discard(run_id)
        change = update(table).where(table.c.run_id == run_id).values(claimed_until=None)
        async with self._db.begin() as connection:
            await connection.execute(change)

    async def release_all(self) -> None:
        """Forget every claim, whoever has it; for the start of the only process."""
        async with self._db.begin() as connection:
            await connection.execute(update(table).values(claimed_until=None))

    async def drop(self, run_id: str) -> None:
        """Forget the snapshot, if there is one."""
        self._claimed.discard(run_id)
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
