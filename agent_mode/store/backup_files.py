"""Backup files: their names, their form, and how one is written so that it is there whole or not at all.

    {"format": "agent-mode-backup", "version": 1, "created_at": "…", "reason": "…", "sha256": "…",
     "body": {"personas": [{"key": "coder", …}, …]}}

The hash is that of the body as canonical JSON (`forms.json_hash`), so that equal personas have equal hashes.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import aiofiles
import aiofiles.os

from agent_mode.store.forms import json_hash

FORMAT = "agent-mode-backup"
VERSION = 1
LEFTOVER_SECONDS = 3600.0
"""Age from which an unfinished file is nobody's work any more."""

_NAME = re.compile(r"personas-(\d{8}T\d{6}\.\d{6})Z-[0-9a-f]{8}\.json", re.ASCII)
_TEMPORARY = re.compile(r"\.personas-[^/]*\.tmp")
_TIME = "%Y%m%dT%H%M%S.%f"

Entries = dict[str, dict[str, Any]]
"""Personas by key, each as `restoring.entry_of` describes it."""


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup file, as it was found."""

    name: str
    created_at: datetime
    """Aware, in UTC."""
    reason: str = ""
    personas: int = 0
    """How many there are in it."""
    sha256: str = ""
    """Hash of what is in it; equal for equal personas."""
    problem: Literal["", "damaged", "newer", "unreadable"] = ""
    detail: str = field(default="", compare=False)
    """The problem in words."""

    @property
    def ok(self) -> bool:
        """True if it can be restored."""
        return not self.problem


def sealed(entries: Entries, reason: str, now: datetime) -> tuple[Backup, bytes]:
    """A new backup and the bytes of its file."""
    body = {"personas": [entries[key] for key in sorted(entries)]}
    digest = json_hash(body)
    moment = now.astimezone(UTC)
    name = f"personas-{moment.strftime(_TIME)}Z-{digest[:8]}.json"
    header = {"format": FORMAT, "version": VERSION, "created_at": moment.isoformat(), "reason": reason}
    text = json.dumps(header | {"sha256": digest, "body": body}, ensure_ascii=False, indent=1)
    return Backup(name, moment, reason, len(entries), digest), text.encode()


def moment_of(name: str) -> datetime | None:
    """When the backup of this name was made; None if no backup is called so."""
    match = _NAME.fullmatch(name)
    try:
        return datetime.strptime(match[1], _TIME).replace(tzinfo=UTC) if match else None
    except ValueError:
        return None


def opened(name: str, moment: datetime, data: bytes) -> tuple[Backup, Entries]:
    """What is in a file; nothing if it has a problem."""
    try:
        document = json.loads(data)
        if document["format"] != FORMAT:
            raise ValueError
        if document["version"] > VERSION:
            detail = "It was made by a newer version of Agent Mode."
            return Backup(name, moment, problem="newer", detail=detail), {}
        body, digest, reason = document["body"], document["sha256"], document["reason"]
        entries: Entries = {entry["key"]: entry for entry in body["personas"]}
        sound = len(entries) == len(body["personas"]) and all(map(_is_sound, entries.values()))
        if digest == json_hash(body) and sound and isinstance(reason, str):
            return Backup(name, moment, reason, len(entries), digest), entries
        detail = "What it holds does not match its checksum."
    except (ValueError, TypeError, KeyError, RecursionError):
        detail = "It is cut off, or is no backup." if data else "It is empty."
    return Backup(name, moment, problem="damaged", detail=detail), {}


def _is_sound(entry: dict[str, Any]) -> bool:
    return (
        isinstance(entry["key"], str)
        and isinstance(entry["enabled"], bool)
        and entry["origin"] in ("shipped", "custom")
        and isinstance(entry["shipped_hash"], str | None)
    )


async def read(folder: Path, name: str, moment: datetime) -> tuple[Backup, Entries]:
    """Read and check a file; nothing is raised."""
    try:
        async with aiofiles.open(folder / name, "rb") as file:
            data = await file.read()
    except OSError as error:
        return Backup(name, moment, problem="unreadable", detail=f"{error.strerror}."), {}
    return await asyncio.to_thread(opened, name, moment, data)


async def names(folder: Path) -> list[str]:
    """The names of all backups, the newest first.

    Raises:
        OSError: the folder cannot be read; a missing one is just empty.
    """
    try:
        found = await aiofiles.os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted((name for name in found if moment_of(name)), reverse=True)


async def write(folder: Path, name: str, data: bytes) -> None:
    """Write a file that appears under its name only when all of it is safely on the disk.

    Raises:
        OSError: no half file is left behind.
    """
    await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
    temporary = folder / f".{name}.{secrets.token_hex(4)}.tmp"
    try:
        async with aiofiles.open(temporary, "xb", opener=_private) as file:
            await file.write(data)
            await file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        await aiofiles.os.replace(temporary, folder / name)
    finally:
        await asyncio.to_thread(temporary.unlink, missing_ok=True)
    await asyncio.to_thread(_sync_folder, folder)


async def sweep(folder: Path) -> None:
    """Remove what crashed writers left behind.

    Raises:
        OSError: the folder cannot be read or changed.
    """
    await asyncio.to_thread(_sweep, folder)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(folder: Path) -> None:
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if _TEMPORARY.fullmatch(path.name) and time.time() - path.stat().st_mtime > LEFTOVER_SECONDS:
            path.unlink(missing_ok=True)
