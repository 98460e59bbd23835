"""Runs that are going on. A run on a stock server holds a lease: if nobody pulls its events, it ends.

On disconnect the stock server neither closes nor collects a pipe's generator, so a stop shows only in that
the generator is not pulled any more.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any

LEASE_SECONDS = 2.0
"""How long a run lives without its consumer pulling. The consumer pulls at least once a second."""
_CHECK_SECONDS = 0.25


class Run:
    """One execution of an agent for a turn.

    Args:
        task: the task that is cancelled when the run is stopped.
        leased: whether the consumer has to pull to keep it alive.
        counted: whether it is one of those that the figures tell; a draft that is tried is not.
    """

    def __init__(self, task: asyncio.Task[Any], *, leased: bool, counted: bool = True) -> None:
        self.id = secrets.token_hex(10)
        self.agent: str | None = None
        self.user_id: str | None = None
        self.stopped = False
        """Whether somebody told it to stop."""
        self.task = task
        self.leased = leased
        self.counted = counted
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

    def add(self, task: asyncio.Task[Any], *, leased: bool, counted: bool = True) -> Run:
        """Registers a run; it leaves by itself when its task is done."""
        run = Run(task, leased=leased, counted=counted)
        self._runs[run.id] = run
        task.add_done_callback(lambda _: self._drop(run))
        return run

    def adopt(self, run_id: str, agent: str, user_id: str | None) -> None:
        """Says which run the current task is: its id in the records, the agent, the user."""
        task = asyncio.current_task()
        run = next((run for run in self._runs.values() if run.task is task), None)
        if run is not None:
            self._drop(run)
            run.id, run.agent, run.user_id = run_id, agent, user_id
            self._runs[run_id] = run

    def get(self, run_id: str) -> Run | None:
        return self._runs.get(run_id)

    def id_of(self, task: asyncio.Task[Any] | None) -> str | None:
        """The id of the run that a task is."""
        return next((run.id for run in self._runs.values() if run.task is task), None)

    def stop(self, run_id: str) -> bool:
        """Stops a run of this process; False if it does not go on here."""
        run = self._runs.get(run_id)
        if run is None:
            return False
        run.stopped = True
        run.task.cancel()
        return True

    def _drop(self, run: Run) -> None:
        if self._runs.get(run.id) is run:
            del self._runs[run.id]

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def active(self) -> int:
        """How many are at work for users now."""
        return sum(run.counted for run in self._runs.values())

    async def _watch_leases(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            for run in list(self._runs.values()):
                if run.abandoned:
                    run.task.cancel()
