"""Writes of records off the user's path, with patience for a database that is away."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

from agent_mode.errors import StoreError
from agent_mode.store.failures import DATA_REFUSED
from agent_mode.store.memory import Recent

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

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


class WriteBehind(Generic[K, V]):
    """Collects entries and writes them in batches; of those with the same key the last wins.

    Args:
        write: writes a batch in one transaction; raises `StoreError`.
        key: tells entries apart.
        noun: what an entry is called in the log, such as "session".
        limit: how many entries may wait.
        pause: seconds for which entries are collected.
    """

    def __init__(
        self,
        write: Callable[[Sequence[V]], Awaitable[None]],
        key: Callable[[V], K],
        *,
        noun: str,
        limit: int,
        pause: float,
    ) -> None:
        self._write = write
        self._key = key
        self._noun = noun
        self._outage = Outage()
        self._pause = pause
        self._due: Recent[K, V] = Recent(limit)
        self._lost = 0
        self._wake = asyncio.Event()
        self._flushing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def put(self, entry: V) -> None:
        """Have the entry written soon. When too many wait, the oldest is given up."""
        self._lost += self._due.put(self._key(entry), entry)
        self._wake.set()

    def get(self, key: K) -> V | None:
        """The entry, if it still waits to be written."""
        return self._due.get(key)

    async def flush(self) -> None:
        """Write all that waits, in one transaction; on failure it stays and waits on. Raises nothing."""
        async with self._flushing:
            batch = self._due.values()
            if not batch:
                return
            try:
                await self._write_or_leave_out(batch)
            except StoreError as error:
                if self._outage.failed():
                    log.warning(
                        "Each %s is kept in memory until the database works again. %s", self._noun, error
                    )
                return
            if self._outage.worked():
                log.info("Every %s is written again.", self._noun)
            for entry in batch:
                self._due.drop_if_same(self._key(entry), entry)
            if self._lost:
                log.warning(
                    "%d %s records were given up while the database was away.", self._lost, self._noun
                )
                self._lost = 0

    async def start(self) -> None:
        """Start the writer's task."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"agent-mode-{self._noun}-writer")

    async def close(self) -> None:
        """Stop the task and write what waits."""
        task, self._task = self._task, None
        if task is not None:
            async with self._flushing:  # so that no transaction is torn
                task.cancel()
            await asyncio.wait({task})
        await self.flush()
        if left := len(self._due):
            log.warning("%d %s records could not be stored before the end.", left, self._noun)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(max(self._pause, self._outage.wait))
            self._wake.clear()
            await self.flush()
            if len(self._due):
                self._wake.set()

    async def _write_or_leave_out(self, batch: Sequence[V]) -> None:
        """Writes the batch; an entry that the database refuses is logged and left out."""
        try:
            await self._write(batch)
        except StoreError as error:
            if error.code != DATA_REFUSED:
                raise
            if len(batch) == 1:
                log.warning("A %s was not stored. %s", self._noun, error)
                return
            for entry in batch:
                await self._write_or_leave_out([entry])
