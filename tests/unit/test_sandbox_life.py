"""How runs end from outside: closed, cancelled, the server gone. Nothing may be left, in whatever state."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from agent_mode.errors import SandboxError
from agent_mode.sandbox import execution
from agent_mode.sandbox.items import Limits, Output, StatusLine
from agent_mode.sandbox.sandbox import Sandbox
from agent_mode.settings import ROOT
from tests.patience import PATIENCE, eventually
from tests.sandboxes import descriptors, echo, processes, run, ticking, tidy

pytestmark = pytest.mark.asyncio(loop_scope="module")

BUSY = "def run():\n yield 'busy'\n while True: pass"
BLOCKED = "import time\ndef run():\n yield 'blocked'\n time.sleep(1000)"
STUBBORN = """
import signal, time
def run():
    for number in (1, 2, 3, 15):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    yield "stubborn"
    while True:
        try:
            time.sleep(100)
        except BaseException:
            pass
"""
PARENT = (
    "import os, time\ndef run():\n os.system('sleep 600 & sleep 601 &')\n yield 'parent'\n time.sleep(99)"
)
ASKING = "async def run(llm):\n yield 'asking'\n await llm('x')"
ASKING_SYNC = "def run(llm):\n yield 'asking'\n llm.complete_sync('x')"
FLOOD = "def run():\n while True: yield 'x' * 10000"
PRINTING = "def run():\n yield 'x'\n while True: print('x' * 1000)"
SLEEPING = "import asyncio\nasync def run():\n yield 'asleep'\n await asyncio.sleep(1000)"
FILES = "import time\ndef run():\n for n in range(300): open(str(n), 'w')\n yield 'files'\n time.sleep(99)"
CODES = [BUSY, BLOCKED, STUBBORN, PARENT, ASKING, ASKING_SYNC, FLOOD, PRINTING, SLEEPING, FILES]
LOOSE = Limits(seconds=300, max_items=10**9, max_output_bytes=10**12)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Sandbox, Path]]:
    folder = tmp_path_factory.mktemp("runs")
    async with tidy(folder) as made:
        yield made, folder


@pytest.fixture
def sandbox(house: tuple[Sandbox, Path]) -> Sandbox:
    return house[0]


@pytest.fixture
def folder(house: tuple[Sandbox, Path]) -> Path:
    return house[1]


def alone(folder: Path) -> Callable[[], bool]:
    """Whether only the fork server is left, and none of the runs' folders."""
    return lambda: len(processes(folder)) == 1 and not list(folder.glob("*/*"))


async def never(_kind: str, _arguments: dict[str, Any]) -> Any:
    await asyncio.sleep(1000)


@pytest.mark.parametrize("code", CODES, ids=range(len(CODES)))
async def test_closing_the_generator_ends_everything_at_once(
    sandbox: Sandbox, folder: Path, code: str
) -> None:
    present = descriptors()
    async with ticking():
        generator = sandbox.run(code, {}, LOOSE, never)
        await anext(generator)
        await asyncio.sleep(0.05)
        started = time.monotonic()
        await generator.aclose()
        assert time.monotonic() - started < PATIENCE
        assert descriptors() <= present
        assert await eventually(alone(folder))


@pytest.mark.parametrize("code", CODES, ids=range(len(CODES)))
async def test_cancelling_the_task_ends_everything_at_once(sandbox: Sandbox, folder: Path, code: str) -> None:
    present, seen = descriptors(), asyncio.Event()

    async def consume() -> None:
        async for _ in sandbox.run(code, {}, LOOSE, never):
            seen.set()

    async with ticking():
        task = asyncio.create_task(consume())
        await seen.wait()
        await asyncio.sleep(0.05)
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await eventually(alone(folder))
        assert await eventually(lambda: descriptors() <= present)
        assert time.monotonic() - started < PATIENCE


async def test_cancelling_at_any_moment(sandbox: Sandbox, folder: Path) -> None:
    """From before the process exists until after it has ended."""
    present = descriptors()
    code = "async def run(llm):\n await llm('x')\n yield 'x'\n import os\n os.system('sleep 0.01')"
    for step in range(60):
        task = asyncio.create_task(run(sandbox, code))
        if step < 20:
            for _ in range(step):
                await asyncio.sleep(0)
        else:
            await asyncio.sleep((step - 20) / 1000)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert await eventually(alone(folder))
    assert await eventually(lambda: descriptors() <= present)
    assert (await run(sandbox, code)).text == "x"


async def test_cancelling_many_that_wait_for_their_start(sandbox: Sandbox, folder: Path) -> None:
    present = descriptors()
    tasks = [asyncio.create_task(run(sandbox, BUSY)) for _ in range(100)]
    await asyncio.sleep(0.02)
    async with ticking():
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    assert await eventually(alone(folder))
    assert await eventually(lambda: descriptors() <= present)


async def test_cancelling_twice(sandbox: Sandbox, folder: Path) -> None:
    present, seen = descriptors(), asyncio.Event()

    async def consume() -> None:
        async for _ in sandbox.run(BUSY, {}, LOOSE, echo):
            seen.set()

    task = asyncio.create_task(consume())
    await seen.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await eventually(alone(folder))
    assert await eventually(lambda: descriptors() <= present)


async def test_a_generator_that_nobody_closes(sandbox: Sandbox, folder: Path) -> None:
    generator: Any = sandbox.run(BUSY, {}, LOOSE, echo)
    await anext(generator)
    del generator
    gc.collect()
    assert await eventually(alone(folder))


async def test_what_the_server_was_doing_for_it_is_cancelled(sandbox: Sandbox) -> None:
    cancelled = asyncio.Event()

    async def ask(_kind: str, _arguments: dict[str, Any]) -> Any:
        try:
            await asyncio.sleep(1000)
        finally:
            cancelled.set()

    generator = sandbox.run(ASKING, {}, LOOSE, ask)
    await anext(generator)
    await asyncio.sleep(0.1)
    await generator.aclose()
    await asyncio.sleep(0)
    assert cancelled.is_set()


async def test_a_crash_ends_what_the_server_was_doing_for_it(sandbox: Sandbox) -> None:
    cancelled = asyncio.Event()

    async def ask(kind: str, _arguments: dict[str, Any]) -> Any:
        if kind == "tool":
            return None
        try:
            await asyncio.sleep(1000)
        finally:
            cancelled.set()

    head = "import asyncio, os\nasync def run(llm, tools):\n asyncio.ensure_future(llm('x'))\n"
    code = f"{head} await asyncio.sleep(0)\n await tools.call('x')\n os.abort()"
    assert (await run(sandbox, code, ask=ask)).code == "code_crashed"
    assert cancelled.is_set()


async def test_the_end_does_not_wait_for_slow_readers(sandbox: Sandbox, folder: Path) -> None:
    """A process that has ended is gone, even while its last words are still unread."""
    generator = sandbox.run("def run():\n for n in range(100): yield 'x'", {}, LOOSE, echo)
    assert await anext(generator) == Output("x")
    assert await eventually(alone(folder))
    assert len([item async for item in generator]) == 99


async def test_last_words_survive_a_crash_during_an_answer(sandbox: Sandbox) -> None:
    async def ask(_kind: str, _arguments: dict[str, Any]) -> Any:
        await asyncio.sleep(0.05)
        return "x" * 2_000_000

    code = """
import asyncio, os
async def run(llm, status):
    task = asyncio.ensure_future(llm("x"))
    await asyncio.sleep(0)
    for n in range(100):
        status(str(n))
    import time
    time.sleep(0.06)
    os._exit(3)
"""
    outcome = await run(sandbox, code, ask=ask)
    assert outcome.code == "code_exited"
    assert [item.text for item in outcome.only(StatusLine)] == [str(n) for n in range(100)]


async def test_closing_the_sandbox_ends_all_runs(tmp_path: Path) -> None:
    async with tidy(tmp_path) as made:
        tasks = [
            asyncio.create_task(run(made, code, LOOSE, never)) for code in (BUSY, STUBBORN, ASKING, PARENT)
        ]
        await asyncio.sleep(0.5)
        async with ticking():
            started = time.monotonic()
            await made.close()
            assert time.monotonic() - started < PATIENCE
        for outcome in await asyncio.gather(*tasks):
            assert outcome.error
            assert (outcome.code, outcome.error.retryable) == ("sandbox", True)
            assert "shutting down" in outcome.error.message
            assert outcome.text
        assert not processes(tmp_path)
        assert (await run(made, BUSY)).code == "sandbox"
        await made.close()
        await made.start()
        assert (await run(made, "def run():\n yield 'x'")).text == "x"


async def test_closing_while_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = Sandbox()
    task = asyncio.create_task(run(made, "def run():\n yield 'x'"))
    await asyncio.sleep(0.01)
    await made.close()
    assert (await task).code == "sandbox"
    assert not processes(tmp_path)
    assert not os.listdir(tmp_path)


async def test_many_first_runs_start_one_fork_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = Sandbox()
    first = asyncio.create_task(run(made, "def run():\n yield 'x'"))
    others = [asyncio.create_task(run(made, "def run():\n yield 'x'")) for _ in range(10)]
    await asyncio.sleep(0.01)
    first.cancel()  # which must not harm the others
    assert {outcome.text for outcome in await asyncio.gather(*others)} == {"x"}
    assert len(os.listdir(tmp_path)) == 1
    await made.close()


async def test_a_process_that_cannot_be_ended_does_not_hold_the_caller(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sandbox._nursery
    generator = sandbox.run(BLOCKED, {}, LOOSE, echo)
    await anext(generator)
    monkeypatch.setattr(execution, "REAP_SECONDS", 0.2)
    monkeypatch.setattr(sandbox._nursery, "kill", lambda number: None)
    started = time.monotonic()
    await generator.aclose()
    assert time.monotonic() - started < PATIENCE
    monkeypatch.undo()
    await sandbox.close()  # which ends it after all
    await sandbox.start()


SERVER = """
import asyncio, signal, sys
from agent_mode.sandbox.items import Limits, Output
from agent_mode.sandbox.sandbox import Sandbox

async def ask(kind, arguments):
    await asyncio.sleep(1000)

async def consume(sandbox, code):
    async for item in sandbox.run(code, {}, Limits(seconds=300), ask):
        if isinstance(item, Output):
            print(item.text, flush=True)

async def main():
    sandbox = Sandbox()
    await asyncio.gather(*(consume(sandbox, code) for code in CODES))

CODES = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in a shell's background ignores it
asyncio.run(main())
"""


@asynccontextmanager
async def serving(folder: Path, codes: list[str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A server in another process, in which all of this runs."""
    environment = {**os.environ, "TMPDIR": str(folder)}
    command = [sys.executable, "-c", SERVER, *codes]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout
        for _ in codes:
            assert await asyncio.wait_for(process.stdout.readline(), 20)
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_when_the_server_dies_all_die(tmp_path: Path, how: signal.Signals) -> None:
    async with serving(tmp_path, [BUSY, BLOCKED, STUBBORN, PARENT, ASKING]) as process:
        assert len(processes(tmp_path)) > 5
        process.send_signal(how)
        await process.wait()
        assert await eventually(lambda: not processes(tmp_path))
        assert await eventually(lambda: not os.listdir(tmp_path))


async def test_when_server_and_fork_server_die_all_die(tmp_path: Path) -> None:
    async with serving(tmp_path, [BUSY, BLOCKED, STUBBORN, ASKING]) as process:
        (root,) = os.listdir(tmp_path)
        (fork_server,) = (
            pid for pid in processes(tmp_path) if os.readlink(f"/proc/{pid}/cwd") == str(tmp_path / root)
        )
        for pid in (process.pid, fork_server):
            os.kill(pid, signal.SIGSTOP)
        for pid in (fork_server, process.pid):
            os.kill(pid, signal.SIGKILL)
        await process.wait()
        assert await eventually(lambda: not processes(tmp_path))


async def test_under_uvloop(tmp_path: Path) -> None:
    code = """
import asyncio, sys, uvloop
from pathlib import Path
from tests.sandboxes import echo, run, tidy
from agent_mode.sandbox.items import Limits

async def main():
    async with tidy(Path(sys.argv[1])) as sandbox:
        code = "async def run(tools):\\n yield 'x'\\n yield (await tools.call('t')).name\\n print('p')"
        outcomes = await asyncio.gather(*(run(sandbox, code) for _ in range(50)))
        assert {outcome.text for outcome in outcomes} == {"xt"}, outcomes[0]
        outcome = await run(sandbox, "def run():\\n while True: pass", Limits(seconds=0.3))
        assert outcome.code == "code_timeout", outcome
        outcome = await run(sandbox, "def run():\\n for n in range(5000): yield 'y' * 1000")
        assert len(outcome.text) == 5_000_000 and outcome.error is None, outcome.error
        generator = sandbox.run("def run():\\n while True: yield 'y'", {}, Limits(max_items=10**9), echo)
        for _ in range(1000):
            await anext(generator)
        await generator.aclose()
        print("fine")

uvloop.run(main())
"""
    pytest.importorskip("uvloop")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", code, str(tmp_path), cwd=ROOT, stdout=subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert (process.returncode, out) == (0, b"fine\n")


@pytest.mark.long
async def test_a_thousand_runs_leave_nothing(sandbox: Sandbox, folder: Path) -> None:
    """Half of them are stopped in mid-air, some end badly."""
    codes = [
        "async def run(tools):\n yield (await tools.call('x')).name\n print('printed')",
        "def run():\n open('file', 'w').write('x')\n yield 'x'",
        "import os\ndef run():\n yield 'x'\n os.abort()",
        "def run():\n yield 'x'\n raise ValueError",
        BUSY,
        "import time\ndef run():\n yield 'x'\n time.sleep(100)",
        ASKING,
        "import os\ndef run():\n yield 'x'\n os.system('sleep 100')",
    ]

    async def one(number: int) -> None:
        generator = sandbox.run(codes[number % 8], {}, LOOSE, echo if number % 8 != 6 else never)
        async with aclosing(generator):
            await anext(generator)
            if number % 8 in (2, 3):
                with pytest.raises(SandboxError):
                    await exhaust(generator)
            elif number % 8 < 2:
                await exhaust(generator)

    async def batch(first: int, count: int) -> None:
        for start in range(first, first + count, 20):
            await asyncio.gather(*(one(number) for number in range(start, start + 20)))

    async with ticking():
        await batch(0, 200)
        assert await eventually(alone(folder))
        gc.collect()
        present = descriptors()
        before = resident(os.getpid()), resident(processes(folder)[0])
        await batch(200, 1000)
    assert await eventually(alone(folder))
    assert descriptors() <= present
    assert len(asyncio.all_tasks()) == 1
    gc.collect()
    assert resident(os.getpid()) - before[0] < 2**20 * 5
    assert resident(processes(folder)[0]) - before[1] < 2**20 * 2


async def exhaust(items: AsyncIterator[object]) -> None:
    async for _ in items:
        pass


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()
