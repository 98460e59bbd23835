"""What our own models say side by side is noted as it streams by, whatever becomes of the stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent_mode.agents.engine import Chunks, Completion, Event, Reasoning, Status, Text
from agent_mode.chat.context import TurnContext, User
from agent_mode.chat.overhear import overheard
from agent_mode.chat.runtime import Runtime
from agent_mode.chat.turn import Turn
from agent_mode.store.replies import Reply
from tests.runtimes import settings

CONTEXT = TurnContext(chat_id="c", message_id="m", models=2, place=1)
ANN = User("ann")
TURN = Turn("coder", [], context=CONTEXT, user=ANN)


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Runtime]:
    opened = await Runtime.open(settings(tmp_path))
    opened.replies.begin(Reply("m", "c", "q", None, 1, "coder", None, datetime.now(UTC), "ann"))
    yield opened
    await opened.close()


def chunk(**delta: Any) -> Chunks:
    return Chunks(f"data: {json.dumps({'choices': [{'delta': delta}]})}\n\n".encode())


async def telling(*events: Event) -> AsyncGenerator[Event, None]:
    for event in events:
        yield event


async def noted(runtime: Runtime) -> str | None:
    await asyncio.sleep(0.01)
    reply = (await runtime.replies.thread("c", "ann")).get("m")
    return reply.text if reply else None


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ([chunk(content="One "), chunk(content="two"), chunk(reasoning_content="hm")], "One two"),
        (
            [Status("Coder"), Text("**Coder**\n\n"), Reasoning("hm"), chunk(content="Yes.")],
            "**Coder**\n\nYes.",
        ),
        ([Completion({"choices": [{"message": {"role": "assistant", "content": "Whole."}}]})], "Whole."),
        ([chunk(tool_calls=[{"index": 0}]), chunk(content=None)], None),
        ([], None),
    ],
)
async def test_the_words_are_noted(runtime: Runtime, events: list[Event], text: str | None) -> None:
    assert [event async for event in overheard(runtime, TURN, telling(*events))] == events

    assert await noted(runtime) == text


async def test_what_was_said_until_it_was_stopped_is_noted(runtime: Runtime) -> None:
    told = overheard(runtime, TURN, telling(chunk(content="One "), chunk(content="two")))
    async with aclosing(told):
        await anext(told)

    assert await noted(runtime) == "One "


async def test_what_was_said_until_it_failed_is_noted(runtime: Runtime) -> None:
    async def failing() -> AsyncGenerator[Event, None]:
        yield chunk(content="One ")
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        async for _ in overheard(runtime, TURN, failing()):
            pass

    assert await noted(runtime) == "One "


@pytest.mark.parametrize(
    "context",
    [
        TurnContext(chat_id="c", message_id="m"),
        TurnContext(chat_id="c", message_id="m", models=1),
        TurnContext(chat_id="c", models=2),
        TurnContext(chat_id="c", message_id="m", models=2, task="title_generation"),
        TurnContext(),
    ],
    ids=str,
)
async def test_elsewhere_nobody_listens(runtime: Runtime, context: TurnContext) -> None:
    told = telling(chunk(content="One"))

    assert overheard(runtime, replace(TURN, context=context), told) is told
    await told.aclose()
