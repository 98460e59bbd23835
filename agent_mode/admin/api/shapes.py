"""What the API's answers hold, for its documentation and for who makes them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from agent_mode.agents import stored
from agent_mode.agents.types import AgentType
from agent_mode.prompts import guard
from agent_mode.store.agents import Agent, AgentForm, AgentVersion
from agent_mode.store.personas import Persona, PersonaForm, PersonaHead
from agent_mode.store.run_records import RunRecord, RunState
from agent_mode.store.versions import Version, label_of

VERSION_FIELD = {
    "title": "Version",
    "description": "The version that you have read: its number or its label",
    "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}],
}


class Problem(BaseModel):
    """One thing that is wrong."""

    field: str = Field(description="The field as a dotted path")
    message: str
    hint: str = Field("", description="The cure")


class Error(BaseModel):
    """Every answer of 400 and above."""

    code: str = Field(description="Stable name; docs/troubleshooting.md lists them")
    message: str
    field: str | None = Field(None, description="The field that is wrong, as a dotted path")
    hint: str = Field("", description="The cure")
    retryable: bool = False
    problems: list[Problem] | None = Field(None, description="Where several things are wrong: all of them")


class AgentItem(BaseModel):
    """An agent in a list."""

    id: str
    name: str
    description: str
    agent_type: str
    enabled: bool
    access: Literal["openwebui", "everyone"]
    tags: list[str]
    valves: dict[str, Any] = Field(description="Those that differ from their defaults; secrets masked")
    version: int
    label: str
    offered: bool = Field(description="Whether it is a model in Open WebUI's list now")
    created_at: datetime
    updated_at: datetime


class AgentFull(AgentItem):
    """An agent."""

    definition: dict[str, Any]
    usable: bool
    problems: list[Problem] = Field(description="Why it cannot be used")
    warnings: list[Problem] = Field(description="What it names that is not here now")


class Page(BaseModel):
    """A part of a list."""

    total: int = Field(description="How many fit in all")
    offset: int
    limit: int


class AgentPage(Page):
    items: list[AgentItem]


class VersionItem(BaseModel):
    """A version in a list."""

    number: int
    label: str
    author: str
    message: str
    created_at: datetime
    deleted: bool = Field(False, description="Whether it was deleted here; the content is what it was")


class VersionFull(VersionItem):
    content: dict[str, Any]


class VersionPage(Page):
    items: list[VersionItem]


class Diff(BaseModel):
    """What changed."""

    old: int = Field(alias="from")
    new: int = Field(alias="to")
    diff: str


class Verdict(BaseModel):
    """What is wrong with a draft."""

    valid: bool
    problems: list[Problem]
    warnings: list[Problem] = Field(description="What it names that is not here now")


class TypeItem(BaseModel):
    """A kind of agent."""

    name: str
    title: str
    description: str
    allowed: bool = Field(description="Whether agents of it can be made on this server")
    definition_schema: dict[str, Any]
    valves_schema: dict[str, Any]
    example: dict[str, Any] = Field(description="A definition to begin with")


class TypeList(BaseModel):
    items: list[TypeItem]
    total: int


class PersonaItem(BaseModel):
    """A persona in a list."""

    model_config = ConfigDict(protected_namespaces=())

    key: str
    name: str
    emoji: str
    category: str
    description: str
    capabilities: list[str]
    tags: list[str]
    model: str | None
    enabled: bool
    origin: Literal["shipped", "custom"]
    edited: bool = Field(description="Whether a shipped one was changed here")
    model_id: str
    version: int = Field(description="0 if nothing of it was versioned yet")
    label: str
    created_at: datetime
    updated_at: datetime


class PersonaFull(PersonaItem):
    """A persona."""

    prompt: str
    extras: dict[str, Any]
    flags: list[str] = Field(description="Phrases of its prompt that try to override others")


class PersonaPage(Page):
    items: list[PersonaItem]


class RunItem(BaseModel):
    """A run in a list."""

    id: str
    parent_id: str | None
    agent: str
    agent_type: str
    user_id: str | None
    chat_id: str | None
    message_id: str | None
    model: str | None
    state: RunState
    steps: int
    tool_calls: int = Field(description="How many")
    usage: dict[str, Any]
    error: dict[str, Any] | None
    started_at: datetime
    ended_at: datetime | None
    duration_ms: int | None


class RunFull(BaseModel):
    """A run with what it called."""

    id: str
    parent_id: str | None
    agent: str
    agent_type: str
    user_id: str | None
    chat_id: str | None
    message_id: str | None
    model: str | None
    state: RunState
    steps: int
    tool_calls: list[dict[str, Any]]
    usage: dict[str, Any]
    error: dict[str, Any] | None
    trace: str | None
    started_at: datetime
    ended_at: datetime | None
    duration_ms: int | None
    children: list[RunItem]


class RunPage(Page):
    items: list[RunItem]


class Stopped(BaseModel):
    """That a run was told to stop."""

    id: str
    stopped: bool = Field(description="False: another replica runs it, and was told to stop it")


class CredentialState(BaseModel):
    """Whether there is an API key of a user."""

    user_id: str
    has_credential: bool


class RunResult(BaseModel):
    """What a plain request to an agent came to."""

    output: str
    run_id: str
    usage: dict[str, Any]
    sources: list[dict[str, Any]]
    images: list[dict[str, Any]]
    tool_calls: list[dict[str, Any]] = Field(
        description="Calls of the request's own tools, for you to execute"
    )


AGENT_READ_ONLY = AgentFull.model_fields.keys() - AgentForm.model_fields.keys() - {"version"}
"""What an answer tells and no input changes; left alone, so that what was read can be sent back."""
PERSONA_READ_ONLY = PersonaFull.model_fields.keys() - PersonaForm.model_fields.keys() - {"version"}


def agent(record: Agent) -> dict[str, Any]:
    """An agent as a list shows it, but for `offered`."""
    return {
        "id": record.id,
        "name": record.name,
        "description": record.description,
        "agent_type": record.agent_type,
        "enabled": record.enabled,
        "access": record.access,
        "tags": list(record.tags),
        "valves": stored.masked(record.agent_type, record.valves),
        "version": record.version,
        "label": label_of(record.version),
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def agent_version(version: AgentVersion) -> dict[str, Any]:
    """A version of an agent as a list shows it."""
    return {
        "number": version.number,
        "label": version.label,
        "author": version.author,
        "message": version.message,
        "created_at": version.created_at,
        "deleted": version.deleted,
    }


def persona(record: Persona | PersonaHead, version: int) -> dict[str, Any]:
    """A persona as a list shows it."""
    return {
        "key": record.key,
        "name": record.name,
        "emoji": record.emoji,
        "category": record.category,
        "description": record.description,
        "capabilities": list(record.capabilities),
        "tags": list(record.tags),
        "model": record.model,
        "enabled": record.enabled,
        "origin": record.origin,
        "edited": record.edited,
        "model_id": f"personas.{record.key}",
        "version": version,
        "label": label_of(version) if version else "",
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def full_persona(record: Persona, version: int) -> dict[str, Any]:
    """A persona with its prompt."""
    flags = guard.override_phrases(record.prompt)
    return persona(record, version) | {"prompt": record.prompt, "extras": record.extras, "flags": flags}


def persona_version(version: Version) -> dict[str, Any]:
    """A version of a persona as a list shows it."""
    return {
        "number": version.number,
        "label": version.label,
        "author": version.author,
        "message": version.message,
        "created_at": version.created_at,
    }


def run(record: RunRecord) -> dict[str, Any]:
    """A run as a list shows it."""
    return {name: getattr(record, name) for name in RunItem.model_fields} | {
        "tool_calls": len(record.tool_calls)
    }


def full_run(record: RunRecord, children: list[RunRecord]) -> dict[str, Any]:
    """A run with its tool calls, its trace and what it called."""
    told = {name: getattr(record, name) for name in RunFull.model_fields if name != "children"}
    return told | {"children": [run(child) for child in children]}


def kind(of: AgentType, example: dict[str, Any], *, allowed: bool) -> dict[str, Any]:
    """An agent type."""
    return {
        "name": of.name,
        "title": of.title,
        "description": of.description,
        "allowed": allowed,
        "definition_schema": of.schema(),
        "valves_schema": of.valves.model_json_schema(),
        "example": example,
    }


def agent_schema(*, versioned: bool = False, partial: bool = False) -> dict[str, Any]:
    """JSON schema of an agent as input."""
    return _form_schema(AgentForm.model_json_schema(), "id", versioned=versioned, partial=partial)


def persona_schema(*, versioned: bool = False, partial: bool = False) -> dict[str, Any]:
    """JSON schema of a persona as input."""
    return _form_schema(PersonaForm.model_json_schema(), "key", versioned=versioned, partial=partial)


def _form_schema(
    schema: dict[str, Any], key: str, *, versioned: bool = False, partial: bool = False
) -> dict[str, Any]:
    """The schema for a route: what is replaced needs a version and no key, what is changed needs nothing."""
    required = [name for name in schema.get("required", ()) if not partial]
    if versioned or partial:
        schema["properties"]["version"] = VERSION_FIELD
    if versioned:
        required = [*(name for name in required if name != key), "version"]
    return {**schema, "required": required} if required else schema | {"required": []}
