"""Personas as rows: the steps of which the store's transactions are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Self

from sqlalchemy import Row, bindparam, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_mode.store import revisions
from agent_mode.store.forms import PersonaForm, content, content_hash
from agent_mode.store.tables import PERSONAS_REVISION
from agent_mode.store.tables import persona as table


@dataclass(frozen=True, slots=True)
class PersonaHead:
    """A persona as a list shows it: all but what may be long, its prompt and its extras."""

    key: str
    name: str
    emoji: str
    category: str
    description: str
    capabilities: tuple[str, ...]
    tags: tuple[str, ...]
    model: str | None
    enabled: bool
    origin: Literal["shipped", "custom"]
    content_hash: str
    shipped_hash: str | None
    """Hash of the content as it was last seeded; None for a custom persona."""
    created_at: datetime
    updated_at: datetime

    @property
    def display_name(self) -> str:
        """The name as a person sees it: "💻 Coder"."""
        return f"{self.emoji} {self.name}".strip()

    @property
    def edited(self) -> bool:
        """True for a shipped persona whose content the user changed."""
        return self.origin == "shipped" and self.content_hash != self.shipped_hash

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """The persona, or the head, of a row that holds its columns."""
        values: dict[str, Any] = dict(row._mapping)
        values["capabilities"] = tuple(values["capabilities"])
        values["tags"] = tuple(values["tags"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Persona(PersonaHead):
    """An identity that a model can take: its content, where it comes from, and when it changed (UTC)."""

    prompt: str
    extras: dict[str, Any] = field(default_factory=dict, hash=False)


async def bump(connection: AsyncConnection) -> None:
    """Tell all processes that personas changed."""
    await revisions.bump(connection, PERSONAS_REVISION)


async def read_all(connection: AsyncConnection) -> dict[str, Persona]:
    """All personas by key."""
    return {row.key: Persona.from_row(row) for row in await connection.execute(select(table))}


async def read_heads(connection: AsyncConnection) -> list[PersonaHead]:
    """The heads of all personas, in no certain order."""
    columns = [table.c[name] for name in PersonaHead.__slots__]
    return [PersonaHead.from_row(row) for row in await connection.execute(select(*columns))]


async def find(connection: AsyncConnection, key: str) -> Persona | None:
    """The persona with this key."""
    row = (await connection.execute(select(table).where(table.c.key == key))).one_or_none()
    return None if row is None else Persona.from_row(row)


async def put(connection: AsyncConnection, form: PersonaForm, known: Persona | None, **more: Any) -> None:
    """Insert the content, or update the row of `known`; `more` holds further columns.

    Without more, a new persona is custom and as enabled as the form says; a known one stays as it is.
    """
    values = _values(form) | more
    if known is not None:
        await change(connection, form.key, **values)
        return
    await connection.execute(insert(table).values(_fixed(form, datetime.now(UTC)) | values))


@dataclass(frozen=True, slots=True)
class Change:
    """One of many personas to write: the content, the row that is there, and further columns."""

    form: PersonaForm
    known: Persona | None
    more: dict[str, Any]


async def put_all(connection: AsyncConnection, changes: Sequence[Change]) -> None:
    """As `put` for many at once, in two statements; all have the same further columns."""
    now = datetime.now(UTC)
    new: list[dict[str, Any]] = []
    old: list[dict[str, Any]] = []
    for change in changes:
        values = _values(change.form) | change.more
        if change.known is None:
            new.append(_fixed(change.form, now) | values)
        else:
            old.append(values | {"updated_at": now, "of_key": change.form.key})
    if new:
        await connection.execute(insert(table), new)
    if old:
        await connection.execute(update(table).where(table.c.key == bindparam("of_key")), old)


def _values(form: PersonaForm) -> dict[str, Any]:
    return content(form) | {"content_hash": content_hash(form)}


def _fixed(form: PersonaForm, now: datetime) -> dict[str, Any]:
    return {
        "key": form.key,
        "enabled": form.enabled,
        "origin": "custom",
        "created_at": now,
        "updated_at": now,
    }


async def change(connection: AsyncConnection, key: str, **values: Any) -> None:
    """Update columns of a row."""
    values["updated_at"] = datetime.now(UTC)
    await connection.execute(update(table).where(table.c.key == key).values(values))


async def remove(connection: AsyncConnection, key: str) -> None:
    """Delete the row."""
    await connection.execute(delete(table).where(table.c.key == key))
