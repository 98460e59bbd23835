"""`python -m agent_mode doctor`: which of the steps to a chat are done, and how to do the next one."""

from __future__ import annotations

import asyncio
import json
import queue
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from agent_mode.admin import findings, setup
from agent_mode.admin.findings import Finding
from agent_mode.admin.setup import Facts
from agent_mode.errors import StoreError
from agent_mode.observe.logs import get_logger
from agent_mode.server.prepare import KEY_FILE
from agent_mode.settings import Settings
from agent_mode.store.db import Database
from agent_mode.store.migrate import HEAD
from agent_mode.valves import PersonaValves

log = get_logger(__name__)

_MARKS = {"done": "ok   ", "open": "open ", "wrong": "WRONG"}
_ORDER = {"server": 0, "data": 1, "database": 2}
_ANY = ("0.0.0.0", "::", "")


def add_command(commands: Any) -> None:
    """Adds `doctor` to the parser of `python -m agent_mode`."""
    commands.add_parser(
        "doctor",
        help="check what is set up: server, data, LLM, Open WebUI, key, connection, models, access, tools",
    )


def run(settings: Settings) -> tuple[list[str], bool]:
    """Checks everything at once; returns the lines to print, and whether nothing is wrong."""
    found = examine(facts_of(settings), settings)
    lines = [line for finding in found for line in _lines(finding)]
    wrong = [finding for finding in found if finding.state == "wrong"]
    if wrong:
        lines.append(f"{len(wrong)} of {len(found)} checks found something wrong.")
    return lines, not wrong


def facts_of(settings: Settings) -> Facts:
    """What there is to check, as `serve` would find it; nothing is made."""
    valves = _valves(settings.data_dir / "pipelines" / "personas" / "valves.json")
    host = "127.0.0.1" if settings.host in _ANY else settings.host
    return setup.facts_of(
        settings,
        llm_base_url=valves.llm_base_url,
        llm_api_key=valves.llm_api_key,
        llm_model=valves.llm_model,
        connection_key=settings.pipelines_api_key or _key(settings.data_dir / KEY_FILE),
        server_url=f"http://{f'[{host}]' if ':' in host else host}:{settings.port}",
    )


def examine(facts: Facts, settings: Settings) -> list[Finding]:
    """Runs the checks side by side; one that takes too long is left behind."""
    answers: queue.SimpleQueue[Finding] = queue.SimpleQueue()
    steps = {step: partial(check, facts) for step, check in setup.steps(facts).items()}
    steps |= {"data": partial(check_data, settings), "database": partial(check_database, settings)}
    for check in steps.values():
        # Daemons: what never answers must not keep the command from ending.
        threading.Thread(target=lambda check=check: answers.put(check()), daemon=True).start()
    found: dict[str, Finding] = {}
    deadline = time.monotonic() + findings.SECONDS
    while len(found) < len(steps):
        try:
            finding = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        found[finding.step] = finding
    ordered = sorted(steps, key=lambda step: _ORDER.get(step, len(_ORDER)))
    return findings.folded([found.get(step) or findings.late(step) for step in ordered])


def check_data(settings: Settings) -> Finding:
    """Whether files can be written where data is kept."""
    step, folder = "data", settings.data_dir
    if not folder.exists():
        text = f"{folder.resolve()} is not there yet."
        return findings.finding(
            step,
            "open",
            text,
            "The first start makes it. If there should be one, set "
            "AGENT_MODE_DATA_DIR as the running server has it.",
        )
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        cure = (
            "Make the folder writable for this user, free some space on its disk, or set AGENT_MODE_DATA_DIR."
        )
        return findings.finding(step, "wrong", f"{folder.resolve()}: {error.strerror}.", cure)
    return findings.finding(step, "done", f"{folder.resolve()}.")


def check_database(settings: Settings) -> Finding:
    """Whether the database opens, and is whole, and what the next start does to it."""
    step = "database"
    try:
        schema = asyncio.run(_try_database(settings.resolved_database_url()))
    except StoreError as error:
        if error.code == "database_missing":
            return findings.finding(step, "open", "There is none yet.", "The first start makes it.")
        return findings.finding(step, "wrong", error.message, error.hint)
    if schema is None:
        return findings.finding(step, "open", "It opens, and is empty.", "The next start makes its tables.")
    if schema != HEAD:
        text = f"It opens, and is whole. The next start brings its schema from version {schema} to {HEAD}."
        cure = "Back it up first (docs/backup.md): an older Agent Mode does not open it after that."
        return findings.finding(step, "open", text, cure)
    return findings.finding(step, "done", "It opens, and is whole.")


async def _try_database(url: str) -> str | None:
    """The version of its schema."""
    db = await Database.open_as_it_is(url)
    try:
        await db.check()
        return await db.schema()
    finally:
        await db.close()


def _lines(finding: Finding) -> list[str]:
    lines = [f"{_MARKS[finding.state]}  {finding.title}: {finding.text}"]
    return [*lines, f"       → {finding.cure}"] if finding.cure else lines


def _valves(path: Path) -> PersonaValves:
    try:
        return PersonaValves.model_validate(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return PersonaValves.model_validate({})
    except (OSError, ValueError) as error:
        log.warning("the valves of the personas cannot be read, defaults hold", file=path, reason=str(error))
        return PersonaValves.model_validate({})


def _key(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeError):
        return None
