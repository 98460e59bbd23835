"""The commands in a whole transcript: which messages hold some, and what the LLM should see of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agent_mode.chat import slips
from agent_mode.chat.attached import split_files
from agent_mode.chat.commands import SCAN_LIMIT, Grammar, may_hold_commands
from agent_mode.chat.messages import has_attachment, message_text, with_text
from agent_mode.chat.parsed import Parsed
from agent_mode.chat.suggestion import without_tip

TRANSCRIPT_LIMIT = 200_000
"""So many characters of those messages in which a command may stand are read in a turn, newest first; what is
older is text. A chat needs a thousand commands, or ten pasted files that begin like one, to get there."""
MESSAGE_COSTS = 100
"""What each message counts besides its characters."""


def commands_in(
    messages: Sequence[dict[str, Any]], grammar: Grammar, *, last: int | None = None
) -> dict[int, Parsed]:
    """What the user messages say that may hold commands, by index, oldest first.

    Args:
        messages: the transcript, or its beginning.
        grammar: which words are commands; it remembers what it read.
        last: index of the message of this turn, if it is there. In the others the admin's prefix counts too:
            they may be older than the user's own.
    """
    found: dict[int, Parsed] = {}
    left = TRANSCRIPT_LIMIT
    marks = grammar.marks
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        if message.get("role") != "user":
            continue
        text = message_text(message)
        for mark in marks:
            if mark in text:
                break
        else:
            continue
        text = split_files(text)[1]
        if not may_hold_commands(text, grammar):
            continue
        left -= min(len(text), SCAN_LIMIT) + MESSAGE_COSTS
        if found and left < 0:
            break
        found[index] = grammar.read(text) if index == last else grammar.recall(text)
    return dict(reversed(found.items()))


def strip_commands(
    messages: list[dict[str, Any]], grammar: Grammar, *, last_is_clean: bool = False
) -> list[dict[str, Any]]:
    """The transcript as the LLM should see it: without commands and without what we ourselves answered.

    A user message that we answered (`!agent list`, a lone `!coder`, a typing error) goes, together with our
    answer; files that came with it stand before the next words of the user. The last user message stays.

    Args:
        messages: the transcript.
        grammar: which words are commands.
        last_is_clean: whether the last user message holds no commands any more, whatever it looks like.
    """
    last = max((i for i, m in enumerate(messages) if m.get("role") == "user"), default=-1)
    said = commands_in(messages, grammar, last=last)
    if last_is_clean:
        said.pop(last, None)
    kept: list[dict[str, Any]] = []
    skip_answer = False
    waiting = ""
    for index, message in enumerate(messages):
        role = message.get("role")
        if role == "user":
            skip_answer = False
            parsed = said.get(index)
            if parsed is not None and index != last and _is_ours(messages, index, parsed):
                waiting += split_files(message_text(message))[0]
                skip_answer = True
                continue
            if parsed is not None or waiting:
                text = message_text(message)
                files, words = split_files(text)
                whole = waiting + files + (words if parsed is None else parsed.text)
                waiting = ""
                if whole != text:
                    message = with_text(message, whole)  # noqa: PLW2901
        elif role == "assistant":
            if skip_answer:
                continue
            message = without_tips(message)  # noqa: PLW2901
        kept.append(message)
    return kept


def _is_ours(messages: list[dict[str, Any]], index: int, parsed: Parsed) -> bool:
    """Whether we answered an earlier message. A typing error is told by our answer: keys come and go."""
    if parsed.is_ours(attached=has_attachment(messages[index])):
        return True
    follows = messages[index + 1]
    return follows.get("role") == "assistant" and slips.is_answer(follows.get("content"))


def without_tips(message: dict[str, Any]) -> dict[str, Any]:
    """A message without what we wrote below an answer."""
    content = message.get("content")
    if not isinstance(content, str) or (words := without_tip(content)) == content:
        return message
    return {**message, "content": words}
