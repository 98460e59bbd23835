"""What we say where nobody speaks: it is found again in a transcript, and no model's words are."""

from __future__ import annotations

from typing import Any

import pytest

from agent_mode.chat import own_words
from agent_mode.chat.access import no_access
from agent_mode.chat.own_words import without_refusals
from agent_mode.chat.roster import AGENTS
from tests.unit.test_console import persona

REFUSALS = {
    "persona": no_access(persona("chef")),
    "agent": no_access(persona("chef", category=AGENTS)),
    "console": own_words.NO_CONSOLE,
    "agent needs console": own_words.agent_needs_console("Err [1]"),
    "talk": own_words.TALK_ELSEWHERE,
    "silent": own_words.silent("No*ne"),
}


def said(*pairs: str) -> list[dict[str, Any]]:
    roles = ("user", "assistant")
    return [{"role": roles[index % 2], "content": text} for index, text in enumerate(pairs)]


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_goes_with_its_question(refusal: str) -> None:
    messages = said("Hello", "Hi", "!chef how do I boil eggs", f"{refusal}\n", "And now?")

    assert without_refusals(messages) == said("Hello", "Hi", "And now?")
    assert len(messages) == 5


@pytest.mark.parametrize(
    "text",
    [
        "You may not use salt here. Ask an admin for access to that model. Or so they say.",
        f"I was told: {own_words.TALK_ELSEWHERE}",
        f"**Errand**\n\n{own_words.silent('Errand')}",
        "",
    ],
)
def test_what_others_say_stays(text: str) -> None:
    messages = said("Hello", text, "And now?")
    assert without_refusals(messages) == messages


def test_an_answer_that_is_to_go_on_stays() -> None:
    messages = said("Hello", own_words.TALK_ELSEWHERE)
    assert without_refusals(messages) == messages


def test_tools_before_it_stay_with_their_question() -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}
    result = {"role": "tool", "tool_call_id": "1", "content": "3"}
    messages = [*said("Roll"), call, result, {"role": "assistant", "content": own_words.silent("Errand")}]

    assert without_refusals([*messages, *said("Again")]) == [*messages[:-1], *said("Again")]
