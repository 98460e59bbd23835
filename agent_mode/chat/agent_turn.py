"""A turn that an agent answers: what the conversation found out becomes the agent's task."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from agent_mode.agents import recording
from agent_mode.agents.engine import Chunks, Completion, Embed, Event, Failure, Image, Text, ToolCalls
from agent_mode.agents.runner import run_agent
from agent_mode.agents.spec import AgentSpec, Task
from agent_mode.chat.access import caller_of
from agent_mode.chat.cards import without_cards
from agent_mode.chat.messages import message_text
from agent_mode.chat.own_words import silent
from agent_mode.chat.scene import Scene, connection_for, last_user
from agent_mode.chat.turn import Turn

GO_ON = "Go on with your last answer from exactly where it ends. Repeat nothing of it."
"""What an agent is asked whose answer is to go on: it begins anew with every message of the user."""


async def answer(
    scene: Scene, spec: AgentSpec, *, previous: str | None, switched: bool
) -> AsyncGenerator[Event, None]:
    """Runs the agent on this turn.

    Args:
        scene: the turn.
        spec: the agent.
        previous: key of whoever answered before.
        switched: whether that is a switch.

    Raises:
        AgentModeError: it could not even begin.
    """
    entry = scene.roster.get(spec.id)
    assert entry is not None, "the roster holds every agent that can speak"
    model = await scene.runtime.llm.choose_model(connection_for(scene.runtime, spec.valves), spec.model)
    messages = scene.prepared(entry, model, previous=previous, switched=switched)
    task = task_of(scene.turn, without_cards(messages), scene.said.text)
    if scene.continues:
        task = going_on(task)
    told = run_agent(spec, task, scene.runtime.services)
    async with aclosing(answered(told, spec, spoken=_has_spoken(scene))) as events:
        async for event in events:
            yield event


def going_on(task: Task) -> Task:
    """The task of an agent whose answer, the last message, is to go on."""
    return replace(task, messages=[*task.messages, {"role": "user", "content": GO_ON}], text=GO_ON)


async def answered(
    told: AsyncGenerator[Event, None], spec: AgentSpec, *, spoken: bool = False
) -> AsyncGenerator[Event, None]:
    """The agent's events, and a word about it if there is no answer among them.

    Args:
        told: the events.
        spec: the agent.
        spoken: whether earlier requests of this turn brought some of the answer.
    """
    async with aclosing(told) as events:
        async for event in events:
            spoken = spoken or _speaks(event)
            yield event
    if not spoken:
        yield Text(silent(spec.name))


def _speaks(event: Event) -> bool:
    """Whether there is something to see of an answer, or why there is none."""
    match event:
        case Text(content):
            return bool(content.strip())
        case Chunks(_, length):
            return length > 0
        case Completion() | Embed() | Image() | ToolCalls() | Failure():
            return True
        case _:
            return False


def _has_spoken(scene: Scene) -> bool:
    index = last_user(scene.turn.messages)
    after = scene.turn.messages[index + 1 :] if index is not None else ()
    return any(m["role"] == "assistant" and message_text(m).strip() for m in after)


def task_of(turn: Turn, messages: list[dict[str, Any]], text: str) -> Task:
    """The turn as an agent's task.

    Args:
        turn: the request.
        messages: what is to be sent to an LLM.
        text: the user's words, without commands.
    """
    tools = turn.params.get("tools")
    return Task(
        messages=messages,
        text=text,
        caller=caller_of(turn.user),
        chat_id=turn.context.chat_id,
        message_id=turn.context.message_id,
        tools=tuple(tools) if isinstance(tools, list) else (),
        params={k: v for k, v in turn.params.items() if k not in ("tools", "tool_choice", "stream_options")},
        interactive=turn.context.interactive,
        run_id=run_id_of(turn),
    )


def run_id_of(turn: Turn) -> str:
    """The id of the run that the turn is, or goes on with."""
    return recording.run_id_of(turn.context.chat_id, turn.context.message_id, turn.user.owner)
