"""The text of OpenAI messages, whose content is a string, a list of parts, or null."""

from __future__ import annotations

from typing import Any

from agent_mode.chat.attached import split_files


def message_text(message: dict[str, Any]) -> str:
    """The text of a message, whose content is a string, a list of parts, or null."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(
            part["text"]
            for part in content
            if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
        )
    return ""


def last_text(messages: list[dict[str, Any]]) -> str:
    """What the user wrote last, without the files that Open WebUI names in front of it."""
    last = next((message for message in reversed(messages) if message.get("role") == "user"), None)
    return split_files(message_text(last))[1] if last else ""


def with_text(message: dict[str, Any], text: str) -> dict[str, Any]:
    """A copy of the message that says `text`; images and other parts stay where they are."""
    content = message.get("content")
    if not isinstance(content, list):
        return {**message, "content": text}
    parts: list[Any] = [
        part for part in content if not (isinstance(part, dict) and part.get("type") == "text")
    ]
    return {**message, "content": [{"type": "text", "text": text}, *parts] if text else parts}


def has_attachment(message: dict[str, Any]) -> bool:
    """Whether the message holds an image or another part that is not text."""
    content = message.get("content")
    return isinstance(content, list) and any(
        isinstance(part, dict) and part.get("type") != "text" for part in content
    )


def comes_with_attachment(messages: list[dict[str, Any]]) -> bool:
    """Whether the last user message carries more than text."""
    last = next((m for m in reversed(messages) if isinstance(m, dict) and m.get("role") == "user"), None)
    return last is not None and has_attachment(last)
