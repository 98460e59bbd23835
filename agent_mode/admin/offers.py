"""What there is to pick from while an agent is written: models, tools, personas, other agents."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from agent_mode.chat.runtime import Runtime
from agent_mode.errors import AgentModeError, ConfigurationError
from agent_mode.llm import connection as connections
from agent_mode.tools.specs import ToolSpec
from agent_mode.valves import AgentValves

_SECONDS = 5.0
"""How long the provider may take to list its models."""
_TOOL_SECONDS = 25.0


@dataclass(frozen=True, slots=True)
class Offer:
    """What somebody offers.

    Attributes:
        names: what can be picked.
        problem: why there is nothing, with the cure; empty: all went well.
    """

    names: list[str] = field(default_factory=list)
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ToolOffer:
    """The tools that Open WebUI offers the admin whose key the server has."""

    tools: list[ToolSpec] = field(default_factory=list)
    problem: str = ""

    @property
    def names(self) -> list[str]:
        return sorted({tool.original for tool in self.tools})


async def models(runtime: Runtime, valves: AgentValves) -> Offer:
    """The models of the connection that these valves choose."""
    try:
        connection = connections.resolve(
            runtime.settings, base_url=valves.llm_base_url, api_key=valves.llm_api_key
        )
        async with asyncio.timeout(_SECONDS):
            found = await runtime.llm.models(connection)
    except TimeoutError:
        return Offer(problem="The model provider does not answer. Type the model's name.")
    except ConfigurationError as error:
        return Offer(problem=f"{error.message} {error.hint}")
    except AgentModeError as error:
        return Offer(problem=f"The models cannot be listed: {error.message} {error.hint}")
    return Offer(sorted(entry["id"] for entry in found))


async def tools(runtime: Runtime) -> ToolOffer:
    """The tools of Open WebUI, as the admin sees them whose key is OPENWEBUI_API_KEY."""
    key = runtime.settings.openwebui_api_key
    if not runtime.openwebui.known or not key:
        return ToolOffer(
            problem="Tools are listed once OPENWEBUI_URL and OPENWEBUI_API_KEY are set. Type their names."
        )
    try:
        async with asyncio.timeout(_TOOL_SECONDS):
            return ToolOffer(await runtime.openwebui.tools_of(key))
    except TimeoutError:
        return ToolOffer(problem="Open WebUI does not answer. Type the tools' names.")
    except AgentModeError as error:
        return ToolOffer(problem=f"The tools cannot be listed: {error.message} {error.hint}")


def personas(runtime: Runtime) -> dict[str, str]:
    """The personas by key: how they are shown in a list."""
    return {p.key: f"{p.display_name} ({p.key})" for p in runtime.personas.all() if p.enabled}
