"""What we answer ourselves: it is Markdown, and what a persona is called must not become markup in it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from agent_mode.chat import console
from agent_mode.chat.commands import Grammar, parse
from agent_mode.chat.parsed import Command
from agent_mode.chat.roster import Roster
from agent_mode.store.personas import Persona


def persona(key: str, **fields: Any) -> Persona:
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "key": key,
        "name": key.capitalize(),
        "emoji": "",
        "category": "software",
        "prompt": "You help.",
        "description": f"What {key} does",
        "capabilities": (),
        "tags": (),
        "model": None,
        "enabled": True,
        "origin": "shipped",
        "content_hash": "x",
        "shipped_hash": "x",
        "created_at": now,
        "updated_at": now,
    }
    return Persona(**(values | fields))


CODER = persona("coder", emoji="💻")
WRITER = persona("writer", category="writing")
ROSTER = Roster({"coder": CODER, "writer": WRITER}, frozenset({"coder", "writer"}))
GRAMMAR = Grammar(ROSTER.keys)


def say(text: str, speaker: Persona | None = CODER, *, attached: bool = False) -> str | None:
    return console.answer(parse(text, GRAMMAR), GRAMMAR, ROSTER, speaker, "💻 Coder", attached=attached)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("!agent", "**Agent Mode**"),
        ("!agent help", "**Agent Mode**"),
        ("!agent list", "| `!coder` | 💻 Coder | What coder does |"),
        ("!coder", "**💻 Coder** answers from now on. What coder does"),
        ("!reset", "Back to **💻 Coder**."),
        ("!persona1 writer !persona2 coder", "Assigned: 1 is **Writer**, 2 is **💻 Coder**."),
        ("!persona3 writer", "Where the chat has fewer models, the others speak in a talk only."),
        ("!agent list\nhow do I reverse a list?", "The other words of your message were not sent"),
        ("how do I x?\n!agent", "The other words of your message were not sent"),
    ],
)
def test_what_is_answered(text: str, words: str) -> None:
    answer = say(text)
    assert answer is not None
    assert words in answer


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "!coder fix it",
        "!important",
        "!zebra x",
        "!coder !writer",
        "!multi",
        "!persona1 coder go",
        "\\!coder",
        "",
        "color: !coder",
    ],
)
def test_what_goes_to_the_llm(text: str) -> None:
    assert say(text) is None


def test_a_lone_command_with_an_image_goes_to_the_llm() -> None:
    assert say("!coder", attached=True) is None


def test_assigned_names_cannot_write_markup() -> None:
    roster = Roster({"evil": persona("evil", name=EVIL)}, frozenset({"evil"}))
    grammar = Grammar(roster.keys)
    text = console.answer(parse("!persona1 evil", grammar), grammar, roster, None, "x", attached=False)
    assert text is not None
    assert not set("<>_|") & set(_unescaped(text))
    assert "](" not in text


@pytest.mark.parametrize("text", ["!agent", "!agent list", "!coder", "!persona1 coder"])
def test_nothing_is_said_of_words_where_there_are_none(text: str) -> None:
    answer = say(text)
    assert answer is not None
    assert "not sent" not in answer
    assert "fewer models" not in answer


@pytest.mark.parametrize(
    ("unsent", "fence"), [("and this?", "```"), ("````\nx = `1`\n````", "`````"), ("~~~\n``", "```")]
)
def test_words_that_were_not_sent_can_be_copied(unsent: str, fence: str) -> None:
    words = console.with_unsent("Done.", Command("settings", unsent=unsent))
    assert words.startswith("Done.\n\nThe other words of your message were not sent to the model")
    assert words.endswith(f":\n\n{fence}text\n{unsent}\n{fence}")
    long = console.with_unsent("Done.", Command("settings", unsent="x" * (console.GIVEN_BACK + 1)))
    assert long.endswith("send them again without the command.")


def test_the_browser_does_not_hide_that_words_were_not_sent() -> None:
    said = parse("!agent list\nand this?", GRAMMAR).console
    table = say("!agent list\nand this?")
    assert table is not None
    assert said is not None
    shown = console.folded(table, said, 2)
    assert shown.endswith("</details>" + console.with_unsent("", said))
    assert shown.count("and this?") == 1


@pytest.mark.parametrize(
    ("personas", "agents", "words"),
    [
        (68, 2, "68 personas and 2 agents"),
        (1, 1, "1 persona and 1 agent"),
        (5, 0, "5 personas"),
        (0, 2, "2 agents"),
    ],
)
def test_agents_are_not_counted_as_personas(personas: int, agents: int, words: str) -> None:
    said = parse("!agent list", GRAMMAR).console
    assert said is not None
    assert console.folded("", said, personas, agents).startswith(f"Pick one of {words} above.")


def test_brackets_are_no_formula() -> None:
    text = console.confirmation(persona("beta", name="Notes [beta]"))
    assert "Notes [beta]" in text
    assert "\\[" not in text


def test_a_command_where_nobody_is_in_charge() -> None:
    assert say("!reset", None) == "Back to **💻 Coder**."


def test_help_names_the_prefix() -> None:
    text = console.help_text("//")
    assert "`//coder`" in text
    assert "`\\//coder`" in text
    assert "!" not in text.replace("!important", "")


def test_list_is_ordered_and_grouped() -> None:
    text = console.list_text(
        [
            persona("zed", name="zed"),
            persona("abe", name="Abe"),
            persona("poet", category="creative"),
            persona("odd", category="my own"),
        ],
        "/",
    )
    assert re.findall(r"### (.*)", text) == ["Software", "Creative", "My own"]
    assert re.findall(r"`/(\w+)`", text) == ["abe", "zed", "poet", "odd"]


def test_list_without_anybody_tells_the_cure() -> None:
    assert "`models`" in console.list_text([], "!")


EVIL = "a|b\n| c `x` **d** _e_ [l](javascript:x) <img src=x onerror=y> \\| ![i](http://x/i.png)\r\n# head"


def _unescaped(text: str) -> str:
    """What is left of a text when its escaped characters are taken out: only that can be markup."""
    return re.sub(r"\\.", "", text)


def test_personas_cannot_break_the_table() -> None:
    evil = persona("evil", name=EVIL, emoji="|", description=EVIL, category=EVIL)
    text = console.list_text([evil, CODER], "!")
    rows = [line for line in text.splitlines() if line.startswith("| `!")]
    assert len(rows) == 2
    for row in rows:
        assert _unescaped(row).count("|") == 4
    assert text.count("\n# ") == 0
    assert "](" not in text
    for char in "<>*_":
        assert char not in _unescaped(text)


@pytest.mark.parametrize("make", [console.confirmation, lambda p: console.back_to(p.display_name)])
def test_personas_cannot_write_markup(make: Any) -> None:
    text = make(persona("evil", name=EVIL, description=EVIL))
    assert "\n" not in text
    plain = _unescaped(text)
    assert plain.count("**") == 2
    assert "](" not in text
    for char in "<>_`|":
        assert char not in plain
