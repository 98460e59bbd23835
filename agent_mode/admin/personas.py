"""Personas of the store, as the API and the Agents page deal with them: find, make, change, bring back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from agent_mode.admin.api.errors import FormError
from agent_mode.admin.conflicts import stale
from agent_mode.agents.directory import as_agent
from agent_mode.agents.spec import AgentSpec
from agent_mode.chat.runtime import Runtime
from agent_mode.errors import Problem, RequestError, StoreError
from agent_mode.prompts import guard
from agent_mode.store.forms import problems
from agent_mode.store.personas import Persona, PersonaForm, PersonaHead, Version, content_hash
from agent_mode.store.versions import label_of

_ADVICE = (
    "Say what the persona is, not what to ignore: AGENT_MODE_OVERRIDE_PHRASES decides what becomes of it."
)
_COPIES = 100
"""How many names a copy is looked for."""
_KEY_CHARS = 32


@dataclass(frozen=True, slots=True)
class Filter:
    """Which personas a list shows; None: whatever it is."""

    text: str | None = None
    """Part of the key, the name or the description, in whichever case."""
    category: str | None = None
    enabled: bool | None = None
    origin: str | None = None
    tag: str | None = None
    edited: bool | None = None


def fitting(personas: Sequence[PersonaHead], wanted: Filter) -> list[PersonaHead]:
    """Those of the personas that belong into a list. Pure."""
    asked = [
        (name, value)
        for name in ("category", "enabled", "origin", "edited")
        if (value := getattr(wanted, name)) is not None
    ]
    word = (wanted.text or "").strip().casefold()
    return [
        persona
        for persona in personas
        if all(getattr(persona, name) == value for name, value in asked)
        and (wanted.tag is None or wanted.tag in persona.tags)
        and (not word or word in f"{persona.key}\n{persona.name}\n{persona.description}".casefold())
    ]


async def page(runtime: Runtime, wanted: Filter, offset: int, limit: int) -> tuple[list[PersonaHead], int]:
    """A part of the personas that fit, by category and name, and how many fit in all."""
    found = fitting(await runtime.persona_store.heads(), wanted)
    return found[offset : offset + limit], len(found)


async def categories(runtime: Runtime) -> dict[str, int]:
    """How many personas each category holds, by name."""
    counted = Counter(persona.category for persona in await runtime.persona_store.heads())
    return dict(sorted(counted.items(), key=lambda item: item[0].casefold()))


async def known(runtime: Runtime, key: str) -> Persona:
    """The persona with this key.

    Raises:
        RequestError: `persona_not_found`.
    """
    record = await runtime.persona_store.get(key)
    if record is None:
        raise RequestError(
            f"There is no persona {key[:64]!r}.",
            hint="The list shows those that there are. If it was deleted, a rollback brings it back.",
            code="persona_not_found",
            status=404,
        )
    return record


async def speaker(runtime: Runtime, key: str) -> AgentSpec:
    """The persona as the agent that it is, to be asked something.

    Raises:
        RequestError: `persona_not_found` or `persona_disabled`.
    """
    record = await known(runtime, key)
    if not record.enabled:
        raise RequestError(
            f"{record.name} is disabled.",
            hint=f'PUT /api/v1/personas/{key} with "enabled": true.',
            code="persona_disabled",
            status=409,
        )
    if runtime.personas.get(key) is None:  # enabled a moment ago, on another replica
        await runtime.personas.refresh(runtime.persona_store)
    return as_agent(record, runtime.directory.persona_valves())


async def newest(runtime: Runtime, key: str) -> int:
    """Number of the persona's newest version; 0: nothing of it was versioned yet."""
    return (await runtime.persona_store.newest(key)).get(key, 0)


async def history(runtime: Runtime, key: str) -> list[Version]:
    """The versions of a persona, the newest first; those of a deleted one too.

    Raises:
        RequestError: `persona_not_found`.
    """
    found = await runtime.persona_store.history(key)
    if not found:
        await known(runtime, key)
    return found


async def version(runtime: Runtime, key: str, number: int) -> Version:
    """One version.

    Raises:
        StoreError: `unknown_version`.
    """
    return await runtime.persona_store.version(key, label_of(number))


async def create(runtime: Runtime, values: Mapping[str, Any], author: str, message: str = "") -> Persona:
    """Saves a new persona. Enabled, it is a model at once.

    Raises:
        FormError: all that is wrong with it, by field.
        RequestError: `override_phrases`.
        StoreError: `persona_exists`.
    """
    made = _acceptable(runtime, form(values))
    if await runtime.persona_store.get(made.key) is not None:
        raise _exists(made.key)
    try:
        record = await runtime.persona_store.save(made, author=author, message=message, expected=0)
    except StoreError as error:
        raise _exists(made.key) if error.code == "stale_version" else error from error
    await runtime.personas.refresh(runtime.persona_store)
    return record


async def replace_all(
    runtime: Runtime, key: str, values: Mapping[str, Any], author: str, expected: int | None
) -> Persona:
    """Saves a new version of a persona. What is not named is empty then, but for `enabled` and `extras`.

    Args:
        runtime: of the server.
        key: which one.
        values: its fields.
        author: for the history.
        expected: number of the newest version that the author has seen; None: overwrite any.

    Raises:
        FormError: all that is wrong with it, by field.
        RequestError: `persona_not_found` or `override_phrases`.
        StoreError: `stale_version`, with who was faster.
    """
    record = await known(runtime, key)
    made = _acceptable(
        runtime, form({"key": key, "enabled": record.enabled, "extras": record.extras, **values})
    )
    if made.key != key:
        raise FormError("The persona cannot be saved", problems=[_fixed()])
    try:
        saved = await runtime.persona_store.save(made, author=author, expected=expected)
    except StoreError as error:
        raise await _told(runtime, key, error) from error
    await runtime.personas.refresh(runtime.persona_store)
    return saved


async def set_enabled(runtime: Runtime, key: str, enabled: bool, author: str) -> Persona:
    """Makes a persona a model, or no model any more; that makes no version.

    Raises:
        RequestError: `persona_not_found`.
        StoreError: `stale_version`: somebody changed it in this moment.
    """
    seen = await newest(runtime, key)
    record = await known(runtime, key)
    changed = form({**values_of(record), "enabled": enabled})
    saved = await runtime.persona_store.save(changed, author=author, expected=seen)
    await runtime.personas.refresh(runtime.persona_store)
    return saved


async def copy(runtime: Runtime, key: str, author: str) -> Persona:
    """Saves a disabled copy of a persona under a free key.

    Raises:
        RequestError: `persona_not_found`.
        StoreError: `persona_exists` when no key is free.
    """
    record = await known(runtime, key)
    for number in range(1, _COPIES):
        end = "-copy" if number == 1 else f"-copy-{number}"
        free = f"{key[: _KEY_CHARS - len(end)]}{end}"
        if await runtime.persona_store.get(free) is not None:
            continue
        name = (
            f"{record.name[: 80 - len(' (copy 99)')]} (copy)"
            if number == 1
            else f"{record.name[:70]} (copy {number})"
        )
        values = {**values_of(record), "key": free, "name": name, "enabled": False}
        return await create(runtime, values, author, f"copy of {key}")
    raise StoreError(
        f"There are {_COPIES} copies of {key} already.",
        hint="Delete some of them, or make a new persona.",
        code="persona_exists",
        status=409,
        field="key",
    )


async def delete(runtime: Runtime, key: str) -> Persona:
    """Removes a persona of one's own, and disables a shipped one. Its versions stay.

    Returns:
        what it was, for `restore`.

    Raises:
        RequestError: `persona_not_found`.
    """
    record = await known(runtime, key)
    await runtime.persona_store.delete(key)
    await runtime.personas.refresh(runtime.persona_store)
    return record


async def restore(runtime: Runtime, record: Persona, author: str) -> Persona:
    """Brings a deleted persona back as it was.

    Raises:
        StoreError: `persona_exists`: its key was taken meanwhile.
    """
    there = await runtime.persona_store.get(record.key)
    if there is not None:
        if there.content_hash != record.content_hash:
            raise _exists(record.key)
        return await set_enabled(runtime, record.key, record.enabled, author)
    back = form(values_of(record))
    saved = await runtime.persona_store.save(back, author=author, message="brought back", expected=0)
    await runtime.personas.refresh(runtime.persona_store)
    return saved


async def roll_back(runtime: Runtime, key: str, number: int, author: str) -> Persona:
    """Saves the content of an old version as the newest one; brings a deleted persona back.

    Raises:
        RequestError: `override_phrases`.
        StoreError: `unknown_version` or `version_refused`.
    """
    _acceptable(runtime, (await version(runtime, key, number)).form())
    record = await runtime.persona_store.rollback(key, label_of(number), author)
    await runtime.personas.refresh(runtime.persona_store)
    return record


async def check(
    runtime: Runtime, values: Mapping[str, Any], record: Persona | None = None
) -> tuple[list[Problem], list[Problem]]:
    """Everything that is wrong with a persona, by field, and what is odd about it. Saves nothing.

    Args:
        runtime: of the server.
        values: all fields.
        record: the one that they are to replace; None: it is new.
    """
    wrong: list[Problem] = []
    odd: list[Problem] = []
    try:
        form(values)
    except FormError as error:
        wrong += error.problems
    unusable = {problem.field for problem in wrong}
    prompt, key = (None if name in unusable else values.get(name) for name in ("prompt", "key"))
    if isinstance(prompt, str):
        (wrong if runtime.settings.override_phrases == "refuse" else odd).extend(flagged(prompt))
    if not isinstance(key, str):
        return wrong, odd
    key = key.strip()
    if record is not None and key != record.key:
        wrong.append(_fixed())
    elif record is None and await runtime.persona_store.get(key) is not None:
        odd.append(Problem("key", f"There is a persona {key} already.", "PUT replaces it."))
    if await runtime.agent_store.get(key) is not None:
        hint = "Choose another key: the persona cannot be enabled beside it."
        odd.append(Problem("key", f"An agent is called {key} too.", hint))
    return wrong, odd


def form(values: Mapping[str, Any]) -> PersonaForm:
    """The fields as a persona.

    Raises:
        FormError: all that is wrong, by field.
    """
    try:
        return PersonaForm.model_validate(dict(values))
    except ValidationError as error:
        found = [Problem(entry.field, f"{entry.message}.", entry.hint) for entry in problems(error)]
        raise FormError("The persona cannot be saved", problems=found) from error


def values_of(source: Persona | PersonaForm) -> dict[str, Any]:
    """All fields of a persona, as `form` takes them."""
    return {name: getattr(source, name) for name in PersonaForm.model_fields}


def differs(record: Persona, values: Mapping[str, Any]) -> bool:
    """Whether fields that can be saved would change a persona. Pure."""
    made = form(values)
    return (content_hash(made), made.enabled) != (record.content_hash, record.enabled)


def flagged(prompt: str) -> list[Problem]:
    """What is odd about instructions."""
    phrases = guard.override_phrases(prompt)
    message = f"The prompt carries override phrases: {', '.join(phrases)}."
    return [Problem("prompt", message, _ADVICE)] if phrases else []


def _acceptable(runtime: Runtime, made: PersonaForm) -> PersonaForm:
    found = flagged(made.prompt)
    if found and runtime.settings.override_phrases == "refuse":
        [problem] = found
        raise RequestError(
            problem.message, hint=problem.hint, code="override_phrases", status=422, field=problem.field
        )
    return made


async def _told(runtime: Runtime, key: str, error: StoreError) -> StoreError:
    if error.code == "stale_version":
        found = await runtime.persona_store.history(key)
        if found:
            return stale(key, found[0].number, found[0].author, found[0].created_at)
    return error


def _fixed() -> Problem:
    return Problem("key", "A persona's key does not change.", "Create another, and delete this one.")


def _exists(key: str) -> StoreError:
    return StoreError(
        f"There is a persona {key} already.",
        hint="Choose another key, or update the one that is there.",
        code="persona_exists",
        status=409,
        field="key",
    )
