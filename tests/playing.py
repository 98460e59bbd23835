"""Plays the caller of an agent as Open WebUI does: executes the tools that a run asks for, and asks again."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from agent_mode.agents.engine import Chunks, Event, Failure, Reasoning, Status, Text, ToolCalls
from agent_mode.agents.runner import run_agent
from agent_mode.agents.spec import AgentSpec, Task
from agent_mode.chat.runtime import Runtime
from agent_mode.llm.assembly import Assembly, chunks_of


@dataclass
class Told:
    """What a run told over all its requests."""

    events: list[Event] = field(default_factory=list)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    rounds: list[list[str]] = field(default_factory=list)
    """Names of the calls of each hand-over."""
    messages: list[dict[str, Any]] = field(default_factory=list)
    """The transcript as it is at the end."""
    requests: int = 0

    @property
    def text(self) -> str:
        return self._whole().text

    @property
    def thoughts(self) -> str:
        return self._whole().reasoning

    @property
    def statuses(self) -> list[str]:
        return [event.description for event in self.events if isinstance(event, Status)]

    @property
    def failure(self) -> Failure | None:
        return next((event for event in self.events if isinstance(event, Failure)), None)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def _whole(self) -> Assembly:
        whole = Assembly()
        for event in self.events:
            match event:
                case Text(content):
                    whole.text += content
                case Reasoning(content):
                    whole.reasoning += content
                case Chunks(data):
                    for chunk in chunks_of(data):
                        whole.add(chunk)
        return whole


Execute = Callable[[str, Any], Any]


def echo(name: str, arguments: Any) -> str:
    return f"{name} gave {json.dumps(arguments)}"


async def play(
    runtime: Runtime,
    spec: AgentSpec,
    asked: Task,
    execute: Execute = echo,
    *,
    between: Callable[[], Awaitable[Runtime]] | None = None,
    most: int = 12,
) -> Told:
    """Runs an agent until it asks for no more tools.

    Args:
        runtime: the server.
        spec: the agent.
        asked: the first request.
        execute: what a tool gives, by its name and arguments.
        between: gives the server that gets the next request.
        most: requests.
    """
    told = Told(messages=list(asked.messages))
    while told.requests < most:
        told.requests += 1
        said = await request(runtime, spec, replace(asked, messages=told.messages))
        told.events += said.events
        waiting = next((event.calls for event in said.events if isinstance(event, ToolCalls)), ())
        if not waiting:
            return told
        told.rounds.append([call.name for call in waiting])
        told.messages = [
            *told.messages,
            {
                "role": "assistant",
                "content": said.text,
                "tool_calls": [
                    {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
                    for c in waiting
                ],
            },
        ]
        for call in waiting:
            arguments = json.loads(call.arguments)
            told.calls.append((call.name, arguments))
            result = execute(call.name, arguments)
            told.messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        if between is not None:
            runtime = await between()
    raise AssertionError("the run does not end")


async def request(runtime: Runtime, spec: AgentSpec, asked: Task) -> Told:
    """One request of a run."""
    said = Told(requests=1)
    async with aclosing(run_agent(spec, asked, runtime.services)) as events:
        async for event in events:
            said.events.append(event)
    return said
