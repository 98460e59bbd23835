"""LlamaIndex agents from end to end: over HTTP to a provider, with tools that the caller executes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent_mode.agents.definitions import FileDefinition, LlamaIndexDefinition
from agent_mode.agents.engine import Source, Text, ToolCalls, ToolCard, Usage
from agent_mode.agents.runner import run_agent
from agent_mode.agents.spec import AgentSpec, Caller, Task
from agent_mode.chat.runtime import Runtime
from agent_mode.errors import ProviderError
from agent_mode.settings import Settings
from agent_mode.tools.results import IMAGES_NOTE
from agent_mode.valves import AgentValves
from tests.patience import eventually, until
from tests.playing import Told, echo, play, request
from tests.provider import KEY, Provider, Reply
from tests.runtimes import settings

# LlamaIndex's own code uses what LlamaIndex and pydantic have deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20"),
]

ANN = Caller("ann", "Ann", admin=True)
PICTURE = "data:image/png;base64,iVBORw0KGgo="


def tool(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {
        "type": "function",
        "function": {"name": name, "description": f"Does {name}.", "parameters": parameters},
    }


DICE = tool("roll_dice", sides={"type": "integer"})
CLOCK = tool("clock")


@pytest.fixture
def configured(tmp_path: Path, provider: Provider) -> Settings:
    provider.clear()
    return settings(tmp_path, openai_api_base_url=provider.base_url, openai_api_key=KEY, model="stub-agent")


@pytest.fixture
async def runtime(configured: Settings) -> AsyncIterator[Runtime]:
    opened = await Runtime.open(configured)
    yield opened
    await opened.close()


def defined(agent_id: str = "helper", /, **definition: Any) -> AgentSpec:
    """An agent by its definition; `valves` are its valves."""
    valves = AgentValves.model_validate(definition.pop("valves", {}))
    return AgentSpec(
        id=agent_id,
        name=agent_id.capitalize(),
        description=f"The {agent_id}",
        agent_type="llamaindex_workflow",
        definition=LlamaIndexDefinition.model_validate({"instructions": "You help.", **definition}),
        valves=valves,
        instructions="You help.",
        model_id=agent_id,
    )


def coded(build: Callable[[Any], Any], agent_id: str = "coded", /, **valves: Any) -> AgentSpec:
    """An agent whose pipeline file overrides `build()`."""

    class File:
        def build(self, context: Any) -> Any:
            return build(context)

    spec = replace(defined(agent_id, valves=valves), code=File())
    return replace(spec, definition=FileDefinition())


def team(**definition: Any) -> AgentSpec:
    """Two agents that hand over."""
    agents = [
        {"name": "Planner", "description": "plans", "instructions": "You plan.", "tools": ["clock"]},
        {"name": "Writer", "description": "writes", "instructions": "You write."},
    ]
    return defined("team", style="multi_agent", agents=agents, **definition)


def task(text: str, *tools: dict[str, Any], **more: Any) -> Task:
    messages = [{"role": "system", "content": "You help."}, {"role": "user", "content": text}]
    return Task(messages, text, more.pop("caller", ANN), tools=tools or (DICE, CLOCK), **more)


def code_of(told: Told) -> str | None:
    return told.failure.error.code if told.failure else None


def seen_tools(provider: Provider, chat: int = -1) -> list[str]:
    return [t["function"]["name"] for t in provider.chats[chat].body.get("tools", ())]


async def gone() -> None:
    """Waits until no task of a run is left.

    Raises:
        AssertionError: some still are.
    """
    assert await eventually(lambda: not leftover()), leftover()


async def closed(provider: Provider) -> None:
    """Waits until nobody is connected to the provider any more.

    Raises:
        AssertionError: somebody is.
    """
    await until(lambda: not provider.active)


def leftover() -> list[str]:
    """Tasks of workflows and engines."""
    words = ("workflow", "_wait_for_result", "_run_worker", "_single_pull", "perform", "quiet", "concurrency")
    return [
        found
        for task in asyncio.all_tasks()
        if (found := repr(task.get_coro())) and any(word in found for word in words) and "test_" not in found
    ]


# --- a function agent


async def test_a_function_agent_answers(runtime: Runtime, provider: Provider) -> None:
    told = await play(runtime, defined(), task("say: hello"))
    assert told.text == "hello"
    assert told.failure is None
    body = provider.last().body
    assert body["messages"][0] == {"role": "system", "content": "You help."}
    assert body["stream_options"] == {"include_usage": True}
    assert not {"temperature", "tool_choice", "parallel_tool_calls"} & set(body)
    assert body["tools"] == [DICE, CLOCK]
    [usage] = told.of(Usage)
    assert usage.totals == {
        "prompt_tokens": 11,
        "completion_tokens": 7,
        "total_tokens": 18,
        "llm_calls": 1,
    }


async def test_it_streams(runtime: Runtime) -> None:
    told = await play(runtime, defined(valves={"llm_model": "stub-slow"}), task("Hello"))
    assert len(told.of(Text)) == 20


async def test_without_tools(runtime: Runtime, provider: Provider) -> None:
    asked = replace(task("say: hello"), tools=())
    told = await play(runtime, defined(), asked)
    assert told.text == "hello"
    assert not {"tools", "tool_choice"} & set(provider.last().body)


async def test_valves_and_the_chats_parameters_reach_the_provider(
    runtime: Runtime, provider: Provider
) -> None:
    asked = task("say: hello", params={"temperature": 0.1, "top_k": 3, "tools": [CLOCK]})
    await play(runtime, defined(valves={"temperature": 0.7}), asked)
    body = provider.last().body
    assert (body["temperature"], body["top_k"], body["tools"]) == (0.7, 3, [DICE, CLOCK])


async def test_a_model_name_that_nobody_knows(runtime: Runtime, provider: Provider) -> None:
    """LlamaIndex refuses `o1-pro`, and knows no context window of others."""
    with Provider(aliases={"o1-pro": "stub-agent", "ft:x:y": "stub-agent"}) as odd:
        for model in ("o1-pro", "ft:x:y"):
            valves = {"llm_base_url": odd.base_url, "llm_api_key": KEY, "llm_model": model}
            told = await play(runtime, defined(valves=valves), task("call: clock"))
            assert told.text == "I saw: clock gave {}"
            assert odd.last().body["model"] == model


async def test_the_demo_model_answers(tmp_path: Path) -> None:
    opened = await Runtime.open(settings(tmp_path))
    try:
        told = await play(opened, defined(), task("Hello"))
        assert "demo model" in told.text
    finally:
        await opened.close()


async def test_a_tool_of_the_caller(runtime: Runtime, provider: Provider) -> None:
    told = await play(runtime, defined(), task('tell: Let me see. then call: roll_dice {"sides": 6}'))
    assert told.calls == [("roll_dice", {"sides": 6})]
    assert told.text == 'Let me see.\n\nI saw: roll_dice gave {"sides": 6}'
    assert (told.requests, len(provider.chats)) == (2, 2)
    assert "Calling roll_dice…" in told.statuses
    await runtime.run_store.flush()
    [record], _ = await runtime.run_store.page(0, 10)
    assert (record.state, record.steps, [c["name"] for c in record.tool_calls]) == ("done", 2, ["roll_dice"])


@pytest.mark.parametrize("model", ["stub-agent", "stub-agent-slow", "stub-agent-ids"])
async def test_parallel_calls_and_several_rounds(runtime: Runtime, provider: Provider, model: str) -> None:
    many = " & ".join(f'roll_dice {{"sides": {sides}}}' for sides in range(2, 11))
    asked = task(f"call: {many}\nthen call: clock\nthen say: All of {{results}}")
    told = await play(runtime, defined(valves={"llm_model": model}), asked)
    assert told.rounds == [["roll_dice"] * 9, ["clock"]]
    results = " | ".join(echo("roll_dice", {"sides": sides}) for sides in range(2, 11))
    assert told.text == f"All of {results} | clock gave {{}}"
    assert len(provider.chats) == 3


async def test_the_same_call_twice_is_made_twice(runtime: Runtime) -> None:
    asked = task('call: roll_dice {"sides": 6} & roll_dice {"sides": 6} then call: roll_dice {"sides": 6}')
    numbers = iter(range(10))
    told = await play(runtime, defined(), asked, lambda *_: str(next(numbers)))
    assert told.text == "I saw: 0 | 1 | 2"


async def test_a_provider_that_sends_all_calls_in_one_chunk_and_without_ids(
    runtime: Runtime, provider: Provider
) -> None:
    calls = [
        {"function": {"name": "roll_dice", "arguments": {"sides": sides}}, "type": "function"}
        for sides in (4, 6)
    ]
    choice = {"index": 0, "delta": {"content": "So.", "tool_calls": calls}, "finish_reason": "tool_calls"}
    raw = f"data: {json.dumps({'id': 'x', 'choices': [choice]})}\n\ndata: [DONE]\n\n".encode()
    provider.script(Reply(raw=raw), "Both.")
    told = await play(runtime, defined(), task("Roll"))
    assert told.calls == [("roll_dice", {"sides": 4}), ("roll_dice", {"sides": 6})]
    assert told.text == "So.\n\nBoth."
    [assistant, *answers] = provider.last().body["messages"][2:]
    ids = [call["id"] for call in assistant["tool_calls"]]
    assert len(set(ids)) == 2
    assert [answer["tool_call_id"] for answer in answers] == ids


async def test_a_run_goes_on_in_another_process(configured: Settings, provider: Provider) -> None:
    """Nothing but the database is left between two requests."""
    opened = [await Runtime.open(configured)]

    async def restart() -> Runtime:
        await opened.pop().close()
        opened.append(await Runtime.open(configured))
        return opened[-1]

    asked = task('tell: A. then call: roll_dice {"sides": 6} & clock then tell: B. then call: clock')
    try:
        told = await play(opened[0], defined(), asked, between=restart)
    finally:
        await opened.pop().close()
    assert told.rounds == [["roll_dice", "clock"], ["clock"]]
    assert told.text.startswith("A.\n\nB.\n\nI saw: ")
    assert len(provider.chats) == 3


@pytest.mark.parametrize("style", ["function", "react"])
async def test_a_lost_snapshot_costs_nothing_but_what_was_inside(
    runtime: Runtime, provider: Provider, style: str
) -> None:
    async def lose() -> Runtime:
        await runtime.snapshots.drop(told_run())
        return runtime

    def told_run() -> str:
        return provider_run[0]

    provider_run: list[str] = []
    asked = task('call: roll_dice {"sides": 6} then call: clock')
    spec = defined(style=style)
    messages = list(asked.messages)
    ids: list[str] = []
    for result in ("four", "noon"):
        said = await request(runtime, spec, replace(asked, messages=messages))
        [waiting] = said.of(ToolCalls)
        [call] = waiting.calls
        ids.append(call.id)
        provider_run[:] = [call.id.split("_")[1]]
        await lose()
        function = {"name": call.name, "arguments": call.arguments}
        messages += [
            {"role": "assistant", "content": "", "tool_calls": [{"id": call.id, "function": function}]},
            {"role": "tool", "tool_call_id": call.id, "content": result},
        ]
    said = await request(runtime, spec, replace(asked, messages=messages))
    assert said.text == "I saw: four | noon"
    assert len(set(ids)) == 2
    if style == "react":
        assert all(m["role"] != "tool" for m in provider.last().body["messages"])


async def test_pictures_of_the_user_and_of_tools_reach_the_model(
    runtime: Runtime, provider: Provider
) -> None:
    parts = [
        {"type": "text", "text": "call: clock"},
        {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}},
    ]
    asked = replace(task("call: clock"), messages=[{"role": "user", "content": parts}])
    result = [{"type": "text", "text": "Here."}, {"type": "image_url", "image_url": {"url": PICTURE}}]
    told = await play(runtime, defined(), asked, lambda *_: result)
    sent = provider.last().body["messages"]
    assert sent[0]["content"] == parts
    assert [m["role"] for m in sent] == ["user", "assistant", "tool", "user"]
    assert sent[-1]["content"][0]["text"] == IMAGES_NOTE
    assert sent[-1]["content"][1]["image_url"]["url"] == PICTURE
    assert told.failure is None


async def test_pictures_in_open_webuis_note_reach_the_model(runtime: Runtime, provider: Provider) -> None:
    asked = task("call: clock & clock")
    said = await request(runtime, defined(), asked)
    [waiting] = said.of(ToolCalls)
    calls = [{"id": c.id, "function": {"name": c.name, "arguments": "{}"}} for c in waiting.calls]
    note = [{"type": "text", "text": IMAGES_NOTE}, {"type": "image_url", "image_url": {"url": PICTURE}}]
    messages = [
        *asked.messages,
        {"role": "assistant", "content": "", "tool_calls": calls},
        *({"role": "tool", "tool_call_id": c["id"], "content": "read"} for c in calls),
        {"role": "user", "content": note},
    ]
    said = await request(runtime, defined(), replace(asked, messages=messages))
    assert said.text.startswith("I saw: read | read")
    assert PICTURE in json.dumps(provider.last().body["messages"][-1])


async def test_what_goes_wrong_with_a_tool_is_told_to_the_model(runtime: Runtime) -> None:
    asked = task('call: nothing & roll_dice {"sides": "many"} & clock')
    told = await play(runtime, defined(), asked, lambda *_: "Error: tool call rejected by user.")
    assert told.calls == [("clock", {})]
    assert "Tool nothing not found" in told.text
    assert "do not fit" in told.text
    assert "rejected by user" in told.text
    assert told.failure is None


async def test_a_result_of_a_megabyte(runtime: Runtime, provider: Provider) -> None:
    told = await play(runtime, defined(), task("call: clock"), lambda *_: "x" * 1_000_000)
    assert told.failure is None
    content = provider.last().body["messages"][-1]["content"]
    assert len(content) <= 100_000
    assert "characters are left out" in content


async def test_reasoning_is_shown_as_reasoning_and_once(runtime: Runtime) -> None:
    told = await play(runtime, defined(), task("think: First.\ncall: clock\nthink: Second.\ncall: clock"))
    assert told.thoughts == "First.Second."
    assert told.requests == 3


async def test_only_the_last_answer(runtime: Runtime) -> None:
    asked = task("tell: Let me see.\ncall: clock\nsay: Noon.")
    told = await play(runtime, defined(output="final"), asked)
    assert told.text == "Noon."
    [text] = told.of(Text)
    assert text.content == "Noon."


async def test_a_tool_that_has_llamaindexs_own_name(runtime: Runtime, provider: Provider) -> None:
    told = await play(runtime, defined(), task("call: handoff_", tool("handoff")))
    assert told.calls == [("handoff", {})]
    assert told.failure is None


async def test_patterns_choose_the_tools(runtime: Runtime, provider: Provider) -> None:
    await play(runtime, defined(tools=["cl*"]), task("say: hello"))
    assert seen_tools(provider) == ["clock"]


async def test_schemas_reach_the_provider_as_they_are(runtime: Runtime, provider: Provider) -> None:
    odd = tool("odd")
    odd["function"]["parameters"] = {
        "type": "object",
        "properties": {
            "kind": {"enum": ["a", "b"], "default": "a"},
            "where": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]},
            "many": {"type": "array", "items": {"$ref": "#/$defs/one"}},
            "any": {"type": ["string", "null"]},
        },
        "required": ["where"],
        "additionalProperties": {"type": "string"},
        "$defs": {"one": {"type": "integer"}},
    }
    await play(runtime, defined(), task("say: hello", odd))
    assert provider.last().body["tools"] == [odd]


async def test_a_long_chat_is_forgotten_from_its_beginning(runtime: Runtime, provider: Provider) -> None:
    earlier = [
        {"role": role, "content": f"{number} " + "word " * 500}
        for number in range(20)
        for role in ("user", "assistant")
    ]
    asked = replace(task("say: hello"), messages=[*earlier, {"role": "user", "content": "say: hello"}])
    told = await play(runtime, defined(memory_tokens=2000), asked)
    assert told.text == "hello"
    sent = provider.last().body["messages"]
    assert [m["role"] for m in sent] == ["user", "assistant", "user"]


# --- ReAct


async def test_react(runtime: Runtime) -> None:
    asked = task('think: Hm.\ncall: roll_dice {"sides": 6}\nthink: Ah.\nsay: It is {results}.')
    told = await play(runtime, defined(style="react"), asked)
    assert told.failure is None
    assert told.text == 'It is roll_dice gave {"sides": 6}.'
    assert told.thoughts == "Hm.Ah."
    assert told.requests == 2


async def test_react_without_any_of_its_words(runtime: Runtime, provider: Provider) -> None:
    provider.script("It is plain.")
    told = await play(runtime, defined(style="react"), task("What is it?"))
    assert (told.text, told.failure) == ("It is plain.", None)


async def test_react_answers_without_a_thought(runtime: Runtime, provider: Provider) -> None:
    provider.script("Answer: It is plain.")
    told = await play(runtime, defined(style="react"), task("What is it?"))
    assert (told.text, len(provider.chats)) == ("It is plain.", 1)


async def test_react_corrects_itself_unseen(runtime: Runtime, provider: Provider) -> None:
    provider.script("Thought: I act.\nAction: clock\n", "Thought: Again.\nAnswer: Noon.")
    told = await play(runtime, defined(style="react"), task("What is it?"))
    assert (told.text, len(provider.chats)) == ("Noon.", 2)
    assert "Again." in told.thoughts


async def test_react_mentions_pictures(runtime: Runtime, provider: Provider) -> None:
    result = [{"type": "text", "text": "Here."}, {"type": "image_url", "image_url": {"url": PICTURE}}]
    told = await play(runtime, defined(style="react"), task("call: clock"), lambda *_: result)
    assert "[image]" in told.text


async def test_react_leaves_braces_in_instructions_alone(runtime: Runtime, provider: Provider) -> None:
    asked = task("say: hello")
    asked.messages[0]["content"] = 'Answer as {"a": 1} or {context}.'
    told = await play(runtime, defined(style="react"), asked)
    assert told.text == "hello"
    assert 'Answer as {"a": 1} or {context}.' in provider.last().body["messages"][0]["content"]


# --- several agents


async def test_agents_hand_over(runtime: Runtime, provider: Provider) -> None:
    asked = task(
        'tell: I plan.\ncall: handoff {"to_agent": "Writer", "reason": "writing"}\n'
        'call: roll_dice {"sides": 6}\nsay: Written.'
    )
    told = await play(runtime, team(), asked)
    assert told.failure is None
    assert told.text == "I plan.\n\nWritten."
    assert told.statuses.count("Writer takes over") == 1
    assert told.rounds == [["roll_dice"]]
    assert len(provider.chats) == 3
    first, second = provider.chats[0].body, provider.chats[1].body
    assert first["messages"][0]["content"] == "You help.\n\nYou plan."
    assert second["messages"][0]["content"] == "You write."
    assert seen_tools(provider, 0) == ["clock", "handoff"]
    assert seen_tools(provider, 1) == ["roll_dice", "clock", "handoff"]


async def test_who_may_take_over_is_defined(runtime: Runtime, provider: Provider) -> None:
    agents = [
        {"name": "A", "description": "a", "instructions": "You are A.", "can_hand_over_to": []},
        {"name": "B", "description": "b", "instructions": "You are B.", "style": "react"},
    ]
    spec = defined(style="multi_agent", agents=agents, root="B")
    told = await play(runtime, spec, task('call: handoff {"to_agent": "A", "reason": "r"}\nsay: Done.'))
    assert (told.text, told.failure) == ("Done.", None)
    assert "handoff" not in seen_tools(provider)
    assert provider.last().body["messages"][0]["content"] == "You are A."


async def test_a_team_goes_on_from_the_transcript_alone(runtime: Runtime) -> None:
    asked = task("call: clock\nsay: Noon.")
    said = await request(runtime, team(), asked)
    [waiting] = said.of(ToolCalls)
    [call] = waiting.calls
    await runtime.snapshots.drop(call.id.split("_")[1])
    function = {"name": call.name, "arguments": call.arguments}
    messages = [
        *asked.messages,
        {"role": "assistant", "content": "", "tool_calls": [{"id": call.id, "function": function}]},
        {"role": "tool", "tool_call_id": call.id, "content": "noon"},
    ]
    said = await request(runtime, team(), replace(asked, messages=messages))
    assert said.text == "Noon."


# --- agents of pipeline files


def function_agent(*tools: Any, **fields: Any) -> Callable[[Any], Any]:
    def build(context: Any) -> Any:
        from llama_index.core.agent.workflow import FunctionAgent

        return FunctionAgent(llm=context.llm, tools=[*context.tools, *tools], **fields)

    return build


async def test_an_agent_of_a_file_with_tools_of_its_own(runtime: Runtime, provider: Provider) -> None:
    called: list[str] = []

    async def weigh(what: str) -> str:
        """Weighs something."""
        called.append(what)
        return f"{what} weighs 3 kg"

    def fail() -> str:
        """Fails."""
        raise ValueError("out of order: token=hidden")

    asked = task('call: weigh {"what": "it"} & clock & fail\nthen call: clock')
    told = await play(runtime, coded(function_agent(weigh, fail)), asked)
    assert told.failure is None
    assert called == ["it"], "it is not called again when the run goes on"
    assert told.rounds == [["clock"], ["clock"]]
    assert (
        "it weighs 3 kg | clock gave {} | Error: fail failed with ValueError: out of order: token=[secret]"
        in told.text
    )
    cards = told.of(ToolCard)
    assert [card.name for card in cards] == ["weigh", "fail"]
    assert cards[0].result == "it weighs 3 kg"
    assert not any(call.name == "weigh" for waiting in told.of(ToolCalls) for call in waiting.calls)


async def test_an_own_tool_gets_the_workflows_context(runtime: Runtime) -> None:
    def build(context: Any) -> Any:
        from llama_index.core.workflow import Context

        async def note(ctx: Context, word: str) -> str:
            """Notes a word."""
            await ctx.store.set("word", word)
            return f"noted {await ctx.store.get('word')}"

        note.__annotations__["ctx"] = Context
        return function_agent(note)(context)

    told = await play(runtime, coded(build), task('call: note {"word": "blue"}'))
    assert told.text == "I saw: noted blue"


async def test_a_tool_that_answers_at_once(runtime: Runtime, provider: Provider) -> None:
    def build(context: Any) -> Any:
        from llama_index.core.tools import FunctionTool

        def quote() -> str:
            """Quotes."""
            return "To be."

        return function_agent(FunctionTool.from_defaults(quote, return_direct=True))(context)

    told = await play(runtime, coded(build), task("tell: Listen.\ncall: quote"))
    assert told.text == "Listen.\n\nTo be."
    assert len(provider.chats) == 1


async def test_sources_have_numbers_and_are_shown_once(runtime: Runtime, provider: Provider) -> None:
    def build(context: Any) -> Any:
        async def cite(name: str, text: str) -> str:
            return f"[{await context.source(text, f'https://example.org/{name}', text)}]"

        context.watch(cite)
        return function_agent()(context)

    asked = task('call: clock & roll_dice {"sides": 6} then call: clock then call: clock')
    told = await play(runtime, coded(build), asked)
    found = [source.url for source in told.of(Source)]
    assert found == ["https://example.org/clock", "https://example.org/roll_dice"]
    assert told.requests == 4
    results = [m["content"] for m in provider.last().body["messages"] if m["role"] == "tool"]
    assert results[1] == 'roll_dice gave {"sides": 6}\n\n[2]'
    assert [result[-3:] for result in results] == ["[1]", "[2]", "[1]", "[1]"]
    assert len(provider.chats) == 4


def workflow(**methods: Any) -> Callable[[Any], Any]:
    """Builds a workflow of one step; the step gets the context and the start event."""

    def build(context: Any) -> Any:
        from llama_index.core.workflow import Context, StartEvent, StopEvent, Workflow, step

        class Flow(Workflow):
            @step
            async def only_step(self, ctx: Context, ev: StartEvent) -> StopEvent:
                return StopEvent(result=await methods["step"](context, ctx, ev))

        Flow.only_step.__annotations__.update(ctx=Context, ev=StartEvent)
        return Flow()

    return build


async def test_any_workflow(runtime: Runtime, provider: Provider) -> None:
    given: list[dict[str, Any]] = [{"sides": 6}, {}]

    async def step(context: Any, ctx: Any, ev: Any) -> str:
        from llama_index.core.workflow import Event

        class Progress(Event):
            msg: str

        ctx.write_event_to_stream(Progress(msg="Half of it"))
        await context.status("All of it")
        first, second = await asyncio.gather(
            *(t.acall(**a) for t, a in zip(context.tools, given, strict=True))
        )
        answer = await context.llm.acomplete(f"say: {ev.user_msg} {first} {second}")
        return f"{answer} {len(ev.chat_history)}"

    told = await play(runtime, coded(workflow(step=step)), task("Go"))
    assert told.failure is None
    assert told.text == 'Go roll_dice gave {"sides": 6} clock gave {} 0'
    assert told.rounds == [["roll_dice", "clock"]]
    assert "Half of it" in told.statuses
    assert "All of it" in told.statuses
    assert len(provider.chats) == 1


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("words", "words"),
        ({"a": [1, "ü"]}, '```json\n{\n  "a": [\n    1,\n    "ü"\n  ]\n}\n```'),
        (None, ""),
        (3.5, "3.5"),
    ],
)
async def test_what_a_workflow_returns_is_the_answer(runtime: Runtime, result: Any, text: str) -> None:
    async def step(*_: Any) -> Any:
        return result

    told = await play(runtime, coded(workflow(step=step)), task("Go"))
    assert (told.text, told.failure) == (text, None)


async def test_a_workflow_with_a_start_event_of_its_own(runtime: Runtime) -> None:
    def build(context: Any) -> Any:
        from llama_index.core.workflow import StartEvent, StopEvent, Workflow, step

        class Asked(StartEvent):
            query: str
            messages: list[dict[str, Any]]

        class Wanting(StartEvent):
            colour: str

        kind = Wanting if context.turn.text == "colour" else Asked

        class Flow(Workflow):
            @step
            async def answer(self, ev: StartEvent) -> StopEvent:
                return StopEvent(result=f"{ev.query} {len(ev.messages)}")

        Flow.answer._step_config.accepted_events = [kind]  # pyright: ignore
        return Flow()

    told = await play(runtime, coded(build), task("Go"))
    assert told.text == "Go 2"
    told = await play(runtime, coded(build), task("colour"))
    assert code_of(told) == "agent_start_event"
    assert "colour" in str(told.failure)


async def test_code_without_await_uses_the_llm_in_a_thread(runtime: Runtime) -> None:
    def build(context: Any) -> Any:
        def think(words: str) -> str:
            """Thinks."""
            return context.llm.complete(f"say: {words}").text + "".join(
                response.delta or "" for response in context.llm.stream_complete("say: !")
            )

        return function_agent(think)(context)

    told = await play(runtime, coded(build), task('call: think {"words": "blue"}'))
    assert told.text == "I saw: blue!"


async def test_code_that_would_stop_the_server_is_told_so(runtime: Runtime) -> None:
    async def step(context: Any, *_: Any) -> str:
        return str(context.llm.complete("say: blue"))

    told = await play(runtime, coded(workflow(step=step)), task("Go"))
    assert code_of(told) == "agent_blocking_call"


async def test_structured_output(runtime: Runtime, provider: Provider) -> None:
    from pydantic import BaseModel

    class City(BaseModel):
        name: str

    provider.script("Rome it is.", Reply(tool_calls=[("City", {"name": "Rome"})]), '{"name": "Rome"}')
    spec = coded(function_agent(output_cls=City))
    told = await play(runtime, spec, replace(task("Which?"), tools=()))
    assert (told.text, told.failure) == ("Rome it is.", None)


async def test_what_a_file_must_not_build(runtime: Runtime) -> None:
    told = await play(runtime, coded(lambda context: "words"), task("Go"))
    assert code_of(told) == "agent_build"

    async def later(context: Any) -> Any:
        return function_agent()(context)

    told = await play(runtime, coded(later), task("say: hello"))
    assert told.text == "hello"


async def test_what_fails_in_build(runtime: Runtime) -> None:
    async def ask(context: Any) -> Any:
        await context.llm.acomplete("Hello")

    def stumble(context: Any) -> Any:
        raise KeyError("colour")

    told = await play(runtime, coded(ask, llm_model="stub-401"), task("Go"))
    assert code_of(told) == "provider_auth"
    told = await play(runtime, coded(stumble), task("Go"))
    assert told.failure is not None
    assert told.failure.error.message == "Coded failed in build() with KeyError: 'colour'."


async def test_a_failing_step_is_named(runtime: Runtime) -> None:
    async def step(*_: Any) -> str:
        await runtime.access.close()
        raise KeyError("colour")

    told = await play(runtime, coded(workflow(step=step)), task("Go"))
    assert code_of(told) == "agent_failed"
    assert told.failure is not None
    assert "Coded failed in the step only_step with KeyError: 'colour'." in told.failure.error.message
    await runtime.run_store.flush()
    [record], _ = await runtime.run_store.page(0, 10)
    assert "raise KeyError" in (record.trace or "")


async def test_secrets_in_what_a_step_says_are_for_admins_alone(runtime: Runtime) -> None:
    async def step(*_: Any) -> str:
        raise OSError("no answer from https://shop.example/v1?api_key=hidden")

    told = await play(runtime, coded(workflow(step=step)), task("Go"))
    assert told.failure is not None
    assert told.failure.error.message.endswith("OSError: no answer from https://shop.example/v1?….")
    await runtime.run_store.flush()
    [record], _ = await runtime.run_store.page(0, 10)
    assert "api_key=hidden" in (record.trace or "")


async def test_a_workflow_that_waits_for_a_person(runtime: Runtime) -> None:
    async def step(context: Any, ctx: Any, ev: Any) -> str:
        from llama_index.core.workflow import HumanResponseEvent, InputRequiredEvent

        question = InputRequiredEvent(prefix="Yes?")  # pyright: ignore[reportCallIssue]
        await ctx.wait_for_event(HumanResponseEvent, waiter_event=question)
        return "never"

    told = await play(runtime, coded(workflow(step=step)), task("Go"))
    assert code_of(told) == "agent_input_required"
    await gone()


async def test_a_workflow_keeps_a_timeout_of_its_own(runtime: Runtime) -> None:
    async def step(*_: Any) -> str:
        await asyncio.sleep(30)
        return "never"

    def build(context: Any) -> Any:
        flow = workflow(step=step)(context)
        assert flow._timeout == 45
        flow._timeout = 0.2
        return flow

    told = await play(runtime, coded(build), task("Go"))
    assert code_of(told) == "limit_seconds"
    assert "0.2 seconds" in str(told.failure)
    await gone()


# --- agents that call agents


def calls(agent: str, asked: str) -> str:
    return f"call: call_agent {json.dumps({'agent': agent, 'task': asked})}"


async def test_an_agent_two_levels_down_uses_a_tool_of_the_caller(
    configured: Settings, provider: Provider
) -> None:
    specs = {
        "top": defined("top", valves={"allowed_agents": "*"}),
        "mid": defined("mid", style="react", valves={"allowed_agents": "*"}),
        "low": team(),
    }
    specs["low"] = replace(specs["low"], id="low", name="Low")
    opened: list[Runtime] = []

    async def restart() -> Runtime:
        while opened:
            await opened.pop().close()
        opened.append(await Runtime.open(configured))
        for key, spec in specs.items():
            opened[-1].directory.add(key, lambda spec=spec: spec)
        return opened[-1]

    lowest = "call: clock\nthen call: clock\nthen say: Low saw {results}"
    asked = task(calls("mid", calls("low", lowest)))
    try:
        told = await play(await restart(), specs["top"], asked, between=restart)
    finally:
        await opened.pop().close()
    assert told.failure is None
    assert told.rounds == [["clock"], ["clock"]]
    assert told.text == "I saw: I saw: Low saw clock gave {} | clock gave {}"
    assert len(provider.chats) == 1 + 1 + 3 + 1 + 1
    assert told.statuses.count("Asking Mid…") >= 1


async def test_agents_side_by_side_wait_for_the_caller_together(runtime: Runtime, provider: Provider) -> None:
    for key in ("one", "two", "three"):
        spec = defined(key, valves={"llm_model": "stub-agent-slow" if key == "two" else "stub-agent"})
        runtime.directory.add(key, lambda spec=spec: spec)
    asks = [
        f"call_agent {json.dumps({'agent': key, 'task': 'call: clock'})}" for key in ("one", "two", "three")
    ]
    spec = defined("top", valves={"allowed_agents": "*"})
    told = await play(runtime, spec, task(f"call: {' & '.join(asks)}"))
    assert told.rounds == [["clock"] * 3]
    assert told.text == "I saw: " + " | ".join(["I saw: clock gave {}"] * 3)
    assert len(provider.chats) == 2 + 2 * 3


async def test_a_failing_agent_is_told_to_the_one_that_called_it(runtime: Runtime) -> None:
    spec = defined("low", valves={"llm_model": "stub-401"})
    runtime.directory.add("low", lambda: spec)
    told = await play(runtime, defined("top", valves={"allowed_agents": "low"}), task(calls("low", "Go")))
    assert told.failure is None
    assert "Low failed" in told.text


# --- errors and limits


@pytest.mark.parametrize("style", ["function", "react"])
@pytest.mark.parametrize(
    ("model", "code", "partial"),
    [
        ("stub-401", "provider_auth", ""),
        ("stub-429", "provider_rate_limit", ""),
        ("stub-503", "provider_unavailable", ""),
        ("stub-cut", "provider_broken_stream", "One two three"),
        ("stub-errchunk", "provider_error", "So far"),
        ("stub-html", "provider_not_json", ""),
    ],
)
async def test_the_providers_errors_stay_readable(
    runtime: Runtime, model: str, code: str, partial: str, style: str
) -> None:
    told = await play(runtime, defined(style=style, valves={"llm_model": model}), task("Hello"))
    assert told.failure is not None
    error = told.failure.error
    assert isinstance(error, ProviderError)
    assert error.code == code
    if style == "function":
        assert told.text.strip() == partial
    assert error.where["agent"] == "helper"
    await gone()


async def test_max_iterations(runtime: Runtime, provider: Provider) -> None:
    asked = task("call: clock then call: clock then say: Noon.")
    told = await play(runtime, defined(max_iterations=3), asked)
    assert (told.text, told.failure) == ("Noon.", None)
    provider.clear()
    told = await play(runtime, defined(max_iterations=2), asked)
    assert code_of(told) == "limit_iterations"
    assert len(provider.chats) == 2
    told = await play(runtime, defined(max_iterations=1), task("say: hello"))
    assert (told.text, told.failure) == ("hello", None)
    await gone()


@pytest.mark.parametrize(
    ("valves", "code"),
    [
        ({"max_steps": 2}, "limit_steps"),
        ({"max_tool_calls": 1}, "limit_tool_calls"),
        ({"max_tokens": 30}, "limit_tokens"),
    ],
)
@pytest.mark.parametrize("style", ["function", "react", "file"])
async def test_the_valves_limits(runtime: Runtime, valves: dict[str, int], code: str, style: str) -> None:
    spec = coded(function_agent(), **valves) if style == "file" else defined(style=style, valves=valves)
    told = await play(runtime, spec, task("call: clock then call: clock then call: clock"))
    assert code_of(told) == code
    assert told.statuses[-1].startswith(f"Failed: {code}")
    await gone()


async def test_the_time_limit(runtime: Runtime, provider: Provider) -> None:
    told = await play(runtime, defined(valves={"llm_model": "stub-hang", "max_seconds": 1}), task("Hello"))
    assert code_of(told) == "limit_seconds"
    await gone()
    await closed(provider)


# --- stop


async def stopped(runtime: Runtime, spec: AgentSpec, asked: Task, when: Callable[[], bool]) -> Told:
    """Runs until something is so, then stops as a disconnect does."""
    said = Told()

    async def read() -> None:
        async with aclosing(run_agent(spec, asked, runtime.services)) as events:
            async for event in events:
                said.events.append(event)

    reading = asyncio.create_task(read())
    await until(lambda: when() or reading.done())
    assert not reading.done()
    began = asyncio.get_running_loop().time()
    reading.cancel()
    await asyncio.wait({reading})
    assert asyncio.get_running_loop().time() - began < 0.7
    await gone()
    return said


@pytest.mark.parametrize("model", ["stub-hang", "stub-stall", "stub-slow"])
async def test_stop_ends_a_run_on_a_server_that_is_too_busy_to_wait_for_that(
    runtime: Runtime, provider: Provider, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_mode.agents.llamaindex.running._END_PATIENCE", 0)
    await stopped(runtime, defined(valves={"llm_model": model}), task("Hello"), lambda: provider.active == 1)
    await closed(provider)


@pytest.mark.parametrize("style", ["function", "react"])
@pytest.mark.parametrize("model", ["stub-hang", "stub-stall", "stub-slow"])
async def test_stop_closes_the_providers_connection(
    runtime: Runtime, provider: Provider, model: str, style: str
) -> None:
    spec = defined(style=style, valves={"llm_model": model})
    await stopped(runtime, spec, task("Hello"), lambda: provider.active == 1)
    await closed(provider)
    await runtime.run_store.flush()
    [record], _ = await runtime.run_store.page(0, 10)
    assert record.state == "stopped"


async def test_stop_in_a_tool_and_in_a_step(runtime: Runtime, provider: Provider) -> None:
    state: list[str] = []

    async def wait() -> str:
        """Waits."""
        state.append("began")
        try:
            await asyncio.sleep(60)
        finally:
            state.append("ended")
        return "never"

    async def step(*_: Any) -> str:
        return await wait()

    for build in (function_agent(wait), workflow(step=step)):
        state.clear()
        await stopped(runtime, coded(build), task("call: wait"), lambda: bool(state))
        assert state == ["began", "ended"]


async def test_stop_in_code_without_await(runtime: Runtime, provider: Provider) -> None:
    ended: list[bool] = []

    def build(context: Any) -> Any:
        def think() -> str:
            """Thinks."""
            try:
                return context.llm.complete("like: stub-hang").text
            finally:
                ended.append(True)

        return function_agent(think)(context)

    await stopped(
        runtime,
        coded(build),
        task("call: think"),
        lambda: len(provider.chats) == 2 and provider.active == 1,
    )
    await closed(provider)
    assert ended


async def test_stop_reaches_every_descendant(runtime: Runtime, provider: Provider) -> None:
    low = defined("low", valves={"llm_model": "stub-stall"})
    mid = defined("mid", valves={"allowed_agents": "low"})
    runtime.directory.add("low", lambda: low)
    runtime.directory.add("mid", lambda: mid)
    asks = " & ".join([calls("mid", calls("low", "Go")).removeprefix("call: ")] * 2)
    spec = defined("top", valves={"allowed_agents": "mid"})
    await stopped(
        runtime,
        spec,
        task(f"call: {asks}"),
        lambda: provider.active == 2 and provider.last().body["model"] == "stub-stall",
    )
    await closed(provider)


async def test_a_step_that_does_not_end_holds_nobody_up(runtime: Runtime) -> None:
    release = asyncio.Event()
    began: list[bool] = []

    async def step(*_: Any) -> str:
        began.append(True)
        while not release.is_set():
            with suppress(asyncio.CancelledError):
                await release.wait()
        return "at last"

    said = Told()

    async def read() -> None:
        said.events += (await request(runtime, coded(workflow(step=step)), task("Go"))).events

    reading = asyncio.create_task(read())
    await until(lambda: began)
    reading.cancel()
    await until(reading.done)
    release.set()
    await asyncio.sleep(0.7)
    await gone()


# --- many


async def test_fifty_runs_at_once(runtime: Runtime, provider: Provider) -> None:
    await play(runtime, defined(), task("say: warm"))
    before = len(asyncio.all_tasks())
    specs = [defined(), defined(style="react"), team()]

    async def one(number: int) -> str:
        asked = task(f'call: roll_dice {{"sides": {number}}} & clock\nthen call: clock', chat_id=f"c{number}")
        if number % 3 == 2:
            asked = task("call: clock & clock then call: clock", chat_id=f"c{number}")
        told = await play(runtime, specs[number % 3], asked)
        assert told.failure is None, told.failure
        # A ReAct agent calls one tool at a time; calls of one step go out together.
        assert [len(names) for names in told.rounds] == ([1, 1, 1] if number % 3 == 1 else [2, 1])
        return told.text

    texts = await asyncio.gather(*(one(number) for number in range(50)))
    for number, text in enumerate(texts):
        first = echo("roll_dice", {"sides": number}) if number % 3 != 2 else echo("clock", {})
        assert text == f"I saw: {first} | clock gave {{}} | clock gave {{}}"
    await gone()
    await until(lambda: len(asyncio.all_tasks()) <= before)  # the snapshots are tidied up after the answers


async def test_agent_mode_does_not_import_llamaindex() -> None:
    code = (
        "import sys\n"
        "import agent_mode.server.pipeline, agent_mode.agents.llamaindex, agent_mode.tools.adapter\n"
        "print([name for name in sys.modules if name.startswith(('llama_index', 'openai', 'workflows'))])"
    )
    found = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
