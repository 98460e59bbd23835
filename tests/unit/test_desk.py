"""`!agent settings`, `history` and `rollback`: what they change, what they refuse, and what they say."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent_mode.chat import desk
from agent_mode.chat.commands import Grammar, parse
from agent_mode.chat.context import User
from agent_mode.chat.runtime import Runtime
from agent_mode.errors import StoreError
from agent_mode.store.agent_forms import AgentForm
from agent_mode.store.personas import Keep, Persona, PersonaForm
from agent_mode.store.users import NOTHING_SET, UserSettings
from tests.runtimes import settings

ANN, BOB = User("ann"), User("bob")
ADMIN = User("root", admin=True)
KEYS = frozenset({"coder", "teacher", "gone"})


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Runtime]:
    opened = await Runtime.open(settings(tmp_path))
    yield opened
    await opened.close()


async def say(runtime: Runtime, text: str, user: User = ANN, prefix: str = "!") -> str:
    usual = Grammar(KEYS)
    grammar = usual if prefix == "!" else Grammar(KEYS, prefix, usual=usual)
    command = parse(text, grammar).console
    assert command is not None
    assert command.kind in desk.KINDS
    return await desk.act(runtime, command, user, grammar)


async def persona(runtime: Runtime, key: str = "coder") -> Persona:
    found = await runtime.persona_store.get(key)
    assert found is not None
    return found


async def change(runtime: Runtime, prompt: str, author: str = "ann", message: str = "") -> None:
    fields: dict[str, Any] = {
        name: getattr(await persona(runtime), name) for name in PersonaForm.model_fields
    }
    form = PersonaForm.model_validate({**fields, "prompt": prompt})
    await runtime.persona_store.save(form, author=author, message=message)


# Settings


async def test_settings_are_shown_with_what_each_means(runtime: Runtime) -> None:
    shown = await say(runtime, "!agent settings")

    for row in ("| persistence | as the admin set it |", "| info | as", "| prefix | as"):
        assert row in shown
    assert "`!agent settings persistence on`" in shown
    assert await runtime.users.get("ann") == NOTHING_SET


@pytest.mark.parametrize(
    ("words", "settings", "row"),
    [
        ("persistence on", UserSettings(persistence=True), "| persistence | on |"),
        ("persistence off", UserSettings(persistence=False), "| persistence | off |"),
        ("info off", UserSettings(info=False), "| info | off |"),
        ("INFO On", UserSettings(info=True), "| info | on |"),
        ("  info   on  ", UserSettings(info=True), "| info | on |"),
        ("prefix ;", UserSettings(prefix=";"), "| prefix | `;` |"),
        ("prefix ++", UserSettings(prefix="++"), "| prefix | `++` |"),
        ("prefix |", UserSettings(prefix="|"), "| prefix | `\\|` |"),
        ("prefix §", UserSettings(prefix="§"), "| prefix | `§` |"),
    ],
)
async def test_a_setting_is_kept_and_shown(
    runtime: Runtime, words: str, settings: UserSettings, row: str
) -> None:
    answer = await say(runtime, f"!agent settings {words}")

    assert answer.startswith("Done.\n\n")
    assert row in answer
    assert await runtime.users.get("ann") == settings
    assert await runtime.users.get("bob") == NOTHING_SET


async def test_settings_add_up_until_they_are_reset(runtime: Runtime) -> None:
    for words in ("persistence on", "info off", "prefix ;"):
        await say(runtime, f"!agent settings {words}")
    assert await runtime.users.get("ann") == UserSettings(persistence=True, info=False, prefix=";")

    answer = await say(runtime, ";agent settings reset", prefix=";")

    assert await runtime.users.get("ann") == NOTHING_SET
    assert "| prefix | as the admin set it |" in answer
    assert "`!agent settings persistence on`" in answer, "the prefix that holds from now on"
    assert "`;agent" not in answer


async def test_the_answer_speaks_the_new_prefix(runtime: Runtime) -> None:
    answer = await say(runtime, "!agent settings prefix +")

    assert "`+agent settings persistence on`" in answer
    assert "`!agent" not in answer


@pytest.mark.parametrize(
    "words",
    [
        "persistence",
        "persistence maybe",
        "persistence on please",
        "colour on",
        "on persistence",
        "prefix",
        "prefix a",
        "prefix 1",
        "prefix !!!!",
        "prefix ! !",
        "prefix \\",
        "prefix `",
        "prefix _",
        "prefix /",
        "prefix //",
        "prefix @",
        "prefix #",
        "prefix $",
        "prefix x!",
        "reset now",
        "persona coder",
        "[x](http://evil) | <b>",
    ],
)
async def test_what_cannot_be_set_changes_nothing_and_says_how(runtime: Runtime, words: str) -> None:
    await say(runtime, "!agent settings info off")

    answer = await say(runtime, f"!agent settings {words}")

    assert answer.startswith("I cannot set “")
    assert "`!agent settings persistence on`" in answer
    assert "[x](" not in answer
    assert "<b>" not in answer
    assert await runtime.users.get("ann") == UserSettings(info=False)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("info", "`info` is `on` or `off`."),
        ("persistence maybe", "`persistence` is `on` or `off`."),
        ("colour on", "The settings are `persistence`, `info` and `prefix`."),
        ("prefix /", "Open WebUI opens a menu where a message begins with `/`."),
        ("prefix a", "A prefix is one to three characters"),
        ("reset now", "`reset` takes nothing behind it."),
        ("foo [bar]", "“foo [bar]”"),
    ],
)
async def test_what_cannot_be_set_says_why(runtime: Runtime, words: str, why: str) -> None:
    answer = await say(runtime, f"!agent settings {words}")
    assert why in answer
    assert ("one to three" in answer) == (words == "prefix a")


async def test_words_on_other_lines_were_not_sent(runtime: Runtime) -> None:
    assert "were not sent" in await say(runtime, "!agent settings\nhow do I x?")
    assert "were not sent" in await say(runtime, "how do I x?\n!agent history coder", ADMIN)
    assert "were not sent" not in await say(runtime, "!agent settings")


async def test_settings_need_a_user(runtime: Runtime) -> None:
    for words in ("", "persistence on"):
        assert "belong to a user" in await say(runtime, f"!agent settings {words}", User())


async def test_a_failing_store_is_told_in_the_chat(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise StoreError("The database is away.", hint="Try again.")

    monkeypatch.setattr(runtime.users, "change", fail)
    monkeypatch.setattr(runtime.persona_store, "history", fail)

    assert await say(runtime, "!agent settings info on") == "The database is away. Try again."
    assert await say(runtime, "!agent history coder", ADMIN) == "The database is away. Try again."


# History


async def test_the_history_is_a_table_newest_first(runtime: Runtime) -> None:
    await change(runtime, "You write code, well.", author="ann", message="better")

    head, _, newest, oldest = (
        (await say(runtime, "!agent history coder", ADMIN)).split("\n\n", 1)[1].split("\n")
    )

    assert head == "| Version | When (UTC) | Who | Why | Hash |"
    assert newest.startswith("| 1.0.1 | 20")
    assert "| ann | better | `" in newest
    assert oldest.startswith("| 1.0.0 | 20")
    assert "| catalogue | added | `" in oldest


@pytest.mark.parametrize("words", ["coder", "!coder", " CODER "])
async def test_the_persona_may_be_named_in_any_way(runtime: Runtime, words: str) -> None:
    assert (await say(runtime, f"!agent history {words}", ADMIN)).startswith("### coder")


@pytest.mark.parametrize("user", [ANN, User(), User(None, admin=False)], ids=str)
@pytest.mark.parametrize("words", ["coder", "", "nobody"])
async def test_only_an_admin_may_look_at_versions(runtime: Runtime, words: str, user: User) -> None:
    answer = await say(runtime, f"!agent history {words}", user)

    assert answer == "Only an admin of Open WebUI can look at the versions of a persona."


async def test_a_history_of_nobody_asks_whose(runtime: Runtime) -> None:
    assert await say(runtime, "!agent history", ADMIN) == "Whose history? Write `!agent history coder`."


@pytest.mark.parametrize("words", ["nobody", "coder teacher", "!agent", "1.0.0", "a\x00b"])
async def test_a_history_of_somebody_unknown_says_so(runtime: Runtime, words: str) -> None:
    answer = await say(runtime, f"!agent history {words}", ADMIN)
    assert answer.startswith("There is no persona “")
    assert "did you mean" not in answer


async def test_a_misspelled_name_gets_a_suggestion(runtime: Runtime) -> None:
    for text in ("!agent history codr", "!agent rollback codr 1.0.0"):
        assert "“codr” — did you mean `coder`?" in await say(runtime, text, ADMIN)


async def test_the_versions_of_an_agent(runtime: Runtime) -> None:
    form = AgentForm.parse({"id": "2fast", "name": "2 Fast", "agent_type": "persona"})
    await runtime.agent_store.create(form, "ann", "why not")
    await runtime.agent_store.set_enabled("2fast", False, "bob")

    answer = await say(runtime, "!agent history 2fast", ADMIN)

    assert re.findall(r"\| 1\.0\.(\d) ", answer) == ["1", "0"]
    assert "| ann | why not |" in answer
    assert answer.endswith("on the Agents page, under **History**.")
    assert "on the Agents page" in await say(runtime, "!agent rollback 2fast 1.0.0", ADMIN)


async def test_versions_of_somebody_who_is_gone(runtime: Runtime) -> None:
    await runtime.persona_store.delete("writer")

    assert "| 1.0.0 |" in await say(runtime, "!agent history writer", ADMIN)
    assert "is as it was" in await say(runtime, "!agent rollback writer 1.0.0", ADMIN)


async def test_a_persona_without_versions(runtime: Runtime) -> None:
    assert await say(runtime, "!agent history gone", ADMIN) == "No version of `gone` is kept."


async def test_a_long_history_is_cut(runtime: Runtime) -> None:
    for number in range(24):
        await change(runtime, f"You write code, version {number}.")

    answer = await say(runtime, "!agent history coder", ADMIN)

    assert answer.count("\n| 1.0.") == 20
    assert "| 1.0.24 |" in answer
    assert answer.endswith("5 older ones.")


async def test_who_and_why_cannot_break_the_table(runtime: Runtime) -> None:
    await change(runtime, "You write code.", author="a|b\nc", message="<img src=x> | [x](y)")

    answer = await say(runtime, "!agent history coder", ADMIN)

    (row,) = [line for line in answer.split("\n") if line.startswith("| 1.0.1")]
    assert row.replace("\\|", "").count("|") == 6
    assert "<img" not in row.replace("\\<", "")


# Rollback


async def test_a_rollback_brings_the_old_text_back_as_a_new_version(runtime: Runtime) -> None:
    before = await persona(runtime)
    await change(runtime, "You write code, well.")
    await runtime.personas.refresh(runtime.persona_store)

    answer = await say(runtime, "!agent rollback coder 1.0.0", ADMIN)

    assert answer == "**💻 Coder** is as it was in version 1.0.0."
    assert (await persona(runtime)).prompt == before.prompt
    newest = (await runtime.persona_store.history("coder"))[0]
    assert (newest.label, newest.author, newest.message) == ("1.0.2", "root", "rolled back to 1.0.0")
    # The next turn speaks so already.
    assert runtime.rosters.offered(None).by_key["coder"].prompt == before.prompt
    assert [backup.reason for backup in await runtime.backups.list()] == [
        "before rolling coder back to 1.0.0"
    ]
    [record], _ = await runtime.audit.page(0, 10)
    told = (record.actor, record.action, record.kind, record.target, record.text, record.way)
    assert told == ("root", "rolled back", "persona", "coder", "to 1.0.0", "chat")


@pytest.mark.parametrize("user", [ANN, User(), User(None, admin=False)], ids=str)
async def test_only_an_admin_may_roll_back(runtime: Runtime, user: User) -> None:
    await change(runtime, "You write code, well.")
    before = await persona(runtime)

    for words in ("coder 1.0.0", "coder", "", "nobody 9"):
        answer = await say(runtime, f"!agent rollback {words}", user)
        assert answer == "Only an admin of Open WebUI can roll a persona back."

    assert await persona(runtime) == before
    assert len(await runtime.persona_store.history("coder")) == 2


@pytest.mark.parametrize("words", ["", "coder", "coder  ", "1.0.0"])
async def test_a_rollback_to_nothing_asks_to_which(runtime: Runtime, words: str) -> None:
    before = await persona(runtime)

    answer = await say(runtime, f"!agent rollback {words}", ADMIN)

    assert answer == "To which version? Write `!agent rollback coder 1.0.2`."
    assert await persona(runtime) == before


@pytest.mark.parametrize(
    "label", ["1.0.7", "7", "1.0.-1", "first", "1.0.0; drop table persona", "1.0." + "9" * 30]
)
async def test_a_rollback_to_an_unknown_version_says_which_there_are(runtime: Runtime, label: str) -> None:
    before = await persona(runtime)

    answer = await say(runtime, f"!agent rollback coder {label}", ADMIN)

    assert answer.startswith("There is no version ")
    assert "There is only 1.0.0." in answer
    assert await persona(runtime) == before


async def test_a_rollback_of_nobody_says_so(runtime: Runtime) -> None:
    for words in ("nobody 1.0.0", "1.0.0 coder"):
        answer = await say(runtime, f"!agent rollback {words}", ADMIN)
        assert answer.startswith("There is no persona “")


async def test_a_rollback_without_any_versions(runtime: Runtime) -> None:
    assert "It has no versions." in await say(runtime, "!agent rollback gone 1.0.0", ADMIN)


async def test_a_rollback_works_while_versioning_is_off(runtime: Runtime) -> None:
    before = await persona(runtime)
    await change(runtime, "You write code, well.")
    runtime.persona_store.keep = Keep(False, 50)

    await say(runtime, "!agent rollback !coder 1.0.0", ADMIN)

    assert (await persona(runtime)).prompt == before.prompt
