"""The tools of one agent in one run: which there are, and how a call of each is executed.

Three kinds: tools that came with the request are executed by the caller (`relay`, agents/state.py), tools
that Open WebUI offers besides are executed by it as the user (`loopback`), and an agent's own run here.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent_mode.agents.engine import Status, ToolCard
from agent_mode.agents.state import RECORDED
from agent_mode.counting import counted
from agent_mode.errors import AgentModeError, LimitError, ToolError
from agent_mode.observe.logs import get_logger
from agent_mode.tools import results, specs
from agent_mode.tools.loopback import THREE_WAYS
from agent_mode.tools.rest import retrying
from agent_mode.tools.specs import ToolSpec

if TYPE_CHECKING:
    from agent_mode.agents.work import Work

log = get_logger(__name__)

_SHOWN_RESULT = 4_000
"""Characters of an own tool's result that its card in the chat shows."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gave.

    Args:
        content: text, or OpenAI content parts when pictures are in it.
        is_error: whether the tool failed or was denied; the content says why.
    """

    content: str | list[dict[str, Any]]
    is_error: bool = False

    @property
    def text(self) -> str:
        return results.text_of(self.content)


@dataclass(frozen=True, slots=True)
class OwnTool:
    """A tool that runs here.

    Args:
        spec: how the LLM sees it.
        run: gets the arguments, returns text or content parts; an `AgentModeError` is told to the LLM.
        card: whether its call is shown in the chat.
        inner: whether it does the run's work itself (another agent), so that the run may hand over in it.
    """

    spec: ToolSpec
    run: Callable[[dict[str, Any]], Awaitable[results.Content]]
    card: bool = True
    inner: bool = False


def own_tool(
    name: str,
    description: str,
    parameters: dict[str, Any],
    run: Callable[..., Awaitable[results.Content]],
    **more: Any,
) -> OwnTool:
    """A tool that runs here, from its name and JSON schema."""
    spec = ToolSpec(name, name, description, parameters, "own", None)
    return OwnTool(spec, run, **more)


class Toolbox:
    """The tools that an agent may use; empty until `gather`."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._own: dict[str, OwnTool] = {}
        self._specs: dict[str, ToolSpec] = {}
        self._missing = ""
        """Why tools that the valves want are not here; empty if they are."""

    async def gather(self, own: Sequence[OwnTool] = (), patterns: Sequence[str] | None = None) -> None:
        """Finds the tools: those of the request, those that Open WebUI offers this user, and own ones.

        Args:
            own: the agent's own.
            patterns: further narrows the user's tools, as the valve `allowed_tools` does.

        Raises:
            ToolError: Open WebUI was to be asked for more tools and cannot be.
        """
        work = self._work
        valves = work.spec.valves
        found = specs.from_request(list(work.task.tools))
        if valves.more_tools or (found and not work.task.relay):
            offered = await self._offered()
            known = {spec.original for spec in found}
            if not work.task.relay:
                found = [spec for spec in offered if spec.original in known]
            if valves.more_tools:
                found += [spec for spec in offered if spec.original not in known]
        found = specs.allowed(found, valves.allowed_tools)
        if patterns is not None:
            found = specs.allowed(found, ",".join(patterns) or "-*")
        named = specs.unique_names([*(tool.spec for tool in own), *found])
        by_original = {tool.spec.original: tool for tool in reversed(own)}
        self._own = {spec.name: by_original[spec.original] for spec in named if spec.source == "own"}
        self._specs = {spec.name: spec for spec in named}

    async def _offered(self) -> list[ToolSpec]:
        """What Open WebUI offers the user for calls by loopback; nothing without the user's credential."""
        work, services = self._work, self._work.services
        credential = await services.credential_of(work.task.caller)
        if credential is None and work.spec.valves.more_tools:
            self._missing = (
                f"Open WebUI's other tools are out of reach: nothing shows who you are. {THREE_WAYS}"
            )
            if work.state.memo.first("no credential"):
                await work.emit(Status(self._missing))
        if credential is None or not (work.spec.valves.more_tools or services.openwebui.known):
            return []
        with retrying(work.spec.valves.tool_retries):
            return await services.openwebui.tools_of(credential)

    def add(self, tool: OwnTool) -> str:
        """Adds one of the agent's own to what was gathered; returns the name to call it by."""
        name = specs.free_name(tool.spec, self._specs)
        self._specs[name] = replace(tool.spec, name=name)
        self._own[name] = tool
        return name

    def fitted(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The messages with earlier calls and results as this agent's LLM shall see them.

        Calls stand under the names by which it knows the tools, results are no longer than the valves allow.
        """
        names = {spec.original: spec.name for spec in self._specs.values() if spec.original != spec.name}
        limit = self._work.spec.valves.tool_result_limit

        def fit(message: dict[str, Any]) -> dict[str, Any]:
            if message["role"] == "tool":
                return {
                    **message,
                    "content": results.shortened(results.content_of(message["content"]), limit),
                }
            if names and message.get("tool_calls"):
                return {**message, "tool_calls": [_renamed(call, names) for call in message["tool_calls"]]}
            return message

        return [fit(message) for message in messages]

    @property
    def specs(self) -> list[ToolSpec]:
        return list(self._specs.values())

    @property
    def names(self) -> list[str]:
        return list(self._specs)

    def openai(self) -> list[dict[str, Any]]:
        """The specs as a request to an LLM holds them."""
        return [specs.openai_tool(spec) for spec in self._specs.values()]

    def subset(self, patterns: Sequence[str] | None) -> list[ToolSpec]:
        """The tools that fit names or patterns; None: all."""
        everything = self.specs
        return everything if patterns is None else specs.allowed(everything, ",".join(patterns) or "-*")

    async def call(self, name: str, arguments: Any) -> ToolResult:
        """Executes one call; what goes wrong with the tool is in the result, for the LLM to handle.

        Args:
            name: as the LLM sees it.
            arguments: an object, or its JSON text.

        Raises:
            LimitError: the run has called tools often enough.
        """
        work = self._work
        arguments, problem = self._checked(name, arguments)
        if problem is not None:
            return ToolResult(f"Error: {problem}", is_error=True)
        spec = self._specs[name]
        key = work.state.memo.key(work.path, "tool", [spec.original, arguments])
        if key in work.state.memo:
            known = work.state.memo.recall(key)
            return ToolResult(known["content"], known["is_error"])
        first_time = key not in work.state.memo.calls
        if first_time:
            work.state.memo.calls[key] = []
            work.state.budget.tool_call()
            await work.status(f"Calling {spec.original}…")
        began = time.monotonic()
        try:
            result = await self._execute(spec, arguments, key)
        except LimitError:
            raise
        except AgentModeError as error:
            log.info("tool failed", tool=spec.original, agent=work.spec.id, code=error.code)
            result = ToolResult(f"Error: {error}", is_error=True)
        if spec.source != "request":
            self._note(spec, arguments, result, time.monotonic() - began)
        limit = work.spec.valves.tool_result_limit
        return ToolResult(results.shortened(result.content, limit), result.is_error)

    async def call_all(self, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Executes the calls of one assistant message side by side; returns the messages that follow on it.

        These are the `tool` messages, in order, and one with the pictures, which `tool` messages cannot hold.
        """

        async def one(call: dict[str, Any]) -> ToolResult:
            function = call["function"]
            return await self.call(function["name"], function["arguments"])

        tasks = [asyncio.create_task(one(call)) for call in calls]
        try:
            found = await asyncio.gather(*tasks)  # not a TaskGroup: its errors come in a group
        finally:
            for task in tasks:
                task.cancel()
        messages = [
            {"role": "tool", "tool_call_id": call["id"], "content": result.text}
            for call, result in zip(calls, found, strict=True)
        ]
        pictures = [url for result in found for url in results.images_of(result.content)]
        return [*messages, results.images_note(pictures)] if pictures else messages

    def _checked(self, name: str, arguments: Any) -> tuple[dict[str, Any], str | None]:
        """The arguments as an object, and what is wrong with the call."""
        spec = self._specs.get(name)
        if spec is None:
            there = ", ".join(self.names) or "none"
            return {}, f"there is no tool “{name}” here. Tools: {there}. {self._missing}".strip()
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments or "{}")
            except ValueError as error:
                return {}, f"the arguments of {name} are no JSON: {error}."
        if not isinstance(arguments, dict):
            return {}, f"the arguments of {name} must be an object."
        problems = specs.argument_problems(spec.parameters, arguments)
        if problems:
            return {}, f"the arguments of {name} do not fit: {'; '.join(problems)}."
        return arguments, None

    async def _execute(self, spec: ToolSpec, arguments: dict[str, Any], key: str) -> ToolResult:
        work = self._work
        if spec.source == "request":
            # The transcript keeps what comes back, so the memo need not.
            answer = await work.state.from_caller(
                key, work.spec.id, work.record_id, spec.original, json.dumps(arguments)
            )
            content = results.content_of(answer)
            return ToolResult(content, results.is_error(content))
        work.state.memo.inner = True  # also while it goes on: the run may hand over in the middle of it
        result = await (
            self._run_own(spec, arguments) if spec.source == "own" else self._loop(spec, arguments)
        )
        known = {"content": result.content, "is_error": result.is_error}
        work.state.memo.record(key, known, inner=True)
        return result

    async def _run_own(self, spec: ToolSpec, arguments: dict[str, Any]) -> ToolResult:
        work, tool = self._work, self._own[spec.name]
        try:
            if tool.inner:
                text = await tool.run(arguments)
            else:
                with work.state.working():
                    async with asyncio.timeout(work.spec.valves.tool_timeout):
                        text = await tool.run(arguments)
            result = ToolResult(text)
        except TimeoutError:
            result = ToolResult(f"Error: {_timed_out(spec, work.spec.valves.tool_timeout)}", is_error=True)
        except LimitError:
            raise
        except AgentModeError as error:
            result = ToolResult(f"Error: {error}", is_error=True)
        if tool.card:
            shown = result.text[:_SHOWN_RESULT]
            card_id = f"own_{uuid.uuid4().hex[:16]}"
            await work.emit(ToolCard(card_id, spec.original, json.dumps(arguments), shown))
        return result

    async def _loop(self, spec: ToolSpec, arguments: dict[str, Any]) -> ToolResult:
        work = self._work
        services = work.services
        credential = await services.credential_of(work.task.caller)
        with work.state.working(), retrying(work.spec.valves.tool_retries):
            outcome = await services.loopback.call(
                credential, spec, arguments, timeout=work.spec.valves.tool_timeout
            )
        card_id = f"loop_{uuid.uuid4().hex[:16]}"
        await work.emit(ToolCard(card_id, spec.original, json.dumps(arguments), outcome.text[:_SHOWN_RESULT]))
        return ToolResult(outcome.text, outcome.is_error)

    def _note(self, spec: ToolSpec, arguments: dict[str, Any], result: ToolResult, seconds: float) -> None:
        route = "own" if spec.source == "own" else "loopback"
        told = {"result": result.text[:RECORDED], "is_error": result.is_error, "ms": round(seconds * 1000)}
        work = self._work
        work.state.note_call(
            work.spec.id, work.record_id, spec.original, route, json.dumps(arguments), **told
        )


def _timed_out(spec: ToolSpec, seconds: float) -> ToolError:
    return ToolError(
        f"The tool {spec.original} did not answer within {counted(seconds, 'second')}.",
        hint="Try something smaller, or let an admin raise the valve `tool_timeout`.",
        code="tool_timeout",
    )


def _renamed(call: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    function = call.get("function") or {}
    name = str(function.get("name"))
    return {**call, "function": {**function, "name": names.get(name, name)}}
