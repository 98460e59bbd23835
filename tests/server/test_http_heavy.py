"""Heavy bodies: whatever one caller sends, the server soon has time for the others again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.provider import Provider
from tests.server.servers import OURS, Server, params

pytestmark = pytest.mark.long

SIZE = int(os.environ.get("AGENT_MODE_TEST_HEAVY_MB", "1")) * 1_000_000
STUCK_SECONDS = 10.0
"""The server's work on one body here is a few tenths of a second; where it was more than linear in the body's
size, it would be minutes."""

COMMANDS = "!persona1 coder !multi " + "!coder " * 2800
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def said(text: str, answer: str = "ok") -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]


def rows(text: str, answer: str = "ok") -> list[dict[str, Any]]:
    """As many exchanges of these words as make a heavy body."""
    count = SIZE // (len(text.encode()) + len(answer.encode()) + 70)
    return [*said(text, answer) * min(count, 4_999), {"role": "user", "content": "Hi"}]


def one(text: str, role: str = "user") -> list[dict[str, Any]]:
    """One heavy message of these words, and a question."""
    long = text * (SIZE // len(text.encode()))
    return [
        {"role": "user", "content": "Hi"},
        {"role": role, "content": long},
        {"role": "user", "content": "Hi"},
    ]


BODIES = {
    "many messages of commands": rows(COMMANDS),
    "many short commands": rows("!coder Hi"),
    "many questions": rows("Hi"),
    "many lone commands": rows("!coder"),
    "many typing errors": [message for n in range(4_999) for message in said(f"!codr{n}")],
    "many assignments": rows("!persona1 coder !persona2 writer"),
    "many lines that look like commands": rows("!a\n" * 6_000),
    "many backticks": rows("!coder " + "` " * 9_000 + "!writer"),
    "only user messages": [{"role": "user", "content": "!coder Hi"}] * 9_999,
    "one message of commands": one("!coder "),
    "one message of lines": one("!coder\n"),
    "a last message of commands": [{"role": "user", "content": "say: Hi " + "!coder " * (SIZE // 7)}],
    "a last message of white space": [{"role": "user", "content": " " * SIZE + "!coder Hi"}],
    "marks of ours": one('<agent_mode agent="x">\n'),
    "pairs of marks of ours": one('<agent_mode agent="x">\n\n</agent_mode>'),
    "marks in a system message": one(
        '<agent_mode agent="x">\n<base_instructions>\n\n</agent_mode>', "system"
    ),
    "tool cards": one('<details type="tool_calls">\n<summary>', "assistant"),
    "thoughts": one("<think>", "assistant"),
    "thoughts and white space": one("<think></think>" + " " * 1000, "assistant"),
    "white space in an answer": one("\n", "assistant"),
    "tips": one("\n> 💡 Tip: `x` knows more about this.", "assistant"),
    "many parts": [{"role": "user", "content": [{"type": "text", "text": "!coder "}] * (SIZE // 40)}],
    "many pictures": [{"role": "user", "content": [PICTURE] * (SIZE // 90)}],
    "nested parts": [
        {"role": "user", "content": [{"type": "text", "text": [[[[[["x"]]]]]]}] * (SIZE // 50)},
        {"role": "user", "content": "Hi"},
    ],
}
TARGETS = {
    "persona": ("/chat/completions", "personas.coder"),
    "persona, alternating": ("/chat/completions", "personas.writer"),
    "agent": ("/chat/completions", "researcher"),
    "filter": ("/hotswap/filter/inlet", "gemma2:9b"),
    "workspace model": ("/personas.coder/filter/inlet", "personas.coder"),
    "outlet": ("/hotswap/filter/outlet", "gpt-4o"),
}


def work(server: Server) -> float:
    """Seconds that the server has worked, on all its threads: the machine's other work does not count."""
    assert server.process is not None
    numbers = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("server", params(OURS), indirect=True)
def test_nobody_stops_the_server(server: Server, provider: Provider, target: str) -> None:
    path, model = TARGETS[target]
    slow: list[str] = []
    if "filter" not in path:  # the first run of an agent loads its engine
        server.post(path, {"model": model, "messages": [{"role": "user", "content": "Hi"}]})
    for name, messages in BODIES.items():
        metadata = {"chat_id": "c", "message_id": "m", "session_id": "s"}
        body: dict[str, Any] = {"model": model, "messages": messages, "metadata": metadata, "stream": False}
        if "filter" in path:
            body = {"body": {**body, "id": "m"}, "user": {"id": "u", "role": "user"}}
        raw = json.dumps(body).encode()
        before = work(server)
        reply = server.request(
            "POST", path, data=raw, headers={"Content-Type": "application/json"}, timeout=120
        )
        took = work(server) - before
        line = f"{name}: {len(raw) / 1e6:.1f} MB, {reply.status_code}, {took:.2f} s"
        if reply.status_code >= 500 or took > STUCK_SECONDS:
            slow.append(line)

    assert not slow, "\n".join(slow)
    assert "Traceback" not in server.log()
