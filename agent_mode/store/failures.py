"""What the database driver raises, as a `StoreError` with a readable message and no password."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.engine import URL, Dialect
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
    StatementError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from agent_mode.errors import StoreError

DATA_REFUSED = "data_refused"
"""Code of the one failure that the values to write caused themselves: the same write fails for ever."""

_DATA_STATES = ("22", "23", "54")
"""PostgreSQL's SQLSTATE classes: data exception, integrity violation, program limit exceeded."""
_OUTAGE_STATES = ("08", "28", "3D", "40", "53", "57", "58")
"""Connection, authorization, missing database, rolled back, no resources, operator, system error."""

HINTS = {
    DATA_REFUSED: "The value holds characters or a size that the database cannot keep.",
    "database_damaged": "Stop the server, move the file away with its -wal and -shm files, and put a copy in "
    "its place; without one, start anew and restore the personas. docs/backup.md tells how.",
    "database_busy": "Another process is writing to the same file for long; try again.",
    "sqlite": "Check that the folder exists, that this user may write to it, and that the disk is not full.",
    "postgresql": "Check AGENT_MODE_DATABASE_URL, and that the database server runs and can be reached.",
}


def shown(url: URL) -> str:
    """The address for messages: without password and options."""
    return url.set(query={}).render_as_string(hide_password=True)


@contextmanager
def translated(url: URL, dialect: Dialect) -> Iterator[None]:
    """Turn what the driver raises inside the block into a `StoreError`.

    Raises:
        StoreError: code `data_refused` (not worth a retry), `database_busy` or `database_unreachable`
            (`retryable`), `database_damaged`, or `database_error` for all else, such as a missing right.
    """
    try:
        yield
    except (SQLAlchemyError, OSError, UnicodeError, OverflowError, *_raw_errors(dialect)) as error:
        raise _store_error(error, url, dialect) from error


def _raw_errors(dialect: Dialect) -> tuple[type[Exception], ...]:
    # While connecting, asyncpg's own exceptions reach us unwrapped. It is asked of the dialect, because
    # the package is not installed where only SQLite is used.
    asyncpg = getattr(dialect.dbapi, "asyncpg", None)
    return () if asyncpg is None else (asyncpg.PostgresError, asyncpg.InterfaceError)


def _store_error(error: Exception, url: URL, dialect: Dialect) -> StoreError:
    code = _code(error)
    retryable = code in ("database_busy", "database_unreachable")
    says = {
        DATA_REFUSED: "did not take a value",
        "database_busy": "is busy",
        "database_damaged": "is damaged",
        "database_unreachable": "cannot be reached",
    }.get(code, "reports an error")
    return StoreError(
        f"The database {shown(url)} {says}: {_reason(error)}.",
        code=code,
        hint=HINTS.get(code, HINTS[dialect.name]),
        retryable=retryable,
    )


def _driver_error(error: Exception) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig else error


def _code(error: Exception) -> str:
    driver = _driver_error(error)
    state = str(getattr(driver, "sqlstate", None) or "")[:2]
    if _blames_data(error, driver) or state in _DATA_STATES:
        return DATA_REFUSED
    sqlite_name = getattr(driver, "sqlite_errorname", "")
    if sqlite_name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return "database_busy"
    if sqlite_name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return "database_damaged"
    if sqlite_name == "SQLITE_ERROR":  # wrong SQL or a missing table, which Python calls operational as well
        return "database_error"
    if isinstance(error, DBAPIError):
        lost = error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
        return "database_unreachable" if lost or state in _OUTAGE_STATES else "database_error"
    connecting = isinstance(error, OSError | PoolTimeoutError) or not isinstance(error, SQLAlchemyError)
    return "database_unreachable" if connecting else "database_error"


def _blames_data(error: Exception, driver: BaseException) -> bool:
    if isinstance(error, UnicodeError | OverflowError | IntegrityError | DataError):
        return True
    if isinstance(error, StatementError) and not isinstance(error, DBAPIError):
        return True  # a value that has the wrong type for its column
    return isinstance(driver.__cause__, ValueError)  # asyncpg refuses before it sends


def _reason(error: Exception) -> str:
    driver = _driver_error(error)
    text = str(driver.__cause__ or driver).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")
