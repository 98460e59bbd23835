"""Bodies that nobody would send on purpose: the API answers each with a reason, and the server goes on."""

from __future__ import annotations

import json
import random
from typing import Any

from agent_mode.admin.api import examples
from tests.server.openwebui import OpenWebUI
from tests.server.rest import SHAPE, Rest, agent
from tests.server.test_http_hostile import changed, spoiled

COUNT = 400
TARGETS: dict[tuple[str, str], Any] = {
    ("POST", "agents/validate"): examples.AGENT,
    ("POST", "agents/"): examples.LLAMAINDEX,
    ("PUT", "agents/target"): {**agent("target"), "version": 1},
    ("PATCH", "agents/target"): {"name": "x", "tags": ["a"]},
    ("PUT", "agents/target/valves"): examples.VALVES,
    ("POST", "agents/target/rollback"): {"version": 1},
    ("POST", "agents/target/run"): {"input": "x", "tools": [], "user_id": "u"},
    ("POST", "personas/"): examples.PERSONA,
    ("PUT", "personas/coder"): {"version": 0, "name": "x", "prompt": "y"},
    ("PUT", "users/u/credential"): {"api_key": "sk-0123456789"},
    ("POST", "strategies/templates/own/validate"): {"text": examples.TEMPLATE},
    ("POST", "strategies/files/acme/validate"): {"text": examples.STRATEGIES},
}


def judge(status: int, text: str) -> str | None:
    """What is wrong with an answer; None when it is as it should be."""
    if status in (200, 201, 204):
        return None
    if not 400 <= status < 500:
        return f"{status}: {text[:300]}"
    told = json.loads(text)
    return (
        None if set(told) >= SHAPE and told["message"] and len(text) < 100_000 else f"{status}: {text[:300]}"
    )


def test_hostile_bodies(api: Rest) -> None:
    rng = random.Random(7)
    api.create("target")
    wrong: list[Any] = []
    for _ in range(COUNT):
        method, path = rng.choice(list(TARGETS))
        text = json.dumps(changed(rng, TARGETS[method, path]), ensure_ascii=rng.random() < 0.7)
        raw = spoiled(rng, text) if rng.random() < 0.25 else text.encode("utf-8", "surrogatepass")
        reply = api.server.request(method, f"/api/v1/{path}", data=raw)
        if reason := judge(reply.status_code, reply.text):
            wrong.append((method, path, raw[:300], reason))
    assert not wrong
    assert "Traceback" not in api.server.log()
    assert OpenWebUI(api.server).chat().ask("Hi", "personas.writer").good()
