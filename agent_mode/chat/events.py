"""How each event looks on the wire, and nothing else knows it.

A stream of chat completion chunks as OpenAI defines it; beside them Open WebUI's own lines
`{"event": {"type", "data"}}` for people, and `{"error": {...}}`, which it shows in a red box and keeps.
"""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from agent_mode.agents.engine import Chunks, Completion, Embed, Event, Failure, Reasoning, Status, Text
from agent_mode.errors import AgentModeError
from agent_mode.llm.sse import Facts

DONE = b"data: [DONE]\n\n"


class StreamEncoder:
    """Encodes one run's events as `data:` lines.

    Args:
        model: the model id to name in our own chunks.
        interactive: whether the caller shows events; a program gets chunks only.
    """

    def __init__(self, model: str, *, interactive: bool) -> None:
        self._base = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }
        self._interactive = interactive

    def encode(self, event: Event) -> bytes:
        """The lines of one event; empty when the caller does not show it."""
        match event:
            case Chunks(data):
                return data
            case Text(content):
                return self._chunk({"role": "assistant", "content": content})
            case Reasoning(content):
                return self._chunk({"role": "assistant", "reasoning_content": content})
            case Status(description, done):
                if not self._interactive:
                    return b""
                return _event("status", {"description": description, "done": done, "hidden": False})
            case Embed(html):
                return _event("embeds", {"embeds": [html]}) if self._interactive else b""
            case Failure(error):
                return _line(error_body(error))
            case Completion(data):
                return _line(data)

    def heartbeat(self) -> bytes:
        """A chunk that says nothing: keeps proxies from cutting a silent stream."""
        return self._chunk({})

    def finish(self, facts: Facts) -> bytes:
        """The end of the stream; the finish chunk only if the provider sent none."""
        return b"" if facts.finish_reason else self._chunk({}, "stop")

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _line({**self._base, "choices": [choice]})


def _event(kind: str, data: dict[str, Any]) -> bytes:
    return _line({"event": {"type": kind, "data": data}})


def _line(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def error_body(error: AgentModeError) -> dict[str, Any]:
    """An error as OpenAI's clients and Open WebUI read it: `{"error": {"message", "type", "code", …}}`."""
    return {"error": {**error.report(), "type": type(error).__name__}}


def completion(model: str, text: str) -> dict[str, Any]:
    """One whole chat completion that says `text`."""
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }
