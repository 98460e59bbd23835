"""Who is speaking, in one line above the answer."""

from __future__ import annotations

from agent_mode.chat.context import TurnContext
from agent_mode.chat.runtime import Runtime


def who_speaks(name: str, before: str | None, *, is_switch: bool) -> str:
    """The line.

    Args:
        name: of who speaks.
        before: name of who spoke before; None where that was none of ours.
        is_switch: whether the one who speaks is another than before.
    """
    if not is_switch:
        return name
    return f"{name} takes over from {before}" if before else f"{name} takes over"


def in_one_line(*lines: str | None) -> str:
    """What there is of several lines, for Open WebUI shows only the last one; empty: there is nothing."""
    return " · ".join(line for line in lines if line)


def show_elsewhere(runtime: Runtime, context: TurnContext, line: str) -> None:
    """Shows the line above an answer of another model, off the user's path, where that can be done."""
    chat_id, message_id = context.chat_id, context.message_id
    if not context.interactive or chat_id is None or message_id is None:
        return
    if runtime.status_lines.can_reach(chat_id):
        runtime.spawn(runtime.status_lines.show(chat_id, message_id, line))
