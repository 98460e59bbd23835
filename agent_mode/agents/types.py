"""The agent types: which engine runs a definition, and what a definition of that type looks like.

A third party adds a type by decorating its engine, and makes it known by an entry point:

    @agent_type("crewai_crew", definition=CrewDefinition, title="CrewAI crew")
    class CrewEngine:
        async def run(self, work: Work) -> None: ...

    [project.entry-points."agent_mode.agent_types"]
    crewai_crew = "my_package.engine"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError

from agent_mode.agents.definitions import (
    CustomPythonDefinition,
    Definition,
    LlamaIndexDefinition,
    PersonaDefinition,
)
from agent_mode.complaints import complaints
from agent_mode.errors import DefinitionError, Problem
from agent_mode.observe.logs import get_logger
from agent_mode.observe.redaction import said
from agent_mode.valves import AgentValves, CustomPythonValves

log = get_logger(__name__)

ENTRY_POINTS = "agent_mode.agent_types"


class Engine(Protocol):
    """Runs agents of one type. Made anew for each run."""

    async def run(self, work: Any) -> None:
        """Does the work (`agents/work.py`); everything goes out through it.

        Raises:
            AgentModeError: readable; what was sent before stays.
        """
        ...


@dataclass(frozen=True, slots=True)
class AgentType:
    """One kind of agent.

    Args:
        name: as records name it.
        title: as people see it.
        description: what it is for.
        definition: the model that a definition must fit.
        valves: the valves that agents of this type have.
        engine: its class, or where to find it (`module:Class`), imported when the first one runs.
        transcript_suffices: whether a run that was interrupted by the caller's tools can go on from the
            transcript alone.
        check: finds in a definition what a schema cannot.
    """

    name: str
    title: str
    description: str
    definition: type[BaseModel]
    engine: type[Any] | str
    valves: type[AgentValves] = AgentValves
    transcript_suffices: bool = False
    check: Callable[[Any], list[Problem]] | None = None

    def make_engine(self) -> Engine:
        engine = self.engine
        if isinstance(engine, str):
            module, _, name = engine.partition(":")
            engine = getattr(import_module(module), name)
        return engine()

    def schema(self) -> dict[str, Any]:
        """The JSON schema of a definition; what is served is what validates."""
        return self.definition.model_json_schema()


_types: dict[str, AgentType] = {}


def register(kind: AgentType) -> None:
    _types[kind.name] = kind


def agent_type(
    name: str,
    *,
    definition: type[BaseModel],
    title: str | None = None,
    description: str = "",
    valves: type[AgentValves] = AgentValves,
    transcript_suffices: bool = False,
    check: Callable[[Any], list[Problem]] | None = None,
) -> Callable[[type[Any]], type[Any]]:
    """Registers the decorated class as the engine of a type."""

    def decorate(engine: type[Any]) -> type[Any]:
        told = description or (engine.__doc__ or "").strip().partition("\n")[0]
        register(AgentType(name, title or name, told, definition, engine, valves, transcript_suffices, check))
        return engine

    return decorate


def engine_for(agent_type: str, code: Any) -> Engine:
    """The engine of an agent; `code` is the object of a pipeline file, which may hold the work itself.

    Raises:
        DefinitionError: the type is unknown.
    """
    if code is not None and agent_type == "custom_python":
        return import_module("agent_mode.agents.file_code").FileCodeEngine()  # trusted: in the server itself
    return get_type(agent_type).make_engine()


def all_types() -> dict[str, AgentType]:
    """Every known type by name, those of installed packages included."""
    _load_entry_points()
    return dict(_types)


def get_type(name: str) -> AgentType:
    """The type of this name.

    Raises:
        DefinitionError: there is none; the known ones are named.
    """
    kind = _types.get(name) or all_types().get(name)
    if kind is None:
        known = ", ".join(sorted(_types))
        problem = Problem("agent_type", f"There is no agent type “{name}”.", f"Known types: {known}.")
        raise DefinitionError("The agent cannot be used", problems=[problem])
    return kind


def parse_definition(kind: AgentType, definition: Any) -> Any:
    """The definition as an instance of its model.

    Raises:
        DefinitionError: names every field that is wrong.
    """
    parsed, problems = read_definition(kind, definition)
    if problems:
        raise DefinitionError("The definition cannot be used", problems=problems)
    return parsed


def read_definition(kind: AgentType, definition: Any) -> tuple[Any, list[Problem]]:
    """As `parse_definition`, with everything that is wrong as a list instead of an error."""
    parsed, found = None, list[Problem]()
    try:
        parsed = kind.definition.model_validate(definition)
    except ValidationError as error:
        told = complaints(error.errors(include_url=False), known=kind.definition.model_fields)
        found = [Problem(f"definition.{c.field}".rstrip("."), f"{c.message}.", c.hint) for c in told]
    if issubclass(kind.definition, Definition) and isinstance(definition, Mapping):
        misfits = kind.definition.misfits(definition)
        found += [replace(problem, field=f"definition.{problem.field}") for problem in misfits]
    if parsed is not None and kind.check is not None:
        found += kind.check(parsed)
    return parsed, found


@cache
def _load_entry_points() -> None:
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            loaded = entry.load()
        except Exception as error:  # noqa: BLE001  whatever a foreign package does, ours goes on
            log.error(
                "agent type left out", entry=entry.name, reason=f"{type(error).__name__}: {said(error)}"
            )
            continue
        if isinstance(loaded, AgentType):
            register(loaded)


register(
    AgentType(
        "persona",
        "Persona",
        "Speaks as a persona; with tools in a lean loop of our own.",
        PersonaDefinition,
        "agent_mode.agents.toolloop:ToolLoop",
        transcript_suffices=True,
    )
)
register(
    AgentType(
        "llamaindex_workflow",
        "LlamaIndex",
        "A LlamaIndex agent: tool calls, ReAct, or several agents that hand over.",
        LlamaIndexDefinition,
        "agent_mode.agents.llamaindex:LlamaIndexEngine",
    )
)
register(
    AgentType(
        "custom_python",
        "Custom Python",
        "Python code of your own, in a process of its own.",
        CustomPythonDefinition,
        "agent_mode.agents.custom_python:CustomPythonEngine",
        CustomPythonValves,
    )
)
