"""Several personas in one message: `!teacher explain it !writer a poem about it`.

Each step is an LLM call of its own, one after the other in one streamed answer. A later persona sees what
the earlier ones said as their words, quoted, never as its own.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from agent_mode.agents.engine import Chunks, Completion, Event, Reasoning, Status, Text, Usage
from agent_mode.agents.spec import AgentSpec
from agent_mode.chat import agent_step, console, desk
from agent_mode.chat.commands import message_text, with_text
from agent_mode.chat.scene import Scene, last_user
from agent_mode.chat.spoken import speak
from agent_mode.chat.steps import Step, steps_of
from agent_mode.counting import counted
from agent_mode.errors import AgentModeError, RequestError
from agent_mode.llm.sse import Facts
from agent_mode.observe.hooks import SequenceFinished, SequenceStarted, hooks
from agent_mode.observe.logs import get_logger
from agent_mode.prompts.guard import unclosable

log = get_logger(__name__)


FLOW = (
    "Your answer stands directly below theirs, as one text: go on where it ends, without a heading, "
    "a greeting or a word about who speaks."
)
"""What a persona is told besides, where the text flows on from one to the next."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a step answered."""

    step: Step
    parts: list[str]

    @property
    def text(self) -> str:
        return "".join(self.parts)


@dataclass(slots=True)
class Heard:
    """What came of the steps so far: who said what, and what it cost."""

    told: list[Said] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)


def steps_in(scene: Scene, requested: str) -> list[Step]:
    """The steps of this turn's message, of either kind; empty if one persona answers.

    Raises:
        RequestError: the message asks for more than the valves allow, or for something incomplete.
    """
    named = [scene.roster.get(scene.bound[slot]) for slot in sorted(scene.bound)]
    assigned = [persona for persona in named if persona][: scene.valves.multi_models]
    steps = steps_of(scene.said, scene.roster, requested, assigned, scene.valves.multi_turns)
    called = sum(command.kind in ("persona", "reset") for command in scene.said.commands)
    limit = scene.valves.max_steps
    if called > limit:
        raise RequestError(
            f"The message calls {counted(called, 'persona')}; the most for one message is {limit}.",
            hint="Split it, or ask an admin to raise the valve `max_steps`.",
            code="too_many_steps",
            field="messages",
        )
    return steps


async def perform(scene: Scene, steps: list[Step]) -> AsyncGenerator[Event, None]:
    """Runs the steps one after the other; a failing one is reported and the next goes on.

    Yields:
        `Status` for each persona that begins, `Text` and `Reasoning` as they come, `Usage` of all at the end.
    """
    chat_id, user_id = scene.turn.context.chat_id, scene.turn.user.id
    log.info("sequence started", steps=len(steps), chat_id=chat_id, user_id=user_id)
    speakers = tuple(step.key for step in steps if step.command is None)
    hooks.emit(SequenceStarted(personas=speakers, chat_id=chat_id, user_id=user_id))
    heard = Heard()
    failed: list[str] = []
    reason: Literal["completed", "stopped", "failed"] = "stopped"
    try:
        for number, step in enumerate(steps, 1):
            for event in _announce(scene, step, number, len(steps)):
                yield event
            if step.command is not None:
                yield Text(await _own_words(scene, step))
                continue
            parts: list[str] = []
            told = list(heard.told)
            heard.told.append(Said(step, parts))
            try:
                spec = scene.runtime.directory.pipeline(step.key) if step.persona else None
                if spec is not None and (warning := await agent_step.warning(scene, spec)):
                    yield Text(f"> ⚠️ {warning}\n\n")
                async with aclosing(_play(scene, step, spec, told, heard)) as events:
                    async for event in events:
                        if isinstance(event, Text):
                            parts.append(event.content)
                        yield event
            except AgentModeError as error:
                log.warning("sequence step failed", persona=step.key, code=error.code)
                failed.append(step.key)
                yield Text(f"\n\n> ⚠️ {step.title}: {error}\n")
        if heard.usage:
            yield Usage(heard.usage)
        reason = "failed" if len(failed) == len(speakers) else "completed"
    finally:
        spoken = tuple(said.step.key for said in heard.told)
        hooks.emit(
            SequenceFinished(
                personas=spoken, failed=tuple(failed), reason=reason, chat_id=chat_id, user_id=user_id
            )
        )


async def _own_words(scene: Scene, step: Step) -> str:
    """What we answer ourselves in the middle of a sequence."""
    command = step.command
    assert command is not None, "only a step with a command has words of ours"
    if command.kind in desk.KINDS:
        return await desk.act(scene.runtime, command, scene.turn.user, scene.grammar)
    if command.kind == "list":
        return console.list_text(scene.roster.by_key.values(), scene.grammar.prefix)
    return console.help_text(scene.grammar.prefix)


def _announce(scene: Scene, step: Step, number: int, count: int) -> Iterator[Event]:
    """What says that the next one begins: a status line, and a heading unless one text is wanted."""
    flows = scene.valves.enable_stream_switching
    if step.command is not None:
        yield Text("\n\n" if flows and number > 1 else _break(number))
        return
    if scene.show_info:
        yield Status(f"{step.title} ({number} of {count})", done=number == count)
    if not flows:
        yield Text(f"{_break(number)}**{step.title}**\n\n")
    elif number > 1:
        yield Text("\n\n")


def _break(number: int) -> str:
    return "" if number == 1 else "\n\n---\n\n"


async def _play(
    scene: Scene, step: Step, spec: AgentSpec | None, told: list[Said], heard: Heard
) -> AsyncGenerator[Event, None]:
    """One step: its answer as text, whatever the provider sent it in; `spec`: the agent that speaks."""
    # The replies in the history are whose they were; what this message's other personas said is quoted.
    previous = scene.detection.previous
    if told and not scene.detection.answered:
        previous = told[-1].step.key
    switched = bool(told) or scene.detection.previous not in (None, step.key)
    messages, number = _messages(scene, step, told), len(told) + 1
    if spec is not None and step.persona is not None:
        work = agent_step.answer(
            scene, spec, step.persona, messages, step.task, number, previous=previous, switched=switched
        )
        async with aclosing(work) as events:
            async for event in events:
                if isinstance(event, Usage):
                    heard.usage = added(heard.usage, event.totals)
                elif isinstance(event, Chunks):
                    for part in words_of(event.data):
                        yield part
                else:
                    yield event
        return
    job = await scene.job(step.persona, previous=previous, switched=switched, messages=messages)
    params = {key: value for key, value in job.params.items() if key not in ("tools", "tool_choice")}
    facts = Facts()
    job = replace(job, facts=facts, params=params)
    async with aclosing(speak(scene.runtime, scene.turn, step.key, job, step=number)) as events:
        async for event in events:
            if isinstance(event, Chunks):
                for part in words_of(event.data):
                    yield part
            elif isinstance(event, Completion):
                usage = event.data.get("usage")
                facts.usage = usage if isinstance(usage, dict) else None
                for part in _words(event.data["choices"][0], "message"):
                    yield part
    heard.usage = added(heard.usage, facts.usage or {})


def added(total: dict[str, Any], usage: dict[str, Any]) -> dict[str, Any]:
    """The sum of two reports: numbers are added, inside one another too; of texts the last one counts."""
    result = dict(total)
    for name, value in usage.items():
        known = result.get(name)
        if isinstance(value, dict):
            result[name] = added(known if isinstance(known, dict) else {}, value)
        elif _is_number(value) and _is_number(known):
            result[name] = known + value
        elif value is not None:
            result[name] = value
    return result


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _messages(scene: Scene, step: Step, told: list[Said]) -> list[dict[str, object]]:
    """The transcript with this step's task as the last user message, and what the others said above it."""
    messages = scene.turn.messages
    index = last_user(messages)
    assert index is not None, "a sequence was read from a user message"
    quoted = "".join(
        f"<answer by={json.dumps(said.step.name, ensure_ascii=False)}>\n"
        f"{unclosable(said.text.strip(), 'answer', 'others')}\n</answer>\n\n"
        for said in told
        if said.text.strip()
    )
    if quoted:
        lead = "Others have answered parts of this request. Their words, for information:"
        quoted = f"<others>\n{lead}\n\n{quoted.strip()}\n</others>"
        if scene.valves.enable_stream_switching:
            quoted += f"\n\n{FLOW}"
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
        if choices:
            yield from _words(choices[0], "delta")


def _words(choice: Any, where: str) -> Iterator[Text | Reasoning]:
    part = choice.get(where) if isinstance(choice, dict) else None
    if not isinstance(part, dict):
        return
    reasoning, content = part.get("reasoning_content"), part.get("content")
    if isinstance(reasoning, str) and reasoning:
        yield Reasoning(reasoning)
    if isinstance(content, str) and content:
        yield Text(content)
