"""Requests to Open WebUI: one pooled session for all users, each request with its own credential."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import aiohttp

from agent_mode.errors import ToolError
from agent_mode.observe.logs import get_logger
from agent_mode.outages import why

log = get_logger(__name__)

SILENT_SECONDS = 5.0
"""For how long nobody is asked after Open WebUI did not answer. Short: without an answer nobody gets in."""
TIMEOUT_SECONDS = 5.0
_KEEPALIVE_SECONDS = 3.0
"""Less than the 5 seconds after which Open WebUI's server closes an idle connection: a tool call that is sent
over a connection just being closed could not be sent again, since it may have run."""
_QUOTED = 300
MAX_BYTES = 32 * 2**20
"""Largest answer that is read."""

_retries: ContextVar[int] = ContextVar("retries", default=1)


@contextmanager
def retrying(times: int) -> Iterator[None]:
    """Within, a request that did not get through is sent so many times again; elsewhere it is once.

    Args:
        times: 0 or 1; the valve `tool_retries` of the agent that asks.
    """
    before = _retries.set(times)
    try:
        yield
    finally:
        _retries.reset(before)


@dataclass(frozen=True, slots=True)
class Reply:
    """What Open WebUI answered.

    Attributes:
        status: HTTP status.
        data: the JSON; None if it was none.
        events: the lines of a stream, where one came although none was asked for.
    """

    status: int
    data: Any
    events: tuple[Any, ...] = ()

    @property
    def said(self) -> str:
        """Open WebUI's own words about a failure."""
        data = self.data if isinstance(self.data, dict) else {}
        detail = data.get("detail") or data.get("error") or data.get("message")
        if isinstance(detail, dict):
            detail = detail.get("message") or detail.get("detail")
        return " ".join(str(detail or "").split())[:_QUOTED]


class Rest:
    """Open WebUI's REST interface.

    Args:
        url: its address; None: there is none.
    """

    def __init__(self, url: str | None) -> None:
        self.url = url.rstrip("/") if url else None
        self._session: aiohttp.ClientSession | None = None
        self._silent_until = 0.0

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, path: str, credential: str, query: dict[str, str] | None = None) -> Reply:
        """Asks; again if the connection fails (`retrying`). After a failure nobody asks for a while.

        Raises:
            ToolError: Open WebUI does not answer.
        """
        if self.url is not None and time.monotonic() < self._silent_until:
            raise self._unreachable("it did not answer a moment ago")
        retries = _retries.get()
        for attempt in range(retries + 1):
            try:
                return await self._once("GET", path, credential, query=query, seconds=TIMEOUT_SECONDS)
            except TimeoutError as error:
                raise self._silent("no answer in time") from error
            except aiohttp.ClientError as error:
                if attempt < retries:
                    continue
                # One broken connection is no reason to turn everybody away.
                raise (self._silent(why(error)) if attempt else self._unreachable(why(error))) from error
        raise AssertionError("the last attempt returns or raises")

    async def post(self, path: str, credential: str, body: Any, *, seconds: float) -> Reply:
        """Posts; again (`retrying`) only if no connection came about, since what was sent may have been done.

        Args:
            seconds: for the whole answer.

        Raises:
            ToolError: Open WebUI cannot be reached, or broke off.
            TimeoutError: there is no answer in time.
        """
        retries = _retries.get()
        async with asyncio.timeout(seconds):
            for attempt in range(retries + 1):
                try:
                    return await self._once("POST", path, credential, body=body)
                except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError) as error:
                    if attempt == retries:
                        raise self._unreachable(why(error)) from error
                except aiohttp.ClientError as error:
                    raise ToolError(
                        f"The connection to Open WebUI broke ({why(error)}).",
                        hint="Whether it did what it was asked is not known. Look before you try again.",
                        code="openwebui_broken",
                    ) from error
        raise AssertionError("the last attempt returns or raises")

    async def _once(
        self,
        method: str,
        path: str,
        credential: str,
        *,
        query: dict[str, str] | None = None,
        body: Any = None,
        seconds: float | None = None,
    ) -> Reply:
        if self.url is None:
            raise ToolError(
                "This server does not know where Open WebUI is.",
                hint="An admin sets OPENWEBUI_URL and restarts.",
                code="no_openwebui",
                status=503,
            )
        headers = {"Authorization": f"Bearer {credential}"}
        limits = aiohttp.ClientTimeout(total=seconds, sock_connect=TIMEOUT_SECONDS)
        async with self._opened().request(
            method,
            self.url + path,
            params=query,
            headers=headers,
            json=body,
            timeout=limits,
            allow_redirects=False,
        ) as response:
            raw = await _read(response)
            if response.content_type == "text/event-stream":
                return Reply(response.status, None, _events(raw))
            return Reply(response.status, _json(raw))

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=200, keepalive_timeout=_KEEPALIVE_SECONDS),
                # Open WebUI answers with the asker's session cookie: one jar for all would mix up users.
                cookie_jar=aiohttp.DummyCookieJar(),
            )
            if hasattr(self._session, "_retry_connection"):
                # From 3.10 on it sends a GET again by itself; how often, `retrying` says.
                self._session._retry_connection = False
        return self._session

    def _silent(self, reason: str) -> ToolError:
        self._silent_until = time.monotonic() + SILENT_SECONDS
        log.warning("Open WebUI does not answer", reason=reason)
        return self._unreachable(reason)

    def _unreachable(self, reason: str) -> ToolError:
        return ToolError(
            f"Open WebUI cannot be reached ({reason}).",
            hint="Try again in a moment; an admin checks OPENWEBUI_URL, and that Open WebUI runs.",
            code="openwebui_unreachable",
            status=503,
            retryable=True,
        )


async def _read(response: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > MAX_BYTES:
            raise ToolError(
                f"Open WebUI answered with more than {MAX_BYTES // 2**20} MiB.",
                hint="Ask for less.",
                code="tool_result_too_large",
            )
        parts.append(part)
    return b"".join(parts)


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _events(raw: bytes) -> tuple[Any, ...]:
    lines = (line[5:].strip() for line in raw.split(b"\n") if line.startswith(b"data:"))
    return tuple(found for line in lines if (found := _json(line)) is not None)
