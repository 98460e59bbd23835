"""Tools of the user: a model's calls go out, Open WebUI executes them, and the answer goes on to its end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.provider import Provider, Reply
from tests.scripted import seen
from tests.server.openwebui import Answer, OpenWebUI
from tests.server.outputs import IMAGES_NOTE
from tests.server.servers import OURS, STOCK, Kind, Server, eventually, make, params, running
from tests.server.toolkit import NOT_APPROVED, REJECTED, Toolkit

CODER, WRITER = "personas.coder", "personas.writer"
PNG = "data:image/png;base64,iVBORw0KGgo="
BIG = "z" * 1_000_000
UNREADABLE = (
    "Error: Tool call arguments could not be parsed. The model generated malformed or incomplete JSON for "
    "`roll_dice`. Please try again."
)
NO_OBJECT = "Error: Tool call arguments for `roll_dice` must be a JSON object. Please try again."
WAYS = {
    "talks": Reply(["tok "] * 200, every=0.05),
    "stalls": Reply(like="stub-stall"),
    "hangs": Reply(like="stub-hang"),
}
"""What the model does when it is stopped; each lasts longer than a lease lives."""


def roll_dice(sides: int = 6) -> str:
    """Rolls a die."""
    return f"rolled {sides}"


def weather(city: str, days: int = 1) -> dict[str, Any]:
    """The weather."""
    return {"city": city, "days": days, "sky": "blå"}


def boom() -> str:
    raise RuntimeError("the disk is full")


def picture() -> str:
    return PNG


def big() -> str:
    return BIG


def kit(**options: Any) -> Toolkit:
    tools = Toolkit(roll_dice, weather, boom, picture, big, **options)
    tools.add(lambda: "slept", spec={"name": "sleep", "parameters": {"type": "object"}}, delay=10)
    return tools


@pytest.fixture
def webui(server: Server) -> OpenWebUI:
    server.set_valves(llm_model="stub-agent")
    return OpenWebUI(server)


def transcript(answer: Answer, number: int = -1) -> list[str]:
    """The roles in one of its requests."""
    return [message["role"] for message in answer.rounds[number].sent["messages"]]


def persona(body: dict[str, Any]) -> str:
    """The system prompt that the provider was given."""
    (system,) = (m["content"] for m in body["messages"] if m["role"] == "system")
    return system


def test_one_call(webui: OpenWebUI, provider: Provider) -> None:
    answer = webui.chat().ask('call: roll_dice {"sides": 12}', CODER, tools=kit()).good()

    assert answer.text == "I saw: rolled 12"
    assert [(call.name, call.arguments) for call in answer.calls] == [("roll_dice", {"sides": 12})]
    assert transcript(answer) == ["user", "assistant", "tool"]
    assert [each.finish_reasons[0] for each in answer.rounds] == ["tool_calls", "stop"]
    first, second = (recorded.body for recorded in provider.chats)
    assert first["tools"] == second["tools"] == kit().specs(webui.user["id"])
    assert persona(first) == persona(second)
    assert second["messages"][-2:] == answer.rounds[1].sent["messages"][-2:]
    assert not {"agent_mode", "tool_ids", "user"} & set(second)


def test_words_and_several_calls_at_once(webui: OpenWebUI) -> None:
    text = (
        'tell: Let me see.\ncall: weather {"city": "Malmö", "days": 3} & roll_dice & roll_dice {"sides": 2}'
    )
    answer = webui.chat().ask(f"{text}\nthen say: So {{results}}", CODER, tools=kit()).good()

    sky = json.dumps({"city": "Malmö", "days": 3, "sky": "blå"}, indent=2, ensure_ascii=False)
    assert answer.text == f"Let me see.\nSo {sky} | rolled 6 | rolled 2"
    assert transcript(answer) == ["user", "assistant", "tool", "tool", "tool"]
    assert answer.rounds[1].sent["messages"][1]["content"] == "Let me see."


def test_two_rounds(webui: OpenWebUI, provider: Provider) -> None:
    chat = webui.chat()
    answer = chat.ask(
        'think: Hm\ncall: roll_dice then call: roll_dice {"sides": 3}', CODER, tools=kit()
    ).good()

    assert answer.text == "I saw: rolled 6 | rolled 3"
    assert answer.reasoning == "Hm"
    assert transcript(answer) == ["user", "assistant", "tool", "assistant", "tool"]
    assert len({persona(recorded.body) for recorded in provider.chats}) == 1
    contexts = [each.sent["agent_mode"] for each in answer.rounds]
    assert contexts[0] == contexts[1] == contexts[2]  # the inlet is not called again


@pytest.mark.parametrize("server", params(OURS, STOCK), indirect=True)
@pytest.mark.parametrize(
    ("call", "result"),
    [
        ("boom", '{\n  "error": "the disk is full"\n}'),
        ("nobody", 'Error: Tool "nobody" not found.'),
        ("roll_dice `[1]`", NO_OBJECT),
        ('roll_dice `{"si`', UNREADABLE),
    ],
)  # fmt: skip
def test_a_call_that_fails(webui: OpenWebUI, call: str, result: str) -> None:
    answer = webui.chat().ask(f"call: {call} & roll_dice", CODER, tools=kit()).good()

    assert answer.text == f"I saw: {result} | rolled 6"
    assert [call.status for call in answer.calls] == ["failed", "completed"]


@pytest.mark.parametrize("server", params(OURS, STOCK), indirect=True)
@pytest.mark.parametrize("temporary", [False, True])
def test_a_call_that_is_denied(webui: OpenWebUI, provider: Provider, temporary: bool) -> None:
    tools = kit(approve=lambda call: call.name != "boom")
    chat = webui.chat(temporary=temporary)
    answer = chat.ask("call: roll_dice & boom then call: boom then say: {results}", CODER, tools=tools).good()

    denied = NOT_APPROVED if temporary else REJECTED
    assert answer.text == f"rolled 6 | {denied} | {denied}"
    assert len({persona(recorded.body) for recorded in provider.chats}) == 1


def test_an_image(webui: OpenWebUI, provider: Provider) -> None:
    answer = webui.chat().ask("call: picture & roll_dice then call: roll_dice", CODER, tools=kit()).good()

    assert answer.text == "I saw: picture: Image file read successfully. | rolled 6 | rolled 6 (and 1 images)"
    (shown,) = (
        m for m in provider.last().body["messages"] if m["role"] == "user" and isinstance(m["content"], list)
    )
    assert {"type": "image_url", "image_url": {"url": PNG}} in shown["content"]


@pytest.mark.parametrize("server", params(OURS), indirect=True)
def test_an_image_is_no_new_turn(webui: OpenWebUI, provider: Provider) -> None:
    webui.chat().ask("call: picture", CODER, tools=kit()).good()

    first, second = (recorded.body for recorded in provider.chats)
    assert persona(first) == persona(second)
    assert second["messages"][-1]["content"][0] == {"type": "text", "text": IMAGES_NOTE}


def test_a_result_of_a_megabyte(webui: OpenWebUI) -> None:
    answer = webui.chat().ask("call: big & roll_dice", CODER, tools=kit()).good()

    assert answer.text == f"I saw: {seen(BIG)} | rolled 6"
    assert answer.calls[0].result == BIG


@pytest.mark.parametrize("server", params(OURS, STOCK), indirect=True)
def test_later_turns_know_the_calls(webui: OpenWebUI, provider: Provider) -> None:
    chat = webui.chat()
    chat.ask("tell: Hm\ncall: roll_dice & boom then call: roll_dice", CODER, tools=kit()).good()
    answer = chat.ask("Hello", tools=kit()).good()

    roles = ["user", "assistant", "tool", "tool", "assistant", "tool", "assistant", "user"]
    assert transcript(answer) == roles
    assert [m["role"] for m in provider.last().body["messages"]] == ["system", *roles]
    assert answer.text == "Hello from stub: Hello"

    switched = chat.ask("call: roll_dice", WRITER, tools=kit()).good()
    assert switched.text == "I saw: rolled 6"
    assert "writer" in persona(provider.last().body)


@pytest.mark.parametrize("server", params(OURS, STOCK), indirect=True)
def test_a_command_holds_for_the_whole_loop(webui: OpenWebUI, provider: Provider) -> None:
    answer = webui.chat().ask("!writer call: roll_dice then call: roll_dice", CODER, tools=kit()).good()

    assert answer.text.endswith("I saw: rolled 6 | rolled 6")
    assert len({persona(recorded.body) for recorded in provider.chats}) == 1
    assert 'agent="writer"' in persona(provider.last().body)


@pytest.mark.parametrize("server", params(OURS, STOCK), indirect=True)
def test_two_models_side_by_side(webui: OpenWebUI) -> None:
    answers = webui.chat().ask_all(
        "call: roll_dice & boom then call: roll_dice", [CODER, WRITER], tools=kit()
    )

    for answer in answers:
        assert answer.good().text.endswith(" | rolled 6")
        assert len(answer.calls) == 3


@pytest.mark.parametrize("server", params(OURS), indirect=True)
def test_every_user_has_their_own(server: Server, webui: OpenWebUI) -> None:
    tools = kit()
    tools.add(lambda: "psst", spec={"name": "secret", "parameters": {}}, users={"user-2"})
    her = OpenWebUI(server, user={"id": "user-2", "name": "Eve", "email": "e@x", "role": "user"})

    assert her.chat().ask("call: secret", CODER, tools=tools).good().text == "I saw: psst"
    mine = webui.chat().ask("call: secret", CODER, tools=tools).good()
    assert mine.text == 'I saw: Error: Tool "secret" not found.'
    assert len(mine.sent["tools"]) == len(her.chat().ask("Hi", CODER, tools=tools).sent["tools"]) - 1


@pytest.mark.parametrize("server", params(OURS, STOCK), indirect=True)
def test_the_second_answer_fails(webui: OpenWebUI) -> None:
    chat = webui.chat()
    answer = chat.ask("tell: Hm\ncall: roll_dice then like: stub-cut", CODER, tools=kit())

    assert len(answer.errors) == 1
    assert answer.text.startswith("Hm\nOne two")
    assert transcript(chat.ask("And?", tools=kit())) == ["user", "assistant", "tool", "assistant", "user"]


@pytest.mark.parametrize("server", params(OURS, STOCK), indirect=True)
def test_programs_get_the_calls_as_they_are(webui: OpenWebUI) -> None:
    whole = webui.call('tell: Hm\ncall: roll_dice {"sides": 2}', CODER, tools=kit())
    message = whole.body["choices"][0]["message"]
    assert (message["content"], whole.body["choices"][0]["finish_reason"]) == ("Hm", "tool_calls")
    assert message["tool_calls"][0]["function"] == {"name": "roll_dice", "arguments": '{"sides": 2}'}

    stream = webui.call('call: roll_dice {"sides": 2}', CODER, tools=kit(), stream=True).good()
    assert [(call["name"], call["arguments"]) for call in stream.tool_calls] == [
        ("roll_dice", '{"sides": 2}')
    ]

    in_chat = webui.chat().ask("tell: Hm\ncall: roll_dice", CODER, tools=kit(), stream=False)
    assert (in_chat.text, in_chat.calls) == ("Hm", [])


def test_stop_while_a_tool_runs(server: Server, webui: OpenWebUI, provider: Provider) -> None:
    chat = webui.chat()
    running = chat.begin("tell: Hm\ncall: roll_dice then call: sleep", CODER, tools=kit())
    assert eventually(lambda: len(provider.chats) == 2 and provider.last().finished)
    time.sleep(0.2)

    answer = running.stop()

    assert answer.stopped
    assert [call.status for call in answer.calls] == ["completed", "incomplete"]
    assert transcript(chat.ask("Hello", tools=kit()).good()) == ["user", "assistant", "tool", "user"]
    assert server.probe()["runs"] == 0


@pytest.mark.parametrize("way", WAYS)
def test_stop_while_the_model_answers(server: Server, webui: OpenWebUI, provider: Provider, way: str) -> None:
    provider.script(Reply(tool_calls=[("roll_dice", {})]), WAYS[way])
    running = webui.chat().begin("Go", CODER, tools=kit())
    assert eventually(lambda: len(provider.chats) == 2)
    time.sleep(0.5)

    answer = running.stop()

    assert answer.stopped
    assert len(answer.rounds) == 2
    assert eventually(lambda: provider.last().closed_at is not None)
    assert not provider.last().finished
    assert eventually(lambda: server.probe()["runs"] == 0)


@pytest.mark.parametrize("server", params(OURS), indirect=True)
def test_forty_chats_at_once(webui: OpenWebUI, provider: Provider) -> None:
    def one(number: int) -> str:
        text = f'call: roll_dice {{"sides": {number}}} then call: roll_dice & boom'
        return webui.chat().ask(text, CODER, tools=kit()).good().text

    with ThreadPoolExecutor(40) as pool:
        texts = list(pool.map(one, range(40)))

    assert [text.split(" | ")[:2] for text in texts] == [
        [f"I saw: rolled {n}", "rolled 6"] for n in range(40)
    ]
    assert len(provider.chats) == 120


@pytest.fixture(scope="module")
def own(provider_process: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Kind, Server]]:
    """Servers that may be restarted."""
    home = tmp_path_factory.mktemp("relay")
    servers = {kind: make(kind, home / kind.name, provider_process.base_url) for kind in (OURS, STOCK)}
    with running(*servers.values()):
        yield servers


@pytest.mark.parametrize("kind", params(OURS, STOCK))
def test_a_restart_between_call_and_result(own: dict[Kind, Server], provider: Provider, kind: Kind) -> None:
    server = own[kind]
    server.set_valves(llm_model="stub-agent")

    def restart(answer: Answer) -> None:
        if len(answer.rounds) == 1:
            server.stop()
            server.spawn()
            server.wait()

    chat = OpenWebUI(server).chat()
    text = "!writer call: roll_dice then call: roll_dice"
    answer = chat.ask(text, CODER, tools=kit(), pause_before_followup=restart).good()

    assert answer.text.endswith("I saw: rolled 6 | rolled 6")
    assert len({persona(recorded.body) for recorded in provider.chats}) == 1


@pytest.mark.parametrize("kind", params(OURS))
def test_a_server_that_is_gone_at_the_result(own: dict[Kind, Server], provider: Provider, kind: Kind) -> None:
    server = own[kind]
    server.set_valves(llm_model="stub-agent")

    answer = (
        OpenWebUI(server)
        .chat()
        .ask(
            "tell: Hm\ncall: roll_dice",
            CODER,
            tools=kit(),
            pause_before_followup=lambda _: server.stop() and None,
        )
    )
    server.spawn()
    server.wait()

    assert len(answer.errors) == 1
    assert answer.text == "Hm"
    assert answer.calls[0].result == "rolled 6"
