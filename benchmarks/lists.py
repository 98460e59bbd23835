"""What lists and editors cost with 10,000 agents, 10,000 personas and 100,000 runs: API and Agents page.

    python -m benchmarks.lists                 # about five minutes, most of them for filling the store

One caller at a time, over HTTP, against our own server with SQLite, on Linux. All personas are enabled, that
is models; of the agents one in a hundred, and then all. `cpu` is the server's CPU time for one request, in
milliseconds; the goal holds for it. `ms` is the median of how long the caller waited: more on a busy machine.
What a page asks for once it is open, such as the models of the provider, is not in it.
"""

from __future__ import annotations

import asyncio
import http.cookiejar
import os
import sqlite3
import statistics
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent_mode.observe import logs
from agent_mode.settings import Settings
from agent_mode.store.agent_forms import AgentForm
from agent_mode.store.agents import AgentStore
from agent_mode.store.db import Database
from agent_mode.store.forms import PersonaForm
from agent_mode.store.personas import PersonaStore
from agent_mode.store.run_records import RunRecord, RunState, RunStore
from benchmarks.stand import AUTHORIZATION, KEY, cpus, ours, stub

AGENTS, PERSONAS, RUNS = 10_000, 10_000, 100_000
ENABLED_EVERY = 100
REQUESTS = 7
"""Of each list, one after the other; one before them does not count."""
GOAL_MS = 500
START_SECONDS = 300.0
"""How long the start may take, with 10,000 agents to look at."""
MODEL = "stub-n50-i0-f0"
STATES: tuple[RunState, ...] = ("done", "done", "done", "failed", "stopped")

API = (
    "/api/v1/agents/",
    "/api/v1/agents/?offset=9900&limit=100",
    "/api/v1/agents/?q=number+77",
    "/api/v1/personas/",
    "/api/v1/personas/?offset=9900&limit=100",
    "/api/v1/personas/?q=number+77",
    "/api/v1/runs/",
    "/api/v1/runs/?offset=99900&limit=100",
    "/api/v1/runs/?state=failed",
    "/api/v1/runs/?agent=agent-77",
    "/v1/models",
    "/personas",
)
PAGES = (
    "/admin",
    "/admin/agents",
    "/admin/agents?q=number+77&page=2",
    "/admin/agents/agent-700",
    "/admin/agents/new/persona",
    "/admin/agents/new/multi-agent",
    "/admin/personas",
    "/admin/personas?q=number+77",
    "/admin/personas/persona_700/edit",
    "/admin/personas/backups",
    "/admin/strategies",
    "/admin/runs",
    "/admin/runs?q=agent-77&state=failed",
    "/admin/runs/run-700",
    "/admin/valves",
    "/admin/valves?q=number+7",
    "/admin/valves/personas",
    "/admin/valves/agent-700",
    "/admin/setup",
    "/admin/setup/publish",
    "/admin/records",
)


async def fill(folder: Path) -> None:
    """The store of a busy house."""
    settings = Settings(data_dir=folder)  # pyright: ignore[reportCallIssue]  the rest has defaults
    db = await Database.open(settings.resolved_database_url())
    agents = AgentStore(db)
    for number in range(AGENTS):
        await agents.create(
            AgentForm(
                id=f"agent-{number}",
                name=f"Agent number {number}",
                description="Looks after one thing, and tells in a sentence what it has found.",
                agent_type="persona",
                definition={"instructions": "You are thorough. " * 20},
                enabled=number % ENABLED_EVERY == 0,
            ),
            "benchmark",
        )
    personas = PersonaStore(db)
    await personas.save_all(
        [
            PersonaForm(
                key=f"persona_{number}",
                name=f"Persona number {number}",
                category=f"Category {number % 12}",
                prompt="You are thorough. " * 20,
                description="Knows one thing well, and tells it in a sentence.",
            )
            for number in range(PERSONAS)
        ]
    )
    runs = RunStore(db, memory_limit=RUNS)
    now = datetime.now(UTC)
    for number in range(RUNS):
        state = STATES[number % len(STATES)]
        runs.put(
            RunRecord(
                id=f"run-{number}",
                agent=f"agent-{number % 500}",
                agent_type="persona",
                started_at=now - timedelta(seconds=20 * number),
                state=state,
                parent_id=f"run-{number - 1}" if number % 4 == 3 else None,
                user_id=f"user-{number % 90}",
                chat_id=f"chat-{number % 9000}",
                model=MODEL,
                steps=2,
                tool_calls=[{"name": "search", "arguments": '{"query": "x"}', "result": "found " * 20}],
                usage={"prompt_tokens": 800, "completion_tokens": 90, "total_tokens": 890},
                error={"code": "provider_error", "message": "It failed."} if state == "failed" else None,
                duration_ms=900,
            )
        )
        if number % 2_000 == 0:
            await runs.flush()
    await runs.close()
    await db.optimize()
    await db.close()


def signed_in(base: str) -> urllib.request.OpenerDirector:
    """A browser's session on the Agents page."""
    jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), jar)
    opener.addheaders = [("Origin", base), ("Accept", "text/html")]
    opener.open(f"{base}/admin/sign-in", urllib.parse.urlencode({"key": KEY}).encode(), timeout=60).read()
    return opener


def cpu_ms(pid: int) -> float:
    """CPU time that a process has used so far, with that of its threads, in milliseconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def measure(opener: urllib.request.OpenerDirector, base: str, path: str, spent: Callable[[], float]) -> None:
    """Prints one list's row; `spent` is the server's CPU time so far."""
    times: list[float] = []
    size, before = 0, 0.0
    for number in range(REQUESTS + 1):
        if number == 1:
            before = spent()
        began = time.perf_counter()
        with opener.open(base + path, timeout=60) as reply:
            size = len(reply.read())
        times.append((time.perf_counter() - began) * 1000)
    each = (spent() - before) / REQUESTS
    verdict = "pass" if each <= GOAL_MS else "MISS"
    print(
        f"{path:44}{each:>8.0f}{statistics.median(times[1:]):>8.0f}{size / 1024:>8.0f}  {verdict}", flush=True
    )


def measure_all(folder: str, provider_url: str, cpu: int | None) -> None:
    """Prints the rows of all lists, of a server of its own."""
    environment = {"AGENT_MODE_DATA_DIR": folder}
    with ours(provider_url, model=MODEL, cpu=cpu, environment=environment, patience=START_SECONDS) as server:
        base = server.url.removesuffix("/v1")
        caller = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        caller.addheaders = [("Authorization", AUTHORIZATION)]
        print(f"{'list':44}{'cpu':>8}{'ms':>8}{'KiB':>8}")
        for path in API:
            measure(caller, base, path, lambda: cpu_ms(server.pid))
        visitor = signed_in(base)
        for path in PAGES:
            measure(visitor, base, path, lambda: cpu_ms(server.pid))


def enable_all(folder: Path) -> None:
    """Makes every agent a model; behind the server's back, so it must not run."""
    with sqlite3.connect(folder / "agent_mode.db") as db:
        db.execute("UPDATE agent SET enabled = 1")
    db.close()


def main() -> None:
    logs.configure()
    here, there = cpus()
    with tempfile.TemporaryDirectory() as folder, stub(cpu=there) as provider:
        began = time.perf_counter()
        asyncio.run(fill(Path(folder)))
        print(f"filled in {time.perf_counter() - began:.0f} s; goal: each within {GOAL_MS} ms of CPU time")
        print(f"\none agent in {ENABLED_EVERY} is enabled", flush=True)
        measure_all(folder, provider.url, here)
        enable_all(Path(folder))
        print("\nall agents are enabled", flush=True)
        measure_all(folder, provider.url, here)


if __name__ == "__main__":
    main()
