"""Agents as rows: the steps of which the store's transactions are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from sqlalchemy import ColumnElement, Dialect, Row, Select, delete, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_mode.store.agent_forms import Access
from agent_mode.store.tables import agent as table


@dataclass(frozen=True, slots=True)
class Agent:
    """Something that runs: its content, its newest version's number, and when it changed (UTC)."""

    id: str
    name: str
    description: str
    agent_type: str
    definition: dict[str, Any] = field(hash=False, repr=False)
    valves: dict[str, Any] = field(hash=False, repr=False)
    enabled: bool
    access: Access
    tags: tuple[str, ...]
    version: int
    content_hash: str
    created_at: datetime
    updated_at: datetime

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """The agent of a row of the table."""
        values: dict[str, Any] = dict(row._mapping)
        values["tags"] = tuple(values["tags"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which agents a list shows; None: whatever it is."""

    agent_type: str | None = None
    enabled: bool | None = None
    tag: str | None = None
    text: str | None = None
    """Part of the id, the name or the description, in whichever case."""


_columns = [column for column in table.c if column.name != "search"]


def query(wanted: Filter, dialect: Dialect) -> Select[Any]:
    """The agents that fit, by id."""
    return select(*_columns).where(*_conditions(wanted, dialect)).order_by(table.c.id)


async def count(connection: AsyncConnection, wanted: Filter) -> int:
    """How many agents fit."""
    conditions = _conditions(wanted, connection.dialect)
    return (await connection.execute(select(func.count()).select_from(table).where(*conditions))).scalar_one()


async def find(connection: AsyncConnection, agent_id: str) -> Agent | None:
    """The agent with this id."""
    found = await find_all(connection, [agent_id])
    return found[0] if found else None


async def find_all(connection: AsyncConnection, ids: Sequence[str]) -> list[Agent]:
    """Those agents of the ids that there are, in no certain order."""
    rows = await connection.execute(select(*_columns).where(table.c.id.in_(ids)))
    return [Agent.from_row(row) for row in rows]


async def put(connection: AsyncConnection, known: Agent | None, agent_id: str, **values: Any) -> None:
    """Insert the columns, or update the row of `known`."""
    values["updated_at"] = datetime.now(UTC)
    if known is not None:
        await connection.execute(update(table).where(table.c.id == agent_id).values(values))
    else:
        fixed = {"id": agent_id, "created_at": values["updated_at"]}
        await connection.execute(insert(table).values(fixed | values))


async def remove(connection: AsyncConnection, agent_id: str) -> None:
    """Delete the row."""
    await connection.execute(delete(table).where(table.c.id == agent_id))


def _conditions(wanted: Filter, dialect: Dialect) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.agent_type is not None:
        found.append(table.c.agent_type == wanted.agent_type)
    if wanted.enabled is not None:
        found.append(table.c.enabled.is_(wanted.enabled))
    if wanted.tag is not None:
        elements = func.json_array_elements_text if dialect.name == "postgresql" else func.json_each
        each = elements(table.c.tags).table_valued("value")
        found.append(exists().select_from(each).where(each.c.value == wanted.tag))
    if wanted.text:
        found.append(table.c.search.contains(wanted.text.casefold(), autoescape=True))
    return found
