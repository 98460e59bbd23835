"""Sentences that stand for an answer: what we say where nobody speaks, and finding them again.

Most of what we answer follows from the command above it and is left out of later requests with it
(`strip_commands`). These stand below words that were meant for somebody, so they are known by their own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from agent_mode.chat.markdown import escaped
from agent_mode.chat.messages import message_text

NO_CONSOLE = (
    "Several personas in one message need the model “Agent Mode console”, which you may not use here. "
    "Ask an admin to give you access to it, or call one persona at a time."
)
TALK_ELSEWHERE = "The personas talk in the first answer beside this one."


def agent_needs_console(name: str) -> str:
    """What a user is told who calls an agent on another model and may not use the console."""
    return (
        f"{escaped(name)} needs the model “Agent Mode console” here, which you may not use. "
        "Ask an admin to give you access to it, or pick the agent in the model list."
    )


def nothing_asked(example: str, next_name: str) -> str:
    """The answer to several calls without words, where nothing was said that they could go on from.

    Args:
        example: the commands as they were typed, with some words behind them.
        next_name: who answers the next message.
    """
    return (
        "Nobody was asked anything yet. Write behind the commands what they are to do: "
        f"`{example}`. **{escaped(next_name)}** answers from now on."
    )


def silent(name: str) -> str:
    """What stands in the place of an agent's answer that has no words."""
    return f"*{escaped(name)} gave no answer.*"


_OURS = re.compile(
    r"You may not use .{1,200} here\. Ask an admin for access to that model\."
    r"|.{1,200} cannot be called from here\. Pick it in the model list, or ask an admin [^\n]*"
    r"|.{1,400} needs the model “Agent Mode console” here, which you may not use\. Ask an admin [^\n]*"
    r"|\*.{1,400} gave no answer\.\*"
    f"|{re.escape(NO_CONSOLE)}|{re.escape(TALK_ELSEWHERE)}"
)


def without_refusals(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The transcript without these sentences and the questions above them: nobody answered those."""
    kept: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        is_last = index == len(messages) - 1  # an answer that is to go on
        if message.get("role") == "assistant" and not is_last and _is_ours(message_text(message)):
            if kept and kept[-1].get("role") == "user":
                kept.pop()
            continue
        kept.append(message)
    return kept


def _is_ours(text: str) -> bool:
    return _OURS.fullmatch(text.strip()) is not None
