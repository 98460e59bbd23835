"""Models side by side: the branch that is shown, and what each of them sees instead."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_mode.chat.columns import note_outlet, own_branch
from agent_mode.store.replies import Reply, Thread
from agent_mode.tools.results import images_note

AT = datetime(2026, 11, 21, tzinfo=UTC)


@dataclass
class Talk:
    """A chat in which models answer side by side: `ask` adds a turn, of which one answer is shown."""

    thread: Thread = field(default_factory=Thread)
    messages: list[dict[str, Any]] = field(default_factory=list)
    shown: str | None = None
    turns: int = 0

    def ask(self, *answers: tuple[str, str | None], shown: int = 1) -> None:
        """Each answer is a model and its words; None: they are not known."""
        self.turns += 1
        question, parent = f"q{self.turns}", self.shown
        self.messages.append({"role": "user", "content": f"Question {self.turns}"})
        for place, (model, text) in enumerate(answers, 1):
            self.note(f"{question}-{place}", question, parent, place, model, text)
        self.shown = f"{question}-{shown}"
        self.messages.append({"role": "assistant", "content": answers[shown - 1][1]})

    def note(
        self, message_id: str, question: str, parent: str | None, place: int, model: str, text: str | None
    ) -> None:
        at = AT + timedelta(seconds=self.turns)
        self.thread.put(Reply(message_id, "c", question, parent, place, model, text, at))

    def seen(self, place: int, model: str) -> list[Any]:
        """What the model at this place sees of the answers, when it is asked again."""
        given = [*self.messages, {"role": "user", "content": "Next"}]
        own = own_branch(given, self.thread, self.shown, place, model)
        asked = [m["content"] for m in own.messages if m["role"] == "user"]
        assert asked == [*(f"Question {n}" for n in range(1, self.turns + 1)), "Next"]
        assert own.messages[-1] == given[-1]
        assert len(given) == len(own.messages)
        return [m["content"] for m in own.messages if m["role"] == "assistant"]


def test_each_sees_its_own_answers() -> None:
    talk = Talk()
    talk.ask(("a", "A1"), ("b", "B1"))
    talk.ask(("a", "A2"), ("b", "B2"), shown=2)
    talk.ask(("a", "A3"), ("b", "B3"))

    assert talk.seen(1, "a") == ["A1", "A2", "A3"]
    assert talk.seen(2, "b") == ["B1", "B2", "B3"]


def test_the_same_model_twice_is_told_apart_by_place() -> None:
    talk = Talk()
    talk.ask(("a", "left"), ("a", "right"))

    assert (talk.seen(1, "a"), talk.seen(2, "a")) == (["left"], ["right"])


def test_a_model_that_is_new_sees_what_is_shown() -> None:
    talk = Talk()
    talk.ask(("a", "A1"), ("b", "B1"))

    assert talk.seen(2, "c") == talk.seen(3, "c") == ["A1"]


def test_models_may_change_places() -> None:
    talk = Talk()
    talk.ask(("a", "A1"), ("b", "B1"))

    assert (talk.seen(1, "b"), talk.seen(2, "a")) == (["B1"], ["A1"])


def test_twice_the_same_at_other_places_cannot_be_told_apart() -> None:
    talk = Talk()
    talk.ask(("x", "X"), ("a", "A1"), ("a", "A2"))

    assert talk.seen(1, "a") == ["X"]


def test_what_is_not_known_stays_as_shown() -> None:
    talk = Talk()
    talk.ask(("a", "A1"), ("b", None))
    talk.ask(("a", "A2"), ("b", "B2"))

    assert talk.seen(2, "b") == ["A1", "B2"]


def test_a_turn_of_one_model_alone_is_everybodys() -> None:
    talk = Talk()
    talk.ask(("a", "A1"), ("b", "B1"))
    talk.turns += 1
    talk.note("alone", "q2", talk.shown, 0, "a", None)
    talk.messages += [{"role": "user", "content": "Question 2"}, {"role": "assistant", "content": "Alone"}]
    talk.shown = "alone"
    talk.ask(("a", "A3"), ("b", "B3"))

    assert talk.seen(2, "b") == ["B1", "Alone", "B3"]
    assert talk.seen(1, "a") == ["A1", "Alone", "A3"]


def test_behind_a_turn_that_nobody_noted_all_stays() -> None:
    talk = Talk()
    talk.ask(("a", "A1"), ("b", "B1"))
    talk.shown = "unknown"
    talk.turns += 1
    talk.messages += [{"role": "user", "content": "Question 2"}, {"role": "assistant", "content": "?"}]
    talk.ask(("a", "A3"), ("b", "B3"))

    assert talk.seen(2, "b") == ["A1", "?", "B3"]


def test_after_a_regenerate_the_newest_counts_but_the_one_shown_stays() -> None:
    talk = Talk()
    talk.ask(("a", "A1"), ("b", "B1"))
    talk.turns = 5
    for message_id, place, model, text in (("n1", 1, "a", "A1 anew"), ("n2", 2, "b", "B1 anew")):
        talk.note(message_id, "q1", None, place, model, text)
    talk.turns = 1

    assert talk.seen(2, "b") == ["B1 anew"]
    assert talk.seen(1, "a") == ["A1"]  # the user went back to it
    talk.shown = "n1"
    talk.messages[-1]["content"] = "A1 anew"
    assert talk.seen(1, "a") == ["A1 anew"]


def test_an_answer_with_tools_is_replaced_as_a_whole() -> None:
    talk = Talk()
    talk.ask(("a", "A1"), ("b", "B1"))
    tools = [
        {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]},
        {"role": "tool", "tool_call_id": "1", "content": "7"},
    ]
    given = [talk.messages[0], *tools, talk.messages[1], {"role": "user", "content": "Next"}, *tools]

    own = own_branch(given, talk.thread, talk.shown, 2, "b")

    assert [m["content"] for m in own.messages] == ["Question 1", "B1", "Next", "", "7"]
    assert (own.replaced, own.shown) == (1, True)
    assert own_branch(given, talk.thread, talk.shown, 1, "a").messages is given


def test_pictures_of_tools_are_no_question() -> None:
    """Open WebUI shows them to the model in the name of the user."""
    talk = Talk()
    talk.ask(("a", "A1"), ("b", "B1"))
    note = images_note(["data:image/png;base64,AA=="])
    given = [talk.messages[0], note, talk.messages[1], {"role": "user", "content": "Next"}, note]

    own = own_branch(given, talk.thread, talk.shown, 2, "b")

    assert [m["content"] for m in own.messages] == ["Question 1", "B1", "Next", note["content"]]


def test_a_system_prompt_stays() -> None:
    talk = Talk()
    talk.ask(("a", "A1"), ("b", "B1"))
    given = [{"role": "system", "content": "S"}, *talk.messages, {"role": "user", "content": "Next"}]

    own = own_branch(given, talk.thread, talk.shown, 2, "b")

    assert [m["content"] for m in own.messages] == ["S", "Question 1", "B1", "Next"]
    assert given[2]["content"] == "A1"


def test_it_says_what_the_transcript_ends_with() -> None:
    talk = Talk()
    talk.ask(("a", "A1"), ("b", "B1"), ("c", None))
    given = [*talk.messages, {"role": "user", "content": "Next"}]

    ends = [own_branch(given, talk.thread, talk.shown, n, m) for n, m in ((1, "a"), (2, "b"), (3, "c"))]

    assert [(own.last.message_id if own.last else None, own.shown) for own in ends] == [
        ("q1-1", True),
        ("q1-2", True),
        ("q1-3", False),
    ]
    assert own_branch(given, talk.thread, talk.shown, 4, "d").last is None


@pytest.mark.parametrize("messages", [[], [{"role": "user"}], [{"role": ["user"]}, {}]])
def test_odd_transcripts_are_no_error(messages: list[dict[str, Any]]) -> None:
    talk = Talk()
    talk.ask(("a", "A1"), ("b", "B1"))

    assert own_branch(messages, talk.thread, talk.shown, 2, "b").messages == messages


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=3), max_size=6), st.data())
def test_whatever_is_known_each_sees_its_own_or_what_is_shown(
    turns: list[list[bool]], data: st.DataObject
) -> None:
    """Each turn says of each answer whether its words are known."""
    talk = Talk()
    for number, known in enumerate(turns, 1):
        answers = [(f"m{n}", f"{n} in {number}" if yes else None) for n, yes in enumerate(known, 1)]
        talk.ask(*answers, shown=data.draw(st.integers(1, len(known))))

    for place in (1, 2, 3):
        seen = talk.seen(place, f"m{place}")
        shown = [m["content"] for m in talk.messages if m["role"] == "assistant"]
        for number, (known, mine) in enumerate(zip(turns, seen, strict=True), 1):
            own = len(known) >= place and known[place - 1]
            assert mine == (f"{place} in {number}" if own else shown[number - 1])


# What Open WebUI tells at the end of an answer


class Notes:
    """Takes the place of the runtime and its store: what is said is listed."""

    def __init__(self) -> None:
        self.replies = self
        self.heard: list[tuple[str, str]] = []

    async def expects(self, message_id: str, owner: str) -> bool:
        assert owner == "ann"
        return message_id == "m2"

    async def said(self, message_id: str, text: str, owner: str) -> None:
        assert owner == "ann"
        self.heard.append((message_id, text))


LAST = {"id": "m2", "role": "assistant", "content": "Hello."}
OUTLET = {"id": "m2", "chat_id": "c", "messages": [{"id": "m1", "role": "user", "content": "Hi"}, LAST]}


async def heard(body: dict[str, Any]) -> list[tuple[str, str]]:
    notes = Notes()
    await note_outlet(notes, body, "ann")  # type: ignore[arg-type]
    return notes.heard


async def test_the_answer_is_the_last_message() -> None:
    assert await heard(OUTLET) == [("m2", "Hello.")]


async def test_what_is_folded_into_an_answer_is_not_said() -> None:
    thought = '<details type="reasoning" done="true">\n<summary>Thought</summary>\n> Hm\n</details>\n'
    page = "<details>\n<summary>More</summary>\n</details>"
    body = {**OUTLET, "messages": [{**LAST, "content": f"{thought}Hello.\n{page}"}]}

    assert await heard(body) == [("m2", f"Hello.\n{page}")]


async def test_what_nobody_waits_for_is_not_even_read() -> None:
    body = {**OUTLET, "id": "m9", "messages": [{**LAST, "id": "m9"}]}

    assert await heard(body) == []


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"id": "other"},
        {"messages": None},
        {"messages": []},
        {"messages": [7]},
        {"messages": [{**LAST, "role": "user"}]},
        {"messages": [{**LAST, "content": None}]},
        {"messages": [{**LAST, "content": [{"type": "text", "text": "Hello."}]}]},
        {"messages": [{"role": "assistant", "content": "Hello."}]},
    ],
    ids=str,
)
async def test_everything_else_is_left_alone(change: dict[str, Any]) -> None:
    assert await heard({**OUTLET, **change}) == []
