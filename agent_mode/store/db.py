"""The database: one engine, transactions, and the schema at its newest version after `open`."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiosqlite
from sqlalchemy import Connection, Table, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from agent_mode.errors import StoreError
from agent_mode.observe.redaction import said
from agent_mode.store.failures import HINTS, shown, translated
from agent_mode.store.migrate import is_current, revision, upgrade

BUSY_SECONDS = 5.0
"""How long SQLite waits for the write lock of another process."""
MIGRATION_SECONDS = 60.0
"""How long `open` waits for another process that is migrating the same SQLite file."""
CONNECT_SECONDS = 10.0
STATEMENT_SECONDS = 30.0
"""A PostgreSQL server that fell silent must not hold a chat for longer."""

_READ_ONLY = "agent_mode_read_only"
_URL_HINT = (
    "AGENT_MODE_DATABASE_URL looks like postgresql://user:password@host:5432/name or sqlite:///path/file.db."
)


class Database:
    """An open database. Make it with `Database.open`, use it on one event loop, close it on the same."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        options: dict[str, Any] = {_READ_ONLY: True}
        if engine.dialect.name == "postgresql":
            options["isolation_level"] = "AUTOCOMMIT"  # saves BEGIN and ROLLBACK around every lookup
        self._reader = engine.execution_options(**options)
        self._writing = asyncio.Lock()
        self._closed = False
        self.temporary = False
        """Whether it stands in for one that cannot be used, and goes with the process."""

    @classmethod
    async def open(cls, url: str, *, create: bool = True) -> Database:
        """Connect, create what is missing (folder, file, tables), and migrate to the newest schema.

        Args:
            url: `sqlite+aiosqlite:///path` or `postgresql+asyncpg://user:password@host/name`.
            create: whether an SQLite file that is not there is made.

        Raises:
            StoreError: code `database_url`, `database_newer`, `database_missing`, or one of
                `failures.translated`.
        """
        parsed = _parse(url)
        if parsed.get_backend_name() == "sqlite" and parsed.database is not None:
            if create:
                _make_folder(Path(parsed.database).parent)
            else:
                _refuse_missing(Path(parsed.database))
            _check_file(parsed, parsed.database)
        give_up = time.monotonic() + MIGRATION_SECONDS
        while True:
            try:
                return await cls._open(parsed)
            except StoreError as error:
                # A second process may be creating or migrating the same file; the switch to WAL
                # does not wait for a lock by itself.
                if error.code != "database_busy" or time.monotonic() > give_up:
                    raise
            await asyncio.sleep(0.05)

    @classmethod
    async def open_as_it_is(cls, url: str) -> Database:
        """Connect to look, and change nothing: what is missing or of an older schema stays so.

        Raises:
            StoreError: as of `open`.
        """
        parsed = _parse(url)
        if parsed.get_backend_name() == "sqlite" and parsed.database is not None:
            _refuse_missing(Path(parsed.database))
            _check_file(parsed, parsed.database)
        database = cls(_engine(parsed, STATEMENT_SECONDS, read_only=True))
        try:
            await database._is_current(parsed)
        except BaseException:
            await database.close()
            raise
        return database

    @classmethod
    async def _open(cls, url: URL) -> Database:
        database = cls(_engine(url, STATEMENT_SECONDS))
        try:
            if not await database._is_current(url):
                await _migrate(url)
        except BaseException:
            await database.close()
            raise
        return database

    async def _is_current(self, url: URL) -> bool:
        try:
            async with self.read() as connection:
                return await connection.run_sync(is_current)
        except TypeError as error:
            if not url.query:
                raise
            # The driver takes the options of the URL as arguments of a function.
            raise StoreError(
                f"An option in the database URL is unknown: {said(error)}.",
                code="database_url",
                hint=_URL_HINT,
            ) from error

    @property
    def shared(self) -> bool:
        """True where other processes may serve the same chats (PostgreSQL)."""
        return self._engine.dialect.name == "postgresql"

    @asynccontextmanager
    async def begin(self, *, lasting: bool = False) -> AsyncIterator[AsyncConnection]:
        """One write transaction: committed at the end of the block, rolled back if it raises.

        SQLite takes the write lock at once, so that what the block reads cannot change before it writes.

        Args:
            lasting: whether somebody counts on it that this is kept, as with a persona or an agent.

        Raises:
            StoreError: see `failures.translated`; `store_temporary` for what is to last.
        """
        self._check_open()
        if lasting:
            self.check_lasting()
        with translated(self._engine.url, self._engine.dialect):
            async with self._turn(), self._engine.begin() as connection:
                yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for lookups: no transaction, no lock, each statement sees the newest state.

        Raises:
            StoreError: see `failures.translated`.
        """
        self._check_open()
        with translated(self._engine.url, self._engine.dialect):
            async with self._reader.connect() as connection:
                yield connection

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """SQLite has one writer, and those of this process queue for it here.

        SQLite's own waiting is sleeping and trying again, in which the unlucky one of fifty may starve.
        """
        if self.shared:
            yield
            return
        try:
            async with asyncio.timeout(BUSY_SECONDS):
                await self._writing.acquire()
        except TimeoutError:
            yield  # SQLite itself says that it is busy
            return
        try:
            yield
        finally:
            self._writing.release()

    def insert(self, table: Table) -> Any:
        """An INSERT that has `on_conflict_do_update` and `excluded`, which are alike in both dialects."""
        return postgresql.insert(table) if self.shared else sqlite.insert(table)

    def check_lasting(self) -> None:
        """
        Raises:
            StoreError: code `store_temporary`: what is written goes with the process.
        """
        if self.temporary:
            raise StoreError(
                "Nothing can be saved: the database cannot be used, and a temporary one stands in for it.",
                hint="An admin finds the reason in the server's log, repairs the database, and restarts.",
                code="store_temporary",
                status=503,
            )

    async def schema(self) -> str | None:
        """The version of its schema, such as "0001"; None: it is empty.

        Raises:
            StoreError: see `failures.translated`.
        """
        async with self.read() as connection:
            return await connection.run_sync(revision)

    async def check(self) -> None:
        """Reads an SQLite file once (about a second for 500 MB).

        Raises:
            StoreError: code `database_damaged`.
        """
        if self.shared:
            return
        async with self.read() as connection:
            told = (await connection.execute(text("PRAGMA quick_check(1)"))).scalar_one()
        if told != "ok":
            raise StoreError(
                f"The database {shown(self._engine.url)} is damaged: {told.splitlines()[-1]}.",
                hint=HINTS["database_damaged"],
                code="database_damaged",
            )

    async def optimize(self) -> None:
        """Tells SQLite's planner how large the tables are, as its makers advise for long-lived programs
        (https://www.sqlite.org/lang_analyze.html); PostgreSQL finds out by itself.

        Raises:
            StoreError: see `failures.translated`.
        """
        if not self.shared:
            async with self.begin() as connection:
                await connection.execute(text("PRAGMA analysis_limit = 1000"))  # rows of each index: quick
                await connection.execute(text("ANALYZE"))

    async def close(self) -> None:
        """Close all connections; may be called twice."""
        self._closed = True
        await self._engine.dispose()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("The database is closed.", code="database_closed")


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # Not chained: the original message may quote the URL with its password.
        raise StoreError("The database URL cannot be read.", code="database_url", hint=_URL_HINT) from None
    backend = parsed.get_backend_name() if parsed.drivername else ""
    if backend not in ("sqlite", "postgresql"):
        raise StoreError(f"{backend} databases are not supported.", code="database_url", hint=_URL_HINT)
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise StoreError("An SQLite database needs a file.", code="database_url", hint=_URL_HINT)
    if "sslmode" in parsed.query:
        # libpq's name, which every PostgreSQL host prints in its URLs; asyncpg calls it ssl.
        parsed = parsed.update_query_dict({"ssl": parsed.query["sslmode"]}).difference_update_query(
            ["sslmode"]
        )
    return parsed


def _refuse_missing(file: Path) -> None:
    if not file.exists():
        raise StoreError(
            f"There is no database at {file}.",
            hint="Set AGENT_MODE_DATA_DIR or AGENT_MODE_DATABASE_URL as the server has them. Its first start "
            "makes the database.",
            code="database_missing",
        )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"The folder {folder} for the database cannot be created: {error.strerror}.",
            code="database_unreachable",
            hint="Choose another with AGENT_MODE_DATA_DIR, or make it writable for this user.",
        ) from error


def _check_file(url: URL, path: str) -> None:
    """Opens the file once by itself: when aiosqlite fails to connect, its thread may outlive the loop."""
    try:
        with closing(sqlite3.connect(path, timeout=0)) as probe:
            probe.execute("PRAGMA schema_version")
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorname.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return  # somebody else is at work on it, so it can be opened
        closed = isinstance(error, sqlite3.OperationalError)
        hint = f"Check that {path} is an SQLite file that this user may read and write, or name another."
        what = "cannot be reached" if closed else "is damaged"
        raise StoreError(
            f"The database {shown(url)} {what}: {said(error)}.",
            code="database_unreachable" if closed else "database_damaged",
            hint=hint if closed else HINTS["database_damaged"],
        ) from error


def _engine(url: URL, statement_seconds: float | None, *, read_only: bool = False) -> AsyncEngine:
    arguments: dict[str, Any] = {"timeout": BUSY_SECONDS, "async_creator_fn": _connect_sqlite}
    if url.get_backend_name() == "postgresql":
        arguments = {"timeout": CONNECT_SECONDS, "command_timeout": statement_seconds}
    try:
        engine = create_async_engine(
            url,
            connect_args=arguments,
            # Named, because SQLAlchemy before 2.0.38 would open an SQLite file anew for every statement.
            poolclass=AsyncAdaptedQueuePool,
            pool_timeout=CONNECT_SECONDS,
            pool_pre_ping=url.get_backend_name() == "postgresql",
        )
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError, TypeError) as error:
        raise StoreError(
            f"The database driver {url.drivername} cannot be used: {said(error)}.",
            code="database_url",
            hint=_URL_HINT,
        ) from error
    if url.get_backend_name() == "sqlite":
        event.listen(engine.sync_engine, "connect", _protect_sqlite if read_only else _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _connect_sqlite(*args: Any, **options: Any) -> Any:
    """As SQLAlchemy connects by itself, but the connection may be stopped again and again.

    If a task is cancelled twice while it gives up a connection, SQLAlchemy stops that, and aiosqlite (0.22)
    stops it once more and waits for a thread that has ended: for ever, and with it the end of the process.
    """
    connection: Any = aiosqlite.connect(*args, **options)
    getattr(connection, "_thread", connection).daemon = True  # before 0.22 the connection was the thread
    if hasattr(connection, "stop"):
        connection.stop = _once(connection.stop)
    return connection


def _once(stop: Callable[[], Any]) -> Callable[[], Any]:
    calls = iter([stop])

    def stop_if_running() -> Any:
        call = next(calls, None)
        return call() if call is not None else None

    return stop_if_running


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # Python's driver would begin transactions late and commit some by itself; _begin_sqlite does it instead.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _protect_sqlite(connection: Any, _record: object) -> None:
    # Not opened with mode=ro: that would leave -wal and -shm files behind where there were none.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    if not connection.get_execution_options().get(_READ_ONLY):
        # Not deferred: a transaction that reads first and then writes fails when another wrote in between.
        connection.exec_driver_sql("BEGIN IMMEDIATE")


async def _migrate(url: URL) -> None:
    # Through an engine of its own: a migration may take longer than a statement otherwise should.
    database = Database(_engine(url, None))
    try:
        async with database.begin() as connection:
            await connection.run_sync(upgrade)
    finally:
        await database.close()
