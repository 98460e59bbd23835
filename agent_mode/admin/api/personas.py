"""/api/v1/personas: the personas of the store."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response

from agent_mode.admin import personas
from agent_mode.admin.api import examples, running, shapes
from agent_mode.admin.api.requests import (
    LIMIT,
    Body,
    Limit,
    Offset,
    RollbackForm,
    Running,
    Writing,
    number_of,
    read,
    seen_version,
    takes,
    writable,
)
from agent_mode.chat.runtime import Runtime
from agent_mode.errors import Problem
from agent_mode.store import versions
from agent_mode.store.personas import Persona

router = APIRouter(prefix="/api/v1/personas", tags=["personas"])
Key = Annotated[str, Path(max_length=64, description="The persona's key")]


@router.get("/", response_model=shapes.PersonaPage, summary="List personas")
async def list_personas(
    runtime: Running,
    category: Annotated[str | None, Query(max_length=80)] = None,
    enabled: bool | None = None,
    origin: Literal["shipped", "custom"] | None = None,
    tag: Annotated[str | None, Query(max_length=80)] = None,
    q: Annotated[str | None, Query(max_length=200, description="Part of key, name or description")] = None,
    offset: Offset = 0,
    limit: Limit = LIMIT,
) -> dict[str, Any]:
    """The personas that fit, by category and name, without their prompts."""
    wanted = personas.Filter(q, category, enabled, origin, tag)
    found, total = await personas.page(runtime, wanted, offset, limit)
    numbers = await runtime.persona_store.newest()
    items = [shapes.persona(p, numbers.get(p.key, 0)) for p in found]
    return {"items": items, "total": total, "offset": offset, "limit": limit}


@router.post(
    "/",
    status_code=201,
    response_model=shapes.PersonaFull,
    summary="Create a persona",
    openapi_extra=takes(shapes.persona_schema(), persona=examples.PERSONA),
)
async def create_persona(runtime: Running, writer: Writing, body: Body, response: Response) -> dict[str, Any]:
    """Saves the persona. Enabled, it is a model at once."""
    record = await personas.create(runtime, _new(body), writer.author)
    writer.record("created", "persona", record.key)
    response.headers["Location"] = f"/api/v1/personas/{record.key}"
    return await _full(runtime, record)


@router.post(
    "/validate",
    response_model=shapes.Verdict,
    summary="Check a persona that is not saved",
    openapi_extra=takes(shapes.persona_schema(), persona=examples.PERSONA),
)
async def validate_persona(runtime: Running, body: Body) -> dict[str, Any]:
    """Everything that is wrong with it at once, by field, and what is odd about it. Saves nothing."""
    return _verdict(*await personas.check(runtime, _new(body)))


@router.get("/{key}", response_model=shapes.PersonaFull, summary="Read a persona")
async def read_persona(runtime: Running, key: Key) -> dict[str, Any]:
    """The persona with its prompt."""
    return await _full(runtime, await personas.known(runtime, key))


@router.put(
    "/{key}",
    response_model=shapes.PersonaFull,
    summary="Replace a persona",
    openapi_extra=takes(shapes.persona_schema(versioned=True), replace=examples.REPLACED_PERSONA),
)
async def update_persona(runtime: Running, writer: Writing, key: Key, body: Body) -> dict[str, Any]:
    """Saves a new version. `version` is the one that you have read; if it is not the newest any more, nothing
    is written, and the answer is 409 `stale_version`."""
    values = {"key": key, **writable(body, shapes.PERSONA_READ_ONLY)}
    # 0: nothing of it was versioned yet
    expected = values.pop("version") if values.get("version") == 0 else seen_version(values)
    record = await personas.replace_all(runtime, key, values, writer.author, expected)
    writer.record("saved", "persona", key)
    return await _full(runtime, record)


@router.delete("/{key}", status_code=204, response_model=None, summary="Delete a persona")
async def delete_persona(runtime: Running, writer: Writing, key: Key) -> None:
    """Removes a persona of your own, and disables a shipped one. Versions stay; a rollback brings it back."""
    await personas.delete(runtime, key)
    writer.record("deleted", "persona", key)


@router.get("/{key}/versions", response_model=shapes.VersionPage, summary="List a persona's versions")
async def list_versions(
    runtime: Running, key: Key, offset: Offset = 0, limit: Limit = LIMIT
) -> dict[str, Any]:
    """The newest first; those of a deleted persona too."""
    found = await personas.history(runtime, key)
    items = [shapes.persona_version(version) for version in found[offset : offset + limit]]
    return {"items": items, "total": len(found), "offset": offset, "limit": limit}


@router.get("/{key}/versions/diff", response_model=shapes.Diff, summary="Compare two versions")
async def diff_versions(
    runtime: Running,
    key: Key,
    old: Annotated[str, Query(alias="from", max_length=20, description="Number or label")],
    new: Annotated[str, Query(alias="to", max_length=20, description="Number or label")],
) -> dict[str, Any]:
    """What changed from one version to another, as a unified diff; empty when nothing did."""
    numbers = number_of(old, "from"), number_of(new, "to")
    before, after = [await personas.version(runtime, key, number) for number in numbers]
    text = await asyncio.to_thread(versions.unified_diff, before, after)
    return {"from": numbers[0], "to": numbers[1], "diff": text}


@router.get("/{key}/versions/{version}", response_model=shapes.VersionFull, summary="Read a version")
async def read_version(
    runtime: Running, key: Key, version: Annotated[str, Path(max_length=20)]
) -> dict[str, Any]:
    """The persona as it was then."""
    found = await personas.version(runtime, key, number_of(version))
    return shapes.persona_version(found) | {"content": found.content}


@router.post(
    "/{key}/rollback",
    response_model=shapes.PersonaFull,
    summary="Go back to a version",
    openapi_extra=takes(RollbackForm.model_json_schema(), rollback={"version": "1.0.0"}),
)
async def rollback_persona(runtime: Running, writer: Writing, key: Key, body: Body) -> dict[str, Any]:
    """Saves the content of an old version as the newest one; brings a deleted persona back."""
    number = number_of(read(RollbackForm, body).version)
    record = await personas.roll_back(runtime, key, number, writer.author)
    writer.record("rolled back", "persona", key, f"to {versions.label_of(number)}")
    return await _full(runtime, record)


@router.post(
    "/{key}/validate",
    response_model=shapes.Verdict,
    summary="Check a persona",
    openapi_extra=takes(shapes.persona_schema(partial=True), rename={"name": "Wine waiter"})
    | {"description": "With these fields in place of what is stored; without a body: as it is stored."},
)
async def validate_stored(runtime: Running, key: Key, body: Body) -> dict[str, Any]:
    """As `/validate`, of a persona that is there."""
    record = await personas.known(runtime, key)
    changes = {} if body is None else _new(body)
    return _verdict(*await personas.check(runtime, {**personas.values_of(record), **changes}, record))


@router.post(
    "/{key}/run", response_model=shapes.RunResult, summary="Ask a persona", openapi_extra=running.TAKES
)
async def run_persona(runtime: Running, key: Key, body: Body) -> Response:
    """As `POST /api/v1/agents/{agent_id}/run`, of a persona."""
    return await running.ask(runtime, key, body, lambda: personas.speaker(runtime, key))


def _verdict(wrong: list[Problem], odd: list[Problem]) -> dict[str, Any]:
    return {"valid": not wrong, "problems": _as_json(wrong), "warnings": _as_json(odd)}


def _new(body: Any) -> dict[str, Any]:
    """The values of a persona that has no version yet; a copy of another one brings that one's along."""
    return writable(body, {*shapes.PERSONA_READ_ONLY, "version"})


async def _full(runtime: Runtime, record: Persona) -> dict[str, Any]:
    return shapes.full_persona(record, await personas.newest(runtime, record.key))


def _as_json(found: list[Problem]) -> list[dict[str, str]]:
    return [{"field": p.field, "message": p.message, "hint": p.hint} for p in found]
