"""Which personas a user may call, as Open WebUI says, and what is said to who may not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from agent_mode.agents.delegation import may_reach
from agent_mode.agents.spec import Caller
from agent_mode.chat.commands import Grammar
from agent_mode.chat.context import User
from agent_mode.chat.parsed import Parsed
from agent_mode.chat.roster import AGENTS, Roster
from agent_mode.chat.runtime import Runtime
from agent_mode.chat.switching import bindings
from agent_mode.llm.client import OWN_PREFIX
from agent_mode.store.personas import Persona


async def forbidden(runtime: Runtime, user: User, key: str) -> bool:
    """Whether Open WebUI keeps the user from a persona, or from an agent.

    Whom it keeps from a model must not reach it by `!key` either. Without a service key there is nobody to
    ask, and every offered persona is open to all; an agent only if its admin opened it to everyone, or Open
    WebUI says so to the user's own credential. Whom nobody vouches for may call what everyone may use.
    """
    if user.admin:
        return False
    spec = runtime.directory.pipeline(key)
    if spec is not None:
        return not await may_reach(runtime.services, caller_of(user), spec)
    allowed = await runtime.access.may_use(user.id, f"{OWN_PREFIX}{key}")
    if user.id is None and runtime.access.asks:
        return allowed is not True
    return allowed is False


async def open_to(runtime: Runtime, user: User, roster: Roster) -> Roster:
    """The roster without those that Open WebUI keeps from the user."""
    if user.admin:
        return roster
    agents = {spec.id: spec.model_id for spec in runtime.directory.pipelines()}
    models = [agents.get(key, f"{OWN_PREFIX}{key}") for key in roster.by_key]
    await runtime.access.learn(user.id, models)
    kept_from = await asyncio.gather(*(forbidden(runtime, user, key) for key in roster.by_key))
    entries = zip(roster.by_key.items(), kept_from, strict=True)
    return replace(roster, by_key={key: persona for (key, persona), kept in entries if not kept})


def caller_of(user: User) -> Caller:
    """On whose behalf an agent works."""
    return Caller(user.id, user.name, user.admin, user.credential, stranger=user.id is None)


def no_access(persona: Persona) -> str:
    """What a user is told who may not use a persona."""
    if persona.category == AGENTS:
        where = "Pick it in the model list, or ask an admin for access to its model."
        return f"{persona.display_name} cannot be called from here. {where}"
    return f"You may not use {persona.display_name} here. Ask an admin for access to that model."


async def refusal(runtime: Runtime, user: User, said: Parsed, roster: Roster, asked: str) -> str | None:
    """Why a persona that the message calls may not be called; None if all may.

    `asked` is the model that the user picked, which Open WebUI let them do.
    """
    for key in dict.fromkeys(command.key for command in said.commands if command.kind in ("persona", "bind")):
        persona = roster.get(key) if key else None
        if persona and persona.key != asked and await forbidden(runtime, user, persona.key):
            return no_access(persona)
    return None


async def allowed_bindings(
    runtime: Runtime, user: User, messages: list[dict[str, Any]], grammar: Grammar
) -> dict[int, str]:
    """The personas assigned to models side by side, without those that the user may not use.

    They are read from the transcript, which keeps a command that was refused.
    """
    bound = bindings(messages, grammar)
    return {slot: key for slot, key in bound.items() if not await forbidden(runtime, user, key)}
