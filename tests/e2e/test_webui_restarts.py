"""Journey 12: a server is restarted in the middle of things, or the connection key is another one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.agents import agents
from tests.e2e.driver import Window
from tests.e2e.personas import check
from tests.e2e.stand import ScriptedProvider, Stand
from tests.e2e.webui import EVERYBODY
from tests.server.servers import Server

GATE = '''
import asyncio, pathlib

class Tools:
    async def wait_for(self, path: str) -> str:
        """
        Waits until a file is there.
        :param path: of the file
        """
        for _ in range(1200):
            if pathlib.Path(path).exists():
                return "it is open"
            await asyncio.sleep(0.05)
        return "it stayed closed"
'''
"""A tool that goes on when the test says so."""

DOORMAN = """
from agent_mode import AgentPipeline, AgentValves

class Pipeline(AgentPipeline):
    name = "Doorman"

    class Valves(AgentValves):
        allowed_agents: str | None = "porter"

    async def run(self, turn, tools, llm, call_agent, status):
        yield "Before. "
        yield await call_agent("porter", turn.text)
        yield " After."
"""


def restart(server: Server) -> None:
    server.stop()
    server.spawn()
    server.wait()


@pytest.fixture(scope="module")
def gate(stand: Stand) -> str:
    stand.admin.add_tool("gate", GATE, EVERYBODY)
    return "gate"


@pytest.fixture
def doorman(stand: Stand) -> Iterator[str]:
    """An agent in plain Python which lets another one work, that calls tools."""
    assert stand.ours.upload("doorman.py", DOORMAN).status_code == 200
    stand.admin.share_model("doorman", EVERYBODY)
    form = {
        "agent_type": "llamaindex_workflow",
        "definition": {"instructions": "You call the tools."},
        "access": "everyone",
    }
    with agents(stand, {"porter": form}):
        yield "doorman"
    stand.ours.request("DELETE", "/pipelines/delete", json={"id": "doorman"})


def waits_at(window: Window, model: str, gate: str, path: Path, provider: ScriptedProvider) -> None:
    window.new_chat(model, tools=gate)
    window.page.wait_for_selector("[aria-label='Available Tools']")
    window.send(f'call: wait_for {{"path": "{path}"}}\nthen say: I heard that {{results}}.')
    window.until(lambda: provider.turns)
    window.until(lambda: provider.turns[-1].finished)
    window.page.wait_for_timeout(500)  # until Open WebUI has begun with the tool


def test_our_server_is_restarted_while_a_tool_works(
    stand: Stand, ann: Window, provider: ScriptedProvider, gate: str, tmp_path: Path
) -> None:
    waits_at(ann, "personas.coder", gate, tmp_path / "open", provider)
    restart(stand.ours)
    (tmp_path / "open").touch()
    (answer,) = ann.wait()
    assert "I heard that it is open." in answer.text
    assert answer.errors == []
    assert len(provider.turns) == 2
    check(provider.turns[-1], "coder")
    assert ann.ask("!writer say: and on").text == "and on"
    check(provider.turns[-1], "writer", after="coder")


def test_our_server_is_restarted_while_a_called_agents_tool_works(
    stand: Stand, ann: Window, provider: ScriptedProvider, gate: str, tmp_path: Path, doorman: str
) -> None:
    """The whole line of agents goes on from what was stored."""
    waits_at(ann, doorman, gate, tmp_path / "open", provider)
    restart(stand.ours)
    (tmp_path / "open").touch()
    (answer,) = ann.wait()
    assert "I heard that it is open. After." in answer.text
    assert answer.text.count("Before.") == 1
    assert answer.errors == []
    assert len(provider.turns) == 2, "what was asked before is not asked again"


def test_our_server_is_away_and_comes_back(stand: Stand, ann: Window, provider: ScriptedProvider) -> None:
    ann.new_chat("personas.coder")
    ann.ask("!writer say: in words")
    stand.ours.stop()
    try:
        answer = ann.ask("say: anybody there?")
        assert answer.errors == ["Open WebUI: Server Connection Error"]
    finally:
        stand.ours.spawn()
        stand.ours.wait()
    assert ann.ask("say: in words again").text == "in words again"
    check(provider.turns[-1], "writer")


def test_open_webui_is_restarted(stand: Stand, ann: Window, provider: ScriptedProvider) -> None:
    ann.new_chat("personas.coder")
    ann.ask("say: in code")
    ann.ask("!writer say: in words")
    stand.webui.restart()
    ann.reload()
    assert [answer.text for answer in ann.answers] == ["in code", "in words"]
    answer = ann.ask("say: more words")
    assert (answer.text, answer.statuses) == ("more words", ["📝 Writer"])
    check(provider.turns[-1], "writer")


def test_another_connection_key(stand: Stand, admin: Window, ann: Window, provider: ScriptedProvider) -> None:
    ann.new_chat("personas.coder")
    ann.ask("!writer say: in words")
    old, new = stand.ours.key, "sk-another-connection-key"
    try:
        use_key(stand.ours, new)
        refused = ann.ask("say: hello")
        assert refused.errors == ["Unauthorized"], "all that Open WebUI lets through"

        connections = admin.settings("connections")
        connections.get_by_label("Configure").first.click()
        dialog = admin.page.get_by_role("dialog").last
        dialog.get_by_placeholder("API Key").fill(new)
        dialog.get_by_role("button", name="Save", exact=True).click()
        admin.until(lambda: any("updated" in toast.lower() for toast in admin.toasts))

        ann.reload()
        assert ann.ask("say: in words again").text == "in words again"
        check(provider.turns[-1], "writer")
    finally:
        use_key(stand.ours, old)
        stand.admin.connect(stand.connection, stand.plain_connection)


def use_key(server: Server, key: str) -> None:
    """Restarts the server with this connection key."""
    server.stop()
    server.key = key
    server.environment["PIPELINES_API_KEY"] = key
    server.session.headers["Authorization"] = f"Bearer {key}"
    server.spawn()
    server.wait()
