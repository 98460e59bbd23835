"""A turn that an agent answers: what the conversation found out becomes the agent's task."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from agent_mode.agents import recording
from agent_mode.agents.engine import Event
from agent_mode.agents.runner import run_agent
from agent_mode.agents.spec import AgentSpec, Task
from agent_mode.chat.access import caller_of
from agent_mode.chat.cards import without_cards
from agent_mode.chat.scene import Scene, connection_for
from agent_mode.chat.turn import Turn


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
    model = await scene.runtime.llm.choose_model(
        connection_for(scene.runtime, spec.valves), getattr(spec.definition, "model", None)
    )
    messages = scene.prepared(entry, model, previous=previous, switched=switched)
    task = task_of(scene.turn, without_cards(messages), scene.said.text)
    async with aclosing(run_agent(spec, task, scene.runtime.services)) as events:
        async for event in events:
            yield event


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
