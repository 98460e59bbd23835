"""The record that every run leaves: who, what, how long, what it cost, and what went wrong."""

from __future__ import annotations

import hashlib
import secrets
import traceback
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

from agent_mode.agents.services import Services
from agent_mode.agents.spec import AgentSpec, Task
from agent_mode.agents.state import RECORDED
from agent_mode.agents.work import Work
from agent_mode.errors import AgentModeError, RunCancelled
from agent_mode.observe.metrics import metrics
from agent_mode.store.run_records import RunRecord
from agent_mode.tools.results import is_error, text_of

_TRACE_CHARS = 20_000


def begin(work: Work, *, parent_id: str | None = None, earlier: RunRecord | None = None) -> RunRecord:
    """Notes that an agent begins, or goes on from an earlier request; returns the record to end it with."""
    task = work.task
    if earlier is not None:
        record = replace(earlier, state="running")
        work.services.records.put(record)
        return record
    fresh = _fresh(work.record_id, work.spec, task, datetime.now(UTC), parent_id)
    record = replace(fresh, model=work.model, state="running")
    work.services.records.put(record)
    return record


def go_on(work: Work, record: RunRecord) -> None:
    """Notes what a run has called so far, for those who watch it."""
    budget = work.state.budget
    so_far = replace(record, steps=budget.steps, tool_calls=list(work.state.log), usage=budget.spent())
    work.services.records.put(so_far)


def end(
    work: Work,
    record: RunRecord,
    state: Literal["waiting", "done", "failed", "stopped"],
    error: AgentModeError | None = None,
) -> None:
    """Notes how it ended; the first agent's record counts what the called ones did, too."""
    now = datetime.now(UTC)
    if work.services.counted:
        metrics.run(work.spec.agent_type, state)
    whole = record.parent_id is None
    calls = [call for call in work.state.log if whole or call.get("run_id") == record.id]
    budget = work.state.budget
    last = {"tool": calls[-1]["name"]} if calls else {}
    place = {"step": budget.steps, "partial": bool(work.words)}
    work.services.records.put(
        replace(
            record,
            state=state,
            steps=budget.steps if whole else work.share.calls,
            tool_calls=calls,
            usage=budget.spent() if whole else work.share.usage(),
            error=_report(record, error, now, **place, **last) if error else None,
            trace=trace_of(error) if error else None,
            ended_at=None if state == "waiting" else now,
            duration_ms=elapsed_ms(record, now),
        )
    )


def refused(
    spec: AgentSpec,
    task: Task,
    run_id: str,
    services: Services,
    error: AgentModeError,
    *,
    parent_id: str | None = None,
    earlier: RunRecord | None = None,
) -> None:
    """Notes a run that failed before its engine began: without a model, a persona, or the tools it wants."""
    now = datetime.now(UTC)
    record = earlier or _fresh(run_id, spec, task, now, parent_id)
    if services.counted:
        metrics.run(spec.agent_type, "failed")
    services.records.put(
        replace(
            record,
            state="failed",
            error=_report(record, error, now, step=record.steps, partial=False),
            trace=trace_of(error),
            ended_at=now,
            duration_ms=elapsed_ms(record, now),
        )
    )


def _fresh(run_id: str, spec: AgentSpec, task: Task, now: datetime, parent_id: str | None) -> RunRecord:
    return RunRecord(
        id=run_id,
        parent_id=parent_id,
        agent=spec.id,
        agent_type=spec.agent_type,
        user_id=task.caller.id,
        chat_id=task.chat_id,
        message_id=task.message_id,
        started_at=now,
    )


def _report(
    record: RunRecord, error: AgentModeError, now: datetime, *, step: int, partial: bool, **more: str
) -> dict[str, Any]:
    """The error's report; of an agent that was called, its own place in the run is added."""
    where = {"agent": record.agent, "run_id": record.id, "step": step, "partial": partial, **more}
    return {**where, "elapsed_ms": elapsed_ms(record, now), **error.report()}


def elapsed_ms(record: RunRecord, now: datetime) -> int:
    """Milliseconds since the run began."""
    return round((now - record.started_at).total_seconds() * 1000)


def given_up(record: RunRecord) -> RunRecord:
    """The record of a run that waited for the caller's tools when it was told to stop; it does not go on."""
    now = datetime.now(UTC)
    error = RunCancelled("The run was stopped while it waited for a tool.").report()
    return replace(record, state="stopped", error=error, ended_at=now)


def was_given_up(record: RunRecord) -> bool:
    """Whether results of its tools come too late; a run that was stopped while it spoke may go on."""
    return record.state == "stopped" and record.error is not None


def trace_of(error: AgentModeError) -> str:
    """The whole trace, for admins alone."""
    text = "".join(traceback.format_exception(error))
    if error.detail:
        text = f"{error.detail}\n\n{text}"
    return text if len(text) <= _TRACE_CHARS else text[-_TRACE_CHARS:]


def run_id_of(chat_id: str | None, message_id: str | None, owner: str | None) -> str:
    """The id of a run: the same for all requests that write the same message of an owner, else a new one."""
    if message_id is None:
        return secrets.token_hex(10)
    text = f"{owner}/{chat_id}/{message_id}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:20]


def answered(calls: list[dict[str, Any]], answers: dict[str, Any]) -> list[dict[str, Any]]:
    """The calls of a record, with the results that the caller has brought since."""
    return [
        {
            **call,
            "result": text_of(answers[call["id"]])[:RECORDED],
            "is_error": is_error(answers[call["id"]]),
        }
        if call.get("id") in answers
        else call
        for call in calls
    ]
