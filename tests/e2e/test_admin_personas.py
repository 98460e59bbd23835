"""Personas and strategies on the Agents page, in a real browser."""

# Playwright is in the environment of the end-to-end tests alone.
# pyright: reportMissingImports=false
from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.e2e.admin import AdminPage
from tests.e2e.conftest import OpenAdmin
from tests.e2e.stand import OURS, Stand
from tests.server.servers import ROOT, Server, make, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

EVIL = "<img src=x onerror=\"document.title='owned'\">"


@pytest.fixture
def tailor(stand: Stand) -> Iterator[str]:
    """A persona of one's own."""
    body = {"key": "tailor", "name": "Tailor", "prompt": "You are a tailor.\nYou measure twice."}
    reply = stand.ours.post("/api/v1/personas/", body)
    assert reply.status_code == 201, reply.text
    yield "tailor"
    stand.ours.request("DELETE", "/api/v1/personas/tailor")


@pytest.fixture
def writable(tmp_path: Path, stand: Stand, chromium: Browser) -> Iterator[AdminPage]:
    """A server whose strategies may be changed."""
    shutil.copytree(ROOT / "strategies", tmp_path / "strategies")
    environment = {"AGENT_MODE_STRATEGIES_DIR": str(tmp_path / "strategies")}
    server = make(OURS, tmp_path / "home", stand.provider.base_url, foreign=(), environment=environment)
    with running(server):
        page = AdminPage(chromium, server)
        yield page.sign_in()
        page.close()


def personas(server: Server, query: str) -> Any:
    reply = server.request("GET", f"/api/v1/personas/?{query}")
    assert reply.status_code == 200, reply.text
    return reply.json()


def prompt(stand: Stand, key: str) -> str:
    return stand.ours.request("GET", f"/api/v1/personas/{key}").json()["prompt"]


def drop(main: Locator, name: str, data: bytes) -> None:
    """Drags a file over the field and lets go of it there."""
    file = """([name, data]) => {
        const dragged = new DataTransfer();
        dragged.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name));
        return dragged;
    }"""
    dragged = main.page.evaluate_handle(file, [name, base64.b64encode(data).decode()])
    main.locator(".q-uploader").dispatch_event("dragover", {"dataTransfer": dragged})
    main.locator(".q-uploader__dnd").dispatch_event("drop", {"dataTransfer": dragged})


def choose(main: Locator, name: str, data: bytes) -> None:
    """Takes a file in the browser's own dialog."""
    with main.page.expect_file_chooser() as asked:
        main.get_by_role("button", name="Choose a file").click()
    asked.value.set_files({"name": name, "mimeType": "application/octet-stream", "buffer": data})


def test_a_persona_is_edited_compared_and_rolled_back(
    stand: Stand, agents_page: OpenAdmin, tailor: str
) -> None:
    window = agents_page().sign_in()
    main = window.open("/personas?q=tailor")
    main.get_by_role("link", name="Tailor").click()
    window.alive()
    main.get_by_label("Instructions").fill("You are a tailor.\nYou measure three times.")
    expect(main.get_by_text("Not saved")).to_be_visible()
    main.get_by_role("tab", name="Preview").click()
    expect(main.get_by_text("You measure three times.").first).to_be_visible()
    assert "three" not in prompt(stand, tailor)

    main.get_by_role("button", name="Save").click()
    expect(main.get_by_text("Not saved")).to_be_hidden()
    assert "three" in prompt(stand, tailor)
    main.get_by_role("tab", name="Versions").click()
    main.get_by_role("button", name="What changed").first.click()
    expect(main.get_by_text("− You measure twice.")).to_be_visible()
    expect(main.get_by_text("+ You measure three times.")).to_be_visible()
    main.get_by_role("button", name="Go back to this").last.click()
    window.page.get_by_role("button", name="Go back", exact=True).click()
    expect(main.get_by_text("rolled back to 1.0.0")).to_be_visible()
    assert prompt(stand, tailor) == "You are a tailor.\nYou measure twice."
    main.get_by_role("tab", name="Persona").click()
    expect(main.get_by_label("Instructions")).to_have_value("You are a tailor.\nYou measure twice.")
    assert not window.console

    main.get_by_label("Name").fill("")
    main.get_by_role("button", name="Save").click()
    expect(main.get_by_text("This must not be empty").first).to_be_visible()
    records = window.open("/records?q=tailor")
    expect(records.get_by_text("rolled back persona")).to_be_visible()


def test_of_two_admins_the_second_is_told_and_loses_nothing(
    stand: Stand, agents_page: OpenAdmin, tailor: str
) -> None:
    first, second = agents_page().sign_in(), agents_page().sign_in()
    mains = [window.open(f"/personas/{tailor}/edit") for window in (first, second)]
    for main, text in zip(mains, ("Of the first.", "Of the second."), strict=True):
        main.get_by_label("Instructions").fill(text)
        main.get_by_role("button", name="Save").click()
        if text == "Of the first.":
            expect(main.get_by_text("Not saved")).to_be_hidden()
    expect(mains[1].get_by_text("was changed meanwhile by")).to_be_visible()
    expect(mains[1].get_by_label("Instructions")).to_have_value("Of the second.")
    assert prompt(stand, tailor) == "Of the first."
    mains[1].get_by_role("button", name="Save mine over it").click()
    expect(mains[1].get_by_text("Not saved")).to_be_hidden()
    assert prompt(stand, tailor) == "Of the second."
    mains[0].get_by_label("Instructions").fill("Once more.")
    mains[0].get_by_role("button", name="Save").click()
    mains[0].get_by_role("button", name="Show theirs").click()
    expect(mains[0].get_by_label("Instructions")).to_have_value("Of the second.")


def test_a_persona_is_made_duplicated_deleted_and_brought_back(stand: Stand, agents_page: OpenAdmin) -> None:
    window = agents_page().sign_in()
    main = window.open("/personas/new")
    main.get_by_label("Key").fill("baker")
    main.get_by_label("Name").fill(EVIL[:80])
    instructions = main.get_by_label("Instructions")
    instructions.fill("You bake.")
    paste = """(field) => {
        const data = new DataTransfer(); data.setData("text/plain", "x".repeat(20 * 1024 * 1024));
        const how = {clipboardData: data, bubbles: true, cancelable: true};
        return field.dispatchEvent(new ClipboardEvent("paste", how));
    }"""
    assert instructions.evaluate(paste) is False  # refused
    expect(window.page.get_by_text("too much text")).to_be_visible()
    expect(instructions).to_have_value("You bake.")
    main.get_by_role("button", name="Create").click()
    expect(main.get_by_role("heading", name="<img src=x")).to_be_visible()
    assert window.page.url.endswith("/admin/personas/baker/edit")
    assert prompt(stand, "baker") == "You bake."

    main = window.open("/personas?q=baker")
    expect(main.get_by_text("<img src=x")).to_be_visible()
    main.get_by_role("button", name="Duplicate baker").click()
    expect(main.get_by_text("!baker-copy", exact=True)).to_be_visible()
    main.get_by_role("button", name="Delete baker-copy").click()
    expect(main.get_by_text("!baker-copy", exact=True)).to_be_hidden()
    assert personas(stand.ours, "q=baker")["total"] == 1
    window.page.get_by_role("button", name="Undo").last.click()
    expect(main.get_by_text("!baker-copy", exact=True)).to_be_visible()
    main.get_by_role("button", name="Disable baker", exact=True).click()
    expect(main.get_by_role("button", name="Enable baker", exact=True)).to_be_visible()
    assert "personas.baker" not in [
        model["id"] for model in stand.ours.request("GET", "/models").json()["data"]
    ]
    assert "owned" not in window.page.title()
    assert not window.console
    for key in ("baker", "baker-copy"):
        stand.ours.request("DELETE", f"/api/v1/personas/{key}")


def test_110_personas_come_in_and_a_backup_takes_them_out_again(
    stand: Stand, agents_page: OpenAdmin, tailor: str
) -> None:
    window = agents_page().sign_in()
    main = window.open("/personas/backups")
    main.get_by_role("button", name="Back up now").click()
    expect(
        window.page.get_by_text("personas backed up").or_(window.page.get_by_text("Nothing changed"))
    ).to_be_visible()
    before = personas(stand.ours, "")["total"]

    entries = [
        {
            "key": f"extra_{n}",
            "name": f"Extra {n} {EVIL[:60]}",
            "prompt": f"You are {n}.",
            "category": "extra",
        }
        for n in range(110)
    ]
    entries += [
        {"key": "no good", "name": "Bad", "prompt": ""},
        {"key": tailor, "name": "T", "prompt": "Mine."},
    ]
    main = window.open("/personas/import")
    drop(main, "extra.json", json.dumps(entries).encode())
    expect(main.get_by_text("110 would be created")).to_be_visible()
    expect(main.get_by_text("2 would be refused")).to_be_visible()
    expect(main.get_by_text("You have a persona of your own under the key 'tailor'")).to_be_visible()
    assert personas(stand.ours, "")["total"] == before
    main.get_by_role("button", name="Import 110").click()
    expect(main.get_by_text("110 personas imported.").first).to_be_visible()
    assert personas(stand.ours, "category=extra&limit=1")["total"] == 110
    drop(main, "extra.json", json.dumps(entries[:110]).encode())
    expect(main.get_by_text("110 unchanged")).to_be_visible()
    choose(main, "noise.json", b"{")
    expect(main.get_by_text("not usable JSON").or_(main.get_by_role("alert"))).to_be_visible()

    main = window.open("/personas?category=extra&page=2")
    expect(main.get_by_text("51 to 100 of 110 personas")).to_be_visible()
    main.get_by_role("button", name="Export").click()
    with window.page.expect_download() as download:
        window.page.get_by_text("Character card", exact=True).click()
    assert download.value.suggested_filename == "personas-character-card.zip"

    main = window.open("/personas/backups")
    main.locator("tbody tr").filter(has=window.page.get_by_text(str(before), exact=True)).first.get_by_role(
        "link"
    ).click()
    window.alive()
    expect(main.get_by_text("110 of your own go; their versions stay")).to_be_visible()
    main.get_by_role("button", name="Restore").click()
    window.page.get_by_role("alertdialog").get_by_role("button", name="Restore").click()
    expect(main.get_by_text("The backup is restored.").first).to_be_visible()
    assert personas(stand.ours, "")["total"] == before
    assert "owned" not in window.page.title()
    assert not window.console


def test_a_backup_says_whose_name_an_agent_has(stand: Stand, agents_page: OpenAdmin, tailor: str) -> None:
    window = agents_page().sign_in()
    main = window.open("/personas/backups")
    main.get_by_role("button", name="Back up now").click()
    expect(
        window.page.get_by_text("personas backed up").or_(window.page.get_by_text("Nothing changed"))
    ).to_be_visible()
    before = personas(stand.ours, "")["total"]
    assert stand.ours.request("DELETE", f"/api/v1/personas/{tailor}").status_code == 204
    agent = {"id": tailor, "name": "Tailor", "agent_type": "persona", "definition": {"instructions": "Sew."}}
    assert stand.ours.post("/api/v1/agents/", agent).status_code == 201
    try:
        main = window.open("/personas/backups")
        main.locator("tbody tr").filter(
            has=window.page.get_by_text(str(before), exact=True)
        ).first.get_by_role("link").click()
        window.alive()
        told = main.get_by_text("1 of these cannot be enabled: an agent has the name.")
        expect(told).to_be_visible()
        expect(main.get_by_text(tailor, exact=True)).to_have_count(2)
        main.get_by_role("button", name="Restore").click()
        window.page.get_by_role("alertdialog").get_by_role("button", name="Restore").click()
        expect(main.get_by_text("The backup is restored.").first).to_be_visible()
        expect(told).to_be_visible()
        back = stand.ours.request("GET", f"/api/v1/personas/{tailor}").json()
        assert (back["enabled"], back["prompt"]) == (False, "You are a tailor.\nYou measure twice.")
    finally:
        stand.ours.request("DELETE", f"/api/v1/agents/{tailor}")
    assert not window.console


def test_which_strategy_a_model_gets_and_what_it_is_sent(agents_page: OpenAdmin) -> None:
    window = agents_page().sign_in()
    main = window.open("/strategies")
    main.get_by_label("Id of a model").fill("openrouter/anthropic/claude-3.5-sonnet")
    expect(
        main.get_by_text("“claude-3*” in anthropic-prompt-strategies.json is the most exact")
    ).to_be_visible()
    main.get_by_label("Id of a model").fill("nobody-knows-it")
    expect(main.get_by_text("Nothing fits, so it is the default").first).to_be_visible()
    expect(main.get_by_text("global", exact=True)).to_be_visible()
    expect(main.get_by_role("cell", name="hierarchical", exact=True).first).to_be_visible()
    main.get_by_role("tab", name="Preview").click()
    expect(main.get_by_text('<agent_mode agent="')).to_be_visible()
    assert not window.console


def test_a_template_is_edited_previewed_and_rolled_back(writable: AdminPage, tmp_path: Path) -> None:
    file = tmp_path / "strategies" / "templates" / "simple.txt"
    shipped = file.read_text()
    main = writable.open("/strategies/templates/simple")
    text = main.locator(".cm-content")
    text.click()
    writable.page.keyboard.press("Control+a")
    writable.page.keyboard.type("Nobody is named.")
    expect(main.get_by_text("Template simple has no {{agentName}}")).to_be_visible()
    main.get_by_role("button", name="Save").click()
    expect(main.locator(".am-notices").get_by_text("Template simple has no {{agentName}}")).to_be_visible()
    assert file.read_text() == shipped

    text.click()
    writable.page.keyboard.press("Control+a")
    writable.page.keyboard.insert_text("Be {{agentName}} at last: {{agentInstructions}}")
    main.get_by_role("tab", name="Preview").click()
    expect(main.locator(".am-messages").get_by_text("at last:")).to_be_visible()
    main.get_by_role("button", name="Save").click()
    expect(main.get_by_text("Not saved")).to_be_hidden()
    assert file.read_text() == "Be {{agentName}} at last: {{agentInstructions}}\n"
    main.get_by_role("tab", name="Versions").click()
    main.get_by_role("button", name="Go back to this").last.click()
    writable.page.get_by_role("button", name="Go back", exact=True).click()
    expect(main.get_by_text("rolled back to 1")).to_be_visible()
    assert file.read_text() == shipped
    assert not writable.console
