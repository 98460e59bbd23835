"""A thousand hostile bodies: each gets an answer with a reason, and the server goes on."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
import requests

from tests.provider import Provider
from tests.server.openwebui import OpenWebUI
from tests.server.servers import OLD, OURS, STOCK, Server, params

CODER = "personas.coder"
COUNT = 1000
PATIENCE = 10.0
DEEP = "\x7fdeep\x7f"
"""Stands for something nested so deeply that no JSON library would write it."""

CHAT = {
    "model": CODER,
    "stream": True,
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "!writer Hi"}, {"type": "image_url"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "!coder Go on"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "user": {"id": "u", "name": "Bob", "email": "b@example.org", "role": "user"},
    "temperature": 0.5,
    "agent_mode": {"chat_id": "c", "message_id": "m", "signature": "0" * 64},
}
METADATA = {
    "chat_id": "c",
    "message_id": "m",
    "session_id": "s",
    "task": None,
    "user_message_id": "u",
    "user_message": {"id": "u", "parentId": None, "childrenIds": ["m"], "models": [CODER]},
    "model": {"info": {"base_model_id": CODER}},
}
INLET = {"body": {**CHAT, "metadata": METADATA}, "user": {"id": "u", "role": "user"}}
VALVES = {
    "llm_base_url": "http://127.0.0.1:9/v1",
    "llm_api_key": "k",
    "llm_model": "stub",
    "models": "coder",
    "keyword_prefix": "!",
    "history_policy": "full",
    "read_timeout": 5,
    "enable_debug": False,
}
TARGETS = {
    "/chat/completions": (CHAT, 5),
    "/v1/chat/completions": (CHAT, 1),
    f"/{CODER}/filter/inlet": (INLET, 3),
    f"/{CODER}/filter/outlet": (INLET, 1),
    "/hotswap/filter/inlet": (INLET, 1),
    "/personas/valves/update": (VALVES, 2),
}
WORDS = (
    "",
    "x",
    "user",
    "system",
    "!",
    "!writer",
    "!agent list",
    "{{x}}",
    "\x00",
    "\ud800",
    "\u202e",
    "👩\u200d👩\u200d👧",
    "None",
)
IDS = (
    "",
    "personas",
    "personas.",
    ".coder",
    "personas.nobody",
    "hotswap",
    "probe.x",
    "../x",
    "x" * 300,
    "\udfff",
)


def nasty(rng: random.Random) -> Any:
    """A value that does not belong there."""
    return rng.choice(
        [
            lambda: None,
            lambda: rng.choice([True, False]),
            lambda: rng.choice([0, -1, 2**63, 10**400, 0.1, float("nan"), float("inf"), -1e308]),
            lambda: rng.choice(WORDS),
            lambda: rng.choice(IDS),
            lambda: rng.choice(WORDS) * rng.choice([1, 100, 50_000]),
            list,
            dict,
            lambda: [nasty(rng) for _ in range(rng.randrange(4))],
            lambda: {rng.choice([*WORDS, "role", "content", "text", "type", "id"]): nasty(rng)},
            lambda: [[], {}, None, "x", 1] * rng.choice([1, 200]),
            lambda: DEEP,
        ]
    )()


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] + [place for key, item in inner for place in places(item, (*path, key))]


def changed(rng: random.Random, body: Any) -> Any:
    """The body with something wrong, or several things."""
    body = copy.deepcopy(body)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        path = rng.choice(places(body))
        if not path:
            if rng.random() < 0.1:
                return nasty(rng)
            continue
        owner = body
        for key in path[:-1]:
            owner = owner[key]
        action = rng.random()
        if action < 0.15:
            del owner[path[-1]]
        elif action < 0.25 and isinstance(owner, dict):
            owner[rng.choice(WORDS)] = nasty(rng)
        elif action < 0.3 and isinstance(owner, list):
            owner *= rng.choice([0, 2, 50])
        else:
            owner[path[-1]] = nasty(rng)
    return body


def deep(rng: random.Random) -> str:
    depth = rng.choice([100, 300, 900, 960, 980, 990, 995, 1000, 3000, 20_000, 100_000])
    opening, closing = rng.choice([("[", "]"), ('{"a":', "}"), ('[{"content":', "}]")])
    return opening * depth + rng.choice(["1", "null", '"x"']) + closing * depth


def doubled(text: str) -> str:
    """The same keys twice, the second time with another value."""
    return text.replace('{"', '{"model": [], "messages": 7, "role": 1, "', 1)


def spoiled(rng: random.Random, text: str) -> bytes:
    """The body as bytes; not always what JSON, or UTF-8, allows."""
    raw = text.encode("utf-8", "surrogatepass")
    at = rng.randrange(len(raw) + 1)
    ways: list[Callable[[], bytes]] = [
        lambda: raw[:at],
        lambda: raw[:at] + rng.choice([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\x00", b"\xf8\x88"]) + raw[at:],
        lambda: raw[:at] + rng.choice([b"}", b"]", b'"', b",", b"\\", b"NaN", b"-"]) + raw[at:],
        lambda: b"\xef\xbb\xbf" + raw,
        lambda: text.encode("utf-16", "surrogatepass"),
        lambda: raw + raw,
        lambda: doubled(text).encode("utf-8", "surrogatepass"),
        lambda: rng.choice([b"", b" ", b"null", b"[]", b"{}", b"7", b'"x"', b"NaN", b"{", b"\x00" * 100]),
        lambda: b"model=personas.coder&messages=x",
        lambda: rng.randbytes(rng.randrange(1, 3000)),
    ]
    return rng.choice(ways)()


def bodies(rng: random.Random) -> list[tuple[str, bytes]]:
    """(path, body) of each request."""
    made = []
    weights = [weight for _, weight in TARGETS.values()]
    for _ in range(COUNT):
        path = rng.choices(list(TARGETS), weights)[0]
        body = changed(rng, TARGETS[path][0])
        text = json.dumps(body, ensure_ascii=rng.random() < 0.7)
        while json.dumps(DEEP) in text:
            text = text.replace(json.dumps(DEEP), deep(rng), 1)
        raw = text.encode("utf-8", "surrogatepass")
        made.append((path, spoiled(rng, text) if rng.random() < 0.25 else raw))
    return made


def judge(reply: requests.Response) -> str | None:
    """What is wrong with an answer; None when it is as it should be."""
    text = reply.content.decode()
    if not (reply.status_code == 200 or 400 <= reply.status_code < 500):
        return f"{reply.status_code} {text[:300]}"
    if reply.headers["content-type"].startswith("text/event-stream"):
        return None if text.endswith("data: [DONE]\n\n") else f"a stream without an end: {text[-300:]}"
    try:
        answer = json.loads(text)
        if reply.status_code != 200:
            said = answer["error"]["message"] if "error" in answer else answer["detail"]
            return None if len(json.dumps(said)) > 10 else f"no reason: {text}"
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return f"{reply.status_code}, {error!r}: {text[:300]}"
    return None


@pytest.mark.parametrize("server", params(OURS), indirect=True)
def test_a_thousand_hostile_bodies(server: Server, provider: Provider) -> None:
    server.set_valves()
    rng = random.Random(20261121)
    statuses: dict[int, int] = {}
    wrong: list[str] = []
    for number, (path, raw) in enumerate(bodies(rng)):
        try:
            reply = server.request(
                "POST", path, data=raw, headers={"Content-Type": "application/json"}, timeout=PATIENCE
            )
            statuses[reply.status_code] = statuses.get(reply.status_code, 0) + 1
            complaint = judge(reply)
            if path == "/personas/valves/update":
                server.set_valves()
        except requests.RequestException as error:
            complaint = repr(error)
        if complaint:
            wrong.append(f"#{number} {path} {raw[:300]!r} ({len(raw)} bytes) → {complaint}")

    assert not wrong, f"{len(wrong)} of {COUNT}:\n" + "\n".join(wrong[:20])
    assert sum(statuses.values()) == COUNT
    assert statuses[200] > 100, "too few of them get past the first check"
    assert sum(count for status, count in statuses.items() if status != 200) > 300
    for complaint in ("Exception in ASGI", "never retrieved", "Unhandled"):
        assert complaint not in server.log()
    chat = OpenWebUI(server).chat()
    assert chat.ask("Hi", CODER).good().text == "Hello from stub: Hi"
    assert chat.ask("!writer Again").good().text.endswith("Again")
    assert server.probe()["runs"] == 0


HALF = rb'"\ud800"'
TRAPS = {
    "unknown model, half a character": ("/chat/completions", b'{"model": %b, "messages": []}' % HALF),
    "unknown model, no number": ("/chat/completions", b'{"model": "x", "messages": 1e999}'),
    "not our model, half a character": (
        "/chat/completions",
        b'{"model": "bystander", "messages": [{"role": %b}]}' % HALF,
    ),
    "raw surrogate": ("/chat/completions", b'"\xed\xbf\xbf"'),
    "UTF-16": ("/chat/completions", '{"model": "personas.coder", "messages": []}'.encode("utf-16")),
    "valves, NaN": ("/personas/valves/update", b"NaN"),
    "valves, half a character": ("/personas/valves/update", b'{"llm_model": %b}' % HALF),
    "valves, key": ("/personas/valves/update", b'{"llm_api_key": %b}' % HALF),
    "valves of others": ("/bystander/valves/update", b'{"greeting": %b}' % HALF),
    "valves, deep": ("/personas/valves/update", b'{"enable_debug": %b}' % (b"[" * 990 + b"]" * 990)),
    "inlet, deep": (
        f"/{CODER}/filter/inlet",
        b'{"body": {"messages": [], "x": %b}}' % (b"[" * 980 + b"]" * 980),
    ),
    "inlet, no body": (f"/{CODER}/filter/inlet", b'{"user": {}}'),
    "chat, deep": (
        "/chat/completions",
        b'{"model": "personas.coder", "messages": [{"role": "user", "content": "x"}], "x": %b}'
        % (b"[" * 985 + b"]" * 985),
    ),
}


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("server", params(OURS, STOCK, OLD), indirect=True)
def test_a_trap_is_refused_with_a_reason(server: Server, trap: str) -> None:
    path, raw = TRAPS[trap]

    reply = server.request("POST", path, data=raw, headers={"Content-Type": "application/json"})

    assert 400 <= reply.status_code < 500, reply.text
    assert judge(reply) is None
    assert "Traceback" not in server.log()
    assert server.get("/personas/valves").status_code == 200
