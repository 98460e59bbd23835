"""The main street: one turn from request to events."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from agent_mode.agents.engine import Event, Failure, Job, Status, Text
from agent_mode.agents.persona import PersonaEngine, identity
from agent_mode.chat import console
from agent_mode.chat.commands import Grammar, Parsed, parse, suggest
from agent_mode.chat.roster import Roster
from agent_mode.chat.runtime import Runtime
from agent_mode.chat.switching import Detection, Memory, detect_agent_switch, plan_turn
from agent_mode.chat.turn import Turn
from agent_mode.errors import AgentModeError, RequestError
from agent_mode.llm import connection as connections
from agent_mode.llm.sse import Facts
from agent_mode.observe.logs import get_logger
from agent_mode.prompts.reset import SwitchPlan, instructions_only
from agent_mode.store.personas import Persona
from agent_mode.store.sessions import Answer, Session, Switch
from agent_mode.valves import PersonaValves

log = get_logger(__name__)


@dataclass(slots=True)
class _Speaker:
    """Who answers this turn, and what has to be said about that."""

    persona: Persona
    detection: Detection
    note: str | None = None


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
        opening, job = await _open(runtime, turn, requested, valves, facts)
        for event in opening:
            yield event
        if job is not None:
            async with aclosing(PersonaEngine(runtime.llm).run(job)) as events:
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


async def _open(
    runtime: Runtime, turn: Turn, requested: str, valves: PersonaValves, facts: Facts
) -> tuple[list[Event], Job | None]:
    """Decides what happens in this turn: the events that open it, and the job for the engine, if any."""
    if turn.context.task:
        return [], await _task(runtime, turn, requested, valves, facts)
    started = time.perf_counter()
    roster = runtime.rosters.offered(valves.models)
    grammar = Grammar(roster.keys, valves.keyword_prefix, valves.case_sensitive)
    said = parse(turn.said, grammar)
    memory = await _recall(runtime, turn, requested)
    detection = detect_agent_switch(
        turn.messages,
        requested,
        grammar,
        memory=memory,
        branch_known=turn.context.branch_known,
        said=said,
    )
    speaker = _speaker(roster, detection, requested)
    words = _console(roster, grammar, said, speaker, requested, turn)
    if words is not None:
        _remember(runtime, turn, requested, speaker, voice=detection.previous)
        return [Text(words)], None
    _remember(runtime, turn, requested, speaker)
    job = await _job(runtime, turn, roster, grammar, valves, speaker, facts, started)
    if speaker.note or (valves.show_persona_info and _needs_saying(speaker, requested)):
        return [Status(_who_speaks(roster, speaker))], job
    return [], job


async def _task(runtime: Runtime, turn: Turn, requested: str, valves: PersonaValves, facts: Facts) -> Job:
    """A background task of Open WebUI: no persona, no commands, no session."""
    persona = runtime.rosters.offered(valves.models).get(requested)
    connection = _connection(runtime, valves)
    model = await runtime.llm.choose_model(connection, persona.model if persona else None)
    return Job(connection, model, turn.messages, turn.params, turn.stream, facts)


async def _recall(runtime: Runtime, turn: Turn, requested: str) -> Memory:
    """What the store knows; asks the database only for what is not in memory."""
    context, sessions = turn.context, runtime.sessions
    if context.chat_id is None:
        return Memory()
    if not context.branch_known:
        return Memory(session=await sessions.session(context.chat_id))
    if context.parent_id is None:
        return Memory()
    parent = await sessions.answer(context.parent_id)
    sibling = None
    if parent is not None and parent.ui_agent != requested and parent.user_message_id:
        sibling = await sessions.sibling(parent.user_message_id, requested)
    return Memory(parent, sibling)


def _speaker(roster: Roster, detection: Detection, requested: str) -> _Speaker:
    """The persona that answers; if it is gone, whoever answered before, and a word about it.

    Raises:
        RequestError: neither is there.
    """
    wanted = roster.get(detection.current)
    if wanted is not None:
        return _Speaker(wanted, detection)
    for key in (detection.previous, requested):
        kept = roster.get(key) if key else None
        if kept is not None:
            log.warning("switch fallback", category="agent_not_found", wanted=detection.current, kept=key)
            note = f"{detection.current} is not available any more; {kept.display_name} answers"
            same = replace(detection, current=kept.key, is_switch=detection.previous not in (None, kept.key))
            return _Speaker(kept, same, note)
    raise RequestError(
        f"There is no persona “{detection.current}” here.",
        hint="Pick another model, or ask an admin to enable it again.",
        code="agent_not_found",
        status=404,
        field="model",
    )


def _console(
    roster: Roster, grammar: Grammar, said: Parsed, speaker: _Speaker, requested: str, turn: Turn
) -> str | None:
    """What we answer ourselves, without the LLM; None when the LLM is to answer."""
    if said.console is not None:
        if said.console.kind == "list":
            return console.list_text(roster.by_key.values(), grammar.prefix)
        return console.help_text(grammar.prefix)
    if said.unknown is not None:
        if grammar.folded(said.unknown) == "agent":
            return console.help_text(grammar.prefix)
        meant = suggest(said.unknown, grammar)
        return console.did_you_mean(said.unknown, meant, grammar.prefix) if meant else None
    if said.switch is not None and not said.text and not _has_attachment(turn):
        if said.switch.kind == "reset":
            return console.back_to(roster.get(requested) or speaker.persona)
        return console.confirmation(speaker.persona)
    return None


def _has_attachment(turn: Turn) -> bool:
    content = next((m.get("content") for m in reversed(turn.messages) if m["role"] == "user"), None)
    return isinstance(content, list) and any(part.get("type") != "text" for part in content)


def _connection(runtime: Runtime, valves: PersonaValves) -> connections.Connection:
    return connections.resolve(
        runtime.settings,
        base_url=valves.llm_base_url,
        api_key=valves.llm_api_key,
        model=valves.llm_model,
        connect_timeout=valves.connect_timeout,
        read_timeout=valves.read_timeout,
    )


async def _job(
    runtime: Runtime,
    turn: Turn,
    roster: Roster,
    grammar: Grammar,
    valves: PersonaValves,
    speaker: _Speaker,
    facts: Facts,
    started: float,
) -> Job:
    """What the engine has to do: the connection, the model, and the messages of this turn."""
    connection = _connection(runtime, valves)
    model = await runtime.llm.choose_model(connection, speaker.persona.model)
    plan = _plan(runtime, turn, roster, grammar, valves, speaker, model)
    for category in plan.report.fallbacks:
        log.warning("switch fallback", category=category, strategy=plan.report.strategy, model=model)
    if speaker.detection.is_switch:
        log.info(
            "persona switched",
            user_id=turn.user_id,
            chat_id=turn.context.chat_id,
            persona=speaker.persona.key,
            previous=speaker.detection.previous,
            reason=speaker.detection.reason,
            model=model,
            strategy=plan.report.strategy,
            template=plan.report.template,
            duration_ms=round((time.perf_counter() - started) * 1000, 2),
        )
    if valves.debug:
        log.info("prompt", model=model, messages=plan.messages)
    return Job(connection, model, plan.messages, turn.params, turn.stream, facts)


def _plan(
    runtime: Runtime,
    turn: Turn,
    roster: Roster,
    grammar: Grammar,
    valves: PersonaValves,
    speaker: _Speaker,
    model: str,
) -> SwitchPlan:
    agent = identity(speaker.persona)
    before = roster.get(speaker.detection.previous) if speaker.detection.previous else None
    messages = _with_said(turn)
    try:
        return plan_turn(
            messages,
            agent,
            identity(before) if before else None,
            runtime.strategies.select(model).strategy,
            runtime.templates,
            grammar,
            switched=speaker.detection.is_switch,
            policy=None if valves.history_policy == "strategy" else valves.history_policy,
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        # A switch never fails the chat: without context, the persona still answers as itself.
        log.exception("switch fallback", category="context_failed", reason=type(error).__name__)
        return instructions_only(messages, agent)


def _with_said(turn: Turn) -> list[dict[str, Any]]:
    """The messages with the user's last words as commands are to be found in them.

    Open WebUI may have put a knowledge template around them since the inlet; then the words stand inside
    it, and only at their place can a command be taken out.
    """
    said = turn.context.said
    if said is None:
        return turn.messages
    index = max((i for i, m in enumerate(turn.messages) if m["role"] == "user"), default=None)
    if index is None:
        return turn.messages
    message = turn.messages[index]
    content = message.get("content")
    if not isinstance(content, str) or content == said or said not in content:
        return turn.messages
    before, _, after = content.rpartition(said)
    return [
        *turn.messages[:index],
        {**message, "content": f"{said}\n\n{before.rstrip()}{after}"},
        *turn.messages[index + 1 :],
    ]


def _needs_saying(speaker: _Speaker, requested: str) -> bool:
    """Open WebUI shows the picked model's name above each answer; only another voice is news."""
    return speaker.detection.is_switch or speaker.persona.key != requested


def _who_speaks(roster: Roster, speaker: _Speaker) -> str:
    if speaker.note:
        return speaker.note
    name = speaker.persona.display_name
    before = roster.get(speaker.detection.previous) if speaker.detection.previous else None
    if speaker.detection.is_switch and before is not None:
        return f"{name} takes over from {before.display_name}"
    return f"{name} takes over" if speaker.detection.is_switch else name


def _remember(
    runtime: Runtime, turn: Turn, requested: str, speaker: _Speaker, voice: str | None = None
) -> None:
    """Notes who answers, in memory at once; the session's record follows off the user's path."""
    context = turn.context
    if context.chat_id is None:
        return
    if context.message_id is not None:
        runtime.sessions.remember(
            Answer(
                message_id=context.message_id,
                chat_id=context.chat_id,
                user_message_id=context.user_message_id,
                agent=speaker.persona.key,
                ui_agent=requested,
                voice=voice,
                at=datetime.now(UTC),
            )
        )
    runtime.spawn(_note_session(runtime, context.chat_id, turn, requested, speaker))


async def _note_session(
    runtime: Runtime, chat_id: str, turn: Turn, requested: str, speaker: _Speaker
) -> None:
    known = await runtime.sessions.session(chat_id)
    persona, now = speaker.persona, datetime.now(UTC)
    switches = known.agent_history if known else ()
    if known is None or known.active_agent != persona.key:
        reason = "user_switch" if speaker.note is None else "system_default"
        switches = (
            *switches,
            Switch(persona.key, persona.name, now.isoformat(), len(turn.messages), reason),
        )
    runtime.sessions.remember(
        None,
        Session(
            chat_id=chat_id,
            active_agent=persona.key,
            ui_agent=requested,
            ui_since=speaker.detection.ui_since,
            agent_history=switches,
            updated_at=now,
        ),
    )
