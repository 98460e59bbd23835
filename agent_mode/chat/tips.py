"""A line below the answer, where another persona clearly knows more about the question."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from agent_mode.agents.engine import Event, Text
from agent_mode.chat.access import forbidden
from agent_mode.chat.context import User
from agent_mode.chat.messages import message_text
from agent_mode.chat.roster import Roster
from agent_mode.chat.runtime import Runtime
from agent_mode.chat.scene import Scene
from agent_mode.chat.suggestion import better_suited, tip
from agent_mode.store.personas import Persona


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked, and who answers.

    Attributes:
        text: without commands.
        user: who asks.
        roster: who can be called.
        speaker: key of the persona that answers; empty where none does.
        prefix: what a command begins with.
        messages: the transcript as it is shown.
    """

    text: str
    user: User
    roster: Roster
    speaker: str
    prefix: str
    messages: list[dict[str, Any]]


async def tip_for(runtime: Runtime, question: Question) -> str | None:
    """The line, unless nobody knows more, the user may not call who does, or it was said in this chat."""
    found = better_suited(question.text, question.roster.by_key.values(), question.speaker)
    if found is None or await forbidden(runtime, question.user, found.key):
        return None
    words = tip(found.key, question.prefix)
    said = any(words.strip() in message_text(message) for message in question.messages)
    return None if said else words


def with_tip(
    scene: Scene, speaker: Persona, told: AsyncGenerator[Event, None]
) -> AsyncGenerator[Event, None]:
    """The events as they come, then the tip. It is found while the model speaks, and never waited for."""
    return _followed(scene, speaker, told) if _wanted(scene) else told


async def _followed(
    scene: Scene, speaker: Persona, told: AsyncGenerator[Event, None]
) -> AsyncGenerator[Event, None]:
    offered: list[str] = []
    scene.runtime.spawn(_find(scene, speaker, offered))
    async with aclosing(told) as events:
        async for event in events:
            yield event
    if offered and scene.facts.finish_reason in (None, "stop"):
        yield Text(offered[0])


def _wanted(scene: Scene) -> bool:
    """Only for a person who looks at one streamed answer, and who did not just say who is to answer."""
    turn = scene.turn
    alone = (turn.context.models or 1) == 1
    shown = turn.context.interactive and turn.stream and alone
    return scene.valves.enable_suggestions and shown and not scene.said.commands


async def _find(scene: Scene, speaker: Persona, offered: list[str]) -> None:
    text, turn, prefix = scene.said.text, scene.turn, scene.grammar.prefix
    question = Question(text, turn.user, scene.roster, speaker.key, prefix, turn.messages)
    line = await tip_for(scene.runtime, question)
    if line is not None:
        offered.append(line)
