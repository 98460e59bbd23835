"""`kill -9` at any moment: the store opens, is sound, and holds all that was acknowledged.

25 kills in an ordinary run; 200 with AGENT_MODE_TEST_FULL=1.

A worker changes personas and makes backups as fast as it can. Before each change it writes to its stdout what
the personas will be, and after the change that it is done. So after a kill the store has to show either what
was acknowledged last, or that and the one change that was under way.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest
from sqlalchemy import text

from agent_mode.observe import logs
from agent_mode.store.backup_files import LEFTOVER_SECONDS
from agent_mode.store.backups import Backups
from agent_mode.store.db import Database
from agent_mode.store.personas import Keep, Persona, PersonaForm, PersonaStore

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
KILLS = 200 if os.environ.get("AGENT_MODE_TEST_FULL") else 25
LIVES = 8
"""How many kills one database suffers; then the next is made, so that some come while it is made."""
LONGEST_PAUSE = 0.05
KEYS = ("aa", "bb", "cc")

State = dict[str, str]
"""The prompt of each persona."""


def state_of(personas: list[Persona]) -> State:
    return {persona.key: persona.prompt for persona in personas}


def form(key: str, prompt: str) -> PersonaForm:
    return PersonaForm(key=key, name=key, prompt=prompt, extras={"padding": "x" * 2000})


async def open_store(folder: Path) -> tuple[Database, PersonaStore, Backups]:
    database = await Database.open(f"sqlite+aiosqlite:///{folder / 'agent_mode.db'}")
    store = PersonaStore(database, Keep(history_limit=20))
    backups = Backups(folder / "backups", store)
    store.before_destructive = backups.before_destructive
    return database, store, backups


# The worker


def say(**what: Any) -> None:
    os.write(1, f"{json.dumps(what)}\n".encode())


class Worker:
    """Does one random change after the other."""

    def __init__(self, store: PersonaStore, backups: Backups, state: State) -> None:
        self.store = store
        self.backups = backups
        self.state = state
        self.backed_up: dict[str, State] = {}

    async def run(self) -> None:
        say(done=self.state)
        steps = [self.save, self.save, self.save_two, self.delete, self.roll_back, self.back_up, self.restore]
        while True:
            await random.choice(steps)(random.choice(KEYS))
            say(done=self.state)

    def will_be(self, state: State) -> None:
        say(going_to=state)
        self.state = state

    async def save(self, key: str) -> None:
        prompt = f"{time.time_ns()}"
        self.will_be(self.state | {key: prompt})
        await self.store.save(form(key, prompt), author="worker")

    async def save_two(self, key: str) -> None:
        prompt = f"{time.time_ns()}"
        self.will_be(self.state | dict.fromkeys({key, KEYS[0]}, prompt))
        await self.store.save_all([form(each, prompt) for each in (key, KEYS[0])])

    async def delete(self, key: str) -> None:
        self.will_be({each: prompt for each, prompt in self.state.items() if each != key})
        await self.store.delete(key)

    async def roll_back(self, key: str) -> None:
        if history := await self.store.history(key):
            version = random.choice(history)
            self.will_be(self.state | {key: version.content["prompt"]})
            await self.store.rollback(key, version.label)

    async def back_up(self, _: str) -> None:
        if backup := await self.backups.make("by hand", force=True):
            self.backed_up[backup.name] = self.state
            say(backup=backup.name)

    async def restore(self, _: str) -> None:
        there = [backup.name for backup in await self.backups.list() if backup.name in self.backed_up]
        if there:
            name = random.choice(there)
            self.will_be(self.backed_up[name])
            await self.backups.restore(name)


async def work(folder: Path) -> None:
    _, store, backups = await open_store(folder)

    async def back_up() -> None:
        while True:
            if backup := await backups.make("meanwhile", force=True):
                say(backup=backup.name)
            await asyncio.sleep(0.03)

    changes = Worker(store, backups, state_of(await store.all())).run()
    await asyncio.gather(changes, back_up())


def nursery() -> None:
    """Forks a worker for each folder named on stdin: a new interpreter each time would take too long."""
    logs.configure()
    import alembic.command
    import alembic.config  # noqa: F401

    for line in sys.stdin:
        folder = Path(line.strip())
        if not (child := os.fork()):
            os.dup2(os.open(folder / "stdout", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
            asyncio.run(work(folder))
        os.write(1, f"{child}\n".encode())
        os.write(1, f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n".encode())


# The test


@dataclass
class Record:
    """What the worker said until it was killed."""

    possible: list[State] = field(default_factory=list)
    """Acknowledged last, and then what may have happened as well."""
    backups: list[str] = field(default_factory=list)
    changes: int = 0
    """How many were acknowledged."""

    @classmethod
    def read(cls, path: Path, before: State) -> Record:
        record = cls([before])
        for line in path.read_text().splitlines() if path.exists() else ():
            said = json.loads(line)
            if "done" in said:
                record.changes += len(record.possible) - 1
                record.possible = [said["done"]]
            elif "going_to" in said:
                record.possible.append(said["going_to"])
            else:
                record.backups.append(said["backup"])
        return record


@contextmanager
def running_nursery(log: IO[bytes]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-W", "error", "-m", "tests.server.test_kill"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def live_and_die(process: subprocess.Popen[str], folder: Path) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    stdout = folder / "stdout"
    stdout.unlink(missing_ok=True)
    process.stdin.write(f"{folder}\n")
    process.stdin.flush()
    worker = int(process.stdout.readline())
    try:
        # One in four dies while it opens the store, the others some changes later.
        wait_for(stdout, lines=random.choice((0, 2, 5, 9)))
        time.sleep(random.uniform(0, LONGEST_PAUSE))
    finally:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
    assert int(process.stdout.readline()) == -signal.SIGKILL, "the worker ended by itself"


def wait_for(stdout: Path, lines: int) -> None:
    give_up = time.monotonic() + 30
    while lines and not (stdout.exists() and stdout.read_bytes().count(b"\n") >= lines):
        assert time.monotonic() < give_up, "the worker does nothing"
        time.sleep(0.002)


async def check(folder: Path, record: Record, numbers: dict[str, int]) -> State:
    database, store, backups = await open_store(folder)
    try:
        async with database.read() as connection:
            assert (await connection.execute(text("PRAGMA integrity_check"))).scalars().all() == ["ok"]
        personas = await store.all()
        assert state_of(personas) in record.possible
        for persona in personas:
            await check_history(store, persona, numbers)
        await check_backups(backups, record)
    finally:
        await database.close()
    return state_of(personas)


async def check_history(store: PersonaStore, persona: Persona, numbers: dict[str, int]) -> None:
    history = await store.history(persona.key)
    assert persona.content_hash == history[0].content_hash
    newest = history[0].number
    assert [version.number for version in history] == [newest - n for n in range(len(history))]
    assert newest >= numbers.get(persona.key, 0)
    numbers[persona.key] = newest


async def check_backups(backups: Backups, record: Record) -> None:
    found = await backups.list()
    assert all(backup.ok for backup in found)
    if record.backups:
        assert found[0].name >= max(record.backups)
    if found:
        await backups.preview(found[-1].name)


async def test_nothing_acknowledged_is_lost(
    tmp_path: Path, record_testsuite_property: Callable[[str, object], None]
) -> None:
    changes = made = killed_early = 0
    state: State = {}
    numbers: dict[str, int] = {}
    with (tmp_path / "log").open("wb") as log, running_nursery(log) as process:
        for kill in range(KILLS):
            folder = tmp_path / f"{kill // LIVES}"
            if not folder.exists():
                folder.mkdir()
                state, numbers = {}, {}
            live_and_die(process, folder)
            record = Record.read(folder / "stdout", state)
            state = await check(folder, record, numbers)
            changes += record.changes
            made += len(record.backups)
            killed_early += not record.changes
    record_testsuite_property("kills", f"{KILLS}, {killed_early} of them before the first change was done")
    record_testsuite_property("acknowledged", f"{changes} changes, {made} backups")
    assert changes >= KILLS // 2
    assert made >= KILLS // 10
    await finish(tmp_path / "0")


async def finish(folder: Path) -> None:
    """What the kills left behind is swept away, and the newest backup can be restored."""
    for path in (folder / "backups").iterdir():
        os.utime(path, (0, time.time() - LEFTOVER_SECONDS - 1))
    database, _, backups = await open_store(folder)
    await backups.maintain()
    await backups.restore((await backups.list())[-1].name)
    await database.close()
    assert all(path.suffix == ".json" for path in (folder / "backups").iterdir())


if __name__ == "__main__":
    nursery()
