"""What a run of an agent costs, against the bare LlamaIndex `FunctionAgent` measured in the same run.

    python -m benchmarks.agents                # about two minutes

Every case streams 50 tokens without delay from the stub provider, over HTTP, which runs on a CPU of its own.
With a tool, the LLM is asked twice. The bare agent runs in a process without any of our code. Ours go through
all that a chat's run goes through below the web server: budget, record, memo, events. The two take turns in
blocks, so that a busy machine is busy for both.

    CPU      user and system time of one run, all threads of the process
    TTFT     from the start of the run to the first words
    inside   the tool runs here, as with the bare agent
    relay    Open WebUI executes the tool: the run ends with its call and goes on in a second request, which
             reads and writes the store; before it hands over, the run waits 15 ms for further calls
    start    how long it takes until code in a process of its own speaks; its fork server is warm
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent_mode.agents.definitions import CustomPythonDefinition, FileDefinition, PersonaDefinition
from agent_mode.agents.engine import Chunks, Failure, Text, ToolCalls
from agent_mode.agents.runner import run_agent
from agent_mode.agents.spec import AgentSpec, Task
from agent_mode.agents.toolbox import own_tool
from agent_mode.agents.toolloop import ToolLoop
from agent_mode.agents.types import agent_type
from agent_mode.agents.work import Work
from agent_mode.chat.runtime import Runtime
from agent_mode.observe import logs
from agent_mode.settings import Settings
from agent_mode.valves import AgentValves, CustomPythonValves
from benchmarks.peers.function_agent import PROMPT, QUESTION, add
from benchmarks.stand import HERE, KEY, cpus, pinned, stub

BLOCKS = 10
RUNS = 20
"""In one block of one case."""
STARTS = 60
"""Runs of custom Python."""
MODEL = "ft:gpt-4o:stub-n50-i0-f0"
"""To LlamaIndex a model that it knows; the stub reads the end of the name."""
CODE = "async def run(turn, tools, llm, call_agent, status):\n    yield turn.text\n"
ENGINE_GOAL, LEAN_GOAL = 1.1, 0.1
START_GOAL_MS = 50

NAME, DESCRIPTION = "add", "Adds two numbers."
PARAMETERS = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
}
TOOL = {
    "type": "function",
    "function": {"name": NAME, "description": DESCRIPTION, "parameters": PARAMETERS},
}


@dataclass
class Measured:
    """What the blocks of one case took.

    Attributes:
        cpu: milliseconds per run, of each block.
        first: milliseconds to the first words, of each run.
    """

    cpu: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)


Block = Callable[[int], Awaitable[Measured]]
"""Runs so many times."""


class Builder:
    """The same agent, as a pipeline file of ours would build it."""

    def __init__(self, *, tools: bool) -> None:
        self._tools: list[Any] = [add] if tools else []

    def build(self, context: Any) -> Any:
        from llama_index.core.agent.workflow import FunctionAgent  # noqa: PLC0415  as such files do

        return FunctionAgent(
            name="adder", system_prompt=context.system_prompt, tools=self._tools, llm=context.llm
        )


@agent_type("lean_inside", definition=PersonaDefinition)
class LeanInside(ToolLoop):
    """The lean loop with a tool that runs here; a persona's come with the request."""

    async def run(self, work: Work) -> None:
        async def run(arguments: dict[str, Any]) -> str:
            return str(await add(**arguments))

        work.tools.add(own_tool(NAME, DESCRIPTION, PARAMETERS, run))
        await super().run(work)


@contextmanager
def peer(url: str, cpu: int | None) -> Iterator[Callable[..., Block]]:
    """The bare FunctionAgent; gives what makes a case of it."""
    command = [sys.executable, str(HERE / "peers" / "function_agent.py"), url]
    with pinned(cpu):
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stdout is not None
    ask, tell = child.stdin, child.stdout

    def case(model: str, *, tools: bool) -> Block:
        def block(runs: int) -> Measured:
            ask.write(json.dumps({"model": model, "tools": tools, "runs": runs}) + "\n")
            ask.flush()
            told = json.loads(tell.readline())
            return Measured([told["cpu"]], told["first"])

        return lambda runs: asyncio.to_thread(block, runs)

    try:
        yield case
    finally:
        ask.close()
        child.wait(10)
        tell.close()


def ours(runtime: Runtime, spec: AgentSpec, *, relay: bool = False) -> Block:
    """A case of ours; with `relay` the caller executes the tool."""

    async def block(runs: int) -> Measured:
        gc.collect()
        before = time.process_time()
        first = [await run_once(runtime, spec, relay=relay) for _ in range(runs)]
        await runtime.run_store.flush()  # a run's record belongs to its cost
        return Measured([(time.process_time() - before) * 1000 / runs], first)

    return block


async def run_once(runtime: Runtime, spec: AgentSpec, *, relay: bool = False) -> float:
    """One run, in as many requests as it takes; returns the milliseconds to the first words."""
    began, first = time.perf_counter(), None
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": PROMPT},
        {"role": "user", "content": QUESTION},
    ]
    task = Task(messages, QUESTION, tools=(TOOL,) if relay else ())
    while True:
        waiting: tuple[Any, ...] = ()
        async for event in events_of(runtime, spec, task):
            if first is None and isinstance(event, Text | Chunks):
                first = time.perf_counter()
            if isinstance(event, ToolCalls):
                waiting = event.calls
        if not waiting:
            break
        task = Task([*task.messages, *answered(waiting)], QUESTION, tools=task.tools)
    if first is None:
        raise RuntimeError("the run said nothing")
    return (first - began) * 1000


async def events_of(runtime: Runtime, spec: AgentSpec, task: Task) -> AsyncIterator[Any]:
    async with aclosing(run_agent(spec, task, runtime.services)) as events:
        async for event in events:
            if isinstance(event, Failure):
                raise event.error
            yield event


def answered(calls: tuple[Any, ...]) -> list[dict[str, Any]]:
    """What a caller adds to the next request."""
    told = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in calls
    ]
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": str(sum(json.loads(call.arguments).values()))}
        for call in calls
    ]
    return [{"role": "assistant", "content": "", "tool_calls": told}, *results]


def spec_of(kind: str, definition: Any, model: str, code: Any = None) -> AgentSpec:
    valves = CustomPythonValves if kind == "custom_python" else AgentValves
    chosen = valves.model_validate({"llm_model": model})
    return AgentSpec("adder", "Adder", "", kind, definition, chosen, PROMPT, code=code)


async def by_turns(cases: list[Block]) -> list[Measured]:
    """Runs the cases block by block; the first blocks, with imports and connections, do not count."""
    for case in cases:
        await case(5)
    found = [Measured() for _ in cases]
    for number in range(BLOCKS):
        order = list(zip(cases, found, strict=True))
        for case, whole in order if number % 2 else order[::-1]:
            told = await case(RUNS)
            whole.cpu += told.cpu
            whole.first += told.first
    return found


def report(
    title: str, bare: Measured, mine: Measured, cpu_goal: float | None, first_goal: float | None
) -> None:
    """One comparison: medians, ratio, and whether that meets the goal."""
    rows = (("CPU", bare.cpu, mine.cpu, cpu_goal), ("TTFT", bare.first, mine.first, first_goal))
    for kind, theirs, own, goal in rows:
        a, b = statistics.median(theirs), statistics.median(own)
        print(f"{title:40}{kind:6}{a:>8.2f}{b:>8.2f}{b / a:>8.3f}  {verdict(b / a, goal)}".rstrip())


def verdict(value: float, goal: float | None) -> str:
    return "" if goal is None else f"{'pass' if value <= goal else 'MISS'} (goal {goal:g})"


async def compare(runtime: Runtime, bare: Callable[..., Block]) -> None:
    """The LlamaIndex engine and the lean loop against the bare agent, without and with a tool."""
    file, persona = FileDefinition(), PersonaDefinition.model_validate({"instructions": PROMPT})
    print(f"{'milliseconds, medians':40}{'':6}{'bare':>8}{'ours':>8}{'ratio':>8}")

    def engine(model: str, *, tools: bool) -> Block:
        return ours(runtime, spec_of("llamaindex_workflow", file, model, Builder(tools=tools)))

    plain = ours(runtime, spec_of("persona", persona, MODEL))
    theirs, built, lean = await by_turns([bare(MODEL, tools=False), engine(MODEL, tools=False), plain])
    report("LlamaIndex engine, no tool", theirs, built, ENGINE_GOAL, ENGINE_GOAL)
    report("lean loop, no tool", theirs, lean, LEAN_GOAL, None)
    model = f"{MODEL}-tool"
    inside = ours(runtime, spec_of("lean_inside", persona, model))
    relay = ours(runtime, spec_of("persona", persona, model), relay=True)
    theirs, built, lean, relayed = await by_turns(
        [bare(model, tools=True), engine(model, tools=True), inside, relay]
    )
    report("LlamaIndex engine, one tool call inside", theirs, built, ENGINE_GOAL, ENGINE_GOAL)
    report("lean loop, one tool call inside", theirs, lean, LEAN_GOAL, None)
    report("lean loop, one tool call by relay", theirs, relayed, LEAN_GOAL, None)


async def start_up(runtime: Runtime) -> None:
    """How soon code in a process of its own speaks."""
    definition = CustomPythonDefinition.model_validate({"code": CODE})
    spec = spec_of("custom_python", definition, MODEL)
    await run_once(runtime, spec)
    times = sorted([await run_once(runtime, spec) for _ in range(STARTS)])
    median, late = statistics.median(times), times[int(0.95 * len(times))]
    print(f"{'custom Python, start':40}{'p50':6}{'':8}{median:>8.2f}{'':8}  {verdict(median, START_GOAL_MS)}")
    print(f"{'':40}{'p95':6}{'':8}{late:>8.2f}")


async def main() -> None:
    logs.configure()
    logging.disable(logging.INFO)
    here, there = cpus()
    with (
        tempfile.TemporaryDirectory() as folder,
        stub(cpu=there) as provider,
        peer(provider.url, here) as bare,
        pinned(here),
    ):
        settings = Settings(data_dir=Path(folder), allow_custom_python=True)  # pyright: ignore[reportCallIssue]
        connected = {"openai_api_base_url": provider.url, "openai_api_key": KEY}
        runtime = await Runtime.open(settings.model_copy(update=connected))
        try:
            await compare(runtime, bare)
            await start_up(runtime)
        finally:
            await runtime.close()


if __name__ == "__main__":
    asyncio.run(main())
