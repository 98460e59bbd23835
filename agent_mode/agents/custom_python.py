"""The engine of `custom_python`: an admin's code in a process of its own (`sandbox/`)."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from agent_mode.agents.definitions import CustomPythonDefinition
from agent_mode.agents.delegation import call_agent
from agent_mode.agents.engine import Event, Source, Status, Text
from agent_mode.agents.engine import Image as Picture
from agent_mode.agents.handles import Llm, Tools, turn_view
from agent_mode.agents.work import Work
from agent_mode.errors import ConfigurationError
from agent_mode.observe.logs import get_logger
from agent_mode.sandbox.items import Image, Item, Limits, Log, Output, SourceItem, StatusLine
from agent_mode.valves import CustomPythonValves

log = get_logger(__name__)


class CustomPythonEngine:
    """Runs the code, answers what it asks for, and passes on what it says."""

    async def run(self, work: Work) -> None:
        services, definition, valves = work.services, work.spec.definition, work.spec.valves
        if not services.settings.allow_custom_python:
            raise ConfigurationError(
                f"{work.spec.name} is Python code of an admin, and this server does not run such code.",
                hint="Whoever runs the server can allow it with AGENT_MODE_ALLOW_CUSTOM_PYTHON=true.",
                code="custom_python_off",
                status=403,
            )
        assert isinstance(definition, CustomPythonDefinition)
        assert isinstance(valves, CustomPythonValves)
        turn = {**asdict(turn_view(work)), "tools": work.tools.openai()}
        limits = Limits(seconds=valves.code_seconds, memory_mb=valves.code_memory_mb)
        items = services.sandbox.run(definition.code, turn, limits, _Answers(work))
        async with aclosing(items):
            async for item in items:
                event = _event(item)
                if event is not None:
                    await work.tell(event)
                elif isinstance(item, Log):
                    log.info("agent printed", agent=work.spec.id, text=item.text)


class _Answers:
    """Answers what the code asks for."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._tools = Tools(work)
        self._llm = Llm(work)

    async def __call__(self, kind: str, arguments: dict[str, Any]) -> Any:
        work = self._work
        if kind == "tools":
            return [tool["function"] for tool in work.tools.openai()]
        if kind == "tool":
            return await self._tools.call(arguments["name"], **(arguments.get("arguments") or {}))
        if kind == "llm":
            messages, params = arguments["messages"], arguments.get("params") or {}
            if arguments.get("stream"):
                return self._llm.stream(messages, **params)
            return await self._llm(messages, **params)
        assert kind == "call_agent"
        return await call_agent(work, arguments["name"], arguments["task"], arguments.get("context"))


def _event(item: Item) -> Event | None:
    match item:
        case Output(text):
            return Text(text)
        case StatusLine(text, done):
            return Status(text, done=done)
        case Image():
            return Picture(item.url, item.description)
        case SourceItem(name, url, text):
            return Source(name, url or None, text)
        case _:
            return None
