"""Agents on real servers: as models of their own, with tools that Open WebUI executes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.provider import Provider
from tests.server.openwebui import OpenWebUI
from tests.server.servers import FOREIGN, OURS, PIPE, STOCK, Kind, Server, eventually, make, params, running
from tests.server.toolkit import Call, Toolkit

ERRAND = "errand"


@pytest.fixture(scope="module", params=params(OURS, STOCK, PIPE))
def server(request: Any, tmp_path_factory: Any, provider_process: Provider) -> Iterator[Server]:
    kind: Kind = request.param
    home: Path = tmp_path_factory.mktemp(f"agents-{kind}")
    made = make(
        kind,
        home,
        provider_process.base_url,
        environment={"AGENT_MODE_MODEL": "stub-agent"},
        foreign=("errand.py", "probe.py"),
    )
    (made.pipelines_dir / "poet.py").write_text((FOREIGN / "errand.py").read_text())
    with running(made):
        made.set_valves(llm_model="stub-agent")
        yield made


@pytest.fixture
def webui(server: Server) -> OpenWebUI:
    return OpenWebUI(server)


def toolkit(**options: Any) -> Toolkit:
    kit = Toolkit(**options)

    @kit.add
    def roll_dice(sides: int) -> str:
        """Rolls a die."""
        return f"a {sides}-sided die showed 3"

    @kit.add
    def clock() -> str:
        """Tells the time."""
        return "it is noon"

    @kit.add
    def broken() -> str:
        """Does not work."""
        raise RuntimeError("out of order")

    return kit


def test_an_agent_is_a_model_of_its_own(webui: OpenWebUI, server: Server) -> None:
    entry = webui.models()[ERRAND]
    assert entry["name"] == "Errand"
    if server.kind.layer:
        assert entry["tags"] == [{"name": "Agent"}]
        assert entry["info"]["meta"]["description"] == "Runs errands for the tests."
    assert webui.chat().ask("greet", ERRAND).good().text == "Hello, Bob."


def test_its_valves_are_its_own(webui: OpenWebUI, server: Server) -> None:
    reply = server.post(f"/{ERRAND}/valves/update", {"greeting": "Ahoy", "max_steps": "7"})
    assert reply.json()["max_steps"] == 7
    try:
        assert webui.chat().ask("greet", ERRAND).good().text == "Ahoy, Bob."
    finally:
        server.post(f"/{ERRAND}/valves/update", {})


def test_open_webui_executes_the_tools(webui: OpenWebUI) -> None:
    answer = webui.chat().ask("roll", ERRAND, tools=toolkit()).good()
    assert answer.text == "Rolling.\na 6-sided die showed 3 Done."
    assert [(call.name, call.arguments) for call in answer.calls] == [("roll_dice", {"sides": 6})]
    assert answer.statuses[-1] == "Done"


def test_several_rounds_and_several_calls_at_once(webui: OpenWebUI) -> None:
    chat = webui.chat()
    answer = chat.ask("twice", ERRAND, tools=toolkit()).good()
    assert answer.text == "a 4-sided die showed 3 and a 8-sided die showed 3"
    assert [call.round for call in answer.calls] == sorted(call.round for call in answer.calls)
    answer = chat.ask("both", ERRAND, tools=toolkit()).good()
    assert answer.text == "a 4-sided die showed 3 and it is noon"
    assert len({call.round for call in answer.calls}) == 1


def test_a_tool_that_fails_is_the_agents_to_handle(webui: OpenWebUI) -> None:
    answer = webui.chat().ask("try", ERRAND, tools=toolkit()).good()
    assert answer.text.startswith("could not: ")
    assert "out of order" in answer.text


def test_a_denied_call_is_the_agents_to_handle(webui: OpenWebUI) -> None:
    def no(_: Call) -> bool:
        return False

    answer = webui.chat(temporary=True).ask("roll", ERRAND, tools=toolkit(approve=no))
    assert "a 6-sided die" not in answer.text
    assert answer.errors


def test_what_it_says_itself_is_shown(webui: OpenWebUI) -> None:
    answer = webui.chat().ask("cite", ERRAND).good()
    [source] = [event["data"] for event in answer.events if event["type"] == "source"]
    assert source["source"] == {"name": "Almanac", "url": "https://almanac.example/moon"}
    assert answer.text == "The moon is round [1]."


def test_it_thinks_with_the_llm_and_asks_others(webui: OpenWebUI) -> None:
    chat = webui.chat()
    assert chat.ask("think: say: deeply", ERRAND).good().text == "deeply"
    answer = chat.ask("ask: say: as a teacher", ERRAND).good()
    assert answer.text == "as a teacher"
    assert any("Teacher" in status for status in answer.statuses)


def test_an_error_is_readable_and_what_came_before_stays(webui: OpenWebUI) -> None:
    answer = webui.chat().ask("fail", ERRAND)
    assert answer.text == "So far so good. "
    [error] = answer.errors
    assert "the price is missing" in error
    assert "agent errand" in answer.statuses[-1]
    report = next(item["error"] for item in answer.objects if "error" in item)
    assert {"code", "agent", "run_id", "step", "elapsed_ms", "partial", "retryable", "hint"} <= set(report)


def test_without_streaming_the_answer_is_whole(webui: OpenWebUI) -> None:
    assert webui.chat().ask("greet", ERRAND, stream=False).good().text == "Hello, Bob."
    failed = webui.chat().ask("fail", ERRAND, stream=False)
    assert "the price is missing" in failed.errors[0]
    assert failed.body["error"]["output"] == "So far so good. "
    assert "So far so good." not in failed.body["error"]["message"]


def test_personas_and_agents_take_over_from_each_other(webui: OpenWebUI) -> None:
    chat = webui.chat()
    chat.ask("greet", ERRAND).good()
    assert chat.ask("!coder say: code", ERRAND).good().text == "code"
    assert chat.ask("say: still code", ERRAND).good().text == "still code"
    assert chat.ask("!errand greet", ERRAND).good().text == "Hello, Bob."


def test_an_agent_is_a_step_of_a_sequence(webui: OpenWebUI, server: Server, provider: Provider) -> None:
    provider.clear()
    answer = webui.chat().ask("!errand cite !coder say: code !errand fail !coder say: more", ERRAND).good()
    assert "**Errand**\n\nThe moon is round [1]." in answer.text
    assert "code\n\n---\n\n**Errand**\n\nSo far so good. " in answer.text
    assert "> ⚠️ Errand: Errand failed with ValueError: the price is missing" in answer.text
    assert answer.text.endswith("more")
    assert [event["data"]["source"]["name"] for event in answer.events if event["type"] == "source"] == [
        "Almanac"
    ]
    assert "Looking at the errand…" in answer.statuses
    told = str(provider.chats[0].body["messages"][-1])
    assert '<answer by="Errand">' in told
    assert "The moon is round [1]." in told
    assert len(provider.chats) == 2, "the errand's own words need no model"


def test_in_a_sequence_the_tools_of_the_chat_are_out_of_reach(webui: OpenWebUI) -> None:
    answer = webui.chat().ask("!errand roll !coder say: code", ERRAND, tools=toolkit()).good()
    assert "> ⚠️ Errand answers without the tools of this chat here, because the message calls" in answer.text
    assert "Call it alone for an answer with them: `!errand …`.\n" in answer.text
    assert "There is no tool 'roll_dice' here" in answer.text
    assert answer.text.endswith("code")
    assert not answer.calls


def test_tools_that_nobody_switched_on_are_not_missed(webui: OpenWebUI) -> None:
    """Open WebUI's own come with every message of its page."""
    own = {"type": "function", "function": {"name": "search_chats", "parameters": {"type": "object"}}}
    answer = webui.chat().ask("!errand greet !coder say: code", ERRAND, tools=[own]).good()
    assert "⚠️" not in answer.text
    assert "Hello, Bob." in answer.text


def test_an_agent_that_says_nothing_is_not_passed_over(webui: OpenWebUI, provider: Provider) -> None:
    chat = webui.chat()
    assert chat.ask("nothing", ERRAND).good().text == "*Errand gave no answer.*"
    steps = chat.ask("!errand nothing !coder say: code").good().text
    assert "**Errand**\n\n*Errand gave no answer.*\n\n---" in steps
    provider.clear()
    fresh = webui.chat()
    fresh.ask("nothing", ERRAND).good()
    fresh.ask("!coder say: code").good()
    assert "no answer" not in str(provider.chats[0].body["messages"])


def test_with_tools_too(webui: OpenWebUI) -> None:
    answer = webui.chat().ask("silent roll", ERRAND, tools=toolkit()).good()
    assert answer.text == "*Errand gave no answer.*"
    # What it said before the tools ran is an answer.
    assert "gave no answer" not in webui.chat().ask("half", ERRAND, tools=toolkit()).good().text


def test_an_agent_goes_on_with_its_answer(webui: OpenWebUI) -> None:
    chat = webui.chat()
    chat.ask("greet", ERRAND).good()
    assert chat.go_on().good().text == "I cannot Go on with your last answer from exactly where it ends. " + (
        "Repeat nothing of it.."
    )
    chat.ask("!coder say: code !errand greet").good()
    assert chat.go_on().good().text.startswith("I cannot Go on with your last answer")


def admin(server: Server) -> OpenWebUI:
    return OpenWebUI(server, user={"id": "boss", "name": "Eve", "email": "eve@example.org", "role": "admin"})


def test_on_any_model_an_agent_runs_itself(server: Server, provider: Provider) -> None:
    provider.clear()
    chat = admin(server).chat(workspace=True)  # of whose model no inlet but the filter's is called
    answer = chat.ask("!errand roll", "gpt-4o", filters=True, tools=toolkit()).good()
    assert answer.text == "Rolling.\na 6-sided die showed 3 Done."
    assert [call.name for call in answer.calls] == ["roll_dice"]
    assert "Errand" in answer.statuses[0]
    again = chat.ask("greet", filters=True, tools=toolkit()).good()
    assert again.text == "Hello, Eve.", "it stays"
    assert provider.chats == []
    back = chat.ask("!reset say: as itself", filters=True, tools=toolkit())
    assert back.sent["model"] == "gpt-4o"


def test_without_the_console_it_does_not_and_that_is_said(webui: OpenWebUI, server: Server) -> None:
    server.post(f"/{ERRAND}/valves/update", {"access": "everyone"})
    try:
        reply = webui.inlet(
            "hotswap",
            {
                "model": "gpt-4o",
                "messages": [{"role": "user", "content": "!errand greet"}],
                "metadata": {"chat_id": "c", "message_id": "m"},
            },
        )
    finally:
        server.post(f"/{ERRAND}/valves/update", {})
    assert reply["model"] == "gpt-4o"
    assert reply["messages"][-1]["content"].startswith("Errand needs the model “Agent Mode console” here")


def test_a_persona_goes_before_an_agent_of_its_name(webui: OpenWebUI, provider: Provider) -> None:
    """A file may be put there under any name."""
    provider.clear()
    assert webui.chat().ask("say: as the poet", "personas.poet").good().text == "as the poet"
    assert '<agent_mode agent="poet">' in str(provider.chats[0].body["messages"])
    assert webui.chat().ask("!poet say: in verse", "personas.coder").good().text == "in verse"
    [error] = webui.chat().ask("greet", "poet").errors
    assert "there is a persona poet too" in error


def test_whom_nobody_can_vouch_for_reaches_no_agent_by_its_name(webui: OpenWebUI, server: Server) -> None:
    answer = webui.chat().ask("!errand greet", "personas.coder").good()
    assert "cannot be called from here" in answer.text
    server.post(f"/{ERRAND}/valves/update", {"access": "everyone"})
    try:
        assert webui.chat().ask("!errand greet", "personas.coder").good().text == "Hello, Bob."
    finally:
        server.post(f"/{ERRAND}/valves/update", {})


def test_a_task_of_open_webui_is_no_errand(webui: OpenWebUI) -> None:
    chat = webui.chat()
    chat.ask("greet", ERRAND).good()
    told = webui.task("title_generation", "### Task:\nMake a title", chat, ERRAND)
    assert told.text.startswith("Hello from stub: ### Task:")


def at_work(server: Server) -> list[str]:
    """What of a run is alive in the server."""
    return [
        name for name in server.probe()["tasks"] if name in ("perform", "quiet", "pump", "_stream", "one")
    ]


def test_stop_ends_the_errand(webui: OpenWebUI, server: Server, provider: Provider) -> None:
    provider.clear()
    for text in ("sleep", "think: like: stub-hang", "ask: like: stub-hang"):
        asked = webui.chat().begin(text, ERRAND)
        assert eventually(lambda: at_work(server))
        assert eventually(lambda text=text: text == "sleep" or provider.active == 1)
        asked.stop()
        assert eventually(lambda: not at_work(server) and not provider.active), text


def test_many_at_once(webui: OpenWebUI) -> None:
    def one(number: int) -> str:
        return webui.chat().ask("twice", ERRAND, tools=toolkit()).good().text

    with ThreadPoolExecutor(20) as pool:
        told = set(pool.map(one, range(60)))
    assert told == {"a 4-sided die showed 3 and a 8-sided die showed 3"}


def test_a_restart_between_call_and_result(tmp_path: Path, provider: Provider) -> None:
    made = make(OURS, tmp_path / "home", provider.base_url, foreign=("errand.py", "probe.py"))
    with running(made):

        def restart(_: Any) -> None:
            made.stop()
            made.spawn()
            made.wait()

        told = OpenWebUI(made).chat().ask("twice", ERRAND, tools=toolkit(), pause_before_followup=restart)
        assert told.good().text == "a 4-sided die showed 3 and a 8-sided die showed 3"
