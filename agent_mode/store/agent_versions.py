"""The versions of agents: immutable, numbered without end, readable as a diff.

Every write is a version, the deletion of an agent too; the versions outlive their agent.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_mode.errors import DefinitionError, StoreError
from agent_mode.store.agent_forms import AgentForm
from agent_mode.store.session_records import storable
from agent_mode.store.tables import agent_version as table
from agent_mode.store.versions import Note, ahead, label_of, named, one_line, there_are

DELETED = ""
"""In place of the hash of a version: its content is what was deleted."""


@dataclass(frozen=True, slots=True)
class AgentVersion:
    """The content of an agent as it once was."""

    agent_id: str
    number: int
    content: dict[str, Any] = field(hash=False, repr=False)
    content_hash: str
    author: str
    message: str
    created_at: datetime
    """Aware, in UTC."""

    @property
    def label(self) -> str:
        """The number as people write it: "1.0.0" is number 1."""
        return label_of(self.number)

    @property
    def deleted(self) -> bool:
        """True if the agent was deleted here; the content is what it was until then."""
        return self.content_hash == DELETED

    def form(self) -> AgentForm:
        """The content as input.

        Raises:
            StoreError: code `version_refused`: the rules for agents have become stricter since.
        """
        try:
            return AgentForm.parse({**self.content, "id": self.agent_id})
        except DefinitionError as error:
            raise StoreError(
                f"Version {self.label} of {self.agent_id} cannot be used any more: {error.message}",
                code="version_refused",
                status=409,
                hint="Take what you need from it, and save it as a new version.",
            ) from error


async def record(
    connection: AsyncConnection,
    agent_id: str,
    content: Mapping[str, Any],
    content_hash: str,
    note: Note,
    *,
    history_limit: int,
) -> int:
    """Write the next version, and forget those that are too old; returns its number."""
    number = (await _newest(connection, agent_id))[0] + 1
    values = {
        "agent_id": agent_id,
        "number": number,
        "content": dict(content),
        "content_hash": content_hash,
        "author": one_line(note.author, 200),
        "message": one_line(note.message, 1_000),
        "created_at": datetime.now(UTC),
    }
    await connection.execute(insert(table).values(values))
    old = (table.c.agent_id == agent_id) & (table.c.number <= number - history_limit)
    await connection.execute(delete(table).where(old))
    return number


def history(agent_id: str) -> Select[Any]:
    """The versions of an agent, the newest first."""
    return select(table).where(table.c.agent_id == agent_id).order_by(table.c.number.desc())


async def find(connection: AsyncConnection, agent_id: str, number: int) -> AgentVersion:
    """One version.

    Raises:
        StoreError: code `unknown_version`.
    """
    oldest = newest = 0
    if storable(agent_id):
        mine = select(func.min(table.c.number), func.max(table.c.number)).where(table.c.agent_id == agent_id)
        oldest, newest = (await connection.execute(mine)).one()
    if oldest and oldest <= number <= newest:
        row = (await connection.execute(history(agent_id).where(table.c.number == number))).one()
        return AgentVersion(**row._mapping)
    raise StoreError(
        f"There is no version {named(number)} of {one_line(agent_id, 64)!r}.",
        code="unknown_version",
        status=404,
        hint=there_are(oldest, newest) if newest else "It has no versions.",
    )


async def stale(connection: AsyncConnection, agent_id: str, expected: int) -> StoreError:
    """The error for somebody who has not seen the newest version, but the one of this number."""
    number, author = await _newest(connection, agent_id)
    if expected > number:
        return ahead(agent_id, expected, number)
    return StoreError(
        f"{agent_id} was changed meanwhile by {author}: its newest version is number {number} "
        f"({label_of(number)}).",
        code="stale_version",
        status=409,
        hint="Load it again, compare, and repeat your change where it is still wanted.",
    )


def unified_diff(old: AgentVersion, new: AgentVersion) -> str:
    """What changed between two versions, line by line; empty when nothing did."""
    before, after = (f"{version.agent_id} {version.label}" for version in (old, new))
    found = difflib.unified_diff(
        list(lines(old.content)), list(lines(new.content)), before, after, lineterm=""
    )
    return "".join(f"{line}\n" for line in found)


async def _newest(connection: AsyncConnection, agent_id: str) -> tuple[int, str]:
    """Number and author of the newest version; 0 without any."""
    newest = history(agent_id).with_only_columns(table.c.number, table.c.author).limit(1)
    row = (await connection.execute(newest)).one_or_none()
    return (0, "") if row is None else (row.number, row.author)


def lines(content: Mapping[str, Any]) -> Iterator[str]:
    """The content of an agent as text to compare: long texts line by line."""
    for name in ("name", "agent_type", "enabled", "access"):
        yield f"{name}: {content.get(name)}"
    yield from ("tags:", *(f"- {tag}" for tag in content.get("tags") or ()))
    yield from ("", "description:", *str(content.get("description") or "").split("\n"))
    for name in ("valves", "definition"):
        for key, value in sorted((content.get(name) or {}).items()):
            if isinstance(value, str) and "\n" in value:  # code or instructions
                yield from ("", f"{name}.{key}:", *value.split("\n"))
            else:
                text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
                yield from f"{name}.{key}: {text}".split("\n")
