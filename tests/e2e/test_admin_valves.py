"""Valves on the Agents page, in a real browser: a wrong value, what is default, secrets, two admins."""

# Playwright is in the environment of the end-to-end tests alone.
# pyright: reportMissingImports=false
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import OpenAdmin
from tests.e2e.stand import Stand

SECRET = "sk-of-the-valves-0123456789abcd"


@pytest.fixture
def kept(stand: Stand) -> Iterator[None]:
    """The valves of the personas, put back afterwards."""
    before = stand.ours.get("/personas/valves").json()
    yield
    stand.ours.post("/personas/valves/update", before)


def held(stand: Stand) -> dict[str, Any]:
    return stand.ours.get("/personas/valves").json()


@pytest.mark.usefixtures("kept")
def test_a_wrong_value_is_refused_beside_its_field_and_nothing_is_lost(
    stand: Stand, agents_page: OpenAdmin
) -> None:
    before = held(stand)
    window = agents_page().sign_in()
    listed = window.open("/valves?q=personas")
    listed.get_by_role("link", name="personas").first.click()
    window.page.wait_for_url("**/valves/personas")
    window.alive()
    form = window.main
    form.get_by_label("Max steps", exact=True).fill("99")
    form.get_by_label("Keyword prefix", exact=True).fill("abc")
    form.get_by_label("LLM model", exact=True).fill("stub-agent")
    form.get_by_role("switch", name="Show persona info").click()
    expect(form.get_by_text("Not saved")).to_be_visible()
    form.get_by_role("button", name="Save").click()

    expect(form.get_by_text("This must be between 1 and 20.")).to_be_visible()
    expect(form.get_by_role("alert").first).to_contain_text("Nothing was saved")
    assert held(stand) == before
    form.get_by_label("Max steps", exact=True).fill("7")
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_text("This must be 1 to 3 characters")).to_be_visible()
    form.get_by_label("Keyword prefix", exact=True).fill("~")
    form.get_by_role("button", name="Save").click()

    expect(window.page.get_by_text("Saved. It holds")).to_be_visible()
    changes = {"max_steps": 7, "keyword_prefix": "~", "llm_model": "stub-agent", "show_persona_info": False}
    assert held(stand) == {**before, **changes}
    assert not window.console
    window.open("/valves/personas")
    form.get_by_role("button", name="Reset Max steps").click()
    expect(form.get_by_label("Max steps", exact=True)).to_have_value("5")
    expect(form.get_by_role("button", name="Reset Max steps")).to_be_hidden()
    window.page.keyboard.press("Tab")
    expect(form.get_by_label("Max steps", exact=True)).to_be_focused()
    form.get_by_role("button", name="Save").click()
    expect(window.page.get_by_text("Saved. It holds")).to_be_visible()
    assert held(stand) == {**before, **changes, "max_steps": 5}
    form.get_by_role("button", name="Reset all").click()
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_text("changed", exact=True).locator("visible=true")).to_have_count(0)
    assert held(stand)["keyword_prefix"] == "!"
    records = window.open("/records?q=keyword_prefix")
    expect(records.get_by_text("saved valves").first).to_be_visible()


@pytest.mark.usefixtures("kept")
def test_a_secret_is_kept_replaced_and_cleared_but_never_shown(stand: Stand, agents_page: OpenAdmin) -> None:
    window = agents_page().sign_in()
    form = window.open("/valves/personas")
    field = form.get_by_label("LLM API key", exact=True)
    field.fill(SECRET)
    form.get_by_role("button", name="Save").click()
    expect(window.page.get_by_text("Saved. It holds")).to_be_visible()
    assert held(stand)["llm_api_key"] == f"********{SECRET[-4:]}"

    window.open("/valves/personas")
    expect(field).to_have_value("")
    assert SECRET not in window.page.content()
    form.get_by_label("Max steps", exact=True).fill("6")
    form.get_by_role("button", name="Save").click()
    expect(window.page.get_by_text("Saved. It holds")).to_be_visible()
    assert held(stand)["llm_api_key"] == f"********{SECRET[-4:]}", "another valve was saved, the key is kept"

    window.open("/valves/personas")
    form.get_by_role("button", name="Forget LLM API key").click()
    form.get_by_role("button", name="Save").click()
    expect(window.page.get_by_text("Saved. It holds")).to_be_visible()
    assert held(stand)["llm_api_key"] is None
    records = window.open("/records?q=llm_api_key")
    expect(records.get_by_text("saved valves").first).to_be_visible()
    assert SECRET not in window.page.content()


@pytest.mark.usefixtures("kept")
def test_what_is_typed_during_a_save_stays(stand: Stand, agents_page: OpenAdmin) -> None:
    before = held(stand)
    window = agents_page().sign_in()
    form = window.open("/valves/personas")
    steps, model = form.get_by_label("Max steps", exact=True), form.get_by_label("LLM model", exact=True)
    secret = form.get_by_label("LLM API key", exact=True)
    secret.fill(SECRET)
    steps.fill("7")
    expect(form.get_by_text("Not saved", exact=True)).to_be_visible()
    form.get_by_role("button", name="Save", exact=True).click()
    model.click()
    window.page.keyboard.type("stub-agent, typed at once", delay=20)
    expect(window.page.get_by_text("Saved. It holds")).to_be_visible()
    expect(secret).to_have_value("")
    expect(secret).to_have_attribute(
        "placeholder", f"Kept: ********{SECRET[-4:]}. Type another one to replace it."
    )
    expect(model).to_be_focused()
    expect(model).to_have_value("stub-agent, typed at once")
    expect(form.get_by_text("Not saved", exact=True)).to_be_visible()
    assert held(stand) == {**before, "max_steps": 7, "llm_api_key": f"********{SECRET[-4:]}"}
    form.get_by_role("button", name="Save", exact=True).click()
    expect(form.get_by_text("Not saved", exact=True)).to_be_hidden()
    assert held(stand)["llm_model"] == "stub-agent, typed at once"
    steps.fill("")  # as by default; the field says so once it is left
    form.get_by_role("button", name="Save", exact=True).click()
    expect(steps).to_have_value("5")
    assert window.dialogs == []
    assert not window.console


@pytest.mark.usefixtures("kept")
def test_the_second_of_two_admins_is_told(stand: Stand, agents_page: OpenAdmin) -> None:
    window = agents_page().sign_in()
    form = window.open("/valves/personas")
    form.get_by_label("Max steps", exact=True).fill("3")
    stand.ours.post("/personas/valves/update", {**held(stand), "multi_turns": 4})
    form.get_by_role("button", name="Save", exact=True).click()
    expect(form.get_by_text("Somebody else has changed")).to_be_visible()
    expect(form.get_by_label("Max steps", exact=True)).to_have_value("3")
    expect(form.get_by_label("Comparison").first).to_contain_text("+ multi_turns: 4")
    form.get_by_role("button", name="Show theirs").click()
    expect(form.get_by_label("Multi turns", exact=True)).to_have_value("4")
    assert held(stand)["max_steps"] == 5
    window.page.get_by_role("button", name="Undo").click()
    expect(form.get_by_label("Max steps", exact=True)).to_have_value("3")
    form.get_by_role("button", name="Save", exact=True).click()
    form.get_by_role("button", name="Save mine over it").click()
    expect(form.get_by_text("Not saved", exact=True)).to_be_hidden()
    found = held(stand)
    assert (found["max_steps"], found["multi_turns"]) == (3, 4), "nobody's change is lost"
