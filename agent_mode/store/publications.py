"""What was published in Open WebUI: what stood there before, and what was written, so that it can go."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, select

from agent_mode.store.db import Database
from agent_mode.store.tables import ID_LIMIT
from agent_mode.store.tables import publication as table


@dataclass(frozen=True, slots=True)
class Publication:
    """One model that was published.

    Attributes:
        model_id: of the model.
        before: what the record held before; None: there was no record.
        ours: what was written into it.
        author: who published it, or changed it last.
        at: when; aware.
    """

    model_id: str
    before: dict[str, Any] | None
    ours: dict[str, Any]
    author: str
    at: datetime


class PublicationStore:
    """Remembers publications by the address of their Open WebUI. All methods raise `StoreError` when the
    database fails.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    async def all(self, openwebui: str) -> dict[str, Publication]:
        """What is published there, by model."""
        query = select(table).where(table.c.openwebui == _key(openwebui))
        async with self._db.read() as connection:
            rows = (await connection.execute(query)).all()
        return {
            row.model_id: Publication(row.model_id, row.before.get("record"), row.ours, row.author, row.at)
            for row in rows
        }

    async def put(
        self,
        openwebui: str,
        model_id: str,
        before: dict[str, Any] | None,
        ours: dict[str, Any],
        author: str,
    ) -> None:
        """Remembers a publication, in place of an earlier one of the same model."""
        # In an object of its own: databases keep JSON's null and their own null apart, each in its way.
        row = {"before": {"record": before}, "ours": ours, "author": author, "at": datetime.now(UTC)}
        key = {"openwebui": _key(openwebui), "model_id": model_id}
        statement = self._db.insert(table).values(key | row)
        async with self._db.begin(lasting=True) as connection:
            await connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=row))

    async def remove(self, openwebui: str, model_id: str) -> None:
        """Forgets one."""
        chosen = (table.c.openwebui == _key(openwebui)) & (table.c.model_id == model_id)
        async with self._db.begin(lasting=True) as connection:
            await connection.execute(delete(table).where(chosen))


def _key(openwebui: str) -> str:
    return openwebui.rstrip("/")[:ID_LIMIT]
