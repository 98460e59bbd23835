"""A line below the answer, where another persona clearly knows more about the question."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from agent_mode.agents.engine import Event, Text
from agent_mode.chat.access import forbidden
from agent_mode.chat.messages import message_text
from agent_mode.chat.scene import Scene
from agent_mode.chat.suggestion import better_suited, tip
from agent_mode.store.personas import Persona


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
    everyone = scene.roster.by_key.values()
    found = better_suited(scene.said.text, everyone, speaker.key)
    if found is None or await forbidden(scene.runtime, scene.turn.user, found.key):
        return
    words = tip(found.key, scene.grammar.prefix)
    if not any(words.strip() in message_text(message) for message in scene.turn.messages):
        offered.append(words)
