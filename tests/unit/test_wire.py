"""The bounds on what a client sends, over real sockets; the limits of time shortened."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvicorn

from agent_mode.server import wire
from tests.patience import PATIENCE

HOST = b"Host: a\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with how much it was sent; below `/slow` after a while, and in pieces."""
    size = 0
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.sleep(0.8)
        await send({"type": "websocket.send", "text": "still here"})
        await receive()
        return
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/slow":
        for _ in range(6):
            await asyncio.sleep(0.1)
            await send({"type": "http.response.body", "body": b"piece.", "more_body": True})
    await send({"type": "http.response.body", "body": b"%d of %d" % (size, len(scope["headers"]))})


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(wire, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(wire, "BODY_SECONDS", 0.3)
    config = uvicorn.Config(app, http=wire.BoundedHttp, lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        task = asyncio.create_task(server.serve([listening]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield listening.getsockname()[1]
        server.should_exit = True
        await task


Talk = Callable[..., Any]


@pytest.fixture
def talk(port: int) -> Talk:
    async def say(*parts: bytes, pause: float = 0.0, eof: bool = False) -> bytes:
        """Sends the parts with a pause after each, and reads until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answer = asyncio.create_task(_all(reader))
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause)
        except OSError:
            pass  # the server has closed in the midst
        try:
            return await asyncio.wait_for(answer, 10)
        finally:
            writer.close()

    return say


async def _all(reader: asyncio.StreamReader) -> bytes:
    parts = []
    try:
        while part := await reader.read(65536):
            parts.append(part)
    except ConnectionResetError:
        pass  # what we were still sending was not read
    return b"".join(parts)


async def test_an_ordinary_request(talk: Talk) -> None:
    answer = await talk(
        b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\nA: " + b"x" * 60_000 + b"\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"0 of 3\r\n0\r\n\r\n")


async def test_a_large_body_is_no_large_head(talk: Talk) -> None:
    head = b"POST / HTTP/1.1\r\n" + HOST + b"Connection: close\r\nContent-Length: 3000000\r\n\r\n"
    assert b"3000000 of 3" in await talk(head, b"x" * 3_000_000)
    assert b"3000000 of 3" in await talk(head + b"x" * 3_000_000)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param([b"A: ", *[b"x" * 65_536] * 40], id="one header"),
        pytest.param([b"a: b\r\n" * 10_000] * 20, id="many headers"),
        pytest.param([b"x" * 65_536] * 40, id="one name"),
        pytest.param([b"A: " + b"x" * 70_000 + b"\r\n\r\n"], id="complete"),
        pytest.param([b"a: b\r\n" * 20_000 + b"\r\n"], id="many and complete"),
    ],
)
async def test_too_large_a_head(talk: Talk, head: list[bytes]) -> None:
    answer = await talk(b"GET / HTTP/1.1\r\n" + HOST, *head)
    assert b" 200 " not in answer
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431 "), "a reset may overtake the answer"


async def test_too_large_a_head_is_told(talk: Talk) -> None:
    answer = await talk(b"GET / HTTP/1.1\r\nA: ", b"x" * 65_500, b"x" * 40, pause=0.05)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"connection: close" in answer


async def test_too_long_an_address(talk: Talk) -> None:
    answer = await talk(b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n")
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ([], b""),
        ([b"GET / HT"], b"HTTP/1.1 408 "),
        ([b"GET / HTTP/1.1\r\nA: b\r\n"], b"HTTP/1.1 408 "),
        ([b"GET / HTTP/1.1\r\n", *[b"A: b\r\n"] * 30], b"HTTP/1.1 408 "),
        ([b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nab"], b""),
    ],
    ids=["nothing", "a word", "some headers", "a header now and then", "half a body"],
)
async def test_who_stops_is_let_go(talk: Talk, sent: list[bytes], said: bytes) -> None:
    async with asyncio.timeout(PATIENCE):
        answer = await talk(*sent, pause=0.05)
    assert answer[: len(said) or 100] == said


async def test_a_body_may_take_its_time_as_long_as_it_comes(talk: Talk) -> None:
    head = b"POST / HTTP/1.1\r\n" + HOST + b"Connection: close\r\nContent-Length: 8\r\n\r\n"
    assert b"8 of 3" in await talk(head, *[b"x"] * 8, pause=0.1)


async def test_an_answer_may_take_its_time(talk: Talk) -> None:
    answer = await talk(b"GET /slow HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    assert answer.count(b"piece.") == 6
    answer = await talk(b"GET /slow HTTP/1.1\r\n" + HOST + b"\r\nGET / HT")
    assert answer.count(b"piece.") == 6, "half of the next request does not cut it off"


async def test_requests_one_after_another(talk: Talk) -> None:
    request = b"GET / HTTP/1.1\r\n" + HOST
    whole = await talk(*[request + b"\r\n"] * 8, request + b"Connection: close\r\n\r\n", pause=0.06)
    assert whole.count(b"HTTP/1.1 200") == 9
    whole = await talk((request + b"\r\n") * 8 + request + b"Connection: close\r\n\r\n")
    assert whole.count(b"HTTP/1.1 200") == 9


async def test_a_socket_stays_open(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n")
    writer.write(b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    async with asyncio.timeout(PATIENCE):
        assert (await reader.readline()).startswith(b"HTTP/1.1 101 ")
        await reader.readuntil(b"still here")
    writer.close()
