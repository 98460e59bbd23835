"""Several models side by side: each sees its own earlier answers, not those of the one that is shown.

Open WebUI sends all of them the branch that is shown, without ids. So the branch is walked backwards by what
was noted of each answer: which question it belongs to, which place it has, and the answer above.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, NamedTuple

from agent_mode.chat.context import TurnContext
from agent_mode.chat.runtime import Runtime
from agent_mode.prompts.spans import enclosed, skip_space, without
from agent_mode.store.replies import Reply, Thread
from agent_mode.tools.results import is_images_note

Messages = list[dict[str, Any]]

# What older versions of Open WebUI keep inside an answer; it is no part of the model's words.
_FOLDED = re.compile(r'<details type="(?:reasoning|tool_calls|code_interpreter)"')


class Own(NamedTuple):
    """What a model's own history is.

    Attributes:
        messages: the transcript with its own answers, as far as they are known.
        last: its own answer to the question before this one, if it gave one.
        shown: whether the transcript ends with that answer's words.
        replaced: how many answers are its own instead of those shown.
    """

    messages: Messages
    last: Reply | None = None
    shown: bool = False
    replaced: int = 0


async def own_history(
    runtime: Runtime, context: TurnContext, owner: str, model: str, messages: Messages
) -> Own:
    """Notes that the model is about to answer, and gives it its own history in a chat of several models.

    Args:
        runtime: the running server.
        context: where the turn belongs.
        owner: whose the chat is.
        model: the model that was picked at this place.
        messages: the branch that is shown.
    """
    replies, several = runtime.replies, (context.models or 0) > 1
    if context.chat_id is None or context.message_id is None or context.user_message_id is None:
        return Own(messages)
    if not several and not replies.knows(context.parent_id, owner):
        return Own(messages)
    place = context.place if several else 0
    if place is None:
        return Own(messages)
    replies.begin(
        Reply(
            message_id=context.message_id,
            chat_id=context.chat_id,
            user_message_id=context.user_message_id,
            parent_id=context.parent_id,
            place=place,
            model=model,
            text=None,
            at=datetime.now(UTC),
            owner=owner,
        )
    )
    if not several or context.parent_id is None:
        return Own(messages)
    thread = await replies.thread(context.chat_id, owner)
    return own_branch(messages, thread, context.parent_id, place, model)


def own_branch(messages: Messages, thread: Thread, parent_id: str | None, place: int, model: str) -> Own:
    """The transcript with the answers that the model at this place gave itself.

    Args:
        messages: the branch that is shown; not changed.
        thread: what is known of the chat.
        parent_id: the answer at the end of that branch.
        place: of the model, from 1.
        model: its id.
    """
    pieces: list[Messages] = []
    last: Reply | None = None
    shown_last, replaced = False, 0
    ends = [i for i, m in enumerate(messages) if m.get("role") == "user" and not is_images_note(m)]
    until = len(messages)
    for number, (start, end) in enumerate(zip(reversed(ends[:-1]), reversed(ends[1:]), strict=True)):
        shown = thread.get(parent_id)
        if shown is None:
            break
        own = _own(thread.answers(shown.user_message_id), shown, place, model)
        is_shown = own is not None and own.message_id == shown.message_id
        if own is not None and own.text is not None and not is_shown:
            pieces.append(messages[end:until])
            pieces.append([{"role": "assistant", "content": own.text}])
            until, replaced = start + 1, replaced + 1
            is_shown = True
        if number == 0:
            last, shown_last = own, is_shown
        parent_id = shown.parent_id
    if not replaced:
        return Own(messages, last, shown_last)
    whole = [message for piece in [messages[:until], *reversed(pieces)] for message in piece]
    return Own(whole, last, shown_last, replaced)


def _own(answers: list[Reply], shown: Reply, place: int, model: str) -> Reply | None:
    """The answer of the model at this place: the one that is shown, if it is its own, else its newest."""
    own = [reply for reply in answers if (reply.place, reply.model) == (place, model)]
    if not own:  # the order of the models may have changed; twice the same one could not be told apart
        own = [reply for reply in answers if reply.model == model]
        if len({reply.place for reply in own}) > 1:
            return None
    if any(reply.message_id == shown.message_id for reply in own):
        return shown
    return max(own, key=lambda reply: reply.at, default=None)


async def note_outlet(runtime: Runtime, body: dict[str, Any], owner: str) -> None:
    """Notes an owner's finished answer from what Open WebUI calls an outlet with, if it tells one."""
    message_id, messages = body.get("id"), body.get("messages")
    if not isinstance(message_id, str) or not isinstance(messages, list) or not messages:
        return
    last = messages[-1]
    if not isinstance(last, dict) or last.get("role") != "assistant":
        return
    content = last.get("content")
    if last.get("id") != message_id or not isinstance(content, str):
        return
    # Any user may call the outlet with any text: most of all calls end here.
    if await runtime.replies.expects(message_id, owner):
        await runtime.replies.said(message_id, _unfolded(content), owner)


def _unfolded(answer: str) -> str:
    """An answer without what is folded into it."""
    folded = enclosed(answer, _FOLDED, lambda _: "</details>")
    return without(answer, [(opening.start(), skip_space(answer, end)) for opening, _, end in folded]).strip()
