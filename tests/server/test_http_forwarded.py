"""What Open WebUI forwards for a user, as 0.8.12 and 0.12.4 write it, gets no further than a chat."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from agent_mode.server.forwarded import is_forwarded
from tests.server.servers import KEY, OLD, OURS, STOCK, Server, params

KEYED = ("Authorization", f"Bearer {KEY}")
JSON = ("Content-Type", "application/json")
REST = [
    ("Accept", "*/*"),
    ("Accept-Encoding", "gzip, deflate, br"),
    ("User-Agent", "Python/3.11 aiohttp/3.14.5"),
]
OWN, FORWARDED = [KEYED, *REST], [JSON, KEYED, *REST]
GUARDED = [
    ("GET", "/pipelines", None),
    ("GET", "/v1/pipelines", None),
    ("POST", "/pipelines/add", {"url": "http://127.0.0.1:9/evil.py"}),
    ("POST", "/v1/pipelines/add", {"url": "http://127.0.0.1:9/evil.py"}),
    ("POST", "/pipelines/reload", {}),
    ("DELETE", "/pipelines/delete", {"id": "personas"}),
    ("GET", "/personas/valves", None),
    ("POST", "/personas/valves/update", {"llm_base_url": "http://evil.example/v1"}),
    ("GET", "/api/v1/runs/", None),
    ("POST", "/api/v1/agents/", {"id": "evil"}),
    ("GET", "/personas", None),
    ("GET", "/metrics", None),
    ("GET", "/openapi.json", None),
]


def send(
    server: Server, method: str, path: str, headers: list[tuple[str, str]], body: Any
) -> tuple[int, Any]:
    """Sends the headers in this very order."""
    raw = json.dumps(body).encode() if body is not None else b""
    if body is not None and JSON not in headers:
        headers = [*headers, JSON]  # where aiohttp puts what it adds of its own accord
    lines = [f"{method} {path} HTTP/1.1", f"Host: {server.host}:{server.port}"]
    lines += [f"{name}: {value}" for name, value in [*headers, ("Content-Length", str(len(raw)))]]
    with server.connect() as connection:
        connection.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode() + raw)
        reply = b""
        while part := connection.recv(65536):
            reply += part
    head, _, answer = reply.partition(b"\r\n\r\n")
    try:
        return int(head.split()[1]), json.loads(answer)
    except ValueError:
        return int(head.split()[1]), answer


@pytest.mark.parametrize("server", params(OURS, STOCK, OLD), indirect=True)
@pytest.mark.parametrize(("method", "path", "body"), GUARDED, ids=lambda value: str(value)[:24])
def test_what_open_webui_forwards_is_refused(server: Server, method: str, path: str, body: Any) -> None:
    status, answer = send(server, method, path, FORWARDED, body)

    report = answer.get("error", answer)
    assert (status, report["code"]) == (403, "forwarded")
    assert "Session" in report["hint"]
    assert "evil" not in server.get("/personas/valves").text


@pytest.mark.parametrize("server", params(OURS, STOCK, OLD), indirect=True)
def test_what_open_webui_asks_of_its_own_accord_goes_through(server: Server) -> None:
    valves = {"llm_model": "stub"}
    assert send(server, "GET", "/pipelines", OWN, None)[0] == 200
    assert send(server, "GET", "/personas/valves", OWN, None)[0] == 200
    assert send(server, "GET", "/personas/valves/spec", OWN, None)[0] == 200
    assert send(server, "POST", "/personas/valves/update", OWN, valves)[0] == 200
    assert send(server, "POST", "/pipelines/add", OWN, {})[0] == 422, "upstream wants a url"
    assert send(server, "DELETE", "/pipelines/delete", OWN, {"id": "no such"})[1] != 403
    inlet = {"user": {"id": "ann"}, "body": {"model": "personas.coder", "messages": []}}
    assert send(server, "POST", "/personas.coder/filter/inlet", OWN, inlet)[0] == 200
    # These two are built like what is forwarded.
    assert send(server, "GET", "/models", FORWARDED, None)[0] == 200
    body = {"model": "personas.coder", "messages": [{"role": "user", "content": "Hi"}], "stream": False}
    assert send(server, "POST", "/chat/completions", FORWARDED, body)[0] == 200


@pytest.mark.parametrize("server", params(OURS, OLD), indirect=True)
def test_setup_sees_by_which_ways_the_key_comes(server: Server) -> None:
    for path in ("/reached", "/v1/reached"):
        assert send(server, "GET", path, FORWARDED, None) == (200, {"reached": "agent_mode"})
        assert (
            send(server, "GET", path, [JSON, ("Authorization", "Bearer sk-of-a-user"), *REST], None)[0] == 401
        )


@pytest.mark.parametrize(
    ("method", "headers", "forwarded"),
    [
        ("GET", {"user-agent": "Python/3.11 aiohttp/3.9"}, False),
        ("GET", {"user-agent": "Python/3.11 aiohttp/3.9", "content-type": "application/json"}, True),
        ("GET", {"user-agent": "curl/8", "content-type": "application/json", "authorization": "x"}, False),
        ("POST", {"authorization": "x", "user-agent": "aiohttp/3", "content-type": "a/b"}, False),
        ("POST", {"authorization": "x", "user-agent": "aiohttp/3", "content-type": "a", "cookie": "c"}, True),
        ("POST", {"content-type": "a/b", "authorization": "x", "user-agent": "Python/3.12 aiohttp/3"}, True),
        ("POST", {"Content-Type": "a/b", "Authorization": "x", "User-Agent": "Python/3.12 aiohttp/3"}, True),
        ("POST", {"content-type": "a/b", "authorization": "x", "user-agent": "python-requests/2"}, False),
        ("POST", {"authorization": "x", "X-OpenWebUI-User-Id": "eve"}, True),
        ("GET", {"x-agent-mode-chat-id": "c"}, True),
        ("GET", {"x-agent-mode-author": "ci"}, False),
        ("POST", {}, False),
    ],
)
def test_the_marks(method: str, headers: Mapping[str, str], forwarded: bool) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert is_forwarded(method, raw) is forwarded
