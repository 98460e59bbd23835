"""Puts a streamed answer together: the message that its chunks make."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Assembly:
    """The answer so far.

    Attributes:
        text: what was said.
        reasoning: what was thought.
        calls: the tool calls by index, as `{"id", "name", "arguments"}` (arguments: JSON text so far).
        usage: the provider's totals, once it sent them.
        finish_reason: why the answer ended.
    """

    text: str = ""
    reasoning: str = ""
    calls: dict[int, dict[str, str]] = field(default_factory=dict)
    usage: dict[str, Any] | None = None
    finish_reason: str | None = None

    def add(self, chunk: dict[str, Any]) -> tuple[str, str]:
        """Takes one chunk in; returns the text and the reasoning that are new in it."""
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self.usage = usage
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return "", ""
        if isinstance(choice.get("finish_reason"), str):
            self.finish_reason = choice["finish_reason"]
        delta = choice.get("delta") or choice.get("message")
        if not isinstance(delta, dict):
            return "", ""
        text = delta.get("content")
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        text = text if isinstance(text, str) else ""
        thought = thought if isinstance(thought, str) else ""
        self.text += text
        self.reasoning += thought
        if delta.get("tool_calls"):
            self._add_calls(delta["tool_calls"])
        return text, thought

    def _add_calls(self, deltas: Any) -> None:
        for position, delta in enumerate(deltas if isinstance(deltas, list) else ()):
            if not isinstance(delta, dict):
                continue
            index = delta.get("index")
            index = index if isinstance(index, int) else position
            call = self.calls.setdefault(index, {"id": "", "name": "", "arguments": ""})
            function = delta.get("function")
            function = function if isinstance(function, dict) else {}
            call["id"] = call["id"] or str(delta.get("id") or "")
            call["name"] += str(function.get("name") or "")
            arguments = function.get("arguments")
            # Some providers send the arguments as an object, whole.
            call["arguments"] += (
                json.dumps(arguments) if isinstance(arguments, dict) else str(arguments or "")
            )

    def message(self) -> dict[str, Any]:
        """The assistant message that the chunks make."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.calls:
            message["tool_calls"] = [
                {
                    "id": call["id"] or f"call_{index}",
                    "type": "function",
                    "function": {"name": call["name"], "arguments": call["arguments"] or "{}"},
                }
                for index, call in sorted(self.calls.items())
            ]
        return message


def chunks_of(block: bytes) -> Iterator[dict[str, Any]]:
    """The chunks in a block of vetted `data:` lines."""
    for line in block.split(b"\n\n"):
        if line.startswith(b"data:"):
            chunk = json.loads(line[5:])
            if isinstance(chunk, dict):
                yield chunk
