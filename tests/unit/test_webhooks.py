"""Webhooks against a real receiver: signed, retried, and never in anybody's way."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from agent_mode.errors import ConfigurationError
from agent_mode.observe import webhooks as module
from agent_mode.observe.hooks import Hooks, PersonaChanged, PersonaSwitched, SequenceFinished
from agent_mode.observe.webhooks import Webhooks
from agent_mode.settings import Settings
from tests.patience import PATIENCE, until

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
SWITCHED = PersonaSwitched(persona="coder", previous="writer", chat_id="c1", user_id="u1")


class Receiver:
    """A receiver that answers as told; the last answer holds for all further requests."""

    def __init__(self) -> None:
        self.answers: list[int | float] = [204]
        """A status, or as a float the seconds to hang before 204."""
        self.calls: list[tuple[dict[str, str], bytes, float]] = []
        self.hanging = 0

    async def answer(self, request: web.Request) -> web.Response:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.calls.append((dict(request.headers), await request.read(), time.monotonic()))
        if isinstance(answer, float):
            self.hanging += 1
            await asyncio.sleep(answer)
            answer = 204
        return web.Response(status=answer, headers={"Location": "/elsewhere"})

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body, _ in self.calls]

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _, _ in self.calls]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    capture = structlog.testing.LogCapture()
    log = structlog.wrap_logger(None, processors=[capture], wrapper_class=structlog.stdlib.BoundLogger)
    monkeypatch.setattr(module, "log", log)
    return capture.entries


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(module, "TIMEOUT", 0.5)
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.3)


Serve = Callable[[Receiver], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    servers: list[TestServer] = []

    async def start(receiver: Receiver) -> str:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", receiver.answer)
        server = TestServer(app)
        await server.start_server(shutdown_timeout=0.1)
        servers.append(server)
        return str(server.make_url("/hook"))

    yield start
    for server in servers:
        await server.close()


# What is sent


async def test_every_event_arrives_signed(serve: Serve, logged: list[Any]) -> None:
    receiver, hooks = Receiver(), Hooks()
    webhooks = Webhooks([await serve(receiver)], SECRET, hooks=hooks)
    await webhooks.start()
    hooks.emit(SWITCHED)
    hooks.emit(SequenceFinished(personas=("a", "b"), failed=("b",), reason="failed"))
    await until(lambda: len(receiver.calls) == 2)
    await webhooks.close()
    assert receiver.bodies == [
        {
            "type": "persona.switched",
            "timestamp": SWITCHED.at.isoformat(),
            "data": {
                "chat_id": "c1",
                "user_id": "u1",
                "persona": "coder",
                "previous": "writer",
                "reason": "user_switch",
            },
        },
        {
            "type": "sequence.finished",
            "timestamp": receiver.bodies[1]["timestamp"],
            "data": {
                "chat_id": None,
                "user_id": None,
                "personas": ["a", "b"],
                "failed": ["b"],
                "reason": "failed",
            },
        },
    ]
    for headers, body, _ in receiver.calls:
        stamp = headers["webhook-timestamp"]
        content = f"{headers['webhook-id']}.{stamp}.".encode() + body
        expected = base64.b64encode(hmac.new(KEY, content, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{expected}"
        assert abs(int(stamp) - time.time()) < 5
        assert headers["Content-Type"] == "application/json"
        assert "Authorization" not in headers
    assert len(set(receiver.ids)) == 2
    assert logged == []


def test_the_signature_is_that_of_the_specification() -> None:
    # The test vector of the libraries at github.com/standard-webhooks/standard-webhooks.
    headers = module.signed(
        base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_any_other_text_is_the_key_itself(serve: Serve) -> None:
    receiver, hooks, secret = Receiver(), Hooks(), "a passphrase of thirty letters"
    webhooks = Webhooks([await serve(receiver)], secret, hooks=hooks)
    await webhooks.start()
    hooks.emit(SWITCHED)
    await until(lambda: len(receiver.calls) == 1)
    await webhooks.close()
    headers, body, _ = receiver.calls[0]
    stamp = int(headers["webhook-timestamp"])
    expected = module.signed(secret.encode(), headers["webhook-id"], stamp, body)
    assert headers["webhook-signature"] == expected["webhook-signature"]


# When it fails


async def test_retries_with_growing_waits_under_one_id(serve: Serve, logged: list[Any]) -> None:
    receiver, hooks = Receiver(), Hooks()
    receiver.answers = [500, 429, 408, 503, 200]
    webhooks = Webhooks([await serve(receiver)], SECRET, hooks=hooks)
    await webhooks.start()
    hooks.emit(SWITCHED)
    await until(lambda: len(receiver.calls) == 5)
    await webhooks.close()
    assert len(set(receiver.ids)) == 1
    times = [at for _, _, at in receiver.calls]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    for gap, wait in zip(gaps, (0.02, 0.04, 0.08, 0.16), strict=True):
        assert gap >= wait * 0.79
    assert logged == []


async def test_gives_up_after_five_attempts_and_goes_on(serve: Serve, logged: list[Any]) -> None:
    receiver, hooks = Receiver(), Hooks()
    receiver.answers = [502, 502, 502, 502, 502, 204]
    webhooks = Webhooks([await serve(receiver)], SECRET, hooks=hooks)
    await webhooks.start()
    hooks.emit(SWITCHED)
    hooks.emit(PersonaChanged(persona="coder", reason="deleted"))
    await until(lambda: len(receiver.calls) == 6)
    await webhooks.close()
    assert receiver.bodies[5]["type"] == "persona.changed"
    assert [(entry["attempts"], entry["reason"]) for entry in logged] == [(5, "502")]


@pytest.mark.parametrize("status", [400, 401, 404, 302, 307])
async def test_not_retried_and_no_redirect_followed(serve: Serve, logged: list[Any], status: int) -> None:
    receiver, hooks = Receiver(), Hooks()
    receiver.answers = [status, 204]
    webhooks = Webhooks([await serve(receiver)], SECRET, hooks=hooks)
    await webhooks.start()
    hooks.emit(SWITCHED)
    hooks.emit(SWITCHED)
    await until(lambda: len(receiver.calls) == 2)
    await webhooks.close()
    assert len(set(receiver.ids)) == 2
    assert [entry["attempts"] for entry in logged] == [1]
    assert logged[0]["reason"].startswith(str(status))


async def test_410_ends_it_until_the_next_start(serve: Serve, logged: list[Any]) -> None:
    receiver, hooks = Receiver(), Hooks()
    receiver.answers = [410, 204]
    webhooks = Webhooks([await serve(receiver)], SECRET, hooks=hooks)
    await webhooks.start()
    hooks.emit(SWITCHED)
    await until(lambda: bool(logged))
    hooks.emit(SWITCHED)
    await asyncio.sleep(0.05)
    assert len(receiver.calls) == 1
    await webhooks.close()
    await webhooks.start()
    hooks.emit(SWITCHED)
    await until(lambda: len(receiver.calls) == 2)
    await webhooks.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "x" * 64 + ".test"])
async def test_a_receiver_that_is_not_there_harms_nobody(serve: Serve, logged: list[Any], host: str) -> None:
    receiver, hooks = Receiver(), Hooks()
    nowhere = f"http://{host}:{unused_port()}/key-in-path"
    webhooks = Webhooks([nowhere, await serve(receiver)], SECRET, hooks=hooks)
    await webhooks.start()
    hooks.emit(SWITCHED)
    await until(lambda: len(receiver.calls) == 1 and bool(logged))
    await webhooks.close()
    assert [(entry["host"], entry["attempts"]) for entry in logged] == [(host, 5)]
    assert "key-in-path" not in repr(logged)


async def test_a_slow_receiver_delays_neither_emit_nor_the_others(serve: Serve, logged: list[Any]) -> None:
    slow, fast, hooks = Receiver(), Receiver(), Hooks()
    slow.answers = [600.0]
    webhooks = Webhooks([await serve(slow), await serve(fast)], SECRET, hooks=hooks)
    await webhooks.start()
    for _ in range(50):
        hooks.emit(SWITCHED)
        await asyncio.sleep(0)
    await until(lambda: len(fast.calls) == 50)
    assert len(slow.calls) == 1
    started = time.monotonic()
    await webhooks.close()
    assert time.monotonic() - started < PATIENCE
    assert [entry["count"] for entry in logged] == [50]


async def test_a_silent_receiver_is_given_up_after_the_timeout(serve: Serve, logged: list[Any]) -> None:
    receiver, hooks = Receiver(), Hooks()
    receiver.answers = [30.0, 204]
    webhooks = Webhooks([await serve(receiver)], SECRET, hooks=hooks)
    await webhooks.start()
    hooks.emit(SWITCHED)
    await until(lambda: len(receiver.calls) == 2)
    await webhooks.close()
    assert receiver.ids[0] == receiver.ids[1]
    assert 0.4 < receiver.calls[1][2] - receiver.calls[0][2] < 1.0
    assert logged == []


async def test_the_oldest_are_given_up_when_too_many_wait(
    serve: Serve, logged: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE_LIMIT", 3)
    receiver, hooks = Receiver(), Hooks()
    webhooks = Webhooks([await serve(receiver)], SECRET, hooks=hooks)
    await webhooks.start()
    for number in range(8):
        hooks.emit(PersonaChanged(persona=f"p{number}", reason="created"))
    await until(lambda: len(receiver.calls) == 3)
    await webhooks.close()
    assert [body["data"]["persona"] for body in receiver.bodies] == ["p5", "p6", "p7"]
    assert [entry["count"] for entry in logged] == [1, 2, 4]


# Start and close


async def test_what_waits_at_the_end_is_still_delivered(serve: Serve, logged: list[Any]) -> None:
    receiver, hooks = Receiver(), Hooks()
    webhooks = Webhooks([await serve(receiver)], SECRET, hooks=hooks)
    await webhooks.start()
    for _ in range(20):
        hooks.emit(SWITCHED)
    await webhooks.close()
    assert len(receiver.calls) == 20
    assert logged == []


async def test_close_with_a_hanging_receiver_leaves_nothing_behind(serve: Serve) -> None:
    receiver, hooks = Receiver(), Hooks()
    receiver.answers = [600.0]
    url = await serve(receiver)
    before = asyncio.all_tasks()
    webhooks = Webhooks([url], SECRET, hooks=hooks)
    await webhooks.start()
    hooks.emit(SWITCHED)
    await until(lambda: receiver.hanging == 1)
    started = time.monotonic()
    await webhooks.close()
    await webhooks.close()
    assert time.monotonic() - started < PATIENCE
    assert {task for task in asyncio.all_tasks() - before if "webhook" in task.get_name()} == set()
    hooks.emit(SWITCHED)
    await asyncio.sleep(0.05)
    assert len(receiver.calls) == 1


async def test_from_another_thread(serve: Serve) -> None:
    receiver, hooks = Receiver(), Hooks()
    webhooks = Webhooks([await serve(receiver)], SECRET, hooks=hooks)
    await webhooks.start()
    await asyncio.to_thread(hooks.emit, SWITCHED)
    await until(lambda: len(receiver.calls) == 1)
    await webhooks.close()


async def test_without_addresses_it_does_nothing() -> None:
    webhooks = Webhooks([], None, hooks=Hooks())
    await webhooks.start()
    assert len(asyncio.all_tasks()) == 1
    await webhooks.close()


# Settings


@pytest.mark.parametrize(
    "secret", [None, "", "tiny key", "whsec_", "whsec_dG9vIHNob3J0", "whsec_no base64 at all, is it?"]
)
def test_a_secret_is_required(secret: str | None) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Webhooks(["https://example.org/hook"], secret)
    assert caught.value.field == "AGENT_MODE_WEBHOOK_SECRET"
    assert "openssl rand" in caught.value.hint
    assert not secret or secret == "whsec_" or secret not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["example.org/hook", "ftp://example.org", "http://", "https://h:70000/", "http://[::1"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Webhooks([url], SECRET)
    assert caught.value.field == "AGENT_MODE_WEBHOOK_URLS"


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().webhook_targets() == ()  # pyright: ignore[reportCallIssue]
    monkeypatch.setenv("AGENT_MODE_WEBHOOK_URLS", " https://a.test/x , https://b.test/y,")
    monkeypatch.setenv("AGENT_MODE_WEBHOOK_SECRET", SECRET)
    settings = Settings()  # pyright: ignore[reportCallIssue]
    assert settings.webhook_targets() == ("https://a.test/x", "https://b.test/y")
    assert settings.webhook_secret == SECRET
    assert SECRET not in repr(settings)
