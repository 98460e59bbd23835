"""Every page by the rules of WCAG 2.1 A and AA that a program can check, light and dark, desktop and phone.

By keyboard: test_keyboard.py.
"""

# Playwright is in the environment of the end-to-end tests alone.
# pyright: reportMissingImports=false
from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.e2e.admin import DESKTOP, PHONE, AdminPage
from tests.e2e.axe import violations
from tests.e2e.conftest import Open
from tests.e2e.stand import Stand

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Step = Callable[[AdminPage], object]

SECONDS = 120

CODE = """async def run(turn):
    yield f"{len(turn.text.split())} words"  # longer than a telephone is wide, so that it has to be scrolled
"""
TEAM = {"name": "front", "description": "Begins.", "instructions": "Begin.", "tools": ["roll_dice"]}
AGENTS: dict[str, dict[str, Any]] = {
    "seen-persona": {"agent_type": "persona", "definition": {"instructions": "You help."}},
    "seen-function": {
        "agent_type": "llamaindex_workflow",
        "definition": {"instructions": "You help."},
        "valves": {"allowed_agents": "seen-*", "llm_api_key": "sk-test"},
        "tags": ["daily"],
    },
    "seen-team": {
        "agent_type": "llamaindex_workflow",
        "definition": {
            "style": "multi_agent",
            "root": "front",
            "agents": [TEAM, {**TEAM, "name": "back", "can_hand_over_to": ["front"]}],
        },
    },
    "seen-python": {"agent_type": "custom_python", "definition": {"code": CODE}},
    "seen-broken": {
        "agent_type": "persona",
        "definition": {"instructions": "You fail."},
        "valves": {"llm_model": "stub-401"},
    },
}


@pytest.fixture(scope="module")
def filled(stand: Stand) -> Iterator[dict[str, str]]:
    """Agents of each kind, runs of them, versions, a backup; gives the ids of what has got one."""
    ours = stand.ours
    for agent_id, more in AGENTS.items():
        reply = ours.post("/api/v1/agents/", {"id": agent_id, "name": agent_id, "access": "everyone", **more})
        assert reply.status_code == 201, reply.text
    task = json.dumps({"agent": "seen-persona", "task": "say: It is filed."})
    play = f"think: Who knows?\ncall: call_agent {task}\nthen say: Done: {{results}}"
    first = ours.post(
        "/api/v1/agents/seen-function/run", {"input": play}, timeout=SECONDS
    )  # loads LlamaIndex
    assert first.status_code == 200, first.text
    assert ours.post("/api/v1/agents/seen-broken/run", {"input": "Begin"}).status_code >= 400
    persona = {"key": "seen", "name": "Seen", "prompt": "You are seen.", "tags": ["a"]}
    made = ours.post("/api/v1/personas/", persona)
    for words in ("You are seen by all.", "You are seen by none."):
        assert made.ok, made.text
        changed = {**persona, "prompt": words, "version": made.json()["version"]}
        made = ours.session.put(f"{ours.url}/api/v1/personas/seen", json=changed)
    assert made.ok, made.text
    yield {
        "run": ours.get("/api/v1/runs/?agent=seen-function").json()["items"][0]["id"],
        "failed": ours.get("/api/v1/runs/?agent=seen-broken").json()["items"][0]["id"],
    }
    for agent_id in AGENTS:
        ours.request("DELETE", f"/api/v1/agents/{agent_id}")
    ours.request("DELETE", "/api/v1/personas/seen")


@pytest.fixture(scope="module")
def signed_in(stand: Stand, chromium: Browser) -> Iterator[AdminPage]:
    """One window for all pages."""
    window = AdminPage(chromium, stand.ours)
    yield window.sign_in()
    window.close()


@pytest.fixture
def window(signed_in: AdminPage, admin_pages: list[AdminPage]) -> AdminPage:
    admin_pages.append(signed_in)  # its picture is left behind where a test fails
    return signed_in


def tab(name: str) -> Step:
    return lambda window: window.main.get_by_role("tab", name=name).click()


def click(name: str) -> Step:
    return lambda window: window.main.get_by_role("button", name=name).first.click()


def shows(text: str) -> Step:
    return lambda window: expect(window.page.get_by_text(text).first).to_be_visible()


def unfold(window: AdminPage) -> None:
    """Opens all that is folded."""
    window.main.locator("details").evaluate_all("all => all.forEach((one) => { one.open = true; })")


def compare(window: AdminPage) -> None:
    """What changed between two versions, and the question before one goes back."""
    window.main.get_by_role("button", name="What changed").first.click()
    expect(window.main.get_by_label("Comparison").first).to_be_visible()
    window.main.get_by_role("button", name="Go back to this").last.click()
    expect(window.page.get_by_role("dialog").get_by_role("button", name="Go back")).to_be_visible()


def try_it(window: AdminPage) -> None:
    pane = window.main.get_by_label("Try it", exact=True)
    pane.get_by_label("Message").fill("say: Good morning.")
    pane.get_by_role("button", name="Send").click()
    expect(pane.get_by_text(re.compile("LLM call"))).to_be_visible()
    unfold(window)


def save_nonsense(window: AdminPage) -> None:
    window.main.get_by_role("button", name="Save", exact=True).click()
    expect(window.main.get_by_role("alert").first).to_be_visible()


def choose(label: str) -> Step:
    """A list of choices, open."""

    def open_it(window: AdminPage) -> None:
        window.main.get_by_label(label).first.click()
        expect(window.page.get_by_role("option").first).to_be_visible()

    return open_it


def delete_one(window: AdminPage) -> None:
    """What is done can be undone."""
    window.main.get_by_role("button", name="Delete seen-broken").click()
    expect(window.page.get_by_role("button", name="Undo")).to_be_visible()


def upload(window: AdminPage) -> None:
    entry = {"key": "seen-new", "name": "New", "prompt": "You are new."}
    window.main.locator("input[type=file]").set_input_files(
        {"name": "p.json", "mimeType": "application/json", "buffer": json.dumps([entry, {"key": 1}]).encode()}
    )
    expect(window.main.get_by_text("seen-new").first).to_be_visible()


def back_up(window: AdminPage) -> None:
    window.main.get_by_role("button", name="Back up now").click()
    expect(window.main.get_by_role("table").get_by_role("link").first).to_be_visible()


def open_backup(window: AdminPage) -> None:
    window.main.get_by_role("table").get_by_role("link").first.click()
    window.alive()
    expect(window.main.get_by_role("heading", name="Backup of")).to_be_visible()


PAGES: dict[str, tuple[str, list[Step]]] = {
    "dashboard": ("/", [shows("What went wrong last")]),
    "agents": ("/agents", []),
    "agents, one of a list of choices": ("/agents", [choose("State")]),
    "agents, none found": ("/agents?q=nothing-fits", []),
    "agents, undo": ("/agents?q=seen-broken", [delete_one]),
    "new agent": ("/agents/new", []),
    "new persona agent, refused": ("/agents/new/persona", [save_nonsense]),
    "new react agent": ("/agents/new/react", [unfold]),
    "persona agent, tried": ("/agents/seen-persona", [try_it]),
    "function agent": ("/agents/seen-function", [unfold]),
    "multi-agent": ("/agents/seen-team", []),
    "custom Python": ("/agents/seen-python", []),
    "agent as JSON": ("/agents/seen-python", [tab("JSON"), shows("custom_python")]),
    "agent's history": ("/agents/seen-function", [tab("History"), shows("1.0.0")]),
    "no such agent": ("/agents/nobody", []),
    "personas": ("/personas", []),
    "persona": ("/personas/seen/edit", []),
    "persona's preview": ("/personas/seen/edit", [tab("Preview"), shows("You are seen by none.")]),
    "persona's versions": ("/personas/seen/edit", [tab("Versions"), compare]),
    "new persona": ("/personas/new", []),
    "import": ("/personas/import", [upload]),
    "backups": ("/personas/backups", [back_up]),
    "backup": ("/personas/backups", [back_up, open_backup]),
    "strategies": ("/strategies?model=gpt-4o", []),
    "all strategies": ("/strategies", [tab("All strategies"), shows("strategies")]),
    "strategy files": ("/strategies", [tab("Files and templates"), shows("calm-plain")]),
    "strategies' preview": ("/strategies", [tab("Preview")]),
    "strategy file": ("/strategies/files/openai", [shows("agentSwitchTemplate")]),
    "template": ("/strategies/templates/minimal", []),
    "new strategy file": ("/strategies/files/new/file", []),
    "runs": ("/runs", []),
    "run": ("/runs/{run}", [unfold]),
    "failed run": ("/runs/{failed}", [unfold]),
    "valves": ("/valves", []),
    "valves of one": ("/valves/personas", []),
    "setup": ("/setup", []),
    "publish": ("/setup/publish", [shows("seen-persona")]),
    "records": ("/records", []),
    "no such page": ("/nowhere", []),
}

LOOKS, LOOK_MS = 5, 500
"""How often a page with a fault is looked at, and how long after one another."""
LEFT_OUT = (
    # Quasar puts a box with tabindex=-1 between its list of choices and the choices. Focus stays in the
    # field, which names the choice that is active.
    ("aria-required-children", ".q-menu[role=listbox]"),
)
"""Rule and selector of what cannot be changed here, and why."""


@pytest.mark.parametrize("name", list(PAGES))
def test_page(window: AdminPage, filled: dict[str, str], name: str) -> None:
    path, steps = PAGES[name]
    window.page.set_viewport_size(DESKTOP)  # pyright: ignore[reportArgumentType]
    window.page.emulate_media(color_scheme="light", reduced_motion="reduce")
    window.open(path.format(**filled))
    for step in steps:
        step(window)
    nothing_in(in_all_looks(window.page, name))


def nothing_in(found: list[str]) -> None:
    if found:
        pytest.fail("\n".join([f"{len(found)} times against WCAG 2.1 A and AA:", *found]), pytrace=False)


def in_all_looks(page: Page, name: str, *, quasar: bool = True) -> list[str]:
    """What is wrong on a page as it stands, in both colours and both sizes: no rule is about both."""
    found: list[str] = []
    for dark, phone in ((False, False), (True, True)):
        page.emulate_media(color_scheme="dark" if dark else "light", reduced_motion="reduce")
        page.set_viewport_size(PHONE if phone else DESKTOP)  # pyright: ignore[reportArgumentType]
        if quasar:
            page.wait_for_function(
                "(dark) => document.body.classList.contains('body--dark') === dark", arg=dark
            )
        look = f"{name}, {'dark' if dark else 'light'}, {'phone' if phone else 'desktop'}"
        found += [f"{look}: {violation}" for violation in lasting(page, quasar=quasar)]
    return found


def lasting(page: Page, *, quasar: bool) -> list[str]:
    """What is wrong on a page and stays so: editors and charts change their colours a moment after it."""
    wrong: list[str] = []
    for _ in range(LOOKS):
        wrong = violations(page, left_out=LEFT_OUT, uncover=quasar)
        if not wrong:
            break
        page.wait_for_timeout(LOOK_MS)
    return wrong


def test_sign_in(stand: Stand, chromium: Browser, admin_pages: list[AdminPage]) -> None:
    window = AdminPage(chromium, stand.ours)
    admin_pages.append(window)
    window.page.goto(f"{stand.ours.url}/admin/")
    found = in_all_looks(window.page, "sign-in", quasar=False)
    window.sign_in("wrong")
    expect(window.page.get_by_role("alert")).to_be_visible()
    found += in_all_looks(window.page, "sign-in refused", quasar=False)
    window.close()
    nothing_in(found)


def test_persona_browser(stand: Stand, chromium: Browser) -> None:
    context = chromium.new_context(http_credentials={"username": "any", "password": stand.ours.key})
    page = context.new_page()
    page.goto(f"{stand.ours.url}/personas")
    page.locator(".card").first.get_by_role("button", name="Details").click()
    page.locator("#categories button").nth(1).click()
    found = in_all_looks(page, "persona browser", quasar=False)
    page.locator("#search").fill("nothing at all fits this")
    found += in_all_looks(page, "persona browser, none found", quasar=False)
    context.close()
    nothing_in(found)


def test_persona_browser_in_a_chat(stand: Stand, open_window: Open) -> None:
    chat = open_window(stand.admin)
    chat.new_chat("personas.coder")
    chat.embed(chat.ask("!agent list")).locator(".card").first.wait_for()
    (frame,) = [frame for frame in chat.page.frames if frame.parent_frame and "search" in frame.content()]
    found: list[str] = []
    for scheme in ("light", "dark"):
        chat.page.emulate_media(color_scheme=scheme)  # pyright: ignore[reportArgumentType]
        found += [f"embed, {scheme}: {one}" for one in violations(frame, uncover=False)]
    nothing_in(found)
