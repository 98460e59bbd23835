"""Writes of sessions off the user's path, with patience for a database that is away."""

from __future__ import annotations

import asyncio
import logging
import time

from agent_mode.errors import StoreError
from agent_mode.store.db import Database
from agent_mode.store.memory import Recent
from agent_mode.store.session_records import Answer, Session
from agent_mode.store.session_rows import write

log = logging.getLogger(__name__)

BACK_OFF_SECONDS = (1.0, 10.0)
"""Wait after the first failure, doubled by each further one, up to the second number."""


class Outage:
    """Knows whether the database fails and when to try it again."""

    def __init__(self) -> None:
        self._failures = 0
        self._retry_at = 0.0

    @property
    def wait(self) -> float:
        """Seconds until the next attempt; 0 when all is well."""
        return max(0.0, self._retry_at - time.monotonic()) if self._failures else 0.0

    def failed(self) -> bool:
        """Note a failed attempt; True if it is the first since all was well."""
        first = not self._failures
        # Many chats may fail at once; that is still one failure.
        if self.wait == 0.0:
            shortest, longest = BACK_OFF_SECONDS
            self._retry_at = time.monotonic() + min(longest, shortest * 2 ** min(self._failures, 10))
            self._failures += 1
        return first

    def worked(self) -> bool:
        """Note a successful attempt; True if the one before failed."""
        recovered = self._failures > 0
        self._failures = 0
        return recovered


class WriteBehind:
    """Collects entries and writes them in batches; the last entry of each message or chat wins."""

    def __init__(self, db: Database, *, limit: int, pause: float) -> None:
        self._db = db
        self._outage = Outage()
        self._pause = pause
        self._due: Recent[tuple[type, str], Answer | Session] = Recent(limit)
        self._lost = 0
        self._wake = asyncio.Event()
        self._flushing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def put(self, entry: Answer | Session) -> None:
        """Have the entry written soon. When too many wait, the oldest is given up."""
        self._lost += self._due.put(_key(entry), entry)
        self._wake.set()

    def answer(self, message_id: str) -> Answer | None:
        """The answer, if it still waits to be written."""
        entry = self._due.get((Answer, message_id))
        return entry if isinstance(entry, Answer) else None

    def session(self, chat_id: str) -> Session | None:
        """The session, if it still waits to be written."""
        entry = self._due.get((Session, chat_id))
        return entry if isinstance(entry, Session) else None

    async def flush(self) -> None:
        """Write all that waits, in one transaction; on failure it stays and waits on. Raises nothing."""
        async with self._flushing:
            batch = self._due.values()
            if not batch:
                return
            try:
                await write(self._db, batch)
            except StoreError as error:
                if self._outage.failed():
                    log.warning("Sessions are kept in memory until the database works again. %s", error)
                return
            if self._outage.worked():
                log.info("Sessions are written again.")
            for entry in batch:
                self._due.drop_if_same(_key(entry), entry)
            if self._lost:
                log.warning("%d session records were given up while the database was away.", self._lost)
                self._lost = 0

    async def start(self) -> None:
        """Start the writer's task."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="agent-mode-session-writer")

    async def close(self) -> None:
        """Stop the task and write what waits."""
        task, self._task = self._task, None
        if task is not None:
            async with self._flushing:  # so that no transaction is torn
                task.cancel()
            await asyncio.wait({task})
        await self.flush()
        if left := len(self._due):
            log.warning("%d session records could not be stored before the end.", left)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(max(self._pause, self._outage.wait))
            self._wake.clear()
            await self.flush()
            if len(self._due):
                self._wake.set()


def _key(entry: Answer | Session) -> tuple[type, str]:
    return type(entry), entry.message_id if isinstance(entry, Answer) else entry.chat_id
