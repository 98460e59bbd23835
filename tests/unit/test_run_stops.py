"""Requests to stop a run of another process."""

from __future__ import annotations

import asyncio

from agent_mode.store.db import Database
from agent_mode.store.run_stops import StopStore

pytest_plugins = ["tests.databases"]


async def test_every_process_hears_of_each_request_once(database: Database) -> None:
    one, two = StopStore(database), StopStore(database)
    await one.ask("long ago")
    for store in (one, two):
        await store.start()
        assert await store.asked() == []
    await asyncio.gather(one.ask("r1"), two.ask("r2"), one.ask("\0"))
    for store in (one, two):
        assert sorted(await store.asked()) == ["r1", "r2"]
        assert await store.asked() == []
    await two.ask("r1")
    assert await one.asked() == ["r1"]
