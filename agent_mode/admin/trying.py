"""Try it: a chat with a draft, saved or not, with everything that can be seen of it.

Such a run is no run of the agent: it stands in no list of runs and moves no figure of an agent; the page
notes in the records who tried what. It holds the same limits, ends with a stop, and with the server.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast

from agent_mode.admin.drafts import Draft
from agent_mode.agents.engine import Event, Failure
from agent_mode.agents.runner import run_agent
from agent_mode.agents.spec import AgentSpec, Caller, Task
from agent_mode.chat.runtime import Runtime
from agent_mode.errors import AgentModeError, RunCancelled
from agent_mode.llm.client import LlmClient
from agent_mode.llm.connection import Connection
from agent_mode.llm.sse import Facts
from agent_mode.observe.logs import get_logger
from agent_mode.store.agents import Agent, AgentForm, content
from agent_mode.store.run_records import RunRecord, RunStore
from agent_mode.tools.specs import ToolSpec, openai_tool

log = get_logger(__name__)

_SHOWN = 200_000
"""Characters of a prompt that are kept to be looked at."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request to the LLM, as it was sent.

    Attributes:
        model: the provider's model.
        text: the request as JSON, its messages, tools and parameters.
    """

    model: str
    messages: int
    tools: int
    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The last that is heard of a try.

    Attributes:
        records: what each agent in it did, the draft first.
        error: why it failed or was stopped; None: it is done.
    """

    records: list[RunRecord]
    error: AgentModeError | None = None


Heard = Event | Asked | Ended


async def attempt(
    runtime: Runtime,
    draft: Draft,
    messages: list[dict[str, Any]],
    *,
    tools: list[ToolSpec],
    only_prompt: bool = False,
) -> AsyncGenerator[Heard, None]:
    """Asks a draft. Closing the generator, or cancelling who reads it, ends the run.

    Args:
        runtime: the server's.
        draft: without problems.
        messages: the conversation as OpenAI messages, the request last.
        tools: of Open WebUI, called as the admin whose key the server has; none: it gets none.
        only_prompt: end as soon as the first request to the LLM is known; it is not sent.

    Yields:
        what the run says, each request to the LLM before it is sent, and `Ended` as the last.

    Raises:
        DefinitionError: the draft has problems.
        RequestError: it brings code, and that is switched off.
    """
    form = draft.usable()
    spec = _spec(runtime, draft, form)
    if spec.instructions:
        messages = [{"role": "system", "content": spec.instructions}, *messages]
    heard: asyncio.Queue[Heard] = asyncio.Queue()
    records = _Records()
    services = replace(
        runtime.services,
        # What engines use of the client, and no more.
        llm=cast(LlmClient, _Overheard(runtime.llm, heard, only_prompt=only_prompt)),
        records=records,
        counted=False,
    )
    task = Task(
        messages,
        str(messages[-1].get("content") or ""),
        await _caller(runtime, with_tools=bool(tools)),
        tools=tuple(openai_tool(tool) for tool in tools),
        interactive=True,
        relay=False,
    )

    async def work() -> None:
        async with aclosing(run_agent(spec, task, services)) as events:
            async for event in events:
                heard.put_nowait(event)

    running = asyncio.create_task(work(), name=f"try {spec.id}")
    run = runtime.runs.add(running, leased=False, counted=False)
    running.add_done_callback(lambda _: heard.put_nowait(Ended([])))
    error: AgentModeError | None = None
    try:
        while True:
            event = await heard.get()
            if isinstance(event, Ended):
                break
            if isinstance(event, Failure):
                error = event.error
                continue
            yield event
            if only_prompt and isinstance(event, Asked):
                yield Ended([])
                return
        if running.cancelled() and run.stopped:
            error = RunCancelled("The run was stopped.", hint="Ask again to start anew.")
        elif not running.cancelled() and (cause := running.exception()) is not None:
            log.error("trying a draft failed", exc_info=cause)
            error = AgentModeError(
                "Something went wrong inside Agent Mode.",
                hint="The reason is in the server's log.",
                code="internal",
            )
        yield Ended(records.kept, error)
    finally:
        if not running.done():
            running.cancel()
            await asyncio.wait({running})


class _Overheard:
    """The LLM client, with each request told before it is sent."""

    def __init__(self, llm: LlmClient, heard: asyncio.Queue[Heard], *, only_prompt: bool) -> None:
        self._llm = llm
        self._heard = heard
        self._only_prompt = only_prompt

    def stream(
        self, connection: Connection, payload: dict[str, Any], facts: Facts
    ) -> AsyncGenerator[bytes, None]:
        self._tell(payload)
        return self._llm.stream(connection, payload, facts)

    async def complete(self, connection: Connection, payload: dict[str, Any]) -> dict[str, Any]:
        self._tell(payload)
        return await self._llm.complete(connection, payload)

    async def models(self, connection: Connection) -> list[dict[str, Any]]:
        return await self._llm.models(connection)

    async def choose_model(self, connection: Connection, wanted: str | None) -> str:
        return await self._llm.choose_model(connection, wanted)

    def _tell(self, payload: dict[str, Any]) -> None:
        shown = {key: value for key, value in payload.items() if key not in ("stream", "stream_options")}
        text = json.dumps(shown, indent=2, ensure_ascii=False, default=str)
        count = len(payload.get("messages") or ()), len(payload.get("tools") or ())
        self._heard.put_nowait(Asked(str(payload.get("model") or ""), *count, text[:_SHOWN]))
        if self._only_prompt:
            raise RunCancelled("Nobody wants an answer.")


class _Records(RunStore):
    """Keeps the records of one try in memory."""

    def __init__(self) -> None:
        self._kept: dict[str, RunRecord] = {}

    @property
    def kept(self) -> list[RunRecord]:
        """In the order in which they began."""
        return list(self._kept.values())

    def put(self, record: RunRecord) -> None:
        self._kept[record.id] = record

    async def get(self, run_id: str) -> RunRecord | None:
        return self._kept.get(run_id)


def _spec(runtime: Runtime, draft: Draft, form: AgentForm) -> AgentSpec:
    assert draft.parts is not None
    now = datetime.now(UTC)
    record = Agent(
        **{**content(form), "tags": tuple(form.tags)},
        id=form.id,
        version=0,
        content_hash="",
        created_at=now,
        updated_at=now,
    )
    return draft.parts.spec(record, runtime.personas)


async def _caller(runtime: Runtime, *, with_tools: bool) -> Caller:
    """Whoever the server's key belongs to, if tools are to be used; else nobody, who may reach all agents."""
    key = runtime.settings.openwebui_api_key
    if not with_tools or not key:
        return Caller(admin=True)
    try:
        account = await runtime.openwebui.whoami(key)
    except AgentModeError:
        account = None
    if account is None:
        return Caller(admin=True, credential=key)
    return Caller(account.id, account.name, admin=True, credential=key)
