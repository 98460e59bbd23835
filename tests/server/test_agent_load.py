"""Many runs at once, and nothing left of them afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.provider import Provider
from tests.server.openwebui import OpenWebUI
from tests.server.rest import Rest
from tests.server.servers import OURS, Server, eventually, make, running
from tests.server.test_agents import at_work, toolkit

pytestmark = pytest.mark.long

AT_ONCE = 200
CONNECTIONS = 15
"""To the database at once, at most. SQLite keeps the descriptors of closed ones, for those that come next."""
CLOCK = {
    "type": "function",
    "function": {"name": "clock", "description": "Tells the time.", "parameters": {}},
}
DICE = {"type": "function", "function": {"name": "roll_dice", "description": "Rolls.", "parameters": {}}}
SCRIPT = """
import time

async def run(turn, llm, tools):
    match turn.text:
        case "spin":
            while True: pass
        case "block":
            time.sleep(600)
        case "tool":
            yield await tools.clock()
        case words:
            yield await llm(words)
"""


@dataclass(frozen=True)
class Part:
    """One kind of run.

    Args:
        model: the agent.
        runs: of 1,000; those that cost more are fewer.
        whole: what the message says of a run that comes to its end.
        cut: of one that is stopped in mid-air: while it thinks, asks another agent, computes or sleeps.
    """

    model: str
    runs: int
    whole: tuple[str, ...]
    cut: tuple[str, ...]


HANGS = ("like: stub-hang", "like: stub-stall", "like: stub-slow")
PARTS = (
    Part(
        "errand",
        700,
        ("think: say: fine", "ask: say: well", "greet", "both"),
        ("think: like: stub-hang", "ask: like: stub-slow", "sleep", "think: like: stub-stall", "roll"),
    ),
    Part(
        "weaver",
        150,
        ("say: fine", "call: clock {}", "call: clock {} & clock {}"),
        (*HANGS, "call: clock {}"),
    ),
    Part(
        "helper",
        100,
        ("say: fine", "call: clock {}", "call: clock {} & clock {}"),
        (*HANGS, "call: clock {}"),
    ),
    Part("script", 50, ("say: fine", "tool"), (*HANGS, "spin", "block", "tool")),
)
RUNS = sum(part.runs for part in PARTS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: Any, provider_process: Provider) -> Iterator[Server]:
    home: Path = tmp_path_factory.mktemp("agents-load")
    made = make(
        OURS,
        home,
        provider_process.base_url,
        environment={"AGENT_MODE_MODEL": "stub-agent", "AGENT_MODE_ALLOW_CUSTOM_PYTHON": "true"},
        foreign=("errand.py", "probe.py"),
    )
    with running(made):
        api = Rest(made)
        usual: dict[str, Any] = {"valves": {}}
        api.create("helper", **usual)
        api.create("weaver", agent_type="llamaindex_workflow", **usual)
        api.create("script", agent_type="custom_python", definition={"code": SCRIPT}, **usual)
        yield made


async def test_two_hundred_runs_with_tools_at_once(server: Server) -> None:
    def one() -> str:
        return OpenWebUI(server).chat().ask("both", "errand", tools=toolkit()).good().text

    told = await asyncio.gather(*(asyncio.to_thread(one) for _ in range(AT_ONCE)))
    assert set(told) == {"a 4-sided die showed 3 and it is noon"}


async def ask(client: aiohttp.ClientSession, server: Server, model: str, text: str) -> None:
    """One run, over as many requests as its tools need."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": text}]
    while True:
        body = {"model": model, "stream": True, "messages": messages, "tools": [CLOCK, DICE]}
        async with client.post(f"{server.url}/chat/completions", json=body) as reply:
            assert reply.status == 200
            called = calls_of(await reply.read())
        if not called:
            return
        messages.append({"role": "assistant", "content": "", "tool_calls": called})
        messages += ({"role": "tool", "tool_call_id": call["id"], "content": "noon"} for call in called)


def calls_of(stream: bytes) -> list[dict[str, Any]]:
    """The tool calls with which a request ended."""
    told = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith(b"data: {")]
    assert not [item["error"] for item in told if "error" in item]
    choices = [choice for item in told for choice in item.get("choices", ())]
    return [call for choice in choices for call in choice["delta"].get("tool_calls", ())]


async def many(server: Server, count: int) -> None:
    """So many runs of all kinds, every other one stopped in mid-air."""
    chance = random.Random(count)
    runs = [part for part in PARTS for _ in range(part.runs * count // RUNS)]
    chance.shuffle(runs)
    headers = {"Authorization": f"Bearer {server.key}"}
    limit = asyncio.Semaphore(40)

    async def one(number: int, part: Part, client: aiohttp.ClientSession) -> None:
        async with limit:
            if number % 2:
                await ask(client, server, part.model, chance.choice(part.whole))
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(chance.uniform(0.01, 0.2)):
                    await ask(client, server, part.model, chance.choice(part.cut))

    async with aiohttp.ClientSession(headers=headers) as client:
        await asyncio.gather(*(one(number, part, client) for number, part in enumerate(runs)))


def open_files(server: Server) -> int:
    """File descriptors of the server, sockets included and those of the database left out."""
    found = 0
    for entry in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            found += ".db" not in str(entry.readlink())
    return found


def processes(server: Server) -> int:
    """Processes of the server that live, or that nobody has waited for."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    family = {server.process.pid}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return len(family)


def memory_mb(server: Server) -> float:
    """Resident memory of the server."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
async def test_nothing_is_left_of_a_thousand_runs(server: Server, provider: Provider) -> None:
    await many(server, 200)  # what grows once: pools, caches, threads, the process that starts the others
    assert eventually(lambda: provider.active == 0 and not at_work(server))
    before, settled, descriptors = server.probe(thorough=True), memory_mb(server), open_files(server)
    alive, family = Counter(before["tasks"]), processes(server)
    await many(server, RUNS)
    assert eventually(lambda: provider.active == 0 and not at_work(server)), server.probe()["tasks"]
    assert eventually(lambda: Counter(server.probe()["tasks"]) <= alive), (server.probe()["tasks"], alive)
    assert eventually(lambda: processes(server) <= family)
    assert server.probe()["runs"] == 0
    after = server.probe(thorough=True)
    assert set(after["files"]) == set(before["files"])
    assert max(Counter(after["files"]).values()) <= CONNECTIONS
    assert after["instances"] == before["instances"]
    # The provider closes idle connections after five seconds.
    assert eventually(lambda: open_files(server) <= descriptors)
    assert memory_mb(server) - settled < 25, (settled, memory_mb(server))
