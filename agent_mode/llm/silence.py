"""A time limit on the provider's silence that costs nothing while it speaks.

A timeout that is moved with every socket read costs a timer for each token; this one looks back once in a
while at when the last byte came.
"""

from __future__ import annotations

import asyncio
from types import TracebackType


class Silence:
    """Raises TimeoutError inside its block when the provider is silent for too long.

    Args:
        limit: seconds.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._since: float | None = None
        self._expired = False

    async def __aenter__(self) -> Silence:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self.broken()
        self._timer = self._loop.call_later(self._limit, self._look)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._expired and kind is asyncio.CancelledError:
            self._task.uncancel()
            raise TimeoutError("the provider was silent")

    def broken(self) -> None:
        """A byte came; we wait for the next."""
        self._since = self._loop.time()

    def pause(self) -> None:
        """We do not wait for the provider now: the reader of the answer is slow, that is not its silence."""
        self._since = None

    def _look(self) -> None:
        silent = 0.0 if self._since is None else self._loop.time() - self._since
        if silent >= self._limit:
            self._expired = True
            self._task.cancel()
        else:
            self._timer = self._loop.call_later(max(self._limit - silent, 0.05), self._look)
