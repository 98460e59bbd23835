"""Runs an admin's Python code apart from the server: in its own process, with limits, ended at any moment.

    sandbox = Sandbox()
    async with aclosing(sandbox.run(code, turn, Limits(seconds=30), ask)) as items:
        async for item in items:
            …
    await sandbox.close()

This protects from accidents (an endless loop, a crash, a leak), not from an attacker: the code runs as the
server's user.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from agent_mode.sandbox import endings
from agent_mode.sandbox.execution import Execution
from agent_mode.sandbox.items import Ask, Item, Limits
from agent_mode.sandbox.nursery import Nursery


class Sandbox:
    """All runs of this process and their fork server, which is started by the first run.

    Args:
        start_patience: seconds until the fork server has to be ready, and the code of a run to begin.
    """

    def __init__(self, *, start_patience: float = 30.0) -> None:
        self._patience = start_patience
        self._nursery: Nursery | None = None
        self._opening: asyncio.Task[Nursery] | None = None
        self._closed = False

    async def start(self) -> None:
        """Starts the fork server now, so that the first run need not wait for it.

        Raises:
            SandboxError: code `sandbox`; it cannot be started.
        """
        self._closed = False
        await self._ready()

    async def close(self) -> None:
        """Ends every run and the fork server; nothing is left of them. `start` makes it usable again."""
        self._closed = True
        if self._opening is not None:
            await asyncio.wait({self._opening})
        nursery, self._nursery = self._nursery, None
        if nursery is not None:
            await nursery.close()

    async def run(
        self, code: str, turn: dict[str, Any], limits: Limits, ask: Ask
    ) -> AsyncGenerator[Item, None]:
        """Runs code that defines `run(turn, tools, llm, call_agent, status)`.

        Closing the generator, or cancelling the task that waits for it, kills the code's processes at once.

        Args:
            code: text of a Python module.
            turn: JSON that the code gets as `turn`; `run_id` seeds its random numbers, and `tools`, if there,
                is what `tools.list()` says.
            limits: what the code may take.
            ask: answers what the code asks.

        Yields:
            what the code yields, returns, shows and prints.

        Raises:
            SandboxError: the code failed, or its process did.
            TypeError, ValueError: the turn is no JSON.
            Exception: what `ask` raised that is no `AgentModeError`.
        """
        execution = Execution(await self._ready(), limits, ask, self._patience)
        try:
            await execution.begin(code, turn)
            while (item := await execution.next()) is not None:
                yield item
        finally:
            await execution.end()

    async def _ready(self) -> Nursery:
        if self._closed:
            raise endings.closing()
        if self._nursery is not None and self._nursery.alive:
            return self._nursery
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())
            self._opening.add_done_callback(self._opened)
        return await asyncio.shield(self._opening)

    async def _open(self) -> Nursery:
        if self._nursery is not None:
            await self._nursery.close()
        self._nursery = await Nursery.open(self._patience)
        return self._nursery

    def _opened(self, task: asyncio.Task[Nursery]) -> None:
        self._opening = None
        if not task.cancelled():
            task.exception()  # those who wait for it are told
