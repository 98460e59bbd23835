"""An agent of the store as something that can run, and everything that is wrong with one that cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ValidationError

from agent_mode.agents.spec import AgentSpec
from agent_mode.agents.types import AgentType, get_type, read_definition
from agent_mode.errors import DefinitionError, Problem, RequestError, StoreError
from agent_mode.store.agent_forms import AgentForm, content
from agent_mode.store.agent_rows import Agent
from agent_mode.store.agents import AgentStore
from agent_mode.store.book import PersonaBook
from agent_mode.valves import MASK, AgentValves, mask

CODE_TYPE = "custom_python"
_ATTEMPTS = 5
"""How often a change of the valves is tried again when somebody else was faster."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a record says, each part as an instance of the model that its type has for it."""

    kind: AgentType
    definition: Any
    valves: AgentValves

    def spec(self, record: Agent, personas: PersonaBook) -> AgentSpec:
        """The agent as it is now: its persona is looked up anew for each run."""
        persona = personas.get(key) if (key := getattr(self.definition, "persona", None)) else None
        definition = self.definition
        if persona is not None and persona.model and definition.model is None:
            definition = definition.model_copy(update={"model": persona.model})
        own = (getattr(definition, "instructions", None) or "").strip()
        return AgentSpec(
            id=record.id,
            name=record.name,
            description=record.description,
            agent_type=record.agent_type,
            definition=definition,
            valves=self.valves,
            instructions="\n\n".join(text for text in (own, persona.prompt if persona else "") if text),
            model_id=record.id,
        )


def read(
    values: Mapping[str, Any], *, allow_code: bool, strict: bool = True
) -> tuple[Parts | None, list[Problem]]:
    """The parts of an agent, or all that is wrong with it, by field.

    Args:
        values: content of a record or of a form; may hold anything.
        allow_code: whether agents may bring Python code of their own.
        strict: whether valves that are put right in silence count as wrong. Not so with what is stored
            already: a later version of a type may know other valves.
    """
    name, definition, valves = (
        values.get("agent_type"),
        values.get("definition", {}),
        values.get("valves", {}),
    )
    if not isinstance(name, str):
        return None, []  # the form says so
    try:
        kind = get_type(name)
    except DefinitionError as error:
        return None, list(error.problems)
    found: list[Problem] = []
    if name == CODE_TYPE and not allow_code:
        refusal = code_is_off()
        found.append(Problem("agent_type", refusal.message, refusal.hint))
    parsed = usable = None
    if isinstance(definition, Mapping):
        parsed, problems = _definition(kind, definition)
        found += problems
    if isinstance(valves, Mapping):
        wrong = valve_problems(kind, valves) if strict else []
        found += wrong
        if not wrong:
            usable = _valves(kind, {**valves, "access": values.get("access", "openwebui")})
            found += [] if usable is not None else [_refused(kind)]
    if found or parsed is None or usable is None:
        return None, found
    return Parts(kind, parsed, usable), []


def _definition(kind: AgentType, definition: Mapping[str, Any]) -> tuple[Any, list[Problem]]:
    try:
        return read_definition(kind, dict(definition))
    except Exception as error:  # noqa: BLE001  a type of others may look at it with code that fails
        reason = f"The check of the type {kind.name} failed with {type(error).__name__}."
        return None, [Problem("definition", reason, "Whoever wrote the type finds the reason there.")]


def code_is_off() -> RequestError:
    """The error for whoever brings Python code where it is not allowed."""
    return RequestError(
        "Agents with Python code of their own are switched off on this server.",
        hint="Set AGENT_MODE_ALLOW_CUSTOM_PYTHON=true and restart, if whoever has the connection key may run "
        "code here. A file in the pipelines folder needs no such setting.",
        code="custom_python_off",
        status=403,
        field="agent_type",
    )


def valve_problems(kind: AgentType, values: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with valves, by field."""
    hint = f"A {kind.name} has: {', '.join(kind.valves.model_fields)}."
    unknown = [name for name in values if name not in kind.valves.model_fields]
    found = [
        Problem(f"valves.{name}", reason, hint if name in unknown else kind.valves.hint_for(name))
        for name, reason in kind.valves.misfits(values).items()
    ]
    return found or ([] if _valves(kind, values) is not None else [_refused(kind)])


def _refused(kind: AgentType) -> Problem:
    hint = f"A {kind.name} has: {', '.join(kind.valves.model_fields)}."
    return Problem("valves", "The type does not take these values.", hint)


def _valves(kind: AgentType, values: Mapping[str, Any]) -> AgentValves | None:
    try:
        return kind.valves.model_validate(dict(values))
    except ValidationError:  # only of a type that is not ours: our own valves take anything
        return None


def kept_valves(valves: AgentValves) -> dict[str, Any]:
    """What the store keeps of valves: what differs from the defaults. Who may use it stands elsewhere."""
    # Not exclude_defaults: that keeps whatever a serializer of its own dumps.
    fields = type(valves).model_fields
    dumped = valves.model_dump(exclude={"access"})
    return {name: value for name, value in dumped.items() if value != fields[name].get_default()}


def masked(agent_type: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Valves as they may be shown. Of a type that nobody knows any more, every text may be a secret."""
    try:
        secret = get_type(agent_type).valves.secrets()
    except DefinitionError:
        secret = frozenset(values)
    return {
        name: mask(value) if name in secret and isinstance(value, str) else value
        for name, value in values.items()
    }


def unmasked(kind: AgentType, values: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Valves as they are meant: a mask stands for the secret of this very agent, any other for nothing."""
    meant = dict(values)
    for name in kind.valves.secrets() & meant.keys():
        shown, secret = meant[name], known.get(name)
        if isinstance(shown, str) and shown.strip().startswith(MASK):
            meant[name] = (
                secret if isinstance(secret, str) and shown.strip() == mask(secret).strip() else None
            )
    return meant


async def save_valves(
    store: AgentStore, agent_id: str, values: Mapping[str, Any], author: str, expected: int | None = None
) -> Agent:
    """Replaces an agent's valves, `access` among them; what is not named gets its default.

    Args:
        store: the agents.
        agent_id: which one.
        values: as a form posts them: masks stand for what is there, what cannot be used becomes the default.
        author: for the history.
        expected: number of the newest version that the author has seen; None: overwrite any.

    Raises:
        StoreError: there is no such agent, or somebody else was faster.
        DefinitionError: the type is unknown, or does not take the values.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        record = await store.get(agent_id)
        if record is None:
            raise not_found(agent_id)
        kind = get_type(record.agent_type)
        valves = _valves(kind, {"access": record.access, **unmasked(kind, values, record.valves)})
        if valves is None:
            raise DefinitionError("The valves cannot be saved", problems=valve_problems(kind, values))
        changes = {"valves": kept_valves(valves), "access": valves.access}
        form = AgentForm.parse({**content(record), "id": agent_id, **changes})
        seen = record.version if expected is None else expected
        try:
            return await store.update(form, author, "valves changed", expected=seen)
        except StoreError as error:
            if error.code != "stale_version" or expected is not None or attempt == _ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")


def not_found(agent_id: str) -> StoreError:
    """The error for an id that no agent of the store has."""
    return StoreError(
        f"There is no agent {agent_id[:64]!r} in the store.",
        code="agent_not_found",
        status=404,
        hint="GET /api/v1/agents/ lists them. If it was deleted, a rollback brings it back.",
    )


def as_json(problems: list[Problem]) -> list[dict[str, str]]:
    """Problems as the API shows them."""
    return [asdict(problem) for problem in problems]
