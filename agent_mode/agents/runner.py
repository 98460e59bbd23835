"""One run of an agent for a turn, from first event to last, over as many requests as its tools need."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Literal

from agent_mode.agents import recording
from agent_mode.agents.budget import Budget
from agent_mode.agents.delegation import perform, prepare
from agent_mode.agents.engine import Event, Failure, Status, ToolCalls, Usage
from agent_mode.agents.memo import Memo
from agent_mode.agents.services import Services
from agent_mode.agents.spec import AgentSpec, Task
from agent_mode.agents.state import RunState, run_of
from agent_mode.agents.types import get_type
from agent_mode.agents.work import Work
from agent_mode.errors import AgentError, AgentModeError, RunCancelled, StoreError
from agent_mode.observe.logs import get_logger
from agent_mode.store.run_records import RunRecord
from agent_mode.tools.results import images_of, is_images_note, text_of

log = get_logger(__name__)

_END_PATIENCE = 0.5
"""Seconds that an agent's code gets to end after it was cancelled."""
_KEPT_MESSAGES = 1_000_000
"""Characters of messages that a snapshot keeps; longer ones are taken from the next request."""


class _Signal(Enum):
    ENDED = "the agent is done"
    QUIET = "only the caller's tools are waited for"
    LATE = "the seconds are spent"


@dataclass(frozen=True, slots=True)
class _Past:
    """What is known of a run from earlier requests.

    Attributes:
        answers: results of the caller's tools, by call id.
        state: of the snapshot; empty if the transcript is all there is.
    """

    run_id: str
    answers: dict[str, Any]
    state: dict[str, Any]
    record: RunRecord | None

    @property
    def spent(self) -> dict[str, float] | None:
        return self.record.usage if self.record else None


async def run_agent(spec: AgentSpec, task: Task, services: Services) -> AsyncGenerator[Event, None]:
    """Runs an agent, or lets a run go on whose tools the caller has executed.

    Args:
        spec: the agent.
        task: what it is asked; results of tools that the caller executed stand at the end of its messages.
        services: the server's parts.

    Yields:
        events; `ToolCalls` or `Failure` is the last one.
    """
    try:
        past = await _past(spec, task, services)
    except AgentModeError as error:
        yield Failure(error.within(agent=spec.id))
        return
    if past.record is not None and recording.was_given_up(past.record):
        _let_go(past, services)
        error = RunCancelled("The run was stopped.", hint="Ask again to start anew.")
        yield Failure(error.within(agent=spec.id, run_id=past.run_id))
        return
    if past.state:
        task = replace(task, messages=past.state.get("messages") or task.messages[: _asked(task.messages)])
    budget = Budget(spec.valves, past.spent or _counted(task.messages))
    state = RunState(
        past.run_id, budget, Memo(past.state.get("memo")), past.answers, past.state.get("told", 0)
    )
    if past.record is not None:
        state.log = recording.answered(past.record.tool_calls, past.answers)
    services.runs.adopt(state.run_id, spec.id, task.caller.id)
    try:
        work = await prepare(spec, task, state, services)
    except AgentModeError as error:
        _let_go(past, services)
        recording.refused(spec, task, state.run_id, services, error, earlier=past.record)
        yield Failure(error.within(agent=spec.id, run_id=state.run_id))
        return
    record = recording.begin(work, earlier=past.record)
    ended: Literal["waiting", "done", "failed", "stopped"] = "stopped"
    failure: AgentModeError | None = None
    engine = asyncio.create_task(perform(work), name=f"agent {spec.id}")
    try:
        noted = len(state.log)
        async with aclosing(_until(state, engine)) as events:
            async for event in events:
                if len(state.log) != noted:
                    noted = len(state.log)
                    recording.go_on(work, record)
                yield event
        ended = "waiting" if state.handing_over else "done"
        async with aclosing(_last(work, known=bool(past.state))) as events:
            async for event in events:
                yield event
    except AgentModeError as error:
        ended, failure = "failed", _told(error, work)
        yield Status(_details(failure), error=True)
        yield Failure(failure)
    finally:
        recording.end(work, record, ended, failure)
        if ended in ("failed", "stopped"):
            _let_go(past, services)


def _let_go(past: _Past, services: Services) -> None:
    """Lets the run be resumed again from the snapshot that it was resumed from."""
    if past.state:
        services.spawn(_tidy(services.snapshots.release(past.run_id)))


async def _tidy(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except StoreError as error:  # a claim ends by itself, and what is old is forgotten some day
        log.warning("a snapshot stays as it is", reason=str(error))


async def _until(state: RunState, engine: asyncio.Task[None]) -> AsyncGenerator[Event, None]:
    """The events until the agent is done or hands over.

    Raises:
        AgentModeError: it failed, or its time is over.
    """
    events: asyncio.Queue[Any] = state.events
    quiet = asyncio.create_task(state.quiet())
    engine.add_done_callback(lambda _: events.put_nowait(_Signal.ENDED))
    quiet.add_done_callback(lambda done: None if done.cancelled() else events.put_nowait(_Signal.QUIET))
    late = asyncio.get_running_loop().call_later(
        state.budget.seconds_left, lambda: events.put_nowait(_Signal.LATE)
    )
    try:
        while True:
            event = await events.get()
            if event is _Signal.ENDED:
                engine.result()
                return
            if event is _Signal.QUIET:
                state.handing_over = True
                return
            if event is _Signal.LATE:
                raise state.budget.out_of_time()
            yield event
    finally:
        late.cancel()
        quiet.cancel()
        if not engine.done():
            engine.cancel()
            await asyncio.wait({engine}, timeout=_END_PATIENCE)
        elif not engine.cancelled():
            engine.exception()  # it was raised above, or nobody is there to hear it


async def _last(work: Work, *, known: bool) -> AsyncGenerator[Event, None]:
    """The last events of a request that did not fail."""
    state, services = work.state, work.services
    line = state.line
    if state.handing_over:
        if line is not None and not line.done:
            yield replace(line, done=True)
        if state.memo.inner or not get_type(work.spec.agent_type).transcript_suffices:
            await _keep(work)
        yield ToolCalls(tuple(state.pending.values()))
        return
    if (state.resumed and work.spec.valves.show_progress) if line is None else not line.done:
        yield Status("Done")
    if known:
        services.spawn(_tidy(services.snapshots.drop(state.run_id)))
    if state.budget.usage:
        yield Usage({**state.budget.usage, "llm_calls": state.budget.steps})


async def _past(spec: AgentSpec, task: Task, services: Services) -> _Past:
    """What this request continues, if it does.

    Raises:
        AgentError: another request continues it already.
    """
    messages = task.messages[_asked(task.messages) :]
    answers = _answers(messages)
    run_id = next((found for found in map(run_of, answers) if found), None)
    if run_id is None:
        fresh = task.run_id or recording.run_id_of(task.chat_id, task.message_id, task.caller.id)
        return _Past(fresh, answers, {}, None)
    try:
        record = await services.records.get(run_id)
        snapshot = await services.snapshots.take(run_id) if _leaves_snapshots(spec) else None
        theirs = (spec.id, task.caller.id)
        if record is not None and (record.agent, record.user_id) != theirs:
            return _Past(secrets.token_hex(10), answers, {}, None)
        if snapshot is None or (snapshot.agent, snapshot.user_id, snapshot.chat_id) != (
            *theirs,
            task.chat_id,
        ):
            return _Past(run_id, answers, {}, record)
        if not await services.snapshots.claim(run_id):
            raise _goes_on_already(run_id)
    except StoreError as error:
        log.warning("a run goes on from the transcript alone", run_id=run_id, reason=str(error))
        return _Past(run_id, answers, {}, None)
    return _Past(run_id, answers, snapshot.state, record)


def _leaves_snapshots(spec: AgentSpec) -> bool:
    """Whether there is one to be looked for: a persona that has the caller's tools alone leaves none."""
    return spec.agent_type != "persona" or spec.valves.more_tools or bool(spec.valves.allowed_agents)


def _goes_on_already(run_id: str) -> AgentError:
    """The error for the second of two requests that bring the results of the same calls."""
    error = AgentError(
        "This answer is being written already, by another request with the same results.",
        hint="Wait for that one, or stop it and ask again.",
        code="run_busy",
        status=409,
        retryable=True,
    )
    return error.within(run_id=run_id)


def _answers(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """What the caller's tools gave, by call id; pictures, which come after all results, with the last one."""
    answers: dict[str, Any] = {}
    last: str | None = None
    for message in messages:
        call = message.get("tool_call_id")
        if message["role"] == "tool" and isinstance(call, str):
            answers[call], last = message.get("content"), call
        elif last is not None and is_images_note(message):
            pictures = [
                {"type": "image_url", "image_url": {"url": url}} for url in images_of(message["content"])
            ]
            answers[last] = [{"type": "text", "text": text_of(answers[last])}, *pictures]
    return answers


async def _keep(work: Work) -> None:
    """Keeps what the run must know when its tools have been executed, on whichever server that is."""
    state, task = work.state, work.task
    kept: dict[str, Any] = {"memo": state.memo.dump(), "told": state.told}
    if len(json.dumps(task.messages)) <= _KEPT_MESSAGES:
        kept["messages"] = task.messages
    try:
        await work.services.snapshots.put(state.run_id, work.spec.id, task.caller.id, task.chat_id, kept)
    except StoreError as error:  # the transcript remains
        log.warning("a run could not be kept", run_id=state.run_id, reason=str(error))


def _asked(messages: list[dict[str, Any]]) -> int:
    """Number of messages up to the last one of the user; what tools gave since stands behind it."""
    return max(
        (i + 1 for i, m in enumerate(messages) if m["role"] == "user" and not is_images_note(m)), default=0
    )


def _counted(messages: list[dict[str, Any]]) -> dict[str, float]:
    """What the rounds in a transcript cost, as far as it shows that."""
    rounds = messages[_asked(messages) :]
    return {
        "steps": sum(message["role"] == "assistant" for message in rounds),
        "tool_calls": sum(message["role"] == "tool" for message in rounds),
    }


def _told(error: AgentModeError, work: Work) -> AgentModeError:
    """The error with where in the run it happened."""
    state = work.state
    tool = state.log[-1]["name"] if state.log else None
    told = error.within(
        agent=work.spec.id,
        run_id=state.run_id,
        step=state.budget.steps,
        tool=tool,
        elapsed_ms=round(state.budget.seconds * 1000),
        partial=state.told > 0,
    )
    log.warning("run failed", code=told.code, reason=told.message, user_id=work.task.caller.id, **told.where)
    return told


def _details(error: AgentModeError) -> str:
    """The line behind the sentence: where, when, and under which number an admin finds the whole story."""
    where = error.where
    parts = [
        f"Failed: {error.code}",
        f"agent {where.get('agent')}",
        f"step {where.get('step')}",
        f"after {where.get('elapsed_ms', 0) / 1000:.1f} s",
        f"last tool {where['tool']}" if where.get("tool") else "",
        f"run {where.get('run_id')}",
    ]
    return " · ".join(part for part in parts if part)
