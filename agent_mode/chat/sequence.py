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
from agent_mode.chat.markdown import closing_fence, escaped
from agent_mode.chat.messages import comes_with_attachment, message_text, with_text
from agent_mode.chat.own_words import TALK_ELSEWHERE, nothing_asked
from agent_mode.chat.scene import Scene, last_user
from agent_mode.chat.spoken import speak
from agent_mode.chat.steps import Step, steps_of
from agent_mode.chat.transcript import strip_commands
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
            if step.command is None and scene.show_info:
                count, last = len(heard.told) + 1, len(speakers)
                place = f" ({count} of {last})" if last > 1 else ""
                yield Status(f"{step.title}{place}", done=count == last)
            if opening := _opening(scene, step, first=number == 1):
                yield Text(opening)
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
                yield Text(f"{_closing(parts)}\n\n> ⚠️ {escaped(step.title)}: {error}\n")
            else:
                if number < len(steps) and (closing := _closing(parts)):
                    yield Text(closing)
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


async def go_on(scene: Scene, steps: list[Step]) -> AsyncGenerator[Event, None]:
    """Lets the last one go on whose words the request ends with; what we answered ourselves is whole."""
    step = steps[-1]
    if step.command is not None:
        return
    spec = scene.runtime.directory.pipeline(step.key) if step.persona else None
    heard = Heard()
    *told, own = _parts(scene, steps)
    async with aclosing(_play(scene, step, spec, told, heard, begun=own.text)) as events:
        async for event in events:
            yield event
    if heard.usage:
        yield Usage(heard.usage)


def _parts(scene: Scene, steps: list[Step]) -> list[Said]:
    """What each step said in the answer that is to go on; all of it is the last one's without headings."""
    rest = message_text(scene.turn.messages[-1])
    found: list[Said] = []
    if scene.valves.enable_stream_switching:
        return [Said(steps[-1], [rest])]
    for number, step in enumerate(steps):
        before, heading, after = rest.partition(_opening(scene, step, first=number == 0))
        if step.command is not None or not heading:
            continue
        if found:
            found[-1] = Said(found[-1].step, [before])
        found.append(Said(step, [after]))
        rest = after
    return found if found and found[-1].step is steps[-1] else [Said(steps[-1], [rest])]


def words_instead(scene: Scene, next_name: str) -> str | None:
    """What we answer where nobody of those whom the message calls is to speak here; None if they are.

    Args:
        scene: the turn.
        next_name: who answers the next message.
    """
    said, context = scene.said, scene.turn.context
    if not said.several:
        return None
    if any(command.kind == "multi" for command in said.commands):
        beside = (context.models or 1) > 1 and (context.place or 1) > 1
        return TALK_ELSEWHERE if beside else None
    if said.text or comes_with_attachment(scene.turn.messages) or _something_was_said(scene):
        return None
    prefix = scene.grammar.prefix
    calls = [c.key or "reset" for c in said.commands if c.kind in ("persona", "reset")]
    return nothing_asked(" ".join([*(prefix + key for key in calls), "explain it"]), next_name)


def _something_was_said(scene: Scene) -> bool:
    clean = strip_commands(scene.turn.messages, scene.grammar)
    return any(message["role"] == "assistant" for message in clean[: last_user(clean)])


async def _own_words(scene: Scene, step: Step) -> str:
    """What we answer ourselves in the middle of a sequence."""
    command = step.command
    assert command is not None, "only a step with a command has words of ours"
    if command.kind in desk.KINDS:
        return await desk.act(scene.runtime, command, scene.turn.user, scene.grammar)
    if command.kind == "list":
        return console.list_text(scene.roster.by_key.values(), scene.grammar.prefix)
    return console.help_text(scene.grammar.prefix)


def _opening(scene: Scene, step: Step, *, first: bool) -> str:
    """What stands above a step: a heading where somebody speaks, unless one text is wanted."""
    if scene.valves.enable_stream_switching:
        return "" if first else "\n\n"
    return ("" if first else "\n\n---\n\n") + (_heading(step) if step.command is None else "")


def _heading(step: Step) -> str:
    return f"**{escaped(step.title)}**\n\n"


def _closing(parts: list[str]) -> str:
    """What ends a code block that the answer left open: the next heading would stand in it."""
    fence = closing_fence("".join(parts))
    return f"\n{fence}\n" if fence else ""


async def _play(
    scene: Scene, step: Step, spec: AgentSpec | None, told: list[Said], heard: Heard, begun: str = ""
) -> AsyncGenerator[Event, None]:
    """One step: its answer as text, whatever the provider sent it in.

    Args:
        scene: the turn.
        step: who speaks, and with which task.
        spec: the agent that speaks, if it is one.
        told: what the steps before it said.
        heard: takes up what it cost.
        begun: the beginning of its answer, which it is to go on with.
    """
    # The replies in the history are whose they were; what this message's other personas said is quoted.
    previous = scene.detection.previous
    if told and not scene.detection.answered:
        previous = told[-1].step.key
    switched = bool(told) or scene.detection.previous not in (None, step.key)
    messages, number = _messages(scene, step, told), len(told) + 1
    if begun:
        messages.append({"role": "assistant", "content": begun})
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
