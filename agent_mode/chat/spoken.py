"""What a persona says without tools of its own: the provider's stream passed on, and a record of the run."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from agent_mode.agents import recording
from agent_mode.agents.engine import Chunks, Completion, Event, Job, Usage
from agent_mode.agents.persona import PersonaEngine
from agent_mode.agents.state import RECORDED, child_id
from agent_mode.chat.agent_turn import run_id_of
from agent_mode.chat.runtime import Runtime
from agent_mode.chat.turn import Turn
from agent_mode.errors import AgentModeError, StoreError
from agent_mode.llm.assembly import Assembly, chunks_of
from agent_mode.observe.logs import get_logger
from agent_mode.store.run_records import RunRecord
from agent_mode.tools.results import is_images_note

log = get_logger(__name__)


async def speak(
    runtime: Runtime, turn: Turn, agent: str, job: Job, *, step: int | None = None
) -> AsyncGenerator[Event, None]:
    """Passes the provider's answer on.

    Args:
        runtime: the running server.
        turn: the request.
        agent: key of the persona that speaks, for the record.
        job: what is sent to the LLM.
        step: its number, where several personas speak in one answer.

    Raises:
        ProviderError: readable; what was yielded before stays valid.
    """
    run_id = run_id_of(turn)
    if step is not None:
        run_id = child_id(run_id, (str(step),))
    runtime.runs.adopt(run_id, agent, turn.user.id)
    earlier = await _earlier(runtime, turn, run_id, agent)
    record = replace(
        earlier
        or RunRecord(
            id=run_id,
            agent=agent,
            agent_type="persona",
            started_at=datetime.now(UTC),
            user_id=turn.user.id,
            chat_id=turn.context.chat_id,
            message_id=turn.context.message_id,
        ),
        state="running",
        model=job.model,
        steps=earlier.steps + 1 if earlier else 1,
        ended_at=None,
    )
    runtime.run_store.put(record)
    state, failure, heard, usage = "stopped", None, Assembly(), None
    try:
        async with aclosing(PersonaEngine(runtime.llm).run(job)) as events:
            async for event in events:
                if isinstance(event, Completion):
                    usage = event.data.get("usage")
                    heard.add(event.data)
                elif isinstance(event, Chunks) and b'"tool_calls"' in event.data:
                    for chunk in chunks_of(event.data):
                        heard.add(chunk)
                yield event
        # A model that calls tools goes on in the next request, under the same id.
        state = "waiting" if heard.calls or job.facts.finish_reason == "tool_calls" else "done"
        usage = usage or job.facts.usage
        if earlier is not None and usage and job.stream:
            yield Usage(_sum(earlier.usage, usage))  # of the whole answer, as agents tell it
    except AgentModeError as error:
        failure = error.within(
            agent=agent,
            run_id=run_id,
            step=record.steps,
            elapsed_ms=recording.elapsed_ms(record, datetime.now(UTC)),
            partial=job.facts.started or earlier is not None,
        )
        state = "failed"
        raise
    finally:
        calls = [*record.tool_calls, *_noted(agent, heard)]
        runtime.run_store.put(_ended(replace(record, tool_calls=calls), state, failure, usage))


async def _earlier(runtime: Runtime, turn: Turn, run_id: str, agent: str) -> RunRecord | None:
    """The record so far, where this request brings the results of tools that the persona called before."""
    answers: dict[str, Any] = {}
    for message in reversed(turn.messages):
        if message["role"] == "user" and not is_images_note(message):
            break
        if message["role"] == "tool":
            answers[str(message.get("tool_call_id"))] = message.get("content")
    if not answers or turn.context.message_id is None:
        return None
    try:
        record = await runtime.run_store.get(run_id)
    except StoreError as error:
        log.warning("a run is recorded without what it did before", run_id=run_id, reason=str(error))
        return None
    if record is None or record.agent != agent:
        return None
    return replace(record, tool_calls=recording.answered(record.tool_calls, answers))


def _noted(agent: str, heard: Assembly) -> list[dict[str, Any]]:
    """The tool calls of this request, for the record."""
    return [
        {
            "agent": agent,
            "name": call["function"]["name"],
            "route": "relay",
            "arguments": call["function"]["arguments"][:RECORDED],
            "id": call["id"],
        }
        for call in heard.message().get("tool_calls") or ()
    ]


def _sum(before: dict[str, Any], usage: dict[str, Any]) -> dict[str, Any]:
    """What several calls cost together; of what cannot be added, the last one's word."""
    return {
        name: value + before[name] if isinstance(value, int) and isinstance(before.get(name), int) else value
        for name, value in usage.items()
    }


def _ended(record: RunRecord, state: Any, error: AgentModeError | None, usage: Any) -> RunRecord:
    now = datetime.now(UTC)
    return replace(
        record,
        state=state,
        usage=_sum(record.usage, usage) if isinstance(usage, dict) else record.usage,
        error=error.report() if error else None,
        trace=recording.trace_of(error) if error else None,
        ended_at=None if state == "waiting" else now,
        duration_ms=recording.elapsed_ms(record, now),
    )
