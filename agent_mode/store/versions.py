"""The versions of personas: immutable, numbered without end, readable as a diff.

A version is written where the content differs from the newest version, in the transaction of the change.
The versions outlive their persona, so that a deleted one can be rolled back as well.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pydantic import ValidationError
from sqlalchemy import bindparam, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_mode.errors import StoreError
from agent_mode.store.forms import PersonaForm, content, content_hash, first_problem
from agent_mode.store.persona_rows import Persona
from agent_mode.store.tables import persona_version as table

_LABEL = re.compile(r"v?1\.0\.(0|[1-9][0-9]{0,8})", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


@dataclass(frozen=True, slots=True)
class Keep:
    """Whether versions are written, and how many of each persona are kept, the newest."""

    versioning: bool = True
    history_limit: int = 50

    def __post_init__(self) -> None:
        if self.history_limit < 1:
            raise ValueError("history_limit must be at least 1")


class Note(NamedTuple):
    """Who changes something, and why."""

    author: str
    message: str


FIRST_SEEN = Note("system", "first seen")
"""Of content that no version holds yet: it is older than its history, or was saved without versioning."""


@dataclass(frozen=True, slots=True)
class Version:
    """The content of a persona as it once was."""

    persona_key: str
    number: int
    content_hash: str
    content: dict[str, Any] = field(hash=False)
    author: str
    message: str
    created_at: datetime
    """Aware, in UTC."""

    @property
    def label(self) -> str:
        """The number as people write it: "1.0.0" is number 1."""
        return label_of(self.number)

    def form(self) -> PersonaForm:
        """The content as input.

        Raises:
            StoreError: code `version_refused`: the rules for personas have become stricter since.
        """
        try:
            return PersonaForm.model_validate({**self.content, "key": self.persona_key})
        except ValidationError as error:
            raise StoreError(
                f"Version {self.label} of {self.persona_key} cannot be used any more: "
                f"{first_problem(error)}.",
                code="version_refused",
                status=409,
                hint="Take what you need from its text, and save it as a new version.",
            ) from error


def label_of(number: int) -> str:
    """The label of a version's number."""
    return f"1.0.{number - 1}"


def named(number: int) -> str:
    """A version by both of its names, since whoever asked for it may have used either."""
    return f"{label_of(number)} (number {number})"


def ahead(name: str, number: int, newest: int) -> StoreError:
    """The error for who says to have seen a version that does not exist yet."""
    return StoreError(
        f"There is no version {named(number)} of {one_line(name, 64)!r} yet.",
        code="unknown_version",
        status=422,
        hint=f"Send the version that you have read. The newest is {named(newest)}.",
        field="version",
    )


async def record(
    connection: AsyncConnection, keep: Keep, before: Persona | None, after: PersonaForm | Persona, note: Note
) -> None:
    """Write a version of `after` unless the newest one holds this content already.

    The same is done first for what was there before, so that nothing that was in use is lost.
    """
    if not keep.versioning:
        return
    query = select(table.c.number, table.c.content_hash).where(table.c.persona_key == after.key)
    row = (await connection.execute(query.order_by(table.c.number.desc()).limit(1))).one_or_none()
    await _write(connection, keep, _due((0, "") if row is None else (row[0], row[1]), before, after, note))


async def record_all(
    connection: AsyncConnection,
    keep: Keep,
    changes: Iterable[tuple[Persona | None, PersonaForm]],
    note: Note,
) -> None:
    """As `record` for many personas, each as it was before and as it is now, in a few statements."""
    if not keep.versioning:
        return
    last = select(table.c.persona_key, func.max(table.c.number).label("number"))
    last_ones = last.group_by(table.c.persona_key).subquery()
    query = select(table.c.persona_key, table.c.number, table.c.content_hash).join(
        last_ones,
        (table.c.persona_key == last_ones.c.persona_key) & (table.c.number == last_ones.c.number),
    )
    there = {row[0]: (row[1], row[2]) for row in await connection.execute(query)}
    due = [
        row for before, after in changes for row in _due(there.get(after.key, (0, "")), before, after, note)
    ]
    await _write(connection, keep, due)


def _due(
    newest: tuple[int, str], before: Persona | None, after: PersonaForm | Persona, note: Note
) -> list[dict[str, Any]]:
    """The rows to write, given number and hash of the newest version; 0 without any."""
    number, digest = newest
    found: list[dict[str, Any]] = []
    for source, why in ((before, FIRST_SEEN), (after, note)):
        if source is not None and content_hash(source) != digest:
            number, digest = number + 1, content_hash(source)
            found.append(_row(source, number, digest, why))
    return found


async def _write(connection: AsyncConnection, keep: Keep, due: list[dict[str, Any]]) -> None:
    """Writes versions, and forgets those that are too old."""
    if not due:
        return
    await connection.execute(insert(table), due)
    newest = {row["persona_key"]: row["number"] for row in due}
    old = [
        {"of_key": key, "up_to": number - keep.history_limit}
        for key, number in newest.items()
        if number > keep.history_limit
    ]
    if old:
        mine = table.c.persona_key == bindparam("of_key")
        await connection.execute(delete(table).where(mine, table.c.number <= bindparam("up_to")), old)


def _row(source: PersonaForm | Persona, number: int, digest: str, note: Note) -> dict[str, Any]:
    return {
        "persona_key": source.key,
        "number": number,
        "content_hash": digest,
        "content": content(source),
        "author": one_line(note.author, 200),
        "message": one_line(note.message, 1_000),
        "created_at": datetime.now(UTC),
    }


def one_line(text: str, limit: int) -> str:
    """What somebody wrote into the history, made safe to show: one line, cut to so many characters."""
    return _CONTROL.sub(" ", text).strip()[:limit]


async def newest(connection: AsyncConnection, key: str | None = None) -> dict[str, int]:
    """Number of the newest version of each persona, or of one."""
    query = select(table.c.persona_key, func.max(table.c.number)).group_by(table.c.persona_key)
    if key is not None:
        query = query.where(table.c.persona_key == key)
    return {row[0]: row[1] for row in await connection.execute(query)}


async def history(connection: AsyncConnection, key: str) -> list[Version]:
    """The versions of a persona, the newest first."""
    query = select(table).where(table.c.persona_key == key).order_by(table.c.number.desc())
    return [Version(**row._mapping) for row in await connection.execute(query)]


async def find(connection: AsyncConnection, key: str, label: str) -> Version:
    """One version.

    Raises:
        StoreError: code `unknown_version`.
    """
    mine = table.c.persona_key == key
    shown = repr(one_line(label, 20))
    if match := _LABEL.fullmatch(label.strip()):
        number = int(match[1]) + 1
        shown = named(number)
        query = select(table).where(mine, table.c.number == number)
        row = (await connection.execute(query)).one_or_none()
        if row is not None:
            return Version(**row._mapping)
    query = select(func.min(table.c.number), func.max(table.c.number)).where(mine)
    oldest, newest = (await connection.execute(query)).one()
    raise StoreError(
        f"There is no version {shown} of {one_line(key, 40)!r}.",
        code="unknown_version",
        status=404,
        hint=there_are(label_of(oldest), label_of(newest)) if newest else "It has no versions.",
    )


def there_are(oldest: object, newest: object) -> str:
    """Which versions there are, for the hint of an error."""
    return f"There is only {newest}." if oldest == newest else f"There are {oldest} to {newest}."


async def expect(connection: AsyncConnection, key: str, known: Persona | None, expected: int) -> None:
    """Check that the newest version of the persona has this number; 0: that there is no such persona.

    Raises:
        StoreError: code `stale_version`, or `unknown_version` if there is none of that number yet.
    """
    query = select(table.c.number, table.c.author).where(table.c.persona_key == key)
    row = (await connection.execute(query.order_by(table.c.number.desc()).limit(1))).one_or_none()
    number, author = (0, "") if row is None or known is None else row
    if number == expected:
        return
    if known is not None and 0 < number < expected:
        raise ahead(key, expected, number)
    if known is None:
        text = f"{key} was deleted meanwhile."
    elif not expected:
        text = f"There is a persona {key} already."
    else:
        text = f"{key} was changed meanwhile by {author}: its newest version is {label_of(number)}."
    raise StoreError(
        text,
        code="stale_version",
        status=409,
        hint="Load it again, compare, and repeat your change where it is still wanted.",
    )


def unified_diff(old: Version, new: Version) -> str:
    """What changed between two versions, line by line; empty when nothing did."""
    before, after = (f"{version.persona_key} {version.label}" for version in (old, new))
    lines = difflib.unified_diff(readable(old.content), readable(new.content), before, after, lineterm="")
    return "".join(f"{line}\n" for line in lines)


def readable(values: Mapping[str, Any]) -> list[str]:
    """Content as the lines that a person compares."""
    lines = [f"{name}: {values.get(name) or ''}".rstrip() for name in ("name", "emoji", "category", "model")]
    for name in ("tags", "capabilities"):
        lines += [f"{name}:", *(f"- {entry}" for entry in values.get(name) or ())]
    for name in ("description", "prompt"):
        lines += ["", f"{name}:", *(values.get(name) or "").split("\n")]
    if values.get("extras"):
        text = json.dumps(values["extras"], indent=2, sort_keys=True, ensure_ascii=False)
        lines += ["", "extras:", *text.split("\n")]
    return lines
