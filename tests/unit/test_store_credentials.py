"""Credentials: unreadable in the database, bound to their user, cached for a while; and the secret key."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import event, select, update

from agent_mode.errors import ConfigurationError, RequestError, StoreError
from agent_mode.settings import Settings
from agent_mode.store import credentials, tables
from agent_mode.store.credentials import CredentialStore, Vault, secret_key
from agent_mode.store.db import Database
from tests.patience import PATIENCE

pytest_plugins = ["tests.databases"]

SECRET = "a secret of the tests, long enough"


@pytest.fixture
def store(database: Database) -> CredentialStore:
    return CredentialStore(database, Vault(SECRET))


class Lookups:
    """Counts what is read from the database."""

    def __init__(self, database: Database) -> None:
        self.count = 0
        event.listen(database._engine.sync_engine, "before_cursor_execute", self._note)

    def _note(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        self.count += statement.startswith("SELECT credential")


async def secrets(database: Database) -> dict[str, str]:
    async with database.read() as connection:
        query = select(tables.credential.c.user_id, tables.credential.c.secret)
        return {row.user_id: row.secret for row in await connection.execute(query)}


# The store


async def test_put_get_drop(store: CredentialStore, database: Database) -> None:
    assert (await store.get("u1"), await store.has("u1")) == (None, False)
    await store.put("u1", " sk-first\n")
    await store.put("u2", "sk-other")
    assert (await store.get("u1"), await store.has("u1")) == ("sk-first", True)
    await store.put("u1", "sk-second")
    fresh = CredentialStore(database, Vault(SECRET))
    for known in (store, fresh):
        assert [await known.get(user) for user in ("u1", "u2", "u3")] == ["sk-second", "sk-other", None]
    for _ in range(2):
        await store.drop("u1")
    assert (await store.get("u1"), await store.has("u1")) == (None, False)
    assert await CredentialStore(database, Vault(SECRET)).get("u1") is None
    assert list(await secrets(database)) == ["u2"]


async def test_the_database_holds_no_plain_text(store: CredentialStore, database: Database) -> None:
    await store.put("u1", "sk-first")
    stored = (await secrets(database))["u1"]
    assert "sk-first" not in stored
    await store.put("u1", "sk-first")
    assert (await secrets(database))["u1"] != stored
    shown = [repr(store), repr(store._vault), repr(store._cache.values())]
    assert not any("sk-first" in text or SECRET in text for text in shown)


async def test_another_secret_makes_them_absent(
    store: CredentialStore, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    for user in ("u1", "u2"):
        await store.put(user, "sk-first")
    other = CredentialStore(database, Vault(SECRET + "!"))
    assert [await other.get(user) for user in ("u1", "u2", "u1")] == [None] * 3
    assert not await other.has("u1")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "AGENT_MODE_SECRET_KEY" in caplog.text
    await other.put("u1", "sk-new")
    assert await CredentialStore(database, Vault(SECRET + "!")).get("u1") == "sk-new"


async def test_one_users_secret_is_no_use_to_another(store: CredentialStore, database: Database) -> None:
    await store.put("admin", "sk-admin")
    await store.put("user", "sk-user")
    async with database.begin() as connection:
        stolen = (await connection.execute(select(tables.credential.c.secret).limit(1))).scalar_one()
        await connection.execute(update(tables.credential).values(secret=stolen))
    fresh = CredentialStore(database, Vault(SECRET))
    assert sorted([str(await fresh.get(user)) for user in ("admin", "user")])[0] == "None"


@pytest.mark.parametrize("damaged", ["", "not a token", "gAAAAA" * 20, "ä"])
def test_what_is_no_token_is_absent(damaged: str, caplog: pytest.LogCaptureFixture) -> None:
    assert Vault(SECRET).decrypt(damaged, "u1") is None
    assert len(caplog.records) == 1


async def test_what_is_known_is_believed_for_a_while(
    store: CredentialStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookups = Lookups(database)
    await store.put("u1", "sk-first")
    for _ in range(3):
        assert [await store.get(user) for user in ("u1", "u2")] == ["sk-first", None]
    assert lookups.count == 1  # that there is none is known as well
    other = CredentialStore(database, Vault(SECRET))
    await other.put("u1", "sk-second")
    await other.put("u2", "sk-third")
    assert await store.get("u1") == "sk-first"
    monkeypatch.setattr(credentials, "CACHE_SECONDS", 0.0)
    assert [await store.get(user) for user in ("u1", "u2")] == ["sk-second", "sk-third"]


async def test_a_slow_lookup_does_not_hide_a_newer_key(
    store: CredentialStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, reading, go_on = database.read, asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def slow() -> AsyncIterator[object]:
        async with read() as connection:
            yield connection
            reading.set()
            await go_on.wait()

    monkeypatch.setattr(database, "read", slow)
    lookup = asyncio.create_task(store.get("u1"))
    await reading.wait()
    await store.put("u1", "sk-first")
    go_on.set()
    assert await lookup is None
    assert await store.get("u1") == "sk-first"


async def test_an_outage(store: CredentialStore, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.put("u1", "sk-first")
    monkeypatch.setattr(credentials, "CACHE_SECONDS", 0.0)
    monkeypatch.setattr(credentials, "LOOKUP_SECONDS", 0.05)
    read = database.read

    @asynccontextmanager
    async def silent() -> AsyncIterator[None]:
        await asyncio.sleep(60)
        yield

    monkeypatch.setattr(database, "read", silent)
    assert await store.get("u1") == "sk-first"
    with pytest.raises(StoreError, match="does not answer") as caught:
        await store.get("u2")
    assert caught.value.retryable
    monkeypatch.setattr(database, "read", read)
    await database.close()
    assert await store.get("u1") == "sk-first"
    with pytest.raises(StoreError):
        await store.get("u2")


@pytest.mark.parametrize("bad", ["", "  ", "two words", "a\nb", "ä", "\0", "x" * 4_097, "\ud800"])
async def test_what_is_no_api_key(store: CredentialStore, database: Database, bad: str) -> None:
    with pytest.raises(RequestError) as caught:
        await store.put("u1", bad)
    assert (caught.value.code, caught.value.field) == ("bad_request", "api_key")
    assert await secrets(database) == {}


@pytest.mark.parametrize("bad", ["", "a\0b", "a\ud800b", "a" * 256], ids=["empty", "nul", "half", "long"])
async def test_a_bad_user_id(store: CredentialStore, bad: str) -> None:
    with pytest.raises(RequestError):
        await store.put(bad, "sk-first")
    assert (await store.get(bad), await store.get(None)) == (None, None)
    await store.drop(bad)


def test_without_the_package_it_is_said_readably(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)
    for call in (lambda: Vault(SECRET).encrypt("x", "u1"), lambda: Vault(SECRET).decrypt("x", "u1")):
        with pytest.raises(ConfigurationError, match="cryptography is missing") as caught:
            call()
        assert "pip install cryptography" in caught.value.hint


def test_the_package_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, agent_mode.store.credentials; print('cryptography' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# The secret key


def settings(folder: Path, key: str | None = None) -> Settings:
    return Settings.model_validate({"data_dir": folder, "secret_key": key})


def test_a_generated_key_stays(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    key = secret_key(settings(folder))
    assert len(key) >= 43
    assert secret_key(settings(folder)) == key
    assert stat.S_IMODE((folder / "secret_key").stat().st_mode) == 0o600
    assert secret_key(settings(tmp_path / "other")) != key


def test_many_processes_agree_on_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: secret_key(settings(tmp_path)), range(32)))
    assert len(keys) == 1


def test_a_configured_key_needs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_MODE_SECRET_KEY", SECRET)
    monkeypatch.setenv("AGENT_MODE_DATA_DIR", str(tmp_path / "data"))
    configured = Settings()  # pyright: ignore[reportCallIssue]
    assert secret_key(configured) == SECRET
    assert SECRET not in repr(configured)
    assert not (tmp_path / "data").exists()


def test_a_key_that_cannot_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="fewer than 16") as caught:
        secret_key(settings(tmp_path, "short-secret"))
    assert caught.value.field == "AGENT_MODE_SECRET_KEY"
    assert "short-secret" not in str(caught.value)

    monkeypatch.setattr(credentials, "_OTHER_PROCESS_SECONDS", 0.05)
    (tmp_path / "secret_key").touch()
    began = time.monotonic()
    with pytest.raises(ConfigurationError, match="fewer than 16") as caught:
        secret_key(settings(tmp_path))
    assert time.monotonic() - began < PATIENCE
    assert "Delete" in caught.value.hint

    (tmp_path / "secret_key").write_bytes(b"\xff\xfe" * 20)
    with pytest.raises(ConfigurationError, match="it is no text"):
        secret_key(settings(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be used"):
        secret_key(settings(tmp_path / "file"))
