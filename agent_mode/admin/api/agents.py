"""/api/v1/agents: the agents of the store."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from agent_mode.admin import agents as shared
from agent_mode.admin.api import examples, shapes
from agent_mode.admin.api.requests import (
    LIMIT,
    Body,
    Limit,
    Offset,
    RollbackForm,
    Running,
    Server,
    Writing,
    as_object,
    number_of,
    read,
    seen_version,
    takes,
    writable,
)
from agent_mode.admin.backend import Backend
from agent_mode.admin.drafts import Draft, oddities, oddities_of
from agent_mode.agents import stored
from agent_mode.agents.types import get_type
from agent_mode.errors import DefinitionError, StoreError
from agent_mode.store import agent_versions
from agent_mode.store.agents import Agent, content
from agent_mode.store.versions import label_of

router = APIRouter(prefix="/api/v1/agents", tags=["agents"])
Id = Annotated[str, Path(max_length=64, description="The agent's id")]


@router.get("/", response_model=shapes.AgentPage, summary="List agents")
async def list_agents(
    server: Server,
    runtime: Running,
    agent_type: Annotated[str | None, Query(max_length=64)] = None,
    enabled: bool | None = None,
    tag: Annotated[str | None, Query(max_length=50)] = None,
    q: Annotated[str | None, Query(max_length=200, description="Part of id, name or description")] = None,
    offset: Offset = 0,
    limit: Limit = LIMIT,
) -> dict[str, Any]:
    """The agents that fit, by id, without their definitions."""
    found, total = await runtime.agent_store.page(offset, limit, agent_type, enabled, tag, q)
    items = [shapes.agent(record) | {"offered": server.is_offered(record.id)} for record in found]
    return {"items": items, "total": total, "offset": offset, "limit": limit}


@router.post(
    "/",
    status_code=201,
    response_model=shapes.AgentFull,
    summary="Create an agent",
    openapi_extra=takes(shapes.agent_schema(), **examples.AGENTS),
)
async def create_agent(server: Server, writer: Writing, body: Body, response: Response) -> dict[str, Any]:
    """Saves the agent. Enabled, it is a model at once; no chat is disturbed."""
    record = await shared.create(server, _new(body), writer.author)
    writer.record("created", "agent", record.id)
    response.headers["Location"] = f"/api/v1/agents/{record.id}"
    return await _full(server, record)


@router.post(
    "/validate",
    response_model=shapes.Verdict,
    summary="Check an agent that is not saved",
    openapi_extra=takes(shapes.agent_schema(), **examples.AGENTS),
)
async def validate_draft(server: Server, body: Body) -> dict[str, Any]:
    """Everything that is wrong with it at once, by field, and what it names that is not here now."""
    return await _verdict(server, await shared.check_draft(server, _new(body)))


@router.get("/{agent_id}", response_model=shapes.AgentFull, summary="Read an agent")
async def read_agent(server: Server, runtime: Running, agent_id: Id) -> dict[str, Any]:
    """The agent with its definition. Secrets in its valves are masked."""
    return await _full(server, await shared.known(runtime, agent_id))


@router.put(
    "/{agent_id}",
    response_model=shapes.AgentFull,
    summary="Replace an agent",
    openapi_extra=takes(shapes.agent_schema(versioned=True), replace=examples.REPLACED_AGENT),
)
async def update_agent(server: Server, writer: Writing, agent_id: Id, body: Body) -> dict[str, Any]:
    """Saves a new version. `version` is the one that you have read; if it is not the newest any more, nothing
    is written, and the answer is 409 `stale_version`. A masked secret keeps what is there."""
    values = {"id": agent_id, **writable(body, shapes.AGENT_READ_ONLY)}
    expected = seen_version(values)
    record = await shared.replace_all(server, agent_id, values, writer.author, expected)
    writer.record("saved", "agent", agent_id)
    return await _full(server, record)


@router.patch(
    "/{agent_id}",
    response_model=shapes.AgentFull,
    summary="Change some fields of an agent",
    openapi_extra=takes(shapes.agent_schema(partial=True), disable={"enabled": False}),
)
async def patch_agent(server: Server, writer: Writing, agent_id: Id, body: Body) -> dict[str, Any]:
    """Saves a new version with these fields, each as a whole; the others stay. `version` may be left out."""
    changes = writable(body, shapes.AGENT_READ_ONLY)
    expected = seen_version(changes) if "version" in changes else None
    record = await shared.patch(server, agent_id, changes, writer.author, expected)
    writer.record(_verb(changes), "agent", agent_id, ", ".join(sorted(changes)))
    return await _full(server, record)


@router.delete("/{agent_id}", status_code=204, response_model=None, summary="Delete an agent")
async def delete_agent(server: Server, writer: Writing, agent_id: Id) -> None:
    """Removes the agent. Its versions stay, and a rollback brings it back."""
    await shared.delete(server, agent_id, writer.author)
    writer.record("deleted", "agent", agent_id)


@router.get("/{agent_id}/valves", summary="Read an agent's valves")
async def read_valves(runtime: Running, agent_id: Id) -> dict[str, Any]:
    """All valves of its type with their values. Secrets are masked."""
    return _valves(await shared.known(runtime, agent_id))


@router.put(
    "/{agent_id}/valves",
    summary="Replace an agent's valves",
    openapi_extra=takes({"type": "object"}, valves=examples.VALVES),
)
async def update_valves(
    server: Server,
    runtime: Running,
    writer: Writing,
    agent_id: Id,
    body: Body,
    version: Annotated[str | None, Query(max_length=20, description="The one that you have read")] = None,
) -> dict[str, Any]:
    """Saves a new version with these valves; what is not named gets its default, a masked secret stays."""
    values = as_object(body)
    known = await shared.known(runtime, agent_id)
    kind = get_type(known.agent_type)
    shared.check_code_allowed(runtime, known.agent_type)
    found = stored.valve_problems(kind, values)
    if found:
        raise DefinitionError("The valves cannot be saved", problems=found)
    expected = None if version is None else number_of(version)
    try:
        record = await stored.save_valves(runtime.agent_store, agent_id, values, writer.author, expected)
    except StoreError as error:
        raise await shared.told(runtime, agent_id, error) from error
    await server.sync_agents()
    writer.record("saved", "valves", agent_id, ", ".join(sorted(values)))
    return _valves(record)


@router.get("/{agent_id}/valves/spec", summary="JSON schema of an agent's valves")
async def read_valves_spec(runtime: Running, agent_id: Id) -> dict[str, Any]:
    """As the agent's type has it."""
    return get_type((await shared.known(runtime, agent_id)).agent_type).valves.model_json_schema()


@router.get("/{agent_id}/versions", response_model=shapes.VersionPage, summary="List an agent's versions")
async def list_versions(
    runtime: Running, agent_id: Id, offset: Offset = 0, limit: Limit = LIMIT
) -> dict[str, Any]:
    """The newest first; those of a deleted agent too."""
    versions = await shared.history(runtime, agent_id)
    items = [shapes.agent_version(version) for version in versions[offset : offset + limit]]
    return {"items": items, "total": len(versions), "offset": offset, "limit": limit}


@router.get("/{agent_id}/versions/diff", response_model=shapes.Diff, summary="Compare two versions")
async def diff_versions(
    runtime: Running,
    agent_id: Id,
    old: Annotated[str, Query(alias="from", max_length=20, description="Number or label")],
    new: Annotated[str, Query(alias="to", max_length=20, description="Number or label")],
) -> dict[str, Any]:
    """What changed from one version to another, as a unified diff; empty when nothing did."""
    numbers = number_of(old, "from"), number_of(new, "to")
    before, after = [shared.shown(await runtime.agent_store.version(agent_id, number)) for number in numbers]
    # In a thread, because very long texts that have little in common take their time.
    text = await asyncio.to_thread(agent_versions.unified_diff, before, after)
    return {"from": numbers[0], "to": numbers[1], "diff": text}


@router.get("/{agent_id}/versions/{version}", response_model=shapes.VersionFull, summary="Read a version")
async def read_version(
    runtime: Running, agent_id: Id, version: Annotated[str, Path(max_length=20)]
) -> dict[str, Any]:
    """The agent as it was then. Secrets in its valves are masked."""
    found = await runtime.agent_store.version(agent_id, number_of(version))
    return shapes.agent_version(found) | {"content": shared.shown(found).content}


@router.post(
    "/{agent_id}/rollback",
    response_model=shapes.AgentFull,
    summary="Go back to a version",
    openapi_extra=takes(RollbackForm.model_json_schema(), rollback={"version": 1}),
)
async def rollback_agent(server: Server, writer: Writing, agent_id: Id, body: Body) -> dict[str, Any]:
    """Saves the content of an old version as the newest one; brings a deleted agent back."""
    number = number_of(read(RollbackForm, body).version)
    record = await shared.roll_back(server, agent_id, number, writer.author)
    writer.record("rolled back", "agent", agent_id, f"to {label_of(number)}")
    return await _full(server, record)


@router.post(
    "/{agent_id}/validate",
    response_model=shapes.Verdict,
    summary="Check an agent",
    openapi_extra=takes(shapes.agent_schema(partial=True))
    | {"description": "Without a body: as it is stored."},
)
async def validate_agent(server: Server, runtime: Running, agent_id: Id, body: Body) -> dict[str, Any]:
    """As `/validate`, with these fields in place of what is stored."""
    known = await shared.known(runtime, agent_id)
    changes = {} if body is None else _new(body)
    made = await shared.check_draft(server, {**shared.base(known), **changes}, known)
    return await _verdict(server, made)


def _verb(changes: dict[str, Any]) -> str:
    if set(changes) != {"enabled"}:
        return "saved"
    return "enabled" if changes["enabled"] else "disabled"


def _new(body: Any) -> dict[str, Any]:
    """The values of an agent that has no version yet; a copy of another one brings that one's along."""
    return writable(body, {*shapes.AGENT_READ_ONLY, "version"})


async def _full(server: Backend, record: Agent) -> dict[str, Any]:
    """The agent as it is read: with its definition, and whether and why it cannot be used."""
    usable, found = await shared.problems_of(server, record)
    return shapes.agent(record) | {
        "definition": record.definition,
        "offered": server.is_offered(record.id),
        "usable": usable,
        "problems": stored.as_json(found),
        "warnings": stored.as_json(await oddities_of(server, record)),
    }


async def _verdict(server: Backend, made: Draft) -> dict[str, Any]:
    odd = await oddities(server, made.form, made.parts) if made.form and made.parts else []
    return {
        "valid": not made.problems,
        "problems": stored.as_json(made.problems),
        "warnings": stored.as_json(odd),
    }


def _valves(record: Agent) -> dict[str, Any]:
    parts, _ = stored.read(content(record), allow_code=True, strict=False)
    if parts is None:
        return stored.masked(record.agent_type, record.valves) | {"access": record.access}
    return parts.valves.model_dump(mode="json")
