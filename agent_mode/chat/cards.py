"""Cards of tools that an agent ran itself, in the form in which Open WebUI shows the tools that it runs.

Open WebUI 0.12 renders `<details type="tool_calls" …>` in an answer as a tool card. The card stays in the
stored text and comes back in later requests, where it is taken out again: no LLM shall learn to write one.
"""

from __future__ import annotations

import html
import json
import re
from typing import Any

from agent_mode.agents.engine import ToolCard

_OPENING = '<details type="tool_calls"'
# Neither run holds a `<`, so text without an ending is looked at only up to the next beginning.
_CARD = re.compile(r'<details type="tool_calls"[^<>]*+>\n<summary>[^<]*+</summary>\n</details>\s*+')


def card(event: ToolCard) -> str:
    """The card as text of the answer; whatever the tool said is shown as text only."""

    def quoted(text: str) -> str:
        return html.escape(text, quote=True).replace("\n", "&#10;")

    arguments, result = (
        quoted(json.dumps(event.arguments)),
        quoted(json.dumps(event.result, ensure_ascii=False)),
    )
    return (
        f'\n\n{_OPENING} done="true" id="{quoted(event.id)}" name="{quoted(event.name)}" '
        f'arguments="{arguments}" result="{result}" files="" embeds="">\n'
        "<summary>Tool Executed</summary>\n</details>\n\n"
    )


def without_cards(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages without the cards in earlier answers; the very list if there are none."""
    if not any(_has_card(message) for message in messages):
        return messages
    return [
        {**message, "content": _without_cards(message["content"])} if _has_card(message) else message
        for message in messages
    ]


def _without_cards(answer: str) -> str:
    *before, last = _CARD.split(answer)
    # Not a part of the pattern: a `\s*` in front would look at a long run of white space again and again.
    return "\n\n".join([*(piece.rstrip() for piece in before), last]).strip()


def _has_card(message: dict[str, Any]) -> bool:
    content = message.get("content")
    return message.get("role") == "assistant" and isinstance(content, str) and _OPENING in content
