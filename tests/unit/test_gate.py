"""A session of the Agents page does not outlive the role that opened it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from agent_mode.admin.gate import standing
from agent_mode.admin.gate.gate import Gate
from agent_mode.admin.gate.tickets import COOKIE, Person, Tickets
from agent_mode.errors import AuthenticationError
from agent_mode.tools.openwebui import OpenWebUIClient
from tests.owui_double import Account, Double

KEY = "the connection key"
ORIGIN = [(b"host", b"here"), (b"origin", b"http://here"), (b"accept", b"text/html")]


class Clock:
    """Seconds that pass when told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class House:
    """What stands behind the gate here: one page that says hello, and a socket that echoes."""

    openwebui: OpenWebUIClient | None
    service_key: str | None = None
    noted: list[tuple[str, str, str]] = field(default_factory=list)

    def check_key(self, key: str, scope: Any) -> None:
        if key != KEY:
            raise AuthenticationError("no")

    async def prepare(self) -> None: ...

    async def note(self, person: Person, action: str, target: str = "", text: str = "") -> None:
        self.noted.append((person.name, action, text))

    async def pages(self) -> Any:
        return self._page

    async def _page(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"hello"})
            return
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})


class Visitor:
    """A browser before the gate."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.cookie = ""

    async def sign_in(self, key: str) -> int:
        status, headers = await self._ask("POST", "/admin/sign-in", f"key={key}".encode())
        value = dict(headers).get(b"set-cookie", b"").decode()
        self.cookie = value.partition(";")[0]
        return status

    async def look(self) -> int:
        return (await self._ask("GET", "/admin/runs"))[0]

    async def _ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, list[tuple[bytes, bytes]]]:
        answers: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            answers.append(message)

        headers = [*ORIGIN, (b"cookie", self.cookie.encode())]
        scope = {"type": "http", "method": method, "path": path, "headers": headers, "client": ("1.1.1.1", 1)}
        await self.gate(scope, receive, send)
        return answers[0]["status"], answers[0]["headers"]

    def open_socket(self) -> Socket:
        return Socket(self)


class Socket:
    """An open socket of a page."""

    def __init__(self, visitor: Visitor) -> None:
        self._incoming: asyncio.Queue[Any] = asyncio.Queue()
        self.heard: asyncio.Queue[Any] = asyncio.Queue()
        scope = {
            "type": "websocket",
            "path": "/admin/ws",
            "headers": [*ORIGIN, (b"cookie", visitor.cookie.encode())],
        }
        self._task = asyncio.create_task(visitor.gate(scope, self._incoming.get, self.heard.put))

    async def say(self, text: str) -> Any:
        self._incoming.put_nowait({"type": "websocket.receive", "text": text})
        return await asyncio.wait_for(self.heard.get(), 10)

    async def end(self) -> None:
        self._incoming.put_nowait({"type": "websocket.disconnect"})
        await asyncio.wait_for(self._task, 10)


@dataclass
class Stand:
    """A gate, Open WebUI, and two of its accounts."""

    webui: Double
    ada: Account
    root: Account
    house: House
    clock: Clock

    def gate(self, secret: str = "secret", key: str = KEY) -> Gate:
        return Gate(self.house, Tickets(secret, key), 1_000_000, clock=self.clock)

    def asked(self) -> int:
        return len(self.webui.requests)


@pytest.fixture
def webui() -> Iterator[Double]:
    with Double() as double:
        yield double


@pytest.fixture
async def stand(webui: Double) -> AsyncIterator[Stand]:
    ada, root = webui.user("ada", "admin"), webui.user("root", "admin")
    client = OpenWebUIClient(webui.url)
    yield Stand(webui, ada, root, House(client, root.key), Clock())
    await client.close()


async def signed_in(stand: Stand, credential: str) -> Visitor:
    visitor = Visitor(stand.gate())
    assert await visitor.sign_in(credential) == 303
    assert COOKIE in visitor.cookie
    assert await visitor.look() == 200
    return visitor


@pytest.mark.parametrize("service_key", [True, False], ids=["with a service key", "without"])
async def test_who_loses_the_role_is_out_after_five_minutes(stand: Stand, *, service_key: bool) -> None:
    if not service_key:
        stand.house.service_key = None
    visitor = await signed_in(stand, stand.ada.key)
    socket = visitor.open_socket()
    assert (await socket.say("a"))["text"] == "a"
    stand.ada.role = "user"
    before = stand.asked()
    stand.clock.now += standing.RECHECK_SECONDS - 1
    assert await visitor.look() == 200
    assert (await socket.say("b"))["text"] == "b"
    assert stand.asked() == before, "it was asked more often than needed"

    stand.clock.now += 1
    assert await visitor.look() == 303  # to the sign-in
    assert (await asyncio.wait_for(socket.heard.get(), 10))["code"] == 4401
    assert await visitor.look() == 303
    assert stand.house.noted[-1] == (
        "ada@example.org",
        "signed out",
        "no admin of Open WebUI any more, as far as is known",
    )
    await socket.end()


async def test_an_open_socket_alone_is_ended_as_well(stand: Stand) -> None:
    visitor = await signed_in(stand, stand.ada.key)
    socket = visitor.open_socket()
    await socket.say("hello")
    del stand.webui.accounts["ada"]  # deleted, or somebody else's now
    stand.clock.now += standing.RECHECK_SECONDS
    assert (await socket.say("a")) == {"type": "websocket.close", "code": 4401}
    assert await visitor.look() == 303
    await socket.end()


async def test_an_admin_stays_and_is_asked_about_rarely(stand: Stand) -> None:
    visitor = await signed_in(stand, stand.ada.key)
    before = stand.asked()
    for _ in range(4):
        stand.clock.now += standing.RECHECK_SECONDS
        assert await asyncio.gather(*(visitor.look() for _ in range(5))) == [200] * 5
    assert stand.asked() == before + 4
    assert [request.path for request in stand.webui.requests[before:]] == ["/api/v1/users/ada"] * 4


async def test_an_open_webui_that_is_away_ends_nobody_s_session_at_once(stand: Stand) -> None:
    visitor = await signed_in(stand, stand.ada.key)
    stand.clock.now += standing.RECHECK_SECONDS
    stand.webui.down = 502
    assert await visitor.look() == 200
    before = stand.asked()
    assert await visitor.look() == 200
    assert stand.asked() == before, "who is away is not asked at each request"
    stand.webui.down = None
    stand.clock.now += standing.AGAIN_SECONDS
    assert await visitor.look() == 200
    assert stand.asked() == before + 1

    stand.webui.down = 502
    stand.clock.now += standing.GRACE_SECONDS - 1
    assert await visitor.look() == 200
    stand.clock.now += standing.AGAIN_SECONDS
    assert await visitor.look() == 303
    stand.webui.down = None
    assert await visitor.look() == 303, "what has ended stays so"


async def test_a_service_key_that_is_no_admin_s_leaves_it_to_what_they_signed_in_with(stand: Stand) -> None:
    visitor = await signed_in(stand, stand.ada.key)
    stand.root.role = "user"
    for status in (200, 303):
        stand.clock.now += standing.RECHECK_SECONDS
        assert await visitor.look() == status
        assert [request.account for request in stand.webui.requests[-2:]] == [stand.root, stand.ada]
        stand.ada.role = "user"


async def test_after_a_restart_it_takes_a_service_key(stand: Stand) -> None:
    visitor = await signed_in(stand, stand.ada.key)
    cookie = visitor.cookie
    again = Visitor(stand.gate())
    again.cookie = cookie
    assert await again.look() == 200
    stand.ada.role = "user"
    third = Visitor(stand.gate())
    third.cookie = cookie
    assert await third.look() == 303, "at the first request after a restart it is asked"
    stand.ada.role = "admin"
    stand.house.service_key = None
    fourth = Visitor(stand.gate())
    fourth.cookie = cookie
    assert await fourth.look() == 303, "nobody can be asked with"


async def test_the_connection_key_s_sessions_end_with_the_key_alone(stand: Stand) -> None:
    visitor = Visitor(stand.gate())
    assert await visitor.sign_in(KEY.replace(" ", "+")) == 303
    stand.webui.down = 502
    stand.clock.now += 11 * 3600
    before = stand.asked()
    assert await visitor.look() == 200
    assert stand.asked() == before
    for gate, status in ((stand.gate(), 200), (stand.gate(key="a new key"), 303)):
        other = Visitor(gate)
        other.cookie = visitor.cookie
        assert await other.look() == status


def test_what_somebody_signed_in_with_is_never_shown() -> None:
    known = standing._Known("sk-secret", 0, 0, 0)
    assert "secret" not in repr(known)
