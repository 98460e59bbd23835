"""The client of the LLM provider: one pooled HTTP session for the life of the process."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from agent_mode.errors import ProviderError, RequestError
from agent_mode.llm import demo, failures
from agent_mode.llm.connection import Connection
from agent_mode.llm.silence import Silence
from agent_mode.llm.sse import CONTROL_KEYS, BrokenChunk, Facts, SseReader, not_json, reported
from agent_mode.outages import why

log = logging.getLogger(__name__)

Payload = dict[str, Any]
"""The JSON body of `POST /chat/completions`."""

RETRIES = 2
"""How often a request is sent again when a pooled connection turns out stale before the first byte."""
STALE_SECONDS = 2.0
"""A pooled connection shows at once that it is stale; what fails later had been worked on."""
MODELS_TTL = 60.0
"""Seconds for which a provider's model list is believed."""
_MAX_LISTS = 64
_LARGE = 2**19
OWN_PREFIX = "personas."
"""How the ids of our own models begin."""
HOP_HEADER = "X-Agent-Mode-Hop"
"""Says that a request comes from an Agent Mode server, so that one that comes back to us is refused."""

_STALE = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionResetError)
_NOT_CHAT = (
    "embed",
    "whisper",
    "tts",
    "dall-e",
    "image",
    "moderation",
    "realtime",
    "audio",
    "transcribe",
    "rerank",
)


@dataclass(slots=True)
class _Progress:
    received: bool = False
    """Whether anything of the answer came: after that nothing is sent again."""
    since: float = field(default_factory=time.monotonic)


class _StaleConnection(Exception):
    """The connection was closed before anything came over it; `error` is what to say if it stays so."""

    def __init__(self, error: ProviderError) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def _readable(connection: Connection, progress: _Progress) -> Iterator[None]:
    """Turns what the HTTP client and the parser raise into readable errors.

    Raises:
        _StaleConnection: worth another try.
        ProviderError: not.
    """
    try:
        yield
    except aiohttp.ClientConnectorError as error:
        reason = getattr(error, "_os_error", None) or error  # aiohttp 3.9: not on every subclass
        raise failures.unreachable(connection, str(reason)) from error
    except (*_STALE, aiohttp.ClientPayloadError) as error:
        if progress.received or time.monotonic() - progress.since > STALE_SECONDS:
            raise failures.broken_stream(repr(error)) from error
        raise _StaleConnection(failures.unreachable(connection, why(error))) from error
    except TimeoutError as error:
        raise failures.timed_out(connection, error) from error
    except aiohttp.ClientError as error:
        raise failures.unreachable(connection, why(error)) from error
    except (ValueError, RecursionError) as error:
        raise _no_completion(None) from error


class LlmClient:
    """Streams and completes over any `Connection`. Bound to the event loop that calls `start`."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._fetching = asyncio.Lock()
        self._models: dict[tuple[str, str | None], tuple[float, list[dict[str, Any]]]] = {}

    async def start(self) -> None:
        proxied = any(name.lower() in ("http_proxy", "https_proxy", "all_proxy") for name in os.environ)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=2**18,
            trust_env=proxied,  # looks at .netrc too, which costs a disk read per request
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def stream(self, connection: Connection, payload: Payload, facts: Facts) -> AsyncGenerator[bytes, None]:
        """Streams a chat completion.

        Args:
            connection: where to.
            payload: the request without `stream`.
            facts: filled in as the stream tells (finish reason, usage).

        Yields:
            blocks of vetted `data:` lines, one block for each socket read.

        Raises:
            ProviderError: what went wrong, readable; what was yielded before stays valid.
        """
        payload = {**payload, "stream": True}
        if connection.kind == "demo":
            return _stream_demo(payload, facts)
        return self._stream_http(connection, payload, facts)

    async def _stream_http(
        self, connection: Connection, payload: Payload, facts: Facts
    ) -> AsyncGenerator[bytes, None]:
        body = _encoded(payload)
        for attempt in range(RETRIES + 1):
            progress = _Progress()
            try:
                with _readable(connection, progress):
                    async with (
                        Silence(connection.read_timeout) as silence,
                        self._post(connection, body) as response,
                    ):
                        await self._check(response, connection, payload)
                        if response.content_type == "application/json":
                            yield _as_chunks(await response.json(), facts)
                            return
                        reader = SseReader(facts)
                        async for data in response.content.iter_any():
                            progress.received = True
                            if block := reader.feed(data):
                                silence.pause()
                                yield block
                            silence.broken()
                        if block := reader.close():
                            yield block
                        return
            except _StaleConnection as stale:
                self._send_again(attempt, stale)
            except ProviderError as error:
                if isinstance(error, BrokenChunk) and error.partial:
                    yield error.partial
                raise failures.without_key(error, connection) from error.__cause__

    async def complete(self, connection: Connection, payload: Payload) -> dict[str, Any]:
        """One chat completion as a whole.

        Returns:
            the provider's completion object, foreign `event` keys taken out.

        Raises:
            ProviderError: as `stream`.
        """
        payload = {**payload, "stream": False}
        payload.pop("stream_options", None)
        if connection.kind == "demo":
            return demo.complete(payload)
        data = await self._request_json(connection, "/chat/completions", payload)
        if not isinstance(data.get("choices"), list) or not data["choices"]:
            raise failures.without_key(_no_completion(data), connection)
        return {key: value for key, value in data.items() if key not in CONTROL_KEYS}

    async def models(self, connection: Connection) -> list[dict[str, Any]]:
        """The provider's models, each with at least `id`; remembered for a minute.

        Raises:
            ProviderError: the list cannot be had.
        """
        if connection.kind == "demo":
            return [{"id": demo.MODEL}]
        key = (connection.base_url, connection.api_key)
        known = self._models.get(key)
        if known and time.monotonic() - known[0] < MODELS_TTL:
            return known[1]
        async with self._fetching:  # one asks, the others wait for its answer
            known = self._models.get(key)
            if known and time.monotonic() - known[0] < MODELS_TTL:
                return known[1]
            return await self._fetch_models(connection, key)

    async def _fetch_models(
        self, connection: Connection, key: tuple[str, str | None]
    ) -> list[dict[str, Any]]:
        data = await self._request_json(connection, "/models", None)
        entries = data.get("data")
        models = [
            entry
            for entry in (entries if isinstance(entries, list) else [])
            if isinstance(entry, dict) and isinstance(entry.get("id"), str)
        ]
        if len(self._models) >= _MAX_LISTS:
            self._models.clear()
        self._models[key] = (time.monotonic(), models)
        return models

    async def choose_model(self, connection: Connection, wanted: str | None) -> str:
        """The provider model to use: the wanted one, the connection's, or the provider's first chat model.

        Raises:
            ProviderError: the provider offers none, or the model leads back to one of our own.
        """
        if connection.kind == "demo":
            return demo.MODEL
        model = wanted or connection.model
        if model and connection.kind != "openwebui":
            if model.startswith(OWN_PREFIX):
                raise failures.leads_back(model)
            return model
        offered = await self.models(connection)
        back = {entry["id"] for entry in offered if _leads_back(entry)}
        if model:
            if model in back:
                raise failures.leads_back(model)
            return model
        for entry in offered:
            name = entry["id"].lower()
            if entry["id"] not in back and not any(word in name for word in _NOT_CHAT):
                return entry["id"]
        raise ProviderError(
            "The model provider offers no chat model.",
            hint="Set one: valve `llm_model` of the personas pipeline, or AGENT_MODE_MODEL.",
            code="provider_model",
        )

    def _post(self, connection: Connection, body: bytes) -> Any:
        return self._opened().post(
            f"{connection.base_url}/chat/completions",
            data=_data(body),
            headers=_headers(connection),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connection.connect_timeout),
        )

    def _send_again(self, attempt: int, stale: _StaleConnection) -> None:
        if attempt == RETRIES:
            raise stale.error from stale.__cause__
        log.info("provider closed a pooled connection, sending again (attempt %d)", attempt + 2)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise ProviderError("The server is shutting down.", hint="Try again in a moment.", retryable=True)
        return self._session

    async def _check(
        self, response: aiohttp.ClientResponse, connection: Connection, payload: Payload
    ) -> None:
        if response.status != 200:
            body = await response.content.read(4096)
            retry_after = response.headers.get("Retry-After")
            model = str(payload.get("model"))
            raise failures.from_status(response.status, body, connection, model, retry_after)

    async def _request_json(
        self, connection: Connection, path: str, payload: Payload | None
    ) -> dict[str, Any]:
        method = "GET" if payload is None else "POST"
        body = None if payload is None else _encoded(payload)
        for attempt in range(RETRIES + 1):
            progress = _Progress()
            try:
                with _readable(connection, progress):
                    async with self._opened().request(
                        method,
                        connection.base_url + path,
                        data=_data(body),
                        headers=_headers(connection),
                        timeout=_timeout(connection),
                    ) as response:
                        progress.received = True
                        await self._check(response, connection, payload or {})
                        data = json.loads(await response.read())
                        if not isinstance(data, dict):
                            raise _no_completion(data)
                        return data
            except _StaleConnection as stale:
                self._send_again(attempt, stale)
        raise AssertionError("the last attempt returns or raises")


async def _stream_demo(payload: Payload, facts: Facts) -> AsyncGenerator[bytes, None]:
    reader = SseReader(facts)
    async with aclosing(demo.stream(payload)) as chunks:
        async for chunk in chunks:
            if block := reader.feed(chunk):
                yield block


def _encoded(payload: Payload) -> bytes:
    try:
        return json.dumps(payload).encode()
    except RecursionError:
        raise RequestError(
            "The request is nested too deeply.", hint="Send flatter messages.", field="messages"
        ) from None


def _data(body: bytes | None) -> bytes | io.BytesIO | None:
    """The body as aiohttp wants it: large ones as a stream, which it sends piece by piece."""
    return io.BytesIO(body) if body is not None and len(body) > _LARGE else body


def _leads_back(entry: dict[str, Any]) -> bool:
    """Whether a model of Open WebUI's list is a pipeline, or a workspace model built on one of ours."""
    info = entry.get("info")
    base = info.get("base_model_id") if isinstance(info, dict) else None
    own = isinstance(base, str) and base.startswith(OWN_PREFIX)
    return own or entry["id"].startswith(OWN_PREFIX) or "pipeline" in entry


def _headers(connection: Connection) -> dict[str, str]:
    headers = {"Content-Type": "application/json", HOP_HEADER: "1"}
    if connection.api_key:
        headers["Authorization"] = f"Bearer {connection.api_key}"
    return headers


def _timeout(connection: Connection) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(
        total=None, sock_connect=connection.connect_timeout, sock_read=connection.read_timeout
    )


def _as_chunks(data: Any, facts: Facts) -> bytes:
    """A provider that ignored `stream` sent a whole completion: the same as chunks.

    Raises:
        ProviderError: it is no completion.
    """
    if not isinstance(data, dict) or not isinstance(data.get("choices"), list) or not data["choices"]:
        raise _no_completion(data)
    choices = []
    for choice in data["choices"]:
        message = choice.get("message") if isinstance(choice, dict) else None
        delta = message if isinstance(message, dict) else {}
        reason = choice.get("finish_reason") if isinstance(choice, dict) else None
        choices.append({"index": len(choices), "delta": delta, "finish_reason": reason or "stop"})
    chunk = {**data, "object": "chat.completion.chunk", "choices": choices}
    return SseReader(facts).feed(f"data: {json.dumps(chunk)}\n\n".encode())


def _no_completion(data: Any) -> ProviderError:
    if isinstance(data, dict) and data.get("error"):
        return reported(data["error"])
    return not_json("no choices")
