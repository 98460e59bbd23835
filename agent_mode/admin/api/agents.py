"""/api/v1/agents: the agents of the store."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from agent_mode.admin.api import examples, shapes
from agent_mode.admin.api.requests import (
    LIMIT,
    Author,
    Body,
    Limit,
    Offset,
    RollbackForm,
    Running,
    Server,
    as_object,
    number_of,
    read,
    seen_version,
    stale,
    takes,
    writable,
)
from agent_mode.admin.backend import Backend
from agent_mode.admin.drafts import Draft, draft, oddities
from agent_mode.agents import stored
from agent_mode.agents.types import get_type
from agent_mode.chat.runtime import Runtime
from agent_mode.errors import DefinitionError, Problem, StoreError
from agent_mode.store import agent_versions
from agent_mode.store.agents import Agent, AgentForm, AgentVersion, content

router = APIRouter(prefix="/api/v1/agents", tags=["agents"])
Id = Annotated[str, Path(max_length=64, description="The agent's id")]
_ATTEMPTS = 5


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
async def create_agent(
    server: Server, runtime: Running, author: Author, body: Body, response: Response
) -> dict[str, Any]:
    """Saves the agent. Enabled, it is a model at once; no chat is disturbed."""
    form = (await _draft(runtime, _new(body))).usable()
    _check_free(server, form.id)
    record = await runtime.agent_store.create(form, author)
    await server.sync_agents()
    response.headers["Location"] = f"/api/v1/agents/{record.id}"
    return await _full(server, record)


@router.post(
    "/validate",
    response_model=shapes.Verdict,
    summary="Check an agent that is not saved",
    openapi_extra=takes(shapes.agent_schema(), **examples.AGENTS),
)
async def validate_draft(server: Server, runtime: Running, body: Body) -> dict[str, Any]:
    """Everything that is wrong with it at once, by field, and what it names that is not here now."""
    made = await _draft(runtime, _new(body))
    if made.form is not None:
        if server.has_pipeline(made.form.id):
            made = replace(made, problems=[_taken(made.form.id)])
        elif await runtime.agent_store.get(made.form.id) is not None:
            made = replace(made, problems=[_exists(made.form.id)])
    return await _verdict(server, made)


@router.get("/{agent_id}", response_model=shapes.AgentFull, summary="Read an agent")
async def read_agent(server: Server, runtime: Running, agent_id: Id) -> dict[str, Any]:
    """The agent with its definition. Secrets in its valves are masked."""
    return await _full(server, await _known(runtime, agent_id))


@router.put(
    "/{agent_id}",
    response_model=shapes.AgentFull,
    summary="Replace an agent",
    openapi_extra=takes(shapes.agent_schema(versioned=True), replace=examples.REPLACED_AGENT),
)
async def update_agent(
    server: Server, runtime: Running, author: Author, agent_id: Id, body: Body
) -> dict[str, Any]:
    """Saves a new version. `version` is the one that you have read; if it is not the newest any more, nothing
    is written, and the answer is 409 `stale_version`. A masked secret keeps what is there."""
    values = {"id": agent_id, **writable(body, shapes.AGENT_READ_ONLY)}
    expected = seen_version(values)
    known = await _known(runtime, agent_id)
    form = _same_id((await _draft(runtime, values, known)).usable(), agent_id)
    record = await _update(runtime, form, author, expected)
    await server.sync_agents()
    return await _full(server, record)


@router.patch(
    "/{agent_id}",
    response_model=shapes.AgentFull,
    summary="Change some fields of an agent",
    openapi_extra=takes(shapes.agent_schema(partial=True), disable={"enabled": False}),
)
async def patch_agent(
    server: Server, runtime: Running, author: Author, agent_id: Id, body: Body
) -> dict[str, Any]:
    """Saves a new version with these fields, each as a whole; the others stay. `version` may be left out."""
    changes = writable(body, shapes.AGENT_READ_ONLY)
    expected = seen_version(changes) if "version" in changes else None
    record = await _patch(runtime, agent_id, changes, author, expected)
    await server.sync_agents()
    return await _full(server, record)


@router.delete("/{agent_id}", status_code=204, response_model=None, summary="Delete an agent")
async def delete_agent(server: Server, runtime: Running, author: Author, agent_id: Id) -> None:
    """Removes the agent. Its versions stay, and a rollback brings it back."""
    await runtime.agent_store.delete(agent_id, author)
    await server.sync_agents()


@router.get("/{agent_id}/valves", summary="Read an agent's valves")
async def read_valves(runtime: Running, agent_id: Id) -> dict[str, Any]:
    """All valves of its type with their values. Secrets are masked."""
    return _valves(await _known(runtime, agent_id))


@router.put(
    "/{agent_id}/valves",
    summary="Replace an agent's valves",
    openapi_extra=takes({"type": "object"}, valves=examples.VALVES),
)
async def update_valves(
    server: Server,
    runtime: Running,
    author: Author,
    agent_id: Id,
    body: Body,
    version: Annotated[str | None, Query(max_length=20, description="The one that you have read")] = None,
) -> dict[str, Any]:
    """Saves a new version with these valves; what is not named gets its default, a masked secret stays."""
    values = as_object(body)
    known = await _known(runtime, agent_id)
    kind = get_type(known.agent_type)
    _check_code_allowed(runtime, known.agent_type)
    found = stored.valve_problems(kind, values)
    if found:
        raise DefinitionError("The valves cannot be saved", problems=found)
    expected = None if version is None else number_of(version)
    try:
        record = await stored.save_valves(runtime.agent_store, agent_id, values, author, expected)
    except StoreError as error:
        raise await _told(runtime, agent_id, error) from error
    await server.sync_agents()
    return _valves(record)


@router.get("/{agent_id}/valves/spec", summary="JSON schema of an agent's valves")
async def read_valves_spec(runtime: Running, agent_id: Id) -> dict[str, Any]:
    """As the agent's type has it."""
    return get_type((await _known(runtime, agent_id)).agent_type).valves.model_json_schema()


@router.get("/{agent_id}/versions", response_model=shapes.VersionPage, summary="List an agent's versions")
async def list_versions(
    runtime: Running, agent_id: Id, offset: Offset = 0, limit: Limit = LIMIT
) -> dict[str, Any]:
    """The newest first; those of a deleted agent too."""
    versions = await _history(runtime, agent_id)
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
    before, after = [_shown(await runtime.agent_store.version(agent_id, number)) for number in numbers]
    # In a thread, because very long texts that have little in common take their time.
    text = await asyncio.to_thread(agent_versions.unified_diff, before, after)
    return {"from": numbers[0], "to": numbers[1], "diff": text}


@router.get("/{agent_id}/versions/{version}", response_model=shapes.VersionFull, summary="Read a version")
async def read_version(
    runtime: Running, agent_id: Id, version: Annotated[str, Path(max_length=20)]
) -> dict[str, Any]:
    """The agent as it was then. Secrets in its valves are masked."""
    found = await runtime.agent_store.version(agent_id, number_of(version))
    return shapes.agent_version(found) | {"content": _shown(found).content}


@router.post(
    "/{agent_id}/rollback",
    response_model=shapes.AgentFull,
    summary="Go back to a version",
    openapi_extra=takes(RollbackForm.model_json_schema(), rollback={"version": 1}),
)
async def rollback_agent(
    server: Server, runtime: Running, author: Author, agent_id: Id, body: Body
) -> dict[str, Any]:
    """Saves the content of an old version as the newest one; brings a deleted agent back."""
    number = number_of(read(RollbackForm, body).version)
    old = (await runtime.agent_store.version(agent_id, number)).form()
    _check_code_allowed(runtime, old.agent_type)
    _check_free(server, agent_id)
    record = await runtime.agent_store.rollback(agent_id, number, author)
    await server.sync_agents()
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
    known = await _known(runtime, agent_id)
    changes = {} if body is None else _new(body)
    made = await _draft(runtime, {**_base(known), **changes}, known)
    if made.form is not None and (made.form.id != agent_id or server.has_pipeline(agent_id)):
        made = replace(made, problems=[_fixed() if made.form.id != agent_id else _taken(agent_id)])
    return await _verdict(server, made)


def _new(body: Any) -> dict[str, Any]:
    """The values of an agent that has no version yet; a copy of another one brings that one's along."""
    return writable(body, {*shapes.AGENT_READ_ONLY, "version"})


async def _patch(
    runtime: Runtime, agent_id: str, changes: dict[str, Any], author: str, expected: int | None
) -> Agent:
    for attempt in range(1, _ATTEMPTS + 1):
        known = await _known(runtime, agent_id)
        if changes == {"enabled": False} and expected is None:
            # Also where it cannot be used any more, and so could not be saved.
            return await runtime.agent_store.set_enabled(agent_id, False, author)
        made = await _draft(runtime, {**_base(known), **changes}, known)
        form = _same_id(made.usable(), agent_id)
        try:
            return await _update(runtime, form, author, known.version if expected is None else expected)
        except StoreError as error:
            if error.code != "stale_version" or expected is not None or attempt == _ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")


async def _update(runtime: Runtime, form: AgentForm, author: str, expected: int) -> Agent:
    try:
        return await runtime.agent_store.update(form, author, expected=expected)
    except StoreError as error:
        raise await _told(runtime, form.id, error) from error


async def _told(runtime: Runtime, agent_id: str, error: StoreError) -> StoreError:
    """The error of the store; of an older version also who was faster, and when."""
    if error.code == "stale_version":
        newest = await runtime.agent_store.history(agent_id, 1)
        if newest:
            return stale(agent_id, newest[0].number, newest[0].author, newest[0].created_at)
    return error


async def _draft(runtime: Runtime, values: Any, known: Agent | None = None) -> Draft:
    # In a thread: half a megabyte of code takes its time.
    allowed = runtime.settings.allow_custom_python
    return await asyncio.to_thread(draft, values, known=known, allow_code=allowed)


def _base(known: Agent) -> dict[str, Any]:
    """What is stored, with valves that its type knows: an older version of the type may have had others."""
    values = {"id": known.id, **content(known)}
    parts, _ = stored.read(values, allow_code=True, strict=False)
    return {**values, "valves": stored.kept_valves(parts.valves)} if parts else values


async def _known(runtime: Runtime, agent_id: str) -> Agent:
    record = await runtime.agent_store.get(agent_id)
    if record is None:
        raise stored.not_found(agent_id)
    return record


async def _history(runtime: Runtime, agent_id: str) -> list[AgentVersion]:
    versions = await runtime.agent_store.history(agent_id)
    if not versions:
        raise stored.not_found(agent_id)
    return versions


async def _full(server: Backend, record: Agent) -> dict[str, Any]:
    """The agent as it is read: with its definition, and whether and why it cannot be used."""
    allowed = server.runtime.settings.allow_custom_python
    parts, found = await asyncio.to_thread(stored.read, content(record), allow_code=allowed, strict=False)
    if server.has_pipeline(record.id):
        found.append(_taken(record.id))
    return shapes.agent(record) | {
        "definition": record.definition,
        "offered": server.is_offered(record.id),
        "usable": parts is not None and not found,
        "problems": stored.as_json(found),
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


def _shown(version: AgentVersion) -> AgentVersion:
    """The version with its secrets masked."""
    values = version.content
    valves = stored.masked(str(values.get("agent_type")), values.get("valves") or {})
    return replace(version, content={**values, "valves": valves})


def _check_code_allowed(runtime: Runtime, agent_type: str) -> None:
    if agent_type == stored.CODE_TYPE and not runtime.settings.allow_custom_python:
        raise stored.code_is_off()


def _check_free(server: Backend, agent_id: str) -> None:
    if server.has_pipeline(agent_id):
        problem = _taken(agent_id)
        raise StoreError(problem.message, hint=problem.hint, code="agent_exists", status=409, field="id")


def _same_id(form: AgentForm, agent_id: str) -> AgentForm:
    if form.id != agent_id:
        raise DefinitionError("The agent cannot be saved", problems=[_fixed()])
    return form


def _fixed() -> Problem:
    return Problem("id", "An agent's id does not change.", "Create another agent, and delete this one.")


def _taken(agent_id: str) -> Problem:
    return Problem(
        "id",
        f"A file in the pipelines folder is called {agent_id} already.",
        "Choose another id, or delete that pipeline.",
    )


def _exists(agent_id: str) -> Problem:
    return Problem("id", f"There is an agent {agent_id} already.", "Choose another id, or update that one.")
