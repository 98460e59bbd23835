"""Answers and sessions: memory, the writes behind it, outages, hostile ids."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text

from agent_mode.errors import StoreError
from agent_mode.store import sessions as sessions_module
from agent_mode.store import tables, write_behind
from agent_mode.store.db import Database
from agent_mode.store.memory import Recent
from agent_mode.store.session_records import storable
from agent_mode.store.sessions import Answer, Session, SessionStore, Switch
from tests.patience import PATIENCE, until

pytest_plugins = ["tests.databases"]

T0 = datetime(2026, 1, 2, 3, 4, 5, 678, UTC)
SWITCH = Switch("coder", "💻 Coder", "2026-01-02T03:04:05+00:00", 4, "user_switch")


def answer(message_id: str = "m1", **changes: Any) -> Answer:
    values = {
        "chat_id": "c1",
        "user_message_id": "u1",
        "agent": "coder",
        "ui_agent": "personas.coder",
        "at": T0,
    }
    return Answer(message_id, **values | changes)


def session(chat_id: str = "c1", **changes: Any) -> Session:
    values = {"ui_since": 3, "agent_history": (SWITCH,), "updated_at": T0}
    return Session(chat_id, "coder", "personas.coder", **values | changes)


async def count(database: Database) -> int:
    """Rows in both tables."""
    async with database.read() as connection:
        queries = [select(func.count()).select_from(table) for table in (tables.answer, tables.session)]
        return sum([(await connection.execute(query)).scalar_one() for query in queries])


class Plug:
    """Pulls the database out of the wall and puts it back; counts the attempts to reach it."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.out = False
        self.attempts: list[str] = []
        for name in ("begin", "read"):
            monkeypatch.setattr(database, name, self._wrapped(name, getattr(database, name)))

    def _wrapped(self, name: str, original: Callable[[], Any]) -> Callable[[], Any]:
        @asynccontextmanager
        async def wrapped() -> AsyncIterator[Any]:
            self.attempts.append(name)
            if self.out:
                raise StoreError("The database is away.", code="database_unreachable", retryable=True)
            async with original() as connection:
                yield connection

        return wrapped


@pytest.fixture
def plug(database: Database, monkeypatch: pytest.MonkeyPatch) -> Plug:
    monkeypatch.setattr(write_behind, "BACK_OFF_SECONDS", (0.02, 0.1))
    return Plug(database, monkeypatch)


# Memory and database


async def test_what_is_remembered_is_known_at_once_and_after_a_restart(database: Database) -> None:
    store = SessionStore(database)
    store.remember(answer(), session())
    assert await store.answer("m1") == answer()
    assert await store.session("c1") == session()
    assert await store.sibling("u1", "personas.coder") == answer()
    assert await count(database) == 0
    await store.flush()
    for fresh in (SessionStore(database), SessionStore(database)):
        assert await fresh.answer("m1") == answer()
        assert await fresh.session("c1") == session()
        assert await fresh.sibling("u1", "personas.coder") == answer()


async def test_nobody_is_shown_or_changes_what_is_anothers(database: Database) -> None:
    """Ids of chats and messages may be forged; each owner has records of their own."""
    store = SessionStore(database)
    store.remember(answer(owner="ann"), session(owner="ann"))
    forged = answer(owner="bob", agent="writer"), session(owner="bob", ui_since=9)
    for known in (store, SessionStore(database)):
        assert await known.answer("m1", "bob") is None
        assert await known.session("c1", "bob") is None
        assert await known.sibling("u1", "personas.coder", "bob") is None
        await store.flush()
    store.remember(*forged)
    await store.flush()
    for known in (store, SessionStore(database)):
        assert (await known.answer("m1", "ann"), await known.session("c1", "ann")) == (
            answer(owner="ann"),
            session(owner="ann"),
        )
        assert await known.sibling("u1", "personas.coder", "ann") == answer(owner="ann")
        assert (await known.answer("m1", "bob"), await known.session("c1", "bob")) == forged
        assert await known.answer("m1", "?ann") is None
        assert await known.answer("m1", "a\0") is None


async def test_what_was_kept_before_there_were_owners_is_found(database: Database) -> None:
    old = SessionStore(database)
    old.remember(answer(), session())
    await old.flush()
    store = SessionStore(database)
    assert await store.answer("m1", "ann") == answer()
    assert await store.session("c1", "ann") == session()
    assert await store.sibling("u1", "personas.coder", "ann") == answer()
    store.remember(None, session(owner="ann", ui_since=7))  # her next turn
    await store.flush()
    for known in (store, SessionStore(database)):
        found = await known.session("c1", "ann")
        assert found is not None
        assert found.ui_since == 7
    assert await SessionStore(database).session("c1", "bob") == session()


async def test_an_answer_may_come_without_its_session(database: Database) -> None:
    store = SessionStore(database)
    store.remember(answer(voice="writer"))
    store.remember(answer("m2", voice="a\0b"))
    await store.flush()
    for known in (store, SessionStore(database)):
        assert await known.answer("m1") == answer(voice="writer")
        assert await known.answer("m2") == answer("m2")
        assert await known.session("c1") is None


async def test_who_is_unknown(database: Database) -> None:
    store = SessionStore(database)
    assert await store.answer("nobody") is None
    assert await store.answer(None) is None
    assert await store.session("nobody") is None
    assert await store.sibling("nobody", "personas.coder") is None


async def test_the_newest_sibling_counts(database: Database) -> None:
    store = SessionStore(database)
    for number, ui_agent in [(1, "a"), (3, "a"), (2, "a"), (4, "b")]:
        late = T0 + timedelta(seconds=number)
        store.remember(answer(f"m{number}", ui_agent=ui_agent, at=late), session())
    store.remember(answer("rootless", user_message_id=None), session())
    await store.flush()
    fresh = SessionStore(database)
    # An older answer that is looked up first must not pass for the newest.
    assert await fresh.answer("m1") is not None
    for known in (store, fresh):
        found = await known.sibling("u1", "a")
        assert found is not None
        assert found.message_id == "m3"


async def test_a_hit_costs_no_lookup_and_a_miss_one(
    database: Database, plug: Plug, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SessionStore(database)
    store.remember(answer(), session())
    await store.answer("m1")
    assert plug.attempts == []
    for _ in range(3):
        assert await store.answer("m2") is None
    assert plug.attempts == ["read"]
    store.remember(answer("m2"), session())
    assert await store.answer("m2") == answer("m2")
    assert plug.attempts == ["read"]
    # Another process may have written it meanwhile, so a miss is not believed for long.
    assert await store.answer("m3") is None
    monkeypatch.setattr(sessions_module, "MISS_SECONDS", 0.0)
    other = SessionStore(database)
    other.remember(answer("m3"), session())
    await other.flush()
    assert await store.answer("m3") == answer("m3")


async def test_another_process_may_know_more(database: Database) -> None:
    here, there = SessionStore(database), SessionStore(database)
    here.remember(answer(), session())
    await here.flush()
    later = T0 + timedelta(minutes=1)
    there.remember(answer("m2", at=later), session(updated_at=later, ui_since=9))
    await there.flush()
    if database.shared:
        assert await here.session("c1") == session(updated_at=later, ui_since=9)
        assert await here.sibling("u1", "personas.coder") == answer("m2", at=later)
    # A write that comes late does not undo the newer one.
    here.remember(None, session(updated_at=T0 - timedelta(minutes=1)))
    await here.flush()
    assert await SessionStore(database).session("c1") == session(updated_at=later, ui_since=9)


async def test_the_last_write_wins(database: Database) -> None:
    store = SessionStore(database)
    for agent in ("coder", "writer"):
        store.remember(answer(agent=agent), session(ui_since=len(agent)))
        await store.flush()
    fresh = SessionStore(database)
    assert await fresh.answer("m1") == answer(agent="writer")
    assert await fresh.session("c1") == session(ui_since=6)


@pytest.mark.parametrize("chat_id", ["temporary:abc", "local:abc"])
async def test_temporary_chats_stay_in_memory(database: Database, plug: Plug, chat_id: str) -> None:
    store = SessionStore(database)
    store.remember(answer(chat_id=chat_id), session(chat_id))
    await store.flush()
    assert await store.answer("m1") == answer(chat_id=chat_id)
    assert await store.session(chat_id) == session(chat_id)
    assert await store.session(f"{chat_id}d") is None
    assert plug.attempts == []
    assert await count(database) == 0


async def test_history_keeps_the_newest(database: Database) -> None:
    store = SessionStore(database, history_limit=3)
    history = tuple(Switch(f"a{number}", "A", "", number, "auto_suggestion") for number in range(9))
    store.remember(None, session(agent_history=history))
    await store.flush()
    for known in (store, SessionStore(database)):
        found = await known.session("c1")
        assert found is not None
        assert found.agent_history == history[-3:]


async def test_memory_is_bounded_and_the_rest_comes_from_the_database(database: Database) -> None:
    store = SessionStore(database, memory_limit=10)
    for number in range(40):
        store.remember(answer(f"m{number}", user_message_id=f"u{number}"), session(f"c{number}"))
        if number % 5 == 4:
            await store.flush()
    for known in (store._answers, store._siblings, store._sessions):
        assert len(known) == 10
    for number in range(40):
        assert await store.answer(f"m{number}") is not None
        assert await store.session(f"c{number}") is not None
        assert await store.answer(f"x{number}") is None
    assert len(store._misses) == 10


def test_recent_forgets_what_was_not_used() -> None:
    recent: Recent[str, int] = Recent(2)
    assert (recent.put("a", 1), recent.put("b", 2), recent.get("a")) == (0, 0, 1)
    assert recent.put("c", 3) == 1
    assert (recent.get("a"), recent.get("b"), recent.values()) == (1, None, [3, 1])
    recent.drop("b")
    recent.drop_if_same("a", 7)
    recent.drop_where(lambda value: value > 2)
    assert recent.values() == [1]
    assert len(recent) == 1


# Writing behind


async def test_the_writer_collects_and_close_flushes(database: Database, plug: Plug) -> None:
    store = SessionStore(database, flush_seconds=0.03)
    await store.start()
    await store.start()
    for number in range(50):
        store.remember(answer(f"m{number}"), session(ui_since=number))
        await asyncio.sleep(0)
    await until(lambda: not store._writer._due.values())
    assert await count(database) == 51
    assert plug.attempts.count("begin") == 1
    store.remember(answer("last"), session())
    await store.close()
    await store.close()
    assert await count(database) == 52
    assert [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_close_waits_for_a_write_in_progress(database: Database) -> None:
    store = SessionStore(database, flush_seconds=0.0)
    await store.start()
    for number in range(500):
        store.remember(answer(f"m{number}"), session())
    await asyncio.sleep(0.005)
    await store.close()
    assert await count(database) == 501


async def test_an_outage_is_waited_out(
    database: Database, plug: Plug, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "agent_mode")
    store = SessionStore(database, flush_seconds=0.01)
    await store.start()
    plug.out = True
    store.remember(answer(), session())
    await until(lambda: plug.attempts.count("begin") == 4)
    store.remember(answer("m2"), session(ui_since=8))
    assert await store.answer("m2") == answer("m2")
    assert await store.answer("nobody") is None
    assert await store.session("nobody") is None
    assert [record.levelname for record in caplog.records].count("WARNING") == 1
    plug.out = False
    await until(lambda: "written again" in caplog.text)
    assert await count(database) == 3
    await store.close()
    assert await SessionStore(database).session("c1") == session(ui_since=8)


async def test_lookups_rest_during_an_outage(
    database: Database, plug: Plug, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_behind, "BACK_OFF_SECONDS", (0.3, 0.3))
    store = SessionStore(database)
    store.remember(answer(), session())
    await store.flush()
    plug.attempts.clear()
    plug.out = True
    assert [
        await SessionStore(database).answer("m1"),
        await store.answer("m2"),
        await store.answer("m3"),
    ] == [None] * 3
    assert await store.session("c1") == session()
    assert plug.attempts == ["read", "read"]
    plug.out = False
    await asyncio.sleep(0.35)
    assert await store.answer("m3") is None
    assert plug.attempts == ["read"] * 3


async def test_a_silent_database_does_not_hold_a_chat(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "LOOKUP_SECONDS", 0.05)

    @asynccontextmanager
    async def silent() -> AsyncIterator[None]:
        await asyncio.sleep(60)
        yield

    monkeypatch.setattr(database, "read", silent)
    assert await asyncio.wait_for(SessionStore(database).answer("m1"), PATIENCE) is None


async def test_a_long_outage_is_bounded(
    database: Database, plug: Plug, caplog: pytest.LogCaptureFixture
) -> None:
    store = SessionStore(database, memory_limit=10)
    plug.out = True
    for number in range(50):
        store.remember(answer(f"m{number}"), session(f"c{number}"))
        await store.flush()
    await store.close()
    assert "10 session records could not be stored before the end" in caplog.text
    plug.out = False
    await store.flush()
    assert "90 session records were given up" in caplog.text
    assert await count(database) == 10
    assert await SessionStore(database).session("c49") == session("c49")


async def test_a_lost_connection_is_renewed(database: Database) -> None:
    """PostgreSQL ends idle connections when it restarts; the pool still holds them."""
    if not database.shared:
        pytest.skip("SQLite has no server")
    store = SessionStore(database)
    store.remember(answer(), session())
    await store.flush()
    async with database.read() as connection:
        others = "pid <> pg_backend_pid() AND datname = current_database()"
        await connection.execute(
            text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
        )
    store.remember(answer("m2"), session())
    await store.flush()
    assert await SessionStore(database).answer("m2") == answer("m2")


# Ids that no database takes

BAD = ["", "a\0b", "a\ud800b", "a" * 256]


def test_storable() -> None:
    assert [storable(bad) for bad in BAD] == [False] * 4
    assert storable("ä💻 '; DROP TABLE answer; --")


@pytest.mark.parametrize("bad", BAD, ids=["empty", "nul", "surrogate", "long"])
async def test_a_bad_id_spoils_nothing(database: Database, bad: str) -> None:
    store = SessionStore(database)
    store.remember(answer(), session())
    store.remember(answer(bad), session())
    store.remember(answer("m2", chat_id=bad), session(bad))
    store.remember(answer("m3", user_message_id=bad), session())
    store.remember(answer("m4", agent=bad), session())
    store.remember(answer("m5", ui_agent=bad), session())
    assert await store.answer(bad) is None
    assert await store.session(bad) is None
    assert await store.sibling(bad, bad) is None
    await store.flush()
    assert await count(database) == 3
    assert await SessionStore(database).answer("m3") == answer("m3", user_message_id=None)


async def test_an_entry_that_the_database_refuses_is_left_out(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    store = SessionStore(database)
    store.remember(answer(), session())
    store.remember(answer("m2"), session("c2", ui_since=2**80))
    store.remember(answer("m3"), session("c3", agent_history=(Switch("\ud800", "\0", "", 1, "user_switch"),)))
    await store.flush()
    assert await count(database) == 5
    assert caplog.text.count("session was not stored") == 1
    assert await SessionStore(database).session("c2") is None
    await store.flush()
    assert caplog.text.count("session was not stored") == 1


TEXT = st.text(st.characters(exclude_categories=()), max_size=20)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(TEXT, TEXT, st.none() | TEXT, TEXT, TEXT), max_size=4))
def test_any_ids_are_remembered_or_ignored(
    tmp_path: Path, rows: list[tuple[str, str, str | None, str, str]]
) -> None:
    async def run() -> None:
        database = await Database.open(f"sqlite+aiosqlite:///{tmp_path / 'any.db'}")
        store, fresh = SessionStore(database), SessionStore(database)
        for row in rows:
            store.remember(Answer(*row, T0), Session(row[1], row[3], row[4], updated_at=datetime.now(UTC)))
        await store.flush()
        assert not store._writer._due.values()
        for row in rows:
            known = await store.answer(row[0])
            if known is None or not known.chat_id.startswith(("temporary:", "local:")):
                assert await fresh.answer(row[0]) == known
        await database.close()

    asyncio.run(run())


# Pruning


async def test_prune(database: Database) -> None:
    now = datetime.now(UTC)
    store = SessionStore(database)
    for days in (0, 5, 20):
        old = now - timedelta(days=days)
        store.remember(answer(f"m{days}", at=old), session(f"c{days}", updated_at=old))
    assert await store.prune(30) == 0
    assert await store.prune(10) == 2
    assert await store.answer("m20") is None
    assert await store.session("c20") is None
    assert await store.session("c5") is not None
    assert await store.prune(0) == 4
    assert await count(database) == 0
    with pytest.raises(ValueError, match="negative"):
        await store.prune(-1)
