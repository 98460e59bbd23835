"""Agents in a file: what the command `export --agents` writes and `import` brings back, secrets included."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from agent_mode.errors import CatalogueError, DefinitionError, StoreError
from agent_mode.store.agents import AgentForm, AgentStore, content
from agent_mode.store.imports import ImportStep
from agent_mode.store.personas import PersonaStore

FORMAT = "agent-mode-agents"
_TAKEN = ("agent_exists", "persona_exists")


async def written(store: AgentStore) -> tuple[bytes, int]:
    """All agents as a file of ours, and how many they are."""
    entries = [{"id": agent.id, **content(agent)} for agent in await store.all()]
    document = {"format": FORMAT, "version": 1, "agents": entries}
    return json.dumps(document, ensure_ascii=False, indent=2).encode() + b"\n", len(entries)


def read(data: bytes) -> list[Any] | None:
    """The entries of a file; None: it is no file of agents.

    Raises:
        CatalogueError: it is one, and damaged.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        return None
    entries = document.get("agents")
    if document.get("version") != 1 or not isinstance(entries, list):
        raise CatalogueError(
            "This file of agents cannot be read: it has no list of agents, or is of a newer version.",
            hint="Export it once more, or update Agent Mode.",
            field="agents",
        )
    return entries


async def bring(
    store: AgentStore,
    personas: PersonaStore,
    entries: Sequence[Any],
    author: str,
    message: str,
    *,
    overwrite: bool,
    apply: bool,
) -> list[ImportStep]:
    """What happens to each entry, or would happen. What its definition means, the server judges that runs it.

    Args:
        store: where they go.
        personas: whose keys no enabled agent may have.
        entries: as `read` gives them.
        author: for the history.
        message: likewise.
        overwrite: also replace agents that are another way by now.
        apply: do it.
    """
    steps: list[ImportStep] = []
    for place, entry in enumerate(entries, start=1):
        try:
            form = AgentForm.parse(entry)
        except DefinitionError as error:
            steps.append(ImportStep(f"entry {place}", "refused", reason=error.message))
            continue
        step = await _planned(store, personas, form, overwrite=overwrite)
        if apply:
            try:
                if step.outcome == "created":
                    await store.create(form, author, message)
                elif step.outcome == "updated":
                    await store.update(form, author, message)
            except StoreError as error:
                if error.code not in _TAKEN:
                    raise
                step = ImportStep(form.name, "refused", form.id, error.message)
        steps.append(step)
    return steps


async def _planned(
    store: AgentStore, personas: PersonaStore, form: AgentForm, *, overwrite: bool
) -> ImportStep:
    known = await store.get(form.id)
    if known is not None and content(known) == content(form):
        return ImportStep(form.name, "unchanged", form.id)
    if known is not None and not overwrite:
        reason = "There is one of this id, and it is another way. --overwrite replaces it."
        return ImportStep(form.name, "refused", form.id, reason)
    persona = await personas.get(form.id) if form.enabled else None
    if persona is not None and persona.enabled:
        reason = f"There is a persona {form.id} already; an agent cannot have the same name."
        return ImportStep(form.name, "refused", form.id, reason)
    return ImportStep(form.name, "created" if known is None else "updated", form.id)
