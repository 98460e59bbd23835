"""For tests of the sandbox: runs code, watches that the event loop goes on, looks for what is left behind."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent_mode.errors import SandboxError
from agent_mode.sandbox.items import Ask, Item, Limits, Output
from agent_mode.sandbox.sandbox import Sandbox
from tests.patience import PATIENCE, eventually


async def echo(kind: str, arguments: dict[str, Any]) -> Any:
    """Answers each question with the question."""
    return {"kind": kind, **arguments}


@dataclass
class Outcome:
    """What became of a run."""

    items: list[Item] = field(default_factory=list)
    error: SandboxError | None = None
    seconds: float = 0.0

    @property
    def text(self) -> str:
        return "".join(item.text for item in self.items if isinstance(item, Output))

    @property
    def code(self) -> str | None:
        return self.error.code if self.error else None

    def only(self, kind: type[Any]) -> list[Any]:
        return [item for item in self.items if isinstance(item, kind)]


async def run(
    sandbox: Sandbox, code: str, limits: Limits | None = None, ask: Ask = echo, **turn: Any
) -> Outcome:
    """Runs code to its end."""
    outcome, started = Outcome(), time.monotonic()
    try:
        async with aclosing(
            sandbox.run(code, {"text": "Hello", "run_id": "r1", **turn}, limits or Limits(), ask)
        ) as items:
            async for item in items:
                outcome.items.append(item)
    except SandboxError as error:
        outcome.error = error
    outcome.seconds = time.monotonic() - started
    return outcome


@asynccontextmanager
async def ticking() -> AsyncIterator[None]:
    """Fails if the event loop was held up meanwhile."""
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - before)

    task = asyncio.create_task(tick())
    await asyncio.sleep(0)
    try:
        yield
        await asyncio.sleep(0.02)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert longest < PATIENCE / 4, f"the event loop stood still for {longest:.2f} s"


def processes(folder: Path) -> list[int]:
    """The processes that work in a folder or below it; zombies have no folder, see `zombies`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if os.readlink(entry / "cwd").startswith(f"{folder}/"):
                    found.append(int(entry.name))
    return found


def zombies() -> list[int]:
    """Our own children that nobody has waited for."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state == "Z" and int(parent) == os.getpid():
                    found.append(int(entry.name))
    return found


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@asynccontextmanager
async def tidy(folder: Path) -> AsyncIterator[Sandbox]:
    """A sandbox that has to leave nothing behind when it is closed.

    Args:
        folder: takes the place of the system's folder for temporary files.
    """
    before, present = tempfile.tempdir, descriptors()
    tempfile.tempdir = str(folder)
    sandbox = Sandbox()
    try:
        await sandbox.start()
        yield sandbox
    finally:
        tempfile.tempdir = before
        await sandbox.close()
    assert await eventually(lambda: not processes(folder)), "processes are left"
    assert not os.listdir(folder), "files are left"
    assert not zombies()
    assert await eventually(lambda: descriptors() <= present), "descriptors are left"
