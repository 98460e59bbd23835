"""Processes that share a database: who is alive, and what becomes of the runs of one that has died."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from agent_mode.chat import runtime as runtimes
from agent_mode.chat.runtime import Runtime
from agent_mode.settings import ROOT
from agent_mode.store.db import Database
from agent_mode.store.replicas import LOOKS, ReplicaStore
from agent_mode.store.run_records import RunRecord, RunStore
from agent_mode.store.tables import replica as table
from tests.patience import PATIENCE
from tests.runtimes import settings

pytest_plugins = ["tests.databases"]

T0 = datetime(2026, 1, 2, 3, 4, 5, 678, UTC)


def run(run_id: str, **changes: Any) -> RunRecord:
    values: dict[str, Any] = {"agent": "weather", "agent_type": "persona", "started_at": T0}
    return RunRecord(run_id, **values | changes)


@dataclass
class Process:
    """What a process does with the database, as far as it concerns its runs."""

    replicas: ReplicaStore
    runs: RunStore

    async def record(self, *records: RunRecord) -> None:
        for record in records:
            self.runs.put(record)
        await self.runs.flush()

    async def turn(self) -> int:
        """What `Runtime` does now and then; returns how many runs it closed."""
        if await self.replicas.beat():
            self.runs.reopen()
            await self.runs.flush()
        await self.replicas.look()
        return await self.runs.close_lost()

    async def turns(self, number: int) -> int:
        return sum([await self.turn() for _ in range(number)])

    async def state(self, run_id: str) -> str:
        await self.runs.flush()
        found = await self.runs.get(run_id)
        assert found is not None
        assert (found.ended_at is not None) == (found.state == "abandoned")
        return found.state


async def process(database: Database) -> Process:
    store = ReplicaStore(database)
    await store.beat()
    return Process(store, RunStore(database, store.id))


@pytest.fixture
async def one(database: Database) -> Process:
    return await process(database)


@pytest.fixture
async def other(database_url: str, database: Database) -> AsyncIterator[Process]:
    """Another process, with connections of its own."""
    opened = await Database.open(database_url)
    yield await process(opened)
    await opened.close()


async def living(database: Database) -> set[str]:
    async with database.read() as connection:
        return set((await connection.execute(select(table.c.id))).scalars())


async def test_the_runs_of_one_that_has_died_are_closed(one: Process, other: Process) -> None:
    await other.record(
        run("lost"),
        run("called", parent_id="lost"),
        run("asked", parent_id="called", state="waiting"),
        run("waits", state="waiting"),
        run("theirs", state="done", ended_at=T0),
    )
    await one.record(run("mine"), run("mine too", parent_id="mine", state="waiting"))

    assert await one.turns(LOOKS) == 0
    assert await one.state("lost") == "running"
    assert await one.turn() == 3

    states = {
        name: await one.state(name) for name in ("lost", "called", "asked", "waits", "mine", "mine too")
    }
    assert states == dict.fromkeys(("lost", "called", "asked"), "abandoned") | {
        "waits": "waiting",
        "mine": "running",
        "mine too": "waiting",
    }
    assert (await one.runs.page(0, 10, state="running"))[1] == 1
    assert await one.turns(2 * LOOKS) == 0


async def test_nobody_who_counts_on_is_given_up(one: Process, other: Process, database: Database) -> None:
    await other.record(run("slow"))
    for _ in range(4):
        assert await one.turns(LOOKS) == 0
        assert not await other.replicas.beat()
    assert await living(database) == {one.replicas.id, other.replicas.id}


async def test_who_did_not_look_gives_nobody_up(one: Process, other: Process) -> None:
    """As after a time in which the database was away from all, however long."""
    await other.record(run("slow"))
    await one.turns(LOOKS)
    # Here hours may pass: only looks are counted.
    await other.turn()
    assert await one.turns(LOOKS) == 0


async def test_one_that_was_alive_after_all_takes_its_runs_back(one: Process, other: Process) -> None:
    await other.record(run("goes on"), run("ended meanwhile"), run("long done", state="done", ended_at=T0))
    assert await one.turns(LOOKS + 1) == 2

    await other.record(run("ended meanwhile", state="stopped"))
    await other.record(run("begun since"))
    assert await one.turn() == 1  # it has not said that it is alive
    await other.turn()

    names = ("goes on", "begun since", "ended meanwhile")
    assert [await one.state(name) for name in names] == ["running", "running", "stopped"]
    assert await one.turns(LOOKS) == 0


async def test_its_own_end_goes_before(one: Process, other: Process) -> None:
    await other.record(run("r"))
    await one.turns(LOOKS + 1)
    assert await one.state("r") == "abandoned"
    await other.record(run("r", state="done"))
    assert await one.state("r") == "done"
    await one.turns(LOOKS + 1)
    assert await one.state("r") == "done"


async def test_a_run_belongs_to_who_went_on_with_it_last(one: Process, other: Process) -> None:
    await other.record(run("r"), run("r", state="waiting"))
    await one.record(run("r"))
    assert await one.turns(LOOKS + 1) == 0
    assert await one.state("r") == "running"


async def test_who_leaves_has_ended_its_runs(one: Process, other: Process, database: Database) -> None:
    await other.record(run("r"))  # its end could not be written any more
    await other.replicas.leave()
    assert await living(database) == {one.replicas.id}
    assert await one.turn() == 1
    assert await one.state("r") == "abandoned"


async def test_many_find_the_same_one_dead_at_once(one: Process, other: Process, database_url: str) -> None:
    opened = await Database.open(database_url)
    dead = await process(opened)
    await dead.record(*(run(f"r{number}") for number in range(50)))
    await opened.close()
    for _ in range(LOOKS):
        await asyncio.gather(one.turn(), other.turn())
    assert sum(await asyncio.gather(one.turn(), other.turn(), one.turn(), other.turn())) == 50


async def test_runs_from_before_there_were_replicas_are_left(one: Process, database: Database) -> None:
    old = RunStore(database)
    old.put(run("old"))
    await old.flush()
    assert await one.turns(LOOKS + 1) == 0


# With the whole server


async def test_a_run_of_a_killed_server_is_abandoned(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL: the other replicas say so while they go on. SQLite: the next start does."""
    shared = database_url.startswith("postgresql")
    configured = settings(tmp_path, database_url=database_url)
    survivor = await Runtime.open(configured) if shared else None
    killed = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.unit.test_replicas", database_url, str(tmp_path),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert killed.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while await killed.stdout.readline() not in (b"running\n", b""):
                pass
        assert killed.returncode is None
    finally:
        os.kill(killed.pid, signal.SIGKILL)
        await killed.wait()
    monkeypatch.setattr(runtimes, "HEED_SECONDS", 0.02)
    survivor = survivor or await Runtime.open(configured)
    try:
        if shared:
            before = await survivor.run_store.get("lost")
            assert before is not None
            survivor.run_store.put(replace(before, id="mine"))
        async with asyncio.timeout(PATIENCE):
            while (await survivor.run_store.page(0, 9, state="abandoned"))[1] == 0:
                await asyncio.sleep(0.02)
        found = await survivor.run_store.get("lost")
        assert found is not None
        assert (found.state, found.ended_at is not None) == ("abandoned", True)
        running, _ = await survivor.run_store.page(0, 9, state="running")
        assert [record.id for record in running] == (["mine"] if shared else [])
    finally:
        await survivor.close()


async def _serve(database_url: str, folder: Path) -> None:
    """A server with one run, until it is killed."""
    runtime = await Runtime.open(settings(folder, database_url=database_url))
    runtime.run_store.put(run("lost", started_at=datetime.now(UTC)))
    await runtime.run_store.flush()
    sys.stdout.write("running\n")
    sys.stdout.flush()
    await asyncio.sleep(3600)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], Path(sys.argv[2])))
