"""The commands that work on the store without a running server: import, export, backup, restore, update.

Each shows first what it would do; `--apply` does it. They may run beside a running server, which sees the
change within seconds.
"""

from __future__ import annotations

import getpass
import json
import os
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiofiles

from agent_mode.admin import agent_files
from agent_mode.admin import persona_files as files
from agent_mode.counting import counted
from agent_mode.errors import CatalogueError, ConfigurationError, StoreError
from agent_mode.observe.logs import get_logger
from agent_mode.prompts import guard
from agent_mode.settings import Settings
from agent_mode.store import formats, updates
from agent_mode.store.agents import AgentStore
from agent_mode.store.audit import AuditStore
from agent_mode.store.backup_files import Backup
from agent_mode.store.backups import BackupPolicy, Backups
from agent_mode.store.db import Database
from agent_mode.store.download import Source
from agent_mode.store.forms import PersonaForm
from agent_mode.store.imports import ImportStep, apply_import, in_words
from agent_mode.store.personas import PersonaStore
from agent_mode.store.versions import Keep
from agent_mode.valves import HotswapValves

log = get_logger(__name__)

DRY = "Nothing was changed. Add --apply to do it."


def add_commands(commands: Any) -> None:
    """Adds the commands to the parser of `python -m agent_mode`."""
    into = commands.add_parser("import", help="bring personas or agents of a file into the store")
    into.add_argument("file", type=Path, help="JSON, PNG card, Markdown or CSV; the format is recognised")
    into.add_argument("--overwrite", action="store_true", help="replace what was written or edited here")
    _apply_flag(into)
    out = commands.add_parser("export", help="write personas, or the agents, to a file")
    out.add_argument("file", type=Path)
    exported = ", ".join(item.name for item in formats.FORMATS.values() if item.write)
    out.add_argument("--format", default="agent-mode", help=f"one of: {exported}")
    out.add_argument("--keys", default="", help="which personas, comma separated; default: all")
    out.add_argument("--agents", action="store_true", help="all agents instead, with their secrets")
    back = commands.add_parser("backup", help="back up all personas, or list the backups")
    back.add_argument("--list", action="store_true", help="list the backups")
    restore = commands.add_parser("restore", help="bring all personas back to a backup")
    restore.add_argument("name", help="name of the backup, as `backup --list` shows it")
    _apply_flag(restore)
    update = commands.add_parser(
        "update", help="take personas from the catalogues in AGENT_MODE_CATALOGUE_URLS"
    )
    _apply_flag(update)


def _apply_flag(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--apply", action="store_true", help="do it; without, only what would happen is shown"
    )


async def run(arguments: Namespace, settings: Settings) -> list[str]:
    """Runs one command; returns the lines to print.

    Raises:
        AgentModeError: it cannot be done; nothing was changed.
    """
    async with _store(settings) as (store, agents, backups, audit):
        match arguments.command:
            case "import":
                return await _import(store, agents, audit, arguments, settings)
            case "export" if arguments.agents:
                return await _export_agents(agents, arguments)
            case "export":
                return await _export(store, arguments)
            case "backup":
                return await _backup(backups, audit, arguments)
            case "restore":
                return await _restore(backups, audit, arguments)
            case _:
                return await _update(store, audit, arguments, settings)


@asynccontextmanager
async def _store(
    settings: Settings,
) -> AsyncIterator[tuple[PersonaStore, AgentStore, Backups, AuditStore]]:
    db = await Database.open(settings.resolved_database_url(), create=False)
    try:
        valves = await _valves(settings)
        store = PersonaStore(db, Keep(valves.enable_persona_versioning, valves.version_history_limit))
        store.protect = valves.protect_custom_personas
        policy = BackupPolicy(valves.enable_automatic_backups, valves.max_backup_files)
        backups = Backups(settings.data_dir / "backups", store, policy)
        store.before_destructive = backups.before_destructive
        store.before_replacing = backups.make
        audit = AuditStore(db)
        try:
            yield store, AgentStore(db), backups, audit
        finally:
            await audit.close()
    finally:
        await db.close()


async def _valves(settings: Settings) -> HotswapValves:
    """The filter's valves as an admin saved them for `serve`, else as they are by default."""
    path = settings.data_dir / "pipelines" / "hotswap" / "valves.json"
    try:
        async with aiofiles.open(path, "rb") as file:
            return HotswapValves.model_validate(json.loads(await file.read()))
    except FileNotFoundError:
        return HotswapValves.model_validate({})
    except (OSError, ValueError) as error:
        log.warning("the filter's valves cannot be read, defaults hold", file=path, reason=str(error))
        return HotswapValves.model_validate({})


def _record(audit: AuditStore, action: str, kind: str, target: str, text: str = "") -> None:
    """Has recorded what a command did."""
    audit.put(_author(), action, kind, target, text, way="command line")


async def _import(
    store: PersonaStore, agents: AgentStore, audit: AuditStore, arguments: Namespace, settings: Settings
) -> list[str]:
    try:
        async with aiofiles.open(arguments.file, "rb") as file:
            data = await file.read(formats.SIZE_LIMIT + 1)
    except OSError as error:
        raise CatalogueError(
            f"{arguments.file} cannot be read ({error.strerror}).", hint="Check the path.", field="file"
        ) from error
    if (entries := agent_files.read(data)) is not None:
        return await _import_agents(agents, store, audit, arguments, entries)
    found = await files.incoming(store, data, arguments.file.name, overwrite=arguments.overwrite)
    found.refuse_flagged(settings.override_phrases)
    plan = found.plan
    lines = [_line(step, planned=not arguments.apply) for step in plan.steps]
    lines += [f"! {key} carries override phrases: {', '.join(flags)}" for key, flags in found.flagged.items()]
    if not arguments.apply:
        return [*lines, DRY]
    report = await apply_import(store, plan, _author(), message=f"imported from {arguments.file.name}")
    counts = _counts(report.steps)
    _record(audit, "imported", "persona", arguments.file.name, counts)
    return [*(_line(step, planned=False) for step in report.steps), f"Done: {counts}."]


async def _import_agents(
    agents: AgentStore, personas: PersonaStore, audit: AuditStore, arguments: Namespace, entries: list[Any]
) -> list[str]:
    steps = await agent_files.bring(
        agents,
        personas,
        entries,
        _author(),
        f"imported from {arguments.file.name}",
        overwrite=arguments.overwrite,
        apply=arguments.apply,
    )
    lines = [_line(step, planned=not arguments.apply) for step in steps]
    if not arguments.apply:
        return [*lines, DRY]
    counts = _counts(steps)
    _record(audit, "imported", "agent", arguments.file.name, counts)
    return [*lines, f"Done: {counts}."]


def _counts(steps: Sequence[ImportStep]) -> str:
    outcomes = Counter(step.outcome for step in steps)
    return ", ".join(f"{outcomes[o]} {o}" for o in ("created", "updated", "unchanged", "refused"))


def _author() -> str:
    """Who runs the command, for the history; a container's user may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _flags(form: PersonaForm) -> list[str]:
    return guard.override_phrases(form.prompt)


def _line(step: ImportStep, *, planned: bool) -> str:
    reason = f": {step.reason}" if step.reason else ""
    outcome = in_words(step.outcome, planned=planned)
    return f"{outcome:<{16 if planned else 10}} {step.key or '–':<24} {step.name_in_file}{reason}"


async def _export(store: PersonaStore, arguments: Namespace) -> list[str]:
    wanted = {key.strip() for key in arguments.keys.split(",")} - {""}
    personas = await files.chosen(store, sorted(wanted) or None)
    await _write(arguments.file, formats.write(arguments.format, personas))
    return [f"{counted(len(personas), 'persona')} written to {arguments.file}."]


async def _export_agents(store: AgentStore, arguments: Namespace) -> list[str]:
    data, count = await agent_files.written(store)
    await _write(arguments.file, data, mode=0o600)
    return [f"{counted(count, 'agent')} written to {arguments.file}, secrets included: keep it safe."]


async def _write(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Writes a file; a new one has this mode, less the umask."""
    try:
        async with aiofiles.open(path, "wb", opener=partial(os.open, mode=mode)) as file:
            await file.write(data)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written ({error.strerror}).", hint="Choose another place."
        ) from error


def _listed(backup: Backup) -> str:
    size = counted(backup.personas, "persona") if backup.ok else "–"
    return f"{backup.name}  {size:>14}  {'ok' if backup.ok else 'DAMAGED'}  {backup.reason}"


async def _backup(backups: Backups, audit: AuditStore, arguments: Namespace) -> list[str]:
    if arguments.list:
        known = await backups.list()
        return [_listed(found) for found in known] or ["There is no backup yet."]
    made = await backups.make("by hand")
    if made:
        _record(audit, "made", "backup", made.name)
    return [f"Backed up: {made.name}." if made else "Nothing changed since the newest backup."]


async def _restore(backups: Backups, audit: AuditStore, arguments: Namespace) -> list[str]:
    if arguments.apply:
        plan = await backups.restore(arguments.name, _author())
        _record(audit, "restored", "backup", arguments.name)
    else:
        plan = await backups.preview(arguments.name)
    parts = {"created": plan.created, "updated": plan.updated, "removed": plan.removed, "kept": plan.kept}
    lines = [f"{word:<10} {', '.join(keys)}" for word, keys in parts.items() if keys]
    lines.append(f"{'unchanged':<10} {len(plan.unchanged)}")
    lines += [f"! {key} comes back disabled: an agent has the same name" for key in plan.disabled]
    return [*lines, "Done." if arguments.apply else DRY]


async def _update(
    store: PersonaStore, audit: AuditStore, arguments: Namespace, settings: Settings
) -> list[str]:
    sources = settings.catalogue_sources()
    if not sources:
        raise ConfigurationError(
            "No catalogue is set.",
            hint="Set AGENT_MODE_CATALOGUE_URLS to https://host/file.json#sha256=… addresses.",
            field="AGENT_MODE_CATALOGUE_URLS",
        )
    lines: list[str] = []
    for text in sources:
        source = Source.parse(text)
        report = await updates.take_over(
            store,
            source,
            settings.data_dir / "catalogues",
            lambda form: _acceptable(form, settings, lines),
            dry=not arguments.apply,
        )
        counts: Sequence[tuple[str, Sequence[str]]] = (
            ("added", report.added),
            ("updated", report.updated),
            ("replaced", report.replaced),
            ("protected", report.protected),
        )
        lines.extend(f"{word:<10} {', '.join(keys)}" for word, keys in counts if keys)
        if arguments.apply:
            # Without its address, which may hold a password.
            done = ", ".join(f"{len(keys)} {word}" for word, keys in counts if keys)
            _record(audit, "updated", "catalogue", source.host, done or "nothing new")
        lines.append(f"{'unchanged':<10} {len(report.unchanged)}")
    return [*lines, "Done." if arguments.apply else DRY]


def _acceptable(form: PersonaForm, settings: Settings, lines: list[str]) -> bool:
    flags = _flags(form)
    if flags:
        lines.append(f"! {form.key} carries override phrases: {', '.join(flags)}")
    return not flags or settings.override_phrases == "warn"
