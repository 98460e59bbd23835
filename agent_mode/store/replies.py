"""What each of several models side by side answered: memory first, the database behind it.

Open WebUI sends all of them the one branch that is shown, so a model's own earlier words are kept here. Texts
are kept of such chats alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, func, select

from agent_mode.errors import StoreError
from agent_mode.store.db import Database
from agent_mode.store.session_records import is_owner, is_temporary, owners, storable
from agent_mode.store.sessions import LOOKUP_SECONDS
from agent_mode.store.tables import reply as table
from agent_mode.store.write_behind import Outage, WriteBehind

log = logging.getLogger(__name__)

TEXT_LIMIT = 20_000
"""Characters kept of one answer; a longer one is cut."""
CHAT_LIMIT = 400
"""Answers read of one chat, the newest."""
MEMORY_CHATS = 2_000
MEMORY_CHARACTERS = 16_000_000
CUT = "\n\n[…]"


@dataclass(frozen=True, slots=True)
class Reply:
    """One assistant message of a chat with several models.

    Attributes:
        message_id: the assistant message.
        chat_id: its chat.
        user_message_id: the message that it answers.
        parent_id: the assistant message above that one; None at the root.
        place: number of the model among those side by side, from 1; 0 if it was asked alone.
        model: the model that was picked there.
        text: what it said; None while that is not known.
        at: when it was asked; aware.
        owner: whose chat it is; the empty one is of the time before replies had one.
    """

    message_id: str
    chat_id: str
    user_message_id: str
    parent_id: str | None
    place: int
    model: str
    text: str | None
    at: datetime
    owner: str = ""


_Place = tuple[str, str]
"""The id of a chat or a message, and whose it is."""


class Thread:
    """The replies of one chat, as its owner is shown them.

    Attributes:
        complete: whether the database was asked for those that it knows.
        size: characters of all texts.
    """

    def __init__(self) -> None:
        self.complete = False
        self.size = 0
        self._by_id: dict[str, Reply] = {}
        self._by_question: dict[str, list[str]] = {}

    def get(self, message_id: str | None) -> Reply | None:
        """The reply with this id."""
        return self._by_id.get(message_id) if message_id is not None else None

    def answers(self, user_message_id: str) -> list[Reply]:
        """All replies to one user message."""
        return [self._by_id[message_id] for message_id in self._by_question.get(user_message_id, ())]

    def ids(self) -> Iterable[str]:
        return self._by_id

    def put(self, reply: Reply) -> None:
        known = self._by_id.get(reply.message_id)
        if known is None:
            self._by_question.setdefault(reply.user_message_id, []).append(reply.message_id)
        self.size += len(reply.text or "") - len((known and known.text) or "")
        self._by_id[reply.message_id] = reply


class ReplyStore:
    """Remembers replies. Use it on the event loop of its database; nothing but `prune` raises."""

    def __init__(self, db: Database, *, flush_seconds: float = 0.2) -> None:
        self._db = db
        self._outage = Outage()
        self._writer: WriteBehind[_Place, Reply] = WriteBehind(
            self._write, _place_of, noun="reply", limit=5_000, pause=flush_seconds
        )
        self._threads: OrderedDict[_Place, Thread] = OrderedDict()
        self._chat_of: dict[_Place, str] = {}
        self._size = 0

    def knows(self, message_id: str | None, owner: str = "") -> bool:
        """Whether the owner's message is in memory, as one of a chat with several models."""
        return message_id is not None and (message_id, owner) in self._chat_of

    def begin(self, reply: Reply) -> None:
        """Notes that a reply is about to be written; what is known of its text stays."""
        ids = (reply.message_id, reply.chat_id, reply.user_message_id, reply.model)
        if not all(map(storable, ids)) or (reply.parent_id is not None and not storable(reply.parent_id)):
            return
        if not is_owner(reply.owner):
            return
        known = self._thread(reply.chat_id, reply.owner).get(reply.message_id)
        if known is None:
            self._keep(reply)

    async def expects(self, message_id: str, owner: str = "") -> bool:
        """Whether `said` would note this message's text: `begin` was told of it, as of one of several."""
        known = await self._known(message_id, owner)
        return known is not None and known.place != 0

    async def said(self, message_id: str, text: str, owner: str = "") -> None:
        """Notes what a reply says; nothing for messages that `begin` was not told of, or asked alone."""
        known = await self._known(message_id, owner)
        if known is None or known.place == 0 or not text.strip():
            return
        try:
            text.encode()
        except UnicodeEncodeError:  # half a character, which no database takes
            text = text.encode(errors="replace").decode()
        text = text.replace("\0", "")
        text = text if len(text) <= TEXT_LIMIT else text[:TEXT_LIMIT] + CUT
        if text != known.text:
            self._keep(replace(known, text=text))

    async def thread(self, chat_id: str, owner: str = "") -> Thread:
        """The owner's replies in the chat; from memory alone while the database is away."""
        thread = self._thread(chat_id, owner)
        if is_temporary(chat_id) or not storable(chat_id) or (thread.complete and not self._db.shared):
            return thread
        if self._outage.wait:
            return thread
        theirs = (table.c.chat_id == chat_id, table.c.owner.in_(owners(owner)))
        query = select(table).where(*theirs).order_by(table.c.at.desc()).limit(CHAT_LIMIT)
        try:
            async with asyncio.timeout(LOOKUP_SECONDS), self._db.read() as connection:
                rows = (await connection.execute(query)).all()
        except (StoreError, TimeoutError) as error:
            if self._outage.failed():
                log.info("Replies side by side are looked up in memory alone for now. %s", error)
            return thread
        self._outage.worked()
        for row in reversed(rows):
            reply = self._writer.get((row.message_id, owner)) or replace(Reply(**row._mapping), owner=owner)
            known = thread.get(reply.message_id)
            if known is None or known.text is None:
                self._remember(reply)
        thread.complete = True
        return thread

    async def start(self) -> None:
        """Start to write in the background."""
        await self._writer.start()

    async def flush(self) -> None:
        """Write what waits now; when that fails, it stays for the next attempt."""
        await self._writer.flush()

    async def close(self) -> None:
        """Write what waits and stop; the database stays open."""
        await self._writer.close()

    async def prune(self, days: int) -> int:
        """Forget what is older than so many days; returns how many rows went.

        Raises:
            ValueError: `days` is negative.
            StoreError: the database failed; nothing was deleted.
        """
        if days < 0:
            raise ValueError("days must not be negative")
        await self.flush()
        oldest = datetime.now(UTC) - timedelta(days=days)
        async with self._db.begin() as connection:
            gone = await connection.execute(delete(table).where(table.c.at < oldest))
        for place, thread in list(self._threads.items()):
            if any(reply.at < oldest for message_id in thread.ids() if (reply := thread.get(message_id))):
                self._forget(place)
        return gone.rowcount

    def _keep(self, reply: Reply) -> None:
        self._remember(reply)
        if not is_temporary(reply.chat_id):
            self._writer.put(reply)

    def _remember(self, reply: Reply) -> None:
        thread = self._thread(reply.chat_id, reply.owner)
        before = thread.size
        thread.put(reply)
        self._chat_of[_place_of(reply)] = reply.chat_id
        self._size += thread.size - before
        while len(self._threads) > 1 and (
            len(self._threads) > MEMORY_CHATS or self._size > MEMORY_CHARACTERS
        ):
            self._forget(next(iter(self._threads)))

    def _thread(self, chat_id: str, owner: str) -> Thread:
        thread = self._threads.setdefault((chat_id, owner), Thread())
        self._threads.move_to_end((chat_id, owner))
        return thread

    def _forget(self, place: _Place) -> None:
        thread = self._threads.pop(place)
        self._size -= thread.size
        for message_id in thread.ids():
            self._chat_of.pop((message_id, place[1]), None)

    async def _known(self, message_id: str, owner: str) -> Reply | None:
        chat_id = self._chat_of.get((message_id, owner))
        if chat_id is not None:
            return self._threads[chat_id, owner].get(message_id)
        # It may have begun in another process.
        sound = storable(message_id) and is_owner(owner)
        if not self._db.shared or not sound or self._outage.wait:
            return None
        try:
            async with asyncio.timeout(LOOKUP_SECONDS), self._db.read() as connection:
                query = select(table).where(table.c.message_id == message_id, table.c.owner == owner)
                row = (await connection.execute(query)).one_or_none()
        except (StoreError, TimeoutError):
            self._outage.failed()
            return None
        self._outage.worked()
        return Reply(**row._mapping) if row is not None else None

    async def _write(self, replies: Sequence[Reply]) -> None:
        # Sorted, so that two processes that write the same rows take their locks in the same order.
        rows = [asdict(reply) for reply in sorted(replies, key=_place_of)]
        statement = self._db.insert(table)
        # One process may begin again what another one has the text of.
        text = func.coalesce(statement.excluded.text, table.c.text)
        statement = statement.on_conflict_do_update(
            index_elements=["message_id", "owner"], set_={"text": text}
        )
        async with self._db.begin() as connection:
            await connection.execute(statement, rows)


def _place_of(reply: Reply) -> _Place:
    return reply.message_id, reply.owner
