"""What is wrong with the definition of an agent: all of it at once, each thing with its field."""

from __future__ import annotations

from typing import Any

import pytest

from agent_mode.agents.types import get_type, read_definition


def sub(name: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "description": "D", "instructions": "I", **more}


def told(kind: str, definition: Any) -> dict[str, str]:
    """What is wrong, by field."""
    parsed, problems = read_definition(get_type(kind), definition)
    assert all(problem.hint for problem in problems)
    assert parsed is not None or problems
    found: dict[str, str] = {}
    for problem in problems:
        key = problem.field.removeprefix("definition.")
        found[key] = " ".join([found[key], problem.message]) if key in found else problem.message
    return found


WHO = "Either `persona` or `instructions` must say who it is."


@pytest.mark.parametrize("kind", ["persona", "llamaindex_workflow"])
@pytest.mark.parametrize(
    ("definition", "wrong"),
    [
        ({}, {"instructions": WHO}),
        ({"persona": "", "instructions": " \n"}, {"instructions": WHO}),
        (
            {"persona": None, "instructions": None, "model": 1},
            {"instructions": WHO, "model": "This must be a text."},
        ),
        ({"persona": 7}, {"persona": "This must be a text."}),
        ({"instructions": 7}, {"instructions": "This must be a text."}),
        ({"persona": "coder"}, {}),
        ({"instructions": "I"}, {}),
    ],
)
def test_somebody_must_say_who_it_is(kind: str, definition: dict[str, Any], wrong: dict[str, str]) -> None:
    assert told(kind, definition) == wrong


SUBS = "Sub-agents are for the style multi_agent."
ROOT = "Who begins is for the style multi_agent."


@pytest.mark.parametrize(
    ("definition", "wrong"),
    [
        ({"agents": [sub("a"), sub("b")]}, {}),
        ({"agents": [sub("a", can_hand_over_to=["b"]), sub("b", can_hand_over_to=[])], "root": "b"}, {}),
        ({}, {"agents": "The style multi_agent needs at least two sub-agents."}),
        ({"agents": [sub("a")]}, {"agents": "The style multi_agent needs at least two sub-agents."}),
        ({"agents": None}, {"agents": "This must be a list."}),
        ({"agents": [sub("a"), sub("b")], "root": "c"}, {"root": "“c” is no sub-agent here."}),
        ({"agents": [sub("a"), sub("b")], "root": 1}, {"root": "This must be a text."}),
        (
            {
                "agents": [sub("a", can_hand_over_to=["x", "b", "y"]), sub("b", can_hand_over_to=["z"])],
                "root": "r",
            },
            {
                "agents.0.can_hand_over_to": "“x”, “y” are no sub-agents here.",
                "agents.1.can_hand_over_to": "“z” is no sub-agent here.",
                "root": "“r” is no sub-agent here.",
            },
        ),
        (
            {"agents": [sub("a"), sub("b"), sub("a"), sub("a")]},
            {
                "agents.2.name": "Another sub-agent is called “a” already.",
                "agents.3.name": "Another sub-agent is called “a” already.",
            },
        ),
        (
            {"agents": [sub("9"), sub("9", can_hand_over_to=["9"]), 5], "root": "9", "output": "loud"},
            {
                "agents.0.name": "This does not have the form that is asked for.",
                "agents.1.name": "This does not have the form that is asked for. "
                "Another sub-agent is called “9” already.",
                "agents.2": "This must be a JSON object.",
                "output": "This must be stream or final.",
            },
        ),
        (
            {"agents": [{"name": ["a"]}, sub("b", can_hand_over_to="b")], "root": "a"},
            {
                "agents.0.name": "This must be a text.",
                "agents.0.description": "This field is missing.",
                "agents.0.instructions": "This field is missing.",
                "agents.1.can_hand_over_to": "This must be a list.",
                "root": "“a” is no sub-agent here.",
            },
        ),
    ],
)
def test_agents_that_hand_over(definition: dict[str, Any], wrong: dict[str, str]) -> None:
    assert told("llamaindex_workflow", {"style": "multi_agent", **definition}) == wrong


@pytest.mark.parametrize("style", ["function", "react"])
def test_a_single_agent_has_neither_sub_agents_nor_a_root(style: str) -> None:
    alone = {"style": style, "instructions": "I"}
    assert told("llamaindex_workflow", {**alone, "root": None, "agents": []}) == {}
    assert told("llamaindex_workflow", {**alone, "root": "a"}) == {"root": ROOT}
    found = told("llamaindex_workflow", {"style": style, "agents": [sub("a")], "root": ""})
    assert found == {"agents": SUBS, "root": ROOT, "instructions": WHO}


def test_of_an_unknown_style_nothing_is_guessed() -> None:
    found = told("llamaindex_workflow", {"style": "dance", "root": "a", "agents": [sub("a"), sub("a")]})
    assert [*found] == ["style", "agents.1.name"]


def test_code_is_looked_at_beside_other_faults() -> None:
    found = told("custom_python", {"code": "def run(", "model": 1})
    assert found["model"] == "This must be a text."
    assert "This is not Python" in found["code"]
    assert told("custom_python", {"code": 7}) == {"code": "This must be a text."}
    assert told("custom_python", {}) == {"code": "This field is missing."}


@pytest.mark.parametrize("values", [None, 7, "x", [], [1]])
def test_what_is_no_object_is_said_to_be_none(values: Any) -> None:
    _, [problem] = read_definition(get_type("llamaindex_workflow"), values)
    assert problem.field == "definition"


def test_a_flood_is_told_in_few_words() -> None:
    many = [sub("a", can_hand_over_to=["x" * 500] * 10_000)] * 2_000
    _, problems = read_definition(get_type("llamaindex_workflow"), {"style": "multi_agent", "agents": many})
    assert len(problems) < 100
    assert sum(len(problem.message) + len(problem.hint) for problem in problems) < 50_000
