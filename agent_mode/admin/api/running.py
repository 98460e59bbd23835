"""POST /api/v1/agents/{id}/run: a plain request to an agent, answered whole or as a stream.

A persona is asked by the same code (`/api/v1/personas/{key}/run`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from agent_mode.admin.api import examples, shapes
from agent_mode.admin.api.errors import FormError, error_json
from agent_mode.admin.api.requests import Body, Running, Server, read, takes
from agent_mode.admin.api.told import Told
from agent_mode.admin.backend import Backend
from agent_mode.agents import stored
from agent_mode.agents.engine import Failure
from agent_mode.agents.runner import run_agent
from agent_mode.agents.spec import AgentSpec, Caller, Task
from agent_mode.chat.messages import last_text
from agent_mode.chat.runtime import Runtime
from agent_mode.chat.turn import Turn
from agent_mode.errors import AgentModeError, DefinitionError, Problem, RequestError, RunCancelled
from agent_mode.observe.logs import get_logger
from agent_mode.observe.metrics import metrics
from agent_mode.store.agents import content

router = APIRouter(prefix="/api/v1/agents", tags=["agents"])
log = get_logger(__name__)

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

HEARTBEAT_SECONDS = 15.0
"""After so long a silence a comment is sent, so that no proxy cuts an agent that thinks."""
_STREAM = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class RunForm(BaseModel):
    """What an agent is asked."""

    model_config = ConfigDict(extra="forbid")

    input: str | None = Field(None, description="The request; or send `messages`", max_length=1_000_000)
    messages: list[dict[str, Any]] | None = Field(None, description="A whole conversation, as OpenAI has it")
    user_id: str | None = Field(
        None, description="Open WebUI's id of the user to act for", min_length=1, max_length=256
    )
    stream: bool = Field(False, description="Answer with server-sent events")
    tools: list[dict[str, Any]] = Field([], description="OpenAI tool specs that you execute", max_length=200)


TAKES = takes(
    RunForm.model_json_schema(),
    plain=examples.RUN,
    stream={"messages": [{"role": "user", "content": "Hello"}], "stream": True},
)
"""The OpenAPI of the body that `ask` reads."""


@router.post("/{agent_id}/run", response_model=shapes.RunResult, summary="Ask an agent", openapi_extra=TAKES)
async def run(
    server: Server, runtime: Running, agent_id: Annotated[str, Path(max_length=64)], body: Body
) -> Response:
    """Asks any agent of this server: one of the store, one of a file, or a persona by its key.

    A closed connection stops the run. With `stream`, each event is one `data:` line of JSON with a `type`:
    `run`, `status`, `text`, `reasoning`, `source`, `image`, `tool`, `tool_calls`, `usage`, `error`. The last
    one is `done`, which holds everything together.
    """
    return await ask(runtime, agent_id, body, lambda: _spec(server, agent_id))


async def ask(
    runtime: Runtime, agent_id: str, body: Any, find: Callable[[], Awaitable[AgentSpec]]
) -> Response:
    """The answer of an agent or a persona to a plain request.

    Args:
        runtime: of the server.
        agent_id: whom the request names.
        body: of the request.
        find: gives who is asked; called when the body is known to be usable.

    Raises:
        FormError: all that is wrong with the body.
        AgentModeError: what `find` raises.
    """
    form = read(RunForm, body)
    task = _task(agent_id, form)
    spec = await find()
    if spec.instructions:
        system = {"role": "system", "content": spec.instructions}
        task = Task([system, *task.messages], task.text, task.caller, tools=task.tools)
    return _RunResponse(runtime, spec, task, stream=form.stream)


def _task(agent_id: str, form: RunForm) -> Task:
    if (form.input is None) == (form.messages is None):
        problem = Problem("input", "Either `input` or `messages` must say what to do.", "Send one of them.")
        raise FormError("The request cannot be used", problems=[problem])
    given = form.messages if form.messages is not None else [{"role": "user", "content": form.input}]
    if form.input is not None and not form.input.strip():
        empty = Problem("input", "This must not be empty.", "Write what the agent shall do.")
        raise FormError("The request cannot be used", problems=[empty])
    messages = Turn.parse({"model": agent_id, "messages": given}).messages
    for index, tool in enumerate(form.tools):
        function = tool.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            hint = 'Send {"type": "function", "function": {"name": …, "parameters": {…}}}.'
            problem = Problem(f"tools.{index}", "This is no tool as OpenAI has them.", hint)
            raise FormError("The request cannot be used", problems=[problem])
    return Task(messages, last_text(messages), Caller(form.user_id), tools=tuple(form.tools))


async def _spec(server: Backend, agent_id: str) -> AgentSpec:
    runtime = server.runtime
    spec = runtime.directory.get(agent_id)
    if spec is not None:
        return spec
    record = await runtime.agent_store.get(agent_id)
    if record is None:
        raise stored.not_found(agent_id)
    if not record.enabled:
        raise RequestError(
            f"{record.name} is disabled.",
            hint=f'PATCH /api/v1/agents/{agent_id} with {{"enabled": true}}.',
            code="agent_disabled",
            status=409,
        )
    allowed = runtime.settings.allow_custom_python
    parts, found = await asyncio.to_thread(stored.read, content(record), allow_code=allowed, strict=False)
    if parts is None:
        raise DefinitionError(f"{record.name} cannot be used", problems=found)
    await server.sync_agents()  # it was made a moment ago, on another replica
    return runtime.directory.get(agent_id) or parts.spec(record, runtime.personas)


class _RunResponse(Response):
    """Runs the agent while the answer is read; ends the run when nobody reads any more."""

    def __init__(self, runtime: Runtime, spec: AgentSpec, task: Task, *, stream: bool) -> None:
        super().__init__()
        self._runtime = runtime
        self._spec = spec
        self._task = task
        self._stream = stream
        self._begun = False
        self._told = Told()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        work = asyncio.create_task(self._work(send))
        run = self._runtime.runs.add(work, leased=False)
        gone = asyncio.create_task(_gone(receive))
        try:
            waiting = {work, gone}
            while not work.done() and not gone.done():
                await asyncio.wait(waiting, timeout=HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if self._begun and not work.done() and not gone.done():
                    await send({"type": "http.response.body", "body": b": \n\n", "more_body": True})
        finally:
            gone.cancel()
            if not work.done():
                work.cancel()
            await asyncio.wait({work})
        if gone.done() and not gone.cancelled():
            metrics.turn(self._spec.id, None, stopped=True)
            return
        self._told.run_id = run.id
        error = _cut_off(stopped=run.stopped) if work.cancelled() else _failure(work)
        stopped = isinstance(error, RunCancelled)
        metrics.turn(self._spec.id, None if stopped else error, stopped=stopped)
        await self._end(send, error)

    async def _work(self, send: Send) -> None:
        """
        Raises:
            AgentModeError: the run failed.
        """
        task = asyncio.current_task()
        events = run_agent(self._spec, self._task, self._runtime.services)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Failure):
                    raise event.error
                for line in self._told.take(event):
                    if self._stream:
                        await self._write(send, task, line)

    async def _write(self, send: Send, task: asyncio.Task[Any] | None, line: dict[str, Any]) -> None:
        if not self._begun:
            self._begun = True
            await send({"type": "http.response.start", "status": 200, "headers": _STREAM})
            await send(_line({"type": "run", "run_id": self._runtime.runs.id_of(task)}))
        await send(_line(line))

    async def _end(self, send: Send, error: AgentModeError | None) -> None:
        if not self._begun:
            await self._send_whole(send, error)
            return
        if error is not None:
            await send(_line({"type": "error", **error_json(error)}))
        await send(_line({"type": "done", **self._told.result()}))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_whole(self, send: Send, error: AgentModeError | None) -> None:
        """One JSON object; a stream that failed before its first event is one as well."""
        result = self._told.result()
        if error is not None:
            result = {**error_json(error), "run_id": result["run_id"], "output": result["output"]}
        elif self._stream:
            await send({"type": "http.response.start", "status": 200, "headers": _STREAM})
            await send({**_line({"type": "done", **result}), "more_body": False})
            return
        raw = json.dumps(result).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(raw)).encode())]
        status = 200 if error is None else error.status
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": raw})


def _line(data: dict[str, Any]) -> dict[str, Any]:
    body = b"data: " + json.dumps(data).encode() + b"\n\n"
    return {"type": "http.response.body", "body": body, "more_body": True}


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _failure(work: asyncio.Task[None]) -> AgentModeError | None:
    error = work.exception()
    if error is None or isinstance(error, AgentModeError):
        return error
    log.error("a run failed", code="internal", exc_info=error)
    return AgentModeError(
        "Something went wrong inside Agent Mode.",
        hint="Try again; an admin finds the reason in the server's log.",
        code="internal",
    )


def _cut_off(*, stopped: bool) -> RunCancelled:
    if stopped:
        return RunCancelled("The run was stopped.", hint="Ask again to start anew.", status=409)
    return RunCancelled(
        "The server was reloaded or stopped in the middle of the answer.",
        hint="Try again in a moment.",
        status=503,
        retryable=True,
    )
