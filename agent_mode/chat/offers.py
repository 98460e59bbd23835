"""Lines that wait for an answer of another model to be complete: found at its inlet, added at its outlet."""

from __future__ import annotations

from typing import Any

WAITING = 2_000
"""So many lines wait at most; an answer that was stopped never comes for its own."""


class Offers:
    """The lines, in this process alone: one that is lost is no failure of the chat."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], str] = {}

    def put(self, owner: str, message_id: str, line: str) -> None:
        """Keeps the line for this owner's answer."""
        self._lines[owner, message_id] = line
        while len(self._lines) > WAITING:
            del self._lines[next(iter(self._lines))]

    def take(self, owner: str, message_id: str) -> str | None:
        """The line for the answer, once."""
        return self._lines.pop((owner, message_id), None)


def with_line(body: dict[str, Any], line: str) -> dict[str, Any]:
    """What Open WebUI calls an outlet with, the line below the finished answer.

    Open WebUI shows, and sends to models, an answer's `output`, and `content` only where there is none; it
    stores both, so both get the line. What is no such answer stays as it is. The given body is not changed.
    """
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, dict) or last.get("role") != "assistant" or last.get("id") != body.get("id"):
        return body
    content, output = last.get("content"), last.get("output")
    if last.get("finish_reason") != "stop" or not isinstance(content, str) or not content.strip():
        return body
    said = {**last, "content": content + line}
    if output:
        longer = _longer(output, line)
        if longer is None:
            return body
        said["output"] = longer
    return {**body, "messages": [*messages[:-1], said]} if isinstance(messages, list) else body


def _longer(output: Any, line: str) -> list[Any] | None:
    """The items of an answer, the line behind its last words; None if it does not end with words."""
    item = output[-1] if isinstance(output, list) else None
    parts = item.get("content") if isinstance(item, dict) and item.get("type") == "message" else None
    part = parts[-1] if isinstance(parts, list) and parts else None
    if not isinstance(item, dict) or not isinstance(part, dict) or not isinstance(part.get("text"), str):
        return None
    parts = [*(parts or [])[:-1], {**part, "text": part["text"] + line}]
    return [*output[:-1], {**item, "content": parts}]
