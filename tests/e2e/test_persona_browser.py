"""The persona browser in a real browser: by keyboard alone, in both colours, with whatever a persona says."""

# Playwright is in the environment of the end-to-end tests alone.
# pyright: reportMissingImports=false
from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.e2e.stand import Stand

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CONTRAST = 4.5
"""Of text and what is behind it, as WCAG AA asks."""
COLOURS = """() => {
  const seen = 'h1, #hint, #count, #search, .chip, .name, .about, .foot code';
  return [...document.querySelectorAll(seen)].map((element) => {
    let behind = element;
    const back = () => getComputedStyle(behind).backgroundColor;
    while (behind.parentElement && /, 0\\)$|transparent/.test(back())) behind = behind.parentElement;
    return [getComputedStyle(element).color, back()];
  });
}"""


@pytest.fixture(params=["light", "dark"])
def page(request: pytest.FixtureRequest, chromium: Browser, stand: Stand) -> Iterator[Page]:
    """The page `/personas` of our server, as a person opens it who knows the key."""
    context = chromium.new_context(
        color_scheme=request.param,
        http_credentials={"username": "any", "password": stand.ours.key},
        permissions=["clipboard-read", "clipboard-write"],
    )
    page = context.new_page()
    page.goto(f"{stand.ours.url}/personas")
    page.wait_for_selector(".card")
    yield page
    context.close()


def test_every_word_can_be_read(page: Page, request: pytest.FixtureRequest) -> None:
    pairs = page.evaluate(COLOURS)
    assert len(pairs) > 50
    assert min(contrast(*pair) for pair in pairs) >= CONTRAST
    dark = "[dark]" in request.node.name
    assert (light(page.evaluate("() => getComputedStyle(document.body).backgroundColor")) < 0.2) == dark


def test_by_keyboard_alone(page: Page) -> None:
    keys, count = page.keyboard, page.locator("#count")
    keys.type("chem")  # the search has the focus
    expect(page.locator(".card .name").first).to_have_text("Chemist")
    keys.press("Enter")
    copied(page, "!chemist")

    keys.press("Escape")
    expect(count).not_to_contain_text(" of ")
    everyone = count.inner_text()
    keys.press("ArrowDown")
    first = focused(page)
    keys.press("ArrowRight")
    second = focused(page)
    assert first.startswith("Copy the command of ")
    assert second.startswith("Copy the command of ")
    assert first != second
    keys.press("Enter")
    copied(page, second.rpartition(", ")[2])
    keys.press("/")
    assert focused(page) == "Search personas"

    page.locator(".card").nth(1).get_by_role("button", name="Details").press("Enter")
    expect(page.locator(".card").nth(1).locator(".capabilities li").first).to_be_visible()

    chip = page.locator("#categories button").nth(1)
    chip.press("Enter")
    expect(chip).to_have_attribute("aria-pressed", "true")
    expect(count).not_to_have_text(everyone)


def copied(page: Page, command: str) -> None:
    """Waits until the clipboard holds it: the page writes there when the browser allows it."""
    page.wait_for_function("async (command) => await navigator.clipboard.readText() === command", arg=command)


@pytest.fixture
def evil(stand: Stand) -> Iterator[str]:
    """A persona that would like to be markup; its words are its name's and its description's."""
    words = "</script><img src=x onerror=\"document.title='evil'\"><script>title=1</script>"
    route = f"{stand.ours.url}/api/v1/personas/"
    texts = {"name": words, "description": words, "capabilities": [words], "prompt": "You are evil."}
    made = stand.ours.session.post(route, json={"key": "evil", **texts})
    assert made.status_code == 201, made.text
    yield words
    assert stand.ours.session.delete(f"{route}evil").ok


def test_what_a_persona_says_is_text(evil: str, page: Page) -> None:
    page.locator("#search").fill("evil")

    card = page.locator(".card")
    expect(card.locator(".name")).to_have_text(evil)
    card.get_by_role("button", name="Details").click()
    expect(card.locator(".about")).to_have_text(evil)
    expect(card.locator(".capabilities li")).to_have_text(evil)
    expect(card.locator("img")).to_have_count(0)
    assert page.title() == "Personas"


def focused(page: Page) -> str:
    return page.evaluate("() => document.activeElement.getAttribute('aria-label') || ''")


def contrast(text: str, behind: str) -> float:
    darker, lighter = sorted((light(text), light(behind)))
    return (lighter + 0.05) / (darker + 0.05)


def light(colour: str) -> float:
    """Relative luminance of `rgb(…)`, 0 to 1, as WCAG defines it."""
    parts = [int(float(part)) / 255 for part in colour.partition("(")[2].rstrip(")").split(",")[:3]]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
