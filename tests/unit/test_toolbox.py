"""The names of an agent's own tools."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent_mode.agents.budget import Budget
from agent_mode.agents.definitions import PersonaDefinition
from agent_mode.agents.delegation import prepare
from agent_mode.agents.memo import Memo
from agent_mode.agents.spec import AgentSpec, Caller, Task
from agent_mode.agents.state import RunState
from agent_mode.agents.toolbox import OwnTool, own_tool
from agent_mode.agents.work import Work
from agent_mode.chat.runtime import Runtime
from agent_mode.errors import ToolError
from agent_mode.llm import connection as connections
from agent_mode.valves import AgentValves
from tests.owui_double import Double
from tests.provider import KEY, Provider
from tests.runtimes import settings

PARAMETERS = {"type": "object", "properties": {"a": {"type": "integer"}}}
REQUESTED = {"type": "function", "function": {"name": "add", "parameters": PARAMETERS}}


@pytest.fixture
async def work(tmp_path: Path, provider: Provider) -> AsyncIterator[Work]:
    runtime = await Runtime.open(
        settings(tmp_path, openai_api_base_url=provider.base_url, openai_api_key=KEY)
    )
    definition = PersonaDefinition.model_validate({"instructions": "You help."})
    valves = AgentValves.model_validate({})
    spec = AgentSpec("helper", "Helper", "", "persona", definition, valves, "You help.")
    state = RunState("0" * 20, Budget(valves), Memo(None), {})
    task = Task([{"role": "user", "content": "Go"}], "Go", tools=(REQUESTED,))
    connection = connections.resolve(
        runtime.settings, base_url=None, api_key=None, model=None, connect_timeout=1, read_timeout=1
    )
    yield Work(spec, task, state, runtime.services, connection, "stub")
    await runtime.close()


def tool(name: str, answer: str) -> OwnTool:
    async def run(arguments: dict[str, Any]) -> str:
        return f"{answer} {arguments}"

    return own_tool(name, "Does it.", PARAMETERS, run)


async def test_own_tools_with_names_that_no_model_takes_can_be_called(work: Work) -> None:
    await work.tools.gather(
        [tool("Nachschlagen, bitte!", "looked"), tool("x" * 80, "long"), tool("add", "own")]
    )
    names = work.tools.names
    assert len(names) == 4
    assert all(len(name) <= 64 and name.replace("_", "").isalnum() for name in names)
    for name, answer in zip(names, ("looked", "long", "own"), strict=False):
        result = await work.tools.call(name, {"a": 1})
        assert (result.text, result.is_error) == (f"{answer} {{'a': 1}}", False)


async def test_a_tool_that_comes_later_gets_a_name_of_its_own(work: Work) -> None:
    await work.tools.gather([])
    added = [
        work.tools.add(tool(name, f"t{n}")) for n, name in enumerate(("add", "Zählen!", "Zählen!", "new"))
    ]
    assert added[3] == "new"
    assert len({"add", *added}) == 5
    assert all(name.isascii() and "!" not in name for name in added)
    for number, name in enumerate(added):
        assert (await work.tools.call(name, {})).text == f"t{number} {{}}"


async def test_where_the_caller_cannot_execute_tools_open_webui_does_as_the_user(
    tmp_path: Path, provider: Provider
) -> None:
    def add(a: int) -> str:
        return f"{a} and one"

    with Double() as webui:
        bob = webui.user("bob")
        webui.share("personas.tool_runner")
        webui.toolkit("sums", add=add, other=add, readers=[bob])
        fields = {"openai_api_base_url": provider.base_url, "openai_api_key": KEY}
        opened = await Runtime.open(settings(tmp_path, openwebui_url=webui.url, **fields), "sk-key")
        try:
            webui.model = opened.loopback.reply
            spec = AgentSpec(
                "s",
                "S",
                "",
                "persona",
                PersonaDefinition.model_validate({"instructions": "x"}),
                AgentValves.model_validate({}),
                "x",
            )
            task = Task([{"role": "user", "content": "Go"}], "Go", tools=(REQUESTED,), relay=False)
            for caller, names in ((Caller("bob", credential=bob.token), ["add"]), (Caller("bob"), [])):
                state = RunState("0" * 20, Budget(spec.valves), Memo(None), {})
                work = await prepare(spec, replace(task, caller=caller), state, opened.services)
                assert work.tools.names == names
                for name in names:
                    assert (await work.tools.call(name, {"a": 2})).text == "2 and one"
                assert not state.pending
            assert webui.executed == [("add", {"a": 2}, "bob")]
        finally:
            await opened.close()


@pytest.mark.parametrize("retries", [0, 1])
async def test_how_often_a_lost_connection_is_tried_again_is_a_valve(
    tmp_path: Path, provider: Provider, retries: int
) -> None:
    lost = 0

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal lost
        lost += 1
        writer.close()

    valves = AgentValves.model_validate({"more_tools": True, "tool_retries": retries})
    definition = PersonaDefinition.model_validate({"instructions": "x"})
    spec = AgentSpec("s", "S", "", "persona", definition, valves, "x")
    with Double() as webui:
        bob, eve = webui.user("bob"), webui.user("eve")
        webui.toolkit("sums", add=lambda a: f"{a}")
        fields = {"openai_api_base_url": provider.base_url, "openai_api_key": KEY}
        opened = await Runtime.open(settings(tmp_path, openwebui_url=webui.url, **fields), "sk-key")
        away = await asyncio.start_server(hang_up, "127.0.0.1", 0)

        async def begun(caller: Caller) -> Work:
            state = RunState("0" * 20, Budget(valves), Memo(None), {})
            task = Task([{"role": "user", "content": "Go"}], "Go", caller)
            return await prepare(spec, task, state, opened.services)

        try:
            work = await begun(Caller("bob", credential=bob.token))
            rest = opened.openwebui.rest
            rest.url = f"http://127.0.0.1:{away.sockets[0].getsockname()[1]}"

            result = await work.tools.call("add", {"a": 2})
            assert (result.is_error, "cannot be reached" in result.text) == (True, True)
            assert lost == retries + 1

            rest._silent_until = 0
            with pytest.raises(ToolError, match="cannot be reached"):
                await begun(Caller("eve", credential=eve.token))
            assert lost == 2 * (retries + 1)
        finally:
            away.close()
            await opened.close()
