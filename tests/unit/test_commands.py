"""What is a command, what only looks like one, and what the LLM sees of either."""

from __future__ import annotations

import copy
import re
import timeit
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_mode.chat.commands import COMMAND_LIMIT, SCAN_LIMIT, Grammar, parse
from agent_mode.chat.messages import comes_with_attachment, has_attachment, last_text, message_text, with_text
from agent_mode.chat.parsed import Command
from agent_mode.chat.slips import did_you_mean, suggest
from agent_mode.chat.switching import bindings, detect_agent_switch
from agent_mode.chat.transcript import MESSAGE_COSTS, TRANSCRIPT_LIMIT, strip_commands

KEYS = frozenset({"coder", "writer", "teacher", "data-analyst", "tool_smith", "lehrkraft"})
GRAMMAR = Grammar(KEYS)
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def persona(key: str, text: str = "") -> Command:
    return Command("persona", key, text)


def words_of(commands: tuple[Command, ...]) -> list[tuple[str, str | None, str]]:
    return [(command.kind, command.key, command.text) for command in commands]


@pytest.mark.parametrize(
    ("text", "commands", "rest"),
    [
        # At the start of the message.
        ("!coder fix it", [persona("coder", "fix it")], "fix it"),
        ("  !coder fix it", [persona("coder", "fix it")], "fix it"),
        ("\n\n!coder fix it\n", [persona("coder", "fix it")], "fix it"),
        ("!Coder fix", [persona("coder", "fix")], "fix"),
        ("!CODER\tfix", [persona("coder", "fix")], "fix"),
        ("!coder: fix", [persona("coder", "fix")], "fix"),
        ("!coder, fix", [persona("coder", "fix")], "fix"),
        ("!coder", [persona("coder")], ""),
        ("!coder:", [persona("coder")], ""),
        ("!data-analyst plot", [persona("data-analyst", "plot")], "plot"),
        ("!tool_smith go", [persona("tool_smith", "go")], "go"),
        # At the start of a later line.
        ("hello\n!coder fix it", [persona("coder", "fix it")], "hello\nfix it"),
        ("hello\r\n!coder fix it", [persona("coder", "fix it")], "hello\r\nfix it"),
        ("hello\n   !coder fix it", [persona("coder", "fix it")], "hello\n   fix it"),
        ("!coder\nfirst\nsecond", [persona("coder", "first\nsecond")], "first\nsecond"),
        # Several.
        (
            "!teacher explain a !writer b",
            [persona("teacher", "explain a"), persona("writer", "b")],
            "explain a b",
        ),
        ("!teacher !writer b", [persona("teacher"), persona("writer", "b")], "b"),
        ("!teacher a\n!writer b", [persona("teacher", "a"), persona("writer", "b")], "a\nb"),
        ("a\n!teacher b\n!writer c", [persona("teacher", "b"), persona("writer", "c")], "a\nb\nc"),
        # Only when the message begins with one do further ones count within a line.
        ("a\n!teacher b !writer c", [persona("teacher", "b !writer c")], "a\nb !writer c"),
        # Indentation of what follows may be code.
        (
            "!coder\n    if x:\n        y()",
            [persona("coder", "    if x:\n        y()")],
            "    if x:\n        y()",
        ),
        # The others.
        ("!reset", [Command("reset")], ""),
        ("!default and now?", [Command("reset", None, "and now?")], "and now?"),
        ("!Normal", [Command("reset")], ""),
        ("!agent", [Command("help")], ""),
        ("!agent help", [Command("help")], ""),
        ("!agent list", [Command("list")], ""),
        ("!AGENT List  ", [Command("list")], ""),
        ("!agent list\r\n", [Command("list")], ""),
        ("!agent\n!coder x", [Command("help"), persona("coder", "x")], "x"),
    ],
)
def test_commands(text: str, commands: list[Command], rest: str) -> None:
    parsed = parse(text, GRAMMAR)
    assert list(parsed.commands) == commands
    assert parsed.text == rest
    assert parsed.unknown is None


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("!agent settings", Command("settings")),
        ("!agent settings prefix /", Command("settings", "prefix /")),
        ("!agent History coder", Command("history", "coder")),
        ("!agent rollback\tcoder 3 ", Command("rollback", "coder 3")),
        ("!agent rollback coder 3\n!persona1 writer x", Command("rollback", "coder 3", "")),
        ("!persona1 teacher", Command("bind", "teacher", "", 1)),
        ("!Persona9 Teacher: go", Command("bind", "teacher", "go", 9)),
        ("!multi", Command("multi", "turns")),
        ("!multi what is time?", Command("multi", "turns", "what is time?")),
        ("!multi debate what is time?", Command("multi", "debate", "what is time?")),
        ("!multi Collab: a poem", Command("multi", "collab", "a poem")),
        ("!multi debates are fun", Command("multi", "turns", "debates are fun")),
        ("\nhm\n!multi debate x", Command("multi", "debate", "x")),
    ],
)
def test_commands_with_words_of_their_own(text: str, command: Command) -> None:
    parsed = parse(text, GRAMMAR)
    assert parsed.commands[0] == command
    assert (parsed.console is None) == (command.kind in ("bind", "multi"))


@pytest.mark.parametrize("text", ["!persona0 teacher", "!persona10 teacher", "!persona1 nobody", "!persona1"])
def test_what_assigns_nobody(text: str) -> None:
    assert parse(text, GRAMMAR).commands == ()


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("!coder!", persona("coder")),
        ("!coder!!! fix it", persona("coder", "fix it")),
        ("!Coder? fix it", persona("coder", "fix it")),
        ("!coder; fix it", persona("coder", "fix it")),
        ("!coder. fix it", persona("coder", "fix it")),
        ("!coder... fix it", persona("coder", "fix it")),
        ("!coder，fix it", persona("coder", "fix it")),
        ("!coder：fix it", persona("coder", "fix it")),
        ("!coder。", persona("coder")),
        ("！coder fix it", persona("coder", "fix it")),
        ("！coder：fix it", persona("coder", "fix it")),
        ("\u200b!coder fix it", persona("coder", "fix it")),
        ("\ufeff!coder", persona("coder")),
        (" \u200b\n\u200b !coder fix it", persona("coder", "fix it")),
        ("!reset! and now?", Command("reset", None, "and now?")),
        ("!agent! list", Command("list")),
        ("!persona1! writer", Command("bind", "writer", "", 1)),
        ("！persona1 ！writer", Command("bind", "writer", "", 1)),
    ],
)
def test_the_very_start_is_forgiving(text: str, command: Command) -> None:
    parsed = parse(text, GRAMMAR)
    assert parsed.commands == (command,)
    assert parsed.text == command.text


def test_what_is_forgiven_can_be_escaped_too() -> None:
    assert parse("\\!coder! hi", GRAMMAR).text == "!coder! hi"
    assert parse("\\！coder hi", GRAMMAR).text == "！coder hi"


def test_an_asian_exclamation_mark_is_that_of_another_prefix_no_more() -> None:
    assert parse("！coder hi", Grammar(KEYS, "#")).commands == ()


def test_a_key_may_begin_with_a_digit() -> None:
    assert parse("!2fast hi", Grammar({"2fast"})).commands == (persona("2fast", "hi"),)
    assert parse("!2fast !3d hi", Grammar({"2fast", "3d"})).text == "hi"


def test_several_assignments() -> None:
    parsed = parse("!persona1 teacher !persona2 coder explain it", GRAMMAR)
    assert [(c.kind, c.slot, c.key) for c in parsed.commands] == [
        ("bind", 1, "teacher"),
        ("bind", 2, "coder"),
    ]
    assert parsed.text == "explain it"
    assert parsed.switch is None


@pytest.mark.parametrize(
    ("text", "several"),
    [
        ("!coder a !writer b", True),
        ("!coder a\n!writer b", True),
        ("!coder !reset b", True),
        ("!multi debate x", True),
        ("!persona1 coder !persona2 writer !multi x", True),
        ("!coder a", False),
        ("a\n!coder b\n!writer c", False),
        ("a\n!multi b", True),
        ("!persona1 coder !persona2 writer", False),
        ("!agent list\n!coder a", True),
        ("!coder a\n!agent list", True),
        ("!agent\n!agent list", False),
        ("!agent list\n!persona1 coder", False),
        ("a\n!coder b\n!agent list", False),
        ("hello", False),
    ],
)
def test_whether_several_speak(text: str, several: bool) -> None:
    assert parse(text, GRAMMAR).several is several


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing here",
        "Wow! coder!",
        "please ask !coder about it",
        "p { color: red !important; }",
        "Das ist !important, wirklich",
        "echo hi && !coder",
        "! coder x",
        "!!coder x",
        "x!coder",
        "!coder's",
        "hello !coder!",
        "hello\n!coder!",
        "!coder.py is a file",
        "!coder!x",
        "!coders are people",
        "!1coder",
        "see https://example.org/!coder and http://x.y/?q=!writer",
        "https://example.org/\n/!coder",
        "> !coder in a quotation",
        "- !coder in a list",
        "`!coder`",
        "``\t!coder``",
        "```\n!coder\n```",
        "```css\na { b: c !important }\n!coder\n```\nthanks",
        "~~~\n!coder x\n~~~",
        "```` \n```\n!coder\n````",
        "```\nnever closed\n!coder x",
        "code:\n\n    !coder x",
        "\t!coder x",
        "    !coder x",
        "if [ ! -f x ]; then !writer; fi",
        "git commit -m 'fix!'\n!!",
        "¡coder hola",
        "\\!important stays",
    ],
)
def test_what_only_looks_like_a_command(text: str) -> None:
    parsed = parse(text, GRAMMAR)
    assert parsed.commands == ()
    assert parsed.text == text


def test_commands_around_code() -> None:
    parsed = parse("!coder what does `!writer` do?\n```\n!teacher\n```\n!writer explain", GRAMMAR)
    assert [command.key for command in parsed.commands] == ["coder", "writer"]
    assert parsed.text == "what does `!writer` do?\n```\n!teacher\n```\nexplain"


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("!coder fix this: ```\n!default\n```", ["coder"]),
        ("!coder ```\n!writer a\n```", ["coder"]),
        ("!coder ```py\n!writer a\n``` then\n!teacher b", ["coder", "teacher"]),
        ("!coder the `a` of: ````\n!writer ``` a\n```` !teacher b", ["coder", "teacher"]),
        ("!coder ```\n!writer never closed", ["coder"]),
        ("> ```\n!writer a\n> ```\n!coder b", ["coder"]),
        ("this is ```x```\n!coder why?", ["coder"]),
        ("!coder ```x``` and ```y```\n!writer a", ["coder", "writer"]),
    ],
)
def test_a_block_behind_words(text: str, keys: list[str]) -> None:
    assert [command.key for command in parse(text, GRAMMAR).commands] == keys


def test_three_ticks_on_one_line_open_no_block() -> None:
    parsed = parse("```x = 1``` is it\n!coder why?", GRAMMAR)
    assert [command.key for command in parsed.commands] == ["coder"]


def test_key_that_happens_to_be_a_css_word_in_prose() -> None:
    grammar = Grammar({"important"})
    assert parse("color: red !important", grammar).commands == ()
    assert parse("a {\n  color: red !important;\n}", grammar).commands == ()
    assert parse("!important look", grammar).commands == (persona("important", "look"),)


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("!codr fix it", "codr"),
        ("  !codr", "codr"),
        ("!important: read this", "important"),
        ("!Codr x", "Codr"),
        ("!agent liszt of things", "agent"),
        ("! coder x", None),
        ("!1coder", "1coder"),
        ("hello !codr", None),
        ("hello\n!codr", None),
        ("\\!codr x", None),
        ("`!codr`", None),
        ("!coder !codr x", None),
    ],
)
def test_unknown_word_at_the_very_start(text: str, unknown: str | None) -> None:
    assert parse(text, GRAMMAR).unknown == unknown


def test_unknown_word_leaves_the_text_alone() -> None:
    parsed = parse("!codr fix it", GRAMMAR)
    assert parsed.text == "!codr fix it"
    assert parsed.commands == ()


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("codr", "coder"),
        ("Coderr", "coder"),
        ("wirter", "writer"),
        ("rest", "reset"),
        ("agnet", "agent"),
        ("mutli", "multi"),
        ("important", None),
        ("x", None),
        ("zebra", None),
    ],
)
def test_suggestions(word: str, meant: str | None) -> None:
    assert suggest(word, GRAMMAR) == meant


@pytest.mark.parametrize(
    ("text", "rest", "commands"),
    [
        ("\\!coder is a command", "!coder is a command", 0),
        ("a\n\\!coder b", "a\n!coder b", 0),
        ("\\!reset", "!reset", 0),
        ("\\!agent list", "!agent list", 0),
        ("!coder what is \\!writer for?", "what is !writer for?", 1),
        # A backslash that takes nothing away stays.
        ("ask \\!coder", "ask \\!coder", 0),
        ("\\!important", "\\!important", 0),
        ("`\\!coder`", "`\\!coder`", 0),
    ],
)
def test_escapes(text: str, rest: str, commands: int) -> None:
    parsed = parse(text, GRAMMAR)
    assert parsed.text == rest
    assert len(parsed.commands) == commands


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("! coder x", [("coder", "", "apart")]),
        ("  !\tCoder x", [("Coder", "", "apart")]),
        ("! important x", []),
        ("!     coder x", []),
        ("\\! coder x", []),
        ("    ! coder x", []),
        ("hello\n! coder x", []),
        ("!persona1 foo hi\nthere", [("persona1", "foo hi", "start")]),
        ("!coder !codr x", [("codr", "x", "later")]),
        ("!coder a\n!codr x\ny", [("codr", "x", "later")]),
        ("!coder a `!codr` \\!wrter x", []),
        ("!persona1 coder !persona2 foo x", [("persona2", "foo x", "assigning")]),
        ("!persona1 coder what does !persona2 do?", [("persona2", "do?", "later")]),
        ("hello\n!codr !wrter", []),
    ],
)
def test_slips(text: str, found: list[tuple[str, str, str]]) -> None:
    assert [tuple(slip) for slip in parse(text, GRAMMAR).slips] == found


@pytest.mark.parametrize("prefix", ["-", "*", "+", "#", ">"])
def test_a_list_is_no_command_with_a_blank(prefix: str) -> None:
    assert parse(f"{prefix} coder", Grammar(KEYS, prefix)).slips == ()


def test_unknown_words_without_end_are_not_all_looked_at() -> None:
    assert len(parse("!coder" + " !x" * 5000, GRAMMAR).slips) < 20


USUAL = Grammar(KEYS)
OWN = Grammar(KEYS, ";", usual=USUAL)


def test_the_admins_prefix_still_reaches_us() -> None:
    assert OWN.read("!agent settings reset").console == Command("settings", "reset")
    assert OWN.read("!agent").console == Command("help")
    assert OWN.read("!coder x") == parse("!coder x", Grammar(KEYS, ";"))
    assert OWN.read(";coder x").commands == (persona("coder", "x"),)
    assert OWN.read("!agent\n!coder x").commands == ()


def test_earlier_messages_are_read_with_the_admins_prefix_too() -> None:
    messages = [
        user("!teacher explain it"),
        bot("so"),
        user("!agent settings prefix ;"),
        bot("Done."),
        user(";writer and you?"),
        bot("well"),
        user("!coder is what?"),
    ]
    assert strip_commands(messages, OWN) == [
        user("explain it"),
        bot("so"),
        user("and you?"),
        bot("well"),
        user("!coder is what?"),
    ]


@pytest.mark.parametrize("prefix", ["/", "#", ".", "!!", "§§", "(", "[", "*", "+", "^", "$", "?", "|"])
def test_prefixes_are_taken_literally(prefix: str) -> None:
    grammar = Grammar(KEYS, prefix)
    assert parse(f"{prefix}coder hi", grammar).commands == (persona("coder", "hi"),)
    assert parse(f"\\{prefix}coder hi", grammar).text == f"{prefix}coder hi"
    assert parse("~coder hi", grammar).commands == ()
    if prefix not in ("!", "!!"):
        assert parse("!coder hi", grammar).commands == ()


def test_case_sensitivity() -> None:
    strict = Grammar(KEYS, case_sensitive=True)
    assert parse("!Coder hi", strict).commands == ()
    assert parse("!Coder hi", strict).unknown == "Coder"
    assert parse("!Reset", strict).commands == ()
    assert parse("!coder hi", strict).commands == (persona("coder", "hi"),)
    assert parse("!Coder hi", Grammar({"Coder"}, case_sensitive=True)).commands == (persona("Coder", "hi"),)


def test_console_and_switch() -> None:
    assert parse("!agent list", GRAMMAR).console == Command("list")
    assert parse("a\n!agent list\nb", GRAMMAR).console == Command("list", None, "b", unsent="a\n\nb")
    assert parse("!coder\n!agent list", GRAMMAR).console is None
    assert parse("!coder a !writer b", GRAMMAR).switch == persona("writer", "b")
    assert parse("!coder a\n!reset", GRAMMAR).switch == Command("reset")
    assert parse("!agent", GRAMMAR).switch is None
    assert parse("!coder a\n!reset", GRAMMAR).resets
    assert not parse("!reset a !coder b", GRAMMAR).resets
    assert not parse("hello", GRAMMAR).resets
    assert parse("hello", GRAMMAR).switch is None


def test_begins() -> None:
    assert parse("!coder a", GRAMMAR).begins
    assert parse("\n !coder a", GRAMMAR).begins
    assert not parse("a\n!coder b", GRAMMAR).begins
    assert not parse("\\!coder a", GRAMMAR).begins


# ---------------------------------------------------------------- any text

SNIPPETS = st.sampled_from(
    [
        "!coder",
        "!writer",
        "!CODER:",
        "!important",
        "!agent",
        "!agent list",
        "!reset",
        "\\!coder",
        "\\",
        "!",
        "`",
        "``",
        "```",
        "```py\n",
        "~~~",
        "    ",
        "\t",
        "\n",
        "\r\n",
        " ",
        "word",
        "ä",
        "\u00a0",
        "\u2028",
        "https://x/!coder",
        "💻",
        "\ud800",
        "\x00",
    ]
)
TEXTS = st.one_of(st.text(), st.lists(SNIPPETS | st.text(max_size=4), max_size=30).map("".join))


@given(TEXTS.filter(lambda text: "!" not in text and "！" not in text))
def test_text_without_the_prefix_comes_back_unchanged(text: str) -> None:
    parsed = parse(text, GRAMMAR)
    assert parsed.text is text
    assert (parsed.commands, parsed.unknown) == ((), None)


@given(TEXTS)
def test_text_without_known_words_comes_back_unchanged(text: str) -> None:
    parsed = parse(text, Grammar(frozenset({"nobodycallsthis"})))
    if not re.search(r"!(agent|reset|default|normal)", text, re.IGNORECASE):
        assert parsed.text == text
        assert parsed.commands == ()


def _is_command(token: str) -> bool:
    word = token.lstrip("\\").removeprefix("!").rstrip(":,!?.;").lower()
    return "!" in token and (word in KEYS or word in {"reset", "default", "normal", "agent"})


@given(TEXTS)
def test_words_that_are_no_commands_survive_in_order(text: str) -> None:
    parsed = parse(text, GRAMMAR)
    spoken = [word for word in text.split() if not _is_command(word)]
    kept = [word for word in parsed.text.split() if not _is_command(word)]
    if any(command.kind in ("help", "list") for command in parsed.commands):
        spoken = [word for word in spoken if word.lower() not in ("list", "help")]
        kept = [word for word in kept if word.lower() not in ("list", "help")]
    assert kept == spoken


@given(TEXTS)
def test_the_texts_of_the_commands_are_the_text(text: str) -> None:
    parsed = parse(text, GRAMMAR)
    if parsed.begins:
        spoken = [word for command in parsed.commands for word in command.text.split()]
        assert spoken == parsed.text.split()


@given(TEXTS)
def test_what_is_left_holds_no_command(text: str) -> None:
    parsed = parse(text, GRAMMAR)
    if parsed.commands and "\\" not in text and parsed.console is None:
        again = parse(parsed.text, GRAMMAR)
        # Taking a command out never makes another one of what stood behind it. Code is told by its lines,
        # so text that holds code marks is left to the table above.
        # And `!coder!` is one at the very start only.
        if not any(mark in text for mark in ("`", "~~~")) and not re.search(r"[\w-][!?.;]", text):
            assert again.commands == ()


@given(st.sampled_from(sorted(KEYS)), st.text(alphabet=st.characters(exclude_characters="!`~\\\t\n\r ")))
def test_a_command_in_front_of_any_word(key: str, word: str) -> None:
    parsed = parse(f"!{key} x{word}", GRAMMAR)
    assert words_of(parsed.commands) == [("persona", key, f"x{word}".rstrip())]


# ---------------------------------------------------------------- hostile sizes


@pytest.mark.parametrize(
    "text",
    [
        "!" + "`" * 10_000_000,
        "!coder " * 3_000_000,
        "!coder\n" * 1_000_000,
        "!" + "".join("`" * n + " " for n in range(1, 3000)),
        "!\n" + "```\n~~~\n" * 500_000,
        "!x" + " " * 5_000_000 + "!coder",
        "!" + "a" * 5_000_000,
        "\\!" * 2_000_000,
        "!coder" + "\n" * 5_000_000,
        "!coder " + "- " * 2_000_000,
        "    !coder\n" * 500_000,
        "!coder " + "!codr " * 2_000_000,
        "\u200b" * 3_000_000 + "!coder",
        "!coder\n" + "x ```\n" * 500_000,
        "!coder\n" + "a`b`" * 2_000_000,
        "!coder\n" + "`a\n" * 2_000_000,
        "<attached_files>\n" + "<file />\n" * 500_000 + "!coder",
    ],
    ids=lambda text: f"{text[:8]!r}x{len(text)}",
)
def test_hostile_sizes_finish(text: str) -> None:
    parsed = parse(text, GRAMMAR)
    assert len(parsed.commands) <= COMMAND_LIMIT
    assert strip_commands([{"role": "user", "content": text}], GRAMMAR)


def test_what_stands_behind_the_limit_is_text() -> None:
    text = "x" * SCAN_LIMIT + "\n!coder late"
    assert parse(text, GRAMMAR).text == text


def test_the_limit_cuts_no_word_into_a_command() -> None:
    text = "x" * (SCAN_LIMIT - 7) + "\n!coders are people"
    assert text[:SCAN_LIMIT].endswith("\n!coder")
    assert parse(text, GRAMMAR).text == text


def test_command_that_ends_with_the_limit_and_the_message() -> None:
    text = "x" * (SCAN_LIMIT - 7) + "\n!coder"
    assert [command.key for command in parse(text, GRAMMAR).commands] == ["coder"]


def test_so_many_commands_count_and_the_rest_is_text() -> None:
    parsed = parse("!coder x " * (COMMAND_LIMIT + 5), GRAMMAR)

    assert len(parsed.commands) == COMMAND_LIMIT
    assert parsed.text.count("!coder x") == 5


@pytest.mark.parametrize(
    "text",
    [
        "!persona1 coder !multi " + "!coder " * 2800,
        "!coder\n" * 2800,
        "!coder " + "` " * 9000 + " !writer",
        "!coder " + "` !coder " * 2000,
        "x\n" + "```\n" * 4900 + "\n!coder",
        "\\!coder\n" * 2400,
        "\n" * 19_000 + "!coder",
    ],
    ids=lambda text: repr(text[:12]),
)
def test_a_full_message_costs_little(text: str) -> None:
    fastest = min(timeit.repeat(lambda: parse(text, GRAMMAR), number=1, repeat=5))

    assert fastest < 0.02  # a millisecond on a machine that does nothing else


# ---------------------------------------------------------------- transcripts


def test_a_turn_parses_each_message_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    monkeypatch.setattr(
        "agent_mode.chat.commands.parse", lambda text, grammar: parsed.append(text) or parse(text, grammar)
    )
    grammar = Grammar(KEYS)
    messages = [user("!persona1 coder"), bot("Ok."), user("!writer Hi"), bot("Hi."), user("More!")]

    assert bindings(messages, grammar) == {}
    strip_commands(messages, grammar)
    detect_agent_switch(messages, "coder", grammar)

    assert sorted(parsed) == ["!persona1 coder", "!writer Hi", "More!"]


def test_of_a_huge_transcript_the_newest_commands_count() -> None:
    huge = [user("!coder " + "x" * SCAN_LIMIT), bot("Ok.")] * 100
    messages = [user("!persona1 coder"), bot("Ok."), *huge, user("!persona2 writer"), user("Hi")]

    assert bindings(messages, Grammar(KEYS)) == {2: "writer"}
    clean = strip_commands(messages, Grammar(KEYS))

    assert clean[0]["content"] == "!persona1 coder"
    assert [message["content"] for message in clean[-3:]] == ["x" * SCAN_LIMIT, "Ok.", "Hi"]
    read = sum(len(message["content"]) == SCAN_LIMIT for message in clean)
    assert read == TRANSCRIPT_LIMIT // (SCAN_LIMIT + MESSAGE_COSTS)


def test_long_texts_that_hold_no_command_leave_the_older_ones_theirs() -> None:
    code = "if (a != b) { return !done }\n" * 600
    messages = [user("!persona1 coder"), bot("Ok."), *[user(code), bot("Fine.")] * 50, user("Hi")]

    assert bindings(messages, Grammar(KEYS)) == {1: "coder"}


# ---------------------------------------------------------------- messages


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("hello", "hello"),
        (None, ""),
        (5, ""),
        ([], ""),
        ([{"type": "text", "text": "a"}, IMAGE, {"type": "text", "text": "b"}], "a\nb"),
        ([{"type": "text", "text": None}, {"type": "text"}, "a", 7], ""),
    ],
)
def test_message_text(content: Any, text: str) -> None:
    assert message_text({"role": "user", "content": content}) == text


def test_with_text_keeps_other_parts_in_place() -> None:
    audio = {"type": "input_audio", "input_audio": {"data": "AA"}}
    message = {"role": "user", "name": "Bob", "content": [{"type": "text", "text": "!coder a"}, IMAGE, audio]}
    before = copy.deepcopy(message)
    assert with_text(message, "a") == {
        "role": "user",
        "name": "Bob",
        "content": [{"type": "text", "text": "a"}, IMAGE, audio],
    }
    assert with_text(message, "")["content"] == [IMAGE, audio]
    assert with_text({"role": "user", "content": "x"}, "y") == {"role": "user", "content": "y"}
    assert message == before


def test_has_attachment() -> None:
    assert has_attachment({"content": [IMAGE]})
    assert not has_attachment({"content": [{"type": "text", "text": "a"}]})
    assert not has_attachment({"content": "a"})
    assert not has_attachment({})
    assert comes_with_attachment([user("a"), user([IMAGE]), bot("b")])
    assert not comes_with_attachment([user([IMAGE]), user("a"), bot([IMAGE])])
    assert not comes_with_attachment([])


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def bot(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def test_strip_drops_an_exchange_that_was_only_a_command() -> None:
    messages = [
        {"role": "system", "content": "!coder is a command here"},
        user("hi"),
        bot("hello"),
        user("!agent list"),
        bot("| table |"),
        user("!coder"),
        bot("Coder answers from now on."),
        user("!coder fix it"),
        bot("!coder done"),
        user("!writer now you"),
    ]
    before = copy.deepcopy(messages)
    assert strip_commands(messages, GRAMMAR) == [
        {"role": "system", "content": "!coder is a command here"},
        user("hi"),
        bot("hello"),
        user("fix it"),
        bot("!coder done"),
        user("now you"),
    ]
    assert messages == before


def test_strip_keeps_the_last_user_message_and_what_follows_it() -> None:
    tail = [bot(None) | {"tool_calls": [{"id": "1"}]}, {"role": "tool", "tool_call_id": "1", "content": "42"}]
    assert strip_commands([user("a"), bot("b"), user("!coder"), *tail], GRAMMAR) == [
        user("a"),
        bot("b"),
        user(""),
        *tail,
    ]


def test_strip_keeps_images_of_a_command_only_message() -> None:
    messages = [
        user([{"type": "text", "text": "!coder"}, IMAGE]),
        bot("I see a cat"),
        user([{"type": "text", "text": "!writer and"}, IMAGE, {"type": "text", "text": "this?"}]),
    ]
    assert strip_commands(messages, GRAMMAR) == [
        user([IMAGE]),
        bot("I see a cat"),
        user([{"type": "text", "text": "and\nthis?"}, IMAGE]),
    ]


def test_strip_leaves_what_holds_no_command_as_it_is() -> None:
    parts = user([{"type": "text", "text": "a"}, {"type": "text", "text": "b !important"}])
    messages = [parts, bot(None), user(None), user("c !important")]
    assert strip_commands(messages, GRAMMAR) == messages


FILES = '<attached_files>\n<file type="file" url="f1" name="a.txt"/>\n<file url="f2"/>\n</attached_files>\n\n'


def test_files_in_front_are_no_words_of_the_user() -> None:
    assert last_text([user(FILES + "!coder fix it")]) == "!coder fix it"
    # With an image they are a part of their own.
    parts = [{"type": "text", "text": FILES}, {"type": "text", "text": "!coder fix it"}, IMAGE]
    assert last_text([user(parts)]) == "!coder fix it"
    assert last_text([user(FILES)]) == ""
    assert last_text([user("<attached_files>\n!coder")]) == "<attached_files>\n!coder"
    assert last_text([user("see <attached_files>")]) == "see <attached_files>"


def test_the_model_still_sees_the_files() -> None:
    messages = [
        user(FILES + "!coder fix it"),
        bot("done"),
        user(FILES + "!agent list"),
        bot("| table |"),
        user([{"type": "text", "text": FILES}, {"type": "text", "text": "!writer now you"}, IMAGE]),
    ]
    assert strip_commands(messages, GRAMMAR) == [
        user(FILES + "fix it"),
        bot("done"),
        user([{"type": "text", "text": FILES + FILES + "\nnow you"}, IMAGE]),
    ]


def test_files_of_a_lone_command_stay_for_the_next_words() -> None:
    messages = [user(FILES + "!coder"), bot("Coder answers from now on."), user("what is in it?")]
    assert strip_commands(messages, GRAMMAR) == [user(FILES + "what is in it?")]


def test_strip_tells_our_answers_by_the_command() -> None:
    messages = [
        user("!agent list\nhow do I reverse a list?"),
        bot("| table |"),
        user("how?\n!agent"),
        bot("help"),
        user([{"type": "text", "text": "!agent settings"}, IMAGE]),
        bot("| settings |"),
        user("so?"),
    ]
    assert strip_commands(messages, GRAMMAR) == [user("so?")]


def test_strip_tells_a_typing_error_by_our_answer() -> None:
    ours = did_you_mean("codr", "coder", "!")
    messages = [
        user("!codr x"),
        bot(ours),
        user("!important y"),
        bot("I don't know what you mean."),
        user("!codr z"),
        bot("I take it that you mean Coder."),
        user("!codr last"),
        bot(ours),
    ]
    assert strip_commands(messages, GRAMMAR) == messages[2:]
