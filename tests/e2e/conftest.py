"""Fixtures of the end-to-end tests: a real Open WebUI in a real browser; `./test.sh e2e` brings all of it.

A test that fails leaves pictures of its windows, their consoles and the logs of all servers in
`.cache/e2e-failures/<name of the test>`.
"""

# Playwright is in the environment of the end-to-end tests alone.
# pyright: reportMissingImports=false
from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e import stand as stands
from tests.e2e.admin import AdminPage
from tests.e2e.driver import CHROMIUM_FLAGS, PATIENCE, Window
from tests.e2e.stand import ScriptedProvider, Stand
from tests.e2e.webui import Account
from tests.server.servers import ROOT, Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FAILURES = ROOT / ".cache" / "e2e-failures"

PICTURES = "test_screenshots.py"

NEEDED = {
    "AGENT_MODE_TEST_PYTHON": stands.OURS.python,
    "AGENT_MODE_STOCK_PYTHON": stands.STOCK.python,
    "AGENT_MODE_E2E_OPEN_WEBUI": stands.OPEN_WEBUI,
    "AGENT_MODE_E2E_CHROMIUM": stands.CHROMIUM,
}

Open = Callable[..., Window]
OpenAdmin = Callable[..., AdminPage]


# Without Playwright nothing here can be so much as imported.
collect_ignore_glob = [] if importlib.util.find_spec("playwright") else ["test_*.py"]


def pytest_report_header() -> str | None:
    return "tests/e2e: left out, ./test.sh e2e runs it" if collect_ignore_glob else None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", action="store_true", help="take the pictures of docs/images anew")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--screenshots` the pictures alone are taken, and else never."""
    wanted = bool(config.getoption("--screenshots"))
    here = Path(__file__).parent
    left_out = [item for item in items if item.path.parent == here and (item.path.name == PICTURES) != wanted]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def stand(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    missing = [name for name, value in NEEDED.items() if not value]
    if missing:
        pytest.skip(f"run ./test.sh e2e (not set: {', '.join(missing)})")
    if not request.config.getoption("lf"):  # what is tried once more is looked at beside the first time
        shutil.rmtree(FAILURES, ignore_errors=True)
    with stands.standing(tmp_path_factory.mktemp("stand")) as stand:
        yield stand


@pytest.fixture(scope="session")
def chromium(stand: Stand) -> Iterator[Browser]:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=stands.CHROMIUM, args=list(CHROMIUM_FLAGS))
        yield browser
        browser.close()


@pytest.fixture(autouse=True)
def _fresh(stand: Stand, request: pytest.FixtureRequest) -> None:
    """Each test begins with nothing in the provider's books."""
    stand.provider.clear()
    for server in (stand.ours, stand.stock):
        server.mark = server.log_file.stat().st_size


@pytest.fixture
def provider(stand: Stand) -> ScriptedProvider:
    return stand.provider


@pytest.fixture
def windows() -> list[Window]:
    """Those that the test has opened."""
    return []


@pytest.fixture
def open_window(chromium: Browser, windows: list[Window]) -> Iterator[Open]:
    """Opens a page for a user."""

    def open_one(account: Account, **options: Any) -> Window:
        windows.append(Window(chromium, account, **options))
        return windows[-1]

    yield open_one
    for window in windows:
        window.close()


@pytest.fixture
def agents_page(stand: Stand, chromium: Browser, admin_pages: list[AdminPage]) -> Iterator[OpenAdmin]:
    """Opens the Agents page of our server, or of another one, in a window of its own."""

    def open_one(server: Server | None = None, **options: Any) -> AdminPage:
        admin_pages.append(AdminPage(chromium, server or stand.ours, **options))
        return admin_pages[-1]

    yield open_one
    for page in admin_pages:
        page.close()


@pytest.fixture
def admin_pages() -> list[AdminPage]:
    """Those that the test has opened."""
    return []


@pytest.fixture
def admin(stand: Stand, open_window: Open) -> Window:
    return open_window(stand.admin)


@pytest.fixture
def ann(stand: Stand, open_window: Open) -> Window:
    return open_window(stand.ann)


@pytest.fixture
def bob(stand: Stand, open_window: Open) -> Window:
    return open_window(stand.bob)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """A failure leaves what there is to see."""
    report = yield
    found = getattr(item, "funcargs", {})
    if report.failed and "stand" in found:
        folder = FAILURES / re.sub(r"[^\w.-]+", "-", item.name)
        _leave(folder, found["stand"], found.get("windows", []))
        for number, page in enumerate(found.get("admin_pages", [])):
            with contextlib.suppress(Exception):  # as with the windows
                page.save_picture(folder / f"admin-{number}.png")
            (folder / f"admin-{number}.console.txt").write_text("\n".join(page.console))
        report.sections.append(("left behind", str(folder.relative_to(ROOT))))
    return report


def _leave(folder: Path, stand: Stand, windows: list[Window]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, window in enumerate(windows):
        name = f"{number}-{window.account.name}"
        # A page that has crashed has no picture; the rest is worth having all the same.
        with contextlib.suppress(Exception):
            window.save_picture(folder / f"{name}.png")
        (folder / f"{name}.console.txt").write_text("\n".join(window.console))
    for name, text in stand.logs().items():
        (folder / f"{name}.log").write_text(text)
    asked = [{"path": recorded.path, "body": recorded.body} for recorded in stand.provider.requests]
    (folder / "provider.json").write_text(json.dumps(asked, indent=1, ensure_ascii=False))
