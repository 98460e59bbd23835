"""Backups of all personas: made before anything can be lost, verified, cleaned up, restored.

backups = Backups(folder, store)
store.before_destructive = backups.before_destructive
await backups.maintain()                    # now and then
print(await backups.preview(name))
await backups.restore(name, author="Ada")
"""

from __future__ import annotations

import asyncio
import builtins
import errno
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiofiles.os

from agent_mode.errors import StoreError
from agent_mode.observe.logs import get_logger
from agent_mode.store import backup_files as files
from agent_mode.store.backup_files import Backup, Entries
from agent_mode.store.personas import PersonaStore
from agent_mode.store.restoring import RestorePlan, entry_of
from agent_mode.store.retention import surplus

__all__ = ["Backup", "BackupPolicy", "Backups", "RestorePlan"]

log = get_logger(__name__)

MAX_AGE = timedelta(days=7)
"""A good backup that is younger always exists, whether anything changed or not."""
RETRY_AFTER = timedelta(minutes=10)
"""When maintenance tries again after a failure, such as a full disk, unless the personas change before."""


@dataclass(frozen=True, slots=True)
class BackupPolicy:
    """Whether backups are made without being asked for, and how many files are kept."""

    automatic: bool = True
    max_files: int = 10

    def __post_init__(self) -> None:
        if self.max_files < 1:
            raise ValueError("max_files must be at least 1")


def _now() -> datetime:
    return datetime.now(UTC)


class Backups:
    """The backups in one folder. All methods raise `StoreError`; a failed one has changed nothing.

    Args:
        folder: where the files lie; made when the first is written.
        store: the personas.
        policy: may be replaced at any time.
        clock: tells the time, aware.
    """

    def __init__(
        self,
        folder: Path,
        store: PersonaStore,
        policy: BackupPolicy | None = None,
        *,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self.folder = folder
        self.policy = policy or BackupPolicy()
        self._store = store
        self._clock = clock
        self._writing = asyncio.Lock()
        self._in_use: set[str] = set()
        self._seen: tuple[int, datetime] | None = None
        """Revision of the store at the last look, and when to look again even if it stays."""

    async def make(self, reason: str, *, force: bool = False) -> Backup | None:
        """Back up all personas; None if the newest good backup holds the same, unless forced.

        Raises:
            StoreError: code `backup_not_written`: the disk is full, for example.
        """
        async with self._writing:
            entries = {persona.key: entry_of(persona) for persona in await self._store.all()}
            backup, data = await asyncio.to_thread(files.sealed, entries, reason, self._clock())
            if not force and await self._newest_hash() == backup.sha256:
                return None
            try:
                await files.write(self.folder, backup.name, data)
            except OSError as error:
                raise _not_written(self.folder, error) from error
            log.info("personas backed up", file=backup.name, count=backup.personas, reason=reason)
            await self._clean_up()
            return backup

    async def before_destructive(self, reason: str) -> None:
        """What `PersonaStore.before_destructive` is made for: `make`, unless automatic backups are off."""
        if self.policy.automatic:
            await self.make(reason)

    async def maintain(self) -> Backup | None:
        """Make a backup if the personas changed or the newest is 7 days old; cheap where nothing is due."""
        if not self.policy.automatic:
            return None
        revision, now = await self._store.revision(), self._clock()
        if self._seen is not None and self._seen[0] == revision and now < self._seen[1]:
            return None
        self._seen = (revision, now + RETRY_AFTER)
        # Ages are absolute: a file from a time when the clock was wrong must not silence us for long.
        ages = [abs(now - backup.created_at) for backup in await self.list() if backup.ok]
        age = min(ages, default=MAX_AGE)
        due = age >= MAX_AGE
        made = await self.make("weekly" if due else "personas changed", force=due)
        async with self._writing:
            await self._sweep()
        self._seen = (revision, now + (MAX_AGE if made else MAX_AGE - age))
        return made

    async def verify(self, name: str) -> Backup:
        """Read a backup and check it.

        Raises:
            StoreError: code `backup_unknown`, `backup_damaged`, `backup_newer` or `backup_unreadable`.
        """
        return (await self._open(name))[0]

    async def preview(self, name: str) -> RestorePlan:
        """What `restore` would do now; raises as `verify` does."""
        _, entries = await self._open(name)
        return await self._store.preview_restoring(entries)

    async def restore(self, name: str, author: str = "system") -> RestorePlan:
        """Back up the present state, then bring all personas to that of the backup, in one transaction.

        Shipped personas that are newer than the backup stay; custom ones go, their versions stay. One whose
        name an agent has taken since comes back disabled.

        Raises:
            StoreError: as `make` and `verify`, or `backup_refused`; nothing was changed.
        """
        backup, entries = await self._open(name)
        planned = await self._store.preview_restoring(entries)
        if not planned.changes:
            return planned
        self._in_use.add(name)
        try:
            await self.make(f"before restoring {name}")
            message = f"restored from the backup of {backup.created_at:%Y-%m-%d %H:%M:%S} UTC"
            done = await self._store.restore(entries, author=author, message=message)
        finally:
            self._in_use.discard(name)
        log.info("personas restored", file=name, created=len(done.created), updated=len(done.updated))
        return done

    async def list(self) -> builtins.list[Backup]:
        """All backups, the newest first, each read and checked."""
        return [(await files.read(self.folder, *found))[0] for found in await self._names()]

    async def _names(self) -> builtins.list[tuple[str, datetime]]:
        try:
            names = await files.names(self.folder)
        except OSError as error:
            raise StoreError(
                f"The backups in {self.folder} cannot be listed: {error.strerror}.",
                code="backup_unreadable",
                hint="Make the folder readable for this user.",
            ) from error
        return [(name, moment) for name in names if (moment := files.moment_of(name))]

    async def _open(self, name: str) -> tuple[Backup, Entries]:
        moment = files.moment_of(name)
        if moment is None or (name, moment) not in await self._names():
            raise StoreError(
                "There is no such backup.",
                code="backup_unknown",
                status=404,
                hint=f"Name one of the files in {self.folder}.",
            )
        backup, entries = await files.read(self.folder, name, moment)
        if not backup.ok:
            raise StoreError(
                f"The backup {name} is {backup.problem}: {backup.detail}",
                code=f"backup_{backup.problem}",
                status=409,
                hint="Nothing was changed. Restore another backup.",
            )
        return backup, entries

    async def _newest_hash(self) -> str | None:
        for found in await self._names():
            backup, _ = await files.read(self.folder, *found)
            if backup.ok:
                return backup.sha256
        return None

    async def _clean_up(self) -> None:
        for backup in surplus(await self.list(), self._clock(), self.policy.max_files):
            if backup.name in self._in_use:
                continue
            try:
                await aiofiles.os.remove(self.folder / backup.name)
            except FileNotFoundError:
                continue  # another process was faster
            except OSError as error:
                log.warning("old backup cannot be removed", file=backup.name, reason=error.strerror)

    async def _sweep(self) -> None:
        try:
            await files.sweep(self.folder)
        except OSError as error:
            log.warning("unfinished backups cannot be removed", reason=error.strerror)


def _not_written(folder: Path, error: OSError) -> StoreError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    cure = "Free some space on that disk" if full else "Make the folder writable for this user"
    return StoreError(
        f"The backup cannot be written to {folder}: {error.strerror}.",
        code="backup_not_written",
        status=507 if full else 500,
        hint=f"{cure}, or turn automatic backups off. No persona and no older backup was changed.",
    )
