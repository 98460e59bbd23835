"""`!commands` on any model of Open WebUI: what the filter's inlet does to a request.

A filter can only change the request. So a persona is written into the messages, as the strategy of *that*
model says; and what must be answered by us (lists, confirmations, several personas in a row) is given to
our console model for this one turn: a filter may change `body["model"]`, the user's choice stays.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from agent_mode.agents.persona import identity
from agent_mode.chat import console, desk
from agent_mode.chat.access import forbidden, no_access, open_to
from agent_mode.chat.announce import in_one_line, show_elsewhere, who_speaks
from agent_mode.chat.context import TurnContext, User, context_of
from agent_mode.chat.messages import comes_with_attachment, last_text
from agent_mode.chat.notes import note
from agent_mode.chat.offers import with_line
from agent_mode.chat.own_words import NO_CONSOLE, agent_needs_console
from agent_mode.chat.parsed import Parsed
from agent_mode.chat.reading import Reading, Request, read
from agent_mode.chat.runtime import Runtime
from agent_mode.chat.scene import PLAIN
from agent_mode.chat.signed import CONTEXT_KEY, pack
from agent_mode.chat.switching import is_continued, plan_turn
from agent_mode.chat.tips import Question, tip_for
from agent_mode.chat.transcript import strip_commands, without_tips
from agent_mode.observe.logs import get_logger
from agent_mode.observe.metrics import metrics
from agent_mode.prompts import blocks
from agent_mode.store.personas import Persona
from agent_mode.valves import HotswapValves

log = get_logger(__name__)

CONSOLE_KEY = "console"
CONSOLE = f"personas.{CONSOLE_KEY}"
"""The model that answers what no LLM should answer."""
CONSOLE_NAME = "Agent Mode console"

NOTHING_TO_ADD = "(There is nothing to add.)"

INTEGRATION_KEY = "agent_hotswap"
"""Key of `body.metadata` with what other filters may want to know; Open WebUI takes `metadata` out before
any provider sees the request."""


@dataclass(frozen=True, slots=True)
class Call:
    """One inlet call.

    Attributes:
        body: the request, not changed.
        user: Open WebUI's user `{id, name, email, role}`.
        secret: the connection key, which signs the context for our own models.
        features: what other filters are told that there is, see `docs/hotswap.md`.
    """

    body: dict[str, Any]
    user: dict[str, Any]
    secret: str
    features: Mapping[str, bool] = field(default_factory=dict)


async def rewrite(runtime: Runtime, call: Call, valves: HotswapValves) -> dict[str, Any]:
    """The request to go on with, on a model that is not ours. The given body is never changed."""
    body, model = call.body, str(call.body.get("model"))
    messages: Any = body.get("messages")
    context = context_of(body)
    if context.task and _usable(messages):
        clean = [without_tips(message) for message in messages]
        return body if clean == messages else {**body, "messages": clean}
    if not _usable(messages) or _done(body, context) or blocks.speaks_already(messages):
        return body
    started = time.perf_counter()
    user = User.of(call.user)
    request = Request(model, last_text(messages), messages, context, user, valves.persistent_persona)
    found = await read(runtime, request, valves, partial(_gate, runtime))
    scene = _Scene(runtime, call, context, user, found, valves, started)
    detection, said, roster = found.detection, found.said, found.roster
    if found.refused:
        return await _say(scene, found.refused)
    persona = roster.get(detection.current)
    attached = comes_with_attachment(messages)
    words = console.answer(said, found.grammar, roster, persona, model, attached=attached)
    if words is not None or said.several or said.console:
        return await _say(scene, words)
    if persona is not None and await forbidden(runtime, user, persona.key):
        return await _say(scene, no_access(persona))
    if persona is not None and persona.key in roster.agents:
        # Its answer is made by us: the picked model is none of it.
        return await _say(scene, agent_needs_console(persona.display_name))
    if valves.enable_suggestions and _may_offer(scene):
        runtime.spawn(_offer(scene, persona))
    if persona is None and (not detection.is_switch or detection.previous is None):
        # Nobody of ours is in charge, and nobody was; only commands and our answers are not for the model.
        clean = strip_commands(found.messages, found.grammar)
        return body if clean == messages else {**body, "messages": clean}
    return _speak_as(scene, persona)


def finished(runtime: Runtime, body: dict[str, Any], user: dict[str, Any] | None) -> dict[str, Any]:
    """What Open WebUI is to keep of a finished answer: with the line that was found meanwhile."""
    message_id = body.get("id")
    line = runtime.offers.take(User.of(user).owner, message_id) if isinstance(message_id, str) else None
    return with_line(body, line) if line else body


async def _gate(runtime: Runtime, user: User, said: Parsed) -> str | None:
    called = said.switch.key if said.switch is not None else None
    agent = runtime.directory.pipeline(called) if called else None
    if (agent is None and not said.several) or await _may_use_console(runtime, user):
        return None
    return NO_CONSOLE if agent is None or said.several else agent_needs_console(agent.name)


@dataclass(frozen=True, slots=True)
class _Scene:
    """What was found out about an inlet call."""

    runtime: Runtime
    call: Call
    context: TurnContext
    user: User
    found: Reading
    valves: HotswapValves
    started: float

    @property
    def model(self) -> str:
        return str(self.call.body["model"])

    def note(self, voice: str | None = None) -> None:
        detection = self.found.detection
        persona = self.found.roster.get(detection.current)
        note(
            self.runtime,
            self.context,
            agent=detection.current,
            name=persona.name if persona else self.model,
            ui_agent=self.model,
            ui_since=detection.ui_since,
            count=len(self.call.body["messages"]),
            voice=voice,
            user=self.user,
            in_charge=detection.in_charge,
            reset=self.found.said.resets,
        )

    def metadata(self, persona: Persona | None) -> dict[str, Any]:
        """The request's metadata with what other filters may want to know."""
        metadata = self.call.body.get("metadata")
        sequence = [] if self.found.refused else _sequence(self.found)
        mark = {
            "agent_hotswap_active": persona is not None or bool(sequence),
            "active_persona": persona.key if persona else None,
            "active_persona_name": persona.name if persona else None,
            "per_model_active": bool(self.found.bound),
            "persona_sequence": sequence,
            "enhanced_features": dict(self.call.features),
            "message_id": self.context.message_id,
        }
        if self.valves.integration_debug:
            log.info("integration context", user_id=self.user.id, chat_id=self.context.chat_id, **mark)
        return {**(metadata if isinstance(metadata, dict) else {}), INTEGRATION_KEY: mark}


def _sequence(found: Reading) -> list[str]:
    """Keys of those who speak in this one message, in order; `reset` is the picked model."""
    if not found.said.several:
        return []
    keys: list[str] = []
    for command in found.said.commands:
        if command.kind == "multi":
            keys += [found.bound[slot] for slot in sorted(found.bound)]
        elif command.kind in ("persona", "reset"):
            keys.append(command.key or "reset")
    return keys


def _speak_as(scene: _Scene, persona: Persona | None) -> dict[str, Any]:
    """The request in which the picked model speaks as the persona; None: as itself again."""
    found, body, valves = scene.found, scene.call.body, scene.valves
    detection = found.detection
    before = found.roster.get(detection.previous) if detection.previous else None
    plan = plan_turn(
        found.messages,
        identity(persona) if persona else PLAIN,
        identity(before) if before else None,
        scene.runtime.strategies.select(base_of(body) or scene.model).strategy,
        scene.runtime.templates,
        found.grammar,
        switched=detection.is_switch,
        policy=None if valves.history_policy == "strategy" else valves.history_policy,
    )
    scene.note()
    who = None
    if valves.show_persona_info if found.theirs.info is None else found.theirs.info:
        name = persona.display_name if persona else scene.model
        who = who_speaks(name, before.display_name if before else None, is_switch=detection.is_switch)
    if line := in_one_line(who, found.hint):
        show_elsewhere(scene.runtime, scene.context, line)
    if detection.is_switch:
        took = time.perf_counter() - scene.started
        metrics.switched(plan.report.strategy, took)
        log.info(
            "persona switched",
            user_id=scene.user.id,
            chat_id=scene.context.chat_id,
            persona=detection.current,
            previous=detection.previous,
            model=scene.model,
            strategy=plan.report.strategy,
            template=plan.report.template,
            duration_ms=round(took * 1000, 2),
        )
    if valves.enable_debug or scene.runtime.settings.debug:
        log.info("prompt", model=scene.model, messages=plan.messages)
    return {**body, "messages": plan.messages, "metadata": scene.metadata(persona)}


def _may_offer(scene: _Scene) -> bool:
    """As on our own models: to a person who looks at one streamed answer, and did not just say whose."""
    body, context = scene.call.body, scene.context
    alone = (context.models or 1) == 1 and not is_continued(body["messages"])
    return context.interactive and alone and body.get("stream") is True and not scene.found.said.commands


async def _offer(scene: _Scene, persona: Persona | None) -> None:
    found, message_id = scene.found, scene.context.message_id
    speaker, prefix, messages = (
        persona.key if persona else "",
        found.grammar.prefix,
        scene.call.body["messages"],
    )
    question = Question(found.said.text, scene.user, found.roster, speaker, prefix, messages)
    line = await tip_for(scene.runtime, question)
    if line is not None and message_id is not None:
        scene.runtime.offers.put(scene.user.owner, message_id, line)


async def _say(scene: _Scene, words: str | None) -> dict[str, Any]:
    """The request in which we answer: our console model, or for want of access the picked model for us.

    Without access to the console model the request would fail; the picked model can say our words.
    """
    runtime, call, user, found = scene.runtime, scene.call, scene.user, scene.found
    if await _may_use_console(runtime, user):
        said = last_text(call.body["messages"])
        offered = scene.valves.models
        context = replace(
            context_of(call.body, said, scene.model, base_of(call.body)),
            prefix=found.grammar.prefix,
            offered=offered,
            policy=scene.valves.history_policy,
            cased=scene.valves.case_sensitive,
            silent=not scene.valves.show_persona_info,
        )
        metadata = scene.metadata(found.roster.get(found.detection.current))
        return {
            **call.body,
            "model": CONSOLE,
            "metadata": metadata,
            CONTEXT_KEY: pack(context, call.secret, user),
        }
    command = found.said.console
    if is_continued(call.body["messages"]):
        words = NOTHING_TO_ADD  # the picked model cannot say nothing
    elif command is not None and command.kind in desk.KINDS:
        words = await desk.act(runtime, command, user, found.grammar)
    elif command is not None and command.kind == "list":
        roster = await open_to(runtime, user, found.roster)
        words = console.list_text(roster.by_key.values(), found.grammar.prefix)
    scene.note(voice=found.detection.voice)
    order = "Reply with exactly the text of the user's message. Change nothing, add nothing."
    messages = [{"role": "system", "content": order}, {"role": "user", "content": words or ""}]
    return {**call.body, "messages": messages}


def base_of(body: dict[str, Any]) -> str | None:
    """The model that a workspace model is built on, as the inlet's metadata tell."""
    metadata = body.get("metadata")
    model = metadata.get("model") if isinstance(metadata, dict) else None
    info = model.get("info") if isinstance(model, dict) else None
    base = info.get("base_model_id") if isinstance(info, dict) else None
    return base if isinstance(base, str) else None


def _usable(messages: Any) -> bool:
    return isinstance(messages, list) and bool(messages) and all(isinstance(m, dict) for m in messages)


def _done(body: dict[str, Any], context: TurnContext) -> bool:
    """Whether this very message went through here already: Open WebUI may call a filter twice."""
    metadata = body.get("metadata")
    mark = metadata.get(INTEGRATION_KEY) if isinstance(metadata, dict) else None
    return isinstance(mark, dict) and mark.get("message_id") == context.message_id


async def _may_use_console(runtime: Runtime, user: User) -> bool:
    """Whether Open WebUI lets this user use the console model."""
    if user.admin or user.id is None:
        return user.admin
    return await runtime.access.may_use(user.id, CONSOLE) is True
