"""Bundles brought to a stock server by the page of Open WebUI: uploaded, and from an address."""

# Playwright is in the environment of the end-to-end tests alone.
# pyright: reportMissingImports=false
from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.bundles import build
from tests.e2e.driver import Window
from tests.e2e.personas import check, prompts_in
from tests.e2e.stand import OURS, PLAIN, STOCK, ScriptedProvider, Stand
from tests.e2e.webui import Connection
from tests.server.servers import Server, make, running

DONE = "Pipeline downloaded successfully"
"""What the page says of an upload too."""


@pytest.fixture(scope="module")
def bundles(stand: Stand, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    assert OURS.python
    return build(tmp_path_factory.mktemp("dist"), python=OURS.python)


@pytest.fixture
def bare(stand: Stand, tmp_path: Path) -> Iterator[Server]:
    """A stock server with nothing on it, the only one of its kind in Open WebUI."""
    server = make(STOCK, tmp_path / "bare", stand.provider.base_url, foreign=(), bare=True)
    server.environment["AGENT_MODE_MODEL"] = PLAIN
    with running(server):
        stand.admin.connect(Connection(server.url, server.key), stand.plain_connection)
        yield server
        stand.admin.connect(stand.connection, stand.plain_connection)


@pytest.fixture
def address(bundles: dict[str, Path]) -> Iterator[str]:
    """Where the bundles can be downloaded."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    folder = next(iter(bundles.values())).parent
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def chats_work(window: Window, provider: ScriptedProvider) -> None:
    """A persona answers, and a persona called on a plain model."""
    window.new_chat("personas.coder")
    answer = window.ask("say: in code")
    assert (answer.text, answer.errors) == ("in code", [])
    check(provider.turns[-1], "coder")
    assert window.ask("!writer say: in words").text == "in words"
    check(provider.turns[-1], "writer", after="coder")

    window.new_chat(PLAIN)
    window.ask("say: as I am")
    assert prompts_in(provider.turns[-1]) == []
    answer = window.ask("!coder say: in code too")
    assert (answer.name, answer.text) == (PLAIN, "in code too")
    check(provider.turns[-1], "coder", after="")


def test_uploaded_to_a_stock_server(
    admin: Window, bare: Server, provider: ScriptedProvider, bundles: dict[str, Path]
) -> None:
    for name in ("personas", "hotswap"):
        assert DONE in admin.upload_pipeline(bundles[name])
        tab = admin.page.locator("#tab-admin-pipelines")
        admin.until(lambda name=name, tab=tab: f"{name} (" in tab.inner_text())
    chats_work(admin, provider)

    assert DONE in admin.upload_pipeline(bundles["personas"])
    chats_work(admin, provider)
    assert len(list((bare.pipelines_dir / ".agent_mode").glob("*/agent_mode"))) == 1
    assert "Traceback" not in bare.log()


def test_added_from_an_address(admin: Window, bare: Server, provider: ScriptedProvider, address: str) -> None:
    for name in ("personas", "hotswap", "researcher", "data_analyst"):
        assert DONE in admin.add_pipeline(f"{address}/{name}.py")
    chats_work(admin, provider)

    admin.new_chat("researcher")
    answer = admin.ask("What is new?")
    assert len(answer.errors) == 1
    assert "needs LlamaIndex" in answer.errors[0]
    admin.reload()
    assert admin.answer.errors == answer.errors

    admin.new_chat("data_analyst")
    answer = admin.ask("```\ncity,people\nA,1\nB,3\n```")
    assert answer.errors == []
    assert "No chart: A chart needs the package Pillow" in answer.text, "the stock server's pins have none"
    row = admin.element(answer).get_by_role("row").filter(has_text="people").first
    expect(row.get_by_role("cell")).to_have_text(["people", "2", "4", "2"])
