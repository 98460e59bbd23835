"""Code of agents, run for real in a process of its own: what it gets, what it says, and what it may ask."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from agent_mode.errors import LimitError, ProviderError, RunCancelled
from agent_mode.sandbox import execution
from agent_mode.sandbox.check import check
from agent_mode.sandbox.child import objects
from agent_mode.sandbox.items import Image, Limits, Log, Output, SourceItem, StatusLine
from agent_mode.sandbox.sandbox import Sandbox
from agent_mode.settings import ROOT
from tests.patience import PATIENCE
from tests.sandboxes import echo, run, ticking, tidy

PNG = b"\x89PNG\r\n\x1a\n" + b"picture"
SVG = "<svg xmlns='http://www.w3.org/2000/svg'/>"


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Sandbox, Path]]:
    """One sandbox for all tests here."""
    folder = tmp_path_factory.mktemp("runs")
    async with tidy(folder) as made:
        yield made, folder


@pytest.fixture
def sandbox(house: tuple[Sandbox, Path]) -> Sandbox:
    return house[0]


# What `run` may be


@pytest.mark.parametrize(
    "code",
    [
        "async def run(turn, tools, llm, call_agent, status):\n yield turn.text\n yield '!'",
        "async def run(turn, tools, llm, call_agent, status):\n return turn.text + '!'",
        "def run(turn, tools, llm, call_agent, status):\n yield turn.text\n yield '!'",
        "def run(turn, tools, llm, call_agent, status):\n return turn.text + '!'",
        "def run(status, turn):\n return (part for part in (turn.text, '!'))",
        "async def run(*, turn):\n return turn.text + '!'",
        "def run(turn, more=1, *args, **kwargs):\n return turn.text + '!'",
        "run = lambda turn: turn.text + '!'",
        "async def inner(text):\n yield text\n yield '!'\ndef run(turn):\n return inner(turn.text)",
        "import asyncio\ndef run(turn):\n return asyncio.run(asyncio.sleep(0, turn.text + '!'))",
        "from dataclasses import *\n@dataclass\nclass A:\n x: str\ndef run(turn):\n yield A('Hello!').x",
    ],
)
async def test_forms_of_run(sandbox: Sandbox, code: str) -> None:
    outcome = await run(sandbox, code)
    assert (outcome.text, outcome.error) == ("Hello!", None)


async def test_each_piece_comes_when_it_is_yielded(sandbox: Sandbox) -> None:
    code = "import asyncio\nasync def run():\n yield 'first'\n await asyncio.sleep(600)"
    started = time.monotonic()
    generator = sandbox.run(code, {}, Limits(), echo)
    assert await anext(generator) == Output("first")
    assert time.monotonic() - started < PATIENCE
    await generator.aclose()


async def test_what_still_runs_ends_with_run(sandbox: Sandbox) -> None:
    code = """
import asyncio, threading
async def run():
    asyncio.create_task(asyncio.sleep(100))
    threading.Thread(target=lambda: [None for _ in iter(int, 1)]).start()
    asyncio.get_running_loop().run_in_executor(None, __import__("time").sleep, 100)
    yield "done"
"""
    outcome = await run(sandbox, code)
    assert (outcome.text, outcome.error) == ("done", None)
    assert outcome.seconds < PATIENCE


# What it gets


async def test_the_turn_is_attributes_and_items(sandbox: Sandbox) -> None:
    code = """
def run(turn):
    assert turn.user.name == turn["user"]["name"] == turn.user["name"] == "Ann"
    assert turn.messages[0].content == "Hi"
    assert (turn.chat_id, turn.images) == (None, [])
    assert turn.valves.get("limit", 3) == 3
    try:
        turn.absent
    except AttributeError as error:
        assert "text" in str(error)
        yield turn.text
"""
    outcome = await run(sandbox, code, user={"name": "Ann"}, messages=[{"role": "user", "content": "Hi"}])
    assert (outcome.text, outcome.error) == ("Hello", None)


async def test_chance_and_order_are_the_same_for_the_same_run(sandbox: Sandbox) -> None:
    code = "import random\ndef run():\n return [random.random(), list({'a','b','c','d','e'}), hash('x')]"
    first = await run(sandbox, code)
    await sandbox.close()
    await sandbox.start()
    second, other = await run(sandbox, code), await run(sandbox, code, run_id="r2")
    assert first.text == second.text
    assert json.loads(first.text)[0] != json.loads(other.text)[0]


async def test_runs_are_independent(sandbox: Sandbox) -> None:
    code = """
import builtins, os, random, json
def run(turn, status):
    assert not hasattr(builtins, "mine") and not os.listdir(".")
    builtins.mine = json.dumps = turn.text
    open("file", "w").write(turn.text)
    status("there")
    import time
    time.sleep(0.2)
    yield builtins.mine + open("file").read() + os.environ.get("X", "-")
    os.environ["X"] = "changed"
"""
    outcomes = await asyncio.gather(*(run(sandbox, code, text=text) for text in "ab"))
    assert [outcome.text for outcome in outcomes] == ["aa-", "bb-"]
    assert (await run(sandbox, code, text="c")).text == "cc-"


async def test_installed_packages_can_be_imported_and_nothing_of_ours_is_loaded(sandbox: Sandbox) -> None:
    code = """
import sys
def run():
    ours = sorted(name for name in sys.modules if name.startswith("agent_mode"))
    others = {name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names
    import aiohttp
    return {"ours": ours, "others": sorted(others)}
"""
    loaded = json.loads((await run(sandbox, code)).text)
    assert loaded["ours"][:3] == ["agent_mode", "agent_mode.sandbox", "agent_mode.sandbox.child"]
    assert all(name.startswith("agent_mode.sandbox.child.") for name in loaded["ours"][3:])
    others = [name for name in loaded["others"] if not name.startswith(("_", "sitecustomize", "distutils"))]
    assert others == ["agent_code", "agent_mode"]


async def test_no_secret_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "PIPELINES_API_KEY", "DATABASE_URL", "MY_TOKEN", "SOMETHING"):
        monkeypatch.setenv(name, "s3cret")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:s3cret@proxy:80")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    code = """
import os, subprocess
def run():
    assert "s3cret" not in subprocess.run("env", capture_output=True, text=True).stdout
    assert "s3cret" not in open("/proc/self/environ").read()
    return dict(os.environ)
"""
    async with tidy(tmp_path) as sandbox:
        outcome = await run(sandbox, code)
    environment = json.loads(outcome.text)
    assert "s3cret" not in outcome.text
    assert environment["TZ"] == "Asia/Tokyo"
    assert environment["TMPDIR"].startswith(str(tmp_path))


async def test_limits_priority_and_descriptors(sandbox: Sandbox) -> None:
    code = """
import os, resource
def run():
    return {
        "fds": sorted(int(name) for name in os.listdir("/proc/self/fd") if int(name) < 400)[:-1],
        "session": os.getsid(0) == os.getpid(), "group": os.getpgid(0) == os.getpid(),
        "core": resource.getrlimit(resource.RLIMIT_CORE), "nice": os.nice(0),
        "cpu": resource.getrlimit(resource.RLIMIT_CPU)[0] >= 7,
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0], "stdin": os.read(0, 9) == b"",
    }
"""
    seen = json.loads((await run(sandbox, code, Limits(seconds=7))).text)
    assert seen == {
        "fds": [0, 1, 2],
        "session": True,
        "group": True,
        "core": [0, 0],
        "nice": 5,
        "cpu": True,
        "files": 512,
        "stdin": True,
    }


# What it says


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("'text'", "text"),
        ("None", ""),
        ("''", ""),
        ("3", "3"),
        ("[1, 'é']", '[1, "é"]'),
        ("{'a': {2, 1}}", '{"a": [1, 2]}'),
        ("__import__('datetime').date(2026, 1, 2)", '"2026-01-02"'),
        ("__import__('decimal').Decimal('1.5')", '"1.5"'),
        ("{'n': __import__('numpy').arange(3)}", '{"n": [0, 1, 2]}'),
        ("{'n': __import__('numpy').float64(0.5)}", '{"n": 0.5}'),
        ("{(1, 2): 3}", "{(1, 2): 3}"),
        ("(lambda c: c.append(c) or c)([])", "[[...]]"),
        ("{'a': 1}.keys()", '["a"]'),
        ("float('nan')", "NaN"),
        ("{'image': 1, 'more': 2}", '{"image": 1, "more": 2}'),
        (repr("😀 ünïcödé \x00\u2028 \n"), "😀 ünïcödé \x00\u2028 \n"),
        (r"'a\ud800b'", "a\ufffdb"),
        (r"'\ud83d' + '\ude00'", "😀"),
        ("'x' * 3_000_000", "x" * 3_000_000),
        ("type('Text', (str,), {})('sub')", "sub"),
    ],
)
async def test_values(sandbox: Sandbox, value: str, text: str) -> None:
    outcome = await run(sandbox, f"def run():\n yield {value}")
    assert (outcome.text, outcome.error) == (text, None)


@pytest.mark.parametrize(
    ("value", "mime", "data"),
    [
        (repr(PNG), "image/png", PNG),
        (repr({"image": PNG}), "image/png", PNG),
        (repr({"image": b"raw", "mime": "image/avif"}), "image/avif", b"raw"),
        (repr({"image": SVG}), "image/svg+xml", SVG.encode()),
        (repr(b"RIFF....WEBPVP8 "), "image/webp", b"RIFF....WEBPVP8 "),
        (f"(open('a.png', 'wb').write({PNG!r}), {{'image': 'a.png'}})[1]", "image/png", PNG),
        (repr({"image": "data:image/gif;base64,R0lGODlh"}), "image/gif", b"GIF89a"),
        ("type('Figure', (), {'savefig': lambda s, f, **k: f.write(b'chart')})()", "image/png", b"chart"),
    ],
)
async def test_images(sandbox: Sandbox, value: str, mime: str, data: bytes) -> None:
    outcome = await run(sandbox, f"def run():\n yield {value}")
    assert (outcome.items, outcome.error) == ([Image(mime, base64.b64encode(data).decode())], None)


async def test_an_image_elsewhere_stays_an_address(sandbox: Sandbox) -> None:
    outcome = await run(
        sandbox, "def run(status):\n status.image('https://example.org/a.png', description='A')"
    )
    assert outcome.items == [Image("", "https://example.org/a.png", "A")]
    assert outcome.only(Image)[0].url == "https://example.org/a.png"


@pytest.mark.parametrize(
    "value",
    ["b'no image'", "{'image': 5}", "{'image': 'absent.png'}", "{'image': b'x', 'mime': 'text/html'}"],
)
async def test_what_is_no_image_fails_in_the_line_that_gives_it(sandbox: Sandbox, value: str) -> None:
    outcome = await run(sandbox, f"def run(status):\n status.image({value}['image'] if 0 else {value})")
    assert outcome.code == "code_failed"
    assert "line 2" in str(outcome.error)


async def test_secrets_in_what_code_says_are_for_admins_alone(sandbox: Sandbox) -> None:
    outcome = await run(
        sandbox, "def run():\n raise OSError('no answer from https://a.example/?api_key=hidden')"
    )
    assert outcome.code == "code_failed"
    assert outcome.error is not None
    assert outcome.error.message.endswith("OSError: no answer from https://a.example/?…")
    assert "api_key=hidden" in outcome.error.detail


async def test_status_and_sources_with_and_without_await(sandbox: Sandbox) -> None:
    code = """
async def run(status):
    await status("Reading…")
    status("Read.", done=True)
    await status.source("A", url="https://example.org", text="words")
    status.source("B")
"""
    assert (await run(sandbox, code)).items == [
        StatusLine("Reading…"),
        StatusLine("Read.", done=True),
        SourceItem("A", "https://example.org", "words"),
        SourceItem("B"),
    ]


async def test_what_is_printed_comes_line_by_line(sandbox: Sandbox) -> None:
    code = r"""
import os, subprocess, sys, ctypes
def run():
    print("one\ntwo", end="\n\n")
    print("to stderr: \ud800 é", file=sys.stderr)
    os.write(1, b"raw \xff\n")
    subprocess.run(["echo", "from a child"])
    print("without end", end="")
"""
    logs = [item.text for item in (await run(sandbox, code)).only(Log)]
    assert logs == ["one", "two", "", "to stderr: \\ud800 é", "raw \ufffd", "from a child", "without end"]


# What it may ask


ASKING = """
async def run(turn, tools, llm, call_agent, status):
    yield [tools.names, tools.list()[0].description]
    yield await tools.call("weather", city="Ulm", name="n")
    yield (await tools.roll_dice(sides=6)).sides
    yield await llm("Hi", temperature=0)
    yield await llm([{"role": "system", "content": "Be brief"}])
    async for delta in llm.stream("Count"):
        yield delta
    yield await call_agent("writer", "Write", context={"a": 1})
    yield await call_agent("writer", "Write")
"""
ASKING_SYNC = """
def run(turn, tools, llm, call_agent, status):
    yield [tools.names, tools.list()[0].description]
    yield tools.call_sync("weather", city="Ulm", name="n")
    yield tools.call_sync("roll_dice", sides=6).sides
    yield llm.complete_sync("Hi", temperature=0)
    yield llm.complete_sync([{"role": "system", "content": "Be brief"}])
    for delta in llm.stream_sync("Count"):
        yield delta
    yield call_agent.sync("writer", "Write", context={"a": 1})
    yield call_agent.sync("writer", "Write")
"""


class Server:
    """Answers, and remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def ask(self, kind: str, arguments: dict[str, Any]) -> Any:
        self.asked.append((kind, arguments))
        if kind == "tools":
            return [{"name": "weather", "description": "Says it", "parameters": {}}]
        if kind == "llm":
            return self._pieces() if arguments["stream"] else "answer"
        if kind == "tool" and arguments["name"] == "roll_dice":
            return json.dumps(arguments["arguments"])
        return f"{kind} done"

    async def _pieces(self) -> AsyncIterator[str]:
        for piece in ("1", "2", "3"):
            await asyncio.sleep(0)
            yield piece


@pytest.mark.parametrize("code", [ASKING, ASKING_SYNC], ids=["async", "sync"])
async def test_questions(sandbox: Sandbox, code: str) -> None:
    server = Server()
    outcome = await run(sandbox, code, ask=server.ask)
    assert outcome.error is None
    assert [item.text for item in outcome.only(Output)] == [
        '[["weather"], "Says it"]',
        "tool done",
        "6",
        "answer",
        "answer",
        *"123",
        "call_agent done",
        "call_agent done",
    ]
    assert server.asked == [
        ("tools", {}),
        ("tool", {"name": "weather", "arguments": {"city": "Ulm", "name": "n"}}),
        ("tool", {"name": "roll_dice", "arguments": {"sides": 6}}),
        (
            "llm",
            {"messages": [{"role": "user", "content": "Hi"}], "params": {"temperature": 0}, "stream": False},
        ),
        (
            "llm",
            {"messages": [{"role": "system", "content": "Be brief"}], "params": {}, "stream": False},
        ),
        ("llm", {"messages": [{"role": "user", "content": "Count"}], "params": {}, "stream": True}),
        ("call_agent", {"name": "writer", "task": "Write", "context": {"a": 1}}),
        ("call_agent", {"name": "writer", "task": "Write", "context": None}),
    ]


async def test_tools_that_the_turn_names_need_no_question(sandbox: Sandbox) -> None:
    offered = [{"name": "a"}, {"type": "function", "function": {"name": "b", "description": "B"}}]
    code = "def run(tools):\n return [tools.names, tools.list()[1]]"
    outcome = await run(sandbox, code, tools=offered)
    assert outcome.text == '[["a", "b"], {"name": "b", "description": "B"}]'


async def test_a_stream_may_come_in_one_piece(sandbox: Sandbox) -> None:
    async def ask(_kind: str, _arguments: dict[str, Any]) -> Any:
        return "whole"

    code = "async def run(llm):\n async for delta in llm.stream('x'):\n  yield delta"
    assert (await run(sandbox, code, ask=ask)).text == "whole"


async def test_several_questions_at_once_in_the_order_of_the_code(sandbox: Sandbox) -> None:
    asked: list[str] = []
    everyone = asyncio.Event()

    async def ask(_kind: str, arguments: dict[str, Any]) -> Any:
        asked.append(arguments["name"])
        if len(asked) == 10:
            everyone.set()
        await everyone.wait()
        return arguments["name"]

    code = """
import asyncio
async def run(tools):
    return await asyncio.gather(*(tools.call(f"t{n}") for n in range(10)))
"""
    outcome = await run(sandbox, code, ask=ask)
    assert json.loads(outcome.text) == asked == [f"t{n}" for n in range(10)]


async def test_more_questions_than_are_answered_at_once(sandbox: Sandbox) -> None:
    most = now = 0

    async def ask(_kind: str, arguments: dict[str, Any]) -> Any:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1
        return arguments["arguments"]["n"]

    code = """
import asyncio
async def run(tools):
    return sum(await asyncio.gather(*(tools.call("t", n=n) for n in range(2000))))
"""
    async with ticking():
        outcome = await run(sandbox, code, ask=ask)
    assert outcome.text == str(sum(range(2000)))
    assert most == execution.OPEN_QUESTIONS


@pytest.mark.parametrize("how", ["await tools.call('x')", "tools.call_sync('x')"])
async def test_an_error_of_the_server_can_be_caught(sandbox: Sandbox, how: str) -> None:
    async def ask(_kind: str, _arguments: dict[str, Any]) -> Any:
        raise ProviderError("It is away.", hint="Wait.", code="provider_timeout", retryable=True)

    code = f"""
async def run(tools):
    try:
        {how}
    except AgentError as error:
        yield [str(error), error.code, error.hint, error.retryable]
"""
    assert json.loads((await run(sandbox, code, ask=ask)).text) == [
        "It is away.",
        "provider_timeout",
        "Wait.",
        True,
    ]


async def test_an_error_of_the_server_that_is_not_caught_keeps_its_hint(sandbox: Sandbox) -> None:
    async def ask(_kind: str, _arguments: dict[str, Any]) -> Any:
        raise ProviderError("It is away.", hint="Wait.")

    outcome = await run(sandbox, "async def run(llm):\n return await llm('x')", ask=ask)
    assert outcome.error
    assert outcome.error.hint == "Wait."
    assert outcome.error.message == "The agent's code failed in line 2: AgentError: It is away."


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("await llm('x')", ("limit_steps", 429)),
        ("await asyncio.gather(*(llm('x') for _ in range(200)))", ("limit_steps", 429)),
        ("llm.complete_sync('x')", ("limit_steps", 429)),
        ("async for _ in llm.stream('x'): pass", ("limit_steps", 429)),
        ("raise AgentError('x', code='limit_steps')", ("code_failed", 500)),
        ("e = AgentError('x', code='limit_steps')\n    e.question = 1\n    raise e", ("code_failed", 500)),
        ("e = AgentError('x')\n    e.question = 'x' * 9\n    raise e", ("code_failed", 500)),
        (
            "try: await llm('x')\n    except AgentError as e:\n        e.code = 'agent_no_access'; raise",
            ("limit_steps", 429),
        ),
        (
            "try: await llm('x')\n    except AgentError as e: raise ValueError('x') from e",
            ("code_failed", 500),
        ),
    ],
)
async def test_an_error_of_the_server_that_is_not_caught_keeps_its_code_and_no_other_has_it(
    sandbox: Sandbox, code: str, told: tuple[str, int]
) -> None:
    async def ask(_kind: str, _arguments: dict[str, Any]) -> Any:
        raise LimitError("The agent stopped at its limit of 1 step.", code="limit_steps")

    outcome = await run(sandbox, f"import asyncio\nasync def run(llm):\n    {code}", ask=ask)
    assert outcome.error
    assert (outcome.error.code, outcome.error.status) == told
    assert "in line " in outcome.error.message


async def test_what_else_the_server_raises_ends_the_run(sandbox: Sandbox) -> None:
    class Suspend(Exception):
        pass

    async def ask(_kind: str, _arguments: dict[str, Any]) -> Any:
        raise Suspend

    code = """
async def run(tools):
    yield "before"
    try:
        await tools.call("x")
    except BaseException:
        yield "caught"
"""
    generator = sandbox.run(code, {}, Limits(), ask)
    assert await anext(generator) == Output("before")
    with pytest.raises(Suspend):
        await anext(generator)


async def test_answers_that_are_no_json_or_too_large(sandbox: Sandbox) -> None:
    async def large(_kind: str, _arguments: dict[str, Any]) -> Any:
        return "x" * (65 * 2**20)

    code = "async def run(tools):\n try:\n  await tools.call('x')\n except AgentError as e:\n  yield e.code"
    assert (await run(sandbox, code, ask=large)).text == "too_large"

    async def strange(_kind: str, _arguments: dict[str, Any]) -> Any:
        return object()

    with pytest.raises(TypeError):
        await run(sandbox, code, ask=strange)


async def test_large_answers_and_questions_pass(sandbox: Sandbox) -> None:
    code = """
async def run(tools):
    answer = await tools.call("x", data="é" * 3_000_000)
    yield str(len(answer.arguments.data))
"""
    outcome = await run(sandbox, code)
    assert (outcome.text, outcome.error) == ("3000000", None)


async def test_arguments_that_are_no_json_fail_in_the_code(sandbox: Sandbox) -> None:
    code = """
async def run(tools):
    for bad in (object(), {(1, 2): 3}, "x" * 70_000_000, (lambda c: c.append(c) or c)([])):
        try:
            await tools.call("x", value=bad)
        except (TypeError, ValueError) as error:
            yield type(error).__name__ + " "
    yield (await tools.call("x", value={1, 2})).arguments.value
"""
    outcome = await run(sandbox, code)
    assert outcome.text == "TypeError TypeError TooLarge ValueError [1, 2]"


async def test_a_question_that_is_given_up_is_cancelled_here(sandbox: Sandbox) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def ask(_kind: str, arguments: dict[str, Any]) -> Any:
        if arguments["name"] == "quick":
            return "quick"
        begun.set()
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    code = """
import asyncio
async def run(tools):
    try:
        await asyncio.wait_for(tools.call("slow"), 0.05)
    except TimeoutError:
        yield "given up, "
    yield await tools.call("quick")
    await asyncio.sleep(0.1)
"""
    outcome = await run(sandbox, code, ask=ask)
    assert (outcome.text, outcome.error) == ("given up, quick", None)
    assert cancelled.is_set() == begun.is_set()  # on a busy machine it is given up before it begins


async def test_an_answer_that_is_cancelled_here_reaches_the_code_as_an_error(sandbox: Sandbox) -> None:
    async def ask(_kind: str, _arguments: dict[str, Any]) -> Any:
        raise asyncio.CancelledError

    code = "async def run(llm):\n try:\n  await llm('x')\n except AgentError as e:\n  yield e.code"
    assert (await run(sandbox, code, ask=ask)).text == RunCancelled.code


async def test_questions_from_threads(sandbox: Sandbox) -> None:
    code = """
from concurrent.futures import ThreadPoolExecutor
def run(tools):
    with ThreadPoolExecutor(8) as pool:
        yield sum(pool.map(lambda n: tools.call_sync("x", n=n).arguments.n, range(50)))
"""
    assert (await run(sandbox, code)).text == str(sum(range(50)))


async def test_waiting_for_the_server_costs_no_time(sandbox: Sandbox) -> None:
    async def ask(_kind: str, _arguments: dict[str, Any]) -> Any:
        await asyncio.sleep(1.0)

    code = "async def run(llm):\n await llm('x')\n await llm('x')\n yield 'done'"
    outcome = await run(sandbox, code, Limits(seconds=0.5), ask=ask)
    assert (outcome.text, outcome.error) == ("done", None)
    assert outcome.seconds > 2


# The page about it


def examples() -> list[str]:
    page = (ROOT / "docs" / "custom-python.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", examples(), ids=range(len(examples())))
async def test_the_examples_of_the_docs_run(sandbox: Sandbox, code: str) -> None:
    async def ask(kind: str, arguments: dict[str, Any]) -> Any:
        return {"tool": '{"degrees": 21}', "llm": "An answer.", "call_agent": "A comment."}[kind]

    assert check(code) == []
    outcome = await run(sandbox, code, ask=ask, text="```csv\nmonth,sales\nMay,3\nJune,5\n```", tools=[])
    assert outcome.error is None
    assert outcome.text
    if "svg" in code:
        assert "**8**" in outcome.text
        assert [image.mime for image in outcome.only(Image)] == ["image/svg+xml"]


async def test_the_page_names_all_that_code_is_given() -> None:
    page = (ROOT / "docs" / "custom-python.md").read_text(encoding="utf-8")
    for kind in (objects.Tools, objects.Llm, objects.CallAgent, objects.Status):
        for name in vars(kind):
            assert name.startswith("_") or re.search(rf"\b\.?{name}\b", page), name
    for name in (*objects.turn(objects.Record()), "AgentError"):
        assert f"`{name}`" in page, name


# Figures


async def test_a_run_begins_at_once(sandbox: Sandbox) -> None:
    code = "async def run(turn):\n yield 'x'"
    for _ in range(3):
        generator = sandbox.run(code, {"run_id": "r"}, Limits(), echo)
        assert await anext(generator) == Output("x")
        await generator.aclose()


async def test_two_hundred_at_once(sandbox: Sandbox) -> None:
    async with ticking():
        outcomes = await asyncio.gather(*(run(sandbox, ASKING, ask=Server().ask) for _ in range(200)))
    assert {outcome.error for outcome in outcomes} == {None}
    assert len({outcome.text for outcome in outcomes}) == 1
