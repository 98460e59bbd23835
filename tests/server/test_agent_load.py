"""Many runs at once, and nothing left of them afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.provider import Provider
from tests.server.openwebui import OpenWebUI
from tests.server.servers import OURS, Server, eventually, make, running
from tests.server.test_agents import at_work, toolkit

pytestmark = pytest.mark.long

AT_ONCE = 200
RUNS = 1_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: Any, provider_process: Provider) -> Iterator[Server]:
    home: Path = tmp_path_factory.mktemp("agents-load")
    made = make(
        OURS,
        home,
        provider_process.base_url,
        environment={"AGENT_MODE_MODEL": "stub-agent"},
        foreign=("errand.py", "probe.py"),
    )
    with running(made):
        yield made


async def test_two_hundred_runs_with_tools_at_once(server: Server) -> None:
    def one() -> str:
        return OpenWebUI(server).chat().ask("both", "errand", tools=toolkit()).good().text

    told = await asyncio.gather(*(asyncio.to_thread(one) for _ in range(AT_ONCE)))
    assert set(told) == {"a 4-sided die showed 3 and it is noon"}


async def ask(client: aiohttp.ClientSession, server: Server, text: str, stop_after: float | None) -> None:
    """One run; stopped in mid-air after so many seconds."""
    body = {"model": "errand", "stream": True, "messages": [{"role": "user", "content": text}]}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(stop_after):
            async with client.post(f"{server.url}/chat/completions", json=body) as reply:
                assert reply.status == 200
                await reply.read()


async def many(server: Server, count: int) -> None:
    """So many runs, every other one stopped: while it thinks, asks another agent, or sleeps."""
    chance = random.Random(count)
    whole = ("think: say: fine", "ask: say: well", "greet")
    cut = ("think: like: stub-hang", "ask: like: stub-slow", "sleep", "think: like: stub-stall")
    headers = {"Authorization": f"Bearer {server.key}"}
    limit = asyncio.Semaphore(40)

    async def one(number: int, client: aiohttp.ClientSession) -> None:
        async with limit:
            if number % 2:
                await ask(client, server, chance.choice(whole), None)
            else:
                await ask(client, server, chance.choice(cut), chance.uniform(0.01, 0.2))

    async with aiohttp.ClientSession(headers=headers) as client:
        await asyncio.gather(*(one(number, client) for number in range(count)))


def open_files(server: Server) -> int:
    """File descriptors of the server, sockets included."""
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def memory_mb(server: Server) -> float:
    """Resident memory of the server."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
async def test_nothing_is_left_of_a_thousand_runs(server: Server, provider: Provider) -> None:
    await many(server, 200)  # what grows once: pools, caches, threads
    assert eventually(lambda: provider.active == 0)
    before, settled, descriptors = server.probe(thorough=True), memory_mb(server), open_files(server)
    await many(server, RUNS)
    assert eventually(lambda: provider.active == 0 and not at_work(server)), server.probe()["tasks"]
    assert server.probe()["runs"] == 0
    after = server.probe(thorough=True)
    assert after["files"] == before["files"]
    assert after["instances"] == before["instances"]
    # The provider closes idle connections after five seconds.
    assert eventually(lambda: open_files(server) <= descriptors)
    assert memory_mb(server) - settled < 25, (settled, memory_mb(server))
