"""Who answered what, and each chat's session: memory first, the database behind it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Row, Select, delete, select

from agent_mode.errors import StoreError
from agent_mode.store.db import Database
from agent_mode.store.memory import Recent
from agent_mode.store.session_records import (
    STRANGER,
    Answer,
    Session,
    Switch,
    is_owner,
    is_temporary,
    owners,
    storable,
)
from agent_mode.store.session_rows import answer_from, session_from, write
from agent_mode.store.tables import answer as answers
from agent_mode.store.tables import session as sessions
from agent_mode.store.write_behind import Outage, WriteBehind

__all__ = ["STRANGER", "Answer", "Session", "SessionStore", "Switch"]

log = logging.getLogger(__name__)

_Entry = TypeVar("_Entry", Answer, Session)

LOOKUP_SECONDS = 2.0
"""How long a chat waits for the database; after it, memory alone answers. The first lookup of an outage
waits up to twice as long, because the driver then tries to close its connection in good order."""
MISS_SECONDS = 2.0
"""How long "nobody knows this id" is believed without asking the database again."""


class SessionStore:
    """Remembers answers and sessions. Use it on the event loop of its database; nothing but `prune` raises.

    Where other processes may serve the same chats (`Database.shared`), memory alone answers only for
    what cannot change: who wrote a message. While the database is away, memory answers alone.

    Each record has an owner, and nobody is shown another's: an id of a chat may be anybody's words.

    Args:
        memory_limit: how many answers, and how many sessions, are kept in memory.
        flush_seconds: how long writes are collected for one transaction.
        history_limit: how many switches a session keeps, the newest.
    """

    def __init__(
        self,
        db: Database,
        *,
        memory_limit: int = 20_000,
        flush_seconds: float = 0.2,
        history_limit: int = 200,
    ) -> None:
        self._db = db
        self._history_limit = history_limit
        self._outage = Outage()  # of lookups: a full disk, for example, stops writes alone
        self._writer: WriteBehind[tuple[type, str, str], Answer | Session] = WriteBehind(
            partial(write, db), _place, noun="session", limit=memory_limit, pause=flush_seconds
        )
        self._answers: Recent[tuple[str, str], Answer] = Recent(memory_limit)
        self._siblings: Recent[tuple[str, str, str], Answer] = Recent(memory_limit)
        self._sessions: Recent[tuple[str, str], Session] = Recent(memory_limit)
        self._misses: Recent[tuple[str, ...], float] = Recent(memory_limit)

    async def answer(self, message_id: str | None, owner: str = "") -> Answer | None:
        """Who wrote the owner's assistant message; None if it was none of our agents, or for None."""
        if message_id is None or not _sound(message_id) or not is_owner(owner):
            return None
        known = self._answers.get((message_id, owner)) or self._waiting(Answer, message_id, owner)
        if known is not None:
            return known
        query = (
            select(answers)
            .where(answers.c.message_id == message_id, answers.c.owner.in_(owners(owner)))
            .order_by(answers.c.owner.desc())  # their own before one of nobody
            .limit(1)
        )
        row = await self._one(query, "answer", message_id, owner)
        if row is None:
            return None
        self._answers.put((message_id, owner), found := answer_from(row))
        return found

    async def sibling(self, user_message_id: str, ui_agent: str, owner: str = "") -> Answer | None:
        """The newest answer to the owner's message that came by this model of the interface."""
        if not (_sound(user_message_id, ui_agent) and is_owner(owner)):
            return None
        known = self._siblings.get((user_message_id, ui_agent, owner))
        if known is not None and not self._db.shared:
            return known
        query = (
            select(answers)
            .where(
                answers.c.user_message_id == user_message_id,
                answers.c.ui_agent == ui_agent,
                answers.c.owner.in_(owners(owner)),
            )
            .order_by(answers.c.at.desc(), answers.c.message_id.desc())
            .limit(1)
        )
        row = await self._one(query, "sibling", user_message_id, ui_agent, owner)
        if row is not None:
            self._keep_newest((user_message_id, ui_agent, owner), answer_from(row))
        return self._siblings.get((user_message_id, ui_agent, owner))

    async def session(self, chat_id: str, owner: str = "") -> Session | None:
        """The owner's session of the chat."""
        if not (_sound(chat_id) and is_owner(owner)):
            return None
        known = self._waiting(Session, chat_id, owner) or self._sessions.get((chat_id, owner))
        if is_temporary(chat_id) or (known is not None and not self._db.shared):
            return known
        query = (
            select(sessions)
            .where(sessions.c.chat_id == chat_id, sessions.c.owner.in_(owners(owner)))
            .order_by(sessions.c.owner.desc())
            .limit(1)
        )
        row = await self._one(query, "session", chat_id, owner)
        waiting = self._waiting(Session, chat_id, owner)
        if row is None or waiting is not None:
            return waiting or known
        self._sessions.put((chat_id, owner), found := session_from(row))
        return found

    def remember(self, answer: Answer | None, session: Session | None = None) -> None:
        """Note an answer and the state of its chat: in memory at once, in the database soon.

        What bears an id that no database takes is ignored: Open WebUI makes no such ids.
        """
        if answer is not None:
            self._remember_answer(answer)
        if session is not None:
            self._remember_session(session)

    async def flush(self) -> None:
        """Write what waits now; when that fails, it stays for the next attempt."""
        await self._writer.flush()

    async def start(self) -> None:
        """Start to write in the background."""
        await self._writer.start()

    async def close(self) -> None:
        """Write what waits and stop; the database stays open."""
        await self._writer.close()

    async def prune(self, days: int) -> int:
        """Forget the answers and sessions that are older than so many days; returns how many rows went.

        Raises:
            ValueError: `days` is negative.
            StoreError: the database failed; nothing was deleted.
        """
        if days < 0:
            raise ValueError("days must not be negative")
        await self.flush()
        oldest = datetime.now(UTC) - timedelta(days=days)
        async with self._db.begin() as connection:
            old_answers = await connection.execute(delete(answers).where(answers.c.at < oldest))
            old_sessions = await connection.execute(delete(sessions).where(sessions.c.updated_at < oldest))
        self._answers.drop_where(lambda answer: answer.at < oldest)
        self._siblings.drop_where(lambda answer: answer.at < oldest)
        self._sessions.drop_where(lambda session: session.updated_at < oldest)
        return old_answers.rowcount + old_sessions.rowcount

    def _waiting(self, kind: type[_Entry], entry_id: str, owner: str) -> _Entry | None:
        """What still waits to be written."""
        entry = self._writer.get((kind, entry_id, owner))
        return entry if isinstance(entry, kind) else None

    def _remember_answer(self, answer: Answer) -> None:
        ids = (answer.message_id, answer.chat_id, answer.agent, answer.ui_agent)
        if _sound(*ids) and is_owner(answer.owner):
            answer = replace(
                answer, user_message_id=_or_none(answer.user_message_id), voice=_or_none(answer.voice)
            )
            self._answers.put((answer.message_id, answer.owner), answer)
            self._misses.drop(("answer", answer.message_id, answer.owner))
            if answer.user_message_id is not None:
                self._keep_newest((answer.user_message_id, answer.ui_agent, answer.owner), answer)
            if not is_temporary(answer.chat_id):
                self._writer.put(answer)

    def _remember_session(self, session: Session) -> None:
        ids = (session.chat_id, session.active_agent, session.ui_agent)
        if _sound(*ids) and is_owner(session.owner):
            session = replace(session, agent_history=session.agent_history[-self._history_limit :])
            self._sessions.put((session.chat_id, session.owner), session)
            self._misses.drop(("session", session.chat_id, session.owner))
            if not is_temporary(session.chat_id):
                self._writer.put(session)

    def _keep_newest(self, place: tuple[str, str, str], answer: Answer) -> None:
        newest = self._siblings.get(place)
        if newest is None or newest.at <= answer.at:
            self._siblings.put(place, answer)
        self._misses.drop(("sibling", *place))

    async def _one(self, query: Select[Any], *place: str) -> Row[Any] | None:
        """The row, or None: there is none, there was none a moment ago, or the database is away."""
        missed_at = self._misses.get(place)
        if self._outage.wait or (missed_at is not None and time.monotonic() - missed_at < MISS_SECONDS):
            return None
        try:
            async with asyncio.timeout(LOOKUP_SECONDS), self._db.read() as connection:
                rows: Sequence[Row[Any]] = (await connection.execute(query)).all()
        except (StoreError, TimeoutError) as error:
            if self._outage.failed():
                log.info(
                    "Sessions are looked up in memory alone for now. %s", str(error) or "No answer in time."
                )
            return None
        self._outage.worked()
        if rows:
            return rows[0]
        self._misses.put(place, time.monotonic())
        return None


def _place(entry: Answer | Session) -> tuple[type, str, str]:
    return type(entry), entry.message_id if isinstance(entry, Answer) else entry.chat_id, entry.owner


def _sound(*ids: str) -> bool:
    return all(map(storable, ids))


def _or_none(text: str | None) -> str | None:
    return text if text is not None and storable(text) else None
