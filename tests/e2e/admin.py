"""The Agents page as an admin sees it, over Playwright.

page = AdminPage(chromium, stand.ours).sign_in()
page.open("/runs"); page.main.get_by_role("link", name="writer").click()
"""

# Playwright is in the environment of the end-to-end tests alone.
# pyright: reportMissingImports=false
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.server.servers import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 860}


class AdminPage:
    """One window.

    Args:
        browser: that opens it.
        server: whose page it is.
        phone: of the size of a phone's.
        dark: the system's colours are dark.

    Attributes:
        page: Playwright's page.
        console: errors and warnings that the page's scripts reported.
        dialogs: what the browser asked, such as whether to leave; it was answered with yes.
    """

    def __init__(self, browser: Browser, server: Server, *, phone: bool = False, dark: bool = False) -> None:
        self.server = server
        self.name = "agents-page"
        self._context = browser.new_context(
            viewport=PHONE if phone else DESKTOP,  # pyright: ignore[reportArgumentType]
            color_scheme="dark" if dark else "light",
            locale="en-US",
        )
        self._context.set_default_timeout(30_000)
        self.page = self._context.new_page()
        self.console: list[str] = []
        self.page.on("console", self._heard)
        self.dialogs: list[str] = []
        self.page.on("dialog", self._asked)
        self.page.on("pageerror", lambda error: self.console.append(f"error: {error}"))

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.console.append(f"{message.type}: {message.text}")

    def _asked(self, dialog: Any) -> None:
        # Without this, Playwright would answer, and nobody would know.
        self.dialogs.append(dialog.type)
        dialog.accept()

    @property
    def main(self) -> Locator:
        """The content of the page, without navigation and frame."""
        return self.page.get_by_role("main")

    def sign_in(self, key: str | None = None, *, email: str = "", password: str = "") -> Self:
        """Signs in: with the connection key, with another one, or with an account of Open WebUI."""
        self.page.goto(f"{self.server.url}/admin/")
        if email:
            self.page.get_by_label("E-mail address").fill(email)
            self.page.get_by_label("Password").fill(password)
        else:
            self.page.get_by_label("Connection key").fill(key or self.server.key)
        self.page.get_by_role("button", name="Sign in").click()
        return self

    def open(self, path: str) -> Locator:
        """Opens a page, such as `/runs`, and waits until it is alive; returns its content."""
        self.page.goto(f"{self.server.url}/admin{path}")
        self.alive()
        return self.main

    def alive(self) -> None:
        """Waits until the page's socket is there: before it, a click does nothing."""
        self.page.wait_for_function("window.did_handshake === true")

    def save_picture(self, path: Path) -> None:
        self.page.screenshot(path=str(path), full_page=True)

    def close(self) -> None:
        self._context.close()
