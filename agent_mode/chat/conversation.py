"""The main street: one turn from request to events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime

from agent_mode.agents.engine import Event, Failure, Job, Status, Text
from agent_mode.agents.persona import PersonaEngine
from agent_mode.chat import console, sequence
from agent_mode.chat.commands import suggest
from agent_mode.chat.runtime import Runtime
from agent_mode.chat.scene import Scene, Speaker, connection_for, last_user
from agent_mode.chat.turn import Turn
from agent_mode.errors import AgentModeError
from agent_mode.llm.sse import Facts
from agent_mode.observe.logs import get_logger
from agent_mode.store.sessions import Answer, Session, Switch
from agent_mode.valves import PersonaValves

log = get_logger(__name__)


async def respond(
    runtime: Runtime, turn: Turn, requested: str, valves: PersonaValves, facts: Facts
) -> AsyncGenerator[Event, None]:
    """Answers one turn.

    Args:
        runtime: the running server.
        turn: the request.
        requested: key of the persona whose model was asked.
        valves: of the pipeline that was asked.
        facts: filled in while the provider streams.

    Yields:
        events; a failure is the last one, never an exception.
    """
    try:
        async with aclosing(await _begin(runtime, turn, requested, valves, facts)) as events:
            async for event in events:
                yield event
    except AgentModeError as error:
        log.warning(
            "turn failed",
            code=error.code,
            model=turn.model,
            chat_id=turn.context.chat_id,
            user_id=turn.user_id,
            reason=error.message,
            detail=error.detail or None,
        )
        yield Failure(error)


async def _begin(
    runtime: Runtime, turn: Turn, requested: str, valves: PersonaValves, facts: Facts
) -> AsyncGenerator[Event, None]:
    """Decides what happens in this turn; returns its events."""
    engine = PersonaEngine(runtime.llm)
    if turn.context.task:
        return engine.run(await _task(runtime, turn, requested, valves, facts))
    scene = await Scene.look(runtime, turn, requested, valves, facts)
    speaker = scene.speaker()
    words = _console(scene, speaker)
    if words is not None:
        _remember(scene, speaker, voice=scene.detection.previous)
        return _say(Text(words))
    _remember(scene, speaker)
    if steps := sequence.steps_of(scene.said, scene.roster, requested):
        return sequence.perform(scene, steps)
    detection = speaker.detection
    job = await scene.job(speaker.persona, previous=detection.previous, switched=detection.is_switch)
    if speaker.note or (valves.show_persona_info and _needs_saying(speaker, requested)):
        return _say(Status(_who_speaks(scene, speaker)), engine.run(job))
    return engine.run(job)


async def _say(event: Event, then: AsyncGenerator[Event, None] | None = None) -> AsyncGenerator[Event, None]:
    yield event
    if then is not None:
        async with aclosing(then) as events:
            async for following in events:
                yield following


async def _task(runtime: Runtime, turn: Turn, requested: str, valves: PersonaValves, facts: Facts) -> Job:
    """A background task of Open WebUI: no persona, no commands, no session."""
    persona = runtime.rosters.offered(valves.models).get(requested)
    connection = connection_for(runtime, valves)
    model = await runtime.llm.choose_model(connection, persona.model if persona else None)
    return Job(connection, model, turn.messages, turn.params, turn.stream, facts)


def _console(scene: Scene, speaker: Speaker) -> str | None:
    """What we answer ourselves, without the LLM; None when the LLM is to answer."""
    said, grammar = scene.said, scene.grammar
    if said.console is not None:
        if said.console.kind == "list":
            return console.list_text(scene.roster.by_key.values(), grammar.prefix)
        return console.help_text(grammar.prefix)
    if said.unknown is not None:
        if grammar.folded(said.unknown) == "agent":
            return console.help_text(grammar.prefix)
        meant = suggest(said.unknown, grammar)
        return console.did_you_mean(said.unknown, meant, grammar.prefix) if meant else None
    if said.switch is not None and not said.text and not _has_attachment(scene.turn):
        if said.switch.kind == "reset":
            return console.back_to(scene.roster.get(scene.requested) or speaker.persona)
        return console.confirmation(speaker.persona)
    return None


def _has_attachment(turn: Turn) -> bool:
    index = last_user(turn.messages)
    content = turn.messages[index].get("content") if index is not None else None
    return isinstance(content, list) and any(part.get("type") != "text" for part in content)


def _needs_saying(speaker: Speaker, requested: str) -> bool:
    """Open WebUI shows the picked model's name above each answer; only another voice is news."""
    return speaker.detection.is_switch or speaker.persona.key != requested


def _who_speaks(scene: Scene, speaker: Speaker) -> str:
    if speaker.note:
        return speaker.note
    name = speaker.persona.display_name
    before = scene.roster.get(speaker.detection.previous) if speaker.detection.previous else None
    if speaker.detection.is_switch and before is not None:
        return f"{name} takes over from {before.display_name}"
    return f"{name} takes over" if speaker.detection.is_switch else name


def _remember(scene: Scene, speaker: Speaker, voice: str | None = None) -> None:
    """Notes who answers, in memory at once; the session's record follows off the user's path."""
    context = scene.turn.context
    if context.chat_id is None:
        return
    if context.message_id is not None:
        scene.runtime.sessions.remember(
            Answer(
                message_id=context.message_id,
                chat_id=context.chat_id,
                user_message_id=context.user_message_id,
                agent=speaker.persona.key,
                ui_agent=scene.requested,
                voice=voice,
                at=datetime.now(UTC),
            )
        )
    scene.runtime.spawn(_note_session(scene, context.chat_id, speaker))


async def _note_session(scene: Scene, chat_id: str, speaker: Speaker) -> None:
    sessions = scene.runtime.sessions
    known = await sessions.session(chat_id)
    persona, now = speaker.persona, datetime.now(UTC)
    switches = known.agent_history if known else ()
    if known is None or known.active_agent != persona.key:
        reason = "user_switch" if speaker.note is None else "system_default"
        count = len(scene.turn.messages)
        switches = (*switches, Switch(persona.key, persona.name, now.isoformat(), count, reason))
    session = Session(
        chat_id=chat_id,
        active_agent=persona.key,
        ui_agent=scene.requested,
        ui_since=scene.detection.ui_since,
        agent_history=switches,
        updated_at=now,
    )
    sessions.remember(None, session)
