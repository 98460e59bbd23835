"""OpenAI messages as LlamaIndex's chat messages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
    ContentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ToolCallBlock,
)

from agent_mode.tools import results

_SYSTEM = ("system", "developer")
MAX_MESSAGES = 1_000
"""So many messages reach the agent, the newest, from a user's message on: memory forgets the rest anyway."""
MAX_PARTS = 1_000
"""So many parts of a message reach the agent: no model takes more, and each costs time."""


def split(messages: Sequence[dict[str, Any]]) -> tuple[str, list[ChatMessage]]:
    """The system prompt that the messages begin with, and the rest of them."""
    first = next(
        (i for i, message in enumerate(messages) if message.get("role") not in _SYSTEM), len(messages)
    )
    prompt = "\n\n".join(text for text in map(_text, messages[:first]) if text)
    return prompt, [chat_message(message) for message in _newest(messages[first:])]


def _newest(messages: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    earliest = max(0, len(messages) - MAX_MESSAGES)
    if earliest == 0:
        return messages
    asked = (i for i in range(earliest, len(messages)) if messages[i].get("role") == "user")
    return messages[next(asked, 0) :]  # a row of calls without a question is one exchange


def chat_message(message: dict[str, Any]) -> ChatMessage:
    """One OpenAI message: words, pictures, sound, tool calls and results of tools."""
    role = message.get("role")
    blocks: list[ContentBlock] = blocks_of(message.get("content"))
    extra: dict[str, Any] = {}
    if role == "tool":
        extra["tool_call_id"] = message.get("tool_call_id")
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        blocks.append(
            ToolCallBlock(
                tool_call_id=call.get("id"),
                tool_name=str(function.get("name") or ""),
                tool_kwargs=function.get("arguments") or "{}",
            )
        )
    roles = {known.value for known in MessageRole}
    return ChatMessage(
        role=MessageRole(role if role in roles else "user"), blocks=blocks, additional_kwargs=extra
    )


def blocks_of(content: Any) -> list[ContentBlock]:
    """A message's content, or a tool's result, as blocks."""
    if not isinstance(content, list):
        return [TextBlock(text=content if isinstance(content, str) else "")]
    parts = [part for part in content if isinstance(part, dict)]
    blocks = [_block(part) for part in parts[:MAX_PARTS]]
    if len(parts) > MAX_PARTS:
        blocks.append(TextBlock(text=f"[{len(parts) - MAX_PARTS} more parts, which the agent cannot read]"))
    return blocks


def parts_of(blocks: Iterable[ContentBlock]) -> str | list[dict[str, Any]]:
    """Blocks of a tool's result as OpenAI content: text, or parts where pictures are in it."""
    parts: list[dict[str, Any]] = []
    for block in blocks:
        if isinstance(block, ImageBlock):
            url = str(block.url) if block.url else block.inline_url()
            parts.append({"type": "image_url", "image_url": {"url": url}})
        else:
            parts.append({"type": "text", "text": getattr(block, "text", None) or str(block)})
    return results.content_of(parts) if parts else ""


def with_pictures(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """The messages with the pictures that tools gave in a user message after them, as Open WebUI does it:
    providers take only text as a tool's result."""
    shown: list[ChatMessage] = []
    pictures: list[ContentBlock] = []
    for message in messages:
        if message.role is not MessageRole.TOOL and pictures:
            shown.append(_note(pictures))
            pictures = []
        found = [block for block in message.blocks if isinstance(block, ImageBlock)]
        if message.role is not MessageRole.TOOL or not found:
            shown.append(message)
            continue
        pictures += found
        words = [block for block in message.blocks if not isinstance(block, ImageBlock)]
        shown.append(message.model_copy(update={"blocks": words or [TextBlock(text="[image]")]}))
    return [*shown, _note(pictures)] if pictures else shown


def as_words(message: ChatMessage) -> list[ChatMessage]:
    """A message as a model without tool calls reads it: calls and results as ReAct writes them."""
    if message.role is MessageRole.TOOL:
        pictures = [block for block in message.blocks if isinstance(block, ImageBlock)]
        observed = ChatMessage(role=MessageRole.USER, content=f"Observation: {message.content or ''}")
        observed.blocks += pictures
        return [observed]
    calls = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    if not calls:
        return [message]
    lines = [message.content or "Thought: I need to use a tool."]
    for call in calls:
        arguments = call.tool_kwargs
        written = arguments if isinstance(arguments, str) else json.dumps(arguments)
        lines.append(f"Action: {call.tool_name}\nAction Input: {written}")
    return [ChatMessage(role=MessageRole.ASSISTANT, content="\n".join(lines))]


def _note(pictures: list[ContentBlock]) -> ChatMessage:
    return ChatMessage(role=MessageRole.USER, blocks=[TextBlock(text=results.IMAGES_NOTE), *pictures])


def _block(part: dict[str, Any]) -> ContentBlock:
    match part.get("type"):
        case "text" | "input_text" | "output_text":
            return TextBlock(text=str(part.get("text") or ""))
        case "image_url":
            address = part.get("image_url")
            url = address.get("url") if isinstance(address, dict) else address
            if isinstance(url, str):
                detail = address.get("detail") if isinstance(address, dict) else None
                # Not validated: it would change the address, and takes 60 ms for a picture of 3 MB.
                return ImageBlock.model_construct(url=url, detail=detail)
        case "input_audio":
            sound = part.get("input_audio")
            if isinstance(sound, dict) and isinstance(sound.get("data"), str):
                return AudioBlock.model_construct(audio=sound["data"].encode(), format=sound.get("format"))
    return TextBlock(text=f"[an attachment of the kind {part.get('type')}, which the agent cannot read]")


def _text(message: dict[str, Any]) -> str:
    return results.text_of(message.get("content"))
