"""Try it: a chat with a draft that leaves no run behind, and shows every prompt."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from agent_mode.admin import trying
from agent_mode.admin.agent_templates import draft_of
from agent_mode.admin.drafts import Draft, draft
from agent_mode.admin.trying import Asked, Ended, Heard
from agent_mode.agents import recording
from agent_mode.agents.engine import Chunks, Text
from agent_mode.agents.runner import run_agent
from agent_mode.agents.spec import Caller, Task
from agent_mode.chat import conversation
from agent_mode.chat.runtime import Runtime
from agent_mode.llm.assembly import Assembly, chunks_of
from agent_mode.observe.metrics import Metrics
from tests.patience import until
from tests.provider import Provider
from tests.runtimes import settings

pytestmark = pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning")


@pytest.fixture
async def runtime(tmp_path: Path, provider: Provider) -> AsyncIterator[Runtime]:
    fields = {
        "openai_api_base_url": provider.base_url,
        "openai_api_key": provider.key,
        "model": "stub",
        "allow_custom_python": True,
    }
    opened = await Runtime.open(settings(tmp_path, **fields))
    yield opened
    await opened.close()


@pytest.fixture
def provider() -> Any:
    with Provider() as running:
        yield running


def of(template: str, **changes: Any) -> Draft:
    values = draft_of(template, allow_code=True)
    assert values is not None
    made = draft({**values, "id": "mine", "name": "Mine", **changes}, known=None, allow_code=True)
    assert made.problems == []
    return made


async def heard(runtime: Runtime, made: Draft, **more: Any) -> list[Heard]:
    messages = [{"role": "user", "content": "Good morning"}]
    async with aclosing(trying.attempt(runtime, made, messages, tools=[], **more)) as events:
        return [event async for event in events]


def said(events: list[Heard]) -> str:
    words = ""
    for event in events:
        if isinstance(event, Text):
            words += event.content
        elif isinstance(event, Chunks):
            words += "".join(Assembly().add(chunk)[0] for chunk in chunks_of(event.data))
    return words


@pytest.mark.parametrize("template", ["persona", "function", "python"])
async def test_a_draft_answers_and_leaves_no_run(runtime: Runtime, template: str) -> None:
    events = await heard(runtime, of(template))
    assert "Hello from stub: Good morning" in said(events)
    asked = [event for event in events if isinstance(event, Asked)]
    assert len(asked) == 1
    assert asked[0].model == "stub"
    [*_, ended] = events
    assert isinstance(ended, Ended)
    assert ended.error is None
    assert [(record.agent, record.state) for record in ended.records] == [("mine", "done")]
    await runtime.run_store.flush()
    assert await runtime.run_store.page(0, 10) == ([], 0)
    assert len(runtime.runs) == 0


@pytest.mark.parametrize("model", ["stub", "stub-401"])
async def test_a_try_moves_no_figure(runtime: Runtime, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    figures = Metrics()
    monkeypatch.setattr(recording, "metrics", figures)
    monkeypatch.setattr(conversation, "metrics", figures)
    messages = [{"role": "user", "content": "Good morning"}]
    made = of("function", valves={"llm_model": model})
    active = set[int]()
    async with aclosing(trying.attempt(runtime, made, messages, tools=[])) as events:
        async for _ in events:
            active.add(runtime.runs.active)
    assert active == {0}
    assert (figures.runs.total, figures.turns.total, figures.errors.total) == (0, 0, 0)
    assert figures.success_rate is None

    spec = trying._spec(runtime, made, made.usable())
    task = Task(messages, "Good morning", Caller(admin=True))
    async with aclosing(run_agent(spec, task, runtime.services)) as real:
        assert [event async for event in real]
    assert figures.runs.total == 1, "a run for a user is counted"


async def test_the_prompt_is_what_the_provider_gets(runtime: Runtime, provider: Provider) -> None:
    events = await heard(
        runtime, of("persona", definition={"persona": "coder", "instructions": "In German."})
    )
    shown = json.loads(next(event for event in events if isinstance(event, Asked)).text)
    assert shown["messages"] == provider.last().body["messages"]
    assert shown["messages"][0]["content"].startswith("In German.\n\n")


@pytest.mark.parametrize("template", ["persona", "react", "multi-agent", "python"])
async def test_the_prompt_alone_asks_nobody(runtime: Runtime, provider: Provider, template: str) -> None:
    events = await heard(runtime, of(template), only_prompt=True)
    assert [type(event) for event in events if isinstance(event, Asked | Ended)] == [Asked, Ended]
    assert provider.chats == []


async def test_a_failure_is_told(runtime: Runtime) -> None:
    *_, ended = await heard(runtime, of("persona", valves={"llm_model": "stub-401"}))
    assert isinstance(ended, Ended)
    assert ended.error is not None
    assert ended.error.code == "provider_auth"


async def test_who_stops_reading_stops_the_run(runtime: Runtime, provider: Provider) -> None:
    made = of("persona", valves={"llm_model": "stub-slow"})
    reading = asyncio.create_task(heard(runtime, made))
    await until(lambda: provider.active)
    assert len(runtime.runs) == 1
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert len(runtime.runs) == 0
    await until(lambda: not provider.active)
