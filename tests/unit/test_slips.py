"""What is said to a command that is nearly right, and what is left to the model."""

from __future__ import annotations

import pytest

from agent_mode.chat.commands import Grammar, parse
from agent_mode.chat.slips import NOTHING_SENT, answer, did_you_mean, hint, is_answer

KEYS = frozenset({"coder", "writer", "teacher", "chef", "chief_of_staff"})
GRAMMAR = Grammar(KEYS)


def say(text: str, grammar: Grammar = GRAMMAR) -> str | None:
    return answer(parse(text, grammar), grammar)


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("!codr fix", "I don't know `!codr` — did you mean `!coder`?"),
        ("!wirter", "I don't know `!wirter` — did you mean `!writer`?"),
        ("!codr! fix", "I don't know `!codr` — did you mean `!coder`?"),
        ("！codr fix", "I don't know `!codr` — did you mean `!coder`?"),
        ("! coder fix", "I don't know `! coder` — did you mean `!coder`?"),
        ("!agent lst", "I don't know `!agent lst` — did you mean `!agent list`?"),
        ("!agent setings info off", "I don't know `!agent setings` — did you mean `!agent settings`?"),
        ("!agent list please", "I don't know `!agent list please` — did you mean `!agent list`?"),
        ("!agent coder", "I don't know `!agent coder` — did you mean `!coder`?"),
        ("!agent how do I?", "I don't know `!agent how`."),
        ("!persona1 foo hi", "I don't know `foo`. Nothing was sent"),
        ("!persona1 !codr hi", "I don't know `codr` — did you mean `!persona1 coder`?"),
        ("!persona1 coder !persona2 wrter x", "I don't know `wrter` — did you mean `!persona2 writer`?"),
        ("!persona1 coder !persona2 foo x", "I don't know `foo`. Nothing was sent"),
        ("!persona1", "I don't know whom `!persona1` is to be: write `!persona1 coder`."),
        ("!persona10 coder hi", "I don't know `!persona10`: a model of the chat has a number from 1 to 9"),
        ("!persona coder", "I don't know `!persona`: a model"),
        ("!persona0 coder", "I don't know `!persona0`: a model"),
    ],
)
def test_what_is_answered(text: str, begins: str) -> None:
    words = say(text)
    assert words is not None
    assert words.startswith(begins)
    assert NOTHING_SENT in words
    assert is_answer(words)


@pytest.mark.parametrize("text", ["!agent lst", "!agent how do I?"])
def test_a_wrong_word_behind_agent_gets_the_help_too(text: str) -> None:
    assert "**Agent Mode**" in (say(text) or "")


@pytest.mark.parametrize(
    "text",
    [
        "!important: read this",
        "! important",
        "!zebra!",
        "!100",
        "!coder what does !important mean?",
        "!coder what is `!codr`?",
        "!coder what is \\!codr?",
        "!coder tell me about !agent mode",
        "!coder what does !persona1 do?",
        "!coder why does !code fail",
        "!coder !wrter x",
        "!coder x\n!wrter y",
        "!coder x\n!agent lst",
        "!coder tell me about !agent lst",
        "!persona1 coder what does !persona2 do?",
        "!persona1 coder !wrter x",
        "hello !codr",
        "hello\n!agent lst",
        "!coder fix it",
        "hello",
    ],
)
def test_what_is_left_to_the_model(text: str) -> None:
    assert say(text) is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("!coder !wrter x", "!wrter was sent as text: did you mean !writer?"),
        ("!coder a !important !writr x", "!writr was sent as text: did you mean !writer?"),
        ("!coder x\n!wrter y", "!wrter was sent as text: did you mean !writer?"),
        ("!persona1 coder !wrter x", "!wrter was sent as text: did you mean !writer?"),
        ("!coder x\n!agent lst", "!agent lst was sent as text: did you mean !agent list?"),
        ("!writer why does !code fail", "!code was sent as text: did you mean !coder?"),
        ("!coder a\n!rest", "!rest was sent as text: did you mean !reset?"),
    ],
)
def test_a_word_further_down_that_is_nearly_a_command_gets_a_line(text: str, line: str) -> None:
    assert say(text) is None
    assert hint(parse(text, GRAMMAR), GRAMMAR) == line


@pytest.mark.parametrize(
    "text",
    [
        "!coder why does !code fail",  # it speaks already
        "!coder what does !important mean?",
        "!coder tell me about !agent mode",
        "!coder x\n!agent list please",
        "!coder what does !persona1 do?",
        "!codr x",
        "hello\n!codr",
        "hello",
    ],
)
def test_where_there_is_no_line(text: str) -> None:
    assert hint(parse(text, GRAMMAR), GRAMMAR) is None


def test_nothing_is_suggested_that_is_not_open() -> None:
    bob = Grammar(KEYS, open=frozenset({"coder", "writer"}))
    for text in ("!chief x", "! chef x"):
        assert say(text) is not None
        assert say(text, bob) is None
    said = parse("!coder !cheff x", GRAMMAR)
    assert hint(said, GRAMMAR) is not None
    assert hint(said, bob) is None
    assert "did you mean" not in (say("!persona1 cheff x", bob) or "")
    assert "`!chef`" not in (say("!agent chef", bob) or "")
    assert say("!codr x", bob) is not None


def test_did_you_mean_tells_how_to_go_on() -> None:
    text = did_you_mean("codr", "coder", "!")
    for words in ("`!codr`", "`!coder`", "Nothing was sent", "`\\!codr`", "`!agent list`"):
        assert words in text


def test_what_was_typed_cannot_leave_its_code() -> None:
    for text in ("!agent a`b`", "!persona1 a`<b>`", "!agent list `x` " + "y" * 90):
        words = say(text)
        assert words is not None
        assert words.partition("Nothing")[0].count("`") % 2 == 0


@pytest.mark.parametrize("content", [None, [], "", "I don't know that.", f"So: {NOTHING_SENT}"])
def test_what_is_no_answer_of_ours(content: object) -> None:
    assert not is_answer(content)
