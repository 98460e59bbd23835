"""Schema versions: which one a database has, and the way to the newest."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from agent_mode.errors import StoreError

HEAD = "0011"
"""Newest schema version; a test checks that it is the newest file in `migrations/versions`."""

MIGRATIONS = Path(__file__).parent / "migrations"

_LOCK = 0x4147_4D4F
"""Number of our PostgreSQL advisory lock; any other number would do as well."""


def is_current(connection: Connection) -> bool:
    """True if the database has the newest schema, False if it is empty or older.

    Raises:
        StoreError: code `database_newer`: a later version of the program has migrated it.
    """
    version = revision(connection)
    if version == HEAD:
        return True
    if version is not None and not list(MIGRATIONS.glob(f"versions/{version}_*.py")):
        raise StoreError(
            f"The database has schema version {version}, this program knows versions up to {HEAD}.",
            code="database_newer",
            hint="Update Agent Mode, or restore the backup that was made before the update.",
        )
    return False


def upgrade(connection: Connection) -> None:
    """Bring the schema to `HEAD` inside the caller's transaction; does nothing if it is there already.

    The caller holds the only write transaction on SQLite; on PostgreSQL the lock taken here makes a second
    process wait, which then finds the work done.

    Raises:
        StoreError: code `database_newer`, see `is_current`.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
    if is_current(connection):
        return
    # Only here, because the import costs a good part of the start-up time.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    command.upgrade(config, "head")


def revision(connection: Connection) -> str | None:
    """The schema version of the database, such as "0001"; None: it is empty."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
