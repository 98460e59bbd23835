"""One turn with everything that was found out about it; what the conversation and sequences share."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from agent_mode.agents.engine import Job
from agent_mode.agents.persona import identity
from agent_mode.chat.commands import Grammar, Parsed, parse
from agent_mode.chat.notes import keep_persona
from agent_mode.chat.roster import Roster
from agent_mode.chat.runtime import Runtime
from agent_mode.chat.switching import Detection, Memory, bindings, detect_agent_switch, plan_turn
from agent_mode.chat.turn import Turn, TurnContext, User
from agent_mode.errors import ProviderError, RequestError
from agent_mode.llm import connection as connections
from agent_mode.llm.client import OWN_PREFIX
from agent_mode.llm.sse import Facts
from agent_mode.observe.logs import get_logger
from agent_mode.prompts.reset import SwitchPlan, instructions_only
from agent_mode.store.personas import Persona
from agent_mode.valves import PersonaValves

log = get_logger(__name__)


@dataclass(slots=True)
class Speaker:
    """Who answers, and what has to be said about that."""

    persona: Persona
    detection: Detection
    note: str | None = None


@dataclass(slots=True)
class Scene:
    """A turn, who was asked, and what the grammar, the roster and the store say about it.

    `bound` are the personas assigned to models side by side; `refused` says why the message's commands do not
    count.
    """

    runtime: Runtime
    turn: Turn
    requested: str
    valves: PersonaValves
    facts: Facts
    roster: Roster
    grammar: Grammar
    said: Parsed
    detection: Detection
    bound: dict[int, str]
    refused: str | None
    show_info: bool
    looked_ms: float

    @classmethod
    async def look(
        cls, runtime: Runtime, turn: Turn, requested: str, valves: PersonaValves, facts: Facts
    ) -> Scene:
        """Reads the commands and recalls who answered before."""
        started = time.perf_counter()
        context = turn.context
        # A turn that the filter gave us is read as the filter read it.
        roster = runtime.rosters.offered(context.offered if context.via else valves.models)
        theirs = await runtime.users.get(turn.user.id)
        prefix = context.prefix or theirs.prefix or valves.keyword_prefix
        grammar = Grammar(roster.keys, prefix, valves.case_sensitive)
        said = parse(turn.said, grammar)
        asked = turn.context.via or requested
        refused = await refusal(runtime, turn.user, said, roster)
        bound = await allowed_bindings(runtime, turn.user, turn.messages, grammar)
        detection = detect_agent_switch(
            turn.messages,
            asked,
            grammar,
            memory=await recall(runtime, turn.context, asked),
            branch_known=turn.context.branch_known,
            said=Parsed(said.text) if refused else said,
            bound=bound.get(turn.context.place or 1),
        )
        looked = (time.perf_counter() - started) * 1000
        show_info = valves.show_persona_info if theirs.info is None else theirs.info
        if not refused:
            keep_persona(runtime, turn.user, theirs, said)
        return cls(
            runtime=runtime,
            turn=turn,
            requested=requested,
            valves=valves,
            facts=facts,
            roster=roster,
            grammar=grammar,
            said=said,
            detection=detection,
            bound=bound,
            refused=refused,
            show_info=show_info,
            looked_ms=looked,
        )

    def speaker(self) -> Speaker:
        """The persona that answers; if it is gone, whoever answered before, and a word about it.

        Raises:
            RequestError: neither is there.
        """
        detection = self.detection
        wanted = self.roster.get(detection.current)
        if wanted is not None:
            return Speaker(wanted, detection)
        for key in (detection.previous, self.requested):
            kept = self.roster.get(key) if key else None
            if kept is not None:
                log.warning(
                    "switch fallback", category="agent_not_found", wanted=detection.current, kept=kept.key
                )
                note = f"{detection.current} is not available any more; {kept.display_name} answers"
                switched = detection.previous not in (None, kept.key)
                return Speaker(kept, replace(detection, current=kept.key, is_switch=switched), note)
        raise RequestError(
            f"There is no persona “{detection.current}” here.",
            hint="Pick another model, or ask an admin to enable it again.",
            code="agent_not_found",
            status=404,
            field="model",
        )

    async def job(
        self,
        persona: Persona,
        *,
        previous: str | None,
        switched: bool,
        messages: list[dict[str, Any]] | None = None,
    ) -> Job:
        """What the engine has to do so that the persona answers.

        Args:
            persona: who answers.
            previous: key of whoever answered before.
            switched: whether that is a switch.
            messages: the transcript; the turn's own if not given.

        Raises:
            ProviderError: no model can be chosen.
        """
        started = time.perf_counter()
        connection, model = await self._model(persona)
        messages, clean = (messages, False) if messages else self._messages()
        plan = self._plan(messages, persona, previous, model, switched=switched, last_is_clean=clean)
        for category in plan.report.fallbacks:
            log.warning("switch fallback", category=category, strategy=plan.report.strategy, model=model)
        if switched:
            log.info(
                "persona switched",
                user_id=self.turn.user.id,
                chat_id=self.turn.context.chat_id,
                persona=persona.key,
                previous=previous,
                reason=self.detection.reason,
                model=model,
                strategy=plan.report.strategy,
                template=plan.report.template,
                duration_ms=round(self.looked_ms + (time.perf_counter() - started) * 1000, 2),
            )
        if self.valves.debug or self.runtime.settings.debug:
            log.info("prompt", model=model, messages=plan.messages)
        return Job(connection, model, plan.messages, self.turn.params, self.turn.stream, self.facts)

    async def _model(self, persona: Persona) -> tuple[connections.Connection, str]:
        """Where the LLM is, and which model of it speaks as the persona."""
        llm, via = self.runtime.llm, self.turn.context.via
        connection = connection_for(self.runtime, self.valves)
        if via is None:
            return connection, await llm.choose_model(connection, persona.model)
        if any(entry["id"] == via for entry in await llm.models(connection)):
            return connection, await llm.choose_model(connection, via)
        settings = self.runtime.settings
        if settings.openwebui_url and self.turn.credential:
            theirs = connections.openwebui(settings.openwebui_url, self.turn.credential, self.valves)
            return theirs, await llm.choose_model(theirs, via)
        raise ProviderError(
            f"Several personas cannot speak through “{via}” here.",
            hint="Call one persona at a time, or pick a persona as the model. "
            "An admin can let Agent Mode use this model: docs/hotswap.md.",
            code="provider_model",
            status=400,
        )

    def _plan(
        self,
        messages: list[dict[str, Any]],
        persona: Persona,
        previous: str | None,
        model: str,
        *,
        switched: bool,
        last_is_clean: bool,
    ) -> SwitchPlan:
        agent = identity(persona)
        before = self.roster.get(previous) if previous else None
        policy = self.valves.history_policy
        try:
            return plan_turn(
                messages,
                agent,
                identity(before) if before else None,
                self.runtime.strategies.select(model).strategy,
                self.runtime.templates,
                self.grammar,
                switched=switched,
                policy=None if policy == "strategy" else policy,
                last_is_clean=last_is_clean,
            )
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            # A switch never fails the chat: without context, the persona still answers as itself.
            log.exception("switch fallback", category="context_failed", reason=type(error).__name__)
            return instructions_only(messages, agent)

    def _messages(self) -> tuple[list[dict[str, Any]], bool]:
        """The messages, and whether the last one's commands are out of it already.

        Open WebUI may have put a knowledge template around the user's words since the inlet. What it put
        there is no command, so they are taken out at the place of the words alone.
        """
        turn, said = self.turn, self.turn.context.said
        index = last_user(turn.messages)
        if said is None or index is None:
            return turn.messages, False
        message = turn.messages[index]
        content = message.get("content")
        if not isinstance(content, str) or content == said or said not in content:
            return turn.messages, False
        before, _, after = content.rpartition(said)
        rewritten = {**message, "content": f"{before}{self.said.text}{after}"}
        return [*turn.messages[:index], rewritten, *turn.messages[index + 1 :]], True


async def recall(runtime: Runtime, context: TurnContext, requested: str) -> Memory:
    """What the store knows; asks the database only for what is not in memory."""
    sessions = runtime.sessions
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


async def refusal(runtime: Runtime, user: User, said: Parsed, roster: Roster) -> str | None:
    """Why a persona that the message calls may not be called; None if all may."""
    for key in dict.fromkeys(command.key for command in said.commands if command.kind in ("persona", "bind")):
        persona = roster.get(key) if key else None
        if persona and await forbidden(runtime, user, persona.key):
            return no_access(persona)
    return None


async def forbidden(runtime: Runtime, user: User, key: str) -> bool:
    """Whether Open WebUI keeps the user from a persona.

    Whom it keeps from a model must not reach it by `!key` either. Without a service key there is nobody to
    ask, and every offered persona is open to all.
    """
    if user.admin or user.id is None:
        return False
    return await runtime.access.may_use(user.id, f"{OWN_PREFIX}{key}") is False


def no_access(persona: Persona) -> str:
    """What a user is told who may not use a persona."""
    return f"You may not use {persona.display_name} here. Ask an admin for access to that model."


async def allowed_bindings(
    runtime: Runtime, user: User, messages: list[dict[str, Any]], grammar: Grammar
) -> dict[int, str]:
    """The personas assigned to models side by side, without those that the user may not use.

    They are read from the transcript, which keeps a command that was refused.
    """
    bound = bindings(messages, grammar)
    return {slot: key for slot, key in bound.items() if not await forbidden(runtime, user, key)}


def connection_for(runtime: Runtime, valves: PersonaValves) -> connections.Connection:
    """The LLM connection that the valves name, else the environment's."""
    return connections.resolve(
        runtime.settings,
        base_url=valves.llm_base_url,
        api_key=valves.llm_api_key,
        model=valves.llm_model,
        connect_timeout=valves.connect_timeout,
        read_timeout=valves.read_timeout,
    )


def last_user(messages: list[dict[str, Any]]) -> int | None:
    """Index of the last user message."""
    return max((i for i, m in enumerate(messages) if m["role"] == "user"), default=None)
