"""Lines that wait for an answer to be complete, and what becomes of the answer."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from agent_mode.chat.offers import WAITING, Offers, with_line

LINE = "\n\n> A line."


def message_item(*texts: str) -> dict[str, Any]:
    return {"type": "message", "content": [{"type": "output_text", "text": text} for text in texts]}


def finished(**last: Any) -> dict[str, Any]:
    answer = {"id": "m", "role": "assistant", "content": "Yes.", "finish_reason": "stop", **last}
    return {"id": "m", "model": "gpt-4o", "messages": [{"id": "u", "role": "user", "content": "?"}, answer]}


def test_a_line_is_taken_once_and_by_its_owner_alone() -> None:
    offers = Offers()
    offers.put("ann", "m", LINE)
    assert offers.take("bob", "m") is None
    assert offers.take("ann", "m") == LINE
    assert offers.take("ann", "m") is None


def test_lines_that_nobody_takes_do_not_pile_up() -> None:
    offers = Offers()
    for number in range(WAITING + 10):
        offers.put("ann", str(number), LINE)
    assert offers.take("ann", "9") is None
    assert offers.take("ann", "10") == LINE


def test_both_forms_of_an_answer_get_the_line() -> None:
    thought = {"type": "reasoning", "content": []}
    body = finished(output=[thought, message_item("Y", "es.")])
    before = copy.deepcopy(body)
    last = with_line(body, LINE)["messages"][-1]
    assert body == before, "the given body is not changed"
    assert last["content"] == f"Yes.{LINE}"
    assert last["output"] == [thought, message_item("Y", f"es.{LINE}")]
    assert with_line(finished(), LINE)["messages"][-1]["content"] == f"Yes.{LINE}"


@pytest.mark.parametrize(
    "last",
    [
        {"finish_reason": "length"},
        {"finish_reason": None},
        {"role": "user"},
        {"id": "another"},
        {"content": "  "},
        {"content": None},
        {"content": ["Yes."]},
        {"output": [message_item("Yes."), {"type": "function_call"}]},
        {"output": [message_item()]},
        {"output": [{"type": "message", "content": [{"type": "refusal"}]}]},
        {"output": [{"type": "message", "content": "Yes."}]},
        {"output": ["Yes."]},
        {"output": "Yes."},
    ],
)
def test_what_is_no_finished_answer_stays(last: dict[str, Any]) -> None:
    body = finished(**last)
    assert with_line(body, LINE) is body


@pytest.mark.parametrize("messages", [None, [], "x", ["x"]])
def test_any_body(messages: Any) -> None:
    body = {"id": "m", "messages": messages}
    assert with_line(body, LINE) is body
