"""Journey 10: a user reaches what their groups allow, whatever they type and whichever agent they ask."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.agents import agents
from tests.e2e.driver import Window
from tests.e2e.personas import CATALOGUE, check, prompts_in
from tests.e2e.stand import PLAIN, PUBLIC, ScriptedProvider, Stand
from tests.e2e.webui import EVERYBODY

TEACHER = "🍎 Teacher"
SECRET = "personas.teacher"
"""For the group of Ann; Bob is in another one."""
REFUSED = f"You may not use {TEACHER} here. Ask an admin for access to that model."
TABLE = "month,sales\nJanuary,10\nFebruary,32"


@pytest.fixture(scope="module")
def boss(stand: Stand) -> Iterator[str]:
    """An agent for everyone, which may call all others."""
    form = {
        "agent_type": "llamaindex_workflow",
        "definition": {"instructions": "You hand out the work."},
        "valves": {"allowed_agents": "*"},
    }
    with agents(stand, {"boss": form}):
        yield "boss"


def test_the_list_holds_what_the_groups_allow(stand: Stand, ann: Window, bob: Window) -> None:
    everything = {f"personas.{key}" for key in CATALOGUE}
    assert everything & set(stand.admin.models()) == everything
    for window, allowed in ((ann, {*PUBLIC, SECRET}), (bob, set(PUBLIC))):
        seen = {model for model in window.account.models() if model.startswith("personas.")}
        assert seen == allowed
        window.new_chat(PLAIN)
        assert (TEACHER in window.models("Teacher")) == (SECRET in allowed)
        assert "📝 Writer" in window.models("Writer")


def test_open_webui_itself_refuses_the_model(stand: Stand, provider: ScriptedProvider) -> None:
    assert stand.bob.complete(SECRET, "say: hello").status_code in (400, 401, 403, 404)
    assert provider.chats == []
    assert "hello" in stand.ann.complete(SECRET, "say: hello").text


@pytest.mark.parametrize("model", ["personas.coder", PLAIN])
def test_commands_do_not_get_round_it(bob: Window, provider: ScriptedProvider, model: str) -> None:
    bob.new_chat(model)
    bob.ask("say: here I am")
    for words in (
        "!teacher",
        "!teacher say: secrets",
        "!writer say: one !teacher say: two",
        "!persona1 teacher say: secrets",
    ):
        answer = bob.ask(words)
        assert REFUSED in (answer.text or "".join(answer.errors)), words
    assert len(provider.turns) == 1, "no model was asked"

    assert bob.ask("say: as before").text == "as before"
    assert prompts_in(provider.turns[-1]) == (["coder"] if model != PLAIN else [])
    bob.ask("!writer say: in words")
    check(provider.turns[-1], "writer", after="coder" if model != PLAIN else "")


@pytest.mark.parametrize("model", ["personas.coder", PLAIN])
def test_who_may_use_it_may_call_it(ann: Window, provider: ScriptedProvider, model: str) -> None:
    ann.new_chat(model)
    assert ann.ask("!teacher say: with pleasure").text == "with pleasure"
    assert prompts_in(provider.turns[-1]) == ["teacher"]


@pytest.mark.parametrize("model", ["personas.coder", PLAIN])
def test_the_browser_shows_what_can_be_called(ann: Window, bob: Window, model: str) -> None:
    for window, offered in ((ann, ["Teacher"]), (bob, [])):
        window.new_chat(model)
        browser = window.embed(window.ask("!agent list"))
        browser.locator("#search").fill("Teacher")
        window.page.wait_for_timeout(300)
        shown = browser.locator(".card:visible .name").all_inner_texts()
        assert [name for name in shown if name == "Teacher"] == offered


def test_an_agent_does_not_call_it_for_them(
    stand: Stand, ann: Window, bob: Window, provider: ScriptedProvider, boss: str
) -> None:
    task = json.dumps({"agent": "teacher", "task": "say: secrets of the teacher"})
    errand = f"call: call_agent {task}\nthen say: It said {{results}}."
    for window, expected in (
        (ann, "It said secrets of the teacher."),
        (bob, f"The user may not use {TEACHER}"),
    ):
        provider.clear()
        window.new_chat(boss)
        assert expected in window.ask(errand).text
        asked = [recorded for recorded in provider.turns if prompts_in(recorded) == ["teacher"]]
        assert len(asked) == (1 if window is ann else 0)


def test_a_file_agent_does_not_call_it_for_them(
    stand: Stand, ann: Window, bob: Window, provider: ScriptedProvider
) -> None:
    stand.admin.share_model("data_analyst", EVERYBODY)
    ann.new_chat("data_analyst")
    assert "Hello from stub: Explain in short" in ann.ask(TABLE).text
    assert prompts_in(provider.turns[-1]) == ["teacher"]

    provider.clear()
    bob.new_chat("data_analyst")
    answer = bob.ask(TABLE)
    assert "sales" in answer.text, "what it had computed stays"
    assert [f"The user may not use {TEACHER}" in error for error in answer.errors] == [True]
    assert provider.turns == []
    bob.reload()
    assert bob.answer.errors == answer.errors
