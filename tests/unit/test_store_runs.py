"""Run records: written behind the run, bounded, and listed from indexes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, insert, select, text

from agent_mode.errors import StoreError
from agent_mode.store import run_records, tables, write_behind
from agent_mode.store.db import Database
from agent_mode.store.run_records import ORDER, AgentFigures, RunRecord, RunStore, query_of
from tests.patience import until

pytest_plugins = ["tests.databases"]

T0 = datetime(2026, 1, 2, 3, 4, 5, 678, UTC)


def run(run_id: str = "r1", **changes: Any) -> RunRecord:
    values = {"agent": "weather", "agent_type": "persona", "started_at": T0}
    return RunRecord(run_id, **values | changes)


FULL = run(
    parent_id="r0",
    user_id="u1",
    chat_id="c1",
    message_id="m1",
    model="gpt",
    state="failed",
    steps=3,
    tool_calls=[{"tool": "search", "arguments": {"q": "Wetter"}, "ms": 12.5, "ok": True}],
    usage={"total_tokens": 7},
    error={"code": "limit", "message": "Too long."},
    trace="Traceback",
    ended_at=T0 + timedelta(seconds=2),
    duration_ms=2_000,
)


@pytest.fixture
def store(database: Database) -> RunStore:
    return RunStore(database)


async def count(database: Database) -> int:
    async with database.read() as connection:
        return (await connection.execute(select(func.count()).select_from(tables.run))).scalar_one()


async def ids(store: RunStore, **wanted: Any) -> list[str]:
    found, total = await store.page(0, 100, **wanted)
    assert total == len(found)
    return [record.id for record in found]


class Plug:
    """Pulls the database out of the wall and puts it back; counts the attempts to write."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.out = False
        self.attempts = 0
        begin = database.begin

        @asynccontextmanager
        async def plugged() -> AsyncIterator[Any]:
            self.attempts += 1
            if self.out:
                raise StoreError("The database is away.", code="database_unreachable", retryable=True)
            async with begin() as connection:
                yield connection

        monkeypatch.setattr(database, "begin", plugged)
        monkeypatch.setattr(write_behind, "BACK_OFF_SECONDS", (0.02, 0.1))


@pytest.fixture
def plug(database: Database, monkeypatch: pytest.MonkeyPatch) -> Plug:
    return Plug(database, monkeypatch)


# Writing behind


async def test_a_record_is_known_at_once_and_after_a_restart(store: RunStore, database: Database) -> None:
    store.put(FULL)
    assert await store.get("r1") == FULL
    assert await count(database) == 0
    await store.flush()
    assert await store.get("r1") == await RunStore(database).get("r1") == FULL
    assert [await store.get(nobody) for nobody in ("nobody", "", "a\0", "\ud800")] == [None] * 4
    assert "Traceback" not in repr(FULL)


async def test_a_run_from_its_start_to_its_end(store: RunStore, database: Database) -> None:
    for number, state in enumerate(("running", "waiting", "running", "done")):
        store.put(run(state=state, steps=number))
        assert await store.get("r1") == run(state=state, steps=number)
        await store.flush()
        assert await RunStore(database).get("r1") == run(state=state, steps=number)
    assert await count(database) == 1


async def test_the_last_record_wins(store: RunStore, database: Database, plug: Plug) -> None:
    for number in range(50):
        store.put(run(steps=number))
    await store.flush()
    assert plug.attempts == 1
    assert await RunStore(database).get("r1") == run(steps=49)


async def test_a_late_write_does_not_reopen_a_run(store: RunStore, database: Database) -> None:
    other = RunStore(database)
    for state in ("done", "failed", "stopped"):
        other.put(run(state, state=state))
    await other.flush()
    for state in ("done", "failed", "stopped"):
        store.put(run(state, state="waiting"))
    await store.flush()
    assert [(await store.get(state)).state for state in ("done", "failed")] == ["done", "failed"]  # pyright: ignore[reportOptionalMemberAccess]
    store.put(run("done", state="failed"))
    await store.flush()
    assert (await other.get("done")) == run("done", state="failed")


async def test_what_the_caller_changes_later_does_not_count(store: RunStore, database: Database) -> None:
    calls: list[dict[str, Any]] = [{"tool": "one"}]
    store.put(run(tool_calls=calls))
    calls[0]["tool"] = "two"
    calls.append({})
    await store.flush()
    assert await RunStore(database).get("r1") == run(tool_calls=[{"tool": "one"}])


async def test_the_writer_collects_and_close_flushes(database: Database, plug: Plug) -> None:
    store = RunStore(database, flush_seconds=0.03)
    await store.start()
    await store.start()
    for number in range(50):
        store.put(run(f"r{number}"))
        await asyncio.sleep(0)
    await until(lambda: not store._writer._due.values())
    assert await count(database) == 50
    assert plug.attempts == 1
    store.put(run("last"))
    await store.close()
    await store.close()
    assert await count(database) == 51
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_an_outage_is_waited_out(
    database: Database, plug: Plug, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "agent_mode")
    store = RunStore(database, flush_seconds=0.01)
    await store.start()
    plug.out = True
    store.put(run())
    await until(lambda: plug.attempts == 4)
    store.put(run(state="done"))
    assert await store.get("r1") == run(state="done")
    assert [record.levelname for record in caplog.records].count("WARNING") == 1
    plug.out = False
    await until(lambda: "Every run is written again" in caplog.text)
    await store.close()
    assert await RunStore(database).get("r1") == run(state="done")


async def test_a_long_outage_is_bounded(
    database: Database, plug: Plug, caplog: pytest.LogCaptureFixture
) -> None:
    store = RunStore(database, memory_limit=10)
    plug.out = True
    for number in range(50):
        store.put(run(f"r{number}"))
        await store.flush()
    await store.close()
    assert "10 run records could not be stored before the end" in caplog.text
    plug.out = False
    await store.flush()
    assert "40 run records were given up" in caplog.text
    assert await count(database) == 10
    assert await store.get("r49") == run("r49")


# What is kept of odd records


async def test_records_are_of_bounded_size(store: RunStore) -> None:
    calls = [{"tool": "t", "result": "ä" * 5_000, "more": list(range(1_000))} for _ in range(300)]
    store.put(run(tool_calls=calls, trace="t" * 100_000, error={"message": "m" * 5_000}, model="m" * 9_000))
    await store.flush()
    kept = await store.get("r1")
    assert kept is not None
    assert 0 < len(kept.tool_calls) < 300
    assert len(str(kept.tool_calls)) < run_records.CALLS_LIMIT
    assert kept.tool_calls[0]["result"] == "ä" * (run_records.TEXT_LIMIT - 1) + "…"
    assert len(kept.tool_calls[0]["more"]) == run_records.LIST_LIMIT
    assert [len(text or "") for text in (kept.trace, kept.model)] == [32_000, 2_000]
    assert kept.error == {"message": "m" * 1_999 + "…"}


async def test_what_no_database_takes_is_put_otherwise(
    store: RunStore, caplog: pytest.LogCaptureFixture
) -> None:
    looped: dict[str, Any] = {}
    looped["self"] = looped
    odd = {"at": T0, "n": float("nan"), "set": {1}, 5: b"x", "text": "a\0b\ud800", "tuple": (1, [2])}
    store.put(run(tool_calls=[odd, looped], trace="a\0b\ud800c", model="\ud800"))
    await store.flush()
    kept = await store.get("r1")
    assert kept is not None
    assert kept.tool_calls[0] == {
        "at": str(T0),
        "n": None,
        "set": "{1}",
        "5": "b'x'",
        "text": "ab?",
        "tuple": [1, [2]],
    }
    assert (kept.trace, kept.model) == ("ab?c", "?")
    assert not caplog.records


@pytest.mark.parametrize("bad", ["", "a\0b", "a\ud800b", "a" * 256], ids=["empty", "nul", "half", "long"])
async def test_a_bad_id_spoils_nothing(store: RunStore, database: Database, bad: str) -> None:
    store.put(run(bad))
    store.put(run("r2", agent=bad))
    store.put(run(parent_id=bad, user_id=bad, chat_id=bad, message_id=bad))
    await store.flush()
    assert await count(database) == 1
    assert await store.get("r1") == run()
    assert await store.children(bad) == []
    assert await ids(store, user_id=bad) == []


async def test_a_record_that_the_database_refuses_is_left_out(
    store: RunStore, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 2**80, 3):
        store.put(run(f"r{number}", steps=number))
    await store.flush()
    assert await ids(store) == ["r3", "r1"]
    assert caplog.text.count("A run was not stored") == 1


TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXT, st.none() | TEXT, st.dictionaries(TEXT, JSON, max_size=3))
def test_any_record_is_stored_or_ignored(
    tmp_path: Path, run_id: str, words: str | None, data: dict[str, Any]
) -> None:
    async def check() -> None:
        database = await Database.open(f"sqlite+aiosqlite:///{tmp_path / 'any.db'}")
        store = RunStore(database)
        store.put(run(run_id, user_id=words, trace=words, tool_calls=[data], error=data))
        known = await store.get(run_id)
        await store.flush()
        assert not store._writer._due.values()
        assert await store.get(run_id) == known
        await database.close()

    asyncio.run(check())


# Lists


async def test_pages_and_filters(store: RunStore) -> None:
    for number in range(6):
        store.put(
            run(
                f"r{number}",
                started_at=T0 + timedelta(minutes=number // 2),
                agent="weather" if number % 2 else "coder",
                user_id=f"u{number % 3}",
                chat_id=f"c{number % 3}" if number else None,
                state="done" if number < 4 else "running",
                parent_id="r0" if number in {3, 1} else None,
            )
        )
    assert await ids(store) == ["r5", "r4", "r3", "r2", "r1", "r0"]
    assert await ids(store, agent="coder") == ["r4", "r2", "r0"]
    assert await ids(store, user_id="u1") == ["r4", "r1"]
    assert await ids(store, chat_id="c0") == ["r3"]
    assert await ids(store, state="running") == ["r5", "r4"]
    assert await ids(store, since=T0 + timedelta(minutes=1)) == ["r5", "r4", "r3", "r2"]
    assert await ids(store, parent_id="r0") == ["r3", "r1"]
    assert await ids(store, parent_id="") == ["r5", "r4", "r2", "r0"]
    assert await ids(store, agent="coder", state="done", user_id="u2") == ["r2"]
    assert await ids(store, agent="nobody") == []
    found, total = await store.page(1, 2)
    assert ([record.id for record in found], total) == (["r4", "r3"], 6)
    assert await store.page(9, 2) == ([], 6)
    assert [record.id for record in await store.children("r0")] == ["r1", "r3"]
    assert await store.children("r1") == []


async def test_pages_of_many(store: RunStore, database: Database) -> None:
    rows = [
        asdict(run(f"r{number:05}", started_at=T0 - timedelta(seconds=number), agent=f"a{number % 7}"))
        for number in range(20_000)
    ]
    async with database.begin() as connection:
        await connection.execute(insert(tables.run), rows)
    seen = []
    for offset in range(0, 20_000, 3_000):
        found, total = await store.page(offset, 3_000)
        assert total == 20_000
        seen += [record.id for record in found]
    assert seen == [f"r{number:05}" for number in range(20_000)]
    found, total = await store.page(1, 2, agent="a3")
    assert ([record.id for record in found], total) == (["r00010", "r00017"], 2_857)


@pytest.mark.parametrize("column", ["parent_id", "agent", "user_id", "chat_id", "state", None])
async def test_lists_come_from_an_index(database: Database, column: str | None) -> None:
    if database.shared:
        pytest.skip("PostgreSQL decides by the size of the table")
    query = query_of({column: "x"} if column else {}, T0).order_by(*(one.desc() for one in ORDER)).limit(10)
    async with database.read() as connection:
        compiled = query.compile(connection.engine.sync_engine, compile_kwargs={"literal_binds": True})
        plan = [row[3] for row in await connection.execute(text(f"EXPLAIN QUERY PLAN {compiled}"))]
    assert f"USING INDEX ix_run_{f'{column}_' if column else ''}started_at" in plan[0]
    # Only runs that began in the same microsecond are sorted.
    [sort] = [step for step in plan if "TEMP B-TREE" in step]
    assert sort != "USE TEMP B-TREE FOR ORDER BY"


# Housekeeping


async def test_figures_of_agents(store: RunStore) -> None:
    for number, state in enumerate(("done", "failed", "failed", "running")):
        store.put(run(f"w{number}", state=state, started_at=T0 + timedelta(minutes=number)))
    store.put(run("old", state="failed", started_at=T0 - timedelta(days=40)))
    store.put(run("other", agent="clerk", state="failed"))
    await store.flush()
    found = await store.figures(["weather", "nobody", "bad\0id"], T0)
    assert found == {"weather": AgentFigures(T0 + timedelta(minutes=3), 2)}
    assert await store.figures([], T0) == {}


async def test_prune(store: RunStore) -> None:
    now = datetime.now(UTC)
    for days in (0, 5, 20):
        store.put(run(f"r{days}", started_at=now - timedelta(days=days)))
    assert await store.prune(30) == 0
    assert await store.prune(10) == 1
    assert await ids(store) == ["r0", "r5"]
    assert await store.prune(0) == 2
    with pytest.raises(ValueError, match="negative"):
        await store.prune(-1)


async def test_runs_of_a_dead_process_are_closed(store: RunStore, database: Database) -> None:
    before = T0 + timedelta(minutes=1)
    for state in ("running", "waiting", "done", "failed"):
        store.put(run(state, state=state))
    store.put(run("young", started_at=before))
    assert await store.close_open(before, states=["running"]) == 1
    dead = await store.get("running")
    assert dead is not None
    assert dead.state == "abandoned"
    assert dead.ended_at is not None
    assert datetime.now(UTC) - dead.ended_at < timedelta(minutes=1)
    assert await store.close_open(before=before) == 1
    assert await store.close_open(before=before) == 0
    assert sorted(await ids(store, state="abandoned")) == ["running", "waiting"]
    assert await ids(store, state="running") == ["young"]
    # One that was alive after all says so with its next record.
    store.put(replace(dead, state="running", ended_at=None))
    assert await ids(store, state="running") == ["young", "running"]
    assert (await RunStore(database).get("done")) == run("done", state="done")
