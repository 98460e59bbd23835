"""Agents of the store, as the API and the Agents page deal with them: make, change, delete, bring back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agent_mode.admin.backend import Backend
from agent_mode.admin.conflicts import stale
from agent_mode.admin.drafts import Draft, draft
from agent_mode.agents import stored
from agent_mode.chat.runtime import Runtime
from agent_mode.errors import DefinitionError, Problem, StoreError
from agent_mode.store.agents import Agent, AgentForm, AgentVersion, content

_ATTEMPTS = 5
"""How often a change of single fields is tried again when somebody else was faster."""
_COPIES = 100
"""How many names a copy is looked for."""


async def known(runtime: Runtime, agent_id: str) -> Agent:
    """The agent of this id.

    Raises:
        StoreError: `agent_not_found`.
    """
    record = await runtime.agent_store.get(agent_id)
    if record is None:
        raise stored.not_found(agent_id)
    return record


async def history(runtime: Runtime, agent_id: str) -> list[AgentVersion]:
    """The versions of an agent, the newest first; those of a deleted one too.

    Raises:
        StoreError: `agent_not_found`.
    """
    versions = await runtime.agent_store.history(agent_id)
    if not versions:
        raise stored.not_found(agent_id)
    return versions


async def read_draft(runtime: Runtime, values: Any, record: Agent | None = None) -> Draft:
    """What became of the values of an agent; `record` is the one that they are to replace."""
    # In a thread: half a megabyte of code takes its time.
    allowed = runtime.settings.allow_custom_python
    return await asyncio.to_thread(draft, values, known=record, allow_code=allowed)


async def check_draft(backend: Backend, values: Any, record: Agent | None = None) -> Draft:
    """As `read_draft`, and whether the id can be the agent's: it must be free, or stay as it is."""
    made = await read_draft(backend.runtime, values, record)
    sent = values.get("id") if isinstance(values, Mapping) else None
    if not isinstance(sent, str) or any(problem.field == "id" for problem in made.problems):
        return made
    agent_id = sent.strip()
    if record is not None and agent_id != record.id:
        wrong = fixed()
    elif backend.has_pipeline(agent_id):
        wrong = taken(agent_id)
    elif record is None and await backend.runtime.agent_store.get(agent_id) is not None:
        wrong = exists(agent_id)
    else:
        return made
    return replace(made, problems=[wrong, *made.problems])


def base(record: Agent) -> dict[str, Any]:
    """What is stored, with valves that its type knows: an older version of the type may have had others."""
    values = {"id": record.id, **content(record)}
    parts, _ = stored.read(values, allow_code=True, strict=False)
    return {**values, "valves": stored.kept_valves(parts.valves)} if parts else values


def editable(record: Agent) -> dict[str, Any]:
    """The agent as somebody edits it: as `base`, with its secrets masked."""
    values = base(record)
    return {**values, "valves": stored.masked(record.agent_type, values["valves"])}


async def as_of(runtime: Runtime, record: Agent, number: int) -> Agent:
    """The agent as it was in an older version, also if that is not kept any more."""
    try:
        old = (await runtime.agent_store.version(record.id, number)).content
    except StoreError:
        old = {}
    names = {*content(record)} & old.keys()
    return replace(record, **{name: old[name] for name in names}, version=number)


async def create(backend: Backend, values: Any, author: str) -> Agent:
    """Saves a new agent. Enabled, it is a model at once; no chat is disturbed.

    Raises:
        DefinitionError: all that is wrong with it, by field.
        RequestError: it brings code, and that is switched off.
        StoreError: `agent_exists` or `persona_exists`.
    """
    runtime = backend.runtime
    form = (await read_draft(runtime, values)).usable()
    check_free(backend, form.id)
    record = await runtime.agent_store.create(form, author)
    await backend.sync_agents()
    return record


async def replace_all(
    backend: Backend, agent_id: str, values: Mapping[str, Any], author: str, expected: int | None
) -> Agent:
    """Saves a new version of an agent. A masked secret keeps what is there.

    Args:
        backend: the server.
        agent_id: which one.
        values: all fields.
        author: for the history.
        expected: number of the newest version that the author has seen; None: overwrite any.

    Raises:
        DefinitionError: all that is wrong with it, by field.
        StoreError: `agent_not_found`, or `stale_version` with who was faster.
    """
    runtime = backend.runtime
    record = await known(runtime, agent_id)
    form = _same_id((await read_draft(runtime, values, record)).usable(), agent_id)
    saved = await _update(runtime, form, author, expected)
    await backend.sync_agents()
    return saved


async def patch(
    backend: Backend, agent_id: str, changes: Mapping[str, Any], author: str, expected: int | None = None
) -> Agent:
    """Saves a new version with these fields, each as a whole; the others stay.

    Raises:
        DefinitionError: all that is wrong with it, by field.
        StoreError: `agent_not_found`, or `stale_version` if `expected` was given.
    """
    saved = await _patch(backend.runtime, agent_id, changes, author, expected)
    await backend.sync_agents()
    return saved


async def _patch(
    runtime: Runtime, agent_id: str, changes: Mapping[str, Any], author: str, expected: int | None
) -> Agent:
    for attempt in range(1, _ATTEMPTS + 1):
        record = await known(runtime, agent_id)
        if changes == {"enabled": False} and expected is None:
            # Also where it cannot be used any more, and so could not be saved.
            return await runtime.agent_store.set_enabled(agent_id, False, author)
        made = await read_draft(runtime, {**base(record), **changes}, record)
        form = _same_id(made.usable(), agent_id)
        try:
            return await _update(runtime, form, author, record.version if expected is None else expected)
        except StoreError as error:
            if error.code != "stale_version" or expected is not None or attempt == _ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")


async def copy(backend: Backend, agent_id: str, author: str) -> Agent:
    """Saves a disabled copy of an agent under a free id, its secrets included.

    Raises:
        StoreError: `agent_not_found`, or `agent_exists` when no id is free.
        RequestError: it brings code, and that is switched off.
    """
    runtime = backend.runtime
    record = await known(runtime, agent_id)
    check_code_allowed(runtime, record.agent_type)
    for number in range(1, _COPIES):
        end = "-copy" if number == 1 else f"-copy-{number}"
        free = f"{agent_id[: 64 - len(end)]}{end}"
        if backend.has_pipeline(free) or await runtime.agent_store.get(free) is not None:
            continue
        name = f"{record.name[:190]} (copy)" if number == 1 else f"{record.name[:185]} (copy {number})"
        values = {**content(record), "id": free, "name": name, "enabled": False}
        made = await runtime.agent_store.create(AgentForm.parse(values), author, f"copy of {agent_id}")
        await backend.sync_agents()
        return made
    raise StoreError(
        f"There are {_COPIES} copies of {agent_id} already.",
        hint="Delete some of them, or make a new agent.",
        code="agent_exists",
        status=409,
        field="id",
    )


async def delete(backend: Backend, agent_id: str, author: str) -> None:
    """Removes an agent. Its versions stay, and `restore` or a rollback brings it back.

    Raises:
        StoreError: `agent_not_found`.
    """
    await backend.runtime.agent_store.delete(agent_id, author)
    await backend.sync_agents()


async def restore(backend: Backend, agent_id: str, author: str) -> Agent:
    """Brings a deleted agent back as it was.

    Raises:
        StoreError: it never was, or its id was taken meanwhile.
    """
    if await backend.runtime.agent_store.get(agent_id) is not None:
        problem = exists(agent_id)
        raise StoreError(problem.message, hint=problem.hint, code="agent_exists", status=409, field="id")
    newest = (await history(backend.runtime, agent_id))[0]
    return await roll_back(backend, agent_id, newest.number, author)


async def roll_back(backend: Backend, agent_id: str, number: int, author: str) -> Agent:
    """Saves the content of an old version as the newest one; brings a deleted agent back.

    Raises:
        RequestError: that version brings code, and that is switched off.
        StoreError: `unknown_version`, `version_refused`, or its id is a file's now.
    """
    runtime = backend.runtime
    old = (await runtime.agent_store.version(agent_id, number)).form()
    check_code_allowed(runtime, old.agent_type)
    check_free(backend, agent_id)
    record = await runtime.agent_store.rollback(agent_id, number, author)
    await backend.sync_agents()
    return record


async def problems_of(backend: Backend, record: Agent) -> tuple[bool, list[Problem]]:
    """Whether an agent of the store can be used, and why not."""
    allowed = backend.runtime.settings.allow_custom_python
    parts, found = await asyncio.to_thread(stored.read, content(record), allow_code=allowed, strict=False)
    if backend.has_pipeline(record.id):
        found.append(taken(record.id))
    return parts is not None and not found, found


def shown(version: AgentVersion) -> AgentVersion:
    """The version with its secrets masked."""
    values = version.content
    valves = stored.masked(str(values.get("agent_type")), values.get("valves") or {})
    return replace(version, content={**values, "valves": valves})


def check_code_allowed(runtime: Runtime, agent_type: str) -> None:
    """
    Raises:
        RequestError: agents of this type bring code, and that is switched off.
    """
    if agent_type == stored.CODE_TYPE and not runtime.settings.allow_custom_python:
        raise stored.code_is_off()


def check_free(backend: Backend, agent_id: str) -> None:
    """
    Raises:
        StoreError: a file in the pipelines folder has this id.
    """
    if backend.has_pipeline(agent_id):
        problem = taken(agent_id)
        raise StoreError(problem.message, hint=problem.hint, code="agent_exists", status=409, field="id")


def fixed() -> Problem:
    return Problem("id", "An agent's id does not change.", "Create another agent, and delete this one.")


def taken(agent_id: str) -> Problem:
    return Problem(
        "id",
        f"A file in the pipelines folder is called {agent_id} already.",
        "Choose another id, or delete that pipeline.",
    )


def exists(agent_id: str) -> Problem:
    return Problem("id", f"There is an agent {agent_id} already.", "Choose another id, or update that one.")


async def told(runtime: Runtime, agent_id: str, error: StoreError) -> StoreError:
    """The error of the store; of an older version also who was faster, and when."""
    if error.code == "stale_version":
        newest = await runtime.agent_store.history(agent_id, 1)
        if newest:
            return stale(agent_id, newest[0].number, newest[0].author, newest[0].created_at)
    return error


def _same_id(form: AgentForm, agent_id: str) -> AgentForm:
    if form.id != agent_id:
        raise DefinitionError("The agent cannot be saved", problems=[fixed()])
    return form


async def _update(runtime: Runtime, form: AgentForm, author: str, expected: int | None) -> Agent:
    try:
        return await runtime.agent_store.update(form, author, expected=expected)
    except StoreError as error:
        raise await told(runtime, form.id, error) from error
