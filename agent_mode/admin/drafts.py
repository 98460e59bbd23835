"""Agents as somebody writes them: everything that is wrong with a draft at once, and what is odd about it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.util import find_spec
from typing import Any

from agent_mode.admin.backend import Backend
from agent_mode.agents import stored
from agent_mode.agents.stored import Parts
from agent_mode.agents.types import all_types, get_type
from agent_mode.chat.runtime import Runtime
from agent_mode.errors import AgentModeError, ConfigurationError, DefinitionError, Problem
from agent_mode.llm import connection as connections
from agent_mode.store.agents import Agent, AgentForm, content
from agent_mode.tools.specs import ToolSpec, allowed
from agent_mode.valves import MASK

_SECRET = (
    r"""(?P<key>(?<![\w\\])["']?(?P<name>{})["']?\s*:\s*)"""
    r"""(?P<value>"(?:[^"\\\n]|\\.)*"?|'(?:[^'\\\n]|\\.)*'?|[^\s"'\\,}}\]]+)"""
)
"""A secret by its name, in JSON that somebody is typing: quotes may be others, or missing."""
_PROVIDER_SECONDS = 5.0
"""How long the provider may take to list its models."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What became of the values of an agent.

    Attributes:
        form: ready to save; None if something is wrong.
        parts: definition and valves as their models; None if something is wrong.
        problems: all that is wrong, by field.
    """

    form: AgentForm | None = None
    parts: Parts | None = None
    problems: list[Problem] = field(default_factory=list)

    def usable(self) -> AgentForm:
        """The form to save.

        Raises:
            RequestError: it brings code, and that is switched off.
            DefinitionError: all that is wrong with it.
        """
        if self.form is not None:
            return self.form
        refusal = stored.code_is_off()
        if any(problem.message == refusal.message for problem in self.problems):
            raise refusal
        raise DefinitionError("The agent cannot be saved", problems=self.problems)


def draft(values: Any, *, known: Agent | None, allow_code: bool) -> Draft:
    """Reads the values of an agent.

    Args:
        values: as they came, of any kind.
        known: the agent that they are to replace; masked valves stand for what it has.
        allow_code: whether agents may bring Python code of their own.
    """
    meant = _meant(values, known) if isinstance(values, Mapping) else values
    form, problems = None, list[Problem]()
    try:
        form = AgentForm.parse(meant)
    except DefinitionError as error:
        problems = list(error.problems)
    parts = None
    if isinstance(meant, Mapping):
        parts, found = stored.read(meant, allow_code=allow_code)
        problems += [problem for problem in found if problem not in problems]
    if form is None or parts is None:
        return Draft(problems=problems)
    return Draft(form.model_copy(update={"valves": stored.kept_valves(parts.valves)}), parts)


def _meant(values: Mapping[str, Any], known: Agent | None) -> dict[str, Any]:
    meant = dict(values)
    valves = meant.get("valves")
    if not isinstance(valves, Mapping):
        return meant
    valves = dict(valves)
    if "access" in valves:
        meant.setdefault("access", valves.pop("access"))
    try:
        kind = get_type(str(meant.get("agent_type")))
    except DefinitionError:
        return meant
    return {**meant, "valves": stored.unmasked(kind, valves, known.valves if known else {})}


def without_secrets(values: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """A draft as it may be kept elsewhere: in place of a new secret stands what was there before. Pure.

    Args:
        values: the draft; may hold anything.
        known: the agent that it changes, with masked secrets; empty: none.
    """
    valves = values.get("valves")
    if not isinstance(valves, Mapping):
        return dict(values)
    try:
        secrets = get_type(str(values.get("agent_type"))).valves.secrets()
    except DefinitionError:
        secrets = frozenset(valves)
    fresh = {
        name
        for name in secrets & valves.keys()
        if isinstance(valves[name], str) and not valves[name].strip().startswith(MASK)
    }
    before = known.get("valves") or {}
    kept = {
        name: before[name] if name in fresh else value
        for name, value in valves.items()
        if name not in fresh or name in before
    }
    return {**values, "valves": kept}


def text_without_secrets(text: str, known: Mapping[str, Any]) -> str:
    """The JSON of a draft that cannot be read yet, as `without_secrets` has what can. Pure.

    Args:
        text: as it was typed.
        known: the agent that it changes, with masked secrets; empty: none.
    """
    before = known.get("valves") or {}
    names = {name for kind in all_types().values() for name in kind.valves.secrets()}
    names |= {name for name, value in before.items() if isinstance(value, str) and value.startswith(MASK)}
    if not names:
        return text

    def kept(found: re.Match[str]) -> str:
        value = found["value"].strip("\"'")
        code = found["value"] == value and not found["key"].startswith('"')  # no JSON begins so
        if not value or value == "null" or value.startswith(MASK) or code:
            return found[0]
        return found["key"] + json.dumps(before.get(found["name"]) or "", ensure_ascii=False)

    return re.sub(_SECRET.format("|".join(map(re.escape, sorted(names)))), kept, text)


async def oddities(
    backend: Backend,
    form: AgentForm,
    parts: Parts,
    tools: Sequence[ToolSpec] | None = None,
    *,
    ask_provider: bool = True,
) -> list[Problem]:
    """What an agent names that is not here now. It can be saved all the same: it may be here tomorrow.

    Args:
        backend: the running server.
        form: the agent.
        parts: the same, each part as its model.
        tools: those that there are; None: nobody knows.
        ask_provider: whether to ask the model provider for its models, which may take seconds.
    """
    runtime = backend.runtime
    found: list[Problem] = []
    persona = getattr(parts.definition, "persona", None)
    if persona and runtime.personas.get(persona) is None:
        hint = "The list of personas shows those that there are; a disabled one does not count."
        found.append(Problem("definition.persona", f"There is no persona “{persona}”.", hint))
    if runtime.personas.get(form.id) is not None:
        hint = "Choose another id: the agent cannot be enabled beside it."
        found.append(Problem("id", f"A persona is called “{form.id}” too.", hint))
    found += _unknown_agents(runtime, form, parts)
    found += odd_patterns(parts, tools)
    if form.agent_type == "llamaindex_workflow" and find_spec("llama_index") is None:
        hint = "Install llama-index-core and llama-index-llms-openai."
        found.append(Problem("agent_type", "LlamaIndex is not installed on this server.", hint))
    return found + (await _unknown_models(runtime, parts) if ask_provider else [])


async def oddities_of(backend: Backend, record: Agent) -> list[Problem]:
    """As `oddities` of an agent that is stored, without asking anybody else."""
    values = content(record)
    code = backend.runtime.settings.allow_custom_python
    parts, _ = await asyncio.to_thread(stored.read, values, allow_code=code, strict=False)
    if parts is None:
        return []  # what is wrong with it is told elsewhere
    form = AgentForm.model_construct(id=record.id, **values)
    return await oddities(backend, form, parts, ask_provider=False)


def odd_patterns(parts: Parts, tools: Sequence[ToolSpec] | None) -> list[Problem]:
    """Names and patterns of tools that fit nothing. Pure."""
    definition = parts.definition
    named: dict[str, Sequence[str]] = {
        "definition.tools": getattr(definition, "tools", None) or (),
        "valves.allowed_tools": (parts.valves.allowed_tools or "").split(","),
    }
    for number, agent in enumerate(getattr(definition, "agents", None) or ()):
        named[f"definition.agents.{number}.tools"] = getattr(agent, "tools", None) or ()
    found: list[Problem] = []
    for path, patterns in named.items():
        for pattern in (pattern.strip() for pattern in patterns if isinstance(pattern, str)):
            wanted = pattern.lstrip("-!").strip()
            if _is_open(wanted):
                hint = "Close it, as in [ab]*, or write [[] for the sign itself."
                found.append(Problem(path, f"“{pattern}” has a [ without a ], and fits no tool.", hint))
            elif wanted and tools and not allowed(tools, wanted):
                hint = "It may be somebody else's; the admin's key of this server lists none that fits."
                found.append(Problem(path, f"No tool of Open WebUI fits “{pattern}”.", hint))
    return found


def _unknown_agents(runtime: Runtime, form: AgentForm, parts: Parts) -> list[Problem]:
    words = [word.strip().lower() for word in (parts.valves.allowed_agents or "").split(",") if word.strip()]
    if not words:
        return []
    known = runtime.directory.ids - {form.id}
    return [
        Problem(
            "valves.allowed_agents",
            f"No other agent fits “{word}”.",
            "The list of agents shows those that there are; a disabled one does not count.",
        )
        for word in words
        if not any(fnmatchcase(agent_id, word) for agent_id in known)
    ]


async def _unknown_models(runtime: Runtime, parts: Parts) -> list[Problem]:
    named = {
        "definition.model": getattr(parts.definition, "model", None),
        "valves.llm_model": parts.valves.llm_model,
    }
    if not any(named.values()):
        return []
    valves = parts.valves
    try:
        connection = connections.resolve(
            runtime.settings, base_url=valves.llm_base_url, api_key=valves.llm_api_key
        )
        async with asyncio.timeout(_PROVIDER_SECONDS):
            offered = {entry["id"] for entry in await runtime.llm.models(connection)}
    except ConfigurationError as error:
        return [Problem("valves.llm_base_url", error.message, error.hint)]
    except (AgentModeError, TimeoutError):
        return []  # nobody to ask; the first run says what is wrong
    return [
        Problem(path, f"The model provider does not list “{name}”.", "Its list names what it offers.")
        for path, name in named.items()
        if name and name not in offered
    ]


def _is_open(pattern: str) -> bool:
    """Whether a [ of a pattern opens no set, since no ] ends it."""
    start = pattern.find("[")
    while start >= 0:
        first = start + 1 + pattern.startswith("!", start + 1)
        end = pattern.find("]", first + pattern.startswith("]", first))
        if end < 0:
            return True
        start = pattern.find("[", end)
    return False
