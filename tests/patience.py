"""How long tests wait for what must happen.

No test measures speed, `benchmarks/` does. What must happen at once gets so much time here that no machine
is too slow for it, and so little that it cannot be what would have come of itself: there, code sleeps for
minutes and providers hang for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PATIENCE = 20.0
"""Seconds."""
LONG = 60.0
"""Seconds for one answer: the first run of an agent loads LlamaIndex."""
START_PATIENCE = 120.0
"""Seconds for the start of a server."""


async def eventually(condition: Callable[[], object]) -> bool:
    """Whether it comes true in time."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.005)
    return True


async def until(condition: Callable[[], object]) -> None:
    """Waits until it is true.

    Raises:
        AssertionError: it never is.
    """
    assert await eventually(condition), "did not happen in time"
