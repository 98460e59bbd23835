"""The commands in a whole transcript: which messages hold some, and what the LLM should see of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agent_mode.chat.commands import (
    SCAN_LIMIT,
    Grammar,
    Parsed,
    has_attachment,
    may_hold_commands,
    message_text,
    suggest,
    with_text,
)
from agent_mode.chat.suggestion import without_tip

TRANSCRIPT_LIMIT = 200_000
"""So many characters of those messages in which a command may stand are read in a turn, newest first; what is
older is text. A chat needs a thousand commands, or ten pasted files that begin like one, to get there."""
MESSAGE_COSTS = 100
"""What each message counts besides its characters."""
TYPING_ERRORS = 20
"""So many unknown words of a transcript are compared with all keys, newest first."""


def commands_in(messages: Sequence[dict[str, Any]], grammar: Grammar) -> dict[int, Parsed]:
    """What the user messages say that may hold commands, by index, oldest first.

    Args:
        messages: the transcript, or its beginning.
        grammar: which words are commands; it remembers what it read.
    """
    found: dict[int, Parsed] = {}
    left = TRANSCRIPT_LIMIT
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        if message.get("role") != "user":
            continue
        text = message_text(message)
        if not may_hold_commands(text, grammar):
            continue
        left -= min(len(text), SCAN_LIMIT) + MESSAGE_COSTS
        if found and left < 0:
            break
        found[index] = grammar.read(text)
    return dict(reversed(found.items()))


def strip_commands(
    messages: list[dict[str, Any]], grammar: Grammar, *, last_is_clean: bool = False
) -> list[dict[str, Any]]:
    """The transcript as the LLM should see it: without commands and without what we ourselves answered.

    A user message that was nothing but commands (`!agent list`, a lone `!coder`) goes, together with the
    confirmation that followed it. The last user message always stays.

    Args:
        messages: the transcript.
        grammar: which words are commands.
        last_is_clean: whether the last user message holds no commands any more, whatever it looks like.
    """
    last = max((i for i, m in enumerate(messages) if m.get("role") == "user"), default=-1)
    said = commands_in(messages, grammar)
    if last_is_clean:
        said.pop(last, None)
    slips = _slips(said, last, grammar)
    kept: list[dict[str, Any]] = []
    skip_answer = False
    for index, message in enumerate(messages):
        role = message.get("role")
        if role == "user":
            skip_answer = False
            if (parsed := said.get(index)) is not None:
                ours = parsed.commands and not parsed.text and not has_attachment(message)
                if index != last and (ours or index in slips):
                    skip_answer = True
                    continue
                if parsed.text != message_text(message):
                    message = with_text(message, parsed.text)  # noqa: PLW2901
        elif role == "assistant":
            if skip_answer:
                continue
            message = _own_part(message)  # noqa: PLW2901
        kept.append(message)
    return kept


def _slips(said: dict[int, Parsed], last: int, grammar: Grammar) -> set[int]:
    """The earlier messages that began with a typing error: we answered those."""
    unknown = [(index, parsed.unknown) for index, parsed in said.items() if parsed.unknown and index != last]
    compared = set(list(dict.fromkeys(word for _, word in reversed(unknown)))[:TYPING_ERRORS])
    return {index for index, word in unknown if word in compared and suggest(word, grammar)}


def _own_part(message: dict[str, Any]) -> dict[str, Any]:
    """An answer without what we wrote below it."""
    content = message.get("content")
    if not isinstance(content, str) or (words := without_tip(content)) == content:
        return message
    return {**message, "content": words}
