"""The model Auto: an LLM chooses who answers, once; the choice is shown, kept and recorded."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_mode.agents import selector
from agent_mode.agents.engine import Failure, Status
from agent_mode.chat.context import TurnContext, User
from agent_mode.chat.conversation import AUTO_KEY, respond
from agent_mode.chat.runtime import Runtime
from agent_mode.chat.turn import Turn
from agent_mode.llm.sse import Facts
from agent_mode.observe.hooks import Event, PersonaSwitched, hooks
from agent_mode.store.sessions import Session
from agent_mode.valves import PersonaValves
from tests.patience import PATIENCE
from tests.provider import KEY, Provider
from tests.runtimes import CATALOGUE, settings

pytestmark = pytest.mark.skipif(not selector.is_available(), reason="LlamaIndex is not installed")

USER = User("ann")


@pytest.fixture(scope="module")
def provider_process() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture
def provider(provider_process: Provider) -> Provider:
    provider_process.clear()
    return provider_process


@pytest.fixture
async def runtime(tmp_path: Path, provider: Provider) -> AsyncIterator[Runtime]:
    known = settings(tmp_path, openai_api_base_url=provider.base_url, openai_api_key=KEY, model="stub")
    runtime = await Runtime.open(known)
    yield runtime
    await runtime.close()


class Chat:
    """A chat with the model Auto."""

    def __init__(self, runtime: Runtime, **valves: Any) -> None:
        self.runtime, self.valves = runtime, PersonaValves.model_validate(valves)
        self.messages: list[dict[str, Any]] = []

    async def ask(self, text: str) -> list[Any]:
        self.messages.append({"role": "user", "content": text})
        number = len(self.messages)
        context = TurnContext(
            chat_id="c",
            message_id=f"m{number}",
            parent_id=f"m{number - 2}" if number > 1 else None,
            session_id="s",
            branch_known=True,
        )
        turn = Turn(f"personas.{AUTO_KEY}", [*self.messages], stream=True, context=context, user=USER)
        events = [event async for event in respond(self.runtime, turn, AUTO_KEY, self.valves, Facts())]
        self.messages.append({"role": "assistant", "content": "It is so."})
        return events

    async def session(self) -> Session:
        async with asyncio.timeout(PATIENCE):
            # Noted off the user's path.
            while (found := await self.runtime.sessions.session("c", USER.owner)) is None:
                await asyncio.sleep(0.001)
        return found


def choice(runtime: Runtime, key: str) -> str:
    """The selector's answer that names a persona."""
    keys = [persona.key for persona in runtime.rosters.offered(None).personas]
    return json.dumps([{"choice": keys.index(key) + 1, "reason": "It fits."}])


def speakers(provider: Provider) -> list[str | None]:
    """Who each request of the provider was to be; None for the one that chooses."""
    texts = ["\n".join(str(m["content"]) for m in sent.body["messages"]) for sent in provider.chats]
    found = [re.search(r'<agent_mode agent="([^"]*)">', text) for text in texts]
    return [match[1] if match else None for match in found]


def statuses(events: list[Any]) -> list[tuple[str, bool]]:
    return [(event.description, event.done) for event in events if isinstance(event, Status)]


async def test_the_llm_chooses_once(runtime: Runtime, provider: Provider) -> None:
    chat = Chat(runtime)
    provider.script(choice(runtime, "scientist"))

    events = await chat.ask("Why is the sky blue?")

    assert speakers(provider) == [None, "scientist"]
    asked = json.dumps(provider.chats[0].body)
    assert "Why is the sky blue?" in asked
    for key in CATALOGUE:
        persona = runtime.personas.get(key)
        assert persona is not None
        assert f"{persona.name}: " in asked
    assert statuses(events) == [("Choosing who answers…", False), ("🔬 Scientist answers", True)]

    provider.clear()
    await chat.ask("And at night?")

    assert speakers(provider) == ["scientist"]


async def test_it_is_recorded_as_a_choice_of_ours(runtime: Runtime, provider: Provider) -> None:
    told: list[Event] = []
    unsubscribe = hooks.subscribe("persona.switched", told.append)
    provider.script(choice(runtime, "writer"))
    await Chat(runtime).ask("A poem")

    session = await Chat(runtime).session()
    unsubscribe()

    assert (session.active_agent, session.ui_agent) == ("writer", AUTO_KEY)
    assert [(switch.agent_id, switch.reason) for switch in session.agent_history] == [
        ("writer", "auto_suggestion")
    ]
    (event,) = told
    assert isinstance(event, PersonaSwitched)
    assert (event.persona, event.previous, event.reason) == ("writer", AUTO_KEY, "auto_suggestion")


async def test_without_persona_info_nothing_is_shown(runtime: Runtime, provider: Provider) -> None:
    provider.script(choice(runtime, "writer"))
    events = await Chat(runtime, show_persona_info=False).ask("A poem")

    assert statuses(events) == []
    assert speakers(provider) == [None, "writer"]


async def test_a_command_leaves_nothing_to_choose(runtime: Runtime, provider: Provider) -> None:
    chat = Chat(runtime)
    await chat.ask("!coder A loop")
    assert speakers(provider) == ["coder"]

    provider.script(choice(runtime, "writer"))
    await chat.ask("!reset A poem")

    assert speakers(provider) == ["coder", None, "writer"]


async def test_only_who_is_offered_can_be_chosen(runtime: Runtime, provider: Provider) -> None:
    await Chat(runtime, models="writer, teacher").ask("Why is the sky blue?")

    assert "Scientist" not in json.dumps(provider.chats[0].body)


@pytest.mark.parametrize("answer", ["I cannot say.", "[]", '[{"choice": 99, "reason": ""}]', "[" * 50])
async def test_an_answer_that_names_nobody_lets_somebody_answer(
    runtime: Runtime, provider: Provider, answer: str
) -> None:
    provider.script(answer)

    events = await Chat(runtime).ask("Hm?")

    assert not any(isinstance(event, Failure) for event in events)
    assert speakers(provider)[1] in CATALOGUE


async def test_a_provider_that_fails_is_told(runtime: Runtime) -> None:
    chat = Chat(runtime, llm_base_url="http://127.0.0.1:9/v1", llm_model="stub")

    events = await chat.ask("Hm?")

    assert statuses(events) == [("Choosing who answers…", False), ("Nobody could be chosen", True)]
    assert [event.error.code for event in events if isinstance(event, Failure)] == ["provider_unreachable"]
