"""Runs, as the API and the Agents page deal with them: look one up, stop one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

from agent_mode.agents.recording import given_up
from agent_mode.chat.runtime import KEEP_RUNS_DAYS, Runtime
from agent_mode.errors import RequestError, StoreError
from agent_mode.observe.logs import get_logger
from agent_mode.store.run_records import OPEN, RunRecord

log = get_logger(__name__)

OBEYED_SECONDS = 10.0
"""For so long another replica may take to stop a run that it was told to stop."""
DEEPEST = 12
"""So many runs above or below one another are followed."""


async def known(runtime: Runtime, run_id: str) -> RunRecord:
    """The record of a run.

    Raises:
        RequestError: `run_not_found`.
        StoreError: the database failed.
    """
    record = await runtime.run_store.get(run_id)
    if record is None:
        raise RequestError(
            f"There is no run {run_id[:64]!r}.",
            hint=f"GET /api/v1/runs/ lists them; they are kept for {KEEP_RUNS_DAYS} days.",
            code="run_not_found",
            status=404,
        )
    return record


async def stop(runtime: Runtime, run_id: str) -> bool:
    """Ends a run with everything that it called.

    Returns:
        whether it has ended; False: another replica was told to stop it, which takes a second or two. A run
        that goes on after that has lost its process, and is closed as abandoned.

    Raises:
        RequestError: `run_not_found`, `run_is_part` or `run_ended`.
        StoreError: the database failed.
    """
    if runtime.runs.stop(run_id):
        return True
    record = await known(runtime, run_id)
    if record.parent_id is not None and record.state in OPEN:
        top = (await line(runtime, record))[-1]
        raise _conflict("This run is part of another one.", f"Stop that one: {top.id}.", "run_is_part")
    if record.state == "running":
        await runtime.stops.ask(run_id)
        runtime.spawn(_see_to_it(runtime, run_id))
        return False
    if record.state == "waiting":
        await _give_up(runtime, record)
        return True
    raise _conflict(f"This run has ended already: {record.state}.", "There is nothing to stop.", "run_ended")


async def line(runtime: Runtime, record: RunRecord) -> list[RunRecord]:
    """The run and those above it, up to the one that a person began.

    Raises:
        StoreError: the database failed.
    """
    found = [record]
    while (parent := found[-1].parent_id) and len(found) < DEEPEST:
        above = await runtime.run_store.get(parent)
        if above is None:
            break
        found.append(above)
    return found


async def below(runtime: Runtime, top: RunRecord) -> list[RunRecord]:
    """All runs that a run called, and those that they called.

    Raises:
        StoreError: the database failed.
    """
    found: list[RunRecord] = []
    level = [top]
    for _ in range(DEEPEST):
        level = [child for run in level for child in await runtime.run_store.children(run.id)]
        if not level:
            break
        found += level
    return found


async def _give_up(runtime: Runtime, record: RunRecord) -> None:
    """A run that waits for the caller's tools goes on nowhere: when they come back, it is over."""
    called = await below(runtime, record)
    for waiting in (record, *(run for run in called if run.state == "waiting")):
        runtime.run_store.put(given_up(waiting))
    await runtime.run_store.flush()
    await runtime.snapshots.drop(record.id)


async def _see_to_it(runtime: Runtime, run_id: str) -> None:
    await asyncio.sleep(OBEYED_SECONDS)
    try:
        record = await runtime.run_store.get(run_id)
        if record is None or record.state != "running":
            return
        for lost in (record, *await below(runtime, record)):
            if lost.state in OPEN:
                runtime.run_store.put(replace(lost, state="abandoned", ended_at=datetime.now(UTC)))
    except StoreError as error:
        log.warning("a run that does not stop stays open", run_id=run_id, reason=str(error))


def _conflict(message: str, hint: str, code: str) -> RequestError:
    return RequestError(message, hint=hint, code=code, status=409)
