"""Code that does its worst: the run ends readably, the server goes on meanwhile, and nothing is left."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from agent_mode.sandbox import printed
from agent_mode.sandbox.items import Limits, Log, Output
from agent_mode.sandbox.sandbox import Sandbox
from tests.patience import PATIENCE, eventually
from tests.sandboxes import Outcome, echo, processes, run, ticking, tidy

SHORT = Limits(seconds=0.5)
STARTS = "import subprocess\ndef run():\n subprocess.Popen("
FORKS = "import multiprocessing\ndef run():\n multiprocessing"
EACH = " import os\n from contextlib import suppress as quiet\n for fd in range(1, 21):\n"
"""The head of a loop over the first descriptors."""


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Sandbox, Path]]:
    """One sandbox for all tests here, and the folder that its folders are in."""
    folder = tmp_path_factory.mktemp("runs")
    async with tidy(folder) as made:
        yield made, folder


@pytest.fixture
def folder(house: tuple[Sandbox, Path]) -> Path:
    return house[1]


@pytest_asyncio.fixture(loop_scope="module")
async def sandbox(house: tuple[Sandbox, Path]) -> AsyncIterator[Sandbox]:
    yield house[0]
    # Whatever a test did, others can still run.
    outcome = await run(house[0], "def run():\n yield 'fine'")
    assert (outcome.text, outcome.error) == ("fine", None)


async def fails(sandbox: Sandbox, code: str, limits: Limits | None = None) -> Outcome:
    """Runs code that has to fail; meanwhile another run and the event loop go on."""
    other = "import time\nasync def run(tools):\n await tools.call('x')\n time.sleep(0.1)\n yield 'ok'"
    async with ticking():
        outcome, beside = await asyncio.gather(run(sandbox, code, limits), run(sandbox, other))
    assert (beside.text, beside.error) == ("ok", None)
    assert outcome.error is not None
    assert outcome.error.hint
    assert "\n" not in outcome.error.message
    return outcome


# Time


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("async def run():\n x = 1\n while True: pass", 3),
        ("def run():\n while True: pass", 2),
        ("while True: pass", 1),
        ("import time\nasync def run():\n yield 'a'\n time.sleep(1000)", 4),
        (
            "import time\nclass A:\n def __str__(s): time.sleep(99)\ndef run():\n raise Exception(A())",
            3,
        ),
        ("import re\ndef run():\n re.match('(a+)+$', 'a' * 64 + 'b')", 3),
        ("def run():\n return 10 ** 10 ** 10", 2),
        (
            "import signal as s\ns.pthread_sigmask(s.SIG_BLOCK, range(1, 64))\ndef run():\n while 1: pass",
            None,
        ),
        (
            "import signal as s\nfor n in (1, 2, 3, 15): s.signal(n, s.SIG_IGN)\ndef run():\n while 1: pass",
            4,
        ),
        ("import signal, os\ndef run():\n os.kill(os.getpid(), signal.SIGSTOP)", None),
        ("import asyncio\nasync def run():\n await asyncio.sleep(1000)", None),
        ("import asyncio\nasync def run():\n await asyncio.to_thread(list, iter(int, 1))", None),
        (
            "import asyncio, threading\nasync def run():\n"
            " threading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()\n await asyncio.sleep(99)",
            None,  # a busy thread beside it may keep the main thread from telling the line
        ),
    ],
    ids=lambda value: None if isinstance(value, str) else str(value),
)
async def test_too_long(sandbox: Sandbox, code: str, line: int | None) -> None:
    for attempt in range(3):  # on a busy machine the process may not come to say where it is
        outcome = await fails(sandbox, code, Limits(seconds=0.5, memory_mb=2048))
        assert outcome.code == "code_timeout"
        assert outcome.error
        assert "0.5 seconds" in outcome.error.message
        assert 0.5 < outcome.seconds < PATIENCE
        if line is None:
            return
        if outcome.error.message.endswith(f", in line {line}."):
            assert "<agent code>" in outcome.error.detail
            return
        assert attempt < 2, outcome.error.message


async def test_what_came_before_the_time_was_up_stays(sandbox: Sandbox) -> None:
    outcome = await fails(sandbox, "def run():\n yield 'partial'\n while True: pass", SHORT)
    assert (outcome.text, outcome.code) == ("partial", "code_timeout")


async def test_asking_without_end_is_no_way_around_the_time(sandbox: Sandbox) -> None:
    code = "async def run(tools):\n while True:\n  for _ in range(10000): pass\n  await tools.call('x')"
    outcome = await fails(sandbox, code, SHORT)
    assert outcome.code == "code_timeout"
    assert outcome.seconds < PATIENCE


async def test_processor_time_is_the_second_line_of_defence(sandbox: Sandbox) -> None:
    code = """
import resource
resource.setrlimit(resource.RLIMIT_CPU, (1, 5))
def run():
    while True: pass
"""
    outcome = await fails(sandbox, code, Limits(seconds=600))
    assert outcome.code == "code_timeout"


# Ends


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys\nasync def run():\n sys.exit(3)", "status 3, in line 3"),
        ("import sys\ndef run():\n sys.exit()", "status 0, in line 3"),
        ("import sys\nsys.exit('bye \\ud800')", "“bye \ufffd”, in line 2"),
        ("import os\ndef run():\n os._exit(4)", "status 4"),
        ("import os\ndef run():\n os._exit(0)", "status 0"),
        ("async def run():\n raise SystemExit(object)", "“<class 'object'>”, in line 2"),
        (
            "import asyncio\nasync def go():\n exit(5)\nasync def run():\n await asyncio.create_task(go())",
            "status 5",
        ),
        (
            "import os, threading\ndef run():\n threading.Timer(0, os._exit, (6,)).start()\n while 1: pass",
            "status 6",
        ),
    ],
    ids=range(8),
)
async def test_code_that_ends_its_process(sandbox: Sandbox, code: str, words: str) -> None:
    outcome = await fails(sandbox, code)
    assert outcome.code == "code_exited"
    assert words in str(outcome.error)


@pytest.mark.parametrize(
    ("code", "name", "line"),
    [
        ("import ctypes\nasync def run():\n ctypes.string_at(0)", "SIGSEGV", 3),
        ("import os\nasync def run():\n os.abort()", "SIGABRT", 3),
        ("import os\ndef run():\n os.kill(os.getpid(), 15)", "SIGTERM", None),
        ("import os\ndef run():\n os.kill(os.getpid(), 9)", "SIGKILL", None),
        ("import os\ndef run():\n os.killpg(0, 9)", "SIGKILL", None),
        ("import os\ndef run():\n os.kill(os.getpid(), 40)", "signal 40", None),
        ("import os\ndef run():\n os.kill(os.getpid(), 10); os.kill(os.getpid(), 11)", "SIGSEGV", 3),
    ],
    ids=range(7),
)
async def test_crashes(sandbox: Sandbox, code: str, name: str, line: int | None) -> None:
    outcome = await fails(sandbox, code)
    assert outcome.code == "code_crashed"
    assert name in str(outcome.error)
    if line is not None:
        assert f"in line {line}" in str(outcome.error)


async def test_what_came_before_a_crash_stays(sandbox: Sandbox) -> None:
    code = "import ctypes\ndef run():\n yield 'said'\n print('printed')\n ctypes.string_at(0)"
    outcome = await fails(sandbox, code)
    assert outcome.text == "said"
    assert outcome.only(Log)[0] == Log("printed")


# Memory


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("def run():\n return len(bytearray(10 * 2**30))", 2),
        ("def run():\n x = []\n while True: x.append('x' * 1000000)", 3),
        ("async def run():\n x = [0]\n while True: x += x", 3),
        ("def run():\n return 'x' * 10**10", 2),
        ("def run():\n x = {}\n while True: x[len(x)] = [x]", 3),
        ("x = bytearray(2**34)", 1),
    ],
    ids=range(6),
)
async def test_too_much_memory(sandbox: Sandbox, code: str, line: int) -> None:
    outcome = await fails(sandbox, code, Limits(seconds=20, memory_mb=200))
    assert outcome.code == "code_memory"
    assert f"200 MiB of memory, in line {line}" in str(outcome.error)


async def test_an_answer_larger_than_the_memory(sandbox: Sandbox) -> None:
    async def ask(_kind: str, _arguments: dict[str, Any]) -> Any:
        return "x" * (50 * 2**20)

    outcome = await run(sandbox, "async def run(llm):\n await llm('x')", Limits(memory_mb=64), ask)
    assert outcome.code == "code_memory"


async def test_memory_up_to_the_limit_can_be_used(sandbox: Sandbox) -> None:
    code = "def run():\n x = bytearray(250 * 2**20)\n yield str(len(x))"
    assert (await run(sandbox, code, Limits(memory_mb=300))).error is None
    assert (await run(sandbox, code, Limits(memory_mb=200))).code == "code_memory"


# Output


async def test_a_million_yields_end_at_the_limit(sandbox: Sandbox) -> None:
    code = "async def run():\n for n in range(1_000_000): yield 'x'"
    outcome = await fails(sandbox, code, Limits(max_items=5000))
    assert outcome.code == "code_output_limit"
    assert "5000 pieces" in str(outcome.error)
    assert len(outcome.items) == 5000


async def test_a_million_yields_that_are_allowed(sandbox: Sandbox) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = 0
    code = "async def run():\n for n in range(1_000_000): yield 'x'"
    running = sandbox.run(code, {}, Limits(max_items=2_000_000, seconds=300), echo)
    async with ticking(), aclosing(running) as items:
        async for item in items:
            count += isinstance(item, Output)
            if count == 100_000:  # the rest would be no different
                break
    assert count == 100_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # KiB


async def test_a_reader_that_stops_reading_makes_the_code_wait(sandbox: Sandbox) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    code = "def run():\n while True: yield 'x' * 100000"
    limits = Limits(seconds=2, max_items=10**9, max_output_bytes=10**12)
    async with ticking():
        generator = sandbox.run(code, {}, limits, echo)
        for _ in range(50):
            await anext(generator)
        await asyncio.sleep(3)  # longer than the code may take: it waits for us, which is not its time
        for _ in range(50):
            assert await anext(generator) == Output("x" * 100_000)
        await generator.aclose()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # KiB


async def test_too_many_bytes(sandbox: Sandbox) -> None:
    code = "def run():\n yield 'é' * 400\n yield 'é' * 400"
    outcome = await fails(sandbox, code, Limits(max_output_bytes=1000))
    assert (outcome.text, outcome.code) == ("é" * 400, "code_output_limit")


async def test_one_piece_larger_than_a_message(sandbox: Sandbox) -> None:
    outcome = await run(sandbox, "def run():\n yield 'x' * (65 * 2**20)", Limits(max_output_bytes=10**9))
    assert outcome.code == "code_failed"
    assert "64 MiB are the limit" in str(outcome.error)


async def test_printing_a_hundred_megabytes(sandbox: Sandbox) -> None:
    code = "def run():\n for _ in range(100): print('x' * 1_000_000)\n yield 'done'"
    async with ticking():
        outcome = await run(sandbox, code)
    assert (outcome.text, outcome.error) == ("done", None)
    logs = outcome.only(Log)
    assert sum(len(log.text) for log in logs) < printed.MOST_BYTES + 100
    assert max(len(log.text) for log in logs) <= printed.LINE_LENGTH
    assert "left out" in logs[-1].text


async def test_programs_that_print_without_end(sandbox: Sandbox) -> None:
    code = "import subprocess\ndef run():\n subprocess.run(['yes'])"
    outcome = await fails(sandbox, code, Limits(seconds=1.5))
    assert outcome.code == "code_timeout"
    assert len(outcome.only(Log)) == printed.MOST_LINES + 1


async def test_a_crash_after_much_print_still_says_where(sandbox: Sandbox) -> None:
    code = "import os\ndef run():\n for n in range(50000): print(n)\n os.abort()"
    outcome = await fails(sandbox, code)
    assert outcome.code == "code_crashed"
    assert "in line 4" in str(outcome.error)


# Exceptions


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def run():\n raise ValueError('no number')", "failed in line 2: ValueError: no number"),
        ("async def run():\n raise BaseException('base')", "failed in line 2: BaseException: base"),
        ("async def run():\n raise KeyboardInterrupt", "failed in line 2: KeyboardInterrupt"),
        ("async def run():\n raise GeneratorExit", "failed in line 2: GeneratorExit"),
        ("import asyncio\nasync def run():\n raise asyncio.CancelledError", "in line 3: CancelledError"),
        (
            "import asyncio\nasync def run():\n asyncio.current_task().cancel()\n await asyncio.sleep(1)",
            "CancelledError",
        ),
        ("async def run():\n raise StopIteration", "RuntimeError: coroutine raised StopIteration"),
        ("def f():\n f()\ndef run():\n f()", "in line 2: RecursionError: maximum recursion depth exceeded"),
        ("def run():\n import absent_module", "ModuleNotFoundError: No module named 'absent_module'"),
        ("1 / 0", "failed in line 1: ZeroDivisionError"),
        (
            "class E(Exception):\n def __str__(s): raise SystemExit\ndef run():\n raise E",
            "in line 4: E: <its text cannot",
        ),
        (
            "class E(Exception):\n def __str__(s): return 5\ndef run():\n raise E",
            "in line 4: E: <its text cannot",
        ),
        (
            "class E(Exception): pass\nE.__name__ = 'x' * 10**6\ndef run():\n raise E('y' * 10**7)",
            "in line 4: xxx",
        ),
        ("class E(Exception):\n __getattribute__ = None\ndef run():\n raise E('t')", "failed: E"),
        ("def run():\n raise ValueError('half \\ud800')", "ValueError: half \ufffd"),
        ("def run():\n raise ExceptionGroup('many', [ValueError(1), TypeError(2)])", "ExceptionGroup: many"),
        ("import json\ndef run():\n json.loads('{')", "in line 3: JSONDecodeError"),
        ("def run():\n exec('x =')", "in line 2: SyntaxError"),
        ("def run():\n open('/proc/absent')", "FileNotFoundError"),
        ("def run():\n f = open('f', 'wb')\n f.truncate(2 * 2**30)", "File too large"),
        ("def run():\n yield [open('/dev/null') for _ in range(600)]", "Too many open files"),
        ("def run():\n return input()", "EOFError"),
        ("async def run(turn):\n turn.missing", "AttributeError: there is no 'missing'"),
        (
            "class V:\n def __repr__(s): raise OSError('r')\n __str__ = __repr__\ndef run():\n yield [V()]",
            "OSError: r",
        ),
    ],
    ids=range(24),
)
async def test_exceptions(sandbox: Sandbox, code: str, message: str) -> None:
    outcome = await fails(sandbox, code)
    assert outcome.error
    assert outcome.code == "code_failed"
    assert message in outcome.error.message
    assert len(outcome.error.message) < 5_000
    assert len(outcome.error.detail) < 60_000
    str(outcome.error).encode()
    outcome.error.detail.encode()


async def test_the_trace_shows_the_code_and_nothing_of_ours(sandbox: Sandbox) -> None:
    code = "def inner(x):\n    return 1 / x\n\nasync def run():\n    inner(0)"
    outcome = await fails(sandbox, code)
    assert outcome.error
    assert outcome.error.detail == (
        "Traceback (most recent call last):\n"
        '  File "<agent code>", line 5, in run\n'
        "    inner(0)\n"
        '  File "<agent code>", line 2, in inner\n'
        "    return 1 / x\n"
        "           ~~^~~\n"
        "ZeroDivisionError: division by zero\n"
    )


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("async def run(:\n pass", "line 1, column 15: invalid syntax"),
        ("def run():\n  return (1", "line 2, column 10: '(' was never closed"),
        ("def run():\nyield 1", "line 2, column 1: expected an indented block"),
        ("x = 1\nreturn x", "line 2, column 1: 'return' outside function"),
        ("async def run():\n yield 1\n return 2", "line 3, column 2: 'return' with value in async generator"),
        ("def run(): pass\0", "null bytes"),
        ("(" * 5000, "line 1"),
        ("x = " + "-" * 100_000 + "1", "not Python"),
    ],
    ids=range(8),
)
async def test_syntax(sandbox: Sandbox, code: str, words: str) -> None:
    outcome = await fails(sandbox, code)
    assert outcome.code == "code_syntax"
    assert words in str(outcome.error)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("", "no function “run”"),
        ("run = 5", "no function “run”"),
        ("def run(prompt): pass", "asks for “prompt”"),
        ("def run(turn, /): pass", "asks for “turn”"),
    ],
)
async def test_no_run(sandbox: Sandbox, code: str, words: str) -> None:
    outcome = await fails(sandbox, code)
    assert outcome.code == "code_no_run"
    assert words in str(outcome.error)


# Descriptors and processes


@pytest.mark.parametrize(
    "code",
    [
        f"def run():\n{EACH}  with quiet(OSError): os.write(fd, b'scribble')\n yield 'ok'",
        f"def run():\n{EACH}  with quiet(OSError): os.close(fd)\n yield 'ok'",
        "import os\ndef run():\n os.close(0), os.close(1), os.close(2)\n yield 'ok'",
        "import sys\ndef run():\n sys.stdout.close()\n sys.stderr = None\n yield 'ok'",
        "import sys\ndef run():\n sys.stdout = object()\n yield 'ok'",
        "import os, json\ndef run():\n json.dumps = json.loads = os.getpid = None\n yield 'ok'",
        "import os\ndef run():\n os.chmod('.', 0)\n os.rmdir(os.getcwd())\n yield 'ok'",
        "import socket\ndef run():\n socket.setdefaulttimeout(0.001)\n socket.socket = None\n yield 'ok'",
        "import gc, threading\ndef run():\n gc.collect()\n threading.stack_size(2**20)\n yield 'ok'",
        "import sys\ndef run():\n sys.setrecursionlimit(50)\n sys.modules.clear()\n yield 'ok'",
        "import warnings\nwarnings.simplefilter('error')\ndef run():\n yield 'ok'",
        "import os, signal\ndef run():\n os.kill(os.getppid(), 0)\n signal.alarm(0)\n yield 'ok'",
    ],
    ids=range(12),
)
async def test_vandalism_that_does_no_harm(sandbox: Sandbox, code: str) -> None:
    async with ticking():
        outcome = await run(sandbox, code)
    assert (outcome.text, outcome.error) == ("ok", None)


SCRIBBLE = """
import os, time
def run():
    for fd in range(3, 1024):
        try:
            os.write(fd, {data})
        except OSError:
            pass
    yield 'x'
    time.sleep(600)
"""


@pytest.mark.parametrize(
    "data",
    [
        "b'scribble'",
        "b'\\xa7\\x5c\\xff\\xff\\xff\\xff'",
        "b'\\xa7\\x5c\\x00\\x00\\x00\\x02[]'",
        "b'\\xa7\\x5c\\x00\\x00\\x00\\x02\\xff{'",
        "b'\\xa7\\x5c\\x00\\x00\\x00\\x02{}'",
        'b\'\\xa7\\x5c\\x00\\x00\\x00\\x0d{"t":"error"}\'',
        'b\'\\xa7\\x5c\\x00\\x00\\x00\\x0f{"t":"started"}\'',
        'b\'\\xa7\\x5c\\x00\\x00\\x00\\x0b{"t":"ask"}\'',
        'b\'\\xa7\\x5c\\x00\\x00\\x00\\x14{"t":"output","text":5}\'[:-1] + b\' }\'',
        "b'\\xa7\\x5c\\x00\\x01\\x00\\x00' + b'[' * 65536",
    ],
    ids=range(10),
)
async def test_writing_into_the_connection(sandbox: Sandbox, data: str) -> None:
    outcome = await fails(sandbox, SCRIBBLE.format(data=data), Limits(seconds=600))
    assert outcome.code == "code_broken_channel"
    assert outcome.seconds < PATIENCE


@pytest.mark.parametrize("then", ["yield 'x'", "return", "raise ValueError", "exit()"])
async def test_closing_every_descriptor(sandbox: Sandbox, then: str) -> None:
    outcome = await fails(
        sandbox, f"import os\ndef run():\n os.closerange(0, 4096)\n {then}", Limits(seconds=600)
    )
    assert outcome.code == "code_broken_channel"
    assert outcome.seconds < PATIENCE


async def test_shutting_the_connection_down(sandbox: Sandbox) -> None:
    code = """
import os, socket, time
def run():
    for fd in range(3, 1024):
        try:
            socket.socket(fileno=os.dup(fd)).shutdown(socket.SHUT_WR)
        except OSError:
            pass
    time.sleep(600)
"""
    outcome = await fails(sandbox, code, Limits(seconds=600))
    assert outcome.code == "code_broken_channel"
    assert outcome.seconds < PATIENCE


async def test_a_fork_bomb(sandbox: Sandbox, folder: Path) -> None:
    outcome = await fails(sandbox, "import os\ndef run():\n while True: os.fork()", Limits(seconds=600))
    assert outcome.code == "code_failed"
    assert "More than 100 forks" in str(outcome.error)
    assert await eventually(lambda: len(processes(folder)) == 1)  # the fork server


@pytest.mark.parametrize(
    "code",
    [
        "import os\ndef run():\n for _ in range(5):\n  os.fork()\n yield 'x'\n",
        f"{STARTS}['sleep', '600'])\n yield 'x'",
        f"{STARTS}['sleep', '600'], start_new_session=True)\n yield 'x'",
        "import os\ndef run():\n os.system('(sleep 600 &) ; (setsid sleep 601 &)')\n yield 'x'",
        f"{STARTS}['sh', '-c', 'setsid sh -c \"sleep 600 & sleep 601\" &'])\n yield 'x'",
        f"{FORKS}.Process(target=list, args=(iter(int, 1),)).start()\n yield 'x'",
    ],
    ids=range(6),
)
async def test_no_child_of_the_code_outlives_it(sandbox: Sandbox, code: str, folder: Path) -> None:
    async with ticking():
        outcome = await run(sandbox, code)
    assert (outcome.text, outcome.error) == ("x", None)
    assert await eventually(lambda: len(processes(folder)) == 1)


async def test_a_pool_of_processes_works(sandbox: Sandbox) -> None:
    code = """
from multiprocessing import Pool
def square(n): return n * n
def run():
    with Pool(2) as pool:
        return pool.map(square, range(4))
"""
    outcome = await run(sandbox, code)
    assert (outcome.text, outcome.error) == ("[0, 1, 4, 9]", None)


async def test_a_fork_that_goes_on_cannot_speak(sandbox: Sandbox) -> None:
    code = """
import os
def run(tools):
    if os.fork() == 0:
        try:
            tools.call_sync("x")
        except RuntimeError as error:
            os.write(1, f"{error}\\n".encode())
        yield "never"
    os.wait()
    yield "parent"
"""
    outcome = await run(sandbox, code)
    assert (outcome.text, outcome.error) == ("parent", None)
    assert "not a fork of it" in outcome.only(Log)[0].text


async def test_files_are_removed_whatever_their_rights(sandbox: Sandbox, folder: Path) -> None:
    code = """
import os, tempfile
def run():
    os.makedirs("a/b/c")
    open("a/b/c/file", "w").write("x")
    os.chmod("a/b", 0)
    with tempfile.NamedTemporaryFile(delete=False) as file:
        assert os.path.dirname(file.name) == os.getcwd()
    yield "ok"
"""
    assert (await run(sandbox, code)).text == "ok"
    assert await eventually(lambda: not list(folder.glob("*/*")))


async def test_killing_the_fork_server(sandbox: Sandbox, folder: Path) -> None:
    beside = asyncio.create_task(run(sandbox, "import time\ndef run():\n yield 'a'\n time.sleep(60)"))
    await asyncio.sleep(0.3)
    code = f"import os\n{STARTS}['sleep', '600'])\n os.kill(os.getppid(), 9)\n while 1: pass"
    outcome, other = await asyncio.gather(run(sandbox, code), beside)
    for lost in (outcome, other):
        assert lost.error
        assert (lost.code, lost.error.retryable) == ("sandbox", True)
    assert other.text == "a"
    assert await eventually(lambda: not processes(folder))
    assert (await run(sandbox, "def run():\n yield 'again'")).text == "again"
    assert len(os.listdir(folder)) == 1


async def test_a_fork_server_that_is_stopped_is_given_up(tmp_path: Path) -> None:
    async with tidy(tmp_path) as made:
        made._patience = 0.5
        assert made._nursery
        os.kill(made._nursery.pid, signal.SIGSTOP)
        async with ticking():
            outcome = await run(made, "def run():\n yield 'x'")
        assert outcome.code == "sandbox"
        assert "not begun within 0.5 seconds" in str(outcome.error)
        made._patience = 10
        assert (await run(made, "def run():\n yield 'again'")).text == "again"


async def test_no_descriptors_left(sandbox: Sandbox) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 10, hard))
    taken: list[int] = []
    outcomes: list[Outcome] = []
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for _ in range(4):
            outcomes.append(await run(sandbox, "def run():\n yield 'x'"))
            os.close(taken.pop())
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [outcome.code for outcome in outcomes] == ["sandbox"] * 4
    assert "Too many open files" in str(outcomes[0].error)


async def test_a_turn_too_large(sandbox: Sandbox) -> None:
    outcome = await run(sandbox, "def run():\n pass", text="x" * (65 * 2**20))
    assert outcome.code == "code_input_limit"


async def test_a_python_that_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = Sandbox()
    for executable, words in ((str(tmp_path / "absent"), "No such file"), ("/bin/false", "ended at once")):
        monkeypatch.setattr(sys, "executable", executable)
        outcome = await run(sandbox, "def run():\n yield 'x'")
        assert outcome.code == "sandbox"
        assert words in str(outcome.error)
    monkeypatch.undo()
    assert (await run(sandbox, "def run():\n yield 'x'")).text == "x"
    await sandbox.close()


async def test_a_python_that_never_gets_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 600\n")
    slow.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(slow))
    sandbox = Sandbox(start_patience=0.3)
    started = time.monotonic()
    outcome = await run(sandbox, "def run():\n yield 'x'")
    assert outcome.code == "sandbox"
    assert "not ready within 0.3 seconds" in str(outcome.error)
    await sandbox.close()
    assert time.monotonic() - started < PATIENCE
