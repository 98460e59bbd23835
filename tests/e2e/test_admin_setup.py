"""Setting up from zero on the Agents page, and publishing to a group of Open WebUI, in a real browser."""

# Playwright is in the environment of the end-to-end tests alone.
# pyright: reportMissingImports=false
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.e2e.admin import AdminPage
from tests.e2e.conftest import OpenAdmin
from tests.e2e.driver import Window
from tests.e2e.stand import OURS, PLAIN, Stand
from tests.e2e.webui import EVERYBODY
from tests.server.servers import Server, make, running

if TYPE_CHECKING:
    from playwright.sync_api import Locator

POET = "personas.poet"
CHEF = "personas.chef"


def record(stand: Stand, model: str) -> dict[str, Any] | None:
    reply = stand.admin.request("GET", f"/api/v1/models/model?id={model}")
    return reply.json() if reply.status_code == 200 else None


def choose(window: AdminPage, name: str) -> None:
    shown = window.open(f"/setup/publish?q={name.lower()}")
    shown.get_by_role("checkbox", name=name).click()


def publish(window: AdminPage, name: str, group: str) -> None:
    choose(window, name)
    window.main.get_by_role("button", name="Publish …").click()
    dialog = window.page.get_by_role("dialog")
    everyone = dialog.get_by_role("switch", name="Everyone may use them")
    if everyone.get_attribute("aria-checked") == "true":
        everyone.click()
    groups = dialog.get_by_label("Groups that may use them")
    groups.click()
    window.page.get_by_role("option", name=group).click()
    groups.press("Tab")  # closes the options
    dialog.get_by_role("button", name="Publish", exact=True).click()
    expect(window.page.get_by_text(f"Published 1 model for {group}")).to_be_visible()
    expect(window.main.get_by_text("Published here").last).to_be_visible()


def withdraw(window: AdminPage, name: str) -> None:
    choose(window, name)
    window.main.get_by_role("button", name="Withdraw").click()
    window.page.get_by_role("alertdialog").get_by_role("button", name="Withdraw").click()
    expect(window.page.get_by_text("Withdrew 1 model.")).to_be_visible()


@pytest.fixture
def fresh(stand: Stand, tmp_path: Path) -> Iterator[Server]:
    """A server that was told of its LLM alone; Open WebUI has no connection to any of ours."""
    environment = {"AGENT_MODE_MODEL": PLAIN}
    url, key = stand.provider.base_url, "key-of-the-fresh-server"
    server = make(OURS, tmp_path / "home", url, key=key, foreign=(), environment=environment)
    with running(server):
        stand.admin.connect(stand.plain_connection)
        yield server
        stand.admin.connect(stand.connection, stand.plain_connection)


def copied_to(box: Locator, window: AdminPage, name: str) -> None:
    """Copies a value on Setup, and pastes it into a field of Open WebUI."""
    window.main.get_by_role("button", name=f"Copy {name.lower()}").click()
    expect(window.page.get_by_text(f"{name} copied.")).to_be_visible()
    box.click()
    box.press("Control+v")


def test_from_zero(stand: Stand, fresh: Server, agents_page: OpenAdmin, admin: Window) -> None:
    window = agents_page(fresh).sign_in()
    shown = window.open("/setup")
    expect(shown.get_by_text(f"{stand.provider.base_url} lists")).to_be_visible()
    unknown = (
        shown.get_by_text("This server does not know where it is.", exact=True),
        shown.get_by_text("OPENWEBUI_API_KEY is not set."),
        shown.get_by_text("It cannot be seen without the steps above.").first,
    )
    for words in unknown:
        expect(words).to_be_visible()
    expect(shown.locator(".am-step--wrong")).to_have_count(0)
    expect(shown.get_by_text(fresh.url, exact=True)).to_be_visible()
    assert fresh.key not in window.page.content()
    shown.get_by_role("button", name="Show key").click()
    expect(shown.get_by_text(fresh.key)).to_be_visible()

    with admin.adding_a_connection() as (url, key):
        copied_to(url, window, "URL")
        expect(url).to_have_value(fresh.url)
        copied_to(key, window, "Key")
        expect(key).to_have_value(fresh.key)
    admin.new_chat()
    admin.pick("📝 Writer")
    answer = admin.ask("say: at your service")
    assert (answer.name, answer.text) == ("📝 Writer", "at your service")
    shown.get_by_role("button", name="Check again").click()
    for words in unknown:
        expect(words).to_be_visible()
    assert not window.console

    fresh.stop()
    for name in ("OPENWEBUI_URL", "OPENWEBUI_API_KEY"):
        fresh.environment[name] = stand.ours.environment[name]
    fresh.spawn()
    fresh.wait()
    shown = window.open("/setup")
    for text in (
        f"Version 0.12.4 at {stand.webui.url}.",
        "It is accepted, and may do what admins may.",
        f"It asks {fresh.url}.",
    ):
        expect(shown.get_by_text(text)).to_be_visible()
    for words in unknown:
        expect(words).to_be_hidden()
    expect(shown.locator(".am-step--busy")).to_have_count(0)
    expect(shown.locator(".am-step--wrong")).to_have_count(0)

    stand.admin.connect(stand.plain_connection)
    shown.get_by_role("button", name="Check again").click()
    expect(shown.get_by_text("None of its connections has this server's key.").first).to_be_visible()
    expect(shown.get_by_text("None of this server's models is listed.").first).to_be_visible()


def test_a_group_is_let_in_and_out_again(stand: Stand, agents_page: OpenAdmin) -> None:
    assert record(stand, POET) is None
    window = agents_page().sign_in()
    publish(window, "Poet", "staff")

    seen = stand.ann.models()
    assert POET in seen
    assert POET not in stand.bob.models()
    assert stand.ann.complete(POET, "say: in verse").json()["choices"][0]["message"]["content"] == "in verse"
    assert stand.bob.complete(POET, "say: in verse").status_code >= 400
    assert "Agent" in [tag["name"] for tag in seen[POET]["tags"]]
    assert "Persona" in [tag["name"] for tag in seen[POET]["tags"]], "what this server says of it stays"
    made = record(stand, POET)
    assert made is not None
    assert made["meta"]["description"]
    assert made["meta"]["profile_image_url"].startswith("data:image/png;base64,")
    picture = stand.ann.request("GET", f"/api/v1/models/model/profile/image?id={POET}")
    assert picture.content.startswith(b"\x89PNG")

    withdraw(window, "Poet")
    assert record(stand, POET) is None
    assert POET not in stand.ann.models()
    assert not window.console
    records = window.open("/records?q=personas.poet")
    for words in ("published model", "withdrew model"):
        expect(records.get_by_text(words)).to_have_count(1)


def test_what_was_there_before_comes_back(stand: Stand, agents_page: OpenAdmin) -> None:
    stand.admin.share_model(CHEF, EVERYBODY, description="By hand", tags=[{"name": "Kitchen"}])
    window = agents_page().sign_in()
    publish(window, "Chef", "staff")
    assert CHEF in stand.ann.models()
    assert CHEF not in stand.bob.models()
    made = record(stand, CHEF)
    assert made is not None
    assert made["meta"]["description"] == "By hand"
    assert [tag["name"] for tag in made["meta"]["tags"]] == ["Kitchen", "Agent"]

    withdraw(window, "Chef")
    left = record(stand, CHEF)
    assert left is not None
    assert left["meta"]["description"] == "By hand"
    assert [tag["name"] for tag in left["meta"]["tags"]] == ["Kitchen"]
    assert not left["meta"].get("profile_image_url")
    assert CHEF in stand.bob.models()
    stand.admin.post("/api/v1/models/model/delete", {"id": CHEF})
