"""Journeys 7 and 8: what is seen of an agent at work, and the Stop button."""

# Playwright is in the environment of the end-to-end tests alone.
# pyright: reportMissingImports=false
from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.agents import agents, in_python
from tests.e2e.driver import Window
from tests.e2e.personas import said
from tests.e2e.stand import ScriptedProvider, Stand
from tests.e2e.webui import EVERYBODY
from tests.server.servers import eventually

STARGAZER = """
import asyncio

async def run(turn, tools, llm, call_agent, status):
    await status("Looking at the sky…")
    await asyncio.sleep(1.5)
    yield "The moon is round [1]. "
    await status.source("Almanac", url="https://almanac.example/moon", text="It is as round as can be.")
    yield await llm("say: It shines.")
    await status("Seen the sky", done=True)
"""
SLEEPER = """
import os, subprocess, time

async def run(turn, tools, llm, call_agent, status):
    child = subprocess.Popen(["sleep", "300"])
    yield f"{os.getpid()} {child.pid}"
    if turn.text == "ask":
        await llm("like: stub-hang")
    while True:
        time.sleep(0.1)
"""
LIBRARY = '''
class Tools:
    def search_library(self, words: str) -> str:
        """Finds books."""
        return f"About {words}: https://library.example/moon says that it is round."
'''
TABLE = "month,sales\nJan,3\nFeb,5\nMar,4"


@pytest.fixture(scope="module", autouse=True)
def cast(stand: Stand) -> Iterator[None]:
    chief = {"agent_type": "llamaindex_workflow", "definition": {"instructions": "You are chief."}}
    forms = {
        "thinker": {"name": "Thinker"},
        "stargazer": in_python(STARGAZER, name="Stargazer"),
        "sleeper": in_python(SLEEPER, name="Sleeper"),
        "chief": {"name": "Chief", **chief},
        "manager": {"name": "Manager", "valves": {"allowed_agents": "sleeper"}},
    }
    stand.admin.share_model("data_analyst", EVERYBODY)
    with agents(stand, forms):
        yield


def test_lines_come_and_are_closed(ann: Window) -> None:
    ann.new_chat("stargazer")
    ann.send("What is up there?")
    ann.until(lambda: ann.answers and ann.answer.statuses == ["Looking at the sky…"])
    assert ann.busy
    assert moves(ann), "while it looks, the line moves"
    [answer] = ann.wait()
    assert answer.statuses == ["Seen the sky"]
    assert not moves(ann)

    ann.element(answer).get_by_label("Toggle status history").click()
    assert ann.answer.statuses[-3:] == ["Looking at the sky…", "Thinking…", "Seen the sky"]
    assert not moves(ann)
    ann.reload()
    assert ann.answer.statuses == ["Seen the sky"]
    assert not moves(ann)


def moves(window: Window) -> bool:
    """Whether a line above the last answer shimmers."""
    return window.element(window.answer).locator(".status-description .shimmer").count() > 0


def test_citations(ann: Window) -> None:
    ann.new_chat("stargazer")
    answer = ann.ask("What is up there?")
    assert "The moon is round" in answer.text
    assert "It shines." in answer.text
    assert "[1]" not in answer.text, "the number is a chip with the source's name"
    ann.element(answer).get_by_text("1 Source").click()
    ann.page.get_by_text("Almanac", exact=True).last.click()
    ann.page.get_by_text("It is as round as can be.").wait_for()
    expect(ann.page.locator("a[href='https://almanac.example/moon']").first).to_be_attached()


def test_the_researcher_names_its_sources(ann: Window, stand: Stand) -> None:
    stand.admin.share_model("researcher", EVERYBODY)
    stand.admin.add_tool("library", LIBRARY, EVERYBODY)
    ann.new_chat("researcher", tools="library")
    answer = ann.ask('call: search_library {"words": "moon"}\nthen say: The moon is round [1].')
    assert answer.errors == []
    assert "The moon is round" in answer.text
    [source] = ann.stored[-1]["sources"]
    assert source["source"] == {"name": "library.example", "url": "https://library.example/moon"}
    assert "library.example" in answer.text, "the number is a chip with the source's name"
    assert answer.cards == ["View Result from search_library", "1 Source"]
    assert answer.statuses == ["Done"]
    stand.admin.request("DELETE", "/api/v1/tools/id/library/delete").raise_for_status()


@pytest.mark.parametrize("model", ["thinker", "chief"])
def test_reasoning_is_shown_as_thinking(ann: Window, provider: ScriptedProvider, model: str) -> None:
    ann.new_chat(model)
    answer = ann.ask("think: Two and two make four.\nsay: It is four.")
    assert answer.text.endswith("It is four.")
    [thought] = answer.cards
    assert thought.startswith("Thought for")
    assert "Two and two" not in answer.text
    assert "Two and two make four." in ann.unfold(answer)
    ann.ask("say: and on")
    assert "It is four." in said(provider.turns[-1])
    assert "<details" not in said(provider.turns[-1])
    ann.reload()
    assert [shown.cards for shown in ann.answers] == [answer.cards, []]


def test_a_chart(ann: Window) -> None:
    ann.new_chat("data_analyst")
    answer = ann.ask(TABLE)
    assert "sales" in answer.text
    assert "Hello from stub: Explain in short:" in answer.text, "another agent explains it"
    ann.reload()
    chart = ann.element(ann.answer).locator("img[src^='data:image/png']")
    chart.wait_for()
    width = chart.evaluate("async image => { await image.decode(); return image.naturalWidth; }")
    assert width > 100
    assert ann.answer.statuses == ["Done"]


def test_usage(ann: Window, stand: Stand) -> None:
    ann.new_chat("stargazer")
    answer = ann.ask("What is up there?")
    ann.element(answer).get_by_label("Info").hover()
    ann.page.locator("[data-tippy-root]").get_by_text("total_tokens: 18").wait_for()
    usage = ann.stored[-1]["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["llm_calls"]) == (11, 7, 1)
    program = stand.ann.complete("stargazer", "What is up there?").json()
    assert program["usage"]["total_tokens"] == 18


@pytest.mark.parametrize(
    ("model", "text", "seen"),
    [
        ("personas.coder", "like: stub-slow", "tok1"),
        ("personas.coder", "like: stub-hang", ""),
        ("thinker", "like: stub-stall", "Still here"),
        ("chief", "like: stub-stall", "Still here"),
        ("manager", 'call: call_agent {"agent": "sleeper", "task": "ask"}', ""),
    ],
)
def test_stop_reaches_the_provider_at_once(
    ann: Window, provider: ScriptedProvider, model: str, text: str, seen: str
) -> None:
    seconds = 1.0
    for _ in range(3):  # a busy machine may be late once
        if seconds >= 1.0:
            seconds = _stopped_after(ann, provider, model, text, seen)
    assert seconds < 1.0

    shown = ann.answer
    assert "tok19" not in shown.text
    assert shown.errors == []
    assert ann.ask("say: and on").text.endswith("and on")
    ann.reload()
    assert ann.answers[0].text == shown.text


def _stopped_after(ann: Window, provider: ScriptedProvider, model: str, text: str, seen: str) -> float:
    """Seconds from the press of Stop until the provider was let go, in a new chat."""
    ann.new_chat(model)
    before, calls = len(provider.turns), 2 if model == "manager" else 1
    ann.send(text)
    ann.until(lambda: len(provider.turns) == before + calls and ann.answers and seen in ann.answer.text)
    last = provider.turns[-1]
    pressed = stop(ann)
    assert eventually(lambda: last.closed_at)
    return (last.closed_at or 0) - pressed


@pytest.mark.parametrize("text", ["ask", "sleep"])
def test_stop_ends_the_process_of_an_agents_code(ann: Window, text: str) -> None:
    ann.new_chat("sleeper")
    ann.send(text)
    ann.until(lambda: ann.answers and len(ann.answer.text.split()) == 2)
    processes = [int(word) for word in ann.answer.text.split()]
    assert all(map(lives, processes))
    stop(ann)
    assert eventually(lambda: not any(map(lives, processes)))


def stop(window: Window) -> float:
    """Presses Stop and waits until nothing runs; returns the moment before (`time.monotonic()`)."""
    pressed = time.monotonic()
    window.stop()
    window.until(lambda: not window.busy)
    return pressed


def lives(process: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
