"""The pure parts of sequences: who speaks with which task, and what of a provider's chunks are words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_mode.agents.engine import Reasoning, Text
from agent_mode.chat.commands import Grammar, parse
from agent_mode.chat.roster import Roster
from agent_mode.chat.sequence import Said, added, words_of
from agent_mode.chat.steps import CONTINUE, Step, steps_of
from agent_mode.errors import RequestError
from tests.unit.test_console import persona

KEYS = ("coder", "writer", "teacher")
ROSTER = Roster({key: persona(key) for key in KEYS}, frozenset(KEYS))
GRAMMAR = Grammar(ROSTER.keys)
CODER, WRITER, TEACHER = (ROSTER.by_key[key] for key in KEYS)


def steps(text: str, requested: str = "coder", roster: Roster = ROSTER) -> list[tuple[str, str]]:
    """(who, task) of each step."""
    return [(step.key, step.task) for step in steps_of(parse(text, GRAMMAR), roster, requested)]


# Steps


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("!teacher explain !writer a poem", [("teacher", "explain"), ("writer", "a poem")]),
        ("!teacher explain\n!writer a poem", [("teacher", "explain"), ("writer", "a poem")]),
        ("!coder a !coder b !coder c", [("coder", "a"), ("coder", "b"), ("coder", "c")]),
        ("!teacher !writer explain", [("teacher", "explain"), ("writer", "explain")]),
        (
            "!teacher !writer !coder explain",
            [("teacher", "explain"), ("writer", "explain"), ("coder", "explain")],
        ),
        ("!teacher explain !writer", [("teacher", "explain"), ("writer", CONTINUE)]),
        ("!teacher a !writer !coder b", [("teacher", "a"), ("writer", "b"), ("coder", "b")]),
        ("!teacher !writer", [("teacher", CONTINUE), ("writer", CONTINUE)]),
        ("!teacher a !writer !coder", [("teacher", "a"), ("writer", CONTINUE), ("coder", CONTINUE)]),
        ("!teacher explain !reset as code", [("teacher", "explain"), ("coder", "as code")]),
        ("!reset first !writer then", [("coder", "first"), ("writer", "then")]),
        ("!teacher: explain, !writer: a poem", [("teacher", "explain,"), ("writer", "a poem")]),
        ("  !teacher explain !writer a poem  ", [("teacher", "explain"), ("writer", "a poem")]),
    ],
)
def test_each_call_is_a_step(text: str, expected: list[tuple[str, str]]) -> None:
    assert steps(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "explain it",
        "!teacher explain it",
        "!teacher",
        "!agent list",
        "Look:\n!teacher explain\n!writer a poem",  # the message does not begin with a command
        "!teacher explain `!writer a poem`",
        "!persona1 teacher !persona2 writer explain",
    ],
)
def test_other_messages_are_no_sequence(text: str) -> None:
    assert steps(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Words behind an assignment are the next one's, at the end the last one's.
        (
            "!persona1 teacher !persona2 coder hello !writer x !coder y",
            [("writer", "hello\n\nx"), ("coder", "y")],
        ),
        ("!writer x !coder y !persona1 teacher z", [("writer", "x"), ("coder", "y\n\nz")]),
        ("!writer !coder y !persona1 teacher z", [("writer", "y\n\nz"), ("coder", "y\n\nz")]),
        # What we answer ourselves has its place among them, and no words of its own.
        ("!teacher a\n!agent list\n!writer b", [("teacher", "a"), ("list", ""), ("writer", "b")]),
        (
            "!teacher a\n!agent list\nand this\n!writer b",
            [("teacher", "a"), ("list", ""), ("writer", "and this\n\nb")],
        ),
        ("!agent list\n!teacher a", [("list", ""), ("teacher", "a")]),
        ("!teacher a\n!agent\nand this", [("teacher", "a\n\nand this"), ("help", "")]),
        ("!agent rollback coder 1.0.2\n!coder go on", [("rollback", ""), ("coder", "go on")]),
    ],
)
def test_nothing_of_a_mixed_message_is_lost(text: str, expected: list[tuple[str, str]]) -> None:
    assert steps(text) == expected


def test_after_a_reset_the_picked_model_speaks_as_itself() -> None:
    found = steps_of(parse("!teacher explain !reset more", GRAMMAR), ROSTER, "gpt-4o")

    assert [(step.key, step.name, step.title) for step in found] == [
        ("teacher", TEACHER.name, TEACHER.display_name),
        ("gpt-4o", "gpt-4o", "gpt-4o"),
    ]
    assert [step.persona for step in found] == [TEACHER, None]


def test_a_step_keeps_the_lines_of_its_task() -> None:
    assert steps("!teacher explain\n\n- this\n- that\n!writer\n    indented()") == [
        ("teacher", "explain\n\n- this\n- that"),
        ("writer", "    indented()"),
    ]


@given(
    st.lists(
        st.tuples(st.sampled_from(KEYS), st.sampled_from(["", "do it", "a\nb", "x !nobody y"])), min_size=2
    )
)
def test_every_task_is_some_ones_words(parts: list[tuple[str, str]]) -> None:
    text = " ".join(f"!{key} {task}".strip() for key, task in parts)
    given_words = {task for _, task in parts if task}

    found = steps(text)

    assert all(task in given_words | {CONTINUE} for _, task in found)
    assert [key for key, _ in found] == [key for key, _ in parts]


# Talks


def talk(text: str, assigned: list[Any] | None = None, turns: int = 2) -> list[Step]:
    said = parse(text, GRAMMAR)
    return steps_of(said, ROSTER, "coder", [CODER, WRITER] if assigned is None else assigned, turns)


def test_personas_speak_in_turns() -> None:
    found = talk("!multi Tea or coffee?", turns=3)

    assert [step.key for step in found] == ["coder", "writer"] * 3
    assert found[0].task == "Tea or coffee?"
    assert all(step.task.endswith(": Tea or coffee?") for step in found[1:])


@pytest.mark.parametrize(
    ("mode", "words"), [("collab", "Work on this together with"), ("debate", "Debate this with")]
)
def test_each_is_told_who_the_others_are(mode: str, words: str) -> None:
    found = talk(f"!multi {mode} Tea?", [CODER, WRITER, TEACHER], turns=1)

    assert found[0].task == "Tea?"
    assert found[1].task.startswith(f"{words} Coder, Teacher.")
    assert found[2].task.startswith(f"{words} Coder, Writer.")


def test_a_topic_is_no_template() -> None:
    for topic in ("{others}", "{0} {{x}}", "100 % {"):
        assert talk(f"!multi debate {topic}")[1].task.endswith(topic)


def test_names_are_no_template_either() -> None:
    odd = persona("odd", name="{others} {x}")

    assert "{others} {x}" in talk("!multi debate Tea?", [odd, CODER])[1].task


def test_the_topic_may_stand_before_the_command() -> None:
    assert talk("Tea or coffee?\n!multi debate")[0].task == "Tea or coffee?"


def test_a_talk_has_its_place_among_other_steps() -> None:
    found = talk("!teacher Tea is old. !multi Tea or coffee? !reset Sum it up", turns=1)

    assert [(step.key, step.task.rpartition(": ")[2]) for step in found] == [
        ("teacher", "Tea is old."),
        ("coder", "Tea or coffee?"),
        ("writer", "Tea or coffee?"),
        ("coder", "Sum it up"),
    ]


def test_the_topic_may_stand_behind_the_assignment() -> None:
    assert talk("!persona1 coder !persona2 writer Tea or coffee? !multi debate")[0].task == "Tea or coffee?"


def test_without_multi_there_is_no_talk() -> None:
    for text in ("Tea?", "!coder Tea?", "!persona1 coder !persona2 writer"):
        assert talk(text) == []
        assert talk(text, []) == []


@pytest.mark.parametrize(
    ("text", "assigned", "code"),
    [
        ("!multi Tea?", [], "too_few_personas"),
        ("!multi Tea?", [CODER], "too_few_personas"),
        ("!multi", [], "too_few_personas"),
        ("!multi", [CODER, WRITER], "no_topic"),
        ("!multi debate  ", [CODER, WRITER], "no_topic"),
    ],
)
def test_an_incomplete_talk_is_refused(text: str, assigned: list[Any], code: str) -> None:
    with pytest.raises(RequestError) as caught:
        talk(text, assigned)

    assert (caught.value.code, caught.value.status, caught.value.field) == (code, 400, "messages")
    assert "`!" in caught.value.hint


# Words


def line(delta: Any, **more: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta, **more}]}).encode() + b"\n\n"


def test_words_and_thoughts_in_order() -> None:
    block = (
        line({"role": "assistant", "content": ""})
        + line({"reasoning_content": "Hmm"})
        + line({"reasoning_content": "…", "content": "Ä"})
        + line({"content": "data: x\n\n"})
        + line({}, finish_reason="stop")
    )

    assert list(words_of(block)) == [Reasoning("Hmm"), Reasoning("…"), Text("Ä"), Text("data: x\n\n")]


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\n\n\n\n",
        b": a comment\n\n",
        b'data: {"choices": [], "usage": {"total_tokens": 3}}\n\n',
        b'data: {"usage": {}}\n\n',
        b'data: {"choices": null}\n\n',
        b'data: {"choices": ["x"]}\n\n',
        b'data: {"choices": [null]}\n\n',
        line(None),
        line("text"),
        line([]),
        line({"content": None}),
        line({"content": [{"type": "text", "text": "x"}]}),
        line({"content": 7, "reasoning_content": {}}),
        line({"tool_calls": [{"index": 0, "function": {"name": "dice"}}]}),
    ],
)
def test_everything_else_is_no_words(block: bytes) -> None:
    assert list(words_of(block)) == []
    assert list(words_of(block + line({"content": "on"}))) == [Text("on")]


@given(st.lists(st.text()))
def test_no_word_is_lost(texts: list[str]) -> None:
    block = b"".join(line({"content": text}) for text in texts)

    assert "".join(event.content for event in words_of(block)) == "".join(texts)


def test_what_was_said_is_the_sum_of_its_parts() -> None:
    parts: list[str] = []
    said = Said(Step("coder", "x", CODER), parts)
    parts += ["One ", "two"]

    assert said.text == "One two"


# Usage


def test_usage_adds_up() -> None:
    first = {"prompt_tokens": 11, "total_tokens": 18, "details": {"cached": 2}, "cost": 0.5, "model": "a"}
    second = {"prompt_tokens": 1, "total_tokens": 3, "details": {"cached": 3, "audio": 1}, "cost": 0.25}

    total = added(added({}, first), {**second, "model": "b", "completion_tokens": 2, "flag": True, "x": None})

    assert total == {
        "prompt_tokens": 12,
        "total_tokens": 21,
        "details": {"cached": 5, "audio": 1},
        "cost": 0.75,
        "model": "b",
        "completion_tokens": 2,
        "flag": True,
    }
    assert first["details"] == {"cached": 2}


@pytest.mark.parametrize("odd", [{"a": {"b": 1}}, {"a": "x"}, {"a": [1]}, {"a": None}])
def test_reports_that_do_not_fit_are_no_error(odd: dict[str, Any]) -> None:
    assert added({"a": 1, "b": 2}, odd)["b"] == 2
    assert added(odd, {"a": 1})["a"] == 1
