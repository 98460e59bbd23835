"""Opening, migrating, transactions, and errors that a person can read."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, select, text

from agent_mode.errors import StoreError
from agent_mode.store import db as db_module
from agent_mode.store import migrate
from agent_mode.store.db import Database
from agent_mode.store.tables import metadata, revision
from tests.patience import PATIENCE, until

pytest_plugins = ["tests.databases"]

OPEN = """
import asyncio, sys, time
from agent_mode.store.db import Database
async def main():
    time.sleep(max(0, float(sys.argv[2]) - time.time()))
    database = await Database.open(sys.argv[1])
    await database.close()
    print("alembic" in sys.modules)
asyncio.run(main())
"""


async def run_open(url: str, at: float = 0.0) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-c", OPEN, url, str(at)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode().strip(), err.decode()


def sqlite_url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


async def numbers(database: Database) -> dict[str, int]:
    async with database.read() as connection:
        return {row.name: row.number for row in await connection.execute(select(revision))}


def compare(connection: Connection) -> list[object]:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    return list(compare_metadata(MigrationContext.configure(connection), metadata))


async def test_a_new_database_has_exactly_our_tables(database: Database) -> None:
    async with database.begin() as connection:
        assert await connection.run_sync(compare) == []
    assert await numbers(database) == {"personas": 0, "agents": 0, "run_stops": 0}


def test_head_is_the_newest_migration() -> None:
    versions = sorted(path.stem.split("_")[0] for path in migrate.MIGRATIONS.glob("versions/*.py"))
    assert versions[-1] == migrate.HEAD
    assert len(versions) == len(set(versions))


async def test_a_migration_can_be_undone(database: Database) -> None:
    def down_and_up(connection: Connection) -> None:
        from alembic import command
        from alembic.config import Config

        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(migrate.MIGRATIONS))
        command.downgrade(config, "base")
        migrate.upgrade(connection)

    async with database.begin() as connection:
        await connection.run_sync(down_and_up)
        assert await connection.run_sync(compare) == []


async def test_records_of_chats_stay_when_they_get_owners(database: Database) -> None:
    at = "2026-01-02 03:04:05"
    old = (
        f"INSERT INTO session VALUES ('c1', 'coder', 'personas.coder', 3, '[]', '{at}')",
        "INSERT INTO answer (message_id, chat_id, agent, ui_agent, at) "
        f"VALUES ('m1', 'c1', 'coder', 'personas.coder', '{at}')",
        "INSERT INTO reply (message_id, chat_id, user_message_id, place, model, text, at) "
        f"VALUES ('m1', 'c1', 'u1', 1, 'coder', 'Hello', '{at}')",
    )

    def down(connection: Connection, to: str) -> None:
        from alembic import command
        from alembic.config import Config

        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(migrate.MIGRATIONS))
        command.downgrade(config, to)

    async def rows(table: str) -> list[tuple[str, str]]:
        key = "chat_id" if table == "session" else "message_id"
        async with database.read() as connection:
            found = await connection.execute(text(f"SELECT {key}, owner FROM {table} ORDER BY owner"))
            return [tuple(row) for row in found]

    async with database.begin() as connection:
        await connection.run_sync(down, "0009")
        for statement in old:
            await connection.execute(text(statement))
        await connection.run_sync(migrate.upgrade)
        await connection.execute(
            text(
                "INSERT INTO session "
                "(chat_id, owner, active_agent, ui_agent, ui_since, agent_history, updated_at) "
                f"VALUES ('c1', 'ann', 'writer', 'personas.coder', 3, '[]', '{at}')"
            )
        )
    assert await rows("session") == [("c1", ""), ("c1", "ann")]
    assert await rows("answer") == await rows("reply") == [("m1", "")]
    async with database.begin() as connection:
        await connection.run_sync(down, "0009")
        agents = (await connection.execute(text("SELECT active_agent FROM session"))).scalars().all()
        assert agents == ["writer"]
        await connection.run_sync(migrate.upgrade)


async def test_an_up_to_date_database_opens_without_alembic(database_url: str) -> None:
    assert await run_open(database_url) == (0, "True", "")
    assert await run_open(database_url) == (0, "False", "")


async def test_two_processes_may_create_one_database_at_once(database_url: str) -> None:
    at = time.time() + 1.0
    for code, _, err in await asyncio.gather(*(run_open(database_url, at) for _ in range(2))):
        assert (code, err) == (0, "")


async def test_many_openings_at_once(database_url: str) -> None:
    opened = await asyncio.gather(*(Database.open(database_url) for _ in range(6)))
    for database in opened:
        await database.close()


async def test_a_newer_database_is_refused(database_url: str) -> None:
    database = await Database.open(database_url)
    async with database.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await database.close()
    with pytest.raises(StoreError, match="schema version 9999") as caught:
        await Database.open(database_url)
    assert caught.value.code == "database_newer"
    assert "Update Agent Mode" in caught.value.hint


async def test_a_look_changes_nothing(database: Database, database_url: str) -> None:
    looking = await Database.open_as_it_is(database_url)
    assert await looking.schema() == migrate.HEAD
    if not database.shared:
        with pytest.raises(StoreError):
            async with looking.begin() as connection:
                await connection.execute(text("DELETE FROM revision"))
    await looking.close()
    async with database.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="schema version 9999"):
        await Database.open_as_it_is(database_url)


def test_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        asyncio.run(Database.open_as_it_is(f"sqlite+aiosqlite:///{tmp_path / 'none' / 'agent_mode.db'}"))
    assert caught.value.code == "database_missing"
    assert list(tmp_path.iterdir()) == []


async def test_close_leaves_no_thread_and_no_connection(database_url: str) -> None:
    before = threading.active_count()
    database = await Database.open(database_url)
    await asyncio.gather(*(numbers(database) for _ in range(5)))
    await database.close()
    await database.close()
    # A thread of the driver ends a moment after it has reported that it is done.
    await until(lambda: threading.active_count() <= before)
    with pytest.raises(StoreError, match="closed"):
        await numbers(database)


async def test_a_transaction_is_all_or_nothing(database: Database) -> None:
    async def half() -> None:
        async with database.begin() as connection:
            await connection.execute(insert(revision).values(name="half", number=1))
            raise LookupError

    with pytest.raises(LookupError):
        await half()
    assert "half" not in await numbers(database)
    async with database.begin() as connection:
        await connection.execute(insert(revision).values(name="whole", number=1))
    assert "whole" in await numbers(database)


async def test_reading_does_not_wait_for_a_writer(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(insert(revision).values(name="unfinished", number=1))
        assert "unfinished" not in await asyncio.wait_for(numbers(database), PATIENCE)


async def test_a_refused_value_is_told_from_an_outage(database: Database) -> None:
    with pytest.raises(StoreError) as caught:
        async with database.begin() as connection:
            await connection.execute(insert(revision).values(name="personas", number=1))
    assert (caught.value.code, caught.value.retryable) == ("data_refused", False)
    with pytest.raises(StoreError) as caught:
        async with database.read() as connection:
            await connection.execute(text("SELECT * FROM nowhere"))
    assert (caught.value.code, caught.value.retryable) == ("database_error", False)


async def test_a_locked_file_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db_module, "BUSY_SECONDS", 0.05)
    database = await Database.open(sqlite_url(tmp_path / "a.db"))
    async with database.begin():
        with pytest.raises(StoreError) as caught:
            async with database.begin():
                pass
    await database.close()
    assert (caught.value.code, caught.value.retryable) == ("database_busy", True)


async def test_sqlite_is_set_up_for_several_processes(tmp_path: Path) -> None:
    database = await Database.open(sqlite_url(tmp_path / "deep" / "er" / "a.db"))
    async with database.read() as connection:
        pragmas = {
            name: (await connection.execute(text(f"PRAGMA {name}"))).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    await database.close()
    assert pragmas == {"journal_mode": "wal", "synchronous": 1, "foreign_keys": 1, "busy_timeout": 5000}


async def test_a_task_cancelled_again_and_again_leaves_nothing_waiting(tmp_path: Path) -> None:
    database = await Database.open(sqlite_url(tmp_path / "store.db"))

    async def read() -> None:
        async with database.read() as connection:
            await connection.execute(select(revision))

    for pause in (0.0, 0.0001, 0.0005) * 30:
        task = asyncio.create_task(read())
        await asyncio.sleep(pause)
        for _ in range(4):
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.wait({task})
    await database.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    _, waiting = await asyncio.wait(others, timeout=PATIENCE) if others else ((), set())
    assert not waiting
    await until(  # what a connection's thread has left to say, it says to this loop
        lambda: not any("_connection_worker_thread" in thread.name for thread in threading.enumerate())
    )


async def test_the_planner_of_sqlite_is_told_how_large_tables_are(tmp_path: Path) -> None:
    database = await Database.open(sqlite_url(tmp_path / "store.db"))
    async with database.begin() as connection:
        rows = [{"name": f"n{number}", "number": number} for number in range(1000)]
        await connection.execute(insert(revision), rows)
    await database.optimize()
    async with database.read() as connection:
        found = await connection.execute(text("SELECT tbl FROM sqlite_stat1"))
        assert "revision" in {row.tbl for row in found}
    await database.close()


@pytest.mark.parametrize(
    ("url", "code", "says"),
    [
        ("nonsense", "database_url", "cannot be read"),
        ("postgresql+asyncpg://agent:hunter2@host:port/db", "database_url", "cannot be read"),
        ("mysql+aiomysql://agent:hunter2@host/db", "database_url", "mysql"),
        ("postgresql+nodriver://agent:hunter2@host/db", "database_url", "nodriver"),
        ("sqlite+aiosqlite://", "database_url", "needs a file"),
        ("sqlite+aiosqlite:////proc/nowhere/a.db", "database_unreachable", "/proc/nowhere"),
        ("sqlite+aiosqlite:///{tmp}", "database_unreachable", "unable to open"),
        ("sqlite+aiosqlite:///{tmp}/text.db", "database_damaged", "not a database"),
    ],
)
async def test_what_cannot_be_opened_is_said_readably(url: str, code: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("This is a text and no database at all, whatever its name says. " * 9)
    with pytest.raises(StoreError, match=says) as caught:
        await Database.open(url.format(tmp=tmp_path))
    assert caught.value.code == code
    assert caught.value.hint
    assert "hunter2" not in str(caught.value)


async def test_a_server_that_is_away_is_said_readably(unused_tcp_port: int) -> None:
    pytest.importorskip("asyncpg")
    # sslmode is what other programs call it; asyncpg does not know the name.
    url = f"postgresql+asyncpg://agent:hunter2@127.0.0.1:{unused_tcp_port}/agents?sslmode=prefer"
    with pytest.raises(StoreError, match="cannot be reached") as caught:
        await Database.open(url)
    assert caught.value.retryable
    assert f"agent:***@127.0.0.1:{unused_tcp_port}/agents" in str(caught.value)
    assert "hunter2" not in str(caught.value)


async def test_an_unknown_option_of_the_url_is_said_readably(unused_tcp_port: int) -> None:
    pytest.importorskip("asyncpg")
    with pytest.raises(StoreError, match="colour") as caught:
        await Database.open(
            f"postgresql+asyncpg://agent:hunter2@127.0.0.1:{unused_tcp_port}/agents?colour=red"
        )
    assert caught.value.code == "database_url"
    assert "hunter2" not in str(caught.value)
