"""What each user set in the chat: memory first, the database behind it."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, update

from agent_mode.errors import StoreError
from agent_mode.store.db import Database
from agent_mode.store.memory import Recent
from agent_mode.store.session_records import storable
from agent_mode.store.sessions import LOOKUP_SECONDS
from agent_mode.store.tables import user_settings as table
from agent_mode.store.write_behind import Outage

log = logging.getLogger(__name__)

_MEMORY = 20_000
BELIEVED_SECONDS = 5.0
"""For how long memory is believed where other processes serve the same users."""


@dataclass(frozen=True, slots=True)
class UserSettings:
    """One user's settings; None: as the valves say.

    Attributes:
        persistence: whether the last persona also opens new chats.
        info: whether the answer says who is speaking.
        prefix: what a command begins with.
        persona: key of the last persona that was called; None after `!reset`.
    """

    persistence: bool | None = None
    info: bool | None = None
    prefix: str | None = None
    persona: str | None = None


@dataclass(slots=True)
class _Queue:
    """One user's changes that wait to be written, in the order in which they were made."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    changes: list[dict[str, Any]] = field(default_factory=list)


NOTHING_SET = UserSettings()
_NAMES = frozenset(each.name for each in fields(UserSettings))


class UserStore:
    """Reads and writes settings. Use it on the event loop of its database; reading never raises."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: Recent[str, tuple[float, UserSettings]] = Recent(_MEMORY)
        self._outage = Outage()
        self._queues: dict[str, _Queue] = {}

    async def get(self, user_id: str | None) -> UserSettings:
        """The user's settings; what nobody set is None. While the database is away, memory alone tells."""
        if user_id is None or not storable(user_id):
            return NOTHING_SET
        known = self._known.get(user_id)
        if known is not None and not self._is_old(known[0]):
            return known[1]
        remembered = known[1] if known is not None else NOTHING_SET
        if self._outage.wait:
            return remembered
        try:
            async with asyncio.timeout(LOOKUP_SECONDS), self._db.read() as connection:
                query = select(table.c.settings).where(table.c.user_id == user_id)
                row = (await connection.execute(query)).scalar_one_or_none()
        except (StoreError, TimeoutError) as error:
            if self._outage.failed():
                log.info("User settings cannot be read for now. %s", error)
            return remembered
        self._outage.worked()
        newer = self._known.get(user_id)
        if newer is not None and newer is not known:
            return newer[1]  # set here while the database was asked
        settings = _from_json(row)
        self._remember(user_id, settings)
        return settings

    async def put(self, user_id: str, settings: UserSettings) -> None:
        """Keeps the settings, all of them: in memory at once, then in the database.

        Raises:
            StoreError: the database failed; they hold here, until the database is believed again.
        """
        if storable(user_id):
            self._remember(user_id, settings)
            await self.change(user_id, **asdict(settings))

    async def change(self, user_id: str, **changes: Any) -> UserSettings:
        """Changes some settings; the others stay as they are in the database, whichever process set them.

        Returns:
            All settings of the user.

        Raises:
            StoreError: the database failed; what changed holds here, until the database is believed again.
        """
        if not storable(user_id):
            return NOTHING_SET
        known = self._known.get(user_id)
        if known is not None:
            self._remember(user_id, replace(known[1], **changes))
        queue = self._queues.setdefault(user_id, _Queue())
        queue.changes.append(changes)
        try:
            async with queue.turn:
                settings = await self._write(user_id, changes)
        finally:
            queue.changes.remove(changes)
            if not queue.changes:
                del self._queues[user_id]
        for later in queue.changes:  # they hold already, and are written next
            settings = replace(settings, **later)
        self._remember(user_id, settings)
        return settings

    async def _write(self, user_id: str, changes: dict[str, Any]) -> UserSettings:
        mine = table.c.user_id == user_id
        async with self._db.begin() as connection:
            empty = self._db.insert(table).values(_row(user_id, NOTHING_SET))
            await connection.execute(empty.on_conflict_do_nothing(index_elements=["user_id"]))
            found = await connection.execute(select(table.c.settings).where(mine).with_for_update())
            settings = replace(_from_json(found.scalar_one()), **changes)
            await connection.execute(update(table).where(mine).values(_row(user_id, settings)))
        return settings

    def _remember(self, user_id: str, settings: UserSettings) -> None:
        self._known.put(user_id, (time.monotonic(), settings))

    def _is_old(self, at: float) -> bool:
        return self._db.shared and time.monotonic() - at > BELIEVED_SECONDS


def _row(user_id: str, settings: UserSettings) -> dict[str, Any]:
    return {"user_id": user_id, "settings": asdict(settings), "updated_at": datetime.now(UTC)}


def _from_json(data: Any) -> UserSettings:
    if not isinstance(data, dict):
        return NOTHING_SET
    return UserSettings(**{name: value for name, value in data.items() if name in _NAMES})
