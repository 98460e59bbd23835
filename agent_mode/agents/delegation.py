"""Agents at work, and `call_agent`, by which one hands work to another and gets its answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from agent_mode.agents import recording
from agent_mode.agents.services import Services
from agent_mode.agents.spec import AgentSpec, Caller, Task
from agent_mode.agents.state import RunState, child_id
from agent_mode.agents.toolbox import OwnTool, own_tool
from agent_mode.agents.types import engine_for
from agent_mode.agents.work import Work
from agent_mode.errors import AgentError, AgentModeError, LimitError
from agent_mode.llm import connection as connections
from agent_mode.llm.client import OWN_PREFIX
from agent_mode.observe.redaction import said
from agent_mode.prompts.guard import unclosable

NAME = "call_agent"
MAX_DEPTH = 3
"""How many agents may stand below the one that was asked."""
_MAX_TASK = 100_000


def tool_for(work: Work) -> OwnTool | None:
    """The tool `call_agent` with the agents that the admin lets this one call; None if there is none."""
    others = [
        spec
        for spec in work.services.directory.matching(work.spec.valves.allowed_agents)
        if spec.id not in work.line
    ]
    if not others or len(work.line) > MAX_DEPTH:
        return None
    listed = "\n".join(f"- {spec.id}: {spec.description[:300] or spec.name}" for spec in others)
    parameters = {
        "type": "object",
        "properties": {
            "agent": {"type": "string", "enum": [spec.id for spec in others], "description": "Whom to ask"},
            "task": {"type": "string", "description": "What it shall do, complete in itself"},
            "context": {"type": "string", "description": "What it must know besides"},
        },
        "required": ["agent", "task"],
    }

    async def run(arguments: dict[str, Any]) -> str:
        return await call_agent(work, arguments["agent"], arguments["task"], arguments.get("context"))

    description = f"Hands a task to another agent and returns its answer. Agents:\n{listed}"
    return own_tool(NAME, description, parameters, run, inner=True)


async def call_agent(work: Work, agent: str, task: str, context: str | None = None) -> str:
    """Lets another agent work on a task.

    Args:
        work: of the agent that calls.
        agent: id of the other one.
        task: what it shall do.
        context: what it must know besides; told as information, not as instruction.

    Raises:
        AgentError: it may not be called here, or it failed; the caller can handle that.
        LimitError: the budget of the run is spent.
    """
    with work.state.working():
        spec = await _reachable(work, agent.strip().lower())
    key = work.state.memo.key(work.path, "agent", [spec.id, task, context])
    if key in work.state.memo:
        return work.state.memo.recall(key)
    if work.state.memo.first(f"asked {key}"):
        await work.status(f"Asking {spec.name}…")
    below = Task(
        messages=_messages(spec, task[:_MAX_TASK], context),
        text=task,
        caller=work.task.caller,
        chat_id=work.task.chat_id,
        message_id=work.task.message_id,
        tools=work.task.tools,
        interactive=work.task.interactive,
        relay=work.task.relay,
    )
    path, parent_id = (*work.path, key), work.record_id
    try:
        with work.state.working():
            child = await prepare(spec, below, work.state, work.services, parent=work, path=path)
    except AgentModeError as error:
        own_id = child_id(work.state.run_id, path)
        recording.refused(spec, below, own_id, work.services, error, parent_id=parent_id)
        raise
    record = recording.begin(child, parent_id=parent_id)
    try:
        await perform(child)
    except asyncio.CancelledError:
        recording.end(child, record, "waiting" if work.state.handing_over else "stopped")
        raise
    except LimitError as error:
        recording.end(child, record, "failed", error)
        raise
    except AgentModeError as error:
        recording.end(child, record, "failed", error)
        raise AgentError(
            f"{spec.name} failed: {error.message}",
            hint=error.hint,
            code=error.code,
            status=error.status,
            retryable=error.retryable,
        ) from error
    recording.end(child, record, "done")
    answer = "".join(child.words).strip()
    work.state.memo.record(key, answer, inner=True)
    return answer


async def prepare(
    spec: AgentSpec,
    task: Task,
    state: RunState,
    services: Services,
    *,
    parent: Work | None = None,
    path: tuple[str, ...] = (),
) -> Work:
    """Gives an agent what it works with: LLM, model and tools.

    Raises:
        ProviderError, ToolError, ConfigurationError: one of them cannot be had.
        AgentError: it speaks as a persona that is gone.
    """
    persona = getattr(spec.definition, "persona", None)
    if persona and not spec.instructions:
        raise _no_persona(spec.name, persona)
    valves = spec.valves
    connection = connections.resolve(
        services.settings,
        base_url=valves.llm_base_url,
        api_key=valves.llm_api_key,
        model=valves.llm_model,
        connect_timeout=valves.connect_timeout,
        read_timeout=valves.read_timeout,
    )
    model = await services.llm.choose_model(connection, spec.model)
    work = Work(spec, task, state, services, connection, model, parent, path)
    hand_over = tool_for(work)
    await work.tools.gather([hand_over] if hand_over else [], getattr(spec.definition, "tools", None))
    work.task = replace(task, messages=work.tools.fitted(task.messages))
    return work


async def perform(work: Work) -> None:
    """Runs the engine.

    Raises:
        AgentModeError: readable, with where it happened.
    """
    try:
        await engine_for(work.spec.agent_type, work.spec.code).run(work)
    except AgentModeError as error:
        error.within(agent=work.spec.id)
        raise
    except Exception as error:
        text = said(error)
        readable = f": {text}" if text else ""
        raise AgentError(
            f"{work.spec.name} failed with {type(error).__name__}{readable}.",
            hint="An admin finds the whole trace in the run's record.",
            code="agent_failed",
        ).within(agent=work.spec.id) from error


async def _reachable(work: Work, agent: str) -> AgentSpec:
    """The agent, if it may be called here.

    Raises:
        AgentError: it may not.
    """
    allowed = {spec.id: spec for spec in work.services.directory.matching(work.spec.valves.allowed_agents)}
    spec = allowed.get(agent)
    if spec is None:
        there = ", ".join(allowed) or "none"
        raise AgentError(
            f"{work.spec.name} may not call an agent “{agent}”.",
            hint=f"It may call: {there}. An admin sets that with the valve `allowed_agents`.",
            code="agent_not_allowed",
            status=403,
        )
    if agent in work.line:
        raise AgentError(
            f"{' → '.join((*work.line, agent))} would go in a circle.",
            hint="Answer without calling that agent.",
            code="agent_cycle",
        )
    if len(work.line) > MAX_DEPTH:
        raise AgentError(
            f"Agents may call one another {MAX_DEPTH} deep; {agent} would be one more.",
            hint="Answer without calling another agent.",
            code="agent_depth",
        )
    if not await may_reach(work.services, work.task.caller, spec):
        raise AgentError(
            f"The user may not use {spec.name}.",
            hint="An admin can grant access to its model in Open WebUI, or open the agent to everyone.",
            code="agent_no_access",
            status=403,
        )
    return spec


async def may_reach(services: Services, caller: Caller, spec: AgentSpec) -> bool:
    """Whether the user may reach an agent through another one.

    Open WebUI is asked, with the service key or as the user; for a stranger, what everyone may use. Where
    there is nobody to ask, only agents that the admin opened to everyone can be reached.
    """
    if caller.admin or spec.valves.access == "everyone":
        return True
    if caller.id is not None or caller.stranger:
        allowed = await services.access.may_use(caller.id, spec.model_id)
        if allowed or (allowed is False and caller.id is not None):
            return allowed
    credential = await services.credential_of(caller)
    if credential is not None and services.openwebui.known:
        return await services.openwebui.may_use_with(credential, spec.model_id)
    if caller.stranger and services.access.asks:
        return False
    # Personas are offered to all where nobody can be asked, as they are by `!key`.
    return spec.agent_type == "persona" and spec.model_id.startswith(OWN_PREFIX)


def _no_persona(name: str, persona: str) -> AgentError:
    return AgentError(
        f"{name} speaks as the persona {persona}, which does not exist or is disabled.",
        hint="An admin enables the persona, or names another one in the agent's definition.",
        code="persona_not_found",
        status=409,
    )


def _messages(spec: AgentSpec, task: str, context: str | None) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if spec.instructions:
        messages.append({"role": "system", "content": spec.instructions})
    content = task
    if context:
        quoted = unclosable(context[:_MAX_TASK], "context")
        content = f"<context>\nFor information:\n{quoted}\n</context>\n\n{task}"
    messages.append({"role": "user", "content": content})
    return messages
