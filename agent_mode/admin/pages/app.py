"""All pages as one ASGI app, made with the first visit: NiceGUI takes 0.4 s to load.

Whoever imports this has set `NICEGUI_STORAGE_PATH` before; nothing is stored there, since no page uses
NiceGUI's storage.
"""

from __future__ import annotations

import importlib
import re
from contextlib import AbstractAsyncContextManager
from hashlib import sha256
from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from nicegui import app as nicegui_app
from nicegui import core, ui
from starlette.middleware.gzip import GZipMiddleware

from agent_mode.admin.backend import Backend
from agent_mode.admin.gate.gate import NONCE, PREFIX, App
from agent_mode.admin.pages import missing, visit
from agent_mode.admin.pages.components import limits

PAGES = (
    "dashboard",
    "agents",
    "agent",
    "personas",
    "persona",
    "persona_import",
    "persona_backups",
    "strategies",
    "strategy_file",
    "runs",
    "run",
    "records",
    "valves",
    "setup",
    "publish",
)
"""The modules of the pages."""

_DOCUMENTED = ("/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect")
_SCRIPT = re.compile(rb"<script(?=[\s>])")


def make(backend: Backend) -> tuple[App, AbstractAsyncContextManager[Any]]:
    """The pages, and what keeps them alive: entered before the first request, left after the last.

    Call it once in a process: NiceGUI knows one app.
    """
    visit.open_to(backend)
    for name in PAGES:
        importlib.import_module(f"agent_mode.admin.pages.{name}")
    for path in _DOCUMENTED:
        nicegui_app.remove_route(path)
    missing.install()
    _add_assets()
    limits.install()
    outer = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    ui.run_with(
        outer,
        mount_path=PREFIX,
        title="Agent Mode",
        favicon=_ICON,
        dark=None,
        tailwind=False,
        show_welcome_message=False,
        gzip_middleware_factory=None,  # after the scripts have got their nonce
        reconnect_timeout=30.0,
        cache_control_directives="private, max-age=31536000, immutable",
    )
    core.sio.eio.cors_allowed_origins = []  # the gate lets our own page through alone
    return GZipMiddleware(_Nonces(outer), minimum_size=1000), outer.router.lifespan_context(outer)


def _add_assets() -> None:
    folder = files("agent_mode.admin.pages").joinpath("assets")
    content = b"".join(folder.joinpath(name).read_bytes() for name in ("page.css", "page.js"))
    mark = sha256(content).hexdigest()[:12]
    nicegui_app.add_static_files(f"/assets/{mark}", str(folder), max_cache_age=31_536_000)
    place = f"{PREFIX}/assets/{mark}"
    ui.add_head_html(f'<link rel="stylesheet" href="{place}/page.css">', shared=True)
    ui.add_head_html(f'<script defer src="{place}/page.js"></script>', shared=True)


class _Nonces:
    """Gives the scripts of a page the nonce of its policy.

    All of them are NiceGUI's and ours: in what a page shows, `<` is escaped.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        nonce = scope.get(NONCE)
        if scope["type"] != "http" or nonce is None:
            await self._app(scope, receive, send)
            return
        start: Any = None
        parts: list[bytes] = []

        async def add(message: Any) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                if any(
                    name == b"content-type" and b"text/html" in value for name, value in message["headers"]
                ):
                    start = message
                    return
            elif start is not None:
                parts.append(message.get("body", b""))
                if message.get("more_body"):
                    return
                body = _SCRIPT.sub(b'<script nonce="' + nonce.encode() + b'"', b"".join(parts))
                kept = [(name, value) for name, value in start["headers"] if name != b"content-length"]
                length = (b"content-length", str(len(body)).encode())
                await send({**start, "headers": [*kept, length]})
                message = {"type": "http.response.body", "body": body}
            await send(message)

        await self._app(scope, receive, add)


_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="9" '
    'fill="#171717"/><circle cx="11" cy="16" r="4" fill="#fff"/><circle cx="21" cy="16" r="4" '
    'fill="none" stroke="#fff" stroke-width="2.5"/></svg>'
)
