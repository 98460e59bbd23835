"""/api/v1/strategies: which strategy a model gets and why, and the files and templates behind it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field, StrictStr

from agent_mode.admin import previews, strategy_files
from agent_mode.admin.api import examples, shapes
from agent_mode.admin.api import strategy_shapes as told
from agent_mode.admin.api.requests import (
    LIMIT,
    Body,
    Limit,
    Offset,
    RollbackForm,
    Running,
    Server,
    Writing,
    number_of,
    read,
    takes,
)
from agent_mode.admin.strategy_files import Content, File, Kind
from agent_mode.chat.runtime import Runtime
from agent_mode.errors import RequestError, StrategyError, TemplateError

router = APIRouter(prefix="/api/v1/strategies", tags=["strategies"])
Model = Annotated[
    str, Query(min_length=1, max_length=200, description="Id of a model, as a gateway names it")
]
Name = Annotated[str, Path(max_length=64)]

_MARK = "The `mark` that you have read; empty for a file that shall be new"


class TextForm(BaseModel):
    """The new text of a file."""

    model_config = ConfigDict(extra="forbid")

    text: StrictStr
    mark: StrictStr = Field(description=_MARK, max_length=100)
    message: StrictStr = Field("", description="Why, for the versions", max_length=200)


class DraftForm(BaseModel):
    """A text to be checked."""

    model_config = ConfigDict(extra="forbid")

    text: StrictStr


@router.get("/", response_model=told.StrategyPage, summary="List strategies")
async def list_strategies(
    runtime: Running,
    provider: Annotated[str | None, Query(max_length=64)] = None,
    q: Annotated[str, Query(max_length=200, description="Part of id, template, type or reason")] = "",
    offset: Offset = 0,
    limit: Limit = LIMIT,
) -> dict[str, Any]:
    """Model or pattern to strategy, with the file that it comes from; by provider, in the files' order."""
    found = previews.fitting(runtime.strategies.all(), q, provider)
    items = [told.strategy(entry) for entry in found[offset : offset + limit]]
    return {"items": items, "total": len(found), "offset": offset, "limit": limit}


@router.get("/resolve", response_model=told.Resolved, summary="Which one does a model get?")
async def resolve_strategy(runtime: Running, model: Model) -> dict[str, Any]:
    """The strategy that a model gets, and by which rule of which file."""
    return told.resolved(model, runtime.strategies.select(model), runtime.templates)


@router.get("/preview", response_model=told.Switched, summary="Preview a hard reset")
async def preview_switch(
    server: Server,
    to: Annotated[str, Query(max_length=64, description="Key of the persona that takes over")],
    model: Model,
    previous: Annotated[
        str | None,
        Query(alias="from", max_length=64, description="Who answered before; left out: none of ours"),
    ] = None,
    base: Annotated[str, Query(max_length=4000, description="What the chat itself demands")] = "",
) -> dict[str, Any]:
    """What the model would be sent in a sample chat, made as a turn makes it. Nothing is sent."""
    runtime = server.runtime
    before = previews.known(runtime, previous) if previous else None
    agent = previews.known(runtime, to)
    return told.switched(previews.preview(runtime, server.valves, agent, before, model, base=base))


def _add_files(place: str, kind: Kind, noun: str, example: str) -> None:
    """The routes of one kind of file; both kinds have the same."""
    nouns = f"{noun}s"
    form = takes(TextForm.model_json_schema(), new={"text": example, "mark": "", "message": "first draft"})

    @router.get(f"/{place}", response_model=told.FileList, summary=f"List {nouns}", name=f"list_{place}")
    async def list_files(runtime: Running) -> dict[str, Any]:
        found = await asyncio.to_thread(strategy_files.states, runtime)
        items = [told.file_item(state) for state in found if state.file.kind == kind]
        return {"items": items, "total": len(items)}

    list_files.__doc__ = f"All {nouns} by name, those that cannot be used too, and why."

    @router.get(
        f"/{place}/{{name}}", response_model=told.FileFull, summary=f"Read a {noun}", name=f"read_{place}"
    )
    async def read_file(runtime: Running, name: Name) -> dict[str, Any]:
        """The file as it is now, with what is odd about it."""
        file = File(kind, name)
        return await _full(runtime, file, await strategy_files.read(runtime, file))

    @router.put(
        f"/{place}/{{name}}",
        response_model=told.FileFull,
        summary=f"Write a {noun}",
        name=f"write_{place}",
        openapi_extra=form,
    )
    async def write_file(runtime: Running, writer: Writing, name: Name, body: Body) -> dict[str, Any]:
        """Writes the whole file, or makes it; it is used at once. If it was changed since `mark` was read,
        nothing is written, and the answer is 409 `stale_version`."""
        file, wanted = File(kind, name), read(TextForm, body)
        saved = await strategy_files.save(
            runtime, file, wanted.text, writer.author, wanted.mark, wanted.message
        )
        writer.record("saved" if wanted.mark else "created", file.noun, name)
        return await _full(runtime, file, saved)

    @router.post(
        f"/{place}/{{name}}/validate",
        response_model=shapes.Verdict,
        summary=f"Check a {noun}",
        name=f"validate_{place}",
        openapi_extra=takes(DraftForm.model_json_schema(), draft={"text": example}),
    )
    async def validate_file(runtime: Running, name: Name, body: Body) -> dict[str, Any]:
        """What is wrong with a text, and what is odd about it. Saves nothing."""
        file, text = File(kind, name), read(DraftForm, body).text
        try:
            odd = await asyncio.to_thread(strategy_files.check, runtime, file, text)
        except (StrategyError, TemplateError) as error:
            return {"valid": False, "problems": [told.problem(error)], "warnings": []}
        return {"valid": True, "problems": [], "warnings": [told.problem(error) for error in odd]}

    @router.get(
        f"/{place}/{{name}}/versions",
        response_model=told.TextPage,
        summary=f"List a {noun}'s versions",
        name=f"list_versions_of_{place}",
    )
    async def list_versions(
        runtime: Running, name: Name, offset: Offset = 0, limit: Limit = LIMIT
    ) -> dict[str, Any]:
        """The newest first; none before its first change here."""
        found = await strategy_files.history(runtime, File(kind, name))
        items = [told.version(entry) for entry in found[offset : offset + limit]]
        return {"items": items, "total": len(found), "offset": offset, "limit": limit}

    @router.get(
        f"/{place}/{{name}}/versions/{{version}}",
        response_model=told.TextFull,
        summary=f"Read a version of a {noun}",
        name=f"read_version_of_{place}",
    )
    async def read_version(
        runtime: Running, name: Name, version: Annotated[str, Path(max_length=20)]
    ) -> dict[str, Any]:
        """The text as it was then."""
        found = await strategy_files.version(runtime, File(kind, name), number_of(version))
        return told.version(found) | {"text": found.text}

    @router.post(
        f"/{place}/{{name}}/rollback",
        response_model=told.FileFull,
        summary=f"Bring a {noun} back to a version",
        name=f"rollback_{place}",
        openapi_extra=takes(RollbackForm.model_json_schema(), rollback={"version": 1}),
    )
    async def rollback_file(runtime: Running, writer: Writing, name: Name, body: Body) -> dict[str, Any]:
        """Writes an old text as the newest; brings a deleted file back."""
        file, number = File(kind, name), number_of(read(RollbackForm, body).version)
        saved = await strategy_files.roll_back(runtime, file, number, writer.author)
        writer.record("rolled back", file.noun, name, f"to number {number}")
        return await _full(runtime, file, saved)

    @router.post(
        f"/{place}/{{name}}/reset",
        response_model=told.FileFull,
        summary=f"Reset a {noun}",
        name=f"reset_{place}",
    )
    async def reset_file(runtime: Running, writer: Writing, name: Name) -> dict[str, Any]:
        """Writes what was there before the first change here: of a shipped file, the shipped text."""
        file = File(kind, name)
        saved = await strategy_files.reset(runtime, file, writer.author)
        writer.record("reset", file.noun, name)
        return await _full(runtime, file, saved)


_add_files("files", "strategies", "strategy file", examples.STRATEGIES)
_add_files("templates", "template", "template", examples.TEMPLATE)


@router.delete("/templates/{name}", status_code=204, response_model=None, summary="Delete a template")
async def delete_template(runtime: Running, writer: Writing, name: Name) -> None:
    """Removes a template that no strategy names. Its versions stay, and a rollback brings it back."""
    file = File("template", name)
    await strategy_files.delete(runtime, file, writer.author)
    writer.record("deleted", file.noun, name)


# The last route, since an id may hold slashes.
@router.get("/{strategy_id:path}", response_model=told.StrategyItem, summary="Read a strategy")
async def read_strategy(
    runtime: Running,
    strategy_id: Annotated[str, Path(max_length=200, description="Its model id, pattern or name")],
    provider: Annotated[
        str | None, Query(max_length=64, description="Whose, where several have one of this id")
    ] = None,
) -> dict[str, Any]:
    """One strategy by the id that the list shows."""
    for found in previews.fitting(runtime.strategies.all(), provider=provider):
        if found.id == strategy_id:
            return told.strategy(found)
    raise RequestError(
        f"There is no strategy {strategy_id[:70]!r}.",
        hint="The list shows those that there are; /api/v1/strategies/resolve says which one a model gets.",
        code="strategy_not_found",
        status=404,
    )


async def _full(runtime: Runtime, file: File, there: Content) -> dict[str, Any]:
    try:
        odd = await asyncio.to_thread(strategy_files.check, runtime, file, there.text)
    except (StrategyError, TemplateError) as error:  # somebody has broken it by hand; it is read all the same
        odd = [error]
    return {
        "name": file.name,
        "filename": file.filename,
        "text": there.text,
        "mark": there.mark,
        "warnings": [told.problem(error) for error in odd],
    }
