"""LlamaIndex agents from end to end: over HTTP to a provider, with tools that the caller executes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_mode.agents.definitions import FileDefinition, LlamaIndexDefinition
from agent_mode.agents.engine import Usage
from agent_mode.agents.spec import AgentSpec, Caller, Task
from agent_mode.chat.runtime import Runtime
from agent_mode.valves import AgentValves
from tests.playing import play
from tests.provider import KEY, Provider
from tests.runtimes import settings

# LlamaIndex's own code uses what LlamaIndex and pydantic have deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20"),
]

ANN = Caller("ann", "Ann")


def tool(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {
        "type": "function",
        "function": {"name": name, "description": f"Does {name}.", "parameters": parameters},
    }


DICE = tool("roll_dice", sides={"type": "integer"})
CLOCK = tool("clock")


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.fixture
async def runtime(tmp_path: Path, provider: Provider) -> AsyncIterator[Runtime]:
    provider.clear()
    opened = await Runtime.open(
        settings(tmp_path, openai_api_base_url=provider.base_url, openai_api_key=KEY, model="stub-agent")
    )
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


def task(text: str, *tools: dict[str, Any], **more: Any) -> Task:
    messages = [{"role": "system", "content": "You help."}, {"role": "user", "content": text}]
    return Task(messages, text, more.pop("caller", ANN), tools=tools or (DICE, CLOCK), **more)


async def test_a_function_agent_answers(runtime: Runtime, provider: Provider) -> None:
    told = await play(runtime, defined(), task("say: hello"))
    assert told.text == "hello"
    assert told.failure is None
    assert provider.last().body["messages"][0] == {"role": "system", "content": "You help."}
    assert provider.last().body["stream_options"] == {"include_usage": True}
    assert "temperature" not in provider.last().body
    [usage] = told.of(Usage)
    assert usage.totals["llm_calls"] == 1


async def test_a_tool_of_the_caller(runtime: Runtime, provider: Provider) -> None:
    told = await play(runtime, defined(), task('tell: Let me see. then call: roll_dice {"sides": 6}'))
    assert told.calls == [("roll_dice", {"sides": 6})]
    assert told.text == 'Let me see.\n\nI saw: roll_dice gave {"sides": 6}'
    assert told.requests == 2
    assert len(provider.chats) == 2


async def test_react(runtime: Runtime, provider: Provider) -> None:
    told = await play(runtime, defined(style="react"), task('think: Hm. then call: roll_dice {"sides": 6}'))
    assert told.failure is None
    assert told.text == 'I saw: roll_dice gave {"sides": 6}'
    assert "Hm." in told.thoughts
    assert "Action" not in told.thoughts
    assert told.requests == 2
