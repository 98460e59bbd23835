"""Fixtures for tests that need a database: SQLite always, PostgreSQL as well where one is at hand.

AGENT_MODE_TEST_POSTGRES_URL names a PostgreSQL server and a user who may create databases; every test gets a
new database there, which is dropped after it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from agent_mode.store.db import Database
from agent_mode.store.personas import PersonaStore

POSTGRES_URL = os.environ.get("AGENT_MODE_TEST_POSTGRES_URL")

_KINDS = [
    "sqlite",
    pytest.param(
        "postgresql",
        marks=pytest.mark.skipif(not POSTGRES_URL, reason="AGENT_MODE_TEST_POSTGRES_URL is not set"),
    ),
]


@pytest.fixture(params=_KINDS)
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """URL of a database that does not exist yet, or is empty."""
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path / 'new' / 'agent_mode.db'}"
        return
    server = make_url(POSTGRES_URL or "").set(drivername="postgresql+asyncpg")
    name = f"agent_mode_test_{uuid.uuid4().hex[:12]}"
    async with _administration(server) as run:
        await run(f"CREATE DATABASE {name}")
        try:
            yield server.set(database=name).render_as_string(hide_password=False)
        finally:
            await run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open database at the newest schema."""
    opened = await Database.open(database_url)
    yield opened
    await opened.close()


@pytest.fixture
def store(database: Database) -> PersonaStore:
    """The personas in that database."""
    return PersonaStore(database)


@asynccontextmanager
async def _administration(server: URL):
    engine = create_async_engine(server, isolation_level="AUTOCOMMIT")

    async def run(statement: str) -> None:
        async with engine.connect() as connection:
            await connection.execute(text(statement))

    try:
        yield run
    finally:
        await engine.dispose()
