"""The marks around what we write into a prompt, so that it can be found and replaced at the next switch."""

from __future__ import annotations

import re
from typing import Any, Literal

Message = dict[str, Any]

Trust = Literal["all", "start", "none"]
"""Which blocks in a message are believed: all, those that it begins with, or none."""

_MARK = "<agent_mode"
_BLOCK = re.compile(
    r'<agent_mode(?:_pivot)?(?: agent="[^"<>]*")?>\n.*?\n</agent_mode(?:_pivot)?>\n*', re.DOTALL
)
_BASE = re.compile(r"<base_instructions>\n(.*?)\n</base_instructions>", re.DOTALL)
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
    first_user = next((i for i, m in enumerate(messages) if m.get("role") == "user"), None)
    for index, message in enumerate(messages):
        content = message.get("content")
        trust: Trust = "all" if message.get("role") in _SYSTEM_ROLES else "none"
        if index == first_user:
            trust = "start"
        if isinstance(content, str):
            if _MARK in content:
                rest = _cut(content, base, trust)
                if not rest and message.get("role") != "assistant":
                    continue
                message = {**message, "content": rest}  # noqa: PLW2901
        elif isinstance(content, list) and any(_MARK in _text(part) for part in content):
            parts = [_cut_part(part, base, trust) for part in content]
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


def _cut(text: str, base: list[str], trust: Trust) -> str:
    believed = 0 if trust == "start" else -1
    for block in _BLOCK.finditer(text):
        if trust == "all" or block.start() == believed:
            base.extend(_BASE.findall(block[0]))
            believed = block.end()
    return _BLOCK.sub("", text).rstrip()


def _cut_part(part: Any, base: list[str], trust: Trust) -> Any:
    text = _text(part)
    if _MARK not in text:
        return part
    rest = _cut(text, base, trust)
    return {**part, "text": rest} if rest else None
