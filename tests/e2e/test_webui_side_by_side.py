"""Journey 4: several models in one chat, each with a persona of its own."""

from __future__ import annotations

from tests.e2e.driver import Window
from tests.e2e.personas import check, prompts_in, said
from tests.e2e.stand import PLAIN, ScriptedProvider
from tests.provider import Recorded


def told(provider: ScriptedProvider, since: int = 0) -> dict[str, Recorded]:
    """The requests of a turn, by the persona that they name."""
    return {",".join(prompts_in(recorded)): recorded for recorded in provider.turns[since:]}


def test_two_personas_picked_side_by_side(ann: Window, provider: ScriptedProvider) -> None:
    ann.new_chat("personas.coder", "personas.writer")
    answers = ann.ask_all("say: hello")
    assert [answer.name for answer in answers] == ["💻 Coder", "📝 Writer"]
    assert {answer.text for answer in answers} == {"hello"}
    both = told(provider)
    check(both["coder"], "coder")
    check(both["writer"], "writer")

    ann.ask_all("say: more")
    again = told(provider, since=2)
    check(again["coder"], "coder")
    check(again["writer"], "writer")


def test_each_column_is_given_its_persona(ann: Window, provider: ScriptedProvider) -> None:
    ann.new_chat(PLAIN, "personas.coder")
    answers = ann.ask_all("!persona1 writer !persona2 writer")
    assert len(answers) == 2
    assert provider.turns == []

    ann.ask_all("!persona1 coder !persona2 writer say: hello")
    both = told(provider)
    assert set(both) == {"coder", "writer"}
    assert not any("!persona" in said(recorded) for recorded in both.values())

    ann.ask_all("say: more")
    assert set(told(provider, since=2)) == {"coder", "writer"}


def test_the_talk_is_held_in_the_first_column(ann: Window, provider: ScriptedProvider) -> None:
    ann.new_chat(PLAIN, "personas.coder")
    ann.ask_all("!persona1 writer !persona2 teacher")
    talk, line = ann.ask_all("!multi say: tea")
    assert [prompts_in(recorded) for recorded in provider.turns] == [["writer"], ["teacher"]] * 2
    assert talk.text.startswith("📝 Writer\n\ntea")
    assert talk.statuses == ["🍎 Teacher (4 of 4)"]
    assert line.text == "The personas talk in the first answer beside this one."
