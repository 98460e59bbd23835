"""The users' own API keys of Open WebUI, encrypted in the database."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from agent_mode.errors import ConfigurationError, RequestError, StoreError
from agent_mode.settings import Settings
from agent_mode.store.db import Database
from agent_mode.store.memory import Recent
from agent_mode.store.session_records import storable
from agent_mode.store.sessions import LOOKUP_SECONDS
from agent_mode.store.tables import credential as table

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

log = logging.getLogger(__name__)

KEY_FILE = "secret_key"
SECRET_LENGTH = 16
"""Shortest secret in characters. A long random text is meant, not a password."""
CACHE_SECONDS = 60.0
"""How long a credential, or that there is none, is believed without asking the database again."""
API_KEY_LIMIT = 4_096

_MEMORY = 10_000
_OTHER_PROCESS_SECONDS = 1.0


def secret_key(settings: Settings) -> str:
    """The configured secret, or the one generated at the first start (readable by this user only).

    Raises:
        ConfigurationError: it is too short, or its file cannot be used.
    """
    path = settings.data_dir / KEY_FILE
    key, hint = settings.secret_key, "Set AGENT_MODE_SECRET_KEY to a long random text."
    if key is None:
        key, hint = _key_of_file(path), f"Delete {path}: a new one is made, and users enter their keys again."
    if len(key) < SECRET_LENGTH:
        raise ConfigurationError(
            f"The secret key has fewer than {SECRET_LENGTH} characters.",
            hint=hint,
            field="AGENT_MODE_SECRET_KEY",
        )
    return key


def _key_of_file(path: Path) -> str:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(48))
        except FileExistsError:
            pass
        # Another process may have made the file just now, and not have written into it yet.
        give_up = time.monotonic() + _OTHER_PROCESS_SECONDS
        while not (key := path.read_text(encoding="utf-8").strip()) and time.monotonic() < give_up:
            time.sleep(0.01)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigurationError(
            f"The secret key in {path} cannot be used ({reason}).",
            hint="Make it readable for this user, or set AGENT_MODE_SECRET_KEY.",
            field="AGENT_MODE_SECRET_KEY",
        ) from error
    return key


class Vault:
    """Encrypts texts with a secret: Fernet, that is AES-128 in CBC mode with HMAC-SHA256.

    Each owner's texts have a key of their own, so that nobody who can write to the database makes one
    user's text pass for another's.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode(errors="surrogateescape")
        self._warned = False

    def encrypt(self, text: str, owner: str) -> str:
        """The text, readable with the same secret for the same owner alone.

        Raises:
            ConfigurationError: the package cryptography is missing.
        """
        return self._fernet(owner).encrypt(text.encode()).decode()

    def decrypt(self, token: str, owner: str) -> str | None:
        """The text; None if it was encrypted with another secret or for another owner.

        The first time, that is worth a warning in the log.

        Raises:
            ConfigurationError: the package cryptography is missing.
        """
        fernet = self._fernet(owner)
        from cryptography.fernet import InvalidToken  # noqa: PLC0415

        try:
            return fernet.decrypt(token.encode()).decode()
        except InvalidToken:
            if not self._warned:
                self._warned = True
                log.warning(
                    "Stored API keys of users cannot be decrypted, and count as absent. Was "
                    "AGENT_MODE_SECRET_KEY changed, or is it another on this replica? Set the old one again, "
                    "or have the users enter their keys again."
                )
            return None

    def _fernet(self, owner: str) -> Fernet:
        # Only here, because the import costs start-up time and few servers need it.
        try:
            from cryptography.fernet import Fernet  # noqa: PLC0415
            from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
            from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415
        except ImportError as error:
            raise ConfigurationError(
                "Users' API keys cannot be encrypted: the package cryptography is missing.",
                hint="Install it: pip install cryptography",
            ) from error
        derive = HKDF(
            algorithm=SHA256(), length=32, salt=None, info=b"agent_mode credential\0" + owner.encode()
        )
        return Fernet(base64.urlsafe_b64encode(derive.derive(self._secret)))


@dataclass(frozen=True, slots=True)
class _Known:
    api_key: str | None = field(repr=False)
    at: float
    """Monotonic, in seconds."""

    @property
    def fresh(self) -> bool:
        return time.monotonic() - self.at < CACHE_SECONDS


class CredentialStore:
    """Reads and writes credentials. What another process changes is seen within `CACHE_SECONDS`."""

    def __init__(self, db: Database, vault: Vault) -> None:
        self._db = db
        self._vault = vault
        self._cache: Recent[str, _Known] = Recent(_MEMORY)
        self._writes = 0

    async def put(self, user_id: str, api_key: str) -> None:
        """Keep the user's API key, in place of an earlier one.

        Raises:
            RequestError: it cannot be an API key, or the user has no usable id.
            StoreError: the database failed.
        """
        api_key = api_key.strip()
        if not (0 < len(api_key) <= API_KEY_LIMIT and all("!" <= letter <= "~" for letter in api_key)):
            raise RequestError(
                "This is not an API key.",
                hint="Copy the whole key from Open WebUI: Settings, Account, API keys.",
                field="api_key",
            )
        if not storable(user_id):
            raise RequestError("The id of the user cannot be stored.", field="user_id")
        now = datetime.now(UTC)
        row = {"user_id": user_id, "secret": self._vault.encrypt(api_key, user_id)}
        statement = self._db.insert(table).values(row | {"created_at": now, "updated_at": now})
        changes = {name: statement.excluded[name] for name in ("secret", "updated_at")}
        async with self._db.begin(lasting=True) as connection:
            await connection.execute(
                statement.on_conflict_do_update(index_elements=["user_id"], set_=changes)
            )
        self._note(user_id, api_key)

    async def get(self, user_id: str | None) -> str | None:
        """The user's API key; None if there is none, or none that can be decrypted.

        While the database is away, what was known last holds.

        Raises:
            StoreError: the database failed, and nothing is known of this user.
        """
        if user_id is None or not storable(user_id):
            return None
        known = self._cache.get(user_id)
        if known is not None and known.fresh:
            return known.api_key
        writes = self._writes
        try:
            async with asyncio.timeout(LOOKUP_SECONDS), self._db.read() as connection:
                query = select(table.c.secret).where(table.c.user_id == user_id)
                secret = (await connection.execute(query)).scalar_one_or_none()
        except (StoreError, TimeoutError) as error:
            if known is not None:
                return known.api_key
            if isinstance(error, StoreError):
                raise
            raise StoreError(
                "The database does not answer.", code="database_unreachable", retryable=True
            ) from error
        api_key = None if secret is None else self._vault.decrypt(secret, user_id)
        if writes == self._writes:  # nobody wrote while we read
            self._cache.put(user_id, _Known(api_key, time.monotonic()))
        return api_key

    async def has(self, user_id: str | None) -> bool:
        """Whether there is an API key of the user that can be used.

        Raises:
            StoreError: as `get`.
        """
        return await self.get(user_id) is not None

    async def drop(self, user_id: str) -> None:
        """Forget the user's API key, if there is one.

        Raises:
            StoreError: the database failed.
        """
        if not storable(user_id):
            return
        async with self._db.begin(lasting=True) as connection:
            await connection.execute(delete(table).where(table.c.user_id == user_id))
        self._note(user_id, None)

    def _note(self, user_id: str, api_key: str | None) -> None:
        self._writes += 1
        self._cache.put(user_id, _Known(api_key, time.monotonic()))
