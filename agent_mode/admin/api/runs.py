"""/api/v1/runs: what agents did, and the end of what they are doing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from agent_mode.admin.api import shapes
from agent_mode.admin.api.requests import LIMIT, Limit, Offset, Running
from agent_mode.agents.recording import given_up
from agent_mode.chat.runtime import Runtime
from agent_mode.errors import RequestError
from agent_mode.store.run_records import OPEN, RunRecord, RunState

router = APIRouter(prefix="/api/v1/runs", tags=["runs"])
Id = Annotated[str, Path(max_length=64, description="The run's id")]
Word = Annotated[str | None, Query(max_length=256)]


@router.get("/", response_model=shapes.RunPage, summary="List runs")
async def list_runs(
    runtime: Running,
    agent: Word = None,
    user_id: Word = None,
    chat_id: Word = None,
    state: RunState | None = None,
    since: Annotated[
        datetime | None, Query(description="Begun then or later; UTC where it does not say")
    ] = None,
    parent: Annotated[
        str | None, Query(max_length=64, description="Called by this run; empty: called by none")
    ] = None,
    offset: Offset = 0,
    limit: Limit = LIMIT,
) -> dict[str, Any]:
    """The runs that fit, the newest first."""
    if since is not None and since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    found, total = await runtime.run_store.page(offset, limit, agent, user_id, chat_id, state, since, parent)
    items = [shapes.run(record) for record in found]
    return {"items": items, "total": total, "offset": offset, "limit": limit}


@router.get("/{run_id}", response_model=shapes.RunFull, summary="Read a run")
async def read_run(runtime: Running, run_id: Id) -> dict[str, Any]:
    """The run with its tool calls, the runs that it called, and the whole trace where it failed."""
    record = await _known(runtime, run_id)
    return shapes.full_run(record, await runtime.run_store.children(run_id))


@router.post("/{run_id}/stop", response_model=shapes.Stopped, summary="Stop a run")
async def stop_run(runtime: Running, run_id: Id) -> dict[str, Any]:
    """Ends the run with everything that it called. Who waits for its answer is told so."""
    if runtime.runs.stop(run_id):
        return {"id": run_id, "stopped": True}
    record = await _known(runtime, run_id)
    if record.parent_id is not None and record.state in OPEN:
        raise _conflict(
            "This run is part of another one.", f"Stop that one: {record.parent_id}.", "run_is_part"
        )
    if record.state == "running":
        raise _conflict(
            "This run does not go on in this process.",
            "Another replica runs it, or the process that did has ended.",
            "run_elsewhere",
        )
    if record.state == "waiting":
        await _give_up(runtime, record)
        return {"id": run_id, "stopped": True}
    raise _conflict(f"This run has ended already: {record.state}.", "There is nothing to stop.", "run_ended")


async def _give_up(runtime: Runtime, record: RunRecord) -> None:
    """A run that waits for the caller's tools goes on nowhere: when they come back, it is over."""
    below = await runtime.run_store.children(record.id)
    for waiting in (record, *(child for child in below if child.state == "waiting")):
        runtime.run_store.put(given_up(waiting))
    await runtime.run_store.flush()
    await runtime.snapshots.drop(record.id)


async def _known(runtime: Runtime, run_id: str) -> RunRecord:
    record = await runtime.run_store.get(run_id)
    if record is None:
        raise RequestError(
            f"There is no run {run_id[:64]!r}.",
            hint="GET /api/v1/runs/ lists them; they are kept for 30 days.",
            code="run_not_found",
            status=404,
        )
    return record


def _conflict(message: str, hint: str, code: str) -> RequestError:
    return RequestError(message, hint=hint, code=code, status=409)
