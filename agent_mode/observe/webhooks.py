"""Events as signed HTTP calls, for what is not Python.

Body, headers and signature follow Standard Webhooks 1.0.0
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md), for which there
are libraries in most languages:

    {"type": "persona.switched", "timestamp": "2025-01-31T09:30:00+00:00", "data": {"chat_id": …, …}}

    webhook-id         the same for every attempt at one event
    webhook-timestamp  of the attempt, Unix seconds
    webhook-signature  v1,<base64 of HMAC-SHA256 over "id.timestamp.body">
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import os
import random
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from urllib.parse import urlsplit

import aiohttp

from agent_mode.errors import ConfigurationError
from agent_mode.observe import hooks as bus
from agent_mode.observe.logs import get_logger

log = get_logger(__name__)

ATTEMPTS = 5
FIRST_WAIT = 1.0
"""Seconds before the second attempt; doubled before each further one, give or take a fifth."""
TIMEOUT = 10.0
"""Seconds for one attempt as a whole."""
QUEUE_LIMIT = 1000
"""Events that wait for one receiver; when more come, the oldest are given up."""
CLOSE_SECONDS = 2.0
"""How long what still waits at the end may take to be delivered."""

_SECRET_PREFIX = "whsec_"
_SECRET_BYTES = 24
_SECRET_HINT = f'Make one: echo "{_SECRET_PREFIX}$(openssl rand -base64 32)"'
_GONE = 410
_TRY_AGAIN = (408, 429)


class Webhooks:
    """Posts every event to every address; a slow or dead receiver delays neither chats nor the others.

    Args:
        urls: where to; with none, it does nothing.
        secret: `whsec_` and base64, or any other text of at least 24 bytes.
        hooks: where the events come from.

    Raises:
        ConfigurationError: an address is not a web address, or the secret is missing or weak.
    """

    def __init__(self, urls: Sequence[str], secret: str | None, *, hooks: bus.Hooks = bus.hooks) -> None:
        self._key = _key(secret) if urls else b""
        self._receivers = [_Receiver(url) for url in map(_checked, urls)]
        self._hooks = hooks
        self._unsubscribe: Callable[[], None] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._workers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Subscribes; from now on events are sent."""
        if not self._receivers or self._session is not None:
            return
        proxied = any(name.lower() in ("http_proxy", "https_proxy", "all_proxy") for name in os.environ)
        self._session = aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "agent-mode", "Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=TIMEOUT),
            trust_env=proxied,
        )
        for receiver in self._receivers:
            receiver.open()
            work = receiver.work(self._session, self._key)
            worker = asyncio.create_task(work, name=f"agent-mode-webhook {receiver.host}")
            worker.add_done_callback(_report)
            self._workers.append(worker)
        self._unsubscribe = self._hooks.subscribe(bus.ALL, self._put)

    def _put(self, event: bus.Event) -> None:
        for receiver in self._receivers:
            receiver.put(event)

    async def close(self) -> None:
        """Unsubscribes, delivers what can be delivered at once, and gives up the rest."""
        if self._session is None or self._unsubscribe is None:
            return
        self._unsubscribe()
        for receiver in self._receivers:
            receiver.finish()
        try:
            await asyncio.wait(self._workers, timeout=CLOSE_SECONDS)
        finally:
            workers, self._workers = self._workers, []
            session, self._session = self._session, None
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await session.close()


class _Receiver:
    """One address with its queue. The worker is alone in taking from the queue."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.host = urlsplit(url).hostname or ""  # all that a log shall see: keys are put into paths
        self._queue: deque[bus.Event] = deque()
        self._dropped = 0
        self._gone = False
        self._finishing = False
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Takes events from now on, for a worker on this event loop."""
        self._loop, self._finishing, self._gone = asyncio.get_running_loop(), False, False

    def put(self, event: bus.Event) -> None:
        """Queues an event. Any thread may call."""
        loop = self._loop
        if self._gone or loop is None:
            return
        if len(self._queue) >= QUEUE_LIMIT:
            self._queue.popleft()
            self._dropped += 1
            if bus.is_power_of_two(self._dropped):
                log.warning("webhook too slow, oldest events given up", host=self.host, count=self._dropped)
        self._queue.append(event)
        loop.call_soon_threadsafe(self._wake.set)

    def finish(self) -> None:
        """Lets `work` end when the queue is empty."""
        self._finishing = True
        self._wake.set()

    async def work(self, session: aiohttp.ClientSession, key: bytes) -> None:
        """Delivers one event after the other, until `finish`."""
        event = None
        try:
            while not self._gone:
                while self._queue:
                    event = self._queue.popleft()
                    await self._deliver(session, key, event)
                    event = None
                if self._finishing:
                    break
                self._wake.clear()
                await self._wake.wait()
        finally:
            self._loop = None
            left = len(self._queue) + (event is not None)
            self._queue.clear()
            if left:
                log.warning("webhook events not delivered", host=self.host, count=left)

    async def _deliver(self, session: aiohttp.ClientSession, key: bytes, event: bus.Event) -> None:
        message_id, body = f"msg_{uuid.uuid4().hex}", encoded(event)
        for attempt in range(1, ATTEMPTS + 1):
            trouble, retry = await self._post(session, key, message_id, body)
            if not trouble:
                return
            if not retry or attempt == ATTEMPTS:
                log.warning(
                    "webhook not delivered", host=self.host, type=event.name, reason=trouble, attempts=attempt
                )
                return
            await asyncio.sleep(FIRST_WAIT * 2 ** (attempt - 1) * random.uniform(0.8, 1.2))

    async def _post(
        self, session: aiohttp.ClientSession, key: bytes, message_id: str, body: bytes
    ) -> tuple[str, bool]:
        """What went wrong, empty if nothing did; and whether another attempt may help."""
        headers = signed(key, message_id, int(time.time()), body)
        try:
            async with session.post(self.url, data=body, headers=headers, allow_redirects=False) as response:
                status = response.status
        except TimeoutError:
            return f"no answer within {TIMEOUT:g} s", True
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return type(error).__name__, True
        if status < 300:
            return "", False
        if status == _GONE:
            self._gone = True
            return "410, wants no more events; none are sent until the next start", False
        hint = ", set the address that it redirects to" if status < 400 else ""
        return f"{status}{hint}", status >= 500 or status in _TRY_AGAIN


def _report(worker: asyncio.Task[None]) -> None:
    if not worker.cancelled() and (error := worker.exception()) is not None:
        log.error("webhook worker failed", exc_info=error)


def encoded(event: bus.Event) -> bytes:
    """The body of an event's request."""
    data = asdict(event)
    timestamp = data.pop("at").isoformat()
    return json.dumps(
        {"type": event.name, "timestamp": timestamp, "data": data}, separators=(",", ":")
    ).encode()


def signed(key: bytes, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of a request."""
    content = f"{message_id}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
    }


def _key(secret: str | None) -> bytes:
    if not secret:
        raise _bad_secret("Webhook addresses are set, but no secret to sign with.")
    if not secret.startswith(_SECRET_PREFIX):
        key = secret.encode()
    else:
        try:
            key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raise _bad_secret(f"The webhook secret is not base64 after {_SECRET_PREFIX}.") from None
    if len(key) < _SECRET_BYTES:
        raise _bad_secret(f"The webhook secret is shorter than {_SECRET_BYTES} bytes.")
    return key


def _bad_secret(message: str) -> ConfigurationError:
    field = "AGENT_MODE_WEBHOOK_SECRET"
    return ConfigurationError(
        message, hint=f"{_SECRET_HINT} and set it as {field}.", code="webhook_secret", field=field
    )


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid:
        raise ConfigurationError(
            "A webhook address is not a web address.",
            hint="Give them as https://host/path, separated by commas; a comma inside is written %2C.",
            code="webhook_url",
            field="AGENT_MODE_WEBHOOK_URLS",
        )
    return url
