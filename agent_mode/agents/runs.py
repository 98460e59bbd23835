"""Runs that are going on. A run on a stock server holds a lease: if nobody pulls its events, it ends.

On disconnect the stock server neither closes nor collects a pipe's generator, so a stop shows only in that
the generator is not pulled any more.
"""

from __future__ import annotations

import asyncio
import time
import uuid

LEASE_SECONDS = 2.0
"""How long a run lives without its consumer pulling. The consumer pulls at least once a second."""
_CHECK_SECONDS = 0.25


class Run:
    """One execution of an agent for a turn.

    Args:
        task: the task that is cancelled when the run is stopped.
        leased: whether the consumer has to pull to keep it alive.
    """

    def __init__(self, task: asyncio.Task[None], *, leased: bool) -> None:
        self.id = uuid.uuid4().hex
        self.task = task
        self.leased = leased
        self.pulled_at = time.monotonic()

    def renew(self) -> None:
        """The consumer is there. May be called from any thread."""
        self.pulled_at = time.monotonic()

    @property
    def abandoned(self) -> bool:
        return self.leased and time.monotonic() - self.pulled_at > LEASE_SECONDS


class Runs:
    """All runs of the process, and the watch over their leases."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}
        self._watch: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._watch = asyncio.get_running_loop().create_task(self._watch_leases())

    async def close(self) -> None:
        """Stops every run and the watch."""
        tasks = [run.task for run in self._runs.values()]
        if self._watch is not None:
            tasks.append(self._watch)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def add(self, task: asyncio.Task[None], *, leased: bool) -> Run:
        """Registers a run; it leaves by itself when its task is done."""
        run = Run(task, leased=leased)
        self._runs[run.id] = run
        task.add_done_callback(lambda _: self._runs.pop(run.id, None))
        return run

    def __len__(self) -> int:
        return len(self._runs)

    async def _watch_leases(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            for run in list(self._runs.values()):
                if run.abandoned:
                    run.task.cancel()
