"""What is typed on the Agents page and not saved: through restarts, saves, conflicts and ways back."""

# Playwright is in the environment of the end-to-end tests alone.
# pyright: reportMissingImports=false
from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.e2e.admin import AdminPage
from tests.e2e.stand import OURS, Stand
from tests.server.servers import ROOT, make, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

LONG = 60_000
"""Milliseconds that a restart and the new page may take on a busy machine."""
PERSONA = {"key": "tailor", "name": "Tailor", "prompt": "You measure twice."}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, stand: Stand) -> Iterator[Stand]:
    """The stand with a server of its own, which may be stopped and whose strategies may be changed."""
    home = tmp_path_factory.mktemp("drafts")
    shutil.copytree(ROOT / "strategies", home / "strategies")
    environment = {"AGENT_MODE_STRATEGIES_DIR": str(home / "strategies"), "AGENT_MODE_MODEL": "stub-agent"}
    server = make(OURS, home / "home", stand.provider.base_url, foreign=(), environment=environment)
    with running(server):
        yield Stand(stand.webui, server, stand.stock, stand.provider, stand.admin, stand.ann, stand.bob)


@pytest.fixture
def window(own: Stand, chromium: Browser, admin_pages: list[AdminPage]) -> Iterator[AdminPage]:
    page = AdminPage(chromium, own.ours)
    admin_pages.append(page)
    yield page.sign_in()
    page.close()


@pytest.fixture
def tailor(own: Stand) -> Iterator[str]:
    reply = own.ours.post("/api/v1/personas/", PERSONA)
    assert reply.status_code == 201, reply.text
    yield "tailor"
    own.ours.request("DELETE", "/api/v1/personas/tailor")


@pytest.fixture
def clerk(own: Stand) -> Iterator[str]:
    body = {
        "id": "clerk",
        "name": "Clerk",
        "agent_type": "persona",
        "definition": {"instructions": "You file."},
    }
    reply = own.ours.post("/api/v1/agents/", body)
    assert reply.status_code == 201, reply.text
    yield "clerk"
    own.ours.request("DELETE", "/api/v1/agents/clerk")


def kept(window: AdminPage, words: str) -> None:
    """Waits until the browser's tab has what was typed."""
    window.page.wait_for_function(
        "words => JSON.stringify(sessionStorage).includes(words)", arg=words, timeout=LONG
    )


def restart(own: Stand, window: AdminPage, words: str) -> None:
    """Restarts the server below an open editor, whose tab has what was typed."""
    kept(window, words)
    own.ours.stop()
    popup = window.page.locator("#popup")
    expect(popup).to_be_visible()
    expect(popup).to_contain_text("Your text is kept")
    own.ours.spawn()
    own.ours.wait()
    expect(window.main.get_by_text("The server restarted. Your text is kept.")).to_be_visible(timeout=LONG)
    window.alive()
    assert window.dialogs == []


def saved(main: Locator) -> None:
    """Waits until nothing is unsaved, and the page may be left."""
    expect(main.get_by_text("Not saved", exact=True)).to_be_hidden()
    main.page.wait_for_function("!agentMode.dirty")


def test_a_restart_loses_nothing_of_a_new_agent(own: Stand, window: AdminPage) -> None:
    main = window.open("/agents/new/persona")
    main.get_by_label("Name").first.fill("Fresh one")
    main.get_by_label("Instructions").fill("You are fresh.")
    main.get_by_text("Limits, tools and connection").click()
    main.get_by_label("LLM API key").fill("sk-typed-here-and-nowhere-else")
    restart(own, window, '\\"secrets\\":true')
    assert "sk-typed" not in window.page.evaluate("JSON.stringify(sessionStorage)")
    expect(main.get_by_text("Secrets were not kept")).to_be_visible()
    expect(main.get_by_label("Instructions")).not_to_have_value("You are fresh.")
    main.get_by_role("button", name="Restore").click()
    expect(main.get_by_label("Instructions")).to_have_value("You are fresh.")
    expect(main.get_by_label("Id").first).to_have_value("fresh-one")
    expect(main.get_by_text("Not saved")).to_be_visible()
    main.get_by_role("button", name="Save", exact=True).click()
    saved(main)
    reply = own.ours.get("/api/v1/agents/fresh-one").json()
    assert reply["definition"]["instructions"] == "You are fresh."
    window.page.reload()
    window.alive()
    expect(main.get_by_label("Instructions")).to_have_value("You are fresh.")
    expect(main.get_by_role("button", name="Restore")).to_have_count(0)
    own.ours.request("DELETE", "/api/v1/agents/fresh-one")


def test_a_restart_loses_nothing_of_a_persona_that_others_changed(
    own: Stand, window: AdminPage, tailor: str
) -> None:
    main = window.open(f"/personas/{tailor}/edit")
    main.get_by_label("Instructions").fill("You measure three times.")
    kept(window, "three times")
    version = own.ours.get(f"/api/v1/personas/{tailor}").json()["version"]
    theirs = {**PERSONA, "prompt": "Of another.", "version": version}
    reply = own.ours.request("PUT", f"/api/v1/personas/{tailor}", json=theirs)
    assert reply.status_code == 200, reply.text
    restart(own, window, "three times")
    expect(main.get_by_text("Somebody has saved another version since")).to_be_visible()
    expect(main.get_by_label("Instructions")).to_have_value("Of another.")
    main.get_by_role("button", name="Restore").click()
    expect(main.get_by_label("Instructions")).to_have_value("You measure three times.")
    main.get_by_role("button", name="Save", exact=True).click()
    expect(main.get_by_text("was changed meanwhile by")).to_be_visible()
    expect(main.get_by_label("Comparison").first).to_contain_text("+ Of another.")
    main.get_by_role("button", name="Show theirs").click()
    expect(main.get_by_label("Instructions")).to_have_value("Of another.")
    window.page.get_by_role("button", name="Undo").click()
    expect(main.get_by_label("Instructions")).to_have_value("You measure three times.")
    main.get_by_role("button", name="Save", exact=True).click()
    main.get_by_role("button", name="Save mine over it").click()
    saved(main)
    prompt = own.ours.get(f"/api/v1/personas/{tailor}").json()["prompt"]
    assert prompt == "You measure three times."


def test_a_restart_loses_nothing_of_a_template(own: Stand, window: AdminPage) -> None:
    main = window.open("/strategies/templates/simple")
    text = main.locator(".cm-content")
    text.click()
    window.page.keyboard.press("Control+a")
    window.page.keyboard.insert_text("Be {{agentName}} after it: {{agentInstructions}}")
    restart(own, window, "after it")
    expect(text).not_to_contain_text("after it")
    main.get_by_role("button", name="Restore").click()
    expect(text).to_contain_text("after it")
    kept(window, "after it")
    window.page.reload()  # by hand: the browser asks, and what was typed is kept all the same
    window.alive()
    assert window.dialogs == ["beforeunload"]
    expect(main.get_by_text("Your text is kept.", exact=True)).to_be_visible()
    main.get_by_role("button", name="Discard").click()
    expect(main.get_by_role("button", name="Discard")).to_have_count(0)
    window.page.reload()
    window.alive()
    assert window.page.evaluate("sessionStorage.length") == 2  # NiceGUI's own
    expect(main.get_by_role("button", name="Restore")).to_have_count(0)


def test_a_restart_loses_nothing_of_valves_that_others_changed(own: Stand, window: AdminPage) -> None:
    before = own.ours.get("/personas/valves").json()
    main = window.open("/valves/personas")
    main.get_by_label("Max steps", exact=True).fill("7")
    main.get_by_label("LLM API key", exact=True).fill("sk-typed-here-and-nowhere-else")
    main.get_by_label("Keyword prefix", exact=True).fill("~")
    kept(window, 'max_steps\\":7')
    own.ours.post("/personas/valves/update", {**before, "multi_turns": 4})
    restart(own, window, 'keyword_prefix\\":\\"~')
    assert "sk-typed" not in window.page.evaluate("JSON.stringify(sessionStorage)")
    expect(main.get_by_text("Somebody has saved another version since")).to_be_visible()
    expect(main.get_by_text("Secrets were not kept")).to_be_visible()
    steps, turns = main.get_by_label("Max steps", exact=True), main.get_by_label("Multi turns", exact=True)
    expect(steps).to_have_value("5")
    main.get_by_role("button", name="Restore").click()
    expect(steps).to_have_value("7")
    expect(turns).to_have_value("4")
    main.get_by_role("button", name="Save", exact=True).click()
    expect(main.get_by_text("Somebody else has changed")).to_be_visible()
    expect(main.get_by_label("Comparison").first).to_contain_text("+ multi_turns: 4")
    main.get_by_role("button", name="Show theirs").click()
    expect(steps).to_have_value("5")
    window.page.get_by_role("button", name="Undo").click()
    expect(steps).to_have_value("7")
    main.get_by_role("button", name="Save", exact=True).click()
    main.get_by_role("button", name="Save mine over it").click()
    saved(main)
    found = own.ours.get("/personas/valves").json()
    assert found == {**before, "multi_turns": 4, "max_steps": 7, "keyword_prefix": "~"}
    window.page.reload()
    window.alive()
    expect(steps).to_have_value("7")
    expect(main.get_by_role("button", name="Restore")).to_have_count(0)
    own.ours.post("/personas/valves/update", before)


def test_a_restart_loses_nothing_of_json_that_cannot_be_read_yet(
    own: Stand, window: AdminPage, clerk: str
) -> None:
    main = window.open(f"/agents/{clerk}")
    main.get_by_role("tab", name="JSON").click()
    text = main.get_by_label("Agent as JSON").locator(".cm-content")
    text.click()
    window.page.keyboard.press("Control+a")
    window.page.keyboard.insert_text(
        '{"valves": {"llm_api_key": "sk-typed-half"}, "definition": {"instructions": "You file by'
    )
    restart(own, window, "You file by")
    assert "sk-typed-half" not in window.page.evaluate("JSON.stringify(sessionStorage)")
    expect(main.get_by_text("Secrets were not kept")).to_be_visible()
    main.get_by_role("button", name="Restore").click()
    expect(main.get_by_role("tab", name="JSON")).to_have_attribute("aria-selected", "true")
    expect(text).to_contain_text('"definition": {"instructions": "You file by')
    expect(main.get_by_text("This is not JSON: ")).to_be_visible()
    main.get_by_role("button", name="Save", exact=True).click()
    expect(main.get_by_text("Correct it in the JSON tab")).to_be_visible()
    assert own.ours.get(f"/api/v1/agents/{clerk}").json()["definition"]["instructions"] == "You file."
    text.click()
    window.page.keyboard.press("Control+a")
    window.page.keyboard.insert_text(
        '{"id": "clerk", "name": "C", "agent_type": "persona", "definition": {"instructions": "By name."}}'
    )
    main.get_by_role("button", name="Save", exact=True).click()
    saved(main)
    assert own.ours.get(f"/api/v1/agents/{clerk}").json()["definition"]["instructions"] == "By name."


def test_a_template_that_cannot_be_saved_says_so_once(window: AdminPage) -> None:
    main = window.open("/strategies/templates/simple")
    main.locator(".cm-content").click()
    window.page.keyboard.press("Control+a")
    window.page.keyboard.insert_text("Nobody is named.")
    wrong = main.get_by_text("Template simple has no {{agentName}}")
    expect(wrong).to_have_count(1)
    main.get_by_role("button", name="Save", exact=True).click()
    expect(main.locator(".am-notices").get_by_text("has no {{agentName}}")).to_be_visible()
    expect(wrong).to_have_count(1)
    window.page.keyboard.press("Control+a")
    main.locator(".cm-content").click()
    window.page.keyboard.press("Control+a")
    window.page.keyboard.insert_text("Still nobody.")
    expect(main.locator(".am-notices").get_by_text("has no {{agentName}}")).to_have_count(0)
    expect(wrong).to_have_count(1)


def test_signing_out_forgets_what_was_typed(window: AdminPage, clerk: str) -> None:
    main = window.open(f"/agents/{clerk}")
    main.get_by_label("Instructions").fill("Nobody else reads this.")
    kept(window, "Nobody else")
    window.page.get_by_role("button", name="Sign out").click()
    expect(window.page.get_by_label("Connection key")).to_be_visible()
    assert window.dialogs == ["beforeunload"]
    assert "Nobody else" not in window.page.evaluate("JSON.stringify(sessionStorage)")


def test_a_double_click_saves_once(own: Stand, window: AdminPage, clerk: str) -> None:
    before = own.ours.get(f"/api/v1/agents/{clerk}").json()["version"]
    main = window.open(f"/agents/{clerk}")
    main.get_by_label("Instructions").fill("You file twice.")
    expect(main.get_by_text("Not saved", exact=True)).to_be_visible()
    main.get_by_role("button", name="Save", exact=True).dblclick()
    saved(main)
    expect(main.get_by_text(f"{clerk} · version")).to_be_visible()
    main.get_by_label("Instructions").fill("You file once more.")
    main.get_by_role("button", name="Save", exact=True).click()
    expect(main.get_by_text("was changed meanwhile")).to_have_count(0)
    saved(main)
    assert own.ours.get(f"/api/v1/agents/{clerk}").json()["version"] == before + 2


def test_what_is_typed_right_after_a_save_stays(own: Stand, window: AdminPage) -> None:
    main = window.open("/agents/new/persona")
    main.get_by_label("Name").first.fill("Quick one")
    main.get_by_label("Instructions").fill("You are quick.")
    main.get_by_text("Limits, tools and connection").click()
    main.get_by_role("button", name="Save", exact=True).click()
    instructions = main.get_by_label("Instructions")
    instructions.click()
    window.page.keyboard.press("Control+End")
    window.page.keyboard.type(" And this was typed at once.", delay=20)
    expect(window.page.get_by_text(re.compile("^Saved Quick one"))).to_be_visible()
    expect(main.get_by_text("version 1.0.0")).to_be_visible()
    expect(window.page.get_by_role("link", name="Connect it")).to_be_visible()
    expect(instructions).to_be_focused()
    expect(instructions).to_have_value("You are quick. And this was typed at once.")
    expect(main.get_by_label("LLM API key")).to_be_visible()  # what was open stays open
    expect(main.get_by_label("Id").first).to_be_disabled()
    expect(main.get_by_text("Not saved")).to_be_visible()
    main.get_by_role("button", name="Save", exact=True).click()
    expect(main.get_by_text("version 2.0.0").or_(main.get_by_text("version 1.0.1"))).to_be_visible()
    saved(main)
    reply = own.ours.get("/api/v1/agents/quick-one").json()
    assert reply["definition"]["instructions"].endswith("at once.")
    assert window.console == []

    # Deleted, the browser does not ask; with changes, the page does.
    instructions.fill("Changed.")
    main.get_by_role("button", name="Delete", exact=True).click()
    question = window.page.get_by_role("alertdialog")
    expect(question).to_contain_text("did not save is lost")
    question.get_by_role("button", name="Cancel").click()
    expect(instructions).to_have_value("Changed.")
    main.get_by_role("button", name="Delete", exact=True).click()
    question.get_by_role("button", name="Delete").click()
    expect(main.get_by_text("quick-one was deleted by")).to_be_visible()
    assert window.dialogs == []


def test_going_back_says_what_it_replaces_and_is_undone(window: AdminPage, clerk: str, tailor: str) -> None:
    for page, tab, own_tab in (
        (f"/agents/{clerk}", "History", "Fields"),
        (f"/personas/{tailor}/edit", "Versions", "Persona"),
    ):
        main = window.open(page)
        instructions = main.get_by_label("Instructions")
        instructions.fill("Second.")
        main.get_by_role("button", name="Save", exact=True).click()
        saved(main)
        instructions.fill("Not saved yet.")
        expect(main.get_by_text("Not saved", exact=True)).to_be_visible()
        main.get_by_role("tab", name=tab).click()
        main.get_by_role("button", name="Go back to this").last.click()
        question = window.page.get_by_role("alertdialog")
        expect(question).to_contain_text("Undo brings it back")
        question.get_by_role("button", name="Go back", exact=True).click()
        saved(main)
        window.page.get_by_role("button", name="Undo").click()
        main.get_by_role("tab", name=own_tab).click()
        expect(instructions).to_have_value("Not saved yet.")
        main.get_by_role("button", name="Save", exact=True).click()  # no conflict with one's own rollback
        expect(window.page.get_by_text(re.compile("^Saved")).last).to_be_visible()
        saved(main)
    assert window.dialogs == []


def test_a_new_persona_is_made_without_a_question(own: Stand, window: AdminPage) -> None:
    main = window.open("/personas/new")
    main.get_by_label("Key").fill("miller")
    main.get_by_label("Name").fill("Miller")
    main.get_by_label("Instructions").fill("You mill.")
    main.get_by_role("button", name="Create").click()
    expect(main.get_by_role("heading", name="Miller")).to_be_visible()
    window.alive()
    assert window.dialogs == []
    main.get_by_label("Instructions").fill("You grind.")
    expect(main.get_by_text("Not saved")).to_be_visible()
    main.get_by_role("button", name="Duplicate").click()
    question = window.page.get_by_role("alertdialog")
    expect(question).to_contain_text("not saved, and not in it")
    question.get_by_role("button", name="Cancel").click()
    expect(question).to_be_hidden()
    assert own.ours.get("/api/v1/personas/miller-copy").status_code == 404
    own.ours.request("DELETE", "/api/v1/personas/miller")


def test_a_save_says_what_is_missing(window: AdminPage, clerk: str) -> None:
    main = window.open(f"/agents/{clerk}")
    main.get_by_role("tab", name="JSON").click()
    text = main.get_by_label("Agent as JSON").locator(".cm-content")
    text.click()
    window.page.keyboard.press("Control+a")
    window.page.keyboard.insert_text(
        '{"id": "clerk", "name": "Clerk", "agent_type": "persona", "definition": {"persona": "nobody-here"},'
        ' "valves": {"allowed_tools": "[bad("}}'
    )
    main.get_by_role("button", name="Save", exact=True).click()
    warning = main.get_by_role("status").filter(has_text="Saved, but what it names is not here now")
    expect(warning).to_contain_text("There is no persona “nobody-here”.")
    expect(warning).to_contain_text("“[bad(” has a [ without a ]")


def test_the_id_follows_the_name_until_another_is_given(window: AdminPage) -> None:
    main = window.open("/agents/new/persona")
    name, own_id = main.get_by_label("Name").first, main.get_by_label("Id").first
    name.fill("日本")
    expect(main.get_by_text("No letter of the name can stand in an id")).to_be_visible()
    name.fill("Über Größe")
    expect(own_id).to_have_value("uber-grosse")
    own_id.fill("pasted-id")  # without a key: as from the context menu
    name.fill("Another name")
    name.blur()
    window.page.wait_for_timeout(800)
    expect(own_id).to_have_value("pasted-id")
