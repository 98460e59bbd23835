"""Requests to stop a run that goes on in another process: written by one, heeded by all within a second."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, select

from agent_mode.store import revisions
from agent_mode.store.db import Database
from agent_mode.store.session_records import storable
from agent_mode.store.tables import RUN_STOPS_REVISION
from agent_mode.store.tables import run_stop as table

KEEP_HOURS = 1.0
"""How long a request is kept; every process that goes on has seen it long before."""


class StopStore:
    """Writes and reads the requests. All methods raise `StoreError` when the database fails."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._seen = 0

    async def start(self) -> None:
        """What was asked before this process began does not concern it."""
        async with self._db.read() as connection:
            self._seen = await revisions.number(connection, RUN_STOPS_REVISION)

    async def ask(self, run_id: str) -> None:
        """Ask whichever process runs it to stop this run."""
        if not storable(run_id):
            return
        now = datetime.now(UTC)
        async with self._db.begin() as connection:
            await revisions.lock(connection, RUN_STOPS_REVISION)
            await revisions.bump(connection, RUN_STOPS_REVISION)
            number = await revisions.number(connection, RUN_STOPS_REVISION)
            await connection.execute(delete(table).where(table.c.at < now - timedelta(hours=KEEP_HOURS)))
            statement = self._db.insert(table).values(run_id=run_id, number=number, at=now)
            changes = {"number": number, "at": now}
            await connection.execute(statement.on_conflict_do_update(index_elements=["run_id"], set_=changes))

    async def asked(self) -> list[str]:
        """The runs that were asked to stop since the last call."""
        async with self._db.read() as connection:
            number = await revisions.number(connection, RUN_STOPS_REVISION)
            if number == self._seen:
                return []
            query = select(table.c.run_id).where(table.c.number > self._seen, table.c.number <= number)
            found = [row.run_id for row in await connection.execute(query)]
        self._seen = number
        return found
