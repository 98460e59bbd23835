"""Journey 1: an admin adds the URL, a user picks a persona and gets an answer."""

from __future__ import annotations

import pytest

from tests.e2e.driver import Window
from tests.e2e.personas import CATALOGUE, check, prompts_in
from tests.e2e.stand import TAGS, TITLE, ScriptedProvider, Stand


@pytest.fixture
def not_connected(stand: Stand):
    """Open WebUI without our server."""
    stand.admin.connect(stand.plain_connection)
    yield
    stand.admin.connect(stand.connection, stand.plain_connection)


@pytest.mark.usefixtures("not_connected")
def test_the_url_and_the_key_are_all_it_takes(stand: Stand, admin: Window) -> None:
    assert not [model for model in stand.admin.models() if model.startswith("personas.")]
    with admin.adding_a_connection() as (url, key):
        url.fill(stand.ours.url)
        key.fill(stand.ours.key)

    admin.new_chat()
    offered = admin.models("Writer")
    assert offered["📝 Writer"] == CATALOGUE["writer"]["description"]
    admin.pick("📝 Writer")
    answer = admin.ask("say: at your service")
    assert (answer.name, answer.text) == ("📝 Writer", "at your service")


def test_every_persona_has_its_name_and_description(stand: Stand, admin: Window) -> None:
    listed = stand.admin.models()
    for key, persona in CATALOGUE.items():
        entry = listed[f"personas.{key}"]
        assert entry["name"] == f"{persona['emoji']} {persona['name']}"
        assert entry["info"]["meta"]["description"] == persona["description"]
        assert entry["tags"]
    admin.new_chat()
    assert admin.models("translat")["🌐 Translator"] == CATALOGUE["translator"]["description"]
    assert not admin.models("Agent Mode console"), "the console model is hidden"


def test_the_answer_streams(ann: Window, provider: ScriptedProvider) -> None:
    ann.new_chat("personas.coder")
    ann.send("like: stub-slow")
    seen: set[str] = set()

    def grown() -> bool:
        seen.update(answer.text for answer in ann.answers)
        return not ann.busy and any("tok19" in text for text in seen)

    ann.until(grown)
    partial = [text for text in seen if "tok1 " in text and "tok19" not in text]
    assert len(partial) >= 3, f"it did not come piece by piece: {sorted(seen, key=len)}"
    check(provider.turns[-1], "coder")


def test_title_and_tags_are_made_without_the_persona(ann: Window, provider: ScriptedProvider) -> None:
    ann.new_chat("personas.coder")
    ann.ask("say: hello")
    ann.until(lambda: len(provider.tasks) >= 3)
    ann.until(lambda: ann.account.chat(ann.chat_id)["title"] == TITLE)
    ann.until(lambda: ann.page.get_by_text(TITLE).count() > 0)
    tags = ann.account.get(f"/api/v1/chats/{ann.chat_id}/tags")
    assert [tag["name"].lower() for tag in tags] == TAGS
    kinds = "title", "tags", "follow_ups"
    asked = [kind for task in provider.tasks for kind in kinds if f'"{kind}"' in str(task.body["messages"])]
    assert sorted(asked) == sorted(kinds)
    for task in provider.tasks:
        assert [message["role"] for message in task.body["messages"]] == ["user"]
        assert prompts_in(task) == []
        assert "tools" not in task.body
    assert len(provider.turns) == 1
