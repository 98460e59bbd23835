"""Personas in the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from sqlalchemy.ext.asyncio import AsyncConnection

from agent_mode.counting import counted
from agent_mode.store import names, revisions, versions
from agent_mode.store import persona_rows as rows
from agent_mode.store.db import Database
from agent_mode.store.forms import RESERVED_KEYS, PersonaForm, content_hash
from agent_mode.store.persona_rows import Persona, PersonaHead
from agent_mode.store.restoring import RestorePlan, form_of, plan, returning
from agent_mode.store.tables import PERSONAS_REVISION
from agent_mode.store.versions import Keep, Note, Version

__all__ = [
    "RESERVED_KEYS",
    "Keep",
    "Persona",
    "PersonaForm",
    "PersonaHead",
    "PersonaStore",
    "SaveReport",
    "SeedReport",
    "Version",
    "content_hash",
]


@dataclass(frozen=True, slots=True)
class SeedReport:
    """What seeding did, as keys in the order of the catalogue."""

    added: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    """Left alone: the user edited it, or has a persona of their own or an agent under this key."""
    unchanged: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    """Would have been protected, and was not to be; a version and a backup hold what was there."""


Outcome = Literal["added", "updated", "protected", "unchanged", "replaced"]


def outcome_of_seeding(
    form: PersonaForm, known: Persona | None, *, protect: bool, taken: bool = False
) -> Outcome:
    """What seeding does with one persona of a catalogue.

    Args:
        form: the persona in the catalogue.
        known: the one in the store.
        protect: whether what the user edited or made stays.
        taken: whether an agent has its key as id.
    """
    if known is None:
        return "protected" if taken else "added"
    same = known.content_hash == content_hash(form)
    if known.origin == "custom":
        return "protected" if protect else "replaced"
    if same and not known.edited:
        return "unchanged"
    # An edit that the catalogue has caught up with is no edit any more.
    if known.edited and not same:
        return "protected" if protect else "replaced"
    return "updated"


@dataclass(frozen=True, slots=True)
class SaveReport:
    """What `save_all` did, as keys in the order of the forms."""

    created: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()


class PersonaStore:
    """Reads and writes personas and their versions. All methods raise `StoreError` when the database fails.

    Args:
        db: the database.
        keep: what is kept of old content; may be replaced at any time.

    Attributes:
        before_destructive: awaited with a reason before anything is lost or replaced in bulk, outside of any
            transaction; what it raises stops the change.
        before_replacing: the same, where a catalogue replaces what a user wrote.
        protect: whether catalogues leave alone what a user wrote; may be replaced at any time.
        is_agent: whether an agent outside of the database, such as one of a file, has an id.
    """

    def __init__(self, db: Database, keep: Keep | None = None) -> None:
        self._db = db
        self.keep = keep or Keep()
        self.before_destructive: Callable[[str], Awaitable[object]] | None = None
        self.before_replacing: Callable[[str], Awaitable[object]] | None = None
        self.protect = True
        self.is_agent: Callable[[str], bool] = lambda _: False
        self._heads: tuple[int, tuple[PersonaHead, ...]] = (-1, ())

    async def heads(self) -> tuple[PersonaHead, ...]:
        """All personas without what is long, in the order of `all`; read anew only after a change."""
        async with self._db.read() as connection:
            # The number first: a write in between leaves the heads marked older than they are.
            revision = await revisions.number(connection, PERSONAS_REVISION)
            if self._heads[0] != revision:
                found = await rows.read_heads(connection)
                self._heads = (
                    revision,
                    tuple(sorted(found, key=lambda p: (p.category, p.name.casefold(), p.key))),
                )
        return self._heads[1]

    async def all(self) -> list[Persona]:
        """All personas, the disabled ones too, by category, then by name."""
        async with self._db.read() as connection:
            found = await rows.read_all(connection)
        # Sorted here, because databases do not agree on the order of letters.
        return sorted(found.values(), key=lambda p: (p.category, p.name.casefold(), p.key))

    async def get(self, key: str) -> Persona | None:
        """The persona with this key, enabled or not."""
        async with self._db.read() as connection:
            return await rows.find(connection, key)

    async def revision(self) -> int:
        """A number that grows with every write of personas, by whichever process."""
        async with self._db.read() as connection:
            return await revisions.number(connection, PERSONAS_REVISION)

    async def save(
        self, form: PersonaForm, *, author: str = "system", message: str = "", expected: int | None = None
    ) -> Persona:
        """Insert or update. A new one is of origin `custom`; saving what is there already writes nothing.

        Args:
            form: the persona.
            author: who saves it, for the history.
            message: why, for the history.
            expected: number of the newest version that the author has seen, read before the content; 0: the
                persona shall be new. None: overwrite whatever is there.

        Raises:
            StoreError: code `stale_version`: somebody else was faster; `agent_exists`: it would be enabled
                under the id of an agent.
        """
        if not self.keep.versioning:
            await self._prepare(f"before changing {form.key}")
        async with self._db.begin(lasting=True) as connection:
            await names.lock(connection)
            known = await rows.find(connection, form.key)
            if expected is not None:
                await versions.expect(connection, form.key, known, expected)
            if await self._save_one(connection, form, known, Note(author, message)) != "unchanged":
                await rows.bump(connection)
            saved = await rows.find(connection, form.key)
        assert saved is not None
        return saved

    async def save_all(
        self, forms: Sequence[PersonaForm], *, author: str = "system", message: str = ""
    ) -> SaveReport:
        """Save many as `save` does, all or none; of two with the same key the last counts.

        Raises:
            StoreError: code `agent_exists`, as of `save`.
        """
        done: dict[str, list[str]] = {"created": [], "updated": [], "unchanged": []}
        await self._prepare(f"before importing {counted(len(forms), 'persona')}")
        async with self._db.begin(lasting=True) as connection:
            await names.lock(connection)
            known = await rows.read_all(connection)
            changes: list[rows.Change] = []
            for form in {form.key: form for form in forms}.values():
                there = known.get(form.key)
                if there and (content_hash(form), form.enabled) == (there.content_hash, there.enabled):
                    done["unchanged"].append(form.key)
                    continue
                done["updated" if there else "created"].append(form.key)
                changes.append(rows.Change(form, there, {"enabled": form.enabled}))
            offered = [c.form.key for c in changes if c.form.enabled and not (c.known and c.known.enabled)]
            for key in sorted(await self._taken(connection, offered)):
                raise names.taken_by_agent(key)
            await self._put_all(connection, changes, Note(author, message))
            if changes:
                await rows.bump(connection)
        return SaveReport(**{step: tuple(keys) for step, keys in done.items()})

    async def delete(self, key: str) -> None:
        """Remove a custom persona; disable a shipped one, so that seeding does not bring it back.

        Its versions stay. An unknown key is no error: what was asked for is so already.
        """
        if _is_gone(await self.get(key)):
            return
        await self._prepare(f"before deleting {key}")
        async with self._db.begin(lasting=True) as connection:
            await names.lock(connection)
            known = await rows.find(connection, key)
            if known is None or _is_gone(known):
                return
            await self._remove(connection, known)
            await rows.bump(connection)

    async def seed(self, forms: Sequence[PersonaForm]) -> SeedReport:
        """Bring the shipped catalogue into the database, in one transaction.

        New personas are added and those the user left alone are updated; whether one is enabled stays as it
        is. What the user edited or made is protected, unless `protect` is off: then it is backed up and
        replaced. A second call with the same forms writes nothing.
        """
        if not self.protect and self.before_replacing is not None:
            replaced = (await self.preview_seeding(forms)).replaced
            if replaced:
                await self.before_replacing(
                    f"before a catalogue replaces {counted(len(replaced), 'persona')}"
                )
        done = _outcomes()
        async with self._db.begin() as connection:
            await names.lock(connection)
            known = await rows.read_all(connection)
            taken = await self._taken(connection, [form.key for form in forms])
            for form in {form.key: form for form in forms}.values():
                outcome = await self._seed_one(connection, form, known.get(form.key), form.key in taken)
                done[outcome].append(form.key)
            if done["added"] or done["updated"] or done["replaced"]:
                await rows.bump(connection)
        return SeedReport(**{step: tuple(keys) for step, keys in done.items()})

    async def preview_seeding(self, forms: Iterable[PersonaForm]) -> SeedReport:
        """What `seed` would do now; writes nothing."""
        forms = list(forms)
        known = {persona.key: persona for persona in await self.all()}
        taken = await self.agents_among([form.key for form in forms])
        done = _outcomes()
        for form in {form.key: form for form in forms}.values():
            outcome = outcome_of_seeding(
                form, known.get(form.key), protect=self.protect, taken=form.key in taken
            )
            done[outcome].append(form.key)
        return SeedReport(**{step: tuple(keys) for step, keys in done.items()})

    async def agents_among(self, keys: Sequence[str]) -> set[str]:
        """Those of the keys that agents have as ids; a persona cannot be enabled under them."""
        async with self._db.read() as connection:
            return await self._taken(connection, keys)

    async def newest(self, key: str | None = None) -> dict[str, int]:
        """Number of the newest version of each persona, or of one; those without versions are left out."""
        async with self._db.read() as connection:
            return await versions.newest(connection, key)

    async def history(self, key: str) -> list[Version]:
        """The versions of a persona, the newest first; those of a deleted one too."""
        async with self._db.read() as connection:
            return await versions.history(connection, key)

    async def version(self, key: str, label: str) -> Version:
        """One version, by its label such as "1.0.2".

        Raises:
            StoreError: code `unknown_version`.
        """
        async with self._db.read() as connection:
            return await versions.find(connection, key, label)

    async def diff(self, key: str, from_label: str, to_label: str) -> str:
        """What changed between two versions, as a unified diff; empty when nothing did.

        Raises:
            StoreError: code `unknown_version`.
        """
        old, new = await self.version(key, from_label), await self.version(key, to_label)
        # In a thread, because very long texts that have little in common take their time.
        return await asyncio.to_thread(versions.unified_diff, old, new)

    async def rollback(self, key: str, label: str, author: str = "system") -> Persona:
        """Make the content of an old version the newest one; brings a deleted custom persona back.

        Raises:
            StoreError: code `unknown_version`, `version_refused` or `agent_exists`.
        """
        old = await self.version(key, label)
        form = old.form()
        await self._prepare(f"before rolling {key} back to {old.label}")
        async with self._db.begin(lasting=True) as connection:
            await names.lock(connection)
            known = await rows.find(connection, key)
            if known is not None and known.content_hash == content_hash(form):
                return known
            if known is None and form.enabled:
                await self._refuse_agent(connection, key)
            await self._put(connection, form, known, Note(author, f"rolled back to {old.label}"))
            await rows.bump(connection)
            saved = await rows.find(connection, key)
        assert saved is not None
        return saved

    async def preview_restoring(self, saved: Mapping[str, Mapping[str, Any]]) -> RestorePlan:
        """What `restore` would do now; writes nothing."""
        return plan(await self.all(), saved, await self.agents_among([*saved]))

    async def restore(
        self, saved: Mapping[str, Mapping[str, Any]], *, author: str, message: str
    ) -> RestorePlan:
        """Bring all personas back to the entries of a backup (`restoring.entry_of`), all or none.

        One whose name an agent has taken since comes back disabled.

        Raises:
            StoreError: code `backup_refused`.
        """
        await self._prepare("before restoring a backup")
        async with self._db.begin(lasting=True) as connection:
            await names.lock(connection)
            known = await rows.read_all(connection)
            todo = plan(known.values(), saved, await self._taken(connection, [*saved]))
            entries = [returning(saved[key], todo.disabled) for key in (*todo.created, *todo.updated)]
            changes = [
                rows.Change(
                    form_of(entry),
                    known.get(entry["key"]),
                    {name: entry[name] for name in ("enabled", "origin", "shipped_hash")},
                )
                for entry in entries
            ]
            await self._put_all(connection, changes, Note(author, message))
            for key in todo.removed:
                await self._remove(connection, known[key])
            if todo.changes:
                await rows.bump(connection)
        return todo

    async def _prepare(self, reason: str) -> None:
        if self.before_destructive is not None:
            await self.before_destructive(reason)

    async def _put(
        self, connection: AsyncConnection, form: PersonaForm, known: Persona | None, note: Note, **more: Any
    ) -> None:
        await rows.put(connection, form, known, **more)
        await versions.record(connection, self.keep, known, form, note)

    async def _put_all(self, connection: AsyncConnection, changes: Sequence[rows.Change], note: Note) -> None:
        await rows.put_all(connection, changes)
        both = ((change.known, change.form) for change in changes)
        await versions.record_all(connection, self.keep, both, note)

    async def _save_one(
        self, connection: AsyncConnection, form: PersonaForm, known: Persona | None, note: Note
    ) -> str:
        if known and (content_hash(form), form.enabled) == (known.content_hash, known.enabled):
            return "unchanged"
        if form.enabled and not (known and known.enabled):
            await self._refuse_agent(connection, form.key)
        await self._put(connection, form, known, note, enabled=form.enabled)
        return "updated" if known else "created"

    async def _seed_one(
        self, connection: AsyncConnection, form: PersonaForm, known: Persona | None, taken: bool
    ) -> Outcome:
        outcome = outcome_of_seeding(form, known, protect=self.protect, taken=taken)
        if outcome in ("added", "updated", "replaced"):
            origin = {"origin": "shipped", "shipped_hash": content_hash(form)}
            await rows.put(connection, form, known, **origin)
            # What somebody wrote is never lost, also where versions are off.
            keep = replace(self.keep, versioning=True) if outcome == "replaced" else self.keep
            await versions.record(connection, keep, known, form, Note("catalogue", outcome))
        return outcome

    async def _taken(self, connection: AsyncConnection, keys: Sequence[str]) -> set[str]:
        return await names.agents_among(connection, keys) | {key for key in keys if self.is_agent(key)}

    async def _refuse_agent(self, connection: AsyncConnection, key: str) -> None:
        if await self._taken(connection, [key]):
            raise names.taken_by_agent(key)

    async def _remove(self, connection: AsyncConnection, known: Persona) -> None:
        await versions.record(connection, self.keep, None, known, versions.FIRST_SEEN)
        if known.origin == "custom":
            await rows.remove(connection, known.key)
        else:
            await rows.change(connection, known.key, enabled=False)


def _outcomes() -> dict[Outcome, list[str]]:
    return {outcome: [] for outcome in get_args(Outcome)}


def _is_gone(persona: Persona | None) -> bool:
    return persona is None or (persona.origin == "shipped" and not persona.enabled)
