"""Journey 2: another persona takes over in mid chat, and is the right one on every branch."""

from __future__ import annotations

from tests.e2e.driver import Window
from tests.e2e.personas import check, said
from tests.e2e.stand import ScriptedProvider


def test_picking_another_model_in_mid_chat(ann: Window, provider: ScriptedProvider) -> None:
    ann.new_chat("personas.coder")
    ann.ask("say: in code")
    check(provider.turns[-1], "coder")

    ann.pick("📝 Writer")
    answer = ann.ask("say: in words")
    assert (answer.name, answer.text) == ("📝 Writer", "in words")
    assert answer.statuses == ["📝 Writer takes over from 💻 Coder"]
    check(provider.turns[-1], "writer", after="coder")
    replies = [m["content"] for m in provider.turns[-1].body["messages"] if m["role"] == "assistant"]
    assert replies == ["in code"]

    again = ann.ask("say: more words")
    assert again.statuses == []
    check(provider.turns[-1], "writer")


def test_a_command_switches_and_stays(ann: Window, provider: ScriptedProvider) -> None:
    ann.new_chat("personas.coder")
    ann.ask("say: in code")
    answer = ann.ask("!writer say: in words")
    assert answer.name == "💻 Coder", "Open WebUI shows the model that is picked"
    assert answer.text == "in words"
    assert answer.statuses == ["📝 Writer takes over from 💻 Coder"]
    check(provider.turns[-1], "writer", after="coder")
    assert "!writer" not in said(provider.turns[-1])

    followed = ann.ask("say: more words")
    assert followed.statuses == ["📝 Writer"]
    check(provider.turns[-1], "writer")

    back = ann.ask("!reset")
    assert "Back to 💻 Coder" in back.text
    assert len(provider.turns) == 3, "no model was asked"
    ann.ask("say: in code again")
    check(provider.turns[-1], "coder", after="writer")
    assert "Back to" not in said(provider.turns[-1])


def test_regenerate_asks_the_same_persona_again(ann: Window, provider: ScriptedProvider) -> None:
    ann.new_chat("personas.coder")
    ann.ask("say: in code")
    first = ann.ask("!writer say: in words")
    second = ann.regenerate()
    assert (second.text, second.statuses) == (first.text, first.statuses)
    assert second.id != first.id
    check(provider.turns[-1], "writer", after="coder")
    assert provider.turns[-1].body["messages"] == provider.turns[-2].body["messages"]


def test_an_earlier_message_is_edited(ann: Window, provider: ScriptedProvider) -> None:
    ann.new_chat("personas.coder")
    ann.ask("say: in code")
    ann.ask("!writer say: in words")
    ann.ask("say: more words")

    edited = ann.edit(1, "say: still in code")
    assert (edited.text, edited.statuses) == ("still in code", [])
    check(provider.turns[-1], "coder")
    assert [answer.text for answer in ann.answers] == ["in code", "still in code"]

    ann.edit(1, "!writer say: other words")
    check(provider.turns[-1], "writer", after="coder")


def test_the_branch_that_is_shown_counts(ann: Window, provider: ScriptedProvider) -> None:
    ann.new_chat("personas.coder")
    ann.ask("say: in code")
    ann.ask("!writer say: in words")
    ann.edit(1, "say: still in code")
    check(provider.turns[-1], "coder")

    ann.go_back(ann.question(1))
    assert [answer.text for answer in ann.answers] == ["in code", "in words"]
    assert ann.ask("say: who am I?").statuses == ["📝 Writer"]
    check(provider.turns[-1], "writer")

    ann.reload()
    assert [answer.text for answer in ann.answers] == ["in code", "in words", "who am I?"]
    assert [answer.statuses for answer in ann.answers[1:]] == [
        ["📝 Writer takes over from 💻 Coder"],
        ["📝 Writer"],
    ]


def test_a_temporary_chat(ann: Window, provider: ScriptedProvider) -> None:
    ann.new_chat("personas.coder", temporary=True)
    ann.ask("say: in code")
    answer = ann.ask("!writer say: in words")
    assert answer.statuses == ["📝 Writer takes over from 💻 Coder"]
    check(provider.turns[-1], "writer", after="coder")
    ann.ask("say: more words")
    check(provider.turns[-1], "writer")
    ann.regenerate()
    check(provider.turns[-1], "writer")


def test_a_chat_goes_on_in_another_window(ann: Window, open_window, provider: ScriptedProvider) -> None:
    ann.new_chat("personas.coder")
    ann.ask("say: in code")
    ann.ask("!writer say: in words")
    other: Window = open_window(ann.account)
    other.open_chat(ann.chat_id)
    assert other.ask("say: more words").statuses == ["📝 Writer"]
    check(provider.turns[-1], "writer")
