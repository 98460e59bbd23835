"""No valve of an agent without an effect: each is changed, and a run with it looked at, before and after."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent_mode.agents.engine import Status
from agent_mode.agents.spec import AgentSpec, Caller, Task
from agent_mode.agents.toolbox import own_tool
from agent_mode.chat.runtime import Runtime
from agent_mode.valves import AgentValves, CustomPythonValves
from tests.owui_double import Account, Double
from tests.patience import PATIENCE
from tests.provider import KEY, Provider
from tests.runtimes import settings
from tests.unit.test_agent_runs import Told, agent, coded, play, python, task

SHORT = 0.3
"""Seconds; below what the form takes for a timeout."""


class Lab:
    """A server's parts, the provider that it asks, and an Open WebUI with a user who has a tool there."""

    def __init__(self, runtime: Runtime, provider: Provider, ann: Account) -> None:
        self.runtime, self.provider, self.ann = runtime, provider, ann

    async def run(self, valves: AgentValves, asked: Task | str, spec: AgentSpec | None = None) -> Told:
        """A persona with tools, or another agent, with these valves."""
        self.provider.clear()
        asked = task(asked) if isinstance(asked, str) else asked
        return await play(
            self.runtime, replace(spec or agent(), valves=valves), asked, lambda *_: "x" * 5_000
        )

    async def failure(self, valves: AgentValves, asked: str, spec: AgentSpec | None = None) -> str | None:
        told = await self.run(valves, asked, spec)
        return told.failure.error.code if told.failure else None

    async def failure_soon(self, valves: AgentValves, name: str, asked: str) -> str | None:
        """As `failure`; with the default, which is minutes, nobody waits for it."""
        usual = getattr(valves, name) == getattr(type(valves).model_validate({}), name)
        try:
            async with asyncio.timeout(1.5 if usual else PATIENCE):
                return await self.failure(valves, asked)
        except TimeoutError:
            return "later"

    @property
    def offered(self) -> list[str]:
        """The tools that the model was told of last."""
        return sorted(tool["function"]["name"] for tool in self.provider.last().body.get("tools", ()))


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.fixture(scope="module")
def webui() -> Iterator[Double]:
    with Double() as running:
        yield running


@pytest.fixture
async def lab(tmp_path: Path, provider: Provider, webui: Double) -> AsyncIterator[Lab]:
    provider.clear()
    ann = webui.user("ann")
    webui.toolkit("garden", water=lambda: "wet")
    runtime = await Runtime.open(
        settings(
            tmp_path,
            openai_api_base_url=provider.base_url,
            openai_api_key=KEY,
            model="stub-agent",
            openwebui_url=webui.url,
            allow_custom_python=True,
        )
    )
    yield Lab(runtime, provider, ann)
    await runtime.close()


Look = Callable[[Lab, Any], Awaitable[Any]]
LOOKS: dict[tuple[type[AgentValves], str], tuple[Any, Any, Look]] = {}


def effect(
    name: str, *, at: Any, before: Any, after: Any, kind: type[AgentValves] = AgentValves
) -> Callable[[Look], Look]:
    """Registers a look at what the valve does when it is set to `at`."""

    def register(look: Look) -> Look:
        LOOKS[kind, name] = (at, (before, after), look)
        return look

    return register


@effect("llm_base_url", at="http://127.0.0.1:9/v1", before=None, after="provider_unreachable")
async def _address(lab: Lab, valves: AgentValves) -> Any:
    return await lab.failure(valves, "say: a")


@effect("llm_api_key", at="sk-another", before=f"Bearer {KEY}", after="Bearer sk-another")
async def _key(lab: Lab, valves: AgentValves) -> Any:
    await lab.run(valves, "say: a")
    return lab.provider.last().headers["authorization"]


@effect("llm_model", at="stub-usage", before="stub-agent", after="stub-usage")
async def _model(lab: Lab, valves: AgentValves) -> Any:
    await lab.run(valves, "say: a")
    return lab.provider.last().body["model"]


@effect("temperature", at=0.5, before=None, after=0.5)
async def _temperature(lab: Lab, valves: AgentValves) -> Any:
    await lab.run(valves, "say: a")
    return lab.provider.last().body.get("temperature")


@effect("connect_timeout", at=SHORT, before="later", after="provider_unreachable")
async def _patience_to_connect(lab: Lab, valves: AgentValves) -> Any:
    """A port whose queue is full lets callers wait, as a firewall does."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        waiting = [socket.socket() for _ in range(4)]
        try:
            for connection in waiting:
                connection.setblocking(False)
                connection.connect_ex(full.getsockname())
            valves.llm_base_url = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
            return await lab.failure_soon(valves, "connect_timeout", "say: a")
        finally:
            for connection in waiting:
                connection.close()


@effect("read_timeout", at=SHORT, before="later", after="provider_timeout")
async def _patience_to_read(lab: Lab, valves: AgentValves) -> Any:
    return await lab.failure_soon(valves, "read_timeout", "like: stub-hang")


@effect("max_seconds", at=1, before="later", after="limit_seconds")
async def _seconds(lab: Lab, valves: AgentValves) -> Any:
    return await lab.failure_soon(valves, "max_seconds", "like: stub-hang")


ROUNDS = "call: clock {}\nthen call: clock {}\nthen say: enough"


@effect("max_steps", at=2, before=None, after="limit_steps")
async def _steps(lab: Lab, valves: AgentValves) -> Any:
    return await lab.failure(valves, ROUNDS)


@effect("max_tool_calls", at=1, before=None, after="limit_tool_calls")
async def _calls(lab: Lab, valves: AgentValves) -> Any:
    return await lab.failure(valves, ROUNDS)


@effect("max_tokens", at=1, before=None, after="limit_tokens")
async def _tokens(lab: Lab, valves: AgentValves) -> Any:
    return await lab.failure(valves, ROUNDS)


@effect("tool_timeout", at=1, before="slept", after="The tool nap did not answer within 1 second.")
async def _nap(lab: Lab, valves: AgentValves) -> Any:
    async def nap(_arguments: dict[str, Any]) -> str:
        await asyncio.sleep(1.2)
        return "slept"

    async def run(_turn: Any, tools: Any, _llm: Any, _call_agent: Any, _status: Any) -> AsyncIterator[str]:
        box = tools._work.tools
        box.add(own_tool("nap", "Sleeps.", {"type": "object", "properties": {}}, nap))
        yield (await box.call("nap", {})).text.removeprefix("Error: ").partition(" Try")[0]

    return (await lab.run(valves, "Go", coded(run))).text


@effect("tool_result_limit", at=1_000, before=[True, False], after=[False, True])
async def _long_result(lab: Lab, valves: AgentValves) -> Any:
    await lab.run(valves, "call: clock {}")
    [result] = [m["content"] for m in lab.provider.last().body["messages"] if m["role"] == "tool"]
    return [result == "x" * 5_000, len(result) <= 1_000]


@effect("allowed_tools", at="clock", before=["clock", "roll_dice"], after=["clock"])
async def _allowed(lab: Lab, valves: AgentValves) -> Any:
    await lab.run(valves, "say: a")
    return lab.offered


@effect("more_tools", at=True, before=["clock", "roll_dice"], after=["clock", "roll_dice", "water"])
async def _more(lab: Lab, valves: AgentValves) -> Any:
    await lab.run(valves, task("say: a", caller=Caller("ann", "Ann", credential=lab.ann.key)))
    return lab.offered


@effect("allowed_agents", at="kid", before=["clock", "roll_dice"], after=["call_agent", "clock", "roll_dice"])
async def _callable(lab: Lab, valves: AgentValves) -> Any:
    lab.runtime.directory.add("kid", lambda: agent("kid"))
    await lab.run(valves, "say: a")
    return lab.offered


@effect("access", at="everyone", before="agent_no_access", after=None)
async def _access(lab: Lab, valves: AgentValves) -> Any:
    """Whether somebody whom Open WebUI does not let use the agent reaches it through another one."""
    lab.runtime.directory.add("kid", lambda: replace(agent("kid"), valves=valves))
    code = "async def run(call_agent):\n    yield await call_agent('kid', 'say: a')\n"
    parent = python(code, allowed_agents="kid")
    return await lab.failure(parent.valves, "Go", parent)


@effect("show_progress", at=False, before=["Thinking…", "Calling clock…"], after=[])
async def _progress(lab: Lab, valves: AgentValves) -> Any:
    lines = [event.description for event in (await lab.run(valves, "call: clock {}")).of(Status)]
    return lines[:2]


@effect("code_seconds", at=1, before=None, after="code_timeout", kind=CustomPythonValves)
async def _computing(lab: Lab, valves: CustomPythonValves) -> Any:
    """With the default it may take more than the one second; with that it is ended, however long it takes."""
    seconds = 1.3 if valves.code_seconds > 1 else 600
    code = f"import time\nasync def run():\n    time.sleep({seconds})\n"
    return await lab.failure(valves, "Go", python(code))


@effect("code_memory_mb", at=64, before=None, after="code_memory", kind=CustomPythonValves)
async def _memory(lab: Lab, valves: CustomPythonValves) -> Any:
    return await lab.failure(valves, "Go", python("async def run():\n    bytearray(200 * 2**20)\n"))


UNBOUND = ("connect_timeout", "read_timeout")
"""Their smallest values are whole seconds; here they are set below, past the form's bounds."""


@pytest.mark.parametrize("key", LOOKS, ids=lambda key: f"{key[0].__name__}.{key[1]}")
async def test_a_valve_does_what_it_says(lab: Lab, key: tuple[type[AgentValves], str]) -> None:
    kind, name = key
    at, (before, after), look = LOOKS[key]
    usual, changed = kind.model_validate({}), kind.model_validate({} if name in UNBOUND else {name: at})
    if name in UNBOUND:
        setattr(changed, name, at)
    assert [f for f in kind.model_fields if getattr(changed, f) != getattr(usual, f)] == [name]

    assert await look(lab, usual) == before
    assert await look(lab, changed) == after


def test_no_valve_is_left_out() -> None:
    assert {name for kind, name in LOOKS if kind is AgentValves} == set(AgentValves.model_fields)
    shown = {name for kind, name in LOOKS if kind is CustomPythonValves}
    assert shown == set(CustomPythonValves.model_fields) - set(AgentValves.model_fields)


def test_custom_python_has_the_valves_of_all_agents() -> None:
    def told(kind: type[AgentValves]) -> dict[str, Any]:
        known = kind.model_json_schema()["properties"]
        return {name: known[name] for name in AgentValves.model_fields}

    assert json.dumps(told(CustomPythonValves)) == json.dumps(told(AgentValves))
