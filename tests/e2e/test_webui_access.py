"""Journey 10: a user reaches what their groups allow, whatever they type and whichever agent they ask."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.agents import agents
from tests.e2e.driver import Window
from tests.e2e.personas import CATALOGUE, check, prompts_in
from tests.e2e.rest_chat import RestChat
from tests.e2e.stand import PLAIN, PUBLIC, ScriptedProvider, Stand
from tests.e2e.webui import EVERYBODY, Connection
from tests.server.servers import eventually

TEACHER = "🍎 Teacher"
SECRET = "personas.teacher"
"""For the group of Ann; Bob is in another one."""
REFUSED = f"You may not use {TEACHER} here. Ask an admin for access to that model."
Connect = Callable[..., None]
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
    assert f"Nobody explains it: The user may not use {TEACHER}" in answer.text
    assert answer.errors == []
    assert provider.turns == []
    bob.reload()
    assert bob.answer.text == answer.text


@pytest.fixture
def connected(stand: Stand) -> Iterator[Connect]:
    """Connects our server with other options, until the test ends."""

    def connect(**config: Any) -> None:
        ours = Connection(stand.ours.url, stand.ours.key, config)
        stand.admin.connect(ours, stand.plain_connection)

    yield connect
    stand.admin.connect(stand.connection, stand.plain_connection)


def test_with_model_ids_nobody_is_anybody_else(
    stand: Stand, provider: ScriptedProvider, connected: Connect
) -> None:
    """Open WebUI calls no inlet then, and lets through the `user` that its users write."""
    connected(model_ids=["personas.coder", "personas.writer"])
    for who in (stand.admin, stand.ann):
        forged = {"id": who.id, "name": who.name, "email": "x@example.org", "role": "admin"}
        answer = stand.bob.complete("personas.coder", "!agent history coder", user=forged).text
        assert "Only an admin of Open WebUI" in answer
        assert REFUSED in stand.bob.complete("personas.coder", "!teacher say: secrets", user=forged).text
    assert provider.turns == []
    assert "as before" in stand.bob.complete("personas.coder", "say: as before").text


def test_forged_ids_of_a_chat_reach_nothing_of_its_owner(
    stand: Stand, provider: ScriptedProvider, connected: Connect
) -> None:
    """One of Open WebUI's routes fills header templates from what the caller says."""
    connected(
        headers={
            "X-Agent-Mode-User-Id": "{{USER_ID}}",
            "X-Agent-Mode-User-Role": "{{USER_ROLE}}",
            "X-Agent-Mode-Chat-Id": "{{CHAT_ID}}",
            "X-Agent-Mode-Message-Id": "{{MESSAGE_ID}}",
            "X-Agent-Mode-Parent-Id": "{{USER_MESSAGE_PARENT_ID}}",
        }
    )
    chat = RestChat(stand.ann, "personas.coder")
    message_id = chat.ask("say: one")["id"]
    forged = {"chat_id": chat.id, "message_id": message_id, "user_message": {"parentId": None}}
    body = {"model": "personas.coder", "messages": [{"role": "user", "content": "!writer say: mine"}]}
    reply = stand.bob.post("/openai/chat/completions", {**body, "stream": False, "metadata": forged})
    assert reply["choices"][0]["message"]["content"] == "mine"

    def runs() -> set[tuple[str, str]]:
        items = stand.ours.get("/api/v1/runs/", params={"chat_id": chat.id}).json()["items"]
        return {(run["user_id"], run["agent"]) for run in items if run["message_id"] == message_id}

    assert eventually(lambda: len(runs()) == 2)
    assert runs() == {(stand.ann.id, "coder"), (stand.bob.id, "writer")}
    assert chat.ask("say: two")["content"] == "two"
    assert prompts_in(provider.turns[-1]) == ["coder"]
