"""What each user set in the chat: memory first, the database behind it."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

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


NOTHING_SET = UserSettings()
_NAMES = frozenset(field.name for field in fields(UserSettings))


class UserStore:
    """Reads and writes settings. Use it on the event loop of its database; reading never raises."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: Recent[str, tuple[float, UserSettings]] = Recent(_MEMORY)
        self._outage = Outage()

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
        """Keeps the settings: in memory at once, then in the database.

        Raises:
            StoreError: the database failed; they hold here, until the database is believed again.
        """
        if not storable(user_id):
            return
        self._remember(user_id, settings)
        row = {"user_id": user_id, "settings": asdict(settings), "updated_at": datetime.now(UTC)}
        statement = self._db.insert(table).values(row)
        changes = {name: statement.excluded[name] for name in ("settings", "updated_at")}
        async with self._db.begin() as connection:
            await connection.execute(
                statement.on_conflict_do_update(index_elements=["user_id"], set_=changes)
            )

    def _remember(self, user_id: str, settings: UserSettings) -> None:
        self._known.put(user_id, (time.monotonic(), settings))

    def _is_old(self, at: float) -> bool:
        return self._db.shared and time.monotonic() - at > BELIEVED_SECONDS


def _from_json(data: Any) -> UserSettings:
    if not isinstance(data, dict):
        return NOTHING_SET
    return UserSettings(**{name: value for name, value in data.items() if name in _NAMES})
