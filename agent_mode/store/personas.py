"""Personas in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Self

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from .db import Database
from .forms import RESERVED_KEYS, PersonaForm, content, content_hash
from .tables import PERSONAS_REVISION
from .tables import persona as table
from .tables import revision as revisions

__all__ = ["RESERVED_KEYS", "Persona", "PersonaForm", "PersonaStore", "SeedReport", "content_hash"]


@dataclass(frozen=True, slots=True)
class Persona:
    """An identity that a model can take: its content, where it comes from, and when it changed (UTC)."""

    key: str
    name: str
    emoji: str
    category: str
    prompt: str
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
        """The persona of a row of the table."""
        values: dict[str, Any] = dict(row._mapping)
        values["capabilities"] = tuple(values["capabilities"])
        values["tags"] = tuple(values["tags"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class SeedReport:
    """What seeding did, as keys in the order of the catalogue."""

    added: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    """Left alone: the user edited it, or has a persona of their own under this key."""
    unchanged: tuple[str, ...] = ()


class PersonaStore:
    """Reads and writes personas. All methods raise `StoreError` when the database fails."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def all(self) -> list[Persona]:
        """All personas, the disabled ones too, by category, then by name."""
        async with self._db.read() as connection:
            rows = await connection.execute(select(table))
        # Sorted here, because databases do not agree on the order of letters.
        return sorted(map(Persona.from_row, rows), key=lambda p: (p.category, p.name.casefold(), p.key))

    async def get(self, key: str) -> Persona | None:
        """The persona with this key, enabled or not."""
        async with self._db.read() as connection:
            return await _find(connection, key)

    async def save(self, form: PersonaForm) -> Persona:
        """Insert or update. A new one is of origin `custom`; saving what is there already writes nothing."""
        async with self._db.begin() as connection:
            await _lock(connection)
            known = await _find(connection, form.key)
            if known is None:
                await connection.execute(insert(table).values(_new_row(form, origin="custom")))
            elif (content_hash(form), form.enabled) == (known.content_hash, known.enabled):
                return known
            else:
                await _update(connection, form.key, _content_row(form) | {"enabled": form.enabled})
            await _bump(connection)
            saved = await _find(connection, form.key)
        assert saved is not None
        return saved

    async def delete(self, key: str) -> None:
        """Remove a custom persona; disable a shipped one, so that seeding does not bring it back.

        An unknown key is no error: what was asked for is so already.
        """
        async with self._db.begin() as connection:
            await _lock(connection)
            known = await _find(connection, key)
            if known is None or (known.origin == "shipped" and not known.enabled):
                return
            if known.origin == "custom":
                await connection.execute(delete(table).where(table.c.key == key))
            else:
                await _update(connection, key, {"enabled": False})
            await _bump(connection)

    async def revision(self) -> int:
        """A number that grows with every write of personas, by whichever process."""
        query = select(revisions.c.number).where(revisions.c.name == PERSONAS_REVISION)
        async with self._db.read() as connection:
            return (await connection.execute(query)).scalar_one()

    async def seed(self, forms: Sequence[PersonaForm]) -> SeedReport:
        """Bring the shipped catalogue into the database, in one transaction.

        New personas are added and those the user left alone are updated; whether one is enabled stays as it
        is. What the user edited or made is protected. A second call with the same forms writes nothing.
        """
        done: dict[str, list[str]] = {"added": [], "updated": [], "protected": [], "unchanged": []}
        async with self._db.begin() as connection:
            await _lock(connection)
            known = {row.key: Persona.from_row(row) for row in await connection.execute(select(table))}
            for form in {form.key: form for form in forms}.values():
                done[await _seed_one(connection, form, known.get(form.key))].append(form.key)
            if done["added"] or done["updated"]:
                await _bump(connection)
        return SeedReport(**{step: tuple(keys) for step, keys in done.items()})


async def _seed_one(connection: AsyncConnection, form: PersonaForm, known: Persona | None) -> str:
    shipped_hash = content_hash(form)
    if known is None:
        row = _new_row(form, origin="shipped") | {"shipped_hash": shipped_hash}
        await connection.execute(insert(table).values(row))
        return "added"
    if known.origin == "custom":
        return "protected"
    if known.content_hash == known.shipped_hash == shipped_hash:
        return "unchanged"
    # An edit that the catalogue has caught up with is no edit any more.
    if known.edited and known.content_hash != shipped_hash:
        return "protected"
    await _update(connection, form.key, _content_row(form) | {"shipped_hash": shipped_hash})
    return "updated"


async def _find(connection: AsyncConnection, key: str) -> Persona | None:
    row = (await connection.execute(select(table).where(table.c.key == key))).one_or_none()
    return None if row is None else Persona.from_row(row)


async def _update(connection: AsyncConnection, key: str, values: dict[str, Any]) -> None:
    values = values | {"updated_at": datetime.now(UTC)}
    await connection.execute(update(table).where(table.c.key == key).values(values))


async def _lock(connection: AsyncConnection) -> None:
    # All writers pass through this row, so that of two processes the second sees what the first wrote.
    query = select(revisions.c.number).where(revisions.c.name == PERSONAS_REVISION)
    await connection.execute(query.with_for_update())


async def _bump(connection: AsyncConnection) -> None:
    change = update(revisions).where(revisions.c.name == PERSONAS_REVISION)
    await connection.execute(change.values(number=revisions.c.number + 1))


def _content_row(form: PersonaForm) -> dict[str, Any]:
    return content(form) | {"content_hash": content_hash(form)}


def _new_row(form: PersonaForm, *, origin: str) -> dict[str, Any]:
    now = datetime.now(UTC)
    extra = {"key": form.key, "enabled": form.enabled, "origin": origin, "created_at": now, "updated_at": now}
    return _content_row(form) | extra
