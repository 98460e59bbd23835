"""Answers of Open WebUI that are believed for a while."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_SALT = secrets.token_bytes(16)


def fingerprint(credential: str) -> str:
    """What a credential is remembered by: no answer keeps the credential itself."""
    return hashlib.blake2b(credential.encode("utf-8", "replace"), key=_SALT, digest_size=16).hexdigest()


class Believed(Generic[T]):
    """Remembers answers by key; of several that ask the same at once, one asks and the others wait for it.

    Args:
        seconds: for how long an answer is believed.
        most: how many answers are kept; the oldest go first.
    """

    def __init__(self, seconds: Callable[[T], float], most: int = 10_000) -> None:
        self._seconds = seconds
        self._most = most
        self._known: dict[str, tuple[float, T]] = {}
        self._asked: dict[str, asyncio.Task[T]] = {}

    async def get(self, key: str, ask: Callable[[], Awaitable[T]]) -> T:
        """The believed answer, or a new one.

        What `ask` raises is raised to all that wait, and not remembered.
        """
        known = self._known.get(key)
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = asyncio.ensure_future(self._ask(key, ask))
            task.add_done_callback(_seen)
        # One that stops waiting must not end the question of the others.
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Gives up what is being asked."""
        tasks = list(self._asked.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, key: str, ask: Callable[[], Awaitable[T]]) -> T:
        try:
            answer = await ask()
        finally:
            del self._asked[key]
        self._known.pop(key, None)  # so that it moves to the end
        while len(self._known) >= self._most:
            del self._known[next(iter(self._known))]
        self._known[key] = (time.monotonic() + self._seconds(answer), answer)
        return answer


def _seen(task: asyncio.Task[T]) -> None:
    """Nobody may be waiting any more; then nobody is told either."""
    if not task.cancelled():
        task.exception()
