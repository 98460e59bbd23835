"""What was changed: by whom, what, when, by which way. Each entry is a line in the log as well."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Literal

from sqlalchemy import Row, delete, or_, select

from agent_mode.observe.logs import get_logger
from agent_mode.store.db import Database
from agent_mode.store.paging import newest
from agent_mode.store.tables import audit_record as table
from agent_mode.store.write_behind import WriteBehind

log = get_logger(__name__)

TEXT_LIMIT = 500
"""Longest name, target and text in characters; the rest is cut off."""
_WORD_LIMIT = 64

Way = Literal["page", "api", "chat", "Pipelines tab", "command line"]
"""How something was done. The Pipelines tab is Open WebUI's, which does not say which admin it was."""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One thing that one person did."""

    id: str
    at: datetime
    """Aware."""
    actor: str
    """Who: an e-mail address, or what was signed in with."""
    action: str
    """A verb in the past: `created`, `saved`, `deleted`, `signed in`, …"""
    kind: str
    """Of what kind the target is: `agent`, `persona`, `valves`, `run`, `session`, …"""
    target: str = ""
    """Its id."""
    text: str = ""
    """More about it."""
    way: str = "page"


class AuditStore:
    """Remembers what people did. Use it on the event loop of its database.

    Args:
        db: the database.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._writer: WriteBehind[str, AuditRecord] = WriteBehind(
            partial(_write, db), lambda record: record.id, noun="audit", limit=2_000, pause=0.2
        )

    def put(
        self, actor: str, action: str, kind: str, target: str = "", text: str = "", *, way: Way = "page"
    ) -> None:
        """Have it recorded. Returns at once and never raises.

        Args:
            actor: who.
            action: what was done, as a verb in the past.
            kind: to what kind of thing.
            target: its id.
            text: more about it; never a secret, never what was said in a chat.
            way: how.
        """
        record = AuditRecord(
            id=secrets.token_hex(12),
            at=datetime.now(UTC),
            actor=_cut(actor),
            action=_cut(action, _WORD_LIMIT),
            kind=_cut(kind, _WORD_LIMIT),
            target=_cut(target),
            text=_cut(text),
            way=way,
        )
        self._writer.put(record)
        log.info(
            "recorded",
            actor=record.actor,
            action=record.action,
            kind=kind,
            target=record.target,
            way=way,
        )

    async def start(self) -> None:
        """Start to write in the background."""
        await self._writer.start()

    async def close(self) -> None:
        """Write what waits and stop; the database stays open."""
        await self._writer.close()

    async def page(self, offset: int, limit: int, q: str | None = None) -> tuple[list[AuditRecord], int]:
        """A part of the records, the newest first, and how many there are in all.

        Args:
            offset: how many to leave out.
            limit: how many to return at most.
            q: part of any text in it.

        Raises:
            StoreError: the database failed.
        """
        await self._writer.flush()
        query = select(table)
        if q and "\0" not in q:
            columns = (table.c.actor, table.c.action, table.c.kind, table.c.target, table.c.text, table.c.way)
            query = query.where(or_(*(column.icontains(q, autoescape=True) for column in columns)))
        async with self._db.read() as connection:
            found, total = await newest(connection, query, (table.c.at, table.c.id), offset, limit)
        return [_from(row) for row in found], total

    async def targets(self, action: str, *, hours: float) -> list[str]:
        """The targets of an action in the last so many hours.

        Raises:
            StoreError: the database failed.
        """
        await self._writer.flush()
        since = datetime.now(UTC) - timedelta(hours=hours)
        query = select(table.c.target).where(table.c.action == action, table.c.at >= since)
        async with self._db.read() as connection:
            return list((await connection.execute(query)).scalars())

    async def prune(self, days: int) -> int:
        """Forget what is more than so many days old; returns how many went.

        Raises:
            ValueError: `days` is negative.
            StoreError: the database failed; nothing was deleted.
        """
        if days < 0:
            raise ValueError("days must not be negative")
        await self._writer.flush()
        oldest = datetime.now(UTC) - timedelta(days=days)
        async with self._db.begin() as connection:
            return (await connection.execute(delete(table).where(table.c.at < oldest))).rowcount


async def _write(db: Database, records: Sequence[AuditRecord]) -> None:
    async with db.begin() as connection:
        await connection.execute(db.insert(table), [asdict(record) for record in records])


def _from(row: Row[Any]) -> AuditRecord:
    return AuditRecord(**row._mapping)


def _cut(text: str, limit: int = TEXT_LIMIT) -> str:
    text = text.replace("\0", "").encode(errors="replace").decode()
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
