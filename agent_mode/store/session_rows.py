"""Answers and sessions as rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_mode.store import tables
from agent_mode.store.db import Database
from agent_mode.store.session_records import Answer, Session, Switch


def answer_from(row: Row[Any]) -> Answer:
    """The record of a row of `answer`."""
    return Answer(**row._mapping)


def session_from(row: Row[Any]) -> Session:
    """The record of a row of `session`."""
    session = Session(**row._mapping)
    return replace(session, agent_history=tuple(Switch(**entry) for entry in row.agent_history))


async def write(db: Database, entries: Sequence[Answer | Session]) -> None:
    """Insert or overwrite, all in one transaction.

    Raises:
        StoreError: the database failed; nothing was written.
    """
    async with db.begin() as connection:
        await _upsert_answers(db, connection, [entry for entry in entries if isinstance(entry, Answer)])
        await _upsert_sessions(db, connection, [entry for entry in entries if isinstance(entry, Session)])


async def _upsert_answers(db: Database, connection: AsyncConnection, answers: Iterable[Answer]) -> None:
    # Sorted, so that two processes that write the same rows take their locks in the same order.
    rows = [
        asdict(answer) for answer in sorted(answers, key=lambda answer: (answer.message_id, answer.owner))
    ]
    if not rows:
        return
    statement = db.insert(tables.answer)
    changes = {name: statement.excluded[name] for name in rows[0] if name not in ("message_id", "owner")}
    await connection.execute(
        statement.on_conflict_do_update(index_elements=["message_id", "owner"], set_=changes), rows
    )


async def _upsert_sessions(db: Database, connection: AsyncConnection, sessions: Iterable[Session]) -> None:
    rows = [
        asdict(session) for session in sorted(sessions, key=lambda session: (session.chat_id, session.owner))
    ]
    if not rows:
        return
    statement = db.insert(tables.session)
    changes = {name: statement.excluded[name] for name in rows[0] if name not in ("chat_id", "owner")}
    statement = statement.on_conflict_do_update(
        index_elements=["chat_id", "owner"],
        set_=changes,
        # A write that waited for the database to come back must not undo a newer one.
        where=tables.session.c.updated_at <= statement.excluded.updated_at,
    )
    await connection.execute(statement, rows)
