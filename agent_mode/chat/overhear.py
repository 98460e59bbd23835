"""What our own models say in a chat of several models, noted as it streams by."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from agent_mode.agents.engine import Chunks, Completion, Event, Text
from agent_mode.chat.runtime import Runtime
from agent_mode.chat.turn import Turn
from agent_mode.llm.assembly import Assembly, chunks_of


def overheard(runtime: Runtime, turn: Turn, told: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
    """The events as they come. In a chat of several models what was said is noted, also if it was stopped."""
    context = turn.context
    if (context.models or 0) < 2 or context.task or context.message_id is None:
        return told
    return _noted(runtime, context.message_id, turn.user.owner, told)


async def _noted(
    runtime: Runtime, message_id: str, owner: str, told: AsyncGenerator[Event, None]
) -> AsyncGenerator[Event, None]:
    heard = Assembly()
    try:
        async with aclosing(told) as events:
            async for event in events:
                _hear(heard, event)
                yield event
    finally:
        if heard.text:
            runtime.spawn(runtime.replies.said(message_id, heard.text, owner))


def _hear(heard: Assembly, event: Event) -> None:
    match event:
        case Chunks(data):
            for chunk in chunks_of(data):
                heard.add(chunk)
        case Text(content):
            heard.text += content
        case Completion(data):
            heard.add(data)
        case _:
            pass
