"""What a run tells, for programs: each event as one JSON object, and all of them together at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agent_mode.agents.engine import (
    Chunks,
    Completion,
    Event,
    Image,
    Reasoning,
    Source,
    Status,
    Text,
    ToolCalls,
    ToolCard,
    Usage,
)
from agent_mode.chat.events import tool_calls
from agent_mode.llm.assembly import Assembly, chunks_of


class Told:
    """Collects a run's events.

    Attributes:
        run_id: of the run, once it is known.
    """

    def __init__(self) -> None:
        self.run_id = ""
        self._words: list[str] = []
        self._usage: dict[str, Any] = {}
        self._sources: list[dict[str, Any]] = []
        self._images: list[dict[str, Any]] = []
        self._calls: list[dict[str, Any]] = []

    def take(self, event: Event) -> Iterator[dict[str, Any]]:
        """What the event says, as it goes into a stream."""
        match event:
            case Text(content):
                yield self._text(content)
            case Chunks(data):
                yield from self._chunks(data)
            case Completion(data):
                text, _ = Assembly().add(data)
                yield self._text(text)
            case Reasoning(content):
                yield {"type": "reasoning", "text": content}
            case Status(description, done, error):
                yield {"type": "status", "text": description, "done": done, "error": error}
            case Source(name, url, text):
                source = {"name": name, "url": url, "text": text}
                self._sources.append(source)
                yield {"type": "source", **source}
            case Image(url, description):
                image = {"url": url, "description": description}
                self._images.append(image)
                yield {"type": "image", **image}
            case ToolCard(_, name, arguments, result):
                yield {"type": "tool", "name": name, "arguments": arguments, "result": result}
            case ToolCalls(calls):
                self._calls = tool_calls(calls)
                yield {"type": "tool_calls", "tool_calls": self._calls}
            case Usage(totals):
                self._usage = totals
                yield {"type": "usage", "usage": totals}
            case _:
                pass

    def _text(self, text: str) -> dict[str, Any]:
        self._words.append(text)
        return {"type": "text", "text": text}

    def _chunks(self, data: bytes) -> Iterator[dict[str, Any]]:
        whole = Assembly()
        for chunk in chunks_of(data):
            text, thought = whole.add(chunk)
            if thought:
                yield {"type": "reasoning", "text": thought}
            if text:
                yield self._text(text)

    def result(self) -> dict[str, Any]:
        """Everything together."""
        return {
            "output": "".join(self._words),
            "run_id": self.run_id,
            "usage": self._usage,
            "sources": self._sources,
            "images": self._images,
            "tool_calls": self._calls,
        }
