"""Who answers this turn, who answered before, and what the messages look like then. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from agent_mode.chat.commands import Grammar
from agent_mode.chat.messages import has_attachment, last_text
from agent_mode.chat.parsed import Parsed
from agent_mode.chat.transcript import commands_in, strip_commands
from agent_mode.prompts import reset
from agent_mode.prompts.reset import Identity, SwitchPlan
from agent_mode.prompts.strategies import Strategy
from agent_mode.prompts.templates import Templates
from agent_mode.store.sessions import STRANGER, Answer, Session
from agent_mode.tools.results import is_images_note

Reason = Literal["history_detected", "active_agent_mismatch"]


@dataclass(frozen=True, slots=True)
class Memory:
    """What the store knows of the chat at this point.

    Attributes:
        parent: the answer before this turn, whose words the transcript holds.
        sibling: the *asked* model's own answer to the same user message, where that is another one (several
            models side by side).
        session: the chat's record, for callers whose branch is not known.
    """

    parent: Answer | None = None
    sibling: Answer | None = None
    session: Session | None = None


@dataclass(frozen=True, slots=True)
class Detection:
    """Who answers and who answered.

    Attributes:
        is_switch: whether the one who answers now is another than the one whose replies are in the history.
        current: key of the agent that answers now.
        previous: key of the agent that answered before; None if nobody did, or none of ours.
        reason: `active_agent_mismatch` when our record of the chat says so, `history_detected` when it was
            judged by the transcript; None without a switch.
        ui_since: number of user messages before the asked model was picked.
        answered: whether anybody answered before.
        in_charge: key of the agent that this model stood for until now; None in a new chat.
        unasked: key of the agent that would answer if the message held no command.
    """

    is_switch: bool
    current: str
    previous: str | None = None
    reason: Reason | None = None
    ui_since: int = 0
    answered: bool = field(default=False, compare=False)
    in_charge: str | None = field(default=None, compare=False)
    unasked: str = field(default="", compare=False)

    @property
    def voice(self) -> str | None:
        """What to note as the voice of an answer that is only our own words (`Answer.voice`)."""
        return self.previous or (STRANGER if self.answered else None)


def detect_agent_switch(
    messages: Sequence[dict[str, Any]],
    requested: str,
    grammar: Grammar,
    *,
    memory: Memory | None = None,
    branch_known: bool = False,
    said: Parsed | None = None,
    bound: str | None = None,
    opening: str | None = None,
) -> Detection:
    """Decides who answers now and whether that is a switch.

    A `!writer` typed in the Coder model holds for the following turns until `!reset` or until another model
    is picked; a freshly picked model wins over an older command, a command in this very message over both.

    Args:
        messages: the transcript of this branch, oldest first.
        requested: key of the agent whose model was asked.
        grammar: which words are commands.
        memory: what the store knows; None for callers without a chat.
        branch_known: whether `memory.parent` was looked up for this very branch.
        said: the parsed last user message; parsed here if not given.
        opening: the persona that opens the user's new chats.
        bound: the persona that `!persona1 …` assigned to this model, see `bindings`.
    """
    memory = memory or Memory()
    if said is None:
        users = [message for message in messages if message.get("role") == "user"]
        said = grammar.read(last_text(users)) if users else Parsed("")
    answered = any(message.get("role") == "assistant" for message in _before_last_user(messages))
    by_record = branch_known and not (memory.parent is None and never_answered(messages))
    if by_record:
        base, previous, reason = _by_record(memory, requested, answered)
        since = 0
    else:
        base, previous, reason, since = _by_transcript(messages, requested, grammar, memory.session)
    if by_record and not any(command.kind == "bind" for command in said.commands):
        parent = memory.parent
        if parent is not None and parent.ui_agent != requested and memory.sibling is None:
            bound = None  # a freshly picked model, which was not there when personas were assigned
    if not answered and base == requested:
        base = opening or base
    unasked = bound or base
    current = _obey(said, unasked, requested)
    is_switch = answered and previous != current
    shown = previous if answered else None
    return Detection(
        is_switch,
        current,
        shown,
        reason if is_switch else None,
        since,
        answered,
        _in_charge(memory, requested),
        unasked,
    )


def bindings(messages: Sequence[dict[str, Any]], grammar: Grammar) -> dict[int, str]:
    """Which persona is assigned to which model, by model number from 1: `!persona1 teacher !persona2 coder`.

    Read from the transcript, so it is right on every branch. A later `!writer` or `!reset` ends it.
    """
    bound: dict[int, str] = {}
    for parsed in commands_in(messages, grammar, last=_last_user(messages)).values():
        for command in parsed.commands:
            if command.kind == "bind" and command.key:
                bound[command.slot] = command.key
            elif command.kind in ("persona", "reset"):
                bound.clear()
    return bound


def never_answered(messages: Sequence[dict[str, Any]]) -> bool:
    """Whether the message before this one got no answer: the turn failed before it reached us.

    No answer of ours is known there then, although it is still our chat.
    """
    before = [message for message in _before_last_user(messages) if message.get("role") != "system"]
    return bool(before) and before[-1].get("role") == "user"


def is_continued(messages: Sequence[dict[str, Any]]) -> bool:
    """Whether the request ends with an answer, which is to go on ("Continue Response" in Open WebUI)."""
    return messages[-1].get("role") == "assistant" and not messages[-1].get("tool_calls")


def _obey(said: Parsed, base: str, requested: str) -> str:
    command = said.switch
    if command is None:
        return base
    return command.key if command.kind == "persona" and command.key else requested


def _in_charge(memory: Memory, requested: str) -> str | None:
    own = memory.sibling or memory.parent  # models side by side: each column has its own
    if own is not None:
        return own.agent
    return memory.session.active_agent if memory.session is not None else None


def _by_record(memory: Memory, requested: str, answered: bool) -> tuple[str, str | None, Reason]:
    parent = memory.parent
    if memory.sibling is not None:
        base = memory.sibling.agent
    elif parent is not None and parent.ui_agent == requested:
        base = parent.agent
    else:
        base = requested
    if parent is None:
        return base, None, "history_detected"
    voice = parent.voice or parent.agent
    return base, None if voice == STRANGER else voice, "active_agent_mismatch"


def _by_transcript(
    messages: Sequence[dict[str, Any]], requested: str, grammar: Grammar, session: Session | None
) -> tuple[str, str, Reason, int]:
    before = _before_last_user(messages)
    earlier = _answered(before)
    if session is not None and session.ui_agent != requested:
        return requested, session.active_agent, "active_agent_mismatch", len(earlier)
    since = session.ui_since if session is not None else 0
    sticky = voice = requested
    said = commands_in(before, grammar)
    for index, heard in earlier[since:]:
        parsed = said.get(index, _NO_COMMAND)
        sticky = _obey(parsed, sticky, requested)
        # A lone command was answered by us, in nobody's voice.
        if heard and not parsed.is_ours(attached=has_attachment(before[index])):
            voice = sticky
    return sticky, voice, "history_detected", since


_NO_COMMAND = Parsed("")


def _answered(messages: Sequence[dict[str, Any]]) -> list[tuple[int, bool]]:
    """The index of each user message, and whether somebody spoke before the user did again."""
    found: list[tuple[int, bool]] = []
    follows: str | None = None
    for index in range(len(messages) - 1, -1, -1):
        role = messages[index].get("role")
        if role == "user":
            found.append((index, follows == "assistant"))
        if role in ("user", "assistant"):
            follows = role
    return found[::-1]


def _before_last_user(messages: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    return messages[: _last_user(messages)]


def _last_user(messages: Sequence[dict[str, Any]]) -> int:
    """Index of the last message of the user; 0 without any."""
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].get("role") == "user" and not is_images_note(messages[index]):
            return index
    return 0


def plan_turn(
    messages: list[dict[str, Any]],
    agent: Identity,
    previous: Identity | None,
    strategy: Strategy,
    templates: Templates,
    grammar: Grammar,
    *,
    switched: bool,
    policy: str | None = None,
    last_is_clean: bool = False,
) -> SwitchPlan:
    """The messages to send to the LLM: commands taken out, persona in its place, hard reset if switched.

    Args:
        messages: the transcript as it came; not changed.
        agent: who answers.
        previous: who answered before, None when none of ours.
        strategy: of the provider model behind the agent.
        templates: the hard-reset templates.
        grammar: which words are commands.
        switched: whether this turn is a switch.
        policy: history policy that overrides the strategy's.
        last_is_clean: whether the commands are out of the last user message already.
    """
    clean = strip_commands(messages, grammar, last_is_clean=last_is_clean)
    if not switched:
        return reset.keep_on(clean, agent, strategy)
    return reset.hard_reset(clean, agent, previous, strategy, templates, policy)
