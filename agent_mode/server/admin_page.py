"""The Agents page as a part of the running server: the gate, and the pages, made when first asked."""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from agent_mode.admin.backend import Backend
from agent_mode.admin.gate.gate import App, Gate
from agent_mode.admin.gate.tickets import HOURS, Person, Tickets
from agent_mode.errors import ConfigurationError
from agent_mode.observe.logs import get_logger
from agent_mode.server import auth
from agent_mode.server.streaming import Scope
from agent_mode.settings import Settings
from agent_mode.store.credentials import secret_key
from agent_mode.tools.openwebui import OpenWebUIClient

log = get_logger(__name__)


class AdminPage:
    """What the gate stands before, on this server.

    Args:
        backend: the running server.
        settings: of the process.
        key: the connection key.
    """

    def __init__(self, backend: Backend, settings: Settings, key: str) -> None:
        self._backend = backend
        self._settings = settings
        self._key = key
        self._making = asyncio.Lock()
        self._pages: App | None = None
        self._alive: AbstractAsyncContextManager[Any] | None = None
        self._knows_ended = False
        self.gate = Gate(self, Tickets(_secret(settings), key), settings.max_body_mb * 2**20)

    def check_key(self, key: str, scope: Scope) -> None:
        """
        Raises:
            AuthenticationError: this is not the connection key.
        """
        auth.check(f"Bearer {key}", self._key, scope.get("server"))

    @property
    def openwebui(self) -> OpenWebUIClient | None:
        return self._backend.runtime.openwebui

    @property
    def service_key(self) -> str | None:
        return self._settings.openwebui_api_key

    async def prepare(self) -> None:
        """
        Raises:
            ConfigurationError: there are no pages; the message says why.
            StoreError: the database failed.
        """
        if self._settings.admin_page == "off":
            raise ConfigurationError(
                "The Agents page is switched off on this server.",
                hint="Set AGENT_MODE_ADMIN_PAGE=on and restart.",
                code="admin_page_off",
                status=404,
            )
        runtime = self._backend.runtime
        if find_spec("nicegui") is None:
            raise ConfigurationError(
                "The Agents page needs the package NiceGUI, which is not installed here.",
                hint="Run `pip install nicegui` for the server's Python and restart, or use ./start.sh.",
                code="no_nicegui",
                status=503,
            )
        if not self._knows_ended:
            self.gate.tickets.end(await runtime.audit.targets("signed out", hours=HOURS))
            self._knows_ended = True

    async def pages(self) -> App:
        """The pages; the first visit makes them."""
        async with self._making:
            if self._pages is None:
                self._pages = await self._make()
        return self._pages

    async def note(self, person: Person, action: str, target: str = "", text: str = "") -> None:
        """Has something recorded that a person did."""
        self._backend.runtime.audit.put(person.name, action, "session", target, text)

    async def close(self, *, for_good: bool) -> None:
        """Ends the open pages.

        Args:
            for_good: the process ends; else the pages are asked again after a reload.
        """
        await self.gate.close_sockets()
        if for_good and self._alive is not None:
            alive, self._alive, self._pages = self._alive, None, None
            await alive.__aexit__(None, None, None)

    async def _make(self) -> App:
        # NiceGUI's default is a folder in whatever directory the server was started in.
        os.environ.setdefault("NICEGUI_STORAGE_PATH", str(self._settings.data_dir / "nicegui"))
        module = await asyncio.to_thread(import_module, "agent_mode.admin.pages.app")
        pages, alive = module.make(self._backend)
        await alive.__aenter__()
        self._alive = alive
        return pages


def _secret(settings: Settings) -> str:
    try:
        return secret_key(settings)
    except ConfigurationError as error:  # `serve` refuses to start with it; a stock server must start
        log.error("sign-ins to the Agents page end with this process", reason=str(error))
        return secrets.token_urlsafe(32)
