"""Takes the pictures of the docs from the real thing: `./test.sh e2e --screenshots`, and only then."""

# Pillow and Playwright are in the environment of the end-to-end tests alone.
# pyright: reportMissingImports=false
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.e2e.admin import AdminPage
from tests.e2e.conftest import Open
from tests.e2e.driver import Window
from tests.e2e.pipelines_tab import PERSONAS, ValvesForm
from tests.e2e.stand import OURS, PLAIN, TITLE, ScriptedProvider, Stand
from tests.e2e.webui import EVERYBODY, Connection
from tests.provider import Reply
from tests.server.servers import ROOT, Server, make, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

IMAGES = ROOT / "docs" / "images"
LARGEST = 150_000
SIZE = (1200, 860)

WEATHER = '''
class Tools:
    async def get_weather(self, city: str) -> str:
        """
        Tells tomorrow's weather.
        :param city: where
        """
        return "Rome, tomorrow: 24 °C, light rain from 17:00, wind 12 km/h"
'''


@pytest.fixture(scope="module")
def fresh(stand: Stand, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server as a newcomer has it: no provider, so that the demo model answers."""
    server = make(OURS, tmp_path_factory.mktemp("fresh"), None, foreign=())
    with running(server):
        stand.admin.connect(Connection(server.url, server.key))
        yield server
    stand.admin.connect(stand.connection, stand.plain_connection)


@pytest.fixture
def page(stand: Stand, open_window: Open) -> Window:
    return open_window(stand.admin, size=SIZE)


def save(window: Window, name: str) -> None:
    """Writes a picture of Open WebUI."""
    with contextlib.suppress(TimeoutError):
        window.page.wait_for_function("!document.querySelector('[data-sonner-toast]')")
    _save(window.page, name)


def _save(page: Page, name: str) -> None:
    """Writes a picture, in few colours so that the checkout stays small."""
    from PIL import Image

    path = IMAGES / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)
    page.screenshot(path=path)
    Image.open(path).convert("RGB").quantize(192, dither=Image.Dither.NONE).save(path, optimize=True)
    assert path.stat().st_size < LARGEST, f"{name}: {path.stat().st_size} bytes"


def test_connect(stand: Stand, page: Window) -> None:
    stand.admin.connect(Connection("https://api.openai.com/v1", "sk-none", {"enable": False}))
    page.settings("connections").get_by_label("Add Connection").click()
    dialog = page.page.get_by_role("dialog").last
    dialog.get_by_placeholder("API Base URL").fill("http://127.0.0.1:9099")
    dialog.get_by_placeholder("API Key").fill("the key that the start has printed")
    save(page, "connect")


def test_models(fresh: Server, page: Window) -> None:
    page.new_chat("personas.coder")
    page.page.click("#model-selector-model-button")
    page.page.fill("#model-search-input", "writ")
    page.until(lambda: page.page.locator("[id^=model-option-]").count() > 3)
    save(page, "models")


def test_switch(fresh: Server, page: Window) -> None:
    page.new_chat("personas.coder")
    page.ask("How do I reverse a list in Python?")
    page.ask("!writer say that in one friendly sentence")
    save(page, "switch")


def test_browser(stand: Stand, fresh: Server, open_window: Open) -> None:
    page = open_window(stand.admin, size=(1200, 1000))
    page.new_chat("personas.coder")
    page.embed(page.ask("!agent list")).locator("#search").wait_for()
    save(page, "browser")


def test_valves(fresh: Server, page: Window) -> None:
    form = ValvesForm(page, fresh, PERSONAS)
    form.toggle("Llm Base Url")
    form.fill("Llm Base Url", "https://api.openai.com/v1")
    form.fill("Llm Model", "gpt-4o")
    page.page.locator("#pipeline").evaluate("box => box.scrollIntoView()")
    save(page, "valves")


def test_tool_card(stand: Stand, page: Window, provider: ScriptedProvider) -> None:
    stand.admin.connect(stand.connection, stand.plain_connection)
    stand.admin.add_tool("weather", WEATHER, EVERYBODY)
    provider.script(
        Reply(tool_calls=[("get_weather", {"city": "Rome"})]),
        "Tomorrow is warm, 24 °C, and dry until five. **Take an umbrella for the evening:** light rain is "
        "expected from 17:00 on. For the Forum go in the morning; it has hardly any roof.",
        model=PLAIN,
    )
    page.new_chat("personas.travel_planner", tools="weather")
    page.page.wait_for_selector("[aria-label='Available Tools']")
    answer = page.ask("Do I need an umbrella in Rome tomorrow?")
    page.until(lambda: page.account.chat(page.chat_id)["title"] == TITLE)
    page.account.post(f"/api/v1/chats/{page.chat_id}", {"chat": {"title": "Rome tomorrow"}})
    page.reload()
    assert "light rain from 17:00" in page.unfold(answer)
    save(page, "tool-card")
    stand.admin.request("DELETE", "/api/v1/tools/id/weather/delete").raise_for_status()


ADMIN_PAGES = {
    "dashboard": "/",
    "agents": "/agents",
    "new-agent": "/agents/new",
    "multi-agent": "/agents/new/multi-agent",
    "agent": "/agents/news-desk",
    "personas": "/personas",
    "new-persona": "/personas/new",
    "persona": "/personas/coder/edit",
    "import": "/personas/import",
    "backups": "/personas/backups",
    "strategies": "/strategies?model=gpt-4o",
    "strategy-file": "/strategies/files/openai",
    "template": "/strategies/templates/hierarchical",
    "runs": "/runs",
    "valves": "/valves",
    "valves-of-one": "/valves/personas",
    "setup": "/setup",
    "records": "/records",
}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_agents_page(stand: Stand, fresh: Server, chromium: Browser, dark: bool) -> None:
    mode = "dark" if dark else "light"
    _fill(fresh)
    window = AdminPage(chromium, fresh, dark=dark)
    window.page.goto(f"{fresh.url}/admin/")
    _save(window.page, f"admin/sign-in-{mode}")
    window.sign_in()
    for name, path in ADMIN_PAGES.items():
        window.open(path)
        window.page.wait_for_timeout(1_500)  # what a page loads after it is shown
        _save(window.page, f"admin/{name}-{mode}")
    window.open("/runs").get_by_role("link", name="news-desk").first.click()
    window.alive()
    _save(window.page, f"admin/run-{mode}")
    window.open("/personas/backups").get_by_role("table").get_by_role("link").first.click()
    window.alive()
    _save(window.page, f"admin/backup-{mode}")
    window.close()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_publish(stand: Stand, chromium: Browser, dark: bool) -> None:
    """Needs a server that knows Open WebUI."""
    window = AdminPage(chromium, stand.ours, dark=dark).sign_in()
    window.open("/setup/publish").get_by_role("checkbox").first.wait_for()
    _save(window.page, f"admin/publish-{'dark' if dark else 'light'}")
    window.close()


def _fill(server: Server) -> None:
    """An agent that has another one, and runs of it."""
    team = [
        {
            "id": "archive",
            "name": "Archive",
            "description": "Knows what was written before.",
            "agent_type": "persona",
            "definition": {"instructions": "You know the archive."},
        },
        {
            "id": "news-desk",
            "name": "News desk",
            "description": "Reads, checks, and writes a short morning letter.",
            "agent_type": "llamaindex_workflow",
            "definition": {"instructions": "You write the morning letter. Ask the archive what came before."},
            "valves": {"allowed_agents": "archive"},
            "tags": ["daily"],
        },
    ]
    for agent in team:
        assert server.post("/api/v1/agents/", {**agent, "access": "everyone"}).status_code in (201, 409)
    for question in ("What happened today?", "And in short?"):
        assert server.post("/api/v1/agents/news-desk/run", {"input": question}).status_code == 200
