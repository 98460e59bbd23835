"""What each user set: read from memory first, kept in the database, never in the way of a turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from agent_mode.errors import StoreError
from agent_mode.store import users as module
from agent_mode.store.db import Database
from agent_mode.store.tables import user_settings as table
from agent_mode.store.users import NOTHING_SET, UserSettings, UserStore

pytest_plugins = ["tests.databases"]

ALL = UserSettings(persistence=True, info=False, prefix="/", persona="coder")


class Away:
    """The database, while it cannot be reached."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads = 0
        self.away = False
        for name in ("read", "begin"):
            monkeypatch.setattr(database, name, self._wrapped(getattr(database, name)))

    def _wrapped(self, original: Any) -> Any:
        @asynccontextmanager
        async def wrapped() -> AsyncIterator[Any]:
            self.reads += 1
            if self.away:
                raise StoreError("The database is away.")
            async with original() as connection:
                yield connection

        return wrapped


@pytest.fixture
def plug(database: Database, monkeypatch: pytest.MonkeyPatch) -> Away:
    return Away(database, monkeypatch)


async def test_nobody_has_set_anything_at_first(database: Database) -> None:
    assert await UserStore(database).get("ann") == NOTHING_SET == UserSettings(None, None, None, None)


@pytest.mark.parametrize(
    "settings",
    [ALL, NOTHING_SET, UserSettings(persistence=False), UserSettings(info=True), UserSettings(prefix="🎭")],
    ids=str,
)
async def test_settings_survive_a_restart(database: Database, settings: UserSettings) -> None:
    store = UserStore(database)
    await store.put("ann", settings)

    assert await store.get("ann") == settings
    assert await UserStore(database).get("ann") == settings
    assert await UserStore(database).get("bob") == NOTHING_SET


async def test_the_newest_settings_count(database: Database) -> None:
    store = UserStore(database)
    for settings in (ALL, replace(ALL, prefix=None), replace(ALL, persona="teacher")):
        await store.put("ann", settings)

    assert await UserStore(database).get("ann") == replace(ALL, persona="teacher")
    async with database.read() as connection:
        rows = (await connection.execute(select(table))).all()
    assert len(rows) == 1


async def test_puts_at_the_same_time_leave_one_of_them(database: Database) -> None:
    store = UserStore(database)
    wanted = [replace(ALL, persona=f"persona{number}") for number in range(20)]

    await asyncio.gather(*(store.put("ann", settings) for settings in wanted))

    assert await UserStore(database).get("ann") in wanted


async def test_memory_is_asked_first(database: Database, plug: Away) -> None:
    store = UserStore(database)
    await store.put("ann", ALL)
    await store.get("bob")
    plug.reads = 0

    assert (await store.get("ann"), await store.get("bob")) == (ALL, NOTHING_SET)

    assert plug.reads == 0


async def test_memory_forgets_who_was_away_longest(
    database: Database, plug: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MEMORY", 2)
    store = UserStore(database)
    for user in ("ann", "bob", "cid"):
        await store.put(user, replace(ALL, persona=user))
    plug.reads = 0

    for user in ("cid", "bob", "ann"):
        assert await store.get(user) == replace(ALL, persona=user)

    assert plug.reads == 1


@pytest.mark.parametrize("user_id", [None, "", "x" * 5_000, "a\x00b", "half \ud800"])
async def test_who_cannot_be_stored_has_no_settings(
    database: Database, plug: Away, user_id: str | None
) -> None:
    store = UserStore(database)
    if user_id is not None:
        await store.put(user_id, ALL)  # is no error either
    assert await store.get(user_id) == NOTHING_SET
    assert plug.reads == 0


async def test_while_the_database_is_away_nothing_is_set(database: Database, plug: Away) -> None:
    await UserStore(database).put("ann", ALL)
    store = UserStore(database)
    plug.away = True

    assert await store.get("ann") == NOTHING_SET
    plug.away = False
    assert await store.get("ann") == NOTHING_SET  # nobody waits for a database that was away just now
    store._outage.worked()

    assert await store.get("ann") == ALL  # that nothing could be read is not remembered


async def test_what_could_not_be_written_holds_until_the_restart(database: Database, plug: Away) -> None:
    store = UserStore(database)
    plug.away = True
    with pytest.raises(StoreError):
        await store.put("ann", ALL)
    plug.away = False

    assert await store.get("ann") == ALL
    assert await UserStore(database).get("ann") == NOTHING_SET


@pytest.mark.parametrize(
    ("stored", "settings"),
    [
        ({}, NOTHING_SET),
        ({"prefix": "/"}, UserSettings(prefix="/")),
        ({"prefix": "/", "of_a_newer_version": 1}, UserSettings(prefix="/")),
        ([], NOTHING_SET),
        ("x", NOTHING_SET),
        (7, NOTHING_SET),
    ],
    ids=str,
)
async def test_rows_of_other_versions_are_understood(
    database: Database, stored: Any, settings: UserSettings
) -> None:
    row = {"user_id": "ann", "settings": stored, "updated_at": datetime.now(UTC)}
    async with database.begin() as connection:
        await connection.execute(insert(table).values(row))

    assert await UserStore(database).get("ann") == settings


async def test_when_it_was_changed_is_noted(database: Database) -> None:
    store = UserStore(database)
    await store.put("ann", ALL)
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    async with database.begin() as connection:
        await connection.execute(update(table).values(updated_at=long_ago))

    await store.put("ann", NOTHING_SET)

    async with database.read() as connection:
        changed = (await connection.execute(select(table.c.updated_at))).scalar_one()
    assert changed > long_ago


async def test_what_another_process_changed_is_seen_within_seconds(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where processes share the database; elsewhere memory is as good as new for ever."""
    here, there = UserStore(database), UserStore(database)
    await here.put("ann", ALL)
    assert await there.get("ann") == ALL
    await here.put("ann", UserSettings(prefix="/"))
    assert await there.get("ann") == ALL  # not asked with every message

    monkeypatch.setattr(module, "BELIEVED_SECONDS", 0.0)

    assert await there.get("ann") == (UserSettings(prefix="/") if database.shared else ALL)


async def test_old_news_are_better_than_none(
    database: Database, plug: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = UserStore(database)
    await store.put("ann", ALL)
    monkeypatch.setattr(module, "BELIEVED_SECONDS", 0.0)
    plug.away = True

    assert await store.get("ann") == ALL
    assert await store.get("ann") == ALL


async def test_a_change_leaves_the_other_settings_alone(database: Database) -> None:
    """Also those that another process set a moment ago, of which memory knows nothing yet."""
    here, there = UserStore(database), UserStore(database)
    assert await here.change("ann", info=False) == UserSettings(info=False)
    assert await there.get("ann") == UserSettings(info=False)
    await here.change("ann", prefix="/")

    changed = await there.change("ann", persona="coder")

    assert changed == UserSettings(info=False, prefix="/", persona="coder")
    assert await there.get("ann") == changed
    assert await UserStore(database).get("ann") == changed


async def test_changes_at_the_same_time_all_count(database: Database) -> None:
    stores = [UserStore(database) for _ in range(4)]
    changes: list[dict[str, Any]] = [
        {"persistence": True},
        {"info": False},
        {"prefix": "/"},
        {"persona": "coder"},
    ]

    await asyncio.gather(
        *(store.change("ann", **change) for store, change in zip(stores, changes, strict=True))
    )

    assert await UserStore(database).get("ann") == ALL


async def test_changes_of_one_user_take_turns(database: Database) -> None:
    """The newest holds at once, and no older one that is still being written comes over it."""
    store = UserStore(database)
    await store.put("ann", UserSettings(prefix="/"))
    seen: list[str | None] = []
    last = [*(f"p{number}" for number in range(30)), None]

    async def change(persona: str | None) -> None:
        await store.change("ann", persona=persona)
        seen.append((await store.get("ann")).persona)

    await asyncio.gather(*(change(persona) for persona in last))

    assert set(seen) == {None}
    assert await UserStore(database).get("ann") == UserSettings(prefix="/")


async def test_a_change_that_could_not_be_written_holds_until_the_restart(
    database: Database, plug: Away
) -> None:
    store = UserStore(database)
    await store.put("ann", UserSettings(prefix="/"))
    plug.away = True

    with pytest.raises(StoreError):
        await store.change("ann", persona="coder")

    assert await store.get("ann") == UserSettings(prefix="/", persona="coder")


async def test_who_cannot_be_stored_changes_nothing(database: Database) -> None:
    assert await UserStore(database).change("a\0b", persona="coder") == NOTHING_SET
