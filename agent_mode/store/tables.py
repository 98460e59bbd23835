"""The tables, as the newest migration leaves them (a test compares the two)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

ID_LIMIT = 255
"""Longest id in characters: PostgreSQL refuses index entries of more than about 2,700 bytes."""

PERSONAS_REVISION = "personas"
"""Name of the row in `revision` that counts the writes of personas; the first migration makes it."""
AGENTS_REVISION = "agents"
"""The same for agents; the fourth migration makes it."""
RUN_STOPS_REVISION = "run_stops"
"""Counts the requests to stop a run of another process; the sixth migration makes it."""


class UTCDateTime(TypeDecorator[datetime]):
    """A moment, aware and in UTC on both sides (SQLite itself would forget the time zone)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData(naming_convention={"ix": "ix_%(column_0_label)s", "pk": "pk_%(table_name)s"})

persona = Table(
    "persona",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("emoji", Text, nullable=False),
    Column("category", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("capabilities", JSON, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("model", Text),
    Column("enabled", Boolean, nullable=False),
    Column("origin", String(16), nullable=False),
    Column("shipped_hash", String(64)),
    Column("content_hash", String(64), nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
    Column("updated_at", UTCDateTime, nullable=False),
    Column("extras", JSON, nullable=False, server_default="{}"),
)

persona_version = Table(
    "persona_version",
    metadata,
    # No foreign key: the history outlives the persona, so that even a deleted one can be rolled back.
    Column("persona_key", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("content_hash", String(64), nullable=False),
    Column("content", JSON, nullable=False),
    Column("author", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
)

session = Table(
    "session",
    metadata,
    Column("chat_id", String(ID_LIMIT), primary_key=True),
    # Ids of chats and messages may be anybody's words; with the owner they name nobody else's records.
    # Empty: from before there were owners.
    Column("owner", String(ID_LIMIT), primary_key=True, server_default=""),
    Column("active_agent", String(ID_LIMIT), nullable=False),
    Column("ui_agent", String(ID_LIMIT), nullable=False),
    Column("ui_since", BigInteger, nullable=False),
    Column("agent_history", JSON, nullable=False),
    Column("updated_at", UTCDateTime, nullable=False, index=True),
)

answer = Table(
    "answer",
    metadata,
    Column("message_id", String(ID_LIMIT), primary_key=True),
    Column("owner", String(ID_LIMIT), primary_key=True, server_default=""),
    Column("chat_id", String(ID_LIMIT), nullable=False, index=True),
    Column("user_message_id", String(ID_LIMIT)),
    Column("agent", String(ID_LIMIT), nullable=False),
    Column("ui_agent", String(ID_LIMIT), nullable=False),
    Column("at", UTCDateTime, nullable=False, index=True),
    Column("voice", String(ID_LIMIT)),
    Index("ix_answer_user_message_id_ui_agent", "user_message_id", "ui_agent"),
)

revision = Table(
    "revision",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("number", Integer, nullable=False),
)

user_settings = Table(
    "user_settings",
    metadata,
    Column("user_id", String(ID_LIMIT), primary_key=True),
    Column("settings", JSON, nullable=False),
    Column("updated_at", UTCDateTime, nullable=False),
)

agent = Table(
    "agent",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("agent_type", String(64), nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("access", String(16), nullable=False),
    Column("tags", JSON, nullable=False),
    Column("version", Integer, nullable=False),
    Column("content_hash", String(64), nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
    Column("updated_at", UTCDateTime, nullable=False),
    Column("name", Text, nullable=False),
    Column("search", Text, nullable=False),
    # The large ones at the end: SQLite reads through all that stands before a column.
    Column("description", Text, nullable=False),
    Column("valves", JSON, nullable=False),
    Column("definition", JSON, nullable=False),
)

agent_version = Table(
    "agent_version",
    metadata,
    # No foreign key, as with personas: the history outlives the agent.
    Column("agent_id", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("content_hash", String(64), nullable=False),
    Column("author", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
    Column("content", JSON, nullable=False),
)

run = Table(
    "run",
    metadata,
    Column("id", String(ID_LIMIT), primary_key=True),
    Column("parent_id", String(ID_LIMIT)),
    Column("agent", String(ID_LIMIT), nullable=False),
    Column("agent_type", String(64), nullable=False),
    Column("user_id", String(ID_LIMIT)),
    Column("chat_id", String(ID_LIMIT)),
    Column("message_id", String(ID_LIMIT)),
    Column("state", String(16), nullable=False),
    Column("started_at", UTCDateTime, nullable=False, index=True),
    Column("ended_at", UTCDateTime),
    Column("duration_ms", BigInteger),
    Column("steps", Integer, nullable=False),
    Column("model", Text),
    Column("usage", JSON, nullable=False),
    Column("error", JSON(none_as_null=True)),
    Column("tool_calls", JSON, nullable=False),
    Column("trace", Text),
    Column("replica", String(64)),
    # Each list is shown newest first, so each of them is an index in that order.
    *(
        Index(f"ix_run_{column}_started_at", column, "started_at")
        for column in ("parent_id", "agent", "user_id", "chat_id", "state")
    ),
)

snapshot = Table(
    "snapshot",
    metadata,
    Column("run_id", String(ID_LIMIT), primary_key=True),
    Column("agent", String(ID_LIMIT), nullable=False),
    Column("user_id", String(ID_LIMIT)),
    Column("chat_id", String(ID_LIMIT)),
    Column("created_at", UTCDateTime, nullable=False, index=True),
    Column("state", JSON, nullable=False),
    Column("claimed_until", UTCDateTime),
)

replica = Table(
    "replica",
    metadata,
    Column("id", String(64), primary_key=True),
    # It counts as long as the process lives.
    Column("number", Integer, nullable=False),
)

run_stop = Table(
    "run_stop",
    metadata,
    Column("run_id", String(ID_LIMIT), primary_key=True),
    # Of the revision, so that each process asks for what is new to it without looking at clocks.
    Column("number", Integer, nullable=False),
    Column("at", UTCDateTime, nullable=False),
)

credential = Table(
    "credential",
    metadata,
    Column("user_id", String(ID_LIMIT), primary_key=True),
    Column("secret", Text, nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
    Column("updated_at", UTCDateTime, nullable=False),
)

reply = Table(
    "reply",
    metadata,
    Column("message_id", String(ID_LIMIT), primary_key=True),
    Column("owner", String(ID_LIMIT), primary_key=True, server_default=""),
    Column("chat_id", String(ID_LIMIT), nullable=False, index=True),
    Column("user_message_id", String(ID_LIMIT), nullable=False),
    Column("parent_id", String(ID_LIMIT)),
    Column("place", Integer, nullable=False),
    Column("model", String(ID_LIMIT), nullable=False),
    Column("text", Text),
    Column("at", UTCDateTime, nullable=False, index=True),
)

audit_record = Table(
    "audit_record",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("at", UTCDateTime, nullable=False, index=True),
    Column("actor", Text, nullable=False),
    Column("action", String(64), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("target", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("way", String(64), nullable=False, server_default="page"),
)

publication = Table(
    "publication",
    metadata,
    Column("openwebui", String(ID_LIMIT), primary_key=True),
    Column("model_id", String(ID_LIMIT), primary_key=True),
    Column("before", JSON, nullable=False),
    Column("ours", JSON, nullable=False),
    Column("author", Text, nullable=False),
    Column("at", UTCDateTime, nullable=False),
)
