"""The marks around what we write into a prompt, so that it can be found and replaced at the next switch."""

from __future__ import annotations

import re
from typing import Any

from agent_mode.prompts.spans import enclosed, without

Message = dict[str, Any]

_MARK = "<agent_mode"
_OPENING = re.compile(r'<agent_mode(?P<kind>_pivot)?(?: agent="[^"<>]{0,128}")?>\n')
_BASE = re.compile(r"<base_instructions>\n")
_SYSTEM_ROLES = ("system", "developer")


def wrap(key: str, text: str) -> str:
    """The persona block: exactly one of these is in a prompt."""
    return f'<agent_mode agent="{key}">\n{text}\n</agent_mode>'


def wrap_pivot(text: str) -> str:
    """The short line beside the last user message."""
    return f"<agent_mode_pivot>\n{text}\n</agent_mode_pivot>"


def wrap_base(text: str) -> str:
    """The chat's or workspace model's own instructions, inside a persona block."""
    return f"<base_instructions>\n{text}\n</base_instructions>"


def speaks_already(messages: list[Message]) -> bool:
    """Whether a request comes from us: a persona stands in its system message."""
    return any(
        message.get("role") in _SYSTEM_ROLES
        and isinstance(content := message.get("content"), str)
        and content.startswith('<agent_mode agent="')
        for message in messages[:3]
    )


def prepend(message: Message, text: str) -> Message:
    """A copy of the message with the text in front; images and other parts stay."""
    content = message.get("content")
    if isinstance(content, list):
        return {**message, "content": [{"type": "text", "text": text}, *content]}
    return {**message, "content": f"{text}\n\n{content}" if content else text}


def remove_all(messages: list[Message]) -> tuple[list[Message], list[str]]:
    """Takes every block of ours out; messages that held nothing else go.

    Only where we ourselves write is a block believed: what a tool, a web page or a model quotes must not
    become an instruction.

    Returns:
        the remaining messages, and the base instructions that the blocks held.
    """
    kept: list[Message] = []
    base: list[str] = []
    for message in messages:
        content = message.get("content")
        ours = message.get("role") in _SYSTEM_ROLES
        if isinstance(content, str):
            if _MARK in content:
                rest = _cut(content, base if ours else [])
                if not rest and message.get("role") != "assistant":
                    continue
                message = {**message, "content": rest}  # noqa: PLW2901
        elif isinstance(content, list) and any(_MARK in _text(part) for part in content):
            parts = [_cut_part(part, base if ours else []) for part in content]
            parts = [part for part in parts if part is not None]
            if not parts:
                continue
            message = {**message, "content": parts}  # noqa: PLW2901
        kept.append(message)
    return kept, base


def split_system(messages: list[Message]) -> tuple[list[str], list[Message]]:
    """The texts of all system and developer messages, and the other messages."""
    texts: list[str] = []
    rest: list[Message] = []
    for message in messages:
        if message.get("role") in _SYSTEM_ROLES:
            content = message.get("content")
            text = content if isinstance(content, str) else "\n".join(_text(p) for p in content or ())
            if text.strip():
                texts.append(text.strip())
        else:
            rest.append(message)
    return texts, rest


def _text(part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) else None
    return text if isinstance(text, str) else ""


def _closing(opening: re.Match[str]) -> str:
    return f"\n</agent_mode{opening['kind'] or ''}>"


def _cut(text: str, base: list[str]) -> str:
    """The text without our blocks; the base instructions in them are added to `base`."""
    found: list[tuple[int, int]] = []
    for opening, begin, end in enclosed(
        text, _OPENING, lambda match: f"\n</agent_mode{match['kind'] or ''}>"
    ):
        inner = text[opening.end() : begin + 1]
        for start, close, _ in enclosed(inner, _BASE, lambda _: "\n</base_instructions>"):
            base.append(inner[start.end() : close])
        while text.startswith("\n", end):
            end += 1  # noqa: PLW2901  the blank line that we put there; indentation is the user's
        found.append((opening.start(), end))
    return without(text, found).rstrip()


def _cut_part(part: Any, base: list[str]) -> Any:
    text = _text(part)
    if _MARK not in text:
        return part
    rest = _cut(text, base)
    return {**part, "text": rest} if rest else None
