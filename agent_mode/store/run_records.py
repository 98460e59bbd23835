"""What is kept of each run: who ran, for whom, what it did, and how it ended."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, Row, Select, and_, delete, func, not_, or_, select, update

from agent_mode.store.db import Database
from agent_mode.store.paging import newest
from agent_mode.store.session_records import storable
from agent_mode.store.tables import replica as living
from agent_mode.store.tables import run as table
from agent_mode.store.write_behind import WriteBehind

RunState = Literal["running", "waiting", "done", "failed", "stopped", "abandoned"]
"""`waiting`: suspended on a tool call. `abandoned`: its process died, or nobody came back to it."""

OPEN: tuple[RunState, ...] = ("running", "waiting")
FINAL: tuple[RunState, ...] = ("done", "failed", "stopped")

_columns = [column for column in table.c if column.name != "replica"]
ORDER = (table.c.started_at, table.c.id)

TEXT_LIMIT = 2_000
"""Longest text inside `tool_calls`, `usage` and `error`, in characters; the rest is cut off."""
TRACE_LIMIT = 32_000
LIST_LIMIT = 200
"""Most entries of a list or an object inside them."""
CALLS_LIMIT = 200_000
"""Most characters of JSON in `tool_calls`; the calls after it are left out."""
_DEPTH_LIMIT = 8


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run of one agent."""

    id: str
    agent: str
    agent_type: str
    started_at: datetime
    """Aware."""
    state: RunState = "running"
    parent_id: str | None = None
    """The run that called it."""
    user_id: str | None = None
    chat_id: str | None = None
    message_id: str | None = None
    """The message that it writes."""
    model: str | None = None
    steps: int = 0
    tool_calls: list[dict[str, Any]] = field(default_factory=list, hash=False)
    usage: dict[str, Any] = field(default_factory=dict, hash=False)
    error: dict[str, Any] | None = field(default=None, hash=False)
    trace: str | None = field(default=None, repr=False)
    ended_at: datetime | None = None
    duration_ms: int | None = None


@dataclass(frozen=True, slots=True)
class AgentFigures:
    """When an agent ran last, and how many of its runs have failed lately."""

    last: datetime
    failed: int = 0


class RunStore:
    """Remembers runs. Use it on the event loop of its database.

    Args:
        db: the database.
        replica: id of this process, where several share the database (`replicas`).
        memory_limit: how many records may wait to be written while the database is away.
        flush_seconds: how long writes are collected for one transaction.
    """

    def __init__(
        self,
        db: Database,
        replica: str | None = None,
        *,
        memory_limit: int = 2_000,
        flush_seconds: float = 0.2,
    ) -> None:
        self._db = db
        self._replica = replica
        self._upsert = _upsert(db)
        self._writer: WriteBehind[str, RunRecord] = WriteBehind(
            self._write, lambda record: record.id, noun="run", limit=memory_limit, pause=flush_seconds
        )
        self._running: dict[str, RunRecord] = {}
        """The newest record of each run that goes on in this process."""

    def put(self, record: RunRecord) -> None:
        """Have the record written soon; the last one of a run wins. Returns at once and never raises.

        Long texts are cut, and what no database takes is left out or put into words that it takes. A run
        that is done, failed or stopped stays so.
        """
        if not all(map(storable, (record.id, record.agent, record.agent_type))):
            return
        record = _bounded(record)
        if record.state == "running":
            self._running[record.id] = record
        else:
            self._running.pop(record.id, None)
        self._writer.put(record)

    async def flush(self) -> None:
        """Write what waits now; when that fails, it stays for the next attempt."""
        await self._writer.flush()

    async def start(self) -> None:
        """Start to write in the background."""
        await self._writer.start()

    async def close(self) -> None:
        """Write what waits and stop; the database stays open."""
        await self._writer.close()

    async def get(self, run_id: str) -> RunRecord | None:
        """The record of the run, written or not.

        Raises:
            StoreError: the database failed.
        """
        waiting = self._writer.get(run_id)
        if waiting is not None or not storable(run_id):
            return waiting
        async with self._db.read() as connection:
            row = (await connection.execute(select(*_columns).where(table.c.id == run_id))).one_or_none()
        return None if row is None else _from(row)

    async def children(self, run_id: str) -> list[RunRecord]:
        """The runs that this one called, in the order in which they began.

        Raises:
            StoreError: the database failed.
        """
        if not storable(run_id):
            return []
        await self.flush()
        query = select(*_columns).where(table.c.parent_id == run_id).order_by(table.c.started_at, table.c.id)
        async with self._db.read() as connection:
            return [_from(row) for row in await connection.execute(query)]

    async def figures(self, agents: Sequence[str], since: datetime) -> dict[str, AgentFigures]:
        """When each agent ran last, and how often it failed since a moment; without those that never ran.

        Raises:
            StoreError: the database failed.
        """
        theirs = table.c.agent.in_([agent for agent in agents if storable(agent)])
        # Two questions, each answered from an index: 100,000 runs in a few milliseconds.
        last = select(table.c.agent, func.max(table.c.started_at).label("last")).where(theirs)
        failed = select(table.c.agent, func.count().label("failed")).where(
            table.c.state == "failed", table.c.started_at >= since, theirs
        )
        async with self._db.read() as connection:
            counts = {
                row.agent: row.failed for row in await connection.execute(failed.group_by(table.c.agent))
            }
            return {
                row.agent: AgentFigures(row.last, counts.get(row.agent, 0))
                for row in await connection.execute(last.group_by(table.c.agent))
            }

    async def page(
        self,
        offset: int,
        limit: int,
        agent: str | None = None,
        user_id: str | None = None,
        chat_id: str | None = None,
        state: RunState | None = None,
        since: datetime | None = None,
        parent_id: str | None = None,
    ) -> tuple[list[RunRecord], int]:
        """A part of the runs that fit, the newest first, and how many fit in all.

        Args:
            offset: how many to leave out, at least 0.
            limit: how many to return at most.
            agent: only runs of this agent; likewise the following.
            user_id: for this user.
            chat_id: in this chat.
            state: in this state.
            since: begun then or later; aware.
            parent_id: called by this run; empty: called by none.

        Raises:
            StoreError: the database failed.
        """
        wanted = {"agent": agent, "user_id": user_id, "chat_id": chat_id, "state": state}
        if not all(storable(value) for value in (*wanted.values(), parent_id or None) if value is not None):
            return [], 0
        await self.flush()
        query = query_of(wanted | {"parent_id": parent_id}, since)
        async with self._db.read() as connection:
            found, total = await newest(connection, query, ORDER, offset, limit)
        return [_from(row) for row in found], total

    async def prune(self, days: int) -> int:
        """Forget the runs that began more than so many days ago; returns how many went.

        Raises:
            ValueError: `days` is negative.
            StoreError: the database failed; nothing was deleted.
        """
        if days < 0:
            raise ValueError("days must not be negative")
        await self.flush()
        oldest = datetime.now(UTC) - timedelta(days=days)
        async with self._db.begin() as connection:
            return (await connection.execute(delete(table).where(table.c.started_at < oldest))).rowcount

    async def close_open(
        self, before: datetime, states: Sequence[RunState] = OPEN, state: RunState = "abandoned"
    ) -> int:
        """Close the runs that nobody will close any more; returns how many.

        A run that was alive after all takes its own state again with its next record.

        Args:
            before: only runs that began before; aware.
            states: in which they are.
            state: which they get.

        Raises:
            StoreError: the database failed; nothing was changed.
        """
        await self.flush()
        dead = and_(table.c.state.in_(states), table.c.started_at < before)
        change = update(table).where(dead).values(state=state, ended_at=datetime.now(UTC))
        async with self._db.begin() as connection:
            return (await connection.execute(change)).rowcount

    async def close_lost(self) -> int:
        """Close the runs whose process has died, with all that they called; returns how many.

        As with `close_open`, the next record of a run that was alive after all goes before.

        Raises:
            StoreError: the database failed; nothing was changed.
        """
        orphaned = and_(table.c.replica.is_not(None), table.c.replica.not_in(select(living.c.id)))
        query = select(table.c.id).where(table.c.state == "running", orphaned)
        async with self._db.read() as connection:
            if (await connection.execute(query.limit(1))).first() is None:
                return 0
        change = update(table).values(state="abandoned", ended_at=datetime.now(UTC))
        closed = 0
        async with self._db.begin() as connection:
            # In the order in which records are written.
            found = await connection.execute(query.order_by(table.c.id).with_for_update())
            while ids := found.scalars().all():
                closed += (await connection.execute(change.where(table.c.id.in_(ids)))).rowcount
                called = select(table.c.id).where(table.c.parent_id.in_(ids), table.c.state == "waiting")
                found = await connection.execute(called.order_by(table.c.id).with_for_update())
        return closed

    def reopen(self) -> None:
        """Say once more which runs go on in this process: others took it for dead."""
        for record in self._running.values():
            self._writer.put(record)

    async def _write(self, records: Sequence[RunRecord]) -> None:
        # Sorted, so that two processes that write the same rows take their locks in the same order.
        rows = [
            {name: getattr(record, name) for name in RunRecord.__slots__} | {"replica": self._replica}
            for record in sorted(records, key=lambda record: record.id)
        ]
        async with self._db.begin() as connection:
            await connection.execute(self._upsert, rows)


def query_of(wanted: dict[str, str | None], since: datetime | None = None) -> Select[Any]:
    """The runs with these values; None fits all, an empty text those without a value."""
    query = select(*_columns)
    for name, value in wanted.items():
        if value is not None:
            query = query.where(table.c[name] == value if value else table.c[name].is_(None))
    return query if since is None else query.where(table.c.started_at >= since)


def _upsert(db: Database) -> Any:
    """The statement that writes records; made once, so that SQLAlchemy compiles it once."""
    statement = db.insert(table)
    names = (*RunRecord.__slots__, "replica")
    changes = {name: statement.excluded[name] for name in names if name != "id"}
    # Two processes may have written to one run: a write that comes late must not reopen it.
    may_change = or_(not_(_is_final(table.c.state)), _is_final(statement.excluded.state))
    return statement.on_conflict_do_update(index_elements=["id"], set_=changes, where=may_change)


def _is_final(state: ColumnElement[str]) -> ColumnElement[bool]:
    return or_(*(state == final for final in FINAL))  # IN cannot be used for many rows at once


def _from(row: Row[Any]) -> RunRecord:
    return RunRecord(**row._mapping)


def _bounded(record: RunRecord) -> RunRecord:
    """A copy that nobody else can change, of bounded size, and that every database takes."""
    return replace(
        record,
        **{
            name: _id_or_none(getattr(record, name))
            for name in ("parent_id", "user_id", "chat_id", "message_id")
        },
        model=None if record.model is None else _text(record.model, TEXT_LIMIT),
        trace=None if record.trace is None else _text(record.trace, TRACE_LIMIT),
        tool_calls=_calls(record.tool_calls),
        usage=_json(record.usage),
        error=_json(record.error),
    )


def _calls(calls: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    room = CALLS_LIMIT
    for call in _json(calls):
        room -= len(json.dumps(call))
        if room < 0:
            break
        kept.append(call)
    return kept


def _json(value: Any, depth: int = 0) -> Any:
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case str():
            return _text(value, TEXT_LIMIT)
        case dict() if depth < _DEPTH_LIMIT:
            entries = list(value.items())[:LIST_LIMIT]
            return {_text(str(name), TEXT_LIMIT): _json(inner, depth + 1) for name, inner in entries}
        case list() | tuple() if depth < _DEPTH_LIMIT:
            return [_json(inner, depth + 1) for inner in value[:LIST_LIMIT]]
        case _:
            return _text(str(value), TEXT_LIMIT)


def _text(text: str, limit: int) -> str:
    text = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return text.replace("\0", "").encode(errors="replace").decode()


def _id_or_none(text: str | None) -> str | None:
    return text if text is not None and storable(text) else None
