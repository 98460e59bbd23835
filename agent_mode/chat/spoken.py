"""What a persona says without tools of its own: the provider's stream passed on, and a record of the run."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from agent_mode.agents import recording
from agent_mode.agents.engine import Completion, Event, Job
from agent_mode.agents.persona import PersonaEngine
from agent_mode.agents.state import child_id
from agent_mode.chat.agent_turn import run_id_of
from agent_mode.chat.runtime import Runtime
from agent_mode.chat.turn import Turn
from agent_mode.errors import AgentModeError
from agent_mode.store.run_records import RunRecord


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
    record = RunRecord(
        id=run_id,
        agent=agent,
        agent_type="persona",
        started_at=datetime.now(UTC),
        user_id=turn.user.id,
        chat_id=turn.context.chat_id,
        message_id=turn.context.message_id,
        model=job.model,
        steps=1,
    )
    runtime.run_store.put(record)
    state, failure, usage = "stopped", None, None
    try:
        async with aclosing(PersonaEngine(runtime.llm).run(job)) as events:
            async for event in events:
                if isinstance(event, Completion):
                    usage = event.data.get("usage")
                yield event
        # A model that calls tools goes on in the next request, under the same id.
        state = "waiting" if job.facts.finish_reason == "tool_calls" else "done"
    except AgentModeError as error:
        state, failure = "failed", error
        raise
    finally:
        runtime.run_store.put(_ended(record, state, failure, usage or job.facts.usage))


def _ended(record: RunRecord, state: Any, error: AgentModeError | None, usage: Any) -> RunRecord:
    now = datetime.now(UTC)
    return replace(
        record,
        state=state,
        usage=usage if isinstance(usage, dict) else {},
        error=error.report() if error else None,
        trace=recording.trace_of(error) if error else None,
        ended_at=None if state == "waiting" else now,
        duration_ms=round((now - record.started_at).total_seconds() * 1000),
    )
