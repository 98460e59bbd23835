"""/api/v1/personas: the personas of the store."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import ValidationError

from agent_mode.admin.api import examples, shapes
from agent_mode.admin.api.errors import FormError
from agent_mode.admin.api.requests import (
    LIMIT,
    Author,
    Body,
    Limit,
    Offset,
    RollbackForm,
    Running,
    number_of,
    read,
    seen_version,
    takes,
    writable,
)
from agent_mode.admin.conflicts import stale
from agent_mode.chat.runtime import Runtime
from agent_mode.errors import Problem, RequestError, StoreError
from agent_mode.prompts import guard
from agent_mode.store import versions
from agent_mode.store.agents import AgentStore
from agent_mode.store.forms import problems
from agent_mode.store.personas import Persona, PersonaForm, Version
from agent_mode.store.versions import label_of

router = APIRouter(prefix="/api/v1/personas", tags=["personas"])
Key = Annotated[str, Path(max_length=64, description="The persona's key")]
_ADVICE = (
    "Say what the persona is, not what to ignore: AGENT_MODE_OVERRIDE_PHRASES decides what becomes of it."
)


@router.get("/", response_model=shapes.PersonaPage, summary="List personas")
async def list_personas(
    runtime: Running,
    category: Annotated[str | None, Query(max_length=80)] = None,
    enabled: bool | None = None,
    origin: Annotated[str | None, Query(pattern="^(shipped|custom)$")] = None,
    tag: Annotated[str | None, Query(max_length=80)] = None,
    q: Annotated[str | None, Query(max_length=200, description="Part of key, name or description")] = None,
    offset: Offset = 0,
    limit: Limit = LIMIT,
) -> dict[str, Any]:
    """The personas that fit, by category and name, without their prompts."""
    wanted = {"category": category, "enabled": enabled, "origin": origin}
    found = [
        persona
        for persona in await runtime.persona_store.all()
        if all(value is None or getattr(persona, name) == value for name, value in wanted.items())
        and (tag is None or tag in persona.tags)
        and (q is None or q.strip().casefold() in _searched(persona))
    ]
    numbers = await runtime.persona_store.newest()
    items = [shapes.persona(p, numbers.get(p.key, 0)) for p in found[offset : offset + limit]]
    return {"items": items, "total": len(found), "offset": offset, "limit": limit}


@router.post(
    "/",
    status_code=201,
    response_model=shapes.PersonaFull,
    summary="Create a persona",
    openapi_extra=takes(shapes.persona_schema(), persona=examples.PERSONA),
)
async def create_persona(runtime: Running, author: Author, body: Body, response: Response) -> dict[str, Any]:
    """Saves the persona. Enabled, it is a model at once."""
    form = _acceptable(runtime, _form(_new(body)))
    if await runtime.persona_store.get(form.key) is not None:
        raise _exists(form.key)
    try:
        record = await runtime.persona_store.save(form, author=author, expected=0)
    except StoreError as error:
        raise _exists(form.key) if error.code == "stale_version" else error from error
    response.headers["Location"] = f"/api/v1/personas/{form.key}"
    return await _saved(runtime, record)


@router.post(
    "/validate",
    response_model=shapes.Verdict,
    summary="Check a persona",
    openapi_extra=takes(shapes.persona_schema(), persona=examples.PERSONA),
)
async def validate_persona(runtime: Running, body: Body) -> dict[str, Any]:
    """Everything that is wrong with it at once, by field, and what is odd about it. Saves nothing."""
    values = _new(body)
    wrong: list[Problem] = []
    odd: list[Problem] = []
    try:
        form = _form(values)
    except FormError as error:
        wrong = list(error.problems)
    else:
        flagged = _flagged(form)
        (wrong if runtime.settings.override_phrases == "refuse" else odd).extend(flagged)
        if await runtime.persona_store.get(form.key) is not None:
            odd.append(Problem("key", f"There is a persona {form.key} already.", "PUT replaces it."))
        odd += await _shadowed(runtime.agent_store, form.key)
    return {"valid": not wrong, "problems": _as_json(wrong), "warnings": _as_json(odd)}


@router.get("/{key}", response_model=shapes.PersonaFull, summary="Read a persona")
async def read_persona(runtime: Running, key: Key) -> dict[str, Any]:
    """The persona with its prompt."""
    return await _full(runtime, await _known(runtime, key))


@router.put(
    "/{key}",
    response_model=shapes.PersonaFull,
    summary="Replace a persona",
    openapi_extra=takes(shapes.persona_schema(versioned=True), replace=examples.REPLACED_PERSONA),
)
async def update_persona(runtime: Running, author: Author, key: Key, body: Body) -> dict[str, Any]:
    """Saves a new version. `version` is the one that you have read; if it is not the newest any more, nothing
    is written, and the answer is 409 `stale_version`."""
    values = {"key": key, **writable(body, shapes.PERSONA_READ_ONLY)}
    # 0: nothing of it was versioned yet
    expected = values.pop("version") if values.get("version") == 0 else seen_version(values)
    known = await _known(runtime, key)
    form = _acceptable(runtime, _form({"enabled": known.enabled, "extras": known.extras, **values}))
    if form.key != key:
        problem = Problem("key", "A persona's key does not change.", "Create another, and delete this one.")
        raise FormError("The persona cannot be saved", problems=[problem])
    try:
        record = await runtime.persona_store.save(form, author=author, expected=expected)
    except StoreError as error:
        raise await _told(runtime, key, error) from error
    return await _saved(runtime, record)


@router.delete("/{key}", status_code=204, response_model=None, summary="Delete a persona")
async def delete_persona(runtime: Running, key: Key) -> None:
    """Removes a persona of your own, and disables a shipped one. Versions stay; a rollback brings it back."""
    await _known(runtime, key)
    await runtime.persona_store.delete(key)
    await runtime.personas.refresh(runtime.persona_store)


@router.get("/{key}/versions", response_model=shapes.VersionPage, summary="List a persona's versions")
async def list_versions(
    runtime: Running, key: Key, offset: Offset = 0, limit: Limit = LIMIT
) -> dict[str, Any]:
    """The newest first; those of a deleted persona too."""
    found = await runtime.persona_store.history(key)
    if not found:
        await _known(runtime, key)  # or say that there is none
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
    before, after = [await _version(runtime, key, number) for number in numbers]
    text = await asyncio.to_thread(versions.unified_diff, before, after)
    return {"from": numbers[0], "to": numbers[1], "diff": text}


@router.get("/{key}/versions/{version}", response_model=shapes.VersionFull, summary="Read a version")
async def read_version(
    runtime: Running, key: Key, version: Annotated[str, Path(max_length=20)]
) -> dict[str, Any]:
    """The persona as it was then."""
    found = await _version(runtime, key, number_of(version))
    return shapes.persona_version(found) | {"content": found.content}


@router.post(
    "/{key}/rollback",
    response_model=shapes.PersonaFull,
    summary="Go back to a version",
    openapi_extra=takes(RollbackForm.model_json_schema(), rollback={"version": "1.0.0"}),
)
async def rollback_persona(runtime: Running, author: Author, key: Key, body: Body) -> dict[str, Any]:
    """Saves the content of an old version as the newest one; brings a deleted persona back."""
    number = number_of(read(RollbackForm, body).version)
    _acceptable(runtime, (await _version(runtime, key, number)).form())
    record = await runtime.persona_store.rollback(key, label_of(number), author)
    return await _saved(runtime, record)


def _new(body: Any) -> dict[str, Any]:
    """The values of a persona that has no version yet; a copy of another one brings that one's along."""
    return writable(body, {*shapes.PERSONA_READ_ONLY, "version"})


def _form(values: dict[str, Any]) -> PersonaForm:
    """
    Raises:
        FormError: all that is wrong, by field.
    """
    try:
        return PersonaForm.model_validate(values)
    except ValidationError as error:
        found = [Problem(field, f"{text.removeprefix('Value error, ')}.") for field, text in problems(error)]
        raise FormError("The persona cannot be saved", problems=found) from error


def _acceptable(runtime: Runtime, form: PersonaForm) -> PersonaForm:
    flagged = _flagged(form)
    if flagged and runtime.settings.override_phrases == "refuse":
        [problem] = flagged
        raise RequestError(
            problem.message, hint=problem.hint, code="override_phrases", status=422, field=problem.field
        )
    return form


def _flagged(form: PersonaForm) -> list[Problem]:
    phrases = guard.override_phrases(form.prompt)
    message = f"The prompt carries override phrases: {', '.join(phrases)}."
    return [Problem("prompt", message, _ADVICE)] if phrases else []


async def _shadowed(agents: AgentStore, key: str) -> list[Problem]:
    if await agents.get(key) is None:
        return []
    return [Problem("key", f"An agent is called {key} too.", f"!{key} calls the agent then.")]


async def _saved(runtime: Runtime, record: Persona) -> dict[str, Any]:
    await runtime.personas.refresh(runtime.persona_store)
    return await _full(runtime, record)


async def _full(runtime: Runtime, record: Persona) -> dict[str, Any]:
    numbers = await runtime.persona_store.newest(record.key)
    return shapes.full_persona(record, numbers.get(record.key, 0))


async def _known(runtime: Runtime, key: str) -> Persona:
    record = await runtime.persona_store.get(key)
    if record is None:
        raise RequestError(
            f"There is no persona {key[:64]!r}.",
            hint="GET /api/v1/personas/ lists them. If it was deleted, a rollback brings it back.",
            code="persona_not_found",
            status=404,
        )
    return record


async def _version(runtime: Runtime, key: str, number: int) -> Version:
    return await runtime.persona_store.version(key, label_of(number))


async def _told(runtime: Runtime, key: str, error: StoreError) -> StoreError:
    if error.code == "stale_version":
        found = await runtime.persona_store.history(key)
        if found:
            return stale(key, found[0].number, found[0].author, found[0].created_at)
    return error


def _exists(key: str) -> StoreError:
    return StoreError(
        f"There is a persona {key} already.",
        hint="Choose another key, or update the one that is there.",
        code="persona_exists",
        status=409,
        field="key",
    )


def _searched(persona: Persona) -> str:
    return f"{persona.key}\n{persona.name}\n{persona.description}".casefold()


def _as_json(found: list[Problem]) -> list[dict[str, str]]:
    return [{"field": p.field, "message": p.message, "hint": p.hint} for p in found]
