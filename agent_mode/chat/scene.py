"""One turn with everything that was found out about it; what the conversation and sequences share."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from agent_mode.agents.engine import Job
from agent_mode.agents.persona import identity
from agent_mode.chat.commands import Grammar
from agent_mode.chat.parsed import Parsed
from agent_mode.chat.reading import Request, read
from agent_mode.chat.roster import Roster
from agent_mode.chat.runtime import Runtime
from agent_mode.chat.switching import Detection, is_continued, plan_turn
from agent_mode.chat.transcript import strip_commands
from agent_mode.chat.turn import Turn
from agent_mode.errors import ProviderError, RequestError
from agent_mode.llm import connection as connections
from agent_mode.llm.sse import Facts
from agent_mode.observe.logs import get_logger
from agent_mode.observe.metrics import metrics
from agent_mode.prompts.reset import Identity, SwitchPlan, SwitchReport, instructions_only
from agent_mode.store.personas import Persona
from agent_mode.tools.results import is_images_note
from agent_mode.valves import AgentValves, PersonaValves

log = get_logger(__name__)

PLAIN = Identity("", "the assistant", "You are the assistant again, as you are without any persona.")
"""Who answers after `!reset` on a model that is not ours."""


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
    count; `hint` asks about a word of it that was left as text.
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
    hint: str | None
    show_info: bool
    looked_ms: float

    @classmethod
    async def look(
        cls, runtime: Runtime, turn: Turn, requested: str, valves: PersonaValves, facts: Facts
    ) -> Scene:
        """Reads the commands and recalls who answered before."""
        context = turn.context
        if context.via is not None:  # the filter's valves hold where the filter gave us the turn
            theirs = {"show_persona_info": not context.silent, "case_sensitive": context.cased}
            policy = context.policy or valves.history_policy
            valves = valves.model_copy(update={**theirs, "history_policy": policy})
        request = Request(context.via or requested, turn.said, turn.messages, context, turn.user)
        found = await read(runtime, request, valves)
        return cls(
            runtime=runtime,
            turn=replace(turn, messages=found.messages),
            requested=requested,
            valves=valves,
            facts=facts,
            roster=found.roster,
            grammar=found.grammar,
            said=found.said,
            detection=found.detection,
            bound=found.bound,
            refused=found.refused,
            hint=found.hint,
            show_info=valves.show_persona_info if found.theirs.info is None else found.theirs.info,
            looked_ms=found.took_ms,
        )

    @property
    def continues(self) -> bool:
        """Whether the request ends with an answer that is to go on."""
        return is_continued(self.turn.messages)

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
        persona: Persona | None,
        *,
        previous: str | None,
        switched: bool,
        messages: list[dict[str, Any]] | None = None,
    ) -> Job:
        """What the engine has to do so that the persona answers.

        Args:
            persona: who answers; None: the picked model as itself.
            previous: key of whoever answered before.
            switched: whether that is a switch.
            messages: the transcript, its last question without commands; the turn's own if not given.

        Raises:
            ProviderError: no model can be chosen.
        """
        connection, model = await self._model(persona)
        ready = self.prepared(persona, model, previous=previous, switched=switched, messages=messages)
        return Job(connection, model, ready, self.turn.params, self.turn.stream, self.facts)

    def prepared(
        self,
        persona: Persona | None,
        model: str,
        *,
        previous: str | None,
        switched: bool,
        messages: list[dict[str, Any]] | None = None,
    ) -> list[dict[str, Any]]:
        """The messages to send so that the persona, or the agent that it stands for, answers; as in `job`."""
        started = time.perf_counter()
        messages, clean = (messages, True) if messages else self._messages()
        plan = self._plan(messages, persona, previous, model, switched=switched, last_is_clean=clean)
        for category in plan.report.fallbacks:
            log.warning("switch fallback", category=category, strategy=plan.report.strategy, model=model)
            metrics.fell_back(category)
        if switched:
            took_ms = self.looked_ms + (time.perf_counter() - started) * 1000
            metrics.switched(plan.report.strategy, took_ms / 1000)
            log.info(
                "persona switched",
                user_id=self.turn.user.id,
                chat_id=self.turn.context.chat_id,
                persona=persona.key if persona else None,
                previous=previous,
                reason=self.detection.reason,
                model=model,
                strategy=plan.report.strategy,
                template=plan.report.template,
                duration_ms=round(took_ms, 2),
            )
        if self.valves.enable_debug or self.runtime.settings.debug:
            log.info("prompt", model=model, messages=plan.messages)
        return plan.messages

    async def _model(self, persona: Persona | None) -> tuple[connections.Connection, str]:
        """Where the LLM is, and which model of it speaks as the persona."""
        llm, via, base = self.runtime.llm, self.turn.context.via, self.turn.context.base
        connection = connection_for(self.runtime, self.valves)
        if via is None:
            return connection, await llm.choose_model(connection, persona.model if persona else None)
        # A workspace model may bear the id of a provider's model to which the user has no access.
        if base is None and any(entry["id"] == via for entry in await llm.models(connection)):
            return connection, await llm.choose_model(connection, via)
        settings = self.runtime.settings
        if settings.openwebui_url and self.turn.user.credential:
            theirs = connections.openwebui(settings.openwebui_url, self.turn.user.credential, self.valves)
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
        persona: Persona | None,
        previous: str | None,
        model: str,
        *,
        switched: bool,
        last_is_clean: bool,
    ) -> SwitchPlan:
        agent = identity(persona) if persona else PLAIN
        before = self.roster.get(previous) if previous else None
        policy = self.valves.history_policy
        if persona is None and not switched:  # nobody needs to be told to be itself
            clean = strip_commands(messages, self.grammar, last_is_clean=last_is_clean)
            return SwitchPlan(clean, SwitchReport("none", None, "none", "none", "full"))
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


def connection_for(runtime: Runtime, valves: PersonaValves | AgentValves) -> connections.Connection:
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
    theirs = (i for i, m in enumerate(messages) if m["role"] == "user" and not is_images_note(m))
    return max(theirs, default=None)
