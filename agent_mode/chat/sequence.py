"""Several personas in one message: `!teacher explain it !writer a poem about it`.

Each step is an LLM call of its own, one after the other in one streamed answer. A later persona sees what
the earlier ones said as their words, quoted, never as its own.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Literal

from agent_mode.agents.engine import Chunks, Event, Reasoning, Status, Text
from agent_mode.agents.persona import PersonaEngine
from agent_mode.chat.commands import Parsed, message_text, with_text
from agent_mode.chat.roster import Roster
from agent_mode.chat.scene import Scene, last_user
from agent_mode.errors import AgentModeError, RequestError
from agent_mode.llm.sse import Facts
from agent_mode.observe.hooks import SequenceFinished, SequenceStarted, hooks
from agent_mode.observe.logs import get_logger
from agent_mode.store.personas import Persona

log = get_logger(__name__)

CONTINUE = "Continue from what was said above, as yourself."
"""What a step without words of its own is asked when no later step has any."""


@dataclass(frozen=True, slots=True)
class Step:
    """One persona's part: who, and what it is asked."""

    persona: Persona
    task: str


@dataclass(frozen=True, slots=True)
class Said:
    """What a step answered."""

    step: Step
    parts: list[str]

    @property
    def text(self) -> str:
        return "".join(self.parts)


def steps_of(said: Parsed, roster: Roster, requested: str) -> list[Step]:
    """The steps of a message that is a sequence; empty for every other message.

    A step without words shares those of the next step that has some (`!coder !writer explain it`); the last
    ones go on from what was said.
    """
    if not said.several:
        return []
    calls = [command for command in said.commands if command.kind in ("persona", "reset")]
    tasks = [command.text for command in calls]
    for index in reversed(range(len(tasks) - 1)):
        tasks[index] = tasks[index] or tasks[index + 1]
    tasks = [task or CONTINUE for task in tasks]
    personas = [roster.get(command.key or requested) for command in calls]
    return [Step(persona, task) for persona, task in zip(personas, tasks, strict=True) if persona]


_LEADS = {
    "turns": "Answer this in your own way; react to what the others said, do not repeat it: ",
    "collab": "Work on this together with {others}. Build on what was said, add what is missing: ",
    "debate": "Debate this with {others}. Argue your own position and answer their strongest point: ",
}


def rounds(said: Parsed, assigned: list[Persona], turns: int) -> list[Step]:
    """The steps of `!multi <topic>`: the assigned personas speak one after the other, several times.

    Args:
        said: the parsed message.
        assigned: who was assigned with `!persona1 …`, in order.
        turns: how often each speaks.

    Returns:
        the steps; empty if the message is no `!multi`.

    Raises:
        RequestError: nobody to speak, or nothing to speak about.
    """
    command = next((command for command in said.commands if command.kind == "multi"), None)
    if command is None:
        return []
    if len(assigned) < 2:
        raise RequestError(
            "`!multi` needs at least two personas.",
            hint="Assign them first: `!persona1 teacher !persona2 scientist`.",
            code="too_few_personas",
            field="messages",
        )
    topic = command.text or said.text
    if not topic:
        raise RequestError(
            "`!multi` needs a topic.",
            hint="Write it behind the command: `!multi debate Is tea better than coffee?`",
            code="no_topic",
            field="messages",
        )
    lead = _LEADS[command.key or "turns"]
    steps = []
    for number in range(turns * len(assigned)):
        persona = assigned[number % len(assigned)]
        others = ", ".join(other.name for other in assigned if other is not persona)
        steps.append(Step(persona, topic if number == 0 else lead.format(others=others) + topic))
    return steps


def steps_in(scene: Scene, requested: str) -> list[Step]:
    """The steps of this turn's message, of either kind; empty if one persona answers.

    Raises:
        RequestError: the message asks for more than the valves allow, or for something incomplete.
    """
    named = [scene.roster.get(scene.bound[slot]) for slot in sorted(scene.bound)]
    assigned = [persona for persona in named if persona][: scene.valves.multi_models]
    if talk := rounds(scene.said, assigned, scene.valves.multi_turns):
        return talk
    steps = steps_of(scene.said, scene.roster, requested)
    limit = scene.valves.max_steps
    if len(steps) > limit:
        raise RequestError(
            f"The message calls {len(steps)} personas; {limit} are allowed in one message.",
            hint="Split it, or ask an admin to raise the valve `max_steps`.",
            code="too_many_steps",
            field="messages",
        )
    return steps


async def perform(scene: Scene, steps: list[Step]) -> AsyncGenerator[Event, None]:
    """Runs the steps one after the other; a failing one is reported and the next goes on.

    Yields:
        `Status` for each persona that begins, `Text` and `Reasoning` as they come.
    """
    chat_id, user_id = scene.turn.context.chat_id, scene.turn.user.id
    log.info("sequence started", steps=len(steps), chat_id=chat_id, user_id=user_id)
    hooks.emit(
        SequenceStarted(personas=tuple(step.persona.key for step in steps), chat_id=chat_id, user_id=user_id)
    )
    told: list[Said] = []
    failed: list[str] = []
    reason: Literal["completed", "stopped", "failed"] = "stopped"
    try:
        for number, step in enumerate(steps, 1):
            for event in _announce(scene, step, number, len(steps)):
                yield event
            parts: list[str] = []
            told.append(Said(step, parts))
            try:
                async with aclosing(_play(scene, step, told[:-1])) as events:
                    async for event in events:
                        if isinstance(event, Text):
                            parts.append(event.content)
                        yield event
            except AgentModeError as error:
                log.warning("sequence step failed", persona=step.persona.key, code=error.code)
                failed.append(step.persona.key)
                yield Text(f"\n\n> ⚠️ {step.persona.display_name}: {error}\n")
        reason = "failed" if len(failed) == len(steps) else "completed"
    finally:
        spoken = tuple(said.step.persona.key for said in told)
        hooks.emit(
            SequenceFinished(
                personas=spoken, failed=tuple(failed), reason=reason, chat_id=chat_id, user_id=user_id
            )
        )


def _announce(scene: Scene, step: Step, number: int, count: int) -> Iterator[Event]:
    """What says that the next persona begins: a status line, and a heading unless one text is wanted."""
    name = step.persona.display_name
    if scene.show_info:
        yield Status(f"{name} ({number} of {count})", done=number == count)
    if not scene.valves.enable_stream_switching:
        yield Text(f"{_break(number)}**{name}**\n\n")
    elif number > 1:
        yield Text("\n\n")


def _break(number: int) -> str:
    return "" if number == 1 else "\n\n---\n\n"


async def _play(scene: Scene, step: Step, told: list[Said]) -> AsyncGenerator[Event, None]:
    """One step: its answer as text, whatever chunks the provider sent it in."""
    # The replies in the history are whose they were; what this message's other personas said is quoted.
    previous = scene.detection.previous
    if told and not scene.detection.answered:
        previous = told[-1].step.persona.key
    switched = bool(told) or scene.detection.previous not in (None, step.persona.key)
    job = await scene.job(
        step.persona, previous=previous, switched=switched, messages=_messages(scene, step, told)
    )
    params = {key: value for key, value in job.params.items() if key not in ("tools", "tool_choice")}
    job = replace(job, stream=True, facts=Facts(), params=params)
    async with aclosing(PersonaEngine(scene.runtime.llm).run(job)) as events:
        async for event in events:
            if isinstance(event, Chunks):
                for part in words_of(event.data):
                    yield part


def _messages(scene: Scene, step: Step, told: list[Said]) -> list[dict[str, object]]:
    """The transcript with this step's task as the last user message, and what the others said above it."""
    messages = scene.turn.messages
    index = last_user(messages)
    assert index is not None, "a sequence was read from a user message"
    quoted = "".join(
        f"<answer by={json.dumps(said.step.persona.name, ensure_ascii=False)}>\n"
        f"{said.text.strip().replace('</answer', '‹/answer').replace('</others', '‹/others')}\n</answer>\n\n"
        for said in told
        if said.text.strip()
    )
    if quoted:
        lead = "Others have answered parts of this request. Their words, for information:"
        quoted = f"<others>\n{lead}\n\n{quoted.strip()}\n</others>"
    # The words may stand inside a knowledge template that Open WebUI put around them; that stays.
    around = message_text(messages[index])
    words = scene.turn.said
    knowledge = around.replace(words, "").strip() if words in around else ""
    text = "\n\n".join(part for part in (quoted, step.task, knowledge) if part)
    return [*messages[:index], with_text(messages[index], text)]


def words_of(block: bytes) -> Iterator[Text | Reasoning]:
    """The text and the reasoning in a block of vetted chunks."""
    for line in block.split(b"\n\n"):
        if not line.startswith(b"data:"):
            continue
        choices = json.loads(line[5:]).get("choices")
        delta = choices[0].get("delta") if choices and isinstance(choices[0], dict) else None
        if not isinstance(delta, dict):
            continue
        reasoning, content = delta.get("reasoning_content"), delta.get("content")
        if isinstance(reasoning, str) and reasoning:
            yield Reasoning(reasoning)
        if isinstance(content, str) and content:
            yield Text(content)
