"""Counts the time that code takes for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Budget:
    """Calls `spent` when the time is used up; stands still while somebody holds it.

    Args:
        seconds: wall-clock time.
        spent: called once, on the event loop.
    """

    def __init__(self, seconds: float, spent: Callable[[], None]) -> None:
        self._left = seconds
        self._spent = spent
        self._loop = asyncio.get_running_loop()
        self._holds = 1  # until `release` starts it
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def hold(self) -> None:
        """The time that passes now is not the code's."""
        self._holds += 1
        if self._timer is not None:
            self._left -= self._loop.time() - self._since
            self._timer.cancel()
            self._timer = None

    def release(self) -> None:
        """One reason less to stand still; the first call starts the clock."""
        self._holds -= 1
        if self._holds == 0:
            self._since = self._loop.time()
            self._timer = self._loop.call_later(max(self._left, 0.0), self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._holds += 1  # for good
        self._spent()
