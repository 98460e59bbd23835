"""The Agents page without a mouse, at 200 %, and for whoever wants nothing to move."""

# Playwright is in the environment of the end-to-end tests alone.
# pyright: reportMissingImports=false
from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import TimeoutError, expect

from tests.e2e.conftest import OpenAdmin
from tests.e2e.stand import Stand

if TYPE_CHECKING:
    from playwright.sync_api import Page

CONTROLS = """a[href], button:not([disabled]), input:not([disabled]):not([type=hidden]):not([type=file]),
  textarea:not([disabled]), summary, [role=tab], [role=switch]:not([aria-disabled=true]), .cm-content"""
# Each control that can be seen gets a number. One that is part of another (Quasar's switch has an input
# inside) counts as reached with it.
_NUMBER = """(controls) => {
  const seen = [...document.querySelectorAll(controls)].filter(
    (one) => one.checkVisibility({ visibilityProperty: true }));
  const outer = seen.filter((one) => !one.parentElement.closest("[role=switch], [role=checkbox]"));
  outer.forEach((one, place) => one.dataset.place = place);
  const name = (one) => one.getAttribute("aria-label") || one.innerText || one.name || one.tagName;
  return outer.map((one) => [name(one).trim().slice(0, 60), one.role === "tab"]);
}"""
_FOCUSED = """() => {
  const one = document.activeElement;
  if (!one || one === document.body) return null;
  const marked = (box) => {
    const style = getComputedStyle(box), after = getComputedStyle(box, "::after");
    const line = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1;
    return line || (after.borderTopStyle !== "none" && parseFloat(after.borderTopWidth) >= 2);
  };
  const own = one.closest("[data-place]") || one.querySelector("[data-place]");
  const around = [one, ...[".q-field__control", ".am-code-box", ".q-toggle"].map((box) => one.closest(box))];
  const { top, bottom, width } = one.getBoundingClientRect();
  return {
    place: own ? Number(own.dataset.place) : null,
    tab: one.getAttribute("role") === "tab",
    code: one.classList.contains("cm-content"),
    what: (one.getAttribute("aria-label") || one.innerText || one.outerHTML).slice(0, 80),
    marked: around.some((box) => box && marked(box)),
    seen: width > 0 && bottom > 0 && top < innerHeight,
  };
}"""
_WIDTH = "document.scrollingElement.scrollWidth"
_FITS = f"{_WIDTH} <= innerWidth"
_MOVING = """() => {
  const lasts = (times) => times.split(",").some((time) => parseFloat(time) > 0.001);
  const moves = (one, part) => {
    const style = getComputedStyle(one, part);
    const plays = style.animationName !== "none" && lasts(style.animationDuration);
    return plays || lasts(style.transitionDuration);
  };
  const parts = [undefined, "::before", "::after"];
  const all = [...document.querySelectorAll("*")].filter((one) => parts.some((part) => moves(one, part)));
  return all.map((one) => one.outerHTML.slice(0, 100));
}"""


@pytest.fixture(scope="module", autouse=True)
def agents(stand: Stand) -> Iterator[None]:
    """Agents with a run each."""
    definitions: dict[str, dict[str, Any]] = {
        "keyed-helper": {"agent_type": "llamaindex_workflow", "definition": {"instructions": "You help."}},
        "keyed-code": {
            "agent_type": "custom_python",
            "definition": {"code": "async def run(turn):\n    yield 'Hi'\n"},
        },
    }
    for agent_id, more in definitions.items():
        reply = stand.ours.post(
            "/api/v1/agents/", {"id": agent_id, "name": agent_id, "access": "everyone", **more}
        )
        assert reply.status_code == 201, reply.text
    reply = stand.ours.post("/api/v1/agents/keyed-helper/run", {"input": "say: Hi."}, timeout=120)
    assert reply.status_code == 200, reply.text
    yield
    for agent_id in definitions:
        stand.ours.request("DELETE", f"/api/v1/agents/{agent_id}")


@pytest.mark.parametrize(
    "path", ["/agents/keyed-helper", "/agents/keyed-code", "/runs", "/agents", "/valves/personas"]
)
def test_tab_comes_to_every_control_and_out_again(agents_page: OpenAdmin, path: str) -> None:
    window = agents_page().sign_in()
    window.open(path)
    page = window.page
    controls = page.evaluate(_NUMBER, CONTROLS)
    assert len(controls) > 10
    reached: set[int] = set()
    unmarked: list[str] = []
    unseen: list[str] = []
    for _ in range(2 * len(controls) + 40):
        page.keyboard.press("Tab")
        focused = page.evaluate(_FOCUSED)
        if focused is None:
            if reached:
                break  # beyond the last one: the browser's own controls come next
            continue
        if focused["code"]:
            page.keyboard.press("Escape")  # as the line below the editor says
        if focused["place"] is not None:
            reached.add(focused["place"])
        if not focused["marked"]:
            unmarked.append(focused["what"])
        if not focused["seen"]:
            unseen.append(focused["what"])
    else:
        pytest.fail(f"Tab never leaves the page; it was last at {page.evaluate(_FOCUSED)}")
    # A group of tabs is one place in the order; arrow keys go on from there.
    missed = [name for place, (name, is_tab) in enumerate(controls) if place not in reached and not is_tab]
    assert missed == []
    assert unmarked == []
    assert unseen == []
    tabs = {place for place, (_, is_tab) in enumerate(controls) if is_tab}
    assert not tabs or reached & tabs


def test_an_agent_is_changed_saved_and_tried_by_keyboard(stand: Stand, agents_page: OpenAdmin) -> None:
    window = agents_page().sign_in()
    main, keys = window.open("/agents/keyed-code"), window.page.keyboard
    keys.press("Tab")
    expect(window.page.get_by_role("link", name="Skip to the content")).to_be_focused()
    keys.press("Enter")
    to(window.page, "Name")
    keys.press("ControlOrMeta+a")
    keys.type("Keyed by hand")
    to(window.page, "Code")
    keys.press("ControlOrMeta+End")
    keys.type("# a note")
    keys.press("Escape")  # what is offered to complete the word
    keys.press("Escape")
    to(window.page, "Message")
    keys.type("Hello")
    keys.press("Enter")
    expect(main.get_by_label("Try it", exact=True).get_by_text("Hi", exact=True)).to_be_visible(
        timeout=60_000
    )
    to(window.page, "Save", back=True)
    keys.press("Enter")
    expect(window.page.get_by_text("Saved Keyed by hand.")).to_be_visible()
    saved = stand.ours.get("/api/v1/agents/keyed-code").json()
    assert saved["name"] == "Keyed by hand"
    assert saved["definition"]["code"].endswith("# a note")

    to(window.page, "Fields", back=False)
    keys.press("ArrowRight")
    keys.press("ArrowRight")
    keys.press("Enter")
    expect(main.get_by_role("tab", name="History")).to_have_attribute("aria-selected", "true")
    to(window.page, "Go back to this")
    keys.press("Enter")
    dialog = window.page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    keys.press("Escape")
    expect(dialog).to_be_hidden()
    expect(main.get_by_role("button", name="Go back to this").first).to_be_focused()


def test_runs_are_filtered_and_opened_by_keyboard(agents_page: OpenAdmin) -> None:
    window = agents_page().sign_in()
    main, keys = window.open("/runs"), window.page.keyboard
    to(window.page, "State")
    keys.press("Enter")
    expect(window.page.get_by_role("option", name="Done", exact=True)).to_be_visible()
    active = window.page.locator(".q-manual-focusable--focused")
    for _ in range(8):
        if active.inner_text() == "Done":
            break
        keys.press("ArrowDown")
    keys.press("Enter")
    window.page.wait_for_url("**state=done*")
    to(window.page, "keyed-helper")
    keys.press("Enter")
    expect(main.get_by_role("heading", name="Run of keyed-helper")).to_be_visible()


def to(page: Page, name: str, *, back: bool = False) -> None:
    """Goes on with Tab, as a person does, to the control of this name."""
    came: list[str] = []
    for _ in range(80):
        page.keyboard.press("Shift+Tab" if back else "Tab")
        said = page.evaluate(
            """() => {
                const one = document.activeElement;
                const label = one.labels?.[0]?.querySelector(".q-field__label") ?? one.labels?.[0];
                return (one.getAttribute("aria-label") || label?.innerText || one.innerText || "").trim();
            }"""
        )
        if said.split("\n")[-1].strip() == name or said == name:
            return
        came.append(said[:30])
    pytest.fail(f"Tab does not come to {name}, but to {came}")


PATHS = [
    "/",
    "/agents",
    "/agents/new",
    "/agents/keyed-helper",
    "/agents/keyed-code",
    "/personas",
    "/personas/coder/edit",
]
PATHS += [
    "/personas/import",
    "/personas/backups",
    "/strategies?model=gpt-4o",
    "/strategies/files/openai",
    "/runs",
]
PATHS += ["/valves", "/valves/personas", "/setup", "/setup/publish", "/records", "/nowhere"]


def test_at_200_percent_and_on_a_phone_no_page_scrolls_sideways(agents_page: OpenAdmin) -> None:
    window = agents_page().sign_in()
    wide: list[str] = []
    for path in PATHS:
        window.open(path)
        for width in (640, 390, 320):
            window.page.set_viewport_size({"width": width, "height": 512})
            try:  # a chart takes its time to become smaller
                window.page.wait_for_function(_FITS, timeout=5_000)
            except TimeoutError:
                wide.append(f"{path} at {width}: {window.page.evaluate(_WIDTH)} px")
    assert wide == []


def test_nothing_moves_for_whoever_wants_no_motion(agents_page: OpenAdmin) -> None:
    window = agents_page().sign_in()
    window.page.emulate_media(reduced_motion="reduce")
    for path in ("/", "/agents/keyed-code", "/runs"):
        window.open(path)
        assert window.page.evaluate(_MOVING) == [], path
