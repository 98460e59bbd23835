"""Our own server: the unmodified upstream app inside our layer."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import uvicorn

from agent_mode.errors import ConfigurationError, StoreError
from agent_mode.observe import logs
from agent_mode.observe.webhooks import Webhooks
from agent_mode.server import auth, prepare, upstream
from agent_mode.server.host import Host, host
from agent_mode.server.streaming import Receive, Scope, Send
from agent_mode.server.wire import BoundedHttp
from agent_mode.settings import Settings
from agent_mode.store.db import Database

log = logs.get_logger(__name__)

SHORT_KEY = 20
"""A key of fewer characters may be guessed; ours have 43."""
GRACE_SECONDS = 5
"""How long running chats may go on when the server is told to stop."""


class Lifespan:
    """Keeps the shared runtime open as long as the server runs, whatever pipelines come and go."""

    def __init__(self, app: upstream.AsgiApp, shared: Host) -> None:
        self._app = app
        self._host = shared
        self.failure: StoreError | None = None
        """Why the server could not start."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            await self._host.acquire()
        except StoreError as error:
            self.failure = error
            await receive()
            await send({"type": "lifespan.startup.failed"})
            return
        held = True

        async def release_first(message: MutableMapping[str, Any]) -> None:
            nonlocal held
            if held and message["type"].startswith("lifespan.shutdown."):
                held = False  # uvicorn ends the process as soon as it hears this
                await self._host.release()
            elif message["type"] == "lifespan.startup.complete":
                await self._agents_of_new_types()
            await send(message)

        try:
            await self._app(scope, receive, release_first)
        finally:
            if held:
                await self._host.release()

    async def _agents_of_new_types(self) -> None:
        """The pipelines are loaded now, and with them the agent types that they bring along."""
        try:
            await self._host.sync_agents()
        except StoreError as error:
            log.warning("agents not brought up to date, trying again", reason=str(error))


def serve(settings: Settings) -> None:
    """Prepares everything and serves until told to stop.

    Raises:
        ConfigurationError: something cannot work; the hint says what to do.
        StoreError: the database cannot be used.
    """
    logs.configure(json=settings.log_format == "json", debug=settings.debug)
    Webhooks(settings.webhook_targets(), settings.webhook_secret)  # refuses what cannot work
    proxies = _proxies(settings)
    folder = prepare.data_dir(settings)
    try:
        key = prepare.connection_key(settings, folder)
        pipelines = prepare.pipelines_dir(settings, folder)
    except OSError as error:
        raise ConfigurationError(
            f"{error.filename} in the data directory cannot be used ({error.strerror}).",
            hint="Move it away, or give this user the right to read and write it.",
            field="AGENT_MODE_DATA_DIR",
        ) from error
    _refuse_default_key(key, settings.host)
    if settings.pipelines_api_key and len(key) < SHORT_KEY:
        log.warning("the connection key is short enough to be guessed", characters=len(key), wanted=SHORT_KEY)
    _refuse_taken_port(settings.host, settings.port)
    asyncio.run(_check_database(settings))
    server_dir = upstream.folder(settings.pipelines_server_dir)
    app = upstream.load(server_dir, pipelines_dir=pipelines, api_key=key)
    host.served = True
    print(welcome(settings, key, folder), flush=True)  # noqa: T201
    lifespan = Lifespan(host.layer(app, settings), host)
    config = uvicorn.Config(
        lifespan,
        host=settings.host,
        port=settings.port,
        log_level="warning",
        http=BoundedHttp,
        access_log=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    ready = f"  Agent Mode is ready at {_url(settings)}; its key is {_place(settings, folder)}."
    try:
        with contextlib.suppress(KeyboardInterrupt):
            _Server(config, ready).run()
    finally:  # it ends the process where the start failed
        if lifespan.failure is not None:
            raise lifespan.failure


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config, ready: str) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(self._ready, flush=True)  # noqa: T201


def welcome(settings: Settings, key: str, folder: Path) -> str:
    """The three things a person needs: URL, key, what to do with them."""
    configured = settings.openai_api_base_url or settings.openai_api_key
    source = (
        "your OpenAI-compatible provider"
        if configured
        else "Open WebUI's own models"
        if settings.openwebui_url and settings.openwebui_api_key
        else "the built-in demo model (set OPENAI_API_BASE_URL and OPENAI_API_KEY for real answers)"
    )
    return f"""
  Agent Mode is starting.

    URL   {_url(settings)}
    Key   {key}   ({_place(settings, folder)})

  In Open WebUI: Admin Panel → Settings → Connections → OpenAI API → +
  paste the URL and the key, save; then pick a persona, such as “💻 Coder”, in the model list.
  If Open WebUI runs in Docker on this machine, start with HOST=0.0.0.0 and use
  http://host.docker.internal:{settings.port} as the URL.

  In the browser, with the same key: {_url(settings)}/admin

  Answers come from {source}.
"""


def _url(settings: Settings) -> str:
    shown = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{settings.port}"


def _place(settings: Settings, folder: Path) -> str:
    return "from PIPELINES_API_KEY" if settings.pipelines_api_key else f"kept in {folder / prepare.KEY_FILE}"


def _proxies(settings: Settings) -> list[str]:
    """The proxies whose word on where a request comes from is taken."""
    entries = [*settings.proxies()]
    for entry in entries:
        try:
            if entry != "*":
                ipaddress.ip_network(entry)
        except ValueError as error:
            raise ConfigurationError(
                f"AGENT_MODE_TRUSTED_PROXIES holds “{entry}”, which is no IP address and no network.",
                hint="Name addresses or networks, such as 172.18.0.0/16, separated by commas.",
                field="AGENT_MODE_TRUSTED_PROXIES",
            ) from error
    return entries


def _refuse_default_key(key: str, address: str) -> None:
    if key == upstream.DEFAULT_KEY and not auth.is_loopback(address):
        raise ConfigurationError(
            f"PIPELINES_API_KEY is the well-known default, and HOST={address} is reachable from elsewhere.",
            hint="Unset PIPELINES_API_KEY to have a key generated, or set one of your own.",
            field="PIPELINES_API_KEY",
        )


def _refuse_taken_port(address: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except socket.gaierror as error:
            raise ConfigurationError(
                f"HOST={address} is no address of this machine.",
                hint="Use 127.0.0.1, or 0.0.0.0 to listen on every address.",
                field="HOST",
            ) from error
        except OSError as error:
            raise ConfigurationError(
                f"Port {port} on {address} cannot be used ({error.strerror}).",
                hint="Stop what listens there, or choose another port: PORT=9199 ./start.sh",
                field="PORT",
            ) from error


async def _check_database(settings: Settings) -> None:
    """Fails before the server starts, with a readable reason, if the database cannot be used."""
    db = await Database.open(settings.resolved_database_url())
    try:
        await db.check()
    finally:
        await db.close()
