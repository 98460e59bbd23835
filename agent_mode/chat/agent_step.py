"""An agent as one of several that a message calls: its own engine runs, in the middle of one answer.

Nobody can be asked to execute a tool there: the request would end with the call, and the steps before it with
the request. So Open WebUI's tools are called by loopback, where the user's credential is known.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from agent_mode.agents.engine import Event, Failure
from agent_mode.agents.runner import run_agent
from agent_mode.agents.spec import AgentSpec
from agent_mode.agents.state import child_id
from agent_mode.chat.access import caller_of
from agent_mode.chat.agent_turn import answered, going_on, task_of
from agent_mode.chat.cards import without_cards
from agent_mode.chat.markdown import escaped
from agent_mode.chat.scene import Scene, connection_for
from agent_mode.chat.switching import is_continued
from agent_mode.store.personas import Persona
from agent_mode.tools import specs


async def warning(scene: Scene, spec: AgentSpec) -> str | None:
    """What the user has to know before the agent begins: that it has none of the chat's tools here.

    Only where somebody switched tools on: Open WebUI's own ones come with every message of its page.
    """
    context = scene.turn.context
    if context.message_id is not None and not context.tools:
        return None
    offered = specs.allowed(
        specs.from_request(scene.turn.params.get("tools") or []), spec.valves.allowed_tools
    )
    services = scene.runtime.services
    if not offered:
        return None
    if services.openwebui.known and await services.credential_of(caller_of(scene.turn.user)) is not None:
        return None
    return (
        f"{escaped(spec.name)} answers without the tools of this chat here, because the message calls "
        f"several. Call it alone for an answer with them: `{scene.grammar.prefix}{spec.id} …`."
    )


async def answer(
    scene: Scene,
    spec: AgentSpec,
    entry: Persona,
    messages: list[dict[str, Any]],
    words: str,
    number: int,
    *,
    previous: str | None,
    switched: bool,
) -> AsyncGenerator[Event, None]:
    """Runs the agent on its part of the message.

    Args:
        scene: the turn.
        spec: the agent.
        entry: what it is in the roster.
        messages: the transcript, its part as the last message of the user.
        words: its part alone.
        number: the how-manieth that speaks.
        previous: key of whoever spoke before.
        switched: whether that is a switch.

    Raises:
        AgentModeError: the run failed.
    """
    turn, runtime = scene.turn, scene.runtime
    model = await runtime.llm.choose_model(connection_for(runtime, spec.valves), spec.model)
    ready = scene.prepared(entry, model, previous=previous, switched=switched, messages=messages)
    task = task_of(turn, without_cards(ready), words)
    assert task.run_id is not None
    task = replace(task, run_id=child_id(task.run_id, (str(number),)), relay=False)
    if is_continued(task.messages):
        task = going_on(task)
    told = answered(run_agent(spec, task, runtime.services), spec, spoken=is_continued(messages))
    async with aclosing(told) as events:
        async for event in events:
            if isinstance(event, Failure):
                raise event.error
            yield event
