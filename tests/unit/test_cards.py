"""Tool cards in an answer, and that they are gone before an LLM sees it."""

from __future__ import annotations

from agent_mode.agents.engine import ToolCard
from agent_mode.chat.cards import card, without_cards


def shown(answer: str) -> str:
    (message,) = without_cards([{"role": "assistant", "content": answer}])
    return message["content"]


def test_a_card_goes_and_the_words_around_it_stay() -> None:
    one = card(ToolCard("c1", "lookup", '{"q": "</details> <x>"}', "a > b\n</details>"))

    assert shown(f"First.{one}Then.\n  {one}") == "First.\n\nThen."
    assert shown(one) == ""


def test_what_only_looks_like_a_card_stays() -> None:
    text = 'See <details type="tool_calls">\n<summary>x</summary>\n  kept </details>'

    assert shown(text) == text
