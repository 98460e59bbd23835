"""The table of a request: pasted, or attached, as Open WebUI 0.12.4 puts a file in front of the words."""

from __future__ import annotations

from typing import Any

import pytest

from agent_mode import table_of
from agent_mode.agents.handles import TurnView

ROWS = [{"name": "a", "amount": 1.0}, {"name": "b", "amount": 3.0}]
ASKED = "Analyse this, please;\nadd it up, too."


def turn(text: str, content: Any = None) -> TurnView:
    messages = [{"role": "user", "content": text if content is None else content}]
    return TurnView(text, messages, {}, None, [], {}, "")


def attached(*parts: str) -> str:
    """The beginning and the end of Open WebUI's template, with what it found in between."""
    attributes = 'id="1" name="t.csv" resource-type="file" resource-id="a8b2"'
    sources = "\n".join(f"<source {attributes}>{part}</source>" for part in parts)
    return (
        "### Task:\nRespond, incorporating citations only when the <source> tag has an id (e.g., "
        f'<source id="1">).\n\n<context>\n{sources}\n</context>\n\n{ASKED}'
    )


@pytest.mark.parametrize(
    "text",
    [
        "name,amount\na,1\nb,3",
        "Look:\n```csv\nname;amount\na;1\nb;3\n```\nand, well, add it up",
        'Here: [{"name": "a", "amount": 1}, {"name": "b", "amount": "3"}] – what is it?',
    ],
)
def test_a_table_in_the_words(text: str) -> None:
    assert table_of(turn(text)) == ROWS


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (attached("name: a\namount: 1 name: b\namount: 3"), ROWS),
        (attached('[{"name": "a", "amount": 1}, {"name": "b", "amount": 3}]'), ROWS),
        ([{"type": "text", "text": attached("name: a\namount: 1 name: b\namount: 3")}], ROWS),
        (attached("amount: 1 amount: 3"), [{"amount": 1.0}, {"amount": 3.0}]),
        (
            attached("id: x\norder id: 1\nsum:  id: y\norder id: 2\nsum: "),
            [{"id": "x", "order id": 1.0, "sum": ""}, {"id": "y", "order id": 2.0, "sum": ""}],
        ),
    ],
)
def test_a_file_that_is_handed_on_whole(content: Any, rows: list[dict[str, Any]]) -> None:
    assert table_of(turn(ASKED, content)) == rows


@pytest.mark.parametrize(
    "content",
    [
        attached("name: a\namount: 1", "name: b\namount: 3"),
        attached("name: a\namount: 1"),
        attached("name: a\namount: 1 name: b"),
        attached("name: a\namount: few name: b\namount: nan"),
        attached('[{"name": "a", "amount": 1}, {"name"'),
        attached("A letter, with words; and nothing else"),
        ASKED,
        "[{]",
        "",
    ],
)
def test_passages_and_words_are_no_table(content: str) -> None:
    assert table_of(turn(ASKED, content)) == []
    assert table_of(turn("")) == []


def test_what_is_pasted_goes_before_what_is_attached_to_the_chat() -> None:
    pasted = "name,amount\nc,5"
    content = attached("name: a\namount: 1 name: b\namount: 3").replace(ASKED, pasted)
    assert table_of(turn(pasted, content)) == [{"name": "c", "amount": 5.0}]
