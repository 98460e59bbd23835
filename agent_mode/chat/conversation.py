"""The main street: one turn from request to events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from agent_mode.agents import selector
from agent_mode.agents.engine import Completion, Embed, Event, Failure, Job, Status, Text, ToolCalls
from agent_mode.agents.persona import PersonaEngine
from agent_mode.agents.spec import AgentSpec
from agent_mode.chat import agent_turn, browser, console, desk, hotswap, sequence
from agent_mode.chat.access import forbidden, no_access, open_to
from agent_mode.chat.announce import in_one_line, who_speaks
from agent_mode.chat.messages import comes_with_attachment
from agent_mode.chat.notes import Why, note
from agent_mode.chat.overhear import overheard
from agent_mode.chat.runtime import Runtime
from agent_mode.chat.scene import Scene, Speaker, connection_for
from agent_mode.chat.spoken import speak
from agent_mode.chat.steps import Step
from agent_mode.chat.tips import with_tip
from agent_mode.chat.transcript import without_tips
from agent_mode.chat.turn import Turn
from agent_mode.errors import AgentModeError, RequestError
from agent_mode.llm.sse import Facts
from agent_mode.observe.logs import get_logger
from agent_mode.observe.metrics import metrics
from agent_mode.store.personas import Persona
from agent_mode.tools.runner import TOOL_RUNNER_KEY
from agent_mode.valves import PersonaValves

log = get_logger(__name__)

AUTO_KEY = "auto"
AUTO_NAME = "🧭 Auto"
"""The model that chooses a persona by itself."""

_LAST = frozenset({Completion, Failure, ToolCalls})


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
    failure: AgentModeError | None = None
    ended = False
    try:
        told = overheard(runtime, turn, await _begin(runtime, turn, requested, valves, facts))
        async with aclosing(told) as events:
            async for event in events:
                if type(event) in _LAST:  # after these nobody needs to ask for more
                    ended = True
                    failure = event.error if isinstance(event, Failure) else None
                yield event
        ended = True
    except AgentModeError as error:
        failure = error
        log.warning(
            "turn failed",
            code=error.code,
            model=turn.model,
            chat_id=turn.context.chat_id,
            user_id=turn.user.id,
            reason=error.message,
            detail=error.detail or None,
        )
        yield Failure(error)
    except Exception:
        log.exception("turn failed", code="internal", model=turn.model, chat_id=turn.context.chat_id)
        failure = AgentModeError(
            "Something went wrong inside Agent Mode.",
            hint="Try again; an admin finds the reason in the server's log.",
            code="internal",
        )
        yield Failure(failure)
    finally:
        if not turn.context.task and requested != TOOL_RUNNER_KEY:
            metrics.turn(turn.model, failure, stopped=not ended)


async def _begin(
    runtime: Runtime, turn: Turn, requested: str, valves: PersonaValves, facts: Facts
) -> AsyncGenerator[Event, None]:
    """Decides what happens in this turn; returns its events."""
    if requested == TOOL_RUNNER_KEY:
        return _say(Text(runtime.loopback.reply(turn.messages, turn.params.get("tools"))))
    if turn.context.task:
        return PersonaEngine(runtime.llm).run(await _task(runtime, turn, requested, valves, facts))
    scene = await Scene.look(runtime, turn, requested, valves, facts)
    if requested == hotswap.CONSOLE_KEY:
        return await _console_turn(scene)
    if scene.detection.current == AUTO_KEY:
        return _auto_turn(scene)
    speaker = scene.speaker()
    back = scene.roster.get(requested) or speaker.persona
    words = await _words(scene, speaker.persona, back.display_name)
    if words is not None:
        _remember(scene, speaker.persona.key, speaker.persona.name, voice=scene.detection.voice)
        return _own_words(scene, words)
    steps = _steps(scene, requested)
    reason = "user_switch" if speaker.note is None else "system_default"
    _remember(scene, speaker.persona.key, speaker.persona.name, reason=reason)
    if steps:
        return _perform(scene, steps)
    detection = speaker.detection
    if (spec := runtime.directory.pipeline(speaker.persona.key)) is not None:
        return _agent(scene, spec, speaker, requested)
    job = await scene.job(speaker.persona, previous=detection.previous, switched=detection.is_switch)
    return _introduced(
        scene,
        speaker,
        requested,
        with_tip(scene, speaker.persona, speak(runtime, turn, speaker.persona.key, job)),
    )


def _steps(scene: Scene, requested: str) -> list[Step]:
    """The steps of a message that calls several.

    Raises:
        RequestError: they are refused; whoever was in charge stays.
    """
    try:
        return sequence.steps_in(scene, requested)
    except RequestError:
        key = scene.detection.unasked
        kept = scene.roster.get(key)
        _remember(scene, key, kept.name if kept else requested, voice=scene.detection.voice)
        raise


def _perform(scene: Scene, steps: list[Step]) -> AsyncGenerator[Event, None]:
    if scene.continues:
        return sequence.go_on(scene, steps)
    told = sequence.perform(scene, steps)
    # Behind the lines of the steps: the last line is the one that is seen.
    return _then(told, Status(scene.hint)) if scene.hint else told


def _agent(scene: Scene, spec: AgentSpec, speaker: Speaker, requested: str) -> AsyncGenerator[Event, None]:
    detection = speaker.detection
    told = agent_turn.answer(scene, spec, previous=detection.previous, switched=detection.is_switch)
    return _introduced(scene, speaker, requested, told)


def _introduced(
    scene: Scene, speaker: Speaker, requested: str, told: AsyncGenerator[Event, None]
) -> AsyncGenerator[Event, None]:
    """The answer, with a line above it that says who speaks, where that is news, and what may be a slip."""
    says_who = speaker.note or (scene.show_info and _needs_saying(speaker, requested))
    line = in_one_line(_who_speaks(scene, speaker) if says_who else None, scene.hint)
    return _say(Status(line), told) if line else told


async def _auto_turn(scene: Scene) -> AsyncGenerator[Event, None]:
    """A turn of the model `auto` in which nobody is in charge yet: the LLM chooses who answers."""
    words = await _words(scene, None, AUTO_NAME)
    if words is not None:
        _remember(scene, AUTO_KEY, AUTO_NAME, voice=scene.detection.voice)
        async with aclosing(_own_words(scene, words)) as events:
            async for event in events:
                yield event
        return
    began = await _who_began(scene) if scene.continues else None
    if scene.show_info and began is None:
        yield Status("Choosing who answers…", done=False)
    runtime = scene.runtime
    connection = connection_for(runtime, scene.valves)
    personas = (await open_to(runtime, scene.turn.user, scene.roster)).personas
    try:
        if not personas:
            raise RequestError(
                "There is no persona here that you may use.",
                hint="Ask an admin for access to one.",
                code="agent_not_found",
                status=404,
            )
        model = await runtime.llm.choose_model(connection, None)
        chosen = next((persona for persona in personas if persona.key == began), None)
        if chosen is None:
            chosen = await selector.choose(runtime.llm, connection, model, personas, scene.said.text)
    except AgentModeError:
        if scene.show_info:
            yield Status("Nobody could be chosen")  # closes the line above, which would spin for ever
        raise
    previous = scene.detection.previous
    switched = previous is not None and previous != chosen.key
    scene.detection = replace(scene.detection, current=chosen.key, is_switch=switched)
    _remember(scene, chosen.key, chosen.name, reason="auto_suggestion")
    if scene.show_info:
        yield Status(f"{chosen.display_name} answers")
    job = await scene.job(chosen, previous=previous, switched=switched)
    async with aclosing(speak(runtime, scene.turn, chosen.key, job)) as events:
        async for event in events:
            yield event


async def _who_began(scene: Scene) -> str | None:
    """Key of who wrote the answer that is to go on, where that is known."""
    message_id = scene.turn.context.message_id
    answer = await scene.runtime.sessions.answer(message_id) if message_id else None
    return answer.agent if answer is not None else None


async def _console_turn(scene: Scene) -> AsyncGenerator[Event, None]:
    """A turn that the filter gave us from another model: answered by us, or spoken through that model."""
    via = scene.turn.context.via or scene.requested
    persona = scene.roster.get(scene.detection.current)
    words = await _words(scene, persona, via)
    asked = words is None and scene.said.several
    current = scene.detection.current
    steps = _steps(scene, via) if asked else []
    spec = scene.runtime.directory.pipeline(current) if words is None and not asked else None
    voice = None if steps or spec else scene.detection.voice
    _remember(scene, current, persona.name if persona else via, voice=voice)
    if steps:
        return _perform(scene, steps)
    if spec is not None and persona is not None:
        return _agent(scene, spec, Speaker(persona, scene.detection), scene.requested)
    return _own_words(scene, words or console.help_text(scene.grammar.prefix))


async def _words(scene: Scene, persona: Persona | None, back: str) -> str | None:
    """What we answer ourselves; None when an LLM is to answer."""
    command = scene.said.console
    if scene.refused:
        return scene.refused
    if command is not None and command.kind in desk.KINDS:
        if scene.continues:  # it is done, and must not be done again
            return ""
        return await desk.act(scene.runtime, command, scene.turn.user, scene.grammar)
    if any(one.kind == "list" for one in (command, *scene.said.commands) if one):
        scene.roster = await open_to(scene.runtime, scene.turn.user, scene.roster)
    attached = comes_with_attachment(scene.turn.messages)
    words = console.answer(scene.said, scene.grammar, scene.roster, persona, back, attached=attached)
    if words is None:
        words = sequence.words_instead(scene, persona.display_name if persona else back)
    if words is None and persona is not None and persona.key != scene.requested and not scene.said.several:
        # Called at another time, when the user still might.
        return no_access(persona) if await forbidden(scene.runtime, scene.turn.user, persona.key) else None
    return words


def _own_words(scene: Scene, words: str) -> AsyncGenerator[Event, None]:
    """Our answer; a list comes as a browser where the caller shows pages, the table folded below it.

    It is always whole: where it is to go on, nothing comes.
    """
    if scene.continues:
        return _say()
    command = scene.said.console
    shows_pages = scene.turn.context.interactive and scene.turn.stream
    if command is None or command.kind != "list" or not shows_pages:
        return _say(Text(words))
    everyone = list(scene.roster.by_key.values())
    agents = len(scene.roster.agents & scene.roster.by_key.keys())
    html = browser.page(everyone, prefix=scene.grammar.prefix, embedded=True, agents=agents)
    return _say(Embed(html), _say(Text(console.folded(words, command, len(everyone) - agents, agents))))


async def _say(
    event: Event | None = None, then: AsyncGenerator[Event, None] | None = None
) -> AsyncGenerator[Event, None]:
    if event is not None:
        yield event
    if then is not None:
        async with aclosing(then) as events:
            async for following in events:
                yield following


async def _then(told: AsyncGenerator[Event, None], last: Event) -> AsyncGenerator[Event, None]:
    async with aclosing(told) as events:
        async for event in events:
            yield event
    yield last


async def _task(runtime: Runtime, turn: Turn, requested: str, valves: PersonaValves, facts: Facts) -> Job:
    """A background task of Open WebUI: no persona, no commands, no session.

    It holds the chat's words, so it goes where the answers come from.
    """
    agent = runtime.directory.pipeline(requested)
    spec = agent or runtime.directory.get(requested)
    connection = connection_for(runtime, agent.valves if agent else valves)
    model = await runtime.llm.choose_model(connection, spec.model if spec else None)
    messages = [without_tips(message) for message in turn.messages]
    return Job(connection, model, messages, turn.params, turn.stream, facts)


def _needs_saying(speaker: Speaker, requested: str) -> bool:
    """Open WebUI shows the picked model's name above each answer; only another voice is news."""
    return speaker.detection.is_switch or speaker.persona.key != requested


def _who_speaks(scene: Scene, speaker: Speaker) -> str:
    if speaker.note:
        return speaker.note
    name = speaker.persona.display_name
    before = scene.roster.get(speaker.detection.previous) if speaker.detection.previous else None
    return who_speaks(name, before.display_name if before else None, is_switch=speaker.detection.is_switch)


def _remember(
    scene: Scene, agent: str, name: str, *, voice: str | None = None, reason: Why = "user_switch"
) -> None:
    """Notes who answers this turn; `voice`: whose the replies above are, when we answer ourselves."""
    note(
        scene.runtime,
        scene.turn.context,
        agent=agent,
        name=name,
        ui_agent=scene.turn.context.via or scene.requested,
        ui_since=scene.detection.ui_since,
        count=len(scene.turn.messages),
        voice=voice,
        user=scene.turn.user,
        in_charge=scene.detection.in_charge,
        reset=scene.said.resets,
        reason=reason,
    )
