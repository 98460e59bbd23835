"""Runs of agents from end to end: over HTTP to a provider, with tools that the caller executes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from agent_mode.agents.definitions import CustomPythonDefinition, FileDefinition, PersonaDefinition
from agent_mode.agents.engine import (
    Chunks,
    Event,
    Failure,
    Image,
    Reasoning,
    Status,
    Text,
    ToolCalls,
    ToolCard,
    Usage,
)
from agent_mode.agents.runner import run_agent
from agent_mode.agents.spec import AgentSpec, Caller, Task
from agent_mode.chat.runtime import Runtime
from agent_mode.llm.assembly import Assembly, chunks_of
from agent_mode.valves import AgentValves, CustomPythonValves, PersonaValves
from tests.patience import until
from tests.provider import KEY, Provider
from tests.runtimes import settings

ANN = Caller("ann", "Ann")
DICE = {
    "type": "function",
    "function": {
        "name": "roll_dice",
        "description": "Rolls a die.",
        "parameters": {
            "type": "object",
            "properties": {"sides": {"type": "integer"}},
            "required": ["sides"],
        },
    },
}
CLOCK = {
    "type": "function",
    "function": {"name": "clock", "description": "The time.", "parameters": {"type": "object"}},
}


@pytest.fixture
async def runtime(tmp_path: Path, provider: Provider) -> AsyncIterator[Runtime]:
    provider.clear()
    opened = await Runtime.open(
        settings(
            tmp_path,
            openai_api_base_url=provider.base_url,
            openai_api_key=KEY,
            model="stub-agent",
            allow_custom_python=True,
        )
    )
    yield opened
    await opened.close()


def agent(agent_id: str = "helper", **valves: Any) -> AgentSpec:
    """A persona with tools."""
    return AgentSpec(
        id=agent_id,
        name=agent_id.capitalize(),
        description=f"The {agent_id}",
        agent_type="persona",
        definition=PersonaDefinition(persona=None, instructions="You help.", model=None),
        valves=AgentValves.model_validate(valves),
        instructions=f"You are {agent_id}.",
        model_id=agent_id,
    )


def coded(run: Callable[..., Any], agent_id: str = "coded", **valves: Any) -> AgentSpec:
    """An agent whose pipeline file overrides `run()`."""

    class File:
        pass

    file = File()
    file.run = run  # type: ignore[attr-defined]
    spec = replace(agent(agent_id, **valves), agent_type="custom_python", code=file)
    return replace(spec, definition=FileDefinition())


def task(text: str, *tools: dict[str, Any], **more: Any) -> Task:
    messages = [{"role": "system", "content": "You help."}, {"role": "user", "content": text}]
    return Task(messages, text, more.pop("caller", ANN), tools=tools or (DICE, CLOCK), **more)


@dataclass
class Told:
    """What a run told over all its requests."""

    events: list[Event] = field(default_factory=list)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    requests: int = 0

    @property
    def text(self) -> str:
        said = ""
        for event in self.events:
            match event:
                case Text(content):
                    said += content
                case Chunks(data):
                    whole = Assembly()
                    for chunk in chunks_of(data):
                        whole.add(chunk)
                    said += whole.text
        return said

    @property
    def thoughts(self) -> str:
        whole = Assembly()
        for event in self.events:
            if isinstance(event, Chunks):
                for chunk in chunks_of(event.data):
                    whole.add(chunk)
            elif isinstance(event, Reasoning):
                whole.reasoning += event.content
        return whole.reasoning

    @property
    def failure(self) -> Failure | None:
        return next((event for event in self.events if isinstance(event, Failure)), None)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


Execute = Callable[[str, Any], Any]


async def play(
    runtime: Runtime,
    spec: AgentSpec,
    asked: Task,
    execute: Execute = lambda name, arguments: f"{name} gave {json.dumps(arguments)}",
    between: Callable[[], Awaitable[Runtime]] | None = None,
) -> Told:
    """Runs an agent as Open WebUI does: executes the tools that it asks for, and asks again."""
    told = Told()
    while told.requests < 12:
        told.requests += 1
        waiting: tuple[Any, ...] = ()
        said = Told()
        async with aclosing(run_agent(spec, asked, runtime.services)) as events:
            async for event in events:
                told.events.append(event)
                said.events.append(event)
                if isinstance(event, ToolCalls):
                    waiting = event.calls
        if not waiting:
            return told
        message = {
            "role": "assistant",
            "content": said.text,
            "tool_calls": [
                {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
                for c in waiting
            ],
        }
        results = []
        for call in waiting:
            arguments = json.loads(call.arguments)
            told.calls.append((call.name, arguments))
            results.append(
                {"role": "tool", "tool_call_id": call.id, "content": execute(call.name, arguments)}
            )
        asked = replace(asked, messages=[*asked.messages, message, *results])
        if between is not None:
            runtime = await between()
    raise AssertionError("the run does not end")


async def test_a_tool_of_the_caller_is_executed_by_the_caller(runtime: Runtime) -> None:
    told = await play(runtime, agent(), task('call: roll_dice {"sides": 6}'))
    assert told.calls == [("roll_dice", {"sides": 6})]
    assert 'roll_dice gave {"sides": 6}' in told.text
    assert told.requests == 2
    assert told.failure is None
    [usage] = told.of(Usage)
    assert usage.totals["llm_calls"] == 2


async def test_parallel_calls_and_several_rounds(runtime: Runtime) -> None:
    asked = task('call: roll_dice {"sides": 6} & clock {} then call: roll_dice {"sides": 20}')
    told = await play(runtime, agent(), asked)
    assert told.calls == [("roll_dice", {"sides": 6}), ("clock", {}), ("roll_dice", {"sides": 20})]
    assert told.requests == 3
    await runtime.run_store.flush()
    [record], total = await runtime.run_store.page(0, 10)
    assert (total, record.state, record.steps) == (1, "done", 3)
    assert [call["name"] for call in record.tool_calls] == ["roll_dice", "clock", "roll_dice"]


async def test_what_is_no_such_tool_or_does_not_fit_is_told_to_the_model(
    runtime: Runtime, provider: Provider
) -> None:
    told = await play(runtime, agent(), task('call: nothing {} & roll_dice {"sides": "many"}'))
    assert told.calls == []
    assert "there is no tool “nothing”" in told.text
    assert "do not fit" in told.text
    assert told.failure is None


async def test_allowed_tools_are_all_that_the_model_sees(runtime: Runtime, provider: Provider) -> None:
    await play(runtime, agent(allowed_tools="clock"), task("say: hello"))
    assert [t["function"]["name"] for t in provider.last().body["tools"]] == ["clock"]


async def test_limits_end_a_run_readably(runtime: Runtime) -> None:
    rounds = " then ".join('call: roll_dice {"sides": 6}' for _ in range(5))
    told = await play(runtime, agent(max_tool_calls=2), task(rounds))
    assert told.failure is not None
    assert told.failure.error.code == "limit_tool_calls"
    assert "max_tool_calls" in told.failure.error.hint
    told = await play(runtime, agent(max_steps=3), task(rounds))
    assert told.failure is not None
    assert told.failure.error.code == "limit_steps"
    report = told.failure.error.report()
    assert {"agent", "run_id", "step", "elapsed_ms", "partial"} <= set(report)
    assert told.of(Status)[-1].error


async def test_the_time_limit_ends_what_hangs(runtime: Runtime, provider: Provider) -> None:
    told = await play(runtime, agent(llm_model="stub-hang", max_seconds=1), task("Hello"))
    assert told.failure is not None
    assert told.failure.error.code == "limit_seconds"


async def test_code_of_a_pipeline_file_goes_on_where_it_was(runtime: Runtime) -> None:
    begun = 0

    async def run(turn: Any, tools: Any, llm: Any, call_agent: Any, status: Any) -> AsyncIterator[Any]:
        nonlocal begun
        begun += 1
        await status("Rolling…")
        yield "One. "
        first = await tools.roll_dice(sides=6)
        yield f"Two: {first}. "
        answer = await llm("say: a word")
        yield f"Three: {answer}. "
        second, third = await asyncio.gather(tools.clock(), tools.roll_dice(sides=20))
        yield f"Four: {second} {third}."
        await status.image(b"png")

    told = await play(runtime, coded(run), task("Go"))
    assert told.text == (
        'One. Two: roll_dice gave {"sides": 6}. Three: a word. Four: clock gave {} '
        'roll_dice gave {"sides": 20}.'
    )
    assert told.calls == [("roll_dice", {"sides": 6}), ("clock", {}), ("roll_dice", {"sides": 20})]
    assert begun == 3
    assert len(told.of(Image)) == 1
    statuses = [event.description for event in told.of(Status)]
    assert statuses.count("Rolling…") == 1


async def test_a_run_goes_on_after_a_restart(tmp_path: Path, provider: Provider) -> None:
    configured = settings(
        tmp_path, openai_api_base_url=provider.base_url, openai_api_key=KEY, model="stub-agent"
    )
    asked_llm = 0

    async def run(turn: Any, tools: Any, llm: Any, call_agent: Any, status: Any) -> AsyncIterator[Any]:
        yield await llm("say: thought") + " "
        yield await tools.roll_dice(sides=6) + " "
        yield await tools.clock()

    runtimes = [await Runtime.open(configured)]

    async def restart() -> Runtime:
        await runtimes[-1].close()
        runtimes.append(await Runtime.open(configured))
        return runtimes[-1]

    provider.clear()
    told = await play(runtimes[0], coded(run), task("Go"), between=restart)
    asked_llm = len(provider.chats)
    await runtimes[-1].close()
    assert told.text == 'thought roll_dice gave {"sides": 6} clock gave {}'
    assert (len(runtimes), asked_llm) == (3, 1)


async def test_a_lost_snapshot_leaves_the_transcript(runtime: Runtime) -> None:
    async def lose() -> Runtime:
        await runtime.snapshots.prune(0)
        return runtime

    told = await play(runtime, agent(), task('call: roll_dice {"sides": 6}'), between=lose)
    assert 'roll_dice gave {"sides": 6}' in told.text


async def test_nobody_else_goes_on_with_a_run(runtime: Runtime) -> None:
    async def run(turn: Any, tools: Any, llm: Any, call_agent: Any, status: Any) -> AsyncIterator[Any]:
        yield f"secret of {turn.user['id']} "
        yield await tools.clock()

    spec = coded(run)
    asked = task("Go")
    first = [event async for event in run_agent(spec, asked, runtime.services)]
    assert isinstance(first[-1], ToolCalls)
    call = first[-1].calls[0]
    message = {"role": "assistant", "content": "", "tool_calls": [{"id": call.id}]}
    answer = {"role": "tool", "tool_call_id": call.id, "content": "noon"}
    theirs = replace(asked, messages=[*asked.messages, message, answer], caller=Caller("eve"))
    told = Told([event async for event in run_agent(spec, theirs, runtime.services)])
    assert "secret of eve" in told.text
    assert "ann" not in told.text


async def test_an_agent_calls_another_which_uses_the_users_tools(runtime: Runtime) -> None:
    child = agent("child", access="everyone")
    runtime.directory.add("child", lambda: child)
    parent = agent("parent", allowed_agents="child")
    inner = 'call: roll_dice {"sides": 8} then say: child rolled {results}'
    asked = task("call: call_agent " + json.dumps({"agent": "child", "task": inner}))
    told = await play(runtime, parent, asked)
    assert told.calls == [("roll_dice", {"sides": 8})]
    assert "child rolled" in told.text
    assert [card.name for card in told.of(ToolCard)] == ["call_agent"]
    assert any("Child" in event.description for event in told.of(Status))
    await runtime.run_store.flush()
    records, _ = await runtime.run_store.page(0, 10)
    assert sorted((r.agent, r.state, r.parent_id is not None) for r in records) == [
        ("child", "done", True),
        ("parent", "done", False),
    ]


async def test_each_record_counts_what_that_agent_did(runtime: Runtime) -> None:
    """The first one's counts all; two records of one agent do not share their calls."""
    child = agent("child", access="everyone")
    runtime.directory.add("child", lambda: child)
    parts = [
        "call_agent " + json.dumps({"agent": "child", "task": inner})
        for inner in ('call: roll_dice {"sides": 8} then call: clock {}', "say: nothing to do")
    ]
    told = await play(runtime, agent("parent", allowed_agents="child"), task(f"call: {' & '.join(parts)}"))
    assert [name for name, _ in told.calls] == ["roll_dice", "clock"]
    await runtime.run_store.flush()
    records, _ = await runtime.run_store.page(0, 10)
    found = {(r.agent, r.steps, *sorted(call["name"] for call in r.tool_calls)) for r in records}
    assert found == {
        ("child", 1),
        ("child", 3, "clock", "roll_dice"),
        ("parent", 6, "call_agent", "call_agent", "clock", "roll_dice"),
    }


async def test_a_called_agents_record_has_its_own_tokens(runtime: Runtime) -> None:
    child = agent("child", access="everyone")
    runtime.directory.add("child", lambda: child)
    asked = task('call: call_agent {"agent": "child", "task": "say: hi"}')
    await play(runtime, agent("parent", allowed_agents="child"), asked)
    await runtime.run_store.flush()
    records, _ = await runtime.run_store.page(0, 10)
    spent = {record.agent: (record.steps, record.usage["tokens"]) for record in records}
    assert spent["child"][0] == 1
    assert 0 < spent["child"][1] < spent["parent"][1]
    assert spent["parent"][0] == 3


async def test_an_agent_is_called_beside_a_tool_of_the_chat(runtime: Runtime) -> None:
    async def slow(turn: Any, tools: Any, llm: Any, call_agent: Any, status: Any) -> AsyncIterator[Any]:
        await asyncio.sleep(0.05)  # longer than a run waits before it hands the other call over
        yield await tools.roll_dice(sides=8)

    child = coded(slow, "child", access="everyone")
    runtime.directory.add("child", lambda: child)
    called = "call_agent " + json.dumps({"agent": "child", "task": "go"})
    told = await play(runtime, agent("parent", allowed_agents="child"), task(f"call: clock & {called}"))
    assert told.text == 'I saw: clock gave {} | roll_dice gave {"sides": 8}'
    assert [name for name, _ in told.calls] == ["clock", "roll_dice"]
    assert (told.of(Status)[-1].description, told.of(Status)[-1].done) == ("Done", True)


async def test_no_line_is_left_moving(runtime: Runtime) -> None:
    code = """
async def run(turn, tools, status):
    await status("Looking…")
    await tools.clock()
    if turn.text == "close":
        await status("Seen", done=True)
"""
    for text, progress, last in (
        ("leave", True, ["Calling clock…", "Done"]),
        ("close", True, ["Calling clock…", "Seen"]),
        ("leave", False, []),
        ("close", False, []),
    ):
        valves = CustomPythonValves.model_validate({"show_progress": progress})
        definition = CustomPythonDefinition(code=code, instructions=None, model=None)
        spec = replace(agent(), agent_type="custom_python", definition=definition, valves=valves)
        told = await play(runtime, spec, task(text))
        assert told.failure is None
        assert [line.description for line in told.of(Status) if line.done] == last


async def test_who_waits_for_the_model_sees_that(runtime: Runtime, provider: Provider) -> None:
    async def filed(_turn: Any, _tools: Any, llm: Any, _call_agent: Any, _status: Any) -> AsyncIterator[str]:
        yield await llm("say: a")

    def lines(told: Told) -> list[tuple[str, bool]]:
        return [(line.description, line.done) for line in told.of(Status)]

    thinking, done = ("Thinking…", False), ("Done", True)
    for spec in (
        agent(),
        coded(filed),
        python("async def run(llm):\n    yield await llm('say: a')\n"),
        python("async def run(llm):\n    async for part in llm.stream('say: a'): yield part\n"),
    ):
        told = await play(runtime, spec, task("say: a"))
        assert (told.text, lines(told)) == ("a", [thinking, done]), spec.agent_type
        assert isinstance(told.events[0], Status), "it stands there before the first word"
    told = await play(runtime, agent(), task("call: clock {}"))
    assert lines(told) == [thinking, ("Calling clock…", False), ("Calling clock…", True), thinking, done]
    told = await play(runtime, agent(), task("like: stub-503"))
    assert [line.error for line in told.of(Status)] == [False, True]
    assert lines(told)[-1][1]

    silent = (agent(show_progress=False), agent(allowed_tools="-*"), python("async def run(): yield 'a'"))
    for spec in silent:
        assert lines(await play(runtime, spec, task("say: a"))) == []


def python(code: str, agent_id: str = "helper", **valves: Any) -> AgentSpec:
    """An agent whose code runs in a process of its own."""
    definition = CustomPythonDefinition(code=code, instructions=None, model=None)
    usable = CustomPythonValves.model_validate(valves)
    return replace(agent(agent_id), agent_type="custom_python", definition=definition, valves=usable)


async def test_code_hears_the_model_piece_by_piece(runtime: Runtime) -> None:
    code = """
async def run(llm, status):
    status.image("https://pictures.example/ship.png", description="a red ship")
    yield len([part async for part in llm.stream("Count")])
"""
    told = await play(runtime, python(code, llm_model="stub-slow"), task("Go"))
    assert int(told.text) > 1
    assert [picture.description for picture in told.of(Image)] == ["a red ship"]


@pytest.mark.parametrize(
    ("code", "valves", "told"),
    [
        ("yield await llm('like: stub-503')", {}, ("provider_unavailable", 502, True)),
        (
            "yield await llm('say: a')\n    yield await llm('say: b')",
            {"max_steps": 1},
            ("limit_steps", 429, False),
        ),
        ("yield await call_agent('nobody', 'x')", {}, ("agent_not_allowed", 403, False)),
    ],
)
async def test_what_fails_below_code_is_told_as_of_other_engines(
    runtime: Runtime, code: str, valves: dict[str, Any], told: tuple[str, int, bool]
) -> None:
    code = f"async def run(llm, call_agent):\n    {code}\n"
    failure = (await play(runtime, python(code, **valves), task("Go"))).failure
    assert failure is not None
    assert (failure.error.code, failure.error.status, failure.error.retryable) == told
    assert "The agent's code failed in line" in failure.error.message


@pytest.mark.parametrize(
    "how", ["yield await llm('say: a', {})", "async for _ in llm.stream('say: a', {}): pass"]
)
@pytest.mark.parametrize(
    "field", ["model='gpt-9'", "messages=[]", "tools=[]", "stream=True", "tool_choice='auto'"]
)
async def test_code_is_told_what_it_cannot_set_of_a_request(
    runtime: Runtime, provider: Provider, how: str, field: str
) -> None:
    line = how.format(field)

    async def filed(_turn: Any, _tools: Any, llm: Any, _call_agent: Any, _status: Any) -> AsyncIterator[str]:
        scope: dict[str, Any] = {}
        exec(f"async def run(llm):\n    {line}\n    if False: yield", scope)
        async for piece in scope["run"](llm):
            yield piece

    provider.clear()
    for spec in (python(f"async def run(llm):\n    {line}\n    if False: yield\n"), coded(filed)):
        failure = (await play(runtime, spec, task("Go"))).failure
        assert failure is not None
        assert failure.error.code == "llm_argument"
        name = field.partition("=")[0]
        assert f"llm takes no `{name}`." in failure.error.message
        assert failure.error.hint
    assert not provider.chats, "it is refused, not ignored"


async def test_fields_of_a_request_that_code_may_set_arrive(runtime: Runtime, provider: Provider) -> None:
    code = "async def run(llm):\n    yield await llm('say: a', temperature=0, into=1, self=2)\n"
    assert (await play(runtime, python(code), task("Go"))).text == "a"
    body = provider.last().body
    assert (body["temperature"], body["into"], body["self"]) == (0, 1, 2)


async def test_memory_is_what_the_valve_says(runtime: Runtime) -> None:
    code = "async def run(turn):\n    yield len(bytearray(200 * 2**20))\n"
    little = await play(runtime, python(code, code_memory_mb=64), task("Go"))
    assert little.failure is not None
    assert little.failure.error.code == "code_memory"
    assert (await play(runtime, python(code, code_memory_mb=1024), task("Go"))).failure is None


async def test_a_model_in_the_valves_goes_before_that_of_the_definition(
    runtime: Runtime, provider: Provider
) -> None:
    definition = PersonaDefinition(persona=None, instructions="You help.", model="stub-usage")
    for valve, used in ((None, "stub-usage"), ("stub-echo", "stub-echo")):
        await play(runtime, replace(agent(llm_model=valve), definition=definition), task("Hi"))
        assert provider.last().body["model"] == used


async def test_a_called_persona_speaks_through_the_personas_own_llm(
    runtime: Runtime, provider: Provider
) -> None:
    valves = PersonaValves.model_validate({"llm_model": "stub-usage", "llm_api_key": "sk-personas"})
    runtime.directory.persona_valves = lambda: valves
    provider.clear()
    parent = agent("parent", allowed_agents="coder")
    asked = 'call: call_agent {"agent": "coder", "task": "Hello"}\nthen say: done'
    told = await play(runtime, parent, task(asked, caller=replace(ANN, admin=True)))
    assert told.failure is None
    used = {body["model"]: sent for sent in provider.chats if (body := sent.body)}
    assert used["stub-usage"].headers["authorization"] == "Bearer sk-personas"


@pytest.mark.parametrize("called", [False, True])
async def test_a_run_that_cannot_begin_leaves_a_record(runtime: Runtime, called: bool) -> None:
    definition = PersonaDefinition(persona="nobody", instructions=None, model=None)
    lost = replace(agent("lost", access="everyone"), definition=definition, instructions="")
    runtime.directory.add("lost", lambda: lost)
    parent = agent("parent", allowed_agents="lost")
    asked = 'call: call_agent {"agent": "lost", "task": "Hello"}\nthen say: done'
    await play(runtime, parent if called else lost, task(asked))
    found, _ = await runtime.run_store.page(0, 10, agent="lost")
    assert [record.state for record in found] == ["failed"]
    assert found[0].error is not None
    assert found[0].error["code"] == "persona_not_found"
    assert found[0].error["run_id"] == found[0].id
    assert bool(found[0].parent_id) is called


async def test_the_report_of_a_called_agent_is_whole(runtime: Runtime) -> None:
    child = agent("child", access="everyone", llm_model="stub-503")
    runtime.directory.add("child", lambda: child)
    asked = 'call: call_agent {"agent": "child", "task": "Hello"}\nthen say: done'
    await play(runtime, agent("parent", allowed_agents="child"), task(asked))
    [record], _ = await runtime.run_store.page(0, 10, agent="child")
    assert record.error is not None
    named = {"code", "message", "agent", "run_id", "step", "elapsed_ms", "partial", "retryable", "hint"}
    assert named <= set(record.error)
    assert (record.error["agent"], record.error["run_id"]) == ("child", record.id)


@pytest.mark.parametrize("kind", ["persona", "custom_python"])
async def test_tools_that_nobody_can_be_asked_for_are_told(runtime: Runtime, kind: str) -> None:
    if kind == "persona":
        told = await play(runtime, agent(more_tools=True), task("Hello"))
    else:
        code = "async def run(tools):\n    yield await tools.weather(city='Ulm')\n"
        told = await play(runtime, python(code, more_tools=True), task("Go"))
        assert told.failure is not None
        assert "register your own API key" in told.failure.error.message
    [line] = [status for status in told.of(Status) if "out of reach" in status.description]
    assert line.done
    assert "register your own API key" in line.description


async def test_several_agents_at_once(runtime: Runtime) -> None:
    for name in ("left", "right"):
        child = agent(name, access="everyone")
        runtime.directory.add(name, lambda child=child: child)
    parent = agent("parent", allowed_agents="left,right")
    calls = " & ".join(
        "call_agent "
        + json.dumps(
            {"agent": name, "task": f'call: roll_dice {{"sides": {sides}}} then say: {name} {{results}}'}
        )
        for name, sides in (("left", 4), ("right", 6))
    )
    told = await play(runtime, parent, task(f"call: {calls}"))
    assert sorted(told.calls, key=str) == [("roll_dice", {"sides": 4}), ("roll_dice", {"sides": 6})]
    assert told.requests == 2
    assert 'left roll_dice gave {"sides": 4}' in told.text
    assert 'right roll_dice gave {"sides": 6}' in told.text


async def test_agents_that_may_not_be_called(runtime: Runtime) -> None:
    runtime.directory.add("closed", lambda: agent("closed"))
    runtime.directory.add("a", lambda: agent("a", allowed_agents="*", access="everyone"))

    async def run(turn: Any, tools: Any, llm: Any, call_agent: Any, status: Any) -> AsyncIterator[Any]:
        for name in ("closed", "nobody", "coded"):
            try:
                await call_agent(name, "Hello")
            except Exception as error:  # noqa: BLE001
                yield f"{name}: {error.code}. "  # type: ignore[attr-defined]

    told = await play(runtime, coded(run, allowed_agents="closed,coded"), task("Go"))
    assert told.text == "closed: agent_no_access. nobody: agent_not_allowed. coded: agent_not_allowed. "


async def test_agents_in_a_circle_are_refused(runtime: Runtime) -> None:
    async def again(turn: Any, tools: Any, llm: Any, call_agent: Any, status: Any) -> AsyncIterator[Any]:
        yield await call_agent("one" if turn.text == "two" else "two", "one" if turn.text == "two" else "two")

    for name in ("one", "two"):
        spec = coded(again, name, allowed_agents="*", access="everyone")
        runtime.directory.add(name, lambda spec=spec: spec)
    told = await play(runtime, coded(again, "one", allowed_agents="*"), task("go"))
    assert told.failure is not None
    assert told.failure.error.code == "agent_cycle"
    assert "circle" in told.failure.error.message


async def test_agents_stand_no_deeper_than_three(runtime: Runtime) -> None:
    async def down(turn: Any, tools: Any, llm: Any, call_agent: Any, status: Any) -> AsyncIterator[Any]:
        depth = int(turn.text)
        yield f"{depth} "
        yield await call_agent(f"d{depth + 1}", str(depth + 1))

    for depth in range(1, 6):
        spec = coded(down, f"d{depth}", allowed_agents="*", access="everyone")
        runtime.directory.add(f"d{depth}", lambda spec=spec: spec)
    told = await play(runtime, coded(down, "d0", allowed_agents="*"), task("0"))
    assert told.failure is not None
    assert told.failure.error.code == "agent_depth"


async def test_code_that_fails_says_what_failed(runtime: Runtime) -> None:
    async def run(turn: Any, tools: Any, llm: Any, call_agent: Any, status: Any) -> AsyncIterator[Any]:
        yield "So far. "
        raise KeyError("price")

    told = await play(runtime, coded(run), task("Go"))
    assert told.text == "So far. "
    assert told.failure is not None
    report = told.failure.error.report()
    assert (report["code"], report["agent"], report["partial"]) == ("agent_failed", "coded", True)
    assert "KeyError" in report["message"]
    await runtime.run_store.flush()
    [record], _ = await runtime.run_store.page(0, 10)
    assert record.state == "failed"
    assert "test_agent_runs.py" in (record.trace or "")


async def test_secrets_in_what_code_says_are_for_admins_alone(runtime: Runtime) -> None:
    async def run(turn: Any, tools: Any, llm: Any, call_agent: Any, status: Any) -> AsyncIterator[Any]:
        yield "So far. "
        raise OSError(
            "no answer from https://ann:hidden-1@shop.example/v1?api_key=hidden-2 with Bearer hidden-3"
        )

    told = await play(runtime, coded(run), task("Go"))
    assert told.failure is not None
    message = told.failure.error.message
    assert "OSError: no answer from https://shop.example/v1?… with Bearer [secret]" in message
    await runtime.run_store.flush()
    [record], _ = await runtime.run_store.page(0, 10)
    assert "hidden" not in str(record.error)
    assert "ann:hidden-1@shop.example/v1?api_key=hidden-2" in (record.trace or "")


@pytest.mark.parametrize("model", ["stub-slow", "stub-hang", "stub-stall"])
async def test_stop_ends_the_run_and_the_providers_connection(
    runtime: Runtime, provider: Provider, model: str
) -> None:
    stream = run_agent(agent(llm_model=model), task("Hello"), runtime.services)
    first = asyncio.create_task(anext(stream))
    await until(lambda: provider.active == 1)
    await asyncio.sleep(0.2)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await stream.aclose()
    await until(lambda: not provider.active)
    await runtime.run_store.flush()
    [record], _ = await runtime.run_store.page(0, 10)
    assert record.state == "stopped"


async def test_stop_reaches_every_descendant(runtime: Runtime, provider: Provider) -> None:
    child = agent("child", access="everyone", llm_model="stub-hang")
    runtime.directory.add("child", lambda: child)
    asked = task(
        'call: call_agent {"agent": "child", "task": "x"} & call_agent {"agent": "child", "task": "y"}'
    )

    async def read() -> None:
        async with aclosing(
            run_agent(agent("parent", allowed_agents="child"), asked, runtime.services)
        ) as all_:
            async for _ in all_:
                pass

    reading = asyncio.create_task(read())
    await until(lambda: provider.active == 2)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await until(lambda: not provider.active)
    assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("agent ")]
    await runtime.run_store.flush()
    records, _ = await runtime.run_store.page(0, 10)
    assert {record.state for record in records} == {"stopped"}


async def test_two_hundred_runs_with_tools_at_once(runtime: Runtime) -> None:
    told = await asyncio.gather(
        *(
            play(runtime, agent(), task(f'call: roll_dice {{"sides": {number + 2}}} & clock {{}}'))
            for number in range(200)
        )
    )
    for number, one in enumerate(told):
        assert one.failure is None
        assert f'roll_dice gave {{"sides": {number + 2}}}' in one.text


async def test_reasoning_passes(runtime: Runtime) -> None:
    told = await play(runtime, agent(), task("think: hm. then say: done"))
    assert told.text == "done"
    assert told.thoughts == "hm."


async def test_pictures_of_tools_reach_the_model(runtime: Runtime, provider: Provider) -> None:
    picture = "data:image/png;base64,iVBORw0KGgo="
    from agent_mode.tools.results import images_note

    async def run(turn: Any, tools: Any, llm: Any, call_agent: Any, status: Any) -> AsyncIterator[Any]:
        yield await tools.clock()

    for spec in (agent(), coded(run)):
        asked = task("call: clock {}")
        first = [event async for event in run_agent(spec, asked, runtime.services)]
        assert isinstance(first[-1], ToolCalls)
        [call] = first[-1].calls
        back = [
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": call.id, "function": {"name": "clock"}}],
            },
            {"role": "tool", "tool_call_id": call.id, "content": "clock: Image file read successfully."},
            images_note([picture]),
        ]
        asked = replace(asked, messages=[*asked.messages, *back])
        told = Told([event async for event in run_agent(spec, asked, runtime.services)])
        assert told.failure is None
        assert "Image file read" in told.text
    assert picture in json.dumps(provider.chats[-1].body["messages"])


async def test_names_that_no_model_takes_are_given_others(runtime: Runtime, provider: Provider) -> None:
    long = "server.search_" + "x" * 80
    odd = {"type": "function", "function": {**CLOCK["function"], "name": long}}
    asked = task("Go", odd)
    provider.clear()
    await play(runtime, agent(), asked)
    [name] = [tool["function"]["name"] for tool in provider.last().body["tools"]]
    assert len(name) <= 64
    told = await play(runtime, agent(), task(f"call: {name} {{}}", odd))
    assert told.calls == [(long, {})]
    sent = provider.last().body["messages"]
    assert [call["function"]["name"] for m in sent for call in m.get("tool_calls") or ()] == [name]


async def test_a_result_of_a_megabyte_is_cut_for_the_model(runtime: Runtime, provider: Provider) -> None:
    told = await play(
        runtime,
        agent(tool_result_limit=2000),
        task('call: roll_dice {"sides": 6}'),
        execute=lambda *_: "x" * 2**20,
    )
    assert told.failure is None
