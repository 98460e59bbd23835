"""LlamaIndex agents on real servers, with tools that Open WebUI executes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agent_mode.settings import ROOT
from tests.provider import Provider
from tests.server.openwebui import OpenWebUI
from tests.server.servers import OLD, OURS, PIPE, STOCK, Kind, Server, eventually, make, params, running
from tests.server.toolkit import Toolkit

RESEARCHER = "researcher"
FOUND = '[{"title": "Moon", "link": "https://almanac.example/moon", "snippet": "The moon is round."}]'
SEARCH = 'call: search_web {"query": "moon"}\nthen say: It is round [1]. {results}'


def server_of(kind: Kind, home: Path, provider: Provider) -> Server:
    made = make(
        kind,
        home,
        provider.base_url,
        environment={"AGENT_MODE_MODEL": "stub-agent"},
        foreign=("flow.py", "probe.py"),
    )
    if not kind.own:
        shutil.copy(ROOT / "pipelines" / "researcher.py", made.pipelines_dir)
    return made


@pytest.fixture(scope="module", params=params(OURS, STOCK))
def server(request: Any, tmp_path_factory: Any, provider_process: Provider) -> Iterator[Server]:
    kind: Kind = request.param
    made = server_of(kind, tmp_path_factory.mktemp(f"llamaindex-{kind}"), provider_process)
    with running(made):
        made.set_valves(llm_model="stub-agent")
        yield made


@pytest.fixture
def webui(server: Server) -> OpenWebUI:
    return OpenWebUI(server)


def toolkit() -> Toolkit:
    kit = Toolkit()

    @kit.add
    def search_web(query: str) -> str:
        """Searches the web."""
        return FOUND

    @kit.add
    def roll_dice(sides: int) -> str:
        """Rolls a die."""
        return f"a {sides}-sided die showed 3"

    return kit


def test_the_researcher_searches_and_cites(webui: OpenWebUI, provider: Provider) -> None:
    provider.clear()
    answer = webui.chat().ask(SEARCH, RESEARCHER, tools=toolkit()).good()
    assert answer.text.startswith("It is round [1].")
    assert [call.name for call in answer.calls] == ["search_web"]
    [source] = [event["data"] for event in answer.events if event["type"] == "source"]
    assert source["source"] == {"name": "almanac.example", "url": "https://almanac.example/moon"}
    assert "[1] https://almanac.example/moon" in answer.text
    offered = [tool["function"]["name"] for tool in provider.last().body["tools"]]
    assert offered == ["search_web"], "dice are nothing to search with"
    assert len(provider.chats) == 3
    assert "Planning…" in answer.statuses


def test_the_researcher_works_without_any_tool(webui: OpenWebUI, provider: Provider) -> None:
    assert webui.chat().ask("say: From memory.", RESEARCHER).good().text == "From memory."
    assert "You cannot search now" in str(provider.last().body["messages"][0])


def test_a_workflow_of_a_file_goes_on_after_each_tool(webui: OpenWebUI) -> None:
    answer = webui.chat().ask("twice", "flow", tools=toolkit()).good()
    assert answer.text == "a 4-sided die showed 3 and a 8-sided die showed 3"
    assert [call.arguments for call in answer.calls] == [{"sides": 4}, {"sides": 8}]


def test_a_failing_step_is_named(webui: OpenWebUI) -> None:
    answer = webui.chat().ask("fail", "flow", tools=toolkit())
    [error] = answer.errors
    assert "Flow failed in the step think with ValueError: the price is missing" in error
    assert answer.statuses[-1].startswith("Failed: agent_failed · agent flow")


def test_without_streaming(webui: OpenWebUI) -> None:
    assert webui.chat().ask("say: Whole.", RESEARCHER, stream=False).good().text == "Whole."


def test_stop_ends_the_workflow(webui: OpenWebUI, server: Server, provider: Provider) -> None:
    words = ("perform", "run_with_concurrency_limit", "_run_worker", "_wait_for_result", "_single_pull")

    def at_work() -> list[str]:
        return [name for name in server.probe()["tasks"] if name in words]

    for model in ("stub-hang", "stub-slow"):
        provider.clear()
        asked = webui.chat().begin(f"like: {model}", RESEARCHER)
        assert eventually(lambda: at_work() and provider.active == 1)
        asked.stop()
        assert eventually(lambda: not at_work() and not provider.active), at_work()


def test_many_at_once(webui: OpenWebUI) -> None:
    def one(number: int) -> str:
        model = ("flow", RESEARCHER)[number % 2]
        return webui.chat().ask(("twice", SEARCH)[number % 2], model, tools=toolkit()).good().text

    with ThreadPoolExecutor(20) as pool:
        told = list(pool.map(one, range(40)))
    assert set(told[::2]) == {"a 4-sided die showed 3 and a 8-sided die showed 3"}
    assert all(text.startswith("It is round [1].") for text in told[1::2])


@pytest.mark.long
def test_a_restart_between_call_and_result(tmp_path: Path, provider: Provider) -> None:
    made = server_of(OURS, tmp_path / "home", provider)
    provider.clear()
    with running(made):

        def restart(_: Any) -> None:
            made.stop()
            made.spawn()
            made.wait()

        chat = OpenWebUI(made).chat()
        told = chat.ask("twice", "flow", tools=toolkit(), pause_before_followup=restart)
        assert told.good().text == "a 4-sided die showed 3 and a 8-sided die showed 3"
    assert len(provider.chats) == 1


@pytest.mark.long
@pytest.mark.parametrize("kind", params(OLD, PIPE))
def test_a_server_without_llamaindex_says_so(tmp_path: Path, provider: Provider, kind: Kind) -> None:
    made = server_of(kind, tmp_path / "home", provider)
    with running(made):
        [error] = OpenWebUI(made).chat().ask("say: hello", RESEARCHER).errors
        assert "needs LlamaIndex" in error
