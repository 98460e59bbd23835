"""`!commands` on any model of Open WebUI: what the filter's inlet does to a request.

A filter can only change the request. So a persona is written into the messages, as the strategy of *that*
model says; and what must be answered by us (lists, confirmations, several personas in a row) is given to
our console model for this one turn: a filter may change `body["model"]`, the user's choice stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from agent_mode.agents.persona import identity
from agent_mode.chat import console, desk
from agent_mode.chat.commands import (
    Grammar,
    Parsed,
    comes_with_attachment,
    last_text,
    parse,
    strip_commands,
)
from agent_mode.chat.notes import keep_persona, note
from agent_mode.chat.roster import Roster
from agent_mode.chat.runtime import Runtime
from agent_mode.chat.scene import allowed_bindings, forbidden, no_access, recall, refusal
from agent_mode.chat.switching import Detection, detect_agent_switch, plan_turn
from agent_mode.chat.turn import CONTEXT_KEY, TurnContext, User, context_of, pack
from agent_mode.observe.logs import get_logger
from agent_mode.prompts import blocks
from agent_mode.prompts.reset import Identity
from agent_mode.store.personas import Persona
from agent_mode.store.users import UserSettings
from agent_mode.valves import HotswapValves

log = get_logger(__name__)

CONSOLE_KEY = "console"
CONSOLE = f"personas.{CONSOLE_KEY}"
"""The model that answers what no LLM should answer."""
CONSOLE_NAME = "Agent Mode console"

PLAIN = Identity("", "the assistant", "You are the assistant again, as you are without any persona.")
"""Who answers after `!reset` on a model that is not ours."""

NO_CONSOLE = (
    "Several personas in one message need the model “Agent Mode console”, which you may not use here. "
    "Ask an admin to give you access to it, or call one persona at a time."
)

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
    """

    body: dict[str, Any]
    user: dict[str, Any]
    secret: str


async def rewrite(runtime: Runtime, call: Call, valves: HotswapValves) -> dict[str, Any]:
    """The request to go on with, on a model that is not ours. The given body is never changed."""
    body, model = call.body, str(call.body.get("model"))
    messages: Any = body.get("messages")
    context = context_of(body)
    if not _usable(messages) or context.task or _done(body, context) or blocks.speaks_already(messages):
        return body
    roster = runtime.rosters.offered(valves.models)
    user = User.of(call.user)
    theirs = await runtime.users.get(user.id)
    grammar = Grammar(roster.keys, theirs.prefix or valves.keyword_prefix, valves.case_sensitive)
    said = parse(last_text(messages), grammar)
    refused = await refusal(runtime, user, said, roster)
    if not refused and said.several and not await _may_use_console(runtime, user):
        refused = NO_CONSOLE
    memory = await recall(runtime, context, model)
    bound = await allowed_bindings(runtime, user, messages, grammar)
    detection = detect_agent_switch(
        messages,
        model,
        grammar,
        memory=memory,
        branch_known=context.branch_known,
        said=Parsed(said.text) if refused else said,
        bound=bound.get(context.place or 1),
        opening=await _opening(runtime, user, theirs, valves, roster),
    )
    scene = _Scene(runtime, call, context, user, grammar, said, detection, roster, valves.models)
    if refused:
        return await _say(scene, refused)
    keep_persona(runtime, user, theirs, said)
    persona = roster.get(detection.current)
    attached = comes_with_attachment(messages)
    words = console.answer(said, grammar, roster, persona, model, attached=attached)
    if words is not None or said.several or said.console:
        return await _say(scene, words)
    if persona is None and (not detection.is_switch or detection.previous is None):
        # Nobody of ours is in charge, and nobody was; only commands and our answers are not for the model.
        clean = strip_commands(messages, grammar)
        return body if clean == messages else {**body, "messages": clean}
    if persona is not None and await forbidden(runtime, user, persona.key):
        return await _say(scene, no_access(persona))
    return _speak_as(scene, persona, valves)


@dataclass(frozen=True, slots=True)
class _Scene:
    """What was found out about an inlet call."""

    runtime: Runtime
    call: Call
    context: TurnContext
    user: User
    grammar: Grammar
    said: Parsed
    detection: Detection
    roster: Roster
    offered: str | None

    @property
    def model(self) -> str:
        return str(self.call.body["model"])

    def note(self, voice: str | None = None) -> None:
        persona = self.roster.get(self.detection.current)
        note(
            self.runtime,
            self.context,
            agent=self.detection.current,
            name=persona.name if persona else self.model,
            ui_agent=self.model,
            ui_since=self.detection.ui_since,
            count=len(self.call.body["messages"]),
            voice=voice,
            user_id=self.user.id,
            in_charge=self.detection.in_charge,
            reset=self.said.resets,
        )


def _speak_as(scene: _Scene, persona: Persona | None, valves: HotswapValves) -> dict[str, Any]:
    """The request in which the picked model speaks as the persona; None: as itself again."""
    detection, body = scene.detection, scene.call.body
    before = scene.roster.get(detection.previous) if detection.previous else None
    plan = plan_turn(
        body["messages"],
        identity(persona) if persona else PLAIN,
        identity(before) if before else None,
        scene.runtime.strategies.select(base_of(body) or scene.model).strategy,
        scene.runtime.templates,
        scene.grammar,
        switched=detection.is_switch,
        policy=None if valves.history_policy == "strategy" else valves.history_policy,
    )
    scene.note()
    if detection.is_switch:
        log.info(
            "persona switched",
            user_id=scene.user.id,
            chat_id=scene.context.chat_id,
            persona=detection.current,
            previous=detection.previous,
            model=scene.model,
            strategy=plan.report.strategy,
            template=plan.report.template,
        )
    if valves.debug or scene.runtime.settings.debug:
        log.info("prompt", model=scene.model, messages=plan.messages)
    metadata = _with_integration(body, scene.context, persona)
    return {**body, "messages": plan.messages, "metadata": metadata}


async def _say(scene: _Scene, words: str | None) -> dict[str, Any]:
    """The request in which we answer: our console model, or for want of access the picked model for us.

    Without access to the console model the request would fail; the picked model can say our words.
    """
    runtime, call, user = scene.runtime, scene.call, scene.user
    if await _may_use_console(runtime, user):
        said = last_text(call.body["messages"])
        context = replace(
            context_of(call.body, said, scene.model), prefix=scene.grammar.prefix, offered=scene.offered
        )
        return {**call.body, "model": CONSOLE, CONTEXT_KEY: pack(context, call.secret)}
    command = scene.said.console
    if command is not None and command.kind in desk.KINDS:
        words = await desk.act(runtime, command, user, scene.grammar)
    scene.note(voice=scene.detection.voice)
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


def _with_integration(body: dict[str, Any], context: TurnContext, persona: Persona | None) -> dict[str, Any]:
    metadata = body.get("metadata")
    known = metadata if isinstance(metadata, dict) else {}
    mark = {
        "agent_hotswap_active": persona is not None,
        "active_persona": persona.key if persona else None,
        "active_persona_name": persona.name if persona else None,
        "per_model_active": context.place is not None,
        "message_id": context.message_id,
    }
    return {**known, INTEGRATION_KEY: mark}


async def _opening(
    runtime: Runtime, user: User, settings: UserSettings, valves: HotswapValves, roster: Roster
) -> str | None:
    """The persona that opens this user's new chats, if they want that, and it exists and is open to them."""
    wanted = valves.persistent_persona if settings.persistence is None else settings.persistence
    if not wanted or not settings.persona or not roster.get(settings.persona):
        return None
    return None if await forbidden(runtime, user, settings.persona) else settings.persona


async def _may_use_console(runtime: Runtime, user: User) -> bool:
    """Whether Open WebUI lets this user use the console model."""
    if user.admin or user.id is None:
        return user.admin
    return await runtime.access.may_use(user.id, CONSOLE) is True
