"""What every engine shares: the job it gets and the events it yields."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agent_mode.errors import AgentModeError
from agent_mode.llm.connection import Connection
from agent_mode.llm.sse import Facts


@dataclass(frozen=True, slots=True)
class Status:
    """A line above the answer that says what is going on; `done` ends its animation."""

    description: str
    done: bool = True
    error: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """Words of ours (a list, a confirmation), to be shown as the answer."""

    content: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Thinking, shown folded above the answer."""

    content: str


@dataclass(frozen=True, slots=True)
class Embed:
    """A page of ours inside the answer, in a sandboxed frame."""

    html: str


@dataclass(frozen=True, slots=True)
class Chunks:
    """Vetted chunks of the provider, as `data:` lines, passed on as they are; `length` counts their text."""

    data: bytes
    length: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """The provider's whole answer to a request without streaming."""

    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool that the caller executes.

    Args:
        id: what the result comes back under.
        name: the tool's name, as the caller sent it.
        arguments: JSON text of an object.
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """The run waits for tools that the caller executes; the last event of a request."""

    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class ToolCard:
    """A tool that ran inside, shown as Open WebUI shows its own."""

    id: str
    name: str
    arguments: str
    result: str


@dataclass(frozen=True, slots=True)
class Source:
    """Where something in the answer comes from; shown as a citation."""

    name: str
    url: str | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """A picture in the answer, as a `data:` or web address."""

    url: str
    description: str = "image"


@dataclass(frozen=True, slots=True)
class Usage:
    """Totals over all LLM calls of the run: `prompt_tokens`, `completion_tokens`, `total_tokens`, …"""

    totals: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """The run failed; what was yielded before stays."""

    error: AgentModeError


Event = (
    Status
    | Text
    | Reasoning
    | Embed
    | Chunks
    | Completion
    | ToolCalls
    | ToolCard
    | Source
    | Image
    | Usage
    | Failure
)


@dataclass(frozen=True, slots=True)
class Job:
    """What a persona's engine has to do.

    Args:
        connection: the LLM.
        model: the provider's model id.
        messages: ready to send.
        params: further fields of the request (`temperature`, `tools`, …), passed on.
        stream: whether the caller wants chunks.
        facts: filled in while the run goes on.
    """

    connection: Connection
    model: str
    messages: list[dict[str, Any]]
    params: dict[str, Any] = field(default_factory=dict)
    stream: bool = True
    facts: Facts = field(default_factory=Facts)
