"""How each event looks on the wire, and nothing else knows it.

A stream of chat completion chunks as OpenAI defines it; beside them Open WebUI's own lines
`{"event": {"type", "data"}}` for people, and `{"error": {...}}`, which it shows in a red box and keeps.
"""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from agent_mode.agents.engine import (
    Chunks,
    Completion,
    Embed,
    Event,
    Failure,
    Image,
    Reasoning,
    Source,
    Status,
    Text,
    ToolCall,
    ToolCalls,
    ToolCard,
    Usage,
)
from agent_mode.chat import cards
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
        self._finished = False

    def encode(self, event: Event) -> bytes:
        """The lines of one event; empty when the caller does not show it."""
        match event:
            case Chunks(data):
                return data
            case Text(content):
                return self._chunk({"role": "assistant", "content": content})
            case Reasoning(content):
                return self._chunk({"role": "assistant", "reasoning_content": content})
            case ToolCalls(calls):
                self._finished = True
                return self._chunk({"role": "assistant", "tool_calls": tool_calls(calls)}) + self._chunk(
                    {}, "tool_calls"
                )
            case Usage(totals):
                return _line({**self._base, "choices": [], "usage": totals})
            case Failure(error):
                return _line(error_body(error))
            case Completion(data):
                return _line(data)
            case _:
                return self._shown(event) if self._interactive else self._plain(event)

    def _shown(self, event: Event) -> bytes:
        """What Open WebUI shows besides the text."""
        match event:
            case Status(description, done, error):
                data = {"description": description, "done": done, "hidden": False}
                return _event("status", {**data, "error": True} if error else data)
            case Embed(html):
                return _event("embeds", {"embeds": [html]})
            case Image(url):
                return _event("files", {"files": [{"type": "image", "url": url}]})
            case Source(name, url, text):
                source = {"name": name, "url": url} if url else {"name": name}
                metadata = {"source": url or name, "name": name}
                return _event("source", {"source": source, "document": [text], "metadata": [metadata]})
            case ToolCard():
                return self._chunk({"role": "assistant", "content": cards.card(event)})
            case _:
                return b""

    def _plain(self, event: Event) -> bytes:
        """What a program gets of it: a picture as Markdown, nothing of the rest."""
        if isinstance(event, Image):
            return self._chunk({"role": "assistant", "content": picture(event)})
        return b""

    def heartbeat(self) -> bytes:
        """A chunk that says nothing: keeps proxies from cutting a silent stream."""
        return self._chunk({})

    def finish(self, facts: Facts) -> bytes:
        """The end of the stream; the finish chunk only if the provider sent none."""
        return b"" if facts.finish_reason or self._finished else self._chunk({}, "stop")

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _line({**self._base, "choices": [choice]})


def _event(kind: str, data: dict[str, Any]) -> bytes:
    return _line({"event": {"type": kind, "data": data}})


def _line(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def error_body(error: AgentModeError, output: str = "") -> dict[str, Any]:
    """An error as OpenAI's clients and Open WebUI read it: `{"error": {"message", "type", "code", …}}`.

    Its message holds the cure too: they show nothing else.

    Args:
        error: what went wrong.
        output: what was said until then, where nobody has it yet. Inside of `error`: OpenAI's client library
            hands on nothing else.
    """
    told = {**error.report(), "message": str(error), "type": type(error).__name__}
    return {"error": told | ({"output": output} if output else {})}


def tool_calls(calls: tuple[ToolCall, ...]) -> list[dict[str, Any]]:
    """Tool calls as a message or a delta holds them."""
    return [
        {
            "index": index,
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for index, call in enumerate(calls)
    ]


def picture(image: Image) -> str:
    """A picture as Markdown."""
    return f"\n\n![{image.description}]({image.url})\n\n"


def completion(
    model: str, text: str, calls: tuple[ToolCall, ...] = (), usage: dict[str, Any] | None = None
) -> dict[str, Any]:
    """One whole chat completion that says `text`, or that asks for tools."""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = tool_calls(calls)
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": None,
                "finish_reason": "tool_calls" if calls else "stop",
            }
        ],
        "usage": usage or {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }
