"""Watching runs on the Agents page, and stopping one, in a real browser."""

# Playwright is in the environment of the end-to-end tests alone.
# pyright: reportMissingImports=false
from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import OpenAdmin
from tests.e2e.stand import Stand

EVIL = "<script>document.title = 'owned'</script>"


@pytest.fixture
def agents(stand: Stand) -> Iterator[None]:
    """A boss who calls a clerk, and one who never ends."""
    named: dict[str, dict[str, Any]] = {
        "watched-clerk": {"llm_model": "stub-agent"},
        "watched-boss": {"llm_model": "stub-agent", "allowed_agents": "watched-*"},
        "watched-endless": {"llm_model": "stub-hang"},
    }
    for agent_id, valves in named.items():
        body = {
            "id": agent_id,
            "name": agent_id,
            "agent_type": "llamaindex_workflow",
            "access": "everyone",
            "definition": {"instructions": "You help."},
            "valves": valves,
        }
        reply = stand.ours.post("/api/v1/agents/", body)
        assert reply.status_code == 201, reply.text
    yield
    for agent_id in named:
        stand.ours.request("DELETE", f"/api/v1/agents/{agent_id}")


@pytest.mark.usefixtures("agents")
def test_a_run_and_what_it_called_are_shown_step_by_step(stand: Stand, agents_page: OpenAdmin) -> None:
    window = agents_page().sign_in()
    runs = window.open("/runs?q=watched-boss")
    expect(runs.get_by_text("No run fits")).to_be_visible()
    task = json.dumps({"agent": "watched-clerk", "task": f"say: {EVIL}"})
    asked = {"input": f"call: call_agent {task}\nthen say: Done."}
    assert stand.ours.post("/api/v1/agents/watched-boss/run", asked).status_code == 200

    runs.get_by_role("link", name="watched-boss").click()  # the list looks for itself
    window.alive()
    expect(runs.get_by_role("heading", name="Run of watched-boss")).to_be_visible()
    runs.get_by_text("Arguments and result").click()
    expect(runs.get_by_text("document.title").first).to_be_visible()
    assert "owned" not in window.page.title()
    runs.get_by_role("link", name="watched-clerk").click()
    expect(runs.get_by_role("heading", name="Run of watched-clerk")).to_be_visible()
    assert not window.console


@pytest.mark.usefixtures("agents")
def test_a_run_is_stopped(stand: Stand, agents_page: OpenAdmin) -> None:
    window = agents_page().sign_in()
    runs = window.open("/runs?state=running")
    asked = threading.Thread(
        target=stand.ours.post, args=("/api/v1/agents/watched-endless/run", {"input": "Begin"})
    )
    asked.start()
    runs.get_by_role("link", name="watched-endless").click()
    window.alive()
    runs.get_by_role("button", name="Stop").click()
    expect(window.page.get_by_text("Stopped.")).to_be_visible()
    expect(runs.get_by_text("stopped", exact=True).first).to_be_visible()
    expect(runs.get_by_role("button", name="Stop")).to_be_hidden()
    asked.join(15)
    assert not asked.is_alive()
    records = window.open("/records?q=watched-endless")
    expect(records.get_by_text("stopped run")).to_be_visible()
