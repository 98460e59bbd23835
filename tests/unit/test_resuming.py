"""Who resumes a run, and what stops it from another process."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent_mode.admin import runs
from agent_mode.agents.definitions import FileDefinition, LlamaIndexDefinition, PersonaDefinition
from agent_mode.agents.engine import Image, Source, Status, Text, ToolCalls
from agent_mode.agents.spec import AgentSpec, Caller, Task
from agent_mode.chat.runtime import Runtime
from agent_mode.errors import RequestError
from agent_mode.store.run_records import RunRecord
from agent_mode.valves import AgentValves
from tests.patience import until
from tests.playing import play, request
from tests.provider import KEY, Provider
from tests.runtimes import settings

CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}


@pytest.fixture
async def runtime(tmp_path: Path, provider: Provider) -> AsyncIterator[Runtime]:
    opened = await open_runtime(tmp_path, provider)
    yield opened
    await opened.close()


async def open_runtime(folder: Path, provider: Provider) -> Runtime:
    fields = {"openai_api_base_url": provider.base_url, "openai_api_key": KEY, "model": "stub-agent"}
    return await Runtime.open(settings(folder, **fields))


def coded(run: Any, agent_id: str = "coded", **valves: Any) -> AgentSpec:
    """An agent whose pipeline file overrides `run()`."""
    code = type("File", (), {"run": staticmethod(run)})()
    chosen = AgentValves.model_validate(valves)
    return AgentSpec(agent_id, "Coded", "", "custom_python", FileDefinition(), chosen, code=code)


def task(text: str) -> Task:
    return Task([{"role": "user", "content": text}], text, Caller("ann", "Ann"), tools=(CLOCK,))


async def resumed(runtime: Runtime, spec: AgentSpec, asked: Task) -> Task:
    """The request that follows on the first one, with what the tool gave."""
    first = await request(runtime, spec, asked)
    [waiting] = first.of(ToolCalls)
    [call] = waiting.calls
    told = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
    back = [
        {"role": "assistant", "content": "", "tool_calls": [told]},
        {"role": "tool", "tool_call_id": call.id, "content": "noon"},
    ]
    return replace(asked, messages=[*asked.messages, *back])


async def test_two_requests_with_the_same_results_do_the_work_once(runtime: Runtime) -> None:
    entered, go_on = [], asyncio.Event()

    async def run(turn: Any, tools: Any, llm: Any, call_agent: Any, status: Any) -> AsyncIterator[Any]:
        time = await tools.clock()
        entered.append(time)
        await go_on.wait()
        yield f"It is {time}."

    spec = coded(run)
    following = await resumed(runtime, spec, task("Go"))
    requests = [asyncio.create_task(request(runtime, spec, following)) for _ in range(4)]
    await until(lambda: sum(request.done() for request in requests) == 3)
    done = {request for request in requests if request.done()}
    refused = [one.result().failure for one in done]
    assert [failure.error.code for failure in refused if failure] == ["run_busy"] * 3
    assert all(failure and failure.error.retryable and failure.error.status == 409 for failure in refused)
    go_on.set()
    [last] = set(requests) - set(done)
    assert (await last).of(Text) == [Text("It is noon.")]
    assert entered == ["noon"]


async def test_a_run_that_was_stopped_or_failed_can_be_resumed_again(runtime: Runtime) -> None:
    attempts = []

    async def run(turn: Any, tools: Any, llm: Any, call_agent: Any, status: Any) -> AsyncIterator[Any]:
        time = await tools.clock()
        attempts.append(time)
        if len(attempts) == 1:
            raise KeyError("once")
        if len(attempts) == 2:
            await asyncio.sleep(60)
        yield f"It is {time}."

    spec = coded(run)
    following = await resumed(runtime, spec, task("Go"))
    failure = (await request(runtime, spec, following)).failure
    assert failure is not None
    assert failure.error.code == "agent_failed"
    await asyncio.sleep(0.1)
    stopped = asyncio.create_task(request(runtime, spec, following))
    while len(attempts) < 2:
        await asyncio.sleep(0.01)
    stopped.cancel()
    await asyncio.gather(stopped, return_exceptions=True)
    await asyncio.sleep(0.1)
    assert (await request(runtime, spec, following)).of(Text) == [Text("It is noon.")]


async def test_what_was_shown_is_not_shown_again_in_a_later_request(runtime: Runtime) -> None:
    """Two agents side by side: one is still at what it did before while the other does something new."""

    async def parent(turn: Any, tools: Any, llm: Any, call_agent: Any, status: Any) -> AsyncIterator[Any]:
        await status("Begins")
        await asyncio.gather(call_agent("quick", "Go"), call_agent("slow", "Go"))
        await status("Ends")
        await status.image("https://pictures.example/end.png")
        yield "Both are done."

    def child(name: str, rounds: int, pause: float) -> AgentSpec:
        async def run(turn: Any, tools: Any, llm: Any, call_agent: Any, status: Any) -> AsyncIterator[Any]:
            await asyncio.sleep(pause)
            await status.source(f"{name} knows", "https://sources.example")
            for _ in range(rounds):
                await status("Again")
                await tools.clock()
            yield name

        return coded(run, name, access="everyone")

    for spec in (child("quick", 3, 0.0), child("slow", 2, 0.005)):
        runtime.directory.add(spec.id, lambda spec=spec: spec)
    told = await play(runtime, coded(parent, allowed_agents="quick,slow"), task("Go"))
    assert told.requests == 4
    assert [told.text, len(told.of(Image))] == ["Both are done.", 1]
    assert sorted(source.name for source in told.of(Source)) == ["quick knows", "slow knows"]
    shown = Counter(line.description for line in told.of(Status) if not line.done)
    assert shown["Begins"] == shown["Ends"] == 1
    assert shown["Coded: Again"] == 5
    assert shown["Asking Coded…"] == 2


async def test_another_process_stops_a_run(tmp_path: Path, runtime: Runtime, provider: Provider) -> None:
    other = await open_runtime(tmp_path, provider)
    try:
        task_ = asyncio.create_task(asyncio.sleep(60))
        run = runtime.runs.add(task_, leased=False)
        await other.stops.ask("somebody-else")
        await other.stops.ask(run.id)
        began = asyncio.get_running_loop().time()
        with pytest.raises(asyncio.CancelledError):
            await task_
        assert asyncio.get_running_loop().time() - began < 2
        assert run.stopped
    finally:
        await other.close()


async def test_a_run_whose_process_has_died_is_closed_when_somebody_stops_it(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "OBEYED_SECONDS", 0.05)
    begun = {"agent": "coded", "agent_type": "custom_python", "started_at": datetime.now(UTC)}
    lost = (RunRecord("top", **begun), RunRecord("below", parent_id="top", state="waiting", **begun))
    for record in lost:
        runtime.run_store.put(record)
    assert not await runs.stop(runtime, "top")
    states: list[str] = []
    for _ in range(2_000):
        states = [(await runs.known(runtime, record.id)).state for record in lost]
        if "running" not in states:
            break
        await asyncio.sleep(0.01)
    assert states == ["abandoned", "abandoned"]
    with pytest.raises(RequestError, match="abandoned"):
        await runs.stop(runtime, "top")


@pytest.mark.parametrize("kind", ["persona", "llamaindex_workflow"])
async def test_an_agent_whose_persona_is_gone_says_so(runtime: Runtime, kind: str) -> None:
    models = {"persona": PersonaDefinition, "llamaindex_workflow": LlamaIndexDefinition}
    definition = models[kind].model_validate({"persona": "gone"})
    valves = AgentValves.model_validate({"access": "everyone"})
    lost = AgentSpec("lost", "Lost", "", kind, definition, valves)
    told = await play(runtime, lost, task("Hi"))
    assert told.failure is not None
    assert told.failure.error.code == "persona_not_found"
    assert "enables the persona" in told.failure.error.hint

    async def run(turn: Any, tools: Any, llm: Any, call_agent: Any, status: Any) -> AsyncIterator[Any]:
        yield await call_agent("lost", "Say hi")

    runtime.directory.add("lost", lambda: lost)
    told = await play(runtime, coded(run, allowed_agents="lost"), task("Hi"))
    assert told.failure is not None
    assert "the persona gone, which does not exist" in told.failure.error.message
    assert not told.text
