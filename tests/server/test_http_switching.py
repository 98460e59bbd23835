"""Who answers: switches, branches, restarts. What counts is what the provider was told."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.provider import Provider, Recorded
from tests.server.conftest import FAMILIES
from tests.server.openwebui import Answer, OpenWebUI
from tests.server.servers import OLD, OURS, ROOT, STOCK, Server, eventually, make, params, running

CODER, WRITER, ARTIST, TEACHER = (f"personas.{key}" for key in ("coder", "writer", "artist", "teacher"))
CATALOGUE = {path.stem: json.loads(path.read_text()) for path in (ROOT / "personas").glob("*.json")}
MARKS = {
    "gpt-4o": "=== PRIORITY OVERRIDE ===",
    "claude-3-5-sonnet-20241022": "<system_reset>",
    "gemini-1.5-pro": "SYSTEM COMMAND: ROLE CHANGE",
    "mystery-7b": "Any role you had earlier in this conversation has ended.",
}
"""What each family's hard reset can be told by."""
STOPPED = (0, -signal.SIGTERM)
"""Exit statuses of a server that stopped in good order; uvicorn hands the signal on."""


def text_of(recorded: Recorded) -> str:
    return "\n\n".join(
        content if isinstance(content := message["content"], str) else json.dumps(content)
        for message in recorded.body["messages"]
    )


def check(recorded: Recorded, persona: str, *, after: str | None = None) -> None:
    """The provider was told to be this persona alone; after a switch it was told so with a hard reset."""
    text = text_of(recorded)
    assert re.findall(r'<agent_mode agent="([^"]*)">', text) == [persona]
    assert text.count("</agent_mode>") == 1
    assert CATALOGUE[persona]["prompt"].strip() in text
    strangers = [key for key in CATALOGUE if key != persona and CATALOGUE[key]["prompt"][:60] in text]
    assert strangers == []
    mark = MARKS.get(recorded.body["model"], MARKS["mystery-7b"])
    assert text.count(mark) == (1 if after else 0), "a hard reset, or none"
    names = [CATALOGUE[key]["name"] for key in ("coder", "writer", "artist", "teacher") if key != persona]
    told = [name for name in names if re.search(rf"(by|from|CONTINUE:) {name}\b", text)]
    assert set(told) == ({CATALOGUE[after]["name"]} if after else set())


@pytest.mark.parametrize("model", FAMILIES)
def test_a_picked_model_takes_over(server: Server, webui: OpenWebUI, provider: Provider, model: str) -> None:
    server.set_valves(llm_model=model)
    chat = webui.chat()

    chat.ask("Write a loop", CODER).good()
    check(provider.last(), "coder")
    switched = chat.ask("Write a poem", WRITER).good()

    check(provider.last(), "writer", after="coder")
    assert switched.text.startswith("I am Writer")
    assert switched.statuses == ["📝 Writer takes over from 💻 Coder"]
    assert [m["content"] for m in provider.last().body["messages"] if m["role"] == "assistant"] == [
        "I am nobody"  # its own earlier words stay
    ]
    again = chat.ask("And another one").good()
    check(provider.last(), "writer")
    assert again.statuses == []


def test_a_word_further_down_stays_text(webui: OpenWebUI, provider: Provider) -> None:
    chat = webui.chat()
    answer = chat.ask("!coder why does !code fail", CODER).good()
    assert provider.last().body["messages"][-1]["content"].endswith("why does !code fail")
    assert answer.statuses == []

    answer = chat.ask("!writer why does !code fail").good()
    assert answer.statuses == [
        "📝 Writer takes over from 💻 Coder · !code was sent as text: did you mean !coder?"
    ]
    assert "!code fail" in provider.last().body["messages"][-1]["content"]


def test_a_command_takes_over_and_stays(server: Server, webui: OpenWebUI, provider: Provider) -> None:
    server.set_valves(llm_model="gpt-4o")
    chat = webui.chat()
    chat.ask("Write a loop", CODER)

    answer = chat.ask("!writer Describe it").good()

    check(provider.last(), "writer", after="coder")
    assert answer.text.startswith("I am Writer")
    last = provider.last().body["messages"][-1]
    assert (last["role"], last["content"].splitlines()[-1]) == ("user", "Describe it")
    assert "!writer" not in text_of(provider.last())
    followed = chat.ask("Go on").good()
    check(provider.last(), "writer")
    assert followed.statuses == ["📝 Writer"]  # the model above the answer says Coder
    assert chat.ask("!reset").good().text == "Back to **💻 Coder**."
    chat.ask("Fix the loop").good()
    check(provider.last(), "coder", after="writer")
    chat.ask("Thanks").good()
    check(provider.last(), "coder")


def test_a_command_at_the_very_start_is_no_switch(webui: OpenWebUI, provider: Provider) -> None:
    chat = webui.chat()

    chat.ask("!writer Describe it", CODER).good()
    check(provider.last(), "writer")
    chat.ask("Go on").good()

    check(provider.last(), "writer")


def test_a_lone_command_switches_the_next_turn(webui: OpenWebUI, provider: Provider) -> None:
    chat = webui.chat()
    chat.ask("Write a loop", CODER)
    provider.clear()

    assert chat.ask("!writer").good().text.startswith("**📝 Writer** answers from now on.")
    assert provider.chats == []
    chat.ask("Describe it").good()

    check(provider.last(), "writer", after="coder")
    assert "answers from now on" not in text_of(provider.last())


def test_a_freshly_picked_model_wins(webui: OpenWebUI, provider: Provider) -> None:
    chat = webui.chat()
    chat.ask("Write a loop", CODER)
    chat.ask("!writer Describe it")

    chat.ask("Paint it", ARTIST).good()
    check(provider.last(), "artist", after="writer")
    chat.ask("Once more").good()
    check(provider.last(), "artist")
    chat.ask("And a loop again", CODER).good()

    check(provider.last(), "coder", after="artist")


def test_regenerate(webui: OpenWebUI, provider: Provider) -> None:
    chat = webui.chat()
    chat.ask("Write a loop", CODER)
    chat.ask("!writer Describe it")

    chat.regenerate().good()
    check(provider.last(), "writer", after="coder")
    chat.regenerate().good()
    check(provider.last(), "writer", after="coder")
    chat.ask("Go on").good()
    check(provider.last(), "writer")
    chat.regenerate(ARTIST).good()
    check(provider.last(), "artist", after="writer")
    chat.regenerate(CODER).good()

    check(provider.last(), "writer")  # Coder's model with Writer called in it, as before


def test_regenerate_with_another_model(webui: OpenWebUI, provider: Provider) -> None:
    chat = webui.chat()
    chat.ask("Write a loop", CODER)
    chat.ask("Describe it", WRITER)

    chat.regenerate(CODER).good()

    check(provider.last(), "coder")


def test_regenerate_the_first_answer(webui: OpenWebUI, provider: Provider) -> None:
    chat = webui.chat()
    chat.ask("Write a loop", CODER)

    chat.regenerate(WRITER).good()

    check(provider.last(), "writer")


def test_edit(webui: OpenWebUI, provider: Provider) -> None:
    chat = webui.chat()
    chat.ask("Write a loop", CODER)
    chat.ask("!writer Describe it")
    chat.ask("Go on")

    chat.edit("Describe it briefly", back=1).good()
    check(provider.last(), "coder")
    chat.ask("Go on").good()
    check(provider.last(), "coder")
    chat.edit("!artist Paint it", back=2).good()

    check(provider.last(), "artist")
    assert len(provider.last().body["messages"]) == 2


def test_branches_do_not_mix(webui: OpenWebUI, provider: Provider) -> None:
    chat = webui.chat()
    root = chat.ask("Write a loop", CODER)
    written = chat.ask("!writer Describe it")
    chat.go_to(root)
    painted = chat.ask("!artist Paint it")

    chat.go_to(written)
    chat.ask("Go on").good()
    check(provider.last(), "writer")
    chat.go_to(painted)
    chat.ask("Go on").good()
    check(provider.last(), "artist")
    chat.go_to(root)
    chat.ask("Go on").good()

    check(provider.last(), "coder")


def test_temporary_chat(webui: OpenWebUI, provider: Provider) -> None:
    chat = webui.chat(temporary=True)

    chat.ask("Write a loop", CODER).good()
    chat.ask("!writer Describe it").good()
    check(provider.last(), "writer", after="coder")
    chat.ask("Go on").good()
    check(provider.last(), "writer")
    chat.ask("Paint it", ARTIST).good()

    check(provider.last(), "artist", after="writer")


def told(provider: Provider) -> dict[str, Recorded]:
    """The requests of models side by side, by the persona that each was told to be."""
    found = {}
    for recorded in provider.chats:
        (persona,) = re.findall(r'<agent_mode agent="([^"]*)">', text_of(recorded))
        found[persona] = recorded
    return found


def test_two_models_side_by_side(webui: OpenWebUI, provider: Provider) -> None:
    chat = webui.chat()
    for answer in chat.ask_all("Hello", [CODER, WRITER]):
        answer.good()
    both = told(provider)
    check(both["coder"], "coder")
    check(both["writer"], "writer")

    provider.clear()
    chat.ask_all("More", [CODER, WRITER])  # Open WebUI gives both what Coder said; each gets its own back

    both = told(provider)
    assert set(both) == {"coder", "writer"}
    check(both["coder"], "coder")
    check(both["writer"], "writer")


def test_a_command_in_one_of_two_models_side_by_side(webui: OpenWebUI, provider: Provider) -> None:
    chat = webui.chat()
    answers = chat.ask_all("Hello", [CODER, WRITER])
    chat.go_to(answers[1])
    chat.ask("!artist Paint it", WRITER)
    check(provider.last(), "artist", after="writer")

    chat.ask("Go on", WRITER)

    check(provider.last(), "artist")


def test_the_same_model_twice_side_by_side(webui: OpenWebUI, provider: Provider) -> None:
    chat = webui.chat()
    for _ in range(3):
        provider.clear()
        answers = chat.ask_all("Hello", [CODER, CODER])
        assert len({id(answer) for answer in answers}) == 2
        assert len(provider.chats) == 2
        for recorded in provider.chats:
            check(recorded, "coder")


def test_twenty_switches_leave_one_persona(server: Server, webui: OpenWebUI, provider: Provider) -> None:
    for model in FAMILIES[:2]:
        server.set_valves(llm_model=model)
        chat = webui.chat(system="Always answer in French.")
        before = None
        for number in range(20):
            persona = ("coder", "writer", "artist", "teacher")[number % 4]
            if number % 2:
                chat.ask(f"Turn {number}", f"personas.{persona}").good()
            else:
                chat.ask(f"!{persona} Turn {number}", None if number else TEACHER).good()
            check(provider.last(), persona, after=before)
            assert text_of(provider.last()).count("Always answer in French.") == 1
            before = persona


def test_base_instructions_survive_switches(webui: OpenWebUI, provider: Provider) -> None:
    chat = webui.chat(system="House rule: no emoji.")

    for model in (CODER, WRITER, WRITER, CODER):
        chat.ask("Next", model).good()
        assert text_of(provider.last()).count("House rule: no emoji.") == 1
        assert text_of(provider.last()).count("<base_instructions>") == 1


@pytest.mark.parametrize("server", params(OURS, STOCK, OLD), indirect=True)
def test_workspace_model_with_header_templates(server: Server, provider: Provider) -> None:
    """Its inlet is never called; what an inlet would know comes in headers."""
    chat = OpenWebUI(server, templates=True).chat(workspace=True, system="You help our customers.")

    root = chat.ask("Write a loop", CODER).good()
    check(provider.last(), "coder")
    assert "You help our customers." in text_of(provider.last())
    chat.ask("!writer Describe it").good()
    check(provider.last(), "writer", after="coder")
    chat.ask("Go on").good()
    check(provider.last(), "writer")
    chat.regenerate().good()
    check(provider.last(), "writer")
    chat.go_to(root)
    chat.ask("Go on").good()
    check(provider.last(), "coder")
    chat.ask("Paint it", ARTIST).good()
    check(provider.last(), "artist", after="coder")


@pytest.mark.parametrize("server", params(OURS, STOCK, OLD), indirect=True)
def test_workspace_model_with_the_chat_id_alone(server: Server, provider: Provider) -> None:
    chat = OpenWebUI(server, chat_id_header=True).chat(workspace=True)

    chat.ask("Write a loop", CODER).good()
    chat.ask("!writer Describe it").good()
    check(provider.last(), "writer", after="coder")
    chat.ask("Go on").good()
    check(provider.last(), "writer")
    chat.ask("Paint it", ARTIST).good()
    check(provider.last(), "artist", after="writer")
    chat.ask("Once more").good()
    check(provider.last(), "artist")


def test_templates_that_open_webui_left_empty_mean_nothing(server: Server, provider: Provider) -> None:
    body = {"model": CODER, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    headers = {
        "X-OpenWebUI-Chat-Id": "",
        "X-Agent-Mode-Message-Id": "None",
        "X-Agent-Mode-Parent-Id": "{{USER_MESSAGE_PARENT_ID}}",
        "X-Agent-Mode-Task": "",
    }

    assert OpenWebUI(server).complete(body, headers).good().text == "Hello from stub: Hi"
    check(provider.last(), "coder")


def test_workspace_model_without_any_headers(webui: OpenWebUI, provider: Provider) -> None:
    """The transcript's commands are all that is known."""
    chat = webui.chat(workspace=True)

    chat.ask("Write a loop", CODER).good()
    chat.ask("!writer Describe it").good()
    check(provider.last(), "writer", after="coder")
    chat.ask("Go on").good()
    check(provider.last(), "writer")
    chat.ask("!reset Fix it").good()

    check(provider.last(), "coder", after="writer")


def plain(webui: OpenWebUI, model: str, *said: str) -> Answer:
    """What a program sends: the transcript, nothing else."""
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(said)]
    return webui.complete({"model": model, "stream": True, "messages": messages}).good()


def test_a_program_without_metadata(webui: OpenWebUI, provider: Provider) -> None:
    plain(webui, CODER, "Hi")
    check(provider.last(), "coder")
    plain(webui, CODER, "Hi", "Hello", "Go on")
    check(provider.last(), "coder")
    plain(webui, CODER, "Hi", "Hello", "!writer Describe it")
    check(provider.last(), "writer", after="coder")
    answer = plain(webui, CODER, "Hi", "Hello", "!writer Describe it", "It is", "Go on")
    check(provider.last(), "writer")
    assert answer.events == []
    plain(webui, CODER, "Hi", "Hello", "!writer Describe it", "It is", "!reset", "Back.", "Go on")
    check(provider.last(), "coder", after="writer")


def test_only_the_inlets_own_context_is_believed(webui: OpenWebUI, provider: Provider) -> None:
    """A user may put keys into a body; another chat's answers are nothing to build on."""
    chat = webui.chat()
    chat.ask("!writer Hi", CODER)
    forged = {"chat_id": chat.id, "parent_id": chat.metadata["message_id"], "branch_known": True}
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Go on"},
    ]
    for context in (forged, {**forged, "signature": "0" * 64}, {**forged, "signature": None}, "x", [], 7):
        webui.complete({"model": CODER, "stream": True, "messages": messages, "agent_mode": context}).good()
        check(provider.last(), "coder")


def test_a_persona_that_is_gone(server: Server, webui: OpenWebUI, provider: Provider) -> None:
    chat = webui.chat()
    chat.ask("Write a loop", CODER)
    chat.ask("!writer Describe it")
    server.set_valves(models="coder, artist")

    answer = chat.ask("Go on").good()

    text = text_of(provider.last())
    assert re.findall(r'<agent_mode agent="([^"]*)">', text) == ["coder"]
    assert text.count(MARKS["mystery-7b"]) == 1  # the history still speaks in the other voice
    assert CATALOGUE["writer"]["prompt"][:60] not in text
    assert "not available" in answer.statuses[0]
    assert any("category=agent_not_found" in record for record in server.records())
    gone = webui.complete({"model": WRITER, "stream": False, "messages": [{"role": "user", "content": "x"}]})
    assert gone.status == 404
    assert "writer" in json.dumps(gone.body)


def rows(server: Server, query: str, *values: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(f"file:{server.home / 'agent_mode.db'}?mode=ro", uri=True)
    try:
        return connection.execute(query, values).fetchall()
    finally:
        connection.close()


def test_the_session_is_recorded(server: Server, webui: OpenWebUI) -> None:
    chat = webui.chat()
    chat.ask("Write a loop", CODER)
    chat.ask("!writer Describe it")
    chat.ask("Go on")
    query = "select active_agent, ui_agent, agent_history from session where chat_id = ?"

    assert eventually(
        lambda: rows(server, "select 1 from answer where message_id = ?", chat.metadata["message_id"])
    )
    assert eventually(lambda: rows(server, query, chat.id)[0][0] == "writer")
    ((active, picked, history),) = rows(server, query, chat.id)

    switches = json.loads(history)
    assert (active, picked) == ("writer", "coder")
    assert [(s["agent_id"], s["agent_name"], s["reason"]) for s in switches] == [
        ("coder", "Coder", "user_switch"),
        ("writer", "Writer", "user_switch"),
    ]
    assert [s["message_count"] for s in switches] == [1, 3]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S*", switches[0]["switched_at"])


def test_a_switch_is_logged(server: Server, webui: OpenWebUI) -> None:
    server.set_valves(llm_model="gpt-4o")
    chat = webui.chat()
    chat.ask("A secret text", CODER)
    chat.ask("!writer Describe it")

    (record,) = [line for line in server.records() if "persona switched" in line]

    for word in ("persona=writer", "previous=coder", "user_id=user-1", f"chat_id={chat.id}", "duration_ms="):
        assert word in record
    assert "template=hierarchical" in record
    assert "A secret text" not in server.log()


def test_restart_between_two_turns(tmp_path: Path, provider: Provider) -> None:
    server = make(OURS, tmp_path / "ours", provider.base_url)
    chat = OpenWebUI(server).chat()
    with running(server):
        server.set_valves(llm_model="gpt-4o")
        root = chat.ask("Write a loop", CODER)
        chat.ask("!writer Describe it").good()
        assert server.stop() in STOPPED
        # SQLite removes its log when the last connection is closed in good order.
        assert not (server.home / "agent_mode.db-wal").exists()
    with running(server):
        chat.ask("Go on").good()
        check(provider.last(), "writer")
        assert provider.last().body["model"] == "gpt-4o"  # the valves were kept, too
        chat.ask("Paint it", ARTIST).good()
        check(provider.last(), "artist", after="writer")
        chat.go_to(root)
        chat.ask("Go on", CODER).good()
        check(provider.last(), "coder")
        assert server.stop() in STOPPED
        assert "Traceback" not in server.log_file.read_text()
