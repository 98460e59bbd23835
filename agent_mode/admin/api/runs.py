"""/api/v1/runs: what agents did, and the end of what they are doing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from agent_mode.admin import runs
from agent_mode.admin.api import shapes
from agent_mode.admin.api.requests import LIMIT, Limit, Offset, Running, Writing
from agent_mode.store.run_records import RunState

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
    record = await runs.known(runtime, run_id)
    return shapes.full_run(record, await runtime.run_store.children(run_id))


@router.post(
    "/{run_id}/stop",
    response_model=shapes.Stopped,
    summary="Stop a run",
    responses={202: {"model": shapes.Stopped, "description": "Another replica was told to stop it"}},
)
async def stop_run(runtime: Running, writer: Writing, run_id: Id, response: Response) -> dict[str, Any]:
    """Ends the run with everything that it called. Who waits for its answer is told so.

    A run of another replica ends within two seconds: the answer is 202, with `stopped` false.
    """
    stopped = await runs.stop(runtime, run_id)
    writer.record("stopped", "run", run_id)
    if not stopped:
        response.status_code = 202
    return {"id": run_id, "stopped": stopped}
