"""A tool server of each kind that Open WebUI knows, OpenAPI and MCP, on one local port.

with ToolServers() as servers:
    admin.set_tool_servers(servers.openapi(EVERYBODY), servers.mcp(EVERYBODY))
    ...
    servers.asked                    # what reached them
"""

# What it is built from is in the environment of the end-to-end tests alone.
# pyright: reportMissingImports=false
from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator
from typing import Any, Self

import uvicorn
from fastapi import FastAPI
from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel

Json = dict[str, Any]

OPENAPI_TOOL = "forecast"
MCP_TOOL = "lookup_word"


class Place(BaseModel):
    city: str


class ToolServers:
    """Both servers, in a thread, for the length of a `with` block."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        """Name and argument of each call that was executed."""
        self._server = uvicorn.Server(
            uvicorn.Config(self._app(), log_config=None, timeout_graceful_shutdown=1)
        )
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def openapi(self, *grants: Json) -> Json:
        """The entry of Settings → Integrations."""
        return self._entry("openapi", f"{self.url}/weather", "openapi.json", grants)

    def mcp(self, *grants: Json) -> Json:
        return self._entry("mcp", f"{self.url}/mcp", "", grants)

    def _entry(self, kind: str, url: str, path: str, grants: tuple[Json, ...]) -> Json:
        return {
            "type": kind,
            "url": url,
            "path": path,
            "auth_type": "none",
            "key": "",
            "config": {"enable": True, "access_grants": list(grants)},
            "info": {"id": f"tests-{kind}", "name": f"{kind} of the tests", "description": ""},
        }

    def _app(self) -> FastAPI:
        dictionary = MCPServer("Dictionary", log_level="WARNING")

        @dictionary.tool(name=MCP_TOOL)
        def _look_up(word: str) -> str:
            """Explains a word."""
            self.asked.append((MCP_TOOL, word))
            return f"{word} is a fine word"

        mcp = dictionary.streamable_http_app(streamable_http_path="/mcp")

        @contextlib.asynccontextmanager
        async def sessions(_: FastAPI) -> AsyncIterator[None]:
            async with dictionary.session_manager.run():
                yield

        app = FastAPI(lifespan=sessions)
        weather = FastAPI(title="Weather")

        @weather.post("/forecast", operation_id=OPENAPI_TOOL)
        def _forecast(place: Place) -> Json:
            """Tells tomorrow's weather."""
            self.asked.append((OPENAPI_TOOL, place.city))
            return {"city": place.city, "tomorrow": "fog"}

        app.mount("/weather", weather)
        app.mount("/", mcp)
        return app

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the tool servers did not start"
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
