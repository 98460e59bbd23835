"""What is remembered of chats: answers, switches, sessions."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from agent_mode.store.tables import ID_LIMIT


def _now() -> datetime:
    return datetime.now(UTC)


STRANGER = "?"
"""Stands for whoever answered when it was none of our agents; no agent can have it as its key."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Which agent wrote one assistant message."""

    message_id: str
    chat_id: str
    user_message_id: str | None
    """The message that it answers."""
    agent: str
    """Who answered."""
    ui_agent: str
    """The model that was picked in the interface."""
    at: datetime
    """Aware."""
    voice: str | None = None
    """Who wrote the replies above it, when this message is only our own confirmation or list; `STRANGER`
    when that was none of ours. None: this message is the agent's own."""
    owner: str = ""
    """Whose it is; the empty one is of the time before records had one."""


@dataclass(frozen=True, slots=True)
class Switch:
    """One change of agent in a chat."""

    agent_id: str
    agent_name: str
    switched_at: str
    """ISO 8601, UTC."""
    message_count: int
    reason: Literal["user_switch", "auto_suggestion", "system_default"]


@dataclass(frozen=True, slots=True)
class Session:
    """One chat as a whole."""

    chat_id: str
    active_agent: str
    ui_agent: str
    ui_since: int = 0
    agent_history: tuple[Switch, ...] = ()
    """Oldest first."""
    updated_at: datetime = field(default_factory=_now)
    """Aware."""
    owner: str = ""
    """As of an answer."""


def is_temporary(chat_id: str) -> bool:
    """True for a chat that Open WebUI itself does not store ("local:" before version 0.12)."""
    return chat_id.startswith(("temporary:", "local:"))


def owners(owner: str) -> tuple[str, str]:
    """Whose records an owner is shown: their own, and those from before records had an owner."""
    return owner, ""


def is_owner(text: str) -> bool:
    """True if records can have it as their owner."""
    return not text or storable(text)


def storable(text: str) -> bool:
    """True if every database takes the text as an id: not empty, not too long, no NUL, no lone surrogate."""
    if not 0 < len(text) <= ID_LIMIT or "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
