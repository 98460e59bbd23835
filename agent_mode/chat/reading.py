"""The first steps of every turn, on our own models and on all others: what was said, by whom, to whom."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from agent_mode.chat import slips
from agent_mode.chat.access import allowed_bindings, forbidden, open_to, refusal
from agent_mode.chat.columns import Own, own_history
from agent_mode.chat.commands import Grammar
from agent_mode.chat.context import TurnContext, User
from agent_mode.chat.notes import keep_persona
from agent_mode.chat.own_words import without_refusals
from agent_mode.chat.parsed import Parsed
from agent_mode.chat.roster import Roster
from agent_mode.chat.runtime import Runtime
from agent_mode.chat.switching import Detection, Memory, detect_agent_switch, never_answered
from agent_mode.observe.logs import get_logger
from agent_mode.store.sessions import STRANGER, Answer
from agent_mode.store.users import UserSettings
from agent_mode.valves import CommandValves

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """What a turn begins with.

    Attributes:
        asked: the model that the user picked, as its own pipeline or Open WebUI names it.
        text: what the user wrote last.
        messages: the transcript as it came.
        context: where in Open WebUI the turn belongs.
        user: who asks.
        persistent: whether the user's last persona opens new chats here, unless the user says otherwise;
            None: it never does.
    """

    asked: str
    text: str
    messages: list[dict[str, Any]]
    context: TurnContext
    user: User
    persistent: bool | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What was found out about a turn.

    Attributes:
        roster: who can be called.
        grammar: which words are commands.
        said: what the user's message says.
        messages: the transcript without what we refused, with the model's own answers where several answer
            side by side.
        theirs: what the user set.
        bound: the personas assigned to models side by side.
        detection: who answers, and who answered.
        refused: why the message's commands do not count.
        hint: what the user may have meant by a word that was left as text.
        took_ms: how long it took.
    """

    roster: Roster
    grammar: Grammar
    said: Parsed
    messages: list[dict[str, Any]]
    theirs: UserSettings
    bound: dict[int, str]
    detection: Detection
    refused: str | None
    hint: str | None
    took_ms: float


Gate = Callable[[User, Parsed], Awaitable[str | None]]
"""Says why a message's commands do not count although each persona may be called; None if they do."""


async def read(
    runtime: Runtime, request: Request, valves: CommandValves, gate: Gate | None = None
) -> Reading:
    """Reads the commands and recalls who answered before; notes what the user wants kept."""
    started = time.perf_counter()
    context, user, asked = request.context, request.user, request.asked
    # A turn that the filter gave to our console is read as the filter read it.
    roster = runtime.rosters.offered(context.offered if context.via else valves.models)
    theirs = await runtime.users.get(user.id)
    prefix = context.prefix or theirs.prefix or valves.keyword_prefix
    usual = Grammar(roster.keys, valves.keyword_prefix, valves.case_sensitive)
    grammar = usual if prefix == usual.prefix else replace(usual, prefix=prefix, usual=usual)
    said = grammar.read(request.text)
    own = await own_history(runtime, context, user.owner, asked, request.messages)
    refused = await refusal(runtime, user, said, roster, asked)
    hint = None
    if refused is None and said.slips:
        refused, hint = await _slips(runtime, user, said, roster, grammar)
    if refused is None and gate is not None:
        refused = await gate(user, said)
    bound = await allowed_bindings(runtime, user, own.messages, grammar)
    detection = detect_agent_switch(
        own.messages,
        asked,
        grammar,
        memory=await recall(runtime, context, user.owner, asked, own),
        branch_known=context.branch_known,
        said=Parsed(said.text) if refused else said,
        bound=bound.get(context.place or 1),
        opening=await _opening(runtime, user, theirs, request.persistent, roster),
    )
    if not refused:
        keep_persona(runtime, user, theirs, said)
    took = (time.perf_counter() - started) * 1000
    if valves.enable_debug or runtime.settings.debug:
        _tell(request, said, detection, own, refused, took)
    messages = without_refusals(own.messages)
    return Reading(roster, grammar, said, messages, theirs, bound, detection, refused, hint, took)


async def _slips(
    runtime: Runtime, user: User, said: Parsed, roster: Roster, grammar: Grammar
) -> tuple[str | None, str | None]:
    """Our answer to a typing error, or a line about one; only what is open to the user is suggested."""
    words, hint = slips.answer(said, grammar), slips.hint(said, grammar)
    if not user.admin and (words or hint):
        theirs = await open_to(runtime, user, roster)
        grammar = replace(grammar, open=theirs.by_key.keys())
        words, hint = slips.answer(said, grammar), slips.hint(said, grammar)
    return words, None if words else hint


async def recall(runtime: Runtime, context: TurnContext, owner: str, asked: str, own: Own) -> Memory:
    """What the store knows of this owner's chat; asks the database only for what is not in memory."""
    sessions = runtime.sessions
    if context.chat_id is None:
        return Memory()
    if not context.branch_known:
        return Memory(session=await sessions.session(context.chat_id, owner))
    if context.parent_id is None:
        return Memory()
    if own.last is not None:
        mine = await sessions.answer(own.last.message_id, owner)
        if own.shown:
            return Memory(mine)  # the transcript holds its own words: as if it were alone
        # None noted: this model answered there as itself.
        mine = mine or replace(_PLAIN, agent=asked, ui_agent=asked)
        return Memory(await sessions.answer(context.parent_id, owner), mine)
    parent = await sessions.answer(context.parent_id, owner)
    if parent is None and never_answered(own.messages):
        return Memory(session=await sessions.session(context.chat_id, owner))
    sibling = None
    if parent is not None and parent.ui_agent != asked and parent.user_message_id:
        sibling = await sessions.sibling(parent.user_message_id, asked, owner)
    return Memory(parent, sibling)


_PLAIN = Answer("-", "-", None, agent="-", ui_agent="-", at=datetime.fromtimestamp(0, UTC), voice=STRANGER)


async def _opening(
    runtime: Runtime, user: User, theirs: UserSettings, persistent: bool | None, roster: Roster
) -> str | None:
    """The persona that opens this user's new chats, if they want that, and it exists and is open to them."""
    wanted = persistent if theirs.persistence is None else theirs.persistence
    if persistent is None or not wanted or not theirs.persona or not roster.get(theirs.persona):
        return None
    return None if await forbidden(runtime, user, theirs.persona) else theirs.persona


def _tell(
    request: Request, said: Parsed, detection: Detection, own: Own, refused: str | None, took: float
) -> None:
    context = request.context
    log.info(
        "turn decided",
        user_id=request.user.id,
        chat_id=context.chat_id,
        message_id=context.message_id,
        model=request.asked,
        place=context.place,
        commands=",".join(command.key or command.kind for command in said.commands) or None,
        unknown=said.unknown,
        refused=refused is not None,
        persona=detection.current,
        previous=detection.previous,
        switch=detection.is_switch,
        reason=detection.reason,
        own_answers=own.replaced,
        duration_ms=round(took, 2),
    )
