"""Journey 9: whatever fails, the chat says readably what and what to do, keeps it, and goes on."""

# Playwright is in the environment of the end-to-end tests alone.
# pyright: reportMissingImports=false
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.e2e.agents import agents, in_python
from tests.e2e.driver import Answer, Window
from tests.e2e.stand import Stand
from tests.e2e.webui import EVERYBODY

KIT = "broken_kit"
TOOLS = '''
class Tools:
    def broken(self) -> str:
        """Does not work."""
        raise RuntimeError("out of order")

    def clock(self) -> str:
        """Tells the time."""
        return "it is noon"
'''
BREAKER = """
import sys

async def run(turn, tools, llm, call_agent, status):
    await status("At work…")
    yield "So far so good."
    match turn.text:
        case "code":
            raise ValueError("the price is missing")
        case "tool":
            await tools.broken()
        case "loop":
            while True:
                pass
        case "exit":
            sys.exit(3)
        case "memory":
            bytearray(10**10)
        case "model":
            await llm("like: stub-503")
        case "agent":
            await call_agent("teacher", "hi")
        case "stranger":
            await call_agent("nobody", "hi")
"""
FILE = '''"""
title: A pipeline file with a fault
"""

from agent_mode import AgentPipeline


class Pipeline(AgentPipeline):
    name = "Filed"

    async def run(self, turn, tools, llm, call_agent, status):
        await status("At work…")
        yield "So far so good."
        raise KeyError("price")
'''

PROVIDER: dict[str, tuple[str, str]] = {
    "like: stub-401": (
        "",
        "refused the key (401). It says: Incorrect API key provided: sk-****. Check the key:",
    ),
    "like: stub-404": ("", "does not know the model “gpt-4o” (404)"),
    "like: stub-429": (
        "",
        "is limiting requests (429). It says: Rate limit reached for stub-429. Try again in 7",
    ),
    "like: stub-500": ("", "has trouble (500). It says: Internal Server Error. Try again"),
    "like: stub-html": ("", "sent something that is not a chat answer. Check that the base URL"),
    "like: stub-badjson": ("Good", "sent something that is not a chat answer"),
    "like: stub-cut": ("One two three", "broke in the middle of the answer. What came before stays"),
    "like: stub-errchunk": ("So far", "stopped with an error: overloaded. Try again"),
}
"""What the user says, and the partial answer and the words of the red box that come of it."""
CODE: dict[str, tuple[str, str]] = {
    "code": (
        "So far so good.",
        "failed in line 9: ValueError: the price is missing. Correct the agent's code",
    ),
    "tool": ("So far so good.", "failed in line 11: AgentError:"),
    "loop": ("So far so good.", "took longer than 1 second"),
    "exit": ("So far so good.", "ended its own process with status 3, in line 16"),
    "memory": ("So far so good.", "needs more than 512 MiB of memory"),
    "model": ("So far so good.", "The model provider has trouble (503)"),
    "stranger": ("So far so good.", "Breaker may not call an agent “nobody”. It may call: teacher."),
}
CODES = {
    "code": "code_failed",
    "tool": "tool_failed",
    "loop": "code_timeout",
    "exit": "code_exited",
    "memory": "code_memory",
    "model": "provider_unavailable",
    "stranger": "agent_not_allowed",
}
"""What the line above each answer calls it: what the code let pass keeps its name."""
LIMITS: dict[str, tuple[str, str]] = {
    "tell: Let me see.\ncall: clock\nthen call: clock\nthen call: clock": (
        "Let me see.",
        "at its limit of 2 LLM calls. Ask for less at once, or let an admin raise the valve `max_steps`.",
    ),
    "tell: Let me see.\ncall: clock & clock & clock & clock": (
        "Let me see.",
        "stopped at its limit of 3 tool calls",
    ),
    "like: stub-stall": ("Still here", "stopped at its limit of 4 seconds"),
}


@pytest.fixture(scope="module", autouse=True)
def cast(stand: Stand) -> Iterator[None]:
    stand.admin.add_tool(KIT, TOOLS, EVERYBODY)
    limits = {"max_steps": 2, "max_tool_calls": 3, "max_seconds": 4}
    chief = {"agent_type": "llamaindex_workflow", "definition": {"instructions": "You are chief."}}
    forms = {
        "breaker": in_python(
            BREAKER, name="Breaker", valves={"code_seconds": 1, "allowed_agents": "teacher"}
        ),
        "hurried": {"name": "Hurried", "valves": limits},
        "chief": {"name": "Chief", **chief},
    }
    with agents(stand, forms):
        yield
    stand.admin.request("DELETE", f"/api/v1/tools/id/{KIT}/delete").raise_for_status()


def fails(window: Window, cases: Mapping[str, tuple[str, str]], line: str | None = None) -> list[Answer]:
    """Each of the turns fails as it should; the chat goes on, and after a reload all of it is still there.

    Args:
        line: how the line above each answer begins; None: there is none.
    """
    told: list[Answer] = []
    for text, (partial, words) in cases.items():
        answer = window.ask(text)
        assert answer.text.startswith(partial), text
        [error] = answer.errors
        assert words in error, text
        assert "Traceback" not in error
        assert [status[: len(line or "")] for status in answer.statuses] == [line] * bool(line)
        expect(window.element(answer).locator(".status-description .shimmer"), text).to_have_count(0)
        told.append(answer)
    assert window.ask("say: and on").errors == []

    window.reload()
    # Of a long chat the page shows the end; the rest comes when one scrolls up.
    shown = [answer for answer in window.answers if answer.errors]
    assert shown == told[-len(shown) :]
    stored = {message["id"]: message for message in window.stored}
    for answer, (partial, _) in zip(told, cases.values(), strict=True):
        assert kept_words(stored[answer.id]) == answer.errors[0].split()
        assert stored[answer.id]["content"].strip() == partial
        assert stored[answer.id]["done"]
    return told


def kept_words(message: Mapping[str, Any]) -> list[str]:
    """The words of a stored error: the error itself, or what Open WebUI read in a response that failed."""
    content = message["error"]["content"]
    return (content if isinstance(content, str) else content["message"]).split()


@pytest.mark.parametrize("model", ["personas.coder", "chief"])
def test_errors_of_the_provider(ann: Window, model: str) -> None:
    ann.new_chat(model)
    short = {text: PROVIDER[text] for text in ("like: stub-401", "like: stub-cut")}
    if model == "personas.coder":
        fails(ann, PROVIDER)
    else:
        fails(ann, short, "Failed: provider_")


def test_errors_of_an_agents_code(ann: Window) -> None:
    ann.new_chat("breaker", tools=KIT)
    for answer, code in zip(fails(ann, CODE, "Failed: "), CODES.values(), strict=True):
        assert re.search(rf"^Failed: {code} · agent breaker · .* · run [0-9a-f]{{20}}$", answer.statuses[0])


def test_limits(ann: Window) -> None:
    ann.new_chat("hurried", tools=KIT)
    assert fails(ann, LIMITS, "Failed: limit_")[0].cards == ["Explored 2 clock"]


def test_a_fault_in_a_pipeline_file(stand: Stand, ann: Window) -> None:
    assert stand.ours.upload("filed.py", FILE).json()["status"] is True
    try:
        stand.admin.share_model("filed", EVERYBODY)
        ann.new_chat("filed")
        answer = ann.ask("Go")
        assert answer.text.startswith("So far so good.")
        [error] = answer.errors
        assert "Filed failed with KeyError: 'price'" in error
        ann.reload()
        assert ann.answer == answer
    finally:
        stand.ours.request("DELETE", "/pipelines/delete", json={"id": "filed"})


def test_denied_access(bob: Window) -> None:
    bob.new_chat("breaker")
    words = "The user may not use 🍎 Teacher. An admin can grant access to its model"
    fails(bob, {"agent": ("So far so good.", words)}, "Failed: agent_no_access")

    bob.new_chat("personas.coder")
    refused = bob.ask("!teacher say: secrets")
    assert "You may not use 🍎 Teacher here. Ask an admin for access" in refused.text
    bob.reload()
    assert bob.answer.text == refused.text


def test_the_provider_is_gone(stand: Stand, ann: Window) -> None:
    """A persona whose provider does not answer at all."""
    before = stand.ours.get("/personas/valves").json()
    stand.ours.post("/personas/valves/update", {**before, "llm_base_url": "http://127.0.0.1:9/v1"})
    try:
        ann.new_chat("personas.coder")
        answer = ann.ask("Hello")
    finally:
        stand.ours.post("/personas/valves/update", before)
    [error] = answer.errors
    assert "127.0.0.1:9" in error
    ann.reload()
    assert ann.answer == answer
