"""One run of a LlamaIndex agent or workflow, from its start to its end."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

from llama_index.core.workflow import StartEvent, Workflow
from workflows.errors import WorkflowRuntimeError
from workflows.events import WorkflowTimedOutEvent
from workflows.handler import WorkflowHandler

from agent_mode.agents.llamaindex.building import agents_of, build
from agent_mode.agents.llamaindex.context import BuildContext
from agent_mode.agents.llamaindex.listening import Listener
from agent_mode.agents.llamaindex.transport import too_many_steps
from agent_mode.agents.work import Work
from agent_mode.counting import counted
from agent_mode.errors import AgentError, AgentModeError, LimitError
from agent_mode.observe.redaction import said

_END_PATIENCE = 0.4
"""Seconds that a run waits for its workflow's steps to end after they were cancelled."""
_END_SECONDS = 60.0
"""Seconds that they have for it on a server that is very busy."""
_TEXT_FIELDS = ("user_msg", "input", "query", "question", "message", "text", "topic", "task", "prompt")
"""Names under which a start event may want the user's words."""


async def run(work: Work) -> None:
    """Does the work.

    Raises:
        AgentModeError: readable; what was sent before stays.
    """
    context = BuildContext(work)
    listener: Listener | None = None
    try:
        workflow = await build(work, context)
        listener = Listener(work, workflow, context)
        await _listen(workflow.run(**_inputs(work, workflow, context)), listener, work)
        await listener.tell_result()
    except AgentModeError:
        raise
    except Exception as error:  # build() and the steps of a workflow may raise anything
        ours = _ours(error)
        if ours is not None:
            raise ours from ours.__cause__
        raise _readable(error, work, listener) from error
    finally:
        await context.llm.aclose()


async def _listen(handler: WorkflowHandler, listener: Listener, work: Work) -> None:
    """Follows a workflow to its end, and leaves nothing of it running."""
    try:
        async with aclosing(handler.stream_events()) as events:
            await listener.listen(events)
        await handler
    finally:
        if not handler.is_done():
            # LlamaIndex forgets a step that has just begun if this is interrupted: it would run for ever.
            ending = work.services.spawn(handler.cancel_run(timeout=_END_SECONDS))
            await asyncio.wait({ending}, timeout=_END_PATIENCE)


def _inputs(work: Work, workflow: Workflow, context: BuildContext) -> dict[str, Any]:
    """What the workflow is started with."""
    if agents_of(workflow):
        definition = work.spec.definition
        most = getattr(definition, "max_iterations", work.spec.valves.max_steps)
        return {
            "user_msg": context.user_msg,
            "chat_history": context.chat_history,
            "memory": context.memory,
            # The LLM's transport counts the steps; LlamaIndex would refuse the last one that is allowed.
            "max_iterations": most + 2,
        }
    words = context.user_msg.content if context.user_msg is not None else work.task.text
    offered: dict[str, Any] = dict.fromkeys(_TEXT_FIELDS, words or "")
    offered |= {"chat_history": context.chat_history, "messages": work.task.messages, "context": context}
    start = workflow.start_event_class
    if start is StartEvent:
        return {name: offered[name] for name in ("user_msg", "input", "chat_history")}
    fields = start.model_fields
    missing = [name for name, field in fields.items() if field.is_required() and name not in offered]
    if missing:
        raise AgentError(
            f"The workflow of {work.spec.name} wants what a chat has not: {', '.join(missing)}.",
            hint=f"Its start event may want: {', '.join(offered)}.",
            code="agent_start_event",
        )
    return {name: offered[name] for name in fields if name in offered}


def _readable(error: Exception, work: Work, listener: Listener | None) -> AgentModeError:
    """What went wrong, with the cause's own words."""
    result = listener.result if listener is not None else None
    if isinstance(result, WorkflowTimedOutEvent):
        return LimitError(
            f"{work.spec.name} stopped at its own limit of {counted(result.timeout, 'second')}.",
            hint="Its author set that as `timeout` of the workflow.",
            code="limit_seconds",
        )
    if isinstance(error, WorkflowRuntimeError) and "Max iterations" in str(error):
        return too_many_steps(getattr(work.spec.definition, "max_iterations", work.spec.valves.max_steps))
    words = said(error)
    readable = f": {words}" if words else ""
    step = " in build()"
    if listener is not None:
        own_step = listener.failed_step if not listener.is_agent else None
        step = f" in the step {own_step}" if own_step else ""
    return AgentError(
        f"{work.spec.name} failed{step} with {type(error).__name__}{readable}.",
        hint="An admin finds the whole trace in the run's record.",
        code="agent_failed",
    )


def _ours(error: BaseException) -> AgentModeError | None:
    """The readable error inside those that clients and frameworks wrapped around it."""
    seen: set[int] = set()
    inner: BaseException | None = error
    while inner is not None and id(inner) not in seen:
        if isinstance(inner, AgentModeError):
            return inner
        seen.add(id(inner))
        inner = inner.__cause__ or inner.__context__
    return None
