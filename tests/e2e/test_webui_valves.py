"""Journey 11: valves edited in the Pipelines tab, on our server and on a stock one."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.agents import agents
from tests.e2e.driver import Window
from tests.e2e.personas import check, prompts_in, said
from tests.e2e.pipelines_tab import HOTSWAP, PERSONAS, SAVED, ValvesForm
from tests.e2e.stand import PLAIN, ScriptedProvider, Stand
from tests.e2e.webui import Connection
from tests.server.servers import Server

WRONG_KEY = "sk-of-nobody-0123456789"
VALVES = ("personas", "hotswap")
RESEARCHER = "researcher"


@pytest.fixture(scope="module", params=["ours", "stock"])
def connected(request: pytest.FixtureRequest, stand: Stand) -> Iterator[Server]:
    """The server that Open WebUI is connected to."""
    found: Server = getattr(stand, request.param)
    stand.admin.connect(Connection(found.url, found.key), stand.plain_connection)
    yield found
    stand.admin.connect(stand.connection, stand.plain_connection)


@pytest.fixture
def server(connected: Server) -> Iterator[Server]:
    """The same, with its valves put back afterwards."""
    names = (*VALVES, RESEARCHER) if connected.kind.own else VALVES
    before = {name: connected.get(f"/{name}/valves").json() for name in names}
    yield connected
    for name, values in before.items():
        connected.post(f"/{name}/valves/update", values)


def test_every_kind_of_field_takes_effect(server: Server, admin: Window, provider: ScriptedProvider) -> None:
    form = ValvesForm(admin, server, PERSONAS)
    form.fill("Models", "coder, writer, poet")  # a list
    form.fill("Keyword Prefix", "~")  # text
    form.turn("Show Persona Info", on=False)  # a switch
    form.choose("History Policy", "none")  # a choice
    form.fill("Max Steps", "2")  # a number
    form.fill("Llm Model", "stub-agent")  # text that may be missing
    form.fill("Llm Api Key", WRONG_KEY)  # a secret
    assert form.save() == SAVED

    offered = {model for model in admin.account.models() if model.startswith("personas.")}
    assert {"personas.coder", "personas.writer", "personas.poet"} <= offered
    assert "personas.teacher" not in offered

    admin.new_chat("personas.coder")
    refused = admin.ask("say: in code")
    assert "The model provider refused the key" in "".join(refused.errors)
    assert provider.requests[-1].headers["authorization"] == f"Bearer {WRONG_KEY}"

    form = ValvesForm(admin, server, PERSONAS)
    assert form.shown("Llm Api Key") == f"********{WRONG_KEY[-4:]}"
    form.fill("Llm Api Key", provider.key)
    assert form.save() == SAVED
    admin.new_chat("personas.coder")
    assert admin.ask("say: in code").text == "in code"
    assert provider.turns[-1].body["model"] == "stub-agent"
    answer = admin.ask("~writer say: in words")
    assert (answer.text, answer.statuses) == ("in words", [])
    assert prompts_in(provider.turns[-1]) == ["writer"]
    assert "in code" not in said(provider.turns[-1]), "nothing of the history"
    admin.ask("!coder say: no command")
    assert prompts_in(provider.turns[-1]) == ["writer"]
    refused = admin.ask("~coder say: one ~writer say: two ~poet say: three")
    assert "2" in "".join(refused.errors)

    form = ValvesForm(admin, server, PERSONAS)
    kept = "Models", "Keyword Prefix", "Show Persona Info", "History Policy", "Max Steps", "Llm Model"
    assert [form.shown(name) for name in kept] == [
        "coder, writer, poet",
        "~",
        False,
        "none",
        "2",
        "stub-agent",
    ]
    assert provider.key not in admin.page.content()
    form.toggle("Models")  # back to None
    form.fill("Keyword Prefix", "!")
    assert form.save() == SAVED
    assert "personas.teacher" in admin.account.models()
    admin.new_chat("personas.coder")
    assert admin.ask("!writer say: in words").text == "in words", "the mask has kept the key"


def test_a_list_of_models_narrows_the_filter(
    server: Server, admin: Window, provider: ScriptedProvider
) -> None:
    form = ValvesForm(admin, server, HOTSWAP)
    form.fill("Pipelines", "another-model, personas.coder")
    assert form.save() == SAVED
    admin.account.models()  # Open WebUI asks for the filters along with the models
    admin.new_chat(PLAIN)
    admin.ask("!writer say: no command")
    assert prompts_in(provider.turns[-1]) == []

    form = ValvesForm(admin, server, HOTSWAP)
    assert str(form.shown("Pipelines")).replace(" ", "") == "another-model,personas.coder"
    form.fill("Pipelines", "*")
    assert form.save() == SAVED
    admin.account.models()
    admin.new_chat(PLAIN)
    admin.ask("!writer say: in words")
    check(provider.turns[-1], "writer")


@pytest.mark.parametrize("connected", ["ours"], indirect=True)
def test_the_numbers_of_agents_take_effect(
    stand: Stand, server: Server, admin: Window, provider: ScriptedProvider
) -> None:
    """Of an agent that is a file, and of one of the store."""
    with agents(stand, {"clerk": {"name": "Clerk"}}):
        for agent in (RESEARCHER, "clerk"):
            form = ValvesForm(admin, server, f"{agent} (pipe)", holds="Temperature")
            assert form.shown("Temperature") is None
            form.fill("Temperature", "0.25")
            assert form.save() == SAVED
            admin.new_chat(agent)
            assert admin.ask("say: as warm as wanted").text == "as warm as wanted"
            assert provider.turns[-1].body["temperature"] == 0.25

            form = ValvesForm(admin, server, f"{agent} (pipe)", holds="Temperature")
            assert form.shown("Temperature") == "0.25"
            form.fill("Max Seconds", "2")
            assert form.save() == SAVED
            admin.new_chat(agent)
            [error] = admin.ask("like: stub-hang").errors
            assert "stopped at its limit of 2 seconds" in error


def test_wrong_values_are_put_right_and_brick_nothing(
    server: Server, admin: Window, provider: ScriptedProvider
) -> None:
    form = ValvesForm(admin, server, PERSONAS)
    form.fill("Max Steps", "a few")
    form.fill("Multi Turns", "99")
    form.fill("Connect Timeout", "-1")
    form.fill("Keyword Prefix", "bang")
    form.fill("Llm Api Key", "sk-\u200bunseen")
    form.toggle("Case Sensitive")
    form.toggle("History Policy")
    form.toggle("Read Timeout")
    assert form.save() == SAVED
    form = ValvesForm(admin, server, HOTSWAP)
    form.fill("Priority", "first")
    form.toggle("Pipelines")
    form.toggle("Max Backup Files")
    assert form.save() == SAVED

    def shown_as_it_must_be() -> None:
        form = ValvesForm(admin, server, HOTSWAP)
        assert [form.shown(name) for name in ("Priority", "Pipelines", "Max Backup Files")] == [
            "0",
            "*",
            "10",
        ]
        form = ValvesForm(admin, server, PERSONAS)
        names = "Max Steps", "Multi Turns", "Connect Timeout", "Keyword Prefix", "Case Sensitive"
        assert [form.shown(name) for name in names] == ["5", "5", "1", "!", False]
        names = "History Policy", "Read Timeout", "Models", "Llm Api Key"
        assert [form.shown(name) for name in names] == ["strategy", "300", None, None]

    shown_as_it_must_be()
    assert "value not usable, the default is used" in server.log()
    server.stop()
    # And what another version may have left: a choice that is gone, another type.
    for name in VALVES:
        path = server.pipelines_dir / name / "valves.json"
        stale = {"history_policy": "gone", "models": [], "priority": {"a": 1}, "gone": None}
        path.write_text(json.dumps({**json.loads(path.read_text()), **stale}))
    server.spawn()
    server.wait()
    shown_as_it_must_be()
    admin.new_chat("personas.coder")
    admin.ask("!writer say: in words")
    check(provider.turns[-1], "writer")
