"""What is noted of a turn: who answered, and the session's record, which follows off the user's path."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from agent_mode.chat.context import TurnContext, User
from agent_mode.chat.parsed import Parsed
from agent_mode.chat.runtime import Runtime
from agent_mode.errors import StoreError
from agent_mode.observe.hooks import PersonaReset, PersonaSwitched, hooks
from agent_mode.observe.logs import get_logger
from agent_mode.store.sessions import Answer, Session, SessionStore, Switch
from agent_mode.store.users import UserSettings

log = get_logger(__name__)

Why = Literal["user_switch", "auto_suggestion", "system_default"]


def note(
    runtime: Runtime,
    context: TurnContext,
    *,
    agent: str,
    name: str,
    ui_agent: str,
    ui_since: int,
    count: int,
    voice: str | None = None,
    reason: Why = "user_switch",
    user: User,
    in_charge: str | None = None,
    reset: bool = False,
) -> None:
    """Notes who answers, in memory at once; nothing for callers without a chat.

    Args:
        runtime: the running server.
        context: where the turn belongs.
        agent: key of who answers.
        name: its name, for the history.
        ui_agent: the model that the user picked.
        ui_since: number of user messages before that model was picked.
        count: number of messages in the transcript.
        voice: who wrote the replies above, when this answer is only our own confirmation or list.
        reason: why the agent changed, if it did.
        user: who asked.
        in_charge: who answered for this model until now.
        reset: whether a persona was put aside rather than another one called.
    """
    if context.chat_id is None:
        return
    now = datetime.now(UTC)
    if context.message_id is not None:
        answer = Answer(
            message_id=context.message_id,
            chat_id=context.chat_id,
            user_message_id=context.user_message_id,
            agent=agent,
            ui_agent=ui_agent,
            voice=voice,
            at=now,
            owner=user.owner,
        )
        runtime.sessions.remember(answer)
    session = Session(context.chat_id, agent, ui_agent, ui_since, updated_at=now, owner=user.owner)
    switch = Switch(agent, name, now.isoformat(), count, reason)
    runtime.spawn(_note_session(runtime.sessions, session, switch, user.id, in_charge, reset=reset))


def keep_persona(runtime: Runtime, user: User, settings: UserSettings, said: Parsed) -> None:
    """Keeps the persona that the user called last, for those whose new chats it shall open."""
    command = said.switch
    if user.id is None or command is None or command.key == settings.persona:
        return
    runtime.spawn(_keep(runtime, user.id, command.key))


async def _keep(runtime: Runtime, user_id: str, persona: str | None) -> None:
    try:
        await runtime.users.change(user_id, persona=persona)
    except StoreError as error:
        log.warning("user settings not stored", reason=str(error))


async def _note_session(
    sessions: SessionStore,
    session: Session,
    switch: Switch,
    user_id: str | None,
    in_charge: str | None,
    *,
    reset: bool,
) -> None:
    known = await sessions.session(session.chat_id, session.owner)
    history = known.agent_history if known else ()
    before = in_charge or session.ui_agent
    if known is None or in_charge != session.active_agent:
        history = (*history, switch)
    if before != session.active_agent:
        agent, chat_id = session.active_agent, session.chat_id
        if reset:
            event = PersonaReset(persona=agent, previous=before, chat_id=chat_id, user_id=user_id)
        else:
            event = PersonaSwitched(
                persona=agent, previous=before, chat_id=chat_id, user_id=user_id, reason=switch.reason
            )
        hooks.emit(event)
    sessions.remember(None, replace(session, agent_history=history))
