"""What a persona's turn leaves behind, and through which LLM the turns around it go."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent_mode.agents.definitions import PersonaDefinition
from agent_mode.agents.engine import Chunks, Event, Failure, Status, Usage
from agent_mode.agents.spec import AgentSpec
from agent_mode.chat.context import TurnContext, User
from agent_mode.chat.conversation import respond
from agent_mode.chat.hotswap import CONSOLE_KEY, Call, rewrite
from agent_mode.chat.runtime import Runtime
from agent_mode.chat.turn import Turn
from agent_mode.llm.assembly import Assembly, chunks_of
from agent_mode.llm.sse import Facts
from agent_mode.store.run_records import RunRecord
from agent_mode.valves import AgentValves, HotswapValves, PersonaValves
from tests.provider import KEY, Provider
from tests.runtimes import settings

DICE = {"type": "function", "function": {"name": "roll_dice", "parameters": {"type": "object"}}}
SECRET = "the connection key"


@pytest.fixture
async def runtime(tmp_path: Path, provider: Provider) -> AsyncIterator[Runtime]:
    provider.clear()
    known = settings(tmp_path, openai_api_base_url=provider.base_url, openai_api_key=KEY, model="stub-agent")
    opened = await Runtime.open(known)
    yield opened
    await opened.close()


async def ask(
    runtime: Runtime, messages: list[dict[str, Any]], model: str = "coder", **context: Any
) -> list[Event]:
    """One request of a chat."""
    turn = Turn(
        model=f"personas.{model}",
        messages=messages,
        stream=True,
        params={"tools": [DICE], "stream_options": {"include_usage": True}},
        context=TurnContext(chat_id="c1", message_id="m1", session_id="s", **context),
        user=User("ann"),
    )
    valves = PersonaValves.model_validate({})
    return [event async for event in respond(runtime, turn, model, valves, Facts())]


def message(events: list[Event]) -> dict[str, Any]:
    whole = Assembly()
    for event in events:
        for chunk in chunks_of(event.data) if isinstance(event, Chunks) else ():
            whole.add(chunk)
    return whole.message()


async def recorded(runtime: Runtime) -> RunRecord:
    [record], _ = await runtime.run_store.page(0, 10, agent="coder")
    return record


async def test_the_record_of_a_persona_tells_of_all_its_requests(runtime: Runtime) -> None:
    play = "call: roll_dice {}\nthen call: roll_dice {}\nthen say: {results}"
    messages = [{"role": "user", "content": play}]
    events: list[Event] = []
    for _ in range(3):
        events = await ask(runtime, messages)
        said = message(events)
        messages.append(said)
        messages += [
            {"role": "tool", "tool_call_id": call["id"], "content": "a three"}
            for call in said.get("tool_calls", ())
        ]
    record = await recorded(runtime)
    assert (record.state, record.steps) == ("done", 3)
    assert [(call["name"], call["result"]) for call in record.tool_calls] == [("roll_dice", "a three")] * 2
    assert record.usage["total_tokens"] == 3 * 18
    [usage] = [event.totals for event in events if isinstance(event, Usage)]
    assert usage["total_tokens"] == 3 * 18


async def test_another_question_begins_anew(runtime: Runtime) -> None:
    events: list[Event] = []
    for _ in range(2):
        events = await ask(runtime, [{"role": "user", "content": "say: hello"}])
    record = await recorded(runtime)
    assert (record.steps, record.tool_calls, record.usage["total_tokens"]) == (1, [], 18)
    assert not [event for event in events if isinstance(event, Usage)]


async def test_the_failure_of_a_persona_says_where_it_was(runtime: Runtime) -> None:
    events = await ask(runtime, [{"role": "user", "content": "like: stub-cut"}])
    [failure] = [event.error for event in events if isinstance(event, Failure)]
    record = await recorded(runtime)
    named = {"code", "message", "agent", "run_id", "step", "elapsed_ms", "partial", "retryable", "hint"}
    for report in (failure.report(), record.error):
        assert report is not None
        assert named <= set(report)
        assert (report["agent"], report["run_id"], report["partial"]) == ("coder", record.id, True)


async def test_background_tasks_of_an_agent_go_where_its_answers_come_from(
    runtime: Runtime, provider: Provider
) -> None:
    """They hold the words of the chat."""
    with Provider() as own:
        valves = AgentValves.model_validate(
            {"llm_base_url": own.base_url, "llm_api_key": KEY, "llm_model": "stub-agent"}
        )
        definition = PersonaDefinition(persona=None, instructions="You help.", model=None)
        spec = AgentSpec("local", "Local", "", "persona", definition, valves, model_id="local")
        runtime.directory.add("local", lambda: spec)
        await ask(runtime, [{"role": "user", "content": "say: x"}], "local", task="title_generation")
        assert [len(own.chats), len(provider.chats)] == [1, 0]


async def test_the_filters_valves_hold_where_it_gave_the_turn_to_the_console(
    runtime: Runtime, provider: Provider
) -> None:
    async def rerouted(**valves: Any) -> list[Event]:
        messages = [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "An earlier reply."},
            {"role": "user", "content": "!teacher say: one\n!writer say: two\n!CODER say: three"},
        ]
        metadata = {
            "chat_id": "c1",
            "message_id": "m1",
            "session_id": "s",
            "user_message": {"id": "q", "parentId": None},
        }
        body = {"model": "stub-agent", "messages": messages, "metadata": metadata}
        call = Call(body, {"id": "ada", "role": "admin"}, SECRET)
        provider.clear()
        sent = await rewrite(runtime, call, HotswapValves.model_validate(valves))
        assert sent["model"] == f"personas.{CONSOLE_KEY}"
        sent = json.loads(json.dumps({**sent, "stream": True}))
        turn = Turn.parse(sent, secret=SECRET)
        told = respond(runtime, turn, CONSOLE_KEY, PersonaValves.model_validate({}), Facts())
        return [event async for event in told]

    usual = await rerouted()
    assert [event for event in usual if isinstance(event, Status)]
    assert len(provider.chats) == 3
    assert "An earlier reply." in json.dumps(provider.chats[1].body)

    cased = await rerouted(case_sensitive=True)
    assert len(provider.chats) == 2, "what is no command is text"
    lines = [event.description for event in cased if isinstance(event, Status)]
    assert lines[-1] == "!CODER was sent as text: did you mean !coder?"

    changed = await rerouted(show_persona_info=False, history_policy="none")
    assert not [event for event in changed if isinstance(event, Status)]
    assert len(provider.chats) == 3
    assert "An earlier reply." not in json.dumps(provider.chats[1].body)
