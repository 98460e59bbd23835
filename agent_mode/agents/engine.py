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
    """Vetted chunks of the provider, as `data:` lines, passed on as they are."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Completion:
    """The provider's whole answer to a request without streaming."""

    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """The run failed; what was yielded before stays."""

    error: AgentModeError


Event = Status | Text | Reasoning | Embed | Chunks | Completion | Failure


@dataclass(frozen=True, slots=True)
class Job:
    """What an engine has to do.

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
