"""Admin Panel → Settings → Pipelines: the form in which an admin edits valves.

form = ValvesForm(admin, stand.ours, "personas (manifold)")
form.fill("Max Steps", "2"); form.turn("Enable Debug", on=True); form.choose("History Policy", "none")
assert form.save() == SAVED
"""

# Playwright is in the environment of the end-to-end tests alone.
# pyright: reportMissingImports=false
from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.e2e.driver import Window
from tests.server.servers import Server

if TYPE_CHECKING:
    from playwright.sync_api import Locator

_ALWAYS = "Settings saved successfully!"
"""Said after every Save, also after one that failed."""
SAVED = "Valves updated successfully"
PERSONAS = "personas (manifold)"
HOTSWAP = "hotswap (filter)"


class ValvesForm:
    """The form of one pipeline, freshly loaded.

    Args:
        window: of an admin.
        server: it has to be connected.
        pipeline: as the page lists it.
        holds: a field of it.
    """

    def __init__(
        self, window: Window, server: Server, pipeline: str, *, holds: str = "Keyword Prefix"
    ) -> None:
        self._window = window
        self._page = window.page
        with self._loading():
            window.settings("pipelines")
        for place, label in (("#pipelines-url", server.url), ("#pipeline", pipeline)):
            box = self._page.locator(place)
            if box.evaluate("box => box.selectedOptions[0]?.label.trim()") != label:
                with self._loading():
                    box.select_option(label=label)
        self._field(holds).wait_for()

    @contextmanager
    def _loading(self) -> Iterator[None]:
        """What happens inside makes the page fetch the values of a pipeline."""
        with self._page.expect_response(re.compile(r"/pipelines/[^/]+/valves\?")):
            yield
        self._page.wait_for_timeout(200)  # until they are in their fields

    def _field(self, name: str) -> Locator:
        label = f"//form//label[normalize-space()='{name}']"
        return self._page.locator(f"xpath={label}/ancestor::div[2]").first

    def fill(self, name: str, text: str) -> None:
        """Writes into a field; one that says None is switched to Custom first."""
        box = self._field(name).locator("input[type=text]")
        if not box.count():
            self.toggle(name)
        box.fill(text)

    def toggle(self, name: str) -> None:
        """The button None or Custom beside the field."""
        self._field(name).locator("button[id^=admin-setting]").first.click()

    def turn(self, name: str, *, on: bool) -> None:
        switch = self._field(name).get_by_role("switch")
        if (switch.get_attribute("aria-checked") == "true") != on:
            switch.click()

    def choose(self, name: str, choice: str) -> None:
        self._field(name).locator("select").select_option(choice)

    def shown(self, name: str) -> str | bool | None:
        """The value of a field: text, a switch's position; None where the button says so."""
        field = self._field(name)
        switch = field.get_by_role("switch")
        if switch.count():
            return switch.get_attribute("aria-checked") == "true"
        box = field.locator("input[type=text], select")
        return box.input_value() if box.count() else None

    def save(self) -> str:
        """Presses Save; returns what the page says about it."""
        self._page.get_by_role("button", name="Save", exact=True).click()
        said: list[str] = []

        def spoken() -> bool:
            said[:] = [toast.strip() for toast in self._window.toasts if toast.strip() != _ALWAYS]
            return bool(said)

        self._window.until(spoken)
        return said[0]
