"""What the filter's inlet costs: its own work on a request, in process, without HTTP.

    python -m benchmarks.hotswap

The three cases are those in which the peer (the Agent Hotswap filter, 108 personas) was measured: 0.13 to
0.19 ms each at best, 2.5 to 2.6 ms with the version file that it writes by default. The fourth is ours alone:
1,000 personas and a chat of 200 messages.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from agent_mode.chat.hotswap import Call, rewrite
from agent_mode.chat.runtime import Runtime
from agent_mode.observe import logs
from agent_mode.settings import Settings
from agent_mode.store.personas import PersonaForm
from agent_mode.valves import HotswapValves
from benchmarks.load import percentile

ROUNDS = 3000
GOAL_MS = 0.1
LARGE_GOAL_MS = 0.3
USER = {"id": "u1", "role": "admin"}


def request(number: int, text: str, parent: str | None, history: list[dict[str, str]]) -> dict[str, Any]:
    """An inlet call's body, as Open WebUI 0.12 sends it."""
    return {
        "model": "gpt-4o",
        "messages": [*history, {"role": "user", "content": text}],
        "metadata": {
            "chat_id": "benchmark",
            "message_id": f"m{number}",
            "session_id": "s1",
            "user_message_id": f"q{number}",
            "user_message": {"id": f"q{number}", "parentId": parent},
        },
    }


async def measure(runtime: Runtime, name: str, text: str, goal: float, messages: int = 2) -> None:
    """Prints the median and the 95th percentile of one case."""
    valves = HotswapValves.model_validate({})
    history = [
        {"role": ("user", "assistant")[n % 2], "content": f"This is message {n} of the chat."}
        for n in range(messages)
    ]
    first = request(0, "!coder write a function", None, history)
    await rewrite(runtime, Call(first, USER, "key"), valves)
    times: list[float] = []
    for number in range(1, ROUNDS):
        body = request(number, text, f"m{number - 1}", history)
        start = time.perf_counter()
        await rewrite(runtime, Call(body, USER, "key"), valves)
        times.append((time.perf_counter() - start) * 1000)
        await asyncio.sleep(0)  # as between two requests: what is written behind a chat begins
    print(f"{name:42}{statistics.median(times):>10.4f}{percentile(times, 0.95):>10.4f}{goal:>8}")


async def add_personas(runtime: Runtime, count: int) -> None:
    for number in range(count):
        form = PersonaForm(
            key=f"extra_{number}",
            name=f"Extra {number}",
            emoji="🎭",
            category="everyday",
            prompt="You are one of many.",
            description="One of many.",
            capabilities=(),
            tags=(),
        )
        await runtime.persona_store.save(form)
    await runtime.personas.load(runtime.persona_store)


async def run() -> None:
    logs.configure()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        runtime = await Runtime.open(Settings(data_dir=Path(folder)))  # pyright: ignore[reportCallIssue]
        try:
            print(f"{'ms':42}{'median':>10}{'p95':>10}{'goal':>8}")
            await measure(runtime, "!coder write a function", "!coder write a function", GOAL_MS)
            await measure(runtime, "no command, active persona", "and now?", GOAL_MS)
            several = "!coder do it !writer say it !teacher explain it"
            await measure(runtime, "3 personas in a message", several, GOAL_MS)
            await add_personas(runtime, 1000 - len(runtime.personas.all()))
            await measure(runtime, "1,000 personas, 200 messages", "and now?", LARGE_GOAL_MS, 200)
        finally:
            await runtime.close()


if __name__ == "__main__":
    asyncio.run(run())
