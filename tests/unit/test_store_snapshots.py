"""Snapshots of suspended runs: durable, replaced, bounded."""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from agent_mode.errors import StoreError
from agent_mode.store import snapshots, tables
from agent_mode.store.db import Database
from agent_mode.store.snapshots import SnapshotStore

pytest_plugins = ["tests.databases"]

STATE = {"step": 3, "memory": [{"role": "user", "content": "Grüße 🌦 \u0000 \ud800"}], "none": None}

PUT = """
import asyncio, sys, time
from agent_mode.store.db import Database
from agent_mode.store.snapshots import SnapshotStore
async def main():
    store = SnapshotStore(await Database.open(sys.argv[1]))
    await store.put("r1", "weather", "u1", "c1", {"step": 3})
    print("stored", flush=True)
    time.sleep(60)
asyncio.run(main())
"""


@pytest.fixture
def store(database: Database) -> SnapshotStore:
    return SnapshotStore(database)


async def test_put_take_drop(store: SnapshotStore, database: Database) -> None:
    assert await store.take("r1") is None
    await store.put("r1", "weather", "u1", "c1", STATE)
    for known in (store, SnapshotStore(database), store):  # reading does not use it up
        found = await known.take("r1")
        assert found is not None
        assert (found.agent, found.user_id, found.chat_id, found.state) == ("weather", "u1", "c1", STATE)
        assert datetime.now(UTC) - found.created_at < timedelta(minutes=1)
        assert "Grüße" not in repr(found)
    await store.put("r1", "weather", "u1", None, {})
    replaced = await store.take("r1")
    assert replaced is not None
    assert (replaced.user_id, replaced.chat_id, replaced.state) == ("u1", None, {})
    for _ in range(2):
        await store.drop("r1")
    assert await store.take("r1") is None


@pytest.mark.parametrize(("whose", "other"), [("u1", "u2"), ("u1", None), (None, "u1")])
async def test_a_state_stays_its_users(store: SnapshotStore, whose: str | None, other: str | None) -> None:
    await store.put("r1", "weather", whose, "c1", STATE)
    with pytest.raises(StoreError) as refused:
        await store.put("r1", "weather", other, "c1", {})
    assert refused.value.code == "snapshot_refused"
    kept = await store.take("r1")
    assert kept is not None
    assert (kept.user_id, kept.state) == (whose, STATE)
    await store.put("r1", "weather", whose, "c1", {"step": 4})  # its own it may


async def test_it_is_durable_when_put_returns(database_url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", PUT, database_url, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"stored\n"
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    database = await Database.open(database_url)
    found = await SnapshotStore(database).take("r1")
    await database.close()
    assert found is not None
    assert found.state == {"step": 3}


async def test_the_size_is_limited(store: SnapshotStore) -> None:
    room = snapshots.SIZE_LIMIT - len('{"text": ""}')
    await store.put("r1", "weather", None, None, {"text": "x" * room})
    with pytest.raises(StoreError, match=r"4\.0 MiB, more than the 4 MiB") as caught:
        await store.put("r1", "weather", None, None, {"text": "y" * (room + 1)})
    assert (caught.value.code, caught.value.retryable) == ("snapshot_refused", False)
    assert "ids in place of documents" in caught.value.hint
    found = await store.take("r1")
    assert found is not None
    assert found.state == {"text": "x" * room}


@pytest.mark.parametrize("value", [object(), float("nan"), b"x", {(1, 2): 3}])
async def test_what_is_no_json_is_refused(store: SnapshotStore, value: Any) -> None:
    looped: list[Any] = []
    looped.append(looped)
    for state in ({"value": value}, {"value": looped}):
        with pytest.raises(StoreError, match="cannot be stored") as caught:
            await store.put("r1", "weather", None, None, state)
        assert caught.value.code == "snapshot_refused"
    assert await store.take("r1") is None


@pytest.mark.parametrize("bad", ["", "a\0b", "a\ud800b", "a" * 256], ids=["empty", "nul", "half", "long"])
async def test_a_bad_id_is_refused(store: SnapshotStore, bad: str) -> None:
    for ids in ((bad, "weather", "u1", "c1"), ("r1", "weather", bad, "c1"), ("r1", "weather", "u1", bad)):
        with pytest.raises(StoreError) as caught:
            await store.put(*ids, {})
        assert caught.value.code == "data_refused"
    assert await store.take(bad) is None
    await store.drop(bad)


async def test_prune(store: SnapshotStore, database: Database) -> None:
    now = datetime.now(UTC)
    for hours in (0, 5, 50):
        await store.put(f"r{hours}", "weather", None, None, {})
        async with database.begin() as connection:
            old = update(tables.snapshot).where(tables.snapshot.c.run_id == f"r{hours}")
            await connection.execute(old.values(created_at=now - timedelta(hours=hours)))
    assert await store.prune(72) == 0
    assert await store.prune(24) == 1
    assert await store.take("r50") is None
    await store.put("r5", "weather", None, None, {"again": True})  # a new suspension has its own age
    assert await store.prune(1) == 0
    assert await store.prune(0) == 2
    with pytest.raises(ValueError, match="negative"):
        await store.prune(-1)


async def test_only_one_resumes_a_run(store: SnapshotStore, database: Database) -> None:
    other = SnapshotStore(database)
    await store.put("r1", "weather", "u1", "c1", STATE)
    assert not await store.claim("nobody")
    claims = await asyncio.gather(*(each.claim("r1") for each in (store, other) * 5))
    assert claims.count(True) == 1
    winner, loser = (store, other) if claims.index(True) % 2 == 0 else (other, store)
    await loser.renew()
    assert not await loser.claim("r1")
    await winner.release("r1")
    assert await loser.claim("r1")
    await loser.put("r1", "weather", "u1", "c1", {"step": 4})  # suspended again, for whoever comes next
    assert await winner.claim("r1")
    await winner.release_all()
    assert await loser.claim("r1")


async def test_a_claim_ends_with_its_process(
    store: SnapshotStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = SnapshotStore(database)
    await store.put("r1", "weather", "u1", "c1", STATE)
    monkeypatch.setattr(snapshots, "CLAIM_SECONDS", 0.3)
    assert await store.claim("r1")
    for _ in range(3):
        await asyncio.sleep(0.15)
        await store.renew()
    assert not await other.claim("r1")
    await asyncio.sleep(0.35)
    assert await other.claim("r1")
