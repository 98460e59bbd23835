"""Bringing personas of a file into the store: first a plan that a person can look at, then the deed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from agent_mode.errors import CatalogueError
from agent_mode.store.formats import Entry
from agent_mode.store.formats.entries import validated
from agent_mode.store.forms import PersonaForm, content_hash
from agent_mode.store.names import taken_by_agent
from agent_mode.store.personas import Persona, PersonaStore

Outcome = Literal["created", "updated", "unchanged", "refused"]


def in_words(outcome: Outcome, *, planned: bool) -> str:
    """What happens to an entry, or would happen."""
    return f"would be {outcome}" if planned and outcome != "unchanged" else outcome


@dataclass(frozen=True, slots=True)
class ImportStep:
    """What happens to one entry of the file."""

    name_in_file: str
    outcome: Outcome
    key: str | None = None
    """The persona's key; None for an entry that is no usable persona."""
    reason: str | None = None
    """Why it was refused, and the cure."""
    field: str | None = None
    form: PersonaForm | None = None
    """What is written, for an entry that is created or updated."""
    seen: str | None = None
    """What the plan found under this key, as a mark that changes with it."""


@dataclass(frozen=True, slots=True)
class _Steps:
    steps: tuple[ImportStep, ...]

    def keys(self, outcome: Outcome) -> tuple[str, ...]:
        """The keys of the entries with this outcome, in the order of the file."""
        return tuple(step.key for step in self.steps if step.outcome == outcome and step.key is not None)

    def count(self, outcome: Outcome) -> int:
        """How many entries have this outcome."""
        return sum(step.outcome == outcome for step in self.steps)


class ImportPlan(_Steps):
    """What an import would do, entry by entry."""


class ImportReport(_Steps):
    """What an import did, entry by entry."""


async def plan_import(
    store: PersonaStore, entries: Iterable[Entry], *, overwrite: bool = False
) -> ImportPlan:
    """Compare the entries of a file with the store. Writes nothing.

    Args:
        store: the personas.
        entries: from `formats.read`.
        overwrite: whether to replace what the user wrote: custom personas, and edited shipped ones.
    """
    known = {persona.key: persona for persona in await store.all()}
    planned: set[str] = set()
    steps: list[ImportStep] = []
    entries = list(entries)
    agents = await store.agents_among([entry.form.key for entry in entries if entry.form is not None])
    for entry in entries:
        step = _step(entry, known, planned, agents, overwrite=overwrite)
        if step.key is not None:
            planned.add(step.key)
        steps.append(step)
    return ImportPlan(tuple(steps))


async def apply_import(
    store: PersonaStore, plan: ImportPlan, author: str, *, message: str = "imported"
) -> ImportReport:
    """Do what the plan says, all in one transaction or nothing.

    A persona that somebody changed since the plan was made is refused, so that nobody's work is lost unseen.

    Args:
        store: the personas, as the plan saw them.
        plan: from `plan_import`.
        author: who imports, for the history.
        message: why, for the history.

    Raises:
        StoreError: nothing was written.
    """
    now = {persona.key: _mark(persona) for persona in await store.all()}
    steps = tuple(_checked(step, now) for step in plan.steps)
    forms = [step.form for step in steps if step.form is not None]
    if forms:
        await store.save_all(forms, author=author, message=message)
    return ImportReport(steps)


def _step(
    entry: Entry, known: Mapping[str, Persona], planned: set[str], agents: set[str], *, overwrite: bool
) -> ImportStep:
    name, form = entry.name_in_file, entry.form
    if form is None:
        return ImportStep(name, "refused", reason=entry.problem, field=entry.field)
    if form.key in planned:
        return _refused(name, form.key, "Another entry of this import has the same key. Import them in turn.")
    there = known.get(form.key)
    if form.key in agents and form.enabled and not (there and there.enabled):
        return _refused(name, form.key, str(taken_by_agent(form.key)))
    if there is None:
        return ImportStep(name, "created", form.key, form=form)
    # What other formats said about this persona stays with it.
    try:
        form = validated(form.model_dump() | {"extras": there.extras | form.extras})
    except CatalogueError as error:
        return _refused(name, form.key, str(error))
    if (content_hash(form), form.enabled) == (there.content_hash, there.enabled):
        return ImportStep(name, "unchanged", form.key)
    if not overwrite and (there.origin == "custom" or there.edited):
        whose = (
            "You have a persona of your own" if there.origin == "custom" else "You have edited the persona"
        )
        reason = f"{whose} under the key '{form.key}'. Import with overwriting, or rename one of the two."
        return _refused(name, form.key, reason)
    return ImportStep(name, "updated", form.key, form=form, seen=_mark(there))


def _checked(step: ImportStep, now: Mapping[str, str]) -> ImportStep:
    if step.form is None or step.key is None or now.get(step.key) == step.seen:
        return step
    return _refused(step.name_in_file, step.key, "Somebody changed this persona meanwhile. Make a new plan.")


def _refused(name: str, key: str, reason: str) -> ImportStep:
    return ImportStep(name, "refused", key, reason)


def _mark(persona: Persona) -> str:
    return f"{persona.content_hash} {persona.enabled}"
