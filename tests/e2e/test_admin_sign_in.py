"""Signing in to the Agents page and out again, in a real browser."""

# Playwright is in the environment of the end-to-end tests alone.
# pyright: reportMissingImports=false
from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import OpenAdmin
from tests.e2e.stand import Stand
from tests.e2e.webui import PASSWORD

PAGES = ("/", "/agents", "/personas", "/strategies", "/runs", "/valves", "/setup", "/records")


def test_in_with_the_connection_key_and_out_again(stand: Stand, agents_page: OpenAdmin) -> None:
    window = agents_page()
    window.sign_in("not the key")
    expect(window.page.get_by_role("alert")).to_contain_text("not this server's connection key")
    window.console.clear()  # the browser reports the refusal
    window.sign_in()
    expect(window.page.get_by_role("heading", name="Dashboard")).to_be_visible()
    for path in PAGES:
        expect(window.open(path).get_by_role("heading").first).to_be_visible()
    other = window.page.context.new_page()
    other.goto(f"{stand.ours.url}/admin/runs")
    expect(other.get_by_role("heading", name="Runs")).to_be_visible()

    window.page.get_by_role("button", name="Sign out").click()
    expect(window.page.get_by_label("Connection key")).to_be_visible()
    assert not window.console
    # The other tab's socket is closed with the session, and the tab finds its way by itself.
    expect(other.get_by_label("Connection key")).to_be_visible(timeout=20_000)


def test_with_an_account_of_open_webui(stand: Stand, agents_page: OpenAdmin) -> None:
    window = agents_page()
    window.sign_in(email="bob@example.org", password=PASSWORD)
    expect(window.page.get_by_role("alert")).to_contain_text("not an admin's")
    window.sign_in(email="ada@example.org", password="wrong")
    expect(window.page.get_by_role("alert")).to_contain_text("does not know")
    window.sign_in(email="ada@example.org", password=PASSWORD)
    expect(window.page.get_by_role("heading", name="Dashboard")).to_be_visible()
    expect(window.open("/records").get_by_role("cell", name="ada@example.org").first).to_be_visible()


def test_who_is_no_admin_any_more_is_signed_out(stand: Stand, agents_page: OpenAdmin) -> None:
    cleo = stand.admin.add_user("Cleo")
    role = f"/api/v1/users/{cleo.id}/update"
    stand.admin.post(role, {"role": "admin"})
    window = agents_page().sign_in(email="cleo@example.org", password=PASSWORD)
    expect(window.page.get_by_role("heading", name="Dashboard")).to_be_visible()
    for rights in ("admin", "user"):
        stand.admin.post(role, {"role": rights})
        # Who comes back after a restart is asked about at once; else it may take five minutes.
        stand.ours.stop()
        stand.ours.spawn()
        stand.ours.wait()
        if rights == "admin":
            expect(window.open("/runs").get_by_role("heading", name="Runs")).to_be_visible()
    expect(window.page.get_by_label("Connection key")).to_be_visible(timeout=40_000)  # without a click


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_by_keyboard_alone_and_in_other_colours(stand: Stand, agents_page: OpenAdmin, *, dark: bool) -> None:
    window = agents_page(dark=dark)
    page = window.page
    page.goto(f"{stand.ours.url}/admin/runs")
    page.keyboard.type(stand.ours.key)  # the field has the focus
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()  # where the address led
    window.alive()
    page.keyboard.press("Tab")
    expect(page.locator("a.am-skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()

    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert before == ("rgb(23, 23, 23)" if dark else "rgb(255, 255, 255)")
    toggle = page.get_by_role("button", name="Colours follow the system")
    toggle.click()
    page.get_by_role("button", name="Light colours").click()
    page.get_by_role("button", name="Dark colours").wait_for()
    page.wait_for_function("document.cookie.includes('agent_mode_theme=dark')")
    window.open("/runs")
    expect(page.locator("body.body--dark")).to_be_attached()
    assert not window.console


def test_on_a_phone_nothing_is_cut_off(stand: Stand, agents_page: OpenAdmin) -> None:
    window = agents_page(phone=True).sign_in()
    for path in PAGES:
        expect(window.open(path).locator(".q-spinner")).to_have_count(0)
        width = window.page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, path
