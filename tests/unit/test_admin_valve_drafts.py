"""Valves that are typed and not saved: kept as what differs, put over what others saved, without secrets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent_mode.admin import valve_drafts as drafts
from agent_mode.valves import MASK

ENTERED = {"steps": 7, "key": f"{MASK}7890", "prompt": "Say it."}
BEFORE = {**ENTERED, "prefix": "!"}
NAMES = {"steps", "key", "prompt", "prefix", "nested"}


def made(held: dict[str, Any], half: dict[str, str] | None = None) -> drafts.Draft:
    return drafts.draft(ENTERED, held, half or {}, BEFORE)


def test_a_draft_is_what_differs() -> None:
    unsaved = made({"steps": 9, "key": f"{MASK}7890", "prefix": "~"}, {"extra": "{"})
    assert unsaved == {
        "changed": {"steps": 9, "prefix": "~"},
        "reset": ["prompt"],
        "half": {"extra": "{"},
        "before": BEFORE,
    }
    assert drafts.usable(json.loads(json.dumps(unsaved))) == unsaved


def test_it_takes_back_nothing_of_what_others_saved() -> None:
    theirs = {"steps": 8, "key": f"{MASK}zzzz", "prompt": "Theirs.", "prefix": "?"}
    mine = {"steps": 7, "key": f"{MASK}7890", "prefix": "~"}
    assert drafts.over(theirs, made(mine), NAMES) == {"steps": 8, "key": f"{MASK}zzzz", "prefix": "~"}
    assert drafts.over(theirs, made(ENTERED), NAMES) == theirs
    gone = made({**ENTERED, "removed_since": 1})
    assert "removed_since" not in drafts.over(theirs, gone, NAMES)
    assert drafts.over(ENTERED, made(mine), NAMES) == mine


def test_no_secret_is_kept() -> None:
    typed = made(
        {**ENTERED, "key": "sk-typed-just-now", "nested": {"token": "sk-inside"}, "prefix": "~"},
        {"nested.more": '{"token": "sk-half', "extra": "{"},
    )
    typed["before"]["nested"] = {"token": "sk-before"}
    kept = drafts.public(typed, {"key"}, {"nested"})
    assert "sk-" not in json.dumps(kept)
    assert (kept["changed"], kept["half"]) == ({"prefix": "~"}, {"extra": "{"})
    assert typed["changed"]["key"] == "sk-typed-just-now", "the form itself keeps it"
    for forgotten in (made({**ENTERED, "key": None}), made({"steps": 7, "prompt": "Say it."})):
        assert drafts.public(forgotten, {"key"}, ()) == forgotten
    assert drafts.public(made(ENTERED), {"key"}, ()) == made(ENTERED)


@pytest.mark.parametrize(
    "found",
    [None, 1, "text", [], {}, {"changed": {}}, {"changed": [], "reset": [], "half": {}, "before": {}}],
)
def test_what_is_no_draft_is_left_alone(found: Any) -> None:
    assert drafts.usable(found) is None


def test_values_are_compared_line_by_line_without_secrets() -> None:
    values = {"prompt": "Say it.\nTwice.", "key": "sk-typed", "steps": 7, "other": None}
    assert drafts.readable(values, {"key"}).splitlines() == [
        "key: another secret",
        "other: null",
        "prompt:",
        "  Say it.",
        "  Twice.",
        "steps: 7",
    ]
    assert drafts.readable({"key": f"{MASK}7890"}, {"key"}) == f'key: "{MASK}7890"'


def test_other_values_have_another_mark() -> None:
    assert drafts.mark(BEFORE) == drafts.mark(dict(reversed(BEFORE.items())))
    assert drafts.mark(BEFORE) != drafts.mark({**BEFORE, "steps": 8})
    assert drafts.mark({"odd": "\ud800"})
