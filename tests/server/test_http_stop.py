"""Stop means stop: a client that goes away ends the provider's request, whatever it was doing."""

from __future__ import annotations

import socket
import time

import pytest

from tests.provider import Provider, Recorded, Reply
from tests.server.openwebui import OpenWebUI
from tests.server.servers import OLD, OURS, PIPE, STOCK, Server, eventually, params

CODER = "personas.coder"
TALK = Reply([f"tok{number} " for number in range(200)], first_after=0.3, every=0.05)
"""Ten seconds of it: longer than a lease lives."""
WAYS = {
    "talks": TALK,
    "thinks": Reply("late", first_after=10),
    "stalls": Reply(like="stub-stall"),
    "hangs": Reply(like="stub-hang"),
}


def body(webui: OpenWebUI, *, stream: bool = True, text: str = "Hi") -> dict[str, object]:
    """A chat request as it is after the inlet."""
    metadata = {"chat_id": "c", "message_id": f"m-{time.monotonic()}", "session_id": "s", "user_message": {}}
    asked = {"model": CODER, "stream": stream, "messages": [{"role": "user", "content": text}]}
    made = webui.inlet(CODER, {**asked, "metadata": metadata})
    made.pop("metadata")
    return made


def begin(server: Server, provider: Provider, request: dict[str, object]) -> tuple[socket.socket, Recorded]:
    """Sends the request; returns when the provider has it."""
    already = len(provider.chats)
    connection = server.begin(request)
    assert eventually(lambda: len(provider.chats) > already)
    return connection, provider.last()


def test_leaving_ends_the_run(server: Server, webui: OpenWebUI, provider: Provider) -> None:
    before = server.probe()
    provider.script(*WAYS.values())
    begun = {way: begin(server, provider, body(webui)) for way in WAYS}
    received = b""
    while b"tok1" not in received:
        received += begun["talks"][0].recv(4096)
    assert provider.active == len(WAYS)

    for connection, _ in begun.values():
        connection.close()
    assert webui.chat().ask("Still there?", CODER).good().text == "Hello from stub: Still there?"

    assert eventually(lambda: provider.active == 0)
    for way, (_, recorded) in begun.items():
        assert recorded.closed_at is not None, way
        assert not recorded.finished, way
    assert eventually(lambda: server.probe()["tasks"] == before["tasks"])
    assert server.probe()["runs"] == 0
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("server", params(OURS, STOCK, OLD), indirect=True)
def test_leaving_without_streaming(server: Server, webui: OpenWebUI, provider: Provider) -> None:
    server.set_valves(llm_model="stub-hang")
    connection, recorded = begin(server, provider, body(webui, stream=False))
    connection.close()

    assert eventually(lambda: recorded.closed_at is not None)
    assert not recorded.finished
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("server", params(OURS, PIPE), indirect=True)
def test_a_slow_reader_is_not_taken_for_gone(server: Server, webui: OpenWebUI, provider: Provider) -> None:
    """More than all socket buffers hold, read after a pause that is shorter than a lease."""
    provider.script(Reply(["x" * 20_000] * 600))
    connection = server.begin(body(webui))
    time.sleep(1.5)
    received = bytearray()
    while part := connection.recv(2**20):
        received += part
        if b"[DONE]" in received[-40:]:
            break
    connection.close()

    assert received.count(b"x" * 20_000) == 600
    assert b'"error"' not in received
    assert provider.last().finished


def test_many_leave_at_once(server: Server, webui: OpenWebUI, provider: Provider) -> None:
    server.set_valves(llm_model="stub-stall")
    connections = [server.begin(body(webui)) for _ in range(20)]
    assert eventually(lambda: provider.active == 20)

    for connection in connections:
        connection.close()

    assert eventually(lambda: provider.active == 0)
    assert eventually(lambda: server.probe()["runs"] == 0)
