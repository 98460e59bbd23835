"""What the code of an agent may take, what it yields, and what it asks."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from agent_mode.sandbox.child.frames import Garbled, Message

Ask = Callable[[str, dict[str, Any]], Awaitable[Any]]
"""Answers a question of the code: `await ask(kind, arguments)`. Entered in the order in which the code asked.

    "tools"       {}                                  → list of {name, description, parameters}
    "tool"        {name, arguments}                   → JSON; text that is an object or a list gets parsed
    "llm"         {messages, params, stream}          → text, or with `stream` also an async iterator of text
    "call_agent"  {name, task, context}               → text

An `AgentModeError` reaches the code as `AgentError`. Whatever else it raises ends the run, and comes out.
"""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may take.

    Args:
        seconds: wall-clock time of its own; waiting for an answer of the server does not count.
        memory_mb: MiB of address space beyond the bare interpreter, for each process of the run.
        max_items: how many things it may yield, status lines included.
        max_output_bytes: bytes of all that it yields, images in base64.
    """

    seconds: float = 60.0
    memory_mb: int = 512
    max_items: int = 10_000
    max_output_bytes: int = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Output:
    """A part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class StatusLine:
    """A line above the answer; `done` ends its animation."""

    text: str
    done: bool = False


@dataclass(frozen=True, slots=True)
class Image:
    """A picture in the answer.

    Args:
        mime: such as `image/png`; empty for an address.
        data: base64, or an `http(s)://` address.
        description: for those who cannot see it.
    """

    mime: str
    data: str
    description: str = "image"

    @property
    def url(self) -> str:
        """The address, or the picture as a `data:` URL."""
        return f"data:{self.mime};base64,{self.data}" if self.mime else self.data


@dataclass(frozen=True, slots=True)
class SourceItem:
    """A source of the answer."""

    name: str
    url: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Log:
    """A line that the code printed, without its end."""

    text: str


Item = Output | StatusLine | Image | SourceItem | Log


def parse(message: Message) -> Item | None:
    """The item of a message of the code; None: it is no item.

    Raises:
        Garbled: it is one, but not well-formed.
    """
    match message.get("t"):
        case "output":
            return Output(_text(message, "text"))
        case "status":
            return StatusLine(_text(message, "text"), message.get("done") is True)
        case "image":
            return _image(message)
        case "source":
            return SourceItem(_text(message, "name"), _text(message, "url"), _text(message, "text"))
    return None


def size(item: Item) -> int:
    """Bytes of all texts of an item."""
    match item:
        case Image():
            return len(item.data) + _bytes(item.description)
        case SourceItem():
            return _bytes(item.name) + _bytes(item.url) + _bytes(item.text)
    return _bytes(item.text)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def clean(text: str) -> str:
    """The text in a form that every encoder takes: half characters are replaced."""
    return text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text)


def _text(message: Message, name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str):
        raise Garbled(f"{name} is no text")
    return clean(value)


def _image(message: Message) -> Image:
    mime, data = _text(message, "mime"), _text(message, "data")
    description = _text(message, "description") if "description" in message else "image"
    if data.startswith(("http://", "https://")):
        return Image("", data, description)
    if not re.fullmatch(r"image/[\w.+-]+", mime, re.ASCII) or not data.isascii():
        raise Garbled("no image")
    return Image(mime, data, description)
